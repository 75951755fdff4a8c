//! Forwards a request to a server of an upstream and its answer back.
//!
//! A try picks a server, takes an idle connection or makes one, sends the head (and the body, if that is small) in
//! one piece, and waits for the response head. What may be tried again, and where, is decided by
//! [`crate::proxy::retry`]. Once a byte of the response has gone downstream there is no second try: a response that
//! breaks off breaks the client's connection too, so that nobody takes it for complete.
//!
//! | part | does |
//! |---|---|
//! | this file | one server after the other |
//! | `choose` | which server that is, and the wait for a place there |
//! | `attempt` | one try on one server |
//! | `connect`, `dial` | the connection to it |
//! | `in_process` | the same at an application inside this process |
//! | `gateway` | the same for FastCGI, uwsgi and SCGI: the script, and what is told of the request |
//! | `reply` | their answers |
//! | `mirror` | a copy of it to another upstream |
//! | `multiplexed` | the same over a shared connection of HTTP/2 |
//! | `observed` | what is noted of the server for outlier detection |
//! | `outgoing` | what goes to it |
//! | `relay` | the response on to the client |
//! | `spliced` | its content, where the kernel may move it |
//! | `switch` | the other protocol that both have agreed on |
//! | `websocket` | the same with a server of HTTP/2 |

mod attempt;
mod choose;
mod connect;
mod dial;
mod gateway;
mod in_process;
mod mirror;
mod multiplexed;
mod observed;
mod outgoing;
mod relay;
mod reply;
mod server;
mod spliced;
mod switch;
mod websocket;

use std::cell::Cell;

use self::attempt::Try;
use self::choose::Chosen;
pub(super) use self::choose::{
    Busy, Held, deliver_places, keep_for_those_who_wait, look, look_at_those_before, place_for_connection,
    place_for_flow,
};
pub(super) use self::dial::{WhenFull, dial, offer_for_clients};
use self::gateway::Gateway;
use self::in_process::Active;
pub(super) use self::observed::{observe_connect_failure, observe_connected, observe_unanswered};
pub(super) use self::outgoing::ForPrograms;
use self::outgoing::Outgoing;
pub(crate) use self::server::ServerConnection;
use super::Worker;
use super::answer::{Answer, Presence};
use super::body::BodyFailure;
use super::connection::Connection;
use super::cx::Cx;
use super::exchange::{Acted, After, Client, Instead, Outcome, Request, Unanswered, abandoned, error, refuse};
use super::upload::{Left, Upload};
use crate::config::model::{ProxyBy, Upstream};
use crate::metrics::{ServedBy, ServerStats};
use crate::proxy::Tried;
use crate::proxy::retry::{Failure, Situation, Verdict, delay_before_retry, may_retry};
use crate::proxy::upgrade::{self, WebSocketKey};
use crate::runtime::time::{sleep, timeout};
use crate::util::template::Encoding;

/// A request being forwarded.
struct Forward<'a> {
    cx: &'a Cx<'a>,
    worker: &'a Worker,
    connection: &'a Connection,
    upstream: usize,
    config: &'a Upstream,
    request: Request<'a>,
    presence: Presence<'a>,
    /// The server that the client's cookie leads to, as long as it may go there.
    belongs_to: Cell<Option<usize>>,
    /// Protocol that the client wants to leave HTTP for, as far as that is allowed.
    upgrade: Option<&'a [u8]>,
    /// What is asked of the server for a client that asked by extended CONNECT, where there is no key.
    websocket_key: Option<WebSocketKey>,
    /// What the request is to a server that does not speak HTTP; `None`: it does.
    gateway: Option<Box<Gateway<'a>>>,
    /// The final response is on its way to the client.
    is_relaying: Cell<bool>,
    /// It is under way in an application inside this process.
    active: Cell<Option<Active<'a>>>,
}

/// How a try failed.
struct TryFailed {
    situation: Situation,
    sent: bool,
}

/// Why no response came of a try.
enum NoResponse {
    Failed(TryFailed),
    /// The server had no room for a connection, and none in time: as a queue refuses.
    NoRoom,
    /// The client's body failed: its fault, not the server's.
    Body(BodyFailure),
    /// The client left.
    ClientGone,
    /// The client's connection broke while we relayed.
    Broken,
    /// It came, and something else is sent.
    Instead(Instead),
}

