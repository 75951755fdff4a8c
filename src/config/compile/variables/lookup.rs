//! `[map.NAME]`, `[geo.NAME]` and `[split.NAME]`.

use std::collections::HashMap;

use toml_edit::Item;

use super::{list_of, possible_texts, text_of};
use crate::config::compile::Named;
use crate::config::compile::template::{place_of, template};
use crate::config::key::Table;
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section};
use crate::guard::networks::parse_network;
use crate::util::template::{OwnName, Scope, Template};
use crate::variables::{Lookup, MapKey, Share, Values};

/// All of a split, in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// Compiles one; `own` and `set` are variables that every request has.
pub(super) fn compile(named: &Named<'_>, own: &[OwnName], set: &[OwnName]) -> Lookup {
    let scope = Scope { captures: &[], answer: true, own, set };
    let reader = Reader { section: &named.section, scope };
    let from = reader.from();
    let values = match named.section.table {
        Table::Map => reader.map(&from),
        Table::Geo => Values::Geo(reader.geo()),
        _ => Values::Split(reader.split()),
    };
    let default = match named.section.table {
        Table::Split => None,
        _ => named.section.item("default").and_then(|item| reader.result("default", item, &[])),
    };
    Lookup { name: named.name.into(), from, values, default: default.unwrap_or_default() }
}

struct Reader<'s, 'a> {
    section: &'s Section<'a>,
    scope: Scope<'s>,
}

impl Reader<'_, '_> {
    fn from(&self) -> Template {
        let text: Option<String> = match self.section.table {
            Table::Geo => Some(self.section.get("from")),
            _ => self.section.need("from"),
        };
        let Some(text) = text else { return Template::default() };
        let title = format!("bad value for `from` in {}", self.section.title);
        let from = template(self.section.cx, &title, &text, self.section.value_span("from"), self.scope);
        if from.as_ref().is_some_and(|from| from.constant().is_some()) {
            self.section.bad_value("from", "it has no variable: every request would be looked up as the same");
        }
        from.unwrap_or_default()
    }

    /// What the variable is worth in one case.
    fn result(&self, key: &str, item: &Item, captures: &[Option<String>]) -> Option<Template> {
        let text = text_of(self.section, key, item)?;
        let title = format!("bad value for `{key}` in {}", self.section.title);
        template(self.section.cx, &title, text, item.span(), Scope { captures, ..self.scope })
    }

    fn mistake(&self, key: &str, span: Option<Span>, label: impl Into<String>) {
        self.section.cx.mistake(Problem::new(format!("bad value `{key}` in {}", self.section.title), span, label));
    }

    fn warn(&self, key: &str, span: Option<Span>, label: impl Into<String>) {
        let title = format!("`{key}` in values of {} is unlikely to match", self.section.title);
        self.section.cx.warn(Problem::new(title, span, label));
    }

