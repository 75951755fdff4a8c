//! One table of the config while it is read: typed access by key, with the mistakes collected on the way.
//!
//! A value comes from a flag if there is one, else from the file, else from the key's default, so that reading goes on
//! after a mistake and the next one is found too.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use toml_edit::{Item, TableLike, Value as TomlValue};

use super::key::{Absent, Key, Table};
use super::keys;
use super::report::{Problem, Span};
use super::suggest;
use super::value::{FromValue, Kind, Value};
use crate::config::model::RunAs;
use crate::runtime::sys::users::{Account, AccountError};
use crate::util::template::OwnName;
use crate::variables::Lookup;

/// Values given as flags; they win over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(Table, &'static str, Value)>);

impl Overrides {
    /// Sets `key` to `value`, which [`Kind::parse`] of that key made.
    pub fn set(&mut self, key: &'static Key, value: Value) {
        self.0.retain(|(table, name, _)| (*table, *name) != (key.table, key.name));
        self.0.push((key.table, key.name, value));
    }

    /// Takes over everything that `other` sets.
    pub fn extend(&mut self, other: Overrides) {
        for (table, name, _) in &other.0 {
            self.0.retain(|(t, n, _)| (t, n) != (table, name));
        }
        self.0.extend(other.0);
    }

    /// Whether the key of that name has a value here.
    pub fn has(&self, table: Table, name: &str) -> bool {
        self.get(table, name).is_some()
    }

    pub(super) fn get(&self, table: Table, name: &str) -> Option<&Value> {
        self.0.iter().find(|(t, n, _)| *t == table && *n == name).map(|(_, _, value)| value)
    }
}

/// What the compiler may ask of the machine: reading only. A pure parse has none.
pub(super) trait Outside {
    /// The first line of a small file.
    fn first_line(&self, path: &Path) -> io::Result<String>;
    /// The text of a file of at most so many bytes.
    fn text(&self, path: &Path, bytes_max: u64) -> io::Result<String>;
    /// Whether others than owner and group may read the file; false when that cannot be told.
    fn is_readable_by_all(&self, path: &Path) -> bool;
    /// Whether it is a folder.
    fn is_folder(&self, path: &Path) -> bool;
    /// The content of a regular file of at most so many bytes.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Not being able to read a key or a password is no mistake of the config: the process has read it as root, and has
    /// become another user since, who goes on with what was read.
    fn is_excused(&self, _error: &io::Error) -> bool {
        false
    }
    /// Permission bits, see chmod(2); `None` when they cannot be told.
    fn mode(&self, path: &Path) -> Option<u32>;
    /// The account of a user.
    fn account(&self, run_as: &RunAs) -> Result<Account, AccountError>;
    /// The file that a command's first word means, seen from a folder and by PATH, the process's own one if none is given.
    /// Errors: there is none that can be run, for a person.
    fn find_program(&self, word: &str, folder: &Path, path: Option<&str>) -> Result<PathBuf, String>;
    /// php-fpm of this machine, the newest where there are several; `None`: it is not installed.
    fn find_php(&self) -> Option<PathBuf>;
    /// Whether that account may read a file, as far as its owners and modes tell; `None` when they cannot be told.
    fn may_read(&self, path: &Path, account: &Account) -> Option<bool>;
    /// The time, by which certificates expire.
    fn now(&self) -> SystemTime;
}

/// What a file defines in `[map.NAME]`, `[geo.NAME]` and `[split.NAME]`, and the names in all its `variables`.
#[derive(Default)]
pub(super) struct Defined {
    /// By number of the lookup.
    pub(super) names: Vec<OwnName>,
    pub(super) lookups: Vec<Lookup>,
    /// By number of the variable that is set.
    pub(super) set: Vec<String>,
}

