//! What can go wrong with TLS, and whose fault it is.

use std::fmt;
use std::path::PathBuf;

use super::certificate::CertificateError;
use super::tickets::SecretError;

/// Why a session or its set-up failed. Nothing of it is cured by trying the same again.
#[derive(Debug)]
pub enum TlsError {
    /// Downstream: a plain HTTP request came to the TLS port. Nothing was sent; answer in plain text, as nginx does with
    /// its status 497.
    PlainHttp,
    /// Downstream: the client asks for a name without a certificate, and such names are refused.
    UnknownName,
    /// Downstream: more bytes than [`super::INPUT_BYTES_MAX`] belong to one message.
    TooLarge,
    /// Downstream: the client broke the protocol, shares no version, cipher or algorithm with us, presents a bad
    /// certificate, or sent an alert itself.
    Peer(Box<rustls::Error>),
    /// Downstream: so much was sent with the same keys that they must not be used any longer (TLS 1.2 only).
    KeysExhausted,
    /// Internal: application data was given before the handshake ended.
    NotEstablished,
    /// Internal: the session is used after it failed or was closed.
    Ended,
    /// Operator: a certificate or key file cannot be used.
    Certificate {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// Operator: the file of ticket keys cannot be used.
    Tickets {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: SecretError,
    },
    /// Operator: a file cannot be read or created.
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Operator: the settings do not fit together.
    Settings(String),
}

impl TlsError {
    /// A word for counters and log fields.
    pub fn label(&self) -> &'static str {
        match self {
            TlsError::PlainHttp => "plain_http",
            TlsError::UnknownName => "unknown_name",
            TlsError::TooLarge => "too_large",
            TlsError::Peer(error) => peer_label(error),
            TlsError::KeysExhausted => "keys_exhausted",
            TlsError::NotEstablished | TlsError::Ended => "internal",
            TlsError::Certificate { .. } | TlsError::Tickets { .. } | TlsError::File { .. } | TlsError::Settings(_) => {
                "setup"
            }
        }
    }
}

fn peer_label(error: &rustls::Error) -> &'static str {
    use rustls::Error;
    match error {
        Error::AlertReceived(_) => "alert_received",
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => "client_certificate",
        Error::PeerIncompatible(_) => "incompatible",
        _ => "protocol",
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::PlainHttp => f.write_str("a plain HTTP request was sent to the TLS port"),
            TlsError::UnknownName => f.write_str("the client asks for a name that no certificate has"),
            TlsError::TooLarge => f.write_str("a TLS message of the client is too large"),
            TlsError::Peer(error) => write!(f, "{error}"),
            TlsError::KeysExhausted => f.write_str("the keys of the connection are used up"),
            TlsError::NotEstablished => f.write_str("the TLS handshake has not ended yet"),
            TlsError::Ended => f.write_str("the TLS session has ended"),
            TlsError::Certificate { file, error } => write!(f, "{}: {error}", file.display()),
            TlsError::Tickets { file, error } => write!(f, "{}: {error}", file.display()),
            TlsError::File { file, error } => write!(f, "{}: {error}", file.display()),
            TlsError::Settings(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        TlsError::Peer(Box::new(error))
    }
}
