//! COM_STMT_EXECUTE: the fields the splitter has to know to run a statement on any server connection.
//!
//! A client sends parameter types only when they change; the server keeps them with its statement handle. A handle of
//! ours may have been used by another client in between, so the types always travel along.
//! Source: MySQL internals manual, `page_protocol_com_stmt_execute`; absent: query attributes, which are not offered.

use super::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX, join_payload, put_message};
use super::{ProtocolError, command};

/// Bytes from the command code to the iteration count.
const FIXED_BYTES: usize = 10;

/// Statement id of COM_STMT_EXECUTE, FETCH, RESET, CLOSE and SEND_LONG_DATA; `message` is complete, with headers.
pub fn statement_id(message: &[u8]) -> Result<u32, ProtocolError> {
    let bytes = message.get(HEADER_BYTES + 1..HEADER_BYTES + 5).ok_or(ProtocolError::Truncated)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Whether the client asks for a cursor. `message` as above.
pub fn wants_cursor(message: &[u8]) -> bool {
    message.get(HEADER_BYTES + 5).is_some_and(|flags| *flags != 0)
}

/// Overwrites the statement id.
pub fn patch_statement_id(message: &mut [u8], statement_id: u32) {
    if let Some(bytes) = message.get_mut(HEADER_BYTES + 1..HEADER_BYTES + 5) {
        bytes.copy_from_slice(&statement_id.to_le_bytes());
    }
}

/// The block of parameter types (two bytes each) in a complete message, when it carries one.
///
/// `Ok(None)`: the client relies on the types it sent before. Errors: `Truncated` when the message is shorter than
/// `params` parameters need.
pub fn types(message: &[u8], params: u16) -> Result<Option<&[u8]>, ProtocolError> {
    if params == 0 {
        return Ok(Some(&[]));
    }
    let flag = HEADER_BYTES + FIXED_BYTES + usize::from(params).div_ceil(8);
    match message.get(flag).ok_or(ProtocolError::Truncated)? {
        0 => Ok(None),
        1 => message.get(flag + 1..flag + 1 + 2 * usize::from(params)).map(Some).ok_or(ProtocolError::Truncated),
        _ => Err(ProtocolError::Malformed("new-params-bound flag")),
    }
}

/// Appends `message` to `out` with the server's statement id and with `types` inserted when it carries none.
///
/// Errors: as [`types`]; `Malformed` when types are needed and `types` does not hold `params` of them.
pub fn put_rebound(
    out: &mut Vec<u8>,
    message: &[u8],
    server_id: u32,
    params: u16,
    stored: &[u8],
) -> Result<(), ProtocolError> {
    let start = out.len();
    if types(message, params)?.is_some() {
        out.extend_from_slice(message);
    } else {
        if stored.len() != 2 * usize::from(params) {
            return Err(ProtocolError::Malformed("parameter types were never sent"));
        }
        let mut payload = join_payload(message);
        let flag = FIXED_BYTES + usize::from(params).div_ceil(8);
        payload[flag] = 1;
        payload.splice(flag + 1..flag + 1, stored.iter().copied());
        put_message(out, &payload);
    }
    patch_statement_id(&mut out[start..], server_id);
    Ok(())
}

/// Whether `message` begins with COM_STMT_EXECUTE long enough to be read, and its parameters' head lies in its first
/// packet.
pub fn is_sound(message: &[u8], params: u16) -> bool {
    let head =
        FIXED_BYTES + if params == 0 { 0 } else { usize::from(params).div_ceil(8) + 1 + 2 * usize::from(params) };
    message.get(HEADER_BYTES) == Some(&command::STMT_EXECUTE)
        && message.len() >= HEADER_BYTES + FIXED_BYTES
        && head < PAYLOAD_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::super::packet::put_packet;
    use super::*;

    fn execute(bound: bool, types: &[u8], values: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, 0, |p| {
            p.extend_from_slice(&[command::STMT_EXECUTE, 9, 0, 0, 0, 0, 1, 0, 0, 0]);
            p.push(0); // NULL bitmap of up to 8 parameters
            p.push(u8::from(bound));
            p.extend_from_slice(types);
            p.extend_from_slice(values);
        });
        out
    }

    #[test]
    fn types_sent_before_are_inserted() {
        let types_block = [8, 0, 253, 0];
        let with = execute(true, &types_block, b"values");
        let without = execute(false, &[], b"values");
        assert_eq!(types(&with, 2), Ok(Some(&types_block[..])));
        assert_eq!(types(&without, 2), Ok(None));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        put_rebound(&mut a, &with, 77, 2, &[]).unwrap();
        put_rebound(&mut b, &without, 77, 2, &types_block).unwrap();
        assert_eq!(a, b);
        assert_eq!(statement_id(&a), Ok(77));
        assert!(put_rebound(&mut a, &without, 77, 2, &[]).is_err());
    }

    #[test]
    fn short_messages_are_errors() {
        let with = execute(true, &[8, 0, 253, 0], b"");
        for cut in 0..with.len() {
            let short = &with[..cut];
            assert!(types(short, 2).is_err() || !is_sound(short, 2), "cut at {cut}");
        }
        assert!(is_sound(&with, 2));
        assert_eq!(types(&with, 0), Ok(Some(&[][..])));
    }

    #[test]
    fn inserting_types_may_cross_the_16_mib_edge() {
        let mut payload = vec![command::STMT_EXECUTE, 9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        payload.resize(PAYLOAD_BYTES_MAX - 1, 7);
        let (mut message, mut out) = (Vec::new(), Vec::new());
        put_message(&mut message, &payload);
        put_rebound(&mut out, &message, 1, 1, &[252, 0]).unwrap();
        let rebound = join_payload(&out);
        assert_eq!(rebound.len(), PAYLOAD_BYTES_MAX + 1);
        assert_eq!(rebound[11..14], [1, 252, 0]);
    }
}
