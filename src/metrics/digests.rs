//! What was asked of MySQL servers, by the normal form of the statements: a table for each data worker that only it writes
//! and that the control thread reads and adds up.
//!
//! The table is bounded: normal forms that come when it is full are counted together ([`Digests::other`]). Its rows are
//! never moved and never taken away, so that readers need no lock. A reset puts an empty table in its place
//! ([`DigestBoard::reset`]), another size one with the same rows ([`DigestBoard::resize`]): the worker finds it with its next
//! statement.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::{Counter, Gauge, Histogram};

/// What is the same in all statements of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DigestName {
    /// What it is called in logs: 16 hexadecimal digits of the normal form's hash.
    pub id: Box<str>,
    /// The normal form; empty for what had no place of its own.
    pub text: Box<str>,
    /// Database that was selected; empty: none.
    pub schema: Box<str>,
    /// Account.
    pub user: Box<str>,
}

/// Where a statement went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestRoute {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
    /// Nowhere: it was refused here.
    Nowhere,
}

/// One statement that is over.
#[derive(Clone, Copy, Debug)]
pub struct Executed {
    /// Where it went.
    pub route: DigestRoute,
    /// A rule or a comment chose.
    pub is_chosen: bool,
    /// It ended in an error.
    pub is_error: bool,
    /// Rows sent to the client.
    pub rows_sent: u64,
    /// Rows that were changed.
    pub rows_affected: u64,
    /// Warnings it left behind.
    pub warnings: u64,
    /// From its last byte to the last byte of its answer.
    pub duration: Duration,
    /// When that was, milliseconds of the Unix epoch.
    pub at_unix_ms: u64,
}

/// The statements of one normal form, one database and one account.
#[derive(Debug, Default)]
pub struct DigestRow {
    /// What they have in common.
    pub name: DigestName,
    /// Statements.
    pub count: Counter,
    /// Of these, ended in an error.
    pub errors: Counter,
    /// Of these, sent to the primary.
    pub primary: Counter,
    /// Of these, sent to a replica.
    pub replica: Counter,
    /// Of these, a rule or a comment chose where to.
    pub chosen: Counter,
    /// Rows sent to clients.
    pub rows_sent: Counter,
    /// Rows changed.
    pub rows_affected: Counter,
    /// Warnings left behind.
    pub warnings: Counter,
    /// Sum of durations, µs.
    pub sum_us: Counter,
    /// Shortest duration, µs; valid when `count` is not 0.
    pub min_us: Gauge,
    /// Longest duration, µs.
    pub max_us: Gauge,
    /// Milliseconds of the Unix epoch.
    pub first_unix_ms: Gauge,
    /// The same of the last one.
    pub last_unix_ms: Gauge,
    /// All durations.
    pub duration: Histogram,
}

impl DigestRow {
    fn new(name: DigestName) -> DigestRow {
        DigestRow { name, ..DigestRow::default() }
    }

    /// Counts a statement. Only the owning thread may call it.
    pub fn add(&self, executed: &Executed) {
        let us = executed.duration.as_micros() as u64;
        if self.count.value() == 0 {
            self.first_unix_ms.set(executed.at_unix_ms);
            self.min_us.set(us);
        }
        self.min_us.set(self.min_us.value().min(us));
        self.max_us.set(self.max_us.value().max(us));
        self.last_unix_ms.set(executed.at_unix_ms);
        self.sum_us.add(us);
        self.duration.record(executed.duration);
        self.errors.add(u64::from(executed.is_error));
        self.primary.add(u64::from(executed.route == DigestRoute::Primary));
        self.replica.add(u64::from(executed.route == DigestRoute::Replica));
        self.chosen.add(u64::from(executed.is_chosen));
        self.rows_sent.add(executed.rows_sent);
        self.rows_affected.add(executed.rows_affected);
        self.warnings.add(executed.warnings);
        self.count.inc();
    }
}

/// The rows of one data worker.
pub struct Digests {
    rows: Box<[OnceLock<Arc<DigestRow>>]>,
    used: AtomicUsize,
    /// What came when all rows were taken.
    pub other: Arc<DigestRow>,
    /// Resets before it.
    lineage: u64,
    /// When counting began, milliseconds of the Unix epoch.
    pub since_unix_ms: u64,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").field("used", &self.used.load(Relaxed)).finish_non_exhaustive()
    }
}

