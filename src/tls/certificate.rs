//! Certificate chains and their keys, from PEM files to what a handshake needs.
//!
//! [`Certificate::parse`] is pure: bytes come in, a certificate or a named mistake goes out; [`Certificate::load`] reads
//! the two files. What is wrong but can be served all the same, such as an expired certificate, is no mistake but a
//! [`Concern`]: a server that refuses to start helps nobody. Key material shows in no message and no debug output.

use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use super::error::TlsError;

/// A larger file is not one of certificates or keys.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Certificates in one chain; what is sent to every client must stay small.
const CHAIN_MAX: usize = 16;
/// Certificates of authorities in one file.
const AUTHORITIES_MAX: usize = 4096;
/// An expiry nearer than this is told.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * DAY_SECONDS);
const DAY_SECONDS: u64 = 86_400;

/// A chain with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// What does not depend on the time.
    concerns: Vec<Concern>,
}

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256, P-384 or P-521.
    Ecdsa,
    /// Ed25519: few clients know it.
    Ed25519,
    /// RSA.
    Rsa,
}

impl KeyType {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Ecdsa => "ECDSA",
            KeyType::Ed25519 => "Ed25519",
            KeyType::Rsa => "RSA",
        }
    }
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificates.
    Chain,
    /// The private key.
    Key,
}

/// Why a chain and a key cannot be used. The text says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// The chain's file has no certificate.
    NoCertificate,
    /// The key's file has no key.
    NoKey,
    /// The chain's file has only a key, the key's file only certificates.
    Swapped,
    /// The key is protected by a pass phrase.
    EncryptedKey,
    /// The file is binary.
    NotPem(Part),
    /// The file is damaged.
    BadPem(Part, String),
    /// This certificate of the chain, counted from 1, cannot be read.
    BadCertificate(usize),
    /// More certificates than are sent to a client.
    TooMany(usize),
    /// The key is of a kind that cannot be used, or damaged.
    BadKey,
    /// The key belongs to another certificate than the first one.
    Mismatch,
    /// The key belongs to this certificate of the chain, counted from 1, which should be the first.
    WrongOrder(usize),
}

