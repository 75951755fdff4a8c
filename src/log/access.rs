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
/// Room that a buffer must have for one more line. A longer line makes it grow.
const LINE_BYTES: usize = 4 * 1024;
/// Buffers of one data worker: about 2 MiB that a slow disk may be behind. Memory is touched only when it is needed.
pub(super) const BUFFERS: usize = 32;
/// The same for a target that only some sites use.
const BUFFERS_OF_SITE: usize = 8;

/// How many buffers a data worker has for a target.
pub(super) fn buffers_of(target: usize) -> usize {
    if target == 0 { BUFFERS } else { BUFFERS_OF_SITE }
}

/// The two queues between one data worker and one target. Each has room for all buffers.
#[derive(Debug)]
pub(super) struct Lane {
    /// Buffers of whole lines.
    pub(super) filled: ArrayQueue<Vec<u8>>,
    pub(super) empty: ArrayQueue<Vec<u8>>,
}

impl Lane {
    pub(super) fn new(buffers: usize) -> Lane {
        Lane { filled: ArrayQueue::new(buffers), empty: ArrayQueue::new(buffers) }
    }
}

/// Which requests go to which target; `None`: to no log.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// For requests that reach no site.
    pub(super) default: Option<usize>,
    /// By index of the site.
    pub(super) sites: Vec<Option<usize>>,
}

impl Routes {
    fn target_of(&self, site: Option<u16>) -> Option<usize> {
        match site {
            Some(site) => self.sites.get(usize::from(site)).copied().unwrap_or(self.default),
            None => self.default,
        }
    }
}

/// The access log of one data worker. Made by [`super::Writer::start`], moved to the worker's thread, used only there.
#[derive(Debug)]
pub struct AccessLog {
    state: RefCell<State>,
    routes: Routes,
    /// By target.
    lanes: Vec<Arc<Lane>>,
    wake: Arc<Wake>,
    stats: Arc<Worker>,
    wants_response_fields: bool,
    wants_counts: bool,
    wants_tcp_counts: bool,
    wants_own: bool,
}

#[derive(Debug)]
struct State {
    formatter: Formatter,
    /// For connections in TCP mode.
    tcp: Formatter,
    /// By target.
    buffers: Vec<Buffers>,
}

/// The buffers for one target that are at the worker.
#[derive(Debug)]
struct Buffers {
    current: Vec<u8>,
    lines: u64,
    /// Empty buffers at hand; the one used last goes first, because it is still in the cache.
    stock: Vec<Vec<u8>>,
}

impl Buffers {
    fn new(count: usize) -> Buffers {
        let mut stock = Vec::with_capacity(count);
        stock.extend((1..count).map(|_| Vec::with_capacity(BUFFER_BYTES)));
        Buffers { current: Vec::with_capacity(BUFFER_BYTES), lines: 0, stock }
    }
}

impl AccessLog {
    pub(super) fn new(
        formatter: Formatter,
        tcp: Formatter,
        routes: Routes,
        lanes: Vec<Arc<Lane>>,
        wake: Arc<Wake>,
        stats: Arc<Worker>,
    ) -> AccessLog {
        let (wants_response_fields, wants_own) = (formatter.wants_response_fields(), formatter.wants_own());
        let wants_counts = formatter.wants_counts();
        let wants_tcp_counts = tcp.wants_counts();
        let buffers = (0..lanes.len()).map(|target| Buffers::new(buffers_of(target))).collect();
        AccessLog {
            state: RefCell::new(State { formatter, tcp, buffers }),
            routes,
            lanes,
            wake,
            stats,
            wants_response_fields,
            wants_counts,
            wants_tcp_counts,
            wants_own,
        }
    }

    /// Whether requests of this site are logged; `None`: requests that reach no site. False spares filling an entry.
    pub fn wants(&self, site: Option<u16>) -> bool {
        self.routes.target_of(site).is_some()
    }

    /// Whether the format asks for fields of the answer: [`Entry::response_fields`].
    pub fn wants_response_fields(&self) -> bool {
        self.wants_response_fields
    }

    /// Whether the format asks for [`Entry::counts`].
    pub fn wants_counts(&self) -> bool {
        self.wants_counts
    }

    /// The same of the format for connections in TCP mode.
    pub fn wants_tcp_counts(&self) -> bool {
        self.wants_tcp_counts
    }

    /// Whether the format asks for variables that the config defines: [`Entry::own`].
    pub fn wants_own(&self) -> bool {
        self.wants_own
    }

    /// Adds a line for `entry` to the log of its site, if it has one; connections in TCP mode have none of their own. Never waits: with every buffer at the writer
    /// thread the line is dropped and counted.
    ///
    /// A long line makes its buffer grow until it has been written; lengths are bounded by the limits on heads and
    /// formats.
    pub fn record(&self, entry: &Entry<'_>) {
        let Some(target) = self.routes.target_of(entry.site) else { return };
        let State { formatter, tcp, buffers } = &mut *self.state.borrow_mut();
        let formatter = if entry.stream.is_some() { tcp } else { formatter };
        let buffers = &mut buffers[target];
        let is_full = buffers.current.len() + LINE_BYTES > BUFFER_BYTES;
        if is_full && !self.hand_over(target, buffers) {
            self.stats.log.dropped.inc();
            return;
        }
        formatter.line(&mut buffers.current, entry);
        buffers.lines += 1;
        self.stats.log.lines.inc();
    }

    /// Hands over what has been recorded; to be called by the worker's tick, about every 200 ms. Never waits.
    pub fn flush_due(&self) {
        for (target, buffers) in self.state.borrow_mut().buffers.iter_mut().enumerate() {
            if !buffers.current.is_empty() {
                self.hand_over(target, buffers);
            }
        }
    }

    /// Hands over what has been recorded, even when no empty buffer is left to go on with; for the worker's end.
    pub fn flush(&self) {
        for (target, buffers) in self.state.borrow_mut().buffers.iter_mut().enumerate() {
            if !buffers.current.is_empty() && !self.hand_over(target, buffers) {
                self.push(target, std::mem::take(&mut buffers.current), std::mem::take(&mut buffers.lines));
            }
        }
    }

    /// Swaps the current buffer for an empty one; false, and nothing done, when there is none.
    fn hand_over(&self, target: usize, buffers: &mut Buffers) -> bool {
        while let Some(mut buffer) = self.lanes[target].empty.pop() {
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES);
            buffers.stock.push(buffer);
        }
        let Some(empty) = buffers.stock.pop() else { return false };
        let bytes = std::mem::replace(&mut buffers.current, empty);
        self.push(target, bytes, std::mem::take(&mut buffers.lines));
        true
    }

    fn push(&self, target: usize, bytes: Vec<u8>, lines: u64) {
        if self.lanes[target].filled.push(bytes).is_err() {
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
        BUFFERS - 1 - self.state.borrow().buffers[0].stock.len() - self.lanes[0].empty.len()
    }

    /// Capacity of the largest buffer at hand, in bytes.
    pub(super) fn largest_capacity(&self) -> usize {
        let state = self.state.borrow();
        let buffers = &state.buffers[0];
        buffers.stock.iter().chain([&buffers.current]).map(Vec::capacity).max().unwrap_or(0)
    }
}
