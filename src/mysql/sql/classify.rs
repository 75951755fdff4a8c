//! Decides from a statement's tokens where it may run and what it may leave behind in its session.
//!
//! A statement is a read only when nothing in it can write, lock, change the session, or depend on what one server or
//! one session alone knows. Everything else goes to the primary; whatever the OK packet's session trackers do not
//! report (user variables, GET_LOCK, HANDLER ...) pins the session there.

use super::batch::{Batch, classify_batch};
use super::builtins::{Call, Flavour, call};
use super::class::{Access, Class, Forgets, Kind, Pin, diagnostics};
use super::lexer::{Lexer, Mode, Token};
use super::limited::behind_time_limit;
use super::locks::lock_step;
use super::variables::asked_by_show;

/// First keyword of a statement, as far as it decides how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Select,
    Explain,
    Show,
    Set,
    Insert,
    /// UPDATE, DELETE and the rest of row changes.
    Change,
    Definition,
    /// Nothing behind the first keyword matters.
    Fixed,
}

/// A name that may turn out to be called.
#[derive(Clone, Copy)]
enum Name<'a> {
    None,
    Word(&'a [u8]),
    Quoted,
    Qualified,
    /// Behind WITH or RECURSIVE: the name of a common table expression.
    Cte,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Text,
    Closing,
    Comma,
    Other,
}

struct Scan<'a> {
    class: Class,
    form: Form,
    /// Words since the start of the statement, the first one included.
    words: usize,
    second: Option<&'a [u8]>,
    previous: &'a [u8],
    name: Name<'a>,
    after_dot: bool,
    /// The token before: what decides whether some words are keywords.
    behind: Behind,
    /// In INSERT: VALUES, SELECT or SET was seen, so a name in front of `(` is a call.
    in_values: bool,
    ended: bool,
    /// In EXPLAIN: the query has begun.
    explains: bool,
    /// It is not known yet what is defined.
    defines: bool,
    /// Only the first number of a LIMIT has come so far.
    in_limit: bool,
    ignore_space: bool,
    oracle: bool,
    flavour: Flavour,
    /// CALL: what follows up to the first parenthesis is the procedure's name.
    names_procedure: bool,
    /// SET STATEMENT ... FOR SHOW.
    runs_show: bool,
    /// SHOW VARIABLES.
    shows_variables: bool,
    /// Open parentheses.
    depth: u32,
    /// A bit for each depth below 64: it has a SELECT, so a FROM there names tables. Others are in TRIM() and its like.
    selects: u64,
    /// What it was before the last FROM, which names no table if DUAL follows.
    before_from: Forgets,
    /// See [`Class::global_at`].
    sets_globally: bool,
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

fn is_any(word: &[u8], keywords: &[&str]) -> bool {
    keywords.iter().any(|keyword| is(word, keyword))
}

/// The database in `USE name`, without its quotes. `None`: that is not what it says, or not plainly.
pub fn used_schema(sql: &[u8], mode: Mode) -> Option<&[u8]> {
    let mut lexer = Lexer::new(sql, mode);
    match (lexer.next()?, lexer.next()?) {
        (Token::Word(word), Token::Word(name)) if is(word, "USE") => Some(name),
        (Token::Word(word), Token::Quoted(name)) if is(word, "USE") && !name.contains(&b'`') => Some(name),
        _ => None,
    }
}

/// Classifies one packet of SQL. Time is linear in its length; nothing is allocated.
pub fn classify(sql: &[u8], mode: Mode) -> Class {
    if let Some(limited) = behind_time_limit(sql, mode) {
        let class = classify_one(limited, mode);
        // The server tells of the limit as of a change, and nothing of its end.
        if class.is_read() && class.tables && class.forgets == Forgets::Yes && class.diagnostics == 0 {
            return Class { restores: true, ..class };
        }
    }
    classify_one(sql, mode)
}

