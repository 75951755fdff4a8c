//! Leaving HTTP for another protocol, at the real binary: WebSockets and what else asks with Upgrade. Sources: RFC 9110
//! section 7.8, RFC 6455. The servers and clients are scripted ones on raw sockets, and Python's `websockets`.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::ports::free_address;
use support::tls::{TlsClient, TlsEnd};
use support::upstream::Then;
use support::*;

const ASK: [&str; 4] =
    ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"];

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: BBBB\r\n\r\n";

fn site(address: SocketAddr, keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\n{keys}\n"
    )
}

fn start(driver: Driver, upstream: &FakeUpstream, keys: &str) -> Server {
    Site::new(driver, &site(upstream.address, keys)).start()
}

/// Agrees, says `hello `, then sends back what comes until the end, and says `bye`.
fn echo(exchange: &mut Exchange) -> Then {
    let early = exchange.take_early();
    exchange.send(format!("{AGREED}hello "));
    exchange.send(&early);
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
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(echo);
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        // What stands right behind the head belongs to the new protocol already.
        client.send(format!("{}early ", request("GET", "/chat?room=1", &ASK, "")));
        let answer = client.response("GET");
        assert_eq!((answer.status, answer.field("upgrade")), (101, Some("WebSocket")), "{:?}", answer.fields);
        assert_eq!(answer.field("connection"), Some("upgrade"));
        assert_eq!(answer.field("sec-websocket-accept"), Some("BBBB"));
        assert_eq!(client.take(12), b"hello early ");
        let seen = upstream.last();
        assert_eq!((seen.field("connection"), seen.field("upgrade")), (Some("upgrade"), Some("WebSocket")));
        assert_eq!(seen.field("sec-websocket-key"), Some("AAAA"));
        for n in 0..20 {
            let text = format!("message {n}, GET / HTTP/1.1\r\n\r\n");
            client.send(&text);
            assert_eq!(client.take(text.len()), text.as_bytes(), "{driver:?}");
        }
        assert_eq!(server.metric("one_server_http_tunnels", ""), 1.0);
        // The client ends its direction; the other one goes on.
        client.finish_sending();
        assert_eq!(client.read_to_end(), (b"bye".to_vec(), End::Closed), "{driver:?}");
        server.wait_until_no_client();
        assert_eq!(server.metric("one_server_http_tunnels", ""), 0.0);
        upstream.wait_until_all_closed();
    });
}

#[test]
fn megabytes_go_both_ways_at_once_and_a_slow_side_slows_the_other() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(echo);
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.send(request("GET", "/", &ASK, ""));
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.take(6), b"hello ");
        let sent = pattern(24 << 20);
        let mut writer = client.stream.try_clone().expect("a socket");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).expect("the server takes it");
                writer.shutdown(Shutdown::Write).expect("a socket");
            });
            // Nobody reads for a while: what is under way must not pile up in the server.
            std::thread::sleep(Duration::from_millis(500));
            let (resident, _) = server.resident_mib();
            assert!(resident < 120, "{driver:?}: {resident} MiB");
            let (got, end) = client.read_to_end();
            assert_eq!(end, End::Closed, "{driver:?}");
            assert!(got[..got.len() - 3] == sent[..] && got.ends_with(b"bye"), "{driver:?}: {} bytes", got.len());
            let spliced = server.metric("one_server_spliced_bytes_total", "") as usize;
            assert!(spliced > sent.len(), "{driver:?}: only {spliced} of {} bytes were spliced", 2 * sent.len());
        });
    });
}

#[test]
fn over_tls_too() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(echo);
        let server = Site::new(driver, &site(upstream.address, "")).secure("").start();
        let mut client = TlsClient::connect(server.address("secure"));
        client.send(request("GET", "/", &ASK, ""));
        assert_eq!(client.response("GET").status, 101, "{driver:?}");
        assert_eq!(client.take(6), b"hello ", "{driver:?}");
        let sent = pattern(3 << 20);
        for piece in sent.chunks(40_000) {
            client.send(piece);
            assert!(client.take(piece.len()) == piece, "{driver:?}");
        }
        client.finish_sending();
        let (rest, end) = client.read_to_end();
        assert_eq!((rest.as_slice(), end), (b"bye".as_slice(), TlsEnd::CloseNotify), "{driver:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn a_server_that_does_not_agree_answers_in_http() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        for _ in 0..3 {
            let answer = client.ask(request("GET", "/", &ASK, ""));
            assert_eq!((answer.status, answer.text().as_str()), (403, "no"), "{driver:?}");
        }
        assert_eq!(upstream.connections(), 1, "{driver:?}: kept");
    });
}

