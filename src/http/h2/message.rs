//! Messages of HTTP/2 and the model the rest of the program works with. Pure.
//!
//! A request becomes a [`RequestHead`] over bytes of our own making, so that routing, conditions, forwarding and logs need
//! not know which protocol it came in. The `h2` crate has checked frames, pseudo-header fields, lower case and
//! connection-specific fields (RFC 9113 section 8.2); what it leaves to us is checked here.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response, StatusCode};
use std::fmt;

use crate::http::answer::AnswerHead;
use crate::http::h1::{BodyKind, Field, FieldName, Limits, Method, RequestHead, Span, Version, is_authority};

/// Why a request of HTTP/2 is not served, although its frames were well-formed. The client's fault; its stream is
/// answered with [`MessageError::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Neither `:authority` nor Host (RFC 9113 section 8.3.1).
    NoAuthority,
    /// `:authority` or Host is not host and optional port, or has userinfo.
    Authority,
    /// Host is not `:authority`, or there are several.
    HostDiffers,
    /// `:path` does not begin with a slash.
    Path,
    /// A value begins or ends with white space (RFC 9113 section 8.2.1).
    Value,
    /// Content-Length is not one number.
    ContentLength,
    /// More fields than [`Limits::headers_max`], or more bytes than [`Limits::head_bytes_max`].
    TooLarge,
    /// The target is longer than [`Limits::target_bytes_max`].
    TargetTooLong,
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
    /// An extended CONNECT for something else than a WebSocket (RFC 8441 section 4).
    Protocol,
}

impl MessageError {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            MessageError::TooLarge => 431,
            MessageError::TargetTooLong => 414,
            MessageError::Expectation => 417,
            MessageError::Protocol => 501,
            _ => 400,
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageError::NoAuthority => "neither :authority nor host",
            MessageError::Authority => "invalid :authority or host",
            MessageError::HostDiffers => "host differs from :authority",
            MessageError::Path => "invalid :path",
            MessageError::Value => "white space around a field value",
            MessageError::ContentLength => "invalid content-length",
            MessageError::TooLarge => "too many header fields",
            MessageError::TargetTooLong => "target too long",
            MessageError::Expectation => "unknown expectation",
            MessageError::Protocol => "a :protocol that is not spoken here",
        })
    }
}

impl std::error::Error for MessageError {}

/// Lays `parts` out in `bytes` and describes them in `head`; the old content of both is lost. For HTTP/3 as well, whose
/// messages follow the same rules from here on.
///
/// `has_content`: the stream goes on behind the head. Host stands in front of the other fields, cookies are joined into
/// one field (RFC 9113 section 8.2.3), so that the head can be sent on to a server of HTTP/1. An extended CONNECT for a
/// WebSocket (RFC 8441, RFC 9220) becomes the GET that asks for one over HTTP/1.1, without the key, which is for whoever asks a
/// server: [`RequestHead::upgrade`] tells it from others.
/// Errors: [`MessageError`]; `head` and `bytes` then hold what was laid out so far, for the log.
pub fn write_request(
    parts: &http::request::Parts,
    has_content: bool,
    limits: &Limits,
    bytes: &mut Vec<u8>,
    head: &mut RequestHead,
) -> Result<(), MessageError> {
    bytes.clear();
    head.fields.clear();
    let protocol = parts.extensions.get::<Protocol>();
    head.upgrade = protocol.is_some();
    let mut writer = Writer { bytes, head };
    let is_websocket = protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case(WEBSOCKET));
    writer.request_line(parts, limits, is_websocket)?;
    writer.host(parts)?;
    writer.fields(&parts.headers, limits)?;
    writer.cookies(&parts.headers);
    match protocol {
        None => writer.content(&parts.headers, has_content)?,
        Some(_) if !is_websocket => return Err(MessageError::Protocol),
        // What comes behind the head belongs to the other protocol.
        Some(_) => {
            writer.put_field(FieldName::Upgrade, b"upgrade", WEBSOCKET.as_bytes());
            writer.head.body = BodyKind::None;
        }
    }
    let expect = parts.headers.get(http::header::EXPECT);
    if expect.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(MessageError::Expectation);
    }
    let head_bytes = writer.bytes.len();
    let head = writer.head;
    head.version = if parts.version == http::Version::HTTP_3 { Version::Http3 } else { Version::Http2 };
    head.keep_alive = true;
    head.expect_continue = expect.is_some() && head.body != BodyKind::None;
    head.head_bytes = head_bytes;
    Ok(())
}

