//! One client's session: what it has set, what it must see, and which server may answer its next statement. Pure.
//!
//! State is learned from the session trackers in OK packets, and from the lexer where trackers are silent. When
//! neither is certain, the session is pinned to one connection of the primary, which is reset before anyone else
//! gets it.

use std::rc::Rc;

use super::gtid::{Gtid, Position};
use super::gtid_set::GtidSet;
use super::protocol::capability::{
    IGNORE_SPACE, STATUS_ANSI_QUOTES, STATUS_AUTOCOMMIT, STATUS_IN_TRANS, STATUS_IN_TRANS_READONLY,
    STATUS_NO_BACKSLASH_ESCAPES,
};
use super::protocol::follow::{Cut, Outcome};
use super::protocol::tracker::{Change, Changes};
use super::sql::{Access, Charset, Class, Forgets, Kind, LockStep, Mode, Pin};
use super::token::{News, Token};

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

/// Whether all that a SET or USE has changed, as its OK packets tell, can be set again on any other connection.
pub(super) fn is_portable(changes: &[u8]) -> bool {
    let (mut changed, mut told) = (false, false);
    let is_known = |change| {
        match change {
            Ok(Change::Variable { name: b"last_gtid", .. }) => {}
            Ok(Change::Variable { name, value }) => {
                told = true;
                return has_place(name, value);
            }
            Ok(Change::Schema(_)) => told = true,
            Ok(Change::State(state)) => changed |= state,
            Ok(_) => {}
            Err(_) => return false,
        }
        true
    };
    Changes::new(changes).all(is_known) && (told || !changed)
}

/// The transactions that the OK packets of an answer name.
pub(super) fn transactions_of(changes: &[u8]) -> News {
    let mut learned = Learned::default();
    for change in Changes::new(changes) {
        match change {
            Ok(Change::Variable { name: b"last_gtid", value }) => {
                learned.on_gtids(Gtid::parse(value).map(Position::from));
            }
            Ok(Change::Gtids(set)) => learned.on_gtids(GtidSet::parse(set).map(Position::from)),
            Ok(_) => {}
            Err(_) => learned.on_gtids(None),
        }
    }
    learned.told
}

/// Whether a session remembers the value of a variable otherwise than by staying where it was set.
fn has_place(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"autocommit" | b"last_insert_id" | b"identity" => true,
        // Reads that compare with NULL ask for the last insert id then, which only one connection knows.
        b"sql_auto_is_null" if value == b"ON" => false,
        _ => place_of(name).is_some(),
    }
}

fn place_of(name: &[u8]) -> Option<usize> {
    VARIABLES.iter().position(|known| known.as_bytes() == name)
}

/// `ER_PARSE_ERROR`.
pub(super) const SYNTAX_ERROR: u16 = 1064;

/// `ER_WRONG_PARAMCOUNT_TO_NATIVE_FCT`: found out, like a mistake of syntax, before anything is run.
const WRONG_COUNT: u16 = 1582;

/// Whether a statement that might have left anything behind has left nothing: its server did not understand it either, or found
/// out before it ran that a function is called in a wrong way. What begins further statements may find that out late.
pub(super) fn changes_nothing(class: &Class, outcome: &Outcome) -> bool {
    let is_mistake = match class.pin {
        Some(Pin::Unknown) => outcome.error == Some(SYNTAX_ERROR),
        Some(Pin::UnknownFunction | Pin::UserVariable | Pin::ConnectionId) => {
            matches!(outcome.error, Some(SYNTAX_ERROR | WRONG_COUNT))
        }
        _ => false,
    };
    is_mistake && outcome.results == 0 && !outcome.had_rows
}

const CHARACTER_SET_CLIENT: u8 = 0;
const CHARACTER_SET_CONNECTION: u8 = 1;
const CHARACTER_SET_RESULTS: u8 = 2;
const COLLATION_CONNECTION: u8 = 3;
const SQL_MODE: u8 = 5;
/// As MariaDB and old servers call it, and as MySQL does.
const READ_ONLY: [u8; 2] = [8, 9];

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
    fn set(&mut self, index: u8, value: &[u8]) {
        match self.variables.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => self.variables[at].1 = value.to_vec(),
            Err(at) => self.variables.insert(at, (index, value.to_vec())),
        }
    }

    fn unset(&mut self, index: u8) {
        self.variables.retain(|(i, _)| *i != index);
    }

    fn value(&self, index: u8) -> Option<&[u8]> {
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

/// Whose character sets the last SET has named.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    client: bool,
    results: bool,
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The connection the session holds.
    Held,
    /// The primary.
    Primary,
    /// A replica that is fresh enough, else the primary.
    Replica,
}

/// What to do with the connection after a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// The session keeps it.
    pub hold: bool,
    /// It must be reset before anyone has it.
    pub dirty: bool,
    /// Session state changed: the connection has the new one too.
    pub state_changed: bool,
    /// `collation_connection` must be read from it: trackers do not tell.
    pub read_collation: bool,
    /// The last insert id is known only there now.
    pub insert_id_moved: bool,
    /// The session's warnings, or that there are none, are known on this connection now.
    pub diagnostics_here: bool,
    /// Nobody knows whether the warnings of the statement before are still the session's, but a connection that has them.
    pub diagnostics_unsure: bool,
    /// The session was pinned by a XA transaction alone, and there is none any more.
    pub is_xa_over: bool,
    /// What it wrote; the session's own token has it already.
    pub news: News,
}

/// Locks of a session that is pinned by nothing else.
#[derive(Debug, Default)]
struct Locks {
    /// Names that were asked for, as written. Whether the session has them, and how often, the server knows.
    names: Vec<Vec<u8>>,
    /// It has locked tables.
    tables: bool,
}

/// Names of locks that a session is known to have asked for; with more it stays pinned.
const LOCK_NAMES_MAX: usize = 16;
/// Longest of them as written, bytes: servers take 64 letters.
const LOCK_NAME_BYTES_MAX: usize = 512;

/// The state of one client's session.
#[derive(Debug)]
pub struct Session {
    /// Database and variables.
    pub state: Rc<State>,
    /// Pinned, and why.
    pub pin: Option<Pin>,
    /// `Some`: the pin is there for these alone.
    locks: Option<Locks>,
    /// What reads must see.
    pub token: Token,
    /// Status flags of the last OK packet.
    pub status: u16,
    /// A statement left warnings or an error behind, and none since has made the server forget them.
    pub has_diagnostics: bool,
    /// What the servers say of this transaction, or of the next one: statements that set it.
    characteristics: Vec<u8>,
    /// The collation that is read back is that of the client, and of results, too.
    names: Names,
    /// The open transaction has executed nothing yet.
    untouched: bool,
    wrote_in_transaction: bool,
    /// As the servers' global settings have it; a login may add IGNORE_SPACE, which a reset takes away again.
    base_mode: Mode,
    login_charset: Charset,
    /// What is set right after the login, since a login packet has no room for its collation.
    login_names: State,
    mode: Mode,
}

