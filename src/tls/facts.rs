//! What an established session is: for log lines, header fields to the servers, and decisions.
//!
//! Computed once when the handshake ends; reading costs nothing. Texts are spelled as nginx's variables spell them.

use std::borrow::Cow;
use std::fmt;

use rustls::CommonState;
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use sha1::{Digest, Sha1};
use x509_parser::parse_x509_certificate;

use super::names;
use super::notes::Notes;
use super::profile::openssl_name;

/// Protocols a session may agree on, in our order of preference.
const PROTOCOLS: [&str; 3] = [HTTP3, HTTP2, HTTP1];
pub(super) const HTTP3: &str = "h3";
pub(super) const HTTP2: &str = "h2";
pub(super) const HTTP1: &str = "http/1.1";

/// Facts about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3` or `TLSv1.2`: nginx's `$ssl_protocol`.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite: nginx's `$ssl_cipher`.
    pub cipher: &'static str,
    /// `h3`, `h2` or `http/1.1`; `None` when client and server agreed on nothing: then HTTP/1.1 is spoken.
    pub alpn: Option<&'static str>,
    /// Name the client asked for, in lower case: nginx's `$ssl_server_name`.
    pub server_name: Option<Box<str>>,
    /// Whether an earlier session was resumed: nginx's `$ssl_session_reused`.
    pub is_resumed: bool,
    /// What is known of the client's certificate: nginx's `$ssl_client_verify`.
    pub verify: Verify,
    /// The client's certificate, only when it was verified.
    pub client: Option<Box<ClientCertificate>>,
}

/// What became of the client's certificate. Shown as nginx shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It sent none.
    None,
    /// One of the trusted authorities issued it, and the client has its key.
    Success,
    /// It is not to be trusted, for this reason. Only with `client_certificates = "optional"`.
    Failed(&'static str),
}

impl Verify {
    /// The text of its `Display`.
    pub fn to_text(self) -> Cow<'static, str> {
        match self {
            Verify::None => Cow::Borrowed("NONE"),
            Verify::Success => Cow::Borrowed("SUCCESS"),
            Verify::Failed(reason) => Cow::Owned(format!("FAILED:{reason}")),
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// A verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// RFC 2253 text: nginx's `$ssl_client_s_dn`. Only visible ASCII.
    pub subject: Box<str>,
    /// The same of its issuer: `$ssl_client_i_dn`.
    pub issuer: Box<str>,
    /// Hex digits in upper case: `$ssl_client_serial`.
    pub serial: Box<str>,
    /// SHA-1 of the certificate, hex digits in lower case: `$ssl_client_fingerprint`.
    pub fingerprint: Box<str>,
}

impl Facts {
    /// Of a connection whose handshake has ended.
    pub(super) fn new(connection: &CommonState, notes: Notes) -> Facts {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let client = match notes.failure {
            None => certificate.and_then(client).map(Box::new),
            Some(_) => None,
        };
        Facts {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: connection.negotiated_cipher_suite().map_or("unknown", |suite| openssl_name(suite.suite())),
            alpn: connection
                .alpn_protocol()
                .and_then(|agreed| PROTOCOLS.into_iter().find(|known| known.as_bytes() == agreed)),
            server_name: notes.server_name,
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            verify: match (notes.failure, &client) {
                (Some(reason), _) => Verify::Failed(reason),
                (None, Some(_)) => Verify::Success,
                (None, None) if certificate.is_some() => Verify::Failed("invalid certificate"),
                (None, None) => Verify::None,
            },
            client,
        }
    }
}

/// `None` when it cannot be read, which the verifier has ruled out.
fn client(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(ClientCertificate {
        subject: names::rfc2253(certificate.subject()).into(),
        issuer: names::rfc2253(certificate.issuer()).into(),
        serial: names::serial(certificate.raw_serial()).into(),
        fingerprint: names::hex(&Sha1::digest(der)).into(),
    })
}
