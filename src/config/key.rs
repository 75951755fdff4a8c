//! What a description of a config key holds. The descriptions themselves stand in [`super::keys`].

use std::time::Duration;

pub use super::table::Table;
pub(super) use super::table::UPSTREAM_KEYS_OF_APPS;
use super::value::{Kind, Value};

/// What stands for a key that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, written as a flag would take it.
    Default(&'static str),
    /// No value; the text says what follows from that.
    Means(&'static str),
    /// A mistake.
    Required,
}

/// Commands that take the key as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOf {
    /// run, static, proxy, app, split and demo.
    Every,
    /// Only proxy; app too, where applications have the key as well.
    Proxy,
    /// Only app.
    App,
    /// Only split.
    Split,
}

/// The one description of a config key, from which parser, flags, diagnostics and manual are made.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it belongs.
    pub table: Table,
    /// Its name.
    pub name: &'static str,
    /// Type, unit and range.
    pub kind: Kind,
    /// Default.
    pub absent: Absent,
    /// What it does, one line without a full stop at the end.
    pub help: &'static str,
    /// When to change it; empty for keys that say what is wanted rather than how well it runs.
    pub when: &'static str,
    /// What users of other programs call it: `nginx client_max_body_size`.
    pub known_as: &'static [&'static str],
    /// Its flag without the dashes, and the commands that take it.
    pub flag: Option<(&'static str, FlagOf)>,
    /// What follows from leaving the flag out, where that is not the default of the key.
    pub flag_default: Option<&'static str>,
}

impl Key {
    pub(super) const fn new(table: Table, name: &'static str, kind: Kind, absent: Absent) -> Key {
        Key { table, name, kind, absent, help: "", when: "", known_as: &[], flag: None, flag_default: None }
    }

    pub(super) const fn help(mut self, help: &'static str) -> Key {
        self.help = help;
        self
    }

    pub(super) const fn when(mut self, when: &'static str) -> Key {
        self.when = when;
        self
    }

    pub(super) const fn known_as(mut self, names: &'static [&'static str]) -> Key {
        self.known_as = names;
        self
    }

    pub(super) const fn flag(mut self, flag: &'static str) -> Key {
        self.flag = Some((flag, FlagOf::Every));
        self
    }

    pub(super) const fn flag_default(mut self, text: &'static str) -> Key {
        self.flag_default = Some(text);
        self
    }

    pub(super) const fn flag_of(mut self, command: FlagOf, flag: &'static str) -> Key {
        self.flag = Some((flag, command));
        self
    }

    /// Whether the commands of `of` have its flag.
    pub fn has_flag_of(&self, of: FlagOf) -> bool {
        let is_of_apps =
            || self.table == Table::Health || Table::App.key(self.name).is_some_and(|own| own.table == self.table);
        match self.flag {
            Some((_, family)) => family == of || (family == FlagOf::Proxy && of == FlagOf::App && is_of_apps()),
            None => false,
        }
    }

    /// The default as a value; `None` when the key has none. Panics when the description contradicts itself, which
    /// a test rules out.
    pub(super) fn default_value(&self) -> Option<Value> {
        match self.absent {
            Absent::Default(text) => match self.kind.parse(text) {
                Ok(value) => Some(value),
                Err(error) => panic!("default of {}.{}: {error}", self.table.header(), self.name),
            },
            Absent::Means(_) | Absent::Required => None,
        }
    }
}

pub(super) const fn duration(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

pub(super) const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

pub(super) const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}
