//! Names of servers and `[resolver]`.

use super::*;
use crate::config::model::{Families, Server};

fn upstream(servers: &str) -> String {
    format!("{BASE}[upstream.u]\nservers = {servers}\n")
}

#[test]
fn names_are_servers() {
    let config = config(&upstream(
        r#"["10.0.0.1:1", "App.Example.com.:80", { address = "db:5432", weight = 7 }, { srv = "_http._tcp.x", tier = 2 }]"#,
    ));
    let servers: Vec<String> = config.upstreams[0].servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(servers, ["10.0.0.1:1", "app.example.com:80", "db:5432", "_http._tcp.x"]);
    let unresolved: Vec<bool> = config.upstreams[0].servers.iter().map(Server::is_unresolved).collect();
    assert_eq!(unresolved, [false, true, true, true]);
    assert_eq!((config.names().len(), config.upstreams[0].servers[2].weight), (3, 7));
}

#[test]
fn the_resolver() {
    let defaults = config(BASE).resolver;
    assert_eq!((defaults.families, defaults.name_servers.len(), defaults.addresses_max), (Families::Both, 0, 64));
    let text = "[resolver]\nname_servers = [\"127.0.0.1:53\", \"[::1]:5353\"]\naddresses = \"ipv4\"\nttl_min = \"2s\"\nhold = \"0s\"\n";
    let written = config(&format!("{BASE}{text}")).resolver;
    assert_eq!((written.families, written.name_servers.len()), (Families::Ipv4, 2));
    assert_eq!((written.ttl_min.as_secs(), written.hold.as_secs()), (2, 0));
}

#[test]
fn mistakes() {
    let check = |servers: &str, expect: &str| {
        super::check(&format!("[upstream.u]\nservers = {servers}\n"), &[&format!("2:{expect}")]);
    };
    check(
        r#"["app.internal"]"#,
        "12 bad server in [upstream.u] | the port is missing: write \"app.internal:80\" with the port you mean",
    );
    check(
        r#"["10.0.0.300:80"]"#,
        "12 bad server in [upstream.u] | `10.0.0.300:80` is not an address: write IP:PORT or [IPv6]:PORT, for example \"127.0.0.1:8080\"",
    );
    check(r#"["app.internal:0"]"#, "12 bad server in [upstream.u] | `0` is not the port of a server: write 1 to 65535");
    check(r#"["a..b:80"]"#, "12 bad server in [upstream.u] | `a..b` is neither an address nor a name");
    check(
        r#"[{ srv = "_http._tcp.x:80" }]"#,
        "20 bad value for `srv` in servers of [upstream.u] | SRV records say the port themselves: write \"_http._tcp.x\"",
    );
    check(
        r#"[{ srv = "_http._tcp.x", weight = 2 }]"#,
        "36 `weight` beside `srv` in one of the servers of [upstream.u] | the records say the weights: take it away",
    );
    check(
        r#"[{ address = "10.0.0.1:1", srv = "_http._tcp.x" }]"#,
        "38 one of the servers of [upstream.u] has both `address` and `srv` | keep one of the two",
    );
    let resolver = |line: &str, expect: &str| super::check(&format!("[resolver]\n{line}\n"), &[&format!("2:{expect}")]);
    resolver(
        "ttl_min = \"2m\"\nttl_max = \"1m\"",
        "11 `ttl_min` is longer than `ttl_max` | an answer cannot hold longer at least than at most",
    );
    resolver(
        "name_servers = [\"127.0.0.1:0\"]",
        "17 bad value for `name_servers` in [resolver] | port 0 answers nobody: name servers have port 53",
    );
}
