//! One upstream as one data worker sees it: its balancer and its idle connections, server by server.
//!
//! Pure over the connection type. It does not connect and does not know the health of a server: `up` is asked.

use std::time::Instant;

use super::balance::{Ask, Balancer, Picked, Servers};
use super::pool::IdlePool;
use crate::config::model::Upstream;
use crate::runtime::net::Address;

/// Balancer and idle connections of one upstream on one data worker.
#[derive(Debug)]
pub struct UpstreamState<T> {
    balancer: Balancer,
    servers: Vec<ServerState<T>>,
}

#[derive(Debug)]
struct ServerState<T> {
    idle: IdlePool<T>,
    /// Host field for a request that names none.
    host: Box<str>,
}

impl<T> UpstreamState<T> {
    /// The state of `upstream` on the data worker of index `worker`; for `seed` see [`Balancer::new`].
    pub fn new(upstream: &Upstream, worker: usize, seed: u64) -> UpstreamState<T> {
        let servers = upstream.servers.iter().map(|server| ServerState {
            idle: IdlePool::new(upstream.keep_idle, upstream.keep_idle_timeout),
            host: match &server.address {
                Address::Tcp(address) => address.to_string().into(),
                Address::Unix(_) => "localhost".into(),
            },
        });
        UpstreamState { servers: servers.collect(), balancer: Balancer::new(upstream, worker, seed) }
    }

    /// The server for the next try. See [`Balancer::pick`].
    pub fn pick(&mut self, ask: Ask<'_>, servers: &impl Servers) -> Picked {
        self.balancer.pick(ask, servers)
    }

    /// The balancer, to be asked.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The balancer, to be told.
    pub fn balancer_mut(&mut self) -> &mut Balancer {
        &mut self.balancer
    }

    /// A request begins on `server`; before connecting, so that servers slow to accept count as busy.
    pub fn on_start(&mut self, server: usize) {
        self.balancer.on_start(server);
    }

    /// A request that began on `server` is over, however it ended.
    pub fn on_end(&mut self, server: usize) {
        self.balancer.on_end(server);
    }

    /// A connect to `server` succeeded.
    pub fn on_connected(&mut self, server: usize) {
        self.balancer.on_connected(server);
    }

    /// A connect to `server` failed or timed out.
    pub fn on_connect_failed(&mut self, server: usize, now: Instant) {
        self.balancer.on_connect_failed(server, now);
    }

    /// An idle connection to `server`, most recently used first. The caller looks whether it is still open.
    pub fn take_idle(&mut self, server: usize, now: Instant) -> Option<T> {
        self.servers[server].idle.take(now)
    }

    /// Keeps a connection to `server` whose response ended cleanly.
    ///
    /// Returns what does not fit and has to be closed, as [`IdlePool::put`] does.
    pub fn keep(&mut self, server: usize, connection: T, now: Instant) -> Option<T> {
        // It answered: the server is alive even if a connect failed meanwhile.
        self.balancer.on_connected(server);
        self.servers[server].idle.put(connection, now)
    }

    /// For the worker's tick: drops idle connections that are too old, and all of those to servers that are down.
    ///
    /// `dropped(server, count)` is called for each server that lost some.
    pub fn expire(&mut self, up: impl Fn(usize) -> bool, now: Instant, mut dropped: impl FnMut(usize, usize)) {
        for (server, state) in self.servers.iter_mut().enumerate() {
            let count = if up(server) { state.idle.expire(now) } else { state.idle.clear() };
            if count > 0 {
                dropped(server, count);
            }
        }
    }

    /// Idle connections to `server`.
    pub fn idle(&self, server: usize) -> usize {
        self.servers[server].idle.len()
    }

    /// Requests under way on `server`, this worker's.
    pub fn active(&self, server: usize) -> u32 {
        self.balancer.active(server)
    }

    /// What to write as Host to `server` for a request that names none (HTTP/1.0): its address, `localhost` for a
    /// Unix socket.
    pub fn host(&self, server: usize) -> &[u8] {
        self.servers[server].host.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Balance, Server};
    use crate::proxy::Tried;

    const SECOND: Duration = Duration::from_secs(1);

    fn upstream(addresses: &[&str]) -> Upstream {
        let mut upstream = crate::config::Defaults::new(Default::default()).upstream("api");
        upstream.servers = addresses.iter().map(|address| Server::new(address.parse().unwrap())).collect();
        Upstream { balance: Balance::RoundRobin, keep_idle: 2, keep_idle_timeout: 10 * SECOND, ..upstream }
    }

    /// All of them are up and have room.
    struct AllUp;

    impl Servers for AllUp {
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

        fn has_room(&self, _server: usize, _part_of: impl Fn(u32) -> u32) -> bool {
            true
        }
    }

    #[test]
    fn idle_connections_stay_with_their_server() {
        let now = Instant::now();
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), 0, 0);
        assert_eq!(state.keep(0, 'a', now), None);
        assert_eq!(state.take_idle(1, now), None);
        assert_eq!(state.take_idle(0, now), Some('a'));
        assert_eq!(state.take_idle(0, now), None);
    }

    #[test]
    fn the_tick_closes_old_ones_and_those_to_servers_that_are_down() {
        let now = Instant::now();
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]), 0, 0);
        for server in 0..3 {
            state.keep(server, 'a', now);
        }
        state.keep(2, 'b', now + 9 * SECOND);
        let mut dropped = Vec::new();
        state.expire(|server| server != 0, now + SECOND, |server, count| dropped.push((server, count)));
        assert_eq!(dropped, [(0, 1)]);
        dropped.clear();
        state.expire(|_| true, now + 10 * SECOND, |server, count| dropped.push((server, count)));
        assert_eq!(dropped, [(1, 1), (2, 1)]);
        assert_eq!([state.idle(0), state.idle(1), state.idle(2)], [0, 0, 1]);
    }

    #[test]
    fn an_answer_ends_the_rest_of_a_server() {
        let now = Instant::now();
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), 0, 0);
        state.on_connect_failed(0, now);
        let tried = Tried::new();
        let ask = Ask { tried: &tried, key: None, now };
        let picks: Vec<_> = (0..4).map(|_| state.pick(ask, &AllUp)).collect();
        assert_eq!(picks, [Picked::Server(1); 4]);
        state.keep(0, 'a', now);
        assert!((0..4).any(|_| state.pick(ask, &AllUp) == Picked::Server(0)));
    }

    #[test]
    fn the_host_of_last_resort_is_the_address() {
        let state: UpstreamState<()> = UpstreamState::new(&upstream(&["[::1]:8080", "unix:/run/app.sock"]), 0, 0);
        assert_eq!([state.host(0), state.host(1)], [b"[::1]:8080".as_slice(), b"localhost"]);
    }
}
