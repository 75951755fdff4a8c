//! Health of servers: checks every server again and again, looks at what live traffic shows of them, and publishes who
//! gets requests.
//!
//! | part | does |
//! |---|---|
//! | this file | one task for each server that is checked, by its schedule |
//! | `probe` | one check: socket, TLS, time-outs |
//! | `tls` | the client side of a check's TLS |
//! | `outliers` | one task for each upstream with `outliers`: reads what data workers count |
//! | `tell` | changes to the servers' states, log and events |
//!
//! These are drivers. What a check says and makes of the answer is [`crate::proxy::check`], what its result means is
//! [`crate::proxy::health`], who is ejected [`crate::proxy::outlier`], who is used when few are left
//! [`crate::proxy::availability`]. All of it runs on the control thread; data workers only ever read [`Shared::is_up`].

mod outliers;
mod probe;
mod tell;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use self::probe::{Checked, Prober};
use super::Shared;
use super::server_state::CheckResult;
use crate::proxy::check::CheckStatus;
use crate::proxy::health::{HealthState, Schedule};

/// A certificate of a server that ends sooner is worth a warning.
const CERTIFICATE_ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Looks after the servers of all upstreams that ask for it, until `shutdown` becomes true or its sender is gone.
///
/// `seed` spreads the checks in time; give each process another one. Returns at once when there is nothing to do.
pub async fn run(shared: Arc<Shared>, seed: u64, mut shutdown: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (u, upstream) in shared.config.upstreams.iter().enumerate() {
        if upstream.outliers.is_some() {
            tasks.spawn(outliers::watch_forever(shared.clone(), u));
        }
        let Some(health) = &upstream.health else { continue };
        let prober = Arc::new(Prober::new(health));
        for s in 0..upstream.servers.len() {
            let schedule = Schedule::new(health.pace, seed ^ ((u as u64) << 32 | s as u64));
            tasks.spawn(check_forever(shared.clone(), prober.clone(), u, s, schedule));
        }
    }
    if !tasks.is_empty() {
        // An error means that the sender is gone, which is a shutdown too.
        drop(shutdown.wait_for(|stop| *stop).await);
    }
    tasks.shutdown().await;
}

/// Checks one server, at once and then by its schedule.
async fn check_forever(shared: Arc<Shared>, prober: Arc<Prober>, u: usize, s: usize, mut schedule: Schedule) {
    let upstream = &shared.config.upstreams[u];
    let Some(health) = &upstream.health else { return };
    let mut state = HealthState::new(health.rise, health.fall, Instant::now());
    let mut warned = Warned::default();
    loop {
        let begun = tokio::time::Instant::now();
        let checked = prober.check(health, &upstream.servers[s]).await;
        let verdict = &checked.verdict;
        let result = CheckResult {
            status: verdict.status,
            code: verdict.code,
            text: &verdict.text,
            duration: begun.elapsed(),
            certificate_ends: checked.certificate_ends,
        };
        let now = SystemTime::now();
        shared.servers[u][s].publish_check(&result, now);
        if verdict.status.counts()
            && let Some(transition) = state.on_result(verdict.status.is_ok(), Instant::now())
        {
            tell::by_check(&shared, u, s, verdict, transition, now);
        }
        warned.look(&shared, u, s, &checked, now);
        tokio::time::sleep_until(begun + schedule.next_delay(state.urgency())).await;
    }
}

/// What has been warned of and need not be said again.
#[derive(Default)]
struct Warned {
    own_failure: bool,
    certificate: Option<SystemTime>,
}

impl Warned {
    fn look(&mut self, shared: &Shared, u: usize, s: usize, checked: &Checked, now: SystemTime) {
        let fails = checked.verdict.status == CheckStatus::OwnFailure;
        if fails && !self.own_failure {
            tell::own_failure(shared, u, s, &checked.verdict.text);
        }
        self.own_failure = fails;
        let Some(ends) = checked.certificate_ends else { return };
        let left = ends.duration_since(now).unwrap_or_default();
        if left < CERTIFICATE_ENDS_SOON && self.certificate != Some(ends) {
            self.certificate = Some(ends);
            tell::certificate_ends(shared, u, s, left);
        }
    }
}

#[cfg(test)]
mod tests;
