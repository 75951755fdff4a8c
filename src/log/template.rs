//! The form of an access log line, compiled once: `[log] format`, a word or a text with variables.
//!
//! Two notations, which may be mixed: nginx's variables (`$remote_addr`, `${status}`) and HAProxy's directives (`%ci`,
//! `%{+Q}r`). `$$` and `%%` are the signs themselves. What they write is escaped as their own server would do it, or
//! as [`Escape`] says.
//!
//! Pure: text in, segments or every mistake with its place out. The values are filled in by `format`.
//!
//! Sources: nginx documentation, `log_format`; HAProxy configuration manual, sections 8.2.3 and 8.2.6.

use std::ops::Range;

use super::escape::{Notation, Style};
use super::variable::{DIRECTIVES, Name, PREFIXES, Prefix, VARIABLES, Variable};
use crate::util::template::OwnName;

/// A format longer than this is a mistake.
const BYTES_MAX: usize = 16 * 1024;

/// The words that stand for a format.
const PRESETS: [(&str, &str); 4] = [
    (
        "combined",
        "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"",
    ),
    ("common", "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent"),
    ("json", JSON),
    (
        "haproxy",
        "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r",
    ),
];

const JSON: &str = concat!(
    r#"{"time":$time_iso8601_ms,"remote_addr":$remote_addr,"method":$request_method,"target":$request_uri,"#,
    r#""protocol":$server_protocol,"status":$status,"body_bytes":$body_bytes_sent,"duration_us":$duration_us,"#,
    r#""referer":$http_referer,"user_agent":$http_user_agent,"host":$http_host,"request_id":$request_id,"#,
    r#""worker":$worker,"served_by":$served_by,"remote_port":$remote_port,"remote_user":$remote_user,"#,
    r#""peer_addr":$realip_remote_addr,"listener":$listener,"site":$site,"scheme":$scheme,"#,
    r#""tls_version":$ssl_protocol,"tls_cipher":$ssl_cipher,"tls_server_name":$ssl_server_name,"#,
    r#""tls_resumed":$tls_resumed,"tls_client":$ssl_client_s_dn,"bytes_received":$request_length,"#,
    r#""bytes_sent":$bytes_sent,"coding":$content_coding,"bytes_before_coding":$bytes_before_coding,"#,
    r#""connection":$connection,"connection_requests":$connection_requests,"upstream":$upstream,"#,
    r#""server":$upstream_addr,"upstream_status":$upstream_status,"tries":$tries,"read_us":$read_us,"#,
    r#""queue_us":$queue_us,"connect_us":$connect_us,"response_us":$response_us,"active_us":$active_us,"#,
    r#""termination":$termination}"#,
);

/// The words that stand for a format of connections in TCP mode, and of flows in UDP mode.
const TCP_PRESETS: [(&str, &str); 3] = [
    ("basic", "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time"),
    ("tcplog", "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"),
    ("json", TCP_JSON),
];

const TCP_JSON: &str = concat!(
    r#"{"time":$time_iso8601_ms,"remote_addr":$remote_addr,"remote_port":$remote_port,"peer_addr":$realip_remote_addr,"#,
    r#""protocol":$protocol,"status":$status,"listener":$listener,"upstream":$upstream,"server":$upstream_addr,"#,
    r#""bytes_received":$bytes_received,"bytes_sent":$bytes_sent,"duration_us":$duration_us,"connect_us":$connect_us,"#,
    r#""datagrams_received":$datagrams_received,"datagrams_sent":$datagrams_sent,"tries":$tries,"tls_version":$ssl_protocol,"tls_cipher":$ssl_cipher,"tls_server_name":$ssl_server_name,"#,
    r#""preread_server_name":$ssl_preread_server_name,"preread_alpn":$ssl_preread_alpn_protocols,"#,
    r#""worker":$worker,"connection":$connection,"termination":$termination}"#,
);

/// How bytes from outside are written; control bytes are escaped in every mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As the server does it whose notation is used: `\xHH` for `$name`, `#HH` for `%name`.
    Default,
    /// For the inside of JSON strings; a value outside of a string becomes a JSON value of its own.
    Json,
    /// Nothing but control bytes and what is not UTF-8, as `\xHH`.
    None,
}

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(super) segments: Box<[Segment]>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Written as it is.
    Text(Box<str>),
    /// Filled in.
    Value(Variable, Style),
}

/// Something in a format that is not right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Bytes of the format.
    pub place: Range<usize>,
    /// What it is.
    pub wrong: Wrong,
}

