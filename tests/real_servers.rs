//! Servers that people run behind a proxy, behind ours: gunicorn, Node, PHP's built-in server. Each answers through us as it
//! does directly, and nobody sees that it closes its idle connections, is slow, or is killed.
//!
//! Fake servers do what we thought of; these do what they do.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::client::timed;
use support::http3::sha256;
use support::load::under_load_of;
use support::real::{Kind, Real};
use support::*;

fn site(driver: Driver, servers: &[SocketAddr], keys: &str) -> Site {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    let servers = servers.join(", ");
    let site = format!(
        "[site.main]\nroute = [{{ path = \"/\", proxy = \"up\" }}]\n\
         [upstream.up]\nservers = [{servers}]\nhealth = false\n{keys}\n"
    );
    Site::new(driver, &site)
}

/// Runs `test` with each driver for each of `kinds` that is installed.
fn with_each(kinds: &[Kind], test: impl Fn(Driver, Kind) + Sync) {
    let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.is_installed()).collect();
    with_both_drivers(|driver| kinds.iter().for_each(|kind| test(driver, *kind)));
}

/// What an answer says, apart from its time, from how it is framed and from what is said to one hop.
fn meaning(answer: &Response) -> (u16, Vec<(String, String)>, &[u8]) {
    let of_the_hop =
        ["date", "connection", "keep-alive", "transfer-encoding", "content-length", "server", "host", "x-framing"];
    let mut fields: Vec<(String, String)> =
        answer.fields.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    fields.retain(|(name, _)| !of_the_hop.contains(&name.as_str()));
    fields.sort();
    (answer.status, fields, &answer.body)
}

/// A chunked request in pieces.
fn chunked(method: &str, path: &str, pieces: &[&str]) -> String {
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    request(method, path, &["Transfer-Encoding: chunked"], "") + &chunks + "0\r\n\r\n"
}

#[test]
fn they_answer_as_they_do_directly() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").start();
        let large = "0123456789abcdef".repeat(5000);
        let mut requests = vec![
            get("/echo?a=b%20c&d"),
            get("/none"),
            get("/status?code=204"),
            get("/status?code=304"),
            get("/status?code=404"),
            get("/status?code=500"),
            get("/big?bytes=0"),
            get("/big?bytes=1"),
            get("/big?bytes=70000"),
            get("/stream?pieces=3&pause=1"),
            request("GET", "/echo?te", &["TE: trailers", "Connection: TE"], ""),
            request("HEAD", "/echo", &[], ""),
            request("HEAD", "/big?bytes=1000", &[], ""),
            request("HEAD", "/stream?pieces=3&pause=0", &[], ""),
            request("DELETE", "/echo", &[], ""),
            request("OPTIONS", "/echo", &[], ""),
            post("/echo", "a body"),
            post("/echo", &large),
            post("/digest", &large),
            request("POST", "/echo", &["Content-Length: 0"], ""),
            request("PUT", "/echo?x", &[], "put"),
            request("PATCH", "/echo", &[], "patch"),
            chunked("POST", "/echo", &["one ", "two ", "three"]),
            chunked("PUT", "/digest", &[&large, &large]),
            chunked("POST", "/echo", &[]),
        ];
        if kind == Kind::Node || kind == Kind::Php {
            requests.push(get("/until-close"));
        }
        let mut kept = server.connect();
        for request in &requests {
            let line = request.lines().next().unwrap_or_default();
            let direct = Client::connect(real.address).ask(request);
            // All on one connection, whatever the server does with its own.
            let ours = kept.ask(request);
            assert_eq!(meaning(&ours), meaning(&direct), "{driver:?} {kind:?} {line}");
            assert!(!ours.is_last(), "{driver:?} {kind:?} {line}: the client's connection is kept");
            if matches!(direct.status, 200 if line.starts_with("HEAD")) {
                assert_eq!(ours.field("content-length"), direct.field("content-length"), "{driver:?} {kind:?} {line}");
            }
        }
        let connects = server.metric("one_server_upstream_connects_total", "");
        match kind.keeps_connections() {
            // `/until-close` ends one, and what is streamed may have got one of its own.
            true => assert!(connects <= 6.0, "{driver:?} {kind:?}: {connects} connections"),
            false => assert!(connects >= requests.len() as f64, "{driver:?} {kind:?}: {connects} connections"),
        }
        assert_eq!(server.metric("one_server_upstream_response_errors_total", ""), 0.0, "{driver:?} {kind:?}");
    });
}

