//! Limits and deadlines of HTTP/1 connections at the real binary: what is too large, too slow, or left open.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::client::timed;
use support::*;

fn site(upstream: &FakeUpstream) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{ body = \"root\" }}\n\
         [[site.main.route]]\npath = \"/files/\"\nfiles = {{ root = \"$DIR\", strip_prefix = \"/files\" }}\n\
         [[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n[app.probe]\n",
        upstream.address
    )
}

fn sizes() -> FakeUpstream {
    FakeUpstream::start(|exchange| exchange.ok_with_size())
}

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

#[test]
fn heads_that_are_too_large_are_refused() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("head_max = \"8KiB\"\nheaders_max = 50").start();
        let refused = |text: String, status: u16| {
            let mut client = server.connect();
            let response = client.ask(&text);
            assert_eq!(response.status, status, "{driver:?} {}", &text[..40]);
            assert!(response.is_last());
            assert_eq!(client.end(), End::Closed, "{driver:?}");
        };
        let fields: Vec<String> = (0..60).map(|n| format!("X-{n}: v")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(server.connect().ask(request("GET", "/", &fields[..45], "")).status, 200, "{driver:?}");
        refused(request("GET", "/", &fields, ""), 431);
        let long = format!("X: {}", "v".repeat(7 * 1024));
        assert_eq!(server.connect().ask(request("GET", "/", &[&long], "")).status, 200, "{driver:?}");
        refused(request("GET", "/", &[&format!("X: {}", "v".repeat(9 * 1024))], ""), 431);
        refused(request("GET", "/", &[&"v".repeat(90 * 1024)], ""), 431);
        assert_eq!(server.connect().ask(get(&format!("/{}", "p".repeat(3 * 1024)))).status, 200, "{driver:?}");
        refused(get(&format!("/{}", "p".repeat(9 * 1024))), 414);
        refused(get(&format!("/{}", "p".repeat(200 * 1024))), 414);
        // An endless head: refused at the limit, not when it ends.
        let mut client = server.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}", "v".repeat(9 * 1024)));
        assert_eq!(client.response("GET").status, 431, "{driver:?}");
        client = server.connect();
        client.send("\r\n".repeat(64 * 1024));
        client.finish_sending();
        let (answer, _) = client.read_to_end();
        drop(client);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{driver:?}");
        server.wait_until_no_client();
    });
}

#[test]
fn bodies_that_are_too_large_are_refused_and_the_answer_arrives() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("body_max = \"100KB\"").start();
        for path in ["/up/x", "/app/size"] {
            let body = "x".repeat(100_000);
            assert_eq!(server.connect().ask(post(path, &body)).text(), "100000 bytes", "{driver:?} {path}");
            // Announced: refused before any of it is read, and nothing reaches the upstream.
            let mut client = server.connect();
            let response = client.ask(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100001\r\n\r\n"));
            assert!(response.status == 413 && response.is_last(), "{driver:?} {path}: {}", response.status);
            assert_eq!(client.end(), End::Closed);
            // Not announced: refused when the limit is passed.
            let mut client = server.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for _ in 0..30 {
                client.send(format!("1388\r\n{}\r\n", "x".repeat(5000)));
            }
            let response = client.response("POST");
            assert!(response.status == 413 && response.is_last(), "{driver:?} {path}: {}", response.status);
            assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
        }
        assert_eq!(upstream.seen().iter().filter(|seen| seen.body_complete).count(), 1, "{driver:?}");
    });
}

