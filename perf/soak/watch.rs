//! Samples of the server process, and whether it grew.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::World;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// The admin listener answers within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Fewer samples under load say nothing about a trend.
const TREND_SAMPLES_MIN: usize = 16;

/// Gauges that are 0 when nobody is connected.
const AT_REST: [&str; 4] = [
    "one_server_http_connections",
    "one_server_http_connections_reading",
    "one_server_http2_connections",
    "one_server_upstream_requests_active",
];
/// Counters that must stay 0.
const NEVER: [&str; 4] = [
    "one_server_panics_total",
    "one_server_http2_floods_total",
    "one_server_http_malformed_total",
    "one_server_http_connections_refused_total",
];

/// How much more the server may hold at the end than after the warm-up.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Resident memory and data, bytes.
    pub(crate) memory_growth_max: u64,
    pub(crate) descriptors_growth_max: u64,
}

impl Default for Bounds {
    /// An allocator keeps what it once needed, so a peak that comes late looks like growth: 16 MiB are less than a leak of
    /// 100 bytes per request in ten minutes. Descriptors: those of cached files and of the admin connection.
    fn default() -> Bounds {
        Bounds { memory_growth_max: 16 << 20, descriptors_growth_max: 4 }
    }
}

/// The process at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    at: Duration,
    rss: u64,
    data: u64,
    descriptors: u64,
    /// Sums over all workers, by name.
    metrics: BTreeMap<String, f64>,
}

impl Sample {
    /// Nobody is connected and nothing is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        AT_REST.iter().all(|name| self.metric(name) == 0.0)
    }

    fn metric(&self, name: &str) -> f64 {
        self.metrics.get(name).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:>5.0} s  RSS {:.1} MiB, VmData {:.1} MiB, {} descriptors, {} connections ({} HTTP/2), upstream {} active {} idle",
            self.at.as_secs_f64(),
            mib(self.rss),
            mib(self.data),
            self.descriptors,
            self.metric("one_server_http_connections"),
            self.metric("one_server_http2_connections"),
            self.metric("one_server_upstream_requests_active"),
            self.metric("one_server_upstream_connections_idle"),
        )
    }
}

/// Takes a sample every 5 s until it is stopped, and prints it.
pub(crate) struct Watch {
    source: Source,
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

/// Where samples come from.
#[derive(Clone, Copy)]
struct Source {
    pid: u32,
    admin: SocketAddr,
    began: Instant,
}

impl Watch {
    pub(crate) fn start(pid: u32, admin: SocketAddr, world: Arc<World>) -> Watch {
        let source = Source { pid, admin, began: Instant::now() };
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = samples.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                match source.sample().await {
                    Ok(sample) => {
                        let (requests, failed, bytes) = world.tally.totals();
                        println!("{sample}; {requests} requests, {failed} failures, {:.1} GB", bytes as f64 / 1e9);
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                    }
                    Err(problem) => world.tally.fail("sample", &problem),
                }
            }
        });
        Watch { source, samples, task }
    }

    /// Errors: the process or its admin listener is gone.
    pub(crate) async fn sample_now(&self) -> Result<Sample, String> {
        self.source.sample().await
    }

    /// Those taken every 5 s.
    pub(crate) fn stop(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source {
    async fn sample(&self) -> Result<Sample, String> {
        let folder = format!("/proc/{}", self.pid);
        let status = std::fs::read_to_string(format!("{folder}/status")).map_err(|e| format!("{folder}: {e}"))?;
        let kib = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map(|kib| kib << 10)
        };
        let descriptors = std::fs::read_dir(format!("{folder}/fd")).map_err(|e| format!("{folder}/fd: {e}"))?.count();
        let metrics = tokio::time::timeout(PATIENCE, scrape(self.admin)).await;
        Ok(Sample {
            at: self.began.elapsed(),
            rss: kib("VmRSS").ok_or("the server has ended")?, // a process nobody has waited for has no memory
            data: kib("VmData").ok_or("the server has ended")?,
            descriptors: descriptors as u64,
            metrics: sums(&metrics.map_err(|_| "the admin listener does not answer".to_owned())??),
        })
    }
}

