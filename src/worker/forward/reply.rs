//! The answer of a server of FastCGI or SCGI: its head in the words of HTTP, its content as it comes, and what its program
//! complains of into our own log.
//!
//! FastCGI says where an answer ends: one that breaks off before breaks the client's answer off too. SCGI ends with the
//! connection, so that only a Content-Length tells a part from the whole.

use std::cell::RefCell;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use super::attempt::{At, Response};
use super::gateway::Gateway;
use super::relay::BrokeOff;
use super::{Forward, NoResponse, TryFailed};
use crate::http::h1::{BodyKind, ResponseHead, parse_response};
use crate::proxy::gateway::{
    Complaints, Decoder, End, Event, ProtocolStatus, RecordError, Redirects, head_end, write_head,
};
use crate::proxy::retry::Situation;
use crate::worker::answer::Answer;
use crate::worker::exchange::{Instead, Request};
use crate::worker::redirected::Sent;
use crate::worker::replaced::internal_target;
use crate::worker::watch::OnExpiry;

/// How long the end of an answer is awaited behind the last byte of its content.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// An answer on its way, and what has come of it.
pub(super) type Reply = RefCell<Incoming>;

/// What has been read of an answer and how far it has been understood.
#[derive(Default)]
pub(super) struct Incoming {
    /// From the server, not looked at before `at`.
    raw: Vec<u8>,
    at: usize,
    /// `None`: the content comes as it is, until the connection ends.
    records: Option<Decoder>,
    end: Option<Ended>,
    complaints: Complaints,
    /// Something has come at all.
    has_begun: bool,
    /// Target whose answer is to be sent in the place of this one.
    redirect: Option<Vec<u8>>,
}

/// How an answer has ended.
#[derive(Clone, Copy)]
enum Ended {
    Record(End),
    /// With its connection.
    Close,
}

impl Incoming {
    /// Nothing so far.
    pub(super) fn begin(gateway: &Gateway<'_>, buffer: Vec<u8>) -> Reply {
        let records = gateway.has_records().then(Decoder::default);
        RefCell::new(Incoming { raw: buffer, records, ..Incoming::default() })
    }

    /// The next run of content, as a range of `raw`; `None`: nothing more has come.
    fn next(&mut self, mut complain: impl FnMut(&str)) -> Result<Option<Range<usize>>, RecordError> {
        let Some(records) = &mut self.records else {
            let rest = self.at..self.raw.len();
            self.at = self.raw.len();
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        };
        while self.end.is_none() {
            let begin = self.at;
            let decoded = records.decode(&self.raw[begin..])?;
            self.at += decoded.consumed;
            match decoded.event {
                None => break,
                Some(Event::Stdout(range)) => return Ok(Some(begin + range.start..begin + range.end)),
                Some(Event::Stderr(range)) => {
                    self.complaints.take(&self.raw[begin + range.start..begin + range.end], &mut complain);
                }
                Some(Event::End(end)) => self.end = Some(Ended::Record(end)),
            }
        }
        Ok(None)
    }

    /// The connection can serve another request: the server has said that the answer ends, and nothing came behind it.
    fn is_clean(&self) -> bool {
        let is_complete = matches!(self.end, Some(Ended::Record(End { protocol: ProtocolStatus::Complete, .. })));
        is_complete && self.at == self.raw.len()
    }
}

/// What has been passed on of the content.
struct Passed {
    /// What is to come by the word of the program; `None`: it has not said.
    left: Option<u64>,
    /// More has come than it has said.
    has_surplus: bool,
}

