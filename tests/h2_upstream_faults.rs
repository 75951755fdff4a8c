//! Servers of HTTP/2 that do not go on: what may be sent again is, what has begun breaks off and never looks complete, and
//! one stream's trouble is not that of the others. Sources: RFC 9113 sections 6.8, 8.1 and 8.7, RFC 9110 section 9.2.2.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::NoResponse;
use support::fake_http2::FakeHttp2;
use support::frames::*;
use support::{Driver, Server, Site, eventually, get, pattern, post, request, with_both_drivers};

const INTERNAL_ERROR: u32 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;

fn start(driver: Driver, servers: &[SocketAddr], keys: &str) -> Server {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let text = format!(
        "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n\
         health = false\nbalance = \"round-robin\"\nprotocol = \"h2\"\n{keys}\n",
        servers.join(", ")
    );
    Site::new(driver, &text).one_worker().http("body_max = 0").start()
}

fn ok(length: Option<&str>) -> Block {
    let head = Block::default().field(":status", "200");
    match length {
        Some(length) => head.field("content-length", length),
        None => head,
    }
}

/// The connection has ended, or what came is no whole answer.
fn assert_broken(answer: Result<support::Response, NoResponse>, what: &str) {
    assert!(matches!(answer, Err(NoResponse::Ended(..))), "{what}: {answer:?}");
}

#[test]
fn requests_that_the_server_has_not_taken_go_to_another_connection() {
    with_both_drivers(|driver| {
        // The first connection answers one request and takes no other.
        let upstream = FakeHttp2::start(&[], |peer| {
            let Some(first) = peer.request() else { return };
            peer.answer(first, "first");
            if peer.number > 0 {
                return peer.answer_all("later");
            }
            if peer.request().is_some() {
                peer.send(goaway(0, first, NO_ERROR));
                peer.wait();
            }
        });
        let server = start(driver, &[upstream.address], "tries = 1");
        let mut client = server.connect();
        assert_eq!(client.ask(get("/")).text(), "first", "{driver:?}");
        assert_eq!(client.ask(post("/", "body")).text(), "first", "{driver:?}: any method, as it was not taken");
        assert_eq!(client.ask(post("/", "body")).text(), "later", "{driver:?}");
        assert_eq!(upstream.connections(), 2, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_response_errors_total", ""), 0.0, "{driver:?}: nobody's fault");
    });
}

#[test]
fn the_streams_that_a_leaving_server_has_taken_are_answered() {
    with_both_drivers(|driver| {
        let upstream = FakeHttp2::start(&[], |peer| {
            if peer.number > 0 {
                return peer.answer_all("new");
            }
            let Some(id) = peer.request() else { return };
            peer.send(goaway(0, id, NO_ERROR));
            std::thread::sleep(Duration::from_millis(300));
            peer.answer(id, "old");
            peer.wait();
        });
        let server = start(driver, &[upstream.address], "tries = 1");
        let web = server.web();
        let old = std::thread::spawn(move || support::Client::connect(web).ask(post("/", "x")).text());
        eventually("the first connection", || upstream.connections() == 1);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server.connect().ask(post("/", "y")).text(), "new", "{driver:?}");
        assert_eq!(old.join().expect("an answer"), "old", "{driver:?}");
    });
}

#[test]
fn nobody_waits_for_a_place_at_a_leaving_connection() {
    with_both_drivers(|driver| {
        // One request at a time; the first one takes long, and meanwhile the server says that it takes no other.
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let upstream = FakeHttp2::start(&[(MAX_CONCURRENT_STREAMS, 1)], move |peer| {
            if peer.number > 0 {
                return peer.answer_all("new");
            }
            let Some(id) = peer.request() else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(400));
            peer.send(goaway(0, id, NO_ERROR));
            std::thread::sleep(Duration::from_secs(4));
            peer.answer(id, "old");
            peer.wait();
        });
        let server = start(driver, &[upstream.address], "tries = 1\nh2_connections_max = 1");
        let web = server.web();
        let old = std::thread::spawn(move || support::Client::connect(web).ask(post("/", "x")).text());
        eventually("the first request", || begun.load(Ordering::SeqCst) == 1);
        let asked = Instant::now();
        let waiting = (0..3).map(|_| std::thread::spawn(move || support::Client::connect(web).ask(get("/")).text()));
        for waiting in waiting.collect::<Vec<_>>() {
            assert_eq!(waiting.join().expect("an answer"), "new", "{driver:?}");
        }
        assert!(asked.elapsed() < Duration::from_secs(3), "{driver:?}: {:?}", asked.elapsed());
        assert_eq!(old.join().expect("an answer"), "old", "{driver:?}");
        assert_eq!(upstream.connections(), 2, "{driver:?}");
    });
}

