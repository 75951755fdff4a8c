//! What a description of a config key holds. The descriptions themselves stand in [`super::keys`].

use std::time::Duration;

use super::keys::KEYS;
use super::value::{Kind, Value};

/// A table of the config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// `[process]`
    Process,
    /// `[http]`
    Http,
    /// `[listener.NAME]`
    Listener,
    /// `[site.NAME]`
    Site,
    /// `[[site.NAME.route]]`
    Route,
    /// `files = { … }` of a route
    Files,
    /// `redirect = { … }` of a route
    Redirect,
    /// `respond = { … }` of a route
    Respond,
    /// `auth = { … }` of a site or route
    Auth,
    /// `[upstream.NAME]`
    Upstream,
    /// One entry of `servers` of an upstream
    Server,
    /// `health = { … }` of an upstream
    Health,
    /// `[app.NAME]`
    App,
    /// `[mysql.NAME]`
    Mysql,
    /// `[admin]`
    Admin,
    /// `[log]`
    Log,
}

impl Table {
    /// Every table, in the order of the manual.
    pub const ALL: [Table; 16] = [
        Table::Process,
        Table::Http,
        Table::Listener,
        Table::Site,
        Table::Route,
        Table::Files,
        Table::Redirect,
        Table::Respond,
        Table::Auth,
        Table::Upstream,
        Table::Server,
        Table::Health,
        Table::App,
        Table::Mysql,
        Table::Admin,
        Table::Log,
    ];

    /// The tables that stand at the top of a file, by their first word.
    pub(super) const TOP: [(&'static str, Table); 9] = [
        ("process", Table::Process),
        ("http", Table::Http),
        ("listener", Table::Listener),
        ("site", Table::Site),
        ("upstream", Table::Upstream),
        ("app", Table::App),
        ("mysql", Table::Mysql),
        ("admin", Table::Admin),
        ("log", Table::Log),
    ];

    /// First word of a top table; panics for the tables inside others.
    pub(super) fn top_name(self) -> &'static str {
        match Table::TOP.iter().find(|(_, table)| *table == self) {
            Some((name, _)) => name,
            None => panic!("{} stands inside another table", self.header()),
        }
    }

    /// How the table is written: `[upstream.NAME]`.
    pub fn header(self) -> &'static str {
        match self {
            Table::Process => "[process]",
            Table::Http => "[http]",
            Table::Listener => "[listener.NAME]",
            Table::Site => "[site.NAME]",
            Table::Route => "[[site.NAME.route]]",
            Table::Files => "files = { … }",
            Table::Redirect => "redirect = { … }",
            Table::Respond => "respond = { … }",
            Table::Auth => "auth = { … }",
            Table::Upstream => "[upstream.NAME]",
            Table::Server => "servers = [{ … }]",
            Table::Health => "health = { … }",
            Table::App => "[app.NAME]",
            Table::Mysql => "[mysql.NAME]",
            Table::Admin => "[admin]",
            Table::Log => "[log]",
        }
    }

    /// What the table is for, in one or two sentences.
    pub fn help(self) -> &'static str {
        match self {
            Table::Process => "Cores, drivers, queues and limits of the whole process.",
            Table::Http => "Time-outs and limits of HTTP connections to clients.",
            Table::Listener => "One listening address. The name shows in logs and metrics.",
            Table::Site => {
                "Host names with their routes. Without a match, the site with `default = true` answers, else the first one."
            }
            Table::Route => {
                "One line of a site's routing table: a path and exactly one action (files, proxy, app, redirect or respond). \
                 An exact match wins over the longest prefix."
            }
            Table::Files => "A folder to serve. `files = \"/dir\"` is short for `files = { root = \"/dir\" }`.",
            Table::Redirect => {
                "A redirect. `redirect = \"https://…\"` is short for `redirect = { to = \"https://…\" }`."
            }
            Table::Respond => "A fixed answer.",
            Table::Auth => {
                "A login by user and password (HTTP Basic) for a site or a route, which takes that of its site if it has none \
                 of its own; `auth = false` switches it off. Use it over TLS only."
            }
            Table::Upstream => "A named set of servers to balance over.",
            Table::Server => "One server of an upstream. A text is short for a table with only `address`.",
            Table::Health => {
                "The active health check of an upstream. Without the key a TCP connection is tried; `health = false` switches checks off."
            }
            Table::App => "An application that runs inside the process.",
            Table::Mysql => {
                "A MySQL read/write splitter: writes go to the primary, reads that may be answered elsewhere to the replicas."
            }
            Table::Admin => "The admin listener: live page, status, metrics. It is off without this table.",
            Table::Log => "The access log. The server's own messages go to standard error.",
        }
    }

    /// The keys that belong to the table, in the order of the manual.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.table == self)
    }

    /// The description of `name` in this table.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

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
    /// run, static, proxy, split and demo.
    Every,
    /// Only proxy.
    Proxy,
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
