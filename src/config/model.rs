//! The compiled config: complete, checked, immutable. Every default is filled in and every name is an index.
//!
//! Data workers hold it by `Arc`. Nothing here reads files or resolves names; [`super::load`] makes it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

pub use super::health::{
    CheckTls, FailureKinds, FieldMatch, Health, HttpProbe, MysqlProbe, OutlierRules, Pace, Probe, ProxyVersion,
    StatusSet, TextMatch, TextProbe, ValueMatch,
};
use crate::guard::{AddressRules, Allowed, Auth, LeastRate, Trust};
use crate::http::caching::Expires;
pub use crate::http::coding::Coding;
use crate::http::coding::Policy;
use crate::http::cookies::CookieRules;
use crate::http::fields::HeaderRules;
use crate::http::location::LocationRules;
pub use crate::http::substitute::Policy as Substitute;
use crate::proxy::balance::rendezvous::Rendezvous;
use crate::proxy::retry::RetryPolicy;
use crate::proxy::sticky::Sticky;
use crate::runtime::net::Address;
use crate::tls::ServerTrust;
use crate::util::names::Names;
use crate::util::pattern::Pattern;
use crate::util::template::{Encoding, Template};
use crate::variables::{Condition, Lookup, SetVariables};

/// Everything one process is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cores, drivers, queues, process-wide limits.
    pub process: Process,
    /// Time-outs and limits of downstream HTTP connections.
    pub http: Http,
    /// Windows and limits of downstream HTTP/2 connections.
    pub http2: Http2,
    /// Windows and limits of downstream HTTP/3 connections.
    pub http3: Http3,
    /// Limits of requests, in order of writing.
    pub limits: Vec<Limit>,
    /// HTTP listeners, in order of writing.
    pub listeners: Vec<Listener>,
    /// Sites in order of writing. The first site of a listener answers for unknown hosts when none says `default`.
    pub sites: Vec<Site>,
    /// Sets of servers to balance over.
    pub upstreams: Vec<Upstream>,
    /// In-process applications.
    pub apps: Vec<App>,
    /// Variables that are looked up.
    pub lookups: Vec<Lookup>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Requests that tarpits hold back at the same time; the next are answered at once.
    pub tarpit_max: usize,
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
    /// Whom the process becomes when root starts it; `None`: it stays who it is.
    pub run_as: Option<RunAs>,
    /// Unix socket on which `one-server ctl` is heard; `None`: it is not.
    pub control: Option<PathBuf>,
}

/// A user, and a group in place of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// Name of the user.
    pub user: String,
    /// Name of the group.
    pub group: Option<String>,
}

/// Time-outs and limits of downstream HTTP connections.
#[derive(Clone, Debug)]
pub struct Http {
    /// From the first byte of a request head to its last, absolute.
    pub header_timeout: Duration,
    /// Longest silence while a request body is read.
    pub body_timeout: Duration,
    /// Rate that a request body must come with.
    pub body_rate: LeastRate,
    /// Longest time without the client taking a byte.
    pub write_timeout: Duration,
    /// Idle time between requests.
    pub keep_alive_timeout: Duration,
    /// Age from which a connection is closed behind its next answer.
    pub keep_alive_time: Duration,
    /// Requests on one connection before it is closed; 0: no limit.
    pub keep_alive_requests_max: u32,
    /// Bytes of a request head, request line included; beyond it 431 (414 when the target alone is too long).
    pub head_bytes_max: usize,
    /// Header fields of a request; beyond it 431.
    pub headers_max: usize,
    /// Bytes of a request body; beyond it 413. 0: no limit.
    pub body_bytes_max: u64,
    /// Connections of one client address in the whole process; 0: no limit.
    pub connections_per_address_max: u32,
    /// Value of the `Server` field; empty: no field.
    pub server_name: String,
    /// What sites inherit, and what counts where no site is found.
    pub options: Arc<Options>,
}

