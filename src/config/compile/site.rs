//! `[site.NAME]`, its hosts and routes, and the names they refer to.

mod actions;
mod cgi;
mod forward;
pub(super) mod hosts;
pub(in crate::config) mod names;
mod paths;

use std::sync::Arc;

use toml_edit::{Item, TableLike, Value as TomlValue};

use self::names::RouteNames;
use super::{Named, files, options, variables};
use crate::config::key::Table;
use crate::config::model::{Action, Config, HostPattern, Options, PathMatch, Route, Site};
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Placed, Section, type_name};
use crate::util::template::Scope;

/// What routes and sites may name.
pub(super) struct Names<'a> {
    pub(super) listeners: &'a [Named<'a>],
    pub(super) upstreams: &'a [Named<'a>],
    pub(super) apps: &'a [Named<'a>],
    /// The upstreams where requests for each of them go.
    pub(super) targets: &'a [usize],
}

/// A compiled site, with the places that later checks point at.
struct Draft {
    site: Site,
    hosts: Vec<Placed<HostPattern>>,
    default_span: Option<Span>,
    listeners: Vec<usize>,
    /// Some name among its listeners is unknown, so that the right one may just be misspelt.
    listeners_doubtful: bool,
    span: Option<Span>,
}

/// Compiles all sites into `config` and joins them with their listeners.
pub(super) fn compile_all<'a>(cx: &'a Context<'a>, sites: &[Named<'a>], names: &Names<'_>, config: &mut Config) {
    let drafts: Vec<Draft> = sites.iter().map(|named| draft(named, names, &config.http.options)).collect();
    let doubtful = drafts.iter().any(|draft| draft.listeners_doubtful);
    for (index, listener) in config.listeners.iter_mut().enumerate() {
        let reached = |(_, draft): &(usize, &Draft)| draft.listeners.contains(&index);
        let reached: Vec<(usize, &Draft)> = drafts.iter().enumerate().filter(reached).collect();
        listener.sites = reached.iter().map(|(at, _)| *at).collect();
        let drafts: Vec<&Draft> = reached.iter().map(|(_, draft)| *draft).collect();
        hosts::report_duplicate_hosts(cx, &listener.name, &drafts);
        report_two_defaults(cx, &listener.name, &drafts);
        if drafts.is_empty() && !doubtful && listener.tcp.is_none() && listener.udp.is_none() {
            let title = format!("no site is reached through [listener.{}]", listener.name);
            let label = "add a [site.NAME], or name this listener in the `listeners` of one";
            cx.mistake(Problem::new(title, names.listeners[index].span.clone(), label));
        }
    }
    config.sites = drafts.into_iter().map(|draft| draft.site).collect();
    warn_of_unused(cx, names, config);
}

fn draft(named: &Named<'_>, names: &Names<'_>, upper: &Arc<Options>) -> Draft {
    let section = &named.section;
    let hosts = hosts::hosts(section);
    let listeners = listeners(section, names.listeners);
    let listeners_doubtful = listeners.iter().any(Option::is_none);
    let route_names = RouteNames::of(section);
    let options = options::inherit(section, upper, &[], &route_names);
    let routes = routes(section, names, &route_names, &options);
    paths::report_duplicate_routes(section, &routes);
    paths::report_unanswered_auth_requests(section, &routes);
    route_names.warn_of_unused(section);
    let default: bool = section.get("default");
    Draft {
        site: Site {
            name: named.name.into(),
            hosts: hosts.iter().map(|host| host.value.clone()).collect(),
            default,
            https_port: https_port(section),
            options,
            routes: routes.into_iter().filter_map(|route| route.value).collect(),
        },
        hosts,
        default_span: default.then(|| section.value_span("default")).flatten(),
        listeners: listeners.into_iter().flatten().collect(),
        listeners_doubtful,
        span: named.span.clone(),
    }
}

