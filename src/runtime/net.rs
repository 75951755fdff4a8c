//! Stream sockets of a data worker: one type over TCP and Unix sockets, on whichever driver the worker runs.
//!
//! Buffers go in by value and come back with the result, because the kernel holds them in between.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

pub use super::address::{
    Address, AppSeat, BACKLOG_PAUSE_MAX, BACKLOG_PAUSE_MIN, Name, is_backlog_full, is_own_failure, no_address,
    no_socket,
};
pub use super::listener::{
    BoundSocket, Listener, bind_private, bind_with_mode, bound_address, share_sockets, were_sockets_shared,
};

/// Bytes that can be handed to the kernel: `Vec<u8>`, `Bytes` and the like.
pub trait Buffer: IoBuf + AsRef<[u8]> {
    /// How many.
    fn bytes(&self) -> usize {
        self.bytes_init()
    }
}

impl<B: IoBuf + AsRef<[u8]>> Buffer for B {}

enum Socket {
    Tcp(monoio::net::TcpStream),
    Unix(monoio::net::UnixStream),
}

/// A connected stream socket that belongs to one data worker.
///
/// One read and one write may be under way at the same time, so the methods take `&self`; two reads at once (or two
/// writes) are a mistake of the caller: which of them gets the bytes is open.
/// Dropping the stream closes it once the kernel has given back every operation on it.
pub struct Stream {
    /// Taken out only by `drop`.
    socket: UnsafeCell<ManuallyDrop<Socket>>,
    fd: RawFd,
    /// Operations of the runtime that have begun and not come back. Those whose futures were dropped never do.
    under_way: Cell<u32>,
    /// Writes that went past the runtime since it last had something of this stream to wait for.
    at_once: Cell<u8>,
}

/// Writes up to this size are tried at once where little comes at a time (see [`super::turn`]) or there is no ring, and go to the
/// runtime only where the socket has no room for them.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// So many in succession: then others have their turn.
const AT_ONCE_MAX: u8 = 8;

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("fd", &self.fd).finish()
    }
}

