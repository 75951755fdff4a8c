//! HTTP/2 at the real binary as its users have it: over TLS with ALPN and in clear by prior knowledge, with the `h2`
//! crate, curl, nghttp and h2load as clients. Every action answers as it does over HTTP/1.1; bodies stream both ways;
//! slow, leaving and greedy clients are nobody else's trouble; the end of a connection loses no request. Frames that break
//! the rules are in `http2_rfc9113` and `http2_floods`. Sources: RFC 9113, RFC 9110, RFC 8297.

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use rustix::process::Signal;
use support::client::NoResponse;
use support::frames::{
    Block, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, INITIAL_WINDOW_SIZE, NO_ERROR, RST_STREAM, WHOLE, headers,
};
use support::http2::*;
use support::upstream::Then;
use support::*;

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// One site with every action.
fn site(upstream: &FakeUpstream) -> String {
    format!(
        "[site.main]\nerror_pages = {{ 404 = \"/errors/404.html\" }}\n\
         [[site.main.route]]\npath = \"/\"\nfiles = {{ root = \"$DIR/root\", listing = \"auto\" }}\n\
         [[site.main.route]]\npath = \"/errors/\"\ninternal = true\nfiles = {{ root = \"$DIR\" }}\n\
         [[site.main.route]]\npath = \"/text/\"\ncompress = true\n\
         files = {{ root = \"$DIR/root\", strip_prefix = \"/text\" }}\n\
         [[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/small/\"\nbody_max = 1000\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/smallapp/\"\nbody_max = 1000\napp = \"probe\"\n\
         [[site.main.route]]\npath = \"/coded/\"\ncompress = true\nproxy = \"up\"\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n\
         [[site.main.route]]\npath = \"/moved\"\nredirect = {{ to = \"https://example.org$path?$query\", status = 307 }}\n\
         [[site.main.route]]\nregex = \"^/old/(.+)$\"\nrewrite = {{ to = \"/$1\" }}\n\
         [[site.main.route]]\nexact = \"/fixed\"\nrespond = {{ status = 418, body = \"fixed $remote_addr\" }}\n\
         headers = {{ set = {{ X-Set = \"$request_method\" }} }}\n\
         [[site.main.route]]\npath = \"/posts\"\nmethods = [\"POST\"]\nrespond = {{ body = \"posted\" }}\n\
         [[site.main.route]]\npath = \"/private/\"\nauth = {{ realm = \"staff\", users_file = \"$DIR/users\" }}\n\
         respond = {{ body = \"for $remote_user\" }}\n\
         [[site.main.route]]\npath = \"/closed/\"\nclose = true\n\
         [app.probe]\n[upstream.up]\nservers = \"{}\"\nhealth = false\n",
        upstream.address
    )
}

/// The SHA-1 of `secret`, as `htpasswd -s` writes it.
const USERS: &[u8] = b"jo:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";

fn start_with(driver: Driver, upstream: &FakeUpstream, http: &str) -> Server {
    let long = "a line of text that repeats itself\n".repeat(2000);
    let site = Site::probe(driver, &site(upstream))
        .http("body_max = \"64MiB\"")
        .http(http)
        .secure("")
        .file("users", USERS)
        .file("errors/404.html", b"<p>not here</p>")
        .file("root/index.html", b"<p>home</p>")
        .file("root/page.html", b"<p>page</p>")
        .file("root/folder/one.txt", b"one")
        .file("root/folder/two.txt", b"two")
        .file("root/long.txt", long.as_bytes())
        .file("root/zero", b"")
        .file("root/big", &pattern(10_000_019));
    let file = std::fs::File::options().write(true).open(site.folder().join("root/page.html")).expect("a file");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("a time");
    site.start()
}

fn start(driver: Driver, upstream: &FakeUpstream) -> Server {
    start_with(driver, upstream, "")
}

