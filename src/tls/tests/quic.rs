//! Sessions of QUIC against a client of `quinn-proto`, in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hkdf;
use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
    ServerConfig, TransportErrorCode,
};
use rustls::RootCertStore;

use super::*;
use crate::config::model::{ClientCertificates, Tls, TlsProfile, UnknownNames};
use crate::tls::{Facts, Material, QuicTls, Secrets, Tickets, Verify, build_quic};

fn settings(unknown_names: UnknownNames) -> Tls {
    Tls {
        certificates: Vec::new(),
        // TLS 1.2 is not for QUIC, whatever the profile says.
        profile: TlsProfile::Intermediate,
        unknown_names,
        client_certificates: ClientCertificates::Off,
        client_ca: None,
        ticket_keys: None,
        handshake_timeout: Duration::from_secs(10),
    }
}

fn server(unknown_names: UnknownNames) -> Arc<QuicTls> {
    let settings = settings(unknown_names);
    let certificate = trusted().issue(params(&["quic.test"]), Kind::Ecdsa).load();
    let material = Material::new(&settings, &[certificate], None, Tickets::new(Secrets::random())).expect("material");
    build_quic(&settings, &material).expect("a config")
}

fn client(protocol: &str) -> Arc<QuicClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted().der()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(QuicClientConfig::try_from(tls).expect("a config"))
}

/// One end of a connection.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
    lost: Option<ConnectionError>,
    is_connected: bool,
}

impl End {
    fn new(endpoint: Endpoint, port: u16) -> End {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        End { endpoint, connection: None, address, lost: None, is_connected: false }
    }

    fn take(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]) {
        let mut answer = Vec::new();
        match self.endpoint.handle(now, peer, None, None, BytesMut::from(datagram), &mut answer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut answer, None) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => self.lost = Some(error.cause),
                }
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    /// What it sends now; notes what happened.
    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let Some((handle, connection)) = &mut self.connection else { return datagrams };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                _ => {}
            }
        }
        let mut buffer = Vec::new();
        while connection.poll_transmit(now, 1, &mut buffer).is_some() {
            datagrams.push(std::mem::take(&mut buffer));
        }
        datagrams
    }
}

/// What the server knows of the session, or how it ended.
fn connect(tls: Arc<QuicTls>, client_tls: Arc<QuicClientConfig>, name: &str) -> Result<Facts, ConnectionError> {
    let token = Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(b"token"));
    let config = || Arc::new(EndpointConfig::default());
    let mut server = End::new(Endpoint::new(config(), Some(Arc::new(ServerConfig::new(tls, token))), true, None), 1);
    let mut client = End::new(Endpoint::new(config(), None, true, None), 2);
    let now = Instant::now();
    let begun = client.endpoint.connect(now, ClientConfig::new(client_tls), server.address, name);
    client.connection = Some(begun.expect("a connection"));
    for _ in 0..20 {
        for datagram in client.turn(now) {
            server.take(now, client.address, &datagram);
        }
        for datagram in server.turn(now) {
            client.take(now, server.address, &datagram);
        }
        if let Some(lost) = server.lost.take() {
            return Err(lost);
        }
        if server.is_connected {
            let (_, connection) = server.connection.as_ref().expect("connected");
            let facts = connection.crypto_session().handshake_data().expect("known by now");
            return Ok(*facts.downcast::<Facts>().expect("facts"));
        }
    }
    panic!("no end of the handshake")
}

#[test]
fn facts_tell_name_and_cipher() {
    let (tls, client_tls) = (server(UnknownNames::Default), client("h3"));
    let first = connect(tls.clone(), client_tls.clone(), "quic.test").expect("a session");
    assert_eq!((first.version, first.alpn, first.server_name.as_deref()), ("TLSv1.3", Some("h3"), Some("quic.test")));
    assert!(first.cipher.starts_with("TLS_AES_") && !first.is_resumed && first.verify == Verify::None, "{first:?}");
}

#[test]
fn other_protocols_and_names_without_certificate_are_refused() {
    let alert = |error: ConnectionError| match error {
        ConnectionError::TransportError(error) => error.code,
        other => panic!("{other}"),
    };
    let error = connect(server(UnknownNames::Default), client("h2"), "quic.test").expect_err("no protocol in common");
    assert_eq!(alert(error), TransportErrorCode::crypto(120));
    let error = connect(server(UnknownNames::Refuse), client("h3"), "other.test").expect_err("no such name");
    assert_eq!(alert(error), TransportErrorCode::crypto(112));
}
