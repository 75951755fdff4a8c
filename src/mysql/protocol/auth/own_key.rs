//! A key of our own, to which clients seal the password that `caching_sha2_password` wants to see on connections that others can read.
//!
//! Made anew by each process: clients ask for it within each login, as they do of a server whose key they were not given.
//!
//! Source: MySQL internals manual, `page_caching_sha2_authentication_exchanges`.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::native::Scramble;
use super::verify::without_end;

/// Letters of a line of PEM.
const LINE_CHARS: usize = 64;

/// An RSA key of 2,048 bits.
pub struct OwnKey {
    private: OaepPrivateDecryptingKey,
    pem: Vec<u8>,
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnKey(..)")
    }
}

impl OwnKey {
    /// A new one; takes a part of a second. `None`: the library could not make it.
    pub fn generate() -> Option<OwnKey> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
        let der = private.public_key().as_der().ok()?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            text.as_bytes().chunks(LINE_CHARS).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        Some(OwnKey { private: OaepPrivateDecryptingKey::new(private).ok()?, pem: pem.into_bytes() })
    }

    /// Its public part, as clients are told it.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The password out of what [`super::sha2::PublicKey::seal`] makes of it. `None`: it was sealed for another key.
    pub fn open(&self, sealed: &[u8], scramble: &Scramble) -> Option<Vec<u8>> {
        let mut room = vec![0; self.private.min_output_size()];
        let opened = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut room, None).ok()?;
        let plain: Vec<u8> = opened.iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Some(without_end(&plain).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sha2::PublicKey;
    use super::*;

    #[test]
    fn a_sealed_password_is_opened_by_its_key_alone() {
        let (key, other) = (OwnKey::generate().expect("a key"), OwnKey::generate().expect("a key"));
        let public = PublicKey::parse(key.pem()).expect("a public key");
        let scramble: Scramble = *b"01234567890123456789";
        let sealed = public.seal(b"a password longer than the scramble is", &scramble).expect("sealed");
        assert_eq!(key.open(&sealed, &scramble).as_deref(), Some(&b"a password longer than the scramble is"[..]));
        assert_eq!(other.open(&sealed, &scramble), None);
        assert_eq!(key.open(b"", &scramble), None);
        assert_ne!(key.open(&sealed, &[7; 20]).as_deref(), Some(&b"a password longer than the scramble is"[..]));
    }
}
