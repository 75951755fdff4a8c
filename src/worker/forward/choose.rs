//! Which server gets a request: what is known of the servers is put beside what the request says; and the wait for a place
//! where all have as many requests as they may.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Forward;
use crate::config::model::Upstream;
use crate::metrics::{ServerStats, UpstreamStats};
use crate::proxy::balance::rendezvous;
use crate::proxy::gate::{Gate, Granted, Kind, Open, Queue};
use crate::proxy::{Ask, Picked, Servers, Tried};
use crate::runtime::time::{sleep, timeout};
use crate::util::template::Encoding;
use crate::worker::trail::{QueueEnd, Trail};
use crate::worker::{Lasting, Worker};

/// So long after a program has ended, its server is known to be gone.
const END_IS_KNOWN: Duration = Duration::from_millis(100);

/// So long after a program has let a request wait too long, its server is known to hang: the supervisor looks every 100 ms.
const HANG_IS_KNOWN: Duration = Duration::from_millis(250);

/// How often those who wait for a server to start look whether it has.
const START_LOOK: Duration = Duration::from_millis(5);

/// The servers of one upstream, as the process knows them.
#[derive(Clone, Copy)]
pub(in crate::worker) struct Known<'a> {
    worker: &'a Worker,
    upstream: usize,
}

impl<'a> Known<'a> {
    pub(in crate::worker) fn new(worker: &'a Worker, upstream: usize) -> Known<'a> {
        Known { worker, upstream }
    }

    fn config(self) -> &'a Upstream {
        &self.worker.config.upstreams[self.upstream]
    }

    fn gate(self) -> Option<&'a Gate> {
        self.worker.queues[self.upstream].as_ref().map(|queue| queue.gate())
    }

    /// Takes a place at `server`, if there is one.
    pub(in crate::worker) fn takes(self, server: usize) -> bool {
        let Some(gate) = self.gate() else { return true };
        let is_taken = gate.try_take(server, self.places_now(server));
        if !is_taken {
            gate.settle(&self);
        }
        is_taken
    }

    /// The same, unless others wait for one.
    fn takes_own(self, server: usize) -> bool {
        self.gate().is_none_or(|gate| gate.has_room(server, self.places_now(server))) && self.takes(server)
    }

    /// `server` is up, and a request that has just come could have a place there.
    pub(super) fn has_place(self, server: usize) -> bool {
        self.is_up(server) && self.gate().is_none_or(|gate| gate.has_room(server, self.places_now(server)))
    }

    /// Requests that `server` may have at once, of which a slow start has less.
    fn places_now(self, server: usize) -> Option<u32> {
        // As the newest config has it, not this one.
        let most = self.gate()?.most(server)?;
        Some(self.worker.upstreams[self.upstream].borrow().balancer().places(server, most))
    }
}

impl Servers for Known<'_> {
    fn changes(&self) -> u64 {
        self.worker.shared.upstreams[self.upstream].changes()
    }

    fn is_up(&self, server: usize) -> bool {
        self.worker.shared.is_up(self.upstream, server)
    }

    fn keeps(&self, server: usize) -> bool {
        self.worker.shared.servers[self.upstream][server].keeps_clients()
    }

    fn weight_set(&self, server: usize) -> Option<u32> {
        self.worker.shared.servers[self.upstream][server].weight_set()
    }

    fn came_up(&self, server: usize) -> Option<Instant> {
        self.worker.shared.servers[self.upstream][server].came_up()
    }

    fn tier_held(&self) -> usize {
        self.config().tier_index(self.worker.shared.upstreams[self.upstream].tier_held())
    }

    fn near(&self) -> Option<usize> {
        self.config().in_process.map(|_| self.worker.bridge.paired())
    }

    fn queued(&self, server: usize) -> usize {
        self.config().in_process.map_or(0, |_| self.worker.bridge.queued(server))
    }

    fn has_room(&self, server: usize, part_of: impl Fn(u32) -> u32) -> bool {
        self.gate().is_none_or(|gate| gate.has_room(server, gate.most(server).map(part_of)))
    }
}

