//! What is known of statements seen before, by the session's mode and a keyed hash of their bytes, where the value of a number does
//! not count (`skeleton.rs`). One per worker.

use std::sync::Arc;

use super::class::Class;
use super::classify::classify;
use super::digest::Digester;
use super::hidden::Hidden;
use super::hint::{Hint, hint};
use super::lexer::Mode;
use super::skeleton::make_skeleton;

/// Statements longer than this are not looked at: they go to the primary and pin the session. It is what one packet can hold. A
/// MiB takes about a millisecond from its worker, which is little beside reading and sending it.
pub const STATEMENT_BYTES_MAX: usize = 1 << 24;
/// Hashing a long statement costs more than it saves.
const CACHED_BYTES_MAX: usize = 8 << 10;
/// Entries, a power of two; each statement has one place, the latest one stays.
const ENTRIES: usize = 2048;

/// What a statement's text says, whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub class: Class,
    /// Keyed hash of its normal form; `None`: nobody wants that.
    pub digest: Option<u64>,
    /// Bit n: the normal form is one that rule n is about.
    pub rules: u128,
    /// What its comments wish for.
    pub hint: Option<Hint>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    len: u32,
    mode: Mode,
    seen: Seen,
}

/// Remembers what was seen in a fixed amount of memory.
pub struct Cache {
    hasher: ahash::RandomState,
    entries: Vec<Option<Entry>>,
    digester: Digester,
    /// Of the statement that was looked up last; kept for its memory.
    skeleton: Vec<u8>,
    /// Normal forms are wanted of every statement.
    wants_digests: bool,
    /// Of the config whose rules were asked, and of what is hidden.
    edition: u64,
    hidden: Arc<Hidden>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("entries", &self.entries.len()).finish()
    }
}

impl Cache {
    /// An empty cache whose hash is keyed with `seed`, so that nobody can aim at a place in it. `digests`: normal forms are
    /// wanted of every statement.
    pub fn new(seed: u64, digests: bool) -> Cache {
        let hasher = ahash::RandomState::with_seed(seed as usize);
        let (entries, digester) = (vec![None; ENTRIES], Digester::default());
        let (skeleton, hidden) = (Vec::new(), Arc::default());
        Cache { hasher, entries, digester, skeleton, wants_digests: digests, edition: 0, hidden }
    }

    /// Other rules are asked from now on, those of the config of this edition; that of [`Cache::new`] is 0. `digests` as there;
    /// that of a normal form stays the same.
    pub fn forget(&mut self, digests: bool, edition: u64) {
        self.entries.fill(None);
        (self.wants_digests, self.edition) = (digests, edition);
    }

    /// Tables and views hide this from now on.
    pub fn forget_hidden(&mut self, hidden: Arc<Hidden>, edition: u64) {
        self.entries.fill(None);
        (self.hidden, self.edition) = (hidden, edition);
    }

    /// What is known of `sql`. `rules` tells which of them, in the config of this edition, are about a normal form; it is asked
    /// when the text is a new one. A statement that began under an earlier config says nothing for those that follow.
    pub fn look(&mut self, sql: &[u8], mode: Mode, edition: u64, rules: impl FnOnce(&[u8]) -> u128) -> Seen {
        if sql.len() > CACHED_BYTES_MAX || edition != self.edition {
            return self.examine(sql, mode, rules);
        }
        let has_skeleton = make_skeleton(sql, mode, &mut self.skeleton);
        let bytes = if has_skeleton { &self.skeleton } else { sql };
        let (hash, len) = (self.hasher.hash_one(bytes), bytes.len() as u32);
        let place = hash as usize & (ENTRIES - 1);
        match &self.entries[place] {
            Some(entry) if entry.hash == hash && entry.len == len && entry.mode == mode => entry.seen,
            _ => {
                let seen = self.examine(sql, mode, rules);
                self.entries[place] = Some(Entry { hash, len, mode, seen });
                seen
            }
        }
    }

