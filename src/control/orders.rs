//! What the operator wants of servers while they run: their state, their weight, their limit of requests.
//!
//! Both sockets ([`super::ctl`], [`super::haproxy`]) end here. An order stays in force, over reloads too, until it is taken
//! back or the server leaves the config. All of it on the control thread.

use super::Shared;
use super::shared::{AdminState, EventLevel};

/// The most that a weight may be, in the config too.
pub const WEIGHT_MAX: u32 = 256;

/// The most that a limit of requests may be, in the config too.
pub const LIMIT_MAX: u32 = 1_000_000;

/// Servers that an order is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Those {
    /// Index of their upstream.
    pub upstream: usize,
    /// Their indexes in it; at least one.
    pub servers: Vec<usize>,
    /// As they were named.
    pub name: String,
    /// Who wants it, for the log.
    pub by: String,
}

/// Index of the upstream of this name. Errors: which there are.
pub fn upstream(shared: &Shared, name: &str) -> Result<usize, String> {
    let upstreams = &shared.config.upstreams;
    upstreams.iter().position(|upstream| upstream.name == name).ok_or_else(|| {
        let known: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        match known.is_empty() {
            true => format!("no upstream is called `{name}`: the config has none"),
            false => format!("no upstream is called `{name}`: there are {}", known.join(", ")),
        }
    })
}

/// The servers that `UPSTREAM/ADDRESS` names: one that is written several times is meant as a whole. Errors: there is no such
/// server, and which there are. `by` tells who wants something of it.
pub fn find(shared: &Shared, server: &str, by: &str) -> Result<Those, String> {
    let Some((name, address)) = split(server) else {
        return Err(format!("`{server}` names no server: write UPSTREAM/ADDRESS, for example api/127.0.0.1:8080"));
    };
    let u = upstream(shared, name)?;
    let servers = &shared.config.upstreams[u].servers;
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let found: Vec<usize> = (0..addresses.len()).filter(|&s| addresses[s] == address).collect();
    match found.is_empty() {
        false => Ok(Those { upstream: u, servers: found, name: server.into(), by: by.into() }),
        true => Err(format!("upstream `{name}` has no server `{address}`: there are {}", addresses.join(", "))),
    }
}

/// Upstream and server in `UPSTREAM/SERVER`; names have no slash, paths of sockets have.
pub fn split(server: &str) -> Option<(&str, &str)> {
    server.split_once('/').filter(|(upstream, server)| !upstream.is_empty() && !server.is_empty())
}

/// Sets what the operator wants of them; returns what it was.
pub fn set_state(shared: &Shared, those: &Those, state: AdminState) -> AdminState {
    let Those { upstream: u, servers, name, by } = those;
    let was = shared.servers[*u][servers[0]].admin();
    servers.iter().for_each(|&s| shared.servers[*u][s].set_admin(state));
    shared.settle(*u);
    let (to, from) = (state.name(), was.name());
    tracing::info!(server = %name, state = to, was = from, %by, "server state set");
    shared.note(EventLevel::Info, format!("server {name} set to {to}, was {from}"));
    was
}

/// Sets their weight, `None` for the config's; returns what it was. Above [`WEIGHT_MAX`] it is that.
pub fn set_weight(shared: &Shared, those: &Those, weight: Option<u32>) -> u32 {
    let Those { upstream: u, servers, name, by } = those;
    let was = shared.weight(*u, servers[0]);
    servers.iter().for_each(|&s| shared.servers[*u][s].set_weight(weight.map(|weight| weight.min(WEIGHT_MAX))));
    shared.upstreams[*u].publish_change();
    let is = shared.weight(*u, servers[0]);
    tracing::info!(server = %name, weight = is, was, %by, "server weight set");
    shared.note(EventLevel::Info, format!("server {name} has weight {is}, had {was}"));
    was
}

/// Sets how many requests they may have at once: a number, `Some(None)` for any number, `None` for what the config says.
/// Returns what it was. In force once `Desk::put_limits_in_force` has been called.
pub fn set_limit(shared: &Shared, those: &Those, limit: Option<Option<u32>>) -> Option<u32> {
    let Those { upstream: u, servers, name, by } = those;
    let was = shared.limit(*u, servers[0]);
    let limit = limit.map(|limit| limit.map(|limit| limit.clamp(1, LIMIT_MAX)));
    servers.iter().for_each(|&s| shared.servers[*u][s].set_limit(limit));
    let (is, had) = (spell(shared.limit(*u, servers[0])), spell(was));
    tracing::info!(server = %name, limit = %is, was = %had, %by, "server limit set");
    shared.note(EventLevel::Info, format!("server {name} has limit {is}, had {had}"));
    was
}

/// Lets their active checks pause, or go on; they stay what they are meanwhile.
pub fn pause_checks(shared: &Shared, those: &Those, pause: bool) {
    let Those { upstream: u, servers, name, by } = those;
    servers.iter().for_each(|&s| shared.servers[*u][s].pause_checks(pause));
    let checks = if pause { "pause" } else { "go on" };
    tracing::info!(server = %name, checks, %by, "checks of a server");
    shared.note(EventLevel::Info, format!("checks of server {name} {checks}"));
}

