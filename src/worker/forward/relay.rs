//! A response on its way to the client.

use std::pin::pin;
use std::time::Duration;

use http::HeaderMap;

use super::attempt::{At, Relayed, Response};
use super::{Forward, NoResponse};
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::{BodyDecoder, BodyKind, FieldName, Method, ResponseHead, Version, write_field};
use crate::http::trailers;
use crate::proxy::head::{put_via, response_content, write_response_fields};
use crate::runtime::time::timeout;
use crate::worker::answer::{Answer, OwnFields};
use crate::worker::exchange::{After, Instead, Outcome, Unanswered};
use crate::worker::replaced::replaced;
use crate::worker::watch::OnExpiry;

/// Content up to this length that comes behind its head, as of servers that send the two one after the other, leaves together with
/// it …
const SHORT_BYTES_MAX: u64 = 16 << 10;
/// … if the rest of it comes within this time.
const SHORT_REST_PATIENCE: Duration = Duration::from_millis(5);

/// On whose side a response broke off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokeOff {
    Client,
    Server,
}

/// What is left behind a response on the server's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// Nothing: the connection can be used again.
    Exact,
    /// Stray bytes, or its close: it cannot.
    Dirty,
}

impl Forward<'_> {
    /// Sends the response on to the client. `Err`: nothing of it was sent, because something else is.
    pub(super) async fn relay(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        response: Response,
        at: At<'_>,
    ) -> Result<Relayed, NoResponse> {
        let Response { head, input } = response;
        let relayed = self.relay_with(answer, fields, &head, input, at).await;
        self.worker.hot.give_response_head_back(head);
        relayed
    }

    async fn relay_with(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        head: &ResponseHead,
        input: Vec<u8>,
        at: At<'_>,
    ) -> Result<Relayed, NoResponse> {
        if let Some(instead) = at.reply.and_then(|reply| self.redirected(reply)) {
            return Err(NoResponse::Instead(instead));
        }
        let content = response_content(head, &input, self.method());
        self.begin_relay(answer, fields, (head, &input), content, at.server)?;
        let relayed = match at.reply {
            None => self.relay_body(answer, head, input, at).await,
            // Boxed: every request would carry its size.
            Some(reply) => Box::pin(self.relay_reply(answer, (head, input), at, reply))
                .await
                .map(|is_clean| if is_clean { BodyEnd::Exact } else { BodyEnd::Dirty }),
        };
        let end = match relayed {
            Ok(end) => end,
            Err(who) => return Ok(self.broken(at.server, who)),
        };
        let after = if answer.keeps_connection() { After::Keep } else { After::Close };
        let outcome = Outcome { after, served_by: self.served_by(at.server) };
        Ok(Relayed { outcome, is_reusable: head.keep_alive && end == BodyEnd::Exact })
    }

    /// Sends the head on, with what the route does to it. `Err`: something else is sent.
    pub(super) fn begin_relay(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        (head, input): (&ResponseHead, &[u8]),
        content: Content,
        server: usize,
    ) -> Result<(), NoResponse> {
        let served_by = self.served_by(server);
        fields.clear();
        if answer.is_to_connect() && matches!(head.status, 200..=299) {
            // It has answered another question. To the client that status would say that the tunnel is open.
            tracing::warn!(upstream = %self.config.name, status = head.status, "server does not switch to WebSocket");
            return Err(NoResponse::Instead(Instead::Error(Unanswered { status: 502, closes: false, served_by })));
        }
        if write_response_fields(fields, head, input).is_err() {
            return Err(NoResponse::Instead(Instead::Error(Unanswered { status: 502, closes: true, served_by })));
        }
        if let Some(name) = &self.cx.options.via {
            put_via(fields, head.version, name);
        }
        if self.passes_trailers(answer, content) {
            let announced = head.fields.iter().filter(|field| field.known == FieldName::Trailer);
            announced.for_each(|field| write_field(fields, "Trailer", field.value.of(input)));
        }
        self.rewrite_location(fields);
        if let Some(rules) = &self.cx.options.cookie_rewrite {
            rules.apply(fields, self.cx);
        }
        if let Some(instead) = replaced(self.cx, answer, fields, head.status, served_by) {
            return Err(NoResponse::Instead(instead));
        }
        self.put_sticky_cookie(fields, server);
        let reason = Some(head.reason.of(input)).filter(|reason| !reason.is_empty() || head.version != Version::Http2);
        let own = OwnFields { server: false, date: head.field(input, FieldName::Date).is_none(), are_alone: false };
        answer.start(Some(self.cx), &AnswerHead { status: head.status, reason, fields, content }, own);
        self.is_relaying.set(true);
        Ok(())
    }

    /// Tells a client that is new at `server` how to come back there.
    pub(super) fn put_sticky_cookie(&self, fields: &mut Vec<u8>, server: usize) {
        let Some(sticky) = self.config.sticky.as_ref().filter(|_| self.belongs_to.get() != Some(server)) else {
            return;
        };
        self.worker.stats.upstreams[self.upstream].sticky_set.inc();
        fields.extend_from_slice(b"Set-Cookie: ");
        sticky.put(server, self.request.is_https, fields);
        fields.extend_from_slice(b"\r\n");
    }

    /// Puts URLs in which the servers name themselves into the words of the client.
    pub(super) fn rewrite_location(&self, fields: &mut Vec<u8>) {
        let Some(rules) = &self.cx.options.location_rewrite else { return };
        let state = self.worker.upstreams[self.upstream].borrow();
        let host = |server| {
            let host = state.host(server);
            host.strip_suffix(b":80").unwrap_or(host)
        };
        let servers = (0..self.config.servers.len()).map(host);
        let own: Vec<&[u8]> = servers.chain([self.config.name.as_bytes()]).collect();
        rules.apply(fields, &own, self.cx);
    }

    /// What comes behind the content goes on to this client.
    fn passes_trailers(&self, answer: &Answer<'_>, content: Content) -> bool {
        match answer.version() {
            // Their frames have a place for them behind any content, and they have always been sent there.
            Version::Http2 | Version::Http3 => true,
            // RFC 9110 section 6.5.1: only to clients that say that they read them, and only chunks have a place for them.
            Version::Http11 => {
                content == Content::Stream && trailers::are_wanted(self.request.head, self.request.bytes)
            }
            Version::Http10 => false,
        }
    }

    /// Ends the answer, with trailers where the client gets them.
    pub(super) async fn finish_with(
        &self,
        answer: &mut Answer<'_>,
        trailers: Option<HeaderMap>,
    ) -> Result<(), BrokeOff> {
        let trailers = trailers.filter(|_| self.passes_trailers(answer, Content::Stream));
        answer.finish_with(trailers).await.map_err(|_| BrokeOff::Client)
    }

    pub(super) fn method(&self) -> Method {
        self.request.head.method
    }

    /// Relays the body; `Err` when it broke off.
    async fn relay_body(
        &self,
        answer: &mut Answer<'_>,
        head: &ResponseHead,
        mut input: Vec<u8>,
        under_way: At<'_>,
    ) -> Result<BodyEnd, BrokeOff> {
        let server = under_way.connection;
        let mut decoder = BodyDecoder::new(head.body).keep_trailers(&self.worker.limits);
        let mut at = head.head_bytes;
        let mut holds = decoder.remaining().is_some_and(|left| left <= SHORT_BYTES_MAX);
        loop {
            while at < input.len() && !decoder.is_done() {
                let decoded = decoder.decode(&input[at..]).map_err(|_| BrokeOff::Server)?;
                let data = &input[at + decoded.data.start..at + decoded.data.end];
                at += decoded.consumed;
                answer.write(data).await.map_err(|_| BrokeOff::Client)?;
            }
            let has_filled = input.len() == input.capacity();
            self.move_content(answer, &mut decoder, under_way, has_filled).await?;
            if decoder.is_done() {
                break;
            }
            // Nothing more is here: what is ready leaves now, unless the rest is on its way.
            let is_held = std::mem::take(&mut holds);
            if !is_held {
                answer.flush().await.map_err(|_| BrokeOff::Client)?;
            }
            input.clear();
            at = 0;
            let room = self.room_for(&decoder);
            if input.capacity() < room {
                input.reserve(room);
            }
            server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
            // A client that has left wants no more of it, and the server should not have to find out by itself.
            let read = pin!(server.read(self.worker, input));
            let mut read = pin!(self.presence.while_client_stays(read));
            let came = match is_held {
                true => timeout(SHORT_REST_PATIENCE, read.as_mut()).await.ok(),
                false => None,
            };
            let read = match came {
                Some(read) => read,
                None => {
                    if is_held {
                        // What the client takes its time for is not the server's.
                        server.watched.clear();
                        answer.flush().await.map_err(|_| BrokeOff::Client)?;
                        server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
                    }
                    read.await
                }
            };
            let (result, returned) = read.map_err(|_| BrokeOff::Client)?;
            input = returned;
            server.watched.clear();
            if is_held && !matches!(result, Ok(1..)) {
                // What there is goes on all the same: the client sees that it is a part.
                answer.flush().await.map_err(|_| BrokeOff::Client)?;
            }
            match result {
                Ok(n) if n > 0 => {}
                // An end that we brought about is none.
                Ok(_) if !server.watched.is_broken() => {
                    decoder.on_eof().map_err(|_| BrokeOff::Server)?;
                    break;
                }
                _ => return Err(BrokeOff::Server),
            }
        }
        self.finish_with(answer, trailers::read(decoder.trailers())).await?;
        let end = if at == input.len() && head.body != BodyKind::UntilClose { BodyEnd::Exact } else { BodyEnd::Dirty };
        self.worker.hot.give_buffer_back(input);
        Ok(end)
    }

    /// Bytes worth reading at once: what is left of the body, within the stream buffer.
    fn room_for(&self, decoder: &BodyDecoder) -> usize {
        let most = self.worker.config.process.stream_buffer_bytes;
        let left = decoder.remaining().and_then(|left| usize::try_from(left).ok()).unwrap_or(most);
        left.clamp(1024, most)
    }
}
