//! Tables of what goes in and what comes out, attempts to smuggle, and properties over arbitrary fields.

use proptest::prelude::*;

use super::*;
use crate::http::answer::AnswerHead;
use crate::http::h1::{
    AnswerContext, BodyKind, Downstream, Limits, Method, RequestHead, ResponseHead, Span, Version, parse_request,
    write_answer_head,
};

const CONTEXT: RequestContext<'static> = RequestContext {
    client_ip: b"192.0.2.1",
    scheme: Scheme::Http,
    listener_port: 8080,
    server_host: b"10.0.0.7:80",
    request_id: b"7f3a",
    body: BodyKind::None,
    keep_alive: true,
    upgrade: None,
    forwarded: false,
    via: None,
};

const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn span(text: &[u8], piece: &[u8]) -> Span {
    let start = piece.as_ptr() as usize - text.as_ptr() as usize;
    Span::from(start..start + piece.len())
}

fn fields(text: &[u8], headers: &[httparse::Header<'_>]) -> Vec<Field> {
    let field = |header: &httparse::Header<'_>| Field {
        known: FieldName::of(header.name.as_bytes()),
        name: span(text, header.name.as_bytes()),
        value: span(text, header.value),
    };
    headers.iter().map(field).collect()
}

/// A head as the codec would make it, without the codec's refusals: what is written must not depend on them.
fn request(text: &[u8]) -> RequestHead {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = parsed.parse(text).expect("test input parses").unwrap();
    let (method, target) = (parsed.method.unwrap(), parsed.path.unwrap().as_bytes());
    let fields = fields(text, parsed.headers);
    let host = fields.iter().find(|field| field.known == FieldName::Host).map(|field| field.value);
    let (target, authority) = match target.strip_prefix(b"http://") {
        Some(rest) => {
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            (span(text, &rest[end..]), Some(span(text, &rest[..end])))
        }
        None => (span(text, target), host),
    };
    RequestHead {
        method: Method::of(method.as_bytes()),
        method_text: span(text, method.as_bytes()),
        target,
        authority: authority.unwrap_or_default(),
        fields,
        head_bytes,
        ..RequestHead::default()
    }
}

fn response(text: &[u8], body: BodyKind) -> ResponseHead {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut headers);
    let head_bytes = parsed.parse(text).expect("test input parses").unwrap();
    let reason = parsed.reason.map(str::as_bytes).filter(|reason| !reason.is_empty());
    ResponseHead {
        status: parsed.code.unwrap(),
        reason: reason.map(|reason| span(text, reason)).unwrap_or_default(),
        fields: fields(text, parsed.headers),
        body,
        head_bytes,
        ..ResponseHead::default()
    }
}

fn forward(text: &[u8], context: &RequestContext<'_>) -> String {
    let mut out = Vec::new();
    write_request_head(&mut out, &request(text), text, context).unwrap();
    String::from_utf8(out).unwrap()
}

/// `input` leaves as `expect`, up to the fields that each request gets.
fn check(input: &str, expect: &str) {
    check_with(input, &CONTEXT, expect);
}

fn check_with(input: &str, context: &RequestContext<'_>, expect: &str) {
    let out = forward(input.as_bytes(), context);
    let at = out.find("X-Forwarded-For: ").unwrap();
    let tail_at = at + out[at..].find("X-Request-Id: 7f3a\r\n").map_or(0, |id| id + 20);
    assert_eq!(format!("{}{}", &out[..at], &out[tail_at..]), expect, "from {input:?}");
}

#[test]
fn the_whole_head_of_a_plain_request() {
    let out = forward(b"GET /a?b=1 HTTP/1.1\r\nHost: Example.org:8080\r\nAccept: */*\r\n\r\n", &CONTEXT);
    assert_eq!(
        out,
        "GET /a?b=1 HTTP/1.1\r\nHost: Example.org:8080\r\nAccept: */*\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.org:8080\r\nX-Forwarded-Port: 8080\r\n\
         X-Request-Id: 7f3a\r\n\r\n"
    );
}

