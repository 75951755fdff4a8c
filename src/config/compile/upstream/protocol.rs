//! `protocol` of an upstream and what belongs to it.

use super::{Problem, Protocol, ProxyProtocol, Section, Upstream};
use crate::proxy::gateway::Form;

/// What servers are spoken with.
pub(super) fn protocol(section: &Section<'_>) -> Protocol {
    match section.get("protocol") {
        "h2" => Protocol::H2,
        "auto" => Protocol::Auto,
        "fastcgi" => Protocol::Gateway(Form::FastCgi),
        "uwsgi" => Protocol::Gateway(Form::Uwsgi),
        "scgi" => Protocol::Gateway(Form::Scgi),
        _ => Protocol::Http1,
    }
}

/// What does not go together with it.
pub(super) fn report(section: &Section<'_>, upstream: &Upstream) {
    let mistake = |title: String, key: &str, label: &str| {
        section.cx.mistake(Problem::new(title, section.key_span(key), label));
    };
    if upstream.protocol == Protocol::Auto && upstream.tls.is_none() && section.item("tls").is_none() {
        let title = format!("`protocol = \"auto\"` of {} has nothing to choose by", section.title);
        let label = "servers choose in TLS (ALPN): add `tls`, or write \"h2\" or \"http1\"";
        mistake(title, "protocol", label);
    }
    if upstream.protocol.is_multiplexed() && upstream.proxy_protocol != ProxyProtocol::Off {
        let title = format!("{} shares connections among clients and tells whose they are", section.title);
        let label =
            "the header speaks for one client, and a connection of HTTP/2 is for all: take one of the two keys away";
        mistake(title, "proxy_protocol", label);
    }
    if !upstream.protocol.is_multiplexed() {
        for key in ["h2_streams_max", "h2_connections_max"].into_iter().filter(|key| section.item(key).is_some()) {
            let title = format!("`{key}` of {} does nothing", section.title);
            let label = "its servers do not speak HTTP/2: write `protocol = \"h2\"`, or take the key away";
            section.cx.warn(Problem::new(title, section.key_span(key), label));
        }
    }
    if let Some(form) = upstream.protocol.gateway() {
        report_gateway(section, form);
    }
}

/// What servers that do not speak HTTP have no use for.
fn report_gateway(section: &Section<'_>, form: Form) {
    let mut useless = vec![("upgrade", "its servers speak no other protocol: take it away")];
    if form != Form::FastCgi {
        useless.push(("keep_idle", "a connection has one request in uwsgi and SCGI: take it away"));
    }
    for (key, label) in useless.into_iter().filter(|(key, _)| section.item(key).is_some()) {
        let title = format!("`{key}` of {} does nothing", section.title);
        section.cx.warn(Problem::new(title, section.key_span(key), label));
    }
}

/// Idle connections that are kept. Of FastCGI none, unless it is asked for: programs such as PHP-FPM block in the one that
/// they have, so that a kept connection holds a process, and a request on another one waits (haproxy/haproxy#2936).
pub(super) fn keep_idle(section: &Section<'_>) -> usize {
    match protocol(section) {
        Protocol::Gateway(Form::FastCgi) if section.item("keep_idle").is_some() => section.get("keep_idle"),
        Protocol::Gateway(_) => 0,
        _ => section.get("keep_idle"),
    }
}
