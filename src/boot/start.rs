//! Start of the process, its control thread, and its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc as mpsc_of_tokio, watch};

use super::app_workers;
use super::certificates::Certificates;
use super::cores::place;
use super::names;
use super::notify::Notify;
use super::privileges;
use super::reload::{self, Asked, Kept, Logs, Reloader};
use super::signals::{Order, Signals};
use super::sockets::{Paths, bind};
use super::source::Source;
use super::splitters::{Desk, Monitors};
use super::takeover::{self, Estate, HandedOver, Inherited, Predecessor, Takeovers};
use crate::app::{Registry, TellDraining, draining};
use crate::config::Config;
use crate::control::Shared;
use crate::control::processes::{self, Staff};
use crate::control::shared::{Phase, StartFacts, WorkerFacts, WorkerRole};
use crate::control::{ctl, haproxy};
use crate::log;
use crate::runtime::driver::{DataRuntime, DriverFacts};
use crate::runtime::helpers::Helpers;
use crate::runtime::mailbox::{Sender, mailbox};
use crate::runtime::net::Address;
use crate::runtime::{cores, sys};
use crate::tls::Secrets;
use crate::worker::{Control, Datagram, Drain, KeySecrets, QuicKeys, Seat, TICK};

/// Why the process could not start.
#[derive(Debug)]
pub(super) enum StartError {
    /// A core of the config is not there or not ours.
    NoSuchCore { name: &'static str, core: usize, allowed: Vec<usize> },
    /// Nothing left for one of the roles.
    NoCoreLeft { allowed: Vec<usize> },
    /// No program of this name is built in.
    NoSuchProgram { app: String, program: String, known: Vec<String> },
    /// A listening socket cannot be had.
    Bind { name: String, address: Address, error: io::Error },
    /// A data worker ended although nobody told it to: with it a share of the connections is lost, so the process ends
    /// and whoever supervises it starts it again.
    WorkerDied,
    /// A thread or its runtime cannot be had.
    Thread { name: String, error: io::Error },
    /// Certificates or keys of a listener cannot be used.
    Tls { listener: String, error: crate::tls::TlsError },
    /// The access log cannot be opened.
    Log(log::LogError),
    /// The process cannot become the user of the config.
    User(String),
    /// Applications that are processes of their own cannot be started.
    Programs(String),
    /// The process that was to be taken over does not hand over.
    Takeover(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::NoSuchCore { name, core, allowed } => {
                write!(f, "core {core} of `{name}` is not available: this process may use {allowed:?}")
            }
            StartError::NoCoreLeft { allowed } => {
                write!(
                    f,
                    "no core is left for one of the roles: {allowed:?} are available; use `app_placement = \"paired\"` or other cores"
                )
            }
            StartError::NoSuchProgram { app, program, known } => {
                write!(f, "application `{app}` names program `{program}`, which is not built in: known are {known:?}")
            }
            StartError::Bind { name, address, error } => {
                write!(f, "cannot listen on {address} (listener `{name}`): {error}")?;
                f.write_str(match error.kind() {
                    io::ErrorKind::AddrInUse => "; another process has it, see `ss -lntup`",
                    io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
                    io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
                    _ => "",
                })
            }
            StartError::WorkerDied => {
                f.write_str("a data worker ended by itself: the process cannot serve its share and ends")
            }
            StartError::Thread { name, error } => write!(f, "{name} cannot start: {error}"),
            StartError::Tls { listener, error } => write!(f, "TLS of listener `{listener}` cannot be set up: {error}"),
            StartError::Log(error) => error.fmt(f),
            StartError::User(reason) | StartError::Programs(reason) => f.write_str(reason),
            StartError::Takeover(error) => write!(f, "nothing could be taken over from the process before: {error}"),
        }
    }
}

/// How long the end of the process waits for a data worker, which may be stuck in a dead file system.
const WORKER_STOP_MAX: Duration = Duration::from_secs(2);

/// Threads for directory listings, slow password hashes and whatever else would hold up a data worker.
const HELPERS: usize = 2;

/// Jobs that may wait for them; beyond it requests are answered with 503.
const HELPER_QUEUE: usize = 256;

