//! WebSockets to servers of HTTP/2 (RFC 8441), at the real binary, from clients of HTTP/1.1, HTTP/2 and HTTP/3. The server is
//! `tests/peers/websocket_server.py`, on h2 and wsproto; nginx stands for one that speaks HTTP/2 and has no WebSockets over it.

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http3::{ask, ask_with, python, sha256};
use support::nginx::Nginx;
use support::ports::free_address;
use support::tls::{Kind, TlsClient, TlsEnd, trusted};
use support::websocket::{Version, begin, last, more, run, signal, wait, wait_for, wait_for_head};
use support::*;

const MULTIPLEXED: [Version; 2] = [Version::Http2, Version::Http3];

/// A running server; killed when dropped.
struct Peer {
    child: Child,
    address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn start(arguments: &[&str]) -> Peer {
        let address = free_address();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/websocket_server.py");
        let mut command = Command::new(python().expect("asked before"));
        command.arg(script).arg(address.port().to_string()).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let lasting = told.clone();
        std::thread::spawn(move || lines.for_each(|line| lasting.lock().expect("a lock").push(line)));
        Peer { child, address, told }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().expect("a lock").clone()
    }

    fn wait_for(&self, line: &str) {
        eventually(line, || self.told().iter().any(|told| told == line));
    }

    /// Fields of the requests so far.
    fn asked(&self) -> Vec<Vec<(String, String)>> {
        let told = self.told();
        let asked = told.iter().filter_map(|line| line.strip_prefix("asked "));
        asked.map(|text| serde_json::from_str(text).expect("JSON")).collect()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn site(driver: Driver, address: SocketAddr, keys: &str) -> Site {
    let site = format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [[site.main.route]]\nexact = \"/own\"\nrespond = {{ body = \"own\" }}\n\
         [upstream.up]\nservers = [\"{address}\"]\nhealth = false\n{keys}\n"
    );
    Site::new(driver, &site).secure("http3 = true").one_worker()
}

fn start(driver: Driver, peer: &Peer, keys: &str) -> Server {
    site(driver, peer.address, &format!("protocol = \"h2\"\n{keys}")).start()
}

fn with_drivers(test: impl Fn(Driver) + Sync) {
    if python().is_some() {
        with_both_drivers(test);
    }
}

/// An extended CONNECT that is not waited for.
fn connect(name: &str, path: &str) -> Value {
    let fields = [["sec-websocket-version", "13"], ["origin", "https://test"]];
    let more = json!({ "method": "CONNECT", "protocol": "websocket", "fields": fields, "ends": false, "waits": false });
    ask_with(name, path, more)
}

/// The key is that of RFC 6455 section 1.3.
const ASKS: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Asks over HTTP/1.1 and takes the head of the answer.
fn open_http1(server: &Server, path: &str) -> (Client, String) {
    let mut client = server.connect();
    client.send(request("GET", path, &[&ASKS[..], &["Sec-WebSocket-Protocol: chat, other"]].concat(), ""));
    let head = take_head(&mut client);
    (client, head)
}

fn take_head(client: &mut Client) -> String {
    loop {
        if let Some(end) = client.buffered().windows(4).position(|window| window == b"\r\n\r\n") {
            return String::from_utf8(client.take(end + 4)).expect("text");
        }
        assert!(client.fill().expect("an answer") > 0, "the end before an answer");
    }
}

#[test]
fn a_client_of_http1_gets_a_tunnel() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = site(driver, peer.address, "protocol = \"h2\"")
            .log("access = \"$DIR/access.log\"\nformat = \"combined\"")
            .start();
        let (mut client, head) = open_http1(&server, "/raw?room=1");
        let lower = head.to_lowercase();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{driver:?} {head}");
        for line in [
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-protocol: chat",
            "x-server: one",
        ] {
            assert_eq!(lower.matches(&format!("\r\n{line}\r\n")).count(), 1, "{driver:?} {line}: {head}");
        }
        assert!(!lower.contains("content-length") && !lower.contains("transfer-encoding"), "{driver:?} {head}");
        eventually("it is counted", || server.metric("one_server_http_tunnels", "") == 1.0);
        assert_eq!(client.take(6), b"hello ");
        client.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(client.take(18), b"GET / HTTP/1.1\r\n\r\n");
        // The client ends its direction; the other one goes on until the server ends it.
        client.finish_sending();
        assert_eq!(client.take(3), b"bye");
        assert_eq!(client.end(), End::Closed, "{driver:?}");
        peer.wait_for("end /raw?room=1");
        eventually("it is gone", || server.metric("one_server_http_tunnels", "") == 0.0);
        assert_eq!(server.metric("one_server_upstream_tunnel_sent_bytes_total", ""), 18.0, "{driver:?}");
        eventually("the line of the log", || {
            let log = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            log.contains("\"GET /raw?room=1 HTTP/1.1\" 101 27 ")
        });
        let asked = peer.asked().remove(0);
        let field = |name: &str| asked.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!((field(":method"), field(":protocol")), (Some("CONNECT"), Some("websocket")), "{driver:?}");
        assert_eq!((field(":scheme"), field(":path")), (Some("http"), Some("/raw?room=1")), "{driver:?}");
        assert_eq!((field(":authority"), field("sec-websocket-version")), (Some("test"), Some("13")), "{driver:?}");
        assert_eq!((field("x-forwarded-for"), field("x-forwarded-proto")), (Some("127.0.0.1"), Some("http")));
        for none in ["sec-websocket-key", "connection", "upgrade", "content-length", "te"] {
            assert_eq!(field(none), None, "{driver:?} {none}");
        }
    });
}

