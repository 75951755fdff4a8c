//! Reload: a new config in the running process.
//!
//! ```text
//! file read and checked → adopted (what only a restart changes stays) → certificates loaded, sockets bound, logs opened
//!   → handed to every data worker → shown to checks and admin pages
//! ```
//! Everything up to the hand-over may fail, and then nothing has changed. Behind it nothing can: the workers swap one by one,
//! within a moment, each between two requests of a connection.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::certificates::{self, Certificates, Owner};
use super::notify::Notify;
use super::sockets::{HTTP3, MYSQL, Paths, UdpPorts, bind_listener, bind_splitter, kind, set_modes, share_out};
use super::source::Source;
use super::splitters::{Desk, Known, Monitors};
use super::start::limits;
use super::takeover::{Estate, Inherited, Present as PresentProcess, Requested};
use crate::config::model::Places;
use crate::config::servers::Changes;
use crate::config::{Adopted, Config, Heirs, Report, Succession, Warning, adopt};
use crate::control::Shared;
use crate::control::ctl::{Populated, Refusal, Reloaded, ServerChange};
use crate::control::names::Watch;
use crate::control::processes;
use crate::control::shared::{EventLevel, ListenerFacts, StartFacts};
use crate::log::{self, LogError};
use crate::runtime::mailbox::Sender;
use crate::runtime::net::Address;
use crate::tls::{Material, Materials, TlsError};
use crate::worker::{Control, FlowSocket, LogNews, QuicSocket, Reload, Socket, SplitterSocket};

/// A full mailbox is tried again after this time: its worker is busy with ticks.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How long the answer to a reload waits for the workers; they swap later if they are busy for longer.
const SWAP_MAX: Duration = Duration::from_secs(10);

/// What somebody wants: one is done after the other.
pub(super) enum Asked {
    /// A reload. Where the outcome goes beside the log.
    Reload(Option<oneshot::Sender<Result<Reloaded, Refusal>>>),
    /// A server is added or removed. Where the outcome goes beside the log.
    Servers(ServerChange, oneshot::Sender<Result<Populated, String>>),
    /// Limits of servers that the operator has set are to be in force. Where it is told.
    Limits(oneshot::Sender<()>),
    /// Another process takes over.
    Takeover(Requested),
}

impl Asked {
    /// SIGHUP: the log is the answer.
    pub(super) fn by_signal() -> Asked {
        Asked::Reload(None)
    }

    pub(super) fn by(answer: oneshot::Sender<Result<Reloaded, Refusal>>) -> Asked {
        Asked::Reload(Some(answer))
    }

    pub(super) fn for_limits(done: oneshot::Sender<()>) -> Asked {
        Asked::Limits(done)
    }
}

/// The access log's writer thread, which the first config with an access log starts.
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Mutex<Option<log::Writer>>>);

impl Logs {
    pub(super) fn new(writer: Option<log::Writer>) -> Logs {
        Logs(Arc::new(Mutex::new(writer)))
    }

    /// See [`log::Writer::reopen`].
    pub(super) fn reopen(&self) {
        if let Some(writer) = &*self.writer() {
            writer.reopen();
        }
    }

    /// See [`log::Writer::stop`].
    pub(super) fn stop(&self, limit: Duration) -> bool {
        self.writer().as_ref().is_none_or(|writer| writer.stop(limit))
    }

