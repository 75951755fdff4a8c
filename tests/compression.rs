//! Content codings at the real binary: whatever an answer is made of, what the client decodes is what was there, byte by
//! byte; nothing is held back, completed, or coded that must not be. Source: RFC 9110 (sections 8.4, 8.8.3, 12.5.3,
//! 12.5.5, 13.1, 14), RFC 9112 section 8.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use support::client::{NoResponse, timed};
use support::frames::{Block, Http2, Outcome, WHOLE, headers};
use support::tools::{curl, decode, decode_begun, text_of, values};
use support::upstream::Then;
use support::*;

const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

fn accepting(path: &str, coding: &str) -> String {
    request("GET", path, &[&format!("Accept-Encoding: {coding}")], "")
}

/// An upstream that sends `text` in the framing its target names.
fn framed(text: Vec<u8>) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        let target = exchange.request.target.clone();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"up\"\r\n";
        if target.contains("chunked") {
            exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            for piece in text.chunks(7000) {
                exchange.send(format!("{:x}\r\n", piece.len()));
                exchange.send(piece);
                exchange.send("\r\n");
            }
            exchange.send("0\r\n\r\n");
            return Then::Keep;
        }
        if target.contains("until-close") {
            exchange.send(format!("{head}Connection: close\r\n\r\n"));
            exchange.send(&text);
            return Then::Close;
        }
        exchange.send(format!("{head}Content-Length: {}\r\n\r\n", text.len()));
        if exchange.request.method != "HEAD" {
            exchange.send(&text);
        }
        Then::Keep
    })
}

fn with_upstream(upstream: &FakeUpstream, rest: &str) -> String {
    format!("{rest}\n[upstream.up]\nservers = [\"{}\"]\nhealth = false\n", upstream.address)
}

#[test]
fn answers_of_every_origin_come_back_byte_by_byte() {
    let text = text_of(150_000);
    let upstream = framed(text.clone());
    let constant = String::from_utf8(text_of(3000)).expect("text").replace('\n', " ");
    let rest = with_upstream(
        &upstream,
        &format!(
            r#"
[http.compress]
cache_file_max = "100KiB"
[site.main]
route = [
  {{ path = "/", files = "$DIR/root" }},
  {{ path = "/up/", proxy = "up" }},
  {{ path = "/app/", app = "hello", compress = {{ min = 1 }} }},
  {{ path = "/respond", respond = {{ body = "{constant}" }} }},
  {{ path = "/listing/", files = {{ root = "$DIR/root", strip_prefix = "/listing", listing = "html" }} }},
]
[app.hello]
"#
        ),
    );
    with_both_drivers(|driver| {
        let mut site = Site::new(driver, &rest)
            .file("root/small.html", &text[..2000])
            .file("root/middle.html", &text[..90_000])
            .file("root/large.html", &text);
        for n in 0..60 {
            site = site.file(&format!("root/many/file-number-{n}.txt"), b"");
        }
        let server = site.start();
        let plain = |path: &str| server.connect().ask(get(path)).body;
        for coding in CODINGS {
            for path in [
                "/small.html",
                "/middle.html",
                "/large.html",
                "/up/length",
                "/up/chunked",
                "/up/until-close",
                "/app/x",
                "/respond",
                "/listing/many/",
            ] {
                let what = format!("{driver:?} {coding} {path}");
                let expect = if path == "/app/x" { Vec::new() } else { plain(path) };
                let is_right = |body: &[u8]| match path {
                    "/app/x" => body.starts_with(b"hello from application worker"),
                    _ => body == expect,
                };
                let mut client = server.connect();
                // Twice on one connection: the end of the first is where the second begins.
                for _ in 0..2 {
                    let response = client.ask(accepting(path, coding));
                    assert_eq!(response.status, 200, "{what}");
                    assert_eq!(response.field("content-encoding"), Some(coding), "{what}");
                    assert_eq!(response.field("vary"), Some("Accept-Encoding"), "{what}");
                    assert!(is_right(&decode(coding, &response.body).expect(&what)), "{what}");
                    assert!(path == "/app/x" || response.body.len() < expect.len() / 2, "{what}");
                }
                let old = format!("GET {path} HTTP/1.0\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n");
                let response = server.connect().ask(old);
                assert_eq!(response.field("content-encoding"), Some(coding), "{what} HTTP/1.0");
                assert!(is_right(&decode(coding, &response.body).expect(&what)), "{what} HTTP/1.0");
                let mut http2 = Http2::connect(server.web());
                http2.send(headers(1, WHOLE, &Block::get(path).field("accept-encoding", coding)));
                let answer = http2.answer(1);
                assert_eq!(answer.status, 200, "{what} HTTP/2");
                assert!(is_right(&decode(coding, &answer.body).expect(&what)), "{what} HTTP/2");
            }
        }
    });
}

