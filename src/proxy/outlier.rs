//! Which servers are ejected for what live traffic shows: failures in a row, a share of failures, or latency far above
//! that of the others. Pure: totals of the data workers and `now` come in, changes go out.
//!
//! ```text
//!                 an outlier, and there is room among the ejected
//!      in service ------------------------------------------------> ejected
//!          ^  |                                                        |
//!          |  | a time without an ejection: `times` goes down by one   |
//!          |  +--+                                                     |
//!          +-----+------------- `ejection_time` × `times` has passed --+
//! ```
//!
//! It differs from Envoy's outlier detection, whose words it uses, in three things: the last server that is up is never
//! ejected, whatever the cap says; a server that fails requests is not put back because it passes its active checks (that
//! is the server this is for); and a server that fails quickly is no measure for the latency of the others.
//!
//! Failures in a row are counted over all data workers: a sample in which nothing succeeded prolongs the row by all its
//! failures. In a sample with successes the order between workers is unknown; then a row begins anew with what a single
//! worker saw behind its last success, and a whole streak that one worker saw counts by itself.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::model::OutlierRules;
use crate::metrics::HistogramSnapshot;

/// Looks at shares and latencies within one window.
const SLICES: u32 = 5;
/// A server that failed this share of its requests is no measure for the latency of others, percent.
const FAILS_TOO_MUCH_PERCENT: u64 = 50;

/// What the data workers have counted of one server since the start, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Good answers.
    pub successes: u64,
    /// Failures of the kinds that count.
    pub failures: u64,
    /// Streaks that single workers saw.
    pub streaks: u64,
    /// Longest row of failures that a single worker sees now.
    pub row_max: u64,
}

impl Reading {
    fn since(&self, earlier: &Reading) -> Reading {
        Reading {
            successes: self.successes.saturating_sub(earlier.successes),
            failures: self.failures.saturating_sub(earlier.failures),
            streaks: self.streaks.saturating_sub(earlier.streaks),
            row_max: self.row_max,
        }
    }

    fn requests(&self) -> u64 {
        self.successes + self.failures
    }
}

/// Why a server is an outlier.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// So many failures in a row.
    Consecutive(u64),
    /// So many failures among so many requests of a window.
    ErrorRate {
        /// Failed.
        failures: u64,
        /// All.
        requests: u64,
    },
    /// Slower than the others.
    Latency {
        /// Its own.
        own: Duration,
        /// The median of the others'.
        median: Duration,
        /// Which percentile that is of.
        percentile: u32,
    },
}

impl Reason {
    /// The worst first: kind, then how bad.
    fn severity(&self) -> (u32, f64) {
        match self {
            Reason::Consecutive(row) => (2, *row as f64),
            Reason::ErrorRate { failures, requests } => (1, *failures as f64 / (*requests).max(1) as f64),
            Reason::Latency { own, median, .. } => (0, own.as_secs_f64() / median.as_secs_f64().max(1e-9)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Consecutive(row) => write!(f, "{row} failures in a row"),
            Reason::ErrorRate { failures, requests } => write!(f, "{failures} of {requests} requests failed"),
            Reason::Latency { own, median, percentile } => {
                write!(f, "p{percentile} latency {own:?}, while the median of the others is {median:?}")
            }
        }
    }
}

/// What happened to a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It gets no requests from now on.
    Ejected {
        /// Index of the server.
        server: usize,
        /// Why.
        reason: Reason,
        /// For how long.
        time: Duration,
        /// Its ejections that still count, this one included.
        times: u32,
    },
    /// Its time is over.
    Returned {
        /// Index of the server.
        server: usize,
        /// How long it was.
        ejected: Duration,
    },
    /// It is an outlier, but stays, because too many others are out. Told once an `ejection_time`.
    Spared {
        /// Index of the server.
        server: usize,
        /// Why it would have been ejected.
        reason: Reason,
    },
}

/// Outlier detection of one upstream.
#[derive(Debug)]
pub struct Outliers {
    rules: OutlierRules,
    servers: Vec<Server>,
    look_at: Instant,
}

