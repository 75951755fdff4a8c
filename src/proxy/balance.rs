//! Choosing a server of one upstream, as one data worker does it.
//!
//! Pure: what is known of the servers, the time and the seed of chance come in. It does not check servers, does not
//! connect, and knows nothing of other workers: its counts are those of one data worker. How good that is, the table in
//! `balance/simulation.rs` shows.
//!
//! # Who may be chosen
//!
//! The *members* are the servers of one tier that are up, have a weight, and do not rest. The tier is the one that is held
//! ([`super::tiers`]; else the first), if enough are left in it ([`TierMin`]); else the first in which enough are; else the
//! first in which any is left; if there is none at all, the members are the resting ones of the first tier that has any.
//!
//! *Resting* is the memory of a failed connect: for [`REST`] nothing is sent there while another server can answer.
//! After that one request a [`REST`] goes there, until a connect succeeds: a server that swallows packets costs one
//! request per period its connect time-out, not every request.
//!
//! Members are found anew when a server's state or weight, a rest or a slow start has changed, which is seldom: a request looks
//! at one number to know. Of the members, those that this request has tried come last, and those that have as many
//! requests as they may are left out.
//!
//! # How
//!
//! | method | looks at | chooses |
//! |---|---|---|
//! | random-two | two drawn by weight | the one with fewer requests in relation to weight; the first unless the second stays below with one more |
//! | round-robin | all members | in turn, spread evenly by weight |
//! | least-conn | all members | the fewest requests in relation to weight; in turn among equals |
//! | least-time | all members | the least response time times requests, in relation to weight |
//! | first | members in order | the first that has room |
//! | local | the nearest one, and queues | the nearest one, in the part that its weight is of the greatest, unless its queue is long ([`SPILL_DEPTH`]) and another one is less than half as long: else the shortest |
//! | hash | one | see [`rendezvous`]; the next in the key's order when that one is not there, full, or beyond its bound |

mod draw;
pub mod rendezvous;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod time;
mod warmth;

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::draw::Draw;
use self::rendezvous::Rendezvous;
use self::time::ResponseTime;
use self::warmth::{WARM, part_of, warmth};
use crate::config::Heirs;
use crate::config::model::{Balance, Server, TierMin, Upstream};
use crate::util::random::Random;

/// With so many requests waiting in it, the queue of the nearest server is long: others are looked at.
pub const SPILL_DEPTH: usize = 32;

/// How long a server gets nothing after a failed connect, while another one can answer.
pub const REST: Duration = Duration::from_secs(1);

/// Servers one request has been sent to, by index. Allocates only beyond four.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried(SmallVec<[u32; 4]>);

impl Tried {
    /// Nothing tried yet.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// Remembers `server`.
    pub fn insert(&mut self, server: usize) {
        if !self.contains(server) {
            self.0.push(server as u32);
        }
    }

    /// True when `server` was tried.
    pub fn contains(&self, server: usize) -> bool {
        self.0.iter().any(|&tried| tried as usize == server)
    }

    /// True when no server was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is known of the servers beside this worker's own experience.
pub trait Servers {
    /// Changes whenever one of the answers below may have changed that is not asked for each request.
    fn changes(&self) -> u64;
    /// Whether requests may go to `server`.
    fn is_up(&self, server: usize) -> bool;
    /// Whether requests that belong to `server` may go there: as above, but also while it is being drained.
    fn keeps(&self, server: usize) -> bool {
        self.is_up(server)
    }
    /// The weight that the operator has given `server` in place of the config's.
    fn weight_set(&self, _server: usize) -> Option<u32> {
        None
    }
    /// When `server` came up after it had been down; `None`: it has never been down.
    fn came_up(&self, server: usize) -> Option<Instant>;
    /// Index of the tier that is used while it has enough servers, whatever others have; see [`super::tiers`].
    fn tier_held(&self) -> usize;
    /// The server that is nearest to this data worker; `None`: none is nearer than others.
    fn near(&self) -> Option<usize> {
        None
    }
    /// Requests that wait in front of `server`, of all data workers. Asked for each request.
    fn queued(&self, _server: usize) -> usize {
        0
    }
    /// Whether `server` may have one more request, of whose limit only `part_of` counts now. Asked for each request.
    fn has_room(&self, server: usize, part_of: impl Fn(u32) -> u32) -> bool;
}

/// What a choice is for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Servers this request has been sent to.
    pub tried: &'a Tried,
    /// [`rendezvous::hash`] of what keeps requests together; `None`: nothing does.
    pub key: Option<u64>,
    /// The time.
    pub now: Instant,
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// This server.
    Server(usize),
    /// All that may be chosen have as many requests as they may: wait for one of them.
    Full,
    /// No server is up (answer 503).
    Nobody,
}