#[test]
fn many_megabytes_arrive_as_they_were_sent() {
    const BYTES: usize = 20 << 20;
    let content = pattern(BYTES);
    let expect = format!("{BYTES} {}", sha256(&content));
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").http("body_max = \"100MiB\"").start();
        let mut client = server.connect();
        client.send(format!("POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: {BYTES}\r\n\r\n")).send(&content);
        assert_eq!(client.response("POST").text(), expect, "{driver:?} {kind:?} with a length");
        client.send("POST /digest HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in content.chunks(100_000) {
            client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        }
        assert_eq!(client.send("0\r\n\r\n").response("POST").text(), expect, "{driver:?} {kind:?} in chunks");
        // Whole megabytes take these languages long to make; what matters is more than any buffer.
        let answer = client.ask(get("/big?bytes=3000000"));
        assert_eq!(sha256(&answer.body), sha256(&content[..3_000_000]), "{driver:?} {kind:?} down");
    });
}

#[test]
fn a_piece_arrives_when_it_was_sent() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").start();
        let mut client = server.connect();
        client.send(get("/stream?pieces=4&pause=400"));
        let begun = Instant::now();
        for piece in 0..4 {
            let text = format!("piece {piece}\n");
            while !String::from_utf8_lossy(client.buffered()).contains(&text) {
                assert!(client.fill().expect("more of it") > 0, "{driver:?} {kind:?}: the end before {text}");
            }
            // Later pieces do not exist yet.
            let next = format!("piece {}\n", piece + 1);
            assert!(!String::from_utf8_lossy(client.buffered()).contains(&next), "{driver:?} {kind:?} {piece}");
        }
        assert!(begun.elapsed() >= Duration::from_millis(1000), "{driver:?} {kind:?}: {:?}", begun.elapsed());
        assert_eq!(client.response("GET").text(), "piece 0\npiece 1\npiece 2\npiece 3\n");
    });
}

/// How long the server keeps an idle connection. Node tells a second less than it does, in some versions.
fn kept_for(address: SocketAddr) -> Duration {
    let mut client = Client::connect(address);
    assert_eq!(client.ask(get("/echo")).status, 200);
    timed(|| client.end()).1
}

/// The 502 race: a server that closes an idle connection at the moment when a request is sent on it.
#[test]
fn requests_around_the_instant_at_which_a_server_closes_all_succeed() {
    const CLIENTS: u64 = 24;
    const ROUNDS: u64 = 10;
    with_each(&[Kind::Node], |driver, kind| {
        let real = Real::start_with(kind, 50);
        let kept_for = kept_for(real.address);
        let server = site(driver, &[real.address], "").start();
        let together = Barrier::new(CLIENTS as usize);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, together) = (&server, &together);
                scope.spawn(move || {
                    let mut connection = server.connect();
                    for round in 0..ROUNDS {
                        // All at once, so that each has a connection whose time is about to come.
                        together.wait();
                        let answer = connection.ask(get("/echo"));
                        assert_eq!(answer.status, 200, "{driver:?} {kind:?} round {round}");
                        // From 8 ms before that instant to 4 ms behind it, in steps of a twentieth.
                        let step = (client * ROUNDS + round) * 50;
                        std::thread::sleep(kept_for - Duration::from_millis(8) + Duration::from_micros(step));
                    }
                });
            }
        });
        let connects = server.metric("one_server_upstream_connects_total", "");
        let reuses = server.metric("one_server_upstream_reuses_total", "");
        let all = (CLIENTS * ROUNDS) as f64;
        assert!(
            connects > CLIENTS as f64 && reuses > 0.0,
            "{driver:?}: the instant was met: {connects} new, {reuses} again"
        );
        assert!(connects < all, "{driver:?}: {connects} new, {reuses} again");
    });
}

/// Requests that must not be repeated: a connection is given up before the server does it.
#[test]
fn posts_go_on_connections_that_the_server_still_keeps() {
    with_each(&[Kind::Node, Kind::GunicornThreads], |driver, kind| {
        let real = Real::start_with(kind, 1000);
        let server = site(driver, &[real.address], "keep_idle_timeout = \"500ms\"").start();
        let mut client = server.connect();
        for pause in [0, 100, 450, 550, 900, 990, 1000, 1010, 1100] {
            std::thread::sleep(Duration::from_millis(pause));
            let answer = client.ask(post("/echo", "once"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "once"), "{driver:?} {kind:?} behind {pause} ms");
        }
        assert!(server.metric("one_server_upstream_reuses_total", "") >= 2.0, "{driver:?} {kind:?}");
    });
}

