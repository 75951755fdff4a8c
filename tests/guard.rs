//! Who comes in at the real binary, and as whom: address rules, proxies in front that are believed or not, the PROXY
//! protocol, and logins. A mistake here is an open door or a wrong name in every log; so what is believed is looked at
//! where it counts: in the answer, the log line, and what the upstream is told.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use support::client::{NoResponse, timed};
use support::tools::{curl, make_certificate};
use support::*;

const LOG: &str = "access = \"$DIR/access.log\"\nformat = \"$remote_addr $remote_user $status $request_uri\"\n";

/// Lines of the log, once there are `n`.
fn log_lines(folder: &Path, n: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(folder.join("access.log")).unwrap_or_default();
    eventually("the log has its lines", || read().lines().count() >= n && read().ends_with('\n'));
    read().lines().map(str::to_owned).collect()
}

fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| exchange.ok("upstream"))
}

fn with_upstream(upstream: &FakeUpstream, rest: &str) -> String {
    format!("{rest}\n[upstream.up]\nservers = [\"{}\"]\nhealth = false\n", upstream.address)
}

#[test]
fn addresses_are_let_in_or_refused_by_the_first_rule_that_fits() {
    let rest = r#"
[site.main]
access = ["deny 127.0.0.66", "allow 127.0.0.64/26", "allow 10.0.0.0/8", "allow ::1", "deny all"]
route = [
  { path = "/", respond = { body = "in" } },
  { path = "/open", access = [], respond = { body = "open" } },
  { path = "/own", access = ["allow 127.0.0.9", "deny all"], respond = { body = "own" } },
  { path = "/most", access = ["deny 127.0.0.9"], respond = { body = "most" } },
  { path = "/to-own", access = [], rewrite = "/own" },
  { path = "/post", methods = ["POST"], respond = { body = "posted" } },
]
"#;
    let server = Site::new(Driver::Auto, rest).start();
    let status = |source: &str, path: &str| Client::connect_from(source, server.web()).ask(get(path)).status;
    for (source, path, expect) in [
        ("127.0.0.65", "/", 200),
        ("127.0.0.127", "/", 200),
        ("127.0.0.66", "/", 403),
        ("127.0.0.63", "/", 403),
        ("127.0.0.128", "/", 403),
        ("127.0.0.1", "/", 403),
        ("127.0.0.1", "/open", 200),
        ("127.0.0.66", "/open", 200),
        ("127.0.0.9", "/own", 200),
        ("127.0.0.65", "/own", 403),
        ("127.0.0.9", "/most", 403),
        ("127.0.0.1", "/most", 200),
        // A rewrite leads to another route, and to its rules.
        ("127.0.0.65", "/to-own", 403),
        ("127.0.0.9", "/to-own", 200),
        // Someone who may not come in does not learn which methods or paths there are.
        ("127.0.0.1", "/post", 403),
        ("127.0.0.65", "/post", 405),
    ] {
        assert_eq!(status(source, path), expect, "{source} {path}");
    }
    let mut client = server.connect();
    // A refused request does not take the connection with it.
    assert_eq!(client.ask(post("/", "GET /open HTTP/1.1\r\n\r\n")).status, 403);
    assert_eq!(client.ask(get("/open")).status, 200);
}

