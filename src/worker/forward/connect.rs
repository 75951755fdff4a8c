//! Connections to servers: an idle one that is still good, or a new one.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::choose::Queued;
use super::dial::{WhenFull, dial};
use super::server::ServerConnection;
use super::websocket::Means;
use super::{Forward, NoResponse, TryFailed};
use crate::config::model::Protocol;
use crate::proxy::retry::Situation;
use crate::runtime::detached::Detached;
use crate::runtime::net::{BACKLOG_PAUSE_MAX, BACKLOG_PAUSE_MIN, Peek, is_backlog_full};
use crate::runtime::time::{sleep, timeout};
use crate::tls::Offer;
use crate::worker::link::{Acquired, Place};
use crate::worker::preamble;
use crate::worker::trail::{QueueEnd, Trail};

/// A wait for room in the backlog of a Unix socket, or in the queue of an application worker.
pub(super) struct Backlog<'a> {
    _queued: Queued<'a>,
    /// Those who wait for the same server at this worker try one after the other, in the order in which they came; `None`: it is
    /// not yet this one's turn.
    turn: Option<SemaphorePermit<'a>>,
    /// Until the next try.
    pause: Duration,
}

/// A way to a server.
pub(super) enum Connected {
    /// A connection of this request's own, and whether it was idle before.
    Own(ServerConnection, bool),
    Shared(Shared),
}

/// A place on a connection of HTTP/2 that others use too.
pub(super) struct Shared {
    pub(super) place: Place,
    /// Zero: there was one.
    pub(super) waited: Duration,
}

