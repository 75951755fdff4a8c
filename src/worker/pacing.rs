//! How long the next bytes of a request body are waited for: by their silence, and by the rate at which they come.

use std::time::{Duration, Instant};

use super::Worker;
use super::body::BodyFailure;
use super::watch::{OnExpiry, Watched};
use crate::guard::Pace;

/// The pace of one body.
#[derive(Default)]
pub(super) struct Pacing {
    pace: Pace,
    /// The client may be silent for as long as whoever it talks to allows.
    is_off: bool,
}

/// A wait under way. Without a least rate the clock is not read.
pub(super) struct Waiting {
    since: Option<Instant>,
}

impl Pacing {
    /// From now on nobody is too slow: the body is one side of a dialogue.
    pub(super) fn switch_off(&mut self) {
        self.is_off = true;
    }

    /// Sets the deadline of `watched` for a wait that begins now. Errors: the client has been too slow so far.
    pub(super) fn begin(
        &self,
        worker: &Worker,
        watched: &Watched,
        on_expiry: OnExpiry,
    ) -> Result<Waiting, BodyFailure> {
        if self.is_off {
            watched.clear();
            return Ok(Waiting { since: None });
        }
        let http = &worker.config.http;
        let left = self.pace.left(&http.body_rate);
        if left.is_some_and(|left| left.is_zero()) {
            return Err(self.is_late(worker));
        }
        watched.set(left.map_or(http.body_timeout, |left| left.min(http.body_timeout)), on_expiry);
        Ok(Waiting { since: left.map(|_| worker.now()) })
    }

    /// The wait is over and has brought `bytes`; for the time `blocked` of it the client could not send.
    pub(super) fn end(&mut self, waiting: Waiting, bytes: usize, blocked: Duration) {
        if let Some(since) = waiting.since {
            self.pace.on_bytes(bytes, since.elapsed().saturating_sub(blocked));
        }
    }

    /// Counts a body that is given up because of its client.
    pub(super) fn is_late(&self, worker: &Worker) -> BodyFailure {
        let left = self.pace.left(&worker.config.http.body_rate);
        worker.stats.http.timeouts.inc();
        worker.stats.http.slow_bodies.add(u64::from(left.is_some_and(|left| left.is_zero())));
        BodyFailure::TimedOut
    }
}
