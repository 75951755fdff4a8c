//! Sockets that listen, of TCP and Unix, on whichever driver the worker runs; and what they share with another process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::PollFlags;

use super::address::Address;
use super::net::{Breaker, Cancel, Stream};

/// A bound and listening socket, not yet tied to a worker: made before the workers start.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix stream.
    Unix(std::os::unix::net::UnixListener),
}

impl BoundSocket {
    /// A TCP socket that shares its port with its sisters on other workers (SO_REUSEPORT, socket(7)).
    ///
    /// `backlog` as in listen(2). Errors: what socket, bind or listen report.
    pub fn tcp(address: SocketAddr, backlog: u32) -> io::Result<BoundSocket> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(BoundSocket::Tcp(socket.into()))
    }

    /// A Unix socket at `path`, whose file gets the permission bits `mode`. A socket file that nobody listens on any more is
    /// replaced.
    ///
    /// Errors: `AddrInUse` when somebody listens there; what bind or listen report.
    pub fn unix(path: &std::path::Path, mode: u32, backlog: u32) -> io::Result<BoundSocket> {
        bind_unix(path, mode, backlog).map(BoundSocket::Unix)
    }

    /// A listening socket that another process has made; accepted ones get what those of ours have.
    ///
    /// Errors: it is not of the family of `address`, or it does not listen.
    pub fn inherited(socket: OwnedFd, address: &Address, backlog: u32) -> io::Result<BoundSocket> {
        if let Address::Tcp(_) = address {
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        }
        // The config may want another length of the queue than the one before.
        rustix::net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        match address {
            Address::Tcp(_) => Ok(BoundSocket::Tcp(socket.into())),
            Address::Unix(_) => Ok(BoundSocket::Unix(socket.into())),
            Address::Name(_) | Address::App(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// A second handle to the same socket, for another worker.
    pub fn try_clone(&self) -> io::Result<BoundSocket> {
        Ok(match self {
            BoundSocket::Tcp(socket) => BoundSocket::Tcp(socket.try_clone()?),
            BoundSocket::Unix(socket) => BoundSocket::Unix(socket.try_clone()?),
        })
    }

    /// The address bound to, with the real port.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(match self {
            BoundSocket::Tcp(socket) => Address::Tcp(socket.local_addr()?),
            BoundSocket::Unix(socket) => {
                Address::Unix(socket.local_addr()?.as_pathname().map(Into::into).unwrap_or_default())
            }
        })
    }
}

/// Where a socket is bound.
pub fn bound_address(socket: impl std::os::fd::AsFd) -> io::Result<Address> {
    let address = rustix::net::getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(Address::Tcp(address));
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address)?;
    let path = unix.path_bytes().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Address::Unix(std::ffi::OsStr::from_bytes(path).into()))
}

/// A Unix socket at `path` that its owner alone may connect to, for the control thread: it does not block.
///
/// Errors: as for [`BoundSocket::unix`].
pub fn bind_private(path: &std::path::Path) -> io::Result<std::os::unix::net::UnixListener> {
    bind_with_mode(path, 0o600)
}

