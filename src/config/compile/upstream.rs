//! `[upstream.NAME]` and its servers.

mod choice;
mod protocol;
mod sticky;

use std::sync::Arc;
use std::time::Duration;

use toml_edit::Item;

use super::servers::Entries;
use super::{retry, upstream_tls};

use crate::config::key::Table;
use crate::config::model::{FailBack, Probe, Protocol, ProxyProtocol, Server, TierMin, Upstream};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};
use crate::config::value::parse_server;
use crate::runtime::net::Address;

/// Compiles one upstream of a file.
pub(super) fn compile<'a>(name: &str, section: &Section<'a>) -> Upstream {
    with_servers(name, section, servers(section))
}

/// The same with servers that come from elsewhere.
pub(super) fn with_servers<'a>(name: &str, section: &Section<'a>, servers: Vec<Placed<Server>>) -> Upstream {
    let mut upstream = upstream_settings(name, section, section.item("health"));
    report_servers(section, &servers);
    if let Some(port) = upstream.health.as_ref().and_then(|health| health.port) {
        report_servers_without_port(section, &servers, port);
    }
    report_unused(section, &upstream, &servers);
    upstream.servers = servers.into_iter().map(|server| server.value).collect();
    upstream.written = upstream.servers.as_slice().into();
    upstream.tier_min = choice::tier_min(section).unwrap_or(upstream.tier_min);
    upstream.fail_back = choice::fail_back(section).unwrap_or(upstream.fail_back);
    upstream.hash = choice::hash(section, &upstream.servers);
    upstream.sticky = sticky::sticky(name, section, &upstream.servers);
    choice::warn_of_useless_keys(section, &upstream);
    upstream.tls = upstream_tls::compile(section, &upstream.servers);
    check_over_tls(section, &mut upstream);
    protocol::report(section, &upstream);
    if let Some(health) = &mut upstream.health {
        let is_written = section.item("health").is_some_and(|item| item.get("proxy_protocol").is_some());
        let has_version = section.item("health").is_some_and(|item| item.get("protocol").is_some());
        if !has_version && health.port.is_none() {
            health.protocol = upstream.protocol;
        }
        health.proxy_protocol = health.proxy_protocol.or(upstream.proxy_protocol.version().filter(|_| !is_written));
    }
    upstream
}

/// Everything but the servers. `health` is the key's value in the file.
pub(in crate::config) fn upstream_settings<'a>(
    name: &str,
    section: &Section<'a>,
    health: Option<&'a Item>,
) -> Upstream {
    let proxy_protocol = proxy_protocol(section);
    if proxy_protocol != ProxyProtocol::Off && section.item("keep_idle").is_some() {
        let title = format!("`keep_idle` of {} does nothing", section.title);
        let label = "with `proxy_protocol` a connection belongs to one client and is not kept for others";
        section.cx.warn(Problem::new(title, section.key_span("keep_idle"), label));
    }
    Upstream {
        name: name.into(),
        is_supervised: false,
        in_process: None,
        servers: Vec::new(),
        written: Arc::default(),
        removed: Vec::new(),
        balance: choice::balance(section),
        hash: None,
        sticky: None,
        slow_start: section.get("slow_start"),
        tier_min: TierMin::Servers(1),
        fail_back: FailBack::After(Duration::ZERO),
        requests_max: section.find("requests_max"),
        queue_max: section.get("queue_max"),
        queue_timeout: section.get("queue_timeout"),
        tls: None,
        protocol: protocol::protocol(section),
        h2_streams_max: section.get("h2_streams_max"),
        h2_connections_max: section.get("h2_connections_max"),
        health: super::health::compile(section, health),
        outliers: super::outliers::compile(section),
        panic_percent: section.get("panic"),
        connect_timeout: section.get("connect_timeout"),
        response_timeout: section.get("response_timeout"),
        idle_timeout: section.get("idle_timeout"),
        total_timeout: section.get("total_timeout"),
        upgrade: upgrade(section),
        tunnel_timeout: section.get("tunnel_timeout"),
        half_closed_timeout: section.get("half_closed_timeout"),
        proxy_protocol,
        retry: retry::compile(section),
        keep_idle: if proxy_protocol == ProxyProtocol::Off { protocol::keep_idle(section) } else { 0 },
        keep_idle_timeout: section.get("keep_idle_timeout"),
        announces: false,
    }
}

/// Checks speak as requests do, where nothing else is said.
fn check_over_tls(section: &Section<'_>, upstream: &mut Upstream) {
    let (Some(tls), Some(health)) = (&upstream.tls, &mut upstream.health) else { return };
    let written = section.item("health").and_then(|item| item.get("tls")).and_then(Item::as_bool);
    if health.tls.is_none() && written != Some(false) && !matches!(health.probe, Probe::Mysql(_) | Probe::Datagram(_)) {
        health.tls = Some(tls.check());
    }
    if let Some(check) = &mut health.tls {
        check.identity = tls.trust.identity().cloned();
    }
}

fn proxy_protocol(section: &Section<'_>) -> ProxyProtocol {
    match section.get("proxy_protocol") {
        "v1" => ProxyProtocol::V1,
        "v2" => ProxyProtocol::V2,
        _ => ProxyProtocol::Off,
    }
}

