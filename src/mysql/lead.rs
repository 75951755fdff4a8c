//! What data workers know of who leads: one word that the monitor writes, and what they tell it in turn, each in a place of
//! its own. Nothing here locks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwap;

use super::gtid::{DOMAINS_MAX, Gtid, Position};
use super::gtid_set::GtidSet;
use super::topology::{Lead, Vacancy};

/// Intervals that are kept of each source of MySQL. Sessions write in between others, which are told of soon, too.
const INTERVALS_MAX: usize = 8;

/// Low bits of the word: index of the primary and one more, 0 for none; the others are the epoch.
const PRIMARY_BITS: u32 = 16;

/// A [`Lead`] in one word.
#[derive(Debug)]
pub struct LeadCell(AtomicU64);

impl LeadCell {
    /// Holds `lead`.
    pub fn new(lead: Lead) -> LeadCell {
        LeadCell(AtomicU64::new(pack(lead)))
    }

    /// One load.
    pub fn get(&self) -> Lead {
        let word = self.0.load(Acquire);
        Lead { epoch: word >> PRIMARY_BITS, primary: (word as u16).checked_sub(1).map(usize::from) }
    }

    /// Monitor only.
    pub fn set(&self, lead: Lead) {
        self.0.store(pack(lead), Release);
    }
}

fn pack(lead: Lead) -> u64 {
    let primary = lead.primary.map_or(0, |primary| primary as u64 + 1);
    debug_assert!(primary < 1 << PRIMARY_BITS, "the config allows fewer servers");
    lead.epoch << PRIMARY_BITS | primary
}

/// A position that one thread writes and others read: MariaDB's domain by domain, MySQL's as a snapshot.
#[derive(Debug, Default)]
pub struct PositionCell {
    /// Domain + 1, 0 for an empty place; a place keeps its domain for good.
    domains: [AtomicU64; DOMAINS_MAX],
    sequences: [AtomicU64; DOMAINS_MAX],
    set: ArcSwap<GtidSet>,
}

impl PositionCell {
    fn place(&self, domain: u32) -> Option<&AtomicU64> {
        let wanted = u64::from(domain) + 1;
        let known = self.domains.iter().position(|place| place.load(Acquire) == wanted);
        known.map(|at| &self.sequences[at])
    }

    /// Forgets what is there.
    pub fn clear(&self) {
        self.sequences.iter().for_each(|sequence| sequence.store(0, Relaxed));
        self.set.store(Arc::default());
    }

    /// Includes all of `position`, as long as there is room for it.
    pub fn raise(&self, position: &Position) {
        position.iter().for_each(|gtid| self.raise_domain(*gtid));
        let set = self.set.load();
        if set.covers(position.set()) {
            return;
        }
        let mut wider = GtidSet::clone(&set);
        if wider.unite(position.set()) {
            wider.widen(INTERVALS_MAX);
            self.set.store(Arc::new(wider));
        }
    }

    fn raise_domain(&self, gtid: Gtid) {
        if let Some(sequence) = self.place(gtid.domain) {
            if sequence.load(Relaxed) < gtid.sequence {
                sequence.store(gtid.sequence, Relaxed);
            }
        } else if let Some(free) = self.domains.iter().position(|domain| domain.load(Relaxed) == 0) {
            self.sequences[free].store(gtid.sequence, Relaxed);
            self.domains[free].store(u64::from(gtid.domain) + 1, Release);
        }
    }

    /// All of it, with 0 for MariaDB's servers, which are not kept.
    pub fn get(&self) -> Position {
        let mut position = Position::from(GtidSet::clone(&self.set.load()));
        for (domain, sequence) in self.domains.iter().zip(&self.sequences) {
            let (domain, sequence) = (domain.load(Acquire), sequence.load(Relaxed));
            if domain > 0 && sequence > 0 {
                let _ = position.raise(Gtid { domain: (domain - 1) as u32, server: 0, sequence });
            }
        }
        position
    }
}

/// What one data worker's clients were told is committed. The worker alone writes it; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tokens {
    epoch: AtomicU64,
    position: PositionCell,
}

