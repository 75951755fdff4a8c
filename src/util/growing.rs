//! A list that only grows: one thread appends, others read meanwhile without a lock, and what is in it stays where it is.
//!
//! The places are in blocks, each twice as long as the one before, which are made when they are needed; so nothing moves.

use std::ops::Index;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Places in the first block.
const FIRST: usize = 16;
/// With these there are places for all numbers of 16 bits.
const BLOCKS: usize = 13;

/// See the module.
#[derive(Debug)]
pub struct Growing<T> {
    blocks: [OnceLock<Box<[OnceLock<T>]>>; BLOCKS],
    count: AtomicUsize,
}

impl<T> Default for Growing<T> {
    fn default() -> Growing<T> {
        Growing { blocks: [const { OnceLock::new() }; BLOCKS], count: AtomicUsize::new(0) }
    }
}

/// Block and place in it.
fn place(index: usize) -> (usize, usize) {
    let block = (index / FIRST + 1).ilog2() as usize;
    (block, index - FIRST * ((1 << block) - 1))
}

impl<T> Growing<T> {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.count.load(Acquire)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an item. One thread at a time may do that. Panics when there are more than 2^16: who appends has a limit.
    pub fn push(&self, item: T) {
        let index = self.len();
        let (block, at) = place(index);
        let block = self.blocks[block].get_or_init(|| (0..FIRST << block).map(|_| OnceLock::new()).collect());
        assert!(block[at].set(item).is_ok(), "two threads append at once");
        self.count.store(index + 1, Release);
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<&T> {
        // Nearly all lists have no more, and some are asked many times for each request.
        if index < FIRST {
            return self.blocks[0].get()?.get(index)?.get();
        }
        let (block, at) = place(index);
        self.blocks.get(block)?.get()?[at].get()
    }

    /// Those that are there now, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        (0..self.len()).map(|index| &self[index])
    }
}

impl<T> Index<usize> for Growing<T> {
    type Output = T;

    /// Panics when there is none.
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index below the length")
    }
}

impl<T> FromIterator<T> for Growing<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Growing<T> {
        let growing = Growing::default();
        items.into_iter().for_each(|item| growing.push(item));
        growing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are_while_the_list_grows() {
        let list: Growing<usize> = (0..3).collect();
        let first: *const usize = &raw const list[0];
        (3..5000).for_each(|item| list.push(item));
        assert!(list.iter().copied().eq(0..5000) && list.len() == 5000);
        assert!(std::ptr::eq(first, &raw const list[0]));
        assert_eq!((list.get(4999), list.get(5000), list.get(1 << 20)), (Some(&4999), None, None));
    }

    #[test]
    fn every_index_has_a_place_of_its_own() {
        assert_eq!([0, 15, 16, 47, 48].map(place), [(0, 0), (0, 15), (1, 0), (1, 31), (2, 0)]);
        assert_eq!(place(u16::MAX.into()).0, BLOCKS - 1);
        for index in 1..5000 {
            let (before, now) = (place(index - 1), place(index));
            assert!(now == (before.0, before.1 + 1) || now == (before.0 + 1, 0), "{index}");
        }
    }

    #[test]
    fn whoever_sees_the_length_sees_the_items() {
        let list = Growing::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20_000usize).for_each(|item| list.push(item)));
            scope.spawn(|| {
                while list.len() < 20_000 {
                    if let Some(last) = list.len().checked_sub(1) {
                        assert_eq!(list[last], last);
                    }
                }
            });
        });
    }
}
