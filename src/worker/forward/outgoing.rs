//! What goes to a server: the head in its words, and as much of the body as is kept for a second try.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;

use super::{Forward, NoResponse};
use crate::http::fields::FieldsMut;
use crate::http::h1::{BodyKind, CHUNK_END, LAST_CHUNK, write_chunk_head};
use crate::http::trailers;
use crate::proxy::head::{IpText, RequestContext, Scheme, write_request_head};
use crate::worker::body::BodyFailure;
use crate::worker::cx::Cx;
use crate::worker::exchange::{Client, Request};
use crate::worker::upload::Left;

/// Room for a body of known length that is made beside the head.
const KEPT_ROOM_MAX: u64 = 64 << 10;

/// Bytes of bodies that a data worker keeps for programs at the same time, beside those that are kept for a second try.
const FOR_PROGRAMS_BYTES_MAX: u64 = 64 << 20;

/// What a data worker keeps for programs now, bytes.
#[derive(Default)]
pub(in crate::worker) struct ForPrograms(Cell<u64>);

impl ForPrograms {
    /// Room for a body of which nothing has come yet.
    pub(super) fn room(self: &Rc<Self>) -> Room {
        Room { all: self.clone(), bytes: 0 }
    }
}

/// A part of [`ForPrograms`], until it is dropped.
pub(super) struct Room {
    all: Rc<ForPrograms>,
    bytes: u64,
}

impl Room {
    /// So many bytes more have come; `false`: that is as much as there may be, or a little more.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let all = self.all.0.get() + bytes as u64;
        self.all.0.set(all);
        all < FOR_PROGRAMS_BYTES_MAX
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.bytes);
    }
}

/// The part of the request that goes to the server. It grows while a body is streamed that stays small.
pub(super) struct Outgoing {
    /// Whole body, if it is small enough.
    pub(super) kept: RefCell<Vec<u8>>,
    /// The body is `kept`; else `kept` is its beginning and the rest is streamed.
    pub(super) is_whole: Cell<bool>,
    /// All that was read of the body is in `kept`: it can be sent again from its first byte.
    pub(super) is_kept: Cell<bool>,
    pub(super) kind: Cell<BodyKind>,
    /// What came behind a whole body.
    pub(super) trailers: RefCell<Option<HeaderMap>>,
    /// For what is kept beyond the needs of a second try.
    _room: Option<Room>,
}

impl Outgoing {
    /// There is no body, nor will there be.
    pub(super) fn has_nothing(&self) -> bool {
        self.is_whole.get() && self.kept.borrow().is_empty() && self.trailers.borrow().is_none()
    }

    /// What is kept, as it is now.
    pub(super) fn kept_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.kept.borrow())
    }

    /// Adds what was read of the body, unless it would be more than `bytes_max`: then it is not kept any more.
    pub(super) fn keep(&self, data: &[u8], bytes_max: usize) {
        let mut kept = self.kept.borrow_mut();
        self.is_kept.set(self.is_kept.get() && kept.len() + data.len() <= bytes_max);
        if self.is_kept.get() {
            kept.extend_from_slice(data);
        }
    }

    /// The body has been read to its end.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        self.trailers.replace(trailers);
        if self.is_kept.get() {
            self.is_whole.set(true);
            self.frame_as_whole();
        }
    }

    /// A chunked body that turned out to be short gets a length: simpler for a server of HTTP/1. Not in front of trailers, for
    /// which only chunks have a place.
    fn frame_as_whole(&self) {
        if self.kind.get() == BodyKind::Chunked && self.trailers.borrow().is_none() {
            self.kind.set(BodyKind::Length(self.kept.borrow().len() as u64));
        }
    }
}

