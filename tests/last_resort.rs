//! Routes with a name, at the real binary: the last resort of `try` and `fallback`, and error pages. What is not a file goes
//! to the application behind us with its method, target and body as they came; a part of a body must never look like the
//! whole. One table asks nginx and us the same.

mod support;

use support::nginx::Nginx;
use support::tools::curl;
use support::upstream::Then;
use support::*;

/// Says 503 to what did not come by a name below `/up/`, and else what it was asked.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let seen = &exchange.request;
        if seen.target.starts_with("/up/") && seen.field("x-named").is_none() {
            exchange.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
            return Then::Keep;
        }
        let body = match seen.body.len() {
            0..100 => String::from_utf8_lossy(&seen.body).into_owned(),
            bytes => format!("{bytes} bytes"),
        };
        let text = format!("app {} {} {body}", seen.method, seen.target);
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        Then::Keep
    })
}

const NGINX: &str = r#"
server { listen $LISTEN; root $DIR/root;
  location /files/ { try_files $uri $uri/index.html @app; }
  location /plain/ { try_files $uri @reply; }
  location /closed/ { try_files $uri @closed; }
  location /loop/ { try_files $uri @loop; }
  location /gone/ { error_page 404 = @app; }
  location /kept/ { error_page 404 @app; }
  location /fixed/ { error_page 404 =203 @app; }
  location /up/ { proxy_pass http://$UP; proxy_intercept_errors on; error_page 503 = @app; }
  location @app { proxy_pass http://$UP; proxy_set_header X-Named 1; }
  location @reply { return 202 "reply $request_method $uri"; }
  location @closed { deny all; proxy_pass http://$UP; }
  location @loop { try_files /none @loop; }
}
"#;

const SITES: &str = r#"
[site.main]
route = [
  { path = "/files/", files = { root = "$DIR/root", try = ["$path", "$path/", "@app"] } },
  { path = "/plain/", files = { root = "$DIR/root", fallback = "@reply" } },
  { path = "/closed/", files = { root = "$DIR/root", fallback = "@closed" } },
  { path = "/loop/", files = { root = "$DIR/root", fallback = "@loop" } },
  { path = "/gone/", files = "$DIR/root", error_pages = { 404 = { path = "@app", status = "page" } } },
  { path = "/kept/", files = "$DIR/root", error_pages = { 404 = "@app" } },
  { path = "/fixed/", files = "$DIR/root", error_pages = { 404 = { path = "@app", status = 203 } } },
  { path = "/up/", proxy = "up", intercept_errors = true, error_pages = { 503 = { path = "@app", status = "page" } } },
  { name = "app", proxy = "up", request_headers = { set = { X-Named = "1" } } },
  { name = "reply", respond = { status = 202, body = "reply $request_method $path" } },
  { name = "closed", access = "deny all", proxy = "up" },
  { name = "loop", files = { root = "$DIR/root", try = ["/none", "@loop"] } },
]
[upstream.up]
servers = ["$UP"]
health = false
"#;

const FILES: &[(&str, &[u8])] =
    &[("root/files/one.txt", b"one"), ("root/files/folder/index.html", b"index"), ("root/gone/there", b"there")];

/// Method, target, body; what both answer.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("GET", "/files/one.txt", "", "200 one"),
    ("GET", "/files/folder/", "", "200 index"),
    ("GET", "/files/none", "", "200 app GET /files/none "),
    ("GET", "/files/a%20b//c/../d?x=%20&y", "", "200 app GET /files/a%20b//c/../d?x=%20&y "),
    ("POST", "/files/form", "a=1", "200 app POST /files/form a=1"),
    ("PUT", "/files/form?q", "b", "200 app PUT /files/form?q b"),
    ("DELETE", "/files/form", "", "200 app DELETE /files/form "),
    ("OPTIONS", "/files/form", "", "200 app OPTIONS /files/form "),
    ("POST", "/files/one.txt", "a=1", "405"),
    ("GET", "/plain/x", "", "202 reply GET /plain/x"),
    ("POST", "/plain/x", "body", "202 reply POST /plain/x"),
    ("GET", "/closed/x", "", "403"),
    ("GET", "/loop/x", "", "500"),
    ("GET", "/gone/there", "", "200 there"),
    ("GET", "/gone/x?q=1", "", "200 app GET /gone/x?q=1 "),
    ("GET", "/kept/x", "", "404 app GET /kept/x "),
    ("GET", "/fixed/x", "", "203 app GET /fixed/x "),
    ("GET", "/up/x", "", "200 app GET /up/x "),
    ("POST", "/up/x", "once more", "200 app POST /up/x once more"),
    ("GET", "/app", "", "404"),
    ("GET", "/@app", "", "404"),
];

fn told(response: &Response) -> String {
    match response.status {
        403..=405 | 500 if !response.text().starts_with("app") => response.status.to_string(),
        status => format!("{status} {}", response.text()),
    }
}

fn check(who: &str, address: std::net::SocketAddr) {
    let ask = |(method, target, body, expect): &(&str, &str, &str, &str)| {
        let response = Client::connect(address).ask(request(method, target, &["Connection: close"], body));
        let told = told(&response);
        (told != *expect).then(|| format!("{method} {target}: expected {expect:?}, {who} said {told:?}"))
    };
    let wrong: Vec<String> = CASES.iter().filter_map(ask).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn start(driver: Driver, upstream: &FakeUpstream) -> Server {
    let site = Site::new(driver, &SITES.replace("$UP", &upstream.address.to_string())).http("body_max = 0");
    FILES.iter().fold(site, |site, (name, content)| site.file(name, content)).start()
}

#[test]
fn the_table_says_what_nginx_does() {
    let upstream = upstream();
    let config = NGINX.replace("$UP", &upstream.address.to_string());
    let Some(nginx) = Nginx::start(&config, FILES) else { return };
    check("nginx", nginx.address);
}

#[test]
fn what_is_no_file_goes_to_the_named_route_as_it_came() {
    with_both_drivers(|driver| {
        let upstream = upstream();
        let server = start(driver, &upstream);
        check("we", server.web());
        // On one connection, and in one piece: what follows a request with a body is the next request.
        let mut client = server.connect();
        client.send(
            post("/files/a", "first") + &get("/files/b") + &post("/plain/c", "unread") + &post("/up/d", "fourth"),
        );
        for expect in ["app POST /files/a first", "app GET /files/b ", "reply POST /plain/c", "app POST /up/d fourth"] {
            let response = client.response("POST");
            assert_eq!(response.text(), expect, "{driver:?}");
            assert!(!response.is_last(), "{driver:?} {expect}");
        }
        // Large bodies, known and unknown in length.
        let large = "x".repeat(300_000);
        let mut client = server.connect();
        for _ in 0..2 {
            assert_eq!(client.ask(post("/files/large", &large)).text(), "app POST /files/large 300000 bytes");
        }
        let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        let head = "POST /files/chunked HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(client.ask(head.to_owned() + &chunked).text(), "app POST /files/chunked 300000 bytes");
        // A body that is gone with the first server is not sent again in part: the error it is.
        let response = client.ask(post("/up/large", &large));
        assert_eq!(response.status, 503, "{driver:?}: {}", response.text());
        // A client that waits to be asked for its body is asked once somebody wants it.
        let mut client = server.connect();
        let head = "POST /files/asked HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).fill().expect("an interim answer");
        assert!(client.buffered().starts_with(b"HTTP/1.1 100 "), "{driver:?}: {:?}", client.buffered());
        assert_eq!(client.ask("body").text(), "app POST /files/asked body", "{driver:?}");
        upstream.wait_until_all_closed_but_idle();
    });
}

#[test]
fn the_same_over_http2() {
    if !has_program("curl") {
        return;
    }
    with_both_drivers(|driver| {
        let upstream = upstream();
        let server = start(driver, &upstream);
        let large = "x".repeat(300_000);
        let file = server.folder().join("large");
        std::fs::write(&file, &large).expect("a file");
        let from_file = format!("@{}", file.display());
        for (target, body, expect) in [
            ("/files/a", "first", "200 app POST /files/a first"),
            ("/up/b", "second", "200 app POST /up/b second"),
            ("/files/large", from_file.as_str(), "200 app POST /files/large 300000 bytes"),
            ("/up/large", from_file.as_str(), "503"),
        ] {
            let got = curl("http", server.web(), target, &["--http2-prior-knowledge", "--data-binary", body]);
            let told = match got.status {
                200 => format!("200 {}", got.text()),
                status => status.to_string(),
            };
            assert_eq!(told, expect, "{driver:?} {target}");
        }
    });
}

#[test]
fn applications_get_their_body_too() {
    with_both_drivers(|driver| {
        let rest = r#"
[site.main]
route = [
  { path = "/", files = { root = "$DIR", fallback = "@app" } },
  { path = "/fails/", app = "probe", rewrite = "/status?code=503", intercept_errors = true, error_pages = { 503 = { path = "@app", status = "page" } } },
  { name = "app", app = "probe", rewrite = "/echo" },
]
[app.probe]
"#;
        let server = Site::probe(driver, rest).start();
        let mut client = server.connect();
        assert_eq!(client.ask(post("/x", "a body")).text(), "a body", "{driver:?}");
        assert_eq!(client.ask(post("/fails/x", "another")).text(), "another", "{driver:?}");
        assert_eq!(client.ask(get("/x")).text(), "", "{driver:?}");
        // The application answers while the body still comes; whether the connection outlives that is told by the answer.
        let large = "x".repeat(100_000);
        assert_eq!(client.ask(post("/x", &large)).text(), large, "{driver:?}");
    });
}
