//! `variables = { … }` of `[http]`, sites and routes.

use std::sync::Arc;

use toml_edit::{Item, TableLike};

use super::{VARIABLES_MAX, circles, report_bad_name, text_of};
use crate::config::compile::template::template;
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Section};
use crate::util::template::{Own, OwnName, Scope, Template};
use crate::variables::SetVariables;

/// What `variables` takes.
const FORM: &str = "names with their texts, { theme = \"dark\" }";

/// Every name that is set somewhere in the file, once; the number of one is its place.
pub(super) fn all_names(cx: &Context<'_>, root: &dyn TableLike) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut known = std::collections::HashSet::new();
    let mut add = |level: &dyn TableLike| {
        let table = level.get("variables").and_then(Item::as_table_like);
        let written = table.into_iter().flat_map(TableLike::iter).map(|(name, _)| name.to_owned());
        names.extend(written.filter(|name| known.insert(name.clone())));
    };
    root.get("http").and_then(Item::as_table_like).into_iter().for_each(&mut add);
    for (_, site) in root.get("site").and_then(Item::as_table_like).into_iter().flat_map(TableLike::iter) {
        site.as_table_like().into_iter().for_each(&mut add);
        for_each_route(site, &mut add);
    }
    if names.len() > VARIABLES_MAX {
        let title = format!("the file sets more than {VARIABLES_MAX} variables");
        cx.mistake(Problem::new(title, None, "take some away"));
        names.truncate(VARIABLES_MAX);
    }
    names
}

fn for_each_route(site: &Item, add: &mut impl FnMut(&dyn TableLike)) {
    match site.get("route") {
        Some(Item::ArrayOfTables(tables)) => tables.iter().for_each(|table| add(table)),
        Some(Item::Value(value)) => {
            let tables = value.as_array().into_iter().flatten().filter_map(|table| table.as_inline_table());
            tables.for_each(|table| add(table));
        }
        _ => {}
    }
}

/// Those of `[http]`, which every request has.
pub(super) fn names_of_http(root: &dyn TableLike, all: &[String]) -> Vec<OwnName> {
    let of_http = root.get("http").and_then(|http| http.get("variables")).and_then(Item::as_table_like);
    let name = |(name, _): (&str, &Item)| own_name(name, all);
    of_http.into_iter().flat_map(TableLike::iter).filter_map(name).collect()
}

fn own_name(name: &str, all: &[String]) -> Option<OwnName> {
    let number = u16::try_from(all.iter().position(|known| known == name)?).ok()?;
    Some(OwnName { name: name.into(), own: Own::Set(number), in_answers: false })
}

/// What this level sets, over what the levels above it do. `captures` are those of its path.
pub(in crate::config::compile) fn variables(
    section: &Section<'_>,
    upper: &Arc<SetVariables>,
    captures: &[Option<String>],
) -> Arc<SetVariables> {
    let rows = section.entries("variables", FORM);
    let Some(defined) = section.cx.defined.get().filter(|_| !rows.is_empty()) else { return upper.clone() };
    let mut set = SetVariables::clone(upper);
    let mut own: Vec<(Own, Option<Span>)> = Vec::new();
    for (name, _, span) in &rows {
        report_bad_name(section.cx, name, &format!("variables of {}", section.title), span.clone());
        if let Some(lookup) = defined.lookups.iter().find(|lookup| lookup.name == *name) {
            let title = format!("variables of {} cannot define `${}`", section.title, lookup.name);
            section.cx.mistake(Problem::new(title, span.clone(), "a table of the file defines it: take another name"));
        }
        if let Some(name) = own_name(name, &defined.set) {
            own.push((name.own, span.clone()));
            set.set(name, Template::default());
        }
    }
    // A text may use what is set beside it.
    let names = set.names().to_vec();
    let scope = Scope { captures, set: &names, ..Scope::default() };
    for (name, item, _) in rows {
        let Some(own) = own_name(name, &defined.set) else { continue };
        let title = format!("bad value for `{name}` in variables of {}", section.title);
        let text = text_of(section, name, item);
        let value = text.and_then(|text| template(section.cx, &title, text, item.span(), scope));
        set.set(own, value.unwrap_or_default());
    }
    circles::report_among_set(section.cx, &section.title, &set, &own);
    Arc::new(set)
}
