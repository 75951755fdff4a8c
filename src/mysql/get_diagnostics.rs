//! GET DIAGNOSTICS about a statement that ran on a replica, or where the last insert id is not known. It sets user variables,
//! and those tie the session to a connection of the primary that must know everything; so the connection that ran the
//! statement is asked, and what it says is SET on such a one.

use std::pin::Pin;

use super::client::Client;
use super::diagnostics::{Ask, Witness};
use super::lease::Lease;
use super::protocol::command;
use super::protocol::packet::HEADER_BYTES;
use super::sql::lexer::{Lexer, Token};
use super::sql::{self, Class, Kind, Mode};
use crate::runtime::time::timeout;

/// What a variable is set to: its name as it is written, and what decides how its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item<'a> {
    variable: &'a [u8],
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// NUMBER, MYSQL_ERRNO.
    Unsigned,
    /// ROW_COUNT.
    Signed,
    /// The rest: texts in utf8mb3.
    Text,
}

impl Form {
    fn of(name: &[u8]) -> Form {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("NUMBER") || is("MYSQL_ERRNO") => Form::Unsigned,
            () if is("ROW_COUNT") => Form::Signed,
            () => Form::Text,
        }
    }
}

impl Item<'_> {
    /// Appends how to ask for the value, in ASCII whatever the character set of results is.
    fn put_question(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Unsigned | Form::Signed => out.extend_from_slice(self.variable),
            Form::Text => out.extend_from_slice(&[b"HEX(CONVERT(", self.variable, b" USING utf8mb3))"].concat()),
        }
    }

    /// Appends the assignment of this answer. `None`: it is none.
    fn put_assignment(&self, out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
        let is_fit = |byte: &u8| match self.form {
            Form::Unsigned => byte.is_ascii_digit(),
            Form::Signed => byte.is_ascii_digit() || *byte == b'-',
            Form::Text => byte.is_ascii_hexdigit(),
        };
        let (before, behind): (&[u8], &[u8]) = match self.form {
            Form::Unsigned => (b" = CAST(", b" AS UNSIGNED)"),
            Form::Signed => (b" = ", b""),
            Form::Text => (b" = _utf8mb3 X'", b"'"),
        };
        out.extend_from_slice(&[self.variable, before, value, behind].concat());
        value.iter().all(is_fit).then_some(())
    }
}

/// What GET DIAGNOSTICS sets. `None`: the statement is none, or not plainly.
fn items(sql: &[u8], mode: Mode) -> Option<Vec<Item<'_>>> {
    let mut lexer = Lexer::new(sql, mode);
    for expect in ["GET", "DIAGNOSTICS"] {
        let word = match lexer.next()? {
            Token::Word(word) if word.eq_ignore_ascii_case(b"CURRENT") => lexer.next()?,
            token => token,
        };
        matches!(word, Token::Word(word) if word.eq_ignore_ascii_case(expect.as_bytes())).then_some(())?;
    }
    let mut all = Vec::new();
    while let Some(token) = lexer.next() {
        match token {
            Token::UserVariable => {
                let variable = lexer.text();
                match lexer.next()? {
                    Token::Sign(b'=') => {
                        let Token::Word(name) = lexer.next()? else { return None };
                        all.push(Item { variable, form: Form::of(name) });
                    }
                    _ => return None, // the number of the condition is a variable
                }
            }
            Token::Doubt => return None,
            _ => {}
        }
    }
    (!all.is_empty() && !lexer.seen_executable_comment()).then_some(all)
}

/// Whether it is GET DIAGNOSTICS into user variables.
pub(super) fn is_get_diagnostics(class: &Class) -> bool {
    class.kind == Kind::Diagnostics && class.pin == Some(sql::Pin::UserVariable)
}