/// Datagrams of QUIC that may wait for a worker whose connections they belong to; more are dropped.
const DATAGRAMS_MAX: usize = 1024;

/// Accepted connections that may wait for a worker with fewer of them; beyond it they stay where they are.
const HANDED_MAX: usize = 256;

/// How long the end of the process waits for a log that is not taken.
const LOG_STOP_MAX: Duration = Duration::from_secs(2);

/// The threads of the process and the way to them.
struct Threads {
    data: Vec<JoinHandle<()>>,
    orders: Vec<Sender<Control>>,
}

impl Threads {
    /// Lets the data workers accept connections.
    async fn begin(&self) {
        let mut untold: Vec<_> = self.orders.iter().collect();
        loop {
            untold.retain(|order| order.send(Control::Begin).is_err());
            if untold.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends when a data worker has ended.
    async fn one_ended(&self) {
        while self.data.iter().all(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

pub(super) fn run(mut config: Config, apps: &Registry, source: Option<Source>) -> Result<(), StartError> {
    // A program that has us as a library may have a subscriber of its own: then that one stays.
    if let Err(log::InitError::Thread(error)) = log::init(tracing::level_filters::LevelFilter::INFO) {
        return Err(StartError::Thread { name: "own-log".into(), error });
    }
    if let Err(error) = sys::limits::disable_huge_pages() {
        tracing::warn!(%error, "fall-back: the kernel may use huge pages, idle connections take more memory");
    }
    let open_files = sys::limits::raise_open_files();
    let mut inherited = Inherited::take().map_err(StartError::Takeover)?;
    let notify = Notify::from_env();
    let allowed = cores::allowed().map_err(|error| StartError::Thread { name: "process".into(), error })?;
    let placement = place(&config.process, &allowed, app_workers::are_needed(&config))?;
    let programs = app_workers::find_programs(&config, apps)?;
    let account = privileges::account(config.process.run_as.as_ref())?;
    let staff = Staff::engage(&mut config, account.as_ref(), inherited.keeper()).map_err(StartError::Programs)?;
    let mut sockets = bind(&config, placement.data.len(), &mut inherited)?;
    let changes = inherited.changes();
    let (config, names) =
        names::resolve(config, &changes).map_err(|error| StartError::Thread { name: "names".into(), error })?;
    let config = Arc::new(config);
    let shared = Arc::new(Shared::new(config.clone(), placement.data.len(), app_workers::count(&config, &placement)));
    let access_log =
        log::Writer::start(&config, &shared.workers, shared.log_writer.clone()).map_err(StartError::Log)?;
    let (writer, mut outboxes) = access_log.map_or((None, Vec::new()), |(writer, logs)| (Some(writer), logs));
    inherited.apply_states(&shared);
    let mut estate = Estate {
        admin: clone_of(sockets.admin.as_ref(), std::net::TcpListener::try_clone)?,
        control: clone_of(sockets.control.as_ref(), std::os::unix::net::UnixListener::try_clone)?,
        stats: clone_of(sockets.stats.as_ref(), std::os::unix::net::UnixListener::try_clone)?,
        quic_keys: None,
        keeper: None,
        ticket_seed: inherited.ticket_seed().unwrap_or_else(Secrets::random_seed),
    };
    let mut certificates = Certificates::new(config.clone(), Secrets::from_seed(&estate.ticket_seed));
    let materials = certificates.load().map_err(|(listener, error)| StartError::Tls { listener, error })?;
    shared.set_certificates(certificates.facts(&materials));
    // What only root may open is open. Those who serve requests begin behind this.
    if let Some(account) = &account {
        sockets.paths.iter().try_for_each(|path| privileges::give(path, account))?;
        privileges::drop_to(account)?;
    }
    let helpers =
        Helpers::start(HELPERS, HELPER_QUEUE).map_err(|error| StartError::Thread { name: "helper".into(), error })?;
    let hasher = crate::guard::Hasher::start(HELPER_QUEUE)
        .map_err(|error| StartError::Thread { name: "hasher".into(), error })?;
    let hasher = Arc::new(hasher);
    let desk = Desk::new(&config, placement.data.len());
    desk.register(&shared);

    let mut facts = Vec::new();
    let (data_seats, origins) = app_workers::answer_routes(&config, &placement);
    let (tell_apps, draining) = draining();
    let apps = app_workers::start(&config, &shared, &placement, &programs, (origins, draining), &mut facts)?;
    let connections = Arc::new(AtomicUsize::new(0));
    let mut threads = Threads { data: Vec::new(), orders: Vec::new() };
    let quic_keys = QuicKeys::new(inherited.quic_secrets().unwrap_or_else(KeySecrets::random));
    let quic_before = inherited.quic_before().map(Arc::new);
    estate.quic_keys = Some(quic_keys.clone());
    let (datagram_senders, mut datagram_boxes): (Vec<_>, Vec<_>) =
        (0..placement.data.len()).map(|_| mailbox(DATAGRAMS_MAX)).unzip();
    let (handed_senders, mut handed_boxes): (Vec<_>, Vec<_>) =
        (0..placement.data.len()).map(|_| mailbox(HANDED_MAX)).unzip();
    for (index, (replies, tickets)) in data_seats.into_iter().enumerate().rev() {
        let (Some(datagrams), Some(handed)) = (datagram_boxes.pop(), handed_boxes.pop()) else {
            unreachable!("one for each worker")
        };
        let (order, control) = mailbox(16);
        let seat = Seat {
            index,
            shared: shared.clone(),
            listeners: std::mem::take(&mut sockets.http[index]),
            quic: std::mem::take(&mut sockets.quic[index]),
            flows: std::mem::take(&mut sockets.flows[index]),
            quic_keys: quic_keys.clone(),
            quic_before: quic_before.clone(),
            datagrams,
            datagram_senders: datagram_senders.clone(),
            handed,
            handed_senders: handed_senders.clone(),
            tls: materials.clone(),
            splitters: std::mem::take(&mut sockets.mysql[index]),
            mysql: desk.known(),
            control,
            app_workers: apps.mailboxes.clone(),
            ways: apps.ways.clone(),
            paired: placement.paired(index),
            replies,
            tickets,
            outbox: outboxes.pop(),
            helpers: helpers.clone(),
            hasher: hasher.clone(),
            connections: connections.clone(),
            request_id_seed: rand::random(),
        };
        threads.orders.push(order);
        // With an application worker on its own core, wake-ups from other cores are the exception.
        let core = placement.data[index];
        let woken_across = !placement.app.is_empty() && !placement.app.contains(&core);
        let (thread, worker_facts) = start_data_worker(&config, seat, core, woken_across)?;
        threads.data.push(thread);
        facts.push(worker_facts);
    }
    // By worker, as everything else that a reload brings for each of them: a socket goes back to the one that had it.
    threads.orders.reverse();
    start_clock(threads.orders.clone())?;
    facts.sort_by_key(|facts| (facts.role == WorkerRole::App, facts.index));
    let facts = StartFacts {
        version: env!("CARGO_PKG_VERSION").into(),
        workers: facts,
        listeners: std::mem::take(&mut sockets.facts),
        limits: limits(&config, open_files),
    };
    announce(&facts, &config, open_files);
    drop(shared.facts.set(facts));
    let kept = Kept { certificates, materials, names, changes, splitters: desk };
    let orders = threads.orders.clone();
    let logs = Logs::new(writer);
    let paths = Paths::new(sockets.paths);
    let reloader = Reloader::new(source, shared, kept, orders, sockets.udp_ports, logs, open_files);
    let (supervisor, inbox) = processes::handle();
    let reloader =
        reloader.with_paths(paths.clone()).with_estate(estate).with_programs(supervisor.clone(), staff.places());
    let programs = Programs { staff, supervisor, inbox, tell_apps };
    let taken = inherited.settle();
    let predecessor = inherited.from.map(|from| Before { from, taken, idle: inherited.idle() });
    let ears = Ears { admin: sockets.admin, control: sockets.control, stats: sockets.stats };
    let forwards = Forwards { keys: quic_keys, workers: datagram_senders, before: quic_before };
    let outside = Outside { ears, forwards, notify, predecessor, programs };
    let result = control_thread(threads, outside, reloader, &paths);
    log::flush(LOG_STOP_MAX);
    paths.remove(|_| true);
    result
}

/// The limits that the status page tells.
pub(super) fn limits(config: &Config, open_files: u64) -> Vec<(&'static str, u64)> {
    vec![
        ("connections_max", config.process.connections_max as u64),
        ("connections_per_address_max", config.http.connections_per_address_max.into()),
        ("open_files", open_files),
        ("head_bytes_max", config.http.head_bytes_max as u64),
        ("body_bytes_max", config.http.body_bytes_max),
    ]
}

fn start_data_worker(
    config: &Arc<Config>,
    seat: Seat,
    core: usize,
    woken_across: bool,
) -> Result<(JoinHandle<()>, WorkerFacts), StartError> {
    let (choice, entries, index) = (config.process.driver, config.process.ring_entries, seat.index);
    let (report, reported) = mpsc::channel();
    let name = format!("data-{index}");
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        log::never_block();
        let built = cores::pin(core).and_then(|()| DataRuntime::build(choice, entries, woken_across));
        match built {
            Ok((mut runtime, facts)) => {
                drop(report.send(Ok(facts)));
                runtime.block_on(crate::worker::run(seat));
            }
            Err(error) => drop(report.send(Err(error))),
        }
    });
    let thread = spawned.map_err(|error| StartError::Thread { name: name.clone(), error })?;
    let driver = await_start(&name, &reported)?;
    Ok((thread, worker_facts(WorkerRole::Data, index, Some(core), driver)))
}

/// Tells every data worker ten times a second that time has passed. A full mailbox misses a tick: its worker is busy
/// with earlier ones.
fn start_clock(workers: Vec<Sender<Control>>) -> Result<(), StartError> {
    let tick = move || {
        loop {
            std::thread::sleep(TICK);
            for worker in &workers {
                let _ = worker.send(Control::Tick);
            }
        }
    };
    let spawned = std::thread::Builder::new().name("clock".into()).spawn(tick);
    spawned.map(drop).map_err(|error| StartError::Thread { name: "clock".into(), error })
}

pub(super) fn await_start(
    name: &str,
    reported: &mpsc::Receiver<io::Result<DriverFacts>>,
) -> Result<DriverFacts, StartError> {
    let facts = reported.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
    facts.map_err(|error| StartError::Thread { name: name.to_owned(), error })
}

pub(super) fn worker_facts(role: WorkerRole, index: usize, core: Option<usize>, facts: DriverFacts) -> WorkerFacts {
    let flags = facts.flags.split('|').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
    WorkerFacts { role, index, core, app: None, driver: facts.driver, flags, fallback: facts.fallback }
}

/// The start-up lines: what runs, where, on what, and what fell back.
fn announce(facts: &StartFacts, config: &Config, open_files: u64) {
    let pid = std::process::id();
    tracing::info!(version = %facts.version, pid, "one-server starts");
    for worker in &facts.workers {
        let (role, index) = (worker.role.name(), worker.index);
        let (core, app) = (worker.core, worker.app.as_deref().map(tracing::field::display));
        tracing::info!(role, index, core, app, driver = worker.driver, flags = %worker.flags.join("|"), "worker");
        if let Some(reason) = &worker.fallback {
            tracing::warn!(role, index, driver = worker.driver, "fall-back: {reason}");
        }
    }
    for listener in &facts.listeners {
        tracing::info!(name = %listener.name, kind = listener.kind, address = %listener.address, "listening");
    }
    let connections_max = config.process.connections_max;
    let flows_max: usize = config.listeners.iter().filter_map(|l| l.udp.as_ref()).map(|udp| udp.flows_max).sum();
    let needed = 2 * connections_max as u64 + flows_max as u64 + 256;
    tracing::info!(
        connections_max,
        open_files,
        body_max = config.http.body_bytes_max,
        head_max = config.http.head_bytes_max,
        "limits"
    );
    if open_files < needed {
        tracing::warn!(
            open_files,
            connections_max,
            "fewer open files allowed than connections may need: raise `ulimit -n` to {needed} or lower --connections-max"
        );
    }
}

fn clone_of<T>(socket: Option<&T>, try_clone: impl Fn(&T) -> io::Result<T>) -> Result<Option<T>, StartError> {
    socket.map(try_clone).transpose().map_err(|error| StartError::Thread { name: "control".into(), error })
}

/// What the control thread has to do with others.
struct Outside {
    ears: Ears,
    forwards: Forwards,
    notify: Notify,
    predecessor: Option<Before>,
    programs: Programs,
}

/// The process from which this one takes over.
struct Before {
    from: &'static Predecessor,
    /// Numbers of what was taken of its sockets.
    taken: Vec<usize>,
    /// Its applications that do not serve.
    idle: Vec<String>,
}

/// Applications that are processes of their own, and who looks after them; the way to those inside this one.
struct Programs {
    staff: Staff,
    supervisor: processes::Handle,
    inbox: processes::Inbox,
    tell_apps: TellDraining,
}

/// What datagrams from a later process need to find their way.
struct Forwards {
    keys: QuicKeys,
    workers: Vec<Sender<Datagram>>,
    before: Option<Arc<std::os::unix::net::UnixDatagram>>,
}

/// Where the control thread is spoken to.
struct Ears {
    admin: Option<std::net::TcpListener>,
    control: Option<std::os::unix::net::UnixListener>,
    stats: Option<std::os::unix::net::UnixListener>,
}

/// Orders from `one-server ctl` that wait; each of its connections has one at a time.
const ORDERS_MAX: usize = 16;

/// How long programs that start are waited for before anybody is served. Service managers wait for 90 s, as a rule.
const PROGRAMS_WAIT: Duration = Duration::from_secs(30);

/// The control thread's life: admin, checks, monitoring, reloads, signals; then the end. `paths` keeps the Unix sockets that
/// are this process's to remove.
fn control_thread(threads: Threads, outside: Outside, mut reloader: Reloader, paths: &Paths) -> Result<(), StartError> {
    let Outside { ears, forwards, mut notify, predecessor, programs } = outside;
    let Programs { staff, supervisor, inbox, tell_apps } = programs;
    // Its lines are those of applications, too.
    log::never_block();
    let error = |error| StartError::Thread { name: "control".into(), error };
    // Nor do those wait for a reader of the log that it has read files.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(log::never_block)
        .build()
        .map_err(error)?;
    let (live, logs) = (reloader.live(), reloader.logs());
    let order = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        // Ends before the rest where another process takes over.
        let (fall_silent, silent) = watch::channel(false);
        let mut takeovers = Takeovers::default();
        let mut signals = Signals::new().map_err(error)?;
        tokio::spawn(processes::run(live.clone(), staff, inbox));
        // Requests come when they can be served; whoever does not want to wait for that says so.
        // Those that take long keep nobody from the rest; but who takes over does not take over half of it.
        let patience = if predecessor.is_none() { PROGRAMS_WAIT } else { Duration::MAX };
        let prepared = tokio::time::timeout(patience, supervisor.prepare(live.borrow().clone()));
        let (mut early, idle) = tokio::select! {
            idle = prepared => (None, idle.unwrap_or_default()),
            order = signals.next() => (Some(order), Vec::new()),
        };
        if let Some(Before { from, taken, idle: were_idle }) = &predecessor {
            if let Some(app) = idle.iter().find(|app| !were_idle.contains(app)) {
                supervisor.end().await;
                // Its sockets stay where they are.
                paths.retain(|_| false);
                return Err(StartError::Programs(format!(
                    "application `{app}` does not start in the new process, see its output: that which serves goes on"
                )));
            }
            if let Err(error) = from.wait_to_begin(taken.clone()) {
                paths.retain(|_| false);
                return Err(StartError::Takeover(error));
            }
        }
        let predecessor = predecessor.map(|before| before.from);
        if let Some(socket) = ears.admin {
            let listener = tokio::net::TcpListener::from_std(socket).map_err(error)?;
            tokio::spawn(crate::control::admin::serve(listener, live.clone(), silent.clone()));
        }
        tokio::spawn(crate::control::checks::run(live.clone(), rand::random(), stopped.clone()));
        tokio::spawn(crate::control::tiers::run(live.clone(), stopped.clone()));
        reloader.watch_splitters(Monitors::new(stopped.clone()));
        let (ask, asked) = mpsc_of_tokio::channel(ORDERS_MAX);
        let (order, mut ordered) = mpsc_of_tokio::channel(ORDERS_MAX);
        let (file, orders) = (reloader.file(), order.clone());
        let desk = ctl::Desk { live: live.clone(), file, orders, programs: supervisor.clone() };
        if let Some(socket) = ears.control {
            let listener = tokio::net::UnixListener::from_std(socket).map_err(error)?;
            tokio::spawn(ctl::serve(listener, desk.clone(), silent.clone()));
        }
        let level = live.borrow().config.process.stats_socket.as_ref().map(|socket| socket.level);
        if let (Some(socket), Some(level)) = (ears.stats, level) {
            let listener = tokio::net::UnixListener::from_std(socket).map_err(error)?;
            tokio::spawn(haproxy::serve(listener, desk, level, silent.clone()));
        }
        if predecessor.is_some() {
            // What the operator had set there.
            drop(ask.try_send(Asked::for_limits(tokio::sync::oneshot::channel().0)));
        }
        tokio::spawn(reload::run(reloader, asked, notify.clone()));
        if let Some(every) = notify.watchdog() {
            let notify = notify.clone();
            tokio::spawn(async move {
                loop {
                    notify.alive();
                    tokio::time::sleep(every).await;
                }
            });
        }
        threads.begin().await;
        live.borrow().set_phase(Phase::Ready);
        match predecessor {
            Some(predecessor) => predecessor.serving(),
            None => notify.ready(),
        }
        tracing::info!("ready");
        let order = loop {
            let order = tokio::select! {
                order = async { early.take() }, if early.is_some() => order.unwrap_or(Order::Stop),
                order = signals.next() => order,
                handed = takeovers.handed_over(|| live.borrow().clone()) => break Ending::HandedOver(handed),
                Some(order) = ordered.recv() => match order {
                    ctl::Order::Reload(answer) if takeovers.is_under_way() => {
                        drop(answer.send(Err(ctl::Refusal::plain(TAKEOVER_FIRST))));
                        continue;
                    }
                    // The sender is dropped, which tells whoever asked.
                    ctl::Order::Limits(_) if takeovers.is_under_way() => continue,
                    ctl::Order::Upgrade(answer) => {
                        if let Some(requested) = takeovers.begin(Some(answer)) {
                            drop(ask.try_send(Asked::Takeover(requested)));
                        }
                        continue;
                    }
                    ctl::Order::Reload(answer) => {
                        // A full queue drops the answer's sender, which tells whoever asked.
                        drop(ask.try_send(Asked::by(answer)));
                        continue;
                    }
                    ctl::Order::Servers(change, answer) => {
                        drop(ask.try_send(Asked::Servers(change, answer)));
                        continue;
                    }
                    ctl::Order::Limits(done) => {
                        drop(ask.try_send(Asked::for_limits(done)));
                        continue;
                    }
                    ctl::Order::Shutdown { drains: true } => Order::Drain,
                    ctl::Order::Shutdown { drains: false } => Order::Stop,
                },
                () = threads.one_ended() => Order::WorkerDied,
            };
            match order {
                Order::WorkerDied => {
                    takeovers.abort();
                    return Err(StartError::WorkerDied);
                }
                Order::TakeOver => {
                    tracing::info!("SIGUSR2: another process is started to take over");
                    match takeovers.begin(None) {
                        Some(requested) => drop(ask.try_send(Asked::Takeover(requested))),
                        None => tracing::warn!("a takeover is under way already"),
                    }
                }
                Order::Reload if takeovers.is_under_way() => tracing::error!("SIGHUP: not reloaded: {TAKEOVER_FIRST}"),
                Order::Reload => {
                    tracing::info!("SIGHUP: the config is read again");
                    // When it is asked for more often than it can be done, the last one does for all.
                    drop(ask.try_send(Asked::by_signal()));
                }
                Order::ReopenLogs => logs.reopen(),
                Order::Drain => break Ending::Drain,
                Order::Stop => break Ending::Stop,
            }
        };
        takeovers.abort();
        let how = order.how();
        let shared = live.borrow().clone();
        if !matches!(order, Ending::Stop) {
            tell_apps.begin();
        }
        match &order {
            Ending::HandedOver(handed) => {
                notify.taken_over(handed.pid);
                paths.retain(|path| !handed.paths.contains(path));
                drop(fall_silent);
                let Forwards { keys, workers, before } = forwards;
                match handed.forwarded.try_clone() {
                    Ok(forwarded) => drop(tokio::spawn(takeover::deliver(forwarded, keys, workers, before))),
                    Err(error) => tracing::error!(%error, "datagrams of HTTP/3 connections are lost"),
                }
                drain(&shared, &threads, &mut signals, &mut ordered, &logs, &handed.drain).await;
            }
            Ending::Drain => {
                notify.stopping();
                let deadline = shared.config.process.drain_timeout;
                let order = Drain { deadline, ..Drain::default() };
                drain(&shared, &threads, &mut signals, &mut ordered, &logs, &order).await;
            }
            Ending::Stop => notify.stopping(),
        }
        live.borrow().set_phase(Phase::Stopping);
        drop(stop);
        Ok((how, order))
    })?;
    tracing::info!(how = order.0, "one-server ends");
    let mut untold: Vec<_> = threads.orders.iter().collect();
    let deadline = Instant::now() + WORKER_STOP_MAX;
    while threads.data.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        untold.retain(|order| order.send(Control::Stop).is_err());
        std::thread::sleep(Duration::from_millis(2));
    }
    // Nobody asks them any more.
    runtime.block_on(supervisor.end());
    if !logs.stop(LOG_STOP_MAX) {
        tracing::warn!(waited_s = LOG_STOP_MAX.as_secs(), "access log stalls: its last lines are lost");
    }
    Ok(())
}

