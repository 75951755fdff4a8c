//! Health of servers: checks every server again and again, looks at what live traffic shows of them, and publishes who
//! gets requests.
//!
//! | part | does |
//! |---|---|
//! | this file | one task for each server that is checked, by its schedule |
//! | `probe` | one check: socket, TLS, time-outs |
//! | `http2` | the conversation of a check over HTTP/2 |
//! | `tls` | the client side of a check's TLS |
//! | `outliers` | one task for each upstream with `outliers`: reads what data workers count |
//! | `pulse` | one task for all workers of applications inside this process: who moves, whether that is checked or not |
//! | `tell` | changes to the servers' states, log and events |
//!
//! These are drivers. What a check says and makes of the answer is [`crate::proxy::check`], what its result means is
//! [`crate::proxy::health`], who is ejected [`crate::proxy::outlier`], who is used when few are left
//! [`crate::proxy::availability`]. All of it runs on the control thread; data workers only ever read [`Shared::is_up`].

mod gateway;
mod http2;
mod outliers;
mod probe;
mod pulse;
mod tell;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use self::probe::Checked;
pub(in crate::control) use self::probe::Prober;
use super::Shared;
use super::server_state::{CheckResult, ServerState};
use crate::config::model::{Health, OutlierRules, Probe, Server};
use crate::proxy::check::CheckStatus;
use crate::proxy::health::{HealthState, Schedule};
use crate::runtime::net::Address;

