//! Trailers (RFC 9110 section 6.5) between all versions of HTTP, at the real binary: what stands behind the content goes on to
//! whoever reads it, is never mixed with the header, and frames nothing. Clients are raw sockets, curl, nghttp, h2 and aioquic;
//! servers scripted ones, Node, and HAProxy is asked the same.

mod support;

use std::process::Command;

use serde_json::json;
use support::fake_http2::FakeHttp2;
use support::frames::{self, Block, END_HEADERS, END_STREAM, data, headers};
use support::haproxy::HaProxy;
use support::http2::{H2Client, Over, Reply, ask, block_on};
use support::http3::{self, sha256};
use support::real::{Kind, Real};
use support::tools::values;
use support::upstream::Then;
use support::*;

/// What a server says behind its content: what goes on, and what does not.
const MIXED: &str = "X-Sum: 1\r\nSet-Cookie: a=1\r\nContent-Length: 99\r\nX-Sum: 2\r\nConnection: close\r\nTransfer-Encoding: gzip\r\n\
                     X-Forwarded-For: 6.6.6.6\r\nServer-Timing: db;dur=5\r\nHost: evil\r\n";

fn site(address: std::net::SocketAddr, keys: &str) -> String {
    format!(
        "[site.main]\nroute = [{{ path = \"/\", proxy = \"up\" }}]\n\
         [upstream.up]\nservers = [\"{address}\"]\nhealth = false\n{keys}\n"
    )
}

/// A server whose content is `hello`, with trailers behind it as the path says.
fn scripted() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        let (fields, trailers) = match exchange.request.target.as_str() {
            "/mixed" => ("Trailer: X-Sum, Server-Timing\r\n", MIXED.to_owned()),
            "/good" => ("Trailer: X-Sum\r\n", "X-Sum: 1\r\nServer-Timing: db;dur=5\r\n".to_owned()),
            "/none" => ("", String::new()),
            "/bad-only" => ("", "Set-Cookie: a=1\r\nHost: evil\r\n".to_owned()),
            "/large" => ("", format!("X-Large: {}\r\n", "x".repeat(10_000))),
            "/too-large" => ("", format!("X-Large: {}\r\n", "x".repeat(40_000))),
            "/too-many" => ("", "X: y\r\n".repeat(200)),
            "/malformed" => ("", "X-Sum : 1\r\n".to_owned()),
            "/folded" => ("", "X-Sum: 1\r\n 2\r\n".to_owned()),
            "/control" => ("", "X-Sum: 1\x0b2\r\n".to_owned()),
            "/text" => {
                ("Content-Type: text/html\r\n", "X-Sum: 1\r\nContent-Digest: sha-256=:x:\r\nETag: \"a\"\r\n".to_owned())
            }
            "/error" => {
                exchange.send(format!(
                    "HTTP/1.1 500 No\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n{MIXED}\r\n"
                ));
                return Then::Keep;
            }
            _ => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
                return Then::Keep;
            }
        };
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        ));
        Then::Keep
    })
}

fn get_with_te(path: &str) -> String {
    request("GET", path, &["TE: trailers", "Connection: TE"], "")
}

