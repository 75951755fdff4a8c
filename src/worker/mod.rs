//! A data worker: what it owns, the connections it drives, and how a request becomes an answer.
//!
//! | part | does |
//! |---|---|
//! | [`context`](self) | [`Worker`]: everything one worker needs to answer, in its own memory, as one config has it; [`Lasting`]: what it keeps when the config changes |
//! | `snapshot` | a new config into a new [`Worker`], and which of them a connection uses |
//! | `door` | an open listener, and the connections that came through it |
//! | `arrival` | when the parts of a request came |
//! | `watch` | deadlines, looked at once per tick |
//! | `hot` | buffers of a busy connection, and their pool |
//! | `connection` | one downstream connection: hot while it has work, cold (no buffers) while idle |
//! | `exchange` | one request: limits, routing, action, accounting |
//! | `admit` | who may come in at a route |
//! | `limits`, `held_back` | the limits of a route; requests that wait on purpose |
//! | `body`, `pacing` | the request body, read as it is wanted; how long it is waited for |
//! | `answer` | an answer on its way: head, content, coding; `changed`: texts replaced in it; `paced`: at a limited rate |
//! | `respond` | answers of the worker itself |
//! | `send_file`, `forward` | the two actions that take time; `app_tunnel`: WebSockets of applications |
//! | `replaced`, `redirected` | what is sent in the place of an answer |
//! | `tunnel` | bytes both ways, behind an upgrade or in TCP mode |
//! | `tcp` | a connection in TCP mode |
//! | `udp` | datagrams in UDP mode |
//! | `splitters` | MySQL splitters of the worker |
//! | `receivers` | sockets of UDP, and who waits for them |
//! | `tarpit` | the one that takes it on purpose |
//! | `trail`, `logged` | what a request leaves behind, and whether the access log wants it |
//! | `h2`, `h3` | connections that carry several requests at once |
//! | `link` | connections of HTTP/2 to servers |
//! | `multiplexed` | one of these requests, whichever of the two it came in |
//! | `run` | the worker's thread: listeners, tick, reload, drain |
//!
//! It decides nothing about a protocol: that is in the codecs and the pure parts of the services below it.

mod admit;
mod answer;
mod app_tunnel;
mod arrival;
mod blocked;
mod body;
mod connection;
mod cx;
mod door;
mod exchange;
mod forward;
mod h2;
mod h3;
mod handover;
mod held_back;
mod hot;
mod limits;
mod link;
mod logged;
mod multiplexed;
mod pacing;
mod preamble;
mod receivers;
mod redirected;
mod replaced;
mod respond;
mod run;
mod secure;
mod send_file;
mod snapshot;
mod splitters;
mod spread;
mod takeover;
mod tarpit;
mod tcp;
mod trail;
mod tunnel;
mod udp;
mod upload;
mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::app::Bridge;
use crate::config::Config;
use crate::control::Shared;
use crate::http::coding::Encoders;
use crate::http::date::HttpDate;
use crate::http::h1::Limits;
use crate::metrics;
use crate::proxy::UpstreamState;
use crate::proxy::gate::Queue;
use crate::route::Router;

pub(crate) use h3::{Datagram, KeySecrets, Keys as QuicKeys, Left, Passed, QuicSocket, find_owner};
pub(crate) use run::{Control, Seat, TICK, run};
pub(crate) use snapshot::{LogNews, Reload, Socket};
pub(crate) use splitters::SplitterSocket;
pub(crate) use takeover::{Drain, HeldSocket, SocketOf};
pub(crate) use udp::FlowSocket;

