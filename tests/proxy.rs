//! The proxy at the real binary, one server behind it: heads, bodies, streaming both ways, and what a misbehaving
//! server must not do to a client. Source: RFC 9110 (sections 7.6, 9.2.2, 15.2), RFC 9112 (sections 6, 8, 9).

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::client::{NoResponse, timed};
use support::upstream::Then;
use support::*;

fn site_with(address: SocketAddr, keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\n{keys}\n"
    )
}

fn start(driver: Driver, upstream: &FakeUpstream, keys: &str) -> Server {
    Site::new(driver, &site_with(upstream.address, keys)).http("body_max = 0").start()
}

/// A moment longer than the server's clock ticks, for things that must not happen.
const MOMENT: Duration = Duration::from_millis(400);

#[test]
fn hop_by_hop_fields_end_here_and_the_others_pass() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: 2\r\nSet-Cookie: a=1\r\n\
                 Set-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nok",
            );
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let fields = [
            "Connection: keep-alive, X-Hop, HTTP2-Settings, X-Forwarded-For, Host, Authorization",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers, deflate",
            "Trailer: X-T",
            "Upgrade: websocket, h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "Authorization: Basic eDp5",
            "Cookie: a=1",
            "Cookie: b=2",
            "X-End: 1",
            "Accept-Encoding: gzip",
        ];
        let response = server.connect().ask(request("POST", "/path%20x?q=%2F", &fields, "body"));
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/path%20x?q=%2F"), "{driver:?}");
        assert_eq!(seen.body, b"body", "{driver:?}");
        for gone in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect"] {
            assert!(seen.values(gone).is_empty(), "{driver:?} {gone}: {:?}", seen.fields);
        }
        assert!(
            seen.values("connection").iter().all(|value| !value.to_lowercase().contains("x-")),
            "{:?}",
            seen.fields
        );
        // Fields that we set, or that are the client's credentials, are not removed on the client's say-so.
        assert_eq!(seen.field("host"), Some("test"), "{driver:?}");
        assert_eq!(seen.field("authorization"), Some("Basic eDp5"), "{driver:?}");
        assert_eq!((seen.field("x-end"), seen.field("accept-encoding")), (Some("1"), Some("gzip")), "{driver:?}");
        assert_eq!(seen.values("cookie").join("; "), "a=1; b=2", "{driver:?}");
        for gone in ["x-hop", "keep-alive", "upgrade"] {
            assert_eq!(response.field(gone), None, "{driver:?}");
        }
        assert_eq!(response.field("x-end"), Some("2"), "{driver:?}");
        let cookies: Vec<&str> = response
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, v)| v.as_str())
            .collect();
        assert_eq!(cookies, ["a=1", "b=2"], "{driver:?}");
        assert!(response.field("date").is_some(), "{driver:?}");
    });
}

#[test]
fn the_server_is_told_who_asks() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("ok"));
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.ask(request("GET", "/", &[], ""));
        let seen = upstream.last();
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"), "{driver:?}");
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"), "{driver:?}");
        assert_eq!(seen.field("x-forwarded-host"), Some("test"), "{driver:?}");
        let port = server.web().port().to_string();
        assert_eq!(seen.field("x-forwarded-port"), Some(port.as_str()), "{driver:?}");
        let id = seen.field("x-request-id").expect("an identifier").to_owned();
        // What an untrusted client claims is at most the left part of the list.
        client.ask(request("GET", "/", &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"], ""));
        let seen = upstream.last();
        let list = seen.values("x-forwarded-for").join(", ");
        assert!(list.ends_with("127.0.0.1"), "{driver:?}: {list}");
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"), "{driver:?}");
        assert_ne!(seen.field("x-request-id"), Some(id.as_str()), "{driver:?}");
    });
}

#[test]
fn bodiless_answers_are_relayed_without_framing() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let answer = match exchange.request.target.as_str() {
                "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                "/204te" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: \"x\"\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "/headchunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/0" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            exchange.send(answer);
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        for (method, path, status) in [
            ("GET", "/204", 204),
            ("GET", "/204te", 204),
            ("GET", "/304", 304),
            ("HEAD", "/head", 200),
            ("HEAD", "/headchunked", 200),
            ("GET", "/0", 200),
        ] {
            let response = client.ask(request(method, path, &[], ""));
            assert_eq!((response.status, response.body.len()), (status, 0), "{driver:?} {path}");
            if path == "/head" {
                assert_eq!(response.field("content-length"), Some("12345"), "{driver:?}");
            }
            // The connection is at a message boundary.
            if response.is_last() {
                client = server.connect();
            }
            assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?} {path}");
        }
    });
}

