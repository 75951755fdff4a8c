//! Answers of HTTP/1 servers that go from socket to socket by splice(2): every byte, whoever is slow, breaks off, says too
//! much or leaves; and what must not go that way. That it does is seen in `one_server_spliced_bytes_total`.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use support::client::NoResponse;
use support::nginx::Nginx;
use support::upstream::Then;
use support::*;

/// What comes together with a head, at most: the rest may be spliced. See `process.read_buffer`.
const READ_WITH_HEAD_MAX: usize = 4096;

/// What all bodies are the beginning of.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(40_000_000));

/// The first so many bytes of it.
fn body(bytes: usize) -> &'static [u8] {
    &CONTENT[..bytes]
}

/// A run of content of fewer bytes is copied.
const SPLICED_MIN: usize = 32 * 1024;

fn site_with(servers: &str, route: &str, upstream: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n{route}\n\
         [upstream.up]\nservers = \"{servers}\"\nhealth = false\n{upstream}\n"
    )
}

fn site(driver: Driver, upstream: SocketAddr, keys: &str) -> Site {
    // No time-out counts the making of it.
    LazyLock::force(&CONTENT);
    Site::new(driver, &site_with(&upstream.to_string(), "", keys)).one_worker()
}

fn spliced(server: &Server) -> usize {
    server.metric("one_server_spliced_bytes_total", "") as usize
}

/// Pipes that the process has open, two ends for each.
fn pipes(server: &Server) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    let targets = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

/// What the client reads from now on comes faster.
fn open_window(client: &Client) {
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4 << 20).expect("a socket");
}

/// Head of an answer with a body of `bytes`.
fn head(bytes: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// `/BYTES/HOW`: that many bytes, sent as the word says.
fn by_target(exchange: &mut Exchange) -> Then {
    let mut parts = exchange.request.target.split('/').skip(1);
    let bytes: usize = parts.next().and_then(|text| text.parse().ok()).expect("/BYTES");
    let how = parts.next().unwrap_or("once").to_owned();
    let body = body(bytes);
    match how.as_str() {
        "once" => {
            exchange.send([head(bytes).as_bytes(), body].concat());
        }
        "apart" => {
            exchange.send(head(bytes));
            std::thread::sleep(Duration::from_millis(2));
            exchange.send(body);
        }
        "odd" => {
            exchange.send([head(bytes).as_bytes(), &body[..bytes.min(1001)]].concat());
            body[bytes.min(1001)..].chunks(33_331).all(|piece| exchange.send(piece));
        }
        "chunks" => {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            body.chunks(100_003).all(|piece| exchange.send(chunk(piece)));
            exchange.send("0\r\n\r\n");
        }
        "close" => {
            exchange.send("HTTP/1.1 200 OK\r\n\r\n");
            exchange.send(body);
            return Then::Close;
        }
        how => panic!("unknown: {how}"),
    }
    Then::Keep
}

/// Lengths around every size that something has: what comes with the head, what is copied, a socket's and a pipe's buffer.
fn lengths() -> Vec<usize> {
    let edges = [READ_WITH_HEAD_MAX, SPLICED_MIN, SPLICED_MIN + READ_WITH_HEAD_MAX, 65_536, 262_144];
    let around = |edge: usize| [edge - 1, edge, edge + 1];
    let mut lengths: Vec<usize> = edges.into_iter().flat_map(around).collect();
    // From 1 MiB on others have their turn in between.
    lengths.extend([0, 1, 20_000, 131_072, 1_000_003, 1 << 20, (1 << 20) + 3000, 2 << 20, 3_000_000]);
    lengths
}

#[test]
fn bodies_of_every_length_are_whole_and_the_next_answer_is_its_own() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let site = site(driver, upstream.address, "")
            .log("access = \"$DIR/access.log\"\nformat = \"$uri $body_bytes_sent $bytes_sent\"\n");
        let server = site.start();
        let (mut client, mut sum, mut asked) = (server.connect(), 0, Vec::new());
        for how in ["once", "apart", "odd", "chunks"] {
            for bytes in lengths() {
                let response = client.ask(get(&format!("/{bytes}/{how}")));
                assert_eq!(response.status, 200);
                assert!(response.body == body(bytes), "{driver:?}: /{bytes}/{how}");
                sum += bytes;
                asked.push(format!("/{bytes}/{how} {bytes} "));
            }
        }
        // One connection to the server did it all: nothing was left behind on it.
        assert_eq!(upstream.connections(), 1, "{driver:?}");
        assert!(spliced(&server) > sum / 2, "{driver:?}: only {} of {sum} bytes", spliced(&server));
        drop(client);
        server.wait_until_no_client();
        let mut logged = String::new();
        eventually("all is logged", || {
            logged = std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
            logged.lines().count() == asked.len()
        });
        for (line, begin) in logged.lines().zip(&asked) {
            assert!(line.starts_with(begin), "{driver:?}: `{line}` for `{begin}`");
        }
        let sent: f64 = logged.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        assert_eq!(server.metric("one_server_upstream_sent_bytes_total", ""), sent, "{driver:?}");
    });
}

