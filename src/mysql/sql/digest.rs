//! The normal form of a statement: what it does, without what it does it to. Literals become `?`, lists of them `(...)`,
//! comments and the spelling of words, quotes and white space are gone.
//!
//! ```text
//! select *  from `t` where id in (1,2, 3) -- x       SELECT * FROM t WHERE id IN (...)
//! insert into t values (1,'a'),(2,'b')               INSERT INTO t VALUES (...), ...
//! ```
//! Nothing of a literal is left, whatever it holds: what the lexer cannot cut with certainty ends the normal form. As in
//! `performance_schema` and ProxySQL, names stay as they are written, and words of the language are written in capitals.
//! Source: MySQL manual, "Performance Schema Statement Digests and Sampling"; ProxySQL manual, "Query digests".

use super::builtins::is_known;
use super::keywords::is_keyword;
use super::lexer::{Lexer, Mode, Token};

/// Longest normal form, bytes, without the mark that says that more followed. `max_digest_length` of servers is the same.
pub const DIGEST_BYTES_MAX: usize = 1024;
/// Of statements longer than this ...
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// ... so many bytes are looked at.
const HEAD_BYTES: usize = 64 << 10;
/// What stands for the rest of a statement, and for the rest of a list.
const REST: &[u8] = b" ...";
/// Brackets inside of brackets; what lies deeper is not brought together.
const DEPTH_MAX: usize = 64;

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Start,
    /// A literal; `true`: a text in quotes, which another one may follow.
    Value(bool),
    /// A name, or a function.
    Name,
    Keyword,
    Operator,
    Open,
    Close,
    Comma,
    Dot,
}

/// What has been written since a bracket was opened.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// Place of the bracket in the output.
    start: usize,
    /// Nothing but literals and commas.
    only_values: bool,
    /// Behind IN or VALUES: one literal is a list, too.
    is_list: bool,
    /// Behind a name: arguments.
    is_call: bool,
    /// The group in front of it, with a comma between the two.
    before: Option<Row>,
}

/// A group that is complete.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    end: usize,
    /// The output up to here holds the group, and the mark for those like it.
    tail: usize,
}

/// Makes normal forms; keeps its memory from one to the next.
#[derive(Debug)]
pub struct Digester {
    out: Vec<u8>,
    groups: Vec<Group>,
    behind: Behind,
    /// A sign that belongs to the literal behind it, if one comes.
    sign: Option<u8>,
    /// A comma that is written when something else than the next of its kind follows.
    comma: bool,
    /// Literals with nothing but commas between them.
    run: u32,
    /// The group that ended last, if nothing came since.
    row: Option<Row>,
    /// Length of the output outside of all brackets.
    sure: usize,
    /// Brackets that are open, those without a group included.
    depth: usize,
}

impl Default for Digester {
    fn default() -> Digester {
        Digester {
            out: Vec::new(),
            groups: Vec::new(),
            behind: Behind::Start,
            sign: None,
            comma: false,
            run: 0,
            row: None,
            sure: 0,
            depth: 0,
        }
    }
}

impl Digester {
    /// The normal form of `sql`, at most [`DIGEST_BYTES_MAX`] bytes and the mark of more. Time is linear in the length of
    /// `sql`; nothing is allocated once it has been used.
    pub fn digest(&mut self, sql: &[u8], mode: Mode) -> &[u8] {
        self.begin();
        let is_cut = sql.len() > WHOLE_BYTES_MAX;
        let looked_at = if is_cut { &sql[..HEAD_BYTES] } else { sql };
        let mut lexer = Lexer::new(looked_at, mode);
        while let Some(token) = lexer.next() {
            let before = self.out.len();
            if token == Token::Doubt {
                return self.end_early(self.sure);
            }
            self.token(token, &lexer);
            if self.out.len() > DIGEST_BYTES_MAX {
                return self.end_early(before.min(DIGEST_BYTES_MAX));
            }
            if self.depth == 0 {
                self.sure = self.out.len();
            }
        }
        if is_cut {
            return self.end_early(self.sure);
        }
        self.flush();
        while self.out.last() == Some(&b';') {
            self.out.pop();
        }
        &self.out
    }

    fn begin(&mut self) {
        let (mut out, mut groups) = (std::mem::take(&mut self.out), std::mem::take(&mut self.groups));
        out.clear();
        groups.clear();
        *self = Digester { out, groups, ..Digester::default() };
    }

    fn end_early(&mut self, at: usize) -> &[u8] {
        self.out.truncate(at);
        if !self.out.ends_with(REST) {
            self.out.extend_from_slice(REST);
        }
        &self.out
    }

