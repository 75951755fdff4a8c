//! Keeps the tier that is held of upstreams that fail back late: the driver of [`crate::proxy::tiers`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Shared;
use super::server_state::UpstreamFlags;
use super::shared::EventLevel;
use crate::config::model::{FailBack, Upstream};
use crate::proxy::tiers::Tiers;

/// Time between two looks; a server that is down for less is not noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at all upstreams that need it until `shutdown` becomes true or its sender is gone; with each new config that `live`
/// brings, at those of that one. The tier that is held stays held, if there still is such a one.
pub async fn run(mut live: watch::Receiver<Arc<Shared>>, mut shutdown: watch::Receiver<bool>) {
    let mut kept = Vec::new();
    loop {
        let shared = live.borrow_and_update().clone();
        kept = next(kept, &shared);
        loop {
            kept.iter_mut().for_each(|kept| kept.look(&shared, Instant::now()));
            tokio::select! {
                // An error means that the sender is gone, which is a shutdown too.
                ended = shutdown.wait_for(|stop| *stop) => return drop(ended),
                changed = live.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep(LOOK_EVERY), if !kept.is_empty() => {}
            }
        }
    }
}

/// An upstream that is looked at.
struct Kept {
    /// Index into the present config.
    upstream: usize,
    flags: Arc<UpstreamFlags>,
    fail_back: FailBack,
    /// Numbers of its tiers.
    numbers: Vec<u32>,
    tiers: Tiers,
}

/// Those of the config of `shared`; what `before` knows of them goes on.
fn next(mut before: Vec<Kept>, shared: &Shared) -> Vec<Kept> {
    let mut all = Vec::new();
    for (upstream, config) in shared.config.upstreams.iter().enumerate() {
        let (flags, fail_back, numbers) = (shared.upstreams[upstream].clone(), config.fail_back, config.tiers());
        if numbers.len() < 2 || Tiers::is_idle(fail_back) {
            flags.publish_tier_held(0);
            continue;
        }
        let is_same =
            |old: &Kept| Arc::ptr_eq(&old.flags, &flags) && old.fail_back == fail_back && old.numbers == numbers;
        let tiers = match before.iter().position(is_same) {
            Some(at) => before.swap_remove(at).tiers,
            None => Tiers::holding(fail_back, config.tier_index(flags.tier_held())),
        };
        all.push(Kept { upstream, flags, fail_back, numbers, tiers });
    }
    all
}

impl Kept {
    fn look(&mut self, shared: &Shared, now: Instant) {
        let u = self.upstream;
        let upstream = &shared.config.upstreams[u];
        let has_enough: Vec<bool> = self.numbers.iter().map(|tier| has_enough(shared, u, upstream, *tier)).collect();
        let before = upstream.tier_index(self.flags.tier_held());
        if before != self.tiers.held() {
            // The operator has ordered it: see `fail_back`.
            self.tiers = Tiers::holding(self.fail_back, before);
        }
        let held = self.tiers.on_look(&has_enough, now);
        self.flags.publish_tier_held(if held == 0 { 0 } else { self.numbers[held] });
        if held != before {
            let (name, from, to) = (upstream.name.as_str(), before + 1, held + 1);
            tracing::info!(upstream = name, from, to, "tier of servers in use changed");
            let text = format!("tier of servers in use changed upstream={name} from={from} to={to}");
            shared.note(EventLevel::Info, text);
        }
    }
}

/// Tiers that an order was about, by their place from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedBack {
    /// The one that is held now.
    pub to: usize,
    /// The one that was held.
    pub from: usize,
}

/// Goes back to the first tier that has enough servers, without waiting for its time. On the control thread.
///
/// Errors: there is none to go back to, for a person.
pub fn fail_back(shared: &Shared, u: usize) -> Result<FailedBack, String> {
    let (upstream, flags) = (&shared.config.upstreams[u], &shared.upstreams[u]);
    let (name, numbers) = (&upstream.name, upstream.tiers());
    if numbers.len() < 2 {
        return Err(format!("upstream `{name}` has one tier of servers: there is nothing to go back to"));
    }
    if Tiers::is_idle(upstream.fail_back) {
        return Err(format!(
            "upstream `{name}` goes back by itself at once: `fail_back` in [upstream.{name}] is \"at-once\""
        ));
    }
    let before = upstream.tier_index(flags.tier_held());
    if before == 0 {
        return Ok(FailedBack { to: 1, from: 1 });
    }
    let Some(first) = (0..before).find(|tier| has_enough(shared, u, upstream, numbers[*tier])) else {
        return Err(format!("upstream `{name}` stays at tier {}: no earlier one has enough servers", before + 1));
    };
    flags.publish_tier_held(if first == 0 { 0 } else { numbers[first] });
    let (from, to) = (before + 1, first + 1);
    tracing::info!(upstream = %name, from, to, "tier of servers in use changed by order");
    let text = format!("tier of servers in use changed by order upstream={name} from={from} to={to}");
    shared.note(EventLevel::Info, text);
    Ok(FailedBack { to, from })
}

