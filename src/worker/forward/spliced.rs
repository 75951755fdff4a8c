//! The content of a response that nobody needs to see: from socket to socket by splice(2) where it is much, read behind its
//! head where it is little and there already.
//!
//! That is so where both connections are in clear text and of HTTP/1, and the content leaves as it came: see
//! [`Answer::open_socket`]. What is taken from the server never reaches beyond the present run of content (all of it, or one
//! chunk), so that framing, and what comes behind the response, is read as ever. The pipe is the window: what is in it is given
//! to the client before more is taken, and it is held for no longer.
//!
//! Both sockets are in non-blocking mode meanwhile, and what waits is only ever a poll.

use std::io;
use std::pin::pin;

use super::Forward;
use super::attempt::At;
use super::relay::BrokeOff;
use crate::http::h1::BodyDecoder;
use crate::runtime::net::Stream;
use crate::runtime::sys::files::NonBlocking;
use crate::runtime::sys::splice::LentPipe;
use crate::worker::answer::Answer;
use crate::worker::watch::OnExpiry;

/// Fewer bytes in one run are copied. On loopback a copy costs less up to 24 KiB (28 against 30 µs of the whole request), the
/// same at 32 KiB, and more from there on: 30 against 26 µs at 48 KiB, 96 against 56 at 256 KiB, 421 against 222 at 1 MiB.
const SPLICED_BYTES_MIN: u64 = 32 * 1024;

/// Up to so many bytes that have not come with the head are looked for before the head leaves: most servers have sent them by
/// then, and one send costs a third less than two (19 against 29 µs of the whole request at 12 KiB).
const ALONG_BYTES_MAX: u64 = 16 * 1024;

/// Most that is moved before others have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// What a look at the server's socket has found.
enum Taken<'a> {
    Bytes(LentPipe<'a>),
    /// Nothing is there now.
    Nothing,
    /// What is there cannot be spliced (an end, urgent data), or there is no pipe.
    Unfit,
}

impl Forward<'_> {
    /// Moves what it can of the present run of content. What is left is to be read, if only for its end. `has_filled`: the last
    /// read has got as much as it had room for.
    ///
    /// A run until the close does not say how long it is: it is taken for a long one once much of it has come, or much at once.
    pub(super) async fn move_content(
        &self,
        answer: &mut Answer<'_>,
        decoder: &mut BodyDecoder,
        at: At<'_>,
        has_filled: bool,
    ) -> Result<(), BrokeOff> {
        let run = decoder.run();
        let is_long = run < u64::MAX || has_filled || answer.body_bytes() >= SPLICED_BYTES_MIN;
        let (Some(source), Some(sink)) = (at.connection.clear_stream(), answer.open_socket()) else { return Ok(()) };
        match run {
            1..=ALONG_BYTES_MAX => decoder.skip(answer.read_along(source, run as usize) as u64),
            SPLICED_BYTES_MIN.. if at.is_alone && is_long => {
                return self.splice(answer, decoder, at, (source, sink)).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn splice(
        &self,
        answer: &mut Answer<'_>,
        decoder: &mut BodyDecoder,
        at: At<'_>,
        (source, sink): (&Stream, &Stream),
    ) -> Result<(), BrokeOff> {
        let (Ok(from), Ok(to)) = (NonBlocking::of(source), NonBlocking::of(sink)) else { return Ok(()) };
        // Not held back for the content, although one send would do for both: where that fills more than one segment, a pacing
        // congestion control (BBR) lets its end wait for a timer, which costs more.
        answer.flush_to(&to).await.map_err(|_| BrokeOff::Client)?;
        let (mut moved, mut is_ready) = (0, false);
        while decoder.run() > 0 {
            if moved >= TURN_BYTES_MAX {
                moved = 0;
                self.await_more(at, source.readable_in_turn()).await?;
            }
            match self.take(&from, decoder.run())? {
                Taken::Bytes(pipe) => {
                    moved += pipe.bytes();
                    decoder.skip(pipe.bytes() as u64);
                    answer.send_pipe(&to, pipe).await.map_err(|_| BrokeOff::Client)?;
                    is_ready = false;
                }
                // What is ready and still not there is urgent data, over which only a read goes.
                Taken::Nothing if is_ready => break,
                Taken::Nothing => {
                    (moved, is_ready) = (0, true);
                    // The end of a chunk would wait for the server, and a client may wait for it.
                    answer.flush_to(&to).await.map_err(|_| BrokeOff::Client)?;
                    self.await_more(at, source.readable()).await?;
                }
                Taken::Unfit => break,
            }
        }
        Ok(())
    }

    fn take(&self, source: &NonBlocking<'_>, bytes_max: u64) -> Result<Taken<'_>, BrokeOff> {
        let Some(mut pipe) = self.worker.pipes.lend() else { return Ok(Taken::Unfit) };
        Ok(match source.fill(&mut pipe, bytes_max).map_err(|_| BrokeOff::Server)? {
            Some(0) => Taken::Unfit,
            Some(_) => Taken::Bytes(pipe),
            None => Taken::Nothing,
        })
    }

    /// Waits for more from the server, for as long as it may be silent and the client stays.
    async fn await_more(&self, at: At<'_>, ready: impl Future<Output = io::Result<()>>) -> Result<(), BrokeOff> {
        at.connection.watched.set(self.config.idle_timeout, OnExpiry::BreakAll);
        let waited = self.presence.while_client_stays(pin!(ready)).await;
        at.connection.watched.clear();
        waited.map_err(|_| BrokeOff::Client)?.map_err(|_| BrokeOff::Server)
    }
}
