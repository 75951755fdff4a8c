//! Our own metrics, tier by tier: process, HTTP, HTTP/2, HTTP/3, TLS, limits, files, upstreams, applications, splitters, access log.

use std::time::SystemTime;

use super::exchanges;
use super::table::{Row, Table, per_listener};
use super::{backend_names, server_names};
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::control::shared::{AdminState, Phase, ServerState, WorkerRole, unix_ms};
use crate::control::usage;
use crate::http::h2::Flood;
use crate::metrics::{AppWorkerStats, BackendStats, LimitOutcome, SplitterStats, UpstreamStats, Worker};
use crate::mysql::sql::Pin;

pub(super) fn write(out: &mut Exposition, shared: &Shared, now: SystemTime) {
    process(out, shared);
    workers(out, shared);
    http(out, shared);
    exchanges::listeners(out, shared);
    exchanges::routes(out, shared);
    tcp(out, shared);
    super::udp::write(out, shared);
    http2(out, shared);
    http3(out, shared);
    tls(out, shared);
    limits(out, shared);
    files(out, shared);
    upstreams(out, shared);
    queues(out, shared);
    sticky_and_mirrored(out, shared);
    checks(out, shared, now);
    apps(out, shared);
    app_workers(out, shared);
    super::processes::write(out, shared);
    splitters(out, shared);
    splitter_servers(out, shared);
    access_log(out, shared);
}

fn process(out: &mut Exposition, shared: &Shared) {
    let version = shared.facts.get().map_or(env!("CARGO_PKG_VERSION"), |facts| facts.version.as_str());
    out.family("one_server_build_info", Kind::Gauge, "The program's version, always 1.")
        .sample(&[("version", version)], 1);
    out.family("one_server_uptime_seconds", Kind::Gauge, "Time since the start of the process.")
        .sample(&[], shared.started.elapsed().as_secs_f64());
    let mut phases =
        out.family("one_server_phase", Kind::Gauge, "1 for the phase the process is in, 0 for the others.");
    for phase in Phase::ALL {
        phases.sample(&[("phase", phase.name())], u8::from(shared.phase() == phase));
    }
    out.family("process_start_time_seconds", Kind::Gauge, "Start of the process, seconds of the Unix epoch.")
        .sample(&[], unix_ms(shared.started_at) as f64 / 1000.0);
    out.family("one_server_config_generation", Kind::Gauge, "Configs that were in use before the present one.")
        .sample(&[], shared.generation);
    out.family("one_server_config_loaded_timestamp_seconds", Kind::Gauge, "Since when the config is in use.")
        .sample(&[], unix_ms(shared.loaded_at) as f64 / 1000.0);
    let help = "Reloads that were refused, because the config had mistakes or could not be used.";
    out.family("one_server_config_reloads_failed_total", Kind::Counter, help)
        .sample(&[], shared.reloads_failed.value());
    let Some(usage) = usage::read() else { return };
    out.family("process_cpu_seconds_total", Kind::Counter, "CPU time of all threads, user and system.")
        .sample(&[], usage.cpu.as_secs_f64());
    out.family("process_resident_memory_bytes", Kind::Gauge, "Memory in RAM.").sample(&[], usage.resident_bytes);
    out.family("process_virtual_memory_bytes", Kind::Gauge, "Address space in use.").sample(&[], usage.virtual_bytes);
}

fn workers(out: &mut Exposition, shared: &Shared) {
    let Some(facts) = shared.facts.get() else { return };
    let mut info = out.family("one_server_worker_info", Kind::Gauge, "What each worker runs on, always 1.");
    for worker in &facts.workers {
        let (index, flags) = (worker.index.to_string(), worker.flags.join(","));
        let core = worker.core.map(|core| core.to_string()).unwrap_or_default();
        let place = [("role", worker.role.name()), ("worker", index.as_str()), ("core", core.as_str())];
        info.sample(&[&place[..], &[("driver", worker.driver), ("flags", flags.as_str())]].concat(), 1);
    }
    let help = "1 when a worker runs on less than was asked for, for example epoll instead of io_uring.";
    let mut fallbacks = out.family("one_server_worker_fallback", Kind::Gauge, help);
    for worker in &facts.workers {
        let index = worker.index.to_string();
        fallbacks.sample(&[("role", worker.role.name()), ("worker", &index)], u8::from(worker.fallback.is_some()));
    }
    let mut limits = out.family("one_server_limit", Kind::Gauge, "Limits in force.");
    for (name, value) in &facts.limits {
        limits.sample(&[("limit", name)], value);
    }
}

