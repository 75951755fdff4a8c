//! `mysql_native_password`: SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))).
//!
//! A server stores SHA1(SHA1(password)), written as `*` and 40 hexadecimal digits. Whoever knows that and sees a right answer
//! learns SHA1(password), which is enough to answer for the user elsewhere.
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_authentication_methods_native_password_authentication`.

use sha1::{Digest, Sha1};

use super::same;

/// Length of a scramble and of an answer to it, bytes.
pub const SCRAMBLE_BYTES: usize = 20;

/// The random bytes a server sends for one login.
pub type Scramble = [u8; SCRAMBLE_BYTES];

/// A SHA-1 hash.
pub type Sha1Hash = [u8; 20];

fn sha1(parts: &[&[u8]]) -> Sha1Hash {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn xor(a: &[u8], b: &Sha1Hash) -> Sha1Hash {
    let mut out = *b;
    out.iter_mut().zip(a).for_each(|(out, a)| *out ^= a);
    out
}

/// SHA1(password), with which a user answers.
pub fn stage1(password: &[u8]) -> Sha1Hash {
    sha1(&[password])
}

/// SHA1(SHA1(password)), which a server stores.
pub fn stage2(stage1: &Sha1Hash) -> Sha1Hash {
    sha1(&[stage1])
}

/// A stored hash as `mysql.user` shows it; `None`: it is none.
pub fn parse_stored(text: &str) -> Option<Sha1Hash> {
    let digits = text.strip_prefix('*').filter(|digits| digits.len() == 40 && digits.is_ascii())?;
    let mut hash = [0; 20];
    for (byte, at) in hash.iter_mut().zip((0..40).step_by(2)) {
        // `from_str_radix` would take a sign.
        let digits = digits.get(at..at + 2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

/// The answer to `scramble`; empty for an empty password, as the protocol wants it.
pub fn native_answer(password: &[u8], scramble: &Scramble) -> Vec<u8> {
    if password.is_empty() { Vec::new() } else { answer_with(&stage1(password), scramble).to_vec() }
}

/// The same by SHA1(password).
pub fn answer_with(stage1: &Sha1Hash, scramble: &Scramble) -> Sha1Hash {
    xor(stage1, &sha1(&[scramble, &stage2(stage1)]))
}

/// Whether `answer` proves knowledge of `password`. Takes the same time for every wrong answer of the right length.
pub fn native_verify(password: &[u8], scramble: &Scramble, answer: &[u8]) -> bool {
    same(&native_answer(password, scramble), answer)
}

/// SHA1(password), when `answer` proves that the client knows it, by the hash that a server stores.
pub fn recover(stored: &Sha1Hash, scramble: &Scramble, answer: &[u8]) -> Option<Sha1Hash> {
    if answer.len() != SCRAMBLE_BYTES {
        return None;
    }
    let stage1 = xor(answer, &sha1(&[scramble, stored]));
    same(&stage2(&stage1), stored).then_some(stage1)
}

/// A scramble of random bytes: no zero byte and no `$`, which some clients take for an end or a separator.
pub fn scramble_from<const N: usize>(random: [u8; N]) -> [u8; N] {
    random.map(|byte| match byte & 0x7F {
        0 | b'$' => b'x',
        byte => byte,
    })
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

    #[test]
    fn stored_hashes_are_read_as_servers_write_them() {
        // SELECT PASSWORD('secret')
        let stored = parse_stored("*14E65567ABDB5135D0CFD9A70B3032C179A49EE7").expect("a hash");
        assert_eq!(stored, stage2(&stage1(b"secret")));
        assert_eq!(parse_stored("*14e65567abdb5135d0cfd9a70b3032c179a49ee7"), Some(stored));
        for none in [
            "",
            "*",
            "14E65567ABDB5135D0CFD9A70B3032C179A49EE7",
            "*14E65567ABDB5135D0CFD9A70B3032C179A49EE",
            "*+4E65567ABDB5135D0CFD9A70B3032C179A49EE7",
            "*14E65567ABDB5135D0CFD9A70B3032C179A49EEé",
        ] {
            assert_eq!(parse_stored(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn only_the_right_password_for_the_right_scramble_is_accepted(
            password in proptest::collection::vec(any::<u8>(), 1..40), random: [u8; 20], flip in 0..160usize,
        ) {
            let scramble = scramble_from(random);
            prop_assert!(scramble.iter().all(|b| *b != 0 && *b != b'$' && *b < 0x80));
            let mut answer = native_answer(&password, &scramble);
            let stored = stage2(&stage1(&password));
            prop_assert!(native_verify(&password, &scramble, &answer));
            prop_assert_eq!(recover(&stored, &scramble, &answer), Some(stage1(&password)));
            answer[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!native_verify(&password, &scramble, &answer));
            prop_assert_eq!(recover(&stored, &scramble, &answer), None);
        }
    }
}
