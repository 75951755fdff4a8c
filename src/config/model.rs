//! The compiled config: complete, checked, immutable. Every default is filled in and every name is an index.
//!
//! Data workers hold it by `Arc`. Nothing here reads files or resolves names; [`super::load`] makes it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use crate::http::coding::Coding;
use crate::http::coding::Policy;
use crate::runtime::net::Address;

/// Everything one process is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cores, drivers, queues, process-wide limits.
    pub process: Process,
    /// Time-outs and limits of downstream HTTP connections.
    pub http: Http,
    /// Windows and limits of downstream HTTP/2 connections.
    pub http2: Http2,
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
    /// How answers are compressed; `None`: not at all. Sites and routes hold their own, this one where they say nothing.
    pub compress: Option<Arc<Policy>>,
}

/// Windows and limits of downstream HTTP/2 connections. Bytes and counts as SETTINGS of RFC 9113 section 6.5.2 have them.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Streams a client may have open at the same time; the next is refused.
    pub streams_max: u32,
    /// Bytes of a request body that may be under way on one stream, unread by us.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Largest payload of a frame, bytes.
    pub frame_bytes_max: u32,
    /// Bytes of a decompressed header list; beyond it 431.
    pub header_list_bytes_max: u32,
    /// Bytes of the table that the client's compression may use.
    pub header_table_bytes: u32,
    /// Bytes of an answer that may wait for the client's window, per stream.
    pub send_buffer_bytes_max: usize,
    /// What a client may do before the connection ends.
    pub guard: crate::http::h2::Limits,
}

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: String,
    /// IP address and port; port 0 picks a free one, which the start-up lines tell.
    pub address: SocketAddr,
    /// Indexes into [`Config::sites`].
    pub sites: Vec<usize>,
    /// TLS; `None`: plain text.
    pub tls: Option<Arc<Tls>>,
}

/// TLS of a listener. Names files only; [`crate::tls::Material`] is what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Chains and keys; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Versions and ciphers.
    pub profile: TlsProfile,
    /// What a client gets that asks for a name without certificate.
    pub unknown_names: UnknownNames,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// Authorities of client certificates, a PEM file; there when client certificates are asked for.
    pub client_ca: Option<PathBuf>,
    /// Secrets of session tickets, created when missing; `None`: a random one for the life of the process.
    pub ticket_keys: Option<PathBuf>,
    /// From the first byte of a handshake to its end.
    pub handshake_timeout: Duration,
}

/// A certificate chain and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then those that issued it.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Mozilla's guidelines, version 6.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.3 only.
    Modern,
    /// TLS 1.2 and 1.3.
    Intermediate,
}

/// What a client gets that asks for a name without certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownNames {
    /// The first certificate.
    Default,
    /// An alert.
    Refuse,
}

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No.
    Off,
    /// Yes, but any client may go on; what was verified stands in the facts of the session.
    Optional,
    /// Yes, and without a good one the handshake fails.
    Required,
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
    /// Routes in order of writing; precedence is exact, then longest prefix.
    pub routes: Vec<Route>,
    /// How answers are compressed that no route made.
    pub compress: Option<Arc<Policy>>,
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
    /// What it does.
    pub action: Action,
    /// How its answers are compressed; `None`: not at all.
    pub compress: Option<Arc<Policy>>,
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
    /// What is tried in order instead of the path itself; empty: the path.
    pub candidates: Vec<Candidate>,
    /// Path, beneath the root, served with 200 when there is no such file (single-page applications).
    pub fallback: Option<String>,
    /// What a directory without index file is answered with.
    pub listing: Listing,
    /// Codings whose ready-made files beside the originals are served; empty: none.
    pub precompressed: Vec<Coding>,
    /// Most ranges honoured in one request; 0: none at all.
    pub ranges_max: usize,
    /// Names that begin with a dot are served too, not only `.well-known`.
    pub dotfiles: bool,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// Media types.
    pub media: MediaTypes,
}

/// One entry of `try`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A path beneath the root.
    Path {
        /// What stands before `$path`, or everything.
        before: String,
        /// The path of the request stands between the two.
        takes_path: bool,
        /// What stands behind `$path`.
        after: String,
    },
    /// The end: this status, 400 to 599.
    Status(u16),
}

/// What a directory without index file is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// 403.
    Off,
    /// A page.
    Html,
    /// A JSON array, as nginx writes it.
    Json,
    /// What the client prefers.
    Auto,
}

/// Which symbolic links beneath a root are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay beneath the root.
    Beneath,
    /// Those of them whose owner owns what they lead to.
    Owner,
    /// None.
    Never,
}

/// Media types by extension, and their charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTypes {
    /// Extension in lower case, without its dot, and type: wins over the built-in table. Sorted by extension.
    pub types: Vec<(String, String)>,
    /// Type of files without a known extension.
    pub default_type: String,
    /// Value of the charset parameter; empty: no parameter.
    pub charset: String,
    /// Types that get the parameter: whole types, `type/*` or `*+suffix`.
    pub charset_types: Vec<String>,
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
    /// Where lines go, but for sites that say otherwise; `None`: no access log.
    pub access: Option<LogTarget>,
    /// What each site says, in the order of [`Config::sites`]. A site beyond its end is as [`SiteLog::Default`].
    pub sites: Vec<SiteLog>,
    /// Form of a line.
    pub format: Arc<crate::log::Template>,
}

/// Where the lines of one site go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SiteLog {
    /// Where [`Log::access`] says.
    #[default]
    Default,
    /// Nowhere.
    Off,
    /// To a log of its own.
    To(LogTarget),
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to, created with mode 0640.
    File(PathBuf),
}

impl std::fmt::Display for LogTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogTarget::Stdout => f.write_str("stdout"),
            LogTarget::File(path) => path.display().fmt(f),
        }
    }
}