/// curl decodes with libraries of its own.
#[test]
fn curl_decodes_what_we_code() {
    if !has_program("curl") {
        return;
    }
    let text = text_of(100_000);
    let server =
        Site::new(Driver::Auto, "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = \"$DIR/root\" }]")
            .file("root/a.html", &text)
            .start();
    for protocol in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
        for coding in CODINGS {
            let arguments = [protocol, "--compressed", "-H", &format!("Accept-Encoding: {coding}")];
            let got = curl("http", server.web(), "/a.html", &arguments);
            assert!(got.code == 0 && got.body == text, "{protocol} {coding}: {}", got.code);
            assert_eq!(got.field("content-encoding"), Some(coding), "{protocol}");
        }
    }
}

/// RFC 9110 section 12.5.3. Whatever is chosen, a cache is told that it was a choice.
#[test]
fn the_client_weighs_the_codings() {
    let upstream = framed(text_of(5000));
    let rest = with_upstream(
        &upstream,
        "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = \"$DIR/root\" }, { path = \"/up\", proxy = \"up\" },\n\
         { path = \"/two/\", files = { root = \"$DIR/root\", strip_prefix = \"/two\" }, compress = { codings = [\"gzip\", \"br\"] } }]",
    );
    let server = Site::new(Driver::Auto, &rest).file("root/a.html", &text_of(5000)).start();
    let chosen = |path: &str, lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("Accept-Encoding: {line}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = server.connect().ask(request("GET", path, &lines, ""));
        assert_eq!(response.status, 200, "{lines:?}");
        assert_eq!(values(&response, "vary"), ["Accept-Encoding"], "{path} {lines:?}");
        response.field("content-encoding").unwrap_or("-").to_owned()
    };
    for (lines, expect) in [
        (&[][..], "-"),
        (&[""], "-"),
        (&["identity"], "-"),
        (&["deflate"], "-"),
        (&["gzip"], "gzip"),
        (&["GZip"], "gzip"),
        (&["x-gzip"], "gzip"),
        (&["gzip, deflate, br, zstd"], "br"),
        (&["gzip, zstd"], "zstd"),
        (&["*"], "br"),
        (&["br;q=0, *"], "zstd"),
        (&["*;q=0"], "-"),
        (&["gzip;q=0"], "-"),
        (&["gzip;q=0.000, *;q=0"], "-"),
        (&["gzip;q=1.0, br;q=0.5"], "gzip"),
        (&["gzip ; q=0.9 ,\tbr ; q=0.8"], "gzip"),
        (&["gzip;Q=0.9, br;q=0.8"], "gzip"),
        (&["br;q=0.001, gzip;q=0"], "br"),
        (&["identity;q=1, gzip;q=0.5"], "-"),
        (&["gzip;q=0.5, identity;q=0.1"], "gzip"),
        (&["identity;q=0, zstd"], "zstd"),
        (&["gzip;q=0", "zstd"], "zstd"),
        (&["gzip", "br"], "br"),
        (&["gzip;q=nothing, zstd"], "zstd"),
        (&["gzip;q=2"], "-"),
        (&[", ,gzip,"], "gzip"),
        (&["gzippy, brr"], "-"),
    ] {
        assert_eq!(chosen("/a.html", lines), expect, "file {lines:?}");
        assert_eq!(chosen("/up", lines), expect, "proxied {lines:?}");
    }
    assert_eq!(chosen("/two/a.html", &["gzip, deflate, br, zstd"]), "gzip");
    assert_eq!(chosen("/two/a.html", &["zstd"]), "-");
}

