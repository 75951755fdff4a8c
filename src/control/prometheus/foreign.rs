//! The names dashboards for nginx and HAProxy look for, filled only where our numbers mean the same.
//!
//! All HTTP listeners together are the frontend `http`, as a `listen` section of HAProxy with several `bind` lines is one; a
//! splitter is a frontend by its name; an upstream is a backend. A HAProxy name with no true value here is absent
//! (queues of single servers, maxima since start, averages of the last 1024).
//! Source: the output of HAProxy 2.6 and of nginx-prometheus-exporter.

use std::time::SystemTime;

use super::server_names;
use super::table::{Row, Table};
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::control::shared::{AdminState, CheckStatus, Phase, ServerState, unix_ms};
use crate::metrics::{ServerStats, Worker};

/// The eight names of nginx-prometheus-exporter.
pub(super) fn write_nginx(out: &mut Exposition, shared: &Shared) {
    let sum = |read: fn(&Worker) -> u64| shared.workers.iter().map(|worker| read(worker)).sum::<u64>();
    let active = sum(|w| w.http.connections.value());
    let (reading, waiting) = (sum(|w| w.http.reading.value()), sum(|w| w.http.idle.value()));
    let accepted = sum(|w| w.http.accepted.value());
    let handled = accepted.saturating_sub(sum(|w| w.http.refused.value()));
    let requests = sum(|w| w.http.responses.iter().map(|class| class.value()).sum());
    let mut one = |name, kind, help, value: u64| out.family(name, kind, help).sample(&[], value);
    one("nginx_up", Kind::Gauge, "1: the server answers.", 1);
    one("nginx_connections_accepted", Kind::Counter, "Accepted client connections.", accepted);
    one("nginx_connections_handled", Kind::Counter, "Handled client connections: accepted and not refused.", handled);
    one("nginx_connections_active", Kind::Gauge, "Active client connections.", active);
    one("nginx_connections_reading", Kind::Gauge, "Connections whose request head is being read.", reading);
    // Gauges of several workers are read one after another, so their differences may fall below zero.
    let writing = active.saturating_sub(reading).saturating_sub(waiting);
    one("nginx_connections_writing", Kind::Gauge, "Connections whose request is being answered.", writing);
    one("nginx_connections_waiting", Kind::Gauge, "Idle client connections.", waiting);
    one("nginx_http_requests_total", Kind::Counter, "Requests answered.", requests);
}

/// HAProxy's names for process, frontends, backends and servers.
pub(super) fn write_haproxy(out: &mut Exposition, shared: &Shared, now: SystemTime) {
    process(out, shared);
    frontends(out, shared);
    backends(out, shared);
    servers(out, shared, now);
}

fn process(out: &mut Exposition, shared: &Shared) {
    let workers = || shared.workers.iter();
    let splitter_clients: u64 = workers().flat_map(|w| &w.splitters).map(|s| s.clients.value()).sum();
    let splitter_accepted: u64 = workers().flat_map(|w| &w.splitters).map(|s| s.accepted.value()).sum();
    let connections = workers().map(|w| w.http.connections.value()).sum::<u64>() + splitter_clients;
    let accepted = workers().map(|w| w.http.accepted.value()).sum::<u64>() + splitter_accepted;
    let requests: u64 = workers().flat_map(|w| &w.http.responses).map(|class| class.value()).sum();
    let stopping = u64::from(matches!(shared.phase(), Phase::Draining | Phase::Stopping));
    let threads = (shared.workers.len() + shared.app_workers.len()) as u64;
    let mut one = |name, kind, help, value: u64| out.family(name, kind, help).sample(&[], value);
    one("haproxy_process_nbthread", Kind::Gauge, "Data and application workers.", threads);
    one("haproxy_process_uptime_seconds", Kind::Gauge, "Time since the start.", shared.started.elapsed().as_secs());
    one("haproxy_process_start_time_seconds", Kind::Gauge, "Start, Unix time.", unix_ms(shared.started_at) / 1000);
    let limit = shared.config.process.connections_max as u64;
    one("haproxy_process_max_connections", Kind::Gauge, "Limit of client connections.", limit);
    one("haproxy_process_current_connections", Kind::Gauge, "Client connections open now.", connections);
    one("haproxy_process_connections_total", Kind::Counter, "Client connections accepted.", accepted);
    one("haproxy_process_requests_total", Kind::Counter, "HTTP requests answered.", requests);
    one("haproxy_process_stopping", Kind::Gauge, "1 while draining or stopping.", stopping);
    let version = shared.facts.get().map_or(env!("CARGO_PKG_VERSION"), |facts| facts.version.as_str());
    out.family("haproxy_process_build_info", Kind::Gauge, "Version of this program.")
        .sample(&[("version", version)], 1);
}

