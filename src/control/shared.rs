//! What the threads of one process show each other, counters, server states, phase, start facts.
//!
//! Boot makes one [`Shared`] and hands the `Arc` to everyone. Every number in it has one writer (named at the field) but for
//! the counts by client, which hold for the whole process; reading is a relaxed load; the one lock here is for what the
//! control thread alone touches. Deliberately absent: anything a request would have to wait for.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::queue::ArrayQueue;
use tokio::io::DuplexStream;

use super::processes::ProcessView;
pub use super::server_state::{AdminState, Condition, ServerState, UpstreamFlags};
use crate::config::model::{Limit, Server, Upstream};
use crate::config::{Config, Succession};
use crate::guard::{Limiter, PerAddress};
use crate::metrics::{AppWorkerStats, Counter, LogWriterStats, Trace, Worker};
use crate::proxy::availability::{Standing, is_panic};
pub use crate::proxy::check::CheckStatus;
use crate::proxy::exchange::Exchange;
use crate::proxy::gate::Gate;
use crate::runtime::detached::Detached;
use crate::runtime::net::{AppSeat, no_socket};
pub(crate) use crate::util::moment::unix_ms;

/// Events kept between two looks of the control thread; the oldest goes when more happen.
const EVENTS_PENDING_MAX: usize = 256;

/// Everything the control thread shows and data workers look at, as one config has it.
///
/// Indexes are those of `config`. A reload makes another one ([`Shared::next`]) that holds the same counters and states for
/// everything that stays; whoever began under this one goes on with it, and it ends with the last of them.
pub struct Shared {
    /// The compiled config.
    pub config: Arc<Config>,
    /// Configs before this one in this process.
    pub generation: u32,
    /// Times that the config file had been read before: between two of them, only servers have changed.
    pub reading: u32,
    /// What of the config was there in the one before; by the indexes of both.
    pub succession: Succession,
    /// When the config became this one.
    pub loaded_at: SystemTime,
    /// Counters of each data worker; that worker is the writer.
    pub workers: Vec<Arc<Worker>>,
    /// State of each server of each upstream, in the order of the config. Writer: the control thread.
    pub servers: Vec<Vec<Arc<ServerState>>>,
    /// Of each upstream as a whole. Writer: the control thread.
    pub upstreams: Vec<Arc<UpstreamFlags>>,
    /// Limits of requests at the servers of each upstream; `None`: it has none. Writers: the data workers.
    pub gates: Vec<Option<Arc<Gate>>>,
    /// Idle connections to each server that any data worker may take. Writers: the data workers.
    pub idle: Vec<Vec<Arc<Exchange<Detached>>>>,
    /// Connections by client address; `None`: they are not limited. Writers: the data workers.
    pub clients: Option<Arc<PerAddress>>,
    /// Limits of requests, in the order of the config. Writers: the data workers.
    pub limiters: Vec<Arc<Limiter>>,
    /// What the process turned out to be; set once by boot when all workers run, and for each later config.
    pub facts: OnceLock<StartFacts>,
    /// Data workers that have not taken this config yet; unset: it is that of the start.
    waits_for: OnceLock<Arc<AtomicUsize>>,
    lasting: Arc<Lasting>,
}

/// What is the same for all configs of a process. Every [`Shared`] gives access to it.
pub struct Lasting {
    /// Traces of each data worker; empty when tracing is off.
    pub traces: Vec<Arc<Trace>>,
    /// Counters of each application worker; that worker is the writer.
    pub app_workers: Vec<Arc<AppWorkerStats>>,
    /// Requests that are held back on purpose now. Writers: the data workers.
    pub tarpit: AtomicUsize,
    /// What the access log's writer thread counts; that thread is the writer.
    pub log_writer: Arc<LogWriterStats>,
    /// Uptime counts from here.
    pub started: Instant,
    /// The same moment on the wall clock.
    pub started_at: SystemTime,
    /// Reloads that were refused. Writer: the control thread.
    pub reloads_failed: Counter,
    phase: AtomicU8,
    certificates: Mutex<Vec<CertificateFacts>>,
    splitter_view: OnceLock<SplitterViewFn>,
    app_connect: OnceLock<AppConnectFn>,
    splitter_order: OnceLock<SplitterOrderFn>,
    processes: Mutex<Vec<ProcessView>>,
    events: ArrayQueue<Event>,
}

