//! The names that stand in lines for indexes of the config.

use crate::config::Config;
use crate::config::model::{App, HostPattern, Site, Upstream};
use crate::metrics::ServedBy;
use crate::runtime::net::Address;

/// Names by index. An index that leads nowhere has none.
#[derive(Debug)]
pub(super) struct Names {
    listeners: Vec<String>,
    sites: Vec<SiteNames>,
    upstreams: Vec<UpstreamNames>,
    apps: Vec<AppNames>,
}

#[derive(Debug)]
struct AppNames {
    name: String,
    upstream: Option<usize>,
}

#[derive(Debug)]
struct SiteNames {
    name: String,
    server_name: String,
}

#[derive(Debug)]
struct UpstreamNames {
    name: String,
    servers: Vec<String>,
    /// Its only server is the threads of an application.
    is_of_threads: bool,
}

impl Names {
    pub(super) fn new(config: &Config) -> Names {
        let upstream = |upstream: &Upstream| UpstreamNames {
            name: upstream.name.clone(),
            servers: upstream.servers.iter().map(|server| server.address.to_string()).collect(),
            is_of_threads: matches!(&upstream.servers[..], [only] if matches!(&only.address, Address::App(seat) if seat.worker.is_none())),
        };
        let app = |(index, app): (usize, &App)| AppNames {
            name: app.name.clone(),
            upstream: config.upstreams.iter().position(|upstream| upstream.in_process == Some(index)),
        };
        Names {
            listeners: config.listeners.iter().map(|listener| listener.name.clone()).collect(),
            sites: config.sites.iter().map(SiteNames::new).collect(),
            upstreams: config.upstreams.iter().map(upstream).collect(),
            apps: config.apps.iter().enumerate().map(app).collect(),
        }
    }

    pub(super) fn listener(&self, listener: u16) -> Option<&[u8]> {
        self.listeners.get(usize::from(listener)).map(String::as_bytes)
    }

    pub(super) fn site(&self, site: Option<u16>) -> Option<&[u8]> {
        Some(self.sites.get(usize::from(site?))?.name.as_bytes())
    }

    pub(super) fn server_name(&self, site: Option<u16>) -> Option<&[u8]> {
        Some(self.sites.get(usize::from(site?))?.server_name.as_bytes())
    }

    pub(super) fn upstream(&self, upstream: u16) -> Option<&[u8]> {
        Some(self.upstreams.get(usize::from(upstream))?.name.as_bytes())
    }

    /// Address of the server that answered.
    pub(super) fn server(&self, served_by: ServedBy) -> Option<&[u8]> {
        let (upstream, server) = match served_by {
            ServedBy::Server { upstream, server } => (usize::from(upstream), usize::from(server)),
            ServedBy::App { app, app_worker } => {
                let upstream = self.apps.get(usize::from(app))?.upstream?;
                // The threads of an application are one server.
                let is_one = self.upstreams.get(upstream)?.is_of_threads;
                (upstream, if is_one { 0 } else { usize::from(app_worker) })
            }
            ServedBy::Worker | ServedBy::Files => return None,
        };
        Some(self.upstreams.get(upstream)?.servers.get(server)?.as_bytes())
    }

    pub(super) fn app(&self, app: u16) -> Option<&[u8]> {
        self.apps.get(usize::from(app)).map(|app| app.name.as_bytes())
    }
}

impl SiteNames {
    fn new(site: &Site) -> SiteNames {
        let whole = site.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.clone()),
            _ => None,
        });
        SiteNames { name: site.name.clone(), server_name: whole.unwrap_or_else(|| site.name.clone()) }
    }
}
