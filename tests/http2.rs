//! HTTP/2 at the real binary as its users have it: over TLS with ALPN and in clear by prior knowledge, with the `h2`
//! crate, curl, nghttp and h2load as clients. Every action answers as it does over HTTP/1.1; bodies stream both ways;
//! slow, leaving and greedy clients are nobody else's trouble; the end of a connection loses no request. Frames that break
//! the rules are in `http2_rfc9113` and `http2_floods`. Sources: RFC 9113, RFC 9110, RFC 8297.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use rustix::process::Signal;
use support::actions::*;
use support::frames::{
    Block, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2, INITIAL_WINDOW_SIZE, NO_ERROR, RST_STREAM, WHOLE,
    headers,
};
use support::http2::*;
use support::upstream::Then;
use support::*;

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn start_with(driver: Driver, upstream: &FakeUpstream, http: &str) -> Server {
    all_actions(driver, upstream, http, "").start()
}

fn start(driver: Driver, upstream: &FakeUpstream) -> Server {
    start_with(driver, upstream, "")
}

/// With an upstream of its own, whose requests are looked at.
fn with_upstream(driver: Driver, upstream: FakeUpstream) -> (Server, FakeUpstream) {
    (start(driver, &upstream), upstream)
}

#[test]
fn every_action_answers_as_over_http1() {
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            let mut http1 = server.connect();
            block_on(async {
                let http2 = H2Client::connect(server, over).await;
                for &(method, path, fields, body, status, part) in REQUESTS {
                    let what = format!("{} {over:?} {method} {path} {fields:?}", server.driver);
                    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                    let expect = http1.ask(request(method, path, &lines, body));
                    if expect.is_last() {
                        http1 = server.connect();
                    }
                    let reply = http2.ask(ask(method, path, fields), body.as_bytes()).await;
                    assert_eq!((expect.status, reply.status), (status, status), "{what}");
                    let media_type = reply.field("content-type").unwrap_or_default().to_owned();
                    let read = decoded(reply.field("content-encoding"), &reply.body);
                    let read = without_boundary(&media_type, &read);
                    assert!(read.contains(part), "{what}: {read}");
                    let theirs = decoded(expect.field("content-encoding"), &expect.body);
                    let theirs = without_boundary(expect.field("content-type").unwrap_or_default(), &theirs);
                    assert!(read == theirs, "{what}: {read}");
                    let mut of_http1: Vec<(String, String)> =
                        expect.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
                    let mut of_http2: Vec<(String, String)> = reply
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
                        .collect();
                    for fields in [&mut of_http1, &mut of_http2] {
                        fields.retain(|(name, _)| is_compared(name));
                        fields.iter_mut().for_each(|(_, value)| {
                            if let Some(at) = value.find("boundary=") {
                                value.truncate(at);
                            }
                        });
                        fields.sort();
                    }
                    assert_eq!(of_http1, of_http2, "{what}");
                    // RFC 9113 section 8.2.2; a length, where there is one, is right (the crate checks it with DATA).
                    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
                        assert!(!reply.headers.contains_key(name), "{what}: {name}");
                    }
                    let lengths = (expect.field("content-length"), reply.field("content-length"));
                    if let (Some(one), Some(two)) = lengths {
                        assert_eq!(one, two, "{what}");
                    }
                    if lengths.0.is_some() && method == "HEAD" {
                        assert_eq!(lengths.0, lengths.1, "{what}: HEAD tells the length");
                    }
                    // Ours end with the last DATA; what a server behind us has behind its content goes on.
                    let has_trailers = path == "/up/chunked" && method != "HEAD";
                    assert_eq!(reply.trailers.is_some(), has_trailers, "{what}: {:?}", reply.trailers);
                }
            });
        },
    );
}

#[test]
fn a_route_that_closes_resets_its_stream_alone() {
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let error = client.try_ask(ask("GET", "/closed/x", &[]), b"").await.expect_err("no answer");
                assert!(error.is_reset() && error.is_remote(), "{} {over:?}: {error:?}", server.driver);
                assert_eq!(client.get("/page.html").await.status, 200);
            });
        },
    );
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    let upstream = FakeUpstream::start(|exchange| {
        match exchange.request.target.as_str() {
            "/up/short" => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
            "/up/chunk" => exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"),
            _ => exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nx"),
        };
        Then::Close
    });
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                for path in ["/up/short", "/up/chunk", "/up/junk", "/app/error-body", "/app/panic-body", "/app/short"] {
                    let error = client.try_ask(ask("GET", path, &[]), b"").await.expect_err(path);
                    assert!(error.is_reset(), "{} {over:?} {path}: {error:?}", server.driver);
                    assert_ne!(error.reason(), Some(Reason::NO_ERROR), "{} {over:?} {path}", server.driver);
                }
                assert_eq!(client.get("/page.html").await.status, 200, "the others go on");
            });
        },
    );
}

