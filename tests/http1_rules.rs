//! What is left of the checklist of an HTTP/1 server and proxy beside framing (`http_framing.rs`), limits
//! (`http_limits.rs`) and the proxy's own tests: how connections end, what becomes of trailers and interim answers, how
//! odd answers of a server are taken, and that those who wait for ever keep nobody else waiting. Source: RFC 9112
//! (sections 5.1, 5.2, 6.1, 7.1.2, 9.6), RFC 9110 (sections 6.5, 8.6, 15.2).

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use support::client::{NoResponse, timed};
use support::frames::{Block, END_STREAM, HEADERS, Http2, WHOLE, headers};
use support::upstream::Then;
use support::*;

fn site(upstream: &FakeUpstream) -> String {
    format!(
        "[site.main]\nroute = [{{ path = \"/\", proxy = \"up\" }}, {{ exact = \"/own\", respond = {{ body = \"own\" }} }},\n\
         {{ path = \"/files/\", files = {{ root = \"$DIR\", strip_prefix = \"/files\" }} }}]\n\
         [upstream.up]\nservers = \"{}\"\nhealth = false\ntries = 1\n",
        upstream.address
    )
}

fn ok() -> FakeUpstream {
    FakeUpstream::start(|exchange| exchange.ok("ok"))
}

/// RFC 9112 section 9.6: who closes reads on for a while, so that no reset overtakes the answer; but not for ever.
#[test]
fn a_connection_that_ends_lingers_for_a_while() {
    with_both_drivers(|driver| {
        let upstream = ok();
        let server = Site::new(driver, &site(&upstream)).http("keep_alive_requests_max = 3").start();
        // More requests of a pipeline than the connection serves: all answers arrive, and a proper end.
        for path in ["/own", "/up", "/files/none"] {
            let mut client = server.connect();
            client.send(get(path).repeat(3));
            let mut sender = client.stream.try_clone().expect("a socket");
            let writer = std::thread::spawn(move || {
                for _ in 0..50 {
                    if sender.write_all(get("/own").repeat(20).as_bytes()).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            std::thread::sleep(Duration::from_millis(150));
            for n in 0..3 {
                assert_eq!(client.response("GET").is_last(), n == 2, "{driver:?} {path} {n}");
            }
            assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
            writer.join().expect("sent");
        }
        // A client that has nothing more to say is let go at once when it closes, and after some seconds if it does not.
        let mut client = server.connect();
        let closing = request("GET", "/own", &["Connection: close"], "");
        assert!(client.ask(&closing).is_last());
        assert_eq!(client.end(), End::Closed);
        let begin = Instant::now();
        let mut refused = server.connect();
        refused.send("NONSENSE\r\n\r\n");
        assert_eq!(refused.response("GET").status, 400);
        assert_eq!(refused.end(), End::Closed);
        drop(client);
        server.wait_until_no_client();
        assert!(begin.elapsed() < Duration::from_secs(12), "{driver:?}: {:?}", begin.elapsed());
        drop(refused);
        // Nor does one that never stops sending.
        let mut endless = server.connect();
        endless.send("NONSENSE\r\n\r\n");
        let begin = Instant::now();
        while endless.stream.write_all(&[b'x'; 16 << 10]).is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(15), "{driver:?}: read for ever");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// RFC 9110 section 6.5.1: trailers are no header fields, in neither direction. What goes on of them is in `trailers.rs`.
#[test]
fn trailers_stay_apart() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send(
                "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\
                 Set-Cookie: a=1\r\nContent-Length: 99\r\nConnection: close\r\n\r\n",
            );
            Then::Keep
        });
        let server = Site::new(driver, &site(&upstream)).start();
        for version in ["1.1", "1.0"] {
            let mut client = server.connect();
            client.send(format!("GET / HTTP/{version}\r\nHost: test\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"));
            let (bytes, _) = client.read_to_end();
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(!head.contains("x-sum:") && !head.contains("set-cookie"), "{driver:?} {version}: {head}");
            assert!(body.contains("hello"), "{driver:?}");
            assert!(!body.contains("content-length") && !body.contains("set-cookie"), "{driver:?} {version}: {body}");
        }
        let mut http2 = Http2::connect(server.web());
        let answer = http2.get(1, "/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{driver:?}");
        // Those of a request: neither fields of this request nor of the next one.
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(
            "5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nAuthorization: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        );
        assert_eq!(client.response("POST").status, 200);
        assert_eq!(client.ask(get("/next")).status, 200);
        let seen = upstream.seen();
        for name in ["x-sum", "authorization"] {
            assert!(seen.iter().all(|seen| seen.values(name).is_empty()), "{driver:?} {name}");
        }
        assert!(seen.iter().all(|seen| seen.values("host") == ["test"] || seen.target == "/"), "{driver:?}");
        assert!(seen.iter().all(|seen| !seen.values("x-forwarded-for").concat().contains("6.6.6.6")), "{driver:?}");
    });
}

/// RFC 9110 section 15.2, RFC 8297: early hints arrive while the answer is being made, with their fields and no framing.
#[test]
fn early_hints_arrive_early() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            std::thread::sleep(Duration::from_millis(600));
            exchange.ok("done")
        });
        let server = Site::new(driver, &site(&upstream)).start();
        let mut client = server.connect();
        let (_, took) = timed(|| {
            client.send(get("/"));
            while !client.buffered().windows(4).any(|window| window == b"\r\n\r\n") {
                assert!(client.fill().expect("hints") > 0, "{driver:?}");
            }
        });
        assert!(took < Duration::from_millis(550), "{driver:?}: {took:?}");
        let text = String::from_utf8_lossy(client.buffered()).into_owned();
        assert!(
            text.starts_with("HTTP/1.1 103 ") && text.contains("Link: </a.css>; rel=preload\r\n"),
            "{driver:?}: {text}"
        );
        assert!(!text.to_ascii_lowercase().contains("content-length"), "{driver:?}: {text}");
        assert!(!text.to_ascii_lowercase().contains("connection"), "{driver:?}: {text}");
        let response = client.response("GET");
        assert_eq!((response.text().as_str(), response.interim.as_slice()), ("done", [103].as_slice()), "{driver:?}");
        assert_eq!(client.ask(get("/own")).text(), "own", "{driver:?}");
        let mut http2 = Http2::connect(server.web());
        http2.send(headers(1, WHOLE, &Block::get("/")));
        let mut statuses = Vec::new();
        while let Some(frame) = http2.next() {
            if frame.kind == HEADERS && frame.stream_id == 1 {
                statuses.push(frame.status());
                assert!(!frame.has(END_STREAM) || statuses.len() > 1, "{driver:?}");
            }
            if frame.stream_id == 1 && frame.has(END_STREAM) && frame.kind <= HEADERS {
                break;
            }
        }
        assert_eq!(statuses, [103, 200], "{driver:?}");
    });
}

