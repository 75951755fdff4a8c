//! `/status`: one JSON document about the whole process, made from the counters and the sampler.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::Shared;
use super::ctl::mysql::oldest_pin_ms;
use super::processes::ProcessView;
use super::prometheus::{backend_names, merged, server_names};
use super::sampler::{Counts, Key, Rates, Sampler};
use super::shared::{AdminState, Event, SplitterView, unix_ms};
use super::udp_view::{self, UdpView};
use crate::config::model::Limit;
use crate::metrics::{Counter, HistogramSnapshot, LimitOutcome, Worker};
use crate::mysql::sql::Pin;

/// Events kept for the page.
const EVENTS_MAX: usize = 100;

/// What the page needs beside the counters: rates and past events. Belongs to the control thread.
#[derive(Debug, Default)]
pub(crate) struct History {
    sampler: Sampler,
    events: VecDeque<Event>,
    /// The config whose indexes the sampler has.
    generation: u32,
    /// Its upstreams and their servers.
    names: Vec<(String, Vec<String>)>,
    /// The same of splitters.
    splitters: Vec<String>,
}

impl History {
    /// Reads all counters once; to be called every second.
    pub(crate) fn sample(&mut self, shared: &Shared, now: Instant) {
        self.follow(shared);
        for key in keys(shared) {
            self.sampler.on_sample(key, now, counts(shared, key), || durations(shared, key));
        }
        self.collect_events(shared);
    }

    /// Takes over the indexes of another config, if there is one.
    fn follow(&mut self, shared: &Shared) {
        if self.generation == shared.generation && !(self.names.is_empty() && self.splitters.is_empty()) {
            return;
        }
        let names = shared.config.upstreams.iter().map(|u| (u.name.clone(), server_names(u))).collect();
        let old = std::mem::replace(&mut self.names, names);
        let splitters = shared.config.splitters.iter().map(|splitter| splitter.name.clone()).collect();
        let old_splitters = std::mem::replace(&mut self.splitters, splitters);
        let splitter = |s: usize| self.splitters.iter().position(|name| *name == old_splitters[s]);
        self.generation = shared.generation;
        let upstream = |u: usize| self.names.iter().position(|(name, _)| *name == old[u].0);
        let server = |u: usize, s: usize| {
            let new = upstream(u)?;
            Some((new, self.names[new].1.iter().position(|name| *name == old[u].1[s])?))
        };
        self.sampler.rekey(|key| match key {
            Key::Upstream(u) => upstream(u).map(Key::Upstream),
            Key::Server(u, s) => server(u, s).map(|(u, s)| Key::Server(u, s)),
            Key::SplitterPrimary(s) => splitter(s).map(Key::SplitterPrimary),
            Key::SplitterReplicas(s) => splitter(s).map(Key::SplitterReplicas),
            key => Some(key),
        });
    }

