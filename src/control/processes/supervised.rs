//! One application: its fleet, and the servers of its upstream that are the places of instances.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::client::Keeper;
use super::launch::{self, Rights};
use super::letters::Order;
use super::view::{InstanceView, ProcessView};
use super::{Heard, Wanted, output, php, ready};
use crate::app::process::{Action, Exit, Fleet, Instance, Leaving, MARK, Standing, State};
use crate::config::model::{ProcessApp, Server};
use crate::control::Shared;
use crate::control::server_state::ServerState;
use crate::control::shared::EventLevel;
use crate::metrics::ServerStats;
use crate::runtime::sys::processes::Seen;

/// Data workers may have chosen a server in the moment before they learn that it gets no more: so long its requests are not
/// all counted.
const WITHDRAWN_MIN: Duration = Duration::from_millis(250);

/// Where an instance may be: a server of the upstream.
struct Place {
    server: Server,
    state: Arc<ServerState>,
    /// Of each data worker.
    stats: Vec<Arc<ServerStats>>,
    /// The same under configs before one that had it not: requests that came by them are not over yet.
    earlier: Vec<Arc<ServerStats>>,
}

impl Place {
    fn active(&self) -> u64 {
        self.stats.iter().chain(&self.earlier).map(|stats| stats.active.value()).sum()
    }

    /// Counts of before that are not among `stats`, and are of requests under way.
    fn not_over(&self, stats: &[Arc<ServerStats>]) -> Vec<Arc<ServerStats>> {
        let is_past = |old: &&Arc<ServerStats>| stats.iter().all(|new| !Arc::ptr_eq(old, new));
        let past = self.stats.iter().chain(&self.earlier).filter(is_past);
        past.filter(|stats| stats.active.value() > 0).cloned().collect()
    }

    fn timeouts(&self) -> u64 {
        self.stats.iter().map(|stats| stats.response_timeouts.value()).sum()
    }

    fn requests(&self) -> u64 {
        self.stats.iter().map(|stats| stats.requests.value()).sum()
    }
}

/// An instance from the order to start it until it is reaped.
struct Running {
    /// Requests that the place had before, and how many of them were not answered in time.
    requests_before: u64,
    timeouts_before: u64,
    /// Asks it whether it can serve.
    probe: Option<tokio::task::JoinHandle<()>>,
    withdrawn: Option<Instant>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

/// What has happened to the instances of an application.
#[derive(Default)]
struct Counts {
    /// Instances started in the place of others.
    restarts: u64,
    /// Ends by kind, and reasons for which instances were replaced.
    exits: BTreeMap<&'static str, u64>,
    replaced: BTreeMap<&'static str, u64>,
}

pub(super) struct Supervised {
    app: ProcessApp,
    /// First half of the numbers by which the keeper knows its instances.
    serial: u32,
    fleet: Fleet,
    /// By slot; those of instances that go stay although the config has them no more.
    places: Vec<Place>,
    /// The config that its upstream is in, and its index.
    home: (Arc<Shared>, usize),
    running: HashMap<u64, Running>,
    is_leaving: bool,
    /// Another one of its name has its upstream.
    is_succeeded: bool,
    /// The config in which it is so no more.
    left_for: Option<Arc<Shared>>,
    started: u64,
    counts: Counts,
    last_exit: Option<String>,
    /// Why the last instance did not take its config.
    unfit: Option<String>,
}

/// What it takes to start, stop and hear instances.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) rights: &'a Rights,
    /// What [`MARK`] begins with.
    pub(super) mark: &'a str,
    pub(super) heard: &'a mpsc::Sender<Heard>,
}

impl Supervised {
    /// Panics when the config has no upstream for it.
    pub(super) fn new(app: &ProcessApp, shared: &Arc<Shared>, serial: u32) -> Supervised {
        let mut supervised = Supervised {
            app: app.clone(),
            serial,
            fleet: Fleet::new(app.rules.clone(), rand::random()),
            places: Vec::new(),
            home: (shared.clone(), 0),
            running: HashMap::new(),
            is_leaving: false,
            is_succeeded: false,
            left_for: None,
            started: 0,
            counts: Counts::default(),
            last_exit: None,
            unfit: None,
        };
        supervised.move_to(shared);
        supervised
    }

    pub(super) fn name(&self) -> &str {
        &self.app.name
    }

