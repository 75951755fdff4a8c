//! The worker's thread: builds the worker from its seat, accepts, ticks, drains.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::arrival::Arrival;
use super::connection::{Connection, drive};
use super::hot::HotPool;
use super::secure::HandshakeGate;
pub(crate) use super::watch::TICK;
use super::watch::Watches;
use super::{Worker, unix_seconds};
use crate::app::{Bridge, Job, Reply, Tickets};
use crate::config::Config;
use crate::config::model::Action;
use crate::control::Shared;
use crate::files;
use crate::http::coding::Encoders;
use crate::http::date::HttpDate;
use crate::http::h1::Limits;
use crate::proxy::UpstreamState;
use crate::proxy::gate::Queue;
use crate::route::Router;
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::net::{BoundSocket, Listener};
use crate::runtime::time::sleep;

/// Logins a worker remembers.
const LOGINS_MAX: usize = 4096;

/// What the control thread tells a data worker.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// Accept no more, finish what is under way, end. Connections that are not done by then are broken off.
    Drain(Duration),
    /// A tick has passed: look at the deadlines.
    Tick,
    /// New sessions use these certificates and keys, by listener; sessions under way go on.
    Certificates(Arc<Vec<Option<crate::tls::Material>>>),
    /// End now.
    Stop,
}

/// Everything a data worker is given before it starts.
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// HTTP listeners: index into the config, port as bound, socket.
    pub(crate) listeners: Vec<(usize, u16, BoundSocket)>,
    /// By listener: certificates and keys; `None`: it speaks in clear.
    pub(crate) tls: Vec<Option<crate::tls::Material>>,
    /// Splitter listeners: index into the config, socket.
    pub(crate) splitters: Vec<(usize, BoundSocket)>,
    pub(crate) mysql: Vec<Arc<crate::mysql::Shared>>,
    pub(crate) control: Receiver<Control>,
    pub(crate) app_workers: Vec<Sender<Job>>,
    /// Index into `app_workers` of the one this worker asks first.
    pub(crate) paired: usize,
    pub(crate) replies: Receiver<Reply>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) access_log: Option<crate::log::AccessLog>,
    /// Threads for what blocks.
    pub(crate) helpers: crate::runtime::helpers::Helpers,
    /// The thread for passwords.
    pub(crate) hasher: Arc<crate::guard::Hasher>,
    /// HTTP connections of all data workers.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Start of this worker's request identifiers.
    pub(crate) request_id_seed: u64,
}

/// Runs the worker until it is told to stop or has drained.
pub(crate) async fn run(seat: Seat) {
    let Seat { listeners, splitters, mysql, mut control, replies, .. } = seat;
    let config = seat.shared.config.clone();
    let ports = port_table(&config, &listeners);
    let handshakes = match HandshakeGate::new() {
        Ok(handshakes) => handshakes,
        Err(error) => return tracing::error!(worker = seat.index, %error, "no descriptors left"),
    };
    let tls = match tls_configs(&config, &seat.tls) {
        Ok(tls) => tls,
        Err(error) => return tracing::error!(worker = seat.index, %error, "TLS cannot be set up"),
    };
    let worker = Rc::new(Worker {
        index: seat.index,
        limits: Limits {
            head_bytes_max: config.http.head_bytes_max,
            target_bytes_max: config.http.head_bytes_max / 2,
            headers_max: config.http.headers_max,
        },
        routers: (0..config.listeners.len()).map(|listener| Router::new(&config, listener)).collect(),
        logged: super::logged::Logged::new(&config, seat.access_log.as_ref()),
        lookups: crate::variables::Lookups::new(&config.lookups),
        folders: folder_table(&config),
        ports,
        tls: RefCell::new(tls),
        handshakes,
        watches: Watches::new(),
        hot: HotPool::new(config.process.read_buffer_bytes),
        files: RefCell::new(files::Cache::new(files::Limits::from(&config.process))),
        upstreams: config
            .upstreams
            .iter()
            .map(|upstream| RefCell::new(UpstreamState::new(upstream, seat.index, rand::random())))
            .collect(),
        queues: seat
            .shared
            .gates
            .iter()
            .map(|gate| gate.as_ref().map(|gate| Queue::new(gate.clone(), seat.index)))
            .collect(),
        bridge: Bridge::new(seat.tickets, replies, seat.app_workers, seat.paired, config.process.queue_timeout),
        date: RefCell::new(HttpDate::from_unix(unix_seconds())),
        ticked: Cell::new(std::time::Instant::now()),
        draining_since: Cell::new(None),
        connections: Cell::new(0),
        request_ids: Cell::new(seat.request_id_seed),
        serials: Cell::new(0),
        stats: seat.shared.workers[seat.index].clone(),
        trace: seat.shared.traces.get(seat.index).cloned(),
        access_log: seat.access_log,
        helpers: seat.helpers,
        verified: RefCell::new(crate::guard::Verified::new(&rand::random(), LOGINS_MAX)),
        hasher: seat.hasher,
        encoders: Encoders::new(Encoders::BYTES_DEFAULT),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        shared: seat.shared,
        config,
    });
    let mut accepting = Vec::new();
    for (index, _, socket) in listeners {
        match Listener::new(socket) {
            Ok(listener) => {
                let listener = Rc::new(listener);
                accepting.push(listener.clone());
                crate::runtime::spawn(accept(worker.clone(), listener, index, seat.connections.clone()));
            }
            // The worker ends, and with it the process: it would look ready and not answer.
            Err(error) => return tracing::error!(worker = worker.index, %error, "listener cannot be used"),
        }
    }
    let splitters = start_splitters(&worker, splitters, &mysql, &mut accepting);
    for upstream in (0..worker.queues.len()).filter(|&upstream| worker.queues[upstream].is_some()) {
        let worker = worker.clone();
        crate::runtime::spawn(async move { super::forward::deliver_places(&worker, upstream).await });
    }
    let deliver = worker.clone();
    crate::runtime::spawn(async move {
        deliver.bridge.deliver().await;
    });
    // The ticks come from outside: a timer of our own would have to be set and cleared around every wait.
    let order = loop {
        match control.recv().await {
            Control::Tick => worker.tick(),
            Control::Certificates(materials) => match tls_configs(&worker.config, &materials) {
                Ok(tls) => drop(worker.tls.replace(tls)),
                Err(error) => tracing::error!(worker = worker.index, %error, "new certificates cannot be used"),
            },
            order => break order,
        }
    };
    if let Control::Drain(deadline) = order {
        stop_accepting(&accepting).await;
        for splitter in &splitters {
            splitter.begin_drain();
        }
        drain(&worker, &mut control, deadline).await;
    }
    if let Some(log) = &worker.access_log {
        log.flush_due();
    }
}

