//! The client's direction of a request stream: HEADERS, any DATA, perhaps trailers (RFC 9114 section 4.1).
//!
//! ```text
//!   head ──HEADERS──▶ content ──HEADERS──▶ trailers ──▶ end
//!                      ▲  │
//!                      └──┘ DATA            frames of unknown kinds are skipped anywhere
//! ```

use bytes::{Buf, Bytes};

use super::code::{ErrorCode, Failure};
use super::frame::{FrameHead, HeadReader, kind};

/// Something that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The field section of the request.
    Head(Vec<u8>),
    /// The section is longer than the limit; it is skipped.
    HeadTooLarge,
    /// A run of content, not empty.
    Data(Bytes),
    /// The field section behind the content, if it is not longer than the limit.
    Trailers(Vec<u8>),
}

/// Reads the frames of a request.
#[derive(Debug)]
pub struct RequestReader {
    stage: Stage,
    head: HeadReader,
    /// The frame whose payload comes, and how much of it is still to come.
    frame: Option<FrameHead>,
    /// Gathers the field section.
    section: Vec<u8>,
    section_bytes_max: usize,
    /// Nothing but content may follow.
    is_tunnel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Content,
    Trailers,
}

impl RequestReader {
    /// A request of which nothing has come. A field section beyond `section_bytes_max` is told as
    /// [`Piece::HeadTooLarge`]; trailers that long are skipped.
    pub fn new(section_bytes_max: usize) -> RequestReader {
        RequestReader {
            stage: Stage::Head,
            head: HeadReader::default(),
            frame: None,
            section: Vec::new(),
            section_bytes_max,
            is_tunnel: false,
        }
    }

    /// A CONNECT has been agreed to: nothing but content may follow (RFC 9114 section 4.4).
    pub fn become_tunnel(&mut self) {
        self.is_tunnel = true;
    }

