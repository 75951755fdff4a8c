//! Files beneath a root folder.
//!
//! A [`Root`] holds a descriptor of its folder and opens nothing outside: openat2(2) with RESOLVE_BENEATH lets the
//! kernel check every step, symbolic links included. Where openat2 is missing (Linux before 5.6, some seccomp
//! filters) each component is opened by itself and symbolic links are refused. Links that must have the owner of what
//! they lead to ([`Symlinks::Owner`]) are followed in `walk`, step by step, since the kernel knows no such rule.
//! Opening and stat(2) block for as long as the disk takes; the caller keeps what it learns (see `files::Cache`), or
//! asks with [`Lookup::Memory`] first.
//! Reading need not block: [`read_resident`], [`is_resident`] and [`OpenFile::await_resident`] know what is in the page cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, ReadWriteFlags};

use super::walk;
use crate::config::model::Symlinks;

pub use super::open_file::OpenFile;
pub use super::sendfile::NonBlocking;

/// A moment of the kernel's clock as the file system stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Seconds since 1970; negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What something is, as far as serving it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: fifo, socket, device.
    Other,
}

/// Metadata that tells two versions of a file apart. Two equal values mean the same bytes, unless the file was
/// written twice within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of content or inode (mode, owner, links).
    pub ctime: FileTime,
    /// Bytes.
    pub size: u64,
    /// Type.
    pub kind: Kind,
}

impl Stamp {
    #[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between processors")]
    pub(super) fn new(stat: &Stat) -> Stamp {
        let time = |seconds: i64, nanoseconds: u32| FileTime { seconds, nanoseconds };
        Stamp {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                _ => Kind::Other,
            },
        }
    }
}

/// What [`Root::open_file`] found.
#[derive(Debug)]
pub enum Opened {
    /// A regular file, open for reading.
    File(File, Stamp),
    /// A directory; it is not left open.
    Directory,
    /// A fifo, socket or device; it was not opened.
    Other,
}

/// May finding a name wait for the disk?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Yes.
    Disk,
    /// No: what the kernel's cache of names cannot tell is the error `WouldBlock` (RESOLVE_CACHED, Linux 5.12; always
    /// that error before). Opening a file whose name and inode are in memory does not wait on the usual file systems.
    Memory,
}

/// openat2(2) says EAGAIN when something was renamed while it resolved `..`; so many tries in all.
const TRIES_MAX: u32 = 8;

/// A folder outside of which nothing is opened. Paths given to its methods are relative to it; empty: the folder.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// openat2(2) works here.
    openat2: bool,
    links: Symlinks,
}

impl Root {
    /// Opens the folder at `path`, which may be a symbolic link; `links` says which ones are followed beneath it.
    ///
    /// Errors: what open(2) reports; `NotADirectory`.
    pub fn open(path: &Path, links: Symlinks) -> io::Result<Root> {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut root = Root { dir, openat2: true, links };
        // Filters say ENOSYS, or EPERM when they do not know the call.
        match root.open_beneath(c".", OFlags::PATH, Lookup::Disk) {
            Err(Errno::NOSYS | Errno::PERM) => root.openat2 = false,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        Ok(root)
    }

    /// Device and inode, to notice that the path of the root leads to another folder now.
    ///
    /// Errors: what stat(2) reports.
    pub fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let stat = Stamp::new(&rustix::fs::stat(path)?);
        Ok((stat.dev, stat.ino))
    }

    /// Device and inode of the folder that is open.
    ///
    /// Errors: what fstat(2) reports.
    pub fn own_identity(&self) -> io::Result<(u64, u64)> {
        let stat = Stamp::new(&rustix::fs::fstat(&self.dir)?);
        Ok((stat.dev, stat.ino))
    }

    /// Metadata of what `path` leads to now, to compare with a file that [`Root::open_file`] opened before. Where
    /// every link beneath the root is followed it is one system call, which also follows links out of the root: the
    /// same inode as before is then what was allowed before. Under a stricter rule, and for [`Lookup::Memory`], the
    /// same as [`Root::look`].
    ///
    /// Errors: what stat(2) reports; those of [`Root::look`].
    pub fn stat(&self, path: &[u8], lookup: Lookup) -> io::Result<Stamp> {
        if self.links != Symlinks::Beneath || lookup == Lookup::Memory {
            return self.look(path, lookup);
        }
        let path = if path.is_empty() { b".".as_slice() } else { path };
        Ok(Stamp::new(&rustix::fs::statat(&self.dir, path, AtFlags::NO_AUTOMOUNT)?))
    }

