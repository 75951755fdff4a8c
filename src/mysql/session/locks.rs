//! Which pins end by themselves: those of a session that has locks and nothing else. Pure.

use super::super::protocol::follow::Outcome;
use super::super::sql::{Class, Kind, LockStep};
use super::Session;

/// Locks of a session that is pinned by nothing else.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Names that were asked for, as written. Whether the session has them, and how often, the server knows.
    names: Vec<Vec<u8>>,
    /// It has locked tables.
    tables: bool,
}

/// Names of locks that a session is known to have asked for; with more it stays pinned.
pub(super) const LOCK_NAMES_MAX: usize = 16;
/// Longest of them as written, bytes: servers take 64 letters.
const LOCK_NAME_BYTES_MAX: usize = 512;

impl Session {
    /// Keeps account of what the pin is there for, as far as that is locks. `leaves_other`: it may have left something else.
    pub(super) fn follow_locks(&mut self, class: &Class, outcome: &Outcome, was_pinned: bool, leaves_other: bool) {
        if self.pin.is_none() || leaves_other || was_pinned && self.locks.is_none() {
            self.locks = None;
            return;
        }
        let (locks, is_done) = (self.locks.get_or_insert_default(), outcome.error.is_none());
        match class.lock {
            LockStep::Tables => locks.tables = true,
            LockStep::UnlockTables => locks.tables &= !is_done,
            LockStep::ReleaseAll if is_done => locks.names.clear(),
            // Under other settings the same text may be another name.
            LockStep::Unknown if class.kind == Kind::Set && !locks.names.is_empty() => self.locks = None,
            _ => {}
        }
    }

    /// It has asked for a lock by this name, as written; `None`: nobody knows which.
    pub fn on_lock_name(&mut self, name: Option<&[u8]>) {
        let Some(locks) = &mut self.locks else { return };
        match name {
            Some(name) if locks.names.iter().any(|known| known == name) => {}
            Some(name) if locks.names.len() < LOCK_NAMES_MAX && name.len() <= LOCK_NAME_BYTES_MAX => {
                locks.names.push(name.to_vec());
            }
            _ => self.locks = None,
        }
    }

    /// A question to the server about each lock the session may have: 1, or it has not.
    pub fn lock_question(&self) -> Option<Vec<u8>> {
        let names = &self.locks.as_ref()?.names;
        let asked = names.iter().map(|name| [b"IS_USED_LOCK(", &name[..], b") <=> CONNECTION_ID()"].concat());
        (!names.is_empty()).then(|| [&b"SELECT "[..], &asked.collect::<Vec<_>>().join(&b", "[..])].concat())
    }

    /// The answer to [`Session::lock_question`].
    pub fn on_locks(&mut self, answer: &[Option<Vec<u8>>]) {
        let Some(locks) = &mut self.locks else { return };
        let mut answer = answer.iter();
        locks.names.retain(|_| answer.next().is_none_or(|value| value.as_deref() != Some(b"0")));
    }

    /// Whether the session was pinned by locks alone, and has none any more.
    pub fn is_unlocked(&self) -> bool {
        self.locks.as_ref().is_some_and(|locks| locks.names.is_empty() && !locks.tables)
    }

    /// The pin is over.
    pub fn unpin(&mut self) {
        (self.pin, self.locks) = (None, None);
    }
}
