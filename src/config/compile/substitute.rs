//! `substitute` of `[http]`, a site or a route.

use std::sync::Arc;

use toml_edit::Item;

use super::template::template;
use crate::config::key::Table;
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::http::coding::TypePattern;
use crate::http::substitute::{PAIRS_MAX, Policy, TEXT_BYTES_MAX, Texts};
use crate::util::template::{Scope, Template};

/// What `texts` takes.
const FORM: &str = "texts with what is put in their place, { \"http://internal\" = \"https://$host\" }";

/// What the section says; `None`: nothing, or a mistake, so that the level above counts.
pub(super) fn compile(section: &Section<'_>, scope: Scope<'_>) -> Option<Option<Arc<Policy>>> {
    let item = section.item("substitute")?;
    if item.as_bool() == Some(false) {
        return Some(None);
    }
    if !item.is_table_like() {
        let what = match item.as_bool() {
            Some(_) => "`true` does not say what is replaced".to_owned(),
            None => format!("it is {}", type_name(item)),
        };
        let form = "write a table such as { texts = { \"http://internal\" = \"https://$host\" } }, or false";
        let label = format!("{what}: {form}");
        section.bad_value("substitute", label);
        return None;
    }
    let title = format!("substitute of {}", section.title);
    let table = Section::from_item(section.cx, Table::Substitute, title, item, section.key_span("substitute"))?;
    let pairs = pairs(&table, scope);
    let types = types(&table);
    let (once, keeps_validators) = (table.get("once"), table.get("keep_validators"));
    let (texts, values): (Vec<Box<[u8]>>, Vec<Template>) = pairs?.into_iter().unzip();
    // All that it refuses has been looked at, but for numbers that our limits do not reach.
    let texts = Arc::new(Texts::new(texts)?);
    Some(Some(Arc::new(Policy { texts, values, types: types?, once, keeps_validators })))
}

/// A text and what is put in its place.
type Pair = (Box<[u8]>, Template);

fn pairs(section: &Section<'_>, scope: Scope<'_>) -> Option<Vec<Pair>> {
    if section.item("texts").is_none() {
        section.report_missing("texts");
        return None;
    }
    let entries = section.entries("texts", FORM);
    if section.item("texts").and_then(Item::as_table_like).is_some_and(|table| table.is_empty()) {
        section.bad_value("texts", "it is empty: name a text, or write substitute = false");
    } else if entries.len() > PAIRS_MAX {
        section.bad_value("texts", format!("{} texts are too many: at most {PAIRS_MAX}", entries.len()));
    }
    let is_good_number = (1..=PAIRS_MAX).contains(&entries.len());
    let mut pairs: Vec<Pair> = Vec::new();
    let mut is_good = is_good_number;
    for (name, value, span) in entries {
        let mut refuse = |label: String| {
            section.cx.mistake(Problem::new(format!("bad text in {}", section.title), span.clone(), label));
            is_good = false;
        };
        let text = match text(name) {
            Ok(text) if pairs.iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(text.as_bytes())) => {
                refuse("it stands here twice, as letters are looked for in either case: take one away".into());
                continue;
            }
            Ok(text) => text,
            Err(label) => {
                refuse(label);
                continue;
            }
        };
        let title = format!("bad value for `{name}` in {}", section.title);
        let value = match value.as_str() {
            Some(to) => template(section.cx, &title, to, value.span(), scope),
            None => {
                let label = format!("it is {}: write what is put in its place, \"\" for nothing", type_name(value));
                section.cx.mistake(Problem::new(title, value.span(), label));
                None
            }
        };
        match value {
            Some(value) => pairs.push((text.into_bytes().into(), value)),
            None => is_good = false,
        }
    }
    is_good.then_some(pairs)
}

/// The text itself: `$$` is a dollar, as everywhere.
fn text(name: &str) -> Result<String, String> {
    let stands = "it is looked for as it stands, without variables: these belong into what is put in its place; `$$` is a dollar";
    let parsed = Template::parse(name, Scope::default()).map_err(|_| stands.to_owned())?;
    let text = parsed.constant().ok_or_else(|| stands.to_owned())?;
    match text.len() {
        0 => Err("it is empty, which would be found everywhere".into()),
        bytes if bytes > TEXT_BYTES_MAX => Err(format!("its {bytes} bytes are too many: at most {TEXT_BYTES_MAX}")),
        _ => Ok(text.to_owned()),
    }
}

/// Empty: all types. `None`: a mistake.
fn types(section: &Section<'_>) -> Option<Vec<TypePattern>> {
    if section.item("types").and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
        section.bad_value("types", "it is empty: name a type, or write substitute = false");
        return None;
    }
    let named: Vec<Placed<String>> = section.list("types");
    if named.iter().any(|name| name.value == "*") {
        return Some(Vec::new());
    }
    let pattern = |Placed { value, span }: Placed<String>| {
        let pattern = TypePattern::parse(&value);
        if pattern.is_none() {
            let label = format!(
                "`{value}` is no media type: write one such as \"text/html\", \"text/*\" or \"*\", without parameters"
            );
            section.cx.mistake(Problem::new(format!("bad type in {}", section.title), span, label));
        }
        pattern
    };
    let patterns: Vec<Option<TypePattern>> = named.into_iter().map(pattern).collect();
    patterns.into_iter().collect::<Option<Vec<_>>>().filter(|patterns| !patterns.is_empty())
}
