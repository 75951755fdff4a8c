//! One try at an application inside this process: as `attempt` and `relay` at a server behind a socket, but the request crosses to
//! an application worker as a message ([`crate::app`]), and its answer comes back as one.
//!
//! Nothing is connected. What is a full backlog elsewhere is a full queue in front of the worker here, and what is a connection
//! that was refused is a worker that has failed before the application saw the request. Bodies go both ways in pieces, with credit.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::attempt::Try;
use super::connect::Backlog;
use super::outgoing::{Outgoing, ask_for_plain, put_client_certificate};
use super::relay::BrokeOff;
use super::{Forward, NoResponse, TryFailed};
use crate::app::{Flight, Job, JobBody, Lost, ReplyBody, ReplyHead, RequestInfo};
use crate::config::model::App;
use crate::http::answer::{AnswerHead, Content};
use crate::http::fields::{Fields, FieldsMut};
use crate::http::h1::{BodyKind, Field, FieldName, Method, RequestHead, Span, Version};
use crate::metrics::{AppStats, ServedBy};
use crate::proxy::head::names_client_certificate;
use crate::proxy::retry::Situation;
use crate::runtime::body::{BodyReceiver, BodySender, body_channel};
use crate::worker::answer::{Answer, OwnFields};
use crate::worker::app_tunnel::{Wanted, put_opening};
use crate::worker::body::BodyFailure;
use crate::worker::exchange::{Acted, After, Client, Instead, Outcome, Request, Unanswered, unanswered};
use crate::worker::replaced::replaced;
use crate::worker::trail::Trail;
use crate::worker::upload::{Beside, Upload};
use crate::worker::watch::{GaveUp, OnExpiry};

/// Bytes of a streamed request body that may be under way between the cores.
const BODY_WINDOW_BYTES: usize = 64 * 1024;

/// Counts a request as under way in its application.
pub(super) struct Active<'a>(&'a AppStats);

impl<'a> Active<'a> {
    /// A request comes to the application.
    pub(super) fn begin(stats: &'a AppStats) -> Active<'a> {
        stats.requests.inc();
        stats.active.inc();
        Active(stats)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.dec();
    }
}

/// Counts what has become of a request to an application, of which the client has got `status` so far, 0: nothing.
pub(super) fn count(stats: &AppStats, acted: &Acted, status: u16) {
    match acted {
        Ok(_) if status == 0 => stats.cancelled.inc(),
        Err(Instead::Error(Unanswered { status: 502 | 504, .. })) => stats.failed.inc(),
        Err(Instead::Error(Unanswered { status: 503, .. })) => stats.refused.inc(),
        Ok(_) | Err(_) => {}
    }
}

/// An answer of the application that goes on to the client.
struct Replied {
    head: ReplyHead,
    /// With the worker, or the thread, that it came from.
    served_by: ServedBy,
}

/// A request that has been handed over.
struct Handed<'a> {
    flight: Flight<'a>,
    since: Instant,
}

impl<'a> Forward<'a> {
    /// Where requests at `server` of an application are served; of one with threads of its own, which of them is not known before
    /// it has answered.
    pub(super) fn in_process(&self, app: usize, server: usize) -> ServedBy {
        let apps = &self.worker.config.apps;
        let worker = App::first_thread(apps, app, self.worker.bridge.workers()).unwrap_or(server);
        ServedBy::App { app: app as u16, app_worker: worker as u16 }
    }