#[test]
fn bodies_stream_both_ways_through_proxy_and_application() {
    // Each piece comes back before the next one is sent: nothing on the way waits for more.
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = exchange.stream.try_clone().expect("a socket");
        exchange.drain_body(|bytes| {
            let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            let _ = std::io::Write::write_all(&mut stream, &chunk);
        });
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                // Large enough that it is streamed, not kept.
                for (path, first) in [("/up/x", 20_000), ("/app/echo", 20_000)] {
                    let mut exchange = client.begin(ask("POST", path, &[]), false).await.expect("a stream");
                    exchange.send(vec![b'a'; first], false).await.expect("sent");
                    let (reply, mut recv) = exchange.head().await.expect("a head before the end of the request");
                    assert_eq!(reply.status, 200, "{} {over:?} {path}", server.driver);
                    let mut received = 0;
                    let mut expected = first;
                    for piece in [1, 7, 40_000, 3] {
                        while received < expected {
                            let data = recv.data().await.expect("more").expect("data");
                            recv.flow_control().release_capacity(data.len()).expect("a window");
                            received += data.len();
                        }
                        exchange.send(vec![b'b'; piece], false).await.expect("sent");
                        expected += piece;
                    }
                    exchange.send(Bytes::new(), true).await.expect("sent");
                    while let Some(data) = recv.data().await {
                        let data = data.expect("data");
                        recv.flow_control().release_capacity(data.len()).expect("a window");
                        received += data.len();
                    }
                    assert_eq!(received, expected, "{} {over:?} {path}", server.driver);
                }
            });
        },
    );
}

#[test]
fn request_bodies_arrive_whole_with_and_without_a_length() {
    everywhere(
        |driver| with_upstream(driver, echo()),
        |(server, upstream), over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                for size in [0, 1, 1000, 16_384, 16_385, 65_536, 300_001, 5_000_000] {
                    let body = pattern(size);
                    let length = size.to_string();
                    for fields in [&[][..], &[("content-length", length.as_str())]] {
                        for path in ["/up/echo", "/app/echo"] {
                            let what = format!("{} {over:?} {path} {size} {fields:?}", server.driver);
                            let reply = client.ask(ask("POST", path, fields), &body).await;
                            assert_eq!(reply.status, 200, "{what}");
                            assert!(reply.body == body, "{what}: {} bytes", reply.body.len());
                        }
                        // A server of HTTP/1.1 behind us is told the length where the client has told it, and where the
                        // body is short enough to be counted.
                        let seen = upstream.seen().into_iter().rfind(|seen| seen.body.len() == size).expect("seen");
                        let framing = (seen.field("content-length"), seen.field("transfer-encoding"));
                        match fields.is_empty() && size > 16_384 {
                            true => assert_eq!(framing, (None, Some("chunked")), "{over:?} {size}"),
                            false if size > 0 => assert_eq!(framing, (Some(length.as_str()), None), "{over:?} {size}"),
                            false => {}
                        }
                    }
                }
            });
        },
    );
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_connection_goes_on() {
    everywhere(
        |driver| with_upstream(driver, FakeUpstream::start(|exchange| exchange.ok_with_size())),
        |(server, upstream), over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let before = upstream.seen().len();
                // Told beforehand, found out on the way, and far more than any window: what is not read must not use the
                // connection's window up.
                for round in 0..6 {
                    for (path, size) in
                        [("/small/x", 1001), ("/small/x", 600_000), ("/smallapp/size", 600_000), ("/medium/x", 600_000)]
                    {
                        let length = size.to_string();
                        for fields in [&[][..], &[("content-length", length.as_str())]] {
                            let what = format!("{} {over:?} {round} {path} {size} {fields:?}", server.driver);
                            let reply = client.try_ask(ask("POST", path, fields), &vec![b'x'; size]).await;
                            let reply = reply.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                            assert_eq!(reply.status, 413, "{what}");
                        }
                    }
                }
                assert_eq!(client.ask(ask("POST", "/small/x", &[]), &[b'x'; 1000]).await.text(), "1000 bytes");
                let large = client.ask(ask("POST", "/up/x", &[]), &vec![b'x'; 3_000_000]).await;
                assert_eq!(large.text(), "3000000 bytes", "{} {over:?}", server.driver);
                let complete = upstream.seen()[before..].iter().filter(|seen| seen.body_complete).count();
                assert_eq!(complete, 2, "{} {over:?}: no server got a request that was refused", server.driver);
            });
        },
    );
}

