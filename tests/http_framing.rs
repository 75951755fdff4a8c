//! Framing of HTTP/1 requests at the real binary: where one message ends and the next begins, and what is refused.
//! A server that reads these bytes differently from the one behind it lets requests be smuggled.
//!
//! Source: RFC 9112 (sections 2.2, 3, 5, 6, 7, 9), RFC 9110 (sections 8.6, 10.1.1).

mod support;

use support::client::parse_all;
use support::*;

const SITE: &str = r#"
[site.main]
[[site.main.route]]
path = "/"
respond = { body = "root" }
[[site.main.route]]
path = "/sentinel"
respond = { body = "sentinel" }
[[site.main.route]]
path = "/files/"
files = { root = "$DIR", strip_prefix = "/files" }
"#;

/// What a payload must lead to.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// So many answers with status 200, and the connection stays.
    Kept(usize),
    /// One answer with one of these statuses, and the connection closes.
    Refused(&'static [u16]),
    /// Either of the two readings RFC 9112 allows.
    KeptOrRefused(&'static [u16]),
}
use Expect::{Kept, KeptOrRefused, Refused};

const BAD: Expect = Refused(&[400]);
/// A coding we do not know is 501, one that does not end in chunked 400; a list of both may be either.
const CODING: Expect = Refused(&[400, 501]);
const VERSION: Expect = Refused(&[505]);

const H: &str = "Host: test\r\n";

fn p(text: &str) -> Vec<u8> {
    text.replace("{H}", H).into_bytes()
}

/// Heads: the body, if any, is not what is being tested.
fn heads() -> Vec<(Vec<u8>, Expect)> {
    let get = |fields: &str| p(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
    let post = |fields: &str| p(&format!("POST / HTTP/1.1\r\n{{H}}{fields}\r\nhello"));
    vec![
        // What must be understood.
        (get("{H}"), Kept(1)),
        (p("\r\nGET / HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (get("hOsT:test\r\n"), Kept(1)),
        (get("Host: \t test \t \r\n"), Kept(1)),
        (get("{H}Empty:\r\n"), Kept(1)),
        (get("{H}Value: a\tb c\r\n"), Kept(1)),
        ([b"GET / HTTP/1.1\r\nHost: test\r\nValue: \x80\xfe\xff\r\n\r\n".as_slice()].concat(), Kept(1)),
        (get("{H}!#$%&'*+-.^_`|~09azAZ: token\r\n"), Kept(1)),
        (get("Host: test:8080\r\n"), Kept(1)),
        (get("Host: [::1]:8080\r\n"), Kept(1)),
        (get("Host: 127.0.0.1\r\n"), Kept(1)),
        (p("GET http://test/ HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET HTTP://TEST/a?b HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET http://test:80/ HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET http://test HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET /?q=%20&r[]=1|2 HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET / HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n"), Kept(3)),
        (post("Content-Length: 5\r\n"), Kept(1)),
        (post("Content-Length: 005\r\n"), KeptOrRefused(&[400])),
        (post("Content-Length:5\t \r\n"), Kept(1)),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), KeptOrRefused(&[400])),
        (post("Content-Length: 5, 5\r\n"), KeptOrRefused(&[400])),
        (p("POST / HTTP/1.1\r\n{H}Content-Length: 0\r\n\r\n"), Kept(1)),
        (p("POST / HTTP/1.1\r\n{H}\r\n"), Kept(1)),
        (p("GET / HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello"), Kept(1)),
        // Line ends and control bytes.
        (p("GET / HTTP/1.1\n{H}\r\n"), BAD),
        (p("GET / HTTP/1.1\r\nHost: test\n\r\n"), BAD),
        (p("GET / HTTP/1.1\r\nHost: test\r\n\n"), BAD),
        (p("GET / HTTP/1.1\nHost: test\n\n"), BAD),
        (p("GET / HTTP/1.1\rHost: test\r\n\r\n"), BAD),
        (get("{H}A: b\rc\r\n"), BAD),
        (get("{H}A: b\r\r\n"), BAD),
        (get("{H}A: b\nX: c\r\n"), BAD),
        (get("{H}A: b\0c\r\n"), BAD),
        (get("{H}A: b\x01c\r\n"), BAD),
        (get("{H}A: b\x7fc\r\n"), BAD),
        (get("{H}A\0: b\r\n"), BAD),
        (p("GET /\0 HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET /\x7f HTTP/1.1\r\n{H}\r\n"), BAD),
        // Field lines.
        (get("{H}A : b\r\n"), BAD),
        (get("{H}A\t: b\r\n"), BAD),
        (get("{H} A: b\r\n"), BAD),
        (get("{H}A: b\r\n c\r\n"), BAD),
        (get("{H}A: b\r\n\tc\r\n"), BAD),
        (get(" {H}"), BAD),
        (get("{H}: b\r\n"), BAD),
        (get("{H}A\r\n"), BAD),
        (get("{H}A B: c\r\n"), BAD),
        (get("{H}A(: c\r\n"), BAD),
        (get("{H}A\u{e9}: c\r\n"), BAD),
        (get("Content-Length : 0\r\n{H}"), BAD),
        (get("Transfer-Encoding : chunked\r\n{H}"), BAD),
        // Request line.
        (p("GET /\r\n\r\n"), BAD),
        (p("GET\r\n\r\n"), BAD),
        (p("GET / \r\n\r\n"), BAD),
        (p("GET / HTTP/1.1 \r\n{H}\r\n"), BAD),
        (p("GET  / HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET /  HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET\t/\tHTTP/1.1\r\n{H}\r\n"), BAD),
        (p(" GET / HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET /a b HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("G(T / HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET foo HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET test:80 HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET * HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET ftp://test/ HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET http:/// HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET / http/1.1\r\n{H}\r\n"), BAD),
        (p("GET / HTTP/1.10\r\n{H}\r\n"), BAD),
        (p("GET / HTTP/01.1\r\n{H}\r\n"), BAD),
        (p("GET / HTTP/1,1\r\n{H}\r\n"), BAD),
        (p("GET / HTTP/1\r\n{H}\r\n"), BAD),
        (p("GET / HTTP /1.1\r\n{H}\r\n"), BAD),
        (p("GET / XTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET / HTTP/2.0\r\n{H}\r\n"), VERSION),
        (p("GET / HTTP/3.1\r\n{H}\r\n"), VERSION),
        // The preface of HTTP/2 begins a connection of HTTP/2; what only looks like it does not.
        (p("PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"), VERSION),
        (p("PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"), VERSION),
        (p("GET / HTTP/0.9\r\n{H}\r\n"), Refused(&[400, 505])),
        (p("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n"), BAD),
        // Host.
        (get(""), BAD),
        (get("A: b\r\n"), BAD),
        (get("{H}{H}"), BAD),
        (get("{H}Host: other\r\n"), BAD),
        (get("{H}host: test\r\n"), BAD),
        (get("Host:\r\n"), BAD),
        (get("Host: a b\r\n"), BAD),
        (get("Host: a/b\r\n"), BAD),
        (get("Host: user@test\r\n"), BAD),
        (get("Host: test:99999\r\n"), BAD),
        (get("Host: test:http\r\n"), BAD),
        (get("Host: test:80:80\r\n"), BAD),
        (get("Host: [::1\r\n"), BAD),
        (get("Host: ::1\r\n"), BAD),
        (get("Host: test?\r\n"), BAD),
        (get("Host: test#\r\n"), BAD),
        (get("Host: te\\st\r\n"), BAD),
        (p("GET http://other/ HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET http://test:81/ HTTP/1.1\r\n{H}\r\n"), BAD),
        (p("GET http://test/ HTTP/1.1\r\n\r\n"), BAD),
        (p("GET http://user@test/ HTTP/1.1\r\n{H}\r\n"), BAD),
        // Content-Length.
        (post("Content-Length: abc\r\n"), BAD),
        (post("Content-Length: -5\r\n"), BAD),
        (post("Content-Length: +5\r\n"), BAD),
        (post("Content-Length: 0x5\r\n"), BAD),
        (post("Content-Length: 5 5\r\n"), BAD),
        (post("Content-Length: 5;\r\n"), BAD),
        (post("Content-Length: 5.0\r\n"), BAD),
        (post("Content-Length: 1_0\r\n"), BAD),
        (post("Content-Length:\r\n"), BAD),
        (post("Content-Length: 5,\r\n"), BAD),
        (post("Content-Length: ,5\r\n"), BAD),
        (post("Content-Length: 5, 6\r\n"), BAD),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), BAD),
        (post("Content-Length: 6\r\nA: b\r\ncontent-length: 5\r\n"), BAD),
        (post("Content-Length: \u{665}\r\n"), BAD),
        (post("Content-Length: 18446744073709551616\r\n"), BAD),
        (post("Content-Length: 18446744073709551621\r\n"), BAD),
        (post("Content-Length: 99999999999999999999999999\r\n"), BAD),
        // Transfer-Encoding.
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), BAD),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), BAD),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), BAD),
        (post("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"), CODING),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), CODING),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), CODING),
        (post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), CODING),
        (post("Transfer-Encoding: chunked, chunked\r\n"), CODING),
        (post("Transfer-Encoding: chunked, gzip\r\n"), CODING),
        (post("Transfer-Encoding: gzip, chunked\r\n"), Refused(&[501])),
        (post("Transfer-Encoding: gzip\r\n"), CODING),
        (post("Transfer-Encoding: identity\r\n"), CODING),
        (post("Transfer-Encoding: xchunked\r\n"), CODING),
        (post("Transfer-Encoding: chunkedx\r\n"), CODING),
        (post("Transfer-Encoding: chunked;a=b\r\n"), CODING),
        (post("Transfer-Encoding: \"chunked\"\r\n"), CODING),
        (post("Transfer-Encoding: chunked,\r\n"), CODING),
        (post("Transfer-Encoding: ,chunked\r\n"), CODING),
        (post("Transfer-Encoding: chun ked\r\n"), CODING),
        (post("Transfer-Encoding: \x0bchunked\r\n"), CODING),
        (post("Transfer-Encoding:\r\n"), CODING),
        (p("POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BAD),
        (p("POST / HTTP/1.0\r\n{H}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BAD),
    ]
}

/// Chunked bodies, to be put behind a head with Transfer-Encoding: chunked.
fn chunked_bodies() -> Vec<(Vec<u8>, Expect)> {
    let long = |n: usize| "x".repeat(n);
    vec![
        (p("0\r\n\r\n"), Kept(1)),
        (p("5\r\nhello\r\n0\r\n\r\n"), Kept(1)),
        (p("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"), Kept(1)),
        (p("005\r\nhello\r\n000\r\n\r\n"), Kept(1)),
        (p("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), Kept(1)),
        (p("5;name=value\r\nhello\r\n0\r\n\r\n"), Kept(1)),
        (p("5;name=\"va;lue\"\r\nhello\r\n0;last\r\n\r\n"), Kept(1)),
        (p("5\r\nhello\r\n0\r\nTrailer: value\r\nOther: value\r\n\r\n"), Kept(1)),
        (p("5\r\nhello\r\n0\r\nContent-Length: 100\r\nTransfer-Encoding: gzip\r\n\r\n"), KeptOrRefused(&[400])),
        (p("5\r\nhello\r\n0\r\nHost: other\r\n\r\n"), KeptOrRefused(&[400])),
        (p("0x5\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5 \r\nhello\r\n0\r\n\r\n"), BAD),
        (p(" 5\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("\t5\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("+5\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("-5\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5_\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5h\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("g\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("\r\nhello\r\n0\r\n\r\n"), BAD),
        (p(";a=b\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("10000000000000005\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("00000000000000000000000000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"), KeptOrRefused(&[400])),
        (p("5\nhello\r\n0\r\n\r\n"), BAD),
        (p("5\rhello\r\n0\r\n\r\n"), BAD),
        (p("5\r\nhello\n0\r\n\r\n"), BAD),
        (p("5\r\nhello0\r\n\r\n"), BAD),
        (p("5\r\nhelloX\r\n0\r\n\r\n"), BAD),
        (p("5\r\nhello\r0\r\n\r\n"), BAD),
        (p("5;a\nb\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5;a\rb\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5;a\0b\r\nhello\r\n0\r\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\r\n\n"), BAD),
        (p("5\r\nhello\r\n0\r\nA : b\r\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\r\n A: b\r\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n"), BAD),
        (p("5\r\nhello\r\n0\r\nno colon\r\n\r\n"), BAD),
        (p(&format!("5;{}\r\nhello\r\n0\r\n\r\n", long(64 * 1024))), BAD),
        (p(&format!("5\r\nhello\r\n0\r\n{}\r\n", format!("A: {}\r\n", long(100)).repeat(2000))), Refused(&[400, 431])),
        (p(&format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", long(256 * 1024))), Refused(&[400, 431])),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    AtOnce,
    Bytewise,
}

/// Sends a payload with a request behind it. That request is answered exactly when the payload was understood and the
/// connection stays; behind a refused one nothing may be processed.
fn check(server: &Server, payload: &[u8], expect: Expect, pace: Pace) {
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(300)]).into_owned();
    let context = format!("driver {}, {pace:?}, {expect:?}, payload {shown:?}", server.driver);
    let mut client = server.connect();
    match pace {
        Pace::AtOnce => client.send([payload, get("/sentinel").as_bytes()].concat()),
        Pace::Bytewise => client.send_bytewise(payload).send(get("/sentinel")),
    };
    let first = client.try_response("GET").unwrap_or_else(|problem| panic!("{context}: {problem:?}"));
    let kept = match expect {
        Kept(n) => Some(n),
        KeptOrRefused(_) if first.status == 200 => Some(1),
        KeptOrRefused(_) | Refused(_) => None,
    };
    match (kept, expect) {
        (Some(n), _) => {
            assert_eq!(first.status, 200, "{context}");
            for _ in 1..n {
                assert_eq!(client.try_response("GET").map(|response| response.status), Ok(200), "{context}");
            }
            let last = client.try_response("GET").unwrap_or_else(|problem| panic!("{context}: {problem:?}"));
            assert_eq!((last.status, last.text().as_str()), (200, "sentinel"), "{context}");
        }
        (None, Refused(allowed) | KeptOrRefused(allowed)) => {
            assert!(allowed.contains(&first.status), "{context}: {}", first.status);
            assert!(first.is_last(), "{context}: the answer does not say that the connection closes");
            let (rest, end) = client.read_to_end();
            assert!(rest.is_empty(), "{context}: then {:?}", String::from_utf8_lossy(&rest));
            assert_eq!(end, End::Closed, "{context}");
        }
        (None, Kept(_)) => unreachable!("decided above"),
    }
}

#[test]
fn heads_are_understood_or_refused_as_the_rfc_says() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).start();
        for (payload, expect) in heads() {
            check(&server, &payload, expect, Pace::AtOnce);
            check(&server, &payload, expect, Pace::Bytewise);
        }
        server.wait_until_no_client();
    });
}

/// Sites whose bodies are wanted: a proxy whose upstream reads them, and an application.
fn with_upstream(upstream: &FakeUpstream) -> String {
    format!(
        "{SITE}\n[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n[app.probe]\n",
        upstream.address
    )
}

#[test]
fn chunked_bodies_are_understood_or_refused_through_proxy_and_application() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::probe(driver, &with_upstream(&upstream)).start();
        for path in ["/up/", "/app/size"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (body, expect) in chunked_bodies() {
                let payload = [head.as_bytes(), &body].concat();
                check(&server, &payload, expect, Pace::AtOnce);
                if payload.len() < 4096 {
                    check(&server, &payload, expect, Pace::Bytewise);
                }
            }
        }
        upstream.seen();
    });
}

#[test]
fn chunked_bodies_arrive_whole_and_without_their_framing() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::probe(driver, &with_upstream(&upstream)).start();
        let body = pattern(300_000);
        let mut chunked = Vec::new();
        for (number, piece) in body.chunks(7777).enumerate() {
            chunked.extend_from_slice(format!("{:x};n={number}\r\n", piece.len()).as_bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\nX-Trailer: not a header\r\n\r\n");
        for path in ["/up/echo", "/app/echo"] {
            let mut client = server.connect();
            client.send(format!("PUT {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
            let response = client.send(&chunked).response("PUT");
            assert_eq!(response.status, 200, "{path} {driver:?}");
            match path {
                "/up/echo" => assert!(upstream.last().body == body, "{driver:?}"),
                _ => assert!(response.body == body, "{driver:?}: {} bytes", response.body.len()),
            }
            // An answer that begins before the body has ended may announce the end of the connection.
            if !response.is_last() {
                assert_eq!(client.ask(get("/sentinel")).text(), "sentinel", "{driver:?} {path}");
            }
        }
        let seen = upstream.last();
        assert!(seen.values("x-trailer").is_empty(), "a trailer became a header: {:?}", seen.fields);
    });
}

/// Requests that two servers in a row might split differently: as many must arrive behind us as we answered, and none
/// of those that an attacker hid.
#[test]
fn no_request_is_smuggled_to_the_upstream() {
    let evil = "GET /evil HTTP/1.1\r\nHost: test\r\nX-Evil: 1\r\n\r\n";
    let with = |fields: &str, body: &str| format!("POST /up/x HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}");
    let cl = evil.len();
    let payloads = [
        with(&format!("Content-Length: {cl}\r\nTransfer-Encoding: chunked\r\n"), &format!("0\r\n\r\n{evil}")),
        with(&format!("Transfer-Encoding: chunked\r\nContent-Length: {cl}\r\n"), &format!("0\r\n\r\n{evil}")),
        with("Content-Length: 0\r\nContent-Length: 44\r\n", evil),
        with("Content-Length: 0, 44\r\n", evil),
        with("Content-Length: +0\r\n", evil),
        with("Content-Length: 0\rContent-Length: 44\r\n", evil),
        with("Content-Length: 0\nContent-Length: 44\r\n", evil),
        with("X: a\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{evil}")),
        with("Transfer-Encoding : chunked\r\n", &format!("0\r\n\r\n{evil}")),
        with("Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{evil}")),
        with("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{evil}")),
        with("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("0 \r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("1\nZ\r\n0\r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("2\r\nZZ0\r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("0;a\nb\r\n\r\n{evil}")),
        with("Transfer-Encoding: chunked\r\n", &format!("10000000000000000\r\n\r\n{evil}")),
        with(
            "Content-Length: 0\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            &format!("0\r\n\r\n{evil}"),
        ),
        "GET /up/a HTTP/1.1\r\nHost: test\r\n\rGET /evil HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
        format!("GET /up/a\nHTTP/1.1\r\nHost: test\r\n\r\n{evil}"),
        format!("GET http://other/up/a HTTP/1.1\r\nHost: test\r\n\r\n{evil}"),
    ];
    // Here the evil text is content, and everything behind it an honest request.
    let honest = [
        with(&format!("Content-Length: {cl}\r\n"), evil),
        with("Transfer-Encoding: chunked\r\n", &format!("{cl:x}\r\n{evil}\r\n0\r\n\r\n")),
        with("Transfer-Encoding: chunked\r\n", &format!("0;{}\r\n\r\n", "GET /evil HTTP/1.1")),
        format!("GET /up/x HTTP/1.1\r\nHost: test\r\nContent-Length: {cl}\r\n\r\n{evil}"),
        format!("GET /up/x HTTP/1.1\r\nHost: test\r\nConnection: content-length\r\nContent-Length: {cl}\r\n\r\n{evil}"),
        with(&format!("Connection: Content-Length, Host\r\nContent-Length: {cl}\r\n"), evil),
        with(
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
            &format!("{cl:x}\r\n{evil}\r\n0\r\n\r\n"),
        ),
    ];
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::new(
            driver,
            &with_upstream(&upstream).replace("\"probe\"", "\"hello\"").replace("app.probe", "app.hello"),
        )
        .start();
        for (payload, is_honest) in
            payloads.iter().map(|payload| (payload, false)).chain(honest.iter().map(|payload| (payload, true)))
        {
            let before = upstream.seen().iter().filter(|seen| seen.body_complete).count();
            let mut client = server.connect();
            client.send(payload).send(get("/up/after").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
            let (bytes, end) = client.read_to_end();
            let answers = parse_all(&bytes, &["POST"]);
            let ok = answers.iter().filter(|answer| answer.status == 200).count();
            let arrived = upstream.seen().iter().filter(|seen| seen.body_complete).count() - before;
            assert_eq!(arrived, ok, "{driver:?} {payload:?}: {:?}", upstream.seen());
            assert_eq!(end, End::Closed, "{driver:?} {payload:?}");
            match is_honest {
                true => assert_eq!(ok, 2, "{driver:?} {payload:?}: {answers:?}"),
                false => assert!(ok <= 1 && answers.last().is_some_and(|answer| answer.status >= 400), "{payload:?}"),
            }
        }
        assert_eq!(upstream.count("/evil"), 0, "{driver:?}");
        assert!(upstream.seen().iter().all(|seen| seen.values("x-evil").is_empty()), "{driver:?}");
    });
}

#[test]
fn connections_are_kept_or_closed_as_both_versions_say() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).start();
        let ask = |text: &str| {
            let mut client = server.connect();
            let response = client.ask(text);
            assert_eq!(response.status, 200, "{driver:?} {text:?}");
            let is_last = response.is_last();
            if is_last {
                assert_eq!(client.end(), End::Closed, "{driver:?} {text:?}");
            } else {
                assert_eq!(client.ask(get("/sentinel")).text(), "sentinel", "{driver:?} {text:?}");
            }
            (is_last, response)
        };
        assert!(!ask("GET / HTTP/1.1\r\nHost: test\r\n\r\n").0);
        assert!(!ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: foo, CLOSE\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: foo\r\nConnection: close\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: close, keep-alive\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.0\r\n\r\n").0);
        assert!(ask("GET / HTTP/1.0\r\nHost: test\r\n\r\n").0);
        let (is_last, response) = ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert!(!is_last, "{driver:?}: {:?}", response.fields);
        assert!(ask("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").0);
    });
}

