//! Open files of one data worker: small ones with their content, large ones as descriptors.
//!
//! Keyed by folder and path beneath it. An entry that was looked at within `valid` is served as it is; an older one
//! costs one stat(2), and is opened again when anything about it changed. So is the folder itself, which a deployment
//! may replace by switching a symbolic link. Paths that led nowhere are remembered for the same time, in a table of
//! fixed size, so that `index` names and single-page applications do not ask the disk each time.
//! Memory and descriptors are bounded; what was not used for longest goes first, approximately (second chance).

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use rustix::io::Errno;

use super::FileError;
use super::absent::{Absent, is_fresh};
use super::entry::{Content, Entry};
use super::ring::{Place, Ring, Size, Slot};
use crate::config::model::{Files, Process};
use crate::metrics::FileStats;
use crate::runtime::sys::files::{self as sys, Opened, Root, Stamp};

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
            small: Ring::new(limits.entries_max, limits.bytes_max),
            large: Ring::new(limits.descriptors_max, usize::MAX),
            absent: Absent::new(hasher.clone()),
            hasher,
            scratch: Vec::new(),
            generations: 0,
            wall_seconds: sys::wall_seconds,
            complaints: Complaints::default(),
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
        let opened = OpenFolder::open(&files.root, self.generations).map_err(|error| {
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
        match self.folder(index).map(|folder| folder.root.open_file(name)) {
            Ok(Ok(Opened::Directory)) => FileError::Forbidden,
            Ok(Ok(_)) => FileError::Absent,
            Ok(Err(error)) => FileError::from(Errno::from_io_error(&error)),
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
            if !slot.reload && open.root.stat(path).is_ok_and(|stamp| stamp == slot.stamp) {
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
        if read.as_ref().is_err_and(is_out_of_descriptors) && self.close_all_large() {
            read = self.read(index, path);
        }
        let found = match read {
            Ok(Read::File(entry, stamp)) => Ok(Found::Entry(self.keep(index, path, entry, stamp, now, stats))),
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
        let Ok(folder) = self.folder(index) else { return Ok(Read::Other) };
        Ok(match folder.root.open_file(path)? {
            Opened::File(file, stamp) => {
                let (entry, stamp) = Entry::read(file, stamp, path, self.small_max(), (self.wall_seconds)())?;
                Read::File(Rc::new(entry), stamp)
            }
            Opened::Directory => Read::Directory,
            Opened::Other => Read::Other,
        })
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

    fn keep(
        &mut self,
        index: usize,
        path: &[u8],
        entry: Rc<Entry>,
        stamp: Stamp,
        now: Instant,
        stats: &FileStats,
    ) -> Rc<Entry> {
        let size = match entry.content {
            Content::Small(_) => Size::Small,
            Content::Large(_) => Size::Large,
        };
        let bytes = ENTRY_OVERHEAD_BYTES + path.len() + entry.heap_bytes();
        if !self.make_room(size, 1, bytes, stats) {
            return entry;
        }
        let small_max = self.small_max() as u64;
        let Some(Some(folder)) = self.folders.get_mut(index) else { return entry };
        let racy = stamp.ctime.seconds.saturating_add(RACY_SECONDS) > (self.wall_seconds)();
        // A small file that was not in the page cache, or would not hold still, may be kept in memory next time.
        let misplaced = size == Size::Large && stamp.size <= small_max;
        let path: Rc<[u8]> = path.into();
        let slot = Slot {
            folder: index,
            path: path.clone(),
            entry: entry.clone(),
            stamp,
            reload: racy || misplaced,
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
        if entries > ring.entries_max || bytes > ring.bytes_max {
            return false;
        }
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
    fn open(path: &Path, generation: u64) -> io::Result<OpenFolder> {
        let root = Root::open(path)?;
        let identity = root.own_identity()?;
        Ok(OpenFolder { root, identity, generation })
    }
}

/// What a path led to, on disk.
enum Read {
    File(Rc<Entry>, Stamp),
    Directory,
    Other,
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A symbolic link of the operator's that is not followed: it leads out of the root, or in a circle, or is absolute
/// (which the kernel counts as leading out, wherever it points).
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::XDEV | Errno::LOOP))
}

/// Lets one line a second into the log: a client can ask for the same bad file as often as it likes.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    /// Not logged since then.
    suppressed: u64,
}

impl Complaints {
    fn note(&mut self, now: Instant, log: impl FnOnce()) {
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
