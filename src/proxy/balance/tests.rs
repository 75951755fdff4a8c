use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn server(weight: u32, backup: bool) -> Server {
    Server { address: "127.0.0.1:1".parse().unwrap(), weight, backup, check_address: None }
}

fn balancer(method: Balance, weights: &[u32]) -> Balancer {
    let servers: Vec<Server> = weights.iter().map(|&weight| server(weight, false)).collect();
    Balancer::new(method, &servers, 0)
}

fn pick_all_up(balancer: &mut Balancer) -> usize {
    balancer.pick(|_| true, &Tried::new(), Instant::now()).unwrap()
}

#[test]
fn weights_are_spread_not_bunched() {
    let mut balancer = balancer(Balance::RoundRobin, &[5, 1, 1]);
    let picks: Vec<usize> = (0..7).map(|_| pick_all_up(&mut balancer)).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn workers_start_at_different_servers() {
    let servers = [server(1, false), server(1, false), server(1, false)];
    let first: Vec<usize> =
        (0..6).map(|worker| pick_all_up(&mut Balancer::new(Balance::RoundRobin, &servers, worker))).collect();
    assert_eq!(first, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn tried_servers_come_last_but_before_backups() {
    let servers = [server(1, false), server(1, false), server(1, true)];
    for method in [Balance::RoundRobin, Balance::LeastConn] {
        let mut balancer = Balancer::new(method, &servers, 0);
        let now = Instant::now();
        let mut tried = Tried::new();
        tried.insert(0);
        for _ in 0..4 {
            assert_eq!(balancer.pick(|_| true, &tried, now), Some(1));
        }
        tried.insert(1);
        for _ in 0..4 {
            assert!(balancer.pick(|_| true, &tried, now).unwrap() < 2, "a primary server is up");
        }
        assert_eq!(balancer.pick(|server| server == 0, &tried, now), Some(0), "the only one is tried again");
    }
}

#[test]
fn nobody_up_means_nobody() {
    let mut balancer = balancer(Balance::LeastConn, &[1, 1]);
    assert_eq!(balancer.pick(|_| false, &Tried::new(), Instant::now()), None);
    assert_eq!(Balancer::new(Balance::RoundRobin, &[], 3).pick(|_| true, &Tried::new(), Instant::now()), None);
}

#[test]
fn active_passive_switches_over_and_back() {
    let mut balancer = Balancer::new(Balance::RoundRobin, &[server(1, false), server(1, true)], 0);
    let now = Instant::now();
    let mut run = |up: [bool; 2]| -> Vec<Option<usize>> {
        (0..3).map(|_| balancer.pick(|server| up[server], &Tried::new(), now)).collect()
    };
    assert_eq!(run([true, true]), [Some(0); 3]);
    assert_eq!(run([false, true]), [Some(1); 3]);
    assert_eq!(run([true, true]), [Some(0); 3]);
    assert_eq!(run([true, false]), [Some(0); 3]);
    assert_eq!(run([false, false]), [None; 3]);
}

#[test]
fn a_failed_connect_rests_the_server_for_a_second() {
    let mut balancer = balancer(Balance::RoundRobin, &[1, 1]);
    let start = Instant::now();
    balancer.on_connect_failed(0, start);
    let almost = start + REST - Duration::from_millis(1);
    for _ in 0..8 {
        assert_eq!(balancer.pick(|_| true, &Tried::new(), almost), Some(1));
    }
    let picks: Vec<_> = (0..8).map(|_| balancer.pick(|_| true, &Tried::new(), start + REST).unwrap()).collect();
    assert_eq!(picks.iter().filter(|&&server| server == 0).count(), 1, "one trial, not every request");
    balancer.on_connected(0);
    let picks: Vec<_> = (0..8).map(|_| balancer.pick(|_| true, &Tried::new(), start + REST).unwrap()).collect();
    assert!(picks.iter().filter(|&&server| server == 0).count() >= 4, "back in turn: {picks:?}");
}

#[test]
fn the_only_server_does_not_rest() {
    let mut balancer = balancer(Balance::LeastConn, &[1, 1]);
    let now = Instant::now();
    balancer.on_connect_failed(0, now);
    assert_eq!(balancer.pick(|server| server == 0, &Tried::new(), now), Some(0));
    balancer.on_connect_failed(1, now);
    assert!(balancer.pick(|_| true, &Tried::new(), now).is_some(), "all rest: one is used all the same");
}

#[test]
fn a_backup_steps_in_while_the_active_one_refuses_connects() {
    let mut balancer = Balancer::new(Balance::RoundRobin, &[server(1, false), server(1, true)], 0);
    let now = Instant::now();
    balancer.on_connect_failed(0, now);
    assert_eq!(balancer.pick(|_| true, &Tried::new(), now), Some(1));
    assert_eq!(balancer.pick(|_| true, &Tried::new(), now + REST), Some(0));
}

#[test]
fn least_connections_prefers_the_idle_and_takes_turns_among_equals() {
    let mut balancer = balancer(Balance::LeastConn, &[1, 1, 1]);
    balancer.on_start(1);
    let picks: Vec<usize> = (0..4).map(|_| pick_all_up(&mut balancer)).collect();
    assert_eq!(picks, [0, 2, 0, 2]);
    balancer.on_end(1);
    assert_eq!(balancer.active(1), 0);
    let mut three: Vec<usize> = (0..3).map(|_| pick_all_up(&mut balancer)).collect();
    three.sort_unstable();
    assert_eq!(three, [0, 1, 2]);
}

proptest! {
    #[test]
    fn shares_follow_weights_exactly_over_a_cycle(
        weights in prop::collection::vec(1u32..=256, 1..12), worker in 0usize..64, lead in 0usize..500,
    ) {
        let servers: Vec<Server> = weights.iter().map(|&weight| server(weight, false)).collect();
        let mut balancer = Balancer::new(Balance::RoundRobin, &servers, worker);
        for _ in 0..lead {
            pick_all_up(&mut balancer);
        }
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..weights.iter().sum::<u32>() {
            counts[pick_all_up(&mut balancer)] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    /// Servers go up and down, requests start, fail and end at random; the rules hold at every step.
    #[test]
    fn rules_hold_in_a_seeded_simulation(seed: u64, least_conn: bool) {
        let mut rng = StdRng::seed_from_u64(seed);
        let method = if least_conn { Balance::LeastConn } else { Balance::RoundRobin };
        let servers: Vec<Server> =
            (0..rng.random_range(1..9)).map(|_| server(rng.random_range(1..=8), rng.random_bool(0.3))).collect();
        let mut sim = Simulation::new(method, servers, rng.random_range(0..4));
        for _ in 0..400 {
            sim.step(&mut rng);
        }
    }
}

/// The balancer beside a plain record of what it was told.
struct Simulation {
    method: Balance,
    servers: Vec<Server>,
    balancer: Balancer,
    now: Instant,
    up: Vec<bool>,
    active: Vec<u32>,
    rests_until: Vec<Option<Instant>>,
}

impl Simulation {
    fn new(method: Balance, servers: Vec<Server>, worker: usize) -> Simulation {
        Simulation {
            method,
            balancer: Balancer::new(method, &servers, worker),
            now: Instant::now(),
            up: vec![true; servers.len()],
            active: vec![0; servers.len()],
            rests_until: vec![None; servers.len()],
            servers,
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        let server = rng.random_range(0..self.servers.len());
        match rng.random_range(0..10) {
            0 => self.up[server] = !self.up[server],
            1 => self.now += Duration::from_millis(rng.random_range(0..700)),
            2 | 3 if self.active[server] > 0 => {
                self.active[server] -= 1;
                self.balancer.on_end(server);
            }
            _ => self.request(rng),
        }
        self.check_invariants();
    }

    fn request(&mut self, rng: &mut StdRng) {
        let mut tried = Tried::new();
        while rng.random_bool(0.3) {
            tried.insert(rng.random_range(0..self.servers.len()));
        }
        let picked = self.balancer.pick(|server| self.up[server], &tried, self.now);
        self.check_pick(picked, &tried);
        let Some(server) = picked else { return };
        if let Some(until) = &mut self.rests_until[server] {
            *until = self.now + REST;
        }
        if rng.random_bool(0.2) {
            self.balancer.on_connect_failed(server, self.now);
            self.rests_until[server] = Some(self.now + REST);
        } else {
            self.balancer.on_connected(server);
            self.rests_until[server] = None;
            self.balancer.on_start(server);
            self.active[server] += 1;
        }
    }

    /// Eligible now, by the rules as a reader would state them.
    fn candidates(&self, tried: &Tried) -> Vec<usize> {
        let up: Vec<usize> = (0..self.servers.len()).filter(|&server| self.up[server]).collect();
        let rests = |server: usize| self.rests_until[server].is_some_and(|until| self.now < until);
        let keep = |list: &[usize], rule: &dyn Fn(usize) -> bool| -> Vec<usize> {
            list.iter().copied().filter(|&server| rule(server)).collect()
        };
        let awake = keep(&up, &|server| !rests(server));
        let pool = if awake.is_empty() { up } else { awake };
        let primary = keep(&pool, &|server| !self.servers[server].backup);
        let pool = if primary.is_empty() { pool } else { primary };
        let untried = keep(&pool, &|server| !tried.contains(server));
        if untried.is_empty() { pool } else { untried }
    }

    fn check_pick(&self, picked: Option<usize>, tried: &Tried) {
        let candidates = self.candidates(tried);
        let Some(server) = picked else {
            assert!(candidates.is_empty(), "nobody picked, but {candidates:?} can answer");
            return;
        };
        assert!(candidates.contains(&server), "{server} picked, but only {candidates:?} may be");
        if self.method == Balance::LeastConn {
            let load = |server: usize| f64::from(self.active[server]) / f64::from(self.servers[server].weight);
            assert!(
                candidates.iter().all(|&other| load(server) <= load(other) + 1e-9),
                "{server} is not the least busy"
            );
        }
    }

    fn check_invariants(&self) {
        let slots = &self.balancer.slots;
        assert_eq!(slots.iter().map(|slot| slot.credit).sum::<i64>(), 0);
        // No server is owed (or owes) more than a few rounds, whatever set of servers was eligible in between.
        let round: i64 = slots.iter().map(|slot| slot.weight).sum();
        let bound = round * slots.len() as i64;
        assert!(slots.iter().all(|slot| slot.credit.abs() <= bound), "credit grows: {slots:?}");
        assert!(slots.iter().zip(&self.active).all(|(slot, &active)| slot.active.get() == active));
    }
}