#[test]
fn no_other_protocol_than_what_was_asked_for() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let answer = match exchange.request.target.as_str() {
                "/h2c" => AGREED.replace("websocket", "h2c"),
                "/none" => AGREED.replace("Upgrade: websocket\r\n", ""),
                _ => AGREED.to_owned(),
            };
            exchange.send(answer);
            Then::Close
        });
        let server = start(driver, &upstream, "tries = 1");
        for target in ["/h2c", "/none"] {
            let answer = server.connect().ask(request("GET", target, &ASK, ""));
            assert_eq!(answer.status, 502, "{driver:?} {target}");
        }
        // Nobody asked at all: without Connection, by POST, from HTTP/1.0, for HTTP/2.
        for (method, fields, body) in [
            ("GET", vec!["Upgrade: websocket"], ""),
            ("GET", vec!["Connection: upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"], ""),
            ("POST", vec!["Connection: upgrade", "Upgrade: websocket"], "x"),
        ] {
            let answer = server.connect().ask(request(method, "/", &fields, body));
            assert_eq!(answer.status, 502, "{driver:?} {fields:?}");
            let seen = upstream.last();
            assert!(seen.values("upgrade").is_empty(), "{driver:?} {:?}", seen.fields);
        }
    });
}

#[test]
fn protocols_are_those_of_the_config() {
    let upstream = FakeUpstream::start(|exchange| {
        let asked = exchange.request.field("upgrade").unwrap_or("nothing").to_owned();
        exchange.ok(&asked)
    });
    for (keys, expect) in [("upgrade = []", "nothing"), ("upgrade = [\"IRC\"]", "irc/6.9")] {
        let server = start(Driver::IoUring, &upstream, keys);
        let fields = ["Connection: upgrade", "Upgrade: websocket, irc/6.9"];
        assert_eq!(server.connect().ask(request("GET", "/", &fields, "")).text(), expect, "{keys}");
    }
}

#[test]
fn silence_ends_a_tunnel_and_talk_keeps_it() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(echo);
        let server = Site::new(driver, &site(upstream.address, "tunnel_timeout = \"600ms\""))
            .log("access = \"$DIR/access.log\"\nformat = \"haproxy\"")
            .start();
        let mut client = server.connect();
        client.send(request("GET", "/talk", &ASK, ""));
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.take(6), b"hello ");
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(250));
            client.send("x");
            assert_eq!(client.take(1), b"x", "{driver:?}");
        }
        let begun = Instant::now();
        client.read_to_end();
        assert!((400..3000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        upstream.wait_until_all_closed();
        let mut line = String::new();
        eventually("the line of the log", || {
            line = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            line.contains("GET /talk")
        });
        assert!(line.contains(" 101 ") && line.contains(" sD"), "{driver:?} {line}");
    });
}

#[test]
fn an_end_by_force_is_passed_on() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send(AGREED);
            match exchange.request.target.as_str() {
                "/server" => exchange.reset(),
                _ => {
                    assert!(exchange.wait_for_close(), "the server hears of the client's end");
                    Then::Close
                }
            }
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.send(request("GET", "/server", &ASK, ""));
        assert_eq!(client.response("GET").status, 101);
        client.read_to_end();
        let mut client = server.connect();
        client.send(request("GET", "/client", &ASK, ""));
        assert_eq!(client.response("GET").status, 101);
        client.reset();
        upstream.wait_until_all_closed();
        server.wait_until_no_client();
    });
}

#[test]
fn a_drain_lets_tunnels_live() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(echo);
        let mut server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.send(request("GET", "/", &ASK, ""));
        assert_eq!(client.response("GET").status, 101);
        assert_eq!(client.take(6), b"hello ");
        server.signal(Signal::QUIT);
        std::thread::sleep(Duration::from_millis(500));
        assert!(server.is_running(), "{driver:?}");
        client.send("still here");
        assert_eq!(client.take(10), b"still here", "{driver:?}");
        client.finish_sending();
        assert_eq!(client.read_to_end().0, b"bye");
        assert!(server.wait().success(), "{driver:?}");
    });
}