    /// Takes bytes from the front of `input` up to the next piece; `None`: all are used, and more are needed.
    ///
    /// Errors: frames that may not stand here.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Failure> {
        loop {
            if self.frame.is_none() {
                let (head, taken) = self.head.read(input);
                input.advance(taken);
                let Some(head) = head else { return Ok(None) };
                if let Some(piece) = self.begin(head)? {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(frame) = &mut self.frame else { continue };
            if frame.payload_bytes > 0 && input.is_empty() {
                return Ok(None);
            }
            let taken = input.len().min(usize::try_from(frame.payload_bytes).unwrap_or(usize::MAX));
            let payload = input.split_to(taken);
            frame.payload_bytes -= taken as u64;
            let (kind, is_whole) = (frame.kind, frame.payload_bytes == 0);
            if is_whole {
                self.frame = None;
            }
            match (kind, self.stage) {
                (kind::DATA, _) if !payload.is_empty() => return Ok(Some(Piece::Data(payload))),
                (kind::HEADERS, Stage::Head) => {
                    self.section.extend_from_slice(&payload);
                    if is_whole {
                        self.stage = Stage::Content;
                        return Ok(Some(Piece::Head(std::mem::take(&mut self.section))));
                    }
                }
                (kind::HEADERS, Stage::Trailers) => {
                    self.section.extend_from_slice(&payload);
                    if is_whole {
                        return Ok(Some(Piece::Trailers(std::mem::take(&mut self.section))));
                    }
                }
                _ => {}
            }
        }
    }

    /// A frame begins. What may not stand here ends the connection (RFC 9114 sections 4.1 and 7.2).
    fn begin(&mut self, head: FrameHead) -> Result<Option<Piece>, Failure> {
        let unexpected = Err(Failure::Connection(ErrorCode::FRAME_UNEXPECTED));
        match (head.kind, self.stage) {
            (kind::HEADERS, Stage::Head) if head.payload_bytes > self.section_bytes_max as u64 => {
                // As one of an unknown kind: the table being static, nothing depends on what it says.
                self.frame = Some(FrameHead { kind: u64::MAX, ..head });
                self.stage = Stage::Content;
                return Ok(Some(Piece::HeadTooLarge));
            }
            (kind::HEADERS, Stage::Head) => self.section.reserve(head.payload_bytes as usize),
            (kind::HEADERS, Stage::Content) if !self.is_tunnel => {
                self.stage = Stage::Trailers;
                if head.payload_bytes > self.section_bytes_max as u64 {
                    self.frame = Some(FrameHead { kind: u64::MAX, ..head });
                    return Ok(None);
                }
            }
            (kind::DATA, Stage::Content) => {}
            (kind::HEADERS | kind::DATA, _) => return unexpected,
            (kind::CANCEL_PUSH | kind::SETTINGS | kind::PUSH_PROMISE | kind::GOAWAY | kind::MAX_PUSH_ID, _) => {
                return unexpected;
            }
            (kind, _) if kind::is_forbidden(kind) => return unexpected,
            _ => {}
        }
        self.frame = Some(head);
        Ok(None)
    }

    /// The stream has ended. Errors: within a frame, or before the head.
    pub fn end(&self) -> Result<(), Failure> {
        if self.frame.is_some_and(|frame| frame.payload_bytes > 0) || !self.head.is_empty() {
            return Err(Failure::Connection(ErrorCode::FRAME_ERROR));
        }
        match self.stage {
            Stage::Head => Err(Failure::Stream(ErrorCode::REQUEST_INCOMPLETE)),
            Stage::Content | Stage::Trailers => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::put_head;
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_head(kind, payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What a stream of these bytes brings, given in two parts; runs of content are joined.
    fn read(bytes: &[u8], cut: usize) -> Result<Vec<Piece>, Failure> {
        let mut reader = RequestReader::new(10);
        let mut pieces: Vec<Piece> = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(piece) = reader.read(&mut input)? {
                match (pieces.last_mut(), piece) {
                    (Some(Piece::Data(data)), Piece::Data(more)) => *data = [&data[..], &more].concat().into(),
                    (_, piece) => pieces.push(piece),
                }
            }
            assert!(input.is_empty());
        }
        reader.end().map(|()| pieces)
    }

    fn check(frames: &[(u64, &[u8])], expect: Result<Vec<Piece>, Failure>) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        (0..=bytes.len()).for_each(|cut| assert_eq!(read(&bytes, cut), expect, "{frames:x?} cut at {cut}"));
    }

    fn head(section: &[u8]) -> Piece {
        Piece::Head(section.to_vec())
    }

    fn data(data: &'static [u8]) -> Piece {
        Piece::Data(Bytes::from_static(data))
    }

    #[test]
    fn requests() {
        check(&[(1, b"fields")], Ok(vec![head(b"fields")]));
        check(&[(1, b"")], Ok(vec![head(b"")]));
        check(&[(1, b"f"), (0, b"one"), (0, b""), (0, b"two")], Ok(vec![head(b"f"), data(b"onetwo")]));
        check(&[(1, b"f"), (0, b"one"), (1, b"longer than ten")], Ok(vec![head(b"f"), data(b"one")]));
        let trailers = Piece::Trailers(b"trailers".to_vec());
        check(&[(1, b"f"), (0, b"one"), (1, b"trailers")], Ok(vec![head(b"f"), data(b"one"), trailers.clone()]));
        check(&[(1, b"f"), (1, b"trailers"), (0x21, b"?")], Ok(vec![head(b"f"), trailers]));
        // Kinds that nobody knows, in between.
        check(&[(0x21, b"?"), (1, b"f"), (0x40, b""), (0, b"x"), (0xf0700, b"u=1")], Ok(vec![head(b"f"), data(b"x")]));
        check(&[(1, b"eleven bytes"), (0, b"x")], Ok(vec![Piece::HeadTooLarge, data(b"x")]));
    }

    #[test]
    fn frames_that_may_not_stand_there() {
        let unexpected = Err(Failure::Connection(ErrorCode::FRAME_UNEXPECTED));
        check(&[(0, b"x")], unexpected.clone());
        check(&[(1, b"f"), (1, b"t"), (0, b"x")], unexpected.clone());
        check(&[(1, b"f"), (1, b"t"), (1, b"t")], unexpected.clone());
        for kind in [0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0d] {
            check(&[(1, b"f"), (kind, b"")], unexpected.clone());
            check(&[(kind, b"x")], unexpected.clone());
        }
    }

    #[test]
    fn a_tunnel_has_no_trailers() {
        let mut reader = RequestReader::new(10);
        let bytes = [frame(1, b"f"), frame(0, b"x"), frame(0x21, b"?"), frame(1, b"t")].concat();
        let mut input = Bytes::from(bytes);
        assert_eq!(reader.read(&mut input), Ok(Some(head(b"f"))));
        reader.become_tunnel();
        assert_eq!(reader.read(&mut input), Ok(Some(data(b"x"))));
        assert_eq!(reader.read(&mut input), Err(Failure::Connection(ErrorCode::FRAME_UNEXPECTED)));
    }

    #[test]
    fn ends_that_are_too_early() {
        check(&[], Err(Failure::Stream(ErrorCode::REQUEST_INCOMPLETE)));
        check(&[(0x21, b"x")], Err(Failure::Stream(ErrorCode::REQUEST_INCOMPLETE)));
        let bytes = [frame(1, b"f"), frame(0, b"content")].concat();
        for end in [1, 2, bytes.len() - 1] {
            assert_eq!(read(&bytes[..end], 0), Err(Failure::Connection(ErrorCode::FRAME_ERROR)), "{end}");
        }
    }
}
