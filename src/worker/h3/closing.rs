//! When a connection ends: RFC 9114 section 5.
//!
//! ```text
//!   open ──drain, age, many requests──▶ announced ──requests on their way have come──▶ ending ──▶ closed
//!     └───────────────idle──────────────────────────────────────────────────────────────▲
//! ```
//! The first GOAWAY tells the client to send no more requests, the second which of those that it sent meanwhile are
//! answered. The connection is closed once everything sent has been acknowledged, or nothing comes back any more.

use std::cell::Cell;
use std::task::Context;
use std::time::{Duration, Instant};

use super::super::connection::{Connection, may_keep};
use super::super::watch::OnExpiry;
use super::link::Link;
use crate::http::h3::{ErrorCode, GOAWAY_LAST, goaway};

/// How long requests that are on their way may take to come: some round trips, and not less than this.
const ANNOUNCED_MIN: Duration = Duration::from_millis(100);
const ANNOUNCED_ROUND_TRIPS: u32 = 3;

/// How long the last GOAWAY may take to arrive: a round trip, and not less than this.
const GOODBYE_MIN: Duration = Duration::from_millis(20);

/// How long the last answers may take to be acknowledged.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// While a request is answered, the client is shown this often in its idle time that we are there: it may wait longer. QUIC's
/// own idle time is longer by some seconds, so that where ours is short a ping in each of these will do.
const PINGS_PER_IDLE_TIME: u32 = 3;
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Announced {
        until: Instant,
    },
    Ending {
        /// The last GOAWAY has had its time to arrive by then.
        from: Instant,
        /// Since there is no request under way.
        until: Option<Instant>,
    },
}

/// How far the end of a connection has come.
#[derive(Default)]
pub(super) struct Closing {
    stage: Cell<Stage>,
    /// The next sign of life.
    ping_at: Cell<Option<Instant>>,
    /// It is too early to close.
    is_waiting: Cell<bool>,
    /// Enough requests have been served.
    is_worn: Cell<bool>,
}

impl Closing {
    /// Requests that come now are not answered.
    pub(super) fn rejects_requests(&self) -> bool {
        matches!(self.stage.get(), Stage::Ending { .. })
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = match self.stage.get() {
            Stage::Open => None,
            Stage::Announced { until } => Some(until),
            Stage::Ending { from, until } => until.map(|until| if self.is_waiting.get() { from } else { until }),
        };
        [stage, self.ping_at.get()].into_iter().flatten().min()
    }

    /// A request has come; counts it.
    pub(super) fn on_request(&self, link: &Link, connection: &Connection) {
        if !may_keep(&link.worker(), connection) {
            self.is_worn.set(true);
        }
    }
}

impl Link {
    /// Looks whether the connection comes to its end.
    pub(super) fn look_at_the_end(&self, connection: &Connection, cx: &mut Context<'_>, now: Instant) {
        let is_draining = self.idle.poll_draining(cx, self.is_draining());
        if !self.is_established() {
            if self.idle.expired() || is_draining {
                self.worker().stats.http.timeouts.add(u64::from(self.idle.expired()));
                self.close(ErrorCode::NO_ERROR);
            }
            return;
        }
        self.show_life(now);
        let is_idle = self.requests.get() == 0 && self.idle.expired();
        match self.closing.stage.get() {
            Stage::Open if is_idle => self.end(now),
            Stage::Open if is_draining || self.closing.is_worn.get() || is_old(self, connection) => {
                self.send_control(&goaway(GOAWAY_LAST));
                let round_trips = self.quic.borrow().rtt() * ANNOUNCED_ROUND_TRIPS;
                self.closing.stage.set(Stage::Announced { until: now + round_trips.max(ANNOUNCED_MIN) });
            }
            Stage::Announced { until } if now >= until => self.end(now),
            Stage::Open | Stage::Announced { .. } => return,
            Stage::Ending { .. } => {}
        }
        let Stage::Ending { from, until } = self.closing.stage.get() else { return };
        if self.requests.get() > 0 {
            return self.closing.stage.set(Stage::Ending { from, until: None });
        }
        let until = until.unwrap_or(now + ENDING_MAX);
        self.closing.stage.set(Stage::Ending { from, until: Some(until) });
        self.closing.is_waiting.set(now < from);
        if now < from {
            return;
        }
        // Our control stream is always there.
        let is_acknowledged = self.quic.borrow_mut().streams().send_streams() <= 1;
        if is_acknowledged || now >= until {
            self.close(ErrorCode::NO_ERROR);
        }
    }

    fn end(&self, now: Instant) {
        self.send_control(&goaway(self.next_request_id.get()));
        let from = now + self.quic.borrow().rtt().max(GOODBYE_MIN);
        self.closing.stage.set(Stage::Ending { from, until: None });
    }

    /// QUIC ends a connection on which nothing is sent for the idle time, although a request may take longer.
    fn show_life(&self, now: Instant) {
        if self.requests.get() == 0 {
            return self.closing.ping_at.set(None);
        }
        let is_due = self.closing.ping_at.get().is_some_and(|at| now >= at);
        if is_due {
            self.quic.borrow_mut().ping();
        }
        if is_due || self.closing.ping_at.get().is_none() {
            let interval = self.worker().config.http.keep_alive_timeout / PINGS_PER_IDLE_TIME;
            self.closing.ping_at.set(Some(now + interval.max(PING_INTERVAL_MIN)));
        }
    }

    /// A request is under way.
    pub(super) fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.idle.clear();
    }

    /// A request is no longer under way.
    pub(super) fn end_request(&self) {
        self.requests.set(self.requests.get() - 1);
        if self.requests.get() == 0 {
            self.idle.set(self.worker().config.http.keep_alive_timeout, OnExpiry::Wake);
        }
        self.wake();
    }
}

/// It is older than connections may become, and has been of use.
fn is_old(link: &Link, connection: &Connection) -> bool {
    connection.requests.get() > 0 && connection.opened.elapsed() >= link.worker().config.http.keep_alive_time
}
