//! Who may come in: what listeners, sites and routes say about it, and their mistakes.

use super::*;
use crate::config::model::Satisfy;
use crate::guard::Source;

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_listener_believes_the_proxies_it_names() {
    let listener = |lines: &str| {
        let text = format!("[listener.l]\naddress = \"127.0.0.1:1\"\n{lines}\n");
        config(&format!("{text}[site.l]\nlisteners = \"l\"\nroute = [{{ path = \"/\", files = \"/x\" }}]\n{BASE}"))
            .listeners
            .remove(0)
    };
    let plain = listener("");
    assert!(!plain.proxy_protocol && plain.trust.is_none());
    assert!(!listener("proxy_protocol = \"off\"\ntrusted_proxies = []").proxy_protocol);
    let behind = listener("proxy_protocol = \"required\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]");
    let trust = behind.trust.expect("trust");
    assert!(behind.proxy_protocol && trust.is_trusted(ip("10.1.2.3")) && trust.is_trusted(ip("::1")));
    assert!(!trust.is_trusted(ip("11.0.0.0")));
    assert_eq!(trust.header(), "x-forwarded-for");
    let other = listener("trusted_proxies = \"10.0.0.1\"\nreal_ip_header = \"CF-Connecting-IP\"");
    assert_eq!(other.trust.expect("trust").header(), "cf-connecting-ip");
}

/// Compiles routes of one site; each gives its route's line and says whether 10.0.0.1 may come in, and the realm.
fn guards(site: &str, routes: &[&str]) -> Vec<(bool, Option<String>)> {
    let routes: String = routes
        .iter()
        .enumerate()
        .map(|(at, line)| format!("[[site.s.route]]\npath = \"/{at}\"\nrespond = {{}}\n{line}\n"))
        .collect();
    let (config, problems, _) = outside(&format!("[site.s]\nlisteners = \"base\"\nhosts = \"s\"\n{site}\n{routes}"));
    assert_eq!(problems, [""; 0]);
    let site = &config.sites[0];
    let of_routes = site.routes.iter().map(|route| (&route.options.access, &route.options.auth));
    let all = std::iter::once((&site.options.access, &site.options.auth)).chain(of_routes);
    let admits = |access: &Option<std::sync::Arc<crate::guard::AddressRules>>| {
        access.as_ref().is_none_or(|rules| rules.admits(Source::Ip(ip("10.0.0.1"))))
    };
    let realm = |auth: &std::sync::Arc<crate::guard::Auth>| {
        assert_eq!(auth.users().count(), 1);
        String::from_utf8_lossy(auth.challenge()).split('"').nth(1).unwrap_or_default().to_owned()
    };
    all.map(|(access, auth)| (admits(access), auth.as_ref().map(realm))).collect()
}

#[test]
fn a_route_takes_what_its_site_says_unless_it_says_something_itself() {
    let login = |realm: &str| format!("auth = {{ realm = \"{realm}\", users_file = \"/users\" }}");
    let some = |realm: &str| Some(realm.to_owned());
    assert_eq!(guards("", &[""]), [(true, None), (true, None)]);
    assert_eq!(
        guards(
            &format!("access = [\"deny 10.0.0.0/8\"]\n{}", login("site")),
            &["", "access = [\"allow 10.0.0.1\", \"deny all\"]", "access = []", "auth = false", &login("route")]
        ),
        [
            (false, some("site")),
            (false, some("site")),
            (true, some("site")),
            (true, some("site")),
            (false, None),
            (false, some("route")),
        ]
    );
    assert_eq!(
        guards("auth = false", &[&login("route"), "access = \"deny all\""]),
        [(true, None), (true, some("route")), (false, None)]
    );
    let table = "[site.s.auth]\nrealm = \"table\"\nusers_file = \"/users\"";
    assert_eq!(guards(table, &[""]), [(true, some("table")), (true, some("table"))]);
}

