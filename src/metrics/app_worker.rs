//! What one application worker counts. Its thread is the only writer.

use super::{Counter, Gauge};

/// Counters of one application worker, all applications together.
#[derive(Debug, Default)]
pub struct AppWorkerStats {
    /// Requests waiting in its queue; set by the worker to the queue's length whenever it takes work.
    pub queue_depth: Gauge,
    /// Requests it runs now.
    pub running: Gauge,
    /// Times it was woken from sleep by a data worker.
    pub wake_ups: Counter,
    /// Times its queue was full when a data worker wanted to leave a request: that one goes to another worker or waits.
    pub queue_full: Counter,
    /// Requests it started to run.
    pub requests: Counter,
    /// Panics of application code it contained.
    pub panics: Counter,
    /// Requests thrown away before they ran, because their client had left or their time was up.
    pub cancelled: Counter,
    /// Times the worker was started again after it had failed as a whole.
    pub restarts: Counter,
    /// 1: it has failed as a whole and does not serve again yet.
    pub restarting: Gauge,
    /// Goes up every 100 ms for as long as its thread gets to it. Nobody shows it.
    pub pulse: Counter,
    /// Times its safety timer found work no wake-up had told of. Anything but 0 is a defect of ours.
    pub lost_wakeups: Counter,
}
