//! The old process's part of a takeover: starts the new one, offers it everything, and goes on if that comes to nothing.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::program::program;
use super::{AddedNote, ChangeNote, Kind, Letter, PRIVATE_KEEPER, Secrets, ServerNote, SocketNote, VARIABLE, Word};
use crate::boot::sockets::UdpPorts;
use crate::config::model::{Server, Splitter};
use crate::config::servers::{ChangedServers, Changes};
use crate::control::Shared;
use crate::control::ctl::Upgraded;
use crate::control::processes::Bequest;
use crate::control::shared::{AdminState, EventLevel};
use crate::runtime::mailbox::Sender;
use crate::runtime::net::{Address, share_sockets};
use crate::runtime::sys::handover::{Channel, FDS_MAX, spawn};
use crate::worker::{Control, Drain, HeldSocket, Left, Passed, QuicKeys, SocketOf, find_owner};

/// How long data workers may take to heed an order.
const WORKERS_MAX: Duration = Duration::from_secs(10);

/// How long the new process may take from its turn to its word that it serves: it has everything by then.
const SERVING_MAX: Duration = Duration::from_secs(10);

/// A full mailbox is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Looks whether the new process has ended by itself, that far apart, before it is ended.
const ENDED_LOOKS: u32 = 40;

/// Notes about servers in one message.
const SERVERS_MAX: usize = 128;

/// How long an idle connection is kept for its client's next request, at most, which is answered with the word that it is
/// the last one. A client that has been silent for so long sends hardly in the moment in which its connection is closed.
const IDLE_PATIENCE: Duration = Duration::from_secs(5);

/// What is handed over beside that which workers and the config have.
#[derive(Default)]
pub(in super::super) struct Estate {
    pub(in super::super) admin: Option<std::net::TcpListener>,
    pub(in super::super) control: Option<std::os::unix::net::UnixListener>,
    pub(in super::super) stats: Option<std::os::unix::net::UnixListener>,
    pub(in super::super) quic_keys: Option<QuicKeys>,
    pub(in super::super) ticket_seed: [u8; 32],
    /// Asked for anew for each takeover.
    pub(in super::super) keeper: Option<Bequest>,
}

/// A takeover for whoever does one thing after the other: see [`Takeovers`].
pub(in super::super) struct Requested {
    progress: Arc<Progress>,
    outcome: oneshot::Sender<Result<HandedOver, String>>,
}

/// What a takeover has to know of the process.
pub(in super::super) struct Present<'a> {
    pub(in super::super) shared: &'a Shared,
    /// By listener: its slot.
    pub(in super::super) slots: &'a [usize],
    pub(in super::super) workers: &'a [Sender<Control>],
    pub(in super::super) udp_ports: &'a UdpPorts,
    pub(in super::super) estate: &'a Estate,
}

/// The other process serves.
pub(in super::super) struct HandedOver {
    pub(in super::super) pid: u32,
    pub(in super::super) drain: Drain,
    /// Unix sockets that are the other one's now.
    pub(in super::super) paths: HashSet<PathBuf>,
    /// Brings datagrams of connections of this process.
    pub(in super::super) forwarded: UnixDatagram,
    /// Its end tells the other one of ours.
    _channel: Channel,
}

impl Requested {
    /// Does it. Blocks. Returns whether the other process serves now.
    pub(in super::super) fn run(self, present: &Present<'_>) -> bool {
        let outcome = hand_over(present, &self.progress);
        self.progress.set(Step::Over);
        let has_worked = outcome.is_ok();
        // Gone only with the whole process.
        drop(self.outcome.send(outcome));
        has_worked
    }
}

/// How far a takeover has come: whoever ends the process meanwhile must know.
#[derive(Default)]
struct Progress(Mutex<Step>);

#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Waiting,
    /// The child may be killed.
    Started(Pid),
    /// It serves, or is about to.
    Over,
    Aborted,
}

impl Progress {
    fn locked(&self) -> std::sync::MutexGuard<'_, Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: it was aborted meanwhile.
    fn set(&self, step: Step) -> bool {
        let mut now = self.locked();
        let is_wanted = !matches!(*now, Step::Aborted);
        if is_wanted {
            *now = step;
        }
        is_wanted
    }