impl CertificateError {
    /// The file at fault.
    pub fn part(&self) -> Part {
        match self {
            CertificateError::NoCertificate
            | CertificateError::Swapped
            | CertificateError::BadCertificate(_)
            | CertificateError::TooMany(_)
            | CertificateError::WrongOrder(_) => Part::Chain,
            CertificateError::NoKey
            | CertificateError::EncryptedKey
            | CertificateError::BadKey
            | CertificateError::Mismatch => Part::Key,
            CertificateError::NotPem(part) | CertificateError::BadPem(part, _) => *part,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::NoCertificate => {
                f.write_str("the file holds no certificate: it should begin with `-----BEGIN CERTIFICATE-----`")
            }
            CertificateError::NoKey => {
                f.write_str("the file holds no private key: it should have a line `-----BEGIN PRIVATE KEY-----`")
            }
            CertificateError::Swapped => f.write_str("chain and key are swapped: exchange the two files"),
            CertificateError::EncryptedKey => f.write_str(
                "the key is encrypted, and nobody is there to type its pass phrase: \
                 write it plain with `openssl pkey -in OLD -out NEW` and keep the new file private",
            ),
            CertificateError::NotPem(Part::Chain) => {
                f.write_str("the file is not PEM: convert it, for example with `openssl x509 -inform der -in OLD -out NEW`")
            }
            CertificateError::NotPem(Part::Key) => {
                f.write_str("the file is not PEM: convert it, for example with `openssl pkey -inform der -in OLD -out NEW`")
            }
            CertificateError::BadPem(_, reason) => write!(f, "the file is damaged ({reason}): copy it again"),
            CertificateError::BadCertificate(index) => {
                write!(f, "certificate {index} of the file cannot be read: copy the file again")
            }
            CertificateError::TooMany(count) => {
                write!(f, "the file holds {count} certificates, more than a chain of {CHAIN_MAX}: keep the server's and those that issued it")
            }
            CertificateError::BadKey => {
                f.write_str("the key is damaged or of a kind that cannot be used: use ECDSA on P-256, or RSA with 2048 bits or more")
            }
            CertificateError::Mismatch => {
                f.write_str("the key does not belong to the certificate: use the key the certificate was requested with")
            }
            CertificateError::WrongOrder(index) => {
                write!(f, "the key belongs to certificate {index} of the file, not to the first: put the server's certificate first, its issuer behind it")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// Something about a certificate that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It ended so many days ago.
    Expired(u64),
    /// It begins in so many days.
    NotYetValid(u64),
    /// It ends in so many days.
    ExpiresSoon(u64),
    /// This certificate of the chain, counted from 1, was not issued by the next one.
    OutOfOrder(usize),
    /// It names hosts only in its common name.
    NoNames,
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Concern::Expired(0) => f.write_str("the certificate has expired today: renew it"),
            Concern::Expired(days) => write!(f, "the certificate has expired {days} days ago: renew it"),
            Concern::NotYetValid(days) => {
                write!(f, "the certificate is not valid yet, not for {days} days: look at the clock of this machine")
            }
            Concern::ExpiresSoon(days) => write!(f, "the certificate expires in {days} days: renew it"),
            Concern::OutOfOrder(index) => write!(
                f,
                "certificate {index} of the chain was not issued by the next one: the server's certificate comes first, its issuer behind it"
            ),
            Concern::NoNames => {
                f.write_str("the certificate has no subjectAltName, so that browsers refuse it: have it issued anew")
            }
        }
    }
}

impl Certificate {
    /// Takes chain and key from the PEM texts of their files, which may be one and the same.
    ///
    /// Errors: what is wrong, in which of the two.
    pub fn parse(chain_pem: &[u8], key_pem: &[u8]) -> Result<Certificate, CertificateError> {
        let chain = chain_of(chain_pem, key_pem)?;
        let key = key_of(key_pem)?;
        let parsed = parse_chain(&chain)?;
        let signing = any_supported_type(&key).map_err(|_| CertificateError::BadKey)?;
        check_that_they_match(&parsed, &*signing)?;
        let (first, validity) = (&parsed[0], parsed[0].validity());
        let (mut names, addresses) = names_of(first);
        let mut concerns = out_of_order(&parsed);
        if names.is_empty() && addresses.is_empty() {
            concerns.push(Concern::NoNames);
            names.extend(common_name(first));
        }
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        drop(parsed);
        Ok(Certificate {
            key: Arc::new(CertifiedKey::new(chain, signing)),
            names,
            addresses,
            not_before: at_second(not_before),
            not_after: at_second(not_after),
            concerns,
        })
    }

    /// Reads chain and key from their files. Errors: unreadable, or see [`Certificate::parse`].
    pub fn load(chain: &Path, key: &Path) -> Result<Certificate, TlsError> {
        let read =
            |file: &Path| read_file(file, FILE_BYTES_MAX).map_err(|error| TlsError::File { file: file.into(), error });
        Certificate::parse(&read(chain)?, &read(key)?).map_err(|error| {
            let file = if error.part() == Part::Chain { chain } else { key };
            TlsError::Certificate { file: file.into(), error }
        })
    }

    /// Host names in lower case, `*.` in front of a wildcard.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// IP addresses it is valid for. No client asks for them by name (RFC 6066 section 3): the default certificate
    /// should have them.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// What its key signs with.
    pub fn key_type(&self) -> KeyType {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => KeyType::Ecdsa,
            SignatureAlgorithm::ED25519 => KeyType::Ed25519,
            _ => KeyType::Rsa,
        }
    }

    /// First and last moment of its validity.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }

    /// What the operator should know at the time `now`.
    pub fn concerns(&self, now: SystemTime) -> Vec<Concern> {
        let days = |time: Duration| time.as_secs() / DAY_SECONDS;
        let mut concerns = self.concerns.clone();
        match (self.not_before.duration_since(now), self.not_after.duration_since(now)) {
            (_, Err(past)) => concerns.push(Concern::Expired(days(past.duration()))),
            (Ok(ahead), _) if !ahead.is_zero() => concerns.push(Concern::NotYetValid(days(ahead) + 1)),
            (_, Ok(left)) if left < EXPIRES_SOON => concerns.push(Concern::ExpiresSoon(days(left))),
            _ => {}
        }
        concerns
    }

