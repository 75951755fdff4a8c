//! Where a request goes at the real binary: sites, routes, methods, rewrites, redirects, fixed answers, X-Accel-Redirect,
//! error pages. People come from nginx with habits; so one table of cases asks nginx and us the same questions, and what
//! nginx has no words for is asked of us alone.

mod support;

use std::time::Duration;

use support::client::NoResponse;
use support::nginx::Nginx;
use support::tools::{curl, decode, text_of, values};
use support::upstream::Then;
use support::*;

/// What a case asks, and what both servers answer: `200 body`, or a status with its Location.
struct Case {
    host: &'static str,
    target: &'static str,
    expect: &'static str,
}

const fn case(host: &'static str, target: &'static str, expect: &'static str) -> Case {
    Case { host, target, expect }
}

/// Sites by name, and routes by path: what nginx calls server and location.
const PRECEDENCE: &[Case] = &[
    // Hosts: exact, *.suffix (the longest), prefix.* (the longest), expressions in order, default.
    case("a.test", "/site", "200 exact"),
    case("b.test", "/site", "200 exact"),
    case("A.Test", "/site", "200 exact"),
    case("a.test.", "/site", "200 exact"),
    case("a.test:8080", "/site", "200 exact"),
    case("sub.a.test", "/site", "200 suffix"),
    case("x.y.a.test", "/site", "200 suffix"),
    case("deep.a.test", "/site", "200 suffix"),
    case("x.deep.a.test", "/site", "200 long suffix"),
    case("www.a.test", "/site", "200 suffix"),
    case("www.other.org", "/site", "200 prefix"),
    case("www.b.test", "/site", "200 prefix"),
    case("www.mail.org", "/site", "200 long prefix"),
    case("x1.zone", "/site", "200 regex"),
    case("X22.Zone", "/site", "200 regex"),
    case("www.x1.zone", "/site", "200 prefix"),
    case("x1.y.zone", "/site", "200 second regex"),
    case("xa.test", "/site", "200 default"),
    case("other.org", "/site", "200 default"),
    case("192.0.2.1", "/site", "200 default"),
    case("[::1]:80", "/site", "200 default"),
    // Paths: exact, longest prefix, ^~, expressions in order.
    case("routes.test", "/", "200 root"),
    case("routes.test", "/other", "200 root"),
    case("routes.test", "/exact", "200 exact"),
    case("routes.test", "/exact?x=1", "200 exact"),
    case("routes.test", "/exact/", "200 exact-prefix"),
    case("routes.test", "/exactly", "200 exact-prefix"),
    case("routes.test", "/api", "200 api"),
    case("routes.test", "/apis", "200 api"),
    case("routes.test", "/api/", "200 api/"),
    case("routes.test", "/api/x", "200 api/"),
    case("routes.test", "/a.png", "200 png"),
    case("routes.test", "/api/a.png", "200 png"),
    case("routes.test", "/a.PNG", "200 root"),
    case("routes.test", "/a.pnm", "200 dot-p"),
    case("routes.test", "/a.Jpeg", "200 jpg"),
    case("routes.test", "/img/a.png", "200 img-over"),
    case("routes.test", "/img/deep/a.png", "200 png"),
    case("routes.test", "/img/deep/a.txt", "200 img-deep"),
    case("routes.test", "/exact/a.png", "200 png"),
    case("routes.test", "/user/17", "200 user 17"),
    case("routes.test", "/user/17/", "200 root"),
    case("routes.test", "/named/blue/x", "200 colour blue"),
    // What is matched is decoded, has no dot segments and no doubled slashes.
    case("routes.test", "/%65xact", "200 exact"),
    case("routes.test", "/api/../exact", "200 exact"),
    case("routes.test", "/./api/./", "200 api/"),
    case("routes.test", "//exact", "200 exact"),
    case("routes.test", "/img//deep/../a.png", "200 img-over"),
    case("routes.test", "/a.png%3f", "200 dot-p"),
    case("routes.test", "http://routes.test/exact", "200 exact"),
];

/// Where we refuse what nginx serves: `(nginx, we)`. What two servers may read differently goes no further.
const STRICTER: &[(Case, &str)] = &[
    // A slash that is not a separator, to some.
    (case("routes.test", "/img%2fa.png", "200 img-over"), "400"),
    (case("routes.test", "/api%2f..%2fexact", "200 exact"), "400"),
    (case("routes.test", "/as-is/a%2Fb", "200 GET /as-is/a%2Fb"), "400"),
    // Two names for one host (RFC 9112 section 3.2.2).
    (case("other.org", "http://routes.test/exact", "200 exact"), "400"),
    // Control bytes, encoded.
    (case("routes.test", "/as-is/a%0d%0ab", "200 GET /as-is/a%0d%0ab"), "400"),
];

/// Rewrites and redirects.
const REWRITING: &[Case] = &[
    // Routed again.
    case("routes.test", "/old/exact", "200 exact"),
    case("routes.test", "/old/a.png", "200 png"),
    case("routes.test", "/old/user/3", "200 user 3"),
    case("routes.test", "/twice/exact", "200 exact"),
    case("routes.test", "/loop", "500"),
    case("routes.test", "/loop?x=1", "500"),
    case("routes.test", "/loop-two", "500"),
    case("routes.test", "/to-internal", "200 inside"),
    case("routes.test", "/inside", "404"),
    case("routes.test", "/show/1?x=1", "200 /shown x=1"),
    case("routes.test", "/show-query/7?x=1", "200 /shown id=7&x=1"),
    case("routes.test", "/show-drop/7?x=1", "200 /shown "),
    case("routes.test", "/show-drop-query/7?x=1", "200 /shown id=7"),
    // What an upstream gets.
    case("routes.test", "/up/a/b?x=1", "200 GET /new/a/b?x=1"),
    case("routes.test", "/up/a%20b", "200 GET /new/a%20b"),
    case("routes.test", "/up/a%3Fb?c", "200 GET /new/a%3Fb?c"),
    case("routes.test", "/up/%25", "200 GET /new/%25"),
    case("routes.test", "/up/a//b/../c", "200 GET /new/a/c"),
    case("routes.test", "/as-is/a%20b//c?x=%20", "200 GET /as-is/a%20b//c?x=%20"),
    // What a folder is asked for.
    case("routes.test", "/files/one.txt", "200 one\n"),
    case("routes.test", "/files/none.txt", "404"),
    case("routes.test", "/files/../files/one.txt", "200 one\n"),
    // try_files.
    case("routes.test", "/try/page", "200 page\n"),
    case("routes.test", "/try/folder/", "200 index\n"),
    case("routes.test", "/try/one.txt", "200 one\n"),
    case("routes.test", "/try/nothing", "404"),
    case("routes.test", "/spa/nothing/at/all", "200 app\n"),
    case("routes.test", "/spa/one.txt", "200 one\n"),
    // Redirects.
    case("routes.test", "/moved/a", "301 https://other.test/moved/a"),
    case("routes.test", "/moved/a%20b?x=%20&y", "301 https://other.test/moved/a%20b?x=%20&y"),
    case("routes.test", "/found/a", "302 /q/a"),
    case("routes.test", "/found/a%20b", "302 /q/a%20b"),
    case("routes.test", "/permanent", "308 https://routes.test/new?from=/permanent"),
    case("routes.test", "/see-other?x=1", "303 /done?x=1"),
    case("routes.test", "/temporary", "307 /elsewhere"),
];

