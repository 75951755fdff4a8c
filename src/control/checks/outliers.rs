//! Reads what the data workers count of an upstream's servers, ten times a second, for [`crate::proxy::outlier`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::tell;
use crate::control::Shared;
use crate::metrics::{HistogramSnapshot, ServerStats};
use crate::proxy::outlier::{Outliers, Reading};

/// Time between two looks: how long a server that fails goes on failing requests.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Watches one upstream, as long as it is polled.
pub(super) async fn watch_forever(shared: Arc<Shared>, u: usize) {
    let Some(rules) = shared.config.upstreams[u].outliers.clone() else { return };
    let mut outliers = Outliers::new(rules, &readings(&shared, u), Instant::now());
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let up: Vec<bool> = shared.servers[u].iter().map(|server| server.passes_checks()).collect();
        let changes = outliers.on_sample(Instant::now(), &readings(&shared, u), &up, |s| latency(&shared, u, s));
        for change in changes {
            tell::by_traffic(&shared, u, change, SystemTime::now());
        }
    }
}

fn readings(shared: &Shared, u: usize) -> Vec<Reading> {
    (0..shared.servers[u].len()).map(|s| reading(workers(shared, u, s))).collect()
}

fn workers(shared: &Shared, u: usize, s: usize) -> impl Iterator<Item = &ServerStats> {
    shared.workers.iter().map(move |worker| &worker.servers[u][s])
}

fn reading<'a>(workers: impl Iterator<Item = &'a ServerStats>) -> Reading {
    workers.fold(Reading::default(), |sum, stats| Reading {
        successes: sum.successes + stats.outcomes.successes.value(),
        failures: sum.failures + stats.outcomes.failures.value(),
        streaks: sum.streaks + stats.outcomes.streaks.value(),
        row_max: sum.row_max.max(stats.outcomes.row.value()),
    })
}

fn latency(shared: &Shared, u: usize, s: usize) -> HistogramSnapshot {
    let mut all = HistogramSnapshot::default();
    for stats in workers(shared, u, s) {
        all.merge(&stats.first_byte.snapshot());
    }
    all
}
