//! From one config to the next in a process that goes on: what of it stays, and what cannot change while it runs. Pure.
//!
//! A config names its parts by index, and another config has other indexes. [`Succession`] tells which of the new indexes
//! stand for something that was there before, so that whoever keeps state beside the config (counters, idle connections,
//! the health of servers) carries it over. A part is the same when its *name* is: listeners by their address, upstreams,
//! limits and splitters by their name, servers by their address within their upstream.
//!
//! [`adopt`] puts what is made once at the start (threads, rings, queues, applications) back to what it was, and says so:
//! everything else is applied. Splitters have rules of their own ([`super::splitters`]).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use super::model::{Action, App, Listener, Site, Upstream, UpstreamTls};
use super::{Config, splitters};
use crate::runtime::net::Address;

/// By new index: the old index of the same thing; `None`: it is new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heirs(pub Vec<Option<usize>>);

impl Heirs {
    /// Things are the same when their `name` is; those that are written twice are told apart by their order.
    fn of<'a, T, N: Hash + Eq>(old: &'a [T], new: &'a [T], name: impl Fn(&'a T) -> N) -> Heirs {
        let mut known: HashMap<N, VecDeque<usize>> = HashMap::new();
        for (index, old) in old.iter().enumerate() {
            known.entry(name(old)).or_default().push_back(index);
        }
        Heirs(new.iter().map(|new| known.get_mut(&name(new)).and_then(VecDeque::pop_front)).collect())
    }

    /// What `old` holds for things that stay, and `fresh` for those that are new.
    pub fn carry<T: Clone>(&self, old: &[T], mut fresh: impl FnMut() -> T) -> Vec<T> {
        self.0.iter().map(|heir| heir.map_or_else(&mut fresh, |heir| old[heir].clone())).collect()
    }

    /// By old index, of which there are `count`: the new one; `None`: it is gone.
    pub fn new_indexes(&self, count: usize) -> Vec<Option<usize>> {
        let mut indexes = vec![None; count];
        for (new, old) in self.0.iter().enumerate() {
            if let Some(old) = old {
                indexes[*old] = Some(new);
            }
        }
        indexes
    }
}

/// Which parts of a config were there in the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Succession {
    /// Listeners, by address.
    pub listeners: Heirs,
    /// Limits of requests, by name.
    pub limits: Heirs,
    /// Sites, by name.
    pub sites: Heirs,
    /// Routes by new site, by path and methods; their old indexes are those within the old site.
    pub routes: Vec<Heirs>,
    /// Upstreams, by name.
    pub upstreams: Heirs,
    /// Splitters, by name.
    pub splitters: Heirs,
    /// Servers by new upstream; their old indexes are those within the old upstream.
    pub servers: Vec<Heirs>,
}

impl Succession {
    /// What of `new` is in `old`.
    pub fn new(old: &Config, new: &Config) -> Succession {
        let upstreams = Heirs::of(&old.upstreams, &new.upstreams, |upstream| upstream.name.as_str());
        let servers = |(heir, new): (&Option<usize>, &Upstream)| {
            let old = heir.map_or(&[][..], |old_index| &old.upstreams[old_index].servers[..]);
            Heirs::of(old, &new.servers, |server| &server.address)
        };
        let sites = Heirs::of(&old.sites, &new.sites, |site| site.name.as_str());
        let routes = |(heir, new): (&Option<usize>, &Site)| {
            let old = heir.map_or(&[][..], |old_index| &old.sites[old_index].routes[..]);
            Heirs::of(old, &new.routes, |route| (route.path.to_string(), format!("{:?}", route.methods)))
        };
        Succession {
            routes: sites.0.iter().zip(&new.sites).map(routes).collect(),
            sites,
            listeners: Heirs::of(&old.listeners, &new.listeners, listener_name),
            splitters: Heirs::of(&old.splitters, &new.splitters, |splitter| splitter.name.as_str()),
            limits: Heirs::of(&old.limits, &new.limits, |limit| limit.name.as_str()),
            servers: upstreams.0.iter().zip(&new.upstreams).map(servers).collect(),
            upstreams,
        }
    }

