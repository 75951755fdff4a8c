//! Open files of one data worker: small ones with their content, large ones as descriptors.
//!
//! Keyed by folder and path beneath it. An entry that was looked at within `valid` is served as it is; an older one
//! costs one stat(2), and is opened again when anything about it changed. So is the folder itself, which a deployment
//! may replace by switching a symbolic link. Paths that led nowhere are remembered for the same time, in a table of
//! fixed size, so that `index` names and single-page applications do not ask the disk each time.
//! Coded forms beside a file (`app.js.br`) belong to its entry, their absence too: all are looked at together.
//! An open file may be written into meanwhile, so one that is sent from its descriptor is looked at for each request.
//! Memory and descriptors are bounded; what was not used for longest goes first, approximately (second chance).

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use rustix::io::Errno;

use super::FileError;
use super::absent::{Absent, is_fresh};
use super::entry::{Entry, Making};
use super::load::{self, Read, ReadFile, is_out_of_descriptors};
use super::locate::Composed;
use super::ring::{Place, Ring, Size, Slot};
use crate::config::model::{Coding, Files, Process};
use crate::metrics::FileStats;
use crate::runtime::sys::files::{self as sys, Lookup, Opened, Root, Stamp};

/// Files kept in memory, whatever their size. Also bounds the time to drop all files of a folder.
const ENTRIES_MAX: usize = 65_536;
/// Descriptors of large files kept open by one worker.
const DESCRIPTORS_MAX: usize = 256;
/// Memory of an entry beside its content, path and fields: table slots, reference counts, the struct itself. Bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// A file changed so shortly before it was read may have been changed again within the same tick of the file system's
/// clock, which nobody can see: it is read again at the next look, unchanged or not. Seconds.
const RACY_SECONDS: i64 = 2;

