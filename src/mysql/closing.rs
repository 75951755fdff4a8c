//! The end of an epoch: what the old primary acknowledges from then on, no client is told, because the monitor has counted what
//! clients were told for the last time before it lets another server lead.
//!
//! A data worker writes down what it is about to tell, then looks whether the epoch is over. The monitor ends the epoch, then
//! reads what was written down. With a fence between the two of each, one of them sees the other (`loom_` test below): either the
//! client is not told, or the next primary must have it.

use crate::runtime::sync::{AtomicU64, Ordering, fence};

/// Low bits of the word: the server that is about to lead, and one more; the others are the last epoch that is over.
const SERVER_BITS: u32 = 16;

/// Written by the monitor alone.
#[derive(Debug)]
pub(super) struct Closing(AtomicU64);

impl Closing {
    /// No epoch is over.
    pub(super) fn new() -> Closing {
        Closing(AtomicU64::new(0))
    }

    /// Monitor only: what is acknowledged in `epoch` and before it counts no more, but by `next`, which is to lead. Returns what
    /// [`Closing::reopen`] takes, should nothing come of that.
    pub(super) fn close(&self, epoch: u64, next: usize) -> u64 {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(epoch << SERVER_BITS | (next as u64 + 1), Ordering::Relaxed);
        // In front of reading what clients were told.
        fence(Ordering::SeqCst);
        before
    }

    /// Monitor only: as before [`Closing::close`].
    pub(super) fn reopen(&self, before: u64) {
        self.0.store(before, Ordering::Relaxed);
    }

    /// Whether a client must not be told what `server` has acknowledged in `epoch`. Call it when that is written down.
    pub(super) fn is_closed(&self, epoch: u64, server: usize) -> bool {
        // Behind what was written down.
        fence(Ordering::SeqCst);
        let word = self.0.load(Ordering::Relaxed);
        let next = word & ((1 << SERVER_BITS) - 1);
        next > 0 && epoch <= word >> SERVER_BITS && next != server as u64 + 1
    }
}

impl Default for Closing {
    fn default() -> Closing {
        Closing::new()
    }
}

#[cfg(all(test, model_check))]
mod loom_tests {
    use super::*;
    use crate::runtime::sync::Arc;

    /// Whatever a client is told under the old primary, the monitor has read before another one leads.
    #[test]
    fn loom_nothing_is_told_that_the_next_primary_need_not_have() {
        loom::model(|| {
            let (closing, token) = (Arc::new(Closing::new()), Arc::new(AtomicU64::new(0)));
            let (worker_closing, worker_token) = (Arc::clone(&closing), Arc::clone(&token));
            let worker = loom::thread::spawn(move || {
                worker_token.store(5, Ordering::Relaxed);
                !worker_closing.is_closed(1, 0)
            });
            closing.close(1, 1);
            let seen = token.load(Ordering::Relaxed);
            let is_told = worker.join().unwrap();
            assert!(!is_told || seen == 5, "told, and not known of");
        });
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_over_for_all_but_the_next_primary() {
        let closing = Closing::new();
        assert!(!closing.is_closed(0, 0) && !closing.is_closed(1, 0));
        let before = closing.close(3, 1);
        assert!(closing.is_closed(3, 0) && closing.is_closed(1, 2) && !closing.is_closed(4, 0));
        assert!(!closing.is_closed(3, 1), "it goes on, or leads again");
        closing.reopen(before);
        assert!(!closing.is_closed(3, 0));
    }
}