/// An endless row of interim answers is no answer.
#[test]
fn interim_answers_without_end_are_cut_off() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            while exchange.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Then::Close
        });
        let rest = site(&upstream) + "response_timeout = \"1s\"\n";
        let server = Site::new(driver, &rest).start();
        let mut client = server.connect();
        let (result, took) = timed(|| client.send(get("/")).try_response("GET"));
        match result {
            Ok(response) => assert!(matches!(response.status, 502 | 504), "{driver:?}: {}", response.status),
            Err(NoResponse::Ended(..)) => {}
            Err(problem) => panic!("{driver:?}: {problem:?}"),
        }
        assert!(took < Duration::from_secs(10), "{driver:?}: {took:?}");
    });
}

/// RFC 9112 sections 5.1 and 5.2: what a server writes oddly is put right or refused, never passed on.
#[test]
fn odd_lines_of_a_server_are_put_right_or_refused() {
    const HEADS: &[(&str, &str)] = &[
        ("space before the colon", "X-Odd : yes\r\n"),
        ("folded", "X-Odd: y\r\n es\r\n"),
        ("folded with a tab", "X-Odd: y\r\n\tes\r\n"),
        ("bare CR", "X-Odd: y\res\r\n"),
        ("bare LF", "X-Odd: y\nX-Evil: 1\r\n"),
        ("no name", ": yes\r\n"),
        ("space in front", " X-Odd: yes\r\n"),
    ];
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let at: usize = exchange.request.target.trim_start_matches('/').parse().expect("a number");
            exchange.send(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", HEADS[at].1));
            Then::Close
        });
        let server = Site::new(driver, &site(&upstream)).start();
        for (at, (what, _)) in HEADS.iter().enumerate() {
            // The strict client would not take what is malformed.
            let response = server.connect().ask(get(&format!("/{at}")));
            match response.status {
                200 => {
                    assert_eq!(response.text(), "ok", "{driver:?} {what}");
                    let value = response.field("x-odd").unwrap_or("yes");
                    assert!(matches!(value, "yes" | "y es" | "y  es"), "{driver:?} {what}: {value:?}");
                    assert_eq!(response.field("x-evil"), None, "{driver:?} {what}");
                }
                status => assert_eq!(status, 502, "{driver:?} {what}"),
            }
        }
    });
}