type SplitterViewFn = Box<dyn Fn() -> Vec<SplitterView> + Send + Sync>;

/// Takes where an application runs, and until when its answer is awaited.
type AppConnectFn = Box<dyn Fn(&AppSeat, Instant) -> io::Result<DuplexStream> + Send + Sync>;

/// Takes indexes of splitter and server into the config; returns what the operator wanted of it before. Errors: for a person.
type SplitterOrderFn = Box<dyn Fn(usize, usize, SplitterOrder) -> Result<AdminState, String> + Send + Sync>;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("phase", &self.phase()).field("workers", &self.workers.len()).finish()
    }
}

impl std::fmt::Debug for Lasting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lasting").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl std::ops::Deref for Shared {
    type Target = Lasting;

    fn deref(&self) -> &Lasting {
        &self.lasting
    }
}

impl Shared {
    /// Zeroed counters for `data_workers` and `app_workers`, all servers up, phase [`Phase::Starting`].
    pub fn new(config: Arc<Config>, data_workers: usize, app_workers: usize) -> Shared {
        let traces = if config.trace_events == 0 { 0 } else { data_workers };
        let now = SystemTime::now();
        let lasting = Lasting {
            traces: (0..traces).map(|_| Arc::new(Trace::new(config.trace_events))).collect(),
            app_workers: (0..app_workers).map(|_| Arc::default()).collect(),
            tarpit: AtomicUsize::new(0),
            log_writer: Arc::default(),
            started: Instant::now(),
            started_at: now,
            reloads_failed: Counter::default(),
            phase: AtomicU8::new(Phase::Starting as u8),
            certificates: Mutex::default(),
            splitter_view: OnceLock::new(),
            app_connect: OnceLock::new(),
            splitter_order: OnceLock::new(),
            processes: Mutex::default(),
            events: ArrayQueue::new(EVENTS_PENDING_MAX),
        };
        Shared {
            generation: 0,
            reading: 0,
            succession: Succession::default(),
            loaded_at: now,
            workers: (0..data_workers).map(|_| Arc::new(Worker::new(&config))).collect(),
            servers: config
                .upstreams
                .iter()
                .map(|upstream| {
                    upstream.servers.iter().map(|server| Arc::new(server_state(upstream, server, now))).collect()
                })
                .collect(),
            upstreams: config.upstreams.iter().map(|_| Arc::default()).collect(),
            gates: config
                .upstreams
                .iter()
                .map(|upstream| {
                    let limits: Vec<_> = upstream.servers.iter().map(|server| server.requests_max).collect();
                    Gate::of(upstream, &limits, data_workers)
                })
                .collect(),
            idle: exchanges(&config, data_workers),
            clients: match config.http.connections_per_address_max {
                0 => None,
                connections_max => Some(Arc::new(PerAddress::new(connections_max, rand::random()))),
            },
            limiters: config.limits.iter().map(limiter).collect(),
            facts: OnceLock::new(),
            waits_for: OnceLock::new(),
            lasting: Arc::new(lasting),
            config,
        }
    }

