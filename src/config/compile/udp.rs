//! `udp` of a listener: which upstream gets its datagrams.

use std::sync::Arc;

use super::{Named, index_among};
use crate::config::key::Table;
use crate::config::model::{Config, Listener, ProxyProtocol, UdpRoute, Upstream};
use crate::config::report::{Problem, Span};
use crate::config::section::{Section, type_name};
use crate::proxy::flows::Bounds;
use crate::runtime::net::Address;

/// Keys of a listener that are about connections, and what to say of them.
const OF_CONNECTIONS: [(&str, &str); 8] = [
    (
        "tcp",
        "a listener has one mode: write a second one, which may have the same address, because the ports of TCP and UDP are apart",
    ),
    ("tls", "datagrams are passed on as they are, encrypted or not: take it away"),
    ("http2", "it is about HTTP: take it away"),
    ("http3", "HTTP/3 ends at a listener of HTTP, which has the UDP port for itself: take it away"),
    ("alt_svc", "it is about HTTP: take it away"),
    ("proxy_protocol", "datagrams have no header of the PROXY protocol here: take it away"),
    ("trusted_proxies", "datagrams have no header of the PROXY protocol here: take it away"),
    ("real_ip_header", "it is about HTTP: take it away"),
];

/// `None`: the listener is one of TCP.
pub(super) fn compile(section: &Section<'_>, upstreams: &[Named<'_>]) -> Option<Arc<UdpRoute>> {
    let item = section.item("udp")?;
    for (key, label) in OF_CONNECTIONS.into_iter().filter(|(key, _)| section.item(key).is_some()) {
        let title = format!("`{key}` beside `udp` in {}", section.title);
        section.cx.mistake(Problem::new(title, section.key_span(key), label));
    }
    if let Some(name) = item.as_str() {
        let settings = Section::absent(section.cx, Table::Udp);
        return Some(Arc::new(route(&settings, index_of(section, upstreams, name, item.span()))));
    }
    if !item.is_table_like() {
        let form = section.table.key("udp").map(|key| key.kind.describe()).unwrap_or_default();
        section.bad_value("udp", format!("it is {}, but the key takes {form}", type_name(item)));
        return Some(Arc::new(route(&Section::absent(section.cx, Table::Udp), 0)));
    }
    let title = format!("udp of {}", section.title);
    let settings = Section::from_item(section.cx, Table::Udp, title, item, section.key_span("udp"))?;
    let name: Option<String> = settings.need("upstream");
    let upstream = name.map(|name| index_of(section, upstreams, &name, settings.value_span("upstream")));
    Some(Arc::new(route(&settings, upstream.unwrap_or_default())))
}

/// After a mistake the config is not used, so that any upstream will do.
fn index_of(section: &Section<'_>, upstreams: &[Named<'_>], name: &str, span: Option<Span>) -> usize {
    let names: Vec<&str> = upstreams.iter().map(|named| named.name).collect();
    index_among(section, "upstream", &names, name, span).unwrap_or_default()
}

fn route(section: &Section<'_>, upstream: usize) -> UdpRoute {
    let flows_max = section.get("flows_max");
    let flows_per_address_max: u32 = section.get("flows_per_address_max");
    if flows_per_address_max as usize > flows_max {
        let title = format!("`flows_per_address_max` of {} is never reached", section.title);
        let label = format!("there are at most {flows_max} flows of all addresses (`flows_max`)");
        section.cx.warn(Problem::new(title, section.value_span("flows_per_address_max"), label));
    }
    UdpRoute {
        upstream,
        idle_timeout: section.get("idle_timeout"),
        bounds: Bounds { responses: section.find("responses"), requests: section.find("requests") },
        flows_max,
        flows_per_address_max,
        datagram_bytes_max: section.get("datagram_max"),
    }
}

/// Reports what upstreams of listeners in UDP mode have that datagrams cannot be sent with. Servers that no connections go to are
/// not checked by a TCP connection, unless somebody has written so: those that get datagrams alone, and those that nobody uses.
/// Of the latter nothing says how they are to be asked, and they may be finishing the flows of a listener that a reload has
/// taken away; what a config means must not depend on the one before it.
pub(super) fn look_at_upstreams(listeners: &[Named<'_>], upstreams: &[Named<'_>], config: &mut Config) {
    for (listener, named) in config.listeners.iter().zip(listeners) {
        let Some(at) = listener.udp.as_ref().map(|udp| udp.upstream) else { continue };
        if let (Some(upstream), Some(written)) = (config.upstreams.get(at), upstreams.get(at)) {
            report(&named.section, upstream, &written.section);
        }
    }
    let by_routes = super::site::upstreams_of_routes(config);
    let by_tcp: Vec<usize> =
        config.listeners.iter().filter(|l| l.udp.is_none()).flat_map(Listener::upstreams).collect();
    // Those of applications, which stand behind the others, are not checked unless they say so.
    for (at, (upstream, written)) in config.upstreams.iter_mut().zip(upstreams).enumerate() {
        if !by_tcp.contains(&at) && !by_routes.contains(&at) && written.section.item("health").is_none() {
            upstream.health = None;
        }
    }
}

fn report(listener: &Section<'_>, upstream: &Upstream, written: &Section<'_>) {
    let mistake = |key: &str, label: &str| {
        let title = format!("{} cannot be used by `udp` of {}", written.title, listener.title);
        let problem = Problem::new(title, written.key_span(key), label);
        listener.cx.mistake(problem.related(listener.key_span("udp"), "`udp` stands here"));
    };
    if upstream.tls.is_some() {
        mistake("tls", "datagrams are not encrypted here: take it away, or make an upstream of its own for them");
    }
    if upstream.proxy_protocol != ProxyProtocol::Off {
        mistake(
            "proxy_protocol",
            "datagrams have no header of the PROXY protocol here: take it away, or make an upstream of its own",
        );
    }
    if upstream.servers.iter().any(|server| matches!(server.address, Address::Unix(_))) {
        mistake("servers", "datagrams go to IP addresses: take Unix sockets out, or make an upstream of its own");
    }
}
