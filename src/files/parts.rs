//! Bodies of several ranges: multipart/byteranges (RFC 9110 section 14.6; RFC 2046 section 5.1). Pure.

use bytes::Bytes;

use super::entry::{Content, Entry, push};
use super::range::ByteRange;
use super::serve::FileSlice;

/// A boundary between parts: 32 hexadecimal digits.
pub(super) type Boundary = [u8; 32];

/// A piece of a body.
#[derive(Debug)]
pub enum Piece {
    /// From memory: the head of a part, or the content of a small file.
    Bytes(Bytes),
    /// From a file.
    File(FileSlice),
}

impl Piece {
    /// Bytes to send.
    #[expect(clippy::len_without_is_empty, reason = "a piece is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File(slice) => slice.len,
        }
    }
}

/// The body that sends `ranges` of `entry`, piece by piece. `ranges` are in the file and not empty.
pub(super) fn pieces(entry: &Entry, ranges: &[ByteRange], boundary: &Boundary) -> Box<[Piece]> {
    let mut pieces = Vec::with_capacity(2 * ranges.len() + 1);
    let mut before: &[u8] = b"";
    for range in ranges {
        let mut head = Vec::with_capacity(160);
        head.extend_from_slice(before);
        head.extend_from_slice(b"--");
        head.extend_from_slice(boundary);
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(entry.type_field());
        let (first, last, len) = (range.start, range.end() - 1, entry.len());
        push(&mut head, format_args!("Content-Range: bytes {first}-{last}/{len}\r\n\r\n"));
        pieces.push(Piece::Bytes(head.into()));
        pieces.push(match &entry.content {
            Content::Small(body) => Piece::Bytes(body.slice(range.start as usize..range.end() as usize)),
            Content::Large(file) => Piece::File(FileSlice::new(file.clone(), *range, entry.version())),
        });
        before = b"\r\n";
    }
    let mut end = Vec::with_capacity(40);
    end.extend_from_slice(b"\r\n--");
    end.extend_from_slice(boundary);
    end.extend_from_slice(b"--\r\n");
    pieces.push(Piece::Bytes(end.into()));
    pieces.into()
}
