//! The body of a request, read from the client as it is wanted.

use std::ops::Range;

use super::Worker;
use super::connection::Connection;
use super::hot::Input;
use super::watch::OnExpiry;
use crate::http::h1::{BodyDecoder, BodyKind};

/// Least room offered to a read.
const READ_ROOM: usize = 4096;

/// Why a body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFailure {
    /// The framing is broken; answer with this status, then close.
    Malformed(u16),
    /// More than the limit: 413, then close.
    TooLarge,
    /// No byte for too long: 408, then close.
    TimedOut,
    /// The client left or the connection broke: nobody to answer.
    Gone,
}

impl BodyFailure {
    /// Status to answer with; `None` when nobody is there to read it.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            BodyFailure::Malformed(status) => Some(status),
            BodyFailure::TooLarge => Some(413),
            BodyFailure::TimedOut => Some(408),
            BodyFailure::Gone => None,
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
}

impl RequestBody {
    /// `begin` is the position behind the head. `bytes_max` 0: no limit.
    pub(super) fn new(kind: BodyKind, begin: usize, bytes_max: u64, expect_continue: bool) -> RequestBody {
        RequestBody {
            decoder: BodyDecoder::new(kind),
            begin,
            at: begin,
            received_bytes: 0,
            bytes_max,
            awaits_continue: expect_continue,
        }
    }

    /// The body has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
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

    async fn read(&mut self, worker: &Worker, connection: &Connection, input: &mut Input) -> Result<(), BodyFailure> {
        if std::mem::take(&mut self.awaits_continue) {
            connection.send(worker, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await.map_err(|_| BodyFailure::Gone)?;
        }
        // Everything read so far is used: the next bytes may take its place.
        debug_assert_eq!(self.at, input.bytes.len());
        input.bytes.truncate(self.begin);
        self.at = self.begin;
        if input.bytes.capacity() - input.bytes.len() < READ_ROOM {
            input.bytes.reserve(worker.config.process.stream_buffer_bytes.max(READ_ROOM));
        }
        connection.watched.set(worker.config.http.body_timeout, OnExpiry::BreakReads);
        let (result, bytes) = connection.stream.read(std::mem::take(&mut input.bytes)).await;
        input.bytes = bytes;
        connection.watched.clear();
        match result {
            Ok(n) if n > 0 => {
                worker.stats.http.bytes_in.add(n as u64);
                Ok(())
            }
            _ if connection.watched.expired() => {
                worker.stats.http.timeouts.inc();
                Err(BodyFailure::TimedOut)
            }
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

    /// Reads the whole body into `kept` when that takes at most `bytes_max` bytes; `false` when it is longer, what was
    /// read by then being in `kept`.
    pub(super) async fn keep(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        input: &mut Input,
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyFailure> {
        while kept.len() <= bytes_max {
            match self.next(worker, connection, input).await? {
                None => return Ok(true),
                Some(range) => kept.extend_from_slice(&input.bytes[range]),
            }
        }
        Ok(self.is_done())
    }
}
