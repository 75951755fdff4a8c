//! What tables and views hide from whoever reads a statement alone: a trigger that takes a lock, a column whose default is the
//! next number of a sequence, a view that asks for the last insert id. Pure: texts of definitions come in, out comes for each name
//! what using it does, and the class of a statement that uses it.
//!
//! Names are compared without their database and in any case, so that none is missed; a column of that name may be taken
//! for it. A text that cannot be read, and a function that is not known, may do anything.

use std::collections::{HashMap, HashSet};

use super::batch::parts;
use super::class::{Class, Forgets, Kind, Pin, diagnostics};
use super::lexer::{Lexer, Mode, Token};
use body::Body;

mod body;

/// Something of a session's may change by it that no session tracker of a server tells.
const STATE: u8 = 1;
/// It asks for LAST_INSERT_ID().
const INSERT_ID: u8 = 2;
/// It asks for ROW_COUNT().
const ROWS: u8 = 4;
/// It asks for FOUND_ROWS().
const FOUND: u8 = 8;
/// It asks for CONNECTION_ID().
const CONNECTION_ID: u8 = 16;
/// It answers for one server.
const LOCAL: u8 = 32;
/// What is set by it may be a variable of the session's, which servers tell of.
const SETS: u8 = 64;
/// It is one for sure.
const SETS_SURELY: u8 = 128;

/// Names outside of plain ASCII have no place of their own: clients write them in their own character set.
const ODD: &[u8] = b"";

/// What using a table or a view does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Effect {
    /// Reading it.
    read: u8,
    /// Changing its rows.
    write: u8,
}

impl Effect {
    fn all(self) -> u8 {
        self.read | self.write
    }

    fn is_none(self) -> bool {
        self.all() == 0
    }
}

/// The tables and views of the servers that hide something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// In lower case.
    names: HashMap<Box<[u8]>, Effect, ahash::RandomState>,
    /// Not all definitions could be read: any table may have a trigger that does something.
    is_unsure: bool,
    /// There may be views and triggers that the account may not see.
    is_partial: bool,
}

impl Hidden {
    /// Nobody knows what writes do: each may do anything.
    pub fn unsure() -> Hidden {
        Hidden { is_unsure: true, ..Hidden::default() }
    }

    /// The same, but not all could be read this time.
    pub fn in_doubt(&self) -> Hidden {
        Hidden { is_unsure: true, ..self.clone() }
    }

    /// The same, but the account may not see all of them.
    pub fn partial(self) -> Hidden {
        Hidden { is_partial: true, ..self }
    }

    /// Whether every statement is what it seems.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.is_unsure && !self.is_partial
    }

    /// Number of tables and views that hide something.
    pub fn len(&self) -> usize {
        self.names.values().filter(|effect| effect.read & !SETS != 0 || effect.write & STATE != 0).count()
    }

    /// Makes of the class of a statement that of what it hides.
    pub fn reveal(&self, sql: &[u8], mode: Mode, class: &mut Class) {
        if self.is_empty() || matches!(class.kind, Kind::Use | Kind::Transaction | Kind::Rollback | Kind::Kill) {
            return;
        }
        let found = match (self.names.is_empty(), class.batch) {
            (true, _) => Effect::default(),
            (false, None) => self.find(sql, mode, class.kind),
            (false, Some(_)) => parts(sql, mode).fold(Effect::default(), |all, part| {
                let Effect { read, write } = self.find(part, mode, class.kind);
                Effect { read: all.read | read, write: all.write | write }
            }),
        };
        let unsure = if self.is_unsure && may_write(class) { STATE } else { 0 };
        found.show(unsure, class);
        let used = if may_write(class) { found.all() } else { found.read };
        let sets = used & (SETS | SETS_SURELY | STATE) != 0;
        class.may_set = sets || self.is_unsure || self.is_partial;
        // What it sets for itself would hide what a view's function sets: servers tell of both in one word.
        if sets && class.restores {
            class.pin = class.pin.or(Some(Pin::Hidden));
        }
    }

    fn find(&self, sql: &[u8], mode: Mode, kind: Kind) -> Effect {
        let (mut found, mut first, mut runs) = (Effect::default(), true, true);
        for token in Lexer::new(sql, mode) {
            let (Token::Word(name) | Token::Quoted(name)) = token else { continue };
            if std::mem::take(&mut first) {
                // What only describes or defines a table neither reads nor changes its rows.
                runs = kind != Kind::Definition && !is_any(name, &["SHOW", "DESC", "DESCRIBE", "EXPLAIN"]);
                continue;
            }
            runs |= is_any(name, &["SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE"]);
            if let Some(effect) = self.get(name) {
                found.read |= effect.read;
                found.write |= effect.write;
            }
        }
        if runs { found } else { Effect::default() }
    }

    fn get(&self, name: &[u8]) -> Option<Effect> {
        let mut buffer = [0; 64];
        let Some(lower) = buffer.get_mut(..name.len()).filter(|_| is_plain(name)) else {
            return self.names.get(ODD).copied();
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.names.get(&*lower).copied()
    }
}

