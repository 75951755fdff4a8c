use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config::model::{FailBack, Hash};

/// Servers whose state a test decides.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) changes: u64,
    pub(super) up: Vec<bool>,
    pub(super) came_up: Vec<Option<Instant>>,
    pub(super) held: usize,
    pub(super) full: Vec<bool>,
    near: Option<usize>,
    queued: Vec<usize>,
}

impl World {
    pub(super) fn new(servers: usize) -> World {
        World {
            changes: 0,
            up: vec![true; servers],
            came_up: vec![None; servers],
            held: 0,
            full: vec![false; servers],
            near: None,
            queued: vec![0; servers],
        }
    }

    fn set(&mut self, server: usize, up: bool) {
        self.up[server] = up;
        self.changes += 1;
    }
}

impl Servers for World {
    fn changes(&self) -> u64 {
        self.changes
    }

    fn is_up(&self, server: usize) -> bool {
        self.up[server]
    }

    fn came_up(&self, server: usize) -> Option<Instant> {
        self.came_up[server]
    }

    fn tier_held(&self) -> usize {
        self.held
    }

    fn near(&self) -> Option<usize> {
        self.near
    }

    fn queued(&self, server: usize) -> usize {
        self.queued[server]
    }

    fn has_room(&self, server: usize, _part_of: impl Fn(u32) -> u32) -> bool {
        !self.full[server]
    }
}

pub(super) const METHODS: [Balance; 5] =
    [Balance::RandomTwo, Balance::RoundRobin, Balance::LeastConn, Balance::LeastTime, Balance::First];

pub(super) fn server(weight: u32) -> Server {
    Server { weight, ..Server::new("127.0.0.1:1".parse().unwrap()) }
}

fn in_tier(tier: u32) -> Server {
    Server { tier, ..server(1) }
}

/// An upstream of these servers with defaults.
pub(super) fn upstream(balance: Balance, servers: Vec<Server>) -> Upstream {
    let second = Duration::from_secs(1);
    let mut upstream = crate::config::Defaults::new(Default::default()).upstream("api");
    (upstream.balance, upstream.servers) = (balance, servers);
    upstream.fail_back = FailBack::After(Duration::ZERO);
    Upstream { connect_timeout: second, ..upstream }
}

fn weighted(balance: Balance, weights: &[u32]) -> (Balancer, World) {
    let servers = weights.iter().map(|&weight| server(weight)).collect();
    (Balancer::new(&upstream(balance, servers), 0, 1), World::new(weights.len()))
}

fn pick_at(balancer: &mut Balancer, world: &World, tried: &Tried, now: Instant) -> Option<usize> {
    match balancer.pick(Ask { tried, key: None, now }, world) {
        Picked::Server(server) => Some(server),
        Picked::Full | Picked::Nobody => None,
    }
}

fn pick(balancer: &mut Balancer, world: &World) -> usize {
    pick_at(balancer, world, &Tried::new(), Instant::now()).unwrap()
}

