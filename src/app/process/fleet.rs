//! The instances of one application: commands and news come in, actions go out.
//!
//! What is wanted is looked at anew with each [`Fleet::tick`]: so many ready instances of the present generation. Old ones
//! are drained only while more are ready than are wanted, so that a replacement never takes anything away from the healthy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Backoff, Exit, Instance, Leaving, Rules, State};
use crate::util::random::Random;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process for a place, and tell [`Fleet::on_started`], [`Fleet::on_ready`] and [`Fleet::on_exit`].
    Start {
        /// Whose.
        id: u64,
        /// Its place.
        slot: usize,
    },
    /// Requests may go to the place.
    Serve {
        /// Whose.
        id: u64,
        /// Its place.
        slot: usize,
    },
    /// No new requests may go to the place; tell [`Fleet::on_drained`].
    Withdraw {
        /// Whose.
        id: u64,
        /// Its place.
        slot: usize,
    },
    /// SIGTERM to the process and its group.
    Terminate {
        /// Whose.
        id: u64,
    },
    /// SIGKILL to the process and its group.
    Kill {
        /// Whose.
        id: u64,
    },
}

/// How an application does as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As many instances are ready as are wanted.
    Ready,
    /// Fewer are, and others are starting.
    Starting,
    /// It waits behind failures.
    BackingOff,
    /// It has failed too often in a row.
    Failed,
    /// The operator has stopped it.
    Stopped,
}

impl Standing {
    /// All of them.
    pub const ALL: [Standing; 5] =
        [Standing::Ready, Standing::Starting, Standing::BackingOff, Standing::Failed, Standing::Stopped];

    /// Lower-case name, as shown on pages.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Ready => "ready",
            Standing::Starting => "starting",
            Standing::BackingOff => "backing_off",
            Standing::Failed => "failed",
            Standing::Stopped => "stopped",
        }
    }
}

/// What is told of an end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The instance as it was.
    pub instance: Instance,
    /// It was not told to end.
    pub is_unexpected: bool,
    /// It counts as a failure: the application backs off.
    pub is_failure: bool,
}

/// All instances of one application.
#[derive(Clone, Debug)]
pub struct Fleet {
    rules: Rules,
    generation: u64,
    runs: bool,
    instances: Vec<Instance>,
    backoff: Backoff,
    random: Random,
    next_id: u64,
    actions: VecDeque<Action>,
}

