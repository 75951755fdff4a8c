//! The threads that run applications inside the process, and the ways to them.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::io::DuplexStream;

use super::cores::Placement;
use super::start::StartError;
use super::workers::{await_start, worker_facts};
use crate::app::{
    App, AppWorker, CheckDoor, Checks, Draining, Job, Jobs, Origin, Registry, Reply, Tickets, Way, checks,
};
use crate::config::Config;
use crate::config::model::App as AppConfig;
use crate::control::Shared;
use crate::control::shared::{WorkerFacts, WorkerRole};
use crate::log;
use crate::runtime::cores;
use crate::runtime::crew::crew;
use crate::runtime::driver::DriverFacts;
use crate::runtime::mailbox::{Receiver, Sender, mailbox};
use crate::runtime::net::AppSeat;

/// What the threads of an application have less of the processor than workers, as nice(2) counts it.
const NICE: i32 = 5;

/// How data workers reach applications.
pub(super) struct Ways {
    /// Of the application workers.
    pub(super) mailboxes: Vec<Sender<Job>>,
    /// By application.
    pub(super) ways: Vec<Way>,
}

/// Some application has no threads of its own.
pub(super) fn are_needed(config: &Config) -> bool {
    config.apps.iter().any(|app| app.threads.is_none())
}

/// How many there are, threads of applications included.
pub(super) fn count(config: &Config, placement: &Placement) -> usize {
    placement.app.len() + config.apps.iter().filter_map(|app| app.threads).sum::<usize>()
}

pub(super) fn find_programs(config: &Config, apps: &Registry) -> Result<Vec<App>, StartError> {
    let find = |app: &AppConfig| {
        apps.find(&app.program).cloned().ok_or_else(|| StartError::NoSuchProgram {
            app: app.name.clone(),
            program: app.program.clone(),
            known: apps.names().into_iter().map(str::to_owned).collect(),
        })
    };
    config.apps.iter().map(find).collect()
}

pub(super) type AnswerSeat = (Receiver<Reply>, Arc<Tickets>);

/// For each data worker, where its answers arrive and which of its requests are still wanted.
pub(super) fn answer_routes(config: &Config, placement: &Placement) -> (Vec<AnswerSeat>, Arc<Vec<Origin>>) {
    let process = &config.process;
    // Every request in flight has a slot, and the mailbox has room for the answer of every slot: it can never be full. No
    // application takes the slots of another one: each has as many as may be with its threads and in front of them.
    let shared = (process.queue_depth + process.app_concurrency).saturating_mul(placement.app.len());
    let of_app = |app: &AppConfig| app.threads.map(|threads| threads + process.queue_depth + 1);
    let own = config.apps.iter().filter_map(of_app).sum::<usize>();
    let slots = shared.saturating_add(own).clamp(1, 1 << 16);
    let mut seats = Vec::new();
    let mut origins = Vec::new();
    for _ in &placement.data {
        // A retired slot's late answer may still be under way when the slot's next one comes.
        let (sender, receiver) = mailbox(2 * slots);
        let tickets = Arc::new(Tickets::new(slots));
        origins.push(Origin { replies: sender, tickets: tickets.clone() });
        seats.push((receiver, tickets));
    }
    (seats, Arc::new(origins))
}

/// What all of them are started with.
struct Start<'a> {
    config: &'a Config,
    shared: &'a Shared,
    origins: Arc<Vec<Origin>>,
    draining: Draining,
    /// Threads of applications are not among them.
    app_workers: usize,
}

/// Where a thread runs.
enum Seated {
    /// Pinned to this core.
    Core(usize),
    /// Anywhere, behind the workers.
    Behind { app: String },
}