fn pairs(trailers: &[(String, String)]) -> Vec<(&str, &str)> {
    trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// What a client of HTTP/2 gets; `Err`: a stream that was reset.
fn get_over_http2(server: &Server, paths: &[&str]) -> Vec<Result<Reply, h2::Error>> {
    block_on(async {
        let client = H2Client::connect(server, Over::Clear).await;
        let mut replies = Vec::new();
        for path in paths {
            replies.push(client.try_ask(ask("GET", path, &[]), b"").await);
        }
        replies
    })
}

fn trailers_of(reply: &Reply) -> Vec<(&str, &str)> {
    let fields = reply.trailers.iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
}

/// RFC 9110 sections 6.5.1, 6.6.2 and 10.1.4, RFC 9112 section 7.1.2.
#[test]
fn a_client_of_http1_gets_them_if_it_says_that_it_reads_them() {
    with_both_drivers(|driver| {
        let upstream = scripted();
        let server = Site::new(driver, &site(upstream.address, "")).start();
        let mut client = server.connect();
        let answer = client.ask(get_with_te("/mixed"));
        let expect = [("x-sum", "1"), ("x-sum", "2"), ("server-timing", "db;dur=5")];
        assert_eq!((answer.text().as_str(), pairs(&answer.trailers)), ("hello", expect.to_vec()), "{driver:?}");
        assert_eq!(values(&answer, "trailer"), ["X-Sum, Server-Timing"], "{driver:?}");
        for kept_apart in ["x-sum", "server-timing", "set-cookie", "x-forwarded-for"] {
            assert!(values(&answer, kept_apart).is_empty(), "{driver:?} {kept_apart}: {:?}", answer.fields);
        }
        let asked = upstream.last();
        assert_eq!((asked.field("te"), asked.field("connection")), (Some("trailers"), Some("TE")), "{driver:?}");
        // The connections on both sides go on behind them.
        for path in ["/none", "/bad-only", "/plain"] {
            let answer = client.ask(get_with_te(path));
            assert_eq!((answer.status, answer.trailers.len()), (200, 0), "{driver:?} {path}");
        }
        let large = client.ask(get_with_te("/large"));
        assert_eq!(large.trailers[0].1.len(), 10_000, "{driver:?}");
        // One that has not said so, or says so in another way.
        for te in [&[][..], &["TE: gzip", "Connection: TE"], &["TE:"]] {
            let answer = client.ask(request("GET", "/mixed", te, ""));
            assert_eq!((answer.text().as_str(), answer.trailers.len()), ("hello", 0), "{driver:?} {te:?}");
            assert_eq!(answer.field("trailer"), None, "{driver:?} {te:?}");
            assert_eq!(upstream.last().field("te"), None, "{driver:?} {te:?}");
        }
        let answer = client.ask(request("HEAD", "/mixed", &["TE: trailers", "Connection: TE"], ""));
        assert_eq!((answer.status, answer.trailers.len()), (200, 0), "{driver:?}");
        let mut old = server.connect();
        old.send("GET /mixed HTTP/1.0\r\nHost: test\r\nTE: trailers\r\n\r\n");
        let (bytes, _) = old.read_to_end();
        assert!(bytes.ends_with(b"\r\n\r\nhello"), "{driver:?}: {}", String::from_utf8_lossy(&bytes));
        assert_eq!(
            upstream.connections(),
            2,
            "{driver:?}: HEAD leaves a body behind that nobody asked for, the others nothing"
        );
    });
}

/// RFC 9113 section 8.1, RFC 9114 section 4.1: there is a place for them behind any content.
#[test]
fn clients_of_http2_and_http3_get_them() {
    with_both_drivers(|driver| {
        let upstream = scripted();
        let server = Site::new(driver, &site(upstream.address, "")).secure("http3 = true").start();
        let expect = [["x-sum", "1"], ["x-sum", "2"], ["server-timing", "db;dur=5"]];
        let replies = get_over_http2(&server, &["/mixed", "/none", "/bad-only", "/plain"]);
        let replies: Vec<Reply> = replies.into_iter().map(|reply| reply.expect("an answer")).collect();
        assert_eq!(
            replies.iter().map(Reply::text).collect::<Vec<_>>(),
            ["hello", "hello", "hello", "plain"],
            "{driver:?}"
        );
        assert_eq!(trailers_of(&replies[0]), expect.map(|[name, value]| (name, value)), "{driver:?}");
        assert_eq!(replies[0].field("trailer"), Some("X-Sum, Server-Timing"), "{driver:?}");
        assert!(replies[1..].iter().all(|reply| reply.trailers.is_none()), "{driver:?} {replies:?}");
        if http3::python().is_some() {
            let steps =
                json!([http3::ask("mixed", "/mixed"), http3::ask("none", "/none"), http3::ask("plain", "/plain")]);
            let seen = http3::run(&server, json!({}), steps);
            assert_eq!(seen.answer("mixed").trailers(), expect, "{driver:?}");
            assert_eq!(
                (seen.answer("mixed").text(), seen.answer("mixed").field("trailer").as_deref()),
                ("hello".into(), Some("X-Sum, Server-Timing"))
            );
            assert!(seen.answer("none").trailers().is_empty() && seen.answer("none").is_whole(), "{driver:?}");
            assert!(seen.answer("plain").trailers().is_empty() && seen.answer("plain").is_whole(), "{driver:?}");
        }
        // Clients that are none of ours.
        let curled = Command::new("curl")
            .args(["-sk", "--http2", "-D-", "--max-time", "20", &format!("https://{}/mixed", server.address("secure"))])
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&curled.stdout).into_owned();
        assert!(text.ends_with("x-sum: 1\r\nx-sum: 2\r\nserver-timing: db;dur=5\r\n"), "{driver:?} {text}");
        if has_program("nghttp") {
            let told =
                Command::new("nghttp").args(["-v", "-t", "20", &format!("http://{}/mixed", server.web())]).output();
            let text = String::from_utf8_lossy(&told.expect("nghttp runs").stdout).into_owned();
            let sums = text.lines().filter(|line| line.contains("x-sum: ")).count();
            assert_eq!(sums, 2, "{driver:?} {text}");
        }
    });
}

