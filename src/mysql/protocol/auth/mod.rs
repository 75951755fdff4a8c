//! How the two sides of a login convince each other: the authentication methods ("plugins"), the machine that proves a
//! password to a server, and the check of a client's proof.
//!
//! | file | holds |
//! |---|---|
//! | `native` | `mysql_native_password` |
//! | `sha2` | `caching_sha2_password` and `sha256_password` |
//! | `sha_crypt` | what MySQL keeps of a password for it |
//! | `ed25519` | MariaDB's `client_ed25519` |
//! | `own_key` | a key to which clients seal a password |
//! | `switch` | AuthSwitchRequest and AuthMoreData |
//! | `prover` | our side towards a server |
//! | `verify` | what a client's answer proves |
//!
//! Source: MySQL internals manual, `page_protocol_connection_phase_authentication_methods`; MariaDB knowledge base,
//! "Connection". Absent on purpose: PAM, GSSAPI and LDAP, whose proofs cannot be passed on, and `mysql_old_password`.

pub mod ed25519;
pub mod native;
pub mod own_key;
pub mod prover;
pub mod sha2;
pub mod sha_crypt;
pub mod switch;
pub mod verify;

pub use native::{SCRAMBLE_BYTES, Scramble};
pub use prover::{AuthError, Prover, Step};
pub use verify::{Proof, Verifier};

/// An authentication method that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`, the default of MySQL 8.
    CachingSha2,
    /// `sha256_password`, which MySQL 8 still knows.
    Sha256,
    /// `client_ed25519`, of MariaDB.
    Ed25519,
    /// `mysql_clear_password`: the password itself, over connections that nobody else can read.
    Clear,
}

impl Method {
    /// By the name that packets carry.
    pub fn of(plugin: &[u8]) -> Option<Method> {
        let methods = [Method::Native, Method::CachingSha2, Method::Sha256, Method::Ed25519, Method::Clear];
        methods.into_iter().find(|method| method.plugin() == plugin)
    }

    /// The name that packets carry.
    pub fn plugin(self) -> &'static [u8] {
        match self {
            Method::Native => b"mysql_native_password",
            Method::CachingSha2 => b"caching_sha2_password",
            Method::Sha256 => b"sha256_password",
            Method::Ed25519 => b"client_ed25519",
            Method::Clear => b"mysql_clear_password",
        }
    }

    /// Bytes of the random text that a proof is made for.
    pub fn nonce_bytes(self) -> usize {
        match self {
            Method::Native | Method::CachingSha2 | Method::Sha256 => SCRAMBLE_BYTES,
            Method::Ed25519 => ed25519::NONCE_BYTES,
            Method::Clear => 0,
        }
    }
}

/// Whether two secrets are the same; takes the same time for all that are as long.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_names() {
        for method in [Method::Native, Method::CachingSha2, Method::Sha256, Method::Ed25519, Method::Clear] {
            assert_eq!(Method::of(method.plugin()), Some(method));
        }
        assert_eq!((Method::of(b""), Method::of(b"dialog"), Method::of(b"mysql_old_password")), (None, None, None));
    }
}
