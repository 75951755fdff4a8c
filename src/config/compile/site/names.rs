//! Names of routes: `@name` in `try`, `fallback` and `error_pages` leads to the route of that name.

use std::cell::RefCell;

use toml_edit::Item;

use super::route_tables;
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Section};
use crate::config::suggest;

/// The named routes of one site, or none where there is no site.
pub(in crate::config) struct RouteNames<'a> {
    is_site: bool,
    names: Vec<Named<'a>>,
    used: RefCell<Vec<bool>>,
}

struct Named<'a> {
    name: &'a str,
    span: Option<Span>,
    /// Of the routes with this name, the first one's position.
    route: usize,
}

impl<'a> RouteNames<'a> {
    /// Outside of a site.
    pub(in crate::config) fn none() -> RouteNames<'a> {
        RouteNames { is_site: false, names: Vec::new(), used: RefCell::default() }
    }

    /// What the routes of `site` are called.
    pub(super) fn of(site: &Section<'a>) -> RouteNames<'a> {
        let mut names: Vec<Named<'a>> = Vec::new();
        let tables = site.item("route").and_then(route_tables).unwrap_or_default();
        for (route, (table, _)) in tables.iter().enumerate() {
            if let Some(item) = table.get("name")
                && let Some(name) = item.as_str()
                && names.iter().all(|first| first.name != name)
            {
                names.push(Named { name, span: Item::span(item), route });
            }
        }
        RouteNames { is_site: true, used: RefCell::new(vec![false; names.len()]), names }
    }

    /// The route that `text` names, which begins with `@` and stands at `span`. Reports one that is not there; `title` is
    /// what the mistake is called.
    pub(in crate::config) fn find(
        &self,
        cx: &Context<'_>,
        title: &str,
        text: &str,
        span: Option<Span>,
    ) -> Option<usize> {
        let name = text.strip_prefix('@').unwrap_or(text);
        if let Some(at) = self.names.iter().position(|named| named.name == name) {
            self.used.borrow_mut()[at] = true;
            return Some(self.names[at].route);
        }
        let known: Vec<String> = self.names.iter().map(|named| format!("\"@{}\"", named.name)).collect();
        let label = match suggest::nearest(name, self.names.iter().map(|named| named.name)) {
            _ if !self.is_site => "a name belongs to one site: write this there".into(),
            Some(near) => format!("no route is called so: did you mean \"@{near}\"?"),
            None if known.is_empty() => format!("no route has a name yet: add one with `name = \"{name}\"`"),
            None => format!("no route is called so; there are: {}", known.join(", ")),
        };
        cx.mistake(Problem::new(title, span, label));
        None
    }

    /// Warns of names that nothing leads to.
    pub(super) fn warn_of_unused(&self, site: &Section<'_>) {
        for (named, _) in self.names.iter().zip(&*self.used.borrow()).filter(|(_, used)| !**used) {
            let title = format!("the route `{}` of {} is never reached", named.name, site.title);
            let label = format!("write \"@{}\" in `try`, `fallback` or `error_pages`, or take it away", named.name);
            site.cx.warn(Problem::new(title, named.span.clone(), label));
        }
    }
}
