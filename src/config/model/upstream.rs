//! Upstreams, their servers and how they are chosen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::super::health::{CheckTls, Health, OutlierRules, ProxyVersion};
use super::listener::CertificateFiles;
use crate::proxy::balance::rendezvous::Rendezvous;
use crate::proxy::gateway::Form;
use crate::proxy::retry::RetryPolicy;
use crate::proxy::sticky::Sticky;
use crate::runtime::net::{Address, Name};
use crate::tls::ServerTrust;
use crate::util::template::Template;

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Of two drawn by weight, the one with fewer requests under way in relation to weight.
    #[default]
    RandomTwo,
    /// Smooth weighted round-robin.
    RoundRobin,
    /// The fewest requests under way, in relation to weight.
    LeastConn,
    /// The least response time times requests under way, in relation to weight.
    LeastTime,
    /// The first in order of writing that may have one more request.
    First,
    /// Of an application inside this process: the application worker beside the data worker, unless its queue is long.
    Local,
}

/// What keeps requests together on a server.
#[derive(Clone, Debug)]
pub struct Hash {
    /// Requests with the same text go to the same server; a request for which it is empty goes by [`Balance`].
    pub key: Template,
    /// Most requests of a server in relation to an even spread by weight, percent, above 100; `None`: any number.
    pub load_max_percent: Option<u32>,
    /// Which server a key belongs to.
    pub table: Arc<Rendezvous>,
}

/// Fewest usable servers of a tier for it to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierMin {
    /// So many.
    Servers(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl TierMin {
    /// The number, of a tier of `all` servers.
    pub fn servers(self, all: u32) -> u32 {
        match self {
            TierMin::Servers(servers) => servers.min(all),
            TierMin::Percent(percent) => (all * percent).div_ceil(100),
        }
    }
}

/// When an earlier tier is used again that has enough servers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailBack {
    /// When it has had enough for so long; zero: at once.
    After(Duration),
    /// When the tier in use has too few itself.
    Manual,
}

/// What servers are spoken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: in clear text with prior knowledge, over TLS by ALPN, which servers have to agree to.
    H2,
    /// What a server chooses by ALPN; over TLS alone.
    Auto,
    /// FastCGI 1.0, uwsgi or SCGI.
    Gateway(Form),
}

impl Protocol {
    /// Several requests may be on one connection at once.
    pub fn is_multiplexed(self) -> bool {
        matches!(self, Protocol::H2 | Protocol::Auto)
    }

    /// Requests leave HTTP for one of these.
    pub fn gateway(self) -> Option<Form> {
        if let Protocol::Gateway(form) = self { Some(form) } else { None }
    }
}

