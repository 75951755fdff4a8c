//! When the parts of a request came: what HAProxy's timers Th, Ti and TR tell.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Times of the request that a connection waits for or reads. Noted on the way; read once its head is complete.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    handshake: Cell<Option<Duration>>,
    waiting_since: Cell<Option<Instant>>,
    waited_since: Cell<Option<Instant>>,
    head_begun: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
}

/// How long the parts took; `None`: that part is not known, or there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// The TLS handshake, for the first request of a connection.
    pub(super) handshake: Option<Duration>,
    /// Silence before the request's first byte.
    pub(super) idle: Option<Duration>,
    /// First byte of the head to its last.
    pub(super) read: Duration,
}

impl Arrival {
    /// The TLS handshake took this long.
    pub(super) fn note_handshake(&self, took: Duration) {
        self.handshake.set(Some(took));
    }

    /// A request ended at `now`.
    pub(super) fn note_end(&self, now: Instant) {
        self.ended.set(Some(now));
    }

    /// What the client was to take since a request ended was more than a socket takes at once: the wait for the next
    /// request did not begin with that end.
    pub(super) fn forget_end(&self) {
        self.ended.set(None);
    }

    /// The wait for the next request begins, unless it has begun already; returns when. It began with the end of the last
    /// request, if that was noted: this saves a look at the clock.
    pub(super) fn begin_waiting(&self, now: impl FnOnce() -> Instant) -> Instant {
        let since = self.waiting_since.get().or(self.ended.take()).unwrap_or_else(now);
        self.waiting_since.set(Some(since));
        since
    }

    /// Bytes of a request have come: the wait is over.
    pub(super) fn end_waiting(&self) {
        self.waited_since.set(self.waiting_since.take());
    }

    /// These bytes are not a whole head.
    pub(super) fn begin_head(&self, now: Instant) {
        self.head_begun.set(Some(now));
    }

    /// The head was complete at `now`; forgets what was noted.
    pub(super) fn complete(&self, now: Instant) -> Waits {
        let begun = self.head_begun.take().unwrap_or(now);
        Waits {
            handshake: self.handshake.take(),
            idle: self.waited_since.take().map(|since| begun.saturating_duration_since(since)),
            read: now.saturating_duration_since(begun),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_told_once() {
        let (arrival, start) = (Arrival::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        arrival.note_handshake(Duration::from_millis(7));
        assert_eq!(arrival.begin_waiting(|| at(10)), at(10));
        assert_eq!(arrival.begin_waiting(|| at(20)), at(10), "it goes on");
        arrival.end_waiting();
        arrival.begin_head(at(50));
        let ms = Duration::from_millis;
        assert_eq!(arrival.complete(at(90)), Waits { handshake: Some(ms(7)), idle: Some(ms(40)), read: ms(40) });
        // The next one of a pipeline was there already.
        assert_eq!(arrival.complete(at(95)), Waits::default());
        arrival.begin_waiting(|| at(100));
        arrival.end_waiting();
        assert_eq!(arrival.complete(at(130)), Waits { idle: Some(ms(30)), ..Waits::default() });
        // The end of a request is the beginning of the wait for the next one, once, and unless the client was slow to take it.
        arrival.note_end(at(140));
        assert_eq!(arrival.begin_waiting(|| at(150)), at(140));
        arrival.end_waiting();
        assert_eq!(arrival.begin_waiting(|| at(160)), at(160));
        arrival.end_waiting();
        arrival.note_end(at(170));
        arrival.forget_end();
        assert_eq!(arrival.begin_waiting(|| at(180)), at(180));
    }
}