    /// Metadata of what `path` leads to, found under the rules by which files are opened: three system calls.
    ///
    /// Errors: those of [`Root::open_file`].
    pub fn look(&self, path: &[u8], lookup: Lookup) -> io::Result<Stamp> {
        let place = self.open_any(path, OFlags::PATH, lookup)?;
        Ok(Stamp::new(&rustix::fs::fstat(&place)?))
    }

    /// Opens `path` for reading if it is a regular file. Never waits for a fifo's other end, never opens a device.
    ///
    /// Errors: `ENOENT`, `ENOTDIR`, `EACCES` and so on; `EXDEV` when a symbolic link leads out of the root; `ELOOP`
    /// for a symbolic link where none is followed; `EACCES` for one whose owner is not that of its target, where that
    /// matters; `WouldBlock` for [`Lookup::Memory`].
    pub fn open_file(&self, path: &[u8], lookup: Lookup) -> io::Result<Opened> {
        // A look first, because opening a fifo wakes its writer and opening a device may move a tape.
        match self.stat(path, lookup)?.kind {
            Kind::Other => return Ok(Opened::Other),
            Kind::Directory => {
                self.open_any(path, OFlags::PATH | OFlags::DIRECTORY, lookup)?;
                return Ok(Opened::Directory);
            }
            Kind::File => {}
        }
        let file = self.open_any(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, lookup)?;
        let stamp = Stamp::new(&rustix::fs::fstat(&file)?);
        Ok(match stamp.kind {
            Kind::File => Opened::File(file.into(), stamp),
            Kind::Directory => Opened::Directory,
            Kind::Other => Opened::Other,
        })
    }

    /// Reads the directory `path`: hands the names in it, in no order, with their metadata to `visit` until that says
    /// false. What a name leads to decides, under the rules of the root: links that are not followed, and what cannot
    /// be looked at, are left out. Returns the metadata of the directory. Blocks.
    ///
    /// Errors: those of [`Root::open_file`].
    pub fn read_directory(&self, path: &[u8], mut visit: impl FnMut(&[u8], Stamp) -> bool) -> io::Result<Stamp> {
        let directory = self.open_any(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK, Lookup::Disk)?;
        let own = Stamp::new(&rustix::fs::fstat(&directory)?);
        let mut full = path.to_vec();
        if !full.is_empty() && !full.ends_with(b"/") {
            full.push(b'/');
        }
        let prefix = full.len();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let stamp = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    full.truncate(prefix);
                    full.extend_from_slice(name);
                    self.look(&full, Lookup::Disk).ok()
                }
                Ok(stat) => Some(Stamp::new(&stat)),
                Err(_) => None,
            };
            if stamp.is_some_and(|stamp| !visit(name, stamp)) {
                break;
            }
        }
        Ok(own)
    }

    fn open_any(&self, path: &[u8], flags: OFlags, lookup: Lookup) -> Result<OwnedFd, Errno> {
        if lookup == Lookup::Memory && !self.openat2 {
            return Err(Errno::AGAIN);
        }
        let path = if path.is_empty() { b".".as_slice() } else { path };
        if !self.openat2 && self.links != Symlinks::Owner {
            return self.open_by_component(path, flags);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let result = match self.links {
                Symlinks::Owner => walk::open(self.dir.as_fd(), path, flags, lookup),
                _ => self.open_beneath(path, flags, lookup),
            };
            match result {
                Err(Errno::AGAIN) if lookup == Lookup::Memory => return Err(Errno::AGAIN),
                // The flag is not known: Linux before 5.12. Names that openat2(2) itself calls invalid do not exist.
                Err(Errno::INVAL) if lookup == Lookup::Memory => return Err(Errno::AGAIN),
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES_MAX => {}
                result => return result,
            }
        }
    }

    fn open_beneath<P: rustix::path::Arg>(&self, path: P, flags: OFlags, lookup: Lookup) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        resolve.set(ResolveFlags::NO_SYMLINKS, self.links == Symlinks::Never);
        resolve.set(ResolveFlags::CACHED, lookup == Lookup::Memory);
        rustix::fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Walks down one component at a time; a symbolic link anywhere ends the walk with `ELOOP` or `ENOTDIR`.
    fn open_by_component(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut components = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
        let mut parent: Option<OwnedFd> = None;
        while let Some(name) = components.next() {
            if name == b".." {
                return Err(Errno::XDEV);
            }
            let last = components.peek().is_none();
            let flags =
                if last { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC };
            let from = parent.as_ref().map_or(self.dir.as_fd(), |dir| dir.as_fd());
            parent = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
        }
        let place = parent.ok_or(Errno::NOENT)?;
        // With O_PATH a link itself is opened.
        if flags.contains(OFlags::PATH)
            && FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Symlink
        {
            return Err(Errno::LOOP);
        }
        Ok(place)
    }
}

