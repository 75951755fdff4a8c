//! Lists of servers as upstreams and splitters have them: texts and tables, in a list, alone, or as `[[TABLE.NAME.KEY]]`.

use toml_edit::{Item, Value as TomlValue};

use crate::config::key::Table;
use crate::config::report::{Problem, Span};
use crate::config::section::{Placed, Section, type_name, value_type_name};

/// How one server is read.
pub(super) struct Entries<'f, 'a, T> {
    /// The key of the list.
    pub(super) key: &'f str,
    /// What a table in it is.
    pub(super) table: Table,
    /// A text stands for a server by its address. Errors: what is wrong with it.
    pub(super) from_text: &'f dyn Fn(&str) -> Result<T, String>,
    /// `None`: a mistake, which was reported.
    pub(super) from_table: &'f dyn Fn(&Section<'a>) -> Option<T>,
}

impl<'a, T> Entries<'_, 'a, T> {
    /// The servers in `section`, without those that are mistakes; none when the key is not there.
    pub(super) fn read(&self, section: &Section<'a>) -> Vec<Placed<T>> {
        match section.item(self.key) {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => {
                tables.iter().filter_map(|table| self.table(section, table, table.span())).collect()
            }
            Some(Item::Value(TomlValue::Array(array))) => {
                array.iter().filter_map(|value| self.value(section, value)).collect()
            }
            Some(Item::Value(value)) => self.value(section, value).into_iter().collect(),
            Some(item) => {
                let label = format!("it is {}: write a list, such as [\"127.0.0.1:9000\"]", type_name(item));
                section.bad_value(self.key, label);
                Vec::new()
            }
        }
    }

    fn table(
        &self,
        section: &Section<'a>,
        toml: &'a dyn toml_edit::TableLike,
        span: Option<Span>,
    ) -> Option<Placed<T>> {
        let title = format!("{} of {}", self.key, section.title);
        let value = (self.from_table)(&Section::new(section.cx, self.table, title, toml, span.clone()))?;
        Some(Placed { value, span })
    }

    fn value(&self, section: &Section<'a>, value: &'a TomlValue) -> Option<Placed<T>> {
        let span = value.span();
        let bad = |label: String| {
            section.cx.mistake(Problem::new(format!("bad server in {}", section.title), span.clone(), label));
        };
        match value {
            TomlValue::InlineTable(table) => self.table(section, table, span),
            TomlValue::String(text) => match (self.from_text)(text.value()) {
                Ok(value) => Some(Placed { value, span }),
                Err(label) => {
                    bad(label);
                    None
                }
            },
            _ => {
                bad(format!("it is {}: write an address or a table", value_type_name(value)));
                None
            }
        }
    }
}
