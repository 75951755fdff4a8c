//! Which replica takes a read: the balancing of upstreams, over the servers of a splitter.
//!
//! Who may be chosen at all (up, no primary, not behind, fresh enough) is decided by the caller for each read; so the balancer takes
//! every server for a member and asks for each whether it has room. Counts are those of one data worker.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use crate::config::Heirs;
use crate::config::model::{Balance, MysqlServer, PrimaryRule, Splitter};
use crate::proxy::balance::{Ask, Balancer, Picked, Servers, Tried};

/// The servers of one splitter on one data worker. A primary that is fixed has a place, too, without weight: it is never chosen.
pub(super) struct Replicas {
    balancer: RefCell<Balancer>,
    /// Times of answers matter.
    is_timed: Cell<bool>,
    /// Index of the data worker.
    worker: usize,
}

/// By server. One that is gone has none.
fn weights(splitter: &Splitter) -> impl Iterator<Item = u32> {
    let is_never_one = |n: usize, server: &MysqlServer| server.is_gone || splitter.primary == PrimaryRule::Fixed(n);
    let weight = move |(n, server): (usize, &MysqlServer)| if is_never_one(n, server) { 0 } else { server.weight };
    splitter.servers.iter().enumerate().map(weight)
}

/// Those that fit a read.
struct Fitting<F>(F);

impl<F: Fn(usize) -> bool> Servers for Fitting<F> {
    fn changes(&self) -> u64 {
        0
    }

    fn is_up(&self, _server: usize) -> bool {
        true
    }

    fn came_up(&self, _server: usize) -> Option<Instant> {
        None
    }

    fn tier_held(&self) -> usize {
        0
    }

    fn has_room(&self, server: usize, _part_of: impl Fn(u32) -> u32) -> bool {
        self.0(server)
    }
}

impl Replicas {
    /// `worker`: index of the data worker; `seed` should differ between workers.
    pub(super) fn new(splitter: &Splitter, worker: usize, seed: u64) -> Replicas {
        Replicas::of_weights(splitter.balance, weights(splitter), worker, seed)
    }

    /// Those of another config, in which each server has the index it has in this one: with what is under way there.
    pub(super) fn go_on_with(&self, next: &Splitter) {
        let mut balancer = self.balancer.borrow_mut();
        let heirs = (0..next.servers.len()).map(|server| (server < balancer.servers()).then_some(server)).collect();
        let mut after = Balancer::of_weights(next.balance, weights(next), self.worker, rand::random());
        after.inherit(&balancer, &Heirs(heirs));
        *balancer = after;
        self.is_timed.set(next.balance == Balance::LeastTime);
    }

    fn of_weights(balance: Balance, weights: impl Iterator<Item = u32>, worker: usize, seed: u64) -> Replicas {
        let balancer = RefCell::new(Balancer::of_weights(balance, weights, worker, seed));
        Replicas { balancer, is_timed: Cell::new(balance == Balance::LeastTime), worker }
    }

    /// One of those that fit. `None`: none does, or they have no weight.
    pub(super) fn pick(&self, fits: impl Fn(usize) -> bool, now: Instant) -> Option<usize> {
        let ask = Ask { tried: &Tried::new(), key: None, now };
        match self.balancer.borrow_mut().pick(ask, &Fitting(fits)) {
            Picked::Server(server) => Some(server),
            Picked::Full | Picked::Nobody => None,
        }
    }

    /// A connection to `server` is lent.
    pub(super) fn on_start(&self, server: usize) {
        self.balancer.borrow_mut().on_start(server);
    }

    /// It is given back, or closed.
    pub(super) fn on_end(&self, server: usize) {
        self.balancer.borrow_mut().on_end(server);
    }

