//! One check of one server: connect, PROXY header, TLS, conversation, all within the time that the config gives it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::tls::TlsClient;
use super::{gateway, http2};
use crate::config::model::{Health, Probe, Protocol, ProxyVersion, Server, TextProbe};
use crate::control::shared::Lasting;
use crate::guard::proxy_protocol::{Checksum, Header, encode_v1, encode_v2};
use crate::proxy::check::{CheckStatus, Conversation, Step, Verdict, answered};
use crate::runtime::net::{Address, BACKLOG_PAUSE_MAX, is_backlog_full, is_own_failure, no_address, no_socket};

/// Longest datagram.
const ANSWER_BYTES_MAX: usize = 65_535;

pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// What the checks of an upstream have in common.
pub(in crate::control) struct Prober {
    tls: Option<TlsClient>,
    /// What knows the way to applications inside the process.
    lasting: Option<Arc<Lasting>>,
}

/// A finished check.
#[derive(Debug)]
pub(in crate::control) struct Checked {
    pub(super) verdict: Verdict,
    /// End of the certificate that the server showed.
    pub(super) certificate_ends: Option<SystemTime>,
}

impl Checked {
    /// Whether the server is well.
    pub(in crate::control) fn is_ok(&self) -> bool {
        self.verdict.status.is_ok()
    }
}

impl Prober {
    pub(in crate::control) fn new(health: &Health) -> Prober {
        // What is no request of HTTP says nothing of its version either.
        let protocol = if let Probe::Http(_) = health.probe { Some(health.protocol) } else { None };
        Prober { tls: health.tls.as_ref().map(|tls| TlsClient::new(tls, protocol)), lasting: None }
    }

    /// The same for servers that may be applications inside the process.
    pub(super) fn with_apps(self, lasting: Arc<Lasting>) -> Prober {
        Prober { lasting: Some(lasting), ..self }
    }

    async fn connect(&self, address: &Address, at_once: bool, deadline: Instant) -> io::Result<Box<dyn Socket>> {
        match (address, &self.lasting) {
            (Address::App(seat), Some(lasting)) => Ok(Box::new(lasting.connect_app(seat, deadline.into_std())?)),
            _ => connect(address, at_once).await,
        }
    }

    /// Checks `server`. Ends within `health.timeout`.
    pub(in crate::control) async fn check(&self, health: &Health, server: &Server) -> Checked {
        let deadline = Instant::now() + health.timeout;
        let mut certificate_ends = None;
        let verdict = match self.check_at(health, server, deadline, &mut certificate_ends).await {
            Ok(verdict) | Err(verdict) => verdict,
        };
        Checked { verdict, certificate_ends }
    }

    /// `Err` is the verdict of a check that did not come to its conversation.
    async fn check_at(
        &self,
        health: &Health,
        server: &Server,
        deadline: Instant,
        certificate_ends: &mut Option<SystemTime>,
    ) -> Result<Verdict, Verdict> {
        let address = checked_address(health, server);
        if let Probe::Datagram(probe) = &health.probe {
            return ask(probe, &address, health.timeout, deadline).await;
        }
        let authority = authority(server, &address);
        let mut conversation = Conversation::new(&health.probe, &authority);
        let asks_nothing = self.tls.is_none() && conversation.is_silent();
        let mut socket = match timeout_at(deadline, self.connect(&address, asks_nothing, deadline)).await {
            Err(_) => {
                let text = format!("no connection within {:?}", health.timeout);
                return Err(Verdict::new(CheckStatus::ConnectTimeout, text));
            }
            // Whoever listens there is alive; it has more to do than it can take on, and nothing is asked of it.
            Ok(Err(error)) if asks_nothing && is_backlog_full(&address, &error) => {
                return Ok(Verdict::new(CheckStatus::Connected, "its backlog is full"));
            }
            Ok(connected) => connected.map_err(connect_failed)?,
        };
        if let Some(version) = health.proxy_protocol {
            let sent = timeout_at(deadline, socket.write_all(&proxy_header(version))).await;
            settled(sent, health.timeout)?;
        }
        let mut is_http2 = health.protocol == Protocol::H2;
        if let Some(tls) = &self.tls {
            socket = match timeout_at(deadline, tls.connect(socket, server, &address)).await {
                Err(_) => {
                    let text = format!("no end of the TLS handshake within {:?}", health.timeout);
                    return Err(Verdict::new(CheckStatus::TlsTimeout, text));
                }
                Ok(Err(error)) => {
                    *certificate_ends = error.certificate_ends;
                    return Err(Verdict::new(CheckStatus::TlsFailed, format!("TLS handshake: {}", error.text)));
                }
                Ok(Ok((socket, ends))) => {
                    *certificate_ends = ends;
                    let chosen = socket.get_ref().1.alpn_protocol();
                    is_http2 |= health.protocol == Protocol::Auto && chosen == Some(b"h2");
                    socket
                }
            };
        }
        if conversation.is_silent() {
            // So that a server of TLS does not take the check for a broken connection.
            drop(timeout_at(deadline, socket.shutdown()).await);
            return Ok(match &self.tls {
                Some(_) => Verdict::new(CheckStatus::TlsDone, "TLS handshake done"),
                None => Verdict::new(CheckStatus::Connected, "connected"),
            });
        }
        if is_http2 && matches!(health.probe, Probe::Http(_)) {
            let talk = http2::converse(socket, &mut conversation, self.tls.is_some());
            return settled(timeout_at(deadline, talk).await, health.timeout);
        }
        if let (Some(form), Probe::Http(_)) = (health.protocol.gateway(), &health.probe) {
            let talk = gateway::converse(&mut *socket, &mut conversation, form);
            return settled(timeout_at(deadline, talk).await, health.timeout);
        }
        let ended = timeout_at(deadline, converse(&mut socket, &mut conversation)).await;
        settled(ended, health.timeout)
    }
}