    /// The same process under `config`, which [`crate::config::adopt`] has made for it. Counters and states of what stays are
    /// the same ones; a limit whose numbers change counts from zero. Limits of servers ([`Gate::next`]) are in force from now
    /// on, also for requests of this one. `facts` are not set yet.
    pub fn next(&self, config: Arc<Config>) -> Shared {
        let succession = Succession::new(&self.config, &config);
        let now = SystemTime::now();
        let limit = |(limit, heir): (&Limit, &Option<usize>)| match heir {
            Some(heir) if self.config.limits[*heir].allowed == limit.allowed => self.limiters[*heir].clone(),
            _ => limiter(limit),
        };
        let servers = self.next_states(&config, &succession, now);
        let gate = |(u, upstream): (usize, &Upstream)| {
            let workers = self.workers.len();
            let in_force = |(server, state): (&Server, &Arc<ServerState>)| limit_in_force(server, state);
            let limits: Vec<_> = upstream.servers.iter().zip(&servers[u]).map(in_force).collect();
            match succession.upstreams.0[u].and_then(|heir| self.gates[heir].as_ref()) {
                Some(old) => old.next(upstream, &limits, &succession.servers[u], workers),
                None => Gate::of(upstream, &limits, workers),
            }
        };
        Shared {
            generation: self.generation + 1,
            reading: self.reading + 1,
            loaded_at: now,
            workers: self.workers.iter().map(|worker| Arc::new(worker.next(&succession, &config))).collect(),
            upstreams: succession.upstreams.carry(&self.upstreams, Arc::default),
            gates: config.upstreams.iter().enumerate().map(gate).collect(),
            servers,
            idle: self.next_exchanges(&config, &succession),
            clients: match (config.http.connections_per_address_max, &self.clients) {
                (0, _) => None,
                (connections_max, Some(clients)) => {
                    clients.set_connections_max(connections_max);
                    Some(clients.clone())
                }
                (connections_max, None) => Some(Arc::new(PerAddress::new(connections_max, rand::random()))),
            },
            limiters: config.limits.iter().zip(&succession.limits.0).map(limit).collect(),
            facts: OnceLock::new(),
            waits_for: OnceLock::new(),
            lasting: self.lasting.clone(),
            succession,
            config,
        }
    }

    /// Data workers are told of it, and count down `waits_for` as they take it.
    pub fn goes_to(&self, waits_for: Arc<AtomicUsize>) {
        drop(self.waits_for.set(waits_for));
    }

    /// How many data workers go on with the config before.
    pub fn workers_behind(&self) -> usize {
        self.waits_for.get().map_or(0, |waits_for| waits_for.load(Acquire))
    }

    /// The same process under `config`, which is the present one but for the servers of its upstreams.
    pub fn with_servers_of(&self, config: Arc<Config>) -> Shared {
        Shared { reading: self.reading, ..self.next(config) }
    }

    /// Those of servers that stay, and new ones.
    fn next_states(&self, config: &Config, succession: &Succession, now: SystemTime) -> Vec<Vec<Arc<ServerState>>> {
        let of_upstream = |(u, upstream): (usize, &Upstream)| {
            let old = succession.upstreams.0[u];
            let state = |(server, heir): (&Server, &Option<usize>)| match (old, heir) {
                (Some(old), Some(heir)) => self.servers[old][*heir].clone(),
                _ => Arc::new(server_state(upstream, server, now)),
            };
            upstream.servers.iter().zip(&succession.servers[u].0).map(state).collect()
        };
        config.upstreams.iter().enumerate().map(of_upstream).collect()
    }

    /// Puts the limits in force that the operator and the config have set. `false`: of an upstream nothing is counted, and
    /// only another edition of the config counts them ([`Shared::with_servers_of`]). What is under way
    /// already is not counted then. To be called on the control thread.
    pub(crate) fn align_limits(&self) -> bool {
        let mut is_done = true;
        for (u, servers) in self.config.upstreams.iter().map(|upstream| &upstream.servers).enumerate() {
            let mut is_news = false;
            for s in 0..servers.len() {
                let limit = self.limit(u, s);
                match &self.gates[u] {
                    Some(gate) => {
                        is_news |= gate.most(s) != limit;
                        gate.set_most(s, limit);
                    }
                    None => is_done &= limit.is_none(),
                }
            }
            if is_news {
                self.upstreams[u].publish_change();
            }
        }
        is_done
    }

    /// Share of the traffic of a server, as the operator or else the config has it.
    pub fn weight(&self, upstream: usize, server: usize) -> u32 {
        self.servers[upstream][server].weight_set().unwrap_or(self.config.upstreams[upstream].servers[server].weight)
    }

    /// Requests that a server may have at once, as the operator or else the config has it; `None`: any number.
    pub fn limit(&self, upstream: usize, server: usize) -> Option<u32> {
        limit_in_force(&self.config.upstreams[upstream].servers[server], &self.servers[upstream][server])
    }