/// The text of `/metrics`.
async fn scrape(admin: SocketAddr) -> Result<String, String> {
    let ask = async {
        let mut socket = TcpStream::connect(admin).await?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    ask.await.map_err(|e| format!("admin listener: {e}"))
}

/// Samples of each family added up, whatever their labels.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("one_server_")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

/// What grew or happened that must not. `before` and `after` were taken at rest.
pub(crate) fn judge(samples: &[Sample], before: &Sample, after: &Sample, bounds: &Bounds) -> Vec<String> {
    let mut problems = Vec::new();
    let mut hold = |what: &str, before: u64, after: u64, growth_max: u64| {
        if after > before + growth_max {
            problems.push(format!("{what} grew from {before} to {after}, by more than {growth_max}"));
        }
    };
    hold("RSS at rest", before.rss, after.rss, bounds.memory_growth_max);
    hold("VmData at rest", before.data, after.data, bounds.memory_growth_max);
    hold("descriptors at rest", before.descriptors, after.descriptors, bounds.descriptors_growth_max);
    // Under load by its trend: the first samples are those of the warm-up, and a single one depends on what was asked just
    // then.
    let loaded: Vec<_> = samples.iter().filter(|sample| !sample.is_at_rest()).collect();
    if loaded.len() >= TREND_SAMPLES_MIN {
        let quarter = loaded.len() / 4;
        let median = |part: &[&Sample], take: fn(&Sample) -> u64| {
            let mut values: Vec<_> = part.iter().map(|sample| take(sample)).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let (second, last) = (&loaded[quarter..2 * quarter], &loaded[loaded.len() - quarter..]);
        for (what, take) in [("RSS under load", (|s| s.rss) as fn(&Sample) -> u64), ("VmData under load", |s| s.data)] {
            let before = median(second, take);
            hold(what, before, median(last, take), bounds.memory_growth_max + before / 10);
        }
    }
    for name in NEVER {
        match after.metric(name) {
            0.0 => {}
            count => problems.push(format!("{name} is {count}, not 0")),
        }
    }
    if !after.is_at_rest() {
        problems.push(format!("connections are left: {after}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rss: u64, connections: f64) -> Sample {
        let mut metrics: BTreeMap<_, _> = NEVER.iter().chain(&AT_REST).map(|name| (name.to_string(), 0.0)).collect();
        metrics.insert("one_server_http_connections".into(), connections);
        Sample { rss, metrics, ..Sample::default() }
    }

    #[test]
    fn metrics_are_added_over_their_labels() {
        let sums = sums(
            "# HELP\none_server_x{worker=\"0\",k=\"a b\"} 2\none_server_x{worker=\"1\"} 3\none_server_xy 1\nother 9\n",
        );
        assert_eq!(sums, BTreeMap::from([("one_server_x".into(), 5.0), ("one_server_xy".into(), 1.0)]));
    }

    #[test]
    fn growth_beyond_the_bound_is_a_problem() {
        let bounds = Bounds { memory_growth_max: 10, descriptors_growth_max: 2 };
        let judge = |after: &Sample| judge(&[], &sample(100, 0.0), after, &bounds);
        assert!(judge(&sample(110, 0.0)).is_empty());
        assert_eq!(judge(&sample(111, 0.0)).len(), 1);
        assert_eq!(judge(&Sample { descriptors: 3, ..sample(100, 0.0) }).len(), 1);
        assert_eq!(judge(&Sample { data: 11, ..sample(100, 0.0) }).len(), 1);
        assert_eq!(judge(&sample(100, 1.0)).len(), 1, "a connection is left");
    }

    #[test]
    fn a_panic_or_a_metric_that_is_gone_is_a_problem() {
        for value in [Some(1.0), None] {
            let mut after = sample(100, 0.0);
            match value {
                Some(value) => after.metrics.insert(NEVER[0].into(), value),
                None => after.metrics.remove(NEVER[0]),
            };
            assert_eq!(judge(&[], &sample(100, 0.0), &after, &Bounds::default()).len(), 1, "{value:?}");
        }
    }

    #[test]
    fn a_trend_under_load_is_a_problem_and_one_peak_is_not() {
        let bounds = Bounds { memory_growth_max: 10, descriptors_growth_max: 2 };
        let rest = sample(100, 0.0);
        let mut samples: Vec<_> = (0..32).map(|_| sample(1000, 5.0)).collect();
        samples[30].rss = 9000;
        assert!(judge(&samples, &rest, &rest, &bounds).is_empty());
        for (index, sample) in samples.iter_mut().enumerate() {
            sample.rss = 1000 + 20 * index as u64;
        }
        assert_eq!(judge(&samples, &rest, &rest, &bounds).len(), 1);
    }
}
