//! Open files of one data worker: small ones with their content, large ones as descriptors.
//!
//! Keyed by folder and path beneath it. An entry that was looked at within `valid` is served as it is; an older one
//! costs one stat(2), and is opened again when anything about it changed. So is the folder itself, which a deployment
//! may replace by switching a symbolic link. Paths that led nowhere are remembered for the same time, in a table of
//! fixed size, so that `index` names and single-page applications do not ask the disk each time.
//! Memory and descriptors are bounded; what was not used for longest goes first, approximately (second chance).

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use slab::Slab;

use super::FileError;
use super::entry::{Content, Entry};
use crate::config::model::{Files, Process};
use crate::metrics::FileStats;
use crate::runtime::sys::files::{self as sys, Opened, Root, Stamp};

/// Files kept in memory, whatever their size. Also bounds the time to drop all files of a folder.
const ENTRIES_MAX: usize = 65_536;
/// Descriptors of large files kept open by one worker.
const DESCRIPTORS_MAX: usize = 256;
/// Memory of an entry beside its content, path and fields: table slots, reference counts, the struct itself. Bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// Places for paths that led nowhere.
const ABSENT_MAX: usize = 512;
/// A longer path that leads nowhere is not remembered, bytes.
const ABSENT_PATH_BYTES_MAX: usize = 256;
/// A file changed so shortly before it was read may have been changed again within the same tick of the file system's
/// clock, which nobody can see: it is read again at the next look, unchanged or not. Seconds.
const RACY_SECONDS: i64 = 2;

/// Bounds of one worker's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for small files, bytes.
    pub bytes_max: usize,
    /// Largest file kept in memory, bytes.
    pub file_bytes_max: usize,
    /// Files kept in memory.
    pub entries_max: usize,
    /// Large files kept open.
    pub descriptors_max: usize,
    /// How long an entry is served without a look at the disk.
    pub valid: Duration,
}

impl From<&Process> for Limits {
    fn from(process: &Process) -> Limits {
        Limits {
            bytes_max: process.file_cache_bytes,
            file_bytes_max: process.file_cache_file_bytes_max,
            entries_max: ENTRIES_MAX,
            descriptors_max: DESCRIPTORS_MAX,
            valid: process.file_cache_valid,
        }
    }
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// A file that can be served.
    Entry(Rc<Entry>),
    /// A directory.
    Directory,
}

/// The open files of one data worker.
pub struct Cache {
    limits: Limits,
    /// By number of the files action.
    folders: Vec<Option<Folder>>,
    small: Ring,
    large: Ring,
    absent: Absent,
    hasher: RandomState,
    /// Where the path of an index file is put together.
    scratch: Vec<u8>,
    /// Counts how often a folder was opened; tells the generations of a folder apart.
    generations: u64,
    /// The clock that file systems use, seconds since 1970.
    wall_seconds: fn() -> i64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("limits", &self.limits)
            .field("small", &self.small.slots.len())
            .field("large", &self.large.slots.len())
            .field("bytes", &(self.small.bytes + self.large.bytes))
            .finish()
    }
}

/// One root folder with what is cached of it.
struct Folder {
    files: Arc<Files>,
    opened: Result<OpenFolder, FileError>,
    /// When the path of the root was last looked at.
    checked: Instant,
    places: HashMap<Rc<[u8]>, Place, RandomState>,
}

struct OpenFolder {
    root: Root,
    identity: (u64, u64),
    generation: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(limits: Limits) -> Cache {
        let hasher = RandomState::new();
        Cache {
            limits,
            folders: Vec::new(),
            small: Ring::new(limits.entries_max, limits.bytes_max),
            large: Ring::new(limits.descriptors_max, usize::MAX),
            absent: Absent::new(hasher.clone()),
            hasher,
            scratch: Vec::new(),
            generations: 0,
            wall_seconds: sys::wall_seconds,
        }
    }

    /// Replaces the clock of file systems: tests cannot set a file's ctime.
    #[cfg(test)]
    pub(super) fn with_clock(mut self, wall_seconds: fn() -> i64) -> Cache {
        self.wall_seconds = wall_seconds;
        self
    }