/// Chooses servers for one upstream on one data worker; not `Send`.
///
/// The caller tells it what happens: [`on_start`](Self::on_start) and [`on_end`](Self::on_end) around each request sent
/// to a server (connecting included), [`on_connected`](Self::on_connected) or
/// [`on_connect_failed`](Self::on_connect_failed) after each connect, [`on_answer`](Self::on_answer) for each answer.
#[derive(Debug)]
pub struct Balancer {
    method: Balance,
    table: Option<(Arc<Rendezvous>, LoadMax)>,
    /// In place of the table where the operator has set weights.
    reweighed: Option<Rendezvous>,
    /// Index of the data worker.
    worker: usize,
    slow_start: Duration,
    tier_min: TierMin,
    /// Tiers there are.
    tiers: u8,
    slots: Vec<Slot>,
    view: View,
    /// Requests under way on all servers; shared as theirs are.
    active: Rc<Cell<u32>>,
    random: Random,
    one_worker: PhantomData<*const ()>,
}

/// Most requests of a server in relation to what an even spread would give it, percent; `None`: any number.
type LoadMax = Option<u32>;

#[derive(Debug)]
struct Slot {
    /// As configured.
    configured: u32,
    /// What the operator has set instead, as of the last look.
    set: Option<u32>,
    /// Index among the tiers.
    tier: u8,
    /// The config that follows does not have it: it finishes what it has.
    is_gone: bool,
    /// Requests under way, this worker's; shared with the same server under other configs.
    active: Rc<Cell<u32>>,
    /// Smooth round-robin: what this server is owed. The sum over all servers stays what it is.
    credit: i64,
    /// `Some` from a failed connect to the next one that succeeds.
    rests_until: Option<Instant>,
    time: ResponseTime,
    /// How much of its weight it may have, in [`WARM`]ths.
    warmth: u32,
    /// It may be chosen.
    is_member: bool,
}

/// Who may be chosen, until something changes.
#[derive(Debug, Default)]
struct View {
    /// [`Servers::changes`] it was made from; `None`: it must be made anew.
    made_from: Option<u64>,
    /// A rest ends or a slow start goes on.
    valid_until: Option<Instant>,
    /// In order.
    members: Vec<u16>,
    draw: Draw,
    /// Sum of the members' shares.
    shares: u64,
    /// The greatest of them.
    share_max: u32,
    /// What the nearest one has not had of its part, where that is not all.
    owed_to_nearest: u64,
}

impl Balancer {
    /// A balancer over the servers of `upstream`.
    ///
    /// `worker` is the index of the data worker. Each starts that many turns into the same rotation, so that the first
    /// requests of all workers together follow the weights instead of all meeting the first server. `seed` makes its
    /// chances; it should differ between workers.
    pub fn new(upstream: &Upstream, worker: usize, seed: u64) -> Balancer {
        let tiers = upstream.tiers();
        let slot = |server: &Server| Slot::of(server.weight, tiers.binary_search(&server.tier).unwrap_or(0) as u8);
        let mut slots: Vec<Slot> = upstream.servers.iter().map(slot).collect();
        begin_turns(&mut slots, tiers.len() as u8, worker);
        Balancer {
            method: upstream.balance,
            table: upstream.hash.as_ref().map(|hash| (hash.table.clone(), hash.load_max_percent)),
            reweighed: None,
            worker,
            slow_start: upstream.slow_start,
            tier_min: upstream.tier_min,
            tiers: tiers.len() as u8,
            slots,
            view: View::default(),
            active: Rc::default(),
            random: Random::new(seed ^ worker as u64),
            one_worker: PhantomData,
        }
    }

