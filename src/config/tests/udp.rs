//! Listeners in UDP mode, and what upstreams know of it.

use super::*;
use crate::config::model::{Probe, UdpRoute};
use crate::proxy::flows::Bounds;

const UPSTREAMS: &str = "[upstream.dns]\nservers = \"127.0.0.1:1\"\n[upstream.web]\nservers = \"127.0.0.1:2\"\n";

/// A listener with these lines from line 3, and two upstreams.
fn listener(lines: &str) -> String {
    format!("[listener.l]\naddress = \"127.0.0.1:9\"\n{lines}\n{UPSTREAMS}")
}

fn route(lines: &str) -> UdpRoute {
    let config = config(&format!("{}{BASE}", listener(lines)));
    config.listeners[0].udp.as_deref().expect("UDP mode").clone()
}

#[test]
fn a_name_is_short_for_a_table() {
    let short = route("udp = \"web\"");
    assert_eq!(short, route("udp = { upstream = \"web\" }"));
    assert_eq!((short.upstream, short.bounds, short.idle_timeout.as_secs()), (1, Bounds::default(), 60));
    assert_eq!((short.flows_max, short.flows_per_address_max, short.datagram_bytes_max), (16384, 0, 65535));
    let long = "upstream = \"dns\"\nidle_timeout = \"5s\"\nresponses = 1\nrequests = 2\nflows_max = 9\n\
                flows_per_address_max = 3\ndatagram_max = \"1KiB\"";
    let written = format!("[listener.l]\naddress = \"127.0.0.1:9\"\n[listener.l.udp]\n{long}\n{UPSTREAMS}");
    let config = config(&written);
    let expect = UdpRoute {
        upstream: 0,
        idle_timeout: Duration::from_secs(5),
        bounds: Bounds { responses: Some(1), requests: Some(2) },
        flows_max: 9,
        flows_per_address_max: 3,
        datagram_bytes_max: 1024,
    };
    assert_eq!(config.listeners[0].udp.as_deref(), Some(&expect));
    // Nothing else is needed, and the one that nobody uses is told.
    assert_eq!(warnings(&listener("udp = \"dns\"")), ["[upstream.web] is used by no route"]);
}

#[test]
fn mistakes() {
    check(&listener("udp = \"dsn\""), &["3:7 no upstream is called `dsn` | did you mean \"dns\"?"]);
    check(&listener("udp = { upstream = \"dsn\" }"), &["3:20 no upstream is called `dsn` | did you mean \"dns\"?"]);
    check(
        &listener("udp = 5"),
        &[
            "3:7 bad value for `udp` in [listener.l] | it is a whole number, but the key takes the name of an upstream, or a table such as { upstream = \"dns\", responses = 1 }",
        ],
    );
    check(
        &listener("udp = { responses = -1, requests = 0, idle = \"1s\" }"),
        &[
            "3:7 missing key `upstream` in udp of [listener.l] | add `upstream`: a text",
            "3:21 bad value for `responses` in udp of [listener.l] | `-1` is below zero",
            "3:36 bad value for `requests` in udp of [listener.l] | 0 is too small: the least is 1",
            "3:39 unknown key `idle` in udp of [listener.l] | did you mean `idle_timeout`? it takes a duration, for example \"30s\"",
        ],
    );
    // What nginx calls so.
    check(
        &listener("udp = { upstream = \"dns\", proxy_responses = 1 }"),
        &[
            "3:27 unknown key `proxy_responses` in udp of [listener.l] | what nginx calls so is `responses` here; it takes a number from 0 to 1000000",
        ],
    );
}

