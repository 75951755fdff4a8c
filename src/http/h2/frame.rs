//! Frames in a stream of bytes: RFC 9113 sections 4.1 and 6. Payloads are stepped over, not copied; of the few kinds
//! whose payload says something to the guard, the first bytes are kept.

/// What a client sends first: RFC 9113 section 3.4.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEAD_BYTES: usize = 9;

/// Kinds of frames: RFC 9113 section 6, RFC 9218 section 7.1.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0x0;
    pub(in super::super) const HEADERS: u8 = 0x1;
    pub(in super::super) const PRIORITY: u8 = 0x2;
    pub(in super::super) const RST_STREAM: u8 = 0x3;
    pub(in super::super) const SETTINGS: u8 = 0x4;
    pub(in super::super) const PUSH_PROMISE: u8 = 0x5;
    pub(in super::super) const PING: u8 = 0x6;
    pub(in super::super) const GOAWAY: u8 = 0x7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 0x8;
    pub(in super::super) const CONTINUATION: u8 = 0x9;
    pub(in super::super) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags of frames. `ACK` and `END_STREAM` are the same bit of different kinds.
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// Why a stream or a connection ends: RFC 9113 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing is wrong.
    pub const NO_ERROR: ErrorCode = ErrorCode(0x0);
    /// The peer broke a rule that has no code of its own.
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(0x1);
    /// We failed.
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(0x2);
    /// The stream is no longer wanted.
    pub const CANCEL: ErrorCode = ErrorCode(0x8);
    /// The connection behind a CONNECT request broke.
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(0xa);
    /// The peer makes more work than is reasonable.
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(0xb);
    /// The request must be made over HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(0xd);

    /// Whether an RST_STREAM of ours with this code answers a mistake of the client. Everything does but what we say of
    /// ourselves, so that a code nobody thought of counts too.
    pub(super) fn blames_the_peer(self) -> bool {
        let own = [
            ErrorCode::NO_ERROR,
            ErrorCode::INTERNAL_ERROR,
            ErrorCode::CANCEL,
            ErrorCode::CONNECT_ERROR,
            ErrorCode::HTTP_1_1_REQUIRED,
        ];
        !own.contains(&self)
    }
}

/// A GOAWAY frame without debug data: RFC 9113 section 6.8. It may only be sent between two frames.
///
/// `last_stream_id` is the highest stream that may have been worked on.
pub fn goaway_frame(last_stream_id: u32, code: ErrorCode) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[..HEAD_BYTES].copy_from_slice(&[0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0]);
    frame[9..13].copy_from_slice(&(last_stream_id & STREAM_ID_MASK).to_be_bytes());
    frame[13..].copy_from_slice(&code.0.to_be_bytes());
    frame
}

/// Stream identifiers and window increments have 31 bits; the bit above is reserved and ignored.
const STREAM_ID_MASK: u32 = 0x7fff_ffff;

/// The head of a frame: RFC 9113 section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) payload_bytes: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream_id: u32,
}

impl FrameHead {
    fn parse(bytes: &[u8; HEAD_BYTES]) -> FrameHead {
        let [l0, l1, l2, kind, flags, id @ ..] = *bytes;
        FrameHead {
            payload_bytes: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream_id: u32::from_be_bytes(id) & STREAM_ID_MASK,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// How many bytes of the payload the guard looks at.
    fn kept_bytes(&self) -> u8 {
        let wanted = match self.kind {
            kind::DATA => u8::from(self.has(flag::PADDED)),
            kind::HEADERS if self.has(flag::PRIORITY) => u8::from(self.has(flag::PADDED)) + 4,
            kind::PRIORITY | kind::RST_STREAM | kind::WINDOW_UPDATE => 4,
            kind::GOAWAY => KEPT_BYTES_MAX as u8,
            _ => 0,
        };
        // Both are small.
        self.payload_bytes.min(wanted.into()) as u8
    }
}

/// Two numbers and the beginning of the debug data of a GOAWAY.
const KEPT_BYTES_MAX: usize = 24;

/// A frame whose head and kept bytes are complete; the rest of its payload need not have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: FrameHead,
    kept: [u8; KEPT_BYTES_MAX],
    kept_count: u8,
}

impl Frame {
    /// The first bytes of the payload, as far as they are kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept[..self.kept_count.into()]
    }

    /// The number at `at` in the payload; `None` when the payload is too short for it.
    pub(super) fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.kept().get(at..at + 4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The same without its reserved bit.
    pub(super) fn number31(&self, at: usize) -> Option<u32> {
        self.number(at).map(|number| number & STREAM_ID_MASK)
    }
}

/// What the scanner came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A frame has begun.
    Begin(Frame),
    /// The last byte of its payload has passed.
    End(FrameHead),
}

