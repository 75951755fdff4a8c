//! Routing: (host, method, path) → action, compiled once per listener.
//!
//! Pure: it holds its own copy of the actions and no reference to the config. It does not decode or normalise paths
//! (they come in percent-decoded and free of dot segments) and does no I/O.
//!
//! # Precedence
//!
//! The host chooses a site, in nginx's order: its exact name; the longest `*.suffix`; the longest `prefix.*`; the first
//! expression that matches, in order of writing; a site for any host (`*`); the listener's default site; its first one.
//! Case does not count, nor does a dot at the end.
//!
//! The path then chooses within that site alone, again in nginx's order:
//! 1. an `exact` route;
//! 2. the longest prefix, byte by byte, if it has `over_regex` (nginx's `^~`);
//! 3. the first `regex` that matches, in order of writing;
//! 4. the longest prefix.
//!
//! A route with conditions (nginx's `if`) that do not all hold is not there for that request: the choice is made among the
//! others, so that the next longest prefix may be the longest one, and `over_regex` counts where a route of that path
//! is there.
//!
//! Routes may share one path and differ in their methods and conditions. Only after the path is chosen does the method
//! choose among the routes of that path that are there: the first one that takes it. GET stands for HEAD unless a route names HEAD. When none takes
//! it, the answer is 405, to OPTIONS 204, both with Allow (RFC 9110 sections 15.5.6 and 9.3.7); no other path is tried.
//! A route with `internal` does not exist for clients: they get 404. A route with a name and no path is reached by that
//! name alone ([`SiteRoutes::named`]).
//!
//! A look-up costs one pass over the host and one over the part of the path that distinguishes routes, however many
//! sites and routes there are, and one match per expression, in order, where those come into question. It allocates
//! nothing once each expression has been used. Captures are noted for routes alone that have a use for them. Sites without
//! conditions pay nothing for them; whether one holds is asked of the caller, for routes alone that come into question.

mod conditional;
mod hosts;
pub mod https;
mod methods;
mod paths;
pub mod rewrite;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use self::hosts::Hosts;
use self::methods::{Allow, Methods};
use self::paths::Paths;
use crate::config::Config;
use crate::config::model::{Action, Options, PathMatch, Rewrite, Route, Site};
pub use crate::util::captures::Captures;
use crate::util::matcher::Matcher;
use crate::variables::Condition;

/// Internal redirects of one request (rewrites, error pages, X-Accel-Redirect), as nginx counts them; the next one is
/// answered with 500.
pub const INTERNAL_REDIRECTS_MAX: u32 = 10;

/// The routes of one listener. Belongs to one thread.
#[derive(Debug)]
pub struct Router {
    hosts: Hosts,
    /// In the order of the listener's `sites`.
    sites: Vec<SiteRoutes>,
}

/// The routes of one site.
#[derive(Debug)]
pub struct SiteRoutes {
    index: usize,
    https_port: Option<u16>,
    options: Arc<Options>,
    /// Exact paths and prefixes; results are positions in `groups`.
    paths: Paths,
    /// In order of writing.
    expressions: Vec<Expression>,
    groups: Vec<Group>,
    /// Position in `groups`, by route.
    group_of: Vec<usize>,
    /// In the order of the site's routes.
    routes: Vec<Target>,
    /// Some route has conditions.
    is_conditional: bool,
}

#[derive(Debug)]
struct Expression {
    matcher: Matcher,
    /// Position in `groups`.
    group: usize,
    /// Position in `routes` of the one that stands at this place of the order.
    route: usize,
}

/// The routes of one path.
#[derive(Debug)]
struct Group {
    /// Positions in `routes`, in order of writing.
    routes: Vec<usize>,
    over_regex: bool,
    /// Length of the prefix; 0 for other paths.
    prefix_bytes: usize,
    /// Some route wants captures.
    wants_captures: bool,
    allow: Allow,
}

#[derive(Debug)]
struct Target {
    action: Action,
    rewrite: Option<Arc<Rewrite>>,
    options: Arc<Options>,
    methods: Methods,
    internal: bool,
    over_regex: bool,
    conditions: Vec<Condition>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a client.
    Client,
    /// From a rewrite, an error page or X-Accel-Redirect: `internal` routes are reached.
    Internal,
}

