//! Programs that are started and watched: `[app.NAME]` with `type = "process"` or `"php"`.
//!
//! | part | does |
//! |---|---|
//! | this file | the supervisor: one task of the control thread, which does what [`crate::app::process`] decides |
//! | `supervised` | one application: its fleet, its places in the upstream, what is told of it |
//! | `launch` | how an instance is started: its words, environment, socket, output |
//! | `places` | where instances listen |
//! | `php` | what php-fpm needs beside that |
//! | `ready` | when a new instance can serve |
//! | `output` | what programs write, as lines of our log |
//! | `view` | what pages and `ctl` show |
//! | `client`, `letters`, `keeper` | the small process that is the parent of all programs, and what is said to it |
//!
//! An application is an upstream of its own (`app:NAME`) with a server for each place of an instance. A server is in use
//! while the instance in its place is ready (`ServerState::set_vacant`); everything else about requests is the load
//! balancer's.

mod client;
mod keeper;
mod launch;
mod letters;
mod output;
mod php;
mod places;
mod ready;
mod supervised;
mod view;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

pub use keeper::run_if_asked;
pub use view::{InstanceView, ProcessView};

use self::client::{Keeper, Word};
use self::launch::Rights;
use self::letters::Happened;
use self::supervised::Supervised;
use super::Shared;
use crate::app::process::{Exit, MARK};
use crate::config::Config;
use crate::config::model::{Places, ProcessApp};
use crate::control::shared::EventLevel;
use crate::runtime::sys::processes::{self, Family};
use crate::runtime::sys::users::{Account, is_root};

/// How often instances are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often /proc is asked for memory, at most.
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// On a machine with so many processes that it takes long, it takes this part of the control thread's time.
const LOOK_SHARE: u32 = 50;

/// Beyond the `kill_timeout` of a program, for the keeper to see to it.
const END_GRACE: Duration = Duration::from_secs(7);

/// From one keeper that is started to the next, at least.
const KEEPER_PAUSE: Duration = Duration::from_secs(1);

/// Asks that wait for the supervisor.
const ASKED_MAX: usize = 16;

/// What an operator wants of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// All instances are replaced, one after the other.
    Restart,
    /// It is drained and ends.
    Stop,
    /// It runs; failures are forgotten.
    Start,
}

/// What is heard of instances.
enum Heard {
    /// One, by the keeper's number, can serve.
    Ready(u64),
    /// One does not take its config, and why.
    Unfit(u64, String),
}

/// What is asked of the supervisor.
enum Asked {
    /// Applications that are new under a config are started; answered when they are ready, or have failed, with the names of
    /// those that do not serve.
    Prepare(Arc<Shared>, oneshot::Sender<Vec<String>>),
    Want(String, Wanted, oneshot::Sender<Result<ProcessView, String>>),
    Heir(oneshot::Sender<Option<Bequest>>),
    End(oneshot::Sender<()>),
}

/// The way to a keeper for a process that takes over.
#[derive(Debug)]
pub struct Bequest {
    /// Speaks with it.
    pub channel: OwnedFd,
    /// Where the sockets of its programs lie.
    pub folder: PathBuf,
    /// Readable when its warden has ended; `None`: that is not known.
    pub warden: Option<OwnedFd>,
    /// It has a PID namespace of its own.
    pub is_private: bool,
}

/// What the supervisor begins with: made while the process has all its rights.
#[derive(Debug)]
pub struct Staff {
    keeper: Option<Keeper>,
    /// Removed when the keeper ends: the folder of the sockets, or around it.
    keeper_folder: PathBuf,
    rights: Rights,
    places: Places,
}