/// What a takeover keeps from being done.
const TAKEOVER_FIRST: &str = "a takeover by another process is under way: try again when it is over";

/// How the process comes to its end.
enum Ending {
    Stop,
    Drain,
    /// Drained as well, while another one serves.
    HandedOver(HandedOver),
}

impl Ending {
    fn how(&self) -> &'static str {
        match self {
            Ending::Stop => "stopped",
            Ending::Drain => "drained",
            Ending::HandedOver(_) => "taken over",
        }
    }
}

/// Lets the data workers finish. A second order ends it, and so does a worker that heeds nobody.
async fn drain(
    shared: &Shared,
    threads: &Threads,
    signals: &mut Signals,
    ordered: &mut mpsc_of_tokio::Receiver<ctl::Order>,
    logs: &Logs,
    order: &Drain,
) {
    shared.set_phase(Phase::Draining);
    let deadline = order.deadline;
    tracing::info!(timeout_s = deadline.as_secs(), "draining: no new connections, requests in flight are finished");
    let done = async {
        // A worker's mailbox may be full of ticks while it is busy; it must not miss this.
        let mut untold: Vec<_> = threads.orders.iter().collect();
        while !untold.is_empty() || threads.data.iter().any(|thread| !thread.is_finished()) {
            untold.retain(|worker| worker.send(Control::Drain(order.clone())).is_err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::pin!(done);
    let too_long = tokio::time::sleep(deadline + WORKER_STOP_MAX);
    tokio::pin!(too_long);
    loop {
        tokio::select! {
            () = &mut done => return,
            () = &mut too_long => return tracing::warn!("drain ends: a worker does not come to its end"),
            order = signals.next() => match order {
                Order::Stop => return tracing::warn!("drain cut short by a signal"),
                Order::ReopenLogs => logs.reopen(),
                _ => {}
            },
            // A reload is refused by dropping where its answer would go.
            Some(order) = ordered.recv() => if let ctl::Order::Shutdown { drains: false } = order {
                return tracing::warn!("drain cut short by the control socket");
            },
        }
    }
}
