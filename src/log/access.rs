//! The data worker's side of the access log: fills a buffer, hands it over, takes empty ones back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::Entry;
use super::format::{Formatter, Host};
use super::writer::{Wake, plan};
use crate::config::Config;
use crate::config::model::LogTarget;
use crate::metrics::LogStats;

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
    pub(super) fn target_of(&self, site: Option<u16>) -> Option<usize> {
        match site {
            Some(site) => self.sites.get(usize::from(site)).copied().unwrap_or(self.default),
            None => self.default,
        }
    }
}

/// The buffers of one data worker, and the way to the writer thread. Made by [`super::Writer`], moved to the worker's
/// thread, used only there; it stays when the config changes.
#[derive(Debug)]
pub struct Outbox {
    worker: usize,
    host: Host,
    /// By target.
    lanes: RefCell<Vec<TargetLane>>,
    wake: Arc<Wake>,
    stats: Arc<LogStats>,
}

/// One target, and what is on its way there.
#[derive(Debug)]
struct TargetLane {
    target: LogTarget,
    lane: Arc<Lane>,
    buffers: Buffers,
}

/// Lanes of one data worker to targets that a new config brings. Made by [`super::Writer::open_new`].
#[derive(Debug, Default)]
pub struct NewLanes(pub(super) Vec<(LogTarget, Arc<Lane>)>);

/// The access log of one data worker under one config.
#[derive(Debug)]
pub struct AccessLog {
    formatter: RefCell<Formatter>,
    /// For connections in TCP mode.
    tcp: RefCell<Formatter>,
    routes: Routes,
    outbox: Rc<Outbox>,
    wants_response_fields: bool,
    wants_counts: bool,
    wants_tcp_counts: bool,
    wants_own: bool,
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
    /// The log as `config` wants it; `None`: it wants none. The lines of a target that `outbox` has no way to are not
    /// written, which [`super::Writer::open_new`] sees to.
    pub fn new(config: &Config, outbox: &Rc<Outbox>) -> Option<AccessLog> {
        let (targets, mut routes) = plan(config);
        if routes.default.is_none() && routes.sites.iter().all(Option::is_none) {
            return None;
        }
        let places: Vec<Option<usize>> = targets.iter().map(|target| outbox.place_of(target)).collect();
        routes.default = routes.default.and_then(|target| places[target]);
        routes.sites.iter_mut().for_each(|site| *site = site.and_then(|target| places[target]));
        let formatter = Formatter::new(config, outbox.worker, outbox.host.clone());
        let tcp = Formatter::tcp(config, outbox.worker, outbox.host.clone());
        Some(AccessLog {
            wants_response_fields: formatter.wants_response_fields(),
            wants_own: formatter.wants_own(),
            wants_counts: formatter.wants_counts(),
            wants_tcp_counts: tcp.wants_counts(),
            formatter: RefCell::new(formatter),
            tcp: RefCell::new(tcp),
            routes,
            outbox: outbox.clone(),
        })
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
        let formatter = if entry.stream.is_some() { &self.tcp } else { &self.formatter };
        self.outbox.record(target, |line| formatter.borrow_mut().line(line, entry));
    }
}

impl Outbox {
    pub(super) fn new(worker: usize, host: Host, lanes: NewLanes, wake: Arc<Wake>, stats: Arc<LogStats>) -> Outbox {
        let outbox = Outbox { worker, host, lanes: RefCell::default(), wake, stats };
        outbox.add(lanes);
        outbox
    }

    /// What lines say of this machine.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Adds the way to further targets.
    pub fn add(&self, new: NewLanes) {
        let mut lanes = self.lanes.borrow_mut();
        for (target, lane) in new.0 {
            let buffers = Buffers::new(buffers_of(lanes.len()));
            lanes.push(TargetLane { target, lane, buffers });
        }
    }

    pub(super) fn place_of(&self, target: &LogTarget) -> Option<usize> {
        self.lanes.borrow().iter().position(|lane| lane.target == *target)
    }

    /// Has a line written into the buffer for `target`, or drops and counts it.
    pub(super) fn record(&self, target: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let lane = &mut self.lanes.borrow_mut()[target];
        let is_full = lane.buffers.current.len() + LINE_BYTES > BUFFER_BYTES;
        if is_full && !self.hand_over(lane) {
            self.stats.dropped.inc();
            return;
        }
        write(&mut lane.buffers.current);
        lane.buffers.lines += 1;
        self.stats.lines.inc();
    }

    /// Hands over what has been recorded; to be called by the worker's tick, about every 200 ms. Never waits.
    pub fn flush_due(&self) {
        for lane in self.lanes.borrow_mut().iter_mut().filter(|lane| !lane.buffers.current.is_empty()) {
            self.hand_over(lane);
        }
    }

    /// Hands over what has been recorded, even when no empty buffer is left to go on with; for the worker's end.
    pub fn flush(&self) {
        for lane in self.lanes.borrow_mut().iter_mut().filter(|lane| !lane.buffers.current.is_empty()) {
            if !self.hand_over(lane) {
                let (bytes, lines) =
                    (std::mem::take(&mut lane.buffers.current), std::mem::take(&mut lane.buffers.lines));
                self.push(&lane.lane, bytes, lines);
            }
        }
    }

    /// Swaps the current buffer for an empty one; false, and nothing done, when there is none.
    fn hand_over(&self, TargetLane { lane, buffers, .. }: &mut TargetLane) -> bool {
        while let Some(mut buffer) = lane.empty.pop() {
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES);
            buffers.stock.push(buffer);
        }
        let Some(empty) = buffers.stock.pop() else { return false };
        let bytes = std::mem::replace(&mut buffers.current, empty);
        self.push(lane, bytes, std::mem::take(&mut buffers.lines));
        true
    }

    fn push(&self, lane: &Lane, bytes: Vec<u8>, lines: u64) {
        if lane.filled.push(bytes).is_err() {
            self.stats.dropped.add(lines); // only behind a flush that had no empty buffer to go on with
        }
        self.wake.wake();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
impl AccessLog {
    pub(super) fn flush_due(&self) {
        self.outbox.flush_due();
    }

    pub(super) fn flush(&self) {
        self.outbox.flush();
    }

    /// Buffers on their way to the writer thread or back.
    pub(super) fn in_flight(&self) -> usize {
        let lane = &self.outbox.lanes.borrow()[0];
        BUFFERS - 1 - lane.buffers.stock.len() - lane.lane.empty.len()
    }

    /// Capacity of the largest buffer at hand, in bytes.
    pub(super) fn largest_capacity(&self) -> usize {
        let buffers = &self.outbox.lanes.borrow()[0].buffers;
        buffers.stock.iter().chain([&buffers.current]).map(Vec::capacity).max().unwrap_or(0)
    }
}
