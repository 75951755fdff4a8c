//! One question for one name: /etc/hosts, then the name servers of the config, or of the system.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{self, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;

use super::schedule::Outcome;
use crate::config::model::{Families, Resolver};
use crate::config::servers::Found;
use crate::runtime::net::Name;

/// How long what /etc/hosts says holds.
const HOSTS_TTL: Duration = Duration::from_secs(10);

/// How long an answer holds of which a part is missing.
const PARTIAL_TTL: Duration = Duration::from_secs(5);

/// Asks for names, as the system and the config are at this moment.
#[derive(Clone)]
pub(super) struct Asker {
    resolver: Arc<Result<TokioResolver, String>>,
    hosts: Arc<Hosts>,
    rules: Resolver,
}

/// Addresses of one name, or why there are none.
type Addresses = Result<(Vec<IpAddr>, Duration), NetError>;

impl Asker {
    /// Reads /etc/hosts and, where the config names no name servers, /etc/resolv.conf.
    pub(super) fn new(rules: &Resolver) -> Asker {
        Asker {
            resolver: Arc::new(resolver(rules)),
            hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
            rules: rules.clone(),
        }
    }

    /// Never takes much longer than the config allows.
    pub(super) async fn ask(&self, name: &Name) -> Outcome {
        let asking = async {
            match name.port {
                Some(port) => self.addresses_of_name(name, port).await,
                None => self.services(name).await,
            }
        };
        match tokio::time::timeout(self.rules.time_max(), asking).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed("no answer within the time".into()),
        }
    }

    async fn addresses_of_name(&self, name: &Name, port: u16) -> Outcome {
        match self.addresses(&name.host).await {
            Ok((addresses, ttl)) => {
                let name = Name { host: name.host.clone(), port: Some(port) };
                let found = |address| Found { priority: 0, address, name: name.clone(), weight: 0 };
                Outcome::Found(addresses.into_iter().map(found).collect(), ttl)
            }
            Err(error) => outcome(&error),
        }
    }

    /// The servers of SRV records, all of whose names are asked for at once.
    async fn services(&self, name: &Name) -> Outcome {
        let resolver = match &*self.resolver {
            Ok(resolver) => resolver,
            Err(problem) => return Outcome::Failed(problem.clone()),
        };
        let lookup = match resolver.lookup(&*name.host, RecordType::SRV).await {
            Ok(lookup) => lookup,
            Err(error) => return outcome(&error),
        };
        let mut ttl = ttl(&lookup);
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            // RFC 2782: `.` says that there is decidedly no such service.
            RData::SRV(srv) if !srv.target.is_root() && srv.port > 0 => Some(srv),
            _ => None,
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| (record.priority, record.target.to_string(), record.port));
        records.truncate(self.rules.addresses_max);
        if records.is_empty() {
            return Outcome::Nothing("its SRV records name no server".into());
        }
        let targets = records.iter().map(|record| record.target.to_string());
        let targets: Vec<String> = targets.map(|target| target.trim_end_matches('.').to_ascii_lowercase()).collect();
        let answers = self.addresses_of_all(&targets).await;
        let (mut found, mut problem) = (Vec::new(), None);
        for ((record, target), answer) in records.iter().zip(&targets).zip(answers) {
            match answer {
                Ok((addresses, holds)) => {
                    ttl = ttl.min(holds);
                    let name = Name { host: target.as_str().into(), port: Some(record.port) };
                    let (priority, weight) = (record.priority, record.weight);
                    found.extend(addresses.into_iter().map(|address| Found {
                        priority,
                        address,
                        name: name.clone(),
                        weight,
                    }));
                }
                Err(error) => problem = Some((target, outcome(&error))),
            }
        }
        match problem {
            None => Outcome::Found(found, ttl),
            // One that nobody knows of may be there as before: then nothing is known of the whole.
            Some((target, Outcome::Failed(text))) => Outcome::Failed(format!("{target}: {text}")),
            Some(_) if !found.is_empty() => Outcome::Found(found, ttl.min(PARTIAL_TTL)),
            Some((target, Outcome::Nothing(text))) => Outcome::Nothing(format!("{target}: {text}")),
            Some((_, other)) => other,
        }
    }

    /// Of each target; they are asked for side by side, for as long as somebody waits for all of them.
    async fn addresses_of_all(&self, targets: &[String]) -> Vec<Addresses> {
        let mut asking = JoinSet::new();
        for (at, target) in targets.iter().enumerate() {
            let (asker, target) = (self.clone(), target.clone());
            asking.spawn(async move { (at, asker.addresses(&target).await) });
        }
        let panicked = |_| Err(NetError::Msg("asking has panicked".into()));
        let mut answers: Vec<Addresses> = targets.iter().map(panicked).collect();
        while let Some(answered) = asking.join_next().await {
            if let Ok((at, answer)) = answered {
                answers[at] = answer;
            }
        }
        answers
    }

    /// Those of both families, as far as they are wanted. When one of the two is not known, none is.
    async fn addresses(&self, host: &str) -> Addresses {
        let wanted: &[RecordType] = match self.rules.families {
            Families::Both => &[RecordType::A, RecordType::AAAA],
            Families::Ipv4 => &[RecordType::A],
            Families::Ipv6 => &[RecordType::AAAA],
        };
        if let Some(addresses) = self.in_hosts(host, wanted) {
            return Ok((addresses, HOSTS_TTL));
        }
        let resolver = match &*self.resolver {
            Ok(resolver) => resolver,
            Err(problem) => return Err(NetError::Msg(problem.clone())),
        };
        let ask = |kind: RecordType| async move {
            match wanted.contains(&kind) {
                true => Some(resolver.lookup(host, kind).await),
                false => None,
            }
        };
        let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
        let (mut addresses, mut holds, mut nothing) = (Vec::new(), Duration::MAX, None);
        for answer in [v4, v6].into_iter().flatten() {
            match answer {
                Ok(lookup) => {
                    addresses.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
                    holds = holds.min(ttl(&lookup));
                }
                Err(error) if is_nothing(&error) => nothing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match nothing {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok((addresses, holds)),
        }
    }

    fn in_hosts(&self, host: &str, wanted: &[RecordType]) -> Option<Vec<IpAddr>> {
        let name = rr::Name::from_utf8(host).ok()?;
        let lookup = |kind: &RecordType| self.hosts.lookup_static_host(&Query::query(name.clone(), *kind));
        let lookups: Vec<Lookup> = wanted.iter().filter_map(lookup).collect();
        let addresses = lookups.iter().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr());
        let addresses: Vec<IpAddr> = addresses.collect();
        (!addresses.is_empty()).then_some(addresses)
    }
}