    /// One try at one worker of application `app`, to the end of the response.
    pub(super) async fn attempt_in_process(
        &self,
        client: &mut Client<'_>,
        outgoing: &Outgoing,
        app: usize,
        next: Try<'_>,
    ) -> Result<Outcome, NoResponse> {
        let Try { server, busy, now, .. } = next;
        let is_to_connect = client.answer.is_to_connect();
        let (wanted, tunnel) = self.upgrade.map(Wanted::new).unzip();
        let (body, sender) = self.body(outgoing);
        let Some((bytes, head)) = crossing(self, is_to_connect) else {
            return Err(NoResponse::Instead(Instead::Error(unanswered(500))));
        };
        let job = |ticket| {
            let info = self.info(now);
            Job { ticket, origin: self.worker.index, app, bytes, head, body, tunnel, info }
        };
        let trail = &mut client.answer.trail;
        let Handed { flight, since } = self.hand_over(app, next, trail, job).await?;
        trail.connect = Some(Duration::ZERO);
        self.stats(server).requests.inc();
        let Client { upload, answer, .. } = client;
        let presence = self.presence;
        presence.watched().set(self.config.response_timeout, OnExpiry::Wake);
        // Futures are handed on pinned: passed by value, each layer around them would hold a copy of its own.
        let answered = pin!(flight.answered());
        let answered = pin!(presence.while_client_stays(answered));
        let mut outcome = match sender {
            None => {
                let reply = self.replied(answer, app, (next, since), answered.await)?;
                match wanted {
                    Some(wanted) if matches!(reply.head.body, ReplyBody::Tunnel) => {
                        // It is no request any more.
                        busy.end_now();
                        drop(self.active.take());
                        let client = (&mut *upload, &mut *answer, presence);
                        let stats = (&*self.worker.stats.apps[app], self.stats(server));
                        self.is_relaying.set(true);
                        let opened =
                            wanted.open(self.cx, self.config, stats, client, reply.head.fields, reply.served_by);
                        opened.await.map_err(|_| NoResponse::Broken)?
                    }
                    _ => self.relay_in_process(answer, reply, server).await?,
                }
            }
            Some(sender) => {
                // A request body that is streamed is not repeated.
                outgoing.is_kept.set(false);
                // The request to go on, if the client waits for it, before an answer may be under way.
                upload.ask(self.worker, self.connection).await.map_err(NoResponse::Body)?;
                let handle = upload.begin_beside(self.worker, self.connection);
                let may_keep = answer.keeps_connection();
                let pump = pin!(self.pump(upload, sender));
                let mut beside = Beside::new(pump, handle);
                let replied = match beside.run(answered).await {
                    Ok(answered) => self.replied(answer, app, (next, since), answered),
                    Err(failure) => Err(NoResponse::Body(failure)),
                };
                let relayed = match replied {
                    Err(no_response) => Err(no_response),
                    Ok(reply) => {
                        // An early answer: whether the whole body will have been read behind it is not known yet.
                        answer.set_keep_alive(may_keep && beside.has_sent_all());
                        let relayed = beside.run(pin!(self.relay_in_process(answer, reply, server))).await;
                        // A body that fails below an answer under way breaks that answer off.
                        relayed.unwrap_or_else(|_| Ok(self.broken(server, BrokeOff::Client).outcome))
                    }
                };
                beside.stop(self.connection).await;
                relayed?
            }
        };
        if outcome.after == After::Close && !client.upload.is_done() {
            outcome.after = After::Linger;
        }
        Ok(outcome)
    }

    /// The body as it crosses; what is not here yet goes through the sender.
    fn body(&self, outgoing: &Outgoing) -> (JobBody, Option<BodySender>) {
        if outgoing.is_whole.get() {
            return (JobBody::Full(outgoing.kept_bytes()), None);
        }
        let (mut sender, receiver) = body_channel(BODY_WINDOW_BYTES);
        sender.push(outgoing.kept_bytes());
        let length = match self.request.head.body {
            BodyKind::Length(length) => Some(length),
            _ => None,
        };
        (JobBody::Stream { receiver, length }, Some(sender))
    }