#[test]
fn a_connection_serves_its_maximum_of_requests_and_says_so() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).http("keep_alive_requests_max = 3").start();
        let mut client = server.connect();
        client.send(get("/").repeat(5));
        let last: Vec<bool> = (0..3).map(|_| client.response("GET").is_last()).collect();
        assert_eq!(last, [false, false, true], "{driver:?}");
        assert_eq!(client.read_to_end().0, b"", "{driver:?}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let target = exchange.request.target.clone();
            exchange.ok(&target)
        });
        let site = with_upstream(&upstream).replace("\"probe\"", "\"hello\"").replace("app.probe", "app.hello");
        let server = Site::new(driver, &site).file("f.txt", b"file").start();
        let mut client = server.connect();
        let paths = ["/up/1", "/", "/files/f.txt", "/up/2", "/app/x", "/sentinel", "/up/3", "/files/none", "/"];
        client.send(paths.iter().map(|path| get(path)).collect::<String>());
        let answers: Vec<String> = paths
            .iter()
            .map(|_| client.response("GET"))
            .map(|answer| if answer.status == 200 { answer.text() } else { answer.status.to_string() })
            .map(|text| text.split(" application").next().unwrap_or_default().to_owned())
            .collect();
        let expected = ["/up/1", "root", "file", "/up/2", "hello from", "sentinel", "/up/3", "404", "root"];
        assert_eq!(answers, expected, "{driver:?}");
        // Many at once, more than any buffer holds.
        let mut client = server.connect();
        let mut sender = client.stream.try_clone().expect("a socket");
        let writer =
            std::thread::spawn(move || std::io::Write::write_all(&mut sender, get("/").repeat(5000).as_bytes()));
        let mut answered = 0;
        loop {
            let response = client.response("GET");
            answered += 1;
            assert_eq!(response.text(), "root");
            if response.is_last() {
                break;
            }
        }
        assert_eq!(answered, 1000, "{driver:?}: keep_alive_requests_max");
        drop(client);
        let _ = writer.join();
    });
}

