//! `[upstream.NAME]`, its servers and its health check.

mod choice;
mod sticky;

use std::time::Duration;

use toml_edit::{Item, Value as TomlValue};

use crate::config::key::Table;
use crate::config::model::{FailBack, Health, Server, TierMin, Upstream};
use crate::config::report::Problem;
use crate::config::section::{Context, Placed, Section, type_name, value_type_name};
use crate::config::value::parse_address;
use crate::runtime::net::Address;

/// Compiles one upstream of a file.
pub(super) fn compile<'a>(name: &str, section: &Section<'a>) -> Upstream {
    let mut upstream = upstream_settings(name, section, section.item("health"));
    let servers = servers(section);
    report_servers(section, &servers);
    upstream.servers = servers.into_iter().map(|server| server.value).collect();
    upstream.tier_min = choice::tier_min(section).unwrap_or(upstream.tier_min);
    upstream.fail_back = choice::fail_back(section).unwrap_or(upstream.fail_back);
    upstream.hash = choice::hash(section, &upstream.servers);
    upstream.sticky = sticky::sticky(name, section, &upstream.servers);
    choice::warn_of_useless_keys(section, &upstream);
    upstream
}

/// Everything but the servers. `health` is the key's value in the file.
pub(in crate::config) fn upstream_settings<'a>(
    name: &str,
    section: &Section<'a>,
    health: Option<&'a Item>,
) -> Upstream {
    Upstream {
        name: name.into(),
        servers: Vec::new(),
        balance: choice::balance(section),
        hash: None,
        sticky: None,
        slow_start: section.get("slow_start"),
        tier_min: TierMin::Servers(1),
        fail_back: FailBack::After(Duration::ZERO),
        requests_max: section.find("requests_max"),
        queue_max: section.get("queue_max"),
        queue_timeout: section.get("queue_timeout"),
        health: compile_health(section, health),
        connect_timeout: section.get("connect_timeout"),
        response_timeout: section.get("response_timeout"),
        idle_timeout: section.get("idle_timeout"),
        tries_max: section.get("tries"),
        keep_idle: section.get("keep_idle"),
        keep_idle_timeout: section.get("keep_idle_timeout"),
    }
}

fn compile_health<'a>(upstream: &Section<'a>, item: Option<&'a Item>) -> Option<Health> {
    let cx: &'a Context<'a> = upstream.cx;
    let title = format!("health of {}", upstream.title);
    match item.map(|item| (item, item.as_bool())) {
        None | Some((_, Some(true))) => Some(health_settings(&Section::absent(cx, Table::Health))),
        Some((_, Some(false))) => None,
        Some((item, None)) if item.is_table_like() => {
            Section::from_item(cx, Table::Health, title, item, None).map(|section| health_settings(&section))
        }
        Some((item, None)) => {
            let forms = "write true, false, or a table such as { path = \"/healthz\" }";
            upstream.bad_value("health", format!("it is {}: {forms}", type_name(item)));
            None
        }
    }
}

fn health_settings(section: &Section<'_>) -> Health {
    Health {
        path: section.find("path"),
        host: section.find("host"),
        interval: section.get("interval"),
        timeout: section.get("timeout"),
        rise: section.get("rise"),
        fall: section.get("fall"),
    }
}

/// The entries of `servers`: texts and tables, in a list, as one text, or as `[[upstream.NAME.servers]]`.
fn servers<'a>(section: &Section<'a>) -> Vec<Placed<Server>> {
    let entry = |section: Section<'a>| {
        let span = section.span.clone();
        server(&section).map(|value| Placed { value, span })
    };
    let title = format!("servers of {}", section.title);
    match section.item("servers") {
        None => {
            section.report_missing("servers");
            Vec::new()
        }
        Some(Item::ArrayOfTables(tables)) => tables
            .iter()
            .filter_map(|table| entry(Section::new(section.cx, Table::Server, title.clone(), table, table.span())))
            .collect(),
        Some(Item::Value(TomlValue::Array(array))) => {
            array.iter().filter_map(|value| one_server(section, &title, value)).collect()
        }
        Some(Item::Value(value)) => one_server(section, &title, value).into_iter().collect(),
        Some(item) => {
            section
                .bad_value("servers", format!("it is {}: write a list, such as [\"127.0.0.1:9000\"]", type_name(item)));
            Vec::new()
        }
    }
}

fn one_server<'a>(section: &Section<'a>, title: &str, value: &'a TomlValue) -> Option<Placed<Server>> {
    let span = value.span();
    let server = match value {
        TomlValue::InlineTable(table) => {
            server(&Section::new(section.cx, Table::Server, title.into(), table, span.clone()))
        }
        TomlValue::String(text) => match parse_address(text.value()) {
            Ok(address) => Some(Server::new(address)),
            Err(label) => {
                bad_server(section, span.clone(), label);
                None
            }
        },
        _ => {
            bad_server(section, span.clone(), format!("it is {}: write an address or a table", value_type_name(value)));
            None
        }
    };
    server.map(|value| Placed { value, span })
}

fn bad_server(section: &Section<'_>, span: Option<super::Span>, label: String) {
    section.cx.mistake(Problem::new(format!("bad server in {}", section.title), span, label));
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
    section.need::<Address>("address").map(|address| Server { address, weight, backup, tier, requests_max })
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