/// Finds the frames of one direction, however its bytes are cut.
#[derive(Clone, Debug)]
pub(super) struct FrameScanner {
    state: State,
}

/// ```text
/// Preface ──► Head ──► Kept ──► Skip ──► Head ──► …
///    └──► Foreign
/// ```
#[derive(Clone, Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(u8),
    /// Within a head.
    Head { bytes: [u8; HEAD_BYTES], count: u8 },
    /// Within the bytes of the payload that are kept.
    Kept(Frame),
    /// Within the rest of the payload.
    Skip { head: FrameHead, left: u32 },
    /// The first bytes are no preface: whatever it is, it is not HTTP/2, and the `h2` crate ends it.
    Foreign,
}

const HEAD_BEGIN: State = State::Head { bytes: [0; HEAD_BYTES], count: 0 };

impl FrameScanner {
    /// For what a client sends: the preface comes first.
    pub(super) fn of_client() -> FrameScanner {
        FrameScanner { state: State::Preface(0) }
    }

    /// For what a server sends.
    pub(super) fn of_server() -> FrameScanner {
        FrameScanner { state: HEAD_BEGIN }
    }

    /// Whether the bytes so far end within a frame.
    pub(super) fn is_within_frame(&self) -> bool {
        !matches!(self.state, State::Preface(_) | State::Head { count: 0, .. } | State::Foreign)
    }

    /// The head of the frame in which the bytes so far end, once it is complete.
    pub(super) fn current(&self) -> Option<&FrameHead> {
        match &self.state {
            State::Kept(frame) => Some(&frame.head),
            State::Skip { head, .. } => Some(head),
            _ => None,
        }
    }

    /// Takes bytes up to the next event; `None` when `input` is used up. Costs the same whatever the payload's length.
    #[inline]
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Event> {
        loop {
            match &mut self.state {
                State::Skip { head, left } => {
                    let n = input.len().min(*left as usize);
                    *input = &input[n..];
                    *left -= n as u32; // n is at most `left`
                    if *left > 0 {
                        return None;
                    }
                    let head = *head;
                    self.state = HEAD_BEGIN;
                    return Some(Event::End(head));
                }
                _ if input.is_empty() => return None,
                State::Head { bytes, count } => {
                    fill(bytes, count, HEAD_BYTES as u8, input);
                    if usize::from(*count) == HEAD_BYTES {
                        let head = FrameHead::parse(bytes);
                        if let Some(event) = self.begin(Frame { head, kept: [0; KEPT_BYTES_MAX], kept_count: 0 }) {
                            return Some(event);
                        }
                    }
                }
                State::Kept(frame) => {
                    fill(&mut frame.kept, &mut frame.kept_count, frame.head.kept_bytes(), input);
                    let frame = *frame;
                    if let Some(event) = self.begin(frame) {
                        return Some(event);
                    }
                }
                State::Preface(count) => {
                    let expected = &PREFACE[usize::from(*count)..];
                    let n = expected.len().min(input.len());
                    let (now, later) = input.split_at(n);
                    *input = later;
                    *count += n as u8; // at most the preface's 24
                    if now != &expected[..n] {
                        self.state = State::Foreign;
                    } else if usize::from(*count) == PREFACE.len() {
                        self.state = HEAD_BEGIN;
                    }
                }
                State::Foreign => *input = &[],
            }
        }
    }

    /// Goes on to the payload; the event when all kept bytes have come.
    #[inline]
    fn begin(&mut self, frame: Frame) -> Option<Event> {
        if frame.kept_count < frame.head.kept_bytes() {
            self.state = State::Kept(frame);
            return None;
        }
        let left = frame.head.payload_bytes - u32::from(frame.kept_count);
        self.state = State::Skip { head: frame.head, left };
        Some(Event::Begin(frame))
    }
}