/// What is coded already, small, in parts, for keeping as it is, or no text, goes on untouched.
#[test]
fn what_must_not_be_coded_is_not() {
    let text = text_of(5000);
    let served = text.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        let (fields, body): (&str, &[u8]) = match exchange.request.target.as_str() {
            "/small" => ("Content-Type: text/html", &served[..1000]),
            "/png" => ("Content-Type: image/png", &served),
            "/none" => ("X-Type: none", &served),
            "/coded" => ("Content-Type: text/html\r\nContent-Encoding: gzip", &served),
            "/odd-coding" => ("Content-Type: text/html\r\nContent-Encoding: x-own", &served),
            "/no-transform" => ("Content-Type: text/html\r\nCache-Control: public, No-Transform", &served),
            "/digest" => ("Content-Type: text/html\r\nContent-Digest: sha-256=:AA==:", &served),
            "/events" => ("Content-Type: text/event-stream", &served),
            "/partial" => ("Content-Type: text/html\r\nContent-Range: bytes 0-4999/9999", &served),
            "/error" => ("Content-Type: text/html; charset=utf-8", &served),
            other => panic!("{other}"),
        };
        let status = match exchange.request.target.as_str() {
            "/partial" => 206,
            "/error" => 404,
            _ => 200,
        };
        exchange.send(format!("HTTP/1.1 {status} Such\r\n{fields}\r\nContent-Length: {}\r\n\r\n", body.len()));
        exchange.send(body);
        Then::Keep
    });
    let rest = with_upstream(
        &upstream,
        "[site.main]\ncompress = true\nroute = [{ path = \"/\", proxy = \"up\" },\n\
         { path = \"/files/\", files = { root = \"$DIR/root\", strip_prefix = \"/files\" } },\n\
         { path = \"/off/\", files = { root = \"$DIR/root\", strip_prefix = \"/off\" }, compress = false }]",
    );
    let server = Site::new(Driver::Auto, &rest)
        .file("root/a.png", &text)
        .file("root/a.html", &text)
        .file("root/small.html", &text[..1023])
        .file("root/edge.html", &text[..1024])
        .file("root/empty.html", b"")
        .start();
    for (path, own_coding) in [
        ("/small", None),
        ("/png", None),
        ("/none", None),
        ("/coded", Some("gzip")),
        ("/odd-coding", Some("x-own")),
        ("/no-transform", None),
        ("/digest", None),
        ("/events", None),
        ("/partial", None),
        ("/files/a.png", None),
        ("/files/small.html", None),
        ("/files/empty.html", None),
        ("/off/a.html", None),
    ] {
        let response = server.connect().ask(accepting(path, "br, zstd, gzip"));
        assert_eq!(response.field("content-encoding"), own_coding, "{path}");
        assert!(response.field("content-length").is_some(), "{path}");
        let whole = match path {
            "/small" => &text[..1000],
            "/files/small.html" => &text[..1023],
            "/files/empty.html" => &[],
            _ => &text,
        };
        assert!(response.body == whole, "{path}");
    }
    // An error page is as long as any other.
    let response = server.connect().ask(accepting("/error", "br"));
    assert_eq!((response.status, response.field("content-encoding")), (404, Some("br")));
    assert!(decode("br", &response.body).expect("br") == text);
    let response = server.connect().ask(accepting("/files/edge.html", "br"));
    assert_eq!(response.field("content-encoding"), Some("br"));
}

