//! WebSockets over one stream of HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220), at the real binary, to servers that speak HTTP/1.1. The
//! clients are h2, aioquic and a browser; the servers are scripted ones on raw sockets, and Python's `websockets`.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::http3::{ask, ask_with, python, sha256};
use support::ports::free_address;
use support::tls::{Kind, trusted};
use support::upstream::Then;
use support::websocket::{Version, begin, last, more, run, signal, wait, wait_for, wait_for_head};
use support::*;

/// Runs `test` with each driver and each version.
fn everywhere(test: impl Fn(Driver, Version) + Sync) {
    if python().is_some() {
        with_both_drivers(|driver| {
            test(driver, Version::Http2);
            test(driver, Version::Http3);
        });
    }
}

fn site(driver: Driver, address: SocketAddr, keys: &str) -> Site {
    let site = format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/files/\"\nfiles = \"$DIR/root\"\n\
         [[site.main.route]]\nexact = \"/own\"\nrespond = {{ body = \"own\" }}\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\n{keys}\n"
    );
    Site::new(driver, &site)
        .file("root/page.html", b"<p>page</p>")
        .secure("http3 = true")
        .process("control = \"$DIR/ctl.sock\"")
}

fn start(driver: Driver, upstream: &FakeUpstream, keys: &str) -> Server {
    site(driver, upstream.address, keys).start()
}

/// An extended CONNECT that is not waited for.
fn connect(name: &str, path: &str) -> Value {
    let fields = [["sec-websocket-version", "13"], ["sec-websocket-protocol", "chat"], ["origin", "https://test"]];
    let more = json!({
        "method": "CONNECT", "protocol": "websocket", "fields": fields, "ends": false, "waits": false
    });
    ask_with(name, path, more)
}

fn agreed(exchange: &Exchange) -> String {
    let key = exchange.request.field("sec-websocket-key").expect("a key");
    let accept = support::websocket::accept_of(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// Agrees, says `hello `, then sends back what comes until the end, and says `bye`.
fn echo(exchange: &mut Exchange) -> Then {
    if exchange.request.field("upgrade").is_none() {
        return exchange.ok("plain");
    }
    let agreed = agreed(exchange);
    exchange.send(format!("{agreed}hello "));
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count) = exchange.stream.read(&mut chunk) {
        if count == 0 || exchange.stream.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    exchange.send("bye");
    Then::Close
}

#[test]
fn both_sides_speak_freely_once_they_agree() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let server =
            site(driver, upstream.address, "").log("access = \"$DIR/access.log\"\nformat = \"combined\"").start();
        let mut client = begin(
            &server,
            version,
            json!([
                connect("ws", "/chat?room=1"),
                wait_for("ws", 6),
                more("ws", "one, GET / HTTP/1.1\r\n\r\n"),
                wait_for("ws", 29),
                ask("beside", "/plain"),
                connect("other", "/other"),
                wait_for("other", 6),
                signal("open"),
                // The client ends its direction; the other one goes on.
                last("ws", "two"),
                wait("ws"),
                last("other", ""),
                wait("other"),
                ask("after", "/plain"),
            ]),
        );
        client.wait_for("open");
        assert_eq!(server.metric("one_server_http_tunnels", ""), 2.0, "{driver:?} {version:?}");
        client.go_on();
        let seen = client.end();
        assert_eq!(seen.0["offers_connect"], true, "{driver:?} {version:?}");
        let answer = seen.answer("ws");
        assert_eq!(answer.status(), 200, "{driver:?} {version:?}");
        for none in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
            assert_eq!(answer.field(none), None, "{driver:?} {version:?}");
        }
        assert_eq!(answer.field("sec-websocket-protocol").as_deref(), Some("chat"));
        assert_eq!(answer.text(), "hello one, GET / HTTP/1.1\r\n\r\ntwobye");
        assert!(answer.is_whole() && seen.answer("other").is_whole(), "{driver:?} {version:?}: {}", seen.0);
        assert_eq!(seen.answer("other").text(), "hello bye");
        assert_eq!((seen.answer("beside").text(), seen.answer("after").text()), ("plain".into(), "plain".into()));

        let asked: Vec<Seen> = upstream.seen().into_iter().filter(|seen| seen.field("upgrade").is_some()).collect();
        assert_eq!(asked.len(), 2);
        for (asked, target) in asked.iter().zip(["/chat?room=1", "/other"]) {
            assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", target));
            assert_eq!((asked.field("connection"), asked.field("upgrade")), (Some("upgrade"), Some("websocket")));
            assert_eq!(asked.field("sec-websocket-version"), Some("13"));
            assert_eq!(asked.field("origin"), Some("https://test"));
            assert_eq!((asked.field("content-length"), asked.field("transfer-encoding")), (None, None));
        }
        let key = |at: usize| asked[at].field("sec-websocket-key").expect("a key").to_owned();
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(key(0)).expect("Base64").len(), 16);
        assert_ne!(key(0), key(1), "a fresh one each time");

        upstream.wait_until_all_closed_but_idle();
        server.wait_until_no_client();
        assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0);
        assert_eq!(server.metric("one_server_upstream_tunnel_sent_bytes_total", ""), 26.0);
        let mut log = String::new();
        eventually("the lines of the log", || {
            log = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            log.lines().count() == 4
        });
        // Bytes of content down: `hello `, what came back, `bye`.
        let line = format!("\"GET /chat?room=1 {}\" 200 35 ", version.in_log());
        assert!(log.contains(&line), "{line}: {log}");
    });
}

