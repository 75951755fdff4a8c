//! Which servers an upstream has: those that are written, with the addresses that names have in the place of the names, and
//! with what the operator has added and removed. Pure: nobody is asked here.
//!
//! A server is known by its address. So one that stays in the DNS while others come and go keeps its counters, connections
//! and health ([`super::Succession`]), and the order of the records means nothing.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Config;
use super::model::{Server, Upstream};
use crate::proxy::balance::rendezvous::Rendezvous;
use crate::runtime::net::{Address, Name};

/// Highest weight of a server.
const WEIGHT_MAX: u32 = 256;

/// Most servers of an upstream to which others are added.
const SERVERS_MAX: usize = 4096;

/// What the DNS says of names. One that is not there, or has nothing, has no address.
#[derive(Clone, Debug, Default)]
pub struct Answers(pub HashMap<Name, Vec<Found>>);

/// One server behind a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// SRV: lower ones are used first; 0 for addresses.
    pub priority: u16,
    /// Its address.
    pub address: IpAddr,
    /// The name with the port: of an SRV record what it leads to.
    pub name: Name,
    /// SRV: share among those of the same priority; 0 for addresses.
    pub weight: u16,
}

/// A server as it is shown: an address, a name with a port, or one of SRV records. Errors: what else to write.
pub fn parse_server(text: &str) -> Result<Address, String> {
    super::value::parse_server(text).or_else(|label| super::value::parse_service(text).map_err(|_| label))
}

/// What the operator has changed beside the config file, by the name of the upstream.
#[derive(Clone, Debug, Default)]
pub struct Changes(pub HashMap<String, ChangedServers>);

/// The same of one upstream.
#[derive(Clone, Debug, Default)]
pub struct ChangedServers {
    /// Servers that the file does not have.
    pub added: Vec<Server>,
    /// Servers of the file, or addresses of its names, that get nothing any more.
    pub removed: HashSet<Address>,
}

/// A server that the operator adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Share of the traffic; `None`: 1.
    pub weight: Option<u32>,
    /// Number of its tier; `None`: the first one.
    pub tier: Option<u32>,
    /// It is of the last tier.
    pub backup: bool,
    /// Requests under way at once; `None`: any number.
    pub requests_max: Option<u32>,
}

impl Changes {
    /// Those that are in force in `config`.
    pub fn of(config: &Config) -> Changes {
        let of_upstream = |upstream: &Upstream| {
            let is_added = |server: &&Server| server.named.is_none() && !is_written(&upstream.written, &server.address);
            let changed = ChangedServers {
                added: upstream.servers.iter().filter(is_added).cloned().collect(),
                removed: upstream.removed.iter().cloned().collect(),
            };
            (upstream.name.clone(), changed)
        };
        let all = config.upstreams.iter().map(of_upstream);
        Changes(all.filter(|(_, changed)| !changed.added.is_empty() || !changed.removed.is_empty()).collect())
    }

    /// Adds a server to an upstream, or takes one of the file back that was removed.
    ///
    /// Errors: why that cannot be, for a person; nothing has changed.
    pub fn add(&mut self, config: &Config, upstream: &str, address: &str, wish: &Wish) -> Result<(), String> {
        let (u, of) = found(config, upstream)?;
        let address = super::value::parse_server(address)?;
        if of.servers.iter().any(|server| server.address == address) {
            return Err(format!(
                "upstream `{upstream}` has {address} already: `ctl server` changes its weight and limit"
            ));
        }
        let changed = self.0.entry(upstream.to_owned()).or_default();
        if changed.removed.contains(&address) {
            if *wish != Wish::default() {
                return Err(format!("{address} is of the config file, which says what it is: add it without flags"));
            }
            changed.removed.remove(&address);
            return Ok(());
        }
        let problem = match &address {
            Address::Name(name) => Some(format!("{name} is a name: names stand in the config file, add one of its addresses")),
            Address::Unix(_) if is_of_udp(config, u) => Some("datagrams go to it, a Unix socket takes none".into()),
            Address::Unix(_) if of.tls.as_ref().is_some_and(|tls| tls.server_name.is_none()) => {
                Some("a Unix socket has no name that a certificate could be for: `tls` of the upstream needs a `server_name`".into())
            }
            Address::Unix(_) if of.health.as_ref().is_some_and(|health| health.port.is_some()) => {
                Some("a Unix socket has no port, which `health` of the upstream wants to check".into())
            }
            Address::Tcp(tcp) if tcp.port() == 0 => Some("0 is not the port of a server: write 1 to 65535".into()),
            _ if wish.backup && wish.tier.is_some() => Some("a backup is of the last tier: say one of the two".into()),
            _ if of.servers.len() >= SERVERS_MAX => Some(format!("it has {SERVERS_MAX} servers, which is the most")),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(problem);
        }
        let tier = if wish.backup { Server::BACKUP_TIER } else { wish.tier.unwrap_or(1) };
        let server = Server::new(address);
        let weight = wish.weight.unwrap_or(server.weight).min(WEIGHT_MAX);
        changed.added.push(Server { weight, tier, backup: wish.backup, requests_max: wish.requests_max, ..server });
        Ok(())
    }

