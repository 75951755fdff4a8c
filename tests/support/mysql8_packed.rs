//! The scripted server's compressed packets by zstd, written from the protocol's documentation (MySQL internals manual,
//! `page_protocol_basic_compression_packet`).

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use super::{State, Wire};

/// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
pub(super) const ZSTD: u32 = 1 << 26;
/// Content of one frame of the server's, before it is compressed.
const PIECE_BYTES: usize = 16 << 10;

/// A connection behind its login, when both sides compress.
pub(super) struct Packed<'a> {
    wire: &'a mut dyn Wire,
    state: &'a State,
    /// Of the next frame of the client's: 0 with each command.
    expected: u8,
    /// Of the next frame of ours.
    next: u8,
    plain: Vec<u8>,
}

impl<'a> Packed<'a> {
    pub(super) fn new(wire: &'a mut dyn Wire, state: &'a State) -> Packed<'a> {
        Packed { wire, state, expected: 0, next: 0, plain: Vec::new() }
    }

    fn count(&self, packed: usize, plain: usize) {
        self.state.packed_bytes.fetch_add(packed, Ordering::Relaxed);
        self.state.plain_bytes.fetch_add(plain, Ordering::Relaxed);
    }

    fn read_frame(&mut self) -> io::Result<()> {
        let mut head = [0; 7];
        self.wire.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) as usize;
        let mut content = vec![0; number(0)];
        self.wire.read_exact(&mut content)?;
        if head[3] != self.expected {
            self.state.complain(format!("frame {} in place of {}", head[3], self.expected));
        }
        self.expected = head[3].wrapping_add(1);
        self.next = self.expected;
        let packed = content.len() + head.len();
        self.plain = match number(4) {
            0 => content,
            bytes => zstd::bulk::decompress(&content, bytes).expect("zstd"),
        };
        if number(4) == 0 && self.plain.len() >= 1000 {
            self.state.complain(format!("{} bytes that are not compressed", self.plain.len()));
        }
        self.count(packed, self.plain.len());
        Ok(())
    }
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.plain.is_empty() {
            self.read_frame()?;
        }
        let bytes = buffer.len().min(self.plain.len());
        buffer[..bytes].copy_from_slice(&self.plain[..bytes]);
        self.plain.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Packed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let content = zstd::bulk::compress(piece, 3)?;
        let mut out = (content.len() as u32).to_le_bytes()[..3].to_vec();
        out.push(self.next);
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&content);
        self.wire.write_all(&out)?;
        self.count(out.len(), piece.len());
        (self.next, self.expected) = (self.next.wrapping_add(1), 0);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}
