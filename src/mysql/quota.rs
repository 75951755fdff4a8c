//! How many connections all data workers together have to each server, and of each account: without a lock, and so that no
//! worker goes without because others were first.
//!
//! A worker opens a connection when there is a place for it in two budgets, that of the server and that of the account. A
//! budget without a limit counts all the same, so that one that gets a limit knows how many there are. Places are counted by one
//! atomic number each; beside it each worker writes on a line of its own how many it has, and for how many its clients wait.
//! A limit that is lowered is kept to as connections are given back.
//!
//! While there are places nobody is asked. When there are none:
//!
//! - whoever waits says so, and rings at the others, who close connections that have been idle for a moment ([`Quota::is_wanted`]);
//! - a worker with its share or more, while one with less than its share waits, closes a connection where it would have
//!   lent it again ([`Quota::must_yield`]), and takes no new place meanwhile.
//!
//! So nobody with less than its share waits for longer than others' statements last: as long as there is one, and no place,
//! somebody has more than its share. Beyond the shares the quicker one is served. Whoever gives a place back frees it, then looks
//! who waits; whoever waits says so, then looks for a place: with a fence between, one of the two sees the other (`loom_` test
//! below). Whoever waits no longer rings too: others may have stood back for it.
//!
//! The budget of an account spans the servers, of which each has a pool of its own in each worker. So a worker's own idle
//! connections to one server may be what its clients wait for at another one: there it rings at itself as well.

use std::task::{Context, Poll};

use crate::runtime::sync::{
    AtomicBool, AtomicU32, AtomicUsize, AtomicWaker, CachePadded, Ordering::SeqCst, fence, register,
};
use crate::util::growing::Growing;

/// Whose connection it is, and to which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    /// Index of the server.
    pub server: usize,
    /// Number of the account.
    pub account: u16,
}

/// What is limited.
#[derive(Debug)]
pub struct Limits {
    /// Connections to each server; `None`: any number.
    pub of_server: Option<usize>,
    /// Number of servers.
    pub servers: usize,
    /// Connections of each account, by number.
    pub of_accounts: Vec<Option<usize>>,
    /// Clients that may wait.
    pub waiting_max: usize,
}

#[cfg(not(model_check))]
impl Limits {
    /// What a config says for so many servers. The first account is our own.
    pub fn of(splitter: &crate::config::model::Splitter, servers: usize) -> Limits {
        let users = splitter.users.iter().map(|user| user.server_connections_max);
        Limits {
            of_server: splitter.server_connections_max,
            servers,
            of_accounts: std::iter::once(None).chain(users).collect(),
            waiting_max: splitter.pool_queue_max,
        }
    }
}

/// The connections of one splitter, whole process.
pub struct Quota {
    servers: Growing<Budget>,
    accounts: Growing<Budget>,
    doors: Box<[CachePadded<Door>]>,
    /// Clients that wait for a connection, in all workers.
    waiting: CachePadded<AtomicUsize>,
    waiting_max: AtomicUsize,
    /// Something is limited.
    is_shared: AtomicBool,
}

/// Places for one kind of connection.
struct Budget {
    /// [`NO_LIMIT`]: any number.
    most: AtomicU32,
    used: CachePadded<AtomicU32>,
    lanes: Box<[CachePadded<Lane>]>,
}

/// What a budget has that is none.
const NO_LIMIT: u32 = u32::MAX;

/// What one worker says of itself.
struct Lane {
    open: AtomicU32,
    waiting: AtomicU32,
}

/// Where one worker is told that something has changed.
struct Door {
    is_rung: AtomicBool,
    waker: AtomicWaker,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota").field("waiting", &self.waiting.load(SeqCst)).finish_non_exhaustive()
    }
}

impl Budget {
    fn new(most: Option<usize>, workers: usize) -> Budget {
        let lane = |_| CachePadded::new(Lane { open: AtomicU32::new(0), waiting: AtomicU32::new(0) });
        Budget {
            most: AtomicU32::new(limit(most)),
            used: CachePadded::new(AtomicU32::new(0)),
            lanes: (0..workers).map(lane).collect(),
        }
    }