    /// Takes a server out of an upstream; a name of the file with all it leads to.
    ///
    /// Errors: there is no such server, or no other one.
    pub fn remove(&mut self, config: &Config, upstream: &str, address: &str) -> Result<(), String> {
        let (_, of) = found(config, upstream)?;
        let address = parse_server(address)?;
        let is_there = |servers: &[Server]| servers.iter().any(|server| server.address == address);
        if !is_there(&of.servers) && !is_there(&of.written) {
            let known: Vec<String> = of.servers.iter().map(|server| server.address.to_string()).collect();
            return Err(format!("upstream `{upstream}` has no server `{address}`: there are {}", known.join(", ")));
        }
        let name = |server: &Server| match &address {
            Address::Name(name) => server.address == address || server.named.as_ref() == Some(name),
            _ => server.address == address,
        };
        if of.servers.iter().all(name) {
            return Err(format!("{address} is the last server of upstream `{upstream}`: add another one first"));
        }
        let changed = self.0.entry(upstream.to_owned()).or_default();
        let before = changed.added.len();
        changed.added.retain(|server| server.address != address);
        // The file, or a name of it, may lead there too by now.
        let is_resolved = of.servers.iter().any(|server| server.address == address && server.named.is_some());
        if changed.added.len() == before || is_resolved || is_written(&of.written, &address) {
            changed.removed.insert(address);
        }
        Ok(())
    }
}

fn found<'a>(config: &'a Config, upstream: &str) -> Result<(usize, &'a Upstream), String> {
    let found = config.upstreams.iter().enumerate().find(|(_, known)| known.name == upstream);
    let found = found.ok_or_else(|| {
        let known: Vec<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        format!("no upstream is called `{upstream}`: there are {}", known.join(", "))
    })?;
    match found.1 {
        of if of.is_supervised => {
            Err(format!("the servers of `{upstream}` are the instances of an application: see `ctl app`"))
        }
        of if of.is_of_program() => Err(format!(
            "the servers of `{upstream}` are the workers of this process that run it: there are as many as there are"
        )),
        _ => Ok(found),
    }
}

fn is_of_udp(config: &Config, upstream: usize) -> bool {
    config.listeners.iter().any(|listener| listener.udp.as_ref().is_some_and(|udp| udp.upstream == upstream))
}

impl Upstream {
    /// The names among what is written.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.written.iter().filter_map(|server| match &server.address {
            Address::Name(name) => Some(name),
            _ => None,
        })
    }

    /// Gives it these servers as if the config file named them.
    pub(super) fn set_written(&mut self, servers: Vec<Server>) {
        self.written = servers.as_slice().into();
        self.set_servers(servers);
    }

    /// Gives it these servers, and everything that is made of them.
    pub fn set_servers(&mut self, servers: Vec<Server>) {
        if let Some(hash) = &mut self.hash {
            hash.table = Arc::new(table(&servers));
        }
        if let Some(sticky) = &mut self.sticky {
            let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
            *sticky = Arc::new(sticky.for_servers(&self.name, addresses.iter().map(String::as_str)));
        }
        self.servers = servers;
    }
}

