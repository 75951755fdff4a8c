//! `error_pages = { … }`.

use std::ops::RangeInclusive;

use toml_edit::{Item, Value as TomlValue};

use crate::config::compile::site::names::RouteNames;
use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::model::{ErrorPage, ErrorPages, PageSource, PageStatus};
use crate::config::report::{Problem, Span};
use crate::config::section::{Section, type_name};
use crate::util::template::Scope;

pub(super) fn error_pages(section: &Section<'_>, scope: Scope<'_>, routes: &RouteNames<'_>) -> Option<ErrorPages> {
    let item = section.item("error_pages")?;
    let Some(table) = item.as_table_like() else {
        let label = format!("it is {}: write a path for each status, {{ 404 = \"/404.html\" }}", type_name(item));
        section.bad_value("error_pages", label);
        return None;
    };
    let mut pages = Vec::new();
    for (name, value) in table.iter() {
        let key_span = table.key(name).and_then(|key| key.span()).or_else(|| item.span());
        let statuses = statuses(name);
        if let Err(label) = &statuses {
            section.cx.mistake(Problem::new(
                format!("bad status in error_pages of {}", section.title),
                key_span,
                label,
            ));
        }
        let title = format!("bad error page for {name} in {}", section.title);
        let source = |text: &str, span| source(section, &title, text, span, scope, routes);
        let page = page(section, name, value, &source);
        pages.extend(statuses.ok().zip(page));
    }
    Some(ErrorPages::new(pages))
}

/// `404`, `5xx` or `500-504`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let example = || format!("`{text}` is no status: write one such as 404, 5xx, or 500-504");
    let number = |text: &str| match text.parse::<u16>() {
        Ok(status @ 300..=599) if text.len() == 3 => Ok(status),
        Ok(_) => Err("error pages are for statuses from 300 to 599".to_owned()),
        Err(_) => Err(example()),
    };
    if let Some(class) = text.to_ascii_lowercase().strip_suffix("xx") {
        return match class {
            "3" | "4" | "5" => number(&format!("{class}00")).map(|first| first..=first + 99),
            _ => Err(example()),
        };
    }
    let range = match text.split_once('-') {
        Some((first, last)) => number(first)?..=number(last)?,
        None => number(text).map(|status| status..=status)?,
    };
    if range.is_empty() { Err(format!("the range {text} runs backwards")) } else { Ok(range) }
}

fn page(
    section: &Section<'_>,
    name: &str,
    item: &Item,
    source: &dyn Fn(&str, Option<Span>) -> Option<PageSource>,
) -> Option<ErrorPage> {
    if let Some(text) = item.as_str() {
        return Some(ErrorPage { from: source(text, item.span())?, status: PageStatus::Error });
    }
    if !item.is_table_like() {
        let label =
            format!("it is {}: write a path, or a table such as {{ path = \"/x\", status = 200 }}", type_name(item));
        let title = format!("bad error page for {name} in {}", section.title);
        section.cx.mistake(Problem::new(title, item.span(), label));
        return None;
    }
    let table_title = format!("error page {name} of {}", section.title);
    let table = Section::from_item(section.cx, Table::ErrorPage, table_title, item, item.span())?;
    let status = match table.item("status") {
        None => Some(PageStatus::Error),
        Some(status) => page_status(&table, status),
    };
    let text: String = table.need("path")?;
    Some(ErrorPage { from: source(&text, table.value_span("path"))?, status: status? })
}

fn page_status(table: &Section<'_>, item: &Item) -> Option<PageStatus> {
    match item {
        Item::Value(TomlValue::Integer(number)) if (200..=599).contains(number.value()) => {
            Some(PageStatus::Fixed(*number.value() as u16))
        }
        Item::Value(TomlValue::String(text)) if text.value() == "error" => Some(PageStatus::Error),
        Item::Value(TomlValue::String(text)) if text.value() == "page" => Some(PageStatus::Page),
        _ => {
            table.bad_value("status", "write a number from 200 to 599, \"error\", or \"page\"");
            None
        }
    }
}

fn source(
    section: &Section<'_>,
    title: &str,
    text: &str,
    span: Option<Span>,
    scope: Scope<'_>,
    routes: &RouteNames<'_>,
) -> Option<PageSource> {
    if text.starts_with('@') {
        return routes.find(section.cx, title, text, span).map(PageSource::Route);
    }
    let label = if text.starts_with('=') {
        "a status of its own is written { path = \"/x\", status = 200 }"
    } else if text.starts_with("http://") || text.starts_with("https://") {
        "an error page is a path of the same site; a route for it may redirect"
    } else if !text.starts_with('/') {
        "a path begins with `/`, for example \"/404.html\""
    } else if text.contains(' ') {
        "a path has no spaces here: write %20"
    } else {
        return template(section.cx, title, text, span, scope).map(PageSource::Path);
    };
    section.cx.mistake(Problem::new(title, span, label));
    None
}
