//! Certificates that sign themselves: for development, the demo and tests. Browsers warn of them, rightly.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use super::error::TlsError;

const DAY: Duration = Duration::from_secs(86_400);
/// Names in one certificate; more would make it larger than clients take.
const NAMES_MAX: usize = 100;
/// The longest common name (RFC 5280 appendix A.1, `ub-common-name`).
const COMMON_NAME_BYTES_MAX: usize = 64;

/// A certificate and its key as PEM texts.
#[derive(Clone)]
pub struct SelfSigned {
    /// The certificate.
    pub chain_pem: String,
    /// Its key, PKCS#8.
    pub key_pem: String,
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSigned").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// A certificate for these host names and IP addresses, valid from now on for `days`, with a new ECDSA key on P-256.
///
/// Errors: no name, too many, or one that is no host name.
pub fn self_signed<N: AsRef<str>>(names: &[N], days: u32) -> Result<SelfSigned, TlsError> {
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_ascii_lowercase()).collect();
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(TlsError::Settings(format!("`{bad}` is neither a host name nor an IP address")));
    }
    let Some(first) = names.first().filter(|_| names.len() <= NAMES_MAX) else {
        return Err(TlsError::Settings(format!("a certificate needs 1 to {NAMES_MAX} names")));
    };
    let mut params = CertificateParams::new(names.clone()).map_err(told)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if first.len() <= COMMON_NAME_BYTES_MAX {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    // An hour ago: another machine's clock may be a little behind.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(3600));
    params.not_after = epoch + now + DAY * days.min(36_500);
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(told)?;
    let certificate = params.self_signed(&key).map_err(told)?;
    Ok(SelfSigned { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn told(error: rcgen::Error) -> TlsError {
    TlsError::Settings(format!("the certificate cannot be made: {error}"))
}

/// RFC 1123 section 2.1, with `*.` in front allowed and underscores, which names of machines have.
fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && name.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::{Certificate, KeyType};

    #[test]
    fn a_made_certificate_can_be_loaded() {
        let made = self_signed(&["localhost", "*.Example.org", "127.0.0.1", "::1"], 30).expect("made");
        let certificate = Certificate::parse(made.chain_pem.as_bytes(), made.key_pem.as_bytes()).expect("good");
        assert_eq!(certificate.names(), ["localhost", "*.example.org"]);
        assert_eq!(certificate.addresses().len(), 2);
        assert_eq!(certificate.key_type(), KeyType::Ecdsa);
        let now = SystemTime::now();
        assert_eq!(certificate.concerns(now), []);
        let (from, to) = certificate.validity();
        assert!(from < now && to > now + DAY * 29 && to < now + DAY * 31);
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn bad_names_are_told() {
        let long = "a".repeat(64);
        for name in ["", "a b", "ex*mple.org", "*", "-/-", "a..b", "é.org", &long] {
            let Err(TlsError::Settings(text)) = self_signed(&[name], 1) else { panic!("{name}") };
            assert!(text.contains(name) && text.ends_with("neither a host name nor an IP address"), "{text}");
        }
        assert!(self_signed::<&str>(&[], 1).is_err());
        assert!(self_signed(&vec!["a.test"; 101], 1).is_err());
        let wide = [long[..60].to_owned(), long[..60].to_owned(), "org".into()].join(".");
        assert!(self_signed(&[wide], 1).is_ok(), "too long for a common name, not for a host name");
    }
}
