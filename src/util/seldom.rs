//! Something that may be said seldom, however often there is reason to.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lets one of many through in a time, and counts the others.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Cell<Option<Instant>>,
    held_back: Cell<u64>,
}

impl Seldom {
    /// At most one in `every`.
    pub const fn new(every: Duration) -> Seldom {
        Seldom { every, last: Cell::new(None), held_back: Cell::new(0) }
    }

    /// There is reason to say it. `Some`: say it, and that so many times before it was not said; `None`: do not.
    pub fn may_say(&self, now: Instant) -> Option<u64> {
        if self.last.get().is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.held_back.set(self.held_back.get() + 1);
            return None;
        }
        self.last.set(Some(now));
        Some(self.held_back.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_said_and_then_one_in_a_time() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let seldom = Seldom::new(10 * second);
        let said: Vec<_> = [0, 1, 9, 10, 19, 20].iter().map(|at| seldom.may_say(now + *at * second)).collect();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