/// A client that is still sending gets the answer: the stream is not ended under it (RFC 9113 section 8.1). curl 7.88 lost
/// answers in front of an RST_STREAM; a client that never ends its upload is stopped all the same.
#[test]
fn an_answer_to_an_upload_nobody_reads_arrives() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("seen"));
        let server = start(driver, &upstream);
        let body = server.folder().join("upload");
        std::fs::write(&body, pattern(500_000)).expect("a file");
        if has_program("curl") {
            for (path, status) in [("/small/x", "413"), ("/private/x", "401"), ("/fixed", "418"), ("/posts", "200")] {
                for _ in 0..3 {
                    let mut curl = Command::new("curl");
                    curl.args(["-sS", "--http2", "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}"]);
                    curl.arg("--cacert").arg(server.folder().join("ca.pem"));
                    curl.arg("--data-binary").arg(format!("@{}", body.display()));
                    curl.arg(format!("https://localhost:{}{path}", server.address("secure").port()));
                    let output = curl.output().expect("curl");
                    let told = String::from_utf8_lossy(&output.stdout);
                    let error = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success() && told == status, "{driver:?} {path}: {told} {error}");
                }
            }
        }
        let mut client = Http2::connect(server.web());
        client.send(headers(1, END_HEADERS, &Block::post("/fixed")));
        let begin = Instant::now();
        let is_stopped = |frame: Frame| frame.kind == RST_STREAM && frame.stream_id == 1;
        while !client.next_within(SOON).is_some_and(is_stopped) {
            assert!(begin.elapsed() < SOON, "{driver:?}: it is not stopped");
        }
        assert!(
            begin.elapsed() > Duration::from_secs(4) && begin.elapsed() < SOON,
            "{driver:?}: {:?}",
            begin.elapsed()
        );
    });
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_or_that_it_need_not() {
    everywhere(
        |driver| with_upstream(driver, FakeUpstream::start(|exchange| exchange.ok_with_size())),
        |(server, upstream), over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let wait = |path: &'static str, length: &'static str| {
                    let request = ask("POST", path, &[("expect", "100-continue"), ("content-length", length)]);
                    client.begin(request, false)
                };
                for (path, expect) in [("/up/x", "5 bytes"), ("/app/size", "5 bytes")] {
                    let mut exchange = wait(path, "5").await.expect("a stream");
                    let (status, _) = exchange.interim().await;
                    assert_eq!(status, 100, "{} {over:?} {path}: RFC 9110 section 10.1.1", server.driver);
                    exchange.send("hello", true).await.expect("sent");
                    assert_eq!(exchange.reply().await.expect("an answer").text(), expect);
                }
                assert_eq!(upstream.last().field("expect"), None, "it has been met already");
                for (path, status) in [("/small/x", 413), ("/posts/", 200), ("/nowhere", 405)] {
                    let mut exchange = wait(path, "5000").await.expect("a stream");
                    let reply = exchange.reply().await.expect("an answer");
                    assert_eq!((reply.status, reply.interim.len()), (status, 0), "{} {over:?} {path}", server.driver);
                }
                let unknown = ask("POST", "/up/x", &[("expect", "a-miracle")]);
                assert_eq!(client.ask(unknown, b"x").await.status, 417, "{} {over:?}", server.driver);
            });
        },
    );
}

#[test]
fn early_hints_reach_clients_of_both_versions() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\nConnection: x\r\n\r\n");
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </app.js>; rel=preload; as=script\r\n\r\n");
        std::thread::sleep(Duration::from_millis(300));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Final: yes\r\n\r\ndone");
        Then::Keep
    });
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let mut exchange = client.begin(ask("GET", "/up/x", &[]), true).await.expect("a stream");
                let begin = Instant::now();
                for link in ["</style.css>; rel=preload; as=style", "</app.js>; rel=preload; as=script"] {
                    let (status, headers) = exchange.interim().await;
                    assert_eq!(status, 103, "{} {over:?}", server.driver);
                    assert_eq!(headers.get("link").and_then(|value| value.to_str().ok()), Some(link));
                    assert!(headers.get("connection").is_none() && headers.get("content-length").is_none());
                }
                let early = begin.elapsed();
                let reply = exchange.reply().await.expect("an answer");
                assert_eq!((reply.status, reply.text().as_str()), (200, "done"), "{} {over:?}", server.driver);
                assert!(reply.headers.get("link").is_none() && reply.field("x-final") == Some("yes"));
                assert!(begin.elapsed() - early > Duration::from_millis(100), "hints come before the answer");
            });
            let mut client = server.connect();
            let response = client.ask(get("/up/x"));
            assert_eq!((response.status, response.interim), (200, vec![103, 103]), "{}", server.driver);
            // RFC 9110 section 15.2: never to a client of HTTP/1.0.
            let mut client = server.connect();
            let response = client.ask("GET /up/x HTTP/1.0\r\nHost: test\r\n\r\n");
            assert_eq!((response.status, response.interim), (200, Vec::new()), "{}", server.driver);
            if has_program("curl") {
                let url = format!("http://{}/up/x", server.web());
                let output = Command::new("curl").args(["-sS", "-i", "--http2-prior-knowledge", &url]).output();
                let text = String::from_utf8_lossy(&output.expect("curl").stdout).into_owned();
                assert!(text.starts_with("HTTP/2 103") && text.contains("HTTP/2 200"), "{}: {text}", server.driver);
            }
        },
    );
}