/// Every connection takes one request and no other, and is long about that one, but for the last connection.
#[test]
fn long_requests_of_leaving_connections_keep_nobody_waiting() {
    /// What a config with one open connection at a time lets be closing.
    const CLOSING_MAX: usize = 16;
    const LONG: usize = CLOSING_MAX + 3;
    with_both_drivers(|driver| {
        let is_released = Arc::new(AtomicU32::new(0));
        let released = is_released.clone();
        let upstream = FakeHttp2::start(&[], move |peer| {
            if peer.number >= LONG {
                return peer.answer_all("new");
            }
            let Some(id) = peer.request() else { return };
            peer.send(goaway(0, id, NO_ERROR));
            eventually("the release", || released.load(Ordering::SeqCst) == 1);
            peer.answer(id, "old");
            peer.wait();
        });
        let server = start(driver, &[upstream.address], "tries = 1\nh2_connections_max = 1");
        let web = server.web();
        let begin = |number: usize| {
            let long = std::thread::spawn(move || support::Client::connect(web).ask(post("/", "x")));
            eventually("another connection", || upstream.connections() == number + 1);
            std::thread::sleep(Duration::from_millis(50));
            long
        };
        let long: Vec<_> = (0..LONG).map(begin).collect();
        assert_eq!(server.connect().ask(get("/")).text(), "new", "{driver:?}");
        is_released.store(1, Ordering::SeqCst);
        let answers = long.into_iter().map(|long| long.join().expect("an answer"));
        let statuses: Vec<u16> = answers.map(|answer| answer.status).collect();
        let expect = [vec![502; LONG - CLOSING_MAX], vec![200; CLOSING_MAX]].concat();
        assert_eq!(statuses, expect, "{driver:?}: the oldest end");
        let given_up = server.metric("one_server_upstream_connections_given_up_total", "");
        assert_eq!(given_up, (LONG - CLOSING_MAX) as f64, "{driver:?}");
    });
}

#[test]
fn a_server_that_leaves_at_once_is_not_asked_again_and_again() {
    with_both_drivers(|driver| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                // Settings and farewell in one piece.
                let greeting = [settings(&[]), goaway(0, 0, NO_ERROR)].concat();
                let _ = std::io::Write::write_all(&mut stream, &greeting);
                std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        let server = start(driver, &[address], "tries = 2");
        let begun = Instant::now();
        assert_eq!(server.connect().ask(get("/")).status, 502, "{driver:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", begun.elapsed());
        let errors = server.metric("one_server_upstream_connect_errors_total", "");
        let connections = connections.load(Ordering::SeqCst);
        assert!((1..=2).contains(&connections), "{driver:?}: {connections} connections");
        assert_eq!(errors, connections as f64, "{driver:?}");
    });
}

#[test]
fn a_connection_that_nobody_came_to_use_is_closed() {
    with_both_drivers(|driver| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = start(driver, &[address], "keep_idle_timeout = \"1s\"");
        let mut client = server.connect();
        client.send(get("/"));
        let (mut stream, _) = listener.accept().expect("a connection");
        // By the time it can be used the client has gone.
        drop(client);
        std::thread::sleep(Duration::from_millis(300));
        std::io::Write::write_all(&mut stream, &settings(&[])).expect("sent");
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let mut seen = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut seen).expect("the end of the connection");
        assert!(begun.elapsed() > Duration::from_millis(800), "{driver:?}: {:?}", begun.elapsed());
        assert!(seen.starts_with(PREFACE), "{driver:?}");
    });
}

