//! The sessions of QUIC connections: rustls does the handshake, `quinn-proto` carries its bytes (RFC 9001).
//!
//! quinn-proto has a session of its own for rustls. This one is ours because the callbacks that choose and verify
//! certificates leave [notes](super::notes), which have to be collected around them, and because the facts tell cipher and
//! resumption.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig as _, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::ServerConfig;
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};

use super::error::TlsError;
use super::facts::Facts;
use super::notes::{self, Notes};

/// The alert for a name without certificate: RFC 6066 section 3.
const UNRECOGNIZED_NAME: u8 = 112;

/// Makes the sessions of one listener, for one worker.
pub struct QuicTls {
    config: Arc<ServerConfig>,
    /// Knows the keys that need no session.
    initial: Arc<QuicServerConfig>,
}

impl std::fmt::Debug for QuicTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QuicTls")
    }
}

impl QuicTls {
    /// Errors: the cipher that QUIC begins with is missing, which is in every profile.
    pub(super) fn new(config: ServerConfig) -> Result<Arc<QuicTls>, TlsError> {
        let config = Arc::new(config);
        let missing = |_| TlsError::Settings("QUIC needs the cipher TLS_AES_128_GCM_SHA256".into());
        let initial = Arc::new(QuicServerConfig::try_from(config.clone()).map_err(missing)?);
        Ok(Arc::new(QuicTls { config, initial }))
    }
}

impl crypto::ServerConfig for QuicTls {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn crypto::Session> {
        let mut ours = Vec::new();
        params.write(&mut ours);
        // Fails only for configs with early data or without TLS 1.3: none that `build_quic` makes.
        let tls = ServerConnection::new(self.config.clone(), Version::V1, ours).expect("a config for QUIC");
        Box::new(Session {
            tls,
            initial: self.initial.clone(),
            version,
            notes: Notes::default(),
            facts: None,
            next_secrets: None,
        })
    }
}

struct Session {
    tls: ServerConnection,
    initial: Arc<QuicServerConfig>,
    version: u32,
    notes: Notes,
    /// Once the handshake has ended.
    facts: Option<Facts>,
    next_secrets: Option<Secrets>,
}

impl crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, _: Side) -> Keys {
        // Asked of a server only for its own side. The version was accepted before there was a session.
        self.initial.initial_keys(self.version, dst_cid).unwrap_or_else(|_| unreachable!("an accepted version"))
    }

    /// The [`Facts`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.facts.clone().map(|facts| Box::new(facts) as Box<dyn Any>)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let tls = &mut self.tls;
        let read = notes::collect(&mut self.notes, || tls.read_hs(buf));
        if let Err(error) = read {
            let alert = match self.tls.alert() {
                _ if self.notes.is_refused => Some(UNRECOGNIZED_NAME),
                alert => alert.map(u8::from),
            };
            return Err(match alert {
                Some(alert) => {
                    TransportError { code: TransportErrorCode::crypto(alert), frame: None, reason: error.to_string() }
                }
                None => {
                    let code = TransportErrorCode::PROTOCOL_VIOLATION;
                    TransportError { code, frame: None, reason: format!("TLS: {error}") }
                }
            });
        }
        if self.facts.is_none() && !self.tls.is_handshaking() {
            self.facts = Some(Facts::new(&self.tls, std::mem::take(&mut self.notes)));
            return Ok(true);
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match self.tls.quic_transport_parameters() {
            None => Ok(None),
            Some(theirs) => Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(theirs))?)),
        }
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = match self.tls.write_hs(buf)? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.next_secrets = Some(next);
                keys
            }
        };
        Some(Keys {
            header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
            packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next_secrets.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Clients get Retry packets.
        false
    }

    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        // Nothing here binds to a session.
        Err(ExportKeyingMaterialError)
    }
}
