//! What a session has set, and can be given on any connection: its database and the variables that trackers tell of in full. Pure.

use super::super::sql::Mode;
use super::super::sql::lexer::{Lexer, Token};

/// Session variables whose value can be read from a tracker and set again elsewhere, in the order they are set.
/// Everything else pins. `autocommit` is absent: the status flags tell it.
pub static VARIABLES: &[&str] = &[
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "time_zone",
    "sql_mode",
    "tx_isolation",
    "transaction_isolation",
    "tx_read_only",
    "transaction_read_only",
    "foreign_key_checks",
    "unique_checks",
    "sql_safe_updates",
    "sql_notes",
    "sql_warnings",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_quote_show_create",
    "sql_select_limit",
    "sql_buffer_result",
    "max_join_size",
    "max_error_count",
    "max_length_for_sort_data",
    "max_sort_length",
    "max_statement_time",
    "max_execution_time",
    "max_recursive_iterations",
    "group_concat_max_len",
    "default_week_format",
    "div_precision_increment",
    "lc_messages",
    "lc_time_names",
    "net_read_timeout",
    "net_write_timeout",
    "wait_timeout",
    "interactive_timeout",
    "idle_transaction_timeout",
    "lock_wait_timeout",
    "innodb_lock_wait_timeout",
    "join_buffer_size",
    "sort_buffer_size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "tmp_table_size",
    "max_heap_table_size",
    "optimizer_switch",
    "optimizer_search_depth",
    "optimizer_prune_level",
    "default_storage_engine",
    "old_mode",
    "auto_increment_increment",
    "auto_increment_offset",
    "group_replication_consistency",
    "cte_max_recursion_depth",
    "information_schema_stats_expiry",
    "explain_format",
    "explain_json_format_version",
    "default_tmp_storage_engine",
    "internal_tmp_mem_storage_engine",
    "range_optimizer_max_mem_size",
    "eq_range_index_dive_limit",
    "windowing_use_high_precision",
    "end_markers_in_json",
    "updatable_views_with_limit",
];

/// Whether a session remembers the value of a variable otherwise than by staying where it was set.
pub(super) fn has_place(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"autocommit" | b"last_insert_id" | b"identity" => true,
        // Reads that compare with NULL ask for the last insert id then, which only one connection knows.
        b"sql_auto_is_null" if value == b"ON" => false,
        _ => place_of(name).is_some(),
    }
}

