//! Sessions against rustls as the client, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::config::model::{ClientCertificates, Tls, TlsProfile, UnknownNames};
use crate::runtime::sys::allocations;
use crate::tls::tickets::Lifetime;
use crate::tls::{
    INPUT_BYTES_MAX, Material, Received, Secrets, Session, Tickets, TlsError, Verify, build, looks_like_tls,
};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

pub(crate) fn settings() -> Tls {
    Tls {
        certificates: Vec::new(),
        profile: TlsProfile::Intermediate,
        unknown_names: UnknownNames::Default,
        client_certificates: ClientCertificates::Off,
        client_ca: None,
        ticket_keys: None,
        handshake_timeout: Duration::from_secs(10),
    }
}

fn server_with(settings: &Tls, tickets: Tickets) -> Arc<ServerConfig> {
    static CERTIFICATES: OnceLock<[Certificate; 2]> = OnceLock::new();
    let certificates = CERTIFICATES.get_or_init(|| {
        [Kind::Ecdsa, Kind::Rsa].map(|kind| trusted().issue(params(&["a.test", "*.a.test"]), kind).load())
    });
    let mut roots = RootCertStore::empty();
    roots.add(trusted().der()).expect("good");
    let material = Material::new(settings, certificates, Some(roots), tickets).expect("good");
    build(settings, &material, true).expect("good")
}

fn server(settings: &Tls) -> Arc<ServerConfig> {
    server_with(settings, Tickets::new(Secrets::random()))
}

/// A client's certificate and key.
type Identity = Option<Issued>;

fn client_with(versions: &[&'static rustls::SupportedProtocolVersion], identity: &Identity) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted().der()).expect("good");
    // Small hellos: what is fed at every split point should not take minutes.
    let provider = rustls::crypto::CryptoProvider { kx_groups: vec![kx_group::X25519], ..default_provider() };
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(|der| der.expect("good"));
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("good");
            builder.with_client_auth_cert(chain.collect(), key).expect("good")
        }
    }
}

fn client(version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    client_with(&[version], &None)
}

/// A client and a session joined in memory.
struct Pair {
    client: ClientConnection,
    session: Session,
    input: Vec<u8>,
    out: Vec<u8>,
    /// What the session decrypted.
    plain: Vec<u8>,
    /// What the client decrypted.
    answer: Vec<u8>,
    established: usize,
    is_closed: bool,
}

impl Pair {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &'static str) -> Pair {
        Pair {
            client: ClientConnection::new(client.clone(), name.try_into().expect("a name")).expect("a client"),
            session: Session::new(server).expect("a session"),
            input: Vec::new(),
            out: Vec::new(),
            plain: Vec::new(),
            answer: Vec::new(),
            established: 0,
            is_closed: false,
        }
    }

    /// What the client wants to send.
    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut flight).expect("written");
        }
        flight
    }

    fn receive(&mut self) -> Result<Received, TlsError> {
        let before = self.session.is_established();
        let received = self.session.receive(&mut self.input, &mut self.plain, &mut self.out);
        if let Ok(received) = received {
            assert_eq!(received.is_established, !before && self.session.is_established());
            self.established += usize::from(received.is_established);
            self.is_closed |= received.is_closed;
        }
        received
    }

    /// Gives the client what the session wrote.
    fn deliver(&mut self) -> Result<(), rustls::Error> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("read");
            self.client.process_new_packets()?;
            use std::io::Read;
            // WouldBlock says that there is no more.
            let _ = self.client.reader().read_to_end(&mut self.answer);
        }
        Ok(())
    }

    /// Exchanges flights, in pieces of `piece` bytes, until both are quiet.
    fn run_in(&mut self, piece: usize) -> Result<(), TlsError> {
        loop {
            let flight = self.flight();
            for piece in flight.chunks(piece) {
                self.input.extend_from_slice(piece);
                self.receive()?;
            }
            let is_quiet = flight.is_empty() && self.out.is_empty();
            self.deliver()?;
            if is_quiet {
                return Ok(());
            }
        }
    }

    fn run(&mut self) -> Result<(), TlsError> {
        self.run_in(usize::MAX)
    }

    fn established(mut self) -> Pair {
        self.run().expect("a handshake");
        assert!(self.session.is_established() && !self.client.is_handshaking());
        assert_eq!((self.established, self.input.len()), (1, 0));
        self
    }

    fn say(&mut self, text: &[u8]) {
        use std::io::Write;
        self.client.set_buffer_limit(None);
        // A client that has failed refuses, and says why to `deliver`.
        let _ = self.client.writer().write_all(text);
    }

    /// Both sides say something, and hear it.
    fn converse(&mut self) {
        let (heard, told) = (self.plain.len(), self.answer.len());
        self.say(b"question");
        self.run().expect("traffic");
        self.session.encrypt(b"answer", &mut self.out).expect("traffic");
        self.deliver().expect("good");
        assert_eq!((&self.plain[heard..], &self.answer[told..]), (&b"question"[..], &b"answer"[..]));
    }
}