impl Fleet {
    /// One that will start its instances with the first [`Fleet::tick`].
    pub fn new(rules: Rules, seed: u64) -> Fleet {
        Fleet {
            rules,
            generation: 0,
            runs: true,
            instances: Vec::new(),
            backoff: Backoff::new(seed),
            random: Random::new(!seed),
            next_id: 0,
            actions: VecDeque::new(),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Those that are not reaped yet, the oldest first.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Failures in a row, and the pause behind them.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Instances that get requests.
    pub fn ready(&self) -> usize {
        self.count(|instance| instance.state == State::Ready)
    }

    /// How it does as a whole.
    pub fn standing(&self, now: Instant) -> Standing {
        match () {
            () if !self.runs => Standing::Stopped,
            () if self.backoff.has_failed(&self.rules) => Standing::Failed,
            () if self.count(|i| i.state == State::Ready && i.is_fresh()) >= self.rules.instances => Standing::Ready,
            () if !self.backoff.allows(now) => Standing::BackingOff,
            () => Standing::Starting,
        }
    }

    /// What is to be done next; in this order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Other rules. With `is_new_edition` all instances are replaced, and failures of the old one are forgotten.
    pub fn adopt(&mut self, rules: Rules, is_new_edition: bool) {
        self.rules = rules;
        if is_new_edition {
            self.generation += 1;
            self.backoff.forgive();
        }
    }

    /// All instances are replaced, one after the other; failures are forgotten, and one that was stopped runs again.
    pub fn restart(&mut self) {
        self.generation += 1;
        self.start();
    }

    /// It runs, and what has failed is tried at once.
    pub fn start(&mut self) {
        self.runs = true;
        self.backoff.forgive();
    }

    /// All instances finish what they have and end.
    pub fn stop(&mut self) {
        self.runs = false;
    }

    /// The process of an instance runs.
    pub fn on_started(&mut self, id: u64, pid: u32) {
        if let Some(instance) = self.find(id) {
            instance.pid = Some(pid);
        }
    }

    /// An instance can serve.
    pub fn on_ready(&mut self, id: u64, now: Instant) {
        let Some(instance) = self.find(id).filter(|instance| instance.state == State::Starting) else { return };
        instance.enter(State::Ready, now);
        let slot = instance.slot;
        self.actions.push_back(Action::Serve { id, slot });
        self.plan(now);
    }

    /// An instance that was withdrawn has no request left.
    pub fn on_drained(&mut self, id: u64, now: Instant) {
        if let Some(at) = self.position(id).filter(|at| self.instances[*at].state == State::Draining) {
            self.terminate(at, now);
        }
    }

    /// What an instance has used.
    pub fn on_usage(&mut self, id: u64, requests: u64, memory_bytes: u64, now: Instant) {
        let (memory_max, reset) = (self.rules.memory_bytes_max, self.rules.backoff_reset);
        let Some(instance) = self.find(id) else { return };
        (instance.requests, instance.memory_bytes) = (requests, memory_bytes);
        // One that starts has not shown yet what it needs.
        if instance.state != State::Ready || instance.leaving.is_some() {
            return;
        }
        let reason = match () {
            () if instance.requests_max.is_some_and(|max| requests >= max) => Leaving::Requests,
            () if memory_max.is_some_and(|max| memory_bytes > max) => Leaving::Memory,
            () => return,
        };
        instance.leaving = Some(reason);
        // The next one would be as large, and replaced as soon.
        if reason == Leaving::Memory && now.saturating_duration_since(instance.since) < reset {
            self.backoff.fail(&self.rules, now);
        }
    }

    /// An instance has not answered a request in time. It serves nobody any more, also where there is no other one: whoever came
    /// to it would wait as well.
    pub fn on_hung(&mut self, id: u64, now: Instant) {
        let hung = |instance: &&mut Instance| instance.state == State::Ready;
        let replaces = self.rules.replaces_hung;
        let Some(instance) = self.find(id).filter(hung).filter(|_| replaces) else { return };
        instance.leaving = Some(Leaving::Hung);
        instance.enter(State::Draining, now);
        let slot = instance.slot;
        self.actions.push_back(Action::Withdraw { id, slot });
        self.plan(now);
    }

    /// An instance that starts says that it does not take its config, of which others would say the same.
    ///
    /// Returns whether that is news.
    pub fn on_unfit(&mut self, id: u64, now: Instant) -> bool {
        let Some(at) = self.position(id).filter(|at| self.instances[*at].state == State::Starting) else {
            return false;
        };
        let instance = &mut self.instances[at];
        instance.leaving = Some(Leaving::Unfit);
        if instance.generation == self.generation {
            self.backoff.give_up(&self.rules, now);
        }
        self.terminate(at, now);
        true
    }

    /// The process of an instance has ended, or could not be started. `None`: there is no such instance.
    pub fn on_exit(&mut self, id: u64, exit: &Exit, now: Instant) -> Option<Ended> {
        let at = self.position(id)?;
        let instance = self.instances.remove(at);
        if instance.state == State::Ready {
            self.actions.push_back(Action::Withdraw { id, slot: instance.slot });
        }
        let is_unexpected = instance.state != State::Stopping;
        let was_short = match instance.state {
            State::Starting => true,
            State::Ready => now.saturating_duration_since(instance.since) < self.rules.backoff_reset,
            State::Draining => false,
            State::Stopping => instance.leaving == Some(Leaving::Late),
        };
        // What becomes of the old while a newer one starts says nothing of the newer one.
        let is_present = instance.generation == self.generation;
        let is_failure = was_short && is_present && !matches!(exit, Exit::Lost);
        if is_failure {
            self.backoff.fail(&self.rules, now);
        }
        self.plan(now);
        Some(Ended { instance, is_unexpected, is_failure })
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        let (reset, failed_at) = (self.rules.backoff_reset, self.backoff.failed_at());
        // One that has been well all the while says nothing of those that fail beside it.
        let is_later = |i: &Instance| failed_at.is_none_or(|failed_at| i.since > failed_at);
        let is_stable =
            |i: &Instance| i.state == State::Ready && is_later(i) && now.saturating_duration_since(i.since) >= reset;
        if self.instances.iter().any(|i| i.is_fresh() && i.generation == self.generation && is_stable(i)) {
            self.backoff.forgive();
        }
        self.expire(now);
        self.plan(now);
    }

    /// What has taken too long.
    fn expire(&mut self, now: Instant) {
        for at in 0..self.instances.len() {
            let instance = &mut self.instances[at];
            let waited = now.saturating_duration_since(instance.since);
            if instance.state == State::Ready && instance.expires.is_some_and(|expires| expires <= now) {
                instance.leaving.get_or_insert(Leaving::Age);
            }
            match instance.state {
                State::Starting if waited >= self.rules.start_timeout => {
                    instance.leaving = Some(Leaving::Late);
                    self.terminate(at, now);
                }
                State::Draining if waited >= self.rules.drain_timeout => self.terminate(at, now),
                State::Stopping if waited >= kill_after(&self.rules, instance.kills) => {
                    instance.kills += 1;
                    let id = instance.id;
                    self.actions.push_back(Action::Kill { id });
                }
                _ => {}
            }
        }
    }

    /// Starts what is missing and lets go what is too much.
    fn plan(&mut self, now: Instant) {
        let wanted = if self.runs { self.rules.instances } else { 0 };
        self.mark_leaving(wanted);
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            if instance.state == State::Starting && instance.leaving.is_some() {
                self.terminate(at, now);
            }
        }
        while self.count(Instance::is_fresh) < wanted && self.may_start(now) {
            let Some(slot) = self.free_slot() else { break };
            self.launch(slot, now);
        }
        // One whose place is not there any more gets no requests in any case.
        let has_place = |instance: &Instance| instance.slot < self.rules.slots();
        let mut serving = self.count(|i| i.state == State::Ready && has_place(i));
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            let (is_placed, is_ready) = (has_place(instance), instance.state == State::Ready);
            if is_ready && instance.leaving.is_some() && (!is_placed || serving > wanted) {
                serving -= usize::from(is_placed);
                let (id, slot) = (instance.id, instance.slot);
                self.instances[at].enter(State::Draining, now);
                self.actions.push_back(Action::Withdraw { id, slot });
            }
        }
    }