    /// Those of servers that stay, as long as their limits and the way they are spoken with do; else new ones. The
    /// connections in the others close: see [`Shared::close_old_exchanges`].
    fn next_exchanges(&self, config: &Config, succession: &Succession) -> Vec<Vec<Arc<Exchange<Detached>>>> {
        let mut next = exchanges(config, self.workers.len());
        for (u, heir) in succession.upstreams.0.iter().enumerate() {
            let Some(old) = *heir else { continue };
            let terms = |upstream: &Upstream| {
                let kept = (upstream.keep_idle, upstream.keep_idle_timeout);
                (kept, upstream.tls.is_some(), upstream.proxy_protocol, upstream.protocol, upstream.announces)
            };
            if terms(&self.config.upstreams[old]) == terms(&config.upstreams[u]) {
                let servers = next[u].iter_mut().zip(&succession.servers[u].0);
                servers.filter_map(|(next, heir)| Some((next, (*heir)?))).for_each(|(next, heir)| {
                    *next = self.idle[old][heir].clone();
                });
            }
        }
        next
    }

    /// Closes the idle connections that this one shared between its workers and `next` does not.
    pub fn close_old_exchanges(&self, next: &Shared) {
        let kept: HashSet<*const Exchange<Detached>> = next.idle.iter().flatten().map(Arc::as_ptr).collect();
        self.idle.iter().flatten().filter(|idle| !kept.contains(&Arc::as_ptr(idle))).for_each(|idle| idle.close());
    }

    /// What stays when the config changes.
    pub fn lasting(&self) -> Arc<Lasting> {
        self.lasting.clone()
    }

    /// Whether requests may go to a server, by indexes into the config: it is up and in use. One relaxed load.
    ///
    /// Panics when there is no such server.
    #[inline]
    pub fn is_up(&self, upstream: usize, server: usize) -> bool {
        self.servers[upstream][server].is_usable()
    }

    /// Lets data workers use the servers of an upstream that are up, or all of them in panic. To be called on the control
    /// thread after each change of one of them; tells whether panic has begun or ended with it.
    pub(crate) fn settle(&self, upstream: usize) -> bool {
        let (config, servers) = (&self.config.upstreams[upstream], &self.servers[upstream]);
        // Those that the operator has taken out are none.
        let (in_use, out): (Vec<_>, Vec<_>) =
            config.servers.iter().zip(servers).partition(|(_, state)| state.admin() == AdminState::Ready);
        let first_tier = config.servers.iter().map(|server| server.tier).min();
        let is_backup = |server: &Server| Some(server.tier) != first_tier;
        let standings = in_use.iter().map(|(server, state)| Standing { up: state.is_up(), backup: is_backup(server) });
        let panic = is_panic(standings, config.panic_percent);
        let (now, mut is_news) = (Instant::now(), false);
        for (_, state) in in_use.iter().chain(&out) {
            is_news |= state.set_usable(panic, now);
        }
        if is_news {
            self.upstreams[upstream].publish_change();
        }
        self.upstreams[upstream].set_panic(panic)
    }
}

fn server_state(upstream: &Upstream, server: &Server, now: SystemTime) -> ServerState {
    match () {
        () if upstream.is_supervised => ServerState::vacant(now),
        // It runs when the process starts again, if at all.
        () if upstream.is_of_program() && upstream.in_process.is_none() => ServerState::vacant(now),
        () if server.is_unresolved() => ServerState::unresolved(now),
        () => ServerState::new(now),
    }
}

fn limit_in_force(server: &Server, state: &ServerState) -> Option<u32> {
    state.limit_set().unwrap_or(server.requests_max)
}

/// One for each server.
fn exchanges(config: &Config, data_workers: usize) -> Vec<Vec<Arc<Exchange<Detached>>>> {
    let of_upstream = |upstream: &Upstream| {
        let exchange = || Arc::new(Exchange::new(upstream.keep_idle * data_workers, upstream.keep_idle_timeout));
        upstream.servers.iter().map(|_| exchange()).collect()
    };
    config.upstreams.iter().map(of_upstream).collect()
}

