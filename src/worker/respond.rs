//! Answers of the worker itself: errors, redirects, fixed texts.

use std::fmt::Display;

use super::Worker;
use super::connection::Connection;
use crate::http::h1::{RequestHead, Version, write_decimal, write_field, write_status_line};
use crate::log::{EndedBy, Entry, Phase, Termination};

/// Appends status line, Server and Date.
pub(super) fn begin(worker: &Worker, out: &mut Vec<u8>, status: u16) {
    write_status_line(out, status);
    if !worker.config.http.server_name.is_empty() {
        write_field(out, "Server", worker.config.http.server_name.as_bytes());
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(worker.date.borrow().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends what tells the client whether the connection stays, and the empty line.
pub(super) fn end(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    out.extend_from_slice(match (keep_alive, version) {
        (false, _) => b"Connection: close\r\n\r\n",
        (true, Version::Http10) => b"Connection: keep-alive\r\n\r\n".as_slice(),
        (true, Version::Http11) => b"\r\n",
    });
}

/// Appends a whole answer with a short body.
pub(super) fn write(
    worker: &Worker,
    out: &mut Vec<u8>,
    head: &RequestHead,
    keep_alive: bool,
    answer: &Answer<'_>,
) -> u64 {
    begin(worker, out, answer.status);
    for (name, value) in answer.fields {
        write_field(out, name, value);
    }
    if !answer.content_type.is_empty() {
        write_field(out, "Content-Type", answer.content_type.as_bytes());
    }
    let has_length = !matches!(answer.status, 100..=199 | 204 | 304);
    if has_length {
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(out, answer.body.len() as u64);
        out.extend_from_slice(b"\r\n");
    }
    end(out, head.version, keep_alive);
    if head.method == crate::http::h1::Method::Head || !has_length {
        return 0;
    }
    out.extend_from_slice(answer.body);
    answer.body.len() as u64
}

/// A whole answer.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) fields: &'a [(&'a str, &'a [u8])],
    /// Empty: none.
    pub(super) content_type: &'a str,
    pub(super) body: &'a [u8],
}

/// Appends an error page.
pub(super) fn error(worker: &Worker, out: &mut Vec<u8>, head: &RequestHead, keep_alive: bool, status: u16) -> u64 {
    let body = page(status);
    let retry: &[(&str, &[u8])] = if status == 503 { &[("Retry-After", b"1")] } else { &[] };
    let allow: &[(&str, &[u8])] = if status == 405 { &[("Allow", b"GET, HEAD")] } else { retry };
    let answer = Answer { status, fields: allow, content_type: "text/html; charset=utf-8", body: body.as_bytes() };
    write(worker, out, head, keep_alive, &answer)
}

fn page(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>{status} {reason}</title></head>\n\
         <body><h1>{status} {reason}</h1></body></html>\n"
    )
}

/// Appends the answer to a request whose head could not be understood, after which the connection closes. `input` is
/// what came of the head; its first line goes to the access log, as nginx does it.
pub(super) fn reject(
    worker: &Worker,
    connection: &Connection,
    input: &[u8],
    out: &mut Vec<u8>,
    status: u16,
    reason: &dyn Display,
) {
    tracing::debug!(peer = ?connection.peer, status, %reason, "request refused");
    worker.stats.http.responses[usize::from(status / 100)].inc();
    let body_bytes = error(worker, out, &RequestHead::default(), false, status);
    let Some(log) = &worker.access_log else { return };
    log.record(&Entry {
        time: std::time::SystemTime::now(),
        remote_addr: connection.peer_text().as_bytes(),
        remote_port: connection.peer.map_or(0, |peer| peer.port()),
        listener: connection.listener as u16,
        target: first_line(input),
        status,
        body_bytes,
        termination: Termination::new(EndedBy::Proxy, Phase::Request),
        ..Entry::default()
    });
}

/// The first line of `input` without its end, as far as a log wants it.
fn first_line(input: &[u8]) -> &[u8] {
    const BYTES_MAX: usize = 1024;
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    &line[..line.len().min(BYTES_MAX)]
}