/// A named set of servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name in logs and metrics.
    pub name: String,
    /// Its servers are instances of an application that is started here: one is used only while its instance is ready.
    pub is_supervised: bool,
    /// Its servers are the workers of the application inside this process that has this index; `None`: they are others, or the
    /// application does not run.
    pub in_process: Option<usize>,
    /// Its servers: those that are written, in order of writing, with the addresses that names have in their place.
    pub servers: Vec<Server>,
    /// What is written. See [`super::super::servers`].
    pub written: Arc<[Server]>,
    /// What the operator has taken out of that.
    pub removed: Vec<Address>,
    /// How one is chosen.
    pub balance: Balance,
    /// What keeps requests together; `None`: nothing does.
    pub hash: Option<Hash>,
    /// The cookie that leads clients back to their server; `None`: none does.
    pub sticky: Option<Arc<Sticky>>,
    /// How long a server that came up takes to get all of its traffic.
    pub slow_start: Duration,
    /// When a tier has enough servers.
    pub tier_min: TierMin,
    /// When an earlier tier is used again.
    pub fail_back: FailBack,
    /// Requests under way at all its servers together, in the whole process; `None`: any number.
    pub requests_max: Option<u32>,
    /// Requests that may wait for a place; more are answered 503.
    pub queue_max: usize,
    /// How long one waits before 503.
    pub queue_timeout: Duration,
    /// TLS towards them; `None`: clear text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What they are spoken with.
    pub protocol: Protocol,
    /// Requests at once on a connection of HTTP/2; a server may allow fewer.
    pub h2_streams_max: u32,
    /// Connections of HTTP/2 of a data worker to a server.
    pub h2_connections_max: usize,
    /// Active check; `None`: servers count as up.
    pub health: Option<Health>,
    /// What live traffic tells of them; `None`: nothing is made of it.
    pub outliers: Option<OutlierRules>,
    /// Below this share of servers that are up all of them get requests, percent; 0: never.
    pub panic_percent: u32,
    /// Time for connect(2).
    pub connect_timeout: Duration,
    /// From the last request byte to the complete response head.
    pub response_timeout: Duration,
    /// Longest silence while a body is relayed.
    pub idle_timeout: Duration,
    /// From the complete head of a request to the last byte of its answer; `None`: any time.
    pub total_timeout: Option<Duration>,
    /// Protocols that a connection may leave HTTP for, in lower case.
    pub upgrade: Vec<Box<str>>,
    /// Longest silence in both directions behind that, and of connections in TCP mode.
    pub tunnel_timeout: Duration,
    /// The same once one side has ended its direction; the shorter one of the two counts.
    pub half_closed_timeout: Duration,
    /// Header that tells servers whose connection it is, in front of everything else.
    pub proxy_protocol: ProxyProtocol,
    /// When a request is sent again, and how often.
    pub retry: Retry,
    /// Idle connections kept per data worker and server.
    pub keep_idle: usize,
    /// How long an idle connection is kept. Must stay below the server's own time.
    pub keep_idle_timeout: Duration,
    /// Requests of FastCGI are announced on connections that are kept, see [`crate::proxy::gateway::announce`]: for servers on
    /// Unix sockets that read no further than the request they work on.
    pub announces: bool,
}

impl Upstream {
    /// The numbers of its tiers in order.
    pub fn tiers(&self) -> Vec<u32> {
        let mut tiers: Vec<u32> = self.servers.iter().map(|server| server.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers
    }

    /// Requests wait although no server has a limit: a Unix socket, unlike one of TCP, takes nobody in whose backlog is full, and
    /// neither does the queue of an application worker.
    pub fn waits_for_backlogs(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.address, Address::Unix(_) | Address::App(_)))
    }

    /// Its servers are workers of an application inside this process, whether that runs or not.
    pub fn is_of_program(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.address, Address::App(_)))
    }

    /// Its servers are parts of an application that is run here, inside this process or beside it: they come and go with it alone.
    pub fn is_of_application(&self) -> bool {
        self.is_supervised || self.is_of_program()
    }

    /// Index of the tier of this number among its tiers; the first one, where there is none such.
    pub fn tier_index(&self, number: u32) -> usize {
        if number == 0 { 0 } else { self.tiers().binary_search(&number).unwrap_or(0) }
    }
}

/// Requests that are sent a second time.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Connections tried for one request, the first included.
    pub tries_max: u32,
    /// What beyond the safe minimum.
    pub policy: RetryPolicy,
    /// Statuses of a server that are tried elsewhere.
    pub statuses: Vec<u16>,
    /// Share of the requests; `None`: any number.
    pub budget_percent: Option<u32>,
    /// From the beginning of a request to the beginning of its last try.
    pub time_max: Duration,
    /// Bodies up to this size are kept for it.
    pub body_bytes_max: usize,
}

#[cfg(test)]
impl Default for Retry {
    fn default() -> Retry {
        Retry {
            tries_max: 3,
            policy: RetryPolicy::default(),
            statuses: Vec::new(),
            budget_percent: Some(20),
            time_max: Duration::from_secs(60),
            body_bytes_max: 16 << 10,
        }
    }
}

