//! Properties of what we read of HTTP/3 that hold for any input. Targets of `fuzz/` call them with coverage feedback; the
//! tests below run them on every `cargo test`. Each function panics when its property does not hold.

use bytes::Bytes;

use super::*;

/// Small, so that short inputs reach it.
const SECTION_BYTES_MAX: usize = 100;

/// A stream of the client is read the same however its bytes are cut, holds no more than it may, and its field section
/// becomes a request or an error. The first byte chooses the kind of stream, the second the cuts.
pub fn stream(input: &[u8]) {
    let [kind, cut, bytes @ ..] = input else { return };
    let piece_bytes = usize::from(*cut).max(1);
    match kind % 2 {
        0 => assert_eq!(read_request(bytes, piece_bytes), read_request(bytes, bytes.len().max(1))),
        _ => assert_eq!(read_uni(bytes, piece_bytes), read_uni(bytes, bytes.len().max(1))),
    }
}

/// Kinds of pieces, all content, how the reading ended, and how the stream may.
type Seen = (Vec<&'static str>, Vec<u8>, Option<Failure>, Result<(), Failure>);

fn read_request(bytes: &[u8], piece_bytes: usize) -> Seen {
    let mut reader = RequestReader::new(SECTION_BYTES_MAX);
    let (mut kinds, mut content) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece_bytes) {
        let mut input = Bytes::copy_from_slice(part);
        loop {
            match reader.read(&mut input) {
                Ok(Some(Piece::Head(section))) => {
                    assert!(section.len() <= SECTION_BYTES_MAX);
                    kinds.push(match request_parts(&section, 4 * SECTION_BYTES_MAX, true) {
                        Ok(_) => "request",
                        Err(HeadError::Broken) => "broken",
                        Err(HeadError::Malformed(_)) => "malformed",
                        Err(HeadError::TooLarge) => "too large",
                    });
                }
                Ok(Some(Piece::Trailers(section))) => {
                    assert!(section.len() <= SECTION_BYTES_MAX);
                    match trailers(&section, 4 * SECTION_BYTES_MAX) {
                        Ok(trailers) => assert!(trailers.keys().all(|name| !name.as_str().starts_with(':'))),
                        Err(HeadError::Broken | HeadError::Malformed(_) | HeadError::TooLarge) => {}
                    }
                    kinds.push("trailers");
                }
                Ok(Some(Piece::HeadTooLarge)) => kinds.push("head too large"),
                Ok(Some(Piece::Data(data))) => {
                    assert!(!data.is_empty());
                    content.extend_from_slice(&data);
                }
                Ok(None) => break,
                Err(failure) => return (kinds, content, Some(failure), Ok(())),
            }
        }
        assert!(input.is_empty());
    }
    (kinds, content, None, reader.end())
}

fn read_uni(bytes: &[u8], piece_bytes: usize) -> (Result<bool, Failure>, Result<(), Failure>) {
    let (mut reader, mut critical) = (UniReader::default(), CriticalStreams::default());
    let mut last = Ok(true);
    for part in bytes.chunks(piece_bytes) {
        last = reader.read(part, &mut critical);
        if last.is_err() {
            return (last, Ok(()));
        }
    }
    (last, reader.end())
}

/// Whatever a datagram holds, looking for its connection id stays within it; an id that is taken for ours is one that we
/// would write.
pub fn datagram(input: &[u8]) {
    let ids = Ids::new([1, 2, 3, 4]);
    let Some(id) = destination(input) else { return };
    assert!(id.len() < input.len());
    if let Some(worker) = ids.worker(id) {
        let nonce = id[..7].try_into().expect("7 bytes");
        assert_eq!(ids.write(worker, nonce), id);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::fuzz;

    #[test]
    fn streams() {
        let pieces = [
            "\x00",
            "\x01",
            "\x04",
            "\x05x",
            "\x07\x01\x00",
            "\x21\x03abc",
            "\x00\x04body",
            "\x01\x02\x00\x00",
            "\x40",
            "\x0d\x01\x05",
            "\x02\x20",
            "\x03\x41",
            "\u{7f}",
            "\u{ff}",
            "\x50\x01a",
            "\x23abc\x01d",
            "\x2a",
            "\x00\x04\x00",
        ];
        fuzz("http3_stream", super::stream, &pieces);
    }

    #[test]
    fn datagrams() {
        fuzz("http3_datagram", super::datagram, &["\x40", "\x00\x00\x00\x01", "\x0c", "\u{c0}", "123456789012"]);
    }
}
