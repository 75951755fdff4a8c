//! Seeded simulation of a fleet: processes that start slowly, die, hang and ignore SIGTERM, and an operator who reloads,
//! stops and changes his mind. Failures print the seed that repeats them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Action, Exit, Fleet, Rules, Standing, State};
use crate::util::random::Random;

const STEP: Duration = Duration::from_millis(100);

/// How the program behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Healthy,
    /// Dies, hangs at the start, ignores SIGTERM, all by chance.
    Moody,
}

struct Process {
    slot: usize,
    ready_at: Option<Instant>,
    dies_at: Option<Instant>,
    is_served: bool,
    heeds_term: bool,
}

struct World {
    seed: u64,
    random: Random,
    now: Instant,
    fleet: Fleet,
    program: Program,
    processes: HashMap<u64, Process>,
    /// Instances that were ever started, and those that were reaped.
    started: usize,
    reaped: usize,
    /// Since when it is allowed to have fewer ready ones than wanted.
    excused: bool,
    slots_most: usize,
}

impl World {
    fn new(seed: u64, rules: Rules, program: Program) -> World {
        World {
            seed,
            random: Random::new(seed),
            now: Instant::now(),
            slots_most: rules.slots(),
            fleet: Fleet::new(rules, seed),
            program,
            processes: HashMap::new(),
            started: 0,
            reaped: 0,
            excused: true,
        }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn later(&mut self, ms: usize) -> Instant {
        self.now + Duration::from_millis(self.random.below(ms) as u64)
    }

    fn start(&mut self, id: u64, slot: usize) {
        let moody = self.program == Program::Moody;
        self.started += 1;
        if moody && self.chance(10) {
            self.reaped += 1;
            self.fleet.on_exit(id, &Exit::NotStarted("no".into()), self.now);
            return;
        }
        self.fleet.on_started(id, 1 + id as u32);
        let hangs = moody && self.chance(10);
        let ready_at = self.later(3000);
        let dies = moody && self.chance(40);
        let dies_at = self.later(60_000);
        let heeds_term = !moody || self.chance(70);
        let process = Process {
            slot,
            ready_at: (!hangs).then_some(ready_at),
            dies_at: dies.then_some(dies_at),
            is_served: false,
            heeds_term,
        };
        assert!(self.processes.insert(id, process).is_none(), "seed {}", self.seed);
    }

    fn obey(&mut self) {
        while let Some(action) = self.fleet.next_action() {
            match action {
                Action::Start { id, slot } => self.start(id, slot),
                Action::Serve { id, .. } => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        process.is_served = true;
                    }
                }
                Action::Withdraw { id, .. } => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        process.is_served = false;
                    }
                }
                Action::Terminate { id } => {
                    let end = self.later(2000);
                    if let Some(process) = self.processes.get_mut(&id).filter(|process| process.heeds_term) {
                        process.dies_at = Some(end);
                    }
                }
                Action::Kill { id } => {
                    let now = self.now;
                    // The order, or the news of its end, may get lost.
                    if self.program == Program::Moody && self.chance(20) {
                        continue;
                    }
                    if let Some(process) = self.processes.get_mut(&id) {
                        process.dies_at = Some(now);
                    }
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let mut ids: Vec<u64> = self.processes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let process = &self.processes[&id];
            if process.dies_at.is_some_and(|at| at <= self.now) {
                self.processes.remove(&id);
                self.reaped += 1;
                let ended = self.fleet.on_exit(id, &Exit::Signal(9), self.now).expect("it is known");
                self.excused |= ended.is_unexpected;
            } else if process.ready_at.is_some_and(|at| at <= self.now) {
                self.processes.get_mut(&id).expect("it is there").ready_at = None;
                self.fleet.on_ready(id, self.now);
            }
            let drains = self.fleet.instances().iter().any(|i| i.id == id && i.state == State::Draining);
            if drains && self.chance(5) {
                self.fleet.on_drained(id, self.now);
            }
        }
        self.fleet.tick(self.now);
        self.obey();
        self.check();
    }

    fn check(&mut self) {
        let (seed, fleet) = (self.seed, &self.fleet);
        assert!(fleet.instances().len() <= self.slots_most, "seed {seed}: too many instances");
        assert_eq!(fleet.instances().len(), self.started - self.reaped, "seed {seed}: one is lost or was never there");
        let mut slots: Vec<usize> = self.processes.values().map(|process| process.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), self.processes.len(), "seed {seed}: two in one place");
        let served = self.processes.values().filter(|process| process.is_served).count();
        assert_eq!(served, fleet.ready(), "seed {seed}: requests go where none is ready");
        let wanted = fleet.rules().instances;
        if fleet.ready() >= wanted {
            self.excused = false;
        }
        assert!(self.excused || fleet.ready() >= wanted, "seed {seed}: {} of {wanted} ready", fleet.ready());
        let pause = fleet.backoff().until().map(|until| until.saturating_duration_since(self.now));
        let most = fleet.rules().failed_retry.max(fleet.rules().backoff_max) * 5 / 4;
        assert!(pause.is_none_or(|pause| pause <= most), "seed {seed}: {pause:?}");
    }

    /// All of them must come to their end.
    fn end(mut self) {
        self.fleet.stop();
        self.excused = true;
        for _ in 0..3000 {
            self.step();
            self.excused = true;
        }
        assert!(self.fleet.instances().is_empty() && self.processes.is_empty(), "seed {}", self.seed);
        assert_eq!(self.fleet.standing(self.now), Standing::Stopped);
    }
}

fn rules(random: &mut Random) -> Rules {
    let most = (random.below(3) == 0).then_some(200);
    let age = (random.below(3) == 0).then_some(Duration::from_secs(20));
    Rules { requests_max: most, age_max: age, ..Rules::plain(1 + random.below(4), 1 + random.below(3)) }
}

#[test]
fn a_healthy_program_never_serves_with_less_than_is_wanted_while_it_is_replaced() {
    for seed in 0..150 {
        let rules = rules(&mut Random::new(seed));
        let mut world = World::new(seed, rules, Program::Healthy);
        for _ in 0..1500 {
            if world.chance(1) {
                world.fleet.restart();
            }
            if world.chance(2) {
                let ids: Vec<u64> = world.fleet.instances().iter().map(|instance| instance.id).collect();
                let now = world.now;
                ids.into_iter().for_each(|id| world.fleet.on_usage(id, 1 + id * 37 % 300, 0, now));
            }
            world.step();
        }
        assert!(world.fleet.backoff().failures() == 0, "seed {seed}");
        world.end();
    }
}

#[test]
fn a_moody_program_stays_within_its_bounds() {
    for seed in 0..150 {
        let mut world = World::new(seed, rules(&mut Random::new(seed)), Program::Moody);
        for _ in 0..1500 {
            match world.random.below(400) {
                0 => world.fleet.restart(),
                1 => {
                    world.fleet.stop();
                    world.excused = true;
                }
                2 => world.fleet.start(),
                3 => {
                    let rules = rules(&mut world.random);
                    world.slots_most = world.slots_most.max(rules.slots());
                    world.fleet.adopt(rules, false);
                    world.excused = true;
                }
                _ => {}
            }
            if world.fleet.standing(world.now) == Standing::Stopped {
                world.excused = true;
            }
            world.step();
        }
        world.end();
    }
}
