//! What a client may make us do for nothing: requests that it gives up before they are answered (CVE-2023-44487), and
//! streams of unknown kinds.

/// Requests answered that make up for one given up: as for HTTP/2.
const ANSWERED_PER_RESET: u32 = 10;

/// Streams that nobody knows, in the life of a connection. Clients that keep the protocol flexible open one (RFC 9114
/// section 7.2.8).
const UNKNOWN_STREAMS_MAX: u32 = 100;

/// Counts for one connection. `false` of each method: it was one too many, and the connection is to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    resets_max: u32,
    resets: u32,
    answered: u32,
    unknown_streams: u32,
}

impl Budget {
    /// `resets_max`: requests given up early, beyond what answered ones make up for.
    pub fn new(resets_max: u32) -> Budget {
        Budget { resets_max, resets: 0, answered: 0, unknown_streams: 0 }
    }

    /// A request was answered to its end.
    pub fn on_answered(&mut self) {
        self.answered += 1;
        if self.answered >= ANSWERED_PER_RESET {
            self.answered = 0;
            self.resets = self.resets.saturating_sub(1);
        }
    }

    /// The client gave a request up before its answer began.
    pub fn on_early_reset(&mut self) -> bool {
        self.resets = self.resets.saturating_add(1);
        self.resets <= self.resets_max
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

    #[test]
    fn answers_make_up_for_resets() {
        let mut budget = Budget::new(3);
        assert!((0..3).all(|_| budget.on_early_reset()));
        (0..10).for_each(|_| budget.on_answered());
        assert!(budget.on_early_reset());
        (0..9).for_each(|_| budget.on_answered());
        assert!(!budget.on_early_reset());
    }

    #[test]
    fn unknown_streams_end() {
        let mut budget = Budget::new(3);
        assert!((0..UNKNOWN_STREAMS_MAX).all(|_| budget.on_unknown_stream()));
        assert!(!budget.on_unknown_stream());
    }
}