/// Metadata of an open file.
///
/// Errors: what fstat(2) reports.
pub fn stamp(file: &File) -> io::Result<Stamp> {
    Ok(Stamp::new(&rustix::fs::fstat(file)?))
}

/// Appends up to `len` bytes of `file` from `offset` on to `buf`, growing it if needed; stops early only at the end
/// of the file. Returns how many. For whole small files, and for pieces of large ones where sendfile(2) cannot go
/// (TLS).
///
/// Errors: what pread(2) reports.
pub fn read_at(file: &File, offset: u64, len: usize, buf: &mut Vec<u8>) -> io::Result<usize> {
    buf.reserve_exact(len);
    let end = buf.len() + len;
    while buf.len() < end {
        let at = offset + (len - (end - buf.len())) as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buf), at) {
            Ok(0) => break,
            // More came when the buffer had room for more.
            Ok(_) => buf.truncate(end),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(len - (end - buf.len()))
}

/// The same as [`read_at`] for bytes that are in the page cache; never waits for a disk.
///
/// Errors: `WouldBlock` when some are not there: the kernel was asked to fetch them and `buf` is as before. Where the
/// file system cannot tell, this may wait after all.
pub fn read_resident(file: &File, offset: u64, len: usize, buf: &mut Vec<u8>) -> io::Result<usize> {
    buf.reserve_exact(len);
    let start = buf.len();
    buf.resize(start + len, 0);
    let mut done = 0;
    let result = loop {
        if done == len {
            break Ok(());
        }
        let mut rest = [IoSliceMut::new(&mut buf[start + done..])];
        match rustix::io::preadv2(file, &mut rest, offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => break Ok(()),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => break Err(error),
        }
    };
    buf.truncate(start + done);
    match result {
        Ok(()) => Ok(done),
        Err(error) => {
            buf.truncate(start);
            match error {
                Errno::AGAIN => {
                    read_ahead(file, offset, len as u64);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                error if cannot_tell(error) => read_at(file, offset, len, buf),
                error => Err(error.into()),
            }
        }
    }
}

/// The file system, or the kernel (before 4.14), does not know reads that never wait.
fn cannot_tell(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}

/// Asks the kernel to read these bytes ahead, without waiting for them. A refusal does no harm.
pub fn read_ahead(file: &File, offset: u64, len: u64) {
    // Only a hint, so the result says nothing we could act on.
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), Advice::WillNeed);
}

/// Whether sending these bytes would wait for the disk, judged by the first and the last of them: two system calls,
/// none of which waits. If so the kernel is asked to fetch them.
pub fn is_resident(file: &File, offset: u64, len: u64) -> bool {
    let resident = |at: u64| {
        let mut byte = [0];
        let result = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
        !matches!(result, Err(Errno::AGAIN))
    };
    let resident = len == 0 || resident(offset) && resident(offset + (len - 1));
    if !resident {
        read_ahead(file, offset, len);
    }
    resident
}