    /// The maps, rings and sums agree with each other and with the limits.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for (size, ring) in [(Size::Small, &self.small), (Size::Large, &self.large)] {
            assert!(ring.fits(0, 0), "{self:?}");
            assert_eq!(ring.bytes, ring.slots.iter().map(|(_, slot)| slot.bytes).sum::<usize>());
            for (index, slot) in &ring.slots {
                let folder = self.folders[slot.folder].as_ref().expect("folder of a slot");
                let place = folder.places.get(&slot.path).expect("place of a slot");
                assert_eq!((place.size, place.slot), (size, index));
            }
        }
        let places = self.folders.iter().flatten().map(|folder| folder.places.len()).sum::<usize>();
        assert_eq!(places, self.len());
    }

    /// Files in the cache.
    pub fn len(&self) -> usize {
        self.small.slots.len() + self.large.slots.len()
    }

    /// Nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in use, bytes; approximately.
    pub fn bytes(&self) -> usize {
        self.small.bytes + self.large.bytes
    }

    /// Takes over the limits of a new config and forgets folders whose number is not below `folders`. Without this
    /// call a new config works too: a number that now stands for another folder is noticed by itself.
    pub fn reconfigure(&mut self, limits: Limits, folders: usize, stats: &FileStats) {
        for index in folders..self.folders.len() {
            self.forget_folder(index);
        }
        self.folders.truncate(folders);
        self.limits = limits;
        self.small.entries_max = limits.entries_max;
        self.small.bytes_max = limits.bytes_max;
        self.large.entries_max = limits.descriptors_max;
        self.make_room(Size::Small, 0, 0, stats);
        self.make_room(Size::Large, 0, 0, stats);
        self.report(stats);
    }

    /// Makes folder `index` the one that `files` describes, open and looked at within `valid`.
    ///
    /// Errors: why the root cannot be opened; asked again after `valid`.
    #[inline]
    pub(super) fn enter(
        &mut self,
        index: usize,
        files: &Arc<Files>,
        now: Instant,
        stats: &FileStats,
    ) -> Result<(), FileError> {
        if let Some(Some(folder)) = self.folders.get(index) {
            if Arc::ptr_eq(&folder.files, files) && is_fresh(folder.checked, now, self.limits.valid) {
                return folder.opened.as_ref().map(|_| ()).map_err(|error| *error);
            }
        }
        self.enter_slowly(index, files, now, stats)
    }

    #[cold]
    fn enter_slowly(
        &mut self,
        index: usize,
        files: &Arc<Files>,
        now: Instant,
        stats: &FileStats,
    ) -> Result<(), FileError> {
        if self.folders.len() <= index {
            self.folders.resize_with(index + 1, || None);
        }
        if let Some(folder) = &mut self.folders[index] {
            let same_root = folder.files.root == files.root;
            if same_root && folder.is_current() {
                // A new config often describes the same folder.
                folder.files = files.clone();
                folder.checked = now;
                return Ok(());
            }
            self.forget_folder(index);
            self.report(stats);
        }
        self.generations += 1;
        let opened = OpenFolder::open(&files.root, self.generations);
        let result = opened.as_ref().map(|_| ()).map_err(|error| *error);
        let places = HashMap::with_hasher(self.hasher.clone());
        self.folders[index] = Some(Folder { files: files.clone(), opened, checked: now, places });
        result
    }

    /// Looks for an index file in the directory `name`, which is empty or ends in a slash.
    ///
    /// Errors: `Forbidden` for a directory without one (there is no listing), unless the folder has a fallback.
    pub(super) fn find_index(
        &mut self,
        index: usize,
        name: &[u8],
        files: &Files,
        now: Instant,
        stats: &FileStats,
    ) -> Result<Found, FileError> {
        let mut path = std::mem::take(&mut self.scratch);
        let mut found = Err(FileError::Absent);
        for candidate in &files.index {
            path.clear();
            path.extend_from_slice(name);
            path.extend_from_slice(candidate.trim_start_matches('/').as_bytes());
            found = self.find(index, &path, now, stats);
            if !matches!(found, Err(FileError::Absent) | Ok(Found::Directory)) {
                break;
            }
        }
        self.scratch = path;
        match found {
            Err(FileError::Absent) | Ok(Found::Directory) if files.fallback.is_some() => Err(FileError::Absent),
            Err(FileError::Absent) | Ok(Found::Directory) => Err(self.no_index(index, name)),
            found => found,
        }
    }

    fn no_index(&self, index: usize, name: &[u8]) -> FileError {
        match self.folder(index).and_then(|folder| Ok(folder.root.open_file(name)?)) {
            Ok(Opened::Directory) => FileError::Forbidden,
            Ok(_) => FileError::Absent,
            Err(error) => error,
        }
    }

    /// What `path`, relative to folder `index`, leads to. The folder was entered before.
    pub(super) fn find(
        &mut self,
        index: usize,
        path: &[u8],
        now: Instant,
        stats: &FileStats,
    ) -> Result<Found, FileError> {
        let folder = match &self.folders[index] {
            Some(Folder { opened: Ok(open), places, .. }) => (open, places),
            Some(Folder { opened: Err(error), .. }) => return Err(*error),
            None => return Err(FileError::Failed),
        };
        let (open, places) = folder;
        if let Some(&place) = places.get(path) {
            let slot = match place.size {
                Size::Small => &mut self.small.slots[place.slot],
                Size::Large => &mut self.large.slots[place.slot],
            };
            slot.used = true;
            if is_fresh(slot.checked, now, self.limits.valid) {
                stats.cache_hits.inc();
                return Ok(Found::Entry(slot.entry.clone()));
            }
            if !slot.racy && open.root.stat(path).is_ok_and(|stamp| stamp == slot.stamp) {
                slot.checked = now;
                stats.cache_hits.inc();
                return Ok(Found::Entry(slot.entry.clone()));
            }
            self.forget(index, path);
        } else if self.absent.holds(open.generation, path, now, self.limits.valid) {
            return Err(FileError::Absent);
        }
        self.load(index, path, now, stats)
    }

    fn folder(&self, index: usize) -> Result<&OpenFolder, FileError> {
        match self.folders.get(index) {
            Some(Some(folder)) => folder.opened.as_ref().map_err(|error| *error),
            _ => Err(FileError::Failed),
        }
    }

    /// Opens `path` and keeps what can be kept.
    #[cold]
    fn load(&mut self, index: usize, path: &[u8], now: Instant, stats: &FileStats) -> Result<Found, FileError> {
        stats.cache_misses.inc();
        let mut read = self.read(index, path);
        if matches!(read, Err(FileError::Exhausted)) && self.close_all_large() {
            read = self.read(index, path);
        }
        let found = match read {
            Ok(Some((entry, stamp))) => Ok(Found::Entry(self.keep(index, path, entry, stamp, now, stats))),
            Ok(None) => Ok(Found::Directory),
            Err(error) => Err(error),
        };
        if matches!(found, Err(FileError::Absent)) && !self.limits.valid.is_zero() {
            let generation = self.folder(index)?.generation;
            self.absent.insert(generation, path, now);
        }
        self.report(stats);
        found
    }

    /// `None`: a directory.
    fn read(&self, index: usize, path: &[u8]) -> Result<Option<(Entry, Stamp)>, FileError> {
        let small_max = self.limits.file_bytes_max.min(self.limits.bytes_max.saturating_sub(ENTRY_OVERHEAD_BYTES));
        match self.folder(index)?.root.open_file(path)? {
            Opened::File(file, stamp) => Ok(Some(Entry::read(file, stamp, path, small_max, (self.wall_seconds)())?)),
            Opened::Directory => Ok(None),
            Opened::Other => Err(FileError::Absent),
        }
    }

    fn keep(
        &mut self,
        index: usize,
        path: &[u8],
        entry: Entry,
        stamp: Stamp,
        now: Instant,
        stats: &FileStats,
    ) -> Rc<Entry> {
        let size = match entry.content {
            Content::Small(_) => Size::Small,
            Content::Large(_) => Size::Large,
        };
        let bytes = ENTRY_OVERHEAD_BYTES + path.len() + entry.heap_bytes();
        let entry = Rc::new(entry);
        if !self.make_room(size, 1, bytes, stats) {
            return entry;
        }
        let Some(Some(folder)) = self.folders.get_mut(index) else { return entry };
        let racy = stamp.ctime.seconds + RACY_SECONDS > (self.wall_seconds)();
        let path: Rc<[u8]> = path.into();
        let slot = Slot {
            folder: index,
            path: path.clone(),
            entry: entry.clone(),
            stamp,
            racy,
            checked: now,
            used: false,
            bytes,
        };
        let slot = ring(&mut self.small, &mut self.large, size).insert(slot);
        folder.places.insert(path, Place { size, slot });
        entry
    }

    /// Evicts until `entries` more of together `bytes` fit. False: they never will.
    fn make_room(&mut self, size: Size, entries: usize, bytes: usize, stats: &FileStats) -> bool {
        let ring = ring(&mut self.small, &mut self.large, size);
        while !ring.fits(entries, bytes) {
            let Some(victim) = ring.evict() else { return false };
            stats.cache_evictions.inc();
            if let Some(Some(folder)) = self.folders.get_mut(victim.folder) {
                folder.places.remove(&victim.path);
            }
        }
        true
    }

    fn forget(&mut self, index: usize, path: &[u8]) {
        let Some(Some(folder)) = self.folders.get_mut(index) else { return };
        if let Some(place) = folder.places.remove(path) {
            ring(&mut self.small, &mut self.large, place.size).remove(place.slot);
        }
    }

    /// Drops all files of folder `index` and closes its root.
    fn forget_folder(&mut self, index: usize) {
        let Some(folder) = self.folders.get_mut(index).and_then(Option::take) else { return };
        for place in folder.places.into_values() {
            ring(&mut self.small, &mut self.large, place.size).remove(place.slot);
        }
    }

    /// Gives descriptors back when the process has none left. False: there was none.
    fn close_all_large(&mut self) -> bool {
        let mut closed = false;
        while let Some(victim) = self.large.evict() {
            closed = true;
            if let Some(Some(folder)) = self.folders.get_mut(victim.folder) {
                folder.places.remove(&victim.path);
            }
        }
        closed
    }

    fn report(&self, stats: &FileStats) {
        stats.cache_bytes.set(self.bytes() as u64);
        stats.cache_entries.set(self.len() as u64);
    }
}