#[test]
fn clients_of_http2_and_http3_get_tunnels_beside_each_other() {
    with_drivers(|driver| {
        for version in MULTIPLEXED {
            let peer = Peer::start(&[]);
            let server = start(driver, &peer, "");
            let mut client = begin(
                &server,
                version,
                json!([
                    connect("ws", "/raw/1"),
                    wait_for("ws", 6),
                    more("ws", "one,"),
                    wait_for("ws", 10),
                    ask("beside", "/page"),
                    connect("other", "/raw/2"),
                    wait_for("other", 6),
                    signal("open"),
                    last("ws", "two"),
                    wait("ws"),
                    last("other", ""),
                    wait("other"),
                    connect("talk", "/talk"),
                    wait_for_head("talk"),
                    { "op": "messages", "name": "talk" },
                    last("talk", ""),
                    wait("talk"),
                ]),
            );
            client.wait_for("open");
            eventually("both are counted", || server.metric("one_server_http_tunnels", "") == 2.0);
            client.go_on();
            let seen = client.end();
            let answer = seen.answer("ws");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello one,twobye"), "{driver:?} {version:?}");
            assert_eq!(answer.field("x-server").as_deref(), Some("one"));
            assert_eq!((answer.field("upgrade"), answer.field("sec-websocket-accept")), (None, None));
            assert!(answer.is_whole() && seen.answer("other").is_whole(), "{driver:?} {version:?}: {}", seen.0);
            assert_eq!(seen.answer("beside").text(), "page for GET /page");
            assert_eq!(
                (&seen.0["talked"], seen.answer("talk").is_whole()),
                (&json!(true), true),
                "{driver:?} {version:?}"
            );
            server.wait_until_no_client();
            assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0);
            let told = peer.told();
            assert_eq!(
                told.iter().filter(|line| *line == "connection").count(),
                1,
                "{driver:?}: all on one connection"
            );
            // The client of HTTP/2 does not end what the server has ended.
            let is_wrong = |line: &String| line.starts_with("error") || line.starts_with("reset /raw");
            assert!(!told.iter().any(is_wrong), "{told:?}");
        }
    });
}

#[test]
fn megabytes_go_both_ways_at_once() {
    const BYTES: usize = 4 << 20;
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "");
        let expect = [b"hello ", &pattern(BYTES)[..], b"bye"].concat();
        for version in MULTIPLEXED {
            let steps = json!([
                connect("ws", "/raw"),
                wait_for("ws", 6),
                more("ws", json!({ "pattern": BYTES })),
                last("ws", ""),
                wait("ws"),
            ]);
            let seen = run(&server, version, steps);
            assert_eq!(seen.answer("ws").sha256(), sha256(&expect), "{driver:?} {version:?}");
            assert!(seen.answer("ws").is_whole());
        }
        let (mut client, _) = open_http1(&server, "/raw");
        let mut writer = client.stream.try_clone().expect("a socket");
        let sending = std::thread::spawn(move || {
            std::io::Write::write_all(&mut writer, &pattern(BYTES)).expect("it is taken");
            writer.shutdown(std::net::Shutdown::Write).expect("a socket");
        });
        let (bytes, end) = client.read_to_end();
        sending.join().expect("all is sent");
        assert_eq!((sha256(&bytes), end), (sha256(&expect), End::Closed), "{driver:?}");
    });
}