impl Forward<'_> {
    /// Reads the body's beginning: all of it when it is small. A program begins with what there is and cannot tell a client that has
    /// left from the end, so it gets all of a body if that is not too long, and unless so much is kept already that more would be too
    /// much: then the rest is streamed.
    pub(super) async fn outgoing(&self, client: &mut Client<'_>) -> Result<Outgoing, BodyFailure> {
        let kind = self.request.head.body;
        let for_second_try = self.config.retry.body_bytes_max;
        let (mut kept, mut room) = (Vec::new(), None);
        let is_whole = match kind {
            BodyKind::None => true,
            BodyKind::Chunked if self.gateway.is_some() => {
                room = self.keep_unsized(client, &mut kept).await?;
                true
            }
            // Another action has read it already.
            BodyKind::Length(_) if matches!(client.left, Left::Kept(_)) => {
                client.keep(self.worker, self.connection, &mut kept, for_second_try).await?
            }
            BodyKind::Length(body_bytes) if body_bytes > for_second_try as u64 => {
                let bytes_max = self.gateway.as_ref().map_or(0, |gateway| gateway.cgi.kept_body_bytes_max);
                let room = room.insert(self.worker.for_programs.room());
                if body_bytes <= bytes_max as u64 && room.grow(0) {
                    let has_room = |bytes| room.grow(bytes);
                    client.keep_while(self.worker, self.connection, &mut kept, bytes_max, has_room).await?
                } else {
                    client.left = Left::Spent;
                    false
                }
            }
            // Whoever streams to a server of HTTP/2 may wait for its answer before there is more.
            BodyKind::Chunked if self.config.protocol.is_multiplexed() => {
                let kept = client.keep_ready(self.worker, &mut kept, for_second_try).await?;
                self.presence.watched().clear();
                kept
            }
            _ => client.keep(self.worker, self.connection, &mut kept, for_second_try).await?,
        };
        // No variable of a gateway's has a place for them, and a request that goes on without content has nothing behind it either.
        let has_place = kind != BodyKind::None && self.gateway.is_none();
        let trailers = if is_whole && has_place { client.take_trailers() } else { None };
        let outgoing = Outgoing {
            kept: RefCell::new(kept),
            is_whole: Cell::new(is_whole),
            is_kept: Cell::new(true),
            kind: Cell::new(kind),
            trailers: RefCell::new(trailers),
            _room: room,
        };
        if is_whole {
            outgoing.frame_as_whole();
        }
        Ok(outgoing)
    }

    /// What the server gets first, with the kept body, in one buffer. `is_reused`: it has had a request on this connection.
    pub(super) fn request_bytes(
        &self,
        outgoing: &Outgoing,
        server: usize,
        is_reused: bool,
    ) -> Result<Vec<u8>, NoResponse> {
        if let Some(gateway) = &self.gateway {
            return self.gateway_bytes(gateway, outgoing, server, is_reused);
        }
        self.http_bytes(outgoing, server)
    }

    /// Head and kept body for a server of HTTP/1.
    pub(super) fn http_bytes(&self, outgoing: &Outgoing, server: usize) -> Result<Vec<u8>, NoResponse> {
        let mut bytes = self.head_bytes(outgoing.kind.get(), server)?;
        append_piece(&mut bytes, outgoing.kind.get(), &outgoing.kept.borrow());
        if outgoing.is_whole.get() {
            append_end(&mut bytes, outgoing.kind.get(), outgoing.trailers.borrow().as_ref());
        }
        Ok(bytes)
    }

    /// The same for a copy of a request that is kept as a whole, without what stands behind its content.
    pub(super) fn copy_bytes(&self, outgoing: &Outgoing) -> Result<Vec<u8>, NoResponse> {
        let kept = outgoing.kept.borrow();
        let kind = match outgoing.kind.get() {
            BodyKind::Chunked => BodyKind::Length(kept.len() as u64),
            kind => kind,
        };
        let mut bytes = self.head_bytes(kind, 0)?;
        bytes.extend_from_slice(&kept);
        Ok(bytes)
    }

    /// The head for a server of HTTP/1, with a body of this `kind`.
    pub(super) fn head_bytes(&self, kind: BodyKind, server: usize) -> Result<Vec<u8>, NoResponse> {
        let head = self.request.head;
        let kept_bytes = if let BodyKind::Length(bytes) = kind { bytes.min(KEPT_ROOM_MAX) as usize } else { 0 };
        let mut bytes = self.worker.hot.take_buffer(head.head_bytes + 512 + kept_bytes);
        let ip = self.connection.peer().map(|peer| IpText::new(peer.ip()));
        let state = self.worker.upstreams[self.upstream].borrow();
        let context = RequestContext {
            client_ip: ip.as_ref().map_or(b"unknown", |ip| ip.as_bytes()),
            scheme: if self.request.is_https { Scheme::Https } else { Scheme::Http },
            listener_port: self.worker.ports[self.connection.listener(self.worker)],
            server_host: state.host(server),
            request_id: &Request::id_text(self.request.id),
            body: kind,
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

/// Appends content in the framing of `kind`.
pub(super) fn append_piece(out: &mut Vec<u8>, kind: BodyKind, data: &[u8]) {
    if kind != BodyKind::Chunked {
        return out.extend_from_slice(data);
    }
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

/// Appends what ends content in the framing of `kind`, with trailers where that has a place for them.
pub(super) fn append_end(out: &mut Vec<u8>, kind: BodyKind, trailers: Option<&HeaderMap>) {
    match trailers {
        _ if kind != BodyKind::Chunked => {}
        None => out.extend_from_slice(LAST_CHUNK),
        Some(trailers) => trailers::write_last_chunk(out, trailers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_programs_has_an_end() {
        let all = Rc::new(ForPrograms::default());
        let (mut first, mut second) = (all.room(), all.room());
        assert!(first.grow(FOR_PROGRAMS_BYTES_MAX as usize - 2) && second.grow(1), "there is room");
        assert!(!second.grow(3) && !first.grow(0), "what has come is there, but no more is read");
        assert_eq!(all.0.get(), FOR_PROGRAMS_BYTES_MAX + 2);
        drop(first);
        assert!(second.grow(0), "one has gone");
        drop(second);
        assert_eq!(all.0.get(), 0);
    }
}