/// What an extended CONNECT may ask for.
const WEBSOCKET: &str = "websocket";

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    head: &'a mut RequestHead,
}

impl Writer<'_> {
    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        Span::from(start..self.bytes.len())
    }

    fn put_field(&mut self, known: FieldName, name: &[u8], value: &[u8]) {
        let name = self.put(name);
        let value = self.put(value);
        self.head.fields.push(Field { known, name, value });
    }

    fn request_line(
        &mut self,
        parts: &http::request::Parts,
        limits: &Limits,
        is_websocket: bool,
    ) -> Result<(), MessageError> {
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
        let method = if is_websocket { "GET" } else { parts.method.as_str() }.as_bytes();
        self.head.method = Method::of(method);
        self.head.method_text = self.put(method);
        self.head.target = self.put(&target[..target.len().min(limits.target_bytes_max)]);
        self.head.authority = Span::default();
        if target.len() > limits.target_bytes_max {
            return Err(MessageError::TargetTooLong);
        }
        let is_path = target.first() == Some(&b'/') && !target.contains(&b'#');
        let is_asterisk = target == b"*" && parts.method == HttpMethod::OPTIONS;
        let is_connect = parts.method == HttpMethod::CONNECT && target.is_empty();
        if is_path || is_asterisk || is_connect { Ok(()) } else { Err(MessageError::Path) }
    }

    /// RFC 9113 section 8.3.1: `:authority` counts; a Host beside it must be the same.
    fn host(&mut self, parts: &http::request::Parts) -> Result<(), MessageError> {
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let mut hosts = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(MessageError::HostDiffers);
        }
        let text = match (authority, host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(MessageError::HostDiffers);
            }
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) => return Err(MessageError::NoAuthority),
        };
        if !is_authority(text) {
            return Err(MessageError::Authority);
        }
        self.put_field(FieldName::Host, b"host", text);
        self.head.authority = self.head.fields[0].value;
        Ok(())
    }

    fn fields(&mut self, headers: &HeaderMap, limits: &Limits) -> Result<(), MessageError> {
        for (name, value) in headers {
            let known = FieldName::of(name.as_str().as_bytes());
            if matches!(known, FieldName::Host | FieldName::Cookie) {
                continue;
            }
            let value = value.as_bytes();
            let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            if is_space(value.first()) || is_space(value.last()) {
                return Err(MessageError::Value);
            }
            let full = self.head.fields.len() >= limits.headers_max;
            if full || self.bytes.len() + name.as_str().len() + value.len() > limits.head_bytes_max {
                return Err(MessageError::TooLarge);
            }
            self.put_field(known, name.as_str().as_bytes(), value);
        }
        Ok(())
    }

    fn cookies(&mut self, headers: &HeaderMap) {
        let mut crumbs = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes);
        let Some(first) = crumbs.next() else { return };
        let name = self.put(b"cookie");
        let mut value = self.put(first);
        for crumb in crumbs {
            self.put(b"; ");
            value.end = self.put(crumb).end;
        }
        self.head.fields.push(Field { known: FieldName::Cookie, name, value });
    }

    fn content(&mut self, headers: &HeaderMap, has_content: bool) -> Result<(), MessageError> {
        let mut length = None;
        for value in headers.get_all(CONTENT_LENGTH) {
            let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = text.and_then(|text| text.parse::<u64>().ok()).filter(|number| *number <= i64::MAX as u64);
            let number = number.ok_or(MessageError::ContentLength)?;
            if length.is_some_and(|earlier| earlier != number) {
                return Err(MessageError::ContentLength);
            }
            length = Some(number);
        }
        self.head.body = match (has_content, length) {
            (false, None | Some(0)) => BodyKind::None,
            (false, Some(_)) => return Err(MessageError::ContentLength),
            (true, None) => BodyKind::Chunked,
            (true, Some(0)) => BodyKind::None,
            (true, Some(length)) => BodyKind::Length(length),
        };
        Ok(())
    }
}