/// RFC 9110 section 8.6, RFC 9112 section 6.1: 1xx, 204 and 304 are over with their head, whatever they say; and an answer
/// to HEAD too. What follows on the server's connection is not the next answer.
#[test]
fn bytes_behind_a_bodiless_answer_are_nobodys() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let head = match exchange.request.target.as_str() {
                "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n",
                "/204-chunked" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n",
                _ => return exchange.ok("honest"),
            };
            exchange.send(format!("{head}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
            Then::Keep
        });
        let server = Site::new(driver, &site(&upstream)).one_worker().start();
        for (method, path) in [("GET", "/204"), ("GET", "/304"), ("GET", "/204-chunked"), ("HEAD", "/head")] {
            let mut client = server.connect();
            let response = client.ask(request(method, path, &[], ""));
            assert_eq!(response.body.len(), 0, "{driver:?} {path}");
            assert!(path != "/204" || response.field("content-length").is_none(), "{driver:?}");
            if response.is_last() {
                client = server.connect();
            }
            for _ in 0..3 {
                assert_eq!(client.ask(get("/honest")).text(), "honest", "{driver:?} behind {method} {path}");
            }
        }
    });
}

/// Nor are they when they come late, as they do from gunicorn, which sends the content of a HEAD behind its head.
#[test]
fn content_that_a_bodiless_answer_declares_may_come_late() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let head = match exchange.request.target.as_str() {
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n",
                "/204-chunked" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n",
                "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => return exchange.ok("honest"),
            };
            exchange.send(head);
            // Longer than the client takes to ask again; whoever closed the connection misses it.
            std::thread::sleep(Duration::from_millis(100));
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            Then::Keep
        });
        let server = Site::new(driver, &site(&upstream)).one_worker().start();
        for (method, path) in [("GET", "/304"), ("GET", "/204-chunked"), ("HEAD", "/head"), ("HEAD", "/head-chunked")] {
            let mut client = server.connect();
            let last = client.ask(request(method, path, &[], "")).is_last();
            assert!(!last, "{driver:?} {method} {path}: the client's connection is at a message boundary");
            assert_eq!(client.ask(post("/honest", "")).text(), "honest", "{driver:?} behind {method} {path}");
        }
    });
}

/// Fields that only the server in front understands do not reach the client (nginx hides them all).
#[test]
fn the_clients_never_see_x_accel_fields() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nX-Accel-Expires: 0\r\nX-Accel-Limit-Rate: 1\r\nX-Accel-Charset: x\r\n\
             X-Accel-Redirect: not-a-path\r\nContent-Length: 2\r\n\r\nok",
        );
        Then::Keep
    });
    let server = Site::new(Driver::Auto, &site(&upstream)).start();
    let response = server.connect().ask(get("/"));
    assert_eq!(response.field("x-accel-redirect"), None, "{:?}", response.fields);
}

/// Slowloris: heads that never end hold their own connections, up to the deadline, and nobody else.
#[test]
fn many_slow_heads_hold_up_nobody() {
    with_both_drivers(|driver| {
        let upstream = ok();
        let server = Site::new(driver, &site(&upstream)).http("header_timeout = \"2s\"").start();
        let mut slow: Vec<Client> = (0..400).map(|_| server.connect()).collect();
        let begin = Instant::now();
        for client in &mut slow {
            client.send("GET /own HTTP/1.1\r\nHost: test\r\n");
        }
        for round in 0..6 {
            for client in &mut slow {
                client.send(format!("X-{round}: drip\r\n"));
            }
            for path in ["/own", "/up", "/files/none"] {
                let (_, took) = timed(|| server.connect().ask(get(path)));
                assert!(took < Duration::from_secs(1), "{driver:?} {path}: {took:?}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        for client in &mut slow {
            let (bytes, _) = client.read_to_end();
            assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "), "{driver:?}");
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "{driver:?}: {:?}", begin.elapsed());
        drop(slow);
        server.wait_until_no_client();
    });
}

/// Field names that are odd but allowed go on as they are; those that a CGI-like program takes for ours do not.
#[test]
fn odd_names_pass_and_aliases_of_ours_do_not() {
    with_both_drivers(|driver| {
        let upstream = ok();
        let server = Site::new(driver, &site(&upstream)).start();
        let fields = [
            "X_Under: 1",
            "x.dot: 2",
            "X!~: 3",
            "X_Forwarded_For: 6.6.6.6",
            "X-Forwarded_Proto: https",
            "Content_Length: 5",
            "Transfer_Encoding: chunked",
            "x_request_id: evil",
        ];
        assert_eq!(server.connect().ask(request("GET", "/", &fields, "")).status, 200, "{driver:?}");
        let seen = upstream.last();
        assert_eq!((seen.field("x_under"), seen.field("x.dot"), seen.field("x!~")), (Some("1"), Some("2"), Some("3")));
        for gone in ["x_forwarded_for", "x-forwarded_proto", "content_length", "transfer_encoding", "x_request_id"] {
            assert!(seen.values(gone).is_empty(), "{driver:?} {gone}: {:?}", seen.fields);
        }
    });
}
