//! 0ne-Server: static files, load balancing, application workers and MySQL read/write splitting in one process,
//! thread-per-core on io_uring.
//!
//! # The house, in the order a request takes
//!
//! | module | does | never does |
//! |---|---|---|
//! | [`cli`] | command line: run, check, demo, static, proxy, split | start threads |
//! | [`config`] | text → written model with spans → immutable [`config::Config`]; all mistakes at once | bind, resolve, create |
//! | [`boot`] | process life: limits, threads, signals, drain | stand on the path of a request |
//! | [`runtime`] | drivers, pinning, mailboxes, buffers, system calls; the only `unsafe` | know a protocol |
//! | [`http`] | message model, HTTP/1.1 codec without I/O, connection driver | choose an action |
//! | [`route`] | (host, path) → action, pure | I/O |
//! | [`files`] | static files: path safety, conditionals, ranges, cache, send path | leave its root |
//! | [`proxy`] | upstreams: balance, health, pools, forwarding, retries | complete a truncated body |
//! | [`app`] | in-process applications: contract, bridge, workers | touch a client socket |
//! | [`mysql`] | splitter: protocol, classifier, sessions, pools | send a doubtful statement to a replica |
//! | `worker` | a data worker: accept, connections, requests to actions, deadlines | decide about a protocol |
//! | [`control`] | admin HTTP, health checks, status | stand on the path of a request |
//! | [`demo`] | the application of `one-server demo`, an example of one | know the server around it |
//! | [`metrics`], [`log`] | per-worker counters, histograms, access log | lock, block |
//! | [`util`] | small pure helpers | know any of the above |

pub mod app;
pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod files;
pub mod http;
pub mod log;
pub mod metrics;
pub mod mysql;
pub mod proxy;
pub mod route;
pub mod runtime;
pub mod util;
mod worker;

/// A whole server in a program of one's own: a config, and the programs its `[app.NAME]` tables may name.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use one_server::{Server, app::App};
///
/// fn main() -> std::process::ExitCode {
///     let text = r#"
///         [listener.web]
///         address = "127.0.0.1:8080"
///         [app.shop]
///         program = "shop"
///         [site.shop]
///         default = true
///         [[site.shop.route]]
///         path = "/"
///         app = "shop"
///     "#;
///     let shop = App::new(|_context| Router::new().route("/", get(|| async { "hello" })));
///     match Server::new().app("shop", shop).parse("shop.toml", text) {
///         Ok(server) => server.run(),
///         Err(report) => {
///             eprint!("{report}");
///             std::process::ExitCode::FAILURE
///         }
///     }
/// }
/// ```
#[derive(Default)]
pub struct Server {
    programs: app::Registry,
}

/// A [`Server`] with its config, ready to run.
pub struct Configured {
    programs: app::Registry,
    config: config::Config,
}

impl Server {
    /// A server without programs.
    pub fn new() -> Server {
        Server::default()
    }

    /// Adds a program under the name by which the config knows it.
    #[must_use]
    pub fn app(mut self, name: impl Into<String>, app: app::App) -> Server {
        self.programs.add(name, app);
        self
    }

    /// Takes the config from a file.
    ///
    /// Errors: every mistake of the file, each with its place and how to mend it.
    pub fn load(self, path: impl AsRef<std::path::Path>) -> Result<Configured, config::Report> {
        let (config, warnings) = config::load(path.as_ref(), &self.programs.names())?;
        cli::warn(&warnings);
        Ok(Configured { programs: self.programs, config })
    }

    /// Takes the config from `text`; `file_name` is what reports call it.
    ///
    /// Errors: as for [`Server::load`].
    pub fn parse(self, file_name: &str, text: &str) -> Result<Configured, config::Report> {
        let (config, warnings) = config::parse(file_name, text, &self.programs.names())?;
        cli::warn(&warnings);
        Ok(Configured { programs: self.programs, config })
    }
}

impl Configured {
    /// The config, to be looked at or changed.
    pub fn config_mut(&mut self) -> &mut config::Config {
        &mut self.config
    }

    /// Runs until the process is told to stop; returns its exit code. See [`boot`] for the signals.
    pub fn run(self) -> std::process::ExitCode {
        boot::run(self.config, self.programs)
    }
}
