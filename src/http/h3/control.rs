//! The client's unidirectional streams: its control stream and those of QPACK (RFC 9114 section 6.2, RFC 9204 section
//! 4.2); and what stands in our own control stream.

use super::code::{ErrorCode, Failure};
use super::frame::{FrameHead, HeadReader, kind, put_head};
use super::varint;

/// Types of streams.
const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;

/// Settings: RFC 9114 section 7.2.4.1, RFC 9220 section 3.
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;

/// More than any known client sends in SETTINGS.
const SETTINGS_BYTES_MAX: u64 = 4096;

/// The largest id of a request stream: what the first GOAWAY of a graceful end says (RFC 9114 section 5.2).
pub const GOAWAY_LAST: u64 = (1 << 62) - 4;

/// What our control stream begins with. `list_bytes_max`: size of a request's fields; `offers_connect`: clients may send an
/// extended CONNECT.
pub fn settings_stream(list_bytes_max: u64, offers_connect: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    varint::encode(MAX_FIELD_SECTION_SIZE, &mut payload);
    varint::encode(list_bytes_max, &mut payload);
    if offers_connect {
        varint::encode(ENABLE_CONNECT_PROTOCOL, &mut payload);
        varint::encode(1, &mut payload);
    }
    let mut bytes = Vec::new();
    varint::encode(CONTROL, &mut bytes);
    put_head(kind::SETTINGS, payload.len(), &mut bytes);
    bytes.extend_from_slice(&payload);
    bytes
}

/// GOAWAY for our control stream: requests with this stream id and above will not be answered.
pub fn goaway(stream_id: u64) -> Vec<u8> {
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    varint::encode(stream_id, &mut payload);
    put_head(kind::GOAWAY, payload.len(), &mut bytes);
    bytes.extend_from_slice(&payload);
    bytes
}

/// Which of the streams a connection has once only are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalStreams {
    control: bool,
    encoder: bool,
    decoder: bool,
}

/// One unidirectional stream of the client.
#[derive(Debug)]
pub struct UniReader {
    role: Role,
}

#[derive(Debug)]
enum Role {
    /// Its type has not come whole.
    Unknown(Vec<u8>),
    Control(Box<Control>),
    Encoder(Instruction),
    Decoder(Instruction),
    /// Of a kind that nobody knows: what it says does not count.
    Ignored,
}

impl Default for UniReader {
    fn default() -> UniReader {
        UniReader { role: Role::Unknown(Vec::new()) }
    }
}

impl UniReader {
    /// Takes what came. `Ok(false)`: nothing of this stream counts, and the client may be told to stop.
    ///
    /// `critical` is what the streams of a connection share. Errors end the connection.
    pub fn read(&mut self, mut input: &[u8], critical: &mut CriticalStreams) -> Result<bool, Failure> {
        if let Role::Unknown(begun) = &mut self.role {
            let Some(stream_type) = take_varint(begun, &mut input) else { return Ok(true) };
            self.role = role(stream_type, critical)?;
        }
        match &mut self.role {
            Role::Unknown(_) => Ok(true),
            Role::Ignored => Ok(false),
            Role::Control(control) => control.read(input).map(|()| true),
            Role::Encoder(instruction) => instruction.read_encoder(input).map(|()| true),
            Role::Decoder(instruction) => instruction.read_decoder(input).map(|()| true),
        }
    }

    /// The stream has ended or was reset. Errors: it was one that must stay (RFC 9114 section 6.2.1).
    pub fn end(&self) -> Result<(), Failure> {
        match self.role {
            Role::Unknown(_) | Role::Ignored => Ok(()),
            Role::Control(_) | Role::Encoder(_) | Role::Decoder(_) => {
                Err(Failure::Connection(ErrorCode::CLOSED_CRITICAL_STREAM))
            }
        }
    }
}

