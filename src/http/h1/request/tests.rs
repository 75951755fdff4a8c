//! Request heads, each case fed at every split point.

use super::*;
use crate::http::h1::FieldName;

const LIMITS: Limits = Limits { head_bytes_max: 400, target_bytes_max: 100, headers_max: 10 };

/// Parses `text`, and each beginning of it: none may be taken for a whole head, nor be refused for anything but
/// what the whole is refused for.
fn parse(text: &[u8]) -> Result<Option<RequestHead>, RequestError> {
    let mut head = RequestHead::default();
    let whole = parse_request(text, &LIMITS, &mut head).map(|found| found.map(|()| head.clone()));
    let mut head = RequestHead::default();
    for end in 0..text.len() {
        let part = parse_request(&text[..end], &LIMITS, &mut head);
        match (&whole, part) {
            (_, Ok(None)) => {
                let head_bytes = whole.as_ref().map(|head| head.as_ref().map(|head| head.head_bytes));
                assert!(!matches!(head_bytes, Ok(Some(bytes)) if bytes <= end), "late at {end}: {}", show(text));
            }
            (Ok(Some(whole)), Ok(Some(()))) => {
                assert_eq!(whole.head_bytes, head.head_bytes, "at {end}: {}", show(text));
                assert!(end >= whole.head_bytes, "early at {end}: {}", show(text));
            }
            (Err(whole), Err(part)) => assert_eq!(*whole, part, "at {end}: {}", show(text)),
            (whole, part) => panic!("{part:?} at {end}, {whole:?} for {}", show(text)),
        }
    }
    whole
}

fn show(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

fn accept(text: &[u8]) -> RequestHead {
    let head = parse(text).unwrap_or_else(|error| panic!("{error} for {}", show(text)));
    head.unwrap_or_else(|| panic!("incomplete: {}", show(text)))
}

/// `text` is refused with `error`.
fn refuse(text: impl AsRef<[u8]>, error: RequestError) {
    let found = parse(text.as_ref()).map(|head| head.is_some());
    assert_eq!(found, Err(error), "{}", show(text.as_ref()));
}

/// A request with these field lines besides Host.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[test]
fn positions_and_defaults() {
    let text = b"GET /p/q?r=%20&s HTTP/1.1\r\nHost:  Example.com:8080 \t\r\nX-Empty:\r\nX-Blank: \t \r\n\r\nrest";
    let head = accept(text);
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.method_text.of(text), b"GET");
    assert_eq!(head.target(text), b"/p/q?r=%20&s");
    assert_eq!(head.path(text), b"/p/q");
    assert_eq!(head.query(text), Some(&b"r=%20&s"[..]));
    assert_eq!(head.authority.of(text), b"Example.com:8080");
    assert_eq!(head.host(text), b"Example.com");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.body, BodyKind::None);
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    assert_eq!(head.head_bytes, text.len() - 4);
    let fields: Vec<_> = head.fields.iter().map(|field| (field.name.of(text), field.value.of(text))).collect();
    assert_eq!(fields, [(&b"Host"[..], &b"Example.com:8080"[..]), (b"X-Empty", b""), (b"X-Blank", b"")]);
    assert_eq!(head.fields[0].known, FieldName::Host);
    assert_eq!(head.fields[1].known, FieldName::Other);
}

#[test]
fn a_reused_head_keeps_nothing() {
    let mut head = RequestHead::default();
    let full = b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\
        Connection: close, upgrade\r\nUpgrade: x\r\n\r\n";
    parse_request(full, &LIMITS, &mut head).unwrap().unwrap();
    assert!(head.expect_continue && head.upgrade && !head.keep_alive);
    let bare = b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    parse_request(bare, &LIMITS, &mut head).unwrap().unwrap();
    assert!(head.authority.is_empty() && head.host(bare).is_empty());
    assert_eq!((head.body, head.method, head.version), (BodyKind::None, Method::Get, Version::Http10));
    assert!(head.keep_alive && !head.upgrade && !head.expect_continue);
    assert_eq!((head.fields.len(), head.target(bare)), (1, &b"/b"[..]));
}