    fn abort(&self) {
        let mut step = self.locked();
        if let Step::Started(pid) = *step {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !matches!(*step, Step::Over) {
            *step = Step::Aborted;
        }
    }
}

type Asker = Option<oneshot::Sender<Result<Upgraded, String>>>;

/// The takeovers of this process as its control thread sees them: one at a time.
#[derive(Default)]
pub(in super::super) struct Takeovers {
    under_way: Option<UnderWay>,
}

struct UnderWay {
    progress: Arc<Progress>,
    outcome: oneshot::Receiver<Result<HandedOver, String>>,
    asker: Asker,
}

impl Takeovers {
    pub(in super::super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What is to be done for a new one; `None`: one is under way, which `asker` is told.
    pub(in super::super) fn begin(&mut self, asker: Asker) -> Option<Requested> {
        if self.is_under_way() {
            tell(asker, Err("a takeover is under way already".into()));
            return None;
        }
        let progress = Arc::new(Progress::default());
        let (sender, outcome) = oneshot::channel();
        self.under_way = Some(UnderWay { progress: progress.clone(), outcome, asker });
        Some(Requested { progress, outcome: sender })
    }

    /// Waits until another process serves. One that failed is told to whoever asked for it, and in the log.
    pub(in super::super) async fn handed_over(&mut self, shared: impl Fn() -> Arc<Shared>) -> HandedOver {
        loop {
            let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
            let outcome = (&mut under_way.outcome).await;
            let asker = self.under_way.take().and_then(|under_way| under_way.asker);
            let shared = shared();
            match outcome.unwrap_or_else(|_| Err("too many reloads wait: try again".into())) {
                Ok(handed) => {
                    tracing::info!(pid = handed.pid, "taken over by another process");
                    shared.note(EventLevel::Info, format!("taken over by process {}", handed.pid));
                    tell(asker, Ok(Upgraded { pid: handed.pid, was: std::process::id() }));
                    return handed;
                }
                Err(reason) => {
                    tracing::error!(%reason, "not taken over, this process goes on");
                    let first = reason.lines().next().unwrap_or_default();
                    shared.note(EventLevel::Error, format!("not taken over: {first}"));
                    tell(asker, Err(reason));
                }
            }
        }
    }

    /// The process ends: a new one that is not ready must not serve in its place.
    pub(in super::super) fn abort(&self) {
        if let Some(under_way) = &self.under_way {
            under_way.progress.abort();
        }
    }
}

fn tell(asker: Asker, answer: Result<Upgraded, String>) {
    if let Some(asker) = asker {
        // Whoever asked may have left.
        drop(asker.send(answer));
    }
}

/// A socket that is offered.
struct Offer {
    note: SocketNote,
    socket: OwnedFd,
    /// Of a data worker: [`HeldSocket::number`].
    number: Option<RawFd>,
}

fn hand_over(present: &Present<'_>, progress: &Progress) -> Result<HandedOver, String> {
    let until = Instant::now() + present.shared.config.process.takeover_timeout;
    let (forwarded, forward) = UnixDatagram::pair().map_err(plain("a socket cannot be had"))?;
    let offers = offers(present, forward.into())?;
    let (channel, theirs) = Channel::pair().map_err(plain("a socket cannot be had"))?;
    let mut child = NewProcess::start(theirs, progress)?;
    let pid = child.child.id();
    tracing::info!(pid, "another process has been started to take over");
    let taken = match get_ready(present, &channel, &offers, until) {
        Ok(taken) => taken,
        Err(reason) => return Err(child.end(reason)),
    };
    // From here on the other one may change whether sockets block, and reads them.
    share_sockets(true);
    let served = tell_all(present.workers, &Left::All).and_then(|()| {
        if !progress.set(Step::Over) {
            return Err("this process ends".into());
        }
        say(&channel, Word::Go)?;
        hear(&channel, Word::Serving, Instant::now() + SERVING_MAX).map(drop)
    });
    if let Err(reason) = served {
        let reason = child.end(reason);
        share_sockets(false);
        tell_all(present.workers, &Left::None)?;
        return Err(reason);
    }
    child.is_wanted = true;
    let taken: Vec<&Offer> = taken.into_iter().filter_map(|number| offers.get(number)).collect();
    let left: Arc<HashSet<RawFd>> = Arc::new(taken.iter().filter_map(|offer| offer.number).collect());
    // Whoever asked for the takeover may take the answer for what it says: from then on the other one alone accepts.
    if let Err(reason) = heeded(present.workers, |done| Control::Doors(left.clone(), done)) {
        tracing::warn!(%reason, "taken over, but connections may be accepted by this process yet");
    }
    let udp = taken.iter().filter(|offer| offer.note.kind == Kind::Udp);
    let path = |offer: &&Offer| Some(PathBuf::from(offer.note.address.strip_prefix("unix:")?));
    let deadline = present.shared.config.process.drain_timeout;
    Ok(HandedOver {
        pid,
        drain: Drain {
            deadline,
            idle_patience: IDLE_PATIENCE.min(deadline / 2),
            left,
            handed: Arc::new(udp.filter_map(|offer| offer.note.address.parse().ok()).collect()),
        },
        paths: taken.iter().filter_map(path).collect(),
        forwarded,
        _channel: channel,
    })
}

fn plain<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// The new process, which ends with this unless it is wanted.
struct NewProcess {
    child: Child,
    is_wanted: bool,
}

impl NewProcess {
    fn start(channel: OwnedFd, progress: &Progress) -> Result<NewProcess, String> {
        let program = program().ok_or("it is not known how this process was started")?;
        let mut command = Command::new(&program.path);
        if let [name, arguments @ ..] = &program.arguments[..] {
            command.arg0(name).args(arguments);
        }
        command.env(VARIABLE, std::process::id().to_string());
        // These are for this process alone.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        let error = |error| format!("`{}` cannot be started: {error}", program.path.display());
        let child = spawn(command, channel).map_err(error)?;
        let pid = Pid::from_child(&child);
        let started = NewProcess { child, is_wanted: false };
        if progress.set(Step::Started(pid)) { Ok(started) } else { Err("this process ends".into()) }
    }

