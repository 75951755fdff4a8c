//! Variables of the config's own (`map`, `geo`, `split_clients`, `set`) and conditions (`if`), at the real binary. People
//! come from nginx with tables of thousands of lines; so nginx and we get the same tables and are asked the same. And a
//! client's words must stay values, whatever table they have gone through.

mod support;

use std::path::Path;

use support::nginx::Nginx;
use support::tools::{curl, values};
use support::*;

/// Texts that are looked up, and names.
const TEXTS: &[&str] = &[
    "",
    "abc",
    "ABC",
    "abcd",
    "aB",
    "bcd",
    "XBC",
    "12-345",
    "12-",
    "~tilde",
    "\\~tilde",
    "default",
    "0",
    "00",
    "a.test",
    "A.Test.",
    "x.a.test",
    "x.y.a.test",
    "b.test",
    "x.b.test",
    "www.",
    "www.x",
    "www.x.y.",
    "www.long.x",
    "m.org",
    "org",
    "*.a.test",
    "a b",
    "$host",
    "\u{e4}\u{f6}",
];

const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.1.0.1",
    "10.1.2.3",
    "10.1.2.4",
    "11.0.0.0",
    "127.0.0.1",
    "2001:db8::1",
    "2001:db9::1",
    "2001:DB8:0:0::2",
    "::ffff:10.1.2.3",
    "::1",
    "",
    "x",
    "10.1.2",
    "256.1.1.1",
    "10.1.2.3:80",
];

const NGINX: &str = r#"
    map $http_x $plain {
        default  other;
        ""       empty;
        AbC      exact;
        \~tilde  tilde;
        \default word;
        "a b"    "two words";
        ~^ab     first;
        ~*^A     second;
        ~^(?<n>\d+)-(\d+)$ "$2/$n/$1";
        ~BC      "<$plain2>";
    }
    map $http_x $plain2 { ~^(.)(.) "$2$1 $http_y"; }
    map $http_x $name {
        hostnames;
        a.test     exact;
        *.a.test   suffix;
        *.y.a.test "long suffix";
        .b.test    below;
        www.*      prefix;
        www.long.* "long prefix";
        ~org$      regex;
    }
    geo $arg_ip $net { default -; 10.0.0.0/8 lan; 10.1.0.0/16 lab; 10.1.2.3/32 one; 2001:db8::/32 six; 127.0.0.0/8 loop; }
    geo $client { default -; 127.0.0.0/8 me; }
    split_clients "$arg_id" $share { 0.5% a; 20% b; * c; }
    split_clients "id=$arg_id&x=$http_x" $open { 30% x; 33.33% y; }
    map $status $loggable { ~^[23] 0; default 1; }
    keepalive_requests 100000;
    log_format own "$status $plain $request_uri";
    server {
        listen $LISTEN;
        access_log $DIR/own.log own if=$loggable;
        set $greeting "hello $http_y";
        location = /text { add_header X-Plain $plain; return 200 "$plain|$name"; }
        location = /geo { return 200 "$net $client"; }
        location = /split { return 200 "$share $open"; }
        location = /set { set $who "me-$http_x"; add_header X-Who $who; return 200 "$greeting $who"; }
        location = /true { if ($http_x) { return 200 yes; } return 200 no; }
        location = /is { if ($http_x = abc) { return 200 yes; } return 200 no; }
        location = /is-not { if ($http_x != "a b") { return 200 yes; } return 200 no; }
        location = /is-field { if ($http_x = $http_y) { return 200 yes; } return 200 no; }
        location = /like { if ($http_x ~ ^ab) { return 200 yes; } return 200 no; }
        location = /like-any { if ($http_x ~* "^AB") { return 200 yes; } return 200 no; }
        location = /unlike { if ($http_x !~ ^ab) { return 200 yes; } return 200 no; }
        location = /unlike-any { if ($http_x !~* ^AB) { return 200 yes; } return 200 no; }
        location = /mapped { if ($plain = second) { return 200 yes; } return 200 no; }
        location = /moved { if ($plain2) { return 301 /new/$plain; } return 404; }
    }
"#;