#[test]
fn pipelined_heads_follow_each_other() {
    let text = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET /3 HT";
    let first = accept(text);
    let rest = &text[first.head_bytes..];
    let second = accept(rest);
    assert_eq!((first.target(text), second.target(rest)), (&b"/1"[..], &b"/2"[..]));
    assert_eq!(second.host(rest), b"b");
    assert!(parse(&rest[second.head_bytes..]).unwrap().is_none());
}

// RFC 9112 section 2.2
#[test]
fn one_empty_line_before_the_request_is_skipped() {
    let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = accept(text);
    assert_eq!((head.head_bytes, head.method_text.of(text)), (text.len(), &b"GET"[..]));
    refuse(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestError::Method);
    refuse(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", FieldError::BareLf.into());
    refuse(b"\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", FieldError::BareCr.into());
}

// RFC 9110 section 9.1, RFC 9112 section 3.1
#[test]
fn methods() {
    use Method::*;
    let known = [(Get, "GET"), (Head, "HEAD"), (Post, "POST"), (Put, "PUT"), (Delete, "DELETE")];
    let more = [(Options, "OPTIONS"), (Trace, "TRACE"), (Patch, "PATCH"), (Other, "get"), (Other, "M-SEARCH")];
    for (method, text) in known.into_iter().chain(more) {
        let line = format!("{text} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(accept(line.as_bytes()).method, method);
    }
    for wrong in ["", " ", "GE T", "G\0T", "G(T", "GET\t", "\u{e9}", "\x16\x03\x01", "G\r\n", "{"] {
        let text = format!("{wrong} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.status(), 400, "{error} for {wrong:?}");
    }
    refuse(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)), RequestError::MethodTooLong);
    accept(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(32)).as_bytes());
}

// RFC 9112 section 2.3
#[test]
fn versions() {
    for (text, version) in [("1.0", Version::Http10), ("1.1", Version::Http11), ("1.9", Version::Http11)] {
        let text = format!("GET / HTTP/{text}\r\nHost: a\r\n\r\n");
        assert_eq!(accept(text.as_bytes()).version, version);
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1", "HTTP/9.9"] {
        refuse(format!("GET / {version}\r\nHost: a\r\n\r\n"), RequestError::VersionUnknown);
    }
    let wrong = [
        "http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/01.1",
        "HTTP/+.1",
        "HTTP/1,1",
        "HTTP 1.1",
        "HTTPS/1.1",
        "x HTTP/1.1",
        "",
        "HTTP/1.1\t",
        "HTTP/1.1\r",
        "HTTP/\u{b9}.1",
    ];
    for version in wrong {
        refuse(format!("GET / {version}\r\nHost: a\r\n\r\n"), RequestError::Version);
    }
    refuse("GET / HTTP/1.1\nHost: a\r\n\r\n", RequestError::Version);
    refuse("GET /\r\n\r\n", RequestError::Version); // HTTP/0.9
    refuse("GET /\n", RequestError::Version);
    refuse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RequestError::VersionUnknown); // RFC 9113 section 3.4
}

// RFC 9112 section 3.2
#[test]
fn target_forms() {
    let target = |line: &str, host: &str, path: &str, authority: &str| {
        let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = accept(text.as_bytes());
        assert_eq!(head.target(text.as_bytes()).escape_ascii().to_string(), path, "{text:?}");
        assert_eq!(show(head.authority.of(text.as_bytes())), authority, "{text:?}");
    };
    target("GET //x//../y", "a", "//x//../y", "a");
    target("GET /a:b@c[]\\|{}^`\"<>", "a", "/a:b@c[]\\\\|{}^`\\\"<>", "a");
    target("GET /\u{e9}", "a", "/\\xc3\\xa9", "a");
    target("OPTIONS *", "a", "*", "a");
    target("OPTIONS /", "a", "/", "a");
    target("GET http://a/b?c", "a", "/b?c", "a");
    target("GET HTTP://A:80/", "a", "/", "A:80");
    target("GET https://a/", "a:443", "/", "a");
    target("GET https://a:443", "a", "/", "a:443");
    target("GET http://[::1]:8080/x", "[::1]:8080", "/x", "[::1]:8080");
    target("OPTIONS http://a", "a", "/", "a");
    let mut text = b"GET /\xff\x80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    assert_eq!(accept(&text).target(&text), b"/\xff\x80");
    text[5] = b'\0';
    refuse(&text, RequestError::Target);
}

