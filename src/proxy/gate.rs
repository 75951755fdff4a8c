//! How many requests the servers of an upstream have at once, in the whole process, and who waits for a place.
//!
//! All data workers share one [`Gate`] for each upstream that has a limit. It takes no lock: a place is an atomic count
//! on a cache line of its own, and those who wait stand in bounded lines of tickets.
//!
//! A ticket is the number of a worker. The requests of one worker wait in that worker's own memory in order of arrival
//! (a line); each puts one ticket of its worker into the shared line. Whoever gives a place back *settles*: as long as
//! there is a free place and a ticket, it takes the place, takes the first ticket, and *grants* the place to that worker,
//! which gives it to its first request. A place is not given to somebody who has just come while others wait.
//!
//! There are two kinds of line: one for any server of the upstream, and one for each server, for requests that belong
//! there, and for those that have failed elsewhere. A free place goes to the two in turn.
//!
//! # Why nobody waits beside a free place
//!
//! Who waits puts a ticket in, then settles. Who leaves adds a free place, then settles. To settle begins with a fence, so
//! of the two at least the one whose fence comes second finds what the other has left. Where a place was taken and there was no
//! ticket after all, it is given back, which is a leaving, and the look starts anew. So when nobody settles, no free place
//! and no ticket for it are left (`loom_` tests below).
//!
//! # Fairness
//!
//! Tickets leave a line in the order in which they came. A request that gives up while it waits leaves its ticket behind:
//! those behind it at the same worker move up, and the next one that comes there takes the last ticket instead of a new
//! one. So for a request that waits, at most as many places are granted to others before it as there were tickets in its
//! line when it came, whatever worker it is at; and while nobody gives up, all workers together serve in order of
//! arrival. A ticket nobody uses costs no place: its worker passes the place on.
//!
//! One that has just come may take a place in the moment between the ticket of another and the end of its settling; this
//! can be one request for each other worker.
//!
//! # Another config
//!
//! A reload makes another gate ([`Gate::next`]), which has lines of its own and shares the counts of places, and how many
//! there may be, with the one before: what is under way counts in both for as long as it lasts, whichever of them it came
//! through, and a limit that has changed is in force in both at once. Who waits at the old one goes on to wait there; a
//! place given back at one of them is nothing that the other notices, so that the driver settles both
//! (`worker/forward/choose.rs`). A queue that ends closes its door, and what is granted there is given back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::config::Heirs;
use crate::config::model::{Server, Upstream};
use crate::runtime::net::Address;
use crate::runtime::sync::{
    ArrayQueue, AtomicBool, AtomicU32, AtomicUsize, AtomicWaker, CachePadded, Ordering::SeqCst, fence, register,
};

/// Second tries that wait for one server, where it has no sticky clients.
const RETRIES_WAIT_MAX: usize = 64;

/// Tickets of a line that many workers share: beyond twice as many as may wait, not more than this.
const LINE_TICKETS_MAX: usize = 4096;

/// What is asked for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any server that takes new requests.
    Any,
    /// This one.
    Own(usize),
}

/// What the servers may have now, as one worker knows it.
pub trait Open {
    /// Requests that `server` may have at once. `new`: for requests that belong nowhere; 0 when it takes none of these.
    /// `None`: any number.
    fn places(&self, server: usize, new: bool) -> Option<u32>;
}

/// The limits of one upstream in the whole process.
pub struct Gate {
    /// Of all servers together.
    all: Count,
    servers: Box<[CachePadded<ServerGate>]>,
    /// Of servers that configs before had, and that had requests under way when the last one was made: they may come back.
    gone: Vec<(Address, Count)>,
    any: ArrayQueue<u16>,
    /// Requests that wait, in all workers.
    waiting: CachePadded<AtomicUsize>,
    waiting_max: usize,
    doors: Box<[CachePadded<Door>]>,
}

/// Most requests that wait.
#[derive(Clone, Copy)]
struct Waits {
    /// In all.
    all: usize,
    /// For a place at a server that they belong to.
    own: usize,
}

/// Shared by the gates of all configs that have what it counts.
type Count = Arc<CachePadded<Places>>;

/// Places at a server, or at all of an upstream.
struct Places {
    /// Requests under way.
    used: AtomicU32,
    /// How many there may be; [`ANY`]: any number. Writer: the control thread.
    most: AtomicU32,
}

/// No limit.
const ANY: u32 = u32::MAX;

impl Places {
    fn new(most: Option<u32>) -> Count {
        Arc::new(CachePadded::new(Places { used: AtomicU32::new(0), most: AtomicU32::new(most.unwrap_or(ANY)) }))
    }

    fn most(&self) -> Option<u32> {
        Some(self.most.load(SeqCst)).filter(|most| *most != ANY)
    }

    fn set_most(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(ANY), SeqCst);
    }
}

struct ServerGate {
    address: Address,
    places: Count,
    own: ArrayQueue<u16>,
    /// Whose turn it was last.
    was_own: AtomicBool,
}