impl Digests {
    /// No rows yet, at most `rows_max`.
    pub fn new(rows_max: usize, now_unix_ms: u64) -> Digests {
        let rows = (0..rows_max).map(|_| OnceLock::new()).collect();
        Digests { rows, used: AtomicUsize::new(0), other: Arc::default(), lineage: 0, since_unix_ms: now_unix_ms }
    }

    /// One of another size with the same rows, as many as it has room for.
    fn resized(&self, rows_max: usize) -> Digests {
        let resized =
            Digests { other: self.other.clone(), lineage: self.lineage, ..Digests::new(rows_max, self.since_unix_ms) };
        resized.take_rows(self);
        resized
    }

    /// Takes the rows of `before` that it does not have, to the same places. Only the thread that owns both may call it, or one
    /// that nobody knows of yet.
    fn take_rows(&self, before: &Digests) {
        let end = before.used.load(Acquire).min(self.rows.len());
        for at in self.used.load(Relaxed)..end {
            if let Some(row) = before.rows[at].get() {
                // Nobody else writes there.
                let _ = self.rows[at].set(row.clone());
            }
            self.used.store(at + 1, Release);
        }
    }

    /// Takes the place of `before`. `true`: with its rows, of which those beyond [`Digests::rows_max`] are gone; else it is a new
    /// beginning. Data worker only.
    pub fn follow(&self, before: &Digests) -> bool {
        let continues = self.lineage == before.lineage;
        if continues {
            self.take_rows(before);
        }
        continues
    }

    /// Rows that there may be.
    pub fn rows_max(&self) -> usize {
        self.rows.len()
    }

    /// A new row; `None`: there is no room. Only the owning thread may call it.
    pub fn insert(&self, name: impl FnOnce() -> DigestName) -> Option<usize> {
        let at = self.used.load(Relaxed);
        self.rows.get(at)?.set(Arc::new(DigestRow::new(name()))).ok()?;
        self.used.store(at + 1, Release);
        Some(at)
    }

    /// The row at a place that [`Digests::insert`] has given.
    pub fn row(&self, at: usize) -> &DigestRow {
        self.rows.get(at).and_then(OnceLock::get).map_or(&self.other, |row| row)
    }

    /// All rows, `other` not among them.
    pub fn rows(&self) -> impl Iterator<Item = &DigestRow> {
        self.rows[..self.used.load(Acquire)].iter().filter_map(OnceLock::get).map(|row| &**row)
    }
}

/// Where a data worker's table hangs out.
#[derive(Debug)]
pub struct DigestBoard {
    /// For readers; the data worker never takes the lock.
    current: Mutex<Arc<Digests>>,
    /// An empty table that the worker has not taken yet.
    fresh: ArrayQueue<Arc<Digests>>,
    /// Tables put there, for [`DigestBoard::version`].
    tables: AtomicU64,
}

impl DigestBoard {
    /// An empty table of `rows_max` rows.
    pub fn new(rows_max: usize, now_unix_ms: u64) -> DigestBoard {
        let current = Mutex::new(Arc::new(Digests::new(rows_max, now_unix_ms)));
        DigestBoard { current, fresh: ArrayQueue::new(1), tables: AtomicU64::new(0) }
    }

    /// The table now, for readers, and for the data worker when it starts.
    pub fn current(&self) -> Arc<Digests> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew. Control thread only.
    pub fn reset(&self, now_unix_ms: u64) {
        self.put(|before| {
            let lineage = before.lineage + 1;
            Some(Digests { lineage, ..Digests::new(before.rows_max(), now_unix_ms) })
        });
    }

    /// Another size from now on. Rows that have no room any more are gone. Control thread only.
    pub fn resize(&self, rows_max: usize) {
        self.put(|before| (before.rows_max() != rows_max).then(|| before.resized(rows_max)));
    }

    fn put(&self, make: impl FnOnce(&Digests) -> Option<Digests>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = make(&current) else { return };
        *current = Arc::new(next);
        drop(self.fresh.force_push(current.clone()));
        self.tables.fetch_add(1, Release);
    }

