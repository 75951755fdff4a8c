//! Reads the text of one definition: a view's query, a trigger's or routine's body, the default of a column.

use std::collections::HashMap;

use super::super::builtins::{self, Call, Flavour};
use super::super::lexer::{Lexer, Mode, Token};
use super::{
    CONNECTION_ID, FOUND, INSERT_ID, LOCAL, ODD, Of, ROWS, SETS, SETS_SURELY, STATE, Things, Variables, is_any,
    is_plain,
};

/// Types and words of compound statements that may stand in front of `(`.
static PLAIN: &[&str] = &[
    "bigint",
    "bit",
    "blob",
    "call",
    "character",
    "decimal",
    "do",
    "elseif",
    "enum",
    "fixed",
    "if",
    "int1",
    "int2",
    "int3",
    "int4",
    "int8",
    "longblob",
    "longtext",
    "mediumblob",
    "mediumint",
    "mediumtext",
    "middleint",
    "national",
    "number",
    "numeric",
    "nvarchar",
    "over",
    "raw",
    "real",
    "return",
    "smallint",
    "text",
    "tinyblob",
    "tinyint",
    "tinytext",
    "until",
    "varbinary",
    "varchar2",
    "varying",
    "while",
    "elsif",
    "loop",
    "columns",
    "against",
];

/// Functions of MySQL's alone, which MariaDB leaves to stored functions: servers write a database in front of these in what a view
/// is defined as.
static OF_MYSQL: &[&str] =
    &["any_value", "bin_to_uuid", "grouping", "is_uuid", "regexp_like", "statement_digest", "uuid_to_bin"];

fn is_known_in_view(name: &str) -> bool {
    OF_MYSQL.contains(&name) || ["json_", "st_", "mbr"].iter().any(|family| name.starts_with(family))
}

/// Reads one definition.
pub(super) struct Body<'a> {
    things: &'a Things,
    variables: &'a Variables,
    of: Of,
    /// Whose functions are called.
    flavour: Flavour,
    own: u8,
    uses: Vec<usize>,
    /// The word before, and the one before the name under way, in front of its database.
    previous: &'a [u8],
    before_name: &'a [u8],
    /// The name that came last, if nothing but `(` has come since.
    name: Option<&'a [u8]>,
    is_qualified: bool,
    /// That name has a database in front of it, or quotes around it.
    is_own: bool,
    /// A list of variables that take values has begun, and this may be one.
    is_target: bool,
    /// What comes may change its arguments.
    is_call: bool,
    /// Whom it calls is not known yet.
    is_unresolved: bool,
    after_variable: bool,
    /// The routine's own variables, in lower case, and in how many of the blocks under way each is declared.
    declared: HashMap<Box<[u8]>, u32, ahash::RandomState>,
    /// What has begun and will END, with the variables declared there.
    blocks: Vec<Vec<Box<[u8]>>>,
    /// END came: what follows says whether it was that of a block.
    has_ended: bool,
    /// Names of these are listed: one comes next, or a comma.
    declares: Option<bool>,
    /// Variables follow that are set.
    is_setting: bool,
    /// A statement is under way whose SET is about columns.
    changes_rows: bool,
    /// One is named next.
    is_to_set: bool,
    /// Parentheses open since SET.
    depth: usize,
}

