//! Which data worker a new connection is for. Pure.
//!
//! The kernel spreads new connections over the workers by a hash of their addresses (SO_REUSEPORT, socket(7)), whatever these
//! have to do. With connections that last for hours that makes some workers busy and leaves others idle: mosip/mosip-infra#1920
//! has 349 connections on one worker and none on five. So a worker that has clearly more of them than another one hands what it
//! accepts on. Two others are looked at, drawn by chance: the better of two random ones is nearly as good as the best of all
//! (Mitzenmacher 2001), and no accept reads the counters of every core.

use crate::util::random::mix;

/// Fewer than this many more are left to chance: a hand-over wakes another core.
const SLACK: u64 = 8;

/// The one that gets a connection that worker `own` has accepted, where that is not itself.
///
/// `load` tells how many connections a worker has, those on their way to it included. `draw` is a random number, another one
/// for each connection.
pub(super) fn taker(own: usize, workers: usize, draw: u64, load: impl Fn(usize) -> u64) -> Option<usize> {
    if workers < 2 {
        return None;
    }
    let others = workers as u64 - 1;
    let other = |draw: u64| {
        let drawn = (draw % others) as usize;
        if drawn < own { drawn } else { drawn + 1 }
    };
    let draw = mix(draw);
    let [first, second] = [other(draw & 0xffff_ffff), other(draw >> 32)];
    let [first_load, second_load] = [load(first), load(second)];
    let (best, least) = if second_load < first_load { (second, second_load) } else { (first, first_load) };
    is_clearly_less(least, load(own)).then_some(best)
}

fn is_clearly_less(less: u64, more: u64) -> bool {
    more > less + SLACK.max(less / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::random::Random;

    #[test]
    fn small_differences_stay() {
        let to = |own: u64, other: u64| taker(0, 2, 7, |worker| if worker == 0 { own } else { other });
        assert_eq!((to(8, 0), to(9, 0)), (None, Some(1)));
        assert_eq!((to(1100, 1000), to(1126, 1000)), (None, Some(1)));
        assert_eq!((to(0, 100), taker(0, 1, 7, |_| 0)), (None, None));
    }

    #[test]
    fn nobody_hands_to_itself_and_everybody_is_drawn() {
        for workers in [2, 3, 8, 128] {
            for own in [0, workers / 2, workers - 1] {
                let load = |worker: usize| if worker == own { 1000 } else { 0 };
                let takers: std::collections::HashSet<_> =
                    (0..4000).filter_map(|draw| taker(own, workers, draw, load)).collect();
                assert!(!takers.contains(&own));
                assert_eq!(takers.len(), workers - 1);
            }
        }
    }

    /// Connections that last, from clients of which some are many behind one address: the kernel's hash gives one worker most.
    fn spread(workers: usize, hands_over: bool, seed: u64) -> (u64, u64) {
        let mut random = Random::new(seed);
        let mut loads = vec![0u64; workers];
        for at in 0..workers as u64 * 500 {
            // Half of them by chance, half to the same worker.
            let accepting = if random.below(2) == 0 { 0 } else { random.below(workers) };
            let to = hands_over.then(|| taker(accepting, workers, at ^ seed, |worker| loads[worker])).flatten();
            loads[to.unwrap_or(accepting)] += 1;
            // Some end.
            let leaves = random.below(workers);
            if random.below(8) == 0 {
                loads[leaves] = loads[leaves].saturating_sub(1);
            }
        }
        (loads.iter().max().copied().unwrap_or(0), loads.iter().min().copied().unwrap_or(0))
    }

    #[test]
    fn the_load_comes_out_even() {
        for workers in [2, 4, 16, 128] {
            for seed in 0..5 {
                let (most, least) = spread(workers, false, seed);
                assert!(most > 2 * least, "{workers} workers, seed {seed}: {least} to {most} without");
                let (most, least) = spread(workers, true, seed);
                assert!(most as f64 <= 1.3 * least as f64, "{workers} workers, seed {seed}: {least} to {most} with");
            }
        }
    }
}
