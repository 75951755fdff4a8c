//! WebSockets that end in an application inside the process: handlers of axum, as they are anywhere else, over HTTP/1.1, HTTP/2
//! (RFC 8441) and HTTP/3 (RFC 9220). `examples/probe_app` is the application; the clients are Python's `websockets`, h2 and
//! aioquic with wsproto, and raw sockets.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::End;
use support::http3::{ask, ask_with, python, sha256};
use support::websocket::{Version, accept_of, begin, last, more, run, signal, wait, wait_for, wait_for_head};
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\napp = \"sockets\"\n\
                    [[site.main.route]]\npath = \"/own\"\nrespond = { body = \"own\" }\n[app.sockets]\n";

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// `keys` are those of `[app.sockets]`.
fn site(driver: Driver, keys: &str) -> Site {
    Site::probe(driver, &format!("{SITE}{keys}\n")).secure("http3 = true")
}

/// Runs `test` with each driver and each version whose connections carry many streams.
fn everywhere(test: impl Fn(Driver, Version) + Sync) {
    if python().is_some() {
        with_both_drivers(|driver| {
            test(driver, Version::Http2);
            test(driver, Version::Http3);
        });
    }
}

fn opening(path: &str) -> String {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let fields = ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", &key];
    request("GET", path, &fields, "")
}

fn connect(name: &str, path: &str) -> Value {
    let fields = [["sec-websocket-version", "13"]];
    ask_with(
        name,
        path,
        json!({ "method": "CONNECT", "protocol": "websocket", "fields": fields, "ends": false, "waits": false }),
    )
}

/// An open socket at `path` on a raw connection.
fn open(server: &Server, path: &str) -> Client {
    let mut client = server.connect();
    client.send(opening(path));
    assert_eq!(client.response("GET").status, 101, "{path}");
    client
}

/// One frame of a client, masked with zeros (RFC 6455 section 5.2).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn sockets(server: &Server) -> String {
    server.connect().ask(get("/open")).text()
}

fn eventually_none(server: &Server, what: &str) {
    eventually(&format!("{what}: no task of a socket lives"), || sockets(server) == "0");
    eventually(&format!("{what}: no tunnel is open"), || {
        server.metric("one_server_app_tunnels", "") == 0.0 && server.metric("one_server_http_tunnels", "") == 0.0
    });
}

/// Python's `websockets` against one address: messages of all sizes, a ping, the goodbye.
const TALK: &str = r#"
import asyncio, os, ssl, sys, websockets
async def main(url, ca):
    context = ssl.create_default_context(cafile=ca) if url.startswith("wss") else None
    async with websockets.connect(url, ssl=context, max_size=None, subprotocols=["other", "chat"], compression=None) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        for size in [0, 1, 125, 126, 65535, 65536, 1 << 20, 3_000_000]:
            for message in ("x" * size, os.urandom(size)):
                await socket.send(message)
                assert await socket.recv() == message, size
        for n in range(500):
            await socket.send(str(n))
        for n in range(500):
            assert await socket.recv() == str(n), n
        await asyncio.wait_for(await socket.ping(), 10)
        await socket.close(1000, "enough")
        assert socket.close_code == 1000, socket.close_code
asyncio.run(main(*sys.argv[1:]))
print("talked")
"#;

fn talk(url: String, ca: &std::path::Path) {
    let output = Command::new("/usr/bin/python3").args(["-c", TALK, &url]).arg(ca).stdin(Stdio::null()).output();
    let output = output.expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.trim(), "talked", "{url}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn messages_of_all_sizes_come_and_go_and_both_say_goodbye() {
    with_both_drivers(|driver| {
        let server = site(driver, "").start();
        let ca = server.folder().join("ca.pem");
        talk(format!("ws://{}/echo", server.web()), &ca);
        talk(format!("wss://localhost:{}/echo", server.address("secure").port()), &ca);
        eventually_none(&server, "HTTP/1.1");
        if python().is_none() {
            return;
        }
        for version in [Version::Http2, Version::Http3] {
            let steps = [connect("ws", "/echo"), wait_for_head("ws"), json!({ "op": "messages", "name": "ws" })];
            let steps = [&steps[..], &[last("ws", ""), wait("ws")]].concat();
            let seen = run(&server, version, Value::Array(steps));
            assert_eq!(seen.0["talked"], true, "{driver:?} {version:?}: {}", seen.0);
            assert!(seen.answer("ws").is_whole(), "{driver:?} {version:?}: {}", seen.0["answers"]["ws"]["end"]);
            eventually_none(&server, "streams");
        }
        assert_eq!(server.metric("one_server_app_worker_panics_total", ""), 0.0, "{driver:?}");
    });
}

