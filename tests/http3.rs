//! HTTP/3 at the real binary, with an implementation of QUIC that is none of ours (aioquic) and with a browser. Every action
//! answers as over HTTP/1.1; bodies stream both ways; clients that are slow, leave, move to another address or break the
//! rules are nobody else's trouble; limits hold, and the end of a connection loses no request. Sources: RFC 9000, RFC 9114,
//! RFC 9204, RFC 7838.

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::actions::*;
use support::http3::*;
use support::ports::free_port;
use support::tls::{Kind, trusted};
use support::upstream::Then;
use support::*;

const NO_ERROR: u64 = 0x100;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_CANCELLED: u64 = 0x10c;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn start(driver: Driver, upstream: &FakeUpstream) -> Server {
    all_actions(driver, upstream, "", "http3 = true").start()
}

/// A small site of one's own; `rest` are further tables.
fn small(driver: Driver, rest: &str) -> Site {
    small_at(driver, rest, "http3 = true")
}

/// The same with these lines of its listener.
fn small_at(driver: Driver, rest: &str, listener: &str) -> Site {
    Site::new(driver, &format!("[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n{rest}"))
        .file("root/page.html", b"<p>page</p>")
        .file("root/big", &pattern(3_000_017))
        .secure(listener)
}

fn everywhere(test: impl Fn(Driver) + Sync) {
    if python().is_some() {
        with_both_drivers(test);
    }
}

#[test]
fn every_action_answers_as_over_http1() {
    let upstream = echo();
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let steps: Vec<Value> = REQUESTS
            .iter()
            .enumerate()
            .map(|(at, (method, path, fields, body, ..))| {
                ask_with(&at.to_string(), path, json!({ "method": method, "fields": fields, "content": body }))
            })
            .collect();
        let seen = run(&server, json!({}), Value::Array(steps));
        let mut http1 = server.connect();
        for (at, &(method, path, fields, body, status, part)) in REQUESTS.iter().enumerate() {
            let what = format!("{} {method} {path} {fields:?}", server.driver);
            let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let expect = http1.ask(request(method, path, &lines, body));
            if expect.is_last() {
                http1 = server.connect();
            }
            let reply = seen.answer(&at.to_string());
            assert_eq!((u64::from(expect.status), reply.status()), (u64::from(status), u64::from(status)), "{what}");
            assert!(reply.is_whole(), "{what}");
            if reply.length() < 70_000 {
                let media_type = reply.field("content-type").unwrap_or_default();
                let read = decoded(reply.field("content-encoding").as_deref(), &reply.content());
                let read = without_boundary(&media_type, &read);
                assert!(read.contains(part), "{what}: {read}");
                let theirs = decoded(expect.field("content-encoding"), &expect.body);
                let theirs = without_boundary(expect.field("content-type").unwrap_or_default(), &theirs);
                assert!(read == theirs, "{what}: {read}");
            } else {
                assert_eq!(reply.sha256(), sha256(&expect.body), "{what}");
            }
            let mut of_http1: Vec<(String, String)> =
                expect.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
            let mut of_http3 = reply.fields();
            for fields in [&mut of_http1, &mut of_http3] {
                fields.retain(|(name, _)| is_compared(name));
                fields.iter_mut().for_each(|(_, value)| {
                    if let Some(at) = value.find("boundary=") {
                        value.truncate(at);
                    }
                });
                fields.sort();
            }
            assert_eq!(of_http1, of_http3, "{what}");
            // RFC 9114 section 4.2
            for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
                assert!(reply.field(name).is_none(), "{what}: {name}");
            }
            let lengths = (expect.field("content-length").map(str::to_owned), reply.field("content-length"));
            if lengths.0.is_some() && (lengths.1.is_some() || method == "HEAD") {
                assert_eq!(lengths.0, lengths.1, "{what}");
            }
        }
    });
}

#[test]
fn other_versions_tell_of_it() {
    with_both_drivers(|driver| {
        let site = small(
            driver,
            "[[site.main.route]]\npath = \"/own\"\nrespond = {}\nheaders = { set = { Alt-Svc = \"clear\" } }\n",
        )
        .more(
            "[listener.named]\naddress = \"127.0.0.1:0\"\nhttp3 = true\nalt_svc = 'h3=\"alt.example:443\"'\n\
                 tls.certificates = [{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }]\n\
                 [listener.quiet]\naddress = \"127.0.0.1:0\"\nhttp3 = true\nalt_svc = ''\n\
                 tls.certificates = [{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }]\n",
        );
        let server = site.start();
        let alt_svc = |listener: &str, path: &str, version: &str| {
            let answer = tools::curl("https", server.address(listener), path, &[version]);
            answer.field("alt-svc").map(str::to_owned)
        };
        let own = format!("h3=\":{}\"; ma=86400", server.address("secure").port());
        for version in ["--http1.1", "--http2"] {
            assert_eq!(alt_svc("secure", "/page.html", version), Some(own.clone()));
            assert_eq!(alt_svc("secure", "/none", version), Some(own.clone()), "errors tell too");
            assert_eq!(alt_svc("secure", "/own", version), Some("clear".into()));
            assert_eq!(alt_svc("named", "/page.html", version), Some("h3=\"alt.example:443\"".into()));
            assert_eq!(alt_svc("quiet", "/page.html", version), None);
        }
        assert_eq!(server.connect().ask(get("/page.html")).field("alt-svc"), None, "not where there is none");
        server.wait_for_line("the port", |line| line.contains("kind=http3"));
    });
}

#[test]
fn large_bodies_arrive_whole_in_both_directions_and_many_at_once() {
    let upstream = echo();
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let big = pattern(10_000_019);
        let mut steps = vec![ask("big", "/big")];
        steps.push(ask_with("range", "/big", json!({ "fields": [["range", "bytes=1000000-1999999"]] })));
        for (name, path) in [("proxy", "/up/echo"), ("app", "/app/echo")] {
            for (at, size) in [0, 1, 16_384, 65_537, 1_000_003].into_iter().enumerate() {
                let content = json!({ "pattern": size });
                steps.push(ask_with(&format!("{name}{at}"), path, json!({ "method": "POST", "content": content })));
            }
        }
        let many: Vec<Value> = (0..300).map(|at| ask(&format!("many{at}"), "/page.html")).collect();
        steps.extend(many.chunks(90).map(|requests| json!({ "op": "requests", "requests": requests })));
        let large: Vec<Value> = (0..5).map(|at| ask(&format!("large{at}"), "/text/long.txt")).collect();
        steps.push(json!({ "op": "requests", "requests": large }));
        let seen = run(&server, json!({}), Value::Array(steps));
        let answer = seen.answer("big");
        assert_eq!((answer.status(), answer.length()), (200, big.len() as u64));
        assert_eq!(answer.sha256(), sha256(&big));
        let answer = seen.answer("range");
        assert_eq!((answer.status(), answer.sha256()), (206, sha256(&big[1_000_000..2_000_000])));
        for name in ["proxy", "app"] {
            for (at, size) in [0, 1, 16_384, 65_537, 1_000_003].into_iter().enumerate() {
                let answer = seen.answer(&format!("{name}{at}"));
                assert_eq!((answer.status(), answer.length()), (200, size as u64), "{name} {size}");
                assert_eq!(answer.sha256(), sha256(&pattern(size)), "{name} {size}");
            }
        }
        for at in 0..300 {
            let answer = seen.answer(&format!("many{at}"));
            assert_eq!((answer.status(), answer.text()), (200, "<p>page</p>".into()), "{at}");
        }
        for at in 0..5 {
            assert_eq!(seen.answer(&format!("large{at}")).length(), 70_000, "{at}");
        }
        assert_eq!(server.metric("one_server_http3_requests_total", ""), 317.0);
    });
}

