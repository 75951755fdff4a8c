//! Who is connected to a data worker, under the connection ids that clients know, and what runs for them on which
//! server: what KILL needs to find the right one.
//!
//! An id says which worker has the client, so that any worker can pass a KILL on (`kill`). Ids begin where
//! those of servers do not come, so that a number out of SHOW PROCESSLIST, which shows a server's own ids, is never taken
//! for one of ours.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;

use super::sql::kill::Scope;
use crate::runtime::time::{timeout, unless};

/// The first id, and how many there are: they stay below 2^31, since some clients keep them in signed numbers.
const FIRST: u32 = 1 << 30;
const COUNT: u32 = 1 << 30;

/// The data worker, of so many, whose client has this id; `None`: no client of ours has it.
pub fn worker_of(id: u64, workers: usize) -> Option<usize> {
    let place = id.checked_sub(FIRST.into()).filter(|place| *place < COUNT.into())?;
    Some(place as usize % workers)
}

fn id_of(turn: u32, worker: usize, workers: usize) -> u32 {
    let turns = COUNT / workers as u32;
    FIRST + turn % turns * workers as u32 + worker as u32
}

/// The clients of one data worker.
#[derive(Debug)]
pub struct Presences {
    worker: usize,
    workers: usize,
    next_turn: Cell<u32>,
    known: RefCell<AHashMap<u32, Rc<Presence>>>,
}

impl Presences {
    /// Nobody yet. `first_turn`: anything; random, so that an id from an earlier process is not soon another client's.
    pub fn new(worker: usize, workers: usize, first_turn: u32) -> Presences {
        assert!(worker < workers, "worker {worker} of {workers}");
        Presences { worker, workers, next_turn: Cell::new(first_turn), known: RefCell::default() }
    }

    /// Somebody new, under an id that nobody here has.
    pub fn enter(&self) -> Rc<Presence> {
        let mut known = self.known.borrow_mut();
        loop {
            let turn = self.next_turn.get();
            self.next_turn.set(turn.wrapping_add(1));
            let id = id_of(turn, self.worker, self.workers);
            if let std::collections::hash_map::Entry::Vacant(place) = known.entry(id) {
                return Rc::clone(place.insert(Rc::new(Presence::new(id))));
            }
        }
    }

    /// It is gone.
    pub fn leave(&self, presence: &Presence) {
        self.known.borrow_mut().remove(&presence.id);
    }

    /// Who has logged on and has this id.
    pub fn find(&self, id: u32) -> Option<Rc<Presence>> {
        self.known.borrow().get(&id).filter(|presence| presence.account.get().is_some()).cloned()
    }

    /// Everybody who has logged on as this account.
    pub fn of_account(&self, account: u16) -> Vec<Rc<Presence>> {
        self.known.borrow().values().filter(|presence| presence.account.get() == Some(account)).cloned().collect()
    }
}

/// One client.
#[derive(Debug)]
pub struct Presence {
    id: u32,
    /// `None`: it has not logged on yet.
    account: Cell<Option<u16>>,
    /// Statements begun.
    statements: Cell<u64>,
    is_busy: Cell<bool>,
    running: RefCell<Option<Running>>,
    order: Cell<Option<Scope>>,
    waker: RefCell<Option<Waker>>,
}

/// A connection as its server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Index of the server.
    pub server: usize,
    /// The server's id of the connection.
    pub id: u32,
    /// [`super::shared::ServerFacts::restarts`] when it was opened.
    pub restarts: u32,
}

/// A statement that runs on a server.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its number among those of its client.
    statement: u64,
    /// Where it runs.
    pub thread: Thread,
    /// What becomes of the connection.
    pub fate: Rc<Fate>,
}

/// An order to end came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