/// Python's `websockets`, none of ours.
const ECHO: &str = r#"
import asyncio, sys, websockets
async def serve(websocket, path=None):
    async for message in websocket:
        await websocket.send(message)
async def main():
    async with websockets.serve(serve, "127.0.0.1", int(sys.argv[1]), max_size=None):
        print("ready", flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

struct Python(Child);

impl Python {
    fn start(address: SocketAddr) -> Python {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", ECHO, &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut ready = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it starts");
        Python(child)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn messages_of_all_sizes_come_and_go_and_both_say_goodbye() {
    everywhere(|driver, version| {
        let address = free_address();
        let _echo = Python::start(address);
        let server = site(driver, address, "").start();
        let steps = json!([connect("ws", "/"), wait_for_head("ws"), { "op": "messages", "name": "ws" }, last("ws", ""), wait("ws")]);
        let mut connected = steps.as_array().expect("a list").clone();
        // `chat` is not spoken there.
        connected[0]["fields"] = json!([["sec-websocket-version", "13"]]);
        let seen = run(&server, version, Value::Array(connected));
        assert_eq!(seen.0["talked"], true, "{driver:?} {version:?}: {}", seen.0);
        assert!(seen.answer("ws").is_whole(), "{driver:?} {version:?}: {}", seen.0["answers"]["ws"]["end"]);
    });
}

#[test]
fn a_server_that_is_killed_ends_its_tunnels_and_no_others() {
    everywhere(|driver, version| {
        let address = free_address();
        let echo = Python::start(address);
        let server = site(driver, address, "").start();
        let mut connect = connect("ws", "/");
        connect["fields"] = json!([["sec-websocket-version", "13"]]);
        let steps = json!([connect, wait_for_head("ws"), signal("open"), wait("ws"), ask("after", "/own")]);
        let mut client = begin(&server, version, steps);
        client.wait_for("open");
        drop(echo);
        client.go_on();
        let seen = client.end();
        assert_eq!((seen.answer("ws").status(), seen.answer("after").text()), (200, "own".into()));
        server.wait_until_no_client();
        assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0, "{driver:?} {version:?}");
    });
}

#[test]
fn megabytes_go_both_ways_at_once() {
    const BYTES: usize = 4 << 20;
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let server = start(driver, &upstream, "");
        let steps = json!([
            connect("ws", "/"),
            wait_for("ws", 6),
            more("ws", json!({ "pattern": BYTES })),
            last("ws", ""),
            wait("ws"),
        ]);
        let seen = run(&server, version, steps);
        let expect = [b"hello ", &pattern(BYTES)[..], b"bye"].concat();
        assert_eq!(seen.answer("ws").sha256(), sha256(&expect), "{driver:?} {version:?}");
        assert!(seen.answer("ws").is_whole());
    });
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    everywhere(|driver, version| {
        let (sent, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (sends, takes) = (sent.clone(), taken.clone());
        let upstream = FakeUpstream::start(move |exchange| {
            let agreed = agreed(exchange);
            exchange.send(agreed);
            exchange.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
            let chunk = [b'x'; 16 * 1024];
            match exchange.request.target.as_str() {
                "/much" => loop {
                    match exchange.stream.write(&chunk) {
                        Ok(count) => sends.fetch_add(count as u64, Ordering::SeqCst),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                        Err(_) => return Then::Close,
                    };
                },
                // Reads nothing until it is over.
                _ => {
                    std::thread::sleep(Duration::from_secs(3));
                    let mut chunk = vec![0; 64 * 1024];
                    while let Ok(count) = exchange.stream.read(&mut chunk)
                        && count > 0
                    {
                        takes.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    Then::Close
                }
            }
        });
        let server = start(driver, &upstream, "");
        let before = server.resident_mib().0;
        let steps = json!([
            { "op": "freeze" },
            connect("much", "/much"),
            wait_for_head("much"),
            connect("deaf", "/deaf"),
            wait_for_head("deaf"),
            json!({ "op": "more", "name": "deaf", "content": { "zeros": 24 << 20 }, "beside": true }),
            { "op": "sleep", "seconds": 1.5 },
            signal("full"),
            json!({ "op": "reset", "name": "much" }),
            json!({ "op": "reset", "name": "deaf" }),
            ask("after", "/own"),
        ]);
        let mut client = begin(&server, version, steps);
        client.wait_for("full");
        let sent_first = sent.load(Ordering::SeqCst);
        // What the kernel keeps of a connection, our buffers, the client's window.
        assert!(sent_first < 16 << 20, "{driver:?} {version:?}: {sent_first} bytes were taken from the server");
        let resident = server.resident_mib().0;
        assert!(resident < before + 40, "{driver:?} {version:?}: {before} MiB, then {resident} MiB");
        let gauge = server.metric("one_server_upstream_tunnel_sent_bytes_total", "");
        assert!(gauge < f64::from(16 << 20), "{driver:?} {version:?}: {gauge} bytes were taken from the client");
        client.go_on();
        let seen = client.end();
        assert_eq!(seen.answer("after").status(), 200);
        if version == Version::Http2 {
            // Over HTTP/3 the answer to that reset is another.
            let ends = ["much", "deaf"].map(|name| seen.0["answers"][name]["end"].clone());
            assert_eq!(ends, ["reset", "reset"], "{driver:?}: it was the client who ended them");
        }
        upstream.wait_until_all_closed_but_idle();
        eventually("both tunnels end", || server.metric("one_server_http_tunnels", "") == 0.0);
    });
}

#[test]
fn what_does_not_become_a_tunnel_is_answered_in_http() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(|exchange| {
            let agreed = agreed(exchange);
            match exchange.request.target.as_str() {
                "/forbidden" => exchange.send("HTTP/1.1 403 Forbidden\r\nX-Why: so\r\nContent-Length: 2\r\n\r\nno"),
                "/away" => exchange.send("HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"),
                "/plain" => return exchange.ok("just a page"),
                "/no-content" => exchange.send("HTTP/1.1 204 No Content\r\n\r\n"),
                "/h2c" => exchange.send(agreed.replace("websocket", "h2c")),
                "/none" => exchange.send(agreed.replace("Upgrade: websocket\r\n", "")),
                "/wrong-key" => exchange.send(agreed.replace("Accept: ", "Accept: x")),
                "/no-key" => exchange.send(agreed.replace("Sec-WebSocket-Accept", "X-Accept")),
                _ => false,
            };
            Then::Close
        });
        let server = start(driver, &upstream, "tries = 1");
        let expected = [
            ("/forbidden", 403),
            ("/away", 302),
            ("/plain", 502),
            ("/no-content", 502),
            ("/h2c", 502),
            ("/none", 502),
            ("/wrong-key", 502),
            ("/no-key", 502),
            ("/closes", 502),
            ("/own", 501),
            ("/files/page.html", 501),
        ];
        let mut steps: Vec<Value> = expected.iter().flat_map(|(path, _)| [connect(path, path), wait(path)]).collect();
        let other = |name: &str, protocol: &str| {
            let mut step = connect(name, "/forbidden");
            step["protocol"] = protocol.into();
            step
        };
        steps.extend([
            other("udp", "connect-udp"),
            wait("udp"),
            other("h2c", "h2c"),
            wait("h2c"),
            ask("after", "/own"),
        ]);
        let seen = run(&server, version, Value::Array(steps));
        for (path, status) in expected {
            let answer = seen.answer(path);
            assert_eq!(answer.status(), status, "{driver:?} {version:?} {path}");
            assert!(answer.is_whole(), "{driver:?} {version:?} {path}: {}", seen.0);
        }
        let forbidden = seen.answer("/forbidden");
        assert_eq!((forbidden.text(), forbidden.field("x-why").as_deref()), ("no".into(), Some("so")));
        assert_eq!(seen.answer("/away").field("location").as_deref(), Some("/else"));
        assert_eq!((seen.answer("udp").status(), seen.answer("h2c").status()), (501, 501), "{driver:?} {version:?}");
        assert_eq!(seen.answer("after").text(), "own");
        assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0);
    });
}

