//! The compiled config: complete, checked, immutable. Every default is filled in and every name is an index.
//!
//! Data workers hold it by `Arc`. Nothing here reads files or resolves names; [`super::load`] makes it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::guard::{AddressRules, Auth, Trust};
use crate::runtime::net::Address;

/// Everything one process is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cores, drivers, queues, process-wide limits.
    pub process: Process,
    /// Time-outs and limits of downstream HTTP connections.
    pub http: Http,
    /// HTTP listeners, in order of writing.
    pub listeners: Vec<Listener>,
    /// Sites in order of writing. The first site of a listener answers for unknown hosts when none says `default`.
    pub sites: Vec<Site>,
    /// Sets of servers to balance over.
    pub upstreams: Vec<Upstream>,
    /// In-process applications.
    pub apps: Vec<App>,
    /// MySQL splitters.
    pub splitters: Vec<Splitter>,
    /// Admin listener; `None` switches it off.
    pub admin: Option<SocketAddr>,
    /// Access log.
    pub log: Log,
    /// Entries each data worker keeps for the live page ([`crate::metrics::Trace`]); 0: off.
    pub trace_events: usize,
}

/// Which kernel interface a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel allows it, else epoll with a warning.
    Auto,
    /// io_uring or refuse to start.
    IoUring,
    /// epoll always.
    Epoll,
}

/// Where application workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppPlacement {
    /// One on the core of each data worker.
    Paired,
    /// On cores of their own.
    Separate,
}

/// Cores, drivers, queues and limits of the process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Core of each data worker; empty: all the process may use (half of them with `separate` placement).
    pub data_cores: Vec<usize>,
    /// Core of each application worker; empty: follows `app_placement`.
    pub app_cores: Vec<usize>,
    /// Used when `app_cores` is empty.
    pub app_placement: AppPlacement,
    /// io_uring or epoll.
    pub driver: DriverChoice,
    /// Submission queue entries of each ring, 256 to 32768.
    pub ring_entries: u32,
    /// First read buffer of a busy connection, bytes. Grows up to `http.head_bytes_max` for a long head.
    pub read_buffer_bytes: usize,
    /// Size of one piece when a body is streamed, bytes.
    pub stream_buffer_bytes: usize,
    /// How long an application worker looks for work before it sleeps.
    pub spin: Duration,
    /// Requests that may wait in front of one application worker.
    pub queue_depth: usize,
    /// How long a request may wait for a place in a full queue before 503.
    pub queue_timeout: Duration,
    /// Requests one application worker runs at the same time.
    pub app_concurrency: usize,
    /// Downstream connections of the whole process; more are refused.
    pub connections_max: usize,
    /// listen(2) backlog of each listening socket.
    pub backlog: u32,
    /// How long a drain (SIGQUIT) waits for requests in flight.
    pub drain_timeout: Duration,
    /// Bytes of small files each data worker keeps in memory.
    pub file_cache_bytes: usize,
    /// Largest file kept in memory, bytes; larger ones go out by sendfile(2).
    pub file_cache_file_bytes_max: usize,
    /// How long a cached file is served before its metadata is looked at again.
    pub file_cache_valid: Duration,
}

/// Time-outs and limits of downstream HTTP connections.
#[derive(Clone, Debug)]
pub struct Http {
    /// From the first byte of a request head to its last, absolute.
    pub header_timeout: Duration,
    /// Longest silence while a request body is read.
    pub body_timeout: Duration,
    /// Longest time without the client taking a byte.
    pub write_timeout: Duration,
    /// Idle time between requests.
    pub keep_alive_timeout: Duration,
    /// Requests on one connection before it is closed; 0: no limit.
    pub keep_alive_requests_max: u32,
    /// Bytes of a request head, request line included; beyond it 431 (414 when the target alone is too long).
    pub head_bytes_max: usize,
    /// Header fields of a request; beyond it 431.
    pub headers_max: usize,
    /// Bytes of a request body; beyond it 413. 0: no limit.
    pub body_bytes_max: u64,
    /// Value of the `Server` field; empty: no field.
    pub server_name: String,
}

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: String,
    /// IP address and port; port 0 picks a free one, which the start-up lines tell.
    pub address: SocketAddr,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Proxies that are believed; `None`: nobody is.
    pub trust: Option<Arc<Trust>>,
    /// Indexes into [`Config::sites`].
    pub sites: Vec<usize>,
}

/// Host names a site answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One name, lower case, without port.
    Exact(String),
    /// `*.example.org`, stored as `.example.org`: any name that ends so and is longer.
    Suffix(String),
    /// Any host.
    Any,
}

/// A set of host names with their routes.
#[derive(Clone, Debug)]
pub struct Site {
    /// Name in logs and metrics.
    pub name: String,
    /// Names it answers for.
    pub hosts: Vec<HostPattern>,
    /// Answers for hosts no site names.
    pub default: bool,
    /// Who may come in where no route answers; `None`: everyone. Routes hold theirs.
    pub access: Option<Arc<AddressRules>>,
    /// The login where no route answers; `None`: none.
    pub auth: Option<Arc<Auth>>,
    /// Routes in order of writing; precedence is exact, then longest prefix.
    pub routes: Vec<Route>,
}