/// Rows may change by it, and triggers run.
fn may_write(class: &Class) -> bool {
    class.kind == Kind::Write || class.batch.is_some_and(|batch| batch.changes)
}

impl Effect {
    fn show(self, unsure: u8, class: &mut Class) {
        // Of a write servers tell what a trigger has set, if it has; a read must not run where the session does not go on.
        let (ignored, hides) = if may_write(class) { (SETS | SETS_SURELY, STATE) } else { (SETS, STATE | SETS_SURELY) };
        let bits = if may_write(class) { self.all() | unsure } else { self.read };
        if bits & !ignored == 0 {
            return;
        }
        // As in the statement itself: a user variable and the connection's id hide nothing behind them.
        if bits & hides != 0 && matches!(class.pin, None | Some(Pin::UserVariable | Pin::ConnectionId)) {
            class.pin = Some(Pin::Hidden);
        }
        class.plain_call &= self.read & STATE == 0;
        if class.forgets == Forgets::No {
            class.forgets = Forgets::Perhaps;
        }
        if !matches!(class.kind, Kind::Read | Kind::Local | Kind::Locking) && class.batch.is_none() {
            // It finds the id where it runs, and is not to run where that is lost.
            class.diagnostics |= if bits & INSERT_ID != 0 { diagnostics::INSERT_ID } else { 0 };
            return;
        }
        let asked = [
            (INSERT_ID, diagnostics::INSERT_ID),
            (ROWS, diagnostics::ROWS),
            (FOUND, diagnostics::FOUND),
            (CONNECTION_ID, diagnostics::CONNECTION_ID),
        ];
        // What a batch writes has no part in what its reads ask for, but for the insert id.
        let bits = if class.batch.is_some() { self.read | bits & INSERT_ID } else { bits };
        for (_, bit) in asked.iter().filter(|(effect, _)| bits & effect != 0) {
            class.diagnostics |= bit;
        }
        if bits & CONNECTION_ID != 0 {
            class.pin = class.pin.or(Some(Pin::ConnectionId));
        }
        if class.batch.is_some() {
            // It goes where it did.
        } else if bits & (INSERT_ID | ROWS | FOUND) != 0 {
            class.kind = Kind::Diagnostics;
        } else if class.kind == Kind::Read && bits & LOCAL != 0 {
            class.kind = Kind::Local;
        }
    }
}

/// Whether a statement defines what may hide something: a trigger, a view, a routine, a table whose columns take numbers from a
/// sequence, or that becomes another one's name. What only removes something need not be known of at once.
pub fn defines(sql: &[u8], mode: Mode) -> bool {
    parts(sql, mode).any(|part| does_define(part, mode))
}

fn does_define(sql: &[u8], mode: Mode) -> bool {
    let mut words = Lexer::new(sql, mode).filter_map(|token| match token {
        Token::Word(word) => Some(word),
        Token::Assign => Some(&b"NEXTVAL"[..]),
        _ => None,
    });
    let first = words.next().unwrap_or_default();
    if !is_any(first, &["CREATE", "ALTER", "RENAME"]) {
        return false;
    }
    loop {
        let Some(word) = words.next() else { return false };
        if is_any(word, &["TRIGGER", "VIEW", "FUNCTION", "PROCEDURE", "PACKAGE"]) {
            return true;
        }
        if is_any(word, &["TABLE", "TABLES"]) {
            break;
        }
        if is_any(word, &["TEMPORARY", "INDEX", "USER", "ROLE", "DATABASE", "SCHEMA", "SEQUENCE", "EVENT", "SERVER"]) {
            return false;
        }
    }
    is_any(first, &["RENAME"]) || words.any(|word| is_any(word, &["NEXTVAL", "NEXT", "LIKE", "RENAME"]))
}

