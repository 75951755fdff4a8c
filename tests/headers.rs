//! The fields of answers and of requests that go on, as the config changes them: which level wins, which statuses count,
//! what a value may hold. A rule that is lost is a security header that is lost; a value that escapes is a second header.

mod support;

use std::time::SystemTime;

use support::frames::{Block, Http2, Outcome, WHOLE, headers};
use support::tools::{curl, make_certificate, values};
use support::upstream::Then;
use support::*;

/// An upstream that answers with fields of its own; its target's end is the status.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let status = exchange.request.target.rsplit('/').next().unwrap_or_default();
        let status = status.parse().unwrap_or(200);
        exchange.send(format!(
            "HTTP/1.1 {status} Such\r\nServer: upstream/1\r\nX-Powered-By: PHP\r\nX-Mine: upstream\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
             Set-Cookie: a=1\r\nContent-Type: text/html\r\nLink: <own>\r\nContent-Length: 2\r\n\r\nok"
        ));
        Then::Keep
    })
}

fn with(upstream: &FakeUpstream, text: &str) -> String {
    format!("{}\n[upstream.up]\nservers = [\"{}\"]\nhealth = false\n", text, upstream.address)
}

fn ask(server: &Server, path: &str) -> Response {
    server.connect().ask(get(path))
}

#[test]
fn the_lower_level_wins_field_by_field() {
    let upstream = upstream();
    let site = r#"
[site.main]
headers = { set = { X-Level = "site", X-Site = "site" }, add = { X-More = "site" }, remove = ["X-Twice"] }
route = [
  { path = "/", proxy = "up" },
  { path = "/route/", proxy = "up", headers = { set = { X-Level = "route", X-Route = "$1" }, add = { Link = ["<a>", "<b>"] }, remove = ["X-Http"] } },
  { path = "/empty/", proxy = "up", headers = { set = { X-Level = "", X-Mine = "$arg_none" }, add = { X-More = "" } } },
  { path = "/text/", respond = { body = "text" }, headers = { set = { Content-Type = "text/x-own", Server = "other", Date = "never" } } },
]
[site.other]
hosts = "other.test"
route = [{ path = "/", proxy = "up" }]
"#;
    let server = Site::new(Driver::Auto, &with(&upstream, site))
        .http("headers = { set = { X-Level = \"http\", X-Http = \"http\" }, remove = [\"X-Powered-By\"] }")
        .start();
    let response = ask(&server, "/x");
    assert_eq!(response.field("x-level"), Some("site"));
    assert_eq!(response.field("x-site"), Some("site"));
    assert_eq!(response.field("x-http"), Some("http"));
    assert_eq!(response.field("x-more"), Some("site"));
    assert_eq!(response.field("x-powered-by"), None);
    assert_eq!(response.field("x-twice"), None);
    assert_eq!(response.field("x-mine"), Some("upstream"));
    let response = ask(&server, "/route/deep/x");
    assert_eq!(response.field("x-level"), Some("route"));
    assert_eq!(response.field("x-site"), Some("site"));
    assert_eq!(response.field("x-http"), None);
    assert_eq!(response.field("x-route"), Some("deep/x"));
    assert_eq!(values(&response, "link"), ["<own>", "<a>", "<b>"]);
    // A value that turns out empty takes the field away, or adds none.
    let response = ask(&server, "/empty/x");
    assert_eq!(response.field("x-level"), None);
    assert_eq!(response.field("x-mine"), None);
    assert_eq!(response.field("x-site"), Some("site"));
    assert_eq!(response.field("x-more"), None);
    // Answers of our own get them too; the two that we write ourselves may be replaced, and stand once.
    let response = ask(&server, "/text/");
    assert_eq!(response.field("content-type"), Some("text/x-own"));
    assert_eq!(response.field("server"), Some("other"));
    assert_eq!(response.field("date"), Some("never"));
    assert_eq!(response.field("x-site"), Some("site"));
    let other = server.connect().ask("GET /x HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(other.field("x-level"), Some("http"));
    assert_eq!(values(&other, "x-twice"), ["1", "2"]);
}

#[test]
fn statuses_decide_where_a_rule_is_not_always() {
    let upstream = upstream();
    let site = r#"
[site.main]
headers = { set = { X-Usual = "1" }, always = false }
route = [
  { path = "/", proxy = "up" },
  { path = "/all/", proxy = "up", headers = { set = { X-All = "1" }, always = true } },
]
"#;
    let server = Site::new(Driver::Auto, &with(&upstream, site)).start();
    for status in [200, 201, 204, 206, 301, 302, 303, 304, 307, 308, 203, 300, 400, 404, 500, 503] {
        let usual = matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308);
        // A 304 or 204 with a length would be one too many.
        if matches!(status, 204 | 304) {
            continue;
        }
        let response = ask(&server, &format!("/{status}"));
        assert_eq!(response.status, status);
        assert_eq!(response.field("x-usual").is_some(), usual, "{status}");
        let response = ask(&server, &format!("/all/{status}"));
        assert_eq!(response.field("x-usual").is_some(), usual, "{status}");
        assert_eq!(response.field("x-all"), Some("1"), "{status}");
    }
}