    fn mark_leaving(&mut self, wanted: usize) {
        let (generation, slots, runs) = (self.generation, self.rules.slots(), self.runs);
        for instance in &mut self.instances {
            let reason = match () {
                () if !runs => Leaving::Stop,
                () if instance.generation != generation => Leaving::Reload,
                () if instance.slot >= slots => Leaving::Surplus,
                () => continue,
            };
            instance.leaving.get_or_insert(reason);
        }
        let mut surplus = self.count(Instance::is_fresh).saturating_sub(wanted);
        // The youngest go first: those that only start, then those that have served least.
        for state in [State::Starting, State::Ready] {
            let of_state = self.instances.iter_mut().rev().filter(|i| i.is_fresh() && i.state == state);
            for instance in of_state.take(surplus) {
                instance.leaving = Some(Leaving::Surplus);
                surplus -= 1;
            }
        }
    }

    /// Behind a failure one is tried alone, until it is ready.
    fn may_start(&self, now: Instant) -> bool {
        let is_on_trial = self.backoff.failures() > 0 && self.count(|i| i.state == State::Starting) > 0;
        self.backoff.allows(now) && !is_on_trial
    }

    fn free_slot(&self) -> Option<usize> {
        let is_free = |slot: &usize| self.instances.iter().all(|instance| instance.slot != *slot);
        let is_room = self.instances.len() < self.rules.slots();
        (0..self.rules.slots()).find(is_free).filter(|_| is_room)
    }