    /// Whether the config has it no more.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether it can go on as `app` of `shared`: what is called so, and listens where this one does, as far as both have places.
    pub(super) fn is_before(&self, app: &ProcessApp, shared: &Shared) -> bool {
        let upstream = shared.config.upstreams.iter().find(|upstream| upstream.name == app.upstream);
        let servers = upstream.map_or(&[][..], |upstream| &upstream.servers);
        let mut pairs = self.places.iter().zip(servers);
        self.app.name == app.name && pairs.all(|(place, server)| place.server.address == server.address)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.is_leaving && self.fleet.instances().is_empty()
    }

    /// Goes on with what was counted of one of the same name that is gone: a counter does not fall.
    pub(super) fn inherit(&mut self, gone: Supervised) {
        let Counts { restarts, exits, replaced } = gone.counts;
        self.counts.restarts += restarts;
        for (all, of_gone) in [(&mut self.counts.exits, exits), (&mut self.counts.replaced, replaced)] {
            of_gone.into_iter().for_each(|(kind, count)| *all.entry(kind).or_default() += count);
        }
    }

    pub(super) fn kill_timeout(&self) -> Duration {
        self.app.rules.kill_timeout
    }

    /// Whether requests can be answered, or are not to be.
    pub(super) fn serves(&self) -> bool {
        self.is_leaving || self.fleet.ready() > 0 || self.fleet.standing(Instant::now()) == Standing::Stopped
    }

    /// Whether there is nothing to wait for: it serves as it should, or has failed, or is not to run.
    pub(super) fn is_settled(&self) -> bool {
        self.is_leaving
            || self.fleet.ready() >= self.app.rules.instances
            || self.fleet.backoff().failures() > 0
            || self.fleet.standing(Instant::now()) == Standing::Stopped
    }

    /// Goes on under another config.
    pub(super) fn adopt(&mut self, app: &ProcessApp, shared: &Arc<Shared>) {
        self.move_to(shared);
        let is_new = self.app.launch != app.launch || self.app.ready_path != app.ready_path;
        if is_new && !self.is_leaving {
            tracing::info!(app = %app.name, "the application has changed: its instances are replaced");
        }
        (self.is_succeeded, self.left_for) = (false, None);
        if app.rules.replaces_hung && !self.app.rules.replaces_hung {
            self.forget_timeouts();
        }
        if std::mem::take(&mut self.is_leaving) {
            self.fleet.start();
        }
        self.fleet.adopt(app.rules.clone(), is_new);
        self.app = app.clone();
    }

    /// It is gone from the config that is `shared` now, or another one `is_there` in its place: its instances finish what they
    /// have.
    pub(super) fn leave(&mut self, is_there: bool, shared: &Arc<Shared>) {
        if is_there && !self.is_leaving {
            tracing::info!(app = %self.app.name, "the application listens elsewhere now: what it was finishes what it has");
        }
        if !self.is_leaving {
            self.left_for = Some(shared.clone());
        }
        (self.is_leaving, self.is_succeeded) = (true, is_there);
        self.fleet.stop();
    }

    fn move_to(&mut self, shared: &Arc<Shared>) {
        let upstreams = &shared.config.upstreams;
        let u = upstreams.iter().position(|upstream| upstream.name == self.app.upstream);
        let u = u.expect("each process has an upstream, see config::compile::app");
        for (s, server) in upstreams[u].servers.iter().enumerate() {
            let stats: Vec<_> = shared.workers.iter().map(|worker| worker.servers[u][s].clone()).collect();
            let mut place =
                Place { server: server.clone(), state: shared.servers[u][s].clone(), stats, earlier: Vec::new() };
            match self.places.get_mut(s) {
                Some(known) => {
                    place.earlier = known.not_over(&place.stats);
                    *known = place;
                }
                None => self.places.push(place),
            }
        }
        self.home = (shared.clone(), u);
    }

    pub(super) fn want(&mut self, what: Wanted) {
        tracing::info!(app = %self.app.name, ?what, "the operator wants something of an application");
        match what {
            Wanted::Restart => self.fleet.restart(),
            Wanted::Stop => self.fleet.stop(),
            Wanted::Start => self.fleet.start(),
        }
    }

