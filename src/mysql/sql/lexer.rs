//! Cuts a statement into tokens the way a MySQL server does, without allocating and in one pass.
//!
//! Comments are skipped; the bodies of executable comments (`/*! */`, `/*M! */`) are code. What a byte means depends on
//! the session: [`Mode`]. What cannot be cut with certainty is [`Token::Doubt`], after which the lexer stops.
//! Source: MariaDB knowledge base, "Comment Syntax", "String Literals", "Identifier Names", "SQL_MODE".

use super::builtins::Flavour;

/// How the session's client writes bytes outside ASCII.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Charset {
    /// UTF-8: bytes from 0x80 are letters.
    #[default]
    Utf8,
    /// ASCII bytes stand for themselves everywhere, but bytes from 0x80 may be spaces.
    AsciiSafe,
    /// big5, gbk, sjis, cp932, gb18030: the second byte of a letter may look like a quote or a backslash.
    AsciiTrail,
}

impl Charset {
    /// Of the collation id in a login packet.
    pub fn of_collation(id: u8) -> Charset {
        match id {
            1 | 84 | 28 | 87 | 13 | 88 | 95 | 96 | 248..=250 => Charset::AsciiTrail,
            33 | 83 | 45 | 46 | 192..=215 | 223..=247 | 254 | 255 => Charset::Utf8,
            _ => Charset::AsciiSafe,
        }
    }

    /// Of a value of `character_set_client`.
    pub fn of_name(name: &[u8]) -> Charset {
        match name {
            b"utf8" | b"utf8mb3" | b"utf8mb4" => Charset::Utf8,
            b"latin1" | b"latin2" | b"ascii" | b"binary" | b"cp1250" | b"cp1251" | b"cp1256" | b"cp1257" | b"koi8r"
            | b"koi8u" | b"latin5" | b"latin7" | b"hebrew" | b"greek" | b"ujis" | b"eucjpms" | b"gb2312" => {
                Charset::AsciiSafe
            }
            _ => Charset::AsciiTrail,
        }
    }
}

