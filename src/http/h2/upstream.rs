//! Messages between us and a server of HTTP/2. Pure.
//!
//! A request comes as the head that a server of HTTP/1 would get, so that all rules for its fields hold; an answer becomes
//! the [`ResponseHead`] that every part of the way back reads. The `h2` crate has checked pseudo-header fields, lower case
//! and connection-specific fields of answers, and checks their content against Content-Length.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method as HttpMethod, Request, Uri};

use crate::http::h1::{BodyKind, Field, FieldName, Limits, Method, ResponseHead, Span, Version};

/// Why a request of ours has no form in HTTP/2: its method, target or Host does not fit the types of the crate. The
/// client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRequest;

/// Why an answer is refused: the server's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// More fields or bytes than the limits allow.
    TooLarge,
    /// Content-Length is not one number.
    ContentLength,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AnswerError::TooLarge => "head too long",
            AnswerError::ContentLength => "invalid content-length",
        })
    }
}

impl std::error::Error for AnswerError {}

/// The request whose head for a server of HTTP/1 is `text`, ended by an empty line; what belongs to a connection of that
/// version is left out, and so is a field line that does not fit the crate's types. `takes_trailers`: the client does, and says so
/// (RFC 9110 section 10.1.4), as it must for gRPC. All values share one allocation.
pub fn request(text: &[u8], is_https: bool, takes_trailers: bool) -> Result<Request<()>, NoRequest> {
    let text = Bytes::copy_from_slice(text);
    let mut lines = Lines { text: &text, at: 0 };
    let line = lines.next().ok_or(NoRequest)?;
    let line = &text[line];
    let method_end = memchr::memchr(b' ', line).ok_or(NoRequest)?;
    let target_end = memchr::memrchr(b' ', line).filter(|end| *end > method_end).ok_or(NoRequest)?;
    let method = HttpMethod::from_bytes(&line[..method_end]).map_err(|_| NoRequest)?;
    let target = PathAndQuery::from_maybe_shared(text.slice(method_end + 1..target_end)).map_err(|_| NoRequest)?;
    let mut request = Request::new(());
    let mut authority = None;
    let headers = request.headers_mut();
    headers.reserve(16);
    for line in lines {
        let Some(colon) = memchr::memchr(b':', &text[line.clone()]).map(|colon| line.start + colon) else { continue };
        let Ok(name) = HeaderName::from_bytes(&text[line.start..colon]) else { continue };
        let start = (colon + 1 + usize::from(text.get(colon + 1) == Some(&b' '))).min(line.end);
        let value = text.slice(start..line.end);
        match name.as_str() {
            "host" => authority = Some(Authority::from_maybe_shared(value).map_err(|_| NoRequest)?),
            "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection" | "te" => {}
            _ => {
                if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                    // More fields than the crate takes cannot come out of a head of ours.
                    let _ = headers.try_append(name, value);
                }
            }
        }
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
    (uri.authority, uri.path_and_query) = (Some(authority.ok_or(NoRequest)?), Some(target));
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| NoRequest)?;
    (*request.method_mut(), *request.version_mut()) = (method, http::Version::HTTP_2);
    Ok(request)
}

/// `request`, which asks for a WebSocket as over HTTP/1.1, as the extended CONNECT that does so here: without the key, which is
/// not used, and without a length (RFC 8441 sections 4 and 5).
pub fn websocket(mut request: Request<()>) -> Request<()> {
    *request.method_mut() = HttpMethod::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    request.headers_mut().remove(CONTENT_LENGTH);
    request
}

/// The places of the lines of a head, up to its empty one.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = std::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let end = start + memchr::memmem::find(&self.text[start..], b"\r\n")?;
        self.at = end + 2;
        (end > start).then_some(start..end)
    }
}