#[test]
fn a_client_that_asks_first_is_told_to_send() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").start();
        let mut client = server.connect();
        for length in [11, 100_000] {
            let body = "x".repeat(length);
            let asked = format!(
                "POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            );
            client.send(asked);
            while !client.buffered().ends_with(b"HTTP/1.1 100 Continue\r\n\r\n") {
                assert!(client.fill().expect("an interim answer") > 0, "{driver:?} {kind:?}");
            }
            let answer = client.send(&body).response("POST");
            assert_eq!((answer.status, answer.text()), (200, body), "{driver:?} {kind:?}");
            assert_eq!(answer.interim, [100], "{driver:?} {kind:?}: once");
        }
    });
}

#[test]
fn a_slow_answer_is_waited_for_as_long_as_the_config_says() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "response_timeout = \"900ms\"").start();
        let mut client = server.connect();
        assert_eq!(client.ask(get("/slow?ms=300")).text(), "late", "{driver:?} {kind:?}");
        let (answer, took) = timed(|| client.ask(get("/slow?ms=2500")));
        assert_eq!(answer.status, 504, "{driver:?} {kind:?}");
        assert!((800..2400).contains(&took.as_millis()), "{driver:?} {kind:?}: {took:?}");
        // What the slow one sends in the end belongs to nobody.
        let mut client = server.connect();
        for _ in 0..3 {
            assert_eq!(client.ask(get("/echo?n")).field("x-query"), Some("?n"), "{driver:?} {kind:?}");
        }
    });
}

#[test]
fn the_application_sees_who_asked_and_how() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").secure("").start();
        let port = server.web().port();
        let told = |text: &str, name: &str| {
            let mut values = text.lines().filter_map(|line| line.split_once(": ")).filter(|(known, _)| *known == name);
            let value = values.next().map(|(_, value)| value.to_owned());
            assert!(values.next().is_none(), "{name} twice: {text}");
            value
        };
        let asked =
            request("GET", "/fields", &["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: gopher", "Proxy: evil"], "");
        let text = server.connect().ask(asked).text();
        assert_eq!(told(&text, "x-forwarded-proto").as_deref(), Some("http"), "{driver:?} {kind:?} {text}");
        assert_eq!(told(&text, "x-forwarded-port"), Some(port.to_string()), "{driver:?} {kind:?} {text}");
        assert_eq!(told(&text, "x-forwarded-host").as_deref(), Some("test"), "{driver:?} {kind:?} {text}");
        assert!(
            told(&text, "x-forwarded-for").is_some_and(|list| list.ends_with("127.0.0.1")),
            "{driver:?} {kind:?} {text}"
        );
        assert!(told(&text, "x-request-id").is_some_and(|id| !id.is_empty()), "{driver:?} {kind:?} {text}");
        let curled = support::tools::curl("https", server.address("secure"), "/fields", &["--http2"]);
        assert_eq!(told(&curled.text(), "x-forwarded-proto").as_deref(), Some("https"), "{driver:?} {kind:?}");
        assert_eq!((curled.code, curled.status), (0, 200));
    });
}

#[test]
fn early_hints_go_on_before_the_answer() {
    with_each(&[Kind::Node], |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").start();
        let mut client = server.connect();
        client.send(get("/hints"));
        while !client.buffered().ends_with(b"\r\n\r\n") {
            assert!(client.fill().expect("an interim answer") > 0);
        }
        let first = String::from_utf8_lossy(client.buffered()).to_lowercase();
        assert!(
            first.starts_with("http/1.1 103 early hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\n"),
            "{first}"
        );
        assert!(!first.contains(" 200 "), "{driver:?} {kind:?}: the hints come first: {first}");
        let answer = client.response("GET");
        assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[103][..], "page"), "{driver:?} {kind:?}");
        // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
        let mut old = server.connect();
        old.send("GET /hints HTTP/1.0\r\nHost: test\r\n\r\n");
        let (bytes, _) = old.read_to_end();
        assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{driver:?} {kind:?}: {}", String::from_utf8_lossy(&bytes));
    });
}