    /// Ends it because of `reason`, to which is added how it has ended if it has.
    fn end(mut self, reason: String) -> String {
        // Its end of the channel closes a moment before it has ended.
        for _ in 0..ENDED_LOOKS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return format!("{reason} ({status})");
            }
            std::thread::sleep(AGAIN_AFTER);
        }
        reason
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        if !self.is_wanted {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Offers everything; returns the numbers of what the new process has taken, once it is ready.
fn get_ready(present: &Present<'_>, channel: &Channel, offers: &[Offer], until: Instant) -> Result<Vec<usize>, String> {
    let left = || until.saturating_duration_since(Instant::now());
    let send = |letter: &Letter, fds: &[BorrowedFd<'_>]| {
        let bytes = serde_json::to_vec(letter).map_err(plain("a message cannot be written"))?;
        match channel.send(&bytes, fds, left()) {
            // What it has said before it ended tells more.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            sent => sent.map_err(plain("the new process takes no message")),
        }
    };
    for offers in offers.chunks(FDS_MAX) {
        let sockets = offers.iter().map(|offer| offer.note.clone()).collect();
        let fds: Vec<BorrowedFd<'_>> = offers.iter().map(|offer| offer.socket.as_fd()).collect();
        send(&Letter { sockets, ..Letter::default() }, &fds)?;
    }
    for servers in servers(present.shared).chunks(SERVERS_MAX) {
        send(&Letter { servers: servers.to_vec(), ..Letter::default() }, &[])?;
    }
    for change in changes(present.shared) {
        send(&Letter { changes: vec![change], ..Letter::default() }, &[])?;
    }
    let idle = present.shared.processes().into_iter().filter(|app| app.ready == 0).map(|app| app.name).collect();
    send(&Letter { idle, ..Letter::default() }, &[])?;
    let secrets = Secrets {
        tickets: present.estate.ticket_seed.into(),
        quic: present.estate.quic_keys.as_ref().map(|keys| keys.secrets().next()),
    };
    send(&Letter { word: Word::Offered, secrets: Some(secrets), ..Letter::default() }, &[])?;
    hear(channel, Word::Ready, until).map(|letter| letter.taken)
}

fn say(channel: &Channel, word: Word) -> Result<(), String> {
    let bytes = serde_json::to_vec(&Letter { word, ..Letter::default() }).map_err(plain("a message"))?;
    channel.send(&bytes, &[], SERVING_MAX).map_err(plain("the new process takes no message"))
}

/// Waits for this word.
fn hear(channel: &Channel, word: Word, until: Instant) -> Result<Letter, String> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let bytes = match channel.receive(Some(left)) {
            Ok(Some((bytes, _))) => bytes,
            Ok(None) => return Err("the new process ended before it was ready, see what it has told".into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("the new process was not ready in time (`takeover_timeout` in [process])".into());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("the new process cannot be heard: {error}")),
        };
        let letter: Letter = serde_json::from_slice(&bytes).map_err(plain("the new process is not understood"))?;
        match letter.word {
            Word::Failed => return Err(letter.reason.trim_end().to_owned()),
            heard if heard == word => return Ok(letter),
            _ => {}
        }
    }
}

/// Gives an order to all workers, whose mailboxes may be full of ticks.
fn order_all(workers: &[Sender<Control>], order: impl Fn() -> Control) -> Result<(), String> {
    let until = Instant::now() + WORKERS_MAX;
    for worker in workers {
        let mut order = order();
        while let Err(back) = worker.send(order) {
            if Instant::now() >= until {
                return Err("a data worker is too busy to be asked".into());
            }
            order = back;
            std::thread::sleep(AGAIN_AFTER);
        }
    }
    Ok(())
}

/// Tells all workers who reads the UDP sockets, and waits until they heed it.
fn tell_all(workers: &[Sender<Control>], handed: &Left) -> Result<(), String> {
    heeded(workers, |done| Control::Left(handed.clone(), done))
}

/// Orders something of all workers, and waits until they have heeded it: until all senders are dropped.
fn heeded(workers: &[Sender<Control>], order: impl Fn(mpsc::Sender<()>) -> Control) -> Result<(), String> {
    let (done, all_done) = mpsc::channel();
    order_all(workers, || order(done.clone()))?;
    drop(done);
    match all_done.recv_timeout(WORKERS_MAX) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err("a data worker is too busy to be asked".into()),
        _ => Ok(()),
    }
}

