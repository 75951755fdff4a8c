//! What a route matches: `path`, `exact` or `regex`, and `methods`.

use std::collections::HashMap;

use super::route_tables;
use crate::config::model::{PathMatch, Route};
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section};
use crate::util::pattern::Pattern;

/// The keys that say which paths a route is for.
const KEYS: [&str; 4] = ["path", "exact", "regex", "name"];

pub(super) fn path_match(section: &Section<'_>) -> Option<PathMatch> {
    let written: Vec<&str> = KEYS.into_iter().filter(|key| section.item(key).is_some()).collect();
    match written[..] {
        ["exact"] => section.find("exact").map(PathMatch::Exact),
        ["path"] => section.find("path").map(PathMatch::Prefix),
        ["regex"] => regex(section),
        ["name"] => name(section),
        [first, second, ..] => {
            let title = format!("both `{first}` and `{second}` in {}", section.title);
            let problem = Problem::new(title, section.key_span(second), "keep one of them");
            section.cx.mistake(problem.related(section.key_span(first), "the other one"));
            None
        }
        _ if section.may_be_misspelt(&KEYS) => None,
        _ => {
            let title = format!("a {} matches nothing", section.title);
            let label = "add `path = \"/\"` (a prefix) or `exact = \"/health\"`";
            section.cx.mistake(Problem::new(title, section.span.clone(), label));
            None
        }
    }
}

fn regex(section: &Section<'_>) -> Option<PathMatch> {
    let text: String = section.find("regex")?;
    match Pattern::new(&text) {
        Ok(pattern) => Some(PathMatch::Regex(pattern)),
        Err(label) => {
            section.bad_value("regex", label);
            None
        }
    }
}

fn name(section: &Section<'_>) -> Option<PathMatch> {
    let text: String = section.find("name")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if let Some(bare) = text.strip_prefix('@') {
        section.bad_value("name", format!("write it without the `@`, which stands where it is used: \"{bare}\""));
    } else if !text.bytes().all(is_plain) {
        section.bad_value("name", "a name has letters, digits, `-`, `_` and `.`");
    } else {
        return Some(PathMatch::Named(text));
    }
    None
}

/// Names of the captures that texts of the route may use.
pub(super) fn captures(path: Option<&PathMatch>) -> Vec<Option<String>> {
    match path {
        Some(PathMatch::Regex(pattern)) => pattern.capture_names(),
        // What follows the prefix.
        Some(PathMatch::Prefix(_)) => vec![None],
        Some(PathMatch::Exact(_) | PathMatch::Named(_)) | None => Vec::new(),
    }
}

/// The methods of a route, each once; empty for all.
pub(super) fn methods(section: &Section<'_>) -> Vec<String> {
    let written: Vec<Placed<String>> = section.list("methods");
    if written.is_empty() && section.item("methods").and_then(|item| item.as_array()).is_some_and(|a| a.is_empty()) {
        section.bad_value("methods", "it is empty: name a method, or take the key away for all of them");
    }
    let mut methods: Vec<String> = Vec::new();
    for Placed { value, span } in written {
        match report_bad_method(&value, &methods) {
            Ok(()) => methods.push(value),
            Err(label) => section.cx.mistake(Problem::new(format!("bad method in {}", section.title), span, label)),
        }
    }
    methods
}

fn report_bad_method(method: &str, before: &[String]) -> Result<(), String> {
    // RFC 9110 section 9.1: names are compared with regard to case, and the registered ones are upper case.
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        return Err(format!("`{method}` is not a method: write one such as \"GET\""));
    }
    if method.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!("methods are written in capitals: \"{}\"", method.to_ascii_uppercase()));
    }
    if matches!(method, "CONNECT" | "TRACE") {
        return Err(format!("{method} is refused before routes are looked at"));
    }
    if before.iter().any(|other| other == method) {
        return Err("it is named twice: take it away".into());
    }
    Ok(())
}