    fn is_limited(&self) -> bool {
        self.most.load(SeqCst) != NO_LIMIT
    }

    fn is_full(&self) -> bool {
        let most = self.most.load(SeqCst);
        most != NO_LIMIT && self.used.load(SeqCst) >= most
    }

    /// So many more than may be: the limit was lowered.
    fn surplus(&self) -> u32 {
        let most = self.most.load(SeqCst);
        if most == NO_LIMIT { 0 } else { self.used.load(SeqCst).saturating_sub(most) }
    }

    /// So many of them are for this worker to close: in proportion to what it has, so that all together do not close more than
    /// there are; what is left over by whoever has most.
    fn surplus_of(&self, worker: usize) -> u32 {
        let (surplus, used) = (u64::from(self.surplus()), u64::from(self.used.load(SeqCst)).max(1));
        let open = |lane: &CachePadded<Lane>| lane.open.load(SeqCst);
        let own = open(&self.lanes[worker]);
        let part = u32::try_from(surplus * u64::from(own) / used).unwrap_or(own);
        let has_most = |at: usize, lane| (open(lane), usize::MAX - at) <= (own, usize::MAX - worker);
        let is_left_over =
            part == 0 && surplus > 0 && self.lanes.iter().enumerate().all(|(at, lane)| has_most(at, lane));
        part.max(u32::from(is_left_over))
    }

    /// Of each worker.
    fn share(&self) -> u32 {
        (self.most.load(SeqCst) / u32::try_from(self.lanes.len()).unwrap_or(1).max(1)).max(1)
    }

    /// Somebody else waits who has less than its share.
    fn poorer_waits(&self, worker: usize) -> bool {
        let is_poor = |lane: &Lane| lane.waiting.load(SeqCst) > 0 && lane.open.load(SeqCst) < self.share();
        self.lanes.iter().enumerate().any(|(at, lane)| at != worker && is_poor(lane))
    }

    fn has_share(&self, worker: usize) -> bool {
        self.lanes[worker].open.load(SeqCst) >= self.share()
    }

    /// Whether [`Budget::take`] would find a place now.
    fn has_room(&self, worker: usize) -> bool {
        !(self.is_full() || self.has_share(worker) && self.poorer_waits(worker))
    }

    fn take(&self, worker: usize) -> bool {
        if !self.has_room(worker) {
            return false;
        }
        // At no moment more than there are: somebody would find no place because of one that was not taken.
        let most = self.most.load(SeqCst);
        if self.used.fetch_update(SeqCst, SeqCst, |used| (used < most).then_some(used + 1)).is_err() {
            return false;
        }
        self.lanes[worker].open.fetch_add(1, SeqCst);
        true
    }

    fn give(&self, worker: usize) {
        self.lanes[worker].open.fetch_sub(1, SeqCst);
        self.used.fetch_sub(1, SeqCst);
    }

    fn others_wait(&self, worker: usize) -> bool {
        self.lanes.iter().enumerate().any(|(at, lane)| at != worker && lane.waiting.load(SeqCst) > 0)
    }
}

impl Quota {
    /// Nothing open, for so many data workers.
    pub fn new(limits: &Limits, workers: usize) -> Quota {
        let door = |_| CachePadded::new(Door { is_rung: AtomicBool::new(false), waker: AtomicWaker::new() });
        let quota = Quota {
            servers: Growing::default(),
            accounts: Growing::default(),
            doors: (0..workers).map(door).collect(),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            waiting_max: AtomicUsize::new(0),
            is_shared: AtomicBool::new(false),
        };
        quota.set(limits);
        quota
    }

    /// Has these limits from now on. Control thread only.
    pub fn set(&self, limits: &Limits) {
        set_limits(&self.servers, (0..limits.servers).map(|_| limits.of_server), self.doors.len());
        set_limits(&self.accounts, limits.of_accounts.iter().copied(), self.doors.len());
        self.waiting_max.store(limits.waiting_max, SeqCst);
        let is_shared = self.servers.iter().chain(self.accounts.iter()).any(Budget::is_limited);
        self.is_shared.store(is_shared, SeqCst);
    }