    /// A balancer over servers of these weights in one tier, which start at once; for choices among others than the servers
    /// of an upstream. The rest as above; hashes need an upstream.
    pub fn of_weights(method: Balance, weights: impl Iterator<Item = u32>, worker: usize, seed: u64) -> Balancer {
        let mut slots: Vec<Slot> = weights.map(|weight| Slot::of(weight, 0)).collect();
        begin_turns(&mut slots, 1, worker);
        Balancer {
            method,
            table: None,
            reweighed: None,
            worker,
            slow_start: Duration::ZERO,
            tier_min: TierMin::Servers(1),
            tiers: 1,
            slots,
            view: View::default(),
            active: Rc::default(),
            random: Random::new(seed ^ worker as u64),
            one_worker: PhantomData,
        }
    }

    /// How many servers it has.
    pub fn servers(&self) -> usize {
        self.slots.len()
    }

    /// Goes on for the servers that were in `old`, whose indexes there `heirs` tells: with their requests under way, their
    /// rest, their response times, and their turns where the weights are the same. `old` goes on to count the end of requests
    /// that began on it. Slow starts and tiers go on by themselves: they are found from what is known of the servers.
    pub fn inherit(&mut self, old: &Balancer, heirs: &Heirs) {
        // Requests at servers that are gone count in it until they end.
        self.active = old.active.clone();
        let all = || heirs.0.iter().copied();
        for (slot, heir) in self.slots.iter_mut().zip(heirs.0.iter().copied()) {
            slot.set = heir.and_then(|heir| old.slots[heir].set);
        }
        // What is owed by other weights may be owed for long.
        let same_turns = all().flatten().count() == self.slots.len()
            && self.slots.len() == old.slots.len()
            && self.slots.iter().zip(all().flatten()).all(|(slot, heir)| slot.weight() == old.slots[heir].weight());
        for (slot, heir) in self.slots.iter_mut().zip(all()) {
            let Some(old) = heir.map(|heir| &old.slots[heir]) else { continue };
            slot.active = old.active.clone();
            (slot.rests_until, slot.time) = (old.rests_until, old.time);
            if same_turns {
                slot.credit = old.credit;
            }
        }
        self.reweigh();
    }

    /// Sends nothing to `server` any more, not even what belongs there: the config that follows does not have it.
    pub fn retire(&mut self, server: usize) {
        self.slots[server].is_gone = true;
        self.view.made_from = None;
    }

    /// `server` was retired.
    pub fn is_gone(&self, server: usize) -> bool {
        self.slots[server].is_gone
    }

    /// The server for the next request or the next try of one.
    ///
    /// A server that was tried comes back only when no other member is left. No allocation.
    pub fn pick(&mut self, ask: Ask<'_>, servers: &impl Servers) -> Picked {
        self.look(servers, ask.now);
        if self.view.members.is_empty() {
            return Picked::Nobody;
        }
        let is_new = |server: usize| !ask.tried.contains(server);
        let all_tried = !ask.tried.is_empty() && !self.view.members.iter().any(|&member| is_new(usize::from(member)));
        let fits = |server: usize, slot: &Slot| {
            slot.is_member
                && (all_tried || is_new(server))
                && servers.has_room(server, |most| part_of(most, slot.warmth))
        };
        let by_key = match (&self.table, ask.key) {
            (Some((table, load_max)), Some(key)) => {
                self.by_key(self.reweighed.as_ref().unwrap_or(table), *load_max, key, fits)
            }
            _ => None,
        };
        let picked = by_key.or_else(|| match self.method {
            Balance::RandomTwo => self.less_busy_of_two(fits),
            Balance::RoundRobin => next_in_turn(&mut self.slots, &self.view.members, fits),
            Balance::LeastConn => self.least_busy(fits),
            Balance::LeastTime => self.quickest(fits, ask.now),
            Balance::First => self.first(fits),
            Balance::Local => self.nearest(fits, servers),
        });
        match picked {
            Some(server) => {
                self.note_trial(server, ask.now);
                Picked::Server(server)
            }
            None => Picked::Full,
        }
    }

