//! Messages of HTTP/3: a field section becomes a request, the head of an answer a HEADERS frame. Pure.
//!
//! What the `h2` crate checks for HTTP/2 is checked here: pseudo-header fields, lower case, connection-specific fields (RFC
//! 9114 sections 4.2 and 4.3). From there on both go the same way: [`crate::http::h2::write_request`].

use std::fmt;

use h2::ext::Protocol;
use http::header::{HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version};

use super::frame::headers_head;
use super::qpack::{self, DecodeError};
use crate::http::answer::AnswerHead;

/// Why a field section is not served. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks QPACK: the connection ends.
    Broken,
    /// It breaks a rule of HTTP, for this reason: the stream ends (RFC 9114 section 4.1.2).
    Malformed(&'static str),
    /// Its fields are larger than the limit: 431.
    TooLarge,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::Broken => "field section cannot be decoded",
            HeadError::Malformed(reason) => reason,
            HeadError::TooLarge => "too many header fields",
        })
    }
}

impl std::error::Error for HeadError {}

/// The request of a field section whose fields, as RFC 9114 section 4.2.2 counts them, are at most `list_bytes_max`.
///
/// With `may_connect` it may be an extended CONNECT (RFC 9220): the parts then have a [`Protocol`] among their extensions, as
/// those of the `h2` crate.
pub fn request_parts(section: &[u8], list_bytes_max: usize, may_connect: bool) -> Result<Parts, HeadError> {
    let mut gathered = Gathered { may_connect, ..Gathered::default() };
    let mut result = Ok(());
    let decoded = qpack::decode(section, list_bytes_max, |name, value| {
        if result.is_ok() {
            result = gathered.take(name, value);
        }
    });
    match decoded {
        Err(DecodeError::Broken) => return Err(HeadError::Broken),
        Err(DecodeError::TooLarge) => return Err(HeadError::TooLarge),
        Ok(()) => {}
    }
    result.and_then(|()| gathered.into_parts()).map_err(HeadError::Malformed)
}

/// The trailers of a field section, under the same limit.
pub fn trailers(section: &[u8], list_bytes_max: usize) -> Result<HeaderMap, HeadError> {
    let mut gathered = Gathered::default();
    let mut result = Ok(());
    let decoded = qpack::decode(section, list_bytes_max, |name, value| {
        if result.is_ok() {
            // RFC 9114 section 4.3
            let is_pseudo = name.first() == Some(&b':');
            result = if is_pseudo { Err("pseudo-header field in trailers") } else { gathered.take(name, value) };
        }
    });
    match decoded {
        Err(DecodeError::Broken) => Err(HeadError::Broken),
        Err(DecodeError::TooLarge) => Err(HeadError::TooLarge),
        Ok(()) => result.map(|()| gathered.headers).map_err(HeadError::Malformed),
    }
}

#[derive(Default)]
struct Gathered {
    may_connect: bool,
    protocol: Option<Protocol>,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
}

impl Gathered {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.first() == Some(&b':') {
            if !self.headers.is_empty() {
                return Err("pseudo-header field behind others");
            }
            return self.take_pseudo(name, value);
        }
        if name.iter().any(u8::is_ascii_uppercase) {
            return Err("upper case in a field name");
        }
        let name = HeaderName::from_bytes(name).map_err(|_| "invalid field name")?;
        let value = HeaderValue::from_bytes(value).map_err(|_| "invalid field value")?;
        let is_of_connection =
            ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"].contains(&name.as_str());
        if is_of_connection || (name == TE && value.as_bytes() != b"trailers") {
            return Err("connection-specific field");
        }
        self.headers.try_append(name, value).map(drop).map_err(|_| "too many fields")
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        fn put<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), &'static str> {
            if place.is_some() {
                return Err("pseudo-header field twice");
            }
            *place = Some(value.ok_or("invalid pseudo-header field")?);
            Ok(())
        }
        match name {
            b":method" => put(&mut self.method, Method::from_bytes(value).ok()),
            b":scheme" => put(&mut self.scheme, Scheme::try_from(value).ok()),
            b":authority" => put(&mut self.authority, Authority::try_from(value).ok()),
            b":path" if value.is_empty() => Err("empty :path"),
            // The parser below would cut it off (RFC 9114 section 4.3.1: path and query only).
            b":path" if value.contains(&b'#') => Err("fragment in :path"),
            b":path" => put(&mut self.path, PathAndQuery::try_from(value).ok()),
            b":protocol" if self.may_connect => {
                put(&mut self.protocol, std::str::from_utf8(value).ok().map(Protocol::from))
            }
            _ => Err("unknown pseudo-header field"),
        }
    }

    fn into_parts(self) -> Result<Parts, &'static str> {
        let method = self.method.ok_or("no :method")?;
        let has_target = match method {
            // RFC 8441 section 4: as for any other method.
            Method::CONNECT if self.protocol.is_some() => {
                self.authority.is_some() && self.scheme.is_some() && self.path.is_some()
            }
            _ if self.protocol.is_some() => false,
            Method::CONNECT => self.authority.is_some() && self.scheme.is_none() && self.path.is_none(),
            _ => self.scheme.is_some() && self.path.is_some(),
        };
        if !has_target {
            return Err("pseudo-header fields do not fit the method");
        }
        let mut uri = http::uri::Parts::default();
        // Without an authority, which Host may replace, a URI has no scheme.
        uri.scheme = self.scheme.filter(|_| self.authority.is_some());
        (uri.authority, uri.path_and_query) = (self.authority, self.path);
        let uri = Uri::from_parts(uri).map_err(|_| "invalid target")?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, Version::HTTP_3, self.headers);
        self.protocol.map(|protocol| parts.extensions.insert(protocol));
        Ok(parts)
    }
}

