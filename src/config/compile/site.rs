//! `[site.NAME]`, its hosts and routes, and the names they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use toml_edit::{Item, TableLike, Value as TomlValue};

use super::Named;
use super::guard::{self, Guards};
use crate::config::key::Table;
use crate::config::model::{Action, Config, Files, HostPattern, PathMatch, Route, Site};
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Placed, Section, type_name};
use crate::config::suggest;
use crate::config::value::parse_field;

/// What routes and sites may name.
pub(super) struct Names<'a> {
    pub(super) listeners: &'a [Named<'a>],
    pub(super) upstreams: &'a [Named<'a>],
    pub(super) apps: &'a [Named<'a>],
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
    let drafts: Vec<Draft> = sites.iter().map(|named| draft(named, names)).collect();
    let doubtful = drafts.iter().any(|draft| draft.listeners_doubtful);
    for (index, listener) in config.listeners.iter_mut().enumerate() {
        let reached = |(_, draft): &(usize, &Draft)| draft.listeners.contains(&index);
        let reached: Vec<(usize, &Draft)> = drafts.iter().enumerate().filter(reached).collect();
        listener.sites = reached.iter().map(|(at, _)| *at).collect();
        let drafts: Vec<&Draft> = reached.iter().map(|(_, draft)| *draft).collect();
        report_duplicate_hosts(cx, &listener.name, &drafts);
        report_two_defaults(cx, &listener.name, &drafts);
        if drafts.is_empty() && !doubtful {
            let title = format!("no site is reached through [listener.{}]", listener.name);
            let label = "add a [site.NAME], or name this listener in the `listeners` of one";
            cx.mistake(Problem::new(title, names.listeners[index].span.clone(), label));
        }
    }
    config.sites = drafts.into_iter().map(|draft| draft.site).collect();
    warn_of_unused(cx, names, config);
}

fn draft(named: &Named<'_>, names: &Names<'_>) -> Draft {
    let section = &named.section;
    let hosts = hosts(section);
    let listeners = listeners(section, names.listeners);
    let listeners_doubtful = listeners.iter().any(Option::is_none);
    let guards = guard::of_site(section);
    let routes = routes(section, names, &guards);
    report_duplicate_routes(section, &routes);
    let default: bool = section.get("default");
    Draft {
        site: Site {
            name: named.name.into(),
            hosts: hosts.iter().map(|host| host.value.clone()).collect(),
            default,
            access: guards.access,
            auth: guards.auth,
            routes: routes.into_iter().filter_map(|route| route.value).collect(),
        },
        hosts,
        default_span: default.then(|| section.value_span("default")).flatten(),
        listeners: listeners.into_iter().flatten().collect(),
        listeners_doubtful,
        span: named.span.clone(),
    }
}

fn hosts(section: &Section<'_>) -> Vec<Placed<HostPattern>> {
    let written: Vec<Placed<String>> = section.list("hosts");
    if written.is_empty() && section.item("hosts").and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
        section.bad_value("hosts", "it is empty: write the names, or \"*\" for any");
    }
    let mut hosts: Vec<Placed<HostPattern>> = Vec::new();
    for Placed { value, span } in written {
        match host_pattern(&value) {
            Ok(value) => match hosts.iter().find(|first| first.value == value) {
                None => hosts.push(Placed { value, span }),
                Some(first) => {
                    let title = format!("a host stands twice in {}", section.title);
                    let problem = Problem::new(title, span, "take it away");
                    section.cx.mistake(problem.related(first.span.clone(), "first named here"));
                }
            },
            Err(label) => section.cx.mistake(Problem::new(format!("bad host in {}", section.title), span, label)),
        }
    }
    hosts
}

/// RFC 9110 section 7.2 compares hosts without regard to case; ports are not part of a name here.
fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(format!("a host has no scheme: write \"{}\"", rest.split('/').next().unwrap_or_default()));
    }
    if text.starts_with('[') {
        let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        return match address.and_then(|address| address.parse::<std::net::Ipv6Addr>().ok()) {
            Some(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            None => Err("an IPv6 address as host is written \"[::1]\", without a port".into()),
        };
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("a host is written without a port: \"{host}\"; the port belongs to a [listener.NAME]"));
    }
    let (name, suffix) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name.contains('*') {
        return Err("`*` stands alone or at the beginning, as in \"*.example.org\"".into());
    }
    report_bad_host_name(&name)?;
    Ok(if suffix { HostPattern::Suffix(format!(".{name}")) } else { HostPattern::Exact(name) })
}