#[test]
fn what_a_server_refuses_goes_to_another_one() {
    with_both_drivers(|driver| {
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let full = FakeHttp2::start(&[], move |peer| {
            while let Some(id) = peer.request() {
                counted.fetch_add(1, Ordering::SeqCst);
                peer.send(rst(id, REFUSED_STREAM));
            }
        });
        let good = FakeHttp2::start(&[], |peer| peer.answer_all("good"));
        let server = start(driver, &[full.address, good.address], "retry_on = []");
        for _ in 0..4 {
            assert_eq!(server.connect().ask(post("/", "body")).text(), "good", "{driver:?}");
        }
        // A body that is under way as well, as long as it is small.
        let mut client = Http2::connect(server.web());
        for id in [1, 3, 5, 7] {
            client.send(headers(id, END_HEADERS, &Block::post("/"))).send(data(id, 0, "begun"));
            std::thread::sleep(Duration::from_millis(50));
            client.send(data(id, END_STREAM, "ended"));
            assert_eq!(client.answer(id).text(), "good", "{driver:?}");
        }
        assert!(refused.load(Ordering::SeqCst) >= 4, "{driver:?}");
        let alone = start(driver, &[full.address], "tries = 1");
        assert_eq!(alone.connect().ask(post("/", "body")).status, 503, "{driver:?}");
    });
}

#[test]
fn a_lost_connection_is_made_again_for_what_may_be_repeated() {
    with_both_drivers(|driver| {
        // Each connection answers once; the next request finds its end.
        let upstream = FakeHttp2::start(&[], |peer| {
            if let Some(id) = peer.request() {
                peer.answer(id, "yes");
                peer.request();
            }
        });
        let server = start(driver, &[upstream.address], "tries = 1");
        for _ in 0..5 {
            assert_eq!(server.connect().ask(get("/")).status, 200, "{driver:?}");
        }
        let statuses: Vec<u16> = (0..4).map(|_| server.connect().ask(post("/", "x")).status).collect();
        assert!(statuses.contains(&502), "{driver:?}: a POST that was sent is not repeated: {statuses:?}");
        assert_eq!(server.metric("one_server_upstream_connect_errors_total", ""), 0.0, "{driver:?}");
    });
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    type Break = fn(&mut support::fake_http2::Peer, u32);
    // Whether the first part has a length, and what comes behind it.
    let breaks: [(&str, Option<&str>, Break); 6] = [
        ("reset", None, |peer, id| peer.send(rst(id, INTERNAL_ERROR))),
        ("reset without an error", None, |peer, id| peer.send(rst(id, NO_ERROR))),
        ("end of the connection", None, |peer, _| peer.shut()),
        ("too short", Some("10"), |peer, id| peer.send(data(id, END_STREAM, "more"))),
        ("too long", Some("6"), |peer, id| peer.send(data(id, END_STREAM, "longer"))),
        ("broken frames", None, |peer, _| peer.send(frame(WINDOW_UPDATE, 0, 0, [0; 3]))),
    ];
    with_both_drivers(|driver| {
        for (what, length, break_off) in breaks {
            for pause in [0, 100] {
                let upstream = FakeHttp2::start(&[], move |peer| {
                    while let Some(id) = peer.request() {
                        peer.send([headers(id, END_HEADERS, &ok(length)), data(id, 0, "part")].concat());
                        std::thread::sleep(Duration::from_millis(pause));
                        break_off(peer, id);
                    }
                });
                let server = start(driver, &[upstream.address], "tries = 1");
                let mut client = server.connect();
                client.send(get("/"));
                match client.try_response("GET") {
                    // Nothing of it had gone by then.
                    Ok(answer) if pause == 0 => assert_eq!(answer.status, 502, "{driver:?} {what}"),
                    answer => assert_broken(answer, what),
                }
                let mut client = Http2::connect(server.web());
                client.send(headers(1, WHOLE, &Block::get("/")));
                match client.outcome(1) {
                    Outcome::Answer(status) if pause == 0 => assert_eq!(status, 502, "{driver:?} {what}"),
                    outcome => assert!(matches!(outcome, Outcome::Reset(_)), "{driver:?} {what}"),
                }
                // The connection of the client goes on.
                client.send(ping(b"12345678"));
                assert!(client.next().is_some_and(|frame| frame.kind == PING), "{driver:?} {what}");
            }
        }
    });
}