#[test]
fn what_is_told_of_a_request_is_right() {
    everywhere(|driver| {
        let rest = "[[site.main.route]]\nexact = \"/told\"\n\
                    respond = { body = \"$server_protocol $scheme $remote_addr $ssl_protocol $ssl_server_name\" }\n";
        let log = "access = \"$DIR/access.log\"\nformat = \"$request $status $body_bytes_sent $ssl_protocol $ssl_session_reused\"\n";
        let server = small(driver, rest).log(log).start();
        let seen = run(&server, json!({}), json!([ask("told", "/told"), ask("big", "/big"), ask("none", "/none")]));
        assert_eq!(seen.answer("told").text(), "HTTP/3.0 https 127.0.0.1 TLSv1.3 localhost");
        assert_eq!(seen.answer("told").field("alt-svc"), None, "it knows already");
        let line = |path: &str, rest: &str| format!("GET {path} HTTP/3.0 {rest}");
        let log = server.folder().join("access.log");
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually("three lines", || read().lines().count() == 3);
        let text = read();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], [line("/told", "200 42 TLSv1.3 ."), line("/big", "200 3000017 TLSv1.3 .")]);
        assert!(lines[2].starts_with(&line("/none", "404 ")));
        for (name, value) in
            [("http3_connections_total", 1.0), ("http3_requests_total", 3.0), ("tls_handshakes_total", 1.0)]
        {
            assert_eq!(server.metric(&format!("one_server_{name}"), ""), value, "{name}");
        }
        server.wait_until_no_client();
        assert_eq!(server.metric("one_server_http3_connections", ""), 0.0);
    });
}

#[test]
fn limits_of_bodies_hold() {
    let upstream = echo();
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let post = |name: &str, path: &str, more: Value| {
            let mut step = ask_with(name, path, json!({ "method": "POST" }));
            step.as_object_mut().expect("a step").extend(more.as_object().expect("keys").clone());
            step
        };
        let length = |length: usize| json!([["content-length", length.to_string()]]);
        let steps = json!([
            post("told", "/small/echo", json!({ "content": { "pattern": 1001 }, "fields": length(1001) })),
            post("untold", "/small/echo", json!({ "content": { "pattern": 1001 } })),
            post("enough", "/small/echo", json!({ "content": { "pattern": 1000 } })),
            post("short", "/up/echo", json!({ "content": "12345", "fields": length(6) })),
            post("long", "/up/echo", json!({ "content": "12345", "fields": length(4) })),
            post("right", "/up/echo", json!({ "content": "12345", "fields": length(5) })),
            post("none", "/up/echo", json!({ "fields": length(5) })),
            post("asked", "/up/echo", json!({ "fields": [["expect", "100-continue"]], "ends": false, "waits": false })),
            json!({ "op": "wait", "name": "asked", "head": true }),
            json!({ "op": "more", "name": "asked", "content": "here it is", "ends": true }),
            json!({ "op": "wait", "name": "asked" }),
            post("trailers", "/up/echo", json!({ "content": "x", "ends": false, "waits": false })),
            json!({ "op": "trailers", "name": "trailers" }),
            json!({ "op": "wait", "name": "trailers" }),
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({}), steps);
        for (name, status) in [("told", 413), ("untold", 413), ("enough", 200), ("right", 200), ("after", 200)] {
            assert_eq!(seen.answer(name).status(), status, "{name}");
        }
        // RFC 9114 section 4.1.2
        for name in ["short", "long"] {
            assert_eq!(seen.answer(name).reset(), Some(MESSAGE_ERROR), "{name}");
        }
        assert_eq!(seen.answer("none").status(), 400);
        assert_eq!((seen.answer("asked").interim(), seen.answer("asked").text()), (vec![100], "here it is".into()));
        assert_eq!(seen.answer("trailers").text(), "x");
        assert!(upstream.seen().iter().all(|seen| seen.body != b"12345" || seen.field("content-length") == Some("5")));
    });
}

#[test]
fn heads_that_are_too_large_get_431() {
    everywhere(|driver| {
        let server = small(driver, "[http3]\nheader_list_max = \"8KiB\"\n").start();
        let large = |bytes: usize| json!({ "fields": [["x-large", "~".repeat(bytes)]] });
        let steps = json!([
            ask_with("list", "/page.html", large(9000)),
            ask_with("section", "/page.html", large(40_000)),
            ask_with("fits", "/page.html", large(5000)),
            ask("target", &format!("/{}", "x".repeat(8100))),
        ]);
        let seen = run(&server, json!({}), steps);
        assert_eq!((seen.answer("list").status(), seen.answer("section").status()), (431, 431));
        assert_eq!(seen.answer("fits").status(), 200);
        assert!([414, 431].contains(&seen.answer("target").status()));
    });
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    let upstream = FakeUpstream::start(|exchange| {
        match exchange.request.target.as_str() {
            "/up/short" => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
            "/up/early" => exchange
                .send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            _ => exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"),
        };
        Then::Close
    });
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let steps = json!([
            ask("short", "/up/short"),
            ask("chunk", "/up/chunk"),
            ask("app", "/app/error-body"),
            ask("closed", "/closed/x"),
            ask("hints", "/up/early"),
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({}), steps);
        for name in ["short", "chunk", "app", "closed"] {
            let reset = seen.answer(name).reset();
            assert!(reset.is_some_and(|code| code != NO_ERROR), "{name}: {reset:?}");
        }
        assert_eq!((seen.answer("hints").interim(), seen.answer("hints").text()), (vec![103], "ok".into()));
        assert_eq!(seen.answer("after").status(), 200, "the others go on");
    });
}

