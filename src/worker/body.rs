//! The body of a request of HTTP/1, read from the client as it is wanted.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;

use super::Worker;
use super::connection::Connection;
use super::hot::Input;
use super::pacing::Pacing;
use super::watch::{OnExpiry, Watched};
use crate::http::h1::{BodyDecoder, BodyKind, Limits};
use crate::http::trailers;
use crate::runtime::net::ReadEnd;

/// Least room offered to a read.
const READ_ROOM: usize = 4096;

/// Why a body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFailure {
    /// The framing is broken; answer with this status, then close.
    Malformed(u16),
    /// More than the limit: 413, then close.
    TooLarge,
    /// No byte for too long, or too few on average: 408, then close.
    TimedOut,
    /// The client left or the connection broke: nobody to answer.
    Gone,
    /// Nobody wants the rest: [`super::upload::Beside::stop`].
    Stopped,
}

impl BodyFailure {
    /// Status to answer with; `None` when nobody is there to read it.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            BodyFailure::Malformed(status) => Some(status),
            BodyFailure::TooLarge => Some(413),
            BodyFailure::TimedOut => Some(408),
            BodyFailure::Gone | BodyFailure::Stopped => None,
        }
    }
}

/// Reads one request body out of the connection's input.
pub(super) struct RequestBody {
    decoder: BodyDecoder,
    /// First byte of the body in the input; the head lies before it and stays where it is.
    begin: usize,
    /// Next byte of the input to be decoded.
    at: usize,
    received_bytes: u64,
    bytes_max: u64,
    /// The client waits for `100 Continue` before it sends.
    awaits_continue: bool,
    pacing: Pacing,
    /// Set while the body is read beside other work on the connection.
    side: Option<Rc<Side>>,
}

/// What a body that is read beside other work needs: a deadline apart from that of our writes, and a way to stop a read
/// that gives the buffer back. A read's future must never be dropped: the head lies in its buffer.
pub(super) struct Side {
    watched: Watched,
    /// A read is under way, and the input's bytes are lent to it.
    is_reading: Cell<bool>,
    is_stopped: Cell<bool>,
}

impl RequestBody {
    /// `begin` is the position behind the head.
    pub(super) fn new(kind: BodyKind, begin: usize, expect_continue: bool, limits: &Limits) -> RequestBody {
        RequestBody {
            decoder: BodyDecoder::new(kind).keep_trailers(limits),
            begin,
            at: begin,
            received_bytes: 0,
            bytes_max: 0,
            awaits_continue: expect_continue,
            pacing: Pacing::default(),
            side: None,
        }
    }

    /// Content beyond `bytes_max` is refused; 0: no limit.
    pub(super) fn set_limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Prepares for [`super::upload::Beside`]: from now on reads have a deadline of their own.
    pub(super) fn begin_beside(&mut self, worker: &Worker, connection: &Connection) -> Rc<Side> {
        let side = Side::new(worker.watches.watch(connection.stream()));
        self.side = Some(side.clone());
        connection.watched.set_uploading(true);
        side
    }

    /// See [`super::upload::Upload::begin_dialogue`].
    pub(super) fn begin_dialogue(&mut self) {
        self.pacing.switch_off();
    }