/// The sites of the table, in our words. `$UP` is the upstream.
const SITES: &str = r#"
[site.exact]
hosts = ["a.test", "b.test"]
route = [{ path = "/", respond = { body = "exact" } }]
[site.suffix]
hosts = "*.a.test"
route = [{ path = "/", respond = { body = "suffix" } }]
[site.long]
hosts = "*.deep.a.test"
route = [{ path = "/", respond = { body = "long suffix" } }]
[site.prefix]
hosts = "www.*"
route = [{ path = "/", respond = { body = "prefix" } }]
[site.longprefix]
hosts = "www.mail.*"
route = [{ path = "/", respond = { body = "long prefix" } }]
[site.regex]
hosts = "~^x\\d+\\.[a-z]+$"
route = [{ path = "/", respond = { body = "regex" } }]
[site.regex2]
hosts = "~^x\\d+\\."
route = [{ path = "/", respond = { body = "second regex" } }]
[site.default]
hosts = "default.test"
default = true
route = [{ path = "/", respond = { body = "default" } }]

[site.routes]
hosts = "routes.test"
route = [
  { path = "/", respond = { body = "root" } },
  { exact = "/exact", respond = { body = "exact" } },
  { path = "/exact", respond = { body = "exact-prefix" } },
  { path = "/api", respond = { body = "api" } },
  { path = "/api/", respond = { body = "api/" } },
  { regex = '^/user/(\d+)$', respond = { body = "user $1" } },
  { regex = '^/named/(?<colour>[a-z]+)/', respond = { body = "colour $colour" } },
  { regex = '\.png$', respond = { body = "png" } },
  { regex = '\.p', respond = { body = "dot-p" } },
  { regex = '(?i)\.jpe?g$', respond = { body = "jpg" } },
  { path = "/img/", over_regex = true, respond = { body = "img-over" } },
  { path = "/img/deep/", respond = { body = "img-deep" } },

  { path = "/old/", over_regex = true, rewrite = "/$1" },
  { path = "/twice/", over_regex = true, rewrite = "/old/$1" },
  { exact = "/loop", rewrite = "/loop" },
  { exact = "/loop-two", rewrite = "/loop-three" },
  { exact = "/loop-three", rewrite = "/loop-two" },
  { exact = "/to-internal", rewrite = "/inside" },
  { exact = "/inside", internal = true, respond = { body = "inside" } },
  { path = "/show/", rewrite = "/shown" },
  { path = "/show-query/", rewrite = "/shown?id=$1" },
  { path = "/show-drop/", rewrite = "/shown?" },
  { path = "/show-drop-query/", rewrite = "/shown?id=$1?" },
  { exact = "/shown", respond = { body = "$path $query" } },

  { path = "/up/", rewrite = "/new/$1", proxy = "up" },
  { path = "/as-is/", proxy = "up" },
  { path = "/files/", rewrite = "/$1", files = "$DIR/root" },
  { path = "/try/", files = { root = "$DIR/root", strip_prefix = "/try", try = ["$path", "$path.html", "$path/", "=404"] } },
  { path = "/spa/", files = { root = "$DIR/root", strip_prefix = "/spa", fallback = "/app.html" } },

  { path = "/moved/", redirect = { to = "https://other.test$request_uri", status = 301 } },
  { path = "/found/", redirect = { to = "/q/$1", status = 302 } },
  { exact = "/permanent", redirect = { to = "https://$host/new?from=$path", status = 308 } },
  { exact = "/see-other", redirect = { to = "/done$is_args$args", status = 303 } },
  { exact = "/temporary", redirect = { to = "/elsewhere", status = 307 } },
]

[upstream.up]
servers = ["$UP"]
health = false
"#;

/// The same in nginx's words.
const NGINX: &str = r#"
server { listen $LISTEN; server_name a.test b.test; location / { return 200 "exact"; } }
server { listen $LISTEN; server_name *.a.test; location / { return 200 "suffix"; } }
server { listen $LISTEN; server_name *.deep.a.test; location / { return 200 "long suffix"; } }
server { listen $LISTEN; server_name www.*; location / { return 200 "prefix"; } }
server { listen $LISTEN; server_name www.mail.*; location / { return 200 "long prefix"; } }
server { listen $LISTEN; server_name "~^x\d+\.[a-z]+$"; location / { return 200 "regex"; } }
server { listen $LISTEN; server_name "~^x\d+\."; location / { return 200 "second regex"; } }
server { listen $LISTEN default_server; server_name default.test; location / { return 200 "default"; } }
server { listen $LISTEN; server_name routes.test;
  location / { return 200 "root"; }
  location = /exact { return 200 "exact"; }
  location /exact { return 200 "exact-prefix"; }
  location /api { return 200 "api"; }
  location /api/ { return 200 "api/"; }
  location ~ "^/user/(\d+)$" { return 200 "user $1"; }
  location ~ "^/named/(?<colour>[a-z]+)/" { return 200 "colour $colour"; }
  location ~ \.png$ { return 200 "png"; }
  location ~ \.p { return 200 "dot-p"; }
  location ~* \.jpe?g$ { return 200 "jpg"; }
  location ^~ /img/ { return 200 "img-over"; }
  location /img/deep/ { return 200 "img-deep"; }

  location ^~ /old/ { rewrite ^/old/(.*)$ /$1 last; }
  location ^~ /twice/ { rewrite ^/twice/(.*)$ /old/$1 last; }
  location = /loop { rewrite ^ /loop last; }
  location = /loop-two { rewrite ^ /loop-three last; }
  location = /loop-three { rewrite ^ /loop-two last; }
  location = /to-internal { rewrite ^ /inside last; }
  location = /inside { internal; return 200 "inside"; }
  location /show/ { rewrite ^ /shown last; }
  location /show-query/ { rewrite ^/show-query/(.*)$ /shown?id=$1 last; }
  location /show-drop/ { rewrite ^ /shown? last; }
  location /show-drop-query/ { rewrite ^/show-drop-query/(.*)$ /shown?id=$1? last; }
  location = /shown { return 200 "$uri $args"; }

  location /up/ { rewrite ^/up/(.*)$ /new/$1 break; proxy_pass http://$UP; }
  location /as-is/ { proxy_pass http://$UP; }
  location /files/ { alias $DIR/root/; }
  location /try/ { rewrite ^/try/(.*)$ /$1 break; root $DIR/root; try_files $uri $uri.html $uri/index.html =404; }
  location /spa/ { rewrite ^/spa/(.*)$ /$1 break; root $DIR/root; try_files $uri /spa-inside/app.html; }
  location /spa-inside/ { internal; alias $DIR/root/; }

  location /moved/ { return 301 https://other.test$request_uri; }
  location /found/ { rewrite ^/found/(.*)$ /q/$1 redirect; }
  location = /permanent { return 308 https://$host/new?from=$uri; }
  location = /see-other { return 303 /done$is_args$args; }
  location = /temporary { return 307 /elsewhere; }
}
"#;

const FILES: &[(&str, &[u8])] = &[
    ("root/one.txt", b"one\n"),
    ("root/page.html", b"page\n"),
    ("root/app.html", b"app\n"),
    ("root/folder/index.html", b"index\n"),
];

/// An upstream that tells what it was asked.
fn echo() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let text = format!("{} {}", exchange.request.method, exchange.request.target);
        exchange.ok(&text)
    })
}

fn with_files(mut site: Site) -> Site {
    for (name, content) in FILES {
        site = site.file(name, content);
    }
    site
}

fn told(address: std::net::SocketAddr, case: &Case) -> String {
    let Case { host, target, .. } = case;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let response = Client::connect(address).ask(request);
    match response.status {
        200 => format!("200 {}", response.text()),
        status => format!("{status} {}", response.field("location").unwrap_or_default()).trim_end().to_owned(),
    }
}

fn check(who: &str, address: std::net::SocketAddr, cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, told(address, case)))
        .filter(|(case, told)| told != case.expect)
        .map(|(case, told)| format!("{} {}: expected {:?}, {who} said {told:?}", case.host, case.target, case.expect))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tables_say_what_nginx_does() {
    let upstream = echo();
    let Some(nginx) = Nginx::start(&NGINX.replace("$UP", &upstream.address.to_string()), FILES) else { return };
    check("nginx", nginx.address, PRECEDENCE);
    check("nginx", nginx.address, REWRITING);
    let stricter: Vec<Case> = STRICTER.iter().map(|(case, _)| Case { ..*case }).collect();
    check("nginx", nginx.address, &stricter);
}