pub(super) async fn run(cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, upstream: usize) -> Acted {
    let Cx { worker, connection, request, .. } = *cx;
    let config = &worker.config.upstreams[upstream];
    let presence = client.answer.presence();
    client.answer.trail.upstream = Some(upstream as u16);
    let is_relaying = Cell::new(false);
    let sticky = config.sticky.as_ref();
    let belongs_to = Cell::new(sticky.and_then(|sticky| sticky.server(cx.cookie(&sticky.cookie)?)));
    let upgrade = match client.upload {
        _ if config.protocol.gateway().is_some() => None,
        Upload::H1 { .. } => upgrade::asked(request.head, request.bytes, &config.upgrade),
        Upload::Stream(_) if client.answer.is_to_connect() => {
            upgrade::asked(request.head, request.bytes, &config.upgrade)
        }
        Upload::Stream(_) | Upload::Nothing => None,
    };
    if client.answer.is_to_connect() && upgrade.is_none() {
        return error(501);
    }
    let websocket_key = client.answer.is_to_connect().then(|| WebSocketKey::new(rand::random()));
    let gateway = match config.protocol.gateway() {
        None => None,
        // Boxed: every request would carry its size.
        Some(form) => match Box::pin(gateway::find(cx, client, form)).await {
            Ok(gateway) => Some(gateway),
            Err(acted) => return acted,
        },
    };
    let app = config.in_process.map(|app| &*worker.stats.apps[app]);
    let forward = Forward {
        active: Cell::new(app.map(Active::begin)),
        cx,
        worker,
        connection,
        upstream,
        config,
        request,
        presence,
        belongs_to,
        upgrade,
        websocket_key,
        gateway,
        is_relaying,
    };
    let outgoing = match forward.outgoing(client).await {
        Ok(outgoing) => outgoing,
        Err(failure) => return body_failed(failure),
    };
    if let Some(mirrored) = &cx.options.mirror {
        mirror::mirror(&forward, &outgoing, mirrored);
    }
    let acted = match config.total_timeout.filter(|_| upgrade.is_none()) {
        None => forward.try_servers(client, fields, &outgoing).await,
        Some(most) => {
            let left = most.saturating_sub(request.started.elapsed());
            // Boxed: nobody else should pay for its place.
            match timeout(left, Box::pin(forward.try_servers(client, fields, &outgoing))).await {
                Ok(acted) => acted,
                Err(_) => forward.out_of_time(client),
            }
        }
    };
    if let Some(app) = app {
        in_process::count(app, &acted, client.answer.status());
    }
    if acted.is_err() && outgoing.is_whole.get() {
        client.left = Left::Kept(outgoing.kept.into_inner().into());
        // Those that have not been taken are still where they were.
        client.trailers = outgoing.trailers.into_inner().map(Box::new).or(client.trailers.take());
    }
    acted
}

