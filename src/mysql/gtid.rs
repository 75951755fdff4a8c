//! MariaDB's global transaction ids: `domain-server-sequence`, and sets of them, one per domain. Pure.
//!
//! Source: MariaDB knowledge base, "Global Transaction ID".

use std::fmt::Write;

use smallvec::SmallVec;

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

/// The newest transaction of each domain: a position, or what a session must see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(SmallVec<[Gtid; 2]>);

/// Domains followed for one session or server; writes in more than that make the position unknown.
pub const DOMAINS_MAX: usize = 8;

impl Position {
    /// Reads `0-1-42,1-1-7`; empty text is the empty position. `None`: not a list of GTIDs.
    pub fn parse(text: &[u8]) -> Option<Position> {
        let mut position = Position::default();
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
        if let Some(mine) = self.0.iter_mut().find(|mine| mine.domain == gtid.domain) {
            if mine.sequence < gtid.sequence {
                *mine = gtid;
            }
            return true;
        }
        let room = self.0.len() < DOMAINS_MAX;
        if room {
            self.0.push(gtid);
        }
        room
    }

    /// Whether everything in `other` is included here.
    pub fn covers(&self, other: &Position) -> bool {
        other
            .0
            .iter()
            .all(|theirs| self.0.iter().any(|mine| mine.domain == theirs.domain && mine.sequence >= theirs.sequence))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The transactions, one per domain.
    pub fn iter(&self) -> impl Iterator<Item = &Gtid> {
        self.0.iter()
    }

    /// As servers write it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (n, gtid) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{}-{}-{}", gtid.domain, gtid.server, gtid.sequence);
        }
        out
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
        assert_eq!(position("0-1-5,0-1-9,0-1-7").text(), "0-1-9");
        for bad in ["0-1", "0-1-2-3", "a-b-c", "0-1-5,", "-1-1-1"] {
            assert_eq!(Position::parse(bad.as_bytes()), None, "{bad}");
        }
        let many: Vec<_> = (0..=DOMAINS_MAX).map(|d| format!("{d}-1-1")).collect();
        assert_eq!(Position::parse(many.join(",").as_bytes()), None);
    }
}
