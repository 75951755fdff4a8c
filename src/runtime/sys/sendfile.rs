//! sendfile(2): bytes of a file to a socket without a copy through the process.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::runtime::driver;
use crate::runtime::net::Stream;

/// Keeps a socket in non-blocking mode while it lives, then restores what was before.
///
/// Why: monoio's sockets are in blocking mode under io_uring, and sendfile(2) on one would stop the whole worker until
/// the client reads. O_NONBLOCK belongs to the open file description, so it is seen by every operation on the socket:
/// io_uring fails a *new* read or write with EAGAIN instead of waiting, but polls (`Stream::writable`) work as ever.
/// So the mode may stay on for a whole body as long as only polls are started meanwhile. MSG_DONTWAIT is no way out: sendfile(2) and splice(2) take no such flag and look
/// at the description only. On the epoll driver the socket is non-blocking already and nothing is changed.
#[derive(Debug)]
pub struct NonBlocking<'a> {
    socket: BorrowedFd<'a>,
    /// It was in blocking mode before.
    blocks: bool,
}

impl<'a> NonBlocking<'a> {
    /// Switches `socket` to non-blocking mode. Two system calls with what dropping does.
    ///
    /// Errors: what ioctl(2) reports of FIONBIO.
    pub fn new(socket: BorrowedFd<'a>) -> io::Result<NonBlocking<'a>> {
        rustix::io::ioctl_fionbio(socket, true)?;
        Ok(NonBlocking { socket, blocks: true })
    }

    /// The same for a stream of this worker; nothing to do on epoll.
    ///
    /// Errors: as above.
    pub fn of(stream: &'a Stream) -> io::Result<NonBlocking<'a>> {
        match driver::is_epoll() {
            true => Ok(NonBlocking { socket: descriptor(stream), blocks: false }),
            false => NonBlocking::new(descriptor(stream)),
        }
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> BorrowedFd<'a> {
        self.socket
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
        if self.blocks {
            // It can only fail for a closed descriptor, and ours is borrowed.
            let restored = rustix::io::ioctl_fionbio(self.socket, false);
            debug_assert!(restored.is_ok(), "{restored:?}");
        }
    }
}

fn descriptor(stream: &Stream) -> BorrowedFd<'_> {
    // SAFETY: `raw_fd` is open while the stream lives, and the result borrows the stream.
    unsafe { BorrowedFd::borrow_raw(stream.raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::net::Address;
    use crate::runtime::sys::files::OpenFile;
    use crate::runtime::sys::files::tests::{file_of, on_each_driver};
    use rustix::fs::OFlags;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// One burst, with the mode switched before and restored after it.
    fn burst(socket: &UnixStream, file: &impl AsFd, offset: &mut u64, len: u64, burst_max: usize) -> io::Result<usize> {
        NonBlocking::new(socket.as_fd())?.send(file.as_fd(), offset, len, burst_max)
    }

    #[test]
    fn bursts_stop_when_the_socket_is_full_and_restore_its_mode() {
        let (file, content) = file_of(3_000_000);
        let (here, mut there) = UnixStream::pair().expect("sockets");
        let (mut offset, mut got) = (100u64, Vec::new());
        while offset < content.len() as u64 {
            let left = content.len() as u64 - offset;
            let before = offset;
            let sent = burst(&here, &file, &mut offset, left, 1 << 20).expect("burst");
            assert_eq!(offset - before, sent as u64);
            assert!(sent <= 1 << 20);
            let flags = rustix::fs::fcntl_getfl(&here).expect("flags");
            assert!(!flags.contains(OFlags::NONBLOCK));
            // Full, or at the end: take what is there.
            let full = burst(&here, &file, &mut offset, 0, 1 << 20).expect("nothing to send");
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
        let first = burst(&here, &file, &mut offset, len, usize::MAX).expect("burst");
        assert!(first > 0 && first < content.len());
        let left = len - offset;
        assert_eq!(burst(&here, &file, &mut offset, left, 1 << 20).expect("full"), 0);
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let (file, _) = file_of(1000);
        let (here, _there) = UnixStream::pair().expect("sockets");
        let mut offset = 0;
        let result = burst(&here, &file, &mut offset, 2000, 1 << 20);
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
        let result = burst(&here, &file, &mut offset, 1000, 1 << 20);
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
            let file = OpenFile::new(file.into_file());
            let mode = || rustix::fs::fcntl_getfl(descriptor(&stream)).expect("flags");
            let (before, mut offset, mut waits) = (mode(), 0, 0);
            while offset < content.len() as u64 {
                let left = content.len() as u64 - offset;
                file.await_resident(offset, left.min(1 << 18)).await;
                let socket = NonBlocking::of(&stream).expect("mode");
                let sent = socket.send(file.as_fd(), &mut offset, left, 1 << 18).expect("burst");
                assert!(mode().contains(OFlags::NONBLOCK));
                drop(socket);
                assert_eq!(mode(), before);
                if sent == 0 {
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