#[test]
fn head_gets_the_head_of_get_and_no_body() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| match exchange.request.method.as_str() {
            "HEAD" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-From: up\r\n\r\n");
                upstream::Then::Keep
            }
            _ => exchange.ok("hello"),
        });
        let site = with_upstream(&upstream).replace("\"probe\"", "\"hello\"").replace("app.probe", "app.hello");
        let server = Site::new(driver, &site).file("f.txt", b"file content").start();
        let mut client = server.connect();
        for path in ["/", "/files/f.txt", "/files/none", "/up/x", "/app/x"] {
            let got = client.ask(get(path));
            let head = client.ask(request("HEAD", path, &[], ""));
            assert_eq!((head.status, head.body.len()), (got.status, 0), "{driver:?} {path}");
            assert_eq!(head.field("content-length"), got.field("content-length"), "{driver:?} {path}");
            assert_eq!(head.field("content-type"), got.field("content-type"), "{driver:?} {path}");
        }
        assert_eq!(client.ask(get("/sentinel")).text(), "sentinel", "{driver:?}");
    });
}

#[test]
fn the_options_of_the_server_itself_can_be_asked() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).start();
        let mut client = server.connect();
        let response = client.ask("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(matches!(response.status, 200 | 204), "{driver:?}: {}", response.status);
        assert_eq!(client.ask(get("/sentinel")).text(), "sentinel", "{driver:?}");
    });
}

