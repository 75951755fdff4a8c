//! `/metrics`: walks every counter of the process and writes it under our own names ([`own`]), and under the names
//! existing dashboards for nginx (12708, 17452), HAProxy (12693) and ProxySQL look for ([`foreign`], [`proxysql`]).
//!
//! No lock, no registry: counters are read as they are, each exact, all of them together not one instant.

mod exchanges;
mod foreign;
mod own;
mod processes;
mod proxysql;
mod splitters;
mod table;
mod udp;

use std::collections::HashSet;
use std::time::SystemTime;

use super::Shared;
use super::exposition::Exposition;
use crate::config::model::{Splitter, Upstream};
use crate::metrics::{Histogram, HistogramSnapshot};

/// Which names a scrape wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Our own, `one_server_…` and `process_…`.
    Own,
    /// Those of the nginx exporter.
    Nginx,
    /// Those of HAProxy's exporter.
    Haproxy,
    /// Those of ProxySQL.
    Proxysql,
}

impl Scope {
    pub(crate) const ALL: [Scope; 4] = [Scope::Own, Scope::Nginx, Scope::Haproxy, Scope::Proxysql];

    /// Name as written in `/metrics?scope=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Own => "own",
            Scope::Nginx => "nginx",
            Scope::Haproxy => "haproxy",
            Scope::Proxysql => "proxysql",
        }
    }
}

/// The text of one scrape.
pub(crate) fn render(shared: &Shared, scopes: &[Scope], now: SystemTime) -> String {
    let mut out = Exposition::default();
    for scope in scopes {
        match scope {
            Scope::Own => own::write(&mut out, shared, now),
            Scope::Nginx => foreign::write_nginx(&mut out, shared),
            Scope::Haproxy => foreign::write_haproxy(&mut out, shared, now),
            Scope::Proxysql => proxysql::write(&mut out, shared),
        }
    }
    out.finish()
}

/// Several workers' histograms as one.
pub(crate) fn merged<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> HistogramSnapshot {
    let mut all = HistogramSnapshot::default();
    for histogram in histograms {
        all.merge(&histogram.snapshot());
    }
    all
}

/// Response classes as label values, at their indexes in `responses`.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// A name for each server of an upstream: its address, numbered where one is written twice, because two series with
/// the same labels make a scraper refuse the whole page.
pub(crate) fn server_names(upstream: &Upstream) -> Vec<String> {
    distinct(upstream.servers.iter().map(|server| server.address.to_string()))
}