/// What `[http]`, sites and routes have in common, resolved: a route's options are complete.
///
/// A key written in a route wins over the site's, which wins over that of `[http]`. Header rules are merged by field
/// name, everything else is replaced whole.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done to the fields of answers.
    pub headers: HeaderRules,
    /// What is done to the fields of requests to upstreams and applications.
    pub request_headers: HeaderRules,
    /// Value of Cache-Control; `None`: what the answer has, or what `expires` says.
    pub cache_control: Option<String>,
    /// Lifetimes of answers by media type.
    pub expires: Expires,
    /// Strict-Transport-Security.
    pub hsts: Hsts,
    /// What is shown instead of errors.
    pub error_pages: ErrorPages,
    /// Error pages also stand for errors that upstreams and applications answer with.
    pub intercept_errors: bool,
    /// Bytes of a request body; beyond it 413. 0: no limit.
    pub body_bytes_max: u64,
    /// Requests are written to the access log.
    pub log_access: bool,
    /// The same, of those alone for which all of these hold once they are answered.
    pub log_conditions: Vec<Condition>,
    /// Variables that are set.
    pub variables: Arc<SetVariables>,
    /// X-Accel-Redirect of upstreams and applications is obeyed.
    pub x_accel: bool,
    /// How answers are compressed; `None`: not at all.
    pub compress: Option<Arc<Policy>>,
    /// Who may come in; `None`: everyone.
    pub access: Option<Arc<AddressRules>>,
    /// The login; `None`: none.
    pub auth: Option<Arc<Auth>>,
    /// What requests must keep, indexes into [`Config::limits`].
    pub limits: Arc<[usize]>,
    /// Whether all that is asked for must be met, or any of it.
    pub satisfy: Satisfy,
    /// Target of the subrequest that is asked before; `None`: none is.
    pub auth_request: Option<Arc<str>>,
    /// Names of fields that only the answer to such a subrequest may bring into a request.
    pub auth_request_headers: Arc<[String]>,
    /// What becomes of URLs in Location and Refresh of upstreams; `None`: they stay.
    pub location_rewrite: Option<LocationRules>,
    /// Where copies of requests to an upstream go; `None`: nowhere. Only routes have it.
    pub mirror: Option<Arc<Mirror>>,
    /// What becomes of the attributes of cookies that upstreams set; `None`: they stay.
    pub cookie_rewrite: Option<Arc<CookieRules>>,
    /// What is put in the place of what in the bodies of answers; `None`: they stay.
    pub substitute: Option<Arc<Substitute>>,
    /// Bytes a second of one answer's content; 0: any rate.
    pub limit_rate: u64,
    /// Bytes of an answer that leave at any rate before.
    pub limit_rate_after: u64,
}

impl Options {
    /// Nothing but the limit of `[http]`.
    pub fn new(body_bytes_max: u64) -> Options {
        Options {
            headers: HeaderRules::default(),
            request_headers: HeaderRules::default(),
            cache_control: None,
            expires: Expires::default(),
            hsts: Hsts::default(),
            error_pages: ErrorPages::default(),
            intercept_errors: false,
            body_bytes_max,
            log_access: true,
            log_conditions: Vec::new(),
            variables: Arc::default(),
            compress: None,
            access: None,
            auth: None,
            limits: Arc::default(),
            satisfy: Satisfy::All,
            auth_request: None,
            auth_request_headers: Arc::default(),
            location_rewrite: None,
            mirror: None,
            cookie_rewrite: None,
            substitute: None,
            limit_rate: 0,
            limit_rate_after: 0,
            x_accel: true,
        }
    }

    /// Whether some text in it needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.headers.use_captures()
            || self.request_headers.use_captures()
            || self.error_pages.iter().any(|(_, page)| page.from.uses_captures())
            || self.variables.values().any(Template::uses_captures)
            || self.location_rewrite.as_ref().is_some_and(LocationRules::use_captures)
            || self.cookie_rewrite.as_ref().is_some_and(|rules| rules.use_captures())
            || self.substitute.as_ref().is_some_and(|substitute| substitute.use_captures())
    }
}

/// What lets a request in where several things are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// All of them agree.
    #[default]
    All,
    /// One of them does.
    Any,
}

/// Strict-Transport-Security, to be sent over TLS alone (RFC 6797 section 7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hsts {
    /// How long browsers come by https alone; `None`: the field is not sent.
    pub max_age: Option<Duration>,
    /// So they do for the names below.
    pub subdomains: bool,
    /// The site may be put on the lists that browsers come with.
    pub preload: bool,
    /// Value of the field.
    field: Option<String>,
}

