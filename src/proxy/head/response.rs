//! What goes back to the client of a server's response head.

use super::{ConnectionOptions, HeadError, is_hop_by_hop_or_framing, put_field};
use crate::http::answer::Content;
use crate::http::h1::{BodyKind, FieldName, Method, ResponseHead, Version, list_elements};

/// Appends the fields of the response `head` that go on to the client, line by line.
///
/// `bytes` is what `head` was parsed from. Its Server and Date are among them. Not those of framing and connection,
/// which follow from [`response_content`] and the client's protocol.
/// On `Err` nothing was appended.
pub fn write_response_fields(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8]) -> Result<(), HeadError> {
    let options = ConnectionOptions::of(&head.fields, bytes)?;
    out.reserve(head.head_bytes);
    put_fields(out, head, bytes, &options);
    Ok(())
}

/// What follows the head of a response to a request of `method`.
pub fn response_content(head: &ResponseHead, bytes: &[u8], method: Method) -> Content {
    if has_no_body(head.status, method) {
        // RFC 9110 section 8.6: after HEAD and in 304 Content-Length tells what a GET would have had, so it is passed on
        // if the server gave one.
        let may_tell = head.status >= 200 && head.status != 204;
        return Content::Absent(if may_tell { announced_length(head, bytes) } else { None });
    }
    match head.body {
        BodyKind::None => Content::Length(0),
        BodyKind::Length(body_bytes) => Content::Length(body_bytes),
        BodyKind::Chunked | BodyKind::UntilClose => Content::Stream,
    }
}

/// True for an interim response that goes on to the client: 1xx, but not to HTTP/1.0 (RFC 9110 section 15.2).
///
/// 100 answers an Expect, which we never forward. 101 is no interim response of HTTP but its end: [`crate::proxy::upgrade`].
pub fn is_forwarded_interim(status: u16, version: Version) -> bool {
    (102..200).contains(&status) && version != Version::Http10
}

fn put_fields(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8], options: &ConnectionOptions<'_>) {
    for field in head.fields.iter().filter(|field| !is_hop_by_hop_or_framing(field.known)) {
        let name = field.name.of(bytes);
        if !options.remove(field, name) {
            put_field(out, name, field.value.of(bytes));
        }
    }
}

/// RFC 9112 section 6.3, rule 1.
fn has_no_body(status: u16, method: Method) -> bool {
    method == Method::Head || status < 200 || status == 204 || status == 304
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
