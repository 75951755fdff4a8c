//! The in-memory stream between the `h2` crate and the driver of a connection.
//!
//! The crate wants a stream it can read and write whenever it likes; our sockets want buffers by value. So the driver puts
//! in what it has read and takes out what there is to send. Both sides live in one task, which looks at both whenever it is
//! woken, so no waker is kept here.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The crate is not asked for more frames while this much waits to be sent.
const OUTBOUND_BYTES_MAX: usize = 128 * 1024;

/// Nothing is read from the client while this much waits for the crate.
const INBOUND_BYTES_MAX: usize = 64 * 1024;

/// Both directions.
#[derive(Default)]
pub(in crate::worker) struct Pipe {
    inbound: Vec<u8>,
    /// Bytes of `inbound` the crate has taken.
    taken: usize,
    inbound_ended: bool,
    outbound: Vec<u8>,
    /// The socket takes nothing more.
    broken: bool,
    /// The crate has sent its last byte.
    is_sealed: bool,
    /// The crate is done: what still comes is of no use.
    is_discarding: bool,
    /// Counts what moved: while it grows there may be more to do.
    moves: u64,
}

impl Pipe {
    /// Grows whenever bytes move or a direction ends.
    pub(in crate::worker) fn moves(&self) -> u64 {
        self.moves
    }

    /// More may be read from the client.
    pub(in crate::worker) fn wants_inbound(&self) -> bool {
        self.inbound.len() - self.taken < INBOUND_BYTES_MAX
    }

    /// Adds what the client sent.
    pub(in crate::worker) fn put_inbound(&mut self, bytes: &[u8]) {
        if self.taken == self.inbound.len() {
            self.inbound.clear();
            self.taken = 0;
        } else if self.taken > INBOUND_BYTES_MAX {
            self.inbound.drain(..std::mem::take(&mut self.taken));
        }
        self.moves += 1;
        if !self.is_discarding {
            self.inbound.extend_from_slice(bytes);
        }
    }

    /// The client sends no more.
    pub(in crate::worker) fn end_inbound(&mut self) {
        self.inbound_ended = true;
        self.moves += 1;
    }

    /// Something waits to be sent.
    pub(in crate::worker) fn has_outbound(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Takes what waits to be sent, and leaves `empty` in its place.
    pub(in crate::worker) fn take_outbound(&mut self, empty: Vec<u8>) -> Vec<u8> {
        debug_assert!(empty.is_empty());
        self.moves += 1;
        std::mem::replace(&mut self.outbound, empty)
    }

    /// Nothing can be sent any more.
    pub(in crate::worker) fn break_outbound(&mut self) {
        self.broken = true;
        self.inbound_ended = true;
        self.outbound.clear();
        self.moves += 1;
    }

    /// The crate may neither send nor read any more; what it has sent still leaves.
    pub(in crate::worker) fn seal(&mut self) {
        self.is_sealed = true;
        self.inbound_ended = true;
        self.moves += 1;
    }

    /// Throws away what the client sends from now on; `false` when nothing can be sent any more.
    pub(in crate::worker) fn discard(&mut self) -> bool {
        self.is_discarding = true;
        (self.inbound, self.taken) = (Vec::new(), 0);
        !self.broken
    }

    /// Gives back memory that an idle connection does not need.
    pub(in crate::worker) fn shrink(&mut self) {
        if self.taken == self.inbound.len() {
            (self.inbound, self.taken) = (Vec::new(), 0);
        }
        if self.outbound.is_empty() {
            self.outbound = Vec::new();
        }
    }
}

/// The crate's end.
pub(in crate::worker) struct PipeEnd(pub(in crate::worker) Rc<RefCell<Pipe>>);

impl AsyncRead for PipeEnd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        let waiting = &pipe.inbound[pipe.taken..];
        if waiting.is_empty() {
            return if pipe.inbound_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let count = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..count]);
        pipe.taken += count;
        pipe.moves += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.broken || pipe.is_sealed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = OUTBOUND_BYTES_MAX.saturating_sub(pipe.outbound.len());
        if room == 0 {
            return Poll::Pending;
        }
        let count = buf.len().min(room);
        pipe.outbound.extend_from_slice(&buf[..count]);
        pipe.moves += 1;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is in the pipe is as good as sent: whether the socket takes it is the driver's business.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut total = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match Pin::new(&mut *this).poll_write(cx, slice) {
                Poll::Ready(Ok(count)) => {
                    total += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) if total == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if total == 0 => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
