//! Where entries are kept: in a database, or in the memory of the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::DatabaseSettings;
use super::database::{Database, DatabaseError};
use super::entry::{Entry, NewEntry};

/// Entries shown.
pub(super) const SHOWN_MAX: usize = 50;
/// Entries kept in memory when there is no database; the oldest go.
pub(super) const MEMORY_ENTRIES_MAX: usize = 200;

/// The guest book's shelf.
#[derive(Debug)]
pub(super) enum Store {
    /// Shared by all workers of this process.
    Memory(Arc<Mutex<Memory>>),
    /// Each worker has connections of its own.
    Database(Box<Database>),
}

/// The identifier of the request being answered, for the comment in front of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId(pub(super) Option<u64>);

impl RequestId {
    /// Reads the value of an `X-Request-Id` field. What is not a hexadecimal number of up to 16 digits is no id: the
    /// value comes from outside and ends up in SQL.
    pub(super) fn parse(value: &[u8]) -> RequestId {
        let hex = !value.is_empty() && value.len() <= 16 && value.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(value).ok().filter(|_| hex);
        RequestId(text.and_then(|text| u64::from_str_radix(text, 16).ok()))
    }
}

impl Store {
    pub(super) fn memory(memory: Arc<Mutex<Memory>>) -> Store {
        Store::Memory(memory)
    }

    pub(super) fn database(settings: &DatabaseSettings) -> Store {
        Store::Database(Box::new(Database::new(settings)))
    }

    /// The latest entries, newest first, at most [`SHOWN_MAX`]. `seen` is the id of an entry the reader knows to
    /// exist: it is in the answer even when the replica that was asked first has not received it yet.
    pub(super) async fn latest(&self, request: RequestId, seen: Option<u64>) -> Result<Vec<Entry>, DatabaseError> {
        match self {
            Store::Memory(memory) => Ok(lock(memory).latest()),
            Store::Database(database) => database.latest(request, seen).await,
        }
    }

    /// Adds an entry.
    pub(super) async fn add(&self, request: RequestId, entry: NewEntry) -> Result<Entry, DatabaseError> {
        match self {
            Store::Memory(memory) => Ok(lock(memory).add(entry)),
            Store::Database(database) => database.add(request, entry).await,
        }
    }

    /// Where an entry goes, in words.
    pub(super) fn described(&self) -> String {
        match self {
            Store::Memory(_) => format!(
                "There is no database in this run: the last {MEMORY_ENTRIES_MAX} entries stay in the memory of the \
                 process and go when it ends."
            ),
            Store::Database(_) => {
                "Entries are kept in a database: written to its primary, read from its replicas.".to_owned()
            }
        }
    }

    /// `memory` or `database`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Store::Memory(_) => "memory",
            Store::Database(_) => "database",
        }
    }
}

/// Entries in memory, oldest first.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<Entry>,
    last_id: u64,
}

impl Memory {
    fn latest(&self) -> Vec<Entry> {
        self.entries.iter().rev().take(SHOWN_MAX).cloned().collect()
    }

    fn add(&mut self, entry: NewEntry) -> Entry {
        self.last_id += 1;
        let NewEntry { name, message, written_ms } = entry;
        let entry = Entry { id: self.last_id, name, message, written_ms };
        if self.entries.len() == MEMORY_ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry.clone());
        entry
    }
}

/// A panic elsewhere cannot leave the entries half changed, so poison does not matter.
fn lock(memory: &Mutex<Memory>) -> std::sync::MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> NewEntry {
        NewEntry { name: format!("n{n}"), message: "m".into(), written_ms: n }
    }

    #[test]
    fn memory_keeps_the_newest() {
        let mut memory = Memory::default();
        for n in 1..=MEMORY_ENTRIES_MAX as u64 + 3 {
            assert_eq!(memory.add(entry(n)).id, n);
        }
        assert_eq!(memory.entries.len(), MEMORY_ENTRIES_MAX);
        let latest = memory.latest();
        assert_eq!(latest.len(), SHOWN_MAX);
        assert_eq!(latest[0].name, format!("n{}", MEMORY_ENTRIES_MAX + 3));
        assert!(latest.is_sorted_by(|a, b| a.id > b.id));
    }

    #[test]
    fn request_ids_are_hexadecimal_or_nothing() {
        assert_eq!(RequestId::parse(b"7f3A"), RequestId(Some(0x7f3a)));
        assert_eq!(RequestId::parse(b"ffffffffffffffff"), RequestId(Some(u64::MAX)));
        for bad in ["", "10000000000000000", "+1", "1 */ DROP TABLE x", "ä", "0x1"] {
            assert_eq!(RequestId::parse(bad.as_bytes()), RequestId(None), "{bad}");
        }
    }
}