/// Bounds of one worker's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for small files and compressed forms, bytes.
    pub bytes_max: usize,
    /// Largest file kept in memory, bytes.
    pub file_bytes_max: usize,
    /// Files kept in memory.
    pub entries_max: usize,
    /// Descriptors of large files kept open.
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
    /// The same for a coded form.
    sibling_scratch: Vec<u8>,
    /// The same for an entry of `try`.
    composed: Composed,
    /// May finding a file wait for the disk?
    lookup: Lookup,
    /// It may not, and would have to.
    is_cold: bool,
    /// Numbers the boundaries of multipart bodies.
    boundaries: u64,
    /// Counts how often a folder was opened; tells the generations of a folder apart.
    generations: u64,
    /// The clock that file systems use, seconds since 1970.
    wall_seconds: fn() -> i64,
    complaints: Complaints,
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
            small: Ring::new(limits.entries_max),
            large: Ring::new(limits.descriptors_max),
            absent: Absent::new(hasher.clone()),
            hasher,
            scratch: Vec::new(),
            sibling_scratch: Vec::new(),
            composed: Composed::default(),
            lookup: Lookup::Disk,
            is_cold: false,
            boundaries: 0,
            generations: 0,
            wall_seconds: sys::wall_seconds,
            complaints: Complaints::default(),
        }
    }

    /// A cache that logs nothing: whoever looks afterwards does.
    pub(super) fn silent(mut self) -> Cache {
        self.complaints.silent = true;
        self
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
        assert!(self.bytes() <= self.limits.bytes_max, "{self:?}");
        for (size, ring) in [(Size::Small, &self.small), (Size::Large, &self.large)] {
            assert!(ring.weight <= ring.weight_max, "{self:?}");
            assert_eq!(ring.bytes, ring.slots.iter().map(|(_, slot)| slot.bytes).sum::<usize>());
            assert_eq!(ring.weight, ring.slots.iter().map(|(_, slot)| slot.weight).sum::<usize>());
            for (index, slot) in &ring.slots {
                assert_eq!(slot.entry.place.get(), Some(Place { size, slot: index }));
                assert!(slot.bytes >= slot.entry.content_bytes() && slot.weight >= slot.entry.descriptors());
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
        self.small.weight_max = limits.entries_max;
        self.large.weight_max = limits.descriptors_max;
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
        if let Some(Some(folder)) = self.folders.get(index)
            && Arc::ptr_eq(&folder.files, files)
            && is_fresh(folder.checked, now, self.limits.valid)
        {
            return folder.opened.as_ref().map(|_| ()).map_err(|error| *error);
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
            // A new config often describes the same folder.
            if is_cached_alike(&folder.files, files) && folder.is_current() {
                folder.files = files.clone();
                folder.checked = now;
                return Ok(());
            }
        }
        if self.lookup == Lookup::Memory {
            return Err(self.cold());
        }
        if self.folders[index].is_some() {
            self.forget_folder(index);
            self.report(stats);
        }
        self.generations += 1;
        let opened = OpenFolder::open(files, self.generations).map_err(|error| {
            self.complaints.note(now, || tracing::warn!(root = %files.root.display(), %error, "root cannot be opened"));
            FileError::from(Errno::from_io_error(&error))
        });
        let result = opened.as_ref().map(|_| ()).map_err(|error| *error);
        let places = HashMap::with_hasher(self.hasher.clone());
        self.folders[index] = Some(Folder { files: files.clone(), opened, checked: now, places });
        result
    }

    /// Looks for an index file in the directory `name`, which is empty or ends in a slash.
    ///
    /// Errors: `Absent` when there is none, whether or not there is such a directory.
    pub(super) fn find_index(
        &mut self,
        index: usize,
        name: &[u8],
        files: &Files,
        now: Instant,
        stats: &FileStats,
    ) -> Result<Rc<Entry>, FileError> {
        let mut path = std::mem::take(&mut self.scratch);
        let mut found = Err(FileError::Absent);
        for candidate in &files.index {
            path.clear();
            path.extend_from_slice(name);
            path.extend_from_slice(candidate.trim_start_matches('/').as_bytes());
            found = match self.find(index, &path, now, stats) {
                Ok(Found::Entry(entry)) => Ok(entry),
                Ok(Found::Directory) => Err(FileError::Absent),
                Err(error) => Err(error),
            };
            if !matches!(found, Err(FileError::Absent)) {
                break;
            }
        }
        self.scratch = path;
        found
    }

    pub(super) fn take_scratch(&mut self) -> Composed {
        std::mem::take(&mut self.composed)
    }

    pub(super) fn give_scratch_back(&mut self, composed: Composed) {
        self.composed = composed;
    }

    /// There is a directory `name`, which is empty or ends in a slash, and it may be entered.
    ///
    /// Errors: `Absent` when there is something else, or nothing.
    pub(super) fn look_for_directory(&mut self, index: usize, name: &[u8]) -> Result<(), FileError> {
        match self.folder(index)?.root.open_file(name, self.lookup) {
            Ok(Opened::Directory) => Ok(()),
            Ok(_) => Err(FileError::Absent),
            Err(error) if self.would_wait(&error) => Err(self.cold()),
            Err(error) => Err(FileError::from(Errno::from_io_error(&error))),
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
            let is_intact = place.size == Size::Small || slot.entry.is_intact();
            if is_intact && is_fresh(slot.checked, now, self.limits.valid) {
                stats.cache_hits.inc();
                return Ok(Found::Entry(slot.entry.clone()));
            }
            if is_intact && !slot.reload {
                match load::is_current(slot, &open.root, path, &mut self.sibling_scratch, self.lookup) {
                    Ok(true) => {
                        slot.checked = now;
                        stats.cache_hits.inc();
                        return Ok(Found::Entry(slot.entry.clone()));
                    }
                    Err(error) if self.would_wait(&error) => return Err(self.cold()),
                    _ => {}
                }
            }
            self.forget(index, path);
        } else if self.absent.holds(open.generation, path, now, self.limits.valid) {
            return Err(FileError::Absent);
        }
        self.load(index, path, now, stats)
    }

    /// Runs `look` in such a way that nothing in it waits for the disk. `None`: it would have to.
    pub(super) fn without_disk<T>(&mut self, look: impl FnOnce(&mut Cache) -> T) -> Option<T> {
        (self.lookup, self.is_cold) = (Lookup::Memory, false);
        let result = look(self);
        self.lookup = Lookup::Disk;
        (!self.is_cold).then_some(result)
    }

    fn would_wait(&self, error: &io::Error) -> bool {
        load::would_wait(error, self.lookup)
    }

    /// Notes that the answer is not known, and an error that ends the search; nobody gets to see it.
    fn cold(&mut self) -> FileError {
        self.is_cold = true;
        FileError::Failed
    }

    /// Keeps `body`, which is the content of `entry` in `coding`, as long as the entry is cached, and within the
    /// limits; [`Entry::compressed`] has it then. `body` must hold no more memory than its length. False: it was not
    /// kept, because the entry left the cache meanwhile or it is too large.
    pub fn keep_compressed(&mut self, entry: &Rc<Entry>, coding: Coding, body: Bytes, stats: &FileStats) -> bool {
        if entry.compressed(coding).is_some() {
            return true;
        }
        let Some(place) = entry.place.get() else { return false };
        if !self.holds(place, entry) || !self.make_room(place.size, 0, body.len(), stats) {
            return false;
        }
        // Room may have been made by letting go of this very entry.
        if !self.holds(place, entry) {
            return false;
        }
        let ring = ring(&mut self.small, &mut self.large, place.size);
        ring.slots[place.slot].bytes += body.len();
        ring.bytes += body.len();
        entry.set_compressed(coding, body);
        self.report(stats);
        true
    }

    fn holds(&self, place: Place, entry: &Rc<Entry>) -> bool {
        let ring = match place.size {
            Size::Small => &self.small,
            Size::Large => &self.large,
        };
        ring.slots.get(place.slot).is_some_and(|slot| Rc::ptr_eq(&slot.entry, entry))
    }

    /// 128 bits in hexadecimal that no client can foresee, so that no file can hold them on purpose: the boundary of
    /// a multipart body (RFC 2046 section 5.1.1).
    pub(super) fn boundary(&mut self) -> [u8; 32] {
        self.boundaries += 1;
        let half = |n: u64| self.hasher.hash_one((self.boundaries, n));
        let bits = u128::from(half(0)) << 64 | u128::from(half(1));
        std::array::from_fn(|at| b"0123456789abcdef"[(bits >> (4 * at)) as usize & 15])
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
        let mut read = self.read(index, path);
        if read.as_ref().is_err_and(is_out_of_descriptors) && self.close_all_large() {
            read = self.read(index, path);
        }
        if read.as_ref().is_err_and(|error| self.would_wait(error)) {
            return Err(self.cold());
        }
        stats.cache_misses.inc();
        let found = match read {
            Ok(Read::File(file)) => Ok(Found::Entry(self.keep(index, path, file, now, stats))),
            Ok(Read::Directory) => Ok(Found::Directory),
            Ok(Read::Other) => Err(FileError::Absent),
            Err(error) => Err(self.judge(index, path, error, now)),
        };
        if matches!(found, Err(FileError::Absent)) && !self.limits.valid.is_zero() {
            let generation = self.folder(index)?.generation;
            self.absent.insert(generation, path, now);
        }
        self.report(stats);
        found
    }

    fn read(&self, index: usize, path: &[u8]) -> io::Result<Read> {
        let Some(Some(Folder { opened: Ok(open), files, .. })) = self.folders.get(index) else {
            return Ok(Read::Other);
        };
        let (small_max, wall_seconds) = (self.small_max(), (self.wall_seconds)());
        let making = Making { name: path, coding: None, files, small_max, wall_seconds };
        load::read(&open.root, path, &making, self.lookup)
    }

    /// What `error` means for the client; what the operator should mend is logged.
    fn judge(&mut self, index: usize, path: &[u8], error: io::Error, now: Instant) -> FileError {
        let verdict = FileError::from(Errno::from_io_error(&error));
        if (verdict != FileError::Absent || leads_nowhere(&error))
            && let Some(Some(folder)) = self.folders.get(index)
        {
            let (root, path) = (folder.files.root.display(), String::from_utf8_lossy(path));
            let what = match leads_nowhere(&error) {
                true => "symbolic link not followed: it is absolute, leads out of the root, or in a circle",
                false => "file cannot be opened",
            };
            self.complaints.note(now, || tracing::warn!(%root, ?path, %error, "{what}"));
        }
        verdict
    }

    /// Largest file kept in memory, bytes.
    fn small_max(&self) -> usize {
        self.limits.file_bytes_max.min(self.limits.bytes_max.saturating_sub(ENTRY_OVERHEAD_BYTES))
    }

    fn keep(&mut self, index: usize, path: &[u8], file: ReadFile, now: Instant, stats: &FileStats) -> Rc<Entry> {
        let ReadFile { entry, stamp, siblings } = file;
        let descriptors = entry.descriptors();
        // Descriptors are few, so what goes with them is not worth counting; content is.
        let (size, weight, bytes) = match descriptors {
            0 => (Size::Small, 1, ENTRY_OVERHEAD_BYTES + path.len() + entry.field_bytes() + entry.content_bytes()),
            _ => (Size::Large, descriptors, entry.content_bytes()),
        };
        if !self.make_room(size, weight, bytes, stats) {
            return entry;
        }
        let small_max = self.small_max() as u64;
        let Some(Some(folder)) = self.folders.get_mut(index) else { return entry };
        let wall_seconds = (self.wall_seconds)();
        let is_racy = |stamp: &Stamp| stamp.ctime.seconds.saturating_add(RACY_SECONDS) > wall_seconds;
        let racy = is_racy(&stamp) || siblings.iter().filter_map(|sibling| sibling.stamp.as_ref()).any(is_racy);
        // A small file that was not in the page cache, or would not hold still, may be kept in memory next time.
        let large = |size: u64| usize::from(size > small_max);
        let needed = large(stamp.size) + entry.variant_sizes().map(large).sum::<usize>();
        let path: Rc<[u8]> = path.into();
        let slot = Slot {
            folder: index,
            path: path.clone(),
            entry: entry.clone(),
            stamp,
            siblings,
            reload: racy || descriptors > needed,
            checked: now,
            used: false,
            weight,
            bytes,
        };
        let slot = ring(&mut self.small, &mut self.large, size).insert(slot);
        entry.place.set(Some(Place { size, slot }));
        folder.places.insert(path, Place { size, slot });
        entry
    }

    /// Evicts until `weight` more with together `bytes` fit. False: they never will.
    fn make_room(&mut self, size: Size, weight: usize, bytes: usize, stats: &FileStats) -> bool {
        let bytes_max = self.limits.bytes_max;
        if weight > ring(&mut self.small, &mut self.large, size).weight_max || bytes > bytes_max {
            return false;
        }
        loop {
            let ring = ring(&mut self.small, &mut self.large, size);
            let victim = if ring.weight + weight > ring.weight_max {
                ring.evict()
            } else if self.bytes().saturating_add(bytes) > bytes_max {
                // Each kind of file gets its share of the memory.
                if self.small.bytes >= self.large.bytes { self.small.evict() } else { self.large.evict() }
            } else {
                return true;
            };
            let Some(victim) = victim else { return false };
            stats.cache_evictions.inc();
            if let Some(Some(folder)) = self.folders.get_mut(victim.folder) {
                folder.places.remove(&victim.path);
            }
        }
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
    fn open(files: &Files, generation: u64) -> io::Result<OpenFolder> {
        let root = Root::open(&files.root, files.symlinks)?;
        let identity = root.own_identity()?;
        Ok(OpenFolder { root, identity, generation })
    }
}

/// Entries made for one of the two are right for the other.
fn is_cached_alike(one: &Files, other: &Files) -> bool {
    one.root == other.root
        && one.symlinks == other.symlinks
        && one.media == other.media
        && one.precompressed == other.precompressed
        && (one.ranges_max == 0) == (other.ranges_max == 0)
}

/// A symbolic link of the operator's that is not followed: it leads out of the root, or in a circle, or is absolute
/// (which the kernel counts as leading out, wherever it points).
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::XDEV | Errno::LOOP))
}

/// Lets one line a second into the log: a client can ask for the same bad file as often as it likes.
#[derive(Debug, Default)]
struct Complaints {
    /// Somebody else says it.
    silent: bool,
    last: Option<Instant>,
    /// Not logged since then.
    suppressed: u64,
}

impl Complaints {
    fn note(&mut self, now: Instant, log: impl FnOnce()) {
        if self.silent {
            return;
        }
        if self.last.is_some_and(|last| is_fresh(last, now, Duration::from_secs(1))) {
            self.suppressed += 1;
            return;
        }
        if self.suppressed > 0 {
            tracing::warn!(count = self.suppressed, "more files could not be opened");
        }
        (self.last, self.suppressed) = (Some(now), 0);
        log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_second() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let mut at = |ms| {
            let mut logged = false;
            complaints.note(start + Duration::from_millis(ms), || logged = true);
            logged
        };
        assert_eq!([0, 1, 999, 1000, 1001, 2500].map(&mut at), [true, false, false, true, false, true]);
    }
}