#[test]
fn it_is_offered_where_a_server_may_be_asked_for_it() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let server = start(driver, &upstream, "upgrade = []");
        let steps = json!([connect("ws", "/"), wait("ws"), ask("after", "/own")]);
        let seen = run(&server, version, steps);
        assert_eq!(seen.0["offers_connect"], false, "{driver:?} {version:?}");
        // PROTOCOL_ERROR, H3_MESSAGE_ERROR
        let code = if version == Version::Http2 { 1 } else { 0x10e };
        assert_eq!(seen.answer("ws").reset(), Some(code), "{driver:?} {version:?}");
        assert_eq!(seen.answer("after").text(), "own");
        assert_eq!(upstream.seen().len(), 0);
        // A connection from before a reload that takes it away.
        let server = start(driver, &upstream, "upgrade = [\"websocket\"]");
        let steps = json!([
            connect("open", "/"),
            wait_for("open", 6),
            signal("here"),
            connect("late", "/"),
            wait("late"),
            last("open", "!"),
            wait("open"),
        ]);
        let mut client = begin(&server, version, steps);
        client.wait_for("here");
        server.reload_with(&[("upgrade = [\"websocket\"]", "upgrade = []")]);
        client.go_on();
        let seen = client.end();
        assert_eq!((seen.answer("late").status(), seen.answer("open").text()), (501, "hello !bye".into()));
    });
}

