//! MariaDB's `client_ed25519`: the client signs 32 random bytes with the key whose secret half is SHA512(password).
//!
//! That is Ed25519 (RFC 8032 section 5.1) but for the first step: there the hash is of 32 random bytes, here of the password.
//! The verifier that a server stores is the public half.
//!
//! Source: MariaDB knowledge base, "Authentication Plugin - ed25519"; section "Connection", `client_ed25519`.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};

/// Random bytes to be signed.
pub const NONCE_BYTES: usize = 32;
/// Length of an answer, bytes.
pub const ANSWER_BYTES: usize = 64;

fn keys(password: &[u8]) -> (ExpandedSecretKey, VerifyingKey) {
    let secret = ExpandedSecretKey::from_bytes(&Sha512::digest(password).into());
    let public = VerifyingKey::from(&secret);
    (secret, public)
}

/// The signature of `nonce`; of an empty password, too.
pub fn answer(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let (secret, public) = keys(password);
    raw_sign::<Sha512>(&secret, nonce, &public).to_bytes().to_vec()
}

/// Whether `given` proves knowledge of `password`.
pub fn verify(password: &[u8], nonce: &[u8], given: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(given) else { return false };
    keys(password).1.verify_strict(nonce, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What MariaDB itself stores: `SELECT ed25519_password('secret')`.
    #[test]
    fn the_public_half_is_what_mariadb_stores() {
        let text =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, keys(b"secret").1.to_bytes());
        assert_eq!(text, "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn only_the_right_password_is_accepted(password: Vec<u8>, nonce: [u8; 32], flip in 0..512usize) {
            let mut given = answer(&password, &nonce);
            prop_assert_eq!(given.len(), ANSWER_BYTES);
            prop_assert!(verify(&password, &nonce, &given));
            prop_assert!(!verify(b"another one", &nonce, &given));
            given[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!verify(&password, &nonce, &given));
        }
    }
}