#[test]
fn requests_go_on_with_the_fields_of_the_route() {
    let upstream = upstream();
    let site = r#"
[site.main]
request_headers = { set = { X-Site = "site", X-Level = "site" } }
route = [
  { path = "/", proxy = "up" },
  { path = "/route/", proxy = "up", request_headers = { set = { X-Level = "$request_method $1", Host = "inner.test", User-Agent = "" }, add = { X-List = ["1", "$arg_a"] }, remove = ["Cookie", "X-Forwarded-For"] } },
  { path = "/app/", app = "probe", request_headers = { set = { X-Level = "app $remote_addr", X-Client = "$http_x_real" }, remove = ["Cookie"] } },
]
[app.probe]
"#;
    let server = Site::probe(Driver::Auto, &with(&upstream, site)).start();
    let fields = ["X-Level: client", "X-Site: client", "Cookie: a=b", "User-Agent: me", "X-Real: r", "X-List: 0"];
    assert_eq!(server.connect().ask(request("POST", "/x", &fields, "body")).status, 200);
    let seen = upstream.last();
    assert_eq!(seen.field("x-level"), Some("site"));
    assert_eq!(seen.field("x-site"), Some("site"));
    assert_eq!(seen.field("cookie"), Some("a=b"));
    assert_eq!((seen.body.as_slice(), seen.field("content-length")), (&b"body"[..], Some("4")));
    assert_eq!(server.connect().ask(request("PUT", "/route/a%20b?a=2", &fields, "body")).status, 200);
    let seen = upstream.last();
    assert_eq!(seen.field("x-level"), Some("PUT a b"));
    assert_eq!(seen.field("host"), Some("inner.test"));
    assert_eq!(seen.field("user-agent"), None);
    assert_eq!(seen.field("cookie"), None);
    assert_eq!(seen.field("x-forwarded-for"), None);
    assert_eq!(seen.values("x-list"), ["0", "1", "2"]);
    assert_eq!(seen.body, b"body");
    let info = server.connect().ask(request("GET", "/app/info", &fields, "")).text();
    assert!(info.contains("field x-level: app 127.0.0.1"), "{info}");
    assert!(info.contains("field x-client: r"), "{info}");
    assert!(info.contains("field x-site: site"), "{info}");
    assert!(!info.contains("cookie"), "{info}");
    // A body that streams beside changed fields arrives whole.
    let large = "x".repeat(200_000);
    assert_eq!(server.connect().ask(request("POST", "/route/x", &fields, &large)).status, 200);
    assert!(upstream.last().body == large.as_bytes());
    assert_eq!(server.connect().ask(request("POST", "/app/size", &fields, &large)).text(), "200000 bytes");
}