/// An upstream for what is compared: each target has its own kind of answer.
fn echo() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let target = exchange.request.target.clone();
        if target.ends_with("/read") || target.contains("/echo") {
            exchange.read_body();
        }
        let body = match target.contains("/echo") {
            true => exchange.request.body.clone(),
            false => format!("{} {target}", exchange.request.method).into_bytes(),
        };
        let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        if target.ends_with("/fields") {
            head += "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Accel-Buffering: no\r\nConnection: x-secret\r\n\
                     X-Secret: 1\r\nKeep-Alive: timeout=5\r\nServer: theirs\r\n";
        }
        if target.ends_with("/chunked") {
            let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                        3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 6\r\nSet-Cookie: evil=1\r\n\r\n";
            exchange.send(text);
            return Then::Keep;
        }
        if target.ends_with("/until-close") {
            exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
            return Then::Close;
        }
        if target.ends_with("/empty") {
            exchange.send("HTTP/1.1 204 No Content\r\nX-Kind: empty\r\n\r\n");
            return Then::Keep;
        }
        if target.ends_with("/not-modified") {
            exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
            return Then::Keep;
        }
        if target.ends_with("/gone") {
            exchange.send("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone");
            return Then::Keep;
        }
        if target.starts_with("/coded") {
            let text = "compress me, ".repeat(1000);
            head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", text.len());
            exchange.send(format!("{head}\r\n{text}"));
            return Then::Keep;
        }
        exchange.send(head + "\r\n");
        if exchange.request.method != "HEAD" {
            exchange.send(body);
        }
        Then::Keep
    })
}

type Fields = &'static [(&'static str, &'static str)];

/// Requests, the status they must have over both protocols, and a part of the body.
const REQUESTS: &[(&str, &str, Fields, &str, u16, &str)] = &[
    ("GET", "/", &[], "", 200, "<p>home</p>"),
    ("GET", "/page.html", &[], "", 200, "<p>page</p>"),
    ("HEAD", "/page.html", &[], "", 200, ""),
    ("GET", "/zero", &[], "", 200, ""),
    ("GET", "/folder", &[], "", 301, ""),
    ("GET", "/folder/", &[("accept", "text/html")], "", 200, "one.txt"),
    ("GET", "/folder/", &[("accept", "application/json")], "", 200, "\"two.txt\""),
    ("GET", "/page.html", &[("range", "bytes=3-6")], "", 206, "page"),
    ("GET", "/page.html", &[("range", "bytes=0-1,3-4")], "", 206, "multipart"),
    ("GET", "/page.html", &[("range", "bytes=100-")], "", 416, ""),
    ("HEAD", "/page.html", &[("range", "bytes=3-6")], "", 200, ""),
    ("GET", "/page.html", &[("if-modified-since", "Sun, 09 Sep 2001 01:46:40 GMT")], "", 304, ""),
    ("GET", "/page.html", &[("if-modified-since", "Sun, 09 Sep 2001 01:46:39 GMT")], "", 200, "page"),
    ("GET", "/page.html", &[("if-none-match", "*")], "", 304, ""),
    ("GET", "/page.html", &[("if-match", "\"other\"")], "", 412, ""),
    ("GET", "/text/long.txt", &[("accept-encoding", "br")], "", 200, ""),
    ("GET", "/text/long.txt", &[("accept-encoding", "gzip")], "", 200, ""),
    ("GET", "/text/long.txt", &[("accept-encoding", "identity")], "", 200, "repeats itself"),
    ("HEAD", "/text/long.txt", &[("accept-encoding", "zstd")], "", 200, ""),
    ("GET", "/coded/x", &[("accept-encoding", "gzip")], "", 200, ""),
    ("GET", "/coded/x", &[], "", 200, "compress me"),
    ("GET", "/nowhere", &[], "", 404, "<p>not here</p>"),
    ("HEAD", "/nowhere", &[], "", 404, ""),
    ("GET", "/errors/404.html", &[], "", 404, "<p>not here</p>"),
    ("POST", "/page.html", &[], "x", 405, ""),
    ("GET", "/moved/a%20b?c=d", &[], "", 307, ""),
    ("GET", "/old/page.html", &[], "", 200, "<p>page</p>"),
    ("POST", "/old/up/echo", &[], "round inside", 200, "round inside"),
    ("GET", "/fixed", &[], "", 418, "fixed 127.0.0.1"),
    ("HEAD", "/fixed", &[], "", 418, ""),
    ("GET", "/posts", &[], "", 405, ""),
    ("OPTIONS", "/posts", &[], "", 204, ""),
    ("POST", "/posts", &[], "unread", 200, "posted"),
    ("GET", "/private/x", &[], "", 401, ""),
    ("GET", "/private/x", &[("authorization", "Basic am86d3Jvbmc=")], "", 401, ""),
    ("GET", "/private/x", &[("authorization", "Basic am86c2VjcmV0")], "", 200, "for jo"),
    ("GET", "/up/a?b=c", &[], "", 200, "GET /up/a?b=c"),
    ("HEAD", "/up/a", &[], "", 200, ""),
    ("DELETE", "/up/a", &[], "", 200, "DELETE /up/a"),
    ("PATCH", "/up/read", &[], "changed", 200, "PATCH /up/read"),
    ("POST", "/up/echo", &[], "what was said", 200, "what was said"),
    ("GET", "/up/fields", &[], "", 200, "GET"),
    ("GET", "/up/chunked", &[], "", 200, "onetwo"),
    ("GET", "/up/until-close", &[], "", 200, "until the end"),
    ("GET", "/up/empty", &[], "", 204, ""),
    ("GET", "/up/not-modified", &[], "", 304, ""),
    ("GET", "/up/gone", &[], "", 410, "gone"),
    ("POST", "/app/echo", &[], "what was said", 200, "what was said"),
    ("GET", "/app/large?bytes=300000", &[], "", 200, "zzz"),
    ("HEAD", "/app/large?bytes=300000", &[], "", 200, ""),
    ("GET", "/app/status?code=503", &[], "", 503, "body"),
    ("GET", "/app/framing", &[], "", 200, "framed"),
    ("GET", "/app/trailers", &[], "", 200, "zzzzz"),
    ("GET", "/app/panic", &[], "", 502, ""),
    ("GET", "/../../etc/passwd", &[], "", 404, ""),
    ("GET", "/%00", &[], "", 400, ""),
    ("TRACE", "/", &[], "", 405, ""),
];

