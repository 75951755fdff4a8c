//! `location_rewrite`.

use toml_edit::{Item, Value as TomlValue};

use crate::config::compile::template::template;
use crate::config::model::{Options, PathMatch};
use crate::config::report::Problem;
use crate::config::section::{Section, type_name};
use crate::http::location::LocationRules;
use crate::util::template::{Scope, Template};

/// What the section says; `None`: nothing, so that the level above counts.
pub(super) fn location_rewrite(section: &Section<'_>, scope: Scope<'_>) -> Option<Option<LocationRules>> {
    let item = section.item("location_rewrite")?;
    if let Item::Value(TomlValue::Boolean(switch)) = item {
        return Some(switch.value().then(LocationRules::default));
    }
    let Some(table) = item.as_table_like() else {
        let form = section.table.key("location_rewrite").map(|key| key.kind.describe()).unwrap_or_default();
        section.bad_value("location_rewrite", format!("it is {}, but the key takes {form}", type_name(item)));
        return None;
    };
    let mut pairs = Vec::new();
    for (from, to) in table.iter() {
        let key_span = table.key(from).and_then(|key| key.span()).or_else(|| item.span());
        let title = format!("bad beginning `{from}` in location_rewrite of {}", section.title);
        if let Some(label) = refused_beginning(from) {
            section.cx.mistake(Problem::new(title, key_span, label));
            continue;
        }
        pairs.extend(replacement(section, from, to, scope).map(|to| (from.to_owned(), to)));
    }
    Some(Some(LocationRules::new(pairs)))
}

fn refused_beginning(from: &str) -> Option<&'static str> {
    if from.starts_with('~') {
        Some("expressions are not here: write the beginning of the URL")
    } else if from.contains('$') {
        Some("it is compared as it stands, without variables: `true` stands for the addresses of the upstream")
    } else if !["http://", "https://", "/"].iter().any(|start| from.starts_with(start)) {
        Some("write the beginning of a URL, such as \"http://10.0.0.7:9000/app/\" or \"/app/\"")
    } else {
        None
    }
}

fn replacement(section: &Section<'_>, from: &str, item: &Item, scope: Scope<'_>) -> Option<Template> {
    let title = format!("bad value for `{from}` in location_rewrite of {}", section.title);
    let label = match item.as_str() {
        None => format!("it is {}: write what stands in its place, such as \"/\"", type_name(item)),
        Some(text) if text.contains(' ') || text.is_empty() => "write the beginning of a URL, such as \"/\"".into(),
        Some(text) => return template(section.cx, &title, text, item.span(), scope),
    };
    section.cx.mistake(Problem::new(title, item.span(), label));
    None
}

/// Paths of a prefix route whose `rewrite` puts another prefix in its place are led back, as nginx's default does.
pub(in crate::config::compile) fn lead_back(options: &mut Options, path: &PathMatch, rewrite: Option<&str>) {
    let (Some(rules), PathMatch::Prefix(here)) = (&options.location_rewrite, path) else { return };
    let Some(there) = rewrite.and_then(|to| to.strip_suffix("$1")).filter(|there| !there.contains(['$', '?'])) else {
        return;
    };
    options.location_rewrite = Some(rules.clone().with_paths(there, here));
}
