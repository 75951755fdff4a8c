//! What we send: start line, fields, chunk framing. Appends to the caller's buffer and allocates nothing once that has
//! grown.

use super::head::{BodyKind, Method, Version};
use crate::http::answer::{AnswerHead, Content};

/// Behind the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// End of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Chunk size line before `bytes` bytes of data. Never called with 0: that would end the body ([`LAST_CHUNK`]).
pub fn write_chunk_head(out: &mut Vec<u8>, bytes: usize) {
    debug_assert!(bytes > 0, "an empty chunk ends the body");
    let mut text = [0; 2 * size_of::<usize>() + 2];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"\r\n");
    let mut rest = bytes;
    loop {
        at -= 1;
        text[at] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// `HTTP/1.1`, `status` and its registered reason; an unknown status has an empty one.
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status), "a status has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, status.into());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

/// What [`write_answer_head`] must know beside the answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerContext<'a> {
    /// Method of the request.
    pub method: Method,
    /// Version the client spoke.
    pub version: Version,
    /// We are willing to keep the connection, and the client is.
    pub keep_alive: bool,
    /// Value of Server; empty: none is written, or the fields have one.
    pub server: &'a [u8],
    /// Value of Date, an IMF-fixdate; empty: the fields have one (RFC 9110 section 6.6.1).
    pub date: &'a [u8],
}

/// How the answer goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// How the body is framed for the client.
    pub body: BodyKind,
    /// The connection stays open behind it, as the head says.
    pub keep_alive: bool,
}

/// Appends the whole head of a final answer, empty line included, and tells how to go on.
///
/// The version is always HTTP/1.1, also towards a client of HTTP/1.0 (RFC 9110 section 6.2). Content of unknown length
/// goes out in chunks, to an HTTP/1.0 client until close (RFC 9112 section 6.3).
pub fn write_answer_head(out: &mut Vec<u8>, head: &AnswerHead<'_>, context: &AnswerContext<'_>) -> Downstream {
    match head.reason {
        None => write_status_line(out, head.status),
        Some(reason) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            write_decimal(out, head.status.into());
            out.push(b' '); // also in front of an empty reason (RFC 9112 section 4)
            out.extend_from_slice(reason);
            out.extend_from_slice(b"\r\n");
        }
    }
    if !context.server.is_empty() {
        write_field(out, "Server", context.server);
    }
    if !context.date.is_empty() {
        write_field(out, "Date", context.date);
    }
    out.extend_from_slice(head.fields);
    let body = write_framing(out, head, context);
    let keep_alive = context.keep_alive && body != BodyKind::UntilClose;
    out.extend_from_slice(match (keep_alive, context.version) {
        (false, _) => b"Connection: close\r\n\r\n",
        (true, Version::Http10) => b"Connection: keep-alive\r\n\r\n".as_slice(),
        (true, _) => b"\r\n",
    });
    Downstream { body, keep_alive }
}

/// RFC 9112 section 6.3, RFC 9110 section 8.6.
fn write_framing(out: &mut Vec<u8>, head: &AnswerHead<'_>, context: &AnswerContext<'_>) -> BodyKind {
    let forbidden = head.status < 200 || head.status == 204;
    let is_bodiless = forbidden || head.status == 304 || context.method == Method::Head;
    let (length, body) = match head.content {
        Content::Absent(length) => (length, BodyKind::None),
        Content::Length(0) => (Some(0), BodyKind::None),
        Content::Length(length) => (Some(length), BodyKind::Length(length)),
        Content::Stream if context.version == Version::Http10 => (None, BodyKind::UntilClose),
        Content::Stream => (None, BodyKind::Chunked),
    };
    let body = if is_bodiless { BodyKind::None } else { body };
    if let Some(length) = length.filter(|_| !forbidden) {
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if body == BodyKind::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    body
}

/// One field line. CR, LF and NUL in `value` would be another line to somebody (response splitting, RFC 9112
/// section 11.1): a space is written in their place.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(!name.is_empty() && name.bytes().all(super::fields::is_token_byte), "field name {name:?}");
    debug_assert!(memchr::memchr3(b'\r', b'\n', 0, value).is_none(), "line end or nul in the value of {name}");
    write_field_line(out, name, value);
}

fn write_field_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_at = out.len();
    out.extend_from_slice(value);
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        blank_line_ends(&mut out[value_at..]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cold]
fn blank_line_ends(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        *byte = b' ';
    }
}

/// `number` in decimal.
pub fn write_decimal(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    let mut rest = number;
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b">".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_lines_carry_the_registered_reason() {
        let check = |status, expect: &str| assert_eq!(written(|out| write_status_line(out, status)), expect);
        check(200, ">HTTP/1.1 200 OK\r\n");
        check(103, ">HTTP/1.1 103 Early Hints\r\n");
        check(404, ">HTTP/1.1 404 Not Found\r\n");
        check(431, ">HTTP/1.1 431 Request Header Fields Too Large\r\n");
        check(504, ">HTTP/1.1 504 Gateway Timeout\r\n");
        check(299, ">HTTP/1.1 299 \r\n");
        check(999, ">HTTP/1.1 999 \r\n");
    }

    #[test]
    fn fields() {
        assert_eq!(written(|out| write_field(out, "Server", b"0ne")), ">Server: 0ne\r\n");
        assert_eq!(written(|out| write_field(out, "X", b"")), ">X: \r\n");
    }

    // RFC 9112 section 11.1. The debug assertion is for our own callers; what counts is what a release writes.
    #[test]
    fn a_value_never_starts_a_line() {
        let line = written(|out| write_field_line(out, "X", b"a\r\nSet-Cookie: b\0c\td"));
        assert_eq!(line, ">X: a  Set-Cookie: b c\td\r\n");
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(number: u64, shift in 0..64u32, bytes in 1usize..) {
            let number = number >> shift;
            prop_assert_eq!(written(|out| write_decimal(out, number)), format!(">{number}"));
            let bytes = (bytes >> shift).max(1);
            prop_assert_eq!(written(|out| write_chunk_head(out, bytes)), format!(">{bytes:x}\r\n"));
        }
    }

    #[test]
    fn extremes() {
        for number in [0, 9, 10, u64::MAX] {
            assert_eq!(written(|out| write_decimal(out, number)), format!(">{number}"));
        }
        assert_eq!(written(|out| write_chunk_head(out, usize::MAX)), format!(">{:x}\r\n", usize::MAX));
    }
}
