//! Content that comes straight from a server's socket, because nobody has to look at it: through a pipe and never seen, or
//! read behind the head that it leaves with.

use super::super::connection::Broken;
use super::{Answer, Wire};
use crate::http::h1::{BodyKind, CHUNK_END, write_chunk_head};
use crate::runtime::net::Stream;
use crate::runtime::sys::files::NonBlocking;
use crate::runtime::sys::splice::LentPipe;

impl<'a> Answer<'a> {
    /// The client's socket, if content may go there that nobody has looked at: none is dropped, changed, coded, encrypted, held
    /// back or cut into frames. Known behind the head.
    pub(in super::super) fn open_socket(&self) -> Option<&'a Stream> {
        let leaves_as_it_is = self.coder.is_none() && self.substitution.is_none() && self.throttle.is_none();
        let is_h1 = matches!(self.wire, Wire::H1(_));
        let connection = self.connection;
        if is_h1 && leaves_as_it_is && !self.is_bodiless() { connection.clear_stream() } else { None }
    }

    /// Adds content that `source` has now, at most `bytes_max`, to what has gathered; returns how much. Only where
    /// [`Answer::open_socket`] is one.
    pub(in super::super) fn read_along(&mut self, source: &Stream, bytes_max: usize) -> usize {
        match &mut self.wire {
            // A chunk says how long it is before it is there.
            Wire::H1(wire) if self.framing != BodyKind::Chunked => {
                // Whoever reads next meets what is not content: the end, or an error.
                let bytes = source.try_read(wire.out, bytes_max).ok().flatten().unwrap_or_default();
                self.body_bytes += bytes as u64;
                bytes
            }
            _ => 0,
        }
    }

    /// Sends what has gathered by `socket`, which is that of [`Answer::open_socket`].
    pub(in super::super) async fn flush_to(&mut self, socket: &NonBlocking<'_>) -> Result<(), Broken> {
        self.give_gathered(socket, false).await
    }

    /// The same, with what is in `pipe` behind it, however long the client takes.
    pub(in super::super) async fn send_pipe(
        &mut self,
        socket: &NonBlocking<'_>,
        mut pipe: LentPipe<'_>,
    ) -> Result<(), Broken> {
        if let (Wire::H1(wire), BodyKind::Chunked) = (&mut self.wire, self.framing) {
            write_chunk_head(wire.out, pipe.bytes());
        }
        self.give_gathered(socket, true).await?;
        while !pipe.is_empty() {
            match socket.drain(&mut pipe).map_err(|_| Broken)? {
                0 => self.await_room().await?,
                bytes => self.on_spliced(bytes as u64),
            }
        }
        if let (Wire::H1(wire), BodyKind::Chunked) = (&mut self.wire, self.framing) {
            wire.out.extend_from_slice(CHUNK_END);
        }
        Ok(())
    }

    fn on_spliced(&mut self, bytes: u64) {
        self.body_bytes += bytes;
        self.worker.stats.http.bytes_out.add(bytes);
        self.worker.stats.spliced_bytes.add(bytes);
    }

    /// `is_followed`: more is written at once, and leaves with it.
    async fn give_gathered(&mut self, socket: &NonBlocking<'_>, is_followed: bool) -> Result<(), Broken> {
        let mut given = 0;
        loop {
            let Wire::H1(wire) = &mut self.wire else { return Ok(()) };
            let rest = &wire.out[given..];
            if rest.is_empty() {
                wire.out.clear();
                return Ok(());
            }
            let taken = if is_followed { socket.try_write_ahead(rest) } else { socket.try_write(rest) };
            match taken.map_err(|_| Broken)? {
                0 => self.await_room().await?,
                bytes => {
                    given += bytes;
                    self.worker.stats.http.bytes_out.add(bytes as u64);
                }
            }
        }
    }
}