/// Malformed or beyond the limits of heads: an answer that has begun breaks off, and nobody takes it for whole.
#[test]
fn answers_with_bad_trailers_break_off() {
    with_both_drivers(|driver| {
        let upstream = scripted();
        let server = Site::new(driver, &site(upstream.address, "tries = 1")).start();
        for path in ["/malformed", "/folded", "/control", "/too-large", "/too-many"] {
            for te in [true, false] {
                let mut client = server.connect();
                client.send(if te { get_with_te(path) } else { get(path) });
                let (bytes, _) = client.read_to_end();
                let text = String::from_utf8_lossy(&bytes);
                assert!(
                    !text.contains("\r\n0\r\n") && !text.to_lowercase().contains("x-sum"),
                    "{driver:?} {path} {text}"
                );
            }
            let reply = get_over_http2(&server, &[path]).remove(0);
            assert!(reply.is_err(), "{driver:?} {path}: a stream that breaks off is reset: {reply:?}");
        }
        assert_eq!(server.connect().ask(get("/plain")).text(), "plain", "{driver:?}");
    });
}

/// What is sent in the place of an answer has none; what is coded keeps those that do not tell of its bytes.
#[test]
fn trailers_stay_behind_what_is_coded_and_go_with_what_is_replaced() {
    with_both_drivers(|driver| {
        let upstream = scripted();
        let rest = format!(
            "[site.main]\nroute = [{{ path = \"/text\", proxy = \"up\", compress = {{ min = \"1B\" }} }}, {{ path = \"/\", proxy = \"up\", \
             intercept_errors = true, error_pages = {{ 500 = \"/own\" }} }}, {{ exact = \"/own\", respond = {{ body = \"ours\" }} }}]\n\
             [upstream.up]\nservers = [\"{}\"]\nhealth = false\n",
            upstream.address
        );
        let server = Site::new(driver, &rest).start();
        let mut client = server.connect();
        let coded =
            client.ask(request("GET", "/text", &["TE: trailers", "Connection: TE", "Accept-Encoding: gzip"], ""));
        assert_eq!(coded.field("content-encoding"), Some("gzip"), "{driver:?}");
        assert_eq!(support::tools::decode("gzip", &coded.body).expect("gzip"), b"hello", "{driver:?}");
        assert_eq!(pairs(&coded.trailers), [("x-sum", "1")], "{driver:?}");
        let plain = client.ask(get_with_te("/text"));
        let all = [("x-sum", "1"), ("content-digest", "sha-256=:x:"), ("etag", "\"a\"")];
        assert_eq!(pairs(&plain.trailers), all, "{driver:?}");
        let replaced = client.ask(get_with_te("/error"));
        assert_eq!(
            (replaced.status, replaced.text().as_str(), replaced.trailers.len()),
            (500, "ours", 0),
            "{driver:?}"
        );
        assert_eq!(replaced.field("trailer"), None, "{driver:?}");
        let replaced = get_over_http2(&server, &["/error"]).remove(0).expect("an answer");
        assert_eq!((replaced.status, replaced.trailers), (500, None), "{driver:?}");
    });
}

fn post_with(path: &str, fields: &[&str], content: &str, trailers: &str) -> String {
    let fields = [&["Transfer-Encoding: chunked"][..], fields].concat();
    let chunk = if content.is_empty() { String::new() } else { format!("{:x}\r\n{content}\r\n", content.len()) };
    request("POST", path, &fields, "") + &chunk + "0\r\n" + trailers + "\r\n"
}