/// Lays the head of an answer out in `bytes` and describes it in `head`; the old content of both is lost.
///
/// `has_content`: the stream goes on behind it, be it with trailers only. `method`: that of the request.
pub fn read_answer(
    (status, headers): (u16, &HeaderMap),
    has_content: bool,
    method: Method,
    limits: &Limits,
    bytes: &mut Vec<u8>,
    head: &mut ResponseHead,
) -> Result<(), AnswerError> {
    bytes.clear();
    head.fields.clear();
    let mut put = |text: &[u8]| {
        let start = bytes.len();
        bytes.extend_from_slice(text);
        Span::from(start..start + text.len())
    };
    let mut size = 0;
    for (name, value) in headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes().trim_ascii());
        size += name.len() + value.len();
        if head.fields.len() >= limits.headers_max || size > limits.head_bytes_max {
            return Err(AnswerError::TooLarge);
        }
        head.fields.push(Field { known: FieldName::of(name), name: put(name), value: put(value) });
    }
    (head.status, head.reason, head.version) = (status, Span::default(), Version::Http2);
    (head.keep_alive, head.head_bytes) = (true, bytes.len());
    let length = content_length(headers)?;
    let may_have = method != Method::Head && status >= 200 && !matches!(status, 204 | 304);
    head.body = match length {
        _ if !may_have || !has_content => BodyKind::None,
        // Trailers may follow, which have no place behind an answer that says it is empty.
        None | Some(0) => BodyKind::Chunked,
        Some(length) => BodyKind::Length(length),
    };
    Ok(())
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, AnswerError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = text.and_then(|text| text.parse::<u64>().ok()).ok_or(AnswerError::ContentLength)?;
        if length.is_some_and(|earlier| earlier != number) {
            return Err(AnswerError::ContentLength);
        }
        length = Some(number);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head_bytes_max: 200, target_bytes_max: 100, headers_max: 5 };

    fn convert(text: &str) -> Result<Request<()>, NoRequest> {
        request(text.replace('\n', "\r\n").as_bytes(), false, true)
    }

    #[test]
    fn a_head_of_http1_becomes_a_request() {
        let text = "POST /a.B/c?d=%20 HTTP/1.1\nHost: a.test:8080\nContent-Type: application/grpc\nX-A: 1\nX-A: 2\n\
                    Connection: close\nTransfer-Encoding: chunked\nTE: deflate\n\nbody";
        let request = convert(text).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "http://a.test:8080/a.B/c?d=%20")
        );
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(
            fields,
            [("content-type", &b"application/grpc"[..]), ("x-a", b"1"), ("x-a", b"2"), ("te", b"trailers")]
        );
    }

    // RFC 8441 section 5.1
    #[test]
    fn a_websocket_is_asked_for_by_extended_connect() {
        let text = "GET /chat?a HTTP/1.1\nHost: a.test\nSec-WebSocket-Protocol: chat\nSec-WebSocket-Version: 13\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nContent-Length: 0\nConnection: upgrade\nUpgrade: websocket\n\n";
        let request = websocket(super::request(text.replace('\n', "\r\n").as_bytes(), true, false).unwrap());
        let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
        assert_eq!((request.method().as_str(), protocol), ("CONNECT", Some("websocket")));
        assert_eq!(request.uri().to_string(), "https://a.test/chat?a");
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("sec-websocket-protocol", &b"chat"[..]), ("sec-websocket-version", b"13")]);
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for text in [
            "",
            "GET\n\n",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\nHost: a b\n\n",
            "G@T / HTTP/1.1\nHost: a\n\n",
            "GET a HTTP/1.1\nHost: a\n\n",
            "GET  HTTP/1.1\n",
        ] {
            assert_eq!(convert(text).map(drop), Err(NoRequest), "{text}");
        }
    }

    fn answer(
        status: u16,
        fields: &[(&str, &str)],
        has_content: bool,
        method: Method,
    ) -> Result<(ResponseHead, Vec<u8>), AnswerError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let (mut head, mut bytes) = (ResponseHead::default(), b"old".to_vec());
        read_answer((status, &headers), has_content, method, &LIMITS, &mut bytes, &mut head)?;
        Ok((head, bytes))
    }

    #[test]
    fn an_answer_reads_like_one_of_http1() {
        let (head, bytes) =
            answer(200, &[("content-type", "text/plain"), ("grpc-status", "0")], false, Method::Get).unwrap();
        assert_eq!((head.status, head.body, head.fields.len()), (200, BodyKind::None, 2));
        assert_eq!(head.field(&bytes, FieldName::ContentType), Some(&b"text/plain"[..]));
        for (length, has_content, status, method, expect) in [
            (None, true, 200, Method::Get, BodyKind::Chunked),
            (Some("0"), true, 200, Method::Get, BodyKind::Chunked),
            (Some("7"), true, 200, Method::Get, BodyKind::Length(7)),
            (Some("7"), false, 200, Method::Head, BodyKind::None),
            (Some("7"), false, 304, Method::Get, BodyKind::None),
            (None, true, 204, Method::Get, BodyKind::None),
        ] {
            let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let (head, _) = answer(status, &fields, has_content, method).unwrap();
            assert_eq!(head.body, expect, "{length:?} {status}");
        }
    }

    #[test]
    fn answers_beyond_the_limits_are_refused() {
        let many: Vec<_> = (0..6).map(|_| ("a", "b")).collect();
        assert_eq!(answer(200, &many, true, Method::Get).map(drop), Err(AnswerError::TooLarge));
        assert_eq!(answer(200, &[("a", &"x".repeat(200))], true, Method::Get).map(drop), Err(AnswerError::TooLarge));
        for bad in ["-1", "x", "1, 1", "99999999999999999999"] {
            assert_eq!(
                answer(200, &[("content-length", bad)], true, Method::Get).map(drop),
                Err(AnswerError::ContentLength)
            );
        }
        let two = [("content-length", "1"), ("content-length", "2")];
        assert_eq!(answer(200, &two, true, Method::Get).map(drop), Err(AnswerError::ContentLength));
    }

    proptest! {
        #[test]
        fn any_text_is_a_request_or_none(text in "[ -~\r\n]{0,200}") {
            if let Ok(request) = request(text.as_bytes(), true, false) {
                prop_assert!(request.uri().authority().is_some() && request.uri().path().starts_with(['/', '*']));
                prop_assert!(!request.headers().contains_key("connection") && !request.headers().contains_key("te"));
            }
        }
    }
}
