//! sendfile(2): bytes of a file to a socket without a copy through the process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::runtime::net::Stream;

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
    use crate::runtime::net::Address;
    use crate::runtime::sys::files::await_resident;
    use crate::runtime::sys::files::tests::{file_of, on_each_driver};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

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

    #[test]
    fn a_large_file_reaches_a_slow_client_and_the_stream_works_on() {
        on_each_driver(|| async {
            let (file, content) = file_of(5_000_000);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
            let address = Address::Tcp(listener.local_addr().expect("address"));
            let client = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().expect("accept");
                std::thread::sleep(Duration::from_millis(50)); // the socket is full meanwhile
                let mut got = vec![0; 5_000_000];
                socket.read_exact(&mut got).expect("body");
                std::thread::sleep(Duration::from_millis(20)); // our read is waiting meanwhile
                socket.write_all(b"next").expect("write");
                got
            });
            let stream = Stream::connect(&address).await.expect("connect");
            let (mut offset, mut waits) = (0, 0);
            while offset < content.len() as u64 {
                let left = content.len() as u64 - offset;
                await_resident(file.as_file(), offset, left.min(1 << 18)).await;
                if send_file(&stream, file.as_file(), &mut offset, left, 1 << 18).expect("burst") == 0 {
                    waits += 1;
                    stream.writable().await.expect("writable");
                }
            }
            let (result, buf) = stream.read(Vec::with_capacity(16)).await;
            assert_eq!((result.expect("read"), buf.as_slice()), (4, b"next".as_slice()));
            assert!(client.join().expect("client") == content);
            assert!(waits > 0, "the socket was never full");
        });
    }
}