#[test]
fn lifetimes_go_by_media_type() {
    let upstream = FakeUpstream::start(|exchange| {
        let fields = match exchange.request.target.as_str() {
            "/up/own" => "Cache-Control: private\r\nExpires: Thu, 01 Jan 1970 00:00:01 GMT\r\n",
            "/up/cc" => "Cache-Control: private\r\n",
            _ => "",
        };
        let status = if exchange.request.target == "/up/404" { 404 } else { 200 };
        exchange.send(format!("HTTP/1.1 {status} Ok\r\nContent-Type: text/css\r\n{fields}Content-Length: 0\r\n\r\n"));
        Then::Keep
    });
    let site = r#"
[site.main]
expires = { "text/css" = "1h", "image/*" = "30d", "*" = "no-cache" }
route = [
  { path = "/", files = "$DIR/root" },
  { path = "/up/", proxy = "up" },
  { path = "/fixed/", files = { root = "$DIR/root", strip_prefix = "/fixed" }, cache_control = "public, max-age=31536000, immutable" },
  { path = "/off/", files = { root = "$DIR/root", strip_prefix = "/off" }, expires = "off" },
  { path = "/unset/", proxy = "up", cache_control = "" },
]
"#;
    let server = Site::new(Driver::Auto, &with(&upstream, site))
        .file("root/a.css", b"a {}")
        .file("root/a.png", b"png")
        .file("root/a.html", b"html")
        .start();
    let told = |path: &str| {
        let response = ask(&server, path);
        let own = |name: &str| response.field(name).map(str::to_owned);
        (own("cache-control"), own("expires"))
    };
    let lasts = |path: &str, seconds: u64| {
        let (cache_control, expires) = told(path);
        assert_eq!(cache_control, Some(format!("max-age={seconds}")), "{path}");
        let until = httpdate::parse_http_date(&expires.expect("Expires")).expect("a date");
        let left = until.duration_since(SystemTime::now()).expect("later").as_secs();
        assert!(left.abs_diff(seconds) < 30, "{path}: {left}");
    };
    lasts("/a.css", 3600);
    lasts("/a.png", 30 * 86_400);
    lasts("/up/x", 3600);
    let (cache_control, expires) = told("/a.html");
    assert_eq!(cache_control.as_deref(), Some("no-cache"));
    assert!(httpdate::parse_http_date(&expires.expect("Expires")).expect("a date") < SystemTime::now());
    // An answer that says itself how long it lasts keeps its word.
    assert_eq!(told("/up/own"), (Some("private".into()), Some("Thu, 01 Jan 1970 00:00:01 GMT".into())));
    assert_eq!(told("/up/cc").0.as_deref(), Some("private"));
    // Errors are not for keeping.
    assert_eq!(told("/up/404"), (None, None));
    assert_eq!(told("/none.css"), (None, None));
    assert_eq!(told("/fixed/a.css").0.as_deref(), Some("public, max-age=31536000, immutable"));
    assert_eq!(told("/off/a.css"), (None, None));
}

/// One lifetime for all files, with what else may stand in their heads.
#[test]
fn a_file_has_each_field_once_whoever_writes_it() {
    let site = r#"
[site.main]
expires = "30d"
route = [
  { path = "/", files = { root = "$DIR/root", listing = "html" } },
  { path = "/fixed/", files = { root = "$DIR/root", strip_prefix = "/fixed" }, cache_control = "public" },
  { path = "/ruled/", files = { root = "$DIR/root", strip_prefix = "/ruled" }, headers = { set = { Server = "mine", Date = "today", Expires = "never", Cache-Control = "ruled" } } },
]
"#;
    let server = Site::new(Driver::Auto, site).file("root/a.css", b"a {}").file("root/list/x", b"").start();
    let all = |path: &str| {
        let response = ask(&server, path);
        assert_eq!(response.status, 200, "{path}");
        ["server", "date", "expires", "cache-control"].map(|name| {
            let found = values(&response, name);
            assert_eq!(found.len(), 1, "{path}: {name}");
            found[0].to_owned()
        })
    };
    let [server_name, _, expires, cache_control] = all("/a.css");
    let until = httpdate::parse_http_date(&expires).expect("a date");
    let left = until.duration_since(SystemTime::now()).expect("later").as_secs();
    assert!(left.abs_diff(30 * 86_400) < 30, "{left}");
    assert_eq!((server_name.as_str(), cache_control.as_str()), ("one-server", "max-age=2592000"));
    assert_eq!(all("/fixed/a.css")[3], "public");
    assert_eq!(all("/ruled/a.css"), ["mine", "today", "never", "ruled"]);
    assert_eq!(all("/list/")[3], "no-cache", "a listing says itself how long it lasts");
}