/// The servers of `written` and of `changes`. A name without an answer stays, as a server that nothing can be sent to; of one
/// with more than `addresses_max` servers the first ones count. Changes that would leave none do not count.
fn servers(
    written: &[Server],
    answers: &Answers,
    changes: Option<&ChangedServers>,
    addresses_max: usize,
) -> Vec<Server> {
    let is_removed = |address: &Address| changes.is_some_and(|changes| changes.removed.contains(address));
    // What is written as an address wins over what a name leads to. It may be written twice.
    let mut known: HashSet<Address> = written.iter().map(|server| server.address.clone()).collect();
    let mut servers = Vec::new();
    let added =
        changes.map_or(&[][..], |changes| &changes.added).iter().filter(|added| !is_written(written, &added.address));
    for server in written.iter().chain(added) {
        if is_removed(&server.address) {
            continue;
        }
        let Address::Name(name) = &server.address else {
            // One that was added may stand behind a name by now.
            if is_written(written, &server.address) || known.insert(server.address.clone()) {
                servers.push(server.clone());
            }
            continue;
        };
        match answers.0.get(name).map_or(&[][..], Vec::as_slice) {
            [] => servers.push(server.clone()),
            found => {
                let found = expand(server, found, addresses_max).into_iter();
                let found = found.filter(|server| !is_removed(&server.address));
                servers.extend(found.filter(|server| known.insert(server.address.clone())));
            }
        }
    }
    if servers.is_empty() && changes.is_some() {
        return self::servers(written, answers, None, addresses_max);
    }
    servers
}

fn is_written(written: &[Server], address: &Address) -> bool {
    written.iter().any(|server| server.address == *address)
}

/// The order of servers for every key of `hash`.
pub(super) fn table(servers: &[Server]) -> Rendezvous {
    let names: Vec<(String, u32)> = servers.iter().map(|server| (server.address.to_string(), server.weight)).collect();
    Rendezvous::new(names.iter().map(|(name, weight)| (name.as_str(), *weight)))
}

/// The servers that the name of `written` stands for. Their order is that of the addresses, whatever that of the answer was.
fn expand(written: &Server, found: &[Found], addresses_max: usize) -> Vec<Server> {
    let mut found: Vec<&Found> = found.iter().collect();
    found.sort_unstable();
    found.truncate(addresses_max);
    let is_srv = matches!(&written.address, Address::Name(name) if name.port.is_none());
    let mut priorities: Vec<u16> = found.iter().map(|found| found.priority).collect();
    priorities.dedup();
    let weights = weights(&found);
    let server = |(found, weight): (&&Found, u32)| {
        let rank = priorities.binary_search(&found.priority).unwrap_or(0) as u32;
        Server {
            address: Address::Tcp(SocketAddr::new(found.address, found.name.port.unwrap_or(0))),
            named: Some(found.name.clone()),
            // The tier of backups is the last one there is.
            tier: written.tier.saturating_add(rank),
            weight: if is_srv { weight } else { written.weight },
            ..written.clone()
        }
    };
    found.iter().zip(weights).map(server).collect()
}

/// SRV weights (0 to 65535) as ours (1 to 256): as they are where they fit, else in the same proportion. RFC 2782: one of
/// weight 0 beside others has a very small chance.
fn weights(found: &[&Found]) -> Vec<u32> {
    let greatest = found.iter().map(|found| u32::from(found.weight)).max().unwrap_or(0);
    let scaled = |weight: u32| if greatest <= WEIGHT_MAX { weight } else { (weight * WEIGHT_MAX).div_ceil(greatest) };
    found.iter().map(|found| scaled(found.weight.into()).clamp(1, WEIGHT_MAX)).collect()
}

impl Config {
    /// All names whose addresses are servers.
    pub fn names(&self) -> HashSet<Name> {
        self.upstreams.iter().flat_map(Upstream::names).cloned().collect()
    }

