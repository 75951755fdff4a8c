//! What is noted of a server's answers for outlier detection: a success, a failure, or nothing.
//!
//! Deliberately absent: decisions. The control thread reads the numbers ([`crate::proxy::outlier`]).

use super::Forward;
use crate::proxy::retry::Situation;
use crate::runtime::net::is_own_failure;
use crate::worker::Worker;

impl Forward<'_> {
    /// The head of a response has come.
    pub(super) fn observe_status(&self, server: usize, status: u16) {
        let Some(rules) = &self.config.outliers else { return };
        match rules.failures.has_status(status) {
            true => self.note_failure(server, rules.consecutive),
            false => self.stats(server).outcomes.on_success(),
        }
    }

    /// A try has failed. What only met a closed idle connection says nothing of the server.
    pub(super) fn observe_failure(&self, server: usize, situation: Situation) {
        let Some(rules) = &self.config.outliers else { return };
        let counts = match situation {
            // Told by `observe_connect_failure`, which knows why.
            Situation::ConnectFailed => false,
            Situation::FreshClosed => rules.failures.broken,
            Situation::ResponseTimeout => rules.failures.timeout,
            Situation::Refused | Situation::ReusedClosed | Situation::ErrorStatus => false,
        };
        if counts {
            self.note_failure(server, rules.consecutive);
        }
    }

    /// Connecting has failed; `error` is `None` when it took too long. What lacks on this machine does not count.
    pub(super) fn observe_connect_failure(&self, server: usize, error: Option<&std::io::Error>) {
        observe_connect_failure(self.worker, self.upstream, server, error);
    }

    /// A response has broken off behind its head, by the server's fault.
    pub(super) fn observe_broken(&self, server: usize) {
        self.observe_failure(server, Situation::FreshClosed);
    }

    fn note_failure(&self, server: usize, consecutive: u32) {
        note_failure(self.worker, self.upstream, server, consecutive);
    }
}

/// Connecting to a server has failed, for a request or in TCP mode; `error` is `None` when it took too long. What lacks on this
/// machine does not count.
pub(in crate::worker) fn observe_connect_failure(
    worker: &Worker,
    upstream: usize,
    server: usize,
    error: Option<&std::io::Error>,
) {
    let Some(rules) = &worker.config.upstreams[upstream].outliers else { return };
    if rules.failures.connect && !error.is_some_and(is_own_failure) {
        note_failure(worker, upstream, server, rules.consecutive);
    }
}

/// A connection in TCP mode has come to be, which is all that is known of how the server does; in UDP mode: an answer has come.
pub(in crate::worker) fn observe_connected(worker: &Worker, upstream: usize, server: usize) {
    if worker.config.upstreams[upstream].outliers.is_some() {
        worker.stats.servers[upstream][server].outcomes.on_success();
    }
}

/// Datagrams have not been answered in time.
pub(in crate::worker) fn observe_unanswered(worker: &Worker, upstream: usize, server: usize) {
    let Some(rules) = &worker.config.upstreams[upstream].outliers else { return };
    if rules.failures.timeout {
        note_failure(worker, upstream, server, rules.consecutive);
    }
}

fn note_failure(worker: &Worker, upstream: usize, server: usize, consecutive: u32) {
    let life = worker.shared.servers[upstream][server].life();
    worker.stats.servers[upstream][server].outcomes.on_failure(consecutive, life);
}