/// What the client gets is what is counted, to the byte, where nothing else is asked of the listener.
#[test]
fn every_byte_is_counted_once() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").start();
        let mut client = server.connect();
        let mut got = 0;
        for bytes in [20_000, 65_536, 500_000] {
            client.send(get(&format!("/{bytes}")));
            while !client.buffered().windows(4).any(|window| window == b"\r\n\r\n") {
                client.fill().expect("a head");
            }
            got += client.buffered().windows(4).position(|window| window == b"\r\n\r\n").expect("its end") + 4 + bytes;
            assert!(client.response("GET").body == body(bytes));
        }
        // A client has its bytes a moment before they are counted.
        for metric in ["one_server_http_sent_bytes_total", "one_server_upstream_sent_bytes_total"] {
            let mut sent = 0;
            eventually("all is counted", || {
                std::mem::replace(&mut sent, server.metric(metric, "") as usize) == sent && sent > 500_000
            });
            assert_eq!(sent, got, "{driver:?}: {metric}");
        }
        assert!((500_000..585_536).contains(&spliced(&server)), "{driver:?}: {} spliced", spliced(&server));
    });
}

#[test]
fn pipelined_requests_get_their_answers_in_order() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").start();
        let lengths = [70_000, 10, 300_000, 0, 65_536, 1_000_000, 5];
        let mut client = server.connect();
        let requests: String = lengths.iter().map(|bytes| get(&format!("/{bytes}"))).collect();
        client.send(requests);
        for bytes in lengths {
            assert!(client.response("GET").body == body(bytes), "{driver:?}: {bytes}");
        }
        assert!(spliced(&server) > 1_000_000, "{driver:?}");
    });
}

#[test]
fn a_body_until_the_close_is_whole_in_either_version() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").start();
        for bytes in [100, 20_000, 700_000] {
            let response = server.connect().ask(get(&format!("/{bytes}/close")));
            assert_eq!(response.field("transfer-encoding"), Some("chunked"));
            assert!(response.body == body(bytes), "{driver:?}: {bytes}");
            let mut old = server.connect();
            let response = old.ask(format!("GET /{bytes}/close HTTP/1.0\r\nHost: test\r\n\r\n"));
            assert!(response.body == body(bytes), "{driver:?}: {bytes} by 1.0");
            let response = server.connect().ask(format!("GET /{bytes}/chunks HTTP/1.0\r\nHost: test\r\n\r\n"));
            assert!(response.body == body(bytes), "{driver:?}: {bytes} by 1.0, in chunks");
        }
        assert!(spliced(&server) > 1_300_000, "{driver:?}: {}", spliced(&server));
    });
}

/// Of a body until the close nobody knows how long it is before it is there.
#[test]
fn a_short_body_until_the_close_is_copied() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\n\r\n");
            std::thread::sleep(Duration::from_millis(20));
            exchange.dribble(body(3000), 1000, Duration::from_millis(20));
            Then::Close
        });
        let server = site(driver, upstream.address, "").start();
        for _ in 0..3 {
            assert!(server.connect().ask(get("/")).body == body(3000), "{driver:?}");
        }
        assert_eq!(spliced(&server), 0, "{driver:?}");
    });
}

