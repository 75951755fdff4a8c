//! What a KILL statement asks for.
//!
//! Source: MariaDB knowledge base, "KILL [CONNECTION | QUERY]"; MySQL manual, "KILL Statement".

use super::lexer::{Lexer, Mode, Token};

/// How much of a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Its statement.
    Statement,
    /// All of it.
    Connection,
}

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim<'a> {
    /// That of the connection with this id.
    Id(u64),
    /// The one's that asks: `CONNECTION_ID()`.
    Own,
    /// All of this user, but the one's that asks.
    User(&'a [u8]),
    /// The one that runs the query with an id of the server's.
    QueryId,
}

/// A KILL statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill<'a> {
    /// How much.
    pub scope: Scope,
    /// MariaDB's `SOFT`: what cannot be undone is finished first.
    pub is_soft: bool,
    /// Whose.
    pub victim: Victim<'a>,
}

/// Reads a KILL statement. `None`: it is none, or takes an expression, or is followed by another statement.
pub fn kill(sql: &[u8], mode: Mode) -> Option<Kill<'_>> {
    let mut tokens = Tokens { lexer: Lexer::new(sql, mode), ahead: None };
    if !tokens.takes("KILL") {
        return None;
    }
    let is_soft = tokens.takes("SOFT");
    if !is_soft {
        tokens.takes("HARD");
    }
    let scope = if tokens.takes("QUERY") { Scope::Statement } else { Scope::Connection };
    if scope == Scope::Connection {
        tokens.takes("CONNECTION");
    }
    let victim = match tokens.next()? {
        Token::Number => Victim::Id(number(tokens.lexer.text())?),
        Token::Word(word) if word.eq_ignore_ascii_case(b"CONNECTION_ID") => {
            let call = (tokens.next()?, tokens.next()?);
            (call == (Token::Sign(b'('), Token::Sign(b')'))).then_some(Victim::Own)?
        }
        Token::Word(word) if word.eq_ignore_ascii_case(b"ID") && scope == Scope::Statement => {
            tokens.next()?;
            Victim::QueryId
        }
        Token::Word(word) if word.eq_ignore_ascii_case(b"USER") => match tokens.next()? {
            Token::Word(name) => Victim::User(name),
            Token::Quoted(name) if !name.contains(&b'`') => Victim::User(name),
            Token::Text => Victim::User(plain_text(tokens.lexer.text())?),
            _ => return None,
        },
        _ => return None,
    };
    while let Some(token) = tokens.next() {
        if token != Token::Sign(b';') {
            return None;
        }
    }
    (!tokens.lexer.seen_executable_comment()).then_some(Kill { scope, is_soft, victim })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What stands between the quotes, if it means itself.
fn plain_text(text: &[u8]) -> Option<&[u8]> {
    let inner = text.get(1..text.len() - 1)?;
    let means_itself = |byte: &u8| !matches!(byte, b'\'' | b'"' | b'\\');
    inner.iter().all(means_itself).then_some(inner)
}

/// Tokens, one of which can be looked at first.
struct Tokens<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token<'a>>,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.ahead.take().or_else(|| self.lexer.next())
    }

    /// Takes this keyword if it is next.
    fn takes(&mut self, keyword: &str) -> bool {
        let token = self.next();
        let is_it = matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword.as_bytes()));
        if !is_it {
            self.ahead = token;
        }
        is_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        use Scope::{Connection, Statement};
        for (sql, scope, is_soft, victim) in [
            ("KILL 5", Connection, false, Victim::Id(5)),
            ("kill connection 1073741825;", Connection, false, Victim::Id(1_073_741_825)),
            ("KILL QUERY 7 ; ;", Statement, false, Victim::Id(7)),
            ("/* x */ KILL HARD QUERY 7", Statement, false, Victim::Id(7)),
            ("KILL SOFT CONNECTION 7 -- x", Connection, true, Victim::Id(7)),
            ("KILL CONNECTION_ID()", Connection, false, Victim::Own),
            ("KILL QUERY CONNECTION_ID ( )", Statement, false, Victim::Own),
            ("KILL QUERY ID 99", Statement, false, Victim::QueryId),
            ("KILL USER app", Connection, false, Victim::User(b"app")),
            ("KILL QUERY USER 'app'", Statement, false, Victim::User(b"app")),
            ("KILL SOFT USER `app`", Connection, true, Victim::User(b"app")),
        ] {
            assert_eq!(kill(sql.as_bytes(), Mode::default()), Some(Kill { scope, is_soft, victim }), "{sql}");
        }
    }

    #[test]
    fn what_is_not_plain_is_not_guessed() {
        for sql in [
            "KILL",
            "KILL (5)",
            "KILL 5 + 1",
            "KILL -5",
            "KILL @id",
            "KILL 5; SELECT 1",
            "SELECT 1; KILL 5",
            "KILL 5.5",
            "KILL 0x10",
            "KILL 99999999999999999999999",
            "KILL (SELECT 1)",
            "KILL USER app@localhost",
            "KILL USER 'a\\'b'",
            "KILL USER ''''",
            "KILL /*! QUERY */ 5",
            "KILL QUERY",
            "SELECT 5",
            "",
        ] {
            assert_eq!(kill(sql.as_bytes(), Mode::default()), None, "{sql}");
        }
    }
}
