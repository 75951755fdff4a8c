//! `files = { … }` of a route.

use std::sync::Arc;

use super::site::{Written, written};
use crate::config::key::Table;
use crate::config::model::{Action, Files};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};

pub(super) fn action(route: &Section<'_>) -> Option<Action> {
    let section = match written(route, "files", Table::Files)? {
        Written::Table(section) => section,
        Written::Short("") => {
            route.bad_value("files", "the path is empty");
            return None;
        }
        Written::Short(root) => {
            report_missing_folder(route, "files", root.as_ref());
            let defaults = Section::absent(route.cx, Table::Files);
            return Some(Action::Files(Arc::new(Files { root: root.into(), ..files_settings(&defaults) })));
        }
    };
    let settings = files_settings(&section);
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
pub(in crate::config) fn files_settings(section: &Section<'_>) -> Files {
    let index: Vec<Placed<String>> = section.list("index");
    for name in &index {
        if name.value.contains('/') || name.value == "." || name.value == ".." {
            let label = "write the name of a file, without a folder";
            section.cx.mistake(Problem::new(format!("bad index in {}", section.title), name.span.clone(), label));
        }
    }
    Files {
        root: "".into(),
        strip_prefix: section.find("strip_prefix").unwrap_or_default(),
        index: index.into_iter().map(|name| name.value).collect(),
        fallback: section.find("fallback"),
    }
}