/// A row for each data worker.
fn per_worker<'a>(shared: &'a Shared, prefix: &'static str) -> Table<'a, Worker> {
    let row = |(index, worker)| Row { labels: vec![("worker", usize::to_string(&index))], parts: vec![worker] };
    Table { prefix, rows: shared.workers.iter().map(|worker| &**worker).enumerate().map(row).collect() }
}

/// One row without labels: all data workers together.
fn whole_process<'a>(shared: &'a Shared, prefix: &'static str) -> Table<'a, Worker> {
    let parts = shared.workers.iter().map(|worker| &**worker).collect();
    Table { prefix, rows: vec![Row { labels: vec![], parts }] }
}

fn http(out: &mut Exposition, shared: &Shared) {
    let t = per_worker(shared, "one_server_http_");
    t.counter(out, "connections_accepted_total", "Client connections accepted.", |w| &w.http.accepted);
    let help = "Connections handed to a worker that had clearly fewer of them, which counts them as accepted.";
    t.counter(out, "connections_handed_over_total", help, |w| &w.http.handed_over);
    let help = "Connections that were closed on their way from one worker to another, see the log.";
    t.counter(out, "connections_lost_total", help, |w| &w.http.lost);
    t.counter(out, "connections_refused_total", "Client connections refused because of a limit.", |w| &w.http.refused);
    let help = "Of these, refused because their address had as many as it may.";
    t.counter(out, "connections_refused_per_address_total", help, |w| &w.http.refused_per_address);
    if let Some(clients) = &shared.clients {
        out.family("one_server_http_client_addresses", Kind::Gauge, "Client addresses with connections open now.")
            .sample(&[], clients.addresses() as u64);
    }
    t.gauge(out, "connections", "Client connections open now.", |w| &w.http.connections);
    t.gauge(out, "connections_idle", "Client connections between two requests now.", |w| &w.http.idle);
    t.gauge(out, "tunnels", "Client connections that have left HTTP for another protocol, such as WebSockets.", |w| {
        &w.http.tunnels
    });
    t.gauge(out, "connections_reading", "Client connections within a request head now.", |w| &w.http.reading);
    t.counter(out, "received_bytes_total", "Bytes read from clients.", |w| &w.http.bytes_in);
    t.counter(out, "sent_bytes_total", "Bytes sent to clients.", |w| &w.http.bytes_out);
    t.counter(out, "malformed_total", "Request heads that broke a framing rule.", |w| &w.http.malformed);
    t.counter(out, "timeouts_total", "Client connections closed by a time-out.", |w| &w.http.timeouts);
    let help = "Request bodies given up because they came too slowly on average.";
    t.counter(out, "slow_bodies_total", help, |w| &w.http.slow_bodies);
    t.counter(out, "tarpitted_total", "Requests that came to a tarpit.", |w| &w.http.tarpitted);
    let help = "Of these, answered at once because too many were held back.";
    t.counter(out, "tarpit_full_total", help, |w| &w.http.tarpit_full);
    t.gauge(out, "tarpit", "Requests held back in a tarpit now.", |w| &w.http.tarpit);
    let help = "Requests by status class of the answer; other: closed without an answer.";
    t.responses(out, "responses_total", help, |w| &w.http.responses);
    per_worker(shared, "one_server_").counter(
        out,
        "panics_total",
        "Panics contained in one request or connection.",
        |w| &w.panics,
    );
    let help = "Complete request head to last byte sent.";
    whole_process(shared, "one_server_http_")
        .histogram(out, "server_request_duration_seconds", help, |w| &w.http.duration);
}

fn tcp(out: &mut Exposition, shared: &Shared) {
    let t = per_listener(shared, "one_server_tcp_", |listener| listener.tcp.is_some(), |worker, at| &*worker.tcp[at]);
    t.counter(out, "connections_total", "Connections in TCP mode.", |tcp| &tcp.connections);
    t.gauge(out, "connections", "Connections in TCP mode that are passed on to a server now.", |tcp| &tcp.open);
    let help = "Connections refused by address rules, or because nobody is there for the name they ask for.";
    t.counter(out, "refused_total", help, |tcp| &tcp.refused);
    t.counter(out, "unserved_total", "Connections for which no server could be connected to.", |tcp| &tcp.unserved);
    t.counter(out, "timeouts_total", "Connections in TCP mode closed by a time-out.", |tcp| &tcp.timeouts);
    t.counter(out, "resets_total", "Connections in TCP mode that one of their sides ended by force.", |tcp| {
        &tcp.resets
    });
    t.counter(out, "received_bytes_total", "Bytes from clients, in TCP mode.", |tcp| &tcp.bytes_up);
    t.counter(out, "sent_bytes_total", "Bytes from servers to clients, in TCP mode.", |tcp| &tcp.bytes_down);
    t.histogram(out, "connection_duration_seconds", "Accept to end, in TCP mode.", |tcp| &tcp.duration);
    let help = "Bytes that went from socket to socket by splice(2).";
    let t = per_worker(shared, "one_server_");
    t.counter(out, "spliced_bytes_total", help, |w| &w.spliced_bytes);
    t.gauge(out, "pipes_used", "Pipes of splice(2) that hold bytes for slow receivers.", |w| &w.pipes_used);
    t.gauge(out, "pipes_free", "Pipes of splice(2) that are kept for the next burst.", |w| &w.pipes_free);
}

