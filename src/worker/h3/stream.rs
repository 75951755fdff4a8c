//! One stream of HTTP/3 as the two directions of an exchange.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use quinn_proto::{StreamId, VarInt, WriteError};

use super::super::Worker;
use super::super::body::{BodyFailure, Side};
use super::super::connection::Broken;
use super::super::multiplexed::framing;
use super::super::pacing::Pacing;
use super::super::watch::{GaveUp, OnExpiry, Watched};
use super::incoming::{Incoming, Last, Next};
use super::link::Link;
use crate::http::answer::{AnswerHead, Content};
use crate::http::h1::{BodyKind, Method};
use crate::http::h3::{ErrorCode, Failure, Piece, data_head, write_head, write_trailers};

/// Bytes taken from a stream at once. Packets hold less; what has come of several is joined up to this.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// A request whose content is not what its head says: RFC 9114 section 4.1.2.
const MALFORMED: Failure = Failure::Stream(ErrorCode::MESSAGE_ERROR);

/// What both directions of a stream share.
pub(in super::super) struct Stream {
    pub(super) link: Rc<Link>,
    pub(super) id: StreamId,
    /// The deadline of this exchange, apart from those of the connection.
    pub(in super::super) watched: Watched,
    /// Wakes the task of the exchange.
    waker: RefCell<Option<Waker>>,
    stage: Cell<Stage>,
    /// What did not go out yet of heads; content waits behind it.
    pending: RefCell<Bytes>,
    /// Nothing follows what is pending.
    ends_behind_pending: Cell<bool>,
    /// The client wants no answer.
    is_stopped: Cell<bool>,
    /// The client has given up the content of its request.
    is_reset: Cell<bool>,
    /// One of both has been counted.
    is_counted: Cell<bool>,
    /// What comes from the client.
    incoming: RefCell<Incoming>,
    /// The head says that there is no content.
    is_bare: Cell<bool>,
    /// Content has come all the same.
    is_malformed: Cell<bool>,
    /// A read waits for content.
    is_wanted: Cell<bool>,
    /// Content has come that nobody has asked for.
    has_unread: Cell<bool>,
    /// The exchange is over.
    is_left: Cell<bool>,
}

/// Our direction of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No final head yet.
    Waiting,
    /// Content follows.
    Sending,
    /// Ended or reset.
    Done,
}

impl Stream {
    pub(super) fn new(link: &Rc<Link>, id: StreamId) -> Rc<Stream> {
        let section_bytes_max = link.worker().config.http3.header_list_bytes_max as usize;
        Rc::new(Stream {
            link: link.clone(),
            id,
            watched: link.lasting().watches.watch_alone(),
            waker: RefCell::default(),
            stage: Cell::new(Stage::Waiting),
            pending: RefCell::default(),
            ends_behind_pending: Cell::new(false),
            is_stopped: Cell::new(false),
            is_reset: Cell::new(false),
            is_counted: Cell::new(false),
            incoming: RefCell::new(Incoming::new(section_bytes_max)),
            is_bare: Cell::new(false),
            is_malformed: Cell::new(false),
            is_wanted: Cell::new(false),
            has_unread: Cell::new(false),
            is_left: Cell::new(false),
        })
    }

    /// The exchange looks again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn note_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Content, its end or its reset has come.
    pub(super) fn on_readable(&self) {
        // A client that gives up while nobody reads would not be noticed otherwise.
        let reset = self.link.quic.borrow_mut().recv_stream(self.id).received_reset();
        if matches!(reset, Ok(Some(_))) {
            self.note_reset();
        }
        if !self.is_wanted.get() && !self.is_reset.get() && !self.is_left.get() {
            self.set_unread(true);
        }
        self.look_for_unannounced();
        self.wake();
    }

    /// Content that comes although the head says that there is none makes the request malformed (RFC 9114 section 4.1.2). It
    /// is looked for here because nobody reads such a request any further.
    fn look_for_unannounced(&self) {
        if self.is_bare.get() && !self.is_left.get() && !self.is_malformed.get() {
            let mut incoming = self.incoming.borrow_mut();
            incoming.look_ahead(self);
            self.is_malformed.set(incoming.ahead.is_some());
        }
    }

    /// There may be room for more.
    pub(super) fn on_writable(&self) {
        if self.flush_pending() && self.is_left.get() {
            self.link.streams.borrow_mut().remove(&self.id);
        }
        self.wake();
    }