impl Open for Known<'_> {
    fn places(&self, server: usize, new: bool) -> Option<u32> {
        let state = self.worker.upstreams[self.upstream].borrow();
        let takes = match new {
            true => self.is_up(server) && state.balancer().is_member(server),
            false => self.keeps(server) && !state.balancer().is_gone(server),
        };
        drop(state);
        if takes { self.places_now(server) } else { Some(0) }
    }
}

/// For the worker's tick: a server that came up or warmed up has places for those who wait, and who waits for one that is
/// gone has to look elsewhere.
pub(in crate::worker) fn look(worker: &Worker, upstream: usize, now: Instant) {
    let known = Known::new(worker, upstream);
    worker.upstreams[upstream].borrow_mut().balancer_mut().look(&known, now);
    let Some(queue) = worker.queues[upstream].as_ref().filter(|queue| queue.gate().waiting() > 0) else { return };
    for server in (0..known.config().servers.len()).filter(|&server| known.places(server, false) == Some(0)) {
        queue.send_elsewhere(server);
    }
    queue.gate().settle(&known);
}

/// Gives places that are granted to this worker to its requests, until it ends.
pub(in crate::worker) fn deliver_places(worker: &Rc<Worker>) {
    for (upstream, queue) in worker.queues.iter().enumerate() {
        let Some(bell) = queue.as_ref().map(Queue::bell) else { continue };
        let worker = Rc::downgrade(worker);
        crate::runtime::spawn(async move {
            while bell.rung().await {
                let Some(worker) = worker.upgrade() else { return };
                if let Some(queue) = &worker.queues[upstream] {
                    queue.hand_out(&Known::new(&worker, upstream));
                }
            }
        });
    }
}

/// Looks after those who wait at `worker`, which a reload has replaced. Nobody else does: its ticks are over.
pub(in crate::worker) fn keep_for_those_who_wait(worker: &Rc<Worker>) {
    let mut known = worker.waited_for.borrow_mut();
    if worker.queues.iter().any(Option::is_some) && !known.iter().any(|known| Rc::ptr_eq(known, worker)) {
        known.push(worker.clone());
    }
}

/// For the tick, as [`look`]: those of configs before at which somebody in the process waits. The others are let go.
pub(in crate::worker) fn look_at_those_before(lasting: &Lasting, now: Instant) {
    if lasting.waited_for.borrow().is_empty() {
        return;
    }
    let (mut kept, mut done) = (Vec::new(), Vec::new());
    for worker in lasting.waited_for.take() {
        (0..worker.queues.len()).for_each(|upstream| look(&worker, upstream, now));
        let is_waited_for = worker.queues.iter().flatten().any(|queue| queue.gate().waiting() > 0);
        if is_waited_for { kept.push(worker) } else { done.push(worker) }
    }
    lasting.waited_for.borrow_mut().splice(0..0, kept);
    drop(done);
}

/// Places have become free at `worker`: they go to those who wait, at configs before first.
fn settle_all(worker: &Worker) {
    let settle = |worker: &Worker| {
        for (upstream, queue) in worker.queues.iter().enumerate() {
            if let Some(queue) = queue {
                queue.gate().settle(&Known::new(worker, upstream));
            }
        }
    };
    worker.waited_for.borrow().iter().for_each(|before| settle(before));
    settle(worker);
    if let Some(current) = &*worker.lasting.current.borrow() {
        settle(current);
    }
}

/// No reload has replaced it, and nobody waits who began before the last one.
fn is_alone(worker: &Worker) -> bool {
    let is_current = worker.lasting.current.borrow().as_ref().is_some_and(|current| std::ptr::eq(&**current, worker));
    is_current && worker.waited_for.borrow().is_empty()
}

/// What comes of choosing.
pub(super) enum Chosen<'a> {
    Server(Busy<'a>),
    /// No server is up.
    Nobody,
    /// There was no place, not even in the queue or not in time.
    Refused,
    ClientGone,
}

