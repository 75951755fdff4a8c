//! What goes to a server: the head in its words, and as much of the body as is kept for a second try.

use super::{Forward, NoResponse};
use crate::http::fields::FieldsMut;
use crate::http::h1::{BodyKind, CHUNK_END, LAST_CHUNK, write_chunk_head};
use crate::proxy::head::{IpText, RequestContext, Scheme, write_request_head};
use crate::worker::body::BodyFailure;
use crate::worker::cx::Cx;
use crate::worker::exchange::{Client, Request};
use crate::worker::upload::Left;

/// The part of the request that goes to the server.
pub(super) struct Outgoing {
    /// Whole body, if it is small enough.
    pub(super) kept: Vec<u8>,
    /// The body is `kept`; else `kept` is its beginning and the rest is streamed.
    pub(super) is_whole: bool,
    pub(super) kind: BodyKind,
}

impl Forward<'_> {
    /// Reads the body's beginning: all of it when it is small.
    pub(super) async fn outgoing(&self, client: &mut Client<'_>) -> Result<Outgoing, BodyFailure> {
        let kind = self.request.head.body;
        let mut kept = Vec::new();
        let is_whole = match kind {
            BodyKind::None => true,
            BodyKind::Length(body_bytes) if body_bytes > self.config.retry.body_bytes_max as u64 => {
                client.left = Left::Spent;
                false
            }
            _ => client.keep(self.worker, self.connection, &mut kept, self.config.retry.body_bytes_max).await?,
        };
        // A chunked body that turned out to be short gets a length: simpler for the server.
        let kind = match (kind, is_whole) {
            (BodyKind::Chunked, true) => BodyKind::Length(kept.len() as u64),
            (kind, _) => kind,
        };
        Ok(Outgoing { kept, is_whole, kind })
    }

    /// Head and kept body in one buffer.
    pub(super) fn request_bytes(&self, outgoing: &Outgoing, server: usize) -> Result<Vec<u8>, NoResponse> {
        let head = self.request.head;
        let mut bytes = self.worker.hot.take_buffer(head.head_bytes + 512 + outgoing.kept.len());
        let ip = self.connection.peer().map(|peer| IpText::new(peer.ip()));
        let state = self.worker.upstreams[self.upstream].borrow();
        let context = RequestContext {
            client_ip: ip.as_ref().map_or(b"unknown", |ip| ip.as_bytes()),
            scheme: if self.request.is_https { Scheme::Https } else { Scheme::Http },
            listener_port: self.worker.ports[self.connection.listener(self.worker)],
            server_host: state.host(server),
            request_id: &Request::id_text(self.request.id),
            body: outgoing.kind,
            keep_alive: true,
            upgrade: self.upgrade,
            forwarded: self.cx.options.forwarded,
            via: self.cx.options.via.as_deref(),
        };
        let written = write_request_head(&mut bytes, head, self.request.bytes, &context);
        if written.is_err() {
            return Err(NoResponse::Body(BodyFailure::Malformed(400)));
        }
        self.change_request_fields(&mut bytes);
        if let Some(key) = &self.websocket_key {
            bytes.truncate(bytes.len() - 2);
            let start = memchr::memmem::find(&bytes, b"\r\n").map_or(bytes.len(), |end| end + 2);
            FieldsMut::new(&mut bytes, start).set("Sec-WebSocket-Key", key.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        append_body(&mut bytes, outgoing.kind, &outgoing.kept, outgoing.is_whole);
        Ok(bytes)
    }

    /// Does to the head in `bytes` what the route says.
    fn change_request_fields(&self, bytes: &mut Vec<u8>) {
        let rules = &self.cx.options.request_headers;
        let asks = self.connection.asks_for_certificates(self.worker);
        if rules.is_empty() && !asks && self.cx.options.substitute.is_none() {
            return;
        }
        bytes.truncate(bytes.len() - 2);
        let start = memchr::memmem::find(bytes, b"\r\n").map_or(bytes.len(), |end| end + 2);
        let mut fields = FieldsMut::new(bytes, start);
        put_client_certificate(self.cx, &mut fields);
        ask_for_plain(self.cx, &mut fields);
        fields.apply(rules, None, self.cx);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Does not tell a server or an application which codings the client takes, where texts are to be replaced in its answer:
/// what is coded cannot be looked into.
pub(in crate::worker) fn ask_for_plain(cx: &Cx<'_>, fields: &mut FieldsMut<'_>) {
    if cx.options.substitute.is_some() {
        fields.remove("accept-encoding");
    }
}

/// Tells a server or an application about the certificate that the client showed, where clients are asked for one. What
/// the client wrote in such fields itself has been left out.
pub(in crate::worker) fn put_client_certificate(cx: &Cx<'_>, fields: &mut FieldsMut<'_>) {
    if !cx.connection.asks_for_certificates(cx.worker) {
        return;
    }
    const VERIFY: &str = "X-SSL-Client-Verify";
    const SUBJECT: &str = "X-SSL-Client-S-DN";
    cx.connection.with_tls_facts(|facts| match facts {
        Some(facts) => {
            fields.set(VERIFY, facts.verify.to_string().as_bytes());
            match &facts.client {
                Some(client) => fields.set(SUBJECT, client.subject.as_bytes()),
                None => drop(fields.remove(SUBJECT)),
            }
        }
        None => {
            fields.remove(VERIFY);
            fields.remove(SUBJECT);
        }
    });
}

/// Appends content in the framing of `kind`; with `last` also the end of a chunked body.
pub(super) fn append_body(out: &mut Vec<u8>, kind: BodyKind, data: &[u8], last: bool) {
    if kind != BodyKind::Chunked {
        return out.extend_from_slice(data);
    }
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
    if last {
        out.extend_from_slice(LAST_CHUNK);
    }
}
