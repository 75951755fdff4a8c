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
/// - Nor is it where a HEAD or 304 declares the content that it must not send. Servers that leave this to the application
///   (gunicorn) send it all the same, perhaps a moment after the head, where it would be taken for the next answer. Who can
///   store a page there would write that answer.
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
    let has_body = has_body(head.status, request_method);
    head.body = if has_body { body(&framing, head.version)? } else { BodyKind::None };
    // RFC 9112 section 6.1: close after a message that states both, or a coding with HTTP/1.0.
    let is_doubtful = framing.coding != Coding::Absent && (framing.length.is_some() || head.version == Version::Http10)
        || is_without_body(head.status, request_method) && framing.declares_content();
    head.keep_alive = framing.keeps_connection(head.version) && head.body != BodyKind::UntilClose && !is_doubtful;
    Ok(Some(()))
}

/// True when the head is complete.
fn scan(bytes: &[u8], headers_max: usize, head: &mut ResponseHead) -> Result<bool, ResponseError> {
    // The status line counts as one more line; see `fields::scan`.
    if bytes.len() > fields::SECTION_LONG && !fields::has_end(bytes, headers_max.saturating_add(1))? {
        return Ok(false);
    }
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
        (error, Some(at)) => ResponseError::Field(fields::blame(&bytes[at..], error, true)),
    }
}

/// RFC 9112 section 6.3, points 1 and 2.
fn has_body(status: u16, request_method: Method) -> bool {
    let is_tunnel = request_method == Method::Connect && (200..300).contains(&status);
    !is_tunnel && !matches!(status, 100..=199) && !is_without_body(status, request_method)
}

