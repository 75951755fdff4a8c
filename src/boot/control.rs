//! The control thread: everything beside the path of requests, the orders that the process gets, and its end.

use std::io;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::notify::Notify;
use super::reload::{self, Asked, Logs, Reloader};
use super::signals::{Order, Signals};
use super::sockets::Paths;
use super::splitters::Monitors;
use super::start::{LOG_STOP_MAX, StartError, cannot_start};
use super::takeover::{self, HandedOver, Predecessor, Takeovers};
use super::workers::{Threads, WORKER_STOP_MAX};
use crate::app::TellDraining;
use crate::control::processes::{self, Staff};
use crate::control::shared::Phase;
use crate::control::{Shared, admin, checks, ctl, haproxy, tiers};
use crate::log;
use crate::runtime::mailbox::Sender;
use crate::worker::{Datagram, Drain, QuicKeys};

/// The config in use, and what belongs to it.
type Live = watch::Receiver<Arc<Shared>>;

/// What the control thread has to do with others.
pub(super) struct Outside {
    pub(super) ears: Ears,
    pub(super) forwards: Forwards,
    pub(super) notify: Notify,
    pub(super) predecessor: Option<Before>,
    pub(super) programs: Programs,
}

/// The process from which this one takes over.
pub(super) struct Before {
    pub(super) from: &'static Predecessor,
    /// Numbers of what was taken of its sockets.
    pub(super) taken: Vec<usize>,
    /// Its applications that do not serve.
    pub(super) idle: Vec<String>,
}

/// Applications that are processes of their own, and who looks after them; the way to those inside this one.
pub(super) struct Programs {
    pub(super) staff: Staff,
    pub(super) supervisor: processes::Handle,
    pub(super) inbox: processes::Inbox,
    pub(super) tell_apps: TellDraining,
}

/// What datagrams from a later process need to find their way.
pub(super) struct Forwards {
    pub(super) keys: QuicKeys,
    pub(super) workers: Vec<Sender<Datagram>>,
    pub(super) before: Option<Arc<UnixDatagram>>,
}

/// Where the control thread is spoken to.
pub(super) struct Ears {
    pub(super) admin: Option<std::net::TcpListener>,
    pub(super) control: Option<UnixListener>,
    pub(super) stats: Option<UnixListener>,
}

/// What a takeover keeps from being done.
const TAKEOVER_FIRST: &str = "a takeover by another process is under way: try again when it is over";

/// Orders from `one-server ctl` that wait; each of its connections has one at a time.
const ORDERS_MAX: usize = 16;

/// How long programs that start are waited for before anybody is served. Service managers wait for 90 s, as a rule.
const PROGRAMS_WAIT: Duration = Duration::from_secs(30);

/// The control thread's life: admin, checks, monitoring, reloads, signals; then the end. `paths` keeps the Unix sockets that
/// are this process's to remove.
pub(super) fn run(threads: &Threads, outside: Outside, reloader: Reloader, paths: &Paths) -> Result<(), StartError> {
    // Its lines are those of applications, too.
    log::never_block();
    // Nor do those wait for a reader of the log that it has read files.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(log::never_block)
        .build()
        .map_err(cannot_start("control"))?;
    let (logs, supervisor) = (reloader.logs(), outside.programs.supervisor.clone());
    // Whoever took over is told by its drop that this process has ended.
    let ending = runtime.block_on(live(threads, outside, reloader, paths))?;
    tracing::info!(how = ending.how(), "one-server ends");
    threads.stop();
    // Nobody asks them any more.
    runtime.block_on(supervisor.end());
    if !logs.stop(LOG_STOP_MAX) {
        tracing::warn!(waited_s = LOG_STOP_MAX.as_secs(), "access log stalls: its last lines are lost");
    }
    Ok(())
}

