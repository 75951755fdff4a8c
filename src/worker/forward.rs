//! Forwards a request to a server of an upstream and its answer back.
//!
//! A try picks a server, takes an idle connection or makes one, sends the head (and the body, if that is small) in
//! one piece, and waits for the response head. What may be tried again, and where, is decided by
//! [`crate::proxy::retry`]. Once a byte of the response has gone downstream there is no second try: a response that
//! breaks off breaks the client's connection too, so that nobody takes it for complete.

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use super::Worker;
use super::answer::{Answer, OwnFields, Presence};
use super::body::BodyFailure;
use super::connection::Connection;
use super::cx::Cx;
use super::exchange::{Acted, After, Client, Instead, Outcome, Request, Unanswered, abandoned, refuse};
use super::redirected::Sent;
use super::trail::Trail;
use super::upload::{Beside, Left, Upload};
use super::watch::{OnExpiry, Watched};
use crate::config::model::Upstream;
use crate::http::answer::AnswerHead;
use crate::http::fields::{Fields, FieldsMut};
use crate::http::h1::{
    BodyDecoder, BodyKind, CHUNK_END, FieldName, LAST_CHUNK, Method, ResponseHead, parse_response, write_chunk_head,
};
use crate::metrics::{ServedBy, ServerStats};
use crate::proxy::Tried;
use crate::proxy::head::{
    IpText, RequestContext, Scheme, is_forwarded_interim, response_content, write_request_head, write_response_fields,
};
use crate::proxy::retry::{Failure, RetryPolicy, Situation, Verdict, delay_before_retry, may_retry};
use crate::runtime::net::{Peek, Stream};
use crate::runtime::time::{sleep, timeout};
use crate::util::path::{encode, encode_query, normalize};

/// A request body up to this size is read before a server is chosen, so that the request can be tried again.
const KEPT_BODY_BYTES_MAX: usize = 16 * 1024;

/// A connection to a server. `watched` is dropped before `stream`, as it must be.
pub(crate) struct ServerConnection {
    watched: Watched,
    stream: Stream,
}

/// A request being forwarded.
struct Forward<'a> {
    cx: &'a Cx<'a>,
    worker: &'a Worker,
    connection: &'a Connection,
    upstream: usize,
    config: &'a Upstream,
    request: Request<'a>,
    presence: Presence<'a>,
    /// The final response is on its way to the client.
    is_relaying: Cell<bool>,
}

/// How a try failed.
struct TryFailed {
    situation: Situation,
    sent: bool,
}

/// Why no response came of a try.
enum NoResponse {
    Failed(TryFailed),
    /// The client's body failed: its fault, not the server's.
    Body(BodyFailure),
    /// The client left.
    ClientGone,
    /// The client's connection broke while we relayed.
    Broken,
    /// It came, and something else is sent.
    Instead(Instead),
}

/// The part of the request that goes to the server.
struct Outgoing {
    /// Whole body, if it is small enough.
    kept: Vec<u8>,
    /// The body is `kept`; else `kept` is its beginning and the rest is streamed.
    is_whole: bool,
    kind: BodyKind,
}

/// A response whose head has arrived.
struct Response {
    head: ResponseHead,
    /// What was read from the server: the head, then the beginning of the body.
    input: Vec<u8>,
}

/// A try under way: on which server, on which connection, since when.
#[derive(Clone, Copy)]
struct At<'a> {
    server: usize,
    connection: &'a ServerConnection,
    begun: Instant,
}

/// A response that has been relayed, or broke off.
struct Relayed {
    outcome: Outcome,
    /// The server's connection can serve another request.
    is_reusable: bool,
}

pub(super) async fn run(cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, upstream: usize) -> Acted {
    let Cx { worker, connection, request, .. } = *cx;
    let config = &worker.config.upstreams[upstream];
    let presence = client.answer.presence();
    client.answer.trail.upstream = Some(upstream as u16);
    let is_relaying = Cell::new(false);
    let forward = Forward { cx, worker, connection, upstream, config, request, presence, is_relaying };
    let outgoing = match forward.outgoing(client).await {
        Ok(outgoing) => outgoing,
        Err(failure) => return body_failed(failure),
    };
    let acted = forward.try_servers(client, fields, &outgoing).await;
    if acted.is_err() && outgoing.is_whole {
        client.left = Left::Kept(outgoing.kept.into());
    }
    acted
}