#[derive(Debug)]
struct Server {
    last: Reading,
    /// Failures in a row.
    row: u64,
    /// Begin of the window and of each slice of it, oldest first, never empty.
    marks: VecDeque<Mark>,
    /// Since when and until when it is ejected.
    ejected: Option<(Instant, Instant)>,
    /// Ejections that count.
    times: u32,
    /// `times` goes down from here.
    calm_since: Instant,
    told_spared: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Mark {
    reading: Reading,
    latency: HistogramSnapshot,
}

impl Outliers {
    /// All servers in service. `readings` is where their counters stand.
    pub fn new(rules: OutlierRules, readings: &[Reading], now: Instant) -> Outliers {
        let server = |reading: &Reading| Server {
            last: *reading,
            row: 0,
            marks: VecDeque::from([Mark { reading: *reading, latency: HistogramSnapshot::default() }]),
            ejected: None,
            times: 0,
            calm_since: now,
            told_spared: None,
        };
        let look_at = now + rules.window / SLICES;
        Outliers { servers: readings.iter().map(server).collect(), look_at, rules }
    }

    /// Whether a server is ejected.
    pub fn is_ejected(&self, server: usize) -> bool {
        self.servers[server].ejected.is_some()
    }

    /// Takes the counters of all servers and what their active checks say of them; tells what changes.
    ///
    /// `latency` is asked, for one server after the other, when latencies are due to be looked at. Panics when the slices
    /// are not as long as those of [`Outliers::new`].
    pub fn on_sample(
        &mut self,
        now: Instant,
        readings: &[Reading],
        up: &[bool],
        mut latency: impl FnMut(usize) -> HistogramSnapshot,
    ) -> Vec<Change> {
        assert!(readings.len() == self.servers.len() && up.len() == self.servers.len(), "a reading for each server");
        let mut changes = Vec::new();
        let wants_latency = self.rules.latency_factor > 0;
        for (index, (server, reading)) in self.servers.iter_mut().zip(readings).enumerate() {
            if let Some(ejected) = server.return_when_due(now) {
                changes.push(Change::Returned { server: index, ejected });
                let latency = if wants_latency { latency(index) } else { HistogramSnapshot::default() };
                server.begin_anew(*reading, latency);
            }
            server.decay(self.rules.ejection_time, now);
        }
        let mut found = Vec::new();
        for (index, (server, reading)) in self.servers.iter_mut().zip(readings).enumerate() {
            let is_judged = up[index] && server.ejected.is_none();
            if let Some(row) = server.on_reading(*reading, self.rules.consecutive).filter(|_| is_judged) {
                found.push((index, Reason::Consecutive(row)));
            }
        }
        if now >= self.look_at {
            self.look_at = now + self.rules.window / SLICES;
            self.look(readings, up, &mut found, latency);
        }
        found.sort_by(|(_, a), (_, b)| {
            let ((a, how_bad_a), (b, how_bad_b)) = (a.severity(), b.severity());
            b.cmp(&a).then(how_bad_b.total_cmp(&how_bad_a))
        });
        for (index, reason) in found {
            changes.extend(self.eject(index, reason, up, now));
        }
        changes
    }