/// From the first task to the last; returns how it ended.
async fn live(
    threads: &Threads,
    outside: Outside,
    mut reloader: Reloader,
    paths: &Paths,
) -> Result<Ending, StartError> {
    let Outside { ears, forwards, notify, predecessor, programs } = outside;
    let Programs { staff, supervisor, inbox, tell_apps } = programs;
    let (live, logs) = (reloader.live(), reloader.logs());
    let (stop, stopped) = watch::channel(false);
    // Ends before the rest where another process takes over.
    let (fall_silent, silent) = watch::channel(false);
    let mut signals = Signals::new().map_err(cannot_start("control"))?;
    let supervising = tokio::spawn(processes::run(live.clone(), staff, inbox));
    let early = get_ready(&live, &supervisor, &mut signals, predecessor.as_ref(), paths).await?;
    let predecessor = predecessor.map(|before| before.from);

    let (ask, asked) = mpsc::channel(ORDERS_MAX);
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let desk = ctl::Desk { live: live.clone(), file: reloader.file(), orders, programs: supervisor };
    ears.listen(&live, desk, &silent).map_err(cannot_start("control"))?;
    tokio::spawn(checks::run(live.clone(), rand::random(), stopped.clone()));
    tokio::spawn(tiers::run(live.clone(), stopped.clone()));
    reloader.watch_splitters(Monitors::new(stopped));
    if predecessor.is_some() {
        // What the operator had set there.
        drop(ask.try_send(Asked::for_limits(tokio::sync::oneshot::channel().0)));
    }
    tokio::spawn(reload::run(reloader, asked, notify.clone()));
    feed_watchdog(&notify);
    threads.begin().await;
    live.borrow().set_phase(Phase::Ready);
    match predecessor {
        Some(predecessor) => predecessor.serving(),
        None => notify.ready(),
    }
    tracing::info!("ready");

    let takeovers = Takeovers::default();
    let mut helm = Helm { threads, live, logs, signals, ordered, ask, takeovers, supervising };
    let ending = helm.steer(early).await?;
    let mut farewell = Farewell { tell_apps, notify, paths, fall_silent: Some(fall_silent), forwards: Some(forwards) };
    helm.end(&ending, &mut farewell).await;
    helm.live.borrow().set_phase(Phase::Stopping);
    drop(stop);
    Ok(ending)
}

/// Waits for programs and for the process before this one, where there are such. Requests come when they can be served;
/// whoever does not want to wait for that says so: then its order is returned.
async fn get_ready(
    live: &Live,
    supervisor: &processes::Handle,
    signals: &mut Signals,
    predecessor: Option<&Before>,
    paths: &Paths,
) -> Result<Option<Order>, StartError> {
    // Those that take long keep nobody from the rest; but who takes over does not take over half of it.
    let patience = if predecessor.is_none() { PROGRAMS_WAIT } else { Duration::MAX };
    let prepared = tokio::time::timeout(patience, supervisor.prepare(live.borrow().clone()));
    let (early, idle) = tokio::select! {
        idle = prepared => (None, idle.unwrap_or_default()),
        order = signals.next() => (Some(order), Vec::new()),
    };
    let Some(Before { from, taken, idle: were_idle }) = predecessor else { return Ok(early) };
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
    Ok(early)
}

impl Ears {
    /// Answers to whoever speaks there, until it falls `silent`.
    fn listen(self, live: &Live, desk: ctl::Desk, silent: &watch::Receiver<bool>) -> io::Result<()> {
        if let Some(socket) = self.admin {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::spawn(admin::serve(listener, live.clone(), silent.clone()));
        }
        if let Some(socket) = self.control {
            let listener = tokio::net::UnixListener::from_std(socket)?;
            tokio::spawn(ctl::serve(listener, desk.clone(), silent.clone()));
        }
        let level = live.borrow().config.process.stats_socket.as_ref().map(|socket| socket.level);
        if let (Some(socket), Some(level)) = (self.stats, level) {
            let listener = tokio::net::UnixListener::from_std(socket)?;
            tokio::spawn(haproxy::serve(listener, desk, level, silent.clone()));
        }
        Ok(())
    }
}

/// Tells the service manager that this thread is alive, if it wants to hear that.
fn feed_watchdog(notify: &Notify) {
    let Some(every) = notify.watchdog() else { return };
    let notify = notify.clone();
    tokio::spawn(async move {
        loop {
            notify.alive();
            tokio::time::sleep(every).await;
        }
    });
}

/// Where orders arrive while the process serves, and who carries them out.
struct Helm<'a> {
    threads: &'a Threads,
    live: Live,
    logs: Logs,
    signals: Signals,
    /// From the control socket.
    ordered: mpsc::Receiver<ctl::Order>,
    /// Reloads, one after the other. When there are more than it holds, the sender of the answer is dropped, which tells
    /// whoever asked.
    ask: mpsc::Sender<Asked>,
    takeovers: Takeovers,
    /// Who looks after applications that are processes of their own; ends when it is told to.
    supervising: tokio::task::JoinHandle<()>,
}

