//! Client certificates: who must show one, and what becomes of a bad one.
//!
//! `required`: the handshake fails without a good certificate. nginx completes it and answers 400, which leaves the door
//! to each location's settings. `optional`: the handshake goes on whatever comes, and the facts tell `NONE`, `SUCCESS`
//! or `FAILED:reason`, as nginx's `$ssl_client_verify`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::error::TlsError;
use super::notes;

/// A verifier that refuses handshakes without a good certificate, or with `is_optional` lets them pass with a note.
///
/// Errors: no authority in `roots`.
pub(super) fn verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    is_optional: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
    let strict = builder.build().map_err(|error| TlsError::Settings(format!("client_ca cannot be used: {error}")))?;
    Ok(if is_optional { Arc::new(Lenient(strict)) } else { strict })
}

/// Accepts every certificate whose key the client has; the note says what is wrong with it.
struct Lenient(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Lenient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lenient")
    }
}

impl ClientCertVerifier for Lenient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Err(error) = self.0.verify_client_cert(end_entity, intermediates, now) {
            notes::note(|notes| notes.failure = Some(reason(&error)));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// OpenSSL's text (`X509_verify_cert_error_string`) for the usual reasons. All are fixed texts: nothing a client sends
/// gets into a log or a header field this way.
fn reason(error: &Error) -> &'static str {
    let Error::InvalidCertificate(error) = error else { return "unspecified certificate verification error" };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate is not yet valid",
        CertificateError::Revoked => "certificate revoked",
        CertificateError::UnknownIssuer => "unable to get local issuer certificate",
        CertificateError::BadSignature => "certificate signature failure",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "unsuitable certificate purpose"
        }
        CertificateError::BadEncoding => "invalid certificate",
        CertificateError::UnhandledCriticalExtension => "unhandled critical extension",
        _ => "unspecified certificate verification error",
    }
}