impl<'a> Body<'a> {
    pub(super) fn new(things: &'a Things, variables: &'a Variables, of: Of) -> Body<'a> {
        Body {
            things,
            variables,
            of,
            flavour: Flavour::default(),
            own: 0,
            uses: Vec::new(),
            previous: b"",
            before_name: b"",
            name: None,
            is_qualified: false,
            is_own: false,
            is_target: false,
            is_call: false,
            is_unresolved: false,
            after_variable: false,
            declared: HashMap::default(),
            blocks: Vec::new(),
            has_ended: false,
            declares: None,
            is_setting: false,
            changes_rows: false,
            is_to_set: false,
            depth: 0,
        }
    }

    /// What the text does by itself, and what it uses.
    pub(super) fn read(mut self, text: &'a [u8], mode: Mode) -> (u8, Vec<usize>) {
        self.flavour = mode.flavour;
        for token in Lexer::new(text, mode) {
            self.token(token);
        }
        self.end_call();
        if self.of == Of::Table {
            // A trigger may ask for what the statement brings along, the last insert id, or for what happened in front of it there.
            self.own &= STATE | SETS | SETS_SURELY | INSERT_ID;
        }
        self.uses.sort_unstable();
        self.uses.dedup();
        (self.own, self.uses)
    }

    fn token(&mut self, token: Token<'a>) {
        let after_variable = std::mem::take(&mut self.after_variable);
        let name = if matches!(token, Token::Sign(b'.')) { self.name } else { self.name.take() };
        let is_to_set = std::mem::take(&mut self.is_to_set);
        if !matches!(token, Token::Word(_)) && std::mem::take(&mut self.has_ended) {
            self.end_block();
        }
        match token {
            Token::Doubt => self.own |= STATE,
            Token::Word(word) => {
                self.note_set(word, is_to_set, false);
                self.word(word);
                return;
            }
            Token::Quoted(word) => {
                self.note_set(word, is_to_set, true);
                self.named(word, true);
                self.previous = b"";
                return;
            }
            Token::UserVariable => {
                if self.is_target || self.is_call {
                    self.own |= STATE;
                }
                self.own |= if is_to_set { SETS_SURELY } else { 0 };
                self.after_variable = true;
            }
            Token::SystemVariable(name) => {
                let name = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
                if is_any(name, &["identity", "last_insert_id"]) {
                    self.own |= INSERT_ID;
                }
                self.own |= if is_to_set { SETS_SURELY } else { 0 };
            }
            // Servers tell of SET, and of nothing else.
            Token::Assign if after_variable => self.own |= STATE,
            Token::Sign(b'(') => {
                self.depth += 1;
                if let Some(name) = name {
                    self.call(name);
                }
            }
            Token::Sign(b')') => self.depth = self.depth.saturating_sub(1),
            Token::Sign(b',') if self.declares.is_some() => self.declares = Some(true),
            Token::Sign(b',') => self.is_to_set = self.is_setting && self.depth == 0,
            Token::Sign(b'.') => self.is_qualified = true,
            Token::Sign(b';') => {
                self.end_call();
                (self.is_setting, self.changes_rows) = (false, false);
            }
            _ => {}
        }
        if !matches!(token, Token::Sign(b',' | b'.') | Token::UserVariable) {
            self.is_target = false;
        }
        if !matches!(token, Token::Sign(b'.')) {
            self.previous = b"";
        }
    }

    fn word(&mut self, word: &'a [u8]) {
        let is_value = is_any(word, &["VALUE"]) && is_any(self.previous, &["NEXT", "PREVIOUS"]);
        if is_value || is_any(word, &["NEXTVAL", "CURRVAL", "TEMPORARY"]) {
            self.own |= STATE;
        }
        // INTO a, @b
        let was_target = std::mem::replace(&mut self.is_target, is_any(word, &["INTO"]));
        let ends = ["FROM", "WHERE", "VALUES", "VALUE", "SELECT", "SET", "END", "LIMIT", "FOR"];
        self.is_target |= was_target && !is_any(word, &ends);
        if is_any(word, &["CALL", "DIAGNOSTICS"]) {
            (self.is_call, self.is_unresolved) = (true, is_any(word, &["CALL"]));
        } else {
            self.named(word, false);
        }
        self.previous = word;
    }

    /// SET a = 1, @b = 2: a parameter of the routine that has the name of one of the server's variables is taken for that.
    fn note_set(&mut self, word: &'a [u8], is_to_set: bool, is_quoted: bool) {
        let is_any = |keywords: &[&str]| !is_quoted && is_any(word, keywords);
        self.note_block(&is_any);
        if is_any(&["THEN", "ELSE", "DO", "BEGIN", "LOOP", "REPEAT"]) {
            self.changes_rows = false;
        }
        if is_to_set && !is_any(&["NEW"]) {
            let lower = lower(word);
            if !self.declared.contains_key(&lower) {
                let names = ["SESSION", "LOCAL", "NAMES", "CHARACTER", "CHARSET", "ROLE"];
                self.own |= if is_any(&names) || self.variables.contains(&lower) { SETS_SURELY } else { SETS };
            }
        }
        match self.declares {
            // DECLARE CONTINUE HANDLER declares no variable, nor does a cursor.
            Some(true) if is_any(&["CONTINUE", "EXIT", "UNDO"]) => self.declares = None,
            Some(true) => {
                self.declare(lower(word));
                self.declares = Some(false);
            }
            _ => self.declares = is_any(&["DECLARE"]).then_some(true),
        }
        self.changes_rows |= !self.is_setting && is_any(&["UPDATE", "INSERT", "REPLACE", "SIGNAL", "RESIGNAL"]);
        if self.of != Of::View && !self.changes_rows && is_any(&["SET"]) {
            (self.is_setting, self.is_to_set, self.depth) = (true, true, 0);
        }
    }

    /// BEGIN and CASE have an END of their own; what else ends with one says what.
    fn note_block(&mut self, is_any: &impl Fn(&[&str]) -> bool) {
        if std::mem::take(&mut self.has_ended) && !is_any(&["IF", "LOOP", "WHILE", "REPEAT", "FOR"]) {
            self.end_block();
            if is_any(&["CASE"]) {
                return; // END CASE
            }
        }
        if is_any(&["END"]) {
            self.has_ended = true;
        } else if is_any(&["BEGIN", "CASE"]) {
            self.blocks.push(Vec::new());
        }
    }

    fn declare(&mut self, name: Box<[u8]>) {
        *self.declared.entry(name.clone()).or_default() += 1;
        if let Some(block) = self.blocks.last_mut() {
            block.push(name);
        }
    }

    fn end_block(&mut self) {
        for name in self.blocks.pop().unwrap_or_default() {
            if let Some(count) = self.declared.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.declared.remove(&name);
                }
            }
        }
    }

    /// `;`, or the end of the text.
    fn end_call(&mut self) {
        if std::mem::take(&mut self.is_unresolved) {
            self.own |= STATE;
        }
        self.is_call = false;
    }

    fn named(&mut self, word: &'a [u8], is_quoted: bool) {
        let is_qualified = std::mem::take(&mut self.is_qualified);
        if !is_qualified {
            self.before_name = self.previous;
        }
        if is_any(word, &["mysql", "information_schema", "performance_schema", "sys"]) {
            self.own |= LOCAL;
        }
        let lower = lower(word);
        self.uses.extend(self.things.relations.get(&*lower));
        if self.is_unresolved
            && let Some(place) = self.things.routines.get(&*lower)
        {
            self.uses.push(*place);
            self.is_unresolved = false;
        }
        (self.name, self.is_own) = (Some(word), is_qualified || is_quoted);
    }

    /// `(` behind a name.
    fn call(&mut self, name: &'a [u8]) {
        let lower = lower(name);
        // INSERT INTO t (a, b)
        let tables = ["INTO", "INSERT", "REPLACE", "IGNORE", "TABLE", "JOIN", "WITH", "RECURSIVE"];
        if is_any(self.before_name, &tables) {
            return;
        }
        self.is_unresolved = false;
        if let Some(place) = self.things.routines.get(&*lower) {
            self.uses.push(*place);
            return;
        }
        let known = std::str::from_utf8(&lower).unwrap_or_default();
        self.own |= match known {
            _ if self.is_own => STATE,
            "last_insert_id" => INSERT_ID,
            "row_count" => ROWS,
            "found_rows" => FOUND,
            "connection_id" => CONNECTION_ID,
            "version" | "load_file" => LOCAL,
            _ if PLAIN.contains(&known) || self.of == Of::View && is_known_in_view(known) => 0,
            _ => match builtins::call(&lower, false, false, self.flavour) {
                Call::Keyword | Call::Pure | Call::Local => 0,
                Call::Unknown => STATE,
            },
        };
    }
}

fn lower(name: &[u8]) -> Box<[u8]> {
    if is_plain(name) { name.to_ascii_lowercase().into() } else { ODD.into() }
}
