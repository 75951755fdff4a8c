//! What a session has before it sets anything, as far as results hang on it: the global values of a server. A replica on which these
//! are others than on the primary would answer the same read in another way; and a session keeps those that there were at its login.
//! Pure.
//!
//! Left out: what the login or every session sets by itself (character sets), what only matters to who writes, and limits whose
//! passing is an error.
//!
//! Sources: MariaDB knowledge base, "Server System Variables"; MySQL 8.4 reference manual, "Server System Variables".

use super::probe::Table;
use super::sql::Mode;

/// Variables that change what a read returns. Those that a server does not have are left out.
pub(super) const NAMES: [&str; 20] = [
    "time_zone",
    "lc_time_names",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "sql_select_limit",
    "sql_auto_is_null",
    "max_sort_length",
    "old_mode",
    "old_passwords",
    "block_encryption_mode",
    "default_regex_flags",
    "character_set_collations",
    "default_collation_for_utf8mb4",
    "max_recursive_iterations",
    "windowing_use_high_precision",
    "ft_boolean_syntax",
    "lower_case_table_names",
    "sql_notes",
    "max_error_count",
];

/// The names of the isolation level: transactions on a replica are given the primary's. Reads by themselves are the same on all levels
/// but one.
const ISOLATION: [&str; 2] = ["tx_isolation", "transaction_isolation"];

/// What tells the time zone of a server's system, and the name of its column: noon of a winter's and of a summer's day there, in UTC.
/// `system_time_zone` names the half of the year in which the server was started, and the same for zones of several countries.
pub(super) const SYSTEM_ZONE: (&str, &str) = (
    "CONCAT(CONVERT_TZ('2026-01-15 12:00:00', 'SYSTEM', '+00:00'), ' and ', \
     CONVERT_TZ('2026-07-15 12:00:00', 'SYSTEM', '+00:00'))",
    "system_zone",
);

/// With what the sessions of a server begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults(Vec<(&'static str, String)>);

impl Defaults {
    /// Out of the answer to what asks for the values, one row.
    pub(super) fn new(variables: &Table) -> Defaults {
        let value = |name: &str| variables.named(0, name).map(str::to_owned);
        let named = |name: &'static str| Some((name, value(name)?));
        let modes = named("sql_mode");
        // The system's counts for nothing where another one is set.
        let is_of_system = value("time_zone").is_none_or(|zone| zone.eq_ignore_ascii_case("SYSTEM"));
        let zone = value(SYSTEM_ZONE.1).filter(|_| is_of_system).map(|noon| ("noon in the system's time zone", noon));
        let level = ISOLATION.into_iter().find_map(value);
        let is_dirty = level.map(|level| if level == "READ-UNCOMMITTED" { "ON" } else { "OFF" }.to_owned());
        let is_dirty = is_dirty.map(|is_dirty| ("isolation level READ-UNCOMMITTED", is_dirty));
        let names = NAMES.into_iter().filter_map(named);
        Defaults(modes.into_iter().chain(zone).chain(is_dirty).chain(names).collect())
    }

    /// The first value that is another one than on the primary; one that only one of them has says nothing.
    pub(super) fn unlike(&self, primary: &Defaults) -> Option<String> {
        self.0.iter().find_map(|(name, value)| {
            let (_, other) = primary.0.iter().find(|(known, other)| known == name && other != value)?;
            Some(format!("{name} is '{value}' there and '{other}' on the primary"))
        })
    }
}

/// Variables whose global value at its login a session keeps, whatever is SET GLOBAL later: they can be set for a session again, by
/// any account and on every server alike.
const KEPT: [&str; 30] = [
    "sql_mode",
    "time_zone",
    "lc_time_names",
    "lc_messages",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "sql_select_limit",
    "max_sort_length",
    "old_mode",
    "sql_notes",
    "sql_warnings",
    "max_error_count",
    "max_recursive_iterations",
    "cte_max_recursion_depth",
    "windowing_use_high_precision",
    "tx_isolation",
    "transaction_isolation",
    "tx_read_only",
    "transaction_read_only",
    "foreign_key_checks",
    "unique_checks",
    "sql_safe_updates",
    "max_statement_time",
    "max_execution_time",
    "lock_wait_timeout",
    "innodb_lock_wait_timeout",
    "default_storage_engine",
    "join_buffer_size",
    "sort_buffer_size",
];

/// Those that are asked for because of this alone.
pub(super) fn kept_alone() -> impl Iterator<Item = &'static str> {
    KEPT.into_iter().filter(|name| *name != "sql_mode" && !NAMES.contains(name))
}

/// What sessions begin with that log on now, and keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Of this server; `None`: of none that leads.
    pub(super) server: Option<usize>,
    values: Vec<(&'static str, String)>,
}