#[test]
fn a_client_that_gives_up_is_noticed_and_one_that_does_it_all_the_time_sent_away() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(2));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let begin = |name: &str| ask_with(name, "/up/slow", json!({ "waits": false }));
        let seen = run(
            &server,
            json!({}),
            json!([
                begin("one"),
                ask_with("two", "/up/slow", json!({ "method": "POST", "content": "x", "ends": false, "waits": false })),
                json!({ "op": "ping" }),
                json!({ "op": "stop", "name": "one" }),
                json!({ "op": "reset", "name": "two" }),
                ask("after", "/page.html"),
                json!({ "op": "sleep", "seconds": 0.3 }),
            ]),
        );
        assert_eq!(seen.answer("after").status(), 200);
        assert_eq!(seen.answer("one").reset(), Some(REQUEST_CANCELLED));
        assert_eq!(server.metric("one_server_http3_resets_received_total", ""), 2.0);
        eventually("nothing is under way", || server.metric("one_server_upstream_requests_active", "") == 0.0);
        let mut steps = Vec::new();
        for at in 0..60 {
            steps.extend([
                begin(&at.to_string()),
                json!({ "op": "ping" }),
                json!({ "op": "stop", "name": at.to_string() }),
            ]);
        }
        steps.push(json!({ "op": "closed" }));
        steps.retain(|step| step["op"] != "ping");
        let seen = run(&server, json!({}), Value::Array(steps));
        assert_eq!(seen.closed(), Some(EXCESSIVE_LOAD));
        assert_eq!(server.metric("one_server_http3_floods_total", ""), 1.0);
    });
}

/// RFC 9114 section 4.1.2, which does not wait for a server.
#[test]
fn content_that_the_head_denies_is_noticed_while_the_server_is_slow() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(6));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    // POST https://test/up/slow with content-length: 0; a frame that nobody knows; content.
    let section = "0000d4d750047465737451082f75702f736c6f77c4";
    let (head, unknown, content) = (format!("01{:02x}{section}", section.len() / 2), "2100", "000178");
    everywhere(|driver| {
        let server = start(driver, &upstream);
        let raw = |name: &str, hex: &str, ends: bool| json!({ "op": "raw", "name": name, "hex": hex, "ends": ends });
        let pause = json!({ "op": "sleep", "seconds": 0.3 });
        let begun = Instant::now();
        let steps = json!([
            raw("bad", &head, false),
            pause,
            raw("bad", unknown, false),
            raw("bad", content, false),
            { "op": "wait", "name": "bad" },
        ]);
        let seen = run(&server, json!({}), steps);
        assert!(begun.elapsed() < Duration::from_millis(5500), "{:?}", begun.elapsed());
        assert_eq!(seen.answer("bad").reset(), Some(MESSAGE_ERROR));
        let steps =
            json!([raw("good", &head, false), pause, raw("good", unknown, true), { "op": "wait", "name": "good" }]);
        let seen = run(&server, json!({}), steps);
        assert_eq!((seen.answer("good").status(), seen.answer("good").text()), (200, "ok".into()));
    });
}

