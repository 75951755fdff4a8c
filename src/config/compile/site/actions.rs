//! `redirect`, `rewrite`, `respond` and `tarpit` of a route.

use std::sync::Arc;

use toml_edit::Item;

use super::{Written, written};
use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::model::{Action, Redirect, Respond, Rewrite, Tarpit};
use crate::config::report::Problem;
use crate::config::section::{Context, Section};
use crate::config::value::parse_field;
use crate::util::template::{Encoding, Own, Scope, Template, Variable};

/// The main text of an action's table, or its short form, with the section and key that hold it.
struct Main<'s, 'a> {
    holder: &'s Section<'a>,
    key: &'static str,
    text: String,
}

impl<'s, 'a> Main<'s, 'a> {
    /// `to` of `section`, or the short form in `route.name`; nothing when either is missing or wrong.
    fn of(route: &'s Section<'a>, name: &'static str, written: &'s Written<'a>) -> Option<Main<'s, 'a>> {
        match written {
            Written::Table(section) => section.need("to").map(|text| Main { holder: section, key: "to", text }),
            Written::Short(text) => match parse_field(text) {
                Ok(_) => Some(Main { holder: route, key: name, text: (*text).to_owned() }),
                Err(label) => {
                    route.bad_value(name, label);
                    None
                }
            },
        }
    }

    fn template(&self, scope: Scope<'_>) -> Option<Template> {
        let title = format!("bad value for `{}` in {}", self.key, self.holder.title);
        template(self.holder.cx, &title, &self.text, self.holder.value_span(self.key), scope)
    }

    fn mistake(&self, label: impl Into<String>) {
        self.holder.bad_value(self.key, label);
    }
}

pub(super) fn redirect(route: &Section<'_>, scope: Scope<'_>) -> Option<Action> {
    let written = written(route, "redirect", Table::Redirect)?;
    let status: u16 = match &written {
        Written::Table(section) => section.get("status"),
        Written::Short(_) => Section::absent(route.cx, Table::Redirect).get("status"),
    };
    if let Written::Table(section) = &written
        && !matches!(status, 301 | 302 | 303 | 307 | 308)
    {
        section.bad_value("status", format!("{status} is not a redirect: write 301, 302, 303, 307 or 308"));
    }
    let main = Main::of(route, "redirect", &written)?;
    let to = main.template(scope)?;
    if let Err(label) = check_target(&main.text, &to) {
        main.mistake(label);
        return None;
    }
    warn_of_open_redirect(&main, &to);
    Some(Action::Redirect(Arc::new(Redirect { status, to })))
}

/// A Location that browsers understand as it is meant.
fn check_target(text: &str, to: &Template) -> Result<(), String> {
    let starts = ["http://", "https://", "/", "./", "../", "?"];
    let is_variable = to.start().is_empty() && to.variables().next().is_some();
    if !is_variable && !starts.iter().any(|start| to.start().starts_with(start)) {
        return Err(format!("`{text}` is no target: write \"https://host/path\", \"/path\" or \"https://host$path\""));
    }
    if to.contains(' ') {
        return Err("a target has no spaces: write %20".into());
    }
    Ok(())
}

/// Where the client's own words choose the host, anybody can make links that seem to lead to this site.
fn warn_of_open_redirect(main: &Main<'_, '_>, to: &Template) {
    let start = to.start();
    let authority = start.split_once("://").map(|(_, authority)| authority);
    let in_host = authority.is_some_and(|authority| !authority.contains(['/', '?']));
    let whole = start.is_empty() && !matches!(to.variables().next(), Some(Variable::Capture(_) | Variable::Query));
    let first = to.variables().next();
    if (in_host || whole) && first.is_some_and(|first| is_clients_word(main.holder.cx, first, LOOKUPS_DEEP)) {
        let title = format!("the client chooses where a redirect of {} leads", main.holder.title);
        let label = "put a host and a `/` in front of what comes from the request";
        main.holder.cx.warn(Problem::new(title, main.holder.value_span(main.key), label));
    }
}

/// How far lookups are followed that are made of others; each may have many results.
const LOOKUPS_DEEP: u32 = 2;

/// Whether the client may choose how the value begins.
fn is_clients_word(cx: &Context<'_>, variable: &Variable, deep: u32) -> bool {
    match variable {
        Variable::Argument(_) | Variable::Cookie(_) | Variable::Query | Variable::Capture(_) => true,
        Variable::Field(name) => !name.contains("host"),
        Variable::Own(Own::Lookup(number)) if deep > 0 => {
            let lookup = cx.defined.get().and_then(|defined| defined.lookups.get(usize::from(*number)));
            let Some(lookup) = lookup else { return false };
            let is_word = |variable: &Variable| is_clients_word(cx, variable, deep - 1);
            let begins_so = |result: &Template| match result.variables().next() {
                _ if !result.start().is_empty() => false,
                // A path begins with a slash, and only one of them is left.
                Some(Variable::Capture(_)) => lookup.from.variables().any(is_word),
                first => first.is_some_and(is_word),
            };
            lookup.results().any(begins_so)
        }
        _ => false,
    }
}

pub(super) fn rewrite(route: &Section<'_>, scope: Scope<'_>) -> Option<Arc<Rewrite>> {
    let written = written(route, "rewrite", Table::Rewrite)?;
    let main = Main::of(route, "rewrite", &written)?;
    let to = main.template(scope)?;
    let first = to.variables().next();
    let label = if to.start().starts_with("http://") || to.start().starts_with("https://") {
        "a rewrite stays within the site: use `redirect` to send the client elsewhere"
    } else if to.variables().any(|variable| *variable == Variable::RequestUri) {
        "`$request_uri` is encoded and has the query in it: write `$path`, the query stays by itself"
    } else if to.contains(' ') {
        "a target has no spaces: write %20"
    } else if to.start().starts_with('/')
        || (to.start().is_empty() && matches!(first, Some(Variable::Path | Variable::Capture(_) | Variable::Own(_))))
    {
        return Some(Arc::new(Rewrite { to }));
    } else {
        "a path begins with `/`, for example \"/new/$1\""
    };
    main.mistake(label);
    None
}

pub(super) fn respond(route: &Section<'_>, scope: Scope<'_>) -> Option<Action> {
    let Written::Table(section) = written(route, "respond", Table::Respond)? else {
        route.bad_value("respond", "write a table, such as { status = 200, body = \"ok\" }");
        return None;
    };
    let status: u16 = section.get("status");
    if status == 444 {
        section.bad_value("status", "nginx closes the connection with it: write `close = true` instead of `respond`");
    }
    let body: String = match section.item("body").and_then(Item::as_str) {
        Some("") => String::new(),
        _ => section.find("body").unwrap_or_default(),
    };
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        section.bad_value(
            "body",
            format!("an answer with status {status} has no body: take it away or change the status"),
        );
    }
    let title = format!("bad value for `body` in {}", section.title);
    let body = template(section.cx, &title, &body, section.value_span("body"), scope)?;
    let content_type: String = section.get("content_type");
    Some(Action::Respond(Arc::new(Respond {
        status,
        encoding: Encoding::of_body(content_type.as_bytes()),
        content_type,
        body,
    })))
}

pub(super) fn tarpit(route: &Section<'_>) -> Option<Action> {
    let Written::Table(section) = written(route, "tarpit", Table::Tarpit)? else {
        route.bad_value("tarpit", "write a table, such as { delay = \"10s\" }");
        return None;
    };
    Some(Action::Tarpit(Tarpit { delay: section.get("delay"), status: section.get("status") }))
}
