//! Connections to the servers of one splitter on one data worker: lent to sessions, taken back, limited, waited for.
//!
//! A session gets its own last connection back when nobody else needed it meanwhile; so the answers to SHOW WARNINGS
//! or LAST_INSERT_ID() are there without holding connections. Connections whose session may still ask are taken from
//! it last.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::backend::{Backend, Key};
use super::session::State;

/// A connection used within this time is taken for alive unless it matters. Those idle for longer are looked at each
/// second anyway ([`Pool::sweep`]).
const TRUSTED_TIME: Duration = Duration::from_secs(1);

/// What a session needs.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Must be the connection's own.
    pub key: Key,
    /// Preferred, so that nothing has to be set.
    pub state: &'a Rc<State>,
    /// The session that asks.
    pub session: u64,
    /// Its statement can be sent once only: a connection that the server has closed must be found out before. Others
    /// save the system call and are repeated.
    pub careful: bool,
}

/// What the pool has for it.
pub enum Offer {
    /// A connection; it may need [`Backend::prepare`].
    Take(Box<Backend>),
    /// Room for a new connection; it is counted already: call [`Pool::closed`] when that fails.
    Open,
    /// Close this one, then open a new one in its place; counted as above.
    Replace(Box<Backend>),
    /// All are in use.
    Wait,
}

#[derive(Default)]
struct Waiter {
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
}

/// The connections to one server.
#[expect(clippy::vec_box, reason = "connections move between pool and sessions all the time")]
pub struct Pool {
    idle: RefCell<Vec<Box<Backend>>>,
    open: Cell<usize>,
    max: usize,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
}

/// Takes its waiter out when it is dropped, and passes a wake-up on that it did not use.
struct Waiting<'a> {
    pool: &'a Pool,
    waiter: Rc<Waiter>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.waiters.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if self.waiter.woken.get() {
            self.pool.wake_one();
        }
    }
}

impl Pool {
    /// No connections yet, at most `max`.
    pub fn new(max: usize) -> Pool {
        Pool { idle: RefCell::default(), open: Cell::new(0), max: max.max(1), waiters: RefCell::default() }
    }

    /// Connections open or being opened.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Of these, not lent.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The connection `is_it` knows, if this session was the last to use it.
    pub fn take_own(&self, session: u64, is_it: impl Fn(&Backend) -> bool) -> Option<Box<Backend>> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().position(|b| is_owner(b, session) && is_it(b))?;
        let backend = idle.remove(at);
        drop(idle);
        self.still_good(backend, true)
    }

    fn still_good(&self, backend: Box<Backend>, careful: bool) -> Option<Box<Backend>> {
        let unlooked = !careful && backend.available().is_empty() && backend.since.elapsed() < TRUSTED_TIME;
        if unlooked || backend.is_quiet() {
            return Some(backend);
        }
        self.closed();
        None
    }

    /// The best there is for `wish`. Never blocks.
    pub fn offer(&self, wish: Wish<'_>) -> Offer {
        while let Some(at) = self.best(wish) {
            let backend = self.idle.borrow_mut().remove(at);
            if let Some(backend) = self.still_good(backend, wish.careful) {
                return Offer::Take(backend);
            }
        }
        if self.open.get() < self.max {
            self.open.set(self.open.get() + 1);
            return Offer::Open;
        }
        let mut idle = self.idle.borrow_mut();
        let unprotected = idle.iter().position(|b| !b.is_protected());
        let protected = idle.iter().position(|b| fits(b, wish));
        match unprotected.or(protected).or(if idle.is_empty() { None } else { Some(0) }) {
            Some(at) if fits(&idle[at], wish) => {
                let backend = idle.remove(at);
                drop(idle);
                match self.still_good(backend, wish.careful) {
                    Some(backend) => Offer::Take(backend),
                    None => self.offer(wish),
                }
            }
            Some(at) => Offer::Replace(idle.remove(at)),
            None => Offer::Wait,
        }
    }

    /// Own connection first, then one in the right state, then any that fits and whose session will not ask for it.
    fn best(&self, wish: Wish<'_>) -> Option<usize> {
        let idle = self.idle.borrow();
        let rank = |b: &Backend| {
            if !fits(b, wish) {
                return 0;
            }
            match () {
                () if is_owner(b, wish.session) => 3,
                () if b.is_protected() => 0,
                () if b.is_ready_for(wish.state) => 2,
                () => 1,
            }
        };
        let (at, best) = idle.iter().enumerate().map(|(at, b)| (at, rank(b))).max_by_key(|(_, rank)| *rank)?;
        (best > 0).then_some(at)
    }

    /// Waits until a connection may have become free, at most `duration`. `false`: time is up.
    pub async fn wait(&self, duration: Duration) -> bool {
        let waiter = Rc::new(Waiter::default());
        self.waiters.borrow_mut().push_back(Rc::clone(&waiter));
        let waiting = Waiting { pool: self, waiter };
        let wake = std::future::poll_fn(|cx| {
            if waiting.waiter.woken.replace(false) {
                return Poll::Ready(());
            }
            *waiting.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        });
        crate::runtime::time::timeout(duration, wake).await.is_ok()
    }

    fn wake_one(&self) {
        let Some(waiter) = self.waiters.borrow_mut().pop_front() else { return };
        waiter.woken.set(true);
        if let Some(waker) = waiter.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Takes a connection back; it can be lent from now on.
    pub fn give_back(&self, mut backend: Box<Backend>) {
        backend.since = Instant::now();
        self.idle.borrow_mut().push(backend);
        self.wake_one();
    }

    /// A connection is gone: dropped by its borrower, or never opened.
    pub fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.wake_one();
    }

    /// Takes out what has been idle since before `before`, and everything dead; the caller drops it.
    pub fn sweep(&self, before: Instant, generation: u32) -> Vec<Box<Backend>> {
        let mut idle = self.idle.borrow_mut();
        let (mut kept, mut gone) = (Vec::with_capacity(idle.len()), Vec::new());
        for backend in idle.drain(..) {
            let stale = backend.since < before && !backend.keeps_insert_id() || backend.generation != generation;
            if stale || !backend.is_quiet() { gone.push(backend) } else { kept.push(backend) }
        }
        *idle = kept;
        drop(idle);
        for _ in &gone {
            self.closed();
        }
        gone
    }
}

fn is_owner(backend: &Backend, session: u64) -> bool {
    backend.owner.as_ref().is_some_and(|owner| owner.session == session)
}

/// A database cannot be unselected.
fn fits(backend: &Backend, wish: Wish<'_>) -> bool {
    backend.key == wish.key && (wish.state.schema.is_some() || backend.state.schema.is_none())
}
