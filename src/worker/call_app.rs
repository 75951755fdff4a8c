//! Calls an in-process application: the request crosses to an application worker, the answer comes back, bodies
//! stream both ways with credit.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;

use super::Worker;
use super::answer::{Answer, OwnFields, Presence};
use super::app_tunnel::{Wanted, put_opening};
use super::body::BodyFailure;
use super::connection::{Broken, Connection};
use super::cx::Cx;
use super::exchange::{self, Acted, After, Client, Instead, Outcome, Request, abandoned};
use super::forward::{ask_for_plain, body_failed, put_client_certificate};
use super::replaced::replaced;
use super::upload::{Beside, Left, Upload};
use super::watch::{GaveUp, OnExpiry};
use crate::app::{Answered, CallError, CallLimits, Job, JobBody, ReplyBody, ReplyHead, RequestInfo};
use crate::http::answer::{AnswerHead, Content};
use crate::http::fields::{Fields, FieldsMut};
use crate::http::h1::{BodyKind, Field, FieldName, Method, RequestHead, Span, Version};
use crate::metrics::{AppStats, ServedBy};
use crate::proxy::head::names_client_certificate;
use crate::runtime::body::{BodyReceiver, BodySender, body_channel};

/// A request body up to this size crosses together with the head.
const WHOLE_BODY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a streamed request body that may be under way between the cores.
const BODY_WINDOW_BYTES: usize = 64 * 1024;

pub(super) async fn run(cx: &Cx<'_>, client: &mut Client<'_>, app: usize) -> Acted {
    let Cx { worker, connection, request, .. } = *cx;
    let stats = &worker.stats.apps[app];
    let mut whole = Vec::new();
    let is_whole = match request.head.body {
        BodyKind::None => true,
        _ => match client.keep(worker, connection, &mut whole, WHOLE_BODY_BYTES_MAX).await {
            Ok(is_whole) => is_whole,
            Err(failure) => return body_failed(failure),
        },
    };
    let wanted = Wanted::of(cx, client, app);
    if client.answer.is_to_connect() && wanted.is_none() {
        return exchange::error(501);
    }
    let (wanted, tunnel) = wanted.unzip();
    let Client { upload, answer, left, .. } = client;
    let (body, sender) = if is_whole {
        let whole = Bytes::from(whole);
        *left = Left::Kept(whole.clone());
        (JobBody::Full(whole), None)
    } else {
        let (mut sender, receiver) = body_channel(BODY_WINDOW_BYTES);
        sender.push(whole.into());
        let length = match request.head.body {
            BodyKind::Length(length) => Some(length),
            _ => None,
        };
        (JobBody::Stream { receiver, length }, Some(sender))
    };
    let Some((bytes, head)) = request_of(cx, answer.is_to_connect()) else {
        return Err(Instead::Error(exchange::unanswered(500)));
    };
    stats.requests.inc();
    let mut active = Some(Active::begin(stats));
    let begun = worker.now();
    let response_timeout = worker.config.apps[app].response_timeout;
    let (info, origin) = (info(cx, begun + response_timeout), worker.index);
    // Futures are handed on pinned: passed by value, each layer around them would hold a copy of its own.
    let config = &worker.config.apps[app];
    let limits = CallLimits { requests_max: config.requests_max, queue_timeout: config.queue_timeout };
    let call =
        pin!(worker.bridge.call(app, limits, |ticket| Job { ticket, origin, app, bytes, head, body, tunnel, info }));
    let presence = answer.presence();
    presence.watched().set(response_timeout, OnExpiry::Wake);
    let call = pin!(presence.while_client_stays(call));
    let outcome = match sender {
        None => match call.await {
            Ok(reply) => {
                presence.watched().clear();
                stats.duration.record(begun.elapsed());
                match (reply, wanted) {
                    (Ok(agreed), Some(wanted)) if matches!(agreed.head.body, ReplyBody::Tunnel) => {
                        // It is no request any more.
                        drop((active.take(), agreed.place));
                        let client = (&mut *upload, &mut *answer, presence);
                        let served_by = served_by(app, agreed.app_worker);
                        let opened = wanted.open(cx, app, client, agreed.head.fields, served_by).await;
                        opened.map_err(|Broken| Unanswered::Broken)
                    }
                    (reply, _) => relay_reply(presence, answer, cx, app, reply).await,
                }
            }
            Err(gave_up) => Err(gave_up.into()),
        },
        Some(sender) => {
            // The request to go on, if the client waits for it, before an answer may be under way.
            if let Err(failure) = upload.ask(worker, connection).await {
                return body_failed(failure);
            }
            let handle = upload.begin_beside(worker, connection);
            let may_keep = answer.keeps_connection();
            let pump = pin!(pump(worker, connection, upload, sender));
            let mut beside = Beside::new(pump, handle);
            let outcome = match beside.run(call).await {
                Ok(Ok(reply)) => {
                    presence.watched().clear();
                    stats.duration.record(begun.elapsed());
                    // An early answer: whether the whole body will have been read behind it is not known yet.
                    answer.set_keep_alive(may_keep && beside.has_sent_all());
                    // A body that fails below an answer under way breaks that answer off.
                    let relay = pin!(relay_reply(presence, answer, cx, app, reply));
                    let relayed = beside.run(relay).await;
                    relayed.unwrap_or(Err(Unanswered::Broken))
                }
                Ok(Err(gave_up)) => Err(gave_up.into()),
                Err(failure) => Err(Unanswered::Body(failure)),
            };
            beside.stop(connection).await;
            outcome
        }
    };
    drop(active);
    let give_up = |status| {
        let closes = !client.upload.is_done();
        Err(Instead::Error(exchange::Unanswered { status, closes, served_by: ServedBy::Worker }))
    };
    match outcome {
        Ok(mut outcome) => {
            if outcome.after == After::Close && !client.upload.is_done() {
                outcome.after = After::Linger;
            }
            Ok(outcome)
        }
        Err(Unanswered::ClientGone) => {
            stats.cancelled.inc();
            Ok(abandoned(ServedBy::Worker))
        }
        Err(Unanswered::TimedOut) => {
            stats.failed.inc();
            tracing::warn!(app = %worker.config.apps[app].name, "application did not answer in time");
            give_up(504)
        }
        Err(Unanswered::Body(failure)) => body_failed(failure),
        Err(Unanswered::Instead(instead)) => Err(instead),
        Err(Unanswered::Broken) => Ok(Outcome { after: After::Abort, ..abandoned(ServedBy::Worker) }),
        Err(Unanswered::Call(CallError::Busy)) => {
            stats.refused.inc();
            give_up(503)
        }
        Err(Unanswered::Call(CallError::Failed)) => {
            stats.failed.inc();
            give_up(502)
        }
    }
}