/// Both directions are of one session.
#[test]
fn a_client_of_http1_over_tls_gets_a_tunnel() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "");
        let mut client = TlsClient::connect(server.address("secure"));
        client.send(request("GET", "/raw", &ASKS, ""));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.take(1));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{driver:?} {}", String::from_utf8_lossy(&head));
        assert_eq!(client.take(6), b"hello ", "{driver:?}");
        let content = pattern(300_000);
        client.send(&content);
        assert_eq!(sha256(&client.take(content.len())), sha256(&content), "{driver:?}");
        client.finish_sending();
        assert_eq!(client.read_to_end(), (b"bye".to_vec(), TlsEnd::CloseNotify), "{driver:?}");
        eventually("it is gone", || server.metric("one_server_http_tunnels", "") == 0.0);
        let asked = peer.asked().remove(0);
        assert!(asked.contains(&("x-forwarded-proto".into(), "https".into())), "{driver:?} {asked:?}");
    });
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "tunnel_timeout = \"6s\"");
        let before = server.resident_mib().0;
        // Three servers' worth of content for clients that read nothing.
        let deaf: Vec<Client> = (0..3).map(|_| open_http1(&server, "/much").0).collect();
        // And much for a server that reads nothing.
        let (client, _) = open_http1(&server, "/deaf");
        client.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
        let mut sent = 0;
        while let Ok(count) = std::io::Write::write(&mut &client.stream, &[b'x'; 64 << 10])
            && sent < 64 << 20
        {
            sent += count;
        }
        assert!(sent < 16 << 20, "{driver:?}: {sent} bytes were taken for a server that reads nothing");
        let down = server.metric("one_server_upstream_tunnel_received_bytes_total", "");
        assert!(down < f64::from(32 << 20), "{driver:?}: {down} bytes were taken for clients that read nothing");
        let after = server.resident_mib().0;
        assert!(after < before + 24, "{driver:?}: {before} MiB, then {after} MiB");
        // The connection they share goes on.
        assert_eq!(server.connect().ask(get("/page")).text(), "page for GET /page", "{driver:?}");
        // Of a client that leaves before what it has sent is taken, only the silence tells.
        drop((deaf, client));
        eventually("all end", || server.metric("one_server_http_tunnels", "") == 0.0);
        eventually("the server hears of each", || {
            peer.told().iter().filter(|line| line.starts_with("reset /")).count() == 4
        });
    });
}

/// A client that breaks off while the server has no window for what it has sent. The time for silence is long.
#[test]
fn a_client_that_breaks_off_is_noticed_although_nothing_is_read_from_it() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "");
        let resets = || peer.told().iter().filter(|line| *line == "reset /deaf 8").count();
        let (client, _) = open_http1(&server, "/deaf");
        client.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
        while std::io::Write::write(&mut &client.stream, &[b'x'; 64 << 10]).is_ok() {}
        client.reset();
        eventually("the server hears of it", || resets() == 1);
        for (number, version) in MULTIPLEXED.into_iter().enumerate() {
            // The window of the connection has gone to the first one.
            let content = "x".repeat(20_000);
            let steps = json!([
                connect("client", "/deaf"),
                wait_for_head("client"),
                more("client", content),
                signal("sent"),
                { "op": "reset", "name": "client" },
                ask("after", "/page"),
            ]);
            let mut running = begin(&server, version, steps);
            running.wait_for("sent");
            std::thread::sleep(Duration::from_millis(300));
            running.go_on();
            assert_eq!(running.end().answer("after").text(), "page for GET /page", "{driver:?} {version:?}");
            eventually("the server hears of it", || resets() == number + 2);
        }
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
    });
}

