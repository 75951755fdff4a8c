//! One request: limits, path, route, action, accounting.

use std::rc::Rc;
use std::time::Instant;

use super::body::RequestBody;
use super::connection::Connection;
use super::hot::Hot;
use super::respond::{self, Answer};
use super::variables::RequestVariables;
use super::{Worker, call_app, forward, send_file};
use crate::config::model::Action;
use crate::http::h1::{BodyKind, FieldName, Method, Version};
use crate::log::Entry;
use crate::metrics::{ServedBy, TraceEvent};
use crate::route::{Origin, Routed};
use crate::util::path::normalize;
use crate::util::template::Encoding;

/// A body nobody wants is read up to this many bytes to keep the connection; a longer one closes it.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Longest request line kept in a trace.
const TRACE_LINE_BYTES_MAX: usize = 128;

/// What happens to the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may follow.
    Keep,
    /// Send what waits, then close.
    Close,
    /// The same, but read on for a moment: the client may still be sending.
    Linger,
    /// Break the connection: what was sent must not look complete.
    Abort,
}

/// What an action reports back.
pub(super) struct Outcome {
    pub(super) after: After,
    /// Status sent; 0 when the connection broke before one was.
    pub(super) status: u16,
    /// Bytes of content sent.
    pub(super) body_bytes: u64,
    pub(super) served_by: ServedBy,
}

/// What all actions need to know of the request.
pub(super) struct Request {
    pub(super) started: Instant,
    pub(super) id: u64,
    /// The connection may be kept behind the answer.
    pub(super) keep_alive: bool,
    pub(super) body: RequestBody,
}

impl Request {
    /// The head's bytes in the input.
    pub(super) fn head_bytes(hot: &Hot) -> &[u8] {
        &hot.input.bytes[hot.input.start..hot.input.start + hot.head.head_bytes]
    }

    /// Text form of a request identifier.
    pub(super) fn id_text(id: u64) -> [u8; 16] {
        std::array::from_fn(|at| b"0123456789abcdef"[(id >> (60 - 4 * at)) as usize & 15])
    }
}

/// Answers the request whose head is in `hot.head`; returns what the connection does next.
pub(super) async fn run(worker: &Rc<Worker>, connection: &Connection, hot: &mut Hot) -> After {
    let mut request = begin(worker, connection, hot);
    let mut outcome = answer(worker, connection, hot, &mut request).await;
    if outcome.after == After::Keep && !request.body.is_done() {
        // Send the answer first: a client may wait for it before it goes on sending.
        let flushed = request.body.is_unasked() || connection.flush(worker, &mut hot.out).await.is_ok();
        let discarded = flushed && request.body.discard(worker, connection, &mut hot.input, DISCARD_BYTES_MAX).await;
        outcome.after = if discarded { After::Keep } else { After::Linger };
    }
    account(worker, connection, hot, &request, &outcome);
    if outcome.after == After::Keep {
        hot.input.start = request.body.end();
        if !request.keep_alive {
            outcome.after = After::Close;
        }
    }
    if outcome.after == After::Close && outcome.status != 0 && hot.head.keep_alive {
        // It is we who close: the client's next requests may be under way, and closing on them would reset the
        // connection under the answers to those before (RFC 9112 section 9.6).
        outcome.after = After::Linger;
    }
    outcome.after
}

fn begin(worker: &Worker, connection: &Connection, hot: &Hot) -> Request {
    let requests = connection.requests.get().saturating_add(1);
    connection.requests.set(requests);
    let http = &worker.config.http;
    let under_limit = http.keep_alive_requests_max == 0 || requests < http.keep_alive_requests_max;
    let head = &hot.head;
    let begin = hot.input.start + head.head_bytes;
    Request {
        started: worker.now(),
        id: request_id(worker, hot),
        keep_alive: head.keep_alive && under_limit && !worker.draining.get(),
        body: RequestBody::new(head.body, begin, http.body_bytes_max, head.expect_continue),
    }
}

