//! What the threads of one process show each other, counters, server states, phase, start facts.
//!
//! Boot makes one [`Shared`] and hands the `Arc` to everyone. Every number in it has one writer (named at the field) but for
//! the counts by client, which hold for the whole process; reading is a relaxed load; the one lock here is for what the
//! control thread alone touches. Deliberately absent: anything a request would have to wait for.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::queue::ArrayQueue;

use crate::config::Config;
use crate::guard::{Limiter, PerAddress};
use crate::metrics::{AppWorkerStats, Counter, Gauge, LogWriterStats, Trace, Worker};
use crate::proxy::gate::Gate;

/// Events kept between two looks of the control thread; the oldest goes when more happen.
const EVENTS_PENDING_MAX: usize = 256;

/// Everything the control thread shows and data workers look at.
pub struct Shared {
    /// The compiled config.
    pub config: Arc<Config>,
    /// Counters of each data worker; that worker is the writer.
    pub workers: Vec<Arc<Worker>>,
    /// Traces of each data worker; empty when tracing is off.
    pub traces: Vec<Arc<Trace>>,
    /// Counters of each application worker; that worker is the writer.
    pub app_workers: Vec<Arc<AppWorkerStats>>,
    /// State of each server of each upstream, in the order of the config. Writer: the control thread.
    pub servers: Vec<Vec<ServerState>>,
    /// State of each upstream as a whole. Writer: the control thread.
    pub upstreams: Vec<UpstreamState>,
    /// Limits of requests at the servers of each upstream; `None`: it has none. Writers: the data workers.
    pub gates: Vec<Option<Arc<Gate>>>,
    /// Connections by client address; `None`: they are not limited. Writers: the data workers.
    pub clients: Option<Arc<PerAddress>>,
    /// Limits of requests, in the order of the config. Writers: the data workers.
    pub limiters: Vec<Limiter>,
    /// Requests that are held back on purpose now. Writers: the data workers.
    pub tarpit: AtomicUsize,
    /// What the access log's writer thread counts; that thread is the writer.
    pub log_writer: Arc<LogWriterStats>,
    /// What the process turned out to be; set once by boot when all workers run.
    pub facts: OnceLock<StartFacts>,
    /// Uptime counts from here.
    pub started: Instant,
    /// The same moment on the wall clock.
    pub started_at: SystemTime,
    phase: AtomicU8,
    certificates: Mutex<Vec<CertificateFacts>>,
    splitter_view: OnceLock<SplitterViewFn>,
    events: ArrayQueue<Event>,
}

type SplitterViewFn = Box<dyn Fn() -> Vec<SplitterView> + Send + Sync>;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("phase", &self.phase()).field("workers", &self.workers.len()).finish()
    }
}

impl Shared {
    /// Zeroed counters for `data_workers` and `app_workers`, all servers up, phase [`Phase::Starting`].
    pub fn new(config: Arc<Config>, data_workers: usize, app_workers: usize) -> Shared {
        let traces = if config.trace_events == 0 { 0 } else { data_workers };
        let (now, started) = (SystemTime::now(), Instant::now());
        let upstreams: Vec<UpstreamState> = config.upstreams.iter().map(|_| UpstreamState::default()).collect();
        let servers = |(upstream, state): (&crate::config::model::Upstream, &UpstreamState)| {
            upstream.servers.iter().map(|_| ServerState::new(now, started, state.changes.clone())).collect()
        };
        Shared {
            servers: config.upstreams.iter().zip(&upstreams).map(servers).collect(),
            upstreams,
            gates: config.upstreams.iter().map(|upstream| Gate::of(upstream, data_workers)).collect(),
            workers: (0..data_workers).map(|_| Arc::new(Worker::new(&config))).collect(),
            traces: (0..traces).map(|_| Arc::new(Trace::new(config.trace_events))).collect(),
            app_workers: (0..app_workers).map(|_| Arc::default()).collect(),
            clients: match config.http.connections_per_address_max {
                0 => None,
                connections_max => Some(Arc::new(PerAddress::new(connections_max, rand::random()))),
            },
            limiters: config.limits.iter().map(|limit| Limiter::new(&limit.allowed, rand::random())).collect(),
            tarpit: AtomicUsize::new(0),
            log_writer: Arc::default(),
            facts: OnceLock::new(),
            started,
            started_at: now,
            phase: AtomicU8::new(Phase::Starting as u8),
            certificates: Mutex::default(),
            splitter_view: OnceLock::new(),
            events: ArrayQueue::new(EVENTS_PENDING_MAX),
            config,
        }
    }