/// A request on its server: it counts there for as long as this lives, and has a place where there is a limit.
pub(in crate::worker) struct Busy<'a> {
    worker: &'a Worker,
    upstream: usize,
    pub(in crate::worker) server: usize,
    is_over: Cell<bool>,
}

impl<'a> Busy<'a> {
    /// The place, where there is a limit, has been taken.
    pub(in crate::worker) fn begin(worker: &'a Worker, upstream: usize, server: usize) -> Busy<'a> {
        worker.upstreams[upstream].borrow_mut().on_start(server);
        worker.stats.servers[upstream][server].active.inc();
        Busy { worker, upstream, server, is_over: Cell::new(false) }
    }

    /// Gives the place back before this is gone: what goes on is no request any more.
    pub(super) fn end_now(&self) {
        if !self.is_over.replace(true) {
            end(self.worker, self.upstream, self.server);
        }
    }

    /// Keeps the place until a program that hangs is known to the supervisor.
    pub(super) fn end_later(self, worker: &Rc<Worker>) {
        let held = Held { worker: worker.clone(), upstream: self.upstream, server: self.server };
        // The other one stands for it now.
        std::mem::forget(self);
        crate::runtime::spawn(async move {
            sleep(HANG_IS_KNOWN).await;
            drop(held);
        });
    }

    /// Counters of the server.
    pub(in crate::worker) fn stats(&self) -> &'a ServerStats {
        &self.worker.stats.servers[self.upstream][self.server]
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// A request is over on its server, and gives its place back.
fn end(worker: &Worker, upstream: usize, server: usize) {
    worker.upstreams[upstream].borrow_mut().on_end(server);
    worker.stats.servers[upstream][server].active.dec();
    let known = Known::new(worker, upstream);
    match known.gate() {
        None => {}
        Some(gate) if is_alone(worker) => gate.give_back(server, &known),
        Some(gate) => {
            gate.free(server);
            settle_all(worker);
        }
    }
}

/// The same for a flow of UDP, which nobody waits for: it counts at its server for as long as this lives.
pub(in crate::worker) struct Held {
    worker: Rc<Worker>,
    pub(in crate::worker) upstream: usize,
    pub(in crate::worker) server: usize,
}

impl Held {
    /// The config that the flow began with.
    pub(in crate::worker) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Counters of the server.
    pub(in crate::worker) fn stats(&self) -> &ServerStats {
        &self.worker.stats.servers[self.upstream][self.server]
    }

    /// The server has answered: it is alive.
    pub(in crate::worker) fn on_answer(&self) {
        self.worker.upstreams[self.upstream].borrow_mut().on_connected(self.server);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        end(&self.worker, self.upstream, self.server);
    }
}

/// A place for a flow at any server of an upstream; `None`: there is none now, and a datagram does not wait. `tried` servers have
/// failed it.
pub(in crate::worker) fn place_for_flow(
    worker: &Rc<Worker>,
    upstream: usize,
    tried: &Tried,
    key: Option<u64>,
) -> Option<Held> {
    let known = Known::new(worker, upstream);
    let ask = Ask { tried, key, now: worker.now() };
    let picked = worker.upstreams[upstream].borrow_mut().pick(ask, &known);
    let Picked::Server(server) = picked else { return None };
    if !known.takes(server) {
        return None;
    }
    worker.upstreams[upstream].borrow_mut().on_start(server);
    worker.stats.servers[upstream][server].active.inc();
    Some(Held { worker: worker.clone(), upstream, server })
}

/// Counts a request that waits, for as long as it does.
pub(super) struct Queued<'a> {
    stats: &'a UpstreamStats,
    since: Instant,
}

impl<'a> Queued<'a> {
    pub(super) fn begin(stats: &'a UpstreamStats) -> Queued<'a> {
        stats.queue.inc();
        Queued { stats, since: Instant::now() }
    }

    fn end(self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.stats.queue.dec();
        self.stats.queue_wait.record(self.since.elapsed());
    }
}

/// A place at any server of an upstream for a connection in TCP mode, waited for if need be; `None`: there was none in time.
/// `tried` servers have failed it.
pub(in crate::worker) async fn place_for_connection<'a>(
    worker: &'a Rc<Worker>,
    upstream: usize,
    tried: &Tried,
    key: Option<u64>,
) -> Option<Busy<'a>> {
    let known = Known::new(worker, upstream);
    loop {
        let ask = Ask { tried, key, now: worker.now() };
        let picked = worker.upstreams[upstream].borrow_mut().pick(ask, &known);
        let kind = match picked {
            Picked::Nobody => return None,
            Picked::Server(server) if known.takes(server) => return Some(Busy::begin(worker, upstream, server)),
            Picked::Server(_) | Picked::Full => {
                let state = worker.upstreams[upstream].borrow();
                state.balancer().waits_for(tried).map_or(Kind::Any, Kind::Own)
            }
        };
        let stats = &worker.stats.upstreams[upstream];
        let queue = worker.queues[upstream].as_ref()?;
        if !is_alone(worker) {
            keep_for_those_who_wait(worker);
        }
        let Ok(mut waiting) = queue.wait(kind, &known) else {
            stats.queue_full.inc();
            return None;
        };
        let queued = Queued::begin(stats);
        let granted = timeout(known.config().queue_timeout, pin!(waiting.granted())).await;
        drop(queued);
        match granted {
            Ok(Granted::Place(server)) => return Some(Busy::begin(worker, upstream, server)),
            Ok(Granted::Nothing) => {}
            Err(_) => {
                stats.queue_timeouts.inc();
                return None;
            }
        }
    }
}

