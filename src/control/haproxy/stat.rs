//! `show stat`: counters of frontends, backends and servers, as CSV, line by line, or as JSON.

use std::time::SystemTime;

use super::columns::{COLUMNS, FIRST_OF_PROTOCOLS};
use super::command::{StatFilter, number};
use super::rates::Rates;
use super::{Format, Proxy, Value, json_field, server_names};
use crate::config::model::{Balance, Health, StatsLevel, Upstream};
use crate::control::Shared;
use crate::control::shared::{AdminState, CheckStatus, Phase, ServerState};
use crate::metrics::{Counter, ServerStats, Worker};

const FRONTEND: i64 = 1;
const BACKEND: i64 = 2;
const SERVER: i64 = 4;

/// One line: what is not set is empty.
struct Row {
    /// [`FRONTEND`], [`BACKEND`] or [`SERVER`].
    kind: i64,
    proxy: usize,
    /// 0 for frontends and backends.
    server: usize,
    values: Vec<Option<Value>>,
}

impl Row {
    fn new(kind: i64, (proxy, name): (usize, &str), (server, server_name): (usize, &str)) -> Row {
        let mut row = Row { kind, proxy, server, values: vec![None; COLUMNS.len()] };
        row.set("pxname", name);
        row.set("svname", server_name);
        row.set("pid", 1u32);
        row.set("iid", proxy);
        row.set("sid", server);
        row.set("type", kind.trailing_zeros());
        row
    }

    fn set(&mut self, column: &str, value: impl Into<Value>) {
        match COLUMNS.iter().position(|(name, ..)| *name == column) {
            Some(at) => self.values[at] = Some(value.into()),
            None => debug_assert!(false, "there is no column {column}"),
        }
    }

    fn number(&self, column: &str) -> u64 {
        match COLUMNS.iter().position(|(name, ..)| *name == column).and_then(|at| self.values[at].as_ref()) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// Adds what only looks from time to time can tell.
    fn put_rates(&mut self, rates: &Rates) {
        let [Some(proxy), Some(service)] =
            [&self.values[0], &self.values[1]].map(|name| name.as_ref().map(Value::to_string))
        else {
            return;
        };
        let seen = rates.of(&proxy, &service);
        self.set("rate", seen.sessions);
        self.set("rate_max", seen.sessions_max);
        // What is there now counts too, so that no highest value is below the present one.
        self.set("smax", seen.open_max.max(self.number("scur")));
        match self.kind {
            FRONTEND => {
                self.set("conn_rate", seen.sessions);
                self.set("conn_rate_max", seen.sessions_max);
                if self.values.contains(&Some("http".into())) {
                    self.set("req_rate", seen.requests);
                    self.set("req_rate_max", seen.requests_max);
                }
            }
            BACKEND => self.set("qmax", seen.queued_max.max(self.number("qcur"))),
            _ => {}
        }
    }

    fn responses(&mut self, classes: [u64; 6]) {
        for (column, count) in ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(classes) {
            self.set(&format!("hrsp_{column}"), count);
        }
    }

    fn csv(&self) -> String {
        let mut line = String::new();
        for ((name, ..), value) in COLUMNS.iter().zip(&self.values) {
            if *name == FIRST_OF_PROTOCOLS {
                line.push_str("-,");
            }
            if let Some(value) = value {
                line.push_str(&quoted(&value.to_string()));
            }
            line.push(',');
        }
        line + "\n"
    }

    fn typed(&self) -> String {
        let (letter, Row { proxy, server, .. }) = (self.letter().0, self);
        let cell = |(at, name, tags, kind, value): Cell<'_>| {
            format!("{letter}.{proxy}.{server}.{at}.{name}.1:{tags}:{kind}:{value}\n")
        };
        self.cells().map(cell).collect::<String>() + "\n"
    }

    fn json(&self) -> String {
        let object = format!("\"objType\":\"{}\",\"proxyId\":{},\"id\":{},", self.letter().1, self.proxy, self.server);
        let fields: Vec<String> = self
            .cells()
            .map(|(at, name, tags, kind, value)| json_field(&object, at, name, tags, kind, value))
            .collect();
        format!("[{}]", fields.join(","))
    }

    fn letter(&self) -> (char, &'static str) {
        match self.kind {
            FRONTEND => ('F', "Frontend"),
            BACKEND => ('B', "Backend"),
            _ => ('S', "Server"),
        }
    }