impl Lasting {
    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves on to `phase` and notes it as an event. Writer: boot.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.note(EventLevel::Info, format!("process is {}", phase.name()));
    }

    /// The certificates in use from now on. Writer: boot, then the control thread.
    pub fn set_certificates(&self, certificates: Vec<CertificateFacts>) {
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    /// The certificates in use. Reader: the control thread.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What programs do. Writer: their supervisor.
    pub(super) fn set_processes(&self, processes: Vec<ProcessView>) {
        *self.processes.lock().unwrap_or_else(PoisonError::into_inner) = processes;
    }

    /// What programs do. Reader: the control thread.
    pub fn processes(&self) -> Vec<ProcessView> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers where the admin pages learn about splitters, so that they need not know the splitter's insides.
    /// The closure runs on the control thread at each scrape and must not block. Only the first call counts.
    pub fn set_splitter_view(&self, view: SplitterViewFn) {
        drop(self.splitter_view.set(view));
    }

    /// Registers how applications inside the process are reached by checks. As above.
    pub(crate) fn set_app_connect(&self, connect: AppConnectFn) {
        drop(self.app_connect.set(connect));
    }

    /// A connection to an application inside the process for one check, which is to end by the `deadline`. Errors: nobody takes it.
    pub(super) fn connect_app(&self, seat: &AppSeat, deadline: Instant) -> io::Result<DuplexStream> {
        match self.app_connect.get() {
            Some(connect) => connect(seat, deadline),
            None => Err(no_socket(seat)),
        }
    }

    /// Registers who takes orders for the servers of splitters. As above.
    pub fn set_splitter_order(&self, order: SplitterOrderFn) {
        drop(self.splitter_order.set(order));
    }

    /// Passes on what the operator wants of a server of a splitter, by indexes into the config; returns what it was. Errors:
    /// for a person.
    pub fn order_splitter(&self, splitter: usize, server: usize, order: SplitterOrder) -> Result<AdminState, String> {
        match self.splitter_order.get() {
            Some(take) => take(splitter, server, order),
            None => Err("the splitters are not there yet".into()),
        }
    }

    /// The splitters now; empty when none registered itself.
    pub fn splitters(&self) -> Vec<SplitterView> {
        self.splitter_view.get().map(|view| view()).unwrap_or_default()
    }

    /// Leaves an event for the status page, from any thread, without waiting. Beyond a limit the oldest is lost.
    pub fn note(&self, level: EventLevel, text: String) {
        drop(self.events.force_push(Event { at: SystemTime::now(), level, text }));
    }

    /// Takes the oldest event nobody has taken yet. Reader: the control thread.
    pub(crate) fn take_event(&self) -> Option<Event> {
        self.events.pop()
    }
}

fn limiter(limit: &Limit) -> Arc<Limiter> {
    Arc::new(Limiter::new(&limit.allowed, rand::random()))
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Name of its listener.
    pub listener: String,
    /// Its first host name.
    pub name: String,
    /// What its key signs with.
    pub key: &'static str,
    /// Last moment of its validity.
    pub not_after: SystemTime,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all workers accept connections yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Finishing old requests, accepting no new connections.
    Draining = 2,
    /// Going away.
    Stopping = 3,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 4] = [Phase::Starting, Phase::Ready, Phase::Draining, Phase::Stopping];

    /// Lower-case name, as shown on pages.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        }
    }
}

/// What the process turned out to be when it had started.
#[derive(Clone, Debug, Default)]
pub struct StartFacts {
    /// Version of the program.
    pub version: String,
    /// Every worker, data workers first.
    pub workers: Vec<WorkerFacts>,
    /// Every listening socket, with the address the kernel gave it.
    pub listeners: Vec<ListenerFacts>,
    /// Limits in force, by name: `connections_max`, `open_files` and the like.
    pub limits: Vec<(&'static str, u64)>,
}

/// What one worker runs on.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    /// What it does.
    pub role: WorkerRole,
    /// Number among the workers of its role, from 0.
    pub index: usize,
    /// Core it is pinned to; `None`: to none.
    pub core: Option<usize>,
    /// The application that has it for itself.
    pub app: Option<String>,
    /// Kernel interface in use: `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Ring set-up flags in use, for example `SINGLE_ISSUER`.
    pub flags: Vec<String>,
    /// Why the driver or a flag that was asked for is not in use.
    pub fallback: Option<String>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerRole {
    /// Serves sockets.
    Data,
    /// Runs applications.
    App,
}

impl WorkerRole {
    /// Lower-case name, as shown on pages.
    pub fn name(self) -> &'static str {
        match self {
            WorkerRole::Data => "data",
            WorkerRole::App => "app",
        }
    }
}

