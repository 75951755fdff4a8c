//! How fast the content of one answer may leave: nginx's `limit_rate`.
//!
//! Time that passes earns bytes. They are handed out a tenth of a second's worth at a time, or as much as is wanted if that
//! is less; what nobody takes is saved up for a second, so that a wait that ends late costs nothing, and a client that
//! pauses does not get all of it at once afterwards. In: `now` and how much there is to send. Out: how much of it may
//! leave, or how long to wait. Pure.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Turns in a second.
const TURNS: u64 = 10;

/// The rate of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Bytes a second.
    rate: NonZeroU64,
    /// Bytes that may leave at any rate.
    free: u64,
    /// Bytes are earned since then; `None`: nothing has been asked for yet.
    since: Option<Instant>,
    /// Of those earned since then: bytes that have left, or were not saved up.
    spent: u64,
}

/// What [`Throttle::take`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// So many bytes may leave now, one at least.
    Send(u64),
    /// Nothing may leave for so long.
    Wait(Duration),
}

impl Throttle {
    /// `rate` is in bytes a second; the first `after` bytes leave at any rate.
    pub fn new(rate: NonZeroU64, after: u64) -> Throttle {
        Throttle { rate, free: after, since: None, spent: 0 }
    }

    /// At most `wanted` bytes, at least 1, are to leave at `now`, which never goes back. Those that may are taken to have
    /// left.
    pub fn take(&mut self, wanted: u64, now: Instant) -> Allowance {
        if self.free > 0 {
            let bytes = wanted.min(self.free);
            self.free -= bytes;
            return Allowance::Send(bytes);
        }
        let rate = self.rate.get();
        let turn = (rate / TURNS).max(1);
        // The first turn does not wait: a short answer is not held back.
        let since = *self.since.get_or_insert_with(|| now.checked_sub(time_for(turn, rate)).unwrap_or(now));
        let elapsed = now.saturating_duration_since(since);
        let earned = earned(elapsed, rate);
        self.spent = self.spent.max(earned.saturating_sub(rate));
        let room = earned.saturating_sub(self.spent);
        let goal = wanted.min(turn);
        if room >= goal {
            let bytes = wanted.min(room);
            self.spent += bytes;
            return Allowance::Send(bytes);
        }
        Allowance::Wait(time_for(self.spent.saturating_add(goal), rate).saturating_sub(elapsed))
    }
}

fn earned(elapsed: Duration, rate: u64) -> u64 {
    u64::try_from(elapsed.as_nanos().saturating_mul(u128::from(rate)) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Rounded up: then they are earned.
fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn throttle(rate: u64, after: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(rate).expect("a rate"), after)
    }

    /// Time that `bytes` take in pieces of `piece`, when every wait is `late` longer than said.
    fn time(mut throttle: Throttle, mut bytes: u64, piece: u64, late: Duration) -> Duration {
        let begin = Instant::now();
        let mut now = begin;
        while bytes > 0 {
            match throttle.take(bytes.min(piece), now) {
                Allowance::Send(sent) => {
                    assert!(sent > 0 && sent <= bytes.min(piece));
                    bytes -= sent;
                }
                Allowance::Wait(time) => {
                    assert!(!time.is_zero());
                    now += time + late;
                }
            }
        }
        now - begin
    }

    #[test]
    fn an_answer_takes_its_time() {
        let none = Duration::ZERO;
        for (rate, after, bytes, expect_ms) in [
            (1000, 0, 1, 0),
            (1000, 0, 100, 0),
            (1000, 0, 200, 100),
            (1000, 0, 5000, 4900),
            (1000, 4000, 5000, 900),
            (1000, 5000, 5000, 0),
            (5, 0, 11, 2000),
            (1, 0, 3, 2000),
            (1 << 40, 0, 1 << 40, 900),
        ] {
            let time = time(throttle(rate, after), bytes, 1 << 30, none);
            let expect = Duration::from_millis(expect_ms);
            assert!(time >= expect && time < expect + Duration::from_millis(1), "{rate} {after} {bytes}: {time:?}");
        }
    }

    #[test]
    fn late_wakes_cost_nothing() {
        let time = time(throttle(100_000, 0), 1_000_000, 16 * 1024, Duration::from_millis(5));
        assert!(time >= Duration::from_millis(9_900) && time < Duration::from_millis(9_950), "{time:?}");
    }

    #[test]
    fn a_pause_saves_up_a_second_and_no_more() {
        let mut throttle = throttle(1000, 0);
        let begin = Instant::now();
        assert_eq!(throttle.take(100, begin), Allowance::Send(100));
        let later = begin + Duration::from_secs(60);
        assert_eq!(throttle.take(1_000_000, later), Allowance::Send(1000));
        assert_eq!(throttle.take(1_000_000, later), Allowance::Wait(Duration::from_millis(100)));
    }

    proptest! {
        /// However it is cut, no answer is faster than its rate by more than a turn, or slower.
        #[test]
        fn the_average_is_the_rate(
            rate in 1u64..10_000_000,
            after in 0u64..100_000,
            tenths in 0u64..100,
            piece in 1u64..200_000,
        ) {
            let bytes = after + rate * tenths / 10;
            let piece = piece.max(bytes / 10_000 + 1);
            let took = time(throttle(rate, after), bytes, piece, Duration::ZERO);
            let limited = time_for(bytes - after, rate);
            prop_assert!(took <= limited + Duration::from_millis(1), "{took:?} for {limited:?}");
            prop_assert!(took + time_for((rate / 10).max(1), rate) + Duration::from_millis(1) >= limited);
        }

        #[test]
        fn nothing_overflows(rate in 1u64.., after in any::<u64>(), wanted in 1u64.., waits in prop::collection::vec(any::<u32>(), 0..20)) {
            let mut throttle = throttle(rate, after);
            let mut now = Instant::now();
            for wait in waits {
                now += Duration::from_millis(wait.into());
                throttle.take(wanted, now);
            }
        }
    }
}