/// The head of `answer` for the `h2` crate, with a Server and a Date of ours unless they are empty. All values share one
/// allocation.
///
/// A field line that does not fit the crate's types (no line of ours, and none that our HTTP/1 parser lets through) is
/// left out.
pub fn response(answer: &AnswerHead<'_>, length: Option<u64>, server: &[u8], date: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.reserve(12);
    let own = server.len() + date.len();
    let mut text = Vec::with_capacity(own + answer.fields.len());
    text.extend_from_slice(server);
    text.extend_from_slice(date);
    text.extend_from_slice(answer.fields);
    let text = Bytes::from(text);
    let value = |start: usize, end: usize| HeaderValue::from_maybe_shared(text.slice(start..end)).ok();
    if let Some(server) = value(0, server.len()).filter(|_| !server.is_empty()) {
        headers.insert(http::header::SERVER, server);
    }
    if let Some(date) = value(server.len(), own).filter(|_| !date.is_empty()) {
        headers.insert(http::header::DATE, date);
    }
    let mut at = own;
    while at < text.len() {
        let line_end = memchr::memmem::find(&text[at..], b"\r\n").map_or(text.len(), |end| at + end);
        if let Some(colon) = memchr::memchr(b':', &text[at..line_end])
            && let Ok(name) = HeaderName::from_bytes(&text[at..at + colon])
        {
            let start = at + colon + 1;
            let start = start + usize::from(text.get(start) == Some(&b' '));
            if let Some(value) = value(start.min(line_end), line_end) {
                // More fields than the crate takes cannot come out of a head of ours.
                let _ = headers.try_append(name, value);
            }
        }
        at = line_end + 2;
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::Content;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes_max: 4096, target_bytes_max: 100, headers_max: 10 };

    fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> http::request::Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn convert(parts: &http::request::Parts, has_content: bool) -> Result<(Vec<u8>, RequestHead), MessageError> {
        let (mut bytes, mut head) = (b"old".to_vec(), RequestHead::default());
        write_request(parts, has_content, &LIMITS, &mut bytes, &mut head)?;
        Ok((bytes, head))
    }

    fn refuse(method: &str, uri: &str, fields: &[(&str, &str)], error: MessageError) {
        assert_eq!(convert(&request(method, uri, fields), false).map(|_| ()), Err(error), "{method} {uri} {fields:?}");
    }

    #[test]
    fn a_request_reads_like_one_of_http1() {
        let parts = request("GET", "https://a.example:8443/x/y?q=1", &[("user-agent", "t"), ("accept-encoding", "br")]);
        let (bytes, head) = convert(&parts, false).unwrap();
        assert_eq!((head.method, head.method_text.of(&bytes)), (Method::Get, &b"GET"[..]));
        assert_eq!((head.path(&bytes), head.query(&bytes)), (&b"/x/y"[..], Some(&b"q=1"[..])));
        assert_eq!((head.host(&bytes), head.authority.of(&bytes)), (&b"a.example"[..], &b"a.example:8443"[..]));
        assert_eq!(head.field(&bytes, FieldName::Host), Some(&b"a.example:8443"[..]));
        assert_eq!(head.field(&bytes, FieldName::UserAgent), Some(&b"t"[..]));
        assert_eq!((head.body, head.version, head.head_bytes), (BodyKind::None, Version::Http2, bytes.len()));
    }

    // RFC 9113 section 8.3.1
    #[test]
    fn authority_and_host_agree() {
        let (bytes, head) = convert(&request("GET", "/x", &[("host", "b.example")]), false).unwrap();
        assert_eq!(head.host(&bytes), b"b.example");
        convert(&request("GET", "http://B.example/x", &[("host", "b.example")]), false).unwrap();
        refuse("GET", "http://a.example/x", &[("host", "b.example")], MessageError::HostDiffers);
        refuse("GET", "/x", &[("host", "a"), ("host", "a")], MessageError::HostDiffers);
        refuse("GET", "/x", &[], MessageError::NoAuthority);
        refuse("GET", "/x", &[("host", "u@a")], MessageError::Authority);
        refuse("GET", "http://u:p@a/x", &[], MessageError::Authority);
    }

    #[test]
    fn targets() {
        let long = format!("/{}", "x".repeat(100));
        refuse("GET", &long, &[("host", "a")], MessageError::TargetTooLong);
        refuse("GET", "*", &[("host", "a")], MessageError::Path);
        convert(&request("OPTIONS", "*", &[("host", "a")]), false).unwrap();
    }

    // RFC 8441 section 5
    #[test]
    fn an_extended_connect_reads_like_the_get_that_asks_for_a_websocket() {
        let connect = |protocol: &str, fields: &[(&str, &str)]| {
            let mut parts = request("CONNECT", "https://a.example/chat?room=1", fields);
            parts.extensions.insert(Protocol::from(protocol));
            parts
        };
        let fields = [("sec-websocket-version", "13"), ("origin", "https://a.example"), ("content-length", "5")];
        for has_content in [true, false] {
            let (bytes, head) = convert(&connect("WebSocket", &fields), has_content).unwrap();
            assert_eq!((head.method, head.method_text.of(&bytes)), (Method::Get, &b"GET"[..]));
            assert_eq!((head.target(&bytes), head.host(&bytes)), (&b"/chat?room=1"[..], &b"a.example"[..]));
            assert_eq!(head.field(&bytes, FieldName::Upgrade), Some(&b"websocket"[..]));
            assert_eq!((head.upgrade, head.body), (true, BodyKind::None));
        }
        for other in ["connect-udp", "h2c", "", "websocket "] {
            assert_eq!(convert(&connect(other, &fields), true).map(drop), Err(MessageError::Protocol), "{other}");
        }
        let plain = convert(&request("CONNECT", "a.example:443", &[]), true).unwrap().1;
        assert_eq!((plain.method, plain.upgrade), (Method::Connect, false));
    }

    // RFC 9113 section 8.2.3
    #[test]
    fn cookies_are_joined() {
        let parts = request("GET", "/", &[("host", "a"), ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]);
        let (bytes, head) = convert(&parts, false).unwrap();
        assert_eq!(head.field(&bytes, FieldName::Cookie), Some(&b"a=1; b=2"[..]));
        assert_eq!(head.fields.iter().filter(|field| field.known == FieldName::Cookie).count(), 1);
    }

    // RFC 9113 section 8.1.1
    #[test]
    fn content() {
        let body = |fields: &[(&str, &str)], has_content| {
            let mut all = vec![("host", "a")];
            all.extend_from_slice(fields);
            convert(&request("POST", "/", &all), has_content).map(|(_, head)| head.body)
        };
        assert_eq!(body(&[], false), Ok(BodyKind::None));
        assert_eq!(body(&[], true), Ok(BodyKind::Chunked));
        assert_eq!(body(&[("content-length", "7")], true), Ok(BodyKind::Length(7)));
        assert_eq!(body(&[("content-length", "7"), ("content-length", "7")], true), Ok(BodyKind::Length(7)));
        assert_eq!(body(&[("content-length", "0")], false), Ok(BodyKind::None));
        for wrong in ["", "-1", "+1", "7x", "1, 1", "99999999999999999999"] {
            assert_eq!(body(&[("content-length", wrong)], true), Err(MessageError::ContentLength), "{wrong}");
        }
        assert_eq!(body(&[("content-length", "1"), ("content-length", "2")], true), Err(MessageError::ContentLength));
        assert_eq!(body(&[("content-length", "1")], false), Err(MessageError::ContentLength));
    }

    #[test]
    fn limits() {
        let many: Vec<(String, &str)> = (0..10).map(|at| (format!("x-{at}"), "y")).collect();
        let mut fields: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        fields.insert(0, ("host", "a"));
        refuse("GET", "/", &fields, MessageError::TooLarge);
        refuse("GET", "/", &[("host", "a"), ("x", &"y".repeat(5000))], MessageError::TooLarge);
        refuse("GET", "/", &[("host", "a"), ("expect", "x")], MessageError::Expectation);
        // RFC 9113 section 8.2.1
        refuse("GET", "/", &[("host", "a"), ("x", " y")], MessageError::Value);
        refuse("GET", "/", &[("host", "a"), ("x", "y\t")], MessageError::Value);
    }

    #[test]
    fn an_answer_becomes_a_response() {
        let fields = b"Content-Type: text/html\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty: \r\nX:y: z\r\n";
        let head = AnswerHead { status: 299, reason: Some(b"x"), fields, content: Content::Length(5) };
        let response = response(&head, Some(5), b"one", b"now");
        assert_eq!(response.status().as_u16(), 299);
        let get = |name: &str| response.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(get("content-type"), ["text/html"]);
        assert_eq!(get("set-cookie"), ["a=1", "b=2"]);
        assert_eq!((get("x-empty"), get("x")), (vec![""], vec!["y: z"]));
        assert_eq!((get("server"), get("date"), get("content-length")), (vec!["one"], vec!["now"], vec!["5"]));
    }

    proptest! {
        #[test]
        fn any_block_of_fields_makes_a_response(fields: Vec<u8>, status in 0u16..1200) {
            let head = AnswerHead { status, reason: None, fields: &fields, content: Content::Stream };
            response(&head, None, b"", b"");
        }
    }
}
