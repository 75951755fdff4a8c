//! The keeper: a small process that is the parent of all programs.
//!
//! It is this program, started a second time ([`run_if_asked`]), with one thread. It exists for three reasons. It ends when the
//! channel to its process does, however that has ended, and takes all programs with it, so that not even SIGKILL leaves any
//! behind. It stays root where its process drops its rights, so that programs of other users can be started again; it starts
//! them as those users alone that were named while its process was root. And it is the thread whose end the kernel tells
//! programs of (PR_SET_PDEATHSIG), which a thread of a runtime may not be. Whatever programs leave behind becomes its child
//! (PR_SET_CHILD_SUBREAPER) and goes in the end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::letters::{AccountNote, News, Order, StartNote, VARIABLE};
use crate::runtime::sys::handover::Channel;
use crate::runtime::sys::processes::{self, Launch, all, find_program, heard, kill, reap, signal_group};
use crate::runtime::sys::users::Account;

/// How long our process may take to hear news; it has a thread for nothing else.
const NEWS_MAX: Duration = Duration::from_secs(10);

/// How often what remains in the end is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long orphans that are killed may take to be gone.
const ORPHANS_MAX: Duration = Duration::from_secs(5);

/// Becomes the keeper if this process was started to be one: then it does not return.
///
/// Must be called before the process has a second thread.
pub fn run_if_asked() {
    let asked = std::env::var(VARIABLE).ok().and_then(|pid| pid.parse::<u32>().ok());
    // The variable may be an inheritance of somebody else's.
    if asked != Some(std::os::unix::process::parent_id()) {
        return;
    }
    match Keeper::new() {
        Ok(mut keeper) => keeper.keep(),
        Err(error) => {
            eprintln!("error: the keeper of programs cannot start: {error}");
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

struct Keeper {
    channel: Channel,
    signals: OwnedFd,
    /// Whom programs may run as; `None`: anybody.
    accounts: Option<Vec<Option<AccountNote>>>,
    folder: Option<PathBuf>,
    /// By number of the process.
    programs: HashMap<u32, Program>,
    /// Since when all are to end.
    ending: Option<Instant>,
}

struct Program {
    id: u64,
    kill_timeout: Duration,
    is_killed: bool,
}

impl Keeper {
    fn new() -> std::io::Result<Keeper> {
        // Before any descriptor is opened that could be the third.
        let signals = processes::prepare()?;
        let channel = Channel::inherited()?;
        Ok(Keeper {
            channel,
            signals,
            accounts: Some(Vec::new()),
            folder: None,
            programs: HashMap::new(),
            ending: None,
        })
    }

    /// Until all programs have ended and none is wanted any more.
    fn keep(&mut self) {
        while !(self.ending.is_some() && self.programs.is_empty()) {
            let (has_order, has_ended) = self.wait();
            if has_ended {
                heard(self.signals.as_fd());
            }
            self.reap();
            if has_order && self.ending.is_none() {
                self.hear();
            }
            self.kill_late();
        }
        self.kill_orphans();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    /// Whether there is an order, and whether a child has ended.
    fn wait(&self) -> (bool, bool) {
        let mut fds = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.channel, PollFlags::IN)];
        // In the end nobody is listened to any more: a channel that is closed is always ready.
        let (count, time) = if self.ending.is_some() { (1, Some(LOOK)) } else { (2, None) };
        let time = time.map(|time| Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() });
        match poll(&mut fds[..count], time.as_ref()) {
            Ok(_) => (!fds[1].revents().is_empty(), !fds[0].revents().is_empty()),
            Err(_) => (false, true),
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ended)) = reap() {
            if let Some(program) = self.programs.remove(&pid) {
                // Its workers would go on without it.
                signal_group(pid, Signal::KILL);
                let session = all().into_iter().filter(|seen| seen.session == pid && seen.pid != pid);
                session.for_each(|seen| kill(seen.pid));
                self.tell(&News::of_end(program.id, ended));
            }
        }
    }

    fn hear(&mut self) {
        let (order, fds) = match self.channel.receive(None) {
            Ok(Some((bytes, fds))) => (serde_json::from_slice(&bytes), fds),
            // Our process has ended.
            Ok(None) | Err(_) => (Ok(Order::End), Vec::new()),
        };
        match order {
            Ok(Order::Begin { accounts, folder }) if self.folder.is_none() => {
                (self.accounts, self.folder) = (accounts, Some(folder));
            }
            Ok(Order::Begin { .. }) => {}
            Ok(Order::Start(note)) => {
                let id = note.id;
                let news = match self.start(*note, fds) {
                    Ok(pid) => News::Started { id, pid },
                    Err(reason) => News::NotStarted { id, reason },
                };
                self.tell(&news);
            }
            Ok(Order::Terminate(id)) => self.signal(id, Signal::TERM),
            Ok(Order::Kill(id)) => self.signal(id, Signal::KILL),
            Ok(Order::End) => self.end(),
            Err(error) => eprintln!("error: the keeper of programs is not understood: {error}"),
        }
    }

    fn start(&mut self, note: StartNote, fds: Vec<OwnedFd>) -> Result<u32, String> {
        if self.accounts.as_ref().is_some_and(|named| !named.contains(&note.account)) {
            let user = note.account.map_or_else(|| "root".into(), |account| account.user);
            return Err(format!("user `{user}` was not named when one-server was started: restart it"));
        }
        let mut fds = fds.into_iter();
        let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else {
            return Err("its output has nowhere to go".into());
        };
        let path = note.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| OsString::from(path));
        let first = note.words.first().map_or("", String::as_str);
        let program = find_program(first, &note.directory, &path.unwrap_or_default())?;
        let account = note.account.map(Account::from);
        let launch = Launch {
            program: &program,
            words: &note.words,
            environment: &note.environment,
            directory: Some(&note.directory),
            account: account.as_ref(),
            limits: &note.limits,
            stdout,
            stderr,
            listener: fds.next(),
        };
        let pid = processes::launch(launch).map_err(|error| {
            let whom = account.as_ref().map_or_else(String::new, |account| format!(" as user `{}`", account.user));
            format!("{} cannot be run{whom} in {}: {error}", program.display(), note.directory.display())
        })?;
        let kill_timeout = Duration::from_millis(note.kill_timeout_ms);
        self.programs.insert(pid, Program { id: note.id, kill_timeout, is_killed: false });
        Ok(pid)
    }

    fn signal(&self, id: u64, signal: Signal) {
        let known = self.programs.iter().find(|(_, program)| program.id == id);
        if let Some((pid, _)) = known {
            signal_group(*pid, signal);
        }
    }

    fn end(&mut self) {
        self.ending = Some(Instant::now());
        self.programs.keys().for_each(|pid| signal_group(*pid, Signal::TERM));
    }

    /// Those that take too long to end in the end.
    fn kill_late(&mut self) {
        let Some(begun) = self.ending else { return };
        for (pid, program) in &mut self.programs {
            if !program.is_killed && begun.elapsed() >= program.kill_timeout {
                program.is_killed = true;
                signal_group(*pid, Signal::KILL);
            }
        }
    }

    /// What programs have left behind, in sessions of their own.
    fn kill_orphans(&self) {
        let (own, begun) = (std::process::id(), Instant::now());
        loop {
            while reap().is_some() {}
            let orphans: Vec<u32> = all().into_iter().filter(|seen| seen.parent == own).map(|seen| seen.pid).collect();
            if orphans.is_empty() || begun.elapsed() > ORPHANS_MAX {
                return;
            }
            orphans.into_iter().for_each(kill);
            std::thread::sleep(LOOK);
        }
    }

    /// Nobody may hear it any more.
    fn tell(&self, news: &News) {
        if let Ok(bytes) = serde_json::to_vec(news) {
            let _ = self.channel.send(&bytes, &[], NEWS_MAX);
        }
    }
}
