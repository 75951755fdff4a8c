//! One upstream as one data worker sees it: its balancer and its idle connections, server by server.
//!
//! Pure over the connection type. It does not connect and does not know the health of a server: `up` is asked.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::{Ask, Balancer, Picked, Servers};
use super::pool::IdlePool;
use super::retry_budget::RetryBudget;
use crate::config::Heirs;
use crate::config::model::{Protocol, ProxyProtocol, Server, Upstream, UpstreamTls};
use crate::tls::Offer;

/// Most idle connections to one server that a data worker keeps for itself alone, where there are others: enough for the ups
/// and downs of a moment, because one from the exchange costs a few system calls.
const OWN_IDLE_MAX: usize = 8;

/// Requests that a worker has under way at a server for each idle connection that it may keep for itself. What workers keep
/// back is what others have to dial: with this, no more than about an eighth.
const ACTIVE_FOR_AN_OWN_ONE: usize = 8;

/// Balancer and idle connections of one upstream on one data worker.
#[derive(Debug)]
pub struct UpstreamState<T> {
    balancer: Balancer,
    servers: Vec<ServerState<T>>,
    /// What may be sent a second time.
    pub retries: RetryBudget,
    /// Settings of TLS sessions with the servers, this worker's own.
    tls: Option<TlsSettings>,
    proxy_protocol: ProxyProtocol,
    protocol: Protocol,
    announces: bool,
    /// Idle connections beyond its own ones are for all workers.
    shares: bool,
}

/// The data worker that a state is for.
#[derive(Clone, Copy, Debug)]
pub struct DataWorker {
    /// Index among them.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// See [`Balancer::new`].
    pub seed: u64,
}

/// One for each offer that a server may get.
#[derive(Debug)]
struct TlsSettings {
    http1: Arc<rustls::ClientConfig>,
    http2: Arc<rustls::ClientConfig>,
    both: Arc<rustls::ClientConfig>,
}

impl TlsSettings {
    /// Each has a store of sessions: those that nobody will ask for are not made.
    fn new(tls: &UpstreamTls, protocol: Protocol) -> TlsSettings {
        // The check has made these settings once already.
        let settings = |offer| tls.trust.settings(offer).expect("settings that were tried");
        let http1 = settings(Offer::Http1);
        match protocol {
            Protocol::Http1 | Protocol::Gateway(_) => TlsSettings { http2: http1.clone(), both: http1.clone(), http1 },
            Protocol::H2 => TlsSettings { http2: settings(Offer::Http2), both: http1.clone(), http1 },
            Protocol::Auto => TlsSettings { http2: http1.clone(), both: settings(Offer::Both), http1 },
        }
    }
}

#[derive(Debug)]
struct ServerState<T> {
    /// Shared with the state of the same server under the configs before and behind this one.
    idle: Rc<RefCell<IdlePool<T>>>,
    /// Host field for a request that names none.
    host: Box<str>,
}

impl<T> ServerState<T> {
    fn new(server: &Server, idle: Rc<RefCell<IdlePool<T>>>) -> ServerState<T> {
        ServerState { idle, host: server.authority().into() }
    }
}

/// Idle connections that one of `workers` keeps for itself alone: what one has too many, the others may use. A session of TLS
/// cannot leave its worker.
///
/// A server that is told of its next request has a process for each connection: what one worker kept back would hold one that
/// another worker's request waits for.
fn stock(upstream: &Upstream, workers: usize) -> usize {
    match shares(upstream, workers) {
        true if upstream.announces => 0,
        true => upstream.keep_idle.min(OWN_IDLE_MAX),
        false => upstream.keep_idle,
    }
}

fn shares(upstream: &Upstream, workers: usize) -> bool {
    workers > 1 && upstream.tls.is_none()
}

impl<T> UpstreamState<T> {
    /// The state of `upstream` on one data worker.
    pub fn new(upstream: &Upstream, worker: DataWorker, now: Instant) -> UpstreamState<T> {
        let pool = || Rc::new(RefCell::new(IdlePool::new(stock(upstream, worker.count), upstream.keep_idle_timeout)));
        UpstreamState {
            servers: upstream.servers.iter().map(|server| ServerState::new(server, pool())).collect(),
            balancer: Balancer::new(upstream, worker.index, worker.seed),
            retries: RetryBudget::new(upstream.retry.budget_percent, now),
            tls: upstream.tls.as_deref().map(|tls| TlsSettings::new(tls, upstream.protocol)),
            proxy_protocol: upstream.proxy_protocol,
            protocol: upstream.protocol,
            announces: upstream.announces,
            shares: shares(upstream, worker.count),
        }
    }

