//! Whether a request body comes too slowly, on average.
//!
//! Only the time counts in which we wait for the client: while a server or an application behind us does not take what has
//! come, nobody reads, and the client could not send if it wanted to. A client may make us wait for the grace and for as
//! long as its bytes take at the least rate. In: waits and bytes. Out: how much longer it may take. Pure.

use std::time::Duration;

/// The least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastRate {
    /// 0: any rate will do.
    pub bytes_per_second: u64,
    /// Time that does not count.
    pub grace: Duration,
}

/// How one body has come so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// For the client, all in all.
    waited: Duration,
    bytes: u64,
}

impl LeastRate {
    /// Whether there is a rate to be kept.
    pub fn is_set(&self) -> bool {
        self.bytes_per_second != 0
    }
}

impl Pace {
    /// `bytes` came after waiting so long for them.
    pub fn on_bytes(&mut self, bytes: usize, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited = self.waited.saturating_add(waited);
    }

    /// How much longer we wait for the client; zero: it is too slow. `None`: there is no least rate.
    pub fn left(&self, least: &LeastRate) -> Option<Duration> {
        let rate = u128::from(least.bytes_per_second);
        let earned_nanos = (u128::from(self.bytes) * 1_000_000_000).checked_div(rate)?;
        let earned = Duration::from_nanos(u64::try_from(earned_nanos).unwrap_or(u64::MAX));
        Some(least.grace.saturating_add(earned).saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAST: LeastRate = LeastRate { bytes_per_second: 500, grace: Duration::from_secs(20) };

    /// What is left after pieces of (bytes, waited ms).
    fn left(pieces: &[(usize, u64)]) -> Option<Duration> {
        let mut pace = Pace::default();
        pieces.iter().for_each(|&(bytes, waited_ms)| pace.on_bytes(bytes, Duration::from_millis(waited_ms)));
        pace.left(&LEAST)
    }

    #[test]
    fn bytes_earn_time_and_waits_spend_it() {
        for (pieces, expect_ms) in [
            (&[][..], 20_000),
            (&[(0, 20_000)], 0),
            (&[(0, 19_999)], 1),
            (&[(500, 20_000)], 1_000),
            (&[(1, 100); 100], 10_200),
            (&[(1, 100); 210], 0),
            (&[(50, 100); 10_000], 20_000),
            (&[(49, 100); 10_000], 0),
            (&[(100_000, 0)], 220_000),
        ] {
            assert_eq!(left(pieces), Some(Duration::from_millis(expect_ms)), "{pieces:?}");
        }
        let none = LeastRate { bytes_per_second: 0, ..LEAST };
        assert!(!none.is_set() && Pace::default().left(&none).is_none());
    }

    proptest! {
        /// Nobody who sends at the rate or above is too slow, however it comes; whoever stays below it for long is.
        #[test]
        fn the_average_counts(
            rate in 1u64..100_000,
            grace_ms in 0u64..60_000,
            waits_ms in prop::collection::vec(1u64..2_000, 1..200),
        ) {
            let least = LeastRate { bytes_per_second: rate, grace: Duration::from_millis(grace_ms) };
            let (mut fast, mut slow) = (Pace::default(), Pace::default());
            let mut total_ms = 0;
            for wait_ms in waits_ms {
                total_ms += wait_ms;
                let wait = Duration::from_millis(wait_ms);
                fast.on_bytes((rate * wait_ms).div_ceil(1000) as usize, wait);
                slow.on_bytes((rate * wait_ms / 2000) as usize, wait);
                prop_assert!(fast.left(&least).unwrap() >= least.grace);
            }
            if total_ms > 2 * grace_ms {
                prop_assert!(slow.left(&least).unwrap().is_zero());
            }
        }

        #[test]
        fn nothing_overflows(bytes in any::<usize>(), waited in any::<u64>(), rate in any::<u64>(), grace in any::<u64>()) {
            let least = LeastRate { bytes_per_second: rate, grace: Duration::from_nanos(grace) };
            let mut pace = Pace::default();
            for _ in 0..3 {
                pace.on_bytes(bytes, Duration::from_nanos(waited));
                prop_assert_eq!(pace.left(&least).is_some(), rate != 0);
            }
        }
    }
}