impl Staff {
    /// Gives the programs of `config` places to listen at, and starts their keeper if there are any. The process will become
    /// `own`. With `bequest` it takes over from another one, whose programs run on for a while.
    ///
    /// Errors: a program could never be started, for a person.
    pub fn engage(config: &mut Config, own: Option<&Account>, bequest: Option<Bequest>) -> Result<Staff, String> {
        let behind = if bequest.is_some() { places::free_ports(config) } else { HashMap::new() };
        // Without a program now, one that a reload brings later needs a folder which the process can make by then.
        let folder = places::sockets_folder(own.is_none() || !config.processes.is_empty());
        let mut staff = Staff {
            keeper: None,
            keeper_folder: folder.clone(),
            rights: Rights::new(own.cloned()),
            places: Places { folder, behind },
        };
        let accounts = staff.accounts(config);
        let is_private = config.process.private_pids;
        let takes_over = bequest.is_some();
        match (bequest, accounts) {
            (_, Ok(_)) if config.processes.is_empty() => {}
            // Root is gone, but there is a keeper that is not.
            (Some(bequest), Ok(_)) if is_private && !is_root() && bequest.is_private => {
                staff.inherit(bequest, config)?
            }
            (Some(bequest), Err(_)) => staff.inherit(bequest, config)?,
            (_, Ok(mut accounts)) => {
                accounts.push(own.cloned());
                let may = is_root() || !takes_over;
                if is_private && !may {
                    tracing::error!("{NOT_PRIVATE}");
                }
                staff.keeper = Some(hire(&staff.places.folder, own, &accounts, is_private && may)?);
            }
            (None, Err(reason)) => return Err(reason),
        }
        config.place_sockets(&staff.places)?;
        Ok(staff)
    }

    /// Whom the programs run as. Errors: one cannot be started, for a person.
    fn accounts(&self, config: &Config) -> Result<Vec<Option<Account>>, String> {
        let account = |app: &ProcessApp| {
            self.rights.account(app).map_err(|reason| format!("application `{}`: {reason}", app.name))
        };
        config.processes.iter().map(account).collect()
    }

    /// Goes on with the keeper of the process before. Its folder is removed with it, and so is what is in there.
    fn inherit(&mut self, bequest: Bequest, config: &Config) -> Result<(), String> {
        self.rights = Rights::of_inherited_keeper(config.process.run_as.as_ref());
        self.places.folder = bequest.folder.join(std::process::id().to_string());
        make_folder(&self.places.folder, None)?;
        self.keeper_folder = bequest.folder;
        if config.process.private_pids && !bequest.is_private {
            tracing::error!("{NOT_PRIVATE}");
        }
        let keeper = Keeper::inherited(bequest.channel, bequest.warden, bequest.is_private)
            .map_err(|error| format!("{KEEPER}: {error}"))?;
        self.keeper = Some(keeper);
        Ok(())
    }

    /// Where programs listen.
    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// What is told before the reason.
const KEEPER: &str = "the keeper of applications cannot start";

/// What is told of a process that is root no longer and has no keeper from before.
const NOT_PRIVATE: &str = "programs have no PID namespace of their own (`private_pids` in [process]), for which it takes root: restart one-server";

fn make_folder(folder: &Path, owner: Option<&Account>) -> Result<(), String> {
    places::make_folder(folder, owner)
        .map_err(|error| format!("no folder for sockets of applications: {}: {error}", folder.display()))
}

/// Starts a keeper. Where this process keeps its rights, it has no secrets from it. Errors: for a person.
fn hire(
    folder: &Path,
    own: Option<&Account>,
    accounts: &[Option<Account>],
    is_private: bool,
) -> Result<Keeper, String> {
    make_folder(folder, own)?;
    let named = own.is_some().then_some(accounts);
    Keeper::start(named, folder, is_private).map_err(|error| match is_private {
        true => format!("{KEEPER} in a PID namespace of its own (`private_pids` in [process]), for which it takes root (CAP_SYS_ADMIN): {error}"),
        false => format!("{KEEPER}: {error}"),
    })
}

/// The way to the supervisor.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Asked>);

/// Where the supervisor is asked.
pub struct Inbox(mpsc::Receiver<Asked>);

/// Both ends.
pub fn handle() -> (Handle, Inbox) {
    let (ask, asked) = mpsc::channel(ASKED_MAX);
    (Handle(ask), Inbox(asked))
}

impl Handle {
    /// Starts what is new under `shared`, which is not in use yet, and waits until it can serve or has failed. Returns the
    /// names of applications that do not serve.
    pub async fn prepare(&self, shared: Arc<Shared>) -> Vec<String> {
        let (done, is_done) = oneshot::channel();
        match self.0.send(Asked::Prepare(shared, done)).await {
            Ok(()) => is_done.await.unwrap_or_default(),
            // The end of the supervisor.
            Err(_) => Vec::new(),
        }
    }

