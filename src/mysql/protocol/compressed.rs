//! Compressed packets: frames around the stream of packets, whose borders mean nothing to each other.
//!
//! ```text
//! length of the frame's content, 3 bytes | sequence id, 1 | length of it decompressed, 3; 0: it is as it is | content
//! ```
//! Used once the login is over. Source: MySQL internals manual, `page_protocol_basic_compression`,
//! `page_protocol_basic_compression_packet`.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::ProtocolError;
use super::capability::{COMPRESS, ZSTD_COMPRESSION};

/// Length of a frame's header, bytes.
pub const HEADER_BYTES: usize = 7;
/// Shorter content is sent as it is, as servers do.
const WORTH_BYTES: usize = 50;
/// Content of one frame of ours, before it is compressed.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// More does not make much smaller, and takes long.
const ZLIB_LEVEL: u32 = 3;
/// So much of what a peer sent is unpacked at once: a few bytes can be 16 MiB, and many of them are taken one after the other.
const UNPACKED_BYTES: usize = 256 << 10;
/// The same for many frames with little in them.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// What a client may ask for with zstd; the same.
const ZSTD_LEVEL_MAX: i32 = 6;

/// How the content of frames is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// CLIENT_COMPRESS.
    Zlib,
    /// CLIENT_ZSTD_COMPRESSION_ALGORITHM, with the level that the client has asked for.
    Zstd(u8),
}

/// Both directions of one connection.
pub struct Frames {
    algorithm: Algorithm,
    /// Of the next frame of ours: it counts on from what the other side has sent last.
    sequence_id: u8,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    content_bytes: usize,
    sequence_id: u8,
    /// 0: the content is not compressed.
    plain_bytes: usize,
}

impl Header {
    fn decode(input: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = input.first_chunk()?;
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]) as usize;
        Some(Header { content_bytes: number(0), sequence_id: bytes[3], plain_bytes: number(4) })
    }

    fn encode(self) -> [u8; HEADER_BYTES] {
        let ([a, b, c, _], [d, e, f, _]) =
            ((self.content_bytes as u32).to_le_bytes(), (self.plain_bytes as u32).to_le_bytes());
        [a, b, c, self.sequence_id, d, e, f]
    }
}

impl Algorithm {
    /// The capability flag by which it is agreed on.
    pub fn capability(self) -> u32 {
        match self {
            Algorithm::Zlib => COMPRESS,
            Algorithm::Zstd(_) => ZSTD_COMPRESSION,
        }
    }

    /// What the login tells of its level.
    pub fn zstd_level(self) -> u8 {
        match self {
            Algorithm::Zlib => 0,
            Algorithm::Zstd(level) => level,
        }
    }

    /// Its name in configs and logs.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Zlib => "zlib",
            Algorithm::Zstd(_) => "zstd",
        }
    }
}

impl Frames {
    /// Nothing sent or received yet.
    pub fn new(algorithm: Algorithm) -> Frames {
        Frames { algorithm, sequence_id: 0 }
    }

    /// Of a client: a command follows.
    pub fn begin_command(&mut self) {
        self.sequence_id = 0;
    }

    /// Of the next frame that is sent.
    pub fn sequence_id(&self) -> u8 {
        self.sequence_id
    }