    /// The client wants no answer any more. It is owed a reset (RFC 9000 section 3.5), without which the stream would be
    /// kept for as long as its connection.
    pub(super) fn on_stopped(&self, code: VarInt) {
        self.is_stopped.set(true);
        self.pending.take();
        let _ = self.link.quic.borrow_mut().send_stream(self.id).reset(code);
        self.count_given_up();
        if self.is_left.get() {
            self.link.streams.borrow_mut().remove(&self.id);
        }
        self.wake();
    }

    pub(super) fn note_reset(&self) {
        self.is_reset.set(true);
        self.count_given_up();
    }

    /// Behind the end of an exchange a reset only answers that we want no more of the request.
    fn count_given_up(&self) {
        if !self.is_left.get() && !self.is_counted.replace(true) {
            self.link.on_given_up();
        }
    }

    /// The next piece if it is there. The end is told again and again.
    fn look(&self) -> Option<Next> {
        self.incoming.borrow_mut().look(self)
    }

    fn take_ahead(&self) -> Option<Bytes> {
        self.incoming.borrow_mut().ahead.take()
    }

    pub(super) fn set_unread(&self, has_unread: bool) {
        if self.has_unread.replace(has_unread) == has_unread {
            return;
        }
        let link = &self.link;
        link.unread.set(if has_unread { link.unread.get() + 1 } else { link.unread.get() - 1 });
        let window_bytes = if link.unread.get() > 0 { 0 } else { i64::MAX };
        link.blocked.note(window_bytes, link.lasting().now());
    }