/// What all sections of one config share.
pub(super) struct Context<'a> {
    /// Programs that `[app.NAME]` may name.
    pub(super) programs: &'a [&'a str],
    pub(super) overrides: &'a Overrides,
    pub(super) outside: Option<&'a dyn Outside>,
    /// The file; empty when there is none.
    pub(super) text: &'a str,
    /// Variables that the file defines; set before any text that may use them is compiled.
    pub(super) defined: OnceCell<Defined>,
    /// Names of the limits, in order of writing, for what names them.
    pub(super) limits: RefCell<Vec<String>>,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(programs: &'a [&'a str], overrides: &'a Overrides, outside: Option<&'a dyn Outside>) -> Self {
        let (limits, problems, warnings) = (RefCell::default(), RefCell::default(), RefCell::default());
        Context { programs, overrides, outside, text: "", defined: OnceCell::new(), limits, problems, warnings }
    }

    /// Variables that the file defines for all of it.
    pub(super) fn own_names(&self) -> &[OwnName] {
        self.defined.get().map_or(&[], |defined| &defined.names)
    }

    /// Whether `variables` somewhere in the file have this name.
    pub(super) fn is_set_somewhere(&self, name: &str) -> bool {
        self.defined.get().is_some_and(|defined| defined.set.iter().any(|known| known == name))
    }

    pub(super) fn mistake(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn warn(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }
}

/// A value and its place in the file; no place when it comes from a flag or a default.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Option<Span>,
}

/// One table: what it is, what the file says in it.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) table: Table,
    /// How messages call it: `[upstream.api]`.
    pub(super) title: String,
    /// Where it begins.
    pub(super) span: Option<Span>,
    toml: Option<&'a dyn TableLike>,
}