impl Hsts {
    /// The policy with its field, written once.
    pub fn new(max_age: Option<Duration>, subdomains: bool, preload: bool) -> Hsts {
        let end = |wanted, text: &'static str| if wanted { text } else { "" };
        let field = max_age.map(|max_age| {
            let (subdomains, preload) = (end(subdomains, "; includeSubDomains"), end(preload, "; preload"));
            format!("max-age={}{subdomains}{preload}", max_age.as_secs())
        });
        Hsts { max_age, subdomains, preload, field }
    }

    /// Value of Strict-Transport-Security; `None`: it is not sent.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

/// Error pages by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Ranges of statuses, both ends included; the narrower ones first.
    pages: Vec<(std::ops::RangeInclusive<u16>, ErrorPage)>,
}

impl ErrorPages {
    /// Pages for ranges of statuses; of two that fit, the narrower one counts.
    pub fn new(mut pages: Vec<(std::ops::RangeInclusive<u16>, ErrorPage)>) -> ErrorPages {
        pages.sort_by_key(|(range, _)| range.end() - range.start());
        ErrorPages { pages }
    }

    /// The page for `status`.
    pub fn page(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.iter().find(|(range, _)| range.contains(&status)).map(|(_, page)| page)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(std::ops::RangeInclusive<u16>, ErrorPage)> {
        self.pages.iter()
    }
}

/// What is shown instead of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// Where it comes from.
    pub from: PageSource,
    /// The status the client gets.
    pub status: PageStatus,
}

/// Where an error page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageSource {
    /// A path of the same site, routed again as an internal redirect and asked for with GET (HEAD stays HEAD); `$status`
    /// is the one of the error.
    Path(Template),
    /// The named route of this index into [`Site::routes`], which gets the request as it is.
    Route(usize),
}

impl PageSource {
    /// Whether its text needs the captures of the route.
    pub fn uses_captures(&self) -> bool {
        matches!(self, PageSource::Path(path) if path.uses_captures())
    }
}

/// Status of the answer that an error page makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStatus {
    /// That of the error.
    Error,
    /// That with which the page itself is answered.
    Page,
    /// This one.
    Fixed(u16),
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

/// Windows and limits of downstream HTTP/3 connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http3 {
    /// Requests a client may have open at the same time on one connection.
    pub streams_max: u32,
    /// Bytes of a request body that may be under way on one stream, unread by us.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Bytes of answers that a connection keeps until they are acknowledged.
    pub send_buffer_bytes_max: u64,
    /// Bytes of a decompressed header list; beyond it 431.
    pub header_list_bytes_max: u32,
    /// Requests that a client may give up early: [`crate::http::h3::Budget`].
    pub early_rst_max: u32,
    /// When clients must prove their address first.
    pub retry: QuicRetry,
}

/// When a client of QUIC must prove its address before a handshake (RFC 9000 section 8.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicRetry {
    /// While many handshakes are under way.
    Auto,
    /// Always.
    Always,
}

/// A limit of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name in `limits`, logs, metrics and answers.
    pub name: String,
    /// What is counted; a request for which it is empty is not limited.
    pub key: Template,
    /// Rate and requests at once; at least one of the two.
    pub allowed: Allowed,
    /// Requests ahead of the rate wait for their turn; else they go on at once.
    pub delays: bool,
    /// Status of refused requests.
    pub status: u16,
    /// Nothing is refused or delayed, only counted.
    pub dry_run: bool,
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
    /// Whose connections are taken; `None`: everyone's.
    pub access: Option<Arc<AddressRules>>,
    /// TCP mode; `None`: it speaks HTTP with its sites.
    pub tcp: Option<Arc<TcpRoute>>,
    /// Indexes into [`Config::sites`].
    pub sites: Vec<usize>,
    /// HTTP/2 is spoken with clients that ask for it.
    pub http2: bool,
    /// HTTP/3 is spoken on the UDP port of the same number.
    pub http3: bool,
    /// Value of Alt-Svc over HTTP/1 and HTTP/2 where `http3` is on; `None`: the port as bound. Empty: no such field.
    pub alt_svc: Option<String>,
    /// TLS; `None`: plain text.
    pub tls: Option<Arc<Tls>>,
}

/// Where the connections of a listener in TCP mode go. The numbers are indexes into [`Config::upstreams`].
#[derive(Debug)]
pub enum TcpRoute {
    /// All to one upstream.
    All(usize),
    /// By the name that the client asks for with TLS.
    ByName {
        /// Upstreams by name.
        names: Box<Names>,
        /// For other names, for clients that ask for none, and for those that do not speak TLS; `None`: they are refused.
        otherwise: Option<usize>,
    },
}