#[test]
fn wrong_targets() {
    let wrong = [
        "GET *",
        "OPTIONS **",
        "OPTIONS *?",
        "GET a",
        "GET a:80",
        "GET ?a",
        "GET /a#b",
        "GET #",
        "GET /\t",
        "GET /\u{7f}",
        "GET /\u{1}",
        "GET ftp://a/",
        "GET http:/a",
        "GET http:a",
        "GET //",
        "GET http://a?b",
        "GET mailto:a",
        "GET javascript://a/",
    ];
    for line in wrong.into_iter().filter(|line| *line != "GET //") {
        refuse(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::Target);
    }
    for line in
        ["GET http://", "GET http:///", "GET http://u@a/", "GET http://u:p@a/", "GET http://a:x/", "GET http://a%/"]
    {
        refuse(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::Host);
    }
    for line in ["GET http://b/", "GET http://a:81/", "GET https://a:80/", "GET http://a./", "GET http://ab/"] {
        refuse(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::HostDiffers);
    }
}

// RFC 9112 section 3.2.3
#[test]
fn connect_takes_an_authority_only() {
    for (host, authority) in [("a:443", "a:443"), ("a", "a:443"), ("A:0443", "a:443"), ("[::1]:1", "[::1]:1")] {
        let text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = accept(text.as_bytes());
        assert_eq!((head.method, head.authority.of(text.as_bytes())), (Method::Connect, authority.as_bytes()));
        assert!(head.target.is_empty());
    }
    for target in ["a", "a:", "/", "*", "http://a:80/", "u@a:80", "a:80/", ":80", "a:65536"] {
        refuse(format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::Target);
    }
    for host in ["b:443", "a:80", "b"] {
        refuse(format!("CONNECT a:443 HTTP/1.1\r\nHost: {host}\r\n\r\n"), RequestError::HostDiffers);
    }
    refuse("CONNECT a:443 HTTP/1.1\r\n\r\n", RequestError::HostMissing);
    let text = b"CONNECT a:443 HTTP/1.0\r\n\r\n";
    assert_eq!(accept(text).host(text), b"a");
}

// RFC 9112 section 3.2, RFC 9110 section 7.2
#[test]
fn hosts() {
    refuse("GET / HTTP/1.1\r\n\r\n", RequestError::HostMissing);
    refuse("GET / HTTP/1.7\r\nX: y\r\n\r\n", RequestError::HostMissing);
    refuse("GET http://a/ HTTP/1.1\r\n\r\n", RequestError::HostMissing);
    refuse(with("Host: b"), RequestError::HostRepeated);
    refuse(with("hOST: a"), RequestError::HostRepeated);
    for wrong in ["", "a b", "a,b", "a, b", "u@a", "a/", "http://a", "a:b", "a\u{e9}", "*?", "a:1:2", "[::1", "a\\b"] {
        let error = if wrong == "a,b" { None } else { Some(RequestError::Host) };
        let text = format!("GET / HTTP/1.1\r\nHost: {wrong}\r\n\r\n");
        assert_eq!(parse(text.as_bytes()).err(), error, "{wrong}"); // RFC 3986: a comma is a byte of a name
    }
    let text = b"GET http://a:8/ HTTP/1.0\r\n\r\n";
    assert_eq!(accept(text).authority.of(text), b"a:8");
}

