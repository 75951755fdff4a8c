//! The content of a request as the actions see it, whichever protocol it comes in.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;

use super::Worker;
use super::body::{BodyFailure, RequestBody, Side};
use super::connection::Connection;
use super::exchange::DISCARD_BYTES_MAX;
use super::hot::Input;
use super::multiplexed::Receiver;
use crate::http::h1::BodyKind;
use crate::http::trailers;

/// The content of one request.
pub(super) enum Upload<'a> {
    H1 {
        body: &'a mut RequestBody,
        input: &'a mut Input,
    },
    Stream(&'a mut Receiver),
    /// None at all.
    Nothing,
}

/// What the actions that had a request before have left of its content.
pub(super) enum Left {
    /// All of it: nobody has read it.
    Unread,
    /// All of it, in memory.
    Kept(Bytes),
    /// Not all of it.
    Spent,
}

impl Left {
    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Left::Spent)
    }
}

/// A run of content.
pub(super) enum Piece<'a> {
    /// In the connection's buffer.
    Slice(&'a [u8]),
    /// In memory of its own.
    Shared(Bytes),
}

impl Piece<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Slice(slice) => slice,
            Piece::Shared(bytes) => bytes,
        }
    }

    /// For another thread, or for later.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Piece::Slice(slice) => Bytes::copy_from_slice(slice),
            Piece::Shared(bytes) => bytes,
        }
    }
}

impl Upload<'_> {
    /// It has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Upload::H1 { body, .. } => body.is_done(),
            Upload::Stream(receiver) => receiver.is_done(),
            Upload::Nothing => true,
        }
    }

    /// Content beyond `bytes_max` is refused; 0: no limit.
    pub(super) fn set_limit(&mut self, bytes_max: u64) {
        match self {
            Upload::H1 { body, .. } => body.set_limit(bytes_max),
            Upload::Stream(receiver) => receiver.set_limit(bytes_max),
            Upload::Nothing => {}
        }
    }

    /// Nobody will read it to its end, because it is too long for that or the client waits to be asked: the connection
    /// cannot be used again.
    pub(super) fn ends_connection_unread(&self, kind: BodyKind) -> bool {
        match self {
            Upload::H1 { body, .. } => {
                body.is_unasked() || matches!(kind, BodyKind::Length(bytes) if bytes > DISCARD_BYTES_MAX)
            }
            // A stream that is not read to its end is reset, and the others go on.
            Upload::Stream(_) | Upload::Nothing => false,
        }
    }

    /// Bytes of content received so far.
    pub(super) fn received_bytes(&self) -> u64 {
        match self {
            Upload::H1 { body, .. } => body.received_bytes(),
            Upload::Stream(receiver) => receiver.received_bytes(),
            Upload::Nothing => 0,
        }
    }

    /// The next run of content; `None` at the end.
    pub(super) async fn next(
        &mut self,
        worker: &Worker,
        connection: &Connection,
    ) -> Result<Option<Piece<'_>>, BodyFailure> {
        match self {
            Upload::H1 { body, input } => {
                let range = body.next(worker, connection, input).await?;
                Ok(range.map(|range| Piece::Slice(&input.bytes[range])))
            }
            Upload::Stream(receiver) => Ok(receiver.next(worker).await?.map(Piece::Shared)),
            Upload::Nothing => Ok(None),
        }
    }

    /// What came behind the content, once that has been read to its end, as far as it may go on.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Upload::Stream(receiver) => receiver.take_trailers().and_then(trailers::sift),
            Upload::H1 { body, .. } => body.take_trailers(),
            Upload::Nothing => None,
        }
    }

    /// Reads what is there of the content into `kept`, up to a little more than `bytes_max` bytes; `true`: that is all of it.
    /// Over HTTP/1 nothing is read: a read that has begun must be waited for.
    pub(super) async fn keep_ready(
        &mut self,
        worker: &Worker,
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyFailure> {
        let Upload::Stream(receiver) = self else { return Ok(self.is_done()) };
        while kept.len() <= bytes_max {
            let mut next = std::pin::pin!(receiver.next(worker));
            match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                Poll::Pending => return Ok(false),
                Poll::Ready(next) => match next? {
                    None => return Ok(true),
                    Some(data) => kept.extend_from_slice(&data),
                },
            }
        }
        Ok(receiver.is_done())
    }

    /// Reads the whole content into `kept` when that takes at most `bytes_max` bytes, and unless `has_room`, which is told of the
    /// bytes of each piece that has come, says that this was the last one; `false` when it is longer, what was read by then being
    /// in `kept`.
    pub(super) async fn keep_while(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        kept: &mut Vec<u8>,
        bytes_max: usize,
        mut has_room: impl FnMut(usize) -> bool,
    ) -> Result<bool, BodyFailure> {
        while kept.len() <= bytes_max {
            let Some(piece) = self.next(worker, connection).await? else { return Ok(true) };
            kept.extend_from_slice(piece.as_slice());
            if !has_room(piece.as_slice().len()) {
                break;
            }
        }
        Ok(self.is_done())
    }

    /// Reads the rest and throws it away; `false` when there is much of it, or it failed.
    pub(super) async fn discard(&mut self, worker: &Worker, connection: &Connection) -> bool {
        match self {
            Upload::H1 { body, input } => body.discard(worker, connection, input, DISCARD_BYTES_MAX).await,
            Upload::Stream(_) | Upload::Nothing => true,
        }
    }

    /// Before an answer that says nothing about the content. Over HTTP/2 and HTTP/3 that is read and dropped, because clients of a
    /// request that went well send it to its end whatever they have got by then; curl 7.88 waits for ever if the answer
    /// is complete before. Over HTTP/1 it is discarded behind the answer.
    pub(super) async fn take_in(&mut self, worker: &Worker) -> Result<(), BodyFailure> {
        match self {
            Upload::Stream(receiver) => receiver.take_in(worker).await,
            _ => Ok(()),
        }
    }

    /// Tells a client that waits for it to send.
    pub(super) async fn ask(&mut self, worker: &Worker, connection: &Connection) -> Result<(), BodyFailure> {
        match self {
            Upload::H1 { body, .. } => body.ask(worker, connection).await,
            Upload::Stream(receiver) => receiver.ask(),
            Upload::Nothing => Ok(()),
        }
    }

    /// The content is one side of a dialogue, in which the client may wait for the other one: its silence is not looked at any
    /// more, nor how much it sends.
    pub(super) fn begin_dialogue(&mut self) {
        match self {
            Upload::H1 { body, .. } => body.begin_dialogue(),
            Upload::Stream(receiver) => receiver.begin_dialogue(),
            Upload::Nothing => {}
        }
    }

    /// Prepares for [`Beside`]: from now on reads have a deadline of their own.
    pub(super) fn begin_beside(&mut self, worker: &Worker, connection: &Connection) -> BesideHandle {
        match self {
            Upload::H1 { body, .. } => BesideHandle(body.begin_beside(worker, connection)),
            Upload::Stream(receiver) => BesideHandle(receiver.begin_beside(worker)),
            Upload::Nothing => BesideHandle(Side::new(worker.watches.watch_alone())),
        }
    }
}