/// What data workers ask of a server counts, so that the two always mean the same.
fn has_enough(shared: &Shared, u: usize, upstream: &Upstream, tier: u32) -> bool {
    let is_of_tier = |s: &usize| upstream.servers[*s].tier == tier && shared.weight(u, *s) > 0;
    let servers = || (0..upstream.servers.len()).filter(is_of_tier);
    let up = servers().filter(|s| shared.is_up(u, *s)).count() as u32;
    up > 0 && up >= upstream.tier_min.servers(servers().count() as u32)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::server_state::AdminState;
    use super::super::shared::tests::config;
    use super::*;

    fn look(kept: &mut [Kept], shared: &Shared) -> u32 {
        kept.iter_mut().for_each(|kept| kept.look(shared, Instant::now()));
        shared.upstreams[0].tier_held()
    }

    #[test]
    fn the_tier_that_is_held_is_published_and_told_and_stays_held_by_another_config() {
        let mut config = config();
        config.upstreams[0].fail_back = FailBack::Manual;
        let last = config.upstreams[0].servers[1].tier;
        let shared = Shared::new(Arc::new(config.clone()), 1, 0);
        let mut kept = next(Vec::new(), &shared);
        let changes = shared.upstreams[0].changes();
        assert_eq!((look(&mut kept, &shared), shared.upstreams[0].changes()), (0, changes));
        shared.servers[0][0].publish_up(false, "", SystemTime::now());
        shared.settle(0);
        look(&mut kept, &shared);
        shared.servers[0][0].publish_up(true, "", SystemTime::now());
        shared.settle(0);
        assert_eq!((look(&mut kept, &shared), shared.upstreams[0].changes()), (last, changes + 3));
        let told = shared.take_event().map(|event| event.text);
        assert_eq!(told.as_deref(), Some("tier of servers in use changed upstream=api from=1 to=2"));
        // A tier between them changes what the indexes mean.
        config.upstreams[0].servers.push(crate::config::model::Server {
            tier: 2,
            ..crate::config::model::Server::new("127.0.0.1:9".parse().unwrap())
        });
        let reloaded = shared.next(Arc::new(config.clone()));
        let mut kept = next(kept, &reloaded);
        assert_eq!(look(&mut kept, &reloaded), last);
        config.upstreams[0].fail_back = FailBack::After(Duration::ZERO);
        let reloaded = reloaded.next(Arc::new(config));
        assert!(next(kept, &reloaded).is_empty());
        assert_eq!(reloaded.upstreams[0].tier_held(), 0);
    }

    #[test]
    fn an_order_goes_back_to_the_first_tier_that_has_enough() {
        let mut config = config();
        config.upstreams[0].fail_back = FailBack::Manual;
        let last = config.upstreams[0].servers[1].tier;
        let shared = Shared::new(Arc::new(config.clone()), 1, 0);
        let mut kept = next(Vec::new(), &shared);
        assert_eq!(fail_back(&shared, 0), Ok(FailedBack { to: 1, from: 1 }));
        let publish = |up| {
            shared.servers[0][0].publish_up(up, "", SystemTime::now());
            shared.settle(0);
        };
        publish(false);
        assert_eq!(look(&mut kept, &shared), last);
        let error = fail_back(&shared, 0).unwrap_err();
        assert_eq!(error, "upstream `api` stays at tier 2: no earlier one has enough servers");
        publish(true);
        assert_eq!(look(&mut kept, &shared), last);
        assert_eq!(fail_back(&shared, 0), Ok(FailedBack { to: 1, from: 2 }));
        assert_eq!((look(&mut kept, &shared), shared.upstreams[0].tier_held()), (0, 0), "it stays");
        let error = fail_back(&shared, 1).unwrap_err();
        assert_eq!(error, "upstream `plain` has one tier of servers: there is nothing to go back to");
        config.upstreams[0].fail_back = FailBack::After(Duration::ZERO);
        let error = fail_back(&shared.next(Arc::new(config)), 0).unwrap_err();
        assert!(error.starts_with("upstream `api` goes back by itself at once"), "{error}");
    }

    #[test]
    fn a_tier_that_the_operator_has_taken_out_has_not_enough() {
        let mut config = config();
        config.upstreams[0].fail_back = FailBack::Manual;
        let last = config.upstreams[0].servers[1].tier;
        let shared = Shared::new(Arc::new(config), 1, 0);
        let mut kept = next(Vec::new(), &shared);
        shared.servers[0][0].set_admin(AdminState::Drain);
        shared.settle(0);
        assert_eq!(look(&mut kept, &shared), last);
    }
}