    /// Whether a request that belongs to `server` may go there: it is up, perhaps being drained, does not rest, and this
    /// request has not tried it. Its weight and tier do not count.
    pub fn keeps(&mut self, server: usize, ask: Ask<'_>, servers: &impl Servers) -> bool {
        self.look(servers, ask.now);
        let slot = &self.slots[server];
        let keeps = servers.keeps(server) && !slot.is_gone && !slot.rests(ask.now) && !ask.tried.contains(server);
        if keeps {
            self.note_trial(server, ask.now);
        }
        keeps
    }

    /// Where a request waits when all that may be chosen are full: at the member it has not tried that has the fewest requests
    /// in relation to weight. `None`: it may go to any.
    pub fn waits_for(&self, tried: &Tried) -> Option<usize> {
        if tried.is_empty() {
            return None;
        }
        let load = |server: &usize| self.slots[*server].load();
        let fewest = |a: usize, b: usize| if load(&b).is_below(load(&a)) { b } else { a };
        let members = self.view.members.iter().map(|&member| usize::from(member));
        members.filter(|&server| !tried.contains(server)).reduce(fewest)
    }

    /// Whether new requests may be sent to `server` now, as of the last choice.
    pub fn is_member(&self, server: usize) -> bool {
        self.slots[server].is_member
    }

    /// What `server` may have now of the `most` requests at once that are its limit: less in a slow start.
    pub fn places(&self, server: usize, most: u32) -> u32 {
        part_of(most, self.slots[server].warmth)
    }

    /// A request begins on `server`.
    pub fn on_start(&mut self, server: usize) {
        let slot = &self.slots[server];
        for count in [&slot.active, &self.active] {
            count.set(count.get() + 1);
        }
    }

    /// A request that began on `server` is over, however it ended.
    pub fn on_end(&mut self, server: usize) {
        let slot = &self.slots[server];
        debug_assert!(slot.active.get() > 0, "on_end without on_start");
        for count in [&slot.active, &self.active] {
            count.set(count.get().saturating_sub(1));
        }
    }

    /// `server` accepted a connection or answered on one: it rests no longer.
    pub fn on_connected(&mut self, server: usize) {
        if self.slots[server].rests_until.take().is_some() {
            self.view.made_from = None;
        }
    }

    /// A connect to `server` failed or timed out: it rests.
    pub fn on_connect_failed(&mut self, server: usize, now: Instant) {
        self.slots[server].rests_until = Some(now + REST);
        self.view.made_from = None;
    }

    /// The head of an answer came from `server`, or failed to, `took` after the request was sent.
    pub fn on_answer(&mut self, server: usize, took: Duration, is_ok: bool, now: Instant) {
        if self.method == Balance::LeastTime {
            self.slots[server].time.note(took, is_ok, now);
        }
    }

    /// Requests under way on `server`, this worker's.
    pub fn active(&self, server: usize) -> u32 {
        self.slots[server].active.get()
    }