/// A WebSocket server and a client that both are none of ours.
const PYTHON: &str = r#"
import asyncio, os, ssl, sys, websockets
async def serve(websocket, path=None):
    async for message in websocket:
        await websocket.send(message)
async def main():
    url = sys.argv[1]
    ws = await websockets.serve(serve, "127.0.0.1", int(sys.argv[2]), max_size=None)
    context = None
    if url.startswith("wss"):
        context = ssl.create_default_context(cafile=sys.argv[3])
    async with websockets.connect(url, max_size=None, ssl=context) as client:
        for size in [0, 1, 125, 126, 65535, 65536, 3000000]:
            for message in ["x" * size, os.urandom(size)]:
                await client.send(message)
                assert await client.recv() == message, size
        for n in range(2000):
            await client.send(str(n))
        for n in range(2000):
            assert await client.recv() == str(n), n
        assert await asyncio.wait_for(await client.ping(), 10) is not None
    assert client.close_code == 1000, client.close_code
    ws.close()
    await ws.wait_closed()
    print("good")
asyncio.run(main())
"#;

#[test]
fn python_speaks_websocket_through_it() {
    with_both_drivers(|driver| {
        for scheme in ["ws", "wss"] {
            let address = free_address();
            let server = Site::new(driver, &site(address, "")).secure("").start();
            let listener = if scheme == "wss" { server.address("secure") } else { server.web() };
            let output = Command::new("/usr/bin/python3")
                .args([
                    "-c",
                    PYTHON,
                    &format!("{scheme}://localhost:{}/", listener.port()),
                    &address.port().to_string(),
                ])
                .arg(server.folder().join("ca.pem"))
                .stdin(Stdio::null())
                .output()
                .expect("python3 runs");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && out.trim() == "good", "{driver:?} {scheme}: {out}\n{err}");
        }
    });
}

#[test]
fn idle_tunnels_hold_no_buffers() {
    const TUNNELS: usize = 500;
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = upstream.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        for stream in upstream.incoming().flatten() {
            let mut stream = stream;
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(AGREED.as_bytes());
            held.push(stream);
        }
    });
    let server = Site::new(Driver::IoUring, &site(address, "")).start();
    let open = |count: usize| -> Vec<Client> {
        let clients = (0..count).map(|_| {
            let mut client = server.connect();
            client.send(request("GET", "/", &ASK, ""));
            assert_eq!(client.response("GET").status, 101);
            client
        });
        clients.collect()
    };
    let first = open(50);
    let (before, _) = server.resident_mib();
    let more = open(TUNNELS);
    let (after, _) = server.resident_mib();
    // 8 KiB each are 4 MiB; buffers of 64 KiB would be 60.
    assert!(after - before < 16, "{before} MiB, then {after} MiB with {TUNNELS} more");
    drop((first, more));
}

#[test]
fn a_server_that_stays_silent_holds_nothing_once_the_time_is_over() {
    with_both_drivers(|driver| {
        // The server neither reads nor says anything, and keeps its end open.
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send(AGREED);
            std::thread::sleep(Duration::from_secs(8));
            Then::Close
        });
        let server = start(driver, &upstream, "tunnel_timeout = \"1s\"\nhalf_closed_timeout = \"500ms\"");
        let active = || server.metric("one_server_upstream_requests_active", "");
        // The client ends its direction and waits for the server's last words.
        let mut half_closed = server.connect();
        half_closed.send(request("GET", "/", &ASK, ""));
        assert_eq!(half_closed.response("GET").status, 101);
        half_closed.finish_sending();
        // The client sends more than fits between here and there.
        let mut stuck = server.connect();
        stuck.send(request("GET", "/", &ASK, ""));
        assert_eq!(stuck.response("GET").status, 101);
        stuck.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
        stuck.send(vec![b'x'; 64 << 20]);
        assert!(active() >= 1.0, "{driver:?}");
        let begun = Instant::now();
        eventually("both tunnels end", || active() == 0.0);
        assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?}: it was we who ended them");
    });
}