#[test]
fn sites_and_routes_are_chosen_as_nginx_chooses() {
    let upstream = echo();
    let server = with_files(Site::new(Driver::Auto, &SITES.replace("$UP", &upstream.address.to_string()))).start();
    check("we", server.web(), PRECEDENCE);
    let stricter: Vec<Case> = STRICTER.iter().map(|(case, we)| Case { expect: we, ..*case }).collect();
    check("we", server.web(), &stricter);
}

#[test]
fn rewrites_and_redirects_are_nginxs() {
    let upstream = echo();
    let server = with_files(Site::new(Driver::Auto, &SITES.replace("$UP", &upstream.address.to_string()))).start();
    check("we", server.web(), REWRITING);
}

/// HTTP/2 names the host in `:authority`; which site answers must not depend on the protocol.
#[test]
fn http2_finds_the_same_routes() {
    if !has_program("curl") {
        return;
    }
    let upstream = echo();
    let server = with_files(Site::new(Driver::Auto, &SITES.replace("$UP", &upstream.address.to_string()))).start();
    for (host, target, expect) in [
        ("a.test", "/site", "exact"),
        ("x.deep.a.test:99", "/site", "long suffix"),
        ("routes.test", "/img/a.png", "img-over"),
        ("routes.test", "/old/user/3", "user 3"),
        ("routes.test", "/up/a%20b?x", "GET /new/a%20b?x"),
    ] {
        let got = curl("http", server.web(), target, &["--http2-prior-knowledge", "-H", &format!("Host: {host}")]);
        assert_eq!((got.status, got.text().as_str()), (200, expect), "{host} {target}");
    }
}

fn start(rest: &str) -> Server {
    Site::new(Driver::Auto, rest).start()
}

fn ask(server: &Server, request: impl AsRef<[u8]>) -> Response {
    server.connect().ask(request)
}

/// RFC 9110 sections 9.3.7, 15.5.6 and 10.2.1: a path that knows the method's siblings says which.
#[test]
fn a_method_that_no_route_takes_gets_405_with_allow() {
    let server = start(
        r#"
[site.main]
route = [
  { path = "/", respond = { body = "root" } },
  { path = "/form", methods = ["GET"], respond = { body = "shown" } },
  { path = "/form", methods = ["POST", "PUT"], respond = { body = "taken" } },
  { path = "/form/any", respond = { body = "any" } },
  { path = "/post", methods = ["POST"], respond = { body = "posted" } },
  { regex = '\.dav$', methods = ["PROPFIND"], respond = { body = "dav" } },
  { exact = "/hidden", internal = true, methods = ["POST"], respond = { body = "hidden" } },
]
"#,
    );
    let method = |method: &str, path: &str| ask(&server, request(method, path, &[], ""));
    for (name, path, status, text) in [
        ("GET", "/form", 200, "shown"),
        ("HEAD", "/form", 200, ""),
        ("POST", "/form", 200, "taken"),
        ("PUT", "/form/x", 200, "taken"),
        ("DELETE", "/form/any", 200, "any"),
        ("PROPFIND", "/x.dav", 200, "dav"),
        ("POST", "/post", 200, "posted"),
        // An internal route does not exist, whatever the method.
        ("POST", "/hidden", 404, ""),
        ("GET", "/hidden", 404, ""),
        ("OPTIONS", "/hidden", 404, ""),
    ] {
        let response = method(name, path);
        assert_eq!(response.status, status, "{name} {path}");
        assert!(status != 200 || response.text() == text, "{name} {path}: {}", response.text());
    }
    for (name, path, status, allow) in [
        ("DELETE", "/form", 405, "GET, HEAD, POST, PUT, OPTIONS"),
        ("GET", "/post", 405, "POST, OPTIONS"),
        ("HEAD", "/post", 405, "POST, OPTIONS"),
        ("GET", "/x.dav", 405, "OPTIONS, PROPFIND"),
        ("OPTIONS", "/form", 204, "GET, HEAD, POST, PUT, OPTIONS"),
        ("OPTIONS", "/x.dav", 204, "OPTIONS, PROPFIND"),
        ("get", "/form", 405, "GET, HEAD, POST, PUT, OPTIONS"),
    ] {
        let response = method(name, path);
        assert_eq!((response.status, response.field("allow")), (status, Some(allow)), "{name} {path}");
    }
    // A body that nobody reads does not become the next request.
    let mut client = server.connect();
    assert_eq!(client.ask(post("/form/none", "GET /form HTTP/1.1\r\n\r\n")).text(), "taken");
    assert_eq!(client.ask(request("DELETE", "/form", &[], "GET / HTTP/1.1\r\n\r\n")).status, 405);
    assert_eq!(client.ask(get("/")).text(), "root");
}