    fn collect_events(&mut self, shared: &Shared) {
        while let Some(event) = shared.take_event() {
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }
}

/// Every meter of this config.
fn keys(shared: &Shared) -> Vec<Key> {
    let config = &shared.config;
    let mut keys = vec![Key::Http, Key::Files];
    keys.extend((0..shared.workers.len()).map(Key::Worker));
    for (u, upstream) in config.upstreams.iter().enumerate() {
        keys.push(Key::Upstream(u));
        keys.extend((0..upstream.servers.len()).map(|s| Key::Server(u, s)));
    }
    keys.extend((0..config.apps.len()).map(Key::App));
    for s in 0..config.splitters.len() {
        keys.extend([Key::SplitterPrimary(s), Key::SplitterReplicas(s)]);
    }
    keys
}

/// The counters behind a meter, all data workers together.
fn counts(shared: &Shared, key: Key) -> Counts {
    let mut total = Counts::default();
    for (index, worker) in shared.workers.iter().enumerate() {
        let (requests, errors) = match key {
            Key::Worker(wanted) if wanted != index => continue,
            Key::Http | Key::Worker(_) => {
                (worker.http.responses.iter().map(Counter::value).sum(), worker.http.responses[5].value())
            }
            Key::Files => (worker.files.duration.snapshot().count(), 0),
            Key::Upstream(u) => worker.servers_ever(u).map(server_counts).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            Key::Server(u, s) => server_counts(&worker.servers[u][s]),
            Key::App(a) => {
                (worker.apps[a].requests.value(), worker.apps[a].failed.value() + worker.apps[a].refused.value())
            }
            Key::SplitterPrimary(s) => (worker.splitters[s].to_primary.value(), worker.splitters[s].errors.value()),
            Key::SplitterReplicas(s) => (worker.splitters[s].to_replica.value(), 0),
        };
        total.requests += requests;
        total.errors += errors;
    }
    total
}

fn server_counts(server: &crate::metrics::ServerStats) -> (u64, u64) {
    (server.requests.value(), server.connect_errors.value() + server.response_errors.value())
}

/// The histogram behind a meter, all data workers together.
fn durations(shared: &Shared, key: Key) -> HistogramSnapshot {
    let workers = || shared.workers.iter().map(|worker| &**worker);
    match key {
        Key::Http => merged(workers().map(|w| &w.http.duration)),
        Key::Worker(index) => shared.workers[index].http.duration.snapshot(),
        Key::Files => merged(workers().map(|w| &w.files.duration)),
        Key::Upstream(u) => merged(workers().flat_map(|w| w.servers_ever(u)).map(|server| &server.first_byte)),
        Key::Server(u, s) => merged(workers().map(|w| &w.servers[u][s].first_byte)),
        Key::App(a) => merged(workers().map(|w| &w.apps[a].duration)),
        Key::SplitterPrimary(s) => merged(workers().map(|w| &w.splitters[s].primary_duration)),
        Key::SplitterReplicas(s) => merged(workers().map(|w| &w.splitters[s].replica_duration)),
    }
}

/// The whole document. Numbers without a unit in their name are counts since the start.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: String,
    pid: u32,
    phase: &'static str,
    started_unix_ms: u64,
    uptime_seconds: f64,
    config: ConfigView,
    workers: Vec<WorkerView>,
    app_workers: Vec<AppWorkerView>,
    listeners: Vec<ListenerView>,
    limits: serde_json::Map<String, serde_json::Value>,
    http: HttpView,
    udp: Vec<UdpView>,
    request_limits: Vec<LimitView>,
    files: FilesView,
    upstreams: Vec<UpstreamView>,
    apps: Vec<AppView>,
    processes: Vec<ProcessView>,
    splitters: Vec<SplitterStatus>,
    access_log: AccessLogView,
    events: Vec<EventView>,
}

/// The config in use.
#[derive(Debug, Serialize)]
struct ConfigView {
    /// Configs before this one in this process.
    generation: u32,
    since_unix_ms: u64,
    /// Reloads that were refused.
    reloads_failed: u64,
}

/// Rates and latencies of one tier.
#[derive(Debug, Serialize)]
struct Meter {
    requests: u64,
    errors: u64,
    requests_per_second: f64,
    errors_per_second: f64,
    /// Over the last minute; 0 when nothing was counted in it.
    p50_us: u64,
    p95_us: u64,
    p99_us: u64,
}

#[derive(Debug, Serialize)]
struct WorkerView {
    role: &'static str,
    index: usize,
    core: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    driver: &'static str,
    flags: Vec<String>,
    fallback: Option<String>,
    connections: Option<u64>,
    meter: Option<Meter>,
}

#[derive(Debug, Serialize)]
struct AppWorkerView {
    index: usize,
    queue_depth: u64,
    running: u64,
    requests: u64,
    wake_ups: u64,
    queue_full: u64,
    panics: u64,
    cancelled: u64,
    restarts: u64,
    lost_wakeups: u64,
}

#[derive(Debug, Serialize)]
struct ListenerView {
    name: String,
    kind: &'static str,
    address: String,
}

