//! Questions that the splitter itself knows the answer to, where they stand by themselves in the list of a SELECT without
//! tables: `SELECT CONNECTION_ID()`, `SELECT ROW_COUNT() AS n, LAST_INSERT_ID()`. They are put to a server with the answers
//! in them.

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

/// An item of the list that is such a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    asked: Asked,
    /// Offsets of the question as it is written: the name of the column, unless one is given.
    start: usize,
    end: usize,
    is_named: bool,
}

/// Words that end the list of a SELECT.
const ENDS: [&[u8]; 17] = [
    b"FROM",
    b"INTO",
    b"WHERE",
    b"GROUP",
    b"HAVING",
    b"ORDER",
    b"LIMIT",
    b"OFFSET",
    b"FETCH",
    b"UNION",
    b"EXCEPT",
    b"INTERSECT",
    b"PROCEDURE",
    b"WINDOW",
    b"FOR",
    b"LOCK",
    b"SELECT",
];

fn function(name: &[u8]) -> Option<Asked> {
    let known: [(&str, Asked); 3] =
        [("CONNECTION_ID", Asked::ConnectionId), ("ROW_COUNT", Asked::RowCount), ("FOUND_ROWS", Asked::FoundRows)];
    known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, asked)| asked)
}

/// The statement with the answers in it that are known, under the same names, and of the same types and widths as the
/// server's own. `None`: it stays as it is.
pub fn answered(sql: &[u8], mode: Mode, answer: impl Fn(Asked) -> Option<i64>) -> Option<Vec<u8>> {
    let (mut out, mut copied) = (Vec::new(), 0);
    for question in questions(sql, mode)? {
        let Some(answer) = answer(question.asked) else { continue };
        out.extend_from_slice(&sql[copied..question.start]);
        // What is cast is as long as the longest BIGINT, or INT UNSIGNED.
        let cast = match question.asked {
            Asked::ConnectionId => format!("CAST({answer:010} AS UNSIGNED)"),
            Asked::RowCount | Asked::FoundRows => format!("CAST('{answer:021}' AS SIGNED)"),
        };
        out.extend_from_slice(cast.as_bytes());
        if !question.is_named {
            out.extend_from_slice(&[b" AS `", &sql[question.start..question.end], b"`"].concat());
        }
        copied = question.end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&sql[copied..]);
    Some(out)
}

fn questions(sql: &[u8], mode: Mode) -> Option<Vec<Question>> {
    let mut lexer = Lexer::new(sql, mode);
    if !matches!(lexer.next()?, Token::Word(word) if word.eq_ignore_ascii_case(b"SELECT")) {
        return None;
    }
    let mut all = Vec::new();
    loop {
        let mut ahead = lexer.clone();
        let question = question(sql, mode, &mut ahead);
        let goes_on = match question {
            Some((_, goes_on)) => {
                lexer = ahead;
                goes_on
            }
            None => skip_item(&mut lexer)?,
        };
        all.extend(question.map(|(question, _)| question));
        if !goes_on {
            break;
        }
    }
    let is_over = lexer.all(|token| token == Token::Sign(b';'));
    (is_over && !lexer.seen_executable_comment()).then_some(all)
}

/// An item that is a question and nothing else; and whether a comma stands behind it, and not the end.
fn question(sql: &[u8], mode: Mode, lexer: &mut Lexer<'_>) -> Option<(Question, bool)> {
    let Token::Word(name) = lexer.next()? else { return None };
    let (asked, start) = (function(name)?, lexer.start());
    if lexer.next()? != Token::Sign(b'(') || lexer.was_spaced() && !mode.ignore_space {
        return None;
    }
    if lexer.next()? != Token::Sign(b')') {
        return None;
    }
    let end = lexer.end();
    let mut next = lexer.next();
    let says_as = matches!(next, Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"AS"));
    if says_as {
        next = lexer.next();
    }
    // Without AS a word may be a keyword: FROM, INTO, UNION.
    let is_named =
        says_as && matches!(next, Some(Token::Word(_))) || matches!(next, Some(Token::Quoted(_) | Token::Text));
    if is_named {
        next = lexer.next();
    } else if says_as {
        return None;
    }
    let goes_on = match next {
        None | Some(Token::Sign(b';')) => false,
        Some(Token::Sign(b',')) => true,
        Some(_) => return None,
    };
    let is_plain = !sql[start..end].contains(&b'`');
    is_plain.then_some((Question { asked, start, end, is_named }, goes_on))
}