    fn token(&mut self, token: Token<'_>, lexer: &Lexer<'_>) {
        match token {
            Token::Text => self.value(true, lexer.was_spaced()),
            Token::Number | Token::Sign(b'?') => self.value(false, lexer.was_spaced()),
            Token::Word(word) => self.word(word),
            Token::Quoted(name) => self.quoted(name),
            Token::UserVariable => match lexer.text() {
                [b'@', b'\'' | b'"' | b'`', ..] => self.name(b"@'?'"),
                name => self.name(name),
            },
            Token::SystemVariable(_) => self.name(lexer.text()),
            Token::Assign => self.put(Behind::Operator, b":="),
            Token::Sign(sign) => self.sign(sign, lexer.was_spaced()),
            Token::Doubt => {}
        }
    }

    fn sign(&mut self, sign: u8, spaced: bool) {
        match sign {
            b'(' => self.open(),
            b')' => self.close(),
            b',' => self.comma(),
            b'.' => self.put(Behind::Dot, b"."),
            b';' => {
                self.put(Behind::Operator, b";");
                self.behind = Behind::Keyword;
            }
            // Of several signs in a row one is enough.
            b'-' | b'+' if self.expects_operand() => self.sign = Some(sign),
            b'=' | b'<' | b'>' | b'|' | b'&'
                if !spaced && self.sign.is_none() && self.behind == Behind::Operator && self.ends_in_operator() =>
            {
                self.out.push(sign);
            }
            sign => self.put(Behind::Operator, &[sign]),
        }
    }

    /// Whether the last byte can be the first one of an operator of several.
    fn ends_in_operator(&self) -> bool {
        matches!(self.out.last(), Some(b'<' | b'>' | b'!' | b'=' | b'|' | b'&' | b'-'))
    }

    /// Whether a sign here belongs to what follows it.
    fn expects_operand(&self) -> bool {
        let is_operand = matches!(self.behind, Behind::Value(_) | Behind::Name | Behind::Close | Behind::Dot);
        !is_operand || self.comma || self.sign.is_some()
    }

