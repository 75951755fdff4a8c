//! Directions of a tunnel between two sockets in clear text: what is small is copied through one buffer of the worker, what
//! is much goes by splice(2) and is never copied.
//!
//! Both sockets stay in non-blocking mode for the tunnel's life, so that a burst costs no change of mode; what waits is only
//! ever a poll.

use super::{Ended, Progress, Side, Tunnel};
use crate::runtime::net::Stream;
use crate::runtime::sys::files::NonBlocking;
use crate::runtime::sys::splice::LentPipe;
use crate::worker::Worker;

/// A read that fills this many bytes is taken for the beginning of more, which is spliced; a splice of less, for its end. Up to
/// here a copy costs less than what splice(2) does for each page.
pub(in crate::worker) const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Most that one direction moves before it lets others have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// Both sockets, ready to be used at once or not at all.
pub(super) struct Ends<'a> {
    worker: &'a Worker,
    client: End<'a>,
    server: End<'a>,
}

struct End<'a> {
    stream: &'a Stream,
    socket: NonBlocking<'a>,
}

impl<'a> End<'a> {
    fn of(stream: &'a Stream) -> Option<End<'a>> {
        Some(End { stream, socket: NonBlocking::of(stream).ok()? })
    }
}

/// How a turn of one direction ended.
enum Turn {
    /// Nothing more is there now.
    Quiet,
    /// There is more, but others have to have their turn.
    Long,
    /// The sender has no more to say.
    End,
}

/// The connection to this side broke.
struct Broke(Side);

impl<'a> Ends<'a> {
    /// `None`: one of the two speaks TLS.
    pub(super) fn of(tunnel: &Tunnel<'a>) -> Option<Ends<'a>> {
        let client = End::of(tunnel.connection.clear_stream()?)?;
        let server = End::of(tunnel.server.clear_stream()?)?;
        Some(Ends { worker: tunnel.worker, client, server })
    }

    /// Carries what `from` sends, behind `first`, to the other side until its end.
    pub(super) async fn carry(&self, from: Side, first: Vec<u8>, progress: &Progress<'_>) -> Ended {
        match self.carry_all(from, first, progress).await {
            // Breaking a connection off looks like its end.
            Ok(()) if progress.watched.is_broken() => Ended::Broken(from),
            Ok(()) => {
                self.sides(from).1.stream.shutdown_write();
                Ended::Closed
            }
            Err(Broke(side)) => Ended::Broken(side),
        }
    }

    /// Where bytes come from and where they go.
    fn sides(&self, from: Side) -> (&End<'a>, &End<'a>, Side) {
        match from {
            Side::Client => (&self.client, &self.server, Side::Server),
            Side::Server => (&self.server, &self.client, Side::Client),
        }
    }

    async fn carry_all(&self, from: Side, first: Vec<u8>, progress: &Progress<'_>) -> Result<(), Broke> {
        let source = self.sides(from).0;
        if !first.is_empty() {
            self.on_taken(from, first.len(), progress);
            self.give_rest(from, first, progress).await?;
        }
        let (mut is_bulk, mut is_long) = (false, false);
        loop {
            let ready = match is_long {
                true => source.stream.readable_in_turn().await,
                false => source.stream.readable().await,
            };
            ready.map_err(|_| Broke(from))?;
            match self.turn(from, &mut is_bulk, progress).await? {
                Turn::Quiet => is_long = false,
                Turn::Long => is_long = true,
                Turn::End => return Ok(()),
            }
        }
    }

    /// Moves what is there.
    async fn turn(&self, from: Side, is_bulk: &mut bool, progress: &Progress<'_>) -> Result<Turn, Broke> {
        let mut moved = 0;
        while moved < TURN_BYTES_MAX {
            let spliced = match *is_bulk {
                true => self.splice(from, progress).await?,
                false => None,
            };
            // What cannot be spliced is copied: no pipe is left, or urgent data is in the way, over which a read goes.
            let taken = match spliced {
                None => self.copy(from, progress).await?,
                taken => taken,
            };
            let Some(bytes) = taken else { return Ok(Turn::Quiet) };
            moved += bytes;
            *is_bulk = bytes >= COPIED_BYTES_MAX;
            match bytes {
                0 => return Ok(Turn::End),
                _ if !*is_bulk => return Ok(Turn::Quiet),
                _ => {}
            }
        }
        Ok(Turn::Long)
    }

    /// A copy of a few bytes. `None`: nothing is there now.
    async fn copy(&self, from: Side, progress: &Progress<'_>) -> Result<Option<usize>, Broke> {
        let (source, sink, to) = self.sides(from);
        let mut rest = Vec::new();
        let taken = {
            let mut buffer = self.worker.copied.borrow_mut();
            let taken = source.socket.try_read(&mut buffer).map_err(|_| Broke(from))?;
            let Some(bytes) = taken.filter(|bytes| *bytes > 0) else { return Ok(taken) };
            let given = sink.socket.try_write(&buffer[..bytes]).map_err(|_| Broke(to))?;
            if given < bytes {
                rest = self.worker.hot.take_buffer(bytes - given);
                rest.extend_from_slice(&buffer[given..bytes]);
            }
            bytes
        };
        self.on_taken(from, taken, progress);
        if !rest.is_empty() {
            self.give_rest(from, rest, progress).await?;
        }
        Ok(Some(taken))
    }

    /// Gives all of `bytes`, however long the receiver takes.
    async fn give_rest(&self, from: Side, bytes: Vec<u8>, progress: &Progress<'_>) -> Result<(), Broke> {
        let (_, sink, to) = self.sides(from);
        let mut given = 0;
        while given < bytes.len() {
            match sink.socket.try_write(&bytes[given..]).map_err(|_| Broke(to))? {
                0 => sink.stream.writable().await.map_err(|_| Broke(to))?,
                count => {
                    given += count;
                    progress.is_moving();
                }
            }
        }
        self.worker.hot.give_buffer_back(bytes);
        Ok(())
    }

    /// A burst through a pipe. `None`: there is no pipe, or nothing that can be spliced.
    async fn splice(&self, from: Side, progress: &Progress<'_>) -> Result<Option<usize>, Broke> {
        let (source, _, _) = self.sides(from);
        let Some(mut pipe) = self.worker.pipes.lend() else { return Ok(None) };
        let taken = source.socket.fill(&mut pipe, u64::MAX).map_err(|_| Broke(from))?;
        if let Some(bytes) = taken.filter(|bytes| *bytes > 0) {
            self.on_taken(from, bytes, progress);
            self.worker.stats.spliced_bytes.add(bytes as u64);
            self.drain(from, pipe, progress).await?;
        }
        // splice(2) also tells an end where urgent data stands in front of more: only a read says that it is one.
        Ok(taken.filter(|bytes| *bytes > 0))
    }

    /// Empties the pipe, however long the receiver takes.
    async fn drain(&self, from: Side, mut pipe: LentPipe<'_>, progress: &Progress<'_>) -> Result<(), Broke> {
        let (_, sink, to) = self.sides(from);
        while !pipe.is_empty() {
            match sink.socket.drain(&mut pipe).map_err(|_| Broke(to))? {
                0 => sink.stream.writable().await.map_err(|_| Broke(to))?,
                _ => progress.is_moving(),
            }
        }
        Ok(())
    }

    fn on_taken(&self, from: Side, bytes: usize, progress: &Progress<'_>) {
        let stats = &self.worker.stats.http;
        match from {
            Side::Client => stats.bytes_in.add(bytes as u64),
            Side::Server => stats.bytes_out.add(bytes as u64),
        }
        progress.on_taken(from, bytes);
    }
}