#[test]
fn interim_answers_pass_to_those_who_know_them() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
            exchange.ok("done")
        });
        let server = start(driver, &upstream, "");
        let response = server.connect().ask(get("/"));
        assert_eq!(response.text(), "done", "{driver:?}");
        assert!(response.interim.contains(&103), "{driver:?}: {:?}", response.interim);
        let response = server.connect().ask("GET / HTTP/1.0\r\n\r\n");
        assert_eq!((response.text().as_str(), response.interim.len()), ("done", 0), "{driver:?}: 1.0 knows no 1xx");
    });
}

#[test]
fn a_tunnel_nobody_asked_for_is_not_opened() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw bytes");
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let response = server.connect().ask(get("/"));
        assert_eq!(response.status, 502, "{driver:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn bodies_of_every_framing_arrive_in_every_version() {
    with_both_drivers(|driver| {
        let body = Arc::new(pattern(200_000));
        let content = body.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            let body = content.as_slice();
            match exchange.request.target.as_str() {
                "/length" => {
                    exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                    exchange.send(body);
                }
                "/chunked" | "/both" => {
                    let extra = if exchange.request.target == "/both" { "Content-Length: 3\r\n" } else { "" };
                    exchange.send(format!("HTTP/1.1 200 OK\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"));
                    for piece in body.chunks(9_999) {
                        exchange.send(format!("{:X};ext=1\r\n", piece.len()));
                        exchange.send(piece);
                        exchange.send("\r\n");
                    }
                    exchange.send("0\r\nX-Trailer: 1\r\n\r\n");
                }
                "/bytewise" => {
                    exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let text = b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
                    exchange.dribble(text, 1, Duration::from_millis(1));
                }
                _ => {
                    exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                    exchange.send(body);
                    return Then::Close;
                }
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        for path in ["/length", "/chunked", "/both", "/close", "/bytewise"] {
            for version in ["1.1", "1.0"] {
                let mut client = server.connect();
                let response = client.ask(format!("GET {path} HTTP/{version}\r\nHost: test\r\n\r\n"));
                let expected = if path == "/bytewise" { b"hello!" } else { body.as_slice() };
                assert!(response.body == expected, "{driver:?} {path} {version}: {} bytes", response.body.len());
                assert!(response.field("x-trailer").is_none());
                if version == "1.0" {
                    assert!(response.is_last() && response.field("transfer-encoding").is_none(), "{driver:?} {path}");
                    assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
                }
            }
        }
    });
}

/// RFC 9112 section 8: an incomplete message must not look complete to the client.
#[test]
fn a_truncated_answer_breaks_the_clients_connection() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let target = exchange.request.target.clone();
            let (head, sent) = match target.rsplit('/').next().unwrap_or_default() {
                "length" => ("Content-Length: 100000", "x".repeat(50_000)),
                "chunk" => ("Transfer-Encoding: chunked", format!("1000\r\n{}", "x".repeat(100))),
                "between" => ("Transfer-Encoding: chunked", "5\r\nhello\r\n".to_owned()),
                "last" => ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n".to_owned()),
                _ => ("Transfer-Encoding: chunked", "5\r\nhello\r\nzz\r\n".to_owned()),
            };
            exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{sent}"));
            if target.starts_with("/reset") {
                std::thread::sleep(Duration::from_millis(50));
                return exchange.reset();
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        for how in ["/close", "/reset"] {
            for what in ["length", "chunk", "between", "last", "bad"] {
                let mut client = server.connect();
                let result = client.send(get(&format!("{how}/{what}"))).try_response("GET");
                let ended = match &result {
                    Err(NoResponse::Ended(_, bytes)) => !bytes.ends_with(b"0\r\n\r\n"),
                    Ok(response) => response.status == 502,
                    Err(_) => false,
                };
                assert!(ended, "{driver:?} {how}/{what}: {result:?}");
                // A client of HTTP/1.0 can tell only by a reset.
                let mut client = server.connect();
                client.send(format!("GET {how}/{what} HTTP/1.0\r\n\r\n"));
                let (bytes, end) = client.read_to_end();
                let told = end == End::Reset || bytes.starts_with(b"HTTP/1.1 502") || what == "length";
                assert!(told, "{driver:?} {how}/{what}: {end:?} after {} bytes", bytes.len());
            }
        }
        upstream.wait_until_all_closed();
    });
}

