//! MySQL splitters.

use std::sync::Arc;
use std::time::Duration;

use super::{Balance, LogTarget, Tls, UpstreamTls};
use crate::guard::{AddressRules, Networks};
use crate::mysql::protocol::auth::sha2::PublicKey;
use crate::mysql::protocol::auth::{Method, Verifier};
use crate::mysql::protocol::compressed::Algorithm;
use crate::runtime::net::Address;
use crate::util::pattern::Pattern;

/// A MySQL read/write splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splitter {
    /// Name in logs and metrics.
    pub name: String,
    /// Where clients connect: TCP or Unix socket.
    pub listen: Vec<Address>,
    /// Permission bits of the files of the Unix sockets among these.
    pub socket_mode: u32,
    /// Connections over TCP begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Who may send it; `None`: everyone.
    pub trusted_proxies: Option<Arc<Networks>>,
    /// All servers, and in a process that has had another config those that are gone: a server keeps its index for as long as
    /// the process runs.
    pub servers: Vec<MysqlServer>,
    /// How the server that takes writes is known.
    pub primary: PrimaryRule,
    /// How long a statement waits for a primary while there is none; zero: it is refused at once.
    pub primary_wait: Duration,
    /// Statements that may wait for it at once, whole process.
    pub held_max: usize,
    /// Bytes of these statements together.
    pub held_bytes_max: usize,
    /// User name, the same for clients and servers.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Further accounts; as `servers`, with those that are gone.
    pub users: Vec<MysqlUser>,
    /// The method that clients are asked for first, and those that begin with one that cannot be checked.
    pub authentication: Method,
    /// Compressed packets are offered to clients.
    pub compression: bool,
    /// Servers may ask clients for files: LOAD DATA LOCAL.
    pub local_infile: bool,
    /// For clients that want TLS; `None`: it is not offered.
    pub tls: Option<Arc<Tls>>,
    /// Clients without TLS are refused, except on Unix sockets.
    pub tls_required: bool,
    /// How the servers are reached over TLS, except on Unix sockets; `None`: in clear.
    pub server_tls: Option<Arc<UpstreamTls>>,
    /// The servers' RSA key, for passwords that they want in full without TLS.
    pub server_public_key: Option<PublicKey>,
    /// Database selected on connections whose client names none; empty: none.
    pub database: String,
    /// Client connections, whole process.
    pub clients_max: usize,
    /// Backend connections per data worker and server.
    pub pool_max: usize,
    /// Of these, kept also while nobody needs them.
    pub pool_min: usize,
    /// Connections to each server, whole process; `None`: `pool_max` for each data worker.
    pub server_connections_max: Option<usize>,
    /// Clients that wait for a connection, whole process.
    pub pool_queue_max: usize,
    /// How long a client waits for a backend connection.
    pub pool_timeout: Duration,
    /// Time for connecting and logging on to a backend.
    pub connect_timeout: Duration,
    /// How long an idle backend connection is kept.
    pub pool_idle_timeout: Duration,
    /// How long a backend connection is used at most; `None`: for ever.
    pub pool_age_max: Option<Duration>,
    /// Idle client connections are closed after this time.
    pub client_timeout: Duration,
    /// Replicas further behind the primary get no reads.
    pub lag_max: Duration,
    /// Replicas that take longer to answer the monitor get no reads; `None`: however long.
    pub latency_max: Option<Duration>,
    /// Time between two looks at the servers' replication state.
    pub monitor_interval: Duration,
    /// How fresh a read must be.
    pub causal_reads: CausalReads,
    /// How long a read waits on a replica for the session's own writes before it goes to the primary.
    pub causal_timeout: Duration,
    /// How a replica is chosen.
    pub balance: Balance,
    /// READ ONLY transactions run on replicas.
    pub read_only_transactions: bool,
    /// Rows of each data worker's table of normal forms; 0: there is none.
    pub digests_max: usize,
    /// Log of statements that take long.
    pub slow_log: Option<MysqlSlowLog>,
    /// Comments may choose the server.
    pub hints: bool,
    /// What becomes of some statements; the first one that fits decides.
    pub rules: Vec<MysqlRule>,
}