#[derive(Debug, Serialize)]
struct HttpView {
    meter: Meter,
    connections: u64,
    connections_idle: u64,
    tunnels: u64,
    accepted: u64,
    refused: u64,
    refused_per_address: u64,
    /// With connections open now; `None`: they are not counted.
    client_addresses: Option<usize>,
    received_bytes: u64,
    sent_bytes: u64,
    malformed: u64,
    timeouts: u64,
    slow_bodies: u64,
    tarpitted: u64,
    tarpit_full: u64,
    /// Held back now.
    tarpit: u64,
    /// Closed without an answer, 1xx, 2xx, 3xx, 4xx, 5xx.
    responses: [u64; 6],
    panics: u64,
}

#[derive(Debug, Serialize)]
struct LimitView {
    name: String,
    dry_run: bool,
    passed: u64,
    delayed: u64,
    rejected: u64,
    delayed_dry_run: u64,
    rejected_dry_run: u64,
    keys_lost: u64,
}

#[derive(Debug, Serialize)]
struct FilesView {
    meter: Meter,
    cache_hits: u64,
    cache_misses: u64,
    cache_bytes: u64,
    cache_entries: u64,
    cache_evictions: u64,
    sendfile_bytes: u64,
    not_modified: u64,
}

#[derive(Debug, Serialize)]
struct UpstreamView {
    name: String,
    up: bool,
    /// So few servers are up that all of them get requests.
    panic: bool,
    panics: u64,
    meter: Meter,
    /// `None`: nothing is limited, so nothing waits.
    queue: Option<QueueView>,
    servers: Vec<ServerView>,
}

/// Requests that wait for a place at a server.
#[derive(Debug, Serialize)]
struct QueueView {
    waiting: u64,
    full: u64,
    timeouts: u64,
    left: u64,
    /// Since the start.
    waited: u64,
    wait_p50_us: u64,
    wait_p99_us: u64,
}

#[derive(Debug, Serialize)]
struct ServerView {
    address: String,
    /// The name that it was found by, with its port.
    name: Option<String>,
    /// Requests may go to it.
    up: bool,
    /// What the operator wants of it.
    admin: &'static str,
    /// `up`, `down` or `ejected`.
    state: &'static str,
    /// Why; empty: nothing has happened since the start.
    reason: String,
    since_unix_ms: u64,
    /// Spells of being down or ejected, and the time in them.
    downs: u64,
    downtime_seconds: f64,
    ejections: u64,
    /// `None`: it is not ejected.
    ejected_until_unix_ms: Option<u64>,
    /// As the operator or else the config has it.
    weight: u32,
    weight_config: u32,
    backup: bool,
    /// Its tier, from 1; that of backups is the last.
    tier: usize,
    /// As the operator or else the config has it; `None`: any number.
    requests_max: Option<u32>,
    requests_max_config: Option<u32>,
    meter: Meter,
    active: u64,
    idle: u64,
    connects: u64,
    reuses: u64,
    retries: u64,
    retries_refused: u64,
    /// `None`: this upstream has no active check.
    check: Option<CheckView>,
}

