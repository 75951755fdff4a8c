//! Those of one worker that wait at a gate: lines in its own memory, behind the gate's tickets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Gate, Kind, Open};
use crate::runtime::sync::{ArrayQueue, Ordering::SeqCst};

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
pub(super) struct Line {
    pub(super) waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Tickets of this worker that no request uses.
    unused: Cell<u32>,
}

#[derive(Default)]
pub(super) struct Waiter {
    pub(super) granted: Cell<Option<Granted>>,
    waker: RefCell<Option<Waker>>,
}

/// A request that waits. When it is dropped it leaves the queue.
pub struct Waiting<'a, O: Open> {
    queue: &'a Queue,
    open: &'a O,
    kind: Kind,
    pub(super) waiter: Rc<Waiter>,
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
    pub(super) async fn deliver<O: Open>(&self, open: impl Fn() -> O) {
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