impl TcpRoute {
    /// The upstream for a client that asks for `server_name`, which is in lower case; `None`: it is refused.
    pub fn upstream(&self, server_name: Option<&str>) -> Option<usize> {
        match self {
            TcpRoute::All(upstream) => Some(*upstream),
            TcpRoute::ByName { names, otherwise } => {
                server_name.and_then(|name| names.find(name.as_bytes())).or(*otherwise)
            }
        }
    }

    /// Every upstream it may lead to.
    pub fn upstreams(&self) -> Vec<usize> {
        match self {
            TcpRoute::All(upstream) => vec![*upstream],
            TcpRoute::ByName { names, otherwise } => names.numbers().chain(*otherwise).collect(),
        }
    }
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
    /// `www.example.*`, stored as `www.example.`: any name that begins so and is longer.
    Prefix(String),
    /// `~^www\d+\.`: an expression, matched against the name in lower case.
    Regex(Pattern),
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
    /// Requests in clear text are sent to https on this port, but for those of [`crate::route::https`]; `None`: they are
    /// answered.
    pub https_port: Option<u16>,
    /// Counts where no route matches, and as what routes inherit.
    pub options: Arc<Options>,
    /// Routes in order of writing; for precedence see [`crate::route`].
    pub routes: Vec<Route>,
}

/// How a route matches a path. Paths are percent-decoded and free of dot segments before matching.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Its beginning, byte by byte, as nginx does: `/api` also matches `/apis`, `/api/` does not.
    Prefix(String),
    /// An expression, matched against the path's bytes.
    Regex(Pattern),
    /// No path: the route is reached as `@name` alone.
    Named(String),
}

/// One line of a site's routing table.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it matches.
    pub path: PathMatch,
    /// Methods it takes; empty: all. GET stands for HEAD too.
    pub methods: Vec<String>,
    /// It is there for those requests alone for which all of these hold.
    pub conditions: Vec<Condition>,
    /// Of a prefix: when it is the longest one, expressions are not tried (nginx's `^~`).
    pub over_regex: bool,
    /// Only reached by internal redirects; for clients it does not exist.
    pub internal: bool,
    /// The target as the action sees it (nginx's `rewrite … break`); never beside [`Action::Rewrite`].
    pub rewrite: Option<Arc<Rewrite>>,
    /// What it does.
    pub action: Action,
    /// How it does it.
    pub options: Arc<Options>,
}

impl Route {
    /// A route for every method and request, without a rewrite.
    pub fn new(path: PathMatch, action: Action, options: Arc<Options>) -> Route {
        let (methods, conditions) = (Vec::new(), Vec::new());
        Route { path, methods, conditions, over_regex: false, internal: false, rewrite: None, action, options }
    }

    /// Whether some text in it needs what the path's expression captured.
    pub fn uses_captures(&self) -> bool {
        let of_action = match &self.action {
            Action::Redirect(redirect) => redirect.to.uses_captures(),
            Action::Rewrite(rewrite) => rewrite.to.uses_captures(),
            Action::Respond(respond) => respond.body.uses_captures(),
            Action::Files(_)
            | Action::Proxy(_)
            | Action::ProxyBy(_)
            | Action::App(_)
            | Action::Close
            | Action::Tarpit(_) => false,
        };
        of_action
            || self.rewrite.as_ref().is_some_and(|rewrite| rewrite.to.uses_captures())
            || self.options.use_captures()
            || self.conditions.iter().any(Condition::uses_captures)
    }
}

/// What happens to a matched request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Serve files.
    Files(Arc<Files>),
    /// Forward to the upstream of this index.
    Proxy(usize),
    /// Forward to the upstream that a variable names.
    ProxyBy(Arc<ProxyBy>),
    /// Call the in-process application of this index.
    App(usize),
    /// Tell the client to go elsewhere.
    Redirect(Arc<Redirect>),
    /// Route again with another target (nginx's `rewrite … last`).
    Rewrite(Arc<Rewrite>),
    /// A fixed answer.
    Respond(Arc<Respond>),
    /// Close the connection without an answer (nginx's `return 444`).
    Close,
    /// An error, after a while.
    Tarpit(Tarpit),
}

/// An upstream by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyBy {
    /// One variable.
    pub name: Template,
    /// All that it may be, with their indexes into [`Config::upstreams`].
    pub upstreams: Vec<(String, usize)>,
}