    fn launch(&mut self, slot: usize, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        let less =
            |random: &mut Random, most: u64| most - (u128::from(most / 10) * random.below(1001) as u128 / 1000) as u64;
        let requests_max = self.rules.requests_max.map(|max| less(&mut self.random, max));
        let age_max = self.rules.age_max.map(|age| {
            let ms = less(&mut self.random, u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            Duration::from_millis(ms)
        });
        self.instances.push(Instance {
            id,
            slot,
            generation: self.generation,
            state: State::Starting,
            since: now,
            began: now,
            pid: None,
            leaving: None,
            was_ready: false,
            requests: 0,
            memory_bytes: 0,
            kills: 0,
            requests_max,
            expires: age_max.map(|age| now + age),
        });
        self.actions.push_back(Action::Start { id, slot });
    }

    fn terminate(&mut self, at: usize, now: Instant) {
        let instance = &mut self.instances[at];
        instance.enter(State::Stopping, now);
        let id = instance.id;
        self.actions.push_back(Action::Terminate { id });
    }

    fn count(&self, is_it: impl Fn(&Instance) -> bool) -> usize {
        self.instances.iter().filter(|instance| is_it(instance)).count()
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.instances.iter().position(|instance| instance.id == id)
    }

    fn find(&mut self, id: u64) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }
}

/// How long an instance may take to end before SIGKILL, which it has had so often. Once is enough as a rule; but whoever is to
/// send it may not have got the order, or what it tells of the end may be lost.
fn kill_after(rules: &Rules, kills: u32) -> Duration {
    rules.kill_timeout + (rules.kill_timeout + KILL_AGAIN) * kills
}