/// Where a worker gets its places.
struct Door {
    /// Places granted and not yet fetched: by server, for any, then for its own.
    granted: Box<[AtomicU32]>,
    /// Something was granted since the worker last looked.
    is_rung: AtomicBool,
    /// Nobody fetches anything here any more.
    is_closed: AtomicBool,
    waker: AtomicWaker,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Gate {
    /// The gate of `upstream` for so many data workers; `None`: nothing of it is limited. `limits` are those of its servers,
    /// in their order, which the operator may have set otherwise than the config.
    pub fn of(upstream: &Upstream, limits: &[Option<u32>], workers: usize) -> Option<Arc<Gate>> {
        let is_limited = upstream.requests_max.is_some() || limits.iter().any(Option::is_some);
        let own_max = match (upstream.sticky.is_some(), upstream.retry.tries_max) {
            (true, _) => upstream.queue_max,
            // Without cookies nobody belongs to a server but those who have failed at the others.
            (false, 2..) => upstream.queue_max.min(RETRIES_WAIT_MAX),
            (false, _) => 0,
        };
        let waiting_max = Waits { all: upstream.queue_max, own: own_max };
        let server = |(server, limit): (&Server, &Option<u32>)| (server.address.clone(), Places::new(*limit));
        let make = || {
            let servers = upstream.servers.iter().zip(limits).map(server).collect();
            Gate::new(Places::new(upstream.requests_max), servers, workers, waiting_max)
        };
        is_limited.then(|| Arc::new(make()))
    }

    /// The gate of `upstream` under the config that follows; `heirs` tells the old indexes of servers that stay. Their
    /// requests under way go on to count, and the limits it has are in force at once, here too. `None`: nothing is limited
    /// any more. What is limited where nothing was counts from zero.
    pub fn next(
        &self,
        upstream: &Upstream,
        limits: &[Option<u32>],
        heirs: &Heirs,
        workers: usize,
    ) -> Option<Arc<Gate>> {
        let stays = heirs.new_indexes(self.servers.len());
        let leaving = self.servers.iter().zip(stays).filter(|(_, stays)| stays.is_none());
        let leaving = leaving.map(|(server, _)| (server.address.clone(), server.places.clone()));
        let mut gone: Vec<(Address, Count)> = leaving.chain(self.gone.iter().cloned()).collect();
        gone.retain(|(_, places)| places.used.load(SeqCst) > 0);
        let mut next = Gate::of(upstream, limits, workers).and_then(Arc::into_inner);
        self.all.set_most(next.as_ref().and(upstream.requests_max));
        for (at, (server, heir)) in upstream.servers.iter().zip(&heirs.0).enumerate() {
            let limit = limits[at];
            let back = || gone.iter().position(|(address, _)| *address == server.address);
            let places = match heir {
                Some(old) => self.servers[*old].places.clone(),
                None => match back() {
                    Some(place) => gone.swap_remove(place).1,
                    None => continue,
                },
            };
            places.set_most(next.as_ref().and(limit));
            if let Some(next) = &mut next {
                next.servers[at].places = places;
            }
        }
        next.map(|next| Arc::new(Gate { all: self.all.clone(), gone, ..next }))
    }

    fn new(all: Count, servers: Vec<(Address, Count)>, workers: usize, waiting_max: Waits) -> Gate {
        let count = servers.len();
        // Tickets left behind take room as well; each worker uses its own again.
        // Tickets of those that gave up stay with their worker until they are used, so that each may hold as many as may wait.
        let line = |waiting_max: usize| {
            let tickets = (2 * waiting_max).max((workers * waiting_max).min(LINE_TICKETS_MAX));
            ArrayQueue::new(tickets.max(1))
        };
        let server = |(address, places)| {
            let (own, was_own) = (line(waiting_max.own), AtomicBool::new(false));
            CachePadded::new(ServerGate { address, places, own, was_own })
        };
        let door = |_| {
            CachePadded::new(Door {
                granted: (0..2 * count).map(|_| AtomicU32::new(0)).collect(),
                is_rung: AtomicBool::new(false),
                is_closed: AtomicBool::new(false),
                waker: AtomicWaker::new(),
            })
        };
        Gate {
            all,
            servers: servers.into_iter().map(server).collect(),
            gone: Vec::new(),
            any: line(waiting_max.all),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            waiting_max: waiting_max.all,
            doors: (0..workers).map(door).collect(),
        }
    }

    /// Whether a request that has just come may take a place at `server`: there is one, and nobody waits for it.
    pub fn has_room(&self, server: usize, places: Option<u32>) -> bool {
        let gate = &self.servers[server];
        let nobody_waits = || self.any.is_empty() && gate.own.is_empty();
        (self.waiting.load(SeqCst) == 0 || nobody_waits())
            && has_place(&gate.places, places)
            && has_place(&self.all, self.all.most())
    }

    /// Takes a place at `server`, of which there are `places`. Whoever gets `false` and does not come back later with
    /// [`Queue::wait`] calls [`Gate::settle`]: for a moment it may have kept a place from others.
    pub fn try_take(&self, server: usize, places: Option<u32>) -> bool {
        if !take(&self.all, self.all.most()) {
            return false;
        }
        let is_taken = take(&self.servers[server].places, places);
        if !is_taken {
            self.all.used.fetch_sub(1, SeqCst);
        }
        is_taken
    }

    /// Gives the place at `server` back, which goes to those who wait.
    pub fn give_back(&self, server: usize, open: &impl Open) {
        self.free(server);
        self.settle_from(server, open);
    }

    /// Gives the place at `server` back, and leaves it to the caller to settle.
    pub fn free(&self, server: usize) {
        self.servers[server].places.used.fetch_sub(1, SeqCst);
        self.all.used.fetch_sub(1, SeqCst);
    }

    /// Requests that `server` may have at once, as the newest config has it; `None`: any number.
    pub fn most(&self, server: usize) -> Option<u32> {
        self.servers[server].places.most()
    }

    /// Sets what [`Gate::most`] tells, at the gates of all configs that have the server. Writer: the control thread.
    pub(crate) fn set_most(&self, server: usize, most: Option<u32>) {
        self.servers[server].places.set_most(most);
    }

    /// Requests that wait, in all workers.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Requests under way at `server`.
    pub fn used(&self, server: usize) -> u32 {
        self.servers[server].places.used.load(SeqCst)
    }

    /// Brings free places and tickets together. To be called as well when `open` says more than before.
    pub fn settle(&self, open: &impl Open) {
        // Where only the upstream is limited all servers have room: not always the first one.
        self.settle_from(self.waiting() % self.servers.len().max(1), open);
    }

    fn settle_from(&self, first: usize, open: &impl Open) {
        loop {
            // Between what was done before (a place freed, a ticket put in) and the looks below; see the head of this file.
            fence(SeqCst);
            if self.waiting.load(SeqCst) == 0 || !self.settle_once(first, open) {
                return;
            }
        }
    }

    /// One look at every server; `true`: a place was given back meanwhile, which a server looked at before may want.
    fn settle_once(&self, first: usize, open: &impl Open) -> bool {
        let mut again = false;
        for server in (first..self.servers.len()).chain(0..first) {
            let gate = &self.servers[server];
            loop {
                let (new, own) = (open.places(server, true), open.places(server, false));
                let for_any = !self.any.is_empty() && new != Some(0);
                let for_own = !gate.own.is_empty() && own != Some(0);
                if !for_any && !for_own {
                    break;
                }
                let is_own = match (for_any, for_own) {
                    (true, true) => !gate.was_own.load(SeqCst),
                    _ => for_own,
                };
                let places = if is_own { own } else { new };
                if !has_place(&self.all, self.all.most()) || !has_place(&gate.places, places) {
                    break;
                }
                if !self.try_take(server, places) {
                    again = true;
                    break;
                }
                let line = if is_own { &gate.own } else { &self.any };
                match line.pop() {
                    Some(worker) => {
                        gate.was_own.store(is_own, SeqCst);
                        let door = &self.doors[usize::from(worker)];
                        if !door.grant(server + if is_own { self.servers.len() } else { 0 }) {
                            self.take_back(door);
                            again = true;
                        }
                    }
                    None => {
                        self.free(server);
                        again = true;
                    }
                }
            }
        }
        again
    }

    /// Frees what is granted at a door that is closed.
    fn take_back(&self, door: &Door) {
        for (place, granted) in door.granted.iter().enumerate() {
            (0..granted.swap(0, SeqCst)).for_each(|_| self.free(place % self.servers.len()));
        }
    }
}

fn has_place(at: &Places, places: Option<u32>) -> bool {
    places.is_none_or(|places| at.used.load(SeqCst) < places)
}

fn take(at: &Places, places: Option<u32>) -> bool {
    let one_more = |used| (places.is_none_or(|places| used < places)).then_some(used + 1);
    at.used.fetch_update(SeqCst, SeqCst, one_more).is_ok()
}

impl Door {
    /// `false`: it is closed, and what is granted there must be taken back. One of the two who close and grant at the same
    /// time sees what the other has done.
    fn grant(&self, place: usize) -> bool {
        self.granted[place].fetch_add(1, SeqCst);
        if self.is_closed.load(SeqCst) {
            return false;
        }
        self.ring();
        true
    }