#[test]
fn mistakes_in_addresses_are_told_with_advice() {
    let listener = |lines: &str, expect: &[&str]| {
        let text = format!("[listener.l]\naddress = \"127.0.0.1:1\"\n{lines}\n");
        check(&format!("{text}[site.l]\nlisteners = \"l\"\nroute = [{{ path = \"/\", files = \"/x\" }}]\n"), expect);
    };
    listener(
        "trusted_proxies = [\"10.0.0.1/8\", \"proxy.example\", \"10.0.0.0/8\"]",
        &[
            "3:20 bad value for `trusted_proxies` in [listener.l] | 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
            "3:34 bad value for `trusted_proxies` in [listener.l] | names are not resolved: write the IP address of `proxy.example`",
        ],
    );
    listener(
        "proxy_protocol = \"on\"",
        &["3:18 bad value for `proxy_protocol` in [listener.l] | `on` is not known: write \"off\" or \"required\""],
    );
    listener(
        "proxy_protocol = true",
        &[
            "3:18 bad value for `proxy_protocol` in [listener.l] | it is `true`, but the key takes \"off\" or \"required\"",
        ],
    );
    listener(
        "real_ip_header = \"X Real IP\"",
        &[
            "3:18 bad value for `real_ip_header` in [listener.l] | `X Real IP` is not the name of a field: write X-Forwarded-For",
        ],
    );
    listener(
        "real_ip_header = \"proxy_protocol\"",
        &[
            "3:18 bad value for `real_ip_header` in [listener.l] | write proxy_protocol = \"required\": its address counts without this key",
        ],
    );
    listener(
        "set_real_ip_from = \"10.0.0.0/8\"",
        &[
            "3:1 unknown key `set_real_ip_from` in [listener.l] | what nginx calls so is `trusted_proxies` here; it takes a list; each entry is a network, for example \"10.0.0.0/8\", or an IP address",
        ],
    );
    check_route(
        "path = \"/\"\nrespond = {}\naccess = [\"allow 10.0.0.1/8\", \"deny all;\", \"all\"]\nallow = \"x\"",
        &[
            "6:11 bad value for `access` in [[site.s.route]] | 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
            "6:31 bad value for `access` in [[site.s.route]] | a rule has no semicolon: write \"deny all\"",
            "6:44 bad value for `access` in [[site.s.route]] | `all` is not a rule: write \"allow\" or \"deny\" and a network, an address, \"unix:\" or \"all\"",
            "7:1 unknown key `allow` in [[site.s.route]] | what nginx calls so is `access` here; it takes a list; each entry is a rule, for example \"allow 10.0.0.0/8\" or \"deny all\"",
        ],
    );
}

#[test]
fn mistakes_in_logins_are_told_with_advice() {
    let login = |line: &str, expect: &[&str]| check_route(&format!("path = \"/\"\nrespond = {{}}\n{line}"), expect);
    let takes = "the key takes a table such as { realm = \"staff\", users_file = \"/etc/one-server/users\" }, or false";
    login("auth = true", &["6:8 bad value for `auth` in [[site.s.route]] | write the table, or `false` for no login"]);
    login("auth = \"staff\"", &[&format!("6:8 bad value for `auth` in [[site.s.route]] | it is a text, but {takes}")]);
    login(
        "auth = { realm = \"a\\nb\" }",
        &[
            "6:8 missing key `users_file` in auth of [[site.s.route]] | add `users_file`: a path, for example \"/var/www/html\"",
            "6:18 bad value for `realm` in auth of [[site.s.route]] | '\\n' cannot stand in a header field: write visible ASCII characters",
        ],
    );
    login(
        "auth = { realm = \"a\", users_file = \"/u\", user = \"b\" }",
        &["6:42 unknown key `user` in auth of [[site.s.route]] | `user` belongs in [process]"],
    );
}

#[test]
fn bad_lines_of_a_users_file_are_told() {
    let login = |file: &str| {
        let text = route(&format!("path = \"/\"\nrespond = {{}}\nauth = {{ realm = \"r\", users_file = \"{file}\" }}"));
        let (_, problems, warnings) = outside(&text);
        (problems, warnings)
    };
    assert_eq!(login("/users"), (vec![], vec![]));
    let bad = "bad value for `users_file` in auth of [[site.s.route]]";
    assert_eq!(
        login("/bad-users").0,
        [
            format!(
                "{bad} | /bad-users: line 1: user `bob` has a password in plain text, which is refused: write it anew with `htpasswd -B`"
            ),
            format!(
                "{bad} | /bad-users: line 3: user `alice` has a DES password (crypt), which is too weak and refused: write it anew with `htpasswd -B`"
            ),
        ]
    );
    assert_eq!(login("/none").0, [format!("{bad} | it cannot be read: entity not found")]);
    assert_eq!(login("/empty").1, ["/empty has no users | nobody can log in: add one with `htpasswd -B`"]);
}

