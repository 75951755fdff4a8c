//! The worker's thread: builds the worker from its seat, accepts, ticks, drains.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::arrival::Arrival;
use super::connection::{Connection, Transport, drive};
use super::door::Door;
use super::h3::{Datagram, Endpoints, Keys, Left, QuicSocket};
use super::handover::{self, HandOver, Handed};
use super::hot::HotPool;
use super::secure::HandshakeGate;
use super::snapshot::{self, FolderNumbers, Reload, Socket};
use super::splitters::{News, SplitterSocket, Splitters};
use super::takeover::{self, Drain, HeldSocket};
use super::tunnel::COPIED_BYTES_MAX;
use super::udp::FlowSocket;
pub(crate) use super::watch::TICK;
use super::watch::Watches;
use super::{Lasting, Worker, unix_seconds};
use crate::app::{Bridge, Job, Reply, Tickets, Way};
use crate::config::Config;
use crate::control::Shared;
use crate::files;
use crate::http::coding::Encoders;
use crate::http::date::HttpDate;
use crate::runtime::mailbox::{Receiver, Sender};
use crate::runtime::net::{Listener, Stream};
use crate::runtime::sys::splice::Pipes;
use crate::runtime::time::sleep;
use crate::tls::Materials;

/// Logins a worker remembers.
const LOGINS_MAX: usize = 4096;

/// What the control thread tells a data worker.
#[derive(Debug)]
pub(crate) enum Control {
    /// Everything has started: accept connections.
    Begin,
    /// Accept no more, finish what is under way, end.
    Drain(Drain),
    /// A tick has passed: look at the deadlines.
    Tick,
    /// New sessions use these certificates and keys; sessions under way go on.
    Certificates(Arc<Materials>),
    /// Another process may be given the sockets: tell which there are.
    Sockets(mpsc::Sender<Vec<HeldSocket>>),
    /// Another process reads UDP sockets, or no longer does. The sender is dropped when this one has heeded it.
    Left(Left, mpsc::Sender<()>),
    /// Another process accepts from these listening sockets ([`HeldSocket::number`]). The sender is dropped when this one
    /// accepts no more from them.
    Doors(Arc<HashSet<RawFd>>, mpsc::Sender<()>),
    /// The next requests are answered by another config; those under way go on.
    Reload(Box<Reload>),
    /// End now.
    Stop,
}

/// Everything a data worker is given before it starts.
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// HTTP listeners; their slots are their indexes into the config.
    pub(crate) listeners: Vec<Socket>,
    /// The same for HTTP/3.
    pub(crate) quic: Vec<QuicSocket>,
    /// The same for UDP mode.
    pub(crate) flows: Vec<FlowSocket>,
    pub(crate) quic_keys: Keys,
    /// Leads to the process before this one, which finishes its connections.
    pub(crate) quic_before: Option<Arc<UnixDatagram>>,
    /// Datagrams of this worker's connections that others have received, and the mailboxes of all workers for such.
    pub(crate) datagrams: Receiver<Datagram>,
    pub(crate) datagram_senders: Vec<Sender<Datagram>>,
    /// Connections that others have accepted for this worker, and the mailboxes of all workers for such.
    pub(crate) handed: Receiver<Handed>,
    pub(crate) handed_senders: Vec<Sender<Handed>>,
    /// Certificates and keys.
    pub(crate) tls: Materials,
    /// Listeners of splitters.
    pub(crate) splitters: Vec<SplitterSocket>,
    pub(crate) mysql: Arc<Vec<Arc<crate::mysql::Shared>>>,
    pub(crate) control: Receiver<Control>,
    pub(crate) app_workers: Vec<Sender<Job>>,
    /// By application.
    pub(crate) ways: Vec<Way>,
    /// Index into `app_workers` of the one this worker asks first, and whether that is on its core.
    pub(crate) paired: (usize, bool),
    pub(crate) replies: Receiver<Reply>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) outbox: Option<crate::log::Outbox>,
    /// Threads for what blocks.
    pub(crate) helpers: crate::runtime::helpers::Helpers,
    /// The thread for passwords.
    pub(crate) hasher: Arc<crate::guard::Hasher>,
    /// HTTP connections of all data workers.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Start of this worker's request identifiers.
    pub(crate) request_id_seed: u64,
}

