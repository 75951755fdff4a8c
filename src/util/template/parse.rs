//! Text → parts, and what is wrong with it.

use std::fmt;
use std::ops::Range;

use super::{OwnName, Part, Variable};

/// What a template may name, beside what every request has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The captures by number, `$1` first, with their names where they have one.
    pub captures: &'a [Option<String>],
    /// The answer is known: `$status`, `$upstream_addr`.
    pub answer: bool,
    /// Variables that the config defines for all of it.
    pub own: &'a [OwnName],
    /// Variables that the config sets for the level that the text belongs to.
    pub set: &'a [OwnName],
}

/// One mistake in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its bytes in the text.
    pub at: Range<usize>,
    /// What is wrong.
    pub kind: MistakeKind,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MistakeKind {
    /// There is no variable of this name.
    Unknown(String),
    /// `${` without `}`.
    Unclosed,
    /// A capture that the route's expression does not have.
    NoCapture {
        /// The number asked for.
        number: u8,
        /// How many there are.
        count: usize,
    },
    /// A variable of the answer, used before there is one.
    OnlyInAnswers(String),
}

impl fmt::Display for MistakeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MistakeKind::Unknown(name) => write!(f, "`${name}` is not known; `$$` is a dollar"),
            MistakeKind::Unclosed => f.write_str("`${` has no `}`; `$$` is a dollar"),
            MistakeKind::NoCapture { number: 0, .. } => {
                f.write_str("captures count from `$1`; `$path` is the whole path")
            }
            MistakeKind::NoCapture { number, count: 0 } => {
                write!(f, "there is no capture here that `${number}` could be; `$$` is a dollar")
            }
            MistakeKind::NoCapture { number, count: 1 } => write!(f, "`${number}` does not exist: there is only `$1`"),
            MistakeKind::NoCapture { number, count } => {
                write!(f, "`${number}` does not exist: there are `$1` to `${count}`")
            }
            MistakeKind::OnlyInAnswers(name) => write!(f, "`${name}` is not known before the request is answered"),
        }
    }
}

/// When a variable has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// As soon as there is a request.
    Always,
    /// When there is an answer.
    InAnswers,
}

use Known::{Always, InAnswers};

/// Variables with one name each.
pub(super) const PLAIN: &[(&str, Variable, Known)] = &[
    ("host", Variable::Host, Always),
    ("hostname", Variable::Hostname, Always),
    ("path", Variable::Path, Always),
    ("uri", Variable::Path, Always),
    ("document_uri", Variable::Path, Always),
    ("query", Variable::Query, Always),
    ("args", Variable::Query, Always),
    ("query_string", Variable::Query, Always),
    ("is_args", Variable::IsArgs, Always),
    ("request_uri", Variable::RequestUri, Always),
    ("request_method", Variable::RequestMethod, Always),
    ("scheme", Variable::Scheme, Always),
    ("https", Variable::Https, Always),
    ("remote_addr", Variable::RemoteAddr, Always),
    ("remote_port", Variable::RemotePort, Always),
    ("remote_user", Variable::RemoteUser, Always),
    ("proxy_add_x_forwarded_for", Variable::ForwardedFor, Always),
    ("server_name", Variable::ServerName, Always),
    ("server_port", Variable::ServerPort, Always),
    ("server_addr", Variable::ServerAddr, Always),
    ("server_protocol", Variable::ServerProtocol, Always),
    ("request_id", Variable::RequestId, Always),
    ("time_iso8601", Variable::TimeIso8601, Always),
    ("msec", Variable::Msec, Always),
    ("ssl_protocol", Variable::SslProtocol, Always),
    ("ssl_cipher", Variable::SslCipher, Always),
    ("ssl_server_name", Variable::SslServerName, Always),
    ("ssl_client_s_dn", Variable::SslClientSubject, Always),
    ("ssl_client_i_dn", Variable::SslClientIssuer, Always),
    ("ssl_client_serial", Variable::SslClientSerial, Always),
    ("ssl_client_verify", Variable::SslClientVerify, Always),
    ("ssl_client_fingerprint", Variable::SslClientFingerprint, Always),
    ("status", Variable::Status, InAnswers),
    ("upstream_addr", Variable::UpstreamAddr, InAnswers),
    ("upstream_status", Variable::UpstreamStatus, InAnswers),
    ("upstream_response_time", Variable::UpstreamResponseTime, InAnswers),
    ("request_time", Variable::RequestTime, InAnswers),
];

/// Makes a variable of the name behind the prefix.
type Make = fn(&str) -> Variable;