/// Fields that belong to one connection, differ by design, or tell the time.
fn is_compared(name: &str) -> bool {
    !matches!(name, "date" | "connection" | "keep-alive" | "transfer-encoding" | "content-length" | "x-request-id")
}

/// Hides the boundary of a multipart body, which is another one each time.
fn without_boundary(media_type: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match media_type.split_once("boundary=") {
        Some((_, boundary)) => text.replace(boundary.trim_matches('"'), "BOUNDARY") + " multipart",
        None => text,
    }
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
                    let read = without_boundary(&media_type, &reply.body);
                    assert!(read.contains(part), "{what}: {read}");
                    let theirs = expect.field("content-type").unwrap_or_default();
                    assert!(read == without_boundary(theirs, &expect.body), "{what}: {read}");
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
                    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"] {
                        assert!(!reply.headers.contains_key(name), "{what}: {name}");
                    }
                    let lengths = (expect.field("content-length"), reply.field("content-length"));
                    if let (Some(one), Some(two)) = lengths {
                        assert_eq!(one, two, "{what}");
                    }
                    if lengths.0.is_some() && method == "HEAD" {
                        assert_eq!(lengths.0, lengths.1, "{what}: HEAD tells the length");
                    }
                    // Ours end with the last DATA; those of a server behind us are dropped (RFC 9110 section 6.5.1).
                    assert!(reply.trailers.is_none(), "{what}: {:?}", reply.trailers);
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
    let upstream = echo();
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
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
    let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
            block_on(async {
                let client = H2Client::connect(server, over).await;
                let before = upstream.seen().len();
                // Told beforehand, found out on the way, and far more than any window: what is not read must not use the
                // connection's window up.
                for round in 0..6 {
                    for (path, size) in [("/small/x", 1001), ("/small/x", 600_000), ("/smallapp/size", 600_000)] {
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

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_or_that_it_need_not() {
    let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
    everywhere(
        |driver| start(driver, &upstream),
        |server, over| {
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
                for (path, status) in [("/small/x", 413), ("/posts/", 200), ("/nowhere", 404)] {
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
                eventually_async("all are under way", || active("upstream") + active("app") == 20.0).await;
                client.end.abort();
                drop(exchanges);
                eventually_async("all are given up", || active("upstream") + active("app") == 0.0).await;
            });
            server.wait_until_no_client();
        },
    );
}