/// RFC 9110 section 8.8.3.3: a coded body is not the bytes that the strong tag named; a cache may still ask with it.
#[test]
fn tags_become_weak_and_still_validate() {
    let text = text_of(20_000);
    let upstream = FakeUpstream::start(|exchange| {
        let matches = exchange.request.field("if-none-match").is_some_and(|value| value.contains("\"up\""));
        if matches {
            exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"up\"\r\nContent-Type: text/html\r\n\r\n");
            return Then::Keep;
        }
        let body = "y".repeat(5000);
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"up\"\r\nAccept-Ranges: bytes\r\nContent-Length: 5000\r\n\r\n");
        exchange.send(body);
        Then::Keep
    });
    let rest = with_upstream(
        &upstream,
        "[http.compress]\ncache_file_max = \"10KiB\"\n[site.main]\nroute = [{ path = \"/\", files = \"$DIR/root\" }, { path = \"/up\", proxy = \"up\" }]",
    );
    let server =
        Site::new(Driver::Auto, &rest).file("root/a.html", &text[..5000]).file("root/large.html", &text).start();
    for path in ["/a.html", "/large.html", "/up"] {
        let ask = |fields: &[&str]| server.connect().ask(request("GET", path, fields, ""));
        let plain = ask(&[]);
        let strong = plain.field("etag").expect("a tag").to_owned();
        assert!(strong.starts_with('"'), "{path}: {strong}");
        for coding in CODINGS {
            let accept = format!("Accept-Encoding: {coding}");
            let coded = ask(&[&accept]);
            let weak = coded.field("etag").expect("a tag").to_owned();
            assert_eq!(weak, format!("W/{strong}"), "{path} {coding}");
            assert_eq!(coded.field("accept-ranges"), None, "{path} {coding}");
            for tag in [&weak, &strong] {
                let same = ask(&[&accept, &format!("If-None-Match: {tag}")]);
                assert_eq!((same.status, same.body.len()), (304, 0), "{path} {coding} {tag}");
                assert_eq!(same.field("etag"), Some(weak.as_str()), "{path} {coding} {tag}");
                assert_eq!(same.field("vary"), Some("Accept-Encoding"), "{path} {coding} {tag}");
                assert_eq!(same.field("content-encoding"), None, "{path} {coding} {tag}");
            }
        }
        let same = ask(&[&format!("If-None-Match: W/{strong}")]);
        assert_eq!((same.status, same.field("etag")), (304, Some(strong.as_str())), "{path}");
    }
    let accept = "Accept-Encoding: br";
    let ask = |fields: &[&str]| server.connect().ask(request("GET", "/a.html", fields, ""));
    let weak = ask(&[accept]).field("etag").expect("a tag").to_owned();
    // If-Match and If-Range compare strongly (RFC 9110 sections 13.1.1, 13.1.5).
    assert_eq!(ask(&[accept, &format!("If-Match: {weak}")]).status, 412);
    let whole = ask(&[accept, "Range: bytes=0-9", &format!("If-Range: {weak}")]);
    assert_eq!(whole.status, 200);
    let body = match whole.field("content-encoding") {
        Some(coding) => decode(coding, &whole.body).expect("coded"),
        None => whole.body.clone(),
    };
    assert!(body == text[..5000]);
}

/// Ranges are those of the plain form, so that pieces from different answers fit together.
#[test]
fn ranges_are_served_from_the_plain_form() {
    let text = text_of(20_000);
    let server =
        Site::new(Driver::Auto, "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = \"$DIR/root\" }]")
            .file("root/a.html", &text)
            .start();
    let accept = "Accept-Encoding: br, gzip";
    let mut client = server.connect();
    let plain = client.ask(get("/a.html"));
    let strong = plain.field("etag").expect("a tag").to_owned();
    client.ask(accepting("/a.html", "br"));
    for (range, expect) in [("0-99", &text[..100]), ("19990-", &text[19_990..]), ("-10", &text[19_990..])] {
        let part = client.ask(request("GET", "/a.html", &[accept, &format!("Range: bytes={range}")], ""));
        assert_eq!((part.status, part.field("content-encoding")), (206, None), "{range}");
        // RFC 9110 section 15.3.7: what the 200 would have.
        assert_eq!(part.field("vary"), Some("Accept-Encoding"), "{range}");
        assert_eq!(part.field("etag"), Some(strong.as_str()), "{range}");
        assert!(part.body == expect, "{range}");
    }
    let range = format!("If-Range: {strong}");
    let part = client.ask(request("GET", "/a.html", &[accept, "Range: bytes=5-6", &range], ""));
    assert!(part.status == 206 && part.body == text[5..7]);
    let beyond = client.ask(request("GET", "/a.html", &[accept, "Range: bytes=99999-"], ""));
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */20000")));
    let parts = client.ask(request("GET", "/a.html", &[accept, "Range: bytes=0-1,5-6"], ""));
    assert_eq!((parts.status, parts.field("content-encoding")), (206, None));
    assert_eq!(parts.field("vary"), Some("Accept-Encoding"));
}