    /// Leaves the job in the queue of the worker. Where that is full, the request goes elsewhere, or waits as in front of a full
    /// backlog.
    async fn hand_over(
        &self,
        app: usize,
        Try { server, has_other, .. }: Try<'_>,
        trail: &mut Trail,
        job: impl FnOnce(crate::app::Ticket) -> Job,
    ) -> Result<Handed<'a>, NoResponse> {
        let bridge = &self.worker.bridge;
        let mut backlog: Option<Box<Backlog<'_>>> = None;
        let patience = self.worker.config.apps[app].full_timeout;
        let at = (server, patience);
        if self.worker.backlogs[self.upstream][server].available_permits() == 0 {
            Box::pin(self.wait_for_backlog(&mut backlog, at, has_other, trail)).await?;
        }
        let flight = loop {
            match bridge.take_slot() {
                Some(flight) => break flight,
                None => Box::pin(self.wait_for_backlog(&mut backlog, at, has_other, trail)).await?,
            }
        };
        let mut unsent = bridge.send(server, job(flight.ticket));
        while let Some(mut job) = unsent {
            // Boxed: every request would carry its size.
            Box::pin(self.wait_for_backlog(&mut backlog, at, has_other, trail)).await?;
            job.info.deadline = Instant::now() + self.config.response_timeout;
            unsent = bridge.send(server, job);
        }
        Ok(Handed { flight, since: self.worker.now() })
    }

    /// What has come of the wait for the answer, if that goes on to the client.
    fn replied(
        &self,
        answer: &mut Answer<'_>,
        app: usize,
        (Try { server, gives_up_answer, .. }, since): (Try<'_>, Instant),
        answered: Result<Result<(ReplyHead, usize), Lost>, GaveUp>,
    ) -> Result<Replied, NoResponse> {
        self.presence.watched().clear();
        let failed = |situation, sent| NoResponse::Failed(TryFailed { situation, sent });
        let (head, app_worker) = match answered {
            Ok(Ok(replied)) => replied,
            Ok(Err(Lost::Unbegun)) => return Err(failed(Situation::Refused, false)),
            Ok(Err(Lost::Begun)) => return Err(failed(Situation::FreshClosed, true)),
            Err(GaveUp::ClientGone) => return Err(NoResponse::ClientGone),
            Err(GaveUp::Expired) => return Err(failed(Situation::ResponseTimeout, true)),
        };
        let served_by = ServedBy::App { app: app as u16, app_worker: app_worker as u16 };
        answer.trail.server = Some(served_by);
        self.count_status(&mut answer.trail, server, since, head.status);
        self.worker.stats.apps[app].duration.record(answer.trail.response.unwrap_or_default());
        if self.config.retry.statuses.contains(&head.status) && gives_up_answer(answer) {
            return Err(failed(Situation::ErrorStatus, true));
        }
        Ok(Replied { head, served_by })
    }

    /// Sends the answer on to the client. `Err`: nothing of it was sent, because something else is.
    async fn relay_in_process(
        &self,
        answer: &mut Answer<'_>,
        Replied { mut head, served_by }: Replied,
        server: usize,
    ) -> Result<Outcome, NoResponse> {
        if head.is_failure && self.cx.options.error_pages.page(head.status).is_some() {
            let failed = Unanswered { served_by, ..unanswered(head.status) };
            return Err(NoResponse::Instead(Instead::Error(failed)));
        }
        self.rewrite_location(&mut head.fields);
        if let Some(rules) = &self.cx.options.cookie_rewrite {
            rules.apply(&mut head.fields, self.cx);
        }
        if let Some(instead) = replaced(self.cx, answer, &mut head.fields, head.status, served_by) {
            return Err(NoResponse::Instead(instead));
        }
        self.put_sticky_cookie(&mut head.fields, server);
        self.is_relaying.set(true);
        let after = match self.relay_reply_head(answer, head).await {
            Err(who) => {
                let broken = self.broken(server, who).outcome;
                return Ok(Outcome { served_by, ..broken });
            }
            Ok(()) if answer.keeps_connection() => After::Keep,
            Ok(()) => After::Close,
        };
        Ok(Outcome { after, served_by })
    }

    async fn relay_reply_head(&self, answer: &mut Answer<'_>, reply: ReplyHead) -> Result<(), BrokeOff> {
        let ReplyHead { status, fields, has_date, has_server, length, body, .. } = reply;
        let has_no_content = matches!(status, 100..=199 | 204 | 304);
        let is_bodiless = self.method() == Method::Head || has_no_content;
        let content = match (&body, length) {
            _ if is_bodiless => Content::Absent(length.filter(|_| !has_no_content)),
            (ReplyBody::Full(bytes), _) => Content::Length(bytes.len() as u64),
            (ReplyBody::Stream(_), Some(length)) => Content::Length(length),
            (ReplyBody::Stream(_), None) => Content::Stream,
            (ReplyBody::Tunnel, _) => Content::Absent(None),
        };
        let own = OwnFields { server: !has_server, date: !has_date, are_alone: false };
        answer.start(Some(self.cx), &AnswerHead { status, reason: None, fields: &fields, content }, own);
        match body {
            _ if is_bodiless => {}
            ReplyBody::Tunnel => {}
            ReplyBody::Full(bytes) => answer.write_bytes(bytes).await.map_err(|_| BrokeOff::Client)?,
            ReplyBody::Stream(receiver) => self.relay_stream(answer, receiver, content).await?,
        }
        answer.finish().await.map_err(|_| BrokeOff::Client)
    }

    /// Sends pieces as they come. A body that breaks off, or is not as long as announced, breaks the connection.
    async fn relay_stream(
        &self,
        answer: &mut Answer<'_>,
        mut receiver: BodyReceiver,
        content: Content,
    ) -> Result<(), BrokeOff> {
        let watched = self.presence.watched();
        let mut body_bytes = 0;
        loop {
            if self.config.idle_timeout != Duration::MAX {
                watched.set(self.config.idle_timeout, OnExpiry::Wake);
            }
            let next = self.presence.while_client_stays(receiver.chunk()).await;
            watched.clear();
            let piece = match next {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(GaveUp::Expired) => return Err(BrokeOff::Server),
                Err(GaveUp::ClientGone) => return Err(BrokeOff::Client),
            };
            body_bytes += piece.len() as u64;
            if matches!(content, Content::Length(length) if body_bytes > length) {
                return Err(BrokeOff::Server);
            }
            answer.write_bytes(piece).await.map_err(|_| BrokeOff::Client)?;
            answer.flush().await.map_err(|_| BrokeOff::Client)?;
        }
        match content {
            Content::Length(length) if body_bytes < length => Err(BrokeOff::Server),
            _ => Ok(()),
        }
    }

    /// Streams the request body to the application as it gives credit; `false` when the application does not want it all.
    async fn pump(&self, upload: &mut Upload<'_>, mut sender: BodySender) -> Result<bool, BodyFailure> {
        let watched = self.presence.watched();
        loop {
            // Until the client has sent more, nobody can blame the application for its silence. Once it answers, the deadlines
            // belong to the relay of the answer.
            if !self.is_relaying.get() {
                watched.clear();
            }
            let next = upload.next(self.worker, self.connection).await?;
            if !self.is_relaying.get() {
                watched.set(self.config.response_timeout, OnExpiry::Wake);
            }
            let Some(piece) = next else { break };
            if sender.send(piece.into_bytes()).await.is_err() {
                return Ok(false);
            }
        }
        sender.finish();
        Ok(true)
    }

    /// What the application is told beside the request.
    fn info(&self, now: Instant) -> RequestInfo {
        let connection = self.connection.for_apps().clone();
        let client = self.request.client.map(|client| {
            let peer = connection.peer.filter(|peer| peer.ip() == client);
            SocketAddr::new(client.to_canonical(), peer.map_or(0, |peer| peer.port()))
        });
        RequestInfo {
            client,
            is_https: self.request.is_https,
            version: self.request.head.version.into(),
            request_id: self.request.id,
            deadline: now + self.config.response_timeout,
            connection,
        }
    }
}

