//! The head of a [`Plan`] as bytes. Fields that never change were written when the file was opened.

use bytes::Bytes;

use super::entry::push;
use super::serve::{HeadPart, Plan};

/// Appends status line, Server, Date and the fields of `plan` to `out`. The caller appends Connection where it is
/// needed, and the empty line.
///
/// `server` is the value of Server; empty: no such field. `date` is the IMF-fixdate of now. The version is always
/// HTTP/1.1, also towards a client of HTTP/1.0 (RFC 9110 section 6.2). Allocates only when `out` must grow.
pub fn write_head(plan: &Plan, server: &[u8], date: &[u8; 29], out: &mut Vec<u8>) {
    out.extend_from_slice(status_line(plan.status));
    if !server.is_empty() {
        out.extend_from_slice(b"Server: ");
        out.extend_from_slice(server);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\n");
    match &plan.head {
        HeadPart::Whole(entry) => out.extend_from_slice(entry.fields()),
        HeadPart::NotModified(entry) => out.extend_from_slice(entry.validator_fields()),
        HeadPart::Partial(entry, range) => {
            out.extend_from_slice(entry.type_field());
            let (first, last, len) = (range.start, range.start + (range.len - 1), entry.validators.len);
            push(out, format_args!("Content-Length: {}\r\nContent-Range: bytes {first}-{last}/{len}\r\n", range.len));
            out.extend_from_slice(entry.validator_fields());
        }
        HeadPart::Unsatisfiable(entry) => {
            write_canned(plan.status, out);
            push(out, format_args!("Content-Range: bytes */{}\r\n", entry.validators.len));
        }
        HeadPart::Canned => write_canned(plan.status, out),
        HeadPart::Redirect(location) => {
            write_canned(plan.status, out);
            out.extend_from_slice(b"Location: ");
            out.extend_from_slice(location);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_canned(status: u16, out: &mut Vec<u8>) {
    let len = canned_text(status).len();
    push(out, format_args!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n"));
    match status {
        405 => out.extend_from_slice(b"Allow: GET, HEAD\r\n"),
        503 => out.extend_from_slice(b"Retry-After: 1\r\n"),
        _ => {}
    }
}

fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        206 => b"HTTP/1.1 206 Partial Content\r\n",
        301 => b"HTTP/1.1 301 Moved Permanently\r\n",
        304 => b"HTTP/1.1 304 Not Modified\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
        412 => b"HTTP/1.1 412 Precondition Failed\r\n",
        416 => b"HTTP/1.1 416 Range Not Satisfiable\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        _ => b"HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// Body of an answer that is not a file.
pub(super) fn canned_body(status: u16) -> Bytes {
    Bytes::from_static(canned_text(status).as_bytes())
}

fn canned_text(status: u16) -> &'static str {
    match status {
        301 => "301 Moved Permanently\n",
        403 => "403 Forbidden\n",
        404 => "404 Not Found\n",
        405 => "405 Method Not Allowed\n",
        412 => "412 Precondition Failed\n",
        416 => "416 Range Not Satisfiable\n",
        503 => "503 Service Unavailable\n",
        _ => "500 Internal Server Error\n",
    }
}