    /// Settings of TLS sessions with the servers that offer these versions of HTTP; `None`: they are reached in clear text.
    pub fn tls(&self, offer: Offer) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref().map(|tls| match offer {
            // Nobody here speaks anything but HTTP.
            Offer::Http1 | Offer::Nothing => &tls.http1,
            Offer::Http2 => &tls.http2,
            Offer::Both => &tls.both,
        })
    }

    /// The state under a new config, beside which this one goes on for the requests that have it. Servers that stay, whose
    /// old indexes `heirs` tells, share idle connections and counts of requests under way with their old selves.
    pub fn next(&self, upstream: &Upstream, heirs: &Heirs, worker: DataWorker, now: Instant) -> UpstreamState<T> {
        let mut next = UpstreamState::new(upstream, worker, now);
        // What was verified by other rules, or not at all, or what speaks for one client, is not used again.
        let same_rules = self.tls.is_none()
            && next.tls.is_none()
            && (self.proxy_protocol, self.protocol, self.announces)
                == (next.proxy_protocol, next.protocol, next.announces);
        let heirs_of_idle = if same_rules { heirs.0.as_slice() } else { &[] };
        if !same_rules {
            self.servers.iter().for_each(|old| old.idle.borrow_mut().set_limits(0, Duration::ZERO));
        }
        for (new, heir) in next.servers.iter_mut().zip(heirs_of_idle) {
            let Some(old) = heir.map(|heir| &self.servers[heir]) else { continue };
            old.idle.borrow_mut().set_limits(stock(upstream, worker.count), upstream.keep_idle_timeout);
            new.idle = old.idle.clone();
        }
        next.retries = self.retries.clone().with_share(upstream.retry.budget_percent);
        next.balancer.inherit(&self.balancer, heirs);
        next
    }

    /// How many servers it has.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Closes the idle connections to servers for which `is_gone` says so, keeps none to them any more, and sends them
    /// nothing else as long as there are others.
    pub fn retire(&mut self, is_gone: impl Fn(usize) -> bool) {
        let gone: Vec<usize> = (0..self.servers.len()).filter(|server| is_gone(*server)).collect();
        for &server in &gone {
            self.servers[server].idle.borrow_mut().set_limits(0, Duration::ZERO);
            if gone.len() < self.servers.len() {
                self.balancer.retire(server);
            }
        }
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
        self.servers[server].idle.borrow_mut().take(now)
    }

    /// Keeps a connection to `server` whose response ended cleanly.
    ///
    /// Returns what does not fit and since when it is idle, as [`IdlePool::put`] does.
    pub fn keep(&mut self, server: usize, connection: T, now: Instant) -> Option<(T, Instant)> {
        // It answered: the server is alive even if a connect failed meanwhile.
        self.balancer.on_connected(server);
        let own_max = match self.shares {
            true => (self.active(server) as usize / ACTIVE_FOR_AN_OWN_ONE).clamp(1, OWN_IDLE_MAX),
            false => usize::MAX,
        };
        self.servers[server].idle.borrow_mut().put_within(connection, own_max, now)
    }

    /// For the worker's tick: drops idle connections that are too old, and all of those to servers that are down.
    ///
    /// `dropped(server, count)` is called for each server that lost some.
    pub fn expire(&mut self, up: impl Fn(usize) -> bool, now: Instant, mut dropped: impl FnMut(usize, usize)) {
        for (server, state) in self.servers.iter().enumerate() {
            let mut idle = state.idle.borrow_mut();
            let count = if up(server) { idle.expire(now) } else { idle.clear() };
            if count > 0 {
                dropped(server, count);
            }
        }
    }

    /// Idle connections to `server`.
    pub fn idle(&self, server: usize) -> usize {
        self.servers[server].idle.borrow().len()
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
    const ALONE: DataWorker = DataWorker { index: 0, count: 1, seed: 0 };

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
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), ALONE, now);
        assert_eq!(state.keep(0, 'a', now), None);
        assert_eq!(state.take_idle(1, now), None);
        assert_eq!(state.take_idle(0, now), Some('a'));
        assert_eq!(state.take_idle(0, now), None);
    }

    #[test]
    fn the_tick_closes_old_ones_and_those_to_servers_that_are_down() {
        let now = Instant::now();
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]), ALONE, now);
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
        let mut state = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), ALONE, now);
        state.on_connect_failed(0, now);
        let tried = Tried::new();
        let ask = Ask { tried: &tried, key: None, now };
        let picks: Vec<_> = (0..4).map(|_| state.pick(ask, &AllUp)).collect();
        assert_eq!(picks, [Picked::Server(1); 4]);
        state.keep(0, 'a', now);
        assert!((0..4).any(|_| state.pick(ask, &AllUp) == Picked::Server(0)));
    }

    #[test]
    fn servers_that_stay_keep_connections_and_counts_whatever_their_index() {
        let now = Instant::now();
        let mut old = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), ALONE, now);
        old.keep(0, 'a', now);
        old.keep(1, 'b', now);
        old.on_start(1);
        let mut new = old.next(&upstream(&["127.0.0.1:2", "127.0.0.1:3"]), &Heirs(vec![Some(1), None]), ALONE, now);
        assert_eq!(([new.idle(0), new.idle(1)], [new.active(0), new.active(1)]), ([1, 0], [1, 0]));
        old.retire(|server| server == 0);
        assert_eq!((old.idle(0), old.keep(0, 'c', now)), (0, Some(('c', now))), "a server that is gone keeps nothing");
        // A request under way ends on the old one.
        assert_eq!(old.keep(1, 'd', now), None);
        old.on_end(1);
        drop(old);
        assert_eq!((new.active(0), new.take_idle(0, now), new.take_idle(0, now)), (0, Some('d'), Some('b')));
    }

    #[test]
    fn what_is_left_of_the_old_config_goes_to_servers_that_stay() {
        let now = Instant::now();
        let (tried, up) = (Tried::new(), AllUp);
        let ask = Ask { tried: &tried, key: None, now };
        let mut old: UpstreamState<()> = UpstreamState::new(&upstream(&["127.0.0.1:1", "127.0.0.1:2"]), ALONE, now);
        assert!(old.balancer_mut().keeps(0, ask, &up));
        old.retire(|server| server == 0);
        assert!((0..4).all(|_| old.pick(ask, &up) == Picked::Server(1)));
        assert!(!old.balancer_mut().keeps(0, ask, &up), "not even for those that belong there");
        // Unless nobody else is left.
        let mut old: UpstreamState<()> = UpstreamState::new(&upstream(&["127.0.0.1:1"]), ALONE, now);
        old.retire(|_| true);
        assert_eq!(old.pick(ask, &up), Picked::Server(0));
    }

    #[test]
    fn what_was_opened_on_other_terms_is_closed() {
        let (now, address) = (Instant::now(), ["127.0.0.1:1"]);
        let heirs = Heirs(vec![Some(0)]);
        let for_a_client = || Upstream { proxy_protocol: ProxyProtocol::V1, keep_idle: 0, ..upstream(&address) };
        for (before, after) in [(upstream(&address), for_a_client()), (for_a_client(), upstream(&address))] {
            let mut old = UpstreamState::new(&before, ALONE, now);
            let _ = old.keep(0, 'a', now);
            let mut new = old.next(&after, &heirs, ALONE, now);
            assert_eq!((new.idle(0), new.take_idle(0, now)), (0, None));
            // A request under way puts its connection back: nobody else may have it.
            assert_eq!(old.keep(0, 'b', now), Some(('b', now)));
            assert_eq!(new.take_idle(0, now), None);
        }
    }

    #[test]
    fn turns_go_on_where_they_were() {
        let now = Instant::now();
        let config = upstream(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let (tried, heirs) = (Tried::new(), Heirs(vec![Some(0), Some(1), Some(2)]));
        let ask = Ask { tried: &tried, key: None, now };
        let mut state: UpstreamState<()> = UpstreamState::new(&config, ALONE, now);
        let mut picks = Vec::new();
        for _ in 0..9 {
            picks.push(state.pick(ask, &AllUp));
            state = state.next(&config, &heirs, ALONE, now);
        }
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0, 1, 2].map(Picked::Server));
        state.on_connect_failed(0, now);
        state = state.next(&config, &heirs, ALONE, now);
        assert!((0..6).all(|_| state.pick(ask, &AllUp) != Picked::Server(0)), "it still rests");
    }

    #[test]
    fn the_host_of_last_resort_is_the_address() {
        let state: UpstreamState<()> =
            UpstreamState::new(&upstream(&["[::1]:8080", "unix:/run/app.sock"]), ALONE, Instant::now());
        assert_eq!([state.host(0), state.host(1)], [b"[::1]:8080".as_slice(), b"localhost"]);
    }
}