#[derive(Debug, Serialize)]
struct CheckView {
    kind: &'static str,
    /// HAProxy's code: `L7OK`.
    result: &'static str,
    /// The same in words.
    text: String,
    code: Option<u64>,
    duration_us: u64,
    /// When the last check ended; `None`: there was none.
    at_unix_ms: Option<u64>,
    /// By the operator.
    paused: bool,
    checks: u64,
    failures: u64,
    downs: u64,
    downtime_seconds: f64,
    /// End of the certificate that the last check saw.
    certificate_ends_unix_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct AppView {
    name: String,
    program: String,
    meter: Meter,
    active: u64,
    /// Waiting for a thread of its own.
    queued: u64,
    tunnels: u64,
    refused: u64,
    cancelled: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct SplitterStatus {
    name: String,
    clients: u64,
    accepted: u64,
    refused: u64,
    primary: Meter,
    replicas: Meter,
    /// Sessions tied to one connection now.
    pinned: u64,
    /// For how long the one that is tied for longest has been.
    pinned_oldest_ms: u64,
    /// Times a session was tied to one connection.
    pins: u64,
    /// The same by the reason; without those that are 0.
    pins_by_reason: BTreeMap<&'static str, u64>,
    causal_waits: u64,
    causal_timeouts: u64,
    causal_fallbacks: u64,
    causal_questions: u64,
    /// Goes up with every primary; `None`: the config names a fixed one.
    epoch: Option<u64>,
    /// Why there is no primary.
    vacancy: Option<&'static str>,
    switchovers: u64,
    /// Statements that wait for a primary now.
    held: usize,
    held_total: u64,
    held_refused: u64,
    /// In the order of the config.
    servers: Vec<BackendView>,
}

#[derive(Debug, Serialize)]
struct BackendView {
    address: String,
    role: &'static str,
    /// `None`: the monitor has not reported.
    up: Option<bool>,
    lag_ms: Option<u64>,
    health: Option<&'static str>,
    position: String,
    /// `ready`, `drain` or `maintenance`.
    admin: &'static str,
    open: u64,
    idle: u64,
    connects: u64,
    connect_errors: u64,
    statements: u64,
}

#[derive(Debug, Serialize)]
struct AccessLogView {
    lines: u64,
    dropped: u64,
    written_bytes: u64,
    write_errors: u64,
}

#[derive(Debug, Serialize)]
struct EventView {
    unix_ms: u64,
    level: &'static str,
    text: String,
}

/// Makes the document.
pub(crate) fn status(shared: &Shared, history: &mut History, now: SystemTime) -> Status {
    history.collect_events(shared);
    history.follow(shared);
    let page = Page { shared, sampler: &history.sampler, now };
    let facts = shared.facts.get().cloned().unwrap_or_default();
    let version = if facts.version.is_empty() { env!("CARGO_PKG_VERSION").into() } else { facts.version };
    let listeners = facts.listeners.into_iter();
    Status {
        version,
        pid: std::process::id(),
        phase: shared.phase().name(),
        started_unix_ms: unix_ms(shared.started_at),
        uptime_seconds: shared.started.elapsed().as_secs_f64(),
        config: ConfigView {
            generation: shared.generation,
            since_unix_ms: unix_ms(shared.loaded_at),
            reloads_failed: shared.reloads_failed.value(),
        },
        workers: page.workers(),
        app_workers: page.app_workers(),
        listeners: listeners.map(|l| ListenerView { name: l.name, kind: l.kind, address: l.address }).collect(),
        limits: facts.limits.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect(),
        http: page.http(),
        udp: udp_view::views(shared),
        request_limits: page.request_limits(),
        files: page.files(),
        upstreams: (0..shared.config.upstreams.len()).map(|u| page.upstream(u)).collect(),
        apps: (0..shared.config.apps.len()).map(|a| page.app(a)).collect(),
        processes: shared.processes(),
        splitters: page.splitters(),
        access_log: AccessLogView {
            lines: page.sum(|w| w.log.lines.value()),
            dropped: page.sum(|w| w.log.dropped.value()),
            written_bytes: shared.log_writer.bytes.value(),
            write_errors: shared.log_writer.errors.value(),
        },
        events: history.events.iter().map(EventView::new).collect(),
    }
}

impl EventView {
    fn new(event: &Event) -> EventView {
        EventView { unix_ms: unix_ms(event.at), level: event.level.name(), text: event.text.clone() }
    }
}

struct Page<'a> {
    shared: &'a Shared,
    sampler: &'a Sampler,
    now: SystemTime,
}

impl Page<'_> {
    fn sum(&self, read: impl Fn(&Worker) -> u64) -> u64 {
        self.shared.workers.iter().map(|worker| read(worker)).sum()
    }

