//! What becomes of a change: the server's state, panic of its upstream, a line in the log and an event for the pages.

use std::time::{Duration, SystemTime};

use crate::control::Shared;
use crate::control::shared::EventLevel;
use crate::proxy::check::Verdict;
use crate::proxy::health::Transition;
use crate::proxy::outlier::Change;

/// Publishes what active checks have found.
pub(super) fn by_check(
    shared: &Shared,
    u: usize,
    s: usize,
    verdict: &Verdict,
    transition: Transition,
    now: SystemTime,
) {
    let upstream = &shared.config.upstreams[u];
    let kind = upstream.health.as_ref().map_or("", |health| health.kind());
    let (row, needed) = (transition.row, transition.needed);
    let reason = match (transition.up, needed) {
        (true, _) => format!("check {kind}: {}, {row} of {needed} passed", verdict.text),
        (false, 1) if row == 1 => format!("check {kind}: {}", verdict.text),
        (false, _) => format!("check {kind}: {}, {row} of {needed} failed", verdict.text),
    };
    if transition.up {
        shared.servers[u][s].set_held_up(false);
    }
    shared.servers[u][s].publish_up(transition.up, &reason, now);
    let news = shared.settle(u);
    let (name, left) = (server_name(shared, u, s), left(shared, u));
    let lasted_s = transition.lasted.as_secs();
    match transition.up {
        true => tell(shared, EventLevel::Info, format!("server {name} is UP after {lasted_s} s: {reason}; {left} up")),
        false => tell(shared, EventLevel::Warn, format!("server {name} is DOWN: {reason}; {left} left")),
    }
    tell_of_upstream(shared, u, news);
}

/// Publishes that a worker of an application moves again, or why it does not.
pub(super) fn by_pulse(shared: &Shared, u: usize, s: usize, trouble: Option<&str>, now: SystemTime) {
    let reason = trouble.unwrap_or("its worker runs");
    shared.servers[u][s].publish_up(trouble.is_none(), reason, now);
    let news = shared.settle(u);
    let (name, left) = (server_name(shared, u, s), left(shared, u));
    match trouble {
        None => tell(shared, EventLevel::Info, format!("server {name} is UP: {reason}; {left} up")),
        Some(_) => tell(shared, EventLevel::Warn, format!("server {name} is DOWN: {reason}; {left} left")),
    }
    tell_of_upstream(shared, u, news);
}

/// Publishes what live traffic has shown.
pub(super) fn by_traffic(shared: &Shared, u: usize, change: Change, now: SystemTime) {
    match change {
        Change::Ejected { server, reason, time, times } => {
            let reason = reason.to_string();
            shared.servers[u][server].publish_ejected(Some(now + time), &reason, now);
            let news = shared.settle(u);
            let (name, left) = (server_name(shared, u, server), left(shared, u));
            let text =
                format!("server {name} is EJECTED for {time:?} (ejection {times} that counts): {reason}; {left} left");
            tell(shared, EventLevel::Warn, text);
            tell_of_upstream(shared, u, news);
        }
        Change::Returned { server, ejected } => {
            let ejected = Duration::from_millis(ejected.as_millis() as u64);
            shared.servers[u][server].publish_ejected(None, &format!("was ejected for {ejected:?}"), now);
            let news = shared.settle(u);
            let (name, left) = (server_name(shared, u, server), left(shared, u));
            let state = if shared.servers[u][server].is_up() { "is UP again" } else { "stays DOWN" };
            tell(
                shared,
                EventLevel::Info,
                format!("server {name} {state} after an ejection of {ejected:?}; {left} up"),
            );
            tell_of_upstream(shared, u, news);
        }
        Change::Spared { server, reason } => {
            let (name, left) = (server_name(shared, u, server), left(shared, u));
            let why = "as many are out as `max_ejected` allows, or no other one is up";
            tell(
                shared,
                EventLevel::Warn,
                format!("server {name} is an outlier but stays: {reason}; {why}; {left} up"),
            );
        }
    }
}

/// A check that this machine could not do.
pub(super) fn own_failure(shared: &Shared, u: usize, s: usize, text: &str) {
    let name = server_name(shared, u, s);
    let advice = "this machine lacks something, see `ulimit -n`; the server keeps its state";
    tell(shared, EventLevel::Error, format!("server {name} cannot be checked: {text}: {advice}"));
}

/// A certificate that ends soon, or has ended.
pub(super) fn certificate_ends(shared: &Shared, u: usize, s: usize, left: Duration) {
    let name = server_name(shared, u, s);
    let text = match left.is_zero() {
        true => format!("certificate of server {name} has expired"),
        false => format!("certificate of server {name} expires in {} days", left.as_secs() / 86_400),
    };
    tell(shared, EventLevel::Warn, text);
}

fn tell_of_upstream(shared: &Shared, u: usize, panic_is_news: bool) {
    let upstream = &shared.config.upstreams[u];
    let (name, percent) = (&upstream.name, upstream.panic_percent);
    let in_panic = shared.upstreams[u].is_panic();
    match (panic_is_news, in_panic) {
        (true, true) => {
            let left = left(shared, u);
            let text = format!("upstream {name} is in panic: {left} up, below {percent} %: all of them get requests");
            tell(shared, EventLevel::Error, text);
        }
        (true, false) => {
            tell(shared, EventLevel::Info, format!("upstream {name} is out of panic: {} up", left(shared, u)))
        }
        _ => {}
    }
    if !in_panic && !shared.servers[u].iter().any(|server| server.is_up()) {
        let text = match shared.upstreams[u].is_coming() {
            true => format!("upstream {name} has no server up, its requests wait for one that starts"),
            false => format!("upstream {name} has no server up, its requests are answered 503: check its servers"),
        };
        tell(shared, EventLevel::Error, text);
    }
}

fn tell(shared: &Shared, level: EventLevel, text: String) {
    match level {
        EventLevel::Info => tracing::info!("{text}"),
        EventLevel::Warn => tracing::warn!("{text}"),
        EventLevel::Error => tracing::error!("{text}"),
    }
    shared.note(level, text);
}

/// `api/10.0.0.1:80`.
fn server_name(shared: &Shared, u: usize, s: usize) -> String {
    let upstream = &shared.config.upstreams[u];
    format!("{}/{}", upstream.name, upstream.servers[s].address)
}

fn left(shared: &Shared, u: usize) -> String {
    let servers = &shared.servers[u];
    format!("{} of {} servers", servers.iter().filter(|server| server.is_up()).count(), servers.len())
}
