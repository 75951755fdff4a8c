//! TLS towards servers: what their certificates are held against, and one session, without a socket. RFC 8446, RFC 5246.
//!
//! Unlike those of clients ([`super::session`]) these sessions are few and busy, so that rustls may keep its own buffers.
//! No early data: it can be replayed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::Certificate;
use super::error::TlsError;
use super::facts;
use super::profile;
use crate::config::model::TlsProfile;

/// Sessions that can be resumed, of each worker and upstream: a server of each name and its tickets.
const RESUMED_SESSIONS_MAX: usize = 256;

/// Where systems keep the authorities that everybody trusts: Debian and its kin, Fedora and its kin, Alpine, openSUSE.
pub const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Most bytes of such a file.
pub const SYSTEM_FILE_BYTES_MAX: u64 = 8 << 20;

/// The authorities in the `pem` of a system; those that cannot be used are left out.
pub fn parse_system_authorities(pem: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    roots
}

/// Versions of HTTP that a server may choose from (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Either; HTTP/2 is preferred.
    Both,
    /// Nothing: what is spoken inside is not HTTP.
    Nothing,
}

/// What the certificates of servers are held against, and what we show them. Read once, cheap to clone.
#[derive(Clone)]
pub struct ServerTrust {
    /// `None`: any certificate is good.
    authorities: Option<Arc<RootCertStore>>,
    identity: Option<Certificate>,
}

impl fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.authorities.as_ref().map(|roots| roots.len());
        f.debug_struct("ServerTrust").field("authorities", &authorities).field("identity", &self.identity).finish()
    }
}

impl ServerTrust {
    /// Certificates must come from one of these `authorities`, or with `None` from anywhere. `identity` is shown to servers
    /// that ask for a certificate.
    pub fn new(authorities: Option<RootCertStore>, identity: Option<Certificate>) -> ServerTrust {
        ServerTrust { authorities: authorities.map(Arc::new), identity }
    }

    /// Shows what `other` shows, if it has nothing of its own.
    pub fn or_identity_of(self, other: &ServerTrust) -> ServerTrust {
        ServerTrust { identity: self.identity.or_else(|| other.identity.clone()), ..self }
    }

    /// What is shown to servers that ask for a certificate.
    pub fn identity(&self) -> Option<&Certificate> {
        self.identity.as_ref()
    }

    /// Who may issue certificates; `None`: anybody.
    pub fn authorities(&self) -> Option<&Arc<RootCertStore>> {
        self.authorities.as_ref()
    }

    /// Settings of the sessions of one worker, with a store of its own for those that can be resumed.
    ///
    /// Errors: settings that rustls refuses.
    pub fn settings(&self, offer: Offer) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = profile::provider(TlsProfile::Intermediate);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(profile::versions(TlsProfile::Intermediate))?;
        let builder = match &self.authorities {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.dangerous().with_custom_certificate_verifier(anyone(provider)),
        };
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(shown(identity)),
            None => builder.with_no_client_auth(),
        };
        let protocols: &[&str] = match offer {
            Offer::Http1 => &[facts::HTTP1],
            Offer::Http2 => &[facts::HTTP2],
            Offer::Both => &[facts::HTTP2, facts::HTTP1],
            Offer::Nothing => &[],
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(RESUMED_SESSIONS_MAX);
        Ok(Arc::new(config))
    }
}

/// Shows `identity` to whoever asks for a certificate.
pub fn shown(identity: &Certificate) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(identity.certified_key().clone()))
}

/// The name that a server's certificate must have: a host name, which is also asked for (RFC 6066), or an address.
///
/// Errors: neither.
pub fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| TlsError::Settings(format!("`{text}` is neither a host name nor an address")))
}

/// The same for an address.
pub fn server_address(address: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(address.to_canonical().into())
}

/// A verifier that takes every certificate whose key the server has.
pub fn anyone(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anyone(provider))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One session with a server.
pub struct Outbound {
    connection: ClientConnection,
    /// The server has sent close_notify.
    is_closed: bool,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Outbound {
    /// A session with the server of this name; the first bytes to send are appended to `out`.
    ///
    /// Errors: settings that rustls refuses.
    pub fn new(
        settings: &Arc<ClientConfig>,
        name: &ServerName<'static>,
        out: &mut Vec<u8>,
    ) -> Result<Outbound, TlsError> {
        let mut connection = ClientConnection::new(settings.clone(), name.clone())?;
        // The caller bounds what it gives.
        connection.set_buffer_limit(None);
        let mut outbound = Outbound { connection, is_closed: false };
        outbound.take_outgoing(out);
        Ok(outbound)
    }

    /// Nothing of the request may be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The server has chosen HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(facts::HTTP2.as_bytes())
    }

    /// The server has said that nothing more comes (close_notify). An end of the stream without it is a truncation.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes all of `input`, appends what it holds in plain to `plain` and what must be sent to `out`, also when it fails: an
    /// alert.
    ///
    /// Errors: the server broke the protocol, or its certificate is not good; the session has ended.
    pub fn receive(&mut self, input: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let received = self.receive_quietly(input, plain);
        self.take_outgoing(out);
        received
    }

    /// The same, but what must be sent (the answer to a change of keys) waits for the next [`Outbound::encrypt`]: for use while
    /// other bytes are on their way, between which it must not be put.
    pub fn receive_quietly(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        while !input.is_empty() {
            match self.connection.read_tls(&mut input) {
                Ok(count) if count > 0 => {}
                // Behind close_notify nothing counts (RFC 8446 section 6.1).
                Ok(_) => break,
                // It takes no more than a message ahead; what is not used by then is no TLS.
                Err(error) => return Err(TlsError::Peer(Box::new(Error::General(error.to_string())))),
            }
            let processed = self.connection.process_new_packets();
            let state = processed.map_err(|error| TlsError::Peer(Box::new(error)))?;
            self.is_closed |= state.peer_has_closed();
            let (before, waiting) = (plain.len(), state.plaintext_bytes_to_read());
            plain.resize(before + waiting, 0);
            let read = self.connection.reader().read_exact(&mut plain[before..]);
            debug_assert!(read.is_ok(), "rustls has what it told");
        }
        Ok(())
    }

