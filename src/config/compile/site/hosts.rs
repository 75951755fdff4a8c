//! `hosts` of a site.

use std::collections::HashMap;

use toml_edit::Item;

use super::Draft;
use crate::config::model::HostPattern;
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Placed, Section};
use crate::util::pattern::Pattern;

/// The names of a site, each once.
pub(super) fn hosts(section: &Section<'_>) -> Vec<Placed<HostPattern>> {
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
pub(in crate::config::compile) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if text == "_" {
        return Err(
            "a name that nobody asks for is not needed here: write \"*\" for any host, or `default = true`".into()
        );
    }
    if let Some(expression) = text.strip_prefix('~') {
        return Pattern::new_caseless(expression).map(HostPattern::Regex);
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
    if let Some(name) = text.strip_prefix('.') {
        return Err(format!("write both, the name and all below it: \"{name}\", \"*.{name}\""));
    }
    let (name, wild) = match (text.strip_prefix("*."), text.strip_suffix(".*")) {
        (Some(name), _) => (name, Wild::Begin),
        (None, Some(name)) => (name, Wild::End),
        (None, None) => (text, Wild::No),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name.contains('*') {
        return Err("`*` stands alone, at the beginning, or at the end: \"*.example.org\", \"www.example.*\"".into());
    }
    report_bad_host_name(&name)?;
    Ok(match wild {
        Wild::No => HostPattern::Exact(name),
        Wild::Begin => HostPattern::Suffix(format!(".{name}")),
        Wild::End => HostPattern::Prefix(format!("{name}.")),
    })
}

/// Where a `*` stands for some labels.
enum Wild {
    No,
    Begin,
    End,
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

/// Two sites of a listener must not have a name in common.
#[expect(clippy::mutable_key_type, reason = "equality and hash of an expression are those of its text")]
pub(super) fn report_duplicate_hosts(cx: &Context<'_>, listener: &str, sites: &[&Draft]) {
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
                HostPattern::Prefix(name) => format!("{name}*"),
                HostPattern::Regex(pattern) => format!("~{}", pattern.as_str()),
                HostPattern::Any => "*".into(),
            };
            let sites = format!("{} and {}", other.site.name, draft.site.name);
            let title = format!("host \"{name}\" belongs to two sites of [listener.{listener}]: {sites}");
            let problem = Problem::new(title, place, "give each site names of its own, or other listeners");
            cx.mistake(problem.related(first.clone(), "the first one"));
        }
    }
}
