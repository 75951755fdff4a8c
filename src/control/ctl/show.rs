//! What `ctl show` shows: the process, its config and everything that serves.

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::model::{Balance, HostPattern};
use crate::control::Shared;
use crate::control::processes::ProcessView;
use crate::control::shared::{AdminState, CheckStatus, ServerState, WorkerRole, unix_ms};
pub use crate::control::udp_view::UdpView;
use crate::metrics::{ServerStats, Worker};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Version of the program.
    pub version: String,
    /// Number of the process.
    pub pid: u32,
    /// `ready`, `draining` and the like.
    pub phase: String,
    /// Since the start.
    pub uptime_seconds: f64,
    /// The config in use.
    pub config: ConfigView,
    /// Threads that serve.
    pub workers: Vec<WorkerView>,
    /// Sockets that listen.
    pub listeners: Vec<ListenerView>,
    /// Listeners in UDP mode, in order of writing.
    #[serde(default)]
    pub udp: Vec<UdpView>,
    /// Sites, in order of writing.
    pub sites: Vec<SiteView>,
    /// Upstreams, in order of writing.
    pub upstreams: Vec<UpstreamView>,
    /// Applications that are processes.
    #[serde(default)]
    pub apps: Vec<ProcessView>,
}

/// The config in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// The file; `None`: the process was started from flags.
    pub file: Option<String>,
    /// Configs before this one in this process.
    pub generation: u32,
    /// Since when it is in use.
    pub since_unix_ms: u64,
    /// Reloads that were refused.
    pub reloads_failed: u64,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// `data` or `app`.
    pub role: String,
    /// Number among those of its role.
    pub index: usize,
    /// Core it is pinned to.
    pub core: Option<usize>,
    /// `io_uring` or `epoll`.
    pub driver: String,
    /// Client connections open now; of data workers.
    pub connections: Option<u64>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Name in the config.
    pub name: String,
    /// `http`, `https`, `mysql`, `admin` or `control`.
    pub kind: String,
    /// As bound.
    pub address: String,
    /// Connections open now, in UDP mode flows; of `http` and `https`, `tcp`, `tls` and `udp`.
    pub connections: Option<u64>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    /// Name in the config.
    pub name: String,
    /// Host names as they are written.
    pub hosts: Vec<String>,
    /// It answers for unknown hosts.
    pub default: bool,
    /// Names of its listeners.
    pub listeners: Vec<String>,
    /// Paths of its routes as they are written.
    pub routes: Vec<String>,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Name in the config.
    pub name: String,
    /// How a server is chosen.
    pub balance: String,
    /// Place of the tier that is held in place of the first one, from 1; `None`: the first one is, or there are none to hold.
    pub tier_held: Option<usize>,
    /// Its servers, in order of writing.
    pub servers: Vec<ServerView>,
    /// Addresses and names of the config file that the operator has removed.
    pub removed: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// Where it listens.
    pub address: String,
    /// The name that it was found by, with its port.
    pub name: Option<String>,
    /// The operator has added it.
    pub added: bool,
    /// `up`, `down`, `drain` or `maintenance`: what counts for requests.
    pub state: String,
    /// What the operator wants: `ready`, `drain` or `maintenance`.
    pub admin: String,
    /// It answers, as its checks say.
    pub up: bool,
    /// How its last check ended, in HAProxy's words; `None`: it is not checked.
    pub check: Option<String>,
    /// The operator has told its checks to pause.
    pub checks_paused: bool,
    /// When it last went up or down, or the start of the process.
    pub since_unix_ms: u64,
    /// Share of the traffic, as the operator or else the config has it.
    pub weight: u32,
    /// That of the config.
    pub weight_config: u32,
    /// Requests that it may have at once, as the operator or else the config has it; `None`: any number.
    pub limit: Option<u32>,
    /// That of the config.
    pub limit_config: Option<u32>,
    /// Used only while no other one is up.
    pub backup: bool,
    /// Requests under way.
    pub active: u64,
    /// Idle connections.
    pub idle: u64,
    /// Requests sent to it.
    pub requests: u64,
    /// Connects and requests that failed.
    pub errors: u64,
}

impl View {
    /// The process now.
    pub fn new(shared: &Shared, file: Option<String>) -> View {
        View {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            phase: shared.phase().name().into(),
            uptime_seconds: shared.started.elapsed().as_secs_f64(),
            config: ConfigView {
                file,
                generation: shared.generation,
                since_unix_ms: unix_ms(shared.loaded_at),
                reloads_failed: shared.reloads_failed.value(),
            },
            workers: workers(shared),
            listeners: listeners(shared),
            udp: crate::control::udp_view::views(shared),
            sites: sites(&shared.config),
            upstreams: upstreams(shared),
            apps: shared.processes(),
        }
    }
}

