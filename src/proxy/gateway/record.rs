//! Records of FastCGI 1.0: every byte on the wire belongs to one.
//!
//! ```text
//! version 1 | type | request id (2) | content length (2) | padding length | reserved | content … | padding …
//! ```
//!
//! A request is BEGIN_REQUEST, PARAMS … and an empty PARAMS, STDIN … and an empty STDIN. Its answer is STDOUT and STDERR in any
//! order, then END_REQUEST. Content is handed out as positions in the input, so that nothing is copied; how it is cut into
//! records says nothing.
//!
//! Source: FastCGI Specification, version 1.0, sections 3.3, 5 and 8.

use std::fmt;
use std::ops::Range;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;
/// Content of END_REQUEST: application status, protocol status, reserved.
const END_BYTES: usize = 8;
/// Most content of a record.
const CONTENT_BYTES_MAX: usize = 0xffff;
/// The only request of its connection.
const REQUEST_ID: u16 = 1;
const ROLE_RESPONDER: u16 = 1;
const FLAG_KEEP_CONNECTION: u8 = 1;

const BEGIN_REQUEST: u8 = 1;
const ABORT_REQUEST: u8 = 2;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const DATA: u8 = 8;

/// How a request begins, and what becomes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With BEGIN_REQUEST; the server closes the connection behind its answer.
    Alone,
    /// With BEGIN_REQUEST; the server keeps the connection.
    Kept,
    /// BEGIN_REQUEST has been sent already, behind the request before it: see [`announce`].
    Announced,
}

/// Appends BEGIN_REQUEST, if the server has not got it, and `params`, whole.
pub(super) fn put_request(out: &mut Vec<u8>, params: &[u8], opening: Opening) {
    if opening != Opening::Announced {
        put_begin(out, opening != Opening::Alone);
    }
    put_stream(out, PARAMS, params);
    put_head(out, PARAMS, 0);
}

/// Appends, behind the end of a request, BEGIN_REQUEST of the next one on this connection, whatever that will be.
///
/// A server that reads no further than the request it works on, as PHP does, takes it up when it is done with that one in every
/// respect, which may be long behind the answer (`fastcgi_finish_request`). So whether it has been taken up says whether a
/// request that follows would be worked on at once; and one that is announced and never comes is nothing that a server would run.
pub fn announce(out: &mut Vec<u8>) {
    put_begin(out, true);
}

/// For a responder.
fn put_begin(out: &mut Vec<u8>, keeps: bool) {
    put_head(out, BEGIN_REQUEST, 8);
    out.extend_from_slice(&ROLE_RESPONDER.to_be_bytes());
    out.extend_from_slice(&[if keeps { FLAG_KEEP_CONNECTION } else { 0 }, 0, 0, 0, 0, 0]);
}

/// Appends a run of the request's content. None at all for an empty one, which would be the end.
pub fn put_content(out: &mut Vec<u8>, content: &[u8]) {
    put_stream(out, STDIN, content);
}

/// Appends the end of the request's content.
pub fn end_content(out: &mut Vec<u8>) {
    put_head(out, STDIN, 0);
}

fn put_stream(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    for piece in content.chunks(CONTENT_BYTES_MAX) {
        put_head(out, kind, piece.len() as u16);
        out.extend_from_slice(piece);
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, content_bytes: u16) {
    let ([id, id_low], [length, length_low]) = (REQUEST_ID.to_be_bytes(), content_bytes.to_be_bytes());
    out.extend_from_slice(&[VERSION, kind, id, id_low, length, length_low, 0, 0]);
}

/// Why what a server sends is no answer. Its fault each time; the connection cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Another version than 1.
    Version(u8),
    /// A record of another request than ours.
    RequestId(u16),
    /// A type that only the other side may send.
    Type(u8),
    /// END_REQUEST that is too short to hold its statuses.
    End(usize),
    /// Content behind END_REQUEST.
    BehindEnd,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Version(version) => write!(f, "version {version} of FastCGI, or none"),
            RecordError::RequestId(id) => write!(f, "a record of request {id}, which is not ours"),
            RecordError::Type(kind) => write!(f, "a record of type {kind}, which servers do not send"),
            RecordError::End(bytes) => write!(f, "END_REQUEST with {bytes} bytes instead of {END_BYTES}"),
            RecordError::BehindEnd => f.write_str("records behind END_REQUEST"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What a server says of how it took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolStatus {
    /// It has worked on it.
    Complete,
    /// It takes one request at a time for each connection: this one was not looked at.
    CantMultiplex,
    /// It has no room: this one was not looked at.
    Overloaded,
    /// It is no responder.
    UnknownRole,
    /// A number that the specification does not know.
    Other(u8),
}

/// What END_REQUEST says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// As of an exit(3); its meaning is the program's.
    pub application: u32,
    /// How the request was taken.
    pub protocol: ProtocolStatus,
}

/// Something that a server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run of the answer, never empty, at this place of the input.
    Stdout(Range<usize>),
    /// A run of what the program complains of, never empty.
    Stderr(Range<usize>),
    /// The answer is complete, and so is the last record.
    End(End),
}