/// An error page, or a broken connection when part of the response has gone out already.
fn give_up(client: &Client<'_>, served_by: ServedBy, status: u16) -> Acted {
    if client.answer.status() != 0 {
        return Ok(Outcome { after: After::Abort, served_by });
    }
    Err(Instead::Error(Unanswered { status, closes: !client.upload.is_done(), served_by }))
}

/// Answers for a body that could not be read.
pub(super) fn body_failed(failure: BodyFailure) -> Acted {
    match failure.status() {
        Some(status) => refuse(status),
        None => Ok(abandoned(ServedBy::Worker)),
    }
}

/// Counts a request on its server for as long as it lives.
struct Busy<'a> {
    forward: &'a Forward<'a>,
    server: usize,
}

impl<'a> Busy<'a> {
    fn begin(forward: &'a Forward<'a>, server: usize) -> Busy<'a> {
        forward.worker.upstreams[forward.upstream].borrow_mut().on_start(server);
        forward.stats(server).active.inc();
        Busy { forward, server }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.forward.worker.upstreams[self.forward.upstream].borrow_mut().on_end(self.server);
        self.forward.stats(self.server).active.dec();
    }
}

impl Forward<'_> {
    fn stats(&self, server: usize) -> &ServerStats {
        &self.worker.stats.servers[self.upstream][server]
    }

    fn served_by(&self, server: usize) -> ServedBy {
        ServedBy::Server { upstream: self.upstream as u16, server: server as u16 }
    }

    fn pick(&self, tried: &Tried, now: Instant) -> Option<usize> {
        let up = |server| self.worker.shared.is_up(self.upstream, server);
        self.worker.upstreams[self.upstream].borrow_mut().pick(up, tried, now)
    }

    /// Tries one server after the other, as far as that may be done.
    async fn try_servers(&self, client: &mut Client<'_>, fields: &mut Vec<u8>, outgoing: &Outgoing) -> Acted {
        let mut tried = Tried::new();
        let mut tries = 0;
        let mut fresh = None;
        // The clock is not read at every step: without a body the first try begins within a microsecond of the self.request.
        let mut now = if outgoing.kept.is_empty() { self.request.started } else { self.worker.now() };
        loop {
            let Some(server) = fresh.or_else(|| self.pick(&tried, now)) else {
                return give_up(client, ServedBy::Worker, if tries == 0 { 503 } else { 502 });
            };
            if fresh.is_none() && tried.contains(server) {
                // There is no other one: give it a moment to come back.
                let pause = sleep(delay_before_retry(true, self.config.connect_timeout));
                self.presence.watched().clear();
                if self.presence.while_client_stays(pause).await.is_err() {
                    return Ok(abandoned(self.served_by(server)));
                }
                now = self.worker.now();
            }
            tries += u32::from(fresh.is_none());
            client.answer.trail.tries = tries;
            let stats = self.stats(server);
            client.answer.trail.server = Some(self.served_by(server));
            let busy = Busy::begin(self, server);
            let result = self.attempt(client, fields, outgoing, server, fresh.is_some(), now).await;
            drop(busy);
            let failed = match result {
                Ok(outcome) => return Ok(outcome),
                Err(NoResponse::Failed(failed)) => failed,
                Err(NoResponse::Body(failure)) => return body_failed(failure),
                Err(NoResponse::Instead(instead)) => return Err(instead),
                Err(NoResponse::ClientGone | NoResponse::Broken) => return Ok(abandoned(self.served_by(server))),
            };
            self.count_failure(stats, server, &failed);
            let verdict = may_retry(
                &Failure {
                    situation: failed.situation,
                    idempotent: self.request.head.method.is_idempotent(),
                    sent: failed.sent,
                    response_begun: client.answer.has_begun(),
                    // What was not sent has not been read either, beyond what is kept.
                    body_kept: outgoing.is_whole || !failed.sent,
                    fresh_connection_granted: fresh.is_some(),
                    tries,
                    tries_max: self.config.tries_max,
                    elapsed: self.request.started.elapsed(),
                    time_max: self.config.connect_timeout + self.config.response_timeout,
                },
                RetryPolicy::default(),
            );
            fresh = None;
            match verdict {
                Verdict::No => {
                    let status = if failed.situation == Situation::ResponseTimeout { 504 } else { 502 };
                    return give_up(client, self.served_by(server), status);
                }
                Verdict::SameServerFreshConnection => fresh = Some(server),
                Verdict::OtherServer => tried.insert(server),
            }
            stats.retries.inc();
            now = self.worker.now();
        }
    }

    /// Reads the body's beginning: all of it when it is small.
    async fn outgoing(&self, client: &mut Client<'_>) -> Result<Outgoing, BodyFailure> {
        let kind = self.request.head.body;
        let mut kept = Vec::new();
        let is_whole = match kind {
            BodyKind::None => true,
            BodyKind::Length(body_bytes) if body_bytes > KEPT_BODY_BYTES_MAX as u64 => {
                client.left = Left::Spent;
                false
            }
            _ => client.keep(self.worker, self.connection, &mut kept, KEPT_BODY_BYTES_MAX).await?,
        };
        // A chunked body that turned out to be short gets a length: simpler for the server.
        let kind = match (kind, is_whole) {
            (BodyKind::Chunked, true) => BodyKind::Length(kept.len() as u64),
            (kind, _) => kind,
        };
        Ok(Outgoing { kept, is_whole, kind })
    }

    /// One try on one server, to the end of the response.
    async fn attempt(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        outgoing: &Outgoing,
        server: usize,
        must_be_fresh: bool,
        now: Instant,
    ) -> Result<Outcome, NoResponse> {
        let (server_connection, is_reused) = self.connect(server, must_be_fresh, now).await?;
        let connected = if is_reused { Duration::ZERO } else { now.elapsed() };
        client.answer.trail.connect = Some(connected);
        let bytes = self.request_bytes(outgoing, server)?;
        let stats = self.stats(server);
        stats.requests.inc();
        let begun = self.worker.now();
        let closed = if is_reused { Situation::ReusedClosed } else { Situation::FreshClosed };
        self.send_head(&server_connection, bytes, closed).await?;
        let at = At { server, connection: &server_connection, begun };
        let relayed = match outgoing.is_whole {
            true => self.exchange_whole(client, fields, at, closed).await?,
            false => self.exchange_streamed(client, fields, outgoing.kind, at).await?,
        };
        if relayed.is_reusable {
            let mut state = self.worker.upstreams[self.upstream].borrow_mut();
            drop(state.keep(server, server_connection, self.worker.now()));
        }
        Ok(relayed.outcome)
    }

    /// An idle connection that is still good, or a new one. The flag says which.
    async fn connect(
        &self,
        server: usize,
        must_be_fresh: bool,
        now: Instant,
    ) -> Result<(ServerConnection, bool), NoResponse> {
        let stats = self.stats(server);
        // Readable means dead: it was closed, or something nobody asked for came, which must never be taken for the
        // answer to the next request. It also narrows the race with the server's idle time-out to one packet's time.
        let take_idle = || match must_be_fresh {
            true => None,
            false => self.worker.upstreams[self.upstream].borrow_mut().take_idle(server, now),
        };
        while let Some(idle) = take_idle() {
            if idle.stream.peek() == Peek::Quiet {
                stats.reuses.inc();
                return Ok((idle, true));
            }
        }
        let begun = self.worker.now();
        let address = &self.config.servers[server].address;
        // Futures are handed on pinned: passed by value, each layer around them would hold a copy of its own.
        let connecting = pin!(Stream::connect(address));
        let connecting = pin!(timeout(self.config.connect_timeout, connecting));
        self.presence.watched().clear();
        let connected = match self.presence.while_client_stays(connecting).await {
            Ok(connected) => connected,
            Err(_) => return Err(NoResponse::ClientGone),
        };
        let mut state = self.worker.upstreams[self.upstream].borrow_mut();
        match connected {
            Ok(Ok(stream)) => {
                state.on_connected(server);
                stats.connects.inc();
                stats.connect.record(begun.elapsed());
                let watched = self.worker.watches.watch(&stream);
                Ok((ServerConnection { watched, stream }, false))
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "time-out".to_owned(),
                };
                tracing::warn!(upstream = %self.config.name, server = %address, %error, "server connect failed");
                state.on_connect_failed(server, self.worker.now());
                Err(NoResponse::Failed(TryFailed { situation: Situation::ConnectFailed, sent: false }))
            }
        }
    }

    /// Head and kept body in one buffer.
    fn request_bytes(&self, outgoing: &Outgoing, server: usize) -> Result<Vec<u8>, NoResponse> {
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
        };
        let written = write_request_head(&mut bytes, head, self.request.bytes, &context);
        if written.is_err() {
            return Err(NoResponse::Body(BodyFailure::Malformed(400)));
        }
        self.change_request_fields(&mut bytes);
        append_body(&mut bytes, outgoing.kind, &outgoing.kept, outgoing.is_whole);
        Ok(bytes)
    }

    /// Does to the head in `bytes` what the route says.
    fn change_request_fields(&self, bytes: &mut Vec<u8>) {
        let rules = &self.cx.options.request_headers;
        if rules.is_empty() && !self.connection.asks_for_certificates(self.worker) {
            return;
        }
        bytes.truncate(bytes.len() - 2);
        let start = memchr::memmem::find(bytes, b"\r\n").map_or(bytes.len(), |end| end + 2);
        let mut fields = FieldsMut::new(bytes, start);
        put_client_certificate(self.cx, &mut fields);
        fields.apply(rules, None, self.cx);
        bytes.extend_from_slice(b"\r\n");
    }

    /// Sends the head and what is kept of the body.
    async fn send_head(&self, server: &ServerConnection, bytes: Vec<u8>, closed: Situation) -> Result<(), NoResponse> {
        server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
        let (result, bytes) = server.stream.write_all(bytes).await;
        self.worker.hot.give_buffer_back(bytes);
        // It may have answered before it closed (413, 408 …), but then the answer is not to this request.
        result.map_err(|_| NoResponse::Failed(TryFailed { situation: closed, sent: true }))
    }

    /// Waits for the response to a request that has been sent, and relays it.
    async fn exchange_whole(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        at: At<'_>,
        closed: Situation,
    ) -> Result<Relayed, NoResponse> {
        let answer = &mut client.answer;
        self.presence.watched().clear();
        at.connection.watched.set(self.config.response_timeout, OnExpiry::BreakAll);
        let receive = self.receive_head(answer, fields, at.connection, closed);
        let received = self.presence.while_client_stays(pin!(receive)).await;
        let response = received.unwrap_or(Err(NoResponse::ClientGone))?;
        self.count_response(&mut answer.trail, at, &response);
        self.relay(answer, fields, response, at).await
    }

    /// Waits for the response and relays it, while the rest of a large body goes out beside it.
    async fn exchange_streamed(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        kind: BodyKind,
        at: At<'_>,
    ) -> Result<Relayed, NoResponse> {
        let Client { upload, answer, .. } = client;
        // The request to go on, if the client waits for it, before an answer may be under way.
        let asked = upload.ask(self.worker, self.connection).await;
        asked.map_err(NoResponse::Body)?;
        let handle = upload.begin_beside(self.worker, self.connection);
        let may_keep = answer.keeps_connection();
        let send = pin!(self.send_body(upload, kind, at.connection));
        let mut beside = Beside::new(send, handle);
        // A request body that is streamed is never repeated, whatever became of the connection.
        self.presence.watched().clear();
        let receive = self.receive_head(answer, fields, at.connection, Situation::FreshClosed);
        let received = match beside.run(pin!(self.presence.while_client_stays(pin!(receive)))).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => Err(NoResponse::ClientGone),
            Err(failure) => Err(NoResponse::Body(failure)),
        };
        let relayed = match received {
            Err(no_response) => Err(no_response),
            Ok(response) => {
                self.count_response(&mut answer.trail, at, &response);
                // Answered early: whether all of the body will have been read behind the response is not known yet.
                answer.set_keep_alive(may_keep && beside.has_sent_all());
                let relayed = beside.run(pin!(self.relay(answer, fields, response, at))).await;
                // A body that fails below a response under way breaks that response off.
                relayed.unwrap_or_else(|_| Ok(self.broken(at.server, BrokeOff::Client)))
            }
        };
        let sent_all = beside.has_sent_all();
        beside.stop(self.connection).await;
        let mut relayed = relayed?;
        relayed.is_reusable &= sent_all;
        if !sent_all && relayed.outcome.after != After::Abort {
            relayed.outcome.after = After::Linger;
        }
        Ok(relayed)
    }

    fn count_response(&self, trail: &mut Trail, at: At<'_>, response: &Response) {
        let stats = self.stats(at.server);
        let waited = at.begun.elapsed();
        stats.first_byte.record(waited);
        (trail.response, trail.upstream_status) = (Some(waited), Some(response.head.status));
        stats.responses[usize::from(response.head.status / 100).min(5)].inc();
    }

    fn broken(&self, server: usize, who: BrokeOff) -> Relayed {
        if who == BrokeOff::Server {
            self.stats(server).response_errors.inc();
        }
        let outcome = Outcome { after: After::Abort, served_by: self.served_by(server) };
        Relayed { outcome, is_reusable: false }
    }

    /// Streams the rest of the request body to the server. `Ok` when all of it was sent, or when the server stopped
    /// taking it (it may have answered early).
    async fn send_body(
        &self,
        upload: &mut Upload<'_>,
        kind: BodyKind,
        server: &ServerConnection,
    ) -> Result<bool, BodyFailure> {
        let mut buffer = self.worker.hot.take_buffer(self.worker.config.process.stream_buffer_bytes);
        let sent_all = loop {
            // Until the client has sent more, nobody can blame the server for its silence. Once the server answers, its
            // deadlines belong to the relay of the answer.
            if !self.is_relaying.get() {
                server.watched.clear();
            }
            let next = upload.next(self.worker, self.connection).await?;
            if !self.is_relaying.get() {
                server.watched.set(self.config.response_timeout, OnExpiry::BreakAll);
            }
            match next {
                None => {
                    if kind == BodyKind::Chunked {
                        buffer.extend_from_slice(LAST_CHUNK);
                    }
                    let (result, returned) = server.stream.write_all(buffer).await;
                    buffer = returned;
                    break result.is_ok();
                }
                Some(piece) => {
                    append_body(&mut buffer, kind, piece.as_slice(), false);
                    // A silent server must not hold the client for ever; every piece starts the time anew.
                    let (result, returned) = server.stream.write_all(buffer).await;
                    buffer = returned;
                    buffer.clear();
                    if result.is_err() {
                        break false;
                    }
                }
            }
        };
        self.worker.hot.give_buffer_back(buffer);
        Ok(sent_all)
    }

    /// Waits for the final response head; interim ones go on to the client.
    async fn receive_head(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        server: &ServerConnection,
        closed: Situation,
    ) -> Result<Response, NoResponse> {
        let (method, version) = (self.request.head.method, answer.version());
        let failed = |situation| Err(NoResponse::Failed(TryFailed { situation, sent: true }));
        let mut head = self.worker.hot.take_response_head();
        let mut input = self.worker.hot.take_buffer(self.worker.config.process.read_buffer_bytes);
        loop {
            match parse_response(&input, &self.worker.limits, method, &mut head) {
                Ok(Some(())) if head.status >= 200 => {
                    server.watched.clear();
                    return Ok(Response { head, input });
                }
                Ok(Some(())) => {
                    if head.status == 101 {
                        return failed(Situation::FreshClosed); // we never ask for an upgrade
                    }
                    if is_forwarded_interim(head.status, version) {
                        fields.clear();
                        if write_response_fields(fields, &head, &input).is_ok() {
                            answer.interim(head.status, fields).await.map_err(|_| NoResponse::Broken)?;
                        }
                    }
                    input.drain(..head.head_bytes);
                    continue;
                }
                Ok(None) => {}
                Err(problem) => {
                    tracing::warn!(upstream = %self.config.name, error = %problem, "server sent a malformed response");
                    return failed(Situation::FreshClosed);
                }
            }
            if input.capacity() == input.len() {
                input.reserve(input.len().max(1024));
            }
            let (result, returned) = server.stream.read(input).await;
            input = returned;
            match result {
                Ok(n) if n > 0 => {}
                _ if server.watched.expired() => return failed(Situation::ResponseTimeout),
                _ if input.is_empty() => return failed(closed),
                _ => return failed(Situation::FreshClosed),
            }
        }
    }

    /// Sends the response on to the client. `Err`: nothing of it was sent, because something else is.
    async fn relay(
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
        let served_by = self.served_by(at.server);
        fields.clear();
        if write_response_fields(fields, head, &input).is_err() {
            return Err(NoResponse::Instead(Instead::Error(Unanswered { status: 502, closes: true, served_by })));
        }
        self.rewrite_location(fields);
        if let Some(instead) = replaced(self.cx, answer, fields, head.status, served_by) {
            return Err(NoResponse::Instead(instead));
        }
        let content = response_content(head, &input, self.method());
        let reason = Some(head.reason.of(&input));
        let own = OwnFields { server: false, date: head.field(&input, FieldName::Date).is_none() };
        answer.start(Some(self.cx), &AnswerHead { status: head.status, reason, fields, content }, own);
        self.is_relaying.set(true);
        let end = match self.relay_body(answer, head, input, at.connection).await {
            Ok(end) => end,
            Err(who) => return Ok(self.broken(at.server, who)),
        };
        let after = if answer.keeps_connection() { After::Keep } else { After::Close };
        let outcome = Outcome { after, served_by: self.served_by(at.server) };
        Ok(Relayed { outcome, is_reusable: head.keep_alive && end == BodyEnd::Exact })
    }

    /// Puts URLs in which the servers name themselves into the words of the client.
    fn rewrite_location(&self, fields: &mut Vec<u8>) {
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

    fn method(&self) -> Method {
        self.request.head.method
    }

    /// Relays the body; `Err` when it broke off.
    async fn relay_body(
        &self,
        answer: &mut Answer<'_>,
        head: &ResponseHead,
        mut input: Vec<u8>,
        server: &ServerConnection,
    ) -> Result<BodyEnd, BrokeOff> {
        let mut decoder = BodyDecoder::new(head.body);
        let mut at = head.head_bytes;
        loop {
            while at < input.len() && !decoder.is_done() {
                let decoded = decoder.decode(&input[at..]).map_err(|_| BrokeOff::Server)?;
                let data = &input[at + decoded.data.start..at + decoded.data.end];
                at += decoded.consumed;
                answer.write(data).await.map_err(|_| BrokeOff::Client)?;
            }
            if decoder.is_done() {
                break;
            }
            // Nothing more is here: what is ready leaves now.
            answer.flush().await.map_err(|_| BrokeOff::Client)?;
            input.clear();
            at = 0;
            let room = self.room_for(&decoder);
            if input.capacity() < room {
                input.reserve(room);
            }
            server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
            // A client that has left wants no more of it, and the server should not have to find out by itself.
            let read = self.presence.while_client_stays(pin!(server.stream.read(input))).await;
            let (result, returned) = read.map_err(|_| BrokeOff::Client)?;
            input = returned;
            server.watched.clear();
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
        answer.finish().await.map_err(|_| BrokeOff::Client)?;
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

    fn count_failure(&self, stats: &ServerStats, server: usize, failed: &TryFailed) {
        match failed.situation {
            Situation::ConnectFailed => stats.connect_errors.inc(),
            Situation::ReusedClosed => {} // the race with the server's idle time-out is nobody's fault
            _ => {
                stats.response_errors.inc();
                let server = &self.config.servers[server].address;
                tracing::warn!(upstream = %self.config.name, %server, situation = ?failed.situation, "server failed a request");
            }
        }
    }
}

/// What is sent in the place of an answer with these `fields` of a server or an application: an error page, or what
/// X-Accel-Redirect names (nginx's `ngx_http_upstream`). Both fields that only we understand are taken out.
pub(super) fn replaced(
    cx: &Cx<'_>,
    answer: &mut Answer<'_>,
    fields: &mut Vec<u8>,
    status: u16,
    served_by: ServedBy,
) -> Option<Instead> {
    /// Fields that describe what is sent, or concern the client, whoever sends the content.
    const KEPT: [&str; 6] =
        ["content-type", "content-disposition", "accept-ranges", "set-cookie", "cache-control", "expires"];
    /// Fields for the server in front alone.
    const FOR_US: [&str; 4] = ["x-accel-buffering", "x-accel-charset", "x-accel-expires", "x-accel-limit-rate"];
    if Fields::new(fields).find("x-accel-redirect").is_some() {
        let target = internal_target(Fields::new(fields).find("x-accel-redirect").unwrap_or_default());
        FieldsMut::new(fields, 0).remove("x-accel-redirect");
        if let Some(target) = target.filter(|_| cx.options.x_accel) {
            let mut kept = Vec::new();
            for (name, value) in Fields::new(fields).iter() {
                let is_kept = |known: &&&str| name.eq_ignore_ascii_case(known.as_bytes());
                if let Some(known) = KEPT.iter().find(is_kept) {
                    FieldsMut::new(&mut kept, 0).add(known, value);
                }
            }
            answer.keep_fields(kept);
            return Some(Instead::Go { target, sent: Sent::AsGet });
        }
    }
    for name in FOR_US {
        FieldsMut::new(fields, 0).remove(name);
    }
    let has_page = status >= 400 && cx.options.intercept_errors && cx.options.error_pages.page(status).is_some();
    if has_page && status == 401 {
        // Without its challenge no client could log in.
        let mut kept = Vec::new();
        let is_challenge = |(name, _): &(&[u8], &[u8])| name.eq_ignore_ascii_case(b"www-authenticate");
        for (_, value) in Fields::new(fields).iter().filter(is_challenge) {
            FieldsMut::new(&mut kept, 0).add("WWW-Authenticate", value);
        }
        answer.keep_fields(kept);
    }
    has_page.then_some(Instead::Error(Unanswered { status, closes: false, served_by }))
}

/// The target that an X-Accel-Redirect field names: its path as it is, or percent-encoded, and a query. `None`: no path.
fn internal_target(value: &[u8]) -> Option<Vec<u8>> {
    let (path, query) = match memchr::memchr(b'?', value) {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let mut decoded = Vec::new();
    // Encoded or not: as nginx, which decodes it.
    let path = normalize(path, &mut decoded).ok()?;
    let mut target = Vec::with_capacity(value.len() + 8);
    encode(path.as_bytes(), &mut target);
    if let Some(query) = query {
        target.push(b'?');
        encode_query(query, &mut target);
    }
    Some(target)
}

/// Tells a server or an application about the certificate that the client showed, where clients are asked for one. What
/// the client wrote in such fields itself has been left out.
pub(super) fn put_client_certificate(cx: &Cx<'_>, fields: &mut FieldsMut<'_>) {
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

/// On whose side a response broke off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BrokeOff {
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

/// Appends content in the framing of `kind`; with `last` also the end of a chunked body.
fn append_body(out: &mut Vec<u8>, kind: BodyKind, data: &[u8], last: bool) {
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