fn sum(shared: &Shared, read: impl Fn(&Worker) -> u64) -> u64 {
    shared.workers.iter().map(|worker| read(worker)).sum()
}

fn workers(shared: &Shared) -> Vec<WorkerView> {
    let facts = shared.facts.get().map(|facts| &facts.workers[..]).unwrap_or_default();
    let view = |worker: &crate::control::shared::WorkerFacts| {
        let stats = shared.workers.get(worker.index).filter(|_| worker.role == WorkerRole::Data);
        WorkerView {
            role: worker.role.name().into(),
            index: worker.index,
            core: worker.core,
            driver: worker.driver.into(),
            connections: stats.map(|stats| stats.http.connections.value()),
        }
    };
    facts.iter().map(view).collect()
}

fn listeners(shared: &Shared) -> Vec<ListenerView> {
    let facts = shared.facts.get().map(|facts| &facts.listeners[..]).unwrap_or_default();
    let view = |(index, fact): (usize, &crate::control::shared::ListenerFacts)| ListenerView {
        name: fact.name.clone(),
        kind: fact.kind.into(),
        address: fact.address.clone(),
        // The facts begin with the listeners of HTTP.
        connections: (index < shared.config.listeners.len()).then(|| sum(shared, |w| w.listeners[index].open.value())),
    };
    facts.iter().enumerate().map(view).collect()
}

fn sites(config: &Config) -> Vec<SiteView> {
    let view = |(index, site): (usize, &crate::config::model::Site)| SiteView {
        name: site.name.clone(),
        hosts: site.hosts.iter().map(host).collect(),
        default: site.default,
        listeners: config.listeners.iter().filter(|l| l.sites.contains(&index)).map(|l| l.name.clone()).collect(),
        routes: site.routes.iter().map(|route| route.path.to_string()).collect(),
    };
    config.sites.iter().enumerate().map(view).collect()
}

fn host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(end) => format!("*{end}"),
        HostPattern::Prefix(begin) => format!("{begin}*"),
        HostPattern::Regex(pattern) => format!("~{}", pattern.as_str()),
        HostPattern::Any => "*".into(),
    }
}

fn upstreams(shared: &Shared) -> Vec<UpstreamView> {
    let view = |(u, upstream): (usize, &crate::config::model::Upstream)| UpstreamView {
        name: upstream.name.clone(),
        balance: match upstream.balance {
            Balance::RandomTwo => "random-two".into(),
            Balance::RoundRobin => "round-robin".into(),
            Balance::LeastConn => "least-conn".into(),
            Balance::LeastTime => "least-time".into(),
            Balance::First => "first".into(),
            Balance::Local => "local".into(),
        },
        tier_held: match upstream.tier_index(shared.upstreams[u].tier_held()) {
            0 => None,
            held => Some(held + 1),
        },
        servers: (0..upstream.servers.len()).map(|s| server(shared, u, s)).collect(),
        removed: upstream.removed.iter().map(ToString::to_string).collect(),
    };
    shared.config.upstreams.iter().enumerate().map(view).collect()
}

fn server(shared: &Shared, u: usize, s: usize) -> ServerView {
    let (server, state) = (&shared.config.upstreams[u].servers[s], &*shared.servers[u][s]);
    let sum = |read: &dyn Fn(&ServerStats) -> u64| sum(shared, |worker| read(&worker.servers[u][s]));
    let check = state.check_status();
    let is_written = shared.config.upstreams[u].written.iter().any(|written| written.address == server.address);
    ServerView {
        address: server.address.to_string(),
        name: server.named.as_ref().map(ToString::to_string),
        added: server.named.is_none() && !is_written,
        state: state_name(state).into(),
        admin: state.admin().name().into(),
        up: state.is_up(),
        check: (check != CheckStatus::Unchecked).then(|| check.code().into()),
        checks_paused: state.checks_paused(),
        since_unix_ms: unix_ms(state.since()),
        weight: shared.weight(u, s),
        weight_config: server.weight,
        limit: shared.limit(u, s),
        limit_config: server.requests_max,
        backup: server.backup,
        active: sum(&|server| server.active.value()),
        idle: sum(&|server| server.idle.value()),
        requests: sum(&|server| server.requests.value()),
        errors: sum(&|server| server.connect_errors.value() + server.response_errors.value()),
    }
}

fn state_name(state: &ServerState) -> &'static str {
    match (state.admin(), state.is_up()) {
        (AdminState::Maintenance, _) => "maintenance",
        (_, false) => "down",
        (AdminState::Drain, true) => "drain",
        (AdminState::Ready, true) => "up",
    }
}
