//! What `health` and `outliers` of an upstream compile to: how servers are checked, and what makes one an outlier.
//!
//! Data only, and the two small questions that a check asks of it: does a status fit, does a text fit.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::model::{Protocol, Secret};
use crate::tls::Certificate;
use crate::util::pattern::Pattern;

/// Active health check of an upstream's servers.
#[derive(Clone, Debug)]
pub struct Health {
    /// What is asked of a server.
    pub probe: Probe,
    /// TLS towards the server; `None`: in clear.
    pub tls: Option<CheckTls>,
    /// A header of the PROXY protocol in front, which says that the check speaks for itself.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Version of HTTP that a request is made in.
    pub protocol: Protocol,
    /// Port of TCP servers to check instead of their own.
    pub port: Option<u16>,
    /// Time for one check, connecting included.
    pub timeout: Duration,
    /// When checks are due.
    pub pace: Pace,
    /// Successes in a row until a server is up again.
    pub rise: u32,
    /// Failures in a row until a server is down.
    pub fall: u32,
}

impl Health {
    /// What log lines call the check: `http`, `https`, `tcp`, `tls`, `mysql` or `udp`.
    pub fn kind(&self) -> &'static str {
        match (&self.probe, &self.tls) {
            (Probe::Http(_), None) => "http",
            (Probe::Http(_), Some(_)) => "https",
            (Probe::Text(_), None) => "tcp",
            (Probe::Text(_), Some(_)) => "tls",
            (Probe::Mysql(_), _) => "mysql",
            (Probe::Datagram(_), _) => "udp",
        }
    }
}

/// When the checks of a server are due, from the begin of one to the begin of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// While nothing changes.
    pub interval: Duration,
    /// While a server is on its way up or down.
    pub fast_interval: Duration,
    /// While a server is down and stays so.
    pub down_interval: Duration,
    /// How much a time may be longer or shorter, percent.
    pub jitter_percent: u32,
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A connection (with TLS, a handshake), and perhaps a text to be sent and one to be expected.
    Text(TextProbe),
    /// A request.
    Http(Box<HttpProbe>),
    /// A handshake, and perhaps a login.
    Mysql(MysqlProbe),
    /// A datagram, and its answer; without a text to be expected any will do.
    Datagram(TextProbe),
}

/// Texts on a plain connection.
#[derive(Clone, Debug, Default)]
pub struct TextProbe {
    /// Sent first; empty: nothing.
    pub send: Vec<u8>,
    /// What has to come; `None`: connecting, or sending, is enough.
    pub expect: Option<TextMatch>,
    /// Bytes that are searched for it at most.
    pub bytes_max: usize,
}

/// A request and what its answer must be.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    /// GET, HEAD or OPTIONS.
    pub method: &'static str,
    /// Path, with a query if there is one.
    pub path: String,
    /// Host field; the server's address when `None`.
    pub host: Option<String>,
    /// Further fields, as written.
    pub fields: Vec<(String, String)>,
    /// Statuses of a healthy answer.
    pub statuses: StatusSet,
    /// A field that it must have.
    pub expect_header: Option<FieldMatch>,
    /// A text that its body must hold.
    pub expect_body: Option<TextMatch>,
    /// Bytes of the body that are searched for it at most.
    pub body_bytes_max: usize,
}

/// How far a check of MySQL goes.
#[derive(Clone, Debug)]
pub struct MysqlProbe {
    /// Who logs on; `None`: the server's greeting is enough.
    pub login: Option<(String, Secret)>,
}

/// TLS of a check.
#[derive(Clone, Debug)]
pub struct CheckTls {
    /// Name to ask for (SNI) and to verify; `None`: no name is sent, and the server's address is verified.
    pub server_name: Option<String>,
    /// File of the authorities, as written; `None`: the certificate is not verified.
    pub ca: Option<PathBuf>,
    /// What was in it when the config was read: the process may not be able to read it later.
    pub roots: Option<Arc<RootCertStore>>,
    /// Shown to servers that ask for a certificate.
    pub identity: Option<Certificate>,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A text to be found: somewhere in what comes, or by an expression.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// These bytes.
    Contains(Vec<u8>),
    /// Written with `~` in front.
    Regex(Pattern),
}