    fn ring(&self) {
        if !self.is_rung.swap(true, SeqCst) {
            self.waker.wake();
        }
    }

    /// See [`crate::runtime::mailbox`] for why no wake-up is lost.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        register(&self.waker, cx);
        if self.is_rung.swap(false, SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tells when places are granted at a queue. It does not keep the queue.
pub struct Bell {
    gate: Arc<Gate>,
    worker: u16,
}

impl Bell {
    /// Waits until something is granted, for [`Queue::hand_out`]; `false`: the queue is gone.
    pub async fn rung(&self) -> bool {
        let door = &self.gate.doors[usize::from(self.worker)];
        poll_fn(|cx| door.poll(cx)).await;
        !door.is_closed.load(SeqCst)
    }
}

/// The requests of one worker that wait at one gate.
pub struct Queue {
    gate: Arc<Gate>,
    worker: u16,
    any: Line,
    own: Box<[Line]>,
}

/// Those that wait for the same, in order of arrival.
#[derive(Default)]
struct Line {
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Tickets of this worker that no request uses.
    unused: Cell<u32>,
}

#[derive(Default)]
struct Waiter {
    granted: Cell<Option<Granted>>,
    waker: RefCell<Option<Waker>>,
}

/// A request that waits. When it is dropped it leaves the queue.
pub struct Waiting<'a, O: Open> {
    queue: &'a Queue,
    open: &'a O,
    kind: Kind,
    waiter: Rc<Waiter>,
    /// Requests that waited for the same at this worker and in others, when it came.
    pub ahead: usize,
}

/// What comes of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A place at this server, which is the caller's to give back.
    Place(usize),
    /// The server it belongs to is gone: choose anew.
    Nothing,
}

/// There are as many requests waiting as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Queue {
    /// Nobody waits.
    pub fn new(gate: Arc<Gate>, worker: usize) -> Queue {
        let own = (0..gate.servers.len()).map(|_| Line::default()).collect();
        Queue { gate, worker: worker as u16, any: Line::default(), own }
    }

