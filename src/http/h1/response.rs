//! Response heads of upstream servers (RFC 9112 sections 4, 6 and 9.3).

use super::fields::{self, Coding, FieldError, Framing};
use super::head::{BodyKind, Method, ResponseHead, Span, Version};
use super::{Limits, head_window};
use httparse::{Header, ParserConfig, Response, Status};
use std::fmt;
use std::mem::MaybeUninit;

/// Fields that fit on the stack.
const FIELDS_ON_STACK: usize = 128;

/// Why a response is refused. It is the upstream server's fault each time: the client gets 502, the connection is
/// closed. The request was sent, so a retry is safe only for an idempotent method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// Not HTTP-version, SP, three digits from 100 on, optional SP and reason, CR LF (RFC 9112 section 4).
    StatusLine,
    /// A head longer than [`Limits::head_bytes_max`].
    HeadTooLong,
    /// The field section is wrong.
    Field(FieldError),
    /// Transfer-Encoding other than exactly `chunked`.
    Coding,
    /// Transfer-Encoding with HTTP/1.0, which says that the framing is faulty (RFC 9112 section 6.1).
    CodingInHttp10,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResponseError::StatusLine => "invalid status line",
            ResponseError::HeadTooLong => "head too long",
            ResponseError::Field(error) => return error.fmt(f),
            ResponseError::Coding => "unknown transfer-encoding",
            ResponseError::CodingInHttp10 => "transfer-encoding in http/1.0",
        })
    }
}

impl std::error::Error for ResponseError {}

impl From<FieldError> for ResponseError {
    fn from(error: FieldError) -> Self {
        ResponseError::Field(error)
    }
}

/// Parses the response head at the start of `bytes`, the answer to a request with `request_method`.
///
/// `Ok(None)`: the head is not complete; call again with more behind the same bytes. `Ok(Some(()))`: `head` is filled,
/// its positions count from the start of `bytes`. With `Err` or `None` the content of `head` means nothing.
///
/// - A 1xx is a head of its own: parse again behind it. 101, and 2xx to CONNECT, start a tunnel: their body is `None`.
/// - White space before a colon is not part of the name (RFC 9112 section 5.1); obs-fold and bare LF are refused.
/// - Transfer-Encoding and Content-Length together: chunked counts, and the connection is not kept.
/// - RFC 9112 section 6.3 lets a body with a coding other than chunked run until the close. We refuse it: we would
///   have to name that coding to a client that did not ask for it.
pub fn parse_response(
    bytes: &[u8],
    limits: &Limits,
    request_method: Method,
    head: &mut ResponseHead,
) -> Result<Option<()>, ResponseError> {
    let window = head_window(bytes, limits);
    let is_full = window.len() >= limits.head_bytes_max;
    if !scan(window, limits.headers_max, head)? {
        return if is_full { Err(ResponseError::HeadTooLong) } else { Ok(None) };
    }
    let framing = Framing::of(window, &head.fields)?;
    head.keep_alive = framing.keeps_connection(head.version);
    head.body = BodyKind::None;
    if has_body(head.status, request_method) {
        head.body = body(&framing, head.version)?;
        let is_ambiguous = framing.coding != Coding::Absent && framing.length.is_some();
        head.keep_alive &= head.body != BodyKind::UntilClose && !is_ambiguous;
    }
    Ok(Some(()))
}

/// True when the head is complete.
fn scan(bytes: &[u8], headers_max: usize, head: &mut ResponseHead) -> Result<bool, ResponseError> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    match scan_into(bytes, &mut slots[..headers_max.min(FIELDS_ON_STACK)], head) {
        Err(ResponseError::Field(FieldError::TooMany)) if headers_max > FIELDS_ON_STACK => {
            // A field takes at least the 4 bytes of "a:\r\n", so the input bounds the list whatever the limit says.
            let mut slots = vec![MaybeUninit::uninit(); headers_max.min(bytes.len() / 4 + 1)];
            scan_into(bytes, &mut slots, head)
        }
        result => result,
    }
}

fn scan_into<'b>(
    bytes: &'b [u8],
    slots: &mut [MaybeUninit<Header<'b>>],
    head: &mut ResponseHead,
) -> Result<bool, ResponseError> {
    // httparse skips empty lines before a response; RFC 9112 allows that before a request only.
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(ResponseError::StatusLine);
    }
    let mut response = Response::new(&mut []);
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    match parser.parse_response_with_uninit_headers(&mut response, bytes, slots) {
        Ok(Status::Complete(used)) => {
            fields::collect(bytes, used, response.headers, &mut head.fields)?;
            head.head_bytes = used;
            fill_status(bytes, &response, head)?;
            Ok(true)
        }
        Ok(Status::Partial) => fields::has_bare_lf(bytes).map_or(Ok(false), |error| Err(error.into())),
        Err(error) => Err(blame(bytes, error)),
    }
}

fn fill_status(bytes: &[u8], response: &Response<'_, '_>, head: &mut ResponseHead) -> Result<(), ResponseError> {
    head.version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    head.status = response.code.filter(|&code| code >= 100).ok_or(ResponseError::StatusLine)?;
    let line_end = memchr::memchr(b'\r', bytes).ok_or(ResponseError::StatusLine)?;
    // "HTTP/1.1 200" and a SP that some servers leave out with the reason.
    let reason_at = 13.min(line_end);
    head.reason = Span::from(reason_at..line_end);
    Ok(())
}

#[cold]
fn blame(bytes: &[u8], error: httparse::Error) -> ResponseError {
    let line_bytes = memchr::memchr(b'\n', bytes).map(|at| at + 1);
    match (error, line_bytes) {
        (httparse::Error::Status | httparse::Error::Version | httparse::Error::Token, _) | (_, None) => {
            ResponseError::StatusLine
        }
        (error, Some(at)) => ResponseError::Field(fields::blame(&bytes[at..], error)),
    }
}

/// RFC 9112 section 6.3, points 1 and 2.
fn has_body(status: u16, request_method: Method) -> bool {
    let is_tunnel = request_method == Method::Connect && (200..300).contains(&status);
    request_method != Method::Head && !is_tunnel && !matches!(status, 100..=199 | 204 | 304)
}

/// RFC 9112 section 6.3, points 3 to 8.
fn body(framing: &Framing, version: Version) -> Result<BodyKind, ResponseError> {
    match (framing.coding, framing.length) {
        (Coding::Absent, Some(length)) => Ok(BodyKind::Length(length)),
        (Coding::Absent, None) => Ok(BodyKind::UntilClose),
        (_, _) if version == Version::Http10 => Err(ResponseError::CodingInHttp10),
        (Coding::Chunked, _) => Ok(BodyKind::Chunked),
        _ => Err(ResponseError::Coding),
    }
}