    /// As [`Heirs::carry`], for what is kept by upstream and server.
    pub fn carry_servers<T: Clone>(&self, old: &[Vec<T>], mut fresh: impl FnMut() -> T) -> Vec<Vec<T>> {
        let upstreams = self.upstreams.0.iter().zip(&self.servers);
        upstreams.map(|(heir, servers)| servers.carry(heir.map_or(&[], |heir| &old[heir][..]), &mut fresh)).collect()
    }

    /// The same for what is kept by site and route.
    pub fn carry_routes<T: Clone>(&self, old: &[Vec<T>], mut fresh: impl FnMut() -> T) -> Vec<Vec<T>> {
        let sites = self.sites.0.iter().zip(&self.routes);
        sites.map(|(heir, routes)| routes.carry(heir.map_or(&[], |heir| &old[heir][..]), &mut fresh)).collect()
    }
}

/// Listeners that pick their port are told apart by their names, the others have their address. The ports of UDP are others.
fn listener_name(listener: &Listener) -> (SocketAddr, bool, &str) {
    let name = if listener.address.port() == 0 { &listener.name } else { "" };
    (listener.address, listener.udp.is_some(), name)
}

/// A new config as the running process can take it.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The new config, with the parts of the old one that only a restart changes.
    pub config: Config,
    /// These parts, where the new config says otherwise: keys and tables as they are written.
    pub needs_restart: Vec<String>,
}

