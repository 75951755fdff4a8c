//! Consistent hashing: the same key goes to the same server, in every worker, process and run.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by Schindelhauer and Schomaker 2005) over a fixed
//! number of slots. A key falls into a slot by its hash; each server has a score for each slot, and the highest wins.
//!
//! Why not a ring: a ring of 160 points per unit of weight is still about 8 % uneven, and a server that leaves burdens its
//! few neighbours. Here shares follow weights to within a few percent, what a server leaves is spread over all others by
//! weight, and nothing else moves: not when one goes down or comes back, not when one is added, removed or weighed anew in
//! the config, in any order of writing. Why not Maglev's or jump tables: they move a part of the other keys as well, or
//! know only a last server that can leave. The price of rendezvous, a score for every server, is paid here when the config
//! is read: the winners of all slots stand in a table, and scores are only computed again while a key's winner cannot
//! take it.

use crate::util::random::mix;

/// Slots: so many that the share of one in a hundred servers is even to about 4 %.
const SLOTS: usize = 1 << 16;

/// The order of the servers for every key.
#[derive(Clone, PartialEq)]
pub struct Rendezvous {
    /// Index of the winning server, by slot; empty: it is found when it is asked for.
    winners: Box<[u16]>,
    servers: Box<[Seat]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seat {
    seed: u64,
    weight: f64,
}

impl std::fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendezvous").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Rendezvous {
    /// Servers by identity (their address as text) and weight. Those of weight 0 win nothing.
    ///
    /// Takes about 10 ns for each server and slot: some 30 ms for 50 servers.
    pub fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)>) -> Rendezvous {
        let seat =
            |(identity, weight): (&str, u32)| Seat { seed: hash(identity.as_bytes()), weight: f64::from(weight) };
        let mut made = Rendezvous { winners: Box::default(), servers: servers.map(seat).collect() };
        made.winners = (0..SLOTS as u64).map(|slot| made.best_of(slot, |_| true).unwrap_or(0) as u16).collect();
        made
    }

    /// The same servers with other weights, in their order, without a table: for weights that the operator sets while the
    /// process runs, which no worker may stop for. A key then costs O(servers). What moves is what the weights move.
    pub fn reweighed(&self, weights: impl Iterator<Item = u32>) -> Rendezvous {
        let seat = |(seat, weight): (&Seat, u32)| Seat { weight: f64::from(weight), ..*seat };
        Rendezvous { winners: Box::default(), servers: self.servers.iter().zip(weights).map(seat).collect() }
    }

    /// The server that `key`, the [`hash`] of something, belongs to.
    pub fn winner(&self, key: u64) -> usize {
        match self.winners.get(slot(key) as usize) {
            Some(winner) => usize::from(*winner),
            None => self.best(key, |_| true).unwrap_or(0),
        }
    }

    /// The first of those that `fits` lets through, in the order of `key`. O(servers).
    pub fn best(&self, key: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        self.best_of(slot(key), fits)
    }

    fn best_of(&self, slot: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (server, seat) in
            self.servers.iter().enumerate().filter(|(server, seat)| seat.weight > 0.0 && fits(*server))
        {
            let score = seat.score(slot);
            if best.is_none_or(|(least, _)| score > least) {
                best = Some((score, server));
            }
        }
        best.map(|(_, server)| server)
    }
}

impl Seat {
    /// The larger of two exponential variates with these rates wins in proportion to them.
    fn score(&self, slot: u64) -> f64 {
        let uniform = ((mix(mix(slot) ^ self.seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -self.weight / uniform.ln()
    }
}

fn slot(key: u64) -> u64 {
    key >> (64 - SLOTS.trailing_zeros())
}

/// Hash of a key: FNV-1a, with its bits spread. The same in every process and version, so that keys stay where they are.
///
/// A client may look for keys that share a slot; that is what the bound on a server's load is for.
pub fn hash(key: &[u8]) -> u64 {
    let folded = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(folded)
}

/// How far a key goes along with a server that takes only a part of its share: 0 to 255. A server that is `part` of 256
/// warm keeps the keys below `part`.
pub(super) fn part(key: u64) -> u32 {
    (key & 0xff) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(weights: &[u32]) -> Vec<(String, u32)> {
        weights.iter().enumerate().map(|(at, &weight)| (format!("10.0.0.{at}:80"), weight)).collect()
    }

    fn made(servers: &[(String, u32)]) -> Rendezvous {
        Rendezvous::new(servers.iter().map(|(name, weight)| (name.as_str(), *weight)))
    }

    #[test]
    fn shares_follow_weights() {
        let table = made(&servers(&[1, 2, 5, 0, 2]));
        let mut counts = [0u32; 5];
        (0..SLOTS as u64).for_each(|slot| counts[table.winner(slot << 48)] += 1);
        for (server, weight) in [1, 2, 5, 0, 2].into_iter().enumerate() {
            let expected = SLOTS as f64 * f64::from(weight) / 10.0;
            assert!((f64::from(counts[server]) - expected).abs() <= 0.03 * expected, "{counts:?}");
        }
    }

    #[test]
    fn weights_that_are_set_later_move_what_a_table_of_them_would() {
        let (was, is) = (made(&servers(&[1, 2, 5])), made(&servers(&[4, 2, 0])));
        let reweighed = was.reweighed([4, 2, 0].into_iter());
        let keys = || (0..4000u64).map(crate::util::random::mix);
        assert!(keys().all(|key| reweighed.winner(key) == is.winner(key)));
        let moved = keys().filter(|key| reweighed.winner(*key) != was.winner(*key));
        assert!(moved.clone().all(|key| reweighed.winner(key) != 2) && moved.count() > 0);
    }

    /// Somebody's keys depend on these: a change of the hash moves them all.
    #[test]
    fn the_hash_stays_what_it_is() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"/index.html"), hash(b"/index.html"));
        let table = made(&servers(&[1, 1, 1]));
        let winners: String = (0..24u8).map(|key| char::from(b'0' + table.winner(hash(&[key])) as u8)).collect();
        assert_eq!(winners, "212122012001121001120010");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whoever leaves, the keys of the others stay, and those it had go where `best` says; whatever the order of writing.
        #[test]
        fn only_the_keys_of_a_leaving_server_move(
            weights in prop::collection::vec(1u32..20, 2..6), gone in any::<prop::sample::Index>(),
            keys in prop::collection::vec(any::<u64>(), 200),
        ) {
            let all = servers(&weights);
            let gone = gone.index(all.len());
            let before = made(&all);
            let mut left = all.clone();
            left.remove(gone);
            left.reverse();
            let after = made(&left);
            for key in keys {
                let name = &left[after.winner(key)].0;
                let stands_in = before.best(key, |server| server != gone).expect("others are left");
                prop_assert_eq!(name, &all[stands_in].0);
                if before.winner(key) != gone {
                    prop_assert_eq!(name, &all[before.winner(key)].0);
                }
                prop_assert_eq!(before.best(key, |_| true), Some(before.winner(key)));
            }
        }
    }
}