    /// Finds the members anew if something has changed.
    pub fn look(&mut self, servers: &impl Servers, now: Instant) {
        let changes = servers.changes();
        if self.view.made_from == Some(changes) && self.view.valid_until.is_none_or(|until| now < until) {
            return;
        }
        self.view.made_from = Some(changes);
        self.view.valid_until = None;
        self.take_weights(servers);
        let mut awake: SmallVec<[Tier; 4]> = SmallVec::from_elem(Tier::default(), usize::from(self.tiers));
        for (server, slot) in self.slots.iter_mut().enumerate() {
            let next_step;
            (slot.warmth, next_step) = warmth(servers.came_up(server), self.slow_start, now);
            slot.is_member = slot.weight() > 0 && !slot.is_gone && servers.is_up(server);
            let next_rest = slot.rests_until.filter(|until| now < *until);
            let next = [next_step, next_rest, self.view.valid_until].into_iter().flatten().min();
            self.view.valid_until = next;
            let tier = &mut awake[usize::from(slot.tier)];
            tier.all += u32::from(slot.weight() > 0);
            tier.up += u32::from(slot.is_member);
            tier.awake += u32::from(slot.is_member && next_rest.is_none());
        }
        let (tier, may_rest) = choose_tier(&awake, servers.tier_held(), self.tier_min);
        self.view.members.clear();
        for (server, slot) in self.slots.iter_mut().enumerate() {
            slot.is_member &= slot.tier == tier && (may_rest || !slot.rests(now));
            if slot.is_member {
                self.view.members.push(server as u16);
            }
        }
        let (slots, view) = (&self.slots, &mut self.view);
        let shares = view.members.iter().map(|&member| slots[usize::from(member)].share());
        view.shares = shares.clone().map(u64::from).sum();
        view.share_max = shares.clone().max().unwrap_or(0);
        view.draw.set(shares);
    }

    /// Goes on by the weights that the operator has set. Turns begin anew: what is owed by other weights may be owed for long.
    fn take_weights(&mut self, servers: &impl Servers) {
        let mut is_news = false;
        for (server, slot) in self.slots.iter_mut().enumerate() {
            let before = slot.weight();
            slot.set = servers.weight_set(server);
            is_news |= slot.weight() != before;
        }
        if is_news {
            self.slots.iter_mut().for_each(|slot| (slot.credit, slot.warmth) = (0, WARM));
            begin_turns(&mut self.slots, self.tiers, self.worker);
            self.reweigh();
        }
    }

    fn reweigh(&mut self) {
        let differs = self.slots.iter().any(|slot| slot.weight() != slot.configured);
        let table = self.table.as_ref().filter(|_| differs);
        self.reweighed = table.map(|(table, _)| table.reweighed(self.slots.iter().map(Slot::weight)));
    }

    /// A server behind a failed connect is tried by one request; the next one waits until it is known how it went.
    fn note_trial(&mut self, server: usize, now: Instant) {
        if self.slots[server].rests_until.is_some() {
            self.slots[server].rests_until = Some(now + REST);
            self.view.made_from = None;
        }
    }

    /// Of two members drawn by weight, the one with fewer requests in relation to weight.
    fn less_busy_of_two(&mut self, fits: impl Fn(usize, &Slot) -> bool) -> Option<usize> {
        let members = &self.view.members;
        let first = self.view.draw.place(self.random.next());
        let mut second = self.view.draw.place(self.random.next());
        if second == first && members.len() > 1 {
            second = (first + 1 + self.random.below(members.len() - 1)) % members.len();
        }
        let [first, second] = [first, second].map(|place| usize::from(members[place]));
        let [a, b] = [first, second].map(|server| &self.slots[server]);
        match (fits(first, a), fits(second, b)) {
            // Not by less than one request, or light servers would get most of what little there is.
            (true, true) if b.load().with_one_more().is_at_most(a.load()) => Some(second),
            (true, _) => Some(first),
            (false, true) => Some(second),
            (false, false) => self.least_busy(fits),
        }
    }