fn https_port(section: &Section<'_>) -> Option<u16> {
    let port: u16 = section.get("https_port");
    let wanted: bool = section.get("https_only");
    if !wanted && section.item("https_port").is_some() {
        let title = format!("`https_port` of {} does nothing", section.title);
        section.cx.warn(Problem::new(title, section.key_span("https_port"), "add `https_only = true`"));
    }
    wanted.then_some(port)
}

/// Indexes of the listeners a site is reached through; `None` for a name that is unknown.
fn listeners(section: &Section<'_>, known: &[Named<'_>]) -> Vec<Option<usize>> {
    let Some(item) = section.item("listeners") else {
        let speaks_http = |at: &usize| ["tcp", "udp"].iter().all(|mode| known[*at].section.item(mode).is_none());
        let all: Vec<usize> = (0..known.len()).filter(speaks_http).collect();
        if all.is_empty() {
            let title = format!("{} is reached through no listener", section.title);
            let label = "add a [listener.NAME] with an `address`";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
        }
        return all.into_iter().map(Some).collect();
    };
    if item.as_array().is_some_and(|array| array.is_empty()) {
        section.bad_value("listeners", "it is empty: name a listener, or take the key away for all of them");
    }
    let names: Vec<Placed<String>> = section.list("listeners");
    let index = |name: Placed<String>| {
        let index = index_of(section, "listener", known, &name.value, name.span.clone())?;
        for (mode, what) in [("tcp", "TCP connections"), ("udp", "datagrams")] {
            let written = known[index].section.item(mode).and_then(|_| known[index].section.key_span(mode));
            let Some(place) = written else { continue };
            let title = format!("{} cannot be reached through [listener.{}]", section.title, name.value);
            let label = format!("that one passes {what} on and speaks no HTTP: name another, or add one");
            let problem = Problem::new(title, name.span.clone(), label);
            section.cx.mistake(problem.related(Some(place), format!("`{mode}` stands here")));
        }
        Some(index)
    };
    names.into_iter().map(index).collect()
}

/// The index of the table `[kind.name]`; reports a name that does not exist.
fn index_of(section: &Section<'_>, kind: &str, known: &[Named<'_>], name: &str, span: Option<Span>) -> Option<usize> {
    let names: Vec<&str> = known.iter().map(|named| named.name).collect();
    super::index_among(section, kind, &names, name, span)
}

/// The routes in order of writing; `None` where one has mistakes.
fn routes<'a>(
    site: &Section<'a>,
    names: &Names<'_>,
    route_names: &RouteNames<'_>,
    upper: &Arc<Options>,
) -> Vec<Placed<Option<Route>>> {
    let title = site.title.replace("[site.", "[[site.").replace(']', ".route]]");
    let one = |toml: &'a dyn TableLike, span: Option<Span>| {
        let section = Section::new(site.cx, Table::Route, title.clone(), toml, span.clone());
        let place =
            ["exact", "path", "regex", "name"].iter().find_map(|key| section.item(key).and_then(Item::span)).or(span);
        Placed { value: route(&section, names, route_names, upper), span: place }
    };
    match site.item("route") {
        None if site.may_be_misspelt(&["route"]) => Vec::new(),
        None => {
            let label = format!("add [[{}.route]] with a `path` and what to do", site.title.trim_matches(['[', ']']));
            site.cx.mistake(Problem::new(format!("{} has no route", site.title), site.span.clone(), label));
            Vec::new()
        }
        Some(item) => match route_tables(item) {
            Some(tables) => tables.into_iter().map(|(table, span)| one(table, span)).collect(),
            None => {
                let brackets = format!("[[{}.route]]", site.title.trim_matches(['[', ']']));
                site.bad_value("route", format!("it is {}: write each route as {brackets}", type_name(item)));
                Vec::new()
            }
        },
    }
}

/// The tables in `route` of a site, with their places; `None`: it is something else.
fn route_tables(item: &Item) -> Option<Vec<(&dyn TableLike, Option<Span>)>> {
    match item {
        Item::ArrayOfTables(tables) => {
            Some(tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect())
        }
        Item::Value(TomlValue::Array(array)) if array.iter().all(TomlValue::is_inline_table) => {
            let tables = array.iter().filter_map(|value| value.as_inline_table());
            Some(tables.map(|table| (table as &dyn TableLike, table.span())).collect())
        }
        _ => None,
    }
}