#[test]
fn an_end_by_force_is_passed_on() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(|exchange| {
            let agreed = agreed(exchange);
            exchange.send(agreed);
            match exchange.request.target.as_str() {
                "/server" => exchange.reset(),
                _ => {
                    assert!(exchange.wait_for_close(), "the server hears of the client's end");
                    Then::Close
                }
            }
        });
        let server = start(driver, &upstream, "");
        let steps = json!([
            connect("server", "/server"),
            wait("server"),
            connect("client", "/client"),
            wait_for_head("client"),
            { "op": "reset", "name": "client" },
            ask("after", "/own"),
            signal("reset"),
        ]);
        let mut client = begin(&server, version, steps);
        client.wait_for("reset");
        upstream.wait_until_all_closed();
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
        client.go_on();
        let seen = client.end();
        assert_eq!(seen.answer("server").reset(), Some(version.cancelled()), "{driver:?} {version:?}");
        assert_eq!(seen.answer("after").text(), "own");
        server.wait_until_no_client();
    });
}

/// RFC 9113 section 8.5, RFC 9114 section 4.4.
#[test]
fn nothing_but_content_goes_through_a_tunnel() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let server = start(driver, &upstream, "");
        let over = if version == Version::Http2 { wait("ws") } else { json!({ "op": "closed" }) };
        let steps = json!([connect("ws", "/"), wait_for("ws", 6), { "op": "trailers", "name": "ws" }, over]);
        let seen = run(&server, version, steps);
        match version {
            Version::Http2 => assert_eq!(seen.answer("ws").reset(), Some(version.cancelled()), "{driver:?}"),
            Version::Http3 => assert_eq!(seen.closed(), Some(0x105), "{driver:?}"), // H3_FRAME_UNEXPECTED
        }
        upstream.wait_until_all_closed();
        server.wait_until_no_client();
    });
}