#[test]
fn those_of_a_request_go_on_to_a_server_of_http1() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::new(driver, &site(upstream.address, "")).http("body_max = \"10MiB\"").start();
        let mut client = server.connect();
        let expect = [("x-sum", "1"), ("x-sum", "2"), ("server-timing", "db;dur=5")];
        // Small ones are kept until they go; large ones are streamed.
        let large = "x".repeat(300_000);
        for content in ["hello", "", &large] {
            let answer = client.ask(post_with("/", &["Trailer: X-Sum"], content, MIXED));
            assert_eq!(answer.text(), format!("{} bytes", content.len()), "{driver:?}");
            let seen = upstream.last();
            assert_eq!(pairs(&seen.trailers), expect, "{driver:?} {} bytes", content.len());
            assert_eq!((seen.field("trailer"), seen.field("transfer-encoding")), (Some("X-Sum"), Some("chunked")));
            for kept_apart in ["x-sum", "set-cookie", "server-timing"] {
                assert!(seen.values(kept_apart).is_empty(), "{driver:?} {kept_apart}: {:?}", seen.fields);
            }
            assert_eq!(seen.values("host"), ["test"], "{driver:?}");
            assert!(!seen.values("x-forwarded-for").concat().contains("6.6.6.6"), "{driver:?}");
        }
        // Of those that may not go on nothing is left, and a short content has a length as ever.
        client.ask(post_with("/", &["Trailer: Host"], "hello", "Host: evil\r\nContent-Length: 1\r\n"));
        let seen = upstream.last();
        assert_eq!(
            (seen.trailers.len(), seen.field("content-length"), seen.field("trailer")),
            (0, Some("5"), None),
            "{driver:?}"
        );
        assert_eq!(upstream.connections(), 1, "{driver:?}");
        // From HTTP/2.
        let reply = block_on(async {
            let client = H2Client::connect(&server, Over::Clear).await;
            let mut exchange = client.begin(ask("POST", "/", &[("trailer", "x-sum")]), false).await.expect("a stream");
            exchange.send("up", false).await.expect("a window");
            let trailers = [("x-sum", "3"), ("set-cookie", "a=1")]
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            exchange
                .stream
                .as_mut()
                .expect("a stream")
                .send_trailers(trailers.into_iter().collect())
                .expect("a stream");
            exchange.reply().await.expect("an answer")
        });
        assert_eq!(reply.text(), "2 bytes", "{driver:?}");
        assert_eq!(pairs(&upstream.last().trailers), [("x-sum", "3")], "{driver:?}");
    });
}

#[test]
fn they_go_between_http1_and_servers_of_http2() {
    with_both_drivers(|driver| {
        // Says behind its answer what came behind the request: the number of frames of fields.
        let upstream = FakeHttp2::start(&[], |peer| {
            let (mut heads, mut bytes) = (0, 0);
            while let Some(frame) = peer.next() {
                heads += usize::from(frame.kind == frames::HEADERS);
                bytes += if frame.kind == frames::DATA { frame.payload.len() } else { 0 };
                if frame.kind == frames::RST_STREAM || !frame.has(END_STREAM) {
                    continue;
                }
                let id = frame.stream_id;
                let head = Block::default().field(":status", "200").field("trailer", "x-heads");
                peer.send([headers(id, END_HEADERS, &head), data(id, 0, bytes.to_string())].concat());
                let trailers = Block::default().field("x-heads", heads.to_string()).field("set-cookie", "a=1");
                peer.send(headers(id, END_HEADERS | END_STREAM, &trailers));
                (heads, bytes) = (0, 0);
            }
        });
        let server = Site::new(driver, &site(upstream.address, "protocol = \"h2\"")).one_worker().start();
        let mut client = server.connect();
        let te = ["TE: trailers", "Connection: TE"];
        // Within the first window of that server.
        let large = "x".repeat(60_000);
        for (content, trailers, heads) in [
            ("hello", "X-Sum: 1\r\n", "2"),
            ("hello", "", "1"),
            ("", "X-Sum: 1\r\n", "2"),
            (&large, "X-Sum: 1\r\n", "2"),
            ("hello", "Host: a\r\n", "1"),
        ] {
            let answer = client.ask(post_with("/", &te, content, trailers));
            assert_eq!(answer.text(), content.len().to_string(), "{driver:?}");
            assert_eq!(
                pairs(&answer.trailers),
                [("x-heads", heads)],
                "{driver:?} {} bytes, {trailers:?}",
                content.len()
            );
            assert_eq!(answer.field("trailer"), Some("x-heads"), "{driver:?}");
        }
        let answer = client.ask(post_with("/", &[], "hello", "X-Sum: 1\r\n"));
        assert_eq!((answer.text().as_str(), answer.trailers.len()), ("5", 0), "{driver:?}: nobody asked for them");
    });
}

