//! Tables on a fake clock, and a seeded simulation of servers that flap, fail by half, are slow, or start slowly.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config::model::FailureKinds;
use crate::metrics::{Histogram, Outcomes};

fn rules() -> OutlierRules {
    OutlierRules {
        failures: FailureKinds::of(FailureKinds::NAMES),
        consecutive: 5,
        window: Duration::from_secs(10),
        error_percent: 50,
        requests_min: 20,
        latency_factor: 4,
        latency_percentile: 90,
        latency_min: Duration::from_millis(20),
        ejection_time: Duration::from_secs(30),
        ejection_max: Duration::from_secs(300),
        max_ejected_percent: 50,
    }
}

/// Servers whose counters the test moves, sampled ten times a second.
struct Bench {
    outliers: Outliers,
    rules: OutlierRules,
    start: Instant,
    now: Instant,
    readings: Vec<Reading>,
    latencies: Vec<Histogram>,
    up: Vec<bool>,
}

impl Bench {
    fn new(servers: usize, rules: OutlierRules) -> Bench {
        let now = Instant::now();
        let readings = vec![Reading::default(); servers];
        Bench {
            outliers: Outliers::new(rules.clone(), &readings, now),
            rules,
            start: now,
            now,
            readings,
            latencies: (0..servers).map(|_| Histogram::default()).collect(),
            up: vec![true; servers],
        }
    }

    /// The next sample, a tenth of a second on.
    fn tick(&mut self) -> Vec<Change> {
        self.now += Duration::from_millis(100);
        let latencies = &self.latencies;
        let changes =
            self.outliers.on_sample(self.now, &self.readings, &self.up, |server| latencies[server].snapshot());
        self.check_invariants();
        changes
    }

    fn check_invariants(&self) {
        let all = self.readings.len();
        let ejected = (0..all).filter(|&server| self.outliers.is_ejected(server)).count();
        let most = (all * self.rules.max_ejected_percent as usize / 100).max(1);
        assert!(ejected <= most, "{ejected} of {all} ejected");
        assert!(ejected < all, "somebody is left");
    }

    fn run(&mut self, seconds: u64) -> Vec<Change> {
        (0..seconds * 10).flat_map(|_| self.tick()).collect()
    }
}

fn ejections(changes: &[Change]) -> Vec<(usize, u64, u32)> {
    let ejection = |change: &Change| match change {
        Change::Ejected { server, time, times, .. } => Some((*server, time.as_secs(), *times)),
        _ => None,
    };
    changes.iter().filter_map(ejection).collect()
}

#[test]
fn failures_in_a_row_eject_over_samples_and_workers() {
    let mut bench = Bench::new(3, rules());
    bench.readings[0].failures += 3;
    assert_eq!(bench.tick(), []);
    bench.readings[0].failures += 2;
    let reason = Reason::Consecutive(5);
    let time = Duration::from_secs(30);
    assert_eq!(bench.tick(), [Change::Ejected { server: 0, reason, time, times: 1 }]);
    assert!(bench.outliers.is_ejected(0));
    // A success in between breaks the row.
    bench.readings[1].failures += 4;
    bench.tick();
    bench.readings[1].successes += 1;
    bench.readings[1].failures += 4;
    bench.readings[1].row_max = 0;
    assert_eq!(bench.tick(), []);
    bench.readings[1].failures += 4;
    assert_eq!(bench.tick(), [], "only what came behind the success counts");
}

#[test]
fn a_streak_that_one_worker_saw_counts_while_others_succeed() {
    let mut bench = Bench::new(4, rules());
    bench.readings[2] = Reading { successes: 100, failures: 5, streaks: 1, row_max: 0 };
    assert_eq!(ejections(&bench.tick()), [(2, 30, 1)]);
}

#[test]
fn a_share_of_failures_ejects_when_there_are_enough_requests() {
    let mut bench = Bench::new(4, OutlierRules { consecutive: 0, ..rules() });
    for server in 0..4 {
        bench.readings[server].successes += 100;
    }
    bench.readings[1] = Reading { successes: 9, failures: 10, ..Reading::default() }; // too few
    bench.readings[2] = Reading { successes: 51, failures: 49, ..Reading::default() }; // too good
    bench.readings[3] = Reading { successes: 50, failures: 50, ..Reading::default() };
    let changes = bench.run(2);
    let reason = Reason::ErrorRate { failures: 50, requests: 100 };
    assert_eq!(changes, [Change::Ejected { server: 3, reason, time: Duration::from_secs(30), times: 1 }]);
    // What is older than the window counts no longer.
    bench.run(10);
    bench.readings[2].successes += 9;
    bench.readings[2].failures += 11;
    assert_eq!(ejections(&bench.run(3)), [(2, 30, 1)], "11 of 20 in this window");
}