// RFC 9112 sections 2.2, 5.1 and 5.2, RFC 9110 section 5.5
#[test]
fn field_lines() {
    use FieldError::*;
    let wrong = [
        ("X: a\nY: b", BareLf),
        ("X: a\n", BareLf),
        ("X:\n", BareLf),
        ("\nX: a", BareLf),
        ("X: a\rY: b", BareCr),
        ("X: a\r", BareCr),
        ("X\r: a", Name),
        ("\rX: a", BareCr),
        ("X : a", SpaceBeforeColon),
        ("X\t: a", SpaceBeforeColon),
        ("Transfer-Encoding : chunked", SpaceBeforeColon),
        ("X: a\r\n b", Folded),
        ("X: a\r\n\tb", Folded),
        ("X:\r\n b", Folded),
        (" X: a", Folded),
        (" Content-Length: 5", Folded),
        ("X: a\0", Value),
        ("X: a\u{7f}", Value),
        ("X: \u{b}a", Value),
        ("X: a\u{1b}[1m", Value),
        (": a", Name),
        ("X", Name),
        ("X a: b", SpaceBeforeColon),
        ("X(: a", Name),
        ("X\u{e9}: a", Name),
        ("X\0: a", Name),
        ("\"X\": a", Name),
        ("[X]: a", Name),
    ];
    for (line, error) in wrong {
        refuse(with(line), error.into());
        refuse(format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n"), error.into());
    }
    refuse("GET / HTTP/1.1\r\nHost: a\n\n", BareLf.into());
    refuse("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf.into());
    refuse("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf.into());
    refuse("GET / HTTP/1.1\r\n\n", BareLf.into());
    refuse("GET / HTTP/1.1\r\nHost: a\r\n\rX", BareCr.into());
    let text = with("X: \u{e9} a \t b\r\nY!#$%&'*+-.^_`|~1:,\"\\");
    assert_eq!(accept(text.as_bytes()).fields.len(), 3);
}

// RFC 9112 section 6.3, RFC 9110 section 8.6
#[test]
fn content_length() {
    let length = |fields: &str| accept(with(fields).as_bytes()).body;
    assert_eq!(length("Content-Length: 0"), BodyKind::None);
    assert_eq!(length("Content-Length: 5"), BodyKind::Length(5));
    assert_eq!(length("CONTENT-LENGTH:\t5 "), BodyKind::Length(5));
    assert_eq!(length("Content-Length: 5, 5 ,5"), BodyKind::Length(5));
    assert_eq!(length("Content-Length: 5\r\nX: y\r\nContent-Length: 5"), BodyKind::Length(5));
    assert_eq!(length("Content-Length: 00000000000000000000000005"), BodyKind::Length(5));
    assert_eq!(length("Content-Length: 9223372036854775807"), BodyKind::Length(i64::MAX as u64));
    let wrong = [
        "",
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5_0",
        "5.0",
        "5e1",
        "five",
        "5,",
        ",5",
        "5,,5",
        "\"5\"",
        "5;q=1",
        "\u{665}",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999",
        "5, x",
    ];
    for value in wrong {
        refuse(with(&format!("Content-Length: {value}")), FieldError::ContentLength.into());
    }
    for fields in ["Content-Length: 5, 6", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 0,1"] {
        refuse(with(fields), FieldError::ContentLengthsDiffer.into());
    }
}

// RFC 9112 sections 6.1 and 6.3
#[test]
fn transfer_encoding() {
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked\t "] {
        assert_eq!(accept(with(&format!("Transfer-Encoding:{value}")).as_bytes()).body, BodyKind::Chunked);
    }
    let unknown = ["gzip", "xchunked", "chunkedx", "chunk", "identity", "gzip, chunked", "chunked, identity", "x,y"];
    for value in unknown {
        refuse(with(&format!("Transfer-Encoding: {value}")), RequestError::CodingUnknown);
    }
    let invalid = [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked chunked",
        "\"chunked\"",
        "chunked;a",
        "chunked;",
        "chun\u{212a}ed",
        "(chunked)",
        "chunked\u{a0}",
        "gzip;q=1, chunked",
    ];
    for value in invalid {
        refuse(with(&format!("Transfer-Encoding: {value}")), RequestError::Coding);
    }
    refuse(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), RequestError::Coding);
    refuse(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), RequestError::CodingUnknown);
    refuse(with("Transfer-Encoding: x\r\nTransfer-Encoding: chunked"), RequestError::CodingUnknown);
    refuse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", RequestError::CodingInHttp10);
    assert_eq!(RequestError::CodingInHttp10.status(), 400);
}

