//! What is done for the pools of a splitter beside the path of statements: old connections are closed, the warm ones opened,
//! and those that another data worker waits for are given up.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::backend::Carry;
use super::lease::{Lease, Opening, retire};
use super::pool::{Pool, Since, Sweep, Wish};
use super::serve::{ALARM_TICK, NO_INSERT_ID, Splitter};
use super::session::State;
use super::settings::Node;
use super::shared::{Duty, Health};
use crate::runtime::spawn;
use crate::runtime::sys::memory::give_back_freed;
use crate::runtime::time::{sleep, timeout};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Memory is given back once so many clients have gone quiet ...
const COOLED_MANY: u32 = 256;
/// ... and hardly any more do so.
const COOLED_FEW: u32 = 64;

/// Clients that have gone quiet, and so freed what a busy one needs.
#[derive(Debug, Default)]
pub(super) struct Cooled {
    /// Since the last look.
    now: Cell<u32>,
    /// Since memory was last given back.
    all: Cell<u32>,
}

impl Cooled {
    pub(super) fn note(&self) {
        self.now.set(self.now.get().saturating_add(1));
    }

    /// Whether memory is to be given back now; asked once in a while.
    fn is_over(&self) -> bool {
        let now = self.now.take();
        let all = self.all.get().saturating_add(now);
        let is_over = all >= COOLED_MANY && now < COOLED_FEW;
        self.all.set(if is_over { 0 } else { all });
        is_over
    }
}

impl Splitter {
    /// Begins to look after the pools; ends with the splitter. Must be called on its data worker.
    pub fn look_after_pools(self: &Rc<Self>) {
        spawn(sweep(Rc::downgrade(self)));
        spawn(tick(Rc::downgrade(self)));
        spawn(lend(Rc::downgrade(self)));
    }

    /// Closes the idle connections that are not to be kept.
    pub(super) fn sweep_pools(self: &Rc<Self>) {
        let (config, now) = (self.config(), Instant::now());
        for (server, pool) in self.nodes.iter().map(|node| &node.pool).enumerate() {
            let facts = self.shared.server(server);
            let life = (facts.generation(), facts.term(), config.reach);
            let (idle_max, kept, kept_key) = (config.pool_idle_timeout, config.pool_min, self.usual_key.get());
            for backend in pool.sweep(Sweep { now, idle_max, kept, kept_key, life }) {
                retire(self, backend);
            }
            pool.wake_one(); // should a place have become free that nobody told of
            self.count_connections(server);
        }
    }

    /// Opens connections until there are `pool_min`.
    async fn warm(self: Rc<Self>, server: usize) {
        while self.pool(server).open() < self.config().pool_min
            && !matches!(self.shared.server(server).health(), Health::Down | Health::Unknown)
            && self.shared.server(server).duty() != Duty::Gone
            && !self.is_draining()
        {
            let (key, state) = (self.usual_key.get(), Rc::new(State::default()));
            if !self.pool(server).take_place(key.account) {
                return;
            }
            let carry = Rc::new(Carry { session: 0, insert_id: NO_INSERT_ID.into(), gone: true.into() });
            let since = Since::turn(self.shared.server(server));
            let wish = Wish { key, state: &state, session: 0, trusts_at: None, since };
            match Lease::open(&self, Opening::new(&self, server, key.account), wish, &carry).await {
                Ok(lease) => lease.give_back(),
                Err(_) => return,
            }
        }
    }

    /// Whether a connection to `server` is given up for another one of the same account, which has none left: see
    /// [`Pool::cedes`].
    pub(super) fn cedes(&self, server: usize, account: u16, now: Instant) -> bool {
        if self.shared.quota.waiting_for_account(self.data_worker, account) == 0 {
            return false;
        }
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != server);
        let elsewhere = others.filter_map(|(_, node)| node.pool.oldest_wait(Some(account))).min();
        elsewhere.is_some_and(|elsewhere| self.pool(server).cedes(account, elsewhere, now))
    }

    /// Gives up what another worker waits for; returns how long until there may be more.
    fn lend_connections(self: &Rc<Self>) -> Option<Duration> {
        let mut again: Option<Duration> = None;
        // A place may be for any of them: who has waited longest tries first.
        let waits = |node: &Node| node.pool.oldest_wait(None);
        let mut waiting: SmallVec<[(Instant, &Pool); 8]> =
            self.nodes.iter().filter_map(|node| Some((waits(node)?, &node.pool))).collect();
        waiting.sort_unstable_by_key(|(since, _)| *since);
        waiting.iter().for_each(|(_, pool)| pool.wake_one());
        for (server, pool) in self.nodes.iter().map(|node| &node.pool).enumerate() {
            let left = loop {
                match pool.lend() {
                    Ok(backend) => {
                        self.stats().backends[server].yielded.inc();
                        retire(self, backend);
                    }
                    Err(left) => break left,
                }
            };
            again = again.into_iter().chain(left).min();
        }
        again
    }
}

async fn sweep(splitter: Weak<Splitter>) {
    loop {
        let Some(splitter) = splitter.upgrade() else { return };
        splitter.sweep_pools();
        if splitter.cooled.is_over() {
            give_back_freed();
        }
        if splitter.config().pool_min > 0 {
            (0..splitter.nodes.len()).for_each(|server| spawn(Rc::clone(&splitter).warm(server)));
        }
        drop(splitter);
        sleep(EVERY).await;
    }
}

async fn tick(splitter: Weak<Splitter>) {
    loop {
        sleep(ALARM_TICK).await;
        let Some(splitter) = splitter.upgrade() else { return };
        splitter.tick();
    }
}

async fn lend(splitter: Weak<Splitter>) {
    let Some((shared, worker)) = splitter.upgrade().map(|splitter| (splitter.shared.clone(), splitter.data_worker))
    else {
        return;
    };
    let mut again = None;
    loop {
        let rung = poll_fn(|cx| shared.quota.poll_rung(worker, cx));
        let _ = timeout(again.unwrap_or(EVERY), rung).await;
        let Some(splitter) = splitter.upgrade() else { return };
        again = splitter.lend_connections();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_behind_a_crowd() {
        let cooled = Cooled::default();
        let mut look = |count: u32| {
            (0..count).for_each(|_| cooled.note());
            cooled.is_over()
        };
        let looks = [0, 200, 200, 10, 0, 60, 60, 60, 60, 60, 0].map(&mut look);
        let expect = [false, false, false, true, false, false, false, false, false, true, false];
        assert_eq!(looks, expect);
    }
}