/// The identifier the client (or the proxy in front) gave, if it has our form, else a fresh one.
fn request_id(worker: &Worker, hot: &Hot) -> u64 {
    let given = hot.head.field(Request::head_bytes(hot), FieldName::XRequestId);
    let is_ours = |text: &&[u8]| text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
    let parsed = given.filter(is_ours).and_then(|text| std::str::from_utf8(text).ok());
    parsed.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or_else(|| worker.next_request_id())
}

async fn answer(worker: &Rc<Worker>, connection: &Connection, hot: &mut Hot, request: &mut Request) -> Outcome {
    let http = &worker.config.http;
    if let BodyKind::Length(body_bytes) = hot.head.body
        && http.body_bytes_max != 0
        && body_bytes > http.body_bytes_max
    {
        return refuse(worker, hot, 413);
    }
    // A body that will not be skipped ends the connection, and the answer says so (RFC 9110 section 10.1.1).
    let too_long = matches!(hot.head.body, BodyKind::Length(bytes) if bytes > DISCARD_BYTES_MAX);
    let keep_alive = request.keep_alive;
    request.keep_alive &= !too_long && !request.body.is_unasked();
    if matches!(hot.head.method, Method::Connect | Method::Trace) {
        return error(worker, hot, request, 405);
    }
    let action = {
        let bytes = &hot.input.bytes[hot.input.start..hot.input.start + hot.head.head_bytes];
        if hot.head.target(bytes) == b"*" {
            return options_star(worker, hot, request);
        }
        let path = match normalize(hot.head.path(bytes), &mut hot.scratch) {
            Ok(path) => path,
            Err(problem) => return error(worker, hot, request, problem.status()),
        };
        let Some(site) = worker.routers[connection.listener as usize].site(hot.head.host(bytes)) else {
            return error(worker, hot, request, 404);
        };
        let found = match site.route(hot.head.method_text.of(bytes), path.as_bytes(), Origin::Client) {
            Routed::Found(found) => found,
            Routed::MethodNotAllowed { allow } => return methods(worker, hot, request, 405, allow),
            Routed::Methods { allow } => return methods(worker, hot, request, 204, allow),
            Routed::NotFound => return error(worker, hot, request, 404),
        };
        let variables = RequestVariables {
            worker,
            connection,
            head: &hot.head,
            bytes,
            request_id: request.id,
            site: found.site,
            path: path.as_bytes(),
            captures: found.captures,
        };
        if found.rewrite.is_some() {
            return rewrite_missing(worker, hot, request);
        }
        match found.action {
            Action::Files(files) => {
                let folder = worker.folders[found.site][found.route];
                let plan = send_file::prepare(worker, files, folder, &hot.head, bytes, path);
                return send_file::run(worker, connection, hot, request, plan).await;
            }
            Action::Redirect(to) => {
                let mut target = Vec::new();
                to.to.put(Encoding::Url, &variables, &mut target);
                return redirect(worker, hot, request, to.status, &target);
            }
            Action::Respond(respond) => {
                let mut filled = Vec::new();
                let body = match respond.body.constant() {
                    Some(text) => text.as_bytes(),
                    None => {
                        respond.body.put(respond.encoding, &variables, &mut filled);
                        &filled
                    }
                };
                let answer = Answer { status: respond.status, fields: &[], content_type: &respond.content_type, body };
                let sent = respond::write(worker, &mut hot.out, &hot.head, request.keep_alive, &answer);
                return done(respond.status, sent, ServedBy::Worker);
            }
            Action::Close => return abandoned(ServedBy::Worker),
            Action::Rewrite(_) => return rewrite_missing(worker, hot, request),
            Action::Proxy(upstream) => Slow::Proxy(*upstream),
            Action::App(app) => Slow::App(*app),
        }
    };
    // Answers to earlier requests of a pipeline do not wait for this one.
    if connection.flush(worker, &mut hot.out).await.is_err() {
        return abandoned(ServedBy::Worker);
    }
    // These two want the body.
    request.keep_alive = keep_alive;
    match action {
        Slow::Proxy(upstream) => forward::run(worker, connection, hot, request, upstream).await,
        Slow::App(app) => call_app::run(worker, connection, hot, request, app).await,
    }
}

/// Actions that need the connection to themselves.
enum Slow {
    Proxy(usize),
    App(usize),
}