    fn meter(&self, key: Key) -> Meter {
        let Counts { requests, errors } = counts(self.shared, key);
        let Rates { requests: requests_per_second, errors: errors_per_second } = self.sampler.rates(key);
        let minute = self.sampler.last_minute(key, &durations(self.shared, key));
        let quantile = |q| if minute.count() == 0 { Duration::ZERO } else { minute.quantile(q) }.as_micros() as u64;
        let (p50_us, p95_us, p99_us) = (quantile(0.5), quantile(0.95), quantile(0.99));
        Meter { requests, errors, requests_per_second, errors_per_second, p50_us, p95_us, p99_us }
    }

    fn workers(&self) -> Vec<WorkerView> {
        let Some(facts) = self.shared.facts.get() else { return Vec::new() };
        let view = |worker: &super::shared::WorkerFacts| {
            let stats = match worker.role {
                super::shared::WorkerRole::Data => self.shared.workers.get(worker.index),
                super::shared::WorkerRole::App => None,
            };
            WorkerView {
                role: worker.role.name(),
                index: worker.index,
                core: worker.core,
                app: worker.app.clone(),
                driver: worker.driver,
                flags: worker.flags.clone(),
                fallback: worker.fallback.clone(),
                connections: stats.map(|stats| stats.http.connections.value()),
                meter: stats.map(|_| self.meter(Key::Worker(worker.index))),
            }
        };
        facts.workers.iter().map(view).collect()
    }

    fn app_workers(&self) -> Vec<AppWorkerView> {
        let view = |(index, stats): (usize, &std::sync::Arc<crate::metrics::AppWorkerStats>)| AppWorkerView {
            index,
            queue_depth: stats.queue_depth.value(),
            running: stats.running.value(),
            requests: stats.requests.value(),
            wake_ups: stats.wake_ups.value(),
            queue_full: stats.queue_full.value(),
            panics: stats.panics.value(),
            cancelled: stats.cancelled.value(),
            restarts: stats.restarts.value(),
            lost_wakeups: stats.lost_wakeups.value(),
        };
        self.shared.app_workers.iter().enumerate().map(view).collect()
    }

    fn http(&self) -> HttpView {
        HttpView {
            meter: self.meter(Key::Http),
            connections: self.sum(|w| w.http.connections.value()),
            connections_idle: self.sum(|w| w.http.idle.value()),
            tunnels: self.sum(|w| w.http.tunnels.value()),
            accepted: self.sum(|w| w.http.accepted.value()),
            refused: self.sum(|w| w.http.refused.value()),
            refused_per_address: self.sum(|w| w.http.refused_per_address.value()),
            client_addresses: self.shared.clients.as_ref().map(|clients| clients.addresses()),
            received_bytes: self.sum(|w| w.http.bytes_in.value()),
            sent_bytes: self.sum(|w| w.http.bytes_out.value()),
            malformed: self.sum(|w| w.http.malformed.value()),
            timeouts: self.sum(|w| w.http.timeouts.value()),
            slow_bodies: self.sum(|w| w.http.slow_bodies.value()),
            tarpitted: self.sum(|w| w.http.tarpitted.value()),
            tarpit_full: self.sum(|w| w.http.tarpit_full.value()),
            tarpit: self.sum(|w| w.http.tarpit.value()),
            responses: std::array::from_fn(|class| self.sum(|w| w.http.responses[class].value())),
            panics: self.sum(|w| w.panics.value()),
        }
    }

    fn request_limits(&self) -> Vec<LimitView> {
        let view = |(index, limit): (usize, &Limit)| {
            let count = |outcome| self.sum(|w| w.limits[index].of(outcome).value());
            LimitView {
                name: limit.name.clone(),
                dry_run: limit.dry_run,
                passed: count(LimitOutcome::Passed),
                delayed: count(LimitOutcome::Delayed),
                rejected: count(LimitOutcome::Rejected),
                delayed_dry_run: count(LimitOutcome::DelayedDryRun),
                rejected_dry_run: count(LimitOutcome::RejectedDryRun),
                keys_lost: self.shared.limiters[index].keys_lost(),
            }
        };
        self.shared.config.limits.iter().enumerate().map(view).collect()
    }