#[test]
fn a_server_far_slower_than_the_median_of_the_others_is_ejected() {
    let mut bench = Bench::new(4, rules());
    let each = [10, 11, 12, 60].map(Duration::from_millis);
    for _ in 0..50 {
        for (server, latency) in each.into_iter().enumerate() {
            bench.latencies[server].record(latency);
            bench.readings[server].successes += 1;
        }
    }
    let changes = bench.run(2);
    assert_eq!(ejections(&changes), [(3, 30, 1)], "{changes:?}");
    let [Change::Ejected { reason: Reason::Latency { own, median, .. }, .. }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert!(*own >= Duration::from_millis(60) && *median < Duration::from_millis(13), "{own:?} {median:?}");
}

#[test]
fn who_fails_at_once_does_not_make_the_others_slow() {
    let mut bench = Bench::new(2, OutlierRules { consecutive: 0, error_percent: 0, ..rules() });
    for _ in 0..50 {
        bench.latencies[0].record(Duration::from_millis(100));
        bench.readings[0].successes += 1;
        bench.latencies[1].record(Duration::from_micros(100));
        bench.readings[1].failures += 1;
    }
    assert_eq!(bench.run(5), []);
}

#[test]
fn ejections_grow_up_to_the_maximum_and_calm_takes_them_back() {
    let mut bench = Bench::new(2, OutlierRules { ejection_max: Duration::from_secs(80), ..rules() });
    let mut times = Vec::new();
    for _ in 0..4 {
        bench.readings[0].failures += 5;
        let ejected = ejections(&bench.tick());
        times.extend(ejected.iter().map(|(_, seconds, times)| (*seconds, *times)));
        let changes = bench.run(81);
        assert!(matches!(changes[..], [Change::Returned { server: 0, .. }]), "{changes:?}");
        // The run past the return was calm, which takes a little back: fail again at once next time.
        bench.outliers.servers[0].times = times.len() as u32;
        bench.outliers.servers[0].calm_since = bench.now;
    }
    assert_eq!(times, [(30, 1), (60, 2), (80, 3), (80, 4)]);
    // Four ejections count; after 61 calm seconds two of them are forgotten.
    bench.run(61);
    assert_eq!(bench.outliers.servers[0].times, 2);
    bench.run(120);
    bench.readings[0].failures += 5;
    assert_eq!(ejections(&bench.tick()), [(0, 30, 1)], "all is forgotten");
}

#[test]
fn the_cap_and_the_last_one_up_are_respected_and_the_worst_goes_first() {
    let mut bench = Bench::new(4, rules());
    for (server, failures) in [5, 50, 6, 40].into_iter().enumerate() {
        bench.readings[server].failures += failures;
    }
    let changes = bench.tick();
    assert_eq!(ejections(&changes), [(1, 30, 1), (3, 30, 1)]);
    assert!(
        matches!(changes[2..], [Change::Spared { server: 2, .. }, Change::Spared { server: 0, .. }]),
        "{changes:?}"
    );
    bench.readings[0].failures += 50;
    assert_eq!(bench.tick(), [], "told already");
    // Half may be ejected, but the other one is down.
    let mut bench = Bench::new(2, rules());
    bench.up[1] = false;
    bench.readings[0].failures += 10;
    assert!(matches!(bench.tick()[..], [Change::Spared { server: 0, .. }]));
    // 0 %: nobody; a single server: never.
    let mut bench = Bench::new(3, OutlierRules { max_ejected_percent: 0, ..rules() });
    bench.readings[0].failures += 10;
    assert!(matches!(bench.tick()[..], [Change::Spared { server: 0, .. }]));
    let mut bench = Bench::new(1, OutlierRules { max_ejected_percent: 100, ..rules() });
    bench.readings[0].failures += 10;
    assert!(matches!(bench.tick()[..], [Change::Spared { server: 0, .. }]));
}

#[test]
fn what_happened_before_and_in_an_ejection_is_forgotten_at_its_end() {
    let mut bench = Bench::new(3, rules());
    bench.readings[0].failures += 50;
    bench.tick();
    bench.readings[0].failures += 100; // in panic, say
    let changes = bench.run(31);
    assert!(matches!(changes[..], [Change::Returned { server: 0, .. }]), "{changes:?}");
    bench.readings[0].failures += 4;
    bench.readings[0].row_max = 4;
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.run(10), [], "4 failures are below requests_min");
}

/// What a simulated server does with a request at a moment.
#[derive(Clone, Copy, Debug)]
enum Nature {
    Good,
    /// Fails all requests.
    Dead,
    /// Fails four of five.
    Half,
    /// Good and dead in turn, in seconds.
    Flapping(u64),
    /// Dead at first.
    Starter(u64),
    /// Answers well, ten times slower.
    Slow,
}

impl Nature {
    fn fails(self, second: u64, random: &mut StdRng) -> bool {
        match self {
            Nature::Good | Nature::Slow => false,
            Nature::Dead => true,
            Nature::Half => random.random_bool(0.8),
            Nature::Flapping(period) => (second / period) % 2 == 1,
            Nature::Starter(ready) => second < ready,
        }
    }
}