fn role(stream_type: u64, critical: &mut CriticalStreams) -> Result<Role, Failure> {
    let (is_there, role) = match stream_type {
        CONTROL => (&mut critical.control, Role::Control(Box::default())),
        QPACK_ENCODER => (&mut critical.encoder, Role::Encoder(Instruction::default())),
        QPACK_DECODER => (&mut critical.decoder, Role::Decoder(Instruction::default())),
        // Only servers push.
        PUSH => return Err(Failure::Connection(ErrorCode::STREAM_CREATION_ERROR)),
        _ => return Ok(Role::Ignored),
    };
    match std::mem::replace(is_there, true) {
        true => Err(Failure::Connection(ErrorCode::STREAM_CREATION_ERROR)),
        false => Ok(role),
    }
}

/// Takes bytes from the front of `input` until they are an integer together with `begun`.
fn take_varint(begun: &mut Vec<u8>, input: &mut &[u8]) -> Option<u64> {
    loop {
        if let Some((value, _)) = varint::decode(begun) {
            begun.clear();
            return Some(value);
        }
        let (first, rest) = input.split_first()?;
        begun.push(*first);
        *input = rest;
    }
}

/// The control stream: SETTINGS first and once, then frames about the connection.
#[derive(Debug, Default)]
struct Control {
    head: HeadReader,
    frame: Option<FrameHead>,
    /// Payload of a frame that is looked at.
    payload: Vec<u8>,
    has_settings: bool,
    /// Largest push id that the client has allowed.
    push_id_max: Option<u64>,
    /// Push id in its last GOAWAY.
    goaway: Option<u64>,
}

impl Control {
    fn read(&mut self, mut input: &[u8]) -> Result<(), Failure> {
        loop {
            if self.frame.is_none() {
                let (head, taken) = self.head.read(input);
                input = &input[taken..];
                let Some(head) = head else { return Ok(()) };
                self.check(head)?;
                self.frame = Some(head);
            }
            let Some(frame) = &mut self.frame else { continue };
            if frame.payload_bytes > 0 && input.is_empty() {
                return Ok(());
            }
            let taken = input.len().min(usize::try_from(frame.payload_bytes).unwrap_or(usize::MAX));
            frame.payload_bytes -= taken as u64;
            if is_looked_at(frame.kind) {
                self.payload.extend_from_slice(&input[..taken]);
            }
            input = &input[taken..];
            if frame.payload_bytes == 0 {
                let kind = frame.kind;
                self.frame = None;
                let payload = std::mem::take(&mut self.payload);
                self.take(kind, &payload)?;
            }
        }
    }

    /// A frame begins.
    fn check(&self, head: FrameHead) -> Result<(), Failure> {
        let error = |code| Err(Failure::Connection(code));
        match head.kind {
            kind::SETTINGS if self.has_settings => error(ErrorCode::FRAME_UNEXPECTED),
            kind::SETTINGS if head.payload_bytes > SETTINGS_BYTES_MAX => error(ErrorCode::EXCESSIVE_LOAD),
            kind::SETTINGS => Ok(()),
            _ if !self.has_settings => error(ErrorCode::MISSING_SETTINGS),
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => error(ErrorCode::FRAME_UNEXPECTED),
            kind if kind::is_forbidden(kind) => error(ErrorCode::FRAME_UNEXPECTED),
            // Each holds one integer.
            kind::CANCEL_PUSH | kind::GOAWAY | kind::MAX_PUSH_ID if head.payload_bytes > 8 => {
                error(ErrorCode::FRAME_ERROR)
            }
            _ => Ok(()),
        }
    }

    /// A frame is complete.
    fn take(&mut self, kind: u64, payload: &[u8]) -> Result<(), Failure> {
        if kind == kind::SETTINGS {
            self.has_settings = true;
            return check_settings(payload);
        }
        if !is_looked_at(kind) {
            return Ok(());
        }
        let whole = varint::decode(payload).filter(|(_, bytes)| *bytes == payload.len());
        let (id, _) = whole.ok_or(Failure::Connection(ErrorCode::FRAME_ERROR))?;
        let is_wrong = match kind {
            kind::MAX_PUSH_ID => self.push_id_max.replace(id).is_some_and(|before| id < before),
            kind::GOAWAY => self.goaway.replace(id).is_some_and(|before| id > before),
            // Nothing has been pushed (RFC 9114 section 7.2.3).
            _ => true,
        };
        if is_wrong { Err(Failure::Connection(ErrorCode::ID_ERROR)) } else { Ok(()) }
    }
}