#[test]
fn the_opening_is_that_of_the_application() {
    with_both_drivers(|driver| {
        let server = site(driver, "").log("access = \"$DIR/access.log\"\nformat = \"combined\"").start();
        let mut client = server.connect();
        client.send(
            opening("/echo").replace("Sec-WebSocket-Version", "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Version"),
        );
        let answer = client.response("GET");
        assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")), "{driver:?}");
        assert_eq!(answer.field("connection"), Some("upgrade"));
        assert_eq!(answer.field("sec-websocket-accept"), Some(accept_of(KEY).as_str()));
        assert_eq!(answer.field("sec-websocket-protocol"), Some("chat"));
        assert_eq!(answer.field("content-length"), None);
        // A message that comes with the opening is not lost.
        let mut eager = server.connect();
        eager.send([opening("/echo").as_bytes(), &frame(1, b"early")].concat());
        assert_eq!(eager.response("GET").status, 101);
        eventually("the echo", || eager.buffered().ends_with(b"\x81\x05early") || eager.fill().is_err());
        assert_eq!(server.metric("one_server_app_tunnels", ""), 2.0);
        assert_eq!(server.metric("one_server_app_requests_active", ""), 0.0, "they are no requests any more");
        assert_eq!(server.metric("one_server_app_worker_running", ""), 0.0, "nor do they take the place of one");
        drop((client, eager));
        eventually_none(&server, "clients leave");
        assert_eq!(server.metric("one_server_app_tunnel_sent_bytes_total", ""), 11.0);
        assert_eq!(server.metric("one_server_app_tunnel_received_bytes_total", ""), 7.0);
        eventually("the log has both", || {
            let log = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            log.lines().filter(|line| line.contains("\"GET /echo HTTP/1.1\" 101 ")).count() == 2
        });
    });
    everywhere(|driver, version| {
        let server = site(driver, "").start();
        let mut asks = connect("ws", "/echo");
        asks["fields"] = json!([["sec-websocket-version", "13"], ["sec-websocket-protocol", "chat"]]);
        let seen = run(&server, version, json!([asks, wait_for_head("ws"), last("ws", ""), wait("ws")]));
        assert_eq!(seen.0["offers_connect"], true, "{driver:?} {version:?}");
        let answer = seen.answer("ws");
        assert_eq!((answer.status(), answer.field("sec-websocket-protocol").as_deref()), (200, Some("chat")));
        for none in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
            assert_eq!(answer.field(none), None, "{driver:?} {version:?}");
        }
    });
}

#[test]
fn what_does_not_become_a_tunnel_is_answered_in_http() {
    with_both_drivers(|driver| {
        let server = site(driver, "").start();
        let mut client = server.connect();
        let without = |field: &str| opening("/echo").replace(field, "X-Nothing");
        for (text, status) in [
            (get("/echo"), 400),
            (without("Sec-WebSocket-Key"), 400),
            (opening("/echo").replace(": 13", ": 12"), 400),
            (opening("/refused"), 403),
            (opening("/open"), 200),
            (opening("/nowhere"), 404),
            (opening("/echo").replace("Upgrade: websocket", "Upgrade: h2c"), 400),
        ] {
            assert_eq!(client.ask(&text).status, status, "{driver:?}: {text}");
        }
        assert_eq!(sockets(&server), "0", "{driver:?}");
        // Where it is not allowed, the handler is told that there is no way.
        let server = site(driver, "upgrade = []").start();
        assert_eq!(server.connect().ask(opening("/echo")).status, 426, "{driver:?}");
    });
    everywhere(|driver, version| {
        let server = site(driver, "").start();
        let cases = [("/refused", 403), ("/open", 501), ("/nowhere", 404), ("/own", 501)];
        let mut steps: Vec<Value> = cases.iter().flat_map(|(path, _)| [connect(path, path), wait(path)]).collect();
        steps.push(ask("after", "/own"));
        let seen = run(&server, version, Value::Array(steps));
        for (path, status) in cases {
            assert_eq!(seen.answer(path).status(), status, "{driver:?} {version:?} {path}");
        }
        assert_eq!(seen.answer("after").text(), "own");
        let server = site(driver, "upgrade = []").start();
        let seen = run(&server, version, json!([ask("page", "/own")]));
        assert_eq!(seen.0["offers_connect"], false, "{driver:?} {version:?}");
    });
}