impl Beginning {
    /// Out of the answer to what asks for the values, one row.
    pub(super) fn new(variables: &Table) -> Beginning {
        let named = |name: &'static str| Some((name, variables.named(0, name)?.to_owned()));
        Beginning { server: None, values: KEPT.into_iter().filter_map(named).collect() }
    }

    /// The same, on a server that leads.
    pub(super) fn on(&self, server: usize) -> Beginning {
        Beginning { server: Some(server), ..self.clone() }
    }

    /// Whether it is that, on this server.
    pub(super) fn is_of(&self, server: usize, other: &Beginning) -> bool {
        self.server == Some(server) && self.values == other.values
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// The isolation level.
    pub(super) fn isolation(&self) -> Option<&str> {
        ISOLATION.into_iter().find_map(|name| self.value(name))
    }

    /// How statements are read by these sessions; the rest of `mode` is as it is.
    pub(super) fn mode(&self, mode: Mode) -> Mode {
        let Some(sql_mode) = self.value("sql_mode") else { return mode };
        let has = |flag: &str| sql_mode.split(',').any(|part| part == flag);
        Mode {
            ansi_quotes: has("ANSI_QUOTES"),
            no_backslash_escapes: has("NO_BACKSLASH_ESCAPES"),
            ignore_space: has("IGNORE_SPACE"),
            oracle: has("ORACLE"),
            ..mode
        }
    }

    /// What sessions that began with this have, and those that begin with `now` do not.
    pub(super) fn changed<'a>(&'a self, now: &'a Beginning) -> impl Iterator<Item = (&'static str, &'a str)> {
        let is_other = |name: &str, value: &str| now.value(name).is_some_and(|other| other != value);
        self.values.iter().filter(move |(name, value)| is_other(name, value)).map(|(name, value)| (*name, &**value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_set_again() {
        for name in KEPT {
            assert!(crate::mysql::session::VARIABLES.contains(&name), "{name}");
        }
        let beginning = |values: &[(&str, &str)]| {
            Beginning::new(&Table {
                columns: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
                rows: vec![values.iter().map(|(_, value)| Some((*value).to_owned())).collect()],
            })
        };
        let before =
            beginning(&[("sql_mode", "ANSI_QUOTES"), ("time_zone", "SYSTEM"), ("sql_notes", "1"), ("other", "1")]);
        let now = beginning(&[("sql_mode", ""), ("time_zone", "SYSTEM"), ("max_error_count", "1"), ("other", "2")]);
        assert_eq!(before.changed(&now).collect::<Vec<_>>(), [("sql_mode", "ANSI_QUOTES")]);
        assert!(before.mode(Mode::default()).ansi_quotes && !now.mode(before.mode(Mode::default())).ansi_quotes);
        assert!(beginning(&[]).mode(before.mode(Mode::default())).ansi_quotes, "nobody knows better");
    }

    fn defaults(values: &[(&str, &str)]) -> Defaults {
        Defaults::new(&Table {
            columns: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows: vec![values.iter().map(|(_, value)| Some((*value).to_owned())).collect()],
        })
    }

    #[test]
    fn what_is_another_is_named() {
        let primary = defaults(&[
            ("sql_mode", "A"),
            ("time_zone", "SYSTEM"),
            ("system_zone", "12"),
            ("version", "11"),
            ("tx_isolation", "REPEATABLE-READ"),
        ]);
        assert_eq!(primary.unlike(&primary), None);
        for (values, expect) in [
            (&[("sql_mode", "A,B")][..], Some("sql_mode is 'A,B' there and 'A' on the primary")),
            (
                &[("time_zone", "+01:00"), ("system_zone", "11")],
                Some("time_zone is '+01:00' there and 'SYSTEM' on the primary"),
            ),
            (
                &[("time_zone", "SYSTEM"), ("system_zone", "11")],
                Some("noon in the system's time zone is '11' there and '12' on the primary"),
            ),
            (&[("sql_mode", "A"), ("version", "12")], None),
            (&[("max_sort_length", "9")], None),
            (&[("transaction_isolation", "SERIALIZABLE")], None),
            (
                &[("tx_isolation", "READ-UNCOMMITTED")],
                Some("isolation level READ-UNCOMMITTED is 'ON' there and 'OFF' on the primary"),
            ),
        ] {
            assert_eq!(defaults(values).unlike(&primary).as_deref(), expect, "{values:?}");
        }
        let own_zone = |system| defaults(&[("time_zone", "+00:00"), ("system_zone", system)]);
        assert_eq!(own_zone("12").unlike(&own_zone("11")), None);
    }
}