impl Session {
    /// A session right after login. `base_mode`: what the servers' global settings say; `collation` and
    /// `capabilities` from the login.
    pub fn new(schema: Option<Vec<u8>>, base_mode: Mode, collation: u8, capabilities: u32) -> Session {
        let ignore_space = base_mode.ignore_space || capabilities & IGNORE_SPACE != 0;
        let login_charset = Charset::of_collation(collation);
        Session {
            state: Rc::new(State { schema, ..State::default() }),
            pin: None,
            locks: None,
            token: Token::default(),
            status: first_status(base_mode),
            has_diagnostics: false,
            characteristics: Vec::new(),
            names: Names::default(),
            untouched: false,
            wrote_in_transaction: false,
            base_mode,
            login_charset,
            login_names: State::default(),
            mode: Mode { charset: login_charset, ignore_space, ..base_mode },
        }
    }

    /// How to cut the session's statements into tokens.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the session must keep its connection.
    pub fn holds(&self) -> bool {
        self.pin.is_some()
            || !self.next_characteristics().is_empty()
            || self.status & STATUS_IN_TRANS != 0
            || !self.is_autocommit()
    }

    /// Whether each statement is a transaction by itself.
    pub fn is_autocommit(&self) -> bool {
        self.status & STATUS_AUTOCOMMIT != 0
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.status & STATUS_IN_TRANS != 0
    }

    /// Status flags for packets of our own.
    pub fn own_status(&self) -> u16 {
        const KEPT: u16 = STATUS_IN_TRANS
            | STATUS_IN_TRANS_READONLY
            | STATUS_AUTOCOMMIT
            | STATUS_NO_BACKSLASH_ESCAPES
            | STATUS_ANSI_QUOTES;
        self.status & KEPT
    }

    /// Statements that give the next transaction its one-off characteristics (SET TRANSACTION); empty: it has none.
    pub fn next_characteristics(&self) -> &[u8] {
        if self.in_transaction() { b"" } else { &self.characteristics }
    }

    /// Whether this statement begins a transaction that may run on a replica: a READ ONLY one, while nothing ties the
    /// session to a connection but what SET TRANSACTION said of that very transaction, or that it is without autocommit:
    /// then a read begins one, too.
    pub fn begins_read_only(&self, class: &Class) -> bool {
        let access = match class.begins {
            Some(access) if self.is_autocommit() => access,
            None if !self.is_autocommit() && class.is_read() => Access::Unsaid,
            _ => return false,
        };
        let is_tied = self.pin.is_some() || self.in_transaction();
        let next = self.next_characteristics();
        let says = |text: &[u8]| next.windows(text.len()).any(|window| window == text);
        let is_read_only = match access {
            Access::ReadOnly => true,
            Access::ReadWrite => false,
            Access::Unsaid if says(b"READ ONLY") => true,
            Access::Unsaid if says(b"READ WRITE") => false,
            Access::Unsaid => READ_ONLY.iter().any(|index| matches!(self.state.value(*index), Some(b"ON" | b"1"))),
        };
        is_read_only && class.pin.is_none() && !is_tied && !self.in_system_schema()
    }

    /// The transaction that was open, or what was said of the next one, is no more, because its connection is not.
    pub fn on_transaction_lost(&mut self) {
        self.status &= !(STATUS_IN_TRANS | STATUS_IN_TRANS_READONLY);
        self.characteristics.clear();
        self.untouched = false;
        self.wrote_in_transaction = false;
    }

    /// Where a statement of this class goes. What begins a transaction and is taken for a read does so on a replica: see
    /// [`Session::begins_read_only`].
    pub fn route(&self, class: &Class) -> Route {
        if class.begins.is_some() && class.is_read() {
            Route::Replica
        } else if self.holds() {
            Route::Held
        } else if class.is_read() && !self.in_system_schema() {
            Route::Replica
        } else {
            Route::Primary
        }
    }

    fn in_system_schema(&self) -> bool {
        let system: [&[u8]; 4] = [b"mysql", b"information_schema", b"performance_schema", b"sys"];
        self.state.schema.as_ref().is_some_and(|schema| system.iter().any(|name| schema.eq_ignore_ascii_case(name)))
    }

    /// Right after a login: its collation is this one, of this character set.
    pub fn begin_with_names(&mut self, charset: &[u8], collation: &[u8]) {
        let mut names = State::default();
        for index in [CHARACTER_SET_CLIENT, CHARACTER_SET_CONNECTION, CHARACTER_SET_RESULTS] {
            names.set(index, charset);
        }
        names.set(COLLATION_CONNECTION, collation);
        (names.client_collation, names.results_collation) = (Some(collation.to_vec()), Some(collation.to_vec()));
        self.state = Rc::new(State { schema: self.state.schema.clone(), ..names.clone() });
        self.login_names = names;
        self.login_charset = Charset::of_name(charset);
        self.mode.charset = self.login_charset;
    }

    /// Back to what a session is after login, keeping its database: COM_RESET_CONNECTION. The causal token stays,
    /// because what the client wrote before stays written.
    pub fn reset(&mut self) {
        self.state = Rc::new(State { schema: self.state.schema.clone(), ..self.login_names.clone() });
        self.pin = None;
        self.locks = None;
        self.status = first_status(self.base_mode);
        self.has_diagnostics = false;
        self.on_transaction_lost();
        self.mode = Mode { charset: self.login_charset, ..self.base_mode };
    }

    /// The login is taken to have had this collation: a reset goes back to it.
    pub fn take_names(&mut self, collation: u8) {
        self.login_names = State::default();
        self.login_charset = Charset::of_collation(collation);
    }

