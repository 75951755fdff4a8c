//! Paths that led nowhere, remembered for a while: `index` names and single-page applications ask for them again and
//! again, and so do scanners, which is why the table has a fixed size.

use std::time::{Duration, Instant};

use ahash::RandomState;

/// Places for paths that led nowhere.
const ABSENT_MAX: usize = 512;
/// A longer path that leads nowhere is not remembered, bytes.
const ABSENT_PATH_BYTES_MAX: usize = 256;

/// Paths that led nowhere: a table of fixed size in which a newer one takes the place of an older.
pub(super) struct Absent {
    hasher: RandomState,
    places: Vec<AbsentPath>,
}

struct AbsentPath {
    generation: u64,
    path: Vec<u8>,
    checked: Instant,
}

impl Absent {
    pub(super) fn new(hasher: RandomState) -> Absent {
        Absent { hasher, places: Vec::new() }
    }

    fn place(&self, generation: u64, path: &[u8]) -> usize {
        self.hasher.hash_one((generation, path)) as usize % ABSENT_MAX
    }

    pub(super) fn holds(&self, generation: u64, path: &[u8], now: Instant, valid: Duration) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let place = &self.places[self.place(generation, path)];
        place.generation == generation && place.path == path && is_fresh(place.checked, now, valid)
    }

    pub(super) fn insert(&mut self, generation: u64, path: &[u8], now: Instant) {
        if path.len() > ABSENT_PATH_BYTES_MAX {
            return;
        }
        if self.places.is_empty() {
            // Generation 0 is never used.
            self.places.resize_with(ABSENT_MAX, || AbsentPath { generation: 0, path: Vec::new(), checked: now });
        }
        let index = self.place(generation, path);
        let place = &mut self.places[index];
        place.generation = generation;
        place.path.clear();
        place.path.extend_from_slice(path);
        place.checked = now;
    }
}

/// What was looked at when `checked` may be relied on at `now`.
#[inline]
pub(super) fn is_fresh(checked: Instant, now: Instant, valid: Duration) -> bool {
    now.saturating_duration_since(checked) < valid
}