#[test]
fn what_is_about_connections_does_not_fit() {
    check(
        &listener(
            "udp = \"dns\"\ntcp = \"web\"\nhttp2 = true\nproxy_protocol = \"required\"\ntrusted_proxies = \"127.0.0.1\"",
        ),
        &[
            "4:1 `tcp` beside `udp` in [listener.l] | a listener has one mode: write a second one, which may have the same address, because the ports of TCP and UDP are apart",
            "5:1 `http2` beside `udp` in [listener.l] | it is about HTTP: take it away",
            "6:1 `proxy_protocol` beside `udp` in [listener.l] | datagrams have no header of the PROXY protocol here: take it away",
            "7:1 `trusted_proxies` beside `udp` in [listener.l] | datagrams have no header of the PROXY protocol here: take it away",
        ],
    );
    check(
        "[listener.l]\naddress = \"127.0.0.1:9\"\nudp = \"u\"\n[upstream.u]\nservers = [\"unix:/a\", \"127.0.0.1:1\"]\ntls = { verify = false, server_name = \"a\" }\nproxy_protocol = \"v2\"\n",
        &[
            "5:1 [upstream.u] cannot be used by `udp` of [listener.l] | datagrams go to IP addresses: take Unix sockets out, or make an upstream of its own",
            "6:1 [upstream.u] cannot be used by `udp` of [listener.l] | datagrams are not encrypted here: take it away, or make an upstream of its own for them",
            "7:1 [upstream.u] cannot be used by `udp` of [listener.l] | datagrams have no header of the PROXY protocol here: take it away, or make an upstream of its own",
        ],
    );
    check(
        &format!(
            "[site.s]\nlisteners = [\"l\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{}",
            listener("udp = \"dns\"")
        ),
        &[
            "2:14 [site.s] cannot be reached through [listener.l] | that one passes datagrams on and speaks no HTTP: name another, or add one",
        ],
    );
    let told = warnings(&listener("udp = { upstream = \"dns\", flows_max = 5, flows_per_address_max = 6 }"));
    assert_eq!(told[0], "`flows_per_address_max` of udp of [listener.l] is never reached");
}

#[test]
fn the_ports_of_udp_are_others() {
    let both = |second: &str| {
        let first = "[listener.tcp]\naddress = \"127.0.0.1:9\"\ntcp = \"web\"\n";
        format!("{first}[listener.second]\naddress = \"127.0.0.1:9\"\n{second}\n{UPSTREAMS}")
    };
    check(&both("udp = \"dns\""), &[]);
    check(
        &both("tcp = \"dns\""),
        &["5:11 127.0.0.1:9 is used twice, in [listener.tcp] and [listener.second] | take another address or port"],
    );
    let twice = format!("{}[listener.third]\naddress = \"127.0.0.1:9\"\nudp = \"web\"\n", both("udp = \"dns\""));
    check(
        &twice,
        &["12:11 127.0.0.1:9 is used twice, in [listener.second] and [listener.third] | take another address or port"],
    );
}

#[test]
fn servers_of_datagrams_are_not_checked_by_a_connection_unless_that_is_written() {
    let kind = |text: &str| {
        let config = config(&format!("{text}{BASE}"));
        config.upstreams[0].health.as_ref().map(|health| health.kind())
    };
    assert_eq!(kind(&listener("udp = \"dns\"")), None);
    assert_eq!(kind(UPSTREAMS), None, "nobody uses it, perhaps any more");
    assert_eq!(kind(&listener("tcp = \"dns\"")), Some("tcp"));
    let both = format!("[listener.t]\naddress = \"127.0.0.1:9\"\ntcp = \"dns\"\n{}", listener("udp = \"dns\""));
    assert_eq!(kind(&both), Some("tcp"), "connections go there too");
    let written = |health: &str| {
        format!(
            "[listener.l]\naddress = \"127.0.0.1:9\"\nudp = \"u\"\n[upstream.u]\nservers = \"127.0.0.1:1\"\nhealth = {health}\n"
        )
    };
    assert_eq!(kind(&written("true")), Some("tcp"));
    assert_eq!(kind(&written("{ kind = \"udp\", send = \"a\\u0000\" }")), Some("udp"));
    let config = config(&written("{ kind = \"udp\", send = \"a\\u0000\", expect = \"b\" }"));
    let health = config.upstreams[0].health.as_ref().expect("a check");
    assert!(matches!(&health.probe, Probe::Datagram(probe) if probe.send == b"a\0" && probe.expect.is_some()));
    check(&written("{ kind = \"udp\" }"), &["6:10 missing key `send` in health of [upstream.u] | add `send`: a text"]);
    check(
        &written("{ kind = \"udp\", send = \"a\", proxy_protocol = \"v1\", tls = true }"),
        &[
            "6:38 `proxy_protocol` does nothing in a check of kind udp in health of [upstream.u] | it is for kind = \"http\" or \"tcp\" or \"tls\" or \"mysql\": take it away",
            "6:61 `tls` does nothing in a check of kind udp in health of [upstream.u] | it is for kind = \"http\" or \"tls\": take it away",
        ],
    );
}