    fn budgets(&self, of: Of) -> impl Iterator<Item = &Budget> {
        [&self.servers[of.server], &self.accounts[usize::from(of.account)]].into_iter()
    }

    /// Takes a place for a connection; `false`: there is none, or others come first.
    pub fn take(&self, worker: usize, of: Of) -> bool {
        let (server, account) = (&self.servers[of.server], &self.accounts[usize::from(of.account)]);
        // Looked at first, so that nothing is taken and given back, which others hear of: two workers that wait for the same full
        // account would ring each other all the time.
        if !account.has_room(worker) || !server.take(worker) {
            return false;
        }
        let is_taken = account.take(worker);
        if !is_taken {
            server.give(worker);
            if server.is_limited() {
                self.ring_those_waiting(server, Some(worker));
            }
        }
        is_taken
    }

    /// A connection is closed.
    pub fn give(&self, worker: usize, of: Of) {
        self.budgets(of).for_each(|budget| budget.give(worker));
        self.ring_those_waiting(&self.servers[of.server], Some(worker));
        self.ring_those_waiting(&self.accounts[usize::from(of.account)], None);
    }

    /// The place of a connection that is closed passes to another one to the same server; `false`: its account has no room.
    pub fn pass_on(&self, worker: usize, from: u16, to: u16) -> bool {
        if from == to {
            return true;
        }
        if !self.accounts[usize::from(to)].take(worker) {
            return false;
        }
        let budget = &self.accounts[usize::from(from)];
        budget.give(worker);
        self.ring_those_waiting(budget, None);
        true
    }

    /// A connection that has become free is to be closed, because somebody with less than its share waits for one, or because
    /// there are too many.
    pub fn must_yield(&self, worker: usize, of: Of) -> bool {
        let yields = |budget: &Budget| budget.has_share(worker) && budget.poorer_waits(worker) || budget.surplus() > 0;
        self.budgets(of).any(|budget| budget.is_full() && yields(budget))
    }

    /// So many connections of this worker are to be closed because there are more than may be: the limit was lowered.
    pub fn surplus(&self, worker: usize, of: Of) -> usize {
        self.budgets(of).map(|budget| budget.surplus_of(worker)).max().unwrap_or(0) as usize
    }

    /// Somebody waits for the place of a connection that nobody needs at its server.
    pub fn is_wanted(&self, worker: usize, of: Of) -> bool {
        let others_wait = self.budgets(of).any(|budget| budget.is_full() && budget.others_wait(worker));
        others_wait || self.waiting_for_account(worker, of.account) > 0
    }

    /// How many of this worker's clients wait, at whatever server, for a place of an account that has none left.
    pub fn waiting_for_account(&self, worker: usize, account: u16) -> usize {
        let budget = &self.accounts[usize::from(account)];
        if budget.is_full() { budget.lanes[worker].waiting.load(SeqCst) as usize } else { 0 }
    }

    /// One more client waits; `false`: there are as many as may. Pairs with [`Quota::end_wait`].
    pub fn begin_wait(&self, worker: usize, of: Of) -> bool {
        if self.waiting.fetch_add(1, SeqCst) >= self.waiting_max.load(SeqCst) {
            self.waiting.fetch_sub(1, SeqCst);
            return false;
        }
        self.budgets(of).for_each(|budget| _ = budget.lanes[worker].waiting.fetch_add(1, SeqCst));
        let is_account_limited = self.accounts[usize::from(of.account)].is_limited();
        if is_account_limited || self.servers[of.server].is_limited() {
            let concerned = |at: &usize| *at != worker || is_account_limited;
            (0..self.doors.len()).filter(concerned).for_each(|at| self.doors[at].ring());
        }
        // Before the look for a place; see the head of this file.
        fence(SeqCst);
        true
    }

    /// It waits no longer.
    pub fn end_wait(&self, worker: usize, of: Of) {
        self.waiting.fetch_sub(1, SeqCst);
        for budget in self.budgets(of) {
            budget.lanes[worker].waiting.fetch_sub(1, SeqCst);
        }
        // Those that have their share, and did not take a place as long as this one waited with less.
        for budget in self.budgets(of).filter(|budget| budget.is_limited() && !budget.is_full()) {
            self.ring_those_waiting(budget, Some(worker));
        }
    }