/// X-Forwarded-For, Forwarded and X-Real-IP of a trusted proxy name the client; those of anybody else name nobody.
#[test]
fn a_trusted_proxy_names_the_client_and_nobody_else_does() {
    let upstream = upstream();
    let rest = with_upstream(
        &upstream,
        r#"
[listener.forwarded]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
real_ip_header = "Forwarded"
[listener.single]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
real_ip_header = "X-Real-IP"
[listener.list]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
[site.main]
route = [
  { path = "/", proxy = "up", request_headers = { set = { X-Saw = "$remote_addr" } } },
  { path = "/staff", access = ["allow 192.0.2.0/24", "deny all"], respond = { body = "staff" } },
]
"#,
    );
    let server = Site::new(Driver::Auto, &rest).log(LOG).start();
    let mut asked = 0;
    let mut saw = |listener: &str, source: &str, fields: &[&str]| {
        let response = Client::connect_from(source, server.address(listener)).ask(request("GET", "/x", fields, ""));
        assert_eq!(response.status, 200, "{fields:?}");
        asked += 1;
        let line = log_lines(server.folder(), asked).pop().expect("a line");
        let logged = line.split(' ').next().unwrap_or_default().to_owned();
        assert_eq!(upstream.last().field("x-saw"), Some(logged.as_str()), "{fields:?}");
        logged
    };
    for (listener, source, fields, expect) in [
        ("list", "127.0.0.1", &[][..], "127.0.0.1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7, 198.51.100.1"], "198.51.100.1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 198.51.100.9, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 10.0.0.1"], "192.0.2.7"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7, nonsense"], "127.0.0.1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: [2001:db8::1]:99"], "2001:db8::1"),
        ("list", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7:1234"], "192.0.2.7"),
        ("list", "127.0.0.1", &["Forwarded: for=192.0.2.7", "X-Real-IP: 192.0.2.8"], "127.0.0.1"),
        ("list", "127.0.0.2", &["X-Forwarded-For: 192.0.2.7"], "127.0.0.2"),
        (
            "web",
            "127.0.0.1",
            &["X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.7", "Forwarded: for=192.0.2.7"],
            "127.0.0.1",
        ),
        ("forwarded", "127.0.0.1", &["Forwarded: for=192.0.2.7;proto=https"], "192.0.2.7"),
        ("forwarded", "127.0.0.1", &["Forwarded: for=198.51.100.1, for=192.0.2.7, for=10.0.0.9"], "192.0.2.7"),
        ("forwarded", "127.0.0.1", &["Forwarded: for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
        ("forwarded", "127.0.0.1", &["Forwarded: for=192.0.2.7, for=_hidden"], "127.0.0.1"),
        ("forwarded", "127.0.0.1", &["X-Forwarded-For: 192.0.2.7"], "127.0.0.1"),
        ("forwarded", "127.0.0.2", &["Forwarded: for=192.0.2.7"], "127.0.0.2"),
        ("single", "127.0.0.1", &["X-Real-IP: 192.0.2.7"], "192.0.2.7"),
        ("single", "127.0.0.1", &["X-Real-IP: 192.0.2.7", "X-Real-IP: 192.0.2.8"], "127.0.0.1"),
        ("single", "127.0.0.1", &["X-Real-IP: 192.0.2.7, 192.0.2.8"], "127.0.0.1"),
        ("single", "127.0.0.2", &["X-Real-IP: 192.0.2.7"], "127.0.0.2"),
    ] {
        assert_eq!(saw(listener, source, fields), expect, "{listener} {source} {fields:?}");
    }
    // Rules are about the client, wherever it comes from.
    let staff = |source: &str, fields: &[&str]| {
        Client::connect_from(source, server.address("list")).ask(request("GET", "/staff", fields, "")).status
    };
    assert_eq!(staff("127.0.0.1", &["X-Forwarded-For: 192.0.2.7"]), 200);
    assert_eq!(staff("127.0.0.1", &["X-Forwarded-For: 192.0.2.7, 198.51.100.1"]), 403);
    assert_eq!(staff("127.0.0.1", &["X-Forwarded-For: 198.51.100.1, 192.0.2.7"]), 200);
    assert_eq!(staff("127.0.0.1", &[]), 403);
    assert_eq!(staff("127.0.0.2", &["X-Forwarded-For: 192.0.2.7"]), 403);
}

/// The next server in the chain is told the whole way, and the scheme that we stand for.
#[test]
fn the_upstream_is_told_the_way_and_the_scheme() {
    let upstream = upstream();
    let rest = with_upstream(
        &upstream,
        r#"
[listener.behind]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
[site.main]
route = [{ path = "/", proxy = "up" }]
"#,
    );
    let server = Site::new(Driver::Auto, &rest).start();
    let told = |source: &str, fields: &[&str]| {
        let mut client = Client::connect_from(source, server.address("behind"));
        assert_eq!(client.ask(request("GET", "/x", fields, "")).status, 200);
        let seen = upstream.last();
        let own = |name: &str| seen.field(name).unwrap_or_default().to_owned();
        (own("x-forwarded-for"), own("x-forwarded-proto"), own("x-forwarded-host"))
    };
    let told_of = |way: &str, scheme: &str| (way.to_owned(), scheme.to_owned(), "test".to_owned());
    assert_eq!(told("127.0.0.1", &[]), told_of("127.0.0.1", "http"));
    let fields = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test"];
    assert_eq!(told("127.0.0.1", &fields), told_of("192.0.2.7, 127.0.0.1", "https"));
    assert_eq!(told("127.0.0.2", &fields), told_of("192.0.2.7, 127.0.0.2", "http"));
    assert_eq!(told("127.0.0.1", &["X-Forwarded-Proto: gopher"]), told_of("127.0.0.1", "http"));
    assert_eq!(told("127.0.0.1", &["X-Forwarded-Proto: http, https"]), told_of("127.0.0.1", "https"));
    assert_eq!(
        told("127.0.0.1", &["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"]),
        told_of("127.0.0.1", "http")
    );
    // What a CGI-like program would read as one of these does not pass.
    assert_eq!(told("127.0.0.1", &["X_Forwarded_Proto: https"]), told_of("127.0.0.1", "http"));
    assert!(upstream.last().values("x_forwarded_proto").is_empty());
}

#[test]
fn https_only_believes_a_trusted_proxy_about_the_scheme() {
    let rest = r#"
[listener.behind]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
[site.main]
hosts = "test"
https_only = true
hsts = "1d"
route = [{ path = "/", respond = { body = "$scheme" } }]
[site.port]
hosts = "port.test"
https_only = true
https_port = 8443
route = [{ path = "/", respond = { body = "$scheme" } }]
"#;
    let server = Site::new(Driver::Auto, rest).start();
    let ask = |source: &str, listener: &str, fields: &[&str]| {
        Client::connect_from(source, server.address(listener)).ask(request("GET", "/a%20b?c=d", fields, ""))
    };
    let response = ask("127.0.0.1", "behind", &["X-Forwarded-Proto: https"]);
    assert_eq!((response.status, response.text().as_str()), (200, "https"));
    assert_eq!(response.field("strict-transport-security"), Some("max-age=86400"));
    for (source, listener, fields) in [
        ("127.0.0.1", "behind", &["X-Forwarded-Proto: http"][..]),
        ("127.0.0.1", "behind", &[]),
        ("127.0.0.2", "behind", &["X-Forwarded-Proto: https"]),
        ("127.0.0.1", "web", &["X-Forwarded-Proto: https"]),
    ] {
        let response = ask(source, listener, fields);
        assert_eq!(response.status, 308, "{source} {listener} {fields:?}");
        assert_eq!(response.field("location"), Some("https://test/a%20b?c=d"), "{source} {listener}");
        assert_eq!(response.field("strict-transport-security"), None, "{source} {listener}");
    }
    let acme = server.connect().ask(get("/.well-known/acme-challenge/token"));
    assert_eq!((acme.status, acme.text().as_str()), (200, "http"));
    let port = server.connect().ask("GET //evil.test/ HTTP/1.1\r\nHost: port.test:8080\r\n\r\n");
    assert_eq!((port.status, port.field("location")), (308, Some("https://port.test:8443//evil.test/")));
    let mut client = server.connect();
    assert_eq!(client.ask(post("/x", "GET / HTTP/1.1\r\n\r\n")).status, 308);
    assert_eq!(client.ask(get("/y")).field("location"), Some("https://test/y"));
}

/// A header of version 2 (section 2.2 of its specification): `command` 0 is LOCAL, 1 is PROXY.
fn version2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80];

fn tcp6() -> Vec<u8> {
    let address = |last: u8| [[0x20, 1, 0xd, 0xb8].to_vec(), vec![0; 11], vec![last]].concat();
    [address(7), address(1), vec![0x12, 0x34, 0, 80]].concat()
}

const PROXIED: &str = r#"
[listener.proxied]
address = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
[listener.secure]
address = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
tls.certificates = [{ chain = "$DIR/test.pem", key = "$DIR/test.key" }]
[site.main]
route = [
  { path = "/", respond = { body = "$remote_addr" } },
  { path = "/staff", access = ["allow 192.0.2.0/24", "deny all"], respond = { body = "staff" } },
]
"#;

#[test]
fn the_proxy_protocol_names_the_client_in_both_versions() {
    let site = Site::new(Driver::Auto, PROXIED).log(LOG);
    make_certificate(site.folder());
    let server = site.start();
    let address = server.address("proxied");
    let ask = |header: &[u8], fields: &[&str]| {
        let mut client = Client::connect(address);
        client.send(header);
        client.ask(request("GET", "/", fields, "")).text()
    };
    let v1 = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    for (header, expect) in [
        (v1("TCP4 192.0.2.7 192.0.2.1 4660 80"), "192.0.2.7"),
        (v1("TCP6 2001:db8::7 2001:db8::1 4660 80"), "2001:db8::7"),
        (v1("UNKNOWN"), "127.0.0.1"),
        (v1("UNKNOWN ffff::1 ffff::2 1 2"), "127.0.0.1"),
        (version2(1, 0x11, &TCP4), "192.0.2.7"),
        (version2(1, 0x21, &tcp6()), "2001:db8::7"),
        (version2(0, 0x11, &TCP4), "127.0.0.1"),
        (version2(0, 0, &[]), "127.0.0.1"),
        (version2(1, 0, &[]), "127.0.0.1"),
        // What else it says is skipped.
        (version2(1, 0x11, &[&TCP4[..], &[4, 0, 3, 1, 2, 3]].concat()), "192.0.2.7"),
    ] {
        assert_eq!(ask(&header, &[]), expect, "{header:?}");
        // The named client is not trusted: what it writes itself counts for nothing.
        assert_eq!(
            ask(&header, &["X-Forwarded-For: 198.51.100.1"]),
            if expect == "127.0.0.1" { "198.51.100.1" } else { expect },
            "{header:?}"
        );
    }
    // Byte by byte, in one piece with the request, and several requests behind it.
    let mut client = Client::connect(address);
    client.send_bytewise(&version2(1, 0x11, &TCP4));
    assert_eq!(client.ask(get("/")).text(), "192.0.2.7");
    assert_eq!(client.ask(get("/staff")).text(), "staff");
    let mut client = Client::connect(address);
    client.send([&version2(1, 0x11, &TCP4)[..], get("/").as_bytes(), get("/staff").as_bytes()].concat());
    assert_eq!(client.response("GET").text(), "192.0.2.7");
    assert_eq!(client.response("GET").text(), "staff");
    let lines = log_lines(server.folder(), 24);
    assert!(lines.iter().all(|line| !line.starts_with("- ")), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("192.0.2.7 ")).count(), 10, "{lines:?}");
}