#[test]
fn a_stream_nobody_reads_does_not_hold_up_the_others() {
    let upstream = FakeUpstream::start(|exchange| {
        let body = pattern(10_000_019);
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        exchange.send(body);
        Then::Keep
    });
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let mut settings = Builder::new();
                settings.initial_connection_window_size(16 << 20);
                let client = H2Client::connect_with(server, over, &settings).await;
                let mut stalled = Vec::new();
                for path in ["/big", "/up/big", "/app/large?bytes=10000019", "/big", "/up/big"] {
                    let mut exchange = client.begin(ask("GET", path, &[]), true).await.expect("a stream");
                    let (reply, recv) = exchange.head().await.expect("a head");
                    assert_eq!(reply.status, 200);
                    stalled.push((path, exchange, recv));
                }
                for _ in 0..20 {
                    let begin = Instant::now();
                    assert_eq!(client.get("/page.html").await.text(), "<p>page</p>");
                    assert_eq!(client.get("/app/count").await.status, 200);
                    assert!(begin.elapsed() < SOON, "{} {over:?}", server.driver);
                }
                // An upload stalls as little.
                let mut upload = client.begin(ask("POST", "/app/size", &[]), false).await.expect("a stream");
                upload.send(vec![b'x'; 20_000], false).await.expect("sent");
                // And each of them is complete once somebody reads.
                for (path, _exchange, mut recv) in stalled {
                    let mut body = Vec::new();
                    while let Some(data) = recv.data().await {
                        let data = data.expect("data");
                        recv.flow_control().release_capacity(data.len()).expect("a window");
                        body.extend_from_slice(&data);
                    }
                    let is_exact = path.starts_with("/app/") || body == pattern(10_000_019);
                    assert!(body.len() == 10_000_019 && is_exact, "{} {over:?} {path}: {}", server.driver, body.len());
                }
                upload.send(vec![b'x'; 20_000], true).await.expect("sent");
                assert_eq!(upload.reply().await.expect("an answer").text(), "40000 bytes");
            });
        },
    );
}

#[test]
fn many_slow_streams_take_bounded_memory() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [&b"10000\r\n"[..], &[b'u'; 0x10000], b"\r\n"].concat();
        while exchange.send(&chunk) {}
        Then::Close
    });
    with_both_drivers(|driver| {
        let server = start(driver, &upstream);
        block_on(async {
            let before = server.resident_mib().0;
            let mut kept = Vec::new();
            let mut settings = Builder::new();
            settings.initial_window_size(1).initial_connection_window_size(1 << 20);
            for over in [Over::Clear, Over::Tls, Over::Clear, Over::Tls] {
                let client = H2Client::connect_with(&server, over, &settings).await;
                for n in 0..90 {
                    let path = ["/big", "/up/endless", "/app/large?bytes=1000000000"][n % 3];
                    let mut exchange = client.begin(ask("GET", path, &[]), true).await.expect("a stream");
                    let (reply, recv) = exchange.head().await.expect("a head");
                    assert_eq!(reply.status, 200, "{driver:?} {over:?} {path}");
                    kept.push((exchange, recv));
                }
                kept.push((client.begin(ask("GET", "/page.html", &[]), true).await.expect("a stream"), {
                    let mut exchange = client.begin(ask("GET", "/page.html", &[]), true).await.expect("a stream");
                    exchange.head().await.expect("a head").1
                }));
                // The connection lives as long as its task.
                std::mem::forget(client);
            }
            pause(Duration::from_secs(1)).await;
            let after = server.resident_mib().0;
            // 360 streams: send_buffer_max and a stream_buffer each, and as much again in the application's bridge.
            let bound = 360 * 4 * 64 / 1024 + 32;
            println!("{driver:?}: {before} MiB, then {after} MiB");
            assert!(after < before + bound, "{driver:?}: {before} MiB, then {after} MiB");
            drop(kept);
        });
        server.wait_until_no_client();
        eventually("everything is cancelled", || server.metric("one_server_upstream_requests_active", "") == 0.0);
    });
}

#[test]
fn a_stream_that_its_client_resets_cancels_the_request() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        if exchange.request.target.ends_with("/streaming") {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
        if exchange.wait_for_close() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Then::Close
    });
    // One server after the other: they share the counter.
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = start(driver, &upstream);
        for over in Over::BOTH {
            block_on(async {
                let client = H2Client::connect(&server, over).await;
                for (path, method, body) in [
                    ("/up/waiting", "GET", 0),
                    ("/up/streaming", "GET", 0),
                    ("/up/waiting", "POST", 30_000),
                    ("/up/streaming", "POST", 30_000),
                ] {
                    let what = format!("{driver:?} {over:?} {method} {path}");
                    let (seen, before) = (upstream.seen().len(), closed.load(Ordering::SeqCst));
                    let mut exchange = client.begin(ask(method, path, &[]), body == 0).await.expect("a stream");
                    if body > 0 {
                        exchange.send(vec![b'x'; body], false).await.expect("sent");
                    }
                    eventually_async("the request arrives", || upstream.seen().len() > seen).await;
                    if path.ends_with("/streaming") {
                        let (_, mut recv) = exchange.head().await.expect("a head");
                        assert_eq!(recv.data().await.expect("data").expect("data"), "hello", "{what}");
                    }
                    exchange.stream.as_mut().expect("a stream").send_reset(Reason::CANCEL);
                    eventually_async(&what, || closed.load(Ordering::SeqCst) > before).await;
                    assert_eq!(client.get("/page.html").await.status, 200, "{what}: the others go on");
                }
                // The application's request is given up as well.
                let mut exchange = client.begin(ask("GET", "/app/slow?ms=30000", &[]), true).await.expect("a stream");
                let active = || server.metric("one_server_app_requests_active", "");
                eventually_async("the application works", || active() == 1.0).await;
                exchange.stream.as_mut().expect("a stream").send_reset(Reason::CANCEL);
                eventually_async("the application's request is given up", || active() == 0.0).await;
            });
        }
        eventually("nothing is under way", || server.metric("one_server_upstream_requests_active", "") == 0.0);
    }
}