    /// The body has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Bytes of content received so far.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What came behind the content, once that has been read to its end, as far as it may go on.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        if self.is_done() { trailers::read(&self.decoder.take_trailers()) } else { None }
    }

    /// Where the next message begins in the input, once the body is done.
    pub(super) fn end(&self) -> usize {
        self.at
    }

    /// The client has not been told to send, so it may or may not: the connection cannot be used again.
    pub(super) fn is_unasked(&self) -> bool {
        self.awaits_continue && !self.is_done() && self.at == self.begin
    }

    /// The next run of content, as a range of `input`; `None` at the end of the body.
    pub(super) async fn next(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        input: &mut Input,
    ) -> Result<Option<Range<usize>>, BodyFailure> {
        loop {
            if let Some(range) = self.decode(input)? {
                return Ok(Some(range));
            }
            if self.is_done() {
                return Ok(None);
            }
            self.read(worker, connection, input).await?;
        }
    }

    fn decode(&mut self, input: &Input) -> Result<Option<Range<usize>>, BodyFailure> {
        while self.at < input.bytes.len() && !self.decoder.is_done() {
            let base = self.at;
            let decoded =
                self.decoder.decode(&input.bytes[base..]).map_err(|error| BodyFailure::Malformed(error.status()))?;
            self.at += decoded.consumed;
            self.received_bytes += decoded.data.len() as u64;
            if self.bytes_max != 0 && self.received_bytes > self.bytes_max {
                return Err(BodyFailure::TooLarge);
            }
            if !decoded.data.is_empty() {
                return Ok(Some(base + decoded.data.start..base + decoded.data.end));
            }
        }
        Ok(None)
    }

    /// Tells the client to send, if it waits for that.
    pub(super) async fn ask(&mut self, worker: &Worker, connection: &Connection) -> Result<(), BodyFailure> {
        if std::mem::take(&mut self.awaits_continue) {
            connection.send(worker, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await.map_err(|_| BodyFailure::Gone)?;
        }
        Ok(())
    }

    async fn read(&mut self, worker: &Worker, connection: &Connection, input: &mut Input) -> Result<(), BodyFailure> {
        self.ask(worker, connection).await?;
        // Everything read so far is used: the next bytes may take its place.
        debug_assert_eq!(self.at, input.bytes.len());
        input.bytes.truncate(self.begin);
        self.at = self.begin;
        if input.bytes.capacity() - input.bytes.len() < READ_ROOM {
            input.bytes.reserve(worker.config.process.stream_buffer_bytes.max(READ_ROOM));
        }
        let watched = self.side.as_ref().map_or(&connection.watched, |side| &side.watched);
        let waiting = self.pacing.begin(worker, watched, OnExpiry::BreakReads)?;
        let bytes = std::mem::take(&mut input.bytes);
        let (result, bytes) = match &self.side {
            None => {
                let (result, bytes) = connection.read(worker, bytes).await;
                (result.map(ReadEnd::Bytes), bytes)
            }
            Some(side) => side.read(worker, connection, bytes).await,
        };
        input.bytes = bytes;
        watched.clear();
        let count = if let Ok(ReadEnd::Bytes(count)) = result { count } else { 0 };
        self.pacing.end(waiting, count, Duration::ZERO);
        match result {
            Ok(ReadEnd::Bytes(n)) if n > 0 => {
                worker.stats.http.bytes_in.add(n as u64);
                Ok(())
            }
            Ok(ReadEnd::Cancelled) => Err(BodyFailure::Stopped),
            _ if watched.expired() => Err(self.pacing.is_late(worker)),
            _ => Err(BodyFailure::Gone),
        }
    }

    /// Reads the rest and throws it away, up to `bytes_max` bytes; `false` when there is more or it failed.
    pub(super) async fn discard(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        input: &mut Input,
        bytes_max: u64,
    ) -> bool {
        if self.is_unasked() {
            return false;
        }
        let limit = self.received_bytes.saturating_add(bytes_max);
        loop {
            match self.next(worker, connection, input).await {
                Ok(None) => return true,
                Ok(Some(_)) if self.received_bytes <= limit => {}
                _ => return false,
            }
        }
    }
}

impl Side {
    /// Without a read so far; `watched` keeps its deadlines.
    pub(super) fn new(watched: Watched) -> Rc<Side> {
        Rc::new(Side { watched, is_reading: Cell::new(false), is_stopped: Cell::new(false) })
    }

    /// The deadlines of the reads.
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// A read is under way.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading.get()
    }

    /// Ends reads, now and later.
    pub(super) fn stop(&self) {
        self.is_stopped.set(true);
        self.watched.cancel().cancel();
    }

    async fn read(
        &self,
        worker: &Worker,
        connection: &Connection,
        bytes: Vec<u8>,
    ) -> (std::io::Result<ReadEnd>, Vec<u8>) {
        if self.is_stopped.get() {
            return (Ok(ReadEnd::Cancelled), bytes);
        }
        self.is_reading.set(true);
        let read = connection.read_cancellable(worker, bytes, &self.watched.cancel()).await;
        self.is_reading.set(false);
        read
    }
}
