//! What all data workers know of a splitter's servers: written by the monitor alone, read without a lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;

use super::gtid::Position;
use super::kill::Exchange;
use super::node::Published;
use super::protocol::capability::QUERY_ATTRIBUTES;
use super::protocol::greeting::Greeting;
use super::quota::Quota;
use super::sql::Mode;
use crate::config::Config;
use crate::config::model::Splitter;
use crate::runtime::net::Address;
use crate::tls::outbound::server_address;

/// Lag that is not known, or a replica that does not replicate.
pub const LAG_UNKNOWN: u64 = u64::MAX;

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not looked at yet.
    Unknown,
    /// It does not answer.
    Down,
    /// It answers but refuses writes (read_only) or replicates itself.
    ReadOnly,
    /// It answers and takes writes.
    Writable,
}

/// The newest facts about one server.
#[derive(Debug)]
pub struct ServerFacts {
    health: AtomicU8,
    /// Milliseconds behind the primary, [`LAG_UNKNOWN`] when not known.
    lag_ms: AtomicU64,
    eligible: AtomicBool,
    /// Counts the times it came up: what a worker learned about an earlier life is void.
    generation: AtomicU32,
    /// What it had when it was last looked at.
    position: ArcSwap<Position>,
}

impl Default for ServerFacts {
    /// Nothing is known, least of all that it is not behind.
    fn default() -> ServerFacts {
        ServerFacts {
            health: AtomicU8::new(0),
            lag_ms: AtomicU64::new(LAG_UNKNOWN),
            eligible: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            position: ArcSwap::default(),
        }
    }
}

impl ServerFacts {
    /// Whether it answers and takes writes.
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Unknown,
            1 => Health::Down,
            2 => Health::ReadOnly,
            _ => Health::Writable,
        }
    }

    /// Monitor only.
    pub fn set_health(&self, health: Health) {
        if matches!(self.health(), Health::Down | Health::Unknown) && health != Health::Down {
            self.generation.fetch_add(1, Relaxed);
        }
        self.health.store(health as u8, Relaxed);
    }

    /// Milliseconds behind the primary; [`LAG_UNKNOWN`] when not known.
    pub fn lag_ms(&self) -> u64 {
        self.lag_ms.load(Relaxed)
    }

    /// Monitor only. `eligible`: reads may go there.
    pub fn set_lag(&self, lag_ms: u64, eligible: bool) {
        self.lag_ms.store(lag_ms, Relaxed);
        self.eligible.store(eligible, Relaxed);
    }

    /// Whether reads may go there: up, replicating, not too far behind.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Relaxed)
    }

    /// Changes when the server came back from being down.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Monitor only.
    pub fn set_position(&self, position: &Position) {
        if **self.position.load() != *position {
            self.position.store(Arc::new(position.clone()));
        }
    }

    /// What it had when it was last looked at.
    pub fn position(&self) -> Position {
        Position::clone(&self.position.load())
    }

    /// Whether the position last seen includes `position`.
    pub fn has_reached(&self, position: &Position) -> bool {
        self.position.load().covers(position)
    }
}

/// What the splitter shows to clients before it knows a server's own greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Version string of the server.
    pub version: Vec<u8>,
    /// Its default collation.
    pub collation: u8,
    /// It knows query attributes.
    pub has_attributes: bool,
    /// It is a MariaDB.
    pub is_mariadb: bool,
}

impl Identity {
    /// What a server's first packet says.
    pub fn of(greeting: Greeting) -> Identity {
        let has_attributes = greeting.capabilities & QUERY_ATTRIBUTES != 0;
        let is_mariadb = greeting.is_mariadb();
        Identity { version: greeting.version, collation: greeting.collation, has_attributes, is_mariadb }
    }
}

/// One splitter's facts, shared by all workers of the process.
#[derive(Debug)]
pub struct Shared {
    config: Arc<Config>,
    index: usize,
    servers: Vec<ServerFacts>,
    /// By server, the name that its certificate must have; `None`: it is reached in clear.
    tls_names: Vec<Option<ServerName<'static>>>,
    /// What was written through this process, by data worker.
    pub published: Published,
    /// 0: not known yet, 1: it does, 2: it does not.
    gtids: AtomicU8,
    galera: AtomicBool,
    identity: OnceLock<Identity>,
    mode: AtomicU8,
    clients: AtomicUsize,
    /// The same by account.
    clients_of: Vec<AtomicUsize>,
    /// The way of a KILL to the data worker that has the client.
    pub(super) kills: Exchange,
    /// How many connections to the servers there may be.
    pub(super) quota: Quota,
}