impl Tokens {
    /// A client is told that `gtids` are committed; the statement ran under `epoch`.
    pub fn raise(&self, epoch: u64, gtids: &Position) {
        if self.epoch.load(Relaxed) < epoch {
            self.position.clear();
            self.epoch.store(epoch, Release);
        }
        if self.epoch.load(Relaxed) == epoch {
            self.position.raise(gtids);
        }
    }

    /// The epoch, and what was told in it.
    pub fn get(&self) -> (u64, Position) {
        let epoch = self.epoch.load(Acquire);
        (epoch, self.position.get())
    }
}

/// What became of the tokens of earlier epochs: once the operator has let a server lead that lacks what they name, they mean
/// no more than what it had then.
#[derive(Debug, Default)]
pub struct Voided {
    before: AtomicU64,
    floor: ArcSwap<Position>,
}

impl Voided {
    /// Monitor only: tokens of epochs before `before` mean `floor`.
    pub fn set(&self, before: u64, floor: Position) {
        self.floor.store(Arc::new(floor));
        self.before.store(before, Release);
    }

    /// Tokens of epochs before this one are void.
    pub fn before(&self) -> u64 {
        self.before.load(Acquire)
    }

    /// What they mean instead.
    pub fn floor(&self) -> Position {
        Position::clone(&self.floor.load())
    }
}

/// Numbers of [`Vacancy`], for one byte that workers read.
pub(super) fn vacancy_of(number: u8) -> Option<Vacancy> {
    use Vacancy::{Behind, Fenced, NoCandidate, Settling, Several, Starting};
    [Starting, NoCandidate, Several, Fenced, Behind, Settling].into_iter().find(|vacancy| *vacancy as u8 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_lead_fits_one_word() {
        let cell = LeadCell::new(Lead::default());
        for lead in [
            Lead::default(),
            Lead { epoch: 1, primary: Some(0) },
            Lead { epoch: 1 << 40, primary: Some(63) },
            Lead { epoch: 7, primary: None },
        ] {
            cell.set(lead);
            assert_eq!(cell.get(), lead);
        }
    }

    #[test]
    fn positions_go_up_by_domain_and_may_be_forgotten() {
        let cell = PositionCell::default();
        assert!(cell.get().is_empty());
        cell.raise(&position("0-1-10,5-1-3"));
        cell.raise(&position("0-2-9,5-9-4"));
        assert_eq!(cell.get(), position("0-0-10,5-0-4"));
        cell.clear();
        assert!(cell.get().is_empty());
        cell.raise(&position("0-1-4"));
        assert_eq!(cell.get().text(), "0-0-4", "of the other domain nothing is left");
    }

    #[test]
    fn sets_grow_and_close_their_holes() {
        let (cell, uuid) = (PositionCell::default(), "3e11fa47-71ca-11e1-9e33-c80aa9429562");
        for number in [3, 1, 2, 7] {
            cell.raise(&position(&format!("{uuid}:{number}")));
        }
        assert_eq!(cell.get(), position(&format!("{uuid}:1-3:7")));
        for number in (10..100).step_by(4) {
            cell.raise(&position(&format!("{uuid}:{number}")));
        }
        let all = cell.get();
        assert!(all.set().intervals() <= INTERVALS_MAX && all.covers(&position(&format!("{uuid}:1-3:7:10:98"))));
        cell.clear();
        assert!(cell.get().is_empty());
    }

    #[test]
    fn tokens_belong_to_an_epoch() {
        let tokens = Tokens::default();
        tokens.raise(1, &position("0-1-9"));
        tokens.raise(1, &position("0-1-5"));
        assert_eq!(tokens.get(), (1, position("0-0-9")));
        tokens.raise(2, &position("1-1-1"));
        tokens.raise(1, &position("0-1-99"));
        assert_eq!(tokens.get(), (2, position("1-0-1")), "what an older lease tells later does not count");
    }

    #[test]
    fn every_vacancy_has_a_number() {
        for number in 0..6 {
            assert_eq!(vacancy_of(number).unwrap() as u8, number);
        }
        assert_eq!(vacancy_of(6), None);
    }
}