fn is_any(word: &[u8], keywords: &[&str]) -> bool {
    keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()))
}

/// Whether a name is written in the same way in every character set and between any quotes.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= 64 && name.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'`' | b'"'))
}

/// The name in lower case, as [`Hidden::names`] has it.
fn key(name: &str) -> Box<[u8]> {
    let name = name.as_bytes();
    if is_plain(name) { name.to_ascii_lowercase().into() } else { ODD.into() }
}

/// Names of a server's variables, in lower case.
pub type Variables = HashSet<Box<[u8]>, ahash::RandomState>;

/// What kind of thing a text defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A view: its query.
    View,
    /// A table: a trigger of it, or the default of a column.
    Table,
    /// A function or procedure: its body.
    Routine,
}

/// A definition, as a server tells it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What it defines.
    pub of: Of,
    /// Name of the table, view or routine, without its database.
    pub name: String,
    /// `None`: the account may not see it.
    pub text: Option<String>,
    /// What the text means depends on these.
    pub mode: Mode,
}

/// A thing that others may use.
#[derive(Default)]
struct Thing {
    own: u8,
    /// Of these, what it reads or changes: places among the things.
    uses: Vec<usize>,
    effect: Effect,
    is_routine: bool,
    is_view: bool,
}

/// What follows from definitions: a view of a view hides what that hides, and so on.
#[derive(Default)]
struct Things {
    things: Vec<Thing>,
    relations: HashMap<Box<[u8]>, usize, ahash::RandomState>,
    routines: HashMap<Box<[u8]>, usize, ahash::RandomState>,
}

impl Things {
    fn place(&mut self, definition: &Definition) -> usize {
        let is_routine = definition.of == Of::Routine;
        let names = if is_routine { &mut self.routines } else { &mut self.relations };
        let place = *names.entry(key(&definition.name)).or_insert(self.things.len());
        if place == self.things.len() {
            self.things.push(Thing { is_routine, ..Thing::default() });
        }
        self.things[place].is_view |= definition.of == Of::View;
        place
    }

    fn settle(&mut self) {
        loop {
            let mut changed = false;
            for at in 0..self.things.len() {
                let used = self.things[at].uses.iter().map(|used| self.things[*used].effect);
                let (mut read, mut all) = (0, 0);
                used.for_each(|effect| (read, all) = (read | effect.read, all | effect.all()));
                let thing = &self.things[at];
                let effect = match () {
                    () if thing.is_routine => Effect { read: thing.own | all, write: thing.own | all },
                    // Two of one name in two databases may be both.
                    () if thing.is_view => Effect { read: thing.own | read, write: thing.own | all },
                    () => Effect { read: 0, write: thing.own | all },
                };
                changed |= thing.effect != effect;
                self.things[at].effect = effect;
            }
            if !changed {
                return;
            }
        }
    }
}

