//! The compiled config: complete, checked, immutable. Every default is filled in and every name is an index.
//!
//! Data workers hold it by `Arc`. Nothing here reads files or resolves names; [`super::load`] makes it.

mod app;
mod cgi;
mod files;
mod http;
mod limit;
mod listener;
mod log;
mod mysql;
mod options;
mod process;
mod resolver;
mod site;
mod upstream;

use std::net::SocketAddr;

pub use super::health::{
    CheckTls, FailureKinds, FieldMatch, Health, HttpProbe, MysqlProbe, OutlierRules, Pace, Probe, ProxyVersion,
    StatusSet, TextMatch, TextProbe, ValueMatch,
};
pub use crate::http::coding::Coding;
pub use crate::http::substitute::Policy as Substitute;
use crate::variables::Lookup;
pub use app::{App, Launch, Listening, Php, Places, ProcessApp};
pub use cgi::Cgi;
pub use files::{Candidate, Files, Listing, MediaTypes, Symlinks};
pub use http::{Http, Http2, Http3, QuicRetry};
pub use limit::Limit;
pub use listener::{CertificateFiles, ClientCertificates, Listener, TcpRoute, Tls, TlsProfile, UdpRoute, UnknownNames};
pub use log::{Log, LogTarget, SiteLog};
pub use mysql::{
    CausalReads, MysqlRoute, MysqlRule, MysqlServer, MysqlSlowLog, MysqlUser, PrimaryRule, SERVERS_EVER_MAX, Secret,
    Splitter, USERS_EVER_MAX,
};
pub use options::{ErrorPage, ErrorPages, Hsts, Options, PageSource, PageStatus, Satisfy, SentFolders};
pub use process::{AppPlacement, DriverChoice, Process, RunAs, StatsLevel, StatsSocket};
pub use resolver::{Families, Resolver};
pub use site::{Action, HostPattern, Mirror, PathMatch, ProxyBy, Redirect, Respond, Rewrite, Route, Site, Tarpit};
pub use upstream::{Balance, FailBack, Hash, Protocol, ProxyProtocol, Retry, Server, TierMin, Upstream, UpstreamTls};

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
    /// How names of servers are resolved.
    pub resolver: Resolver,
    /// In-process applications.
    pub apps: Vec<App>,
    /// Programs that are started and watched.
    pub processes: Vec<ProcessApp>,
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
