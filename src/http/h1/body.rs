//! Where a message body ends (RFC 9112 sections 6.3 and 7.1). Content is handed out in place, never copied.

use super::Limits;
use super::fields::{is_text_byte, is_token_byte};
use super::head::BodyKind;
use std::fmt;
use std::ops::Range;

/// Chunk extensions of one body, together. They mean nothing to anybody, so they are only skipped.
const EXTENSION_BYTES_MAX: usize = 16 << 10;
/// Trailer section of one body that nobody wants, names, values and line ends.
const TRAILER_BYTES_MAX: usize = 8 << 10;
/// Trailer fields of such a body.
const TRAILERS_MAX: usize = 64;
/// Hexadecimal digits of a chunk size, leading zeros too; 16 say any u64.
const SIZE_DIGITS_MAX: u8 = 16;

/// What is wrong with a body. Its sender cannot be understood any more: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size is not hexadecimal digits, or larger than 2^63 - 1.
    ChunkSize,
    /// Chunk extensions have a control byte, or together more than 16 KiB.
    ChunkExtension,
    /// A line does not end in CR LF, or no CR LF stands behind a chunk's data.
    LineEnd,
    /// A trailer field is not name, colon, value.
    Trailer,
    /// More trailer fields, or more bytes of them, than the limits allow: those of heads, or 64 and 8 KiB where they are dropped.
    TrailersTooLarge,
    /// The sender closed before the end.
    Truncated,
}

impl BodyError {
    /// Status code of the answer when the body is a request's.
    pub fn status(self) -> u16 {
        match self {
            BodyError::TrailersTooLarge => 431,
            _ => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::ChunkSize => "invalid chunk size",
            BodyError::ChunkExtension => "invalid or too long chunk extension",
            BodyError::LineEnd => "invalid line end in chunked body",
            BodyError::Trailer => "invalid trailer field",
            BodyError::TrailersTooLarge => "trailers too large",
            BodyError::Truncated => "body truncated",
        })
    }
}

impl std::error::Error for BodyError {}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with, framing and content.
    pub consumed: usize,
    /// Content in the input, in one piece; may be empty. Lies within `consumed`.
    pub data: Range<usize>,
    /// The body has ended; what follows `consumed` belongs to the next message.
    pub done: bool,
}

/// Finds the content in the bytes of one body.
#[derive(Clone, Debug, Default)]
pub struct BodyDecoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_count: usize,
    /// Most bytes and fields of trailers that are kept; `None`: they are checked and dropped.
    keeps: Option<(usize, usize)>,
    /// Allocates with the first trailer.
    trailers: Vec<u8>,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Behind the end.
    #[default]
    Done,
    /// Content; this much is left of it.
    Length(u64),
    /// Content until the sender closes.
    UntilClose,
    /// Chunk size; digits so far and their value.
    Size { digits: u8, size: u64 },
    /// Chunk extension.
    Extension { size: u64 },
    /// LF of the chunk size line.
    SizeLf { size: u64 },
    /// Chunk data; this much is left of it.
    Data(u64),
    /// CR behind chunk data.
    DataCr,
    /// LF behind chunk data.
    DataLf,
    /// First byte of a trailer line or of the empty line.
    TrailerStart,
    /// Trailer name.
    TrailerName,
    /// Trailer value.
    TrailerValue,
    /// LF of a trailer line.
    TrailerLf,
    /// LF of the empty line, the last byte.
    EndLf,
}

impl BodyDecoder {
    /// Decoder of a body whose head says `kind`.
    pub fn new(kind: BodyKind) -> BodyDecoder {
        let state = match kind {
            BodyKind::None | BodyKind::Length(0) => State::Done,
            BodyKind::Length(length) => State::Length(length),
            BodyKind::Chunked => State::Size { digits: 0, size: 0 },
            BodyKind::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, ..BodyDecoder::default() }
    }

    /// The same, keeping trailer fields for [`BodyDecoder::trailers`], as many as a head may have; otherwise they are checked and
    /// dropped.
    pub fn keep_trailers(mut self, limits: &Limits) -> BodyDecoder {
        self.keeps = Some((limits.head_bytes_max, limits.headers_max));
        self
    }

