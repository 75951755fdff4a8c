//! Slow start: a server that has come back gets its traffic little by little, while its caches fill and its code warms up.

use std::time::{Duration, Instant};

/// All of a weight.
pub(super) const WARM: u32 = 256;

/// How much of its weight a server that came up at `came_up` may have `now`, 1 to [`WARM`]; and when that changes.
pub(super) fn warmth(came_up: Option<Instant>, slow_start: Duration, now: Instant) -> (u32, Option<Instant>) {
    let Some(came_up) = came_up else { return (WARM, None) };
    let up_for = now.saturating_duration_since(came_up);
    if up_for >= slow_start {
        return (WARM, None);
    }
    let step = slow_start / WARM;
    let steps = (up_for.as_nanos() / step.as_nanos().max(1)).min(u128::from(WARM) - 1) as u32;
    (steps.max(1), Some(came_up + step * (steps + 1)))
}

/// What a server of this warmth may have of `most`: one at the least.
pub(super) fn part_of(most: u32, warmth: u32) -> u32 {
    ((u64::from(most) * u64::from(warmth)).div_ceil(u64::from(WARM)) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_almost_nothing_to_all_and_says_when() {
        let now = Instant::now();
        let (second, ramp) = (Duration::from_secs(1), Duration::from_secs(256));
        assert_eq!(warmth(None, ramp, now), (WARM, None));
        assert_eq!(warmth(Some(now), Duration::ZERO, now), (WARM, None));
        assert_eq!(warmth(Some(now), ramp, now), (1, Some(now + second)));
        assert_eq!(warmth(Some(now), ramp, now + 128 * second), (128, Some(now + 129 * second)));
        assert_eq!(warmth(Some(now), ramp, now + 255 * second), (255, Some(now + 256 * second)));
        assert_eq!(warmth(Some(now), ramp, now + 256 * second), (WARM, None));
        assert_eq!([1, 64, 128, 255, WARM].map(|warmth| part_of(10, warmth)), [1, 3, 5, 10, 10]);
        assert_eq!((part_of(1, 1), part_of(u32::MAX, WARM)), (1, u32::MAX));
        // So short that its steps round to nothing.
        let (warmth, next) = warmth(Some(now), Duration::from_nanos(100), now);
        assert!(warmth >= 1 && next.is_some_and(|next| next >= now));
    }
}
