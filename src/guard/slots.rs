//! A number for each of many keys, shared by all data workers, in memory of a fixed size.
//!
//! A key has one of the slots of one set, by its hash, and is known by that hash: of two keys with the same one, which
//! chance makes once in 2^63 pairs, each counts for the other. Changing the number of a key that has a slot takes no lock:
//! a compare-and-swap of the number, then a look whether the slot is still the key's. Giving slots to keys is for one
//! worker at a time in each set, because a key in two slots would have two numbers, and so twice its limit; whoever
//! comes second spins for the few instructions that takes.
//!
//! ```text
//!   change:  find slot ─▶ read number ─▶ swap number ──▶ slot still ours? ──yes──▶ done
//!               ▲                           │ changed            │ no: take it back
//!               └───────────────────────────┴────────────────────┘
//!   insert:  (one at a time) pick the lowest number ─▶ nobody's slot ─▶ swap number ─▶ ours
//! ```
//!
//! The number is swapped while the slot is nobody's, so that a change by its old owner either comes before, and makes the
//! swap fail, or finds the slot lost.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Slots of a set: as many as fill two cache lines.
const WAYS: usize = 7;

/// The slot is nobody's.
const NOBODY: u64 = 0;

/// Looks at a taken set before the processor is given away.
const SPINS: u32 = 64;

/// What the numbers are, and so which of them may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// They go up and down. A count above zero is kept; without room for another key, that one is not put in.
    Counts,
    /// Times that only move on. The earliest gives way to a new key.
    Times,
}

/// All keys and their numbers.
#[derive(Debug)]
pub(super) struct Slots {
    numbers: Numbers,
    sets: Box<[Set]>,
    /// Keys that lost a number that still said something.
    lost: AtomicU64,
}

/// Where a key's number is. It stays there while the number says something and nothing is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    set: u32,
    way: u8,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    /// Somebody gives a slot to a key.
    is_taken: AtomicBool,
    slots: [Slot; WAYS],
}

#[derive(Debug, Default)]
struct Slot {
    /// Hash of its key, or [`NOBODY`].
    owner: AtomicU64,
    number: AtomicU64,
}

/// The only one that gives slots of a set to keys.
struct Turn<'a>(&'a AtomicBool);

impl Slots {
    /// Room for at least `keys_max` keys, if chance spreads them evenly.
    pub(super) fn new(numbers: Numbers, keys_max: usize) -> Slots {
        let sets = keys_max.div_ceil(WAYS).max(1);
        Slots { numbers, sets: (0..sets).map(|_| Set::default()).collect(), lost: AtomicU64::new(0) }
    }

    /// Keys that lost a number that still said something, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Changes the number of the key with this hash, which is put in with `idle` when it is not there; numbers up to that
    /// say nothing. `change` is told the number and gives a result and the new number, if any; it may be called several
    /// times.
    ///
    /// `None`: there is no room.
    pub(super) fn update<T>(
        &self,
        hash: u64,
        idle: u64,
        mut change: impl FnMut(u64) -> (T, Option<u64>),
    ) -> Option<(T, At)> {
        loop {
            if let Some(done) = self.change(hash, &mut change) {
                return Some(done);
            }
            if !self.insert(hash, idle) {
                return None;
            }
        }
    }

    /// The same for a key that is there; `None`: it is not.
    pub(super) fn change<T>(&self, hash: u64, mut change: impl FnMut(u64) -> (T, Option<u64>)) -> Option<(T, At)> {
        let (set, owner) = (self.set(hash), owner(hash));
        loop {
            let way = self.sets[set].find(owner)?;
            let slot = &self.sets[set].slots[way];
            let seen = slot.number.load(Acquire);
            let (result, next) = change(seen);
            let next = next.unwrap_or(seen);
            if next != seen && slot.number.compare_exchange(seen, next, AcqRel, Acquire).is_err() {
                continue;
            }
            if slot.owner.load(Acquire) == owner {
                return Some((result, At { set: set as u32, way: way as u8 }));
            }
            self.undo(slot, seen, next);
        }
    }

    /// The number was somebody else's, by chance the same as that of our key, or nobody's.
    fn undo(&self, slot: &Slot, seen: u64, next: u64) {
        match self.numbers {
            // Nobody replaces a count that ours is part of.
            Numbers::Counts => drop(slot.number.fetch_sub(next.wrapping_sub(seen), AcqRel)),
            // A time that has been changed since is either without ours, or later than it need be, once.
            Numbers::Times => drop(slot.number.compare_exchange(next, seen, AcqRel, Acquire)),
        }
    }

    /// Takes one off the number at `at`, which was above zero all the time.
    pub(super) fn decrement(&self, at: At) {
        let before = self.sets[at.set as usize].slots[usize::from(at.way)].number.fetch_sub(1, AcqRel);
        debug_assert_ne!(before, 0);
    }

    fn set(&self, hash: u64) -> usize {
        // The upper bits choose, without a division.
        ((u128::from(hash) * self.sets.len() as u128) >> 64) as usize
    }

