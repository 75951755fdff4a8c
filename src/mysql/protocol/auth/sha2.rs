//! `caching_sha2_password` and `sha256_password`.
//!
//! The first answer of `caching_sha2_password` is SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble), enough for
//! a server that has the password's hash in its cache. A server that has not, and every server with `sha256_password`, wants
//! the password itself: in clear over TLS or a Unix socket, else encrypted with the server's RSA key.
//!
//! Source: MySQL internals manual, `page_caching_sha2_authentication_exchanges`,
//! `page_protocol_connection_phase_authentication_methods_sha256_password`.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use super::native::Scramble;
use super::same;

/// Length of an answer, bytes.
pub const ANSWER_BYTES: usize = 32;
/// Of AuthMoreData: the answer was right, OK follows.
pub const FAST_SUCCESS: u8 = 3;
/// Of AuthMoreData: send the password itself.
pub const FULL_AUTHENTICATION: u8 = 4;

fn sha256(parts: &[&[u8]]) -> [u8; ANSWER_BYTES] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(part);
    }
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The first answer to `scramble`; empty for an empty password.
pub fn answer(password: &[u8], scramble: &Scramble) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let stage1 = sha256(&[password]);
    let mask = sha256(&[&sha256(&[&stage1]), scramble]);
    stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// Whether it proves knowledge of `password`. For an empty password some clients send a zero byte.
pub fn verify(password: &[u8], scramble: &Scramble, given: &[u8]) -> bool {
    match password.is_empty() {
        true => matches!(given, [] | [0]),
        false => same(&answer(password, scramble), given),
    }
}

/// The password as it is sent over connections that nobody else can read.
pub fn in_clear(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

/// A server's RSA key.
#[derive(Clone)]
pub struct PublicKey {
    key: PublicEncryptingKey,
    der: Vec<u8>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.der == other.der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits)", self.key.key_size_bits())
    }
}

impl PublicKey {
    /// Reads a PEM file with `BEGIN PUBLIC KEY`, such as a server's `public_key.pem`. `None`: it is none, or no RSA key.
    pub fn parse(pem: &[u8]) -> Option<PublicKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let key = PublicEncryptingKey::from_der(&der).ok()?;
        Some(PublicKey { key, der: der.to_vec() })
    }

    /// The password, XORed with the scramble over and over and encrypted (RSAES-OAEP with SHA-1). `None`: it is too long for
    /// the key.
    pub fn seal(&self, password: &[u8], scramble: &Scramble) -> Option<Vec<u8>> {
        let mut plain = in_clear(password);
        plain.iter_mut().zip(scramble.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let key = OaepPublicEncryptingKey::new(self.key.clone()).ok()?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let bytes = key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut sealed, None).ok()?.len();
        sealed.truncate(bytes);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use proptest::prelude::*;

    #[test]
    fn an_empty_password_has_an_empty_answer() {
        assert!(verify(b"", &[7; 20], b"") && verify(b"", &[7; 20], b"\0"));
        assert!(!verify(b"", &[7; 20], &[0; 32]) && !verify(b"secret", &[7; 20], b""));
    }

    proptest! {
        #[test]
        fn only_the_right_password_is_accepted(
            password in proptest::collection::vec(any::<u8>(), 1..40), scramble: Scramble, flip in 0..256usize,
        ) {
            let mut given = answer(&password, &scramble);
            prop_assert!(verify(&password, &scramble, &given));
            // What a server does with SHA256(SHA256(password)), which is all it keeps.
            let stage2 = sha256(&[&sha256(&[&password])]);
            let mask = sha256(&[&stage2, &scramble]);
            let stage1: Vec<u8> = given.iter().zip(mask).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(sha256(&[&stage1]), stage2);
            given[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!verify(&password, &scramble, &given));
        }
    }

    #[test]
    fn a_sealed_password_is_opened_by_the_key_alone() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
        let der = private.public_key().as_der().expect("its form").as_ref().to_vec();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        let public = PublicKey::parse(pem.as_bytes()).expect("a public key");
        let scramble: Scramble = *b"01234567890123456789";
        let sealed = public.seal(b"a password longer than the scramble is", &scramble).expect("sealed");
        let key = OaepPrivateDecryptingKey::new(private).expect("a key");
        let mut room = vec![0; key.min_output_size()];
        let opened = key.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut room, None).expect("opened");
        let plain: Vec<u8> = opened.iter().zip(scramble.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(plain, b"a password longer than the scramble is\0");
        assert!(public.seal(&[b'x'; 400], &scramble).is_none(), "longer than an RSA block");
        for none in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no key"] {
            assert!(PublicKey::parse(none.as_bytes()).is_none());
        }
    }
}
