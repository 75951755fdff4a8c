//! The head of a program's answer, put into the words of HTTP/1.1 so that the codec there judges its fields.
//!
//! ```text
//! Status: 404 Not Found ⏎ Content-Type: text/html ⏎ ⏎ …    →    HTTP/1.1 404 Not Found ␍⏎ Content-Type: text/html ␍⏎ ␍⏎
//! ```
//!
//! Lines end in LF, with or without CR before it (RFC 3875 section 6.1: what the system uses); a CR elsewhere, a folded line
//! and a line without a colon are refused. Fields that speak of a connection are left out: a program has none.
//!
//! Source: RFC 3875 section 6.

use std::fmt;

/// What becomes of a Location that names a path of this site, with nothing else in the head: the server is to answer with what
/// is there itself (RFC 3875 section 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// That is done, as if the client had asked for it.
    Inside,
    /// The client is sent there: the program is not trusted to choose.
    ByClient,
}

/// Why an answer is refused. It is the program's fault each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Longer than a head may be.
    TooLong,
    /// A line that is no field, or one that is folded.
    Line,
    /// CR within a line.
    BareCr,
    /// No field at all.
    Empty,
    /// Status that is not three digits from 200 on, or is there twice.
    Status,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyError::TooLong => "head too long",
            ReplyError::Line => "a line in the head that is no field",
            ReplyError::BareCr => "CR within a line of the head",
            ReplyError::Empty => "a head without fields",
            ReplyError::Status => "invalid Status",
        })
    }
}

impl std::error::Error for ReplyError {}

/// Length of the head at the start of `bytes`, its empty line included. `Ok(None)`: it is not complete. Nothing ends in the
/// first `searched` bytes, which an earlier call has looked at.
///
/// Errors: `TooLong` when there is no end in the first `bytes_max` bytes.
pub fn head_end(bytes: &[u8], searched: usize, bytes_max: usize) -> Result<Option<usize>, ReplyError> {
    // An end that came in two pieces begins at most two bytes before the second one.
    let from = searched.saturating_sub(2);
    let window = &bytes[..bytes.len().min(bytes_max)];
    for at in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
        let at = from + at;
        if matches!(window[..at], [] | [.., b'\n'] | [b'\r'] | [.., b'\n', b'\r']) {
            return Ok(Some(at + 1));
        }
    }
    if window.len() < bytes_max { Ok(None) } else { Err(ReplyError::TooLong) }
}

/// Appends the head `head`, as [`head_end`] has found it, to `out` as one of HTTP/1.1. Its fields are not looked into. Gives the
/// Location, path and query, whose answer is to be sent in the place of this one; where it cannot be, this one stands.
///
/// On `Err` what was appended means nothing.
pub fn write_head<'a>(head: &'a [u8], redirects: Redirects, out: &mut Vec<u8>) -> Result<Option<&'a [u8]>, ReplyError> {
    let told = Told::of(head)?;
    let inside = told.local().filter(|_| redirects == Redirects::Inside && told.status.is_none() && told.fields == 1);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(match (told.status, told.location) {
        (Some(status), _) => status,
        (None, Some(_)) => b"302 Found",
        (None, None) => b"200 OK",
    });
    out.extend_from_slice(b"\r\n");
    for line in lines(head) {
        let (name, value) = line?;
        if !is_left_out(name) {
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(inside)
}

/// What decides the status line.
#[derive(Default)]
struct Told<'a> {
    /// `404 Not Found`.
    status: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
    fields: usize,
}

impl<'a> Told<'a> {
    fn of(head: &'a [u8]) -> Result<Told<'a>, ReplyError> {
        let mut told = Told::default();
        for line in lines(head) {
            let (name, value) = line?;
            told.fields += 1;
            if name.eq_ignore_ascii_case(b"status") {
                if told.status.replace(checked_status(value.trim_ascii())?).is_some() {
                    return Err(ReplyError::Status);
                }
            } else if name.eq_ignore_ascii_case(b"location") {
                told.location = Some(value.trim_ascii());
            }
        }
        if told.fields == 0 { Err(ReplyError::Empty) } else { Ok(told) }
    }

    /// The path, where Location names one of this site. `//host/` names another one.
    fn local(&self) -> Option<&'a [u8]> {
        self.location.filter(|location| location.starts_with(b"/") && !location.starts_with(b"//"))
    }
}

/// Three digits, and perhaps a reason. Interim answers are not for programs: RFC 3875 section 6.3.3.
fn checked_status(status: &[u8]) -> Result<&[u8], ReplyError> {
    match status {
        [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9'] | [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..] => Ok(status),
        _ => Err(ReplyError::Status),
    }
}

/// The fields in order, up to the empty line; names without the space that some put behind them, which whoever reads the head next
/// would take away too (RFC 9112 section 5.1), so that no field passes under another name.
fn lines(head: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), ReplyError>> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty()).map(|line| {
        if memchr::memchr(b'\r', line).is_some() {
            return Err(ReplyError::BareCr);
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Err(ReplyError::Line) };
        match line[..colon].trim_ascii_end() {
            [] | [b' ' | b'\t', ..] => Err(ReplyError::Line),
            name => Ok((name, &line[colon + 1..])),
        }
    })
}

