//! `cgi` of a route: what servers of FastCGI, uwsgi and SCGI are told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::Item;

use super::{Names, Written, written};
use crate::config::compile::app::is_php;
use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::model::{Action, Cgi};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};
use crate::util::path::normalize;
use crate::util::template::{Scope, Template};

/// What `params` takes.
const FORM: &str = "names of variables with their values, { APP_ENV = \"production\" }";

/// The table of a route whose requests go to such servers; `None`: they do not, or it has mistakes.
pub(super) fn cgi(section: &Section<'_>, action: &Action, names: &Names<'_>, scope: Scope<'_>) -> Option<Arc<Cgi>> {
    let protocols: Vec<&str> = upstreams(action).filter_map(|at| protocol(names, at)).collect();
    if protocols.is_empty() {
        if section.item("cgi").is_some() {
            let title = format!("`cgi` of a {} does nothing", section.title);
            let label = "it is for `proxy` to an upstream with protocol = \"fastcgi\", \"uwsgi\" or \"scgi\", and for an `app` with type = \"php\"";
            section.cx.mistake(Problem::new(title, section.key_span("cgi"), label));
        }
        return None;
    }
    let written = if section.item("cgi").is_some() { Some(written(section, "cgi", Table::Cgi)?) } else { None };
    let absent = Section::absent(section.cx, Table::Cgi);
    let (table, root) = match &written {
        Some(Written::Table(table)) => (table, table.find("root")),
        Some(Written::Short(root)) => (&absent, Some(PathBuf::from(root))),
        None => (&absent, None),
    };
    let split = split(table);
    if protocols.contains(&"fastcgi") && root.is_none() && !split.is_empty() && !table.may_be_misspelt(&["root"]) {
        let title = format!("a {} does not say where the scripts are", section.title);
        let label =
            "add cgi = { root = \"/var/www/html\" }; for a program that is no folder of scripts, cgi = { split = [] }";
        let span = section.key_span("proxy").or_else(|| section.key_span("app"));
        section.cx.mistake(Problem::new(title, span, label));
        return None;
    }
    report_useless(table, root.is_some());
    let (index, fallback) = (index(table, &split), fallback(table, &split));
    let (check, local_root): (bool, Option<PathBuf>) = (table.get("check"), table.find("local_root"));
    let root = root.as_deref().map(absolute);
    let lookup = local_root.or(root.clone()).filter(|_| check && root.is_some());
    Some(Arc::new(Cgi {
        root,
        lookup,
        index,
        split,
        fallback,
        params: params(table, scope)?,
        software: table.get("software"),
        unsized_body_bytes_max: table.get("unsized_body_max"),
        kept_body_bytes_max: table.get("kept_body_max"),
    }))
}

/// The upstreams that an action leads to.
fn upstreams(action: &Action) -> impl Iterator<Item = usize> {
    let (one, several) = match action {
        Action::Proxy(at) => (Some(*at), &[][..]),
        Action::ProxyBy(by) => (None, &by.upstreams[..]),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(several.iter().map(|(_, at)| *at))
}

/// The protocol of an upstream, where it is one of these.
pub(super) fn protocol<'a>(names: &Names<'a>, at: usize) -> Option<&'a str> {
    let Some(upstream) = names.upstreams.get(at) else {
        // Behind those that are written come those of applications.
        let app = names.targets.iter().position(|target| *target == at)?;
        return is_php(&names.apps[app].section).then_some("fastcgi");
    };
    let written = upstream.section.item("protocol").and_then(Item::as_str)?;
    ["fastcgi", "uwsgi", "scgi"].contains(&written).then_some(written)
}

/// The servers have another working directory than we have.
fn absolute(root: &Path) -> PathBuf {
    std::path::absolute(root).unwrap_or_else(|_| root.to_owned())
}

fn split(table: &Section<'_>) -> Vec<Box<str>> {
    let suffix = |Placed { value, span }: Placed<String>| {
        if value.contains('/') || !value.starts_with('.') || value.len() < 2 {
            let title = format!("bad value for `split` in {}", table.title);
            let label = format!("`{value}` is no end of a name: write one such as \".php\"");
            table.cx.mistake(Problem::new(title, span, label));
        }
        value.into()
    };
    table.list("split").into_iter().map(suffix).collect()
}

fn index(table: &Section<'_>, split: &[Box<str>]) -> String {
    let index: String = table.get("index");
    let is_script = crate::proxy::gateway::split(format!("/{index}").as_bytes(), split).is_some();
    if table.item("index").is_some() && !index.is_empty() && (index.contains('/') || !is_script) {
        table.bad_value("index", format!("`{index}` is no name that ends as `split` says"));
    }
    if is_script { index } else { String::new() }
}

fn fallback(table: &Section<'_>, split: &[Box<str>]) -> Option<String> {
    let fallback: String = table.find("fallback")?;
    let found = crate::proxy::gateway::split(fallback.as_bytes(), split);
    let is_normal =
        normalize(fallback.as_bytes(), &mut Vec::new()).is_ok_and(|path| path.as_bytes() == fallback.as_bytes());
    if !is_normal || found.is_none_or(|found| !found.path_info.is_empty()) {
        table.bad_value("fallback", format!("`{fallback}` is no path of a script whose name ends as `split` says"));
    }
    Some(fallback)
}

fn params(table: &Section<'_>, scope: Scope<'_>) -> Option<Vec<(Box<str>, Template)>> {
    let mut params: Vec<(Box<str>, Template)> = Vec::new();
    let mut is_good = true;
    for (name, value, span) in table.entries("params", FORM) {
        let mut refuse = |span, label: String| {
            table.cx.mistake(Problem::new(format!("bad variable `{name}` in params of {}", table.title), span, label));
            is_good = false;
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            refuse(span, "a name has letters, digits and `_`".into());
        } else if ["CONTENT_LENGTH", "SCGI"].contains(&name) {
            refuse(span, "it says where the body ends, and nothing else can be said of that".into());
        } else if let Some(text) = value.as_str() {
            let title = format!("bad value for `{name}` in params of {}", table.title);
            match template(table.cx, &title, text, value.span(), scope) {
                Some(value) => params.push((name.into(), value)),
                None => is_good = false,
            }
        } else {
            refuse(value.span().or(span), format!("it is {}: write a text", type_name(value)));
        }
    }
    is_good.then_some(params)
}

/// Keys that are about scripts, where there are none.
fn report_useless(table: &Section<'_>, has_root: bool) {
    if has_root {
        let check: bool = table.get("check");
        if !check && table.item("local_root").is_some() {
            let title = format!("`local_root` of {} does nothing", table.title);
            table.cx.warn(Problem::new(title, table.key_span("local_root"), "nobody looks there: check = false"));
        }
        return;
    }
    for key in ["local_root", "check", "index", "fallback"].into_iter().filter(|key| table.item(key).is_some()) {
        let title = format!("`{key}` of {} does nothing", table.title);
        table.cx.warn(Problem::new(title, table.key_span(key), "there are no scripts: add `root`, or take it away"));
    }
}