/// What the application is told beside the request.
fn info(cx: &Cx<'_>, deadline: Instant) -> RequestInfo {
    let connection = cx.connection.for_apps().clone();
    let client = cx.request.client.map(|client| {
        let peer = connection.peer.filter(|peer| peer.ip() == client);
        SocketAddr::new(client.to_canonical(), peer.map_or(0, |peer| peer.port()))
    });
    RequestInfo {
        client,
        is_https: cx.request.is_https,
        version: cx.request.head.version.into(),
        request_id: cx.request.id,
        deadline,
        connection,
    }
}

/// Counts a call as under way.
struct Active<'a>(&'a AppStats);

impl<'a> Active<'a> {
    fn begin(stats: &'a AppStats) -> Active<'a> {
        stats.active.inc();
        Active(stats)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.dec();
    }
}

/// The request as it crosses: with the fields that the route adds and takes away. `None`: a field that no head may have.
///
/// `is_connect`: the client has sent an extended CONNECT; the application gets the GET that it stands for.
fn request_of(cx: &Cx<'_>, is_connect: bool) -> Option<(Bytes, RequestHead)> {
    let Request { head, bytes, .. } = cx.request;
    let rules = &cx.options.request_headers;
    let is_forged = |field: &Field| field.known == FieldName::Other && names_client_certificate(field.name.of(bytes));
    let asks = cx.connection.asks_for_certificates(cx.worker);
    let is_unchanged = rules.is_empty() && cx.options.substitute.is_none();
    if is_unchanged && !is_connect && !asks && !head.fields.iter().any(is_forged) {
        return Some((Bytes::copy_from_slice(bytes), head.clone()));
    }
    let mut lines = Vec::with_capacity(bytes.len() + 256);
    for field in head.fields.iter().filter(|field| !is_forged(field)) {
        lines.extend_from_slice(field.name.of(bytes));
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(field.value.of(bytes));
        lines.extend_from_slice(b"\r\n");
    }
    let mut fields = FieldsMut::new(&mut lines, 0);
    put_client_certificate(cx, &mut fields);
    ask_for_plain(cx, &mut fields);
    fields.apply(rules, None, cx);
    let mut changed = head.clone();
    if is_connect {
        put_opening(&mut fields);
        changed.version = Version::Http11;
    }
    let mut out = bytes.to_vec();
    changed.fields.clear();
    for (name, value) in Fields::new(&lines).iter() {
        let mut append = |text: &[u8]| {
            let start = out.len();
            out.extend_from_slice(text);
            Span::from(start..out.len())
        };
        let (known, name, value) = (FieldName::of(name), append(name), append(value));
        changed.fields.push(Field { known, name, value });
    }
    (changed.fields.len() <= u16::MAX.into()).then(|| (out.into(), changed))
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
    /// Something else is sent.
    Instead(Instead),
}

impl From<GaveUp> for Unanswered {
    fn from(gave_up: GaveUp) -> Unanswered {
        match gave_up {
            GaveUp::ClientGone => Unanswered::ClientGone,
            GaveUp::Expired => Unanswered::TimedOut,
        }
    }
}

fn served_by(app: usize, app_worker: usize) -> ServedBy {
    ServedBy::App { app: app as u16, app_worker: app_worker as u16 }
}

async fn relay_reply(
    presence: Presence<'_>,
    answer: &mut Answer<'_>,
    cx: &Cx<'_>,
    app: usize,
    reply: Result<Answered<'_>, CallError>,
) -> Result<Outcome, Unanswered> {
    let Answered { head: mut reply, app_worker, place: _place } = reply.map_err(Unanswered::Call)?;
    let served_by = served_by(app, app_worker);
    if reply.is_failure && cx.options.error_pages.page(reply.status).is_some() {
        let failed = exchange::Unanswered { served_by, ..exchange::unanswered(reply.status) };
        return Err(Unanswered::Instead(Instead::Error(failed)));
    }
    if let Some(instead) = replaced(cx, answer, &mut reply.fields, reply.status, served_by) {
        return Err(Unanswered::Instead(instead));
    }
    let sent = relay(presence, answer, cx, reply).await;
    let after = match sent {
        Err(Broken) => After::Abort,
        Ok(()) if answer.keeps_connection() => After::Keep,
        Ok(()) => After::Close,
    };
    Ok(Outcome { after, served_by })
}

/// Streams the request body to the application as it gives credit; `false` when the application does not want it all.
async fn pump(
    worker: &Worker,
    connection: &Connection,
    upload: &mut Upload<'_>,
    mut sender: BodySender,
) -> Result<bool, BodyFailure> {
    while let Some(piece) = upload.next(worker, connection).await? {
        if sender.send(piece.into_bytes()).await.is_err() {
            return Ok(false);
        }
    }
    sender.finish();
    Ok(true)
}

/// Sends the answer on to the client. [`Broken`]: it broke off, on either side.
async fn relay(presence: Presence<'_>, answer: &mut Answer<'_>, cx: &Cx<'_>, reply: ReplyHead) -> Result<(), Broken> {
    let ReplyHead { status, fields, has_date, has_server, length, body, .. } = reply;
    let is_bodiless = cx.request.head.method == Method::Head || matches!(status, 100..=199 | 204 | 304);
    let content = match (&body, length) {
        _ if is_bodiless => Content::Absent(length.filter(|_| !matches!(status, 100..=199 | 204 | 304))),
        (ReplyBody::Full(bytes), _) => Content::Length(bytes.len() as u64),
        (ReplyBody::Stream(_), Some(length)) => Content::Length(length),
        (ReplyBody::Stream(_), None) => Content::Stream,
        (ReplyBody::Tunnel, _) => Content::Absent(None),
    };
    let own = OwnFields { server: !has_server, date: !has_date };
    answer.start(Some(cx), &AnswerHead { status, reason: None, fields: &fields, content }, own);
    match body {
        _ if is_bodiless => {}
        ReplyBody::Tunnel => {}
        ReplyBody::Full(bytes) => answer.write_bytes(bytes).await?,
        ReplyBody::Stream(receiver) => send_stream(presence, answer, receiver, content).await?,
    }
    answer.finish().await
}

/// Sends chunks as they come. A body that breaks off, or is not as long as announced, breaks the connection.
async fn send_stream(
    presence: Presence<'_>,
    answer: &mut Answer<'_>,
    mut receiver: BodyReceiver,
    content: Content,
) -> Result<(), Broken> {
    let mut body_bytes = 0;
    loop {
        let chunk = match presence.while_client_stays(receiver.chunk()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(Broken),
        };
        body_bytes += chunk.len() as u64;
        if matches!(content, Content::Length(length) if body_bytes > length) {
            return Err(Broken);
        }
        answer.write_bytes(chunk).await?;
        answer.flush().await?;
    }
    match content {
        Content::Length(length) if body_bytes < length => Err(Broken),
        _ => Ok(()),
    }
}
