//! One request, whatever protocol it came in: limits, path, route, action, accounting.

use std::rc::Rc;
use std::time::Instant;

use super::answer::Answer;
use super::connection::Connection;
use super::respond;
use super::trail::Trail;
use super::upload::Upload;
use super::{Worker, call_app, forward, send_file};
use crate::config::model::Action;
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::{BodyKind, FieldName, Method, RequestHead, write_field};
use crate::metrics::ServedBy;
use crate::util::path::normalize;

/// A body nobody wants is read up to this many bytes to keep the connection; a longer one closes it.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// What happens to the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may follow.
    Keep,
    /// Send what waits, then close.
    Close,
    /// The same, but read on for a moment: the client may still be sending.
    Linger,
    /// Break the connection (of HTTP/2: the stream): what was sent must not look complete.
    Abort,
}

/// What an action reports back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) after: After,
    pub(super) served_by: ServedBy,
}

/// Why an action did not answer; nothing of an answer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// Status to answer with.
    pub(super) status: u16,
    /// The rest of the request is not read: the connection closes behind the answer.
    pub(super) closes: bool,
    pub(super) served_by: ServedBy,
}

/// An action's end.
pub(super) type Acted = Result<Outcome, Unanswered>;

/// What all actions need to know of the request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead,
    /// What the positions in `head` point into.
    pub(super) bytes: &'a [u8],
    /// Its head was complete.
    pub(super) started: Instant,
    pub(super) id: u64,
}

/// The two directions of an exchange, and what it leaves for the log.
pub(super) struct Client<'a> {
    pub(super) upload: Upload<'a>,
    pub(super) answer: Answer<'a>,
    pub(super) trail: Trail,
}

/// Buffers of one exchange.
#[derive(Default)]
pub(super) struct Scratch {
    /// Decoded path.
    pub(super) path: Vec<u8>,
    /// Fields of the answer.
    pub(super) fields: Vec<u8>,
}

impl<'a> Request<'a> {
    pub(super) fn new(worker: &Worker, head: &'a RequestHead, bytes: &'a [u8]) -> Request<'a> {
        Request { head, bytes, started: worker.now(), id: request_id(worker, head, bytes) }
    }

    /// Text form of a request identifier.
    pub(super) fn id_text(id: u64) -> [u8; 16] {
        std::array::from_fn(|at| b"0123456789abcdef"[(id >> (60 - 4 * at)) as usize & 15])
    }
}

/// The identifier the client (or the proxy in front) gave, if it has our form, else a fresh one.
fn request_id(worker: &Worker, head: &RequestHead, bytes: &[u8]) -> u64 {
    let given = head.field(bytes, FieldName::XRequestId);
    let is_ours = |text: &&[u8]| text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
    let parsed = given.filter(is_ours).and_then(|text| std::str::from_utf8(text).ok());
    parsed.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or_else(|| worker.next_request_id())
}

/// Answers `request`.
pub(super) async fn run(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    match act(worker, connection, request, client, scratch).await {
        Ok(outcome) => outcome,
        Err(unanswered) => {
            if unanswered.closes {
                client.answer.set_keep_alive(false);
            }
            let sent = respond::error(&mut client.answer, &mut scratch.fields, unanswered.status).await;
            let after = match (sent, unanswered.closes) {
                (Err(_), _) => After::Abort,
                (Ok(()), true) => After::Linger,
                (Ok(()), false) => After::Keep,
            };
            Outcome { after, served_by: unanswered.served_by }
        }
    }
}

