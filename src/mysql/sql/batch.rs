//! Several statements in one packet. They run on the primary, one after the other on one connection, which is reset before anybody
//! else has it. They tie the session there only where one of them by itself would, or sets what only a statement of its own tells.

use super::class::{Class, Forgets, Kind, Pin, diagnostics};
use super::classify::classify_one;
use super::lexer::{Lexer, Mode, Token};

/// What the statements of a packet do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// One of them may change what others see.
    pub changes: bool,
    /// One of them has the server forget the warnings of statements before the packet.
    pub forgets: bool,
    /// One that may change something may answer with rows.
    pub returns: bool,
    /// What the first of them is.
    pub first: First,
}

/// What the first one of several statements is: whether its refusal tells that nothing has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It does one thing.
    Plain,
    /// It does not look like anything that a server knows.
    Strange,
    /// It may run others: a routine, a block.
    Other,
}

impl Batch {
    /// What cannot be looked at.
    pub(super) const UNKNOWN: Batch = Batch { changes: true, forgets: false, returns: true, first: First::Other };
}

impl First {
    fn of(sql: &[u8], class: &Class, mode: Mode) -> First {
        match class.pin {
            None => First::Plain,
            Some(Pin::Unknown) if !may_begin_block(sql, mode) => First::Strange,
            Some(_) => First::Other,
        }
    }
}

/// Whether the first words may be those of a statement that has others within it (MariaDB takes these from clients, too). It has its
/// parts between semicolons, may have a label, and may find out late that one of them cannot be run.
fn may_begin_block(sql: &[u8], mode: Mode) -> bool {
    let mut lexer = Lexer::new(sql, mode);
    let (Some(Token::Word(first)), second) = (lexer.next(), lexer.next()) else { return true };
    let is_block = |word: &&str| first.eq_ignore_ascii_case(word.as_bytes());
    second == Some(Token::Sign(b':')) || ["IF", "CASE", "LOOP", "REPEAT", "WHILE", "FOR", "BEGIN"].iter().any(is_block)
}

/// The statements of a packet, without the semicolons between them; none is empty. What is no plain text (executable comments that
/// reach from one to the next) comes out in pieces that no server would take.
pub(super) struct Parts<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
}

pub(super) fn parts(sql: &[u8], mode: Mode) -> Parts<'_> {
    Parts { sql, lexer: Lexer::new(sql, mode) }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut start = None;
        loop {
            match self.lexer.next() {
                Some(Token::Sign(b';')) if start.is_some() => break,
                Some(Token::Sign(b';')) => {}
                Some(_) => start = start.or(Some(self.lexer.start())),
                None => return start.map(|start| &self.sql[start..]),
            }
        }
        start.map(|start| &self.sql[start..self.lexer.start()])
    }
}

/// The class of several statements.
pub(super) fn classify_batch(sql: &[u8], mode: Mode) -> Class {
    let mut all = Class { pin: None, trusted: true, ..Class::UNKNOWN };
    let mut batch = Batch { changes: false, forgets: false, returns: false, first: First::Other };
    // What a question would be about that comes next: something before the packet.
    let mut open = u8::MAX;
    for (at, part) in parts(sql, mode).enumerate() {
        let class = classify_one(part, mode);
        let (is_plain, changes) = match class.kind {
            Kind::Read | Kind::Local | Kind::Locking | Kind::Diagnostics => (true, false),
            Kind::Transaction | Kind::Rollback => (true, false),
            Kind::Write => (true, true),
            // Settings are told by a statement of their own, and a definition may go on behind a semicolon.
            Kind::Set | Kind::Use | Kind::Definition | Kind::Kill | Kind::Unknown => (false, true),
        };
        if !is_plain || class.pin.is_some() || class.restores {
            (all.pin, all.trusted) = (Some(Pin::MultiStatement), false);
        }
        all.global_at = all.global_at.or(class.global_at.map(|_| at as u32));
        batch.changes |= changes || class.pin.is_some();
        batch.returns |= !is_plain || class.pin.is_some() || class.returns;
        if at == 0 {
            batch.first = First::of(part, &class, mode);
        }
        // A list of variables is told what there is.
        let of_list = if class.kind == Kind::Local { diagnostics::INSERT_ID } else { 0 };
        all.diagnostics |= class.diagnostics & open & !of_list;
        open &= !diagnostics::ROWS;
        if class.finds && class.pin.is_none() {
            open &= !diagnostics::FOUND;
        }
        if class.forgets == Forgets::Yes {
            open &= !diagnostics::WARNINGS;
            batch.forgets = true;
        }
        all.calc_found_rows |= class.calc_found_rows;
        all.local_file |= class.local_file;
        all.finds |= class.finds;
        // An earlier one may have left what the last one leaves as it is.
        all.forgets = if class.forgets == Forgets::Yes { Forgets::Yes } else { Forgets::Perhaps };
    }
    Class { batch: Some(batch), ..all }
}

#[cfg(test)]
mod tests {
    use super::super::classify::classify;
    use super::diagnostics::{FOUND, INSERT_ID, ROWS, WARNINGS};
    use super::*;

    fn class(sql: &str) -> Class {
        classify(sql.as_bytes(), Mode::default())
    }

