//! One try over a shared connection of HTTP/2: as `attempt` and `relay` over one of HTTP/1, but both directions of a stream
//! are frames of the `h2` crate.
//!
//! Content goes on only as the other side takes it: what a server sends fills its stream's window, which opens again as the
//! client takes it, and what a client sends waits for the windows of the server. What has been sent on of a body stays in
//! memory while it is small, so that a request that the server has refused can be sent again even if it is streamed. A
//! stream that is given up is reset (CANCEL) when its halves are dropped.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};

use super::attempt::{Arrived, Relayed, Response, Try};
use super::connect::Shared;
use super::outgoing::Outgoing;
use super::relay::BrokeOff;
use super::websocket::Means;
use super::{Forward, NoResponse, TryFailed};
use crate::http::answer::Content;
use crate::http::h1::{FieldName, Version};
use crate::http::h2::{read_answer, request, websocket};
use crate::http::trailers;
use crate::proxy::head::{is_forwarded_interim, response_content, write_response_fields};
use crate::proxy::retry::Situation;
use crate::worker::answer::{Answer, Presence};
use crate::worker::body::BodyFailure;
use crate::worker::exchange::{After, Client, Outcome};
use crate::worker::link::{Place, send_piece};
use crate::worker::upload::{Beside, Upload};
use crate::worker::watch::{GaveUp, OnExpiry, Watched};

/// A stream that has begun.
pub(super) struct Begun<'a> {
    pub(super) server: usize,
    place: &'a Place,
    since: Instant,
    /// What the end of the connection would be.
    closed: Situation,
    gives_up_answer: &'a dyn Fn(&Answer<'_>) -> bool,
    owing: Owing<'a>,
}

/// Since when there has been silence. The deadline is that of the exchange, which nobody else needs meanwhile.
struct Owing<'a> {
    watched: &'a Watched,
    since: Cell<Instant>,
    /// While we wait for the server: how long it may take.
    time: Cell<Option<Duration>>,
    /// The client has to send more of its request before the server can be blamed for having no answer.
    is_client: Cell<bool>,
    /// How long the client may be silent then; `None`: others look after that.
    client_time: Option<Duration>,
}