/// How a route matches a path. Paths are percent-decoded and free of dot segments before matching.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Its beginning, byte by byte, as nginx does: `/api` also matches `/apis`, `/api/` does not.
    Prefix(String),
}

/// One line of a site's routing table.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it matches.
    pub path: PathMatch,
    /// Who may come in, inherited from the site; `None`: everyone.
    pub access: Option<Arc<AddressRules>>,
    /// The login, inherited from the site; `None`: none.
    pub auth: Option<Arc<Auth>>,
    /// What it does.
    pub action: Action,
}

/// What happens to a matched request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Serve files.
    Files(Arc<Files>),
    /// Forward to the upstream of this index.
    Proxy(usize),
    /// Call the in-process application of this index.
    App(usize),
    /// 301, 302, 303, 307 or 308 with `Location: to`; `$path` and `$query` in `to` are replaced.
    Redirect {
        /// Status code.
        status: u16,
        /// Target.
        to: String,
    },
    /// A fixed answer.
    Respond {
        /// Status code.
        status: u16,
        /// Value of Content-Type.
        content_type: String,
        /// The body.
        body: Bytes,
    },
}

/// A folder to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Absolute or relative to the working directory; nothing outside is ever opened.
    pub root: PathBuf,
    /// Leading part of the path that is cut off before the file is looked for; empty: nothing.
    pub strip_prefix: String,
    /// Names tried for a path that ends in `/`.
    pub index: Vec<String>,
    /// Path, beneath the root, served with 200 when there is no such file (single-page applications).
    pub fallback: Option<String>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round-robin.
    RoundRobin,
    /// The fewest requests under way, in relation to weight.
    LeastConn,
}

/// A named set of servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name in logs and metrics.
    pub name: String,
    /// Its servers, in order of writing.
    pub servers: Vec<Server>,
    /// How one is chosen.
    pub balance: Balance,
    /// Active check; `None`: servers count as up.
    pub health: Option<Health>,
    /// Time for connect(2).
    pub connect_timeout: Duration,
    /// From the last request byte to the complete response head.
    pub response_timeout: Duration,
    /// Longest silence while a body is relayed.
    pub idle_timeout: Duration,
    /// Connections tried for one request, the first included.
    pub tries_max: u32,
    /// Idle connections kept per data worker and server.
    pub keep_idle: usize,
    /// How long an idle connection is kept. Must stay below the server's own time.
    pub keep_idle_timeout: Duration,
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// Share of the traffic, 1 to 256.
    pub weight: u32,
    /// Used only while no other server is up.
    pub backup: bool,
}

/// Active health check.
#[derive(Clone, Debug)]
pub struct Health {
    /// `Some`: GET this path, 200 to 399 is healthy. `None`: connecting is enough.
    pub path: Option<String>,
    /// Host field of the check; the server's address when `None`.
    pub host: Option<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// Time for one check.
    pub timeout: Duration,
    /// Successes in a row until a server is up again.
    pub rise: u32,
    /// Failures in a row until a server is down.
    pub fall: u32,
}

/// An in-process application.
#[derive(Clone, Debug)]
pub struct App {
    /// Name in logs, metrics and routes.
    pub name: String,
    /// Name under which the program registered it (see [`crate::app::Registry`]).
    pub program: String,
    /// From the complete request head to the head of the answer; beyond it 504.
    pub response_timeout: Duration,
}

/// A MySQL read/write splitter.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// Name in logs and metrics.
    pub name: String,
    /// Where clients connect: TCP or Unix socket.
    pub listen: Vec<Address>,
    /// The server that takes writes.
    pub primary: Address,
    /// Servers that take reads; empty: the primary takes them.
    pub replicas: Vec<Address>,
    /// User name, the same for clients and servers.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Database selected on connections whose client names none; empty: none.
    pub database: String,
    /// Client connections, whole process.
    pub clients_max: usize,
    /// Backend connections per data worker and server.
    pub pool_max: usize,
    /// How long a client waits for a backend connection.
    pub pool_timeout: Duration,
    /// Time for connecting and logging on to a backend.
    pub connect_timeout: Duration,
    /// How long an idle backend connection is kept.
    pub pool_idle_timeout: Duration,
    /// Idle client connections are closed after this time.
    pub client_timeout: Duration,
    /// Replicas further behind the primary get no reads.
    pub lag_max: Duration,
    /// Time between two looks at the servers' replication state.
    pub monitor_interval: Duration,
    /// How fresh a read must be.
    pub causal_reads: CausalReads,
    /// How long a read waits on a replica for the session's own writes before it goes to the primary.
    pub causal_timeout: Duration,
}

/// How fresh reads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CausalReads {
    /// A replica may answer with data older than the session's own writes.
    Off,
    /// A session sees at least its own writes.
    Session,
}

/// A text that never shows in logs or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Access log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where lines go; `None`: no access log.
    pub access: Option<LogTarget>,
    /// Form of a line.
    pub format: LogFormat,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to, created with mode 0640.
    File(PathBuf),
}

/// Form of an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// nginx's combined format, byte for byte.
    Combined,
    /// One JSON object a line.
    Json,
}