/// What may be wrong with a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No variable has this name.
    UnknownVariable(String),
    /// No directive has this name.
    UnknownDirective(String),
    /// `$` or `%` begins nothing.
    Sign(char),
    /// A brace or bracket is not closed.
    Open(char),
    /// A flag in `%{…}` that is not one of `+Q -Q +E -E +M -M`.
    Flag(String),
    /// A sample expression of HAProxy: `%[…]`.
    Expression,
    /// A control character between the variables, a line feed most likely.
    Control(char),
    /// Not one variable: every line would be the same.
    Constant,
    /// Longer than 16 KiB.
    TooLong,
}

impl Template {
    /// Compiles a format: one of [`Template::words`], or a free text.
    ///
    /// Errors: every mistake, in order of place.
    pub fn new(format: &str, escape: Escape) -> Result<Template, Vec<Mistake>> {
        Template::with_own(format, escape, &[])
    }

    /// As [`Template::new`], with variables that the config defines.
    pub fn with_own(format: &str, escape: Escape, own: &[OwnName]) -> Result<Template, Vec<Mistake>> {
        match PRESETS.iter().find(|(word, _)| *word == format) {
            Some(("json", text)) => Compiler::new(text, Escape::Json, &[]).compile(),
            Some((_, text)) => Compiler::new(text, escape, &[]).compile(),
            None => Compiler::new(format, escape, own).compile(),
        }
    }

    /// As [`Template::new`], for connections in TCP mode: one of [`Template::tcp_words`], or a free text.
    pub fn tcp(format: &str, escape: Escape) -> Result<Template, Vec<Mistake>> {
        match TCP_PRESETS.iter().find(|(word, _)| *word == format) {
            Some(("json", text)) => Compiler::new(text, Escape::Json, &[]).compile(),
            Some((_, text)) => Compiler::new(text, escape, &[]).compile(),
            None => Compiler::new(format, escape, &[]).compile(),
        }
    }

    /// The words that stand for a format of connections in TCP mode.
    pub fn tcp_words() -> impl Iterator<Item = &'static str> {
        TCP_PRESETS.iter().map(|(word, _)| *word)
    }

    /// Whether a format has a variable of this name, so that the config cannot define another one.
    pub fn is_built_in(name: &str) -> bool {
        variable_named(&name.to_ascii_lowercase()).is_some()
    }

    /// The words that stand for a format.
    pub fn words() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(word, _)| *word)
    }

    /// Names of the variables, without `$`.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        VARIABLES.iter().map(|name| name.text)
    }

    /// Names of the directives, without `%`.
    pub fn directives() -> impl Iterator<Item = &'static str> {
        DIRECTIVES.iter().map(|name| name.text)
    }

    /// A line of this format in which every value is missing or empty; for a look at whether the rest is JSON.
    pub fn skeleton(&self) -> String {
        let piece = |segment: &Segment| match segment {
            Segment::Text(text) => text.to_string(),
            Segment::Value(_, style) if style.is_json_value => "null".into(),
            Segment::Value(..) => String::new(),
        };
        self.segments.iter().map(piece).collect()
    }

    /// Whether it needs variables that the config defines.
    pub(super) fn wants_own(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Value(Variable::Own(_), _)))
    }

    /// Whether it needs the fields of the answer.
    pub(super) fn wants_response_fields(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Value(Variable::ResponseField(_), _)))
    }

    /// Whether it needs [`super::Counts`].
    pub(super) fn wants_counts(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Value(Variable::Count(_), _)))
    }

    /// The manual's chapter on formats, Markdown.
    pub(crate) fn manual() -> String {
        let mut out = String::from("\nA format is one of the words ");
        out.push_str(&list(Template::words(), ""));
        out.push_str(
            ", or a text with variables of nginx (`$status`, `${status}`) and directives of HAProxy (`%ST`, `%{+Q}r`), \
             which may be mixed; `$$` and `%%` are the signs themselves. `combined` and `common` are nginx's and Apache's, \
             `haproxy` is HAProxy's `httplog`, `json` is one object a line. For `tcp_format` the words are `basic` (that of \
             nginx's manual of `stream`), `tcplog` (HAProxy's) and `json`.\n\n\
             Control bytes from outside are escaped in every format. With `escape = \"default\"`, variables are escaped \
             as nginx does it (`\\x22`) and directives as HAProxy does it (`#22`); a value that does not exist is `-`, a \
             timer or status that was not reached is `-1` with `%`. With `escape = \"json\"`, a variable between quotes \
             is the inside of a JSON string, and one outside of quotes is a JSON value: a number, a text in quotes, or \
             `null`. With `escape = \"none\"` everything but control bytes and what is not UTF-8 is written as it is. \
             There, and between the quotes of JSON, a value that does not exist is empty. HAProxy's flags are `+Q` (in quotes), `+E` and `+M`, which change nothing here; `%{+Q}o` sets them \
             for what follows. Sample expressions (`%[…]`) do not exist: `$http_NAME` and the like take their place.\n",
        );
        manual_of(&mut out, "variables", '$', VARIABLES);
        let (known, absent): (Vec<&Prefix>, Vec<&Prefix>) = PREFIXES.iter().partition(|prefix| !prefix.note.is_empty());
        for prefix in known {
            out.push_str(&format!("- `${}NAME`: {}\n", prefix.text, prefix.note));
        }
        let absent: Vec<String> = absent.iter().map(|prefix| format!("`${}NAME`", prefix.text)).collect();
        out.push_str(&format!("- always missing here: {}\n", absent.join(", ")));
        manual_of(&mut out, "directives", '%', DIRECTIVES);
        out
    }
}