#[test]
fn what_does_not_become_a_tunnel_is_answered_in_http() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "tries = 1\nresponse_timeout = \"700ms\"");
        for version in MULTIPLEXED {
            let expected = [("/forbidden", 403), ("/refused", 503), ("/silent", 504), ("/own", 501)];
            let mut steps: Vec<Value> =
                expected.iter().flat_map(|(path, _)| [connect(path, path), wait(path)]).collect();
            steps.push(ask("after", "/page"));
            let seen = run(&server, version, Value::Array(steps));
            for (path, status) in expected {
                assert_eq!(seen.answer(path).status(), status, "{driver:?} {version:?} {path}");
            }
            let forbidden = seen.answer("/forbidden");
            assert_eq!((forbidden.text(), forbidden.field("x-why").as_deref()), ("no".into(), Some("so")));
            assert_eq!(seen.answer("after").text(), "page for GET /page", "{driver:?} {version:?}");
        }
        for (path, status) in [("/forbidden", 403), ("/refused", 503), ("/silent", 504)] {
            let answer = server.connect().ask(request("GET", path, &ASKS, ""));
            assert_eq!(answer.status, status, "{driver:?} {path}");
            assert_eq!(answer.field("upgrade"), None, "{driver:?} {path}");
        }
        // What cannot be answered, or is no WebSocket, is an ordinary request: a server may ignore Upgrade.
        for fields in [&ASKS[..3], &["Upgrade: irc", "Connection: upgrade", ASKS[3]][..]] {
            let answer = server.connect().ask(request("GET", "/x", fields, ""));
            assert_eq!((answer.status, answer.text().as_str()), (200, "page for GET /x"), "{driver:?} {fields:?}");
        }
        assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0);
    });
}

/// RFC 8441 section 3: a server that does not say so is not asked.
#[test]
fn a_server_without_the_setting_is_not_asked() {
    with_drivers(|driver| {
        for setting in ["none", "0"] {
            let peer = Peer::start(&[setting]);
            let server = start(driver, &peer, "");
            for version in MULTIPLEXED {
                let seen = run(&server, version, json!([connect("ws", "/raw"), wait("ws"), ask("after", "/page")]));
                assert_eq!(seen.answer("ws").status(), 501, "{driver:?} {version:?} {setting}");
                assert_eq!(seen.answer("after").text(), "page for GET /page");
            }
            let answer = server.connect().ask(request("GET", "/raw", &ASKS, ""));
            assert_eq!((answer.status, answer.text().as_str()), (200, "page for GET /raw"), "{driver:?} {setting}");
            let methods = peer.asked();
            assert!(methods.iter().flatten().all(|(name, value)| name != ":method" || value == "GET"), "{methods:?}");
        }
    });
}

#[test]
fn an_end_by_force_is_passed_on() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = start(driver, &peer, "");
        for version in MULTIPLEXED {
            let path = format!("/raw/{version:?}");
            let steps = json!([
                connect("server", "/reset"),
                wait("server"),
                connect("trailers", "/trailers"),
                wait("trailers"),
                connect("client", &path),
                wait_for("client", 6),
                { "op": "reset", "name": "client" },
                ask("after", "/page"),
            ]);
            let seen = run(&server, version, steps);
            assert_eq!(seen.answer("server").reset(), Some(version.cancelled()), "{driver:?} {version:?}");
            // RFC 9113 section 8.5: nothing but content comes through a tunnel.
            assert_eq!(seen.answer("trailers").reset(), Some(version.cancelled()), "{driver:?} {version:?} {}", seen.0);
            assert_eq!(seen.answer("after").text(), "page for GET /page");
            peer.wait_for(&format!("reset {path} 8"));
        }
        let (mut client, head) = open_http1(&server, "/reset");
        assert!(head.starts_with("HTTP/1.1 101 "), "{driver:?}");
        assert_eq!(client.end(), End::Reset, "{driver:?}");
        let (mut client, _) = open_http1(&server, "/raw/one");
        assert_eq!(client.take(6), b"hello ");
        client.reset();
        peer.wait_for("reset /raw/one 8");
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
    });
}

#[test]
fn a_server_that_is_killed_ends_its_tunnels() {
    with_drivers(|driver| {
        let mut peer = Peer::start(&[]);
        let server = start(driver, &peer, "");
        let (mut one, _) = open_http1(&server, "/raw");
        assert_eq!(one.take(6), b"hello ");
        let steps = json!([connect("ws", "/raw"), wait_for("ws", 6), signal("open"), wait("ws"), ask("after", "/own")]);
        let mut two = begin(&server, Version::Http2, steps);
        two.wait_for("open");
        peer.kill();
        assert_eq!(one.end(), End::Reset, "{driver:?}");
        two.go_on();
        let seen = two.end();
        assert_eq!(seen.answer("ws").reset(), Some(8), "{driver:?}");
        assert_eq!(seen.answer("after").text(), "own", "{driver:?}");
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
    });
}