    pub(super) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// The certificates of authorities in a PEM text.
///
/// Errors: none in it, or one that cannot be read.
pub fn parse_authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let authorities = sections(pem, Part::Chain)?.certificates;
    if authorities.is_empty() {
        return Err(no_certificate(pem));
    }
    if authorities.len() > AUTHORITIES_MAX {
        return Err(CertificateError::TooMany(authorities.len()));
    }
    for (index, authority) in authorities.iter().enumerate() {
        parse_one(index, authority)?;
    }
    Ok(authorities)
}

/// The bytes of a regular file of at most `bytes_max`. Errors: what the system says, or that it is something else.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("it is larger than {bytes_max} bytes"))),
        false => Ok(bytes),
    }
}

/// What a PEM text holds of what we look for.
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
}

fn sections(pem: &[u8], part: Part) -> Result<Sections, CertificateError> {
    let mut found = Sections { certificates: Vec::new(), key: None };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|error| CertificateError::BadPem(part, pem_reason(&error)))?;
        match kind {
            SectionKind::Certificate => found.certificates.push(der.into()),
            _ if found.key.is_none() => found.key = PrivateKeyDer::from_pem(kind, der),
            _ => {}
        }
    }
    Ok(found)
}

/// Without the line itself, which may be a part of a key.
fn pem_reason(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "its last section has no end".into(),
        Error::IllegalSectionStart { .. } => "a section begins in the wrong way".into(),
        Error::Base64Decode(_) => "it is not Base64".into(),
        _ => "it cannot be read".into(),
    }
}

fn chain_of(chain_pem: &[u8], key_pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = match sections(chain_pem, Part::Chain) {
        // A key behind a pass phrase may share the file with a good chain.
        Err(_) if is_encrypted(chain_pem) => return Err(CertificateError::EncryptedKey),
        other => other?,
    };
    match chain.certificates.len() {
        0 if chain.key.is_some() && sections(key_pem, Part::Key).is_ok_and(|key| !key.certificates.is_empty()) => {
            Err(CertificateError::Swapped)
        }
        0 => Err(no_certificate(chain_pem)),
        count if count > CHAIN_MAX => Err(CertificateError::TooMany(count)),
        _ => Ok(chain.certificates),
    }
}

fn no_certificate(pem: &[u8]) -> CertificateError {
    if is_der(pem) { CertificateError::NotPem(Part::Chain) } else { CertificateError::NoCertificate }
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    if is_encrypted(pem) {
        return Err(CertificateError::EncryptedKey);
    }
    let missing = if is_der(pem) { CertificateError::NotPem(Part::Key) } else { CertificateError::NoKey };
    sections(pem, Part::Key)?.key.ok_or(missing)
}

/// PKCS#8 with encryption (RFC 7468 section 11), or the older form (RFC 1421 section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let holds = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    holds("-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds("Proc-Type: 4,ENCRYPTED")
}

/// An ASN.1 sequence of at least 128 bytes.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}

fn parse_chain<'a>(chain: &'a [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'a>>, CertificateError> {
    chain.iter().enumerate().map(|(index, der)| parse_one(index, der)).collect()
}

fn parse_one<'a>(index: usize, der: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, CertificateError> {
    match parse_x509_certificate(der) {
        // What rustls cannot read, it cannot send either.
        Ok(([], certificate)) if rustls::server::ParsedCertificate::try_from(der).is_ok() => Ok(certificate),
        _ => Err(CertificateError::BadCertificate(index + 1)),
    }
}

