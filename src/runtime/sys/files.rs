//! Files beneath a root folder, and sendfile(2).
//!
//! A [`Root`] holds a descriptor of its folder and opens nothing outside: openat2(2) with RESOLVE_BENEATH lets the
//! kernel check every step, symbolic links included. Where openat2 is missing (Linux before 5.6, some seccomp
//! filters) each component is opened by itself and symbolic links are refused.
//! Every call here blocks for as long as the disk takes; the caller keeps what it learns (see `files::Cache`).

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::runtime::net::Stream;

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
    fn new(stat: &Stat) -> Stamp {
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

/// openat2(2) says EAGAIN when something was renamed while it resolved `..`; so many tries in all.
const TRIES_MAX: u32 = 8;

/// A folder outside of which nothing is opened. Paths given to its methods are relative to it; empty: the folder.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// openat2(2) works here.
    openat2: bool,
}

impl Root {
    /// Opens the folder at `path`, which may be a symbolic link.
    ///
    /// Errors: what open(2) reports; `NotADirectory`.
    pub fn open(path: &Path) -> io::Result<Root> {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut root = Root { dir, openat2: true };
        // Filters say ENOSYS, or EPERM when they do not know the call.
        match root.open_beneath(c".", OFlags::PATH) {
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

    /// Metadata of what `path` leads to now: one system call. It follows symbolic links, also out of the root, so it
    /// only serves to compare with a file that [`Root::open_file`] opened before.
    ///
    /// Errors: what stat(2) reports.
    pub fn stat(&self, path: &[u8]) -> io::Result<Stamp> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        Ok(Stamp::new(&rustix::fs::statat(&self.dir, path, AtFlags::NO_AUTOMOUNT)?))
    }

    /// Opens `path` for reading if it is a regular file. Never waits for a fifo's other end, never opens a device.
    ///
    /// Errors: `ENOENT`, `ENOTDIR`, `EACCES` and so on; `EXDEV` when a symbolic link leads out of the root; `ELOOP`
    /// for a symbolic link where openat2 is missing.
    pub fn open_file(&self, path: &[u8]) -> io::Result<Opened> {
        // A look first, because opening a fifo wakes its writer and opening a device may move a tape.
        match self.stat(path)?.kind {
            Kind::Other => return Ok(Opened::Other),
            Kind::Directory => {
                self.open_any(path, OFlags::PATH | OFlags::DIRECTORY)?;
                return Ok(Opened::Directory);
            }
            Kind::File => {}
        }
        let file = self.open_any(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stamp = Stamp::new(&rustix::fs::fstat(&file)?);
        Ok(match stamp.kind {
            Kind::File => Opened::File(file.into(), stamp),
            Kind::Directory => Opened::Directory,
            Kind::Other => Opened::Other,
        })
    }

    fn open_any(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        if !self.openat2 {
            return self.open_by_component(path, flags);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.open_beneath(path, flags) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES_MAX => {}
                result => return result,
            }
        }
    }

    fn open_beneath<P: rustix::path::Arg>(&self, path: P, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
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
        parent.ok_or(Errno::NOENT)
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

/// Asks the kernel to read the first `len` bytes ahead, without waiting for them. A refusal does no harm.
pub fn read_ahead(file: &File, len: u64) {
    // Only a hint, so the result says nothing we could act on.
    let _ = rustix::fs::fadvise(file, 0, NonZeroU64::new(len), Advice::WillNeed);
}

/// The kernel's clock as file systems use it for time stamps, in seconds since 1970.
pub fn wall_seconds() -> i64 {
    #[expect(clippy::unnecessary_cast, reason = "its width differs between processors")]
    let seconds = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec as i64;
    seconds
}

/// Keeps a socket in non-blocking mode while it lives, then restores what was before.
///
/// Why: monoio's sockets are in blocking mode under io_uring, and sendfile(2) on one would stop the whole worker until
/// the client reads. O_NONBLOCK belongs to the open file description, so it is seen by every operation on the socket:
/// io_uring fails a *new* read or write with EAGAIN instead of waiting, but polls (`Stream::writable`) work as ever.
/// So the mode may stay on for a whole body as long as only polls are started meanwhile; that costs three fcntl(2)
/// a body instead of three a burst. MSG_DONTWAIT is no way out: sendfile(2) and splice(2) take no such flag and look
/// at the description only. On the epoll driver the socket is non-blocking already and nothing is changed.
#[derive(Debug)]
pub struct NonBlocking<'a> {
    socket: BorrowedFd<'a>,
    /// Flags to restore; `None`: it was non-blocking before.
    before: Option<OFlags>,
}

impl<'a> NonBlocking<'a> {
    /// Switches `socket` to non-blocking mode.
    ///
    /// Errors: what fcntl(2) reports.
    pub fn new(socket: BorrowedFd<'a>) -> io::Result<NonBlocking<'a>> {
        let flags = rustix::fs::fcntl_getfl(socket)?;
        if flags.contains(OFlags::NONBLOCK) {
            return Ok(NonBlocking { socket, before: None });
        }
        rustix::fs::fcntl_setfl(socket, flags | OFlags::NONBLOCK)?;
        Ok(NonBlocking { socket, before: Some(flags) })
    }

    /// The same for a stream of this worker.
    ///
    /// Errors: what fcntl(2) reports.
    pub fn of(stream: &'a Stream) -> io::Result<NonBlocking<'a>> {
        NonBlocking::new(descriptor(stream))
    }

    /// Sends bytes of `file` until the socket is full, `burst_max` or `len` bytes went out, and moves `offset`.
    ///
    /// `Ok(0)`: the socket takes nothing now (or there was nothing to send); wait until it is writable. `len` is what
    /// is left to send from `*offset` on.
    /// Errors: `UnexpectedEof` when the file is shorter than promised: the response cannot be completed, close the
    /// connection. Else what sendfile(2) reports.
    pub fn send(&self, file: BorrowedFd<'_>, offset: &mut u64, len: u64, burst_max: usize) -> io::Result<usize> {
        let goal = usize::try_from(len).unwrap_or(usize::MAX).min(burst_max);
        let mut sent = 0;
        while sent < goal {
            match rustix::fs::sendfile(self.socket, file, Some(offset), goal - sent) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }
}

impl Drop for NonBlocking<'_> {
    fn drop(&mut self) {
        if let Some(flags) = self.before {
            // It can only fail for a closed descriptor, and ours is borrowed.
            let restored = rustix::fs::fcntl_setfl(self.socket, flags);
            debug_assert!(restored.is_ok(), "{restored:?}");
        }
    }
}

/// One burst of [`NonBlocking::send`], with the mode switched before and restored after it.
///
/// Errors: see there.
pub fn sendfile_burst(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: &mut u64,
    len: u64,
    burst_max: usize,
) -> io::Result<usize> {
    NonBlocking::new(socket)?.send(file, offset, len, burst_max)
}

/// [`sendfile_burst`] to a stream of this worker. No read or write of the caller may be under way on it meanwhile
/// other than those the kernel already holds.
///
/// Errors: see there.
pub fn send_file(stream: &Stream, file: &File, offset: &mut u64, len: u64, burst_max: usize) -> io::Result<usize> {
    sendfile_burst(descriptor(stream), file.as_fd(), offset, len, burst_max)
}

fn descriptor(stream: &Stream) -> BorrowedFd<'_> {
    // SAFETY: `raw_fd` is open while the stream lives, and the result borrows the stream.
    unsafe { BorrowedFd::borrow_raw(stream.raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

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
        match root.open_file(path.as_bytes()) {
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
        let root = Root::open(&dir.path().join("root")).expect("root");
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
        let mut root = Root::open(&dir.path().join("root")).expect("root");
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

    fn file_of(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let content: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(&content).expect("write");
        (file, content)
    }

    #[test]
    fn bursts_stop_when_the_socket_is_full_and_restore_its_mode() {
        let (file, content) = file_of(3_000_000);
        let (here, mut there) = UnixStream::pair().expect("sockets");
        let (mut offset, mut got) = (100u64, Vec::new());
        while offset < content.len() as u64 {
            let left = content.len() as u64 - offset;
            let before = offset;
            let sent = sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, left, 1 << 20).expect("burst");
            assert_eq!(offset - before, sent as u64);
            assert!(sent <= 1 << 20);
            let flags = rustix::fs::fcntl_getfl(&here).expect("flags");
            assert!(!flags.contains(OFlags::NONBLOCK));
            // Full, or at the end: take what is there.
            let full = sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, 0, 1 << 20).expect("nothing to send");
            assert_eq!(full, 0);
            let mut piece = vec![0; sent];
            there.read_exact(&mut piece).expect("read");
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, content[100..]);
    }

    #[test]
    fn a_full_socket_takes_nothing_and_does_not_block() {
        let (file, content) = file_of(4_000_000);
        let (here, _there) = UnixStream::pair().expect("sockets");
        let mut offset = 0;
        let len = content.len() as u64;
        let first = sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, len, usize::MAX).expect("burst");
        assert!(first > 0 && first < content.len());
        let left = len - offset;
        assert_eq!(sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, left, 1 << 20).expect("full"), 0);
    }

    #[test]
    fn a_socket_that_was_non_blocking_stays_so() {
        let (file, _) = file_of(10);
        let (here, _there) = UnixStream::pair().expect("sockets");
        here.set_nonblocking(true).expect("mode");
        let mut offset = 0;
        assert_eq!(sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, 10, 100).expect("burst"), 10);
        assert!(rustix::fs::fcntl_getfl(&here).expect("flags").contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let (file, _) = file_of(1000);
        let (here, _there) = UnixStream::pair().expect("sockets");
        let mut offset = 0;
        let result = sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, 2000, 1 << 20);
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
        let result = sendfile_burst(here.as_fd(), file.as_fd(), &mut offset, 1000, 1 << 20);
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }
}
