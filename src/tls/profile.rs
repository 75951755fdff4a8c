//! Which versions, ciphers and groups are offered: Mozilla's guidelines for server-side TLS, version 6.0.
//!
//! `modern` is TLS 1.3 alone. `intermediate` adds TLS 1.2 with the six suites that have forward secrecy and
//! authenticated encryption; no finite-field Diffie-Hellman, and no third profile below it. The client's order wins in
//! both: it knows whether its processor has AES instructions.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::config::model::TlsProfile;

const MODERN: [SupportedCipherSuite; 3] =
    [suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256];

const INTERMEDIATE: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// X25519 stands before P-256, which costs a multiple of its time.
const GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// The ciphers and groups of a profile. A new one each time, so that workers do not share its reference count.
pub(super) fn provider(profile: TlsProfile) -> Arc<CryptoProvider> {
    let cipher_suites = match profile {
        TlsProfile::Modern => MODERN.to_vec(),
        TlsProfile::Intermediate => INTERMEDIATE.to_vec(),
    };
    Arc::new(CryptoProvider { cipher_suites, kx_groups: GROUPS.to_vec(), ..default_provider() })
}

/// The versions of a profile.
pub(super) fn versions(profile: TlsProfile) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match profile {
        TlsProfile::Modern => &ALL[..1],
        TlsProfile::Intermediate => &ALL,
    }
}

/// A cipher suite as OpenSSL, and therefore nginx's `$ssl_cipher`, spells it.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        // A test holds that no profile offers another one.
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_forward_secrecy_and_a_name() {
        for profile in [TlsProfile::Modern, TlsProfile::Intermediate] {
            let provider = provider(profile);
            for suite in &provider.cipher_suites {
                let name = openssl_name(suite.suite());
                assert!(name.starts_with("TLS_") || name.starts_with("ECDHE-"), "{suite:?}");
                assert!(name.contains("GCM") || name.contains("POLY1305"), "{suite:?}");
            }
        }
        assert_eq!(provider(TlsProfile::Modern).cipher_suites.len(), 3);
        assert_eq!(provider(TlsProfile::Intermediate).cipher_suites.len(), 9);
    }

    #[test]
    fn groups_are_those_of_the_guidelines() {
        use rustls::NamedGroup::{X25519, X25519MLKEM768, secp256r1, secp384r1};
        let names: Vec<_> = provider(TlsProfile::Modern).kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, [X25519MLKEM768, X25519, secp256r1, secp384r1]);
    }
}
