//! `one-server ctl mysql`: requests, and answers for people.

use super::args::{CtlMysql, DigestSort};
use super::ctl::{line, moment, table};
use crate::control::ctl::Request;
use crate::control::ctl::digests::{DigestView, DigestsView, Forgotten, Sort};
use crate::control::ctl::mysql::{Ordered, Pinned, Server, Splitters, Wanted};

/// What to ask for.
pub(super) fn request(what: &CtlMysql) -> Request {
    let (server, wanted) = match what {
        CtlMysql::Show => return Request::Mysql {},
        CtlMysql::Digests { name, sort, limit } => return digests_request(name, *sort, *limit),
        CtlMysql::ResetDigests { name } => return Request::ResetMysqlDigests { splitter: name.clone() },
        CtlMysql::Ready(server) => (server, Wanted::Ready),
        CtlMysql::Drain(server) => (server, Wanted::Drain),
        CtlMysql::Maintenance(server) => (server, Wanted::Maintenance),
        CtlMysql::Accept(server) => (server, Wanted::Accept),
        CtlMysql::Switchover(server) => (server, Wanted::Switchover),
    };
    Request::MysqlServer { server: server.server.clone(), wanted }
}

fn digests_request(name: &str, sort: DigestSort, limit: usize) -> Request {
    Request::MysqlDigests {
        splitter: name.into(),
        sort: match sort {
            DigestSort::Time => Sort::Time,
            DigestSort::Count => Sort::Count,
            DigestSort::Errors => Sort::Errors,
        },
        limit: Some(limit),
    }
}

/// The answer to an order.
pub(super) fn ordered(ordered: &Ordered) -> String {
    let Ordered { server, wanted, was } = ordered;
    let state = match wanted {
        Wanted::Ready => "ready",
        Wanted::Drain => "drain",
        Wanted::Maintenance => "maintenance",
        Wanted::Accept => return format!("{server} is the primary as soon as it takes writes alone\n"),
        Wanted::Switchover => return format!("statements wait until {server} or another server is the primary\n"),
    };
    if state == was { format!("{server} is {state} already\n") } else { format!("{server} is {state}, was {was}\n") }
}

/// The answer to `show`.
pub(super) fn shown(view: &Splitters) -> String {
    let mut out = String::new();
    if view.splitters.is_empty() {
        line(&mut out, "there are no splitters");
    }
    for splitter in &view.splitters {
        let mut title = format!("splitter {}", splitter.name);
        match (splitter.epoch, &splitter.vacancy) {
            (None, _) => title.push_str(" (fixed primary"),
            (Some(epoch), None) => title.push_str(&format!(" (epoch {epoch}, {} switchovers", splitter.switchovers)),
            (Some(epoch), Some(vacancy)) => title.push_str(&format!(" (epoch {epoch}, no primary: {vacancy}")),
        }
        if let Some(announced) = &splitter.announced {
            title.push_str(&format!(", switchover to {announced} announced"));
        }
        title.push_str(&format!(", {} held)", splitter.held));
        table(&mut out, &title, splitter.servers.iter().map(server));
        if splitter.hidden > 0 {
            line(&mut out, format_args!("  {} tables and views do what no statement shows", splitter.hidden));
        }
        if let Some(unseen) = &splitter.unseen {
            line(&mut out, format_args!("  what triggers and views do is not all known: {unseen}"));
        }
        for Pinned { reason, sessions, oldest_ms } in &splitter.pinned {
            let seconds = *oldest_ms as f64 / 1000.0;
            line(&mut out, format_args!("  {sessions} pinned by {reason}, the longest for {seconds:.1} s"));
        }
    }
    out.trim_start().to_owned()
}

fn server(server: &Server) -> Vec<String> {
    let lag = server.lag_ms.map_or_else(String::new, |lag| format!("{lag} ms behind"));
    vec![
        server.address.clone(),
        server.role.clone(),
        server.health.clone(),
        if server.up { "up".into() } else { "not used".into() },
        if server.admin == "ready" { String::new() } else { server.admin.clone() },
        lag,
        format!("{} open", server.open),
        format!("{} idle", server.idle),
        format!("{} statements", server.statements),
        server.position.clone(),
    ]
}

/// The answer to `reset-digests`.
pub(super) fn forgotten(forgotten: &Forgotten) -> String {
    let Forgotten { splitter, rows } = forgotten;
    format!("{splitter} counts its statements anew, {rows} rows are gone\n")
}