fn http2(out: &mut Exposition, shared: &Shared) {
    let t = per_worker(shared, "one_server_http2_");
    t.counter(out, "connections_total", "Client connections that spoke HTTP/2.", |w| &w.http2.connections);
    t.gauge(out, "connections", "Client connections with HTTP/2 open now.", |w| &w.http2.open);
    t.counter(out, "streams_total", "Streams opened by clients.", |w| &w.http2.streams);
    t.counter(out, "resets_received_total", "RST_STREAM frames received.", |w| &w.http2.resets_received);
    t.counter(out, "resets_sent_total", "RST_STREAM frames sent.", |w| &w.http2.resets_sent);
    t.counter(out, "goaways_total", "GOAWAY frames sent.", |w| &w.http2.goaways);
    let help = "Connections ended because the client made too much work, by kind.";
    let mut floods = out.family("one_server_http2_floods_total", Kind::Counter, help);
    for row in &t.rows {
        for kind in Flood::ALL {
            let labels = [&row.labels()[..], &[("kind", kind.name())]].concat();
            floods.sample(&labels, row.sum(|w| w.http2.floods[kind.index()].value()));
        }
    }
}

fn http3(out: &mut Exposition, shared: &Shared) {
    if !shared.config.listeners.iter().any(|listener| listener.http3) {
        return;
    }
    let t = per_worker(shared, "one_server_http3_");
    t.counter(out, "connections_total", "Client connections that spoke HTTP/3.", |w| &w.http3.connections);
    t.gauge(out, "connections", "Client connections with HTTP/3 open now.", |w| &w.http3.open);
    t.counter(out, "requests_total", "Requests over HTTP/3.", |w| &w.http3.requests);
    let help = "Streams of requests under way that clients reset or stopped.";
    t.counter(out, "resets_received_total", help, |w| &w.http3.resets_received);
    t.counter(out, "goaways_total", "GOAWAY frames sent.", |w| &w.http3.goaways);
    let help = "Connections ended because their client gave up too many requests.";
    t.counter(out, "floods_total", help, |w| &w.http3.floods);
    t.counter(out, "retries_total", "Clients asked to prove their address first.", |w| &w.http3.retries);
    let help = "Datagrams passed on to the worker that owns their connection.";
    t.counter(out, "forwarded_total", help, |w| &w.http3.forwarded);
    let help = "Datagrams dropped because too much was under way.";
    t.counter(out, "dropped_total", help, |w| &w.http3.dropped);
}

fn tls(out: &mut Exposition, shared: &Shared) {
    let t = per_worker(shared, "one_server_tls_");
    t.counter(out, "handshakes_total", "TLS handshakes completed.", |w| &w.tls.handshakes);
    t.counter(out, "resumed_total", "Of these, resumed from a ticket.", |w| &w.tls.resumed);
    t.counter(out, "failed_total", "TLS handshakes that failed or took too long.", |w| &w.tls.failed);
    let help = "End of a certificate's validity, seconds of the Unix epoch.";
    let mut expiry = out.family("one_server_tls_certificate_expiry_timestamp_seconds", Kind::Gauge, help);
    for fact in shared.certificates() {
        let labels = [("listener", fact.listener.as_str()), ("name", fact.name.as_str()), ("key", fact.key)];
        expiry.sample(&labels, unix_ms(fact.not_after) as f64 / 1000.0);
    }
}

fn limits(out: &mut Exposition, shared: &Shared) {
    let limits = &shared.config.limits;
    if limits.is_empty() {
        return;
    }
    let help = "Requests under a limit, by what it said.";
    let mut requests = out.family("one_server_limit_requests_total", Kind::Counter, help);
    for (index, limit) in limits.iter().enumerate() {
        for outcome in LimitOutcome::ALL {
            let count: u64 = shared.workers.iter().map(|worker| worker.limits[index].of(outcome).value()).sum();
            requests.sample(&[("limit", &limit.name), ("outcome", outcome.name())], count);
        }
    }
    let help = "Keys of a limit's rate forgotten before their time, because there were too many.";
    let mut lost = out.family("one_server_limit_keys_lost_total", Kind::Counter, help);
    for (limit, limiter) in limits.iter().zip(&shared.limiters) {
        lost.sample(&[("limit", &limit.name)], limiter.keys_lost());
    }
}