fn report_bad_host_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_ascii() {
        return Err("write an international name in its ASCII form, which begins with `xn--`".into());
    }
    // RFC 1035 section 2.3.4.
    let label_ok = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return Err(format!("`{name}` is not a host name: write one such as \"example.org\" or \"*.example.org\""));
    }
    Ok(())
}

/// Indexes of the listeners a site is reached through; `None` for a name that is unknown.
fn listeners(section: &Section<'_>, known: &[Named<'_>]) -> Vec<Option<usize>> {
    let Some(item) = section.item("listeners") else {
        if known.is_empty() {
            let title = format!("{} is reached through no listener", section.title);
            let label = "add a [listener.NAME] with an `address`";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
        }
        return (0..known.len()).map(Some).collect();
    };
    if item.as_array().is_some_and(|array| array.is_empty()) {
        section.bad_value("listeners", "it is empty: name a listener, or take the key away for all of them");
    }
    let names: Vec<Placed<String>> = section.list("listeners");
    names.into_iter().map(|name| index_of(section, "listener", known, &name.value, name.span)).collect()
}

/// The index of the table `[kind.name]`; reports a name that does not exist.
fn index_of(section: &Section<'_>, kind: &str, known: &[Named<'_>], name: &str, span: Option<Span>) -> Option<usize> {
    if let Some(index) = known.iter().position(|named| named.name == name) {
        return Some(index);
    }
    let names: Vec<&str> = known.iter().map(|named| named.name).collect();
    let label = match suggest::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => format!("there is none yet: add [{kind}.{name}]"),
        None => format!("there are: {}; or add [{kind}.{name}]", names.join(", ")),
    };
    section.cx.mistake(Problem::new(format!("no {kind} is called `{name}`"), span, label));
    None
}

/// The routes in order of writing; `None` where one has mistakes.
fn routes<'a>(site: &Section<'a>, names: &Names<'_>, of_site: &Guards) -> Vec<Placed<Option<Route>>> {
    let title = site.title.replace("[site.", "[[site.").replace(']', ".route]]");
    let one = |toml: &'a dyn TableLike, span: Option<Span>| {
        let section = Section::new(site.cx, Table::Route, title.clone(), toml, span.clone());
        let place = ["exact", "path"].iter().find_map(|key| section.item(key).and_then(Item::span)).or(span);
        Placed { value: route(&section, names, of_site), span: place }
    };
    match site.item("route") {
        None if site.may_be_misspelt(&["route"]) => Vec::new(),
        None => {
            let label = format!("add [[{}.route]] with a `path` and what to do", site.title.trim_matches(['[', ']']));
            site.cx.mistake(Problem::new(format!("{} has no route", site.title), site.span.clone(), label));
            Vec::new()
        }
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| one(table, table.span())).collect(),
        Some(Item::Value(TomlValue::Array(array))) if array.iter().all(TomlValue::is_inline_table) => {
            let tables = array.iter().filter_map(|value| value.as_inline_table());
            tables.map(|table| one(table, table.span())).collect()
        }
        Some(item) => {
            let brackets = format!("[[{}.route]]", site.title.trim_matches(['[', ']']));
            site.bad_value("route", format!("it is {}: write each route as {brackets}", type_name(item)));
            Vec::new()
        }
    }
}

const ACTIONS: [&str; 5] = ["files", "proxy", "app", "redirect", "respond"];

fn route(section: &Section<'_>, names: &Names<'_>, of_site: &Guards) -> Option<Route> {
    let Guards { access, auth } = guard::of_route(section, of_site);
    let path = path_match(section);
    let mut written: Vec<&str> = ACTIONS.into_iter().filter(|name| section.item(name).is_some()).collect();
    written.sort_by_key(|name| section.key_span(name).map(|span| span.start));
    let action = match written[..] {
        [] if section.may_be_misspelt(&ACTIONS) => None,
        [] => {
            let title = format!("a {} does nothing", section.title);
            let label = "add one of files, proxy, app, redirect, respond";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
            None
        }
        [name] => action(section, name, names),
        [first, second, ..] => {
            let title = format!("a {} has two actions", section.title);
            let label = format!("keep either `{first}` or `{second}`");
            let problem = Problem::new(title, section.key_span(second), label);
            section.cx.mistake(problem.related(section.key_span(first), "the first one"));
            None
        }
    };
    let (path, action) = (path?, action?);
    warn_of_useless_prefix(section, &path, &action);
    warn_of_unreachable_path(section, &path);
    Some(Route { path, access, auth, action })
}