/// RFC 9112 section 11.1, RFC 3986 section 4.2: what a client writes never adds a line, and never names the host that a
/// redirect leads to.
#[test]
fn redirects_cannot_be_bent_by_the_client() {
    let server = start(
        r#"
[site.main]
route = [
  { path = "/path/", redirect = "$path" },
  { path = "/uri", redirect = "$request_uri" },
  { path = "/strip/", redirect = "/$1" },
  { path = "/bare/", redirect = "$1" },
  { path = "/arg", redirect = "/to/$arg_x" },
  { path = "/query", redirect = "/to?$query" },
  { path = "/field", redirect = "/to/$http_x_to" },
  { path = "/host", redirect = "https://$host/" },
  { path = "/", redirect = "$request_uri" },
]
"#,
    );
    let location = |target: &str, field: &str| {
        let fields = if field.is_empty() { vec![] } else { vec![field] };
        let response = ask(&server, request("GET", target, &fields, ""));
        assert_eq!((response.status, response.text().as_str()), (308, ""), "{target}");
        assert!(response.fields.iter().all(|(name, _)| !name.eq_ignore_ascii_case("x-evil")), "{:?}", response.fields);
        response.field("location").map(str::to_owned)
    };
    for (target, expect) in [
        ("/path//evil.test", "/path/evil.test"),
        ("/strip//evil.test/", "/evil.test/"),
        ("/strip/a%3Fb%23c", "/a%3Fb%23c"),
        ("//evil.test/", "/evil.test/"),
        ("//evil.test/%2e%2e", "/evil.test/%2e%2e"),
        ("/arg?x=%0d%0aX-Evil:1", "/to/%0d%0aX-Evil:1"),
        ("/query?a=b%0d%0aX-Evil:1", "/to?a=b%0d%0aX-Evil:1"),
    ] {
        assert_eq!(location(target, "").as_deref(), Some(expect), "{target}");
    }
    for target in ["/path/a%0d%0aX-Evil:%201", "/strip/%0d%0aX-Evil:1", "/strip/%2f%2fevil.test/"] {
        let response = ask(&server, get(target));
        assert_eq!((response.status, response.field("x-evil")), (400, None), "{target}");
    }
    // A backslash is a slash to browsers (WHATWG URL): it must not stand where it makes a host of what follows.
    for target in ["/strip/%5c%5cevil.test", "/strip/%5cevil.test", "/strip//%5cevil.test", "/path/%5c%5cevil.test"] {
        let location = location(target, "").expect("a Location");
        assert!(!location.contains('\\') && !location.starts_with("//"), "{target}: {location}");
    }
    // Captures are of the path: nothing in them becomes a scheme or a host of its own where the text begins with one.
    let bare = location("/bare//evil.test", "").unwrap_or_default();
    assert!(!bare.starts_with("//") && !bare.contains("://"), "{bare}");
    assert_eq!(location("/field", "X-To: a\tb c").as_deref(), Some("/to/a%09b%20c"));
    assert_eq!(location("/field", "X-To: ?a#b").as_deref(), Some("/to/%3Fa%23b"));
}

