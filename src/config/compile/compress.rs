//! `compress` of `[http]`, a site or a route: a switch, or a table.

use std::sync::Arc;

use toml_edit::Item;

use crate::config::key::Table;
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::http::coding::{Coding, Levels, Policy, TypePattern};

/// What `compress` in `section` makes of what holds above it: that, where the key is not written, or is `true` and
/// something holds there. After a mistake that too, so that the rest is read on.
pub(super) fn compile(section: &Section<'_>, above: &Option<Arc<Policy>>) -> Option<Arc<Policy>> {
    let Some(item) = section.item("compress") else { return above.clone() };
    match item.as_bool() {
        Some(false) => None,
        Some(true) => above.clone().or_else(|| Some(policy(&Section::absent(section.cx, Table::Compress)))),
        None if item.is_table_like() => {
            let title = format!("compress of {}", section.title);
            let table = Section::from_item(section.cx, Table::Compress, title, item, section.key_span("compress"))?;
            Some(policy(&table))
        }
        None => {
            let forms = "write true, false, or a table such as { codings = [\"zstd\", \"gzip\"] }";
            section.bad_value("compress", format!("it is {}: {forms}", type_name(item)));
            above.clone()
        }
    }
}

fn policy(section: &Section<'_>) -> Arc<Policy> {
    Arc::new(Policy {
        codings: codings(section),
        types: types(section),
        bytes_min: section.get("min"),
        levels: Levels {
            br: level(section, "br_level"),
            zstd: level(section, "zstd_level"),
            gzip: level(section, "gzip_level"),
        },
        cache_file_bytes_max: section.get("cache_file_max"),
    })
}

/// The ranges of the levels fit.
fn level(section: &Section<'_>, name: &str) -> u8 {
    u8::try_from(section.get::<u16>(name)).unwrap_or(u8::MAX)
}

fn codings(section: &Section<'_>) -> Vec<Coding> {
    report_empty(section, "codings", "it is empty: name a coding, or write compress = false");
    let mut codings: Vec<Placed<Coding>> = Vec::new();
    for Placed { value, span } in section.list::<&'static str>("codings") {
        let Some(value) = Coding::of_token(value.as_bytes()) else { continue };
        match codings.iter().find(|first| first.value == value) {
            None => codings.push(Placed { value, span }),
            Some(first) => {
                let title = format!("a coding stands twice in {}", section.title);
                let problem = Problem::new(title, span, "take it away");
                section.cx.mistake(problem.related(first.span.clone(), "first named here"));
            }
        }
    }
    codings.into_iter().map(|coding| coding.value).collect()
}

fn types(section: &Section<'_>) -> Vec<TypePattern> {
    report_empty(section, "types", "it is empty: name a type, or write compress = false");
    let pattern = |Placed { value, span }: Placed<String>| {
        let pattern = TypePattern::parse(&value);
        if pattern.is_none() {
            let title = format!("bad type in {}", section.title);
            section.cx.mistake(Problem::new(title, span, type_advice(&value)));
        }
        pattern
    };
    section.list("types").into_iter().filter_map(pattern).collect()
}

fn type_advice(text: &str) -> String {
    match text.split_once(';') {
        _ if matches!(text, "*" | "*/*") => {
            "it would compress again what is compressed, such as images: name the types, for example \"text/*\"".into()
        }
        Some((essence, _)) => format!("a type is written without parameters: \"{}\"", essence.trim_end()),
        None => format!("`{text}` is no media type: write one such as \"text/html\" or \"text/*\""),
    }
}

fn report_empty(section: &Section<'_>, name: &str, label: &str) {
    if section.item(name).and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
        section.bad_value(name, label);
    }
}
