//! Listeners and their TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::{AddressRules, Trust};
use crate::proxy::flows::Bounds;
use crate::util::names::Names;

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: String,
    /// IP address and port; port 0 picks a free one, which the start-up lines tell.
    pub address: SocketAddr,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Proxies that are believed; `None`: nobody is.
    pub trust: Option<Arc<Trust>>,
    /// Whose connections are taken; `None`: everyone's.
    pub access: Option<Arc<AddressRules>>,
    /// TCP mode; `None`: it speaks HTTP with its sites.
    pub tcp: Option<Arc<TcpRoute>>,
    /// UDP mode; `None`: it listens on TCP.
    pub udp: Option<Arc<UdpRoute>>,
    /// Indexes into [`Config::sites`](super::Config::sites).
    pub sites: Vec<usize>,
    /// HTTP/2 is spoken with clients that ask for it.
    pub http2: bool,
    /// HTTP/3 is spoken on the UDP port of the same number.
    pub http3: bool,
    /// Value of Alt-Svc over HTTP/1 and HTTP/2 where `http3` is on; `None`: the port as bound. Empty: no such field.
    pub alt_svc: Option<String>,
    /// TLS; `None`: plain text.
    pub tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Every upstream that what comes here may go to without a route; in TCP and UDP mode.
    pub fn upstreams(&self) -> Vec<usize> {
        let tcp = self.tcp.as_ref().map_or_else(Vec::new, |tcp| tcp.upstreams());
        tcp.into_iter().chain(self.udp.as_ref().map(|udp| udp.upstream)).collect()
    }
}

/// Where the connections of a listener in TCP mode go. The numbers are indexes into [`Config::upstreams`](super::Config::upstreams).
#[derive(Debug)]
pub enum TcpRoute {
    /// All to one upstream.
    All(usize),
    /// By the name that the client asks for with TLS.
    ByName {
        /// Upstreams by name.
        names: Box<Names>,
        /// For other names, for clients that ask for none, and for those that do not speak TLS; `None`: they are refused.
        otherwise: Option<usize>,
    },
}

impl TcpRoute {
    /// The upstream for a client that asks for `server_name`, which is in lower case; `None`: it is refused.
    pub fn upstream(&self, server_name: Option<&str>) -> Option<usize> {
        match self {
            TcpRoute::All(upstream) => Some(*upstream),
            TcpRoute::ByName { names, otherwise } => {
                server_name.and_then(|name| names.find(name.as_bytes())).or(*otherwise)
            }
        }
    }

    /// Every upstream it may lead to.
    pub fn upstreams(&self) -> Vec<usize> {
        match self {
            TcpRoute::All(upstream) => vec![*upstream],
            TcpRoute::ByName { names, otherwise } => names.numbers().chain(*otherwise).collect(),
        }
    }
}

/// Where the datagrams of a listener in UDP mode go, and what its flows may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpRoute {
    /// Index into [`Config::upstreams`](super::Config::upstreams).
    pub upstream: usize,
    /// Longest silence in both directions together.
    pub idle_timeout: Duration,
    /// When a flow is over before that.
    pub bounds: Bounds,
    /// Flows at once, over all workers.
    pub flows_max: usize,
    /// Of these, of one client address; 0: no limit.
    pub flows_per_address_max: u32,
    /// Longer datagrams are dropped.
    pub datagram_bytes_max: usize,
}

/// TLS of a listener. Names files only; [`crate::tls::Material`] is what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Chains and keys; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Versions and ciphers.
    pub profile: TlsProfile,
    /// What a client gets that asks for a name without certificate.
    pub unknown_names: UnknownNames,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// Authorities of client certificates, a PEM file; there when client certificates are asked for.
    pub client_ca: Option<PathBuf>,
    /// Secrets of session tickets, created when missing; `None`: a random one for the life of the process.
    pub ticket_keys: Option<PathBuf>,
    /// From the first byte of a handshake to its end.
    pub handshake_timeout: Duration,
}

/// A certificate chain and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then those that issued it.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Mozilla's guidelines, version 6.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.3 only.
    Modern,
    /// TLS 1.2 and 1.3.
    Intermediate,
}

/// What a client gets that asks for a name without certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownNames {
    /// The first certificate.
    Default,
    /// An alert.
    Refuse,
}

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No.
    Off,
    /// Yes, but any client may go on; what was verified stands in the facts of the session.
    Optional,
    /// Yes, and without a good one the handshake fails.
    Required,
}
