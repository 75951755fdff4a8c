//! `files = { … }` of a route.

use std::sync::Arc;

use toml_edit::Item;

use super::site::names::RouteNames;
use super::site::{Written, written};
use crate::config::key::Table;
use crate::config::model::{Action, Candidate, Coding, Files, Listing, MediaTypes, Symlinks};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};

pub(super) fn action(route: &Section<'_>, names: &RouteNames<'_>) -> Option<Action> {
    let section = match written(route, "files", Table::Files)? {
        Written::Table(section) => section,
        Written::Short("") => {
            route.bad_value("files", "the path is empty");
            return None;
        }
        Written::Short(root) => {
            report_missing_folder(route, "files", root.as_ref());
            let defaults = Section::absent(route.cx, Table::Files);
            return Some(Action::Files(Arc::new(Files { root: root.into(), ..files_settings(&defaults, names) })));
        }
    };
    let settings = files_settings(&section, names);
    let root: std::path::PathBuf = section.need("root")?;
    report_missing_folder(&section, "root", &root);
    Some(Action::Files(Arc::new(Files { root, ..settings })))
}

fn report_missing_folder(section: &Section<'_>, key: &str, root: &std::path::Path) {
    if section.cx.outside.is_some_and(|outside| !outside.is_folder(root)) {
        let title = format!("the folder {} does not exist", root.display());
        let label = "every request will get 404; a relative path starts at the working directory";
        section.cx.warn(Problem::new(title, section.value_span(key), label));
    }
}

/// Everything but the root.
pub(in crate::config) fn files_settings(section: &Section<'_>, names: &RouteNames<'_>) -> Files {
    let (candidates, of_try) = candidates(section, names);
    let (fallback, of_fallback) = fallback(section, names);
    if of_try.is_some() && (fallback.is_some() || of_fallback.is_some()) {
        section.bad_value("fallback", "`try` ends with a route already: keep one of the two");
    }
    Files {
        root: "".into(),
        strip_prefix: section.find("strip_prefix").unwrap_or_default(),
        index: index(section),
        candidates,
        fallback,
        last_resort: of_try.or(of_fallback),
        listing: match section.get("listing") {
            "html" => Listing::Html,
            "json" => Listing::Json,
            "auto" => Listing::Auto,
            _ => Listing::Off,
        },
        precompressed: precompressed(section),
        ranges_max: section.get("ranges_max"),
        dotfiles: section.get("dotfiles"),
        symlinks: match section.get("symlinks") {
            "owner" => Symlinks::Owner,
            "never" => Symlinks::Never,
            _ => Symlinks::Beneath,
        },
        media: MediaTypes {
            types: types(section),
            default_type: default_type(section),
            charset: charset(section),
            charset_types: charset_types(section),
        },
    }
}

/// Reports a mistake in one entry of a list.
fn bad_entry<T>(section: &Section<'_>, name: &str, entry: &Placed<T>, label: impl Into<String>) {
    let title = format!("bad {name} in {}", section.title);
    section.cx.mistake(Problem::new(title, entry.span.clone(), label));
}

fn index(section: &Section<'_>) -> Vec<String> {
    let names: Vec<Placed<String>> = section.list("index");
    for name in &names {
        if name.value.contains('/') || name.value == "." || name.value == ".." {
            bad_entry(section, "index", name, "write the name of a file, without a folder");
        }
    }
    names.into_iter().map(|name| name.value).collect()
}

/// The path or the route in `fallback`.
fn fallback(section: &Section<'_>, names: &RouteNames<'_>) -> (Option<String>, Option<usize>) {
    match section.find::<String>("fallback") {
        Some(text) if text.starts_with('@') => {
            let title = format!("bad value for `fallback` in {}", section.title);
            (None, names.find(section.cx, &title, &text, section.value_span("fallback")))
        }
        text => (text, None),
    }
}

/// The entries of `try`, and the route at their end.
fn candidates(section: &Section<'_>, names: &RouteNames<'_>) -> (Vec<Candidate>, Option<usize>) {
    let mut entries: Vec<Placed<String>> = section.list("try");
    let last = entries.pop_if(|last| last.value.starts_with('@'));
    if let Some(only) = last.as_ref().filter(|_| entries.is_empty()) {
        bad_entry(section, "try", only, "name a path in front of it, such as \"$path\"");
    }
    let last_resort =
        last.and_then(|last| names.find(section.cx, &format!("bad try in {}", section.title), &last.value, last.span));
    let count = entries.len();
    let compile = |(at, entry): (usize, Placed<String>)| match candidate(&entry.value, at + 1 == count) {
        Ok(candidate) => Some(candidate),
        Err(label) => {
            bad_entry(section, "try", &entry, label);
            None
        }
    };
    (entries.into_iter().enumerate().filter_map(compile).collect(), last_resort)
}