/// Without its header a connection is nobody's.
#[test]
fn a_wrong_or_missing_proxy_header_closes() {
    let site = Site::new(Driver::Auto, PROXIED).http("header_timeout = \"700ms\"").log(LOG);
    make_certificate(site.folder());
    let server = site.start();
    let address = server.address("proxied");
    let refused = |client: &mut Client, what: &str| match client.try_response("GET") {
        Err(NoResponse::Ended(_, bytes)) => assert!(bytes.is_empty(), "{what}: {}", String::from_utf8_lossy(&bytes)),
        other => panic!("{what}: {other:?}"),
    };
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4660\r\n",
        b"PROXY TCP4 192.0.2.777 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 80\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.1 4660 80\r\n",
        b"PROXY tcp4 192.0.2.7 192.0.2.1 4660 80\r\n",
        b"proxy TCP4 192.0.2.7 192.0.2.1 4660 80\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\0\x01\0\x02",
        b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\0\x01\0\x02",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xc0\0\x02\x07",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = Client::connect(address);
        client.send([header, get("/").as_bytes()].concat());
        refused(&mut client, &String::from_utf8_lossy(header));
    }
    // Version 1 without an end.
    let mut client = Client::connect(address);
    client.send(format!("PROXY UNKNOWN {}", "x".repeat(200)));
    refused(&mut client, "an endless line");
    // A header that drips has a deadline in all, not one for each byte.
    let begin = Instant::now();
    let mut client = Client::connect(address);
    for byte in b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 80\r\n" {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(100));
        if begin.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    client.send(get("/"));
    refused(&mut client, "a header that drips");
    // Silence likewise.
    let (_, took) = timed(|| refused(&mut Client::connect(address), "silence"));
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(6), "{took:?}");
    // Somebody who may not send one.
    let mut client = Client::connect_from("127.0.0.2", address);
    client.send([&version2(1, 0x11, &TCP4)[..], get("/").as_bytes()].concat());
    refused(&mut client, "an address that is not trusted");
    // Where none is expected it is no request.
    let mut client = server.connect();
    client.send([b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 80\r\n", get("/").as_bytes()].concat());
    assert_eq!(client.response("GET").status, 400);
    // And TLS does not begin before it.
    if has_program("curl") {
        let got = curl("https", server.address("secure"), "/", &[]);
        assert!(got.code != 0 && got.status == 0, "{}", got.status);
    }
    let mut client = Client::connect(address);
    client.send(version2(1, 0x11, &TCP4));
    assert_eq!(client.ask(get("/")).text(), "192.0.2.7", "the listener lives on");
}

#[test]
fn curl_and_haproxy_speak_the_proxy_protocol_to_us() {
    if !has_program("curl") {
        return;
    }
    let site = Site::new(Driver::Auto, PROXIED);
    make_certificate(site.folder());
    let server = site.start();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let got = curl("http", server.address("proxied"), "/", &["--haproxy-protocol", protocol]);
        assert_eq!((got.status, got.text().as_str()), (200, "127.0.0.1"), "{protocol}");
    }
    for protocol in ["--http1.1", "--http2"] {
        let got = curl("https", server.address("secure"), "/", &["--haproxy-protocol", protocol]);
        assert_eq!((got.status, got.text().as_str()), (200, "127.0.0.1"), "{protocol}");
    }
    if !has_program("haproxy") {
        return;
    }
    let haproxy = Haproxy::start(server.address("proxied"), server.address("secure"));
    for (which, scheme) in [(0, "http"), (1, "http"), (2, "https")] {
        let front = haproxy.fronts[which];
        for protocol in ["--http1.1", if scheme == "http" { "--http2-prior-knowledge" } else { "--http2" }] {
            let got = curl(scheme, front, "/", &["--interface", "127.0.0.9", protocol]);
            assert_eq!((got.code, got.status, got.text().as_str()), (0, 200, "127.0.0.9"), "front {which} {protocol}");
        }
    }
    // Its checks are LOCAL and keep the server up.
    std::thread::sleep(Duration::from_millis(1500));
    let got = curl("http", haproxy.fronts[0], "/", &["--interface", "127.0.0.8"]);
    assert_eq!((got.status, got.text().as_str()), (200, "127.0.0.8"));
}