#[test]
fn others_go_on_where_one_stream_breaks() {
    with_both_drivers(|driver| {
        let upstream = FakeHttp2::start(&[], |peer| {
            let (Some(bad), Some(good)) = (peer.request(), peer.request()) else { return };
            peer.send(headers(good, END_HEADERS, &ok(None)));
            peer.send(headers(bad, END_HEADERS, &ok(None)));
            std::thread::sleep(Duration::from_millis(100));
            peer.send(rst(bad, INTERNAL_ERROR));
            peer.send([data(good, 0, "one "), data(good, END_STREAM, "two")].concat());
            peer.answer_all("more");
        });
        let server = start(driver, &[upstream.address], "tries = 1");
        let mut client = Http2::connect(server.web());
        client.send(headers(1, WHOLE, &Block::get("/bad")));
        std::thread::sleep(Duration::from_millis(100));
        client.send(headers(3, WHOLE, &Block::get("/good")));
        let (mut is_reset, mut content) = (false, Vec::new());
        while !is_reset || !content.ends_with(b"two") {
            let frame = client.next().expect("a frame");
            is_reset |= frame.kind == RST_STREAM && frame.stream_id == 1;
            if frame.kind == DATA {
                assert_eq!(frame.stream_id, 3, "{driver:?}");
                content.extend(&frame.payload);
            }
        }
        assert_eq!(content, b"one two", "{driver:?}");
        assert_eq!(client.get(5, "/").text(), "more", "{driver:?}");
        assert_eq!(upstream.connections(), 1, "{driver:?}");
    });
}