    /// The same config with the servers that its upstreams have under `answers` and `changes`.
    pub fn resolved(mut self, answers: &Answers, changes: &Changes) -> Config {
        let addresses_max = self.resolver.addresses_max;
        for upstream in &mut self.upstreams {
            let servers = servers(&upstream.written, answers, changes.0.get(&upstream.name), addresses_max);
            let changed = changes.0.get(&upstream.name);
            upstream.removed = changed.map_or_else(Vec::new, |changed| changed.removed.iter().cloned().collect());
            upstream.removed.sort_unstable();
            if servers != upstream.servers {
                upstream.set_servers(servers);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        match crate::config::value::parse_server(text).unwrap() {
            Address::Name(name) => name,
            other => panic!("{other}"),
        }
    }

    fn address(text: &str) -> Server {
        Server::new(crate::config::value::parse_server(text).unwrap())
    }

    fn srv(text: &str) -> Server {
        Server::new(Address::Name(Name { host: text.into(), port: None }))
    }

    fn found(of: &str, address: &str) -> Found {
        Found { priority: 0, address: address.parse().unwrap(), name: name(of), weight: 0 }
    }

    fn record(priority: u16, weight: u16, of: &str, address: &str) -> Found {
        Found { priority, weight, ..found(of, address) }
    }

    fn shown(servers: &[Server]) -> String {
        let one = |server: &Server| format!("{}*{}@{}", server.address, server.weight, server.tier);
        servers.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn answers(all: &[(&Server, &[Found])]) -> Answers {
        let one = |(server, found): &(&Server, &[Found])| match &server.address {
            Address::Name(name) => (name.clone(), found.to_vec()),
            other => panic!("{other}"),
        };
        Answers(all.iter().map(one).collect())
    }

    #[test]
    fn all_addresses_of_a_name_are_servers_in_an_order_of_their_own() {
        let app = Server { weight: 3, ..address("app.test:80") };
        let written = [address("10.0.0.9:80"), app.clone()];
        let found = [found("app.test:80", "10.0.0.2"), found("app.test:80", "::1"), found("app.test:80", "10.0.0.1")];
        let now = servers(&written, &answers(&[(&app, &found)]), None, 8);
        assert_eq!(shown(&now), "10.0.0.9:80*1@1 10.0.0.1:80*3@1 10.0.0.2:80*3@1 [::1]:80*3@1");
        assert_eq!(now[1].authority(), "app.test:80");
        assert_eq!(servers(&written, &answers(&[(&app, &found)]), None, 2).len(), 3, "so many of a name");
        let unknown = servers(&written, &Answers::default(), None, 8);
        assert_eq!((shown(&unknown).as_str(), unknown[1].is_unresolved()), ("10.0.0.9:80*1@1 app.test:80*3@1", true));
    }

    #[test]
    fn an_address_that_several_names_have_is_one_server() {
        let (a, b) = (address("a.test:80"), address("b.test:80"));
        let written = [a.clone(), b.clone(), address("10.0.0.2:80")];
        let both = [found("a.test:80", "10.0.0.1"), found("a.test:80", "10.0.0.2")];
        let now = servers(&written, &answers(&[(&a, &both), (&b, &both)]), None, 8);
        assert_eq!(shown(&now), "10.0.0.1:80*1@1 10.0.0.2:80*1@1");
    }

    #[test]
    fn srv_records_say_ports_weights_and_tiers() {
        let app = Server { tier: 2, ..srv("_http._tcp.test") };
        let of = |records: &[Found]| shown(&servers(std::slice::from_ref(&app), &answers(&[(&app, records)]), None, 8));
        let records = [
            record(20, 0, "c.test:83", "10.0.0.3"),
            record(10, 0, "a.test:81", "10.0.0.1"),
            record(10, 30, "b.test:82", "10.0.0.2"),
        ];
        assert_eq!(of(&records), "10.0.0.1:81*1@2 10.0.0.2:82*30@2 10.0.0.3:83*1@3");
        let large = [record(1, 65_535, "a.test:81", "10.0.0.1"), record(1, 655, "b.test:82", "10.0.0.2")];
        assert_eq!(of(&large), "10.0.0.1:81*256@2 10.0.0.2:82*3@2");
        let backup = Server { backup: true, tier: Server::BACKUP_TIER, ..app.clone() };
        let backups = servers(&[backup], &answers(&[(&app, &records)]), None, 8);
        assert!(backups.iter().all(|server| server.tier == Server::BACKUP_TIER));
    }

    #[test]
    fn the_operator_adds_and_removes() {
        let app = address("app.test:80");
        let written = [address("10.0.0.9:80"), app.clone()];
        let two = [found("app.test:80", "10.0.0.1"), found("app.test:80", "10.0.0.2")];
        let answers = answers(&[(&app, &two)]);
        let with = |added: &[&str], removed: &[&str]| {
            let changes = ChangedServers {
                added: added.iter().map(|text| address(text)).collect(),
                removed: removed.iter().map(|text| address(text).address).collect(),
            };
            shown(&servers(&written, &answers, Some(&changes), 8))
        };
        let all = "10.0.0.9:80*1@1 10.0.0.1:80*1@1 10.0.0.2:80*1@1";
        assert_eq!(with(&["10.0.0.7:1"], &[]), format!("{all} 10.0.0.7:1*1@1"));
        assert_eq!(with(&["10.0.0.9:80"], &[]), all, "the file has it already");
        assert_eq!(with(&[], &["10.0.0.1:80", "10.0.0.9:80"]), "10.0.0.2:80*1@1");
        assert_eq!(with(&["10.0.0.7:1"], &["app.test:80", "10.0.0.9:80"]), "10.0.0.7:1*1@1", "a name with all it has");
        assert_eq!(with(&[], &["app.test:80", "10.0.0.9:80"]), all, "somebody must be left");
    }
}
