//! How long a server takes to answer, as a moving average that is forgotten while nothing is sent there.

use std::time::{Duration, Instant};

/// Share of a new answer in the average.
const GAIN: f64 = 0.1;

/// Without answers, the average falls to 1/e of itself in this time: a server that was slow once is tried again.
const FORGOTTEN_IN: Duration = Duration::from_secs(10);

/// The average of one server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResponseTime {
    /// Seconds at `at`.
    average: f64,
    /// The last answer; `None`: there was none.
    at: Option<Instant>,
}

/// A server that has only failed is taken for this slow, at least.
const FIRST_FAILURE: Duration = Duration::from_secs(1);

impl ResponseTime {
    /// Takes an answer that took `took`. A failure never makes a server look quicker: one that refuses at once would draw
    /// all requests.
    pub(super) fn note(&mut self, took: Duration, is_ok: bool, now: Instant) {
        let (took, average) = (took.as_secs_f64(), self.average_at(now));
        self.average = match (self.at, is_ok) {
            (None, true) => took,
            // Nothing is known of how quick it could be.
            (None, false) => took.max(FIRST_FAILURE.as_secs_f64()),
            (Some(_), true) => average + GAIN * (took - average),
            (Some(_), false) => average.max(took),
        };
        self.at = Some(now);
    }

    /// Seconds that requests spend there in relation to what may be sent: the time of one, times those under way and the
    /// next one, by weight. A server that never answered is asked first, but by one request at a time.
    pub(super) fn cost(&self, active: u32, share: u32, now: Instant) -> f64 {
        match self.at {
            None if active == 0 => 0.0,
            None => f64::MAX,
            Some(_) => self.average_at(now) * f64::from(active + 1) / f64::from(share.max(1)),
        }
    }

    fn average_at(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let silent = now.saturating_duration_since(at);
        // Under load the answers come one after the other, and the exponential makes no difference.
        if silent < FORGOTTEN_IN / 1000 {
            return self.average;
        }
        self.average * (-silent.as_secs_f64() / FORGOTTEN_IN.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_average_follows_is_forgotten_and_is_not_bettered_by_failures() {
        let now = Instant::now();
        let mut time = ResponseTime::default();
        assert_eq!(time.cost(0, 1, now), 0.0);
        assert_eq!(time.cost(1, 1, now), f64::MAX);
        time.note(100 * MS, true, now);
        assert!((time.cost(0, 1, now) - 0.1).abs() < 1e-9);
        assert!((time.cost(3, 2, now) - 0.2).abs() < 1e-9);
        (0..100).for_each(|_| time.note(10 * MS, true, now));
        assert!((time.cost(0, 1, now) - 0.01).abs() < 1e-3);
        time.note(MS / 10, false, now);
        assert!((time.cost(0, 1, now) - 0.01).abs() < 1e-3, "refused at once");
        time.note(1000 * MS, false, now);
        assert!((time.cost(0, 1, now) - 1.0).abs() < 1e-3, "failed late");
        let later = now + FORGOTTEN_IN * 7;
        assert!(time.cost(0, 1, later) < 0.001);
        let mut refusing = ResponseTime::default();
        refusing.note(MS / 10, false, now);
        assert!(refusing.cost(0, 1, now) >= 1.0, "the first thing known of it is a quick failure");
    }
}