    #[test]
    fn parts_are_cut_where_the_server_cuts() {
        let found = |sql: &'static str| {
            let parts = parts(sql.as_bytes(), Mode::default());
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            found("SELECT ';' ; /* ; */ SELECT `;` -- ;\n ;; DO 1 ;"),
            ["SELECT ';' ", "SELECT `;` -- ;\n ", "DO 1 "]
        );
        assert_eq!(found(" ; ;"), [""; 0]);
        assert_eq!(found("SELECT 1"), ["SELECT 1"]);
    }

    #[test]
    fn it_ties_where_a_part_does() {
        for (sql, is_tied, changes) in [
            ("SELECT 1; SELECT 2", false, false),
            ("SELECT a FROM t FOR UPDATE; SELECT NOW(); SHOW TABLES;", false, false),
            ("BEGIN; SELECT a FROM t; COMMIT", false, false),
            ("INSERT INTO t VALUES (1); SELECT LAST_INSERT_ID()", false, true),
            (";; DELETE FROM t; DELETE FROM u", false, true),
            ("SELECT 1; CALL p()", true, true),
            ("SET @a = 1; SELECT @a", true, true),
            ("SELECT 1; SET NAMES utf8", true, true),
            ("USE d; SELECT 1", true, true),
            ("SELECT f(1); SELECT 1", true, true),
            ("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)", true, true),
            ("SELECT 1; SELECT /*! 1 */ 1", true, true),
            ("BEGIN NOT ATOMIC SELECT 1; END", true, true),
            ("SELECT GET_LOCK('a', 1); SELECT 1", true, true),
            ("FROBNICATE; SELECT 1", true, true),
        ] {
            let class = class(sql);
            let expect = (Kind::Unknown, is_tied.then_some(Pin::MultiStatement), !is_tied, Some(changes));
            assert_eq!((class.kind, class.pin, class.trusted, class.batch.map(|batch| batch.changes)), expect, "{sql}");
            assert!(class.tables && class.begins.is_none() && !class.is_read(), "{sql}");
        }
        for sql in ["SELECT 1;", "SELECT 1 ; -- nothing", "; ;"] {
            assert_eq!(class(sql).batch, None, "{sql}");
        }
    }

    #[test]
    fn what_a_refusal_and_rows_tell_is_known_by_its_parts() {
        for (sql, returns, first) in [
            ("UPDATE t SET a = 1; SELECT ROW_COUNT()", false, First::Plain),
            ("SELECT 1; DELETE FROM t RETURNING a", true, First::Plain),
            ("INSERT INTO t VALUES (1) RETURNING a; SELECT 1", true, First::Plain),
            ("EXPLAIN DELETE FROM t; SELECT 1", true, First::Plain),
            ("SELECT 1; CALL p()", true, First::Plain),
            ("CALL p(); SELECT 1", true, First::Other),
            ("SELECT f(); SELECT 1", true, First::Other),
            ("x; y", true, First::Strange),
            ("IF 1 THEN UPDATE t SET a = 1; EXECUTE IMMEDIATE 'x'; END IF", true, First::Other),
            ("x: LOOP UPDATE t SET a = 1; END LOOP", true, First::Other),
            ("BEGIN NOT ATOMIC UPDATE t SET a = 1; END", true, First::Other),
            ("1; SELECT 1", true, First::Other),
        ] {
            let batch = class(sql).batch.expect("several");
            assert_eq!((batch.returns, batch.first), (returns, first), "{sql}");
        }
    }

    #[test]
    fn it_asks_for_what_was_before_it_alone() {
        // What it asks for, what is left behind its last statement, and whether what was before it is forgotten.
        for (sql, asked, forgets, forgets_before) in [
            ("SELECT ROW_COUNT(); SELECT 1", ROWS, Forgets::Perhaps, false),
            ("UPDATE t SET a = 1; SELECT ROW_COUNT()", 0, Forgets::Perhaps, true),
            ("UPDATE t SET a = 1; SELECT FOUND_ROWS()", FOUND, Forgets::Perhaps, true),
            ("SELECT a FROM t; SELECT FOUND_ROWS()", 0, Forgets::Perhaps, true),
            ("SELECT 1; SHOW WARNINGS", WARNINGS, Forgets::Perhaps, false),
            ("SELECT a FROM t; SHOW WARNINGS", 0, Forgets::Perhaps, true),
            ("INSERT INTO t VALUES (1); SELECT LAST_INSERT_ID()", INSERT_ID, Forgets::Perhaps, true),
            ("SELECT 1; SHOW VARIABLES", 0, Forgets::Yes, true),
            ("SELECT 1; UPDATE t SET a = 1", 0, Forgets::Yes, true),
        ] {
            let class = class(sql);
            assert_eq!((class.diagnostics, class.forgets), (asked, forgets), "{sql}");
            assert_eq!(class.batch.map(|batch| batch.forgets), Some(forgets_before), "{sql}");
        }
        assert!(class("SELECT SQL_CALC_FOUND_ROWS a FROM t; SELECT 1").calc_found_rows);
        assert!(class("SELECT 1; LOAD DATA LOCAL INFILE 'x' INTO TABLE t").local_file);
    }
}