impl<'a> Owing<'a> {
    fn new(presence: Presence<'a>, now: Instant, client_time: Option<Duration>) -> Owing<'a> {
        let (time, is_client) = (Cell::new(None), Cell::new(false));
        Owing { watched: presence.watched(), since: Cell::new(now), time, is_client, client_time }
    }

    /// Waits for the server as long as the client stays. What has been owed for a while is not forgiven.
    async fn wait<T>(
        &self,
        presence: Presence<'_>,
        time: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, GaveUp> {
        self.time.set(Some(time));
        self.set_deadline();
        let end = presence.while_client_stays(pin!(work)).await;
        self.time.set(None);
        self.watched.clear();
        end
    }

    fn set_deadline(&self) {
        let Some(time) = self.time.get() else { return };
        match if self.is_client.get() { self.client_time } else { Some(time) } {
            Some(time) => self.watched.set(time.saturating_sub(self.since.get().elapsed()), OnExpiry::Wake),
            None => self.watched.clear(),
        }
    }

    /// Something has gone one way or the other: the silence begins anew.
    fn note_progress(&self) {
        self.since.set(Instant::now());
        self.set_deadline();
    }

    /// From now on the client owes the next piece of the request, or the server its answer.
    fn set_client(&self, is_client: bool) {
        self.is_client.set(is_client);
        self.note_progress();
    }
}

impl Forward<'_> {
    /// One try on one server, to the end of the response.
    pub(super) async fn attempt_shared(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        outgoing: &Outgoing,
        Shared { place, waited }: Shared,
        Try { server, gives_up_answer, .. }: Try<'_>,
    ) -> Result<Outcome, NoResponse> {
        client.answer.trail.connect = Some(waited);
        let means = self.means_over(&place);
        if means == Means::Nothing {
            return Err(self.no_tunnel(server));
        }
        let head = self.head_bytes(self.request.head.body, server)?;
        let is_https = self.config.tls.is_some();
        let asked = request(&head, is_https, trailers::are_wanted(self.request.head, self.request.bytes));
        self.worker.hot.give_buffer_back(head);
        let asked = asked.map_err(|_| NoResponse::Body(BodyFailure::Malformed(400)))?;
        let asked = if means == Means::Connect { websocket(asked) } else { asked };
        let has_ended = means == Means::Ordinary && outgoing.has_nothing();
        let closed = if place.is_reused() { Situation::ReusedClosed } else { Situation::FreshClosed };
        // It has said meanwhile that it takes no further ones, which is the race with an idle time-out.
        let not_sent = TryFailed { situation: Situation::ReusedClosed, sent: false };
        let (response, stream) = place.send(asked, has_ended).map_err(|_| NoResponse::Failed(not_sent))?;
        self.stats(server).requests.inc();
        let since = self.worker.now();
        // A call is a dialogue, in which each side may wait for the other one, but not both for ever.
        let client_time = client.answer.is_call.then_some(self.config.idle_timeout);
        let owing = Owing::new(self.presence, since, client_time);
        let begun = Begun { server, place: &place, since, closed, gives_up_answer, owing };
        match outgoing.is_whole.get() {
            _ if means == Means::Connect => self.exchange_websocket(client, fields, response, stream, &begun).await,
            true => self.exchange_kept(client, fields, outgoing, response, stream, &begun).await,
            false => self.exchange_both_ways(client, fields, outgoing, response, stream, &begun).await,
        }
    }

    /// Sends what is kept and relays the response.
    async fn exchange_kept(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        outgoing: &Outgoing,
        mut response: ResponseFuture,
        mut stream: SendStream<Bytes>,
        begun: &Begun<'_>,
    ) -> Result<Outcome, NoResponse> {
        if !outgoing.has_nothing() {
            let trailers = outgoing.trailers.borrow().clone();
            // It is in memory as it is: whether the crate keeps it or we do makes no difference. A stream that the server has
            // reset meanwhile tells so when the response is asked for.
            let _ = stream.send_data(outgoing.kept_bytes(), trailers.is_none());
            if let Some(trailers) = trailers {
                let _ = stream.send_trailers(trailers);
            }
        }
        let arrived = self.receive_shared(&mut client.answer, fields, &mut response, begun).await?;
        self.may_pass(&client.answer, begun, arrived.status())?;
        Ok(self.relay_shared(&mut client.answer, fields, arrived, begun).await?.outcome)
    }

    /// Relays the response, while the rest of the body goes out beside it.
    async fn exchange_both_ways(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        outgoing: &Outgoing,
        mut response: ResponseFuture,
        mut stream: SendStream<Bytes>,
        begun: &Begun<'_>,
    ) -> Result<Outcome, NoResponse> {
        let Client { upload, answer, .. } = client;
        let asked = upload.ask(self.worker, self.connection).await;
        asked.map_err(NoResponse::Body)?;
        if answer.is_call {
            upload.begin_dialogue();
        }
        let handle = upload.begin_beside(self.worker, self.connection);
        let may_keep = answer.keeps_connection();
        let send = pin!(self.send_shared(upload, outgoing, &mut stream, &begun.owing));
        let mut beside = Beside::new(send, handle);
        let received = beside.run(pin!(self.receive_shared(answer, fields, &mut response, begun))).await;
        let received = received.unwrap_or_else(|failure| Err(NoResponse::Body(failure)));
        let relayed =
            match received.and_then(|arrived| self.may_pass(answer, begun, arrived.status()).map(|()| arrived)) {
                Err(no_response) => Err(no_response),
                Ok(arrived) => {
                    // Answered early: whether all of the body will have been read behind the response is not known yet.
                    answer.set_keep_alive(may_keep && beside.has_sent_all());
                    let relayed = beside.run(pin!(self.relay_shared(answer, fields, arrived, begun))).await;
                    // A body that fails below a response under way breaks that response off.
                    relayed.unwrap_or_else(|_| Ok(self.broken(begun.server, BrokeOff::Client)))
                }
            };
        let sent_all = beside.has_sent_all();
        beside.stop(self.connection).await;
        let mut outcome = relayed?.outcome;
        if !sent_all && outcome.after != After::Abort {
            outcome.after = After::Linger;
        }
        Ok(outcome)
    }

    /// An answer with this status goes on to the client.
    pub(super) fn may_pass(&self, answer: &Answer<'_>, begun: &Begun<'_>, status: u16) -> Result<(), NoResponse> {
        match self.config.retry.statuses.contains(&status) && (begun.gives_up_answer)(answer) {
            true => Err(NoResponse::Failed(TryFailed { situation: Situation::ErrorStatus, sent: true })),
            false => Ok(()),
        }
    }

    /// Streams the body to the server, what is kept of it first. `Ok`: whether all of it was sent; the server may have
    /// stopped taking it.
    async fn send_shared(
        &self,
        upload: &mut Upload<'_>,
        outgoing: &Outgoing,
        stream: &mut SendStream<Bytes>,
        owing: &Owing<'_>,
    ) -> Result<bool, BodyFailure> {
        if !send_piece(stream, outgoing.kept_bytes()).await {
            return Ok(false);
        }
        loop {
            // Once the server answers, each side's silence is the other's as well.
            owing.set_client(!self.is_relaying.get());
            let next = upload.next(self.worker, self.connection).await?;
            owing.set_client(false);
            let Some(piece) = next else { break };
            let data = piece.into_bytes();
            outgoing.keep(&data, self.config.retry.body_bytes_max);
            if !send_piece(stream, data).await {
                return Ok(false);
            }
        }
        let trailers = upload.take_trailers();
        outgoing.end(trailers.clone());
        let ended = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
        Ok(ended.is_ok())
    }

    /// Waits for the final response head; interim ones go on to the client.
    pub(super) async fn receive_shared(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        response: &mut ResponseFuture,
        begun: &Begun<'_>,
    ) -> Result<Arrived, NoResponse> {
        let failed = |situation, sent| NoResponse::Failed(TryFailed { situation, sent });
        let mut head = self.worker.hot.take_response_head();
        let mut input = self.worker.hot.take_buffer(1024);
        let (method, limits) = (self.request.head.method, &self.worker.limits);
        let malformed = |error: &dyn std::fmt::Display| {
            tracing::warn!(upstream = %self.config.name, %error, "server sent a malformed response");
            failed(Situation::FreshClosed, true)
        };
        loop {
            let next = poll_fn(|cx| poll_head(response, cx));
            let next = match begun.owing.wait(self.presence, self.config.response_timeout, next).await {
                Ok(next) => next,
                Err(GaveUp::ClientGone) => return Err(NoResponse::ClientGone),
                Err(GaveUp::Expired) if begun.owing.is_client.get() => {
                    return Err(NoResponse::Body(BodyFailure::TimedOut));
                }
                Err(GaveUp::Expired) => {
                    begun.place.doubt();
                    return Err(failed(Situation::ResponseTimeout, true));
                }
            };
            match next {
                Head::Interim(interim) => {
                    let (status, headers) = (interim.status().as_u16(), interim.headers());
                    if !is_forwarded_interim(status, answer.version()) {
                        continue;
                    }
                    let read = read_answer((status, headers), false, method, limits, &mut input, &mut head);
                    read.map_err(|error| malformed(&error))?;
                    fields.clear();
                    if write_response_fields(fields, &head, &input).is_ok() {
                        answer.interim(status, fields).await.map_err(|_| NoResponse::Broken)?;
                    }
                }
                Head::Final(Ok(response)) => {
                    let (parts, mut content) = response.into_parts();
                    // What ends as soon as it has begun has not begun for the client: the request may still go elsewhere.
                    let first = match poll_fn(|cx| Poll::Ready(content.poll_data(cx))).await {
                        Poll::Ready(Some(Err(error))) => return Err(self.no_answer(&error, begun)),
                        Poll::Ready(Some(Ok(data))) => data,
                        Poll::Ready(None) | Poll::Pending => Bytes::new(),
                    };
                    let is_ended = first.is_empty() && content.is_end_stream();
                    let answered = (parts.status.as_u16(), &parts.headers);
                    let read = read_answer(answered, !is_ended, method, limits, &mut input, &mut head);
                    read.map_err(|error| malformed(&error))?;
                    begun.place.note_answer();
                    let response = Response { head, input };
                    self.count_response(&mut answer.trail, begun.server, begun.since, &response);
                    return Ok(Arrived { response, first, content });
                }
                Head::Final(Err(error)) => return Err(self.no_answer(&error, begun)),
            }
        }
    }

    fn no_answer(&self, error: &h2::Error, begun: &Begun<'_>) -> NoResponse {
        let (situation, sent) = situation(error, begun.closed);
        tracing::debug!(upstream = %self.config.name, %error, ?situation, "no answer over HTTP/2");
        NoResponse::Failed(TryFailed { situation, sent })
    }

    /// Sends the response on to the client. `Err`: nothing of it was sent, because something else is.
    pub(super) async fn relay_shared(
        &self,
        answer: &mut Answer<'_>,
        fields: &mut Vec<u8>,
        Arrived { response: Response { head, input }, first, mut content }: Arrived,
        begun: &Begun<'_>,
    ) -> Result<Relayed, NoResponse> {
        let is_framed = matches!(answer.version(), Version::Http2 | Version::Http3);
        let told = match response_content(&head, &input, self.method()) {
            // Whether there is none or none is told of is a difference only between frames.
            Content::Length(0) if is_framed && head.field(&input, FieldName::ContentLength).is_none() => {
                Content::Absent(None)
            }
            told => told,
        };
        let begins = self.begin_relay(answer, fields, (&head, &input), told, begun.server);
        self.worker.hot.give_response_head_back(head);
        self.worker.hot.give_buffer_back(input);
        begins?;
        match self.relay_content(answer, first, &mut content, begun).await {
            Ok(()) => {
                let after = if answer.keeps_connection() { After::Keep } else { After::Close };
                let outcome = Outcome { after, served_by: self.served_by(begun.server) };
                Ok(Relayed { outcome, is_reusable: false })
            }
            Err(who) => Ok(self.broken(begun.server, who)),
        }
    }

    /// Relays content and trailers; `Err` when they broke off.
    async fn relay_content(
        &self,
        answer: &mut Answer<'_>,
        first: Bytes,
        content: &mut RecvStream,
        begun: &Begun<'_>,
    ) -> Result<(), BrokeOff> {
        self.relay_piece(answer, first, content).await?;
        while !content.is_end_stream() {
            let ready = poll_fn(|cx| Poll::Ready(content.poll_data(cx))).await;
            let next = match ready {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    // Nothing more is here: what is ready leaves now.
                    answer.flush().await.map_err(|_| BrokeOff::Client)?;
                    begun.owing.set_client(false);
                    let next = poll_fn(|cx| content.poll_data(cx));
                    match begun.owing.wait(self.presence, self.config.idle_timeout, next).await {
                        Ok(next) => next,
                        Err(GaveUp::ClientGone) => return Err(BrokeOff::Client),
                        Err(GaveUp::Expired) => {
                            begun.place.doubt();
                            return Err(BrokeOff::Server);
                        }
                    }
                }
            };
            let Some(data) = next else { break };
            let data = data.map_err(|error| self.note_broken(&error))?;
            self.relay_piece(answer, data, content).await?;
        }
        let trailers = poll_fn(|cx| content.poll_trailers(cx)).await.map_err(|error| self.note_broken(&error))?;
        self.finish_with(answer, trailers).await
    }

