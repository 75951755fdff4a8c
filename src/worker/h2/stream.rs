//! One stream of HTTP/2 as the two directions of an exchange.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::super::Worker;
use super::super::blocked::Blocked;
use super::super::body::{BodyFailure, Side};
use super::super::connection::Broken;
use super::super::connection::{LINGER, LINGER_BYTES_MAX};
use super::super::multiplexed::framing;
use super::super::pacing::Pacing;
use super::super::watch::{GaveUp, OnExpiry, Watched};
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::Method;

/// Less than this is not worth a frame while there is more to send.
const SMALL_BYTES: usize = 1024;

/// Payload of the frames that every client takes: RFC 9113 section 4.2.
const FRAME_BYTES: usize = 16 * 1024;

/// How long a small rest of a window waits for more of it.
const SMALL_WAIT: Duration = Duration::from_millis(200);

/// What both directions of a stream share.
pub(in super::super) struct Stream {
    /// The deadline of this exchange, apart from those of the connection.
    pub(in super::super) watched: Watched,
    sender: RefCell<Sender>,
}

/// Our direction of the stream.
enum Sender {
    /// No final head yet.
    Waiting(SendResponse<Bytes>),
    /// Content follows.
    Sending(SendStream<Bytes>),
    /// Ended or reset.
    Done,
}

impl Stream {
    pub(super) fn new(worker: &Worker, respond: SendResponse<Bytes>) -> Stream {
        Stream { watched: worker.watches.watch_alone(), sender: RefCell::new(Sender::Waiting(respond)) }
    }

    /// The client has reset the stream, or the connection is gone.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.sender.borrow_mut() {
            Sender::Waiting(respond) => respond.poll_reset(cx).map(drop),
            Sender::Sending(stream) => stream.poll_reset(cx).map(drop),
            Sender::Done => Poll::Pending,
        }
    }

    /// Runs `work` until it ends, the client leaves, or the deadline passes.
    pub(in super::super) async fn while_client_stays<T>(&self, work: impl Future<Output = T>) -> Result<T, GaveUp> {
        let mut work = pin!(self.watched.while_client_stays(work));
        poll_fn(|cx| {
            if let Poll::Ready(end) = work.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            self.poll_gone(cx).map(|()| Err(GaveUp::ClientGone))
        })
        .await
    }

    /// See [`super::super::multiplexed::Stream::until_gone`].
    pub(in super::super) async fn until_gone<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => self.poll_gone(cx).map(|()| None),
        })
        .await
    }

    /// Sends an interim head.
    pub(in super::super) fn interim(&self, status: u16, fields: &[u8]) -> Result<(), Broken> {
        let head = AnswerHead { status, reason: None, fields, content: Content::Absent(None) };
        match &mut *self.sender.borrow_mut() {
            Sender::Waiting(respond) => {
                respond.send_informational(crate::http::h2::response(&head, None, b"", b"")).map_err(|_| Broken)
            }
            _ => Err(Broken),
        }
    }

    /// Sends the final head; `Ok(true)`: content follows.
    pub(in super::super) fn start(
        &self,
        head: &AnswerHead<'_>,
        method: Method,
        server: &[u8],
        date: &[u8],
    ) -> Result<bool, Broken> {
        let (length, has_content) = framing(head, method);
        let response = crate::http::h2::response(head, length, server, date);
        let mut sender = self.sender.borrow_mut();
        let Sender::Waiting(respond) = &mut *sender else { return Err(Broken) };
        let stream = respond.send_response(response, !has_content).map_err(|_| Broken)?;
        *sender = if has_content { Sender::Sending(stream) } else { Sender::Done };
        Ok(has_content)
    }

    /// Sends all content as the client's windows allow; with `end` the stream is finished behind it.
    pub(in super::super) async fn send(&self, worker: &Worker, data: Bytes, end: bool) -> Result<(), Broken> {
        let is_empty = data.is_empty();
        self.send_down_to(worker, data, 0, end).await?;
        if !end {
            return Ok(());
        }
        match self.sender.replace(Sender::Done) {
            Sender::Sending(mut stream) if is_empty => stream.send_data(Bytes::new(), true).map_err(|_| Broken),
            Sender::Sending(_) => Ok(()),
            _ => Err(Broken),
        }
    }

    /// Ends the stream with trailers behind its content.
    pub(in super::super) fn end_with(&self, trailers: HeaderMap) -> Result<(), Broken> {
        match self.sender.replace(Sender::Done) {
            Sender::Sending(mut stream) => stream.send_trailers(trailers).map_err(|_| Broken),
            _ => Err(Broken),
        }
    }

    /// The same for content of which more comes at once: returns a rest that is not worth a frame.
    pub(in super::super) async fn send_most(&self, worker: &Worker, data: Bytes) -> Result<Bytes, Broken> {
        self.send_down_to(worker, data, SMALL_BYTES - 1, false).await
    }

    /// Sends until at most `rest_bytes_max` bytes are left, which it returns; with `end` the last frame ends the stream.
    async fn send_down_to(
        &self,
        worker: &Worker,
        mut data: Bytes,
        rest_bytes_max: usize,
        end: bool,
    ) -> Result<Bytes, Broken> {
        while data.len() > rest_bytes_max {
            let ready = match &mut *self.sender.borrow_mut() {
                Sender::Sending(stream) => {
                    stream.reserve_capacity(data.len());
                    stream.capacity()
                }
                _ => return Err(Broken),
            };
            let capacity = match ready {
                0 => self.capacity(worker, 1, worker.config.http.write_timeout).await?.ok_or(Broken)?,
                // The rest of a window, when more of it is about to be opened: a frame of a few bytes costs both sides as
                // much as a full one.
                1..SMALL_BYTES if ready < data.len() => {
                    let at_least = data.len().min(SMALL_BYTES);
                    self.capacity(worker, at_least, SMALL_WAIT).await?.unwrap_or(ready)
                }
                ready => ready,
            };
            let mut piece_bytes = capacity.min(data.len());
            // The crate cuts what it is given into frames: a last one of a few bytes waits for what comes next.
            let behind_frames = piece_bytes % FRAME_BYTES;
            if piece_bytes > FRAME_BYTES && behind_frames <= rest_bytes_max {
                piece_bytes -= behind_frames;
            }
            let piece = data.split_to(piece_bytes);
            let is_last = end && data.is_empty();
            match &mut *self.sender.borrow_mut() {
                Sender::Sending(stream) => stream.send_data(piece, is_last).map_err(|_| Broken)?,
                _ => return Err(Broken),
            }
        }
        Ok(data)
    }

    /// Waits until the client's windows, and our own limit, let us send `at_least` bytes; `None`: not within `time`. The
    /// client may be slow, but not silent: the write time-out counts from the last byte it allowed.
    async fn capacity(&self, worker: &Worker, at_least: usize, time: Duration) -> Result<Option<usize>, Broken> {
        self.watched.set(time, OnExpiry::Wake);
        let wait = poll_fn(|cx| match &mut *self.sender.borrow_mut() {
            Sender::Sending(stream) => loop {
                match stream.poll_capacity(cx) {
                    // It tells of earlier changes too.
                    Poll::Ready(Some(Ok(capacity))) if capacity < at_least => {}
                    capacity => return capacity,
                }
            },
            _ => Poll::Ready(None),
        });
        let capacity = self.watched.while_client_stays(wait).await;
        self.watched.clear();
        match capacity {
            Ok(Some(Ok(capacity))) => Ok(Some(capacity)),
            Ok(_) | Err(GaveUp::ClientGone) => Err(Broken),
            Err(GaveUp::Expired) => {
                worker.stats.http.timeouts.add(u64::from(time != SMALL_WAIT));
                Ok(None)
            }
        }
    }

    /// Ends the stream so that nobody takes for complete what was sent.
    pub(super) fn reset(&self) {
        self.reset_with(Reason::INTERNAL_ERROR);
    }

    /// See [`super::super::multiplexed::Stream::cancel`].
    pub(in super::super) fn cancel(&self) {
        self.reset_with(Reason::CANCEL);
    }

    fn reset_with(&self, reason: Reason) {
        match self.sender.replace(Sender::Done) {
            Sender::Waiting(mut respond) => respond.send_reset(reason),
            Sender::Sending(mut stream) => stream.send_reset(reason),
            // What is left of the client's direction ends with its receiver.
            Sender::Done => {}
        }
    }
}