/// The session settings a statement's meaning depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// `"` quotes identifiers (sql_mode ANSI_QUOTES).
    pub ansi_quotes: bool,
    /// `\` is an ordinary character in strings (sql_mode NO_BACKSLASH_ESCAPES).
    pub no_backslash_escapes: bool,
    /// Spaces may stand between a function's name and `(` (sql_mode or capability IGNORE_SPACE).
    pub ignore_space: bool,
    /// `BEGIN` begins a block of statements and no transaction (sql_mode ORACLE of MariaDB).
    pub oracle: bool,
    /// The client's character set.
    pub charset: Charset,
    /// Whose functions are called.
    pub flavour: Flavour,
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Keyword or identifier, as written.
    Word(&'a [u8]),
    /// Identifier in backticks (or in `"` with ANSI_QUOTES), without its quotes; doubled quotes stay doubled.
    Quoted(&'a [u8]),
    /// String literal.
    Text,
    /// Number.
    Number,
    /// `@name`, `@'name'`: a user variable.
    UserVariable,
    /// `@@name`, `@@scope.name`: everything behind the `@@`.
    SystemVariable(&'a [u8]),
    /// `:=`.
    Assign,
    /// Any other character.
    Sign(u8),
    /// Cannot be cut with certainty.
    Doubt,
}

/// Goes through the tokens of one packet of SQL.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    mode: Mode,
    /// Inside an executable comment.
    executable: bool,
    seen_executable: bool,
    seen_set_var: bool,
    /// White space or a comment lies in front of the last token.
    spaced: bool,
    /// Where that begins.
    gap: usize,
    /// Where the last token begins.
    start: usize,
    /// The last token: a name, or the dot behind one.
    last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Name,
    Dot,
    Other,
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    /// Starts at the first byte of `sql`.
    pub fn new(sql: &'a [u8], mode: Mode) -> Lexer<'a> {
        let (executable, seen_executable) = (false, false);
        let (gap, start, last) = (0, 0, Last::Other);
        Lexer { sql, at: 0, mode, executable, seen_executable, seen_set_var: false, spaced: false, gap, start, last }
    }

    /// What is behind the last token.
    pub fn rest(&self) -> &'a [u8] {
        &self.sql[self.at..]
    }

    /// Whether an executable comment was met so far.
    pub fn seen_executable_comment(&self) -> bool {
        self.seen_executable
    }

    /// Whether a hint of MySQL sets variables for this statement alone.
    pub fn seen_set_var(&self) -> bool {
        self.seen_set_var
    }

    /// Whether white space or a comment lies in front of the token that came last.
    pub fn was_spaced(&self) -> bool {
        self.spaced
    }

    /// White space and comments in front of the token that came last, or behind all of them once there are no more.
    pub fn gap(&self) -> &'a [u8] {
        self.sql.get(self.gap..self.start).unwrap_or_default()
    }

    /// Offset of the token that came last.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset behind it.
    pub fn end(&self) -> usize {
        self.at
    }

    /// The token that came last, as written.
    pub fn text(&self) -> &'a [u8] {
        self.sql.get(self.start..self.at).unwrap_or_default()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.sql.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn stop(&mut self) -> Option<Token<'a>> {
        self.at = self.sql.len();
        self.executable = false;
        Some(Token::Doubt)
    }

    /// Skips white space and comments. `Err`: a comment without an end, or one inside an executable comment.
    fn skip(&mut self) -> Result<(), ()> {
        let start = self.at;
        while self.at < self.sql.len() {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C => self.at += 1,
                b'#' => self.skip_line()?,
                b'-' if self.peek(1) == b'-' && (self.peek(2) <= b' ' || self.peek(2) == 0x7F) => self.skip_line()?,
                b'/' if self.peek(1) == b'*' => self.skip_block()?,
                b'*' if self.executable && self.peek(1) == b'/' => {
                    self.at += 2;
                    self.executable = false;
                }
                _ => break,
            }
        }
        self.spaced = self.at > start;
        Ok(())
    }

    fn skip_line(&mut self) -> Result<(), ()> {
        if self.executable {
            return Err(());
        }
        let rest = &self.sql[self.at..];
        self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |n| n + 1);
        Ok(())
    }

    fn skip_block(&mut self) -> Result<(), ()> {
        if self.executable {
            return Err(()); // nested comments: servers differ
        }
        let mark = 2 + usize::from(self.peek(2) == b'M' && self.peek(3) == b'!');
        if self.peek(mark) == b'!' {
            self.at += mark + 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
            (self.executable, self.seen_executable) = (true, true);
            return Ok(());
        }
        let body = &self.sql[self.at + 2..];
        let end = memchr::memmem::find(body, b"*/").ok_or(())?;
        if body[0] == b'+' {
            self.seen_set_var |= body[..end].windows(7).any(|word| word.eq_ignore_ascii_case(b"SET_VAR"));
        }
        self.at += 2 + end + 2;
        Ok(())
    }

    /// End of a quoted text that starts at `self.at`; moves behind it. `None`: it never ends, or has doubtful bytes.
    fn quoted(&mut self, escapes: bool) -> Option<&'a [u8]> {
        let quote = self.sql[self.at];
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = self.sql.get(at..)?;
            at += if escapes { memchr::memchr2(quote, b'\\', rest)? } else { memchr::memchr(quote, rest)? };
            let escaped = escapes && self.sql[at] == b'\\';
            if !escaped && self.sql.get(at + 1) != Some(&quote) {
                break;
            }
            at += 2;
        }
        let text = &self.sql[start..at];
        if self.mode.charset == Charset::AsciiTrail && !text.is_ascii() {
            return None;
        }
        self.at = at + 1;
        Some(text)
    }

    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        while self.at < self.sql.len() && is_word_byte(self.sql[self.at]) {
            self.at += 1;
        }
        &self.sql[start..self.at]
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    /// `e5`, `E+5` behind a number's digits. `false`: no exponent, nothing was taken.
    fn exponent(&mut self) -> bool {
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        let is_one = matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit();
        if is_one {
            self.at += 1 + sign;
            self.digits();
        }
        is_one
    }

    /// The part behind a decimal point, which is at `self.at`.
    fn fraction(&mut self) -> Token<'a> {
        self.at += 1;
        self.digits();
        self.exponent();
        Token::Number
    }

    /// What begins with a digit: a number, which ends where servers end it (`1.5INTO` is two tokens), or an identifier
    /// like `1abc`.
    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        let is_prefixed = match (self.peek(0), self.peek(1)) {
            (b'0', b'x') => self.is_literal(u8::is_ascii_hexdigit),
            (b'0', b'b') => self.is_literal(|byte| matches!(byte, b'0' | b'1')),
            _ => false,
        };
        if is_prefixed {
            self.word();
            return Token::Number;
        }
        self.digits();
        if !is_word_byte(self.peek(0)) {
            return if self.peek(0) == b'.' { self.fraction() } else { Token::Number };
        }
        if self.exponent() {
            return Token::Number;
        }
        self.word();
        Token::Word(&self.sql[start..self.at])
    }

    /// Whether the word at `self.at` is `0x` or `0b` and at least one digit of that kind, and nothing else.
    fn is_literal(&self, is_digit: impl Fn(&u8) -> bool) -> bool {
        let word = self.sql[self.at + 2..].iter().take_while(|byte| is_word_byte(**byte));
        let (mut any, mut all) = (false, true);
        for byte in word {
            (any, all) = (true, all && is_digit(byte));
        }
        any && all
    }

    fn variable(&mut self) -> Option<Token<'a>> {
        if self.peek(1) == b'@' {
            self.at += 2;
            let start = self.at;
            while self.at < self.sql.len()
                && (is_word_byte(self.sql[self.at]) || matches!(self.sql[self.at], b'.' | b'`'))
            {
                self.at += 1;
            }
            return Some(Token::SystemVariable(&self.sql[start..self.at]));
        }
        self.at += 1;
        match self.peek(0) {
            quote @ (b'\'' | b'"' | b'`') => {
                let escapes = quote != b'`' && !self.mode.no_backslash_escapes;
                if self.quoted(escapes).is_none() {
                    return self.stop();
                }
            }
            _ => {
                while self.at < self.sql.len() && (is_word_byte(self.sql[self.at]) || self.sql[self.at] == b'.') {
                    self.at += 1;
                }
            }
        }
        Some(Token::UserVariable)
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.cut();
        self.last = match token {
            Some(Token::Word(_) | Token::Quoted(_)) => Last::Name,
            Some(Token::Sign(b'.')) => Last::Dot,
            _ => Last::Other,
        };
        token
    }
}