const OURS: &str = r#"
[map.plain]
from = "$http_x"
default = "other"
[map.plain.values]
"" = "empty"
AbC = "exact"
'\~tilde' = "tilde"
'\default' = "word"
"a b" = "two words"
"~^ab" = "first"
"~*^A" = "second"
'~^(?<n>\d+)-(\d+)$' = "$2/$n/$1"
"~BC" = "<$plain2>"

[map.plain2]
from = "$http_x"
values = { "~^(.)(.)" = "$2$1 $http_y" }

[map.name]
from = "$http_x"
hostnames = true
[map.name.values]
"a.test" = "exact"
"*.a.test" = "suffix"
"*.y.a.test" = "long suffix"
".b.test" = "below"
"www.*" = "prefix"
"www.long.*" = "long prefix"
"~org$" = "regex"

[geo.net]
from = "$arg_ip"
default = "-"
values = { "10.0.0.0/8" = "lan", "10.1.0.0/16" = "lab", "10.1.2.3" = "one", "2001:db8::/32" = "six", "127.0.0.0/8" = "loop" }

[geo.client]
default = "-"
values = { "127.0.0.0/8" = "me" }

[split.share]
from = "$arg_id"
shares = ["0.5% a", "20% b", "* c"]

[split.open]
from = "id=$arg_id&x=$http_x"
shares = ["30% x", "33.33% y"]

[map.loggable]
from = "$status"
default = "1"
values = { "~^[23]" = "0" }

[site.main]
log_access = "$loggable"
variables = { greeting = "hello $http_y" }
route = [
  { exact = "/text", respond = { body = "$plain|$name" }, headers = { set = { X-Plain = "$plain" } } },
  { exact = "/geo", respond = { body = "$net $client" } },
  { exact = "/split", respond = { body = "$share $open" } },
  { exact = "/set", variables = { who = "me-$http_x" }, respond = { body = "$greeting $who" }, headers = { set = { X-Who = "$who" } } },
  { exact = "/true", when = "$http_x", respond = { body = "yes" } },
  { exact = "/is", when = "$http_x = abc", respond = { body = "yes" } },
  { exact = "/is-not", when = "$http_x != 'a b'", respond = { body = "yes" } },
  { exact = "/is-field", when = "$http_x = $http_y", respond = { body = "yes" } },
  { exact = "/like", when = "$http_x ~ ^ab", respond = { body = "yes" } },
  { exact = "/like-any", when = '$http_x ~* "^AB"', respond = { body = "yes" } },
  { exact = "/unlike", when = "$http_x !~ ^ab", respond = { body = "yes" } },
  { exact = "/unlike-any", when = "$http_x !~* ^AB", respond = { body = "yes" } },
  { exact = "/mapped", when = "$plain = second", respond = { body = "yes" } },
  { exact = "/moved", when = "$plain2", redirect = { to = "/new/$plain", status = 301 } },
  { regex = '^/(true|is|is-not|is-field|like|like-any|unlike|unlike-any|mapped)$', respond = { body = "no" } },
]
"#;

/// Status, body, and the fields that the tables write.
fn told(client: &mut Client, target: &str, x: &str) -> String {
    // A field that is not there and an empty one are the same to both.
    let fields = [format!("X: {x}"), "Y: abc".into()];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let response = client.ask(request("GET", target, &fields, ""));
    let field = |name: &str| response.field(name).unwrap_or_default().to_owned();
    let body = if response.status == 200 { response.text() } else { String::new() };
    format!("{} {body:?} {} {} {}", response.status, field("x-plain"), field("x-who"), field("location"))
}

