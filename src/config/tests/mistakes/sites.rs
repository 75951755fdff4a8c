//! `[site.NAME]`: its hosts.

use super::*;

#[test]
fn hosts() {
    let host = |text: &str, label: &str| {
        let site = format!("[site.s]\nhosts = [\"{text}\"]\n[[site.s.route]]\npath = \"/\"\nrespond = {{}}");
        check(&site, &[&format!("2:10 bad host in [site.s] | {label}")]);
    };
    host("example.org:80", "a host is written without a port: \"example.org\"; the port belongs to a [listener.NAME]");
    host("https://example.org/x", "a host has no scheme: write \"example.org\"");
    host("www.*.org", "`*` stands alone, at the beginning, or at the end: \"*.example.org\", \"www.example.*\"");
    host("a..b", "`a..b` is not a host name: write one such as \"example.org\" or \"*.example.org\"");
    host("bücher.example", "write an international name in its ASCII form, which begins with `xn--`");
    host("[::1]:80", "an IPv6 address as host is written \"[::1]\", without a port");
    let sites = |first: &str, second: &str| {
        format!(
            "[site.a]\nhosts = {first}\n[[site.a.route]]\npath = \"/\"\nrespond = {{}}\n[site.b]\nhosts = {second}\n[[site.b.route]]\npath = \"/\"\nrespond = {{}}"
        )
    };
    let twice = |name: &str| {
        format!(
            "7:9 host \"{name}\" belongs to two sites of [listener.base]: a and b | give each site names of its own, or other listeners"
        )
    };
    check(&sites("\"x.org\"", "\"X.ORG.\""), &[&twice("x.org")]);
    check(&sites("\"*.x.org\"", "\"*.x.org\""), &[&twice("*.x.org")]);
    check(&sites("\"*\"", "\"*\""), &[&twice("*")]);
    check(&sites("\"x.org\"", "\"y.org\""), &[]);
    check(&sites("[\"x.org\", \"x.org\"]", "\"y.org\""), &["2:19 a host stands twice in [site.a] | take it away"]);
    check(
        &sites("[]", "\"y.org\""),
        &["2:9 bad value for `hosts` in [site.a] | it is empty: write the names, or \"*\" for any"],
    );
    check(
        &sites("\"x.org\"\ndefault = true", "\"y.org\"\ndefault = true"),
        &["9:11 two sites of [listener.base] are the default | keep `default = true` in one of them"],
    );
    // The same name on another listener is another site.
    let apart = "[listener.o]\naddress = \"127.0.0.1:1\"\n[site.o]\nhosts = \"base.invalid\"\nlisteners = [\"o\"]\n[[site.o.route]]\npath = \"/\"\nrespond = {}";
    check(apart, &[]);
}
