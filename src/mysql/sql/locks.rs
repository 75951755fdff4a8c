//! Statements that take or release locks of their session and do nothing else: `SELECT GET_LOCK('a', 1)`,
//! `DO RELEASE_LOCK('a')`, `SELECT RELEASE_ALL_LOCKS()`, LOCK TABLES, UNLOCK TABLES. By them a session can know that it has no lock
//! any more. A name that is not written as a text (a parameter, an expression) is not looked for: then it never knows.

use super::lexer::{Lexer, Mode, Token};

/// What a statement does to the locks of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockStep {
    /// Nothing, or nobody can tell.
    Unknown,
    /// GET_LOCK of one name, which [`lock_name`] tells.
    Take,
    /// RELEASE_LOCK of one name. How often it was taken, the server knows.
    Release,
    /// RELEASE_ALL_LOCKS.
    ReleaseAll,
    /// LOCK TABLES, and what FLUSH TABLES locks: UNLOCK TABLES releases it.
    Tables,
    /// UNLOCK TABLES.
    UnlockTables,
}

/// What a statement does to locks. It must be known to be a single one, without executable comments.
pub fn lock_step(sql: &[u8], mode: Mode) -> LockStep {
    parse(sql, mode).map_or(LockStep::Unknown, |(step, _)| step)
}

/// The name of a lock that is taken or released, as it is written.
pub fn lock_name(sql: &[u8], mode: Mode) -> Option<&[u8]> {
    parse(sql, mode)?.1
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

fn parse(sql: &[u8], mode: Mode) -> Option<(LockStep, Option<&[u8]>)> {
    let mut lexer = Lexer::new(sql, mode);
    let Token::Word(first) = lexer.next()? else { return None };
    if is(first, "FLUSH") {
        return Some((LockStep::Tables, None));
    }
    let Token::Word(second) = lexer.next()? else { return None };
    let is_tables = is(second, "TABLES") || is(second, "TABLE");
    if is(first, "LOCK") {
        return is_tables.then_some((LockStep::Tables, None));
    }
    if is(first, "UNLOCK") {
        let is_all = is_tables && lexer.all(|token| token == Token::Sign(b';'));
        return is_all.then_some((LockStep::UnlockTables, None));
    }
    if !is(first, "SELECT") && !is(first, "DO") {
        return None;
    }
    if lexer.next()? != Token::Sign(b'(') || lexer.was_spaced() {
        return None;
    }
    let found = match () {
        () if is(second, "RELEASE_ALL_LOCKS") => (LockStep::ReleaseAll, None),
        () if is(second, "RELEASE_LOCK") => (LockStep::Release, Some(text(&mut lexer)?)),
        () if is(second, "GET_LOCK") => {
            let name = text(&mut lexer)?;
            skip_number(&mut lexer)?;
            (LockStep::Take, Some(name))
        }
        () => return None,
    };
    if lexer.next()? != Token::Sign(b')') {
        return None;
    }
    let mut rest: Vec<_> = lexer.by_ref().take(4).collect();
    while rest.last() == Some(&Token::Sign(b';')) {
        rest.pop();
    }
    let is_alias = |token: &Token<'_>| matches!(token, Token::Quoted(_) | Token::Word(_));
    let is_over = match &rest[..] {
        [] => true,
        [Token::Word(word), name] if is(word, "AS") => is_alias(name),
        [name] => is_alias(name),
        _ => false,
    };
    (is_over && lexer.next().is_none()).then_some(found)
}

fn text<'a>(lexer: &mut Lexer<'a>) -> Option<&'a [u8]> {
    matches!(lexer.next()?, Token::Text).then(|| lexer.text())
}

/// `, 10`, `, -1`, `, 0.5`, as far as the number.
fn skip_number(lexer: &mut Lexer<'_>) -> Option<()> {
    if lexer.next()? != Token::Sign(b',') {
        return None;
    }
    match lexer.next()? {
        Token::Number => Some(()),
        Token::Sign(b'-') => (lexer.next()? == Token::Number).then_some(()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nothing_but_a_lock_is_known() {
        let check = |sql: &str, step: LockStep, name: Option<&str>| {
            let mode = Mode::default();
            assert_eq!(lock_step(sql.as_bytes(), mode), step, "{sql}");
            assert_eq!(lock_name(sql.as_bytes(), mode), name.map(str::as_bytes), "{sql}");
        };
        check("SELECT GET_LOCK('a', 1)", LockStep::Take, Some("'a'"));
        check("do get_lock(\"a'b\", -1);", LockStep::Take, Some("\"a'b\""));
        check("SELECT GET_LOCK('a''b', 0.5) AS got", LockStep::Take, Some("'a''b'"));
        check("SELECT /* mine */ RELEASE_LOCK('a') `released` ; ", LockStep::Release, Some("'a'"));
        check("SELECT RELEASE_ALL_LOCKS()", LockStep::ReleaseAll, None);
        check("LOCK TABLES t READ", LockStep::Tables, None);
        check("FLUSH TABLES WITH READ LOCK", LockStep::Tables, None);
        check("UNLOCK TABLES", LockStep::UnlockTables, None);
        check("unlock table;", LockStep::UnlockTables, None);
        for sql in [
            "SELECT GET_LOCK(?, 1)",
            "SELECT GET_LOCK('a', ?)",
            "SELECT GET_LOCK('a', 1), GET_LOCK('b', 1)",
            "SELECT GET_LOCK('a', 1) + GET_LOCK('b', 1)",
            "SELECT GET_LOCK('a' 'b', 1)",
            "SELECT GET_LOCK(_latin1'a', 1)",
            "SELECT GET_LOCK('a', SLEEP(1))",
            "SELECT GET_LOCK('a', 1) FROM t",
            "SELECT GET_LOCK('a', 1) x y",
            "SELECT GET_LOCK ('a', 1)",
            "SELECT d.GET_LOCK('a', 1)",
            "SELECT 1, RELEASE_LOCK('a')",
            "SELECT RELEASE_LOCK(CONCAT('a'))",
            "SELECT RELEASE_LOCK('a') WHERE 0",
            "SELECT RELEASE_LOCK('a') LIMIT 0",
            "SELECT RELEASE_ALL_LOCKS() FROM t",
            "SELECT RELEASE_ALL_LOCKS() INTO @a",
            "(SELECT RELEASE_ALL_LOCKS())",
            "SELECT SQL_NO_CACHE RELEASE_ALL_LOCKS()",
            "UNLOCK INSTANCE",
            "LOCK INSTANCE FOR BACKUP",
            "UNLOCK TABLES x",
            "CALL p()",
            "",
            "SELECT",
        ] {
            check(sql, LockStep::Unknown, None);
        }
    }
}
