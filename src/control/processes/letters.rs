//! What passes between this process and the keeper of its programs.

use std::path::PathBuf;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::app::process::Exit;
use crate::runtime::sys::processes::{Ended, Limited};
use crate::runtime::sys::users::Account;

/// The variable that makes a process the keeper of the one that has set it: its number.
pub(super) const VARIABLE: &str = "ONE_SERVER_KEEPER_OF";

/// An account as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountNote {
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl From<&Account> for AccountNote {
    fn from(account: &Account) -> AccountNote {
        let Account { user, uid, gid, groups } = account.clone();
        AccountNote { user, uid, gid, groups }
    }
}

impl From<AccountNote> for Account {
    fn from(note: AccountNote) -> Account {
        let AccountNote { user, uid, gid, groups } = note;
        Account { user, uid, gid, groups }
    }
}

/// To the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// The first one, and only that.
    Begin {
        /// Whom programs may run as, `None` in the list being the keeper itself; without a list anybody. Nobody can add to it
        /// later: who asks has less rights by then.
        accounts: Option<Vec<Option<AccountNote>>>,
        /// Removed in the end.
        folder: PathBuf,
    },
    /// A program is to be started. With it come so many descriptors: its standard output and error, and perhaps a socket that
    /// listens and a file.
    Start(Box<StartNote>, usize),
    /// SIGTERM, or SIGQUIT, for a program and its group.
    Terminate(u64),
    /// SIGKILL for a program and its group.
    Kill(u64),
    /// Another process will give orders too, over the channel whose end comes with this. It has no `Begin` to give.
    Heir,
    /// All programs of whoever says it are to end, and then its channel; with the last one ends the keeper.
    End,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartNote {
    pub(super) id: u64,
    pub(super) words: Vec<String>,
    /// With PATH, by which the program is found.
    pub(super) environment: Vec<(String, String)>,
    /// Absolute.
    pub(super) directory: PathBuf,
    pub(super) account: Option<AccountNote>,
    pub(super) limits: Vec<(Limited, u64)>,
    /// From SIGTERM to SIGKILL when all are to end, milliseconds.
    pub(super) kill_timeout_ms: u64,
    /// SIGTERM ends it in the middle of its work, SIGQUIT behind it.
    pub(super) stops_by_quit: bool,
}

/// From the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// The keeper is the first process of a PID namespace, and sees nobody else.
    IsAlone,
    /// It runs, and that is its number.
    Started {
        id: u64,
        pid: u32,
        /// The number is that in the keeper's namespace; the message is about the process
        /// ([`crate::runtime::sys::handover::Channel::send_about`]).
        #[serde(default)]
        is_inside: bool,
        /// When it began, see [`crate::runtime::sys::processes::started`]; a keeper from before does not tell.
        #[serde(default)]
        started: Option<u64>,
    },
    /// It could not be started.
    NotStarted { id: u64, reason: String },
    /// It has ended with this code.
    Exited { id: u64, code: i32 },
    /// This signal has ended it.
    Killed { id: u64, signal: i32 },
    /// It does not understand an order, and why: it writes nothing itself, for whoever reads its standard error may stall.
    Complaint(String),
}

impl News {
    pub(super) fn of_end(id: u64, ended: Ended) -> News {
        match ended {
            Ended::Code(code) => News::Exited { id, code },
            Ended::Signal(signal) => News::Killed { id, signal },
        }
    }

    /// The same with the number that the process has for us. `None`: the kernel has not told it.
    pub(super) fn numbered_here(self, about: Option<Pid>) -> Option<News> {
        match self {
            News::Started { id, is_inside: true, started, .. } => {
                let pid = about?.as_raw_nonzero().get().unsigned_abs();
                Some(News::Started { id, pid, is_inside: false, started })
            }
            news => Some(news),
        }
    }

    /// What has happened to an instance; `None`: it is of none.
    pub(super) fn of_instance(self) -> Option<(u64, Happened)> {
        Some(match self {
            News::Started { id, pid, started, .. } => (id, Happened::Started { pid, started }),
            News::NotStarted { id, reason } => (id, Happened::Ended(Exit::NotStarted(reason))),
            News::Exited { id, code } => (id, Happened::Ended(Exit::Code(code))),
            News::Killed { id, signal } => (id, Happened::Ended(Exit::Signal(signal))),
            News::Complaint(_) | News::IsAlone => return None,
        })
    }
}

/// To an instance.
pub(super) enum Happened {
    /// It runs by this number, since then.
    Started { pid: u32, started: Option<u64> },
    /// It has ended, or could not be started.
    Ended(Exit),
}
