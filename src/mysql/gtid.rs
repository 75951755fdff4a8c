//! Positions in the stream of transactions. MariaDB's global transaction ids are `domain-server-sequence`, and whoever has
//! one has all of its domain before it; MySQL's are sets with holes ([`super::gtid_set`]). Pure.
//!
//! Source: MariaDB knowledge base, "Global Transaction ID".

use std::fmt;

use smallvec::{SmallVec, smallvec};

use super::gtid_set::GtidSet;

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gtid {
    /// Replication domain.
    pub domain: u32,
    /// Server that wrote it first.
    pub server: u32,
    /// Number within the domain.
    pub sequence: u64,
}

impl Gtid {
    /// Reads `0-1-42`.
    pub fn parse(text: &[u8]) -> Option<Gtid> {
        let mut parts = std::str::from_utf8(text).ok()?.trim().split('-');
        let gtid = Gtid {
            domain: parts.next()?.parse().ok()?,
            server: parts.next()?.parse().ok()?,
            sequence: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(gtid)
    }
}

/// What a server has, or a session must see: of MariaDB the newest transaction of each domain, of MySQL a set. Servers of
/// one splitter are of one kind, so one of the two is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    domains: SmallVec<[Gtid; 2]>,
    set: GtidSet,
}

/// Domains followed for one session or server; writes in more than that make the position unknown.
pub const DOMAINS_MAX: usize = 8;

impl Position {
    /// Reads `0-1-42,1-1-7`, or a set of MySQL's; empty text is the empty position. `None`: neither, or too much of it.
    pub fn parse(text: &[u8]) -> Option<Position> {
        let mut position = Position::default();
        if text.contains(&b':') {
            position.set = GtidSet::parse(text)?;
            return Some(position);
        }
        if text.is_empty() {
            return Some(position);
        }
        for part in text.split(|b| *b == b',') {
            if !position.raise(Gtid::parse(part)?) {
                return None;
            }
        }
        Some(position)
    }

    /// Makes sure that `gtid` is included. `false`: too many domains, nothing was changed.
    #[must_use]
    pub fn raise(&mut self, gtid: Gtid) -> bool {
        if let Some(mine) = self.domains.iter_mut().find(|mine| mine.domain == gtid.domain) {
            if mine.sequence < gtid.sequence {
                *mine = gtid;
            }
            return true;
        }
        let room = self.domains.len() < DOMAINS_MAX;
        if room {
            self.domains.push(gtid);
        }
        room
    }

    /// Makes sure that everything in `other` is included. `false`: too much of it, and not all of it is.
    #[must_use]
    pub fn unite(&mut self, other: &Position) -> bool {
        other.domains.iter().all(|gtid| self.raise(*gtid)) && (other.set.is_empty() || self.set.unite(&other.set))
    }

    /// Whether everything in `other` is included here.
    pub fn covers(&self, other: &Position) -> bool {
        let has = |theirs: &Gtid| self.of(theirs.domain).is_some_and(|sequence| sequence >= theirs.sequence);
        other.domains.iter().all(has) && self.set.covers(&other.set)
    }

    /// Whether each domain and source of `before` has newer transactions here than there, and anything is here at all.
    pub fn is_past(&self, before: &Position) -> bool {
        let is_newer = |theirs: &Gtid| self.of(theirs.domain).is_some_and(|sequence| sequence > theirs.sequence);
        !self.is_empty() && before.domains.iter().all(is_newer) && self.set.is_past(&before.set)
    }

    fn of(&self, domain: u32) -> Option<u64> {
        self.domains.iter().find(|gtid| gtid.domain == domain).map(|gtid| gtid.sequence)
    }

    /// See [`GtidSet::widen`]; MariaDB's positions have no holes.
    pub fn widen(&mut self, intervals_max: usize) {
        self.set.widen(intervals_max);
    }

    /// See [`GtidSet::fill`]; MariaDB's positions have no holes.
    pub fn fill(&mut self) {
        self.set.fill();
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.set.is_empty()
    }

    /// Of MariaDB: the transactions, one per domain.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Gtid> {
        self.domains.iter()
    }

    /// As servers write it.
    pub fn text(&self) -> String {
        self.to_string()
    }

    /// Of MySQL.
    pub fn set(&self) -> &GtidSet {
        &self.set
    }
}

impl From<Gtid> for Position {
    fn from(gtid: Gtid) -> Position {
        Position { domains: smallvec![gtid], set: GtidSet::default() }
    }
}

impl From<GtidSet> for Position {
    fn from(set: GtidSet) -> Position {
        Position { domains: SmallVec::new(), set }
    }
}

/// As servers write it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, gtid) in self.domains.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}-{}-{}", gtid.domain, gtid.server, gtid.sequence)?;
        }
        self.set.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_compare_by_domain() {
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        assert!(position("0-1-5,1-1-7").covers(&position("0-2-5")));
        assert!(!position("0-1-5").covers(&position("0-1-6")));
        assert!(!position("0-1-5").covers(&position("1-1-1")));
        assert!(position("").covers(&position("")) && !position("").covers(&position("0-1-1")));
        assert_eq!(position("0-1-5,0-1-9,0-1-7").to_string(), "0-1-9");
        for bad in ["0-1", "0-1-2-3", "a-b-c", "0-1-5,", "-1-1-1"] {
            assert_eq!(Position::parse(bad.as_bytes()), None, "{bad}");
        }
        let many: Vec<_> = (0..=DOMAINS_MAX).map(|d| format!("{d}-1-1")).collect();
        assert_eq!(Position::parse(many.join(",").as_bytes()), None);
    }

    #[test]
    fn positions_of_both_kinds_are_united() {
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        let mut mine = position("0-1-5,1-1-7");
        assert!(mine.unite(&position("0-2-9,2-1-1")) && mine.to_string() == "0-2-9,1-1-7,2-1-1");
        assert!(mine.is_past(&position("0-1-8,1-1-6")) && mine.is_past(&position("")));
        assert!(!mine.is_past(&position("0-1-8,1-1-7")) && !position("").is_past(&position("")));
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut mine = position(&format!("{uuid}:4"));
        assert!(mine.covers(&position(&format!("{uuid}:4"))) && !mine.covers(&position(&format!("{uuid}:3"))));
        assert!(!mine.covers(&position("0-1-1")) && mine.is_past(&position(&format!("{uuid}:3"))));
        mine.fill();
        assert_eq!(mine, position(&format!("{uuid}:1-4")));
    }
}