    /// Judges the window that ends now, and begins its next slice.
    fn look(
        &mut self,
        readings: &[Reading],
        up: &[bool],
        found: &mut Vec<(usize, Reason)>,
        mut latency: impl FnMut(usize) -> HistogramSnapshot,
    ) {
        let rules = &self.rules;
        let mut quantiles = vec![None; self.servers.len()];
        for (index, (server, reading)) in self.servers.iter_mut().zip(readings).enumerate() {
            let latency = if rules.latency_factor > 0 { latency(index) } else { HistogramSnapshot::default() };
            let begin = server.marks.front().expect("never empty");
            let (counts, latencies) = (reading.since(&begin.reading), latency.since(&begin.latency));
            server.marks.push_back(Mark { reading: *reading, latency });
            if server.marks.len() > SLICES as usize {
                server.marks.pop_front();
            }
            if !up[index] || server.ejected.is_some() {
                continue;
            }
            let (failures, requests) = (counts.failures, counts.requests());
            let is_enough = requests >= rules.requests_min;
            if rules.error_percent > 0 && is_enough && failures * 100 >= requests * u64::from(rules.error_percent) {
                found.push((index, Reason::ErrorRate { failures, requests }));
            }
            let fails_too_much = requests > 0 && failures * 100 >= requests * FAILS_TOO_MUCH_PERCENT;
            if rules.latency_factor > 0 && latencies.count() >= rules.requests_min && !fails_too_much {
                quantiles[index] = Some(latencies.quantile(f64::from(rules.latency_percentile) / 100.0));
            }
        }
        for (index, own) in quantiles.iter().enumerate() {
            let Some(own) = *own else { continue };
            let others = quantiles.iter().enumerate().filter(|(other, _)| *other != index);
            let Some(median) = median(others.filter_map(|(_, quantile)| *quantile)) else { continue };
            if own >= rules.latency_min && own >= median * rules.latency_factor {
                found.push((index, Reason::Latency { own, median, percentile: rules.latency_percentile }));
            }
        }
    }

    /// Ejects a server if enough others are left.
    fn eject(&mut self, index: usize, reason: Reason, up: &[bool], now: Instant) -> Option<Change> {
        let all = self.servers.len();
        let ejected = self.servers.iter().filter(|server| server.ejected.is_some()).count();
        let left = (0..all).filter(|&other| other != index && up[other] && !self.is_ejected(other)).count();
        let share = all * self.rules.max_ejected_percent as usize / 100;
        let ejected_max = if self.rules.max_ejected_percent == 0 { 0 } else { share.max(1) };
        let server = &mut self.servers[index];
        if server.ejected.is_some() {
            return None; // for another reason of the same sample
        }
        server.row = 0;
        if ejected >= ejected_max || left == 0 {
            let is_told = |at: &Instant| now.saturating_duration_since(*at) < self.rules.ejection_time;
            if server.told_spared.as_ref().is_some_and(is_told) {
                return None;
            }
            server.told_spared = Some(now);
            return Some(Change::Spared { server: index, reason });
        }
        server.times = server.times.saturating_add(1);
        let time = self.rules.ejection_time.saturating_mul(server.times).min(self.rules.ejection_max);
        server.ejected = Some((now, now + time));
        Some(Change::Ejected { server: index, reason, time, times: server.times })
    }
}

impl Server {
    /// How long it was ejected, when that is over.
    fn return_when_due(&mut self, now: Instant) -> Option<Duration> {
        let (since, until) = self.ejected?;
        if now < until {
            return None;
        }
        self.ejected = None;
        self.calm_since = now;
        Some(now.saturating_duration_since(since))
    }

    /// What came before no longer counts.
    fn begin_anew(&mut self, reading: Reading, latency: HistogramSnapshot) {
        self.last = reading;
        self.row = 0;
        self.marks = VecDeque::from([Mark { reading, latency }]);
    }

    fn decay(&mut self, ejection_time: Duration, now: Instant) {
        while self.ejected.is_none()
            && self.times > 0
            && now.saturating_duration_since(self.calm_since) >= ejection_time
        {
            self.times -= 1;
            self.calm_since += ejection_time;
        }
    }

    /// The row of failures, when it is long enough. `consecutive` 0: none is.
    fn on_reading(&mut self, reading: Reading, consecutive: u32) -> Option<u64> {
        let new = reading.since(&self.last);
        self.last = reading;
        self.row = match new.successes {
            0 => self.row + new.failures,
            _ => new.row_max.min(new.failures),
        };
        let needed = u64::from(consecutive);
        match needed {
            0 => None,
            _ if self.row >= needed => Some(self.row),
            _ if new.streaks > 0 => Some(needed),
            _ => None,
        }
    }
}

/// The lower of the two in the middle when there is an even number; `None` of nothing.
fn median(values: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests;