impl Forward<'_> {
    pub(super) fn known(&self) -> Known<'_> {
        Known::new(self.worker, self.upstream)
    }

    /// What keeps the request together with others; `None`: nothing does.
    pub(super) fn key(&self) -> Option<u64> {
        let key = &self.config.hash.as_ref()?.key;
        let mut text = self.worker.hot.take_buffer(0);
        key.put(Encoding::Text, self.cx, &mut text);
        let hash = (!text.is_empty()).then(|| rendezvous::hash(&text));
        self.worker.hot.give_buffer_back(text);
        hash
    }

    /// The server for the next try, and a place there. `now` is put forward by the time that takes.
    pub(super) async fn choose(
        &self,
        trail: &mut Trail,
        tried: &Tried,
        key: Option<u64>,
        now: &mut Instant,
    ) -> Chosen<'_> {
        let mut has_paused = false;
        loop {
            let known = self.known();
            let ask = Ask { tried, key, now: *now };
            if let Some(server) = self.belongs_to.get() {
                let keeps = self.worker.upstreams[self.upstream].borrow_mut().balancer_mut().keeps(server, ask, &known);
                if keeps {
                    self.worker.stats.upstreams[self.upstream].sticky_kept.inc();
                    if known.takes_own(server) {
                        return Chosen::Server(Busy::begin(self.worker, self.upstream, server));
                    }
                    match self.waited(trail, Kind::Own(server), tried, now).await {
                        Some(chosen) => return chosen,
                        None => continue,
                    }
                }
                // It is gone: the answer brings another cookie.
                self.belongs_to.set(None);
            }
            let picked = self.worker.upstreams[self.upstream].borrow_mut().pick(ask, &known);
            let kind = match picked {
                // A program, or a worker, that has ended is back in a moment.
                Picked::Nobody if self.is_coming() => Kind::Any,
                Picked::Nobody => return Chosen::Nobody,
                // There is no other one. When it has ended, that is known now, and the next one is waited for.
                Picked::Server(server) if self.config.is_supervised && tried.contains(server) && !has_paused => {
                    has_paused = true;
                    Box::pin(sleep(END_IS_KNOWN)).await;
                    *now = self.worker.now();
                    continue;
                }
                Picked::Server(server) if known.takes(server) => {
                    return Chosen::Server(Busy::begin(self.worker, self.upstream, server));
                }
                // A place for anyone could be at the server that has just failed this one.
                Picked::Server(_) | Picked::Full => {
                    let state = self.worker.upstreams[self.upstream].borrow();
                    state.balancer().waits_for(tried).map_or(Kind::Any, Kind::Own)
                }
            };
            if let Some(chosen) = self.waited(trail, kind, tried, now).await {
                return chosen;
            }
        }
    }

    /// Waits for a place, and puts `now` forward; `None`: choose anew.
    async fn waited(&self, trail: &mut Trail, kind: Kind, tried: &Tried, now: &mut Instant) -> Option<Chosen<'_>> {
        let patience = match tried.is_empty() {
            true => self.config.queue_timeout,
            // No new try begins after its time.
            false => {
                let left = self.config.retry.time_max.saturating_sub(self.request.started.elapsed());
                self.config.queue_timeout.min(left)
            }
        };
        // Boxed: every request would carry its size.
        let chosen = Box::pin(self.wait(trail, kind, patience)).await;
        *now = self.worker.now();
        chosen
    }

    async fn wait(&self, trail: &mut Trail, kind: Kind, patience: Duration) -> Option<Chosen<'_>> {
        let (stats, known) = (&self.worker.stats.upstreams[self.upstream], self.known());
        let Some(queue) = &self.worker.queues[self.upstream] else {
            return self.wait_for_start(trail, patience).await;
        };
        if !is_alone(self.worker) {
            keep_for_those_who_wait(self.cx.worker);
        }
        let Ok(mut waiting) = queue.wait(kind, &known) else { return Some(self.in_vain(trail, QueueEnd::Full)) };
        let ahead = match kind {
            Kind::Any => &mut trail.upstream_queue,
            Kind::Own(_) => &mut trail.server_queue,
        };
        *ahead = u32::try_from(waiting.ahead).unwrap_or(u32::MAX);
        let queued = Queued::begin(stats);
        self.presence.watched().clear();
        let granted = pin!(timeout(patience, waiting.granted()));
        let granted = self.presence.while_client_stays(granted).await;
        trail.queued += queued.end();
        match granted {
            Ok(Ok(Granted::Place(server))) => Some(Chosen::Server(Busy::begin(self.worker, self.upstream, server))),
            Ok(Ok(Granted::Nothing)) => None,
            Ok(Err(_)) => Some(self.in_vain(trail, QueueEnd::TimedOut)),
            Err(_) => Some(self.in_vain(trail, QueueEnd::ClientGone)),
        }
    }

    fn is_coming(&self) -> bool {
        self.worker.shared.upstreams[self.upstream].is_coming()
    }

    /// The same at an upstream without limits, which has no queue, while none of its servers has started.
    async fn wait_for_start(&self, trail: &mut Trail, patience: Duration) -> Option<Chosen<'_>> {
        let (stats, known) = (&self.worker.stats.upstreams[self.upstream], self.known());
        let share = self.config.queue_max.div_ceil(self.worker.shared.workers.len().max(1));
        if stats.queue.value() >= share as u64 {
            return Some(self.in_vain(trail, QueueEnd::Full));
        }
        let queued = Queued::begin(stats);
        self.presence.watched().clear();
        let has_started = async {
            while self.is_coming() && !(0..self.config.servers.len()).any(|server| known.is_up(server)) {
                sleep(START_LOOK).await;
            }
        };
        let has_started = pin!(has_started);
        let started = pin!(timeout(patience, has_started));
        let started = self.presence.while_client_stays(started).await;
        trail.queued += queued.end();
        match started {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(self.in_vain(trail, QueueEnd::TimedOut)),
            Err(_) => Some(self.in_vain(trail, QueueEnd::ClientGone)),
        }
    }

    /// The wait has ended without a place.
    fn in_vain(&self, trail: &mut Trail, end: QueueEnd) -> Chosen<'_> {
        let stats = &self.worker.stats.upstreams[self.upstream];
        let (counter, chosen) = match end {
            QueueEnd::Full => (&stats.queue_full, Chosen::Refused),
            QueueEnd::TimedOut => (&stats.queue_timeouts, Chosen::Refused),
            QueueEnd::ClientGone => (&stats.queue_left, Chosen::ClientGone),
        };
        counter.inc();
        trail.queue_end = Some(end);
        chosen
    }
}