fn is_fresh(checked: Instant, now: Instant, valid: Duration) -> bool {
    now.saturating_duration_since(checked) < valid
}

fn ring<'a>(small: &'a mut Ring, large: &'a mut Ring, size: Size) -> &'a mut Ring {
    match size {
        Size::Small => small,
        Size::Large => large,
    }
}

impl Folder {
    /// The path of the root still leads to the folder that is open.
    fn is_current(&self) -> bool {
        let Ok(open) = &self.opened else { return false };
        Root::identity(&self.files.root).is_ok_and(|identity| identity == open.identity)
    }
}

impl OpenFolder {
    fn open(path: &Path, generation: u64) -> Result<OpenFolder, FileError> {
        let root = Root::open(path)?;
        let identity = root.own_identity()?;
        Ok(OpenFolder { root, identity, generation })
    }
}

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

/// Where a path's entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    size: Size,
    slot: usize,
}

/// One cached file.
struct Slot {
    /// Index of its folder.
    folder: usize,
    /// Its key there.
    path: Rc<[u8]>,
    entry: Rc<Entry>,
    /// Metadata of the content.
    stamp: Stamp,
    /// Equal metadata proves nothing; see [`RACY_SECONDS`].
    racy: bool,
    /// When the file was last looked at.
    checked: Instant,
    /// Used since the hand last passed.
    used: bool,
    /// What it counts for.
    bytes: usize,
}

