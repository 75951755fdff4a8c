//! Forwards a request to a server of an upstream and its answer back.
//!
//! A try picks a server, takes an idle connection or makes one, sends the head (and the body, if that is small) in
//! one piece, and waits for the response head. What may be tried again, and where, is decided by
//! [`crate::proxy::retry`]. Once a byte of the response has gone downstream there is no second try: a response that
//! breaks off breaks the client's connection too, so that nobody takes it for complete.

use std::cell::Cell;
use std::pin::pin;
use std::time::Instant;

use super::Worker;
use super::body::{Beside, BodyFailure, RequestBody};
use super::connection::Connection;
use super::exchange::{After, Outcome, Request, abandoned, error, refuse};
use super::hot::{Hot, Input};
use super::respond;
use super::watch::{OnExpiry, Watched};
use crate::config::model::Upstream;
use crate::http::h1::{
    BodyDecoder, BodyKind, CHUNK_END, LAST_CHUNK, RequestHead, ResponseHead, parse_response, write_chunk_head,
};
use crate::metrics::{ServedBy, ServerStats};
use crate::proxy::Tried;
use crate::proxy::head::{
    IpText, RequestContext, ResponseContext, Scheme, is_forwarded_interim, write_interim_head, write_request_head,
    write_response_head,
};
use crate::proxy::retry::{Failure, RetryPolicy, Situation, Verdict, delay_before_retry, may_retry};
use crate::runtime::net::{Peek, Stream};
use crate::runtime::time::{sleep, timeout};

/// A request body up to this size is read before a server is chosen, so that the request can be tried again.
const KEPT_BODY_BYTES_MAX: usize = 16 * 1024;

/// Answers wait for each other until this much has gathered; then they are sent.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A connection to a server. `watched` is dropped before `stream`, as it must be.
pub(crate) struct ServerConnection {
    watched: Watched,
    stream: Stream,
}

/// A request being forwarded.
struct Forward<'a> {
    worker: &'a Worker,
    connection: &'a Connection,
    upstream: usize,
    config: &'a Upstream,
    /// A byte of a response has gone into the client's buffer.
    response_begun: Cell<bool>,
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

/// A response that has been relayed, or broke off.
struct Relayed {
    outcome: Outcome,
    /// The server's connection can serve another request.
    is_reusable: bool,
}

/// The client's side of a response.
struct Client<'a> {
    out: &'a mut Vec<u8>,
    head: &'a RequestHead,
    keep_alive: &'a mut bool,
}

pub(super) async fn run(
    worker: &Worker,
    connection: &Connection,
    hot: &mut Hot,
    request: &mut Request,
    upstream: usize,
) -> Outcome {
    let config = &worker.config.upstreams[upstream];
    let forward = Forward { worker, connection, upstream, config, response_begun: Cell::new(false) };
    let outgoing = match forward.outgoing(hot, &mut request.body).await {
        Ok(outgoing) => outgoing,
        Err(failure) => return body_failed(worker, hot, failure),
    };
    let mut tried = Tried::new();
    let mut tries = 0;
    let mut fresh = None;
    // The clock is not read at every step: without a body the first try begins within a microsecond of the request.
    let mut now = if outgoing.kept.is_empty() { request.started } else { worker.now() };
    loop {
        let Some(server) = fresh.or_else(|| forward.pick(&tried, now)) else {
            return forward.give_up(hot, request, if tries == 0 { 503 } else { 502 });
        };
        if fresh.is_none() && tried.contains(server) {
            // There is no other one: give it a moment to come back.
            let pause = sleep(delay_before_retry(true, config.connect_timeout));
            connection.watched.clear();
            if connection.watched.while_client_stays(pause).await.is_err() {
                return abandoned(forward.served_by(server));
            }
            now = worker.now();
        }
        tries += u32::from(fresh.is_none());
        let stats = &worker.stats.servers[upstream][server];
        let busy = Busy::begin(&forward, server);
        let result = forward.attempt(hot, request, &outgoing, server, fresh.is_some(), now).await;
        drop(busy);
        let failed = match result {
            Ok(outcome) => return outcome,
            Err(NoResponse::Failed(failed)) => failed,
            Err(NoResponse::Body(failure)) => return body_failed(worker, hot, failure),
            Err(NoResponse::ClientGone | NoResponse::Broken) => return abandoned(forward.served_by(server)),
        };
        forward.count_failure(stats, server, &failed);
        let verdict = may_retry(
            &Failure {
                situation: failed.situation,
                idempotent: hot.head.method.is_idempotent(),
                sent: failed.sent,
                response_begun: forward.response_begun.get(),
                // What was not sent has not been read either, beyond what is kept.
                body_kept: outgoing.is_whole || !failed.sent,
                fresh_connection_granted: fresh.is_some(),
                tries,
                tries_max: config.tries_max,
                elapsed: request.started.elapsed(),
                time_max: config.connect_timeout + config.response_timeout,
            },
            RetryPolicy::default(),
        );
        fresh = None;
        match verdict {
            Verdict::No => {
                let status = if failed.situation == Situation::ResponseTimeout { 504 } else { 502 };
                let mut outcome = forward.give_up(hot, request, status);
                outcome.served_by = forward.served_by(server);
                return outcome;
            }
            Verdict::SameServerFreshConnection => fresh = Some(server),
            Verdict::OtherServer => tried.insert(server),
        }
        stats.retries.inc();
        now = worker.now();
    }
}