fn is_looked_at(kind: u64) -> bool {
    matches!(kind, kind::SETTINGS | kind::CANCEL_PUSH | kind::GOAWAY | kind::MAX_PUSH_ID)
}

/// What the client says about itself is of no use to us: the table of its decoder stays empty, and no answer of ours has
/// fields beyond what clients take. It must be well-formed all the same (RFC 9114 section 7.2.4).
fn check_settings(mut payload: &[u8]) -> Result<(), Failure> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let next = |payload: &mut &[u8]| {
            let (value, bytes) = varint::decode(payload).ok_or(Failure::Connection(ErrorCode::FRAME_ERROR))?;
            *payload = &payload[bytes..];
            Ok(value)
        };
        let id = next(&mut payload)?;
        next(&mut payload)?;
        // Those of HTTP/2 that have no meaning any more.
        if matches!(id, 0x00 | 0x02..=0x05) || seen.contains(&id) {
            return Err(Failure::Connection(ErrorCode::SETTINGS_ERROR));
        }
        // Duplicates of ids that nobody knows do no harm, and are not looked for without end.
        if seen.len() < 64 {
            seen.push(id);
        }
    }
    Ok(())
}

/// An instruction of QPACK on its way: with an empty dynamic table each is a single integer.
#[derive(Debug, Default)]
struct Instruction {
    /// Its first byte; `None`: none has begun.
    first: Option<u8>,
    /// Bytes behind that.
    bytes: u8,
}

impl Instruction {
    /// RFC 9204 section 4.3: a capacity of zero is all that can be said about a table that has none.
    fn read_encoder(&mut self, input: &[u8]) -> Result<(), Failure> {
        match input.iter().all(|byte| *byte == 0x20) {
            true => Ok(()),
            false => Err(Failure::Connection(ErrorCode::QPACK_ENCODER_STREAM_ERROR)),
        }
    }