pub(super) fn classify_one(sql: &[u8], mode: Mode) -> Class {
    let mut lexer = Lexer::new(sql, mode);
    let mut scan = Scan {
        class: Class::of(Kind::Local),
        form: Form::Fixed,
        words: 0,
        second: None,
        previous: b"",
        name: Name::None,
        after_dot: false,
        behind: Behind::Other,
        in_values: false,
        ended: false,
        explains: false,
        defines: false,
        in_limit: false,
        ignore_space: mode.ignore_space,
        oracle: mode.oracle,
        flavour: mode.flavour,
        names_procedure: false,
        runs_show: false,
        shows_variables: false,
        depth: 0,
        selects: 0,
        before_from: Forgets::No,
        sets_globally: false,
    };
    let (mut several, mut kills, mut next_starts, mut may_run, mut behind_dot) = (false, false, true, false, false);
    while let Some(token) = lexer.next() {
        if token == Token::Doubt {
            return Class { global_at: scan.sets_globally.then_some(0), ..Class::UNKNOWN };
        }
        let is_part = std::mem::replace(&mut behind_dot, token == Token::Sign(b'.'));
        if scan.ended {
            several |= token != Token::Sign(b';');
            // A KILL must not hide behind another statement.
            let at_start = std::mem::replace(&mut next_starts, token == Token::Sign(b';'));
            kills |= at_start && matches!(token, Token::Word(word) if is(word, "KILL"));
        } else {
            scan.token(token, lexer.was_spaced());
        }
        // Nor within one; a routine that is defined kills nobody yet, and SET looks at it itself.
        let runs = match scan.form {
            Form::Definition => scan.ended && may_run,
            Form::Set => scan.ended,
            _ => true,
        };
        kills |= runs && !is_part && matches!(token, Token::Word(word) if is(word, "KILL"));
        may_run = matches!(token, Token::Word(word) if is(word, "FOR"));
    }
    if kills || scan.class.kind == Kind::Kill {
        return Class::of(Kind::Kill);
    }
    if several {
        // Parts of a comment by themselves would be something else.
        return if lexer.seen_executable_comment() { pieces(sql, mode) } else { classify_batch(sql, mode) };
    }
    scan.class.global_at = scan.sets_globally.then_some(0);
    // EXPLAIN, for one.
    scan.class.returns |=
        scan.class.kind == Kind::Write && !matches!(scan.form, Form::Insert | Form::Change | Form::Set);
    if lexer.seen_executable_comment() {
        let (pin, kind) = (Some(Pin::ExecutableComment), Kind::Unknown);
        return Class { pin, kind, forgets: Forgets::Perhaps, plain_call: false, ..scan.class };
    }
    let may_have_hints = matches!(scan.form, Form::Select | Form::Insert | Form::Change | Form::Explain);
    // To MariaDB that is a comment.
    let has_set_var = lexer.seen_set_var() && mode.flavour != Flavour::MariaDb;
    scan.class.restores = has_set_var && may_have_hints && scan.class.pin.is_none();
    if scan.shows_variables {
        let (asked, is_about) = asked_by_show(sql, mode);
        scan.class.diagnostics |= asked;
        if is_about {
            scan.demote(Kind::Diagnostics);
        }
    }
    if matches!(scan.class.pin, Some(Pin::Lock | Pin::UnknownFunction | Pin::Call)) {
        scan.class.lock = lock_step(sql, mode);
    }
    scan.class
}

fn is_global_scope(word: &[u8]) -> bool {
    is_any(word, &["GLOBAL", "PERSIST"])
}

/// The same of `@@global.name`, and of a scope by itself, in front of ` . name`.
fn is_global_variable(variable: &[u8]) -> bool {
    variable.split(|byte| *byte == b'.').next().is_some_and(is_global_scope)
}

