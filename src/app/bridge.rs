//! The data worker's end: hands requests to application workers and waits for the answers.
//!
//! Placement: the worker's paired application worker first, then the one with the shortest queue; when all queues are
//! full, a bounded wait; then the request is refused with 503. A request in flight owns a slot; dropping its future
//! (the client left) retires the slot, so that it is not run any more and a late answer finds nobody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::message::{Job, Reply, ReplyHead, Ticket, Tickets};
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::time::timeout;

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
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    workers: Vec<Sender<Job>>,
    /// Index into `workers` of the one tried first.
    paired: usize,
    /// Requests that wait for a place in a queue or for a slot, in order of arrival.
    waiting: RefCell<VecDeque<Waker>>,
    queue_timeout: Duration,
}

impl Bridge {
    /// `workers` are the mailboxes of the application workers; `tickets` is shared with them.
    pub(crate) fn new(
        tickets: Arc<Tickets>,
        workers: Vec<Sender<Job>>,
        paired: usize,
        queue_timeout: Duration,
    ) -> Bridge {
        let slots = tickets.slots();
        Bridge {
            slots: RefCell::new((0..slots).map(|_| Slot::Free).collect()),
            free: RefCell::new((0..slots as u32).rev().collect()),
            tickets,
            workers,
            paired,
            waiting: RefCell::new(VecDeque::new()),
            queue_timeout,
        }
    }

    /// Takes answers out of the worker's mailbox, for ever.
    pub(crate) async fn deliver(&self, mut replies: Receiver<Reply>, lost: impl Fn()) {
        let mut check = crate::runtime::time::Ticker::new(Duration::from_secs(1));
        loop {
            let reply = poll_fn(|cx| {
                if check.poll_tick(cx).is_ready() && replies.check_lost() {
                    lost();
                }
                replies.poll_recv(cx)
            })
            .await;
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
        if let Some(waker) = self.waiting.borrow_mut().pop_front() {
            waker.wake();
        }
    }

    /// Hands a request over and waits for its answer; returns also which application worker ran it.
    ///
    /// `job` builds the message from the ticket. Errors: [`CallError`]. Dropping the future abandons the request.
    pub(crate) async fn call(&self, job: impl FnOnce(Ticket) -> Job) -> Result<(ReplyHead, usize), CallError> {
        let flight = match self.take_slot() {
            Some(flight) => flight,
            None => {
                timeout(self.queue_timeout, self.wait_for(|| self.take_slot())).await.map_err(|_| CallError::Busy)?
            }
        };
        let mut unsent = self.try_send(job(flight.ticket));
        if unsent.is_some() {
            let sent = self.wait_for(|| {
                unsent = self.try_send(unsent.take()?);
                unsent.is_none().then_some(())
            });
            timeout(self.queue_timeout, sent).await.map_err(|_| CallError::Busy)?;
        }
        poll_fn(|cx| flight.poll_answer(cx)).await
    }

    /// Sends to the paired worker, else to the one with the shortest queue; gives the job back when all are full.
    fn try_send(&self, job: Job) -> Option<Job> {
        let job = self.workers[self.paired].send(job).err()?;
        let other = (0..self.workers.len()).filter(|index| *index != self.paired);
        match other.min_by_key(|index| self.workers[*index].depth()) {
            Some(index) => self.workers[index].send(job).err(),
            None => Some(job),
        }
    }

    /// Calls `attempt` whenever there may be room again, until it succeeds.
    async fn wait_for<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        // Room may also be made by answers that go to other data workers: look again now and then.
        let mut again = crate::runtime::time::Ticker::new(Duration::from_millis(10));
        poll_fn(|cx| {
            let _ = again.poll_tick(cx);
            if let Some(done) = attempt() {
                return Poll::Ready(done);
            }
            self.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn take_slot(&self) -> Option<Flight<'_>> {
        let slot = self.free.borrow_mut().pop()?;
        self.slots.borrow_mut()[slot as usize] = Slot::Waiting(None);
        let ticket = Ticket { slot, generation: self.tickets.generation(slot) };
        Some(Flight { bridge: self, ticket })
    }
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
        if let Some(waker) = self.bridge.waiting.borrow_mut().pop_front() {
            waker.wake();
        }
    }
}