/// How long connections that the kernel has made are accepted after the order to drain: others keep coming on a busy port.
const ACCEPT_REST_MAX: Duration = Duration::from_millis(500);

/// Takes the connections that wait already, which closing the listeners would reset; then closes these.
async fn stop_accepting(listeners: &[Rc<Listener>]) {
    let begun = std::time::Instant::now();
    while listeners.iter().any(|listener| listener.has_waiting()) && begun.elapsed() < ACCEPT_REST_MAX {
        sleep(Duration::from_millis(2)).await;
    }
    listeners.iter().for_each(|listener| listener.stop());
    // What was accepted in this very moment has not been counted yet.
    sleep(Duration::from_millis(2)).await;
}

/// Looks of a drain whether all is done, for each tick of the deadlines.
const TURNS_PER_TICK: u32 = 4;

/// Finishes what is under way.
async fn drain(worker: &Worker, control: &mut Receiver<Control>, deadline: Duration) {
    let begun = worker.now();
    worker.draining_since.set(Some(begun));
    let mut turns = 0u32;
    loop {
        if turns.is_multiple_of(TURNS_PER_TICK) {
            worker.tick();
        }
        turns += 1;
        worker.watches.tell_of_drain();
        let clients: u64 = worker.stats.splitters.iter().map(|splitter| splitter.clients.value()).sum();
        let is_done = worker.connections.get() == 0 && clients == 0;
        let told_to_stop = std::iter::from_fn(|| control.try_recv()).any(|order| matches!(order, Control::Stop));
        if is_done || told_to_stop {
            return;
        }
        if begun.elapsed() >= deadline {
            let connections = worker.connections.get();
            tracing::warn!(worker = worker.index, connections, "drain time is up, connections are broken off");
            worker.watches.break_all();
            return sleep(TICK).await;
        }
        sleep(TICK / TURNS_PER_TICK).await;
    }
}

/// Port of each listener by its index in the config.
fn port_table(config: &Config, listeners: &[(usize, u16, BoundSocket)]) -> Vec<u16> {
    let bound = |index| listeners.iter().find(|(listener, ..)| *listener == index).map(|(_, port, _)| *port);
    (0..config.listeners.len()).map(|index| bound(index).unwrap_or_default()).collect()
}