/// Moves bytes from `input` to `place` until `count` is `wanted`, as far as there are any.
#[inline]
fn fill(place: &mut [u8], count: &mut u8, wanted: u8, input: &mut &[u8]) {
    let n = input.len().min((wanted - *count).into());
    let (now, later) = input.split_at(n);
    place[usize::from(*count)..][..n].copy_from_slice(now);
    *input = later;
    *count += n as u8; // at most `wanted`
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All events of `bytes` cut at `cuts`.
    fn events(mut scanner: FrameScanner, bytes: &[u8], cuts: &[usize]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut begin = 0;
        for &end in cuts.iter().chain([&bytes.len()]) {
            let mut piece = &bytes[begin..end];
            while let Some(event) = scanner.next(&mut piece) {
                events.push(event);
            }
            assert!(piece.is_empty());
            begin = end;
        }
        events
    }

    const SCRIPT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\
        \0\0\x07\x01\x2d\0\0\0\x01\x02\x80\0\0\0\xff\x82\
        \0\0\x04\0\x08\x80\0\0\x01\x02ab\0\
        \0\0\x04\x08\0\0\0\0\x01\x80\0\x01\0\
        \0\0\x0f\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bgo away\
        \0\0\0\x04\x01\0\0\0\0";

    #[test]
    fn heads_and_kept_bytes_are_found_and_payloads_stepped_over() {
        let found = events(FrameScanner::of_client(), SCRIPT, &[]);
        let shown: Vec<(u8, u8, u32, u32, &[u8])> = found
            .iter()
            .filter_map(|event| match event {
                Event::Begin(frame) => {
                    let head = &frame.head;
                    Some((head.kind, head.flags, head.stream_id, head.payload_bytes, frame.kept()))
                }
                Event::End(_) => None,
            })
            .collect();
        let expect: [(u8, u8, u32, u32, &[u8]); 6] = [
            (kind::SETTINGS, 0, 0, 6, b""),
            // With padding, the dependency stands behind the padding's length.
            (kind::HEADERS, 0x2d, 1, 7, b"\x02\x80\0\0\0"),
            // The reserved bit of an identifier is no part of it.
            (kind::DATA, flag::PADDED, 1, 4, b"\x02"),
            (kind::WINDOW_UPDATE, 0, 1, 4, b"\x80\0\x01\0"),
            (kind::GOAWAY, 0, 0, 15, b"\0\0\0\x01\0\0\0\x0bgo away"),
            (kind::SETTINGS, flag::ACK, 0, 0, b""),
        ];
        assert_eq!(shown, expect);
        assert_eq!(found.len(), 12, "each frame ends");
        let Event::Begin(update) = found[6] else { panic!("{:?}", found[6]) };
        assert_eq!((update.number(0), update.number31(0), update.number(1)), (Some(0x8000_0100), Some(0x100), None));
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let whole = events(FrameScanner::of_client(), SCRIPT, &[]);
        for first in 0..=SCRIPT.len() {
            for second in first..=SCRIPT.len() {
                assert_eq!(events(FrameScanner::of_client(), SCRIPT, &[first, second]), whole, "{first} {second}");
            }
        }
        let bytewise: Vec<usize> = (0..=SCRIPT.len()).collect();
        assert_eq!(events(FrameScanner::of_client(), SCRIPT, &bytewise), whole);
    }

    #[test]
    fn what_is_no_preface_has_no_frames() {
        for wrong in 0..PREFACE.len() {
            let mut bytes = SCRIPT.to_vec();
            bytes[wrong] ^= 1;
            assert_eq!(events(FrameScanner::of_client(), &bytes, &[]), [], "{wrong}");
            assert_eq!(events(FrameScanner::of_client(), &bytes, &[wrong, wrong + 1]), [], "{wrong}");
        }
        assert_eq!(events(FrameScanner::of_server(), &SCRIPT[24..], &[]).len(), 12, "a server has none");
    }

    #[test]
    fn it_knows_when_it_stands_within_a_frame() {
        let mut scanner = FrameScanner::of_server();
        let script = &SCRIPT[24..24 + 15];
        for (at, byte) in script.iter().enumerate() {
            assert_eq!(scanner.is_within_frame(), at > 0, "{at}");
            assert_eq!(scanner.current().is_some(), at >= HEAD_BYTES, "{at}");
            let mut piece = std::slice::from_ref(byte);
            while scanner.next(&mut piece).is_some() {}
        }
        assert!(!scanner.is_within_frame() && scanner.current().is_none());
    }

    #[test]
    fn a_goaway_of_ours_reads_as_one() {
        let found = events(FrameScanner::of_server(), &goaway_frame(u32::MAX, ErrorCode::ENHANCE_YOUR_CALM), &[]);
        let [Event::Begin(frame), Event::End(_)] = found[..] else { panic!("{found:?}") };
        assert_eq!((frame.head.kind, frame.head.payload_bytes, frame.head.stream_id), (kind::GOAWAY, 8, 0));
        assert_eq!((frame.number(0), frame.number(4)), (Some(0x7fff_ffff), Some(11)));
    }

    #[test]
    fn only_codes_about_ourselves_blame_nobody() {
        let own: Vec<u32> = (0..64).filter(|&code| !ErrorCode(code).blames_the_peer()).collect();
        assert_eq!(own, [0, 2, 8, 10, 13]);
    }
}