#[test]
fn silence_ends_a_tunnel_and_talk_keeps_it() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let server = site(driver, upstream.address, "tunnel_timeout = \"600ms\"")
            .log("access = \"$DIR/access.log\"\nformat = \"haproxy\"")
            .start();
        let mut steps = vec![connect("ws", "/talk"), wait_for("ws", 6)];
        for at in 0..5 {
            steps.extend([json!({ "op": "sleep", "seconds": 0.25 }), more("ws", "x"), wait_for("ws", 7 + at)]);
        }
        steps.extend([signal("silent"), wait("ws"), ask("after", "/own")]);
        let mut client = begin(&server, version, Value::Array(steps));
        client.wait_for("silent");
        let begun = Instant::now();
        client.go_on();
        let seen = client.end();
        assert!((400..5000).contains(&begun.elapsed().as_millis()), "{driver:?} {version:?} {:?}", begun.elapsed());
        assert_eq!(seen.answer("ws").text(), "hello xxxxx");
        assert_eq!(seen.answer("ws").reset(), Some(version.cancelled()), "{driver:?} {version:?}");
        assert_eq!(seen.answer("after").text(), "own", "the connection goes on");
        upstream.wait_until_all_closed();
        let mut line = String::new();
        eventually("the line of the log", || {
            line = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            line.contains("GET /talk")
        });
        assert!(line.contains(" 200 ") && line.contains(" sD"), "{driver:?} {version:?} {line}");
    });
}

#[test]
fn a_half_that_has_ended_does_not_hold_the_other_for_ever() {
    everywhere(|driver, version| {
        // The server keeps its end open and says nothing.
        let upstream = FakeUpstream::start(|exchange| {
            let agreed = agreed(exchange);
            exchange.send(agreed);
            std::thread::sleep(Duration::from_secs(6));
            Then::Close
        });
        let server = start(driver, &upstream, "half_closed_timeout = \"500ms\"");
        let steps = json!([connect("ws", "/"), wait_for_head("ws"), last("ws", "the last word"), wait("ws")]);
        let begun = Instant::now();
        let seen = run(&server, version, steps);
        assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?} {version:?}: it was we who ended it");
        assert_eq!(seen.answer("ws").reset(), Some(version.cancelled()), "{driver:?} {version:?}");
        eventually("it is gone", || server.metric("one_server_upstream_requests_active", "") == 0.0);
    });
}

#[test]
fn reloads_and_drains_let_tunnels_live() {
    everywhere(|driver, version| {
        let upstream = FakeUpstream::start(echo);
        let mut server = start(driver, &upstream, "tries = 2");
        let steps = json!([
            connect("ws", "/"),
            wait_for("ws", 6),
            signal("open"),
            more("ws", "behind a reload,"),
            wait_for("ws", 22),
            connect("new", "/"),
            wait_for("new", 6),
            last("new", ""),
            wait("new"),
            signal("reloaded"),
            { "op": "sleep", "seconds": 0.5 },
            more("ws", "in a drain,"),
            wait_for("ws", 33),
            last("ws", ""),
            wait("ws"),
        ]);
        let mut client = begin(&server, version, steps);
        client.wait_for("open");
        for tries in [3, 4, 5] {
            server.reload_with(&[(&format!("tries = {}", tries - 1), &format!("tries = {tries}"))]);
        }
        assert_eq!(server.metric("one_server_http_tunnels", ""), 1.0, "{driver:?} {version:?}");
        client.go_on();
        client.wait_for("reloaded");
        server.signal(Signal::QUIT);
        std::thread::sleep(Duration::from_millis(300));
        assert!(server.is_running(), "{driver:?} {version:?}");
        client.go_on();
        let seen = client.end();
        assert_eq!(seen.answer("ws").text(), "hello behind a reload,in a drain,bye", "{driver:?} {version:?}");
        assert_eq!(seen.answer("new").text(), "hello bye");
        assert!(seen.answer("ws").is_whole() && !seen.goaways().is_empty(), "{driver:?} {version:?}: {}", seen.0);
        assert!(server.wait().success(), "{driver:?} {version:?}");
    });
}