/// Content of whole chunks behind the head of an answer, as far as they are here to their ends.
fn whole_chunks(answer: &[u8]) -> usize {
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else { return 0 };
    let (mut rest, mut whole) = (&answer[head + 4..], 0);
    while let Some(line) = memchr::memmem::find(rest, b"\r\n") {
        let text = std::str::from_utf8(&rest[..line]).expect("a length");
        let bytes = usize::from_str_radix(text, 16).expect("a length");
        let Some(behind) = rest.get(line + 2 + bytes..).and_then(|behind| behind.strip_prefix(b"\r\n")) else { break };
        (rest, whole) = (behind, whole + bytes);
    }
    whole
}

/// Who reads chunk by chunk has all that is there of one, with its end.
#[test]
fn a_server_that_pauses_within_a_chunk_holds_nothing_back() {
    with_both_drivers(|driver| {
        let (go_on, goes_on) = std::sync::mpsc::channel();
        let goes_on = std::sync::Mutex::new(goes_on);
        let upstream = FakeUpstream::start(move |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n");
            exchange.send(&body(100_000)[..50_000]);
            let _ = goes_on.lock().expect("a lock").recv();
            exchange.send(&body(100_000)[50_000..]);
            exchange.send("\r\n0\r\n\r\n");
            Then::Keep
        });
        let server = site(driver, upstream.address, "").start();
        let mut client = server.connect();
        client.send(get("/"));
        while whole_chunks(client.buffered()) < 50_000 {
            client.fill().expect("the end of the chunk");
        }
        go_on.send(()).expect("it waits");
        assert!(client.response("GET").body == body(100_000), "{driver:?}");
        assert!(spliced(&server) > 50_000, "{driver:?}");
    });
}

#[test]
fn slow_clients_slow_the_server_down_and_cost_no_memory() {
    const BYTES: usize = 30_000_000;
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").start();
        let (before, _) = server.resident_mib();
        let mut clients: Vec<Client> = (0..10).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut clients, &get(&format!("/{BYTES}")));
        std::thread::sleep(Duration::from_millis(700));
        let (now, _) = server.resident_mib();
        assert!(now < before + 16, "{driver:?}: {before} MiB, then {now} MiB");
        assert!(spliced(&server) < BYTES, "{driver:?}: nobody has read anything");
        // Others are served meanwhile, and whoever begins to read gets all of it.
        assert_eq!(server.connect().ask(get("/5")).body.len(), 5);
        let mut slow = clients.pop().expect("a client");
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            slow.fill().expect("more");
        }
        open_window(&slow);
        let response = slow.response("GET");
        assert!(response.body == body(BYTES), "{driver:?}");
    });
}

#[test]
fn a_server_that_dribbles_is_passed_on_as_it_comes() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let body = body(200_000);
            exchange.send(head(body.len()));
            exchange.dribble(&body[..3000], 100, Duration::from_millis(3));
            // A burst, a pause in which all of it has to arrive, the rest.
            exchange.send(&body[3000..100_000]);
            std::thread::sleep(Duration::from_millis(300));
            exchange.dribble(&body[100_000..], 20_001, Duration::from_millis(3));
            Then::Keep
        });
        let server = site(driver, upstream.address, "").start();
        let mut client = server.connect();
        for _ in 0..2 {
            let begin = Instant::now();
            client.send(get("/"));
            while client.buffered().len() < 100_000 {
                client.fill().expect("more");
            }
            // The pause before the next bytes has not passed.
            let first = begin.elapsed();
            assert!(client.response("GET").body == body(200_000), "{driver:?}");
            assert!(begin.elapsed() > first + Duration::from_millis(200), "{driver:?}: half of it was held back");
        }
        assert_eq!(upstream.connections(), 1);
        assert!(spliced(&server) > 100_000, "{driver:?}");
    });
}