/// RFC 6797 section 7.2: Strict-Transport-Security never in clear text.
#[test]
fn hsts_is_sent_over_tls_alone() {
    if !has_program("curl") {
        return;
    }
    let site = Site::new(
        Driver::Auto,
        r#"
[listener.secure]
address = "127.0.0.1:0"
tls.certificates = [{ chain = "$DIR/test.pem", key = "$DIR/test.key" }]
[site.main]
hsts = "730d"
hsts_subdomains = true
route = [
  { path = "/", respond = { body = "ok" } },
  { path = "/files/", files = "$DIR" },
  { path = "/off/", hsts = "off", respond = { body = "ok" } },
  { path = "/forget/", hsts = "0s", hsts_subdomains = false, respond = { body = "ok" } },
]
"#,
    );
    make_certificate(site.folder());
    let server = site.start();
    let secure = server.address("secure");
    let sent = |path: &str, arguments: &[&str]| {
        let got = curl("https", secure, path, arguments);
        got.field("strict-transport-security").map(str::to_owned)
    };
    let full = Some("max-age=63072000; includeSubDomains".to_owned());
    for protocol in ["--http1.1", "--http2"] {
        assert_eq!(sent("/", &[protocol]), full, "{protocol}");
        assert_eq!(sent("/off/", &[protocol]), None, "{protocol}");
        assert_eq!(sent("/forget/", &[protocol]).as_deref(), Some("max-age=0"), "{protocol}");
    }
    let clear = server.connect().ask(get("/"));
    assert_eq!(clear.field("strict-transport-security"), None);
}

/// RFC 9110 sections 6.6.1, 7.6.1 and 10.2.4: general fields stand once, whoever wrote them; nothing of a hop goes on.
#[test]
fn general_fields_stand_once_and_nothing_of_a_hop_goes_on() {
    let upstream = FakeUpstream::start(|exchange| {
        let fields = match exchange.request.target.as_str() {
            "/dated" => "Date: Thu, 01 Jan 1970 00:00:01 GMT\r\nServer: theirs\r\n",
            _ => {
                "Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nProxy-Connection: close\r\nTrailer: X-T\r\nUpgrade: h2c\r\n"
            }
        };
        exchange.send(format!("HTTP/1.1 200 OK\r\n{fields}X-Kept: 1\r\nContent-Length: 2\r\n\r\nok"));
        Then::Close
    });
    let site =
        "[site.main]\nroute = [{ path = \"/\", proxy = \"up\" }, { path = \"/own\", respond = { body = \"own\" } }]";
    let server = Site::new(Driver::Auto, &with(&upstream, site)).start();
    for path in ["/dated", "/undated", "/own", "/nothing"] {
        let response = ask(&server, path);
        assert_eq!(values(&response, "date").len(), 1, "{path}: {:?}", response.fields);
        assert!(values(&response, "server").len() <= 1, "{path}: {:?}", response.fields);
        assert_eq!(response.field("via"), None, "{path}");
        for name in ["x-hop", "proxy-connection", "keep-alive", "upgrade", "trailer"] {
            assert_eq!(response.field(name), None, "{path}: {name}");
        }
    }
    assert_eq!(ask(&server, "/undated").field("x-kept"), Some("1"));
    assert_eq!(ask(&server, "/own").field("server"), Some("one-server"));
    assert_eq!(upstream.last().field("via"), None);
    let silent = Site::new(Driver::Auto, "[site.main]\nroute = [{ path = \"/\", respond = { body = \"own\" } }]")
        .http("server_name = \"\"")
        .start();
    let response = ask(&silent, "/");
    assert!(response.field("server").is_none() && response.field("date").is_some());
}

