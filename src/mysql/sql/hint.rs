//! Comments that choose a server: `/* one-server: primary */`, `-- one-server: replica`, and MaxScale's
//! `-- maxscale route to master` and `… slave`. ProxySQL's, which name a host group, mean nothing here.
//!
//! A hint is a wish: what may not run on a replica does not run there because of a comment. Inside of a text or a name these
//! words are no hint. Source: MaxScale documentation, "Hint Syntax".

use memchr::memmem;

use super::lexer::{Lexer, Mode};

/// What a statement's comments wish for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The primary.
    Primary,
    /// A replica, if one may answer.
    Replica,
}

/// Hints behind so many bytes are not looked for.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// The hint in the comments of `sql`; the last one, if there are several.
pub fn hint(sql: &[u8], mode: Mode) -> Option<Hint> {
    let sql = &sql[..sql.len().min(INPUT_BYTES_MAX)];
    if memmem::find(sql, b"one-server:").is_none() && memmem::find(sql, b"maxscale").is_none() {
        return None;
    }
    let mut lexer = Lexer::new(sql, mode);
    let mut found = None;
    loop {
        let token = lexer.next();
        found = of_comments(lexer.gap()).or(found);
        if token.is_none() {
            return found;
        }
    }
}

/// The last hint in white space and comments.
fn of_comments(mut gap: &[u8]) -> Option<Hint> {
    let mut found = None;
    while let Some(&first) = gap.first() {
        let (mark, end) = match (first, gap.get(1)) {
            (b'/', Some(b'*')) => (2, &b"*/"[..]),
            (b'-', Some(b'-')) => (2, &b"\n"[..]),
            (b'#', _) => (1, &b"\n"[..]),
            _ => {
                gap = &gap[1..];
                continue;
            }
        };
        let body = &gap[mark..];
        let length = memmem::find(body, end).unwrap_or(body.len());
        found = of_comment(&body[..length]).or(found);
        gap = body.get(length + end.len()..).unwrap_or_default();
    }
    found
}

fn of_comment(body: &[u8]) -> Option<Hint> {
    let mut words = body.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let target = match words.next()? {
        b"one-server:" => words.next()?,
        b"maxscale" if words.next()? == b"route" && words.next()? == b"to" => words.next()?,
        word => word.strip_prefix(b"one-server:")?,
    };
    match target {
        b"primary" | b"master" => Some(Hint::Primary),
        b"replica" | b"slave" => Some(Hint::Replica),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_in_comments_alone() {
        let check = |sql: &str, expect: Option<Hint>| {
            assert_eq!(hint(sql.as_bytes(), Mode::default()), expect, "{sql}");
        };
        check("/* one-server: primary */ SELECT 1", Some(Hint::Primary));
        check("SELECT /*one-server:replica*/ 1", Some(Hint::Replica));
        check("SELECT 1 -- maxscale route to master", Some(Hint::Primary));
        check("SELECT 1 # one-server: replica\n", Some(Hint::Replica));
        check("-- maxscale route to slave\nSELECT 1", Some(Hint::Replica));
        check("/* a */ /* one-server: primary */ SELECT 1", Some(Hint::Primary));
        check("/* one-server: primary */ SELECT 1 -- one-server: replica", Some(Hint::Replica));
        check("SELECT '/* one-server: primary */'", None);
        check("SELECT `-- maxscale route to master`", None);
        check("/* one-server: elsewhere */ SELECT 1", None);
        check("/* not one-server: primary */ SELECT 1", None);
        check("SELECT 1", None);
    }
}
