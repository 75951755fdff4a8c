//! What a session has before it sets anything, as far as results hang on it: the global values of a server. A replica on which these
//! are others than on the primary would answer the same read in another way. Pure.
//!
//! Left out: what the login or every session sets by itself (character sets), what only matters to who writes, and limits whose
//! passing is an error.
//!
//! Sources: MariaDB knowledge base, "Server System Variables"; MySQL 8.4 reference manual, "Server System Variables".

use super::probe::Table;

/// Variables that change what a read returns. Those that a server does not have are left out.
pub(super) const NAMES: [&str; 19] = [
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
];

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
        Defaults(modes.into_iter().chain(zone).chain(NAMES.into_iter().filter_map(named)).collect())
    }

    /// The first value that is another one than on the primary; one that only one of them has says nothing.
    pub(super) fn unlike(&self, primary: &Defaults) -> Option<String> {
        self.0.iter().find_map(|(name, value)| {
            let (_, other) = primary.0.iter().find(|(known, other)| known == name && other != value)?;
            Some(format!("{name} is '{value}' there and '{other}' on the primary"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(values: &[(&str, &str)]) -> Defaults {
        Defaults::new(&Table {
            columns: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows: vec![values.iter().map(|(_, value)| Some((*value).to_owned())).collect()],
        })
    }

    #[test]
    fn what_is_another_is_named() {
        let primary = defaults(&[("sql_mode", "A"), ("time_zone", "SYSTEM"), ("system_zone", "12"), ("version", "11")]);
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
        ] {
            assert_eq!(defaults(values).unlike(&primary).as_deref(), expect, "{values:?}");
        }
        let own_zone = |system| defaults(&[("time_zone", "+00:00"), ("system_zone", system)]);
        assert_eq!(own_zone("12").unlike(&own_zone("11")), None);
    }
}