    fn cells(&self) -> impl Iterator<Item = Cell<'_>> {
        let cells = COLUMNS.iter().zip(&self.values).enumerate();
        cells.filter_map(|(at, ((name, tags, kind), value))| {
            let tags = match (*name, self.kind) {
                ("act" | "bck", SERVER) => "SGP",
                ("act" | "bck", _) => "MGP",
                // HAProxy calls these no rates.
                ("rate" | "rate_max", BACKEND) => "MGP",
                _ => tags,
            };
            Some((at, *name, tags, *kind, value.as_ref()?))
        })
    }
}

/// Position, name, tags, type, value.
type Cell<'a> = (usize, &'a str, &'a str, &'a str, &'a Value);

/// RFC 4180 section 2, where it is needed.
fn quoted(text: &str) -> String {
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

/// The answer. Errors: there is no such proxy.
pub(super) fn show(
    shared: &Shared,
    rates: &Rates,
    filter: &StatFilter,
    level: StatsLevel,
    now: SystemTime,
) -> Result<String, String> {
    let (mut proxy, mut kinds, mut server) = (-1, -1, -1);
    if let Some((name, of_kinds, of_server)) = &filter.only {
        (proxy, kinds, server) = (number(name), *of_kinds, *of_server);
        if proxy == 0 {
            let named = Proxy::all(shared).find(|proxy| proxy.name(shared) == name);
            proxy = named.ok_or("No such proxy.\n")?.id(shared) as i64;
        }
    }
    let is_wanted = |row: &Row| {
        (proxy == -1 || row.proxy as i64 == proxy)
            && row.kind & kinds != 0
            && (row.kind != SERVER || server == -1 || row.server as i64 == server)
    };
    let mut rows: Vec<Row> = rows(shared, filter, level, now).into_iter().filter(is_wanted).collect();
    rows.iter_mut().for_each(|row| row.put_rates(rates));
    Ok(match filter.format {
        Format::Plain => header() + &rows.iter().map(Row::csv).collect::<String>(),
        Format::Typed => rows.iter().map(Row::typed).collect(),
        Format::Json => format!("[{}]\n", rows.iter().map(Row::json).collect::<Vec<_>>().join(",")),
    })
}

fn header() -> String {
    let mut line = String::from("# ");
    for (name, ..) in COLUMNS {
        if *name == FIRST_OF_PROTOCOLS {
            line.push_str("-,");
        }
        line.push_str(name);
        line.push(',');
    }
    line + "\n"
}

fn rows(shared: &Shared, filter: &StatFilter, level: StatsLevel, now: SystemTime) -> Vec<Row> {
    let mut rows = Vec::new();
    for proxy in Proxy::all(shared) {
        match proxy {
            Proxy::Http => rows.push(http(shared)),
            Proxy::Splitter(index) => rows.push(splitter(shared, index)),
            Proxy::Upstream(u) => {
                for (s, name) in server_names(&shared.config.upstreams[u]).iter().enumerate() {
                    let state = &shared.servers[u][s];
                    let is_hidden = filter.no_maint && state.admin() == AdminState::Maintenance
                        || filter.up && !(state.is_up() && state.admin() != AdminState::Maintenance);
                    if !is_hidden {
                        rows.push(server(shared, u, s, name, level, now));
                    }
                }
                rows.push(backend(shared, u));
            }
        }
    }
    rows
}

fn http(shared: &Shared) -> Row {
    let sum = |read: fn(&Worker) -> u64| shared.workers.iter().map(|worker| read(worker)).sum::<u64>();
    let mut row = Row::new(FRONTEND, (Proxy::Http.id(shared), "http"), (0, "FRONTEND"));
    frontend(&mut row, shared, sum(|w| w.http.connections.value()), shared.config.process.connections_max);
    let accepted = sum(|w| w.http.accepted.value());
    row.set("stot", accepted);
    row.set("conn_tot", accepted);
    row.set("dcon", sum(|w| w.http.refused.value()));
    row.set("bin", sum(|w| w.http.bytes_in.value()));
    row.set("bout", sum(|w| w.http.bytes_out.value()));
    row.set("ereq", sum(|w| w.http.malformed.value()));
    row.set("mode", "http");
    let classes = std::array::from_fn(|class| shared.workers.iter().map(|w| w.http.responses[class].value()).sum());
    row.responses(classes);
    row.set("req_tot", classes.iter().sum::<u64>());
    row.set("ssl_sess", sum(|w| w.tls.handshakes.value()));
    row.set("ssl_reused_sess", sum(|w| w.tls.resumed.value()));
    row.set("ssl_failed_handshake", sum(|w| w.tls.failed.value()));
    row.set("h2_rst_stream_rcvd", sum(|w| w.http2.resets_received.value()));
    row.set("h2_rst_stream_resp", sum(|w| w.http2.resets_sent.value()));
    row.set("h2_goaway_resp", sum(|w| w.http2.goaways.value()));
    row.set("h2_open_connections", sum(|w| w.http2.open.value()));
    row.set("h2_total_connections", sum(|w| w.http2.connections.value()));
    row
}

fn splitter(shared: &Shared, index: usize) -> Row {
    let config = &shared.config.splitters[index];
    let sum = |read: &dyn Fn(&crate::metrics::SplitterStats) -> u64| {
        shared.workers.iter().map(|worker| read(&worker.splitters[index])).sum::<u64>()
    };
    let mut row = Row::new(FRONTEND, (Proxy::Splitter(index).id(shared), &config.name), (0, "FRONTEND"));
    frontend(&mut row, shared, sum(&|s| s.clients.value()), config.clients_max);
    row.set("stot", sum(&|s| s.accepted.value()));
    row.set("conn_tot", sum(&|s| s.accepted.value()));
    row.set("dcon", sum(&|s| s.refused.value()));
    row.set("mode", "tcp");
    row
}

fn frontend(row: &mut Row, shared: &Shared, open: u64, limit: usize) {
    row.set("scur", open);
    row.set("slim", limit);
    // A frontend is open while it accepts connections.
    row.set("status", if shared.phase() == Phase::Ready { "OPEN" } else { "STOP" });
}

/// What a backend and a server have in common.
fn traffic<'a>(row: &mut Row, mode: &str, parts: impl Iterator<Item = &'a ServerStats> + Clone) {
    let sum = |read: fn(&ServerStats) -> &Counter| parts.clone().map(|part| read(part).value()).sum::<u64>();
    row.set("scur", parts.clone().map(|part| part.active.value()).sum::<u64>());
    for column in ["stot", "lbtot", "req_tot"] {
        row.set(column, sum(|s| &s.requests));
    }
    // What an HTTP request turns into a tunnel is among the bytes of requests.
    let is_tcp = mode == "tcp";
    row.set("bin", if is_tcp { sum(|s| &s.tunnel_bytes_up) } else { sum(|s| &s.bytes_in) });
    row.set("bout", if is_tcp { sum(|s| &s.tunnel_bytes_down) } else { sum(|s| &s.bytes_out) });
    row.set("mode", mode);
    row.set("econ", sum(|s| &s.connect_errors));
    row.set("eresp", sum(|s| &s.response_errors));
    row.set("wredis", sum(|s| &s.retries));
    row.set("connect", sum(|s| &s.connects) + sum(|s| &s.connect_errors));
    row.set("reuse", sum(|s| &s.reuses));
    row.responses(std::array::from_fn(|class| parts.clone().map(|part| part.responses[class].value()).sum()));
}