/// The request as it crosses: with the fields that the route adds and takes away. `None`: a field that no head may have.
///
/// `is_connect`: the client has sent an extended CONNECT; the application gets the GET that it stands for.
fn crossing(forward: &Forward<'_>, is_connect: bool) -> Option<(Bytes, RequestHead)> {
    let cx = forward.cx;
    let Request { head, bytes, .. } = forward.request;
    let rules = &cx.options.request_headers;
    let is_forged = |field: &Field| field.known == FieldName::Other && names_client_certificate(field.name.of(bytes));
    let asks = cx.connection.asks_for_certificates(cx.worker);
    let is_unchanged = rules.is_empty() && cx.options.substitute.is_none();
    if is_unchanged && !is_connect && !asks && !head.fields.iter().any(is_forged) {
        let mut out = Vec::with_capacity(bytes.len() + ID_FIELD_BYTES);
        out.extend_from_slice(bytes);
        let mut fields = Vec::with_capacity(head.fields.len() + 1);
        fields.extend_from_slice(&head.fields);
        put_id(&mut out, &mut fields, forward.request.id);
        return Some((out.into(), RequestHead { fields, ..*head }));
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
    put_id(&mut out, &mut changed.fields, forward.request.id);
    (changed.fields.len() <= u16::MAX.into()).then(|| (out.into(), changed))
}

/// What [`put_id`] adds to a head at most.
const ID_FIELD_BYTES: usize = ID_NAME.len() + 16;

const ID_NAME: &[u8] = b"x-request-id";

/// The application gets the identifier of the request in a field, as servers do, unless the client has sent one. It is written here
/// so that it lies in the memory of the head.
fn put_id(out: &mut Vec<u8>, fields: &mut Vec<Field>, id: u64) {
    let mut append = |text: &[u8]| {
        let start = out.len();
        out.extend_from_slice(text);
        Span::from(start..out.len())
    };
    match fields.iter_mut().find(|field| field.known == FieldName::XRequestId) {
        Some(field) if field.value.is_empty() => field.value = append(&Request::id_text(id)),
        Some(_) => {}
        None => fields.push(Field {
            known: FieldName::XRequestId,
            name: append(ID_NAME),
            value: append(&Request::id_text(id)),
        }),
    }
}
