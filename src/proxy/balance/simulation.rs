//! How good the choice is when every worker decides alone, by its own counts: response times in a seeded simulation.
//!
//! Ten servers, each with four places and a queue of its own; service times are exponential with a mean of 1; requests come
//! by chance and meet a worker by chance, at 80 % of what all servers together can do. The numbers are the 99th percentile
//! of the response time. One worker with least-conn is the balancer that knows
//! everything.
//!
//! - `equal`: ten equal servers. `weights`: capacities and weights of 1, 2, 3 and 4 in turn. `slow`: equal weights, but
//!   two of the servers take 1.4 times as long, which nobody has told; at 65 % of what they can do.
//!
//! ```text
//!          method           1       2       8      32     128 workers
//! equal    round-robin     5.55    5.39    5.59    5.46    6.14
//! equal    least-conn      4.65    4.67    4.89    5.49    6.50
//! equal    least-time      4.73    4.73    4.84    5.20    6.01
//! equal    random-two      4.75    4.86    5.12    5.46    6.06
//! weights  round-robin     5.26    5.41    5.33    5.60    6.65
//! weights  least-conn      4.66    4.69    5.82    6.73    6.17
//! weights  least-time      4.73    4.73    5.03    6.03    9.90
//! weights  random-two      4.73    4.77    5.05    5.79    6.23
//! slow     round-robin     6.60    5.90    6.01    6.40    6.91
//! slow     least-conn      5.02    5.08    5.28    5.71    6.70
//! slow     least-time      4.93    5.00    4.95    5.18    5.46
//! slow     random-two      5.10    5.14    5.34    5.82    6.47
//! ```
//!
//! What it shows: what knows something of the load is better than turns, the more of the traffic one worker sees. With
//! many workers and little of it at each, all come near to turns by weight; random-two keeps up with the best at any
//! number, at a cost that does not grow with the servers. Servers that are slower than their weight says are noticed by
//! those that count, best by those that also look at the time. (Least-time with unequal weights is for few workers:
//! where most servers seem idle, it takes the heaviest.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::tests::{World, server, upstream};
use super::*;

const REQUESTS: usize = 30_000;
const WORKERS: [usize; 5] = [1, 2, 8, 32, 128];

struct Scenario {
    name: &'static str,
    /// Weight, places and slowness of each server.
    servers: Vec<(u32, usize, f64)>,
    /// Requests in relation to what the servers can do.
    load: f64,
}

fn scenarios() -> [Scenario; 3] {
    let slow = |at: usize| if at < 2 { 1.4 } else { 1.0 };
    [
        Scenario { name: "equal", servers: vec![(1, 4, 1.0); 10], load: 0.8 },
        Scenario {
            name: "weights",
            servers: (0..10).map(|at| (1 + at as u32 % 4, 2 + 2 * (at % 4), 1.0)).collect(),
            load: 0.8,
        },
        Scenario { name: "slow", servers: (0..10).map(|at| (1, 4, slow(at))).collect(), load: 0.65 },
    ]
}

/// A number drawn from the exponential distribution with this mean.
fn exponential(random: &mut Random, mean: f64) -> f64 {
    let uniform = ((random.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -mean * uniform.ln()
}

/// The 99th percentile of the response time.
fn run(scenario: &Scenario, method: Balance, workers: usize) -> f64 {
    let start = Instant::now();
    let at = |time: f64| start + Duration::from_secs_f64(time / 100.0);
    let servers = scenario.servers.iter().map(|(weight, ..)| server(*weight)).collect();
    let config = upstream(method, servers);
    let world = World::new(scenario.servers.len());
    let mut balancers: Vec<Balancer> = (0..workers).map(|worker| Balancer::new(&config, worker, 7 << 32)).collect();
    let mut free_at: Vec<Vec<f64>> = scenario.servers.iter().map(|(_, places, _)| vec![0.0; *places]).collect();
    let capacity: f64 = scenario.servers.iter().map(|(_, places, slowness)| *places as f64 / slowness).sum();
    let mut random = Random::new(42);
    let mut ends: BinaryHeap<Reverse<(u64, usize, usize, u64)>> = BinaryHeap::new();
    let (mut now, mut times, tried) = (0.0, Vec::with_capacity(REQUESTS), Tried::new());
    for _ in 0..REQUESTS {
        now += exponential(&mut random, 1.0 / (scenario.load * capacity));
        while let Some(&Reverse((end, worker, server, took))) = ends.peek()
            && f64::from_bits(end) <= now
        {
            ends.pop();
            let took = Duration::from_secs_f64(f64::from_bits(took) / 100.0);
            balancers[worker].on_end(server);
            balancers[worker].on_answer(server, took, true, at(f64::from_bits(end)));
        }
        let worker = random.below(workers);
        let ask = Ask { tried: &tried, key: None, now: at(now) };
        let Picked::Server(server) = balancers[worker].pick(ask, &world) else { panic!("all are up") };
        balancers[worker].on_start(server);
        let places = &mut free_at[server];
        let place = (0..places.len()).min_by(|a, b| places[*a].total_cmp(&places[*b])).expect("a place");
        let end = now.max(places[place]) + exponential(&mut random, 1.0) * scenario.servers[server].2;
        places[place] = end;
        times.push(end - now);
        // The order of positive floats is that of their bits.
        ends.push(Reverse((end.to_bits(), worker, server, (end - now).to_bits())));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

#[test]
fn the_choice_stays_good_when_every_worker_decides_alone() {
    let methods = [
        ("round-robin", Balance::RoundRobin),
        ("least-conn", Balance::LeastConn),
        ("least-time", Balance::LeastTime),
        ("random-two", Balance::RandomTwo),
    ];
    let mut table = String::new();
    let mut got = std::collections::HashMap::new();
    for scenario in scenarios() {
        for (name, method) in methods {
            write!(table, "{:<8} {name:<12}", scenario.name).unwrap();
            for workers in WORKERS {
                let p99 = run(&scenario, method, workers);
                write!(table, "{p99:>8.2}").unwrap();
                got.insert((scenario.name, name, workers), p99);
            }
            table.push('\n');
        }
    }
    println!("{table}");
    for scenario in ["equal", "weights", "slow"] {
        let all_knowing = got[&(scenario, "least-conn", 1)];
        for workers in WORKERS {
            let p99 = |method| got[&(scenario, method, workers)];
            assert!(p99("random-two") <= 1.6 * all_knowing, "{scenario} {workers}");
            assert!(p99("random-two") <= 1.1 * p99("round-robin"), "{scenario} {workers}");
        }
    }
    let documented: String = include_str!("simulation.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .collect::<Vec<_>>()
        .join("\n");
    for line in table.lines() {
        assert!(documented.contains(line), "the table at the head of this file says something else:\n{table}");
    }
}
