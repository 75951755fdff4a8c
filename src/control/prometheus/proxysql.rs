//! The names dashboards for ProxySQL look for, filled only where our numbers mean the same: all splitters together, but for
//! those by server, whose host group is 0 for the primary and 1 for replicas. Absent without a splitter.
//!
//! Source: ProxySQL manual, "Prometheus exporter"; names as of ProxySQL 2.7.

use super::backend_names;
use super::table::{Row, Table};
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::metrics::{BackendStats, SplitterStats};

pub(super) fn write(out: &mut Exposition, shared: &Shared) {
    if shared.config.splitters.is_empty() {
        return;
    }
    totals(out, shared);
    pools(out, shared);
}

fn totals(out: &mut Exposition, shared: &Shared) {
    let splitters = || shared.workers.iter().flat_map(|worker| &worker.splitters);
    let sum = |read: fn(&SplitterStats) -> u64| splitters().map(|splitter| read(splitter)).sum::<u64>();
    let of_servers =
        |read: fn(&BackendStats) -> u64| splitters().flat_map(|s| s.backends.iter()).map(read).sum::<u64>();
    let mut one = |name: &str, kind, help: &str, value: u64| {
        out.family(&format!("proxysql_{name}"), kind, help).sample(&[], value);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    one("uptime_seconds_total", counter, "Time since the start.", shared.started.elapsed().as_secs());
    let clients = sum(|s| s.clients.value());
    one("client_connections_connected", gauge, "Clients connected.", clients);
    let busy = clients.saturating_sub(sum(|s| s.idle_clients.value()));
    one("client_connections_non_idle", gauge, "Clients that are not idle.", busy);
    one("server_connections_connected", gauge, "Connections to servers.", of_servers(|b| b.open.value()));
    one("questions_total", counter, "Statements of clients.", sum(|s| s.questions.value()));
    one("slow_queries_total", counter, "Statements beyond the threshold of the slow log.", sum(|s| s.slow.value()));
    one("backend_query_time_seconds_total", counter, "Time of statements.", sum(seconds));
    let (sent, received) = (of_servers(|b| b.bytes_sent.value()), of_servers(|b| b.bytes_received.value()));
    let flow = "traffic_flow";
    let help = "Bytes to and from servers.";
    two(out, "queries_backends_bytes_total", help, flow, [("sent", sent), ("recv", received)]);
    let (sent, received) = (sum(|s| s.bytes_out.value()), sum(|s| s.bytes_in.value()));
    let help = "Bytes to and from clients.";
    two(out, "queries_frontends_bytes_total", help, flow, [("sent", sent), ("recv", received)]);
    let created = [("created", sum(|s| s.accepted.value())), ("aborted", sum(|s| s.refused.value()))];
    two(out, "client_connections_total", "Client connections.", "status", created);
    let created =
        [("created", of_servers(|b| b.connects.value())), ("aborted", of_servers(|b| b.connect_errors.value()))];
    two(out, "server_connections_total", "Connections to servers.", "status", created);
}

/// A family of two counters.
fn two(out: &mut Exposition, name: &str, help: &str, label: &str, values: [(&str, u64); 2]) {
    let name = format!("proxysql_{name}");
    let mut family = out.family(&name, Kind::Counter, help);
    values.into_iter().for_each(|(which, value)| family.sample(&[(label, which)], value));
}

/// Of all statements, on the primary and on replicas.
fn seconds(splitter: &SplitterStats) -> u64 {
    let of = |histogram: &crate::metrics::Histogram| histogram.snapshot().sum();
    (of(&splitter.primary_duration) + of(&splitter.replica_duration)).as_secs()
}

fn pools(out: &mut Exposition, shared: &Shared) {
    let (mut rows, mut latencies_us): (Vec<Row<'_, BackendStats>>, Vec<Option<u64>>) = (Vec::new(), Vec::new());
    let views = shared.splitters();
    for (index, splitter) in shared.config.splitters.iter().enumerate() {
        let seen = |b: usize| views.get(index).and_then(|view| view.servers.iter().find(|server| server.index == b));
        for (b, endpoint) in backend_names(splitter) {
            let is_primary = seen(b).map_or(b == 0, |server| server.role == "primary");
            latencies_us.push(seen(b).and_then(|server| server.latency).map(|latency| latency.as_micros() as u64));
            let hostgroup = if is_primary { "0" } else { "1" };
            // Two splitters may have the same server, and a scraper refuses a page with the same labels twice.
            let labels =
                vec![("splitter", splitter.name.clone()), ("hostgroup", hostgroup.into()), ("endpoint", endpoint)];
            let parts = shared.workers.iter().map(|worker| &worker.splitters[index].backends[b]).collect();
            rows.push(Row { labels, parts });
        }
    }
    let t = Table { prefix: "proxysql_connpool_", rows };
    let mut states = out.family("proxysql_connpool_conns", Kind::Gauge, "Connections to a server, by what they do.");
    for row in &t.rows {
        let (open, idle) = (row.sum(|b| b.open.value()), row.sum(|b| b.idle.value()));
        for (status, value) in [("free", idle), ("used", open.saturating_sub(idle))] {
            let mut labels = row.labels();
            labels.push(("status", status));
            states.sample(&labels, value);
        }
    }
    let help = "Time that the server takes to answer the monitor, microseconds.";
    let mut latencies = out.family("proxysql_connpool_conns_latency_us", Kind::Gauge, help);
    for (row, latency) in t.rows.iter().zip(latencies_us) {
        latency.into_iter().for_each(|latency| latencies.sample(&row.labels(), latency));
    }
    let help = "Bytes to and from a server.";
    let mut bytes = out.family("proxysql_connpool_data_bytes_total", Kind::Counter, help);
    for row in &t.rows {
        let flows = [("sent", row.sum(|b| b.bytes_sent.value())), ("recv", row.sum(|b| b.bytes_received.value()))];
        for (flow, value) in flows {
            let mut labels = row.labels();
            labels.push(("traffic_flow", flow));
            bytes.sample(&labels, value);
        }
    }
    t.counter(out, "conns_queries_total", "Statements sent to a server.", |b| &b.statements);
    t.counter(out, "get_conn_failure_total", "Clients that got no connection in time.", |b| &b.wait_failures);
}