#[test]
fn a_head_that_never_ends_holds_nobody_up() {
    with_both_drivers(|driver| {
        let upstream = FakeHttp2::start(&[], |peer| {
            if peer.number > 0 {
                return peer.answer_all("good");
            }
            let Some(id) = peer.request() else { return };
            peer.send(frame(HEADERS, 0, id, &ok(None).0));
            for _ in 0..30 {
                peer.send(continuation(id, 0, &Block::default().field("a", "b").0));
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let server = start(driver, &[upstream.address], "tries = 1\nresponse_timeout = \"500ms\"");
        assert_eq!(server.connect().ask(get("/")).status, 504, "{driver:?}");
        for _ in 0..3 {
            let begun = Instant::now();
            assert_eq!(server.connect().ask(get("/")).text(), "good", "{driver:?}");
            assert!(begun.elapsed() < Duration::from_millis(400), "{driver:?}: not on the connection that hangs");
        }
    });
}

#[test]
fn a_flood_of_header_pieces_ends_the_connection() {
    let upstream = FakeHttp2::start(&[], |peer| {
        let Some(id) = peer.request() else { return };
        peer.send(frame(HEADERS, 0, id, &ok(None).0));
        let piece = continuation(id, 0, &Block::default().field("a", "b".repeat(100)).0).repeat(100);
        // 10 MB at most.
        for _ in 0..1000 {
            peer.send(&piece);
        }
        peer.wait();
    });
    let server = start(Driver::Auto, &[upstream.address], "tries = 1\nresponse_timeout = \"20s\"");
    let begun = Instant::now();
    assert_eq!(server.connect().ask(get("/")).status, 502);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_head_beyond_the_limits_is_the_servers_fault() {
    let upstream = FakeHttp2::start(&[], |peer| {
        while let Some(id) = peer.request() {
            let big = ok(None).field("x-big", "b".repeat(12_000));
            peer.send([headers(id, END_HEADERS, &big), data(id, END_STREAM, "x")].concat());
        }
    });
    let server = start(Driver::Auto, &[upstream.address], "tries = 1");
    assert_eq!(server.connect().ask(get("/")).status, 200, "within the limit");
    let small = Site::new(
        Driver::Auto,
        &format!(
            "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\n\
             health = false\nprotocol = \"h2\"\ntries = 1\n",
            upstream.address
        ),
    )
    .http("head_max = \"4KiB\"")
    .start();
    assert_eq!(small.connect().ask(get("/")).status, 502);
}

#[test]
fn a_server_that_is_dead_is_found_out_before_its_time() {
    // Nobody answers there: not the request, not the ping.
    let upstream = FakeHttp2::start(&[], |peer| match peer.number {
        0 => peer.wait(),
        _ => peer.answer_all("alive"),
    });
    let server = start(Driver::Auto, &[upstream.address], "response_timeout = \"60s\"");
    let begun = Instant::now();
    let mut client = server.connect();
    client.send(get("/"));
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(client.response("GET").text(), "alive");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[test]
fn who_does_not_speak_http2_gets_no_request() {
    with_both_drivers(|driver| {
        let upstream = support::stream::TcpServer::start(|mut stream| {
            use std::io::{Read, Write};
            let count = stream.read(&mut [0; 1000]).expect("the preface");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").expect("an answer");
            assert!(count >= 24 && stream.read(&mut [0; 1000]).is_ok_and(|count| count == 0), "and no more");
        });
        let server = start(driver, &[upstream.address], "tries = 1");
        assert_eq!(server.connect().ask(post("/", "x")).status, 502, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_connect_errors_total", ""), 1.0, "{driver:?}");
        server.wait_for_line("why", |line| {
            line.contains("server connect failed") && line.contains("it does not speak HTTP/2")
        });
    });
}

#[test]
fn a_client_that_leaves_ends_its_stream_and_no_other() {
    with_both_drivers(|driver| {
        let code = Arc::new(AtomicU32::new(u32::MAX));
        let seen = code.clone();
        let upstream = FakeHttp2::start(&[], move |peer| {
            let Some(id) = peer.request() else { return };
            peer.send([headers(id, END_HEADERS, &ok(None)), data(id, 0, "begun")].concat());
            seen.store(peer.reset_of(id).unwrap_or(u32::MAX), Ordering::SeqCst);
            peer.answer_all("next");
        });
        for is_http2 in [false, true] {
            code.store(u32::MAX, Ordering::SeqCst);
            let server = start(driver, &[upstream.address], "");
            if is_http2 {
                let mut client = Http2::connect(server.web());
                client.send(headers(1, WHOLE, &Block::get("/")));
                while client.next().expect("frames").kind != DATA {}
                client.send(rst(1, CANCEL));
                eventually("the reset", || code.load(Ordering::SeqCst) == CANCEL);
            } else {
                let mut client = server.connect();
                client.send(get("/"));
                while !client.buffered().ends_with(b"begun\r\n") {
                    client.fill().expect("bytes");
                }
                drop(client);
                eventually("the reset", || code.load(Ordering::SeqCst) == CANCEL);
            }
            assert_eq!(server.connect().ask(get("/")).text(), "next", "{driver:?}");
        }
    });
}

#[test]
fn a_client_that_does_not_read_stops_its_stream_and_no_other() {
    with_both_drivers(|driver| {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        // Sends as much as the windows allow on the first stream, and answers the others.
        let upstream = FakeHttp2::start(&[], move |peer| {
            let Some(first) = peer.request() else { return };
            peer.send(headers(first, END_HEADERS, &ok(None)));
            let mut window: i64 = 128 << 10;
            loop {
                while window > 0 {
                    let piece = window.min(16 << 10);
                    peer.send(data(first, 0, vec![7; piece as usize]));
                    window -= piece;
                    counted.fetch_add(piece as usize, Ordering::SeqCst);
                }
                let Some(next) = peer.any() else { return };
                match next.kind {
                    WINDOW_UPDATE if next.stream_id == first => {
                        window += i64::from(u32::from_be_bytes(next.payload[..4].try_into().expect("4 bytes")));
                    }
                    HEADERS => peer.answer(next.stream_id, "other"),
                    PING | SETTINGS if !next.has(ACK) => {
                        peer.send(frame(next.kind, ACK, 0, if next.kind == PING { &next.payload[..] } else { &[] }))
                    }
                    _ => {}
                }
            }
        });
        let server = start(driver, &[upstream.address], "");
        let mut lazy = support::Client::with_small_window(server.web());
        lazy.send(get("/"));
        let mut before = usize::MAX;
        eventually("it stops", || {
            std::thread::sleep(Duration::from_millis(300));
            let now = sent.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && now > 0
        });
        // What sockets hold, and a window of ours.
        assert!(before < 8 << 20, "{driver:?}: {before}");
        assert_eq!(server.connect().ask(get("/")).text(), "other", "{driver:?}");
        assert_eq!(upstream.connections(), 1, "{driver:?}: on the same connection");
    });
}

#[test]
fn a_server_that_does_not_read_stops_the_client() {
    with_both_drivers(|driver| {
        let got = Arc::new(AtomicUsize::new(0));
        let counted = got.clone();
        let upstream = FakeHttp2::start(&[], move |peer| {
            let Some(id) = peer.request() else { return };
            let mut total = 0;
            while let Some(next) = peer.next() {
                if next.kind != DATA {
                    continue;
                }
                total += next.payload.len();
                counted.store(total, Ordering::SeqCst);
                if next.has(END_STREAM) {
                    return peer.answer(id, &total.to_string());
                }
                // The first window is 65,535 bytes: no more until the test has looked.
                if total == 65_535 {
                    std::thread::sleep(Duration::from_millis(700));
                    peer.send([window_update(0, 1 << 30), window_update(id, 1 << 30)].concat());
                }
            }
        });
        let server = start(driver, &[upstream.address], "");
        let body = pattern(4 << 20);
        let mut client = server.connect();
        let mut sender = client.stream.try_clone().expect("a socket");
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        let sending = std::thread::spawn(move || {
            use std::io::Write;
            sender.write_all(head.as_bytes()).and_then(|()| sender.write_all(&body)).expect("it is taken in the end")
        });
        eventually("the window is full", || got.load(Ordering::SeqCst) == 65_535);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(got.load(Ordering::SeqCst), 65_535, "{driver:?}");
        assert_eq!(client.response("POST").text(), (4 << 20).to_string(), "{driver:?}");
        sending.join().expect("it has sent");
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_is_whole() {
    with_both_drivers(|driver| {
        let upstream = FakeHttp2::start(&[], |peer| {
            while let Some(id) = peer.request() {
                peer.answer(id, "enough");
                // RFC 9113 section 8.1: the rest of the request is not wanted.
                peer.send(rst(id, NO_ERROR));
            }
        });
        let server = start(driver, &[upstream.address], "");
        let mut client = Http2::connect(server.web());
        client.send(headers(1, END_HEADERS, &Block::post("/"))).send(data(1, 0, "not all"));
        assert_eq!(client.answer(1).text(), "enough", "{driver:?}");
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nnot all");
        assert_eq!(client.response("POST").text(), "enough", "{driver:?}");
    });
}

#[test]
fn no_more_streams_than_the_server_allows() {
    with_both_drivers(|driver| {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        // Takes two at once and answers a pair when it is complete, or the first after a while.
        let upstream = FakeHttp2::start(&[(MAX_CONCURRENT_STREAMS, 2)], move |peer| {
            while let Some(id) = peer.request() {
                seen.fetch_max(id as usize, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                peer.answer(id, "done");
            }
        });
        let server = start(driver, &[upstream.address], "h2_connections_max = 2");
        let web = server.web();
        let asking: Vec<_> = (0..12)
            .map(|_| std::thread::spawn(move || support::Client::connect(web).ask(post("/", "x")).status))
            .collect();
        assert!(asking.into_iter().all(|asked| asked.join().expect("an answer") == 200), "{driver:?}");
        assert!(upstream.connections() <= 2, "{driver:?}: {}", upstream.connections());
        assert_eq!(server.metric("one_server_upstream_retries_total", ""), 0.0, "{driver:?}: none was refused");
    });
}

/// A server that answers what comes second and nothing else; the first request comes alone.
fn answers_the_second(settings_between: Vec<u8>) -> (FakeHttp2, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = begun.clone();
    let values: &[(u16, u32)] = if settings_between.is_empty() { &[] } else { &[(MAX_CONCURRENT_STREAMS, 1)] };
    let upstream = FakeHttp2::start(values, move |peer| {
        if peer.request().is_none() {
            return;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(500));
        peer.send(&settings_between);
        let Some(second) = peer.request() else { return };
        peer.answer(second, "second");
        peer.wait();
    });
    (upstream, begun)
}

/// Asks twice, does `then` while the second request waits for a place, and has its answer.
fn ask_for_two(server: &Server, begun: &AtomicUsize, then: impl FnOnce()) -> String {
    let web = server.web();
    let mut first = server.connect();
    first.send(get("/"));
    eventually("the first request", || begun.load(Ordering::SeqCst) == 1);
    let second = std::thread::spawn(move || support::Client::connect(web).ask(get("/")).text());
    std::thread::sleep(Duration::from_millis(200));
    then();
    second.join().expect("an answer")
}

#[test]
fn a_server_that_takes_more_at_once_gets_those_who_wait() {
    with_both_drivers(|driver| {
        let (upstream, begun) = answers_the_second(settings(&[(MAX_CONCURRENT_STREAMS, 2)]));
        let server = start(driver, &[upstream.address], "h2_connections_max = 1");
        let asked = Instant::now();
        assert_eq!(ask_for_two(&server, &begun, || {}), "second", "{driver:?}");
        assert!(asked.elapsed() < Duration::from_secs(4), "{driver:?}: {:?}", asked.elapsed());
        assert_eq!(upstream.connections(), 1, "{driver:?}");
    });
}

#[test]
fn a_reload_that_allows_more_at_once_lets_those_go_who_wait() {
    with_both_drivers(|driver| {
        let (upstream, begun) = answers_the_second(Vec::new());
        let text = format!(
            "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\n\
             servers = [\"{}\"]\nhealth = false\nprotocol = \"h2\"\nh2_connections_max = 1\nh2_streams_max = 1\n",
            upstream.address
        );
        let server = Site::new(driver, &text).one_worker().process("control = \"$DIR/ctl.sock\"").start();
        let asked = Instant::now();
        let reload = || drop(server.reload_with(&[("h2_streams_max = 1", "h2_streams_max = 2")]));
        assert_eq!(ask_for_two(&server, &begun, reload), "second", "{driver:?}");
        assert!(asked.elapsed() < Duration::from_secs(4), "{driver:?}: {:?}", asked.elapsed());
        assert_eq!(upstream.connections(), 1, "{driver:?}");
    });
}

#[test]
fn heads_before_the_final_one_go_on() {
    with_both_drivers(|driver| {
        let upstream = FakeHttp2::start(&[], |peer| {
            while let Some(id) = peer.request() {
                let early = Block::default().field(":status", "103").field("link", "</a.css>; rel=preload");
                peer.send(headers(id, END_HEADERS, &early));
                peer.answer(id, "final");
            }
        });
        let server = start(driver, &[upstream.address], "");
        let mut client = server.connect();
        client.send(get("/"));
        while !client.buffered().ends_with(b"final") && !client.buffered().ends_with(b"0\r\n\r\n") {
            client.fill().expect("bytes");
        }
        let text = String::from_utf8_lossy(client.buffered()).into_owned();
        assert!(
            text.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"),
            "{driver:?} {text}"
        );
        let answer = client.response("GET");
        assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[103][..], "final"), "{driver:?}");
        let mut client = Http2::connect(server.web());
        client.send(headers(1, WHOLE, &Block::get("/")));
        let mut statuses = Vec::new();
        while statuses.len() < 2 {
            let frame = client.next().expect("a frame");
            if frame.kind == HEADERS {
                statuses.push(frame.status());
            }
        }
        assert_eq!(statuses, [103, 200], "{driver:?}");
    });
}

#[test]
fn silence_within_an_answer_breaks_it_off() {
    let upstream = FakeHttp2::start(&[], |peer| {
        let Some(id) = peer.request() else { return };
        peer.send([headers(id, END_HEADERS, &ok(None)), data(id, 0, "part")].concat());
        while peer.next().is_some() {}
    });
    let server = start(Driver::Auto, &[upstream.address], "idle_timeout = \"500ms\"");
    let mut client = server.connect();
    client.send(get("/"));
    assert_broken(client.try_response("GET"), "silence");
}

#[test]
fn errors_of_a_server_are_tried_elsewhere_where_that_is_wanted() {
    with_both_drivers(|driver| {
        let busy = FakeHttp2::start(&[], |peer| {
            while let Some(id) = peer.request() {
                peer.send(headers(id, END_HEADERS | END_STREAM, &Block::default().field(":status", "503")));
            }
        });
        let good = FakeHttp2::start(&[], |peer| peer.answer_all("good"));
        let server = start(driver, &[busy.address, good.address], "retry_on = [\"503\"]");
        for _ in 0..4 {
            assert_eq!(server.connect().ask(get("/")).text(), "good", "{driver:?}");
        }
        let plain = start(driver, &[busy.address], "");
        let answer = plain.connect().ask(request("GET", "/", &[], ""));
        assert_eq!((answer.status, answer.field("content-length")), (503, Some("0")), "{driver:?}");
    });
}