fn manual_of(out: &mut String, what: &str, sign: char, names: &'static [Name]) {
    let with = |wanted: fn(&&Name) -> bool| list(names.iter().filter(wanted).map(|name| name.text), &sign.to_string());
    let other = if sign == '$' { "nginx" } else { "HAProxy" };
    out.push_str(&format!("\nThe {what}:\n\n"));
    let same = with(|name| name.note.is_empty() && name.variable != Variable::Nothing);
    out.push_str(&format!("- as in {other}: {same}\n"));
    for name in names.iter().filter(|name| !name.note.is_empty()) {
        out.push_str(&format!("- `{sign}{}`: {}\n", name.text, name.note));
    }
    out.push_str(&format!("- always missing here: {}\n", with(|name| name.variable == Variable::Nothing)));
}

fn list(names: impl Iterator<Item = &'static str>, sign: &str) -> String {
    names.map(|name| format!("`{sign}{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reads a format from left to right.
struct Compiler<'a> {
    text: &'a str,
    at: usize,
    escape: Escape,
    /// Variables that the config defines.
    own: &'a [OwnName],
    /// Quotes around what follows, set by `%{+Q}o`.
    quoted: bool,
    /// The literal text so far ends inside of a JSON string.
    in_string: bool,
    /// Literal text that is not a segment yet.
    literal: String,
    segments: Vec<Segment>,
    mistakes: Vec<Mistake>,
}

impl<'a> Compiler<'a> {
    fn new(text: &'a str, escape: Escape, own: &'a [OwnName]) -> Compiler<'a> {
        let (segments, mistakes, literal) = (Vec::new(), Vec::new(), String::new());
        Compiler { text, at: 0, escape, own, quoted: false, in_string: false, literal, segments, mistakes }
    }

    fn compile(mut self) -> Result<Template, Vec<Mistake>> {
        if self.text.len() > BYTES_MAX {
            return Err(vec![Mistake { place: 0..self.text.len(), wrong: Wrong::TooLong }]);
        }
        while let Some(c) = self.rest().chars().next() {
            match c {
                '$' => self.variable(),
                '%' => self.directive(),
                c if c == '\t' || !c.is_control() => {
                    self.literal.push(c);
                    self.at += c.len_utf8();
                }
                c => self.mistake(self.at + c.len_utf8(), Wrong::Control(c)),
            }
        }
        self.end_literal();
        let has_value = self.segments.iter().any(|segment| matches!(segment, Segment::Value(..)));
        if self.mistakes.is_empty() && !has_value {
            self.mistakes.push(Mistake { place: 0..self.text.len(), wrong: Wrong::Constant });
        }
        match self.mistakes.is_empty() {
            true => Ok(Template { segments: self.segments.into() }),
            false => Err(self.mistakes),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Notes what stands from here to `end`, and goes on behind it.
    fn mistake(&mut self, end: usize, wrong: Wrong) {
        self.mistakes.push(Mistake { place: self.at..end, wrong });
        self.at = end;
    }

    /// `$name`, `${name}`, `$$`
    fn variable(&mut self) {
        let behind = &self.rest()[1..];
        let (name, end) = match behind.strip_prefix('{') {
            Some(inside) => match inside.find('}') {
                Some(length) => (&inside[..length], self.at + 2 + length + 1),
                None => return self.mistake(self.text.len(), Wrong::Open('{')),
            },
            None => (name(behind), self.at + 1 + name(behind).len()),
        };
        if name.is_empty() {
            return self.sign('$', behind, end);
        }
        let own = self.own.iter().find(|own| own.name == name).map(|own| Variable::Own(own.own));
        match own.or_else(|| variable_named(&name.to_ascii_lowercase())) {
            Some(variable) => self.value(variable, end, false, Notation::Backslash),
            None => self.mistake(end, Wrong::UnknownVariable(name.into())),
        }
    }

    /// `%name`, `%{+Q}name`, `%%`
    fn directive(&mut self) {
        let mut behind = &self.rest()[1..];
        let mut quoted = self.quoted;
        if behind.starts_with('[') {
            let end = self.rest().find(']').map_or(self.text.len(), |length| self.at + length + 1);
            return self.mistake(end, Wrong::Expression);
        }
        if let Some(inside) = behind.strip_prefix('{') {
            let Some(length) = inside.find('}') else {
                return self.mistake(self.text.len(), Wrong::Open('{'));
            };
            for flag in inside[..length].split(',').map(str::trim) {
                match flag {
                    "+Q" => quoted = true,
                    "-Q" => quoted = false,
                    "+E" | "-E" | "+M" | "-M" => {} // what they ask for is always done
                    flag => {
                        let end = self.at + 2 + length + 1;
                        return self.mistake(end, Wrong::Flag(flag.into()));
                    }
                }
            }
            behind = &inside[length + 1..];
        }
        let name = name(behind);
        let end = self.text.len() - behind.len() + name.len();
        match DIRECTIVES.iter().find(|known| known.text == name) {
            Some(known) => self.value(known.variable.clone(), end, quoted, Notation::Hash),
            None if name == "o" => (self.quoted, self.at) = (quoted, end),
            None if name.is_empty() => self.sign('%', behind, end),
            None => self.mistake(end, Wrong::UnknownDirective(name.into())),
        }
    }

    /// A sign without a name: doubled, it stands for itself.
    fn sign(&mut self, sign: char, behind: &str, end: usize) {
        if behind.starts_with(sign) && end == self.at + 1 {
            self.literal.push(sign);
            self.at += 2;
        } else {
            self.mistake(end, Wrong::Sign(sign));
        }
    }

    fn value(&mut self, variable: Variable, end: usize, quoted: bool, own: Notation) {
        self.at = end;
        if variable == Variable::Vanishes {
            self.at += usize::from(self.rest().starts_with(' '));
            return;
        }
        self.end_literal();
        let notation = match self.escape {
            Escape::Default => own,
            Escape::Json => Notation::Json,
            Escape::None => Notation::Raw,
        };
        let is_json = notation == Notation::Json;
        let style = Style { notation, quoted: quoted && !is_json, is_json_value: is_json && !self.in_string };
        self.segments.push(Segment::Value(variable, style));
    }

    fn end_literal(&mut self) {
        let mut escaped = false;
        for byte in self.literal.bytes() {
            match byte {
                b'"' if !escaped => self.in_string = !self.in_string,
                byte => escaped = byte == b'\\' && !escaped && self.in_string,
            }
        }
        if !self.literal.is_empty() {
            self.segments.push(Segment::Text(std::mem::take(&mut self.literal).into()));
        }
    }
}

/// The letters, digits and `_` at the begin of `text`.
fn name(text: &str) -> &str {
    let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    &text[..text.bytes().take_while(is_inside).count()]
}

fn variable_named(name: &str) -> Option<Variable> {
    if let Some(known) = VARIABLES.iter().find(|known| known.text == name) {
        return Some(known.variable.clone());
    }
    PREFIXES.iter().find_map(|prefix| match name.strip_prefix(prefix.text)? {
        "" => None,
        rest => Some((prefix.make)(rest.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<Mistake> {
        Template::new(text, Escape::Default).err().unwrap_or_default()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, Wrong)]) {
        let found: Vec<(&str, Wrong)> =
            mistakes(text).into_iter().map(|mistake| (&text[mistake.place], mistake.wrong)).collect();
        assert_eq!(found, expected, "{text}");
    }

    fn shown(text: &str, escape: Escape) -> Vec<String> {
        let piece = |segment: &Segment| match segment {
            Segment::Text(text) => format!("{text:?}"),
            Segment::Value(variable, style) => {
                let marks = [(style.quoted, "Q"), (style.is_json_value, "J")];
                let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
                format!("{variable:?} {:?}{marks}", style.notation)
            }
        };
        Template::new(text, escape).unwrap().segments.iter().map(piece).collect()
    }

    #[test]
    fn every_mistake_has_its_place() {
        check(
            "$remote_adr x $staus",
            &[
                ("$remote_adr", Wrong::UnknownVariable("remote_adr".into())),
                ("$staus", Wrong::UnknownVariable("staus".into())),
            ],
        );
        check(
            "${statu} %cx/%{+Q}rr",
            &[
                ("${statu}", Wrong::UnknownVariable("statu".into())),
                ("%cx", Wrong::UnknownDirective("cx".into())),
                ("%{+Q}rr", Wrong::UnknownDirective("rr".into())),
            ],
        );
        check(
            "100% $ ${} %{+Q}",
            &[("%", Wrong::Sign('%')), ("$", Wrong::Sign('$')), ("${}", Wrong::Sign('$')), ("%{+Q}", Wrong::Sign('%'))],
        );
        check("$status ${oops", &[("${oops", Wrong::Open('{'))]);
        check("%{+Q", &[("%{+Q", Wrong::Open('{'))]);
        check("%{+X}ci", &[("%{+X}", Wrong::Flag("+X".into()))]);
        check("%[src]:%cp", &[("%[src]", Wrong::Expression)]);
        check("$status\n", &[("\n", Wrong::Control('\n'))]);
        check("jsno", &[("jsno", Wrong::Constant)]);
        check("", &[("", Wrong::Constant)]);
        check(
            "$http_ $cookie_",
            &[
                ("$http_", Wrong::UnknownVariable("http_".into())),
                ("$cookie_", Wrong::UnknownVariable("cookie_".into())),
            ],
        );
        let long = "$status".repeat(BYTES_MAX / 7 + 1);
        check(&long, &[(&long, Wrong::TooLong)]);
    }

    #[test]
    fn formats_become_segments() {
        assert_eq!(shown("$$a ${Status}b%%", Escape::Default), ["\"$a \"", "Status Backslash", "\"b%\""]);
        assert_eq!(shown("%ci:%cp\té", Escape::Default), ["RemoteAddr Hash", "\":\"", "RemotePort Hash", "\"\\té\""]);
        assert_eq!(
            shown("%{+Q}o %r %{-Q}HM$args", Escape::None),
            ["\" \"", "Request(LineOrBad) RawQ", "\" \"", "Request(MethodOrBad) Raw", "Request(Query) Raw"]
        );
        assert_eq!(
            shown("$http_X_Y$sent_http_x$cookie_c$arg_q$upstream_http_z", Escape::Default),
            [
                "RequestField(\"x_y\") Backslash",
                "ResponseField(\"x\") Backslash",
                "Cookie(\"c\") Backslash",
                "Argument(\"q\") Backslash",
                "Nothing Backslash"
            ]
        );
        // HAProxy without captures writes neither them nor their spaces.
        assert_eq!(
            shown("%bq %hr %hs %{+Q}r", Escape::Default),
            ["Count(UpstreamQueue) Hash", "\" \"", "Request(LineOrBad) HashQ"]
        );
    }

    #[test]
    fn json_knows_what_stands_in_a_string() {
        assert_eq!(
            shown(r#"{"a":$status,"b":"x$args","c\"":%{+Q}r}"#, Escape::Json),
            [
                r#""{\"a\":""#,
                "Status JsonJ",
                r#"",\"b\":\"x""#,
                "Request(Query) Json",
                r#""\",\"c\\\"\":""#,
                "Request(LineOrBad) JsonJ",
                r#""}""#,
            ]
        );
        let json = Template::new("json", Escape::None).unwrap();
        serde_json::from_str::<serde_json::Value>(&json.skeleton()).unwrap();
    }

    #[test]
    fn every_word_and_every_name_compiles_and_stands_in_the_manual() {
        let manual = Template::manual();
        for word in Template::words() {
            assert_eq!(mistakes(word), [], "{word}");
            assert!(manual.contains(&format!("`{word}`")), "{word}");
        }
        let named = Template::variables().map(|name| format!("${name}"));
        for name in named.chain(Template::directives().map(|name| format!("%{name}"))) {
            assert_eq!(mistakes(&format!("$status {name}")), [], "{name}");
            assert!(manual.contains(&format!("`{name}`")), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_format_or_has_mistakes_inside_of_it(text in "(?s)([$%]\\{?[+a-zA-Z_]{0,5}\\}?|.){0,20}") {
            for escape in [Escape::Default, Escape::Json, Escape::None] {
                for mistake in Template::new(&text, escape).err().unwrap_or_default() {
                    assert!(text.get(mistake.place).is_some());
                }
            }
        }
    }
}
