//! Variables of the config's own: `[map.NAME]`, `[geo.NAME]`, `[split.NAME]`, `variables = { … }`; and conditions.

mod circles;
mod condition;
mod lookup;
mod set;

use std::collections::HashMap;

use toml_edit::{Item, TableLike};

use super::{Named, named};
use crate::config::key::Table;
use crate::config::report::{Problem, Span};
use crate::config::section::{Context, Defined, Section, type_name};
use crate::log;
use crate::util::template::{Own, OwnName, Template, Variable};
use crate::variables::Lookup;

pub(super) use self::condition::{conditions, log_access};
pub(super) use self::set::variables;

/// Most lookups of a file, and most names of variables that it sets.
const VARIABLES_MAX: usize = 10_000;

/// Compiles what the file defines for all of it, and leaves it in the context.
pub(super) fn define<'a>(cx: &'a Context<'a>, root: &'a dyn TableLike) {
    let tables = [Table::Map, Table::Geo, Table::Split];
    let mut drafts: Vec<Named<'a>> = tables.into_iter().flat_map(|table| named(cx, root, table)).collect();
    report_names(cx, &drafts);
    let set = set::all_names(cx, root);
    if drafts.len() > VARIABLES_MAX {
        let title = format!("the file defines more than {VARIABLES_MAX} variables");
        cx.mistake(Problem::new(title, drafts[VARIABLES_MAX].span.clone(), "take some away"));
        drafts.truncate(VARIABLES_MAX);
    }
    let name = |(named, number): (&Named<'_>, u16)| OwnName {
        name: named.name.into(),
        own: Own::Lookup(number),
        in_answers: false,
    };
    let mut names: Vec<OwnName> = drafts.iter().zip(0..).map(name).collect();
    let of_http = set::names_of_http(root, &set);
    let lookups: Vec<Lookup> = drafts.iter().map(|draft| lookup::compile(draft, &names, &of_http)).collect();
    circles::report_among_lookups(cx, &drafts, &lookups, &mut names);
    // Nothing else sets it.
    let _ = cx.defined.set(Defined { names, lookups, set });
}

/// Every name is one that a variable can have, and names one variable.
fn report_names(cx: &Context<'_>, drafts: &[Named<'_>]) {
    let mut seen: HashMap<&str, &Named<'_>> = HashMap::new();
    for draft in drafts {
        report_bad_name(cx, draft.name, &draft.section.title, draft.span.clone());
        if let Some(first) = seen.get(draft.name) {
            let title = format!("{} and {} define the same variable", first.section.title, draft.section.title);
            let problem = Problem::new(title, draft.span.clone(), "take another name");
            cx.mistake(problem.related(first.span.clone(), "the first one"));
        }
        seen.entry(draft.name).or_insert(draft);
    }
}

/// A name that the config gives to a variable: plain, and no other variable's.
fn report_bad_name(cx: &Context<'_>, name: &str, place: &str, span: Option<Span>) {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let label = if name.is_empty() || name.len() > 64 || !is_plain {
        "the name of a variable has 1 to 64 letters, digits and `_`".to_owned()
    } else if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("`${}` is a capture: begin the name with a letter", &name[..1])
    } else if Variable::is_built_in(name) || log::Template::is_built_in(name) {
        format!("every request has a variable `${name}`: take another name")
    } else {
        return;
    };
    cx.mistake(Problem::new(format!("{place} cannot define `${name}`"), span, label));
}

/// The text of a variable, which may be empty.
fn text_of<'i>(section: &Section<'_>, key: &str, item: &'i Item) -> Option<&'i str> {
    let bad = |label: String| {
        let title = format!("bad value for `{key}` in {}", section.title);
        section.cx.mistake(Problem::new(title, item.span(), label));
        None
    };
    let Some(text) = item.as_str() else { return bad(format!("it is {}: write a text", type_name(item))) };
    match text.chars().find(|c| c.is_control()) {
        Some(c) => bad(format!("{c:?} cannot stand in a variable")),
        None => Some(text),
    }
}

/// What a text is made of, of the config's own variables.
fn own_of(template: &Template) -> impl Iterator<Item = Own> {
    template.variables().filter_map(|variable| match variable {
        Variable::Own(own) => Some(*own),
        _ => None,
    })
}

/// All that the text can be, where that is little.
fn possible_texts(template: &Template) -> Option<&'static [&'static str]> {
    let mut variables = template.variables();
    let (Some(only), None) = (variables.next(), variables.next()) else { return None };
    let texts: &[&str] = match only {
        _ if !template.is_one_variable() => return None,
        Variable::Scheme => &["http", "https"],
        Variable::Https => &["on", ""],
        Variable::IsArgs => &["?", ""],
        _ => return None,
    };
    Some(texts)
}

/// `"http" or "https"`
fn list_of(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or ")
}
