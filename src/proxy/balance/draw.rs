//! Drawing one of many by weight in constant time: Walker's alias method in Vose's form (IEEE TSE 17(9), 1991).

use std::collections::VecDeque;

/// Places with their shares of all draws.
#[derive(Clone, Debug, Default)]
pub(super) struct Draw {
    columns: Vec<Column>,
}

/// One of equally likely columns: its own place below the cut, another one above.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// In 2^32 of the column.
    cut: u64,
    other: u32,
}

impl Draw {
    /// Takes the weights of the places 0, 1 and so on; their sum is below 2^32, and above 0 unless there are none.
    pub(super) fn set(&mut self, weights: impl Iterator<Item = u32> + Clone) {
        self.columns.clear();
        let total: u64 = weights.clone().map(u64::from).sum();
        let count = weights.clone().count() as u64;
        if total == 0 {
            return;
        }
        // In units of which a column holds `total`.
        let mut parts: Vec<u64> = weights.map(|weight| u64::from(weight) * count).collect();
        let (mut small, mut large) = (VecDeque::new(), VecDeque::new());
        for (place, &part) in parts.iter().enumerate() {
            if part < total { small.push_back(place) } else { large.push_back(place) }
        }
        self.columns.resize(parts.len(), Column { cut: 1 << 32, other: 0 });
        while let (Some(poor), Some(&rich)) = (small.pop_front(), large.front()) {
            self.columns[poor] = Column { cut: (parts[poor] << 32) / total, other: rich as u32 };
            parts[rich] -= total - parts[poor];
            if parts[rich] < total {
                large.pop_front();
                small.push_back(rich);
            }
        }
    }

    /// The place that `random`, any number of 64 bits, falls on. Panics when there is none.
    pub(super) fn place(&self, random: u64) -> usize {
        let column = ((random >> 32) * self.columns.len() as u64) >> 32;
        let Column { cut, other } = self.columns[column as usize];
        if random & 0xffff_ffff < cut { column as usize } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::random::Random;

    proptest! {
        #[test]
        fn shares_are_those_of_the_weights(weights in prop::collection::vec(0u32..65_536, 1..40), seed: u64) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let mut draw = Draw::default();
            draw.set(weights.iter().copied());
            let mut random = Random::new(seed);
            const DRAWS: u32 = 20_000;
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..DRAWS {
                counts[draw.place(random.next())] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (&count, &weight) in counts.iter().zip(&weights) {
                let expected = f64::from(DRAWS) * f64::from(weight) / f64::from(total);
                // Six standard deviations.
                prop_assert!((f64::from(count) - expected).abs() <= 6.0 * expected.sqrt() + 3.0, "{counts:?} {weights:?}");
            }
        }
    }
}