/// RFC 9110 section 9.3.2: the fields of HEAD are those of GET, but for what only making the body would tell.
#[test]
fn head_tells_what_get_would() {
    let upstream = framed(text_of(5000));
    let rest = with_upstream(
        &upstream,
        "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = \"$DIR/root\" }, { path = \"/up\", proxy = \"up\" }]",
    );
    let server = Site::new(Driver::Auto, &rest).file("root/a.html", &text_of(5000)).start();
    for path in ["/a.html", "/up"] {
        let mut client = server.connect();
        let full = client.ask(accepting(path, "zstd"));
        let head = client.ask(request("HEAD", path, &["Accept-Encoding: zstd"], ""));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for name in ["content-encoding", "vary", "etag", "content-type"] {
            assert_eq!(head.field(name), full.field(name), "{path} {name}");
        }
        if let Some(length) = head.field("content-length") {
            assert_eq!(length.parse(), Ok(full.body.len()), "{path}: the length of the coded form, or none");
        }
        // The connection goes on.
        assert_eq!(client.ask(get(path)).body.len(), 5000, "{path}");
        let mut http2 = Http2::connect(server.web());
        http2.send(headers(1, WHOLE, &Block::request("HEAD", path).field("accept-encoding", "zstd")));
        let answer = http2.answer(1);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path} HTTP/2");
    }
}

/// The content of the complete chunks so far.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).expect("a size"), 16).expect("a size");
        let Some(data) = bytes.get(line + 2..line + 2 + size) else { break };
        body.extend_from_slice(data);
        bytes = bytes.get(line + 4 + size..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    body
}

/// Reads until what can be decoded of the chunked body so far satisfies `enough`.
fn read_until(client: &mut Client, coding: &str, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    loop {
        let text = client.buffered();
        if let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let plain = decode_begun(coding, &dechunk(&text[head + 4..]));
            if enough(&plain) {
                return plain;
            }
        }
        let n = client.fill().unwrap_or_else(|error| panic!("{coding}: held back: {error}"));
        assert!(n > 0, "{coding}: ended early");
    }
}

