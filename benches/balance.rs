//! Choosing a server: once per proxied request, so it must stay in the tens of nanoseconds for usual upstreams.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use one_server::config::model::{Balance, Server};
use one_server::proxy::{Balancer, Tried};

fn balance(c: &mut Criterion) {
    for (name, method) in [("round_robin", Balance::RoundRobin), ("least_conn", Balance::LeastConn)] {
        let mut group = c.benchmark_group(name);
        for count in [1, 3, 16, 100] {
            let server = |index: usize| Server {
                address: "127.0.0.1:80".parse().expect("an address"),
                weight: 1 + index as u32 % 4,
                backup: false,
                check_address: None,
            };
            let servers: Vec<Server> = (0..count).map(server).collect();
            let mut balancer = Balancer::new(method, &servers, 0);
            let (up, now) = (vec![true; count], Instant::now());
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                b.iter(|| {
                    let server = balancer.pick(|server| black_box(up[server]), &Tried::new(), now);
                    let server = server.expect("all are up");
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
