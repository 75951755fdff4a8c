//! MySQL splitters.

use std::time::Duration;

use crate::runtime::net::Address;

/// A MySQL read/write splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splitter {
    /// Name in logs and metrics.
    pub name: String,
    /// Where clients connect: TCP or Unix socket.
    pub listen: Vec<Address>,
    /// The server that takes writes.
    pub primary: Address,
    /// Servers that take reads; empty: the primary takes them.
    pub replicas: Vec<Address>,
    /// User name, the same for clients and servers.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Database selected on connections whose client names none; empty: none.
    pub database: String,
    /// Client connections, whole process.
    pub clients_max: usize,
    /// Backend connections per data worker and server.
    pub pool_max: usize,
    /// How long a client waits for a backend connection.
    pub pool_timeout: Duration,
    /// Time for connecting and logging on to a backend.
    pub connect_timeout: Duration,
    /// How long an idle backend connection is kept.
    pub pool_idle_timeout: Duration,
    /// Idle client connections are closed after this time.
    pub client_timeout: Duration,
    /// Replicas further behind the primary get no reads.
    pub lag_max: Duration,
    /// Time between two looks at the servers' replication state.
    pub monitor_interval: Duration,
    /// How fresh a read must be.
    pub causal_reads: CausalReads,
    /// How long a read waits on a replica for the session's own writes before it goes to the primary.
    pub causal_timeout: Duration,
}

/// How fresh reads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CausalReads {
    /// A replica may answer with data older than the session's own writes.
    Off,
    /// A session sees at least its own writes.
    Session,
}

/// A text that never shows in logs or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