/// Values of the client in a page are shown, not run.
#[test]
fn fixed_answers_hold_variables_without_harm() {
    let server = start(
        r#"
[site.main]
hosts = ["Main.test"]
route = [
  { path = "/text", respond = { body = "$request_method $host $scheme $arg_a $cookie_c $http_user_agent $server_protocol $$" } },
  { path = "/html", respond = { content_type = "text/html", body = "<p>$arg_a|$http_x_a</p>" } },
  { path = "/json", respond = { content_type = "application/json", body = '{"a":"$http_x_a"}' } },
  { path = "/status", respond = { status = 418, body = "teapot" } },
  { path = "/empty", respond = { status = 204 } },
  { path = "/none", respond = { status = 304 } },
  { path = "/type", respond = { content_type = "", body = "x" } },
]
"#,
    );
    let text = |target: &str, fields: &[&str]| ask(&server, request("GET", target, fields, "")).text();
    assert_eq!(text("/text?b=2&a=1", &["Cookie: x=y; c=d", "User-Agent: me"]), "GET test http 1 d me HTTP/1.1 $");
    assert_eq!(text("/html?a=<b>", &["X-A: <script>\"'&"]), "<p>&lt;b&gt;|&lt;script&gt;&#34;&#39;&amp;</p>");
    let json = text("/json", &["X-A: \"\\</script>"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["a"], "\"\\</script>");
    assert!(!json.contains("</script"), "{json}");
    let response = ask(&server, get("/status"));
    assert_eq!((response.status, response.text().as_str()), (418, "teapot"));
    assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
    let response = ask(&server, get("/empty"));
    assert_eq!((response.status, response.text().as_str()), (204, ""));
    assert_eq!(ask(&server, get("/none")).status, 304);
    assert_eq!(ask(&server, get("/type")).field("content-type"), None);
    let head = ask(&server, request("HEAD", "/status", &[], ""));
    assert_eq!((head.status, head.field("content-length")), (418, Some("6")));
    // A request with a body keeps its connection in order.
    let mut client = server.connect();
    assert_eq!(client.ask(post("/status", "abc")).status, 418);
    assert_eq!(client.ask(get("/status")).status, 418);
}

#[test]
fn a_route_may_close_without_an_answer() {
    let server = start(
        "[site.main]\nroute = [{ path = \"/\", respond = { body = \"ok\" } }, { path = \"/.git/\", close = true }]",
    );
    let mut client = server.connect();
    assert_eq!(client.ask(get("/")).text(), "ok");
    match client.send(get("/.git/config")).try_response("GET") {
        Err(NoResponse::Ended(_, bytes)) => assert!(bytes.is_empty(), "{bytes:?}"),
        other => panic!("{other:?}"),
    }
    match server.connect().send(post("/.git/", "body")).try_response("POST") {
        Err(NoResponse::Ended(_, bytes)) => assert!(bytes.is_empty(), "{bytes:?}"),
        other => panic!("{other:?}"),
    }
    // Answers to the requests before it in a pipeline still come.
    let mut client = server.connect();
    client.send(get("/") + &get("/.git/") + &get("/"));
    assert_eq!(client.response("GET").text(), "ok");
    assert!(matches!(client.try_response("GET"), Err(NoResponse::Ended(_, bytes)) if bytes.is_empty()));
}

#[test]
fn included_files_are_sites_like_any_other() {
    let config = "include = [\"sites/*.toml\"]\n";
    let site = Site::new(
        Driver::Auto,
        "[site.main]\ndefault = true\nroute = [{ path = \"/\", respond = { body = \"main\" } }]\n",
    )
    .file("sites/a.toml", b"[site.a]\nhosts = \"a.test\"\n[[site.a.route]]\npath = \"/\"\nproxy = \"none\"\n")
    .file("sites/b.toml", b"[site.b]\nhosts = \"b.test\"\nroute = [{ path = \"/\", respond = { body = \"b\" } }]\n")
    .file("sites/up.toml", b"[upstream.none]\nservers = [\"127.0.0.1:1\"]\nhealth = false\n")
    .file("sites/ignored.txt", b"not toml at all [");
    let path = site.write_config();
    let text = std::fs::read_to_string(&path).expect("the config");
    let folder = site.folder().to_owned();
    std::fs::write(folder.join("with-include.toml"), format!("{config}{text}")).expect("a file");
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["check", "-c"])
        .arg(folder.join("with-include.toml"))
        .output()
        .expect("it runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let mut wrapper = std::process::Command::new("sh");
    // The helper writes site.toml; the server is given the file with the include beside it.
    wrapper.args(["-c", "exec \"$1\" run -c \"$(dirname \"$4\")/with-include.toml\"", "sh"]);
    let server = site.start_through(wrapper);
    let host = |host: &str| ask(&server, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(host("b.test").text(), "b");
    assert_eq!(host("a.test").status, 502);
    assert_eq!(host("c.test").text(), "main");
}

/// A server that answers with X-Accel-Redirect to the path in its target behind `/app`.
fn accelerating() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let (path, query) = exchange.request.target.split_once('?').unwrap_or((&exchange.request.target, ""));
        let to = path.trim_start_matches("/app").trim_start_matches("/off").to_owned();
        let status = if query == "status" { "404 Not Found" } else { "200 OK" };
        let body = "the upstream's own body";
        exchange.send(format!(
            "HTTP/1.1 {status}\r\nX-Accel-Redirect: {to}\r\nContent-Type: text/x-upstream\r\nSet-Cookie: a=1\r\n\
             Set-Cookie: b=2\r\nContent-Disposition: attachment\r\nCache-Control: private\r\nExpires: Thu, 01 Jan 1970 00:00:01 GMT\r\n\
             ETag: \"upstream\"\r\nX-Other: dropped\r\nX-Accel-Buffering: no\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        Then::Keep
    })
}

const ACCEL: &str = r#"
[site.main]
route = [
  { path = "/app/", proxy = "up" },
  { path = "/off/", proxy = "up", x_accel = false },
  { path = "/protected/", internal = true, files = { root = "$DIR/root", strip_prefix = "/protected" } },
  { path = "/open/", respond = { body = "open $request_method" } },
  { path = "/inside/", internal = true, proxy = "echo" },
  { path = "/ping/", proxy = "up" },
]
[upstream.up]
servers = ["$UP"]
health = false
[upstream.echo]
servers = ["$ECHO"]
health = false
"#;

const NGINX_ACCEL: &str = r#"
server { listen $LISTEN; root $DIR/none;
  location /app/ { proxy_pass http://$UP; }
  location /protected/ { internal; alias $DIR/root/; }
  location /open/ { return 200 "open $request_method"; }
  location /inside/ { internal; proxy_pass http://$ECHO; }
}
"#;

/// X-Accel-Redirect: an application decides, the server sends the file.
#[test]
fn x_accel_redirect_sends_what_the_upstream_names() {
    let (upstream, echo) = (accelerating(), echo());
    let fill =
        |text: &str| text.replace("$UP", &upstream.address.to_string()).replace("$ECHO", &echo.address.to_string());
    let server = with_files(Site::new(Driver::Auto, &fill(ACCEL))).start();
    let nginx = Nginx::start(&fill(NGINX_ACCEL), FILES);
    let addresses = [Some(("we", server.web())), nginx.as_ref().map(|nginx| ("nginx", nginx.address))];
    // The body was for the first server (nginx sends it to the second one too).
    assert_eq!(ask(&server, post("/app/inside/y", "x=1")).text(), "GET /inside/y");
    assert_eq!(echo.last().body, b"");
    for (who, address) in addresses.into_iter().flatten() {
        let ask = |request: String| Client::connect(address).ask(request);
        let response = ask(get("/app/protected/one.txt"));
        assert_eq!((response.status, response.text().as_str()), (200, "one\n"), "{who}");
        // What describes the content or concerns the client stays, the rest is that of the file.
        assert_eq!(response.field("content-type"), Some("text/x-upstream"), "{who}");
        assert_eq!(values(&response, "set-cookie"), ["a=1", "b=2"], "{who}");
        assert_eq!(response.field("content-disposition"), Some("attachment"), "{who}");
        assert_eq!(response.field("cache-control"), Some("private"), "{who}");
        assert_eq!(response.field("content-length"), Some("4"), "{who}");
        assert_eq!(response.field("x-other"), None, "{who}");
        assert_eq!(response.field("x-accel-redirect"), None, "{who}");
        let etag = response.field("etag").expect("a validator of the file").to_owned();
        assert_ne!(etag, "\"upstream\"", "{who}");
        // Ranges and conditions are about the file.
        let part = ask(request("GET", "/app/protected/one.txt", &["Range: bytes=1-2"], ""));
        assert_eq!((part.status, part.text().as_str()), (206, "ne"), "{who}");
        assert_eq!(part.field("content-range"), Some("bytes 1-2/4"), "{who}");
        let same = ask(request("GET", "/app/protected/one.txt", &[&format!("If-None-Match: {etag}")], ""));
        assert_eq!((same.status, same.text().as_str()), (304, ""), "{who}");
        let head = ask(request("HEAD", "/app/protected/one.txt", &[], ""));
        assert_eq!((head.status, head.field("content-length")), (200, Some("4")), "{who}");
        // A POST becomes a GET; its body was the upstream's.
        assert_eq!(ask(post("/app/open/", "x=1")).text(), "open GET", "{who}");
        assert_eq!(ask(post("/app/protected/one.txt", "x=1")).text(), "one\n", "{who}");
        assert_eq!(ask(post("/app/inside/x", "x=1")).text(), "GET /inside/x", "{who}");
        // The status of the upstream's answer does not count.
        assert_eq!(ask(get("/app/protected/one.txt?status")).status, 200, "{who}");
        // Without the upstream there is nothing.
        assert_eq!(ask(get("/protected/one.txt")).status, 404, "{who}");
        let missing = ask(get("/app/protected/none.txt"));
        assert_eq!(missing.status, 404, "{who}");
        assert!(!missing.text().contains("upstream's own body"), "{who}");
        // Out of the folder it does not lead.
        let outside = ask(get("/app/protected/..%2f..%2f..%2fetc/passwd"));
        assert!(outside.status != 200, "{who}: {}", outside.text());
    }
    // Switched off, the answer is the upstream's own; the field concerns nobody else.
    let off = ask(&server, get("/off/protected/one.txt"));
    assert_eq!((off.status, off.text().as_str()), (200, "the upstream's own body"));
    assert_eq!(off.field("x-accel-redirect"), None);
}

/// The file that an upstream named is sent over HTTP/2 and in a content coding like any other.
#[test]
fn x_accel_redirect_works_over_http2_and_compressed() {
    if !has_program("curl") {
        return;
    }
    let (upstream, echo, text) = (accelerating(), echo(), text_of(20_000));
    let rest = ACCEL.replace("$UP", &upstream.address.to_string()).replace("$ECHO", &echo.address.to_string());
    let types = "[http.compress]\ntypes = [\"text/*\"]\n";
    let server = with_files(Site::new(Driver::Auto, &format!("{types}{rest}"))).file("root/big.txt", &text).start();
    let got = curl("http", server.web(), "/app/protected/big.txt", &["--http2-prior-knowledge"]);
    assert!(got.status == 200 && got.body == text);
    assert_eq!(got.values("set-cookie"), ["a=1", "b=2"]);
    let got =
        curl("http", server.web(), "/app/protected/big.txt", &["--http2-prior-knowledge", "-H", "Accept-Encoding: br"]);
    assert_eq!(got.field("content-encoding"), Some("br"));
    assert!(decode("br", &got.body).expect("br") == text);
    let range = ["--http2-prior-knowledge", "-H", "Accept-Encoding: br", "-H", "Range: bytes=10-19"];
    let got = curl("http", server.web(), "/app/protected/big.txt", &range);
    assert!(got.status == 206 && got.body == text[10..20]);
}

/// An upstream that sends its own answers round for ever does not hold the server up.
#[test]
fn x_accel_redirect_has_an_end() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /app/again\r\nContent-Length: 0\r\n\r\n");
        Then::Keep
    });
    let server = start(&format!(
        "[site.main]\nroute = [{{ path = \"/app/\", proxy = \"up\" }}]\n\
         [upstream.up]\nservers = [\"{}\"]\nhealth = false",
        upstream.address
    ));
    assert_eq!(ask(&server, get("/app/x")).status, 500);
    assert!(upstream.count("/app") <= 12, "{} requests", upstream.count("/app"));
}

