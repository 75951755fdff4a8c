//! The client side of a check's TLS: verified by the config's authorities, or taken as it comes.
//!
//! What a certificate says of its end is reported either way. rustls is the protocol; nothing is resumed, so that every
//! check sees the certificate that the server has now.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::config::model::{CheckTls, Protocol, Server};
use crate::runtime::net::Address;
use crate::tls::{Certificate, outbound};

/// Of one upstream.
pub(super) struct TlsClient {
    provider: Arc<CryptoProvider>,
    verifier: Result<Arc<dyn ServerCertVerifier>, String>,
    server_name: Option<String>,
    identity: Option<Certificate>,
    /// What is asked for in ALPN; `None`: nothing is.
    protocol: Option<Protocol>,
}

/// Why there is no TLS.
pub(super) struct TlsFailure {
    pub(super) text: String,
    pub(super) certificate_ends: Option<SystemTime>,
}

impl TlsClient {
    /// `protocol`: the version of HTTP that is to be spoken, if it is HTTP.
    pub(super) fn new(settings: &CheckTls, protocol: Option<Protocol>) -> TlsClient {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = match (&settings.ca, &settings.roots) {
            (Some(_), Some(roots)) => {
                let builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
                builder
                    .build()
                    .map(|strict| strict as Arc<dyn ServerCertVerifier>)
                    .map_err(|error| format!("`ca` cannot be used: {error}"))
            }
            // Never without verification where it was asked for.
            (Some(_), None) => Err("`ca` was not read".into()),
            (None, _) => Ok(outbound::anyone(provider.clone())),
        };
        let (server_name, identity) = (settings.server_name.clone(), settings.identity.clone());
        TlsClient { provider, verifier, server_name, identity, protocol }
    }

    /// Shakes hands on `socket`; tells when the server's certificate ends.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        socket: S,
        server: &Server,
        address: &Address,
    ) -> Result<(Box<TlsStream<S>>, Option<SystemTime>), TlsFailure> {
        let fail = |text: String| TlsFailure { text, certificate_ends: None };
        let verifier = self.verifier.clone().map_err(fail)?;
        let noting = Arc::new(Noting { verifier, ends: Mutex::new(None) });
        let (name, is_said) = self.name(server, address).map_err(fail)?;
        let config = self.config(noting.clone(), is_said).map_err(|error| fail(error.to_string()))?;
        let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        match connected {
            Ok(stream) => Ok((Box::new(stream), noting.ends())),
            Err(error) => Err(TlsFailure { text: plain(&error), certificate_ends: noting.ends() }),
        }
    }

    /// What the certificate must be for, and whether the server is told (SNI).
    fn name(&self, server: &Server, address: &Address) -> Result<(ServerName<'static>, bool), String> {
        let of_server = || server.named.as_ref().map(|name| name.host.to_string());
        match (self.server_name.clone().or_else(of_server), address) {
            (Some(name), _) => {
                ServerName::try_from(name.clone()).map(|name| (name, true)).map_err(|_| format!("`{name}` is no name"))
            }
            (None, Address::Tcp(address)) => Ok((ServerName::from(address.ip()), false)),
            (None, Address::Unix(_) | Address::Name(_) | Address::App(_)) => {
                ServerName::try_from("localhost").map(|name| (name, false)).map_err(|error| error.to_string())
            }
        }
    }

    fn config(&self, noting: Arc<Noting>, is_said: bool) -> Result<ClientConfig, Error> {
        let builder =
            ClientConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(noting);
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(outbound::shown(identity)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match self.protocol {
            // Servers that know nothing of ALPN are asked as before there was another version.
            None | Some(Protocol::Http1 | Protocol::Gateway(_)) => Vec::new(),
            Some(Protocol::H2) => vec![b"h2".to_vec()],
            Some(Protocol::Auto) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        config.resumption = Resumption::disabled();
        // No SNI of `localhost` that nobody asked for; rustls sends none for addresses by itself.
        config.enable_sni = is_said;
        Ok(config)
    }
}

fn plain(error: &io::Error) -> String {
    // rustls's own errors are wrapped; their text may hold names of the certificate.
    error.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Notes when a certificate ends, then verifies it, or does not.
#[derive(Debug)]
struct Noting {
    verifier: Arc<dyn ServerCertVerifier>,
    ends: Mutex<Option<SystemTime>>,
}

impl Noting {
    fn ends(&self) -> Option<SystemTime> {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `notAfter` of a certificate (RFC 5280 section 4.1.2.5); `None`: it is none.
fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = not_after(end_entity);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