/// The same for the servers of a splitter that are not gone, each with its index.
pub(crate) fn backend_names(splitter: &Splitter) -> Vec<(usize, String)> {
    let indexes = splitter.present().map(|(index, _)| index);
    indexes.zip(distinct(splitter.present().map(|(_, server)| server.address.to_string()))).collect()
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for name in names {
        let mut candidate = name.clone();
        let mut n = 2;
        while !seen.insert(candidate.clone()) {
            candidate = format!("{name}#{n}");
            n += 1;
        }
        all.push(candidate);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::exposition::tests::validate;
    use super::super::server_state::CheckResult;
    use super::super::shared::{AdminState, CheckStatus, ListenerFacts, Phase, StartFacts, WorkerFacts, WorkerRole};
    use super::super::shared::{SplitterServerView, SplitterView, tests::config};
    use super::*;

    /// Two data workers and an application worker that have seen a little of everything.
    fn busy() -> Shared {
        let shared = Shared::new(Arc::new(config()), 2, 1);
        let workers = (0..2).map(|index| WorkerFacts {
            role: WorkerRole::Data,
            index,
            core: Some(index),
            app: None,
            driver: "io_uring",
            flags: vec!["SINGLE_ISSUER".into(), "DEFER_TASKRUN".into()],
            fallback: None,
        });
        let listener = ListenerFacts { name: "web".into(), kind: "http", address: "127.0.0.1:8080".into() };
        let facts = StartFacts {
            version: "9.9.9".into(),
            workers: workers.collect(),
            listeners: vec![listener],
            limits: vec![("connections_max", 1000)],
        };
        shared.facts.set(facts).unwrap();
        shared.set_phase(Phase::Ready);
        for (n, worker) in (1..).zip(&shared.workers) {
            worker.http.accepted.add(10 * n);
            worker.http.refused.add(n);
            worker.http.connections.set(5);
            worker.http.idle.set(2);
            worker.http.reading.set(1);
            worker.http.responses[2].add(100 * n);
            worker.http.responses[5].add(n);
            worker.http2.streams.add(20 * n);
            worker.http2.count_flood(crate::http::h2::Flood::RapidReset);
            worker.http.duration.record(Duration::from_micros(300));
            let server = &worker.servers[0][0];
            server.requests.add(7);
            server.responses[2].add(7);
            server.retries.inc();
            server.active.set(2);
            server.first_byte.record(Duration::from_millis(3));
            worker.upstreams[0].queue.set(2);
            worker.upstreams[0].queue_wait.record(Duration::from_millis(3));
            worker.splitters[0].to_replica.add(4);
            worker.splitters[0].clients.set(3);
            worker.log.dropped.inc();
        }
        shared.app_workers[0].requests.add(3);
        let server = &shared.servers[0][0];
        let result = CheckResult {
            status: CheckStatus::BadStatus,
            code: Some(503),
            text: "status 503 (expected 2xx)",
            duration: Duration::from_millis(4),
            certificate_ends: Some(shared.started_at),
        };
        server.publish_check(&result, shared.started_at);
        server.publish_up(false, "check http: status 503", shared.started_at + Duration::from_secs(5));
        shared.settle(0);
        shared.set_splitter_view(Box::new(|| {
            let server = |address: &str, role, lag_ms| SplitterServerView {
                address: address.into(),
                role,
                health: "writable",
                up: true,
                lag_ms,
                latency: Some(Duration::from_micros(250)),
                position: String::new(),
                admin: AdminState::Ready,
                index: usize::from(role != "primary"),
            };
            let servers =
                vec![server("127.0.0.1:3306", "primary", None), server("127.0.0.1:3307", "replica", Some(120))];
            let epoch = Some(7);
            vec![SplitterView { name: "db".into(), epoch, switchovers: 2, held: 5, servers, ..SplitterView::default() }]
        }));
        shared
    }

    fn page(shared: &Shared, scopes: &[Scope]) -> String {
        render(shared, scopes, shared.started_at + Duration::from_secs(15))
    }

    #[test]
    fn the_whole_page_is_well_formed_and_says_what_was_counted() {
        let text = page(&busy(), &Scope::ALL);
        let series = validate(&text).unwrap_or_else(|mistake| panic!("{mistake}"));
        assert!(series > 300, "{series}");
        for line in [
            "one_server_build_info{version=\"9.9.9\"} 1",
            "one_server_phase{phase=\"ready\"} 1",
            "one_server_phase{phase=\"starting\"} 0",
            "one_server_worker_info{role=\"data\",worker=\"1\",core=\"1\",driver=\"io_uring\",flags=\"SINGLE_ISSUER,DEFER_TASKRUN\"} 1",
            "one_server_http_connections_accepted_total{worker=\"1\"} 20",
            "one_server_http_responses_total{worker=\"0\",code=\"2xx\"} 100",
            "one_server_http2_streams_total{worker=\"1\"} 40",
            "one_server_http2_floods_total{worker=\"0\",kind=\"rapid_reset\"} 1",
            "one_server_http2_floods_total{worker=\"0\",kind=\"ping\"} 0",
            "one_server_http_server_request_duration_seconds_bucket{le=\"0.0005\"} 2",
            "one_server_upstream_requests_total{upstream=\"api\",server=\"127.0.0.1:1\"} 14",
            "one_server_upstream_server_up{upstream=\"api\",server=\"127.0.0.1:1\"} 0",
            "one_server_upstream_server_up{upstream=\"api\",server=\"unix:/run/b\\\"2.sock\"} 1",
            "one_server_upstream_queue_requests{upstream=\"api\"} 4",
            "one_server_upstream_queue_wait_duration_seconds_count{upstream=\"api\"} 2",
            "haproxy_backend_current_queue{proxy=\"api\"} 4",
            "one_server_upstream_server_usable{upstream=\"api\",server=\"127.0.0.1:1\"} 0",
            "one_server_upstream_server_check_result_info{upstream=\"api\",server=\"127.0.0.1:1\",result=\"L7STS\",code=\"503\"} 1",
            "one_server_upstream_panic{upstream=\"api\"} 0",
            "one_server_app_worker_requests_total{app_worker=\"0\"} 3",
            "one_server_splitter_statements_total{splitter=\"db\",to=\"replica\"} 8",
            "one_server_splitter_server_lag_seconds{splitter=\"db\",role=\"replica\",server=\"127.0.0.1:3307\"} 0.12",
            "one_server_splitter_server_fenced{splitter=\"db\",server=\"127.0.0.1:3307\"} 0",
            "one_server_splitter_server_role{splitter=\"db\",server=\"127.0.0.1:3306\",role=\"primary\"} 1",
            "one_server_splitter_epoch{splitter=\"db\"} 7",
            "one_server_splitter_has_primary{splitter=\"db\"} 1",
            "one_server_splitter_switchovers_total{splitter=\"db\"} 2",
            "one_server_splitter_held{splitter=\"db\"} 5",
            "one_server_access_log_dropped_total{worker=\"0\"} 1",
            "nginx_up 1",
            "nginx_connections_accepted 30",
            "nginx_connections_handled 27",
            "nginx_connections_active 10",
            "nginx_connections_reading 2",
            "nginx_connections_writing 4",
            "nginx_connections_waiting 4",
            "nginx_http_requests_total 303",
            "haproxy_process_current_connections 16",
            "haproxy_process_start_time_seconds",
            "haproxy_frontend_http_responses_total{proxy=\"http\",code=\"2xx\"} 300",
            "haproxy_frontend_current_sessions{proxy=\"db\"} 6",
            "haproxy_backend_active_servers{proxy=\"api\"} 0",
            "haproxy_backend_backup_servers{proxy=\"api\"} 1",
            "haproxy_backend_status{proxy=\"api\",state=\"UP\"} 1",
            "haproxy_server_status{proxy=\"api\",server=\"127.0.0.1:1\",state=\"DOWN\"} 1",
            "haproxy_server_check_status{proxy=\"api\",server=\"127.0.0.1:1\",state=\"L7STS\"} 1",
            "haproxy_server_check_code{proxy=\"api\",server=\"127.0.0.1:1\"} 503",
            "haproxy_server_downtime_seconds_total{proxy=\"api\",server=\"127.0.0.1:1\"} 10",
            "haproxy_server_redispatch_warnings_total{proxy=\"api\",server=\"127.0.0.1:1\"} 2",
        ] {
            assert!(
                text.lines().any(|l| l == line || line.ends_with("_seconds") && l.starts_with(line)),
                "no {line} in\n{text}"
            );
        }
    }

    #[test]
    fn a_process_that_has_just_begun_has_a_page_too() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        assert!(validate(&page(&shared, &Scope::ALL)).is_ok());
    }

    #[test]
    fn servers_written_twice_get_distinct_names() {
        let mut config = config();
        let twice = config.upstreams[0].servers[0].clone();
        config.upstreams[0].servers.extend([twice.clone(), twice]);
        let names = server_names(&config.upstreams[0]);
        assert_eq!(names[2..], ["127.0.0.1:1#2", "127.0.0.1:1#3"]);
        assert!(validate(&page(&Shared::new(Arc::new(config), 1, 0), &Scope::ALL)).is_ok());
    }

    /// Every family under a foreign name has the type the original gives it; dashboards and rules rely on it.
    /// The list was taken from HAProxy 2.6 and nginx-prometheus-exporter.
    #[test]
    fn foreign_names_have_the_types_of_their_originals() {
        let gauges = [
            "process_uptime_seconds",
            "process_start_time_seconds",
            "process_current_connections",
            "process_max_connections",
            "process_build_info",
            "process_stopping",
            "process_nbthread",
            "frontend_status",
            "frontend_current_sessions",
            "frontend_limit_sessions",
            "backend_status",
            "backend_weight",
            "backend_current_sessions",
            "backend_current_queue",
            "backend_active_servers",
            "backend_backup_servers",
            "backend_agg_server_status",
            "server_status",
            "server_weight",
            "server_current_sessions",
            "server_check_status",
            "server_check_code",
            "server_check_duration_seconds",
            "server_check_last_change_seconds",
            "server_idle_connections_current",
            "server_used_connections_current",
            "nginx_up",
            "connections_active",
            "connections_reading",
            "connections_writing",
            "connections_waiting",
        ];
        let text = page(&busy(), &[Scope::Nginx, Scope::Haproxy]);
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let bare = name.strip_prefix("haproxy_").or(name.strip_prefix("nginx_")).unwrap();
            let is_gauge = gauges.contains(&bare) || gauges.contains(&name);
            assert_eq!(kind, if is_gauge { "gauge" } else { "counter" }, "{name}");
        }
    }

    #[test]
    fn promtool_finds_nothing_to_say_about_our_names() {
        let ours = page(&busy(), &[Scope::Own]);
        let Some(complaints) = promtool(&ours) else {
            println!("skipped: promtool is not installed");
            return;
        };
        assert_eq!(complaints, "");
        // The nginx exporter's own names break the rule for counters, and one of ProxySQL's that for units; nothing else may be wrong.
        let everything = promtool(&page(&busy(), &Scope::ALL)).unwrap();
        for complaint in everything.lines() {
            let is_theirs = ["nginx_connections_", "proxysql_connpool_conns_latency_us "];
            assert!(is_theirs.iter().any(|name| complaint.starts_with(name)), "{complaint}");
        }
    }

    /// What `promtool check metrics` says, parse errors included; `None` without promtool.
    fn promtool(text: &str) -> Option<String> {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() || !said.is_empty());
        Some(String::from_utf8(said).unwrap())
    }
}