fn files(out: &mut Exposition, shared: &Shared) {
    let t = per_worker(shared, "one_server_files_");
    t.counter(out, "cache_hits_total", "Files answered from memory.", |w| &w.files.cache_hits);
    t.counter(out, "cache_misses_total", "Files opened on disk.", |w| &w.files.cache_misses);
    t.gauge(out, "cache_bytes", "Bytes in the file cache now.", |w| &w.files.cache_bytes);
    t.gauge(out, "cache_entries", "Files in the cache now.", |w| &w.files.cache_entries);
    t.counter(out, "cache_evictions_total", "Files that left the cache to make room.", |w| &w.files.cache_evictions);
    t.counter(out, "compressions_total", "Coded forms of whole files made.", |w| &w.files.compressions);
    t.counter(out, "sendfile_bytes_total", "Bytes sent by sendfile(2).", |w| &w.files.sendfile_bytes);
    t.counter(out, "not_modified_total", "Answers with status 304.", |w| &w.files.not_modified);
    let help = "Time to answer a request for a file.";
    whole_process(shared, "one_server_files_").histogram(out, "request_duration_seconds", help, |w| &w.files.duration);
}

fn upstreams(out: &mut Exposition, shared: &Shared) {
    let mut rows = Vec::new();
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        for (s, name) in server_names(upstream).into_iter().enumerate() {
            let labels = vec![("upstream", upstream.name.clone()), ("server", name)];
            rows.push(Row { labels, parts: shared.workers.iter().map(|worker| &*worker.servers[u][s]).collect() });
        }
    }
    let t = Table { prefix: "one_server_upstream_", rows };
    t.counter(out, "requests_total", "Requests sent to a server.", |s| &s.requests);
    t.gauge(out, "requests_active", "Requests under way at a server now.", |s| &s.active);
    t.counter(out, "connects_total", "New connections to a server.", |s| &s.connects);
    let help = "Connections of HTTP/2 that were closing (GOAWAY) and ended under their requests, as too many were.";
    t.counter(out, "connections_given_up_total", help, |s| &s.given_up);
    t.counter(out, "reuses_total", "Requests sent on a connection that was idle.", |s| &s.reuses);
    t.counter(out, "connect_errors_total", "Connects that failed or timed out.", |s| &s.connect_errors);
    t.counter(out, "response_errors_total", "Requests that failed after connecting.", |s| &s.response_errors);
    t.counter(out, "response_timeouts_total", "Of these, requests that were not answered in time.", |s| {
        &s.response_timeouts
    });
    let help = "Requests tried again elsewhere after this server failed them.";
    t.counter(out, "retries_total", help, |s| &s.retries);
    let help = "Requests that could have been tried again, but for the budget.";
    t.counter(out, "retries_refused_total", help, |s| &s.retries_refused);
    t.responses(out, "responses_total", "Answers of a server by status class.", |s| &s.responses);
    t.gauge(out, "connections_idle", "Idle connections to a server that this worker keeps for itself now.", |s| {
        &s.idle
    });
    t.histogram(out, "connect_duration_seconds", "Time to connect to a server.", |s| &s.connect);
    let help = "First byte of the request sent to complete response head.";
    t.histogram(out, "first_byte_duration_seconds", help, |s| &s.first_byte);
    let help = "Complete request head to last byte sent, queues and earlier tries included.";
    t.histogram(out, "request_duration_seconds", help, |s| &s.total);
    let help = "Bytes of requests that a server answered: heads, content, tunnels behind them.";
    t.counter(out, "received_bytes_total", help, |s| &s.bytes_in);
    t.counter(out, "sent_bytes_total", "Bytes of a server's answers as clients got them.", |s| &s.bytes_out);
    t.counter(out, "datagrams_sent_total", "Datagrams sent to a server, in UDP mode.", |s| &s.datagrams_up);
    t.counter(out, "datagrams_received_total", "Datagrams from a server, in UDP mode.", |s| &s.datagrams_down);
    let help = "Bytes sent to a server in TCP and UDP mode, and by upgraded connections.";
    t.counter(out, "tunnel_sent_bytes_total", help, |s| &s.tunnel_bytes_up);
    let help = "Bytes received from a server in TCP and UDP mode, and by upgraded connections.";
    t.counter(out, "tunnel_received_bytes_total", help, |s| &s.tunnel_bytes_down);
    t.histogram(out, "session_duration_seconds", "Connected to end, in TCP mode; flows in UDP mode.", |s| &s.session);
}

