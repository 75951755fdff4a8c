//! What was written through this process: for `causal_reads = "node"`, where a read sees the writes of all sessions.
//!
//! Each data worker has a token of its own and publishes a copy of it after each write; a read looks at all copies. No lock:
//! a worker writes its own line alone, and whoever reads has a snapshot.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::gtid::Position;
use super::lead::Voided;
use super::token::{News, Token};

/// A token, and the epoch before which nothing counts in it.
#[derive(Clone, Debug, Default)]
struct Line {
    epoch: u64,
    token: Token,
}

impl Line {
    /// What is left of it when tokens of earlier epochs are void.
    fn settle(&mut self, voided: &Voided) {
        let before = voided.before();
        if self.epoch < before {
            self.epoch = before;
            self.token.void(voided.floor());
        }
    }
}

/// The published tokens of all data workers.
#[derive(Debug)]
pub struct Published {
    lines: Box<[CachePadded<ArcSwap<Line>>]>,
    /// What the monitor has declared void of them.
    pub(super) voided: Voided,
}

impl Published {
    /// Nothing was written yet.
    pub fn new(data_workers: usize) -> Published {
        let lines = (0..data_workers).map(|_| CachePadded::new(ArcSwap::default())).collect();
        Published { lines, voided: Voided::default() }
    }

    /// What a read must see; `None`: only the primary has it for sure.
    pub fn position(&self) -> Option<Position> {
        let mut all = Position::default();
        let before = self.voided.before();
        for line in &self.lines {
            let line = line.load();
            // What nothing was written in stays nothing.
            let has_all = match line.epoch < before && !line.token.is_empty() {
                true => all.unite(&self.voided.floor()),
                false => all.unite(line.token.position()?),
            };
            if !has_all {
                return None;
            }
        }
        Some(all)
    }
}

/// One data worker's token, of the writes of all its sessions.
pub struct Written {
    data_worker: usize,
    line: RefCell<Line>,
    doubts: Cell<u32>,
}

impl Written {
    /// Nothing yet, on this data worker.
    pub fn new(data_worker: usize) -> Written {
        Written { data_worker, line: RefCell::default(), doubts: Cell::new(0) }
    }

    /// Doubts so far. Sessions write at the same time: only what is sent after the last doubt can settle it.
    pub fn doubts(&self) -> u32 {
        self.doubts.get()
    }

    /// Takes in what a statement told that ran under `epoch`; `doubts`: as of when it was sent. Call it before its client is
    /// answered.
    pub fn learn(&self, published: &Published, news: &News, doubts: u32, epoch: u64) {
        if *news == News::None {
            return;
        }
        let mut line = self.line.borrow_mut();
        line.settle(&published.voided);
        if epoch < line.epoch {
            return; // an older lease tells it late: it is lost, or covered by what the others mean now
        }
        if *news == News::Untold {
            self.doubts.set(self.doubts.get().wrapping_add(1));
        }
        match doubts == self.doubts.get() {
            true => line.token.learn(news),
            false => line.token.add(news),
        }
        published.lines[self.data_worker].store(Arc::new(line.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_writes_of_all_workers_must_be_seen() {
        let published = Published::new(2);
        let workers = [Written::new(0), Written::new(1)];
        let told = |text| News::Gtids(position(text));
        assert_eq!(published.position(), Some(Position::default()));
        workers[0].learn(&published, &told("0-1-5"), 0, 1);
        workers[1].learn(&published, &told("0-1-7"), 0, 1);
        workers[1].learn(&published, &told("1-1-1"), 0, 1);
        workers[0].learn(&published, &told("0-1-6"), 0, 1);
        assert_eq!(published.position(), Some(position("0-1-7,1-1-1")));
    }

    #[test]
    fn a_doubt_is_settled_by_what_was_sent_after_it() {
        let (published, worker) = (Published::new(1), Written::new(0));
        let told = |text| News::Gtids(position(text));
        worker.learn(&published, &told("0-1-5"), worker.doubts(), 1);
        let under_way = worker.doubts();
        worker.learn(&published, &News::Untold, under_way, 1);
        assert_eq!(published.position(), None);
        worker.learn(&published, &told("0-1-6"), under_way, 1);
        assert_eq!(published.position(), None, "it may have committed before");
        worker.learn(&published, &told("0-1-8"), worker.doubts(), 1);
        assert_eq!(published.position(), Some(position("0-1-8")));
    }

    #[test]
    fn what_was_lost_is_not_waited_for() {
        let published = Published::new(3);
        let workers = [Written::new(0), Written::new(1)];
        let told = |text| News::Gtids(position(text));
        workers[0].learn(&published, &told("0-1-50"), 0, 1);
        workers[1].learn(&published, &News::Untold, 0, 1);
        assert_eq!(published.position(), None);
        published.voided.set(2, position("0-1-40"));
        assert_eq!(published.position(), Some(position("0-1-40")), "of both workers");
        workers[0].learn(&published, &told("0-2-41"), 0, 2);
        assert_eq!(published.position(), Some(position("0-2-41")));
        workers[0].learn(&published, &told("0-1-51"), 0, 1);
        assert_eq!(published.position(), Some(position("0-2-41")), "an older lease told it too late");
        workers[0].learn(&published, &told("0-2-42"), 0, 2);
        assert_eq!(published.position(), Some(position("0-2-42")));
    }
}