// RFC 9112 section 11.2: what a second parser might frame in another way must not get through.
#[test]
fn smuggling() {
    for te in ["chunked", "x", "", "identity", "chunked, chunked"] {
        for cl in ["5", "0"] {
            let both = with(&format!("Content-Length: {cl}\r\nTransfer-Encoding: {te}"));
            refuse(both, RequestError::LengthAndCoding);
            let both = with(&format!("transfer-encoding: {te}\r\nX: y\r\ncontent-length: {cl}"));
            refuse(both, RequestError::LengthAndCoding);
        }
    }
    let hidden = [
        ("X: y\nTransfer-Encoding: chunked", FieldError::BareLf),
        ("X: y\rTransfer-Encoding: chunked", FieldError::BareCr),
        ("X:\rTransfer-Encoding: chunked", FieldError::BareCr),
        ("Transfer-Encoding: chunked\n", FieldError::BareLf),
        ("Transfer-Encoding\r\n: chunked", FieldError::Name),
        ("Transfer-Encoding\n : chunked", FieldError::BareLf),
        ("Transfer-Encoding:\r\n chunked", FieldError::Folded),
        ("Transfer-Encoding: \u{b}chunked", FieldError::Value),
        ("Transfer-Encoding: chunked\0", FieldError::Value),
        ("Transfer-Encoding: \u{7f}chunked", FieldError::Value),
        ("\0Transfer-Encoding: chunked", FieldError::Name),
        ("Content-Length\u{a0}: 5", FieldError::Name),
        ("X: y\r\n\rContent-Length: 5", FieldError::BareCr),
    ];
    for (lines, error) in hidden {
        refuse(with(lines), error.into());
    }
    let spaces = "POST / HTTP/1.1 \r\nHost: a\r\n\r\n";
    refuse(spaces, RequestError::Version);
    refuse("GET / HTTP/1.1\r\nHost: a\r\n\r\n".replace(" /", "\t/"), RequestError::Method);
    refuse("GET / HTTP/1.1\r\nHost: a\r\n\r\n".replace("/ ", "/\t"), RequestError::Target);
}

#[test]
fn what_cannot_become_a_request_is_refused_before_the_rest_is_there() {
    let refused = |text: &str| parse_request(text.as_bytes(), &LIMITS, &mut RequestHead::default()).is_err();
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    for text in
        ["\x16\x03\x01", "GET\t", "GET  ", "GET /\r", "GET /#", "GET / HTP", "GET / HTTP/x", "GET a HTTP/1.1\r\n"]
    {
        assert!(refused(text), "{text:?}");
    }
    for text in ["X: y\n", "X ", " ", "X\0", "X: \0", "X: y\r\n ", "X: y\rz"] {
        assert!(refused(&format!("{start}{text}")), "{text:?}");
    }
    for text in ["", "\r", "\r\n", "GET", "GET ", "GET /", "GET / ", "GET / HTTP/1.1\r", start, &start[..20]] {
        assert!(!refused(text), "{text:?}");
    }
}