/// What a worker opens, and what it hears from others.
struct Opening {
    listeners: Vec<Socket>,
    quic: Vec<QuicSocket>,
    flows: Vec<FlowSocket>,
    splitters: Vec<SplitterSocket>,
    tls: Materials,
    mysql: Arc<Vec<Arc<crate::mysql::Shared>>>,
    datagrams: Receiver<Datagram>,
    handed: Receiver<Handed>,
}

/// Runs the worker until it is told to stop or has drained.
pub(crate) async fn run(seat: Seat) {
    let (index, shared) = (seat.index, seat.shared.clone());
    let config = shared.config.clone();
    let handshakes = match HandshakeGate::new() {
        Ok(handshakes) => handshakes,
        Err(error) => return tracing::error!(worker = index, %error, "no descriptors left"),
    };
    let (lasting, opening, mut control) = sit_down(seat, handshakes);
    let slots: Vec<usize> = (0..config.listeners.len()).collect();
    let port = |slot| snapshot::port_of(slot, &opening.listeners, &opening.flows).unwrap_or(0);
    let worker = match Worker::new(&lasting, shared, &opening.tls.listeners, &slots, port, None) {
        Ok(worker) => Rc::new(worker),
        Err(error) => return tracing::error!(worker = index, %error, "TLS cannot be set up"),
    };
    lasting.current.replace(Some(worker.clone()));
    if !takeover::may_begin(&mut control).await {
        return drop(lasting.current.take());
    }
    // The worker ends, and with it the process: it would look ready and not answer.
    if let Err((what, error)) = open(&lasting, &worker, opening) {
        return tracing::error!(worker = index, %error, "{what}");
    }
    drop((worker, config));
    let order = follow_orders(&lasting, &mut control).await;
    if let Control::Drain(order) = order {
        takeover::leave(&lasting, &order);
        stop_accepting(&takeover::accepting(&lasting).collect::<Vec<_>>()).await;
        lasting.splitters.begin_drain();
        drain(&lasting, &mut control, &order).await;
    }
    close(&lasting);
}