#[test]
fn connect_and_trace_are_not_for_a_server_like_this() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("tunnelled"));
        let site = with_upstream(&upstream).replace("\"probe\"", "\"hello\"").replace("app.probe", "app.hello");
        let server = Site::new(driver, &site).start();
        for line in ["CONNECT test:80 HTTP/1.1\r\nHost: test:80", "TRACE /up/ HTTP/1.1\r\nHost: test\r\nCookie: secret"]
        {
            let mut client = server.connect();
            let response = client.ask(format!("{line}\r\n\r\n"));
            assert!(matches!(response.status, 400 | 405 | 501), "{driver:?} {line}: {}", response.status);
            assert!(!response.text().contains("secret"));
        }
        assert!(upstream.seen().is_empty(), "{driver:?}");
    });
}

#[test]
fn a_body_nobody_wants_does_not_become_a_request() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).file("f.txt", b"file").start();
        // A refused or ignored body is either skipped or the connection is closed: never read as a request.
        let inner = get("/sentinel").repeat(3);
        for path in ["/", "/files/f.txt", "/files/none"] {
            for size in [0, 100_000] {
                let body = format!("{inner}{}", "x".repeat(size));
                let mut client = server.connect();
                client.send(post(path, &body)).send(request("GET", "/", &["Connection: close"], ""));
                let (bytes, end) = client.read_to_end();
                assert_eq!(end, End::Closed, "{driver:?} {path} {size}");
                let texts: Vec<String> = parse_all(&bytes, &["POST"]).iter().map(Response::text).collect();
                assert!(
                    !texts.is_empty() && texts.iter().all(|text| text != "sentinel"),
                    "{driver:?} {path}: {texts:?}"
                );
            }
        }
    });
}