    /// The client has given up the request, or wants no answer.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_stopped.get() || self.is_reset.get()
    }

    /// Content has come that the head says there is none of.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.get()
    }

    /// There is no use in going on.
    fn is_gone(&self) -> bool {
        let is_over = self.is_given_up() || self.is_malformed.get();
        self.link.is_lost() || (is_over && self.stage.get() != Stage::Done)
    }

    /// Runs `work` until it ends, the client leaves, or the deadline passes.
    pub(in super::super) async fn while_client_stays<T>(&self, work: impl Future<Output = T>) -> Result<T, GaveUp> {
        let mut work = pin!(self.watched.while_client_stays(work));
        poll_fn(|cx| {
            self.note_waker(cx);
            if let Poll::Ready(end) = work.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if self.is_gone() { Poll::Ready(Err(GaveUp::ClientGone)) } else { Poll::Pending }
        })
        .await
    }

    /// See [`super::super::multiplexed::Stream::until_gone`].
    pub(in super::super) async fn until_gone<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.note_waker(cx);
            match work.as_mut().poll(cx) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending if self.is_gone() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Sends an interim head.
    pub(in super::super) fn interim(&self, status: u16, fields: &[u8]) -> Result<(), Broken> {
        if self.stage.get() != Stage::Waiting || self.is_gone() {
            return Err(Broken);
        }
        let head = AnswerHead { status, reason: None, fields, content: Content::Absent(None) };
        self.put_head(&head, None, b"", b"");
        self.flush_pending();
        Ok(())
    }

    /// Sends the final head; `Ok(true)`: content follows.
    pub(in super::super) fn start(
        &self,
        head: &AnswerHead<'_>,
        method: Method,
        server: &[u8],
        date: &[u8],
    ) -> Result<bool, Broken> {
        if self.stage.get() != Stage::Waiting || self.is_gone() {
            return Err(Broken);
        }
        let (length, has_content) = framing(head, method);
        self.put_head(head, length, server, date);
        self.stage.set(if has_content { Stage::Sending } else { Stage::Done });
        self.ends_behind_pending.set(!has_content);
        self.flush_pending();
        Ok(has_content)
    }

    fn put_head(&self, head: &AnswerHead<'_>, length: Option<u64>, server: &[u8], date: &[u8]) {
        let mut pending = self.pending.borrow_mut();
        let mut bytes = Vec::from(std::mem::take(&mut *pending));
        write_head(head, length, server, date, &mut bytes);
        *pending = bytes.into();
    }

    /// Hands over what is pending; `true`: nothing of it is left.
    fn flush_pending(&self) -> bool {
        let mut pending = self.pending.borrow_mut();
        while !pending.is_empty() {
            match self.write(std::slice::from_mut(&mut *pending)) {
                Ok(()) => {}
                Err(Unwritten::Blocked) => return false,
                Err(Unwritten::Broken) => pending.clear(),
            }
        }
        drop(pending);
        if self.ends_behind_pending.replace(false) {
            self.finish();
        }
        true
    }

    /// Hands over the beginning of `chunks`, which are moved on.
    fn write(&self, chunks: &mut [Bytes]) -> Result<(), Unwritten> {
        let written = self.link.quic.borrow_mut().send_stream(self.id).write_chunks(chunks);
        match written {
            Ok(_) => {
                self.link.wake();
                Ok(())
            }
            // Perhaps that is told to the client.
            Err(WriteError::Blocked) if !self.link.is_lost() => {
                self.link.wake();
                Err(Unwritten::Blocked)
            }
            Err(_) => Err(Unwritten::Broken),
        }
    }

    fn finish(&self) {
        // It fails if the client has stopped the stream, which has been reset then.
        let _ = self.link.quic.borrow_mut().send_stream(self.id).finish();
        self.link.wake();
    }

    /// Sends all content as the client's windows allow; with `end` the stream is finished behind it.
    pub(in super::super) async fn send(&self, worker: &Worker, data: Bytes, end: bool) -> Result<(), Broken> {
        if self.stage.get() != Stage::Sending {
            return Err(Broken);
        }
        if !data.is_empty() {
            let mut head = Vec::with_capacity(8);
            data_head(data.len(), &mut head);
            let mut chunks = [Bytes::from(head), data];
            while chunks.iter().any(Bytes::has_remaining) {
                let written = if self.flush_pending() { self.write(&mut chunks) } else { Err(Unwritten::Blocked) };
                match written {
                    Ok(()) => {}
                    Err(Unwritten::Blocked) => self.room(worker, &mut chunks).await?,
                    Err(Unwritten::Broken) => return Err(Broken),
                }
            }
        }
        if end {
            self.stage.set(Stage::Done);
            self.ends_behind_pending.set(true);
            self.flush_pending();
        }
        Ok(())
    }

    /// Ends the stream with trailers behind its content.
    pub(in super::super) fn end_with(&self, trailers: &HeaderMap) -> Result<(), Broken> {
        if self.stage.get() != Stage::Sending || self.is_gone() {
            return Err(Broken);
        }
        let mut bytes = Vec::from(self.pending.take());
        write_trailers(trailers, &mut bytes);
        self.pending.replace(bytes.into());
        self.stage.set(Stage::Done);
        self.ends_behind_pending.set(true);
        self.flush_pending();
        Ok(())
    }

    /// Waits until something of `chunks` has gone. The client may be slow, but not silent.
    async fn room(&self, worker: &Worker, chunks: &mut [Bytes; 2]) -> Result<(), Broken> {
        self.watched.set(worker.config.http.write_timeout, OnExpiry::Wake);
        let wait = poll_fn(|_| {
            if !self.flush_pending() {
                return Poll::Pending;
            }
            match self.write(chunks) {
                Err(Unwritten::Blocked) => Poll::Pending,
                written => Poll::Ready(written),
            }
        });
        let written = self.while_client_stays(wait).await;
        self.watched.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(GaveUp::ClientGone) => Err(Broken),
            Err(GaveUp::Expired) => {
                worker.stats.http.timeouts.inc();
                Err(Broken)
            }
        }
    }

    /// Ends both directions so that nobody takes for complete what was sent.
    pub(super) fn reset(&self, code: ErrorCode) {
        self.stop_reading(code);
        let is_done = self.stage.replace(Stage::Done) == Stage::Done && !self.ends_behind_pending.get();
        self.pending.take();
        self.ends_behind_pending.set(false);
        if !is_done {
            let _ = self.link.quic.borrow_mut().send_stream(self.id).reset(var_int(code));
            self.link.wake();
        }
    }

    /// See [`super::super::multiplexed::Stream::cancel`].
    pub(in super::super) fn cancel(&self) {
        self.reset(ErrorCode::REQUEST_CANCELLED);
    }

    /// The client need not send the rest of its request; nothing to do where there is none.
    pub(super) fn stop_reading(&self, code: ErrorCode) {
        if self.link.quic.borrow_mut().recv_stream(self.id).stop(var_int(code)).is_ok() {
            self.link.wake();
        }
    }

    /// The exchange is over.
    pub(super) fn leave(&self) {
        self.set_unread(false);
        self.is_left.set(true);
        if self.pending.borrow().is_empty() {
            self.link.streams.borrow_mut().remove(&self.id);
        } else {
            // Its head goes out when there is room, see `on_writable`. Nobody is woken by then.
            self.waker.take();
        }
    }
}