/// Queues in front of servers, of upstreams that have limits, servers with a backlog that may be full, or programs for which bodies are
/// kept.
fn queues(out: &mut Exposition, shared: &Shared) {
    let all = shared.config.upstreams.iter().enumerate();
    let limited = all.filter(|(u, upstream)| {
        shared.gates[*u].is_some() || upstream.waits_for_backlogs() || upstream.protocol.gateway().is_some()
    });
    let rows = limited.map(|(u, upstream)| Row {
        labels: vec![("upstream", upstream.name.clone())],
        parts: shared.workers.iter().map(|worker| &*worker.upstreams[u]).collect(),
    });
    let t: Table<'_, UpstreamStats> = Table { prefix: "one_server_upstream_queue_", rows: rows.collect() };
    t.gauge(out, "requests", "Requests that wait for a place at a server now.", |u| &u.queue);
    t.counter(out, "full_total", "Requests refused because too many waited.", |u| &u.queue_full);
    t.counter(out, "timeouts_total", "Requests refused because they had waited too long.", |u| &u.queue_timeouts);
    t.counter(out, "left_total", "Clients that left while their request waited.", |u| &u.queue_left);
    t.histogram(out, "wait_duration_seconds", "How long requests waited for a place.", |u| &u.queue_wait);
}

/// Sticky clients and mirrored requests, of upstreams that have them.
fn sticky_and_mirrored(out: &mut Exposition, shared: &Shared) {
    let config = &shared.config;
    let rows = |wanted: &dyn Fn(usize) -> bool| Table {
        prefix: "one_server_upstream_",
        rows: (0..config.upstreams.len())
            .filter(|&u| wanted(u))
            .map(|u| Row {
                labels: vec![("upstream", config.upstreams[u].name.clone())],
                parts: shared.workers.iter().map(|worker| &*worker.upstreams[u]).collect(),
            })
            .collect(),
    };
    let t: Table<'_, UpstreamStats> = rows(&|u| config.upstreams[u].sticky.is_some());
    t.counter(out, "sticky_kept_total", "Requests that went where their cookie led.", |u| &u.sticky_kept);
    t.counter(out, "sticky_set_total", "Sticky cookies set.", |u| &u.sticky_set);
    let mirrors =
        || config.sites.iter().flat_map(|site| &site.routes).filter_map(|route| route.options.mirror.as_ref());
    let t: Table<'_, UpstreamStats> = rows(&|u| mirrors().any(|mirror| mirror.upstream == u));
    t.counter(out, "mirrored_total", "Copies of requests sent here.", |u| &u.mirrored);
    t.counter(out, "mirror_skipped_total", "Copies not made: too many under way, or too large.", |u| &u.mirror_skipped);
    t.counter(out, "mirror_failed_total", "Copies that no server took or answered.", |u| &u.mirror_failed);
}

fn checks(out: &mut Exposition, shared: &Shared, now: SystemTime) {
    let mut rows = Vec::new();
    for (upstream, states) in shared.config.upstreams.iter().zip(&shared.servers) {
        for (name, state) in server_names(upstream).into_iter().zip(states) {
            let labels = vec![("upstream", upstream.name.clone()), ("server", name)];
            rows.push(Row { labels, parts: vec![&**state] });
        }
    }
    let t = Table { prefix: "one_server_upstream_server_", rows };
    let help = "1 while a server passes its checks and is not ejected.";
    t.numbers(out, Kind::Gauge, "up", help, |state| u64::from(state.is_up()));
    let help = "1 while requests may go to a server: it is up, or its upstream is in panic.";
    t.numbers(out, Kind::Gauge, "usable", help, |state| u64::from(state.is_usable()));
    let help = "1 while a server is ejected for what live traffic showed.";
    t.numbers(out, Kind::Gauge, "ejected", help, |state| u64::from(state.is_ejected()));
    t.counter(out, "ejections_total", "Times a server was ejected.", |state| &state.ejections);
    let help = "1 while the operator has taken the server out, to drain it or for maintenance.";
    t.numbers(out, Kind::Gauge, "taken_out", help, |state| u64::from(state.admin() != AdminState::Ready));
    t.counter(out, "checks_total", "Health checks done.", |state| &state.checks);
    t.counter(out, "check_failures_total", "Health checks that failed.", |state| &state.failures);
    t.counter(out, "downs_total", "Times a server went down or was ejected.", |state| &state.downs);
    if t.rows.is_empty() {
        return;
    }
    let mut downtime = out.family(
        "one_server_upstream_server_downtime_seconds_total",
        Kind::Counter,
        "Time a server was down or ejected.",
    );
    for row in &t.rows {
        downtime.sample(&row.labels(), row.parts[0].downtime(now).as_secs_f64());
    }
    let name = "one_server_upstream_server_check_duration_seconds";
    let mut duration = out.family(name, Kind::Gauge, "Duration of the last health check.");
    for row in &t.rows {
        duration.sample(&row.labels(), row.parts[0].last_check_us.value() as f64 / 1e6);
    }
    check_results(out, &t);
    let help = "1 while so few servers of an upstream are up that all of them get requests.";
    let mut panic = out.family("one_server_upstream_panic", Kind::Gauge, help);
    for (upstream, flags) in shared.config.upstreams.iter().zip(&shared.upstreams) {
        panic.sample(&[("upstream", &upstream.name)], u8::from(flags.is_panic()));
    }
    let mut panics =
        out.family("one_server_upstream_panics_total", Kind::Counter, "Times an upstream went into panic.");
    for (upstream, flags) in shared.config.upstreams.iter().zip(&shared.upstreams) {
        panics.sample(&[("upstream", &upstream.name)], flags.panics.value());
    }
}

