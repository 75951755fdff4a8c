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

#[cfg(not(model_check))]
mod limits;
#[cfg(all(test, model_check))]
mod model;
mod queue;
#[cfg(all(test, not(model_check)))]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::runtime::net::Address;
use crate::runtime::sync::{
    ArrayQueue, AtomicBool, AtomicU32, AtomicUsize, AtomicWaker, CachePadded, Ordering::SeqCst, fence, register,
};

pub use queue::{Bell, Granted, Queue, QueueFull, Waiting};

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

/// A gate of servers without limits of their own.
#[cfg(test)]
fn gate(servers: usize, workers: usize, most: Option<u32>, waiting_max: Waits) -> Arc<Gate> {
    let address = |at| Address::Unix(format!("/{at}").into());
    let servers = (0..servers).map(|at| (address(at), Places::new(None))).collect();
    Arc::new(Gate::new(Places::new(most), servers, workers, waiting_max))
}
