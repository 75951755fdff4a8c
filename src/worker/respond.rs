//! Answers of the worker itself: error pages, and those to heads that could not be understood.

use std::fmt::Display;

use super::Worker;
use super::answer::Answer;
use super::connection::{Broken, Connection};
use super::cx::Cx;
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::{AnswerContext, Method, Version, write_answer_head, write_field};
use crate::log::{EndedBy, Entry, Phase, Termination};

/// Sends an error page; `cx` is the route whose options change the fields, if one was found.
pub(super) async fn error(
    cx: Option<&Cx<'_>>,
    answer: &mut Answer<'_>,
    fields: &mut Vec<u8>,
    status: u16,
) -> Result<(), Broken> {
    let body = page(status);
    error_fields(fields, status);
    let content = Content::Length(body.len() as u64);
    answer.send(cx, &AnswerHead { status, reason: None, fields, content }, body.as_bytes()).await
}

/// The same for the client of a call of gRPC: nothing but trailers, as [`crate::http::grpc`] says.
pub(super) async fn call_error(
    cx: Option<&Cx<'_>>,
    answer: &mut Answer<'_>,
    fields: &mut Vec<u8>,
    status: u16,
) -> Result<(), Broken> {
    fields.clear();
    crate::http::grpc::put_error(status, fields);
    answer.trail.call_error = Some(status);
    let content = match answer.version() {
        Version::Http2 | Version::Http3 => Content::Absent(None),
        Version::Http10 | Version::Http11 => Content::Length(0),
    };
    answer.send(cx, &AnswerHead { status: 200, reason: None, fields, content }, b"").await
}

fn error_fields(fields: &mut Vec<u8>, status: u16) {
    fields.clear();
    match status {
        503 => write_field(fields, "Retry-After", b"1"),
        405 => write_field(fields, "Allow", b"GET, HEAD"),
        _ => {}
    }
    write_field(fields, "Content-Type", b"text/html; charset=utf-8");
}

fn page(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>{status} {reason}</title></head>\n\
         <body><h1>{status} {reason}</h1></body></html>\n"
    )
}

/// Appends the answer to a request of HTTP/1 whose head could not be understood, after which the connection closes.
/// `input` is what came of the head; its first line goes to the access log, as nginx does it.
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
    let (body, mut fields) = (page(status), Vec::new());
    error_fields(&mut fields, status);
    let content = Content::Length(body.len() as u64);
    let head = AnswerHead { status, reason: None, fields: &fields, content };
    let date = worker.date.borrow();
    let context = AnswerContext {
        method: Method::Get,
        version: Version::Http11,
        keep_alive: false,
        server: worker.config.http.server_name.as_bytes(),
        date: date.as_bytes(),
    };
    write_answer_head(out, &head, &context);
    out.extend_from_slice(body.as_bytes());
    let Some(log) = &worker.access_log else { return };
    log.record(&Entry {
        time: std::time::SystemTime::now(),
        remote_addr: connection.peer_text().as_bytes(),
        remote_port: connection.peer().map_or(0, |peer| peer.port()),
        listener: connection.listener(worker) as u16,
        target: first_line(input),
        status,
        body_bytes: body.len() as u64,
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