fn offers(present: &Present<'_>, forward: OwnedFd) -> Result<Vec<Offer>, String> {
    let mut offers = of_workers(present)?;
    let config = &present.shared.config;
    let none = plain("a socket cannot be handed over");
    let udp = [present.udp_ports.quic.all(), present.udp_ports.flows.all()];
    for (address, socket) in udp.into_iter().collect::<std::io::Result<Vec<_>>>().map_err(&none)?.into_iter().flatten()
    {
        let (name, asked) = udp_listener(present.shared, address);
        offers.push(Offer { note: note(Kind::Udp, &name, &asked, address.to_string()), socket, number: None });
    }
    if let (Some(socket), Some(asked)) = (&present.estate.admin, config.admin) {
        let bound = Address::Tcp(socket.local_addr().map_err(&none)?);
        let socket = socket.as_fd().try_clone_to_owned().map_err(&none)?;
        offers.push(Offer { note: note(Kind::Listener, "admin", &asked, bound.to_string()), socket, number: None });
    }
    let stats = config.process.stats_socket.as_ref().map(|stats| &stats.path);
    let ears = [
        ("control", &present.estate.control, config.process.control.as_ref()),
        ("stats", &present.estate.stats, stats),
    ];
    for (name, socket, path) in ears {
        let (Some(socket), Some(path)) = (socket, path) else { continue };
        let address = Address::Unix(path.clone());
        let socket = socket.as_fd().try_clone_to_owned().map_err(&none)?;
        let note = note(Kind::Listener, name, &address, address.to_string());
        offers.push(Offer { note, socket, number: None });
    }
    if let Some(Bequest { channel, folder, warden, is_private }) = &present.estate.keeper {
        let socket = channel.try_clone().map_err(&none)?;
        let name = if *is_private { PRIVATE_KEEPER } else { "" };
        let keeper = note(Kind::Keeper, name, &"", folder.display().to_string());
        offers.push(Offer { note: keeper, socket, number: None });
        if let Some(warden) = warden {
            let socket = warden.try_clone().map_err(&none)?;
            offers.push(Offer { note: note(Kind::Warden, "", &"", String::new()), socket, number: None });
        }
    }
    offers.push(Offer { note: note(Kind::Forward, "", &"", String::new()), socket: forward, number: None });
    Ok(offers)
}

/// The listener in UDP mode that is bound to `address`: its name, and its address as written.
fn udp_listener(shared: &Shared, address: std::net::SocketAddr) -> (String, std::net::SocketAddr) {
    let facts = shared.facts.get().map(|facts| &facts.listeners[..]).unwrap_or_default();
    let bound = address.to_string();
    // The facts begin with the listeners, in the order of the config.
    let mut known = shared.config.listeners.iter().zip(facts);
    let found = known.find(|(listener, fact)| listener.udp.is_some() && fact.address == bound);
    found.map_or_else(|| (String::new(), address), |(listener, _)| (listener.name.clone(), listener.address))
}

fn note(kind: Kind, name: &str, asked: &dyn std::fmt::Display, address: String) -> SocketNote {
    SocketNote { kind, name: name.into(), asked: asked.to_string(), address }
}

