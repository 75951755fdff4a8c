//! `mysql_native_password`: SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))); and the request to switch to it.
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_authentication_methods_native_password_authentication`.

use sha1::{Digest, Sha1};

use super::ProtocolError;
use super::lenenc::Fields;
use super::packet::put_packet;

/// Name of the one plugin that is spoken here.
pub const NATIVE: &[u8] = b"mysql_native_password";
/// Length of a scramble and of an answer to it, bytes.
pub const SCRAMBLE_BYTES: usize = 20;

/// The random bytes a server sends for one login.
pub type Scramble = [u8; SCRAMBLE_BYTES];

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The answer to `scramble`; empty for an empty password, as the protocol wants it.
pub fn native_answer(password: &[u8], scramble: &Scramble) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let stage1 = sha1(&[password]);
    let mask = sha1(&[scramble, &sha1(&[&stage1])]);
    stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// Whether `answer` proves knowledge of `password`. Takes the same time for every wrong answer of the right length.
pub fn native_verify(password: &[u8], scramble: &Scramble, answer: &[u8]) -> bool {
    let right = native_answer(password, scramble);
    if right.len() != answer.len() {
        return false;
    }
    let difference = right.iter().zip(answer).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// A scramble of random bytes: no zero byte and no `$`, which some clients take for an end or a separator.
pub fn scramble_from(random: [u8; SCRAMBLE_BYTES]) -> Scramble {
    random.map(|byte| match byte & 0x7F {
        0 | b'$' => b'x',
        byte => byte,
    })
}

/// Appends an AuthSwitchRequest for `mysql_native_password`.
pub fn put_switch(out: &mut Vec<u8>, sequence_id: u8, scramble: &Scramble) {
    put_packet(out, sequence_id, |p| {
        p.push(0xFE);
        p.extend_from_slice(NATIVE);
        p.push(0);
        p.extend_from_slice(scramble);
        p.push(0);
    });
}

/// Plugin and scramble of an AuthSwitchRequest (payload with its leading 0xFE).
///
/// Errors: `Malformed` when it is none or has no 20-byte scramble; the plugin's name is not judged here.
pub fn decode_switch(payload: &[u8]) -> Result<(&[u8], Scramble), ProtocolError> {
    let mut fields = Fields::new(payload);
    if fields.u8()? != 0xFE {
        return Err(ProtocolError::Malformed("authentication switch"));
    }
    let plugin = fields.null_terminated()?;
    if plugin != NATIVE {
        return Ok((plugin, [0; SCRAMBLE_BYTES]));
    }
    let scramble = fields.bytes(SCRAMBLE_BYTES)?;
    Ok((plugin, scramble.try_into().map_err(|_| ProtocolError::Truncated)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_password_has_an_empty_answer() {
        let scramble = [7; 20];
        assert!(native_verify(b"", &scramble, b""));
        assert!(!native_verify(b"", &scramble, &[0; 20]));
        assert!(!native_verify(b"secret", &scramble, b""));
    }

    proptest! {
        #[test]
        fn only_the_right_password_for_the_right_scramble_is_accepted(
            password in proptest::collection::vec(any::<u8>(), 1..40), random: [u8; 20], flip in 0..160usize,
        ) {
            let scramble = scramble_from(random);
            let mut answer = native_answer(&password, &scramble);
            prop_assert!(native_verify(&password, &scramble, &answer));
            // What the server does with the stored SHA1(SHA1(password)).
            let stage2 = sha1(&[&sha1(&[&password])]);
            let mask = sha1(&[&scramble, &stage2]);
            let stage1: Vec<u8> = answer.iter().zip(mask).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(sha1(&[&stage1]), stage2);
            answer[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!native_verify(&password, &scramble, &answer));
        }

        #[test]
        fn a_switch_request_round_trips(random: [u8; 20]) {
            let scramble = scramble_from(random);
            prop_assert!(scramble.iter().all(|b| *b != 0 && *b != b'$' && *b < 0x80));
            let mut out = Vec::new();
            put_switch(&mut out, 2, &scramble);
            prop_assert_eq!(decode_switch(&out[4..]), Ok((NATIVE, scramble)));
            for cut in 0..out.len() - 5 {
                prop_assert!(decode_switch(&out[4..4 + cut]).is_err());
            }
        }
    }
}