impl<'a> Section<'a> {
    /// A table that the file does not have: flags and defaults only.
    pub(super) fn absent(cx: &'a Context<'a>, table: Table) -> Section<'a> {
        Section { cx, table, title: table.header().into(), span: None, toml: None }
    }

    /// A table of the file; reports its unknown keys.
    pub(super) fn new(
        cx: &'a Context<'a>,
        table: Table,
        title: String,
        toml: &'a dyn TableLike,
        span: Option<Span>,
    ) -> Section<'a> {
        let section = Section { cx, table, title, span, toml: Some(toml) };
        section.report_unknown_keys();
        section
    }

    /// The table in `item`; anything else there is a mistake.
    pub(super) fn from_item(
        cx: &'a Context<'a>,
        table: Table,
        title: String,
        item: &'a Item,
        span: Option<Span>,
    ) -> Option<Section<'a>> {
        let span = item.span().or(span);
        match item.as_table_like() {
            Some(toml) => Some(Section::new(cx, table, title, toml, span)),
            None => {
                let label = match item {
                    Item::ArrayOfTables(_) => format!("write it once, with single brackets: {title}"),
                    _ => format!("it is {}, but must be a table: {title}", type_name(item)),
                };
                cx.mistake(Problem::new(format!("{title} is not a table"), span, label));
                None
            }
        }
    }

    /// The same keys read as those of another table, whose descriptions count. What is unknown was reported already.
    pub(super) fn read_as(&self, table: Table) -> Section<'a> {
        Section { table, ..self.clone() }
    }

    /// Whether the file has the table, or a flag gives its address.
    pub(super) fn is_wanted(&self) -> bool {
        self.toml.is_some() || self.cx.overrides.has(self.table, "address")
    }

    /// The item of a key as the file has it.
    pub(super) fn item(&self, name: &str) -> Option<&'a Item> {
        self.toml?.get(name).filter(|item| !item.is_none())
    }

    /// Place of the key's name.
    pub(super) fn key_span(&self, name: &str) -> Option<Span> {
        self.toml?.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| self.span.clone())
    }

    /// Place of the key's value, or of the table when the key is not written.
    pub(super) fn value_span(&self, name: &str) -> Option<Span> {
        self.item(name).and_then(Item::span).or_else(|| self.key_span(name))
    }

    /// The value of a key that has a default.
    pub(super) fn get<T: FromValue>(&self, name: &str) -> T {
        match self.value(name).or_else(|| self.key(name).default_value()) {
            Some(value) => T::from_value(value),
            None => panic!("{}.{name} has no default", self.table.header()),
        }
    }

    /// The value of a key that may be absent.
    pub(super) fn find<T: FromValue>(&self, name: &str) -> Option<T> {
        debug_assert!(matches!(self.key(name).absent, Absent::Means(_)), "{name}");
        self.value(name).map(T::from_value)
    }

    /// The value of a key that must be there; reports its absence.
    pub(super) fn need<T: FromValue>(&self, name: &str) -> Option<T> {
        debug_assert_eq!(self.key(name).absent, Absent::Required, "{name}");
        if self.item(name).is_none() && !self.cx.overrides.has(self.table, name) {
            self.report_missing(name);
            return None;
        }
        self.value(name).map(T::from_value)
    }

    /// The entries of a list, each with its place. A mistake in one entry does not hide the others.
    pub(super) fn list<T: FromValue>(&self, name: &str) -> Vec<Placed<T>> {
        let key = self.key(name);
        let Kind::List(kind) = key.kind else { panic!("{name} is no list") };
        let without_place = |value: Option<Value>| {
            let Some(Value::List(values)) = value else { return Vec::new() };
            values.into_iter().map(|value| Placed { value: T::from_value(value), span: None }).collect()
        };
        if let Some(value) = self.cx.overrides.get(self.table, name) {
            return without_place(Some(value.clone()));
        }
        let Some(item) = self.item(name) else {
            if key.absent == Absent::Required {
                self.report_missing(name);
            }
            return without_place(key.default_value());
        };
        let entry = |value: &TomlValue| {
            let span = value.span();
            let value = self.report_bad(key, parse_value(kind, value), span.clone())?;
            Some(Placed { value: T::from_value(value), span })
        };
        match item {
            Item::Value(TomlValue::Array(array)) => array.iter().filter_map(entry).collect(),
            Item::Value(value) => entry(value).into_iter().collect(),
            _ => {
                self.report_bad(key, Err::<Value, _>(wrong_type(&key.kind, type_name(item))), item.span());
                Vec::new()
            }
        }
    }

    /// Names and values of the table in `name`, with the places of the names. Anything else there is a mistake; `form` says
    /// what to write.
    pub(super) fn entries(&self, name: &str, form: &str) -> Vec<(&'a str, &'a Item, Option<Span>)> {
        let Some(item) = self.item(name) else { return Vec::new() };
        let Some(toml) = item.as_table_like() else {
            self.bad_value(name, format!("it is {}: write {form}", type_name(item)));
            return Vec::new();
        };
        let place = |name: &str| toml.key(name).and_then(|key| key.span()).or_else(|| item.span());
        TableLike::iter(toml)
            .filter(|(_, item)| !item.is_none())
            .map(|(name, value)| (name, value, place(name)))
            .collect()
    }

    /// Reports a mistake at the value of a key.
    pub(super) fn bad_value(&self, name: &str, label: impl Into<String>) {
        let title = format!("bad value for `{name}` in {}", self.title);
        self.cx.mistake(Problem::new(title, self.value_span(name), label));
    }

    /// Whether an unknown key of the table is likely to be one of `names`, misspelt: then its absence is no second
    /// mistake.
    pub(super) fn may_be_misspelt(&self, names: &[&str]) -> bool {
        let Some(toml) = self.toml else { return false };
        let meant = |written: &str| meant_key(self.table, written).is_some_and(|key| names.contains(&key.name));
        toml.iter().any(|(written, item)| !item.is_none() && self.table.key(written).is_none() && meant(written))
    }

    /// Reports that a key is missing.
    pub(super) fn report_missing(&self, name: &str) {
        if self.may_be_misspelt(&[name]) {
            return;
        }
        let label = format!("add `{name}`: {}", self.key(name).kind.describe());
        self.cx.mistake(Problem::new(format!("missing key `{name}` in {}", self.title), self.span.clone(), label));
    }

    /// The same of a key that is needed only together with others; `example` shows what to write.
    pub(super) fn report_missing_of(&self, name: &str, example: &str) {
        if !self.may_be_misspelt(&[name]) {
            let label = format!("add `{name}`, such as {name} = {example}");
            self.cx.mistake(Problem::new(format!("missing key `{name}` in {}", self.title), self.span.clone(), label));
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        match self.table.key(name) {
            Some(key) => key,
            None => panic!("{}.{name} is not described in config::keys", self.table.header()),
        }
    }

    /// From flag or file; a mistake in the file is reported and counts as absent.
    fn value(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.cx.overrides.get(self.table, name) {
            return Some(value.clone());
        }
        let (key, item) = (self.key(name), self.item(name)?);
        let parsed = match item {
            Item::Value(value) => parse_value(&key.kind, value),
            _ => Err(wrong_type(&key.kind, type_name(item))),
        };
        self.report_bad(key, parsed, item.span())
    }

    fn report_bad<T>(&self, key: &Key, parsed: Result<T, String>, span: Option<Span>) -> Option<T> {
        let label = match parsed {
            Ok(value) => return Some(value),
            Err(label) => label,
        };
        let span = span.or_else(|| self.value_span(key.name));
        self.cx.mistake(Problem::new(format!("bad value for `{}` in {}", key.name, self.title), span, label));
        None
    }

    fn report_unknown_keys(&self) {
        let Some(toml) = self.toml else { return };
        for (name, item) in toml.iter() {
            if item.is_none() || self.table.key(name).is_some() {
                continue;
            }
            let title = format!("unknown key `{name}` in {}", self.title);
            self.cx.mistake(Problem::new(title, self.key_span(name), unknown_key_advice(self.table, name)));
        }
    }
}