const PAGES: &str = r#"
[site.main]
error_pages = { 404 = "/errors/404.html", 413 = "/errors/413.html", 401 = "/errors/login.html", 403 = { path = "/errors/$status.html", status = 200 }, 451 = { path = "/errors/page", status = "page" }, 5xx = "/errors/5xx.html", 502 = "/errors/502.html", 410 = "/errors/missing.html" }
route = [
  { path = "/", files = { root = "$DIR/root" } },
  { path = "/errors/", internal = true, files = { root = "$DIR/errors", strip_prefix = "/errors" } },
  { exact = "/errors/page", internal = true, respond = { status = 418, body = "the page's own status" } },
  { path = "/small", body_max = 4, proxy = "up" },
  { path = "/private", auth = { realm = "staff", users_file = "$DIR/users" }, respond = { body = "in" } },
  { path = "/denied", access = ["deny all"], respond = { body = "in" } },
  { path = "/gone", proxy = "dead" },
  { path = "/app/", proxy = "up" },
  { path = "/shown/", proxy = "up", intercept_errors = true },
  { path = "/own/", proxy = "up", intercept_errors = true, error_pages = { 4xx = { path = "/errors/404.html", status = 404 } } },
]
[upstream.up]
servers = ["$UP"]
health = false
[upstream.dead]
servers = ["127.0.0.1:1"]
health = false
"#;

const NGINX_PAGES: &str = r#"
server { listen $LISTEN; root $DIR/root;
  error_page 404 /errors/404.html;
  error_page 413 /errors/413.html;
  error_page 401 /errors/login.html;
  error_page 403 =200 /errors/403.html;
  error_page 500 501 503 504 /errors/5xx.html;
  error_page 502 /errors/502.html;
  error_page 410 /errors/missing.html;
  location /errors/ { internal; alias $DIR/errors/; }
  location /small { client_max_body_size 4; proxy_pass http://$UP; }
  location /private { auth_basic "staff"; auth_basic_user_file $DIR/users; }
  location /denied { deny all; }
  location /gone { proxy_pass http://127.0.0.1:1; }
  location /app/ { proxy_pass http://$UP; }
  location /shown/ { proxy_intercept_errors on; proxy_pass http://$UP; }
}
"#;

const PAGE_FILES: &[(&str, &[u8])] = &[
    ("root/one.txt", b"one\n"),
    ("errors/404.html", b"page 404\n"),
    ("errors/413.html", b"page 413\n"),
    ("errors/403.html", b"page 403\n"),
    ("errors/login.html", b"page 401\n"),
    ("errors/5xx.html", b"page 5xx\n"),
    ("errors/502.html", b"page 502\n"),
    // `htpasswd -nbs user secret`
    ("users", b"user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"),
];

/// An upstream whose answer has the status in its target.
fn failing() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let status = exchange.request.target.rsplit('/').next().unwrap_or_default().to_owned();
        let body = format!("upstream {status}");
        exchange.send(format!(
            "HTTP/1.1 {status} Such\r\nX-Upstream: 1\r\nContent-Type: text/x-upstream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        Then::Keep
    })
}

#[test]
fn error_pages_are_shown_as_nginx_shows_them() {
    let upstream = failing();
    let fill = |text: &str| text.replace("$UP", &upstream.address.to_string());
    let mut site = Site::new(Driver::Auto, &fill(PAGES));
    for (name, content) in PAGE_FILES {
        site = site.file(name, content);
    }
    let server = site.start();
    let nginx = Nginx::start(&fill(NGINX_PAGES), PAGE_FILES);
    let addresses = [Some(("we", server.web())), nginx.as_ref().map(|nginx| ("nginx", nginx.address))];
    for (who, address) in addresses.into_iter().flatten() {
        let ask = |request: String| Client::connect(address).ask(request);
        for (request, status, text) in [
            (get("/none"), 404, "page 404\n"),
            (post("/small", "12345"), 413, "page 413\n"),
            (get("/private"), 401, "page 401\n"),
            (post("/private", "x=1"), 401, "page 401\n"),
            (get("/denied"), 200, "page 403\n"),
            (get("/gone"), 502, "page 502\n"),
            (post("/gone", "x=1"), 502, "page 502\n"),
            // The upstream's own errors are its own business, unless asked otherwise.
            (get("/app/404"), 404, "upstream 404"),
            (get("/app/500"), 500, "upstream 500"),
            (get("/shown/404"), 404, "page 404\n"),
            (post("/shown/404", "x=1"), 404, "page 404\n"),
            (get("/shown/500"), 500, "page 5xx\n"),
            (get("/shown/503"), 503, "page 5xx\n"),
            (get("/shown/502"), 502, "page 502\n"),
            (get("/shown/200"), 200, "upstream 200"),
            // No page is named for it, or the page is not there.
            (get("/shown/409"), 409, "upstream 409"),
            // The pages themselves are nobody's.
            (get("/errors/404.html"), 404, "page 404\n"),
        ] {
            let line = request.lines().next().unwrap_or_default().to_owned();
            let response = ask(request);
            assert_eq!((response.status, response.text().as_str()), (status, text), "{who}: {line}");
        }
        let missing = ask(get("/shown/410"));
        assert_eq!(missing.status, if who == "we" { 410 } else { 404 }, "{who}");
        assert!(!missing.text().contains("upstream"), "{who}: {}", missing.text());
        // The page's own type, not that of what failed.
        let shown = ask(get("/shown/500"));
        assert_eq!(shown.field("x-upstream"), None, "{who}");
        assert!(shown.field("content-type").is_some_and(|value| value != "text/x-upstream"), "{who}");
        // Conditions and ranges are not about the page.
        let fields = ["If-None-Match: *", "Range: bytes=0-1", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"];
        let whole = ask(request("GET", "/shown/500", &fields, ""));
        assert_eq!(whole.status, 500, "{who}");
        if who == "we" {
            assert_eq!(whole.text(), "page 5xx\n");
        }
        let head = ask(request("HEAD", "/none", &[], ""));
        assert_eq!((head.status, head.field("content-length")), (404, Some("9")), "{who}");
        // The challenge stays with its page.
        let login = ask(get("/private"));
        let challenge = login.field("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Basic realm=\"staff\""), "{who}: {challenge}");
        // 413 came before the body: the connection ends behind the page.
        let mut client = Client::connect(address);
        client.send("POST /small HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n");
        let response = client.response("POST");
        assert!(response.status == 413 && response.is_last(), "{who}: {:?}", response.fields);
        assert_eq!(response.text(), "page 413\n", "{who}");
    }
    // What nginx has no words for.
    let page = ask(&server, get("/shown/451"));
    assert_eq!((page.status, page.text().as_str()), (418, "the page's own status"));
    let own = ask(&server, get("/own/409"));
    assert_eq!((own.status, own.text().as_str()), (404, "page 404\n"));
    // A connection lives on behind an error page.
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.ask(get("/none")).text(), "page 404\n");
        assert_eq!(client.ask(get("/one.txt")).text(), "one\n");
        assert_eq!(client.ask(post("/private", "GET / HTTP/1.1\r\n\r\n")).status, 401);
    }
    // And over HTTP/2.
    let mut http2 = support::frames::Http2::connect(server.web());
    assert_eq!((http2.get(1, "/none").status, http2.get(3, "/none").text().as_str()), (404, "page 404\n"));
    assert_eq!(http2.get(5, "/errors/404.html").status, 404);
    assert_eq!(http2.get(7, "/one.txt").text(), "one\n");
}

/// An application's errors are treated as an upstream's, and it may hand over to a file as well.
#[test]
fn applications_are_treated_as_upstreams_are() {
    let server = Site::probe(
        Driver::Auto,
        r#"
[site.main]
error_pages = { 5xx = "/errors/5xx.html", 404 = "/errors/404.html" }
route = [
  { path = "/app/", app = "probe" },
  { path = "/shown/", app = "probe", intercept_errors = true },
  { path = "/to/", rewrite = "/any/$1", app = "probe" },
  { path = "/errors/", internal = true, files = { root = "$DIR/errors", strip_prefix = "/errors" } },
  { path = "/hands/", app = "probe", x_sendfile = { "/srv/private/" = "/protected/" } },
  { path = "/own/", app = "probe", x_accel = false },
  { path = "/protected/", internal = true, files = { root = "$DIR/private", strip_prefix = "/protected" } },
]
[app.probe]
"#,
    )
    .file("errors/5xx.html", b"page 5xx\n")
    .file("errors/404.html", b"page 404\n")
    .file("private/big.bin", &pattern(3 << 20))
    .start();
    for path in ["/hands/accel?to=/protected/big.bin", "/hands/sendfile?to=/srv/private/big.bin"] {
        let answer = ask(&server, get(path));
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("text/x-own")), "{path}");
        assert!(answer.body == pattern(3 << 20), "{path}: {} bytes", answer.body.len());
        assert_eq!((answer.field("x-accel-redirect"), answer.field("x-sendfile")), (None, None), "{path}");
        let part = ask(&server, request("GET", path, &["Range: bytes=1000000-1000009"], ""));
        assert_eq!((part.status, &part.body[..]), (206, &pattern(3 << 20)[1_000_000..1_000_010]), "{path}");
    }
    for (path, status) in [
        ("/protected/big.bin", 404),
        ("/hands/accel?to=/protected/none", 404),
        ("/hands/sendfile?to=/etc/passwd", 502),
        ("/hands/sendfile?to=/srv/private/../../etc/passwd", 502),
    ] {
        assert_eq!(ask(&server, get(path)).status, status, "{path}");
    }
    assert_eq!(ask(&server, get("/own/accel?to=/protected/big.bin")).text(), "not this");
    assert_eq!(ask(&server, get("/app/status?code=503")).text(), "body");
    assert_eq!(ask(&server, get("/shown/status?code=503")).text(), "page 5xx\n");
    assert_eq!(ask(&server, get("/shown/none")).text(), "page 404\n");
    // A rewrite beside an application changes what it sees, not where it is found.
    let info = ask(&server, get("/to/info?x=1")).text();
    assert!(info.contains("uri /any/info?x=1"), "{info}");
}