impl<'a> Lexer<'a> {
    fn cut(&mut self) -> Option<Token<'a>> {
        self.gap = self.at;
        let skipped = self.skip();
        self.start = self.at;
        if skipped.is_err() {
            return self.stop();
        }
        let Some(&byte) = self.sql.get(self.at) else {
            // An executable comment that never ends.
            return if self.executable { self.stop() } else { None };
        };
        let escapes = !self.mode.no_backslash_escapes;
        match byte {
            b'\'' => Some(if self.quoted(escapes).is_some() { Token::Text } else { return self.stop() }),
            b'"' if self.mode.ansi_quotes => match self.quoted(false) {
                Some(name) => Some(Token::Quoted(name)),
                None => self.stop(),
            },
            b'"' => Some(if self.quoted(escapes).is_some() { Token::Text } else { return self.stop() }),
            b'`' => match self.quoted(false) {
                Some(name) => Some(Token::Quoted(name)),
                None => self.stop(),
            },
            b'@' => self.variable(),
            b':' if self.peek(1) == b'=' => {
                self.at += 2;
                Some(Token::Assign)
            }
            0 => self.stop(),
            0x80.. if self.mode.charset != Charset::Utf8 => self.stop(),
            // `t.1a` is a column; in `1.5` and `.5` the dot belongs to the number.
            b'0'..=b'9' if self.last == Last::Dot && !self.spaced => Some(Token::Word(self.word())),
            b'0'..=b'9' => Some(self.number()),
            b'.' if self.peek(1).is_ascii_digit() && (self.last != Last::Name || self.spaced) => Some(self.fraction()),
            byte if is_word_byte(byte) => {
                let word = self.word();
                if self.mode.charset != Charset::Utf8 && !word.is_ascii() {
                    return self.stop();
                }
                // N'text', X'4D', B'01', _utf8mb4'text': the quote that follows is cut as a text of its own.
                Some(Token::Word(word))
            }
            sign => {
                self.at += 1;
                Some(Token::Sign(sign))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, mode: Mode, expect: &[Token<'_>]) {
        let tokens: Vec<_> = Lexer::new(sql.as_bytes(), mode).collect();
        assert_eq!(tokens, expect, "{sql}");
    }

    #[test]
    fn quotes_and_escapes_follow_the_session() {
        use Token::{Doubt, Quoted, Sign, Text, Word};
        let plain = Mode::default();
        check(r"'a\'b' x", plain, &[Text, Word(b"x")]);
        check(r"'a\' x", Mode { no_backslash_escapes: true, ..plain }, &[Text, Word(b"x")]);
        check("'a''b'", plain, &[Text]);
        check("\"a\"", plain, &[Text]);
        check("\"a\"", Mode { ansi_quotes: true, ..plain }, &[Quoted(b"a")]);
        check("`a``b`.c", plain, &[Quoted(b"a``b"), Sign(b'.'), Word(b"c")]);
        check("'open", plain, &[Doubt]);
        check("'open\\", plain, &[Doubt]);
        check("`open", plain, &[Doubt]);
    }

    #[test]
    fn comments_vanish_and_executable_ones_are_code() {
        use Token::{Doubt, Sign, Word};
        let plain = Mode::default();
        check("/* a */ x -- y\nz # w", plain, &[Word(b"x"), Word(b"z")]);
        check("/*!50100 a*/ b /*M!100100 c */", plain, &[Word(b"a"), Word(b"b"), Word(b"c")]);
        check("/*+ hint */ a", plain, &[Word(b"a")]);
        for (sql, sets) in [
            ("SELECT /*+ set_var(a = 1) */ 1", true),
            ("SELECT /*+ BKA(t) SET_VAR(a=1) */ 1", true),
            ("SELECT /* SET_VAR(a=1) */ 1", false),
            ("SELECT /*+ BKA(t) */ 1 /*+*/", false),
        ] {
            let mut lexer = Lexer::new(sql.as_bytes(), plain);
            while lexer.next().is_some() {}
            assert_eq!(lexer.seen_set_var(), sets, "{sql}");
        }
        check("/* open", plain, &[Doubt]);
        check("/*! open", plain, &[Word(b"open"), Doubt]);
        check("/*! a /* b */ c */", plain, &[Word(b"a"), Doubt]);
        check("a--b", plain, &[Word(b"a"), Sign(b'-'), Sign(b'-'), Word(b"b")]);
        check("a--", plain, &[Word(b"a")]);
    }

    #[test]
    fn variables_are_told_apart() {
        use Token::{Assign, Number, Sign, SystemVariable, UserVariable, Word};
        let plain = Mode::default();
        check("@a:=1", plain, &[UserVariable, Assign, Number]);
        check("@`x y` @'z'", plain, &[UserVariable, UserVariable]);
        check("@@session.sql_mode", plain, &[SystemVariable(b"session.sql_mode")]);
        check("1e-5-x", plain, &[Number, Sign(b'-'), Word(b"x")]);
        check("0x1F 1abz", plain, &[Number, Word(b"1abz")]);
    }

    #[test]
    fn numbers_end_where_servers_end_them() {
        use Token::{Number, Sign, Word};
        let plain = Mode::default();
        for number in ["1.", "1.5", ".5", "1e5", "1.5e-3", "1E+2", ".5e1"] {
            check(&format!("{number}INTO"), plain, &[Number, Word(b"INTO")]);
        }
        check(
            "0x1f,0b01,0xg,0x,0X1",
            plain,
            &[Number, Sign(b','), Number, Sign(b','), Word(b"0xg"), Sign(b','), Word(b"0x"), Sign(b','), Word(b"0X1")],
        );
        check("1ab 1e 2fa", plain, &[Word(b"1ab"), Word(b"1e"), Word(b"2fa")]);
        check("t.1e5x", plain, &[Word(b"t"), Sign(b'.'), Word(b"1e5x")]);
        check(
            "t.5 t .5 (.5)",
            plain,
            &[Word(b"t"), Sign(b'.'), Word(b"5"), Word(b"t"), Number, Sign(b'('), Number, Sign(b')')],
        );
    }

    #[test]
    fn multi_byte_letters_never_hide_a_quote() {
        let gbk = Mode { charset: Charset::AsciiTrail, ..Mode::default() };
        let latin1 = Mode { charset: Charset::AsciiSafe, ..Mode::default() };
        let tokens: Vec<_> = Lexer::new(b"'\xbf\\' or 1", gbk).collect();
        assert_eq!(tokens, [Token::Doubt]);
        let tokens: Vec<_> = Lexer::new(b"for\xa0update", latin1).collect();
        assert_eq!(tokens, [Token::Doubt]);
        let tokens: Vec<_> = Lexer::new(b"'\xe9'", latin1).collect();
        assert_eq!(tokens, [Token::Text]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(sql: Vec<u8>, ansi_quotes: bool, no_backslash_escapes: bool) {
            let mode = Mode { ansi_quotes, no_backslash_escapes, ..Mode::default() };
            assert!(Lexer::new(&sql, mode).count() <= sql.len() + 1);
        }

        #[test]
        fn no_sql_like_text_makes_it_panic(sql in r#"[a-z'"`\\*/!@#;:=( -]{0,60}"#) {
            assert!(Lexer::new(sql.as_bytes(), Mode::default()).count() <= sql.len() + 1);
        }
    }
}