#[test]
fn silence_ends_a_tunnel_and_talk_keeps_it() {
    with_drivers(|driver| {
        let peer = Peer::start(&[]);
        let server = site(
            driver,
            peer.address,
            "protocol = \"h2\"\ntunnel_timeout = \"600ms\"\nhalf_closed_timeout = \"300ms\"",
        )
        .log("access = \"$DIR/access.log\"\nformat = \"haproxy\"")
        .start();
        let (mut client, _) = open_http1(&server, "/raw");
        assert_eq!(client.take(6), b"hello ");
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(250));
            client.send("x");
            assert_eq!(client.take(1), b"x");
        }
        let begun = Instant::now();
        client.read_to_end();
        assert!((400..5000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        peer.wait_for("reset /raw 8");
        let steps = json!([connect("ws", "/raw/2"), wait_for("ws", 6), wait("ws"), ask("after", "/page")]);
        let seen = run(&server, Version::Http2, steps);
        assert_eq!(seen.answer("ws").reset(), Some(8), "{driver:?}");
        assert_eq!(seen.answer("after").text(), "page for GET /page");
        // One whose other half does not end.
        let (mut client, _) = open_http1(&server, "/open");
        client.finish_sending();
        let begun = Instant::now();
        client.read_to_end();
        assert!((150..5000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
        eventually("the lines of the log", || {
            let log = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            log.lines().filter(|line| line.contains(" 101 ") && line.contains(" sD")).count() == 2
                && log.lines().any(|line| line.contains(" 200 ") && line.contains(" sD"))
        });
    });
}

/// Over TLS `auto` takes a server as it is: HTTP/2 where that has WebSockets, else a connection of HTTP/1.1 for each.
#[test]
fn a_server_of_both_versions_is_asked_over_the_one_that_has_them() {
    with_drivers(|driver| {
        let identity = trusted().server(&["localhost"], Kind::Ecdsa);
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, &identity.chain).expect("a file");
        std::fs::write(&key, &identity.key).expect("a file");
        let (chain, key) = (chain.to_str().expect("plain path"), key.to_str().expect("plain path"));
        let keys = "protocol = \"auto\"\ntls = { ca = \"$DIR/ca.pem\", server_name = \"localhost\" }";
        let peer = Peer::start(&["1", chain, key]);
        let server = site(driver, peer.address, keys).start();
        let (mut client, head) = open_http1(&server, "/raw");
        assert!(head.starts_with("HTTP/1.1 101 "), "{driver:?} {head}");
        assert_eq!(client.take(6), b"hello ");
        let seen =
            run(&server, Version::Http2, json!([connect("ws", "/raw"), wait_for("ws", 6), last("ws", ""), wait("ws")]));
        assert_eq!((seen.answer("ws").status(), seen.answer("ws").text().as_str()), (200, "hello bye"), "{driver:?}");
        assert!(peer.asked().iter().flatten().any(|(name, value)| name == ":scheme" && value == "https"));

        let upstream = FakeUpstream::start(|exchange| {
            if exchange.request.field("upgrade").is_none() {
                return exchange.ok("plain");
            }
            let accept = support::websocket::accept_of(exchange.request.field("sec-websocket-key").expect("a key"));
            exchange.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\nover HTTP/1.1"
            ));
            exchange.wait_for_close();
            upstream::Then::Close
        });
        let http = format!(
            "server {{ listen $LISTEN ssl http2; ssl_certificate {chain}; ssl_certificate_key {key};\n\
             location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $http_connection; }} }}",
            upstream.address
        );
        let Some(nginx) = Nginx::start(&http, &[]) else { return };
        let server = site(driver, nginx.address, keys).start();
        assert_eq!(server.connect().ask(get("/")).text(), "plain", "{driver:?}");
        let (mut client, head) = open_http1(&server, "/");
        assert!(head.starts_with("HTTP/1.1 101 "), "{driver:?} {head}");
        assert_eq!(client.take(13), b"over HTTP/1.1", "{driver:?}");
        let steps = json!([connect("ws", "/"), wait_for("ws", 13), last("ws", ""), wait("ws"), ask("after", "/")]);
        let seen = run(&server, Version::Http3, steps);
        assert_eq!(
            (seen.answer("ws").status(), seen.answer("ws").text().as_str()),
            (200, "over HTTP/1.1"),
            "{driver:?}"
        );
        assert_eq!(seen.answer("after").text(), "plain", "{driver:?}");
    });
}