    /// Whether the keeper's number is that of an instance of it.
    pub(super) fn has(&self, id: u64) -> bool {
        id >> 32 == u64::from(self.serial)
    }

    fn number(&self, id: u64) -> u64 {
        u64::from(self.serial) << 32 | id & 0xFFFF_FFFF
    }

    fn instance(&self, id: u64) -> Option<&Instance> {
        self.fleet.instances().iter().find(|instance| self.number(instance.id) == id)
    }

    pub(super) fn on_started(&mut self, id: u64, pid: u32, heard: &mpsc::Sender<Heard>) {
        let Some(instance) = self.instance(id).cloned() else { return };
        self.fleet.on_started(instance.id, pid);
        tracing::info!(app = %self.app.name, instance = instance.slot, pid, "instance started");
        let probe = ready::Probe::new(&self.app, &self.places[instance.slot].server);
        if let Some(running) = self.running.get_mut(&id) {
            let heard = heard.clone();
            running.probe = Some(tokio::spawn(async move {
                probe.wait().await;
                // An error is the end of the supervisor.
                let _ = heard.send(Heard::Ready(id)).await;
            }));
        }
    }

    pub(super) fn on_ready(&mut self, id: u64, now: Instant) {
        // One that is to end may have answered before it knew.
        let starts = |instance: &&Instance| instance.state == State::Starting;
        let Some(instance) = self.instance(id).filter(starts).cloned() else { return };
        let took_ms = now.saturating_duration_since(instance.began).as_millis() as u64;
        tracing::info!(app = %self.app.name, instance = instance.slot, pid = instance.pid, took_ms, "instance ready");
        self.unfit = None;
        self.fleet.on_ready(instance.id, now);
    }

    pub(super) fn on_unfit(&mut self, id: u64, reason: String, now: Instant, shared: &Shared) {
        let Some((fleet_id, slot)) = self.instance(id).map(|instance| (instance.id, instance.slot)) else { return };
        if !self.fleet.on_unfit(fleet_id, now) {
            return;
        }
        tracing::error!(app = %self.app.name, instance = slot, reason, "application has failed: it does not take its config");
        shared.note(EventLevel::Error, format!("application {} has failed: {reason}", self.app.name));
        self.unfit = Some(reason);
    }

    /// Notes how an instance has ended, and tells what the operator must know.
    pub(super) fn on_exit(&mut self, id: u64, exit: &Exit, now: Instant, shared: &Shared) {
        let Some(fleet_id) = self.instance(id).map(|instance| instance.id) else { return };
        let Some(ended) = self.fleet.on_exit(fleet_id, exit, now) else { return };
        // Its place may be withdrawn yet: the fleet says so with its next action, of which the slot is enough.
        self.running.remove(&id);
        let instance = &ended.instance;
        if self.is_succeeded {
            self.set_vacant(instance.slot, true);
        }
        *self.counts.exits.entry(exit.kind()).or_default() += 1;
        if let Some(reason) = instance.leaving {
            *self.counts.replaced.entry(reason.name()).or_default() += 1;
        }
        self.last_exit = Some(exit.to_string());
        let (app, slot, pid) = (&self.app.name, instance.slot, instance.pid);
        let up_s = now.saturating_duration_since(instance.began).as_secs();
        let leaving = instance.leaving.map_or("", Leaving::name);
        if !ended.is_unexpected && !ended.is_failure {
            tracing::info!(app, instance = slot, pid, reason = leaving, %exit, up_s, "instance ended");
            return;
        }
        let failures = self.fleet.backoff().failures();
        let again_ms =
            self.fleet.backoff().until().map(|until| until.saturating_duration_since(now).as_millis() as u64);
        let what = match instance.leaving {
            Some(Leaving::Late) => "instance was not ready within `start_timeout` and was stopped",
            _ => "instance ended by itself",
        };
        let state = instance.state.name();
        tracing::warn!(app, instance = slot, pid, state, %exit, up_s, failures, again_ms, "{what}");
        shared.note(EventLevel::Warn, format!("instance of application {app} ended: {exit}"));
        if ended.is_failure && failures == self.app.rules.failures_max {
            tracing::error!(app, failures, last = %exit, "application has failed: see its output above");
            shared.note(EventLevel::Error, format!("application {app} has failed: {exit}"));
        }
    }

