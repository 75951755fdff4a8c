//! 0ne-Server: static files, load balancing, application workers and MySQL read/write splitting in one process,
//! thread-per-core on io_uring.
//!
//! # The house, in the order a request takes
//!
//! | module | does | never does |
//! |---|---|---|
//! | [`cli`] | command line: run, check, demo, static, proxy, split, ctl | start threads |
//! | [`config`] | text → written model with spans → immutable [`config::Config`]; all mistakes at once | bind, resolve, create |
//! | [`boot`] | process life: limits, another user, threads, signals, reload, drain | stand on the path of a request |
//! | [`runtime`] | drivers, pinning, mailboxes, buffers, system calls; the only `unsafe` | know a protocol |
//! | [`tls`] | sessions without sockets, certificates by name, tickets | choose a site |
//! | [`guard`] | who the client is, whether it may come in, and how much of it: address rules, PROXY protocol, proxies in front, logins, limits | hash a password on a data worker |
//! | [`http`] | HTTP/1.1 codec, guard of HTTP/2 over the `h2` crate, HTTP/3 over the streams of `quinn-proto`, content codings, substitutions, fields; no I/O | choose an action |
//! | [`route`] | (host, method, path) → action, rewrites, https; pure | I/O |
//! | [`files`] | static files: path safety, conditionals, ranges, coded forms, listings, cache | leave its root |
//! | [`proxy`] | upstreams of HTTP, FastCGI, uwsgi, SCGI, TCP and UDP: balance, limits, health, outliers, pools, forwarding, retries | complete a truncated body |
//! | [`app`] | in-process applications: contract, bridge, workers; what is decided about programs that are started | touch a client socket |
//! | [`mysql`] | splitter: protocol, classifier, sessions, pools | send a doubtful statement to a replica |
//! | `worker` | a data worker: accept, TLS, connections of all versions of HTTP and in TCP mode, datagrams in UDP mode, requests to actions, deadlines | decide about a protocol |
//! | [`control`] | admin HTTP, control socket, health checks, ejection of outliers, programs that are started, status | stand on the path of a request |
//! | [`demo`] | the application of `one-server demo`, an example of one | know the server around it |
//! | [`metrics`], [`log`] | per-worker counters, histograms, access log | lock, block |
//! | [`variables`] | variables of the config's own (map, geo, split, set), conditions; pure | I/O |
//! | [`util`] | small pure helpers | know any of the above |
//!
//! Imports point one way: `util` ← codecs ← state machines ← services (`files`, `proxy`, `app`, `mysql`) ← `worker` ←
//! `boot` ← `main`. Nothing outside [`runtime`] names a type of monoio or tokio-uring. Each module that reads bytes from
//! outside has a `fuzz` module with the properties that hold for any of them, which tests and the targets in `fuzz/` call.
//!
//! # Three planes, three kinds of thread
//!
//! | plane | runtime | threads | never does |
//! |---|---|---|---|
//! | data | monoio on io_uring, or on epoll where io_uring is refused | one worker per data core, pinned | block, take a lock, write a cache line another core writes (but to count its connections and, where they are limited, its clients and their requests and those at servers), look anything up by name |
//! | application | tokio-uring, or plain tokio | one worker per application core, pinned; threads of its own for an application that blocks | touch a client socket |
//! | control | tokio | one | stand on the path of a request |
//!
//! Password hashes are computed by a thread of their own, because they are slow by intention.
//! The access log and the lines of our own log are written by a thread each, because a disk may block; a clock thread
//! tells the data workers ten times a second to look at their deadlines.
//!
//! # Invariants
//!
//! 1. Codecs and state machines do no I/O, read no clock, draw no random number: bytes, `now` and seeds come in, actions
//!    go out.
//! 2. Everything has a limit, set at start from the config. A full queue stops its producer.
//! 3. No byte from outside panics the process, and no client makes it use unbounded memory or time. A panic in one
//!    request ends that request.
//! 4. No request is answered wrong to be fast: one is repeated only where RFC 9110 section 9.2.2 allows it; a truncated
//!    body is never completed; a SQL read goes to a replica only when it cannot differ from what its session must see.
//! 5. Every counter has one writer. What a client or a server may take is counted for the whole process instead: connections
//!    by address at accept and close, requests under limits by atomics.
//! 6. `check` reads only: it binds, creates, changes and resolves nothing.
//! 7. A reload changes the config between two requests: it closes no connection and no listener that stays, no counter
//!    begins anew, and a config with a mistake changes nothing.
//! 8. A takeover loses no connection: both processes accept from the same sockets until the new one serves, and whatever
//!    goes wrong before, the old one goes on.
//! 9. What starts says what it is: version, driver, cores and roles, listeners, limits, and anything that fell back.
//!
//! # Deliberately absent
//!
//! Not built yet, each with its place in the house: failover between machines, a firewall.
//!
//! Not wanted: dynamic dispatch of protocols, plug-ins, a second ring beside those of monoio and tokio-uring, a cipher, a
//! QUIC or an HTTP/2 framing of our own, any operating system but Linux.