/// Variables that name something of the message.
pub(super) const PREFIXED: &[(&str, Make, Known)] = &[
    ("http_", |name| Variable::Field(field_name(name)), Always),
    ("arg_", |name| Variable::Argument(name.into()), Always),
    ("cookie_", |name| Variable::Cookie(name.into()), Always),
    ("sent_http_", |name| Variable::SentField(field_name(name)), InAnswers),
];

/// Field names have dashes, variables cannot.
fn field_name(name: &str) -> Box<str> {
    name.to_ascii_lowercase().replace('_', "-").into()
}

pub(super) fn parse(text: &str, scope: Scope<'_>) -> Result<Vec<Part>, Vec<Mistake>> {
    let (mut parts, mut mistakes) = (Vec::new(), Vec::new());
    let mut literal = String::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
        literal.push_str(&text[at..dollar]);
        let behind = &text[dollar + 1..];
        let (name, bytes) = match name_at(behind) {
            Name::Dollar { bytes } => {
                literal.push('$');
                at = dollar + 1 + bytes;
                continue;
            }
            Name::Unclosed => {
                mistakes.push(Mistake { at: dollar..text.len(), kind: MistakeKind::Unclosed });
                break;
            }
            Name::Of { name, bytes } => (name, bytes),
        };
        let end = dollar + 1 + bytes;
        match variable(name, scope) {
            Ok(variable) => {
                push_text(&mut parts, &mut literal);
                parts.push(Part::Variable(variable));
            }
            Err(kind) => mistakes.push(Mistake { at: dollar..end, kind }),
        }
        at = end;
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    literal.push_str(&text[at..]);
    push_text(&mut parts, &mut literal);
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

/// What follows a `$`, and how many bytes of it.
enum Name<'a> {
    /// Nothing: the `$` itself is meant; with `bytes` 1 a second one follows.
    Dollar {
        bytes: usize,
    },
    Of {
        name: &'a str,
        bytes: usize,
    },
    Unclosed,
}

fn name_at(behind: &str) -> Name<'_> {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match behind.as_bytes().first() {
        Some(b'$') => Name::Dollar { bytes: 1 },
        // One digit, as nginx reads it: `$10` is `$1` and a zero.
        Some(b'0'..=b'9') => Name::Of { name: &behind[..1], bytes: 1 },
        Some(b'{') => match behind.find('}') {
            Some(end) => Name::Of { name: &behind[1..end], bytes: end + 1 },
            None => Name::Unclosed,
        },
        Some(first) if word(first) => {
            let bytes = behind.bytes().take_while(|b| word(b)).count();
            Name::Of { name: &behind[..bytes], bytes }
        }
        _ => Name::Dollar { bytes: 0 },
    }
}

fn variable(name: &str, scope: Scope<'_>) -> Result<Variable, MistakeKind> {
    let count = scope.captures.len();
    if let [digit @ b'0'..=b'9'] = *name.as_bytes() {
        let number = digit - b'0';
        let exists = (1..=count).contains(&usize::from(number));
        return if exists { Ok(Variable::Capture(number)) } else { Err(MistakeKind::NoCapture { number, count }) };
    }
    // A capture hides a variable of the same name: it stands nearer.
    if let Some(index) = scope.captures.iter().position(|capture| capture.as_deref() == Some(name)) {
        return Ok(Variable::Capture(index as u8 + 1));
    }
    let plain = PLAIN.iter().find(|(known, ..)| *known == name).map(|(_, variable, known)| (variable.clone(), *known));
    let prefixed = || {
        PREFIXED.iter().find_map(|(prefix, make, known)| {
            let rest = name.strip_prefix(prefix)?;
            (!rest.is_empty() && rest.bytes().all(is_token_byte)).then(|| (make(rest), *known))
        })
    };
    let defined = || {
        let own = scope.own.iter().chain(scope.set).find(|own| own.name == name)?;
        Some((Variable::Own(own.own), if own.in_answers { InAnswers } else { Always }))
    };
    match plain.or_else(prefixed).or_else(defined) {
        Some((_, InAnswers)) if !scope.answer => Err(MistakeKind::OnlyInAnswers(name.into())),
        Some((variable, _)) => Ok(variable),
        None => Err(MistakeKind::Unknown(name.into())),
    }
}

/// Whether every request has a variable of this name, so that the config cannot define another one.
pub(super) fn is_built_in(name: &str) -> bool {
    variable(name, Scope { answer: true, ..Scope::default() }).is_ok()
}

/// Whether it is known only once the request is answered.
pub(super) fn is_of_answer(variable: &Variable) -> bool {
    let is_it = |(_, known, when): &&(&str, Variable, Known)| known == variable && *when == InAnswers;
    matches!(variable, Variable::SentField(_)) || PLAIN.iter().any(|row| is_it(&row))
}

/// RFC 9110 section 5.6.2: what field and cookie names are made of.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
