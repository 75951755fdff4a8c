//! Where a message body ends (RFC 9112 sections 6.3 and 7.1). Content is handed out in place, never copied.

use super::fields::is_token_byte;
use super::head::BodyKind;
use std::fmt;
use std::ops::Range;

/// Chunk extensions of one body, together. They mean nothing to anybody, so they are only skipped.
const EXTENSION_BYTES_MAX: usize = 16 << 10;
/// Trailer section of one body, names, values and line ends.
const TRAILER_BYTES_MAX: usize = 8 << 10;
/// Trailer fields of one body.
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
    /// More trailer fields than 64, or more bytes of them than 8 KiB.
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
    keeps_trailers: bool,
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

    /// The same, keeping trailer fields for [`BodyDecoder::trailers`]; otherwise they are checked and dropped.
    pub fn keep_trailers(mut self) -> BodyDecoder {
        self.keeps_trailers = true;
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

    /// Trailer lines, `name: value` CR LF each, if [`BodyDecoder::keep_trailers`] was asked for. They must not be
    /// merged into the header without a list of allowed names (RFC 9110 section 6.5.1).
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
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
            byte if is_text(byte) => Ok(State::Extension { size }),
            _ => Err(BodyError::ChunkExtension),
        }
    }

    fn trailer_step(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailersTooLarge);
        }
        let next = match (self.state, byte) {
            (State::TrailerStart, _) if self.trailer_count == TRAILERS_MAX => return Err(BodyError::TrailersTooLarge),
            (State::TrailerStart, byte) if is_token_byte(byte) => {
                self.trailer_count += 1;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, byte) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) if is_text(byte) => State::TrailerValue,
            (State::TrailerLf, byte) => line_feed(byte, State::TrailerStart)?,
            (_, b'\n') => return Err(BodyError::LineEnd),
            _ => return Err(BodyError::Trailer),
        };
        if self.keeps_trailers {
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

/// A byte that a field value may have: no control but HTAB (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