    /// Of the members with the fewest requests in relation to weight, the one whose turn it is.
    fn least_busy(&mut self, fits: impl Fn(usize, &Slot) -> bool) -> Option<usize> {
        let loads = self.fitting(&fits).map(|server| self.slots[server].load());
        let least = loads.reduce(|least, load| if load.is_below(least) { load } else { least })?;
        // None is below the least one, so "not above it" means "equal to it".
        next_in_turn(&mut self.slots, &self.view.members, |server, slot| {
            fits(server, slot) && !least.is_below(slot.load())
        })
    }

    /// The member at which the requests under way and the next one take the least time.
    fn quickest(&mut self, fits: impl Fn(usize, &Slot) -> bool, now: Instant) -> Option<usize> {
        // In turn among those never asked, so from a place of chance.
        let start = self.random.below(self.view.members.len());
        let (before, after) = self.view.members.split_at(start);
        let members = after.iter().chain(before).map(|&member| usize::from(member));
        let mut best: Option<(f64, usize)> = None;
        for server in members.filter(|&server| fits(server, &self.slots[server])) {
            let slot = &self.slots[server];
            let cost = slot.time.cost(slot.active.get(), slot.share(), now);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, server));
            }
        }
        best.map(|(_, server)| server)
    }

    fn first(&self, fits: impl Fn(usize, &Slot) -> bool) -> Option<usize> {
        self.fitting(&fits).next()
    }

    /// The nearest member, unless many wait there and few elsewhere. A server whose thread is held up by one request so does not
    /// draw all others into its queue. One that has less weight than another one, or warms up, gets as much less of what is near to it.
    fn nearest(&mut self, fits: impl Fn(usize, &Slot) -> bool, servers: &impl Servers) -> Option<usize> {
        let near = servers.near().filter(|&near| self.slots.get(near).is_some_and(|slot| fits(near, slot)));
        let waiting = near.map(|near| servers.queued(near));
        let is_others = near.is_some_and(|near| !self.is_part_of_nearest(near));
        if !is_others && waiting.is_some_and(|waiting| waiting < SPILL_DEPTH) {
            return near;
        }
        let candidates = |server: usize, slot: &Slot| !(is_others && near == Some(server)) && fits(server, slot);
        let load = |server: &usize| (servers.queued(*server), self.slots[*server].active.get());
        let Some(shortest) = self.fitting(&candidates).min_by_key(load) else { return near };
        match waiting {
            Some(waiting) if !is_others && 2 * servers.queued(shortest) >= waiting => near,
            _ => Some(shortest),
        }
    }

    /// The next request that is near to this member is one of those that it is to have.
    fn is_part_of_nearest(&mut self, near: usize) -> bool {
        let (share, most) = (u64::from(self.slots[near].share()), u64::from(self.view.share_max));
        if share >= most {
            return true;
        }
        let owed = self.view.owed_to_nearest + share;
        let is_its = owed >= most;
        self.view.owed_to_nearest = if is_its { (owed - most).min(most) } else { owed };
        is_its
    }

    /// The first in the order of `key` that is not beyond its bound; without such, the first that fits at all.
    fn by_key(
        &self,
        table: &Rendezvous,
        load_max: LoadMax,
        key: u64,
        fits: impl Fn(usize, &Slot) -> bool,
    ) -> Option<usize> {
        let fits = |server: usize| {
            let slot = &self.slots[server];
            fits(server, slot) && (slot.warmth == WARM || rendezvous::part(key) < slot.warmth)
        };
        let is_within = |server: usize| fits(server) && self.is_within_bound(&self.slots[server], load_max);
        let winner = table.winner(key);
        if is_within(winner) {
            return Some(winner);
        }
        table.best(key, is_within).or_else(|| table.best(key, fits))
    }

    /// One more request leaves `slot` within `load_max` percent of its part of all requests under way, rounded up
    /// (Mirrokni, Thorup and Zadimoghaddam 2018). Each worker keeps the bound, so all together do to within one request
    /// for each of them.
    fn is_within_bound(&self, slot: &Slot, load_max: LoadMax) -> bool {
        let Some(load_max) = load_max else { return true };
        let part = u64::from(self.active.get() + 1) * u64::from(load_max) * u64::from(slot.share());
        u64::from(slot.active.get()) < part.div_ceil(100 * self.view.shares.max(1))
    }

    fn fitting<'a>(&'a self, fits: &'a impl Fn(usize, &Slot) -> bool) -> impl Iterator<Item = usize> + 'a {
        let members = self.view.members.iter().map(|&member| usize::from(member));
        members.filter(move |&server| fits(server, &self.slots[server]))
    }
}