/// A certificate of a server that ends sooner is worth a warning.
const CERTIFICATE_ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Looks after the servers of all upstreams that ask for it, until `shutdown` becomes true or its sender is gone.
///
/// With each new config that `live` brings, servers that are new are checked from then on, and those that are gone no more;
/// the checks of the others go on undisturbed. `seed` spreads the checks in time; give each process another one.
pub async fn run(mut live: watch::Receiver<Arc<Shared>>, seed: u64, mut shutdown: watch::Receiver<bool>) {
    let (mut tasks, mut number) = (Tasks::default(), 0);
    let _pulse = Task(tokio::spawn(pulse::watch_forever(live.clone())));
    loop {
        let shared = live.borrow_and_update().clone();
        tasks = tasks.next(&shared, &live, || {
            number += 1;
            seed ^ number
        });
        tokio::select! {
            // An error means that the sender is gone, which is a shutdown too.
            _ = shutdown.wait_for(|stop| *stop) => return,
            changed = live.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// What runs for the present config.
#[derive(Default)]
struct Tasks {
    checks: Vec<(Target, Task)>,
    outliers: Vec<(OutlierTarget, Task)>,
}

/// A task that ends with this.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tasks {
    /// The tasks of `shared`; old ones that go on are among them.
    fn next(
        mut self,
        shared: &Arc<Shared>,
        live: &watch::Receiver<Arc<Shared>>,
        mut seed: impl FnMut() -> u64,
    ) -> Tasks {
        let mut next = Tasks::default();
        for (u, upstream) in shared.config.upstreams.iter().enumerate() {
            let states = &shared.servers[u];
            if let Some(rules) = &upstream.outliers {
                let target = OutlierTarget { rules: rules.clone(), states: states.clone() };
                let same = self.outliers.iter().position(|(old, _)| old.is_same(&target));
                if same.is_none() {
                    return_ejected(states);
                }
                next.outliers.push(same.map(|at| self.outliers.swap_remove(at)).unwrap_or_else(|| {
                    let task = tokio::spawn(outliers::watch_forever(live.clone(), target.clone()));
                    (target, Task(task))
                }));
            }
            if upstream.outliers.is_none() {
                return_ejected(states);
            }
            match &upstream.health {
                // See `pulse`.
                None if upstream.is_of_program() => {}
                // Nobody would find out that it is up again.
                None => {
                    let all = upstream.servers.iter().zip(states);
                    let down = all.filter(|(server, state)| !server.is_unresolved() && !state.passes_checks());
                    down.map(|(_, state)| state)
                        .for_each(|state| state.publish_up(true, "it is not checked any more", SystemTime::now()));
                }
                Some(health) => {
                    for (server, state) in upstream.servers.iter().zip(states) {
                        if server.is_unresolved() {
                            continue; // there is nothing to be checked
                        }
                        let (server, state) = (server.clone(), state.clone());
                        let target = Target { health: health.clone(), server, state, reading: shared.reading };
                        let same = self.checks.iter().position(|(old, _)| old.is_same(&target));
                        next.checks.push(same.map(|at| self.checks.swap_remove(at)).unwrap_or_else(|| {
                            let schedule = Schedule::new(health.pace, seed());
                            let task = tokio::spawn(check_forever(live.clone(), target.clone(), schedule));
                            (target, Task(task))
                        }));
                    }
                }
            }
            // Servers have come or gone, or the share that is panic is another one.
            shared.settle(u);
        }
        next
    }
}

/// Lets servers back that are ejected: who ejected them is not there any more, and nobody else knows until when.
fn return_ejected(states: &[Arc<ServerState>]) {
    let now = SystemTime::now();
    let ejected = states.iter().filter(|state| state.is_ejected());
    ejected.for_each(|state| state.publish_ejected(None, "the config has changed", now));
}

/// Which server is checked, and how.
#[derive(Clone)]
struct Target {
    health: Health,
    server: Server,
    state: Arc<ServerState>,
    /// Which reading of the config file this is from.
    reading: u32,
}

impl Target {
    /// Goes on as it is.
    fn is_same(&self, other: &Target) -> bool {
        let place = |target: &Target| (target.server.address.clone(), target.server.check_address.clone());
        // What a file held that the check was made with cannot be compared: it may be another one by now.
        let has_files = self.health.tls.is_some() || matches!(self.health.probe, Probe::Mysql(_));
        (!has_files || self.reading == other.reading)
            && Arc::ptr_eq(&self.state, &other.state)
            && place(self) == place(other)
            && format!("{:?}", self.health) == format!("{:?}", other.health)
    }
}

/// Whose live traffic is looked at, and by which rules.
#[derive(Clone)]
struct OutlierTarget {
    rules: OutlierRules,
    states: Vec<Arc<ServerState>>,
}

impl OutlierTarget {
    fn is_same(&self, other: &OutlierTarget) -> bool {
        let states = |target: &OutlierTarget| target.states.iter().map(Arc::as_ptr).collect::<Vec<_>>();
        states(self) == states(other) && format!("{:?}", self.rules) == format!("{:?}", other.rules)
    }
}

/// Where a server stands in the present config; `None`: it is gone.
fn place(shared: &Shared, state: &Arc<ServerState>) -> Option<(usize, usize)> {
    shared.servers.iter().enumerate().find_map(|(u, states)| {
        let s = states.iter().position(|known| Arc::ptr_eq(known, state))?;
        Some((u, s))
    })
}

/// Checks one server, at once and then by its schedule; not while it is in maintenance.
async fn check_forever(live: watch::Receiver<Arc<Shared>>, target: Target, mut schedule: Schedule) {
    let Target { health, server, state: published, .. } = &target;
    let prober = Prober::new(health).with_apps(live.borrow().lasting());
    let mut state = match published.check_status() {
        CheckStatus::Unchecked => HealthState::new(health.rise, health.fall, Instant::now()),
        // It was checked under a config before this one.
        _ => HealthState::resumed(health.rise, health.fall, published.passes_checks(), Instant::now()),
    };
    let mut warned = Warned::default();
    let mut was_vacant = false;
    loop {
        let begun = tokio::time::Instant::now();
        let is_vacant = published.is_vacant();
        let is_another = std::mem::replace(&mut was_vacant, is_vacant) && !is_vacant;
        if is_another || state.is_up() != published.passes_checks() {
            // Another program is there, or a worker that had failed, of which earlier checks say nothing. The first one decides
            // where it serves already.
            let (up, now) = (published.passes_checks(), Instant::now());
            state = match up && !is_another && matches!(server.address, Address::App(_)) {
                true => HealthState::new(health.rise, health.fall, now),
                false => HealthState::resumed(health.rise, health.fall, up, now),
            };
        }
        if !published.is_unchecked() {
            let checked = prober.check(health, server).await;
            // The config may be another one by now.
            let shared = live.borrow().clone();
            let Some((u, s)) = place(&shared, published) else { return };
            let verdict = &checked.verdict;
            let result = CheckResult {
                status: verdict.status,
                code: verdict.code,
                text: &verdict.text,
                duration: begun.elapsed(),
                certificate_ends: checked.certificate_ends,
            };
            let now = SystemTime::now();
            published.publish_check(&result, now);
            if verdict.status.counts()
                && let Some(transition) = state.on_result(verdict.status.is_ok(), Instant::now())
            {
                tell::by_check(&shared, u, s, verdict, transition, now);
            }
            warned.look(&shared, u, s, &checked, now);
        }
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