/// One listening socket.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// Name in the config.
    pub name: String,
    /// `http`, `mysql` or `admin`.
    pub kind: &'static str,
    /// Bound address, as [`crate::runtime::net::Address`] prints it.
    pub address: String,
}

/// A splitter as its monitor sees it.
#[derive(Clone, Debug, Default)]
pub struct SplitterView {
    /// Name in the config.
    pub name: String,
    /// Goes up each time that a server begins to be the primary; `None`: the config names a fixed one.
    pub epoch: Option<u64>,
    /// Why there is no primary; `None`: there is one, or it is fixed.
    pub vacancy: Option<&'static str>,
    /// Address of the server that the operator has announced as the next primary.
    pub announced: Option<String>,
    /// Times that another server than before became the primary.
    pub switchovers: u64,
    /// Statements that wait for a primary now.
    pub held: usize,
    /// Tables and views that do what no statement shows.
    pub hidden: usize,
    /// Why not all of them are known.
    pub unseen: Option<String>,
    /// In the order of the config.
    pub servers: Vec<SplitterServerView>,
}

/// One MySQL server as the monitor sees it.
#[derive(Clone, Debug)]
pub struct SplitterServerView {
    /// Where it listens.
    pub address: String,
    /// `primary`, `replica` or `fenced`.
    pub role: &'static str,
    /// `unknown`, `down`, `read-only` or `writable`.
    pub health: &'static str,
    /// Whether statements may go to it.
    pub up: bool,
    /// How far it is behind the primary, milliseconds; `None`: unknown, or it is the primary.
    pub lag_ms: Option<u64>,
    /// How long it takes to answer the monitor; `None`: it does not.
    pub latency: Option<Duration>,
    /// What it has applied, as it says.
    pub position: String,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// Index in the config, which has those that are gone, too.
    pub index: usize,
}

/// What the operator wants of a server of a splitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitterOrder {
    /// Use it, or not.
    Set(AdminState),
    /// Let it be the primary although it is fenced or lacks something.
    Accept,
    /// It is about to become the primary.
    Announce,
}

/// Something an operator may want to know afterwards.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// How bad.
    pub level: EventLevel,
    /// What, as in the log: `server down upstream=api …`.
    pub text: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLevel {
    /// For the record.
    Info,
    /// Worth a look.
    Warn,
    /// The operator has to do something.
    Error,
}

