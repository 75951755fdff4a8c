//! A config into a [`Worker`], at the start and at every reload, on the worker's own thread.
//!
//! What a new config takes over from the one before: connections to servers, the counts of requests under way and the turns
//! of balancers (for servers that stay), places at servers with a limit, open files, sockets, all counters. What it makes anew: routers, look-ups,
//! conditions, header rules, TLS settings. The old [`Worker`] goes on to exist for the requests that have it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use super::door::Door;
use super::forward::{self, ServerConnection};
use super::h3::QuicSocket;
use super::logged::Logged;
use super::splitters::{News, SplitterSocket};
use super::udp::FlowSocket;
use super::{Lasting, Worker, link, run};
use crate::config::model::{Action, Files, Listener, Upstream};
use crate::config::{Config, Succession};
use crate::control::Shared;
use crate::http::h1::{Limits, write_field};
use crate::log::{AccessLog, NewLanes, Outbox};
use crate::proxy::gate::Queue;
use crate::proxy::{DataWorker, UpstreamState};
use crate::route::Router;
use crate::runtime::net::BoundSocket;
use crate::tls::{Material, Materials, TlsError};

/// A new config for one data worker, and what it needs beside.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) shared: Arc<Shared>,
    /// By listener: certificates and keys; `None`: it speaks in clear.
    pub(crate) tls: Arc<Materials>,
    /// By listener: its slot.
    pub(crate) slots: Arc<Vec<usize>>,
    /// Sockets of the listeners that are new.
    pub(crate) sockets: Vec<Socket>,
    /// The same for HTTP/3, also of listeners that have got it.
    pub(crate) quic: Vec<QuicSocket>,
    /// Sockets of listeners in UDP mode that are new.
    pub(crate) flows: Vec<FlowSocket>,
    /// Sockets of splitters that are new, or listen at more addresses.
    pub(crate) splitters: Vec<SplitterSocket>,
    /// By splitter, what all workers know.
    pub(crate) mysql: Arc<Vec<Arc<crate::mysql::Shared>>>,
    pub(crate) log: LogNews,
    /// Workers that are still to do it.
    pub(crate) waits_for: Arc<AtomicUsize>,
}

/// A listening socket of one data worker.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Tells it from the others of its time, on all workers.
    pub(crate) slot: usize,
    /// As bound.
    pub(crate) port: u16,
    pub(crate) socket: BoundSocket,
}

/// What a new config brings for the access log.
#[derive(Debug)]
pub(crate) enum LogNews {
    /// Further targets, perhaps none.
    Lanes(NewLanes),
    /// There was no access log.
    First(Outbox),
}

/// The number of a folder in the cache of files, for as long as somebody has this.
pub(super) type FolderNumber = Rc<Arc<Files>>;

/// Which folder has which number. A number is given to another folder only when nobody uses it any more, because a request
/// looks into the cache several times.
#[derive(Default)]
pub(super) struct FolderNumbers(RefCell<Vec<FolderNumber>>);

impl FolderNumbers {
    /// Numbers the `files` actions by site and route; equal ones keep the numbers they have.
    fn give(&self, config: &Config) -> (Vec<Vec<usize>>, Vec<FolderNumber>) {
        let mut known = self.0.borrow_mut();
        let mut is_taken = vec![false; known.len()];
        let mut held = Vec::new();
        let mut number = |action: &Action| {
            let Action::Files(files) = action else { return 0 };
            let is_same = |at: &usize| !is_taken[*at] && *known[*at] == *files;
            let is_free = |at: &usize| !is_taken[*at] && Rc::strong_count(&known[*at]) == 1;
            let found = (0..known.len()).find(is_same).or_else(|| (0..known.len()).find(is_free));
            let at = found.unwrap_or(known.len());
            match known.get_mut(at) {
                Some(same) if **same == *files => {}
                Some(free) => *free = Rc::new(files.clone()),
                None => {
                    known.push(Rc::new(files.clone()));
                    is_taken.push(false);
                }
            }
            is_taken[at] = true;
            held.push(known[at].clone());
            at
        };
        let numbers = |site: &crate::config::model::Site| site.routes.iter().map(|r| number(&r.action)).collect();
        (config.sites.iter().map(numbers).collect(), held)
    }
}