/// Everything a data worker needs to answer a request, as one config has it. Lives on its thread.
///
/// It does not change. A reload makes another one beside it ([`snapshot`]): a request goes on with the one it began with, a
/// connection picks up the new one with its next request, and the old one ends with the last request that has it.
pub(crate) struct Worker {
    lasting: Rc<Lasting>,
    pub(crate) config: Arc<Config>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<metrics::Worker>,
    pub(crate) access_log: Option<crate::log::AccessLog>,
    limits: Limits,
    /// One per listener.
    routers: Vec<Router>,
    /// Variables that the config looks up.
    lookups: crate::variables::Lookups,
    /// What the access log asks of requests.
    logged: logged::Logged,
    /// Number of each `files` action, by site and route.
    folders: Vec<Vec<usize>>,
    /// Keeps these numbers from being given to other folders.
    _folder_numbers: Vec<snapshot::FolderNumber>,
    /// Index of the listener behind each door; `None`: this config does not have it.
    listeners: Vec<Option<usize>>,
    /// Port of each listener, as bound.
    ports: Vec<u16>,
    /// By listener: the line that tells clients of its HTTP/3; empty: none does.
    alt_svc: Vec<Vec<u8>>,
    /// By listener: what its new sessions are made with; `None`: it speaks in clear.
    tls: RefCell<Vec<Option<Arc<rustls::ServerConfig>>>>,
    /// The same for QUIC; `None`: it has no HTTP/3.
    quic: RefCell<Vec<Option<Arc<crate::tls::QuicTls>>>>,
    upstreams: Vec<RefCell<UpstreamState<forward::ServerConnection>>>,
    /// By upstream and server: connections of HTTP/2.
    links: Vec<Vec<Rc<link::Servers>>>,
    /// By upstream: its requests that wait for a place; `None`: its servers have no limit.
    queues: Vec<Option<Queue>>,
    /// By upstream and server: the one place of whoever tries to get into the backlog of a Unix socket that is full. Taken: others
    /// queue behind.
    backlogs: Vec<Vec<tokio::sync::Semaphore>>,
}

/// What a data worker keeps for as long as it runs, whatever the config. Every [`Worker`] gives access to it.
pub(crate) struct Lasting {
    /// Number among the data workers.
    pub(crate) index: usize,
    pub(crate) trace: Option<Arc<metrics::Trace>>,
    /// The present config's; `None` only before the first and behind the last one.
    current: RefCell<Option<Rc<Worker>>>,
    /// Those of configs before, oldest first, where requests may wait for places at servers.
    waited_for: RefCell<Vec<Rc<Worker>>>,
    /// Open listeners, and those that are closed and have connections.
    doors: RefCell<Vec<Rc<door::Door>>>,
    /// What of their HTTP/3 is served, or drains.
    endpoints: h3::Endpoints,
    /// Connections between workers.
    hand_over: handover::HandOver,
    /// Listeners in UDP mode.
    flows: udp::Endpoints,
    splitters: splitters::Splitters,
    folder_numbers: snapshot::FolderNumbers,
    /// The way to the access logs; `None`: there are none.
    outbox: RefCell<Option<Rc<crate::log::Outbox>>>,
    handshakes: secure::HandshakeGate,
    watches: Rc<watch::Watches>,
    hot: hot::HotPool,
    /// Pipes for tunnels and answers.
    pipes: crate::runtime::sys::splice::Pipes,
    /// What tunnels copy goes through this; nothing stays in it.
    copied: RefCell<Box<[u8]>>,
    files: RefCell<crate::files::Cache>,
    /// Scripts that servers behind us run.
    scripts: RefCell<crate::files::Scripts>,
    for_programs: Rc<forward::ForPrograms>,
    bridge: Bridge,
    helpers: crate::runtime::helpers::Helpers,
    encoders: Encoders,
    /// Logins this worker has seen.
    verified: RefCell<crate::guard::Verified>,
    hasher: Arc<crate::guard::Hasher>,
    /// Name of this machine.
    hostname: String,
    /// Current value of the Date field; renewed by the tick.
    date: RefCell<HttpDate>,
    /// The last other date that was asked for, and its Unix seconds.
    other_date: Cell<(u64, HttpDate)>,
    /// Time of the last tick.
    ticked: Cell<Instant>,
    /// No new requests on kept connections.
    draining_since: Cell<Option<Instant>>,
    /// See [`takeover::look_again`]: what was said of sharing, and looks that are left.
    looks: Cell<(u32, u32)>,
    /// How long a drain waits for one on an idle connection.
    idle_patience: Cell<Duration>,
    /// Downstream connections open now.
    connections: Cell<usize>,
    /// The same of all data workers.
    all_connections: Arc<AtomicUsize>,
    request_ids: Cell<u64>,
    draws: Cell<u64>,
    /// Serial number of the last connection accepted.
    serials: Cell<u64>,
}

