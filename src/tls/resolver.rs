//! Which certificate a client gets: by the name it asks for, then by the signatures it understands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::certificate::Certificate;
use super::notes;
use crate::config::model::UnknownNames;

/// Certificates by name: exact names, then wildcards of one label (RFC 9525 section 6.3), then the default.
#[derive(Debug)]
pub struct Resolver {
    exact: HashMap<Box<str>, Choice, RandomState>,
    /// By what follows the first label, with its dot: `.example.org`.
    wildcard: HashMap<Box<str>, Choice, RandomState>,
    default: Choice,
    unknown_names: UnknownNames,
}

/// Certificates for one name, one per kind of key, the cheapest to sign with first.
#[derive(Clone, Debug, Default)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl Choice {
    /// Adds a certificate unless there is one with this kind of key already: what is written first wins.
    fn add(&mut self, key: &Arc<CertifiedKey>) {
        let algorithm = key.key.algorithm();
        if self.0.iter().all(|known| known.key.algorithm() != algorithm) {
            self.0.push(key.clone());
            self.0.sort_by_key(|key| signing_cost(key.key.algorithm()));
        }
    }

    /// The first one the client can verify. Where there is none, any: rustls then tells the client what is missing.
    fn pick(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).or(self.0.first()).cloned()
    }
}

/// ECDSA on P-256 signs about twenty times as fast as RSA with 2048 bits.
fn signing_cost(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        _ => 2,
    }
}

impl Resolver {
    /// The first certificate is the default one, together with the others that share a name with it.
    pub fn new(certificates: &[Certificate], unknown_names: UnknownNames) -> Resolver {
        let mut resolver = Resolver {
            exact: HashMap::default(),
            wildcard: HashMap::default(),
            default: Choice::default(),
            unknown_names,
        };
        for certificate in certificates {
            resolver.add(certificate);
        }
        if let Some(first) = certificates.first() {
            let shares_a_name = |other: &&Certificate| other.names().iter().any(|name| first.names().contains(name));
            resolver.default.add(first.certified_key());
            for other in certificates[1..].iter().filter(shares_a_name) {
                resolver.default.add(other.certified_key());
            }
        }
        resolver
    }

    fn add(&mut self, certificate: &Certificate) {
        for name in certificate.names() {
            let (map, name) = match name.strip_prefix('*') {
                Some(rest) => (&mut self.wildcard, rest),
                None => (&mut self.exact, name.as_str()),
            };
            map.entry(name.into()).or_default().add(certificate.certified_key());
        }
    }

    /// The certificate for a client that asks for `name` and understands `schemes`. A client without a name gets the
    /// default. `None`: the name is refused.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.default.pick(schemes) };
        match (self.find(name), self.unknown_names) {
            (Some(choice), _) => choice.pick(schemes),
            (None, UnknownNames::Default) => self.default.pick(schemes),
            (None, UnknownNames::Refuse) => None,
        }
    }

    fn find(&self, name: &str) -> Option<&Choice> {
        // RFC 6066 section 3: without a trailing dot, and in any case.
        let name = name.strip_suffix('.').unwrap_or(name);
        let name: Cow<'_, str> = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => name.to_ascii_lowercase().into(),
            false => name.into(),
        };
        self.exact.get(&*name).or_else(|| {
            let dot = name.find('.').filter(|dot| *dot > 0)?;
            self.wildcard.get(&name[dot..])
        })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(hello.server_name(), hello.signature_schemes());
        notes::note(|notes| {
            notes.server_name = hello.server_name().map(Into::into);
            notes.is_refused = chosen.is_none();
        });
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{Kind, certificate};

    const EC: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
    const BOTH: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];

    /// Index of the certificate that a client gets.
    #[track_caller]
    fn check(
        certificates: &[Certificate],
        unknown: UnknownNames,
        name: Option<&str>,
        schemes: &[SignatureScheme],
        expect: Option<usize>,
    ) {
        let chosen = Resolver::new(certificates, unknown).choose(name, schemes);
        let index = chosen.map(|chosen| {
            let same = |certificate: &Certificate| Arc::ptr_eq(certificate.certified_key(), &chosen);
            certificates.iter().position(same).expect("one of them")
        });
        assert_eq!(index, expect, "{name:?} {schemes:?}");
    }

    #[test]
    fn names_are_found_exactly_then_by_wildcard_then_by_default() {
        let certificates = [
            certificate(&["first.test"], Kind::Ecdsa),
            certificate(&["*.example.org", "example.org"], Kind::Ecdsa),
            certificate(&["www.example.org"], Kind::Ecdsa),
        ];
        for (name, expect) in [
            (None, 0),
            (Some("first.test"), 0),
            (Some("example.org"), 1),
            (Some("www.example.org"), 2),
            (Some("WWW.Example.ORG"), 2),
            (Some("www.example.org."), 2),
            (Some("api.example.org"), 1),
            (Some("API.example.org"), 1),
            (Some("a.b.example.org"), 0), // RFC 9525 section 6.3: a wildcard stands for one label
            (Some(".example.org"), 0),
            (Some("org"), 0),
            (Some(""), 0),
            (Some("."), 0),
        ] {
            check(&certificates, UnknownNames::Default, name, EC, Some(expect));
        }
        for (name, expect) in [
            (None, Some(0)),
            (Some("first.test"), Some(0)),
            (Some("api.example.org"), Some(1)),
            (Some("a.b.example.org"), None),
            (Some("other.test"), None),
        ] {
            check(&certificates, UnknownNames::Refuse, name, EC, expect);
        }
    }

    #[test]
    fn a_client_gets_ecdsa_unless_it_only_knows_rsa() {
        let certificates = [
            certificate(&["a.test"], Kind::Rsa),
            certificate(&["a.test", "*.b.test"], Kind::Ecdsa),
            certificate(&["*.b.test"], Kind::Rsa),
        ];
        for (name, schemes, expect) in [
            (Some("a.test"), BOTH, 1),
            (Some("a.test"), EC, 1),
            (Some("a.test"), RSA, 0),
            (Some("x.b.test"), BOTH, 1),
            (Some("x.b.test"), RSA, 2),
            (None, BOTH, 1), // shares its name with the first
            (None, RSA, 0),
            (Some("other.test"), RSA, 0),
            (Some("a.test"), &[], 1),
        ] {
            check(&certificates, UnknownNames::Default, name, schemes, Some(expect));
        }
        let alone = [certificate(&["a.test"], Kind::Ecdsa)];
        check(&alone, UnknownNames::Default, Some("a.test"), RSA, Some(0));
        check(&[], UnknownNames::Default, Some("a.test"), RSA, None);
    }
}