/// The upstream that the route's variable names.
pub(super) fn named(cx: &Cx<'_>, by: &ProxyBy) -> usize {
    let mut name = cx.worker.hot.take_buffer(0);
    by.name.put(Encoding::Raw, cx, &mut name);
    let found = by.upstreams.iter().find(|(known, _)| known.as_bytes() == name).or(by.upstreams.first());
    debug_assert!(found.is_some_and(|(known, _)| known.as_bytes() == name), "the config knows all that it may be");
    cx.worker.hot.give_buffer_back(name);
    found.map_or(0, |(_, upstream)| *upstream)
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

impl Forward<'_> {
    fn stats(&self, server: usize) -> &ServerStats {
        &self.worker.stats.servers[self.upstream][server]
    }

    fn served_by(&self, server: usize) -> ServedBy {
        if let Some(app) = self.config.in_process {
            return self.in_process(app, server);
        }
        ServedBy::Server { upstream: self.upstream as u16, server: server as u16 }
    }

    /// The request has had all the time that it may take. What was under way for it is gone already.
    fn out_of_time(&self, client: &Client<'_>) -> Acted {
        let served_by = client.answer.trail.server.unwrap_or(ServedBy::Worker);
        let server = match served_by {
            ServedBy::Server { server, .. } => Some(usize::from(server)),
            ServedBy::App { app_worker, .. } => Some(usize::from(app_worker).min(self.config.servers.len() - 1)),
            ServedBy::Worker | ServedBy::Files => None,
        };
        if let Some(server) = server {
            // It is no time-out of the server's: the client may have been slow, or the request have waited for a place.
            self.stats(server).response_errors.inc();
            let server = &self.config.servers[server].address;
            tracing::warn!(upstream = %self.config.name, %server, "a request was given up behind total_timeout");
        }
        give_up(client, served_by, 504)
    }

    /// Tries one server after the other, as far as that may be done.
    async fn try_servers(&self, client: &mut Client<'_>, fields: &mut Vec<u8>, outgoing: &Outgoing) -> Acted {
        let mut tried = Tried::new();
        let mut tries = 0;
        let (mut was_sent, mut is_counted) = (false, false);
        // The server that is tried once more on a new connection.
        let mut again: Option<Busy<'_>> = None;
        let key = self.key();
        // The clock is not read at every step: without a body the first try begins within a microsecond of the self.request.
        let mut now = if outgoing.kept.borrow().is_empty() { self.request.started } else { self.worker.now() };
        loop {
            let is_fresh = again.is_some();
            let busy = match again.take() {
                Some(busy) => busy,
                None => match self.choose(&mut client.answer.trail, &tried, key, &mut now).await {
                    Chosen::Server(busy) => busy,
                    Chosen::Nobody | Chosen::Refused => {
                        let status = if tries == 0 { 503 } else { self.status_of_failure(was_sent) };
                        return give_up(client, ServedBy::Worker, status);
                    }
                    Chosen::ClientGone => return Ok(abandoned(ServedBy::Worker)),
                },
            };
            let server = busy.server;
            if !is_fresh && tried.contains(server) {
                // There is no other one: give it a moment to come back.
                let pause = sleep(delay_before_retry(true, self.config.connect_timeout));
                self.presence.watched().clear();
                if self.presence.while_client_stays(pause).await.is_err() {
                    return Ok(abandoned(self.served_by(server)));
                }
                now = self.worker.now();
            }
            tries += u32::from(!is_fresh);
            client.answer.trail.tries = tries;
            let stats = self.stats(server);
            client.answer.trail.server = Some(self.served_by(server));
            let begun = now;
            let failure = |situation, answer: &Answer<'_>, sent: bool| Failure {
                situation,
                idempotent: self.request.head.method.is_idempotent(),
                sent,
                response_begun: answer.has_begun(),
                body_kept: outgoing.is_kept.get(),
                fresh_connection_granted: is_fresh,
                tries,
                tries_max: self.config.retry.tries_max,
                elapsed: self.request.started.elapsed(),
                time_max: self.config.retry.time_max,
            };
            if !std::mem::replace(&mut is_counted, true) {
                self.worker.upstreams[self.upstream].borrow_mut().retries.on_request(now);
            }
            // An answer that nobody else could give better is passed on, whatever its status.
            let gives_up_answer = |answer: &Answer<'_>| {
                let failure = failure(Situation::ErrorStatus, answer, true);
                let is_wanted = may_retry(&failure, self.config.retry.policy) == Verdict::OtherServer
                    && self.is_another_free(&tried, server);
                let is_refused = is_wanted && !self.has_budget();
                if is_refused {
                    stats.retries_refused.inc();
                }
                is_wanted && !is_refused
            };
            // It has got nothing of the request: that is no retry.
            let has_other = || self.is_another_free(&tried, server);
            let (gives_up_answer, has_other_now) = (&gives_up_answer, &has_other);
            let next = Try { server, busy: &busy, fresh: is_fresh, now, gives_up_answer, has_other: has_other_now };
            let result = self.attempt(client, fields, outgoing, next).await;
            let failed = match result {
                Ok(outcome) => return Ok(outcome),
                Err(NoResponse::Failed(failed)) => failed,
                // What the same server has got once may go to no other one without being asked for.
                Err(NoResponse::NoRoom) if !(is_fresh && was_sent) && has_other() => {
                    tries -= u32::from(!is_fresh);
                    tried.insert(server);
                    continue;
                }
                Err(NoResponse::NoRoom) if was_sent => {
                    return give_up(client, ServedBy::Worker, self.status_of_failure(was_sent));
                }
                Err(NoResponse::NoRoom) => return give_up(client, ServedBy::Worker, 503),
                Err(NoResponse::Body(failure)) => return body_failed(failure),
                Err(NoResponse::Instead(instead)) => return Err(instead),
                Err(NoResponse::ClientGone | NoResponse::Broken) => return Ok(abandoned(self.served_by(server))),
            };
            self.count_failure(stats, server, &failed);
            was_sent |= failed.sent;
            let failure = failure(failed.situation, &client.answer, failed.sent);
            let mut verdict = may_retry(&failure, self.config.retry.policy);
            if verdict == Verdict::OtherServer && !self.may_spend(failed.situation) {
                stats.retries_refused.inc();
                verdict = Verdict::No;
            }
            // The race with an idle time-out says nothing of the server; a status has been noted with its answer.
            let is_noted = failed.situation == Situation::ErrorStatus;
            if !is_noted && verdict != Verdict::SameServerFreshConnection {
                let now = self.worker.now();
                let mut state = self.worker.upstreams[self.upstream].borrow_mut();
                state.balancer_mut().on_answer(server, now.saturating_duration_since(begun), false, now);
            }
            match verdict {
                Verdict::No => {
                    self.let_go(busy, failed.situation);
                    let status = match failed.situation {
                        Situation::ResponseTimeout => 504,
                        Situation::Refused => 503,
                        _ => self.status_of_failure(was_sent),
                    };
                    return give_up(client, self.served_by(server), status);
                }
                Verdict::SameServerFreshConnection => again = Some(busy),
                Verdict::OtherServer => {
                    self.let_go(busy, failed.situation);
                    tried.insert(server);
                }
            }
            stats.retries.inc();
            now = self.worker.now();
        }
    }

    /// The request is over at its server. An instance that has not answered may be about to be replaced: who waits for a place does
    /// not get one there before that is known.
    fn let_go(&self, busy: Busy<'_>, situation: Situation) {
        if situation == Situation::ResponseTimeout && self.config.is_supervised {
            busy.end_later(self.cx.worker);
        }
    }

    /// What a client is told where servers have failed. Instances of an application come back: what none of them has seen may be
    /// asked again, as if there had been no place.
    fn status_of_failure(&self, was_sent: bool) -> u16 {
        if self.config.is_of_application() && !was_sent { 503 } else { 502 }
    }

    fn has_budget(&self) -> bool {
        self.worker.upstreams[self.upstream].borrow_mut().retries.has(self.worker.now())
    }

    /// One that is up, has room, and was not tried.
    fn is_another_free(&self, tried: &Tried, server: usize) -> bool {
        let is_other = |other: &usize| *other != server && !tried.contains(*other);
        // A server of a later tier, or one that rests, would not be chosen.
        let is_member = |other| self.worker.upstreams[self.upstream].borrow().balancer().is_member(other);
        (0..self.config.servers.len()).filter(is_other).any(|other| is_member(other) && self.known().has_place(other))
    }

    /// The budget allows another try. A server that got nothing has not been given work in vain: to go elsewhere then costs no
    /// server anything.
    fn may_spend(&self, situation: Situation) -> bool {
        let is_free = matches!(situation, Situation::ConnectFailed | Situation::Refused);
        is_free || self.worker.upstreams[self.upstream].borrow_mut().retries.take(self.worker.now())
    }

    fn count_failure(&self, stats: &ServerStats, server: usize, failed: &TryFailed) {
        self.observe_failure(server, failed.situation);
        match failed.situation {
            Situation::ConnectFailed => stats.connect_errors.inc(),
            Situation::ReusedClosed => {} // the race with the server's idle time-out is nobody's fault
            Situation::ErrorStatus => {}  // it is counted by its status
            _ => {
                stats.response_errors.inc();
                if failed.situation == Situation::ResponseTimeout {
                    stats.response_timeouts.inc();
                }
                let server = &self.config.servers[server].address;
                tracing::warn!(upstream = %self.config.name, %server, situation = ?failed.situation, "server failed a request");
            }
        }
    }
}
