//! Where a stream leads, and what a failed connection says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a stream leads: an IP socket address, the path of a Unix socket, or a name that is still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// Unix stream socket; written `unix:/path`.
    Unix(PathBuf),
    /// A name without an address (yet): nothing can be connected to it.
    Name(Name),
    /// An application inside this process: requests are handed over, nothing is ever connected.
    App(AppSeat),
}

/// Who runs an application inside this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppSeat {
    /// Name of the application.
    pub app: Box<str>,
    /// Number of the application worker; `None`: the threads that the application has of its own.
    pub worker: Option<u16>,
}

/// `app:NAME/WORKER`, or `app:NAME/threads`.
impl fmt::Display for AppSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(f, "app:{}/{worker}", self.app),
            None => write!(f, "app:{}/threads", self.app),
        }
    }
}

/// A name in the DNS that leads to servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The name, in lower case, without a dot at its end.
    pub host: Box<str>,
    /// The port of its addresses; `None`: it has SRV records (RFC 2782), which say names and ports.
    pub port: Option<u16>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Name(name) => name.fmt(f),
            Address::App(seat) => seat.fmt(f),
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

/// What connecting to a name without an address ends with.
pub fn no_address(name: &Name) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the name {} has no address", name.host))
}

/// What connecting to an application inside this process ends with.
pub fn no_socket(seat: &AppSeat) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{seat} is inside this process and has no socket"))
}

/// Whether a connection failed for what lacks on this machine: descriptors or memory. That says nothing of the server.
/// EADDRNOTAVAIL is not among it: it means too few ports, but also an address that cannot be reached at all.
pub fn is_own_failure(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| own.iter().any(|errno| errno.raw_os_error() == code))
}

/// Between two tries to get into the backlog of a Unix socket.
pub const BACKLOG_PAUSE_MIN: Duration = Duration::from_millis(2);
/// See there; each pause is twice the one before, up to this.
pub const BACKLOG_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Whether a connection failed because the backlog of a Unix socket is full. One of TCP would have taken it in to wait there.
pub fn is_backlog_full(address: &Address, error: &io::Error) -> bool {
    matches!(address, Address::Unix(_)) && error.kind() == io::ErrorKind::WouldBlock
}