impl Client {
    /// Puts SET in place of a GET DIAGNOSTICS that only a connection can answer where the session cannot stay. `false`: it stays as it is.
    ///
    /// Boxed here: the futures of other statements need not have room for it.
    pub(super) fn put_diagnostics(&mut self, class: Class) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async move {
            if self.held.is_some() || self.own_error.is_some() || self.request[HEADER_BYTES] != command::QUERY {
                return false;
            }
            if let Some(sql) = self.set_of_counted() {
                self.put_sql(&sql);
                return true;
            }
            let Ok(Ask::Only(witness) | Ask::Rather(witness)) = self.whom_to_ask(&class) else { return false };
            if witness == Witness::NOBODY {
                return false;
            }
            let Some(sql) = self.set_of_diagnostics(witness).await else { return false };
            self.put_sql(&sql);
            true
        })
    }

    /// The number of rows is known here, also where the connection that counted them is gone.
    fn set_of_counted(&self) -> Option<Vec<u8>> {
        let (sql, mode) = (self.sql(), self.session.mode());
        let (items, rows) = (items(sql, mode)?, self.counted.row_count()?.to_string());
        let is_condition = |token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"CONDITION"));
        let is_known = items.iter().all(|item| item.form == Form::Signed) && !Lexer::new(sql, mode).any(is_condition);
        if !is_known || self.is_there(self.last) {
            return None;
        }
        let mut sql = b"SET ".to_vec();
        for (n, item) in items.iter().enumerate() {
            sql.extend_from_slice(if n > 0 { b", " } else { b"" });
            item.put_assignment(&mut sql, rows.as_bytes())?;
        }
        Some(sql)
    }

    async fn set_of_diagnostics(&self, witness: Witness) -> Option<Vec<u8>> {
        let items = items(self.sql(), self.session.mode())?;
        let is_it = |tenure| tenure == witness.tenure;
        let mut lease = Lease::own(&self.splitter, witness.server, self.carry.session, |b| is_it(b.tenure))?;
        let can_stay = self.splitter.shared.lead().primary == Some(witness.server) && self.knows_insert_id(&lease);
        if can_stay || !lease.is_ready_for(&self.session.state) {
            lease.give_back();
            return None;
        }
        let mut question = b"SELECT ".to_vec();
        for (n, item) in items.iter().enumerate() {
            question.extend_from_slice(if n > 0 { b", " } else { b"" });
            item.put_question(&mut question);
        }
        let limit = self.splitter.config().connect_timeout;
        let asking = async {
            let outcome = lease.query(self.sql()).await.ok()?;
            // It sets nothing, and warns of it, where there is no such condition.
            let row = if outcome.warnings == 0 { lease.row(&question).await.ok()? } else { Vec::new() };
            Some(row)
        };
        let row = timeout(limit, asking).await.ok()??;
        (lease.dirty, lease.tenure) = (true, self.splitter.next_id());
        lease.give_back();
        if row.len() != items.len() {
            return None;
        }
        let mut sql = b"SET ".to_vec();
        for (n, (item, value)) in items.iter().zip(row).enumerate() {
            sql.extend_from_slice(if n > 0 { b", " } else { b"" });
            item.put_assignment(&mut sql, &value?)?;
        }
        Some(sql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: Option<&[(&str, Form)]>) {
        let found = items(sql.as_bytes(), Mode::default());
        let expect = expect.map(|items| {
            items.iter().map(|(variable, form)| Item { variable: variable.as_bytes(), form: *form }).collect::<Vec<_>>()
        });
        assert_eq!(found, expect, "{sql}");
    }

    #[test]
    fn what_is_set_is_read_from_the_statement() {
        use Form::{Signed, Text, Unsigned};
        check("GET DIAGNOSTICS @n = NUMBER, @r=row_count", Some(&[("@n", Unsigned), ("@r", Signed)]));
        check("GET CURRENT DIAGNOSTICS CONDITION 1 @`a b` = MESSAGE_TEXT;", Some(&[("@`a b`", Text)]));
        for none in
            ["GET DIAGNOSTICS CONDITION @c @n = MYSQL_ERRNO", "GET DIAGNOSTICS", "GET DIAGNOSTICS @n = 1", "SET @n = 1"]
        {
            check(none, None);
        }
    }

    #[test]
    fn values_are_written_as_what_they_are() {
        let written = |form, value: &str| {
            let mut out = Vec::new();
            Item { variable: b"@v", form }.put_assignment(&mut out, value.as_bytes())?;
            String::from_utf8(out).ok()
        };
        assert_eq!(written(Form::Unsigned, "1064").as_deref(), Some("@v = CAST(1064 AS UNSIGNED)"));
        assert_eq!(written(Form::Signed, "-1").as_deref(), Some("@v = -1"));
        assert_eq!(written(Form::Text, "4142").as_deref(), Some("@v = _utf8mb3 X'4142'"));
        assert_eq!(written(Form::Text, "x' OR"), None);
    }
}