fn var_int(code: ErrorCode) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}

enum Unwritten {
    /// The client, or our own limit, allows nothing now.
    Blocked,
    /// Nothing will be taken any more.
    Broken,
}

/// Why there is no request on a stream.
pub(super) enum NoHead {
    /// The client has given it up, or is gone.
    Gone,
    /// It took too long.
    Late,
    Failed(Failure),
}

/// The client's direction of a stream.
pub(in super::super) struct Receiver {
    stream: Rc<Stream>,
    /// What Content-Length says.
    expected: Option<u64>,
    received_bytes: u64,
    bytes_max: u64,
    is_done: bool,
    awaits_continue: bool,
    failure: Option<Failure>,
    pacing: Pacing,
    /// Set while the content is read beside other work.
    side: Option<Rc<Side>>,
}

impl Receiver {
    pub(super) fn new(stream: Rc<Stream>) -> Receiver {
        Receiver {
            stream,
            expected: None,
            received_bytes: 0,
            bytes_max: 0,
            is_done: false,
            awaits_continue: false,
            failure: None,
            pacing: Pacing::default(),
            side: None,
        }
    }

    /// What ended the reading.
    pub(super) fn failure(&self) -> Option<Failure> {
        let malformed = self.stream.is_malformed().then_some(MALFORMED);
        self.stream.incoming.borrow().failure().or(self.failure).or(malformed)
    }

    /// An extended CONNECT: nothing comes before it is agreed to.
    pub(super) fn expect_tunnel(&mut self) {
        self.awaits_continue = true;
    }

    /// What the head says of the content to come.
    pub(super) fn set_expected(&mut self, kind: BodyKind, awaits_continue: bool) {
        self.expected = match kind {
            BodyKind::None => Some(0),
            BodyKind::Length(length) => Some(length),
            BodyKind::Chunked | BodyKind::UntilClose => None,
        };
        self.awaits_continue = awaits_continue && !self.is_done;
        self.stream.is_bare.set(self.expected == Some(0) && !self.is_done);
        self.stream.look_for_unannounced();
    }

    /// The field section of the request; `None`: it is too large.
    pub(super) async fn head(&mut self, worker: &Worker) -> Result<Option<Vec<u8>>, NoHead> {
        let stream = self.stream.clone();
        stream.watched.set(worker.config.http.header_timeout, OnExpiry::Wake);
        let next = stream.while_client_stays(poll_fn(|cx| self.poll_next(cx))).await;
        stream.watched.clear();
        match next {
            Ok(Next::Piece(Piece::Head(section))) => Ok(Some(section)),
            Ok(Next::Piece(Piece::HeadTooLarge)) => Ok(None),
            Ok(Next::Last(Last::Failed(failure))) => Err(NoHead::Failed(failure)),
            Err(GaveUp::Expired) => {
                worker.stats.http.timeouts.inc();
                Err(NoHead::Late)
            }
            // The reader lets no content come before the head, nor the end.
            Ok(Next::Piece(Piece::Data(_) | Piece::Trailers(_)) | Next::Last(Last::End | Last::Gone))
            | Err(GaveUp::ClientGone) => Err(NoHead::Gone),
        }
    }

    /// The stream ends where it has come to, as far as is known now.
    pub(super) fn ends_here(&mut self) -> bool {
        self.is_done |= self.stream.incoming.borrow_mut().look_ahead(&self.stream);
        self.is_done
    }

