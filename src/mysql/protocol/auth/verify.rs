//! What a client's answer proves.

use std::fmt;

use super::native::{self, Sha1Hash};
use super::sha_crypt::Stored;
use super::{Method, SCRAMBLE_BYTES, ed25519, same, sha2};

/// What is known of a user, and enough to check an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    /// The password.
    Password(Vec<u8>),
    /// SHA1(SHA1(password)), as `mysql.user` has it.
    NativeHash(Sha1Hash),
    /// What MySQL has for `caching_sha2_password`: the client's password has to be seen once, see [`Stored::is_of`].
    Sha2Hash(Stored),
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

/// The client is who it says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// SHA1(password), where the answer tells it: with it the user can be logged on to servers.
    pub stage1: Option<Sha1Hash>,
    /// The password, where only its hash is known otherwise.
    pub password: Option<Vec<u8>>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Verifier {
    /// Whether an answer by `method` can be checked at all. `is_secure`: nobody else can read the connection.
    pub fn can_check(&self, method: Method, is_secure: bool) -> bool {
        match method {
            Method::Native => !matches!(self, Verifier::Sha2Hash(_)),
            Method::CachingSha2 => !matches!(self, Verifier::NativeHash(_)),
            Method::Ed25519 => matches!(self, Verifier::Password(_)),
            Method::Clear => is_secure,
            // Its clients send the password; those that can do it can do `caching_sha2_password`, too.
            Method::Sha256 => false,
        }
    }

    /// Checks `answer` to `nonce`. `None`: it is wrong, or cannot be checked, as what [`Verifier::Sha2Hash`] is about.
    pub fn check(&self, method: Method, nonce: &[u8], answer: &[u8]) -> Option<Proof> {
        match self {
            Verifier::Password(password) => is_right(password, method, nonce, answer).then(Proof::default),
            Verifier::NativeHash(stored) => {
                let stage1 = match method {
                    Method::Native => native::recover(stored, nonce.try_into().ok()?, answer)?,
                    Method::Clear => {
                        let stage1 = native::stage1(without_end(answer));
                        same(&native::stage2(&stage1), stored).then_some(stage1)?
                    }
                    _ => return None,
                };
                Some(Proof { stage1: Some(stage1), password: None })
            }
            Verifier::Sha2Hash(_) => None,
        }
    }
}

fn is_right(password: &[u8], method: Method, nonce: &[u8], answer: &[u8]) -> bool {
    let scramble = <&[u8; SCRAMBLE_BYTES]>::try_from(nonce);
    match (method, scramble) {
        (Method::Native, Ok(scramble)) => native::native_verify(password, scramble, answer),
        (Method::CachingSha2, Ok(scramble)) => sha2::verify(password, scramble, answer),
        (Method::Ed25519, _) => ed25519::verify(password, nonce, answer),
        (Method::Clear, _) => same(password, without_end(answer)),
        _ => false,
    }
}

pub(in super::super::super) fn without_end(text: &[u8]) -> &[u8] {
    text.strip_suffix(&[0]).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_checked_with_its_own_answer() {
        let (scramble, nonce) = ([9u8; 20], [8u8; 32]);
        let known = Verifier::Password(b"secret".to_vec());
        let answers: [(Method, &[u8], Vec<u8>); 4] = [
            (Method::Native, &scramble, native::native_answer(b"secret", &scramble)),
            (Method::CachingSha2, &scramble, sha2::answer(b"secret", &scramble)),
            (Method::Ed25519, &nonce, ed25519::answer(b"secret", &nonce)),
            (Method::Clear, b"", b"secret\0".to_vec()),
        ];
        for (method, nonce, answer) in &answers {
            assert!(known.can_check(*method, true));
            assert_eq!(known.check(*method, nonce, answer), Some(Proof::default()), "{method:?}");
            for (other, nonce, _) in answers.iter().filter(|(other, ..)| other != method) {
                assert_eq!(known.check(*other, nonce, answer), None, "{method:?} as {other:?}");
            }
            assert_eq!(known.check(*method, nonce, b""), None);
        }
        assert!(!known.can_check(Method::Clear, false) && !known.can_check(Method::Sha256, true));
    }

    #[test]
    fn a_stored_hash_lets_in_and_learns_what_servers_want() {
        let scramble = [9u8; 20];
        let stage1 = native::stage1(b"secret");
        let stored = Verifier::NativeHash(native::stage2(&stage1));
        let proof = Some(Proof { stage1: Some(stage1), password: None });
        assert_eq!(stored.check(Method::Native, &scramble, &native::native_answer(b"secret", &scramble)), proof);
        assert_eq!(stored.check(Method::Clear, b"", b"secret\0"), proof);
        assert_eq!(stored.check(Method::Native, &scramble, &native::native_answer(b"other", &scramble)), None);
        assert_eq!(stored.check(Method::Clear, b"", b"secre\0"), None);
        assert!(!stored.can_check(Method::CachingSha2, true));
        assert_eq!(stored.check(Method::CachingSha2, &scramble, &sha2::answer(b"secret", &scramble)), None);
    }
}