fn candidate(text: &str, is_last: bool) -> Result<Candidate, String> {
    if text.starts_with('@') {
        return Err("a route is the end: put it last".into());
    }
    if let Some(status) = text.strip_prefix('=') {
        let status = status.parse().ok().filter(|status| (400..=599).contains(status));
        return match status {
            None => Err(format!("`{text}` is no status: write \"=404\", or another number from 400 to 599")),
            Some(_) if !is_last => Err("a status is the end: put it last".into()),
            Some(status) => Ok(Candidate::Status(status)),
        };
    }
    let (before, after) = text.split_once("$path").unwrap_or((text, ""));
    let takes_path = before.len() != text.len();
    if let Some(at) = before.find('$').or(after.find('$').filter(|_| takes_path)) {
        let name = if before.contains('$') { &before[at..] } else { &after[at..] };
        let known = name.starts_with("$uri") || name.starts_with("$request_uri");
        let advice = if known { "the path is called $path here" } else { "there is only $path, once" };
        return Err(format!("`{name}` is not known: {advice}"));
    }
    if !(before.starts_with('/') || before.is_empty() && takes_path) {
        return Err(format!("a path begins with `/` or `$path`: write \"/{text}\""));
    }
    let climbs = |text: &str| text.split('/').any(|segment| segment == "." || segment == "..");
    if text.chars().any(char::is_control) || climbs(text) || climbs(after) {
        return Err("write a plain path, without `.` and `..`".into());
    }
    Ok(Candidate::Path { before: before.into(), takes_path, after: after.into() })
}

fn precompressed(section: &Section<'_>) -> Vec<Coding> {
    let mut codings = Vec::new();
    for word in section.list::<&'static str>("precompressed") {
        let coding = match word.value {
            "br" => Coding::Br,
            "zstd" => Coding::Zstd,
            _ => Coding::Gzip,
        };
        match codings.contains(&coding) {
            true => bad_entry(section, "precompressed", &word, "it is named twice"),
            false => codings.push(coding),
        }
    }
    codings
}

fn types(section: &Section<'_>) -> Vec<(String, String)> {
    let Some(item) = section.item("types") else { return Vec::new() };
    let Some(table) = item.as_table_like() else {
        let form = Table::Files.key("types").map(|key| key.kind.describe()).unwrap_or_default();
        section.bad_value("types", format!("it is {}, but the key takes {form}", type_name(item)));
        return Vec::new();
    };
    let mut types: Vec<(String, String)> = Vec::new();
    for (extension, item) in table.iter() {
        let span = item.span().or_else(|| section.value_span("types"));
        match media_type_of(extension, item) {
            Ok(entry) if types.iter().any(|(known, _)| *known == entry.0) => {
                bad_entry(section, "types", &Placed { value: (), span }, format!("`{}` is named twice", entry.0));
            }
            Ok(entry) => types.push(entry),
            Err(label) => bad_entry(section, "types", &Placed { value: (), span }, label),
        }
    }
    types.sort();
    types
}

/// One line of `types`: extension in lower case, type.
fn media_type_of(extension: &str, item: &Item) -> Result<(String, String), String> {
    if extension.is_empty() || extension.contains(['.', '/']) {
        let last = extension.rsplit(['.', '/']).next().unwrap_or_default();
        let advice = if last.is_empty() { "wasm" } else { last };
        return Err(format!("`{extension}` is no extension: write what follows the last dot, for example `{advice}`"));
    }
    let text = item.as_str().ok_or_else(|| {
        format!("it is {}; write extension = \"type\", for example wasm = \"application/wasm\"", type_name(item))
    })?;
    check_media_type(text)?;
    Ok((extension.to_ascii_lowercase(), text.into()))
}

/// RFC 9110 section 8.3.1: `type/subtype`. Parameters are not taken: `charset` adds the one that matters.
fn check_media_type(text: &str) -> Result<(), String> {
    match text.split_once('/') {
        Some((main, sub)) if is_token(main) && is_token(sub) => Ok(()),
        _ if text.contains(';') => Err("write the type without parameters; `charset` adds that one".into()),
        _ => Err(format!("`{text}` is no media type: write type/subtype, for example \"application/wasm\"")),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn default_type(section: &Section<'_>) -> String {
    let text: String = section.get("default_type");
    if let Err(label) = check_media_type(&text) {
        section.bad_value("default_type", label);
    }
    text
}

fn charset(section: &Section<'_>) -> String {
    let text: String = section.get("charset");
    if !text.is_empty() && !is_token(&text) {
        section.bad_value("charset", format!("`{text}` is no charset: write one word, for example \"utf-8\""));
    }
    text
}

fn charset_types(section: &Section<'_>) -> Vec<String> {
    let patterns: Vec<Placed<String>> = section.list("charset_types");
    for pattern in &patterns {
        let suffix = pattern.value.strip_prefix("*+").is_some_and(is_token);
        if !suffix && check_media_type(&pattern.value).is_err() {
            bad_entry(section, "charset_types", pattern, "write a type, `type/*` or `*+suffix`");
        }
    }
    patterns.into_iter().map(|pattern| pattern.value).collect()
}