/// A server that thinks between two pieces does not leave the client without the first one.
#[test]
fn what_the_server_has_sent_so_far_reaches_the_client() {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let upstream = FakeUpstream::start(move |exchange| {
        let is_events = exchange.request.target.starts_with("/events");
        let kind = if is_events { "text/event-stream" } else { "text/html" };
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for n in 0..4 {
            let piece = format!("data: piece number {n}\n\n");
            exchange.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            // The next one only when the client has this one.
            if receiver.lock().expect("a lock").recv_timeout(PATIENCE).is_err() {
                return Then::Close;
            }
        }
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    let rest = with_upstream(
        &upstream,
        "[http.compress]\ntypes = [\"text/html\", \"text/event-stream\"]\n[site.main]\nroute = [{ path = \"/\", proxy = \"up\" }]",
    );
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = Site::new(driver, &rest).start();
        for path in ["/page", "/events"] {
            for coding in CODINGS {
                let mut client = server.connect();
                client.send(accepting(path, coding));
                for n in 0..4 {
                    let end = format!("piece number {n}\n\n");
                    let (_, took) = timed(|| read_until(&mut client, coding, |plain| plain.ends_with(end.as_bytes())));
                    assert!(took < Duration::from_secs(5), "{driver:?} {coding} {path}: {took:?}");
                    sender.send(()).expect("the upstream waits");
                }
                let response = client.response("GET");
                let plain = decode(coding, &response.body).expect("whole");
                assert!(plain.ends_with(b"piece number 3\n\n"), "{driver:?} {coding} {path}");
            }
        }
    }
}

/// RFC 9112 section 8: half a body is never made to look whole.
#[test]
fn a_truncated_body_is_broken_off_in_every_coding() {
    let upstream = FakeUpstream::start(|exchange| {
        let half = text_of(40_000);
        let target = exchange.request.target.clone();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
        match target.as_str() {
            "/length" | "/reset" => exchange.send(format!("{head}Content-Length: 80000\r\n\r\n")),
            _ => exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n9c40\r\n")),
        };
        exchange.send(&half);
        match target.as_str() {
            "/length" | "/chunk" => {}
            "/chunks" => drop(exchange.send("\r\n")),
            "/bad-chunk" => drop(exchange.send("\r\nxyz\r\n")),
            "/reset" => {
                std::thread::sleep(Duration::from_millis(50));
                return exchange.reset();
            }
            other => panic!("{other}"),
        }
        Then::Close
    });
    let rest = with_upstream(
        &upstream,
        "[site.main]\ncompress = true\nroute = [{ path = \"/\", proxy = \"up\" }, { exact = \"/alive\", respond = { body = \"yes\" } }]",
    );
    with_both_drivers(|driver| {
        let server = Site::new(driver, &rest).start();
        for path in ["/length", "/reset", "/chunk", "/chunks", "/bad-chunk"] {
            for coding in CODINGS {
                let what = format!("{driver:?} {coding} {path}");
                match server.connect().send(accepting(path, coding)).try_response("GET") {
                    Err(NoResponse::Ended(_, _)) => {}
                    other => panic!("{what}: {other:?}"),
                }
                let mut old = server.connect();
                old.send(format!("GET {path} HTTP/1.0\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n"));
                let (bytes, end) = old.read_to_end();
                let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| &bytes[at + 4..]);
                assert!(decode(coding, body.unwrap_or_default()).is_err(), "{what}: looks whole to HTTP/1.0");
                assert_eq!(end, End::Reset, "{what}: nothing but the reset tells HTTP/1.0");
                let mut http2 = Http2::connect(server.web());
                http2.send(headers(1, WHOLE, &Block::get(path).field("accept-encoding", coding)));
                let outcome = http2.outcome(1);
                assert!(matches!(outcome, Outcome::Reset(_)), "{what} HTTP/2: {outcome:?}");
                // The connection of HTTP/2 lives on.
                http2.assert_alive(3, "/alive");
            }
        }
    });
}

#[test]
fn forms_made_beforehand_come_first() {
    let text = text_of(5000);
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &text).expect("memory");
        encoder.finish().expect("memory")
    };
    let zst = zstd::encode_all(&text[..], 19).expect("memory");
    let rest = "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = { root = \"$DIR/root\", precompressed = [\"br\", \"zstd\", \"gzip\"] } }]";
    let site = Site::new(Driver::Auto, rest)
        .file("root/a.html", &text)
        .file("root/a.html.gz", &gz)
        .file("root/a.html.zst", &zst)
        .file("root/stale.html.gz", &gz)
        .file("root/stale.html", &text[..4000])
        .file("root/b.png", &text)
        .file("root/b.png.gz", &gz);
    let old = std::fs::File::options().append(true).open(site.folder().join("root/stale.html.gz")).expect("a file");
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).expect("a time");
    let server = site.start();
    let ask = |path: &str, coding: &str| server.connect().ask(accepting(path, coding));
    let ready = ask("/a.html", "gzip");
    assert_eq!(ready.field("content-encoding"), Some("gzip"));
    assert!(ready.body == gz, "the file itself, not one made anew");
    assert_eq!(ready.field("vary"), Some("Accept-Encoding"));
    let ready = ask("/a.html", "gzip, zstd");
    assert!(ready.field("content-encoding") == Some("zstd") && ready.body == zst);
    // Each form is a representation of its own.
    let tags =
        ["gzip", "zstd", "identity"].map(|coding| ask("/a.html", coding).field("etag").expect("a tag").to_owned());
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    let same = [format!("If-None-Match: {}", tags[0]), "Accept-Encoding: gzip".into()];
    let same = server.connect().ask(request("GET", "/a.html", &[&same[0], &same[1]], ""));
    assert_eq!((same.status, same.field("vary")), (304, Some("Accept-Encoding")));
    // Where there is none, or an old one, the answer is coded now; a type that is not coded may have one all the same.
    let made = ask("/stale.html", "gzip");
    assert_eq!(made.field("content-encoding"), Some("gzip"));
    assert!(decode("gzip", &made.body).expect("gzip") == text[..4000]);
    let made = ask("/a.html", "br");
    assert!(decode("br", &made.body).expect("br") == text);
    let image = ask("/b.png", "gzip");
    assert!(image.field("content-encoding") == Some("gzip") && image.body == gz);
    let plain = ask("/a.html", "identity");
    assert!(plain.field("content-encoding").is_none() && plain.body == text);
}