/// RFC 9112 section 9.6: closing a socket that still has unread bytes resets it, and the reset destroys the answer on
/// its way.
#[test]
fn a_client_that_is_still_sending_gets_the_whole_answer() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("body_max = \"100KB\"").start();
        let heads = [
            ("POST /up/x HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000\r\n\r\n".to_owned(), 413),
            ("POST /app/size HTTP/1.1\r\nHost: test\r\nContent-Length: 10000000\r\n\r\n".to_owned(), 413),
            ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
            (format!("GET /{} HTTP/1.1\r\n", "p".repeat(40_000)), 414),
        ];
        for (head, status) in heads {
            let mut client = server.connect();
            client.send(&head);
            // Blind to the answer for as long as it sends, as most clients are.
            for _ in 0..8 {
                client
                    .stream
                    .write_all(&[b'x'; 32 * 1024])
                    .unwrap_or_else(|error| panic!("{driver:?} {status}: {error}"));
                std::thread::sleep(Duration::from_millis(20));
            }
            let response = client.response("POST");
            assert_eq!(response.status, status, "{driver:?}");
            assert!(!response.body.is_empty());
            assert_eq!(client.end(), End::Closed, "{driver:?} {status}");
        }
    });
}

#[test]
fn continue_is_said_only_when_the_body_is_wanted() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("body_max = \"100KB\"").file("f", b"file").start();
        let head = |path: &str, length: usize| {
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nExpect: 100-Continue\r\n\r\n")
        };
        for (path, length) in [("/up/x", 5), ("/app/size", 5), ("/up/x", 90_000), ("/app/size", 90_000)] {
            let mut client = server.connect();
            client.send(head(path, length));
            while client.buffered().len() < 25 {
                assert!(client.fill().expect("100 comes first") > 0, "{driver:?} {path}");
            }
            assert_eq!(client.buffered(), b"HTTP/1.1 100 Continue\r\n\r\n", "{driver:?} {path}");
            let response = client.send(vec![b'x'; length]).response("POST");
            assert_eq!(response.interim, [100], "{driver:?} {path}");
            assert_eq!(response.text(), format!("{length} bytes"), "{driver:?} {path}");
            assert_eq!(client.ask(get("/")).text(), "root", "{driver:?} {path}");
        }
        // Refused or not needed: the final answer at once. Whether the client sends the body then is open, so the
        // connection cannot go on unless the answer says so and the body is skipped.
        for (path, length, status) in
            [("/up/x", 200_000, 413), ("/app/size", 200_000, 413), ("/files/none", 5, 405), ("/", 5, 200)]
        {
            let mut client = server.connect();
            let response = client.ask(head(path, length));
            assert_eq!((response.status, response.interim.as_slice()), (status, [].as_slice()), "{driver:?} {path}");
            if response.is_last() {
                assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
            } else {
                client.send("GET /").send(get("/"));
                assert_eq!(client.response("GET").text(), "root", "{driver:?} {path}: the 5 bytes are the body");
            }
        }
        // HTTP/1.0 knows no 100.
        let mut client = server.connect();
        client.send("POST /up/x HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        client.assert_silent(Duration::from_millis(200));
        let response = client.send("hello").response("POST");
        assert_eq!((response.text().as_str(), response.interim.as_slice()), ("5 bytes", [].as_slice()), "{driver:?}");
        assert!(upstream.seen().iter().all(|seen| seen.values("expect").is_empty()), "Expect ends here");
    });
}

#[test]
fn a_slow_head_gets_408_at_an_absolute_deadline() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("header_timeout = \"700ms\"").start();
        // One byte every 50 ms would live for ever if each byte set the clock back.
        let mut client = server.connect();
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let begin = Instant::now();
        let mut rest = b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
        while client.buffered().is_empty() {
            client.send([*rest.next().expect("endless")]);
            let _ = client.fill();
            assert!(begin.elapsed() < SOON, "{driver:?}: no deadline");
        }
        assert!(begin.elapsed() >= Duration::from_millis(600), "{driver:?}: too early, {:?}", begin.elapsed());
        client.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let response = client.response("GET");
        assert!(response.status == 408 && response.is_last(), "{driver:?}: {}", response.status);
        // The same for the second request of a connection, and for one that just stops.
        let mut client = server.connect();
        assert_eq!(client.ask(get("/")).status, 200);
        let (response, took) = timed(|| client.send("GET / HT").response("GET"));
        assert_eq!(response.status, 408, "{driver:?}");
        assert!(took >= Duration::from_millis(600) && took < SOON, "{driver:?}: {took:?}");
        assert_eq!(client.end(), End::Closed, "{driver:?}");
        server.wait_until_no_client();
        assert!(server.metric("one_server_http_timeouts_total", "") >= 2.0);
    });
}

