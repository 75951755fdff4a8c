//! Start of the process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::app_workers;
use super::certificates::Certificates;
use super::control::{self, Before, Ears, Forwards, Outside, Programs};
use super::cores::place;
use super::names;
use super::notify::Notify;
use super::privileges;
use super::reload::{Kept, Logs, Reloader};
use super::sockets::{Paths, Sockets, bind};
use super::source::Source;
use super::splitters::Desk;
use super::takeover::{Estate, Inherited};
use super::workers::{Outfit, Threads};
use crate::app::{Registry, draining};
use crate::config::Config;
use crate::control::Shared;
use crate::control::processes::{self, Staff};
use crate::control::shared::{StartFacts, WorkerFacts, WorkerRole};
use crate::guard::Hasher;
use crate::log;
use crate::runtime::helpers::Helpers;
use crate::runtime::net::Address;
use crate::runtime::{cores, sys};
use crate::tls::Secrets;
use crate::worker::{KeySecrets, QuicKeys};

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
    /// Nobody looks after the programs of the config any more: for the same reason.
    SupervisorDied,
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
            StartError::SupervisorDied => f.write_str(
                "whoever looks after applications has failed, see the panic above: nothing would start them again, and the process ends",
            ),
            StartError::Thread { name, error } => write!(f, "{name} cannot start: {error}"),
            StartError::Tls { listener, error } => write!(f, "TLS of listener `{listener}` cannot be set up: {error}"),
            StartError::Log(error) => error.fmt(f),
            StartError::User(reason) | StartError::Programs(reason) => f.write_str(reason),
            StartError::Takeover(error) => write!(f, "nothing could be taken over from the process before: {error}"),
        }
    }
}

/// A thread, or what it needs, cannot be had.
pub(super) fn cannot_start(name: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Thread { name: name.into(), error }
}

/// Threads for directory listings, slow password hashes and whatever else would hold up a data worker.
const HELPERS: usize = 2;

/// Jobs that may wait for them; beyond it requests are answered with 503.
const HELPER_QUEUE: usize = 256;

/// How long the end of the process waits for a log that is not taken.
pub(super) const LOG_STOP_MAX: Duration = Duration::from_secs(2);