    async fn relay_piece(
        &self,
        answer: &mut Answer<'_>,
        data: Bytes,
        content: &mut RecvStream,
    ) -> Result<(), BrokeOff> {
        let count = data.len();
        answer.write_bytes(data).await.map_err(|_| BrokeOff::Client)?;
        // Taken by the client, or by what waits for it: the server may send as much again.
        let _ = content.flow_control().release_capacity(count);
        Ok(())
    }

    fn note_broken(&self, error: &h2::Error) -> BrokeOff {
        tracing::warn!(upstream = %self.config.name, %error, "server broke a response off");
        BrokeOff::Server
    }
}

/// Something of a response.
enum Head {
    Interim(http::Response<()>),
    Final(Result<http::Response<RecvStream>, h2::Error>),
}

fn poll_head(response: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Head> {
    if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
        return Poll::Ready(Head::Interim(interim));
    }
    Pin::new(response).poll(cx).map(Head::Final)
}

/// What became of a request without an answer, and whether the server may have worked on it. `closed`: what the end of its
/// connection is.
fn situation(error: &h2::Error, closed: Situation) -> (Situation, bool) {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => (Situation::Refused, true),
        // Only streams above the last one that the server has taken fail so (RFC 9113 section 6.8). The next connection is
        // as good as this one was.
        _ if error.is_go_away() && error.is_remote() => (Situation::ReusedClosed, false),
        _ if error.is_io() => (closed, true),
        _ => (Situation::FreshClosed, true),
    }
}