/// A page that talks to a server of WebSockets, and tells what came of it in the request for a picture. No message is empty
/// that is the last one: Chromium 156 may keep such a one back while it still writes the one before it.
const PAGE: &str = r#"<!doctype html><html lang=en><meta charset=utf-8><title>loading</title><link rel=icon href=data:,>
<img><script type=module>
const url = "wss://" + location.host + "/ws";
const talk = () => new Promise(resolve => {
  const socket = new WebSocket(url), seen = [];
  socket.binaryType = "arraybuffer";
  const sent = ["ä text", "", "x".repeat(100000), new Uint8Array(1000000).fill(7).buffer, "last"];
  const same = (one, other) => typeof one === "string" ? one === other
    : one.byteLength === other.byteLength && new Uint8Array(other).every(byte => byte === 7);
  socket.onopen = () => sent.forEach(message => socket.send(message));
  socket.onmessage = event => {
    seen.push(same(sent[seen.length], event.data));
    if (seen.length === sent.length) socket.close(1000, "enough");
  };
  socket.onclose = event => resolve([seen.join(), event.code, event.wasClean]);
});
const results = [await talk(), ...await Promise.all([talk(), talk()])];
document.querySelector("img").src = "/report.png?" + encodeURIComponent(JSON.stringify(results));
</script></html>"#;

#[test]
fn a_browser_speaks_websocket_over_http2() {
    if !has_program("chromium") {
        return;
    }
    for driver in [Driver::IoUring, Driver::Epoll] {
        let address = free_address();
        let _echo = Python::start(address);
        let identity = trusted().server(&["localhost"], Kind::Ecdsa);
        let site = format!(
            "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n\
             [[site.main.route]]\npath = \"/ws\"\nproxy = \"up\"\n\
             [upstream.up]\nservers = \"{address}\"\nhealth = false\n\
             [listener.secure]\naddress = \"127.0.0.1:0\"\n\
             tls.certificates = [{{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }}]\n"
        );
        let server = Site::new(driver, &site)
            .identity("server", &identity)
            .file("root/index.html", PAGE.as_bytes())
            .log("access = \"$DIR/access.log\"\nformat = \"combined\"")
            .start();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &identity.public_key);
        let pin = base64::engine::general_purpose::STANDARD.encode(digest);
        let mut read = 0;
        let mut visit = || {
            let folder = tempfile::tempdir().expect("a folder");
            let mut browser = Command::new("chromium")
                .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
                .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
                .args([
                    "--no-proxy-server",
                    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
                ])
                .arg(format!("--ignore-certificate-errors-spki-list={pin}"))
                .arg(format!("--user-data-dir={}", folder.path().display()))
                .args(["--enable-logging=stderr", "--remote-debugging-port=0"])
                .arg(format!("https://localhost:{}/", server.address("secure").port()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(folder.path().join("log")).expect("a file"))
                .spawn()
                .expect("chromium");
            let mut log = String::new();
            let begun = Instant::now();
            while !log.contains("/report.png?") && begun.elapsed() < Duration::from_secs(90) {
                std::thread::sleep(Duration::from_millis(100));
                let all = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
                log = all[read..].to_owned();
            }
            let _ = browser.kill();
            let _ = browser.wait();
            let errors = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            let good = "%5B%22true%2Ctrue%2Ctrue%2Ctrue%2Ctrue%22%2C1000%2Ctrue%5D";
            let expect = format!("/report.png?%5B{}%5D ", [good; 3].join("%2C"));
            assert!(log.contains(&expect), "{driver:?}: {log}\n{errors}");
            read += log.len();
            // One by a stream each, all on the connection of the page.
            log.matches("\"GET /ws HTTP/2.0\" 200 ").count() == 3
        };
        // What the page sees must be right each time. By which version it asks is the browser's choice, which now and then makes
        // connections of HTTP/1.1 for WebSockets.
        assert!((0..4).any(|_| visit()), "{driver:?}");
    }
}
