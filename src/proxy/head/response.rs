//! The response head sent back to the client.

use super::{ConnectionOptions, HeadError, is_hop_by_hop_or_framing, put_content_length, put_field};
use crate::http::h1::{BodyKind, FieldName, Method, ResponseHead, Version, list_elements, write_decimal};

/// What the writer must know beside the server's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// Method of the request.
    pub method: Method,
    /// Version the client spoke.
    pub version: Version,
    /// We are willing to keep the downstream connection, and the client is.
    pub keep_alive: bool,
    /// Date for a response that has none, as IMF-fixdate (RFC 9110 section 6.6.1).
    pub date: &'a [u8],
}

/// How the response goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// How the body is framed for the client.
    pub body: BodyKind,
    /// The connection stays open behind it, as the head says.
    pub keep_alive: bool,
}

/// Appends the head that answers the client with what `head` says, and tells how to go on.
///
/// `bytes` is what `head` was parsed from. Status, reason and fields are the server's, its Server and Date among them.
/// A body without a known length goes out in chunks, to an HTTP/1.0 client until close. Not for interim responses.
/// On `Err` nothing was appended.
pub fn write_response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    bytes: &[u8],
    context: &ResponseContext<'_>,
) -> Result<Downstream, HeadError> {
    let options = ConnectionOptions::of(&head.fields, bytes)?;
    out.reserve(head.head_bytes + 128);
    put_status_and_fields(out, head, bytes, &options);
    if head.field(bytes, FieldName::Date).is_none() {
        put_field(out, b"Date", context.date);
    }
    let body = downstream_body(head, context);
    put_framing(out, head, bytes, context.method, body);
    let keep_alive = context.keep_alive && body != BodyKind::UntilClose;
    match (keep_alive, context.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(Downstream { body, keep_alive })
}

/// True for an interim response that goes on to the client: 1xx, but not to HTTP/1.0 (RFC 9110 section 15.2).
///
/// 100 answers an Expect, which we never forward. 101 answers an Upgrade, which we never forward either: a server that
/// sends it is broken, and the request is to be answered with 502.
pub fn is_forwarded_interim(status: u16, version: Version) -> bool {
    (102..200).contains(&status) && version == Version::Http11
}

/// Appends an interim (1xx) head: no framing, no Date, no Connection. On `Err` nothing was appended.
pub fn write_interim_head(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8]) -> Result<(), HeadError> {
    let options = ConnectionOptions::of(&head.fields, bytes)?;
    put_status_and_fields(out, head, bytes, &options);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn put_status_and_fields(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8], options: &ConnectionOptions<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(head.status));
    out.push(b' '); // also in front of an empty reason (RFC 9112 section 4)
    out.extend_from_slice(head.reason.of(bytes));
    out.extend_from_slice(b"\r\n");
    for field in head.fields.iter().filter(|field| !is_hop_by_hop_or_framing(field.known)) {
        let name = field.name.of(bytes);
        if !options.remove(field, name) {
            put_field(out, name, field.value.of(bytes));
        }
    }
}

fn downstream_body(head: &ResponseHead, context: &ResponseContext<'_>) -> BodyKind {
    if has_no_body(head.status, context.method) {
        return BodyKind::None;
    }
    match (head.body, context.version) {
        (BodyKind::None | BodyKind::Length(0), _) => BodyKind::None,
        (BodyKind::Length(body_bytes), _) => BodyKind::Length(body_bytes),
        (BodyKind::Chunked | BodyKind::UntilClose, Version::Http11) => BodyKind::Chunked,
        (BodyKind::Chunked | BodyKind::UntilClose, Version::Http10) => BodyKind::UntilClose,
    }
}

/// RFC 9112 section 6.3, rule 1.
fn has_no_body(status: u16, method: Method) -> bool {
    method == Method::Head || status < 200 || status == 204 || status == 304
}

fn put_framing(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8], method: Method, body: BodyKind) {
    match body {
        BodyKind::Length(body_bytes) => put_content_length(out, body_bytes),
        BodyKind::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyKind::UntilClose => {}
        // RFC 9110 section 8.6: forbidden in 1xx and 204; after HEAD and in 304 it tells the length that a GET would
        // have had, so it is passed on if the server gave one.
        BodyKind::None if head.status < 200 || head.status == 204 => {}
        BodyKind::None if method == Method::Head || head.status == 304 => {
            if let Some(body_bytes) = announced_length(head, bytes) {
                put_content_length(out, body_bytes);
            }
        }
        BodyKind::None => put_content_length(out, 0),
    }
}

/// Content-Length of a response that has no body; `None` when it is absent, contradictory, or beside
/// Transfer-Encoding (RFC 9112 section 6.3, rule 3).
fn announced_length(head: &ResponseHead, bytes: &[u8]) -> Option<u64> {
    if head.fields.iter().any(|field| field.known == FieldName::TransferEncoding) {
        return None;
    }
    let fields = head.fields.iter().filter(|field| field.known == FieldName::ContentLength);
    let mut lengths = fields.flat_map(|field| list_elements(field.value.of(bytes))).map(parse_length);
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// `text` is not empty.
fn parse_length(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