#[test]
fn malformed_answers_are_502() {
    let answers: &[&str] = &[
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA",
    ];
    with_both_drivers(|driver| {
        for answer in answers {
            let upstream = FakeUpstream::start(move |exchange| {
                exchange.send(answer);
                Then::Close
            });
            let server = start(driver, &upstream, "tries = 1");
            let mut client = server.connect();
            // What a coding other than chunked means for the length is told by the end of the connection (RFC 9112
            // section 6.3), so that one may also be passed on as it is.
            let response = client.ask(get("/"));
            let allowed = response.status == 502 || (answer.contains("gzip") && response.text() == "ok");
            assert!(allowed, "{driver:?} {answer:?}: {}", response.status);
        }
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\n");
            while exchange.send(format!("X: {}\r\n", "x".repeat(1000))) {}
            Then::Close
        });
        let server = start(driver, &upstream, "tries = 1");
        assert_eq!(server.connect().ask(get("/")).status, 502, "{driver:?}: an endless head");
    });
}

#[test]
fn bytes_behind_an_answer_never_become_the_next_one() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let (real, poison) = (["Content-Length: 4\r\n\r\nreal", "Content-Length: 6\r\n\r\npoison"])
                .map(|rest| format!("HTTP/1.1 200 OK\r\n{rest}"))
                .into();
            match exchange.request.target.as_str() {
                "/at-once" => exchange.send(real + &poison),
                _ => {
                    exchange.send(real);
                    std::thread::sleep(Duration::from_millis(5));
                    exchange.send(poison)
                }
            };
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        for n in 0..10 {
            for method in ["GET", "POST"] {
                for path in ["/at-once", "/later"] {
                    let text = server.connect().ask(request(method, path, &[], "")).text();
                    assert_eq!(text, "real", "{driver:?} {method} {path} {n}");
                    if path == "/later" {
                        // It must have arrived: what comes only after the next request has been sent looks like its
                        // answer to anybody.
                        std::thread::sleep(Duration::from_millis(40));
                    }
                }
            }
        }
    });
}

#[test]
fn a_server_that_is_too_slow_gets_504() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            if exchange.request.target == "/half" {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Le");
            }
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "response_timeout = \"400ms\"\ntries = 1");
        for (path, body) in [("/none", String::new()), ("/half", String::new()), ("/large", "x".repeat(100_000))] {
            let text = request(if body.is_empty() { "GET" } else { "POST" }, path, &[], &body);
            let (response, took) = timed(|| server.connect().ask(text));
            assert_eq!(response.status, 504, "{driver:?} {path}");
            assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(8), "{driver:?} {path}: {took:?}");
        }
        upstream.wait_until_all_closed();
    });
}

/// `response_timeout` counts from the last byte of the request.
#[test]
fn a_slow_upload_is_not_the_servers_fault() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = start(driver, &upstream, "response_timeout = \"300ms\"\ntries = 1");
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n");
        for _ in 0..3 {
            client.send([b'x'; 20_000]);
            std::thread::sleep(Duration::from_millis(700));
        }
        assert_eq!(client.response("POST").text(), "60000 bytes", "{driver:?}");
    });
}

