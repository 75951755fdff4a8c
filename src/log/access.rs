//! The data worker's side of the access log: fills a buffer, hands it over, takes empty ones back.

use std::cell::RefCell;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::Entry;
use super::format::Formatter;
use super::writer::Wake;
use crate::metrics::Worker;

/// Bytes of one buffer.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers of one data worker: about 2 MiB that a slow disk may be behind. Memory is touched only when it is needed.
pub(super) const BUFFERS: usize = 32;

/// A buffer on its way to the writer thread.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// The two queues between one data worker and the writer thread. Each has room for all buffers.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) filled: ArrayQueue<Filled>,
    pub(super) empty: ArrayQueue<Vec<u8>>,
}

impl Lane {
    pub(super) fn new() -> Lane {
        Lane { filled: ArrayQueue::new(BUFFERS), empty: ArrayQueue::new(BUFFERS) }
    }
}

/// The access log of one data worker. Made by [`super::Writer::start`], moved to the worker's thread, used only there.
#[derive(Debug)]
pub struct AccessLog {
    state: RefCell<State>,
    lane: Arc<Lane>,
    wake: Arc<Wake>,
    stats: Arc<Worker>,
}

#[derive(Debug)]
struct State {
    formatter: Formatter,
    current: Vec<u8>,
    lines: u64,
    /// Empty buffers at hand; the one used last goes first, because it is still in the cache.
    stock: Vec<Vec<u8>>,
}

impl AccessLog {
    pub(super) fn new(formatter: Formatter, lane: Arc<Lane>, wake: Arc<Wake>, stats: Arc<Worker>) -> AccessLog {
        let mut stock = Vec::with_capacity(BUFFERS);
        stock.extend((1..BUFFERS).map(|_| Vec::with_capacity(BUFFER_BYTES)));
        let state = State { formatter, current: Vec::with_capacity(BUFFER_BYTES), lines: 0, stock };
        AccessLog { state: RefCell::new(state), lane, wake, stats }
    }

    /// Adds a line for `entry`. Never waits: with every buffer at the writer thread the line is dropped and counted.
    ///
    /// A line longer than a whole buffer (a head of more than 10 KiB of bytes to be escaped) makes that buffer grow
    /// until it has been written; lengths are bounded by the limit on request heads.
    pub fn record(&self, entry: &Entry<'_>) {
        let state = &mut *self.state.borrow_mut();
        let room = BUFFER_BYTES.saturating_sub(state.current.len());
        if !state.current.is_empty() && state.formatter.line_bytes_max(entry) > room && !self.hand_over(state) {
            self.stats.log.dropped.inc();
            return;
        }
        state.formatter.line(&mut state.current, entry);
        state.lines += 1;
        self.stats.log.lines.inc();
    }

    /// Hands over what has been recorded; to be called by the worker's tick, about every 200 ms. Never waits.
    pub fn flush_due(&self) {
        let state = &mut *self.state.borrow_mut();
        if !state.current.is_empty() {
            self.hand_over(state);
        }
    }

    /// Hands over what has been recorded, even when no empty buffer is left to go on with; for the worker's end.
    pub fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        if !state.current.is_empty() && !self.hand_over(state) {
            self.push(std::mem::take(&mut state.current), std::mem::take(&mut state.lines));
        }
    }

    /// Swaps the current buffer for an empty one; false, and nothing done, when there is none.
    fn hand_over(&self, state: &mut State) -> bool {
        while let Some(mut buffer) = self.lane.empty.pop() {
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES);
            state.stock.push(buffer);
        }
        let Some(empty) = state.stock.pop() else { return false };
        let bytes = std::mem::replace(&mut state.current, empty);
        self.push(bytes, std::mem::take(&mut state.lines));
        true
    }

    fn push(&self, bytes: Vec<u8>, lines: u64) {
        if self.lane.filled.push(Filled { bytes, lines }).is_err() {
            self.stats.log.dropped.add(lines); // only behind a flush that had no empty buffer to go on with
        }
        self.wake.wake();
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
impl AccessLog {
    /// Buffers on their way to the writer thread or back.
    pub(super) fn in_flight(&self) -> usize {
        BUFFERS - 1 - self.state.borrow().stock.len() - self.lane.empty.len()
    }

    /// Capacity of the largest buffer at hand, in bytes.
    pub(super) fn largest_capacity(&self) -> usize {
        let state = self.state.borrow();
        state.stock.iter().chain([&state.current]).map(Vec::capacity).max().unwrap_or(0)
    }
}
