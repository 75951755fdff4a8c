//! Connections to the servers of one splitter on one data worker: lent to sessions, taken back, limited, waited for.
//!
//! A session gets its own last connection back when nobody else needed it meanwhile; so the answers to SHOW WARNINGS
//! or LAST_INSERT_ID() are there without holding connections. Connections whose session may still ask are taken from
//! it last.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::backend::{Backend, Key};
use super::quota::{Of, Quota};
use super::session::State;
use super::shared::{Duty, ServerFacts, Shared};

/// A connection used within this time is taken for alive unless it matters. Those idle for longer are looked at each
/// second anyway ([`Pool::sweep`]).
const TRUSTED_TIME: Duration = Duration::from_secs(1);
/// A connection that was idle for so long goes to another data worker that waits for one. Shorter, and workers that take turns
/// would take connections from each other all the time.
const LENT_AFTER: Duration = Duration::from_millis(50);

/// What a session needs.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Must be the connection's own.
    pub key: Key,
    /// Preferred, so that nothing has to be set.
    pub state: &'a Rc<State>,
    /// The session that asks.
    pub session: u64,
    /// When the statement came; one in use a moment before is taken for alive, which saves the system call, and the statement
    /// is repeated where that is wrong. `None`: it can be sent once only, and a connection that the server has closed must be
    /// found out before.
    pub trusts_at: Option<Instant>,
    /// When its server was chosen: what that has become since may not be what was wished for.
    pub since: Since,
}

/// When a server was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    turn: u32,
    /// `None`: with what its sessions begin is no reason to choose another one.
    term: Option<u32>,
}

impl Since {
    /// Now, for being the primary or not.
    pub fn turn(facts: &ServerFacts) -> Since {
        Since { turn: facts.turn(), term: None }
    }

    /// Now, as a replica, whose sessions begin like those of the primary.
    pub fn term(facts: &ServerFacts) -> Since {
        Since { turn: facts.turn(), term: Some(facts.term()) }
    }

    fn is_over(self, facts: &ServerFacts) -> bool {
        self.turn != facts.turn() || self.term.is_some_and(|term| term != facts.term())
    }
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

/// Why there was nothing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// As many wait as may.
    QueueFull,
    /// Time was up.
    TimedOut,
    /// The server has become something else than it was when the wait began: its connections are of no use for it.
    Moved,
}

impl Unserved {
    /// For a client of the primary.
    pub fn text(self) -> &'static str {
        match self {
            Unserved::TimedOut => "all connections to the primary stayed in use for the whole pool_timeout",
            Unserved::QueueFull => {
                "all connections to the primary are in use, and too many clients wait for one (pool_queue_max)"
            }
            Unserved::Moved => "the server is no longer the primary",
        }
    }
}

/// Which connections idle for too long, or open for too long, are closed.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The time now.
    pub now: Instant,
    /// How long one may be idle.
    pub idle_max: Duration,
    /// So many are kept in spite of that, if they have this key.
    pub kept: usize,
    /// See `kept`.
    pub kept_key: Key,
    /// Generation and term of the server, and in which way it is reached: those of others are closed. One of another term whose session
    /// may still ask for what it has left there is lent to nobody, and stays.
    pub life: (u32, u32, u32),
}

/// Whose connections they are.
pub struct Home {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// Number of the data worker.
    pub worker: usize,
    /// Index of the server.
    pub server: usize,
}

struct Waiter {
    /// Whose connection it wants.
    account: u16,
    waker: RefCell<Option<Waker>>,
    /// It was told to try again, and has not done so yet.
    is_woken: Cell<bool>,
    chosen: Since,
    since: Instant,
    until: Instant,
}

impl Waiter {
    fn is_late(&self, now: Instant) -> bool {
        self.until <= now
    }
}

/// A connection that is not lent.
struct Idle {
    /// Number of the session that had it last, so that most need not be looked at to find one's own; 0: none.
    owner: u64,
    backend: Box<Backend>,
}

impl Idle {
    fn is_of(&self, session: u64) -> bool {
        self.owner == session && self.owner != 0
    }
}