fn path_match(section: &Section<'_>) -> Option<PathMatch> {
    match (section.item("path").is_some(), section.item("exact").is_some()) {
        (true, true) => {
            let title = format!("both `path` and `exact` in {}", section.title);
            let problem = Problem::new(title, section.key_span("exact"), "keep one of them");
            section.cx.mistake(problem.related(section.key_span("path"), "the other one"));
            None
        }
        (false, true) => section.find("exact").map(PathMatch::Exact),
        (true, false) => section.find("path").map(PathMatch::Prefix),
        (false, false) if section.may_be_misspelt(&["path", "exact"]) => None,
        (false, false) => {
            let title = format!("a {} matches nothing", section.title);
            let label = "add `path = \"/\"` (a prefix) or `exact = \"/health\"`";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
            None
        }
    }
}

fn action(section: &Section<'_>, name: &str, names: &Names<'_>) -> Option<Action> {
    let index = |kind, known: &[Named<'_>]| {
        let wanted: String = section.find(name)?;
        index_of(section, kind, known, &wanted, section.value_span(name))
    };
    match name {
        "files" => files(section),
        "proxy" => index("upstream", names.upstreams).map(Action::Proxy),
        "app" => index("app", names.apps).map(Action::App),
        "redirect" => redirect(section),
        _ => respond(section),
    }
}

/// The table of an action, or its short form: the text of its main key.
enum Written<'a> {
    Table(Section<'a>),
    Short(&'a str),
}

fn written<'a>(section: &Section<'a>, name: &str, table: Table) -> Option<Written<'a>> {
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

fn files(route: &Section<'_>) -> Option<Action> {
    let section = match written(route, "files", Table::Files)? {
        Written::Table(section) => section,
        Written::Short("") => {
            route.bad_value("files", "the path is empty");
            return None;
        }
        Written::Short(root) => {
            report_missing_folder(route, "files", root.as_ref());
            let defaults = Section::absent(route.cx, Table::Files);
            return Some(Action::Files(Arc::new(Files { root: root.into(), ..files_settings(&defaults) })));
        }
    };
    let settings = files_settings(&section);
    let root: std::path::PathBuf = section.need("root")?;
    report_missing_folder(&section, "root", &root);
    Some(Action::Files(Arc::new(Files { root, ..settings })))
}

fn report_missing_folder(section: &Section<'_>, key: &str, root: &std::path::Path) {
    if section.cx.outside.is_some_and(|outside| !outside.is_folder(root)) {
        let title = format!("the folder {} does not exist", root.display());
        let label = "every request will get 404; a relative path starts at the working directory";
        section.cx.warn(Problem::new(title, section.value_span(key), label));
    }
}

/// Everything but the root.
pub(in crate::config) fn files_settings(section: &Section<'_>) -> Files {
    let index: Vec<Placed<String>> = section.list("index");
    for name in &index {
        if name.value.contains('/') || name.value == "." || name.value == ".." {
            let label = "write the name of a file, without a folder";
            section.cx.mistake(Problem::new(format!("bad index in {}", section.title), name.span.clone(), label));
        }
    }
    Files {
        root: "".into(),
        strip_prefix: section.find("strip_prefix").unwrap_or_default(),
        index: index.into_iter().map(|name| name.value).collect(),
        fallback: section.find("fallback"),
    }
}

fn redirect(route: &Section<'_>) -> Option<Action> {
    let defaults = || Section::absent(route.cx, Table::Redirect);
    let (section, to) = match written(route, "redirect", Table::Redirect)? {
        Written::Table(section) => {
            let to = section.need::<String>("to");
            (section, to)
        }
        Written::Short(to) => match parse_field(to) {
            Ok(_) => (defaults(), Some(to.to_owned())),
            Err(label) => {
                route.bad_value("redirect", label);
                return None;
            }
        },
    };
    let status: u16 = section.get("status");
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        section.bad_value("status", format!("{status} is not a redirect: write 301, 302, 303, 307 or 308"));
    }
    let to = to?;
    if let Err(label) = check_target(&to) {
        let (place, key) = if section.item("to").is_some() { (&section, "to") } else { (route, "redirect") };
        place.bad_value(key, label);
        return None;
    }
    Some(Action::Redirect { status, to })
}

/// A Location that browsers understand, with no variables but `$path` and `$query`.
fn check_target(to: &str) -> Result<(), String> {
    if !["http://", "https://", "/", "$path"].iter().any(|start| to.starts_with(start)) {
        return Err(format!("`{to}` is no target: write \"https://host/path\", \"/path\" or \"https://host$path\""));
    }
    if to.contains(' ') {
        return Err("a target has no spaces: write %20".into());
    }
    for (at, _) in to.match_indices('$') {
        let rest = &to[at + 1..];
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if name != "path" && name != "query" {
            let near = suggest::nearest(&name, ["path", "query"]);
            let advice = near.map_or("there are $path and $query".into(), |near| format!("did you mean `${near}`?"));
            return Err(format!("`${name}` is not known: {advice}"));
        }
    }
    Ok(())
}

