//! Which server gets a request: what is known of the servers is put beside what the request says; and the wait for a place
//! where all have as many requests as they may.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Forward;
use crate::config::model::Upstream;
use crate::metrics::UpstreamStats;
use crate::proxy::balance::rendezvous;
use crate::proxy::gate::{Gate, Granted, Kind, Open};
use crate::proxy::{Ask, Picked, Servers, Tried};
use crate::runtime::time::timeout;
use crate::util::template::Encoding;
use crate::worker::Worker;
use crate::worker::trail::{QueueEnd, Trail};

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
    pub(super) fn takes(self, server: usize) -> bool {
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

    /// Requests that `server` may have at once, of which a slow start has less.
    fn places_now(self, server: usize) -> Option<u32> {
        let most = self.config().servers[server].requests_max?;
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

    fn came_up(&self, server: usize) -> Option<Instant> {
        self.worker.shared.servers[self.upstream][server].came_up()
    }

    fn tier_held(&self) -> usize {
        self.worker.shared.upstreams[self.upstream].tier_held()
    }

    fn has_room(&self, server: usize, part_of: impl Fn(u32) -> u32) -> bool {
        let places = || self.config().servers[server].requests_max.map(part_of);
        self.gate().is_none_or(|gate| gate.has_room(server, places()))
    }
}

impl Open for Known<'_> {
    fn places(&self, server: usize, new: bool) -> Option<u32> {
        let state = self.worker.upstreams[self.upstream].borrow();
        let takes = self.is_up(server) && (!new || state.balancer().is_member(server));
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
    for server in (0..known.config().servers.len()).filter(|&server| !known.is_up(server)) {
        queue.send_elsewhere(server);
    }
    queue.gate().settle(&known);
}

/// Gives places that are granted to this worker to its requests, for ever.
pub(in crate::worker) async fn deliver_places(worker: &Worker, upstream: usize) {
    let Some(queue) = &worker.queues[upstream] else { return };
    loop {
        queue.deliver(|| Known::new(worker, upstream)).await;
    }
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
pub(super) struct Busy<'a> {
    worker: &'a Worker,
    upstream: usize,
    pub(super) server: usize,
}

impl<'a> Busy<'a> {
    /// The place, where there is a limit, has been taken.
    pub(super) fn begin(worker: &'a Worker, upstream: usize, server: usize) -> Busy<'a> {
        worker.upstreams[upstream].borrow_mut().on_start(server);
        worker.stats.servers[upstream][server].active.inc();
        Busy { worker, upstream, server }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let Busy { worker, upstream, server } = *self;
        worker.upstreams[upstream].borrow_mut().on_end(server);
        worker.stats.servers[upstream][server].active.dec();
        let known = Known::new(worker, upstream);
        if let Some(gate) = known.gate() {
            gate.give_back(server, &known);
        }
    }
}

/// Counts a request that waits, for as long as it does.
struct Queued<'a> {
    stats: &'a UpstreamStats,
    since: Instant,
}

impl<'a> Queued<'a> {
    fn begin(stats: &'a UpstreamStats) -> Queued<'a> {
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

impl Forward<'_> {
    fn known(&self) -> Known<'_> {
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
                    match self.waited(trail, Kind::Own(server), now).await {
                        Some(chosen) => return chosen,
                        None => continue,
                    }
                }
                // It is gone: the answer brings another cookie.
                self.belongs_to.set(None);
            }
            let picked = self.worker.upstreams[self.upstream].borrow_mut().pick(ask, &known);
            let kind = match picked {
                Picked::Nobody => return Chosen::Nobody,
                Picked::Server(server) if known.takes(server) => {
                    return Chosen::Server(Busy::begin(self.worker, self.upstream, server));
                }
                Picked::Server(_) | Picked::Full => Kind::Any,
            };
            if let Some(chosen) = self.waited(trail, kind, now).await {
                return chosen;
            }
        }
    }

    /// Waits for a place, and puts `now` forward; `None`: choose anew.
    async fn waited(&self, trail: &mut Trail, kind: Kind, now: &mut Instant) -> Option<Chosen<'_>> {
        // Boxed: every request would carry its size.
        let chosen = Box::pin(self.wait(trail, kind)).await;
        *now = self.worker.now();
        chosen
    }

    async fn wait(&self, trail: &mut Trail, kind: Kind) -> Option<Chosen<'_>> {
        let stats = &self.worker.stats.upstreams[self.upstream];
        let (queue, known) = (self.worker.queues[self.upstream].as_ref()?, self.known());
        let Ok(mut waiting) = queue.wait(kind, &known) else {
            stats.queue_full.inc();
            trail.queue_end = Some(QueueEnd::Full);
            return Some(Chosen::Refused);
        };
        let ahead = match kind {
            Kind::Any => &mut trail.upstream_queue,
            Kind::Own(_) => &mut trail.server_queue,
        };
        *ahead = u32::try_from(waiting.ahead).unwrap_or(u32::MAX);
        let queued = Queued::begin(stats);
        self.presence.watched().clear();
        let granted = pin!(timeout(self.config.queue_timeout, waiting.granted()));
        let granted = self.presence.while_client_stays(granted).await;
        trail.queued += queued.end();
        let (counter, end, chosen) = match granted {
            Ok(Ok(Granted::Place(server))) => {
                return Some(Chosen::Server(Busy::begin(self.worker, self.upstream, server)));
            }
            Ok(Ok(Granted::Nothing)) => return None,
            Ok(Err(_)) => (&stats.queue_timeouts, QueueEnd::TimedOut, Chosen::Refused),
            Err(_) => (&stats.queue_left, QueueEnd::ClientGone, Chosen::ClientGone),
        };
        counter.inc();
        trail.queue_end = Some(end);
        Some(chosen)
    }
}