/// The first server of a request is not there. A route with a name gets the request as it is, a page is asked for without content.
#[test]
fn those_of_a_request_go_with_its_content_to_the_route_that_stands_in() {
    with_both_drivers(|driver| {
        let heads = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = heads.clone();
        let upstream = FakeHttp2::start(&[], move |peer| {
            while let Some(frame) = peer.next() {
                if frame.kind == frames::HEADERS {
                    seen.lock().expect("a lock").push(frame.has(END_STREAM));
                }
                if frame.has(END_STREAM) {
                    peer.answer(frame.stream_id, "instead");
                }
            }
        });
        let site = format!(
            "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"gone\"\nerror_pages = {{ 502 = \"@second\" }}\n\
             [[site.main.route]]\nexact = \"/form\"\nproxy = \"gone\"\nerror_pages = {{ 502 = \"/sorry\" }}\n\
             [[site.main.route]]\nexact = \"/sorry\"\nproxy = \"up\"\n[[site.main.route]]\nname = \"second\"\nproxy = \"up\"\n\
             [upstream.gone]\nservers = [\"{}\"]\nhealth = false\ntries = 1\n\
             [upstream.up]\nservers = [\"{}\"]\nhealth = false\nprotocol = \"h2\"\n",
            ports::free_address(),
            upstream.address
        );
        let server = Site::new(driver, &site).one_worker().start();
        let mut client = server.connect();
        let mut over_http1 = |path: &str| {
            assert_eq!(
                client.ask(post_with(path, &[], "hello", "X-Sum: 1\r\n")).text(),
                "instead",
                "{driver:?} {path}"
            );
        };
        let over_http2 = |path: &str| {
            let reply = block_on(async {
                let client = H2Client::connect(&server, Over::Clear).await;
                let mut exchange = client.begin(ask("POST", path, &[]), false).await.expect("a stream");
                exchange.send("hello", false).await.expect("a window");
                let trailers = [("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
                exchange.stream.as_mut().expect("a stream").send_trailers(trailers).expect("a stream");
                exchange.reply().await.expect("an answer")
            });
            assert_eq!(reply.text(), "instead", "{driver:?} {path}");
        };
        let taken = || std::mem::take(&mut *heads.lock().expect("a lock"));
        // Each frame of fields: whether the request ends with it.
        over_http1("/");
        assert_eq!(taken(), [false, true], "{driver:?}: with trailers");
        over_http2("/");
        assert_eq!(taken(), [false, true], "{driver:?}: with trailers, from HTTP/2");
        over_http1("/form");
        assert_eq!(taken(), [true], "{driver:?}: without content");
        over_http2("/form");
        assert_eq!(taken(), [true], "{driver:?}: without content, from HTTP/2");
    });
}

/// RFC 9112 section 7.1.2, and the limits of heads; section 11.2: nothing of it is another request.
#[test]
fn malformed_trailers_of_a_request_are_refused() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::new(driver, &site(upstream.address, "")).start();
        let hidden = "GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n";
        let cases = [
            ("X-Sum : 1\r\n", 400),
            ("X-Sum\r\n", 400),
            (": 1\r\n", 400),
            ("X-Sum: 1\r\n 2\r\n", 400),
            (" X-Sum: 1\r\n", 400),
            ("X-Sum: 1\n", 400),
            ("X-Sum: 1\n\n", 400),
            ("X-Sum: 1\rX: 2\r\n", 400),
            ("X-Sum: a\0b\r\n", 400),
            ("X-S\u{e9}m: 1\r\n", 400),
            ("GET /hidden HTTP/1.1\r\n", 400),
            (&"X: y\r\n".repeat(200), 431),
            (&format!("X: {}\r\n", "y".repeat(40_000)), 431),
        ];
        for (trailers, status) in cases {
            for path in ["/", "/other"] {
                let mut client = server.connect();
                let answer = client.ask(post_with(path, &[], "hello", trailers) + hidden);
                assert_eq!((answer.status, answer.is_last()), (status, true), "{driver:?} {trailers:.30?}");
            }
        }
        // Framing in trailers is no framing.
        let mut client = server.connect();
        client.send(
            post_with("/", &[], "hello", "Content-Length: 1000\r\nTransfer-Encoding: chunked\r\n") + &get("/next"),
        );
        assert_eq!(
            (client.response("POST").text(), client.response("GET").text()),
            ("5 bytes".into(), "0 bytes".into())
        );
        assert_eq!((upstream.count("/hidden"), upstream.count("/next")), (0, 1), "{driver:?}");
    });
}