fn pair(client: ClientConfig, server: &Arc<ServerConfig>) -> Pair {
    Pair::new(&Arc::new(client), server, "a.test")
}

#[test]
fn both_versions_talk_and_tell_their_facts() {
    let server = server(&settings());
    for (version, name, cipher) in
        [(VERSIONS[0], "TLSv1.3", "TLS_AES_256_GCM_SHA384"), (VERSIONS[1], "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")]
    {
        let mut pair = pair(client(version), &server);
        assert!(pair.session.facts().is_none());
        let early = pair.session.encrypt(b"x", &mut Vec::new());
        assert!(matches!(early, Err(TlsError::NotEstablished)));
        pair.run().expect("a handshake");
        pair.converse();
        let facts = pair.session.facts().expect("established");
        assert_eq!((facts.version, facts.cipher, facts.alpn), (name, cipher, None));
        assert_eq!((facts.server_name.as_deref(), facts.is_resumed), (Some("a.test"), false));
        assert_eq!((facts.verify.to_string(), &facts.client), ("NONE".into(), &None));
    }
}

#[test]
fn flights_may_be_split_anywhere() {
    let server = server(&settings());
    let mut splits = 0;
    for version in VERSIONS {
        let config = Arc::new(client(version));
        // Each handshake draws new random numbers, so that its flights are cut, not replayed.
        for at in 0.. {
            let mut pair = Pair::new(&config, &server, "a.test");
            pair.say(b"question"); // leaves with the Finished
            let mut is_beyond = true;
            while !(pair.session.is_established() && pair.plain == b"question") {
                let flight = pair.flight();
                let (first, second) = flight.split_at(at.min(flight.len()));
                is_beyond &= second.is_empty();
                for part in [first, second] {
                    pair.input.extend_from_slice(part);
                    pair.receive().expect("good");
                }
                pair.deliver().expect("good");
            }
            pair.converse();
            if is_beyond {
                break;
            }
            splits += 1;
        }
        let mut slow = Pair::new(&config, &server, "a.test");
        slow.say(b"question");
        slow.run_in(1).expect("byte by byte");
        slow.converse();
    }
    assert!(splits > 300, "{splits}");
}

#[test]
fn fragmented_records_are_joined() {
    let server = server(&settings());
    for version in VERSIONS {
        let mut config = client(version);
        config.max_fragment_size = Some(32);
        let config = Arc::new(config);
        for piece in [1, 7, 33, 1000] {
            let mut pair = Pair::new(&config, &server, "a.test");
            pair.run_in(piece).expect("a handshake");
            pair.converse();
        }
    }
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let server = server(&settings());
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect();
    for version in VERSIONS {
        let mut pair = pair(client(version), &server).established();
        for chunk in body.chunks(100_003) {
            pair.say(chunk);
            let flight = pair.flight();
            for piece in flight.chunks(INPUT_BYTES_MAX / 2) {
                let (waiting, before) = (pair.input.len() + piece.len(), pair.plain.len());
                pair.input.extend_from_slice(piece);
                pair.receive().expect("good");
                assert!(pair.plain.len() - before <= waiting);
                // The largest record of RFC 8446 section 5.2.
                assert!(pair.input.len() < (16 << 10) + 256 + 5);
            }
            let start = pair.out.len();
            pair.session.encrypt(chunk, &mut pair.out).expect("good");
            let records = chunk.len().div_ceil(16 << 10);
            assert!(pair.out.len() - start <= chunk.len() + records * 30);
            pair.deliver().expect("good");
        }
        assert!(pair.plain == body && pair.answer == body);
    }
}