/// Takes what a worker keeps for as long as it runs from its seat.
fn sit_down(seat: Seat, handshakes: HandshakeGate) -> (Rc<Lasting>, Opening, Receiver<Control>) {
    let (index, shared) = (seat.index, seat.shared);
    let config = &shared.config;
    let lasting = Lasting {
        index,
        trace: shared.traces.get(index).cloned(),
        current: RefCell::default(),
        waited_for: RefCell::default(),
        doors: RefCell::default(),
        endpoints: Endpoints::new(seat.quic_keys, seat.datagram_senders, seat.quic_before),
        hand_over: HandOver::new(seat.handed_senders),
        flows: super::udp::Endpoints::default(),
        splitters: Splitters::default(),
        folder_numbers: FolderNumbers::default(),
        outbox: RefCell::new(seat.outbox.map(Rc::new)),
        handshakes,
        watches: Watches::new(),
        hot: HotPool::new(config.process.read_buffer_bytes),
        pipes: Pipes::new(config.process.pipes_max),
        copied: RefCell::new(vec![0; COPIED_BYTES_MAX].into()),
        files: RefCell::new(files::Cache::new(files::Limits::from(&config.process))),
        scripts: RefCell::default(),
        for_programs: Rc::default(),
        bridge: Bridge::new(seat.tickets, seat.replies, seat.app_workers, seat.paired, seat.ways),
        date: RefCell::new(HttpDate::from_unix(unix_seconds())),
        other_date: Cell::new((0, HttpDate::from_unix(0))),
        ticked: Cell::new(std::time::Instant::now()),
        draining_since: Cell::new(None),
        looks: Cell::new((0, 0)),
        idle_patience: Cell::new(Duration::ZERO),
        connections: Cell::new(0),
        all_connections: seat.connections,
        request_ids: Cell::new(seat.request_id_seed),
        draws: Cell::new(seat.request_id_seed.rotate_left(32)),
        serials: Cell::new(0),
        helpers: seat.helpers,
        verified: RefCell::new(crate::guard::Verified::new(&rand::random(), LOGINS_MAX)),
        hasher: seat.hasher,
        encoders: Encoders::new(Encoders::BYTES_DEFAULT),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let opening = Opening {
        listeners: seat.listeners,
        quic: seat.quic,
        flows: seat.flows,
        splitters: seat.splitters,
        tls: seat.tls,
        mysql: seat.mysql,
        datagrams: seat.datagrams,
        handed: seat.handed,
    };
    (Rc::new(lasting), opening, seat.control)
}

/// Begins to serve. Errors: what cannot be done, and why.
fn open(lasting: &Rc<Lasting>, worker: &Rc<Worker>, opening: Opening) -> Result<(), (&'static str, String)> {
    for socket in opening.listeners {
        open_door(worker, socket).map_err(|error| ("listener cannot be used", error.to_string()))?;
    }
    for socket in opening.quic {
        lasting.endpoints.open(worker, socket).map_err(|error| ("HTTP/3 cannot be set up", error.to_string()))?;
    }
    for socket in opening.flows {
        lasting.flows.open(worker, socket).map_err(|error| ("UDP listener cannot be used", error.to_string()))?;
    }
    let (stats, materials) = (&worker.stats.splitters, &opening.tls);
    let news = News { config: &worker.config, shared: &opening.mysql, stats, materials, sockets: opening.splitters };
    lasting
        .splitters
        .go_on_with(lasting, news)
        .map_err(|error| ("TLS of a splitter cannot be set up", error.to_string()))?;
    super::forward::deliver_places(worker);
    crate::runtime::spawn(take_forwarded(lasting.clone(), opening.datagrams));
    crate::runtime::spawn(handover::take(lasting.clone(), opening.handed));
    crate::runtime::spawn(takeover::look_often(lasting.clone()));
    let deliver = lasting.clone();
    crate::runtime::spawn(async move {
        deliver.bridge.deliver().await;
    });
    Ok(())
}

/// Does what the control thread says, until that is to drain or to stop.
async fn follow_orders(lasting: &Rc<Lasting>, control: &mut Receiver<Control>) -> Control {
    // The ticks come from outside: a timer of our own would have to be set and cleared around every wait.
    loop {
        match control.recv().await {
            Control::Tick => {
                takeover::look_again(lasting);
                lasting.current().tick();
                handover::look_again(lasting);
            }
            Control::Certificates(materials) => {
                let worker = lasting.current();
                let of_splitters = lasting.splitters.renew(&worker.config, &materials);
                for renewed in [renew(&worker, &materials.listeners), of_splitters] {
                    if let Err(error) = renewed {
                        tracing::error!(worker = lasting.index, %error, "new certificates cannot be used");
                    }
                }
            }
            Control::Reload(reload) => {
                let waits_for = reload.waits_for.clone();
                snapshot::apply(lasting, *reload);
                waits_for.fetch_sub(1, Ordering::AcqRel);
            }
            Control::Sockets(answer) => takeover::tell_sockets(lasting, &answer),
            Control::Left(left, _done) => takeover::leave_udp(lasting, left),
            Control::Doors(left, done) => takeover::leave_doors(lasting, &left, done),
            Control::Begin => {}
            order => return order,
        }
    }
}

/// Lets go of everything.
fn close(lasting: &Lasting) {
    lasting.endpoints.close_all();
    lasting.flows.close_all();
    if let Some(outbox) = &*lasting.outbox.borrow() {
        outbox.flush_due();
    }
    // Each of these leads to the others.
    lasting.doors.borrow_mut().clear();
    drop(lasting.waited_for.take());
    drop(lasting.current.take());
}

/// How long connections that the kernel has made are accepted after the order to drain: others keep coming on a busy port.
const ACCEPT_REST_MAX: Duration = Duration::from_millis(500);

/// Takes the connections that wait already, which closing the listeners would reset; then closes these.
pub(super) async fn stop_accepting(listeners: &[Rc<Listener>]) {
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
async fn drain(lasting: &Rc<Lasting>, control: &mut Receiver<Control>, order: &Drain) {
    let deadline = order.deadline;
    lasting.idle_patience.set(order.idle_patience);
    let worker = lasting.current();
    let begun = worker.now();
    worker.draining_since.set(Some(begun));
    let mut turns = 0u32;
    loop {
        if turns.is_multiple_of(TURNS_PER_TICK) {
            worker.tick();
            handover::look_again(lasting);
        }
        turns += 1;
        // Whoever is waited for is not woken all the time.
        if begun.elapsed() >= order.idle_patience || turns % (5 * TURNS_PER_TICK) == 1 {
            worker.watches.tell_of_drain();
        }
        let clients = lasting.splitters.clients();
        let on_the_way = worker.hand_over.waiting(worker.index) as u64;
        let left = worker.connections.get() as u64 + clients + on_the_way + worker.flows.flows() as u64;
        let is_done = left == 0;
        let told_to_stop = std::iter::from_fn(|| control.try_recv()).any(|order| matches!(order, Control::Stop));
        if is_done || told_to_stop {
            return;
        }
        if begun.elapsed() >= deadline {
            let (connections, flows) = (worker.connections.get(), worker.flows.flows());
            tracing::warn!(worker = worker.index, connections, flows, "drain time is up, connections are broken off");
            worker.watches.break_all();
            return sleep(TICK).await;
        }
        sleep(TICK / TURNS_PER_TICK).await;
    }
}

/// By listener, what its sessions are made with. Boot has built the same once, so that this does not fail; if it does, the
/// listener is not served, least of all in clear.
pub(super) fn tls_configs(
    config: &Config,
    materials: &[Option<crate::tls::Material>],
) -> Result<Vec<Option<Arc<rustls::ServerConfig>>>, crate::tls::TlsError> {
    let build = |(listener, material): (&crate::config::model::Listener, &Option<crate::tls::Material>)| {
        let Some(settings) = &listener.tls else { return Ok(None) };
        let missing = || crate::tls::TlsError::Settings(format!("listener `{}` has no certificates", listener.name));
        let material = material.as_ref().ok_or_else(missing)?;
        let mut built = crate::tls::build(settings, material, listener.http2)?;
        if listener.tcp.is_some() {
            // What is inside is for the servers to say: any protocol may come.
            Arc::make_mut(&mut built).alpn_protocols.clear();
        }
        Ok(Some(built))
    };
    config.listeners.iter().zip(materials).map(build).collect()
}

/// The same for QUIC; `None`: a listener without HTTP/3.
pub(super) fn quic_configs(
    config: &Config,
    materials: &[Option<crate::tls::Material>],
) -> Result<Vec<Option<Arc<crate::tls::QuicTls>>>, crate::tls::TlsError> {
    let build = |(listener, material): (&crate::config::model::Listener, &Option<crate::tls::Material>)| {
        let Some(settings) = listener.tls.as_ref().filter(|_| listener.http3) else { return Ok(None) };
        let missing = || crate::tls::TlsError::Settings(format!("listener `{}` has no certificates", listener.name));
        crate::tls::build_quic(settings, material.as_ref().ok_or_else(missing)?).map(Some)
    };
    config.listeners.iter().zip(materials).map(build).collect()
}

/// New sessions use these certificates and keys, all of them or none.
fn renew(worker: &Worker, materials: &[Option<crate::tls::Material>]) -> Result<(), crate::tls::TlsError> {
    let (tls, quic) = (tls_configs(&worker.config, materials)?, quic_configs(&worker.config, materials)?);
    drop((worker.tls.replace(tls), worker.quic.replace(quic)));
    worker.endpoints.go_on(worker.now());
    Ok(())
}

/// Hands over what other workers have received for connections of this one.
async fn take_forwarded(lasting: Rc<Lasting>, mut datagrams: Receiver<Datagram>) {
    loop {
        let datagram = datagrams.recv().await;
        lasting.endpoints.take_forwarded(datagram);
    }
}

/// Accepts connections from `socket` from now on. Errors: the socket cannot be used here.
pub(super) fn open_door(worker: &Rc<Worker>, socket: Socket) -> std::io::Result<()> {
    let listener = Rc::new(Listener::new(socket.socket)?);
    if let Some(door) = Door::new(socket.slot, socket.port, worker, listener.clone()) {
        let door = Rc::new(door);
        worker.doors.borrow_mut().push(door.clone());
        crate::runtime::spawn(accept(door, listener));
    }
    Ok(())
}

/// Accepts connections of one listener until it is stopped.
async fn accept(door: Rc<Door>, listener: Rc<Listener>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(stream) = handover::hand_over(&door.worker(), &door, stream, peer) {
                    serve(&door, stream, peer);
                }
            }
            Err(_) if listener.is_stopped() => return,
            Err(error) => {
                // Out of descriptors or memory, mostly: the connection waits in the backlog meanwhile.
                tracing::warn!(worker = door.worker().index, %error, "accept failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves a connection that came through `door`, here or at another worker.
pub(super) fn serve(door: &Rc<Door>, stream: Stream, peer: Option<SocketAddr>) {
    let worker = door.worker();
    let Some(guard) = Open::new(door) else { return };
    let connection = Connection {
        watched: worker.watches.watch(&stream),
        serial: worker.next_serial(),
        proxied: Cell::new(None),
        writes: OnceCell::new(),
        sending: Cell::new(false),
        arrival: Arrival::default(),
        opened: worker.now(),
        tls: OnceCell::new(),
        transport: Transport::Socket(stream),
        peer,
        door: door.clone(),
        requests: Cell::new(0),
        is_let_in: Cell::new(false),
        place: OnceCell::new(),
        for_apps: OnceCell::new(),
        _open: guard,
    };
    // Behind the PROXY protocol, whose header tells the client, it is counted later.
    let has_header = worker.config.listeners[connection.listener(&worker)].proxy_protocol;
    connection.is_let_in.set(!has_header);
    if has_header || (connection.is_admitted(&worker) && connection.takes_place(&worker)) {
        crate::runtime::spawn(drive(Rc::new(connection)));
    }
}

/// Counts a connection that is open, here and in the process.
pub(super) struct Counted(Rc<Lasting>);

impl Counted {
    /// `None`: there are as many as there may be.
    pub(super) fn new(worker: &Worker) -> Option<Counted> {
        let lasting = &worker.lasting;
        let open = lasting.all_connections.fetch_add(1, Ordering::Relaxed);
        lasting.connections.set(lasting.connections.get() + 1);
        worker.stats.http.connections.set(lasting.connections.get() as u64);
        let counted = Counted(lasting.clone());
        if open >= worker.config.process.connections_max {
            worker.stats.http.refused.inc();
            return None;
        }
        Some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let lasting = &self.0;
        lasting.all_connections.fetch_sub(1, Ordering::Relaxed);
        lasting.connections.set(lasting.connections.get() - 1);
        if let Some(worker) = &*lasting.current.borrow() {
            worker.stats.http.connections.set(lasting.connections.get() as u64);
        }
    }
}

/// Counts an open connection of a listener, and its panic if it ends by one; that cannot make the count wrong.
pub(super) struct Open {
    door: Rc<Door>,
    _counted: Counted,
}

impl Open {
    /// Counts a connection; `None`: there are as many as there may be.
    pub(super) fn new(door: &Rc<Door>) -> Option<Open> {
        let worker = door.worker();
        door.stats.accepted.inc();
        worker.stats.http.accepted.inc();
        let counted = Counted::new(&worker)?;
        door.stats.open.inc();
        Some(Open { door: door.clone(), _counted: counted })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.stats.open.dec();
    }
}
