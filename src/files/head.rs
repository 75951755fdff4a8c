//! The fields of a [`Plan`] as bytes. Those that never change were written when the file was opened.

use bytes::Bytes;

use super::entry::push;
use super::serve::{HeadPart, Plan};
use crate::http::answer::Content;

/// Appends the fields of `plan` to `out`, line by line, and tells what follows the head. Not those of framing,
/// connection, Server and Date, which belong to the caller. Allocates only when `out` must grow.
pub fn write_fields(plan: &Plan, out: &mut Vec<u8>) -> Content {
    match &plan.head {
        HeadPart::Whole(entry) => {
            out.extend_from_slice(entry.fields());
            Content::Length(entry.validators.len)
        }
        HeadPart::NotModified(entry) => {
            out.extend_from_slice(entry.validator_fields());
            Content::Absent(None)
        }
        HeadPart::Partial(entry, range) => {
            out.extend_from_slice(entry.type_field());
            let (first, last, len) = (range.start, range.start + (range.len - 1), entry.validators.len);
            push(out, format_args!("Content-Range: bytes {first}-{last}/{len}\r\n"));
            out.extend_from_slice(entry.validator_fields());
            Content::Length(range.len)
        }
        HeadPart::Unsatisfiable(entry) => {
            let content = write_canned(plan.status, out);
            push(out, format_args!("Content-Range: bytes */{}\r\n", entry.validators.len));
            content
        }
        HeadPart::Canned => write_canned(plan.status, out),
        HeadPart::Redirect(location) => {
            let content = write_canned(plan.status, out);
            out.extend_from_slice(b"Location: ");
            out.extend_from_slice(location);
            out.extend_from_slice(b"\r\n");
            content
        }
    }
}

fn write_canned(status: u16, out: &mut Vec<u8>) -> Content {
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    match status {
        405 => out.extend_from_slice(b"Allow: GET, HEAD\r\n"),
        503 => out.extend_from_slice(b"Retry-After: 1\r\n"),
        _ => {}
    }
    Content::Length(canned_text(status).len() as u64)
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