#[test]
fn encryption_allocates_once_a_record() {
    let server = server(&settings());
    for version in VERSIONS {
        let mut pair = pair(client(version), &server).established();
        let body = vec![7; 40_000];
        pair.session.encrypt(&body, &mut pair.out).expect("good");
        pair.out.clear();
        // rustls builds each record in a vector of its own.
        let (allocations, result) = allocations::count(|| pair.session.encrypt(&body, &mut pair.out));
        result.expect("good");
        assert_eq!(allocations, 3);
        let (allocations, result) = allocations::count(|| pair.session.encrypt(b"", &mut pair.out));
        result.expect("good");
        assert_eq!(allocations, 0);
    }
}

/// What a sleeping connection costs. What aws-lc holds (two AEAD contexts) is not counted here.
#[test]
fn an_idle_session_is_small() {
    let server = server(&settings());
    let inline = size_of::<Session>() as i64;
    for version in VERSIONS {
        let config = Arc::new(client(version));
        let established = || {
            let mut pair = Pair::new(&config, &server, "a.test").established();
            pair.converse();
            let Pair { session, .. } = pair;
            session
        };
        drop(established());
        // The client's store of tickets grows for a while.
        (0..8).for_each(|_| drop(established()));
        let (bytes, session) = allocations::held(established);
        let bytes = bytes + inline;
        println!("{version:?}: {bytes} bytes, {inline} of them the session itself");
        assert!(bytes < 4500, "{bytes}");
        drop(session);
    }
}

#[test]
fn another_worker_and_a_restarted_process_resume() {
    let secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let now = Arc::new(AtomicU64::new(1_800_000_000));
    let config = |secret: &str| {
        let now = now.clone();
        let clock = move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed));
        let secrets = Secrets::parse(secret.as_bytes()).expect("good");
        server_with(&settings(), Tickets::with_clock(secrets, Lifetime::default(), Arc::new(clock)))
    };
    let (first, second, other) = (config(secret), config(secret), config(&secret.replace("00", "ff")));
    for version in VERSIONS {
        // One after the other: each connection leaves a ticket for the next.
        let mut client = client(version);
        client.resumption = Resumption::in_memory_sessions(16);
        let client = Arc::new(client);
        let is_resumed = |server: &Arc<ServerConfig>, name: &'static str| {
            let mut pair = Pair::new(&client, server, name).established();
            pair.converse();
            pair.session.facts().expect("established").is_resumed
        };
        assert!(!is_resumed(&first, "a.test"), "{version:?}");
        assert!(is_resumed(&first, "a.test"), "{version:?}");
        assert!(is_resumed(&second, "a.test"), "{version:?}");
        now.fetch_add(11 * 3600, Ordering::Relaxed);
        assert!(is_resumed(&first, "a.test"), "{version:?}: hours later");
        assert!(!is_resumed(&other, "a.test"), "{version:?}: another secret");
        let aged = |hours: u64| {
            while !is_resumed(&first, "x.a.test") {}
            now.fetch_add(hours * 3600, Ordering::Relaxed);
            is_resumed(&first, "x.a.test")
        };
        assert!(aged(12) && !aged(13), "{version:?}");
    }
}

/// RFC 8446 section 2.2: the name of a resumed session is the one in this hello.
#[test]
fn resumed_sessions_know_their_name() {
    let server = server(&settings());
    for version in VERSIONS {
        let client = Arc::new(client(version));
        for is_resumed in [false, true] {
            let pair = Pair::new(&client, &server, "www.a.test").established();
            let facts = pair.session.facts().expect("established");
            assert_eq!((facts.is_resumed, facts.server_name.as_deref()), (is_resumed, Some("www.a.test")));
        }
    }
}

