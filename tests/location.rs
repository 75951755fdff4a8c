//! Redirects of servers that name themselves, at the real binary: no client gets there, so `location_rewrite` puts them
//! into the client's words, and `cookie_rewrite` does so with cookies. One table each asks nginx's proxy_redirect and
//! proxy_cookie_* and us the same; a Location must never lead to a host
//! that neither the server nor the operator has named.

mod support;

use support::nginx::Nginx;
use support::tools::curl;
use support::upstream::Then;
use support::*;

/// Answers with the field line that X-Answer holds.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let line = exchange.request.field("x-answer").unwrap_or_default().to_owned();
        exchange.send(format!("HTTP/1.1 302 Found\r\n{line}\r\nContent-Length: 0\r\n\r\n"));
        Then::Keep
    })
}

const COOKIES_NGINX: &str = r#"
server { listen $LISTEN; server_name test;
  proxy_cookie_domain internal.test $host; proxy_cookie_domain .dot.test out.test;
  proxy_cookie_path /two/ /one/; proxy_cookie_path /three /$http_x_path;
  proxy_cookie_flags sid secure httponly samesite=lax; proxy_cookie_flags bare nosecure nohttponly nosamesite;
  location / { proxy_pass http://$UP; }
  location /any/ { proxy_cookie_flags ~. samesite=strict; proxy_pass http://$UP; }
}
"#;

const COOKIES: &str = r#"
[site.main]
hosts = "test"
default = true
[site.main.cookie_rewrite]
domains = { "internal.test" = "$host", ".dot.test" = "out.test" }
paths = { "/two/" = "/one/", "/three" = "/$http_x_path" }
flags = { sid = ["secure", "httponly", "samesite=lax"], bare = ["nosecure", "nohttponly", "nosamesite"] }
[[site.main.route]]
path = "/"
proxy = "up"
[[site.main.route]]
path = "/any/"
proxy = "up"
cookie_rewrite = { flags = { "*" = "samesite=strict" }, domains = { "internal.test" = "$host" } }
[[site.main.route]]
path = "/off/"
proxy = "up"
cookie_rewrite = false
[upstream.up]
servers = ["$UP"]
health = false
"#;

/// Path asked for, what the server sets, what the client gets of both.
const COOKIE_CASES: &[(&str, &str, &str)] = &[
    ("/", "a=b; Domain=internal.test; Path=/two/x", "a=b; Domain=test; Path=/one/x"),
    ("/", "a=b; domain=INTERNAL.test;path=/y; Max-Age=5", "a=b; domain=test; path=/y; Max-Age=5"),
    ("/", "a=b; Domain=dot.test", "a=b; Domain=out.test"),
    ("/", "a=b; Domain=x.internal.test; Path=/two", "a=b; Domain=x.internal.test; Path=/two"),
    ("/", "a=b; Path=/three/x", "a=b; Path=/four/x"),
    ("/", "sid=1", "sid=1; Secure; HttpOnly; SameSite=Lax"),
    ("/", "SID=1; secure; SameSite=none", "SID=1; secure; SameSite=Lax; HttpOnly"),
    ("/", "bare=2; Secure; HttpOnly; SameSite=Lax; Path=/two/", "bare=2; Path=/one/"),
    ("/", "novalue; Path=/two/", "novalue; Path=/two/"),
    ("/", "a=\"b; c\"; Path=/two/", "a=\"b; c\"; Path=/one/"),
    ("/", "a=b; Path; Domain", "a=b; Path; Domain"),
    ("/any/x", "a=b", "a=b; SameSite=Strict"),
    ("/any/x", "a=b; samesite=strict", "a=b; samesite=strict"),
];

fn check_cookies(who: &str, address: std::net::SocketAddr) {
    let mut client = Client::connect(address);
    for (path, cookie, expect) in COOKIE_CASES {
        let fields = [&format!("X-Answer: Set-Cookie: {cookie}"), "X-Path: four"];
        let response = client.ask(request("GET", path, &fields, ""));
        let got = response.field("set-cookie").map(str::to_owned);
        // The words of a flag that is there already may be those of either.
        let plain = |text: &str| text.to_ascii_lowercase();
        assert_eq!(got.as_deref().map(plain), Some(plain(expect)), "{who}: {path} {cookie}");
    }
}

#[test]
fn cookies_are_in_the_words_of_the_client() {
    let upstream = upstream();
    let up = upstream.address.to_string();
    if let Some(nginx) = Nginx::start(&COOKIES_NGINX.replace("$UP", &up), &[]) {
        check_cookies("nginx", nginx.address);
    }
    with_both_drivers(|driver| {
        let server = Site::new(driver, &COOKIES.replace("$UP", &up)).start();
        check_cookies("we", server.web());
        let line = "X-Answer: Set-Cookie: a=b; Domain=internal.test";
        let off = server.connect().ask(request("GET", "/off/", &[line], ""));
        assert_eq!(off.field("set-cookie"), Some("a=b; Domain=internal.test"), "{driver:?}");
        // What a client writes begins no attribute (nginx puts it in as it is).
        let fields = ["X-Answer: Set-Cookie: a=b; Path=/three", "X-Path: x; Domain=evil.test"];
        let told = server.connect().ask(request("GET", "/", &fields, ""));
        assert_eq!(told.field("set-cookie"), Some("a=b; Path=/x Domain=evil.test"), "{driver:?}");
        if has_program("curl") {
            let got = curl("http", server.web(), "/any/", &["--http2-prior-knowledge", "-H", "Host: test", "-H", line]);
            assert_eq!(got.field("set-cookie"), Some("a=b; Domain=test; SameSite=Strict"), "{driver:?}");
        }
    });
}

const NGINX: &str = r#"
server { listen $LISTEN; server_name test;
  location /one/ { proxy_pass http://$UP/two/; }
  location /off/ { proxy_redirect off; proxy_pass http://$UP; }
  location /plain/ { proxy_pass http://$UP/plain/; }
  location /table/ {
    proxy_redirect http://old.test/a/ /x/; proxy_redirect http://old.test/ http://$host/new/; proxy_redirect /b/ /;
    proxy_pass http://$UP;
  }
}
"#;

const SITES: &str = r#"
[site.main]
location_rewrite = true
route = [
  { path = "/one/", rewrite = "/two/$1", proxy = "up" },
  { path = "/off/", location_rewrite = false, proxy = "up" },
  { path = "/plain/", proxy = "up" },
  { path = "/table/", proxy = "up", location_rewrite = { "http://old.test/a/" = "/x/", "http://old.test/" = "http://$host/new/", "/b/" = "/" } },
]
[upstream.up]
servers = ["$UP"]
health = false
"#;

/// Path asked for, what the server says, what the client gets of both. `$UP` is the server's own address.
const CASES: &[(&str, &str, &str)] = &[
    ("/one/x", "Location: http://$UP/two/y?z=1", "Location: /one/y?z=1"),
    ("/one/x", "Location: /two/y", "Location: /two/y"),
    ("/one/x", "Location: http://other.test/two/y", "Location: http://other.test/two/y"),
    ("/one/x", "Location: http://test/two/y", "Location: http://test/two/y"),
    ("/one/x", "Refresh: 5; url=http://$UP/two/y", "Refresh: 5; url=/one/y"),
    ("/one/x", "Refresh: 5", "Refresh: 5"),
    ("/one/x", "Content-Location: http://$UP/two/y", "Content-Location: http://$UP/two/y"),
    ("/off/x", "Location: http://$UP/two/y", "Location: http://$UP/two/y"),
    ("/plain/x", "Location: http://$UP/plain/y", "Location: /plain/y"),
    ("/table/x", "Location: http://old.test/a/y", "Location: /x/y"),
    ("/table/x", "Location: http://old.test/y", "Location: http://test/new/y"),
    ("/table/x", "Location: /b/y", "Location: /y"),
    ("/table/x", "Refresh: 0; url=/b/y", "Refresh: 0; url=/y"),
    ("/table/x", "Location: /c/y", "Location: /c/y"),
];

/// Asked of us alone: nginx's default knows one path, and leads elsewhere.
const OURS: &[(&str, &str, &str)] = &[
    ("/one/x", "Location: http://$UP/three", "Location: /three"),
    ("/one/x", "Location: http://up/two/y", "Location: /one/y"),
    ("/one/x", "Location: http://$UP", "Location: /"),
    ("/plain/x", "Location: http://$UP//evil.test/", "Location: /evil.test/"),
    ("/plain/x", "Location: http://$UP@evil.test/", "Location: http://$UP@evil.test/"),
    ("/table/x", "Location: /b//evil.test/", "Location: /evil.test/"),
    ("/table/x", "Location: http://$UP/y", "Location: /y"),
];

fn check(who: &str, address: std::net::SocketAddr, up: &str, cases: &[(&str, &str, &str)]) {
    let mut client = Client::connect(address);
    for (path, line, expect) in cases {
        let (line, expect) = (line.replace("$UP", up), expect.replace("$UP", up));
        let response = client.ask(request("GET", path, &[&format!("X-Answer: {line}")], ""));
        let (name, value) = expect.split_once(": ").expect("a field");
        assert_eq!((response.status, response.field(name)), (302, Some(value)), "{who}: {path} {line}");
    }
}

#[test]
fn the_table_says_what_nginx_does() {
    let upstream = upstream();
    let up = upstream.address.to_string();
    let Some(nginx) = Nginx::start(&NGINX.replace("$UP", &up), &[]) else { return };
    check("nginx", nginx.address, &up, CASES);
}

#[test]
fn redirects_are_in_the_words_of_the_client() {
    with_both_drivers(|driver| {
        let upstream = upstream();
        let up = upstream.address.to_string();
        let server = Site::new(driver, &SITES.replace("$UP", &up)).start();
        check("we", server.web(), &up, CASES);
        check("we", server.web(), &up, OURS);
        if has_program("curl") {
            let line = format!("X-Answer: Location: http://{up}/two/y");
            let got = curl("http", server.web(), "/one/x", &["--http2-prior-knowledge", "-H", &line]);
            assert_eq!((got.status, got.field("location")), (302, Some("/one/y")), "{driver:?}");
        }
    });
}

#[test]
fn nothing_is_changed_without_being_asked_for() {
    let upstream = upstream();
    let up = upstream.address.to_string();
    let server = Site::new(Driver::Auto, &SITES.replace("$UP", &up).replace("location_rewrite = true", "")).start();
    let line = format!("Location: http://{up}/two/y");
    check("we", server.web(), &up, &[("/one/x", &line, &line), ("/plain/x", &line, &line)]);
}