/// Answers for a body that could not be read.
fn body_failed(worker: &Worker, hot: &mut Hot, failure: BodyFailure) -> Outcome {
    match failure.status() {
        Some(status) => refuse(worker, hot, status),
        None => abandoned(ServedBy::Worker),
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

    /// Reads the body's beginning: all of it when it is small.
    async fn outgoing(&self, hot: &mut Hot, body: &mut RequestBody) -> Result<Outgoing, BodyFailure> {
        let kind = hot.head.body;
        let mut kept = Vec::new();
        let is_whole = match kind {
            BodyKind::None => true,
            BodyKind::Length(body_bytes) if body_bytes > KEPT_BODY_BYTES_MAX as u64 => false,
            _ => {
                let (worker, connection) = (self.worker, self.connection);
                body.keep(worker, connection, &mut hot.input, &mut kept, KEPT_BODY_BYTES_MAX).await?
            }
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
        hot: &mut Hot,
        request: &mut Request,
        outgoing: &Outgoing,
        server: usize,
        must_be_fresh: bool,
        now: Instant,
    ) -> Result<Outcome, NoResponse> {
        let (server_connection, is_reused) = self.connect(server, must_be_fresh, now).await?;
        let bytes = self.request_bytes(hot, request, outgoing, server)?;
        let stats = self.stats(server);
        stats.requests.inc();
        let begun = self.worker.now();
        let closed = if is_reused { Situation::ReusedClosed } else { Situation::FreshClosed };
        self.send_head(&server_connection, bytes, closed).await?;
        let relayed = match outgoing.is_whole {
            true => self.exchange_whole(hot, request, server, &server_connection, begun, closed).await?,
            false => self.exchange_streamed(hot, request, outgoing.kind, server, &server_connection, begun).await?,
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
        let connecting = timeout(self.config.connect_timeout, Stream::connect(address));
        self.connection.watched.clear();
        let connected = match self.connection.watched.while_client_stays(connecting).await {
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
    fn request_bytes(
        &self,
        hot: &Hot,
        request: &Request,
        outgoing: &Outgoing,
        server: usize,
    ) -> Result<Vec<u8>, NoResponse> {
        let mut bytes = self.worker.hot.take_buffer(hot.head.head_bytes + 512 + outgoing.kept.len());
        let ip = self.connection.peer.map(|peer| IpText::new(peer.ip()));
        let state = self.worker.upstreams[self.upstream].borrow();
        let context = RequestContext {
            client_ip: ip.as_ref().map_or(b"unknown", |ip| ip.as_bytes()),
            scheme: Scheme::Http,
            listener_port: self.worker.ports[self.connection.listener as usize],
            server_host: state.host(server),
            request_id: &Request::id_text(request.id),
            body: outgoing.kind,
            keep_alive: true,
        };
        let written = write_request_head(&mut bytes, &hot.head, Request::head_bytes(hot), &context);
        if written.is_err() {
            return Err(NoResponse::Body(BodyFailure::Malformed(400)));
        }
        append_body(&mut bytes, outgoing.kind, &outgoing.kept, outgoing.is_whole);
        Ok(bytes)
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
        hot: &mut Hot,
        request: &mut Request,
        server: usize,
        connection: &ServerConnection,
        begun: Instant,
        closed: Situation,
    ) -> Result<Relayed, NoResponse> {
        let mut client = Client { out: &mut hot.out, head: &hot.head, keep_alive: &mut request.keep_alive };
        self.connection.watched.clear();
        connection.watched.set(self.config.response_timeout, OnExpiry::BreakAll);
        let receive = self.receive_head(&mut client, connection, closed);
        let received = self.connection.watched.while_client_stays(receive).await;
        let response = received.unwrap_or(Err(NoResponse::ClientGone))?;
        self.count_response(server, begun, &response);
        Ok(self.relay(client, response, server, connection).await)
    }

    /// Waits for the response and relays it, while the rest of a large body goes out beside it.
    async fn exchange_streamed(
        &self,
        hot: &mut Hot,
        request: &mut Request,
        kind: BodyKind,
        server: usize,
        connection: &ServerConnection,
        begun: Instant,
    ) -> Result<Relayed, NoResponse> {
        let handle = request.body.begin_beside(self.worker, self.connection);
        let Hot { input, out, head, .. } = hot;
        let may_keep = request.keep_alive;
        let mut client = Client { out, head, keep_alive: &mut request.keep_alive };
        let send = pin!(self.send_body(input, &mut request.body, kind, connection));
        let mut beside = Beside::new(send, handle);
        // A request body that is streamed is never repeated, whatever became of the connection.
        self.connection.watched.clear();
        let receive = self.receive_head(&mut client, connection, Situation::FreshClosed);
        let received = match beside.run(self.connection.watched.while_client_stays(receive)).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => Err(NoResponse::ClientGone),
            Err(failure) => Err(NoResponse::Body(failure)),
        };
        let relayed = match received {
            Err(no_response) => Err(no_response),
            Ok(response) => {
                self.count_response(server, begun, &response);
                // Answered early: whether all of the body will have been read behind the response is not known yet.
                *client.keep_alive = may_keep && beside.has_sent_all();
                let status = response.head.status;
                let relayed = beside.run(self.relay(client, response, server, connection)).await;
                // A body that fails below a response under way breaks that response off.
                Ok(relayed.unwrap_or_else(|_| self.broken(server, status, BrokeOff::Client)))
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

    fn count_response(&self, server: usize, begun: Instant, response: &Response) {
        let stats = self.stats(server);
        stats.first_byte.record(begun.elapsed());
        stats.responses[usize::from(response.head.status / 100).min(5)].inc();
    }

    fn broken(&self, server: usize, status: u16, who: BrokeOff) -> Relayed {
        if who == BrokeOff::Server {
            self.stats(server).response_errors.inc();
        }
        let served_by = self.served_by(server);
        Relayed { outcome: Outcome { after: After::Abort, status, body_bytes: 0, served_by }, is_reusable: false }
    }

    /// Streams the rest of the request body to the server. `Ok` when all of it was sent, or when the server stopped
    /// taking it (it may have answered early).
    async fn send_body(
        &self,
        input: &mut Input,
        body: &mut RequestBody,
        kind: BodyKind,
        server: &ServerConnection,
    ) -> Result<bool, BodyFailure> {
        let mut buffer = self.worker.hot.take_buffer(self.worker.config.process.stream_buffer_bytes);
        let sent_all = loop {
            // Until the client has sent more, nobody can blame the server for its silence. Once the server answers, its
            // deadlines belong to the relay of the answer.
            if !self.response_begun.get() {
                server.watched.clear();
            }
            let next = body.next(self.worker, self.connection, input).await?;
            if !self.response_begun.get() {
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
                Some(range) => {
                    append_body(&mut buffer, kind, &input.bytes[range], false);
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
        client: &mut Client<'_>,
        server: &ServerConnection,
        closed: Situation,
    ) -> Result<Response, NoResponse> {
        let (method, version) = (client.head.method, client.head.version);
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
                        let written = write_interim_head(client.out, &head, &input);
                        if written.is_ok() {
                            self.response_begun.set(true);
                            self.connection.flush(self.worker, client.out).await.map_err(|_| NoResponse::Broken)?;
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

    /// Sends the response on to the client.
    async fn relay(
        &self,
        client: Client<'_>,
        response: Response,
        server: usize,
        connection: &ServerConnection,
    ) -> Relayed {
        let Response { head, input } = response;
        let relayed = self.relay_with(client, &head, input, server, connection).await;
        self.worker.hot.give_response_head_back(head);
        relayed
    }

    async fn relay_with(
        &self,
        client: Client<'_>,
        head: &ResponseHead,
        input: Vec<u8>,
        server: usize,
        connection: &ServerConnection,
    ) -> Relayed {
        let status = head.status;
        let written = {
            let date = self.worker.date.borrow();
            let context = ResponseContext {
                method: client.head.method,
                version: client.head.version,
                keep_alive: *client.keep_alive,
                date: date.as_bytes(),
            };
            write_response_head(client.out, head, &input, &context)
        };
        let Ok(downstream) = written else {
            if self.response_begun.get() {
                return self.broken(server, status, BrokeOff::Server);
            }
            let body_bytes = respond::error(self.worker, client.out, client.head, false, 502);
            let served_by = self.served_by(server);
            let outcome = Outcome { after: After::Linger, status: 502, body_bytes, served_by };
            return Relayed { outcome, is_reusable: false };
        };
        self.response_begun.set(true);
        *client.keep_alive = downstream.keep_alive;
        let relayed = self.relay_body(client.out, head, input, downstream.body, connection).await;
        let (body_bytes, end) = match relayed {
            Ok(relayed) => relayed,
            Err(who) => return self.broken(server, status, who),
        };
        let after = if downstream.keep_alive { After::Keep } else { After::Close };
        let outcome = Outcome { after, status, body_bytes, served_by: self.served_by(server) };
        Relayed { outcome, is_reusable: head.keep_alive && end == BodyEnd::Exact }
    }

    /// Relays the body; `Err` when it broke off.
    async fn relay_body(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        mut input: Vec<u8>,
        kind: BodyKind,
        server: &ServerConnection,
    ) -> Result<(u64, BodyEnd), BrokeOff> {
        let mut decoder = BodyDecoder::new(head.body);
        let mut at = head.head_bytes;
        let mut body_bytes = 0;
        loop {
            while at < input.len() && !decoder.is_done() {
                let decoded = decoder.decode(&input[at..]).map_err(|_| BrokeOff::Server)?;
                let data = &input[at + decoded.data.start..at + decoded.data.end];
                body_bytes += data.len() as u64;
                append_body(out, kind, data, false);
                at += decoded.consumed;
                if out.len() >= OUT_BYTES_MAX {
                    self.connection.flush(self.worker, out).await.map_err(|_| BrokeOff::Client)?;
                }
            }
            if decoder.is_done() {
                break;
            }
            // Nothing more is here: what is ready leaves now.
            self.connection.flush(self.worker, out).await.map_err(|_| BrokeOff::Client)?;
            input.clear();
            at = 0;
            let room = self.room_for(&decoder);
            if input.capacity() < room {
                input.reserve(room);
            }
            server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
            // A client that has left wants no more of it, and the server should not have to find out by itself.
            let read = self.connection.watched.while_client_stays(server.stream.read(input)).await;
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
        if kind == BodyKind::Chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        let end = if at == input.len() && head.body != BodyKind::UntilClose { BodyEnd::Exact } else { BodyEnd::Dirty };
        self.worker.hot.give_buffer_back(input);
        Ok((body_bytes, end))
    }

    /// Bytes worth reading at once: what is left of the body, within the stream buffer.
    fn room_for(&self, decoder: &BodyDecoder) -> usize {
        let most = self.worker.config.process.stream_buffer_bytes;
        let left = decoder.remaining().and_then(|left| usize::try_from(left).ok()).unwrap_or(most);
        left.clamp(1024, most)
    }

    /// An error page, or a broken connection when part of a response has gone out already.
    fn give_up(&self, hot: &mut Hot, request: &Request, status: u16) -> Outcome {
        if self.response_begun.get() {
            return Outcome { after: After::Abort, status, body_bytes: 0, served_by: ServedBy::Worker };
        }
        if request.body.is_done() { error(self.worker, hot, request, status) } else { refuse(self.worker, hot, status) }
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