impl Worker {
    /// The worker as the config of `shared` has it. `slots` are by listener, `port` is that of a slot.
    ///
    /// Errors: TLS settings that cannot be used, which boot has tried before.
    pub(super) fn new(
        lasting: &Rc<Lasting>,
        shared: Arc<Shared>,
        tls: &[Option<Material>],
        slots: &[usize],
        port: impl Fn(usize) -> u16,
        before: Option<&Before<'_>>,
    ) -> Result<Worker, TlsError> {
        let config = shared.config.clone();
        let access_log = lasting.outbox.borrow().as_ref().and_then(|outbox| AccessLog::new(&config, outbox));
        let (folders, folder_numbers) = lasting.folder_numbers.give(&config);
        let mut listeners = vec![None; slots.iter().map(|slot| slot + 1).max().unwrap_or(0)];
        slots.iter().enumerate().for_each(|(index, slot)| listeners[*slot] = Some(index));
        let ports: Vec<u16> = slots.iter().map(|slot| port(*slot)).collect();
        Ok(Worker {
            limits: Limits {
                head_bytes_max: config.http.head_bytes_max,
                target_bytes_max: config.http.head_bytes_max / 2,
                headers_max: config.http.headers_max,
            },
            routers: (0..config.listeners.len()).map(|listener| Router::new(&config, listener)).collect(),
            logged: Logged::new(&config, access_log.as_ref()),
            lookups: crate::variables::Lookups::new(&config.lookups),
            folders,
            _folder_numbers: folder_numbers,
            listeners,
            alt_svc: alt_svc_table(&config, &ports),
            ports,
            tls: RefCell::new(run::tls_configs(&config, tls)?),
            quic: RefCell::new(run::quic_configs(&config, tls)?),
            upstreams: upstreams(&shared, lasting.index, before),
            links: links(&shared, before),
            queues: shared.gates.iter().map(|gate| Some(Queue::new(gate.clone()?, lasting.index))).collect(),
            backlogs: config
                .upstreams
                .iter()
                .map(|known| known.servers.iter().map(|_| Semaphore::new(1)).collect())
                .collect(),
            stats: shared.workers[lasting.index].clone(),
            access_log,
            lasting: lasting.clone(),
            shared,
            config,
        })
    }
}

/// By listener, the line that tells of HTTP/3.
fn alt_svc_table(config: &Config, ports: &[u16]) -> Vec<Vec<u8>> {
    let line = |(listener, port): (&Listener, &u16)| {
        let mut line = Vec::new();
        match listener.alt_svc.as_deref() {
            _ if !listener.http3 => {}
            Some("") => {}
            Some(text) => write_field(&mut line, "Alt-Svc", text.as_bytes()),
            None => write_field(&mut line, "Alt-Svc", format!("h3=\":{port}\"; ma=86400").as_bytes()),
        }
        line
    };
    config.listeners.iter().zip(ports).map(line).collect()
}

type Upstreams = Vec<RefCell<UpstreamState<ServerConnection>>>;

/// The worker before, and what of its config stays.
pub(super) struct Before<'a> {
    worker: &'a Worker,
    succession: Succession,
}

