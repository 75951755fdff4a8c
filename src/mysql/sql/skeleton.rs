//! What of a statement's text decides what the statement is: everything but the value of its numbers. Statements that differ in
//! these alone share one entry of the cache.
//!
//! ```text
//! SELECT c FROM t1 WHERE id = 4711 AND d > '2026-11-27'       SELECT c FROM t1 WHERE id = 0 AND d > '0-0-0'
//! ```
//! It is a text like any other one, and [`super::lexer`] cuts it into the same tokens: only digits that stand by themselves are
//! taken out, never those that belong to a name (`t1`, `1a`, `@1`), to a number of several parts (`1.5`, `1e5`, `0x1F`) or to the
//! version in front of an executable comment. Nothing is known here of texts and comments, inside of which digits are without
//! meaning anyway; names in quotes may consist of digits, so where there are any nothing is taken out.

use super::lexer::Mode;

/// Whether a digit beside this byte is part of something longer: a name, a number of several parts, the version of a comment.
const BINDS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80.. | b'.' | b'@' | b'!');
        byte += 1;
    }
    table
};

/// Makes `out` the skeleton of `sql`. `false`: it has none, only the text itself says what it is.
pub(super) fn make_skeleton(sql: &[u8], mode: Mode, out: &mut Vec<u8>) -> bool {
    if memchr::memchr(b'`', sql).is_some() || mode.ansi_quotes && memchr::memchr(b'"', sql).is_some() {
        return false;
    }
    out.clear();
    let mut rest = sql;
    while let Some(start) = rest.iter().position(u8::is_ascii_digit) {
        let (front, behind) = rest.split_at(start);
        let end = behind.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(behind.len());
        let (digits, behind) = behind.split_at(end);
        let binds = |byte: Option<&u8>| byte.is_some_and(|byte| BINDS[usize::from(*byte)]);
        let is_bound = binds(front.last()) || binds(behind.first());
        out.extend_from_slice(front);
        out.extend_from_slice(if is_bound { digits } else { b"0" });
        rest = behind;
    }
    out.extend_from_slice(rest);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::classify::classify;
    use super::super::digest::Digester;
    use super::super::hint::hint;
    use super::super::lexer::{Charset, Lexer, Token};
    use super::*;

    fn skeleton(sql: &[u8], mode: Mode) -> Option<Vec<u8>> {
        let mut out = b"of another statement".to_vec();
        make_skeleton(sql, mode, &mut out).then_some(out)
    }

    #[test]
    fn only_digits_that_stand_by_themselves_are_taken_out() {
        for (sql, expect) in [
            ("SELECT c FROM t1 WHERE id=4711", "SELECT c FROM t1 WHERE id=0"),
            ("UPDATE t SET c='83-07', d=-5 WHERE id IN (1,22, 333)", "UPDATE t SET c='0-0', d=-0 WHERE id IN (0,0, 0)"),
            (
                "SELECT 1.5, 1e5, 1e+15, 0x1F, .5, 1a, @1, @@a.1, t.1, $1, 1_0",
                "SELECT 1.5, 1e5, 1e+0, 0x1F, .5, 1a, @1, @@a.1, t.1, $1, 1_0",
            ),
            ("/*!50101 SELECT 17 */ 17", "/*!50101 SELECT 0 */ 0"),
            ("42", "0"),
            ("", ""),
        ] {
            let found = skeleton(sql.as_bytes(), Mode::default());
            assert_eq!(found.as_deref().map(String::from_utf8_lossy).as_deref(), Some(expect), "{sql}");
        }
        assert_eq!(skeleton(b"SELECT `1`", Mode::default()), None);
        assert!(skeleton(br#"SELECT "1""#, Mode::default()).is_some());
        assert_eq!(skeleton(br#"SELECT "1""#, Mode { ansi_quotes: true, ..Mode::default() }), None);
    }

    /// The tokens without the value of numbers and texts.
    fn tokens(sql: &[u8], mode: Mode) -> Vec<(String, bool)> {
        let mut lexer = Lexer::new(sql, mode);
        let mut all = Vec::new();
        while let Some(token) = lexer.next() {
            let is_plain = token == Token::UserVariable && !matches!(lexer.text().get(1), Some(b'\'' | b'"'));
            all.push((format!("{token:?}{:?}", is_plain.then(|| lexer.text())), lexer.was_spaced()));
        }
        all.push((format!("{}{}", lexer.seen_executable_comment(), lexer.seen_set_var()), false));
        all
    }

    /// Parts of statements, with bars between them.
    const PIECES: &str = "SELECT|INSERT INTO|UPDATE|DELETE FROM|SET|LIMIT|GET_LOCK|FROM|WHERE|VALUES|IN|KILL| | | |\n|\t|t1|1t|a|b.c|1|22|\
0|333|4.5|6.|.7|8e9|1e+1|1E-|0x1f|0b1|0x|x'1'|n'1'|_utf8'1'|'|'|''|'12'|'a1'|\"|\"3\"|`|`4`|\\|\\1|@|@1|@@x1|@'1'|:=|:|=|!=|!|<|-|--|-- |--1|\
#|#1\n|/*|*/|/* 1 */|/*!|/*!50101 |/*M!100101|/*+ SET_VAR(a=1) */|/* one-server: primary */|one-server:|$1|_|é|\u{a0}|(|)|,|;|.|?|/|*|e|x|\
NULL|nextval|f(|9";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_statement_is_what_its_skeleton_is(
            pieces in prop::collection::vec(prop::sample::select(PIECES.split('|').collect::<Vec<_>>()), 0..24),
            (ansi_quotes, no_backslash_escapes, ignore_space) in any::<(bool, bool, bool)>(),
            charset in prop::sample::select(&[Charset::Utf8, Charset::AsciiSafe, Charset::AsciiTrail][..]),
        ) {
            let sql = pieces.concat();
            let mode = Mode { ansi_quotes, no_backslash_escapes, ignore_space, charset, ..Mode::default() };
            if let Some(bare) = skeleton(sql.as_bytes(), mode) {
                let text = String::from_utf8_lossy(&bare).into_owned();
                prop_assert_eq!(tokens(sql.as_bytes(), mode), tokens(&bare, mode), "{}", &text);
                prop_assert_eq!(classify(sql.as_bytes(), mode), classify(&bare, mode), "{}", &text);
                prop_assert_eq!(hint(sql.as_bytes(), mode), hint(&bare, mode), "{}", &text);
                let (mut one, mut other) = (Digester::default(), Digester::default());
                prop_assert_eq!(one.digest(sql.as_bytes(), mode), other.digest(&bare, mode), "{}", &text);
                prop_assert_eq!(skeleton(&bare, mode), Some(bare.clone()), "it is its own: {}", &text);
            }
        }
    }
}