impl Shared {
    /// Nothing known yet about the servers of the splitter with this index in the config, for so many data workers.
    pub fn new(config: &Arc<Config>, index: usize, data_workers: usize) -> Shared {
        let splitter = &config.splitters[index];
        Shared {
            config: Arc::clone(config),
            index,
            servers: (0..=splitter.replicas.len()).map(|_| ServerFacts::default()).collect(),
            tls_names: std::iter::once(&splitter.primary)
                .chain(splitter.replicas.iter().map(|replica| &replica.address))
                .map(|server| tls_name(splitter, server))
                .collect(),
            published: Published::new(data_workers),
            gtids: AtomicU8::new(0),
            galera: AtomicBool::new(false),
            identity: OnceLock::new(),
            mode: AtomicU8::new(0),
            clients: AtomicUsize::new(0),
            clients_of: (0..=splitter.users.len()).map(|_| AtomicUsize::new(0)).collect(),
            kills: Exchange::new(data_workers),
            quota: Quota::new(splitter, splitter.replicas.len() + 1, data_workers),
        }
    }

    /// Its part of the config.
    pub fn config(&self) -> &Splitter {
        &self.config.splitters[self.index]
    }

    /// Address of a server: 0 is the primary, n the replica n - 1.
    pub fn address(&self, index: usize) -> &Address {
        let splitter = self.config();
        if index == 0 { &splitter.primary } else { &splitter.replicas[index - 1].address }
    }

    /// The name that a server's certificate must have; `None`: it is reached in clear.
    pub fn tls_name(&self, index: usize) -> Option<&ServerName<'static>> {
        self.tls_names[index].as_ref()
    }

    /// Facts about a server: 0 is the primary, n the replica n - 1.
    pub fn server(&self, index: usize) -> &ServerFacts {
        &self.servers[index]
    }

    /// Number of servers, the primary included.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Whether the primary tells which transactions its sessions have written; `None`: nobody has looked yet.
    pub fn tells_gtids(&self) -> Option<bool> {
        match self.gtids.load(Relaxed) {
            0 => None,
            tells => Some(tells == 1),
        }
    }

    /// Monitor only.
    pub fn set_tells_gtids(&self, tells: bool) {
        self.gtids.store(if tells { 1 } else { 2 }, Relaxed);
    }

    /// Whether the servers are a Galera cluster.
    pub fn is_galera(&self) -> bool {
        self.galera.load(Relaxed)
    }

    /// Monitor only.
    pub fn set_galera(&self, is_galera: bool) {
        self.galera.store(is_galera, Relaxed);
    }

    /// What the first server that answered calls itself.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Keeps the first one it is given.
    pub fn set_identity(&self, identity: Identity) {
        let _ = self.identity.set(identity);
    }

    /// Global sql_mode of the servers, as far as it changes the lexer.
    pub fn mode(&self) -> Mode {
        let bits = self.mode.load(Relaxed);
        Mode {
            ansi_quotes: bits & 1 != 0,
            no_backslash_escapes: bits & 2 != 0,
            ignore_space: bits & 4 != 0,
            ..Mode::default()
        }
    }

    /// Monitor only.
    pub fn set_mode(&self, mode: Mode) {
        let bits =
            u8::from(mode.ansi_quotes) | u8::from(mode.no_backslash_escapes) << 1 | u8::from(mode.ignore_space) << 2;
        self.mode.store(bits, Relaxed);
    }

    /// Takes a place for one more client; `false` when `clients_max` are connected. Pairs with [`Shared::client_left`].
    pub fn client_came(&self, clients_max: usize) -> bool {
        if self.clients.fetch_add(1, Relaxed) < clients_max {
            return true;
        }
        self.client_left();
        false
    }

    /// Gives the place back.
    pub fn client_left(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// Takes one of an account's places; `false` when it has `clients_max` clients. Pairs with [`Shared::account_left`].
    pub fn account_came(&self, account: u16, clients_max: usize) -> bool {
        if self.clients_of[usize::from(account)].fetch_add(1, Relaxed) < clients_max {
            return true;
        }
        self.account_left(account);
        false
    }

    /// Gives the place back.
    pub fn account_left(&self, account: u16) {
        self.clients_of[usize::from(account)].fetch_sub(1, Relaxed);
    }
}

/// Nobody listens on a Unix socket: it needs no TLS, and its server often has none there.
fn tls_name(splitter: &Splitter, address: &Address) -> Option<ServerName<'static>> {
    let tls = splitter.server_tls.as_ref()?;
    match address {
        Address::Tcp(address) => Some(tls.server_name.clone().unwrap_or_else(|| server_address(address.ip()))),
        Address::Unix(_) | Address::Name(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_may_go_back() {
        let facts = ServerFacts::default();
        assert!(facts.lag_ms() == LAG_UNKNOWN && !facts.is_eligible());
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        assert!(facts.has_reached(&position("")) && !facts.has_reached(&position("0-1-1")));
        facts.set_position(&position("0-1-10,5-1-3"));
        assert!(facts.has_reached(&position("0-1-10")) && facts.has_reached(&position("0-2-4,5-9-3")));
        facts.set_position(&position("0-1-4"));
        assert!(facts.has_reached(&position("0-1-4")) && !facts.has_reached(&position("0-1-10")));
        assert!(!facts.has_reached(&position("5-1-3")));
    }
}