#[test]
fn a_body_that_stops_half_way_breaks_the_connection() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "idle_timeout = \"400ms\"");
        let mut client = server.connect();
        client.send(get("/"));
        let (result, took) = timed(|| client.try_response("GET"));
        assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?}: {result:?}");
        assert!(took < Duration::from_secs(8), "{driver:?}: {took:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    with_both_drivers(|driver| {
        let closed = Arc::new(AtomicU64::new(0));
        let count = closed.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if exchange.request.method == "POST" {
                exchange.read_body();
            }
            if exchange.request.target == "/stream" {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            }
            if exchange.wait_for_close() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let mut expected = 0;
        for (text, wait_for) in [
            (get("/slow"), 0),
            (get("/stream"), 1),
            (post("/slow", "small"), 0),
            (post("/slow", &"x".repeat(200_000)), 0),
            ("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 500000\r\n\r\npart".to_owned(), 0),
        ] {
            for reset in [false, true] {
                let before = upstream.seen().len();
                let mut client = server.connect();
                client.send(&text);
                eventually("the request arrives", || upstream.seen().len() > before);
                if wait_for > 0 {
                    while client.buffered().is_empty() {
                        client.fill().expect("the beginning of the answer");
                    }
                }
                match reset {
                    true => client.reset(),
                    false => drop(client),
                }
                expected += 1;
                eventually(&format!("{driver:?} {:.40} {reset}: the server sees the close", text), || {
                    closed.load(Ordering::SeqCst) == expected
                });
            }
        }
        eventually("nothing is under way", || server.metric("one_server_upstream_requests_active", "") == 0.0);
    });
}

#[test]
fn an_early_answer_to_a_large_upload_arrives() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop");
            // As servers do: no reading, some time for the answer to arrive.
            std::thread::sleep(Duration::from_millis(100));
            Then::Close
        });
        let server = start(driver, &upstream, "");
        for _ in 0..5 {
            let mut client = server.connect();
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50000000\r\n\r\n");
            client.stream.set_nonblocking(false).expect("a socket");
            let mut sender = client.stream.try_clone().expect("a socket");
            let writer = std::thread::spawn(move || {
                let begin = Instant::now();
                let piece = [b'x'; 16 * 1024];
                while begin.elapsed() < Duration::from_millis(600) && sender.write_all(&piece).is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let response = client.response("POST");
            assert_eq!((response.status, response.text().as_str()), (403, "stop"), "{driver:?}");
            assert_eq!(client.end(), End::Closed, "{driver:?}");
            writer.join().expect("it ends");
        }
        server.wait_until_no_client();
        assert_eq!(server.connect().ask(get("/")).status, 403, "{driver:?}");
    });
}

