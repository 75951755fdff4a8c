//! AuthSwitchRequest (another method, please) and AuthMoreData (a method's own messages).
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_packets_protocol_auth_switch_request`,
//! `page_protocol_connection_phase_packets_protocol_auth_more_data`.

use super::super::ProtocolError;
use super::super::lenenc::Fields;
use super::super::packet::put_packet;
use super::{Method, SCRAMBLE_BYTES, Scramble};

/// First byte of an AuthSwitchRequest.
pub const SWITCH: u8 = 0xFE;
/// First byte of AuthMoreData.
pub const MORE_DATA: u8 = 0x01;

/// Appends an AuthSwitchRequest: `method` shall be used with `nonce`. Scrambles end in a zero byte, what is signed does not.
pub fn put_switch(out: &mut Vec<u8>, sequence_id: u8, method: Method, nonce: &[u8]) {
    put_packet(out, sequence_id, |p| {
        p.push(SWITCH);
        p.extend_from_slice(method.plugin());
        p.push(0);
        p.extend_from_slice(nonce);
        if method.nonce_bytes() == SCRAMBLE_BYTES {
            p.push(0);
        }
    });
}

/// Appends AuthMoreData.
pub fn put_more(out: &mut Vec<u8>, sequence_id: u8, data: &[u8]) {
    put_packet(out, sequence_id, |p| {
        p.push(MORE_DATA);
        p.extend_from_slice(data);
    });
}

/// Plugin and data of an AuthSwitchRequest (payload with its leading 0xFE); data are as they come, see [`scramble_of`].
///
/// Errors: `Malformed` when it is none; a lone 0xFE asks for the method of servers before 4.1 and has no plugin.
pub fn decode_switch(payload: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    let mut fields = Fields::new(payload);
    if fields.u8()? != SWITCH {
        return Err(ProtocolError::Malformed("authentication switch"));
    }
    if fields.is_empty() {
        return Ok((b"mysql_old_password", b""));
    }
    let plugin = fields.null_terminated()?;
    Ok((plugin, fields.rest()))
}

/// The scramble in the data of a switch to a method with scrambles, with or without the zero byte at its end.
pub fn scramble_of(data: &[u8]) -> Result<Scramble, ProtocolError> {
    let scramble = if data.len() == SCRAMBLE_BYTES + 1 { &data[..SCRAMBLE_BYTES] } else { data };
    scramble.try_into().map_err(|_| ProtocolError::Malformed("scramble"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn switch_requests_round_trip(scramble: Scramble, nonce: [u8; 32]) {
            let mut out = Vec::new();
            put_switch(&mut out, 2, Method::CachingSha2, &scramble);
            let (plugin, data) = decode_switch(&out[4..]).expect("a switch");
            prop_assert_eq!((plugin, scramble_of(data)), (Method::CachingSha2.plugin(), Ok(scramble)));
            prop_assert_eq!(scramble_of(&scramble), Ok(scramble));
            // Whatever its last byte is.
            out.clear();
            put_switch(&mut out, 2, Method::Ed25519, &nonce);
            prop_assert_eq!(decode_switch(&out[4..]), Ok((Method::Ed25519.plugin(), &nonce[..])));
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>) {
            let _ = decode_switch(&payload);
        }
    }

    #[test]
    fn a_switch_needs_its_plugin_to_end() {
        assert_eq!(decode_switch(b"\xFE"), Ok((&b"mysql_old_password"[..], &b""[..])));
        assert_eq!(decode_switch(b"\xFEname"), Err(ProtocolError::Truncated));
        assert!(decode_switch(b"").is_err() && decode_switch(b"\x00").is_err());
    }
}