    fn insert(&self, hash: u64, idle: u64) -> bool {
        let set = &self.sets[self.set(hash)];
        let _turn = Turn::take(&set.is_taken);
        if set.find(owner(hash)).is_some() {
            return true;
        }
        loop {
            let lowest = set.slots.iter().map(Slot::look).enumerate().min_by_key(|(_, looked)| looked.rank());
            let Some((way, Looked { owner: old, number })) = lowest else { return false };
            let says_nothing = old == NOBODY || number <= idle;
            if !says_nothing && self.numbers == Numbers::Counts {
                return false;
            }
            let slot = &set.slots[way];
            slot.owner.store(NOBODY, Release);
            if slot.number.compare_exchange(number, idle, AcqRel, Acquire).is_ok() {
                slot.owner.store(owner(hash), Release);
                self.lost.fetch_add(u64::from(!says_nothing), Relaxed);
                return true;
            }
            slot.owner.store(old, Release);
        }
    }

    /// Sum of all numbers.
    #[cfg(test)]
    pub(super) fn sum(&self) -> u64 {
        self.sets.iter().flat_map(|set| &set.slots).map(|slot| slot.number.load(Acquire)).sum()
    }
}

/// How a slot names its key.
fn owner(hash: u64) -> u64 {
    hash | 1
}

impl Set {
    fn find(&self, owner: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.owner.load(Acquire) == owner)
    }
}

/// A slot at one moment.
struct Looked {
    owner: u64,
    number: u64,
}

impl Slot {
    fn look(&self) -> Looked {
        Looked { owner: self.owner.load(Acquire), number: self.number.load(Acquire) }
    }
}

impl Looked {
    /// Nobody's come first, then the lowest numbers.
    fn rank(&self) -> (bool, u64) {
        (self.owner != NOBODY, self.number)
    }
}

impl<'a> Turn<'a> {
    fn take(is_taken: &'a AtomicBool) -> Turn<'a> {
        let mut spins = 0u32;
        while is_taken.swap(true, Acquire) {
            spins += 1;
            match spins.is_multiple_of(SPINS) {
                // Whoever has it may wait for this very core.
                true => std::thread::yield_now(),
                false => std::hint::spin_loop(),
            }
        }
        Turn(is_taken)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Any number of 64 bits, the same for the same key.
    fn hash(key: u64) -> u64 {
        ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(key)
    }

    fn counts(keys_max: usize) -> Slots {
        Slots::new(Numbers::Counts, keys_max)
    }

    fn one_more(number: u64) -> (u64, Option<u64>) {
        (number, Some(number + 1))
    }

    #[test]
    fn a_full_set_has_no_room_until_a_number_says_nothing() {
        let slots = counts(WAYS);
        let places: Vec<At> =
            (0..WAYS as u64).map(|key| slots.update(hash(key), 0, one_more).expect("room").1).collect();
        assert!(slots.update(hash(99), 0, one_more).is_none());
        assert_eq!(slots.update(hash(3), 0, one_more).expect("it is there").0, 1);
        slots.decrement(places[5]);
        assert_eq!(slots.update(hash(99), 0, one_more).expect("room").0, 0);
        assert!(slots.change(hash(5), one_more).is_none(), "its place is taken");
        assert_eq!((slots.lost(), slots.sum()), (0, WAYS as u64 + 1));
    }

    #[test]
    fn the_lowest_number_gives_way() {
        let slots = Slots::new(Numbers::Times, WAYS);
        let put = |key, number| slots.update(hash(key), 0, |_| ((), Some(number)));
        assert!((0..WAYS as u64).all(|key| put(key, 100 + key).is_some()));
        assert!(put(50, 500).is_some());
        assert!(slots.change(hash(0), one_more).is_none());
        assert!(
            (1..WAYS as u64)
                .all(|key| slots.change(hash(key), |number| (number, None)).is_some_and(|(n, _)| n == 100 + key))
        );
        assert_eq!(slots.lost(), 1);
        // One that says nothing is no loss.
        assert!(slots.update(hash(51), 101, one_more).is_some());
        assert_eq!(slots.lost(), 1);
    }

    proptest! {
        /// As long as there is room, it is a map.
        #[test]
        fn numbers_are_those_of_a_map(steps in prop::collection::vec((0u64..20, 1u64..1000), 0..200)) {
            // Twenty keys fit however chance spreads them.
            let slots = counts(20 * WAYS * 4);
            let mut map: HashMap<u64, u64> = HashMap::new();
            for (key, add) in steps {
                let known = map.entry(key).or_default();
                let (before, _) = slots.update(hash(key), 0, |number| (number, Some(number + add))).expect("room");
                prop_assert_eq!(before, *known);
                *known += add;
            }
            prop_assert_eq!(slots.sum(), map.values().sum::<u64>());
        }
    }

    /// More keys than slots, all of them busy in several threads: nobody's count is lost, and all are zero in the end.
    #[test]
    fn counts_end_at_zero_whatever_threads_do() {
        use std::sync::atomic::AtomicI64;
        const MAX: u64 = 2;
        let slots = counts(2 * WAYS);
        let busy: Vec<AtomicI64> = (0..40).map(|_| AtomicI64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (slots, busy) = (&slots, &busy);
                scope.spawn(move || {
                    let mut random = thread + 1;
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let key = (random >> 33) % 40;
                        let enter = |number| (number < MAX, (number < MAX).then_some(number + 1));
                        let Some((true, at)) = slots.update(hash(key), 0, enter) else { continue };
                        assert!(busy[key as usize].fetch_add(1, AcqRel) < MAX as i64);
                        busy[key as usize].fetch_sub(1, AcqRel);
                        slots.decrement(at);
                    }
                });
            }
        });
        assert_eq!((slots.sum(), slots.lost()), (0, 0));
    }
}