/// What waits for a place holds as much of its connection's window as its stream may: there is as much for the others.
#[test]
fn uploads_that_wait_keep_no_window_from_those_that_are_served() {
    let upstream = echo();
    everywhere(|driver| {
        let limits = "app_queue = 128\napp_concurrency = 8\napp_queue_timeout = \"30s\"";
        let server = all_actions(driver, &upstream, "", "http3 = true").one_worker().process(limits).start();
        let post = json!({ "method": "POST", "content": { "pattern": 100_000 } });
        let uploads: Vec<Value> = (0..100).map(|at| ask_with(&at.to_string(), "/app/size", post.clone())).collect();
        let seen = run(&server, json!({}), json!([{ "op": "requests", "requests": uploads }]));
        for at in 0..100 {
            let answer = seen.answer(&at.to_string());
            assert_eq!((answer.status(), answer.text()), (200, "100000 bytes".into()), "{at}");
        }
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up_after_the_write_timeout() {
    let upstream = echo();
    everywhere(|driver| {
        let server = all_actions(driver, &upstream, "write_timeout = \"1s\"", "http3 = true").start();
        let before = server.resident_mib().0;
        let settings = json!({ "stream_window": 100_000, "connection_window": 1_000_000 });
        let steps = json!([
            { "op": "freeze" },
            ask_with("file", "/big", json!({ "waits": false })),
            ask_with("app", "/app/large?bytes=5000000", json!({ "waits": false })),
            { "op": "wait", "name": "file" },
            { "op": "wait", "name": "app" },
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, settings, steps);
        for name in ["file", "app"] {
            assert!(seen.answer(name).reset().is_some() && seen.answer(name).length() <= 100_000, "{name}");
        }
        assert_eq!(seen.answer("after").status(), 200);
        assert!(server.metric("one_server_http_timeouts_total", "") >= 2.0);
        assert!(server.resident_mib().0 < before + 30, "what is not taken is not kept");
    });
}

#[test]
fn a_request_that_does_not_come_whole_is_given_up() {
    let upstream = echo();
    everywhere(|driver| {
        let http = "header_timeout = \"1s\"\nbody_timeout = \"1s\"";
        let server = all_actions(driver, &upstream, http, "http3 = true").start();
        let begun = Instant::now();
        let steps = json!([
            // HEADERS of 10 bytes, of which two have come.
            { "op": "raw", "name": "head", "hex": "010a0000" },
            ask_with("body", "/up/echo", json!({ "method": "POST", "content": "x", "ends": false, "waits": false })),
            { "op": "wait", "name": "head" },
            { "op": "wait", "name": "body" },
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({}), steps);
        assert_eq!(seen.answer("head").reset(), Some(REQUEST_CANCELLED));
        assert_eq!(seen.answer("body").status(), 408);
        assert_eq!(seen.answer("after").status(), 200);
        assert!(begun.elapsed() < SOON);
    });
}

/// What breaks the rules ends the stream, or the connection, with the code that the specifications name.
#[test]
fn mistakes_have_their_codes() {
    // Field sections: QPACK with a static table.
    let get = "0000d1d7500474657374c1"; // GET https://test/
    let post = "0000d4d750047465737451052f74616b65"; // POST https://test/take
    let head = |section: &str| format!("01{:02x}{section}", section.len() / 2);
    let of_stream = [
        (String::new(), REQUEST_INCOMPLETE),
        ("2100".into(), REQUEST_INCOMPLETE),
        (head("0000d1d7c1"), 0), // without an authority: 400
        (head("0000d1d1d7500474657374c1"), MESSAGE_ERROR),
        (head("0000d7500474657374c1"), MESSAGE_ERROR),
        (head("0000d1d750047465737451042f612362"), MESSAGE_ERROR), // :path "/a#b"
        (head(&format!("{post}c4")) + "000178", MESSAGE_ERROR),    // content-length: 0, and content
        (head(&format!("{get}c4")) + "000178", MESSAGE_ERROR),
    ];
    let of_connection = [
        ("000178".to_owned(), FRAME_UNEXPECTED),
        ("0400".into(), FRAME_UNEXPECTED),
        (head(get) + "0500", FRAME_UNEXPECTED),
        (head(get) + "0200", FRAME_UNEXPECTED),
        (head(post) + "000578", FRAME_ERROR),
        ("01".into(), FRAME_ERROR),
        (head("000080"), QPACK_DECOMPRESSION_FAILED),
        (head("0200d1"), QPACK_DECOMPRESSION_FAILED),
    ];
    let of_uni = [
        ("000700", false, MISSING_SETTINGS),
        ("000400000100", false, FRAME_UNEXPECTED),
        ("0004000400", false, FRAME_UNEXPECTED),
        ("023f01", false, QPACK_ENCODER_STREAM_ERROR),
        ("000400", true, CLOSED_CRITICAL_STREAM),
    ];
    everywhere(|driver| {
        let rest = "[[site.main.route]]\nexact = \"/take\"\nrespond = { body = \"taken\" }\n";
        let server = small(driver, rest).start();
        let stream = |hex: &String| {
            let raw = json!({ "op": "raw", "name": "bad", "hex": hex, "ends": true });
            (json!({}), json!([raw, { "op": "wait", "name": "bad" }, ask("after", "/page.html")]))
        };
        let plans = of_stream.iter().map(|(hex, _)| stream(hex)).collect();
        for (seen, (hex, code)) in run_all(&server, plans).iter().zip(&of_stream) {
            match code {
                0 => assert_eq!(seen.answer("bad").status(), 400, "{hex}"),
                code => assert_eq!(seen.answer("bad").reset(), Some(*code), "{hex}"),
            }
            assert_eq!(seen.answer("after").status(), 200, "{hex}: the others go on");
        }
        let stream = |hex: &String| {
            let raw = json!({ "op": "raw", "name": "bad", "hex": hex, "ends": true });
            (json!({}), json!([raw, { "op": "closed" }]))
        };
        let plans = of_connection.iter().map(|(hex, _)| stream(hex)).collect();
        for (seen, (hex, code)) in run_all(&server, plans).iter().zip(&of_connection) {
            assert_eq!(seen.closed(), Some(*code), "{hex}");
        }
        let stream = |(hex, ends, _): &(&str, bool, u64)| {
            let raw = json!({ "op": "raw", "uni": true, "name": "bad", "hex": hex, "ends": ends });
            (json!({ "raw": true }), json!([raw, { "op": "closed" }]))
        };
        for (seen, (hex, _, code)) in run_all(&server, of_uni.iter().map(stream).collect()).iter().zip(&of_uni) {
            assert_eq!(seen.closed(), Some(*code), "{hex}");
        }
        // A stream that nobody knows is none of our business; a hundred of them are.
        let unknown = |name: String| json!({ "op": "raw", "uni": true, "name": name, "hex": "4021ff" });
        let seen = run(&server, json!({}), json!([unknown("one".into()), ask("after", "/page.html")]));
        assert_eq!(seen.answer("after").status(), 200);
        let mut steps: Vec<Value> =
            (0..120).flat_map(|at| [unknown(at.to_string()), json!({ "op": "sleep", "seconds": 0.01 })]).collect();
        steps.push(json!({ "op": "closed" }));
        assert_eq!(run(&server, json!({}), Value::Array(steps)).closed(), Some(EXCESSIVE_LOAD));
        assert_eq!(server.connect().ask(get_page()).status, 200);
    });
}

fn get_page() -> String {
    get("/page.html")
}

#[test]
fn a_client_that_moves_keeps_its_connection_whichever_worker_hears_of_it() {
    everywhere(|driver| {
        let rest = "[[site.main.route]]\nexact = \"/port\"\nrespond = { body = \"$remote_port\" }\n";
        let server = small(driver, rest).start();
        // The kernel chooses a worker by the address: of twelve moves, some go to the other one.
        let mut steps = vec![ask("port", "/port"), ask_with("big", "/big", json!({ "waits": false }))];
        for at in 0..12 {
            steps.push(json!({ "op": "rebind", "renew": at % 2 == 0 }));
            steps.push(ask(&format!("page{at}"), "/page.html"));
            steps.push(ask(&format!("port{at}"), "/port"));
        }
        steps.push(json!({ "op": "wait", "name": "big" }));
        let seen = run(&server, json!({}), Value::Array(steps));
        let port = seen.answer("port").text();
        for at in 0..12 {
            assert_eq!(seen.answer(&format!("page{at}")).status(), 200, "{at}");
            // Rules about addresses count on the one that the handshake has proved.
            assert_eq!(seen.answer(&format!("port{at}")).text(), port, "{at}");
        }
        assert_eq!(seen.answer("big").sha256(), sha256(&pattern(3_000_017)));
        assert_eq!(server.metric("one_server_http3_connections_total", ""), 1.0);
        assert!(server.metric("one_server_http3_forwarded_total", "") > 0.0);
        assert_eq!(server.metric("one_server_http3_dropped_total", ""), 0.0);
    });
}

#[test]
fn clients_prove_their_address_where_that_is_asked() {
    everywhere(|driver| {
        let server = small(driver, "[http3]\nretry = \"always\"\n").start();
        let seen = run(&server, json!({}), json!([ask("page", "/page.html")]));
        assert_eq!((seen.answer("page").status(), seen.0["retried"].as_bool()), (200, Some(true)));
        assert_eq!(server.metric("one_server_http3_retries_total", ""), 1.0);
    });
}

#[test]
fn many_handshakes_at_once_make_clients_prove_their_address() {
    everywhere(|driver| {
        let server = small(driver, "").one_worker().start();
        // Initials of clients that never go on: their first packets, from many addresses.
        let target = server.address("secure");
        let mut first = begin(&server, json!({}), json!([ask("page", "/page.html")]));
        drop(std::mem::replace(&mut first, begin(&server, json!({}), json!([ask("page", "/page.html")]))));
        assert_eq!(first.end().answer("page").status(), 200);
        let sockets: Vec<UdpSocket> = (0..80)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect(target).expect("an address");
                socket.send(&hello::initial()).expect("sent");
                socket
            })
            .collect();
        eventually("some are asked", || server.metric("one_server_http3_retries_total", "") >= 20.0);
        // An honest one gets through.
        let seen = run(&server, json!({}), json!([ask("page", "/page.html")]));
        assert_eq!((seen.answer("page").status(), seen.0["retried"].as_bool()), (200, Some(true)));
        drop(sockets);
    });
}

#[test]
fn rubbish_disturbs_nobody() {
    everywhere(|driver| {
        let server = small(driver, "").start();
        let mut client = begin(
            &server,
            json!({}),
            json!([ask("before", "/page.html"), { "op": "signal", "name": "here" }, ask("after", "/big")]),
        );
        client.wait_for("here");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server.address("secure")).expect("an address");
        let initial = hello::initial();
        for round in 0..3000usize {
            let bytes: Vec<u8> = match round % 4 {
                0 => (0..rand::random_range(0..1500)).map(|_| rand::random()).collect(),
                1 => initial[..round % initial.len()].to_vec(),
                2 => {
                    let mut changed = initial.clone();
                    for _ in 0..4 {
                        let at = rand::random_range(0..changed.len().min(60));
                        changed[at] = rand::random();
                    }
                    changed
                }
                // A version that nobody speaks, and a short header.
                _ if round % 8 == 3 => [&initial[..1], &[0x0a; 4], &initial[5..]].concat(),
                _ => [&[0x40][..], &pattern(40 + round % 60)].concat(),
            };
            let _ = socket.send(&bytes);
        }
        client.go_on();
        let seen = client.end();
        assert_eq!(seen.answer("before").status(), 200);
        assert_eq!(seen.answer("after").sha256(), sha256(&pattern(3_000_017)));
        assert_eq!(server.metric("one_server_panics_total", ""), 0.0);
        assert_eq!(server.connect().ask(get_page()).status, 200);
    });
}

#[test]
fn a_connection_that_is_not_known_any_more_is_reset() {
    everywhere(|driver| {
        let server = small(driver, "").http("keep_alive_timeout = \"1s\"").start();
        let steps = json!([
            ask("page", "/page.html"),
            { "op": "ping" },
            { "op": "closed" },
            { "op": "sleep", "seconds": 2 },
            { "op": "unknown" },
        ]);
        let seen = run(&server, json!({}), steps);
        assert_eq!(seen.closed(), Some(NO_ERROR));
        assert_eq!(seen.0["is_reset"].as_bool(), Some(true));
    });
}

#[test]
fn a_reset_token_of_one_listener_is_worth_nothing_at_another() {
    everywhere(|driver| {
        let other = "[listener.other]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n\
                     tls.certificates = [{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }]\n";
        let server = small(driver, "").more(other).start();
        // While the connection lives here, a packet of it goes to the other listener, which does not know it.
        let steps = json!([
            ask("page", "/page.html"),
            { "op": "unknown", "port": server.address("other").port() },
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({}), steps);
        assert_eq!((seen.0["is_answered"].as_bool(), seen.0["is_reset"].as_bool()), (Some(true), Some(false)));
        assert_eq!(seen.answer("after").status(), 200);
    });
}

#[test]
fn handshakes_under_way_count_for_their_address() {
    everywhere(|driver| {
        let listener = "http3 = true\ntls.handshake_timeout = \"3s\"";
        let site = small_at(driver, "[http3]\nretry = \"always\"\n", listener);
        let server = site.http("connections_per_address_max = 2").start();
        let mut stalled: Vec<Running> = (0..2).map(|_| begin(&server, json!({ "stalls": true }), json!([]))).collect();
        stalled.iter_mut().for_each(|client| client.wait_for("stalled"));
        assert_eq!(run(&server, json!({}), json!([])).0["refused"].as_bool(), Some(true));
        assert!(server.metric("one_server_http_connections_refused_per_address_total", "") >= 1.0);
        // Their places are free again when they have taken too long.
        server.wait_until_no_client();
        assert_eq!(run(&server, json!({}), json!([ask("page", "/page.html")])).answer("page").status(), 200);
        for mut client in stalled {
            client.go_on();
            assert_eq!(client.end().0["retried"].as_bool(), Some(true));
        }
    });
}

#[test]
fn unproven_addresses_take_no_places() {
    everywhere(|driver| {
        let server = small(driver, "").http("connections_per_address_max = 2").one_worker().start();
        // First packets and no more, as if their address was forged.
        let sockets: Vec<UdpSocket> = (0..12)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect(server.address("secure")).expect("an address");
                socket.send(&hello::initial()).expect("sent");
                socket
            })
            .collect();
        eventually("most are asked for a proof", || server.metric("one_server_http3_retries_total", "") >= 8.0);
        let seen = run(&server, json!({}), json!([ask("page", "/page.html")]));
        assert_eq!((seen.answer("page").status(), seen.0["retried"].as_bool()), (200, Some(true)));
        drop(sockets);
    });
}

#[test]
fn a_stream_that_the_client_stops_is_reset_and_one_that_stops_many_is_sent_away() {
    everywhere(|driver| {
        let server = small(driver, "[http3]\nrst_per_second = 100\nrst_max = 5\n").start();
        let begun = |name: &str| ask_with(name, "/big", json!({ "waits": false }));
        let stop = |name: &str| json!({ "op": "stop", "name": name, "code": 0x4242 });
        // The answer has begun, and waits for the client's window.
        let steps = json!([
            begun("one"),
            { "op": "wait", "name": "one", "length": 1000 },
            stop("one"),
            { "op": "wait", "name": "one" },
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({ "stream_window": 20_000 }), steps);
        // RFC 9000 section 3.5
        assert_eq!(seen.answer("one").reset(), Some(0x4242));
        assert_eq!(seen.answer("after").status(), 200);
        assert_eq!(server.metric("one_server_http3_resets_received_total", ""), 1.0);
        let mut steps = Vec::new();
        for at in 0..8 {
            let name = at.to_string();
            steps.extend([begun(&name), json!({ "op": "wait", "name": name, "length": 1000 }), stop(&name)]);
        }
        steps.push(json!({ "op": "closed" }));
        let seen = run(&server, json!({ "stream_window": 20_000 }), Value::Array(steps));
        assert_eq!(seen.closed(), Some(EXCESSIVE_LOAD), "{}", seen.0);
        assert_eq!(server.metric("one_server_http3_floods_total", ""), 1.0);
    });
}

#[test]
fn limits_of_connections_hold() {
    everywhere(|driver| {
        let server = small(driver, "").http("connections_per_address_max = 2").start();
        let wait = json!([ask("page", "/page.html"), { "op": "signal", "name": "here" }]);
        let mut clients: Vec<Running> = (0..2).map(|_| begin(&server, json!({}), wait.clone())).collect();
        clients.iter_mut().for_each(|client| client.wait_for("here"));
        let refused = run(&server, json!({}), json!([{ "op": "closed" }]));
        assert_eq!(refused.closed(), Some(EXCESSIVE_LOAD));
        assert!(server.metric("one_server_http_connections_refused_per_address_total", "") >= 1.0);
        for mut client in clients {
            client.go_on();
            client.end();
        }
        server.wait_until_no_client();
        assert_eq!(run(&server, json!({}), json!([ask("page", "/page.html")])).answer("page").status(), 200);
    });
}

#[test]
fn address_rules_of_the_listener_hold() {
    everywhere(|driver| {
        for (rules, is_admitted) in [("deny 127.0.0.1", false), ("deny 127.0.0.2", true)] {
            let routes = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"in\" }\n";
            let listener = format!("http3 = true\naccess = [\"{rules}\", \"allow all\"]");
            let server = Site::new(driver, routes).secure(&listener).start();
            let steps = if is_admitted { json!([ask("page", "/")]) } else { json!([]) };
            let seen = run(&server, json!({}), steps);
            assert_eq!(seen.0["refused"].as_bool().unwrap_or(false), !is_admitted, "{rules}");
            assert_eq!(server.metric("one_server_http_connections_refused_total", "") >= 1.0, !is_admitted, "{rules}");
        }
    });
}

#[test]
fn connections_count_together_with_those_of_tcp() {
    everywhere(|driver| {
        let server = small(driver, "").flags(&["--connections-max", "16"]).start();
        let held: Vec<Client> = (0..16).map(|_| server.connect()).collect();
        eventually("they are there", || server.metric("one_server_http_connections", "") == 16.0);
        assert_eq!(run(&server, json!({}), json!([])).0["refused"].as_bool(), Some(true));
        assert!(server.metric("one_server_http_connections_refused_total", "") >= 1.0);
        drop(held);
        server.wait_until_no_client();
        assert_eq!(run(&server, json!({}), json!([ask("page", "/page.html")])).answer("page").status(), 200);
    });
}

#[test]
fn an_idle_connection_ends_and_a_long_answer_does_not() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(4));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    everywhere(|driver| {
        let server = all_actions(driver, &upstream, "keep_alive_timeout = \"2s\"", "http3 = true").start();
        let steps = json!([ask("slow", "/up/slow"), { "op": "closed", "seconds": 10 }]);
        let seen = run(&server, json!({}), steps);
        assert_eq!((seen.answer("slow").status(), seen.answer("slow").text()), (200, "ok".into()));
        assert_eq!((seen.closed(), seen.goaways()), (Some(NO_ERROR), vec![4]));
        let after = seen.0["closed_after"].as_f64().expect("seconds");
        assert!((1.0..6.0).contains(&after), "{after}");
        server.wait_until_no_client();
    });
}

