//! What exchanges add up to, by listener and by route.

use super::distinct;
use super::table::{Row, Table};
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::metrics::ExchangeStats;

/// Connections and requests of each listener of HTTP.
pub(super) fn listeners(out: &mut Exposition, shared: &Shared) {
    let all = || shared.config.listeners.iter().enumerate();
    let sum = |read: &dyn Fn(&crate::metrics::Worker) -> u64| -> u64 {
        shared.workers.iter().map(|worker| read(worker)).sum()
    };
    let mut family =
        out.family("one_server_listener_connections", Kind::Gauge, "Client connections open now; in UDP mode flows.");
    for (index, listener) in all() {
        family.sample(&[("listener", &listener.name)], sum(&|worker| worker.listeners[index].open.value()));
    }
    let name = "one_server_listener_connections_accepted_total";
    let mut family = out.family(name, Kind::Counter, "Client connections accepted.");
    for (index, listener) in all() {
        family.sample(&[("listener", &listener.name)], sum(&|worker| worker.listeners[index].accepted.value()));
    }
    let rows = all().filter(|(_, listener)| listener.tcp.is_none()).map(|(index, listener)| Row {
        labels: vec![("listener", listener.name.clone())],
        parts: shared.workers.iter().map(|worker| &worker.listeners[index].exchanges).collect(),
    });
    exchanges(out, &Table { prefix: "one_server_listener_", rows: rows.collect() });
}

/// Requests of each route that had one; there may be thousands that had none.
pub(super) fn routes(out: &mut Exposition, shared: &Shared) {
    let mut rows = Vec::new();
    for (s, site) in shared.config.sites.iter().enumerate() {
        let names = distinct(site.routes.iter().map(|route| route.path.to_string()));
        for (r, name) in names.into_iter().enumerate() {
            let parts: Vec<&ExchangeStats> = shared.workers.iter().map(|worker| &*worker.routes[s][r]).collect();
            if parts.iter().any(|part| part.requests() > 0) {
                rows.push(Row { labels: vec![("site", site.name.clone()), ("route", name)], parts });
            }
        }
    }
    exchanges(out, &Table { prefix: "one_server_route_", rows });
}

fn exchanges(out: &mut Exposition, t: &Table<'_, ExchangeStats>) {
    let help = "Requests by status class of the answer; other: closed without an answer.";
    t.responses(out, "responses_total", help, |e| &e.responses);
    t.counter(out, "received_bytes_total", "Bytes of requests: heads, content, tunnels behind them.", |e| &e.bytes_in);
    t.counter(out, "sent_bytes_total", "Bytes of answers.", |e| &e.bytes_out);
    t.histogram(out, "request_duration_seconds", "Complete request head to last byte sent.", |e| &e.duration);
}