    /// Opens what `config` wants and is not open, for the workers of `shared`. Errors: nothing has changed.
    fn open(&self, config: &Config, shared: &Shared) -> Result<Vec<LogNews>, LogError> {
        let workers = shared.workers.len();
        let mut writer = self.writer();
        if let Some(writer) = &*writer {
            return Ok(writer.open_new(config, workers)?.into_iter().map(LogNews::Lanes).collect());
        }
        match log::Writer::start(config, &shared.workers, shared.log_writer.clone())? {
            None => Ok((0..workers).map(|_| LogNews::Lanes(log::NewLanes::default())).collect()),
            Some((started, outboxes)) => {
                *writer = Some(started);
                Ok(outboxes.into_iter().map(LogNews::First).collect())
            }
        }
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Option<log::Writer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of the world outside is in use and looked after.
pub(super) struct Kept {
    pub(super) certificates: Certificates,
    /// What is in use of them.
    pub(super) materials: Materials,
    pub(super) names: Watch,
    /// What the operator has changed of the servers.
    pub(super) changes: Changes,
    pub(super) splitters: Desk,
}

/// Everything that a reload needs to know of the process.
pub(super) struct Reloader {
    source: Option<Source>,
    live: watch::Sender<Arc<Shared>>,
    /// `None` only while files are being read.
    certificates: Option<Certificates>,
    names: Watch,
    /// What the operator has changed beside the file.
    changes: Changes,
    /// What is in use of them.
    materials: Arc<Materials>,
    workers: Vec<Sender<Control>>,
    /// By listener: its slot.
    slots: Vec<usize>,
    udp_ports: UdpPorts,
    logs: Logs,
    open_files: u64,
    splitters: Desk,
    /// `None`: nobody looks after their servers yet.
    monitors: Option<Monitors>,
    paths: Paths,
    estate: Estate,
    /// Who looks after applications that are processes, and where they listen.
    programs: Option<(processes::Handle, Places)>,
}

/// What has been got ready for a new config.
struct Ready {
    adopted: Adopted,
    warnings: Vec<String>,
    certificates: Certificates,
    materials: Materials,
    succession: Succession,
    slots: Vec<usize>,
    bound: Bound,
    logs: Vec<LogNews>,
}

/// What a new config has bound.
struct Bound {
    /// The listeners of HTTP, in the order of the config; behind them their HTTP/3, then those of splitters.
    listeners: Vec<ListenerFacts>,
    /// By data worker.
    sockets: Vec<Vec<Socket>>,
    /// The same for HTTP/3.
    quic: Vec<Vec<QuicSocket>>,
    /// The same for UDP mode.
    flows: Vec<Vec<FlowSocket>>,
    /// The same of splitters.
    splitters: Vec<Vec<SplitterSocket>>,
}

impl Reloader {
    pub(super) fn new(
        source: Option<Source>,
        shared: Arc<Shared>,
        kept: Kept,
        workers: Vec<Sender<Control>>,
        udp_ports: UdpPorts,
        logs: Logs,
        open_files: u64,
    ) -> Reloader {
        let slots = (0..shared.config.listeners.len()).collect();
        let Kept { certificates, materials, names, changes, splitters } = kept;
        let (certificates, materials) = (Some(certificates), Arc::new(materials));
        let (live, estate) = (watch::Sender::new(shared), Estate::default());
        names.tell(&live.borrow());
        Reloader {
            source,
            live,
            certificates,
            names,
            changes,
            materials,
            workers,
            slots,
            udp_ports,
            logs,
            open_files,
            splitters,
            monitors: None,
            paths: Paths::default(),
            estate,
            programs: None,
        }
    }

    /// Who is told of applications that are new.
    pub(super) fn with_programs(mut self, supervisor: processes::Handle, places: &Places) -> Reloader {
        self.programs = Some((supervisor, places.clone()));
        self
    }

    /// Unix sockets of splitters that come and go are among these.
    pub(super) fn with_paths(mut self, paths: Paths) -> Reloader {
        self.paths = paths;
        self
    }

    /// The servers of splitters are looked after from now on. Must be called on the control thread.
    pub(super) fn watch_splitters(&mut self, mut monitors: Monitors) {
        monitors.go_on_with(&self.splitters.known());
        self.monitors = Some(monitors);
    }

    /// What goes to a process that takes over, beside what is known here anyway.
    pub(super) fn with_estate(mut self, estate: Estate) -> Reloader {
        self.estate = estate;
        self
    }

    /// The process as the present config has it.
    pub(super) fn live(&self) -> watch::Receiver<Arc<Shared>> {
        self.live.subscribe()
    }

    /// The access log's writer, whoever starts it.
    pub(super) fn logs(&self) -> Logs {
        self.logs.clone()
    }

    /// The config file.
    pub(super) fn file(&self) -> Option<String> {
        self.source.as_ref().map(|source| source.file().display().to_string())
    }

    fn shared(&self) -> Arc<Shared> {
        self.live.borrow().clone()
    }

    /// Looks after the certificates' files, which change without a reload.
    async fn look_at_certificates(&mut self, in_any_case: bool) -> Option<Result<(), String>> {
        let certificates = self.certificates.take()?;
        let (certificates, loaded) = match certificates::look(certificates, in_any_case).await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!("certificates are not looked after any more: loading them has panicked");
                return Some(Err(error.to_string()));
            }
        };
        let outcome = match loaded {
            None => None,
            Some(Ok(materials)) => {
                certificates::tell(&certificates, &materials, &self.shared());
                self.materials = Arc::new(materials);
                self.tell_all(|_| Control::Certificates(self.materials.clone())).await;
                Some(Ok(()))
            }
            Some(Err((listener, error))) => {
                certificates::tell_of_failure(&listener, &error, &self.shared());
                Some(Err(tls_text(&listener, &error)))
            }
        };
        self.certificates = Some(certificates);
        outcome
    }