fn server(shared: &Shared, u: usize, s: usize, name: &str, level: StatsLevel, now: SystemTime) -> Row {
    let upstream = &shared.config.upstreams[u];
    let (server, state) = (&upstream.servers[s], &*shared.servers[u][s]);
    let mut row = Row::new(SERVER, (Proxy::Upstream(u).id(shared), &upstream.name), (s + 1, name));
    let parts = shared.workers.iter().map(|worker| &*worker.servers[u][s]);
    traffic(&mut row, mode(shared, u), parts.clone());
    let (idle, active) =
        (parts.clone().map(|part| part.idle.value()).sum::<u64>(), parts.map(|part| part.active.value()).sum::<u64>());
    row.set("srv_icur", idle);
    row.set("idle_conn_cur", idle);
    row.set("used_conn_cur", active);
    if let Some(limit) = shared.limit(u, s) {
        row.set("slim", limit);
    }
    let is_checked = upstream.health.is_some() && !state.checks_paused();
    row.set("status", status(state, is_checked));
    row.set("weight", shared.weight(u, s));
    row.set("uweight", shared.weight(u, s));
    row.set("act", u32::from(!server.backup));
    row.set("bck", u32::from(server.backup));
    row.set("lastchg", now.duration_since(state.since()).unwrap_or_default().as_secs());
    // The address of a server is not for everybody.
    if level >= StatsLevel::Operator {
        row.set("addr", server.address.to_string());
    }
    if let Some(health) = upstream.health.as_ref().filter(|_| is_checked) {
        row.set("chkfail", state.failures.value());
        row.set("chkdown", state.downs.value());
        row.set("downtime", state.downtime(now).as_secs());
        if !state.is_unchecked() {
            check(&mut row, health, state);
        }
    }
    row
}

