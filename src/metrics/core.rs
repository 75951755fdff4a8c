//! The three instruments: counter, gauge, log-linear histogram. One writer, any number of readers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows. One thread writes it; others may read it at any time.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread may call it.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the owning thread may call it: load and store, no locked instruction.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls. One thread writes it; others may read it at any time.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one. Only the owning thread may call it.
    #[inline]
    pub fn inc(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Takes one away. Only the owning thread may call it.
    #[inline]
    pub fn dec(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Sets the value. Only the owning thread may call it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Each power of two is cut into this many equal buckets: at most 12.5 % wide.
const STEPS: usize = 8;
/// Powers of two covered: 1 µs to about 67 s; longer counts in the last bucket.
const POWERS: usize = 26;
const BUCKETS: usize = STEPS * (POWERS - 2);

/// Log-linear histogram of durations: buckets at most 12.5 % wide from 1 µs to a minute.
pub struct Histogram {
    buckets: Box<[Counter; BUCKETS]>,
    sum_us: Counter,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("count", &self.snapshot().count()).finish()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: Box::new(std::array::from_fn(|_| Counter::default())), sum_us: Counter::default() }
    }
}

/// Bucket of a duration in µs. Values below `STEPS` have a bucket each.
fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = 63 - us.leading_zeros() as usize; // at least 3
    let step = (us >> (power - 3)) as usize & (STEPS - 1);
    ((power - 2) * STEPS + step).min(BUCKETS - 1)
}

/// First duration in µs that is beyond the bucket.
fn upper_us(index: usize) -> u64 {
    if index < STEPS {
        return index as u64 + 1;
    }
    let (power, step) = (index / STEPS + 2, index % STEPS);
    ((STEPS + step + 1) as u64) << (power - 3)
}

impl Histogram {
    /// Counts one duration. Only the owning thread may call it.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[bucket(us)].inc();
        self.sum_us.add(us);
    }

    /// Counts what `other` has counted. Only the owning thread may call it.
    pub fn absorb(&self, other: &Histogram) {
        self.buckets.iter().zip(other.buckets.iter()).for_each(|(mine, other)| mine.add(other.value()));
        self.sum_us.add(other.sum_us.value());
    }

    /// A copy for reading, adding up, and asking for quantiles.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { buckets: self.buckets.iter().map(Counter::value).collect(), sum_us: self.sum_us.value() }
    }
}

/// What a [`Histogram`] held at one moment; snapshots of several workers can be merged.
#[derive(Clone, Debug)]
pub struct HistogramSnapshot {
    buckets: Vec<u64>,
    sum_us: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        HistogramSnapshot { buckets: vec![0; BUCKETS], sum_us: 0 }
    }
}

impl HistogramSnapshot {
    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_us += other.sum_us;
    }

    /// What was counted after `earlier`, a snapshot of the same histogram (or of the same ones, merged).
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let buckets = self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.saturating_sub(*then)).collect();
        HistogramSnapshot { buckets, sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// Number of durations counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Number of durations that are certainly below `bound`: those of all buckets that end at or before it.
    pub fn count_below(&self, bound: Duration) -> u64 {
        let us = bound.as_micros() as u64;
        self.buckets.iter().enumerate().take_while(|(index, _)| upper_us(*index) <= us).map(|(_, n)| n).sum()
    }

    /// Upper end of the bucket in which the `q`-quantile lies, `q` from 0 to 1; zero when nothing was counted.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (self.count() as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_micros(upper_us(index));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_below_the_upper_end_of_its_bucket_and_not_below_the_one_before() {
        for us in (0..10_000).chain((10_000..60_000_000).step_by(7_919)) {
            let index = bucket(us);
            assert!(us < upper_us(index), "{us} µs in bucket {index}");
            assert!(index == 0 || us >= upper_us(index - 1), "{us} µs in bucket {index}");
        }
    }

    #[test]
    fn a_later_snapshot_less_an_earlier_one_is_what_came_between() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(500));
        let earlier = histogram.snapshot();
        for _ in 0..10 {
            histogram.record(Duration::from_micros(100));
        }
        let between = histogram.snapshot().since(&earlier);
        assert_eq!((between.count(), between.sum()), (10, Duration::from_millis(1)));
        assert!(between.quantile(1.0) < Duration::from_micros(120));
        assert_eq!(earlier.since(&histogram.snapshot()).count(), 0, "never below zero");
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_too_large() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 1000);
        let p50 = snapshot.quantile(0.5).as_micros();
        assert!((500..=563).contains(&p50), "{p50}");
        assert_eq!(HistogramSnapshot::default().quantile(0.99), Duration::ZERO);
    }
}
