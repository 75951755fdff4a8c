//! TLS for the black-box tests: an authority with every kind of certificate, a strict client made of rustls, and
//! OpenSSL's client as a second opinion.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::PATIENCE;
use super::client::{self, Response};
use super::server::Site;

/// Kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

/// A certificate and its key as PEM texts.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
    /// SubjectPublicKeyInfo in DER, what a browser pins.
    pub(crate) public_key: Vec<u8>,
}

impl Identity {
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>().expect("certificates")
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

/// What issues certificates.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// The authority that the clients of these tests trust.
pub(crate) fn trusted() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("tests"))
}

fn key(kind: Kind) -> KeyPair {
    match kind {
        Kind::Ecdsa => KeyPair::generate().expect("a key"),
        Kind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("an RSA key"),
    }
}

/// Valid now, and for less than the 398 days that browsers and scanners take.
fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - day);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + day * 90);
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key(Kind::Ecdsa);
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// A server's certificate for these names.
    pub(crate) fn server(&self, names: &[&str], kind: Kind) -> Identity {
        let mut params = params(names);
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, kind)
    }

    /// A client's certificate; `subject` is its common name.
    pub(crate) fn client(&self, subject: &str) -> Identity {
        self.client_with(|params| params.distinguished_name.push(DnType::CommonName, subject))
    }

    /// The same with parameters of its own.
    pub(crate) fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params(&[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.issue(params, Kind::Ecdsa)
    }

    fn issue(&self, params: CertificateParams, kind: Kind) -> Identity {
        let key = key(kind);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Identity {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            public_key: rcgen::PublicKeyData::subject_public_key_info(&key),
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
        roots
    }
}

impl Site {
    /// Writes `NAME.pem` and `NAME.key`, for `tls.certificates`.
    pub(crate) fn identity(self, name: &str, identity: &Identity) -> Site {
        let site = self.file(&format!("{name}.pem"), identity.chain.as_bytes());
        site.file(&format!("{name}.key"), identity.key.as_bytes())
    }

    /// Adds the listener `secure` with a fresh certificate for `localhost`, and `ca.pem` with who issued it; `lines` are
    /// further keys of the listener.
    pub(crate) fn secure(self, lines: &str) -> Site {
        let identity = trusted().server(&["localhost", "test", "127.0.0.1"], Kind::Ecdsa);
        self.identity("server", &identity).file("ca.pem", trusted().pem.as_bytes()).more(&format!(
            "[listener.secure]\naddress = \"127.0.0.1:0\"\n\
             tls.certificates = [{{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }}]\n{lines}\n"
        ))
    }
}

/// Settings of a client that trusts the authority of these tests and offers these protocols.
pub(crate) fn client_config(protocols: &[&str]) -> Arc<ClientConfig> {
    client_config_with(protocols, None)
}

/// The same, with a certificate of its own.
pub(crate) fn client_config_with(protocols: &[&str], identity: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(trusted().roots());
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.certificates(), identity.private_key()).expect("good"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// How a TLS connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsEnd {
    /// With close_notify, as it should: what came is complete (RFC 8446 section 6.1).
    CloseNotify,
    /// Without: what came may have been cut off by anybody.
    Truncated,
    Reset,
}

/// A client of HTTP/1.1 over TLS that takes nothing on trust.
pub(crate) struct TlsClient {
    pub(crate) tls: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    /// A connection to `localhost` at this address; panics when the handshake fails.
    pub(crate) fn connect(address: SocketAddr) -> TlsClient {
        TlsClient::connect_with(address, "localhost", client_config(&["http/1.1"])).expect("a handshake")
    }

    /// A connection to the server of this name.
    pub(crate) fn connect_with(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<TlsClient> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = StreamOwned::new(ClientConnection::new(config, name).expect("a client"), socket);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(TlsClient { tls, buffer: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut TlsClient {
        let _ = self.tls.write_all(bytes.as_ref()).and_then(|()| self.tls.flush());
        self
    }

    /// Sends a request and takes its answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        let method = request.split(|&byte| byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request).response(&method)
    }

    /// The next answer; panics when there is none, or when it is malformed.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|end| {
            panic!("no answer to {method}: {end:?} after {:?}", String::from_utf8_lossy(&self.buffer))
        })
    }

    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, TlsEnd> {
        loop {
            if let Some((response, used)) = client::parse(&self.buffer, method, false) {
                self.buffer.drain(..used);
                return Ok(response);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), TlsEnd> {
        let mut chunk = [0; 16 << 10];
        match self.tls.read(&mut chunk) {
            Ok(0) => Err(TlsEnd::CloseNotify),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => Err(TlsEnd::Truncated),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => panic!("the connection stays open"),
                _ => Err(TlsEnd::Reset),
            },
        }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            self.fill().unwrap_or_else(|end| panic!("{end:?} after {} of {len} bytes", self.buffer.len()));
        }
        self.buffer.drain(..len).collect()
    }

    /// Says that nothing more will come (close_notify) and ends our direction.
    pub(crate) fn finish_sending(&mut self) {
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
        let _ = self.tls.sock.shutdown(std::net::Shutdown::Write);
    }

    /// Everything up to the end of the connection, and how it ended.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, TlsEnd) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }
}

/// What OpenSSL's client said and heard.
#[derive(Debug)]
pub(crate) struct Told {
    /// Everything it wrote.
    pub(crate) text: String,
    /// The handshake succeeded and so did what followed.
    pub(crate) success: bool,
}

impl Told {
    /// What stands behind `label` in the first line with it.
    pub(crate) fn value(&self, label: &str) -> Option<&str> {
        let line = self.text.lines().find_map(|line| line.split_once(label));
        line.map(|(_, value)| value.trim_matches([' ', ':', ',']))
    }
}

/// Runs `openssl s_client` with further arguments; `input` is sent once the handshake is done.
pub(crate) fn s_client(address: SocketAddr, ca: &std::path::Path, args: &[&str], input: &str) -> Told {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-CAfile"]).arg(ca).args(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl");
    // It stops at the end of its input, unless told otherwise with -ign_eof.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("openssl ends");
    let text = [output.stdout, output.stderr].concat();
    Told { text: String::from_utf8_lossy(&text).into_owned(), success: output.status.success() }
}

/// A request after whose answer the server closes, for `-ign_eof`.
pub(crate) fn last_request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}