/// How the last checks ended, and the certificates they saw.
fn check_results(out: &mut Exposition, t: &Table<'_, ServerState>) {
    let name = "one_server_upstream_server_check_result_info";
    let mut result = out.family(name, Kind::Gauge, "Result of the last health check, always 1.");
    for row in &t.rows {
        let code = row.parts[0].last_check_code.value().to_string();
        let labels = [("result", row.parts[0].check_status().code()), ("code", code.as_str())];
        result.sample(&[&row.labels()[..], &labels].concat(), 1);
    }
    let ends = |row: &Row<'_, ServerState>| row.parts[0].certificate_ends_unix_s.value();
    if t.rows.iter().all(|row| ends(row) == 0) {
        return;
    }
    let name = "one_server_upstream_server_certificate_expiry_timestamp_seconds";
    let help = "End of the certificate that the last health check saw, seconds of the Unix epoch.";
    let mut expiry = out.family(name, Kind::Gauge, help);
    for row in t.rows.iter().filter(|row| ends(row) != 0) {
        expiry.sample(&row.labels(), ends(row));
    }
}

fn apps(out: &mut Exposition, shared: &Shared) {
    let rows = shared.config.apps.iter().enumerate().map(|(index, app)| Row {
        labels: vec![("app", app.name.clone())],
        parts: shared.workers.iter().map(|worker| &*worker.apps[index]).collect(),
    });
    let t = Table { prefix: "one_server_app_", rows: rows.collect() };
    t.counter(out, "requests_total", "Requests handed to an application worker.", |a| &a.requests);
    t.gauge(out, "requests_active", "Requests under way in an application now.", |a| &a.active);
    t.counter(out, "refused_total", "Requests refused with 503: every queue stayed full.", |a| &a.refused);
    t.counter(out, "cancelled_total", "Requests abandoned by the client before the answer.", |a| &a.cancelled);
    t.counter(out, "failed_total", "Requests answered 502: worker or application failed.", |a| &a.failed);
    t.histogram(out, "duration_seconds", "Hand-over of a request to its response head.", |a| &a.duration);
    t.gauge(out, "queue_depth", "Requests that wait for a thread of the application.", |a| &a.queue_depth);
    t.gauge(out, "tunnels", "WebSockets and the like open now.", |a| &a.tunnels);
    t.counter(out, "tunnel_sent_bytes_total", "Bytes of these passed to the application.", |a| &a.tunnel_bytes_up);
    t.counter(out, "tunnel_received_bytes_total", "Bytes of these taken from it.", |a| &a.tunnel_bytes_down);
}

fn app_workers(out: &mut Exposition, shared: &Shared) {
    // Of a thread of one application, its name as well.
    let app_of = |index| {
        let workers = shared.facts.get().map(|facts| &facts.workers[..]).unwrap_or_default();
        workers.iter().find(|worker| worker.role == WorkerRole::App && worker.index == index)?.app.clone()
    };
    let row = |(index, stats)| {
        let own = [("app_worker", usize::to_string(&index))].into_iter();
        Row { labels: own.chain(app_of(index).map(|app| ("app", app))).collect(), parts: vec![stats] }
    };
    let rows: Vec<Row<'_, AppWorkerStats>> = shared.app_workers.iter().map(|w| &**w).enumerate().map(row).collect();
    let t = Table { prefix: "one_server_app_worker_", rows };
    t.gauge(out, "queue_depth", "Requests waiting in the queue.", |w| &w.queue_depth);
    t.gauge(out, "running", "Requests running now.", |w| &w.running);
    t.counter(out, "wake_ups_total", "Times woken from sleep by a data worker.", |w| &w.wake_ups);
    t.counter(out, "queue_full_total", "Times the queue was full for a data worker.", |w| &w.queue_full);
    t.counter(out, "requests_total", "Requests run.", |w| &w.requests);
    t.counter(out, "panics_total", "Panics of application code contained.", |w| &w.panics);
    t.counter(out, "cancelled_total", "Requests thrown away before they ran.", |w| &w.cancelled);
    t.counter(out, "restarts_total", "Times the thread was started again.", |w| &w.restarts);
    t.counter(out, "lost_wakeups_total", "Times work was found that no wake-up had told of.", |w| &w.lost_wakeups);
}

