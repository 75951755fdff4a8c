//! Idle connections of one server that any data worker may take: what a worker has more of than it needs itself.
//!
//! Without it every worker would dial its own, and the servers would see as many times the connections as there are
//! workers. A bounded queue without a lock (crossbeam's `ArrayQueue`); a worker touches it only when its own stock is full
//! or empty. First in, first out: those that have waited longest are used, or found too old, first. Pure over the type of
//! connection.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

/// The idle connections of one server, of all data workers.
#[derive(Debug)]
pub struct Exchange<T> {
    queue: ArrayQueue<(T, Instant)>,
    timeout: Duration,
    is_closed: AtomicBool,
}

impl<T> Exchange<T> {
    /// Keeps at most `capacity` connections (at least 1), each for less than `timeout` of idleness.
    pub fn new(capacity: usize, timeout: Duration) -> Exchange<T> {
        Exchange { queue: ArrayQueue::new(capacity.max(1)), timeout, is_closed: AtomicBool::new(false) }
    }

    /// Offers a connection that is idle since `since`. Returns what did not fit and is to be closed: the one that has waited
    /// longest, or this one when the exchange is closed.
    pub fn put(&self, connection: T, since: Instant) -> Option<T> {
        if self.is_closed.load(SeqCst) {
            return Some(connection);
        }
        let spare = self.queue.force_push((connection, since)).map(|(connection, _)| connection);
        if self.is_closed.load(SeqCst) {
            // It was closed meanwhile, perhaps before this one was there to be dropped.
            self.clear();
        }
        spare
    }

    /// Keeps nothing from now on: the servers, or how they are spoken with, are others.
    pub fn close(&self) {
        self.is_closed.store(true, SeqCst);
        self.clear();
    }

    /// A connection that is not too old, and how long it has been idle; those that are go to `too_old`.
    pub fn take(&self, now: Instant, mut too_old: impl FnMut(T)) -> Option<(T, Instant)> {
        loop {
            let (connection, since) = self.queue.pop()?;
            match now.saturating_duration_since(since) < self.timeout {
                true => return Some((connection, since)),
                false => too_old(connection),
            }
        }
    }

    /// Drops what is too old; for one worker's tick. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut dropped = 0;
        // No more than are there now: others put and take meanwhile.
        for _ in 0..self.queue.len() {
            let Some((connection, since)) = self.queue.pop() else { break };
            match now.saturating_duration_since(since) < self.timeout {
                // All go round once, so that their order stays.
                true => drop(self.put(connection, since)),
                false => dropped += 1,
            }
        }
        dropped
    }

    /// Drops all of them, for a server that is down. Returns how many.
    pub fn clear(&self) -> usize {
        std::iter::from_fn(|| self.queue.pop()).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_too_old_is_never_given_out() {
        let start = Instant::now();
        let exchange = Exchange::new(10, 4 * SECOND);
        for n in 0..4u32 {
            assert_eq!(exchange.put(n, start + n * SECOND), None);
        }
        let mut old = Vec::new();
        assert_eq!(exchange.take(start + 5 * SECOND, |n| old.push(n)), Some((2, start + 2 * SECOND)));
        assert_eq!(old, [0, 1]);
        assert_eq!(exchange.expire(start + 6 * SECOND), 0);
        assert_eq!(exchange.expire(start + 7 * SECOND), 1);
        assert_eq!(exchange.take(start, |_| ()), None);
    }

    #[test]
    fn a_full_one_gives_up_what_has_waited_longest() {
        let now = Instant::now();
        let exchange = Exchange::new(2, SECOND);
        assert_eq!([exchange.put(1, now), exchange.put(2, now), exchange.put(3, now)], [None, None, Some(1)]);
        assert_eq!((exchange.len(), exchange.clear(), exchange.is_empty()), (2, 2, true));
    }

    #[test]
    fn a_closed_one_keeps_nothing() {
        let now = Instant::now();
        let exchange = Exchange::new(8, SECOND);
        assert_eq!(exchange.put(1, now), None);
        exchange.close();
        assert_eq!((exchange.len(), exchange.put(2, now), exchange.take(now, |_| ())), (0, Some(2), None));
    }

    #[test]
    fn no_connection_is_lost_or_given_twice_between_threads() {
        let (exchange, now) = (Exchange::new(1000, SECOND), Instant::now());
        let closed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for worker in 0..4u32 {
                let (exchange, closed) = (&exchange, &closed);
                scope.spawn(move || {
                    let mut own: Vec<u32> = (0..200).map(|n| worker * 1000 + n).collect();
                    for round in 0..20_000u32 {
                        if round % 3 == worker % 3 || own.is_empty() {
                            own.extend(exchange.take(now, |_| unreachable!("none is old")).map(|(n, _)| n));
                        } else if let Some(n) = own.pop() {
                            closed.lock().unwrap().extend(exchange.put(n, now));
                        }
                    }
                    closed.lock().unwrap().append(&mut own);
                });
            }
        });
        let mut all = closed.into_inner().unwrap();
        all.extend(std::iter::from_fn(|| exchange.take(now, |_| ()).map(|(n, _)| n)));
        assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (800, 800));
    }
}
