//! The fields of an answer. Most of them were written when the file was opened.

use std::borrow::Cow;

use bytes::Bytes;

use super::entry::{Entry, push};
use super::listing::{Format, Listed};
use super::serve::{HeadPart, Plan, PlanBody};
use crate::http::answer::Content;

/// Appends the fields of `plan` to `out`, line by line, and tells what follows the head. Not those of framing,
/// connection, Server and Date, which belong to the caller. Allocates only when `out` must grow. Panics for a plan that
/// needs its listing first.
pub fn write_fields(plan: &Plan, out: &mut Vec<u8>) -> Content {
    assert!(!matches!(plan.body, PlanBody::NeedsListing(_)), "the listing comes first");
    let content = write_own_fields(plan, out);
    if plan.varies {
        out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    content
}

fn write_own_fields(plan: &Plan, out: &mut Vec<u8>) -> Content {
    match &plan.head {
        HeadPart::Whole(entry) => {
            out.extend_from_slice(entry.fields());
            Content::Length(entry.len())
        }
        HeadPart::Compressed(entry, coding, len) => {
            out.extend_from_slice(entry.type_field());
            push(out, format_args!("Content-Encoding: {}\r\n", coding.token()));
            write_validators(plan, entry, out);
            Content::Length(*len)
        }
        // RFC 9110 section 15.4.5: what a 200 would have said about caching and nothing about the content.
        HeadPart::NotModified(entry) => {
            write_validators(plan, entry, out);
            Content::Absent(None)
        }
        HeadPart::Partial(entry, range) => {
            out.extend_from_slice(entry.type_field());
            let (first, last, len) = (range.start, range.start + (range.len - 1), entry.validators.len);
            push(out, format_args!("Content-Range: bytes {first}-{last}/{len}\r\n"));
            out.extend_from_slice(entry.coding_field());
            write_validators(plan, entry, out);
            Content::Length(range.len)
        }
        // No Content-Range: section 15.3.7.2.
        HeadPart::Parts(entry, boundary, len) => {
            out.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
            out.extend_from_slice(boundary);
            out.extend_from_slice(b"\r\n");
            write_validators(plan, entry, out);
            Content::Length(*len)
        }
        HeadPart::Unsatisfiable(entry) => {
            let content = write_canned(plan.status, out);
            push(out, format_args!("Content-Range: bytes */{}\r\n", entry.validators.len));
            content
        }
        HeadPart::Listing(listed) => write_listing(listed, out),
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

fn write_validators(plan: &Plan, entry: &Entry, out: &mut Vec<u8>) {
    match plan.is_weak {
        true => entry.write_weak_validators(out),
        false => out.extend_from_slice(entry.validator_fields()),
    }
}

/// A listing changes with what is in the directory, which its date does not show: caches must ask again each time.
/// Names come from whoever may write there, so the page may load and run nothing.
fn write_listing(listed: &Listed, out: &mut Vec<u8>) -> Content {
    out.extend_from_slice(match listed.format {
        Format::Html => b"Content-Type: text/html; charset=utf-8\r\n",
        Format::Json => b"Content-Type: application/json; charset=utf-8\r\n".as_slice(),
    });
    if let Some(date) = &listed.last_modified {
        out.extend_from_slice(b"Last-Modified: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n");
    out.extend_from_slice(b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n");
    if listed.is_negotiated {
        out.extend_from_slice(b"Vary: Accept\r\n");
    }
    if listed.is_cut {
        out.extend_from_slice(b"X-Listing-Cut: 1\r\n");
    }
    Content::Length(listed.body.len() as u64)
}

fn write_canned(status: u16, out: &mut Vec<u8>) -> Content {
    match status {
        204 | 405 => out.extend_from_slice(b"Allow: GET, HEAD, OPTIONS\r\n"),
        503 => out.extend_from_slice(b"Retry-After: 1\r\n"),
        _ => {}
    }
    // 204 has neither (section 8.6).
    if status == 204 {
        return Content::Absent(None);
    }
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    Content::Length(canned_text(status).len() as u64)
}

/// Body of an answer that is not a file.
pub(super) fn canned_body(status: u16) -> Bytes {
    match canned_text(status) {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    }
}

fn canned_text(status: u16) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        301 => "301 Moved Permanently\n",
        403 => "403 Forbidden\n",
        404 => "404 Not Found\n",
        405 => "405 Method Not Allowed\n",
        412 => "412 Precondition Failed\n",
        416 => "416 Range Not Satisfiable\n",
        500 => "500 Internal Server Error\n",
        503 => "503 Service Unavailable\n",
        other => {
            let reason = http::StatusCode::from_u16(other).ok().and_then(|status| status.canonical_reason());
            return Cow::Owned(format!("{other} {}\n", reason.unwrap_or("Error")));
        }
    })
}