    /// The way to the keeper for a process that takes over; `None`: there is none.
    pub async fn heir(&self) -> Option<Bequest> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked::Heir(answer)).await.ok()?;
        answered.await.ok()?
    }

    /// Errors: there is no such application, for a person.
    pub(crate) async fn want(&self, app: &str, what: Wanted) -> Result<ProcessView, String> {
        let (answer, answered) = oneshot::channel();
        let ends = || "the process ends: its applications do so too".to_owned();
        self.0.send(Asked::Want(app.to_owned(), what, answer)).await.map_err(|_| ends())?;
        answered.await.map_err(|_| ends())?
    }

    /// Ends all programs, and waits for that.
    pub async fn end(&self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Asked::End(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

/// Whoever waits for new applications.
struct Waiting {
    until: Instant,
    done: oneshot::Sender<Vec<String>>,
}

struct Supervisor {
    shared: Arc<Shared>,
    rights: Rights,
    keeper: Option<Keeper>,
    words: Option<mpsc::Receiver<Word>>,
    /// Where sockets lie, once a keeper is there.
    folder: PathBuf,
    keeper_folder: PathBuf,
    apps: Vec<Supervised>,
    /// Serial number of the next application.
    next_serial: u32,
    heard: mpsc::Sender<Heard>,
    waiting: Vec<Waiting>,
    next_look: Instant,
    /// All processes that programs have started, as far as they have been seen.
    family: Family,
    /// What the others are found by: the begin of a variable's value.
    mark: String,
    /// No other keeper is started before.
    next_keeper: Instant,
}

/// Looks after the programs of the present config, and of those that follow, until it is told to end.
pub async fn run(mut live: watch::Receiver<Arc<Shared>>, staff: Staff, inbox: Inbox) {
    let (Inbox(mut asked), Staff { keeper, keeper_folder, rights, places }) = (inbox, staff);
    let (heard, mut hears) = mpsc::channel(256);
    let shared = live.borrow_and_update().clone();
    let mut supervisor = Supervisor {
        shared: shared.clone(),
        rights,
        keeper: None,
        words: None,
        folder: places.folder,
        keeper_folder,
        apps: Vec::new(),
        next_serial: 0,
        heard,
        waiting: Vec::new(),
        next_look: Instant::now(),
        family: Family::default(),
        mark: format!("{:016x}/", rand::random::<u64>()),
        next_keeper: Instant::now(),
    };
    supervisor.employ(keeper);
    supervisor.adopt(&shared, true);
    let mut clock = tokio::time::interval(TICK);
    let mut is_live = true;
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_busy = !supervisor.apps.is_empty() || !supervisor.waiting.is_empty();
        tokio::select! {
            order = asked.recv() => match order {
                Some(Asked::Prepare(shared, done)) => supervisor.prepare(&shared, done),
                Some(Asked::Want(app, what, answer)) => drop(answer.send(supervisor.want(&app, what))),
                // Whoever asked may have left.
                Some(Asked::Heir(answer)) => drop(answer.send(supervisor.heir())),
                Some(Asked::End(done)) => {
                    supervisor.end().await;
                    let _ = done.send(());
                    return;
                }
                None => return,
            },
            word = next(&mut supervisor.words) => supervisor.on_word(word),
            Some(heard) = hears.recv() => supervisor.on_heard(heard),
            changed = live.changed(), if is_live => {
                // Later nobody can change anything any more; the end is told.
                is_live = changed.is_ok();
                let shared = live.borrow_and_update().clone();
                supervisor.adopt(&shared, true);
            }
            _ = clock.tick(), if is_busy => {}
        }
        supervisor.tick();
    }
}

/// What is heard of the keeper; never ends without one.
async fn next(words: &mut Option<mpsc::Receiver<Word>>) -> Option<Word> {
    match words {
        Some(words) => words.recv().await,
        None => std::future::pending().await,
    }
}

impl Supervisor {
    fn employ(&mut self, keeper: Option<Keeper>) {
        self.keeper = keeper;
        self.words = self.keeper.as_mut().and_then(Keeper::take_words);
    }

    /// Goes on with the applications of `shared`. With `is_in_use`, those that changed are replaced and those that are gone
    /// end; else what is new begins. One whose instances listen elsewhere is new: the one before serves until then, and
    /// finishes what it has where it was.
    fn adopt(&mut self, shared: &Arc<Shared>, is_in_use: bool) {
        if is_in_use {
            self.shared = shared.clone();
        }
        for app in &shared.config.processes {
            match self.apps.iter_mut().find(|known| known.is_before(app, shared)) {
                // What comes back before it is gone has to be ready, too.
                Some(known) if is_in_use || known.is_leaving() => known.adopt(app, shared),
                Some(_) => {}
                None => {
                    self.next_serial += 1;
                    self.apps.push(Supervised::new(app, shared, self.next_serial));
                }
            }
        }
        for known in self.apps.iter_mut().filter(|_| is_in_use) {
            let namesake = shared.config.processes.iter().find(|app| app.name == known.name());
            if namesake.is_none_or(|app| !known.is_before(app, shared)) {
                known.leave(namesake.is_some(), shared);
            }
        }
    }

    /// One that is started now has no more rights than this process. Where there is none, another try follows.
    fn find_keeper(&mut self) {
        self.next_keeper = Instant::now() + KEEPER_PAUSE;
        self.rights = Rights::new(None);
        self.keeper_folder.clone_from(&self.folder);
        let is_private = self.shared.config.process.private_pids;
        if is_private && !is_root() {
            tracing::error!("{NOT_PRIVATE}");
        }
        match hire(&self.folder, None, &[], is_private && is_root()) {
            Ok(keeper) => self.employ(Some(keeper)),
            Err(reason) => tracing::error!("{reason}"),
        }
    }

    fn prepare(&mut self, shared: &Arc<Shared>, done: oneshot::Sender<Vec<String>>) {
        self.adopt(shared, false);
        let longest = shared.config.processes.iter().map(|app| app.rules.start_timeout).max().unwrap_or_default();
        self.waiting.push(Waiting { until: Instant::now() + longest, done });
    }

    fn heir(&self) -> Option<Bequest> {
        let keeper = self.keeper.as_ref()?;
        let ways = keeper.heir().and_then(|channel| Ok((channel, keeper.warden()?))).inspect_err(|error| {
            tracing::warn!(%error, "the keeper of programs is not handed over");
        });
        let (channel, warden) = ways.ok()?;
        let (folder, is_private) = (self.keeper_folder.clone(), keeper.is_private());
        Some(Bequest { channel, folder, warden, is_private })
    }

    fn want(&mut self, app: &str, what: Wanted) -> Result<ProcessView, String> {
        let known: Vec<&str> = self.apps.iter().map(Supervised::name).collect();
        let none = match known.is_empty() {
            true => format!("no process is called `{app}`: the config has none with type = \"process\" or \"php\""),
            false => format!("no process is called `{app}`: there are {}", known.join(", ")),
        };
        let found = self.apps.iter_mut().find(|known| known.name() == app && !known.is_leaving()).ok_or(none)?;
        found.want(what);
        self.tick();
        let found = self.views(Instant::now()).into_iter().find(|known| known.name == app);
        found.ok_or_else(|| format!("`{app}` is gone"))
    }

    /// `None`: the keeper has ended.
    fn on_word(&mut self, word: Option<Word>) {
        let now = Instant::now();
        let news = match word {
            Some(Word::News(news)) => news,
            Some(Word::Unguarded) => return self.on_unguarded(),
            None => return self.on_end_of_keeper(now),
        };
        let Some((id, happened)) = news.of_instance() else { return };
        let Some(app) = self.apps.iter_mut().find(|app| app.has(id)) else { return };
        match happened {
            Happened::Started { pid, started } => {
                self.family.add(pid, started);
                app.on_started(id, pid, &self.heard);
            }
            Happened::Ended(exit) => app.on_exit(id, &exit, now, &self.shared),
        }
    }

    /// The keeper goes on, and programs with it: another warden comes with another keeper alone.
    fn on_unguarded(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.reap_warden();
        }
        tracing::error!(
            "the warden of programs has been killed: if their keeper is killed as well, what they have started may outlive it; a takeover (`one-server upgrade`) or a restart brings another one"
        );
        self.shared
            .note(EventLevel::Error, "the warden of programs has been killed: a takeover brings another one".into());
    }

    /// Its warden has killed what it had started, unless that was killed as well.
    fn on_end_of_keeper(&mut self, now: Instant) {
        tracing::error!("the keeper of programs has ended, and all programs with it: another one is started");
        if let Some(keeper) = self.keeper.take() {
            keeper.bury();
        }
        let all = processes::all();
        self.family.add_marked(&all, (MARK, &self.mark));
        self.family.look(&all);
        self.family.kill();
        self.employ(None);
        self.apps.iter_mut().for_each(|app| app.lose_all(now));
        // Where keepers end as they come, they come no faster than this.
        self.next_keeper = self.next_keeper.max(now);
    }

    fn on_heard(&mut self, heard: Heard) {
        let (Heard::Ready(id) | Heard::Unfit(id, _)) = heard;
        let Some(app) = self.apps.iter_mut().find(|app| app.has(id)) else { return };
        match heard {
            Heard::Ready(id) => app.on_ready(id, Instant::now()),
            Heard::Unfit(id, reason) => app.on_unfit(id, reason, Instant::now(), &self.shared),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.keeper.is_none() && !self.apps.is_empty() && self.next_keeper <= now {
            self.find_keeper();
        }
        if self.next_look <= now && !self.apps.is_empty() {
            let begun = Instant::now();
            let seen = processes::all();
            self.family.look(&seen);
            self.apps.iter_mut().for_each(|app| app.look_at_memory(&seen, now));
            self.next_look = now + MEMORY_LOOK.max(begun.elapsed() * LOOK_SHARE);
        }
        // Without a keeper nothing runs, and nothing can be started.
        for (app, keeper) in self.apps.iter_mut().zip(std::iter::repeat(self.keeper.as_ref())) {
            let Some(keeper) = keeper else { break };
            app.tick(now);
            while let Some(action) = app.next_action() {
                let with = supervised::Tools { keeper, rights: &self.rights, mark: &self.mark, heard: &self.heard };
                let done = app.act(action, with, now);
                if let Err((id, reason)) = done {
                    app.on_exit(id, &Exit::NotStarted(reason), now, &self.shared);
                }
            }
        }
        let gone: Vec<Supervised> = self.apps.extract_if(.., |app| app.is_gone()).collect();
        for gone in gone {
            // The present one, or else the last of those that only finish what they have.
            let namesakes = || self.apps.iter().enumerate().filter(|(_, app)| app.name() == gone.name());
            let present = namesakes().find(|(_, app)| !app.is_leaving()).or_else(|| namesakes().next_back());
            if let Some(at) = present.map(|(at, _)| at) {
                self.apps[at].inherit(gone);
            }
        }
        self.shared.set_processes(self.views(now));
        let is_settled = self.apps.iter().all(Supervised::is_settled);
        for waiting in self.waiting.extract_if(.., |waiting| is_settled || waiting.until <= now) {
            let idle = self.apps.iter().filter(|app| !app.serves()).map(|app| app.name().to_owned());
            // Whoever waited may have left.
            let _ = waiting.done.send(idle.collect());
        }
    }

    fn views(&self, now: Instant) -> Vec<ProcessView> {
        view::by_name(self.apps.iter().map(|app| (app.view(now), app.is_leaving())).collect())
    }

    async fn end(&mut self) {
        let longest = self.apps.iter().map(Supervised::kill_timeout).max().unwrap_or_default();
        if let (Some(keeper), Some(words)) = (self.keeper.take(), self.words.take()) {
            self.apps.iter_mut().for_each(Supervised::withdraw_all);
            keeper.end(words, longest + END_GRACE).await;
            if self.folder != self.keeper_folder {
                // What cannot be removed goes with the keeper.
                let _ = std::fs::remove_dir_all(&self.folder);
            }
        }
    }
}