/// Two workers send requests to whoever is in service. Good servers stay, bad ones are out most of the time as far as the
/// cap allows, and whoever recovers comes back.
#[test]
fn simulated_servers_are_judged_by_what_they_do() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(4..9usize);
        let bad = random.random_range(1..=count / 2);
        let natures: Vec<Nature> = (0..count)
            .map(|server| match (server < bad, random.random_range(0..5)) {
                (false, _) => Nature::Good,
                (_, 0) => Nature::Dead,
                (_, 1) => Nature::Half,
                (_, 2) => Nature::Flapping(random.random_range(5..40)),
                (_, 3) => Nature::Starter(random.random_range(10..60)),
                _ => Nature::Slow,
            })
            .collect();
        let rules = OutlierRules { consecutive: 20, ejection_time: Duration::from_secs(10), ..rules() };
        let mut bench = Bench::new(count, rules.clone());
        let workers: Vec<Vec<Outcomes>> = (0..2).map(|_| (0..count).map(|_| Outcomes::default()).collect()).collect();
        let mut lives = vec![0; count];
        let mut out = vec![0u64; count];
        for tick in 0..6000u64 {
            let second = tick / 10;
            for n in 0..40 {
                let in_service: Vec<usize> = (0..count).filter(|&server| !bench.outliers.is_ejected(server)).collect();
                let server = in_service[random.random_range(0..in_service.len())];
                let outcomes = &workers[n % 2][server];
                match natures[server].fails(second, &mut random) {
                    true => outcomes.on_failure(rules.consecutive, lives[server]),
                    false => outcomes.on_success(),
                }
                let latency = if matches!(natures[server], Nature::Slow) { 100 } else { 10 };
                bench.latencies[server].record(Duration::from_millis(latency));
            }
            for server in 0..count {
                let seen = || workers.iter().map(|worker| &worker[server]);
                bench.readings[server] = Reading {
                    successes: seen().map(|o| o.successes.value()).sum(),
                    failures: seen().map(|o| o.failures.value()).sum(),
                    streaks: seen().map(|o| o.streaks.value()).sum(),
                    row_max: seen().map(|o| o.row.value()).max().unwrap_or(0),
                };
                out[server] += u64::from(bench.outliers.is_ejected(server));
            }
            for change in bench.tick() {
                match change {
                    Change::Ejected { server, time, times, .. } => {
                        let expected = rules.ejection_time * times;
                        assert_eq!(time, expected.min(rules.ejection_max), "seed {seed}");
                        assert!(!matches!(natures[server], Nature::Good), "seed {seed}: {server} is good");
                    }
                    Change::Returned { server, ejected } => {
                        lives[server] += 1;
                        assert!(ejected >= rules.ejection_time && ejected < rules.ejection_max + rules.window);
                    }
                    Change::Spared { .. } => {}
                }
            }
        }
        for (server, nature) in natures.iter().enumerate() {
            let share = out[server] as f64 / 6000.0;
            let told = || format!("seed {seed}: {server} of {natures:?} was out for {share}");
            match nature {
                Nature::Good => assert_eq!(out[server], 0, "{}", told()),
                Nature::Dead | Nature::Half | Nature::Slow => assert!(share > 0.7, "{}", told()),
                Nature::Flapping(_) => assert!(share > 0.1, "{}", told()),
                Nature::Starter(_) => assert!(share < 0.3 && !bench.outliers.is_ejected(server), "{}", told()),
            }
        }
        assert!(bench.now - bench.start >= Duration::from_secs(599));
    }
}

proptest::proptest! {
    /// Whatever the counters do, the cap holds, somebody is left, and an ejection ends in time.
    #[test]
    fn invariants_hold_for_any_counters(
        servers in 1..6usize,
        percent in 1..101u32,
        steps in proptest::collection::vec((0..6usize, 0..40u64, 0..40u64, 0..3u64, proptest::bool::ANY), 1..200),
    ) {
        let rules = OutlierRules { max_ejected_percent: percent, ejection_time: Duration::from_secs(1), ..rules() };
        let mut bench = Bench::new(servers, rules.clone());
        let mut since: Vec<Option<Instant>> = vec![None; servers];
        for (server, successes, failures, streaks, up) in steps {
            let server = server % servers;
            let reading = &mut bench.readings[server];
            reading.successes += successes;
            reading.failures += failures;
            reading.streaks += streaks;
            reading.row_max = failures;
            bench.up[server] = up;
            bench.tick();
            for (server, since) in since.iter_mut().enumerate() {
                match bench.outliers.is_ejected(server) {
                    true => {
                        let begun = *since.get_or_insert(bench.now);
                        proptest::prop_assert!(bench.now - begun <= rules.ejection_max + Duration::from_millis(100));
                    }
                    false => *since = None,
                }
            }
        }
    }
}