impl Splitter {
    /// The name of an account: 0 is `user`, n is `users[n - 1]`.
    pub fn account_name(&self, account: usize) -> &str {
        if account == 0 { &self.user } else { &self.users[account - 1].name }
    }

    /// The servers that are not gone, with their indexes.
    pub fn present(&self) -> impl Iterator<Item = (usize, &MysqlServer)> {
        self.servers.iter().enumerate().filter(|(_, server)| !server.is_gone)
    }
}

/// Servers that a splitter can have had in the life of a process.
pub const SERVERS_EVER_MAX: usize = 1024;

/// The same for accounts beside `user`.
pub const USERS_EVER_MAX: usize = 4096;

/// A server of a splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlServer {
    /// Its address.
    pub address: Address,
    /// Its share of the reads in relation to the others, while it is a replica; 0: none.
    pub weight: u32,
    /// How packets are compressed, where the server offers it; `None`: they are not.
    pub compression: Option<Algorithm>,
    /// The config had it before: what is under way there ends, and nothing new begins.
    pub is_gone: bool,
}

impl MysqlServer {
    /// One with the same weight as others, and nothing else that is special.
    pub fn new(address: Address) -> MysqlServer {
        MysqlServer { address, weight: 1, compression: None, is_gone: false }
    }
}

/// How the primary of a splitter is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryRule {
    /// It is the server with this index.
    Fixed(usize),
    /// It is the one server that takes writes and follows nobody.
    Found {
        /// Looks in a row that must agree.
        looks: u32,
        /// Shortest time between two changes.
        dwell: Duration,
    },
}

/// A further account of a splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlUser {
    /// User name, the same for clients and servers.
    pub name: String,
    /// What a client must prove, and servers are logged on to with.
    pub verifier: Verifier,
    /// Addresses from which the user may log on; `None`: all.
    pub access: Option<Arc<AddressRules>>,
    /// Databases that it may select; empty: any.
    pub schemas: Vec<String>,
    /// It may only read.
    pub read_only: bool,
    /// Its connections, whole process; `None`: as many as the splitter's.
    pub clients_max: Option<usize>,
    /// Connections to the servers for it, whole process; `None`: as many as the splitter's.
    pub server_connections_max: Option<usize>,
    /// The config had it before: who is logged on stays, and nobody new comes in.
    pub is_gone: bool,
}

/// A log of statements that take long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlSlowLog {
    /// Where lines go.
    pub target: LogTarget,
    /// Statements that take at least so long are logged.
    pub threshold: Duration,
    /// Lines have the normal form alone, without the statement itself.
    pub digest_only: bool,
    /// Bytes of a statement in a line.
    pub text_bytes_max: usize,
}

/// What becomes of some statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlRule {
    /// Name in logs and messages.
    pub name: String,
    /// Accounts by number, as in [`Splitter::account_name`]; empty: all.
    pub accounts: Vec<u16>,
    /// Selected databases; empty: any, or none.
    pub schemas: Vec<String>,
    /// Networks of clients; `None`: all clients.
    pub clients: Option<Networks>,
    /// What a normal form must look like; `None`: any.
    pub digest: Option<Pattern>,
    /// Where they go.
    pub route: Option<MysqlRoute>,
    /// Refused with this text.
    pub reject: Option<String>,
    /// What is replaced in a statement, and by what.
    pub rewrite: Option<(Pattern, String)>,
    /// How long they may run.
    pub time_limit: Option<Duration>,
    /// A CALL leaves nothing behind in its session.
    pub unpinned: bool,
}

/// Where a rule sends statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlRoute {
    /// To the primary.
    Primary,
    /// Reads to a replica.
    Replica,
    /// The same, and what the operator says is a read.
    Unsafe,
}

/// How fresh reads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CausalReads {
    /// A replica may answer with data older than the session's own writes.
    Off,
    /// A session sees at least its own writes.
    Session,
    /// A session sees at least what was written through this process.
    Node,
    /// A session sees whatever was committed when it asked.
    Strict,
}

/// A text that never shows in logs or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