/// Starts the application workers and the threads of applications.
pub(super) fn start(
    config: &Config,
    shared: &Shared,
    placement: &Placement,
    programs: &[App],
    (origins, draining): (Arc<Vec<Origin>>, Draining),
    facts: &mut Vec<WorkerFacts>,
) -> Result<Ways, StartError> {
    let start = Start { config, shared, origins, draining, app_workers: placement.app.len() };
    let (mut mailboxes, mut doors) = (Vec::new(), Doors::of(config));
    let is_shared = |(app, program): (&AppConfig, &App)| app.threads.is_none().then(|| program.clone());
    for (index, core) in placement.app.iter().copied().enumerate() {
        let (sender, jobs) = mailbox(config.process.queue_depth);
        let apps = config.apps.iter().zip(programs).map(is_shared).collect();
        let (door, checks) = checks(config.apps.len());
        let worker = start.worker(index, apps, Jobs::Own(jobs), checks);
        facts.push(spawn(worker, Seated::Core(core))?);
        doors.of_workers.push(door);
        mailboxes.push(sender);
    }
    let mut ways: Vec<Way> = vec![None; config.apps.len()];
    for (app, program) in programs.iter().enumerate() {
        let settings = &config.apps[app];
        let Some(first) = AppConfig::first_thread(&config.apps, app, placement.app.len()) else { continue };
        // Requests wait elsewhere for a thread. Here are those whose client has left while all were held up.
        let (sender, receivers) = crew(config.process.queue_depth, settings.threads.unwrap_or(1));
        let (door, checks) = checks(1);
        doors.of_apps[app].1 = Some(door);
        for (thread, jobs) in receivers.into_iter().enumerate() {
            let apps = (0..=app).map(|index| (index == app).then(|| program.clone())).collect();
            let worker = start.worker(first + thread, apps, Jobs::Shared(jobs), checks.clone());
            let worker = AppWorker { concurrency: 1, ..worker };
            facts.push(spawn(worker, Seated::Behind { app: settings.name.clone() })?);
        }
        ways[app] = Some(sender);
    }
    shared.lasting().set_app_connect(Box::new(move |seat, deadline| doors.connect(seat, deadline)));
    Ok(Ways { mailboxes, ways })
}

/// Where applications are checked.
struct Doors {
    of_workers: Vec<CheckDoor>,
    /// By application: its name, and the door of its threads, if it has such.
    of_apps: Vec<(Box<str>, Option<CheckDoor>)>,
}

impl Doors {
    fn of(config: &Config) -> Doors {
        let of_apps = config.apps.iter().map(|app| (app.name.as_str().into(), None)).collect();
        Doors { of_workers: Vec::new(), of_apps }
    }

    /// Errors: the application does not run, or nobody takes its checks.
    fn connect(&self, seat: &AppSeat, deadline: Instant) -> io::Result<DuplexStream> {
        let app = self.of_apps.iter().position(|(name, _)| **name == *seat.app);
        let door = app.and_then(|app| match seat.worker {
            Some(worker) => self.of_workers.get(usize::from(worker)),
            None => self.of_apps[app].1.as_ref(),
        });
        let (Some(app), Some(door)) = (app, door) else { return Err(io::ErrorKind::NotFound.into()) };
        door.connect(app, deadline)
    }
}

impl Start<'_> {
    fn worker(&self, index: usize, apps: Vec<Option<App>>, jobs: Jobs, checks: Checks) -> AppWorker {
        let process = &self.config.process;
        AppWorker {
            index,
            driver: process.driver,
            spin: process.spin,
            concurrency: process.app_concurrency.max(1),
            apps,
            jobs,
            checks,
            origins: self.origins.clone(),
            stats: self.shared.app_workers[index].clone(),
            draining: self.draining.clone(),
            has_others: self.app_workers > 1,
        }
    }
}

/// Runs it on a thread of its own. Errors: that cannot be had.
fn spawn(worker: AppWorker, seated: Seated) -> Result<WorkerFacts, StartError> {
    let index = worker.index;
    let (report, reported) = mpsc::channel();
    let name = format!("app-{index}");
    let (core, app) = match seated {
        Seated::Core(core) => (Some(core), None),
        Seated::Behind { app } => (None, Some(app)),
    };
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        log::never_block();
        let pinned = match core {
            Some(core) => cores::pin(core),
            None => {
                cores::step_back(NICE);
                Ok(())
            }
        };
        worker.supervise(|facts| {
            drop(report.send(facts.and_then(|facts| pinned.as_ref().map(|()| facts).map_err(copy))))
        });
    });
    spawned.map_err(|error| StartError::Thread { name: name.clone(), error })?;
    let driver: DriverFacts = await_start(&name, &reported)?;
    Ok(WorkerFacts { app, ..worker_facts(WorkerRole::App, index, core, driver) })
}

/// `io::Error` has no `Clone`.
fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
