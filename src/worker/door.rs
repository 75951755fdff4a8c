//! An open listener of a data worker, and what it is to the connections that came through it.
//!
//! Listeners have other indexes in every config; a door keeps its slot for as long as it stands, and each
//! [`super::Worker`] knows which of its listeners is behind which slot. The connections of a listener that a new config does
//! not have keep the last config that had it: they finish what is under way and end.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handover::LATE_MAX;
use super::{Lasting, Worker};
use crate::metrics::ListenerStats;
use crate::runtime::net::Listener;

/// Tells a door from all others that there are or have been, and is the same on all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoorName {
    slot: usize,
    /// Number of the config that opened it: a slot is used again.
    opened_by: u32,
}

/// See the module.
pub(super) struct Door {
    /// Given by boot, the same on all workers.
    pub(super) slot: usize,
    opened_by: u32,
    pub(super) port: u16,
    /// `None`: it accepts no more.
    listener: RefCell<Option<Rc<Listener>>>,
    /// What the next request of its connections begins with.
    worker: RefCell<Rc<Worker>>,
    /// Counters of the listener.
    pub(super) stats: Arc<ListenerStats>,
    /// No new requests on its connections.
    closed_since: Cell<Option<Instant>>,
    /// No new requests on connections from before: a new config asks clients for something else than they were asked for
    /// when they connected.
    terms_since: Cell<Option<Instant>>,
}

/// How long idle connections are woken after the terms have changed.
const WAKING: Duration = Duration::from_secs(5);

impl Door {
    /// `None`: `worker` has no listener there.
    pub(super) fn new(slot: usize, port: u16, worker: &Rc<Worker>, listener: Rc<Listener>) -> Option<Door> {
        let index = (*worker.listeners.get(slot)?)?;
        Some(Door {
            slot,
            opened_by: worker.shared.generation,
            port,
            listener: RefCell::new(Some(listener)),
            stats: worker.stats.listeners[index].clone(),
            worker: RefCell::new(worker.clone()),
            closed_since: Cell::new(None),
            terms_since: Cell::new(None),
        })
    }

    pub(super) fn name(&self) -> DoorName {
        DoorName { slot: self.slot, opened_by: self.opened_by }
    }

    /// The worker as the present config has it; behind a door that is closed, as the last one that had it.
    pub(super) fn worker(&self) -> Rc<Worker> {
        self.worker.borrow().clone()
    }

    /// A new config that has it.
    pub(super) fn go_on_with(&self, worker: &Rc<Worker>, now: Instant) {
        let terms = |worker: &Worker| {
            let tls = worker.config.listeners[worker.listener_index(self)].tls.as_ref()?;
            Some((tls.profile, tls.client_certificates, tls.client_ca.clone()))
        };
        if terms(&self.worker()) != terms(worker) {
            self.terms_since.set(Some(now));
        }
        self.worker.replace(worker.clone());
    }

    /// A new config does not have it: its connections finish what is under way. Returns what is to be stopped.
    pub(super) fn close(&self, now: Instant) -> Option<Rc<Listener>> {
        self.closed_since.set(self.closed_since.get().or(Some(now)));
        self.listener.take()
    }

    /// Another process accepts in its place, from the same socket. Returns what is to be left.
    pub(super) fn leave(&self) -> Option<Rc<Listener>> {
        self.listener.take()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed_since.get().is_some()
    }

    /// Since when a connection from the time `opened` begins nothing new.
    pub(super) fn draining_since(&self, opened: Instant) -> Option<Instant> {
        let of_terms = self.terms_since.get().filter(|since| *since > opened);
        self.closed_since.get().or(of_terms).or_else(|| self.worker.borrow().draining_since.get())
    }

    /// There are connections that are to end.
    fn is_being_left(&self) -> bool {
        self.is_closed() || self.terms_since.get().is_some_and(|since| since.elapsed() < WAKING)
    }
}

impl Worker {
    /// Index of the listener behind `door`, which it has.
    pub(super) fn listener_index(&self, door: &Door) -> usize {
        // A door never leads to a worker that does not have it: see `go_on_with`.
        self.listeners[door.slot].expect("the listener of a connection")
    }
}

impl Lasting {
    /// Wakes idle connections that are to end, and forgets closed doors that have no connections left and get none from other
    /// workers, which may close theirs a moment later.
    pub(super) fn tend_closed_doors(&self) {
        let mut doors = self.doors.borrow_mut();
        if !doors.iter().any(|door| door.is_being_left()) {
            return;
        }
        let closed_lately = |door: &Door| door.closed_since.get().is_some_and(|since| since.elapsed() < LATE_MAX);
        // Its acceptor and its connections have it too.
        doors.retain(|door| !door.is_closed() || Rc::strong_count(door) > 1 || closed_lately(door));
        self.watches.tell_of_drain();
    }

    /// The door of this name, open or closed; `None`: this worker has no config yet that has it, or no longer.
    pub(super) fn door(&self, name: DoorName) -> Option<Rc<Door>> {
        self.doors.borrow().iter().find(|door| door.name() == name).cloned()
    }

    /// Port of an open door.
    pub(super) fn port_of(&self, slot: usize) -> Option<u16> {
        let doors = self.doors.borrow();
        doors.iter().find(|door| door.slot == slot && !door.is_closed()).map(|door| door.port)
    }

    /// All listeners that accept, with the slots of their doors.
    pub(super) fn accepting(&self) -> Vec<(usize, Rc<Listener>)> {
        let doors = self.doors.borrow();
        doors.iter().filter_map(|door| Some((door.slot, door.listener.borrow().clone()?))).collect()
    }

    /// Accepts no more where `is_left` says so of a descriptor: another process has the same socket.
    pub(super) fn leave_doors(&self, is_left: impl Fn(RawFd) -> bool) {
        for door in self.doors.borrow().iter() {
            let listens = door.listener.borrow().as_ref().is_some_and(|listener| is_left(listener.raw_fd()));
            if listens && let Some(listener) = door.leave() {
                listener.leave();
            }
        }
    }
}