/// A file is compressed once, and again when it is another.
#[test]
fn coded_forms_of_files_are_kept_and_renewed() {
    let text = text_of(700_000);
    let rest = "[http.compress]\nbr_level = 6\n[site.main]\nroute = [{ path = \"/\", files = \"$DIR/root\" }]";
    let server = Site::new(Driver::Auto, rest)
        .one_worker()
        .process("file_cache_valid = \"200ms\"")
        .file("root/a.html", &text)
        .start();
    let ask = || server.connect().ask(accepting("/a.html", "br"));
    // A file written a moment ago may change again within the same tick of its clock: it is not trusted yet.
    std::thread::sleep(Duration::from_secs(3));
    let (first, made_in) = timed(ask);
    assert!(decode("br", &first.body).expect("br") == text);
    let (second, kept_in) = timed(ask);
    assert!(second.body == first.body);
    assert!(kept_in * 4 < made_in, "made in {made_in:?}, the second time in {kept_in:?}");
    // The length of what is kept is known.
    assert_eq!(second.field("content-length"), Some(second.body.len().to_string().as_str()));
    // Replaced by a rename, as deployments do it, and written over.
    let other: Vec<u8> = text.iter().map(u8::to_ascii_uppercase).collect();
    let folder = server.folder().join("root");
    std::fs::write(folder.join("new"), &other).expect("a file");
    std::fs::rename(folder.join("new"), folder.join("a.html")).expect("renamed");
    std::thread::sleep(Duration::from_millis(400));
    let renewed = ask();
    assert!(decode("br", &renewed.body).expect("br") == other);
    assert_ne!(renewed.field("etag"), first.field("etag"));
    std::fs::write(folder.join("a.html"), &text[..50_000]).expect("a file");
    std::thread::sleep(Duration::from_millis(400));
    assert!(decode("br", &ask().body).expect("br") == text[..50_000]);
    std::fs::remove_file(folder.join("a.html")).expect("removed");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(ask().status, 404);
}

/// Many ask for the first time at once: it is made once, all get it, and nobody else waits meanwhile.
#[test]
fn compressing_a_file_holds_up_nobody() {
    let text = text_of(900_000);
    let rest = "[http.compress]\nbr_level = 6\n[site.main]\nroute = [{ path = \"/\", files = \"$DIR/root\" }, { path = \"/quick\", respond = { body = \"quick\" } }]";
    let server = Site::new(Driver::Auto, rest).one_worker().file("root/a.html", &text).start();
    // See above: only then it is known that the file is the same for all.
    std::thread::sleep(Duration::from_secs(3));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| timed(|| server.connect().ask(accepting("/a.html", "br"))))).collect();
        let watching = scope.spawn(|| {
            let mut client = server.connect();
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let (response, took) = timed(|| client.ask(get("/quick")));
                assert_eq!(response.text(), "quick");
                longest = longest.max(took);
                std::thread::sleep(Duration::from_millis(2));
                if client.ask(get("/quick")).is_last() {
                    client = server.connect();
                }
            }
            longest
        });
        let mut slowest = Duration::ZERO;
        for asking in asking {
            let (response, took) = asking.join().expect("answered");
            assert!(decode("br", &response.body).expect("br") == text);
            slowest = slowest.max(took);
        }
        done.store(true, Ordering::SeqCst);
        let longest = watching.join().expect("answered");
        let limit = Duration::from_millis(300).max(slowest / 3);
        assert!(longest < limit, "another request waited {longest:?} while the file took {slowest:?}");
    });
    assert_eq!(server.metric("one_server_files_compressions_total", ""), 1.0, "made once for all of them");
}