    /// Whether requests may go to a server, by indexes into the config. One relaxed load.
    ///
    /// Panics when there is no such server.
    #[inline]
    pub fn is_up(&self, upstream: usize, server: usize) -> bool {
        self.servers[upstream][server].is_up()
    }

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

    /// Registers where the admin pages learn about splitters, so that they need not know the splitter's insides.
    /// The closure runs on the control thread at each scrape and must not block. Only the first call counts.
    pub fn set_splitter_view(&self, view: SplitterViewFn) {
        drop(self.splitter_view.set(view));
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

/// How a check of a server ended. The short names are HAProxy's, which dashboards know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckStatus {
    /// Not checked yet (or never: the upstream has no check).
    Unchecked = 0,
    /// Connecting was enough and worked.
    Connected = 1,
    /// No connection in time.
    ConnectTimeout = 2,
    /// Connection refused or failed.
    ConnectFailed = 3,
    /// A healthy HTTP answer.
    HttpOk = 4,
    /// No HTTP answer in time.
    HttpTimeout = 5,
    /// Something that is not an HTTP answer, or none before the server closed.
    HttpInvalid = 6,
    /// An HTTP answer with an unhealthy status.
    HttpStatus = 7,
}

impl CheckStatus {
    /// All, in the order of their numbers.
    pub const ALL: [CheckStatus; 8] = [
        CheckStatus::Unchecked,
        CheckStatus::Connected,
        CheckStatus::ConnectTimeout,
        CheckStatus::ConnectFailed,
        CheckStatus::HttpOk,
        CheckStatus::HttpTimeout,
        CheckStatus::HttpInvalid,
        CheckStatus::HttpStatus,
    ];

    /// HAProxy's code for it (management guide, field `check_status`).
    pub fn code(self) -> &'static str {
        match self {
            CheckStatus::Unchecked => "INI",
            CheckStatus::Connected => "L4OK",
            CheckStatus::ConnectTimeout => "L4TOUT",
            CheckStatus::ConnectFailed => "L4CON",
            CheckStatus::HttpOk => "L7OK",
            CheckStatus::HttpTimeout => "L7TOUT",
            CheckStatus::HttpInvalid => "L7RSP",
            CheckStatus::HttpStatus => "L7STS",
        }
    }
}

/// What is known about an upstream as a whole. Writer: the control thread. Readers: everyone.
#[derive(Debug, Default)]
pub struct UpstreamState {
    /// Grows with each change that data workers must know: of a server, or of the tier.
    changes: Arc<AtomicU64>,
    tier_held: AtomicUsize,
    /// Copies of requests on their way to it. Writers: the data workers.
    pub mirrored: AtomicUsize,
}

impl UpstreamState {
    /// A number that is another one whenever a server of it, or its tier, has changed.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Index of the tier that is held, see [`crate::proxy::tiers`].
    pub fn tier_held(&self) -> usize {
        self.tier_held.load(Relaxed)
    }

    /// Sets the tier that is held. Only the control thread may call it.
    pub(crate) fn publish_tier_held(&self, held: usize) {
        self.tier_held.store(held, Relaxed);
        self.changes.fetch_add(1, Release);
    }
}

/// What is known about one server of an upstream. Writer: the control thread. Readers: everyone.
#[derive(Debug)]
pub struct ServerState {
    up: AtomicBool,
    /// That of its upstream.
    changes: Arc<AtomicU64>,
    /// Times are counted from here.
    started: Instant,
    /// Microseconds after `started` at which it came up after it had been down, plus one; 0: it has never been down.
    came_up_us: AtomicU64,
    /// Milliseconds of the Unix epoch of the last change between up and down, or of the start.
    since_unix_ms: AtomicU64,
    status: AtomicU8,
    /// Checks done.
    pub checks: Counter,
    /// Checks that failed.
    pub failures: Counter,
    /// Changes from up to down.
    pub downs: Counter,
    /// Milliseconds spent down, ended spells only; [`ServerState::downtime`] adds the present one.
    downtime_ms: Counter,
    /// Duration of the last check, µs.
    pub last_check_us: Gauge,
    /// HTTP status of the last check, 0 when there was none.
    pub last_check_code: Gauge,
}

