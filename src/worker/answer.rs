//! The answer to one request on its way to the client: head, content, end, in the words of the client's protocol.
//!
//! Actions say what to answer ([`AnswerHead`]) and hand over content as they have it; they do not know whether it leaves
//! as HTTP/1 text or as frames of HTTP/2 or HTTP/3, in clear or encrypted.

mod changed;
mod paced;
mod spliced;

use std::os::fd::AsFd;

use bytes::Bytes;
use http::HeaderMap;

use super::connection::{Broken, Connection};
use super::cx::{AnswerVariables, Cx};
use super::exchange::{DISCARD_BYTES_MAX, Request, changes_fields};
use super::multiplexed::Stream;
use super::trail::Trail;
use super::watch::{GaveUp, OnExpiry, Watched};
use super::{Worker, unix_seconds};
use crate::config::model::Options;
use crate::guard::Throttle;
use crate::http::answer::{AnswerHead, Content};
use crate::http::coding::{self, Accepted, Candidate, Lease};
use crate::http::fields::{Fields, FieldsMut};
use crate::http::h1::{
    AnswerContext, BodyKind, CHUNK_END, FieldName, LAST_CHUNK, Method, Version, write_answer_head, write_chunk_head,
};
use crate::http::substitute::Substitution;
use crate::http::trailers;
use crate::runtime::sys::files::{NonBlocking, OpenFile, read_at};

/// Content up to this size is copied behind its head and leaves with it in one send; larger `Bytes` are not copied.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Content gathers up to this size before it is sent.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one sendfile(2) burst; then other connections have their turn.
const BURST_BYTES_MAX: usize = 1 << 20;

/// Most bytes of a file read into memory at once, where sendfile(2) cannot go.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The same for a stream of HTTP/2 or HTTP/3, of which a connection may have a hundred: the payload of a frame.
const STREAM_PIECE_BYTES_MAX: usize = 16 * 1024;

/// An answer to one request.
pub(super) struct Answer<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
    method: Method,
    wire: Wire<'a>,
    /// Status sent; 0 before the head of the final answer.
    status: u16,
    /// An interim answer has gone out.
    has_interim: bool,
    /// The client waits for a tunnel (extended CONNECT): success would say that there is one.
    is_to_connect: bool,
    /// How the content is framed; known with the head.
    framing: BodyKind,
    /// Bytes of content sent.
    body_bytes: u64,
    /// Bytes of heads and framing.
    head_bytes: u64,
    /// Status to be sent instead of the one that an action says: an error page is answered like any other path.
    forced_status: Option<u16>,
    /// Fields that the answer gets, whoever makes it: a challenge, or those of a server that named other content.
    kept_fields: Vec<u8>,
    /// Media type of what a 304 tells to be unchanged.
    validated_type: Option<Box<str>>,
    /// Changes the content, before it is coded. Boxed, as the throttle is: every request would carry its size.
    substitution: Option<Box<Substitution>>,
    coder: Option<Coder<'a>>,
    throttle: Option<Box<Throttle>>,
    /// Bytes a second that a server or application has asked for; 0: any rate.
    asked_rate: Option<u64>,
    /// The request is a call of gRPC, whose client reads errors in trailers.
    pub(super) is_call: bool,
    pub(super) trail: Trail,
}

/// A content coding on its way.
struct Coder<'a> {
    encoder: Lease<'a>,
    /// Bytes that have gone in.
    bytes_before: u64,
    /// Something went in since the last flush.
    is_dirty: bool,
    flushes_each_piece: bool,
}

/// Where the answer goes.
pub(super) enum Wire<'a> {
    H1(H1Wire<'a>),
    Stream(StreamWire<'a>),
    /// To nobody: a question of ours is answered, of which status and fields are noted and the content is dropped.
    Noted(Noted<'a>),
}

/// An answer that is noted.
pub(super) struct Noted<'a> {
    /// That of the client for whom we ask.
    pub(super) presence: Presence<'a>,
    /// Lines as in [`AnswerHead`].
    pub(super) fields: Vec<u8>,
}

/// The sending side of a stream of HTTP/2 or HTTP/3.
pub(super) struct StreamWire<'a> {
    pub(super) stream: &'a Stream,
    /// Content that waits for more, or for the end: the last frame then ends the stream.
    pub(super) gathered: Vec<u8>,
    /// The head could not be sent.
    pub(super) is_broken: bool,
}