/// Names of protocols.
pub(super) fn upgrade(section: &Section<'_>) -> Vec<Box<str>> {
    let names: Vec<Placed<String>> = section.list("upgrade");
    let bad = |place: &Placed<String>, label: String| {
        let title = format!("bad value for `upgrade` in {}", section.title);
        section.cx.mistake(Problem::new(title, place.span.clone(), label));
    };
    for place in &names {
        let name = &place.value;
        let is_token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if name.eq_ignore_ascii_case("h2c") || name.eq_ignore_ascii_case("h2") {
            let label = "a server that switched to HTTP/2 would speak past every rule for requests: leave it out";
            bad(place, label.into());
        } else if !is_token {
            bad(place, format!("`{name}` is no name of a protocol: write one such as \"websocket\""));
        }
    }
    names.iter().map(|name| name.value.to_ascii_lowercase().into()).collect()
}

fn servers(section: &Section<'_>) -> Vec<Placed<Server>> {
    if section.item("servers").is_none() {
        section.report_missing("servers");
    }
    let from_text = |text: &str| parse_server(text).map(Server::new);
    Entries { key: "servers", table: Table::Server, from_text: &from_text, from_table: &server }.read(section)
}

fn server(section: &Section<'_>) -> Option<Server> {
    let backup: bool = section.get("backup");
    if backup && section.item("tier").is_some() {
        let title = format!("one of the {} is a backup and of a tier", section.title);
        let label = "a backup is of the last tier: keep one of the two";
        section.cx.mistake(Problem::new(title, section.key_span("tier"), label));
    }
    let tier = if backup { Server::BACKUP_TIER } else { section.get("tier") };
    let (weight, requests_max) = (section.get("weight"), section.find("requests_max"));
    let check_address = section.find("check_address");
    address(section).map(|address| Server { address, named: None, weight, backup, tier, requests_max, check_address })
}

/// `address`, or `srv`.
fn address(section: &Section<'_>) -> Option<Address> {
    let (address, srv) = (section.item("address").is_some(), section.item("srv").is_some());
    match (address, srv) {
        (true, true) => {
            let title = format!("one of the {} has both `address` and `srv`", section.title);
            let problem = Problem::new(title, section.key_span("srv"), "keep one of the two");
            section.cx.mistake(problem.related(section.key_span("address"), "the other one"));
            None
        }
        (false, false) => {
            if !section.may_be_misspelt(&["address", "srv"]) {
                let title = format!("no address in one of the {}", section.title);
                let label = "add `address`, for example \"127.0.0.1:9000\" or \"app.internal:9000\", or `srv`";
                section.cx.mistake(Problem::new(title, section.span.clone(), label));
            }
            None
        }
        (true, false) => section.find("address"),
        (false, true) => {
            if section.item("weight").is_some() {
                let title = format!("`weight` beside `srv` in one of the {}", section.title);
                let label = "the records say the weights: take it away";
                section.cx.mistake(Problem::new(title, section.key_span("weight"), label));
            }
            section.find("srv")
        }
    }
}

/// Keys that change nothing where they stand.
fn report_unused(section: &Section<'_>, upstream: &Upstream, servers: &[Placed<Server>]) {
    // How many workers run a program is known at the start.
    let is_one = |server: &Server| !server.is_unresolved() && !is_on_workers(server);
    if upstream.outliers.is_some() && matches!(servers, [only] if is_one(&only.value)) {
        let title = format!("`outliers` of {} does nothing", section.title);
        let label = "the only server is never ejected: add another one, or take it away";
        section.cx.warn(Problem::new(title, section.key_span("outliers"), label));
    }
    let checked_elsewhere = |server: &&Placed<Server>| server.value.check_address.is_some();
    if let (None, Some(server)) = (&upstream.health, servers.iter().find(checked_elsewhere)) {
        let title = format!("`check_address` in {} does nothing", section.title);
        section.cx.warn(Problem::new(title, server.span.clone(), "this upstream is not checked: health = false"));
    }
}

fn is_on_workers(server: &Server) -> bool {
    matches!(&server.address, Address::App(seat) if seat.worker.is_some())
}

/// A port to check means nothing for a Unix socket.
fn report_servers_without_port(section: &Section<'_>, servers: &[Placed<Server>], port: u16) {
    for Placed { value: server, span } in servers {
        if matches!(server.address, Address::Unix(_)) && server.check_address.is_none() {
            let title = format!("{} cannot be checked at port {port} in {}", server.address, section.title);
            let label = "give it a `check_address`, or take `check_port` away from `health`";
            section.cx.mistake(Problem::new(title, span.clone(), label));
        }
    }
}

fn report_servers(section: &Section<'_>, servers: &[Placed<Server>]) {
    let cx = section.cx;
    if servers.is_empty() {
        if section.item("servers").and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
            section.bad_value("servers", "it is empty: name at least one server");
        }
        return;
    }
    if servers.iter().all(|server| server.value.backup) {
        let title = format!("{} has only backup servers", section.title);
        cx.mistake(Problem::new(title, section.value_span("servers"), "take `backup` away from at least one server"));
    }
    if servers.iter().all(|server| server.value.weight == 0) {
        let title = format!("no server of {} takes new requests", section.title);
        cx.mistake(Problem::new(title, section.value_span("servers"), "give at least one a `weight` above 0"));
    }
    for (at, server) in servers.iter().enumerate() {
        let first = servers[..at].iter().find(|first| first.value.address == server.value.address);
        if let Some(first) = first {
            let title = format!("{} is named twice in {}", server.value.address, section.title);
            let problem = Problem::new(title, server.span.clone(), "use `weight` to give a server a larger share");
            cx.warn(problem.related(first.span.clone(), "first named here"));
        }
    }
}