#[test]
fn a_connection_that_goes_cancels_its_requests() {
    let upstream = FakeUpstream::start(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let mut exchanges = Vec::new();
                for _ in 0..10 {
                    exchanges.push(client.begin(ask("GET", "/up/x", &[]), true).await.expect("a stream"));
                    exchanges.push(client.begin(ask("GET", "/app/slow?ms=60000", &[]), true).await.expect("a stream"));
                }
                let active = |name: &str| server.metric(&format!("one_server_{name}_requests_active"), "");
                eventually_async("all are under way", || (active("upstream"), active("app")) == (20.0, 10.0)).await;
                client.end.abort();
                drop(exchanges);
                eventually_async("all are given up", || active("upstream") + active("app") == 0.0).await;
            });
            server.wait_until_no_client();
        },
    );
}

#[test]
fn alpn_chooses_what_both_sides_speak() {
    let plain = "[listener.old]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n\
         tls.certificates = [{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }]\n";
    with_both_drivers(|driver| {
        let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"$server_protocol\" }\n";
        let server = Site::new(driver, site).secure("").more(plain).start();
        let agree = |listener: &str, protocols: &[&str]| {
            let client =
                tls::TlsClient::connect_with(server.address(listener), "localhost", tls::client_config(protocols));
            client.map(|client| {
                client.tls.conn.alpn_protocol().map(|agreed| String::from_utf8_lossy(agreed).into_owned())
            })
        };
        for (listener, protocols, agreed) in [
            ("secure", &["h2"][..], Some("h2")),
            ("secure", &["http/1.1", "h2"], Some("h2")), // the server's preference: RFC 7301 section 3.2
            ("secure", &["http/1.1"], Some("http/1.1")),
            ("secure", &["h3", "http/1.1"], Some("http/1.1")),
            ("secure", &[], None),
            ("old", &["h2", "http/1.1"], Some("http/1.1")),
            ("old", &[], None),
        ] {
            let got = agree(listener, protocols).expect("a handshake");
            assert_eq!(got.as_deref(), agreed, "{driver:?} {listener} {protocols:?}");
        }
        // RFC 7301 section 3.2: nothing in common is an alert.
        for (listener, protocols) in [("old", &["h2"][..]), ("secure", &["h3", "spdy/3"])] {
            let error = agree(listener, protocols).expect_err("nothing in common").to_string();
            assert!(error.contains("NoApplicationProtocol"), "{driver:?} {listener} {protocols:?}: {error}");
        }
        if has_program("curl") {
            for (listener, version, said) in
                [("secure", "--http2", "HTTP/2.0"), ("secure", "--http1.1", "HTTP/1.1"), ("old", "--http2", "HTTP/1.1")]
            {
                let url = format!("https://localhost:{}/", server.address(listener).port());
                let ca = server.folder().join("ca.pem");
                let output =
                    Command::new("curl").args(["-sS", version, &url, "--cacert"]).arg(ca).output().expect("curl");
                assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{driver:?} {listener} {version}");
            }
        }
    });
}

#[test]
fn a_drain_finishes_the_streams_under_way_and_takes_no_new_ones() {
    for over in Over::BOTH {
        with_both_drivers(|driver| {
            let upstream = FakeUpstream::start(|exchange| {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
                std::thread::sleep(Duration::from_millis(1500));
                exchange.send("half");
                Then::Keep
            });
            let mut server = start(driver, &upstream);
            let what = format!("{driver:?} {over:?}");
            block_on(async {
                let client = H2Client::connect(&server, over).await;
                let mut idle = H2Client::connect(&server, over).await;
                assert_eq!(idle.get("/page.html").await.status, 200);
                let mut waiting = client.begin(ask("GET", "/app/slow?ms=1500", &[]), true).await.expect("a stream");
                let mut streaming = client.begin(ask("GET", "/up/x", &[]), true).await.expect("a stream");
                let mut uploading = client.begin(ask("POST", "/app/size", &[]), false).await.expect("a stream");
                uploading.send(vec![b'x'; 20_000], false).await.expect("sent");
                let (_, mut rest) = streaming.head().await.expect("a head");
                eventually_async("the application works", || {
                    server.metric("one_server_app_requests_active", "") == 2.0
                })
                .await;
                server.signal(Signal::QUIT);
                server.wait_for_line("draining", |line| line.contains("drain"));
                // A connection without a stream goes at once.
                let end = tokio::time::timeout(SOON, &mut idle.end).await.expect("an idle connection is closed");
                assert!(end.expect("a task").is_ok_and(|()| true), "{what}: GOAWAY with NO_ERROR");
                // New ones are refused as not processed, so that they can be tried elsewhere.
                pause(Duration::from_millis(200)).await;
                let error = client.try_ask(ask("GET", "/page.html", &[]), b"").await.expect_err("a drain");
                assert!(
                    error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM),
                    "{what}: RFC 9113 section 8.7: {error:?}"
                );
                let mut body = Vec::new();
                while let Some(data) = rest.data().await {
                    body.extend_from_slice(&data.expect("data"));
                }
                assert_eq!(body, b"halfhalf", "{what}");
                assert_eq!(waiting.reply().await.expect("an answer").text(), "slow", "{what}");
                uploading.send(vec![b'x'; 20_000], true).await.expect("sent");
                assert_eq!(uploading.reply().await.expect("an answer").text(), "40000 bytes", "{what}");
                let end = tokio::time::timeout(SOON, client.end).await.expect("the connection ends behind its streams");
                assert!(end.expect("a task").is_ok(), "{what}");
            });
            assert!(server.wait().success(), "{what}");
        });
    }
}

