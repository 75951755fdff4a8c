//! One try on one server: the request out, the response head in, and the response on to the client.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;

use super::choose::Busy;
use super::connect::Connected;
use super::outgoing::{Outgoing, append_end, append_piece};
use super::relay::BrokeOff;
use super::reply::{Incoming, Reply};
use super::server::ServerConnection;
use super::{Forward, NoResponse, TryFailed};
use crate::http::h1::{BodyKind, ResponseHead, parse_response};
use crate::proxy::gateway::put_content;
use crate::proxy::head::{is_forwarded_interim, write_response_fields};
use crate::proxy::retry::Situation;
use crate::proxy::upgrade::{self, WebSocketKey};
use crate::worker::answer::Answer;
use crate::worker::body::BodyFailure;
use crate::worker::exchange::{After, Client, Outcome};
use crate::worker::trail::Trail;
use crate::worker::upload::{Beside, Upload};
use crate::worker::watch::OnExpiry;

/// A response whose head has arrived.
pub(super) struct Response {
    pub(super) head: ResponseHead,
    /// What was read from the server: the head, then the beginning of the body.
    pub(super) input: Vec<u8>,
}

/// A response whose head has arrived over HTTP/2.
pub(super) struct Arrived {
    pub(super) response: Response,
    /// Content that came with it.
    pub(super) first: Bytes,
    /// What follows.
    pub(super) content: RecvStream,
}

impl Arrived {
    pub(super) fn status(&self) -> u16 {
        self.response.head.status
    }
}

/// A try under way: on which server, on which connection, since when.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) server: usize,
    pub(super) connection: &'a ServerConnection,
    /// What comes of a server whose answers are not of HTTP.
    pub(super) reply: Option<&'a Reply>,
    /// Nothing else is under way on the two sockets: the request is sent, and its client is not read.
    pub(super) is_alone: bool,
    begun: Instant,
    gives_up_answer: &'a dyn Fn(&Answer<'_>) -> bool,
}

/// A try to be made.
#[derive(Clone, Copy)]
pub(super) struct Try<'a> {
    pub(super) server: usize,
    /// The place of the request there.
    pub(super) busy: &'a Busy<'a>,
    /// Not on an idle connection.
    pub(super) fresh: bool,
    pub(super) now: Instant,
    /// Whether an answer with a status that is tried elsewhere can be: else it is passed on.
    pub(super) gives_up_answer: &'a dyn Fn(&Answer<'_>) -> bool,
    /// Another server has room for the request.
    pub(super) has_other: &'a dyn Fn() -> bool,
}

/// A response that has been relayed, or broke off.
pub(super) struct Relayed {
    pub(super) outcome: Outcome,
    /// The server's connection can serve another request.
    pub(super) is_reusable: bool,
}