// RFC 9112 section 9.3, RFC 9110 sections 7.6.1 and 7.8
#[test]
fn connection_options() {
    let keeps = |version: &str, fields: &str| {
        accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(keeps("1.1", "Connection: keep-alive\r\n"));
    assert!(keeps("1.1", "Connection: closed, close-x, x\r\n"));
    assert!(!keeps("1.1", "Connection: close\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive ,, CLOSE\r\n"));
    assert!(!keeps("1.1", "Connection: x\r\nConnection: Close\r\n"));
    assert!(!keeps("1.0", ""));
    assert!(!keeps("1.0", "Proxy-Connection: keep-alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    let upgrades = |version: &str, fields: &str| {
        accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).upgrade
    };
    assert!(upgrades("1.1", "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"));
    assert!(!upgrades("1.1", "Upgrade: websocket\r\n"));
    assert!(!upgrades("1.1", "Connection: upgrade\r\n"));
    assert!(!upgrades("1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n"));
}

// RFC 9110 section 10.1.1
#[test]
fn expectations() {
    let text = with("Expect: 100-Continue\r\nContent-Length: 1");
    assert!(accept(text.as_bytes()).expect_continue);
    assert!(!accept(with("Expect: 100-continue").as_bytes()).expect_continue); // nothing to wait for
    assert!(!accept(with("Expect:\r\nContent-Length: 1").as_bytes()).expect_continue);
    assert!(!accept(text.replace("1.1", "1.0").as_bytes()).expect_continue);
    accept(with("Expect: x").replace("1.1", "1.0").as_bytes());
    for value in ["x", "100-continue, x", "100-continue=1", "200-ok"] {
        refuse(with(&format!("Expect: {value}")), RequestError::Expectation);
    }
}

#[test]
fn limits() {
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes - 1));
    accept(target(100).as_bytes());
    refuse(target(101), RequestError::TargetTooLong);
    refuse(target(1000), RequestError::TargetTooLong);
    refuse(format!("GET /{}", "t".repeat(1000)), RequestError::TargetTooLong);
    let head = |bytes: usize| {
        let empty = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        empty.replace("X: ", &format!("X: {}", "x".repeat(bytes - empty.len())))
    };
    assert_eq!(accept(head(400).as_bytes()).head_bytes, 400);
    refuse(head(401), RequestError::HeadTooLong);
    refuse(head(4000), RequestError::HeadTooLong);
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(accept(fields(10).as_bytes()).fields.len(), 10);
    refuse(fields(11), FieldError::TooMany.into());
    for (error, status) in [(RequestError::TargetTooLong, 414), (RequestError::HeadTooLong, 431)] {
        assert_eq!(error.status(), status);
    }
    assert_eq!(RequestError::from(FieldError::TooMany).status(), 431);
}

#[test]
fn a_request_line_that_fills_the_head_is_414() {
    let limits = Limits { head_bytes_max: 50, target_bytes_max: 100, headers_max: 10 };
    let text = format!("GET /{} HTTP/1.1\r\n", "t".repeat(60));
    let found = parse_request(text.as_bytes(), &limits, &mut RequestHead::default());
    assert_eq!(found, Err(RequestError::TargetTooLong));
}

// A long unfinished section is looked at in another way than a short one: the answers must be the same.
#[test]
fn long_heads_are_found_and_refused_at_every_split_point() {
    let limits = Limits { head_bytes_max: 16 << 10, target_bytes_max: 100, headers_max: 100 };
    let check = |fields: &str, expect: Result<(), RequestError>| {
        let usual = format!("X: {}\r\n", "x".repeat(60)).repeat(50);
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{usual}{fields}\r\n\r\n");
        let mut head = RequestHead::default();
        assert_eq!(parse_request(text.as_bytes(), &limits, &mut head), expect.map(Some), "{fields}");
        for end in 4000..text.len() {
            let part = parse_request(&text.as_bytes()[..end], &limits, &mut head);
            assert!(part == Ok(None) || part == expect.map(Some) && expect.is_err(), "{part:?} at {end}: {fields}");
        }
    };
    let long = format!("Y: {}", "y".repeat(1500));
    check(&long, Ok(()));
    check(&format!("{long}\nZ: z"), Err(FieldError::BareLf.into()));
    check(&format!("{long}\r\nZ : z"), Err(FieldError::SpaceBeforeColon.into()));
    check(&format!("{long}{}", "\r\nZ: z".repeat(100)), Err(FieldError::TooMany.into()));
}

#[test]
fn every_number_of_fields_up_to_the_limit_fits() {
    let mut head = RequestHead::default();
    for max in [1, 31, 32, 33, 127, 128, 129, 1000, usize::MAX] {
        let limits = Limits { head_bytes_max: usize::MAX, target_bytes_max: usize::MAX, headers_max: max };
        let fits = max.min(5000);
        let mut text = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        text.extend(b"a:\r\n".repeat(fits - 1));
        let with_one_more = [&text[..], b"a:\r\n\r\n"].concat();
        text.extend(b"\r\n");
        assert_eq!(parse_request(&text, &limits, &mut head), Ok(Some(())), "{max}");
        assert_eq!(head.fields.len(), fits);
        if max <= fits {
            let found = parse_request(&with_one_more, &limits, &mut head);
            assert_eq!(found, Err(RequestError::Field(FieldError::TooMany)), "{max}");
        }
    }
}