/// The last stream that the server says it has taken, of each GOAWAY.
fn last_stream(goaway: &frames::Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().expect("four bytes"))
}

#[test]
fn the_last_request_of_a_connection_is_followed_by_goaway_and_none_is_lost() {
    with_both_drivers(|driver| {
        let upstream = echo();
        let server = start_with(driver, &upstream, "keep_alive_requests_max = 10");
        // All at once: what was taken is answered, what was not is told.
        let mut client = Http2::connect(server.web());
        let before = upstream.seen().len();
        let burst: Vec<u8> = (0..30).flat_map(|n| headers(2 * n + 1, WHOLE, &Block::get("/up/x"))).collect();
        client.send(burst);
        let mut last = u32::MAX;
        let mut answered = Vec::new();
        while let Some(frame) = client.next() {
            match frame.kind {
                GOAWAY => {
                    assert_eq!(frame.code(), NO_ERROR, "{driver:?}: {frame:?}");
                    assert!(last_stream(&frame) <= last, "RFC 9113 section 6.8: it never grows");
                    last = last_stream(&frame);
                }
                HEADERS => assert_eq!(frame.status(), 200, "{driver:?}"),
                RST_STREAM => panic!("{driver:?}: {frame:?}"),
                frames::PING if !frame.has(frames::ACK) => {
                    client.send(frames::frame(frames::PING, frames::ACK, 0, &frame.payload));
                }
                _ => {}
            }
            if frame.has(END_STREAM) && matches!(frame.kind, HEADERS | frames::DATA) {
                answered.push(frame.stream_id);
            }
        }
        answered.sort_unstable();
        let taken: Vec<u32> = (0..30).map(|n| 2 * n + 1).filter(|id| *id <= last).collect();
        assert_eq!(answered, taken, "{driver:?}: last stream {last}");
        assert!(answered.len() >= 10, "{driver:?}: {answered:?}");
        assert_eq!(upstream.seen().len() - before, answered.len(), "{driver:?}: nothing was done and not answered");

        // And as a client does it: several at a time, each again on the next connection if it was not taken.
        for over in Over::BOTH {
            let before = upstream.seen().len();
            let (mut connections, mut done) = (0, 0);
            block_on(async {
                while done < 100 {
                    let client = H2Client::connect(&server, over).await;
                    connections += 1;
                    let results =
                        futures_of((0..8).map(|_| client.try_ask(ask("POST", "/up/echo", &[]), b"once"))).await;
                    for result in results {
                        match result {
                            Ok(reply) => {
                                assert_eq!((reply.status, reply.text().as_str()), (200, "once"), "{driver:?}");
                                done += 1;
                            }
                            Err(error) => assert!(
                                error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)
                                    || error.reason() == Some(Reason::REFUSED_STREAM),
                                "{driver:?} {over:?}: {error:?}"
                            ),
                        }
                    }
                    // The second round on the same connection goes over the limit.
                    for _ in 0..4 {
                        match client.try_ask(ask("POST", "/up/echo", &[]), b"once").await {
                            Ok(reply) => done += usize::from(reply.status == 200),
                            Err(_) => break,
                        }
                    }
                    let end = tokio::time::timeout(SOON, client.end).await;
                    assert!(end.is_ok_and(|end| end.is_ok_and(|end| end.is_ok())), "{driver:?} {over:?}: it closes");
                }
            });
            assert_eq!(upstream.seen().len() - before, done, "{driver:?} {over:?}: once each");
            assert!(connections >= 100 / 12, "{driver:?} {over:?}: {connections}");
        }
    });
}

/// Runs all of them at the same time.
async fn futures_of<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_done = true;
        for (future, result) in &mut all {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, result)| result).collect()
}