impl Forward<'_> {
    /// One try on one server, to the end of the response.
    pub(super) async fn attempt(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        outgoing: &Outgoing,
        next: Try<'_>,
    ) -> Result<Outcome, NoResponse> {
        if let Some(app) = self.config.in_process {
            // Boxed: every request would carry its size.
            return Box::pin(self.attempt_in_process(client, outgoing, app, next)).await;
        }
        let Try { server, fresh, now, gives_up_answer, has_other, .. } = next;
        let (server_connection, is_reused) =
            match self.connect(server, fresh, now, has_other, &mut client.answer.trail).await? {
                Connected::Own(connection, is_reused) => (connection, is_reused),
                Connected::Shared(shared) => {
                    // Boxed: every request would carry its size.
                    return Box::pin(self.attempt_shared(client, fields, outgoing, shared, next)).await;
                }
            };
        let connected = if is_reused { Duration::ZERO } else { now.elapsed() };
        client.answer.trail.connect = Some(connected);
        let bytes = self.request_bytes(outgoing, server, is_reused)?;
        let stats = self.stats(server);
        stats.requests.inc();
        let begun = self.worker.now();
        let closed = if is_reused { Situation::ReusedClosed } else { Situation::FreshClosed };
        self.send_head(&server_connection, bytes, closed).await?;
        let reply = self.gateway.as_ref().filter(|gateway| !gateway.answers_http());
        let reply = reply.map(|gateway| Incoming::begin(gateway, self.worker.hot.take_buffer(0)));
        let (reply_ref, is_whole) = (reply.as_ref(), outgoing.is_whole.get());
        let at =
            At { server, connection: &server_connection, reply: reply_ref, is_alone: is_whole, begun, gives_up_answer };
        let relayed = match is_whole {
            true => self.exchange_whole(client, fields, at, closed).await,
            false => {
                // A request body that is streamed is not repeated, whatever became of the connection.
                outgoing.is_kept.set(false);
                // Boxed: every request would carry its size.
                Box::pin(self.exchange_streamed(client, fields, outgoing.kind.get(), at)).await
            }
        };
        if let Some(reply) = reply {
            self.end_reply(server, reply);
        }
        let relayed = relayed?;
        if relayed.is_reusable {
            self.keep(server, server_connection);
        }
        Ok(relayed.outcome)
    }

    /// Sends the head and what is kept of the body.
    async fn send_head(&self, server: &ServerConnection, bytes: Vec<u8>, closed: Situation) -> Result<(), NoResponse> {
        server.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
        let (result, bytes) = server.write_all(self.worker, bytes).await;
        self.worker.hot.give_buffer_back(bytes);
        // It may have answered before it closed (413, 408 …), but then the answer is not to this request.
        let situation = if server.watched.expired() { Situation::ResponseTimeout } else { closed };
        result.map_err(|_| NoResponse::Failed(TryFailed { situation, sent: true }))
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
        let receive = self.receive(answer, fields, at, closed);
        let received = self.presence.while_client_stays(pin!(receive)).await;
        let response = received.unwrap_or(Err(NoResponse::ClientGone))?;
        self.count_response(&mut answer.trail, at.server, at.begun, &response);
        if self.config.retry.statuses.contains(&response.head.status) && (at.gives_up_answer)(answer) {
            return Err(NoResponse::Failed(TryFailed { situation: Situation::ErrorStatus, sent: true }));
        }
        match response.head.status {
            101 => self.switch(client, fields, response, at).await,
            _ => self.relay(answer, fields, response, at).await,
        }
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
        self.presence.watched().clear();
        let receive = self.receive(answer, fields, at, Situation::FreshClosed);
        let received = match beside.run(pin!(self.presence.while_client_stays(pin!(receive)))).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => Err(NoResponse::ClientGone),
            Err(failure) => Err(NoResponse::Body(failure)),
        };
        let relayed = match received {
            Err(no_response) => Err(no_response),
            Ok(response) => {
                self.count_response(&mut answer.trail, at.server, at.begun, &response);
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

    /// Waits for the final response head, whatever the server speaks.
    async fn receive(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        at: At<'_>,
        closed: Situation,
    ) -> Result<Response, NoResponse> {
        match at.reply {
            None => self.receive_head(answer, fields, at.connection, closed).await,
            // Boxed: every request would carry its size.
            Some(reply) => Box::pin(self.receive_reply(at, reply, closed)).await,
        }
    }

    /// `since`: the request was about to be sent.
    pub(super) fn count_response(&self, trail: &mut Trail, server: usize, since: Instant, response: &Response) {
        self.count_status(trail, server, since, response.head.status);
    }

    /// The same for a response of this status.
    pub(super) fn count_status(&self, trail: &mut Trail, server: usize, since: Instant, status: u16) {
        let stats = self.stats(server);
        let waited = since.elapsed();
        stats.first_byte.record(waited);
        let mut state = self.worker.upstreams[self.upstream].borrow_mut();
        state.balancer_mut().on_answer(server, waited, status < 500, since + waited);
        drop(state);
        (trail.response, trail.upstream_status) = (Some(waited), Some(status));
        stats.responses[usize::from(status / 100).min(5)].inc();
        self.observe_status(server, status);
    }

    pub(super) fn broken(&self, server: usize, who: BrokeOff) -> Relayed {
        if who == BrokeOff::Server {
            self.stats(server).response_errors.inc();
            self.observe_broken(server);
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
        let has_records = self.gateway.as_ref().is_some_and(|gateway| gateway.has_records());
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
                    let trailers = upload.take_trailers();
                    match has_records {
                        true => self.end_gateway(&mut buffer),
                        false => append_end(&mut buffer, kind, trailers.as_ref()),
                    }
                    let (result, returned) = server.write_all(self.worker, buffer).await;
                    buffer = returned;
                    break result.is_ok();
                }
                Some(piece) => {
                    match has_records {
                        true => put_content(&mut buffer, piece.as_slice()),
                        false => append_piece(&mut buffer, kind, piece.as_slice()),
                    }
                    // A silent server must not hold the client for ever; every piece starts the time anew.
                    let (result, returned) = server.write_all(self.worker, buffer).await;
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
                        let asked = self.upgrade.filter(|asked| upgrade::is_agreed(&head, &input, asked));
                        let is_answered = |key: &WebSocketKey| key.is_answered_by(&head, &input);
                        let error = match asked {
                            None => Some("it switches to a protocol that nobody asked for"),
                            Some(_) if self.websocket_key.as_ref().is_none_or(is_answered) => None,
                            Some(_) => Some("its Sec-WebSocket-Accept is not the answer to our key"),
                        };
                        if let Some(error) = error {
                            tracing::warn!(upstream = %self.config.name, error, "server sent a malformed response");
                            return failed(Situation::FreshClosed);
                        }
                        server.watched.clear();
                        return Ok(Response { head, input });
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
            let (result, returned) = server.read(self.worker, input).await;
            input = returned;
            match result {
                Ok(n) if n > 0 => {}
                _ if server.watched.expired() => return failed(Situation::ResponseTimeout),
                // What is no TLS is not the close of an idle connection.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::warn!(upstream = %self.config.name, %error, "server broke TLS");
                    return failed(Situation::FreshClosed);
                }
                _ if input.is_empty() => return failed(closed),
                _ => return failed(Situation::FreshClosed),
            }
        }
    }
}