#[test]
fn a_short_idle_time_makes_no_storm_of_pings() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(3));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    everywhere(|driver| {
        let rest = format!(
            "[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n\
             [upstream.up]\nservers = \"{}\"\nhealth = false\n",
            upstream.address
        );
        let server = small(driver, &rest).http("keep_alive_timeout = \"3ms\"").start();
        let bytes = || server.metric("one_server_http_sent_bytes_total", "");
        let before = bytes();
        let seen = run(&server, json!({ "idle_timeout": 2.5 }), json!([ask("slow", "/up/slow")]));
        assert_eq!((seen.answer("slow").status(), seen.answer("slow").text()), (200, "ok".into()));
        // A handshake, a ping every second, an answer. Once every millisecond would be some 100 KB.
        assert!(bytes() - before < 30_000.0, "{driver:?}: {} bytes", bytes() - before);
    });
}

#[test]
fn a_connection_ends_behind_as_many_requests_as_it_may_serve() {
    everywhere(|driver| {
        let server = small(driver, "").http("keep_alive_requests_max = 3").start();
        let mut steps: Vec<Value> = (0..3).map(|at| ask(&at.to_string(), "/page.html")).collect();
        steps.push(json!({ "op": "closed", "seconds": 10 }));
        let seen = run(&server, json!({}), Value::Array(steps));
        assert!((0..3).all(|at| seen.answer(&at.to_string()).status() == 200));
        assert_eq!((seen.closed(), seen.goaways()), (Some(NO_ERROR), vec![(1 << 62) - 4, 12]));
    });
}

