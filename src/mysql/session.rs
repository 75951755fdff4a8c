//! One client's session: what it has set, what it must see, and which server may answer its next statement. Pure.
//!
//! State is learned from the session trackers in OK packets, and from the lexer where trackers are silent. When
//! neither is certain, the session is pinned to one connection of the primary, which is reset before anyone else
//! gets it.

use std::rc::Rc;

use super::protocol::capability::{
    IGNORE_SPACE, STATUS_ANSI_QUOTES, STATUS_AUTOCOMMIT, STATUS_IN_TRANS, STATUS_IN_TRANS_READONLY,
    STATUS_NO_BACKSLASH_ESCAPES, STATUS_OF_SESSION,
};
use super::protocol::follow::Outcome;
use super::sql::{Access, Charset, Class, Forgets, Kind, LockStep, Mode, Pin};
use super::token::{News, Token};

mod learn;
mod locks;
mod state;

use learn::Names;
pub(super) use learn::{is_portable, transactions_of};
use locks::Locks;
pub(super) use state::sets_what_goes_along;
use state::{
    CHARACTER_SET_CLIENT, CHARACTER_SET_CONNECTION, CHARACTER_SET_RESULTS, COLLATION_CONNECTION, READ_ONLY, place_of,
};
pub use state::{State, VARIABLES};

/// Two names of one variable each, of which some servers have both.
const ALIASES: [[&str; 2]; 2] = [["tx_isolation", "transaction_isolation"], ["tx_read_only", "transaction_read_only"]];

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
    /// It is another one for sure.
    pub insert_id_told: bool,
    /// The session's warnings, or that there are none, are known on this connection now.
    pub diagnostics_here: bool,
    /// Nobody knows whether the warnings of the statement before are still the session's, but a connection that has them.
    pub diagnostics_unsure: bool,
    /// The session was pinned by a XA transaction alone, and there is none any more.
    pub is_xa_over: bool,
    /// What it wrote; the session's own token has it already.
    pub news: News,
}

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
    /// The connection at hand is still to tell that the time limit of the session is there again, behind a statement that had one for
    /// itself.
    pub is_limit_owed: bool,
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
            is_limit_owed: false,
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
        self.status & STATUS_OF_SESSION
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
    /// because what the client wrote before stays written. `base_mode`: what the servers' global settings say now.
    pub fn reset(&mut self, base_mode: Mode) {
        self.base_mode = base_mode;
        self.state = Rc::new(State { schema: self.state.schema.clone(), ..self.login_names.clone() });
        self.pin = None;
        self.locks = None;
        self.status = first_status(self.base_mode);
        self.has_diagnostics = false;
        self.on_transaction_lost();
        self.mode = Mode { charset: self.login_charset, ..self.base_mode };
    }

    /// The servers' global settings are those of another server now, which the session takes as far as it has not set its own.
    pub(super) fn rebase(&mut self, base_mode: Mode) {
        let added = self.mode.ignore_space && !self.base_mode.ignore_space;
        self.base_mode = base_mode;
        if !self.state.has_sql_mode() {
            let (charset, ignore_space) = (self.mode.charset, base_mode.ignore_space || added);
            self.mode = Mode { charset, ignore_space, ..base_mode };
        }
    }

    /// Keeps what the session began with and has not set since, where sessions that begin now have something else. Returns what it
    /// comes to.
    pub(super) fn keep<'a>(&mut self, values: impl Iterator<Item = (&'static str, &'a str)>) -> State {
        let (mut state, mut kept) = (State::clone(&self.state), State::default());
        for (name, value) in values {
            let is_set = |name: &str| place_of(name.as_bytes()).is_some_and(|index| state.value(index as u8).is_some());
            let other = ALIASES.iter().find(|names| names.contains(&name));
            let is_kept = !is_set(name) && !other.is_some_and(|names| names.iter().any(|name| is_set(name)));
            let Some(index) = place_of(name.as_bytes()).filter(|_| is_kept) else { continue };
            let spaced = "IGNORE_SPACE";
            // The login has added it.
            let adds = name == "sql_mode" && self.mode.ignore_space && !value.split(',').any(|flag| flag == spaced);
            match (adds, value) {
                (true, "") => kept.set(index as u8, spaced.as_bytes()),
                (true, value) => kept.set(index as u8, format!("{value},{spaced}").as_bytes()),
                (false, value) => kept.set(index as u8, value.as_bytes()),
            }
        }
        if !kept.variables.is_empty() {
            kept.variables.iter().for_each(|(index, value)| state.set(*index, value));
            self.state = Rc::new(state);
        }
        kept
    }

    /// Whether it has set its isolation level, or keeps it.
    pub(super) fn has_isolation(&self) -> bool {
        let places = ALIASES[0].iter().filter_map(|name| place_of(name.as_bytes()));
        places.into_iter().any(|index| self.state.value(index as u8).is_some())
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
        let asks = class.diagnostics & super::sql::diagnostics::INSERT_ID != 0 && class.kind != Kind::Local;
        let may_move = class.trusted && class.batch.is_none_or(|batch| batch.changes);
        after.insert_id_told = learned.insert_id || outcome.insert_id != 0;
        after.insert_id_moved = after.insert_id_told || asks || untold || may_move;
        self.diagnose(class, outcome, &mut after);
        // Whatever a procedure leaves behind, in spite of what was said of it, is for nobody else.
        after.dirty |= class.trusted || outcome.error.is_some() && matches!(class.kind, Kind::Set | Kind::Unknown);
        after.hold = self.holds();
        after
    }

    /// What is left of warnings, and where.
    fn diagnose(&mut self, class: &Class, outcome: &Outcome, after: &mut After) {
        let has_warned = outcome.warnings > 0 || outcome.error.is_some();
        match class.forgets {
            _ if has_warned => (self.has_diagnostics, after.diagnostics_here) = (true, true),
            _ if class.asks_warnings_only() => {}
            Forgets::Yes => (self.has_diagnostics, after.diagnostics_here) = (false, true),
            // The last one of them has not warned, and may have left what an earlier one did. What was before is gone, or was not there.
            Forgets::Perhaps
                if class.batch.is_some_and(|batch| batch.forgets || outcome.warned || !self.has_diagnostics) =>
            {
                (self.has_diagnostics, after.diagnostics_here) = (outcome.warned, true);
            }
            Forgets::Perhaps => after.diagnostics_unsure = self.has_diagnostics,
            Forgets::No => {}
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

#[cfg(test)]
mod tests;