/// RFC 9110 section 5.5, RFC 9112 section 11.1: a value may come from a client, but it stays one value.
#[test]
fn values_from_outside_never_make_a_second_field() {
    let upstream = upstream();
    let site = r#"
[site.main]
headers = { set = { X-A = "<$http_x_a>", X-Arg = "$arg_a", X-Path = "$path", X-Cookie = "$cookie_c", X-Agent = "$http_user_agent" } }
request_headers = { set = { X-To = "$http_x_a|$arg_a|$path|$cookie_c" } }
route = [
  { path = "/", respond = { body = "ok" } },
  { path = "/up/", proxy = "up" },
  { regex = '^/cap/(?<what>.*)$', respond = { body = "ok" }, headers = { set = { X-Cap = "$what" } } },
]
"#;
    let server = Site::new(Driver::Auto, &with(&upstream, site)).start();
    let no_evil = |fields: &[(String, String)], what: &str| {
        let evil = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-evil"));
        assert!(evil.is_none(), "{what}: {fields:?}");
    };
    for (target, status) in [
        ("/?a=%0d%0aX-Evil:%201", 200),
        ("/up/?a=%0d%0aX-Evil:1", 200),
        ("/cap/%C3%A4%22", 200),
        ("/cap/a%0aX-Evil:1%0d", 400),
        ("/up/a%0d%0aX-Evil:%201", 400),
    ] {
        let response = server.connect().ask(request("GET", target, &["Cookie: c=%0d%0aX-Evil:1", "X-A: a"], ""));
        no_evil(&response.fields, target);
        assert_eq!(response.status, status, "{target}");
    }
    for seen in upstream.seen() {
        no_evil(&seen.fields, "upstream");
    }
    // A bare CR, LF or NUL in a value is refused before any template sees it; over HTTP/2 it can be sent in the first place.
    for value in [&b"a\rX-Evil: 1"[..], b"a\nX-Evil: 1", b"a\r\nX-Evil: 1", b"a\0b"] {
        for target in ["/", "/up/"] {
            let mut client = Http2::connect(server.web());
            client.send(headers(1, WHOLE, &Block::get(target).field("x-a", value)));
            let outcome = client.outcome(1);
            assert!(!matches!(outcome, Outcome::Answer(200)), "{value:?} {target}: {outcome:?}");
        }
        let mut client = server.connect();
        client.send([b"GET / HTTP/1.1\r\nHost: test\r\nX-A: ", value, b"\r\n\r\n"].concat());
        match client.try_response("GET") {
            // Two lines are two fields, if the client says so itself.
            Ok(response) if value == b"a\r\nX-Evil: 1" => assert_eq!(response.field("x-a"), Some("<a>")),
            Ok(response) => assert_eq!(response.status, 400, "{value:?}"),
            Err(_) => {}
        }
    }
    for seen in upstream.seen() {
        no_evil(&seen.fields, "upstream");
    }
    // Bytes that may stand in a value stay what they are.
    let mut client = server.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-A: \ttab\tand  spaces \r\n\r\n");
    assert_eq!(client.response("GET").field("x-a"), Some("<tab\tand  spaces>"));
}

/// What the config may not say, it does not say: framing and connection are the server's.
#[test]
fn rules_about_framing_are_refused_by_the_check() {
    for rule in [
        "headers = { set = { Content-Length = \"1\" } }",
        "headers = { remove = [\"Transfer-Encoding\"] }",
        "headers = { add = { Connection = \"close\" } }",
        "headers = { set = { \"X Y\" = \"1\" } }",
        "headers = { set = { Strict-Transport-Security = \"max-age=1\" } }",
        "headers = { set = { X-A = \"$nothing\" } }",
        "headers = { set = { X-A = \"a\\r\\nX-Evil: 1\" } }",
        "request_headers = { set = { Content-Length = \"0\" } }",
        "request_headers = { remove = [\"Content-Length\"] }",
    ] {
        let site = Site::new(
            Driver::Auto,
            &format!("[site.main]\n{rule}\nroute = [{{ path = \"/\", respond = {{ body = \"ok\" }} }}]"),
        );
        let config = site.write_config();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_one-server"))
            .args(["check", "-c"])
            .arg(&config)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{rule}: {told}");
        assert!(told.contains("site.toml:"), "the place is told: {told}");
    }
}