    /// Takes whole frames off the front of `input` and appends their content to `plain`, until that is a lot; what is left
    /// stays. `true`: it was a lot, and there may be more.
    ///
    /// At most one frame is waited for and one is decompressed at a time: 16 MiB each, by the format. Errors: `Malformed`
    /// when a frame does not hold what it says.
    pub fn receive(&mut self, input: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<bool, ProtocolError> {
        let (mut used, before, mut frames) = (0, plain.len(), 0);
        // Made for the first one that needs it, and good for all.
        let mut stream = None;
        while plain.len() - before < UNPACKED_BYTES
            && frames < FRAMES_AT_ONCE_MAX
            && let Some(header) = Header::decode(&input[used..])
        {
            let begin = used + HEADER_BYTES;
            let Some(content) = input.get(begin..begin + header.content_bytes) else { break };
            if content.is_empty() {
                return Err(ProtocolError::Malformed("compressed packet with nothing in it"));
            }
            match header.plain_bytes {
                0 => plain.extend_from_slice(content),
                bytes => self.decompress(content, bytes, &mut stream, plain)?,
            }
            frames += 1;
            used = begin + header.content_bytes;
            self.sequence_id = header.sequence_id.wrapping_add(1);
        }
        drop(input.drain(..used));
        Ok(plain.len() - before >= UNPACKED_BYTES || frames == FRAMES_AT_ONCE_MAX)
    }

    fn decompress(
        &self,
        content: &[u8],
        bytes: usize,
        stream: &mut Option<Decompress>,
        plain: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let malformed = ProtocolError::Malformed("compressed packet");
        let before = plain.len();
        plain.resize(before + bytes, 0);
        let room = &mut plain[before..];
        let is_whole = match self.algorithm {
            Algorithm::Zlib => {
                let stream = stream.get_or_insert_with(|| Decompress::new(true));
                stream.reset(true);
                let status = stream.decompress(content, room, FlushDecompress::Finish);
                matches!(status, Ok(Status::StreamEnd)) && stream.total_out() == bytes as u64
            }
            Algorithm::Zstd(_) => matches!(zstd::bulk::decompress_to_buffer(content, room), Ok(n) if n == bytes),
        };
        if !is_whole {
            plain.truncate(before);
            return Err(malformed);
        }
        Ok(())
    }

    /// Appends frames with `plain` in them to `out`.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        for piece in plain.chunks(PIECE_BYTES_MAX) {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER_BYTES]);
            let mut plain_bytes = piece.len();
            let is_smaller = piece.len() >= WORTH_BYTES && self.compress(piece, out);
            if !is_smaller {
                out.truncate(start + HEADER_BYTES);
                out.extend_from_slice(piece);
                plain_bytes = 0;
            }
            let content_bytes = out.len() - start - HEADER_BYTES;
            let header = Header { content_bytes, sequence_id: self.sequence_id, plain_bytes };
            out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
            self.sequence_id = self.sequence_id.wrapping_add(1);
        }
    }

    /// Appends `piece`, compressed; `false`: it would not be smaller.
    fn compress(&self, piece: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.resize(start + piece.len(), 0);
        let written = match self.algorithm {
            Algorithm::Zlib => {
                let mut stream = Compress::new(Compression::new(ZLIB_LEVEL), true);
                match stream.compress(piece, &mut out[start..], FlushCompress::Finish) {
                    Ok(Status::StreamEnd) => Some(stream.total_out() as usize),
                    _ => None,
                }
            }
            Algorithm::Zstd(level) => {
                let level = i32::from(level).clamp(1, ZSTD_LEVEL_MAX);
                zstd::bulk::compress_to_buffer(piece, &mut out[start..], level).ok()
            }
        };
        out.truncate(start + written.unwrap_or(0));
        written.is_some_and(|written| written < piece.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Zlib, Algorithm::Zstd(3)];

    #[test]
    fn short_content_is_sent_as_it_is() {
        let (mut frames, mut out) = (Frames::new(Algorithm::Zlib), Vec::new());
        frames.send(b"\x01\0\0\0\x0e", &mut out);
        assert_eq!(out, b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e");
        out.clear();
        frames.send(&[b'a'; 1000], &mut out);
        assert_eq!((out[3], &out[4..7]), (1, &[0xE8, 3, 0][..]), "sequence ids count up, lengths are told");
        assert!(out.len() < 100);
    }

    #[test]
    fn sequence_ids_go_on_from_the_other_sides() {
        let (mut client, mut server) = (Frames::new(Algorithm::Zlib), Frames::new(Algorithm::Zlib));
        for _ in 0..3 {
            client.begin_command();
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            client.send(b"command", &mut wire);
            assert_eq!(wire[3], 0);
            server.receive(&mut wire, &mut plain).expect("whole");
            server.send(b"answer", &mut wire);
            server.send(b"and more", &mut wire);
            assert_eq!((wire[3], wire[7 + 6 + 3]), (1, 2));
        }
    }

    #[test]
    fn a_few_bytes_that_become_many_are_taken_one_after_the_other() {
        let (mut frames, mut wire, mut plain) = (Frames::new(Algorithm::Zlib), Vec::new(), Vec::new());
        frames.send(&vec![0; 8 * UNPACKED_BYTES], &mut wire);
        assert!(wire.len() < 100_000);
        let mut turns = 0;
        while !wire.is_empty() {
            plain.clear();
            frames.receive(&mut wire, &mut plain).expect("sound");
            assert!(plain.len() <= UNPACKED_BYTES + PIECE_BYTES_MAX, "{}", plain.len());
            turns += 1;
        }
        assert_eq!(turns, 8);
    }

    #[test]
    fn what_a_frame_does_not_hold_is_refused() {
        for algorithm in BOTH {
            let mut whole = Vec::new();
            Frames::new(algorithm).send(&[b'x'; 3000], &mut whole);
            for plain_bytes in [1, 2999, 3001, 0xFF_FFFF] {
                let mut wrong = whole.clone();
                wrong[4..7].copy_from_slice(&u32::to_le_bytes(plain_bytes)[..3]);
                let mut plain = b"before".to_vec();
                assert!(Frames::new(algorithm).receive(&mut wrong, &mut plain).is_err(), "{algorithm:?} {plain_bytes}");
                assert_eq!(plain, b"before");
            }
            assert!(Frames::new(algorithm).receive(&mut vec![0; 7 * 70], &mut Vec::new()).is_err(), "nothing in them");
            let mut garbage = b"\x05\0\0\0\x40\0\0abcde".to_vec();
            assert!(Frames::new(algorithm).receive(&mut garbage, &mut Vec::new()).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_is_sent_arrives_however_it_is_cut(
            parts in proptest::collection::vec((any::<u8>(), 0..4000usize, any::<bool>()), 1..6), cut in 1..5000usize,
        ) {
            for algorithm in BOTH {
                let (mut sender, mut receiver) = (Frames::new(algorithm), Frames::new(algorithm));
                let (mut sent, mut wire) = (Vec::new(), Vec::new());
                for (byte, len, is_even) in &parts {
                    let part: Vec<u8> = (0..*len).map(|i| if *is_even { *byte } else { byte.wrapping_mul(i as u8) ^ (i >> 3) as u8 }).collect();
                    sender.send(&part, &mut wire);
                    sent.extend_from_slice(&part);
                }
                let (mut input, mut plain) = (Vec::new(), Vec::new());
                for piece in wire.chunks(cut) {
                    input.extend_from_slice(piece);
                    receiver.receive(&mut input, &mut plain).expect("sound");
                }
                while !input.is_empty() {
                    receiver.receive(&mut input, &mut plain).expect("sound");
                }
                prop_assert!(plain == sent && input.is_empty());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            for algorithm in BOTH {
                let _ = Frames::new(algorithm).receive(&mut bytes.clone(), &mut Vec::new());
            }
        }
    }
}