#[test]
fn weights_are_spread_not_bunched() {
    let (mut balancer, world) = weighted(Balance::RoundRobin, &[5, 1, 1]);
    let picks: Vec<usize> = (0..7).map(|_| pick(&mut balancer, &world)).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_nearest_one_is_left_only_for_a_queue_that_is_clearly_shorter() {
    let (mut balancer, mut world) = weighted(Balance::Local, &[1; 3]);
    world.near = Some(1);
    let at = |balancer: &mut Balancer, world: &mut World, queued: [usize; 3]| {
        world.queued = queued.to_vec();
        pick(balancer, world)
    };
    for (queued, expected) in [
        ([0, 0, 0], 1),
        ([0, SPILL_DEPTH - 1, 0], 1),
        ([16, SPILL_DEPTH, 16], 1),
        ([16, SPILL_DEPTH, 15], 2),
        ([0, SPILL_DEPTH, 0], 0),
        ([90, 100, 70], 1),
    ] {
        assert_eq!(at(&mut balancer, &mut world, queued), expected, "{queued:?}");
    }
    world.set(1, false);
    assert_eq!(at(&mut balancer, &mut world, [3, 0, 2]), 2, "down: whoever has the shortest queue");
    balancer.on_start(0);
    assert_eq!(at(&mut balancer, &mut world, [0, 0, 0]), 2, "of equal queues the less busy one");
    world.set(1, true);
    world.full[1] = true;
    assert_eq!(at(&mut balancer, &mut world, [0, 0, 0]), 2, "full");
    world.full[1] = false;
    let mut tried = Tried::new();
    tried.insert(1);
    assert_eq!(pick_at(&mut balancer, &world, &tried, Instant::now()), Some(2), "tried");
}

#[test]
fn the_nearest_one_has_what_its_weight_says() {
    let picks = |weights: &[u32], set: &dyn Fn(&mut World)| {
        let (mut balancer, mut world) = weighted(Balance::Local, weights);
        world.near = Some(1);
        set(&mut world);
        (0..80).filter(|_| pick(&mut balancer, &world) == 1).count()
    };
    assert_eq!([picks(&[1, 1, 1], &|_| {}), picks(&[1, 4, 1], &|_| {})], [80, 80]);
    assert_eq!([picks(&[4, 1, 1], &|_| {}), picks(&[2, 1, 2], &|_| {}), picks(&[1, 0, 1], &|_| {})], [20, 40, 0]);
    // Where the others cannot have it, it is still the nearest.
    assert_eq!(picks(&[4, 1, 1], &|world| (world.full[0], world.full[2]) = (true, true)), 80);
    assert_eq!(picks(&[4, 1], &|world| world.set(0, false)), 80);
}

#[test]
fn the_nearest_one_begins_slowly_again() {
    let servers = vec![server(1), server(1)];
    let upstream = Upstream { slow_start: Duration::from_secs(100), ..upstream(Balance::Local, servers) };
    let (mut balancer, mut world) = (Balancer::new(&upstream, 0, 1), World::new(2));
    let now = Instant::now();
    (world.near, world.came_up[0]) = (Some(0), Some(now));
    let mut near_at = |seconds: u64| {
        let at = now + Duration::from_secs(seconds);
        (0..100).filter(|_| pick_at(&mut balancer, &world, &Tried::new(), at) == Some(0)).count()
    };
    let [begin, half, end] = [near_at(10), near_at(50), near_at(100)];
    assert!((5..15).contains(&begin) && (40..60).contains(&half), "{begin} {half}");
    assert_eq!(end, 100);
}

#[test]
fn workers_start_at_different_servers() {
    let upstream = upstream(Balance::RoundRobin, vec![server(1), server(1), server(1)]);
    let first = |worker| pick(&mut Balancer::new(&upstream, worker, 0), &World::new(3));
    assert_eq!((0..6).map(first).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn tried_servers_come_last_but_before_the_next_tier() {
    for method in METHODS {
        let servers = vec![server(1), server(1), Server::backup("127.0.0.1:3".parse().unwrap())];
        let (mut balancer, mut world) = (Balancer::new(&upstream(method, servers), 0, 1), World::new(3));
        let now = Instant::now();
        let mut tried = Tried::new();
        tried.insert(0);
        for _ in 0..4 {
            assert_eq!(pick_at(&mut balancer, &world, &tried, now), Some(1));
        }
        tried.insert(1);
        for _ in 0..4 {
            assert!(pick_at(&mut balancer, &world, &tried, now).unwrap() < 2, "a server of the first tier is up");
        }
        world.set(1, false);
        world.set(2, false);
        assert_eq!(pick_at(&mut balancer, &world, &tried, now), Some(0), "the only one is tried again");
    }
}

#[test]
fn who_has_failed_somewhere_waits_elsewhere() {
    let (mut balancer, world) = weighted(Balance::RoundRobin, &[1, 1, 2]);
    let mut tried = Tried::new();
    pick(&mut balancer, &world);
    [1, 2].into_iter().for_each(|server| balancer.on_start(server));
    assert_eq!(balancer.waits_for(&tried), None, "it may go anywhere");
    tried.insert(0);
    assert_eq!(balancer.waits_for(&tried), Some(2));
    tried.insert(2);
    assert_eq!(balancer.waits_for(&tried), Some(1));
    tried.insert(1);
    assert_eq!(balancer.waits_for(&tried), None);
}

#[test]
fn nobody_up_means_nobody_and_full_is_something_else() {
    for method in METHODS {
        let (mut balancer, mut world) = weighted(method, &[1, 1]);
        let (tried, now) = (Tried::new(), Instant::now());
        let ask = Ask { tried: &tried, key: Some(7), now };
        world.full = vec![true; 2];
        assert_eq!(balancer.pick(ask, &world), Picked::Full);
        world.full[1] = false;
        for _ in 0..10 {
            assert_eq!(balancer.pick(ask, &world), Picked::Server(1));
        }
        (0..2).for_each(|server| world.set(server, false));
        assert_eq!(balancer.pick(ask, &world), Picked::Nobody);
        let mut none = Balancer::new(&upstream(method, Vec::new()), 3, 1);
        assert_eq!(none.pick(ask, &World::new(0)), Picked::Nobody);
    }
}

#[test]
fn a_server_without_weight_gets_only_what_belongs_to_it() {
    for method in METHODS {
        let (mut balancer, mut world) = weighted(method, &[0, 1]);
        assert!((0..20).all(|_| pick(&mut balancer, &world) == 1));
        let (tried, now) = (Tried::new(), Instant::now());
        let ask = Ask { tried: &tried, key: None, now };
        assert!(balancer.keeps(0, ask, &world));
        world.set(1, false);
        assert_eq!(balancer.pick(ask, &world), Picked::Nobody);
        world.set(0, false);
        assert!(!balancer.keeps(0, ask, &world));
    }
}

#[test]
fn tiers_are_used_in_order_while_they_have_enough() {
    let mut upstream = upstream(Balance::RoundRobin, vec![in_tier(3), in_tier(1), in_tier(1), in_tier(2), in_tier(2)]);
    upstream.tier_min = TierMin::Percent(51);
    let (mut balancer, mut world) = (Balancer::new(&upstream, 0, 1), World::new(5));
    let mut used = |world: &World| {
        let mut used: Vec<usize> = (0..8).map(|_| pick(&mut balancer, world)).collect();
        used.sort_unstable();
        used.dedup();
        used
    };
    assert_eq!(used(&world), [1, 2]);
    world.set(1, false);
    assert_eq!(used(&world), [3, 4], "one of two is less than 51 %");
    world.set(3, false);
    assert_eq!(used(&world), [0]);
    world.set(0, false);
    assert_eq!(used(&world), [2], "none has enough: the first that has any");
    for server in [0, 1, 3] {
        world.set(server, true);
    }
    assert_eq!(used(&world), [1, 2]);
    world.held = 1;
    world.changes += 1;
    assert_eq!(used(&world), [3, 4], "it is held");
    for server in [0, 3, 4] {
        world.set(server, false);
    }
    assert_eq!(used(&world), [1, 2], "another one rather than nowhere");
}

#[test]
fn a_failed_connect_rests_the_server_for_a_second() {
    for method in METHODS {
        let (mut balancer, world) = weighted(method, &[1, 1]);
        let (start, tried) = (Instant::now(), Tried::new());
        balancer.on_connect_failed(0, start);
        let almost = start + REST - Duration::from_millis(1);
        assert!((0..8).all(|_| pick_at(&mut balancer, &world, &tried, almost) == Some(1)));
        let mut run =
            |n: usize| (0..n).filter(|_| pick_at(&mut balancer, &world, &tried, start + REST) == Some(0)).count();
        assert_eq!(run(100), 1, "one trial, not every request: {method:?}");
        balancer.on_connected(0);
        let picks = (0..40).filter(|_| pick_at(&mut balancer, &world, &tried, start + REST) == Some(0)).count();
        assert!(picks >= 5, "back in turn: {picks} {method:?}");
    }
}

#[test]
fn the_only_server_does_not_rest() {
    let (mut balancer, mut world) = weighted(Balance::LeastConn, &[1, 1]);
    let (now, tried) = (Instant::now(), Tried::new());
    world.set(1, false);
    balancer.on_connect_failed(0, now);
    assert_eq!(pick_at(&mut balancer, &world, &tried, now), Some(0));
    world.set(1, true);
    balancer.on_connect_failed(1, now);
    assert!(pick_at(&mut balancer, &world, &tried, now).is_some(), "all rest: one is used all the same");
}

#[test]
fn the_next_tier_steps_in_while_the_first_refuses_connects() {
    let servers = vec![server(1), Server::backup("127.0.0.1:2".parse().unwrap())];
    let (mut balancer, world) = (Balancer::new(&upstream(Balance::RoundRobin, servers), 0, 1), World::new(2));
    let (now, tried) = (Instant::now(), Tried::new());
    balancer.on_connect_failed(0, now);
    assert_eq!(pick_at(&mut balancer, &world, &tried, now), Some(1));
    assert_eq!(pick_at(&mut balancer, &world, &tried, now + REST), Some(0));
}

#[test]
fn least_connections_prefers_the_idle_and_takes_turns_among_equals() {
    let (mut balancer, world) = weighted(Balance::LeastConn, &[1, 1, 1]);
    balancer.on_start(1);
    let picks: Vec<usize> = (0..4).map(|_| pick(&mut balancer, &world)).collect();
    assert_eq!(picks, [0, 2, 0, 2]);
    balancer.on_end(1);
    assert_eq!(balancer.active(1), 0);
    let mut three: Vec<usize> = (0..3).map(|_| pick(&mut balancer, &world)).collect();
    three.sort_unstable();
    assert_eq!(three, [0, 1, 2]);
}

#[test]
fn the_quickest_is_preferred_until_it_is_busy() {
    let (mut balancer, world) = weighted(Balance::LeastTime, &[1, 1]);
    let now = Instant::now();
    for (server, ms) in [(0, 10), (1, 30)] {
        balancer.on_answer(server, Duration::from_millis(ms), true, now);
    }
    let mut picks = Vec::new();
    for _ in 0..8 {
        let server = pick_at(&mut balancer, &world, &Tried::new(), now).unwrap();
        balancer.on_start(server);
        picks.push(server);
    }
    assert_eq!(picks.iter().filter(|&&server| server == 0).count(), 6, "three to one: {picks:?}");
}

#[test]
fn the_first_with_room_gets_it() {
    let (mut balancer, mut world) = weighted(Balance::First, &[1, 9, 1]);
    assert_eq!(pick(&mut balancer, &world), 0);
    world.full[0] = true;
    assert_eq!(pick(&mut balancer, &world), 1);
}

fn hashed(weights: &[u32], load_max_percent: Option<u32>) -> (Balancer, World) {
    let servers = weights
        .iter()
        .enumerate()
        .map(|(at, &weight)| Server { address: format!("127.0.0.1:{}", at + 1).parse().unwrap(), ..server(weight) });
    let mut upstream = upstream(Balance::RoundRobin, servers.collect());
    let names: Vec<(String, u32)> = upstream.servers.iter().map(|s| (s.address.to_string(), s.weight)).collect();
    let table = Arc::new(Rendezvous::new(names.iter().map(|(name, weight)| (name.as_str(), *weight))));
    upstream.hash = Some(Hash { key: Default::default(), load_max_percent, table });
    (Balancer::new(&upstream, 0, 1), World::new(weights.len()))
}

fn by_key(balancer: &mut Balancer, world: &World, key: u64) -> usize {
    let tried = Tried::new();
    match balancer.pick(Ask { tried: &tried, key: Some(key), now: Instant::now() }, world) {
        Picked::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_stays_with_its_server_and_others_move_only_when_theirs_leaves() {
    let (mut balancer, mut world) = hashed(&[1, 1, 2, 1], None);
    let keys: Vec<u64> = (0..500u32).map(|key| rendezvous::hash(&key.to_le_bytes())).collect();
    let mut home = |world: &World| keys.iter().map(|&key| by_key(&mut balancer, world, key)).collect::<Vec<_>>();
    let before = home(&world);
    assert_eq!(before, home(&world));
    world.set(2, false);
    let while_down = home(&world);
    assert!(before.iter().zip(&while_down).all(|(a, b)| a == b || *a == 2));
    assert!([0, 1, 3].iter().all(|server| before.iter().zip(&while_down).any(|(a, b)| *a == 2 && b == server)));
    world.set(2, true);
    assert_eq!(before, home(&world));
}

#[test]
fn a_slow_start_gives_keys_back_little_by_little() {
    let (mut balancer, mut world) = hashed(&[1, 1], None);
    balancer.slow_start = Duration::from_secs(256);
    let now = Instant::now();
    let keys: Vec<u64> = (0..1000u32).map(|key| rendezvous::hash(&key.to_le_bytes())).collect();
    let mut last = 0;
    for seconds in [1, 64, 128, 200, 256] {
        world.came_up[0] = now.checked_sub(Duration::from_secs(seconds));
        world.changes += 1;
        let there = keys.iter().filter(|&&key| by_key(&mut balancer, &world, key) == 0).count();
        assert!(there > last || seconds == 1, "{seconds}: {there}");
        assert!((there as f64 - 500.0 * seconds as f64 / 256.0).abs() < 60.0, "{seconds}: {there}");
        last = there;
    }
}

#[test]
fn a_server_that_came_back_gets_its_share_little_by_little() {
    for method in [Balance::RandomTwo, Balance::RoundRobin] {
        let (mut balancer, mut world) = weighted(method, &[1, 1]);
        balancer.slow_start = Duration::from_secs(256);
        let (start, tried) = (Instant::now(), Tried::new());
        world.came_up[0] = Some(start);
        world.changes += 1;
        for (seconds, least, most) in [(1, 0, 30), (85, 200, 400), (300, 450, 550)] {
            let now = start + Duration::from_secs(seconds);
            let n = (0..1000).filter(|_| pick_at(&mut balancer, &world, &tried, now) == Some(0)).count();
            // Two are always compared, and of idle ones the first drawn wins.
            assert!((least..=most).contains(&n), "{method:?} after {seconds} s: {n}");
        }
    }
}

/// Counts the looks at a server's room.
struct Counted(World, std::cell::Cell<u32>);

impl Servers for Counted {
    fn changes(&self) -> u64 {
        self.0.changes()
    }

    fn is_up(&self, server: usize) -> bool {
        self.0.is_up(server)
    }

    fn came_up(&self, server: usize) -> Option<Instant> {
        self.0.came_up(server)
    }

    fn tier_held(&self) -> usize {
        self.0.tier_held()
    }

    fn has_room(&self, server: usize, part_of: impl Fn(u32) -> u32) -> bool {
        self.1.set(self.1.get() + 1);
        self.0.has_room(server, part_of)
    }
}

#[test]
fn the_default_and_hashes_look_at_few_servers_however_many_there_are() {
    for count in [2, 50, 500] {
        let weights: Vec<u32> = (0..count).map(|server| 1 + server % 4).collect();
        for (mut balancer, key, most) in
            [(weighted(Balance::RandomTwo, &weights).0, false, 2), (hashed(&weights, None).0, true, 1)]
        {
            let world = Counted(World::new(weights.len()), Default::default());
            let (tried, now) = (Tried::new(), Instant::now());
            for n in 0..1000u32 {
                let key = key.then(|| rendezvous::hash(&n.to_le_bytes()));
                let Picked::Server(server) = balancer.pick(Ask { tried: &tried, key, now }, &world) else { panic!() };
                balancer.on_start(server);
                assert!(world.1.take() <= most, "{count} servers");
            }
        }
    }
}

proptest! {
    #[test]
    fn shares_follow_weights_exactly_over_a_cycle(
        weights in prop::collection::vec(1u32..=256, 1..12), worker in 0usize..64, lead in 0usize..500,
    ) {
        let servers = weights.iter().map(|&weight| server(weight)).collect();
        let mut balancer = Balancer::new(&upstream(Balance::RoundRobin, servers), worker, 1);
        let world = World::new(weights.len());
        for _ in 0..lead {
            pick(&mut balancer, &world);
        }
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..weights.iter().sum::<u32>() {
            counts[pick(&mut balancer, &world)] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    /// However the keys are chosen, nobody gets more than the bound while others have room.
    #[test]
    fn loads_stay_within_their_bound(
        weights in prop::collection::vec(1u32..6, 2..8), load_max in 101u32..300, keys in prop::collection::vec(0u64..3, 1..300),
    ) {
        let (mut balancer, world) = hashed(&weights, Some(load_max));
        let total: u32 = weights.iter().sum();
        for (n, key) in keys.into_iter().enumerate() {
            let server = by_key(&mut balancer, &world, rendezvous::hash(&key.to_le_bytes()));
            balancer.on_start(server);
            let even = (n + 1) as f64 * f64::from(weights[server]) / f64::from(total);
            prop_assert!(f64::from(balancer.active(server)) <= (even * f64::from(load_max) / 100.0).ceil() + 1e-9);
        }
    }

    /// Servers go up and down, fill up, requests start, fail and end at random; the rules hold at every step.
    #[test]
    fn rules_hold_in_a_seeded_simulation(seed: u64, method in prop::sample::select(&METHODS[..])) {
        let mut rng = StdRng::seed_from_u64(seed);
        let servers: Vec<Server> = (0..rng.random_range(1..9))
            .map(|_| Server { tier: rng.random_range(1..4), ..server(rng.random_range(0..=8)) })
            .collect();
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
    world: World,
    now: Instant,
    active: Vec<u32>,
    rests_until: Vec<Option<Instant>>,
}

impl Simulation {
    fn new(method: Balance, servers: Vec<Server>, worker: usize) -> Simulation {
        Simulation {
            method,
            balancer: Balancer::new(&upstream(method, servers.clone()), worker, 1),
            world: World::new(servers.len()),
            now: Instant::now(),
            active: vec![0; servers.len()],
            rests_until: vec![None; servers.len()],
            servers,
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        let server = rng.random_range(0..self.servers.len());
        match rng.random_range(0..12) {
            0 => self.world.set(server, !self.world.up[server]),
            1 => self.now += Duration::from_millis(rng.random_range(0..700)),
            2 => self.world.full[server] = !self.world.full[server],
            3 => {
                self.world.held = rng.random_range(0..3);
                self.world.changes += 1;
            }
            4 | 5 if self.active[server] > 0 => {
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
        let picked = self.balancer.pick(Ask { tried: &tried, key: None, now: self.now }, &self.world);
        self.check_pick(picked, &tried);
        let Picked::Server(server) = picked else { return };
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
            let took = Duration::from_micros(rng.random_range(0..10_000));
            self.balancer.on_answer(server, took, rng.random_bool(0.9), self.now);
        }
    }

    /// Members now, by the rules as a reader would state them.
    fn members(&self) -> Vec<usize> {
        let up: Vec<usize> = (0..self.servers.len())
            .filter(|&server| self.world.up[server] && self.servers[server].weight > 0)
            .collect();
        let rests = |server: &usize| self.rests_until[*server].is_some_and(|until| self.now < until);
        let mut tiers: Vec<u32> = self.servers.iter().map(|server| server.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let held = tiers.get(self.world.held).copied();
        // The one that is held comes first.
        tiers.sort_by_key(|&tier| (Some(tier) != held, tier));
        let order = |server: &usize| tiers.iter().position(|&tier| tier == self.servers[*server].tier);
        let awake: Vec<usize> = up.iter().copied().filter(|server| !rests(server)).collect();
        let pool = if awake.is_empty() { up } else { awake };
        let first = pool.iter().filter_map(order).min();
        pool.into_iter().filter(|server| order(server) == first).collect()
    }

    fn check_pick(&self, picked: Picked, tried: &Tried) {
        let members = self.members();
        let untried: Vec<usize> = members.iter().copied().filter(|&server| !tried.contains(server)).collect();
        let pool = if untried.is_empty() { members.clone() } else { untried };
        let candidates: Vec<usize> = pool.into_iter().filter(|&server| !self.world.full[server]).collect();
        let Picked::Server(server) = picked else {
            assert!(candidates.is_empty(), "{picked:?}, but {candidates:?} can answer");
            assert_eq!(picked == Picked::Nobody, members.is_empty());
            return;
        };
        assert!(candidates.contains(&server), "{server} picked, but only {candidates:?} may be");
        let load = |server: usize| f64::from(self.active[server]) / f64::from(self.servers[server].weight);
        match self.method {
            Balance::LeastConn => {
                let is_least = candidates.iter().all(|&other| load(server) <= load(other) + 1e-9);
                assert!(is_least, "{server} is not the least busy");
            }
            Balance::First => assert_eq!(candidates.iter().min(), Some(&server)),
            Balance::RandomTwo if candidates.len() > 1 && members.len() == candidates.len() => {
                // Compared with one other at least, which it is not above by more than the request it gets.
                let above = |server: usize| f64::from(self.active[server]) / f64::from(self.servers[server].weight);
                let plus_one =
                    |other: usize| (f64::from(self.active[other]) + 1.0) / f64::from(self.servers[other].weight);
                let is_worst =
                    candidates.iter().all(|&other| other == server || plus_one(other) <= above(server) - 1e-9);
                assert!(!is_worst, "{server} is the busiest of {candidates:?}");
            }
            _ => {}
        }
    }

    fn check_invariants(&self) {
        let slots = &self.balancer.slots;
        assert_eq!(slots.iter().map(|slot| slot.credit).sum::<i64>(), 0);
        // No server is owed (or owes) more than a few rounds, whatever set of servers was eligible in between.
        let round: i64 = slots.iter().map(|slot| i64::from(slot.share())).sum();
        let bound = round * slots.len() as i64;
        assert!(slots.iter().all(|slot| slot.credit.abs() <= bound), "credit grows: {slots:?}");
        assert!(slots.iter().zip(&self.active).all(|(slot, &active)| slot.active.get() == active));
        assert_eq!(self.balancer.active.get(), self.active.iter().sum::<u32>());
    }
}