    /// The keeper is gone, and all instances with it.
    pub(super) fn lose_all(&mut self, now: Instant) {
        let shared = self.home.0.clone();
        let all: Vec<u64> = self.fleet.instances().iter().map(|instance| self.number(instance.id)).collect();
        all.into_iter().for_each(|id| self.on_exit(id, &Exit::Lost, now, &shared));
        // Actions of the fleet wait for another keeper.
        if !self.is_succeeded {
            (0..self.places.len()).for_each(|slot| self.set_vacant(slot, true));
        }
    }

    pub(super) fn look_at_memory(&mut self, seen: &[Seen], now: Instant) {
        let all: Vec<(u64, usize, Option<u32>)> =
            self.fleet.instances().iter().map(|instance| (instance.id, instance.slot, instance.pid)).collect();
        for (id, slot, pid) in all {
            let own = seen.iter().filter(|seen| Some(seen.session) == pid);
            let memory = own.map(|seen| seen.resident_bytes).sum();
            let before = self.running.get(&self.number(id)).map_or(0, |running| running.requests_before);
            self.fleet.on_usage(id, self.places[slot].requests().saturating_sub(before), memory, now);
        }
    }

    /// What was not answered in time while that was no reason to replace an instance.
    fn forget_timeouts(&mut self) {
        for instance in self.fleet.instances() {
            let number = self.number(instance.id);
            if let Some(running) = self.running.get_mut(&number) {
                running.timeouts_before = self.places[instance.slot].timeouts();
            }
        }
    }