impl Hidden {
    /// What these definitions hide. `variables`: those of the server, in lower case.
    pub fn new(definitions: &[Definition], variables: &Variables) -> Hidden {
        let mut all = Things::default();
        let places: Vec<usize> = definitions.iter().map(|definition| all.place(definition)).collect();
        for (definition, place) in definitions.iter().zip(places) {
            let (own, uses) = match &definition.text {
                Some(text) => Body::new(&all, variables, definition.of).read(text.as_bytes(), definition.mode),
                None => (STATE, Vec::new()),
            };
            all.things[place].own |= own;
            all.things[place].uses.extend(uses);
        }
        all.settle();
        let effect = |place: &usize| all.things[*place].effect;
        let names = all.relations.iter().filter(|(_, place)| !effect(place).is_none());
        let names = names.map(|(name, place)| (name.clone(), effect(place))).collect();
        Hidden { names, ..Hidden::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtins::Flavour;
    use super::super::classify;
    use super::*;

    fn definition(of: Of, name: &str, text: &str) -> Definition {
        Definition { of, name: name.into(), text: Some(text.into()), mode: Mode::default() }
    }

    fn hidden_by(definitions: &[Definition]) -> Hidden {
        let names = ["sql_mode", "sort_buffer_size", "max_statement_time", "lc_time_names"];
        Hidden::new(definitions, &names.iter().map(|name| name.as_bytes().into()).collect())
    }

    fn revealed(hidden: &Hidden, sql: &str) -> Class {
        let mut class = classify(sql.as_bytes(), Mode::default());
        hidden.reveal(sql.as_bytes(), Mode::default(), &mut class);
        class
    }

    /// Whether a table with a trigger of this body is one whose changes pin.
    fn pins(body: &str) -> bool {
        let hidden = hidden_by(&[definition(Of::Table, "t", body), definition(Of::Table, "audit", "SET NEW.a = 1")]);
        revealed(&hidden, "INSERT INTO t VALUES (1)").pin == Some(Pin::Hidden)
    }

    #[test]
    fn what_a_trigger_does_in_secret_pins_who_changes_its_table() {
        for body in [
            "SET NEW.a = GET_LOCK('k', 0)",
            "BEGIN DO release_lock ('k'); END",
            "BEGIN DECLARE r INT; SELECT a INTO @x FROM audit LIMIT 1; END",
            "SELECT NEW.a, 2 INTO r, @x",
            "SET NEW.a = (@x := 5)",
            "CALL p(NEW.a, @x)",
            "CALL not_seen",
            "SET NEW.id = NEXT VALUE FOR s",
            "SET NEW.id = nextval(s)",
            "SET NEW.id = s.nextval",
            "SET NEW.a = of_a_user(1)",
            "SET NEW.a = `d`.`concat`(1)",
            "GET DIAGNOSTICS @n = NUMBER",
            "SET NEW.a = 'open",
            "CREATE TEMPORARY TABLE x (a INT)",
        ] {
            assert!(pins(body), "{body}");
        }
        for body in [
            "SET NEW.a = UPPER(NEW.b), NEW.c = @me",
            "INSERT INTO audit (a, b) VALUES (NEW.a, @me)",
            "INSERT INTO d.audit(a) SELECT @me",
            "REPLACE audit (a) VALUES (1)",
            "BEGIN DECLARE n DECIMAL(10, 2); DECLARE v VARCHAR(9); IF (NEW.a IN (1, 2)) THEN SET NEW.a = 2; END IF; END",
            "BEGIN WHILE (n > 0) DO SET n = n - 1; END WHILE; SELECT a INTO n FROM audit WHERE b = @me; END",
            "IF NEW.a < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'get_lock(1)'; END IF",
            "INSERT INTO audit VALUES (LAST_INSERT_ID(), CONNECTION_ID(), CURRENT_USER(), NOW(6))",
            "SET @x = NEW.a /* servers tell of that */",
        ] {
            assert!(!pins(body), "{body}");
        }
    }

    #[test]
    fn what_sets_a_variable_is_told_from_what_changes_rows() {
        let may_set = |body: &str| {
            let hidden = hidden_by(&[definition(Of::Table, "t", body)]);
            let class = revealed(&hidden, "INSERT INTO t VALUES (1)");
            assert_eq!((class.pin, hidden.len()), (None, 0), "{body}: servers tell of it");
            class.may_set
        };
        for body in [
            "SET @x = NEW.a",
            "SET NEW.a = 1, @x = 2",
            "BEGIN SET NEW.a = 1; IF REPLACE(NEW.a, 1, 2) THEN SET @@sort_buffer_size = 1; END IF; END",
            "SET SESSION sort_buffer_size = 1",
            "SET max_statement_time = 0",
            "BEGIN UPDATE audit SET a = 1; SET @x = 1; END",
            "BEGIN DECLARE n INT; SET n = 1; SET lc_time_names = 'de_DE'; END",
            "BEGIN SET NEW.a = CASE WHEN NEW.b THEN 1 ELSE 2 END, @x = NEW.a; END",
            "SET NEW.a = REPEAT('x', 3), @x = NEW.a",
            "SET `lc_time_names` = 'de_DE'",
            "BEGIN BEGIN DECLARE sql_mode INT; SET sql_mode = 1; END; SET sql_mode = ''; END",
            "BEGIN CASE WHEN NEW.a THEN BEGIN DECLARE n INT; SET n = 1; END; END CASE; SET n = 2; END",
            "BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION SET @x = 1; SET exit = 1; END",
        ] {
            assert!(may_set(body), "{body}");
        }
        for body in [
            "SET NEW.a = UPPER(NEW.b)",
            "UPDATE audit SET a = @me",
            "SET NEW.a = GREATEST(NEW.b, @me), NEW.c = (SELECT MAX(n) FROM u WHERE m IN (1, @@port))",
            "INSERT INTO audit SET a = NEW.a ON DUPLICATE KEY UPDATE a = 1",
            "IF NEW.a < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
            "BEGIN DECLARE m, n DECIMAL(10, 2) DEFAULT 0; DECLARE s VARCHAR(9); SET N = 1; SET m = 2; SET s = 'x'; END",
            "BEGIN DECLARE n, sql_mode INT; IF NEW.a THEN BEGIN DECLARE n INT; SET n = CASE WHEN 1 THEN 2 END; END; END IF; SET n = 1, `sql_mode` = 2; END",
            "BEGIN DECLARE n INT; WHILE n < 3 DO SET n = n + 1; END WHILE; l: LOOP SET n = 4; LEAVE l; END LOOP; SET n = 5; END",
        ] {
            assert!(!may_set(body), "{body}");
        }
    }

    #[test]
    fn a_limited_read_of_what_may_set_something_pins() {
        let mode = Mode { flavour: Flavour::MariaDb, ..Mode::default() };
        let view = |text: &str| definition(Of::View, "v", text);
        let setter = definition(Of::Routine, "setter", "BEGIN SET @x = 7; RETURN 1; END");
        let plain = definition(Of::Routine, "plain", "RETURN 1");
        let pin = |hidden: &Hidden| {
            let sql = b"SET STATEMENT max_statement_time=9 FOR SELECT a FROM v";
            let mut class = classify(sql, mode);
            hidden.reveal(sql, mode, &mut class);
            assert!(class.restores);
            class.pin
        };
        let sets = hidden_by(&[view("select `d`.`setter`() AS `a`"), setter.clone(), plain.clone()]);
        assert_eq!(pin(&sets), Some(Pin::Hidden));
        assert_eq!(revealed(&sets, "SELECT a FROM v").pin, Some(Pin::Hidden), "it runs where the session goes on");
        let harmless = hidden_by(&[view("select `d`.`plain`() AS `a`"), setter, plain]);
        assert_eq!(pin(&harmless), None);
        for unknown in [harmless.clone().partial(), harmless.in_doubt(), Hidden::unsure()] {
            assert_eq!(pin(&unknown), None, "that is for the session to decide");
        }
        let setter = |text: &str| hidden_by(&[view("select `d`.`f`() AS `a`"), definition(Of::Routine, "f", text)]);
        let own = setter("BEGIN SET sql_mode = ''; RETURN 1; END");
        assert_eq!(revealed(&own, "SELECT a FROM v").pin, Some(Pin::Hidden), "a variable of the server's");
        let parameter = setter("BEGIN SET amount = 2; RETURN amount; END");
        assert_eq!(revealed(&parameter, "SELECT a FROM v").pin, None);
    }

    #[test]
    fn reading_the_table_of_a_trigger_is_what_it_seems() {
        let hidden = hidden_by(&[definition(Of::Table, "t", "SET NEW.a = GET_LOCK('k', 0)")]);
        for sql in
            ["SELECT a FROM t", "DELETE FROM u", "DESC t", "SHOW CREATE TABLE t", "ALTER TABLE t ADD b INT", "USE t"]
        {
            assert_eq!(revealed(&hidden, sql), classify(sql.as_bytes(), Mode::default()), "{sql}");
        }
        for sql in
            ["REPLACE T SET a=1", "LOAD DATA INFILE 'x' INTO TABLE d.`t`", "UPDATE u, t SET u.a=1", "DELETE FROM\nd.t"]
        {
            assert_eq!(revealed(&hidden, sql).pin, Some(Pin::Hidden), "{sql}");
        }
        assert_eq!(hidden.len(), 1);
    }

    #[test]
    fn views_pass_on_what_they_use() {
        let hidden = hidden_by(&[
            definition(Of::View, "locks", "select get_lock('k',0) AS `g`"),
            definition(Of::View, "over", "select `locks`.`g` AS `g` from `d`.`locks`"),
            definition(
                Of::View,
                "plain",
                "select `d`.`t`.`a` AS `a`,regexp_like(`a`,'x') from `d`.`t` where (`d`.`t`.`a` in (1,2))",
            ),
            definition(Of::View, "calls", "select `d`.`harmless`(1) AS `a`"),
            definition(Of::View, "asks", "select last_insert_id() AS `id`"),
            definition(Of::View, "who", "select count(0) AS `n` from `information_schema`.`PROCESSLIST`"),
            definition(Of::Routine, "harmless", "RETURN CONCAT(1, inner_one())"),
            definition(Of::Routine, "inner_one", "RETURN 1"),
            definition(Of::Routine, "locks_too", "BEGIN CALL d.deeper; END"),
            definition(Of::Routine, "deeper", "BEGIN DO GET_LOCK('k', 0); END"),
            definition(Of::Table, "t", "CALL locks_too()"),
            Definition { text: None, ..definition(Of::View, "unseen", "") },
        ]);
        let pin = |sql: &str| revealed(&hidden, sql).pin;
        for sql in [
            "SELECT * FROM locks",
            "SELECT g FROM `over`",
            "SELECT 1 FROM unseen",
            "UPDATE plain SET a=1",
            "TABLE Locks",
        ] {
            assert_eq!(pin(sql), Some(Pin::Hidden), "{sql}");
        }
        for sql in ["SELECT a FROM plain", "SELECT a FROM calls", "SELECT a FROM t"] {
            assert!(revealed(&hidden, sql).is_read(), "{sql}");
        }
        // What else a statement does hides none of it.
        for sql in ["SELECT @a, g FROM locks", "SELECT CONNECTION_ID(), g FROM locks"] {
            assert_eq!(pin(sql), Some(Pin::Hidden), "{sql}");
        }
        let call = |sql: &str| revealed(&hidden, sql).plain_call;
        assert!(call("CALL p(1)") && call("CALL p((SELECT a FROM plain))") && !call("CALL p((SELECT g FROM locks))"));
        let asks = revealed(&hidden, "SELECT id FROM asks");
        assert_eq!((asks.kind, asks.diagnostics, asks.pin), (Kind::Diagnostics, diagnostics::INSERT_ID, None));
        assert_eq!(revealed(&hidden, "SELECT n FROM who").kind, Kind::Local);
        assert_eq!(revealed(&hidden, "CREATE TABLE c SELECT * FROM locks").pin, Some(Pin::Hidden));
    }

    #[test]
    fn definitions_that_may_hide_something_are_known() {
        let defines = |sql: &str| defines(sql.as_bytes(), Mode::default());
        for sql in [
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "create or replace definer=a@b view v as select 1",
            "ALTER VIEW v AS SELECT 2",
            "CREATE OR REPLACE FUNCTION f() RETURNS INT RETURN 1",
            "CREATE TABLE t (a INT DEFAULT NEXT VALUE FOR s)",
            "CREATE TABLE t (a INT DEFAULT (@x := 1))",
            "ALTER TABLE t MODIFY a INT DEFAULT nextval(s)",
            "CREATE TABLE t LIKE u",
            "ALTER TABLE t RENAME TO u",
            "RENAME TABLE t TO u",
        ] {
            assert!(defines(sql), "{sql}");
        }
        for sql in [
            "CREATE TABLE t (view INT)",
            "CREATE TEMPORARY TABLE t LIKE u",
            "DROP TRIGGER x",
            "CREATE INDEX i ON t (a)",
            "CREATE SEQUENCE s",
            "INSERT INTO t VALUES (nextval(s))",
            "ALTER TABLE t ADD b INT",
            "",
        ] {
            assert!(!defines(sql), "{sql}");
        }
    }

    #[test]
    fn names_that_clients_may_write_in_other_ways_are_one() {
        let hidden = hidden_by(&[definition(Of::View, "größe", "select get_lock('k',0)")]);
        for sql in [&b"SELECT 1 FROM gr\xf6\xdfe"[..], "SELECT 1 FROM GRÖSSE".as_bytes(), b"SELECT `a``b`"] {
            let mut class = classify(sql, Mode::default());
            hidden.reveal(sql, Mode::default(), &mut class);
            assert_eq!(class.pin, Some(Pin::Hidden));
        }
        assert!(revealed(&hidden, "SELECT 1 FROM t").is_read());
    }

    #[test]
    fn as_long_as_nobody_knows_every_write_may_hide_something() {
        let hidden = Hidden::unsure();
        assert_eq!(revealed(&hidden, "INSERT INTO t VALUES (1)").pin, Some(Pin::Hidden));
        assert!(revealed(&hidden, "SELECT a FROM t").is_read() && !hidden.is_empty() && Hidden::default().is_empty());
    }
}