/// What a site has for a request.
#[derive(Clone, Debug)]
pub enum Routed<'a> {
    /// A route.
    Found(RouteMatch<'a>),
    /// Routes for the path, none for the method: 405 with this value of Allow.
    MethodNotAllowed {
        /// `GET, HEAD, OPTIONS`.
        allow: Cow<'a, str>,
    },
    /// OPTIONS, which no route of the path takes: 204 with this value of Allow.
    Methods {
        /// As above.
        allow: Cow<'a, str>,
    },
    /// No route: 404.
    NotFound,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    /// What to do.
    pub action: &'a Action,
    /// What becomes of the target before it is done.
    pub rewrite: Option<&'a Rewrite>,
    /// How it is done.
    pub options: &'a Arc<Options>,
    /// Index into [`Config::sites`].
    pub site: usize,
    /// Index into [`Site::routes`].
    pub route: usize,
    /// Captures in the path, for routes that use them; else none.
    pub captures: Captures,
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
    /// Of two sites with the same host name, or two routes of a site with the same path and method, the first counts.
    pub fn of_sites<'a>(sites: impl Iterator<Item = (usize, &'a Site)> + Clone) -> Router {
        let hosts = Hosts::new(sites.clone().map(|(_, site)| site));
        Router { hosts, sites: sites.map(|(index, site)| SiteRoutes::new(index, site)).collect() }
    }

    /// The site that answers for `host`; `None` when the listener has no site (answer 404).
    ///
    /// `host` is without port, in any case, and may be empty.
    #[inline]
    pub fn site(&self, host: &[u8]) -> Option<&SiteRoutes> {
        self.hosts.find(host).map(|site| &self.sites[site])
    }
}

impl SiteRoutes {
    fn new(index: usize, site: &Site) -> SiteRoutes {
        let groups = group(&site.routes);
        let of_group = groups.iter().map(|group| &site.routes[group.routes[0]].path);
        SiteRoutes {
            index,
            https_port: site.https_port,
            options: site.options.clone(),
            paths: Paths::new(of_group.clone()),
            expressions: expressions(&site.routes, &groups),
            routes: targets(&site.routes, &groups),
            group_of: group_of(&groups, site.routes.len()),
            is_conditional: site.routes.iter().any(|route| !route.conditions.is_empty()),
            groups,
        }
    }

    /// Index into [`Config::sites`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Options of the site, for requests that no route takes.
    pub fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// See [`Site::https_port`].
    pub fn https_port(&self) -> Option<u16> {
        self.https_port
    }

    /// What the site has for `method` and `path`, which is percent-decoded and free of dot segments.
    ///
    /// `holds` is asked whether all conditions of a route hold, and gets the captures of its path.
    #[inline]
    pub fn route(
        &self,
        method: &[u8],
        path: &[u8],
        origin: Origin,
        holds: impl FnMut(&[Condition], Captures) -> bool,
    ) -> Routed<'_> {
        if self.is_conditional {
            return self.route_if(method, path, origin, holds);
        }
        match self.find(path) {
            Some((group, captures)) => self.choose(group, captures, method, origin),
            None => Routed::NotFound,
        }
    }

    /// What the site has for `method` under the name of the named route at this index of [`Site::routes`]; `holds` as above.
    pub fn named(&self, route: usize, method: &[u8], holds: impl FnMut(&[Condition], Captures) -> bool) -> Routed<'_> {
        if self.is_conditional {
            return self.named_if(self.group_of[route], method, holds);
        }
        self.choose(self.group_of[route], Captures::NONE, method, Origin::Internal)
    }

    /// Chooses among the routes of a group.
    #[inline]
    fn choose(&self, group: usize, captures: Captures, method: &[u8], origin: Origin) -> Routed<'_> {
        let group = &self.groups[group];
        let takes = |route: &&usize| self.routes[**route].methods.take(method);
        let Some(&route) = group.routes.iter().find(takes) else { return group.allow.refuse(method, origin) };
        self.found(route, captures, origin)
    }

    fn found(&self, route: usize, captures: Captures, origin: Origin) -> Routed<'_> {
        let target = &self.routes[route];
        if target.internal && origin == Origin::Client {
            return Routed::NotFound;
        }
        Routed::Found(RouteMatch {
            action: &target.action,
            rewrite: target.rewrite.as_deref(),
            options: &target.options,
            site: self.index,
            route,
            captures,
        })
    }

    /// Position of the group of routes for `path`, and the captures.
    #[inline]
    fn find(&self, path: &[u8]) -> Option<(usize, Captures)> {
        let hit = self.paths.find(path);
        let prefix = match hit {
            Some(hit) if hit.is_exact => return Some((hit.route, Captures::NONE)),
            hit => hit.map(|hit| hit.route),
        };
        if !self.expressions.is_empty() && prefix.is_none_or(|group| !self.groups[group].over_regex) {
            let find = |expression: &Expression| Some((expression.group, expression.matcher.find(path)?));
            let found = self.expressions.iter().find_map(find);
            if found.is_some() {
                return found;
            }
        }
        Some((prefix?, self.groups[prefix?].rest(path)))
    }
}