    /// Appends `plain` in encrypted form to `out`.
    ///
    /// Errors: the handshake has not ended.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.connection.is_handshaking() {
            return Err(TlsError::NotEstablished);
        }
        let written = self.connection.writer().write_all(plain);
        self.take_outgoing(out);
        written.map_err(|_| TlsError::Ended)
    }

    /// Says that nothing more will come.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.take_outgoing(out);
    }

    fn take_outgoing(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let written: io::Result<usize> = self.connection.write_tls(out);
            debug_assert!(written.is_ok(), "memory takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::session::settings;
    use crate::tls::{Material, Secrets, Session, Tickets, build, parse_authorities, self_signed};

    /// A server session with a self-signed certificate for these names, and its certificate.
    fn server(names: &[&str]) -> (Session, String) {
        let signed = self_signed(names, 10).expect("a certificate");
        let certificate = Certificate::parse(signed.chain_pem.as_bytes(), signed.key_pem.as_bytes()).expect("good");
        let settings = settings();
        let tickets = Tickets::new(Secrets::random());
        let material = Material::new(&settings, &[certificate], None, tickets).expect("material");
        let config = build(&settings, &material, false).expect("settings");
        (Session::new(&config).expect("a session"), signed.chain_pem)
    }

    /// Exchanges until neither has anything to say; returns what the client's side said about the server.
    fn shake(client: &mut Outbound, hello: Vec<u8>, server: &mut Session, piece: usize) -> Result<(), TlsError> {
        let (mut to_server, mut to_client) = (hello, Vec::new());
        for _ in 0..20 {
            let mut plain = Vec::new();
            if !to_server.is_empty() {
                drop(server.receive(&mut to_server, &mut plain, &mut to_client));
            }
            let mut back = Vec::new();
            for piece in std::mem::take(&mut to_client).chunks(piece) {
                client.receive(piece, &mut plain, &mut back)?;
            }
            to_server.append(&mut back);
            assert!(plain.is_empty());
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
        }
        panic!("they do not come to an end");
    }

    #[test]
    fn a_session_carries_bytes_both_ways_in_pieces_of_any_size() {
        for piece in [1, 7, 1000, usize::MAX >> 1] {
            let (mut server, chain) = server(&["api.internal"]);
            let trust = ServerTrust::new(Some(parse_authorities(chain.as_bytes()).expect("roots")), None);
            let (mut hello, name) = (Vec::new(), server_name("api.internal").expect("a name"));
            let settings = trust.settings(Offer::Http1).expect("settings");
            let mut client = Outbound::new(&settings, &name, &mut hello).expect("a session");
            assert!(client.is_handshaking() && client.encrypt(b"too early", &mut Vec::new()).is_err());
            shake(&mut client, hello, &mut server, piece).expect("trusted");
            assert!(!client.is_handshaking());
            let text: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
            let (mut sent, mut got, mut back) = (Vec::new(), Vec::new(), Vec::new());
            client.encrypt(&text, &mut sent).expect("established");
            server.receive(&mut sent, &mut got, &mut back).expect("good records");
            assert!(got == text, "{piece}");
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            server.encrypt(&text, &mut sent).expect("established");
            for piece in sent.chunks(piece) {
                client.receive(piece, &mut got, &mut back).expect("good records");
            }
            assert!(got == text && !client.is_closed(), "{piece}");
            let mut sent = Vec::new();
            server.close(&mut sent);
            client.receive(&sent, &mut got, &mut back).expect("an alert");
            assert!(client.is_closed());
        }
    }

    #[test]
    fn a_name_or_an_authority_that_is_not_right_ends_it() {
        let (_, other) = server(&["api.internal"]);
        for (wanted, ca, is_good) in [
            ("api.internal", None, true),
            ("api.internal", Some(other.as_str()), false),
            ("web.internal", Some(""), false),
            ("10.0.0.1", Some(""), false),
        ] {
            let (mut server, own) = server(&["api.internal"]);
            // `Some("")`: the right authority, so that only the name is wrong.
            let ca = ca.map(|ca| if ca.is_empty() { own.as_str() } else { ca });
            let roots = ca.map(|ca| parse_authorities(ca.as_bytes()).expect("roots"));
            let settings = ServerTrust::new(roots, None).settings(Offer::Http1).expect("settings");
            let (mut hello, name) = (Vec::new(), server_name(wanted).expect("a name"));
            let mut client = Outbound::new(&settings, &name, &mut hello).expect("a session");
            let shaken = shake(&mut client, hello, &mut server, 4096);
            assert_eq!(shaken.is_ok(), is_good, "{wanted}: {shaken:?}");
        }
    }

    #[test]
    fn what_is_no_tls_is_an_error_and_no_panic() {
        let settings = ServerTrust::new(None, None).settings(Offer::Http1).expect("settings");
        let garbage: [&[u8]; 4] =
            [b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0; 300], &[22, 3, 3, 255, 255], b"\x15\x03\x03\x00\x02\x02\x28"];
        for bytes in garbage {
            let (mut hello, name) = (Vec::new(), server_name("a.test").expect("a name"));
            let mut client = Outbound::new(&settings, &name, &mut hello).expect("a session");
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            assert!(client.receive(bytes, &mut plain, &mut out).is_err(), "{bytes:?}");
            assert!(plain.is_empty());
        }
    }
}