/// A request that waits for its page is given up with its client.
#[test]
fn a_page_from_a_slow_server_costs_nothing_when_the_client_leaves() {
    let upstream = FakeUpstream::start(|exchange| {
        if exchange.request.target == "/page" {
            std::thread::sleep(Duration::from_millis(300));
        }
        exchange.send("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno");
        Then::Keep
    });
    let server = start(&format!(
        "[site.main]\nerror_pages = {{ 500 = \"/page\" }}\nroute = [{{ path = \"/\", proxy = \"up\", intercept_errors = true }}]\n\
         [upstream.up]\nservers = [\"{}\"]\nhealth = false",
        upstream.address
    ));
    // The page fails as well: the built-in one stands for the first error, and there is no second round.
    let response = ask(&server, get("/x"));
    assert_eq!(response.status, 500);
    assert!(upstream.count("/page") == 1, "{}", upstream.count("/page"));
    let mut client = server.connect();
    client.send(get("/x"));
    std::thread::sleep(Duration::from_millis(100));
    drop(client);
    server.wait_until_no_client();
}

/// A body goes on through a rewrite, whole, whatever its size and framing; and the connection stays in order.
#[test]
fn bodies_go_on_through_rewrites() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let rest = format!(
            "[site.main]\nroute = [{{ path = \"/up/\", proxy = \"up\" }}, {{ path = \"/again/\", rewrite = \"/up/$1\" }},\n\
             {{ path = \"/beside/\", rewrite = \"/new/$1\", proxy = \"up\" }}, {{ path = \"/app/\", rewrite = \"/any/$1\", app = \"probe\" }},\n\
             {{ path = \"/app-again/\", rewrite = \"/app/$1\" }}]\n\
             [app.probe]\n[upstream.up]\nservers = [\"{}\"]\nhealth = false\n",
            upstream.address
        );
        let server = Site::probe(driver, &rest).start();
        for path in ["/again/x", "/beside/x", "/app/size", "/app-again/size"] {
            let mut client = server.connect();
            for size in [0, 1, 20_000, 700_000] {
                let body = String::from_utf8(text_of(size)).expect("text");
                let response = client.ask(post(path, &body));
                assert_eq!(response.text(), format!("{size} bytes"), "{driver:?} {path}");
                if response.is_last() {
                    client = server.connect();
                }
                client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
                for piece in body.as_bytes().chunks(30_000) {
                    client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
                }
                let response = client.send("0\r\n\r\n").response("POST");
                assert_eq!(response.text(), format!("{size} bytes"), "{driver:?} {path} chunked");
                if response.is_last() {
                    client = server.connect();
                }
                if path.ends_with('x') && size > 0 {
                    assert!(upstream.last().body == body.as_bytes(), "{driver:?} {path}");
                }
            }
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            ));
            while client.buffered().is_empty() {
                client.fill().expect("100 comes first");
            }
            let response = client.send("hello").response("POST");
            assert_eq!(
                (response.text().as_str(), response.interim.as_slice()),
                ("5 bytes", [100].as_slice()),
                "{driver:?}"
            );
        }
    });
}