pub(super) fn run(mut config: Config, apps: &Registry, source: Option<Source>) -> Result<(), StartError> {
    begin_log()?;
    if let Err(error) = sys::limits::disable_huge_pages() {
        tracing::warn!(%error, "fall-back: the kernel may use huge pages, idle connections take more memory");
    }
    let open_files = sys::limits::raise_open_files();
    let mut inherited = Inherited::take().map_err(StartError::Takeover)?;
    let notify = Notify::from_env();
    let allowed = cores::allowed().map_err(cannot_start("process"))?;
    let placement = place(&config.process, &allowed, app_workers::are_needed(&config))?;
    let programs = app_workers::find_programs(&config, apps)?;
    let account = privileges::account(config.process.run_as.as_ref())?;
    let staff = Staff::engage(&mut config, account.as_ref(), inherited.keeper()).map_err(StartError::Programs)?;
    config.seat_apps(placement.app.len());
    let mut sockets = bind(&config, placement.data.len(), &mut inherited)?;
    let changes = inherited.changes();
    let (config, names) = names::resolve(config, &changes).map_err(cannot_start("names"))?;
    let config = Arc::new(config);
    let shared = Arc::new(Shared::new(config.clone(), placement.data.len(), app_workers::count(&config, &placement)));
    let access_log =
        log::Writer::start(&config, &shared.workers, shared.log_writer.clone()).map_err(StartError::Log)?;
    let (writer, outboxes) = access_log.map_or((None, Vec::new()), |(writer, logs)| (Some(writer), logs));
    inherited.apply_states(&shared);
    let quic_keys = QuicKeys::new(inherited.quic_secrets().unwrap_or_else(KeySecrets::random));
    let estate = estate(&sockets, &inherited, &quic_keys)?;
    let mut certificates = Certificates::new(config.clone(), Secrets::from_seed(&estate.ticket_seed));
    let materials = certificates.load().map_err(|(listener, error)| StartError::Tls { listener, error })?;
    shared.set_certificates(certificates.facts(&materials));
    // What only root may open is open. Those who serve requests begin behind this.
    if let Some(account) = &account {
        sockets.paths.iter().try_for_each(|path| privileges::give(path, account))?;
        privileges::drop_to(account)?;
    }

    let desk = Desk::new(&config, placement.data.len());
    desk.register(&shared);
    let mut workers = Vec::new();
    let (answers, origins) = app_workers::answer_routes(&config, &placement);
    let (tell_apps, draining) = draining();
    let quic_before = inherited.quic_before().map(Arc::new);
    let outfit = Outfit {
        shared: shared.clone(),
        quic_keys: quic_keys.clone(),
        quic_before: quic_before.clone(),
        tls: materials.clone(),
        mysql: desk.known(),
        helpers: Helpers::start(HELPERS, HELPER_QUEUE).map_err(cannot_start("helper"))?,
        hasher: Arc::new(Hasher::start(HELPER_QUEUE).map_err(cannot_start("hasher"))?),
        apps: app_workers::start(&config, &shared, &placement, &programs, (origins, draining), &mut workers)?,
        answers,
        outboxes,
    };
    let threads = Threads::start(&config, &placement, &mut sockets, outfit, &mut workers)?;
    publish(&shared, workers, &mut sockets, open_files);

    let (supervisor, inbox) = processes::handle();
    let paths = Paths::new(sockets.paths);
    let kept = Kept { certificates, materials, names, changes, splitters: desk };
    let (orders, logs) = (threads.orders.clone(), Logs::new(writer));
    let reloader = Reloader::new(source, shared, kept, orders, sockets.udp_ports, logs, open_files)
        .with_paths(paths.clone())
        .with_estate(estate)
        .with_programs(supervisor.clone(), staff.places());
    let taken = inherited.settle();
    let outside = Outside {
        ears: Ears { admin: sockets.admin, control: sockets.control, stats: sockets.stats },
        forwards: Forwards { keys: quic_keys, workers: threads.datagrams.clone(), before: quic_before },
        notify,
        predecessor: inherited.from.map(|from| Before { from, taken, idle: inherited.idle() }),
        programs: Programs { staff, supervisor, inbox, tell_apps },
    };
    let result = control::run(&threads, outside, reloader, &paths);
    log::flush(LOG_STOP_MAX);
    paths.remove(|_| true);
    result
}

/// A program that has us as a library may have a subscriber of its own: then that one stays, and its panic hook.
fn begin_log() -> Result<(), StartError> {
    match log::init(tracing::level_filters::LevelFilter::INFO) {
        Ok(()) => log::tell_panics(),
        Err(log::InitError::AlreadySet) => {}
        Err(log::InitError::Thread(error)) => return Err(cannot_start("own-log")(error)),
    }
    Ok(())
}

/// What a process that takes over will want.
fn estate(sockets: &Sockets, inherited: &Inherited, quic_keys: &QuicKeys) -> Result<Estate, StartError> {
    Ok(Estate {
        admin: clone_of(sockets.admin.as_ref(), std::net::TcpListener::try_clone)?,
        control: clone_of(sockets.control.as_ref(), std::os::unix::net::UnixListener::try_clone)?,
        stats: clone_of(sockets.stats.as_ref(), std::os::unix::net::UnixListener::try_clone)?,
        quic_keys: Some(quic_keys.clone()),
        keeper: None,
        ticket_seed: inherited.ticket_seed().unwrap_or_else(Secrets::random_seed),
    })
}

fn clone_of<T>(socket: Option<&T>, try_clone: impl Fn(&T) -> io::Result<T>) -> Result<Option<T>, StartError> {
    socket.map(try_clone).transpose().map_err(cannot_start("control"))
}

/// Says what has started, in the log and on the status page.
fn publish(shared: &Shared, mut workers: Vec<WorkerFacts>, sockets: &mut Sockets, open_files: u64) {
    workers.sort_by_key(|facts| (facts.role == WorkerRole::App, facts.index));
    let facts = StartFacts {
        version: env!("CARGO_PKG_VERSION").into(),
        workers,
        listeners: std::mem::take(&mut sockets.facts),
        limits: limits(&shared.config, open_files),
    };
    announce(&facts, &shared.config, open_files);
    drop(shared.facts.set(facts));
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