fn identity(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = params(&["client.test"]);
    params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    params.distinguished_name.push(DnType::CommonName, "client 1");
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xbc]));
    change(&mut params);
    Some(authority.issue(params, Kind::Ecdsa))
}

/// What becomes of a handshake: what is said of the certificate, or what the client is told.
fn verified(
    mode: ClientCertificates,
    version: &'static rustls::SupportedProtocolVersion,
    identity: &Identity,
) -> String {
    let settings = Tls { client_certificates: mode, ..settings() };
    let server = server(&settings);
    let config = Arc::new(client_with(&[version], identity));
    // Nothing is resumed where certificates are asked for.
    let _ = Pair::new(&config, &server, "a.test").run();
    let mut pair = Pair::new(&config, &server, "a.test");
    match pair.run() {
        Ok(()) => {
            pair.converse();
            let facts = pair.session.facts().expect("established");
            assert!(!facts.is_resumed || mode == ClientCertificates::Off);
            assert_eq!(facts.client.is_some(), facts.verify == Verify::Success);
            facts.verify.to_string()
        }
        Err(_) => {
            assert!(matches!(
                pair.session.receive(&mut Vec::new(), &mut Vec::new(), &mut Vec::new()),
                Err(TlsError::Ended)
            ));
            match pair.deliver() {
                Err(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    use ClientCertificates::{Off, Optional, Required};
    let other = Authority::new("other");
    let good = || identity(trusted(), |_| {});
    let expired = || identity(trusted(), |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let early = || identity(trusted(), |params| params.not_before = rcgen::date_time_ymd(2119, 1, 1));
    let purpose =
        || identity(trusted(), |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    for version in VERSIONS {
        for (identity, optional, required) in [
            (None, "NONE", "CertificateRequired"),
            (good(), "SUCCESS", "SUCCESS"),
            (expired(), "FAILED:certificate has expired", "CertificateExpired"),
            (early(), "FAILED:certificate is not yet valid", "CertificateExpired"),
            (identity(&other, |_| {}), "FAILED:unable to get local issuer certificate", "UnknownCA"),
            (purpose(), "FAILED:unsuitable certificate purpose", "UnsupportedCertificate"),
        ] {
            assert_eq!(verified(Off, version, &identity), "NONE");
            assert_eq!(verified(Optional, version, &identity), optional, "{version:?}");
            assert_eq!(verified(Required, version, &identity), required, "{version:?} {optional}");
        }
    }
}

#[test]
fn a_verified_certificate_is_told_as_nginx_tells_it() {
    let settings = Tls { client_certificates: ClientCertificates::Required, ..settings() };
    let identity = identity(trusted(), |_| {});
    let pem = identity.as_ref().expect("there").chain.clone();
    let pair = pair(client_with(&[VERSIONS[0]], &identity), &server(&settings)).established();
    let certificate = pair.session.facts().and_then(|facts| facts.client.as_deref()).expect("verified");
    assert_eq!((&*certificate.subject, &*certificate.issuer), ("CN=client 1,O=Example\\, Inc.", "CN=trusted"));
    assert_eq!(&*certificate.serial, "0ABC");
    use sha1::Digest;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("good");
    let sha1: String = sha1::Sha1::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(&*certificate.fingerprint, sha1);
}

/// A certificate without its key is no identity: the signature is verified also where certificates are optional.
#[test]
fn a_stolen_certificate_is_refused() {
    let settings = Tls { client_certificates: ClientCertificates::Optional, ..settings() };
    let server = server(&settings);
    #[derive(Debug)]
    struct Thief(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Thief {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    for version in VERSIONS {
        let victim = identity(trusted(), |_| {}).expect("there");
        let chain = vec![CertificateDer::from_pem_slice(victim.chain.as_bytes()).expect("good")];
        let own = certificate(&["thief.test"], Kind::Ecdsa).certified_key().key.clone();
        let mut config = client(version);
        config.client_auth_cert_resolver = Arc::new(Thief(Arc::new(rustls::sign::CertifiedKey::new(chain, own))));
        let mut pair = pair(config, &server);
        let error = pair.run().expect_err("refused");
        assert!(!pair.session.is_established(), "{error}");
        assert!(matches!(pair.deliver(), Err(rustls::Error::AlertReceived(AlertDescription::DecryptError))));
    }
}

#[test]
fn protocols_are_agreed_on() {
    let server = server(&settings());
    for (offered, expect) in [
        (&["h2", "http/1.1"][..], Ok(Some("h2"))),
        (&["http/1.1", "h2"], Ok(Some("h2"))), // the server's preference (RFC 7301 section 3.2)
        (&["http/1.1"], Ok(Some("http/1.1"))),
        (&[], Ok(None)),
        (&["smtp"], Err(AlertDescription::NoApplicationProtocol)),
    ] {
        for version in VERSIONS {
            let mut config = client(version);
            config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let mut pair = pair(config, &server);
            let result = match pair.run() {
                Ok(()) => Ok(pair.session.facts().expect("established").alpn),
                Err(_) => match pair.deliver() {
                    Err(rustls::Error::AlertReceived(alert)) => Err(alert),
                    other => panic!("{other:?}"),
                },
            };
            assert_eq!(result, expect, "{offered:?}");
        }
    }
}

#[test]
fn unknown_names_get_the_default_or_an_alert() {
    for version in VERSIONS {
        let refusing = server(&Tls { unknown_names: UnknownNames::Refuse, ..settings() });
        for name in ["a.test", "x.a.test", "127.0.0.1"] {
            let mut pair = Pair::new(&Arc::new(client(version)), &refusing, name);
            // The default certificate is not for the address; that is for the client to say.
            let result = pair.run();
            assert_eq!(result.is_ok(), name != "127.0.0.1", "{result:?}");
        }
        let mut pair = Pair::new(&Arc::new(client(version)), &refusing, "b.test");
        assert!(matches!(pair.run(), Err(TlsError::UnknownName)));
        // RFC 6066 section 3.
        assert!(matches!(pair.deliver(), Err(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName))));
        let mut pair = Pair::new(&Arc::new(client(version)), &server(&settings()), "b.test");
        let _ = pair.run();
        assert!(matches!(pair.client.process_new_packets(), Err(rustls::Error::InvalidCertificate(_))));
    }
}

#[test]
fn modern_refuses_tls_1_2_and_rsa_is_there_for_who_needs_it() {
    let modern = server(&Tls { profile: TlsProfile::Modern, ..settings() });
    pair(client(VERSIONS[0]), &modern).established();
    let mut old = pair(client(VERSIONS[1]), &modern);
    let error = old.run().expect_err("refused");
    assert_eq!(error.label(), "incompatible");
    assert!(matches!(old.deliver(), Err(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion))));
    // An old client that only knows RSA.
    let suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let provider = rustls::crypto::CryptoProvider { cipher_suites: suites, ..default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(trusted().der()).expect("good");
    let builder = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[VERSIONS[1]]);
    let config = builder.expect("a version").with_root_certificates(roots).with_no_client_auth();
    let pair = pair(config, &server(&settings())).established();
    assert_eq!(pair.session.facts().expect("established").cipher, "ECDHE-RSA-AES128-GCM-SHA256");
}

/// RFC 8446 section 4.6.3.
#[test]
fn keys_may_be_updated_at_any_time() {
    let server = server(&settings());
    let mut pair = pair(client(VERSIONS[0]), &server).established();
    for _ in 0..100 {
        pair.client.refresh_traffic_keys().expect("updated");
        pair.converse();
    }
    // Updates without traffic are counted, and end it.
    let result = (0..100).try_for_each(|_| {
        pair.client.refresh_traffic_keys().expect("updated");
        pair.run()
    });
    assert!(result.is_err());
}

#[test]
fn both_sides_close() {
    let server = server(&settings());
    for version in VERSIONS {
        // The client closes first and still gets its answer.
        let mut pair = pair(client(version), &server).established();
        pair.say(b"last");
        pair.client.send_close_notify();
        pair.run().expect("good");
        assert!(pair.is_closed && pair.plain == b"last");
        pair.session.encrypt(b"answer", &mut pair.out).expect("half closed");
        pair.input.extend_from_slice(b"what comes behind is ignored");
        assert!(pair.receive().expect("good").is_closed && pair.input.is_empty());
        pair.session.close(&mut pair.out);
        let length = pair.out.len();
        pair.session.close(&mut pair.out);
        assert_eq!(pair.out.len(), length, "said once");
        assert!(matches!(pair.session.encrypt(b"x", &mut pair.out), Err(TlsError::Ended)));
        pair.deliver().expect("good");
        assert_eq!(pair.answer, b"answer");
        assert!(pair.client.process_new_packets().expect("good").peer_has_closed());
        assert!(pair.session.facts().is_some(), "for the log line");

        // We close first and still hear the client.
        let mut pair = self::pair(client(version), &server).established();
        pair.session.close(&mut pair.out);
        pair.deliver().expect("good");
        pair.say(b"late");
        pair.client.send_close_notify();
        pair.run().expect("good");
        assert!(pair.is_closed && pair.plain == b"late");
    }
}

#[test]
fn everything_may_come_in_one_piece() {
    let server = server(&settings());
    let mut pair = pair(client(VERSIONS[0]), &server);
    pair.say(b"question");
    let hello = pair.flight();
    pair.input.extend_from_slice(&hello);
    pair.receive().expect("good");
    pair.deliver().expect("good");
    pair.client.send_close_notify();
    let rest = pair.flight();
    pair.input.extend_from_slice(&rest);
    assert_eq!(pair.receive().expect("good"), Received { is_established: true, is_closed: true });
    assert_eq!(pair.plain, b"question");
    pair.session.encrypt(b"answer", &mut pair.out).expect("half closed");
}

/// Seals handshake records as the client would, to cut messages where no client cuts them.
struct Sealer {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Sealer {
    fn new(client: ClientConnection) -> Sealer {
        let secrets = client.dangerous_extract_secrets().expect("secrets");
        let (sequence, rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else { panic!("AES-256") };
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key.as_ref()).expect("a key");
        let iv = iv.as_ref().try_into().expect("12 bytes");
        Sealer { key: aws_lc_rs::aead::LessSafeKey::new(key), iv, sequence }
    }

    /// RFC 8446 section 5.2.
    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut sealed = [content, &[kind]].concat();
        let length = u16::try_from(sealed.len() + 16).expect("short").to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce = self.iv;
        nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()).for_each(|(byte, part)| *byte ^= part);
        self.sequence += 1;
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::from(&header), &mut sealed).expect("sealed");
        [&header[..], &sealed].concat()
    }
}

fn sealed_pair() -> (Session, Sealer) {
    let mut config = client(VERSIONS[0]);
    config.enable_secret_extraction = true;
    let Pair { client, session, .. } = pair(config, &server(&settings())).established();
    (session, Sealer::new(client))
}

/// rustls wants to see such a fragment with every call; without it, it would look for it in an empty buffer.
#[test]
fn a_key_update_in_pieces_does_not_disturb_traffic() {
    const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1]; // update_requested
    for at in 1..5 {
        for is_closing in [false, true] {
            let (mut session, mut sealer) = sealed_pair();
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let mut input = sealer.record(22, &KEY_UPDATE[..at]);
            let next = sealer.record(22, &KEY_UPDATE[at..]);
            let (now, later) = next.split_at(at * 3);
            input.extend_from_slice(now);
            session.receive(&mut input, &mut plain, &mut out).expect("good");
            session.encrypt(b"meanwhile", &mut out).expect("good");
            let meanwhile = out.len();
            assert!(meanwhile > 9);
            if is_closing {
                session.close(&mut out);
                assert!(out.len() > meanwhile);
            }
            input.extend_from_slice(later);
            session.receive(&mut input, &mut plain, &mut out).expect("good");
            if !is_closing {
                let before = out.len();
                session.encrypt(b"after", &mut out).expect("good");
                // Our own key update leaves first: 5 + 5 + 1 + 16 bytes.
                assert_eq!(out.len() - before, 27 + 5 + 5 + 1 + 16);
                assert!(input.is_empty());
            }
        }
    }
    // Other records in between are forbidden (RFC 8446 section 5.1).
    let (mut session, mut sealer) = sealed_pair();
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let mut input = sealer.record(22, &KEY_UPDATE[..3]);
    session.receive(&mut input, &mut plain, &mut out).expect("good");
    let mut data = sealer.record(23, b"data");
    assert!(session.receive(&mut data, &mut plain, &mut out).is_err());
    session.close(&mut out);
    assert!(matches!(session.encrypt(b"x", &mut out), Err(TlsError::Ended)));
}

#[test]
fn messages_without_end_are_refused() {
    // An established client begins a message of 64 KiB and sends it in records of one byte.
    let (mut session, mut sealer) = sealed_pair();
    let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut sent = 0;
    let error = loop {
        let content: &[u8] = if sent == 0 { &[24, 0, 0xff, 0xf0] } else { &[0] };
        input.extend(sealer.record(22, content));
        sent += 1;
        assert!(sent < 10_000);
        if let Err(error) = session.receive(&mut input, &mut plain, &mut out) {
            break error;
        }
    };
    assert!(matches!(error, TlsError::TooLarge), "{error}");

    // The same before there are keys.
    let mut session = Session::new(&server(&settings())).expect("a session");
    let (mut input, mut out) = (vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xf0], Vec::new());
    let error = loop {
        if let Err(error) = session.receive(&mut input, &mut plain, &mut out) {
            break error;
        }
        assert!(input.len() < INPUT_BYTES_MAX);
        (0..100).for_each(|_| input.extend([22, 3, 1, 0, 1, 0]));
    };
    assert!(matches!(error, TlsError::TooLarge), "{error}");
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 50], "decode_error");

    // A length beyond 64 KiB is refused at once.
    let mut session = Session::new(&server(&settings())).expect("a session");
    let (mut input, mut out) = (vec![22, 3, 1, 0, 4, 1, 1, 0, 0], Vec::new());
    let error = session.receive(&mut input, &mut plain, &mut out).expect_err("refused");
    assert_eq!((error.label(), out.len()), ("protocol", 7));
}