/// The kernel's clock as file systems use it for time stamps, in seconds since 1970.
pub fn wall_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::model::DriverChoice;
    use crate::runtime::driver::DataRuntime;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    /// `a/file`, `link` → `a`, `out` → outside, each with content `inside` or `outside`.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a")).expect("folder");
        std::fs::write(root.join("a/file"), "inside").expect("write");
        std::fs::write(dir.path().join("secret"), "outside").expect("write");
        symlink("a", root.join("link")).expect("link");
        symlink("..", root.join("up")).expect("link");
        symlink("../secret", root.join("out")).expect("link");
        dir
    }

    fn open(root: &Root, path: &str) -> Result<String, Errno> {
        match root.open_file(path.as_bytes(), Lookup::Disk) {
            Ok(Opened::File(file, stamp)) => {
                let mut content = Vec::new();
                read_at(&file, 0, stamp.size as usize, &mut content).expect("read");
                Ok(String::from_utf8(content).expect("text"))
            }
            Ok(other) => Ok(format!("{other:?}")),
            Err(error) => Err(Errno::from_io_error(&error).expect("errno")),
        }
    }

    #[test]
    fn the_kernel_keeps_paths_beneath_the_root() {
        let dir = folder();
        let root = Root::open(&dir.path().join("root"), Symlinks::Beneath).expect("root");
        if !root.openat2 {
            eprintln!("skipped: no openat2 here");
            return;
        }
        assert_eq!(open(&root, "a/file"), Ok("inside".into()));
        assert_eq!(open(&root, "link/file"), Ok("inside".into()));
        assert_eq!(open(&root, "a"), Ok("Directory".into()));
        assert_eq!(open(&root, ""), Ok("Directory".into()));
        assert_eq!(open(&root, "out"), Err(Errno::XDEV));
        assert_eq!(open(&root, "up/secret"), Err(Errno::XDEV));
        assert_eq!(open(&root, "../secret"), Err(Errno::XDEV));
        assert_eq!(open(&root, "/etc/passwd"), Err(Errno::XDEV));
        assert_eq!(open(&root, "b"), Err(Errno::NOENT));
    }

    #[test]
    fn without_openat2_links_are_refused() {
        let dir = folder();
        let mut root = Root::open(&dir.path().join("root"), Symlinks::Beneath).expect("root");
        root.openat2 = false;
        assert_eq!(open(&root, "a/file"), Ok("inside".into()));
        assert_eq!(open(&root, "a/"), Ok("Directory".into()));
        assert_eq!(open(&root, ""), Ok("Directory".into()));
        assert_eq!(open(&root, "link/file"), Err(Errno::NOTDIR));
        assert_eq!(open(&root, "up/secret"), Err(Errno::NOTDIR));
        assert_eq!(open(&root, "out"), Err(Errno::LOOP));
        assert_eq!(open(&root, "../secret"), Err(Errno::XDEV));
        assert_eq!(open(&root, "a/../../secret"), Err(Errno::XDEV));
    }

    #[test]
    fn no_link_is_followed_where_none_may_be() {
        let dir = folder();
        let mut root = Root::open(&dir.path().join("root"), Symlinks::Never).expect("root");
        for openat2 in [root.openat2, false] {
            root.openat2 = openat2;
            assert_eq!(open(&root, "a/file"), Ok("inside".into()));
            for link in ["link", "link/file", "up/secret", "out"] {
                let error = open(&root, link).expect_err(link);
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{link}: {error:?}");
            }
            let look = |path: &str| root.look(path.as_bytes(), Lookup::Disk).map(|stamp| stamp.kind);
            assert_eq!(look("a/file").expect("a file"), Kind::File);
            assert!(root.stat(b"out", Lookup::Disk).map_or(true, |stamp| stamp.kind == Kind::Other));
        }
    }

    #[test]
    fn a_lookup_in_memory_finds_what_was_found_before() {
        let dir = folder();
        let root = Root::open(&dir.path().join("root"), Symlinks::Beneath).expect("root");
        assert_eq!(open(&root, "a/file"), Ok("inside".into()));
        let quick = root.open_file(b"a/file", Lookup::Memory);
        if quick.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            eprintln!("skipped: the kernel cannot tell, or forgot the name at once");
            return;
        }
        assert!(matches!(quick, Ok(Opened::File(..))), "{quick:?}");
        // It stays beneath the root, and what is not there is not found.
        for (path, errno) in [("../secret", Errno::XDEV), ("b", Errno::NOENT)] {
            let error = root.open_file(path.as_bytes(), Lookup::Memory).expect_err(path);
            let got = Errno::from_io_error(&error);
            assert!(got == Some(errno) || got == Some(Errno::AGAIN), "{path}: {got:?}");
        }
    }

    #[test]
    fn a_directory_shows_what_can_be_reached() {
        let dir = folder();
        std::fs::write(dir.path().join("root/plain"), "1234").expect("write");
        let names = |links: Symlinks, path: &str| {
            let root = Root::open(&dir.path().join("root"), links).expect("root");
            let mut names = Vec::new();
            let result = root.read_directory(path.as_bytes(), |name, stamp| {
                names.push((String::from_utf8_lossy(name).into_owned(), stamp.kind, stamp.size));
                true
            });
            names.sort_by(|a, b| a.0.cmp(&b.0));
            let shown = names.iter().map(|(name, kind, _)| format!("{name}:{kind:?}")).collect::<Vec<_>>().join(" ");
            result.map(|_| shown).map_err(|error| Errno::from_io_error(&error).expect("errno"))
        };
        let openat2 = Root::open(&dir.path().join("root"), Symlinks::Beneath).expect("root").openat2;
        if openat2 {
            assert_eq!(names(Symlinks::Beneath, ""), Ok("a:Directory link:Directory plain:File".into()));
            assert_eq!(names(Symlinks::Never, ""), Ok("a:Directory plain:File".into()));
            assert_eq!(names(Symlinks::Beneath, "up"), Err(Errno::XDEV));
        }
        assert_eq!(names(Symlinks::Owner, ""), Ok("a:Directory link:Directory plain:File".into()));
        assert_eq!(names(Symlinks::Owner, "a/"), Ok("file:File".into()));
        assert_eq!(names(Symlinks::Owner, "plain"), Err(Errno::NOTDIR));
    }

    #[test]
    fn read_at_stops_at_the_end_and_takes_no_more_than_asked() {
        let dir = folder();
        let file = File::open(dir.path().join("secret")).expect("open");
        let mut buf = Vec::with_capacity(100);
        buf.push(b'>');
        assert_eq!(read_at(&file, 0, 3, &mut buf).expect("read"), 3);
        assert_eq!(read_at(&file, 3, 100, &mut buf).expect("read"), 4);
        assert_eq!(read_at(&file, 7, 100, &mut buf).expect("read"), 0);
        assert_eq!(read_at(&file, 0, 0, &mut buf).expect("read"), 0);
        assert_eq!(buf, b">outside");
    }

    /// Drops `file` from the page cache; `None` where that cannot be done or noticed.
    pub(in crate::runtime::sys) fn evict(file: &File) -> Option<()> {
        file.sync_all().expect("sync");
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed).expect("advice");
        let mut byte = [0];
        let result = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT);
        matches!(result, Err(Errno::AGAIN)).then_some(())
    }

    fn until(mut condition: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "the disk never answers");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_not_in_memory_is_fetched_while_nobody_waits() {
        let (file, content) = file_of(300_000);
        let file = file.as_file();
        if evict(file).is_none() {
            eprintln!("skipped: this file system keeps its pages or cannot tell");
            return;
        }
        let mut buf = b"before".to_vec();
        let result = read_resident(file, 0, content.len(), &mut buf);
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(buf, b"before");
        until(|| read_resident(file, 0, content.len(), &mut buf).is_ok());
        assert_eq!(buf[6..], content);
        evict(file).expect("as before");
        assert!(!is_resident(file, 100_000, 100_000));
        until(|| is_resident(file, 100_000, 100_000));
        assert!(is_resident(file, 0, 0));
    }

    #[test]
    fn a_resident_read_ends_with_the_file() {
        let (file, content) = file_of(1000);
        let mut buf = Vec::new();
        assert_eq!(read_resident(file.as_file(), 900, 500, &mut buf).expect("read"), 100);
        assert_eq!(buf, content[900..]);
        assert_eq!(read_resident(file.as_file(), 1000, 1, &mut buf).expect("read"), 0);
    }

    pub(in crate::runtime::sys) fn file_of(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let content: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(&content).expect("write");
        (file, content)
    }

    /// Runs `test` on a data worker of each driver this kernel has.
    pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn() -> F) {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            let (mut runtime, _) = DataRuntime::build(choice, 256, false).expect("runtime");
            runtime.block_on(test());
        }
    }
}