    /// Writes what was held back.
    fn flush(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.out.push(b',');
            self.behind = Behind::Comma;
        }
        if let Some(sign) = self.sign.take() {
            self.put_now(Behind::Operator, &[sign]);
        }
    }

    /// Writes a piece that is no literal.
    fn put(&mut self, kind: Behind, piece: &[u8]) {
        self.run = 0;
        self.row = None;
        if let Some(group) = self.groups.last_mut() {
            group.only_values = false;
        }
        self.flush();
        self.put_now(kind, piece);
    }

    fn put_now(&mut self, kind: Behind, piece: &[u8]) {
        let is_tight = matches!(self.behind, Behind::Start | Behind::Open | Behind::Dot)
            || matches!(kind, Behind::Close | Behind::Comma | Behind::Dot)
            || kind == Behind::Open && self.behind == Behind::Name
            || piece == b";";
        if !is_tight {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(piece);
        self.behind = kind;
    }

    fn name(&mut self, name: &[u8]) {
        self.put(Behind::Name, name);
    }

    fn word(&mut self, word: &[u8]) {
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if self.behind == Behind::Dot && !self.comma {
            return self.name(word);
        }
        let is_constant = is(b"NULL") || is(b"TRUE") || is(b"FALSE");
        if is_constant && !self.ends_in_word(b"IS") && !self.ends_in_word(b"NOT") {
            return self.value(false, true);
        }
        if !is_keyword(word) {
            return self.name(word);
        }
        self.put(Behind::Keyword, word);
        let start = self.out.len() - word.len();
        self.out[start..].make_ascii_uppercase();
    }

    /// A name in quotes: without them where that says the same.
    fn quoted(&mut self, name: &[u8]) {
        let is_plain = name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..))
            && !name.iter().all(u8::is_ascii_digit)
            && !name.is_empty()
            && !is_keyword(name);
        if is_plain {
            return self.name(name);
        }
        self.name(b"`");
        self.out.extend_from_slice(name);
        self.out.push(b'`');
    }

    /// Whether the last thing written is this keyword.
    fn ends_in_word(&self, word: &[u8]) -> bool {
        !self.comma && self.behind == Behind::Keyword && last_word(&self.out) == word
    }

    /// A literal.
    fn value(&mut self, is_text: bool, spaced: bool) {
        if is_text && self.behind == Behind::Value(true) && !self.comma && self.sign.is_none() {
            return; // 'a' 'b' is one text
        }
        if self.behind == Behind::Name && !self.comma && self.sign.is_none() {
            self.drop_introducers(is_text, spaced);
        }
        let goes_on = self.run > 0 && self.comma;
        (self.sign, self.row) = (None, None);
        if goes_on {
            self.comma = false;
            self.run += 1;
            if self.run == 2 {
                self.out.extend_from_slice(b", ...");
            }
        } else {
            self.flush();
            self.put_now(Behind::Value(is_text), b"?");
            self.run = 1;
        }
        self.behind = Behind::Value(is_text);
    }

    /// Takes away what belongs to a literal: `_utf8mb4'a'`, `N'a'`, `X'4D'`, `_latin1 0x4D`.
    fn drop_introducers(&mut self, is_text: bool, spaced: bool) {
        loop {
            let word = last_word(&self.out);
            let is_prefix = is_text && !spaced && matches!(word, [b'n' | b'N' | b'x' | b'X' | b'b' | b'B']);
            if !is_prefix && !matches!(word, [b'_', _, ..]) {
                return;
            }
            self.out.truncate(self.out.len() - word.len());
            self.behind = match self.out.last() {
                Some(b' ') => {
                    self.out.pop();
                    self.behind_what_is_left()
                }
                Some(b'(') => Behind::Open,
                _ => Behind::Start,
            };
            if self.behind != Behind::Name {
                // The word had taken these for something else than literals; it may still be that.
                return self.look_again();
            }
        }
    }

    fn behind_what_is_left(&self) -> Behind {
        let word = last_word(&self.out);
        match (word, self.out.last()) {
            ([], Some(b',')) => Behind::Comma,
            ([], _) => Behind::Operator,
            (word, _) if is_keyword(word) => Behind::Keyword,
            _ => Behind::Name,
        }
    }

    /// After a word was taken away again: whether its group holds nothing but literals, and whether the comma in front of it is
    /// held back, as in front of any other literal.
    fn look_again(&mut self) {
        if let Some(group) = self.groups.last_mut() {
            group.only_values = matches!(&self.out[group.start + 1..], b"" | b"?," | b"?, ...,");
        }
        self.run = match () {
            () if self.out.ends_with(b"?,") => 1,
            () if self.out.ends_with(b"?, ...,") => 2,
            () => return,
        };
        self.out.pop();
        self.comma = true;
    }

    fn comma(&mut self) {
        let is_held_back = self.run > 0 && matches!(self.behind, Behind::Value(_)) || self.row.is_some();
        if is_held_back && !self.comma {
            self.comma = true;
            return;
        }
        let only_values = self.groups.last().is_some_and(|group| group.only_values);
        self.put(Behind::Comma, b",");
        if let Some(group) = self.groups.last_mut() {
            group.only_values = only_values;
        }
    }

    fn open(&mut self) {
        let before = self.row.filter(|_| self.comma);
        let is_call = self.behind == Behind::Name && !self.comma;
        let is_list = !self.comma && [&b"IN"[..], b"VALUES", b"VALUE"].iter().any(|word| self.ends_in_word(word));
        if is_call {
            self.capitalise_function();
        }
        self.put(Behind::Open, b"(");
        self.depth += 1;
        if self.groups.len() < DEPTH_MAX && self.depth == self.groups.len() + 1 {
            let start = self.out.len() - 1;
            self.groups.push(Group { start, only_values: true, is_list, is_call, before });
        }
    }

    /// Functions of the servers' own are written in capitals, too.
    fn capitalise_function(&mut self) {
        let word = last_word(&self.out);
        let start = self.out.len() - word.len();
        if !word.is_empty() && self.out.get(start.wrapping_sub(1)) != Some(&b'.') && is_known(word) {
            self.out[start..].make_ascii_uppercase();
        }
    }

    fn close(&mut self) {
        let group = if self.depth > 0 && self.depth == self.groups.len() { self.groups.pop() } else { None };
        self.depth = self.depth.saturating_sub(1);
        let values = self.run;
        let only_values = group.is_some_and(|group| group.only_values) && values > 0 && !self.comma;
        self.put(Behind::Close, b")");
        let Some(group) = group else { return };
        if only_values && (values > 1 || group.is_list || group.before.is_some_and(|row| self.is_list(row))) {
            self.out.truncate(group.start);
            self.out.extend_from_slice(b"(...)");
        }
        let end = self.out.len();
        let is_repeated =
            group.before.filter(|row| self.out[row.start..row.end] == self.out[group.start..end] && !group.is_call);
        self.row = match is_repeated {
            Some(row) if row.tail == row.end => {
                self.out.truncate(row.end);
                self.out.extend_from_slice(b", ...");
                Some(Row { tail: self.out.len(), ..row })
            }
            Some(row) => {
                self.out.truncate(row.tail);
                Some(row)
            }
            None if group.is_call => None,
            None => Some(Row { start: group.start, end, tail: end }),
        };
    }

    fn is_list(&self, row: Row) -> bool {
        &self.out[row.start..row.end] == b"(...)"
    }
}

