//! How many connections each client address has open, counted for the whole process.
//!
//! An IPv6 client counts by its /64, of which one customer of a provider has all addresses; an IPv4 address written as IPv6
//! is the IPv4 address. The table holds what is open and nothing else, so it is bounded by the connections of the process.
//!
//! Its locks are an exception from what a data worker does: they are taken when a connection is accepted and when it ends,
//! never for a request, and only while the limit is on; each guards one of many parts of the table, for one look-up. A
//! count per worker would need none, and would let a client have the limit once for every core.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;

/// Whom a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.to_bits()),
            IpAddr::V6(address) => Network::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Connections by client address. Share it by `Arc`.
#[derive(Debug)]
pub struct PerAddress {
    connections_max: AtomicU32,
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<Network, u32, RandomState>>]>,
}

/// A connection's place in the count, which it gives back when it is dropped.
#[derive(Debug)]
pub struct Place {
    table: Arc<PerAddress>,
    network: Network,
}

impl PerAddress {
    /// At most `connections_max` for each address. `seed` must not be known to clients, who could else choose addresses that
    /// share a part of the table.
    pub fn new(connections_max: u32, seed: [u64; 4]) -> PerAddress {
        let [a, b, c, d] = seed;
        let hasher = RandomState::with_seeds(a, b, c, d);
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        PerAddress { connections_max: AtomicU32::new(connections_max), hasher, shards }
    }

    /// Counts one more connection of `address`. `None`: it has as many as it may.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = Network::of(address);
        let mut shard = self.shard(network);
        let open = shard.entry(network).or_insert(0);
        if *open >= self.connections_max.load(Relaxed) {
            return None;
        }
        *open += 1;
        Some(Place { table: self.clone(), network })
    }

    /// From now on at most so many for each address; what is open stays open.
    pub fn set_connections_max(&self, connections_max: u32) {
        self.connections_max.store(connections_max, Relaxed);
    }

    /// Addresses that have connections open now.
    pub fn addresses(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, u32, RandomState>> {
        // The maps use the lower bits of the same hash.
        let at = (self.hasher.hash_one(network) >> 32) as usize % SHARDS;
        lock(&self.shards[at])
    }
}

/// Nothing under the lock can leave a count wrong, so that a panic elsewhere is no reason to refuse everyone.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.table.shard(self.network).entry(self.network) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(connections_max: u32) -> Arc<PerAddress> {
        Arc::new(PerAddress::new(connections_max, [1, 2, 3, 4]))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_limit_and_others_have_theirs() {
        let table = table(2);
        let first = table.enter(ip("192.0.2.1")).expect("a place");
        let second = table.enter(ip("192.0.2.1")).expect("a place");
        assert!(table.enter(ip("192.0.2.1")).is_none());
        let other = table.enter(ip("192.0.2.2"));
        assert!(other.is_some());
        drop(first);
        assert!(table.enter(ip("192.0.2.1")).is_some(), "and its place is free again");
        assert_eq!(table.addresses(), 2);
        drop((second, other));
        assert_eq!(table.addresses(), 0);
    }

    #[test]
    fn ipv6_counts_by_its_network_and_a_mapped_address_as_ipv4() {
        for (first, second, is_same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("::1", "0.0.0.1", false),
        ] {
            let table = table(1);
            let _place = table.enter(ip(first));
            assert_eq!(table.enter(ip(second)).is_none(), is_same, "{first} {second}");
        }
    }

    proptest! {
        /// Whatever comes and goes in whatever order, what is open is counted, and nothing else.
        #[test]
        fn the_count_is_that_of_a_plain_list(
            connections_max in 1u32..4,
            steps in prop::collection::vec((any::<bool>(), 0u8..6, 0usize..8), 0..200),
        ) {
            let table = table(connections_max);
            let mut open: Vec<(u8, Place)> = Vec::new();
            for (enters, address, at) in steps {
                if enters {
                    let has = open.iter().filter(|(known, _)| *known == address).count();
                    let place = table.enter(IpAddr::from([192, 0, 2, address]));
                    prop_assert_eq!(place.is_some(), has < connections_max as usize);
                    open.extend(place.map(|place| (address, place)));
                } else if at < open.len() {
                    open.swap_remove(at);
                }
                let mut known: Vec<u8> = open.iter().map(|(address, _)| *address).collect();
                known.sort_unstable();
                known.dedup();
                prop_assert_eq!(table.addresses(), known.len());
            }
            drop(open);
            prop_assert_eq!(table.addresses(), 0);
        }
    }

    #[test]
    fn threads_never_get_more_than_the_limit_together() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (table, open) = (table(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Some(place) = table.enter(ip("192.0.2.1")) else { continue };
                        assert!(open.fetch_add(1, Ordering::SeqCst) < 3);
                        open.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(table.addresses(), 0);
    }
}