    /// Waits for the next piece.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = match self.stream.look() {
            _ if self.stream.is_malformed() => Some(Next::Last(Last::Failed(MALFORMED))),
            None if self.stream.link.is_lost() => Some(Next::Last(Last::Gone)),
            next => next,
        };
        self.stream.is_wanted.set(next.is_none());
        if next.is_none() {
            self.stream.note_waker(cx);
        }
        next.map_or(Poll::Pending, Poll::Ready)
    }

    /// What came behind the content, once that has been read to its end.
    pub(in super::super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.stream.incoming.borrow_mut().trailers.take()
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
        let next = match self.stream.take_ahead() {
            Some(data) => Ok(Next::Piece(Piece::Data(data))),
            None => self.wait(worker).await?,
        };
        match next {
            Ok(Next::Piece(Piece::Data(data))) => {
                let data = self.join(data);
                self.take(data).map(Some)
            }
            Ok(Next::Last(Last::End)) => {
                self.is_done = true;
                match self.expected.is_some_and(|expected| expected != self.received_bytes) {
                    true => Err(self.fail(MALFORMED)),
                    false => Ok(None),
                }
            }
            Ok(Next::Last(Last::Failed(failure))) => Err(self.fail(failure)),
            Ok(Next::Piece(Piece::Head(_) | Piece::HeadTooLarge | Piece::Trailers(_)) | Next::Last(Last::Gone))
            | Err(GaveUp::ClientGone) => Err(BodyFailure::Gone),
            Err(GaveUp::Expired) => Err(self.pacing.is_late(worker)),
        }
    }

    /// See [`super::super::multiplexed::Receiver::next_tunnelled`].
    pub(in super::super) async fn next_tunnelled(&mut self) -> Result<Option<Bytes>, Broken> {
        self.stream.incoming.borrow_mut().reader.become_tunnel();
        if self.is_done {
            return Ok(None);
        }
        let stream = self.stream.clone();
        let next = match self.stream.take_ahead() {
            Some(data) => Some(Next::Piece(Piece::Data(data))),
            None => stream.until_gone(poll_fn(|cx| self.poll_next(cx))).await,
        };
        match next {
            Some(Next::Piece(Piece::Data(data))) => Ok(Some(self.join(data))),
            Some(Next::Last(Last::End)) => {
                self.is_done = true;
                Ok(None)
            }
            _ => Err(Broken),
        }
    }

    /// Counts content.
    fn take(&mut self, data: Bytes) -> Result<Bytes, BodyFailure> {
        self.received_bytes += data.len() as u64;
        // RFC 9114 section 4.1.2: no more and no less than Content-Length says.
        if self.expected.is_some_and(|expected| self.received_bytes > expected) {
            return Err(self.fail(MALFORMED));
        }
        if self.bytes_max != 0 && self.received_bytes > self.bytes_max {
            return Err(BodyFailure::TooLarge);
        }
        Ok(data)
    }

    fn fail(&mut self, failure: Failure) -> BodyFailure {
        self.failure = Some(failure);
        BodyFailure::Gone
    }

    /// Puts further content that is there already behind `data`: packets are small.
    fn join(&mut self, data: Bytes) -> Bytes {
        if data.len() >= CHUNK_BYTES {
            return data;
        }
        let mut joined = Vec::new();
        while data.len().max(joined.len()) < CHUNK_BYTES {
            match self.stream.look() {
                Some(Next::Piece(Piece::Data(more))) => {
                    if joined.is_empty() {
                        joined.reserve(CHUNK_BYTES + more.len());
                        joined.extend_from_slice(&data);
                    }
                    joined.extend_from_slice(&more);
                }
                // An end will be found again.
                _ => break,
            }
        }
        if joined.is_empty() { data } else { joined.into() }
    }

    /// Waits for content as long as the client may take for it. While it could not send, its time stands still.
    async fn wait(&mut self, worker: &Worker) -> Result<Result<Next, GaveUp>, BodyFailure> {
        let stream = self.stream.clone();
        let side = self.side.clone();
        let watched = side.as_ref().map_or(&stream.watched, |side| side.watched());
        let blocked = stream.link.blocked.clone();
        loop {
            let blocked_before = blocked.total(worker.now());
            let waiting = self.pacing.begin(worker, watched, OnExpiry::Wake)?;
            let next = watched.while_client_stays(poll_fn(|cx| self.poll_next(cx))).await;
            watched.clear();
            let blocked = blocked.total(worker.now()).saturating_sub(blocked_before);
            let count = if let Ok(Next::Piece(Piece::Data(data))) = &next { data.len() } else { 0 };
            self.pacing.end(waiting, count, blocked);
            if !matches!(next, Err(GaveUp::Expired)) || blocked.is_zero() {
                return Ok(next);
            }
        }
    }
}
