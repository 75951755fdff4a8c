//! The keeper: a small process that is the parent of all programs.
//!
//! It is this program, started a second time ([`run_if_asked`]), with one thread. It exists for three reasons. It ends when the
//! channel to its process does, however that has ended, and takes all programs with it, so that not even SIGKILL leaves any
//! behind. It stays root where its process drops its rights, so that programs of other users can be started again; it starts
//! them as those users alone that were named while its process was root. And it is the thread whose end the kernel tells
//! programs of (PR_SET_PDEATHSIG), which a thread of a runtime may not be. Whatever programs leave behind becomes its child
//! (PR_SET_CHILD_SUBREAPER) and goes with its program, also in a session of its own, if that is to be seen by its environment
//! ([`MARK`]); else in the end.
//!
//! It has a warden, the process between it and ours, which waits for its end and for nothing else: when it is killed, what it had
//! started becomes the warden's, and is killed, also what runs as users whom our process may do nothing to. Only then does our
//! process hear of it, and start the programs again; one that has taken over waits for the end of the warden, of which it has
//! been given a descriptor. Where the warden is killed as well, our process kills what it has seen of programs,
//! and what it finds by its session or its environment ([`crate::runtime::sys::processes::Family`]).
//!
//! With `private_pids` the keeper is the first process of a PID namespace, and the kernel ends all that is in there with it, also
//! where warden and process are killed at the same time.
//!
//! A process that takes over from ours has a keeper of its own, unless it could not start programs of other users: then it is
//! another owner here ([`Order::Heir`]). Each owner has its programs, and they end with it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use super::letters::{AccountNote, News, Order, StartNote, VARIABLE};
use crate::app::process::MARK;
use crate::runtime::sys::handover::Channel;
use crate::runtime::sys::pid_namespace;
use crate::runtime::sys::processes::{
    self, Launch, ended, find_program, heard, kill_children, kill_orphans_with, kill_rest, reap_child, signal_group,
};
use crate::runtime::sys::users::Account;

/// How long our process may take to hear news; it has a thread for nothing else.
const NEWS_MAX: Duration = Duration::from_secs(10);

/// Letters of a reason, which may hold all of a PATH.
const REASON_MAX: usize = 1024;