    /// Takes the next bytes of the body, up to the end of one run of content and the framing around it.
    ///
    /// Call again with the rest while something was consumed; nothing is consumed from empty input, and behind the end.
    /// After `Err` the decoder must not be used again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let mut decoded = Decoded::default();
        while decoded.consumed < input.len() && self.state != State::Done {
            let at = decoded.consumed;
            if let Some(left) = self.content_left() {
                if !decoded.data.is_empty() {
                    break;
                }
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                self.take_content(run as u64);
                decoded.data = at..at + run;
                decoded.consumed = at + run;
            } else {
                self.state = self.step(input[at])?;
                decoded.consumed = at + 1;
            }
        }
        decoded.done = self.is_done();
        Ok(decoded)
    }

    /// The body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The sender closed. `Ok` when that ends the body or it had ended; else `Truncated`.
    pub fn on_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// Bytes of content to come, where the head told.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Most bytes of content that come next in one run: those of the present chunk, or all that is left; without a known
    /// end `u64::MAX`. 0: framing comes next, or nothing.
    pub fn run(&self) -> u64 {
        self.content_left().unwrap_or(0)
    }

    /// So many bytes of the present run have gone another way. Panics where the run is shorter.
    pub fn skip(&mut self, bytes: u64) {
        assert!(bytes <= self.run(), "content behind its end");
        self.take_content(bytes);
    }

    /// Trailer lines, `name: value` CR LF each, if [`BodyDecoder::keep_trailers`] was asked for; whole once the body has ended.
    /// Which of them may go on is for [`crate::http::trailers`] to say.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The same, once: none are there afterwards.
    pub fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Content that may follow in one run; `None` where framing comes next.
    fn content_left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) | State::Data(left) => Some(left),
            State::UntilClose => Some(u64::MAX),
            _ => None,
        }
    }

    fn take_content(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Length(left) if left == bytes => State::Done,
            State::Length(left) => State::Length(left - bytes),
            State::Data(left) if left == bytes => State::DataCr,
            State::Data(left) => State::Data(left - bytes),
            state => state,
        };
    }

    /// State behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { digits, size } => size_step(digits, size, byte),
            State::Extension { size } => self.extension_step(size, byte),
            State::SizeLf { size: 0 } => line_feed(byte, State::TrailerStart),
            State::SizeLf { size } => line_feed(byte, State::Data(size)),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataCr => Err(BodyError::LineEnd),
            State::DataLf => line_feed(byte, State::Size { digits: 0, size: 0 }),
            State::TrailerStart if byte == b'\r' => Ok(State::EndLf),
            State::EndLf => line_feed(byte, State::Done),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer_step(byte)
            }
            State::Done | State::Length(_) | State::UntilClose | State::Data(_) => Ok(self.state),
        }
    }

    fn extension_step(&mut self, size: u64, byte: u8) -> Result<State, BodyError> {
        self.extension_bytes += 1;
        match byte {
            _ if self.extension_bytes > EXTENSION_BYTES_MAX => Err(BodyError::ChunkExtension),
            b'\r' => Ok(State::SizeLf { size }),
            b'\n' => Err(BodyError::LineEnd),
            byte if is_text_byte(byte) => Ok(State::Extension { size }),
            _ => Err(BodyError::ChunkExtension),
        }
    }

    fn trailer_step(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailer_bytes += 1;
        let (bytes_max, count_max) = self.keeps.unwrap_or((TRAILER_BYTES_MAX, TRAILERS_MAX));
        if self.trailer_bytes > bytes_max {
            return Err(BodyError::TrailersTooLarge);
        }
        let next = match (self.state, byte) {
            (State::TrailerStart, _) if self.trailer_count >= count_max => return Err(BodyError::TrailersTooLarge),
            (State::TrailerStart, byte) if is_token_byte(byte) => {
                self.trailer_count += 1;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, byte) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) if is_text_byte(byte) => State::TrailerValue,
            (State::TrailerLf, byte) => line_feed(byte, State::TrailerStart)?,
            (_, b'\n') => return Err(BodyError::LineEnd),
            _ => return Err(BodyError::Trailer),
        };
        if self.keeps.is_some() {
            self.trailers.push(byte);
        }
        Ok(next)
    }
}

fn size_step(digits: u8, size: u64, byte: u8) -> Result<State, BodyError> {
    match byte {
        b'\r' if digits > 0 => Ok(State::SizeLf { size }),
        b';' if digits > 0 => Ok(State::Extension { size }),
        b'\n' if digits > 0 => Err(BodyError::LineEnd),
        _ => {
            let digit = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize)?;
            // 2^63 and more is refused as in Content-Length, so that sums of sizes and offsets cannot overflow.
            if digits == SIZE_DIGITS_MAX || size >= 1 << 59 {
                return Err(BodyError::ChunkSize);
            }
            Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
        }
    }
}

