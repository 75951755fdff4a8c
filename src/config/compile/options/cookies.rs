//! `cookie_rewrite`.

use std::sync::Arc;

use toml_edit::{Item, Value as TomlValue};

use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::report::{Problem, Span};
use crate::config::section::{Section, type_name};
use crate::http::cookies::{CookieRules, Flags, SameSite};
use crate::util::template::{Scope, Template};

const DOMAINS: &str = "domains with what is put in their place, { \"app.internal\" = \"$host\" }";
const PATHS: &str = "beginnings of paths with what is put in their place, { \"/app/\" = \"/\" }";
const FLAGS: &str = "names of cookies with their flags, { sid = [\"secure\", \"httponly\"] }";

/// What the section says; `None`: nothing, or a mistake, so that the level above counts.
pub(super) fn cookie_rewrite(section: &Section<'_>, scope: Scope<'_>) -> Option<Option<Arc<CookieRules>>> {
    let item = section.item("cookie_rewrite")?;
    if item.as_bool() == Some(false) {
        return Some(None);
    }
    if !item.is_table_like() {
        let what = match item.as_bool() {
            Some(_) => "`true` does not say what becomes of them".to_owned(),
            None => format!("it is {}", type_name(item)),
        };
        let form = "write a table such as { paths = { \"/app/\" = \"/\" } }, or false";
        section.bad_value("cookie_rewrite", format!("{what}: {form}"));
        return None;
    }
    let title = format!("cookie_rewrite of {}", section.title);
    let table = Section::from_item(section.cx, Table::Cookies, title, item, section.key_span("cookie_rewrite"))?;
    let domains = texts(&table, "domains", DOMAINS, scope, bare_domain);
    let paths = texts(&table, "paths", PATHS, scope, |path| match path.starts_with('/') {
        true => Ok(path),
        false => Err("a path begins with a slash"),
    });
    Some(Some(Arc::new(CookieRules { domains, paths, flags: flags(&table) })))
}

/// Without the dot in front, which says nothing.
fn bare_domain(domain: &str) -> Result<&str, &'static str> {
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    match bare {
        "" | "*" => Err("write a domain, such as \"app.internal\""),
        _ if bare.contains(['/', ':']) => Err("a domain of a cookie has neither scheme nor port nor path"),
        _ => Ok(bare),
    }
}

fn texts(
    section: &Section<'_>,
    key: &str,
    form: &str,
    scope: Scope<'_>,
    read: impl Fn(&str) -> Result<&str, &'static str>,
) -> Vec<(String, Template)> {
    let mut found = Vec::new();
    for (name, value, span) in section.entries(key, form) {
        let title = format!("bad value for `{name}` in {key} of {}", section.title);
        let refusal = if name.starts_with('~') {
            Some("expressions are not here: write it as it stands in the cookie")
        } else if name.contains(['$', ';']) {
            Some("it is compared as it stands in the cookie, without variables")
        } else {
            None
        };
        let from = match refusal.map_or_else(|| read(name), Err) {
            Ok(from) => from,
            Err(label) => {
                section.cx.mistake(Problem::new(title, span, label));
                continue;
            }
        };
        let label = match value.as_str() {
            None => format!("it is {}: write what stands in its place", type_name(value)),
            Some(to) if to.contains(';') => "a `;` would begin another attribute".into(),
            Some(to) => {
                let to = template(section.cx, &title, to, value.span(), scope);
                found.extend(to.map(|to| (from.to_owned(), to)));
                continue;
            }
        };
        section.cx.mistake(Problem::new(title, value.span(), label));
    }
    found
}

fn flags(section: &Section<'_>) -> Vec<(Option<String>, Flags)> {
    let mut found = Vec::new();
    for (name, value, _) in section.entries("flags", FLAGS) {
        let mut flags = Flags::default();
        let title = format!("bad flag of `{name}` in {}", section.title);
        let mut add = |text: Option<&str>, what: &str, span: Option<Span>| {
            let label = match text.map(|text| put(&mut flags, text)) {
                Some(Ok(())) => return,
                Some(Err(label)) => label,
                None => format!("it is {what}: write flags such as [\"secure\", \"samesite=lax\"]"),
            };
            section.cx.mistake(Problem::new(title.clone(), span, label));
        };
        match value {
            Item::Value(TomlValue::Array(array)) => {
                array.iter().for_each(|value| add(value.as_str(), "no text", value.span()));
            }
            value => add(value.as_str(), type_name(value), value.span()),
        }
        found.push(((name != "*").then(|| name.to_owned()), flags));
    }
    found
}

/// Notes a flag. Errors: what is wrong with it.
fn put(flags: &mut Flags, text: &str) -> Result<(), String> {
    let twice = match text.to_ascii_lowercase().as_str() {
        "secure" => flags.secure.replace(true).is_some(),
        "nosecure" => flags.secure.replace(false).is_some(),
        "httponly" => flags.http_only.replace(true).is_some(),
        "nohttponly" => flags.http_only.replace(false).is_some(),
        "samesite=strict" => flags.same_site.replace(SameSite::Strict).is_some(),
        "samesite=lax" => flags.same_site.replace(SameSite::Lax).is_some(),
        "samesite=none" => flags.same_site.replace(SameSite::None).is_some(),
        "nosamesite" => flags.same_site.replace(SameSite::Absent).is_some(),
        _ => {
            return Err(format!(
                "`{text}` is not known: write \"secure\", \"httponly\", \"samesite=strict\", \"samesite=lax\", \"samesite=none\", \
                 \"nosecure\", \"nohttponly\" or \"nosamesite\""
            ));
        }
    };
    if twice { Err("another flag says the same, or the opposite: take one away".into()) } else { Ok(()) }
}
