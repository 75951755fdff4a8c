//! Choosing a server: once per proxied request, so it must stay in the tens of nanoseconds for usual upstreams; for the
//! default and for hashes, however many servers there are.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use one_server::config::Defaults;
use one_server::config::model::{Balance, Hash, Server, Upstream};
use one_server::proxy::balance::rendezvous::{self, Rendezvous};
use one_server::proxy::{Ask, Balancer, Picked, Servers, Tried};

/// All are up and have room.
struct AllUp;

impl Servers for AllUp {
    fn changes(&self) -> u64 {
        black_box(0)
    }

    fn is_up(&self, _server: usize) -> bool {
        true
    }

    fn came_up(&self, _server: usize) -> Option<Instant> {
        None
    }

    fn tier_held(&self) -> usize {
        0
    }

    fn has_room(&self, _server: usize, _part_of: impl Fn(u32) -> u32) -> bool {
        black_box(true)
    }
}

fn upstream(method: Balance, count: usize) -> Upstream {
    let server = |index: usize| Server {
        weight: 1 + index as u32 % 4,
        ..Server::new(format!("10.0.0.{index}:80").parse().expect("an address"))
    };
    let servers = (0..count).map(server).collect();
    Upstream { balance: method, servers, ..Defaults::new(Default::default()).upstream("api") }
}

fn hashed(count: usize, load_max_percent: Option<u32>) -> Upstream {
    let mut upstream = upstream(Balance::RandomTwo, count);
    let names: Vec<(String, u32)> = upstream.servers.iter().map(|s| (s.address.to_string(), s.weight)).collect();
    let table = Arc::new(Rendezvous::new(names.iter().map(|(name, weight)| (name.as_str(), *weight))));
    upstream.hash = Some(Hash { key: Default::default(), load_max_percent, table });
    upstream
}

fn balance(c: &mut Criterion) {
    type Make = fn(usize) -> Upstream;
    let methods: [(&str, Make); 6] = [
        ("random_two", |count| upstream(Balance::RandomTwo, count)),
        ("round_robin", |count| upstream(Balance::RoundRobin, count)),
        ("least_conn", |count| upstream(Balance::LeastConn, count)),
        ("least_time", |count| upstream(Balance::LeastTime, count)),
        ("hash", |count| hashed(count, None)),
        ("hash_bounded", |count| hashed(count, Some(125))),
    ];
    for (name, make) in methods {
        let mut group = c.benchmark_group(name);
        for count in [1, 3, 16, 50, 100] {
            let mut balancer = Balancer::new(&make(count), 0, 1);
            let (now, tried, mut n) = (Instant::now(), Tried::new(), 0u32);
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                b.iter(|| {
                    n += 1;
                    let key = name.starts_with("hash").then(|| rendezvous::hash(&n.to_le_bytes()));
                    let Picked::Server(server) = balancer.pick(Ask { tried: &tried, key, now }, &AllUp) else {
                        panic!("all are up");
                    };
                    balancer.on_start(server);
                    balancer.on_end(server);
                    server
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, balance);
criterion_main!(benches);