    /// The normal form of `sql`.
    pub fn digest(&mut self, sql: &[u8], mode: Mode) -> &[u8] {
        self.digester.digest(sql, mode)
    }

    fn examine(&mut self, sql: &[u8], mode: Mode, rules: impl FnOnce(&[u8]) -> u128) -> Seen {
        let mut class = if sql.len() > STATEMENT_BYTES_MAX { Class::UNKNOWN } else { classify(sql, mode) };
        if !self.hidden.is_empty() && sql.len() <= STATEMENT_BYTES_MAX {
            self.hidden.reveal(sql, mode, &mut class);
        }
        let digest = self.wants_digests.then(|| self.digester.digest(sql, mode));
        Seen {
            class,
            rules: digest.map_or(0, rules),
            digest: digest.map(|digest| self.hasher.hash_one(digest)),
            hint: hint(sql, mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_answers_like_the_classifier() {
        let mut cache = Cache::new(1, true);
        let mut class = |sql: &[u8], mode| cache.look(sql, mode, 0, |_| 0).class;
        for round in 0..2 {
            for n in 0..5000 {
                let sql = format!("{} FROM t WHERE a = {n}", if n % 3 == 0 { "DELETE" } else { "SELECT 1" });
                let found = class(sql.as_bytes(), Mode::default());
                assert_eq!(found, classify(sql.as_bytes(), Mode::default()), "round {round}");
            }
        }
        let ansi = Mode { ansi_quotes: true, ..Mode::default() };
        let sql = br#"SELECT "f"(1)"#;
        assert_ne!(class(sql, Mode::default()), class(sql, ansi));
        assert_eq!(class(&vec![b'x'; STATEMENT_BYTES_MAX + 1], ansi), Class::UNKNOWN);
    }

    #[test]
    fn rules_are_asked_once_for_a_text_and_literals_share_a_digest() {
        let (mut cache, mut asked) = (Cache::new(1, true), 0);
        let mut look = |sql: &str| {
            cache.look(sql.as_bytes(), Mode::default(), 0, |digest| {
                asked += 1;
                u128::from(digest == b"SELECT ? FROM t") << 5
            })
        };
        let (one, two, again) = (look("select 1 from t"), look("SELECT 2 FROM t -- x"), look("select 33 from t"));
        assert_eq!((one.rules, one, one.digest), (32, again, two.digest));
        assert_ne!(look("SELECT 1 FROM u").digest, one.digest);
        assert_eq!(asked, 3);
        let plain = Cache::new(1, false).look(b"SELECT 1", Mode::default(), 0, |_| unreachable!("nobody wants it"));
        assert_eq!((plain.digest, plain.rules), (None, 0));
    }

    #[test]
    fn names_are_told_apart_whatever_they_look_like() {
        let mut cache = Cache::new(1, true);
        let mut digest = |sql: &str| cache.look(sql.as_bytes(), Mode::default(), 0, |_| 0).digest.unwrap();
        assert_eq!(digest("SELECT a FROM t WHERE b = 1"), digest("SELECT a FROM t WHERE b = 22"));
        for (one, other) in [("SELECT `1`", "SELECT `2`"), ("SELECT t1", "SELECT t2"), ("SELECT a.1", "SELECT a.2")] {
            assert_ne!(digest(one), digest(other), "{one}");
        }
    }

    #[test]
    fn what_an_earlier_config_says_is_not_kept() {
        let mut cache = Cache::new(1, true);
        let mut look = |edition, rule: u128| cache.look(b"SELECT 1", Mode::default(), edition, |_| rule).rules;
        assert_eq!((look(0, 1), look(0, 2)), (1, 1));
        cache.forget(true, 1);
        let mut look = |edition, rule: u128| cache.look(b"SELECT 1", Mode::default(), edition, |_| rule).rules;
        assert_eq!(look(0, 4), 4, "a statement that began before");
        assert_eq!((look(1, 8), look(0, 4), look(1, 16)), (8, 4, 8));
    }
}
