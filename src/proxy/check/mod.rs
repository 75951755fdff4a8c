//! What a health check says to a server and what it makes of the answer. Pure: bytes come in, bytes to send and a
//! verdict go out; [`crate::control::checks`] owns the socket, the clock and TLS.
//!
//! | part | speaks |
//! |---|---|
//! | `text` | nothing, or one text each way; `datagram`: the same over UDP |
//! | `http` | one request (RFC 9112) |
//! | `gateway` | the same to servers of FastCGI, uwsgi and SCGI |
//! | `mysql` | greeting, login, ping |
//!
//! All of it is bounded: a head by 16 KiB, a body and a text by the config's limit, a packet of MySQL by 64 KiB.

mod datagram;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub(crate) mod gateway;
mod http;
mod mysql;
mod text;

use std::borrow::Cow;

pub(crate) use self::datagram::answered;
use self::http::Http;
use self::mysql::Mysql;
use self::text::Text;
use crate::config::model::Probe;

/// How a check of a server ended. The short names are HAProxy's, which dashboards know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckStatus {
    /// Not checked yet (or never: the upstream has no check).
    Unchecked = 0,
    /// Connecting was enough and worked.
    Connected = 1,
    /// No connection in time.
    ConnectTimeout = 2,
    /// Connection refused or failed.
    ConnectFailed = 3,
    /// A healthy answer.
    Healthy = 4,
    /// No answer in time.
    AnswerTimeout = 5,
    /// Something that is no answer, the wrong text, or none before the server closed.
    Invalid = 6,
    /// An answer with an unhealthy status, or an error of the protocol.
    BadStatus = 7,
    /// The TLS handshake was enough and worked.
    TlsDone = 8,
    /// No end of the TLS handshake in time.
    TlsTimeout = 9,
    /// The TLS handshake failed.
    TlsFailed = 10,
    /// This machine could not check: out of descriptors or memory. Says nothing of the server.
    OwnFailure = 11,
}

impl CheckStatus {
    /// All, in the order of their numbers.
    pub const ALL: [CheckStatus; 12] = [
        CheckStatus::Unchecked,
        CheckStatus::Connected,
        CheckStatus::ConnectTimeout,
        CheckStatus::ConnectFailed,
        CheckStatus::Healthy,
        CheckStatus::AnswerTimeout,
        CheckStatus::Invalid,
        CheckStatus::BadStatus,
        CheckStatus::TlsDone,
        CheckStatus::TlsTimeout,
        CheckStatus::TlsFailed,
        CheckStatus::OwnFailure,
    ];

    /// HAProxy's code for it (management guide, field `check_status`).
    pub fn code(self) -> &'static str {
        match self {
            CheckStatus::Unchecked => "INI",
            CheckStatus::Connected => "L4OK",
            CheckStatus::ConnectTimeout => "L4TOUT",
            CheckStatus::ConnectFailed => "L4CON",
            CheckStatus::Healthy => "L7OK",
            CheckStatus::AnswerTimeout => "L7TOUT",
            CheckStatus::Invalid => "L7RSP",
            CheckStatus::BadStatus => "L7STS",
            CheckStatus::TlsDone => "L6OK",
            CheckStatus::TlsTimeout => "L6TOUT",
            CheckStatus::TlsFailed => "L6RSP",
            CheckStatus::OwnFailure => "SOCKERR",
        }
    }

    /// Whether the server passed.
    pub fn is_ok(self) -> bool {
        matches!(self, CheckStatus::Connected | CheckStatus::Healthy | CheckStatus::TlsDone)
    }

    /// Whether the check says anything of the server.
    pub fn counts(self) -> bool {
        !matches!(self, CheckStatus::Unchecked | CheckStatus::OwnFailure)
    }
}

/// How a check ended, for counters and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it was.
    pub status: CheckStatus,
    /// Status of an HTTP answer, number of a MySQL error.
    pub code: Option<u16>,
    /// The same in words, one line, bounded: `status 503 (expected 2xx, 3xx)`.
    pub text: String,
}

impl Verdict {
    /// One without a code.
    pub fn new(status: CheckStatus, text: impl Into<String>) -> Verdict {
        Verdict { status, code: None, text: text.into() }
    }

    fn with_code(status: CheckStatus, code: u16, text: impl Into<String>) -> Verdict {
        Verdict { status, code: Some(code), text: text.into() }
    }

    fn invalid(text: impl Into<String>) -> Verdict {
        Verdict::new(CheckStatus::Invalid, text)
    }
}

/// What to do next in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read, and come back with what came, or with the end.
    Read,
    /// Send this, then ask again.
    Send(Vec<u8>),
    /// It is over.
    Done(Verdict),
}

/// One check on an open connection.
#[derive(Debug)]
pub struct Conversation<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    Text(Text<'a>),
    Http(Http<'a>),
    Mysql(Mysql<'a>),
}

impl<'a> Conversation<'a> {
    /// `authority` is what a request names as Host when the config names nothing.
    pub fn new(probe: &'a Probe, authority: &'a str) -> Conversation<'a> {
        Conversation(match probe {
            // A datagram is no conversation: see `answered`.
            Probe::Text(probe) | Probe::Datagram(probe) => Kind::Text(Text::new(probe)),
            Probe::Http(probe) => Kind::Http(Http::new(probe, authority)),
            Probe::Mysql(probe) => Kind::Mysql(Mysql::new(probe)),
        })
    }

    /// Nothing is sent and nothing awaited: the connection itself was the check.
    pub fn is_silent(&self) -> bool {
        matches!(&self.0, Kind::Text(text) if text.is_silent())
    }

    /// What comes first.
    pub fn begin(&mut self) -> Step {
        match &mut self.0 {
            Kind::Text(text) => text.begin(),
            Kind::Http(http) => http.begin(),
            Kind::Mysql(_) => Step::Read,
        }
    }

    /// What follows from `input`, everything that has come so far.
    pub fn on_bytes(&mut self, input: &[u8]) -> Step {
        match &mut self.0 {
            Kind::Text(text) => text.on_bytes(input),
            Kind::Http(http) => http.on_bytes(input, false),
            Kind::Mysql(mysql) => mysql.on_bytes(input),
        }
    }

    /// What follows from the end of the connection behind `input`.
    pub fn on_end(&mut self, input: &[u8]) -> Verdict {
        match &mut self.0 {
            Kind::Text(text) => text.on_end(input),
            Kind::Http(http) => match http.on_bytes(input, true) {
                Step::Done(verdict) => verdict,
                _ => closed(input),
            },
            Kind::Mysql(mysql) => mysql.on_end(input),
        }
    }
}

fn closed(input: &[u8]) -> Verdict {
    Verdict::invalid(match input.is_empty() {
        true => "closed without an answer",
        false => "closed within its answer",
    })
}

/// Bytes of a server for a log line: short, and without anything that could break the line.
fn excerpt(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 80;
    let more: Cow<'static, str> = if bytes.len() > BYTES_MAX { "…".into() } else { "".into() };
    format!("\"{}{more}\"", bytes[..bytes.len().min(BYTES_MAX)].escape_ascii())
}