/// The connections to one server.
pub struct Pool {
    home: Home,
    idle: RefCell<Vec<Idle>>,
    open: Cell<usize>,
    max: Cell<usize>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Waiters that were told to try again, and have not done so yet.
    woken: Cell<usize>,
    /// When one that was in use was last given up for a client of the same worker that waits at another server.
    ceded: Cell<Option<Instant>>,
    /// The next one that is closed is that: nobody here is to be woken for its place.
    is_ceding: Cell<bool>,
}

/// A place in the queue; dropped, it is left, and a wake-up that was not used is passed on.
struct Waiting<'a> {
    pool: &'a Pool,
    waiter: Rc<Waiter>,
    of: Of,
}

impl Waiting<'_> {
    /// Whether it was told to try again.
    fn take_wake(&self) -> bool {
        let was_woken = self.waiter.is_woken.replace(false);
        self.pool.woken.set(self.pool.woken.get() - usize::from(was_woken));
        was_woken
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let was_woken = self.take_wake();
        let mut waiters = self.pool.waiters.borrow_mut();
        // As a rule it is the first one.
        let at = waiters.iter().position(|waiter| Rc::ptr_eq(waiter, &self.waiter));
        at.and_then(|at| waiters.remove(at));
        drop(waiters);
        self.pool.quota().end_wait(self.pool.home.worker, self.of);
        if was_woken {
            self.pool.wake_one();
        }
    }
}

impl Pool {
    /// No connections yet, at most `max`.
    pub fn new(home: Home, max: usize) -> Pool {
        let max = Cell::new(max.max(1));
        Pool {
            home,
            idle: RefCell::default(),
            open: Cell::new(0),
            max,
            waiters: RefCell::default(),
            woken: Cell::new(0),
            ceded: Cell::new(None),
            is_ceding: Cell::new(false),
        }
    }

    /// So many at most from now on. Where there are more, those that are given back are closed.
    pub fn set_max(&self, max: usize) {
        let more = max.saturating_sub(self.max.replace(max.max(1)));
        (0..more.min(self.waiting())).for_each(|_| self.wake_one());
    }

    fn quota(&self) -> &Quota {
        &self.home.shared.quota
    }

    fn of(&self, account: u16) -> Of {
        Of { server: self.home.server, account }
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
        let at = idle.iter().position(|idle| idle.is_of(session) && is_it(&idle.backend))?;
        let backend = idle.remove(at).backend;
        drop(idle);
        self.still_good(backend, None)
    }

    /// Whether [`Pool::take_own`] would look at one.
    pub fn has_own(&self, session: u64, is_it: impl Fn(&Backend) -> bool) -> bool {
        self.idle.borrow().iter().any(|idle| idle.is_of(session) && is_it(&idle.backend))
    }

    /// `trusted_at`: a connection that was in use a moment before then is taken for alive.
    fn still_good(&self, backend: Box<Backend>, trusted_at: Option<Instant>) -> Option<Box<Backend>> {
        let is_fresh = |now: Instant| now.saturating_duration_since(backend.since) < TRUSTED_TIME;
        let unlooked = backend.available().is_empty() && trusted_at.is_some_and(is_fresh);
        if unlooked || backend.is_quiet() {
            return Some(backend);
        }
        self.closed(backend.key.account);
        None
    }

    /// Takes a place for a new connection of this account: call [`Pool::closed`] when that fails or has ended.
    pub fn take_place(&self, account: u16) -> bool {
        let has_room = self.open.get() < self.max.get() && self.quota().take(self.home.worker, self.of(account));
        self.open.set(self.open.get() + usize::from(has_room));
        has_room
    }

    /// Somebody who waits is just about to be served: who comes now does not go before.
    pub fn is_handing_over(&self) -> bool {
        self.woken.get() > 0
    }