    /// Lets go whatever has not answered in time.
    fn look_for_hung(&mut self, now: Instant) {
        let ready = self.fleet.instances().iter().filter(|instance| instance.state == State::Ready);
        let is_hung = |instance: &&Instance| {
            let running = self.running.get(&self.number(instance.id));
            running.is_some_and(|running| self.places[instance.slot].timeouts() > running.timeouts_before)
        };
        let hung: Vec<(u64, usize)> = ready.filter(is_hung).map(|instance| (instance.id, instance.slot)).collect();
        for (id, slot) in hung {
            tracing::warn!(app = %self.app.name, instance = slot, "instance has not answered in time and is replaced");
            self.fleet.on_hung(id, now);
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.app.rules.replaces_hung {
            self.look_for_hung(now);
        }
        // A data worker that is late with another config sends requests where that one does not lead.
        let is_led_there = self.left_for.as_ref().is_some_and(|shared| shared.workers_behind() > 0);
        for withdrawn in self.running.values_mut().filter_map(|running| running.withdrawn.as_mut()) {
            *withdrawn = if is_led_there { now } else { *withdrawn };
        }
        let draining = self.fleet.instances().iter().filter(|instance| instance.state == State::Draining);
        let is_idle = |instance: &&Instance| {
            let withdrawn = self.running.get(&self.number(instance.id)).and_then(|running| running.withdrawn);
            let is_known = withdrawn.is_some_and(|at| now.saturating_duration_since(at) >= WITHDRAWN_MIN);
            is_known && self.places[instance.slot].active() == 0
        };
        let idle: Vec<u64> = draining.filter(is_idle).map(|instance| instance.id).collect();
        idle.into_iter().for_each(|id| self.fleet.on_drained(id, now));
        self.fleet.tick(now);
        let (shared, u) = &self.home;
        let is_coming = matches!(self.fleet.standing(now), Standing::Starting | Standing::BackingOff | Standing::Ready);
        if !self.is_succeeded {
            shared.upstreams[*u].set_coming(is_coming);
        }
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.fleet.next_action()
    }

    /// Does what the fleet wants. Errors: an instance, by the keeper's number, cannot be started, and why.
    pub(super) fn act(&mut self, action: Action, tools: Tools<'_>, now: Instant) -> Result<(), (u64, String)> {
        let keeper = tools.keeper;
        match action {
            Action::Start { id, slot } => {
                let number = self.number(id);
                self.start(number, slot, tools).map_err(|reason| (number, reason))?;
            }
            Action::Serve { slot, .. } => {
                // What checks said was of the one before.
                self.places[slot].state.publish_up(true, "its instance is ready", SystemTime::now());
                self.set_vacant(slot, false);
            }
            Action::Withdraw { id, slot } => {
                let number = self.number(id);
                // Another config does not lead there; who has not got that yet is served.
                if !self.is_succeeded {
                    self.set_vacant(slot, true);
                }
                if let Some(running) = self.running.get_mut(&number) {
                    running.withdrawn = Some(now);
                }
            }
            Action::Terminate { id } => self.order(keeper, &Order::Terminate(self.number(id))),
            Action::Kill { id } => {
                let slot = self.fleet.instances().iter().find(|i| i.id == id).map(|i| i.slot);
                tracing::warn!(app = %self.app.name, instance = slot, "instance does not end: SIGKILL");
                self.order(keeper, &Order::Kill(self.number(id)));
            }
        }
        Ok(())
    }

    fn order(&self, keeper: &Keeper, order: &Order) {
        if let Err(error) = keeper.order(order, Vec::new()) {
            tracing::error!(app = %self.app.name, %error, "the keeper of programs takes no order");
        }
    }

    fn start(&mut self, number: u64, slot: usize, tools: Tools<'_>) -> Result<(), String> {
        let Tools { keeper, rights, mark, heard } = tools;
        self.started += 1;
        self.counts.restarts += u64::from(self.started > self.app.rules.instances as u64);
        let place = &self.places[slot];
        let (requests_before, timeouts_before) = (place.requests(), place.timeouts());
        let running = Running { requests_before, timeouts_before, probe: None, withdrawn: None };
        self.running.insert(number, running);
        let mut note = launch::note(&self.app, number, slot, &place.server.address, rights)?;
        note.environment.push((MARK.into(), format!("{mark}{number:x}/")));
        let mut fds: Vec<OwnedFd> = Vec::new();
        for stream in ["stdout", "stderr"] {
            let end = output::open(&output::Source { app: &self.app, number, slot, stream }, heard);
            fds.push(end.map_err(|error| format!("its output cannot be read: {error}"))?);
        }
        fds.extend(launch::socket(&self.app, &place.server.address)?);
        fds.extend(php::config(&self.app, &place.server.address)?);
        keeper.launch(note, fds).map_err(|error| format!("the keeper of programs takes no order: {error}"))
    }

    fn set_vacant(&self, slot: usize, vacant: bool) {
        self.places[slot].state.set_vacant(vacant);
        let (shared, u) = &self.home;
        shared.settle(*u);
    }

    /// Nothing more goes to any of them.
    pub(super) fn withdraw_all(&mut self) {
        (0..self.places.len()).for_each(|slot| self.set_vacant(slot, true));
        self.running.clear();
    }

    pub(super) fn view(&self, now: Instant) -> ProcessView {
        let backoff = self.fleet.backoff();
        let again = backoff.until().filter(|until| *until > now).map(|until| until.duration_since(now));
        ProcessView {
            name: self.app.name.clone(),
            kind: if self.app.launch.php.is_some() { "php" } else { "process" }.into(),
            upstream: self.app.upstream.clone(),
            command: self.app.launch.words.join(" "),
            state: self.fleet.standing(now).name().into(),
            wanted: self.app.rules.instances,
            ready: self.fleet.ready(),
            queued: self.queued(),
            restarts: self.counts.restarts,
            failures: backoff.failures(),
            again_in_ms: again.map(|again| again.as_millis() as u64),
            last_exit: self.unfit.clone().or_else(|| self.last_exit.clone()),
            exits: self.counts.exits.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            replaced: self.counts.replaced.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            instances: self.fleet.instances().iter().map(|instance| self.instance_view(instance, now)).collect(),
        }
    }

    fn queued(&self) -> u64 {
        let (shared, u) = &self.home;
        shared.workers.iter().map(|worker| worker.upstreams[*u].queue.value()).sum()
    }

    fn instance_view(&self, instance: &Instance, now: Instant) -> InstanceView {
        let place = &self.places[instance.slot];
        let before = self.running.get(&self.number(instance.id)).map_or(0, |running| running.requests_before);
        InstanceView {
            instance: instance.slot,
            pid: instance.pid,
            state: instance.state.name().into(),
            leaving: instance.leaving.map(|reason| reason.name().into()),
            generation: instance.generation,
            age_seconds: now.saturating_duration_since(instance.began).as_secs_f64(),
            memory_bytes: instance.memory_bytes,
            requests: place.requests().saturating_sub(before),
            active: place.active(),
            address: place.server.address.to_string(),
        }
    }
}
