//! Choosing among routes that have conditions: the same precedence, with only those routes there whose conditions hold.

use super::methods::Allow;
use super::{Captures, Group, Origin, Routed, SiteRoutes};
use crate::variables::Condition;

impl SiteRoutes {
    /// As [`SiteRoutes::route`], for sites in which some route has conditions.
    pub(super) fn route_if(
        &self,
        method: &[u8],
        path: &[u8],
        origin: Origin,
        holds: impl FnMut(&[Condition], Captures) -> bool,
    ) -> Routed<'_> {
        let mut look = Look { site: self, method, path, origin, holds };
        if let Some(routed) = look.exact() {
            return routed;
        }
        let prefix = look.longest_prefix();
        let is_over = prefix.is_some_and(|group| look.is_over_regex(group));
        let expression = if is_over { None } else { look.expression() };
        let routed = expression.or_else(|| prefix.and_then(|group| look.choose(group, group.rest(path))));
        routed.unwrap_or(Routed::NotFound)
    }
}

impl SiteRoutes {
    /// As [`SiteRoutes::named`], likewise.
    pub(super) fn named_if(
        &self,
        group: usize,
        method: &[u8],
        holds: impl FnMut(&[Condition], Captures) -> bool,
    ) -> Routed<'_> {
        let mut look = Look { site: self, method, path: b"", origin: Origin::Internal, holds };
        look.choose(&self.groups[group], Captures::NONE).unwrap_or(Routed::NotFound)
    }
}

/// One request on its way through the precedence. `None` from its methods: go on.
struct Look<'a, 'r, H> {
    site: &'a SiteRoutes,
    method: &'r [u8],
    path: &'r [u8],
    origin: Origin,
    holds: H,
}

impl<'a, H: FnMut(&[Condition], Captures) -> bool> Look<'a, '_, H> {
    fn exact(&mut self) -> Option<Routed<'a>> {
        let hit = self.site.paths.find(self.path).filter(|hit| hit.is_exact)?;
        self.choose(&self.site.groups[hit.route], Captures::NONE)
    }

    /// Some route of the group that is there stands over expressions.
    fn is_over_regex(&mut self, group: &Group) -> bool {
        let captures = group.rest(self.path);
        group.over_regex
            && group.routes.iter().any(|&at| self.site.routes[at].over_regex && self.is_there(at, captures))
    }

    fn expression(&mut self) -> Option<Routed<'a>> {
        let site = self.site;
        site.expressions.iter().find_map(|expression| {
            let captures = expression.matcher.find(self.path)?;
            if !self.is_there(expression.route, captures) {
                return None;
            }
            self.choose(&site.groups[expression.group], captures)
        })
    }

    /// The group of the longest prefix of which some route is there.
    fn longest_prefix(&mut self) -> Option<&'a Group> {
        let site = self.site;
        let mut beginning = self.path;
        loop {
            let group = &site.groups[site.paths.find_prefix(beginning)?];
            let captures = group.rest(self.path);
            if group.routes.iter().any(|&at| self.is_there(at, captures)) {
                return Some(group);
            }
            // The next longest one is the longest of a path that ends before this one does.
            beginning = &beginning[..group.prefix_bytes.checked_sub(1)?];
        }
    }

    fn is_there(&mut self, route: usize, captures: Captures) -> bool {
        let conditions = &self.site.routes[route].conditions;
        conditions.is_empty() || (self.holds)(conditions, captures)
    }

    /// The first route of the group that is there and takes the method, or why none does; `None` when none is there.
    fn choose(&mut self, group: &'a Group, captures: Captures) -> Option<Routed<'a>> {
        let site = self.site;
        let get_stands_for_head = self.method == b"HEAD" && !self.names_head(group, captures);
        let mut there = Vec::new();
        for &at in &group.routes {
            if !self.is_there(at, captures) {
                continue;
            }
            let methods = &site.routes[at].methods;
            if methods.take(self.method) || get_stands_for_head && methods.take(b"GET") {
                return Some(site.found(at, captures, self.origin));
            }
            there.push(at);
        }
        let allow = Allow::new(there.iter().map(|&at| (site.routes[at].methods.named(), site.routes[at].internal)));
        (!there.is_empty()).then(|| allow.into_refusal(self.method, self.origin))
    }

    /// Some route of the group that is there names HEAD.
    fn names_head(&mut self, group: &Group, captures: Captures) -> bool {
        let names_head = |at: usize| self.site.routes[at].methods.named().iter().any(|method| method == "HEAD");
        let mut naming: Vec<usize> = group.routes.iter().copied().filter(|at| names_head(*at)).collect();
        naming.retain(|&at| self.is_there(at, captures));
        !naming.is_empty()
    }
}