    /// The best there is for `wish`. Never blocks.
    pub fn offer(&self, wish: Wish<'_>) -> Offer {
        while let Some(at) = self.best(wish) {
            let backend = self.idle.borrow_mut().remove(at).backend;
            if let Some(backend) = self.still_good(backend, wish.trusts_at) {
                return Offer::Take(backend);
            }
        }
        if self.take_place(wish.key.account) {
            return Offer::Open;
        }
        let mut idle = self.idle.borrow_mut();
        let unprotected = idle.iter().position(|idle| !idle.backend.is_protected());
        let protected = idle.iter().position(|idle| self.fits(&idle.backend, wish));
        match unprotected.or(protected).or(if idle.is_empty() { None } else { Some(0) }) {
            Some(at) if self.fits(&idle[at].backend, wish) => {
                let backend = idle.remove(at).backend;
                drop(idle);
                match self.still_good(backend, wish.trusts_at) {
                    Some(backend) => Offer::Take(backend),
                    None => self.offer(wish),
                }
            }
            Some(at) => {
                let (from, to) = (idle[at].backend.key.account, wish.key.account);
                match self.quota().pass_on(self.home.worker, from, to) {
                    true => Offer::Replace(idle.remove(at).backend),
                    false => Offer::Wait,
                }
            }
            None => Offer::Wait,
        }
    }

    /// Own connection first, then one in the right state, then any that fits and whose session will not ask for it. Of
    /// these the one that was used last.
    fn best(&self, wish: Wish<'_>) -> Option<usize> {
        let idle = self.idle.borrow();
        let own = idle.iter().rposition(|idle| idle.is_of(wish.session) && self.fits(&idle.backend, wish));
        if own.is_some() {
            return own;
        }
        let mut best = None;
        for (at, Idle { backend, .. }) in idle.iter().enumerate().rev() {
            if !self.fits(backend, wish) || backend.is_protected() {
                continue;
            }
            if backend.is_ready_for(wish.state) {
                return Some(at);
            }
            best = best.or(Some(at));
        }
        best
    }

    /// Waits from `now` on for something else than [`Offer::Wait`], and not for a server that has become something else: see
    /// [`Pool::wake_moved`]. [`Pool::wake_late`] ends it when `until` has passed: a timer for each would cost more than the rest.
    pub async fn wait(&self, wish: Wish<'_>, now: Instant, until: Instant) -> Result<Offer, Unserved> {
        let of = self.of(wish.key.account);
        if !self.quota().begin_wait(self.home.worker, of) {
            return Err(Unserved::QueueFull);
        }
        let (account, chosen, waker, is_woken) = (wish.key.account, wish.since, RefCell::default(), Cell::new(false));
        let waiter = Rc::new(Waiter { account, waker, is_woken, chosen, since: now, until });
        self.waiters.borrow_mut().push_back(Rc::clone(&waiter));
        let waiting = Waiting { pool: self, waiter, of };
        // What has become free before anybody knew that we wait.
        let mut tries = !self.is_handing_over();
        let offer = std::future::poll_fn(|cx| {
            // Before anything is tried: a dead connection that is found then wakes whoever waits first, which may be this one.
            *waiting.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            if waiting.take_wake() | std::mem::take(&mut tries) {
                if self.has_moved(&waiting.waiter) {
                    return Poll::Ready(Err(Unserved::Moved));
                }
                match self.offer(wish) {
                    Offer::Wait => {
                        // What is of no use to this one may be to another one.
                        if !self.idle.borrow().is_empty() || self.quota().is_shared() {
                            self.wake_behind(&waiting.waiter);
                        }
                        if waiting.waiter.is_late(Instant::now()) {
                            return Poll::Ready(Err(Unserved::TimedOut));
                        }
                    }
                    offer => return Poll::Ready(Ok(offer)),
                }
            }
            Poll::Pending
        });
        let offer = offer.await;
        drop(waiting);
        // There may be more where that came from, which who came meanwhile has left to those who wait; or it was not taken.
        let has_more = self.quota().is_shared() || !self.idle.borrow().is_empty() || self.open.get() < self.max.get();
        if matches!(offer, Err(Unserved::Moved)) || offer.is_ok() && has_more {
            self.wake_one();
        }
        offer
    }

