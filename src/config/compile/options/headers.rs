//! `headers = { … }` and `request_headers = { … }`.

use toml_edit::{Item, Value as TomlValue};

use crate::config::compile::template::template;
use crate::config::key::Table;
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section, type_name};
use crate::config::value::parse_field;
use crate::http::fields::{Change, Direction, HeaderRule, HeaderRules, refusal};
use crate::util::template::{Scope, Template};

/// What `set` and `add` take.
const FORM: &str = "field names with their values, { X-Name = \"value\" }";

/// The rules of one level, in the order remove, set, add.
pub(super) fn rules(section: &Section<'_>, key: &'static str, direction: Direction, scope: Scope<'_>) -> HeaderRules {
    let Some(item) = section.item(key) else { return HeaderRules::default() };
    let title = format!("{key} of {}", section.title);
    let Some(table) = Section::from_item(section.cx, Table::Headers, title, item, section.key_span(key)) else {
        return HeaderRules::default();
    };
    if direction == Direction::Request && table.item("always").is_some() {
        let title = format!("`always` in {} does nothing", table.title);
        table.cx.mistake(Problem::new(title, table.key_span("always"), "take it away: a request has no status"));
    }
    let reader = Reader { table: &table, direction, scope, always: table.get("always") };
    HeaderRules::new(reader.rules())
}

struct Reader<'s, 'a> {
    table: &'s Section<'a>,
    direction: Direction,
    scope: Scope<'s>,
    always: bool,
}

impl Reader<'_, '_> {
    fn rules(&self) -> Vec<HeaderRule> {
        let mut named: Vec<(String, Option<Span>)> = Vec::new();
        let mut rules = Vec::new();
        for Placed { value: name, span } in self.table.list::<String>("remove") {
            if self.is_good(&name, &span, true) && self.is_first(&mut named, &name, &span) {
                rules.push(self.rule(&name, Change::Remove));
            }
        }
        for (name, value, span) in self.table.entries("set", FORM) {
            let is_good = self.is_good(name, &span, false) && self.is_first(&mut named, name, &span);
            let value = self.value(name, value);
            rules.extend(value.filter(|_| is_good).map(|value| self.rule(name, Change::Set(value))));
        }
        for (name, value, span) in self.table.entries("add", FORM) {
            let is_good = self.is_good(name, &span, true);
            let values = match value {
                Item::Value(TomlValue::Array(array)) => array.iter().map(|value| self.text(name, value)).collect(),
                value => vec![self.value(name, value)],
            };
            let add = |value| self.rule(name, Change::Add(value));
            rules.extend(values.into_iter().flatten().filter(|_| is_good).map(add));
        }
        rules
    }

    fn rule(&self, name: &str, change: Change) -> HeaderRule {
        HeaderRule { name: name.into(), change, always: self.always }
    }

    fn is_good(&self, name: &str, span: &Option<Span>, may_be_missing: bool) -> bool {
        let refused = refusal(name, self.direction).or_else(|| {
            // RFC 9112 section 3.2: a request has one.
            let is_host = self.direction == Direction::Request && name.eq_ignore_ascii_case("host");
            (is_host && may_be_missing).then(|| "a request has exactly one Host: use `set`".into())
        });
        match refused {
            None => true,
            Some(label) => {
                self.mistake(name, span.clone(), label);
                false
            }
        }
    }

    /// The name has no rule in `named` yet, to which it is added.
    fn is_first(&self, named: &mut Vec<(String, Option<Span>)>, name: &str, span: &Option<Span>) -> bool {
        if let Some((_, first)) = named.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            let title = format!("`{name}` stands twice in {}", self.table.title);
            let label = "keep one: `set` takes the old field away by itself";
            self.table.cx.mistake(Problem::new(title, span.clone(), label).related(first.clone(), "the first one"));
            return false;
        }
        named.push((name.into(), span.clone()));
        true
    }

    fn value(&self, name: &str, item: &Item) -> Option<Template> {
        match item {
            Item::Value(value) => self.text(name, value),
            item => {
                self.mistake(name, item.span(), format!("it is {}: write a text", type_name(item)));
                None
            }
        }
    }

    fn text(&self, name: &str, value: &TomlValue) -> Option<Template> {
        let Some(text) = value.as_str() else {
            self.mistake(name, value.span(), "write a text".into());
            return None;
        };
        if let Err(label) = parse_field(text) {
            self.mistake(name, value.span(), label);
            return None;
        }
        let title = format!("bad value for `{name}` in {}", self.table.title);
        template(self.table.cx, &title, text, value.span(), self.scope)
    }

    fn mistake(&self, name: &str, span: Option<Span>, label: String) {
        self.table.cx.mistake(Problem::new(format!("bad field `{name}` in {}", self.table.title), span, label));
    }
}
