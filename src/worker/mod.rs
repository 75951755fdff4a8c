//! A data worker: what it owns, the connections it drives, and how a request becomes an answer.
//!
//! | part | does |
//! |---|---|
//! | [`context`](self) | [`Worker`]: everything one worker needs to answer, in its own memory |
//! | `arrival` | when the parts of a request came |
//! | `watch` | deadlines, looked at once per tick |
//! | `hot` | buffers of a busy connection, and their pool |
//! | `connection` | one downstream connection: hot while it has work, cold (no buffers) while idle |
//! | `exchange` | one request: limits, routing, action, accounting |
//! | `admit` | who may come in at a route |
//! | `limits`, `held_back` | the limits of a route; requests that wait on purpose |
//! | `body`, `pacing` | the request body, read as it is wanted; how long it is waited for |
//! | `respond` | answers of the worker itself |
//! | `send_file`, `forward`, `call_app` | the three actions that take time |
//! | `replaced`, `redirected` | what is sent in the place of an answer |
//! | `tarpit` | the one that takes it on purpose |
//! | `trail`, `logged` | what a request leaves behind, and whether the access log wants it |
//! | `run` | the worker's thread: listeners, tick, drain |
//!
//! It decides nothing about a protocol: that is in the codecs and the pure parts of the services below it.

mod admit;
mod answer;
mod arrival;
mod body;
mod call_app;
mod connection;
mod cx;
mod exchange;
mod forward;
mod h2;
mod held_back;
mod hot;
mod limits;
mod logged;
mod pacing;
mod preamble;
mod redirected;
mod replaced;
mod respond;
mod run;
mod secure;
mod send_file;
mod tarpit;
mod trail;
mod upload;
mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

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

pub(crate) use run::{Control, Seat, TICK, run};

/// Everything a data worker needs to answer a request. Lives on its thread.
pub(crate) struct Worker {
    /// Number among the data workers.
    pub(crate) index: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<metrics::Worker>,
    pub(crate) trace: Option<Arc<metrics::Trace>>,
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
    /// Port of each listener, as bound.
    ports: Vec<u16>,
    /// By listener: what its new sessions are made with; `None`: it speaks in clear.
    tls: RefCell<Vec<Option<Arc<rustls::ServerConfig>>>>,
    handshakes: secure::HandshakeGate,
    watches: Rc<watch::Watches>,
    hot: hot::HotPool,
    files: RefCell<crate::files::Cache>,
    upstreams: Vec<RefCell<UpstreamState<forward::ServerConnection>>>,
    /// By upstream: its requests that wait for a place; `None`: its servers have no limit.
    queues: Vec<Option<Queue>>,
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
    /// Time of the last tick.
    ticked: Cell<Instant>,
    /// No new requests on kept connections.
    draining_since: Cell<Option<Instant>>,
    /// Downstream connections open now.
    connections: Cell<usize>,
    request_ids: Cell<u64>,
    /// Serial number of the last connection accepted.
    serials: Cell<u64>,
}

impl Worker {
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A time up to [`TICK`] ago, for what need not be exact: reading the clock is one percent of a small request.
    fn coarse_now(&self) -> Instant {
        self.ticked.get()
    }

    /// Nothing new is begun: see [`run`].
    fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// A fresh request identifier: unique in this process, hard to guess the neighbours of.
    fn next_request_id(&self) -> u64 {
        let id = self.request_ids.get();
        // Weyl sequence with an odd constant: visits every value before it repeats.
        self.request_ids.set(id.wrapping_add(0x9E37_79B9_7F4A_7C15));
        id
    }

    /// Called every tick.
    fn tick(&self) {
        self.watches.tick();
        if self.bridge.tick() {
            tracing::error!(worker = self.index, "lost wake-up: an answer waited unnoticed");
        }
        self.stats.panics.add(crate::runtime::take_panics());
        self.hot.trim();
        self.encoders.trim();
        *self.date.borrow_mut() = HttpDate::from_unix(unix_seconds());
        let now = self.now();
        self.ticked.set(now);
        for (index, upstream) in self.upstreams.iter().enumerate() {
            forward::look(self, index, now);
            let up = |server| self.shared.is_up(index, server);
            upstream.borrow_mut().expire(up, now, |_, _| {});
            for (server, stats) in self.stats.servers[index].iter().enumerate() {
                stats.idle.set(upstream.borrow().idle(server) as u64);
            }
        }
        if let Some(log) = &self.access_log {
            log.flush_due();
        }
    }
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