#[test]
fn request_line_and_host() {
    check("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    check("BREW /pot HTTP/1.1\r\nhost: a\r\n\r\n", "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n");
    // absolute-form: its authority is the host, whatever Host says
    check("GET http://a:81/x?y HTTP/1.1\r\nHost: b\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a:81\r\n\r\n");
    check("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    check("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?x HTTP/1.1\r\nHost: a\r\n\r\n");
    check("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    check("OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n");
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    check("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: 10.0.0.7:80\r\n\r\n");
}

#[test]
fn fields_for_one_hop_stay_here() {
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE, X-Hop\r\nTE: deflate\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nProxy-Authenticate: x\r\n\
         Upgrade: h2c\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\nX-Hop: 1\r\nx-HOP: 2\r\nX-Hops: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Hops: 3\r\nContent-Length: 0\r\n\r\n",
    );
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, X-A ,\t x-b\r\nConnection: x-c\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
}

// RFC 9110 sections 6.6.2 and 10.1.4
#[test]
fn trailers_are_told_of_hop_by_hop() {
    let te = "TE: trailers\r\nConnection: TE\r\n";
    for asked in
        ["Connection: TE\r\nTE: trailers\r\n", "TE: deflate;q=0.5, Trailers\r\nConnection: te\r\n", "TE: trailers\r\n"]
    {
        check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{asked}\r\n"), &format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n"));
    }
    let last = RequestContext { keep_alive: false, ..CONTEXT };
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
    check_with(asked, &last, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
    let switch = RequestContext { upgrade: Some(b"websocket"), ..CONTEXT };
    check_with(asked, &switch, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    // They are announced where there is a place for them.
    let announced =
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\ntrailer: X-B\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = RequestContext { body: BodyKind::Chunked, ..CONTEXT };
    let expect = "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\ntrailer: X-B\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_with(announced, &chunked, expect);
    let length = RequestContext { body: BodyKind::Length(3), ..CONTEXT };
    check_with(announced, &length, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
}

#[test]
fn connection_cannot_remove_what_is_meant_for_the_server() {
    let out = forward(
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nCookie: s=1\r\nCache-Control: no-cache\r\n\
          X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Prefix: /app\r\nX-Real-IP: 198.51.100.7\r\nContent-Type: a/b\r\n\
          Connection: X-Forwarded-For, x-forwarded-proto, X-Forwarded-Prefix, Host, authorization, cookie, X-Real-IP\r\n\
          Connection: Content-Length, content-type, cache-control, x-request-id, x-forwarded-host, x-forwarded-port\r\n\r\n",
        &RequestContext { body: BodyKind::Length(5), ..CONTEXT },
    );
    for kept in [
        "Host: a\r\n",
        "Authorization: Bearer x\r\n",
        "Cookie: s=1\r\n",
        "Cache-Control: no-cache\r\n",
        "X-Forwarded-For: 198.51.100.7, 192.0.2.1\r\n",
        "X-Forwarded-Prefix: /app\r\n",
        "X-Real-IP: 198.51.100.7\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Host: a\r\n",
        "X-Forwarded-Port: 8080\r\n",
        "X-Request-Id: 7f3a\r\n",
        "Content-Type: a/b\r\n",
        "Content-Length: 5\r\n",
    ] {
        assert!(out.contains(&format!("\r\n{kept}")), "{kept:?} is missing from {out}");
    }
}

#[test]
fn too_many_connection_options_are_refused_and_nothing_is_written() {
    let names = |count: usize| (0..count).map(|i| format!("x-{i}")).collect::<Vec<_>>().join(",");
    let text = |count| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, te, {}\r\n\r\n", names(count));
    let mut out = Vec::new();
    let bad = text(CONNECTION_OPTIONS_MAX + 1);
    let result = write_request_head(&mut out, &request(bad.as_bytes()), bad.as_bytes(), &CONTEXT);
    assert_eq!((result, out.len()), (Err(HeadError::ConnectionOptions), 0));
    forward(text(CONNECTION_OPTIONS_MAX).as_bytes(), &CONTEXT);
}

#[test]
fn forwarded_for_is_continued_and_the_rest_replaced() {
    let out = forward(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\nx-forwarded-for: 203.0.113.9, 10.0.0.1\r\n\
          X-Forwarded-For:\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
          X-Request-Id: mine\r\n\r\n",
        &RequestContext { scheme: Scheme::Https, listener_port: 443, ..CONTEXT },
    );
    assert_eq!(
        out,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\
         X-Forwarded-For: 198.51.100.7, 203.0.113.9, 10.0.0.1, 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: a\r\nX-Forwarded-Port: 443\r\n\r\n"
    );
    let out = forward(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id:\r\n\r\n", &CONTEXT);
    assert_eq!(out.matches("X-Request-Id").count(), 1);
    assert!(out.contains("X-Request-Id: 7f3a\r\n"));
}

#[test]
fn names_that_look_like_ours_to_cgi_are_dropped() {
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 127.0.0.1\r\nX-Forwarded_Proto: https\r\nx_request_id: 1\r\n\
         Content_Length: 5\r\nTransfer_Encoding: chunked\r\nx_user_name: kept\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx_user_name: kept\r\n\r\n",
    );
}

#[test]
fn framing_is_ours() {
    let length = RequestContext { body: BodyKind::Length(u64::MAX), ..CONTEXT };
    let chunked = RequestContext { body: BodyKind::Chunked, ..CONTEXT };
    let close = RequestContext { keep_alive: false, ..CONTEXT };
    check_with(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        &length,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
    );
    check_with(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
        &chunked,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    check("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    );
    check_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &close, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}

/// Even heads that the codec refuses would leave with one framing, ours.
#[test]
fn smuggling_attempts_leave_with_one_framing() {
    let attempts = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nConnection: Content-Length\r\n",
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\nContent-Length: 4\r\n",
        "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n",
    ];
    for attempt in attempts {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{attempt}\r\n");
        let out = forward(text.as_bytes(), &RequestContext { body: BodyKind::Length(3), ..CONTEXT }).to_lowercase();
        assert_eq!(out.matches("content-length: 3\r\n").count(), 1, "{out}");
        assert_eq!(out.matches("length").count() + out.matches("encoding").count(), 1, "{out}");
    }
}

#[test]
fn addresses_as_text() {
    for (ip, text) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:6666"),
    ] {
        assert_eq!(IpText::new(ip.parse().unwrap()).as_bytes(), text.as_bytes());
    }
}

#[test]
fn addresses_are_written_as_they_always_are() {
    for octet in 0..=u8::MAX {
        let ip = std::net::IpAddr::from([octet, 255 - octet, 0, octet]);
        assert_eq!(IpText::new(ip).as_bytes(), ip.to_string().as_bytes());
    }
}

/// The head that a client of HTTP/1 gets for the response `text`, whose body ends as `body` says.
fn answer(method: Method, version: Version, keep_alive: bool, text: &[u8], body: BodyKind) -> (String, Downstream) {
    let head = response(text, body);
    let (mut fields, mut out) = (Vec::new(), Vec::new());
    write_response_fields(&mut fields, &head, text).unwrap();
    let date = if head.field(text, FieldName::Date).is_some() { b"" } else { DATE };
    let content = response_content(&head, text, method);
    let answer = AnswerHead { status: head.status, reason: Some(head.reason.of(text)), fields: &fields, content };
    let context = AnswerContext { method, version, keep_alive, server: b"", date };
    let downstream = write_answer_head(&mut out, &answer, &context);
    (String::from_utf8(out).unwrap(), downstream)
}

/// The answer `input`, whose body ends as `body` says, leaves as `expect` when the downstream connection may be kept.
/// `to` is method and version of the request. Lines are parted by `|`.
fn check_response(to: &str, input: &str, body: BodyKind, expect: &str, downstream: Downstream) {
    let (method, version) = to.split_once(' ').unwrap();
    let (method, version) =
        (Method::of(method.as_bytes()), if version == "1.0" { Version::Http10 } else { Version::Http11 });
    let text = format!("HTTP/1.1 {}\r\nDate: x\r\n\r\n", input.replace('|', "\r\n"));
    let (out, got) = answer(method, version, true, text.as_bytes(), body);
    let out = out.replace("Date: x\r\n", "").replace("\r\n", "|");
    assert_eq!((out, got), (format!("HTTP/1.1 {expect}||"), downstream), "{to} {input:?}");
    let (out, got) = answer(method, version, false, text.as_bytes(), body);
    assert!(out.contains("Connection: close\r\n") && !got.keep_alive, "{out}");
}

fn kept(body: BodyKind) -> Downstream {
    Downstream { body, keep_alive: true }
}

const UNTIL_CLOSE: Downstream = Downstream { body: BodyKind::UntilClose, keep_alive: false };

#[test]
fn responses_of_known_length() {
    let five = BodyKind::Length(5);
    check_response("GET 1.1", "200 OK|Content-Length: 5", five, "200 OK|Content-Length: 5", kept(five));
    let expect = "200 OK|Content-Length: 5|Connection: keep-alive";
    check_response("GET 1.0", "200 OK|Content-Length: 5", five, expect, kept(five));
    for empty in [BodyKind::None, BodyKind::Length(0)] {
        check_response("GET 1.1", "404 |content-length: 0", empty, "404 |Content-Length: 0", kept(BodyKind::None));
    }
}

#[test]
fn responses_of_unknown_length() {
    let (chunked, until_close) = (BodyKind::Chunked, BodyKind::UntilClose);
    let expect = "200 OK|Transfer-Encoding: chunked";
    check_response("GET 1.1", "200 OK|Transfer-Encoding: chunked|Trailer: X", chunked, expect, kept(chunked));
    check_response("GET 1.1", "200 OK|Transfer-Encoding: chunked|Content-Length: 5", chunked, expect, kept(chunked));
    check_response("GET 1.1", "200 OK|Connection: close", until_close, expect, kept(chunked));
    let expect = "200 OK|Connection: close";
    check_response("GET 1.0", "200 OK|Transfer-Encoding: chunked", chunked, expect, UNTIL_CLOSE);
    check_response("GET 1.0", "200 OK", until_close, expect, UNTIL_CLOSE);
}

#[test]
fn responses_without_body_by_status_or_method() {
    let none = BodyKind::None;
    check_response("GET 1.1", "204 No|Content-Length: 0|Transfer-Encoding: chunked", none, "204 No", kept(none));
    check_response("GET 1.1", "304 N|Content-Length: 9|ETag: x", none, "304 N|ETag: x|Content-Length: 9", kept(none));
    check_response("GET 1.1", "304 N", none, "304 N", kept(none));
    let expect = "200 OK|Content-Length: 9";
    check_response("HEAD 1.1", "200 OK|Content-Length: 9", none, expect, kept(none));
    check_response("HEAD 1.1", "200 OK|Content-Length: 9, 9|Content-Length: 9", none, expect, kept(none));
    for unclear in [
        "200 OK",
        "200 OK|Content-Length: 9|Content-Length: 8",
        "200 OK|Content-Length: 99999999999999999999",
        "200 OK|Content-Length: -9",
        "200 OK|Content-Length: 9|Transfer-Encoding: chunked",
    ] {
        check_response("HEAD 1.1", unclear, none, "200 OK", kept(none));
    }
    check_response("HEAD 1.0", "200 OK", none, "200 OK|Connection: keep-alive", kept(none));
}

#[test]
fn status_and_fields_of_a_response_are_the_servers() {
    check_response(
        "GET 1.1",
        "299 |Connection: X-Hop, close|X-Hop: 1|Keep-Alive: timeout=5|Upgrade: h2c|Proxy-Authenticate: x|Server: s/1\
         |Set-Cookie: a|set-cookie: b",
        BodyKind::None,
        "299 |Server: s/1|Set-Cookie: a|set-cookie: b|Content-Length: 0",
        kept(BodyKind::None),
    );
}

#[test]
fn date_is_added_once_and_server_kept() {
    let (out, _) = answer(Method::Get, Version::Http11, true, b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", BodyKind::None);
    assert_eq!(out, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\nContent-Length: 0\r\n\r\n");
    let (out, _) = answer(Method::Get, Version::Http11, true, b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n", BodyKind::None);
    assert_eq!(out.to_lowercase().matches("date:").count(), 1);
}

#[test]
fn interim_responses() {
    let text = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let mut out = Vec::new();
    write_response_fields(&mut out, &response(text, BodyKind::None), text).unwrap();
    assert_eq!(out, b"Link: </a.css>\r\n");
    let forwarded: Vec<u16> = (100..=200).filter(|&status| is_forwarded_interim(status, Version::Http11)).collect();
    assert_eq!(forwarded, (102..200).collect::<Vec<_>>());
    assert!(!is_forwarded_interim(103, Version::Http10));
}

const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "upgrade", "expect"];

fn arbitrary_fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        3 => "[A-Za-z][A-Za-z0-9_-]{0,8}",
        2 => prop::sample::select(vec![
            "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Proxy-Connection", "Proxy-Authenticate",
            "Proxy-Authorization", "Content-Length", "Transfer-Encoding", "X-Forwarded-For", "x_forwarded_for", "Host",
            "X-Request-Id", "x-a", "X-B", "Date",
        ]).prop_map(String::from),
    ];
    let value = prop_oneof![
        2 => "[!-~]([ -~\t]{0,20}[!-~])?",
        1 => "(x-a|X-B|close|keep-alive|host|chunked|5)(, ?(x-a|X-b|te|x-forwarded-for|upgrade)){0,3}",
        1 => Just(String::new()),
    ];
    prop::collection::vec((name, value), 0..16)
}

fn parse_fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let used = if head.starts_with(b"HTTP/") {
        httparse::Response::new(&mut headers).parse(head)
    } else {
        httparse::Request::new(&mut headers).parse(head)
    };
    assert_eq!(used, Ok(httparse::Status::Complete(head.len())), "the head ends where it should");
    headers
        .iter()
        .take_while(|header| !header.name.is_empty())
        .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
        .collect()
}

/// Names that the message's Connection fields nominate.
fn nominated(fields: &[(String, String)]) -> Vec<String> {
    let connection = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    connection.flat_map(|(_, value)| value.split(',').map(|name| name.trim().to_ascii_lowercase())).collect()
}

fn text_of(first_line: &str, fields: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("{first_line}\r\n").into_bytes();
    for (name, value) in fields {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn check_no_hop_by_hop(out: &[(String, Vec<u8>)]) {
    for (name, value) in out {
        assert!(!HOP_BY_HOP.contains(&name.as_str()), "{name} left");
        assert!(
            name != "connection" || matches!(&value[..], b"close" | b"keep-alive" | b"TE"),
            "connection: {value:?}"
        );
        assert!(name != "te" || value == b"trailers", "te: {value:?}");
        let is_chunked = out.iter().any(|(name, _)| name == "transfer-encoding");
        assert!(name != "trailer" || is_chunked, "nothing can come behind the content: {out:?}");
    }
    let has = |wanted: &str, value: &[u8]| out.iter().any(|(name, found)| name == wanted && found == value);
    assert_eq!(has("te", b"trailers"), has("connection", b"TE"));
    let framing = |wanted: &str| out.iter().filter(|(name, _)| name == wanted).count();
    assert!(framing("content-length") + framing("transfer-encoding") <= 1, "two framings: {out:?}");
    assert!(framing("connection") <= 1 && framing("host") <= 1);
}

proptest! {
    #[test]
    fn requests_parse_and_carry_no_hop_by_hop_field(fields in arbitrary_fields(), length: u64, kind in 0..3) {
        let text = text_of("POST /x HTTP/1.1", &fields);
        let body = [BodyKind::None, BodyKind::Length(length), BodyKind::Chunked][kind as usize];
        let mut out = Vec::new();
        write_request_head(&mut out, &request(&text), &text, &RequestContext { body, ..CONTEXT }).unwrap();
        let parsed = parse_fields(&out);
        check_no_hop_by_hop(&parsed);
        let count = |wanted: &str| parsed.iter().filter(|(name, _)| name == wanted).count();
        prop_assert_eq!((count("host"), count("x-forwarded-for"), count("x-forwarded-proto")), (1, 1, 1));
        prop_assert!(count("x-request-id") >= 1);
        let nominated = nominated(&fields);
        for (name, value) in fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            let plain = FieldName::of(name.as_bytes()) == FieldName::Other && !name.contains('_');
            let gone = !parsed.iter().any(|(n, v)| *n == name && v == value.as_bytes());
            if plain && !name.starts_with("content-") {
                prop_assert_eq!(gone, nominated.contains(&name), "{}", name);
            }
        }
    }

    /// What our codec reads in the head we write is what it read in the client's.
    #[test]
    fn requests_survive_our_own_codec(fields in arbitrary_fields(), body in prop::sample::select(vec![
        BodyKind::None, BodyKind::Length(7), BodyKind::Chunked,
    ])) {
        let mut fields = fields;
        fields.retain(|(name, _)| !["Host", "Content-Length", "Transfer-Encoding", "Expect"].contains(&name.as_str()));
        fields.push(("Host".into(), "a.example:8080".into()));
        match body {
            BodyKind::Length(length) => fields.push(("Content-Length".into(), length.to_string())),
            BodyKind::Chunked => fields.push(("Transfer-Encoding".into(), "chunked".into())),
            _ => {}
        }
        let text = text_of("POST /x?y HTTP/1.1", &fields);
        let (limits, mut head, mut again) = (Limits::default(), RequestHead::default(), RequestHead::default());
        prop_assert_eq!(parse_request(&text, &limits, &mut head), Ok(Some(())));
        prop_assert_eq!(head.body, body);
        let mut out = Vec::new();
        write_request_head(&mut out, &head, &text, &RequestContext { body, ..CONTEXT }).unwrap();
        prop_assert_eq!(parse_request(&out, &limits, &mut again), Ok(Some(())));
        prop_assert_eq!((again.body, again.head_bytes, again.keep_alive), (body, out.len(), true));
        prop_assert_eq!((again.target(&out), again.authority.of(&out)), (&b"/x?y"[..], &b"a.example:8080"[..]));
    }

    #[test]
    fn responses_parse_and_carry_no_hop_by_hop_field(
        fields in arbitrary_fields(), status in 200u16..600, kind in 0..4, head_request: bool, old: bool, keep_alive: bool,
    ) {
        // Host and Expect mean nothing in a response and pass.
        let fields: Vec<_> = fields.into_iter().filter(|(name, _)| name != "Expect" && name != "Host").collect();
        let text = text_of(&format!("HTTP/1.1 {status} Fine"), &fields);
        let body = [BodyKind::None, BodyKind::Length(9), BodyKind::Chunked, BodyKind::UntilClose][kind as usize];
        let method = if head_request { Method::Head } else { Method::Get };
        let version = if old { Version::Http10 } else { Version::Http11 };
        let (out, downstream) = answer(method, version, keep_alive, &text, body);
        let parsed = parse_fields(out.as_bytes());
        check_no_hop_by_hop(&parsed);
        let value = |wanted: &str| parsed.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
        prop_assert!(value("date").is_some());
        prop_assert_eq!(value("transfer-encoding").is_some(), downstream.body == BodyKind::Chunked);
        prop_assert_eq!(value("connection") == Some(b"close"), !downstream.keep_alive);
        prop_assert!(!old || downstream.body != BodyKind::Chunked);
        if downstream.body == BodyKind::UntilClose {
            prop_assert!(!downstream.keep_alive && value("content-length").is_none());
        }
        if status == 204 {
            prop_assert!(value("content-length").is_none());
        }
    }
}

#[test]
fn this_hop_is_told_by_option() {
    let context = RequestContext { forwarded: true, via: Some("edge-1"), ..CONTEXT };
    let told = |text: &str, context: &RequestContext<'_>| {
        let out = forward(text.as_bytes(), context);
        let lines = out.lines().filter(|line| line.starts_with("Forwarded:") || line.starts_with("Via:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = "GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n";
    assert_eq!(told(plain, &CONTEXT), Vec::<String>::new());
    assert_eq!(told(plain, &context), ["Forwarded: for=192.0.2.1;host=\"a.test:8080\";proto=http", "Via: 1.1 edge-1"]);
    let six = RequestContext { client_ip: b"2001:db8::1", scheme: Scheme::Https, ..context };
    let chained =
        "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=10.0.0.1\r\nVia: 2 cdn\r\nforwarded: for=\"[::1]\";by=b\r\n\r\n";
    assert_eq!(
        told(chained, &six),
        [
            "Via: 2 cdn",
            "Forwarded: for=10.0.0.1, for=\"[::1]\";by=b, for=\"[2001:db8::1]\";host=\"a\";proto=https",
            "Via: 1.1 edge-1"
        ]
    );
    let open = "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"10.0.0.1\r\nForwarded: for=10.0.0.2\r\n\r\n";
    assert_eq!(told(open, &context)[0], "Forwarded: for=10.0.0.2, for=192.0.2.1;host=\"a\";proto=http");
}

proptest! {
    /// Whatever a client writes in front, who reads Forwarded from the right finds the address that we saw.
    #[test]
    fn nothing_in_forwarded_hides_the_client(values in proptest::collection::vec("[ -~]{0,30}", 0..4)) {
        let lines: String = values.iter().map(|value| format!("Forwarded: {}\r\n", value.trim())).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let out = forward(text.as_bytes(), &RequestContext { forwarded: true, ..CONTEXT });
        let written: Vec<&[u8]> =
            out.lines().filter_map(|line| line.strip_prefix("Forwarded: ")).map(str::as_bytes).collect();
        prop_assert_eq!(written.len(), 1);
        let us = crate::guard::networks::parse_network("10.0.0.0/8").unwrap();
        let trust = crate::guard::Trust::new(crate::guard::Networks::new([us]), "Forwarded");
        let client = trust.client([10, 0, 0, 1].into(), written.into_iter());
        prop_assert_eq!(client, std::net::IpAddr::from([192, 0, 2, 1]));
    }
}
