//! Framing: a packet is a 3-byte length, a sequence id and that many bytes. A payload of 2^24 - 1 bytes or more is
//! split: a packet of exactly 2^24 - 1 bytes is followed by another one, if need be an empty one.
//!
//! Source: MySQL internals manual, `page_protocol_basic_packets`.

use super::ProtocolError;

/// Bytes in front of a payload.
pub const HEADER_BYTES: usize = 4;
/// Largest payload of one packet; a packet of this size continues in the next one.
pub const PAYLOAD_BYTES_MAX: usize = 0xFF_FFFF;

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow.
    pub payload_bytes: usize,
    /// Counts from 0 at the start of each command, modulo 256.
    pub sequence_id: u8,
}

impl Header {
    /// The header at the start of `input`; `None`: fewer than 4 bytes so far.
    pub fn decode(input: &[u8]) -> Option<Header> {
        let [a, b, c, sequence_id, ..] = *input else { return None };
        Some(Header { payload_bytes: u32::from_le_bytes([a, b, c, 0]) as usize, sequence_id })
    }

    /// Its four bytes. `payload_bytes` above the maximum is a mistake of the caller.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.payload_bytes <= PAYLOAD_BYTES_MAX);
        let [a, b, c, _] = (self.payload_bytes as u32).to_le_bytes();
        [a, b, c, self.sequence_id]
    }
}

/// Length in bytes of the whole message (all its packets, headers included) at the start of `input`.
///
/// `Ok(None)`: it is not complete yet. `message_max` limits the sum in bytes.
/// Errors: `TooLarge` as soon as the headers seen announce more; `OutOfOrder` when sequence ids do not count up from
/// `first_sequence_id`.
pub fn message_bytes(input: &[u8], first_sequence_id: u8, message_max: usize) -> Result<Option<usize>, ProtocolError> {
    let (mut end, mut sequence_id) = (0usize, first_sequence_id);
    loop {
        let Some(header) = input.get(end..).and_then(Header::decode) else { return Ok(None) };
        if header.sequence_id != sequence_id {
            return Err(ProtocolError::OutOfOrder);
        }
        end += HEADER_BYTES + header.payload_bytes;
        if end > message_max {
            return Err(ProtocolError::TooLarge(message_max));
        }
        if header.payload_bytes < PAYLOAD_BYTES_MAX {
            return Ok((end <= input.len()).then_some(end));
        }
        sequence_id = sequence_id.wrapping_add(1);
    }
}

/// Appends one packet whose payload `write` appends; the header is filled in afterwards.
///
/// For our own small packets: panics in debug builds when the payload reaches 2^24 - 1 bytes.
pub fn put_packet(out: &mut Vec<u8>, sequence_id: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let header = Header { payload_bytes: out.len() - start - HEADER_BYTES, sequence_id };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
}

/// Appends a payload of any length, split as the protocol wants it, with sequence ids from 0.
pub fn put_message(out: &mut Vec<u8>, payload: &[u8]) {
    let (mut sequence_id, mut rest) = (0u8, payload);
    loop {
        let (head, tail) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
        out.extend_from_slice(&Header { payload_bytes: head.len(), sequence_id }.encode());
        out.extend_from_slice(head);
        if head.len() < PAYLOAD_BYTES_MAX {
            return;
        }
        (rest, sequence_id) = (tail, sequence_id.wrapping_add(1));
    }
}

/// Sequence id of the first packet of the answer to a complete command: it counts on from the command's packets.
pub fn answer_sequence_id(command: &[u8]) -> u8 {
    (command.len() / (HEADER_BYTES + PAYLOAD_BYTES_MAX) + 1) as u8
}

/// Takes a complete message apart and joins its payloads.
pub fn join_payload(message: &[u8]) -> Vec<u8> {
    let (mut payload, mut rest) = (Vec::with_capacity(message.len()), message);
    while let Some(header) = Header::decode(rest) {
        let end = (HEADER_BYTES + header.payload_bytes).min(rest.len());
        payload.extend_from_slice(&rest[HEADER_BYTES..end]);
        rest = &rest[end..];
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_only_with_its_last_byte() {
        let mut out = Vec::new();
        put_packet(&mut out, 0, |p| p.extend_from_slice(b"\x03select 1"));
        out.extend_from_slice(b"next");
        for cut in 0..out.len() {
            let expect = if cut >= 13 { Some(13) } else { None };
            assert_eq!(message_bytes(&out[..cut], 0, 100), Ok(expect), "cut at {cut}");
        }
        assert_eq!(message_bytes(&out, 0, 12), Err(ProtocolError::TooLarge(12)));
        assert_eq!(message_bytes(&out, 1, 100), Err(ProtocolError::OutOfOrder));
    }

    #[test]
    fn payloads_at_the_16_mib_edge_are_split_and_joined() {
        for len in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1, 2 * PAYLOAD_BYTES_MAX] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut out = Vec::new();
            put_message(&mut out, &payload);
            let packets = len / PAYLOAD_BYTES_MAX + 1;
            assert_eq!(out.len(), len + packets * HEADER_BYTES);
            assert_eq!(message_bytes(&out, 0, usize::MAX), Ok(Some(out.len())));
            assert_eq!(message_bytes(&out[..out.len() - 1], 0, usize::MAX), Ok(None));
            assert_eq!(usize::from(answer_sequence_id(&out)), packets);
            assert!(join_payload(&out) == payload);
        }
    }
}