    fn files(&self) -> FilesView {
        FilesView {
            meter: self.meter(Key::Files),
            cache_hits: self.sum(|w| w.files.cache_hits.value()),
            cache_misses: self.sum(|w| w.files.cache_misses.value()),
            cache_bytes: self.sum(|w| w.files.cache_bytes.value()),
            cache_entries: self.sum(|w| w.files.cache_entries.value()),
            cache_evictions: self.sum(|w| w.files.cache_evictions.value()),
            sendfile_bytes: self.sum(|w| w.files.sendfile_bytes.value()),
            not_modified: self.sum(|w| w.files.not_modified.value()),
        }
    }

    fn upstream(&self, u: usize) -> UpstreamView {
        let upstream = &self.shared.config.upstreams[u];
        let names = server_names(upstream).into_iter().enumerate();
        let servers: Vec<ServerView> = names.map(|(s, name)| self.server(u, s, name)).collect();
        let up = servers.iter().any(|server| server.up);
        let flags = &self.shared.upstreams[u];
        let queue = self.shared.gates[u].as_ref().map(|_| self.queue(u));
        UpstreamView {
            name: upstream.name.clone(),
            up,
            panic: flags.is_panic(),
            panics: flags.panics.value(),
            meter: self.meter(Key::Upstream(u)),
            queue,
            servers,
        }
    }

    fn queue(&self, u: usize) -> QueueView {
        let wait = merged(self.shared.workers.iter().map(|worker| &worker.upstreams[u].queue_wait));
        let quantile = |q| if wait.count() == 0 { 0 } else { wait.quantile(q).as_micros() as u64 };
        QueueView {
            waiting: self.sum(|w| w.upstreams[u].queue.value()),
            full: self.sum(|w| w.upstreams[u].queue_full.value()),
            timeouts: self.sum(|w| w.upstreams[u].queue_timeouts.value()),
            left: self.sum(|w| w.upstreams[u].queue_left.value()),
            waited: wait.count(),
            wait_p50_us: quantile(0.5),
            wait_p99_us: quantile(0.99),
        }
    }

    fn server(&self, u: usize, s: usize, address: String) -> ServerView {
        let (upstream, state) = (&self.shared.config.upstreams[u], &self.shared.servers[u][s]);
        let (code, told) = (state.last_check_code.value(), state.told());
        let ends = state.certificate_ends_unix_s.value();
        ServerView {
            address,
            name: upstream.servers[s].named.as_ref().map(ToString::to_string),
            up: state.is_usable(),
            admin: state.admin().name(),
            state: state.condition().name(),
            reason: told.reason,
            since_unix_ms: unix_ms(state.since()),
            downs: state.downs.value(),
            downtime_seconds: state.downtime(self.now).as_secs_f64(),
            ejections: state.ejections.value(),
            ejected_until_unix_ms: told.ejected_until.map(unix_ms),
            weight: self.shared.weight(u, s),
            weight_config: upstream.servers[s].weight,
            backup: upstream.servers[s].backup,
            tier: upstream.tiers().iter().position(|&tier| tier == upstream.servers[s].tier).map_or(1, |at| at + 1),
            requests_max: self.shared.limit(u, s),
            requests_max_config: upstream.servers[s].requests_max,
            meter: self.meter(Key::Server(u, s)),
            active: self.sum(|w| w.servers[u][s].active.value()),
            idle: self.sum(|w| w.servers[u][s].idle.value()),
            connects: self.sum(|w| w.servers[u][s].connects.value()),
            reuses: self.sum(|w| w.servers[u][s].reuses.value()),
            retries: self.sum(|w| w.servers[u][s].retries.value()),
            retries_refused: self.sum(|w| w.servers[u][s].retries_refused.value()),
            check: upstream.health.as_ref().map(|health| CheckView {
                kind: health.kind(),
                result: state.check_status().code(),
                text: told.check,
                code: (code != 0).then_some(code),
                duration_us: state.last_check_us.value(),
                at_unix_ms: told.checked_at.map(unix_ms),
                paused: state.checks_paused(),
                checks: state.checks.value(),
                failures: state.failures.value(),
                downs: state.downs.value(),
                downtime_seconds: state.downtime(self.now).as_secs_f64(),
                certificate_ends_unix_ms: (ends != 0).then_some(ends * 1000),
            }),
        }
    }