impl EventLevel {
    /// Lower-case name, as in the log.
    pub fn name(self) -> &'static str {
        match self {
            EventLevel::Info => "info",
            EventLevel::Warn => "warn",
            EventLevel::Error => "error",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// A config with two upstreams (one checked), an application and a splitter, for tests of this folder.
    const CONFIG: &str = r#"
        [admin]
        trace = 16
        [process]
        connections_max = 1000
        [listener.web]
        address = "127.0.0.1:0"
        [site.main]
        default = true
        [[site.main.route]]
        path = "/api"
        proxy = "api"
        [[site.main.route]]
        path = "/plain"
        proxy = "plain"
        [[site.main.route]]
        path = "/"
        app = "shop"
        [upstream.api]
        servers = ["127.0.0.1:1", { address = 'unix:/run/b"2.sock', backup = true }]
        requests_max = 100
        health = { path = "/healthz", interval = "100ms", timeout = "100ms", rise = 2, fall = 2 }
        [upstream.plain]
        servers = ["[::1]:8080"]
        health = false
        [app.shop]
        program = "shop"
        [mysql.db]
        listen = ["127.0.0.1:0"]
        primary = "127.0.0.1:3306"
        replicas = ["127.0.0.1:3307"]
        user = "u"
        password = "p"
    "#;

    pub(crate) fn config() -> Config {
        match crate::config::parse("test.toml", CONFIG, &["shop"]) {
            Ok((config, _)) => config,
            Err(report) => panic!("{report}"),
        }
    }

    #[test]
    fn a_server_starts_up_and_its_spells_of_downtime_add_up() {
        let shared = Shared::new(Arc::new(config()), 2, 1);
        let server = &shared.servers[0][0];
        assert!(shared.is_up(0, 0));
        assert_eq!(server.check_status(), CheckStatus::Unchecked);
        let at = |seconds| shared.started_at + Duration::from_secs(seconds);
        let publish = |up, seconds| {
            server.publish_up(up, "", at(seconds));
            assert!(!shared.settle(0));
        };
        publish(false, 10);
        assert!(!shared.is_up(0, 0));
        assert_eq!(server.downtime(at(13)).as_secs(), 3);
        publish(true, 14);
        publish(false, 20);
        let milliseconds = server.downtime(at(21)).as_millis();
        assert!((4999..=5001).contains(&milliseconds), "{milliseconds}");
        assert_eq!(server.downs.value(), 2);
    }

    #[test]
    fn in_panic_all_servers_are_used_until_enough_are_up() {
        let mut config = config();
        config.upstreams[0].panic_percent = 50;
        config.upstreams[0].servers.iter_mut().for_each(|server| (server.backup, server.tier) = (false, 1));
        let shared = Shared::new(Arc::new(config), 1, 0);
        let now = SystemTime::now();
        let publish = |server: usize, up| {
            shared.servers[0][server].publish_up(up, "", now);
            shared.settle(0)
        };
        let usable = || [shared.is_up(0, 0), shared.is_up(0, 1)];
        assert!(!publish(0, false));
        assert_eq!(usable(), [false, true], "half of them is enough");
        assert!(publish(1, false));
        assert_eq!((usable(), shared.upstreams[0].is_panic()), ([true, true], true));
        assert!(!shared.servers[0][0].is_up(), "but that is not what it is");
        assert!(publish(1, true));
        assert_eq!((usable(), shared.upstreams[0].panics.value()), ([false, true], 1));
    }

    #[test]
    fn a_server_comes_up_from_whatever_kept_it_away_but_not_into_a_panic() {
        let mut config = config();
        config.upstreams[0].panic_percent = 100;
        let shared = Shared::new(Arc::new(config), 1, 0);
        let (server, other) = (&shared.servers[0][0], &shared.servers[0][1]);
        let now = SystemTime::now();
        let mut seen = shared.upstreams[0].changes();
        let mut settle = |change: &dyn Fn()| {
            let before = server.came_up();
            change();
            shared.settle(0);
            let is_news = shared.upstreams[0].changes() != std::mem::replace(&mut seen, shared.upstreams[0].changes());
            (server.is_usable(), server.keeps_clients(), server.came_up() != before, is_news)
        };
        let until = Some(now + Duration::from_secs(60));
        assert_eq!(settle(&|| ()), (true, true, false, false));
        assert_eq!(settle(&|| server.publish_up(false, "", now)), (false, false, false, true));
        assert_eq!(settle(&|| server.publish_up(true, "", now)), (true, true, true, true));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(settle(&|| server.publish_ejected(until, "", now)), (false, false, false, true));
        assert_eq!(settle(&|| server.publish_ejected(None, "", now)), (true, true, true, true));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(settle(&|| server.set_admin(AdminState::Drain)), (false, true, false, true));
        assert_eq!(settle(&|| server.set_admin(AdminState::Maintenance)), (false, false, false, true));
        assert_eq!(settle(&|| server.set_admin(AdminState::Ready)), (true, true, true, true));
        // All of them are down: both get requests, and neither starts slowly, not even when it is up again.
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(settle(&|| server.publish_up(false, "", now)), (false, false, false, true));
        assert_eq!(settle(&|| other.publish_up(false, "", now)), (true, true, false, true));
        assert_eq!(settle(&|| server.publish_up(true, "", now)), (true, true, false, true));
    }

    #[test]
    fn events_are_bounded_and_the_oldest_goes_first() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        for n in 0..EVENTS_PENDING_MAX + 10 {
            shared.note(EventLevel::Info, n.to_string());
        }
        assert_eq!(shared.take_event().unwrap().text, "10");
    }
}