impl Forward<'_> {
    /// Waits for the head of the answer. What has come of the content lies behind it, as in an answer of HTTP.
    pub(super) async fn receive_reply(
        &self,
        at: At<'_>,
        reply: &Reply,
        closed: Situation,
    ) -> Result<Response, NoResponse> {
        let mut incoming = reply.take();
        let received = self.receive_reply_head(at, &mut incoming, closed).await;
        reply.replace(incoming);
        at.connection.watched.clear();
        received
    }

    async fn receive_reply_head(
        &self,
        at: At<'_>,
        incoming: &mut Incoming,
        closed: Situation,
    ) -> Result<Response, NoResponse> {
        let failed = |situation| NoResponse::Failed(TryFailed { situation, sent: true });
        let malformed = |error: &dyn std::fmt::Display| {
            tracing::warn!(upstream = %self.config.name, %error, "server sent a malformed response");
            failed(Situation::FreshClosed)
        };
        let bytes_max = self.worker.limits.head_bytes_max;
        let mut content = self.worker.hot.take_buffer(1024);
        let mut searched = 0;
        let end = loop {
            let next = incoming.next(|line| self.complain(at.server, line)).map_err(|error| malformed(&error))?;
            if let Some(range) = next {
                content.extend_from_slice(&incoming.raw[range]);
                if let Some(end) = head_end(&content, searched, bytes_max).map_err(|error| malformed(&error))? {
                    break end;
                }
                searched = content.len();
                continue;
            }
            match incoming.end {
                Some(Ended::Record(End {
                    protocol: ProtocolStatus::Overloaded | ProtocolStatus::CantMultiplex,
                    ..
                })) => {
                    tracing::debug!(upstream = %self.config.name, "server has no room for a request");
                    return Err(failed(Situation::Refused));
                }
                Some(Ended::Record(End { protocol: ProtocolStatus::UnknownRole, .. })) => {
                    return Err(malformed(&"it takes no requests of the role of a responder"));
                }
                Some(_) => return Err(malformed(&"it ends without a head")),
                None => {}
            }
            match self.read_more(at, incoming).await {
                Ok(count) if count > 0 => {}
                _ if at.connection.watched.expired() => return Err(failed(Situation::ResponseTimeout)),
                _ if !incoming.has_begun => return Err(failed(closed)),
                _ => return Err(failed(Situation::FreshClosed)),
            }
        };
        let mut head = self.worker.hot.take_response_head();
        let mut input = self.worker.hot.take_buffer(content.len() + 64);
        let redirects = if self.cx.options.x_accel { Redirects::Inside } else { Redirects::ByClient };
        let inside = write_head(&content[..end], redirects, &mut input).map_err(|error| malformed(&error))?;
        // With a fragment only the client can do something.
        incoming.redirect = inside.filter(|location| !location.contains(&b'#')).and_then(internal_target);
        match parse_response(&input, &self.worker.limits, self.method(), &mut head) {
            Ok(Some(())) => {}
            Ok(None) => return Err(malformed(&"a head without an end")),
            Err(error) => return Err(malformed(&error)),
        }
        head.keep_alive = self.gateway.as_ref().is_some_and(|gateway| self.keeps_gateway(gateway));
        input.extend_from_slice(&content[end..]);
        self.worker.hot.give_buffer_back(content);
        Ok(Response { head, input })
    }

    /// Where a program sends the request inside, as if the client had asked for that (RFC 3875 section 6.2.2).
    pub(super) fn redirected(&self, reply: &Reply) -> Option<Instead> {
        let target = reply.borrow_mut().redirect.take()?;
        Some(Instead::Go { target, sent: Sent::AsAsked })
    }

    /// Relays the content behind the head in `input`. `Ok`: whether the connection can be used again; `Err` when it broke off.
    pub(super) async fn relay_reply(
        &self,
        answer: &mut Answer<'_>,
        (head, input): (&ResponseHead, Vec<u8>),
        at: At<'_>,
        reply: &Reply,
    ) -> Result<bool, BrokeOff> {
        let mut incoming = reply.take();
        let relayed = self.relay_incoming(answer, (head, &input), at, &mut incoming).await;
        self.worker.hot.give_buffer_back(input);
        reply.replace(incoming);
        relayed
    }

    async fn relay_incoming(
        &self,
        answer: &mut Answer<'_>,
        (head, input): (&ResponseHead, &[u8]),
        at: At<'_>,
        incoming: &mut Incoming,
    ) -> Result<bool, BrokeOff> {
        let left = match head.body {
            BodyKind::None => Some(0),
            BodyKind::Length(bytes) => Some(bytes),
            BodyKind::Chunked | BodyKind::UntilClose => None,
        };
        let mut passed = Passed { left, has_surplus: false };
        passed.pass(answer, &input[head.head_bytes..]).await?;
        while passed.left != Some(0) && incoming.end.is_none() {
            match incoming.next(|line| self.complain(at.server, line)) {
                Ok(Some(range)) => passed.pass(answer, &incoming.raw[range]).await?,
                Ok(None) if incoming.end.is_some() => {}
                Ok(None) => self.await_content(answer, at, incoming).await?,
                Err(error) => {
                    tracing::warn!(upstream = %self.config.name, %error, "server broke a response off");
                    return Err(BrokeOff::Server);
                }
            }
        }
        let broken = match (passed.left, incoming.end) {
            (Some(0), _) => None,
            (Some(_), _) => Some("a program ended before the Content-Length of its answer"),
            (None, Some(Ended::Record(End { protocol, .. }))) if protocol != ProtocolStatus::Complete => {
                Some("a server gave an answer up that it had begun")
            }
            (None, _) => None,
        };
        if let Some(why) = broken {
            tracing::warn!(upstream = %self.config.name, "{why}");
            // What there is of it may be of use; its end tells that it is not all.
            answer.flush().await.map_err(|_| BrokeOff::Client)?;
            return Err(BrokeOff::Server);
        }
        answer.finish().await.map_err(|_| BrokeOff::Client)?;
        self.await_end(at, incoming, &mut passed).await;
        Ok(incoming.is_clean() && !passed.has_surplus)
    }

    /// Nothing more is here: what is ready leaves, and more is awaited.
    async fn await_content(
        &self,
        answer: &mut Answer<'_>,
        at: At<'_>,
        incoming: &mut Incoming,
    ) -> Result<(), BrokeOff> {
        answer.flush().await.map_err(|_| BrokeOff::Client)?;
        at.connection.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
        // A client that has left wants no more of it; closing the connection tells the program.
        let read = self.presence.while_client_stays(pin!(self.read_more(at, incoming))).await;
        let read = read.map_err(|_| BrokeOff::Client)?;
        at.connection.watched.clear();
        match read {
            Ok(count) if count > 0 => Ok(()),
            // An end that we brought about is none.
            Ok(_) if incoming.records.is_none() && !at.connection.watched.is_broken() => {
                incoming.end = Some(Ended::Close);
                Ok(())
            }
            _ => Err(BrokeOff::Server),
        }
    }

    /// The client has all of the answer. What the server says behind it decides only whether the connection serves another one,
    /// and what is complained of; it is awaited for a moment.
    async fn await_end(&self, at: At<'_>, incoming: &mut Incoming, passed: &mut Passed) {
        if incoming.records.is_none() {
            return;
        }
        at.connection.watched.set(END_PATIENCE, OnExpiry::BreakAll);
        while incoming.end.is_none() {
            match incoming.next(|line| self.complain(at.server, line)) {
                Ok(Some(_)) => passed.has_surplus = true,
                Ok(None) if incoming.end.is_some() => {}
                // What it still says is for nobody.
                Ok(None) if passed.has_surplus => break,
                Ok(None) => match self.read_more(at, incoming).await {
                    Ok(count) if count > 0 => {}
                    _ => break,
                },
                Err(_) => break,
            }
        }
        at.connection.watched.clear();
    }

    /// Reads what is there into the place of what has been used.
    async fn read_more(&self, at: At<'_>, incoming: &mut Incoming) -> std::io::Result<usize> {
        debug_assert!(incoming.at == incoming.raw.len() || incoming.end.is_some());
        let mut raw = std::mem::take(&mut incoming.raw);
        raw.clear();
        incoming.at = 0;
        let room = self.worker.config.process.stream_buffer_bytes;
        if raw.capacity() < room {
            raw.reserve(room);
        }
        let (result, raw) = at.connection.read(self.worker, raw).await;
        incoming.raw = raw;
        incoming.has_begun |= matches!(result, Ok(count) if count > 0);
        result
    }

    /// The answer is over, whatever became of it.
    pub(super) fn end_reply(&self, server: usize, reply: Reply) {
        let mut incoming = reply.into_inner();
        incoming.complaints.end(|line| self.complain(server, line));
        self.worker.hot.give_buffer_back(incoming.raw);
    }

    /// A line that a program wrote to its standard error.
    fn complain(&self, server: usize, line: &str) {
        let id = Request::id_text(self.request.id);
        let request = std::str::from_utf8(&id).unwrap_or_default();
        let server = &self.config.servers[server].address;
        tracing::warn!(upstream = %self.config.name, %server, request, "stderr: {line}");
    }
}

impl Passed {
    /// Passes content on, up to what was announced.
    async fn pass(&mut self, answer: &mut Answer<'_>, content: &[u8]) -> Result<(), BrokeOff> {
        let count = match &mut self.left {
            None => content.len(),
            Some(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(content.len());
                *left -= count as u64;
                count
            }
        };
        self.has_surplus |= count < content.len();
        if count == 0 { Ok(()) } else { answer.write(&content[..count]).await.map_err(|_| BrokeOff::Client) }
    }
}