/// How checks go.
fn check(row: &mut Row, health: &Health, state: &ServerState) {
    row.set("check_status", state.check_status().code());
    row.set("check_desc", description(state.check_status()));
    row.set("check_rise", health.rise);
    row.set("check_fall", health.fall);
    if state.check_status() != CheckStatus::Unchecked {
        let code = state.last_check_code.value();
        if code != 0 {
            row.set("check_code", code);
        }
        row.set("check_duration", state.last_check_us.value() / 1000);
        row.set("last_chk", state.told().check);
    }
}

fn backend(shared: &Shared, u: usize) -> Row {
    let (upstream, states) = (&shared.config.upstreams[u], &shared.servers[u]);
    let mut row = Row::new(BACKEND, (Proxy::Upstream(u).id(shared), &upstream.name), (0, "BACKEND"));
    // With those that are gone, so that no total falls when a server is taken out of the config.
    let parts: Vec<&ServerStats> = shared.workers.iter().flat_map(|worker| worker.servers_ever(u)).collect();
    traffic(&mut row, mode(shared, u), parts.iter().copied());
    row.set("qcur", shared.workers.iter().map(|worker| worker.upstreams[u].queue.value()).sum::<u64>());
    if let Some(limit) = upstream.requests_max {
        row.set("slim", limit);
    }
    let used = || (0..states.len()).filter(|s| states[*s].is_usable());
    row.set("status", if used().next().is_some() { "UP" } else { "DOWN" });
    // That of the tier that gets requests: backups have none while they are not needed.
    let tier_of = |s: usize| upstream.servers[s].tier;
    let held = upstream.tiers().get(upstream.tier_index(shared.upstreams[u].tier_held())).copied();
    let tier = used().map(tier_of).find(|tier| Some(*tier) == held).or_else(|| used().map(tier_of).min());
    let weight: u32 = used().filter(|s| Some(tier_of(*s)) == tier).map(|s| shared.weight(u, s)).sum();
    row.set("weight", weight);
    row.set("uweight", weight);
    row.set("act", used().filter(|s| !upstream.servers[*s].backup).count());
    row.set("bck", used().filter(|s| upstream.servers[*s].backup).count());
    row.set("algo", algorithm(upstream));
    row
}

/// Whether it carries HTTP: only listeners in TCP mode use it otherwise.
fn mode(shared: &Shared, u: usize) -> &'static str {
    let is_tcp = shared
        .config
        .listeners
        .iter()
        .filter_map(|listener| listener.tcp.as_ref())
        .any(|tcp| tcp.upstreams().contains(&u));
    if is_tcp { "tcp" } else { "http" }
}

/// HAProxy's word for the state of a server; here it has no numbers of checks behind it.
pub(super) fn status(state: &ServerState, is_checked: bool) -> &'static str {
    match (state.admin(), state.is_up()) {
        (AdminState::Maintenance, _) => "MAINT",
        (_, false) => "DOWN",
        (AdminState::Drain, true) => "DRAIN",
        (AdminState::Ready, true) if !is_checked => "no check",
        (AdminState::Ready, true) => "UP",
    }
}

/// HAProxy's word where it has the method.
fn algorithm(upstream: &Upstream) -> &'static str {
    match (&upstream.hash, upstream.balance) {
        (Some(_), _) => "hash",
        (None, Balance::RandomTwo) => "random",
        (None, Balance::RoundRobin) => "roundrobin",
        (None, Balance::LeastConn) => "leastconn",
        (None, Balance::LeastTime) => "leasttime",
        (None, Balance::First) => "first",
        (None, Balance::Local) => "local",
    }
}

/// HAProxy's text to a code of a check.
fn description(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Unchecked => "Initializing",
        CheckStatus::Connected => "Layer4 check passed",
        CheckStatus::ConnectTimeout => "Layer4 timeout",
        CheckStatus::ConnectFailed => "Layer4 connection problem",
        CheckStatus::Healthy => "Layer7 check passed",
        CheckStatus::AnswerTimeout => "Layer7 timeout",
        CheckStatus::Invalid => "Layer7 invalid response",
        CheckStatus::BadStatus => "Layer7 wrong status",
        CheckStatus::TlsDone => "Layer6 check passed",
        CheckStatus::TlsTimeout => "Layer6 timeout",
        CheckStatus::TlsFailed => "Layer6 invalid response",
        CheckStatus::OwnFailure => "Socket error",
    }
}