async fn act(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
    scratch: &mut Scratch,
) -> Acted {
    let Request { head, bytes, .. } = request;
    let body_bytes_max = worker.config.http.body_bytes_max;
    if matches!(head.body, BodyKind::Length(body_bytes) if body_bytes_max != 0 && body_bytes > body_bytes_max) {
        return refuse(413);
    }
    let keeps = client.answer.keeps_connection();
    // A body that will not be skipped ends the connection, and the answer says so (RFC 9110 section 10.1.1).
    client.answer.set_keep_alive(keeps && !client.upload.ends_connection_unread(head.body));
    if matches!(head.method, Method::Connect | Method::Trace) {
        return error(405);
    }
    if head.target(bytes) == b"*" {
        return options_star(client, scratch).await;
    }
    let Scratch { path, fields } = scratch;
    let path = normalize(head.path(bytes), path).map_err(|problem| unanswered(problem.status()))?;
    let router = &worker.routers[connection.listener as usize];
    let Some(found) = router.route(head.host(bytes), path.as_bytes()) else {
        client.trail.site = router.site(head.host(bytes)).map(|site| site as u16);
        return error(404);
    };
    client.trail.site = Some(found.site as u16);
    match &found.action {
        Action::Files(files) => {
            let folder = worker.folders[found.site][found.route];
            let plan = send_file::prepare(worker, files, folder, request, path, head.query(bytes));
            send_file::run(worker, request, client, plan, fields).await
        }
        Action::Redirect { status, to } => {
            let to = redirect_target(to, path.as_bytes(), head.query(bytes));
            fields.clear();
            write_field(fields, "Location", &to);
            simple(client, *status, fields, b"").await
        }
        Action::Respond { status, content_type, body } => {
            fields.clear();
            if !content_type.is_empty() {
                write_field(fields, "Content-Type", content_type.as_bytes());
            }
            simple(client, *status, fields, body).await
        }
        Action::Proxy(_) | Action::App(_) => {
            // Answers to earlier requests of a pipeline do not wait for this one.
            if client.answer.flush().await.is_err() {
                return Ok(abandoned(ServedBy::Worker));
            }
            // These two read the body.
            client.answer.set_keep_alive(keeps);
            match found.action {
                Action::Proxy(upstream) => forward::run(worker, connection, request, client, fields, *upstream).await,
                Action::App(app) => call_app::run(worker, connection, request, client, *app).await,
                _ => unreachable!("matched above"),
            }
        }
    }
}

/// An answer of ours with its content at hand.
async fn simple(client: &mut Client<'_>, status: u16, fields: &[u8], body: &[u8]) -> Acted {
    let content = match status {
        204 | 304 => Content::Absent(None),
        _ => Content::Length(body.len() as u64),
    };
    let head = AnswerHead { status, reason: None, fields, content };
    let sent = client.answer.send(&head, body).await;
    Ok(Outcome { after: if sent.is_ok() { After::Keep } else { After::Abort }, served_by: ServedBy::Worker })
}

fn unanswered(status: u16) -> Unanswered {
    Unanswered { status, closes: false, served_by: ServedBy::Worker }
}

/// An error page; the connection stays.
fn error(status: u16) -> Acted {
    Err(unanswered(status))
}

/// An error page, then the connection closes, because the rest of the request is not read.
pub(super) fn refuse(status: u16) -> Acted {
    Err(Unanswered { closes: true, ..unanswered(status) })
}

/// Answers a request whose head could not be understood.
pub(super) async fn refuse_malformed(client: &mut Client<'_>, scratch: &mut Scratch, status: u16) -> Outcome {
    let sent = respond::error(&mut client.answer, &mut scratch.fields, status).await;
    Outcome { after: if sent.is_ok() { After::Linger } else { After::Abort }, served_by: ServedBy::Worker }
}

/// The client is gone: nothing to answer.
pub(super) fn abandoned(served_by: ServedBy) -> Outcome {
    Outcome { after: After::Close, served_by }
}

async fn options_star(client: &mut Client<'_>, scratch: &mut Scratch) -> Acted {
    scratch.fields.clear();
    write_field(&mut scratch.fields, "Allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    simple(client, 204, &scratch.fields, b"").await
}

/// Replaces `$path` (percent-encoded) and `$query` in a redirect's target.
fn redirect_target(to: &str, path: &[u8], query: Option<&[u8]>) -> Vec<u8> {
    let mut target = Vec::with_capacity(to.len() + path.len());
    let mut rest = to;
    while let Some(at) = rest.find('$') {
        target.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("$path") {
            crate::util::path::encode(path, &mut target);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("$query") {
            target.extend_from_slice(query.unwrap_or_default());
            rest = behind;
        } else {
            target.push(b'$');
            rest = &rest[1..];
        }
    }
    target.extend_from_slice(rest.as_bytes());
    target
}