/// The same for those whom `mode` lets connect.
pub fn bind_with_mode(path: &std::path::Path, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = bind_unix(path, mode, 16)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &std::path::Path, mode: u32, backlog: u32) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let stale = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if stale {
        std::fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    // Before it listens nobody can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

enum ListenerSocket {
    Tcp(monoio::net::TcpListener),
    Unix(monoio::net::UnixListener),
}

/// So many other processes accept from sockets of this one: the one before, the one that takes over, or both.
static SHARERS: AtomicU32 = AtomicU32::new(0);

/// How often that was said, or its end.
static SAID: AtomicU32 = AtomicU32::new(0);

/// Says that one more process accepts from the same sockets, or that one does so no longer; each `true` has one `false` at most.
/// Whether a socket blocks is then not for one of them to say.
pub fn share_sockets(is_shared: bool) {
    if is_shared {
        SHARERS.fetch_add(1, Ordering::Relaxed);
    } else {
        let before = SHARERS.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a process that was never there");
    }
    SAID.fetch_add(1, Ordering::Release);
}

fn are_sockets_shared() -> bool {
    SHARERS.load(Ordering::Relaxed) > 0
}

/// Whether a listening socket stays non-blocking although a ring would rather have it block: somebody with epoll may accept from
/// it, in another process, or on a data worker of this one that got no ring and whose socket is the same (Unix sockets, inherited
/// ones).
fn may_not_block() -> bool {
    are_sockets_shared() || super::driver::is_epoll_anywhere()
}

/// Whether another process accepts from the same sockets, or has since `said`, which is 0 at first.
pub fn were_sockets_shared(said: &mut u32) -> bool {
    let now = SAID.load(Ordering::Acquire);
    std::mem::replace(said, now) != now || are_sockets_shared()
}

/// How long a ring waits before it looks again at a socket that the other process keeps from blocking.
const SHARED_LOOK: Duration = Duration::from_millis(2);

/// A listening socket of one data worker.
pub struct Listener {
    socket: ListenerSocket,
    fd: RawFd,
    stopped: std::cell::Cell<bool>,
    cancel: Cancel,
}

impl Listener {
    /// Takes `socket` over for the current data worker.
    pub fn new(socket: BoundSocket) -> io::Result<Listener> {
        // epoll needs non-blocking sockets; io_uring needs blocking ones, or it answers EAGAIN instead of waiting.
        let nonblocking = super::driver::is_epoll();
        // Somebody else may have epoll, which would block.
        let is_as_it_is = !nonblocking && may_not_block();
        let (socket, fd) = match socket {
            BoundSocket::Tcp(socket) => {
                if !is_as_it_is {
                    socket.set_nonblocking(nonblocking)?;
                }
                let fd = socket.as_raw_fd();
                (ListenerSocket::Tcp(monoio::net::TcpListener::from_std(socket)?), fd)
            }
            BoundSocket::Unix(socket) => {
                if !is_as_it_is {
                    socket.set_nonblocking(nonblocking)?;
                }
                let fd = socket.as_raw_fd();
                (ListenerSocket::Unix(monoio::net::UnixListener::from_std(socket)?), fd)
            }
        };
        Ok(Listener { socket, fd, stopped: std::cell::Cell::new(false), cancel: Cancel::default() })
    }

    /// A second descriptor of the same socket, for another process.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the descriptor is open as long as `self.socket` lives, which the borrow of `self` guarantees.
        unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned()
    }

    /// The descriptor, valid while the listener lives.
    pub fn raw_fd(&self) -> RawFd {
        self.fd
    }

    /// Asks the kernel again for a connection that waits although somebody waits for it. Of all who wait for one at a socket
    /// the kernel wakes a single ring, and if that gives up in this very moment, or its process ends, none of the others.
    pub fn look_again(&self) {
        if !super::driver::is_epoll() && self.has_waiting() {
            self.cancel.cancel();
        }
    }

    /// Accepts no more, without a word to the kernel: connections wait in the queue for another process that has the same
    /// socket. A waiting [`Listener::accept`] fails, or brings what was accepted already.
    pub fn leave(&self) {
        self.stopped.set(true);
        self.cancel.cancel();
    }

    /// A connection waits to be accepted.
    pub fn has_waiting(&self) -> bool {
        // A listener that another handle to it has shut tells POLLHUP as well.
        let told = Breaker { fd: self.fd }.poll(PollFlags::IN | PollFlags::HUP);
        told.contains(PollFlags::IN) && !told.intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Stops listening: a waiting [`Listener::accept`] fails, new clients are refused by the kernel. Also for the
    /// other handles to the same socket ([`BoundSocket::try_clone`]).
    pub fn stop(&self) {
        self.stopped.set(true);
        Breaker { fd: self.fd }.break_all();
    }

    /// [`Listener::stop`] or [`Listener::leave`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Waits for the next connection; TCP ones have TCP_NODELAY set.
    ///
    /// Errors: what accept4(2) reports; `EMFILE` and its like pass, so the caller waits a moment and goes on.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        loop {
            match self.accept_once().await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_stopped() => self.block().await?,
                Err(error) if error.raw_os_error() == Some(libc::ECANCELED) && !self.is_stopped() => {}
                accepted => return accepted,
            }
        }
    }

    async fn accept_once(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        if self.is_stopped() {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        let cancel = self.cancel.handle();
        match &self.socket {
            ListenerSocket::Tcp(listener) => {
                let (socket, peer) = listener.cancelable_accept(cancel).await?;
                Ok((Stream::from_tcp(socket), Some(peer)))
            }
            ListenerSocket::Unix(listener) => {
                let (socket, _) = listener.cancelable_accept(cancel).await?;
                Ok((Stream::from_unix(socket), None))
            }
        }
    }

    /// A ring wants a socket that blocks, and somebody else has, or had, epoll.
    async fn block(&self) -> io::Result<()> {
        if may_not_block() {
            super::time::sleep(SHARED_LOOK).await;
            return Ok(());
        }
        // SAFETY: the descriptor is open as long as `self.socket` lives.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let flags = rustix::fs::fcntl_getfl(socket)?;
        if !flags.contains(rustix::fs::OFlags::NONBLOCK) {
            // It was not that. Nothing is to be gained by asking at once.
            super::time::sleep(SHARED_LOOK).await;
            return Ok(());
        }
        Ok(rustix::fs::fcntl_setfl(socket, flags - rustix::fs::OFlags::NONBLOCK)?)
    }
}