    /// Changes with every table: a load of a line that nobody writes meanwhile.
    pub fn version(&self) -> u64 {
        self.tables.load(Acquire)
    }

    /// The table to go on with after the version has changed. Data worker only; takes no lock.
    pub fn take_fresh(&self) -> Option<Arc<Digests>> {
        self.fresh.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(us: u64, at_unix_ms: u64) -> Executed {
        Executed {
            route: DigestRoute::Replica,
            is_chosen: false,
            is_error: us > 100,
            rows_sent: 2,
            rows_affected: 0,
            warnings: 1,
            duration: Duration::from_micros(us),
            at_unix_ms,
        }
    }

    fn name(text: &str) -> DigestName {
        DigestName { text: text.into(), ..DigestName::default() }
    }

    #[test]
    fn a_row_adds_up_and_a_full_table_keeps_its_rows() {
        let digests = Digests::new(2, 7);
        let (a, b) = (digests.insert(|| name("a")).unwrap(), digests.insert(|| name("b")).unwrap());
        assert_eq!(digests.insert(|| unreachable!("there is no room")), None);
        for (us, at) in [(50, 10), (20, 11), (700, 12)] {
            digests.row(a).add(&executed(us, at));
        }
        digests.other.add(&executed(1, 1));
        let row = digests.row(a);
        assert_eq!((row.count.value(), row.errors.value(), row.replica.value(), row.rows_sent.value()), (3, 1, 3, 6));
        assert_eq!((row.min_us.value(), row.max_us.value(), row.sum_us.value()), (20, 700, 770));
        assert_eq!((row.first_unix_ms.value(), row.last_unix_ms.value()), (10, 12));
        assert_eq!(row.duration.snapshot().count(), 3);
        assert_eq!((digests.row(b).count.value(), digests.other.count.value()), (0, 1));
        assert_eq!(digests.rows().map(|row| &*row.name.text).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_reset_is_found_by_both_sides() {
        let board = DigestBoard::new(4, 0);
        let mine = board.current();
        mine.insert(|| name("a"));
        let version = board.version();
        assert_eq!(board.current().rows().count(), 1);
        board.reset(1);
        board.reset(2);
        assert!(board.version() != version && board.current().rows().count() == 0);
        let mine = board.take_fresh().unwrap();
        mine.insert(|| name("b"));
        assert_eq!((board.current().rows().count(), board.current().since_unix_ms), (1, 2), "the newest one");
        assert!(board.take_fresh().is_none());
    }

    #[test]
    fn another_size_keeps_what_was_counted() {
        let board = DigestBoard::new(2, 5);
        let first = board.current();
        let texts = || board.current().rows().map(|row| row.name.text.to_string()).collect::<String>();
        for text in ["a", "b"] {
            first.row(first.insert(|| name(text)).unwrap()).add(&executed(9, 1));
        }
        first.other.add(&executed(1, 1));
        board.resize(2);
        assert_eq!(board.version(), 0, "it has that size");
        board.resize(4);
        // The worker has not looked yet, and goes on counting.
        first.row(0).add(&executed(9, 2));
        assert_eq!((texts(), board.current().row(0).count.value()), ("ab".into(), 2));
        let second = board.take_fresh().unwrap();
        assert!(second.follow(&first) && second.rows_max() == 4);
        let third = second.insert(|| name("c")).unwrap();
        assert_eq!((third, texts(), board.current().other.count.value()), (2, "abc".into(), 1));
        // What is inserted between is taken along.
        board.resize(5);
        second.insert(|| name("d")).unwrap();
        assert_eq!(texts(), "abc");
        let wide = board.take_fresh().unwrap();
        assert!(wide.follow(&second));
        assert_eq!((texts(), wide.since_unix_ms), ("abcd".into(), 5));
        // Fewer rows, and a reset before the worker has looked: nothing of before comes back.
        board.resize(1);
        assert_eq!(texts(), "a");
        board.reset(6);
        board.resize(3);
        let last = board.take_fresh().unwrap();
        assert!(!last.follow(&wide) && last.rows_max() == 3 && board.current().rows().count() == 0);
    }
}
