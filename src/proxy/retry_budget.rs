//! How many requests may be sent a second time: a share of those that were sent a first time.
//!
//! A server that fails under load gets more load when every failure is tried again elsewhere, and so do its neighbours, until
//! all of them fail. The budget lets through what single failures need (also many at once, when a busy server dies) and
//! bounds what goes on and on. Token counts over a sliding window, as Finagle's `RetryBudget` has them. Pure.

use std::time::{Duration, Instant};

/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);

/// Parts of it.
const SLOTS: usize = 10;

/// Retries in a window that are allowed whatever the traffic: a site with few visitors has few requests to take a share of.
const RESERVE: i64 = 100;

/// What one retry costs; a request pays in a hundredth of it for each percent.
const RETRY: i64 = 100;

/// The budget of one upstream on one data worker.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// `None`: without end.
    percent: Option<u32>,
    /// Paid in less spent, by part of the window.
    slots: [i64; SLOTS],
    begun: Instant,
    /// Parts that have begun since `begun`.
    turns: u64,
}

impl RetryBudget {
    /// Retries may be `percent` of the requests; `None`: any number.
    pub fn new(percent: Option<u32>, now: Instant) -> RetryBudget {
        RetryBudget { percent, slots: [0; SLOTS], begun: now, turns: 0 }
    }

    /// The same account under another share.
    pub fn with_share(self, percent: Option<u32>) -> RetryBudget {
        RetryBudget { percent, ..self }
    }

    /// A request is sent for the first time.
    pub fn on_request(&mut self, now: Instant) {
        if let Some(percent) = self.percent {
            *self.slot(now) += i64::from(percent);
        }
    }

    /// Takes a retry out of the budget; `false`: there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.percent.is_none() {
            return true;
        }
        if !self.has(now) {
            return false;
        }
        *self.slot(now) -= RETRY;
        true
    }

    /// There is a retry left.
    pub fn has(&mut self, now: Instant) -> bool {
        self.slot(now);
        self.percent.is_none() || self.slots.iter().sum::<i64>() + RESERVE * RETRY >= RETRY
    }

    /// The present part; those that are over for a whole window are forgotten.
    fn slot(&mut self, now: Instant) -> &mut i64 {
        let part = WINDOW.as_millis() as u64 / SLOTS as u64;
        let turn = now.saturating_duration_since(self.begun).as_millis() as u64 / part;
        // A time that goes back belongs to the present part.
        let passed = turn.saturating_sub(self.turns);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[((self.turns + step) % SLOTS as u64) as usize] = 0;
        }
        self.turns += passed;
        &mut self.slots[(self.turns % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Retries let through of `wanted`.
    fn taken(budget: &mut RetryBudget, wanted: usize, now: Instant) -> usize {
        (0..wanted).filter(|_| budget.take(now)).count()
    }

    #[test]
    fn single_failures_pass_and_a_storm_is_bounded() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = RetryBudget::new(Some(20), start);
        assert_eq!(taken(&mut budget, 500, at(0)), 100, "the reserve");
        // 1000 requests a second, every one of which fails and wants to be tried again.
        let mut let_through = 0;
        for ms in 1..=20_000 {
            budget.on_request(at(ms));
            let_through += taken(&mut budget, 1, at(ms));
        }
        assert!((4000..=4200).contains(&let_through), "{let_through}: a fifth, and the reserve of a window");
        // All is well for a while: then a server dies with 1000 requests on it.
        for ms in 20_000..40_000 {
            budget.on_request(at(ms));
        }
        assert_eq!(taken(&mut budget, 1000, at(40_000)), 1000);
        // Silence: what was saved is forgotten.
        assert_eq!(taken(&mut budget, 500, at(60_000)), 100);
    }

    #[test]
    fn without_a_share_there_is_the_reserve_and_without_a_budget_no_end() {
        let now = Instant::now();
        let mut none = RetryBudget::new(Some(0), now);
        (0..1000).for_each(|_| none.on_request(now));
        assert_eq!(taken(&mut none, 1000, now), 100);
        assert_eq!(taken(&mut RetryBudget::new(None, now), 1000, now), 1000);
    }

    proptest! {
        #[test]
        fn never_more_than_a_share_and_the_reserve_in_any_window(
            percent in 0u32..=100,
            steps in prop::collection::vec((0u64..3000, any::<bool>()), 1..400),
        ) {
            let start = Instant::now();
            let mut budget = RetryBudget::new(Some(percent), start);
            let (mut ms, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (wait, is_retry) in steps {
                ms += wait;
                let now = start + Duration::from_millis(ms);
                if !is_retry {
                    budget.on_request(now);
                    requests.push(ms);
                } else {
                    let has = budget.has(now);
                    prop_assert_eq!(budget.take(now), has);
                    if has {
                        retries.push(ms);
                    }
                }
                let within = |times: &[u64], window: u64| times.iter().filter(|at| **at + window > ms).count() as i64;
                let paid = within(&requests, 11_000) * i64::from(percent) / 100 + RESERVE + 1;
                prop_assert!(within(&retries, 9_000) <= paid);
            }
        }
    }
}