impl TextMatch {
    /// Reads `text`, or `~expression`. Errors: what is wrong with the expression, one line.
    pub fn parse(text: &str) -> Result<TextMatch, String> {
        match text.strip_prefix('~') {
            Some(expression) => Pattern::new(expression).map(TextMatch::Regex),
            None => Ok(TextMatch::Contains(text.strip_prefix('\\').unwrap_or(text).into())),
        }
    }

    /// Whether it is somewhere in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            TextMatch::Contains(text) => memchr::memmem::find(bytes, text).is_some(),
            TextMatch::Regex(pattern) => pattern.is_match(bytes),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextMatch::Contains(text) => write!(f, "\"{}\"", text.escape_ascii()),
            TextMatch::Regex(pattern) => write!(f, "~{}", pattern.as_str()),
        }
    }
}

/// A field of an answer, and what its value must be.
#[derive(Clone, Debug)]
pub struct FieldMatch {
    /// Name; case does not count.
    pub name: String,
    /// `None`: any value will do.
    pub value: Option<ValueMatch>,
}

/// What the value of a field must be.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Exactly this.
    Is(String),
    /// Written with `~` in front.
    Regex(Pattern),
}

impl FieldMatch {
    /// Reads `Name`, `Name: value` or `Name: ~expression`. Errors: what is wrong with it, one line.
    pub fn parse(text: &str) -> Result<FieldMatch, String> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim())),
            None => (text, None),
        };
        if !is_field_name(name) {
            return Err(format!("`{name}` is no field name: write \"Name\", \"Name: value\" or \"Name: ~expression\""));
        }
        let value = match value {
            None => None,
            Some(value) => Some(match value.strip_prefix('~') {
                Some(expression) => ValueMatch::Regex(Pattern::new(expression)?),
                None => ValueMatch::Is(value.into()),
            }),
        };
        Ok(FieldMatch { name: name.into(), value })
    }

    /// Whether the field `name: value` is what is wanted.
    pub fn fits(&self, name: &[u8], value: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
            && match &self.value {
                None => true,
                Some(ValueMatch::Is(wanted)) => value == wanted.as_bytes(),
                Some(ValueMatch::Regex(pattern)) => pattern.is_match(value),
            }
    }
}

impl fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.value {
            None => Ok(()),
            Some(ValueMatch::Is(value)) => write!(f, ": {value}"),
            Some(ValueMatch::Regex(pattern)) => write!(f, ": ~{}", pattern.as_str()),
        }
    }
}

/// RFC 9110 section 5.1: a token.
pub(super) fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Statuses of healthy answers, as written: `2xx`, `301`, `200-299`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet {
    ranges: Vec<RangeInclusive<u16>>,
    text: String,
}

impl StatusSet {
    /// Reads one entry. Errors: how to write it, one line.
    pub fn parse_entry(text: &str) -> Result<RangeInclusive<u16>, String> {
        let advice = || format!("`{text}` is no status: write \"200\", \"2xx\" or \"200-299\"");
        let number = |text: &str| match text.parse::<u16>() {
            Ok(number) if text.len() == 3 && (100..=999).contains(&number) => Ok(number),
            _ => Err(advice()),
        };
        if let Some(class) = text.strip_suffix("xx") {
            let first = number(&format!("{class}00"))?;
            return Ok(first..=first + 99);
        }
        match text.split_once('-') {
            Some((first, last)) => {
                let range = number(first.trim())?..=number(last.trim())?;
                if range.is_empty() { Err(advice()) } else { Ok(range) }
            }
            None => number(text).map(|status| status..=status),
        }
    }

    /// A set of entries, each with its text.
    pub fn new(entries: Vec<(RangeInclusive<u16>, String)>) -> StatusSet {
        let text = entries.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ");
        StatusSet { ranges: entries.into_iter().map(|(range, _)| range).collect(), text }
    }