fn splitters(out: &mut Exposition, shared: &Shared) {
    let rows = shared.config.splitters.iter().enumerate().map(|(index, splitter)| Row {
        labels: vec![("splitter", splitter.name.clone())],
        parts: shared.workers.iter().map(|worker| &*worker.splitters[index]).collect(),
    });
    let t: Table<'_, SplitterStats> = Table { prefix: "one_server_splitter_", rows: rows.collect() };
    if t.rows.is_empty() {
        return;
    }
    t.counter(out, "clients_accepted_total", "Client connections accepted.", |s| &s.accepted);
    t.counter(out, "clients_tls_total", "Clients that logged on over TLS.", |s| &s.tls_clients);
    let help = "Clients that logged on with packets compressed.";
    t.counter(out, "clients_compressed_total", help, |s| &s.compressed_clients);
    t.gauge(out, "clients", "Clients connected now.", |s| &s.clients);
    t.counter(out, "clients_refused_total", "Clients refused: wrong password, limits.", |s| &s.refused);
    t.counter(out, "errors_total", "Statements answered with an error packet of ours.", |s| &s.errors);
    let help = "Reads in front of which a replica was asked to catch up.";
    t.counter(out, "causal_waits_total", help, |s| &s.causal_waits);
    t.counter(out, "causal_timeouts_total", "Waits that did not end in time.", |s| &s.causal_timeouts);
    let help = "Reads sent to the primary because no replica was known to have what they must see.";
    t.counter(out, "causal_fallbacks_total", help, |s| &s.causal_fallbacks);
    let help = "Questions to the primary for its position; reads under way at a time share one.";
    t.counter(out, "causal_questions_total", help, |s| &s.causal_questions);
    t.gauge(out, "clients_idle", "Clients that have sent nothing for a moment.", |s| &s.idle_clients);
    t.counter(out, "questions_total", "Queries and executions of prepared statements.", |s| &s.questions);
    t.counter(out, "slow_total", "Statements longer than the threshold of the slow log.", |s| &s.slow);
    t.counter(out, "server_errors_total", "Statements that servers answered with an error.", |s| &s.server_errors);
    t.counter(out, "rejected_total", "Statements that a rule refused.", |s| &s.rejected);
    t.counter(out, "rewritten_total", "Statements whose text a rule changed.", |s| &s.rewritten);
    t.counter(out, "time_limits_total", "Statements interrupted because the time of a rule was up.", |s| {
        &s.time_limits
    });
    t.counter(out, "received_bytes_total", "Bytes of commands of clients.", |s| &s.bytes_in);
    t.counter(out, "sent_bytes_total", "Bytes sent to clients.", |s| &s.bytes_out);
    chosen_statements(out, &t);
    t.counter(out, "held_total", "Statements that waited for a primary.", |s| &s.held);
    t.counter(out, "held_refused_total", "Statements refused because too many waited for a primary.", |s| {
        &s.held_refused
    });
    let help = "Times a session was tied to one backend connection, by the reason.";
    let mut pins = out.family("one_server_splitter_pins_total", Kind::Counter, help);
    for row in &t.rows {
        for pin in Pin::ALL {
            let labels = [("splitter", row.labels[0].1.as_str()), ("reason", pin.name())];
            pins.sample(&labels, row.sum(|s| s.pins[pin.index()].value()));
        }
    }
    let help = "Sessions tied to one backend connection now, by the reason.";
    let mut pinned = out.family("one_server_splitter_sessions_pinned", Kind::Gauge, help);
    for row in &t.rows {
        for pin in Pin::ALL {
            let labels = [("splitter", row.labels[0].1.as_str()), ("reason", pin.name())];
            pinned.sample(&labels, row.sum(|s| s.pinned[pin.index()].value()));
        }
    }
    let help = "For how long the session that is tied for longest has been, by the reason.";
    let mut oldest = out.family("one_server_splitter_session_pinned_oldest_seconds", Kind::Gauge, help);
    for row in &t.rows {
        for pin in Pin::ALL {
            let labels = [("splitter", row.labels[0].1.as_str()), ("reason", pin.name())];
            let ms = row.parts.iter().map(|s| s.pinned_oldest_ms[pin.index()].value()).max();
            oldest.sample(&labels, ms.unwrap_or(0) as f64 / 1000.0);
        }
    }
    let mut statements =
        out.family("one_server_splitter_statements_total", Kind::Counter, "Statements by where they were sent.");
    for row in &t.rows {
        let splitter = row.labels[0].1.as_str();
        statements.sample(&[("splitter", splitter), ("to", "primary")], row.sum(|s| s.to_primary.value()));
        statements.sample(&[("splitter", splitter), ("to", "replica")], row.sum(|s| s.to_replica.value()));
    }
    let help = "Last byte of a statement to last byte of its response.";
    let mut durations = out.histograms("one_server_splitter_statement_duration_seconds", help);
    for row in &t.rows {
        let splitter = row.labels[0].1.as_str();
        let primary = super::merged(row.parts.iter().map(|s| &s.primary_duration));
        durations.sample(&[("splitter", splitter), ("to", "primary")], &primary);
        let replica = super::merged(row.parts.iter().map(|s| &s.replica_duration));
        durations.sample(&[("splitter", splitter), ("to", "replica")], &replica);
    }
}

