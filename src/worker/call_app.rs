//! Calls an in-process application: the request crosses to an application worker, the answer comes back, bodies
//! stream both ways with credit.

use std::pin::pin;

use bytes::Bytes;

use super::Worker;
use super::body::{Beside, BodyFailure, RequestBody};
use super::connection::{Broken, Connection};
use super::exchange::{After, Outcome, Request, abandoned, error, refuse};
use super::hot::{Hot, Input};
use super::respond;
use super::watch::{GaveUp, OnExpiry};
use crate::app::{CallError, Job, JobBody, ReplyBody, ReplyHead};
use crate::http::h1::{
    BodyKind, CHUNK_END, LAST_CHUNK, Method, RequestHead, Version, write_chunk_head, write_decimal, write_field,
    write_status_line,
};
use crate::metrics::ServedBy;
use crate::runtime::body::{BodyReceiver, BodySender, body_channel};

/// A request body up to this size crosses together with the head.
const WHOLE_BODY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a streamed request body that may be under way between the cores.
const BODY_WINDOW_BYTES: usize = 64 * 1024;

/// Bodies up to this size are copied behind the head and leave with it in one send.
const COPIED_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn run(
    worker: &Worker,
    connection: &Connection,
    hot: &mut Hot,
    request: &mut Request,
    app: usize,
) -> Outcome {
    let stats = &worker.stats.apps[app];
    let mut whole = Vec::new();
    let kept = request.body.keep(worker, connection, &mut hot.input, &mut whole, WHOLE_BODY_BYTES_MAX).await;
    let is_whole = match kept {
        Ok(is_whole) => is_whole,
        Err(failure) => return body_failed(worker, hot, failure),
    };
    let (body, sender) = if is_whole {
        (JobBody::Full(whole.into()), None)
    } else {
        let (mut sender, receiver) = body_channel(BODY_WINDOW_BYTES);
        sender.push(whole.into());
        let length = match hot.head.body {
            BodyKind::Length(length) => Some(length),
            _ => None,
        };
        (JobBody::Stream { receiver, length }, Some(sender))
    };
    stats.requests.inc();
    stats.active.inc();
    let begun = worker.now();
    let bytes = Bytes::copy_from_slice(Request::head_bytes(hot));
    let head = hot.head.clone();
    let (id, peer, origin) = (request.id, connection.peer, worker.index);
    let call = worker.bridge.call(|ticket| Job { ticket, origin, app, bytes, head, body, peer, request_id: id });
    connection.watched.set(worker.config.apps[app].response_timeout, OnExpiry::Wake);
    let call = connection.watched.while_client_stays(call);
    let outcome = match sender {
        None => match call.await {
            Ok(answer) => {
                connection.watched.clear();
                stats.duration.record(begun.elapsed());
                let client = Client { connection, out: &mut hot.out, head: &hot.head, keep_alive: request.keep_alive };
                relay_answer(worker, client, app, answer).await
            }
            Err(gave_up) => Err(gave_up.into()),
        },
        Some(sender) => {
            let handle = request.body.begin_beside(worker, connection);
            let Hot { input, out, head, .. } = hot;
            let pump = pin!(pump(worker, connection, input, &mut request.body, sender));
            let mut beside = Beside::new(pump, handle);
            let outcome = match beside.run(call).await {
                Ok(Ok(answer)) => {
                    connection.watched.clear();
                    stats.duration.record(begun.elapsed());
                    // An early answer: whether the whole body will have been read behind it is not known yet.
                    let keep_alive = request.keep_alive && beside.has_sent_all();
                    let client = Client { connection, out, head, keep_alive };
                    // A body that fails below an answer under way breaks that answer off.
                    let relayed = beside.run(relay_answer(worker, client, app, answer)).await;
                    relayed.unwrap_or(Err(Unanswered::Broken))
                }
                Ok(Err(gave_up)) => Err(gave_up.into()),
                Err(failure) => Err(Unanswered::Body(failure)),
            };
            beside.stop(connection).await;
            outcome
        }
    };
    stats.active.dec();
    match outcome {
        Ok(mut outcome) => {
            if outcome.after == After::Close && !request.body.is_done() {
                outcome.after = After::Linger;
            }
            outcome
        }
        Err(Unanswered::ClientGone) => {
            stats.cancelled.inc();
            abandoned(ServedBy::Worker)
        }
        Err(Unanswered::TimedOut) => {
            stats.failed.inc();
            tracing::warn!(app = %worker.config.apps[app].name, "application did not answer in time");
            give_up(worker, hot, request, 504)
        }
        Err(Unanswered::Body(failure)) => body_failed(worker, hot, failure),
        Err(Unanswered::Broken) => Outcome { after: After::Abort, ..abandoned(ServedBy::Worker) },
        Err(Unanswered::Call(CallError::Busy)) => {
            stats.refused.inc();
            give_up(worker, hot, request, 503)
        }
        Err(Unanswered::Call(CallError::Failed)) => {
            stats.failed.inc();
            give_up(worker, hot, request, 502)
        }
    }
}

/// Why there is no answer of the application.
enum Unanswered {
    Call(CallError),
    ClientGone,
    /// The application took too long.
    TimedOut,
    /// The request's body failed before the answer.
    Body(BodyFailure),
    /// The request's body failed while the answer was under way.
    Broken,
}

impl From<GaveUp> for Unanswered {
    fn from(gave_up: GaveUp) -> Unanswered {
        match gave_up {
            GaveUp::ClientGone => Unanswered::ClientGone,
            GaveUp::Expired => Unanswered::TimedOut,
        }
    }
}