/// Of these a route has one.
const ACTIONS: [&str; 8] = ["files", "proxy", "app", "redirect", "rewrite", "respond", "close", "tarpit"];

/// Actions that may be given a rewritten target.
const REWRITTEN: [&str; 3] = ["files", "proxy", "app"];

fn route(
    section: &Section<'_>,
    names: &Names<'_>,
    route_names: &RouteNames<'_>,
    upper: &Arc<Options>,
) -> Option<Route> {
    let path = paths::path_match(section);
    let captures = paths::captures(path.as_ref());
    let methods = paths::methods(section);
    let (over_regex, internal): (bool, bool) = (section.get("over_regex"), section.get("internal"));
    let options = options::inherit(section, upper, &captures, route_names);
    let scope = Scope { captures: &captures, set: options.variables.names(), ..Scope::default() };
    // They are asked before the route is chosen, and with it what it sets.
    let conditions = variables::conditions(section, Scope { set: upper.variables.names(), ..scope });
    let action = |name| action(section, name, names, route_names, scope);
    let found = match written_actions(section)[..] {
        [] if section.may_be_misspelt(&ACTIONS) => None,
        [] => {
            let title = format!("a {} does nothing", section.title);
            let label = format!("add one of {}", ACTIONS.join(", "));
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
            None
        }
        [name] => action(name).map(|action| (None, action)),
        ["rewrite", name] | [name, "rewrite"] if REWRITTEN.contains(&name) => {
            let (rewrite, action) = (actions::rewrite(section, scope), action(name));
            rewrite.zip(action).map(|(rewrite, action)| (Some(rewrite), action))
        }
        [first, second, ..] => {
            let title = format!("a {} has two actions", section.title);
            let label = format!("keep either `{first}` or `{second}`");
            let problem = Problem::new(title, section.key_span(second), label);
            section.cx.mistake(problem.related(section.key_span(first), "the first one"));
            None
        }
    };
    let (path, (rewrite, action)) = (path?, found?);
    paths::report_useless_over_regex(section, &path, over_regex);
    warn_of_useless_prefix(section, &path, &action);
    paths::warn_of_unreachable_path(section, &path);
    let cgi = cgi::cgi(section, &action, names, scope);
    let mut options = options;
    if options.location_rewrite.is_some() && matches!(action, Action::Proxy(_) | Action::ProxyBy(_)) {
        let to = section.item("rewrite").and_then(|item| item.as_str().or_else(|| item.get("to")?.as_str()));
        options::location::lead_back(Arc::make_mut(&mut options), &path, to);
    }
    if cgi.is_some() {
        Arc::make_mut(&mut options).cgi = cgi;
    }
    if let Some(mirror) = forward::mirror(section, names) {
        Arc::make_mut(&mut options).mirror = Some(mirror);
    }
    Some(Route { path, methods, conditions, over_regex, internal, rewrite, action, options })
}

