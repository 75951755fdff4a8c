//! `[limit.NAME]`, and `limits` of [http], sites and routes.

use std::sync::Arc;
use std::time::Duration;

use super::template::template;
use super::{Named, index_among};
use crate::config::model::{Config, Limit};
use crate::config::report::Problem;
use crate::config::section::{Context, Placed, Section};
use crate::guard::Allowed;
use crate::guard::rate::{Rate, longest_wait};
use crate::util::template::{Scope, Template, Variable};

/// A client that waits for longer than this has given up.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(super) fn compile(named: &Named<'_>) -> Limit {
    let section = &named.section;
    let rate = section.find::<String>("rate").and_then(|text| Rate::parse(&text).ok());
    let (burst, requests_max): (u32, Option<u32>) = (section.get("burst"), section.find("requests_max"));
    let delays = section.get::<&str>("excess") == "delay";
    if section.item("rate").is_none() {
        report_without_rate(section, requests_max.is_some());
    }
    if let Some(rate) = rate
        && delays
        && longest_wait(rate, burst) > WAIT_MAX
    {
        let title = format!("requests under {} may wait for {} s", section.title, longest_wait(rate, burst).as_secs());
        let label = "clients give up before: write a smaller `burst`, or excess = \"reject\"";
        section.cx.warn(Problem::new(title, section.value_span("burst"), label));
    }
    Limit {
        name: named.name.into(),
        key: key(section),
        allowed: Allowed { rate, burst, requests_max, keys_max: section.get("keys_max") },
        delays,
        status: section.get("status"),
        dry_run: section.get("dry_run"),
    }
}

fn report_without_rate(section: &Section<'_>, has_requests_max: bool) {
    if let Some(key) = ["burst", "excess"].into_iter().find(|key| section.item(key).is_some()) {
        let title = format!("`{key}` of {} does nothing", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(key), "add a `rate`, for example \"10/s\""));
    } else if !has_requests_max && !section.may_be_misspelt(&["rate", "requests_max"]) {
        let title = format!("{} limits nothing", section.title);
        let label = "add a `rate`, for example \"10/s\", or `requests_max`";
        section.cx.mistake(Problem::new(title, section.span.clone(), label));
    }
}

fn key(section: &Section<'_>) -> Template {
    let text: String = section.get("key");
    let title = format!("bad value for `key` in {}", section.title);
    let scope = Scope::default();
    if text.contains("binary_remote_addr") {
        section.bad_value("key", "write `$remote_addr`: a key takes the same room whatever its length");
        return Template::text("");
    }
    let Some(key) = template(section.cx, &title, &text, section.value_span("key"), scope) else {
        return Template::text("");
    };
    if key.variables().any(|variable| *variable == Variable::RemoteUser) {
        section.bad_value("key", "limits are looked at before the login, so that `$remote_user` is empty");
    } else if key.constant() == Some("") {
        section.bad_value("key", "it is empty, and an empty key is not limited: write \"$remote_addr\"");
    }
    key
}

/// `limits` of a section: indexes into [`Config::limits`]. `None`: it says nothing about them.
pub(super) fn of_options(section: &Section<'_>) -> Option<Arc<[usize]>> {
    section.item("limits")?;
    let known = section.cx.limits.borrow();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let names: Vec<Placed<String>> = section.list("limits");
    let mut found = Vec::new();
    for name in names {
        let Some(index) = index_among(section, "limit", &known, &name.value, name.span.clone()) else { continue };
        if found.contains(&index) {
            let title = format!("limit `{}` stands twice in {}", name.value, section.title);
            section.cx.mistake(Problem::new(title, name.span, "take one away"));
            continue;
        }
        found.push(index);
    }
    Some(found.into())
}

pub(super) fn warn_of_unused(cx: &Context<'_>, limits: &[Named<'_>], config: &Config) {
    let routes = config.sites.iter().flat_map(|site| site.routes.iter().map(|route| &route.options));
    let options =
        std::iter::once(&config.http.options).chain(config.sites.iter().map(|site| &site.options)).chain(routes);
    let mut is_used = vec![false; limits.len()];
    options.flat_map(|options| options.limits.iter()).for_each(|&index| is_used[index] = true);
    for (named, _) in limits.iter().zip(is_used).filter(|(_, is_used)| !is_used) {
        let title = format!("[limit.{}] limits no request", named.name);
        let label = format!("write `limits = [\"{}\"]` in [http], a site or a route, or take it away", named.name);
        cx.warn(Problem::new(title, named.span.clone(), label));
    }
}