#[test]
fn a_drain_answers_what_is_under_way_and_says_goodbye() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(2));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    everywhere(|driver| {
        let mut server = start(driver, &upstream);
        let steps = json!([
            ask_with("slow", "/up/slow", json!({ "waits": false })),
            { "op": "ping" },
            { "op": "signal", "name": "here" },
            { "op": "wait", "name": "slow" },
            { "op": "closed", "seconds": 10 },
        ]);
        let mut client = begin(&server, json!({}), steps);
        let mut idle = begin(
            &server,
            json!({}),
            json!([ask("page", "/page.html"), { "op": "signal", "name": "here" }, { "op": "closed", "seconds": 10 }]),
        );
        client.wait_for("here");
        idle.wait_for("here");
        eventually("it is under way", || server.metric("one_server_upstream_requests_active", "") == 1.0);
        server.signal(Signal::QUIT);
        client.go_on();
        idle.go_on();
        let seen = client.end();
        assert_eq!((seen.answer("slow").status(), seen.answer("slow").text()), (200, "ok".into()));
        assert_eq!((seen.closed(), seen.goaways()), (Some(NO_ERROR), vec![(1 << 62) - 4, 4]));
        assert_eq!(idle.end().closed(), Some(NO_ERROR));
        assert!(server.wait().success());
    });
}

#[test]
fn clients_are_told_when_the_process_stops() {
    everywhere(|driver| {
        let mut server = small(driver, "").start();
        let steps =
            json!([ask("page", "/page.html"), { "op": "signal", "name": "here" }, { "op": "closed", "seconds": 10 }]);
        let mut client = begin(&server, json!({}), steps);
        client.wait_for("here");
        server.signal(Signal::TERM);
        client.go_on();
        assert_eq!(client.end().closed(), Some(NO_ERROR));
        assert!(server.wait().success());
    });
}

