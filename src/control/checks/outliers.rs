//! Reads what the data workers count of an upstream's servers, ten times a second, for [`crate::proxy::outlier`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::{OutlierTarget, place, tell};
use crate::control::Shared;
use crate::control::server_state::{AdminState, ServerState};
use crate::metrics::{HistogramSnapshot, ServerStats};
use crate::proxy::outlier::{Outliers, Reading};

/// Time between two looks: how long a server that fails goes on failing requests.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Watches one upstream, as long as it is polled and there.
pub(super) async fn watch_forever(live: watch::Receiver<Arc<Shared>>, target: OutlierTarget) {
    let found = |shared: &Shared| {
        let (u, _) = place(shared, target.states.first()?)?;
        let is_same = |(known, state): (&Arc<ServerState>, &Arc<ServerState>)| Arc::ptr_eq(known, state);
        let servers = &shared.servers[u];
        // Else another task is about to take over.
        (servers.len() == target.states.len() && servers.iter().zip(&target.states).all(is_same)).then_some(u)
    };
    let shared = live.borrow().clone();
    let Some(u) = found(&shared) else { return };
    let mut outliers = Outliers::new(target.rules.clone(), &readings(&shared, u), Instant::now());
    drop(shared);
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        // The servers are the same, but the config may be another one by now.
        let shared = live.borrow().clone();
        let Some(u) = found(&shared) else { return };
        // Those that the operator has taken out, or gives no share, do not stand in for others.
        let stands_in = |(s, state): (usize, &Arc<ServerState>)| {
            state.passes_checks() && state.admin() == AdminState::Ready && shared.weight(u, s) > 0
        };
        let up: Vec<bool> = target.states.iter().enumerate().map(stands_in).collect();
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
    shared.workers.iter().map(move |worker| &*worker.servers[u][s])
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