    /// RFC 9204 section 4.4: streams may be cancelled; there is nothing else to tell about a table that has no entries.
    fn read_decoder(&mut self, input: &[u8]) -> Result<(), Failure> {
        let error = Err(Failure::Connection(ErrorCode::QPACK_DECODER_STREAM_ERROR));
        for byte in input {
            match self.first {
                None if byte & 0xc0 != 0x40 => return error,
                None if byte & 0x3f == 0x3f => (self.first, self.bytes) = (Some(*byte), 0),
                None => {}
                Some(_) if self.bytes >= 9 => return error,
                Some(_) if byte & 0x80 == 0 => self.first = None,
                Some(_) => self.bytes += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_head(kind, payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads a stream in two parts, cut anywhere.
    fn check(bytes: &[u8], expect: Result<bool, ErrorCode>) {
        for cut in 0..=bytes.len() {
            let (mut reader, mut critical) = (UniReader::default(), CriticalStreams::default());
            let mut read = |part: &[u8]| reader.read(part, &mut critical).map_err(Failure::code);
            let result = read(&bytes[..cut]).and_then(|_| read(&bytes[cut..]));
            assert_eq!(result, expect, "{bytes:x?} cut at {cut}");
        }
    }

    fn check_control(frames: &[(u64, &[u8])], expect: Result<bool, ErrorCode>) {
        let frames: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        check(&[&[0u8], &frames[..]].concat(), expect);
    }

    #[test]
    fn settings_come_first_and_once() {
        check_control(&[(4, b"")], Ok(true));
        check_control(&[(4, b"\x06\x40\x64\x21\x01"), (0x21, b"unknown"), (0xd, b"\x05"), (0xd, b"\x05")], Ok(true));
        check_control(&[(0x21, b"")], Err(ErrorCode::MISSING_SETTINGS));
        check_control(&[(7, b"\x00")], Err(ErrorCode::MISSING_SETTINGS));
        check_control(&[(4, b""), (4, b"")], Err(ErrorCode::FRAME_UNEXPECTED));
        check_control(&[(4, b"\x06")], Err(ErrorCode::FRAME_ERROR));
        check_control(&[(4, b"\x06\x01\x06\x01")], Err(ErrorCode::SETTINGS_ERROR));
        check_control(&[(4, b"\x03\x01")], Err(ErrorCode::SETTINGS_ERROR));
        check_control(&[(4, &[0x21; 5000])], Err(ErrorCode::EXCESSIVE_LOAD));
    }

    #[test]
    fn frames_about_the_connection() {
        for kind in [0x00, 0x01, 0x02, 0x05, 0x06, 0x08, 0x09] {
            check_control(&[(4, b""), (kind, b"")], Err(ErrorCode::FRAME_UNEXPECTED));
        }
        check_control(&[(4, b""), (7, b"\x05"), (7, b"\x04")], Ok(true));
        check_control(&[(4, b""), (7, b"\x05"), (7, b"\x06")], Err(ErrorCode::ID_ERROR));
        check_control(&[(4, b""), (0xd, b"\x05"), (0xd, b"\x04")], Err(ErrorCode::ID_ERROR));
        check_control(&[(4, b""), (3, b"\x00")], Err(ErrorCode::ID_ERROR));
        check_control(&[(4, b""), (7, b"")], Err(ErrorCode::FRAME_ERROR));
        check_control(&[(4, b""), (7, b"\x05\x05")], Err(ErrorCode::FRAME_ERROR));
        check_control(&[(4, b""), (7, b"123456789")], Err(ErrorCode::FRAME_ERROR));
    }

    #[test]
    fn streams_of_qpack_say_nothing() {
        check(b"\x02\x20\x20", Ok(true));
        check(b"\x02\x3f\x01", Err(ErrorCode::QPACK_ENCODER_STREAM_ERROR));
        check(b"\x02\x80\x01a", Err(ErrorCode::QPACK_ENCODER_STREAM_ERROR));
        check(b"\x03\x44\x7f\x80\x01\x40", Ok(true));
        check(b"\x03\x84", Err(ErrorCode::QPACK_DECODER_STREAM_ERROR));
        check(b"\x03\x01", Err(ErrorCode::QPACK_DECODER_STREAM_ERROR));
        check(b"\x03\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", Err(ErrorCode::QPACK_DECODER_STREAM_ERROR));
    }

    #[test]
    fn streams_are_there_once_and_stay() {
        check(b"\x01", Err(ErrorCode::STREAM_CREATION_ERROR));
        check(b"\x40\x54anything", Ok(false));
        for bytes in [&b"\x00\x04\x00"[..], b"\x02", b"\x03"] {
            let mut critical = CriticalStreams::default();
            let (mut first, mut second) = (UniReader::default(), UniReader::default());
            assert_eq!(first.read(bytes, &mut critical), Ok(true));
            assert_eq!(second.read(bytes, &mut critical), Err(Failure::Connection(ErrorCode::STREAM_CREATION_ERROR)));
            assert_eq!(first.end(), Err(Failure::Connection(ErrorCode::CLOSED_CRITICAL_STREAM)));
        }
        assert_eq!(UniReader::default().end(), Ok(()));
    }

    #[test]
    fn our_own_stream_is_one_that_we_would_take() {
        for offers_connect in [false, true] {
            let settings = settings_stream(65_536, offers_connect);
            assert_eq!(settings.ends_with(b"\x08\x01"), offers_connect);
            check(&[settings, goaway(GOAWAY_LAST), goaway(4)].concat(), Ok(true));
        }
    }
}