/// The sending side of a connection of HTTP/1.
pub(super) struct H1Wire<'a> {
    /// What waits to be sent, answers to earlier requests of a pipeline in front.
    pub(super) out: &'a mut Vec<u8>,
    pub(super) version: Version,
    /// The connection may be kept behind the answer.
    pub(super) keep_alive: bool,
}

/// The client's presence, and the deadline of an exchange; apart from the answer, so that one may wait while the other
/// writes.
#[derive(Clone, Copy)]
pub(super) enum Presence<'a> {
    /// The client holds its connection open.
    Connection(&'a Watched),
    /// The client has not reset its stream.
    Stream(&'a Stream),
}

impl<'a> Presence<'a> {
    /// The deadline.
    pub(super) fn watched(self) -> &'a Watched {
        match self {
            Presence::Connection(watched) => watched,
            Presence::Stream(stream) => stream.watched(),
        }
    }

    /// Runs `work` until it ends, the client leaves, or the deadline passes.
    pub(super) async fn while_client_stays<T>(self, work: impl Future<Output = T>) -> Result<T, GaveUp> {
        let work = std::pin::pin!(work);
        match self {
            Presence::Connection(watched) => watched.while_client_stays(work).await,
            Presence::Stream(stream) => stream.while_client_stays(work).await,
        }
    }
}

/// Which of our own general fields go into a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnFields {
    pub(super) server: bool,
    pub(super) date: bool,
    /// The head has no Server, Date, Alt-Svc, Expires and Cache-Control: nobody has to look.
    pub(super) are_alone: bool,
}

impl OwnFields {
    /// An answer of the worker itself.
    pub(super) const ALL: OwnFields = OwnFields { server: true, date: true, are_alone: false };
    /// The head of a file.
    pub(super) const OF_FILE: OwnFields = OwnFields { are_alone: true, ..OwnFields::ALL };
}

impl<'a> Answer<'a> {
    pub(super) fn new(worker: &'a Worker, connection: &'a Connection, method: Method, wire: Wire<'a>) -> Answer<'a> {
        Answer {
            worker,
            connection,
            method,
            wire,
            status: 0,
            has_interim: false,
            is_to_connect: false,
            framing: BodyKind::None,
            body_bytes: 0,
            head_bytes: 0,
            forced_status: None,
            kept_fields: Vec::new(),
            validated_type: None,
            substitution: None,
            coder: None,
            throttle: None,
            asked_rate: None,
            is_call: false,
            trail: Trail { log_access: true, ..Trail::default() },
        }
    }

    /// The same for an extended CONNECT, if it is one.
    pub(super) fn for_connect(self, is_to_connect: bool) -> Answer<'a> {
        Answer { is_to_connect, ..self }
    }

    /// The client waits for a tunnel, which only a server that agrees can give it.
    pub(super) fn is_to_connect(&self) -> bool {
        self.is_to_connect
    }