impl Presence {
    fn new(id: u32) -> Presence {
        Presence {
            id,
            account: Cell::new(None),
            statements: Cell::new(0),
            is_busy: Cell::new(false),
            running: RefCell::new(None),
            order: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// What the client knows as its connection id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The account it has logged on as.
    pub fn account(&self) -> Option<u16> {
        self.account.get()
    }

    /// It has logged on, or on again.
    pub fn set_account(&self, account: u16) {
        self.account.set(Some(account));
    }

    /// A statement begins.
    pub fn begin(&self) {
        self.statements.set(self.statements.get() + 1);
        self.is_busy.set(true);
    }

    /// It is over: an order that was meant for it alone is void.
    pub fn end(&self) {
        self.is_busy.set(false);
        self.running.take();
        if self.order.get() == Some(Scope::Statement) {
            self.order.set(None);
        }
    }

    /// The statement runs on this connection from now on.
    pub fn run_on(&self, thread: Thread, fate: &Rc<Fate>) {
        let running = Running { statement: self.statements.get(), thread, fate: Rc::clone(fate) };
        self.running.replace(Some(running));
    }

    /// It does not run on the connection with this fate any longer; it may run on another one meanwhile.
    pub fn run_no_longer(&self, fate: &Rc<Fate>) {
        self.running.borrow_mut().take_if(|running| Rc::ptr_eq(&running.fate, fate));
    }

    /// What runs for it now.
    pub fn running(&self) -> Option<Running> {
        self.running.borrow().clone()
    }

    /// Whether the same statement still runs on the same connection.
    pub fn still_runs(&self, running: &Running) -> bool {
        let is_it = |now: &Running| now.statement == running.statement && Rc::ptr_eq(&now.fate, &running.fate);
        self.running.borrow().as_ref().is_some_and(is_it)
    }

    /// Has it end its statement, if there is one, or its connection, as soon as it waits for something.
    pub fn order(&self, scope: Scope) {
        if scope == Scope::Statement && (!self.is_busy.get() || self.order.get().is_some()) {
            return;
        }
        self.order.set(Some(scope));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it was told to end its statement or more.
    pub fn is_interrupted(&self) -> bool {
        self.order.get().is_some()
    }

    /// Whether it was told to end its connection.
    pub fn is_killed(&self) -> bool {
        self.order.get() == Some(Scope::Connection)
    }

    /// Ready once it was told so.
    pub fn poll_killed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_killed() {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }

    fn register(&self, cx: &mut Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Does `work` unless its connection is to end, which is looked at whenever there is nothing to do. Errors: that came
    /// first; `work` was dropped.
    pub fn unless_killed<F: Future>(&self, work: F) -> impl Future<Output = Result<F::Output, Killed>> {
        unless(work, |cx| self.poll_killed(cx).map(|()| Killed))
    }

    /// The same unless its statement is to end.
    pub fn unless_interrupted<F: Future>(&self, work: F) -> impl Future<Output = Result<F::Output, Killed>> {
        unless(work, |cx| {
            if self.is_interrupted() {
                return Poll::Ready(Killed);
            }
            self.register(cx);
            Poll::Pending
        })
    }
}

/// What KILLs have in store for a connection to a server.
#[derive(Debug, Default)]
pub struct Fate {
    pending: Cell<u32>,
    doomed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Fate {
    /// A KILL of its statement is on its way to the server: nobody else may have the connection before it has arrived, or ever
    /// where what is returned is dropped before [`Killing::arrived`].
    pub(super) fn begin_kill(&self) -> Killing<'_> {
        self.pending.set(self.pending.get() + 1);
        Killing { fate: self, has_arrived: false }
    }

    /// Nobody shall have the connection any more.
    pub fn doom(&self) {
        self.doomed.set(true);
    }

    /// Whether nobody shall.
    pub fn is_doomed(&self) -> bool {
        self.doomed.get()
    }

    /// Whether a KILL is on its way.
    pub fn is_pending(&self) -> bool {
        self.pending.get() > 0
    }

    /// Waits until none is; dooms the connection where that takes longer than `limit`. One at a time.
    pub async fn settle(&self, limit: Duration) {
        let settled = std::future::poll_fn(|cx| {
            if !self.is_pending() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        });
        if self.is_pending() && timeout(limit, settled).await.is_err() {
            self.doom();
        }
    }
}

/// A KILL under way.
pub(super) struct Killing<'a> {
    fate: &'a Fate,
    has_arrived: bool,
}

impl Killing<'_> {
    /// The server has told that it took it, or that it will not.
    pub(super) fn arrived(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for Killing<'_> {
    fn drop(&mut self) {
        // Whether it comes still, and when, is not known.
        if !self.has_arrived {
            self.fate.doom();
        }
        self.fate.pending.set(self.fate.pending.get() - 1);
        if let Some(waker) = self.fate.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_worker_and_are_nobody_else_s() {
        for workers in [1, 2, 3, 7, 1024] {
            for worker in [0, workers / 2, workers - 1] {
                let presences = Presences::new(worker, workers, u32::MAX - 1);
                let ids: Vec<u32> = (0..5).map(|_| presences.enter().id()).collect();
                for id in &ids {
                    assert_eq!(worker_of(u64::from(*id), workers), Some(worker), "{id}");
                    assert!((1 << 30..1 << 31).contains(id), "{id}");
                }
                assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1));
            }
        }
        for foreign in [0, 5, (1 << 30) - 1, 1 << 31, u64::MAX] {
            assert_eq!(worker_of(foreign, 2), None, "{foreign}");
        }
    }

    #[test]
    fn an_id_in_use_is_not_given_again() {
        let presences = Presences::new(0, 1, 7);
        let first = presences.enter();
        presences.next_turn.set(7);
        let second = presences.enter();
        assert_ne!(first.id(), second.id());
        presences.leave(&first);
        presences.next_turn.set(7);
        assert_eq!(presences.enter().id(), first.id());
    }

    #[test]
    fn only_who_has_logged_on_is_found() {
        let presences = Presences::new(1, 2, 0);
        let presence = presences.enter();
        assert!(presences.find(presence.id()).is_none());
        presence.set_account(3);
        assert!(presences.find(presence.id()).is_some() && presences.of_account(3).len() == 1);
        presences.leave(&presence);
        assert!(presences.find(presence.id()).is_none());
    }

    fn thread(server: usize) -> Thread {
        Thread { server, id: 9, restarts: 1 }
    }

    #[test]
    fn an_order_for_a_statement_is_for_that_one_alone() {
        let presence = Presence::new(1);
        presence.order(Scope::Statement);
        assert!(!presence.is_interrupted(), "nothing ran");
        presence.begin();
        let fate = Rc::new(Fate::default());
        presence.run_on(thread(0), &fate);
        let running = presence.running().unwrap();
        assert!(presence.still_runs(&running));
        presence.order(Scope::Statement);
        assert!(presence.is_interrupted());
        presence.end();
        presence.begin();
        assert!(!presence.is_interrupted() && !presence.still_runs(&running));
        presence.run_on(thread(0), &fate);
        assert!(!presence.still_runs(&running), "the next statement on the same connection");
        // The connection it ran on before is given up late.
        let other = Rc::new(Fate::default());
        presence.run_on(thread(1), &other);
        presence.run_no_longer(&fate);
        assert!(presence.running().is_some_and(|running| running.thread.server == 1));
        presence.run_no_longer(&other);
        assert!(presence.running().is_none());
        presence.order(Scope::Connection);
        presence.end();
        assert!(presence.is_interrupted());
    }
}