impl<'a> Before<'a> {
    fn new(worker: &'a Worker, next: &Shared) -> Before<'a> {
        let succession = match next.generation == worker.shared.generation + 1 {
            true => next.succession.clone(),
            // It could not take one between them.
            false => Succession::new(&worker.config, &next.config),
        };
        Before { worker, succession }
    }

    /// Closes the idle connections to servers that the new config does not have.
    fn retire_servers(&self) {
        let Before { worker, succession } = self;
        let new_indexes = succession.upstreams.new_indexes(worker.upstreams.len());
        for (upstream, new) in worker.upstreams.iter().zip(new_indexes) {
            let mut upstream = upstream.borrow_mut();
            let stays = new.map(|new| succession.servers[new].new_indexes(upstream.servers()));
            upstream.retire(|server| stays.as_ref().is_none_or(|stays| stays[server].is_none()));
        }
    }

    /// Closes connections of HTTP/2 that `next` does not share, each behind its requests.
    fn close_links(&self, next: &Worker) {
        let stays = |servers: &Rc<link::Servers>| next.links.iter().flatten().any(|next| Rc::ptr_eq(next, servers));
        self.worker.links.iter().flatten().filter(|servers| !stays(servers)).for_each(|servers| servers.close());
    }
}

/// Those that stay share idle connections and counts with what they were in the worker before.
fn upstreams(shared: &Shared, worker: usize, before: Option<&Before<'_>>) -> Upstreams {
    let now = std::time::Instant::now();
    let upstream = |(u, upstream): (usize, &Upstream)| {
        let worker = DataWorker { index: worker, count: shared.workers.len(), seed: rand::random() };
        let heir = before.and_then(|before| Some((before, before.succession.upstreams.0[u]?)));
        RefCell::new(match heir {
            Some((Before { worker: old, succession }, heir)) => {
                old.upstreams[heir].borrow().next(upstream, &succession.servers[u], worker, now)
            }
            None => UpstreamState::new(upstream, worker, now),
        })
    };
    shared.config.upstreams.iter().enumerate().map(upstream).collect()
}

/// Those that stay share their connections of HTTP/2, unless the old ones were made by other rules.
fn links(shared: &Shared, before: Option<&Before<'_>>) -> Vec<Vec<Rc<link::Servers>>> {
    let head_bytes_max = shared.config.http.head_bytes_max;
    let of_upstream = |(u, upstream): (usize, &Upstream)| {
        let limits = link::Limits::new(upstream, head_bytes_max);
        let of_server = |s: usize| {
            let old = before.and_then(|Before { worker, succession }| {
                let (old, server) = (succession.upstreams.0[u]?, succession.servers[u].0[s]?);
                let rules = &worker.config.upstreams[old];
                // What was verified by other rules, or not at all, is not used again.
                let same_rules = rules.tls.is_none() && upstream.tls.is_none() && rules.protocol == upstream.protocol;
                same_rules.then(|| worker.links[old][server].clone())
            });
            match old {
                Some(servers) => {
                    servers.set_limits(limits);
                    servers
                }
                None => link::Servers::new(limits),
            }
        };
        (0..upstream.servers.len()).map(of_server).collect()
    };
    shared.config.upstreams.iter().enumerate().map(of_upstream).collect()
}

/// Puts a new config into the place of the present one.
pub(super) fn apply(lasting: &Rc<Lasting>, reload: Reload) {
    let Reload { shared, tls, slots, sockets, quic, flows, splitters, mysql, log, waits_for: _ } = reload;
    match (log, &mut *lasting.outbox.borrow_mut()) {
        (LogNews::First(outbox), place) => *place = Some(Rc::new(outbox)),
        (LogNews::Lanes(lanes), Some(outbox)) => outbox.add(lanes),
        (LogNews::Lanes(_), None) => {}
    }
    let old = lasting.current();
    let port = |slot| {
        let new = port_of(slot, &sockets, &flows);
        new.or_else(|| lasting.port_of(slot)).or_else(|| lasting.flows.port_of(slot)).unwrap_or_default()
    };
    let before = Before::new(&old, &shared);
    let (config, stats) = (shared.config.clone(), shared.workers[lasting.index].clone());
    match Worker::new(lasting, shared, &tls.listeners, &slots, port, Some(&before)) {
        Ok(worker) => {
            swap(lasting, &before, &Rc::new(worker), sockets, quic, flows);
            // Limits may have changed, and servers gone.
            forward::keep_for_those_who_wait(&old);
            forward::look_at_those_before(lasting, lasting.now());
        }
        Err(error) => tracing::error!(worker = lasting.index, %error, "the new config cannot be used by this worker"),
    }
    let stats = &stats.splitters;
    let news = News { config: &config, shared: &mysql, stats, materials: &tls, sockets: splitters };
    if let Err(error) = lasting.splitters.go_on_with(lasting, news) {
        tracing::error!(worker = lasting.index, %error, "the new config cannot be used by a splitter");
    }
}

/// Port of a listener among sockets that are new.
pub(super) fn port_of(slot: usize, sockets: &[Socket], flows: &[FlowSocket]) -> Option<u16> {
    let of_tcp = sockets.iter().find(|socket| socket.slot == slot).map(|socket| socket.port);
    of_tcp.or_else(|| flows.iter().find(|socket| socket.slot == slot).map(|socket| socket.address.port()))
}

fn swap(
    lasting: &Rc<Lasting>,
    before: &Before<'_>,
    worker: &Rc<Worker>,
    sockets: Vec<Socket>,
    quic: Vec<QuicSocket>,
    flows: Vec<FlowSocket>,
) {
    before.retire_servers();
    before.close_links(worker);
    let limits = crate::files::Limits::from(&worker.config.process);
    lasting.files.borrow_mut().reconfigure(limits, usize::MAX, &worker.stats.files);
    lasting.pipes.set_max(worker.config.process.pipes_max);
    lasting.current.replace(Some(worker.clone()));
    forward::deliver_places(worker);
    let doors = lasting.doors.borrow().clone();
    for door in doors {
        if door.is_closed() {
            continue;
        }
        match worker.listeners.get(door.slot) {
            Some(Some(_)) => door.go_on_with(worker, lasting.now()),
            _ => close(lasting, &door),
        }
    }
    for socket in sockets {
        if let Err(error) = run::open_door(worker, socket) {
            tracing::error!(worker = lasting.index, %error, "a new listener cannot be used by this worker");
        }
    }
    lasting.endpoints.go_on(lasting.now());
    for socket in quic {
        if let Err(error) = lasting.endpoints.open(worker, socket) {
            tracing::error!(worker = lasting.index, %error, "HTTP/3 cannot be set up by this worker");
        }
    }
    lasting.flows.go_on(worker);
    for socket in flows {
        if let Err(error) = lasting.flows.open(worker, socket) {
            tracing::error!(worker = lasting.index, %error, "a new UDP listener cannot be used by this worker");
        }
    }
}

/// Stops accepting at a door; the connections that wait there already are taken first.
fn close(lasting: &Rc<Lasting>, door: &Rc<Door>) {
    if let Some(listener) = door.close(lasting.now()) {
        crate::runtime::spawn(async move { run::stop_accepting(&[listener]).await });
    }
}
