//! Statements with a time limit for themselves.

use super::builtins::Flavour;
use super::lexer::{Lexer, Mode, Token};

/// What stands behind `SET STATEMENT max_statement_time = 5 FOR`: how MariaDB's drivers say that a query has a time limit
/// (Connector/J, `setQueryTimeout`).
pub(super) fn behind_time_limit(sql: &[u8], mode: Mode) -> Option<&[u8]> {
    let mut lexer = Lexer::new(sql, mode);
    for wanted in ["SET", "STATEMENT", "max_statement_time"] {
        match lexer.next()? {
            Token::Word(word) if word.eq_ignore_ascii_case(wanted.as_bytes()) => {}
            _ => return None,
        }
    }
    let (sign, number, word) = (lexer.next()?, lexer.next()?, lexer.next()?);
    let is_plain = sign == Token::Sign(b'=') && number == Token::Number && !lexer.seen_executable_comment();
    let is_for = matches!(word, Token::Word(word) if word.eq_ignore_ascii_case(b"FOR"));
    (is_plain && is_for && mode.flavour == Flavour::MariaDb).then(|| lexer.rest())
}