/// Where copies of requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Share of the requests, hundredths of a percent.
    pub share: u32,
    /// Copies under way at once, in the whole process; more are not made.
    pub requests_max: usize,
}

/// An error that is answered late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tarpit {
    /// How long it is held back.
    pub delay: Duration,
    /// Its status.
    pub status: u16,
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Value of Location, to be put as [`Encoding::Url`]; may be relative (RFC 9110 section 10.2.2).
    pub to: Template,
}

/// An internal redirect; see [`crate::route::rewrite`] for what becomes of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Path and perhaps query.
    pub to: Template,
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status code.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: String,
    /// The body.
    pub body: Template,
    /// What the content type asks of values in the body.
    pub encoding: Encoding,
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
    /// The named route, index into [`Site::routes`], that gets the request when there is no such file.
    pub last_resort: Option<usize>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Of two drawn by weight, the one with fewer requests under way in relation to weight.
    #[default]
    RandomTwo,
    /// Smooth weighted round-robin.
    RoundRobin,
    /// The fewest requests under way, in relation to weight.
    LeastConn,
    /// The least response time times requests under way, in relation to weight.
    LeastTime,
    /// The first in order of writing that may have one more request.
    First,
}

/// What keeps requests together on a server.
#[derive(Clone, Debug)]
pub struct Hash {
    /// Requests with the same text go to the same server; a request for which it is empty goes by [`Balance`].
    pub key: Template,
    /// Most requests of a server in relation to an even spread by weight, percent, above 100; `None`: any number.
    pub load_max_percent: Option<u32>,
    /// Which server a key belongs to.
    pub table: Arc<Rendezvous>,
}

/// Fewest usable servers of a tier for it to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierMin {
    /// So many.
    Servers(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl TierMin {
    /// The number, of a tier of `all` servers.
    pub fn servers(self, all: u32) -> u32 {
        match self {
            TierMin::Servers(servers) => servers.min(all),
            TierMin::Percent(percent) => (all * percent).div_ceil(100),
        }
    }
}

/// When an earlier tier is used again that has enough servers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailBack {
    /// When it has had enough for so long; zero: at once.
    After(Duration),
    /// When the tier in use has too few itself.
    Manual,
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
    /// What keeps requests together; `None`: nothing does.
    pub hash: Option<Hash>,
    /// The cookie that leads clients back to their server; `None`: none does.
    pub sticky: Option<Arc<Sticky>>,
    /// How long a server that came up takes to get all of its traffic.
    pub slow_start: Duration,
    /// When a tier has enough servers.
    pub tier_min: TierMin,
    /// When an earlier tier is used again.
    pub fail_back: FailBack,
    /// Requests under way at all its servers together, in the whole process; `None`: any number.
    pub requests_max: Option<u32>,
    /// Requests that may wait for a place; more are answered 503.
    pub queue_max: usize,
    /// How long one waits before 503.
    pub queue_timeout: Duration,
    /// TLS towards them; `None`: clear text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Active check; `None`: servers count as up.
    pub health: Option<Health>,
    /// What live traffic tells of them; `None`: nothing is made of it.
    pub outliers: Option<OutlierRules>,
    /// Below this share of servers that are up all of them get requests, percent; 0: never.
    pub panic_percent: u32,
    /// Time for connect(2).
    pub connect_timeout: Duration,
    /// From the last request byte to the complete response head.
    pub response_timeout: Duration,
    /// Longest silence while a body is relayed.
    pub idle_timeout: Duration,
    /// Protocols that a connection may leave HTTP for, in lower case.
    pub upgrade: Vec<Box<str>>,
    /// Longest silence in both directions behind that, and of connections in TCP mode.
    pub tunnel_timeout: Duration,
    /// The same once one side has ended its direction; the shorter one of the two counts.
    pub half_closed_timeout: Duration,
    /// Header that tells servers whose connection it is, in front of everything else.
    pub proxy_protocol: ProxyProtocol,
    /// When a request is sent again, and how often.
    pub retry: Retry,
    /// Idle connections kept per data worker and server.
    pub keep_idle: usize,
    /// How long an idle connection is kept. Must stay below the server's own time.
    pub keep_idle_timeout: Duration,
}

