//! What was done, and what failed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Failures that are told in full.
const TOLD_MAX: usize = 20;

/// Counts of all clients.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By kind of job and by transport.
    jobs: BTreeMap<&'static str, u64>,
    transports: BTreeMap<&'static str, u64>,
    codings: BTreeMap<String, u64>,
    /// Connections, and TLS sessions that were resumed.
    connections: u64,
    resumed: u64,
    /// Connections that the server ended with its answer, at its limit of requests.
    ended_by_server: u64,
    body_bytes: u64,
    failed: u64,
    told: Vec<String>,
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request whose answer was right.
    pub(crate) fn done(&self, job: &'static str, transport: &'static str, body_bytes: u64) {
        let mut counts = self.counts();
        *counts.jobs.entry(job).or_default() += 1;
        *counts.transports.entry(transport).or_default() += 1;
        counts.body_bytes += body_bytes;
    }

    /// A body that came in this content coding.
    pub(crate) fn coding(&self, coding: &str) {
        *self.counts().codings.entry(coding.to_owned()).or_default() += 1;
    }

    /// A connection that was made.
    pub(crate) fn connected(&self, is_resumed: bool) {
        let mut counts = self.counts();
        counts.connections += 1;
        counts.resumed += u64::from(is_resumed);
    }

    /// A connection that reached the server's limit of requests.
    pub(crate) fn ended_by_server(&self) {
        self.counts().ended_by_server += 1;
    }

    /// Something that must not have happened.
    pub(crate) fn fail(&self, what: &str, how: &str) {
        let mut counts = self.counts();
        counts.failed += 1;
        if counts.told.len() < TOLD_MAX {
            counts.told.push(format!("{what}: {how}"));
        }
    }

    /// (Requests that were right, failures, bytes of bodies compared.)
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let counts = self.counts();
        (counts.jobs.values().sum(), counts.failed, counts.body_bytes)
    }

    /// Reasons why the soak did not pass.
    pub(crate) fn problems(&self) -> Vec<String> {
        let counts = self.counts();
        let mut problems = counts.told.clone();
        if counts.failed > counts.told.len() as u64 {
            problems.push(format!("and {} more", counts.failed - counts.told.len() as u64));
        }
        if counts.jobs.is_empty() {
            problems.push("not one request was answered".into());
        }
        problems
    }

    /// For the end.
    pub(crate) fn summary(&self) -> String {
        let (requests, failed, bytes) = self.totals();
        let counts = self.counts();
        let mut text = format!(
            "{requests} requests right, {failed} failures, {:.1} GB of bodies compared, {} connections, {} TLS sessions resumed, {} \
             connections to the limit of requests\n",
            bytes as f64 / 1e9,
            counts.connections,
            counts.resumed,
            counts.ended_by_server
        );
        let list =
            |map: &BTreeMap<&str, u64>| map.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
        let codings = counts.codings.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        for (label, line) in
            [("jobs", list(&counts.jobs)), ("over", list(&counts.transports)), ("codings", list(&codings))]
        {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{label}: {line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_done_is_a_problem_and_so_is_every_failure() {
        let tally = Tally::default();
        assert_eq!(tally.problems().len(), 1);
        tally.done("whole", "HTTP/2", 5);
        assert!(tally.problems().is_empty());
        for _ in 0..TOLD_MAX + 3 {
            tally.fail("whole", "a byte");
        }
        assert_eq!(tally.problems().len(), TOLD_MAX + 1);
        assert_eq!(tally.problems()[TOLD_MAX], "and 3 more");
        assert_eq!(tally.totals(), (1, TOLD_MAX as u64 + 3, 5));
    }
}