#[test]
fn a_server_that_dies_breaks_the_answer_off() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let body = body(400_000);
            let target = exchange.request.target.clone();
            match target.ends_with("chunks") {
                true => exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n"),
                false => exchange.send(head(body.len())),
            };
            exchange.send(&body[..399_999]);
            match target.starts_with("/reset") {
                // Only what the other side has read already is sure to arrive before a reset.
                true => std::thread::sleep(Duration::from_millis(100)),
                false => return Then::Close,
            }
            exchange.reset()
        });
        let server = site(driver, upstream.address, "").start();
        for target in ["/close", "/reset", "/close/chunks"] {
            let mut client = server.connect();
            client.send(get(target));
            match client.try_response("GET") {
                // Of a connection that we break the end may be lost.
                Err(NoResponse::Ended(_, got)) => assert!(got.len() > 4096, "{driver:?} {target}: {}", got.len()),
                other => panic!("{driver:?} {target}: {:?}", other.map(|response| response.status)),
            }
        }
        assert!(spliced(&server) > 600_000, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_response_errors_total", ""), 3.0, "{driver:?}");
    });
}

#[test]
fn what_a_server_says_behind_its_answer_is_never_taken_for_the_next_one() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let body = body(100_000);
            let stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
            exchange.send([head(body.len()).as_bytes(), body, stray].concat());
            Then::Keep
        });
        let server = site(driver, upstream.address, "").start();
        let mut client = server.connect();
        for _ in 0..4 {
            assert!(client.ask(get("/")).body == body(100_000), "{driver:?}");
        }
        assert_eq!(upstream.connections(), 4, "{driver:?}: none may be used again");
        assert!(spliced(&server) > 200_000, "{driver:?}");
    });
}

#[test]
fn clients_that_leave_end_it_at_the_server_and_nothing_stays_open() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let is_endless = exchange.request.target == "/endless";
            exchange.send(head(500_000_000));
            exchange.send(body(300_000));
            while is_endless && exchange.send(body(100_000)) {}
            exchange.wait_for_close();
            Then::Close
        });
        let server = site(driver, upstream.address, "").start();
        let others = pipes(&server);
        let round = |count: usize| {
            for number in 0..count {
                let mut client = server.connect();
                client.send(get(if number % 2 == 0 { "/endless" } else { "/silent" }));
                while client.buffered().len() < 200_000 {
                    client.fill().expect("more");
                }
                match number % 3 {
                    0 => client.reset(),
                    _ => drop(client),
                }
            }
            server.wait_until_no_client();
            upstream.wait_until_all_closed();
        };
        round(6);
        // A worker may have had its first pipe in the second round, and keeps it empty for the next one.
        let beside_pipes = || server.descriptors() - pipes(&server);
        let descriptors = beside_pipes();
        round(30);
        eventually("no descriptor is left", || beside_pipes() <= descriptors);
        eventually("no pipe is lent", || server.metric("one_server_pipes_used", "") == 0.0);
        let kept = || (pipes(&server) - others) as f64;
        eventually("what there is is kept", || kept() == 2.0 * server.metric("one_server_pipes_free", ""));
        assert!(spliced(&server) > 36 * 150_000, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_requests_active", ""), 0.0);
    });
}

#[test]
fn time_outs_hold_while_bytes_are_spliced() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send(head(40_000_000));
            exchange.send(body(200_000));
            if exchange.request.target == "/all" {
                exchange.send(&body(40_000_000)[200_000..]);
            }
            exchange.wait_for_close();
            Then::Close
        });
        let silent = site(driver, upstream.address, "idle_timeout = \"300ms\"").start();
        let begin = Instant::now();
        let mut client = silent.connect();
        client.send(get("/"));
        let Err(NoResponse::Ended(_, got)) = client.try_response("GET") else { panic!("{driver:?}: it is not whole") };
        assert!(got.len() > 150_000 && begin.elapsed() >= Duration::from_millis(300), "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", begin.elapsed());
        assert_eq!(silent.metric("one_server_upstream_response_errors_total", ""), 1.0, "{driver:?}");

        let total = site(driver, upstream.address, "total_timeout = \"500ms\"").start();
        let begin = Instant::now();
        let mut client = total.connect();
        client.send(get("/"));
        assert!(matches!(client.try_response("GET"), Err(NoResponse::Ended(..))), "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", begin.elapsed());

        let stuck = site(driver, upstream.address, "").http("write_timeout = \"300ms\"").start();
        let mut client = Client::with_small_window(stuck.web());
        client.send(get("/all"));
        eventually("it is under way", || stuck.metric("one_server_http_connections", "") == 1.0);
        eventually("it is given up", || stuck.metric("one_server_http_connections", "") == 0.0);
        assert_eq!(stuck.metric("one_server_http_timeouts_total", ""), 1.0, "{driver:?}");
        assert!(client.drain().len() < 40_000_000);
        upstream.wait_until_all_closed();
        assert!(spliced(&stuck) > 0 && spliced(&total) > 0 && spliced(&silent) > 0, "{driver:?}");
    });
}