impl Stream {
    /// Connects to `address`; sets TCP_NODELAY. No time-out of its own: wrap it in [`super::time::timeout`].
    ///
    /// Errors: what connect(2) reports.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        let mut pause = BACKLOG_PAUSE_MIN;
        loop {
            match Stream::connect_at_once(address).await {
                Err(error) if is_backlog_full(address, &error) => super::time::sleep(pause).await,
                connected => return connected,
            }
            pause = (2 * pause).min(BACKLOG_PAUSE_MAX);
        }
    }

    /// The same without a wait where the backlog of a Unix socket is full, see [`is_backlog_full`].
    ///
    /// Errors: what connect(2) reports.
    pub async fn connect_at_once(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => {
                let socket = monoio::net::TcpStream::connect_addr(*address).await?;
                socket.set_nodelay(true)?;
                Ok(Self::from_tcp(socket))
            }
            Address::Unix(path) => Self::connect_unix(path),
            Address::Name(name) => Err(no_address(name)),
            Address::App(seat) => Err(no_socket(seat)),
        }
    }

    /// Never waits: a Unix socket that listens takes a connection at once or says `WouldBlock`, because its backlog is full. A
    /// ring would wait for that with a thread of the kernel for each connection.
    fn connect_unix(path: &std::path::Path) -> io::Result<Stream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        if !super::driver::is_epoll() {
            rustix::io::ioctl_fionbio(&socket, false)?;
        }
        Self::from_std_unix(socket.into())
    }

    pub(super) fn from_tcp(socket: monoio::net::TcpStream) -> Stream {
        let fd = socket.as_raw_fd();
        Stream::new(Socket::Tcp(socket), fd)
    }

    pub(super) fn from_unix(socket: monoio::net::UnixStream) -> Stream {
        let fd = socket.as_raw_fd();
        Stream::new(Socket::Unix(socket), fd)
    }

    fn new(socket: Socket, fd: RawFd) -> Stream {
        let socket = UnsafeCell::new(ManuallyDrop::new(socket));
        Stream { socket, fd, under_way: Cell::new(0), at_once: Cell::new(0) }
    }

    /// Takes up a connection that no worker has.
    pub(super) fn from_std_tcp(socket: std::net::TcpStream) -> io::Result<Stream> {
        monoio::net::TcpStream::from_std(socket).map(Stream::from_tcp)
    }

    /// The same.
    pub(super) fn from_std_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Stream> {
        monoio::net::UnixStream::from_std(socket).map(Stream::from_unix)
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.socket(), Socket::Unix(_))
    }

    #[expect(clippy::mut_from_ref, reason = "see the safety comment")]
    fn socket(&self) -> &mut Socket {
        // SAFETY: monoio's stream methods use the `&mut` only to clone the shared descriptor, before their future first
        // suspends (its `Split` promise: reads and writes may run side by side). `Stream` is not `Sync`, so no other
        // thread is here, and between two polls nobody uses a reference returned by this function.
        unsafe { &mut *self.socket.get() }
    }

    /// An operation of the runtime begins. One whose future is dropped is never ended.
    ///
    /// No future around that of the operation: each of all connections would carry its size, and be moved through it.
    fn begin(&self) {
        self.at_once.set(0);
        self.under_way.set(self.under_way.get() + 1);
    }

    /// It has come back.
    fn end(&self) {
        self.under_way.set(self.under_way.get() - 1);
        super::turn::on_done();
    }

    /// Reads what is there, at least one byte, into the spare capacity of `buf` behind its present content.
    ///
    /// Returns the number of bytes added; 0 means that the other side has closed its direction.
    /// Panics when `buf` has no spare capacity.
    pub async fn read(&self, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (len, capacity) = (buf.len(), buf.capacity());
        assert!(len < capacity, "read into a full buffer");
        let slice = buf.slice_mut(len..capacity);
        self.begin();
        let (result, slice) = match self.socket() {
            Socket::Tcp(socket) => socket.read(slice).await,
            Socket::Unix(socket) => socket.read(slice).await,
        };
        self.end();
        (result, slice.into_inner())
    }

    /// As [`Stream::read`], but [`Cancel::cancel`] ends it with [`ReadEnd::Cancelled`] and gives the buffer back with
    /// whatever had arrived, so that no byte is lost.
    pub async fn read_cancellable(&self, buf: Vec<u8>, cancel: &Cancel) -> (io::Result<ReadEnd>, Vec<u8>) {
        let (len, capacity) = (buf.len(), buf.capacity());
        assert!(len < capacity, "read into a full buffer");
        let slice = buf.slice_mut(len..capacity);
        let handle = cancel.handle();
        self.begin();
        let (result, slice) = match self.socket() {
            Socket::Tcp(socket) => socket.cancelable_read(slice, handle).await,
            Socket::Unix(socket) => socket.cancelable_read(slice, handle).await,
        };
        self.end();
        let result = match result {
            Ok(bytes) => Ok(ReadEnd::Bytes(bytes)),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(ReadEnd::Cancelled),
            Err(error) => Err(error),
        };
        (result, slice.into_inner())
    }

    /// Writes some bytes of `buf`, at least one, and returns how many.
    pub async fn write<B: IoBuf>(&self, buf: B) -> (io::Result<usize>, B) {
        if let Some(result) = self.write_at_once(&buf) {
            return (result, buf);
        }
        self.begin();
        let result = match self.socket() {
            Socket::Tcp(socket) => socket.write(buf).await,
            Socket::Unix(socket) => socket.write(buf).await,
        };
        self.end();
        result
    }

    /// `None`: it is for the runtime, which waits until there is room.
    fn write_at_once<B: IoBuf>(&self, buf: &B) -> Option<io::Result<usize>> {
        let before = self.at_once.get();
        let is_short = (1..=AT_ONCE_BYTES_MAX).contains(&buf.bytes_init());
        // With epoll each write is a call of its own, now or later.
        let is_cheap = super::driver::is_epoll() || super::turn::is_sparse();
        if before >= AT_ONCE_MAX || !is_short || !is_cheap {
            return None;
        }
        // SAFETY: `IoBuf` promises so many initialised bytes there, which nobody changes while `buf` is borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(buf.read_ptr(), buf.bytes_init()) };
        match rustix::net::send(self.borrow(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => {
                self.at_once.set(before + 1);
                Some(Ok(written))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Writes some bytes of `buf` from position `from` on, at least one and at most `bytes_max`, and returns how many.
    pub async fn write_piece<B: Buffer>(&self, buf: B, from: usize, bytes_max: usize) -> (io::Result<usize>, B) {
        let to = buf.bytes().min(from.saturating_add(bytes_max));
        let (result, slice) = self.write(buf.slice(from..to)).await;
        (result, slice.into_inner())
    }

    /// Writes all of `buf`.
    ///
    /// Errors: `WriteZero` when the socket takes nothing more, else what send(2) reports. What was sent by then is
    /// unknown to the caller.
    pub async fn write_all<B: IoBuf>(&self, buf: B) -> (io::Result<()>, B) {
        let len = buf.bytes_init();
        let (result, mut buf) = self.write(buf).await;
        let mut written = match result {
            Ok(n) if n == len => return (Ok(()), buf),
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
            Ok(n) => n,
            Err(error) => return (Err(error), buf),
        };
        while written < len {
            let (result, slice) = self.write(buf.slice(written..len)).await;
            buf = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(n) => written += n,
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Reads what is there now, at most `bytes_max`, behind the content of `buf`. `Some(0)`: the other side has closed its
    /// direction, `None`: nothing is there.
    ///
    /// Errors: what recv(2) reports.
    pub fn try_read(&self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<Option<usize>> {
        buf.reserve(bytes_max);
        let room = &mut buf.spare_capacity_mut()[..bytes_max];
        match rustix::net::recv(self.borrow(), room, rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, bytes)) => {
                // SAFETY: the kernel has written so many bytes into the spare capacity.
                unsafe { buf.set_len(buf.len() + bytes) };
                Ok(Some(bytes))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a read would not block, without holding a buffer: for idle connections.
    pub async fn readable(&self) -> io::Result<()> {
        self.begin();
        let result = match self.socket() {
            Socket::Tcp(socket) => socket.readable(false).await,
            Socket::Unix(socket) => socket.readable(false).await,
        };
        self.end();
        result
    }

    /// The same for one who has been busy with this stream: other tasks, and what the kernel has for them, go first.
    pub async fn readable_in_turn(&self) -> io::Result<()> {
        // A ring is asked anew, which lets the others in. epoll's driver remembers that the socket was readable and would
        // not even suspend.
        if super::driver::is_epoll() {
            super::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.readable().await
    }

    /// Waits until something has come, then reads it as [`Stream::read`] does: 0 means that the other side has closed its direction.
    ///
    /// Unlike a read, one that is dropped while it waits has taken nothing out of the socket, and it holds no memory of the caller's
    /// that the kernel could still write to. Errors: what recv(2) reports. Panics when `buf` has no spare capacity.
    pub async fn read_when_ready(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let room = buf.capacity() - buf.len();
        assert!(room > 0, "read into a full buffer");
        loop {
            self.readable().await?;
            if let Some(bytes) = self.try_read(buf, room)? {
                return Ok(bytes);
            }
        }
    }

    /// Waits until a write would not block.
    pub async fn writable(&self) -> io::Result<()> {
        self.begin();
        let result = match self.socket() {
            Socket::Tcp(socket) => socket.writable(false).await,
            Socket::Unix(socket) => socket.writable(false).await,
        };
        self.end();
        result
    }

    /// The address of the other end; `None` for a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(socket) => socket.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Our own end of the connection; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The descriptor, valid while the stream lives.
    pub fn raw_fd(&self) -> RawFd {
        self.fd
    }

    pub(super) fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self.socket` lives, which the borrow of `self` guarantees.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Ends our direction (FIN): the other side reads the end of the stream. Errors are of no use to the caller.
    pub fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(self.borrow(), rustix::net::Shutdown::Write);
    }

    /// Makes closing send RST, so that the other side sees a broken stream, never a complete one.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.borrow(), Some(std::time::Duration::ZERO));
    }

    /// What a read would find, without blocking and without taking anything out.
    pub fn peek(&self) -> Peek {
        self.breaker().peek()
    }

    /// Whether the other side of this Unix socket has read all that was sent (unix(7), `SIOCOUTQ`). Of TCP it says no more than
    /// that all has been received.
    pub fn is_all_read(&self) -> bool {
        let mut unread: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `self`, and SIOCOUTQ (here under its other name) writes one int, which `unread`
        // has room for.
        let result = unsafe { libc::ioctl(self.fd, libc::TIOCOUTQ, &raw mut unread) };
        result == 0 && unread == 0
    }

    /// A way for others to break off what this stream is waiting for. Valid only while the stream lives.
    pub fn breaker(&self) -> Breaker {
        Breaker { fd: self.fd }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: nobody uses `self.socket` behind this, which is the only place that takes it out.
        let socket = unsafe { ManuallyDrop::take(self.socket.get_mut()) };
        if self.under_way.get() > 0 || super::driver::is_epoll() {
            // The last operation closes it when it comes back; with epoll it is closed at once.
            return;
        }
        // monoio would close it by two operations of the ring, the second of which cancels the first, and both of which wake
        // the worker. Here nothing is under way, so that nothing has to be waited for.
        let fd = match socket {
            Socket::Tcp(socket) => socket.into_raw_fd(),
            Socket::Unix(socket) => socket.into_raw_fd(),
        };
        // SAFETY: monoio has given the descriptor up, and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// What [`Stream::peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing to read, and the other side is there.
    Quiet,
    /// At least one byte.
    Bytes,
    /// The other side has closed or reset.
    Closed,
}

/// How a cancellable read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// This many bytes were added; 0 means that the other side has closed its direction.
    Bytes(usize),
    /// Cancelled before any byte came.
    Cancelled,
}

/// Cancels reads that were started with it.
#[derive(Default)]
pub struct Cancel {
    canceller: std::cell::RefCell<Canceller>,
    count: std::cell::Cell<u32>,
}

impl Cancel {
    pub(super) fn handle(&self) -> monoio::io::CancelHandle {
        self.canceller.borrow().handle()
    }

    /// Cancels the reads under way; the handle can be used again afterwards.
    pub fn cancel(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        let canceller = self.canceller.take();
        self.canceller.replace(canceller.cancel());
    }

    /// How often it has been cancelled: a read that consists of several can tell that one of them missed it.
    pub fn count(&self) -> u32 {
        self.count.get()
    }
}

/// Ends the reads or writes of a stream from beside, by shutting its socket down.
///
/// The owner must not use it once the stream is dropped: the descriptor may belong to another socket by then.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    pub(super) fd: RawFd,
}

impl Breaker {
    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the owner promises (see the type) that the stream lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// What a read would find, without blocking and without taking anything out.
    pub fn peek(self) -> Peek {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        match rustix::net::recv(self.borrow(), &mut byte, flags) {
            Ok((0, _)) => Peek::Closed,
            Ok(_) => Peek::Bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    /// The other side has closed or reset, whatever is still unread before that.
    pub fn has_hung_up(self) -> bool {
        self.poll(PollFlags::RDHUP).intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }

    /// The connection is broken, or ended in both directions. Unlike what [`Breaker::peek`] sees, that is not so merely
    /// because our own reads were ended.
    pub fn is_reset(self) -> bool {
        self.poll(PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// What poll(2) tells at once: of these, and of POLLHUP and POLLERR in any case.
    pub(super) fn poll(self, wanted: PollFlags) -> PollFlags {
        let socket = self.borrow();
        let mut fds = [rustix::event::PollFd::new(&socket, wanted)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut fds, Some(&at_once)) {
            Ok(_) => fds[0].revents(),
            Err(_) => PollFlags::empty(),
        }
    }

    fn shutdown(self, how: rustix::net::Shutdown) {
        let _ = rustix::net::shutdown(self.borrow(), how);
    }

    /// Reads end as if the other side had closed; writes go on.
    pub fn break_reads(self) {
        self.shutdown(rustix::net::Shutdown::Read);
    }

    /// Both directions end by force: every operation under way comes back, and the other side of a TCP connection gets a
    /// reset at once, without an end of the stream before it.
    pub fn abort(self) {
        // connect(2): an address of the family AF_UNSPEC dissolves the association. Unix sockets know no such thing.
        if rustix::net::connect_unspec(self.borrow()).is_err() {
            self.break_all();
        }
    }

    /// Reads and writes end.
    pub fn break_all(self) {
        self.shutdown(rustix::net::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::runtime::testing::{on_both_drivers, pair};
    use crate::runtime::time::sleep;

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_stream_with_nothing_under_way_is_closed_at_once() {
        on_both_drivers(|| async {
            let (stream, mut other) = pair();
            other.write_all(b"one").unwrap();
            let (read, bytes) = stream.read(Vec::with_capacity(10)).await;
            assert_eq!((read.unwrap(), bytes.as_slice()), (3, b"one".as_slice()));
            drop(stream);
            // The worker has had no turn since.
            other.set_nonblocking(true).unwrap();
            assert_eq!(other.read(&mut [0; 10]).unwrap(), 0);
        });
    }

    #[test]
    fn a_stream_whose_read_was_given_up_is_closed_when_the_kernel_gives_it_back() {
        on_both_drivers(|| async {
            let (stream, mut other) = pair();
            let mut cancelled = Box::pin(stream.read(Vec::with_capacity(10)));
            assert!(poll_once(cancelled.as_mut()).is_pending());
            drop(cancelled);
            let mut waiting = Box::pin(stream.readable());
            assert!(poll_once(waiting.as_mut()).is_pending());
            drop(waiting);
            drop(stream);
            sleep(Duration::from_millis(20)).await;
            assert_eq!(other.read(&mut [0; 10]).unwrap(), 0);
        });
    }

    #[test]
    fn a_short_write_is_over_when_it_has_begun_and_one_without_room_waits() {
        on_both_drivers(|| async {
            let (stream, mut other) = pair();
            let (result, _) = match poll_once(pin!(stream.write(b"request".to_vec()))) {
                Poll::Ready(written) => written,
                Poll::Pending => panic!("there is room, and little to do"),
            };
            assert_eq!(result.unwrap(), 7);
            const BYTES: usize = 4 << 20;
            let reader = std::thread::spawn(move || {
                let mut all = vec![0; 7 + BYTES];
                std::thread::sleep(Duration::from_millis(50));
                other.read_exact(&mut all).unwrap();
                all.split_off(7)
            });
            let sent: Vec<u8> = (0..BYTES).map(|at| (at / 1000) as u8).collect();
            for piece in sent.chunks(10_000) {
                stream.write_all(piece.to_vec()).await.0.unwrap();
            }
            assert!(reader.join().unwrap() == sent, "every byte in its place");
        });
    }

    #[test]
    fn whoever_writes_again_and_again_lets_others_have_their_turn() {
        on_both_drivers(|| async {
            if super::super::driver::is_epoll() {
                return; // its driver never waits as long as there is room
            }
            let (stream, _other) = pair();
            let mut writes = 0;
            while poll_once(pin!(stream.write(b"x".to_vec()))).is_ready() {
                writes += 1;
            }
            assert_eq!(writes, AT_ONCE_MAX);
        });
    }

    #[test]
    fn a_write_to_an_end_that_is_closed_fails() {
        on_both_drivers(|| async {
            let (stream, other) = pair();
            drop(other);
            let (result, bytes) = stream.write_all(b"request".to_vec()).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(bytes, b"request");
        });
    }
}
