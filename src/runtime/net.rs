//! Stream sockets of a data worker: one type over TCP and Unix sockets, on whichever driver the worker runs.
//!
//! Buffers go in by value and come back with the result, because the kernel holds them in between.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};

/// Where a stream leads: an IP socket address, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// Unix stream socket; written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    /// `IP:PORT`, `[IPv6]:PORT` or `unix:/path`. Names are not resolved here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("the path after `unix:` is empty".into());
            }
            return Ok(Address::Unix(path.into()));
        }
        text.parse().map(Address::Tcp).map_err(|_| {
            format!("`{text}` is not an address: write IP:PORT, [IPv6]:PORT or unix:/path, for example 127.0.0.1:8080")
        })
    }
}

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
    socket: UnsafeCell<Socket>,
    fd: RawFd,
}

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
        match address {
            Address::Tcp(address) => {
                let socket = monoio::net::TcpStream::connect_addr(*address).await?;
                socket.set_nodelay(true)?;
                Ok(Self::from_tcp(socket))
            }
            Address::Unix(path) => {
                let socket = monoio::net::UnixStream::connect(path).await?;
                let fd = socket.as_raw_fd();
                Ok(Stream { socket: UnsafeCell::new(Socket::Unix(socket)), fd })
            }
        }
    }

    pub(super) fn from_tcp(socket: monoio::net::TcpStream) -> Stream {
        let fd = socket.as_raw_fd();
        Stream { socket: UnsafeCell::new(Socket::Tcp(socket)), fd }
    }

    pub(super) fn from_unix(socket: monoio::net::UnixStream) -> Stream {
        let fd = socket.as_raw_fd();
        Stream { socket: UnsafeCell::new(Socket::Unix(socket)), fd }
    }

    #[expect(clippy::mut_from_ref, reason = "see the safety comment")]
    fn socket(&self) -> &mut Socket {
        // SAFETY: monoio's stream methods use the `&mut` only to clone the shared descriptor before they return their
        // future (its `Split` promise: reads and writes may run side by side). `Stream` is not `Sync`, so no other
        // thread is here, and no reference returned by this function is kept across an await point of ours.
        unsafe { &mut *self.socket.get() }
    }

    /// Reads what is there, at least one byte, into the spare capacity of `buf` behind its present content.
    ///
    /// Returns the number of bytes added; 0 means that the other side has closed its direction.
    /// Panics when `buf` has no spare capacity.
    pub async fn read(&self, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (len, capacity) = (buf.len(), buf.capacity());
        assert!(len < capacity, "read into a full buffer");
        let slice = buf.slice_mut(len..capacity);
        let (result, slice) = match self.socket() {
            Socket::Tcp(socket) => socket.read(slice).await,
            Socket::Unix(socket) => socket.read(slice).await,
        };
        (result, slice.into_inner())
    }

    /// Writes some bytes of `buf`, at least one, and returns how many.
    pub async fn write<B: IoBuf>(&self, buf: B) -> (io::Result<usize>, B) {
        match self.socket() {
            Socket::Tcp(socket) => socket.write(buf).await,
            Socket::Unix(socket) => socket.write(buf).await,
        }
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

    /// Waits until a read would not block, without holding a buffer: for idle connections.
    pub async fn readable(&self) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(socket) => socket.readable(false).await,
            Socket::Unix(socket) => socket.readable(false).await,
        }
    }

    /// Waits until a write would not block.
    pub async fn writable(&self) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(socket) => socket.writable(false).await,
            Socket::Unix(socket) => socket.writable(false).await,
        }
    }

    /// Whether nothing has arrived on an idle connection: no bytes, no end, no error. One system call, never blocks.
    ///
    /// `false` on a pooled connection means that the server has closed it or has spoken unasked: do not reuse it.
    pub fn is_quiet(&self) -> bool {
        // SAFETY: `self` keeps the descriptor open for as long as this borrow lives.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.fd) };
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(fd, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }

    /// The address of the other end; `None` for a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(socket) => socket.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The descriptor, valid while the stream lives.
    pub fn raw_fd(&self) -> RawFd {
        self.fd
    }
}