#[test]
fn any_protocol_that_is_allowed_is_carried_as_it_is() {
    const BYTES: usize = 4 << 20;
    with_both_drivers(|driver| {
        let server = site(driver, "upgrade = [\"websocket\", \"irc\"]").start();
        let mut client = server.connect();
        client.send(request("GET", "/raw", &["Connection: Upgrade", "Upgrade: irc"], ""));
        let answer = client.response("GET");
        assert_eq!((answer.status, answer.field("upgrade"), answer.field("x-raw")), (101, Some("irc"), Some("yes")));
        let mut sender = client.stream.try_clone().expect("a socket");
        let writer = std::thread::spawn(move || {
            std::io::Write::write_all(&mut sender, &pattern(BYTES)).expect("all is taken");
            sender.shutdown(std::net::Shutdown::Write).expect("an end");
        });
        let (bytes, end) = client.read_to_end();
        writer.join().expect("a writer");
        assert!(bytes == [b"hello ", &pattern(BYTES)[..], b"bye"].concat(), "{driver:?}: {} bytes", bytes.len());
        assert!(matches!(end, End::Closed), "{driver:?}: {end:?}");
        eventually_none(&server, "HTTP/1.1");
    });
    everywhere(|driver, version| {
        let server = site(driver, "").start();
        let steps = json!([
            connect("raw", "/raw"),
            wait_for("raw", 6),
            more("raw", json!({ "pattern": BYTES })),
            last("raw", ""),
            wait("raw"),
        ]);
        let seen = run(&server, version, steps);
        let expect = [b"hello ", &pattern(BYTES)[..], b"bye"].concat();
        assert_eq!(seen.answer("raw").sha256(), sha256(&expect), "{driver:?} {version:?}");
        assert!(seen.answer("raw").is_whole(), "{driver:?} {version:?}");
        eventually_none(&server, "streams");
    });
}

#[test]
fn a_client_that_leaves_ends_its_socket() {
    with_both_drivers(|driver| {
        let server = site(driver, "").start();
        for path in ["/echo", "/much"] {
            for resets in [false, true] {
                let client = open(&server, path);
                eventually("it runs", || sockets(&server) == "1");
                match resets {
                    true => client.reset(),
                    false => drop(client),
                }
                eventually_none(&server, path);
            }
        }
        // One that neither reads nor writes hears of it when it does, and holds up nothing else.
        open(&server, "/heeds").reset();
        eventually("the tunnel ends", || server.metric("one_server_http_tunnels", "") == 0.0);
        assert_eq!(sockets(&server), "1", "{driver:?}");
    });
    everywhere(|driver, version| {
        let server = site(driver, "").start();
        let paths = ["/echo", "/much"];
        let mut steps: Vec<Value> =
            paths.into_iter().flat_map(|path| [connect(path, path), wait_for_head(path)]).collect();
        steps.push(signal("open"));
        steps.extend(paths.map(|path| json!({ "op": "reset", "name": path })));
        steps.extend([signal("left"), ask("after", "/own")]);
        let mut client = begin(&server, version, Value::Array(steps));
        client.wait_for("open");
        eventually("both run", || sockets(&server) == "2");
        client.go_on();
        client.wait_for("left");
        eventually_none(&server, &format!("{driver:?} {version:?}"));
        client.go_on();
        assert_eq!(client.end().answer("after").text(), "own", "{driver:?} {version:?}: the connection lives");
    });
}

