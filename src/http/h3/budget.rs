//! What a client may make us do for nothing: requests that it gives up before they are answered (CVE-2023-44487) or while
//! they are, and streams of unknown kinds.

use std::time::{Duration, Instant};

/// Length of a window in which resets are counted, as for HTTP/2: they follow each other, so that a client can have twice the
/// limit across the end of one, but not on average.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests answered that make up for one given up: as for HTTP/2.
const ANSWERED_PER_RESET: u32 = 10;

/// Streams that nobody knows, in the life of a connection. Clients that keep the protocol flexible open one (RFC 9114
/// section 7.2.8).
const UNKNOWN_STREAMS_MAX: u32 = 100;

/// Streams that a client may reset, or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetLimits {
    /// In a second.
    pub per_second: u32,
    /// In the life of a connection.
    pub total: u32,
    /// Before the answer has begun, or by a broken rule, beyond what answered requests make up for.
    pub early: u32,
}

/// Counts for one connection. `false` of each method: it was one too many, and the connection is to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    limits: ResetLimits,
    /// When the present window began, and the resets in it.
    window: Option<(Instant, u32)>,
    resets: u32,
    early_resets: u32,
    answered: u32,
    unknown_streams: u32,
}

impl Budget {
    /// For a new connection.
    pub fn new(limits: ResetLimits) -> Budget {
        Budget { limits, window: None, resets: 0, early_resets: 0, answered: 0, unknown_streams: 0 }
    }

    /// A request was answered to its end.
    pub fn on_answered(&mut self) {
        self.answered += 1;
        if self.answered >= ANSWERED_PER_RESET {
            self.answered = 0;
            self.early_resets = self.early_resets.saturating_sub(1);
        }
    }

    /// The client gave a request up before its answer began, or broke a rule.
    pub fn on_early_reset(&mut self) -> bool {
        self.early_resets = self.early_resets.saturating_add(1);
        self.early_resets <= self.limits.early
    }

    /// The client has reset or stopped a stream of a request under way, whatever has become of its answer.
    pub fn on_reset(&mut self, now: Instant) -> bool {
        let (began, count) = match self.window {
            Some((began, count)) if now.saturating_duration_since(began) < WINDOW => (began, count.saturating_add(1)),
            _ => (now, 1),
        };
        self.window = Some((began, count));
        self.resets = self.resets.saturating_add(1);
        count <= self.limits.per_second && self.resets <= self.limits.total
    }

    /// The client opened a stream of an unknown kind.
    pub fn on_unknown_stream(&mut self) -> bool {
        self.unknown_streams = self.unknown_streams.saturating_add(1);
        self.unknown_streams <= UNKNOWN_STREAMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ResetLimits = ResetLimits { per_second: 4, total: 10, early: 3 };

    #[test]
    fn resets_are_counted_by_the_second_and_for_life() {
        let (mut budget, begin) = (Budget::new(LIMITS), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        assert!((0..4).all(|n| budget.on_reset(at(n))));
        assert!(!budget.on_reset(at(999)));
        let mut budget = Budget::new(LIMITS);
        assert!((0..10).all(|n| budget.on_reset(at(n * 300))), "four in each second");
        assert!(!budget.on_reset(at(60_000)), "but not for ever");
        (0..100).for_each(|_| budget.on_answered());
        assert!(!budget.on_reset(at(120_000)));
    }

    #[test]
    fn answers_make_up_for_resets() {
        let mut budget = Budget::new(LIMITS);
        assert!((0..3).all(|_| budget.on_early_reset()));
        (0..10).for_each(|_| budget.on_answered());
        assert!(budget.on_early_reset());
        (0..9).for_each(|_| budget.on_answered());
        assert!(!budget.on_early_reset());
    }

    #[test]
    fn unknown_streams_end() {
        let mut budget = Budget::new(LIMITS);
        assert!((0..UNKNOWN_STREAMS_MAX).all(|_| budget.on_unknown_stream()));
        assert!(!budget.on_unknown_stream());
    }
}