pub mod app;
pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod files;
pub mod guard;
pub mod http;
pub mod log;
pub mod metrics;
pub mod mysql;
pub mod proxy;
pub mod route;
pub mod runtime;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod util;
pub mod variables;
mod worker;

/// A whole server in a program of one's own: a config, and the programs its `[app.NAME]` tables may name.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use one_server::{Server, app::App};
///
/// fn main() -> std::process::ExitCode {
///     let shop = App::new(|_worker| Router::new().route("/", get(|| async { "hello" })));
///     match Server::new().app("shop", shop).load("site.toml") {
///         Ok(server) => server.run(),
///         Err(report) => { eprint!("{report}"); std::process::ExitCode::FAILURE }
///     }
/// }
/// ```
///
/// Its config, `site.toml`:
///
/// ```toml
/// [listener.web]
/// address = "127.0.0.1:8080"
///
/// [app.shop]
///
/// [site.shop]
/// default = true
/// route = [{ path = "/", app = "shop" }]
/// ```
#[derive(Default)]
pub struct Server {
    programs: app::Registry,
}

/// A [`Server`] with its config, ready to run.
pub struct Configured {
    programs: app::Registry,
    config: config::Config,
    source: Option<boot::Source>,
}

/// Whoever asked for a takeover is told why there is none.
fn tell(report: &config::Report) {
    boot::tell_failure(&report.render(false));
}

impl Server {
    /// A server without programs.
    ///
    /// In the process that looks after applications with `type = "process"`, which is this program started a second time,
    /// this does not return: call it before anything that is to happen once, or starts a thread, and before arguments and variables of
    /// the environment are looked at, for that process has none of them.
    pub fn new() -> Server {
        boot::become_keeper_if_asked();
        Server::default()
    }

    /// Adds a program under the name by which the config knows it.
    #[must_use]
    pub fn app(mut self, name: impl Into<String>, app: app::App) -> Server {
        self.programs.add(name, app);
        self
    }

    /// Takes the config from a file, which is read again when a reload is asked for.
    ///
    /// Errors: every mistake of the file, each with its place and how to mend it.
    pub fn load(self, path: impl AsRef<std::path::Path>) -> Result<Configured, config::Report> {
        let (config, warnings) = config::load(path.as_ref(), &self.programs.names()).inspect_err(tell)?;
        cli::warn(&warnings);
        let source = boot::Source::new(path.as_ref(), &self.programs.names(), config::Overrides::default());
        Ok(Configured { programs: self.programs, config, source: Some(source) })
    }

    /// Takes the config from `text`; `file_name` is what reports call it.
    ///
    /// Errors: as for [`Server::load`].
    pub fn parse(self, file_name: &str, text: &str) -> Result<Configured, config::Report> {
        let (config, warnings) = config::parse(file_name, text, &self.programs.names()).inspect_err(tell)?;
        cli::warn(&warnings);
        Ok(Configured { programs: self.programs, config, source: None })
    }
}

impl Configured {
    /// The config, to be looked at or changed. A reload takes what the file says, without these changes.
    pub fn config_mut(&mut self) -> &mut config::Config {
        &mut self.config
    }

    /// Runs until the process is told to stop; returns its exit code. See [`boot`] for the signals.
    pub fn run(self) -> std::process::ExitCode {
        boot::run(self.config, self.programs, self.source)
    }
}
