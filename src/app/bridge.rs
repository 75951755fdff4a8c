//! The data worker's end: hands requests to application workers and waits for the answers.
//!
//! Placement: the worker's paired application worker, unless its queue is long and another's is not; when all queues
//! are full, a bounded wait in order of arrival; then the request is refused with 503. A request in flight owns a slot; dropping its future
//! (the client left) retires the slot, so that it is not run any more and a late answer finds nobody.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::message::{Job, Reply, ReplyHead, Ticket, Tickets};
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::time::timeout;
use crate::util::waiters::Waiters;

/// With this many jobs waiting, a queue is long: others are looked at.
const SPILL_DEPTH: usize = 32;

enum Slot {
    Free,
    Waiting(Option<Waker>),
    Answered(Option<ReplyHead>, usize),
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// Every queue stayed full: 503.
    Busy,
    /// The application or its worker failed: 502.
    Failed,
}

/// One per data worker.
pub(crate) struct Bridge {
    tickets: Arc<Tickets>,
    replies: RefCell<Receiver<Reply>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    workers: Vec<Sender<Job>>,
    /// Index into `workers` of the one tried first.
    paired: usize,
    /// Requests that wait for a place in a queue or for a slot.
    waiters: Waiters,
    queue_timeout: Duration,
}

impl Bridge {
    /// `workers` are the mailboxes of the application workers; `tickets` is shared with them.
    pub(crate) fn new(
        tickets: Arc<Tickets>,
        replies: Receiver<Reply>,
        workers: Vec<Sender<Job>>,
        paired: usize,
        queue_timeout: Duration,
    ) -> Bridge {
        let slots = tickets.slots();
        Bridge {
            slots: RefCell::new((0..slots).map(|_| Slot::Free).collect()),
            free: RefCell::new((0..slots as u32).rev().collect()),
            tickets,
            replies: RefCell::new(replies),
            workers,
            paired,
            waiters: Waiters::default(),
            queue_timeout,
        }
    }

    /// Takes answers out of the worker's mailbox, for ever.
    pub(crate) async fn deliver(&self) {
        loop {
            let reply = poll_fn(|cx| self.replies.borrow_mut().poll_recv(cx)).await;
            self.on_reply(reply);
        }
    }

    fn on_reply(&self, reply: Reply) {
        if self.tickets.is_wanted(reply.ticket) {
            let answered = Slot::Answered(reply.head, reply.app_worker);
            let old = std::mem::replace(&mut self.slots.borrow_mut()[reply.ticket.slot as usize], answered);
            if let Slot::Waiting(Some(waker)) = old {
                waker.wake();
            }
        }
        // An answer means that its worker has taken jobs out of its queue: let one waiting request try again.
        self.waiters.wake_first();
    }

    /// Hands a request over and waits for its answer; returns also which application worker ran it.
    ///
    /// `job` builds the message from the ticket. Errors: [`CallError`]. Dropping the future abandons the request.
    pub(crate) async fn call(&self, job: impl FnOnce(Ticket) -> Job) -> Result<(ReplyHead, usize), CallError> {
        let mut entry = Entry { build: Some(job), flight: None, unsent: None };
        let is_first = self.waiters.is_empty();
        let flight = match is_first.then(|| self.enter(&mut entry)).flatten() {
            Some(flight) => flight,
            None => {
                let turn = self.waiters.wait_for(|| self.enter(&mut entry));
                timeout(self.queue_timeout, std::pin::pin!(turn)).await.map_err(|_| CallError::Busy)?
            }
        };
        poll_fn(|cx| flight.poll_answer(cx)).await
    }

    /// Called every tick: room may also have been made by answers that went to other data workers. Returns whether
    /// answers had been waiting unnoticed, which would be a lost wake-up; they are delivered then.
    pub(crate) fn tick(&self) -> bool {
        self.waiters.wake_first();
        let is_lost = self.replies.borrow_mut().check_lost();
        if is_lost {
            let replies: Vec<_> = std::iter::from_fn(|| self.replies.borrow_mut().try_recv()).collect();
            replies.into_iter().for_each(|reply| self.on_reply(reply));
        }
        is_lost
    }

    /// Takes a slot and hands the job over, as far as that is possible now.
    fn enter<'a, F: FnOnce(Ticket) -> Job>(&'a self, entry: &mut Entry<'a, F>) -> Option<Flight<'a>> {
        if entry.flight.is_none() {
            let flight = self.take_slot()?;
            entry.unsent = entry.build.take().map(|build| build(flight.ticket));
            entry.flight = Some(flight);
        }
        entry.unsent = entry.unsent.take().and_then(|job| self.try_send(job));
        match entry.unsent {
            None => entry.flight.take(),
            Some(_) => None,
        }
    }

    /// Sends to the paired worker, unless its queue is long and another's is not; gives the job back when all queues
    /// are full. So a worker whose thread is held up by one handler does not draw all others into its queue.
    fn try_send(&self, job: Job) -> Option<Job> {
        let depth = self.workers[self.paired].depth();
        let shortest = (0..self.workers.len()).min_by_key(|index| self.workers[*index].depth())?;
        let is_long = depth >= SPILL_DEPTH && self.workers[shortest].depth() < depth / 2;
        let (first, second) = if is_long { (shortest, self.paired) } else { (self.paired, shortest) };
        let job = self.workers[first].send(job).err()?;
        if second == first { Some(job) } else { self.workers[second].send(job).err() }
    }

    fn take_slot(&self) -> Option<Flight<'_>> {
        let slot = self.free.borrow_mut().pop()?;
        self.slots.borrow_mut()[slot as usize] = Slot::Waiting(None);
        let ticket = Ticket { slot, generation: self.tickets.generation(slot) };
        Some(Flight { bridge: self, ticket })
    }
}

/// A request on its way in.
struct Entry<'a, F> {
    build: Option<F>,
    flight: Option<Flight<'a>>,
    unsent: Option<Job>,
}

/// A request in flight; dropping it frees the slot and makes its ticket void.
struct Flight<'a> {
    bridge: &'a Bridge,
    ticket: Ticket,
}

impl Flight<'_> {
    fn poll_answer(&self, cx: &mut std::task::Context<'_>) -> Poll<Result<(ReplyHead, usize), CallError>> {
        let slot = &mut self.bridge.slots.borrow_mut()[self.ticket.slot as usize];
        match std::mem::replace(slot, Slot::Waiting(None)) {
            Slot::Answered(head, app_worker) => {
                Poll::Ready(head.map(|head| (head, app_worker)).ok_or(CallError::Failed))
            }
            _ => {
                *slot = Slot::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.bridge.tickets.retire(self.ticket.slot);
        self.bridge.slots.borrow_mut()[self.ticket.slot as usize] = Slot::Free;
        self.bridge.free.borrow_mut().push(self.ticket.slot);
        self.bridge.waiters.wake_first();
    }
}