    fn app(&self, a: usize) -> AppView {
        let app = &self.shared.config.apps[a];
        AppView {
            name: app.name.clone(),
            program: app.program.clone(),
            meter: self.meter(Key::App(a)),
            active: self.sum(|w| w.apps[a].active.value()),
            queued: self.sum(|w| w.apps[a].queue_depth.value()),
            tunnels: self.sum(|w| w.apps[a].tunnels.value()),
            refused: self.sum(|w| w.apps[a].refused.value()),
            cancelled: self.sum(|w| w.apps[a].cancelled.value()),
            failed: self.sum(|w| w.apps[a].failed.value()),
        }
    }

    fn splitters(&self) -> Vec<SplitterStatus> {
        let views = self.shared.splitters();
        (0..self.shared.config.splitters.len()).map(|s| self.splitter(s, &views)).collect()
    }

    fn splitter(&self, s: usize, views: &[SplitterView]) -> SplitterStatus {
        let splitter = &self.shared.config.splitters[s];
        let view = views.iter().find(|view| view.name == splitter.name);
        let names = backend_names(splitter).into_iter();
        let backend = |(b, address): (usize, String)| {
            let seen = view.and_then(|view| view.servers.iter().find(|server| server.index == b));
            BackendView {
                address,
                role: seen.map_or(if b == 0 { "primary" } else { "replica" }, |server| server.role),
                up: seen.map(|server| server.up),
                lag_ms: seen.and_then(|server| server.lag_ms),
                health: seen.map(|server| server.health),
                position: seen.map(|server| server.position.clone()).unwrap_or_default(),
                admin: seen.map_or(AdminState::Ready, |server| server.admin).name(),
                open: self.sum(|w| w.splitters[s].backends[b].open.value()),
                idle: self.sum(|w| w.splitters[s].backends[b].idle.value()),
                connects: self.sum(|w| w.splitters[s].backends[b].connects.value()),
                connect_errors: self.sum(|w| w.splitters[s].backends[b].connect_errors.value()),
                statements: self.sum(|w| w.splitters[s].backends[b].statements.value()),
            }
        };
        let pins = Pin::ALL.map(|pin| (pin.name(), self.sum(|w| w.splitters[s].pins[pin.index()].value())));
        SplitterStatus {
            name: splitter.name.clone(),
            clients: self.sum(|w| w.splitters[s].clients.value()),
            accepted: self.sum(|w| w.splitters[s].accepted.value()),
            refused: self.sum(|w| w.splitters[s].refused.value()),
            primary: self.meter(Key::SplitterPrimary(s)),
            replicas: self.meter(Key::SplitterReplicas(s)),
            pinned: self.sum(|w| w.splitters[s].pinned.iter().map(|gauge| gauge.value()).sum()),
            pinned_oldest_ms: oldest_pin_ms(self.shared, s, Pin::ALL),
            pins: pins.iter().map(|(_, count)| count).sum(),
            pins_by_reason: pins.into_iter().filter(|(_, count)| *count > 0).collect(),
            causal_waits: self.sum(|w| w.splitters[s].causal_waits.value()),
            causal_timeouts: self.sum(|w| w.splitters[s].causal_timeouts.value()),
            causal_fallbacks: self.sum(|w| w.splitters[s].causal_fallbacks.value()),
            causal_questions: self.sum(|w| w.splitters[s].causal_questions.value()),
            epoch: view.and_then(|view| view.epoch),
            vacancy: view.and_then(|view| view.vacancy),
            switchovers: view.map_or(0, |view| view.switchovers),
            held: view.map_or(0, |view| view.held),
            held_total: self.sum(|w| w.splitters[s].held.value()),
            held_refused: self.sum(|w| w.splitters[s].held_refused.value()),
            servers: names.map(backend).collect(),
        }
    }
}