    /// Whether an answer with this status is healthy.
    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What makes a server an outlier, as its live traffic shows, and for how long it is ejected then.
#[derive(Clone, Debug)]
pub struct OutlierRules {
    /// What counts as a failure.
    pub failures: FailureKinds,
    /// Failures in a row that eject; 0: they do not.
    pub consecutive: u32,
    /// Time over which shares and latencies are taken.
    pub window: Duration,
    /// Share of failures in the window that ejects, percent; 0: it does not.
    pub error_percent: u32,
    /// A window with fewer requests says nothing of a server.
    pub requests_min: u64,
    /// So many times the median latency of the others ejects; 0: it does not.
    pub latency_factor: u32,
    /// Which percentile of a server's latencies is compared.
    pub latency_percentile: u32,
    /// No server below this is slow.
    pub latency_min: Duration,
    /// First ejection; the second one lasts twice as long, the third one three times …
    pub ejection_time: Duration,
    /// … up to this.
    pub ejection_max: Duration,
    /// Share of the servers that may be ejected at the same time, percent; one may always be, the last one never.
    pub max_ejected_percent: u32,
}

/// What counts as a failure of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureKinds {
    /// Connecting failed or took too long.
    pub connect: bool,
    /// The connection broke before the answer was whole, or the answer was malformed.
    pub broken: bool,
    /// No answer in time.
    pub timeout: bool,
    /// An answer with any status from 500 to 599.
    pub status_5xx: bool,
    /// An answer with 502, 503 or 504.
    pub gateway: bool,
}

impl FailureKinds {
    /// Names in the config.
    pub const NAMES: &[&str] = &["connect", "broken", "timeout", "5xx", "gateway"];

    /// These kinds.
    pub fn of(names: &[&str]) -> FailureKinds {
        let has = |name| names.contains(&name);
        FailureKinds {
            connect: has("connect"),
            broken: has("broken"),
            timeout: has("timeout"),
            status_5xx: has("5xx"),
            gateway: has("gateway"),
        }
    }

    /// Whether an answer with this status is a failure.
    pub fn has_status(&self, status: u16) -> bool {
        self.status_5xx && (500..600).contains(&status) || self.gateway && (502..=504).contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_classes_and_ranges() {
        let set = |texts: &[&str]| {
            StatusSet::new(texts.iter().map(|text| (StatusSet::parse_entry(text).unwrap(), text.to_string())).collect())
        };
        let healthy = set(&["2xx", "301", "400-404"]);
        let found: Vec<u16> = (100..1000).filter(|&status| healthy.contains(status)).collect();
        let expected: Vec<u16> = (200..300).chain([301]).chain(400..=404).collect();
        assert_eq!(found, expected);
        assert_eq!(healthy.to_string(), "2xx, 301, 400-404");
        for bad in ["", "20", "2000", "xx", "0xx", "2x", "299-200", "200-", "-", "a", "+20", "1xxx"] {
            assert!(StatusSet::parse_entry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_and_fields_match_by_bytes_or_expression() {
        let text = |text: &str| TextMatch::parse(text).unwrap();
        assert!(text("ok").is_in(b"is ok") && !text("ok").is_in(b"OK"));
        assert!(text("~(?i)^ok$").is_in(b"OK") && !text("~^ok").is_in(b"not ok"));
        assert!(text("\\~ok").is_in(b"a ~ok"));
        assert!(TextMatch::parse("~(").is_err());
        let field = |text: &str| FieldMatch::parse(text).unwrap();
        assert!(field("X-Ready").fits(b"x-ready", b""));
        assert!(field("X-Ready: yes").fits(b"x-ready", b"yes") && !field("X-Ready: yes").fits(b"x-ready", b"yes!"));
        assert!(field("X-Ready: ~^y").fits(b"X-READY", b"yes") && !field("X-Ready: ~^y").fits(b"X-Other", b"yes"));
        for bad in ["", ": x", "a b: x", "X: ~("] {
            assert!(FieldMatch::parse(bad).is_err(), "{bad}");
        }
    }
}