    /// `but`: the worker that has itself seen to those of its clients that wait. It cannot where the budget is that of an
    /// account: they may wait at another server.
    fn ring_those_waiting(&self, budget: &Budget, but: Option<usize>) {
        // Behind the place that was freed.
        fence(SeqCst);
        for (at, lane) in budget.lanes.iter().enumerate() {
            if Some(at) != but && lane.waiting.load(SeqCst) > 0 {
                self.doors[at].ring();
            }
        }
    }

    /// Whether anything is limited for all workers together.
    pub fn is_shared(&self) -> bool {
        self.is_shared.load(SeqCst)
    }

    /// Waits until something has changed that may concern this worker.
    pub fn poll_rung(&self, worker: usize, cx: &mut Context<'_>) -> Poll<()> {
        let door = &self.doors[worker];
        if door.is_rung.swap(false, SeqCst) {
            return Poll::Ready(());
        }
        register(&door.waker, cx);
        if door.is_rung.swap(false, SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn limit(most: Option<usize>) -> u32 {
    most.map_or(NO_LIMIT, |most| u32::try_from(most).unwrap_or(NO_LIMIT))
}

fn set_limits(budgets: &Growing<Budget>, most: impl Iterator<Item = Option<usize>>, workers: usize) {
    for (at, most) in most.enumerate() {
        match budgets.get(at) {
            Some(budget) => budget.most.store(limit(most), SeqCst),
            None => budgets.push(Budget::new(most, workers)),
        }
    }
}

impl Door {
    fn ring(&self) {
        if !self.is_rung.swap(true, SeqCst) {
            self.waker.wake();
        }
    }
}

/// One server, our own account and another one.
#[cfg(test)]
fn limits(of_server: Option<usize>, of_account: Option<usize>) -> Limits {
    Limits { of_server, servers: 1, of_accounts: vec![None, of_account], waiting_max: 2 }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use loom::future::block_on;

    use super::*;
    use crate::runtime::sync::Arc;

    fn work(quota: &Quota, worker: usize, of: Of) {
        if !quota.take(worker, of) {
            assert!(quota.begin_wait(worker, of));
            block_on(async {
                while !quota.take(worker, of) {
                    std::future::poll_fn(|cx| quota.poll_rung(worker, cx)).await;
                }
            });
            quota.end_wait(worker, of);
        }
        quota.give(worker, of);
    }

    /// Two workers want the only place, of a server or of an account: under every interleaving both get it (else the model
    /// deadlocks), and none is left behind.
    #[test]
    fn loom_nobody_waits_beside_a_free_place() {
        for (of_server, of_account) in [(Some(1), None), (None, Some(1))] {
            loom::model(move || {
                let quota = Arc::new(Quota::new(&limits(of_server, of_account), 2));
                let (other, of) = (quota.clone(), Of { server: 0, account: 1 });
                let thread = loom::thread::spawn(move || work(&other, 1, of));
                work(&quota, 0, of);
                thread.join().unwrap();
                assert!(quota.budgets(of).all(|budget| budget.used.load(SeqCst) == 0));
            });
        }
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::random::Random;

    const MAIN: Of = Of { server: 0, account: 0 };

    fn quota(most: Option<usize>, of_user: Option<usize>, workers: usize) -> Quota {
        Quota::new(&limits(most, of_user), workers)
    }

    fn takes(quota: &Quota, worker: usize, of: Of) -> usize {
        std::iter::repeat_with(|| quota.take(worker, of)).take(100).take_while(|taken| *taken).count()
    }

    #[test]
    fn one_worker_may_have_all_until_another_one_needs_its_share() {
        let quota = quota(Some(4), None, 2);
        assert_eq!(takes(&quota, 0, MAIN), 4);
        assert!(!quota.must_yield(0, MAIN) && !quota.is_wanted(0, MAIN), "nobody else needs any");
        assert!(!quota.take(1, MAIN) && quota.begin_wait(1, MAIN));
        assert!(quota.must_yield(0, MAIN) && quota.is_wanted(0, MAIN));
        quota.give(0, MAIN);
        assert!(!quota.take(0, MAIN), "it is not for whoever has three");
        assert!(quota.take(1, MAIN) && quota.must_yield(0, MAIN), "one is less than two");
        quota.give(0, MAIN);
        assert!(quota.take(1, MAIN) && !quota.must_yield(0, MAIN), "both have their share");
        assert!(quota.is_wanted(0, MAIN), "one that nobody needs is still wanted");
        quota.end_wait(1, MAIN);
        assert!(!quota.is_wanted(0, MAIN));
    }

    #[test]
    fn a_single_place_goes_round() {
        let quota = quota(Some(1), None, 3);
        assert!(quota.take(0, MAIN) && quota.begin_wait(1, MAIN) && quota.begin_wait(2, MAIN));
        for (from, to) in [(0, 1), (1, 2)] {
            assert!(quota.must_yield(from, MAIN));
            quota.give(from, MAIN);
            assert!(quota.take(to, MAIN));
            quota.end_wait(to, MAIN);
        }
        assert!(!quota.must_yield(2, MAIN));
    }

    #[test]
    fn an_account_has_a_budget_of_its_own() {
        let (quota, user) = (quota(Some(4), Some(1), 2), Of { server: 0, account: 1 });
        assert_eq!((takes(&quota, 0, user), takes(&quota, 0, MAIN)), (1, 3));
        assert!(!quota.pass_on(0, 0, 1), "the account has no room");
        quota.give(0, user);
        assert!(quota.pass_on(0, 0, 1) && !quota.take(1, user));
        quota.give(0, user);
        assert!(quota.take(1, user), "what failed for the account has left no trace at the server");
    }

    #[test]
    fn a_worker_hears_of_what_its_own_clients_wait_for_at_another_server() {
        let quota = quota(None, Some(1), 1);
        quota.servers.push(Budget::new(None, 1));
        let (here, there) = (Of { server: 0, account: 1 }, Of { server: 1, account: 1 });
        let rung = || quota.poll_rung(0, &mut Context::from_waker(std::task::Waker::noop())).is_ready();
        assert!(quota.take(0, here) && !quota.is_wanted(0, here) && !rung());
        assert!(!quota.take(0, there) && quota.begin_wait(0, there));
        assert!(rung() && quota.is_wanted(0, here), "the idle one is to be given up");
        quota.give(0, here);
        assert!(rung() && quota.take(0, there), "there is a place");
        quota.end_wait(0, there);
        assert!(!quota.is_wanted(0, there));
    }

    #[test]
    fn who_finds_no_place_disturbs_nobody() {
        for of_server in [None, Some(3)] {
            let (quota, user) = (quota(of_server, Some(1), 2), Of { server: 0, account: 1 });
            let rung = |at: usize| quota.poll_rung(at, &mut Context::from_waker(std::task::Waker::noop())).is_ready();
            assert!(quota.take(0, user) && quota.begin_wait(0, user) && quota.begin_wait(1, user));
            (0..2).for_each(|at| _ = rung(at));
            assert!(!quota.take(0, user) && !quota.take(1, user) && !rung(0) && !rung(1));
        }
    }

    #[test]
    fn those_that_stood_back_hear_that_nobody_needs_it_any_more() {
        let quota = quota(Some(2), None, 2);
        assert!(quota.take(0, MAIN) && quota.take(0, MAIN) && quota.begin_wait(1, MAIN) && quota.begin_wait(0, MAIN));
        quota.give(0, MAIN);
        assert!(!quota.take(0, MAIN), "the other one comes first");
        let rung = || quota.poll_rung(0, &mut Context::from_waker(std::task::Waker::noop())).is_ready();
        rung();
        quota.end_wait(1, MAIN);
        assert!(rung() && quota.take(0, MAIN));
    }

    #[test]
    fn the_queue_is_bounded_and_nothing_limits_where_nothing_is_said() {
        let quota = quota(None, None, 2);
        assert!(!quota.is_shared());
        assert_eq!(takes(&quota, 0, MAIN), 100);
        assert!(quota.begin_wait(0, MAIN) && quota.begin_wait(1, MAIN) && !quota.begin_wait(0, MAIN));
        quota.end_wait(1, MAIN);
        assert!(quota.begin_wait(0, MAIN));
    }

    #[test]
    fn a_limit_that_comes_or_goes_counts_what_is_there() {
        let quota = Quota::new(&limits(None, None), 2);
        assert!((0..5).all(|_| quota.take(0, MAIN)) && quota.surplus(0, MAIN) == 0);
        quota.set(&Limits { servers: 2, ..limits(Some(3), None) });
        assert!(quota.is_shared() && quota.surplus(0, MAIN) == 2 && quota.must_yield(0, MAIN) && !quota.take(1, MAIN));
        (0..2).for_each(|_| quota.give(0, MAIN));
        assert!(quota.surplus(0, MAIN) == 0 && !quota.must_yield(0, MAIN), "three are as many as may be");
        assert!(quota.take(1, Of { server: 1, account: 0 }), "the other server is a new one");
        quota.set(&Limits { servers: 2, ..limits(None, None) });
        assert!(!quota.is_shared() && (0..9).all(|_| quota.take(1, MAIN)));
    }

    proptest! {
        /// However the connections lie, workers that look at the same time close no more than there are too many, and those that
        /// look again and again close all of these.
        #[test]
        fn a_surplus_is_closed_once(open in proptest::collection::vec(0usize..9, 1..6), most in 1usize..20) {
            let quota = quota(None, None, open.len());
            for (worker, count) in open.iter().enumerate() {
                (0..*count).for_each(|_| assert!(quota.take(worker, MAIN)));
            }
            quota.set(&limits(Some(most), None));
            let total: usize = open.iter().sum();
            let mut left = open.clone();
            for _ in 0..=total {
                let parts: Vec<usize> = (0..left.len()).map(|worker| quota.surplus(worker, MAIN)).collect();
                for (worker, part) in parts.iter().enumerate() {
                    prop_assert!(*part <= left[worker]);
                    (0..*part).for_each(|_| quota.give(worker, MAIN));
                    left[worker] -= part;
                }
                prop_assert!(left.iter().sum::<usize>() >= most.min(total), "{left:?} of {open:?}, {most}");
            }
            prop_assert_eq!(left.iter().sum::<usize>(), most.min(total));
        }

        /// Workers take, need, yield and lend at random, each in its turn: there are never more connections than may be, and
        /// whoever waits with less than its share gets one as soon as everybody has had a turn.
        #[test]
        fn nobody_starves(seed: u64, workers in 1usize..5, most in 1usize..9) {
            let quota = Quota { waiting_max: AtomicUsize::new(1000), ..quota(Some(most), None, workers) };
            let mut random = Random::new(seed);
            let (mut open, mut waiting) = (vec![0usize; workers], vec![0usize; workers]);
            let share = (most / workers).max(1);
            for _ in 0..300 {
                let worker = random.below(workers);
                match random.below(3) {
                    0 if quota.take(worker, MAIN) => open[worker] += 1,
                    0 => {
                        prop_assert!(quota.begin_wait(worker, MAIN));
                        waiting[worker] += 1;
                    }
                    1 if open[worker] > 0 => {
                        quota.give(worker, MAIN);
                        open[worker] -= 1;
                    }
                    2 if waiting[worker] > 0 => {
                        quota.end_wait(worker, MAIN);
                        waiting[worker] -= 1;
                    }
                    _ => {}
                }
                prop_assert!(open.iter().sum::<usize>() <= most);
                let poor = (0..workers).find(|worker| waiting[*worker] > 0 && open[*worker] < share);
                let Some(poor) = poor.filter(|_| random.below(8) == 0) else { continue };
                let total: usize = open.iter().sum();
                // One connection of each of the others becomes free.
                for worker in (0..workers).filter(|worker| *worker != poor) {
                    if open[worker] > 0 && quota.must_yield(worker, MAIN) {
                        quota.give(worker, MAIN);
                        open[worker] -= 1;
                        break;
                    }
                }
                let has_room = total < most || open.iter().sum::<usize>() < most;
                prop_assert!(has_room, "all places taken by those with less than their share");
                prop_assert!(quota.take(poor, MAIN), "{open:?} {waiting:?} of {most}");
                open[poor] += 1;
            }
        }
    }
}