#[test]
fn an_idle_connection_ends_with_goaway_in_time_and_a_late_request_is_never_half_done() {
    with_both_drivers(|driver| {
        let upstream = echo();
        let server = start_with(driver, &upstream, "keep_alive_timeout = \"1s\"");
        for over in Over::BOTH {
            block_on(async {
                // Time in which an answer is awaited is not idle.
                let busy = H2Client::connect(&server, over).await;
                assert_eq!(busy.get("/app/slow?ms=2500").await.text(), "slow", "{driver:?} {over:?}");
                let client = H2Client::connect(&server, over).await;
                assert_eq!(client.get("/page.html").await.status, 200);
                let begin = Instant::now();
                let end = tokio::time::timeout(SOON, client.end).await.expect("it ends");
                assert!(end.expect("a task").is_ok(), "{driver:?} {over:?}: GOAWAY with NO_ERROR");
                assert!(begin.elapsed() > Duration::from_millis(700), "{driver:?} {over:?}: {:?}", begin.elapsed());
            });
        }
        // Frame by frame: GOAWAY, then the end.
        let mut client = Http2::connect(server.web());
        assert_eq!(client.get(1, "/page.html").status, 200);
        let (frames, end) = client.last_frames();
        let goaway = frames.iter().rfind(|frame| frame.kind == GOAWAY).unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!((goaway.code(), last_stream(goaway)), (NO_ERROR, 1), "{driver:?}");
        assert_eq!(end, client::End::Closed, "{driver:?}");

        // Requests in the very moment: answered, or not taken and told so.
        let before = upstream.seen().len();
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for n in 0..24 {
                let (server, answered) = (&server, &answered);
                scope.spawn(move || {
                    let mut client = Http2::connect(server.web());
                    assert_eq!(client.get(1, "/page.html").status, 200);
                    std::thread::sleep(Duration::from_millis(900 + 20 * n));
                    client.send(headers(3, WHOLE, &Block::get("/up/late")));
                    let (mut last, mut is_answered) = (u32::MAX, false);
                    while let Some(frame) = client.next() {
                        match frame.kind {
                            GOAWAY => last = last_stream(&frame),
                            HEADERS if frame.stream_id == 3 => is_answered = true,
                            _ => {}
                        }
                    }
                    assert_eq!(is_answered, last >= 3, "{driver:?} {n}: last stream {last}");
                    answered.fetch_add(usize::from(is_answered), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(upstream.seen().len() - before, answered.load(Ordering::SeqCst), "{driver:?}");
    });
}

#[test]
fn heads_beyond_the_limits_are_refused_and_the_connection_goes_on() {
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let with = |count: usize, bytes: usize| {
                    let mut request = ask("GET", "/page.html", &[]);
                    for n in 0..count {
                        let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
                        request.headers_mut().insert(name, "v".repeat(bytes).parse().expect("a value"));
                    }
                    request
                };
                assert_eq!(client.ask(with(10, 1000), b"").await.status, 200, "{} {over:?}", server.driver);
                // Beyond [http2] header_list_max, beyond [http] headers_max, a target too long.
                for request in [with(7, 10_000), with(90, 800), with(150, 10)] {
                    let what = format!("{} {over:?} {} fields", server.driver, request.headers().len());
                    assert_eq!(client.ask(request, b"").await.status, 431, "{what}");
                }
                let long = ask("GET", &format!("/{}", "x".repeat(17_000)), &[]);
                assert_eq!(client.ask(long, b"").await.status, 414, "{} {over:?}", server.driver);
                assert_eq!(client.get("/page.html").await.status, 200, "{} {over:?}", server.driver);
            });
        },
    );
}

#[test]
fn h2load_gets_an_answer_to_every_request() {
    if !has_program("h2load") {
        return;
    }
    let upstream = echo();
    // One after the other: each takes the whole machine.
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = start_with(driver, &upstream, "keep_alive_requests_max = 0");
        for (over, path, requests) in [
            (Over::Clear, "page.html", 20_000),
            (Over::Tls, "page.html", 20_000),
            (Over::Tls, "app/count", 4000),
            (Over::Clear, "up/x", 4000),
        ] {
            let scheme = if over == Over::Tls { "https" } else { "http" };
            let output = Command::new("h2load")
                .args(["-c", "10", "-m", "32", "-n", &requests.to_string()])
                .arg(format!("{scheme}://127.0.0.1:{}/{path}", over.address(&server).port()))
                .output()
                .expect("h2load");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let expect = format!(
                "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, \
                 0 errored, 0 timeout"
            );
            assert!(text.contains(&expect), "{driver:?} {over:?} {path}: {text}");
            assert!(text.contains(&format!("status codes: {requests} 2xx")), "{driver:?} {over:?} {path}: {text}");
            assert!(text.contains("Application protocol: h2"), "{driver:?} {over:?}: {text}");
        }
    }
}

#[test]
fn nghttp_and_its_priorities_see_a_connection_without_oddities() {
    if !has_program("nghttp") {
        return;
    }
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            let scheme = if over == Over::Tls { "https" } else { "http" };
            let url = |path: &str| format!("{scheme}://127.0.0.1:{}{path}", over.address(server).port());
            // Weights, and nghttp's tree of dependencies of streams that never open.
            let output = Command::new("nghttp")
                .args(["-v", "-n", "-y", "--weight=256", "--weight=1", "--weight=7"])
                .args([url("/page.html"), url("/long.txt"), url("/up/x")])
                .output()
                .expect("nghttp");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let what = format!("{} {over:?}: {text}", server.driver);
            assert!(output.status.success(), "{what}");
            let count = |part: &str| text.matches(part).count();
            let received =
                |frame: &str| text.lines().filter(|line| line.contains(&format!("recv {frame} frame"))).count();
            assert!(count("send PRIORITY frame") >= 1, "{what}");
            assert_eq!(count(":status: 200"), 3, "{what}");
            assert_eq!(received("HEADERS"), 3, "{what}");
            assert!(received("DATA") >= 3, "{what}");
            // Its own, and the acknowledgement of the client's.
            assert_eq!(received("SETTINGS"), 2, "{what}");
            assert_eq!(received("RST_STREAM") + received("GOAWAY") + received("PUSH_PROMISE"), 0, "{what}");
            // It is the client who says goodbye.
            assert_eq!(count("send GOAWAY frame"), 1, "{what}");
            assert!(text.contains("error_code=NO_ERROR(0x00)"), "{what}");
        },
    );
}

