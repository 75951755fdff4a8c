//! How names are resolved.

use std::net::SocketAddr;
use std::time::Duration;

/// `[resolver]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Who is asked; empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// Addresses that are used.
    pub families: Families,
    /// Servers of one name.
    pub addresses_max: usize,
    /// For one answer.
    pub timeout: Duration,
    /// Times that name servers are asked.
    pub tries: usize,
    /// An answer holds for so long at least.
    pub ttl_min: Duration,
    /// And for so long at most.
    pub ttl_max: Duration,
    /// How long addresses outlive the news that there are none.
    pub hold: Duration,
}

impl Resolver {
    /// The longest that one name can take: a request for addresses behind one for services.
    pub fn time_max(&self) -> Duration {
        self.timeout * 2 * self.tries as u32 + Duration::from_millis(500)
    }
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}