#[test]
fn a_connection_without_a_request_is_closed() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let limits = "header_timeout = \"500ms\"\nkeep_alive_timeout = \"1500ms\"";
        let server = Site::probe(driver, &site(&upstream)).http(limits).start();
        let mut silent = server.connect();
        let (_, took) = timed(|| silent.read_to_end());
        assert!(took < SOON, "{driver:?}: {took:?}");
        let mut idle = server.connect();
        assert_eq!(idle.ask(get("/")).status, 200);
        let (end, took) = timed(|| idle.end());
        assert_eq!(end, End::Closed, "{driver:?}");
        assert!(took > Duration::from_millis(1300) && took < SOON, "{driver:?}: {took:?}");
        // Each answer starts the time anew.
        let mut busy = server.connect();
        for _ in 0..4 {
            assert_eq!(busy.ask(get("/")).status, 200, "{driver:?}");
            std::thread::sleep(Duration::from_millis(600));
        }
        drop((silent, busy));
        server.wait_until_no_client();
    });
}

#[test]
fn a_body_that_stops_gets_408() {
    with_both_drivers(|driver| {
        let upstream = sizes();
        let server = Site::probe(driver, &site(&upstream)).http("body_timeout = \"500ms\"").start();
        for path in ["/up/x", "/app/size"] {
            for sent in [3, 60_000] {
                let mut client = server.connect();
                client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"));
                client.send(vec![b'x'; sent]);
                let (response, took) = timed(|| client.response("POST"));
                assert!(response.status == 408 && response.is_last(), "{driver:?} {path} {sent}: {}", response.status);
                assert!(took >= Duration::from_millis(400) && took < SOON, "{driver:?} {path} {sent}: {took:?}");
                assert_eq!(client.end(), End::Closed, "{driver:?} {path} {sent}");
            }
            // Slow is not stopped.
            let mut client = server.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"));
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(200));
                client.send("x");
            }
            assert_eq!(client.response("POST").text(), "5 bytes", "{driver:?} {path}");
        }
        upstream.wait_until_all_closed_but_idle();
        assert!(upstream.seen().iter().all(|seen| seen.body_complete == (seen.body.len() == 5)), "{driver:?}");
    });
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n");
            let piece = vec![b'u'; 1 << 16];
            while exchange.send(&piece) {}
            upstream::Then::Close
        });
        let site = Site::probe(driver, &site(&upstream)).http("write_timeout = \"500ms\"");
        let server = site.file("big", &vec![b'f'; 30_000_000]).start();
        for path in ["/files/big", "/up/big", "/app/large?bytes=30000000"] {
            let mut client = Client::with_small_window(server.web());
            client.send(get(path));
            client.fill().expect("the answer begins");
            let begin = Instant::now();
            server.wait_until_no_client();
            assert!(begin.elapsed() < SOON, "{driver:?} {path}: {:?}", begin.elapsed());
            // Whatever was under way comes, and then no proper end.
            let bytes = client.drain();
            assert!(bytes.len() < 30_000_000, "{driver:?} {path}: {} bytes", bytes.len());
        }
        // Slow is not stopped: this client takes some bytes well within the time-out, over and over.
        let mut client = Client::with_small_window(server.web());
        client.send(get("/files/big"));
        let mut piece = vec![0; 600_000];
        let mut total = 0;
        for _ in 0..12 {
            client.stream.read_exact(&mut piece).unwrap_or_else(|error| panic!("{driver:?}: {error} after {total}"));
            total += piece.len();
            std::thread::sleep(Duration::from_millis(150));
        }
    });
}