/// Appends a HEADERS frame with the head of `answer`, with a Server and a Date of ours unless they are empty.
///
/// A field line that is none is left out: no line of ours, and none that our HTTP/1 parser lets through.
pub fn write_head(answer: &AnswerHead<'_>, length: Option<u64>, server: &[u8], date: &[u8], out: &mut Vec<u8>) {
    let mut section = Vec::with_capacity(answer.fields.len() + 64);
    qpack::put_prefix(&mut section);
    let status = answer.status.clamp(100, 999);
    let digit = |divisor| b'0' + (status / divisor % 10) as u8;
    qpack::put_field(b":status", &[digit(100), digit(10), digit(1)], &mut section);
    for (name, value) in [(&b"server"[..], server), (b"date", date)] {
        if !value.is_empty() {
            qpack::put_field(name, value, &mut section);
        }
    }
    put_lines(answer.fields, &mut section);
    if let Some(length) = length {
        qpack::put_field(b"content-length", length.to_string().as_bytes(), &mut section);
    }
    headers_head(section.len(), out);
    out.extend_from_slice(&section);
}

/// Appends a HEADERS frame with trailers.
pub fn write_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    let mut section = Vec::with_capacity(64);
    qpack::put_prefix(&mut section);
    for (name, value) in trailers {
        qpack::put_field(name.as_str().as_bytes(), value.as_bytes(), &mut section);
    }
    headers_head(section.len(), out);
    out.extend_from_slice(&section);
}