/// Errors: no name server is known.
fn resolver(rules: &Resolver) -> Result<TokioResolver, String> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match rules.name_servers.as_slice() {
        [] => TokioResolver::builder(provider).map_err(|error| format!("/etc/resolv.conf: {error}"))?,
        servers => {
            let server = |address: &std::net::SocketAddr| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let connections = connections.map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                NameServerConfig::new(address.ip(), true, connections.into())
            };
            let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
            TokioResolver::builder_with_config(config, provider)
        }
    };
    let options = builder.options_mut();
    options.timeout = rules.timeout;
    options.attempts = rules.tries.saturating_sub(1);
    options.ip_strategy = LookupIpStrategy::Ipv4Only;
    // What is kept for how long is decided beside this, and /etc/hosts is looked at above.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.try_tcp_on_error = true;
    builder.build().map_err(|error| error.to_string())
}

fn ttl(lookup: &Lookup) -> Duration {
    let now = Instant::now();
    lookup.valid_until().saturating_duration_since(now).max(Duration::from_millis(1))
}

/// Name servers say that there is no such name, or that it has no such records.
fn is_nothing(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else { return false };
    matches!(response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

fn outcome(error: &NetError) -> Outcome {
    match error {
        _ if !is_nothing(error) => Outcome::Failed(plain(error)),
        error if error.is_nx_domain() => Outcome::Nothing("there is no such name (NXDOMAIN)".into()),
        _ => Outcome::Nothing("the name has no such records".into()),
    }
}

/// Without what differs from one time to the next, which would be news each time.
fn plain(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no name server answered in time".into(),
        NetError::NoConnections => "no name server can be reached".into(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answered {code}"),
        NetError::Dns(DnsError::NoRecordsFound(none)) => format!("the name server answered {}", none.response_code),
        error => error.to_string().chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}