#[test]
fn what_is_probably_not_meant_is_told() {
    let listener = |lines: &str| {
        let text = format!("[listener.l]\naddress = \"127.0.0.1:1\"\n{lines}\n");
        warnings(&format!("{text}[site.l]\nlisteners = \"l\"\nroute = [{{ path = \"/\", respond = {{}} }}]\n"))
    };
    assert_eq!(
        listener("proxy_protocol = \"required\""),
        ["[listener.l] believes the PROXY header of everyone who can reach it"]
    );
    assert!(listener("proxy_protocol = \"required\"\ntrusted_proxies = []").is_empty(), "said on purpose");
    assert_eq!(listener("trusted_proxies = [\"::1\", \"0.0.0.0/0\"]"), ["[listener.l] believes everyone"]);
    assert_eq!(listener("real_ip_header = \"X-Real-IP\""), ["`real_ip_header` of [listener.l] is never read"]);
    let rules = |rules: &str| warnings(&route(&format!("path = \"/\"\nrespond = {{}}\naccess = [{rules}]")));
    assert_eq!(rules("\"deny all\", \"allow 10.0.0.1\""), ["a rule in [[site.s.route]] never matches"]);
    assert!(rules("\"allow 10.0.0.1\", \"deny all\"").is_empty());
}

#[test]
fn auth_requests_are_inherited_and_their_mistakes_told() {
    let site = |lines: &str, routes: &str| {
        format!("[site.s]\nlisteners = [\"base\"]\n{lines}\nroute = [\n{routes}\n]\n{BASE}")
    };
    let auth = "{ exact = \"/auth\", internal = true, respond = {} }";
    let text = site(
        "auth_request = \"/auth?x=1\"\nauth_request_headers = [\"X-User\"]\nsatisfy = \"any\"",
        &format!(
            "{{ path = \"/\", respond = {{}} }},\n{{ path = \"/a\", auth_request = false, satisfy = \"all\", respond = {{}} }},\n\
             {{ path = \"/b\", auth_request_headers = [], respond = {{}} }},\n{auth}"
        ),
    );
    let compiled = config(&text);
    let of = |at: usize| {
        let options = &compiled.sites[0].routes[at].options;
        (options.auth_request.as_deref(), options.auth_request_headers.join(","), options.satisfy)
    };
    assert_eq!(of(0), (Some("/auth?x=1"), "X-User".into(), Satisfy::Any));
    assert_eq!(of(1), (None, "X-User".into(), Satisfy::All));
    assert_eq!(of(2), (Some("/auth?x=1"), String::new(), Satisfy::Any));
    let bad = |lines: &str, expect: &[&str]| {
        assert_eq!(problems(&site(lines, "{ path = \"/api/\", respond = {} }")), expect, "{lines}");
    };
    bad(
        "auth_request = \"/auth\"",
        &[
            "3:16 no route of [site.s] answers `/auth`, which auth_request asks | add one with `exact = \"/auth\"` and `internal = true`",
        ],
    );
    bad("auth_request = \"/api/auth\"", &[]);
    bad(
        "auth_request = \"http://auth/\"",
        &[
            "3:16 bad value for `auth_request` in [site.s] | it is a path of the same site, whose route may be a `proxy`: it begins with `/`",
        ],
    );
    bad(
        "auth_request = true",
        &[
            "3:16 bad value for `auth_request` in [site.s] | it is `true`, but the key takes a path of the site such as \"/auth\", or false",
        ],
    );
    bad(
        "auth_request_headers = [\"Host\", \"Connection\"]",
        &[
            "3:25 bad field `Host` in auth_request_headers of [site.s] | a request keeps the Host it came with",
            "3:33 bad field `Connection` in auth_request_headers of [site.s] | `Connection` is about one connection, and the server handles its connections itself",
        ],
    );
    bad(
        "satisfy = \"some\"",
        &["3:11 bad value for `satisfy` in [site.s] | `some` is not known: write \"all\" or \"any\""],
    );
}