    /// Whether the open transaction was begun in so many words and has executed nothing yet.
    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// What begins a transaction like the open one on another connection, which knows already whether the session is without
    /// autocommit: only as long as the session is not pinned, and the transaction is untouched.
    pub fn prelude(&self) -> Vec<Vec<u8>> {
        if !self.in_transaction() {
            return Vec::new();
        }
        let parts = self.characteristics.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty());
        let mut statements: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
        if !statements.iter().any(|statement| statement.starts_with(b"START TRANSACTION")) {
            statements.push(b"START TRANSACTION".to_vec());
        }
        statements
    }

    /// Takes in what the server said about a statement.
    pub fn on_outcome(&mut self, class: &Class, outcome: &Outcome) -> After {
        let mut after = After::default();
        let was_in_transaction = self.in_transaction();
        let was_pinned = self.pin.is_some();
        // The one pin that goes by itself hides no other.
        let is_nothing = changes_nothing(class, outcome);
        if let Some(pin) = class.pin.filter(|pin| !is_nothing && (*pin != Pin::Xa || self.pin.is_none())) {
            self.pin = Some(pin);
        }
        if let Some(status) = outcome.status {
            self.status = status;
            self.mode.no_backslash_escapes = status & STATUS_NO_BACKSLASH_ESCAPES != 0;
        }
        // Nobody tells of a SAVEPOINT, to which no other connection could return.
        self.untouched &= !(was_in_transaction && class.kind == Kind::Transaction);
        let learned = self.learn(class, outcome, &mut after);
        if learned.unexplained || learned.untracked {
            let pin = if learned.untracked { Pin::Setting } else { Pin::StateChange };
            // What the class announced says more.
            if self.pin.is_none_or(|known| known == Pin::Xa) {
                self.pin = Some(pin);
            }
        }
        let is_other = class.pin.is_some() && class.lock == LockStep::Unknown && !is_nothing;
        let leaves_other = is_other || learned.unexplained || learned.untracked;
        self.follow_locks(class, outcome, was_pinned, leaves_other);
        after.is_xa_over = self.pin == Some(Pin::Xa) && outcome.status.is_some() && !self.in_transaction();
        // Nobody says what a statement that failed has left behind, locks for example.
        self.untouched &= outcome.error.is_none() && !class.trusted;
        after.news = self.news(class, outcome, learned.told, was_in_transaction);
        self.token.learn(&after.news);
        // INSERT ... RETURNING does not report its insert id, and neither does a write that failed half-way.
        let untold = class.kind == Kind::Write && (outcome.had_rows || outcome.error.is_some());
        let asks = class.diagnostics & super::sql::diagnostics::INSERT_ID != 0;
        after.insert_id_moved = learned.insert_id || outcome.insert_id != 0 || asks || untold || class.trusted;
        self.diagnose(class, outcome, &mut after);
        // Whatever a procedure leaves behind, in spite of what was said of it, is for nobody else.
        after.dirty |= class.trusted || outcome.error.is_some() && matches!(class.kind, Kind::Set | Kind::Unknown);
        after.hold = self.holds();
        after
    }

    /// Keeps account of what the pin is there for, as far as that is locks. `leaves_other`: it may have left something else.
    fn follow_locks(&mut self, class: &Class, outcome: &Outcome, was_pinned: bool, leaves_other: bool) {
        if self.pin.is_none() || leaves_other || was_pinned && self.locks.is_none() {
            self.locks = None;
            return;
        }
        let (locks, is_done) = (self.locks.get_or_insert_default(), outcome.error.is_none());
        match class.lock {
            LockStep::Tables => locks.tables = true,
            LockStep::UnlockTables => locks.tables &= !is_done,
            LockStep::ReleaseAll if is_done => locks.names.clear(),
            // Under other settings the same text may be another name.
            LockStep::Unknown if class.kind == Kind::Set && !locks.names.is_empty() => self.locks = None,
            _ => {}
        }
    }

    /// It has asked for a lock by this name, as written; `None`: nobody knows which.
    pub fn on_lock_name(&mut self, name: Option<&[u8]>) {
        let Some(locks) = &mut self.locks else { return };
        match name {
            Some(name) if locks.names.iter().any(|known| known == name) => {}
            Some(name) if locks.names.len() < LOCK_NAMES_MAX && name.len() <= LOCK_NAME_BYTES_MAX => {
                locks.names.push(name.to_vec());
            }
            _ => self.locks = None,
        }
    }

    /// A question to the server about each lock the session may have: 1, or it has not.
    pub fn lock_question(&self) -> Option<Vec<u8>> {
        let names = &self.locks.as_ref()?.names;
        let asked = names.iter().map(|name| [b"IS_USED_LOCK(", &name[..], b") <=> CONNECTION_ID()"].concat());
        (!names.is_empty()).then(|| [&b"SELECT "[..], &asked.collect::<Vec<_>>().join(&b", "[..])].concat())
    }

    /// The answer to [`Session::lock_question`].
    pub fn on_locks(&mut self, answer: &[Option<Vec<u8>>]) {
        let Some(locks) = &mut self.locks else { return };
        let mut answer = answer.iter();
        locks.names.retain(|_| answer.next().is_none_or(|value| value.as_deref() != Some(b"0")));
    }

    /// Whether the session was pinned by locks alone, and has none any more.
    pub fn is_unlocked(&self) -> bool {
        self.locks.as_ref().is_some_and(|locks| locks.names.is_empty() && !locks.tables)
    }

    /// The pin is over.
    pub fn unpin(&mut self) {
        (self.pin, self.locks) = (None, None);
    }

    /// What is left of warnings, and where.
    fn diagnose(&mut self, class: &Class, outcome: &Outcome, after: &mut After) {
        let has_warned = outcome.warnings > 0 || outcome.error.is_some();
        match class.forgets {
            _ if has_warned => (self.has_diagnostics, after.diagnostics_here) = (true, true),
            _ if class.asks_warnings_only() => {}
            Forgets::Yes => (self.has_diagnostics, after.diagnostics_here) = (false, true),
            Forgets::Perhaps => after.diagnostics_unsure = self.has_diagnostics,
            Forgets::No => {}
        }
    }

    fn learn(&mut self, class: &Class, outcome: &Outcome, after: &mut After) -> Learned {
        let mut learned = Learned::default();
        if outcome.cut == Cut::Transactions {
            learned.on_gtids(None);
        }
        learned.unexplained = outcome.cut != Cut::Nothing;
        if outcome.changes.is_empty() {
            return learned;
        }
        let mut state = Rc::clone(&self.state); // copied once it changes
        let (mut reported, mut told) = (false, false);
        let (mut charset, mut client, mut results, mut collation) = (false, false, false, false);
        for change in Changes::new(&outcome.changes) {
            match change {
                Ok(Change::Variable { name: b"last_gtid", value }) => {
                    learned.on_gtids(Gtid::parse(value).map(Position::from));
                }
                Ok(Change::Variable { name: b"autocommit", .. }) => told = true,
                Ok(Change::Variable { name: b"last_insert_id" | b"identity", .. }) => {
                    (told, learned.insert_id) = (true, true);
                }
                // Whether something else has set it, too, nobody can know: the connection is reset.
                Ok(Change::Variable { .. }) if class.restores => (told, after.dirty) = (true, true),
                Ok(Change::Variable { name, value }) => {
                    told = true;
                    if let Some(index) = place_of(name) {
                        Rc::make_mut(&mut state).set(index as u8, value);
                    }
                    learned.untracked |= !has_place(name, value);
                    charset |= name == b"character_set_connection";
                    client |= name == b"character_set_client";
                    results |= name == b"character_set_results";
                    collation |= name == b"collation_connection";
                    learned.unexplained |= class.kind != Kind::Set;
                }
                Ok(Change::Schema(schema)) => {
                    told = true;
                    Rc::make_mut(&mut state).schema = (!schema.is_empty()).then(|| schema.to_vec());
                }
                Ok(Change::State(changed)) => reported |= changed,
                Ok(Change::Characteristics(text)) => {
                    self.characteristics.clear();
                    self.characteristics.extend_from_slice(text);
                }
                Ok(Change::Transaction(letters)) => {
                    self.wrote_in_transaction |= letters.iter().any(|b| matches!(b, b'W' | b'w'));
                    self.untouched = letters.starts_with(b"T") && letters[1..].iter().all(|b| *b == b'_');
                }
                Ok(Change::Gtids(set)) => learned.on_gtids(GtidSet::parse(set).map(Position::from)),
                Ok(Change::Other(_)) => {}
                Err(_) => learned.unexplained = true,
            }
        }
        learned.unexplained |= reported && !told;
        if client {
            Rc::make_mut(&mut state).client_collation = None;
        }
        if results {
            Rc::make_mut(&mut state).results_collation = None;
        }
        self.names = Names { client: client && class.collate, results: results && class.collate };
        if charset && !collation {
            // The character set brings its default collation with it.
            Rc::make_mut(&mut state).unset(COLLATION_CONNECTION);
        }
        after.read_collation = collation || charset && class.collate;
        self.adopt(state, after);
        learned
    }

    fn adopt(&mut self, state: Rc<State>, after: &mut After) {
        if Rc::ptr_eq(&state, &self.state) || state == self.state {
            return;
        }
        after.state_changed = true;
        if let Some(name) = state.value(CHARACTER_SET_CLIENT) {
            self.mode.charset = Charset::of_name(name);
        }
        if let Some(sql_mode) = state.value(SQL_MODE) {
            let has = |flag: &str| sql_mode.split(|b| *b == b',').any(|part| part == flag.as_bytes());
            self.mode.ansi_quotes = has("ANSI_QUOTES");
            self.mode.ignore_space = has("IGNORE_SPACE");
            self.mode.oracle = has("ORACLE");
        }
        self.state = state;
    }

    /// The pair read back from the server after [`After::read_collation`].
    pub fn on_collation(&mut self, character_set_connection: &[u8], collation_connection: &[u8]) {
        let mut state = State::clone(&self.state);
        // SET CHARACTER SET has another one for the connection.
        let Names { client, results } = std::mem::take(&mut self.names);
        let is_same = |state: &State, index| state.value(index) == Some(character_set_connection);
        if client && is_same(&state, CHARACTER_SET_CLIENT) {
            state.client_collation = Some(collation_connection.to_vec());
        }
        if results && is_same(&state, CHARACTER_SET_RESULTS) {
            state.results_collation = Some(collation_connection.to_vec());
        }
        state.set(CHARACTER_SET_CONNECTION, character_set_connection);
        state.set(COLLATION_CONNECTION, collation_connection);
        self.state = Rc::new(state);
    }

    /// What a statement wrote. `told`: the GTIDs of its OK packets.
    fn news(&mut self, class: &Class, outcome: &Outcome, told: News, was_in_transaction: bool) -> News {
        let committed = was_in_transaction && !self.in_transaction();
        let wrote = std::mem::take(&mut self.wrote_in_transaction);
        if told != News::None {
            return told;
        }
        if self.in_transaction() {
            self.wrote_in_transaction = wrote;
            return News::None;
        }
        let unseen_write = match class.kind {
            _ if outcome.error.is_some_and(is_refusal) && class.pin.is_none() && !class.trusted => false,
            Kind::Rollback => false,
            Kind::Write => outcome.affected_rows > 0 || outcome.error.is_some() || outcome.had_rows,
            Kind::Unknown => outcome.affected_rows > 0,
            Kind::Definition => true,
            _ => false,
        };
        match unseen_write || committed && wrote && class.kind != Kind::Rollback {
            true => News::Untold,
            false => News::None,
        }
    }
}