fn log_lines(path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("the log has its lines", || read().lines().count() >= count);
    let mut lines: Vec<String> = read().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn tables_and_conditions_are_nginxs() {
    let Some(nginx) = Nginx::start(NGINX, &[]) else { return };
    let log = "access = \"$DIR/own.log\"\nformat = \"$status $plain $request_uri\"\n";
    let server = Site::new(Driver::Auto, OURS).http("keep_alive_requests_max = 0").log(log).start();
    let (mut ours, mut theirs) = (server.connect(), Client::connect(nginx.address));
    let mut asked = 0;
    let mut compare = |target: &str, x: &str| {
        let (ours, theirs) = (told(&mut ours, target, x), told(&mut theirs, target, x));
        assert_eq!(ours, theirs, "one-server left, nginx right: {target} {x:?}");
        asked += usize::from(ours.starts_with('4'));
        ours
    };
    let paths = [
        "/text",
        "/set",
        "/true",
        "/is",
        "/is-not",
        "/is-field",
        "/like",
        "/like-any",
        "/unlike",
        "/unlike-any",
        "/mapped",
    ];
    for text in TEXTS {
        paths.iter().for_each(|path| drop(compare(path, text)));
    }
    for text in ["abc", "12-3", ""] {
        compare("/moved", text);
    }
    assert_eq!(compare("/text", "12-345"), "200 \"345/12/12|\" 345/12/12  ");
    for address in ADDRESSES {
        // The IPv6 form of an IPv4 address counts as IPv4 in both.
        compare(&format!("/geo?ip={address}"), "");
    }
    let mut shares = std::collections::BTreeMap::<String, usize>::new();
    for id in 0..1000 {
        *shares.entry(compare(&format!("/split?id=user-{id}"), "y")).or_default() += 1;
    }
    assert_eq!(shares.len(), 9, "{shares:?}");
    // Both write the same lines: those of errors.
    ["/none", "/none?a=1"].iter().for_each(|path| drop(compare(path, "abc")));
    assert!(asked >= 3);
    let lines = log_lines(&nginx.folder().join("own.log"), asked);
    assert_eq!(log_lines(&server.folder().join("own.log"), asked), lines);
}

/// A route that is not there leaves the request to the others, whatever they are.
#[test]
fn a_route_that_is_not_there_leaves_the_request_to_others() {
    let site = r#"
[map.mobile]
from = "$http_user_agent"
values = { "~*(android|iphone)" = "1" }
[site.main]
variables = { staff = "$cookie_staff" }
route = [
  { path = "/", respond = { body = "root" } },
  { path = "/shop/", when = "$mobile", respond = { body = "mobile" } },
  { path = "/shop/", when = ["$arg_v = 2", "$staff"], methods = ["GET"], respond = { body = "staff" } },
  { path = "/shop/", methods = ["GET", "POST"], respond = { body = "shop" } },
  { path = "/shop/cart/", when = "$cookie_cart", over_regex = true, respond = { body = "cart" } },
  { regex = '\.php$', when = "!$mobile", respond = { body = "php" } },
  { path = "/put/", when = "$http_token", methods = ["PUT"], respond = { body = "put" } },
  { regex = '^/(?<who>[a-z]+)/edit$', when = "$who = $cookie_user", respond = { body = "edit $who" } },
]
"#;
    with_both_drivers(|driver| {
        let server = Site::new(driver, site).start();
        let mut client = server.connect();
        let mut check = |method: &str, target: &str, fields: &[&str], status: u16, text: &str| {
            let response = client.ask(request(method, target, fields, ""));
            let told = if status == 200 { response.text() } else { response.field("allow").unwrap_or_default().into() };
            assert_eq!((response.status, told.as_str()), (status, text), "{method} {target} {fields:?}");
        };
        let phone = "User-Agent: Android";
        check("GET", "/shop/x", &[phone], 200, "mobile");
        check("DELETE", "/shop/x", &[phone], 200, "mobile");
        check("GET", "/shop/x", &[], 200, "shop");
        check("GET", "/shop/x?v=2", &["Cookie: staff=1"], 200, "staff");
        check("GET", "/shop/x?v=2", &["Cookie: staff=0"], 200, "shop");
        check("POST", "/shop/x?v=2", &["Cookie: staff=1"], 200, "shop");
        check("DELETE", "/shop/x", &[], 405, "GET, HEAD, POST, OPTIONS");
        check("OPTIONS", "/shop/x", &[], 204, "GET, HEAD, POST, OPTIONS");
        check("GET", "/shop/cart/x.php", &["Cookie: cart=1"], 200, "cart");
        check("GET", "/shop/cart/x.php", &[], 200, "php");
        check("GET", "/shop/cart/x.php", &[phone], 200, "mobile");
        check("GET", "/shop/cart/x", &[], 200, "shop");
        check("GET", "/put/x", &["Token: a"], 405, "PUT, OPTIONS");
        check("GET", "/put/x", &[], 200, "root");
        check("GET", "/bob/edit", &["Cookie: user=bob"], 200, "edit bob");
        check("GET", "/bob/edit", &["Cookie: user=eve"], 200, "root");
    });
}

/// `$remote_addr` is the client, not the proxy in front that is trusted.
#[test]
fn networks_are_those_of_the_client_behind_a_proxy() {
    let config = r#"
[listener.web]
address = "127.0.0.1:0"
trusted_proxies = "127.0.0.0/8"
[geo.place]
values = { "192.0.2.0/24" = "office", "127.0.0.0/8" = "here" }
default = "outside"
[site.main]
route = [
  { path = "/", when = "$place = office", respond = { body = "welcome" } },
  { path = "/", respond = { body = "$place" } },
]
"#;
    let server = Site::new(Driver::Auto, "").whole(config).start();
    for (forwarded, expect) in
        [("192.0.2.7", "welcome"), ("198.51.100.1", "outside"), ("192.0.2.7, 198.51.100.1", "outside")]
    {
        let field = format!("X-Forwarded-For: {forwarded}");
        assert_eq!(server.connect().ask(request("GET", "/", &[&field], "")).text(), expect, "{forwarded}");
    }
    assert_eq!(server.connect().ask(get("/")).text(), "here");
}

/// RFC 9112 section 11.1, RFC 3986 section 4.2: a value stays a value, through any table.
#[test]
fn no_value_leaves_its_place_through_a_table() {
    let site = r#"
[map.whole]
from = "$path"
values = { "~(?s)^/[a-z]+/(.*)$" = "/to/$1" }
[map.bare]
from = "$path"
values = { "~(?s)^/[a-z]+(/.*)$" = "$1" }
[map.asked]
from = "$request_uri"
values = { '~\?(.*)$' = "/to?$1" }
[map.field]
from = "$http_x"
values = { "~(?s)^(.*)$" = "$1 $http_x" }
[site.main]
variables = { again = "$whole" }
route = [
  { path = "/whole/", redirect = "$whole" },
  { path = "/again/", redirect = "$again" },
  { path = "/bare/", redirect = "$bare" },
  { path = "/query/", redirect = "$asked" },
  { path = "/field/", respond = { body = "ok" }, headers = { set = { X-Copy = "$field", X-Path = "$whole" } } },
  { path = "/html/", respond = { body = "<p>$whole $field</p>", content_type = "text/html" } },
]
"#;
    let server = Site::new(Driver::Auto, site).start();
    for (target, location) in [
        ("/whole/a%20b%3Fc", "/to/a%20b%3Fc"),
        ("/whole/%E4%23x", "/to/%E4%23x"),
        ("/again/%25", "/to/%25"),
        ("/bare/evil.test/x", "/evil.test/x"),
        ("/bare//evil.test/x", "/evil.test/x"),
        ("/bare/%5Cevil.test", "/%5Cevil.test"),
        ("/query/?a=%0d%0aSet-Cookie:x&b", "/to?a=%0d%0aSet-Cookie:x&b"),
    ] {
        let response = server.connect().ask(get(target));
        assert_eq!((response.status, response.field("location")), (308, Some(location)), "{target}");
        assert_eq!(response.field("set-cookie"), None);
    }
    // What a path may not hold is refused before; what remains never begins another line.
    for path in ["/whole/a%0d%0aSet-Cookie:%20b=c", "/field/%0d%0aSet-Cookie:%20b=c"] {
        let response = server.connect().ask(get(path));
        assert_eq!(response.field("set-cookie"), None, "{path}: {}", response.status);
    }
    let response = server.connect().ask(request("GET", "/field/x", &["X: a\tb\u{e4} c"], ""));
    assert_eq!(values(&response, "x-copy").len(), 1);
    assert_eq!(response.field("x-path"), Some("/to/x"));
    let page = server.connect().ask(request("GET", "/html/%3Cb%3E", &["X: <script>'\""], ""));
    assert_eq!(page.text(), "<p>/to/&lt;b&gt; &lt;script&gt;&#39;&#34; &lt;script&gt;&#39;&#34;</p>");
}

/// The exchange is the same in both versions; what names and fields look like is not.
#[test]
fn http2_asks_the_same_tables() {
    if !has_program("curl") {
        return;
    }
    let log = "access = \"$DIR/own.log\"\nformat = \"$status $plain $greeting\"\n";
    let server = Site::new(Driver::Auto, OURS).http("variables = { greeting = \"none\" }").log(log).start();
    let ask = |target: &str, field: &str| {
        let got = curl("http", server.web(), target, &["--http2-prior-knowledge", "-H", field, "-H", "Y: you"]);
        (got.status, got.text())
    };
    assert_eq!(ask("/text", "X: 12-345"), (200, "345/12/12|".into()));
    assert_eq!(ask("/mapped", "X: Axyz"), (200, "yes".into()));
    assert_eq!(ask("/mapped", "X: other"), (200, "no".into()));
    assert_eq!(ask("/set", "X: z"), (200, "hello you me-z".into()));
    assert_eq!(ask("/none", "X: abc").0, 404);
    assert_eq!(log_lines(&server.folder().join("own.log"), 1), ["404 exact hello you"]);
}

/// What is known only at the end: the log and the fields of the answer may be made of it.
#[test]
fn variables_of_the_answer_reach_fields_and_log() {
    let upstream = FakeUpstream::start(|exchange| exchange.ok("from the upstream"));
    let site = format!(
        r#"
[map.kind]
from = "$status $sent_http_content_type"
values = {{ "~^200 (text)/(.*)" = "$1-$2", "~^404" = "lost at $where" }}
default = "else"
[upstream.up]
servers = "{}"
health = false
[site.main]
headers = {{ set = {{ X-Kind = "$kind", X-Where = "$where" }} }}
route = [
  {{ path = "/up/", proxy = "up", variables = {{ where = "up $1" }}, request_headers = {{ set = {{ X-Where = "$where" }} }} }},
  {{ path = "/text/", respond = {{ body = "text" }}, variables = {{ where = "text" }}, log_access = ["$kind ~ ^text", "$arg_log"] }},
]
"#,
        upstream.address
    );
    let log = "access = \"$DIR/own.log\"\nformat = '{\"k\":\"$kind\",\"w\":$where,\"a\":$arg_a}'\nescape = \"json\"\n";
    let server = Site::new(Driver::Auto, &site).http("variables = { where = \"nowhere\" }").log(log).start();
    let ask = |target: &str| {
        let response = server.connect().ask(get(target));
        let field = |name: &str| response.field(name).unwrap_or_default().to_owned();
        (response.status, field("x-kind"), field("x-where"))
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(ask("/text/x"), (200, text("text-plain; charset=utf-8"), text("text")));
    assert_eq!(ask("/text/x?log=1"), (200, text("text-plain; charset=utf-8"), text("text")));
    assert_eq!(ask("/none"), (404, text("lost at nowhere"), text("nowhere")));
    assert_eq!(ask("/up/a%20b").2, "up a b");
    assert_eq!(upstream.last().field("x-where"), Some("up a b"));
    let lines = log_lines(&server.folder().join("own.log"), 3);
    assert_eq!(
        lines,
        [
            r#"{"k":"else","w":"up a b","a":null}"#,
            r#"{"k":"lost at nowhere","w":"nowhere","a":null}"#,
            r#"{"k":"text-plain; charset=utf-8","w":"text","a":null}"#,
        ]
    );
}

/// The routes of a name are chosen among as those of a path are.
#[test]
fn a_last_resort_may_have_conditions() {
    with_both_drivers(|driver| {
        let rest = "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = { root = \"$DIR/root\", fallback = \"@last\" }\n\
             [[site.main.route]]\nname = \"last\"\nwhen = \"$arg_beta\"\nrespond = { body = \"beta\" }\n\
             [[site.main.route]]\nname = \"last\"\nmethods = [\"GET\"]\nwhen = \"!$arg_none\"\nrespond = { body = \"stable\" }\n";
        let server = Site::new(driver, rest).file("root/there.txt", b"a file").start();
        let ask = |target: &str| server.connect().ask(get(target));
        assert_eq!(ask("/there.txt?beta=1").text(), "a file", "{driver:?}");
        assert_eq!(ask("/x?beta=1").text(), "beta", "{driver:?}");
        assert_eq!(ask("/x").text(), "stable", "{driver:?}");
        assert_eq!(ask("/x?none=1").status, 404, "{driver:?}");
        assert_eq!(server.connect().ask(post("/x?beta=1", "body")).text(), "beta", "{driver:?}");
        assert_eq!(server.connect().ask(post("/x", "body")).status, 405, "{driver:?}");
    });
}