pub(super) fn done(status: u16, body_bytes: u64, served_by: ServedBy) -> Outcome {
    Outcome { after: After::Keep, status, body_bytes, served_by }
}

/// An error page; the connection stays.
pub(super) fn error(worker: &Worker, hot: &mut Hot, request: &Request, status: u16) -> Outcome {
    let sent = respond::error(worker, &mut hot.out, &hot.head, request.keep_alive, status);
    done(status, sent, ServedBy::Worker)
}

/// An error page, then the connection closes, because the rest of the request is not read.
pub(super) fn refuse(worker: &Worker, hot: &mut Hot, status: u16) -> Outcome {
    let sent = respond::error(worker, &mut hot.out, &hot.head, false, status);
    Outcome { after: After::Linger, status, body_bytes: sent, served_by: ServedBy::Worker }
}

/// The client is gone: nothing to answer.
pub(super) fn abandoned(served_by: ServedBy) -> Outcome {
    Outcome { after: After::Close, status: 0, body_bytes: 0, served_by }
}

fn options_star(worker: &Worker, hot: &mut Hot, request: &Request) -> Outcome {
    let answer = Answer {
        status: 204,
        fields: &[("Allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")],
        content_type: "",
        body: b"",
    };
    let sent = respond::write(worker, &mut hot.out, &hot.head, request.keep_alive, &answer);
    done(204, sent, ServedBy::Worker)
}

fn redirect(worker: &Worker, hot: &mut Hot, request: &Request, status: u16, to: &[u8]) -> Outcome {
    let answer = Answer { status, fields: &[("Location", to)], content_type: "", body: b"" };
    let sent = respond::write(worker, &mut hot.out, &hot.head, request.keep_alive, &answer);
    done(status, sent, ServedBy::Worker)
}

/// Targets are not rewritten here: what is behind must not see the wrong one.
fn rewrite_missing(worker: &Worker, hot: &mut Hot, request: &Request) -> Outcome {
    tracing::error!("the data worker cannot rewrite targets");
    error(worker, hot, request, 500)
}

/// Tells which methods the path takes.
fn methods(worker: &Worker, hot: &mut Hot, request: &Request, status: u16, allow: &str) -> Outcome {
    let answer = Answer { status, fields: &[("Allow", allow.as_bytes())], content_type: "", body: b"" };
    let sent = respond::write(worker, &mut hot.out, &hot.head, request.keep_alive, &answer);
    done(status, sent, ServedBy::Worker)
}

/// Counters, access log, trace.
fn account(worker: &Worker, connection: &Connection, hot: &Hot, request: &Request, outcome: &Outcome) {
    let duration = request.started.elapsed();
    worker.stats.http.responses[usize::from(outcome.status / 100).min(5)].inc();
    worker.stats.http.duration.record(duration);
    if worker.access_log.is_none() && worker.trace.is_none() {
        return;
    }
    let (head, bytes) = (&hot.head, Request::head_bytes(hot));
    if let Some(log) = &worker.access_log {
        log.record(&Entry {
            time: std::time::SystemTime::now(),
            remote_addr: connection.peer_text().as_bytes(),
            method: head.method_text.of(bytes),
            target: head.target(bytes),
            protocol: match head.version {
                Version::Http10 => b"HTTP/1.0",
                Version::Http11 => b"HTTP/1.1",
            },
            status: outcome.status,
            body_bytes: outcome.body_bytes,
            duration,
            referer: head.field(bytes, FieldName::Referer),
            user_agent: head.field(bytes, FieldName::UserAgent),
            host: Some(head.authority.of(bytes)).filter(|host| !host.is_empty()),
            request_id: request.id,
            served_by: outcome.served_by,
        });
    }
    if let Some(trace) = &worker.trace {
        let mut line = format!(
            "{} {}",
            String::from_utf8_lossy(head.method_text.of(bytes)),
            String::from_utf8_lossy(head.target(bytes))
        );
        let cut = (0..=TRACE_LINE_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(cut.unwrap_or(0));
        trace.push(TraceEvent::Request {
            request_id: request.id,
            data_worker: worker.index as u16,
            line,
            status: outcome.status,
            duration,
            served_by: outcome.served_by,
        });
    }
}