/// The key and its answer are those of RFC 6455 section 1.3.
#[test]
fn a_websocket_of_node_talks() {
    with_each(&[Kind::Node], |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").start();
        let mut client = server.connect();
        let asked = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        client.send(request("GET", "/ws", &asked, ""));
        while !client.buffered().ends_with(b"\r\n\r\n") {
            assert!(client.fill().expect("an answer") > 0);
        }
        let len = client.buffered().len();
        let head = String::from_utf8(client.take(len)).expect("text").to_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && head.contains("\r\nupgrade: websocket\r\n"), "{driver:?} {head}");
        assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{driver:?} {head}");
        for message in ["hello", "", "a longer one of a hundred bytes at most"] {
            client.send(masked(1, message.as_bytes()));
            let expect = [&[0x81, message.len() as u8][..], message.as_bytes()].concat();
            assert_eq!(client.take(expect.len()), expect, "{driver:?} {kind:?}");
        }
        client.send(masked(8, &1000u16.to_be_bytes()));
        assert_eq!(client.take(4), [0x88, 2, 3, 232], "{driver:?} {kind:?}: a close is answered");
        assert_eq!(client.end(), End::Closed);
        drop(client);
        eventually("no tunnel is left", || server.metric("one_server_http_tunnels", "") == 0.0);
    });
}

/// A frame as clients send them (RFC 6455 section 5.2); of up to 125 bytes.
fn masked(opcode: u8, content: &[u8]) -> Vec<u8> {
    let mask = [7, 11, 13, 17];
    let mut frame = vec![0x80 | opcode, 0x80 | content.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn servers_are_killed_and_come_back_and_no_request_fails() {
    for kind in [Kind::Node, Kind::GunicornThreads, Kind::GunicornSync] {
        with_each(&[kind], |driver, kind| {
            let mut servers = [Real::start(kind), Real::start(kind)];
            let addresses = [servers[0].address, servers[1].address];
            let server = site(driver, &addresses, "retry_budget = \"off\"").start();
            // An answer without content: of one that is killed in the middle, nobody could make a whole one.
            let load = under_load_of(&server, "/echo", "", || {
                for round in 0..6 {
                    let one = &mut servers[round % 2];
                    std::thread::sleep(Duration::from_millis(150));
                    one.kill();
                    std::thread::sleep(Duration::from_millis(150));
                    one.restart();
                }
            });
            load.assert_all_well(200);
        });
    }
}

/// Python's `http.server` answers HTTP/1.0: one request for each connection, and the end of some bodies is its close.
#[test]
fn a_server_of_http_1_0_looks_like_any_other() {
    with_both_drivers(|driver| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("page.txt"), pattern(200_000)).expect("a file");
        let address = support::ports::free_address();
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-m", "http.server", &address.port().to_string(), "--bind", "127.0.0.1", "--directory"]);
        command.arg(folder.path()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("python3 runs");
        eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
        let server = site(driver, &[address], "").start();
        let mut kept = server.connect();
        let later = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT";
        for request in [
            get("/page.txt"),
            get("/"),
            get("/none"),
            request("HEAD", "/page.txt", &[], ""),
            request("GET", "/page.txt", &[later], ""),
            post("/page.txt", "not taken"),
        ] {
            let line = request.lines().next().unwrap_or_default();
            let direct = Client::connect(address).ask(&request);
            let ours = kept.ask(&request);
            assert_eq!(direct.version, "HTTP/1.0", "{driver:?} {line}");
            assert_eq!(meaning(&ours), meaning(&direct), "{driver:?} {line}");
            assert_eq!((ours.version.as_str(), ours.is_last()), ("HTTP/1.1", false), "{driver:?} {line}");
        }
        let _ = child.kill();
        let _ = child.wait();
    });
}

/// Uploads run while a client leaves: the server is told, and the next request is answered.
#[test]
fn a_client_that_leaves_in_an_upload_harms_nobody() {
    with_each(&Kind::ALL, |driver, kind| {
        let real = Real::start(kind);
        let server = site(driver, &[real.address], "").http("body_max = \"100MiB\"").start();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = server.connect();
                    client.send("POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: 5000000\r\n\r\n");
                    let _ = client.stream.write_all(&pattern(300_000));
                    client.reset();
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let mut client = server.connect();
            for _ in 0..30 {
                assert_eq!(client.ask(post("/echo", "whole")).text(), "whole", "{driver:?} {kind:?}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}