/// The listening sockets of all workers, in the order of these.
fn of_workers(present: &Present<'_>) -> Result<Vec<Offer>, String> {
    let config = &present.shared.config;
    let mut offers = Vec::new();
    for worker in present.workers {
        let (answer, answered) = mpsc::channel();
        order_all(std::slice::from_ref(worker), || Control::Sockets(answer.clone()))?;
        drop(answer);
        let held = answered.recv_timeout(WORKERS_MAX).map_err(|_| "a data worker does not tell its sockets")?;
        for HeldSocket { of, number, socket } in held {
            let bound = crate::runtime::net::bound_address(&socket).map_err(plain("a socket has no address"))?;
            let named = match of {
                SocketOf::Slot(slot) => {
                    let index = present.slots.iter().position(|known| *known == slot);
                    index.map(|index| &config.listeners[index]).map(|l| (l.name.as_str(), Address::Tcp(l.address)))
                }
                SocketOf::Splitter(name) => {
                    let splitter = config.splitters.iter().find(|splitter| splitter.name == name);
                    let asked =
                        |splitter: &&Splitter| splitter.listen.iter().find(|asked| is_bound_to(asked, &bound)).cloned();
                    splitter.and_then(|splitter| Some((splitter.name.as_str(), asked(&splitter)?)))
                }
            };
            let Some((name, asked)) = named else { continue };
            offers.push(Offer {
                note: note(Kind::Listener, name, &asked, bound.to_string()),
                socket,
                number: Some(number),
            });
        }
    }
    Ok(offers)
}

fn is_bound_to(asked: &Address, bound: &Address) -> bool {
    match (asked, bound) {
        (Address::Tcp(asked), Address::Tcp(bound)) if asked.port() == 0 => asked.ip() == bound.ip(),
        _ => asked == bound,
    }
}

/// What the operator has added and removed.
fn changes(shared: &Shared) -> Vec<ChangeNote> {
    let added = |server: &Server| AddedNote {
        address: server.address.to_string(),
        weight: server.weight,
        tier: (!server.backup).then_some(server.tier),
        requests_max: server.requests_max,
    };
    let mut notes = Vec::new();
    for (upstream, ChangedServers { added: servers, removed }) in Changes::of(&shared.config).0 {
        let note = || ChangeNote { upstream: upstream.clone(), ..ChangeNote::default() };
        let added = servers.chunks(SERVERS_MAX).map(|some| some.iter().map(added).collect());
        notes.extend(added.map(|added| ChangeNote { added, ..note() }));
        let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
        notes.extend(removed.chunks(SERVERS_MAX).map(|some| ChangeNote { removed: some.to_vec(), ..note() }));
    }
    notes
}

/// Servers of which there is something to tell.
fn servers(shared: &Shared) -> Vec<ServerNote> {
    let mut notes = Vec::new();
    // Parts of applications are what these are, which are others there.
    let all = shared.config.upstreams.iter().zip(&shared.servers);
    let upstreams = all.filter(|(upstream, _)| !upstream.is_of_application());
    for (upstream, states) in upstreams {
        for (server, state) in upstream.servers.iter().zip(states) {
            let is_set = state.weight_set().is_some() || state.limit_set().is_some();
            if state.admin() != AdminState::Ready || !state.passes_checks() || is_set {
                notes.push(ServerNote {
                    upstream: upstream.name.clone(),
                    server: server.address.to_string(),
                    admin: state.admin().name().into(),
                    up: state.passes_checks(),
                    reason: state.told().reason,
                    weight: state.weight_set(),
                    is_limit_set: state.limit_set().is_some(),
                    limit: state.limit_set().flatten(),
                });
            }
        }
    }
    notes
}

/// Brings datagrams from the other process to the workers that have their connections; those of the process before this one
/// go on to it. Ends with this process. Must run on the control thread.
pub(in super::super) async fn deliver(
    forwarded: UnixDatagram,
    keys: QuicKeys,
    workers: Vec<Sender<crate::worker::Datagram>>,
    before: Option<Arc<UnixDatagram>>,
) {
    let socket = forwarded.set_nonblocking(true).and_then(|()| tokio::net::UnixDatagram::from_std(forwarded));
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "datagrams of HTTP/3 connections are lost"),
    };
    let mut bytes = vec![0; crate::runtime::udp::RECEIVE_BYTES_MAX + 64];
    loop {
        let Ok(count) = socket.recv(&mut bytes).await else { return };
        match find_owner(&keys, &bytes[..count]) {
            Some(Passed::Here(worker, datagram)) => {
                // As on a network that is full: its sender finds out.
                if let Some(worker) = workers.get(worker) {
                    drop(worker.send(datagram));
                }
            }
            Some(Passed::Before) => {
                if let Some(before) = &before {
                    drop(before.send(&bytes[..count]));
                }
            }
            None => {}
        }
    }
}