/// Slots with second-chance eviction: a hand goes round; what was used since its last visit stays.
struct Ring {
    slots: Slab<Slot>,
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Ring {
    fn new(entries_max: usize, bytes_max: usize) -> Ring {
        Ring { slots: Slab::new(), hand: 0, bytes: 0, entries_max, bytes_max }
    }

    fn fits(&self, entries: usize, bytes: usize) -> bool {
        self.slots.len() + entries <= self.entries_max && self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    fn insert(&mut self, slot: Slot) -> usize {
        self.bytes += slot.bytes;
        self.slots.insert(slot)
    }

    fn remove(&mut self, index: usize) -> Slot {
        let slot = self.slots.remove(index);
        self.bytes -= slot.bytes;
        slot
    }

    /// Removes the slot that was not used for longest, approximately; `None` when there is none. The hand goes round
    /// at most twice.
    fn evict(&mut self) -> Option<Slot> {
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

/// Paths that led nowhere: a table of fixed size in which a newer one takes the place of an older.
struct Absent {
    hasher: RandomState,
    places: Vec<AbsentPath>,
}

struct AbsentPath {
    generation: u64,
    path: Vec<u8>,
    checked: Instant,
}

impl Absent {
    fn new(hasher: RandomState) -> Absent {
        Absent { hasher, places: Vec::new() }
    }

    fn place(&self, generation: u64, path: &[u8]) -> usize {
        self.hasher.hash_one((generation, path)) as usize % ABSENT_MAX
    }

    fn holds(&self, generation: u64, path: &[u8], now: Instant, valid: Duration) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let place = &self.places[self.place(generation, path)];
        place.generation == generation && place.path == path && is_fresh(place.checked, now, valid)
    }

    fn insert(&mut self, generation: u64, path: &[u8], now: Instant) {
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
