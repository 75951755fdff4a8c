//! Rates over the last second and latencies over the last minute, from counters that only grow. Pure: readings and
//! the time come in.
//!
//! Every second each meter gets its counters; every ten seconds also a snapshot of its histogram. A quantile is taken
//! from what the histogram has counted since the oldest snapshot kept, which is 60 to 70 seconds old (or the start).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::metrics::HistogramSnapshot;

/// What a meter measures; indexes are those of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Http,
    Files,
    Worker(usize),
    Upstream(usize),
    Server(usize, usize),
    App(usize),
    SplitterPrimary(usize),
    SplitterReplicas(usize),
}

/// Counters of one meter at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

/// Events per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) requests: f64,
    pub(crate) errors: f64,
}

/// Time between two histogram snapshots of a meter.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);
/// Age up to which they are kept, if a younger one follows.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Meter {
    at: Instant,
    counts: Counts,
    rates: Rates,
    /// Oldest first, never empty.
    snapshots: VecDeque<(Instant, HistogramSnapshot)>,
}

/// All meters.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    meters: BTreeMap<Key, Meter>,
}

impl Sampler {
    /// Takes the counters of one meter. `durations` is asked for only when a snapshot is due.
    pub(crate) fn on_sample(
        &mut self,
        key: Key,
        now: Instant,
        counts: Counts,
        durations: impl FnOnce() -> HistogramSnapshot,
    ) {
        match self.meters.get_mut(&key) {
            Some(meter) => meter.on_sample(now, counts, durations),
            None => {
                let snapshots = VecDeque::from([(now, durations())]);
                self.meters.insert(key, Meter { at: now, counts, rates: Rates::default(), snapshots });
            }
        }
    }

    /// Another config: what has another index goes on under that one, and `None` ends.
    pub(crate) fn rekey(&mut self, new_key: impl Fn(Key) -> Option<Key>) {
        let old = std::mem::take(&mut self.meters);
        self.meters = old.into_iter().filter_map(|(key, meter)| Some((new_key(key)?, meter))).collect();
    }

    /// Events per second between the last two samples.
    pub(crate) fn rates(&self, key: Key) -> Rates {
        self.meters.get(&key).map(|meter| meter.rates).unwrap_or_default()
    }

    /// What the histogram, now at `durations`, has counted in the last minute.
    pub(crate) fn last_minute(&self, key: Key, durations: &HistogramSnapshot) -> HistogramSnapshot {
        match self.meters.get(&key).and_then(|meter| meter.snapshots.front()) {
            Some((_, oldest)) => durations.since(oldest),
            None => durations.clone(),
        }
    }
}

impl Meter {
    fn on_sample(&mut self, now: Instant, counts: Counts, durations: impl FnOnce() -> HistogramSnapshot) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        self.rates = Rates {
            requests: rate(counts.requests, self.counts.requests),
            errors: rate(counts.errors, self.counts.errors),
        };
        (self.at, self.counts) = (now, counts);
        let due = |(last, _): &(Instant, HistogramSnapshot)| now.saturating_duration_since(*last) >= SNAPSHOT_EVERY;
        if self.snapshots.back().is_none_or(due) {
            self.snapshots.push_back((now, durations()));
        }
        while self.snapshots.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.snapshots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn rates_are_differences_by_the_time_that_really_passed() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let mut sample = |at_ms, requests, errors| {
            let now = start + Duration::from_millis(at_ms);
            sampler.on_sample(Key::Http, now, Counts { requests, errors }, HistogramSnapshot::default);
            let rates = sampler.rates(Key::Http);
            (rates.requests, rates.errors)
        };
        assert_eq!(sample(0, 100, 0), (0.0, 0.0), "the first sample has nothing to compare with");
        assert_eq!(sample(1000, 350, 5), (250.0, 5.0));
        assert_eq!(sample(3000, 550, 5), (100.0, 0.0), "a late timer does not double the rate");
        assert_eq!(sample(3000, 900, 5), (100.0, 0.0), "no time has passed: the old rate stays");
        assert_eq!(sample(4000, 550, 5), (0.0, 0.0));
        assert_eq!(sampler.rates(Key::App(3)), Rates::default());
    }

    #[test]
    fn latencies_forget_what_is_older_than_the_window_and_memory_stays_bounded() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let histogram = Histogram::default();
        sampler.on_sample(Key::Files, start, Counts::default(), || histogram.snapshot());
        histogram.record(Duration::from_secs(1));
        for second in 1..=300u64 {
            let now = start + Duration::from_secs(second);
            sampler.on_sample(Key::Files, now, Counts::default(), || histogram.snapshot());
            let minute = sampler.last_minute(Key::Files, &histogram.snapshot());
            if second <= 60 {
                assert_eq!(minute.count(), 1, "second {second}");
            }
            if second >= 75 {
                assert_eq!(minute.count(), 0, "second {second}");
            }
        }
        assert!(sampler.meters[&Key::Files].snapshots.len() <= 8);
    }
}