fn chosen_statements(out: &mut Exposition, t: &Table<'_, SplitterStats>) {
    let help = "Statements for which a rule or a comment has chosen the server, by where they were sent.";
    let mut chosen = out.family("one_server_splitter_chosen_total", Kind::Counter, help);
    for row in &t.rows {
        let splitter = row.labels[0].1.as_str();
        chosen.sample(&[("splitter", splitter), ("to", "primary")], row.sum(|s| s.chosen_primary.value()));
        chosen.sample(&[("splitter", splitter), ("to", "replica")], row.sum(|s| s.chosen_replica.value()));
    }
}

fn splitter_servers(out: &mut Exposition, shared: &Shared) {
    let mut rows: Vec<Row<'_, BackendStats>> = Vec::new();
    for (index, splitter) in shared.config.splitters.iter().enumerate() {
        for (b, name) in backend_names(splitter) {
            let labels = vec![("splitter", splitter.name.clone()), ("server", name)];
            let parts = shared.workers.iter().map(|worker| &worker.splitters[index].backends[b]).collect();
            rows.push(Row { labels, parts });
        }
    }
    let t = Table { prefix: "one_server_splitter_server_", rows };
    t.counter(out, "connects_total", "Connections opened to a MySQL server.", |b| &b.connects);
    t.counter(out, "connect_errors_total", "Connections that failed to open.", |b| &b.connect_errors);
    t.gauge(out, "connections", "Connections to a MySQL server open now.", |b| &b.open);
    t.gauge(out, "connections_idle", "Of these, idle in the pool.", |b| &b.idle);
    t.numbers(out, Kind::Gauge, "connections_lent", "Of these, in use.", |b| {
        b.open.value().saturating_sub(b.idle.value())
    });
    t.gauge(out, "waiting", "Clients that wait for a connection.", |b| &b.waiting);
    t.counter(out, "wait_failures_total", "Clients that got no connection in time.", |b| &b.wait_failures);
    t.counter(out, "yielded_total", "Connections closed in favour of another data worker.", |b| &b.yielded);
    t.histogram(out, "wait_seconds", "How long clients waited for a connection that had to.", |b| &b.wait);
    t.counter(out, "statements_total", "Statements sent to a MySQL server.", |b| &b.statements);
    t.counter(out, "sent_bytes_total", "Bytes sent to a MySQL server.", |b| &b.bytes_sent);
    t.counter(out, "received_bytes_total", "Bytes received from a MySQL server.", |b| &b.bytes_received);
    super::splitters::write(out, shared);
}

fn access_log(out: &mut Exposition, shared: &Shared) {
    let t = per_worker(shared, "one_server_access_log_");
    t.counter(out, "lines_total", "Access log lines recorded.", |w| &w.log.lines);
    t.counter(out, "dropped_total", "Access log lines dropped because the writer was behind.", |w| &w.log.dropped);
    let t = Table {
        prefix: "one_server_access_log_",
        rows: vec![Row { labels: vec![], parts: vec![&*shared.log_writer] }],
    };
    t.counter(out, "written_bytes_total", "Bytes written to the access log.", |w| &w.bytes);
    t.counter(out, "write_errors_total", "Buffers that could not be written.", |w| &w.errors);
    t.counter(out, "lost_lines_total", "Lines lost because they could not be written.", |w| &w.lines_lost);
    t.counter(out, "reopens_total", "Times the file was opened again on request.", |w| &w.reopens);
}