/// The class of several statements that cannot be looked at one by one.
fn pieces(sql: &[u8], mode: Mode) -> Class {
    let global_at = names_global_scope(sql, mode).then_some(0);
    Class { pin: Some(Pin::MultiStatement), batch: Some(Batch::UNKNOWN), global_at, ..Class::UNKNOWN }
}

/// Whether a text may set something for sessions that begin later, as far as it can be cut at all.
fn names_global_scope(sql: &[u8], mode: Mode) -> bool {
    Lexer::new(sql, mode).any(|token| match token {
        Token::Word(word) => is_global_scope(word),
        Token::SystemVariable(variable) => is_global_variable(variable),
        _ => false,
    })
}

impl<'a> Scan<'a> {
    /// The first reason counts, but for a user variable or the connection's id, which hide none behind them.
    fn pin(&mut self, pin: Pin) {
        self.class.plain_call = false;
        if matches!(self.class.pin, None | Some(Pin::UserVariable | Pin::ConnectionId)) {
            self.class.pin = Some(pin);
        }
        if matches!(pin, Pin::UnknownFunction | Pin::Call | Pin::TextPrepare | Pin::Unknown) {
            self.may_forget();
        }
    }

    fn may_forget(&mut self) {
        if self.class.forgets == Forgets::No {
            self.class.forgets = Forgets::Perhaps;
        }
    }

    /// The statement is no read after all.
    fn demote(&mut self, kind: Kind) {
        let strength = |kind: Kind| match kind {
            Kind::Read => 0,
            Kind::Local => 1,
            Kind::Locking => 2,
            Kind::Diagnostics => 3,
            _ => 4,
        };
        if strength(kind) > strength(self.class.kind) {
            self.class.kind = kind;
        }
    }