    /// The rows of `values`; reports that there are none.
    fn rows<'b>(&self, section: &Section<'b>, form: &str) -> Vec<(&'b str, &'b Item, Option<Span>)> {
        let rows = section.entries("values", form);
        let is_table = section.item("values").map(|item| item.is_table_like());
        match is_table {
            None => section.report_missing("values"),
            Some(true) if rows.is_empty() => section.bad_value("values", format!("it is empty: write {form}")),
            Some(_) => {}
        }
        rows
    }

    fn map(&self, from: &Template) -> Values {
        let hostnames: bool = self.section.get("hostnames");
        let mut seen: HashMap<String, Option<Span>> = HashMap::new();
        let mut values = Vec::new();
        for (text, item, span) in self.rows(self.section, "texts with their results, { \"text\" = \"result\" }") {
            let key = match MapKey::parse(text, hostnames) {
                Ok(key) => key,
                Err(error) => {
                    self.mistake(text, span, error.to_string());
                    continue;
                }
            };
            self.warn_of_useless_key(text, &key, hostnames, from, span.clone());
            for claim in claims(&key) {
                if let Some(first) = seen.insert(claim, span.clone()) {
                    let label = "it says the same as an earlier one: case does not count";
                    let title = format!("`{text}` stands twice in values of {}", self.section.title);
                    let problem = Problem::new(title, span.clone(), label);
                    self.section.cx.mistake(problem.related(first, "the first one"));
                }
            }
            let captures = match &key {
                MapKey::Regex(pattern) => pattern.capture_names(),
                _ => Vec::new(),
            };
            values.extend(self.result(text, item, &captures).map(|result| (key, result)));
        }
        Values::Map { hostnames, values }
    }

    fn warn_of_useless_key(&self, text: &str, key: &MapKey, hostnames: bool, from: &Template, span: Option<Span>) {
        let MapKey::Exact(exact) = key else { return };
        if !hostnames && (text.starts_with("*.") || text.ends_with(".*")) {
            let label = "it is compared as a whole: add `hostnames = true`, or write an expression, \"~…\"";
            return self.warn(text, span, label);
        }
        if text == "default" {
            let label =
                "it is compared like any text: write `default = \"…\"` beside `values`, or \"\\\\default\" here";
            return self.warn(text, span, label);
        }
        if let Some(possible) = possible_texts(from).filter(|possible| !possible.contains(&exact.as_str())) {
            self.warn(text, span, format!("`from` is {}", list_of(possible)));
        }
    }

    fn geo(&self) -> Vec<(ipnet::IpNet, Template)> {
        let mut seen: HashMap<ipnet::IpNet, Option<Span>> = HashMap::new();
        let mut values = Vec::new();
        for (text, item, span) in self.rows(self.section, "networks with their results, { \"10.0.0.0/8\" = \"lan\" }") {
            let network = match parse_network(text) {
                Ok(network) => network,
                Err(_) if text == "default" => {
                    self.mistake(text, span, "write `default = \"…\"` beside `values`");
                    continue;
                }
                Err(error) => {
                    self.mistake(text, span, error.to_string());
                    continue;
                }
            };
            if let Some(first) = seen.insert(network, span.clone()) {
                let title = format!("`{text}` stands twice in values of {}", self.section.title);
                let problem = Problem::new(title, span, "it is the same network as an earlier one");
                self.section.cx.mistake(problem.related(first, "the first one"));
            }
            values.extend(self.result(text, item, &[]).map(|result| (network, result)));
        }
        values
    }

    fn split(&self) -> Vec<(Share, Template)> {
        let rows: Vec<Placed<String>> = self.section.list("shares");
        if rows.is_empty() && self.section.item("shares").is_some_and(Item::is_array) {
            self.section.bad_value("shares", "it is empty: write such as [\"20% a\", \"* b\"]");
        }
        let (mut sum, mut rest) = (0, None);
        let mut shares = Vec::new();
        for Placed { value: text, span } in rows {
            let written = text.trim_start();
            let share_text = written.split(char::is_whitespace).next().unwrap_or_default();
            let share = match Share::parse(share_text) {
                Ok(share) => share,
                Err(label) => {
                    self.mistake(&text, span, label);
                    continue;
                }
            };
            sum += share.hundredths();
            if let Some(first) = &rest {
                let problem = Problem::new(
                    format!("`{text}` in {} is never reached", self.section.title),
                    span.clone(),
                    "`*` takes all that is left: write it last",
                );
                self.section.cx.mistake(problem.related(Option::clone(first), "the rest"));
            } else if sum > WHOLE {
                self.mistake(&text, span.clone(), "the shares are more than 100% together");
                sum = 0;
            }
            if share == Share::Rest {
                rest = Some(span.clone());
            }
            let result = written[share_text.len()..].trim();
            shares.extend(self.share_result(&text, result, span).map(|result| (share, result)));
        }
        shares
    }

    /// What stands behind a share; `text` is all of it.
    fn share_result(&self, text: &str, result: &str, span: Option<Span>) -> Option<Template> {
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            self.mistake(text, span, format!("{c:?} cannot stand in a variable"));
            return None;
        }
        let start = text.trim_end().len() - result.len();
        let place = place_of(&(start..start + result.len()), text, span.as_ref());
        let title = format!("bad value `{text}` in {}", self.section.title);
        template(self.section.cx, &title, result, place, self.scope)
    }
}

/// What a key takes for itself, so that no other may be the same. Expressions go by their order.
fn claims(key: &MapKey) -> Vec<String> {
    match key {
        MapKey::Regex(_) => Vec::new(),
        MapKey::Exact(text) => vec![text.clone()],
        MapKey::Suffix(suffix) => vec![format!("*{suffix}")],
        MapKey::Below(suffix) => vec![suffix[1..].into(), format!("*{suffix}")],
        MapKey::Prefix(prefix) => vec![format!("{prefix}*")],
    }
}
