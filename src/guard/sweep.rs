//! Ranges that overlap → the addresses at which the answer changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Numbers from `first` to `last` and the answer for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<A> {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) answer: A,
}

impl<A> Range<A> {
    /// The addresses of a network as numbers, those of IPv4 as they are.
    pub(super) fn of(network: IpNet, answer: A) -> Range<A> {
        Range { first: widened(network.network()), last: widened(network.broadcast()), answer }
    }
}

fn widened(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Walks over the bounds of all ranges in rising order; of the ranges open there, the first one written answers, and
/// `otherwise` where none is. Returns the numbers from which on the answer is another one, and that answer; the first of
/// them is 0.
pub(super) fn sweep<A: Copy + Eq>(ranges: &[Range<A>], otherwise: A) -> Vec<(u128, A)> {
    let mut bounds: Vec<(u128, usize, bool)> = Vec::with_capacity(2 * ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        bounds.push((range.first, index, true));
        bounds.extend(range.last.checked_add(1).map(|behind| (behind, index, false)));
    }
    bounds.sort_unstable();
    let (mut open, mut turns) = (BTreeSet::new(), vec![(0, otherwise)]);
    for group in bounds.chunk_by(|one, other| one.0 == other.0) {
        for &(_, index, opens) in group {
            if opens {
                open.insert(index);
            } else {
                open.remove(&index);
            }
        }
        let here = open.first().map_or(otherwise, |index: &usize| ranges[*index].answer);
        match turns.last_mut() {
            Some((at, answer)) if *at == group[0].0 => *answer = here,
            Some((_, answer)) if *answer == here => {}
            _ => turns.push((group[0].0, here)),
        }
    }
    turns
}