#[test]
fn certificates_are_those_of_the_listener_and_renewed_with_them() {
    everywhere(|driver| {
        let (one, two) =
            (trusted().server(&["localhost"], Kind::Ecdsa), trusted().server(&["two.example"], Kind::Ecdsa));
        let site = Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"ok\" }\n")
            .identity("one", &one)
            .identity("two", &two)
            .file("ca.pem", trusted().pem.as_bytes())
            .more(
                "[listener.secure]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n[listener.secure.tls]\n\
                 unknown_names = \"refuse\"\n\
                 certificates = [{ chain = \"$DIR/one.pem\", key = \"$DIR/one.key\" }, \
                 { chain = \"$DIR/two.pem\", key = \"$DIR/two.key\" }]\n",
            );
        let server = site.start();
        let ca = server.folder().join("ca.pem");
        let serial = |name: &str| {
            let settings = json!({ "server_name": name, "ca": ca });
            let seen = run(&server, settings, json!([ask("page", "/")]));
            assert_eq!(seen.answer("page").status(), 200, "{name}");
            seen.0["serial"].as_str().expect("a serial number").to_owned()
        };
        let (first, second) = (serial("localhost"), serial("two.example"));
        assert_ne!(first, second);
        let settings = json!({ "server_name": "three.example" });
        assert_eq!(run(&server, settings, json!([ask("page", "/")])).0["refused"].as_bool(), Some(true));
        let renewed = trusted().server(&["localhost"], Kind::Ecdsa);
        std::fs::write(server.folder().join("one.pem"), &renewed.chain).expect("written");
        std::fs::write(server.folder().join("one.key"), &renewed.key).expect("written");
        server.signal(Signal::HUP);
        eventually("the new certificate", || serial("localhost") != first);
        // A session goes on where an earlier one ended.
        let settings = json!({ "connections": 2, "server_name": "localhost" });
        let seen = run(&server, settings, json!([ask("page", "/"), { "op": "ping" }, { "op": "resume" }]));
        assert_eq!(seen.0["resumed"].as_bool(), Some(true));
        assert!(server.metric("one_server_tls_resumed_total", "") >= 1.0);
    });
}

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

#[test]
fn reloads_under_load_cost_no_request_and_no_connection() {
    const RELOADS: u32 = 20;
    let upstream = echo();
    everywhere(|driver| {
        let rest = format!(
            "[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n\
             [upstream.up]\nhealth = false\nservers = [\"{}\"]\n",
            upstream.address
        );
        let server = Site::new(
            driver,
            &format!(
                "[site.main]\nheaders.set = {{ x-version = \"0\" }}\n\
                 [[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n{rest}"
            ),
        )
        .process(CONTROL)
        .http("keep_alive_requests_max = 0")
        .file("root/page.html", b"<p>page</p>")
        .file("root/large", &pattern(300_000))
        .secure("http3 = true")
        .start();
        let post = json!({ "method": "POST", "content": { "pattern": 40_000 } });
        let requests =
            json!([ask("", "/page.html"), ask("", "/large"), ask("", "/page.html"), ask_with("", "/up/echo", post),]);
        let steps = json!([
            { "op": "load", "name": "loaded", "requests": requests },
            ask("last", "/page.html"),
        ]);
        let mut clients = [begin(&server, json!({}), steps.clone()), begin(&server, json!({}), steps)];
        clients.iter_mut().for_each(|client| client.wait_for("loaded"));
        let serial = || run(&server, json!({}), json!([ask("page", "/page.html")])).0["serial"].clone();
        let before = serial();
        for n in 1..=RELOADS {
            let version = |n: u32| format!("x-version = \"{n}\"");
            if n == RELOADS / 2 {
                let renewed = trusted().server(&["localhost"], Kind::Ecdsa);
                std::fs::write(server.folder().join("server.pem"), &renewed.chain).expect("written");
                std::fs::write(server.folder().join("server.key"), &renewed.key).expect("written");
            }
            server.reload_with(&[(&version(n - 1), &version(n))]);
            // Some requests under each of them.
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_ne!(serial(), before, "new connections get the new certificate");
        clients.iter_mut().for_each(|client| client.go_on());
        for client in clients {
            let seen = client.end();
            let load = &seen.0["load"];
            assert_eq!(load["bad"], json!([]), "{driver:?}");
            assert!(load["answers"].as_u64() > Some(40), "{driver:?}: that was no load: {load}");
            assert!(load["versions"].as_array().is_some_and(|seen| seen.len() > 3), "{driver:?}: {load}");
            assert_eq!(seen.answer("last").field("x-version"), Some(RELOADS.to_string()));
            assert_eq!((seen.closed(), seen.goaways()), (None, vec![]), "{driver:?}");
        }
        // Both of the load, and two that asked for the certificate.
        assert_eq!(server.metric("one_server_http3_connections_total", ""), 4.0);
        assert_eq!(server.metric("one_server_http3_dropped_total", ""), 0.0);
    });
}

#[test]
fn a_reload_switches_it_on_and_off() {
    let upstream = FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(2));
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::Keep
    });
    everywhere(|driver| {
        let rest = format!(
            "[[site.main.route]]\npath = \"/slow\"\nproxy = \"up\"\n\
             [upstream.up]\nhealth = false\nservers = [\"{}\"]\n",
            upstream.address
        );
        let server = small(driver, &rest).process(CONTROL).start();
        let address = server.address("secure");
        let alt_svc = || tools::curl("https", address, "/page.html", &[]).field("alt-svc").map(str::to_owned);
        let works = || run(&server, json!({}), json!([ask("page", "/page.html")])).answer("page").status() == 200;
        let is_free = || UdpSocket::bind(address).is_ok();
        let (on, off) = ("http3 = true", "http3 = false");
        assert!(works() && alt_svc().is_some());
        let idle =
            |name: &str| json!([ask("page", "/page.html"), { "op": "signal", "name": name }, { "op": "closed" }]);
        let steps = json!([
            ask_with("slow", "/slow", json!({ "waits": false })),
            { "op": "ping" },
            { "op": "signal", "name": "here" },
            { "op": "wait", "name": "slow" },
            { "op": "closed" },
        ]);
        let clients = || {
            let mut clients = [begin(&server, json!({}), steps.clone()), begin(&server, json!({}), idle("here"))];
            clients.iter_mut().for_each(|client| client.wait_for("here"));
            eventually("it is under way", || server.metric("one_server_upstream_requests_active", "") == 1.0);
            clients
        };
        let end = |clients: [Running; 2]| {
            let [mut busy, mut idle] = clients;
            busy.go_on();
            idle.go_on();
            let (busy, idle) = (busy.end(), idle.end());
            assert_eq!((busy.answer("slow").status(), busy.answer("slow").text()), (200, "ok".into()), "{driver:?}");
            assert_eq!((busy.closed(), busy.goaways()), (Some(NO_ERROR), vec![(1 << 62) - 4, 4]), "{driver:?}");
            assert_eq!(idle.closed(), Some(NO_ERROR), "{driver:?}");
        };

        // Off, while a request is under way.
        let before = clients();
        assert!(server.reload_with(&[(on, off)]).contains(&address.to_string()));
        assert_eq!(alt_svc(), None);
        end(before);
        eventually("the port is free", is_free);

        // On.
        assert!(server.reload_with(&[(off, on)]).contains(&address.to_string()));
        assert!(works() && alt_svc().is_some());

        // Off and on again at once: old connections end, new ones do not.
        let before = clients();
        server.reload_with(&[(on, off)]);
        server.reload_with(&[(off, on)]);
        let mut after = begin(
            &server,
            json!({}),
            json!([
                ask("page", "/page.html"), { "op": "signal", "name": "here" }, ask("again", "/page.html"),
            ]),
        );
        after.wait_for("here");
        end(before);
        after.go_on();
        let after = after.end();
        assert_eq!((after.answer("again").status(), after.closed()), (200, None), "{driver:?}");
        assert!(works());

        // The listener goes; another one comes.
        let before = clients();
        server.reload_with(&[("[listener.secure]", "[listener.other]")]);
        let line = server.wait_for_line("the new port", |line| line.contains("name=other kind=http3"));
        let other =
            line.split_once("address=").and_then(|(_, address)| address.trim().parse().ok()).expect("an address");
        end(before);
        eventually("the port is free", is_free);
        let seen = begin_at(other, json!({}), json!([ask("page", "/page.html")])).end();
        assert_eq!(seen.answer("page").status(), 200, "{driver:?}");
    });
}

