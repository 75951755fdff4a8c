//! For how long a client could send no content, because its streams together have used up the window of the connection:
//! some of them are not read, and the others must not be blamed for their silence (RFC 9113 section 5.2.1, RFC 9000 section 4.1).

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A window of fewer bytes counts as none: few clients send frames that small.
const WINDOW_BYTES_MIN: i64 = 1024;

/// The blocked time of one connection.
#[derive(Default)]
pub(super) struct Blocked {
    since: Cell<Option<Instant>>,
    /// Of earlier blocks.
    total: Cell<Duration>,
}

impl Blocked {
    /// The client's window is now this large.
    pub(super) fn note(&self, window_bytes: i64, now: Instant) {
        match (self.since.get(), window_bytes < WINDOW_BYTES_MIN) {
            (None, true) => self.since.set(Some(now)),
            (Some(since), false) => {
                self.total.set(self.total.get() + now.saturating_duration_since(since));
                self.since.set(None);
            }
            _ => {}
        }
    }

    /// All in all, up to `now`.
    pub(super) fn total(&self, now: Instant) -> Duration {
        let present = self.since.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.total.get() + present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_window_adds_up() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let blocked = Blocked::default();
        for (second, window_bytes, expect) in [
            (0, 65_535, 0),
            (1, 2000, 0),
            (2, 0, 0),
            (3, -5, 1),
            (5, 1023, 3),
            (6, 1024, 4),
            (9, 1 << 20, 4),
            (10, 0, 4),
        ] {
            blocked.note(window_bytes, at(second));
            assert_eq!(blocked.total(at(second)), Duration::from_secs(expect), "after {second} s");
        }
        assert_eq!(blocked.total(at(12)), Duration::from_secs(6));
    }
}