/// The actions of a route in order of writing.
fn written_actions(section: &Section<'_>) -> Vec<&'static str> {
    let is_written = |name: &&str| match section.item(name) {
        Some(item) => *name != "close" || item.as_bool() != Some(false),
        None => false,
    };
    let mut written: Vec<&str> = ACTIONS.into_iter().filter(is_written).collect();
    written.sort_by_key(|name| section.key_span(name).map(|span| span.start));
    written
}

fn action(
    section: &Section<'_>,
    name: &str,
    names: &Names<'_>,
    route_names: &RouteNames<'_>,
    scope: Scope<'_>,
) -> Option<Action> {
    let index = |kind, known: &[Named<'_>]| {
        let wanted: String = section.find(name)?;
        index_of(section, kind, known, &wanted, section.value_span(name))
    };
    match name {
        "files" => files::action(section, route_names),
        "proxy" => forward::proxy(section, names, scope),
        "app" => index("app", names.apps).map(|at| Action::Proxy(names.targets[at])),
        "redirect" => actions::redirect(section, scope),
        "rewrite" => actions::rewrite(section, scope).map(Action::Rewrite),
        "respond" => actions::respond(section, scope),
        "tarpit" => actions::tarpit(section),
        _ => {
            let close: bool = section.get("close");
            close.then_some(Action::Close)
        }
    }
}

/// The table of an action, or its short form: the text of its main key.
pub(super) enum Written<'a> {
    Table(Section<'a>),
    Short(&'a str),
}

pub(super) fn written<'a>(section: &Section<'a>, name: &str, table: Table) -> Option<Written<'a>> {
    let item = section.item(name)?;
    if let Some(text) = item.as_str() {
        return Some(Written::Short(text));
    }
    if item.is_table_like() {
        let title = format!("{name} of {}", section.title);
        return Section::from_item(section.cx, table, title, item, section.key_span(name)).map(Written::Table);
    }
    let form = Table::Route.key(name).map(|key| key.kind.describe()).unwrap_or_default();
    section.bad_value(name, format!("it is {}, but the key takes {form}", type_name(item)));
    None
}

fn warn_of_useless_prefix(section: &Section<'_>, path: &PathMatch, action: &Action) {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = path else { return };
    // A rewritten target is another one.
    if section.item("rewrite").is_none()
        && let Action::Files(files) = action
        && !path.starts_with(files.strip_prefix.trim_end_matches('/'))
    {
        let title = format!("`strip_prefix` of a {} never matches", section.title);
        let label = format!("paths of this route begin with {path}, not with {}", files.strip_prefix);
        section.cx.warn(Problem::new(title, section.value_span("files"), label));
    }
}

fn report_two_defaults(cx: &Context<'_>, listener: &str, sites: &[&Draft]) {
    let mut defaults = sites.iter().filter(|draft| draft.site.default);
    let Some(first) = defaults.next() else { return };
    for draft in defaults {
        let title = format!("two sites of [listener.{listener}] are the default");
        let problem = Problem::new(title, draft.default_span.clone(), "keep `default = true` in one of them");
        cx.mistake(problem.related(first.default_span.clone(), "the first one"));
    }
}

/// Every upstream that requests may go to.
pub(super) fn upstreams_of_routes(config: &Config) -> Vec<usize> {
    let mut upstreams = Vec::new();
    for route in config.sites.iter().flat_map(|site| &site.routes) {
        upstreams.extend(route.options.mirror.as_ref().map(|mirror| mirror.upstream));
        match &route.action {
            Action::Proxy(at) => upstreams.push(*at),
            Action::ProxyBy(by) => upstreams.extend(by.upstreams.iter().map(|(_, at)| *at)),
            _ => {}
        }
    }
    upstreams
}

fn warn_of_unused(cx: &Context<'_>, names: &Names<'_>, config: &Config) {
    let (mut upstreams, mut apps) = (vec![false; names.upstreams.len()], vec![false; names.apps.len()]);
    for route in config.sites.iter().flat_map(|site| &site.routes) {
        let is_it = |target: &usize| matches!(&route.action, Action::Proxy(used) if used == target);
        apps.iter_mut().zip(names.targets).filter(|(_, target)| is_it(target)).for_each(|(used, _)| *used = true);
    }
    for upstream in
        upstreams_of_routes(config).into_iter().chain(config.listeners.iter().flat_map(|listener| listener.upstreams()))
    {
        // After a mistake it may lead nowhere.
        if let Some(used) = upstreams.get_mut(upstream) {
            *used = true;
        }
    }
    for (kind, all, used) in [("upstream", names.upstreams, upstreams), ("app", names.apps, apps)] {
        for (named, _) in all.iter().zip(used).filter(|(_, used)| !used) {
            let title = format!("[{kind}.{}] is used by no route", named.name);
            cx.warn(Problem::new(title, named.span.clone(), "name it in a route, or take it away"));
        }
    }
}