/// Each of the clients that do not read holds a pipe; beyond a number of them it is copied, and those are served too.
#[test]
fn pipes_have_a_limit_and_come_back() {
    const CLIENTS: usize = 12;
    const BYTES: usize = 8_000_000;
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").process("pipes_max = 5").start();
        let before = pipes(&server);
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut clients, &get(&format!("/{BYTES}")));
        eventually("nothing moves", || {
            let before = server.metric("one_server_http_sent_bytes_total", "");
            std::thread::sleep(Duration::from_millis(300));
            upstream.seen().len() == CLIENTS && server.metric("one_server_http_sent_bytes_total", "") == before
        });
        assert_eq!(pipes(&server) - before, 2 * 5, "{driver:?}");
        let gauges = || ["used", "free"].map(|state| server.metric(&format!("one_server_pipes_{state}"), ""));
        assert_eq!(gauges(), [5.0, 0.0], "{driver:?}");
        for mut client in clients {
            open_window(&client);
            assert!(client.response("GET").body == body(BYTES), "{driver:?}");
        }
        assert!(server.connect().ask(get("/65536")).body == body(65_536), "{driver:?}");
        assert_eq!(pipes(&server) - before, 2 * 5, "{driver:?}: they are kept");
        eventually("none is used", || gauges() == [0.0, 5.0]);
    });
}

#[test]
fn no_pipes_is_no_splice_until_a_reload_says_otherwise() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let site = site(driver, upstream.address, "").process("control = \"$DIR/ctl.sock\"\npipes_max = 0");
        let server = site.start();
        let mut client = server.connect();
        let mut ask = || assert!(client.ask(get("/500000")).body == body(500_000), "{driver:?}");
        ask();
        let others = pipes(&server);
        assert_eq!(spliced(&server), 0, "{driver:?}");
        server.reload_with(&[("pipes_max = 0", "pipes_max = 2")]);
        eventually("it is spliced", || {
            ask();
            spliced(&server) > 400_000 && pipes(&server) > others
        });
        server.reload_with(&[("pipes_max = 2", "pipes_max = 0")]);
        eventually("the pipes are closed", || pipes(&server) == others);
        let before = spliced(&server);
        ask();
        assert_eq!(spliced(&server), before, "{driver:?}");
    });
}

/// Whatever somebody has to look at is not spliced.
#[test]
fn content_that_is_looked_at_is_copied() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let text = "all the same words ".repeat(10_000);
            exchange.read_body();
            let kind = "Content-Type: text/html\r\n";
            let body = if exchange.request.method == "HEAD" { "" } else { &text };
            exchange.send(format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {}\r\n\r\n{body}", text.len()));
            Then::Keep
        });
        let address = upstream.address.to_string();
        let start = |route: &str| Site::new(driver, &site_with(&address, route, "")).one_worker().start();
        let gzip = "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n".to_owned();
        let head = "HEAD / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned();
        for (route, request, is_spliced) in [
            ("", get("/"), true),
            ("", head, false),
            ("compress = true", gzip.clone(), false),
            ("compress = true", get("/"), true),
            ("substitute = { texts = { same = \"new\" } }", get("/"), false),
            ("limit_rate = \"10MB\"", get("/"), false),
        ] {
            let server = start(route);
            let mut client = server.connect();
            for _ in 0..2 {
                let response = client.ask(&request);
                assert_eq!(response.status, 200, "{driver:?} {route}");
                if is_spliced {
                    assert_eq!(response.text(), "all the same words ".repeat(10_000), "{driver:?} {route}");
                }
            }
            assert_eq!(spliced(&server) > 0, is_spliced, "{driver:?} {route:?} {request:.40}");
        }
    });
}