    /// Clients that wait.
    pub fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }

    /// Lets the first one that waits, and was not told yet, try again.
    pub fn wake_one(&self) {
        let waiters = self.waiters.borrow();
        let first = waiters.iter().find(|waiter| !waiter.is_woken.get());
        first.into_iter().for_each(|waiter| self.wake(waiter));
    }

    fn facts(&self) -> &ServerFacts {
        self.home.shared.server(self.home.server)
    }

    fn has_moved(&self, waiter: &Waiter) -> bool {
        waiter.chosen.is_over(self.facts()) || self.is_gone()
    }

    /// A database cannot be unselected, and a connection of another term is of no use but to its last session, for questions.
    fn fits(&self, backend: &Backend, wish: Wish<'_>) -> bool {
        backend.key == wish.key
            && backend.term == self.facts().term()
            && (wish.state.schema.is_some() || backend.state.schema.is_none())
    }

    /// Ends the waits for what the server was before.
    pub fn wake_moved(&self) {
        let waiters = self.waiters.borrow();
        let moved = waiters.iter().filter(|waiter| !waiter.is_woken.get() && self.has_moved(waiter));
        moved.for_each(|waiter| self.wake(waiter));
    }

    /// Ends the waits whose time is up; asked once in a while.
    pub fn wake_late(&self, now: Instant) {
        let waiters = self.waiters.borrow();
        let late = waiters.iter().filter(|waiter| !waiter.is_woken.get() && waiter.is_late(now));
        late.for_each(|waiter| self.wake(waiter));
    }

    fn wake_behind(&self, waiter: &Rc<Waiter>) {
        let waiters = self.waiters.borrow();
        let behind = waiters.iter().skip_while(|other| !Rc::ptr_eq(other, waiter)).skip(1);
        behind.filter(|other| !other.is_woken.get()).take(1).for_each(|other| self.wake(other));
    }

    fn wake(&self, waiter: &Waiter) {
        waiter.is_woken.set(true);
        self.woken.set(self.woken.get() + 1);
        if let Some(waker) = waiter.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether a connection is closed rather than lent again, because another worker has too few, or all have too many.
    pub fn must_yield(&self, account: u16) -> bool {
        self.quota().must_yield(self.home.worker, self.of(account))
    }

    /// Since when the client waits that has waited longest for a connection of this account, or of any.
    pub fn oldest_wait(&self, account: Option<u16>) -> Option<Instant> {
        let waiters = self.waiters.borrow();
        let mut of_account = waiters.iter().filter(|waiter| account.is_none_or(|account| waiter.account == account));
        of_account.next().map(|waiter| waiter.since)
    }

    /// Whether a connection of this account is closed rather than lent again, because the account has none left for a client of this
    /// worker that waits at another server since `elsewhere`, longer than those here. One at a time, so that servers which are both
    /// wanted do not take each statement's connection from each other.
    pub fn cedes(&self, account: u16, elsewhere: Instant, now: Instant) -> bool {
        let is_older = self.oldest_wait(Some(account)).is_none_or(|here| elsewhere < here);
        let was_just_done = self.ceded.get().is_some_and(|last| now.saturating_duration_since(last) < LENT_AFTER);
        let cedes = is_older && !was_just_done;
        if cedes {
            self.ceded.set(Some(now));
            self.is_ceding.set(true);
        }
        cedes
    }

    /// Whether it is closed because its server is gone, or because there are more here than may be.
    pub fn is_surplus(&self) -> bool {
        self.open.get() > self.max.get() || self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.facts().duty() == Duty::Gone
    }

    /// Takes a connection back; it can be lent from `now` on.
    pub fn give_back(&self, mut backend: Box<Backend>, now: Instant) {
        backend.since = now;
        let owner = backend.owner.as_ref().map_or(0, |owner| owner.session);
        self.idle.borrow_mut().push(Idle { owner, backend });
        self.wake_one();
    }

    /// A connection of this account is gone: dropped by its borrower, or never opened.
    pub fn closed(&self, account: u16) {
        self.open.set(self.open.get().saturating_sub(1));
        self.quota().give(self.home.worker, self.of(account));
        if !self.is_ceding.take() {
            self.wake_one();
        }
    }

    /// A connection that nobody here needs and that another data worker waits for, for the caller to close; or how long until
    /// there may be one.
    pub fn lend(&self) -> Result<Box<Backend>, Option<Duration>> {
        let is_wanted = |backend: &Backend| self.quota().is_wanted(self.home.worker, self.of(backend.key.account));
        let mut idle = self.idle.borrow_mut();
        let wanted = idle.iter().enumerate().filter(|(_, idle)| is_wanted(&idle.backend));
        let oldest = wanted.map(|(at, idle)| (at, idle.backend.since)).min_by_key(|(_, since)| *since);
        let Some((at, since)) = oldest else { return Err(None) };
        match LENT_AFTER.saturating_sub(since.elapsed()) {
            Duration::ZERO => Ok(idle.remove(at).backend),
            left => Err(Some(left)),
        }
    }

    /// Takes out what has been idle or open for too long, everything dead, what was opened under another generation or term of the
    /// server, and what there is too much of; the caller drops it. All of it still counts as open until then.
    pub fn sweep(&self, sweep: Sweep) -> Vec<Box<Backend>> {
        let mut idle = self.idle.borrow_mut();
        let (mut kept, mut gone) = (Vec::with_capacity(idle.len()), Vec::new());
        for Idle { owner, backend } in idle.drain(..) {
            let is_spare = self.open.get() - gone.len() > sweep.kept || backend.key != sweep.kept_key;
            let idle_max = backend.spread(sweep.idle_max);
            let is_old = is_spare && sweep.now.saturating_duration_since(backend.since) > idle_max;
            let stale = (is_old || backend.is_expired(sweep.now)) && !backend.keeps_insert_id();
            let is_surplus = self.open.get() - gone.len() > self.max.get() || self.is_gone();
            let is_surplus =
                is_surplus || self.quota().surplus(self.home.worker, self.of(backend.key.account)) > gone.len();
            let stale = stale || is_surplus;
            let (generation, term, reach) = sweep.life;
            let is_of_term = backend.term == term || backend.is_protected();
            let is_of_life = (backend.generation, backend.reach) == (generation, reach) && is_of_term;
            let is_good = !stale && is_of_life && backend.is_quiet();
            if is_good { kept.push(Idle { owner, backend }) } else { gone.push(backend) }
        }
        *idle = kept;
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake};

    use super::*;
    use crate::mysql::backend::{Carry, InsertId};
    use crate::runtime::testing::{on_both_drivers, pair};
    use crate::runtime::time::sleep;
    use std::os::unix::net::UnixStream;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Flag {
        fn take(&self) -> bool {
            self.0.swap(false, Ordering::Relaxed)
        }
    }

    fn pool(connections_max: usize) -> Pool {
        let text = "[mysql.m]\nlisten = \"127.0.0.1:1\"\nuser = \"u\"\npassword = \"p\"\nprimary = \"1.1.1.1:1\"\n";
        let config = crate::config::parse("test.toml", text, &[]).unwrap_or_else(|report| panic!("{report}")).0;
        let shared = Arc::new(Shared::new(&Arc::new(config), 0, 1));
        Pool::new(Home { shared, worker: 0, server: 0 }, connections_max)
    }

    const KEY: Key = Key { capabilities: 0, collation: 45, account: 0 };

    #[test]
    fn who_finds_a_dead_connection_and_no_room_waits_no_longer_than_it_may() {
        on_both_drivers(|| async {
            let (pool, flag, state) = (pool(2), Arc::new(Flag::default()), Rc::new(State::default()));
            let waker = Waker::from(flag.clone());
            let mut cx = Context::from_waker(&waker);
            let wish = Wish { key: KEY, state: &state, session: 1, trusts_at: None, since: Since::turn(pool.facts()) };
            assert!(pool.take_place(0) && pool.take_place(0));
            let (stream, other) = pair();
            let backend = Box::new(Backend::fresh(stream, 1, 0, KEY, None));
            let begun = Instant::now();
            let until = begun + Duration::from_millis(20);
            let mut waiting = pin!(pool.wait(wish, begun, until));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            pool.set_max(1);
            drop(other);
            pool.give_back(backend, begun);
            assert!(flag.take());
            assert!(waiting.as_mut().poll(&mut cx).is_pending(), "the one that is left is in use");
            // The dead one's place was offered to whoever waits first.
            assert!(flag.take());
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert!(!pool.is_handing_over());
            sleep(Duration::from_millis(30)).await;
            pool.wake_late(Instant::now());
            assert!(flag.take());
            assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(Err(Unserved::TimedOut))));
        });
    }

    /// Of a session that may ask for warnings there.
    fn protected(id: u64, carry: &Rc<Carry>) -> (Box<Backend>, UnixStream) {
        let (stream, other) = pair();
        let mut backend = Box::new(Backend::fresh(stream, id, 0, KEY, None));
        (backend.owner, backend.protected) = (Some(Rc::clone(carry)), true);
        (backend, other)
    }

    #[test]
    fn what_a_session_may_ask_for_is_there_when_sessions_begin_otherwise() {
        on_both_drivers(|| async {
            let (pool, state, now) = (pool(2), Rc::new(State::default()), Instant::now());
            let carry = |session| Rc::new(Carry { session, insert_id: InsertId::Known(0).into(), gone: false.into() });
            let (one, other) = (carry(1), carry(2));
            let (backend, _kept) = protected(1, &one);
            let (unasked, _too) = protected(2, &other);
            assert!(pool.take_place(0) && pool.take_place(0));
            [backend, unasked].into_iter().for_each(|backend| pool.give_back(backend, now));
            other.gone.set(true);
            pool.facts().end_term();
            let swept = |life| {
                let idle_max = Duration::from_secs(60);
                let gone = pool.sweep(Sweep { now, idle_max, kept: 0, kept_key: KEY, life });
                gone.iter().map(|backend| backend.id).collect::<Vec<_>>()
            };
            assert_eq!(swept((0, 1, 0)), [2]);
            pool.closed(0);
            let wish = Wish { key: KEY, state: &state, session: 1, trusts_at: None, since: Since::turn(pool.facts()) };
            assert!(matches!(pool.offer(wish), Offer::Open), "lent to nobody, its own session included");
            assert!(pool.take_own(1, |backend| backend.id == 1).is_some_and(|backend| backend.protected));
            let (backend, _there) = protected(3, &one);
            pool.give_back(backend, now);
            assert_eq!(swept((1, 1, 0)), [3], "another life of the server");
        });
    }

    #[test]
    fn who_waits_goes_on_when_sessions_begin_otherwise() {
        on_both_drivers(|| async {
            let (pool, state, now) = (pool(1), Rc::new(State::default()), Instant::now());
            let mut cx = Context::from_waker(Waker::noop());
            let wish = Wish { key: KEY, state: &state, session: 1, trusts_at: None, since: Since::turn(pool.facts()) };
            assert!(pool.take_place(0));
            let (stream, _kept) = pair();
            let mut waiting = pin!(pool.wait(wish, now, now + Duration::from_secs(60)));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            pool.facts().end_term();
            pool.wake_moved();
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            pool.give_back(Box::new(Backend::fresh(stream, 1, 0, KEY, None)), now);
            assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(Ok(Offer::Replace(_)))), "not as it is");
            let of_replica = Wish { since: Since::term(pool.facts()), ..wish };
            for (wish, end) in [(of_replica, ServerFacts::end_term as fn(&ServerFacts)), (wish, ServerFacts::end_turn)]
            {
                let mut waiting = pin!(pool.wait(wish, now, now + Duration::from_secs(60)));
                assert!(waiting.as_mut().poll(&mut cx).is_pending());
                end(pool.facts());
                pool.wake_moved();
                assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(Err(Unserved::Moved))));
            }
        });
    }

    #[test]
    fn who_waits_gets_what_became_free_while_another_one_was_served() {
        on_both_drivers(|| async {
            let (pool, flag, state) = (pool(2), Arc::new(Flag::default()), Rc::new(State::default()));
            let waker = Waker::from(flag.clone());
            let mut cx = Context::from_waker(&waker);
            let wish = Wish { key: KEY, state: &state, session: 1, trusts_at: None, since: Since::turn(pool.facts()) };
            assert!(pool.take_place(0) && pool.take_place(0));
            let (pairs, begun) = ([pair(), pair()], Instant::now());
            let until = begun + Duration::from_secs(60);
            let mut first = pin!(pool.wait(wish, begun, until));
            assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let [(one, _kept), (two, _too)] = pairs;
            pool.give_back(Box::new(Backend::fresh(one, 1, 0, KEY, None)), begun);
            pool.give_back(Box::new(Backend::fresh(two, 2, 0, KEY, None)), begun);
            // Comes before the first one has run: it does not go before.
            let mut second = pin!(pool.wait(wish, begun, until));
            assert!(second.as_mut().poll(&mut cx).is_pending());
            let served = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(served, Poll::Ready(Ok(Offer::Take(_)))));
            assert!(flag.take(), "there is one more");
            assert!(matches!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(Offer::Take(_)))));
        });
    }
}