impl Upstream {
    /// The numbers of its tiers in order.
    pub fn tiers(&self) -> Vec<u32> {
        let mut tiers: Vec<u32> = self.servers.iter().map(|server| server.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers
    }

    /// Index of the tier of this number among its tiers; the first one, where there is none such.
    pub fn tier_index(&self, number: u32) -> usize {
        if number == 0 { 0 } else { self.tiers().binary_search(&number).unwrap_or(0) }
    }
}

/// Requests that are sent a second time.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Connections tried for one request, the first included.
    pub tries_max: u32,
    /// What beyond the safe minimum.
    pub policy: RetryPolicy,
    /// Statuses of a server that are tried elsewhere.
    pub statuses: Vec<u16>,
    /// Share of the requests; `None`: any number.
    pub budget_percent: Option<u32>,
    /// From the beginning of a request to the beginning of its last try.
    pub time_max: Duration,
    /// Bodies up to this size are kept for it.
    pub body_bytes_max: usize,
}

#[cfg(test)]
impl Default for Retry {
    fn default() -> Retry {
        Retry {
            tries_max: 3,
            policy: RetryPolicy::default(),
            statuses: Vec::new(),
            budget_percent: Some(20),
            time_max: Duration::from_secs(60),
            body_bytes_max: 16 << 10,
        }
    }
}

impl ProxyProtocol {
    /// The same for checks.
    pub fn version(self) -> Option<ProxyVersion> {
        match self {
            ProxyProtocol::Off => None,
            ProxyProtocol::V1 => Some(ProxyVersion::V1),
            ProxyProtocol::V2 => Some(ProxyVersion::V2),
        }
    }
}

/// Version of the PROXY protocol that servers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None.
    Off,
    /// The text form.
    V1,
    /// The binary form, with the name and the protocol that the client has asked for in TLS where these are known.
    V2,
}

/// TLS towards servers. What the files hold is here already.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Name of all servers; `None`: each has that of its address.
    pub server_name: Option<ServerName<'static>>,
    /// File of the authorities; `None`: the system's, or nobody's.
    pub ca: Option<PathBuf>,
    /// Files of the certificate that servers may ask for.
    pub identity: Option<CertificateFiles>,
    /// What their certificates are held against, and what they are shown.
    pub trust: ServerTrust,
}

impl UpstreamTls {
    /// The same for health checks.
    pub fn check(&self) -> CheckTls {
        let name = self.server_name.as_ref().map(|name| name.to_str().into_owned());
        let roots = self.trust.authorities().cloned();
        // The system's file is read where no other is named: whatever it is called here, its content counts.
        let ca = roots.is_some().then(|| self.ca.clone().unwrap_or_default());
        CheckTls { server_name: name, ca, roots, identity: None }
    }

    /// What the certificate of the server at `address` must be for; `None`: a Unix socket, and no name is set.
    pub fn name_of(&self, address: &Address) -> Option<ServerName<'static>> {
        match (&self.server_name, address) {
            (Some(name), _) => Some(name.clone()),
            (None, Address::Tcp(address)) => Some(crate::tls::outbound::server_address(address.ip())),
            (None, Address::Unix(_)) => None,
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// Share of the traffic, 0 to 256; 0: only requests that belong to it.
    pub weight: u32,
    /// It is of the last tier.
    pub backup: bool,
    /// Number of its tier: the lower ones are used first.
    pub tier: u32,
    /// Requests under way at once, in the whole process; `None`: any number.
    pub requests_max: Option<u32>,
    /// Where it is checked; `None`: where it listens.
    pub check_address: Option<Address>,
}

impl Server {
    /// The tier of backups, behind all that have a number.
    pub const BACKUP_TIER: u32 = u32::MAX;

    /// A server with the defaults of its keys.
    pub fn new(address: Address) -> Server {
        Server { address, weight: 1, backup: false, tier: 1, requests_max: None, check_address: None }
    }

    /// The same as a backup.
    pub fn backup(address: Address) -> Server {
        Server { backup: true, tier: Server::BACKUP_TIER, ..Server::new(address) }
    }
}

/// An in-process application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Name in logs, metrics and routes.
    pub name: String,
    /// Name under which the program registered it (see [`crate::app::Registry`]).
    pub program: String,
    /// From the complete request head to the head of the answer; beyond it 504.
    pub response_timeout: Duration,
}

/// A MySQL read/write splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The same for connections in TCP mode.
    pub tcp_format: Arc<crate::log::Template>,
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
