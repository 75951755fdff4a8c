//! Keeps the tier that is held of upstreams that fail back late: the driver of [`crate::proxy::tiers`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Shared;
use super::shared::EventLevel;
use crate::config::model::Upstream;
use crate::proxy::tiers::Tiers;

/// Time between two looks; a server that is down for less is not noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at all upstreams that need it until `shutdown` becomes true or its sender is gone.
pub async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let upstreams = shared.config.upstreams.iter().enumerate();
    let needs_look =
        |(_, upstream): &(usize, &Upstream)| upstream.tiers().len() > 1 && !Tiers::is_idle(upstream.fail_back);
    let mut kept: Vec<(usize, Tiers)> =
        upstreams.filter(needs_look).map(|(u, upstream)| (u, Tiers::new(upstream.fail_back))).collect();
    if kept.is_empty() {
        return;
    }
    loop {
        for (u, tiers) in &mut kept {
            look(&shared, *u, tiers, Instant::now());
        }
        tokio::select! {
            // An error means that the sender is gone, which is a shutdown too.
            ended = shutdown.wait_for(|stop| *stop) => return drop(ended),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn look(shared: &Shared, u: usize, tiers: &mut Tiers, now: Instant) {
    let (upstream, states) = (&shared.config.upstreams[u], &shared.servers[u]);
    let has_enough = |tier: u32| {
        let servers =
            || upstream.servers.iter().zip(states).filter(|(server, _)| server.tier == tier && server.weight > 0);
        let up = servers().filter(|(_, state)| state.is_up()).count() as u32;
        up > 0 && up >= upstream.tier_min.servers(servers().count() as u32)
    };
    let has_enough: Vec<bool> = upstream.tiers().into_iter().map(has_enough).collect();
    let (before, held) = (shared.upstreams[u].tier_held(), tiers.on_look(&has_enough, now));
    if held != before {
        shared.upstreams[u].publish_tier_held(held);
        let name = upstream.name.as_str();
        tracing::info!(upstream = name, from = before + 1, to = held + 1, "tier of servers in use changed");
        let (from, to) = (before + 1, held + 1);
        shared.note(EventLevel::Info, format!("tier of servers in use changed upstream={name} from={from} to={to}"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::shared::tests::config;
    use super::*;
    use crate::config::model::FailBack;

    #[test]
    fn the_tier_that_is_held_is_published_and_told() {
        let mut config = config();
        config.upstreams[0].fail_back = FailBack::Manual;
        let shared = Shared::new(Arc::new(config), 1, 0);
        let mut tiers = Tiers::new(FailBack::Manual);
        let changes = shared.upstreams[0].changes();
        look(&shared, 0, &mut tiers, Instant::now());
        assert_eq!((shared.upstreams[0].tier_held(), shared.upstreams[0].changes()), (0, changes));
        shared.servers[0][0].publish_up(false, SystemTime::now());
        look(&shared, 0, &mut tiers, Instant::now());
        shared.servers[0][0].publish_up(true, SystemTime::now());
        look(&shared, 0, &mut tiers, Instant::now());
        assert_eq!((shared.upstreams[0].tier_held(), shared.upstreams[0].changes()), (1, changes + 3));
        let told = shared.take_event().map(|event| event.text);
        assert_eq!(told.as_deref(), Some("tier of servers in use changed upstream=api from=1 to=2"));
    }
}