/// The answer to `digests`: a table, and below it each normal form in full.
pub(super) fn digests(view: &DigestsView) -> String {
    let mut out = String::new();
    let since = moment(view.since_unix_ms);
    line(&mut out, format_args!("{}: {} of {} rows, since {since}", view.splitter, view.rows.len(), view.rows_total));
    let head =
        ["digest", "count", "errors", "total", "average", "p95", "max", "primary", "replica", "sent", "affected"];
    let head = head.map(String::from).to_vec();
    let rows = view.rows.iter().chain(&view.other).map(row);
    table(&mut out, "statements", std::iter::once(head).chain(rows));
    for row in &view.rows {
        let schema = if row.schema.is_empty() { "-" } else { &row.schema };
        line(&mut out, format_args!("\n{} {}@{schema}\n  {}", row.digest, row.user, row.text));
    }
    out
}

fn row(row: &DigestView) -> Vec<String> {
    let name = if row.digest.is_empty() { "(others)".into() } else { row.digest.clone() };
    let average_us = row.sum_us.checked_div(row.count).unwrap_or(0);
    let mut words = vec![name, row.count.to_string(), row.errors.to_string()];
    words.extend([row.sum_us, average_us, row.p95_us, row.max_us].map(spell));
    words.extend([row.primary, row.replica, row.rows_sent, row.rows_affected].map(|number| number.to_string()));
    words
}

/// Microseconds in the unit that has three digits or less.
fn spell(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ctl::mysql::Splitter;

    #[test]
    fn the_topology_is_shown_in_columns() {
        let server = |address: &str, role: &str, lag_ms| Server {
            address: address.into(),
            role: role.into(),
            health: if role == "primary" { "writable" } else { "read-only" }.into(),
            up: true,
            admin: if role == "primary" { "ready" } else { "drain" }.into(),
            lag_ms,
            position: "0-1-7".into(),
            open: 2,
            idle: 1,
            statements: 9,
        };
        let splitter = Splitter {
            name: "main".into(),
            epoch: Some(3),
            vacancy: None,
            announced: Some("b:1".into()),
            switchovers: 2,
            held: 4,
            hidden: 3,
            unseen: Some("why".into()),
            pinned: vec![Pinned { reason: "lock".into(), sessions: 2, oldest_ms: 90_250 }],
            servers: vec![server("a:1", "primary", None), server("b:1", "replica", Some(1000))],
        };
        let shown = shown(&Splitters { splitters: vec![splitter.clone()] });
        assert_eq!(
            shown,
            "splitter main (epoch 3, 2 switchovers, switchover to b:1 announced, 4 held)\n\
             \x20 a:1  primary  writable   up                         2 open  1 idle  9 statements  0-1-7\n\
             \x20 b:1  replica  read-only  up  drain  1000 ms behind  2 open  1 idle  9 statements  0-1-7\n\
             \x20 3 tables and views do what no statement shows\n\
             \x20 what triggers and views do is not all known: why\n\
             \x20 2 pinned by lock, the longest for 90.2 s\n"
        );
        let vacant = Splitter {
            vacancy: Some("nobody".into()),
            announced: None,
            hidden: 0,
            unseen: None,
            servers: Vec::new(),
            pinned: Vec::new(),
            ..splitter
        };
        assert_eq!(super::shown(&Splitters { splitters: vec![vacant] }), "", "no servers, no table");
    }

    #[test]
    fn statements_are_shown_in_columns_and_in_full() {
        let row = DigestView {
            digest: "00ff".into(),
            text: "SELECT ?".into(),
            user: "app".into(),
            count: 4,
            sum_us: 5_000,
            max_us: 2_500_000,
            replica: 4,
            ..DigestView::default()
        };
        let other = DigestView { count: 1, ..DigestView::default() };
        let view =
            DigestsView { splitter: "db".into(), since_unix_ms: 0, rows_total: 9, rows: vec![row], other: Some(other) };
        let text = digests(&view);
        assert!(text.starts_with("db: 1 of 9 rows, since "), "{text}");
        assert!(text.contains("\n  00ff      4      0       5.0ms  1.2ms    0us  2.5s  0        4"), "{text}");
        assert!(text.contains("\n  (others)  1"), "{text}");
        assert!(text.ends_with("\n00ff app@-\n  SELECT ?\n"), "{text}");
    }
}