/// The word at the end, empty if there is none.
fn last_word(out: &[u8]) -> &[u8] {
    let start = out.iter().rposition(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'@' | 0x80..)));
    &out[start.map_or(0, |at| at + 1)..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lexer::Charset;
    use super::*;

    fn digest(sql: &str) -> String {
        String::from_utf8(Digester::default().digest(sql.as_bytes(), Mode::default()).to_vec()).unwrap()
    }

    fn check(sql: &str, expect: &str) {
        assert_eq!(digest(sql), expect, "{sql}");
        if !expect.contains("...") {
            assert_eq!(digest(expect), expect, "the normal form of a normal form is itself");
        }
    }

    #[test]
    fn literals_comments_and_spelling_are_gone() {
        check("select *  from `t`\nwhere id=1 -- x", "SELECT * FROM t WHERE id = ?");
        check(
            "SELECT a.`b` FROM d . t a WHERE a.c<=-5.5e3 AND x>'it''s'",
            "SELECT a.b FROM d.t a WHERE a.c <= ? AND x > ?",
        );
        check("/* who */ SELECT count( * ), Max(a) FROM t # end", "SELECT COUNT(*), MAX(a) FROM t");
        check("SELECT 'a' 'b', N'c', x'41', _utf8mb4'd', _latin1 x'4D'", "SELECT ?, ...");
        check("SELECT a-1, a - -1, -a, +2, a*-1", "SELECT a - ?, a - ?, - a, ?, a * ?");
        check("SELECT `select`, `a b`, `1`, `a``b`", "SELECT `select`, `a b`, `1`, `a``b`");
        check("SELECT j->'$.a', j ->> '$.b' FROM t", "SELECT j -> ?, j ->> ? FROM t");
        check("SELECT @a, @'secret', @@session.sql_mode", "SELECT @a, @'?', @@session.sql_mode");
        check("SET @a := 5, b = NULL", "SET @a := ?, b = ?");
        check("SELECT 1;", "SELECT ?");
        check("SELECT 1; SELECT 2 ; ", "SELECT ?; SELECT ?");
        check(
            "SELECT a FROM t WHERE b IS NULL OR c IS NOT NULL OR d = true",
            "SELECT a FROM t WHERE b IS NULL OR c IS NOT NULL OR d = ?",
        );
        check("SELECT a FROM t LIMIT 5, 10", "SELECT a FROM t LIMIT ?, ...");
        check("", "");
    }

    #[test]
    fn lists_are_brought_together() {
        let same = |statements: &[&str], expect: &str| statements.iter().for_each(|sql| check(sql, expect));
        same(
            &[
                "SELECT a FROM t WHERE b IN (1)",
                "SELECT a FROM t WHERE b IN (1,2)",
                "SELECT a FROM t WHERE b in('x' ,-2,NULL , ?)",
            ],
            "SELECT a FROM t WHERE b IN (...)",
        );
        check("INSERT INTO t (a, b) VALUES (1, 2)", "INSERT INTO t(a, b) VALUES (...)");
        same(
            &["INSERT INTO t VALUES (1), (2)", "insert into t values (1,'a'),(2,'b'),(3,N'c')"],
            "INSERT INTO t VALUES (...), ...",
        );
        same(
            &["INSERT INTO t VALUES (1, NOW()), (2, now())", "INSERT INTO t VALUES (1, NOW()), (2, NOW()),(3,NOW())"],
            "INSERT INTO t VALUES (?, NOW()), ...",
        );
        check("SELECT f(1), g(1,2), h(a,1,2,b)", "SELECT f(?), g(...), h(a, ?, ..., b)");
        check("SELECT 1 FROM t WHERE (a,b) IN ((1,2),(3,4))", "SELECT ? FROM t WHERE (a, b) IN ((...), ...)");
        check("SELECT ((1)), (a), (b)", "SELECT ((?)), (a), (b)");
        check("VALUES (1), (2), (a)", "VALUES (...), ..., (a)");
    }

    #[test]
    fn what_cannot_be_cut_ends_it() {
        check("SELECT a FROM t WHERE b = 'open", "SELECT a FROM t WHERE b = ...");
        check("SELECT a FROM t WHERE b IN (1, 'open", "SELECT a FROM t WHERE b IN ...");
        let gbk = Mode { charset: Charset::AsciiTrail, ..Mode::default() };
        assert_eq!(Digester::default().digest(b"SELECT '\xbf\\' or 1", gbk), b"SELECT ...");
        let long = format!("SELECT {} FROM t", vec!["abcdefgh"; 500].join(", "));
        let short = digest(&long);
        assert!(short.ends_with(" ...") && short.len() <= DIGEST_BYTES_MAX + REST.len());
        let rows = |count: usize| digest(&format!("INSERT INTO t VALUES {}", vec!["(1, 'abcdefgh')"; count].join(",")));
        assert_eq!(rows(20_000), rows(2), "however many");
        assert_eq!(rows(100_000), rows(2), "also where not all of it is looked at");
    }

    #[test]
    fn quotes_of_names_follow_the_session() {
        let ansi = Mode { ansi_quotes: true, ..Mode::default() };
        assert_eq!(Digester::default().digest(b"SELECT \"a\" = \"b c\"", ansi), b"SELECT a = `b c`");
        assert_eq!(digest("SELECT \"a\" = \"b c\""), "SELECT ? = ?");
    }

    /// A statement with `{}` where literals go.
    const TEMPLATES: &[&str] = &[
        "SELECT * FROM t WHERE a = {} AND b IN ({}, {}) LIMIT {}",
        "INSERT INTO t (a, b) VALUES ({}, {}), ({}, {})",
        "UPDATE t SET a = {}, b = CONCAT({}, {}) WHERE c BETWEEN {} AND {}",
        "SELECT f({}) FROM (SELECT {} UNION SELECT {}) x /* {} */ WHERE NOT a <=> {}",
        "SET PASSWORD = {}",
        "CREATE USER u IDENTIFIED BY {}",
        "SELECT {} AS a, -{}, a+{}, @v := {}",
    ];

    /// A secret as a literal. Nothing of it may show.
    fn literal() -> impl Strategy<Value = String> {
        let text = r#"[a-z ,;()?%'"\\#*/`-]{0,12}"#
            .prop_map(|inside| format!("'zqz{}zqz'", inside.replace('\\', "\\\\").replace('\'', "''")));
        let double = "[a-z ,()']{0,9}".prop_map(|inside| format!("\"zqz{inside}\""));
        let number = (0u64..1 << 60).prop_map(|n| format!("7718{n}"));
        let float = (0u32..999_999).prop_map(|n| format!("77.18{n}e7"));
        let hex = (0u32..u32::MAX).prop_map(|n| format!("0x7718{n:x}"));
        prop_oneof![text, double, number, float, hex]
    }

    proptest! {
        /// Whatever the literals are, the normal form is the same and holds nothing of them.
        #[test]
        fn no_literal_shows_and_none_matters(template in 0..TEMPLATES.len(), literals in proptest::collection::vec(literal(), 8)) {
            let fill = |literals: &[String]| {
                let mut pieces = TEMPLATES[template].split("{}");
                let first = pieces.next().unwrap_or_default().to_owned();
                // A comment ends at the first `*/`.
                let text = |literal: &String| literal.replace("*/", "");
                first + &pieces.zip(literals).map(|(piece, literal)| text(literal) + piece).collect::<String>()
            };
            let plain = vec!["1".to_owned(); 8];
            let found = digest(&fill(&literals));
            prop_assert_eq!(&found, &digest(&fill(&plain)), "{}", fill(&literals));
            prop_assert!(!found.contains("zqz") && !found.contains("7718"), "{}", found);
        }

        /// Any bytes: no panic, a bounded length, and the same again from the memory of another statement.
        #[test]
        fn any_statement_has_a_short_normal_form(sql in r#"[a-zA-Z0-9'"`\\*/!@#;:=.,()<>|& -]{0,200}"#, other: Vec<u8>) {
            let mut digester = Digester::default();
            let first = digester.digest(sql.as_bytes(), Mode::default()).to_vec();
            prop_assert!(first.len() <= DIGEST_BYTES_MAX + REST.len());
            prop_assert!(digester.digest(&other, Mode::default()).len() <= DIGEST_BYTES_MAX + REST.len());
            prop_assert_eq!(digester.digest(sql.as_bytes(), Mode::default()), first);
        }
    }
}