    /// The gate it is at.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Queues up. Errors: [`QueueFull`].
    pub fn wait<'a, O: Open>(&'a self, kind: Kind, open: &'a O) -> Result<Waiting<'a, O>, QueueFull> {
        let refuse = || {
            self.gate.waiting.fetch_sub(1, SeqCst);
            self.gate.settle(open);
            Err(QueueFull)
        };
        if self.gate.waiting.fetch_add(1, SeqCst) >= self.gate.waiting_max {
            return refuse();
        }
        let (line, tickets) = self.line(kind);
        let ahead = tickets.len();
        match line.unused.get().checked_sub(1) {
            Some(left) => line.unused.set(left),
            None if tickets.push(self.worker).is_err() => return refuse(),
            None => {}
        }
        let waiter = Rc::<Waiter>::default();
        line.waiters.borrow_mut().push_back(waiter.clone());
        self.gate.settle(open);
        Ok(Waiting { queue: self, open, kind, waiter, ahead })
    }

    fn line(&self, kind: Kind) -> (&Line, &ArrayQueue<u16>) {
        match kind {
            Kind::Any => (&self.any, &self.gate.any),
            Kind::Own(server) => (&self.own[server], &self.gate.servers[server].own),
        }
    }

    /// Those that wait for a place at `server` because they belong there choose anew.
    pub fn send_elsewhere(&self, server: usize) {
        let line = &self.own[server];
        for waiter in line.waiters.take() {
            line.unused.set(line.unused.get() + 1);
            self.gate.waiting.fetch_sub(1, SeqCst);
            waiter.tell(Granted::Nothing);
        }
    }

    /// Rings when places are granted to this worker.
    pub fn bell(&self) -> Bell {
        Bell { gate: self.gate.clone(), worker: self.worker }
    }

    #[cfg(test)]
    async fn deliver<O: Open>(&self, open: impl Fn() -> O) {
        self.bell().rung().await;
        self.hand_out(&open());
    }

    /// Gives the places that are granted to this worker to its requests.
    pub fn hand_out(&self, open: &impl Open) {
        let servers = self.gate.servers.len();
        for (place, granted) in self.gate.doors[usize::from(self.worker)].granted.iter().enumerate() {
            for _ in 0..granted.swap(0, SeqCst) {
                let server = place % servers;
                let line = if place < servers { &self.any } else { &self.own[server] };
                let first = line.waiters.borrow_mut().pop_front();
                match first {
                    Some(waiter) => {
                        self.gate.waiting.fetch_sub(1, SeqCst);
                        waiter.tell(Granted::Place(server));
                    }
                    None => {
                        line.unused.set(line.unused.get().saturating_sub(1));
                        self.gate.give_back(server, open);
                    }
                }
            }
        }
    }
}

impl Drop for Queue {
    /// Nobody waits any more, but tickets may be left. Whoever wants a place that is free now finds it when the gate is
    /// settled next.
    fn drop(&mut self) {
        let door = &self.gate.doors[usize::from(self.worker)];
        door.is_closed.store(true, SeqCst);
        self.gate.take_back(door);
        door.ring();
    }
}

