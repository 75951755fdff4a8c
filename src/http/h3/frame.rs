//! Heads of frames in a stream of bytes: RFC 9114 section 7.1. A head may come in pieces; payloads are the caller's.

use super::varint;

/// Types of frames: RFC 9114 section 11.2.1.
pub(super) mod kind {
    pub(in super::super) const DATA: u64 = 0x00;
    pub(in super::super) const HEADERS: u64 = 0x01;
    pub(in super::super) const CANCEL_PUSH: u64 = 0x03;
    pub(in super::super) const SETTINGS: u64 = 0x04;
    pub(in super::super) const PUSH_PROMISE: u64 = 0x05;
    pub(in super::super) const GOAWAY: u64 = 0x07;
    pub(in super::super) const MAX_PUSH_ID: u64 = 0x0d;

    /// A type of HTTP/2 that has no meaning any more and must not be sent (section 7.2.8).
    pub(in super::super) fn is_forbidden(kind: u64) -> bool {
        matches!(kind, 0x02 | 0x06 | 0x08 | 0x09)
    }
}

/// Type and payload length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: u64,
    pub(super) payload_bytes: u64,
}

/// Gathers the head of the next frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadReader {
    bytes: [u8; 16],
    len: u8,
}

impl HeadReader {
    /// Takes bytes from the front of `input` until the head is complete; tells how many it took. `None`: more are needed.
    pub(super) fn read(&mut self, input: &[u8]) -> (Option<FrameHead>, usize) {
        for (taken, byte) in input.iter().enumerate() {
            // Two integers of at most 8 bytes each: the head is complete before the array is full.
            self.bytes[usize::from(self.len)] = *byte;
            self.len += 1;
            if let Some(head) = self.complete() {
                self.len = 0;
                return (Some(head), taken + 1);
            }
        }
        (None, input.len())
    }

    /// Nothing of a head has come.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn complete(&self) -> Option<FrameHead> {
        let bytes = &self.bytes[..usize::from(self.len)];
        let (kind, kind_bytes) = varint::decode(bytes)?;
        let (payload_bytes, _) = varint::decode(&bytes[kind_bytes..])?;
        Some(FrameHead { kind, payload_bytes })
    }
}

/// Appends a head.
pub(super) fn put_head(kind: u64, payload_bytes: usize, out: &mut Vec<u8>) {
    varint::encode(kind, out);
    varint::encode(payload_bytes as u64, out);
}

/// Appends the head of a DATA frame with this much payload.
pub fn data_head(payload_bytes: usize, out: &mut Vec<u8>) {
    put_head(kind::DATA, payload_bytes, out);
}

/// Appends the head of a HEADERS frame with this much payload.
pub fn headers_head(payload_bytes: usize, out: &mut Vec<u8>) {
    put_head(kind::HEADERS, payload_bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_come_in_pieces() {
        for (kind, payload_bytes) in [(0, 0), (1, 63), (0x21, 64), (0x4000, 0x4000_0000), (varint::MAX, varint::MAX)] {
            let mut bytes = Vec::new();
            put_head(kind, payload_bytes as usize, &mut bytes);
            bytes.push(b'x');
            for cut in 0..bytes.len() - 1 {
                let mut reader = HeadReader::default();
                assert_eq!(reader.read(&bytes[..cut]), (None, cut));
                assert_eq!(reader.is_empty(), cut == 0);
                let rest = bytes.len() - 1 - cut;
                assert_eq!(reader.read(&bytes[cut..]), (Some(FrameHead { kind, payload_bytes }), rest));
                assert!(reader.is_empty());
            }
        }
    }
}