fn line_feed(byte: u8, next: State) -> Result<State, BodyError> {
    if byte == b'\n' { Ok(next) } else { Err(BodyError::LineEnd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::write::{CHUNK_END, LAST_CHUNK, write_chunk_head};
    use proptest::prelude::*;

    /// Content, bytes used and whether the body ended, with `input` given in pieces that end at `cuts`.
    fn decode(decoder: &mut BodyDecoder, input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut content, mut at) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([input.len()]) {
            loop {
                let decoded = decoder.decode(&input[at..end])?;
                assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= end - at);
                assert_eq!(decoded.done, decoder.is_done());
                content.extend_from_slice(&input[at..end][decoded.data]);
                at += decoded.consumed;
                if decoded.consumed == 0 {
                    break;
                }
            }
        }
        Ok((content, at, decoder.is_done()))
    }

    #[test]
    fn content_that_goes_another_way_is_counted() {
        let mut decoder = BodyDecoder::new(BodyKind::Length(10));
        assert_eq!(decoder.run(), 10);
        decoder.skip(0);
        decoder.skip(4);
        assert_eq!((decoder.run(), decoder.on_eof()), (6, Err(BodyError::Truncated)));
        decoder.skip(6);
        assert_eq!((decoder.run(), decoder.is_done()), (0, true));
        let mut decoder = BodyDecoder::new(BodyKind::Chunked);
        assert_eq!(decoder.run(), 0, "a size comes first");
        assert_eq!(decode(&mut decoder, b"a\r\n123", &[]).expect("a chunk"), (b"123".to_vec(), 6, false));
        assert_eq!(decoder.run(), 7);
        decoder.skip(7);
        assert_eq!(decoder.run(), 0, "framing comes next");
        assert_eq!(decode(&mut decoder, b"\r\n0\r\n\r\n", &[]).expect("the end"), (Vec::new(), 7, true));
        let mut decoder = BodyDecoder::new(BodyKind::UntilClose);
        decoder.skip(1 << 40);
        assert_eq!((decoder.run(), decoder.on_eof()), (u64::MAX, Ok(())));
    }

    #[test]
    #[should_panic(expected = "content behind its end")]
    fn no_more_goes_another_way_than_there_is() {
        BodyDecoder::new(BodyKind::Length(10)).skip(11);
    }

    /// Decoding `input` gives `expect`, however it is cut in two or three and byte by byte.
    fn check(kind: BodyKind, input: &[u8], expect: Result<(&[u8], usize, bool), BodyError>) {
        let expect = expect.map(|(content, used, done)| (content.to_vec(), used, done));
        let decode = |cuts: &[usize]| decode(&mut BodyDecoder::new(kind), input, cuts);
        let shown = input.escape_ascii();
        assert_eq!(decode(&[]), expect, "{shown}");
        assert_eq!(decode(&Vec::from_iter(0..input.len())), expect, "{shown} byte by byte");
        for first in 0..input.len() {
            assert_eq!(decode(&[first]), expect, "{shown} cut at {first}");
            for second in (first..input.len()).filter(|_| input.len() < 64) {
                assert_eq!(decode(&[first, second]), expect, "{shown} cut at {first}, {second}");
            }
        }
    }

    fn chunked(input: &str, content: &str, rest: usize) {
        check(BodyKind::Chunked, input.as_bytes(), Ok((content.as_bytes(), input.len() - rest, true)));
    }

    fn refuse(input: impl AsRef<[u8]>, error: BodyError) {
        check(BodyKind::Chunked, input.as_ref(), Err(error));
    }

    #[test]
    fn bodies_of_known_length() {
        check(BodyKind::None, b"next", Ok((b"", 0, true)));
        check(BodyKind::Length(0), b"next", Ok((b"", 0, true)));
        check(BodyKind::Length(4), b"bodynext", Ok((b"body", 4, true)));
        check(BodyKind::Length(9), b"bodynext", Ok((b"bodynext", 8, false)));
        check(BodyKind::Length(u64::MAX), b"body", Ok((b"body", 4, false)));
        let mut decoder = BodyDecoder::new(BodyKind::Length(9));
        assert_eq!(decoder.remaining(), Some(9));
        decode(&mut decoder, b"body", &[]).unwrap();
        assert_eq!((decoder.remaining(), decoder.on_eof()), (Some(5), Err(BodyError::Truncated)));
        decode(&mut decoder, b"12345", &[]).unwrap();
        assert_eq!((decoder.remaining(), decoder.on_eof()), (Some(0), Ok(())));
    }

    #[test]
    fn a_body_until_close_ends_with_the_close() {
        check(BodyKind::UntilClose, b"body", Ok((b"body", 4, false)));
        let mut decoder = BodyDecoder::new(BodyKind::UntilClose);
        assert_eq!((decoder.remaining(), decoder.is_done()), (None, false));
        assert_eq!(decoder.on_eof(), Ok(()));
        assert_eq!((decoder.is_done(), decoder.decode(b"more").unwrap().consumed), (true, 0));
    }

    // RFC 9112 section 7.1
    #[test]
    fn chunked_bodies() {
        chunked("0\r\n\r\n", "", 0);
        chunked("5\r\nhello\r\n0\r\n\r\n", "hello", 0);
        chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", "hello world", 5);
        chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 0);
        chunked("0000000000000001\r\nx\r\n000\r\n\r\n", "x", 0);
        chunked("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0);
        chunked("7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "0\r\n\r\nGE", 0);
    }

    // RFC 9112 section 7.1.1
    #[test]
    fn chunk_extensions_are_skipped() {
        chunked("1;a\r\nx\r\n0;b=c;d=\"e f\"\r\n\r\n", "x", 0);
        chunked("1;\r\nx\r\n0; \t\u{e9}\r\n\r\n", "x", 0);
        refuse("1;a\nx\r\n0\r\n\r\n", BodyError::LineEnd);
        refuse("1;a\rx\r\n0\r\n\r\n", BodyError::LineEnd);
        refuse("1;\0\r\nx\r\n0\r\n\r\n", BodyError::ChunkExtension);
        refuse("1;\u{7f}\r\nx\r\n0\r\n\r\n", BodyError::ChunkExtension);
        let body = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes));
        let decode = |text: String| decode(&mut BodyDecoder::new(BodyKind::Chunked), text.as_bytes(), &[]);
        assert!(decode(body(EXTENSION_BYTES_MAX - 1)).is_ok());
        assert_eq!(decode(body(EXTENSION_BYTES_MAX)), Err(BodyError::ChunkExtension));
        // Many short ones are as long as one long one.
        assert_eq!(decode(body(15).repeat(EXTENSION_BYTES_MAX / 16 + 1)), Err(BodyError::ChunkExtension));
        assert!(decode(body(15).repeat(EXTENSION_BYTES_MAX / 16)).is_ok());
    }

    #[test]
    fn wrong_chunk_sizes() {
        let sizes = [
            "",
            " 5",
            "5 ",
            "5\t",
            "\t5",
            "+5",
            "-5",
            "0x5",
            "5_0",
            "x",
            "5h",
            "g",
            "5,",
            "5 ;a",
            ";a",
            "\"5\"",
            "\u{665}",
            "\0",
            "8000000000000000",
            "ffffffffffffffff",
            "10000000000000000",
            "00000000000000005",
            "f0000000000000001",
        ];
        for size in sizes {
            refuse(format!("{size}\r\nhello\r\n0\r\n\r\n"), BodyError::ChunkSize);
        }
        check(BodyKind::Chunked, b"7fffffffffffffff\r\nx", Ok((b"x", 19, false)));
    }

    #[test]
    fn lines_end_in_cr_lf_only() {
        let wrong = [
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\rhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\n\r\n",
            "5\r\nhello\r\n0\r\n\rX",
            "5\r\nhello\r\n0\r\n\n",
        ];
        for input in wrong {
            refuse(input, BodyError::LineEnd);
        }
        refuse("5\r\nhell\r\n0\r\n\r\n", BodyError::LineEnd);
        refuse("5\r\nhello\r\n\r\n0\r\n\r\n", BodyError::ChunkSize);
    }

    #[test]
    fn every_beginning_of_a_chunked_body_is_truncated() {
        let body = b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
        for end in 0..body.len() {
            let mut decoder = BodyDecoder::new(BodyKind::Chunked);
            decode(&mut decoder, &body[..end], &[]).unwrap();
            assert_eq!(decoder.on_eof(), Err(BodyError::Truncated), "{end}");
            assert_eq!(decoder.remaining(), None);
        }
    }

    // RFC 9112 section 7.1.2
    #[test]
    fn trailers() {
        let text = "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\nnext";
        chunked(text, "x", 4);
        let mut decoder = BodyDecoder::new(BodyKind::Chunked);
        decode(&mut decoder, text.as_bytes(), &[]).unwrap();
        assert_eq!(decoder.trailers(), b"");
        // However it is cut, and nothing is allocated before there are any.
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut decoder = BodyDecoder::new(BodyKind::Chunked).keep_trailers(&Limits::default());
                decode(&mut decoder, text.as_bytes(), &[first, second]).unwrap();
                assert_eq!(decoder.trailers(), b"A: b\r\nC:\r\n", "cut at {first}, {second}");
            }
        }
        let mut decoder = BodyDecoder::new(BodyKind::Chunked).keep_trailers(&Limits::default());
        decode(&mut decoder, b"1\r\nx\r\n0\r\n\r\n", &[]).unwrap();
        assert_eq!((decoder.trailers(), decoder.trailers.capacity()), (&b""[..], 0));
        let wrong = [
            (" A: b", BodyError::Trailer),
            ("A : b", BodyError::Trailer),
            ("A", BodyError::Trailer),
            (": b", BodyError::Trailer),
            ("A: b\r\n c", BodyError::Trailer),
            ("A: \0", BodyError::Trailer),
            ("A: b\nC: d", BodyError::LineEnd),
            ("A: b\rC: d", BodyError::LineEnd),
            ("A\n: b", BodyError::LineEnd),
            ("\n", BodyError::LineEnd),
        ];
        for (line, error) in wrong {
            refuse(format!("0\r\n{line}\r\n\r\n"), error);
        }
    }

    #[test]
    fn trailers_are_limited() {
        let decode = |lines: String, limits: Option<Limits>| {
            let input = format!("0\r\n{lines}\r\n");
            let decoder = BodyDecoder::new(BodyKind::Chunked);
            let mut decoder = limits.iter().fold(decoder, |decoder, limits| decoder.keep_trailers(limits));
            decode(&mut decoder, input.as_bytes(), &[]).map(|(_, _, done)| (done, decoder.trailers().len()))
        };
        let line = |bytes: usize| format!("A: {}\r\n", "b".repeat(bytes - 5));
        // Those that nobody wants.
        assert_eq!(decode("A: b\r\n".repeat(64), None), Ok((true, 0)));
        assert_eq!(decode("A: b\r\n".repeat(65), None), Err(BodyError::TrailersTooLarge));
        assert_eq!(decode(line(TRAILER_BYTES_MAX), None), Ok((true, 0)));
        assert_eq!(decode(line(TRAILER_BYTES_MAX + 1), None), Err(BodyError::TrailersTooLarge));
        // Those that are kept.
        let few = Limits { head_bytes_max: 100, headers_max: 3, ..Limits::default() };
        assert_eq!(decode("A: b\r\n".repeat(3), Some(few)), Ok((true, 18)));
        assert_eq!(decode("A: b\r\n".repeat(4), Some(few)), Err(BodyError::TrailersTooLarge));
        assert_eq!(decode(line(100), Some(few)), Ok((true, 100)));
        assert_eq!(decode(line(101), Some(few)), Err(BodyError::TrailersTooLarge));
        assert_eq!(decode("A: b\r\n".repeat(128), Some(Limits::default())), Ok((true, 128 * 6)));
    }

    #[test]
    fn one_call_takes_a_whole_chunk_and_the_end_behind_it() {
        let input = b"5\r\nhello\r\n0\r\n\r\n";
        let decoded = BodyDecoder::new(BodyKind::Chunked).decode(input).unwrap();
        assert_eq!(decoded, Decoded { consumed: input.len(), data: 3..8, done: true });
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            next in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_chunk_head(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(CHUNK_END);
            }
            wire.extend_from_slice(LAST_CHUNK);
            let used = wire.len();
            wire.extend_from_slice(&next);
            let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(used)).collect();
            cuts.sort_unstable();
            let decoded = decode(&mut BodyDecoder::new(BodyKind::Chunked), &wire, &cuts);
            prop_assert_eq!(decoded, Ok((chunks.concat(), used, true)));
        }

        #[test]
        fn a_length_is_kept(body in prop::collection::vec(any::<u8>(), 0..500), length in 0u64..600) {
            let used = body.len().min(length as usize);
            let decoded = decode(&mut BodyDecoder::new(BodyKind::Length(length)), &body, &[used / 2]);
            prop_assert_eq!(decoded, Ok((body[..used].to_vec(), used, used as u64 == length)));
        }
    }
}