/// Servers of one tier.
#[derive(Clone, Copy, Default)]
struct Tier {
    /// With a weight.
    all: u32,
    up: u32,
    /// Up and not resting.
    awake: u32,
}

/// The tier to use, and whether its resting servers are to be used.
fn choose_tier(tiers: &[Tier], held: usize, min: TierMin) -> (u8, bool) {
    let find = |is_it: &dyn Fn(&Tier) -> bool| {
        std::iter::once(held).chain(0..tiers.len()).find(|&at| tiers.get(at).is_some_and(is_it))
    };
    let enough = find(&|tier| tier.awake > 0 && tier.awake >= min.servers(tier.all));
    match enough.or_else(|| find(&|tier| tier.awake > 0)) {
        Some(tier) => (tier as u8, false),
        None => (find(&|tier| tier.up > 0).unwrap_or(0) as u8, true),
    }
}

impl Slot {
    fn of(weight: u32, tier: u8) -> Slot {
        Slot {
            configured: weight,
            set: None,
            tier,
            is_gone: false,
            active: Rc::default(),
            credit: 0,
            rests_until: None,
            time: ResponseTime::default(),
            warmth: WARM,
            is_member: false,
        }
    }

    /// 0: nothing new is sent there.
    fn weight(&self) -> u32 {
        self.set.unwrap_or(self.configured)
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Its weight now, in [`WARM`]ths.
    fn share(&self) -> u32 {
        self.weight() * self.warmth
    }

    fn load(&self) -> Load {
        Load { active: u64::from(self.active.get()), share: u64::from(self.share()) }
    }
}

/// Requests in relation to weight, compared as fractions.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    share: u64,
}

impl Load {
    fn is_below(self, other: Load) -> bool {
        self.active * other.share < other.active * self.share
    }

    fn is_at_most(self, other: Load) -> bool {
        !other.is_below(self)
    }

    fn with_one_more(self) -> Load {
        Load { active: self.active + 1, ..self }
    }
}

/// Each worker is as many turns into the rotation of each tier as its index says.
fn begin_turns(slots: &mut [Slot], tiers: u8, worker: usize) {
    for tier in 0..tiers {
        let all: SmallVec<[u16; 16]> =
            (0..slots.len() as u16).filter(|&at| slots[usize::from(at)].tier == tier).collect();
        for _ in 0..worker {
            next_in_turn(slots, &all, |_, slot| slot.weight() > 0);
        }
    }
}

/// Smooth weighted round-robin among those of `members` that fit: each earns its weight, the richest is chosen and pays
/// what all of them earned. Over any run of (sum of weights) turns with the same servers each is chosen weight times,
/// spread evenly.
fn next_in_turn(slots: &mut [Slot], members: &[u16], fits: impl Fn(usize, &Slot) -> bool) -> Option<usize> {
    let mut earned = 0;
    let mut richest: Option<(usize, i64)> = None;
    for &member in members {
        let server = usize::from(member);
        let slot = &mut slots[server];
        if !fits(server, slot) {
            continue;
        }
        let share = i64::from(slot.share());
        slot.credit += share;
        earned += share;
        if richest.is_none_or(|(_, credit)| slot.credit > credit) {
            richest = Some((server, slot.credit));
        }
    }
    let (server, _) = richest?;
    slots[server].credit -= earned;
    Some(server)
}