/// A limit as people write it.
pub fn spell(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".into(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::shared::tests::config;
    use super::*;

    #[test]
    fn a_server_is_found_by_upstream_and_address_or_told_who_is_there() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let set = |server: &str, state| set_state(&shared, &find(&shared, server, "test").unwrap(), state);
        assert_eq!(set("api/127.0.0.1:1", AdminState::Drain), AdminState::Ready);
        assert!(!shared.is_up(0, 0) && shared.servers[0][0].is_up() && shared.is_up(0, 1));
        set("api/unix:/run/b\"2.sock", AdminState::Maintenance);
        assert_eq!(set("api/127.0.0.1:1", AdminState::Ready), AdminState::Drain);
        assert!(shared.is_up(0, 0));
        for (server, text) in [
            ("api", "`api` names no server: write UPSTREAM/ADDRESS, for example api/127.0.0.1:8080"),
            ("apo/127.0.0.1:1", "no upstream is called `apo`: there are api, plain, app:shop"),
            ("plain/127.0.0.1:1", "upstream `plain` has no server `127.0.0.1:1`: there are [::1]:8080"),
        ] {
            assert_eq!(find(&shared, server, "test"), Err(text.into()));
        }
        assert_eq!(split("api/unix:/run/a.sock"), Some(("api", "unix:/run/a.sock")));
        assert_eq!([split("api"), split("/x"), split("api/")], [None, None, None]);
    }

    #[test]
    fn what_the_operator_wants_and_what_checks_say_are_apart() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let server = &shared.servers[0][0];
        let now = std::time::SystemTime::now();
        let those = find(&shared, "api/127.0.0.1:1", "test").unwrap();
        set_state(&shared, &those, AdminState::Drain);
        server.publish_up(false, "", now);
        shared.settle(0);
        assert_eq!((server.admin(), server.is_up()), (AdminState::Drain, false));
        server.publish_up(true, "", now);
        shared.settle(0);
        assert_eq!((server.admin(), server.is_up(), server.is_usable()), (AdminState::Drain, true, false));
        server.publish_up(false, "", now);
        shared.settle(0);
        set_state(&shared, &those, AdminState::Ready);
        assert!(!server.is_usable());
        // Both go over into the next config.
        set_state(&shared, &those, AdminState::Maintenance);
        let next = shared.next(shared.config.clone());
        assert_eq!((next.servers[0][0].admin(), next.servers[0][0].is_up()), (AdminState::Maintenance, false));
    }

    #[test]
    fn weights_and_limits_outlive_a_reload_and_go_with_their_server() {
        let mut config = config();
        let shared = Shared::new(Arc::new(config.clone()), 1, 0);
        let those = find(&shared, "api/127.0.0.1:1", "test").unwrap();
        let changes = shared.upstreams[0].changes();
        assert_eq!(set_weight(&shared, &those, Some(7)), 1);
        assert!(shared.upstreams[0].changes() != changes, "workers look");
        assert_eq!(set_limit(&shared, &those, Some(Some(3))), None);
        assert!(shared.align_limits(), "the upstream has a limit, so that requests are counted");
        assert_eq!(shared.gates[0].as_ref().unwrap().most(0), Some(3));
        // Another weight and another limit in the config: those of the operator stay.
        (config.upstreams[0].servers[0].weight, config.upstreams[0].servers[0].requests_max) = (2, Some(9));
        let next = shared.next(Arc::new(config.clone()));
        assert_eq!((next.weight(0, 0), next.limit(0, 0)), (7, Some(3)));
        assert_eq!(next.gates[0].as_ref().unwrap().most(0), Some(3));
        assert_eq!(set_limit(&next, &those, Some(None)), Some(3));
        assert!(next.align_limits());
        assert_eq!((next.limit(0, 0), next.gates[0].as_ref().unwrap().most(0)), (None, None));
        assert_eq!((set_weight(&next, &those, None), set_limit(&next, &those, None)), (7, None));
        assert!(next.align_limits());
        assert_eq!((next.weight(0, 0), next.gates[0].as_ref().unwrap().most(0)), (2, Some(9)));
        // It goes, and comes back as the config has it.
        set_weight(&next, &those, Some(200));
        let server = config.upstreams[0].servers.remove(0);
        let without = next.next(Arc::new(config.clone()));
        config.upstreams[0].servers.insert(0, server);
        assert_eq!(without.next(Arc::new(config)).weight(0, 0), 2);
    }

    #[test]
    fn a_limit_where_nothing_is_counted_needs_another_edition() {
        let shared = Shared::new(Arc::new(config()), 1, 0);
        let those = find(&shared, "plain/[::1]:8080", "test").unwrap();
        assert_eq!((set_limit(&shared, &those, Some(Some(2))), shared.gates[1].is_none()), (None, true));
        assert!(!shared.align_limits());
        let next = shared.with_servers_of(shared.config.clone());
        assert!(next.align_limits());
        assert_eq!(next.gates[1].as_ref().unwrap().most(0), Some(2));
        assert_eq!((next.generation, next.reading), (1, 0));
        assert!(Arc::ptr_eq(&next.servers[1][0], &shared.servers[1][0]));
        // The next config does without again, once nothing asks for it.
        set_limit(&next, &those, None);
        assert!(next.next(next.config.clone()).gates[1].is_none());
    }
}
