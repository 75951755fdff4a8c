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
    Site::new(driver, &format!("[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n{rest}"))
        .file("root/page.html", b"<p>page</p>")
        .file("root/big", &pattern(3_000_017))
        .secure("http3 = true")
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
            for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"] {
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