/// Whether all that a SET names is remembered otherwise than by staying where it was set; `false`: or it is not plain to see.
pub(in super::super) fn sets_what_goes_along(sql: &[u8], mode: Mode) -> bool {
    let is_any = |word: &[u8], words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    let goes_along = |name: &[u8]| has_place(&name.to_ascii_lowercase(), b"ON");
    // Behind TRANSACTION commas stand between its characteristics, and nothing else may be set.
    let (mut lexer, mut depth, mut begins, mut is_of_transaction) = (Lexer::new(sql, mode), 0u32, true, false);
    if !matches!(lexer.next(), Some(Token::Word(word)) if is_any(word, &["SET"])) {
        return false;
    }
    for token in lexer {
        match token {
            Token::Doubt => return false,
            Token::Sign(b',') if depth == 0 => begins = !is_of_transaction,
            Token::Word(word) if begins && is_any(word, &["SESSION", "LOCAL"]) => {}
            Token::Word(word) if begins && is_any(word, &["NAMES", "CHARACTER", "CHARSET", "TRANSACTION"]) => {
                (begins, is_of_transaction) = (false, is_any(word, &["TRANSACTION"]));
            }
            Token::Word(name) | Token::Quoted(name) if begins && goes_along(name) => begins = false,
            Token::SystemVariable(name) if begins => {
                let plain = ["session.", "local."].iter().find_map(|scope| {
                    let (start, rest) = name.split_at_checked(scope.len())?;
                    start.eq_ignore_ascii_case(scope.as_bytes()).then_some(rest)
                });
                if !goes_along(plain.unwrap_or(name)) {
                    return false;
                }
                begins = false;
            }
            _ if begins => return false,
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

pub(super) fn place_of(name: &[u8]) -> Option<usize> {
    VARIABLES.iter().position(|known| known.as_bytes() == name)
}

pub(super) const CHARACTER_SET_CLIENT: u8 = 0;
pub(super) const CHARACTER_SET_CONNECTION: u8 = 1;
pub(super) const CHARACTER_SET_RESULTS: u8 = 2;
pub(super) const COLLATION_CONNECTION: u8 = 3;
pub(super) const SQL_MODE: u8 = 5;
/// As MariaDB and old servers call it, and as MySQL does.
pub(super) const READ_ONLY: [u8; 2] = [8, 9];

/// What a connection must have set for a session: database and variables. Compared by value, shared by reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Current database.
    pub schema: Option<Vec<u8>>,
    /// Index into [`VARIABLES`] and value, ordered by index; those absent are as after login.
    pub variables: Vec<(u8, Vec<u8>)>,
    /// Collation of the character set of results, as only SET NAMES ... COLLATE and a login give it: clients see it in
    /// column definitions.
    pub results_collation: Option<Vec<u8>>,
    /// The same of `character_set_client`: parameters have it.
    pub client_collation: Option<Vec<u8>>,
}

impl State {
    pub(in super::super) fn set(&mut self, index: u8, value: &[u8]) {
        match self.variables.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => self.variables[at].1 = value.to_vec(),
            Err(at) => self.variables.insert(at, (index, value.to_vec())),
        }
    }

    pub(super) fn unset(&mut self, index: u8) {
        self.variables.retain(|(i, _)| *i != index);
    }

    pub(super) fn value(&self, index: u8) -> Option<&[u8]> {
        self.variables.iter().find(|(i, _)| *i == index).map(|(_, value)| &value[..])
    }

    /// Character set and collation that only SET NAMES gives to both the client and results, or to one of them.
    fn names(&self) -> Option<(&[u8], &[u8])> {
        let is_word = |text: &&[u8]| text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let (index, collation) = match (&self.client_collation, &self.results_collation) {
            (Some(collation), _) => (CHARACTER_SET_CLIENT, collation),
            (None, Some(collation)) => (CHARACTER_SET_RESULTS, collation),
            (None, None) => return None,
        };
        Some((self.value(index).filter(is_word)?, Some(&collation[..]).filter(is_word)?))
    }

    /// Whether everything but the database is the same.
    pub fn has_settings_of(&self, other: &State) -> bool {
        self.variables == other.variables
            && self.results_collation == other.results_collation
            && self.client_collation == other.client_collation
    }

    /// Whether the session has set its `sql_mode`.
    pub fn has_sql_mode(&self) -> bool {
        self.value(SQL_MODE).is_some()
    }

    /// Appends `, name=value` for each variable.
    pub fn put_assignments(&self, out: &mut Vec<u8>) {
        let names = self.names();
        if let Some((charset, collation)) = names {
            out.extend_from_slice(&[b", NAMES '", charset, b"' COLLATE '", collation, b"'"].concat());
        }
        let is_named =
            |collation: &Option<Vec<u8>>| names.is_some_and(|(_, named)| collation.as_deref() == Some(named));
        let told = |index: u8| match index {
            CHARACTER_SET_CLIENT => is_named(&self.client_collation),
            CHARACTER_SET_RESULTS => is_named(&self.results_collation),
            _ => false,
        };
        for (index, value) in self.variables.iter().filter(|(index, _)| !told(*index)) {
            out.extend_from_slice(b", ");
            out.extend_from_slice(VARIABLES[usize::from(*index)].as_bytes());
            out.push(b'=');
            put_value(out, value);
        }
    }
}

/// A number as it is, anything else as a string; hexadecimal where quoting could be misread.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_number = digits.first().is_some_and(u8::is_ascii_digit)
        && digits.iter().all(|b| b.is_ascii_digit() || *b == b'.')
        && digits.iter().filter(|b| **b == b'.').count() <= 1;
    if is_number {
        out.extend_from_slice(value);
    } else if value.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'\'' | b'\\') || *b == b' ') {
        out.push(b'\'');
        out.extend_from_slice(value);
        out.push(b'\'');
    } else {
        out.extend_from_slice(b"X'");
        for byte in value {
            out.extend_from_slice(format!("{byte:02X}").as_bytes());
        }
        out.push(b'\'');
    }
}