    /// When a statement was sent, if that matters.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.is_timed.get().then(Instant::now)
    }

    /// The first bytes of an answer came from `server` to a statement sent at `sent`; or it was lost.
    pub(super) fn on_answer(&self, server: usize, sent: Instant, is_ok: bool) {
        let now = Instant::now();
        self.balancer.borrow_mut().on_answer(server, now.saturating_duration_since(sent), is_ok, now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn replicas(balance: Balance, weights: &[u32]) -> Replicas {
        Replicas::of_weights(balance, std::iter::once(0).chain(weights.iter().copied()), 0, 7)
    }

    /// How often each server is chosen, by index, when each read takes `reads_under_way` reads to end.
    fn spread(replicas: &Replicas, reads_under_way: usize, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        let (now, mut counts, mut under_way) = (Instant::now(), vec![0; 4], std::collections::VecDeque::new());
        for _ in 0..600 {
            let server = replicas.pick(&fits, now).unwrap();
            counts[server] += 1;
            replicas.on_start(server);
            under_way.push_back(server);
            if under_way.len() > reads_under_way {
                replicas.on_end(under_way.pop_front().unwrap());
            }
        }
        counts
    }

    #[test]
    fn reads_follow_weights_and_never_the_primary() {
        for balance in [Balance::LeastConn, Balance::RoundRobin, Balance::RandomTwo] {
            let counts = spread(&replicas(balance, &[3, 2, 1]), 12, |_| true);
            let is_near = |count: usize, wanted: usize| count.abs_diff(wanted) < 60;
            assert!(counts[0] == 0, "{balance:?}");
            assert!(
                is_near(counts[1], 300) && is_near(counts[2], 200) && is_near(counts[3], 100),
                "{balance:?} {counts:?}"
            );
        }
    }

    #[test]
    fn only_those_that_fit_are_chosen_and_a_weight_of_none_keeps_reads_away() {
        let all = replicas(Balance::LeastConn, &[1, 1, 0]);
        assert_eq!(spread(&all, 3, |server| server == 2), [0, 0, 600, 0]);
        assert_eq!(all.pick(|server| server == 3, Instant::now()), None);
        assert_eq!(all.pick(|_| false, Instant::now()), None);
        assert_eq!(replicas(Balance::LeastConn, &[]).pick(|_| true, Instant::now()), None);
    }

    #[test]
    fn the_fewest_running_reads_and_the_quickest_answers_win() {
        let now = Instant::now();
        let busy = replicas(Balance::LeastConn, &[1, 1]);
        busy.on_start(1);
        assert_eq!((0..9).filter_map(|_| busy.pick(|_| true, now)).collect::<Vec<_>>(), [2; 9]);
        busy.on_end(1);
        busy.on_start(2);
        assert_eq!(busy.pick(|_| true, now), Some(1));
        let timed = replicas(Balance::LeastTime, &[1, 1]);
        timed.on_answer(1, now, true);
        timed.on_answer(2, now.checked_sub(Duration::from_secs(2)).unwrap(), true);
        assert_eq!((0..9).filter_map(|_| timed.pick(|_| true, now)).collect::<Vec<_>>(), [1; 9]);
    }

    #[test]
    fn a_primary_that_is_found_has_its_share_while_another_one_leads() {
        let mut splitter = crate::control::shared::tests::config().splitters.remove(0);
        let server = |weight| MysqlServer { weight, ..splitter.servers[0].clone() };
        splitter.servers = [3, 3, 2, 1].map(server).to_vec();
        splitter.balance = Balance::LeastConn;
        assert_eq!(spread(&Replicas::new(&splitter, 0, 7), 12, |_| true)[0], 0, "a fixed one has none");
        splitter.primary = PrimaryRule::Found { looks: 2, dwell: Duration::ZERO };
        for balance in [Balance::LeastConn, Balance::RoundRobin, Balance::RandomTwo] {
            splitter.balance = balance;
            let is_near = |count: usize, wanted: usize| count.abs_diff(wanted) < 60;
            let counts = spread(&Replicas::new(&splitter, 0, 7), 12, |server| server != 1);
            let shares = [300, 0, 200, 100];
            assert!(std::iter::zip(&counts, shares).all(|(c, share)| is_near(*c, share)), "{balance:?} {counts:?}");
        }
    }
}