fn frontends(out: &mut Exposition, shared: &Shared) {
    // A frontend is up while it accepts connections.
    let accepting = matches!(shared.phase(), Phase::Ready);
    let names = || std::iter::once("http").chain(shared.config.splitters.iter().map(|s| s.name.as_str()));
    let mut status = out.family("haproxy_frontend_status", Kind::Gauge, "State of the frontend.");
    for name in names() {
        status.sample(&[("proxy", name), ("state", "DOWN")], u8::from(!accepting));
        status.sample(&[("proxy", name), ("state", "UP")], u8::from(accepting));
    }
    let limits = std::iter::once(shared.config.process.connections_max)
        .chain(shared.config.splitters.iter().map(|splitter| splitter.clients_max));
    let mut limit = out.family("haproxy_frontend_limit_sessions", Kind::Gauge, "Limit of client connections.");
    for (name, clients_max) in names().zip(limits) {
        limit.sample(&[("proxy", name)], clients_max);
    }
    let mut each = |name, kind, help, http: fn(&Worker) -> u64, splitter: fn(&Worker, usize) -> u64| {
        let mut family = out.family(name, kind, help);
        family.sample(&[("proxy", "http")], shared.workers.iter().map(|w| http(w)).sum::<u64>());
        for (index, config) in shared.config.splitters.iter().enumerate() {
            let total: u64 = shared.workers.iter().map(|w| splitter(w, index)).sum();
            family.sample(&[("proxy", &config.name)], total);
        }
    };
    let help = "Client connections open now.";
    each(
        "haproxy_frontend_current_sessions",
        Kind::Gauge,
        help,
        |w| w.http.connections.value(),
        |w, s| w.splitters[s].clients.value(),
    );
    for name in ["haproxy_frontend_sessions_total", "haproxy_frontend_connections_total"] {
        each(
            name,
            Kind::Counter,
            "Client connections accepted.",
            |w| w.http.accepted.value(),
            |w, s| w.splitters[s].accepted.value(),
        );
    }
    let help = "Client connections refused.";
    each(
        "haproxy_frontend_denied_connections_total",
        Kind::Counter,
        help,
        |w| w.http.refused.value(),
        |w, s| w.splitters[s].refused.value(),
    );
    let labels = vec![("proxy", "http".to_string())];
    let row = Row { labels, parts: shared.workers.iter().map(|worker| &**worker).collect() };
    let t: Table<'_, Worker> = Table { prefix: "haproxy_frontend_", rows: vec![row] };
    t.counter(out, "bytes_in_total", "Bytes read from clients.", |w| &w.http.bytes_in);
    t.counter(out, "bytes_out_total", "Bytes sent to clients.", |w| &w.http.bytes_out);
    t.counter(out, "request_errors_total", "Malformed requests.", |w| &w.http.malformed);
    t.numbers(out, Kind::Counter, "http_requests_total", "HTTP requests answered.", |w| {
        w.http.responses.iter().map(|class| class.value()).sum()
    });
    t.responses(out, "http_responses_total", "HTTP responses by status class.", |w| &w.http.responses);
}

fn backends(out: &mut Exposition, shared: &Shared) {
    if shared.config.upstreams.is_empty() {
        return;
    }
    let upstreams = || shared.config.upstreams.iter().zip(&shared.servers);
    let mut status = out.family("haproxy_backend_status", Kind::Gauge, "State of the backend: up while a server is.");
    for (upstream, states) in upstreams() {
        let up = states.iter().any(|state| state.is_usable());
        status.sample(&[("proxy", &upstream.name), ("state", "DOWN")], u8::from(!up));
        status.sample(&[("proxy", &upstream.name), ("state", "UP")], u8::from(up));
    }
    let mut counts = |name, help, backup: bool| {
        let mut family = out.family(name, Kind::Gauge, help);
        for (upstream, states) in upstreams() {
            let servers = upstream.servers.iter().zip(states);
            family.sample(
                &[("proxy", &upstream.name)],
                servers.filter(|(server, state)| server.backup == backup && state.is_usable()).count(),
            );
        }
    };
    counts("haproxy_backend_active_servers", "Servers up that are no backups.", false);
    counts("haproxy_backend_backup_servers", "Backup servers up.", true);
    let mut aggregate = out.family("haproxy_backend_agg_server_status", Kind::Gauge, "Servers by state.");
    for (upstream, states) in upstreams() {
        for name in ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"] {
            let count = states.iter().filter(|state| state_name(state) == name).count();
            aggregate.sample(&[("proxy", &upstream.name), ("state", name)], count);
        }
    }
    let rows = shared.config.upstreams.iter().enumerate().map(|(u, upstream)| Row {
        labels: vec![("proxy", upstream.name.clone())],
        // With those that are gone, so that no total falls when a server is taken out of the config.
        parts: shared.workers.iter().flat_map(|worker| worker.servers_ever(u)).collect(),
    });
    let t = Table { prefix: "haproxy_backend_", rows: rows.collect() };
    t.numbers(out, Kind::Counter, "http_requests_total", "Requests sent to servers.", |s| s.requests.value());
    traffic(out, &t);
    let mut queue = out.family("haproxy_backend_current_queue", Kind::Gauge, "Requests that wait for a server now.");
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        let waiting: u64 = shared.workers.iter().map(|worker| worker.upstreams[u].queue.value()).sum();
        queue.sample(&[("proxy", &upstream.name)], waiting);
    }
}

