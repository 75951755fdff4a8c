//! Gates from configs: what is limited, and what goes on to count when the config changes.

use std::sync::Arc;

use super::{Count, Gate, Places, Waits};
use crate::config::Heirs;
use crate::config::model::{Server, Upstream};
use crate::runtime::net::Address;
use crate::runtime::sync::Ordering::SeqCst;

/// Second tries that wait for one server, where it has no sticky clients.
const RETRIES_WAIT_MAX: usize = 64;

impl Gate {
    /// The gate of `upstream` for so many data workers; `None`: nothing of it is limited, and no program of it is waited for.
    /// `limits` are those of its servers, in their order, which the operator may have set otherwise than the config.
    pub fn of(upstream: &Upstream, limits: &[Option<u32>], workers: usize) -> Option<Arc<Gate>> {
        let is_limited =
            upstream.requests_max.is_some() || limits.iter().any(Option::is_some) || upstream.is_supervised;
        let own_max = match (upstream.sticky.is_some(), upstream.retry.tries_max) {
            (true, _) => upstream.queue_max,
            // Without cookies nobody belongs to a server but those who have failed at the others.
            (false, 2..) => upstream.queue_max.min(RETRIES_WAIT_MAX),
            (false, _) => 0,
        };
        let waiting_max = Waits { all: upstream.queue_max, own: own_max };
        let server = |(server, limit): (&Server, &Option<u32>)| (server.address.clone(), Places::new(*limit));
        let make = || {
            let servers = upstream.servers.iter().zip(limits).map(server).collect();
            Gate::new(Places::new(upstream.requests_max), servers, workers, waiting_max)
        };
        is_limited.then(|| Arc::new(make()))
    }

    /// The gate of `upstream` under the config that follows; `heirs` tells the old indexes of servers that stay. Their
    /// requests under way go on to count, and the limits it has are in force at once, here too. `None`: nothing is limited
    /// any more. What is limited where nothing was counts from zero.
    pub fn next(
        &self,
        upstream: &Upstream,
        limits: &[Option<u32>],
        heirs: &Heirs,
        workers: usize,
    ) -> Option<Arc<Gate>> {
        let stays = heirs.new_indexes(self.servers.len());
        let leaving = self.servers.iter().zip(stays).filter(|(_, stays)| stays.is_none());
        let leaving = leaving.map(|(server, _)| (server.address.clone(), server.places.clone()));
        let mut gone: Vec<(Address, Count)> = leaving.chain(self.gone.iter().cloned()).collect();
        gone.retain(|(_, places)| places.used.load(SeqCst) > 0);
        let mut next = Gate::of(upstream, limits, workers).and_then(Arc::into_inner);
        self.all.set_most(next.as_ref().and(upstream.requests_max));
        for (at, (server, heir)) in upstream.servers.iter().zip(&heirs.0).enumerate() {
            let limit = limits[at];
            let back = || gone.iter().position(|(address, _)| *address == server.address);
            let places = match heir {
                Some(old) => self.servers[*old].places.clone(),
                None => match back() {
                    Some(place) => gone.swap_remove(place).1,
                    None => continue,
                },
            };
            places.set_most(next.as_ref().and(limit));
            if let Some(next) = &mut next {
                next.servers[at].places = places;
            }
        }
        next.map(|next| Arc::new(Gate { all: self.all.clone(), gone, ..next }))
    }
}
