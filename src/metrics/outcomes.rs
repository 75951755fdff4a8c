//! What a data worker notes of a server's answers for outlier detection: four numbers with one writer.
//!
//! The worker decides nothing: the control thread reads these every tenth of a second ([`crate::proxy::outlier`]).

use super::{Counter, Gauge};

/// Successes and failures of one server, as one worker sees them.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Requests that the server answered well.
    pub successes: Counter,
    /// Requests that it failed, of the kinds that count.
    pub failures: Counter,
    /// Times that this worker alone saw as many failures in a row as eject a server.
    pub streaks: Counter,
    /// Failures in a row up to now.
    pub row: Gauge,
    /// The life of the server that `row` belongs to, see [`Outcomes::on_failure`].
    life: Gauge,
}

impl Outcomes {
    /// A good answer.
    #[inline]
    pub fn on_success(&self) {
        self.successes.inc();
        if self.row.value() != 0 {
            self.row.set(0);
        }
    }

    /// A failure. `consecutive` in a row are a streak; 0: none are. `life` is another number each time that the server has
    /// come back from an ejection: a row from before does not count on.
    pub fn on_failure(&self, consecutive: u32, life: u64) {
        self.failures.inc();
        if self.life.value() != life {
            self.life.set(life);
            self.row.set(0);
        }
        self.row.inc();
        if consecutive > 0 && self.row.value() >= u64::from(consecutive) {
            self.streaks.inc();
            self.row.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streak_is_unbroken_and_within_one_life() {
        let outcomes = Outcomes::default();
        let fail = |life| outcomes.on_failure(3, life);
        fail(0);
        fail(0);
        outcomes.on_success();
        fail(0);
        fail(0);
        assert_eq!((outcomes.streaks.value(), outcomes.row.value()), (0, 2));
        fail(0);
        assert_eq!((outcomes.streaks.value(), outcomes.row.value()), (1, 0));
        fail(0);
        fail(0);
        fail(1);
        assert_eq!((outcomes.streaks.value(), outcomes.row.value()), (1, 1), "back from an ejection");
        assert_eq!((outcomes.successes.value(), outcomes.failures.value()), (1, 8));
    }
}