impl Waiter {
    fn tell(&self, granted: Granted) {
        self.granted.set(Some(granted));
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<O: Open> Waiting<'_, O> {
    /// Waits for the place.
    pub async fn granted(&mut self) -> Granted {
        poll_fn(|cx| match self.waiter.granted.take() {
            Some(granted) => Poll::Ready(granted),
            None => {
                *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl<O: Open> Drop for Waiting<'_, O> {
    fn drop(&mut self) {
        if let Some(Granted::Place(server)) = self.waiter.granted.take() {
            return self.queue.gate.give_back(server, self.open);
        }
        let (line, _) = self.queue.line(self.kind);
        let mut waiters = line.waiters.borrow_mut();
        let at = waiters.iter().position(|waiter| Rc::ptr_eq(waiter, &self.waiter));
        if at.and_then(|at| waiters.remove(at)).is_some() {
            line.unused.set(line.unused.get() + 1);
            self.queue.gate.waiting.fetch_sub(1, SeqCst);
        }
    }
}

/// A gate of servers without limits of their own.
#[cfg(test)]
fn gate(servers: usize, workers: usize, most: Option<u32>, waiting_max: Waits) -> Arc<Gate> {
    let address = |at| Address::Unix(format!("/{at}").into());
    let servers = (0..servers).map(|at| (address(at), Places::new(None))).collect();
    Arc::new(Gate::new(Places::new(most), servers, workers, waiting_max))
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use std::pin::{Pin, pin};

    use proptest::prelude::*;

    use super::*;
    use crate::util::random::Random;

    /// So many places at each server, for everybody.
    struct Places(Vec<u32>);

    impl Open for Places {
        fn places(&self, server: usize, _new: bool) -> Option<u32> {
            Some(self.0[server])
        }
    }

    fn deliver(queue: &Queue, open: &Places) {
        let mut cx = Context::from_waker(Waker::noop());
        while pin!(queue.deliver(|| Places(open.0.clone()))).poll(&mut cx).is_ready() {}
    }

    fn poll(waiting: &mut Waiting<'_, Places>) -> Option<Granted> {
        match pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => Some(granted),
            Poll::Pending => None,
        }
    }

    fn queues(gate: &Arc<Gate>, workers: usize) -> Vec<Queue> {
        (0..workers).map(|worker| Queue::new(gate.clone(), worker)).collect()
    }

    #[test]
    fn places_go_to_workers_in_the_order_in_which_their_requests_came() {
        let (gate, open) = (gate(1, 3, None, Waits { all: 10, own: 10 }), Places(vec![1]));
        let queues = queues(&gate, 3);
        assert!(gate.try_take(0, Some(1)) && !gate.try_take(0, Some(1)));
        let mut waiting: Vec<_> =
            [2, 0, 1].iter().map(|&w: &usize| queues[w].wait(Kind::Any, &open).unwrap()).collect();
        assert_eq!(waiting.iter().map(|one| one.ahead).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(!gate.has_room(0, Some(9)), "others wait");
        for turn in 0..3 {
            gate.give_back(0, &open);
            queues.iter().for_each(|queue| deliver(queue, &open));
            let granted: Vec<_> = waiting.iter_mut().map(poll).collect();
            assert_eq!(granted.iter().position(Option::is_some), Some(turn), "{granted:?}");
        }
        assert_eq!((gate.used(0), gate.waiting()), (1, 0));
        gate.give_back(0, &open);
        assert!(gate.has_room(0, Some(1)));
    }

    #[test]
    fn the_queue_is_bounded_and_whoever_leaves_leaves_no_hole() {
        let (gate, open) = (gate(2, 2, Some(2), Waits { all: 2, own: 2 }), Places(vec![9, 9]));
        let queues = queues(&gate, 2);
        assert!(gate.try_take(0, None) && gate.try_take(1, None) && !gate.try_take(1, None), "two in all");
        let first = queues[0].wait(Kind::Any, &open).unwrap();
        let mut second = queues[1].wait(Kind::Any, &open).unwrap();
        assert_eq!(queues[0].wait(Kind::Any, &open).err(), Some(QueueFull));
        drop(first);
        gate.give_back(1, &open);
        // Its ticket comes first, and worker 0 passes the place on.
        queues.iter().for_each(|queue| deliver(queue, &open));
        assert_eq!(poll(&mut second), Some(Granted::Place(1)));
        drop(second);
        assert_eq!((gate.used(0), gate.used(1), gate.waiting()), (1, 1, 0), "where one has ended");
        // Thousands that come and go need no more room.
        for _ in 0..1000 {
            drop(queues[0].wait(Kind::Any, &open).unwrap());
        }
        let one_more = queues[0].wait(Kind::Any, &open).unwrap();
        drop(one_more);
    }

    #[test]
    fn a_place_granted_to_one_that_leaves_goes_on() {
        let (gate, open) = (gate(1, 2, None, Waits { all: 10, own: 10 }), Places(vec![1]));
        let queues = queues(&gate, 2);
        assert!(gate.try_take(0, Some(1)));
        let first = queues[0].wait(Kind::Any, &open).unwrap();
        let mut second = queues[1].wait(Kind::Any, &open).unwrap();
        gate.give_back(0, &open);
        queues.iter().for_each(|queue| deliver(queue, &open));
        drop(first);
        queues.iter().for_each(|queue| deliver(queue, &open));
        assert_eq!(poll(&mut second), Some(Granted::Place(0)));
    }

    #[test]
    fn those_that_belong_to_a_server_and_the_others_take_turns() {
        let (gate, open) = (gate(2, 1, None, Waits { all: 20, own: 20 }), Places(vec![1, 0]));
        let queue = Queue::new(gate.clone(), 0);
        assert!(gate.try_take(0, Some(1)));
        let kinds = [Kind::Any, Kind::Any, Kind::Own(0), Kind::Own(0), Kind::Own(1)];
        let mut waiting: Vec<_> = kinds.into_iter().map(|kind| queue.wait(kind, &open).unwrap()).collect();
        let mut order = Vec::new();
        for _ in 0..4 {
            gate.give_back(0, &open);
            deliver(&queue, &open);
            order.extend(waiting.iter_mut().position(|one| poll(one).is_some()));
        }
        assert_eq!(order, [2, 0, 3, 1]);
        // The last one waits for a server that takes nobody, until it is told to look elsewhere.
        assert_eq!(poll(&mut waiting[4]), None);
        queue.send_elsewhere(1);
        assert_eq!(poll(&mut waiting[4]), Some(Granted::Nothing));
        drop(waiting);
        assert_eq!(gate.waiting(), 0);
    }

    /// The limits of the gate itself.
    struct Most<'a>(&'a Gate);

    impl Open for Most<'_> {
        fn places(&self, server: usize, _new: bool) -> Option<u32> {
            self.0.most(server)
        }
    }

    fn upstream(requests_max: Option<u32>, servers: &[(&str, Option<u32>)]) -> Upstream {
        let upstream = crate::config::Defaults::new(Default::default()).upstream("api");
        let server = |(address, requests_max): &(&str, Option<u32>)| Server {
            requests_max: *requests_max,
            ..Server::new(address.parse().unwrap())
        };
        Upstream { requests_max, queue_max: 12, servers: servers.iter().map(server).collect(), ..upstream }
    }

    /// As the config has them.
    fn limits(upstream: &Upstream) -> Vec<Option<u32>> {
        upstream.servers.iter().map(|server| server.requests_max).collect()
    }

    #[test]
    fn what_is_under_way_counts_by_every_config_and_limits_change_at_once() {
        let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
        let of = |upstream: &Upstream, workers| Gate::of(upstream, &limits(upstream), workers);
        let next = |old: &Gate, upstream: &Upstream, heirs: &Heirs| old.next(upstream, &limits(upstream), heirs, 1);
        let old = of(&upstream(Some(9), &[(a, Some(1)), (b, Some(2))]), 1).unwrap();
        assert!(old.try_take(0, old.most(0)) && old.try_take(1, old.most(1)) && old.try_take(1, old.most(1)));
        assert!(!old.try_take(0, old.most(0)));
        // `a` has gone, `b` may have more.
        let new = next(&old, &upstream(Some(4), &[(c, Some(1)), (b, Some(3))]), &Heirs(vec![None, Some(1)])).unwrap();
        assert_eq!((new.used(0), new.used(1), old.most(1)), (0, 2, Some(3)));
        assert!(new.try_take(1, new.most(1)) && !new.try_take(0, new.most(0)), "one at `a` and three at `b` are four");
        old.free(1);
        assert_eq!((new.used(1), old.used(1)), (2, 2));
        // It comes back before its request has ended.
        let back = next(&new, &upstream(None, &[(a, Some(1)), (b, Some(1))]), &Heirs(vec![None, Some(1)])).unwrap();
        assert_eq!((back.used(0), back.used(1)), (1, 2));
        assert!(!back.try_take(0, back.most(0)) && !old.try_take(1, old.most(1)));
        old.free(0);
        [&old, &new].iter().for_each(|gate| gate.free(1));
        assert!(back.try_take(0, back.most(0)) && back.try_take(1, back.most(1)));
        // Nothing is limited any more, for those who wait neither.
        let queue = Queue::new(back.clone(), 0);
        let open = Most(&back);
        let mut waiting = queue.wait(Kind::Any, &open).unwrap();
        let unlimited = next(&back, &upstream(None, &[(a, None), (b, None)]), &Heirs(vec![Some(0), Some(1)]));
        assert!(unlimited.is_none());
        back.settle(&open);
        queue.hand_out(&open);
        let granted = pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(granted, Poll::Ready(Granted::Place(_))), "{granted:?}");
    }

    #[test]
    fn tickets_of_a_queue_that_has_gone_cost_no_place() {
        for is_granted_before in [false, true] {
            let (gate, open) = (gate(1, 2, None, Waits { all: 10, own: 10 }), Places(vec![1]));
            let (gone, stays) = (Queue::new(gate.clone(), 0), Queue::new(gate.clone(), 1));
            let bell = gone.bell();
            assert!(gate.try_take(0, Some(1)));
            drop(gone.wait(Kind::Any, &open).unwrap());
            let mut waiting = stays.wait(Kind::Any, &open).unwrap();
            if is_granted_before {
                gate.give_back(0, &open);
                drop(gone);
                gate.settle(&open);
            } else {
                drop(gone);
                gate.give_back(0, &open);
            }
            deliver(&stays, &open);
            assert_eq!((poll(&mut waiting), gate.used(0)), (Some(Granted::Place(0)), 1));
            let rung = pin!(bell.rung()).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(rung, Poll::Ready(false), "who delivered there ends");
        }
    }

    proptest! {
        /// Requests come through the gates of several configs, the older ones with the last requests that have them: together
        /// they never have more places than there are, and none is lost.
        #[test]
        fn gates_of_several_configs_are_one(seed: u64, workers in 1usize..3) {
            let mut random = Random::new(seed);
            let most = (random.below(2) == 0).then(|| 1 + random.below(4) as u32);
            let config = upstream(most, &[("10.0.0.1:1", Some(2)), ("10.0.0.2:1", Some(1))]);
            let turned = upstream(most, &[("10.0.0.2:1", Some(1)), ("10.0.0.1:1", Some(2))]);
            let first = Gate::of(&config, &limits(&config), workers).unwrap();
            let second = first.next(&turned, &limits(&turned), &Heirs(vec![Some(1), Some(0)]), workers).unwrap();
            let third = second.next(&config, &limits(&config), &Heirs(vec![Some(1), Some(0)]), workers).unwrap();
            let gates = [first, second, third];
            let opens: Vec<Most<'_>> = gates.iter().map(|gate| Most(gate)).collect();
            let queues: Vec<Vec<Queue>> = gates.iter().map(|gate| queues(gate, workers)).collect();
            // By the order of the first.
            let server_of = |config: usize, server: usize| if config == 1 { 1 - server } else { server };
            let mut under_way: Vec<(usize, usize)> = Vec::new();
            let mut waiting = Vec::new();
            for step in 0..300 {
                match random.below(5) {
                    0 | 1 => {
                        let newest = step / 100;
                        let config = if random.below(4) == 0 { random.below(newest + 1) } else { newest };
                        let (gate, server) = (&gates[config], random.below(2));
                        if gate.has_room(server, gate.most(server)) && gate.try_take(server, gate.most(server)) {
                            under_way.push((config, server));
                        } else if let Ok(one) = queues[config][random.below(workers)].wait(Kind::Any, &opens[config]) {
                            waiting.push((config, Box::pin(one)));
                        }
                    }
                    2 | 3 if !under_way.is_empty() => {
                        let (config, server) = under_way.swap_remove(random.below(under_way.len()));
                        gates[config].free(server);
                    }
                    4 if !waiting.is_empty() => drop(waiting.swap_remove(random.below(waiting.len()))),
                    _ => {}
                }
                for _ in 0..2 * 12 {
                    gates.iter().zip(&opens).for_each(|(gate, open)| gate.settle(open));
                    queues.iter().zip(&opens).for_each(|(queues, open)| queues.iter().for_each(|q| q.hand_out(open)));
                }
                waiting.retain_mut(|(config, one)| {
                    match pin!(one.granted()).poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(Granted::Place(server)) => under_way.push((*config, server)),
                        Poll::Ready(Granted::Nothing) => unreachable!("nobody is sent elsewhere"),
                        Poll::Pending => return true,
                    }
                    false
                });
                let mut has_free = false;
                for (server, places) in [2, 1].into_iter().enumerate() {
                    let count = under_way.iter().filter(|(config, at)| server_of(*config, *at) == server).count() as u32;
                    prop_assert!(count <= places);
                    has_free |= count < places;
                    for (config, gate) in gates.iter().enumerate() {
                        prop_assert_eq!(gate.used(server_of(config, server)), count);
                    }
                }
                let total = under_way.len() as u32;
                prop_assert!(most.is_none_or(|most| total <= most));
                let has_free = has_free && most.is_none_or(|most| total < most);
                prop_assert!(waiting.is_empty() || !has_free, "{} wait beside a free place", waiting.len());
            }
        }

        /// Requests come, get places, end and give up at random in several workers: never more than may are under way,
        /// nobody waits beside a free place, and nobody waits for more grants than there were tickets before it.
        #[test]
        fn places_are_neither_lost_nor_given_twice(seed: u64, workers in 1usize..5, servers in 1usize..4) {
            let mut random = Random::new(seed);
            let open = Places((0..servers).map(|_| 1 + random.below(3) as u32).collect());
            let most = (random.below(2) == 0).then(|| 1 + random.below(4) as u32);
            let gate = gate(servers, workers, most, Waits { all: 12, own: 12 });
            let queues = queues(&gate, workers);
            let mut under_way: Vec<usize> = Vec::new();
            let mut waiting: Vec<(Pin<Box<Waiting<'_, Places>>>, usize)> = Vec::new();
            let mut grants = 0usize;
            for _ in 0..600 {
                match random.below(6) {
                    0 | 1 => {
                        let server = random.below(servers);
                        let places = Some(open.0[server]);
                        if gate.has_room(server, places) && gate.try_take(server, places) {
                            under_way.push(server);
                        } else if let Ok(one) = queues[random.below(workers)].wait(Kind::Any, &open) {
                            let bound = grants + one.ahead;
                            waiting.push((Box::pin(one), bound));
                        }
                    }
                    2 | 3 if !under_way.is_empty() => {
                        let at = random.below(under_way.len());
                        gate.give_back(under_way.swap_remove(at), &open);
                    }
                    4 if !waiting.is_empty() => {
                        let at = random.below(waiting.len());
                        waiting.swap_remove(at);
                    }
                    _ => {}
                }
                // Whatever is on its way arrives.
                for _ in 0..2 * 12 {
                    queues.iter().for_each(|queue| deliver(queue, &open));
                }
                let mut at = 0;
                let mut now = 0;
                while at < waiting.len() {
                    match poll(&mut waiting[at].0) {
                        Some(Granted::Place(server)) => {
                            under_way.push(server);
                            let (_, bound) = waiting.remove(at);
                            prop_assert!(grants <= bound, "{grants} others got places, {bound} were ahead");
                            now += 1;
                        }
                        Some(Granted::Nothing) => unreachable!("nobody is sent elsewhere"),
                        None => at += 1,
                    }
                }
                grants += now;
                for server in 0..servers {
                    let count = under_way.iter().filter(|&&at| at == server).count() as u32;
                    prop_assert_eq!(count, gate.used(server));
                    prop_assert!(count <= open.0[server]);
                }
                let total = under_way.len() as u32;
                prop_assert!(most.is_none_or(|most| total <= most));
                let has_free = (0..servers).any(|server| gate.used(server) < open.0[server])
                    && most.is_none_or(|most| total < most);
                prop_assert!(waiting.is_empty() || !has_free, "{} wait beside a free place", waiting.len());
                prop_assert_eq!(gate.waiting(), waiting.len());
            }
        }
    }

    /// Threads that take, wait and give back as quickly as they can: all come to their end, so no place is lost.
    #[test]
    fn soak_no_place_is_lost() {
        const REQUESTS: usize = 2000;
        let gate = gate(2, 3, Some(3), Waits { all: 64, own: 64 });
        let peak = std::sync::atomic::AtomicU32::new(0);
        let busy = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (gate, peak, busy) = (gate.clone(), &peak, &busy);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let local = tokio::task::LocalSet::new();
                    let queue = Rc::new(Queue::new(gate, worker));
                    let deliverer = queue.clone();
                    local.spawn_local(async move {
                        loop {
                            deliverer.deliver(|| Places(vec![2, 2])).await;
                        }
                    });
                    let one = move |queue: Rc<Queue>, n: usize| async move {
                        let open = Places(vec![2, 2]);
                        let server = n % 2;
                        let is_taken = queue.gate().has_room(server, Some(2)) && queue.gate().try_take(server, Some(2));
                        let server = match is_taken {
                            true => server,
                            false => match queue.wait(Kind::Any, &open).expect("room").granted().await {
                                Granted::Place(server) => server,
                                Granted::Nothing => unreachable!(),
                            },
                        };
                        peak.fetch_max(busy.fetch_add(1, SeqCst) + 1, SeqCst);
                        tokio::task::yield_now().await;
                        busy.fetch_sub(1, SeqCst);
                        queue.gate().give_back(server, &open);
                    };
                    let all = local.run_until(async {
                        let tasks = (0..4).map(|task| {
                            let queue = queue.clone();
                            async move {
                                for n in 0..REQUESTS / 4 {
                                    one(queue.clone(), n + task).await;
                                }
                            }
                        });
                        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> =
                            tasks.map(|task| Box::pin(task) as Pin<Box<dyn Future<Output = ()>>>).collect();
                        poll_fn(|cx| {
                            tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                            if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await;
                    });
                    runtime.block_on(async {
                        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("a place was lost");
                        // Places for requests of others may still come here and have to be passed on.
                        local.run_until(tokio::time::sleep(std::time::Duration::from_millis(300))).await;
                    });
                });
            }
        });
        assert!(peak.into_inner() <= 3);
        assert_eq!((gate.used(0), gate.used(1), gate.waiting()), (0, 0, 0));
    }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use loom::future::block_on;

    use super::*;

    /// One place at one server.
    struct One;

    impl Open for One {
        fn places(&self, _server: usize, _new: bool) -> Option<u32> {
            Some(1)
        }
    }

    fn request(queue: &Queue) {
        let gate = queue.gate();
        if !(gate.has_room(0, Some(1)) && gate.try_take(0, Some(1))) {
            let mut waiting = queue.wait(Kind::Any, &One).expect("room");
            block_on(async {
                while waiting.waiter.granted.get().is_none() {
                    queue.deliver(|| One).await;
                }
                waiting.granted().await;
            });
        }
        gate.give_back(0, &One);
    }

    /// Two workers want the only place: under every interleaving both get it (else the model deadlocks).
    #[test]
    fn loom_nobody_waits_beside_a_free_place() {
        loom::model(|| {
            let gate = gate(1, 2, None, Waits { all: 2, own: 2 });
            let other = gate.clone();
            let thread = loom::thread::spawn(move || request(&Queue::new(other, 1)));
            request(&Queue::new(gate.clone(), 0));
            thread.join().unwrap();
            assert_eq!((gate.used(0), gate.waiting()), (0, 0));
        });
    }
}