/// A server that answers while it reads: both directions stream at the same time.
#[test]
fn an_answer_may_begin_before_the_upload_has_ended() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut answer = exchange.stream.try_clone().expect("a socket");
            let complete = exchange.drain_body(|bytes| {
                let _ = answer.write_all(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat());
            });
            if complete {
                exchange.send("0\r\n\r\n");
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n");
        let body = pattern(2_000_000);
        // Ping-pong first: the second half is sent only when some of the first has come back.
        client.send(&body[..1_000_000]);
        while client.buffered().len() < 500_000 {
            assert!(client.fill().expect("the echo begins") > 0, "{driver:?}");
        }
        client.send(&body[1_000_000..]);
        assert!(client.response("POST").body == body, "{driver:?}");
        // A client that stops sending is not waited for for ever, and its answer is not completed.
        let server =
            Site::new(driver, &site_with(upstream.address, "")).http("body_max = 0\nbody_timeout = \"500ms\"").start();
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n").send(&body[..100_000]);
        let result = client.try_response("POST");
        assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?}: {result:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn large_transfers_take_little_memory() {
    const BYTES: u64 = 200 << 20;
    with_both_drivers(|driver| {
        let sum = Arc::new(Mutex::new(0_u64));
        let total = sum.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if exchange.request.method == "POST" {
                let mut bytes = 0;
                exchange.drain_body(|piece| bytes += piece.len() as u64);
                *total.lock().expect("a lock") = bytes;
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return Then::Keep;
            }
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
            let piece = vec![b'd'; 1 << 20];
            for _ in 0..BYTES >> 20 {
                if !exchange.send(&piece) {
                    break;
                }
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let upload = |chunked: bool| {
            let mut client = server.connect();
            let framing =
                if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {BYTES}") };
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
            let piece = vec![b'u'; 1 << 20];
            for _ in 0..BYTES >> 20 {
                match chunked {
                    true => client.send("100000\r\n").send(&piece).send("\r\n"),
                    false => client.send(&piece),
                };
            }
            if chunked {
                client.send("0\r\n\r\n");
            }
            assert_eq!(client.response("POST").text(), "ok", "{driver:?}");
            assert_eq!(*sum.lock().expect("a lock"), BYTES, "{driver:?}");
        };
        let download = || {
            let mut client = server.connect();
            client.send(request("GET", "/", &["Connection: close"], ""));
            std::io::copy(&mut client.stream, &mut std::io::sink()).expect("a download")
        };
        upload(false);
        upload(true);
        assert!(download() > BYTES, "{driver:?}");
        // Consumers that stop: what waits for them must not pile up here.
        let mut slow: Vec<Client> = (0..10).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut slow, &get("/"));
        std::thread::sleep(Duration::from_millis(500));
        let (now, peak) = server.resident_mib();
        assert!(now < 80 && peak < 80, "{driver:?}: {now} MiB now, {peak} MiB at most");
        let mut piece = vec![0; 1 << 20];
        slow[0].stream.read_exact(&mut piece).expect("it goes on");
    });
}

/// Against a real server, in case the fake one and we share a misunderstanding.
#[test]
fn nginx_behind_us_gets_and_answers_everything() {
    if !has_program("nginx") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    // Asked for and given back: nobody else takes an ephemeral port at once.
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let big = pattern(3_000_000);
    std::fs::create_dir_all(path.join("html")).expect("a folder");
    std::fs::write(path.join("html/big.bin"), &big).expect("a file");
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; client_max_body_size 100m; keepalive_requests 7;\n\
         server {{ listen {address}; root {0}/html;\n\
         location /echo {{ proxy_pass http://{address}/sink; proxy_pass_request_body on; }}\n\
         location /sink {{ return 200 \"$request_method $content_length $http_x_forwarded_for $request_uri\"; }} }} }}",
        path.display()
    );
    std::fs::write(path.join("nginx.conf"), config).expect("a config");
    let mut nginx = Command::new("nginx")
        .arg("-p")
        .arg(path)
        .args(["-e", "stderr", "-c"])
        .arg(path.join("nginx.conf"))
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts");
    let result = std::panic::catch_unwind(|| {
        eventually("nginx listens", || std::net::TcpStream::connect(address).is_ok());
        with_both_drivers(|driver| {
            let server = Site::new(driver, &site_with(address, "")).http("body_max = 0").start();
            let mut client = server.connect();
            // More requests than nginx allows on one connection, so that its closes are met with.
            for n in 0..40 {
                let response = client.ask(get(&format!("/sink?n={n}")));
                assert_eq!(response.text(), format!("GET  127.0.0.1 /sink?n={n}"), "{driver:?}");
                let response = client.ask(request("PUT", "/echo", &[], &"x".repeat(n * 1000)));
                assert_eq!(response.status, 200, "{driver:?}");
            }
            assert!(client.ask(get("/big.bin")).body == big, "{driver:?}");
            let part = client.ask(request("GET", "/big.bin", &["Range: bytes=1000000-1999999"], ""));
            assert!(part.status == 206 && part.body == big[1_000_000..2_000_000], "{driver:?}");
            let head = client.ask(request("HEAD", "/big.bin", &[], ""));
            assert_eq!(head.field("content-length"), Some("3000000"), "{driver:?}");
            assert_eq!(client.ask(get("/none")).status, 404, "{driver:?}");
            let body = "y".repeat(1_000_000);
            client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
            let text = client.response("POST").text();
            assert!(text.starts_with("POST 1000000 "), "{driver:?}: {text}");
        });
    });
    let _ = nginx.kill();
    let _ = nginx.wait();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn requests_reuse_the_servers_connections() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("ok"));
        let keys = "keep_idle_timeout = \"1s\"";
        let server = Site::new(driver, &site_with(upstream.address, keys)).one_worker().start();
        for _ in 0..50 {
            assert_eq!(server.connect().ask(get("/")).text(), "ok");
        }
        assert!(upstream.connections() <= 2, "{driver:?}: {} connections", upstream.connections());
        // And close them before the server does.
        let begin = Instant::now();
        upstream.wait_until_all_closed();
        assert!(
            begin.elapsed() > MOMENT && begin.elapsed() < Duration::from_secs(12),
            "{driver:?}: {:?}",
            begin.elapsed()
        );
    });
}
