//! The names that stand in lines for indexes of the config.

use crate::config::Config;
use crate::config::model::{HostPattern, Site, Upstream};
use crate::metrics::ServedBy;

/// Names by index. An index that leads nowhere has none.
#[derive(Debug)]
pub(super) struct Names {
    listeners: Vec<String>,
    sites: Vec<SiteNames>,
    upstreams: Vec<UpstreamNames>,
    apps: Vec<String>,
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
}

impl Names {
    pub(super) fn new(config: &Config) -> Names {
        let upstream = |upstream: &Upstream| UpstreamNames {
            name: upstream.name.clone(),
            servers: upstream.servers.iter().map(|server| server.address.to_string()).collect(),
        };
        Names {
            listeners: config.listeners.iter().map(|listener| listener.name.clone()).collect(),
            sites: config.sites.iter().map(SiteNames::new).collect(),
            upstreams: config.upstreams.iter().map(upstream).collect(),
            apps: config.apps.iter().map(|app| app.name.clone()).collect(),
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
        let ServedBy::Server { upstream, server } = served_by else { return None };
        Some(self.upstreams.get(usize::from(upstream))?.servers.get(usize::from(server))?.as_bytes())
    }

    pub(super) fn app(&self, app: u16) -> Option<&[u8]> {
        self.apps.get(usize::from(app)).map(String::as_bytes)
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
