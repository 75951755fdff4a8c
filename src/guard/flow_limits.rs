//! How many flows of UDP a listener has open, and each client address of them; counted for the whole process.
//!
//! As with connections ([`super::PerAddress`]), two numbers are touched when a flow begins and when it ends, never for a
//! datagram of one that is there. A count per worker would need none, and would let a client have the limit once for every core.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{PerAddress, Place};

/// Flows of one listener. Share it by `Arc`.
#[derive(Debug)]
pub struct FlowLimits {
    open: AtomicUsize,
    clients: Arc<PerAddress>,
}

/// The place of a flow, which it gives back when this is dropped.
#[derive(Debug)]
pub struct FlowPlace {
    limits: Arc<FlowLimits>,
    _of_address: Option<Place>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// There are as many flows as there may be.
    Full,
    /// The client's address has as many as it may.
    OfAddress,
}

impl FlowLimits {
    /// No flows. For `seed` see [`PerAddress::new`].
    pub fn new(seed: [u64; 4]) -> FlowLimits {
        FlowLimits { open: AtomicUsize::new(0), clients: Arc::new(PerAddress::new(0, seed)) }
    }

    /// A place for one more flow of `address`, of at most `flows_max`, and of `per_address_max` of that address; 0: of any number.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        flows_max: usize,
        per_address_max: u32,
    ) -> Result<FlowPlace, NoPlace> {
        if self.open.fetch_add(1, Relaxed) >= flows_max {
            self.open.fetch_sub(1, Relaxed);
            return Err(NoPlace::Full);
        }
        let mut place = FlowPlace { limits: self.clone(), _of_address: None };
        if per_address_max > 0 {
            self.clients.set_connections_max(per_address_max);
            place._of_address = Some(self.clients.enter(address).ok_or(NoPlace::OfAddress)?);
        }
        Ok(place)
    }

    /// Flows open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

impl Drop for FlowPlace {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_whatever_was_refused() {
        let limits = Arc::new(FlowLimits::new([1, 2, 3, 4]));
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let held: Vec<_> = (0..2).map(|_| limits.enter(one, 3, 2).expect("a place")).collect();
        assert_eq!(limits.enter(one, 3, 2).map(drop), Err(NoPlace::OfAddress));
        let third = limits.enter(other, 3, 2).expect("a place of another address");
        assert_eq!(limits.enter(other, 3, 2).map(drop), Err(NoPlace::Full));
        assert_eq!(limits.open(), 3);
        drop(held);
        assert_eq!(limits.open(), 1);
        // No limit for addresses any more.
        let many: Vec<_> = (0..5).map(|_| limits.enter(one, 9, 0).expect("a place")).collect();
        drop((many, third));
        assert_eq!(limits.open(), 0);
    }
}