impl ServerState {
    fn new(now: SystemTime, started: Instant, changes: Arc<AtomicU64>) -> ServerState {
        ServerState {
            up: AtomicBool::new(true),
            changes,
            started,
            came_up_us: AtomicU64::new(0),
            since_unix_ms: AtomicU64::new(unix_ms(now)),
            status: AtomicU8::new(CheckStatus::Unchecked as u8),
            checks: Counter::default(),
            failures: Counter::default(),
            downs: Counter::default(),
            downtime_ms: Counter::default(),
            last_check_us: Gauge::default(),
            last_check_code: Gauge::default(),
        }
    }

    /// Whether requests may go to it.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// When it came up after it had been down; `None`: it has never been down.
    pub fn came_up(&self) -> Option<Instant> {
        let us = self.came_up_us.load(Relaxed).checked_sub(1)?;
        Some(self.started + Duration::from_micros(us))
    }

    /// When it last went up or down, or the start of the process.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_unix_ms.load(Relaxed))
    }

    /// How the last check ended.
    pub fn check_status(&self) -> CheckStatus {
        CheckStatus::ALL.get(usize::from(self.status.load(Relaxed))).copied().unwrap_or(CheckStatus::Unchecked)
    }

    /// Time spent down since the start, up to `now`.
    pub fn downtime(&self, now: SystemTime) -> Duration {
        let ended = Duration::from_millis(self.downtime_ms.value());
        if self.is_up() { ended } else { ended + now.duration_since(self.since()).unwrap_or_default() }
    }

    /// Notes a finished check. Only the control thread may call it.
    pub(crate) fn publish_check(&self, status: CheckStatus, code: Option<u16>, ok: bool, duration: Duration) {
        self.status.store(status as u8, Relaxed);
        self.last_check_us.set(duration.as_micros() as u64);
        self.last_check_code.set(u64::from(code.unwrap_or(0)));
        self.checks.inc();
        if !ok {
            self.failures.inc();
        }
    }

    /// Notes that the server went up or down at `now`. Only the control thread may call it.
    pub(crate) fn publish_up(&self, up: bool, now: SystemTime) {
        if up {
            let down_for = now.duration_since(self.since()).unwrap_or_default();
            self.downtime_ms.add(down_for.as_millis() as u64);
            self.came_up_us.store(self.started.elapsed().as_micros() as u64 + 1, Relaxed);
        } else {
            self.downs.inc();
        }
        self.since_unix_ms.store(unix_ms(now), Relaxed);
        self.up.store(up, Relaxed);
        // Whoever sees this sees what was stored before.
        self.changes.fetch_add(1, Release);
    }
}

/// Milliseconds of the Unix epoch; 0 for times before it.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
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
    /// Core it is pinned to.
    pub core: Option<usize>,
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
#[derive(Clone, Debug)]
pub struct SplitterView {
    /// Name in the config.
    pub name: String,
    /// Primary first.
    pub servers: Vec<SplitterServerView>,
}

/// One MySQL server as the monitor sees it.
#[derive(Clone, Debug)]
pub struct SplitterServerView {
    /// Where it listens.
    pub address: String,
    /// `primary` or `replica`.
    pub role: &'static str,
    /// Whether statements may go to it.
    pub up: bool,
    /// How far it is behind the primary, milliseconds; `None`: unknown, or it is the primary.
    pub lag_ms: Option<u64>,
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
        server.publish_up(false, at(10));
        assert!(!shared.is_up(0, 0));
        assert_eq!(server.downtime(at(13)).as_secs(), 3);
        server.publish_up(true, at(14));
        server.publish_up(false, at(20));
        let milliseconds = server.downtime(at(21)).as_millis();
        assert!((4999..=5001).contains(&milliseconds), "{milliseconds}");
        assert_eq!(server.downs.value(), 2);
    }

    #[test]
    fn codes_of_checks_survive_the_trip_through_their_number() {
        let state = ServerState::new(SystemTime::now(), Instant::now(), Arc::default());
        for status in CheckStatus::ALL {
            state.publish_check(status, Some(503), false, Duration::from_millis(2));
            assert_eq!(state.check_status(), status);
        }
        assert_eq!((state.checks.value(), state.failures.value()), (8, 8));
        assert_eq!((state.last_check_us.value(), state.last_check_code.value()), (2000, 503));
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