/// The key of the table that an unknown name is likely to mean.
fn meant_key(table: Table, name: &str) -> Option<&'static Key> {
    known_elsewhere(table.all_keys(), name)
        .map(|(key, _)| key)
        .or_else(|| suggest::nearest(name, table.all_keys().map(|key| key.name)).and_then(|near| table.key(near)))
}

/// What to write instead of a key that the table does not have.
fn unknown_key_advice(table: Table, name: &str) -> String {
    let takes = |key: &Key| format!("it takes {}", key.kind.describe());
    if let Some((key, program)) = known_elsewhere(table.all_keys(), name) {
        return format!("what {program} calls so is `{}` here; {}", key.name, takes(key));
    }
    if let Some(key) = meant_key(table, name) {
        return format!("did you mean `{}`? {}", key.name, takes(key));
    }
    if let Some(key) = keys::all().find(|key| key.name == name) {
        return format!("`{name}` belongs in {}", key.table.header());
    }
    if let Some((key, program)) = known_elsewhere(keys::all(), name) {
        return format!("what {program} calls so is `{}` in {}; {}", key.name, key.table.header(), takes(key));
    }
    let similar: Vec<&Key> = table.all_keys().filter(|key| suggest::has_part(name, key.name)).collect();
    match similar[..] {
        [] => format!("the keys here are {}", join(table.all_keys(), ", ")),
        [key] => format!("did you mean `{}`? {}", key.name, takes(key)),
        _ => format!("did you mean {}?", join(similar.into_iter(), " or ")),
    }
}

fn join<'a>(keys: impl Iterator<Item = &'a Key>, between: &str) -> String {
    keys.map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(between)
}

/// The key that another program calls `name`, and that program.
fn known_elsewhere(keys: impl Iterator<Item = &'static Key>, name: &str) -> Option<(&'static Key, &'static str)> {
    for key in keys {
        for known in key.known_as {
            // `program name`, or `program context name`.
            if let (Some((program, _)), Some((_, theirs))) = (known.split_once(' '), known.rsplit_once(' '))
                && theirs == name
            {
                return Some((key, program));
            }
        }
    }
    None
}

fn parse_value(kind: &Kind, value: &TomlValue) -> Result<Value, String> {
    match (kind, value) {
        (_, TomlValue::String(text)) => kind.parse(text.value()),
        (_, TomlValue::Integer(number)) => kind.parse_number(*number.value()),
        (Kind::Switch, TomlValue::Boolean(switch)) => Ok(Value::Switch(*switch.value())),
        (Kind::Output | Kind::SocketAddressOrOff | Kind::DurationOrOff { .. }, TomlValue::Boolean(switch))
            if !switch.value() =>
        {
            Ok(Value::Off)
        }
        _ => Err(wrong_type(kind, value_type_name(value))),
    }
}

fn wrong_type(kind: &Kind, found: &str) -> String {
    format!("it is {found}, but the key takes {}", kind.describe())
}

/// What a person would call the TOML type.
pub(super) fn type_name(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => value_type_name(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
    }
}

pub(super) fn value_type_name(value: &TomlValue) -> &'static str {
    match value {
        TomlValue::String(_) => "a text",
        TomlValue::Integer(_) => "a whole number",
        TomlValue::Float(_) => "a number with a fraction",
        TomlValue::Boolean(switch) if *switch.value() => "`true`",
        TomlValue::Boolean(_) => "`false`",
        TomlValue::Datetime(_) => "a date or time",
        TomlValue::Array(_) => "a list",
        TomlValue::InlineTable(_) => "a table",
    }
}
