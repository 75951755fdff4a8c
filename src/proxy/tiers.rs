//! Which tier of servers is held: the memory behind "fail back later".
//!
//! A data worker finds the tier to use by itself, from the servers that are up ([`super::balance`]), and so leaves a tier
//! at the moment it has too few. When an earlier tier recovers, that would also lead straight back. Where the operator
//! wants otherwise, the control thread keeps a tier *held* with this state machine: the workers use that one as long as it
//! has enough servers.
//!
//! ```text
//!              the one that is held has too few: the first that has enough
//!   first held ──────────────────────────────────────────────────────────▶ a later one held
//!       ▲                                                                        │
//!       └─────── an earlier one has had enough for the delay, or this one fails ─┘
//! ```
//!
//! Pure: what is enough and what time it is come in.

use std::time::{Duration, Instant};

use crate::config::model::FailBack;

/// The tier that is held of one upstream.
#[derive(Clone, Debug)]
pub struct Tiers {
    fail_back: FailBack,
    held: usize,
    /// The earliest tier that has had enough servers all the time, and since when.
    recovering: Option<(usize, Instant)>,
}

impl Tiers {
    /// The first one is.
    pub fn new(fail_back: FailBack) -> Tiers {
        Tiers::holding(fail_back, 0)
    }

    /// The one of index `held` is, since a config before.
    pub fn holding(fail_back: FailBack, held: usize) -> Tiers {
        Tiers { fail_back, held, recovering: None }
    }

    /// Index of the one that is held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether workers need nobody to hold a tier: they would use the first that has enough in any case.
    pub fn is_idle(fail_back: FailBack) -> bool {
        fail_back == FailBack::After(Duration::ZERO)
    }

    /// Takes, for each tier, whether it has enough servers. Returns the one that is held: an index into `has_enough`.
    pub fn on_look(&mut self, has_enough: &[bool], now: Instant) -> usize {
        let Some(first) = has_enough.iter().position(|enough| *enough) else {
            // Nobody has enough: the workers take what there is, and whoever recovers first is used.
            self.recovering = None;
            return self.held;
        };
        let still_works = has_enough.get(self.held).copied().unwrap_or(false);
        if first >= self.held || !still_works {
            // There is no reason to wait for an earlier one.
            self.held = first;
            self.recovering = None;
            return self.held;
        }
        let since = match self.recovering {
            Some((tier, since)) if tier == first => since,
            _ => now,
        };
        self.recovering = Some((first, since));
        if matches!(self.fail_back, FailBack::After(delay) if now.saturating_duration_since(since) >= delay) {
            self.held = first;
            self.recovering = None;
        }
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tiers held after looks a second apart; each look is a text with `+` for each tier that has enough.
    fn held(fail_back: FailBack, looks: &[&str]) -> Vec<usize> {
        let start = Instant::now();
        let mut tiers = Tiers::new(fail_back);
        let look = |(second, text): (u64, &&str)| {
            let has_enough: Vec<bool> = text.chars().map(|c| c == '+').collect();
            tiers.on_look(&has_enough, start + Duration::from_secs(second))
        };
        (0..).zip(looks).map(look).collect()
    }

    #[test]
    fn an_earlier_tier_is_used_again_after_its_delay() {
        let after = |seconds| FailBack::After(Duration::from_secs(seconds));
        let looks = ["++", "-+", "++", "++", "-+", "++", "++", "++", "++"];
        assert_eq!(held(after(0), &looks), [0, 1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(held(after(2), &looks), [0, 1, 1, 1, 1, 1, 1, 0, 0], "a relapse starts the time anew");
        assert_eq!(held(FailBack::Manual, &looks), [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        // The one in use fails: back at once, whatever the policy.
        for policy in [after(60), FailBack::Manual] {
            assert_eq!(held(policy, &["-+", "++", "+-", "++"]), [1, 1, 0, 0]);
            assert_eq!(held(policy, &["-+", "--", "+-"]), [1, 1, 0]);
            assert_eq!(held(policy, &["--+", "+-+", "+--", "-++", "+++"]), [2, 2, 0, 1, 1]);
        }
    }

    proptest! {
        /// It has enough, if any has; and by hand it changes only when it has not.
        #[test]
        fn the_tier_that_is_held_has_enough(looks in prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 1..50)) {
            for fail_back in [FailBack::Manual, FailBack::After(Duration::from_secs(3))] {
                let (start, mut tiers, mut before) = (Instant::now(), Tiers::new(fail_back), 0);
                for (second, has_enough) in (0..).zip(&looks) {
                    let held = tiers.on_look(has_enough, start + Duration::from_secs(second));
                    prop_assert!(has_enough[held] || !has_enough.contains(&true) );
                    if fail_back == FailBack::Manual && has_enough[before] {
                        prop_assert_eq!(held, before);
                    }
                    before = held;
                }
            }
        }
    }
}