/// The new config cannot be run by this process at all, because what it needs is made, or read, at the start alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An application of this name.
    App {
        /// Its name.
        app: String,
        /// What it does instead.
        why: &'static str,
    },
    /// The secret of the sticky cookie of the upstream of this name, which the process may not read.
    Secret(String),
    /// This password, which is empty, or which the process may not read.
    Password(String),
    /// Instances of the application of this name are to listen where others do until they have ended.
    Port {
        /// Its name.
        app: String,
        /// Where.
        address: String,
        /// Whose instances listen there.
        of: String,
    },
    /// More servers or accounts of the splitter of this name than it can have in the life of a process.
    Ever {
        /// Its name.
        splitter: String,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::App { app, why } => write!(
                f,
                "routes lead to application `{app}`, which {why}: applications are started with the process, restart it"
            ),
            Refused::Secret(upstream) => write!(
                f,
                "the `secret_file` of sticky in [upstream.{upstream}] cannot be read by the user that the process has \
                 become, and there was none before: let that user read it, or restart the process"
            ),
            Refused::Password(whose) => write!(
                f,
                "the password of {whose} is empty, or its file cannot be read by the user that the process has become, and \
                 there was none before: let that user read it, or restart the process"
            ),
            Refused::Port { app, address, of } => write!(
                f,
                "instances of [app.{app}] are to listen at {address}, where those of [app.{of}] do until they have ended: choose a \
                 `first_port` whose row of ports is free of theirs, or go there by way of another one in two reloads"
            ),
            Refused::Ever { splitter, what, most } => write!(
                f,
                "[mysql.{splitter}] has had more than {most} {what} since the process started, those that are gone \
                 included: restart the process"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// Puts `new` into the place of `old` in a running process.
///
/// Errors: a route of `new` leads to an application that does not run, a secret or a password that is new cannot be
/// read, or a splitter has had too many servers.
pub fn adopt(old: &Config, mut new: Config) -> Result<Adopted, Refused> {
    let mut needs_restart = Vec::new();
    adopt_process(old, &mut new, &mut needs_restart);
    adopt_apps(old, &mut new, &mut needs_restart)?;
    look_for_taken_ports(old, &new)?;
    splitters::adopt(old, &mut new, &mut needs_restart)?;
    adopt_identities(old, &mut new);
    adopt_secrets(old, &mut new)?;
    if old.admin != new.admin {
        needs_restart.push("`address` in [admin]".into());
        new.admin = old.admin;
    }
    if old.trace_events != new.trace_events {
        needs_restart.push("`trace` in [admin]".into());
        new.trace_events = old.trace_events;
    }
    Ok(Adopted { config: new, needs_restart })
}

/// Cores, rings, queues: made once.
fn adopt_process(old: &Config, new: &mut Config, needs_restart: &mut Vec<String>) {
    macro_rules! keep {
        ($($field:ident = $key:literal),* $(,)?) => {$(
            if old.process.$field != new.process.$field {
                needs_restart.push(format!("`{}` in [process]", $key));
                new.process.$field = old.process.$field.clone();
            }
        )*};
    }
    keep! {
        data_cores = "data_cores",
        app_cores = "app_cores",
        app_placement = "app_placement",
        driver = "driver",
        ring_entries = "ring_entries",
        read_buffer_bytes = "read_buffer",
        spin = "app_spin",
        queue_depth = "app_queue",
        queue_timeout = "app_queue_timeout",
        app_concurrency = "app_concurrency",
        run_as = "user",
        private_pids = "private_pids",
        control = "control",
        stats_socket = "stats_socket",
    }
    // New listeners have it.
    if old.process.backlog != new.process.backlog {
        needs_restart.push("`backlog` in [process], for listeners that are open".into());
    }
}

/// Instances that move elsewhere serve before those that were there before end, and so do those of new applications: they cannot
/// have the same ports.
fn look_for_taken_ports(old: &Config, new: &Config) -> Result<(), Refused> {
    let addresses = |config: &'_ Config, upstream: &str| -> Vec<Address> {
        let found = config.upstreams.iter().find(|known| known.name == upstream);
        found.into_iter().flat_map(|found| &found.servers).map(|server| server.address.clone()).collect()
    };
    let before: Vec<(&str, Vec<Address>)> =
        old.processes.iter().map(|app| (app.name.as_str(), addresses(old, &app.upstream))).collect();
    for app in &new.processes {
        let own = addresses(new, &app.upstream);
        let stays = |(name, there): &(&str, Vec<Address>)| {
            *name == app.name && there.iter().zip(&own).all(|(before, now)| before == now)
        };
        for (of, there) in before.iter().filter(|before| !stays(before)) {
            let taken = own.iter().find(|address| matches!(address, Address::Tcp(_)) && there.contains(address));
            if let Some(address) = taken {
                return Err(Refused::Port { app: app.name.clone(), address: address.to_string(), of: (*of).into() });
            }
        }
    }
    Ok(())
}

/// Certificates for servers that ask for one, whose keys the process may not read any more.
fn adopt_identities(old: &Config, new: &mut Config) {
    for upstream in &mut new.upstreams {
        let same = old.upstreams.iter().find(|old| old.name == upstream.name).and_then(|old| old.tls.as_ref());
        if let (Some(tls), Some(same)) = (&mut upstream.tls, same)
            && adopt_identity(same, tls)
            && let Some(check) = upstream.health.as_mut().and_then(|health| health.tls.as_mut())
        {
            check.identity = tls.trust.identity().cloned();
        }
    }
}

/// One of them; `false`: it has none, or another one than before.
pub(super) fn adopt_identity(old: &UpstreamTls, new: &mut Arc<UpstreamTls>) -> bool {
    if new.identity.is_none() || new.identity != old.identity {
        return false;
    }
    let trust = new.trust.clone().or_identity_of(&old.trust);
    *new = Arc::new(UpstreamTls { trust, ..(**new).clone() });
    true
}

/// Secrets of sticky cookies, whose file the process may not read any more, stay what they were.
fn adopt_secrets(old: &Config, new: &mut Config) -> Result<(), Refused> {
    for upstream in &mut new.upstreams {
        let Some(sticky) = upstream.sticky.as_ref().filter(|sticky| !sticky.has_secret()) else { continue };
        let before = old.upstreams.iter().find(|old| old.name == upstream.name).and_then(|old| old.sticky.as_ref());
        let before = before.filter(|before| before.has_secret());
        let before = before.ok_or_else(|| Refused::Secret(upstream.name.clone()))?;
        let addresses: Vec<String> = upstream.servers.iter().map(|server| server.address.to_string()).collect();
        let addresses = addresses.iter().map(String::as_str);
        upstream.sticky = Some(Arc::new(sticky.with_secret_of(before, &upstream.name, addresses)));
    }
    Ok(())
}

/// Applications keep the indexes and the workers they were started with.
fn adopt_apps(old: &Config, new: &mut Config, needs_restart: &mut Vec<String>) -> Result<(), Refused> {
    let mut running = old.apps.clone();
    let mut index_of = Vec::new();
    for app in &new.apps {
        let found = running.iter_mut().enumerate().find(|(_, running)| running.name == app.name);
        index_of.push(match found {
            None => Err("does not run yet"),
            Some((_, running)) if running.program != app.program => Err("runs another program"),
            Some((index, running)) => {
                if running.threads != app.threads {
                    needs_restart.push(format!("`threads` in [app.{}]", app.name));
                }
                *running = App { threads: running.threads, ..app.clone() };
                Ok(index)
            }
        });
        if index_of.last().is_some_and(Result::is_err) {
            needs_restart.push(format!("[app.{}]", app.name));
        }
    }
    let is_gone = |name: &str| new.apps.iter().all(|app| app.name != name);
    needs_restart.extend(old.apps.iter().filter(|app| is_gone(&app.name)).map(|app| format!("[app.{}]", app.name)));
    for route in new.sites.iter().flat_map(|site| &site.routes) {
        let Action::Proxy(upstream) = route.action else { continue };
        let Some(app) = new.upstreams[upstream].in_process else { continue };
        if let Err(why) = index_of[app] {
            return Err(Refused::App { app: new.apps[app].name.clone(), why });
        }
    }
    for upstream in &mut new.upstreams {
        let Some(app) = upstream.in_process else { continue };
        upstream.in_process = index_of[app].ok();
        let before = upstream.in_process.and_then(|_| old.upstreams.iter().find(|old| old.name == upstream.name));
        // What runs it is what it was started with.
        if let Some(before) = before.filter(|before| before.is_of_program()) {
            upstream.set_written(before.written.to_vec());
        }
    }
    new.apps = running;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const BASE: &str = r#"
        [process]
        data_cores = "0"
        [listener.web]
        address = "127.0.0.1:8080"
        [listener.any]
        address = "127.0.0.1:0"
        [limit.slow]
        rate = "1/s"
        [upstream.api]
        servers = ["127.0.0.1:1", "127.0.0.1:2"]
        [upstream.old]
        servers = ["127.0.0.1:3"]
        [app.shop]
        program = "shop"
        [app.mail]
        program = "mail"
        [site.main]
        default = true
        limits = ["slow"]
        [[site.main.route]]
        path = "/"
        proxy = "api"
        [[site.main.route]]
        path = "/old"
        proxy = "old"
        [[site.main.route]]
        path = "/mail"
        app = "mail"
        [mysql.db]
        listen = ["127.0.0.1:3307"]
        primary = "127.0.0.1:3306"
        user = "u"
        password = "p"
    "#;

    fn config(text: &str) -> Config {
        match crate::config::parse("test.toml", text, &["shop", "mail"]) {
            Ok((config, _)) => config,
            Err(report) => panic!("{report}"),
        }
    }

    fn changed(changes: &[(&str, &str)]) -> Config {
        config(&changes.iter().fold(BASE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        }))
    }

    #[test]
    fn what_keeps_its_name_is_the_same_wherever_it_stands() {
        let old = config(BASE);
        let all = Succession::new(&old, &config(BASE));
        assert_eq!(all.listeners, Heirs(vec![Some(0), Some(1)]));
        assert_eq!(all.limits, Heirs(vec![Some(0)]));
        assert_eq!(all.servers[..2], [Heirs(vec![Some(0), Some(1)]), Heirs(vec![Some(0)])]);
        let new = changed(&[
            (r#"servers = ["127.0.0.1:1", "127.0.0.1:2"]"#, r#"servers = ["127.0.0.1:9", "127.0.0.1:2"]"#),
            ("[listener.web]", "[listener.renamed]"),
            ("[listener.any]", "[listener.other]"),
            ("[upstream.old]", "[upstream.new]"),
            (r#"proxy = "old""#, r#"proxy = "new""#),
        ]);
        let some = Succession::new(&old, &new);
        assert_eq!(some.listeners, Heirs(vec![Some(0), None]));
        assert_eq!(
            some.upstreams,
            Heirs(vec![Some(0), None, Some(2), Some(3)]),
            "behind them come those of applications"
        );
        assert_eq!(some.servers[..2], [Heirs(vec![None, Some(1)]), Heirs(vec![None])]);
        assert_eq!(some.upstreams.new_indexes(4), [Some(0), None, Some(2), Some(3)]);
        let carried = some.carry_servers(&[vec!['a', 'b'], vec!['c'], vec!['d'], vec!['e']], || '-');
        assert_eq!(carried, [vec!['-', 'b'], vec!['-'], vec!['d'], vec!['e']]);
    }

    #[test]
    fn a_server_that_is_written_twice_is_two_servers() {
        let twice = |servers| changed(&[(r#"["127.0.0.1:1", "127.0.0.1:2"]"#, servers)]);
        let (old, new) = (twice(r#"["127.0.0.1:1", "127.0.0.1:1"]"#), twice(r#"["127.0.0.1:1", "127.0.0.1:1"]"#));
        assert_eq!(Succession::new(&old, &new).servers[0], Heirs(vec![Some(0), Some(1)]));
    }

    proptest! {
        /// Whatever the names: everything that stays has one old self of the same name, nothing has it twice, and nothing
        /// that could stay is new.
        #[test]
        fn heirs_are_one_to_one(old in vec("[ab]{1,2}", 0..12), new in vec("[ab]{1,2}", 0..12)) {
            let heirs = Heirs::of(&old, &new, |name| name.as_str());
            prop_assert_eq!(heirs.0.len(), new.len());
            for (at, heir) in heirs.0.iter().enumerate() {
                if let Some(heir) = heir {
                    prop_assert_eq!(&old[*heir], &new[at]);
                    prop_assert_eq!(heirs.new_indexes(old.len())[*heir], Some(at));
                }
            }
            let count = |names: &[String], name: &String| names.iter().filter(|other| *other == name).count();
            for name in &new {
                let staying = heirs.0.iter().zip(&new).filter(|(heir, other)| *other == name && heir.is_some()).count();
                prop_assert_eq!(staying, count(&old, name).min(count(&new, name)));
            }
            let carried = heirs.carry(&old, || "-".into());
            prop_assert!(carried.iter().zip(&new).all(|(carried, new)| carried == new || carried == "-"));
        }
    }

    #[test]
    fn what_is_made_at_the_start_stays_and_is_named() {
        let old = config(BASE);
        let same = adopt(&old, config(BASE)).unwrap();
        assert!(same.needs_restart.is_empty(), "{:?}", same.needs_restart);
        let new = changed(&[
            (r#"data_cores = "0""#, "data_cores = \"1\"\nbacklog = 7"),
            (r#"user = "u""#, r#"user = "v""#),
            (r#"program = "mail""#, "program = \"mail\"\nresponse_timeout = \"3s\"\nrequests_max = 7\nthreads = 2"),
        ]);
        let adopted = adopt(&old, new).unwrap();
        let backlog = "`backlog` in [process], for listeners that are open";
        let threads = "`threads` in [app.mail]";
        assert_eq!(adopted.needs_restart, ["`data_cores` in [process]", backlog, threads, "`user` in [mysql.db]"]);
        let mail = adopted.config.upstreams.iter().find(|upstream| upstream.in_process == Some(1)).unwrap();
        assert_eq!((adopted.config.apps[1].threads, mail.requests_max), (None, Some(7)));
        let seat = |upstream: &Upstream| (upstream.servers[0].address.to_string(), upstream.servers[0].requests_max);
        assert_eq!(seat(mail), ("app:mail/0".to_owned(), None), "what runs it is what it was");
        assert_eq!((&adopted.config.process.data_cores[..], adopted.config.process.backlog), (&[0][..], 7));
        assert_eq!(adopted.config.splitters, old.splitters);
        assert_eq!(mail.response_timeout.as_secs(), 3);
    }

    #[test]
    fn a_secret_that_cannot_be_read_again_stays_what_it_was() {
        let servers = r#"servers = ["127.0.0.1:1", "127.0.0.1:2"]"#;
        let sticky = |cookie: &str, how: &str| format!("{servers}\nsticky = {{ cookie = \"{cookie}\", {how} }}");
        let old = changed(&[(servers, &sticky("a", "secret = \"one of sixteen b\""))]);
        // Nobody reads files here.
        let new = changed(&[(servers, &sticky("b", "secret_file = \"/secret\""))]);
        let adopted = adopt(&old, new.clone()).unwrap().config;
        let of = |config: &Config| config.upstreams[0].sticky.clone().unwrap();
        let value = |config: &Config| {
            let mut set = Vec::new();
            of(config).put(1, false, &mut set);
            String::from_utf8(set).unwrap().split([';', '=']).nth(1).unwrap().to_owned()
        };
        assert_eq!((of(&adopted).cookie.as_str(), value(&adopted)), ("b", value(&old)));
        assert_ne!(value(&adopted), value(&new));
        let refused = adopt(&config(BASE), new).unwrap_err().to_string();
        assert!(refused.starts_with("the `secret_file` of sticky in [upstream.api] cannot be read"), "{refused}");
    }

    #[test]
    fn instances_do_not_move_to_ports_that_others_still_have() {
        let at = |name: &str, port: u16, instances: u16| {
            let app = format!("[app.{name}]\ntype = \"process\"\ncommand = [\"true\", \"{{port}}\"]\n");
            config(&format!("{BASE}\n{app}first_port = {port}\ninstances = {instances}\n"))
        };
        let old = at("web", 9000, 2);
        for next in [at("web", 9000, 3), at("web", 9000, 1), at("web", 9010, 2), at("other", 9010, 2)] {
            assert!(adopt(&old, next).is_ok());
        }
        for next in [at("web", 9001, 2), at("web", 8999, 2), at("other", 9000, 2)] {
            let refused = adopt(&old, next).unwrap_err().to_string();
            assert!(refused.contains("where those of [app.web] do until they have ended"), "{refused}");
        }
    }

    #[test]
    fn routes_find_applications_at_the_place_where_they_run() {
        let old = config(BASE);
        let adopted = adopt(&old, changed(&[("[app.shop]\n        program = \"shop\"", "")])).unwrap();
        assert_eq!(adopted.needs_restart, ["[app.shop]"]);
        let Action::Proxy(upstream) = adopted.config.sites[0].routes[2].action else { panic!("an upstream") };
        assert_eq!(adopted.config.upstreams[upstream].in_process, Some(1));
        // One that nobody leads to yet waits for the next start of the process.
        let more = config(&format!("{BASE}\n[app.more]\nprogram = \"shop\"\n"));
        let adopted = adopt(&old, more).unwrap();
        let more = adopted.config.upstreams.iter().find(|upstream| upstream.name == "app:more").unwrap();
        assert_eq!((adopted.needs_restart, more.in_process), (vec!["[app.more]".to_owned()], None));
        let unknown = changed(&[("[app.mail]\n", "[app.post]\n"), (r#"app = "mail""#, r#"app = "post""#)]);
        let refused = adopt(&old, unknown).unwrap_err().to_string();
        assert!(refused.starts_with("routes lead to application `post`, which does not run yet"), "{refused}");
        let other = changed(&[(r#"program = "mail""#, r#"program = "shop""#)]);
        assert!(adopt(&old, other).unwrap_err().to_string().contains("runs another program"));
    }
}