/// The expressions in order of writing: once for each path, at its first route, and again at the next one as long as those
/// before it have conditions.
fn expressions(routes: &[Route], groups: &[Group]) -> Vec<Expression> {
    let mut expressions = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let PathMatch::Regex(pattern) = &routes[group.routes[0]].path else { continue };
        let always_there = group.routes.iter().position(|route| routes[*route].conditions.is_empty());
        let places = always_there.map_or(group.routes.len(), |first| first + 1);
        expressions.extend(group.routes[..places].iter().map(|route| Expression {
            matcher: Matcher::new(pattern, group.wants_captures),
            group: at,
            route: *route,
        }));
    }
    expressions.sort_by_key(|expression| expression.route);
    expressions
}

fn targets(routes: &[Route], groups: &[Group]) -> Vec<Target> {
    let names_head = |at: &usize| routes[*at].methods.iter().any(|method| method == "HEAD");
    let mut head_is_named = vec![false; routes.len()];
    for group in groups.iter().filter(|group| group.routes.iter().any(names_head)) {
        group.routes.iter().for_each(|at| head_is_named[*at] = true);
    }
    routes.iter().zip(head_is_named).map(|(route, head_is_named)| Target::new(route, head_is_named)).collect()
}

impl Target {
    fn new(route: &Route, head_is_named: bool) -> Target {
        Target {
            action: route.action.clone(),
            rewrite: route.rewrite.clone(),
            options: route.options.clone(),
            methods: Methods::new(&route.methods, head_is_named),
            internal: route.internal,
            over_regex: route.over_regex,
            conditions: route.conditions.clone(),
        }
    }
}

/// The routes by path, in order of writing.
#[expect(clippy::mutable_key_type, reason = "equality and hash of an expression are those of its text")]
fn group(routes: &[Route]) -> Vec<Group> {
    let mut positions: std::collections::HashMap<&PathMatch, usize> = std::collections::HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let group = *positions.entry(&route.path).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups.into_iter().map(|group| Group::new(group, routes)).collect()
}

/// Position of each route's group.
fn group_of(groups: &[Group], routes: usize) -> Vec<usize> {
    let mut of_route = vec![0; routes];
    for (at, group) in groups.iter().enumerate() {
        group.routes.iter().for_each(|route| of_route[*route] = at);
    }
    of_route
}

impl Group {
    fn new(positions: Vec<usize>, routes: &[Route]) -> Group {
        let of_group = || positions.iter().map(|at| &routes[*at]);
        let prefix_bytes = match &routes[positions[0]].path {
            PathMatch::Prefix(prefix) => prefix.len(),
            PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Named(_) => 0,
        };
        let over_regex = of_group().any(|route| route.over_regex);
        let wants_captures = of_group().any(Route::uses_captures);
        let allow = Allow::new(of_group().map(|route| (route.methods.as_slice(), route.internal)));
        Group { over_regex, prefix_bytes, wants_captures, allow, routes: positions }
    }

    /// The capture of a prefix, when some route wants it.
    fn rest(&self, path: &[u8]) -> Captures {
        if self.wants_captures { Captures::rest(self.prefix_bytes, path) } else { Captures::NONE }
    }
}