/// An answer that comes while the request is still being sent.
#[test]
fn an_answer_beside_an_upload_is_whole() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send(head(1_000_000));
            exchange.send(body(500_000));
            let is_whole = exchange.drain_body(|_| {});
            exchange.send(&body(1_000_000)[500_000..]);
            if is_whole { Then::Keep } else { Then::Close }
        });
        let server = site(driver, upstream.address, "").http("body_max = 0").start();
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n");
        while client.buffered().len() < 400_000 {
            client.fill().expect("more");
        }
        client.send(body(3_000_000));
        assert!(client.response("POST").body == body(1_000_000), "{driver:?}");
    });
}

#[test]
fn a_unix_socket_is_spliced_too() {
    with_both_drivers(|driver| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut input = [0; 4096];
                    while stream.read(&mut input).is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(head(300_000).as_bytes());
                        let _ = stream.write_all(body(300_000));
                    }
                });
            }
        });
        let servers = format!("unix:{}", path.display());
        let server = Site::new(driver, &site_with(&servers, "", "")).one_worker().start();
        let mut client = server.connect();
        for _ in 0..3 {
            assert!(client.ask(get("/")).body == body(300_000), "{driver:?}");
        }
        assert!(spliced(&server) > 500_000, "{driver:?}: {}", spliced(&server));
    });
}

/// splice(2) does not go over an urgent byte; a read does.
#[test]
fn urgent_data_of_a_server_does_not_stop_its_answer() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let body = body(300_000);
            exchange.send(head(body.len()));
            exchange.send(&body[..100_000]);
            rustix::net::send(&exchange.stream, b"!", rustix::net::SendFlags::OOB).expect("sent");
            std::thread::sleep(Duration::from_millis(50));
            exchange.send(&body[100_000..]);
            Then::Close
        });
        let server = site(driver, upstream.address, "").start();
        let mut client = server.connect();
        assert!(client.ask(get("/")).body == body(300_000), "{driver:?}");
        assert!(spliced(&server) > 50_000, "{driver:?}");
    });
}

#[test]
fn reload_takeover_and_drain_let_answers_end() {
    const BYTES: usize = 20_000_000;
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(by_target);
        let server = site(driver, upstream.address, "").process("control = \"$DIR/ctl.sock\"").start();
        let begin = || {
            let mut client = Client::with_small_window(server.web());
            client.send(get(&format!("/{BYTES}")));
            while client.buffered().len() < 100_000 {
                client.fill().expect("more");
            }
            client
        };
        let whole = |mut client: Client| {
            open_window(&client);
            assert!(client.response("GET").body == body(BYTES), "{driver:?}");
        };
        let client = begin();
        // Counted once a splice is over; the client has its first bytes before.
        eventually("it is spliced", || spliced(&server) > 50_000);
        server.reload_with(&[("health = false", "health = false\nconnect_timeout = \"3s\"")]);
        whole(client);
        let client = begin();
        server.upgrade();
        assert_eq!(server.connect().ask(get("/70000")).body.len(), 70_000, "the new process answers");
        whole(client);
        let client = begin();
        server.signal(rustix::process::Signal::QUIT);
        whole(client);
    });
}

/// Files that nginx gives to the kernel are frames of many pages.
#[test]
fn what_nginx_sends_by_sendfile_arrives() {
    let body = pattern(2_000_003);
    let files: &[(&str, &[u8])] = &[("www/large.txt", &body)];
    let Some(nginx) = Nginx::start("sendfile on; tcp_nopush on; server { listen $LISTEN; root $DIR/www; }", files)
    else {
        return;
    };
    with_both_drivers(|driver| {
        let server = site(driver, nginx.address, "").start();
        let mut client = server.connect();
        for _ in 0..3 {
            assert!(client.ask(get("/large.txt")).body == body, "{driver:?}");
        }
        let range = "GET /large.txt HTTP/1.1\r\nHost: test\r\nRange: bytes=7-500000\r\n\r\n";
        assert!(client.ask(range).body == body[7..=500_000], "{driver:?}");
        assert!(spliced(&server) > 5_500_000, "{driver:?}");
    });
}
