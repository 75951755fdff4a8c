//! Cached files with second-chance eviction: a cheap approximation of "not used for longest".

use std::rc::Rc;
use std::time::Instant;

use slab::Slab;

use super::entry::Entry;
use crate::config::model::Coding;
use crate::runtime::sys::files::Stamp;

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Wholly in memory.
    Small,
    /// With a descriptor.
    Large,
}

/// A coded form beside a file, or its absence.
pub(super) struct Sibling {
    pub(super) coding: Coding,
    /// `None`: there is none.
    pub(super) stamp: Option<Stamp>,
}

/// Where a path's entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) size: Size,
    pub(super) slot: usize,
}

/// One cached file.
pub(super) struct Slot {
    /// Index of its folder.
    pub(super) folder: usize,
    /// Its key there.
    pub(super) path: Rc<[u8]>,
    pub(super) entry: Rc<Entry>,
    /// Metadata of the content.
    pub(super) stamp: Stamp,
    /// One for each coding that was looked for.
    pub(super) siblings: Box<[Sibling]>,
    /// Read again at the next look, whatever the metadata says; see `RACY_SECONDS` of the cache.
    pub(super) reload: bool,
    /// When the file was last looked at.
    pub(super) checked: Instant,
    /// Used since the hand last passed.
    pub(super) used: bool,
    /// What it counts for: 1 in the ring of small files, its descriptors in the other.
    pub(super) weight: usize,
    /// Memory it counts for.
    pub(super) bytes: usize,
}

/// Slots with second-chance eviction: a hand goes round; what was used since its last visit stays.
pub(super) struct Ring {
    pub(super) slots: Slab<Slot>,
    hand: usize,
    pub(super) weight: usize,
    pub(super) bytes: usize,
    pub(super) weight_max: usize,
}

impl Ring {
    pub(super) fn new(weight_max: usize) -> Ring {
        Ring { slots: Slab::new(), hand: 0, weight: 0, bytes: 0, weight_max }
    }

    pub(super) fn insert(&mut self, slot: Slot) -> usize {
        self.weight += slot.weight;
        self.bytes += slot.bytes;
        self.slots.insert(slot)
    }

    pub(super) fn remove(&mut self, index: usize) -> Slot {
        let slot = self.slots.remove(index);
        self.weight -= slot.weight;
        self.bytes -= slot.bytes;
        slot
    }

    /// Removes the slot that was not used for longest, approximately; `None` when there is none. The hand goes round
    /// at most twice.
    pub(super) fn evict(&mut self) -> Option<Slot> {
        if self.slots.is_empty() {
            return None;
        }
        loop {
            let at = self.hand;
            self.hand = if at + 1 >= self.slots.capacity() { 0 } else { at + 1 };
            match self.slots.get_mut(at) {
                Some(slot) if slot.used => slot.used = false,
                Some(_) => return Some(self.remove(at)),
                None => {}
            }
        }
    }
}