fn check_that_they_match(chain: &[X509Certificate<'_>], key: &dyn SigningKey) -> Result<(), CertificateError> {
    let Some(public) = key.public_key() else { return Err(CertificateError::BadKey) };
    match chain.iter().position(|certificate| certificate.public_key().raw == &public[..]) {
        Some(0) => Ok(()),
        Some(index) => Err(CertificateError::WrongOrder(index + 1)),
        None => Err(CertificateError::Mismatch),
    }
}

/// A certificate that the one behind it did not issue. The root may be missing, so the last one is never wrong.
fn out_of_order(chain: &[X509Certificate<'_>]) -> Vec<Concern> {
    let wrong = chain.windows(2).position(|pair| pair[0].issuer().as_raw() != pair[1].subject().as_raw());
    wrong.map(|index| Concern::OutOfOrder(index + 1)).into_iter().collect()
}

fn names_of(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return (names, addresses) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.push(name.trim_end_matches('.').to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    (names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().last()?.as_str().ok()?;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

fn at_second(timestamp: i64) -> SystemTime {
    let distance = Duration::from_secs(timestamp.unsigned_abs());
    let time = if timestamp < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tls::tests::{Authority, Issued, Kind, issue, params};

    fn parse(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
        Certificate::parse(chain.as_bytes(), key.as_bytes())
    }

    #[track_caller]
    fn fails(chain: &str, key: &str, expect: CertificateError) {
        assert_eq!(parse(chain, key).map(|_| ()), Err(expect));
    }

    #[test]
    fn names_addresses_and_dates_are_read() {
        let Issued { chain, key, .. } =
            issue(&["Example.org", "*.example.org", "192.0.2.1", "2001:db8::1"], Kind::Ecdsa);
        let certificate = parse(&chain, &key).expect("good");
        assert_eq!(certificate.names(), ["example.org", "*.example.org"]);
        let addresses: Vec<String> = certificate.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(certificate.key_type(), KeyType::Ecdsa);
        let (from, to) = certificate.validity();
        let day = Duration::from_secs(DAY_SECONDS);
        for (now, expect) in [
            (from - day * 3, vec![Concern::NotYetValid(4)]),
            (from, vec![]),
            (to - day * 15, vec![]),
            (to - day * 13, vec![Concern::ExpiresSoon(13)]),
            (to - day / 2, vec![Concern::ExpiresSoon(0)]),
            (to, vec![Concern::ExpiresSoon(0)]),
            (to + day / 2, vec![Concern::Expired(0)]),
            (to + day * 5, vec![Concern::Expired(5)]),
        ] {
            assert_eq!(certificate.concerns(now), expect);
        }
    }

    #[test]
    fn every_form_of_key_is_read() {
        // Made with `openssl genrsa -traditional`, `openssl ecparam -genkey` and their PKCS#8 forms.
        for (chain, key, kind) in [
            (include_str!("data/rsa.pem"), include_str!("data/rsa.pkcs1.key"), KeyType::Rsa),
            (include_str!("data/rsa.pem"), include_str!("data/rsa.pkcs8.key"), KeyType::Rsa),
            (include_str!("data/ec.pem"), include_str!("data/ec.sec1.key"), KeyType::Ecdsa),
            (include_str!("data/ec.pem"), include_str!("data/ec.pkcs8.key"), KeyType::Ecdsa),
            (include_str!("data/ed25519.pem"), include_str!("data/ed25519.key"), KeyType::Ed25519),
        ] {
            let certificate = parse(chain, key).expect("good");
            assert_eq!(certificate.key_type(), kind);
            assert_eq!(certificate.names(), ["example.org"]);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let (a, b) = (issue(&["a.test"], Kind::Ecdsa), issue(&["b.test"], Kind::Ecdsa));
        fails(&a.key, &a.chain, CertificateError::Swapped);
        fails(&a.key, &a.key, CertificateError::NoCertificate);
        fails("", &a.key, CertificateError::NoCertificate);
        fails(&a.chain, "", CertificateError::NoKey);
        fails(&a.chain, &a.chain, CertificateError::NoKey);
        fails(&a.chain, &b.key, CertificateError::Mismatch);
        fails(&format!("{}{}", b.chain, a.chain), &a.key, CertificateError::WrongOrder(2));
        fails(&a.chain, include_str!("data/ec.encrypted.key"), CertificateError::EncryptedKey);
        fails(&a.chain, include_str!("data/rsa.encrypted.key"), CertificateError::EncryptedKey);
        fails(&a.chain, include_str!("data/rsa1024.key"), CertificateError::BadKey);
        fails(&a.chain.repeat(17), &a.key, CertificateError::TooMany(17));
        let cut = &a.chain[..a.chain.len() - 30];
        let reason = "its last section has no end".to_owned();
        fails(cut, &a.key, CertificateError::BadPem(Part::Chain, reason));
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        fails(&format!("{}{empty}", a.chain), &a.key, CertificateError::BadCertificate(2));
        let der = CertificateDer::from_pem_slice(a.chain.as_bytes()).expect("good");
        let error = |chain: &[u8], key: &[u8]| Certificate::parse(chain, key).map(|_| ());
        assert_eq!(error(&der, a.key.as_bytes()), Err(CertificateError::NotPem(Part::Chain)));
        let key = PrivateKeyDer::from_pem_slice(a.key.as_bytes()).expect("good");
        assert_eq!(error(a.chain.as_bytes(), key.secret_der()), Err(CertificateError::NotPem(Part::Key)));
    }

    #[test]
    fn one_file_may_hold_both() {
        let Issued { chain, key, .. } = issue(&["a.test"], Kind::Ecdsa);
        for text in [format!("{chain}{key}"), format!("{key}{chain}")] {
            assert_eq!(parse(&text, &text).expect("good").names(), ["a.test"]);
        }
    }

    #[test]
    fn a_chain_out_of_order_and_one_without_names_are_told() {
        let (authority, other) = (Authority::new("CA"), Authority::new("other"));
        let Issued { chain, key, .. } = authority.issue(params(&["a.test"]), Kind::Ecdsa);
        let concerns = |chain: &str| {
            let certificate = parse(chain, &key).expect("good");
            certificate.concerns(SystemTime::now())
        };
        assert_eq!(concerns(&chain), []);
        assert_eq!(concerns(&format!("{chain}{}", authority.pem)), []);
        assert_eq!(concerns(&format!("{chain}{}", other.pem)), [Concern::OutOfOrder(1)]);
        let mut nameless = params(&[]);
        nameless.distinguished_name.push(rcgen::DnType::CommonName, "Old.test");
        let Issued { chain, key, .. } = authority.issue(nameless, Kind::Ecdsa);
        let old = parse(&chain, &key).expect("good");
        assert_eq!(
            (old.names(), old.concerns(SystemTime::now())),
            (&["old.test".to_owned()][..], vec![Concern::NoNames])
        );
    }

    #[test]
    fn no_output_shows_key_material() {
        let Issued { chain, key, .. } = issue(&["a.test"], Kind::Ecdsa);
        let certificate = parse(&chain, &key).expect("good");
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("good");
        let secret = &der.secret_der()[36..68];
        let shown = format!("{certificate:?}").to_lowercase();
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(&hex));
        assert!(!shown.contains(&format!("{secret:?}")[1..].replace(']', "")));
        let damaged = key.replace("-----END", "?\n-----END");
        let Err(error) = parse(&chain, &damaged) else { panic!("damaged") };
        assert!(key.lines().skip(1).all(|line| line.starts_with('-') || !error.to_string().contains(line)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_a_mistake(
            chain in proptest::collection::vec(any::<u8>(), 0..200), key in "(?s).{0,100}", label in "(CERTIFICATE|PRIVATE KEY|RSA PRIVATE KEY)",
        ) {
            use base64::Engine;
            let base64 = base64::engine::general_purpose::STANDARD.encode(&chain);
            let pem = format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n{key}");
            for (chain, key) in [(&chain[..], key.as_bytes()), (pem.as_bytes(), pem.as_bytes())] {
                if let Err(error) = Certificate::parse(chain, key) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }

        #[test]
        fn a_changed_certificate_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let pem = include_bytes!("data/ec.pem");
            let mut der = CertificateDer::from_pem_slice(pem).expect("good").to_vec();
            let at = at.index(der.len());
            der[at] = byte;
            let _ = parse_one(0, &der.into());
        }
    }
}
