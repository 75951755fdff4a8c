//! Listeners in TCP mode, and what upstreams know of it.

use super::*;
use crate::config::model::{ProxyProtocol, TcpRoute};

const UPSTREAMS: &str = "[upstream.pg]\nservers = \"127.0.0.1:1\"\n[upstream.web]\nservers = \"127.0.0.1:2\"\n";

/// A listener with these lines from line 3, and two upstreams.
fn listener(lines: &str) -> String {
    format!("[listener.l]\naddress = \"127.0.0.1:9\"\n{lines}\n{UPSTREAMS}")
}

fn route(lines: &str) -> std::sync::Arc<TcpRoute> {
    let config = config(&format!("{}{BASE}", listener(lines)));
    config.listeners[0].tcp.clone().expect("TCP mode")
}

#[test]
fn one_upstream_for_all() {
    let config = config(&listener("tcp = \"web\""));
    assert!(config.listeners[0].sites.is_empty());
    let route = config.listeners[0].tcp.as_deref().expect("TCP mode");
    assert_eq!((route.upstream(None), route.upstream(Some("a"))), (Some(1), Some(1)));
    // Nothing else is needed, and the one that nobody uses is told.
    let (_, told) = parse("site.toml", &listener("tcp = \"web\""), PROGRAMS).expect("a good config");
    let told: Vec<&str> = told.iter().map(|warning| warning.title()).collect();
    assert_eq!(told, ["[upstream.pg] is used by no route"]);
}

#[test]
fn upstreams_by_name() {
    let by_name = route("tcp = { \"DB.example.org\" = \"pg\", \"*.example.org\" = \"web\", \"www.*\" = \"pg\" }");
    for (name, expect) in [
        (Some("db.example.org"), Some(0)),
        (Some("a.example.org"), Some(1)),
        (Some("www.test"), Some(0)),
        (Some("example.org"), None),
        (None, None),
    ] {
        assert_eq!(by_name.upstream(name), expect, "{name:?}");
    }
    let with_default = route("tcp = { \"db.example.org\" = \"pg\", default = \"web\" }");
    assert_eq!((with_default.upstream(None), with_default.upstream(Some("db.example.org"))), (Some(1), Some(0)));
    let as_table = config(&format!(
        "[listener.l]\naddress = \"127.0.0.1:9\"\n[listener.l.tcp]\n\"db.example.org\" = \"pg\"\ndefault = \"web\"\n{UPSTREAMS}"
    ));
    assert_eq!(as_table.listeners[0].tcp.as_ref().map(|route| route.upstreams()), Some(vec![0, 1]));
}

#[test]
fn mistakes() {
    check(&listener("tcp = \"wep\""), &["3:7 no upstream is called `wep` | did you mean \"web\"?"]);
    check(
        &listener("tcp = 5"),
        &[
            "3:7 bad value for `tcp` in [listener.l] | it is a whole number, but the key takes the name of an upstream, or a table such as { \"db.example.org\" = \"pg\", \"*.example.org\" = \"web\", default = \"other\" }",
        ],
    );
    check(
        &listener("tcp = {}"),
        &[
            "3:7 bad value for `tcp` in [listener.l] | it is empty: write names with their upstreams, or one upstream for all",
        ],
    );
    check(
        &listener(
            "tcp = { \"*\" = \"pg\", \"a b\" = \"pg\", \"c.d\" = \"pg\", \"C.d\" = \"web\", \"e.f\" = 5, \"g.h\" = \"nobody\" }",
        ),
        &[
            "3:9 bad name `*` in tcp of [listener.l] | names are whole, \"*.example.org\" or \"www.example.*\"; all others are `default`",
            "3:21 bad name `a b` in tcp of [listener.l] | `a b` is not a host name: write one such as \"example.org\" or \"*.example.org\"",
            "3:49 bad name `C.d` in tcp of [listener.l] | it stands twice: take it away",
            "3:72 bad value for `e.f` in tcp of [listener.l] | it is a whole number: write the name of an upstream",
            "3:83 no upstream is called `nobody` | there are: pg, web; or add [upstream.nobody]",
        ],
    );
    // A site cannot be reached through it, be it named or the only listener there is.
    check(
        &format!(
            "[site.s]\nlisteners = [\"l\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{}",
            listener("tcp = \"pg\"")
        ),
        &[
            "2:14 [site.s] cannot be reached through [listener.l] | that one passes TCP connections on and speaks no HTTP: name another, or add one",
        ],
    );
    let alone = format!("[site.s]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}\n{}", listener("tcp = \"pg\""));
    assert_eq!(
        problems(&alone),
        ["1:1 [site.s] is reached through no listener | add a [listener.NAME] with an `address`"]
    );
    check(
        "[upstream.u]\nservers = \"127.0.0.1:1\"\nproxy_protocol = \"v3\"",
        &["3:18 bad value for `proxy_protocol` in [upstream.u] | `v3` is not known: did you mean \"v1\"?"],
    );
}

#[test]
fn keys_of_http_do_nothing_there() {
    let told = warnings(&listener("http2 = true\ntcp = { \"a.b\" = \"pg\", default = \"web\" }"));
    assert_eq!(told, ["`http2` of [listener.l] does nothing"]);
    let told = warnings(&format!(
        "{}keep_idle = 5\nproxy_protocol = \"v2\"\n",
        listener("tcp = { \"a.b\" = \"pg\", default = \"web\" }")
    ));
    assert_eq!(told, ["`keep_idle` of [upstream.web] does nothing"]);
}

#[test]
fn servers_may_be_told_whose_connection_it_is() {
    for (word, expect) in [("off", ProxyProtocol::Off), ("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)] {
        let config =
            config(&format!("{}{BASE}", upstream(&format!("servers = \"127.0.0.1:1\"\nproxy_protocol = \"{word}\""))));
        let upstream = &config.upstreams[0];
        assert_eq!(
            (upstream.proxy_protocol, upstream.health.as_ref().map(|health| health.proxy_protocol)),
            (expect, Some(expect.version()))
        );
        assert_eq!(upstream.keep_idle > 0, expect == ProxyProtocol::Off, "nobody else's connection is used");
    }
}

#[test]
fn formats_of_lines_for_connections() {
    let is_same = |one: &str, other: &str| {
        let of = |lines: &str| config(&format!("{BASE}[log]\n{lines}")).log.tcp_format;
        assert_eq!(of(one), of(other), "{one}, {other}");
    };
    is_same("", "tcp_format = \"basic\"");
    is_same("format = \"haproxy\"", "tcp_format = \"tcplog\"");
    is_same("format = \"json\"", "tcp_format = \"json\"");
    is_same("format = \"$status\"", "tcp_format = \"basic\"");
    check(
        "[log]\ntcp_format = \"$remote_adr\"",
        &["2:14 unknown variable `$remote_adr` in `tcp_format` in [log] | did you mean `$remote_addr`?"],
    );
    check("[log]\ntcp_format = \"tcplogs\"", &["2:14 bad value for `tcp_format` in [log] | did you mean \"tcplog\"?"]);
}