/// The client's side of an answer.
struct Client<'a> {
    connection: &'a Connection,
    out: &'a mut Vec<u8>,
    head: &'a RequestHead,
    keep_alive: bool,
}

async fn relay_answer(worker: &Worker, client: Client<'_>, app: usize, answer: Answer) -> Result<Outcome, Unanswered> {
    let (reply, app_worker) = answer.map_err(Unanswered::Call)?;
    let served_by = ServedBy::App { app: app as u16, app_worker: app_worker as u16 };
    Ok(relay(worker, client, reply, served_by).await)
}

fn give_up(worker: &Worker, hot: &mut Hot, request: &Request, status: u16) -> Outcome {
    if request.body.is_done() { error(worker, hot, request, status) } else { refuse(worker, hot, status) }
}

fn body_failed(worker: &Worker, hot: &mut Hot, failure: BodyFailure) -> Outcome {
    match failure.status() {
        Some(status) => refuse(worker, hot, status),
        None => abandoned(ServedBy::Worker),
    }
}

/// Streams the request body to the application as it gives credit; `false` when the application does not want it all.
async fn pump(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    body: &mut RequestBody,
    mut sender: BodySender,
) -> Result<bool, BodyFailure> {
    while let Some(range) = body.next(worker, connection, input).await? {
        if sender.send(Bytes::copy_from_slice(&input.bytes[range])).await.is_err() {
            return Ok(false);
        }
    }
    sender.finish();
    Ok(true)
}

type Answer = Result<(ReplyHead, usize), CallError>;

/// Sends the answer on to the client.
async fn relay(worker: &Worker, client: Client<'_>, reply: ReplyHead, served_by: ServedBy) -> Outcome {
    let Client { connection, out, head, keep_alive } = client;
    let ReplyHead { status, fields, has_date, has_server, length, body } = reply;
    let is_bodiless = head.method == Method::Head || matches!(status, 100..=199 | 204 | 304);
    let kind = match (&body, length) {
        _ if is_bodiless => BodyKind::None,
        (ReplyBody::Full(bytes), _) => BodyKind::Length(bytes.len() as u64),
        (ReplyBody::Stream(_), Some(length)) => BodyKind::Length(length),
        (ReplyBody::Stream(_), None) if head.version == Version::Http11 => BodyKind::Chunked,
        (ReplyBody::Stream(_), None) => BodyKind::UntilClose,
    };
    write_status_line(out, status);
    if !has_server && !worker.config.http.server_name.is_empty() {
        write_field(out, "Server", worker.config.http.server_name.as_bytes());
    }
    if !has_date {
        write_field(out, "Date", worker.date.borrow().as_bytes());
    }
    out.extend_from_slice(&fields);
    write_framing(out, kind, if is_bodiless && !matches!(status, 100..=199 | 204 | 304) { length } else { None });
    let keep_alive = keep_alive && kind != BodyKind::UntilClose;
    respond::end(out, head.version, keep_alive);
    let sent = match body {
        ReplyBody::Full(bytes) if kind != BodyKind::None => send_whole(worker, connection, out, bytes).await,
        ReplyBody::Stream(receiver) if kind != BodyKind::None => {
            send_stream(worker, connection, out, receiver, kind).await
        }
        _ => Ok(0),
    };
    let after = match (&sent, keep_alive) {
        (Err(()), _) => After::Abort,
        (Ok(_), true) => After::Keep,
        (Ok(_), false) => After::Close,
    };
    Outcome { after, status, body_bytes: sent.unwrap_or(0), served_by }
}

fn write_framing(out: &mut Vec<u8>, kind: BodyKind, length_of_head: Option<u64>) {
    let length = match kind {
        BodyKind::Length(length) => Some(length),
        BodyKind::None => length_of_head,
        BodyKind::Chunked | BodyKind::UntilClose => None,
    };
    if let Some(length) = length {
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if kind == BodyKind::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
}

/// Small bodies leave with the head; large ones behind it, without a copy.
async fn send_whole(worker: &Worker, connection: &Connection, out: &mut Vec<u8>, bytes: Bytes) -> Result<u64, ()> {
    let body_bytes = bytes.len() as u64;
    if bytes.len() <= COPIED_BYTES_MAX {
        out.extend_from_slice(&bytes);
        return Ok(body_bytes);
    }
    connection.flush(worker, out).await.map_err(|Broken| ())?;
    connection.send_bytes(worker, bytes).await.map_err(|Broken| ())?;
    Ok(body_bytes)
}

/// Sends chunks as they come. A body that breaks off, or is not as long as announced, breaks the connection.
async fn send_stream(
    worker: &Worker,
    connection: &Connection,
    out: &mut Vec<u8>,
    mut receiver: BodyReceiver,
    kind: BodyKind,
) -> Result<u64, ()> {
    let mut body_bytes = 0;
    loop {
        let chunk = match connection.watched.while_client_stays(receiver.chunk()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(()),
        };
        body_bytes += chunk.len() as u64;
        if matches!(kind, BodyKind::Length(length) if body_bytes > length) {
            return Err(());
        }
        if kind == BodyKind::Chunked {
            write_chunk_head(out, chunk.len());
        }
        send_whole(worker, connection, out, chunk).await?;
        if kind == BodyKind::Chunked {
            out.extend_from_slice(CHUNK_END);
        }
        connection.flush(worker, out).await.map_err(|Broken| ())?;
    }
    if matches!(kind, BodyKind::Length(length) if body_bytes < length) {
        return Err(());
    }
    if kind == BodyKind::Chunked {
        out.extend_from_slice(LAST_CHUNK);
    }
    Ok(body_bytes)
}