fn respond(route: &Section<'_>) -> Option<Action> {
    let Written::Table(section) = written(route, "respond", Table::Respond)? else {
        route.bad_value("respond", "write a table, such as { status = 200, body = \"ok\" }");
        return None;
    };
    let status: u16 = section.get("status");
    let body: String = match section.item("body").and_then(Item::as_str) {
        Some("") => String::new(),
        _ => section.find("body").unwrap_or_default(),
    };
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        section.bad_value(
            "body",
            format!("an answer with status {status} has no body: take it away or change the status"),
        );
    }
    Some(Action::Respond { status, content_type: section.get("content_type"), body: Bytes::from(body) })
}

fn warn_of_useless_prefix(section: &Section<'_>, path: &PathMatch, action: &Action) {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = path;
    if let Action::Files(files) = action
        && !path.starts_with(files.strip_prefix.trim_end_matches('/'))
    {
        let title = format!("`strip_prefix` of a {} never matches", section.title);
        let label = format!("paths of this route begin with {path}, not with {}", files.strip_prefix);
        section.cx.warn(Problem::new(title, section.value_span("files"), label));
    }
}

/// Paths are matched percent-decoded, free of dot segments and without the query.
fn warn_of_unreachable_path(section: &Section<'_>, path: &PathMatch) {
    let (key, path) = match path {
        PathMatch::Exact(path) => ("exact", path),
        PathMatch::Prefix(path) => ("path", path),
    };
    let encoded =
        |at: usize| path.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let label = if path.split('/').any(|segment| segment == "." || segment == "..") {
        "`.` and `..` are resolved before a path is matched: write the path without them"
    } else if path.match_indices('%').any(|(at, _)| encoded(at)) {
        "a path is decoded before it is matched: write the character itself"
    } else if path.contains('?') {
        "the query is no part of the path: write the path alone"
    } else {
        return;
    };
    let title = format!("`{path}` in {} is unlikely to match", section.title);
    section.cx.warn(Problem::new(title, section.value_span(key), label));
}

fn report_duplicate_routes(section: &Section<'_>, routes: &[Placed<Option<Route>>]) {
    let mut seen: HashMap<&PathMatch, Option<Span>> = HashMap::new();
    for route in routes {
        let Some(path) = route.value.as_ref().map(|route| &route.path) else { continue };
        let Some(first) = seen.get(path) else {
            seen.insert(path, route.span.clone());
            continue;
        };
        let text = match path {
            PathMatch::Exact(path) => format!("exact = \"{path}\""),
            PathMatch::Prefix(path) => format!("path = \"{path}\""),
        };
        let title = format!("{} has two routes with {text}", section.title);
        let problem = Problem::new(title, route.span.clone(), "this one would never be reached");
        section.cx.mistake(problem.related(first.clone(), "the first one"));
    }
}

fn report_duplicate_hosts(cx: &Context<'_>, listener: &str, sites: &[&Draft]) {
    let mut seen: HashMap<&HostPattern, (&Draft, Option<Span>)> = HashMap::new();
    for draft in sites {
        for host in &draft.hosts {
            // A default such as `hosts = "*"` has no place of its own.
            let place = host.span.clone().or_else(|| draft.span.clone());
            let Some((other, first)) = seen.get(&host.value) else {
                seen.insert(&host.value, (draft, place));
                continue;
            };
            let name = match &host.value {
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Suffix(name) => format!("*{name}"),
                HostPattern::Any => "*".into(),
            };
            let sites = format!("{} and {}", other.site.name, draft.site.name);
            let title = format!("host \"{name}\" belongs to two sites of [listener.{listener}]: {sites}");
            let problem = Problem::new(title, place, "give each site names of its own, or other listeners");
            cx.mistake(problem.related(first.clone(), "the first one"));
        }
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

fn warn_of_unused(cx: &Context<'_>, names: &Names<'_>, config: &Config) {
    let (mut upstreams, mut apps) = (vec![false; names.upstreams.len()], vec![false; names.apps.len()]);
    for route in config.sites.iter().flat_map(|site| &site.routes) {
        match route.action {
            Action::Proxy(at) => upstreams[at] = true,
            Action::App(at) => apps[at] = true,
            _ => {}
        }
    }
    for (kind, all, used) in [("upstream", names.upstreams, upstreams), ("app", names.apps, apps)] {
        for (named, _) in all.iter().zip(used).filter(|(_, used)| !used) {
            let title = format!("[{kind}.{}] is used by no route", named.name);
            cx.warn(Problem::new(title, named.span.clone(), "name it in a route, or take it away"));
        }
    }
}
