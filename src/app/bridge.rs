//! The data worker's end: hands requests to application workers and waits for the answers.
//!
//! Placement: the worker's paired application worker, unless its queue is long and another's is not; for an application that has
//! threads of its own, the queue of these. When all queues are full, or the application has as many requests as it may,
//! a bounded wait in order of arrival, in a line of each application's own; then the request is refused with 503. A
//! request in flight owns a slot; dropping its future (the client left) retires the slot, so that it is not run any
//! more and a late answer finds nobody.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::message::{Job, Reply, ReplyHead, Ticket, Tickets};
use crate::runtime::crew::CrewSender;
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

/// Requests of one application that wait to be let in at one data worker; more are refused at once. They keep what has come of
/// their bodies, and those that give up are looked for among the others.
const WAITING_MAX: usize = 1024;

/// The way to one application. All data workers have the same ones.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// Its threads; `None`: it runs on the application workers.
    pub(crate) crew: Option<CrewSender<Job>>,
    /// Its requests under way, in the whole process, as far as they were limited when they began.
    pub(crate) under_way: Arc<AtomicU32>,
}

/// What the present config says of an application.
#[derive(Clone, Copy)]
pub(crate) struct CallLimits {
    /// Requests under way in the whole process; `None`: any number.
    pub(crate) requests_max: Option<u32>,
    /// How long a request waits to be let in.
    pub(crate) queue_timeout: Duration,
}

/// An application, as one data worker sees it.
struct Line {
    way: Way,
    /// Requests that wait for a place in a queue, for a slot, or for others of the application to end.
    waiters: Waiters,
}

impl Line {
    /// Lets a request in; `None`: there are as many as there may be.
    fn take_place(&self, requests_max: Option<u32>) -> Option<Place<'_>> {
        let Some(most) = requests_max else { return Some(Place(None)) };
        let under_way = &self.way.under_way;
        let one_more = |used| (used < most).then_some(used + 1);
        under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Some(self)))
    }
}

/// Counts a request as one of its application's that are under way.
pub(crate) struct Place<'a>(Option<&'a Line>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.way.under_way.fetch_sub(1, Ordering::Relaxed);
            line.waiters.wake_first();
        }
    }
}

/// What came of a call.
pub(crate) struct Answered<'a> {
    pub(crate) head: ReplyHead,
    /// Application worker that ran it.
    pub(crate) app_worker: usize,
    /// To be kept until the answer has been sent.
    pub(crate) place: Place<'a>,
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
    /// By application.
    lines: Vec<Line>,
}

impl Bridge {
    /// `workers` are the mailboxes of the application workers; `tickets` is shared with them.
    pub(crate) fn new(
        tickets: Arc<Tickets>,
        replies: Receiver<Reply>,
        workers: Vec<Sender<Job>>,
        paired: usize,
        ways: Vec<Way>,
    ) -> Bridge {
        let slots = tickets.slots();
        Bridge {
            slots: RefCell::new((0..slots).map(|_| Slot::Free).collect()),
            free: RefCell::new((0..slots as u32).rev().collect()),
            tickets,
            replies: RefCell::new(replies),
            workers,
            paired,
            lines: ways.into_iter().map(|way| Line { way, waiters: Waiters::default() }).collect(),
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
        // An answer means that its worker has taken jobs out of its queue: let waiting requests try again.
        self.wake_waiting();
    }

    /// Hands a request to application `app` and waits for its answer.
    ///
    /// `job` builds the message from the ticket. Errors: [`CallError`]. Dropping the future abandons the request.
    pub(crate) async fn call(
        &self,
        app: usize,
        limits: CallLimits,
        job: impl FnOnce(Ticket) -> Job,
    ) -> Result<Answered<'_>, CallError> {
        let line = &self.lines[app];
        let mut entry = Entry { line, limits, build: Some(job), place: None, flight: None, unsent: None };
        let is_first = line.waiters.is_empty();
        if line.waiters.len() >= WAITING_MAX {
            return Err(CallError::Busy);
        }
        let flight = match is_first.then(|| self.enter(&mut entry)).flatten() {
            Some(flight) => flight,
            None => {
                let turn = line.waiters.wait_for(|| self.enter(&mut entry));
                timeout(limits.queue_timeout, std::pin::pin!(turn)).await.map_err(|_| CallError::Busy)?
            }
        };
        let (head, app_worker) = poll_fn(|cx| flight.poll_answer(cx)).await?;
        Ok(Answered { head, app_worker, place: entry.place.take().unwrap_or(Place(None)) })
    }

    fn wake_waiting(&self) {
        self.lines.iter().for_each(|line| line.waiters.wake_first());
    }

    /// Requests that wait for a thread of application `app`; `None`: it has none of its own.
    pub(crate) fn depth(&self, app: usize) -> Option<usize> {
        self.lines[app].way.crew.as_ref().map(CrewSender::depth)
    }

    /// Called every tick: room may also have been made by answers that went to other data workers. Returns whether
    /// answers had been waiting unnoticed, which would be a lost wake-up; they are delivered then.
    pub(crate) fn tick(&self) -> bool {
        self.wake_waiting();
        let is_lost = self.replies.borrow_mut().check_lost();
        if is_lost {
            let replies: Vec<_> = std::iter::from_fn(|| self.replies.borrow_mut().try_recv()).collect();
            replies.into_iter().for_each(|reply| self.on_reply(reply));
        }
        is_lost
    }

    /// Takes a place and a slot and hands the job over, as far as that is possible now.
    fn enter<'a, F: FnOnce(Ticket) -> Job>(&'a self, entry: &mut Entry<'a, F>) -> Option<Flight<'a>> {
        if entry.place.is_none() {
            entry.place = Some(entry.line.take_place(entry.limits.requests_max)?);
        }
        if entry.flight.is_none() {
            let flight = self.take_slot()?;
            entry.unsent = entry.build.take().map(|build| build(flight.ticket));
            entry.flight = Some(flight);
        }
        entry.unsent = entry.unsent.take().and_then(|job| match &entry.line.way.crew {
            Some(crew) => crew.send(job).err(),
            None => self.try_send(job),
        });
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
    line: &'a Line,
    limits: CallLimits,
    build: Option<F>,
    place: Option<Place<'a>>,
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
        self.bridge.wake_waiting();
    }
}
