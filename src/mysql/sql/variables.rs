//! SHOW VARIABLES lists what belongs to the session and is known to one of its connections alone: the last insert id, and how many
//! warnings there are.

use super::class::diagnostics;
use super::lexer::{Lexer, Mode, Token};

/// What it asks about statements before it, see [`diagnostics`], and whether it asks for nothing else: then it is not answered with
/// what is not the session's. A list of more variables is better than none: the connection that has the warnings may be gone.
pub(super) fn asked_by_show(sql: &[u8], mode: Mode) -> (u8, bool) {
    const LIST: (u8, bool) = (diagnostics::INSERT_ID, false);
    let is = |token: Option<Token<'_>>, word: &str| matches!(token, Some(Token::Word(w)) if w.eq_ignore_ascii_case(word.as_bytes()));
    let mut lexer = Lexer::new(sql, mode);
    let mut next = || lexer.next();
    let (first, second) = (next(), next());
    if !is(first, "SHOW") || is(second, "GLOBAL") {
        return (0, false);
    }
    let third = if is(second, "VARIABLES") { second } else { next() };
    if !is(third, "VARIABLES") {
        return (0, false);
    }
    if !is(next(), "LIKE") || next() != Some(Token::Text) {
        return LIST;
    }
    let text = lexer.text();
    let Some(pattern) = text.get(1..text.len().saturating_sub(1)).map(<[u8]>::to_ascii_lowercase) else { return LIST };
    let shows = |names: [&str; 2]| names.iter().any(|name| is_like(name.as_bytes(), &pattern));
    let insert_id = if shows(["last_insert_id", "identity"]) { diagnostics::INSERT_ID } else { 0 };
    if pattern.contains(&b'%') {
        return (insert_id, false);
    }
    let warnings = if shows(["warning_count", "error_count"]) { diagnostics::WARNINGS } else { 0 };
    (insert_id | warnings, insert_id | warnings != 0)
}

/// Whether LIKE finds a name of letters and underscores. A backslash may stand for itself, or in front of what has a meaning. Takes
/// time by the product of the lengths at most.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    let pattern: Vec<u8> = pattern.iter().copied().filter(|byte| *byte != b'\\').collect();
    let (mut at, mut next) = (0, 0);
    // Where the last `%` stands, and up to where it has been taken to reach.
    let mut open: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(next), name.get(at), open) {
            (None, None, _) => return true,
            (Some(b'%'), _, _) => {
                open = Some((next, at));
                next += 1;
            }
            (Some(letter), Some(first), _) if *letter == b'_' || letter == first => (at, next) = (at + 1, next + 1),
            (_, _, Some((percent, reach))) if reach < name.len() => {
                open = Some((percent, reach + 1));
                (at, next) = (reach + 1, percent + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::diagnostics::{INSERT_ID, WARNINGS};
    use super::*;

    #[test]
    fn what_is_shown_is_asked_for() {
        for (sql, asked, is_about) in [
            ("SHOW VARIABLES", INSERT_ID, false),
            ("show session variables;", INSERT_ID, false),
            ("SHOW LOCAL VARIABLES WHERE Variable_name = 'sql_mode'", INSERT_ID, false),
            ("SHOW GLOBAL VARIABLES", 0, false),
            ("SHOW STATUS", 0, false),
            ("SHOW SESSION STATUS LIKE 'last_insert_id'", 0, false),
            ("SHOW VARIABLES LIKE 'sql_mode'", 0, false),
            ("SHOW VARIABLES LIKE 'Last\\_Insert\\_ID'", INSERT_ID, true),
            ("SHOW VARIABLES LIKE 'last_insert_i'", 0, false),
            ("SHOW VARIABLES LIKE '%id%'", INSERT_ID, false),
            ("SHOW VARIABLES LIKE 'identity'", INSERT_ID, true),
            ("SHOW VARIABLES LIKE '%'", INSERT_ID, false),
            ("SHOW VARIABLES LIKE '%_count'", 0, false),
            ("SHOW VARIABLES LIKE 'warning_coun_'", WARNINGS, true),
            ("SHOW VARIABLES LIKE ''", 0, false),
            ("SHOW VARIABLES LIKE @a", INSERT_ID, false),
        ] {
            assert_eq!(asked_by_show(sql.as_bytes(), Mode::default()), (asked, is_about), "{sql}");
        }
    }

    #[test]
    fn a_pattern_of_many_signs_ends() {
        let begun = std::time::Instant::now();
        assert!(!is_like(b"last_insert_id", &b"%a".repeat(40)));
        assert!(is_like(b"last_insert_id", &b"%\\".repeat(10_000)));
        assert!(!is_like(b"last_insert_id", &[&b"%_".repeat(15)[..], b"%"].concat()));
        assert!(is_like(b"last_insert_id", &[&b"%_".repeat(14)[..], b"%"].concat()));
        assert!(is_like(b"identity", b"%ti%ty") && !is_like(b"identity", b"%ti") && !is_like(b"identity", b"i%x%y"));
        assert!(begun.elapsed().as_secs() < 1);
    }
}
