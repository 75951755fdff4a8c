//! Certificates for the tests, and sessions against real clients in memory (`session`).

mod certificates;
mod openssl;
pub(crate) mod session;

use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Certificate;

/// Kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    /// 2048 bits, always the same: making one takes long.
    Rsa,
}

/// PEM texts.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// What issues certificates.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

fn key(kind: Kind) -> KeyPair {
    match kind {
        Kind::Ecdsa => KeyPair::generate().expect("a key"),
        Kind::Rsa => KeyPair::from_pem(include_str!("../data/rsa.pkcs8.key")).expect("a key"),
    }
}

/// For these names, without a subject.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params
}

/// A certificate that signs itself.
pub(crate) fn issue(names: &[&str], kind: Kind) -> Issued {
    let key = key(kind);
    let certificate = params(names).self_signed(&key).expect("signed");
    Issued { chain: certificate.pem(), key: key.serialize_pem() }
}

/// The same, loaded.
pub(crate) fn certificate(names: &[&str], kind: Kind) -> Certificate {
    issue(names, kind).load()
}

impl Issued {
    pub(crate) fn load(&self) -> Certificate {
        Certificate::parse(self.chain.as_bytes(), self.key.as_bytes()).expect("good")
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = key(Kind::Ecdsa);
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, params: CertificateParams, kind: Kind) -> Issued {
        let key = key(kind);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("good")
    }
}

/// The authority that the clients of these tests trust, and whose client certificates the servers trust.
fn trusted() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("trusted"))
}
