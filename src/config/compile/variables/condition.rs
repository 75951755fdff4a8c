//! Conditions: `when` of routes, and `log_access`.

use std::ops::Range;

use toml_edit::{Item, Value as TomlValue};

use super::{list_of, possible_texts};
use crate::config::compile::template::{place_of, template};
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section, type_name};
use crate::util::pattern::Pattern;
use crate::util::template::{Scope, Template};
use crate::variables::{Condition, Operator, Test, Written};

/// The conditions in `when` of a route; those with mistakes are left out.
pub(in crate::config::compile) fn conditions(section: &Section<'_>, scope: Scope<'_>) -> Vec<Condition> {
    let written: Vec<Placed<String>> = section.list("when");
    let compile = |placed: &Placed<String>| Reader { section, key: "when", placed, scope }.condition();
    written.iter().filter_map(compile).collect()
}

/// Whether this level is logged, and the conditions for that; `None`: it says nothing.
pub(in crate::config::compile) fn log_access(
    section: &Section<'_>,
    scope: Scope<'_>,
) -> Option<(bool, Vec<Condition>)> {
    let item = section.item("log_access")?;
    if let Some(switch) = item.as_bool() {
        return Some((switch, Vec::new()));
    }
    let texts: Vec<&TomlValue> = match item {
        Item::Value(TomlValue::Array(array)) if !array.is_empty() => array.iter().collect(),
        Item::Value(value) => vec![value],
        _ => Vec::new(),
    };
    let placed = |value: &TomlValue| Some(Placed { value: value.as_str()?.to_owned(), span: value.span() });
    let written: Option<Vec<Placed<String>>> = texts.into_iter().map(placed).collect();
    match written.filter(|written| !written.is_empty()) {
        Some(written) => {
            let compile = |placed| Reader { section, key: "log_access", placed, scope }.condition();
            Some((true, written.iter().filter_map(compile).collect()))
        }
        None => {
            let label =
                format!("it is {}: write true, false, or a condition such as \"$status != 200\"", type_name(item));
            section.bad_value("log_access", label);
            None
        }
    }
}

struct Reader<'s, 'a> {
    section: &'s Section<'a>,
    key: &'static str,
    placed: &'s Placed<String>,
    scope: Scope<'s>,
}

impl Reader<'_, '_> {
    fn condition(&self) -> Option<Condition> {
        let text = &self.placed.value;
        let written = match Written::parse(text) {
            Ok(written) => written,
            Err(label) => return self.mistake(self.placed.span.clone(), label),
        };
        let left = self.template(&written.left)?;
        if left.variables().next().is_none() {
            return self.mistake(self.placed.span.clone(), "it has no variable on the left: it is always the same");
        }
        let test = match &written.right {
            None if !left.is_one_variable() => {
                let label = "write one variable, or an operator with spaces around it, for example \"$name = text\"";
                return self.mistake(self.placed.span.clone(), label);
            }
            None => Test::IsTrue,
            Some((Operator::Is, right)) => {
                let right = self.template(right)?;
                self.warn_of_impossible(&left, &right);
                Test::Is(right)
            }
            Some((operator, right)) => Test::Matches(self.pattern(right, *operator == Operator::MatchesAnyCase)?),
        };
        Some(Condition { left, test, negated: written.negated })
    }

    fn template(&self, piece: &Range<usize>) -> Option<Template> {
        let text = &self.placed.value;
        let place = place_of(piece, text, self.placed.span.as_ref());
        template(self.section.cx, &self.title(), &text[piece.clone()], place, self.scope)
    }

    fn pattern(&self, piece: &Range<usize>, is_caseless: bool) -> Option<Pattern> {
        let text = &self.placed.value[piece.clone()];
        let pattern = if is_caseless { Pattern::new_caseless(text) } else { Pattern::new(text) };
        pattern.map_or_else(|label| self.mistake(self.placed.span.clone(), label), Some)
    }

    fn warn_of_impossible(&self, left: &Template, right: &Template) {
        let Some((possible, text)) = possible_texts(left).zip(right.constant()) else { return };
        if !possible.contains(&text) {
            let title = format!("a condition in {} never changes", self.section.title);
            let label = format!("the left side is {}", list_of(possible));
            self.section.cx.warn(Problem::new(title, self.placed.span.clone(), label));
        }
    }

    fn title(&self) -> String {
        format!("bad condition in `{}` of {}", self.key, self.section.title)
    }

    fn mistake<T>(&self, span: Option<Span>, label: impl Into<String>) -> Option<T> {
        self.section.cx.mistake(Problem::new(self.title(), span, label));
        None
    }
}