/// How often what remains in the end is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Becomes the keeper if this process was started to be one: then it does not return.
///
/// Must be called before the process has a second thread.
pub fn run_if_asked() {
    let asked = std::env::var(VARIABLE).ok().and_then(|pid| pid.parse::<u32>().ok());
    // The variable may be an inheritance of somebody else's.
    if asked != Some(std::os::unix::process::parent_id()) {
        return;
    }
    match processes::go_on_under_a_warden().and_then(|()| Keeper::new()) {
        Ok(mut keeper) if keeper.is_fit() => keeper.keep(),
        Ok(_) => {}
        Err(error) => {
            eprintln!("error: the keeper of programs cannot start: {error}");
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

struct Keeper {
    signals: OwnedFd,
    /// It is the first process of a PID namespace (`process.private_pids`), with which all programs end.
    is_first: bool,
    /// Our process, and those that have taken over from it.
    owners: Vec<Owner>,
    owners_ever: u32,
    /// Whom programs may run as; `None`: anybody.
    accounts: Option<Vec<Option<AccountNote>>>,
    folder: Option<PathBuf>,
    /// By number of the process.
    programs: HashMap<u32, Program>,
}

/// Whoever gives orders.
struct Owner {
    number: u32,
    channel: Channel,
    /// Since when its programs are to end; nothing is heard from it any more.
    ending: Option<Instant>,
}

struct Program {
    id: u64,
    /// [`Owner::number`].
    owner: u32,
    kill_timeout: Duration,
    stops_by_quit: bool,
    is_killed: bool,
    /// Value of [`MARK`].
    mark: Option<String>,
}

impl Program {
    /// What tells it to finish what it has and end.
    fn stop_signal(&self) -> Signal {
        if self.stops_by_quit { Signal::QUIT } else { Signal::TERM }
    }
}

impl Keeper {
    fn new() -> std::io::Result<Keeper> {
        // Before any descriptor is opened that could have one of the first numbers.
        let signals = processes::prepare()?;
        let first = Owner { number: 0, channel: Channel::inherited()?, ending: None };
        Ok(Keeper {
            signals,
            is_first: pid_namespace::is_first(),
            owners: vec![first],
            owners_ever: 1,
            accounts: Some(Vec::new()),
            folder: None,
            programs: HashMap::new(),
        })
    }

    /// Tells its process whether it sees those of its namespace alone, if it is to have one: what it looks for in /proc it must
    /// find by the numbers that it knows. `false`: it cannot be the keeper.
    fn is_fit(&self) -> bool {
        if !self.is_first {
            return true;
        }
        let seen = pid_namespace::see_only_it();
        let news = match &seen {
            Ok(()) => News::IsAlone,
            Err(error) => News::Complaint(format!("/proc of a PID namespace cannot be mounted: {error}")),
        };
        self.tell(0, &news);
        seen.is_ok()
    }

    /// Until all programs have ended and nobody wants any more.
    fn keep(&mut self) {
        while !self.owners.is_empty() {
            let (speakers, has_ended) = self.wait();
            if has_ended {
                heard(self.signals.as_fd());
            }
            self.reap();
            speakers.into_iter().for_each(|number| self.hear(number));
            self.kill_late();
            self.let_go();
        }
    }

    /// Which owners have something to say, and whether a child has ended.
    fn wait(&self) -> (Vec<u32>, bool) {
        // In the end an owner is not listened to any more: a channel that is closed is always ready.
        let listened: Vec<&Owner> = self.owners.iter().filter(|owner| owner.ending.is_none()).collect();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(listened.iter().map(|owner| PollFd::new(&owner.channel, PollFlags::IN)));
        let time = (listened.len() < self.owners.len()).then_some(LOOK);
        let time = time.map(|time| Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() });
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {
                let speaks = |(owner, fd): (&&Owner, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(owner.number);
                let speakers = listened.iter().zip(&fds[1..]).filter_map(speaks).collect();
                (speakers, !fds[0].revents().is_empty())
            }
            Err(_) => (Vec::new(), true),
        }
    }

    fn reap(&mut self) {
        while let Some(pid) = ended() {
            if let Some(program) = self.programs.get(&pid) {
                // Its workers would go on without it.
                kill_rest(pid);
                if let Some(mark) = &program.mark {
                    kill_orphans_with((MARK, mark));
                }
            }
            let Some(ended) = reap_child(pid) else { return };
            if let Some(program) = self.programs.remove(&pid) {
                self.tell(program.owner, &News::of_end(program.id, ended));
            }
        }
    }

    fn hear(&mut self, owner: u32) {
        let Some(speaker) = self.owners.iter().find(|known| known.number == owner) else { return };
        let (order, fds) = match speaker.channel.receive(None) {
            Ok(Some((bytes, fds))) => (serde_json::from_slice(&bytes), fds),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return self.complain(owner, &error),
            // It has ended.
            Ok(None) | Err(_) => (Ok(Order::End), Vec::new()),
        };
        match order {
            Ok(Order::Begin { accounts, folder }) if self.folder.is_none() => {
                (self.accounts, self.folder) = (accounts, Some(folder));
            }
            Ok(Order::Begin { .. }) => {}
            Ok(Order::Start(note, sent)) => {
                let id = note.id;
                let started = match fds.len() == sent {
                    true => self.start(owner, *note, fds),
                    false => Err("the keeper of programs may not have as many open files as that takes".into()),
                };
                match started {
                    Ok(pid) => self.tell_started(owner, id, pid),
                    Err(reason) => {
                        let reason = reason.chars().take(REASON_MAX).collect();
                        self.tell(owner, &News::NotStarted { id, reason });
                    }
                }
            }
            Ok(Order::Terminate(id)) => match self.find(owner, id) {
                Some((pid, program)) => signal_group(pid, program.stop_signal()),
                None => self.tell_gone(owner, id),
            },
            Ok(Order::Kill(id)) => match self.find(owner, id) {
                Some((pid, _)) => signal_group(pid, Signal::KILL),
                None => self.tell_gone(owner, id),
            },
            Ok(Order::Heir) => {
                for channel in fds {
                    self.owners.push(Owner { number: self.owners_ever, channel: channel.into(), ending: None });
                    self.owners_ever += 1;
                }
            }
            Ok(Order::End) => self.end(owner),
            Err(error) => self.complain(owner, &error),
        }
    }

    fn start(&mut self, owner: u32, note: StartNote, fds: Vec<OwnedFd>) -> Result<u32, String> {
        let account = self.named(note.account)?.map(Account::from);
        let mut fds = fds.into_iter();
        let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else {
            return Err("its output has nowhere to go".into());
        };
        let path = note.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| OsString::from(path));
        let first = note.words.first().map_or("", String::as_str);
        let program = find_program(first, &note.directory, &path.unwrap_or_default())?;
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
            file: fds.next(),
        };
        let pid = processes::launch(launch).map_err(|error| {
            let whom = account.as_ref().map_or_else(String::new, |account| format!(" as user `{}`", account.user));
            format!("{} cannot be run{whom} in {}: {error}", program.display(), note.directory.display())
        })?;
        let kill_timeout = Duration::from_millis(note.kill_timeout_ms);
        let stops_by_quit = note.stops_by_quit;
        let mark = note.environment.into_iter().find(|(name, _)| name == MARK).map(|(_, value)| value);
        self.programs.insert(pid, Program { id: note.id, owner, kill_timeout, stops_by_quit, is_killed: false, mark });
        Ok(pid)
    }

    /// The account as it was when it was named: it may have got other groups since, which whoever asks cannot vouch for.
    fn named(&self, asked: Option<AccountNote>) -> Result<Option<AccountNote>, String> {
        let Some(named) = &self.accounts else { return Ok(asked) };
        let numbers = |account: &Option<AccountNote>| account.as_ref().map(|account| (account.uid, account.gid));
        match named.iter().find(|account| numbers(account) == numbers(&asked)) {
            Some(account) => Ok(account.clone()),
            None => {
                let user = asked.map_or_else(|| "root".into(), |account| account.user);
                Err(format!("user `{user}` was not named when one-server was started: restart it"))
            }
        }
    }

    fn find(&self, owner: u32, id: u64) -> Option<(u32, &Program)> {
        let known = self.programs.iter().find(|(_, program)| program.owner == owner && program.id == id);
        known.map(|(pid, program)| (*pid, program))
    }

    fn end(&mut self, owner: u32) {
        if let Some(owner) = self.owners.iter_mut().find(|known| known.number == owner) {
            owner.ending = Some(Instant::now());
        }
        let own = self.programs.iter().filter(|(_, program)| program.owner == owner);
        own.for_each(|(pid, program)| signal_group(*pid, program.stop_signal()));
    }

    /// Those that take too long to end in the end.
    fn kill_late(&mut self) {
        for (pid, program) in &mut self.programs {
            let owner = self.owners.iter().find(|owner| owner.number == program.owner);
            let Some(begun) = owner.and_then(|owner| owner.ending) else { continue };
            if !program.is_killed && begun.elapsed() >= program.kill_timeout {
                program.is_killed = true;
                signal_group(*pid, Signal::KILL);
            }
        }
    }

    /// Owners that want nothing more and of whom nothing is left learn by the end of their channel that it is so.
    fn let_go(&mut self) {
        let programs = &self.programs;
        let is_over =
            |owner: &Owner| owner.ending.is_some() && programs.values().all(|program| program.owner != owner.number);
        if self.owners.iter().all(is_over) {
            // What programs have left behind, in sessions of their own.
            kill_children();
            if let Some(folder) = &self.folder {
                let _ = std::fs::remove_dir_all(folder);
            }
        }
        // Closed for good: a warden has the first one's end as well.
        for owner in self.owners.iter().filter(|owner| is_over(owner)) {
            let _ = rustix::net::shutdown(&owner.channel, rustix::net::Shutdown::Both);
        }
        self.owners.retain(|owner| !is_over(owner));
    }

    /// It is not reaped yet, so that the number is its own.
    fn tell_started(&self, owner: u32, id: u64, pid: u32) {
        let news = News::Started { id, pid, is_inside: self.is_first, started: processes::started(pid) };
        let about = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| self.is_first);
        self.tell_about(owner, &news, about);
    }

    /// Whoever asks has not heard how it ended, or only a moment ago.
    fn tell_gone(&self, owner: u32, id: u64) {
        self.tell(owner, &News::Killed { id, signal: Signal::KILL.as_raw() });
    }

    fn complain(&self, owner: u32, error: &dyn std::fmt::Display) {
        self.tell(owner, &News::Complaint(error.to_string()));
    }

    fn tell(&self, owner: u32, news: &News) {
        self.tell_about(owner, news, None);
    }

    /// Nobody may hear it any more.
    fn tell_about(&self, owner: u32, news: &News, about: Option<Pid>) {
        let owner = self.owners.iter().find(|known| known.number == owner);
        if let (Some(owner), Ok(bytes)) = (owner, serde_json::to_vec(news)) {
            let _ = match about {
                Some(about) => owner.channel.send_about(&bytes, about, NEWS_MAX),
                None => owner.channel.send(&bytes, &[], NEWS_MAX),
            };
        }
    }
}
