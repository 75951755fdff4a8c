//! `protocol` of an upstream and what belongs to it.

use super::{Problem, Protocol, ProxyProtocol, Section, Upstream};

/// The version of HTTP that servers are spoken with.
pub(super) fn protocol(section: &Section<'_>) -> Protocol {
    match section.get("protocol") {
        "h2" => Protocol::H2,
        "auto" => Protocol::Auto,
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
    if upstream.protocol != Protocol::Http1 && upstream.proxy_protocol != ProxyProtocol::Off {
        let title = format!("{} shares connections among clients and tells whose they are", section.title);
        let label =
            "the header speaks for one client, and a connection of HTTP/2 is for all: take one of the two keys away";
        mistake(title, "proxy_protocol", label);
    }
    if upstream.protocol == Protocol::Http1 {
        for key in ["h2_streams_max", "h2_connections_max"].into_iter().filter(|key| section.item(key).is_some()) {
            let title = format!("`{key}` of {} does nothing", section.title);
            let label = "its servers are spoken with in HTTP/1.1: write `protocol = \"h2\"`, or take the key away";
            section.cx.warn(Problem::new(title, section.key_span(key), label));
        }
    }
}