impl Forward<'_> {
    /// A place on a shared connection, an idle connection that is still good, or a new one.
    pub(super) async fn connect(
        &self,
        server: usize,
        must_be_fresh: bool,
        now: Instant,
        has_other: &dyn Fn() -> bool,
        trail: &mut Trail,
    ) -> Result<Connected, NoResponse> {
        let stats = self.stats(server);
        if self.config.protocol.is_multiplexed() {
            let fresh_since = must_be_fresh.then_some(now);
            if let Some(place) = self.worker.links[self.upstream][server].place(fresh_since) {
                if self.serves(&place) {
                    stats.reuses.inc();
                    return Ok(Connected::Shared(Shared { place, waited: Duration::ZERO }));
                }
            } else if let Some(connected) = Box::pin(self.connect_shared(server, fresh_since, now)).await? {
                return Ok(connected);
            }
        }
        let take_idle = || match must_be_fresh {
            true => None,
            false => self.worker.upstreams[self.upstream].borrow_mut().take_idle(server, now),
        };
        while let Some(idle) = take_idle() {
            if self.is_at_hand(&idle) {
                stats.reuses.inc();
                return Ok(Connected::Own(idle, true));
            }
        }
        if !must_be_fresh && let Some(connection) = self.take_shared(server, now) {
            stats.reuses.inc();
            return Ok(Connected::Own(connection, true));
        }
        let address = &self.config.servers[server].address;
        let mut backlog: Option<Box<Backlog<'_>>> = None;
        let at = (server, self.config.queue_timeout);
        if self.worker.backlogs[self.upstream][server].available_permits() == 0 {
            Box::pin(self.wait_for_backlog(&mut backlog, at, has_other, trail)).await?;
        }
        let connected = loop {
            let begun = self.worker.now();
            // Futures are handed on pinned: passed by value, each layer around them would hold a copy of its own.
            let header = preamble::header(self.connection, self.config.proxy_protocol, None);
            let connecting =
                pin!(dial(self.worker, self.upstream, server, header, Offer::Http1, begun, WhenFull::Tell));
            let connecting = pin!(timeout(self.config.connect_timeout, connecting));
            self.presence.watched().clear();
            let connected = match self.presence.while_client_stays(connecting).await {
                Ok(connected) => connected,
                Err(_) => return Err(NoResponse::ClientGone),
            };
            match &connected {
                Ok(Err(error)) if is_backlog_full(address, error) => {}
                _ => break connected,
            }
            // Boxed: every request would carry its size.
            Box::pin(self.wait_for_backlog(&mut backlog, at, has_other, trail)).await?;
        };
        let mut state = self.worker.upstreams[self.upstream].borrow_mut();
        match connected {
            Ok(Ok(connection)) => {
                state.on_connected(server);
                stats.connects.inc();
                Ok(Connected::Own(connection, false))
            }
            failed => {
                self.observe_connect_failure(
                    server,
                    failed.as_ref().ok().and_then(|connected| connected.as_ref().err()),
                );
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

    /// Waits for its turn or, where it has come, for a moment, because the backlog of a Unix socket is full: unlike one of TCP, it
    /// takes nobody in who would wait there. It is a wait for a place like any other, and ends like one. Nobody waits while another
    /// server has room. `at`: which server, and how long it may take.
    pub(super) async fn wait_for_backlog<'a>(
        &'a self,
        backlog: &mut Option<Box<Backlog<'a>>>,
        (server, patience): (usize, Duration),
        has_other: &dyn Fn() -> bool,
        trail: &mut Trail,
    ) -> Result<(), NoResponse> {
        let stats = &self.worker.stats.upstreams[self.upstream];
        if backlog.is_none() && has_other() {
            return Err(NoResponse::NoRoom);
        }
        if backlog.is_none() {
            let waiting = self.worker.shared.workers.iter().map(|worker| worker.upstreams[self.upstream].queue.value());
            if waiting.sum::<u64>() >= self.config.queue_max as u64 {
                stats.queue_full.inc();
                trail.queue_end = Some(QueueEnd::Full);
                return Err(NoResponse::NoRoom);
            }
        }
        let wait = backlog.get_or_insert_with(|| {
            Box::new(Backlog { _queued: Queued::begin(stats), turn: None, pause: BACKLOG_PAUSE_MIN })
        });
        // Less what it has waited for already, here or for a place.
        let patience = patience.saturating_sub(trail.queued);
        let since = Instant::now();
        if wait.turn.is_some() {
            // A pause is over before anybody would look.
            self.presence.watched().look_after_client();
        }
        let step = async {
            if wait.turn.is_none() {
                wait.turn = self.worker.backlogs[self.upstream][server].acquire().await.ok();
            } else {
                sleep(wait.pause).await;
                wait.pause = (2 * wait.pause).min(BACKLOG_PAUSE_MAX);
            }
        };
        self.presence.watched().clear();
        let waited = self.presence.while_client_stays(pin!(timeout(patience, pin!(step)))).await;
        trail.queued += since.elapsed();
        let (counter, end, why) = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => (&stats.queue_timeouts, QueueEnd::TimedOut, NoResponse::NoRoom),
            Err(_) => (&stats.queue_left, QueueEnd::ClientGone, NoResponse::ClientGone),
        };
        counter.inc();
        trail.queue_end = Some(end);
        Err(why)
    }

    /// The request goes over this connection: a server that may speak HTTP/1.1 is asked for other protocols over that, where
    /// HTTP/2 has no means for it.
    fn serves(&self, place: &Place) -> bool {
        self.config.protocol != Protocol::Auto || self.upgrade.is_none() || self.means_over(place) == Means::Connect
    }

    /// Waits for a place on a connection of HTTP/2; `None`: the server has chosen HTTP/1.1, or is to be asked over that.
    async fn connect_shared(
        &self,
        server: usize,
        fresh_since: Option<Instant>,
        now: Instant,
    ) -> Result<Option<Connected>, NoResponse> {
        let failed = |situation| Err(NoResponse::Failed(TryFailed { situation, sent: false }));
        let links = &self.worker.links[self.upstream][server];
        let acquiring = pin!(links.acquire(self.cx.worker, self.upstream, server, fresh_since));
        // Connecting has a time-out of its own; this one is for a place.
        let patience = self.config.connect_timeout.saturating_add(self.config.queue_timeout);
        self.presence.watched().clear();
        match self.presence.while_client_stays(pin!(timeout(patience, acquiring))).await {
            Err(_) => Err(NoResponse::ClientGone),
            Ok(Err(_)) => failed(Situation::Refused),
            Ok(Ok(Acquired::Failed)) => failed(Situation::ConnectFailed),
            Ok(Ok(Acquired::Http1(connection))) => Ok(connection.map(|connection| Connected::Own(connection, false))),
            Ok(Ok(Acquired::Place(place))) if !self.serves(&place) => Ok(None),
            Ok(Ok(Acquired::Place(place))) => Ok(Some(Connected::Shared(Shared { place, waited: now.elapsed() }))),
        }
    }

    /// The server would begin at once with a request on this idle connection: it is open, and nothing holds up its process.
    ///
    /// In this order: where the other side closes, what it has not read is gone as well.
    fn is_at_hand(&self, idle: &ServerConnection) -> bool {
        (!self.config.announces || idle.is_awaiting()) && idle.is_quiet()
    }

    /// An idle connection that another worker has no use for.
    fn take_shared(&self, server: usize, now: Instant) -> Option<ServerConnection> {
        if self.config.tls.is_some() {
            return None; // those there are in clear
        }
        let exchange = &self.worker.shared.idle[self.upstream][server];
        if exchange.is_empty() {
            return None;
        }
        loop {
            let (detached, _) = exchange.take(now, drop)?;
            if detached.peek() == Peek::Quiet
                && let Ok(stream) = detached.attach()
            {
                let idle = ServerConnection::new(self.worker, stream);
                if !self.config.announces || self.is_at_hand(&idle) {
                    return Some(idle);
                }
            }
        }
    }

    /// Keeps a connection whose response ended cleanly: here, or where all workers find it.
    pub(super) fn keep(&self, server: usize, connection: ServerConnection) {
        let now = self.worker.now();
        let spare = self.worker.upstreams[self.upstream].borrow_mut().keep(server, connection, now);
        let Some((spare, since)) = spare.filter(|_| self.config.keep_idle > 0) else { return };
        // A TLS session does not leave its worker.
        if let Some(stream) = spare.into_plain()
            && let Ok(detached) = Detached::of(stream)
        {
            drop(self.worker.shared.idle[self.upstream][server].put(detached, since));
        }
    }
}
