//! `show servers state`, `show servers conn`, `show backend`: what is known of servers, in HAProxy's files.

use std::time::SystemTime;

use super::{Proxy, server_names};
use crate::config::model::Server;
use crate::control::Shared;
use crate::control::shared::{AdminState, CheckStatus, ServerState};
use crate::runtime::net::Address;

const STATE_HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                            srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                            srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
                            srv_check_port srv_check_addr srv_agent_addr srv_agent_port";

/// All of them. Errors: there is no such backend.
fn upstreams(shared: &Shared, backend: Option<&str>) -> Result<Vec<(usize, Vec<String>)>, String> {
    let wanted = |u: &usize| backend.is_none_or(|name| shared.config.upstreams[*u].name == name);
    let found = (0..shared.config.upstreams.len()).filter(wanted);
    let found: Vec<_> = found.map(|u| (u, server_names(&shared.config.upstreams[u]))).collect();
    match backend.is_some() && found.is_empty() {
        true => Err("Can't find backend.\n".into()),
        false => Ok(found),
    }
}

/// `show backend`.
pub(super) fn backends(shared: &Shared) -> String {
    let names = shared.config.upstreams.iter().map(|upstream| format!("{}\n", upstream.name));
    format!("# name\n{}", names.collect::<String>())
}

/// `show servers state`, version 1 of the file.
pub(super) fn state(shared: &Shared, backend: Option<&str>, now: SystemTime) -> Result<String, String> {
    let mut text = format!("1\n{STATE_HEADER}\n");
    for (u, names) in upstreams(shared, backend)? {
        let upstream = &shared.config.upstreams[u];
        for (s, name) in names.iter().enumerate() {
            let (server, state) = (&upstream.servers[s], &shared.servers[u][s]);
            let (host, port) = address(&server.address);
            let (status, result) = check_numbers(state.check_status());
            // Of the health that HAProxy counts up and down only the ends are known here.
            let (rise, fall) = upstream.health.as_ref().map_or((1, 1), |health| (health.rise, health.fall));
            let health = if is_running(state) { rise + fall - 1 } else { 0 };
            // Configured, enabled, paused.
            let check_state = match (upstream.health.is_some(), state.admin(), state.checks_paused()) {
                (false, ..) => 0,
                (true, AdminState::Maintenance, _) => 2 | 4 | 8,
                (true, _, true) => 2,
                (true, _, false) => 2 | 4,
            };
            text.push_str(&format!(
                "{} {} {} {name} {host} {} {} {} {} {} {status} {result} {health} {check_state} 0 0 0 {} {port} - {} 0 - - 0\n",
                Proxy::Upstream(u).id(shared),
                upstream.name,
                s + 1,
                if is_running(state) { 2 } else { 0 },
                match state.admin() {
                    AdminState::Ready => 0,
                    AdminState::Maintenance => 1,
                    AdminState::Drain => 8,
                },
                shared.weight(u, s),
                server.weight,
                now.duration_since(state.since()).unwrap_or_default().as_secs(),
                fqdn(server),
                u32::from(upstream.tls.is_some()),
            ));
        }
    }
    Ok(text)
}

/// `show servers conn`: connections in use and idle ones, in all and by data worker. What nothing counts is `-`.
pub(super) fn connections(shared: &Shared, backend: Option<&str>) -> Result<String, String> {
    let workers = shared.workers.len();
    let mut text = format!(
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur \
         idle_per_thr[{workers}]\n"
    );
    for (u, names) in upstreams(shared, backend)? {
        let upstream = &shared.config.upstreams[u];
        for (s, name) in names.iter().enumerate() {
            let (host, port) = address(&upstream.servers[s].address);
            let of = |worker: &crate::metrics::Worker| worker.servers[u][s].idle.value();
            let idle: Vec<u64> = shared.workers.iter().map(|worker| of(worker)).collect();
            let used: u64 = shared.workers.iter().map(|worker| worker.servers[u][s].active.value()).sum();
            let by_worker: Vec<String> = idle.iter().map(u64::to_string).collect();
            text.push_str(&format!(
                "{}/{name} {}/{} {host} {port} - {} {used} - - - - {} {} {}\n",
                upstream.name,
                Proxy::Upstream(u).id(shared),
                s + 1,
                upstream.keep_idle_timeout.as_millis(),
                upstream.keep_idle * workers,
                idle.iter().sum::<u64>(),
                by_worker.join(" "),
            ));
        }
    }
    Ok(text)
}

/// It gets requests, of those that belong there at least.
fn is_running(state: &ServerState) -> bool {
    state.is_up() && state.admin() != AdminState::Maintenance
}

/// Host and port; of a Unix socket, as HAProxy has it, its path and 0.
fn address(address: &Address) -> (String, u16) {
    match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix(path) => (path.display().to_string().replace(char::is_whitespace, "_"), 0),
        // As HAProxy has servers that are still to be resolved.
        Address::Name(name) => ("-".into(), name.port.unwrap_or(0)),
        Address::App(seat) => (seat.to_string(), 0),
    }
}

/// The name that it was found by, or is to be.
fn fqdn(server: &Server) -> &str {
    match (&server.named, &server.address) {
        (Some(name), _) | (None, Address::Name(name)) => &name.host,
        (None, _) => "-",
    }
}

/// HAProxy's numbers of a check's status and of what it says of the server.
fn check_numbers(status: CheckStatus) -> (u32, u32) {
    const FAILED: u32 = 2;
    const PASSED: u32 = 3;
    match status {
        CheckStatus::Unchecked => (1, 0),
        CheckStatus::OwnFailure => (5, FAILED),
        CheckStatus::Connected => (6, PASSED),
        CheckStatus::ConnectTimeout => (7, FAILED),
        CheckStatus::ConnectFailed => (8, FAILED),
        CheckStatus::TlsDone => (9, PASSED),
        CheckStatus::TlsTimeout => (10, FAILED),
        CheckStatus::TlsFailed => (11, FAILED),
        CheckStatus::AnswerTimeout => (12, FAILED),
        CheckStatus::Invalid => (13, FAILED),
        CheckStatus::Healthy => (15, PASSED),
        CheckStatus::BadStatus => (17, FAILED),
    }
}