/// By listener, what its sessions are made with. Boot has built the same once, so that this does not fail; if it does, the
/// listener is not served, least of all in clear.
fn tls_configs(
    config: &Config,
    materials: &[Option<crate::tls::Material>],
) -> Result<Vec<Option<Arc<rustls::ServerConfig>>>, crate::tls::TlsError> {
    let build = |(listener, material): (&crate::config::model::Listener, &Option<crate::tls::Material>)| {
        let Some(settings) = &listener.tls else { return Ok(None) };
        let missing = || crate::tls::TlsError::Settings(format!("listener `{}` has no certificates", listener.name));
        let material = material.as_ref().ok_or_else(missing)?;
        crate::tls::build(settings, material, listener.http2).map(Some)
    };
    config.listeners.iter().zip(materials).map(build).collect()
}

/// Numbers the `files` actions, by site and route.
fn folder_table(config: &Config) -> Vec<Vec<usize>> {
    let mut next = 0;
    let mut number = |action: &Action| {
        let index = next;
        next += usize::from(matches!(action, Action::Files(_)));
        index
    };
    config.sites.iter().map(|site| site.routes.iter().map(|route| number(&route.action)).collect()).collect()
}

/// Accepts connections of one listener until it is stopped.
async fn accept(worker: Rc<Worker>, listener: Rc<Listener>, index: usize, connections: Arc<AtomicUsize>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let open = connections.fetch_add(1, Ordering::Relaxed);
                let guard = Open { worker: worker.clone(), connections: connections.clone(), listener: index };
                worker.stats.listeners[index].inc();
                worker.connections.set(worker.connections.get() + 1);
                worker.stats.http.connections.set(worker.connections.get() as u64);
                worker.stats.http.accepted.inc();
                if open >= worker.config.process.connections_max {
                    worker.stats.http.refused.inc();
                    drop((stream, guard));
                    continue;
                }
                let watched = worker.watches.watch(&stream);
                let requests = Cell::new(0);
                let connection = Connection {
                    watched,
                    // Every worker has numbers of its own, so that none is given twice.
                    serial: (worker.index as u64) << 48 | worker.serials.replace(worker.serials.get() + 1),
                    proxied: Cell::new(None),
                    writes: OnceCell::new(),
                    sending: Cell::new(false),
                    arrival: Arrival::default(),
                    opened: worker.now(),
                    tls: OnceCell::new(),
                    stream,
                    peer,
                    listener: index as u32,
                    requests,
                    place: OnceCell::new(),
                    _open: guard,
                };
                // Behind the PROXY protocol, whose header tells the client, it is counted later.
                let has_header = worker.config.listeners[index].proxy_protocol;
                if has_header || connection.takes_place(&worker) {
                    crate::runtime::spawn(drive(worker.clone(), Rc::new(connection)));
                }
            }
            Err(_) if listener.is_stopped() => return,
            Err(error) => {
                // Out of descriptors or memory, mostly: the connection waits in the backlog meanwhile.
                tracing::warn!(worker = worker.index, %error, "accept failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts an open connection, and its panic if it ends by one; that cannot make the count wrong.
pub(super) struct Open {
    worker: Rc<Worker>,
    connections: Arc<AtomicUsize>,
    listener: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.stats.listeners[self.listener].dec();
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.connections.set(self.worker.connections.get() - 1);
        self.worker.stats.http.connections.set(self.worker.connections.get() as u64);
    }
}

/// Starts the splitters' accept loops.
fn start_splitters(
    worker: &Rc<Worker>,
    sockets: Vec<(usize, BoundSocket)>,
    shared: &[Arc<crate::mysql::Shared>],
    accepting: &mut Vec<Rc<Listener>>,
) -> Vec<Rc<crate::mysql::Splitter>> {
    let splitters: Vec<_> = shared
        .iter()
        .enumerate()
        .map(|(index, shared)| {
            let (stats, trace) = (worker.stats.clone(), worker.trace.clone());
            crate::mysql::Splitter::new(worker.config.clone(), index, shared.clone(), stats, trace, worker.index)
        })
        .collect();
    for (index, socket) in sockets {
        match Listener::new(socket) {
            Ok(listener) => {
                let listener = Rc::new(listener);
                accepting.push(listener.clone());
                crate::runtime::spawn(accept_clients(listener, splitters[index].clone()));
            }
            Err(error) => tracing::error!(worker = worker.index, %error, "splitter listener cannot be used"),
        }
    }
    splitters
}

/// Accepts MySQL clients of one splitter until its listener is stopped.
async fn accept_clients(listener: Rc<Listener>, splitter: Rc<crate::mysql::Splitter>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => crate::runtime::spawn(splitter.clone().serve_client(stream, peer)),
            Err(_) if listener.is_stopped() => return,
            Err(error) => {
                tracing::warn!(%error, "accept of a MySQL client failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