/// Errors of statements that have not begun to run: syntax, names, rights, and whatever is read-only.
pub(super) fn is_refusal(code: u16) -> bool {
    matches!(code, 1044 | 1046 | 1049 | 1054 | 1064 | 1142 | 1143 | 1146 | 1227 | 1290 | 1792 | 1836)
}

/// Clients choose by the flag how to escape texts, already before their first statement.
pub(super) fn first_status(mode: Mode) -> u16 {
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    STATUS_AUTOCOMMIT
        | flag(mode.no_backslash_escapes, STATUS_NO_BACKSLASH_ESCAPES)
        | flag(mode.ansi_quotes, STATUS_ANSI_QUOTES)
}

#[derive(Default)]
struct Learned {
    told: News,
    insert_id: bool,
    /// State changed in a way the class did not announce.
    unexplained: bool,
    /// A variable that cannot be set again elsewhere.
    untracked: bool,
}

impl Learned {
    /// One result of several may have committed, and the next one, too. `None`: unreadable.
    fn on_gtids(&mut self, gtids: Option<Position>) {
        self.told = match (std::mem::take(&mut self.told), gtids) {
            (News::None, Some(gtids)) => News::Gtids(gtids),
            (News::Gtids(mut all), Some(gtids)) => match all.unite(&gtids) {
                true => News::Gtids(all),
                false => News::Untold,
            },
            (_, None) | (News::Untold, _) => News::Untold,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::lenenc::put_bytes;
    use super::super::sql::classify;
    use super::*;

    fn entry(kind: u8, data: &[&[u8]]) -> Vec<u8> {
        let mut inner = Vec::new();
        for part in data {
            put_bytes(&mut inner, part);
        }
        let mut out = vec![kind];
        put_bytes(&mut out, &inner);
        out
    }

    const STATE_CHANGED: &[u8] = b"\x02\x011";

    fn variable(name: &str, value: &str) -> Vec<u8> {
        entry(0, &[name.as_bytes(), value.as_bytes()])
    }

    fn session() -> Session {
        Session::new(Some(b"db".to_vec()), Mode::default(), 45, 0)
    }

    /// One statement that succeeded with these changes and status flags.
    fn run(session: &mut Session, sql: &str, status: u16, affected_rows: u64, changes: &[Vec<u8>]) -> After {
        let outcome = Outcome { status: Some(status), affected_rows, changes: changes.concat(), ..Outcome::default() };
        let class = classify(sql.as_bytes(), session.mode());
        session.on_outcome(&class, &outcome)
    }

    fn route(session: &Session, sql: &str) -> Route {
        session.route(&classify(sql.as_bytes(), session.mode()))
    }

    const AC: u16 = STATUS_AUTOCOMMIT;

    #[test]
    fn what_was_too_much_to_be_kept_pins_and_leaves_a_doubt() {
        for (cut, told) in [(Cut::Settings, true), (Cut::Transactions, false)] {
            let mut s = session();
            let changes = variable("last_gtid", "0-1-5");
            let outcome = Outcome { status: Some(AC), changes, cut, ..Outcome::default() };
            let after = s.on_outcome(&classify(b"INSERT INTO t VALUES (1)", s.mode()), &outcome);
            assert!(after.hold && s.pin == Some(Pin::StateChange), "{cut:?}");
            assert_eq!((s.token.position().is_some(), after.news == News::Untold), (told, !told), "{cut:?}");
        }
    }

    #[test]
    fn a_server_that_counts_its_statements_pins_nobody_by_that() {
        let mut s = session();
        let count = variable("statement_id", "520");
        let after = run(&mut s, "SELECT a FROM t", AC, 0, std::slice::from_ref(&count));
        assert!(!after.hold && s.pin.is_none());
        let after = run(
            &mut s,
            "SET group_replication_consistency = 'BEFORE'",
            AC,
            0,
            &[variable("group_replication_consistency", "BEFORE"), count.clone(), STATE_CHANGED.to_vec()],
        );
        assert!(!after.hold && s.pin.is_none() && after.state_changed);
        let hinted = run(
            &mut s,
            "SELECT /*+ SET_VAR(sort_buffer_size = 9) */ a FROM t",
            AC,
            0,
            &[variable("sort_buffer_size", "262144"), variable("bulk_insert_buffer_size", "1"), STATE_CHANGED.to_vec()],
        );
        assert!(!hinted.hold && s.pin.is_none() && !hinted.state_changed && hinted.dirty, "it is as before");
        // Nor does it explain what else has changed.
        let after = run(&mut s, "SELECT v FROM view", AC, 0, &[count, STATE_CHANGED.to_vec()]);
        assert!(after.hold && s.pin == Some(Pin::StateChange));
    }

    #[test]
    fn what_can_be_set_again_anywhere_is_told_from_what_cannot() {
        let schema = entry(1, &[b"d"]);
        let is_portable = |changes: &[Vec<u8>]| is_portable(&changes.concat());
        let changed = STATE_CHANGED.to_vec();
        assert!(is_portable(&[]));
        assert!(is_portable(&[variable("sql_mode", "ANSI"), changed.clone()]));
        assert!(is_portable(&[schema, changed.clone()]));
        for name in ["autocommit", "last_insert_id", "identity"] {
            assert!(is_portable(&[variable(name, "1"), changed.clone()]), "{name}");
        }
        assert!(is_portable(&[entry(4, &[b"SET TRANSACTION READ ONLY;"]), variable("sql_auto_is_null", "OFF")]));
        for name in ["timestamp", "pseudo_thread_id"] {
            assert!(!is_portable(&[variable("sql_mode", "ANSI"), variable(name, "5"), changed.clone()]), "{name}");
        }
        assert!(!is_portable(&[variable("sql_auto_is_null", "ON"), changed.clone()]));
        assert!(!is_portable(std::slice::from_ref(&changed)), "a role, a user variable");
        assert!(!is_portable(&[variable("last_gtid", "0-1-5"), changed]));
        assert!(!is_portable(&[b"\x02\x09".to_vec()]), "whatever it was to say");
    }

    #[test]
    fn reads_go_to_replicas_until_something_ties_the_session() {
        let mut s = session();
        assert_eq!(route(&s, "SELECT 1"), Route::Replica);
        assert_eq!(route(&s, "DELETE FROM t"), Route::Primary);
        assert!(run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]).hold);
        assert_eq!(route(&s, "SELECT 1"), Route::Held);
        assert!(!run(&mut s, "COMMIT", AC, 0, &[]).hold);
        assert!(run(&mut s, "SET autocommit=0", 0, 0, &[variable("autocommit", "OFF")]).hold);
        assert_eq!(route(&s, "SELECT 1"), Route::Held);
        assert!(!run(&mut s, "SET autocommit=1", AC, 0, &[variable("autocommit", "ON")]).hold);
        assert_eq!(s.pin, None);
        assert!(run(&mut s, "SET @a=1", AC, 0, &[STATE_CHANGED.to_vec()]).hold);
        assert_eq!(route(&s, "SELECT 1"), Route::Held);
        s.reset();
        assert_eq!(route(&s, "SELECT 1"), Route::Replica);
    }