#[test]
fn plain_http_is_recognized() {
    let config = server(&settings());
    let receive = |text: &[u8]| {
        let mut session = Session::new(&config).expect("a session");
        let (mut input, mut plain, mut out) = (text.to_vec(), Vec::new(), Vec::new());
        let result = session.receive(&mut input, &mut plain, &mut out);
        assert!(plain.is_empty());
        (result, out, input)
    };
    for text in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "M x", "PROPFIND /"] {
        let (result, out, input) = receive(text.as_bytes());
        assert!(matches!(result, Err(TlsError::PlainHttp)), "{text}");
        assert_eq!((out, &input[..]), (Vec::new(), text.as_bytes()), "nothing sent, nothing taken");
    }
    for text in ["", "G", "GET", "PROPFIND", "AAAAAAAAAAAAAAA"] {
        assert_eq!(receive(text.as_bytes()).0.expect("too few to tell"), Received::default());
    }
    for text in ["AAAAAAAAAAAAAAAA ", "get / HTTP/1.1", " GET /", "SSH-2.0-x\r\n", "\0\0\0\0\0\0"] {
        let (result, out, _) = receive(text.as_bytes());
        assert!(matches!(result, Err(TlsError::Peer(_))), "{text}: {result:?}");
        assert_eq!(out.first(), Some(&21), "an alert");
    }
    // The first part of a method does not hide a handshake.
    assert!(receive(&[22]).0.is_ok());
}

