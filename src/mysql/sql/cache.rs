//! Classes of statements seen before, by a keyed hash of their exact bytes and of the session's mode. One per worker.

use super::classify::{Class, classify};
use super::lexer::Mode;

/// Statements longer than this are not looked at: they go to the primary and pin the session. Bounds the time one
/// statement can take from its worker to about a millisecond.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Hashing a long statement costs more than it saves.
const CACHED_BYTES_MAX: usize = 8 << 10;
/// Entries, a power of two; each statement has one place, the latest one stays.
const ENTRIES: usize = 2048;

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    len: u32,
    mode: Mode,
    class: Class,
}

/// Remembers classes in a fixed amount of memory.
pub struct Cache {
    hasher: ahash::RandomState,
    entries: Vec<Option<Entry>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("entries", &self.entries.len()).finish()
    }
}

impl Cache {
    /// An empty cache whose hash is keyed with `seed`, so that nobody can aim at a place in it.
    pub fn new(seed: u64) -> Cache {
        Cache { hasher: ahash::RandomState::with_seed(seed as usize), entries: vec![None; ENTRIES] }
    }

    /// The class of `sql`.
    pub fn classify(&mut self, sql: &[u8], mode: Mode) -> Class {
        if sql.len() > STATEMENT_BYTES_MAX {
            return Class::UNKNOWN;
        }
        if sql.len() > CACHED_BYTES_MAX {
            return classify(sql, mode);
        }
        let hash = self.hasher.hash_one(sql);
        let place = &mut self.entries[hash as usize & (ENTRIES - 1)];
        match place {
            Some(entry) if entry.hash == hash && entry.len as usize == sql.len() && entry.mode == mode => entry.class,
            _ => {
                let class = classify(sql, mode);
                *place = Some(Entry { hash, len: sql.len() as u32, mode, class });
                class
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_answers_like_the_classifier() {
        let mut cache = Cache::new(1);
        for round in 0..2 {
            for n in 0..5000 {
                let sql = format!("{} FROM t WHERE a = {n}", if n % 3 == 0 { "DELETE" } else { "SELECT 1" });
                let class = cache.classify(sql.as_bytes(), Mode::default());
                assert_eq!(class, classify(sql.as_bytes(), Mode::default()), "round {round}");
            }
        }
        let ansi = Mode { ansi_quotes: true, ..Mode::default() };
        let sql = br#"SELECT "f"(1)"#;
        assert_ne!(cache.classify(sql, Mode::default()), cache.classify(sql, ansi));
        assert_eq!(cache.classify(&vec![b'x'; STATEMENT_BYTES_MAX + 1], ansi), Class::UNKNOWN);
    }
}