    #[test]
    fn an_untouched_transaction_can_begin_elsewhere() {
        let characteristics = |text: &str| entry(4, &[text.as_bytes()]);
        let letters = |text: &str| entry(5, &[text.as_bytes()]);
        let texts = |s: &Session| -> Vec<String> {
            s.prelude().into_iter().map(|sql| String::from_utf8(sql).unwrap()).collect()
        };
        let mut s = session();
        assert!(!s.is_untouched() && texts(&s).is_empty());
        run(&mut s, "SET autocommit=0", 0, 0, &[variable("autocommit", "OFF")]);
        assert!(s.holds() && texts(&s).is_empty(), "whoever gets a connection sets it there");
        run(&mut s, "SET autocommit=1", AC, 0, &[variable("autocommit", "ON")]);
        let serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;";
        run(&mut s, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", AC, 0, &[characteristics(serializable)]);
        assert!(s.holds() && texts(&s).is_empty() && s.next_characteristics() == serializable.as_bytes());
        let both = format!("{serializable} START TRANSACTION READ ONLY;");
        run(
            &mut s,
            "START TRANSACTION READ ONLY",
            AC | STATUS_IN_TRANS,
            0,
            &[characteristics(&both), letters("T_______")],
        );
        assert!(s.is_untouched());
        assert_eq!(texts(&s), ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION READ ONLY"]);
        run(&mut s, "SELECT a FROM t", AC | STATUS_IN_TRANS, 0, &[letters("T_R__sS_")]);
        assert!(!s.is_untouched());
        s.on_transaction_lost();
        assert!(!s.holds() && texts(&s).is_empty());
        run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[letters("T_______")]);
        assert_eq!((s.is_untouched(), texts(&s)), (true, vec!["START TRANSACTION".to_owned()]));
        let class = classify(b"DELETE FROM t", s.mode());
        s.on_outcome(&class, &Outcome { error: Some(1205), ..Outcome::default() });
        assert!(!s.is_untouched(), "it may have locks");
    }

    #[test]
    fn an_error_in_a_transaction_keeps_it() {
        let mut s = session();
        run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
        let class = classify(b"DELETE FROM t", s.mode());
        let after = s.on_outcome(&class, &Outcome { error: Some(1205), ..Outcome::default() });
        assert!(after.hold && s.in_transaction());
    }

    #[test]
    fn variables_are_captured_and_set_again() {
        let mut s = session();
        let changes = [variable("sql_mode", "ANSI_QUOTES,IGNORE_SPACE"), STATE_CHANGED.to_vec()];
        let after = run(&mut s, "SET sql_mode='ANSI_QUOTES,IGNORE_SPACE'", AC, 0, &changes);
        assert!(after.state_changed && !after.hold);
        assert!(s.mode().ansi_quotes && s.mode().ignore_space);
        run(&mut s, "SET max_statement_time=1", AC, 0, &[variable("max_statement_time", "1.000000")]);
        run(&mut s, "SET lc_messages='x'", AC, 0, &[variable("lc_messages", "it's")]);
        let mut out = Vec::new();
        s.state.put_assignments(&mut out);
        let text = ", sql_mode='ANSI_QUOTES,IGNORE_SPACE', max_statement_time=1.000000, lc_messages=X'69742773'";
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert!(run(&mut s, "SET timestamp=5", AC, 0, &[variable("timestamp", "5")]).hold, "not on the list");
    }

    #[test]
    fn a_character_set_brings_its_collation_unless_one_is_named() {
        let mut s = session();
        let charset = [variable("character_set_connection", "latin1"), variable("character_set_client", "latin1")];
        assert!(!run(&mut s, "SET NAMES latin1", AC, 0, &charset).read_collation);
        assert_eq!(s.mode().charset, Charset::AsciiSafe);
        assert!(run(&mut s, "SET NAMES latin1 COLLATE latin1_bin", AC, 0, &charset).read_collation);
        s.on_collation(b"latin1", b"latin1_bin");
        assert_eq!(s.state.value(COLLATION_CONNECTION), Some(&b"latin1_bin"[..]));
        run(&mut s, "SET NAMES latin1", AC, 0, &charset);
        assert_eq!(s.state.value(COLLATION_CONNECTION), None);
    }

    #[test]
    fn client_and_results_get_the_collation_that_set_names_gave_them() {
        let assignments = |s: &Session| {
            let mut out = Vec::new();
            s.state.put_assignments(&mut out);
            String::from_utf8(out).unwrap()
        };
        let mut s = session();
        let all = ["client", "connection", "results"].map(|kind| variable(&format!("character_set_{kind}"), "utf8mb4"));
        run(&mut s, "SET NAMES utf8mb4 COLLATE utf8mb4_bin", AC, 0, &all);
        s.on_collation(b"utf8mb4", b"utf8mb4_bin");
        run(&mut s, "SET time_zone='+01:00'", AC, 0, &[variable("time_zone", "+01:00")]);
        let rest = "character_set_connection='utf8mb4', collation_connection=";
        let named = ", NAMES 'utf8mb4' COLLATE 'utf8mb4_bin', ";
        assert_eq!(assignments(&s), format!("{named}{rest}'utf8mb4_bin', time_zone='+01:00'"));
        let other = [variable("character_set_connection", "utf8mb4"), variable("collation_connection", "utf8mb4_da")];
        run(&mut s, "SET collation_connection=utf8mb4_da", AC, 0, &other);
        assert_eq!(assignments(&s), format!("{named}{rest}'utf8mb4_da', time_zone='+01:00'"));
        run(&mut s, "SET character_set_results=utf8mb4", AC, 0, &all[2..]);
        let results = "character_set_connection='utf8mb4', character_set_results='utf8mb4', ";
        assert!(assignments(&s).starts_with(&format!("{named}{results}")), "the client has it still");
        run(&mut s, "SET character_set_client=utf8mb4", AC, 0, &all[..1]);
        assert!(!assignments(&s).contains("NAMES"));
    }

    #[test]
    fn unannounced_changes_pin() {
        let mut s = session();
        assert!(run(&mut s, "INSERT INTO t VALUES (1)", AC, 1, &[STATE_CHANGED.to_vec()]).hold);
        let mut s = session();
        assert!(run(&mut s, "SELECT 1", AC, 0, &[variable("sql_mode", "")]).hold);
        let mut s = session();
        assert!(!run(&mut s, "USE x", AC, 0, &[entry(1, &[b"x"]), STATE_CHANGED.to_vec()]).hold);
        assert_eq!(s.state.schema.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn the_token_follows_writes() {
        let mut s = session();
        let gtid = |text: &str| variable("last_gtid", text);
        run(&mut s, "INSERT INTO t VALUES (1)", AC, 1, &[gtid("0-1-5")]);
        let seen = |text: &str| Position::parse(text.as_bytes());
        assert_eq!(s.token.position(), seen("0-1-5").as_ref());
        run(&mut s, "UPDATE t SET a=1", AC, 1, &[]);
        assert_eq!(s.token.position(), None);
        run(&mut s, "DELETE FROM t", AC, 1, &[gtid("0-1-6")]);
        assert_eq!(s.token.position(), seen("0-1-6").as_ref());
        run(&mut s, "INSERT INTO t VALUES (1); DELETE FROM t", AC, 1, &[gtid("0-1-7"), gtid("1-1-1")]);
        assert_eq!(s.token.position(), seen("0-1-7,1-1-1").as_ref(), "each result of a packet may have one");
        s.pin = None;
        run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
        run(&mut s, "DELETE FROM t", AC | STATUS_IN_TRANS, 1, &[entry(5, &[b"T___W___"])]);
        run(&mut s, "ROLLBACK", AC, 0, &[entry(5, &[b"________"])]);
        assert!(s.token.position().is_some(), "nothing was committed");
        run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
        run(&mut s, "DELETE FROM t", AC | STATUS_IN_TRANS, 1, &[entry(5, &[b"T___W___"])]);
        run(&mut s, "COMMIT", AC, 0, &[entry(5, &[b"________"])]);
        assert_eq!(s.token.position(), None, "committed without a GTID");
        let (mut s, uuid) = (session(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:5");
        run(&mut s, "DELETE FROM t", AC, 1, &[entry(3, &[b"", uuid.as_bytes()])]);
        assert_eq!(s.token.position(), seen(uuid).as_ref());
        run(&mut s, "DELETE FROM t", AC, 1, &[gtid("nonsense")]);
        assert_eq!(s.token.position(), None);
    }

    #[test]
    fn escapes_are_right_from_the_first_statement_on() {
        let mode = Mode { no_backslash_escapes: true, ..Mode::default() };
        let mut s = Session::new(None, mode, 45, 0);
        assert_eq!(s.own_status(), AC | STATUS_NO_BACKSLASH_ESCAPES);
        run(&mut s, "SET sql_mode=''", AC, 0, &[variable("sql_mode", "")]);
        assert_eq!((s.own_status(), s.mode().no_backslash_escapes), (AC, false));
        s.reset();
        assert_eq!((s.own_status(), s.mode().no_backslash_escapes), (AC | STATUS_NO_BACKSLASH_ESCAPES, true));
    }

    #[test]
    fn returned_rows_of_a_write_tell_neither_its_insert_id_nor_what_was_written() {
        let mut s = session();
        let class = classify(b"INSERT INTO t VALUES (1) RETURNING id", s.mode());
        let outcome = Outcome { status: Some(AC), had_rows: true, results: 1, ..Outcome::default() };
        assert!(s.on_outcome(&class, &outcome).insert_id_moved);
        assert_eq!(s.token.position(), None);
        let class = classify(b"INSERT INTO t VALUES (1), (1)", s.mode());
        assert!(s.on_outcome(&class, &Outcome { error: Some(1062), ..Outcome::default() }).insert_id_moved);
        assert_eq!(s.token.position(), None, "rows of tables without transactions stay");
        let mut s = session();
        s.on_outcome(&class, &Outcome { error: Some(1792), ..Outcome::default() });
        assert!(s.token.position().is_some(), "it did not begin");
    }

    #[test]
    fn one_shot_transaction_settings_hold_the_connection() {
        let mut s = session();
        assert!(run(&mut s, "SET TRANSACTION READ ONLY", AC, 0, &[entry(4, &[b"SET TRANSACTION READ ONLY;"])]).hold);
        assert!(!run(&mut s, "SELECT 1", AC, 0, &[entry(4, &[b""])]).hold);
    }

    #[test]
    fn read_only_transactions_may_run_on_replicas() {
        let begins = |s: &Session, sql: &str| s.begins_read_only(&classify(sql.as_bytes(), s.mode()));
        let mut s = session();
        for sql in ["START TRANSACTION READ ONLY", "start transaction with consistent snapshot, read only"] {
            assert!(begins(&s, sql) && route(&s, sql) == Route::Primary, "{sql}");
            let class = Class { kind: Kind::Read, ..classify(sql.as_bytes(), s.mode()) };
            assert_eq!(s.route(&class), Route::Replica, "{sql}");
        }
        for sql in
            ["BEGIN", "START TRANSACTION", "START TRANSACTION READ WRITE", "SELECT 1", "BEGIN NOT ATOMIC SELECT 1; END"]
        {
            assert!(!begins(&s, sql), "{sql}");
        }
        // Of the next transaction alone.
        run(&mut s, "SET TRANSACTION READ ONLY", AC, 0, &[entry(4, &[b"SET TRANSACTION READ ONLY;"])]);
        assert!(begins(&s, "BEGIN") && begins(&s, "START TRANSACTION") && !begins(&s, "START TRANSACTION READ WRITE"));
        assert_eq!(route(&s, "SELECT 1"), Route::Held, "a statement by itself is the next transaction, too");
        let started = entry(4, &[b"START TRANSACTION READ ONLY;"]);
        assert!(run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[started]).hold);
        assert!(!begins(&s, "START TRANSACTION READ ONLY") && s.next_characteristics().is_empty());
        assert!(!run(&mut s, "COMMIT", AC, 0, &[entry(4, &[b""])]).hold);
        assert!(!begins(&s, "BEGIN"));
        // Of all of the session.
        for (name, on) in [("tx_read_only", "ON"), ("transaction_read_only", "ON")] {
            let mut s = session();
            assert!(!run(&mut s, "SET SESSION TRANSACTION READ ONLY", AC, 0, &[variable(name, on)]).hold);
            assert!(begins(&s, "BEGIN") && !begins(&s, "START TRANSACTION READ WRITE"));
            run(&mut s, "SET TRANSACTION READ WRITE", AC, 0, &[entry(4, &[b"SET TRANSACTION READ WRITE;"])]);
            assert!(!begins(&s, "BEGIN"));
        }
        // Without autocommit, by whatever reads first.
        let mut s = session();
        run(&mut s, "SET autocommit=0", 0, 0, &[]);
        assert!(!begins(&s, "START TRANSACTION READ ONLY") && !begins(&s, "SELECT 1"));
        run(&mut s, "SET SESSION TRANSACTION READ ONLY", 0, 0, &[variable("tx_read_only", "ON")]);
        assert!(begins(&s, "SELECT 1") && !begins(&s, "SELECT 1 FOR UPDATE") && !begins(&s, "DELETE FROM t"));
        run(&mut s, "SELECT 1", STATUS_IN_TRANS, 0, &[]);
        assert!(!begins(&s, "SELECT 1"));
        // Not while anything ties the session to its connection.
        let mut s = session();
        run(&mut s, "SET @a=1", AC, 0, &[STATE_CHANGED.to_vec()]);
        assert!(!begins(&s, "START TRANSACTION READ ONLY"));
    }

    #[test]
    fn a_xa_transaction_holds_until_its_status_clears() {
        let mut s = session();
        run(&mut s, "XA START 'a'", AC | STATUS_IN_TRANS, 0, &[]);
        assert_eq!(s.pin, Some(Pin::Xa));
        for sql in ["DELETE FROM t", "XA END 'a'", "XA PREPARE 'a'"] {
            assert!(!run(&mut s, sql, AC | STATUS_IN_TRANS, 0, &[]).is_xa_over, "{sql}");
        }
        assert!(run(&mut s, "XA COMMIT 'a'", AC, 0, &[]).is_xa_over);
        // Another reason for a pin outlives it, whichever came first.
        for script in [["SET @a = 1", "XA START 'a'"], ["XA START 'a'", "SET @a = 1"]] {
            let mut s = session();
            for sql in script {
                let changes = sql.contains('@').then(|| STATE_CHANGED.to_vec());
                run(&mut s, sql, AC | STATUS_IN_TRANS, 0, changes.as_slice());
            }
            assert!(!run(&mut s, "XA ROLLBACK 'a'", AC, 0, &[]).is_xa_over, "{script:?}");
        }
    }

    #[test]
    fn a_setting_behind_a_xa_transaction_that_did_not_begin_is_kept() {
        let mut s = session();
        let class = classify(b"XA START 'a'", s.mode());
        s.on_outcome(&class, &Outcome { error: Some(1399), ..Outcome::default() });
        assert_eq!(s.pin, Some(Pin::Xa));
        let after = run(&mut s, "SET timestamp=5", AC, 0, &[variable("timestamp", "5")]);
        assert_eq!((after.is_xa_over, after.hold, s.pin), (false, true, Some(Pin::Setting)));
    }

    #[test]
    fn a_pin_of_locks_alone_ends_with_the_last_of_them() {
        let take = |s: &mut Session, name: &str| {
            run(s, &format!("SELECT GET_LOCK({name}, 1)"), AC, 0, &[]);
            s.on_lock_name(Some(name.as_bytes()));
        };
        let answer = |values: &[&str]| values.iter().map(|value| Some(value.as_bytes().to_vec())).collect::<Vec<_>>();
        let mut s = session();
        take(&mut s, "'a'");
        take(&mut s, "'b'");
        take(&mut s, "'a'");
        run(&mut s, "LOCK TABLES t READ", AC, 0, &[]);
        run(&mut s, "SELECT RELEASE_LOCK('a')", AC, 0, &[]);
        let question = s.lock_question().unwrap();
        let text = "SELECT IS_USED_LOCK('a') <=> CONNECTION_ID(), IS_USED_LOCK('b') <=> CONNECTION_ID()";
        assert_eq!(String::from_utf8(question).unwrap(), text);
        s.on_locks(&answer(&["1", "0"]));
        s.on_locks(&answer(&["0"]));
        assert!(s.lock_question().is_none() && !s.is_unlocked(), "the table is locked still");
        run(&mut s, "UNLOCK TABLES", AC, 0, &[]);
        assert!(s.is_unlocked());
        s.unpin();
        assert!(!s.holds() && !s.is_unlocked());
        // What failed has released nothing.
        run(&mut s, "LOCK TABLES t READ", AC, 0, &[]);
        let class = classify(b"UNLOCK TABLES", s.mode());
        s.on_outcome(&class, &Outcome { error: Some(1192), ..Outcome::default() });
        assert!(!s.is_unlocked() && s.holds());
        // Whatever else pins, before or after, stays.
        for other in ["SET @a = 1", "CALL p()", "SELECT f()", "HANDLER t OPEN", "SET NAMES latin1"] {
            let mut s = session();
            take(&mut s, "'a'");
            let changes = [variable("character_set_client", "latin1")];
            run(&mut s, other, AC, 0, if other.contains("NAMES") { &changes } else { &[] });
            run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
            assert!(!s.is_unlocked() && s.holds(), "{other}");
            if other.contains("NAMES") {
                continue;
            }
            let mut s = session();
            run(&mut s, other, AC, 0, &[]);
            take(&mut s, "'a'");
            run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
            assert!(!s.is_unlocked() && s.holds(), "{other}");
        }
        // There is a limit to what is remembered.
        let mut s = session();
        for n in 0..=LOCK_NAMES_MAX {
            take(&mut s, &format!("'{n}'"));
        }
        run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
        assert!(!s.is_unlocked() && s.holds());
    }

    #[test]
    fn what_no_server_understands_leaves_nothing_behind() {
        let failed = |error, results| Outcome { error: Some(error), results, ..Outcome::default() };
        for (sql, outcome, pin) in [
            ("nonsense", failed(1064, 0), None),
            ("nonsense", failed(1146, 0), Some(Pin::Unknown)),
            ("SELECT 1; nonsense", failed(1064, 1), Some(Pin::MultiStatement)),
            ("SELECT GET_LOCK()", failed(1582, 0), None),
            ("SELECT GET_LOCK('k', 0)", failed(1305, 0), Some(Pin::UnknownFunction)),
            ("CALL p()", failed(1582, 0), Some(Pin::Call)),
            ("SET @a = ", failed(1064, 0), None),
        ] {
            let mut s = session();
            let class = classify(sql.as_bytes(), s.mode());
            s.on_outcome(&class, &outcome);
            assert_eq!(s.pin, pin, "{sql}");
        }
    }

    #[test]
    fn null_that_means_the_last_insert_id_pins() {
        let mut s = session();
        assert!(!run(&mut s, "SET sql_auto_is_null=0", AC, 0, &[variable("sql_auto_is_null", "OFF")]).hold);
        assert!(run(&mut s, "SET sql_auto_is_null=1", AC, 0, &[variable("sql_auto_is_null", "ON")]).hold);
    }

    #[test]
    fn a_reset_goes_back_to_the_names_of_the_login() {
        let mut s = session();
        s.begin_with_names(b"gbk", b"gbk_bin");
        assert_eq!(s.mode().charset, Charset::AsciiTrail);
        run(&mut s, "SET NAMES latin1", AC, 0, &[variable("character_set_client", "latin1")]);
        assert_eq!(s.mode().charset, Charset::AsciiSafe);
        s.reset();
        assert_eq!(
            (s.mode().charset, s.state.value(COLLATION_CONNECTION)),
            (Charset::AsciiTrail, Some(&b"gbk_bin"[..]))
        );
        // MySQL goes back to its own.
        s.take_names(255);
        s.reset();
        assert_eq!((s.mode().charset, s.state.value(COLLATION_CONNECTION)), (Charset::Utf8, None));
    }

    #[test]
    fn warnings_stay_until_a_statement_uses_tables() {
        let mut s = session();
        let class = classify(b"SELECT 1/0", s.mode());
        let outcome = Outcome { status: Some(AC), warnings: 1, ..Outcome::default() };
        assert!(s.on_outcome(&class, &outcome).diagnostics_here && s.has_diagnostics);
        assert!(!run(&mut s, "SHOW WARNINGS", AC, 0, &[]).diagnostics_here && s.has_diagnostics);
        assert!(!run(&mut s, "SELECT 1", AC, 0, &[]).diagnostics_here && s.has_diagnostics);
        let after = run(&mut s, "CALL p()", AC, 0, &[]);
        assert!(!after.diagnostics_here && after.diagnostics_unsure && s.has_diagnostics);
        let class = classify(b"GET DIAGNOSTICS CONDITION 7 @n = MYSQL_ERRNO", s.mode());
        // MariaDB adds the mistake to what it is asked about.
        assert!(s.on_outcome(&class, &Outcome { warnings: 1, ..Outcome::default() }).diagnostics_here);
        assert!(run(&mut s, "SELECT a FROM t", AC, 0, &[]).diagnostics_here && !s.has_diagnostics);
        let after = run(&mut s, "CALL p()", AC, 0, &[]);
        assert!(!after.diagnostics_here && !after.diagnostics_unsure, "there is nothing to forget");
    }
}