impl ProxyProtocol {
    /// The same for checks.
    pub fn version(self) -> Option<ProxyVersion> {
        match self {
            ProxyProtocol::Off => None,
            ProxyProtocol::V1 => Some(ProxyVersion::V1),
            ProxyProtocol::V2 => Some(ProxyVersion::V2),
        }
    }
}

/// Version of the PROXY protocol that servers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None.
    Off,
    /// The text form.
    V1,
    /// The binary form, with the name and the protocol that the client has asked for in TLS where these are known.
    V2,
}

/// TLS towards servers. What the files hold is here already.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Name of all servers; `None`: each has that of its address.
    pub server_name: Option<ServerName<'static>>,
    /// File of the authorities; `None`: the system's, or nobody's.
    pub ca: Option<PathBuf>,
    /// Files of the certificate that servers may ask for.
    pub identity: Option<CertificateFiles>,
    /// What their certificates are held against, and what they are shown.
    pub trust: ServerTrust,
}

/// What is written, not what the files hold.
impl PartialEq for UpstreamTls {
    fn eq(&self, other: &UpstreamTls) -> bool {
        let written = |tls: &UpstreamTls| {
            let verifies = tls.trust.authorities().is_some();
            (tls.server_name.clone(), tls.ca.clone(), tls.identity.clone(), verifies)
        };
        written(self) == written(other)
    }
}

impl Eq for UpstreamTls {}

impl UpstreamTls {
    /// The same for health checks.
    pub fn check(&self) -> CheckTls {
        let name = self.server_name.as_ref().map(|name| name.to_str().into_owned());
        let roots = self.trust.authorities().cloned();
        // The system's file is read where no other is named: whatever it is called here, its content counts.
        let ca = roots.is_some().then(|| self.ca.clone().unwrap_or_default());
        CheckTls { server_name: name, ca, roots, identity: None }
    }

    /// What the certificate of `server` must be for; `None`: a Unix socket, and no name is set.
    pub fn name_of(&self, server: &Server) -> Option<ServerName<'static>> {
        match (&self.server_name, &server.named, &server.address) {
            (Some(name), _, _) => Some(name.clone()),
            (None, Some(name), _) => crate::tls::outbound::server_name(&name.host).ok(),
            (None, None, Address::Tcp(address)) => Some(crate::tls::outbound::server_address(address.ip())),
            (None, None, Address::Unix(_) | Address::Name(_) | Address::App(_)) => None,
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// The name that its address was found by, with the port: what its certificate is for.
    pub named: Option<Name>,
    /// Share of the traffic, 0 to 256; 0: only requests that belong to it.
    pub weight: u32,
    /// It is of the last tier.
    pub backup: bool,
    /// Number of its tier: the lower ones are used first.
    pub tier: u32,
    /// Requests under way at once, in the whole process; `None`: any number.
    pub requests_max: Option<u32>,
    /// Where it is checked; `None`: where it listens.
    pub check_address: Option<Address>,
}

impl Server {
    /// The tier of backups, behind all that have a number.
    pub const BACKUP_TIER: u32 = u32::MAX;

    /// A server with the defaults of its keys.
    pub fn new(address: Address) -> Server {
        Server { address, named: None, weight: 1, backup: false, tier: 1, requests_max: None, check_address: None }
    }

    /// Host field for a request or check that has none of its own.
    pub fn authority(&self) -> String {
        match (&self.named, &self.address) {
            (Some(name), _) => name.to_string(),
            (None, Address::Unix(_) | Address::App(_)) => "localhost".into(),
            (None, address) => address.to_string(),
        }
    }

    /// Whether it stands for a name without an address: nothing can be sent to it.
    pub fn is_unresolved(&self) -> bool {
        matches!(self.address, Address::Name(_))
    }

    /// The same as a backup.
    pub fn backup(address: Address) -> Server {
        Server { backup: true, tier: Server::BACKUP_TIER, ..Server::new(address) }
    }
}