/// What came of a piece of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that have been used.
    pub consumed: usize,
    /// `None`: all of the input has been used, and there is nothing to tell.
    pub event: Option<Event>,
}

/// Where in a record the input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In its head, of which so many bytes are there.
    Head(usize),
    /// In its content, of which so many bytes are to come.
    Content { kind: u8, left: usize, padding: u8 },
    /// In the content of END_REQUEST, of which so many bytes are there.
    End { have: usize, left: usize, padding: u8 },
    /// In its padding. `is_last`: of END_REQUEST.
    Padding { left: u8, is_last: bool },
    /// Behind END_REQUEST.
    Done,
}

/// Reads the records of one answer.
///
/// ```text
/// Head → Content → Padding → Head …        Head → End → Padding → Done
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// A head, or the content of END_REQUEST, as far as it has come.
    partial: [u8; 8],
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: State::Head(0), partial: [0; 8] }
    }
}

impl Decoder {
    /// The answer is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what came. Call it again with the rest of the input until there is none.
    ///
    /// Records that belong to no request, and types from beyond the specification, are passed over. Errors: what this is in no
    /// answer; the decoder must not be used again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, RecordError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if let State::Padding { left: 0, is_last } = self.state {
                self.state = if is_last { State::Done } else { State::Head(0) };
                if is_last {
                    return Ok(Decoded { consumed: at, event: Some(Event::End(self.end())) });
                }
            }
            if rest.is_empty() {
                return Ok(Decoded { consumed: at, event: None });
            }
            match self.state {
                State::Head(have) => {
                    let count = self.fill(have, rest, HEAD_BYTES);
                    at += count;
                    self.state = match have + count {
                        HEAD_BYTES => self.begin()?,
                        have => State::Head(have),
                    };
                }
                State::Content { kind, left, padding } => {
                    let count = left.min(rest.len());
                    self.state = match left - count {
                        0 => State::Padding { left: padding, is_last: false },
                        left => State::Content { kind, left, padding },
                    };
                    let range = at..at + count;
                    at += count;
                    let event = match kind {
                        STDOUT => Event::Stdout(range),
                        STDERR => Event::Stderr(range),
                        _ => continue,
                    };
                    return Ok(Decoded { consumed: at, event: Some(event) });
                }
                State::End { have, left, padding } => {
                    let count = left.min(rest.len());
                    // What is longer than it has to be ends with something that we do not know.
                    self.fill(have, &rest[..count], END_BYTES);
                    at += count;
                    self.state = match left - count {
                        0 => State::Padding { left: padding, is_last: true },
                        left => State::End { have: END_BYTES.min(have + count), left, padding },
                    };
                }
                State::Padding { left, is_last } => {
                    let count = usize::from(left).min(rest.len());
                    at += count;
                    self.state = State::Padding { left: left - count as u8, is_last };
                }
                State::Done => return Err(RecordError::BehindEnd),
            }
        }
    }

    /// Adds to the `have` bytes that are there, up to `most`; returns how many.
    fn fill(&mut self, have: usize, from: &[u8], most: usize) -> usize {
        let count = (most - have).min(from.len());
        self.partial[have..have + count].copy_from_slice(&from[..count]);
        count
    }

    /// What follows a head.
    fn begin(&self) -> Result<State, RecordError> {
        let [version, kind, id, id_low, length, length_low, padding, _] = self.partial;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let id = u16::from_be_bytes([id, id_low]);
        let left = usize::from(u16::from_be_bytes([length, length_low]));
        match kind {
            BEGIN_REQUEST | ABORT_REQUEST | PARAMS | STDIN | DATA => return Err(RecordError::Type(kind)),
            STDOUT | STDERR | END_REQUEST if id != REQUEST_ID => return Err(RecordError::RequestId(id)),
            END_REQUEST if left < END_BYTES => return Err(RecordError::End(left)),
            END_REQUEST => return Ok(State::End { have: 0, left, padding }),
            _ => {}
        }
        Ok(match left {
            0 => State::Padding { left: padding, is_last: false },
            left => State::Content { kind, left, padding },
        })
    }

    fn end(&self) -> End {
        let [a, b, c, d, protocol, ..] = self.partial;
        let protocol = match protocol {
            0 => ProtocolStatus::Complete,
            1 => ProtocolStatus::CantMultiplex,
            2 => ProtocolStatus::Overloaded,
            3 => ProtocolStatus::UnknownRole,
            other => ProtocolStatus::Other(other),
        };
        End { application: u32::from_be_bytes([a, b, c, d]), protocol }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzz::read;
    use super::*;

    /// A record as a server may send it.
    fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let mut out = vec![VERSION, kind];
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(content.len() as u16).to_be_bytes());
        out.extend_from_slice(&[padding, 0]);
        out.extend_from_slice(content);
        out.resize(out.len() + usize::from(padding), b'#');
        out
    }

    fn stdout(content: &[u8]) -> Vec<u8> {
        record(STDOUT, 1, content, (content.len() % 8) as u8)
    }

    fn stderr(content: &[u8]) -> Vec<u8> {
        record(STDERR, 1, content, 3)
    }

    fn end(application: u32, protocol: u8) -> Vec<u8> {
        let mut content = application.to_be_bytes().to_vec();
        content.extend_from_slice(&[protocol, 0, 0, 0]);
        record(END_REQUEST, 1, &content, 0)
    }

    fn answer() -> Vec<u8> {
        [
            stdout(b"Status: 200\r\n"),
            stderr(b"PHP Warning"),
            record(10, 0, b"values", 2),
            record(99, 7, b"who knows", 0),
            stdout(b"\r\nbody"),
            record(STDOUT, 1, b"", 5),
            record(STDERR, 1, b"", 0),
            record(END_REQUEST, 1, &[0, 0, 1, 2, 0, 0, 0, 0, 9, 9], 4),
        ]
        .concat()
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let input = answer();
        let whole = read(&input, &[]).unwrap();
        assert_eq!(whole.0, b"Status: 200\r\n\r\nbody");
        assert_eq!(whole.1, b"PHP Warning");
        assert_eq!(whole.2, Some((End { application: 258, protocol: ProtocolStatus::Complete }, input.len())));
        for cut in 0..=input.len() {
            assert_eq!(read(&input, &[cut]).unwrap(), whole, "cut at {cut}");
        }
        let each: Vec<usize> = (0..input.len()).collect();
        assert_eq!(read(&input, &each).unwrap(), whole);
        for end in 0..input.len() {
            assert_eq!(read(&input[..end], &[]).unwrap().2, None, "{end} bytes are no whole answer");
        }
    }

    #[test]
    fn what_is_no_answer() {
        for (input, expect) in [
            (b"HTTP/1.1 400".to_vec(), RecordError::Version(b'H')),
            (record(STDOUT, 2, b"a", 0), RecordError::RequestId(2)),
            (record(END_REQUEST, 0, &[0; 8], 0), RecordError::RequestId(0)),
            (record(END_REQUEST, 1, &[0; 7], 0), RecordError::End(7)),
            (record(STDIN, 1, b"a", 0), RecordError::Type(STDIN)),
            (record(BEGIN_REQUEST, 1, &[0; 8], 0), RecordError::Type(BEGIN_REQUEST)),
            ([end(0, 0), vec![1]].concat(), RecordError::BehindEnd),
        ] {
            assert_eq!(read(&input, &[]), Err(expect), "{}", input.escape_ascii());
            assert!(!expect.to_string().is_empty());
        }
    }

    #[test]
    fn statuses_of_the_protocol() {
        use ProtocolStatus::*;
        for (number, expect) in
            [(0, Complete), (1, CantMultiplex), (2, Overloaded), (3, UnknownRole), (4, Other(4)), (255, Other(255))]
        {
            let end = read(&end(7, number), &[]).unwrap().2.map(|(end, _)| end);
            assert_eq!(end, Some(End { application: 7, protocol: expect }));
        }
    }

    #[test]
    fn long_content_is_cut_into_records() {
        let (mut out, content) = (Vec::new(), vec![b'x'; 2 * CONTENT_BYTES_MAX + 5]);
        put_content(&mut out, &content);
        end_content(&mut out);
        let (mut at, mut lengths) = (0, Vec::new());
        while at < out.len() {
            assert_eq!(out[at..at + 4], [1, STDIN, 0, 1]);
            let length = usize::from(u16::from_be_bytes([out[at + 4], out[at + 5]]));
            lengths.push(length);
            at += HEAD_BYTES + length + usize::from(out[at + 6]);
        }
        assert_eq!(lengths, [CONTENT_BYTES_MAX, CONTENT_BYTES_MAX, 5, 0]);
        let before = out.len();
        put_content(&mut out, b"");
        assert_eq!(out.len(), before, "nothing is not the end");
    }

    #[test]
    fn a_request_begins_as_the_specification_has_it() {
        let begin = |flags| [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, flags, 0, 0, 0, 0, 0];
        let params = [1, 4, 0, 1, 0, 4, 0, 0, 1, 1, b'a', b'b', 1, 4, 0, 1, 0, 0, 0, 0];
        for (opening, flags) in [(Opening::Alone, 0), (Opening::Kept, 1)] {
            let mut out = Vec::new();
            put_request(&mut out, b"\x01\x01ab", opening);
            assert_eq!(out, [&begin(flags)[..], &params].concat());
        }
        // Announced behind the request before: the two pieces are what it would have been in one.
        let mut out = Vec::new();
        announce(&mut out);
        put_request(&mut out, b"\x01\x01ab", Opening::Announced);
        assert_eq!(out, [&begin(1)[..], &params].concat());
    }
}
