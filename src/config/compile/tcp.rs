//! `tcp` of a listener: which upstream gets its connections.

use std::sync::Arc;

use super::site::hosts::host_pattern;
use super::{Named, index_among};
use crate::config::model::{HostPattern, TcpRoute};
use crate::config::report::{Problem, Span};
use crate::config::section::{Section, type_name};
use crate::util::names::{Name, Names};

/// The name in the table that stands for all others.
const DEFAULT: &str = "default";

/// Keys of a listener that are about HTTP.
const HTTP_ONLY: [&str; 2] = ["http2", "real_ip_header"];

/// `None`: the listener speaks HTTP.
pub(super) fn compile(section: &Section<'_>, upstreams: &[Named<'_>]) -> Option<Arc<TcpRoute>> {
    let item = section.item("tcp")?;
    for key in HTTP_ONLY.into_iter().filter(|key| section.item(key).is_some()) {
        let title = format!("`{key}` of {} does nothing", section.title);
        section.cx.warn(Problem::new(title, section.key_span(key), "it is about HTTP, and `tcp` passes any bytes on"));
    }
    // After a mistake the config is not used, so that any upstream will do.
    let upstream = |name: &str, span: Option<Span>| index_of(section, upstreams, name, span).unwrap_or_default();
    let route = match item.as_str() {
        Some(name) => TcpRoute::All(upstream(name, item.span())),
        None if item.is_table_like() => by_name(section, upstream),
        None => {
            let form = section.table.key("tcp").map(|key| key.kind.describe()).unwrap_or_default();
            section.bad_value("tcp", format!("it is {}, but the key takes {form}", type_name(item)));
            TcpRoute::All(0)
        }
    };
    Some(Arc::new(route))
}

fn index_of(section: &Section<'_>, upstreams: &[Named<'_>], name: &str, span: Option<Span>) -> Option<usize> {
    let names: Vec<&str> = upstreams.iter().map(|named| named.name).collect();
    index_among(section, "upstream", &names, name, span)
}

fn by_name(section: &Section<'_>, upstream: impl Fn(&str, Option<Span>) -> usize) -> TcpRoute {
    let entries = section.entries("tcp", "a table of names");
    if entries.is_empty() {
        section.bad_value("tcp", "it is empty: write names with their upstreams, or one upstream for all");
    }
    let (mut found, mut otherwise): (Vec<(HostPattern, usize)>, _) = (Vec::new(), None);
    for (name, item, span) in entries {
        let Some(target) = item.as_str() else {
            let title = format!("bad value for `{name}` in tcp of {}", section.title);
            let label = format!("it is {}: write the name of an upstream", type_name(item));
            section.cx.mistake(Problem::new(title, item.span().or(span), label));
            continue;
        };
        let index = upstream(target, item.span());
        if name == DEFAULT {
            otherwise = Some(index);
            continue;
        }
        match host_pattern(name) {
            Ok(HostPattern::Any | HostPattern::Regex(_)) => {
                let label = "names are whole, \"*.example.org\" or \"www.example.*\"; all others are `default`";
                bad_name(section, name, span, label.into());
            }
            Ok(pattern) if found.iter().any(|(first, _)| *first == pattern) => {
                bad_name(section, name, span, "it stands twice: take it away".into());
            }
            Ok(pattern) => found.push((pattern, index)),
            Err(label) => bad_name(section, name, span, label),
        }
    }
    let names = found.iter().filter_map(|(pattern, index)| {
        let name = match pattern {
            HostPattern::Exact(name) => Name::Exact(name),
            HostPattern::Suffix(name) => Name::Suffix(name),
            HostPattern::Prefix(name) => Name::Prefix(name),
            HostPattern::Any | HostPattern::Regex(_) => return None,
        };
        Some((name, *index))
    });
    TcpRoute::ByName { names: Box::new(Names::new(names)), otherwise }
}

fn bad_name(section: &Section<'_>, name: &str, span: Option<Span>, label: String) {
    let title = format!("bad name `{name}` in tcp of {}", section.title);
    section.cx.mistake(Problem::new(title, span, label));
}
