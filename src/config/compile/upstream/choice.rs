//! How a server is chosen: `balance`, `hash`, `tier_min`, `fail_back`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::template::template;
use crate::config::key::{Table, duration};
use crate::config::model::{Balance, FailBack, Hash, Server, TierMin, Upstream};
use crate::config::report::Problem;
use crate::config::section::{Section, type_name};
use crate::config::servers::table;
use crate::config::value::Value;
use crate::util::template::{Scope, Template};

pub(super) fn balance(section: &Section<'_>) -> Balance {
    match section.get("balance") {
        "round-robin" => Balance::RoundRobin,
        "least-conn" => Balance::LeastConn,
        "least-time" => Balance::LeastTime,
        "first" => Balance::First,
        "local" => Balance::Local,
        _ => Balance::RandomTwo,
    }
}

/// The table of `hash`, or its short form.
pub(super) fn hash(upstream: &Section<'_>, servers: &[Server]) -> Option<Hash> {
    let item = upstream.item("hash")?;
    let (key, load_max_percent) = match item.as_str() {
        Some(text) => (key(upstream, "hash", text), None),
        None if item.is_table_like() => {
            let title = format!("hash of {}", upstream.title);
            let section = Section::from_item(upstream.cx, Table::Hash, title, item, upstream.key_span("hash"))?;
            let text: Option<String> = section.need("key");
            (text.and_then(|text| key(&section, "key", &text)), section.find("load_max"))
        }
        None => {
            let label = "write a text such as \"$remote_addr\", or a table such as { key = \"$request_uri\" }";
            upstream.bad_value("hash", format!("it is {}: {label}", type_name(item)));
            return None;
        }
    };
    Some(Hash { key: key?, load_max_percent, table: Arc::new(table(servers)) })
}

fn key(section: &Section<'_>, name: &str, text: &str) -> Option<Template> {
    if text.contains("binary_remote_addr") {
        section.bad_value(name, "write `$remote_addr`: what is hashed may have any length");
        return None;
    }
    let title = format!("bad value for `{name}` in {}", section.title);
    let key = template(section.cx, &title, text, section.value_span(name), Scope::default())?;
    if key.constant().is_some() {
        let label = "it has no variable: all requests would go to one server. Write such as \"$remote_addr\"";
        section.bad_value(name, label);
        return None;
    }
    Some(key)
}

/// `None`: it is not written, or wrong.
pub(super) fn tier_min(section: &Section<'_>) -> Option<TierMin> {
    let item = section.item("tier_min")?;
    let share = item.as_str().and_then(|text| text.strip_suffix('%'));
    match (item.as_integer(), share.and_then(|text| text.parse().ok())) {
        (Some(servers @ 1..=65_535), _) => Some(TierMin::Servers(servers as u32)),
        (None, Some(percent @ 1..=100)) => Some(TierMin::Percent(percent)),
        _ => {
            section.bad_value("tier_min", "write a number of servers, such as 2, or a share from \"1%\" to \"100%\"");
            None
        }
    }
}

/// `None`: it is not written, or wrong.
pub(super) fn fail_back(section: &Section<'_>) -> Option<FailBack> {
    const DAY: Duration = Duration::from_secs(86_400);
    let item = section.item("fail_back")?;
    match item.as_str() {
        Some("at-once") => return Some(FailBack::After(Duration::ZERO)),
        Some("manual") => return Some(FailBack::Manual),
        Some(text) => match duration(Duration::ZERO, DAY).parse(text) {
            Ok(Value::Duration(delay)) => return Some(FailBack::After(delay)),
            Ok(_) => {}
            Err(label) => section.bad_value("fail_back", format!("{label}, or \"at-once\" or \"manual\"")),
        },
        None => {
            let label = "write \"at-once\", \"manual\", or a duration such as \"30s\"";
            section.bad_value("fail_back", format!("it is {}: {label}", type_name(item)));
        }
    }
    None
}

/// Keys that change nothing because of what else stands there, or does not.
pub(super) fn warn_of_useless_keys(section: &Section<'_>, upstream: &Upstream) {
    let warn = |key: &str, label: &str| {
        let title = format!("`{key}` of {} does nothing", section.title);
        section.cx.warn(Problem::new(title, section.key_span(key), label));
    };
    if upstream.tiers().len() < 2 {
        for key in ["tier_min", "fail_back"] {
            if section.item(key).is_some() {
                warn(key, "all its servers are of one tier: give some a `tier`, or make them a `backup`");
            }
        }
    }
    let is_unlimited =
        upstream.requests_max.is_none() && upstream.servers.iter().all(|server| server.requests_max.is_none());
    if is_unlimited && !upstream.waits_for_backlogs() {
        for key in ["queue_max", "queue_timeout"].into_iter().filter(|key| section.item(key).is_some()) {
            warn(key, "nothing waits without a limit: add `requests_max` here or to servers");
        }
    }
    if upstream.balance == Balance::Local && !upstream.is_of_program() {
        let label = "it is for programs inside this process, whose workers sit beside those that serve clients: choose another one";
        section.bad_value("balance", label);
    }
    if upstream.balance == Balance::First
        && !upstream.is_of_program()
        && upstream.servers.iter().all(|server| server.requests_max.is_none())
    {
        let title = format!("{} uses its first server alone", section.title);
        let label = "the first one always has room: give servers a `requests_max`";
        section.cx.warn(Problem::new(title, section.value_span("balance"), label));
    }
    if !upstream.slow_start.is_zero() && upstream.health.is_none() && !upstream.is_of_program() {
        warn("slow_start", "without health checks no server ever goes down and comes up again");
    }
}