#[test]
fn a_hello_is_told_from_other_protocols() {
    for (first, expect) in [
        (&[][..], None),
        (&[22], None),
        (&[22, 3], Some(true)),
        (&[22, 3, 1, 0, 5], Some(true)),
        (&[22, 2], Some(false)),
        (&[0x80, 0x2e, 1], Some(false)), // SSL 2
        (b"GET", Some(false)),
        (&[23, 3], Some(false)),
    ] {
        assert_eq!(looks_like_tls(first), expect, "{first:?}");
    }
}

/// Feeds everything and looks that nothing panics, also not afterwards.
fn survives(session: &mut Session, bytes: &[u8], piece: usize) {
    let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(piece);
        let result = session.receive(&mut input, &mut plain, &mut out);
        assert!(plain.len() <= bytes.len());
        let sent = session.encrypt(b"data", &mut out);
        assert_eq!(sent.is_ok(), session.is_established());
        if result.is_err() {
            assert!(session.receive(&mut input, &mut plain, &mut out).is_err());
            break;
        }
    }
    session.close(&mut out);
    assert!(session.encrypt(b"data", &mut out).is_err());
}

/// rustls counts an empty handshake record as used up and never lets go of its length: from then on it wants to see as many
/// bytes with every call, whatever they are by then.
#[test]
fn an_empty_handshake_record_does_not_disturb_traffic() {
    for piece in [1, 7, 1000] {
        let (mut session, mut sealer) = sealed_pair();
        let mut bytes = sealer.record(22, &[]);
        for content in [&b""[..], b"0", b"one", b"the second", b""] {
            bytes.extend(sealer.record(23, content));
        }
        survives(&mut session, &bytes, piece);
        let (mut session, mut sealer) = sealed_pair();
        let (mut input, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for record in [sealer.record(22, &[]), sealer.record(23, b"some "), sealer.record(23, b"data")] {
            for piece in record.chunks(piece) {
                input.extend_from_slice(piece);
                session.receive(&mut input, &mut plain, &mut out).expect("good");
                session.encrypt(b"meanwhile", &mut out).expect("good");
            }
        }
        assert_eq!(plain, b"some data", "{piece}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
        static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| server(&settings()));
        survives(&mut Session::new(config).expect("a session"), &bytes, piece);
        // The same inside of records, and inside of a hello.
        for head in [&[22, 3, 1][..], &[20, 3, 3], &[21, 3, 3], &[23, 3, 3]] {
            let record: Vec<u8> = [head, &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
            survives(&mut Session::new(config).expect("a session"), &record, piece);
        }
        let message = [&[1, 0][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
        let hello = [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat();
        survives(&mut Session::new(config).expect("a session"), &hello, piece);
    }

    #[test]
    fn a_changed_handshake_never_panics(
        is_new in any::<bool>(), changes in proptest::collection::vec((0usize..4, any::<prop::sample::Index>(), any::<u8>()), 1..4), piece in 1usize..200,
    ) {
        static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
        let settings = Tls { client_certificates: ClientCertificates::Optional, ..settings() };
        let config = CONFIG.get_or_init(|| server(&settings));
        let mut pair = pair(client_with(&[VERSIONS[usize::from(is_new)]], &identity(trusted(), |_| {})), config);
        for flight_index in 0..4 {
            let mut flight = pair.flight();
            for (_, at, byte) in changes.iter().filter(|(flight, ..)| *flight == flight_index) {
                if !flight.is_empty() {
                    let at = at.index(flight.len());
                    flight[at] ^= byte;
                }
            }
            for piece in flight.chunks(piece) {
                pair.input.extend_from_slice(piece);
                if pair.receive().is_err() {
                    prop_assert!(pair.session.encrypt(b"x", &mut pair.out).is_err());
                    return Ok(());
                }
                let sent = pair.session.encrypt(b"x", &mut Vec::new());
                prop_assert_eq!(sent.is_ok(), pair.session.is_established());
            }
            let _ = pair.deliver();
            pair.say(b"more");
        }
    }

    #[test]
    fn any_records_after_the_handshake_never_panic(
        records in proptest::collection::vec((20u8..25, proptest::collection::vec(any::<u8>(), 0..40), any::<bool>()), 1..12), piece in 1usize..100,
    ) {
        let (mut session, mut sealer) = sealed_pair();
        let mut bytes = Vec::new();
        for (kind, content, is_message) in records {
            // The beginning of a handshake message, or whatever it is.
            let content = if is_message { [&[24, 0, 0, content.len() as u8][..], &content].concat() } else { content };
            bytes.extend(sealer.record(kind, &content));
        }
        survives(&mut session, &bytes, piece);
    }
}
