//! Questions that the splitter itself knows the answer to, in statements that ask nothing else:
//! `SELECT CONNECTION_ID()`, `SELECT ROW_COUNT() AS n`. They are put to a server with the answer in them.

use super::lexer::{Lexer, Mode, Token};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `CONNECTION_ID()`.
    ConnectionId,
    /// `ROW_COUNT()`.
    RowCount,
    /// `FOUND_ROWS()`.
    FoundRows,
}

/// Such a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// What is asked.
    pub asked: Asked,
    /// The question as it is written: the name of the column.
    written: &'a [u8],
    /// The column's name where one is given, with its quotes.
    alias: Option<&'a [u8]>,
}

impl Question<'_> {
    /// Appends a statement whose one value is `answer`, under the same name.
    pub fn put_answered(&self, out: &mut Vec<u8>, answer: i64) {
        let kind = if self.asked == Asked::RowCount { "SIGNED" } else { "UNSIGNED" };
        out.extend_from_slice(format!("SELECT CAST({answer} AS {kind}) AS ").as_bytes());
        match self.alias {
            Some(alias) => out.extend_from_slice(alias),
            None => {
                out.push(b'`');
                out.extend_from_slice(self.written);
                out.push(b'`');
            }
        }
    }
}

/// Recognises such a statement.
pub fn question(sql: &[u8], mode: Mode) -> Option<Question<'_>> {
    let mut lexer = Lexer::new(sql, mode);
    match lexer.next()? {
        Token::Word(word) if word.eq_ignore_ascii_case(b"SELECT") => {}
        _ => return None,
    }
    let first = lexer.next()?;
    let start = lexer.start();
    let asked = match first {
        Token::Word(name) => {
            let asked = function(name)?;
            if lexer.next()? != Token::Sign(b'(') || lexer.was_spaced() && !mode.ignore_space {
                return None;
            }
            (lexer.next()? == Token::Sign(b')')).then_some(asked)?
        }
        _ => return None,
    };
    let written = &sql[start..lexer.end()];
    let mut next = lexer.next();
    let mut alias = None;
    let is_named = matches!(next, Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"AS"));
    if is_named {
        next = lexer.next();
    }
    // Without AS a word may be a keyword: FROM, INTO, UNION.
    if is_named && matches!(next, Some(Token::Word(_))) || matches!(next, Some(Token::Quoted(_) | Token::Text)) {
        alias = Some(lexer.text());
        next = lexer.next();
    } else if is_named {
        return None;
    }
    while next == Some(Token::Sign(b';')) {
        next = lexer.next();
    }
    let is_plain = next.is_none() && !lexer.seen_executable_comment() && !written.contains(&b'`');
    is_plain.then_some(Question { asked, written, alias })
}

fn function(name: &[u8]) -> Option<Asked> {
    let known: [(&str, Asked); 3] =
        [("CONNECTION_ID", Asked::ConnectionId), ("ROW_COUNT", Asked::RowCount), ("FOUND_ROWS", Asked::FoundRows)];
    known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, asked)| asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(sql: &str) -> Option<String> {
        let question = question(sql.as_bytes(), Mode::default())?;
        let mut out = Vec::new();
        question.put_answered(&mut out, 7);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_question_of_its_own_is_answered_under_its_name() {
        for (sql, answer) in [
            ("SELECT CONNECTION_ID()", "SELECT CAST(7 AS UNSIGNED) AS `CONNECTION_ID()`"),
            ("/* x */ select connection_id();", "SELECT CAST(7 AS UNSIGNED) AS `connection_id()`"),
            ("SELECT ROW_COUNT() AS n ; ", "SELECT CAST(7 AS SIGNED) AS n"),
            ("SELECT FOUND_ROWS() `n`", "SELECT CAST(7 AS UNSIGNED) AS `n`"),
            ("SELECT FOUND_ROWS() AS 'the rows'", "SELECT CAST(7 AS UNSIGNED) AS 'the rows'"),
        ] {
            assert_eq!(answered(sql).as_deref(), Some(answer), "{sql}");
        }
    }

    #[test]
    fn what_asks_more_is_left_alone() {
        for sql in [
            "SELECT CONNECTION_ID(), 1",
            "SELECT CONNECTION_ID() + 1",
            "SELECT CONNECTION_ID() FROM t",
            "SELECT CONNECTION_ID() INTO @a",
            "SELECT CONNECTION_ID() UNION SELECT 1",
            "SELECT ROW_COUNT ()",
            "SELECT d.ROW_COUNT()",
            "SELECT `ROW_COUNT`()",
            "SELECT ROW_COUNT(1)",
            "SELECT FOUND_ROWS() /*! , 1 */",
            "SELECT FOUND_ROWS(); SELECT 1",
            "SELECT @@pseudo_thread_id",
            "SELECT FOUND_ROWS() AS",
            "INSERT INTO t VALUES (ROW_COUNT())",
        ] {
            assert_eq!(answered(sql), None, "{sql}");
        }
    }
}
