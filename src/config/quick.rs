//! Configs made without a file, for the commands that take everything from flags.

use std::net::SocketAddr;
use std::path::Path;

use super::compile;
use super::key::Table;
use super::model::{Action, Config, Files, Health, HostPattern, Listener, PathMatch, Route, Site, Splitter, Upstream};
use super::section::{Context, Overrides, Section};

/// The defaults of every key with the flags laid over them: the parts from which a config without a file is built.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    overrides: Overrides,
}

impl Defaults {
    /// Defaults under these flags.
    pub fn new(overrides: Overrides) -> Defaults {
        Defaults { overrides }
    }

    /// Switches the admin listener on at its default address, unless its flag says something else.
    pub fn with_admin(mut self) -> Defaults {
        if !self.overrides.has(Table::Admin, "address")
            && let Some(key) = Table::Admin.key("address")
            && let Some(value) = key.default_value()
        {
            self.overrides.set(key, value);
        }
        self
    }

    /// A config that listens nowhere yet. The admin listener is off unless its flag is given.
    ///
    /// Errors: flags that contradict each other, one line.
    pub fn config(&self) -> Result<Config, String> {
        let cx = self.context();
        let (config, _) = compile::base(&cx, None);
        match cx.problems.borrow().first() {
            Some(problem) => Err(format!("{}: {}", problem.title, problem.label)),
            None => Ok(config),
        }
    }

    /// An upstream without servers.
    pub fn upstream(&self, name: &str) -> Upstream {
        compile::default_upstream(&self.context(), name)
    }

    /// A splitter without addresses and account.
    pub fn splitter(&self, name: &str) -> Splitter {
        compile::default_splitter(&self.context(), name)
    }

    /// The default health check.
    pub fn health(&self) -> Option<Health> {
        self.upstream("").health
    }

    /// A folder to serve.
    pub fn files(&self, root: &Path) -> Files {
        let cx = self.context();
        Files {
            root: root.into(),
            ..compile::files_settings(&Section::absent(&cx, Table::Files), &compile::RouteNames::none())
        }
    }

    fn context(&self) -> Context<'_> {
        Context::new(&[], &self.overrides, None)
    }
}

impl Config {
    /// Adds a listener on each address with one site of that name for any host, and a route for every path.
    pub fn add_site(&mut self, name: &str, addresses: &[SocketAddr], action: Action) {
        let site = self.sites.len();
        let options = self.http.options.clone();
        let route = Route::new(PathMatch::Prefix("/".into()), action, options.clone());
        self.sites.push(Site {
            name: name.into(),
            hosts: vec![HostPattern::Any],
            default: true,
            https_port: None,
            options,
            routes: vec![route],
        });
        for (at, address) in addresses.iter().enumerate() {
            let name = if at == 0 { name.to_owned() } else { format!("{name}-{}", at + 1) };
            self.listeners.push(Listener {
                name,
                address: *address,
                proxy_protocol: false,
                trust: None,
                access: None,
                tcp: None,
                udp: None,
                sites: vec![site],
                http2: true,
                http3: false,
                alt_svc: None,
                tls: None,
            });
        }
    }
}