    /// Status sent; 0 when no final head was.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of content handed over so far.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Bytes sent in all: heads, framing (of streams only as far as the fields go), content.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.head_bytes + self.body_bytes
    }

    /// Something of an answer to this request is in the client's buffer: it can no longer be answered otherwise.
    pub(super) fn has_begun(&self) -> bool {
        self.status != 0 || self.has_interim
    }

    /// Interim answers can be sent to this client (RFC 9110 section 15.2).
    pub(super) fn version(&self) -> Version {
        match &self.wire {
            Wire::H1(wire) => wire.version,
            Wire::Stream(wire) => wire.stream.version(),
            // Nobody wants interim ones.
            Wire::Noted(_) => Version::Http10,
        }
    }

    /// The connection will be kept behind the answer.
    pub(super) fn keeps_connection(&self) -> bool {
        match &self.wire {
            Wire::H1(wire) => wire.keep_alive,
            Wire::Stream(_) | Wire::Noted(_) => true,
        }
    }

    /// Says whether the connection may be kept; it never becomes so again once the head has said otherwise.
    pub(super) fn set_keep_alive(&mut self, keep_alive: bool) {
        if let Wire::H1(wire) = &mut self.wire {
            wire.keep_alive = keep_alive;
        }
    }

    /// The client's presence and the deadline of this exchange.
    pub(super) fn presence(&self) -> Presence<'a> {
        match &self.wire {
            Wire::H1(_) => Presence::Connection(&self.connection.watched),
            Wire::Stream(wire) => Presence::Stream(wire.stream),
            Wire::Noted(noted) => noted.presence,
        }
    }

    /// The fields of an answer that was noted.
    pub(super) fn noted_fields(&self) -> &[u8] {
        match &self.wire {
            Wire::Noted(noted) => &noted.fields,
            Wire::H1(_) | Wire::Stream(_) => b"",
        }
    }

    /// Sends an interim (1xx) head at once; `fields` as in [`AnswerHead`].
    pub(super) async fn interim(&mut self, status: u16, fields: &[u8]) -> Result<(), Broken> {
        self.has_interim = true;
        match &mut self.wire {
            Wire::H1(wire) => {
                crate::http::h1::write_status_line(wire.out, status);
                wire.out.extend_from_slice(fields);
                wire.out.extend_from_slice(b"\r\n");
            }
            Wire::Stream(wire) => return wire.stream.interim(status, fields),
            Wire::Noted(_) => {}
        }
        self.flush().await
    }

    /// Sends the head of a 101 at once, the last thing said in HTTP on this connection; `fields` with Connection and Upgrade.
    /// On a stream it is a 200, and `fields` without these (RFC 8441 section 5).
    pub(super) async fn switch_protocols(&mut self, fields: &[u8]) -> Result<(), Broken> {
        if let Wire::Stream(wire) = &self.wire {
            let head = AnswerHead { status: 200, reason: None, fields, content: Content::Stream };
            wire.stream.start(&head, self.method, b"", b"")?;
            (self.status, self.head_bytes) = (200, fields.len() as u64);
            return Ok(());
        }
        if let Wire::H1(wire) = &mut self.wire {
            wire.keep_alive = false;
            let before = wire.out.len();
            crate::http::h1::write_status_line(wire.out, 101);
            wire.out.extend_from_slice(fields);
            wire.out.extend_from_slice(b"\r\n");
            self.head_bytes += (wire.out.len() - before) as u64;
        }
        self.status = 101;
        self.flush_wire().await?;
        if let Wire::H1(wire) = &mut self.wire {
            // A tunnel lives long and has no use for it.
            *wire.out = Vec::new();
        }
        Ok(())
    }

    /// Bytes that were sent behind a 101.
    pub(super) fn count_tunnelled(&mut self, bytes: u64) {
        self.body_bytes += bytes;
    }

    /// The status of the final answer is this, whatever the action says.
    pub(super) fn force_status(&mut self, status: Option<u16>) {
        self.forced_status = status;
    }

    /// Keeps field lines for whatever answer is sent in the end.
    pub(super) fn keep_fields(&mut self, fields: Vec<u8>) {
        self.kept_fields = fields;
    }

    /// The 304 to come is about something of this media type, which it does not say itself.
    pub(super) fn validates(&mut self, media_type: &str) {
        self.validated_type = Some(media_type.into());
    }

    /// Begins the final answer. Called once. `cx` is the route whose options change the fields; `None` before one is
    /// found.
    pub(super) fn start(&mut self, cx: Option<&Cx<'_>>, head: &AnswerHead<'_>, own: OwnFields) {
        debug_assert_eq!(self.status, 0, "one final answer");
        let mut head = *head;
        if let Some(status) = self.forced_status.filter(|status| *status != head.status) {
            (head.status, head.reason) = (status, None);
            // What may have content says how much, if it is none.
            let is_bodiless = self.method == Method::Head || matches!(status, 204 | 304);
            if head.content == Content::Absent(None) && !is_bodiless {
                head.content = Content::Length(0);
            }
        }
        // Whoever made it did not know that there is no other way to say that a tunnel is open.
        if self.is_to_connect && matches!(head.status, 200..=299) {
            (head.status, head.reason) = (501, None);
        }
        if let Some(cx) = cx {
            self.limit_rate(cx.options);
        }
        let cx = cx.filter(|cx| changes_fields(cx.options));
        let mut own = own;
        let alt_svc = self.alt_svc(head.status);
        if cx.is_none() && self.kept_fields.is_empty() && alt_svc.is_empty() {
            return self.put_head(&head, own);
        }
        let mut fields = self.worker.hot.take_buffer(head.fields.len() + 512);
        fields.extend_from_slice(head.fields);
        own.are_alone &= self.kept_fields.is_empty();
        self.restore_kept(&mut fields);
        if let Some(cx) = cx {
            head.content = self.change_fields(cx, &mut fields, head.status, head.content, own.are_alone);
            own.are_alone &= cx.options.headers.is_empty();
        }
        let mut is_told = false;
        if !own.are_alone {
            // A rule may have written these two.
            let [server, date, told] = Fields::new(&fields).find_all(["server", "date", "alt-svc"]);
            own.server &= server.is_none();
            own.date &= date.is_none();
            is_told = told.is_some();
        }
        if !is_told {
            fields.extend_from_slice(alt_svc);
        }
        self.put_head(&AnswerHead { fields: &fields, ..head }, own);
        self.worker.hot.give_buffer_back(fields);
    }

    /// The line that tells of HTTP/3 to clients that speak another version; not in an answer that sends them away from
    /// this connection (RFC 7838 section 6).
    fn alt_svc(&self, status: u16) -> &'a [u8] {
        let knows_already = match &self.wire {
            Wire::H1(_) => false,
            Wire::Stream(wire) => wire.stream.version() == Version::Http3,
            Wire::Noted(_) => true,
        };
        let worker: &'a Worker = self.worker;
        if knows_already || status == 421 { b"" } else { &worker.alt_svc[self.connection.listener(worker)] }
    }

    /// Does to `fields` what the route says; returns what the content becomes. `are_alone`: see [`OwnFields`].
    fn change_fields(
        &mut self,
        cx: &Cx<'_>,
        fields: &mut Vec<u8>,
        status: u16,
        content: Content,
        are_alone: bool,
    ) -> Content {
        let options = cx.options;
        if matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308) {
            if let Some(value) = &options.cache_control {
                FieldsMut::new(fields, 0).set("Cache-Control", value.as_bytes());
            }
            if !options.expires.is_empty() {
                self.put_expires(options, fields, are_alone);
            }
        }
        if let Some(value) = options.hsts.field().filter(|_| cx.request.is_https) {
            FieldsMut::new(fields, 0).set("Strict-Transport-Security", value.as_bytes());
        }
        let content = self.substitute(cx, fields, status, content);
        let content = self.code(cx, fields, status, content);
        if !options.headers.is_empty() {
            let variables = AnswerVariables { cx, status, trail: &self.trail };
            FieldsMut::new(fields, 0).apply(&options.headers, Some(status), &variables);
        }
        content
    }

    fn put_expires(&self, options: &Options, fields: &mut Vec<u8>, are_alone: bool) {
        let (own, media_type, has_cache_control) = match are_alone && options.expires.is_for_all() {
            true => (None, None, options.cache_control.is_some()),
            false => {
                let [own, media_type, cache_control] =
                    Fields::new(fields).find_all(["expires", "content-type", "cache-control"]);
                (own, media_type, cache_control.is_some())
            }
        };
        if own.is_none() {
            let validated = self.validated_type.as_deref().map(str::as_bytes);
            let lifetime = options.expires.lifetime(media_type.or(validated));
            let date = |seconds| self.worker.date_of(seconds);
            lifetime.write(unix_seconds(), date, !has_cache_control, fields);
        }
    }

    /// Puts kept fields in the place of those of the same name; cookies and challenges stand beside each other.
    fn restore_kept(&mut self, fields: &mut Vec<u8>) {
        let kept = std::mem::take(&mut self.kept_fields);
        for (name, value) in Fields::new(&kept).iter() {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let is_one_of_several =
                ["set-cookie", "www-authenticate"].iter().any(|known| name.eq_ignore_ascii_case(known));
            match is_one_of_several {
                true => FieldsMut::new(fields, 0).add(name, value),
                false => FieldsMut::new(fields, 0).set(name, value),
            }
        }
    }

    /// Chooses a content coding and begins it.
    fn code(&mut self, cx: &Cx<'_>, fields: &mut Vec<u8>, status: u16, content: Content) -> Content {
        let Some(policy) = &cx.options.compress else { return content };
        if matches!(self.wire, Wire::Noted(_)) {
            return content;
        }
        let accepted = Accepted::from_head(cx.request.head, cx.request.bytes);
        let length = length_of(content);
        let candidate = Candidate { length, ..Candidate::of(status, fields) };
        if status == 304 {
            // The fields are those of its 200. Which that would have been is not told where the media type is not.
            let whole = Candidate { status: 200, length: None, ..candidate };
            let is_ours = policy.applies(&whole) || (whole.content_type.is_none() && validates_weakly(cx, fields));
            match policy.choose(accepted) {
                Some(_) if is_ours => coding::not_modified(fields, 0),
                None if is_ours => coding::vary_only(fields, 0),
                _ => {}
            }
            return content;
        }
        if !policy.applies(&candidate) {
            return content;
        }
        let flushes_each_piece = candidate.flushes_each_piece();
        let Some(chosen) = policy.choose(accepted) else {
            coding::vary_only(fields, 0);
            return content;
        };
        if self.method == Method::Head {
            coding::apply(fields, 0, chosen);
            return Content::Absent(None);
        }
        match self.worker.encoders.take(chosen, policy.level(chosen), length) {
            None => {
                coding::vary_only(fields, 0);
                content
            }
            Some(encoder) => {
                coding::apply(fields, 0, chosen);
                self.trail.coding = Some((chosen.token(), 0));
                self.coder = Some(Coder { encoder, bytes_before: 0, is_dirty: false, flushes_each_piece });
                Content::Stream
            }
        }
    }

    /// Puts the head into the words of the protocol.
    fn put_head(&mut self, head: &AnswerHead<'_>, own: OwnFields) {
        self.status = head.status;
        let worker = self.worker;
        let log = worker.access_log.as_ref();
        if worker.logged.wants_fields || log.is_some_and(crate::log::AccessLog::wants_response_fields) {
            self.trail.response_fields = head.fields.to_vec();
        }
        let server = if own.server { worker.config.http.server_name.as_bytes() } else { b"" };
        let date = worker.date.borrow();
        let date: &[u8] = if own.date { date.as_bytes() } else { b"" };
        match &mut self.wire {
            Wire::H1(wire) => {
                let (version, keep_alive) = (wire.version, wire.keep_alive);
                let context = AnswerContext { method: self.method, version, keep_alive, server, date };
                let before = wire.out.len();
                let downstream = write_answer_head(wire.out, head, &context);
                self.head_bytes += (wire.out.len() - before) as u64;
                self.framing = downstream.body;
                wire.keep_alive = downstream.keep_alive;
            }
            Wire::Stream(wire) => {
                let has_content = wire.stream.start(head, self.method, server, date);
                wire.is_broken = has_content.is_err();
                self.head_bytes += head.fields.len() as u64;
                // A stream frames by itself; only whether there is content matters here.
                self.framing = if has_content.unwrap_or(false) { BodyKind::UntilClose } else { BodyKind::None };
            }
            Wire::Noted(noted) => {
                noted.fields = head.fields.to_vec();
                self.framing = BodyKind::UntilClose;
            }
        }
    }

    /// The head said that no content follows: what an action hands over is dropped.
    pub(super) fn is_bodiless(&self) -> bool {
        self.framing == BodyKind::None
    }

    /// Adds content; what has gathered leaves when there is much of it.
    pub(super) async fn write(&mut self, data: &[u8]) -> Result<(), Broken> {
        if data.is_empty() || self.is_bodiless() {
            return Ok(());
        }
        if self.substitution.is_some() {
            return Box::pin(self.write_substituted(data)).await;
        }
        self.write_coded(data).await
    }

    async fn write_coded(&mut self, data: &[u8]) -> Result<(), Broken> {
        let Some(coder) = &mut self.coder else { return self.put(data).await };
        let mut coded = self.worker.hot.take_buffer(data.len() / 2);
        coder.bytes_before += data.len() as u64;
        coder.is_dirty = true;
        coder.encoder.write(data, &mut coded).map_err(|_| Broken)?;
        if coder.flushes_each_piece {
            coder.encoder.flush(&mut coded).map_err(|_| Broken)?;
            coder.is_dirty = false;
        }
        self.put_coded(coded).await
    }

    async fn put_coded(&mut self, coded: Vec<u8>) -> Result<(), Broken> {
        let put = if coded.is_empty() { Ok(()) } else { self.put(&coded).await };
        self.worker.hot.give_buffer_back(coded);
        put
    }

    /// Adds content as it leaves.
    async fn put(&mut self, data: &[u8]) -> Result<(), Broken> {
        match self.throttle {
            None => self.put_now(data).await,
            Some(_) => Box::pin(self.put_in_turns(data)).await,
        }
    }

    async fn put_now(&mut self, data: &[u8]) -> Result<(), Broken> {
        self.body_bytes += data.len() as u64;
        match &mut self.wire {
            Wire::H1(wire) => {
                append_content(wire.out, self.framing, data);
                if wire.out.len() < GATHERED_BYTES_MAX {
                    return Ok(());
                }
            }
            Wire::Stream(wire) => {
                wire.gathered.extend_from_slice(data);
                if wire.gathered.len() < COPIED_BYTES_MAX {
                    return Ok(());
                }
                let gathered = Bytes::from(std::mem::take(&mut wire.gathered));
                let rest = wire.stream.send_most(self.worker, gathered).await?;
                wire.gathered.extend_from_slice(&rest);
                return Ok(());
            }
            // Some content is read to keep the connection that it comes over; more ends that connection.
            Wire::Noted(_) if self.body_bytes > DISCARD_BYTES_MAX => return Err(Broken),
            Wire::Noted(_) => return Ok(()),
        }
        self.flush_wire().await
    }

    /// The same without a copy where the piece is large.
    pub(super) async fn write_bytes(&mut self, data: Bytes) -> Result<(), Broken> {
        let is_noted = matches!(self.wire, Wire::Noted(_));
        let is_changed = self.coder.is_some() || self.substitution.is_some();
        if data.len() <= COPIED_BYTES_MAX || self.is_bodiless() || is_changed || self.throttle.is_some() || is_noted {
            return self.write(&data).await;
        }
        self.body_bytes += data.len() as u64;
        match &mut self.wire {
            Wire::H1(wire) => {
                if self.framing == BodyKind::Chunked {
                    write_chunk_head(wire.out, data.len());
                }
                self.connection.flush(self.worker, wire.out).await?;
                self.connection.send_bytes(self.worker, data).await?;
                if self.framing == BodyKind::Chunked {
                    wire.out.extend_from_slice(CHUNK_END);
                }
            }
            Wire::Stream(_) | Wire::Noted(_) => {
                self.flush_wire().await?;
                if let Wire::Stream(wire) = &self.wire {
                    wire.stream.send(self.worker, data, false).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends `len` bytes of `file`; `is_intact` says before the last of them leave whether it is still the file the head
    /// has told of. [`Broken`] when the client is gone or too slow, the file is shorter than promised, or another by now:
    /// then the connection must break, so that nobody takes a mixture for a whole file.
    pub(super) async fn write_file(
        &mut self,
        file: &OpenFile,
        offset: u64,
        len: u64,
        is_intact: impl Fn() -> bool,
    ) -> Result<(), Broken> {
        if self.is_bodiless() || matches!(self.wire, Wire::Noted(_)) {
            return Ok(());
        }
        if self.can_sendfile() {
            self.flush().await?;
            self.body_bytes += len;
            return self.send_file(file, offset, len, is_intact).await;
        }
        self.copy_file(file, offset, len, is_intact).await
    }

    /// The kernel may move the bytes by itself: the content leaves as it is.
    fn can_sendfile(&self) -> bool {
        match &self.wire {
            _ if self.coder.is_some() || self.substitution.is_some() => false,
            Wire::H1(_) => self.framing != BodyKind::Chunked && !self.connection.is_tls(),
            Wire::Stream(_) | Wire::Noted(_) => false,
        }
    }

    async fn send_file(
        &mut self,
        file: &OpenFile,
        mut offset: u64,
        len: u64,
        is_intact: impl Fn() -> bool,
    ) -> Result<(), Broken> {
        let end = offset + len;
        let (worker, connection) = (self.worker, self.connection);
        let mut turn = 0;
        while offset < end {
            if turn == 0 {
                turn = match self.throttle {
                    None => end - offset,
                    Some(_) => Box::pin(self.turn((end - offset).min(BURST_BYTES_MAX as u64))).await?,
                };
            }
            // Pages that are not in memory are read by the kernel meanwhile; other connections go on.
            file.await_resident(offset, turn.min(BURST_BYTES_MAX as u64)).await;
            if end - offset <= BURST_BYTES_MAX as u64 && !is_intact() {
                return Err(Broken);
            }
            let sent = {
                let socket = NonBlocking::of(connection.stream()).map_err(|_| Broken)?;
                socket.send(file.as_fd(), &mut offset, turn, BURST_BYTES_MAX)
            };
            let sent = sent.map_err(|error| {
                tracing::debug!(%error, "file not sent to its end");
                Broken
            })?;
            turn -= sent as u64;
            worker.stats.http.bytes_out.add(sent as u64);
            worker.stats.files.sendfile_bytes.add(sent as u64);
            if offset < end {
                self.await_room().await?;
            }
        }
        Ok(())
    }

    /// Waits until the client's socket takes more.
    async fn await_room(&self) -> Result<(), Broken> {
        let (worker, watched) = (self.worker, &self.connection.watched);
        watched.set(worker.config.http.write_timeout, OnExpiry::BreakAll);
        let ready = self.connection.stream().writable().await;
        watched.clear();
        if ready.is_err() || watched.expired() {
            worker.stats.http.timeouts.add(u64::from(watched.expired()));
            return Err(Broken);
        }
        Ok(())
    }

    async fn copy_file(
        &mut self,
        file: &OpenFile,
        offset: u64,
        len: u64,
        is_intact: impl Fn() -> bool,
    ) -> Result<(), Broken> {
        let (mut at, end) = (offset, offset + len);
        let piece_bytes_max = match &self.wire {
            Wire::H1(_) => PIECE_BYTES_MAX,
            Wire::Stream(_) | Wire::Noted(_) => STREAM_PIECE_BYTES_MAX,
        };
        while at < end {
            let piece = (end - at).min(piece_bytes_max as u64) as usize;
            file.await_resident(at, piece as u64).await;
            let mut buffer = self.worker.hot.take_buffer(piece);
            let read = read_at(file, at, piece, &mut buffer).unwrap_or(0);
            let is_good = read == piece && (at + (piece as u64) < end || is_intact());
            let written = if is_good { self.write(&buffer).await } else { Err(Broken) };
            self.worker.hot.give_buffer_back(buffer);
            written?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Sends what has gathered, in a coding too.
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        if let Some(coder) = self.coder.as_mut().filter(|coder| coder.is_dirty) {
            let mut coded = self.worker.hot.take_buffer(1024);
            coder.is_dirty = false;
            coder.encoder.flush(&mut coded).map_err(|_| Broken)?;
            self.put_coded(coded).await?;
        }
        self.flush_wire().await
    }

    async fn flush_wire(&mut self) -> Result<(), Broken> {
        match &mut self.wire {
            Wire::H1(wire) => self.connection.flush(self.worker, wire.out).await,
            Wire::Stream(wire) if wire.gathered.is_empty() => Ok(()),
            Wire::Noted(_) => Ok(()),
            Wire::Stream(wire) => {
                let data = Bytes::from(std::mem::take(&mut wire.gathered));
                wire.stream.send(self.worker, data, false).await
            }
        }
    }

    /// Ends what changes the content.
    async fn finish_content(&mut self) -> Result<(), Broken> {
        if self.substitution.is_some() {
            Box::pin(self.finish_substitution()).await?;
        }
        if let Some(coder) = self.coder.take() {
            let mut coded = self.worker.hot.take_buffer(1024);
            self.trail.coding = self.trail.coding.map(|(name, _)| (name, coder.bytes_before));
            coder.encoder.finish(&mut coded).map_err(|_| Broken)?;
            self.put_coded(coded).await?;
        }
        Ok(())
    }

    /// Ends the content. The end may still wait to be sent, together with what comes next.
    pub(super) async fn finish(&mut self) -> Result<(), Broken> {
        self.finish_content().await?;
        match &mut self.wire {
            Wire::H1(wire) => {
                if self.framing == BodyKind::Chunked {
                    wire.out.extend_from_slice(LAST_CHUNK);
                }
                Ok(())
            }
            Wire::Stream(wire) if wire.is_broken => Err(Broken),
            Wire::Stream(_) if self.framing == BodyKind::None => Ok(()),
            Wire::Noted(_) => Ok(()),
            Wire::Stream(wire) => {
                let data = Bytes::from(std::mem::take(&mut wire.gathered));
                wire.stream.send(self.worker, data, true).await
            }
        }
    }

    /// The same, with those trailers behind the content that may go on, where the framing has a place for them. What tells of
    /// the bytes of content that we have coded or changed stays here.
    pub(super) async fn finish_with(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        let is_changed = self.coder.is_some() || self.substitution.is_some();
        let has_place = match &self.wire {
            Wire::H1(_) => self.framing == BodyKind::Chunked,
            Wire::Stream(_) => self.framing != BodyKind::None,
            Wire::Noted(_) => false,
        };
        let trailers = trailers.filter(|_| has_place);
        let trailers = trailers.map(|all| if is_changed { trailers::of_changed_content(all) } else { all });
        let Some(trailers) = trailers.and_then(trailers::sift) else { return self.finish().await };
        // What is held back by a coding or a substitution ends first.
        self.finish_content().await?;
        match &mut self.wire {
            Wire::H1(wire) => {
                trailers::write_last_chunk(wire.out, &trailers);
                return Ok(());
            }
            Wire::Stream(_) | Wire::Noted(_) => self.flush_wire().await?,
        }
        match &self.wire {
            Wire::Stream(wire) if !wire.is_broken => wire.stream.end_with(trailers),
            _ => Err(Broken),
        }
    }

    /// Head, content and end in one.
    pub(super) async fn send(&mut self, cx: Option<&Cx<'_>>, head: &AnswerHead<'_>, body: &[u8]) -> Result<(), Broken> {
        self.start(cx, head, OwnFields::ALL);
        self.write(body).await?;
        self.finish().await
    }
}

/// Bytes of the content, if they are known.
fn length_of(content: Content) -> Option<u64> {
    match content {
        Content::Length(length) => Some(length),
        Content::Absent(length) => length,
        Content::Stream => None,
    }
}

/// The client has asked about the weak form of the tag in `fields`: its copy was coded by us.
fn validates_weakly(cx: &Cx<'_>, fields: &[u8]) -> bool {
    let Some(tag) = Fields::new(fields).find("etag").filter(|tag| tag.starts_with(b"\"")) else { return false };
    let weak = [b"W/", tag].concat();
    let Request { head, bytes, .. } = cx.request;
    let mut asked = head.fields.iter().filter(|field| field.known == FieldName::IfNoneMatch);
    asked.any(|field| memchr::memmem::find(field.value.of(bytes), &weak).is_some())
}

/// Appends content in the framing of `kind`.
fn append_content(out: &mut Vec<u8>, kind: BodyKind, data: &[u8]) {
    if kind != BodyKind::Chunked {
        return out.extend_from_slice(data);
    }
    write_chunk_head(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(CHUNK_END);
}
