//! The version of HTTP towards servers.

use super::*;
use crate::config::model::Protocol;

fn upstream(lines: &str) -> String {
    format!("[upstream.u]\nservers = \"127.0.0.1:1\"\n{lines}\n")
}

#[test]
fn versions_and_their_limits() {
    for (lines, expect) in [
        ("", (Protocol::Http1, 100, 8)),
        ("protocol = \"http1\"", (Protocol::Http1, 100, 8)),
        ("protocol = \"h2\"", (Protocol::H2, 100, 8)),
        ("protocol = \"h2\"\nh2_streams_max = 7\nh2_connections_max = 3", (Protocol::H2, 7, 3)),
        ("protocol = \"auto\"\ntls = { verify = false }", (Protocol::Auto, 100, 8)),
    ] {
        let config = config(&format!("{}{BASE}", upstream(lines)));
        let upstream = &config.upstreams[0];
        assert_eq!((upstream.protocol, upstream.h2_streams_max, upstream.h2_connections_max), expect, "{lines}");
    }
}

#[test]
fn checks_speak_as_requests_do_unless_told_otherwise() {
    for (health, expect) in [
        ("true", Protocol::H2),
        ("{ path = \"/h\" }", Protocol::H2),
        ("{ path = \"/h\", protocol = \"http1\" }", Protocol::Http1),
        ("{ path = \"/h\", protocol = \"auto\" }", Protocol::Auto),
        ("{ path = \"/h\", check_port = 9 }", Protocol::Http1),
        ("{ path = \"/h\", check_port = 9, protocol = \"h2\" }", Protocol::H2),
    ] {
        let config = config(&format!("{}{BASE}", upstream(&format!("protocol = \"h2\"\nhealth = {health}"))));
        assert_eq!(config.upstreams[0].health.as_ref().map(|health| health.protocol), Some(expect), "{health}");
    }
}

#[test]
fn what_does_not_go_together() {
    check(
        &upstream("protocol = \"auto\""),
        &[
            "3:1 `protocol = \"auto\"` of [upstream.u] has nothing to choose by | servers choose in TLS (ALPN): add `tls`, or write \"h2\" or \"http1\"",
        ],
    );
    check(
        &upstream("protocol = \"h2\"\nproxy_protocol = \"v2\""),
        &[
            "4:1 [upstream.u] shares connections among clients and tells whose they are | the header speaks for one client, and a connection of HTTP/2 is for all: take one of the two keys away",
        ],
    );
    check(
        &upstream("protocol = \"http2\""),
        &["3:12 bad value for `protocol` in [upstream.u] | `http2` is not known: did you mean \"http1\"?"],
    );
    let told = warnings(&upstream("h2_streams_max = 5\nh2_connections_max = 5"));
    let own: Vec<&String> = told.iter().filter(|title| title.contains("h2_")).collect();
    assert_eq!(
        own,
        ["`h2_streams_max` of [upstream.u] does nothing", "`h2_connections_max` of [upstream.u] does nothing"]
    );
}