/// What the crate has of a stream: a run of content, or its end.
type Data = Option<Result<Bytes, h2::Error>>;

/// The client's direction of a stream.
pub(in super::super) struct Receiver {
    recv: RecvStream,
    stream: Rc<Stream>,
    /// Handed out and not yet given back to the client's window.
    lent: usize,
    /// What came behind the content.
    trailers: Option<HeaderMap>,
    received_bytes: u64,
    bytes_max: u64,
    is_done: bool,
    awaits_continue: bool,
    pacing: Pacing,
    blocked: Rc<Blocked>,
    /// Set while the content is read beside other work.
    side: Option<Rc<Side>>,
}

impl Receiver {
    /// `blocked` is what the streams of the connection share.
    pub(super) fn new(recv: RecvStream, stream: Rc<Stream>, blocked: Rc<Blocked>, awaits_continue: bool) -> Receiver {
        let is_done = recv.is_end_stream();
        let (lent, received_bytes, bytes_max, side, pacing) = (0, 0, 0, None, Pacing::default());
        let trailers = None;
        Receiver {
            recv,
            stream,
            lent,
            trailers,
            received_bytes,
            bytes_max,
            is_done,
            awaits_continue,
            pacing,
            blocked,
            side,
        }
    }

    /// Content beyond `bytes_max` is refused; 0: no limit.
    pub(in super::super) fn set_limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(in super::super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(in super::super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// See [`super::super::upload::Upload::begin_dialogue`].
    pub(in super::super) fn begin_dialogue(&mut self) {
        self.pacing.switch_off();
    }

    /// See [`super::super::upload::Upload::begin_beside`].
    pub(in super::super) fn begin_beside(&mut self, worker: &Worker) -> Rc<Side> {
        let side = Side::new(worker.watches.watch_alone());
        self.side = Some(side.clone());
        side
    }

    /// Reads and drops the content, unless the client waits to be asked for it.
    pub(in super::super) async fn take_in(&mut self, worker: &Worker) -> Result<(), BodyFailure> {
        if !self.awaits_continue {
            while self.next(worker).await?.is_some() {}
        }
        Ok(())
    }

    /// The answer is complete: reads and drops what the client still sends, as for a connection of HTTP/1. A stream that is ended meanwhile
    /// (RFC 9113 section 8.1) takes its answer along in clients that read the end first.
    pub(super) async fn linger(mut self, worker: &Worker) {
        if self.is_done || self.awaits_continue {
            return;
        }
        self.bytes_max = 0;
        let bytes_max = self.received_bytes + LINGER_BYTES_MAX;
        let discard =
            async { while self.received_bytes < bytes_max && matches!(self.next(worker).await, Ok(Some(_))) {} };
        // Whether it ended in time makes no difference.
        let _ = crate::runtime::time::timeout(LINGER, discard).await;
    }

    /// Tells the client to send, if it waits for that.
    pub(in super::super) fn ask(&mut self) -> Result<(), BodyFailure> {
        if std::mem::take(&mut self.awaits_continue) && !self.is_done {
            self.stream.interim(100, b"").map_err(|Broken| BodyFailure::Gone)?;
        }
        Ok(())
    }

    /// The next run of content; `None` at the end.
    pub(in super::super) async fn next(&mut self, worker: &Worker) -> Result<Option<Bytes>, BodyFailure> {
        self.ask()?;
        if self.is_done {
            return Ok(None);
        }
        self.give_back();
        match self.wait(worker).await? {
            Ok(Some(Ok(data))) => {
                self.received_bytes += data.len() as u64;
                self.lent = data.len();
                if self.bytes_max != 0 && self.received_bytes > self.bytes_max {
                    return Err(BodyFailure::TooLarge);
                }
                self.is_done = data.is_empty() && self.recv.is_end_stream();
                Ok(Some(data).filter(|_| !self.is_done))
            }
            Ok(None) => {
                self.is_done = true;
                self.trailers = self.trailers_behind().await?;
                Ok(None)
            }
            Ok(Some(Err(_))) | Err(GaveUp::ClientGone) => Err(BodyFailure::Gone),
            Err(GaveUp::Expired) => Err(self.pacing.is_late(worker)),
        }
    }

    /// See [`super::super::multiplexed::Receiver::next_tunnelled`].
    pub(in super::super) async fn next_tunnelled(&mut self) -> Result<Option<Bytes>, Broken> {
        self.give_back();
        let stream = self.stream.clone();
        while !self.is_done {
            let recv = &mut self.recv;
            match stream.until_gone(poll_fn(|cx| recv.poll_data(cx))).await {
                Some(Some(Ok(data))) if data.is_empty() => self.is_done = self.recv.is_end_stream(),
                Some(Some(Ok(data))) => {
                    self.lent = data.len();
                    return Ok(Some(data));
                }
                // RFC 9113 section 8.5: nothing but content.
                Some(None) if matches!(self.recv.trailers().await, Ok(None)) => self.is_done = true,
                Some(_) | None => return Err(Broken),
            }
        }
        Ok(None)
    }

    /// What was handed out is done with: the client may send as much again.
    fn give_back(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            let _ = self.recv.flow_control().release_capacity(lent);
        }
    }

    /// What stands behind the content, which has ended: the crate has it by then.
    async fn trailers_behind(&mut self) -> Result<Option<HeaderMap>, BodyFailure> {
        match poll_fn(|cx| Poll::Ready(self.recv.poll_trailers(cx))).await {
            Poll::Ready(trailers) => trailers.map_err(|_| BodyFailure::Gone),
            Poll::Pending => Ok(None),
        }
    }

    /// What came behind the content, once that has been read to its end.
    pub(in super::super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Waits for content as long as the client may take for it. While it could not send, its time stands still.
    async fn wait(&mut self, worker: &Worker) -> Result<Result<Data, GaveUp>, BodyFailure> {
        let stream = self.stream.clone();
        let watched = self.side.as_ref().map_or(&stream.watched, |side| side.watched());
        loop {
            let blocked_before = self.blocked.total(worker.now());
            let waiting = self.pacing.begin(worker, watched, OnExpiry::Wake)?;
            let recv = &mut self.recv;
            let next = watched.while_client_stays(poll_fn(|cx| recv.poll_data(cx))).await;
            watched.clear();
            let blocked = self.blocked.total(worker.now()).saturating_sub(blocked_before);
            let count = if let Ok(Some(Ok(data))) = &next { data.len() } else { 0 };
            self.pacing.end(waiting, count, blocked);
            if !matches!(next, Err(GaveUp::Expired)) || blocked.is_zero() {
                return Ok(next);
            }
        }
    }
}
