//! The data worker's end: hands requests to application workers and waits for the answers.
//!
//! Which worker a request goes to, what becomes of it when that has no room, and how many there may be, is decided where requests
//! are sent to servers of all kinds (`worker/forward`). A request in flight owns a slot; dropping its [`Flight`] (the client left)
//! retires the slot, so that it is not run any more and a late answer finds nobody.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::message::{Job, Lost, Reply, ReplyHead, Ticket, Tickets};
use crate::runtime::crew::CrewSender;
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::turn;

enum Slot {
    Free,
    Waiting(Option<Waker>),
    Answered(Result<ReplyHead, Lost>, usize),
}

/// The way to one application: its threads; `None`: it runs on the application workers. All data workers have the same ones.
pub(crate) type Way = Option<CrewSender<Job>>;

/// One per data worker.
pub(crate) struct Bridge {
    tickets: Arc<Tickets>,
    replies: RefCell<Receiver<Reply>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    workers: Vec<Sender<Job>>,
    /// Index into `workers` of the one next to this core.
    paired: usize,
    /// It is on this core.
    shares_core: bool,
    /// By application.
    ways: Vec<Way>,
}

impl Bridge {
    /// `workers` are the mailboxes of the application workers; `tickets` is shared with them.
    pub(crate) fn new(
        tickets: Arc<Tickets>,
        replies: Receiver<Reply>,
        workers: Vec<Sender<Job>>,
        (paired, shares_core): (usize, bool),
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
            shares_core,
            ways,
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
    }

    /// How many application workers there are, without threads of applications.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The application worker on the core of this data worker.
    pub(crate) fn paired(&self) -> usize {
        self.paired
    }

    /// Requests that wait in front of an application worker.
    pub(crate) fn queued(&self, worker: usize) -> usize {
        self.workers.get(worker).map_or(0, Sender::depth)
    }

    /// Called every tick. Returns whether answers had been waiting unnoticed, which would be a lost wake-up; they are delivered
    /// then.
    pub(crate) fn tick(&self) -> bool {
        let is_lost = self.replies.borrow_mut().check_lost();
        if is_lost {
            let replies: Vec<_> = std::iter::from_fn(|| self.replies.borrow_mut().try_recv()).collect();
            replies.into_iter().for_each(|reply| self.on_reply(reply));
        }
        is_lost
    }

    /// A slot for one request; `None`: all are taken.
    pub(crate) fn take_slot(&self) -> Option<Flight<'_>> {
        let slot = self.free.borrow_mut().pop()?;
        self.slots.borrow_mut()[slot as usize] = Slot::Waiting(None);
        let ticket = Ticket { slot, generation: self.tickets.generation(slot) };
        Some(Flight { bridge: self, ticket })
    }

    /// Hands a job over: to the threads of its application, where it has such, else to this application worker. Gives the job
    /// back when the queue there is full. A worker on this core gets all that comes in one turn together.
    pub(crate) fn send(&self, worker: usize, job: Job) -> Option<Job> {
        match &self.ways[job.app] {
            Some(crew) => crew.send(job).err(),
            None if self.shares_core && worker == self.paired => {
                self.workers[worker].send_and(job, turn::wake_at_end).err()
            }
            None => self.workers[worker].send(job).err(),
        }
    }
}

/// A request in flight; dropping it frees the slot and makes its ticket void.
pub(crate) struct Flight<'a> {
    bridge: &'a Bridge,
    pub(crate) ticket: Ticket,
}

impl Flight<'_> {
    /// The answer, with the number of the application worker, or of the thread, that it came from.
    pub(crate) async fn answered(self) -> Result<(ReplyHead, usize), Lost> {
        poll_fn(|cx| {
            let slot = &mut self.bridge.slots.borrow_mut()[self.ticket.slot as usize];
            match std::mem::replace(slot, Slot::Waiting(None)) {
                Slot::Answered(head, app_worker) => Poll::Ready(head.map(|head| (head, app_worker))),
                _ => {
                    *slot = Slot::Waiting(Some(cx.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.bridge.tickets.retire(self.ticket.slot);
        self.bridge.slots.borrow_mut()[self.ticket.slot as usize] = Slot::Free;
        self.bridge.free.borrow_mut().push(self.ticket.slot);
    }
}