/// What the Host field of a check says: the name of the server, where it has one, at the port that is asked.
fn authority(server: &Server, address: &Address) -> String {
    match (&server.named, address) {
        (Some(name), Address::Tcp(address)) => format!("{}:{}", name.host, address.port()),
        (_, Address::Unix(_) | Address::App(_)) => "localhost".to_owned(),
        (_, address) => address.to_string(),
    }
}

/// Sends a datagram and waits for its answer. Nothing is sent a second time: `fall` is what forgives a loss.
async fn ask(probe: &TextProbe, address: &Address, timeout: Duration, deadline: Instant) -> Result<Verdict, Verdict> {
    let Address::Tcp(address) = address else {
        return Err(Verdict::new(CheckStatus::ConnectFailed, "a Unix socket takes no datagrams here"));
    };
    let conversation = async {
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = tokio::net::UdpSocket::bind(local).await?;
        socket.connect(address).await?;
        socket.send(&probe.send).await?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let bytes = socket.recv(&mut answer).await?;
        answer.truncate(bytes);
        Ok(answer)
    };
    match timeout_at(deadline, conversation).await {
        Err(_) => Err(Verdict::new(CheckStatus::AnswerTimeout, format!("no answer within {timeout:?}"))),
        Ok(answer) => Ok(answered(probe, &answer.map_err(connect_failed)?)),
    }
}

/// Where `server` is checked.
fn checked_address(health: &Health, server: &Server) -> Address {
    match (&server.check_address, &server.address, health.port) {
        (Some(address), _, _) => address.clone(),
        (None, Address::Tcp(address), Some(port)) => Address::Tcp((address.ip(), port).into()),
        (None, address, _) => address.clone(),
    }
}

/// Connects to `address`. Where the backlog of a Unix socket is full, which takes nobody in who would wait there, it tries again
/// until it is not; `at_once`: it tells so.
async fn connect(address: &Address, at_once: bool) -> io::Result<Box<dyn Socket>> {
    loop {
        match connect_once(address).await {
            Err(error) if !at_once && is_backlog_full(address, &error) => sleep(BACKLOG_PAUSE_MAX).await,
            connected => return connected,
        }
    }
}

async fn connect_once(address: &Address) -> io::Result<Box<dyn Socket>> {
    match address {
        Address::Tcp(address) => {
            let socket = tokio::net::TcpStream::connect(address).await?;
            // With nobody listening there, a connection from a port to itself succeeds (tcp(7), simultaneous open).
            if socket.local_addr()? == socket.peer_addr()? {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            socket.set_nodelay(true)?;
            Ok(Box::new(socket))
        }
        Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        Address::Name(name) => Err(no_address(name)),
        Address::App(seat) => Err(no_socket(seat)),
    }
}

fn connect_failed(error: io::Error) -> Verdict {
    // Else a process that runs out of descriptors would see all its servers down.
    let status = if is_own_failure(&error) { CheckStatus::OwnFailure } else { CheckStatus::ConnectFailed };
    Verdict::new(status, plain(&error))
}

/// The check speaks for itself and for no client.
fn proxy_header(version: ProxyVersion) -> Vec<u8> {
    let mut header = Vec::new();
    match version {
        ProxyVersion::V1 => encode_v1(&Header::Local, &mut header),
        ProxyVersion::V2 => encode_v2(&Header::Local, Checksum::None, &mut header),
    }
    header
}

/// What came within the time; `Err`: nothing did, or the connection broke.
fn settled<T>(ended: Result<io::Result<T>, tokio::time::error::Elapsed>, timeout: Duration) -> Result<T, Verdict> {
    match ended {
        Err(_) => Err(Verdict::new(CheckStatus::AnswerTimeout, format!("no answer within {timeout:?}"))),
        Ok(Err(error)) => Err(Verdict::new(CheckStatus::Invalid, format!("connection broke: {}", plain(&error)))),
        Ok(Ok(ended)) => Ok(ended),
    }
}

async fn converse(socket: &mut Box<dyn Socket>, conversation: &mut Conversation<'_>) -> io::Result<Verdict> {
    let mut input = Vec::with_capacity(1024);
    let mut step = conversation.begin();
    loop {
        step = match step {
            Step::Done(verdict) => return Ok(verdict),
            Step::Send(bytes) => {
                // A server may have closed behind the answer that it has given: that one is still to be read.
                let sent = async { socket.write_all(&bytes).await.and(socket.flush().await) };
                match sent.await {
                    Ok(()) => conversation.on_bytes(&input),
                    Err(error) if input.is_empty() => match socket.read_buf(&mut input).await {
                        Ok(bytes) if bytes > 0 => conversation.on_bytes(&input),
                        _ => return Err(error),
                    },
                    Err(_) => return Ok(conversation.on_end(&input)),
                }
            }
            Step::Read => match socket.read_buf(&mut input).await {
                Ok(0) => return Ok(conversation.on_end(&input)),
                // A server of TLS that does not say goodbye has still answered.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(conversation.on_end(&input)),
                Ok(_) => conversation.on_bytes(&input),
                Err(error) => return Err(error),
            },
        };
    }
}

/// The system's message in the style of our log: lower case, without the error number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