struct Haproxy {
    child: Child,
    /// Version 1 and 2 in front of the clear listener, 2 in front of the one with TLS.
    fronts: [SocketAddr; 3],
    _folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(clear: SocketAddr, secure: SocketAddr) -> Haproxy {
        let folder = tempfile::tempdir().expect("a folder");
        let fronts = [0; 3].map(|_| support::ports::free_address());
        let proxy = |name: &str, front: SocketAddr, server: SocketAddr, how: &str| {
            format!("listen {name}\n  bind {front}\n  server s {server} {how} check inter 300ms\n")
        };
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{}{}{}",
            proxy("v1", fronts[0], clear, "send-proxy"),
            proxy("v2", fronts[1], clear, "send-proxy-v2"),
            proxy("tls", fronts[2], secure, "send-proxy-v2"),
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("a config");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("haproxy starts");
        let haproxy = Haproxy { child, fronts, _folder: folder };
        eventually("haproxy listens", || fronts.iter().all(|front| std::net::TcpStream::connect(front).is_ok()));
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a users file as `htpasswd` writes it.
fn htpasswd(flags: &str, user: &str, password: &str) -> String {
    let output =
        Command::new("htpasswd").args(flags.split(' ')).args([user, password]).output().expect("htpasswd runs");
    assert!(output.status.success(), "htpasswd {flags}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned() + "\n"
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

const LOGIN: &str = r#"
[site.main]
auth = { realm = "staff \"only\"", users_file = "$DIR/users" }
route = [
  { path = "/", respond = { body = "in as $remote_user" } },
  { path = "/public", auth = false, respond = { body = "public" } },
  { path = "/other", auth = { realm = "other", users_file = "$DIR/others" }, respond = { body = "other" } },
]
"#;

#[test]
fn every_kind_of_password_lets_its_user_in() {
    if !has_program("htpasswd") {
        return;
    }
    let mut users = String::from("# comment\n\n");
    for (user, flags) in
        [("bcrypt", "-nbB -C 5"), ("apr1", "-nbm"), ("sha1", "-nbs"), ("sha256", "-nb2"), ("sha512", "-nb5")]
    {
        users += &htpasswd(flags, user, "pass:word ä");
    }
    let server = Site::new(Driver::Auto, LOGIN)
        .log(LOG)
        .file("users", users.as_bytes())
        .file("others", htpasswd("-nbs", "other", "x").as_bytes())
        .start();
    let ask = |path: &str, fields: &[&str]| server.connect().ask(request("GET", path, fields, ""));
    for user in ["bcrypt", "apr1", "sha1", "sha256", "sha512"] {
        let response = ask("/", &[&basic(user, "pass:word ä")]);
        assert_eq!((response.status, response.text()), (200, format!("in as {user}")), "{user}");
        for wrong in ["pass:word", "", "pass:word a", "PASS:WORD ä"] {
            let response = ask("/", &[&basic(user, wrong)]);
            assert_eq!(response.status, 401, "{user} {wrong}");
            assert_eq!(
                response.field("www-authenticate").map(|value| value.starts_with("Basic realm=\"staff \\\"only\\\"\"")),
                Some(true),
                "{user}"
            );
        }
    }
    let good = basic("sha1", "pass:word ä");
    for (what, fields) in [
        ("none", vec![]),
        ("unknown", vec![basic("nobody", "pass:word ä")]),
        ("an empty name", vec![basic("", "pass:word ä")]),
        ("another scheme", vec!["Authorization: Bearer abc".to_owned()]),
        ("no base64", vec!["Authorization: Basic !!!".to_owned()]),
        ("no colon", vec!["Authorization: Basic c2hhMQ==".to_owned()]),
        ("two", vec![good.clone(), good.clone()]),
        ("a user of another file", vec![basic("other", "x")]),
        (
            "the hash itself",
            vec![basic("sha1", users.split('\n').find(|line| line.starts_with("sha1:")).unwrap_or_default())],
        ),
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(ask("/", &fields).status, 401, "{what}");
    }
    assert_eq!(ask("/", &[&good.replace("Basic", "basic")]).status, 200, "the scheme's case does not count");
    assert_eq!(ask("/public", &[]).text(), "public");
    assert_eq!(ask("/other", &[&good]).status, 401);
    assert_eq!(ask("/other", &[&basic("other", "x")]).text(), "other");
    // Also over HTTP/2, and for a path that does not exist: nothing is told to strangers.
    if has_program("curl") {
        for (login, status) in [("apr1:pass:word ä", 200), ("apr1:wrong", 401)] {
            let got = curl("http", server.web(), "/", &["--http2-prior-knowledge", "-u", login]);
            assert_eq!(got.status, status, "{login}");
            assert_eq!(got.field("www-authenticate").is_some(), status == 401, "{login}");
        }
    }
    let lines = log_lines(server.folder(), 30);
    assert!(lines.iter().any(|line| line.ends_with("127.0.0.1 bcrypt 200 /")), "{lines:?}");
    // A name that was not proved is not logged as a user.
    assert!(
        lines.iter().filter(|line| line.contains(" 401 ")).all(|line| line.starts_with("127.0.0.1 - 401")),
        "{lines:?}"
    );
}

/// Kinds that keep nothing secret are refused at the start, with their line.
#[test]
fn weak_kinds_of_passwords_are_refused_by_the_check() {
    if !has_program("htpasswd") {
        return;
    }
    for (flags, what) in [("-nbp", "plain text"), ("-nbd", "DES")] {
        let users = htpasswd("-nbs", "fine", "x") + &htpasswd(flags, "weak", "secret");
        let site = Site::new(Driver::Auto, LOGIN).file("users", users.as_bytes()).file("others", b"");
        let config = site.write_config();
        let output = Command::new(env!("CARGO_BIN_EXE_one-server"))
            .args(["check", "-c"])
            .arg(&config)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}: {told}");
        assert!(told.contains("line 2") && told.contains("weak"), "{what}: {told}");
        assert!(!told.contains("secret"), "{what}: {told}");
    }
}

/// bcrypt is slow on purpose. The worker is not: other requests go on, a login costs one hash and not one per request,
/// and those who come together share it.
#[test]
fn slow_hashes_hold_up_nobody_and_are_computed_once() {
    if !has_program("htpasswd") {
        return;
    }
    let users = ["one", "two", "three"].map(|user| htpasswd("-nbB -C 11", user, "secret")).concat();
    let server =
        Site::new(Driver::Auto, LOGIN).one_worker().file("users", users.as_bytes()).file("others", b"").start();
    let login = |user: &str| server.connect().ask(request("GET", "/", &[&basic(user, "secret")], ""));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let (response, took) = timed(|| server.connect().ask(get("/public")));
                assert_eq!(response.text(), "public");
                longest = longest.max(took);
                std::thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        let (first, slow) = timed(|| login("one"));
        assert_eq!(first.text(), "in as one");
        assert!(slow > Duration::from_millis(50), "this machine makes no slow hashes: {slow:?}");
        let (second, quick) = timed(|| login("one"));
        assert_eq!(second.text(), "in as one");
        assert!(quick * 4 < slow, "the first took {slow:?}, the second {quick:?}");
        // Twelve at once cost one hash.
        let (_, together) = timed(|| {
            std::thread::scope(|scope| {
                let logins: Vec<_> = (0..12).map(|_| scope.spawn(|| login("two").status)).collect();
                logins.into_iter().for_each(|login| assert_eq!(login.join().expect("answered"), 200));
            });
        });
        assert!(together < slow * 4, "one took {slow:?}, twelve together {together:?}");
        // A wrong password is remembered for a moment, so that a client that repeats itself costs one hash.
        let wrong = || server.connect().ask(request("GET", "/", &[&basic("one", "wrong")], "")).status;
        assert_eq!(wrong(), 401);
        let (status, quick) = timed(wrong);
        assert!(status == 401 && quick * 4 < slow, "{status} in {quick:?}");
        done.store(true, Ordering::SeqCst);
        let longest = watching.join().expect("answered");
        assert!(
            longest < slow.max(Duration::from_millis(100)),
            "another request waited {longest:?}, a hash takes {slow:?}"
        );
    });
}

/// Strangers who guess may fill the queue; then they wait no longer than a few seconds for their 503, those who are
/// known come in all the while.
#[test]
fn too_many_guesses_get_503_and_the_known_come_in() {
    if !has_program("htpasswd") {
        return;
    }
    // Slow enough that a few guesses take longer than anybody waits.
    let users = htpasswd("-nbB -C 12", "slow", "secret") + &htpasswd("-nbs", "quick", "secret");
    let server =
        Site::new(Driver::Auto, LOGIN).one_worker().file("users", users.as_bytes()).file("others", b"").start();
    let known = [basic("quick", "secret")];
    assert_eq!(server.connect().ask(request("GET", "/", &[&known[0]], "")).status, 200);
    let mut guessing: Vec<Client> = (0..80).map(|_| server.connect()).collect();
    let begin = Instant::now();
    for (n, client) in guessing.iter_mut().enumerate() {
        client.send(request("GET", "/", &[&basic("slow", &format!("guess {n}"))], ""));
    }
    for _ in 0..5 {
        let (response, took) = timed(|| server.connect().ask(request("GET", "/", &[&known[0]], "")));
        assert!(response.status == 200 && took < Duration::from_secs(1), "{} in {took:?}", response.status);
    }
    let (mut busy, mut denied) = (0, 0);
    for client in &mut guessing {
        let response = client.response("GET");
        match response.status {
            503 => {
                assert!(response.field("retry-after").is_some());
                busy += 1;
            }
            401 => denied += 1,
            other => panic!("{other}"),
        }
    }
    assert!(busy > 0 && denied > 0, "{busy} busy, {denied} denied");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    // A client that leaves while its password is hashed takes nothing with it.
    let mut leaving = server.connect();
    leaving.send(request("GET", "/", &[&basic("slow", "leaves")], ""));
    std::thread::sleep(Duration::from_millis(50));
    drop((leaving, guessing));
    server.wait_until_no_client();
    assert_eq!(server.connect().ask(request("GET", "/", &[&basic("slow", "secret")], "")).status, 200);
}

/// HAProxy's `accept-proxy`: from the header on, the connection is that of the client it names. The chain that the upstream
/// is told begins with that client; an application is told the same.
#[test]
fn those_behind_us_are_told_whom_the_proxy_header_names() {
    let upstream = upstream();
    let rest = with_upstream(
        &upstream,
        r#"
[listener.proxied]
address = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
[site.main]
route = [{ path = "/", proxy = "up" }, { path = "/app/", app = "probe" }]
[app.probe]
"#,
    );
    let server = Site::probe(Driver::Auto, &rest).start();
    let mut client = Client::connect(server.address("proxied"));
    client.send(version2(1, 0x11, &TCP4));
    assert_eq!(client.ask(get("/x")).status, 200);
    let info = client.ask(get("/app/info")).text();
    assert_eq!(upstream.last().field("x-forwarded-for"), Some("192.0.2.7"));
    assert!(info.contains("peer Some(192.0.2.7:4660)"), "{info}");
}

/// HAProxy sends its header and the client's hello in one piece when it has both: nothing more comes before the answer.
#[test]
fn a_hello_in_one_piece_with_the_proxy_header_is_answered() {
    if !has_program("curl") {
        return;
    }
    with_both_drivers(|driver| {
        let site = Site::new(driver, PROXIED);
        make_certificate(site.folder());
        let server = site.start();
        let secure = server.address("secure");
        let front = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = front.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut client in front.incoming().map_while(Result::ok) {
                let mut server = std::net::TcpStream::connect(secure).expect("it listens");
                let mut hello = vec![0; 16 << 10];
                let n = std::io::Read::read(&mut client, &mut hello).expect("a hello");
                let piece = [&version2(1, 0x11, &TCP4)[..], &hello[..n]].concat();
                std::io::Write::write_all(&mut server, &piece).expect("it takes it");
                let (mut up, mut down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                std::thread::spawn(move || std::io::copy(&mut up, &mut server));
                let _ = std::io::copy(&mut down, &mut client);
            }
        });
        for protocol in ["--http1.1", "--http2"] {
            let got = curl("https", address, "/", &[protocol, "--max-time", "5"]);
            assert_eq!((got.code, got.text().as_str()), (0, "192.0.2.7"), "{driver:?} {protocol}");
        }
    });
}

/// A client that came to the balancer over a Unix socket (family 3 of version 2) is what `allow unix:` is about; nothing
/// else can match that rule, because listeners are IP sockets.
#[test]
fn a_client_over_a_unix_socket_is_let_in_by_its_rule() {
    let server = Site::new(
        Driver::Auto,
        r#"
[listener.proxied]
address = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
[site.main]
access = ["allow unix:", "deny all"]
route = [{ path = "/", respond = { body = "in" } }]
"#,
    )
    .start();
    let mut client = Client::connect(server.address("proxied"));
    client.send(version2(1, 0x31, &[0; 216]));
    assert_eq!(client.ask(get("/")).status, 200);
}