impl Helm<'_> {
    /// Until there is an end. `early`: the order that came before anybody was served. Errors: a data worker has ended, or whoever looks after applications.
    async fn steer(&mut self, mut early: Option<Order>) -> Result<Ending, StartError> {
        let ending = loop {
            let order = tokio::select! {
                order = async { early.take() }, if early.is_some() => order.unwrap_or(Order::Stop),
                order = self.signals.next() => order,
                handed = self.takeovers.handed_over(|| self.live.borrow().clone()) => break Ending::HandedOver(handed),
                Some(order) = self.ordered.recv() => match self.heed(order) {
                    Some(order) => order,
                    None => continue,
                },
                () = self.threads.one_ended() => Order::WorkerDied,
                _ = &mut self.supervising => {
                    self.takeovers.abort();
                    return Err(StartError::SupervisorDied);
                }
            };
            match order {
                Order::WorkerDied => {
                    self.takeovers.abort();
                    return Err(StartError::WorkerDied);
                }
                Order::TakeOver => self.hand_over(),
                Order::Reload => self.reload(),
                Order::ReopenLogs => self.logs.reopen(),
                Order::Drain => break Ending::Drain,
                Order::Stop => break Ending::Stop,
            }
        };
        self.takeovers.abort();
        Ok(ending)
    }

    /// Takes an order from the control socket; returns the one that ends the process.
    fn heed(&mut self, order: ctl::Order) -> Option<Order> {
        let asked = match order {
            ctl::Order::Shutdown { drains: true } => return Some(Order::Drain),
            ctl::Order::Shutdown { drains: false } => return Some(Order::Stop),
            ctl::Order::Reload(answer) if self.takeovers.is_under_way() => {
                drop(answer.send(Err(ctl::Refusal::plain(TAKEOVER_FIRST))));
                return None;
            }
            // The sender is dropped, which tells whoever asked.
            ctl::Order::Limits(_) if self.takeovers.is_under_way() => return None,
            ctl::Order::Upgrade(answer) => Asked::Takeover(self.takeovers.begin(Some(answer))?),
            ctl::Order::Reload(answer) => Asked::by(answer),
            ctl::Order::Servers(change, answer) => Asked::Servers(change, answer),
            ctl::Order::Limits(done) => Asked::for_limits(done),
        };
        drop(self.ask.try_send(asked));
        None
    }

    /// By signal.
    fn hand_over(&mut self) {
        tracing::info!("SIGUSR2: another process is started to take over");
        match self.takeovers.begin(None) {
            Some(requested) => drop(self.ask.try_send(Asked::Takeover(requested))),
            None => tracing::warn!("a takeover is under way already"),
        }
    }

    /// By signal. When it is asked for more often than it can be done, the last one does for all.
    fn reload(&self) {
        if self.takeovers.is_under_way() {
            return tracing::error!("SIGHUP: not reloaded: {TAKEOVER_FIRST}");
        }
        tracing::info!("SIGHUP: the config is read again");
        drop(self.ask.try_send(Asked::by_signal()));
    }

    /// Comes to the end.
    async fn end(&mut self, ending: &Ending, farewell: &mut Farewell<'_>) {
        let shared = self.live.borrow().clone();
        if !matches!(ending, Ending::Stop) {
            farewell.tell_apps.begin();
        }
        match ending {
            Ending::HandedOver(handed) => {
                farewell.hand_over(handed);
                self.drain(&shared, &handed.drain).await;
            }
            Ending::Drain => {
                farewell.notify.stopping();
                let deadline = shared.config.process.drain_timeout;
                self.drain(&shared, &Drain { deadline, ..Drain::default() }).await;
            }
            Ending::Stop => farewell.notify.stopping(),
        }
    }

    /// Lets the data workers finish. A second order ends it, and so does a worker that heeds nobody.
    async fn drain(&mut self, shared: &Shared, order: &Drain) {
        shared.set_phase(Phase::Draining);
        let deadline = order.deadline;
        tracing::info!(timeout_s = deadline.as_secs(), "draining: no new connections, requests in flight are finished");
        let done = self.threads.drain(order);
        tokio::pin!(done);
        let too_long = tokio::time::sleep(deadline + WORKER_STOP_MAX);
        tokio::pin!(too_long);
        loop {
            tokio::select! {
                () = &mut done => return,
                () = &mut too_long => return tracing::warn!("drain ends: a worker does not come to its end"),
                order = self.signals.next() => match order {
                    Order::Stop => return tracing::warn!("drain cut short by a signal"),
                    Order::ReopenLogs => self.logs.reopen(),
                    _ => {}
                },
                // A reload is refused by dropping where its answer would go.
                Some(order) = self.ordered.recv() => if let ctl::Order::Shutdown { drains: false } = order {
                    return tracing::warn!("drain cut short by the control socket");
                },
            }
        }
    }
}

/// What is left to be said when the end has come.
struct Farewell<'a> {
    tell_apps: TellDraining,
    notify: Notify,
    paths: &'a Paths,
    /// Dropped: admin and control sockets fall silent.
    fall_silent: Option<watch::Sender<bool>>,
    forwards: Option<Forwards>,
}

impl Farewell<'_> {
    /// What is the successor's from now on: the name that the service manager knows, Unix sockets, who speaks to admin and
    /// control sockets; and datagrams that arrive there find their connections here.
    fn hand_over(&mut self, handed: &HandedOver) {
        self.notify.taken_over(handed.pid);
        self.paths.retain(|path| !handed.paths.contains(path));
        drop(self.fall_silent.take());
        let Some(Forwards { keys, workers, before }) = self.forwards.take() else { return };
        match handed.forwarded.try_clone() {
            Ok(forwarded) => drop(tokio::spawn(takeover::deliver(forwarded, keys, workers, before))),
            Err(error) => tracing::error!(%error, "datagrams of HTTP/3 connections are lost"),
        }
    }
}

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