/// From one SIGKILL to the next, beside `kill_timeout`.
const KILL_AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn actions(fleet: &mut Fleet) -> Vec<Action> {
        std::iter::from_fn(|| fleet.next_action()).collect()
    }

    /// One whose first instances are ready.
    fn running(rules: Rules, now: Instant) -> Fleet {
        let mut fleet = Fleet::new(rules, 7);
        fleet.tick(now);
        for action in actions(&mut fleet) {
            if let Action::Start { id, .. } = action {
                fleet.on_started(id, 1000 + id as u32);
                fleet.on_ready(id, now);
            }
        }
        actions(&mut fleet);
        fleet
    }

    #[test]
    fn a_reload_warms_the_new_before_it_drains_the_old() {
        let now = Instant::now();
        let mut fleet = running(Rules::plain(2, 1), now);
        assert_eq!((fleet.ready(), fleet.standing(now)), (2, Standing::Ready));
        fleet.restart();
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 2, slot: 2 }], "there is room for one more");
        fleet.on_ready(2, now);
        let done = actions(&mut fleet);
        assert_eq!(done, [Action::Serve { id: 2, slot: 2 }, Action::Withdraw { id: 0, slot: 0 }]);
        fleet.on_drained(0, now);
        assert_eq!(actions(&mut fleet), [Action::Terminate { id: 0 }]);
        let ended = fleet.on_exit(0, &Exit::Signal(15), now).unwrap();
        assert!(!ended.is_unexpected && !ended.is_failure);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 3, slot: 0 }]);
        fleet.on_ready(3, now);
        assert_eq!(actions(&mut fleet)[1], Action::Withdraw { id: 1, slot: 1 });
        fleet.on_drained(1, now);
        fleet.on_exit(1, &Exit::Code(0), now);
        assert_eq!((fleet.ready(), fleet.instances().len(), fleet.standing(now)), (2, 2, Standing::Ready));
    }

    #[test]
    fn a_new_generation_that_fails_leaves_the_old_one_alone() {
        let mut now = Instant::now();
        let mut fleet = running(Rules::plain(1, 1), now);
        fleet.restart();
        for _ in 0..30 {
            fleet.tick(now);
            for action in actions(&mut fleet) {
                match action {
                    Action::Start { id, .. } => assert!(fleet.on_exit(id, &Exit::Code(1), now).unwrap().is_failure),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(fleet.ready(), 1);
            now += S;
        }
        assert_eq!(fleet.standing(now), Standing::Failed);
        fleet.restart();
        assert_eq!(fleet.standing(now), Standing::Starting);
    }

    #[test]
    fn who_does_not_end_is_killed_and_who_is_late_has_failed() {
        let now = Instant::now();
        let mut fleet = Fleet::new(Rules::plain(1, 1), 1);
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 0, slot: 0 }]);
        fleet.tick(now + 30 * S);
        assert_eq!(actions(&mut fleet)[0], Action::Terminate { id: 0 });
        fleet.tick(now + 39 * S);
        assert!(!actions(&mut fleet).contains(&Action::Kill { id: 0 }));
        fleet.tick(now + 40 * S);
        assert!(actions(&mut fleet).contains(&Action::Kill { id: 0 }));
        // An order, or the news of the end, may be lost on its way.
        for (then, is_killed) in [(59, false), (60, true), (79, false), (80, true)] {
            fleet.tick(now + then * S);
            assert_eq!(actions(&mut fleet).contains(&Action::Kill { id: 0 }), is_killed, "{then}");
        }
        let ended = fleet.on_exit(0, &Exit::Signal(9), now + 81 * S).unwrap();
        assert!(ended.is_failure && !ended.is_unexpected);
    }

    #[test]
    fn one_that_is_well_does_not_hide_that_another_one_fails() {
        let mut now = Instant::now();
        let mut fleet = running(Rules::plain(2, 1), now);
        now += 60 * S;
        fleet.tick(now);
        fleet.on_exit(1, &Exit::Code(1), now);
        let mut starts = 0;
        for _ in 0..600 {
            now += S / 10;
            fleet.tick(now);
            while let Some(action) = fleet.next_action() {
                if let Action::Start { id, .. } = action {
                    starts += 1;
                    fleet.on_exit(id, &Exit::Code(1), now);
                }
            }
        }
        assert!((3..12).contains(&starts), "{starts} in a minute");
        assert!(fleet.backoff().failures() > 2 && fleet.ready() == 1);
    }

    #[test]
    fn a_limit_that_is_too_low_is_no_storm() {
        let now = Instant::now();
        let rules = Rules { memory_bytes_max: Some(1 << 20), age_max: Some(2 * S), ..Rules::plain(1, 1) };
        let mut fleet = Fleet::new(rules.clone(), 1);
        fleet.tick(now);
        actions(&mut fleet);
        fleet.on_usage(0, 0, 1 << 30, now + S);
        fleet.tick(now + 9 * S);
        assert_eq!(actions(&mut fleet), [], "one that starts is left in peace");
        let mut fleet = running(Rules { age_max: None, ..rules }, now);
        fleet.on_usage(0, 0, 1 << 30, now + S);
        fleet.tick(now + S);
        assert_eq!((fleet.ready(), actions(&mut fleet)), (1, vec![]), "the next one has a pause before it");
        fleet.tick(now + 5 * S);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 1, slot: 1 }]);
    }

    #[test]
    fn limits_replace_one_that_has_used_too_much() {
        let now = Instant::now();
        let rules = Rules { requests_max: Some(1000), memory_bytes_max: Some(1 << 20), ..Rules::plain(1, 1) };
        for (requests, memory, reason) in [(1000, 0, Leaving::Requests), (5, (1 << 20) + 1, Leaving::Memory)] {
            let mut fleet = running(rules.clone(), now);
            let now = now + 60 * S;
            fleet.on_usage(0, 899, 1 << 20, now);
            fleet.tick(now);
            assert_eq!(actions(&mut fleet), []);
            fleet.on_usage(0, requests, memory, now);
            fleet.tick(now);
            assert_eq!(actions(&mut fleet), [Action::Start { id: 1, slot: 1 }]);
            assert_eq!(fleet.instances()[0].leaving, Some(reason));
            assert_eq!(fleet.ready(), 1, "it serves until the other one can");
        }
        let mut fleet = running(Rules { age_max: Some(100 * S), ..Rules::plain(1, 1) }, now);
        fleet.tick(now + 89 * S);
        assert_eq!(actions(&mut fleet), []);
        fleet.tick(now + 100 * S);
        assert_eq!(actions(&mut fleet).len(), 1);
    }

    /// Instances that were started together do not end together.
    #[test]
    fn limits_are_up_to_a_tenth_less_by_chance() {
        let now = Instant::now();
        let rules = Rules { requests_max: Some(1000), age_max: Some(100 * S), ..Rules::plain(4, 1) };
        let (mut ages, mut counts) = (Vec::new(), Vec::new());
        for seed in 0..250 {
            let mut fleet = Fleet::new(rules.clone(), seed);
            fleet.tick(now);
            for instance in fleet.instances() {
                ages.push(instance.expires.expect("it has an age") - now);
                counts.push(instance.requests_max.expect("it has a limit"));
            }
        }
        let is_spread = |values: &mut Vec<u64>, least: u64, most: u64| {
            values.sort_unstable();
            assert!(values[0] >= least && values[values.len() - 1] <= most, "{values:?}");
            // A thousand draws: none in a tenth of the range is as good as impossible.
            let tenth = (most - least) / 10;
            for part in 0..10 {
                let (from, to) = (least + part * tenth, least + (part + 1) * tenth);
                assert!(values.iter().any(|value| (from..=to).contains(value)), "none from {from} to {to}");
            }
        };
        assert_eq!(ages.len(), 1000);
        is_spread(&mut ages.iter().map(|age| age.as_millis() as u64).collect(), 90_000, 100_000);
        is_spread(&mut counts, 900, 1000);
    }

    #[test]
    fn one_that_does_not_take_its_config_has_failed_at_once() {
        let now = Instant::now();
        let mut fleet = running(Rules::plain(1, 1), now);
        assert!(!fleet.on_unfit(0, now), "one that serves has taken it");
        fleet.restart();
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 1, slot: 1 }]);
        assert!(fleet.on_unfit(1, now) && !fleet.on_unfit(1, now));
        assert_eq!(actions(&mut fleet), [Action::Terminate { id: 1 }]);
        assert!(!fleet.on_exit(1, &Exit::Code(0), now).unwrap().is_failure, "it is known");
        assert_eq!((fleet.standing(now), fleet.ready(), fleet.backoff().failures()), (Standing::Failed, 1, 5));
        fleet.tick(now + 30 * S);
        assert_eq!(actions(&mut fleet), []);
        fleet.adopt(Rules::plain(1, 1), true);
        fleet.tick(now + 30 * S);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 2, slot: 1 }]);
    }

    #[test]
    fn one_that_hangs_gets_nothing_more_at_once() {
        let now = Instant::now();
        let rules = Rules { replaces_hung: true, ..Rules::plain(1, 1) };
        let mut fleet = running(rules, now);
        fleet.on_hung(0, now);
        let done = actions(&mut fleet);
        assert_eq!(done, [Action::Withdraw { id: 0, slot: 0 }, Action::Start { id: 1, slot: 1 }]);
        fleet.on_hung(0, now);
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [], "it is known");
        fleet.on_drained(0, now);
        assert_eq!(actions(&mut fleet), [Action::Terminate { id: 0 }]);
        let ended = fleet.on_exit(0, &Exit::Signal(15), now).unwrap();
        assert_eq!((ended.instance.leaving, ended.is_failure), (Some(Leaving::Hung), false));
        let mut fleet = running(Rules::plain(1, 1), now);
        fleet.on_hung(0, now);
        assert_eq!((fleet.ready(), actions(&mut fleet)), (1, vec![]), "that is not asked for");
    }

    #[test]
    fn fewer_and_more_instances_and_none() {
        let now = Instant::now();
        let mut fleet = running(Rules::plain(3, 1), now);
        fleet.adopt(Rules::plain(1, 1), false);
        fleet.tick(now);
        let done = actions(&mut fleet);
        assert_eq!(done, [Action::Withdraw { id: 1, slot: 1 }, Action::Withdraw { id: 2, slot: 2 }]);
        fleet.adopt(Rules::plain(2, 1), false);
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [], "there is no room before one of them has ended");
        fleet.on_exit(1, &Exit::Code(0), now);
        assert_eq!(actions(&mut fleet), [Action::Start { id: 3, slot: 1 }]);
        fleet.stop();
        fleet.tick(now);
        assert_eq!(actions(&mut fleet), [Action::Terminate { id: 3 }, Action::Withdraw { id: 0, slot: 0 }]);
        assert_eq!(fleet.standing(now), Standing::Stopped);
    }

    #[test]
    fn one_that_dies_late_is_replaced_at_once_and_one_that_dies_soon_is_not() {
        let now = Instant::now();
        let mut fleet = running(Rules::plain(1, 1), now);
        let ended = fleet.on_exit(0, &Exit::Signal(9), now + 11 * S).unwrap();
        assert!(ended.is_unexpected && !ended.is_failure);
        let done = actions(&mut fleet);
        assert_eq!(done, [Action::Withdraw { id: 0, slot: 0 }, Action::Start { id: 1, slot: 0 }]);
        fleet.on_ready(1, now + 12 * S);
        assert!(fleet.on_exit(1, &Exit::Signal(9), now + 13 * S).unwrap().is_failure);
        assert_eq!(fleet.standing(now + 13 * S), Standing::BackingOff);
    }
}