/// HAProxy's word for the state of a server.
fn state_name(state: &ServerState) -> &'static str {
    match (state.admin(), state.is_up()) {
        (AdminState::Maintenance, _) => "MAINT",
        (_, false) => "DOWN",
        (AdminState::Drain, true) => "DRAIN",
        (AdminState::Ready, true) => "UP",
    }
}

/// The families that backends and servers have in common.
fn traffic(out: &mut Exposition, t: &Table<'_, ServerStats>) {
    t.gauge(out, "current_sessions", "Requests under way now.", |s| &s.active);
    t.counter(out, "sessions_total", "Requests sent.", |s| &s.requests);
    t.responses(out, "http_responses_total", "HTTP responses by status class.", |s| &s.responses);
    t.counter(out, "connection_errors_total", "Connects that failed or timed out.", |s| &s.connect_errors);
    t.counter(out, "response_errors_total", "Requests that failed after connecting.", |s| &s.response_errors);
    t.counter(out, "redispatch_warnings_total", "Requests tried again elsewhere.", |s| &s.retries);
    let help = "Connects tried, the failed ones included.";
    t.numbers(out, Kind::Counter, "connection_attempts_total", help, |s| s.connects.value() + s.connect_errors.value());
    t.counter(out, "connection_reuses_total", "Requests on a connection that was idle.", |s| &s.reuses);
}

fn servers(out: &mut Exposition, shared: &Shared, now: SystemTime) {
    let mut rows = Vec::new();
    let mut states = Vec::new();
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        for (s, name) in server_names(upstream).into_iter().enumerate() {
            let labels = vec![("proxy", upstream.name.clone()), ("server", name)];
            rows.push(Row { labels, parts: shared.workers.iter().map(|worker| &*worker.servers[u][s]).collect() });
            states.push((&*shared.servers[u][s], shared.weight(u, s), upstream.health.is_some()));
        }
    }
    if rows.is_empty() {
        return;
    }
    let t: Table<'_, ServerStats> = Table { prefix: "haproxy_server_", rows };
    traffic(out, &t);
    t.gauge(out, "idle_connections_current", "Idle connections now.", |s| &s.idle);
    t.gauge(out, "used_connections_current", "Connections in use now.", |s| &s.active);
    let each = || t.rows.iter().map(Row::labels).zip(&states);
    let mut status = out.family("haproxy_server_status", Kind::Gauge, "State of the server.");
    for (labels, (state, ..)) in each() {
        for name in ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"] {
            let is = name == state_name(state);
            status.sample(&[&labels[..], &[("state", name)]].concat(), u8::from(is));
        }
    }
    let mut weights = out.family("haproxy_server_weight", Kind::Gauge, "Weight of the server.");
    for (labels, (_, weight, _)) in each() {
        weights.sample(&labels, weight);
    }
    let checked: Vec<_> =
        each().filter(|(_, (.., checked))| *checked).map(|(labels, (state, ..))| (labels, *state)).collect();
    checks(out, &checked, now);
}

type Checked<'a> = (Vec<(&'a str, &'a str)>, &'a ServerState);

/// What is known only of servers with an active check.
fn checks(out: &mut Exposition, servers: &[Checked<'_>], now: SystemTime) {
    if servers.is_empty() {
        return;
    }
    let mut status = out.family("haproxy_server_check_status", Kind::Gauge, "Result of the last check.");
    for (labels, state) in servers {
        for check in CheckStatus::ALL {
            let is = check == state.check_status();
            status.sample(&[&labels[..], &[("state", check.code())]].concat(), u8::from(is));
        }
    }
    let mut each = |name, kind, help, read: &dyn Fn(&ServerState) -> f64| {
        let mut family = out.family(name, kind, help);
        for (labels, state) in servers {
            family.sample(labels, read(state));
        }
    };
    let help = "HTTP status, or error of MySQL, of the last check.";
    each("haproxy_server_check_code", Kind::Gauge, help, &|s| s.last_check_code.value() as f64);
    let help = "Duration of the last check.";
    each("haproxy_server_check_duration_seconds", Kind::Gauge, help, &|s| s.last_check_us.value() as f64 / 1e6);
    let help = "Checks that failed.";
    each("haproxy_server_check_failures_total", Kind::Counter, help, &|s| s.failures.value() as f64);
    let help = "Times the server went down.";
    each("haproxy_server_check_up_down_total", Kind::Counter, help, &|s| s.downs.value() as f64);
    let help = "Time since the server last went up or down.";
    each("haproxy_server_check_last_change_seconds", Kind::Gauge, help, &|s| {
        now.duration_since(s.since()).unwrap_or_default().as_secs() as f64
    });
    let help = "Time the server was down.";
    each("haproxy_server_downtime_seconds_total", Kind::Counter, help, &|s| s.downtime(now).as_secs() as f64);
}