/// Goes over an item of another kind; says whether a comma stands behind it. `None`: something else than the list comes.
fn skip_item(lexer: &mut Lexer<'_>) -> Option<bool> {
    let mut depth = 0usize;
    loop {
        match lexer.next() {
            None | Some(Token::Sign(b';')) => return (depth == 0).then_some(false),
            Some(Token::Sign(b',')) if depth == 0 => return Some(true),
            Some(Token::Sign(b'(')) => depth += 1,
            Some(Token::Sign(b')')) => depth = depth.checked_sub(1)?,
            Some(Token::Word(word)) if ENDS.iter().any(|end| word.eq_ignore_ascii_case(end)) => return None,
            Some(Token::Doubt) => return None,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(sql: &str) -> Option<String> {
        let answer = |asked| if asked == Asked::RowCount { Some(-1) } else { Some(7) };
        super::answered(sql.as_bytes(), Mode::default(), answer).map(|sql| String::from_utf8(sql).unwrap())
    }

    #[test]
    fn a_question_is_answered_under_its_name() {
        const MINUS: &str = "CAST('-00000000000000000001' AS SIGNED)";
        const SEVEN: &str = "CAST('000000000000000000007' AS SIGNED)";
        for (sql, answer) in [
            ("SELECT CONNECTION_ID()", "SELECT CAST(0000000007 AS UNSIGNED) AS `CONNECTION_ID()`".to_owned()),
            (
                "/* x */ select connection_id();",
                "/* x */ select CAST(0000000007 AS UNSIGNED) AS `connection_id()`;".to_owned(),
            ),
            ("SELECT ROW_COUNT() AS n ; ", format!("SELECT {MINUS} AS n ; ")),
            ("SELECT FOUND_ROWS() `n`", format!("SELECT {SEVEN} `n`")),
            ("SELECT FOUND_ROWS() AS 'the rows'", format!("SELECT {SEVEN} AS 'the rows'")),
            (
                "SELECT LAST_INSERT_ID(), ROW_COUNT( ), (1, 2) = (1, 2), FOUND_ROWS() f",
                format!("SELECT LAST_INSERT_ID(), {MINUS} AS `ROW_COUNT( )`, (1, 2) = (1, 2), FOUND_ROWS() f"),
            ),
            ("SELECT 1, FOUND_ROWS()", format!("SELECT 1, {SEVEN} AS `FOUND_ROWS()`")),
        ] {
            assert_eq!(answered(sql), Some(answer), "{sql}");
        }
    }

    #[test]
    fn what_asks_otherwise_is_left_alone() {
        for sql in [
            "SELECT CONNECTION_ID() + 1",
            "SELECT CONNECTION_ID() FROM t",
            "SELECT CONNECTION_ID(), 1 FROM t",
            "SELECT 1, CONNECTION_ID() INTO @a",
            "SELECT CONNECTION_ID() UNION SELECT 1",
            "SELECT (SELECT ROW_COUNT())",
            "SELECT ROW_COUNT ()",
            "SELECT d.ROW_COUNT()",
            "SELECT `ROW_COUNT`()",
            "SELECT ROW_COUNT(1)",
            "SELECT DISTINCT ROW_COUNT()",
            "SELECT FOUND_ROWS() /*! , 1 */",
            "SELECT FOUND_ROWS(); SELECT 1",
            "SELECT @@pseudo_thread_id",
            "SELECT FOUND_ROWS() AS",
            "SELECT FOUND_ROWS(), '",
            "INSERT INTO t VALUES (ROW_COUNT())",
        ] {
            assert_eq!(answered(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_not_known_stays() {
        let only_rows = |asked| (asked == Asked::RowCount).then_some(3);
        let sql = super::answered(b"SELECT FOUND_ROWS(), ROW_COUNT() AS n", Mode::default(), only_rows).unwrap();
        assert_eq!(sql, b"SELECT FOUND_ROWS(), CAST('000000000000000000003' AS SIGNED) AS n");
        assert_eq!(super::answered(b"SELECT ROW_COUNT()", Mode::default(), |_| None), None);
    }
}