fn put_lines(mut lines: &[u8], section: &mut Vec<u8>) {
    let mut lower = Vec::new();
    while !lines.is_empty() {
        let end = memchr::memmem::find(lines, b"\r\n").unwrap_or(lines.len());
        let line = &lines[..end];
        lines = lines.get(end + 2..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !name.is_empty() && HeaderName::from_bytes(name).is_ok() && HeaderValue::from_bytes(value).is_ok() {
            lower.clear();
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            qpack::put_field(&lower, value, section);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::varint;
    use super::*;
    use crate::http::answer::Content;
    use crate::http::h1::{FieldName, Limits, RequestHead};
    use crate::http::h2::write_request;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes_max: 4096, target_bytes_max: 100, headers_max: 10 };
    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/x?y")];

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut section = Vec::new();
        qpack::put_prefix(&mut section);
        fields.iter().for_each(|(name, value)| qpack::put_field(name.as_bytes(), value.as_bytes(), &mut section));
        section
    }

    fn parts(fields: &[(&str, &str)]) -> Result<Parts, HeadError> {
        request_parts(&section(fields), 1000, false)
    }

    #[test]
    fn a_request_reads_like_one_of_http1() {
        let fields =
            [&GET[..], &[("user-agent", "t"), ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")]].concat();
        let parts = parts(&fields).unwrap();
        let (mut bytes, mut head) = (Vec::new(), RequestHead::default());
        write_request(&parts, false, &LIMITS, &mut bytes, &mut head).unwrap();
        assert_eq!(head.version, crate::http::h1::Version::Http3);
        assert_eq!(
            (head.path(&bytes), head.query(&bytes), head.host(&bytes)),
            (&b"/x"[..], Some(&b"y"[..]), &b"a.example"[..])
        );
        assert_eq!(head.field(&bytes, FieldName::Cookie), Some(&b"a=1; b=2"[..]));
    }

    // RFC 9220, RFC 8441 section 4
    #[test]
    fn an_extended_connect_is_a_request_where_it_was_offered() {
        let connect = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":path", "/chat"),
        ];
        let may = |fields: &[(&str, &str)]| request_parts(&section(fields), 1000, true);
        let parts = may(&connect).unwrap();
        assert_eq!(parts.extensions.get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert_eq!((parts.method.as_str(), parts.uri.path()), ("CONNECT", "/chat"));
        assert_eq!(self::parts(&connect).unwrap_err(), HeadError::Malformed("unknown pseudo-header field"));
        for missing in [2, 3, 4] {
            let fields: Vec<_> =
                connect.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, field)| *field).collect();
            assert!(matches!(may(&fields), Err(HeadError::Malformed(_))), "{fields:?}");
        }
        let of_get = [&[(":protocol", "websocket")], &GET[..]].concat();
        assert!(matches!(may(&of_get), Err(HeadError::Malformed(_))));
        let twice = [&connect[..], &[(":protocol", "websocket")]].concat();
        assert!(matches!(may(&twice), Err(HeadError::Malformed(_))));
        assert!(may(&[(":method", "CONNECT"), (":authority", "a:1")]).is_ok());
    }

    #[test]
    fn host_stands_for_the_authority() {
        let with_host = [(":method", "GET"), (":scheme", "https"), (":path", "*"), ("host", "b.example")];
        let parts = parts(&with_host).unwrap();
        assert_eq!((parts.uri.path(), parts.headers.len()), ("*", 1));
    }

    /// The payload of a HEADERS frame that is alone.
    fn payload(frame: &[u8]) -> &[u8] {
        let (bytes, len_bytes) = varint::decode(&frame[1..]).expect("a length");
        let payload = &frame[1 + len_bytes..];
        assert_eq!((frame[0], bytes), (1, payload.len() as u64));
        payload
    }

    // RFC 9114 sections 4.2 and 4.3.1
    #[test]
    fn malformed_requests() {
        let refuse = |fields: &[(&str, &str)]| {
            assert!(matches!(parts(fields), Err(HeadError::Malformed(_))), "{fields:?}");
        };
        for missing in [0, 1, 3] {
            let fields: Vec<_> =
                GET.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, field)| *field).collect();
            refuse(&fields);
        }
        for wrong in [
            (":method", "GET"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("X-Upper", "x"),
            ("", "x"),
            ("na me", "x"),
            ("x", "a\0b"),
            ("x", "a\r\nb"),
            ("connection", "close"),
            ("proxy-connection", "close"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        ] {
            refuse(&[&GET[..], &[wrong]].concat());
        }
        refuse(&[&[("x", "y")], &GET[..]].concat());
        refuse(&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "")]);
        refuse(&[(":method", "GET"), (":scheme", "https"), (":authority", "a b"), (":path", "/")]);
        refuse(&[(":method", "G T"), (":scheme", "https"), (":authority", "a"), (":path", "/")]);
        refuse(&[(":method", "CONNECT"), (":scheme", "https"), (":authority", "a:1"), (":path", "/")]);
        assert!(parts(&[(":method", "CONNECT"), (":authority", "a:1")]).is_ok());
    }

    #[test]
    fn limits() {
        let large = "v".repeat(900);
        assert_eq!(parts(&[&GET[..], &[("x", &large)]].concat()).unwrap_err(), HeadError::TooLarge);
        assert_eq!(request_parts(b"\x01", 1000, false).unwrap_err(), HeadError::Broken);
    }

    #[test]
    fn an_answer_becomes_a_field_section() {
        let fields = b"Content-Type: text/html\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty: \r\nX:y: z\r\nbad line\r\nB d: x\r\n";
        let head = AnswerHead { status: 299, reason: Some(b"x"), fields, content: Content::Length(5) };
        let mut frame = Vec::new();
        write_head(&head, Some(5), b"one", b"now", &mut frame);
        let mut read = Vec::new();
        let take = |name: &[u8], value: &[u8]| {
            read.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        };
        qpack::decode(payload(&frame), 10_000, take).unwrap();
        let expect = ":status=299 server=one date=now content-type=text/html set-cookie=a=1 set-cookie=b=2 x-empty= x=y: z \
                      content-length=5";
        assert_eq!(read.join(" "), expect);
    }

    proptest! {
        #[test]
        fn any_block_of_fields_makes_a_section(fields: Vec<u8>, status: u16) {
            let (mut frame, mut names) = (Vec::new(), 0);
            let head = AnswerHead { status, reason: None, fields: &fields, content: Content::Stream };
            write_head(&head, None, b"", b"", &mut frame);
            prop_assert_eq!(qpack::decode(payload(&frame), usize::MAX, |_, _| names += 1), Ok(()));
            prop_assert!(names >= 1);
        }
    }
}
