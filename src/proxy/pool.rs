//! Idle connections to one server, of one data worker.
//!
//! Last in, first out: the connection used most recently is the least likely to be closed by the server meanwhile, and
//! those not needed grow old at the other end and go. Pure over the connection type; whether a connection is still
//! alive is for the caller to see (peek before use), because that needs a system call.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A stack of idle connections with an age limit.
#[derive(Debug)]
pub struct IdlePool<T> {
    /// Oldest first: `put` is called with times that do not go back.
    idle: VecDeque<(T, Instant)>,
    keep_idle: usize,
    timeout: Duration,
}

impl<T> IdlePool<T> {
    /// An empty pool that keeps at most `keep_idle` connections, each for less than `timeout`. Memory grows on use.
    pub fn new(keep_idle: usize, timeout: Duration) -> IdlePool<T> {
        IdlePool { idle: VecDeque::new(), keep_idle, timeout }
    }

    /// From now on it keeps at most `keep_idle`, each for less than `timeout`; the oldest beyond that are dropped.
    pub fn set_limits(&mut self, keep_idle: usize, timeout: Duration) {
        (self.keep_idle, self.timeout) = (keep_idle, timeout);
        self.idle.drain(..self.idle.len().saturating_sub(keep_idle));
    }

    /// Keeps `connection`, idle from `now` on.
    ///
    /// Returns what does not fit, with the time since when it is idle: the connection idle longest, or `connection` itself
    /// when the pool keeps none. It is to be closed, or somebody else's.
    pub fn put(&mut self, connection: T, now: Instant) -> Option<(T, Instant)> {
        self.put_within(connection, usize::MAX, now)
    }

    /// As [`put`](Self::put), with at most `keep_max` kept this time. More that were put before stay.
    pub fn put_within(&mut self, connection: T, keep_max: usize, now: Instant) -> Option<(T, Instant)> {
        let keep_max = keep_max.min(self.keep_idle);
        if keep_max == 0 {
            return Some((connection, now));
        }
        debug_assert!(self.idle.back().is_none_or(|(_, since)| *since <= now), "time goes back");
        let evicted = if self.idle.len() >= keep_max { self.idle.pop_front() } else { None };
        self.idle.push_back((connection, now));
        evicted
    }

    /// The connection put back last, unless it is too old.
    ///
    /// Too old ones stay for [`expire`](Self::expire): closing them is not this request's work.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        let (_, since) = self.idle.back()?;
        if self.is_expired(*since, now) {
            return None; // the others are older
        }
        self.idle.pop_back().map(|(connection, _)| connection)
    }

    /// Drops the connections that are too old and returns how many; for the worker's tick.
    pub fn expire(&mut self, now: Instant) -> usize {
        let expired = self.idle.iter().take_while(|(_, since)| self.is_expired(*since, now)).count();
        self.idle.drain(..expired);
        expired
    }

    /// Drops all connections and returns how many: the server went down or the worker drains.
    pub fn clear(&mut self) -> usize {
        let count = self.idle.len();
        self.idle.clear();
        count
    }

    /// Connections kept now, too old ones included.
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// True when no connection is kept.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    fn is_expired(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn less_may_be_kept_for_a_while() {
        let now = Instant::now();
        let mut pool = IdlePool::new(3, SECOND);
        assert_eq!((pool.put_within('a', 1, now), pool.put_within('b', 1, now)), (None, Some(('a', now))));
        assert_eq!((pool.put_within('c', 9, now), pool.put_within('d', 9, now)), (None, None));
        assert_eq!((pool.put_within('e', 1, now), pool.len()), (Some(('b', now)), 3), "what was put before stays");
        assert_eq!(pool.put_within('f', 0, now), Some(('f', now)));
    }

    #[test]
    fn the_last_one_in_is_the_first_one_out() {
        let now = Instant::now();
        let mut pool = IdlePool::new(8, 60 * SECOND);
        for connection in 1..=3 {
            assert_eq!(pool.put(connection, now), None);
        }
        assert_eq!([pool.take(now), pool.take(now), pool.take(now), pool.take(now)], [Some(3), Some(2), Some(1), None]);
    }

    #[test]
    fn a_full_pool_gives_up_its_oldest() {
        let now = Instant::now();
        let mut pool = IdlePool::new(2, 60 * SECOND);
        assert_eq!(pool.put('a', now), None);
        assert_eq!(pool.put('b', now), None);
        assert_eq!(pool.put('c', now), Some(('a', now)));
        assert_eq!(pool.len(), 2);
        assert_eq!((pool.take(now), pool.take(now)), (Some('c'), Some('b')));
    }

    #[test]
    fn a_pool_of_none_keeps_none() {
        let now = Instant::now();
        let mut pool = IdlePool::new(0, 60 * SECOND);
        assert_eq!(pool.put('a', now), Some(('a', now)));
        assert_eq!(pool.take(now), None);
    }

    #[test]
    fn connections_are_not_used_at_their_age_limit() {
        let start = Instant::now();
        let mut pool = IdlePool::new(8, 10 * SECOND);
        pool.put('a', start);
        assert_eq!(pool.take(start + 10 * SECOND), None);
        assert_eq!(pool.take(start + 10 * SECOND - Duration::from_nanos(1)), Some('a'));
    }

    #[test]
    fn the_tick_drops_only_what_is_too_old() {
        let start = Instant::now();
        let mut pool = IdlePool::new(8, 10 * SECOND);
        pool.put('a', start);
        pool.put('b', start + SECOND);
        pool.put('c', start + 5 * SECOND);
        assert_eq!(pool.expire(start + 9 * SECOND), 0);
        assert_eq!(pool.expire(start + 11 * SECOND), 2);
        assert_eq!(pool.take(start + 11 * SECOND), Some('c'));
        assert_eq!(pool.clear(), 0);
    }

    #[test]
    fn dropped_connections_are_really_dropped() {
        let start = Instant::now();
        let probe = std::rc::Rc::new(());
        let mut pool = IdlePool::new(8, SECOND);
        for _ in 0..4 {
            pool.put(probe.clone(), start);
        }
        assert_eq!(pool.expire(start + SECOND), 4);
        assert_eq!(std::rc::Rc::strong_count(&probe), 1);
    }
}