/// A request and its trailers byte by byte, through a server that is not ours.
#[test]
fn node_reads_those_of_the_client_and_writes_its_own() {
    if !Kind::Node.is_installed() {
        return;
    }
    with_both_drivers(|driver| {
        let real = Real::start(Kind::Node);
        let server = Site::new(driver, &site(real.address, "")).secure("").start();
        let digest = sha256(b"hello");
        let mut client = server.connect();
        let whole = post_with(
            "/trailers",
            &["TE: trailers", "Connection: TE", "Trailer: X-From"],
            "hello",
            "X-From: client\r\nHost: evil\r\n",
        );
        client.send_bytewise(whole.as_bytes());
        let answer = client.response("POST");
        assert_eq!(answer.text(), "hello", "{driver:?}");
        assert_eq!(
            pairs(&answer.trailers),
            [("x-digest", &*digest), ("x-got", "{\"x-from\":\"client\"}")],
            "{driver:?}"
        );
        // A client that stops in the middle of its trailers.
        let mut other = server.connect();
        other.send(&whole.as_bytes()[..whole.len() - 12]);
        other.finish_sending();
        let (bytes, _) = other.read_to_end();
        assert!(!bytes.starts_with(b"HTTP/1.1 200"), "{driver:?}: {}", String::from_utf8_lossy(&bytes));
        let reply = get_over_http2(&server, &["/trailers"]).remove(0).expect("an answer");
        assert_eq!(
            trailers_of(&reply).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["x-digest", "x-got"],
            "{driver:?}"
        );
        // curl reads them over HTTP/1.1 as well.
        let mut command = Command::new("curl");
        let url = format!("http://{}/trailers", server.web());
        let told = command.args([
            "-s",
            "-D-",
            "--max-time",
            "20",
            "-H",
            "TE: trailers",
            "-H",
            "Connection: TE",
            "-d",
            "hello",
            &url,
        ]);
        let text = String::from_utf8_lossy(&told.output().expect("curl runs").stdout).into_owned();
        assert!(text.contains(&format!("x-digest: {digest}\r\n")), "{driver:?} {text}");
    });
}

/// HAProxy passes trailers on as well, where none of them is forbidden: it refuses an answer that has such.
#[test]
fn as_haproxy_does_it() {
    let upstream = scripted();
    let Some(haproxy) = HaProxy::start(&format!(
        "frontend web\n  bind $LISTEN\n  default_backend up\nbackend up\n  server one {}\n",
        upstream.address
    )) else {
        return;
    };
    let server = Site::new(Driver::Auto, &site(upstream.address, "")).start();
    for path in ["/good", "/none", "/plain"] {
        let theirs = Client::connect(haproxy.address).ask(get_with_te(path));
        let ours = server.connect().ask(get_with_te(path));
        let lower = |trailers: &[(String, String)]| -> Vec<(String, String)> {
            trailers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
        };
        assert_eq!((ours.text(), lower(&ours.trailers)), (theirs.text(), lower(&theirs.trailers)), "{path}");
    }
    for (address, whose) in [(haproxy.address, "theirs"), (server.web(), "ours")] {
        let answer = Client::connect(address).ask(post_with("/plain", &["Trailer: X-Sum"], "hello", "X-Sum: 1\r\n"));
        assert_eq!(answer.text(), "plain", "{whose}");
        assert_eq!(pairs(&upstream.last().trailers), [("x-sum", "1")], "{whose}");
    }
}