pub(super) fn report_useless_over_regex(section: &Section<'_>, path: &PathMatch, over_regex: bool) {
    if over_regex && !matches!(path, PathMatch::Prefix(_)) {
        let label =
            "only a `path` may stand over expressions: exact routes do so anyway, expressions go by their order";
        section.bad_value("over_regex", label);
    }
}

/// Paths are matched percent-decoded, free of dot segments and without the query.
pub(super) fn warn_of_unreachable_path(section: &Section<'_>, path: &PathMatch) {
    let (key, path) = match path {
        PathMatch::Exact(path) => ("exact", path),
        PathMatch::Prefix(path) => ("path", path),
        PathMatch::Regex(_) | PathMatch::Named(_) => return,
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

/// The path that `auth_request` of the site and its routes names has a route there.
pub(super) fn report_unanswered_auth_requests<'a>(section: &Section<'a>, routes: &[Placed<Option<Route>>]) {
    let tables = section.item("route").and_then(route_tables).unwrap_or_default();
    let of_routes = tables.iter().filter_map(|(table, _)| table.get("auth_request"));
    for item in section.item("auth_request").into_iter().chain(of_routes) {
        let Some(target) = item.as_str().filter(|target| target.starts_with('/')) else { continue };
        let path = target.split('?').next().unwrap_or_default();
        // One with mistakes may be the one that is meant.
        let answers = |route: &Placed<Option<Route>>| route.value.as_ref().is_none_or(|route| takes(&route.path, path));
        if !routes.iter().any(answers) {
            let title = format!("no route of {} answers `{path}`, which auth_request asks", section.title);
            let label = format!("add one with `exact = \"{path}\"` and `internal = true`");
            section.cx.mistake(Problem::new(title, item.span(), label));
        }
    }
}

fn takes(route: &PathMatch, path: &str) -> bool {
    match route {
        PathMatch::Exact(exact) => exact == path,
        PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
        PathMatch::Regex(pattern) => pattern.is_match(path.as_bytes()),
        PathMatch::Named(_) => false,
    }
}

/// Of two routes for one path the second is reached with the methods that the first does not take, and where the
/// conditions of the first do not hold.
#[expect(clippy::mutable_key_type, reason = "equality and hash of an expression are those of its text")]
pub(super) fn report_duplicate_routes(section: &Section<'_>, routes: &[Placed<Option<Route>>]) {
    let mut seen: HashMap<&PathMatch, Vec<(&Route, Option<Span>)>> = HashMap::new();
    for placed in routes {
        let Some(route) = &placed.value else { continue };
        let before = seen.entry(&route.path).or_default();
        if let Some((first, common)) = before.iter().find_map(|(first, span)| Some((span, in_common(first, route)?))) {
            let text = match &route.path {
                PathMatch::Exact(path) => format!("exact = \"{path}\""),
                PathMatch::Prefix(path) => format!("path = \"{path}\""),
                PathMatch::Regex(pattern) => format!("regex = \"{}\"", pattern.as_str()),
                PathMatch::Named(name) => format!("name = \"{name}\""),
            };
            let (of, label) = match common {
                Common::Method(method) => {
                    (format!(" and {method}"), "give each of them `methods` or `when` of its own")
                }
                Common::Everything => (String::new(), "this one would never be reached"),
            };
            let title = format!("{} has two routes with {text}{of}", section.title);
            let problem = Problem::new(title, placed.span.clone(), label);
            section.cx.mistake(problem.related(first.clone(), "the first one"));
        }
        before.push((route, placed.span.clone()));
    }
}

/// What an earlier route takes of those of a later one.
enum Common<'a> {
    Everything,
    Method(&'a str),
}

fn in_common<'a>(first: &Route, second: &'a Route) -> Option<Common<'a>> {
    if !first.conditions.is_empty() && first.conditions != second.conditions {
        return None;
    }
    if first.methods.is_empty() {
        return Some(Common::Everything);
    }
    // One without methods takes what the others leave.
    second.methods.iter().find(|method| first.methods.contains(method)).map(|method| Common::Method(method))
}