/// Answers of every origin get the rules of their route: files, listings, redirects, errors, 304, 405, OPTIONS.
#[test]
fn answers_of_every_origin_get_the_rules() {
    let upstream = upstream();
    let site = r#"
[site.main]
headers = { set = { X-Frame-Options = "DENY" } }
route = [
  { path = "/", files = { root = "$DIR/root", listing = "html" } },
  { path = "/moved", redirect = "/a.txt" },
  { path = "/up/", proxy = "up" },
  { path = "/app/", app = "probe" },
  { path = "/post", methods = ["POST"], respond = { body = "x" } },
]
[app.probe]
"#;
    let server = Site::probe(Driver::Auto, &with(&upstream, site))
        .file("root/a.txt", b"text")
        .file("root/folder/b.txt", b"text")
        .start();
    let etag = ask(&server, "/a.txt").field("etag").expect("a tag").to_owned();
    for (method, target, status) in [
        ("GET", "/a.txt", 200),
        ("HEAD", "/a.txt", 200),
        ("GET", "/folder/", 200),
        ("GET", "/folder", 308),
        ("GET", "/moved", 308),
        ("GET", "/up/200", 200),
        ("GET", "/up/503", 503),
        ("GET", "/app/info", 200),
        ("DELETE", "/post", 405),
        ("OPTIONS", "/post", 204),
        ("OPTIONS", "/a.txt", 204),
        ("POST", "/a.txt", 405),
    ] {
        let response = server.connect().ask(request(method, target, &[], ""));
        // The folder's redirect is 301 or 308, as the file tier says.
        assert!(
            response.status == status || (status == 308 && response.status == 301),
            "{method} {target}: {}",
            response.status
        );
        assert_eq!(response.field("x-frame-options"), Some("DENY"), "{method} {target}");
    }
    let fields = [format!("If-None-Match: {etag}")];
    let same = server.connect().ask(request("GET", "/a.txt", &[&fields[0]], ""));
    assert_eq!((same.status, same.field("x-frame-options")), (304, Some("DENY")));
    let part = server.connect().ask(request("GET", "/a.txt", &["Range: bytes=0-1"], ""));
    assert_eq!((part.status, part.field("x-frame-options")), (206, Some("DENY")));
    let mut http2 = Http2::connect(server.web());
    assert_eq!(http2.get(1, "/a.txt").status, 200);
}

/// nginx's `add_header … always` counts for the server's own error pages: so do our rules, which are `always` by default.
#[test]
fn error_pages_of_our_own_get_the_rules() {
    let site = r#"
[site.main]
headers = { set = { X-Frame-Options = "DENY" } }
route = [
  { path = "/", files = "$DIR/root" },
  { path = "/denied", access = ["deny all"], respond = { body = "in" } },
  { path = "/small", body_max = 1, proxy = "dead" },
  { path = "/dead", proxy = "dead" },
  { path = "/private", auth = { realm = "staff", users_file = "$DIR/users" }, respond = { body = "in" } },
  { path = "/internal", internal = true, respond = { body = "in" } },
]
[upstream.dead]
servers = ["127.0.0.1:1"]
health = false
"#;
    let server = Site::new(Driver::Auto, site)
        .file("root/a.txt", b"text")
        .file("users", b"user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
        .start();
    let missing: Vec<String> = [
        ("GET", "/none", "", 404),
        ("GET", "/denied", "", 403),
        ("POST", "/small", "body", 413),
        ("GET", "/dead", "", 502),
        ("GET", "/private", "", 401),
        ("GET", "/internal", "", 404),
    ]
    .into_iter()
    .filter_map(|(method, target, body, status)| {
        let response = server.connect().ask(request(method, target, &[], body));
        assert_eq!(response.status, status, "{target}");
        (response.field("x-frame-options") != Some("DENY")).then(|| format!("{status} for {target}"))
    })
    .collect();
    assert!(missing.is_empty(), "without the field: {missing:?}");
}

/// RFC 9110 section 15.4.5: a 304 says of its lifetime what its 200 would have said; what it says replaces what the cache
/// knows.
#[test]
fn a_304_has_the_lifetime_of_its_200() {
    let site = r#"
[site.main]
expires = { "text/css" = "1h", "*" = "no-cache" }
route = [{ path = "/", files = "$DIR/root" }]
"#;
    let server = Site::new(Driver::Auto, site).file("root/a.css", b"a {}").start();
    let full = ask(&server, "/a.css");
    assert_eq!(full.field("cache-control"), Some("max-age=3600"));
    let field = format!("If-None-Match: {}", full.field("etag").expect("a tag"));
    let same = server.connect().ask(request("GET", "/a.css", &[&field], ""));
    assert_eq!((same.status, same.field("cache-control")), (304, Some("max-age=3600")));
}