/// Ties an upload to the [`Beside`] that reads it.
pub(super) struct BesideHandle(Rc<Side>);

/// Work that sends a request body on, run beside the wait for the answer and the answer itself: who answers early may
/// still read, and who has answered in full is not made to.
pub(super) struct Beside<'a, P> {
    pump: Pin<&'a mut P>,
    side: Rc<Side>,
    /// What the pump ended with: whether all of the body was sent on.
    sent_all: Option<bool>,
}

impl<'a, P: Future<Output = Result<bool, BodyFailure>>> Beside<'a, P> {
    /// `pump` must be what reads the body that `handle` came from.
    pub(super) fn new(pump: Pin<&'a mut P>, handle: BesideHandle) -> Beside<'a, P> {
        Beside { pump, side: handle.0, sent_all: None }
    }

    /// The body has been sent on to its end.
    pub(super) fn has_sent_all(&self) -> bool {
        self.sent_all == Some(true)
    }

    /// Runs `work` to its end. A failing body ends it.
    pub(super) async fn run<R>(&mut self, work: impl Future<Output = R>) -> Result<R, BodyFailure> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            if self.sent_all.is_none()
                && let Poll::Ready(end) = self.pump.as_mut().poll(cx)
            {
                self.sent_all = Some(*end.as_ref().unwrap_or(&false));
                if let Err(failure) = end {
                    return Poll::Ready(Err(failure));
                }
            }
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Ends the reading of the body; the input has its bytes back afterwards.
    pub(super) async fn stop(mut self, connection: &Connection) {
        connection.watched.set_uploading(false);
        self.side.stop();
        poll_fn(|cx| {
            while self.sent_all.is_none() && self.side.is_reading() {
                match self.pump.as_mut().poll(cx) {
                    Poll::Ready(end) => self.sent_all = Some(end.unwrap_or(false)),
                    Poll::Pending if self.side.is_reading() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}
