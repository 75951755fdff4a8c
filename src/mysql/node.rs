//! What was written through this process: for `causal_reads = "node"`, where a read sees the writes of all sessions.
//!
//! Each data worker has a token of its own and publishes a copy of it after each write; a read looks at all copies. No lock:
//! a worker writes its own line alone, and whoever reads has a snapshot.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::gtid::Position;
use super::token::{News, Token};

/// The published tokens of all data workers.
#[derive(Debug)]
pub struct Published(Box<[CachePadded<ArcSwap<Token>>]>);

impl Published {
    /// Nothing was written yet.
    pub fn new(data_workers: usize) -> Published {
        Published((0..data_workers).map(|_| CachePadded::new(ArcSwap::default())).collect())
    }

    /// What a read must see; `None`: only the primary has it for sure.
    pub fn position(&self) -> Option<Position> {
        let mut all = Position::default();
        for line in &self.0 {
            let token = line.load();
            if !all.unite(token.position()?) {
                return None;
            }
        }
        Some(all)
    }
}

/// One data worker's token, of the writes of all its sessions.
pub struct Written {
    data_worker: usize,
    token: RefCell<Token>,
    doubts: Cell<u32>,
}

impl Written {
    /// Nothing yet, on this data worker.
    pub fn new(data_worker: usize) -> Written {
        Written { data_worker, token: RefCell::default(), doubts: Cell::new(0) }
    }

    /// Doubts so far. Sessions write at the same time: only what is sent after the last doubt can settle it.
    pub fn doubts(&self) -> u32 {
        self.doubts.get()
    }

    /// Takes in what a statement told; `doubts`: as of when it was sent. Call it before its client is answered.
    pub fn learn(&self, published: &Published, news: &News, doubts: u32) {
        if *news == News::None {
            return;
        }
        let mut token = self.token.borrow_mut();
        if *news == News::Untold {
            self.doubts.set(self.doubts.get().wrapping_add(1));
        }
        match doubts == self.doubts.get() {
            true => token.learn(news),
            false => token.add(news),
        }
        published.0[self.data_worker].store(Arc::new(token.clone()));
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
        workers[0].learn(&published, &told("0-1-5"), 0);
        workers[1].learn(&published, &told("0-1-7"), 0);
        workers[1].learn(&published, &told("1-1-1"), 0);
        workers[0].learn(&published, &told("0-1-6"), 0);
        assert_eq!(published.position(), Some(position("0-1-7,1-1-1")));
    }

    #[test]
    fn a_doubt_is_settled_by_what_was_sent_after_it() {
        let (published, worker) = (Published::new(1), Written::new(0));
        let told = |text| News::Gtids(position(text));
        worker.learn(&published, &told("0-1-5"), worker.doubts());
        let under_way = worker.doubts();
        worker.learn(&published, &News::Untold, under_way);
        assert_eq!(published.position(), None);
        worker.learn(&published, &told("0-1-6"), under_way);
        assert_eq!(published.position(), None, "it may have committed before");
        worker.learn(&published, &told("0-1-8"), worker.doubts());
        assert_eq!(published.position(), Some(position("0-1-8")));
    }
}