/// Behind an error page for a request whose body was not read, the next request is the next request.
#[test]
fn error_pages_keep_the_connection_in_order() {
    with_both_drivers(|driver| {
        let upstream = failing();
        let mut site = Site::new(driver, &PAGES.replace("$UP", &upstream.address.to_string()));
        for (name, content) in PAGE_FILES {
            site = site.file(name, content);
        }
        let server = site.start();
        let evil = get("/one.txt");
        for (path, status) in
            [("/private", 401), ("/denied", 200), ("/shown/500", 500), ("/errors/x", 404), ("/small", 413)]
        {
            for size in [0, 10_000, 200_000] {
                let body = format!("{evil}{}", "x".repeat(size));
                let mut client = server.connect();
                client.send(post(path, &body)).send(request("GET", "/one.txt", &["Connection: close"], ""));
                let (bytes, end) = client.read_to_end();
                let answers = support::client::parse_all(&bytes, &["POST"]);
                assert_eq!(answers[0].status, status, "{driver:?} {path} {size}");
                let behind: Vec<String> = answers[1..].iter().map(Response::text).collect();
                // Either the body was skipped and one request follows, or the connection ended and said so.
                match answers[0].is_last() {
                    true => assert!(behind.is_empty(), "{driver:?} {path} {size}: {behind:?}"),
                    false => assert_eq!(behind, ["one\n"], "{driver:?} {path} {size}"),
                }
                assert_eq!(end, End::Closed, "{driver:?} {path} {size}");
                // Chunked, whose end only reading tells.
                let mut client = server.connect();
                client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
                client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
                client.send(request("GET", "/one.txt", &["Connection: close"], ""));
                let (bytes, _) = client.read_to_end();
                let answers = support::client::parse_all(&bytes, &["POST"]);
                assert_eq!(answers[0].status, status, "{driver:?} {path} {size} chunked");
                assert!(
                    answers.len() <= 2 && answers[1..].iter().all(|answer| answer.text() == "one\n"),
                    "{driver:?} {path}"
                );
            }
        }
    });
}

/// X-Accel-Redirect to something that is not there: the error page is not the file that the upstream described.
#[test]
fn what_described_a_file_does_not_describe_an_error_page() {
    let (upstream, echo) = (accelerating(), echo());
    let fill =
        |text: &str| text.replace("$UP", &upstream.address.to_string()).replace("$ECHO", &echo.address.to_string());
    let server = with_files(Site::new(Driver::Auto, &fill(ACCEL))).start();
    let nginx = Nginx::start(&fill(NGINX_ACCEL), FILES);
    let addresses = [nginx.as_ref().map(|nginx| ("nginx", nginx.address)), Some(("we", server.web()))];
    for (who, address) in addresses.into_iter().flatten() {
        let missing = Client::connect(address).ask(get("/app/protected/none.txt"));
        assert_eq!(missing.status, 404, "{who}");
        let kind = missing.field("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/html"), "{who}: {kind}");
    }
}

/// A challenge stays with its status when a page is shown for it, as nginx keeps it: without it no browser asks for a login.
#[test]
fn an_intercepted_401_keeps_its_challenge() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"theirs\"\r\nContent-Length: 2\r\n\r\nno");
        Then::Keep
    });
    let fill = |text: &str| text.replace("$UP", &upstream.address.to_string());
    let mut site = Site::new(Driver::Auto, &fill(PAGES));
    for (name, content) in PAGE_FILES {
        site = site.file(name, content);
    }
    let server = site.start();
    let nginx = Nginx::start(&fill(NGINX_PAGES), PAGE_FILES);
    let addresses = [nginx.as_ref().map(|nginx| ("nginx", nginx.address)), Some(("we", server.web()))];
    for (who, address) in addresses.into_iter().flatten() {
        let response = Client::connect(address).ask(get("/shown/x"));
        assert_eq!((response.status, response.text().as_str()), (401, "page 401\n"), "{who}");
        assert_eq!(response.field("www-authenticate"), Some("Basic realm=\"theirs\""), "{who}");
    }
}

/// 405 is an error like others: a page may stand for it, beside its Allow.
#[test]
fn error_pages_stand_for_405_too() {
    let server = Site::new(
        Driver::Auto,
        r#"
[site.main]
error_pages = { 405 = "/page" }
route = [
  { path = "/files/", files = { root = "$DIR", strip_prefix = "/files" } },
  { path = "/post", methods = ["POST"], respond = { body = "posted" } },
  { exact = "/page", internal = true, respond = { body = "page 405" } },
]
"#,
    )
    .file("a.txt", b"text")
    .start();
    for (method, path, allow) in [("GET", "/post", "POST, OPTIONS"), ("POST", "/files/a.txt", "GET, HEAD, OPTIONS")] {
        let response = ask(&server, request(method, path, &[], ""));
        assert_eq!((response.status, response.field("allow")), (405, Some(allow)), "{path}");
        assert_eq!(response.text(), "page 405", "{path}");
    }
}

/// A panic is no answer of the application: the site's page stands for it, as it does for an application that is gone.
#[test]
fn a_page_stands_for_an_application_that_panics() {
    let server = Site::probe(
        Driver::Auto,
        "[site.main]\nerror_pages = { 5xx = \"/page\" }\nroute = [{ path = \"/app/\", app = \"probe\" },\n\
         { exact = \"/page\", internal = true, respond = { body = \"page 5xx\" } }]\n[app.probe]\n",
    )
    .start();
    for path in ["/app/panic", "/app/error"] {
        let response = ask(&server, get(path));
        assert_eq!((response.status, response.text().as_str()), (500, "page 5xx"), "{path}");
    }
}

/// nginx hides all fields by which a server speaks to it alone.
#[test]
fn no_field_for_the_server_in_front_reaches_the_client() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nX-Accel-Expires: 0\r\nX-Accel-Charset: x\r\nContent-Length: 2\r\n\r\nok",
        );
        Then::Keep
    });
    let fill =
        |text: &str| text.replace("$UP", &upstream.address.to_string()).replace("$ECHO", &upstream.address.to_string());
    let server = Site::new(Driver::Auto, &fill(ACCEL)).start();
    let nginx = Nginx::start(&fill(NGINX_ACCEL), FILES);
    let addresses = [nginx.as_ref().map(|nginx| ("nginx", nginx.address)), Some(("we", server.web()))];
    for (who, address) in addresses.into_iter().flatten() {
        let response = Client::connect(address).ask(get("/app/x"));
        let seen: Vec<_> =
            response.fields.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-accel-")).collect();
        assert!(seen.is_empty(), "{who}: {seen:?}");
    }
}
