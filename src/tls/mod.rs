//! TLS without sockets: bytes in, bytes out; the data worker moves them.
//!
//! | file | does |
//! |---|---|
//! | [`session`] | one connection: ciphertext to plaintext and back, and the facts about it |
//! | `certificate` | chain and key from PEM files, with every mistake named |
//! | `resolver` | which certificate a client gets |
//! | `tickets` | resumption without memory: ticket keys that follow from a secret and the time |
//! | `profile` | versions, ciphers and groups |
//! | `client` | client certificates |
//! | `quic` | the sessions of QUIC connections |
//! | [`outbound`] | sessions with servers |
//! | `self_signed` | certificates for development |
//!
//! Boot loads a listener's [`Material`] once; each worker makes its own [`rustls::ServerConfig`] of it with [`build`], so
//! that no handshake touches a line that another worker writes. A reload loads new material and builds again: sessions
//! under way keep what they have. rustls with aws-lc-rs is the protocol, Mozilla's guidelines are the choice of ciphers.
//!
//! Deliberately absent: early data (it can be replayed), session caches (tickets need none), renegotiation, OCSP
//! stapling, TLS below 1.2.

pub mod certificate;
mod client;
mod error;
mod facts;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod hello;
mod names;
mod notes;
pub mod outbound;
mod profile;
mod quic;
mod resolver;
mod self_signed;
pub mod session;
#[cfg(test)]
pub(crate) mod tests;
pub mod tickets;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{RootCertStore, compress};

pub use self::quic::QuicTls;
pub use certificate::Certificate;
pub use error::TlsError;
pub use facts::{ClientCertificate, Facts, Verify};
pub use outbound::{Offer, Outbound, ServerTrust};
pub use resolver::Resolver;
pub use self_signed::{SelfSigned, self_signed};
pub use session::{INPUT_BYTES_MAX, Received, Session, looks_like_tls};
pub use tickets::{Secrets, Tickets};

use crate::config::model::{ClientCertificates, Tls};

/// What a listener needs besides its settings: certificates, ticket keys, authorities. Loaded once, shared by its
/// workers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Material {
    certificates: Arc<[Certificate]>,
    resolver: Arc<Resolver>,
    tickets: Arc<Tickets>,
    authorities: Option<Arc<RootCertStore>>,
}

impl Material {
    /// Reads every file that the settings name; a missing file of ticket keys is created.
    ///
    /// `process_secret` is used where the settings name no such file: one for the life of the process, so that tickets
    /// outlive a reload. Errors: a file that cannot be used.
    pub fn load(settings: &Tls, process_secret: &Secrets) -> Result<Material, TlsError> {
        let load = |files: &crate::config::model::CertificateFiles| Certificate::load(&files.chain, &files.key);
        let certificates = settings.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let secrets = match &settings.ticket_keys {
            Some(file) => Secrets::load_or_create(file)?,
            None => process_secret.clone(),
        };
        let authorities = settings.client_ca.as_deref().map(load_authorities).transpose()?;
        Material::new(settings, &certificates, authorities, Tickets::new(secrets))
    }

    /// Material that was made in memory, such as [`self_signed()`] certificates.
    ///
    /// Errors: no certificate, or no authorities where client certificates are asked for.
    pub fn new(
        settings: &Tls,
        certificates: &[Certificate],
        authorities: Option<RootCertStore>,
        tickets: Tickets,
    ) -> Result<Material, TlsError> {
        if certificates.is_empty() {
            return Err(TlsError::Settings("a TLS listener needs a certificate".into()));
        }
        if settings.client_certificates != ClientCertificates::Off && authorities.is_none() {
            return Err(TlsError::Settings("client certificates need `client_ca`".into()));
        }
        Ok(Material {
            certificates: certificates.into(),
            resolver: Arc::new(Resolver::new(certificates, settings.unknown_names)),
            tickets: Arc::new(tickets),
            authorities: authorities.map(Arc::new),
        })
    }

    /// The chains and keys, the default first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// The authorities that client certificates may come from. Errors: unreadable, or none that can be used.
pub fn load_authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let pem = certificate::read_file(file, certificate::FILE_BYTES_MAX)
        .map_err(|error| TlsError::File { file: file.into(), error })?;
    parse_authorities(&pem).map_err(|error| TlsError::Certificate { file: file.into(), error })
}

/// The same from a PEM text. Errors: none in it, or one that cannot be used.
pub fn parse_authorities(pem: &[u8]) -> Result<RootCertStore, certificate::CertificateError> {
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificate::parse_authorities(pem)?.into_iter().enumerate() {
        roots.add(authority).map_err(|_| certificate::CertificateError::BadCertificate(index + 1))?;
    }
    Ok(roots)
}

/// Of all that speak TLS with their clients; `None`: it speaks in clear.
#[derive(Clone, Debug, Default)]
pub struct Materials {
    /// By listener.
    pub listeners: Vec<Option<Material>>,
    /// By splitter.
    pub splitters: Vec<Option<Material>>,
}

/// The config of one worker for one listener. `http2`: offer HTTP/2 before HTTP/1.1.
///
/// Where client certificates are asked for nothing is resumed: a resumed session would be trusted by what was verified
/// hours ago, perhaps by another listener.
///
/// Errors: authorities that cannot be used.
pub fn build(settings: &Tls, material: &Material, http2: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let protocols: &[&str] = if http2 { &[facts::HTTP2, facts::HTTP1] } else { &[facts::HTTP1] };
    build_for(settings, material, profile::versions(settings.profile), protocols).map(Arc::new)
}

/// The same for what is not HTTP: whatever protocol a client names is its own affair.
///
/// Errors: as for [`build`].
pub fn build_any(settings: &Tls, material: &Material) -> Result<Arc<ServerConfig>, TlsError> {
    build_for(settings, material, profile::versions(settings.profile), &[]).map(Arc::new)
}

/// The same for HTTP/3: TLS 1.3, whatever the profile (RFC 9001 section 4.2).
///
/// Errors: as for [`build`].
pub fn build_quic(settings: &Tls, material: &Material) -> Result<Arc<QuicTls>, TlsError> {
    QuicTls::new(build_for(settings, material, &[&rustls::version::TLS13], &[facts::HTTP3])?)
}

fn build_for(
    settings: &Tls,
    material: &Material,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocols: &[&str],
) -> Result<ServerConfig, TlsError> {
    let provider = profile::provider(settings.profile);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match verifier(settings, material, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(material.resolver.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match settings.client_certificates {
        ClientCertificates::Off => config.ticketer = material.tickets.clone(),
        _ => config.send_tls13_tickets = 0,
    }
    config.max_early_data_size = 0;
    config.cert_compression_cache = Arc::new(compress::CompressionCache::Disabled);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn verifier(
    settings: &Tls,
    material: &Material,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, TlsError> {
    let is_optional = match settings.client_certificates {
        ClientCertificates::Off => return Ok(None),
        ClientCertificates::Optional => true,
        ClientCertificates::Required => false,
    };
    let Some(roots) = material.authorities.clone() else {
        return Err(TlsError::Settings("client certificates need `client_ca`".into()));
    };
    client::verifier(roots, provider, is_optional).map(Some)
}