/// Status has become the status line; the others are about a connection, of which a program knows nothing.
fn is_left_out(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] =
        [b"status", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, redirects: Redirects, expect: Result<&str, ReplyError>) {
        let bytes = head.as_bytes();
        let end = head_end(bytes, 0, 1000);
        for cut in 0..bytes.len() {
            let first = head_end(&bytes[..cut], 0, 1000);
            let second = if first == Ok(None) { head_end(bytes, cut, 1000) } else { first };
            assert_eq!(second, end, "{head:?} cut at {cut}");
        }
        let mut out = Vec::new();
        let result = end.and_then(|end| write_head(&bytes[..end.expect("complete")], redirects, &mut out));
        let got = result.map(|inside| {
            let inside = inside.map_or(String::new(), |path| format!("{} or ", String::from_utf8_lossy(path)));
            inside + &String::from_utf8_lossy(&out).replace("\r\n", "|")
        });
        assert_eq!(got.as_deref().map_err(|error| *error), expect, "{head:?}");
    }

    #[test]
    fn heads_become_those_of_http() {
        use Redirects::{ByClient, Inside};
        for (head, expect) in [
            ("Content-Type: text/html\r\n\r\nbody", "HTTP/1.1 200 OK|Content-Type: text/html||"),
            ("Content-Type: text/html\n\nbody", "HTTP/1.1 200 OK|Content-Type: text/html||"),
            ("A: 1\nB:2\r\n\n", "HTTP/1.1 200 OK|A: 1|B:2||"),
            ("Status: 404 Not Found\r\nA: b\r\n\r\n", "HTTP/1.1 404 Not Found|A: b||"),
            ("Status : 500\r\nA \t: b\r\n\r\n", "HTTP/1.1 500|A: b||"),
            ("Transfer-Encoding : chunked\nA: b\n\n", "HTTP/1.1 200 OK|A: b||"),
            ("Connection\t: close\nA: b\n\n", "HTTP/1.1 200 OK|A: b||"),
            ("A: b\r\nstatus:  500 \r\n\r\n", "HTTP/1.1 500|A: b||"),
            ("Status: 302 Found\nLocation: /x\n\n", "HTTP/1.1 302 Found|Location: /x||"),
            ("Location: http://a/x\n\n", "HTTP/1.1 302 Found|Location: http://a/x||"),
            ("Location: //a/x\n\n", "HTTP/1.1 302 Found|Location: //a/x||"),
            ("Location: /x?y\n\n", "/x?y or HTTP/1.1 302 Found|Location: /x?y||"),
            ("Location : /x\n\n", "/x or HTTP/1.1 302 Found|Location: /x||"),
            ("Location: /x\nContent-Type: a/b\n\n", "HTTP/1.1 302 Found|Location: /x|Content-Type: a/b||"),
            (
                "Content-Length: 5\nTransfer-Encoding: chunked\nConnection: close\nKEEP-ALIVE: 1\nUpgrade: h2c\n\n",
                "HTTP/1.1 200 OK|Content-Length: 5||",
            ),
        ] {
            check(head, Inside, Ok(expect));
        }
        check("Location: /x\n\n", ByClient, Ok("HTTP/1.1 302 Found|Location: /x||"));
    }

    #[test]
    fn what_is_no_head() {
        for (head, expect) in [
            ("\n", ReplyError::Empty),
            ("\r\nA: b\r\n\r\n", ReplyError::Empty),
            ("<html>\n\n", ReplyError::Line),
            ("HTTP/1.1 200 OK\r\n\r\n", ReplyError::Line),
            ("A: b\n c: d\n\n", ReplyError::Line),
            (": b\n\n", ReplyError::Line),
            (" : b\n\n", ReplyError::Line),
            ("\t: b\n\n", ReplyError::Line),
            ("Status: 200\nStatus : 200\n\n", ReplyError::Status),
            ("A: b\rC: d\n\n", ReplyError::BareCr),
            ("Status: abc\n\n", ReplyError::Status),
            ("Status: 99\n\n", ReplyError::Status),
            ("Status: 103 Early Hints\n\n", ReplyError::Status),
            ("Status: 2000\n\n", ReplyError::Status),
            ("Status:\n\n", ReplyError::Status),
            ("Status: 200\nStatus: 200\n\n", ReplyError::Status),
        ] {
            check(head, Redirects::Inside, Err(expect));
            assert!(!expect.to_string().is_empty());
        }
        assert_eq!(head_end(&[b'a'; 10], 0, 10), Err(ReplyError::TooLong));
        assert_eq!(head_end(b"A: b\n\nC: d", 0, 6), Ok(Some(6)), "what follows does not count");
        assert_eq!(head_end(b"A: bc\n\n", 0, 6), Err(ReplyError::TooLong));
    }
}