    fn token(&mut self, token: Token<'a>, spaced: bool) {
        let name = std::mem::replace(&mut self.name, Name::None);
        let after_dot = std::mem::replace(&mut self.after_dot, false);
        let now = match token {
            Token::Text => Behind::Text,
            Token::Sign(b')') => Behind::Closing,
            Token::Sign(b',') => Behind::Comma,
            _ => Behind::Other,
        };
        let behind = std::mem::replace(&mut self.behind, now);
        if matches!(token, Token::Sign(_)) {
            self.previous = b"";
        }
        if std::mem::replace(&mut self.in_limit, false) {
            self.in_limit = matches!(token, Token::Number | Token::Sign(b'?'));
            self.class.counts &= token != Token::Sign(b',');
        }
        match token {
            Token::Sign(b'(') => self.depth += 1,
            Token::Sign(b')') => {
                self.selects &= !self.level();
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        match token {
            Token::Word(word) => self.word(word, after_dot, behind),
            Token::Quoted(word) => {
                self.name = if after_dot { Name::Qualified } else { Name::Quoted };
                self.system_schema(word);
                self.in_order(b"");
            }
            Token::UserVariable | Token::Assign => self.pin(Pin::UserVariable),
            Token::SystemVariable(variable) => self.system_variable(variable, behind),
            Token::Sign(b'(') if self.words > 0 => self.call(name, spaced),
            Token::Sign(b'.') => self.after_dot = true,
            Token::Sign(b';') => self.ended = true,
            Token::Text | Token::Number | Token::Sign(_) => {
                if self.words == 0 && token != Token::Sign(b'(') {
                    self.class = Class::UNKNOWN;
                    self.words = 1;
                }
            }
            Token::Doubt => {}
        }
    }

    /// Counts the word and keeps it as the one before the next.
    fn in_order(&mut self, word: &'a [u8]) {
        self.words += 1;
        if self.words == 2 {
            self.second = Some(word);
        }
        self.previous = word;
    }

    fn word(&mut self, word: &'a [u8], after_dot: bool, behind: Behind) {
        if self.words == 0 {
            self.first_word(word);
            self.in_order(word);
            return;
        }
        self.name = match () {
            () if after_dot => Name::Qualified,
            () if is_any(self.previous, &["WITH", "RECURSIVE"]) && !is(word, "RECURSIVE") => Name::Cte,
            // JSON_TABLE(... '$' COLUMNS (...)), MATCH (...) AGAINST (...): elsewhere these may be stored functions.
            () if behind == Behind::Text && is(word, "COLUMNS") => Name::None,
            () if behind == Behind::Closing && is(word, "AGAINST") => Name::None,
            () => Name::Word(word),
        };
        // Oracle's way to use a sequence: `s.nextval`.
        if is_any(word, &["NEXTVAL", "CURRVAL"]) {
            self.pin(Pin::UnknownFunction);
        }
        if !after_dot {
            self.keyword(word, behind);
        }
        self.system_schema(word);
        // Behind a dot even a reserved word is a name.
        self.in_order(if after_dot { b"" } else { word });
    }

    fn first_word(&mut self, word: &'a [u8]) {
        use Form::{Change, Definition, Explain, Fixed, Insert, Select, Set, Show};
        let (form, kind, pin) = if is_any(word, &["SELECT", "WITH", "TABLE", "VALUES"]) {
            (Select, Kind::Read, None)
        } else if is_any(word, &["INSERT", "REPLACE", "LOAD"]) {
            (Insert, Kind::Write, None)
        } else if is_any(word, &["UPDATE", "DELETE"]) {
            (Change, Kind::Write, None)
        } else if is(word, "SET") {
            (Set, Kind::Set, None)
        } else if is_any(word, &["BEGIN", "START", "COMMIT", "SAVEPOINT", "RELEASE"]) {
            (Fixed, Kind::Transaction, None)
        } else if is(word, "ROLLBACK") {
            (Fixed, Kind::Rollback, None)
        } else if is(word, "SHOW") {
            (Show, Kind::Local, None)
        } else if is_any(word, &["EXPLAIN", "DESCRIBE", "DESC"]) {
            (Explain, Kind::Read, None)
        } else if is(word, "USE") {
            (Fixed, Kind::Use, None)
        } else if is_any(word, &["CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE", "GRANT", "REVOKE"]) {
            (Definition, Kind::Definition, None)
        } else if is_any(word, &["CALL", "DO"]) {
            (Change, Kind::Write, Some(Pin::Call))
        } else if is_any(word, &["LOCK", "UNLOCK", "HANDLER", "BACKUP"]) {
            (Fixed, Kind::Write, Some(Pin::Lock))
        } else if is_any(word, &["PREPARE", "EXECUTE", "DEALLOCATE"]) {
            (Fixed, Kind::Write, Some(Pin::TextPrepare))
        } else if is(word, "XA") {
            (Fixed, Kind::Transaction, Some(Pin::Xa))
        } else if is(word, "KILL") {
            (Fixed, Kind::Kill, None)
        } else if is(word, "GET") {
            (Fixed, Kind::Diagnostics, None)
        } else if is_any(word, &["HELP", "CHECKSUM"]) {
            (Fixed, Kind::Local, None)
        } else if is_any(
            word,
            &[
                "ANALYZE",
                "OPTIMIZE",
                "REPAIR",
                "CHECK",
                "CACHE",
                "FLUSH",
                "RESET",
                "PURGE",
                "CHANGE",
                "STOP",
                "INSTALL",
                "UNINSTALL",
                "SIGNAL",
                "SHUTDOWN",
            ],
        ) {
            (Definition, Kind::Definition, None)
        } else {
            (Fixed, Kind::Unknown, Some(Pin::Unknown))
        };
        self.form = form;
        self.class.kind = kind;
        self.class.pin = pin;
        (self.class.plain_call, self.names_procedure) = (is(word, "CALL"), is(word, "CALL"));
        self.class.tables = !matches!(form, Select | Set | Fixed) || is_any(word, &["TABLE", "CHECKSUM"]);
        self.class.forgets = match form {
            _ if is_any(word, &["TABLE", "TRUNCATE", "LOCK", "HANDLER", "CHECKSUM"]) => Forgets::Yes,
            _ if is_any(word, &["CALL", "PREPARE", "EXECUTE", "BACKUP"]) => Forgets::Perhaps,
            Insert | Explain => Forgets::Yes,
            Change if !is(word, "DO") => Forgets::Yes,
            Show | Definition => Forgets::Perhaps,
            Select | Set | Change | Fixed if kind != Kind::Unknown => Forgets::No,
            _ => Forgets::Perhaps,
        };
        self.defines = form == Definition && !is_any(word, &["GRANT", "REVOKE", "FLUSH", "RESET", "PURGE", "CHANGE"]);
        if is(word, "SELECT") {
            self.selects = self.level();
        }
        self.class.finds = is_any(word, &["SELECT", "WITH"]);
        self.class.counts = self.class.finds;
        if kind == Kind::Diagnostics {
            self.class.diagnostics = diagnostics::WARNINGS; // GET DIAGNOSTICS
        }
        match is(word, "BEGIN") {
            true if self.oracle => self.pin(Pin::Call), // it begins a block
            true => self.class.begins = Some(Access::Unsaid),
            false => {}
        }
    }

    /// A bare word that is not the first one and not behind a dot.
    fn keyword(&mut self, word: &'a [u8], behind: Behind) {
        self.class.returns |= matches!(self.form, Form::Insert | Form::Change) && is(word, "RETURNING");
        if matches!(self.form, Form::Select | Form::Explain | Form::Set | Form::Change) {
            self.name_tables(word);
        }
        match self.form {
            Form::Select | Form::Explain => self.keyword_of_read(word),
            Form::Show => self.keyword_of_show(word),
            Form::Set => self.keyword_of_set(word, behind),
            Form::Insert => {
                if is_any(word, &["VALUES", "VALUE", "SELECT", "SET", "WITH"]) {
                    self.in_values = true;
                }
                self.class.local_file |= is(word, "INFILE") && is(self.previous, "LOCAL");
                self.use_sequence(word);
            }
            Form::Definition => self.keyword_of_definition(word),
            Form::Fixed => self.keyword_of_fixed(word),
            Form::Change => self.use_sequence(word),
        }
    }

    /// The bit of the present depth in `selects`; none that is too deep.
    fn level(&self) -> u64 {
        1u64.checked_shl(self.depth).unwrap_or(0)
    }

    fn name_tables(&mut self, word: &[u8]) {
        if is(word, "SELECT") {
            self.selects |= self.level();
        } else if is(word, "FROM") && self.depth >= u64::BITS {
            self.may_forget();
        } else if is(word, "FROM") && self.selects & self.level() != 0 {
            self.before_from = std::mem::replace(&mut self.class.forgets, Forgets::Yes);
        } else if is(word, "DUAL") && is(self.previous, "FROM") {
            self.class.forgets = self.before_from;
        }
    }

    /// NEXT VALUE FOR and PREVIOUS VALUE FOR: the number is the connection's from then on.
    fn use_sequence(&mut self, word: &[u8]) {
        if is(word, "VALUE") && is_any(self.previous, &["NEXT", "PREVIOUS"]) {
            self.pin(Pin::UnknownFunction);
        }
    }

    fn keyword_of_read(&mut self, word: &'a [u8]) {
        if is(word, "FROM") {
            self.class.tables = true;
        } else if is(word, "SELECT") {
            // What is explained may use none; a query within another one is taken for a table.
            let is_explained = self.form == Form::Explain && !std::mem::replace(&mut self.explains, true);
            self.class.tables = !is_explained;
            if is_explained {
                self.class.forgets = Forgets::No;
            }
        }
        self.use_sequence(word);
        let previous = self.previous;
        if is(word, "INTO") || is(word, "PROCEDURE") {
            // INTO @variable pins by itself; INTO OUTFILE writes on one server.
            self.demote(Kind::Write);
        } else if is_any(word, &["UPDATE", "SHARE"]) && is(previous, "FOR") || is(word, "IN") && is(previous, "LOCK") {
            self.demote(Kind::Locking);
        } else if is(word, "CONNECTION") && is(previous, "FOR") {
            self.class.forgets = Forgets::Perhaps;
            self.demote(Kind::Local);
        } else if is_any(word, &["UPDATE", "DELETE"]) || is_any(word, &["INSERT", "REPLACE"]) && self.starts_change() {
            // WITH ... UPDATE, EXPLAIN DELETE.
            self.demote(Kind::Write);
        } else if is(word, "SQL_CALC_FOUND_ROWS") {
            self.class.calc_found_rows = true;
            self.class.counts = false;
            self.demote(Kind::Local);
        } else if is(word, "ANALYZE") {
            self.demote(Kind::Local);
        } else if is_any(word, &["OFFSET", "UNION", "EXCEPT", "INTERSECT"]) {
            self.class.counts = false;
        } else if is(word, "LIMIT") {
            self.in_limit = true;
        }
    }

    /// INSERT and REPLACE are also functions; those follow an operator, a comma or another keyword, never directly
    /// EXPLAIN, and never the `)` that ends a WITH.
    fn starts_change(&self) -> bool {
        is_any(
            self.previous,
            &["EXPLAIN", "DESCRIBE", "DESC", "EXTENDED", "PARTITIONS", "ANALYZE", "JSON", "TRADITIONAL", "TREE"],
        )
    }

    fn keyword_of_show(&mut self, word: &'a [u8]) {
        // What servers make a table of to show it.
        self.shows_variables |= self.words <= 2 && is(word, "VARIABLES");
        let is_of_server =
            is_any(word, &["STATUS", "VARIABLES"]) && is_any(self.previous, &["SHOW", "GLOBAL", "SESSION", "LOCAL"]);
        if is_of_server || is_any(word, &["TABLE", "VIEW"]) && is(self.previous, "CREATE") {
            self.class.forgets = Forgets::Yes;
        }
        // Its condition may name tables.
        self.class.tables = is(word, "SELECT") || self.class.tables && !is_of_server;
        let second = if self.words == 1 || self.words == 2 && is_any(self.second.unwrap_or(b""), &["FULL", "EXTENDED"])
        {
            word
        } else {
            if is_any(word, &["WARNINGS", "ERRORS"]) && is(self.second.unwrap_or(b""), "COUNT") {
                self.show_warnings();
            }
            return;
        };
        if is_any(second, &["WARNINGS", "ERRORS"]) {
            self.show_warnings();
        } else if is(second, "CREATE") {
            self.class.kind = Kind::Read;
        } else if is_any(
            second,
            &[
                "DATABASES",
                "SCHEMAS",
                "TABLES",
                "COLUMNS",
                "FIELDS",
                "INDEX",
                "INDEXES",
                "KEYS",
                "TABLE",
                "COLLATION",
                "CHARACTER",
                "CHARSET",
                "TRIGGERS",
            ],
        ) {
            self.class.kind = Kind::Read;
            self.class.forgets = Forgets::Yes;
        }
    }

    fn show_warnings(&mut self) {
        self.class.kind = Kind::Diagnostics;
        self.class.diagnostics = diagnostics::WARNINGS;
        self.class.forgets = Forgets::No;
    }

    fn keyword_of_set(&mut self, word: &'a [u8], behind: Behind) {
        // Whatever may stand first may also stand behind a comma.
        if self.words == 1 || behind == Behind::Comma {
            if is_any(word, &["STATEMENT", "ROLE", "RESOURCE"]) {
                self.pin(Pin::Setting);
                self.may_forget();
            } else if is_any(word, &["PASSWORD", "DEFAULT"]) {
                self.class.kind = Kind::Definition;
            }
        }
        // What is run by it.
        let is_run = is(self.previous, "FOR") && self.second.is_some_and(|second| is(second, "STATEMENT"));
        if is_run && is(word, "KILL") {
            self.class.kind = Kind::Kill;
        } else if is_run && is(word, "USE") {
            self.class.kind = Kind::Use;
        } else if is_run && is_any(word, &["PREPARE", "EXECUTE"]) {
            self.class.pin = Some(Pin::TextPrepare);
        } else if is_run && is(word, "GET") {
            self.class.diagnostics |= diagnostics::WARNINGS;
        }
        self.runs_show |= is_run && is(word, "SHOW");
        if self.runs_show && is_any(word, &["WARNINGS", "ERRORS"]) {
            self.class.diagnostics |= diagnostics::WARNINGS;
        }
        self.sets_globally |= is_global_scope(word) && self.begins_assignment(behind);
        if is_any(word, &["GLOBAL", "PERSIST", "PERSIST_ONLY"]) {
            self.class.kind = Kind::Write; // changes its server, not the session
        }
        // SET CHARACTER SET takes the database's collation, SET NAMES DEFAULT the server's.
        if is_any(word, &["COLLATE", "CHARACTER", "CHARSET", "DEFAULT"]) {
            self.class.collate = true;
        }
    }

    fn keyword_of_definition(&mut self, word: &'a [u8]) {
        if self.defines {
            self.define(word);
        }
        if is(word, "TEMPORARY") {
            self.pin(Pin::Temporary);
        } else if self.words == 1 && is(word, "PREPARE") {
            self.pin(Pin::TextPrepare);
        } else if is_any(word, &["LOCK", "EXPORT"]) {
            // FLUSH TABLES ... WITH READ LOCK, FOR EXPORT.
            self.pin(Pin::Lock);
        } else if is_any(word, &["SELECT", "SET", "VALUES"]) {
            // CREATE TABLE ... SELECT; MariaDB's ANALYZE UPDATE ... SET runs what it analyzes.
            self.in_values = true;
        }
    }

    /// The first word for a kind of thing tells what is defined; behind it may come the body of a routine.
    fn define(&mut self, word: &[u8]) {
        let is_table = is_any(word, &["TABLE", "TABLES", "VIEW", "INDEX", "SEQUENCE"]);
        let is_other =
            is_any(word, &["FUNCTION", "PROCEDURE", "PACKAGE", "EVENT", "TRIGGER", "USER", "ROLE", "SELECT"]);
        self.defines &= !(is_table || is_other);
        if is_table {
            self.class.forgets = Forgets::Yes;
        }
    }

    fn keyword_of_fixed(&mut self, word: &'a [u8]) {
        let ends = matches!(self.class.kind, Kind::Transaction | Kind::Rollback);
        if ends && is(word, "RELEASE") && !is(self.previous, "NO") {
            self.pin(Pin::Setting); // COMMIT RELEASE: the server closes the connection
        }
        if self.class.kind == Kind::Diagnostics && is(word, "ROW_COUNT") {
            self.class.diagnostics |= diagnostics::ROWS;
        }
        if let Some(access) = &mut self.class.begins
            && is(self.previous, "READ")
        {
            *access = if is(word, "ONLY") { Access::ReadOnly } else { Access::ReadWrite };
        }
        if self.words != 1 {
            if is(word, "TO") && self.class.kind == Kind::Rollback {
                self.class.kind = Kind::Transaction;
            }
            return;
        }
        let first = self.previous;
        if is(first, "BEGIN") && !is(word, "WORK") {
            self.pin(Pin::Call); // BEGIN NOT ATOMIC
            self.class.begins = None;
        } else if is(first, "START") && is(word, "TRANSACTION") {
            self.class.begins = Some(Access::Unsaid);
        } else if is(first, "START") {
            self.class.kind = Kind::Definition;
        } else if is(first, "RELEASE") && !is(word, "SAVEPOINT") {
            self.class = Class::UNKNOWN;
        } else if is(first, "ROLLBACK") && is(word, "TO") {
            self.class.kind = Kind::Transaction;
        }
    }

    fn system_schema(&mut self, word: &[u8]) {
        if is_any(word, &["information_schema", "performance_schema", "mysql", "sys"]) && self.class.kind == Kind::Read
        {
            self.class.kind = Kind::Local;
        }
    }

    /// In SET: what comes now says what is set, and not to what.
    fn begins_assignment(&self, behind: Behind) -> bool {
        is(self.previous, "SET") || behind == Behind::Comma && self.depth == 0
    }

    fn system_variable(&mut self, variable: &[u8], behind: Behind) {
        let sets = self.form == Form::Set && is_global_variable(variable) && self.begins_assignment(behind);
        self.sets_globally |= sets;
        if self.words == 0 {
            self.class = Class::UNKNOWN;
        }
        self.in_order(b"");
        let mut parts = variable.rsplit(|b| *b == b'.');
        let (name, scope) = (parts.next().unwrap_or(variable), parts.next().unwrap_or_default());
        if self.form == Form::Set && is_any(scope, &["GLOBAL", "PERSIST", "PERSIST_ONLY"]) {
            self.class.kind = Kind::Write;
        }
        if is_any(name, &["", "SESSION", "LOCAL", "GLOBAL", "PERSIST", "PERSIST_ONLY"]) {
            self.class = Class::UNKNOWN; // `@@session . name`: the name stands apart
            return;
        }
        if is_any(name, &["warning_count", "error_count"]) {
            self.on_diagnostics(diagnostics::WARNINGS);
        } else if is_any(name, &["identity", "last_insert_id"]) {
            self.on_diagnostics(diagnostics::INSERT_ID);
        } else if name.contains(&b'`') {
            self.pin(Pin::Unknown);
        } else {
            self.demote(Kind::Local);
        }
    }

    /// The server's own id is the same as long as the connection is.
    fn on_connection_id(&mut self) {
        self.class.diagnostics |= diagnostics::CONNECTION_ID;
        self.pin(Pin::ConnectionId);
    }

    fn on_diagnostics(&mut self, bit: u8) {
        self.class.diagnostics |= bit;
        self.demote(Kind::Diagnostics);
    }

    /// `(` behind a name.
    fn call(&mut self, name: Name<'a>, spaced: bool) {
        if std::mem::take(&mut self.names_procedure) {
            return;
        }
        let matters = match self.form {
            Form::Select | Form::Explain | Form::Show | Form::Set | Form::Change => true,
            Form::Insert | Form::Definition => self.in_values,
            Form::Fixed => false,
        };
        match name {
            Name::None | Name::Cte => {}
            Name::Word(word) if is(word, "LAST_INSERT_ID") => self.on_diagnostics(diagnostics::INSERT_ID),
            Name::Word(word) if is(word, "ROW_COUNT") => self.on_diagnostics(diagnostics::ROWS),
            Name::Word(word) if is(word, "FOUND_ROWS") => self.on_diagnostics(diagnostics::FOUND),
            _ if !matters => {}
            Name::Word(word) if is(word, "CONNECTION_ID") => self.on_connection_id(),
            Name::Word(word) if self.form == Form::Show && is(word, "COUNT") => {}
            Name::Word(word) => match call(word, spaced, self.ignore_space, self.flavour) {
                Call::Keyword | Call::Pure => {}
                Call::Local => self.demote(Kind::Local),
                Call::Unknown => self.pin(Pin::UnknownFunction),
            },
            Name::Quoted | Name::Qualified => self.pin(Pin::UnknownFunction),
        }
    }
}

#[cfg(test)]
mod tests;