/// Clients that take coded answers and do not read them: memory for encoders has a limit, everybody is served.
#[test]
fn slow_clients_of_coded_answers_cost_bounded_memory() {
    let text: Arc<Vec<u8>> = Arc::new(pattern(3 << 20).iter().map(|byte| b'a' + byte % 26).collect());
    let served = text.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n");
        exchange.send(&served[..]);
        Then::Close
    });
    let rest = with_upstream(
        &upstream,
        "[http.compress]\nbr_level = 4\n[site.main]\nroute = [{ path = \"/\", proxy = \"up\" }]",
    );
    let server = Site::new(Driver::Auto, &rest).start();
    let (before, _) = server.resident_mib();
    let mut clients: Vec<Client> = (0..100).map(|_| Client::with_small_window(server.web())).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(accepting("/", CODINGS[n % 3]));
    }
    // Until the answers have stopped: a machine with much else to do may stop them for a moment, too.
    let begin = Instant::now();
    let (mut last, mut same) = (0.0, 0);
    while same < 4 && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(500));
        let now = server.metric("one_server_http_sent_bytes_total", "");
        same = if now == last && now > 0.0 { same + 1 } else { 0 };
        last = now;
    }
    let (_, peak) = server.resident_mib();
    assert!(peak - before < 125, "{before} MiB before, {peak} MiB at most");
    // Somebody in a hurry is served meanwhile, coded or not.
    let mut client = server.connect();
    let response = client.ask(accepting("/", "gzip"));
    let body = match response.field("content-encoding") {
        Some(coding) => decode(coding, &response.body).expect("coded"),
        None => response.body,
    };
    assert!(body == text[..]);
    // One of the slow ones goes on where it stopped.
    let response = clients[0].response("GET");
    let body = match response.field("content-encoding") {
        Some(coding) => decode(coding, &response.body).expect("coded"),
        None => response.body,
    };
    assert!(body == text[..]);
    drop((client, clients));
    server.wait_until_no_client();
}

/// RFC 9110 section 15.4.5: a 304 has the ETag and the Vary that its 200 would have had. A tag that becomes weak for no
/// reason ends the resuming of downloads: If-Range takes strong ones alone.
#[test]
fn a_304_has_the_tag_and_the_vary_of_its_200() {
    let text = text_of(5000);
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &text).expect("memory");
        encoder.finish().expect("memory")
    };
    let upstream = FakeUpstream::start(|exchange| {
        let is_known = exchange.request.field("if-none-match").is_some();
        match is_known {
            true => exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"up\"\r\nContent-Type: image/png\r\n\r\n"),
            false => exchange
                .send("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: \"up\"\r\nContent-Length: 2\r\n\r\nok"),
        };
        Then::Keep
    });
    let rest = with_upstream(
        &upstream,
        "[site.main]\ncompress = true\nroute = [{ path = \"/\", files = { root = \"$DIR/root\", precompressed = [\"gzip\"] } },\n\
         { path = \"/plain/\", files = { root = \"$DIR/root\", strip_prefix = \"/plain\" } }, { path = \"/up\", proxy = \"up\" }]",
    );
    let server = Site::new(Driver::Auto, &rest)
        .file("root/ready.html", &text)
        .file("root/ready.html.gz", &gz)
        .file("root/a.html", &text)
        .file("root/small.html", b"small")
        .file("root/a.png", &text)
        .start();
    let mut wrong = Vec::new();
    for path in ["/ready.html", "/plain/a.html", "/plain/small.html", "/plain/a.png", "/up"] {
        for coding in ["gzip", "identity"] {
            let accept = format!("Accept-Encoding: {coding}");
            let full = server.connect().ask(request("GET", path, &[&accept], ""));
            let tag = full.field("etag").expect("a tag");
            let same = server.connect().ask(request("GET", path, &[&accept, &format!("If-None-Match: {tag}")], ""));
            assert_eq!(same.status, 304, "{path}");
            for name in ["etag", "vary"] {
                if same.field(name) != full.field(name) {
                    wrong.push(format!(
                        "{path} {coding}: {name} {:?}, of the 200 {:?}",
                        same.field(name),
                        full.field(name)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
