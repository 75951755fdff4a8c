//! When an application may be tried again behind failures: pauses that double, with jitter, and seldom once it has failed.

use std::time::{Duration, Instant};

use super::Rules;
use crate::util::random::Random;

/// Failures in a row, and the pause behind the last one.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    failed_at: Option<Instant>,
    until: Option<Instant>,
    random: Random,
}

impl Backoff {
    /// Without failures.
    pub fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, failed_at: None, until: None, random: Random::new(seed) }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The last failure that is not forgiven.
    pub fn failed_at(&self) -> Option<Instant> {
        self.failed_at
    }

    /// When it may be tried again; `None`: at any time.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it may be tried now.
    pub fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether it has failed: only seldom tried again.
    pub fn has_failed(&self, rules: &Rules) -> bool {
        self.failures >= rules.failures_max
    }

    /// One more failure.
    pub fn fail(&mut self, rules: &Rules, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        let pause = match self.has_failed(rules) {
            true => rules.failed_retry,
            // Beyond 2^20 the longest pause counts in any case.
            false => rules.backoff.saturating_mul(1 << (self.failures - 1).min(20)).min(rules.backoff_max),
        };
        self.until = Some(now + jittered(pause, &mut self.random));
    }

    /// A failure that no other try will mend: it has failed.
    pub fn give_up(&mut self, rules: &Rules, now: Instant) {
        self.failures = self.failures.max(rules.failures_max.saturating_sub(1));
        self.fail(rules, now);
    }

    /// What was is forgotten.
    pub fn forgive(&mut self) {
        (self.failures, self.failed_at, self.until) = (0, None, None);
    }
}

/// A quarter more or less.
fn jittered(pause: Duration, random: &mut Random) -> Duration {
    pause * 3 / 4 + pause / 2 * u32::try_from(random.below(1001)).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_become_rare_when_it_has_failed() {
        let rules = Rules { failures_max: 6, ..Rules::plain(1, 1) };
        let now = Instant::now();
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            assert!(backoff.allows(now));
            for expected in [1u32, 2, 4, 8, 8, 60, 60] {
                backoff.fail(&rules, now);
                let pause = backoff.until().unwrap() - now;
                let middle = Duration::from_secs(expected.into());
                assert!(pause >= middle * 3 / 4 && pause <= middle * 5 / 4, "seed {seed}: {pause:?} for {middle:?}");
                assert!(!backoff.allows(now) && backoff.allows(now + pause));
                assert_eq!(backoff.has_failed(&rules), expected == 60, "seed {seed}");
            }
            backoff.forgive();
            assert!(backoff.allows(now) && backoff.failures() == 0);
        }
    }
}