impl std::ops::Deref for Worker {
    type Target = Lasting;

    fn deref(&self) -> &Lasting {
        &self.lasting
    }
}

impl Lasting {
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A time up to [`TICK`] ago, for what need not be exact: reading the clock is one percent of a small request.
    fn coarse_now(&self) -> Instant {
        self.ticked.get()
    }

    /// A time in Unix seconds in the words of HTTP. Answers of one second ask for the same, as a rule.
    fn date_of(&self, seconds: u64) -> HttpDate {
        let (known, date) = self.other_date.get();
        if known == seconds {
            return date;
        }
        let date = HttpDate::from_unix(seconds);
        self.other_date.set((seconds, date));
        date
    }

    /// The worker as the present config has it.
    fn current(&self) -> Rc<Worker> {
        self.current.borrow().clone().expect("a worker has a config for as long as it runs")
    }

    /// A fresh request identifier: unique in this process, hard to guess the neighbours of.
    fn next_request_id(&self) -> u64 {
        let id = self.request_ids.get();
        // Weyl sequence with an odd constant: visits every value before it repeats.
        self.request_ids.set(id.wrapping_add(0x9E37_79B9_7F4A_7C15));
        id
    }

    /// A number for a draw, another one each time; not for secrets.
    fn next_draw(&self) -> u64 {
        self.draws.replace(self.draws.get().wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    /// Number of the next connection. Every worker has numbers of its own, so that none is given twice.
    fn next_serial(&self) -> u64 {
        (self.index as u64) << 48 | self.serials.replace(self.serials.get() + 1)
    }
}

impl Worker {
    /// Called every tick.
    fn tick(&self) {
        self.watches.tick();
        if self.bridge.tick() {
            tracing::error!(worker = self.index, "lost wake-up: an answer waited unnoticed");
        }
        self.stats.panics.add(crate::runtime::take_panics());
        self.stats.pipes_free.set(self.pipes.idle() as u64);
        self.stats.pipes_used.set((self.pipes.open() - self.pipes.idle()) as u64);
        self.hot.trim();
        self.encoders.trim();
        *self.date.borrow_mut() = HttpDate::from_unix(unix_seconds());
        let now = self.now();
        self.ticked.set(now);
        for (index, upstream) in self.upstreams.iter().enumerate() {
            forward::look(self, index, now);
            if let Some(app) = self.config.upstreams[index].in_process {
                self.stats.apps[app].queue_depth.set(self.stats.upstreams[index].queue.value());
            }
            upstream.borrow_mut().expire(|server| self.has_clients(index, server), now, |_, _| {});
            for (server, stats) in self.stats.servers[index].iter().enumerate() {
                let links = &self.links[index][server];
                if !self.has_clients(index, server) {
                    links.close();
                }
                stats.idle.set((upstream.borrow().idle(server) + links.idle()) as u64);
            }
        }
        if self.index == 0 {
            self.expire_shared(now);
        }
        self.flows.tick(now);
        self.splitters.tend();
        forward::look_at_those_before(&self.lasting, now);
        if let Some(outbox) = &*self.outbox.borrow() {
            outbox.flush_due();
        }
        self.tend_closed_doors();
    }
}

impl Worker {
    /// Requests go to a server: it is up, or it is being drained and has its sticky clients.
    fn has_clients(&self, upstream: usize, server: usize) -> bool {
        let is_sticky = self.config.upstreams[upstream].sticky.is_some();
        self.shared.is_up(upstream, server) || (is_sticky && self.shared.servers[upstream][server].keeps_clients())
    }

    /// Closes idle connections of all workers that are too old, or whose server is down.
    fn expire_shared(&self, now: Instant) {
        for (upstream, servers) in self.shared.idle.iter().enumerate() {
            for (server, idle) in servers.iter().enumerate().filter(|(_, idle)| !idle.is_empty()) {
                match self.has_clients(upstream, server) {
                    true => idle.expire(now),
                    false => idle.clear(),
                };
            }
        }
    }
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