    /// Gives each worker what `order` makes for it. A mailbox may be full of ticks while its worker is busy; nobody must miss
    /// this.
    async fn tell_all(&self, mut order: impl FnMut(usize) -> Control) {
        for (index, worker) in self.workers.iter().enumerate() {
            let mut order = order(index);
            while let Err(back) = worker.send(order) {
                order = back;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, Refusal> {
        let Some(source) = self.source.clone() else {
            // Started from flags: there is nothing else to be read.
            let loaded = self.look_at_certificates(true).await.unwrap_or(Ok(()));
            let generation = self.shared().generation;
            return loaded.map(|()| Reloaded { generation, ..Reloaded::default() }).map_err(Refusal::plain);
        };
        let ready = self.get_ready(source).await?;
        Ok(self.go_on_with(ready).await)
    }

    /// Adds or removes a server, as the operator wants it. Errors: why it cannot be done; nothing has changed.
    async fn change(&mut self, change: &ServerChange) -> Result<Populated, String> {
        let ServerChange { upstream, address, wish } = change;
        let (shared, mut changes) = (self.shared(), self.changes.clone());
        match wish {
            Some(wish) => changes.add(&shared.config, upstream, address, wish)?,
            None => changes.remove(&shared.config, upstream, address)?,
        }
        let before = std::mem::replace(&mut self.changes, changes);
        if let Err(refusal) = self.change_servers().await {
            self.changes = before;
            return Err(refusal.mistakes.join("; "));
        }
        let (what, server) = (if wish.is_some() { "added" } else { "removed" }, format!("{upstream}/{address}"));
        tracing::info!(%server, "server {what}");
        let shared = self.shared();
        shared.note(EventLevel::Info, format!("server {server} {what}"));
        let servers = shared.config.upstreams.iter().find(|known| known.name == *upstream);
        Ok(Populated { server, servers: servers.map_or(0, |upstream| upstream.servers.len()) })
    }

    /// Takes the servers into use that names have by now, and those of the operator's changes.
    async fn change_servers(&mut self) -> Result<(), Refusal> {
        let (old, answers, changes) = (self.shared(), self.names.answers(), self.changes.clone());
        let present = old.config.clone();
        // Tables of consistent hashing take their time.
        let work = tokio::task::spawn_blocking(move || Config::clone(&present).resolved(&answers, &changes));
        let config = work.await.map_err(|error| Refusal::plain(format!("new servers have panicked: {error}")))?;
        let shared = Arc::new(old.with_servers_of(Arc::new(config)));
        drop(shared.facts.set(old.facts.get().cloned().unwrap_or_default()));
        let (materials, slots) = (self.materials.clone(), Arc::new(self.slots.clone()));
        self.swap(&old, &shared, materials, slots, Parts::none(self.workers.len(), self.splitters.known())).await;
        Ok(())
    }

    /// Everything that may fail. Files and name services may take their time, so that it happens elsewhere.
    async fn get_ready(&mut self, source: Source) -> Result<Ready, Refusal> {
        let load = tokio::task::spawn_blocking(move || source.load().map_err(|report| refusal(&report)));
        let panicked = |error| Refusal::plain(format!("reading the config has panicked: {error}"));
        let (mut config, warnings) = load.await.map_err(panicked)??;
        if let Some((_, places)) = &self.programs {
            config.place_sockets(places).map_err(Refusal::plain)?;
        }
        self.names.learn(&config).await;
        let config = config.resolved(&self.names.answers(), &self.changes);
        let present = Present {
            shared: self.shared(),
            slots: self.slots.clone(),
            udp_ports: self.udp_ports.clone(),
            logs: self.logs.clone(),
            materials: self.materials.clone(),
        };
        let Some(certificates) = &self.certificates else {
            return Err(Refusal::plain("certificates cannot be loaded any more, see the log: restart the process"));
        };
        let next = certificates.successor();
        let work = tokio::task::spawn_blocking(move || present.get_ready(config, warnings, next));
        work.await.unwrap_or_else(|error| Err(panicked(error)))
    }

    /// From here on nothing fails.
    async fn go_on_with(&mut self, ready: Ready) -> Reloaded {
        let old = self.shared();
        let shared = old.next(Arc::new(ready.adopted.config));
        let Bound { listeners, sockets, quic, flows, splitters } = ready.bound;
        let (opened, closed) = announce(&old, &ready.succession.listeners, &listeners);
        drop(shared.facts.set(next_facts(&old, &shared.config, listeners, self.open_files)));
        let shared = Arc::new(shared);
        if let Some((supervisor, _)) = &self.programs {
            // New applications serve before requests come. What has failed is told by then.
            let _ = supervisor.prepare(shared.clone()).await;
        }
        self.slots.clone_from(&ready.slots);
        let (tls, slots) = (Arc::new(ready.materials), Arc::new(ready.slots));
        self.materials = tls.clone();
        certificates::tell(&ready.certificates, &tls, &shared);
        self.certificates = Some(ready.certificates);
        let known = self.splitters.next(&shared.config, &ready.succession, self.workers.len());
        let parts = Parts { sockets, quic, flows, splitters, known, logs: ready.logs };
        let waits_for = self.swap(&old, &shared, tls, slots, parts).await;
        self.reload_splitters(&waits_for, &old.config, &shared.config).await;
        Reloaded {
            file: self.file(),
            generation: shared.generation,
            opened,
            closed,
            needs_restart: ready.adopted.needs_restart,
            warnings: ready.warnings,
        }
    }

    /// Servers of splitters come and go, once there is no worker left that does not know them.
    async fn reload_splitters(&mut self, waits_for: &AtomicUsize, old: &Config, config: &Arc<Config>) {
        while !(old.splitters.is_empty() && config.splitters.is_empty()) && waits_for.load(Acquire) > 0 {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.splitters.go_on_with(config);
        if let Some(monitors) = &mut self.monitors {
            monitors.go_on_with(&self.splitters.known());
        }
        set_modes(old, config);
        let (before, now) = (unix_sockets(old), unix_sockets(config));
        now.difference(&before).for_each(|path| self.paths.add(path));
        self.paths.remove(|path| before.contains(path) && !now.contains(path));
    }

    /// Limits of servers that the operator has set hold from now on. Where nothing counted requests until now, all workers go
    /// on with the same config once more.
    async fn put_limits_in_force(&mut self) {
        let old = self.shared();
        if old.align_limits() {
            return;
        }
        let shared = Arc::new(old.with_servers_of(old.config.clone()));
        drop(shared.facts.set(old.facts.get().cloned().unwrap_or_default()));
        let (materials, slots) = (self.materials.clone(), Arc::new(self.slots.clone()));
        self.swap(&old, &shared, materials, slots, Parts::none(self.workers.len(), self.splitters.known())).await;
    }

    /// Puts `shared` into the place of `old`, everywhere. Returns how many workers are still to do it.
    async fn swap(
        &mut self,
        old: &Arc<Shared>,
        shared: &Arc<Shared>,
        tls: Arc<Materials>,
        slots: Arc<Vec<usize>>,
        parts: Parts,
    ) -> Arc<AtomicUsize> {
        let waits_for = Arc::new(AtomicUsize::new(self.workers.len()));
        shared.goes_to(waits_for.clone());
        let mysql = parts.known;
        let mut parts = parts.sockets.into_iter().zip(parts.quic).zip(parts.flows).zip(parts.splitters).zip(parts.logs);
        let reload = |_| {
            let ((((sockets, quic), flows), splitters), log) = parts.next().expect("something for each worker");
            Control::Reload(Box::new(Reload {
                shared: shared.clone(),
                tls: tls.clone(),
                slots: slots.clone(),
                sockets,
                quic,
                flows,
                splitters,
                mysql: mysql.clone(),
                log,
                waits_for: waits_for.clone(),
            }))
        };
        self.tell_all(reload).await;
        old.close_old_exchanges(shared);
        self.names.go_on_with(&shared.config);
        self.names.tell(shared);
        // Orders find splitters by their indexes: both must change at once.
        self.splitters.replace(mysql);
        self.live.send_replace(shared.clone());
        let begun = tokio::time::Instant::now();
        while waits_for.load(Acquire) > 0 && begun.elapsed() < SWAP_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let busy = waits_for.load(Acquire);
        if busy > 0 {
            tracing::warn!(busy, "data workers are busy and take the new config later");
        }
        waits_for
    }
}

/// What a swap brings for each worker.
struct Parts {
    sockets: Vec<Vec<Socket>>,
    quic: Vec<Vec<QuicSocket>>,
    flows: Vec<Vec<FlowSocket>>,
    splitters: Vec<Vec<SplitterSocket>>,
    /// For all of them.
    known: Known,
    logs: Vec<LogNews>,
}

impl Parts {
    /// Nothing new for any of them.
    fn none(workers: usize, known: Known) -> Parts {
        Parts {
            splitters: (0..workers).map(|_| Vec::new()).collect(),
            known,
            sockets: (0..workers).map(|_| Vec::new()).collect(),
            quic: (0..workers).map(|_| Vec::new()).collect(),
            flows: (0..workers).map(|_| Vec::new()).collect(),
            logs: (0..workers).map(|_| LogNews::Lanes(log::NewLanes::default())).collect(),
        }
    }
}

impl Reloader {
    /// Hands everything over to another process, if there comes one.
    async fn hand_over(&mut self, requested: Requested) {
        let (shared, slots, workers) = (self.shared(), self.slots.clone(), self.workers.clone());
        let (udp_ports, mut estate) = (self.udp_ports.clone(), std::mem::take(&mut self.estate));
        if let Some((supervisor, _)) = &self.programs {
            estate.keeper = supervisor.heir().await;
        }
        // Workers and the other process take their time.
        let work = tokio::task::spawn_blocking(move || {
            let has_worked = requested.run(&PresentProcess {
                shared: &shared,
                slots: &slots,
                workers: &workers,
                udp_ports: &udp_ports,
                estate: &estate,
            });
            // Of a socket that is the other's nothing is kept here.
            (!has_worked).then_some(estate)
        });
        match work.await {
            // The way to the keeper is closed again.
            Ok(estate) => self.estate = Estate { keeper: None, ..estate.unwrap_or_default() },
            Err(error) => tracing::error!(%error, "a takeover has panicked: there is no other one before a restart"),
        }
    }
}

/// Reloads whenever it is asked for, hands over, and looks after certificates, until nobody can ask any more.
pub(super) async fn run(mut reloader: Reloader, mut asked: mpsc::Receiver<Asked>, notify: Notify) {
    loop {
        let look = tokio::time::sleep(certificates::LOOK);
        let has_files = reloader.certificates.as_ref().is_some_and(Certificates::has_files);
        let asked = tokio::select! {
            asked = asked.recv() => asked,
            () = look, if has_files => {
                reloader.look_at_certificates(false).await;
                continue;
            }
            () = reloader.names.changed() => {
                if let Err(refusal) = reloader.change_servers().await {
                    tracing::error!("servers stay as they are: {}", refusal.text);
                }
                continue;
            }
        };
        let answer = match asked {
            None => return,
            Some(Asked::Servers(change, answer)) => {
                let outcome = reloader.change(&change).await;
                // Whoever asked may have left.
                drop(answer.send(outcome));
                continue;
            }
            Some(Asked::Limits(done)) => {
                reloader.put_limits_in_force().await;
                // Whoever asked may have left.
                let _ = done.send(());
                continue;
            }
            Some(Asked::Takeover(requested)) => {
                reloader.hand_over(requested).await;
                continue;
            }
            Some(Asked::Reload(answer)) => answer,
        };
        notify.reloading();
        let outcome = reloader.reload().await;
        let config = reloader.shared().config.clone();
        reloader.names.go_on_with(&config);
        notify.ready();
        tell(&reloader.shared(), &outcome);
        if let Some(answer) = answer {
            // Whoever asked may have left.
            drop(answer.send(outcome));
        }
    }
}

/// What a new config is made ready beside.
struct Present {
    shared: Arc<Shared>,
    slots: Vec<usize>,
    udp_ports: UdpPorts,
    logs: Logs,
    materials: Arc<Materials>,
}

impl Present {
    fn get_ready(
        &self,
        config: Config,
        warnings: Vec<Warning>,
        certificates: impl FnOnce(Arc<Config>) -> Certificates,
    ) -> Result<Ready, Refusal> {
        let shared = &self.shared;
        let adopted = adopt(&shared.config, config).map_err(|refused| Refusal::plain(refused.to_string()))?;
        let succession = Succession::new(&shared.config, &adopted.config);
        let mut certificates = certificates(Arc::new(adopted.config.clone()));
        let materials =
            certificates.load_or(|owner, name, error| self.material_before(&adopted, &succession, owner, name, error));
        let materials = materials.map_err(|(listener, error)| Refusal::plain(tls_text(&listener, &error)))?;
        let slots = next_slots(&self.slots, &succession.listeners);
        let bound = self.bind_new(&adopted.config, &succession, &slots)?;
        let logs = self.logs.open(&adopted.config, shared).map_err(|error| Refusal::plain(error.to_string()))?;
        warnings.iter().for_each(|warning| tracing::warn!("config: {}", warning.one_liner()));
        let warnings = warnings.iter().map(Warning::to_string).collect();
        Ok(Ready { warnings, certificates, materials, succession, slots, bound, logs, adopted })
    }

    /// What a listener or splitter that stays as it is goes on with when its files cannot be read: after it has become another user the
    /// process may not read keys again that root has opened, which is no reason to refuse everything else.
    fn material_before(
        &self,
        adopted: &Adopted,
        succession: &Succession,
        owner: Owner,
        name: &str,
        error: TlsError,
    ) -> Result<Material, TlsError> {
        let before = match owner {
            Owner::Listener(index) => {
                let same = succession.listeners.0[index].filter(|old| {
                    let (old, new) = (&self.shared.config.listeners[*old], &adopted.config.listeners[index]);
                    old.tls == new.tls
                });
                same.and_then(|old| self.materials.listeners.get(old)?.clone())
            }
            Owner::Splitter(index) => {
                let same = succession.splitters.0[index].filter(|old| {
                    let (old, new) = (&self.shared.config.splitters[*old], &adopted.config.splitters[index]);
                    old.tls == new.tls
                });
                same.and_then(|old| self.materials.splitters.get(old)?.clone())
            }
        };
        match before {
            Some(material) => {
                certificates::tell_of_failure(name, &error, &self.shared);
                Ok(material)
            }
            None => Err(error),
        }
    }

    /// The listeners of `config`, and sockets for those that are new, or have got HTTP/3.
    fn bind_new(&self, config: &Config, succession: &Succession, slots: &[usize]) -> Result<Bound, Refusal> {
        let workers = self.shared.workers.len();
        let known = self.shared.facts.get().map(|facts| &facts.listeners[..]).unwrap_or_default();
        let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
        let mut quic: Vec<Vec<QuicSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let mut flows: Vec<Vec<FlowSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let (mut facts, mut http3) = (Vec::new(), Vec::new());
        for (index, listener) in config.listeners.iter().enumerate() {
            let fact = match succession.listeners.0[index] {
                // The facts begin with the listeners of HTTP, in the order of the config.
                Some(old) => {
                    let address = known.get(old).map(|fact| fact.address.clone()).unwrap_or_default();
                    ListenerFacts { name: listener.name.clone(), kind: kind(listener), address }
                }
                None if listener.udp.is_some() => {
                    let bound = self.udp_ports.flows.bind(listener, slots[index], workers, &mut Inherited::default());
                    let (fact, bound) = bound.map_err(|error| Refusal::plain(error.to_string()))?;
                    share_out(&mut flows, bound);
                    fact
                }
                None => {
                    let bound = bind_listener(
                        listener,
                        slots[index],
                        config.process.backlog,
                        workers,
                        &mut Inherited::default(),
                    );
                    let (fact, bound) = bound.map_err(|error| Refusal::plain(error.to_string()))?;
                    share_out(&mut sockets, bound);
                    fact
                }
            };
            if listener.http3 {
                let before = succession.listeners.0[index].filter(|old| self.shared.config.listeners[*old].http3);
                let (name, address) = (listener.name.clone(), fact.address.clone());
                if before.is_some() {
                    http3.push(ListenerFacts { name, kind: HTTP3, address });
                } else {
                    // Clients look for it under the number they know.
                    let port = address.parse::<SocketAddr>().map_or(0, |address| address.port());
                    let bound =
                        self.udp_ports.quic.bind(listener, slots[index], port, workers, &mut Inherited::default());
                    let (fact, bound) = bound.map_err(|error| Refusal::plain(error.to_string()))?;
                    share_out(&mut quic, bound);
                    http3.push(fact);
                }
            }
            facts.push(fact);
        }
        facts.append(&mut http3);
        let (mut of_splitters, splitters) = self.bind_splitters(config, succession)?;
        facts.append(&mut of_splitters);
        Ok(Bound { listeners: facts, sockets, quic, flows, splitters })
    }

    /// The same for splitters.
    fn bind_splitters(
        &self,
        config: &Config,
        succession: &Succession,
    ) -> Result<(Vec<ListenerFacts>, Vec<Vec<SplitterSocket>>), Refusal> {
        let workers = self.shared.workers.len();
        let known = self.shared.facts.get().map(|facts| &facts.listeners[..]).unwrap_or_default();
        let mut sockets: Vec<Vec<SplitterSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let mut facts = Vec::new();
        for (index, splitter) in config.splitters.iter().enumerate() {
            let old = succession.splitters.0[index].map(|old| &self.shared.config.splitters[old]);
            for address in &splitter.listen {
                // Its facts are in the order of its addresses.
                let at = old.and_then(|old| old.listen.iter().position(|known| known == address));
                let mut of_it = known.iter().filter(|fact| fact.kind == MYSQL && fact.name == splitter.name);
                if let Some(fact) = at.and_then(|at| of_it.nth(at)) {
                    facts.push(fact.clone());
                    continue;
                }
                let backlog = config.process.backlog;
                let bound = bind_splitter(splitter, index, address, backlog, workers, &mut Inherited::default());
                let (fact, bound) = bound.map_err(|error| Refusal::plain(error.to_string()))?;
                share_out(&mut sockets, bound);
                facts.push(fact);
            }
        }
        Ok((facts, sockets))
    }
}

/// Listeners that stay keep their slots; new ones get the lowest ones that nobody has, or has had until now.
fn next_slots(old: &[usize], listeners: &Heirs) -> Vec<usize> {
    let mut is_taken: HashSet<usize> = old.iter().copied().collect();
    let mut slot = |heir: &Option<usize>| {
        heir.map(|heir| old[heir]).unwrap_or_else(|| {
            let free = (0..).find(|slot| !is_taken.contains(slot)).expect("there is no end of numbers");
            is_taken.insert(free);
            free
        })
    };
    listeners.0.iter().map(&mut slot).collect()
}

/// Tells the log which listeners came and went; returns their names with their addresses.
fn announce(old: &Shared, heirs: &Heirs, listeners: &[ListenerFacts]) -> (Vec<String>, Vec<String>) {
    let text = |fact: &ListenerFacts| format!("{} {}", fact.name, fact.address);
    let known = old.facts.get().map(|facts| &facts.listeners[..]).unwrap_or_default();
    let is_in = |facts: &[ListenerFacts], wanted: &ListenerFacts| {
        facts.iter().any(|fact| fact.kind == wanted.kind && fact.address == wanted.address)
    };
    let has_no_slot = |fact: &&ListenerFacts| matches!(fact.kind, HTTP3 | MYSQL);
    let new = listeners.iter().zip(&heirs.0).filter(|(_, heir)| heir.is_none()).map(|(fact, _)| fact);
    let new_others = listeners.iter().filter(has_no_slot).filter(|fact| !is_in(known, fact));
    let opened = new.chain(new_others).inspect(|fact| {
        tracing::info!(name = %fact.name, kind = fact.kind, address = %fact.address, "listening");
    });
    let opened = opened.map(text).collect();
    let before = known.iter().zip(heirs.new_indexes(old.config.listeners.len()));
    let gone = before.filter(|(_, stays)| stays.is_none()).map(|(fact, _)| fact);
    let gone_others = known.iter().filter(has_no_slot).filter(|fact| !is_in(listeners, fact));
    let closed = gone.chain(gone_others).inspect(|fact| {
        tracing::info!(name = %fact.name, address = %fact.address, "listener closed, its connections drain");
    });
    (opened, closed.map(text).collect())
}

/// The facts under a new config: the workers are the same ones, and so are the listeners that are neither HTTP's nor of splitters.
fn next_facts(old: &Shared, config: &Config, mut listeners: Vec<ListenerFacts>, open_files: u64) -> StartFacts {
    let facts = old.facts.get().cloned().unwrap_or_default();
    let others = facts.listeners.into_iter().skip(old.config.listeners.len());
    listeners.extend(others.filter(|fact| !matches!(fact.kind, HTTP3 | MYSQL)));
    StartFacts { listeners, limits: limits(config, open_files), ..facts }
}

/// Those that splitters listen on.
fn unix_sockets(config: &Config) -> HashSet<PathBuf> {
    let path = |address: &Address| if let Address::Unix(path) = address { Some(path.clone()) } else { None };
    config.splitters.iter().flat_map(|splitter| &splitter.listen).filter_map(path).collect()
}

fn refusal(report: &Report) -> Refusal {
    Refusal { text: report.render(false), colored: report.render(true), mistakes: report.one_liners().collect() }
}

fn tls_text(listener: &str, error: &TlsError) -> String {
    format!("TLS of listener `{listener}` cannot be set up: {error}")
}

/// What became of a reload, for the log and the status page.
fn tell(shared: &Shared, outcome: &Result<Reloaded, Refusal>) {
    match outcome {
        Ok(reloaded) => {
            let Reloaded { generation, needs_restart, file, .. } = reloaded;
            match file {
                Some(file) => tracing::info!(%file, generation, "config reloaded"),
                None => tracing::info!("started from flags: certificates are loaded again, there is no config file"),
            }
            if !needs_restart.is_empty() {
                let what = needs_restart.join(", ");
                tracing::warn!(%what, "not applied, needs a restart");
                shared.note(EventLevel::Warn, format!("config reloaded, needs a restart: {what}"));
            }
            shared.note(EventLevel::Info, format!("config reloaded generation={generation}"));
        }
        Err(refusal) => {
            shared.reloads_failed.inc();
            let count = refusal.mistakes.len();
            refusal.mistakes.iter().for_each(|mistake| tracing::error!("config: {mistake}"));
            tracing::error!(mistakes = count, "config not reloaded, the old one stays in use");
            let first = refusal.mistakes.first().map_or("", String::as_str);
            shared.note(EventLevel::Error, format!("config not reloaded, {count} mistakes, the first: {first}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_again_only_when_the_old_listener_has_gone_before() {
        let slots = next_slots(&[0, 1, 2], &Heirs(vec![Some(2), None, Some(0)]));
        assert_eq!(slots, [2, 3, 0], "1 is closed in this moment");
        let slots = next_slots(&slots, &Heirs(vec![Some(0), Some(1), Some(2), None, None]));
        assert_eq!(slots, [2, 3, 0, 1, 4]);
    }
}
