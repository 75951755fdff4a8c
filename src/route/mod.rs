//! Routing: (host, path) → action, compiled once per listener.
//!
//! Pure: it holds its own copy of the actions and no reference to the config. It does not decode or normalise paths
//! (they come in percent-decoded and free of dot segments), does not look at methods, and does no I/O.
//!
//! A host is looked for in this order: its exact name, the longest `*.suffix`, a site for any host, the listener's
//! default site. Case does not count, nor does a dot at the end. The path is then matched within that site alone: an
//! exact route first, then the longest prefix, byte by byte as nginx does.
//!
//! A look-up costs one pass over the host and one over the part of the path that distinguishes routes, however many
//! sites and routes there are, and allocates nothing.

mod hosts;
mod paths;
#[cfg(test)]
mod tests;

use self::hosts::Hosts;
use self::paths::Paths;
use crate::config::Config;
use crate::config::model::{Action, Site};

/// The routes of one listener.
#[derive(Debug)]
pub struct Router {
    hosts: Hosts,
    /// In the order of the listener's `sites`.
    sites: Vec<SiteRoutes>,
}

#[derive(Debug)]
struct SiteRoutes {
    /// Index into [`Config::sites`].
    site: usize,
    paths: Paths,
    /// In the order of the site's routes.
    actions: Vec<Action>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    /// What to do.
    pub action: &'a Action,
    /// Index into [`Config::sites`].
    pub site: usize,
    /// Index into [`crate::config::model::Site::routes`].
    pub route: usize,
}

impl Router {
    /// Compiles the routes of `config.listeners[listener]`.
    ///
    /// Panics when `listener` or one of its sites is out of range: the config is checked before.
    pub fn new(config: &Config, listener: usize) -> Router {
        let sites = &config.listeners[listener].sites;
        Router::of_sites(sites.iter().map(|&index| (index, &config.sites[index])))
    }

    /// Compiles the routes of `sites`, each with its index in [`Config::sites`].
    ///
    /// Of two sites with the same host name, or two routes of a site with the same path, the first counts.
    pub fn of_sites<'a>(sites: impl Iterator<Item = (usize, &'a Site)> + Clone) -> Router {
        let compile = |(site, written): (usize, &Site)| SiteRoutes {
            site,
            paths: Paths::new(written.routes.iter().map(|route| &route.path)),
            actions: written.routes.iter().map(|route| route.action.clone()).collect(),
        };
        Router { hosts: Hosts::new(sites.clone().map(|(_, site)| site)), sites: sites.map(compile).collect() }
    }

    /// The route for `path` on `host`; `None` when the site has none for it (answer 404) or the listener has no site.
    ///
    /// `host` is without port, in any case, and may be empty. `path` is percent-decoded and free of dot segments.
    #[inline]
    pub fn route(&self, host: &[u8], path: &[u8]) -> Option<RouteMatch<'_>> {
        let site = &self.sites[self.hosts.find(host)?];
        let route = site.paths.find(path)?;
        Some(RouteMatch { action: &site.actions[route], site: site.site, route })
    }

    /// Index into [`Config::sites`] of the site that answers for `host`; `None` when the listener has no site.
    pub fn site(&self, host: &[u8]) -> Option<usize> {
        self.hosts.find(host).map(|site| self.sites[site].site)
    }
}