/// A final answer that ends with its head, whatever that says (RFC 9112 section 6.3, point 1).
fn is_without_body(status: u16, request_method: Method) -> bool {
    status >= 200 && (request_method == Method::Head || matches!(status, 204 | 304))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::FieldName;

    const LIMITS: Limits = Limits { head_bytes_max: 300, target_bytes_max: 100, headers_max: 10 };

    /// Parses `text`, and each beginning of it: none may be taken for a whole head, nor be refused for anything but
    /// what the whole is refused for.
    fn parse(method: Method, text: &[u8]) -> Result<Option<ResponseHead>, ResponseError> {
        let mut head = ResponseHead::default();
        let whole = parse_response(text, &LIMITS, method, &mut head).map(|found| found.map(|()| head.clone()));
        let head_bytes = whole.as_ref().ok().and_then(|head| Some(head.as_ref()?.head_bytes));
        for end in 0..text.len() {
            let part = parse_response(&text[..end], &LIMITS, method, &mut head);
            let expect = match (&whole, head_bytes) {
                (Err(error), _) if part.is_err() => Err(*error),
                (_, Some(bytes)) if bytes <= end => Ok(Some(())),
                _ => Ok(None),
            };
            assert_eq!(part, expect, "at {end}: {}", text.escape_ascii());
        }
        whole
    }

    fn accept(method: Method, text: &str) -> ResponseHead {
        let head = parse(method, text.as_bytes()).unwrap_or_else(|error| panic!("{error} for {text:?}"));
        head.unwrap_or_else(|| panic!("incomplete: {text:?}"))
    }

    /// `text` is refused with `error`.
    fn refuse(text: &str, error: ResponseError) {
        assert_eq!(parse(Method::Get, text.as_bytes()).map(|head| head.is_some()), Err(error), "{text:?}");
    }

    /// Body and reuse of the answer to `method` with this status and these field lines.
    fn framing(method: Method, status: &str, fields: &str) -> (BodyKind, bool) {
        let head = accept(method, &format!("HTTP/1.1 {status} X\r\n{fields}\r\n"));
        (head.body, head.keep_alive)
    }

    #[test]
    fn positions() {
        let text = "HTTP/1.0 404 Not \u{e9} Found\r\nServer : x y \r\nSet-Cookie\t:\r\nContent-Length: 3\r\n\r\nabc";
        let (head, bytes) = (accept(Method::Get, text), text.as_bytes());
        assert_eq!((head.status, head.version, head.body), (404, Version::Http10, BodyKind::Length(3)));
        assert_eq!(head.reason.of(bytes), "Not \u{e9} Found".as_bytes());
        assert_eq!(head.head_bytes, text.len() - 3);
        // RFC 9112 section 5.1: a proxy removes the space before the colon.
        assert_eq!((head.fields[0].name.of(bytes), head.fields[0].known), (&b"Server"[..], FieldName::Server));
        assert_eq!((head.fields[1].name.of(bytes), head.fields[1].value.of(bytes)), (&b"Set-Cookie"[..], &b""[..]));
        assert_eq!(head.field(bytes, FieldName::Server), Some(&b"x y"[..]));
    }

    // RFC 9112 section 4
    #[test]
    fn status_lines() {
        for (line, status, reason) in
            [("200 OK", 200, "OK"), ("200 ", 200, ""), ("200", 200, ""), ("999 \t", 999, "\t")]
        {
            let text = format!("HTTP/1.1 {line}\r\n\r\n");
            let head = accept(Method::Get, &text);
            assert_eq!((head.status, head.reason.of(text.as_bytes())), (status, reason.as_bytes()), "{line}");
        }
        let wrong = [
            "HTTP/1.1 99 X",
            "HTTP/1.1 099 X",
            "HTTP/1.1 000 X",
            "HTTP/1.1 2000 X",
            "HTTP/1.1 20x X",
            "HTTP/1.1  200 X",
            "HTTP/1.1 -20 X",
            "HTTP/1.1 200X",
            "HTTP/2.0 200 X",
            "HTTP/1.2 200 X",
            "HTTP/0.9 200 X",
            "http/1.1 200 X",
            "HTTP/1.1200 X",
            "ICY 200 OK",
            " HTTP/1.1 200 X",
            "\r\nHTTP/1.1 200 X",
            "\nHTTP/1.1 200 X",
            "HTTP/1.1 200 a\0",
            "HTTP/1.1 200 a\rb",
            "HTTP/1.1 200 \u{1b}",
            "<html>",
            "HTTP/1.1\t200 X",
            "HTTP/1.1 200\rX",
            "GET / HTTP/1.1",
        ];
        for line in wrong {
            refuse(&format!("{line}\r\n\r\n"), ResponseError::StatusLine);
        }
        for text in ["HTTP/1.1 200 OK\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200\n\r\n", "HTTP/1.1 200 OK\r\n\n"] {
            refuse(text, FieldError::BareLf.into());
        }
    }

    #[test]
    fn field_lines() {
        use FieldError::*;
        let wrong = [
            ("X: a\nY: b", BareLf),
            ("X : a\nY: b", BareLf),
            ("X: a\rY: b", BareCr),
            ("X: a\r\n b", Folded),
            (" X: a", Folded),
            ("X: a\0", Value),
            ("X : y\r\nY: a\0", Value),
            ("X y: a", SpaceBeforeColon),
            ("X", Name),
            (": a", Name),
            ("Content-Length: x", ContentLength),
            ("Content-Length: 1, 2", ContentLengthsDiffer),
            ("Content-Length: 1\r\nContent-Length: 2", ContentLengthsDiffer),
        ];
        for (line, error) in wrong {
            refuse(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"), error.into());
        }
        refuse(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(11)), TooMany.into());
        accept(Method::Get, &format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10)));
        refuse(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(300)), ResponseError::HeadTooLong);
        refuse(&format!("HTTP/1.1 200 {}", "y".repeat(300)), ResponseError::HeadTooLong);
    }

    // RFC 9112 section 6.3
    #[test]
    fn bodies() {
        use BodyKind::*;
        let get = |status: &str, fields: &str| framing(Method::Get, status, fields);
        assert_eq!(get("200", "Content-Length: 7\r\n"), (Length(7), true));
        assert_eq!(get("200", "Content-Length: 0\r\n"), (Length(0), true));
        assert_eq!(get("200", "Content-Length: 7, 7\r\n"), (Length(7), true));
        assert_eq!(get("200", ""), (UntilClose, false));
        assert_eq!(get("200", "Connection: keep-alive\r\n"), (UntilClose, false));
        assert_eq!(get("200", "Transfer-Encoding: Chunked\r\n"), (Chunked, true));
        assert_eq!(get("200", "Transfer-Encoding: chunked\r\nConnection: x, close\r\n"), (Chunked, false));
        // Both: Content-Length is dropped and the connection not used again (section 6.1).
        assert_eq!(get("200", "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n"), (Chunked, false));
        for status in ["100", "101", "103", "199"] {
            assert_eq!(get(status, "Content-Length: 7\r\n"), (None, true), "{status}");
            assert_eq!(get(status, "Transfer-Encoding: chunked\r\n"), (None, true), "{status}");
        }
        // What is declared may come: such a connection is not used again.
        for status in ["204", "304"] {
            assert_eq!(get(status, "Content-Length: 7\r\n"), (None, false), "{status}");
            assert_eq!(get(status, "Transfer-Encoding: chunked\r\n"), (None, false), "{status}");
            assert_eq!(get(status, "Content-Length: 0\r\n"), (None, true), "{status}");
            assert_eq!(get(status, ""), (None, true), "{status}");
        }
        assert_eq!(get("205", ""), (UntilClose, false));
        assert_eq!(framing(Method::Head, "200", "Content-Length: 7\r\n"), (None, false));
        assert_eq!(framing(Method::Head, "200", "Transfer-Encoding: gzip\r\n"), (None, false));
        assert_eq!(framing(Method::Head, "200", "Content-Length: 0\r\n"), (None, true));
        assert_eq!(framing(Method::Head, "200", ""), (None, true));
        assert_eq!(framing(Method::Head, "103", "Content-Length: 7\r\n"), (None, true));
        assert_eq!(framing(Method::Connect, "200", "Content-Length: 7\r\n"), (None, true));
        assert_eq!(framing(Method::Connect, "299", "Transfer-Encoding: chunked\r\n"), (None, true));
        assert_eq!(framing(Method::Connect, "407", "Content-Length: 7\r\n"), (Length(7), true));
        for value in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "", "chunked;x"] {
            refuse(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n"), ResponseError::Coding);
        }
        refuse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseError::CodingInHttp10);
    }

    // RFC 9112 section 9.3
    #[test]
    fn http10_is_kept_only_when_it_says_so() {
        let keeps = |fields: &str| {
            accept(Method::Get, &format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n")).keep_alive
        };
        assert!(!keeps(""));
        assert!(keeps("Connection: Keep-Alive\r\n"));
        assert!(!keeps("Connection: keep-alive, close\r\n"));
        let doubtful = "HTTP/1.0 304 X\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!accept(Method::Get, doubtful).keep_alive);
    }

    #[test]
    fn an_interim_response_is_followed_by_the_final_one() {
        let text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let interim = accept(Method::Get, text);
        assert_eq!((interim.status, interim.body), (103, BodyKind::None));
        assert_eq!(accept(Method::Get, &text[interim.head_bytes..]).body, BodyKind::Length(2));
    }

    #[test]
    fn every_number_of_fields_up_to_the_limit_fits() {
        for max in [1, 127, 128, 129, 1000, usize::MAX] {
            let limits = Limits { head_bytes_max: usize::MAX, target_bytes_max: 0, headers_max: max };
            let fits = max.min(5000);
            let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:\r\n".repeat(fits));
            let mut head = ResponseHead::default();
            assert_eq!(parse_response(text.as_bytes(), &limits, Method::Get, &mut head), Ok(Some(())), "{max}");
            assert_eq!(head.fields.len(), fits);
            let text = text.replacen("a:", "a:\r\na:", 1);
            let found = parse_response(text.as_bytes(), &limits, Method::Get, &mut head);
            assert_eq!(found.is_err(), max <= fits, "{max}");
        }
    }
}