#[test]
fn an_application_that_goes_ends_its_socket_and_no_other() {
    with_both_drivers(|driver| {
        let server = site(driver, "half_closed_timeout = \"2s\"").start();
        let mut beside = open(&server, "/echo");
        // All that was said comes, and then the end, although the client goes on to talk.
        let mut client = open(&server, "/bye");
        for _ in 0..20 {
            client.send(frame(1, b"and another thing"));
            std::thread::sleep(Duration::from_millis(5));
        }
        let begun = Instant::now();
        let (bytes, end) = client.read_to_end();
        assert_eq!(bytes, [&b"\x81\x03bye\x88\x08\x03\xe8enough"[..]].concat(), "{driver:?}");
        assert!(matches!(end, End::Closed), "{driver:?}: {end:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?}");
        let (bytes, _) = open(&server, "/gone").read_to_end();
        assert!(bytes.is_empty(), "{driver:?}");
        let mut panics = open(&server, "/panic");
        let (bytes, _) = panics.send(frame(1, b"now")).read_to_end();
        assert!(bytes.is_empty(), "{driver:?}");
        beside.send(frame(1, b"still"));
        eventually("the echo", || beside.buffered().ends_with(b"\x81\x05still") || beside.fill().is_err());
        drop(beside);
        eventually_none(&server, "all");
        // The worker as a whole.
        let server = site(driver, "").one_worker().start();
        let mut others = [open(&server, "/echo"), open(&server, "/deaf")];
        let mut fails = open(&server, "/fail");
        fails.send(frame(1, b"now"));
        assert!(fails.read_to_end().0.is_empty(), "{driver:?}");
        others.iter_mut().for_each(|client| assert!(client.read_to_end().0.is_empty(), "{driver:?}"));
        eventually_none(&server, "the worker has failed");
        assert_eq!(server.metric("one_server_app_worker_restarts_total", ""), 1.0, "{driver:?}");
        drop(open(&server, "/echo"));
    });
    everywhere(|driver, version| {
        let server = site(driver, "half_closed_timeout = \"2s\"").start();
        let steps = json!([
            connect("beside", "/raw"),
            wait_for("beside", 6),
            connect("bye", "/bye"),
            wait("bye"),
            connect("gone", "/gone"),
            wait("gone"),
            last("beside", "x"),
            wait("beside"),
        ]);
        let seen = run(&server, version, steps);
        assert_eq!(seen.answer("bye").content(), b"\x81\x03bye\x88\x08\x03\xe8enough", "{driver:?} {version:?}");
        assert!(seen.answer("bye").is_whole() && seen.answer("gone").is_whole(), "{driver:?} {version:?}: {}", seen.0);
        assert_eq!(seen.answer("beside").text(), "hello xbye", "{driver:?} {version:?}");
        eventually_none(&server, "streams");
    });
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    with_both_drivers(|driver| {
        let server = site(driver, "").start();
        let before = server.resident_mib().0;
        let mut much: Vec<Client> = (0..10).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut much, &opening("/much"));
        let mut deaf = open(&server, "/deaf");
        deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
        let (mut taken, piece) = (0, vec![0; 1 << 20]);
        while taken < 64 << 20 && std::io::Write::write_all(&mut deaf.stream, &piece).is_ok() {
            taken += piece.len();
        }
        assert!(taken < 32 << 20, "{driver:?}: {taken} bytes that nobody reads were taken");
        eventually("all run", || sockets(&server) == "11");
        std::thread::sleep(Duration::from_millis(300));
        let now = server.resident_mib().0;
        assert!(now < before + 40, "{driver:?}: {before} MiB, then {now} MiB");
        let received = server.metric("one_server_app_tunnel_received_bytes_total", "");
        assert!(received < 80e6, "{driver:?}: {received} bytes were taken from the application");
        drop(much);
        eventually("the others go", || sockets(&server) == "1");
    });
}

#[test]
fn silence_ends_a_socket_and_talk_keeps_it() {
    with_both_drivers(|driver| {
        let server = site(driver, "tunnel_timeout = \"700ms\"").start();
        let mut silent = open(&server, "/echo");
        let mut talks = open(&server, "/echo");
        let begun = Instant::now();
        for _ in 0..8 {
            talks.send(frame(9, b"ping"));
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(talks.fill().is_ok_and(|bytes| bytes > 0), "{driver:?}");
        assert!(talks.buffered().starts_with(b"\x8a\x04ping"), "{driver:?}: {:?}", talks.buffered());
        let (bytes, _) = silent.read_to_end();
        assert!(bytes.is_empty() && begun.elapsed() < Duration::from_secs(5), "{driver:?}");
        eventually_none(&server, "silence");
        assert!(server.metric("one_server_http_timeouts_total", "") >= 1.0, "{driver:?}");
    });
}

#[test]
fn sockets_hear_of_a_drain_and_live_through_a_reload() {
    with_both_drivers(|driver| {
        let mut server = site(driver, "tunnel_timeout = \"59s\"")
            .process("control = \"$DIR/ctl.sock\"\ndrain_timeout = \"20s\"")
            .start();
        let (mut heeds, mut talks) = (open(&server, "/heeds"), open(&server, "/echo"));
        server.reload_with(&[("tunnel_timeout = \"59s\"", "tunnel_timeout = \"58s\"")]);
        talks.send(frame(1, b"one"));
        eventually("the echo", || talks.buffered().ends_with(b"\x81\x03one") || talks.fill().is_err());
        let begun = Instant::now();
        server.signal(Signal::QUIT);
        let close = b"\x88\x0a\x03\xe9draining";
        while heeds.buffered().len() < close.len() {
            assert!(heeds.fill().is_ok_and(|bytes| bytes > 0), "{driver:?}");
        }
        assert_eq!(heeds.buffered(), close, "{driver:?}");
        heeds.send(frame(8, b"\x03\xe9"));
        assert!(matches!(heeds.read_to_end().1, End::Closed), "{driver:?}");
        // One that does not heed lives as long as it may.
        talks.send(frame(1, b"two"));
        eventually("the echo", || talks.buffered().ends_with(b"\x81\x03two") || talks.fill().is_err());
        assert!(server.is_running(), "{driver:?}");
        talks.send(frame(8, b"\x03\xe8"));
        drop(talks.read_to_end());
        assert!(server.wait().success(), "{driver:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{driver:?}: nobody was waited for in vain");
    });
}