#[test]
fn a_port_that_another_program_has_is_a_refused_reload() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {}\n")
            .process(CONTROL)
            .secure("http3 = false")
            .start();
        let address = server.address("secure");
        let taken = UdpSocket::bind(address).expect("nobody has it");
        server.edit(&[("http3 = false", "http3 = true")]);
        assert!(server.ctl_fails(&["reload"]).contains("secure, HTTP/3 over UDP"));
        drop(taken);
        server.ctl_ok(&["reload"]);
        assert!(tools::curl("https", address, "/", &[]).field("alt-svc").is_some());
    });
}

#[test]
fn answers_are_changed_and_leave_at_their_rate() {
    everywhere(|driver| {
        let route = "[[site.main.route]]\npath = \"/changed\"\nfiles = { root = \"$DIR/root\", strip_prefix = \"/changed\" }\n\
                     substitute = { once = false, texts = { page = \"sheet\" } }\n\
                     [[site.main.route]]\npath = \"/paced\"\nfiles = { root = \"$DIR/root\", strip_prefix = \"/paced\" }\n\
                     limit_rate = \"50KB\"\n";
        let server = small(driver, route).file("root/paced", &pattern(100_000)).start();
        let steps = json!([ask("changed", "/changed/page.html"), ask("paced", "/paced/paced")]);
        let seen = run(&server, json!({}), steps);
        assert_eq!(seen.answer("changed").text(), "<p>sheet</p>");
        let paced = seen.answer("paced");
        assert_eq!((paced.status(), paced.sha256()), (200, sha256(&pattern(100_000))));
        assert!((1.5..6.0).contains(&paced.seconds()), "{driver:?}: {}", paced.seconds());
    });
}

#[test]
fn no_field_upgrades_a_stream_and_a_plain_connect_is_refused() {
    let upstream = echo();
    everywhere(|driver| {
        let server = start(driver, &upstream);
        // RFC 9114 section 4.2: such a field has no place in HTTP/3. Extended CONNECT has tests of its own, in websocket.rs.
        let steps = json!([
            ask_with("field", "/up/echo", json!({ "fields": [["upgrade", "websocket"]] })),
            ask_with("connect", "/up/echo", json!({ "method": "CONNECT" })),
            ask("after", "/page.html"),
        ]);
        let seen = run(&server, json!({}), steps);
        assert_eq!(seen.answer("field").reset(), Some(MESSAGE_ERROR));
        let connect = seen.answer("connect");
        assert!(connect.reset().is_some() || connect.status() >= 400, "{}", seen.0);
        assert_eq!(seen.answer("after").status(), 200);
    });
}

#[test]
fn client_certificates_are_asked_for() {
    everywhere(|driver| {
        let client = trusted().client("jo");
        let site = Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"$ssl_client_verify $ssl_client_s_dn\" }\n")
            .identity("client", &client)
            .secure("http3 = true\ntls.client_certificates = \"required\"\ntls.client_ca = \"$DIR/ca.pem\"");
        let server = site.start();
        let (certificate, key) = (server.folder().join("client.pem"), server.folder().join("client.key"));
        let ask_host = json!([ask_with("page", "/", json!({ "authority": "localhost" }))]);
        let seen = run(&server, json!({ "certificate": certificate, "key": key }), ask_host.clone());
        assert_eq!(seen.answer("page").text(), "SUCCESS CN=jo");
        let seen = run(&server, json!({}), json!([{ "op": "closed" }]));
        assert!(seen.0["closed"]["code"].as_u64().is_some_and(|code| code >= 0x100), "{}", seen.0);
    });
}

#[test]
fn a_udp_port_that_is_taken_is_told_at_the_start() {
    // Free for TCP, which is asked for first.
    let port = free_port();
    let _taken = UdpSocket::bind(("127.0.0.1", port)).expect("a socket");
    let site = Site::new(Driver::Epoll, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {}\n")
        .secure("http3 = true");
    let config = site.write_config();
    let text = std::fs::read_to_string(&config).expect("the config");
    let text = text.replace(
        "[listener.secure]\naddress = \"127.0.0.1:0\"",
        &format!("[listener.secure]\naddress = \"127.0.0.1:{port}\""),
    );
    std::fs::write(&config, text).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["run", "-c"])
        .arg(&config)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("secure, HTTP/3 over UDP"), "{told}");
}

/// The first packet of a client, made by `quinn-proto`.
mod hello {
    use std::sync::Arc;
    use std::time::Instant;

    use quinn_proto::crypto::rustls::QuicClientConfig;
    use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};

    use super::support::tls::trusted;

    /// Another one each time.
    pub(super) fn initial() -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(trusted().roots())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a client")));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let now = Instant::now();
        let server = "127.0.0.1:443".parse().expect("an address");
        let (_, mut connection) = endpoint.connect(now, config, server, "localhost").expect("a connection");
        let mut bytes = Vec::new();
        let transmit = connection.poll_transmit(now, 1, &mut bytes).expect("a packet");
        bytes.truncate(transmit.size);
        bytes
    }
}