#[test]
fn priorities_of_both_kinds_are_ignored() {
    with_both_drivers(|driver| {
        let upstream = echo();
        let server = start(driver, &upstream);
        let mut client = Http2::connect_with(server.web(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
        // A tree with a loop (RFC 7540 section 5.3.3), on streams of all states.
        for (id, on) in [(1, 3), (3, 1), (101, 1), (1, 101), (5, 0)] {
            client.send(frames::priority(id, on));
        }
        let with_priority = [&[0x80, 0, 0, 1, 255][..], &Block::get("/page.html").0].concat();
        client.send(frames::frame(HEADERS, WHOLE | frames::WITH_PRIORITY, 3, with_priority));
        assert_eq!(client.answer(3).status, 200, "{driver:?}");
        // RFC 9218: the field, and PRIORITY_UPDATE for a stream that is still to come.
        client.send(frames::frame(0x10, 0, 0, [&7u32.to_be_bytes()[..], b"u=0, i"].concat()));
        let block = Block::post("/up/echo").field("priority", "u=7, i");
        client.send(headers(7, END_HEADERS, &block)).send(frames::data(7, END_STREAM, "urgent"));
        assert_eq!(client.answer(7).text(), "urgent", "{driver:?}");
        assert_eq!(upstream.last().field("priority"), Some("u=7, i"), "{driver:?}: it is the end's business");
        client.assert_alive(9, "/page.html");
    });
}

#[test]
fn the_idle_time_of_a_connection_is_the_same_behind_a_slow_answer() {
    with_both_drivers(|driver| {
        let upstream = echo();
        let server = start_with(driver, &upstream, "keep_alive_timeout = \"1s\"");
        for over in Over::BOTH {
            block_on(async {
                let client = H2Client::connect(&server, over).await;
                assert_eq!(client.get("/app/slow?ms=2000").await.text(), "slow");
                let begin = Instant::now();
                let end = tokio::time::timeout(SOON, client.end).await.expect("it ends");
                assert!(end.expect("a task").is_ok(), "{driver:?} {over:?}");
                // It is 0.2 s: the time for which an idle connection keeps its buffers is taken off, as if it had passed.
                assert!(begin.elapsed() > Duration::from_millis(700), "{driver:?} {over:?}: {:?}", begin.elapsed());
            });
        }
    });
}

#[test]
fn head_max_holds_for_http2_as_the_manual_says() {
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            let mut request = ask("GET", "/page.html", &[]);
            for n in 0..10 {
                let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
                request.headers_mut().insert(name, "v".repeat(2000).parse().expect("a value"));
            }
            // 20 KiB: more than [http] head_max (16 KiB), less than [http2] header_list_max (64 KiB), of whose help says
            // "http.head_max holds as well". HTTP/1.1 answers 431.
            let status = block_on(async { H2Client::connect(server, over).await.ask(request, b"").await.status });
            assert_eq!(status, 431, "{} {over:?}", server.driver);
        },
    );
}

/// A stream that waits for a timer is polled by the connection first and by itself afterwards: the timer must wake it.
#[test]
fn streams_that_wait_for_time_to_pass_are_answered() {
    with_both_drivers(|driver| {
        let dead = support::ports::free_address();
        let rest = format!(
            "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n\
             [[site.main.route]]\npath = \"/dead/\"\nproxy = \"dead\"\n\
             [[site.main.route]]\npath = \"/silent/\"\nproxy = \"silent\"\n\
             [upstream.dead]\nservers = \"{dead}\"\nhealth = false\n\
             [upstream.silent]\nservers = \"192.0.2.1:80\"\nhealth = false\nconnect_timeout = \"200ms\"\n"
        );
        let content = pattern(5_000_000);
        let server = Site::new(driver, &rest).secure("").file("root/cold.bin", &content).start();
        for over in Over::BOTH {
            let file = std::fs::File::open(server.folder().join("root/cold.bin")).expect("a file");
            file.sync_all().expect("written");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
            block_on(async {
                let client = H2Client::connect(&server, over).await;
                // Read from the disk meanwhile.
                assert!(client.get("/cold.bin").await.body == content, "{driver:?} {over:?}");
                // Tried again after a pause.
                assert_eq!(client.get("/dead/").await.status, 502, "{driver:?} {over:?}");
                // No answer to the connect, where the network lets it out at all.
                assert_eq!(client.get("/silent/").await.status, 502, "{driver:?} {over:?}");
            });
        }
    });
}
