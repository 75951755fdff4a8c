//! Values as people write them (`30s`, `4KiB`, `0,2-5`, `unix:/run/a.sock`) and what they mean.
//!
//! Pure text in, typed value or advice out. The same parser reads flags, the texts of the config file and the
//! defaults of [`super::keys`], so the three cannot differ.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::LogTarget;
use crate::config::suggest;
use crate::guard::networks;
use crate::guard::rate::Rate;
use crate::runtime::net::{Address, Name};

/// Highest core number a list may name; Linux itself stops at 8192 (`CONFIG_NR_CPUS`).
const CORE_MAX: usize = 8191;

/// Most cores that a list may name, one named several times included.
const WORKERS_MAX: usize = 8192;

/// What a value may be, with its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number with a unit of time.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// The same, or `off`.
    DurationOrOff {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A number of bytes, with or without a unit.
    Size {
        /// Fewest bytes.
        min: u64,
        /// Most bytes.
        max: u64,
    },
    /// A plain number.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Free text, not empty.
    Text,
    /// Text that fits an HTTP field value: visible ASCII and spaces; may be empty.
    Field,
    /// A URL path: begins with `/`.
    UrlPath,
    /// The same, or the `@name` of a route.
    UrlPathOrName,
    /// A list of core numbers, or `auto`.
    Cores,
    /// `IP:PORT`, `[IPv6]:PORT` or `unix:/path`.
    Address,
    /// The same, or `NAME:PORT`.
    Server,
    /// The name of SRV records: `_http._tcp.example.com`.
    Service,
    /// `IP:PORT` or `[IPv6]:PORT`.
    SocketAddress,
    /// The same, or `off`.
    SocketAddressOrOff,
    /// A network in CIDR form or an IP address; kept as text.
    Network,
    /// `allow` or `deny` and whom; kept as text.
    AddressRule,
    /// Requests per time; kept as text.
    Rate,
    /// A file or folder.
    Path,
    /// `stdout`, a file, or `off`.
    Output,
    /// One or several of the kind.
    List(&'static Kind),
    /// A table, or a shorter form; the text says which forms there are.
    Form(&'static str),
}

impl Kind {
    /// What the value is called in a sentence, with an example: `a duration, for example "30s"`.
    pub fn describe(&self) -> String {
        match self {
            Kind::Duration { .. } => "a duration, for example \"30s\"".into(),
            Kind::DurationOrOff { .. } => "a duration, for example \"30s\", or \"off\"".into(),
            Kind::Size { .. } => "a size, for example \"64KiB\"".into(),
            Kind::Integer { min, max } => format!("a number from {min} to {max}"),
            Kind::Switch => "true or false".into(),
            Kind::Word(words) => one_of(words),
            Kind::Text => "a text".into(),
            Kind::Field => "a text of visible ASCII characters".into(),
            Kind::UrlPath => "a path that begins with `/`, for example \"/healthz\"".into(),
            Kind::UrlPathOrName => {
                "a path that begins with `/`, for example \"/index.html\", or the `@name` of a route".into()
            }
            Kind::Cores => "a list of cores, for example \"0,2-5\", or \"auto\"".into(),
            Kind::Address => "an address, for example \"127.0.0.1:9000\" or \"unix:/run/app.sock\"".into(),
            Kind::Server => {
                "an address, for example \"127.0.0.1:9000\", \"app.internal:9000\" or \"unix:/run/app.sock\"".into()
            }
            Kind::Service => "a name of SRV records, for example \"_http._tcp.app.internal\"".into(),
            Kind::SocketAddress => "an address, for example \"0.0.0.0:8080\"".into(),
            Kind::SocketAddressOrOff => "an address, for example \"127.0.0.1:9900\", or \"off\"".into(),
            Kind::Network => "a network, for example \"10.0.0.0/8\", or an IP address".into(),
            Kind::AddressRule => "a rule, for example \"allow 10.0.0.0/8\" or \"deny all\"".into(),
            Kind::Rate => "a rate, for example \"10/s\" or \"600/m\"".into(),
            Kind::Path => "a path, for example \"/var/www/html\"".into(),
            Kind::Output => "\"stdout\", a file, or \"off\"".into(),
            Kind::List(inner) => format!("a list; each entry is {}", inner.describe()),
            Kind::Form(forms) => (*forms).into(),
        }
    }

    /// One word for the type, for tables and flag placeholders: `duration`, `size`, `number` …
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Duration { .. } | Kind::DurationOrOff { .. } => "duration",
            Kind::Size { .. } => "size",
            Kind::Integer { .. } => "number",
            Kind::Switch => "switch",
            Kind::Word(_) => "word",
            Kind::Text | Kind::Field => "text",
            Kind::UrlPath | Kind::UrlPathOrName => "URL path",
            Kind::Cores => "cores",
            Kind::Address | Kind::Server => "address",
            Kind::Service => "name",
            Kind::SocketAddress | Kind::SocketAddressOrOff => "IP:PORT",
            Kind::Network => "network",
            Kind::AddressRule => "rule",
            Kind::Rate => "rate",
            Kind::Path => "path",
            Kind::Output => "output",
            Kind::List(_) => "list",
            Kind::Form(_) => "table",
        }
    }

    /// The range in words, where there is one worth telling: `256 to 32768`.
    pub fn range(&self) -> Option<String> {
        match self {
            Kind::Duration { min, max } | Kind::DurationOrOff { min, max } => {
                Some(format!("{} to {}", DurationText(*min), DurationText(*max)))
            }
            Kind::Size { min, max } => Some(format!("{} to {}", SizeText(*min), SizeText(*max))),
            Kind::Integer { min, max } => Some(format!("{min} to {max}")),
            Kind::Word(words) => Some(words.join(", ")),
            Kind::List(inner) => inner.range(),
            _ => None,
        }
    }

    /// Reads `text`. The error says what is wrong and what to write instead, in one line.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match *self {
            Kind::DurationOrOff { .. } if text == "off" => Ok(Value::Off),
            Kind::Duration { min, max } | Kind::DurationOrOff { min, max } => {
                let value = parse_duration(text)?;
                in_range(value, min, max, |d| DurationText(d).to_string())?;
                Ok(Value::Duration(value))
            }
            Kind::Size { min, max } => {
                let value = parse_size(text)?;
                in_range(value, min, max, |n| SizeText(n).to_string())?;
                Ok(Value::Number(value))
            }
            Kind::Integer { min, max } => self.integer(parse_integer(text)?, min, max),
            Kind::Switch => match text {
                "true" | "on" => Ok(Value::Switch(true)),
                "false" | "off" => Ok(Value::Switch(false)),
                _ => Err(format!("`{text}` is neither `true` nor `false`")),
            },
            Kind::Word(words) => parse_word(text, words),
            Kind::Text if text.is_empty() => Err("it is empty: write a text".into()),
            Kind::Text => Ok(Value::Text(text.into())),
            Kind::Field => parse_field(text),
            Kind::UrlPathOrName if text.len() > 1 && text.starts_with('@') => Ok(Value::Text(text.into())),
            Kind::UrlPath | Kind::UrlPathOrName => parse_url_path(text),
            Kind::Cores => parse_cores(text).map(Value::Cores),
            Kind::Address => parse_address(text).map(Value::Address),
            Kind::Server => parse_server(text).map(Value::Address),
            Kind::Service => parse_service(text).map(Value::Address),
            Kind::SocketAddress => parse_socket_address(text).map(Value::SocketAddress),
            Kind::SocketAddressOrOff if text == "off" => Ok(Value::Off),
            Kind::SocketAddressOrOff => parse_socket_address(text).map(Value::SocketAddress),
            Kind::Network => match networks::parse_network(text) {
                Ok(_) => Ok(Value::Text(text.into())),
                Err(error) => Err(error.to_string()),
            },
            Kind::AddressRule => match networks::AddressRule::parse(text) {
                Ok(_) => Ok(Value::Text(text.into())),
                Err(error) => Err(error.to_string()),
            },
            Kind::Rate => Rate::parse(text).map(|_| Value::Text(text.into())),
            Kind::Path => parse_path(text).map(|path| Value::Text(path.into())),
            Kind::Output => parse_output(text),
            Kind::List(_) if text.is_empty() => Ok(Value::List(Vec::new())),
            Kind::List(inner) => {
                text.split(',').map(|part| inner.parse(part.trim())).collect::<Result<_, _>>().map(Value::List)
            }
            Kind::Form(forms) => Err(format!("it takes {forms}")),
        }
    }

    /// Reads a number written without quotes, as TOML has them.
    pub(super) fn parse_number(&self, number: i64) -> Result<Value, String> {
        match *self {
            Kind::Duration { .. } | Kind::DurationOrOff { .. } => Err(bare_number(&number.to_string())),
            Kind::Size { .. } | Kind::Integer { .. } if number < 0 => Err(format!("`{number}` is below zero")),
            Kind::Size { .. } => self.parse(&number.to_string()),
            Kind::Integer { min, max } => self.integer(number.unsigned_abs(), min, max),
            Kind::Cores if number >= 0 => self.parse(&number.to_string()),
            _ => Err(format!("it is a number, but the key takes {}", self.describe())),
        }
    }

    fn integer(&self, value: u64, min: u64, max: u64) -> Result<Value, String> {
        in_range(value, min, max, |n| n.to_string())?;
        Ok(Value::Number(value))
    }
}

/// A value of the kind its key describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A length of time.
    Duration(Duration),
    /// A count or a number of bytes.
    Number(u64),
    /// True or false.
    Switch(bool),
    /// One of the words of [`Kind::Word`].
    Word(&'static str),
    /// Text, also paths.
    Text(String),
    /// Core numbers; empty means `auto`.
    Cores(Vec<usize>),
    /// TCP or Unix socket.
    Address(Address),
    /// TCP only.
    SocketAddress(SocketAddr),
    /// Where a log goes.
    Output(LogTarget),
    /// Switched off.
    Off,
    /// Several.
    List(Vec<Value>),
}

/// The Rust type a section reads a value as. A mismatch with the key's kind is our own mistake and panics.
pub(super) trait FromValue: Sized {
    fn from_value(value: Value) -> Self;
}

fn mismatch<T>(value: &Value) -> T {
    panic!("the key's description does not fit its use: {value:?} as {}", std::any::type_name::<T>())
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $result:expr;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Self {
                match value {
                    $pattern => $result,
                    other => mismatch(&other),
                }
            }
        }
    )*};
}

// Numbers saturate: the ranges of the descriptions already keep them inside the type.
from_value! {
    Duration: Value::Duration(value) => value;
    u64: Value::Number(value) => value;
    u32: Value::Number(value) => value.try_into().unwrap_or(u32::MAX);
    u16: Value::Number(value) => value.try_into().unwrap_or(u16::MAX);
    usize: Value::Number(value) => value.try_into().unwrap_or(usize::MAX);
    bool: Value::Switch(value) => value;
    String: Value::Text(value) => value;
    &'static str: Value::Word(value) => value;
    PathBuf: Value::Text(value) => value.into();
    Vec<usize>: Value::Cores(value) => value;
    Address: Value::Address(value) => value;
    SocketAddr: Value::SocketAddress(value) => value;
}

impl FromValue for Option<SocketAddr> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::SocketAddress(address) => Some(address),
            Value::Off => None,
            other => mismatch(&other),
        }
    }
}

impl FromValue for Option<Duration> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Duration(duration) => Some(duration),
            Value::Off => None,
            other => mismatch(&other),
        }
    }
}

impl FromValue for Option<LogTarget> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Output(target) => Some(target),
            Value::Off => None,
            other => mismatch(&other),
        }
    }
}

/// `a`, `b` or `c`, each in quotes.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn in_range<T: PartialOrd + Copy>(value: T, min: T, max: T, show: impl Fn(T) -> String) -> Result<(), String> {
    if value < min {
        return Err(format!("{} is too small: the least is {}", show(value), show(min)));
    }
    if value > max {
        return Err(format!("{} is too large: the most is {}", show(value), show(max)));
    }
    Ok(())
}

fn parse_integer(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| match text.parse::<i128>() {
        Ok(number) if number < 0 => format!("`{text}` is below zero"),
        Ok(_) => format!("`{text}` is too large"),
        Err(_) => format!("`{text}` is not a whole number"),
    })
}

/// Splits `30s` into its digits and its unit. `None` when it does not begin with a digit.
fn split_unit(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| (&text[..digits], text[digits..].trim_start()))
}

fn bare_number(number: &str) -> String {
    format!("`{number}` has no unit: write \"{number}s\" for seconds or \"{number}ms\" for milliseconds")
}

const NANOS_OF_UNIT: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads `250ms`, `30s`, `5m`, `1h`. The unit is required.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let example = "write a number and one of us, ms, s, m, h, d, for example \"30s\"";
    let Some((digits, unit)) = split_unit(text) else {
        return Err(format!("`{text}` is not a duration: {example}"));
    };
    if unit.is_empty() {
        return Err(bare_number(digits));
    }
    let Some((_, nanos)) = NANOS_OF_UNIT.iter().find(|(name, _)| *name == unit) else {
        return Err(duration_unit_advice(text, digits, unit)
            .unwrap_or_else(|| format!("`{text}` is not a duration: {example}")));
    };
    let total = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*nanos));
    total.map(Duration::from_nanos).ok_or_else(|| format!("`{text}` is too large"))
}

fn duration_unit_advice(text: &str, digits: &str, unit: &str) -> Option<String> {
    let meant = match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" | "h" => "h",
        "day" | "days" | "d" => "d",
        "msec" | "millis" | "milliseconds" | "ms" => "ms",
        "usec" | "µs" | "micros" | "us" => "us",
        _ if unit.starts_with('.') => {
            return Some(format!(
                "`{text}` has a fraction: write it as a whole number of a smaller unit, for example \"1500ms\""
            ));
        }
        _ => return None,
    };
    Some(format!("`{unit}` is not a unit of time: did you mean \"{digits}{meant}\"?"))
}

const BYTES_OF_UNIT: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `4KiB`, `10MB` or a bare number of bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let Some((digits, unit)) = split_unit(text) else {
        return Err(format!(
            "`{text}` is not a size: write a number of bytes, or a unit with it, for example \"64KiB\""
        ));
    };
    let factor = match BYTES_OF_UNIT.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err(size_unit_advice(text, digits, unit)),
    };
    let total = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    total.ok_or_else(|| format!("`{text}` is too large"))
}

fn size_unit_advice(text: &str, digits: &str, unit: &str) -> String {
    let letter = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "K",
        "m" | "mb" | "mib" => "M",
        "g" | "gb" | "gib" => "G",
        "t" | "tb" | "tib" => "T",
        _ => return format!("`{text}` is not a size: the units are B, KiB, MiB, GiB (1024) and kB, MB, GB (1000)"),
    };
    let thousand = if letter == "K" { "k" } else { letter };
    format!(
        "`{unit}` is not a unit: write \"{digits}{letter}iB\" (steps of 1024) or \"{digits}{thousand}B\" (steps of 1000)"
    )
}

fn parse_word(text: &str, words: &'static [&'static str]) -> Result<Value, String> {
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(Value::Word(word));
    }
    Err(match suggest::nearest(text, words.iter().copied()) {
        Some(near) => format!("`{text}` is not known: did you mean \"{near}\"?"),
        None => format!("`{text}` is not known: write {}", one_of(words)),
    })
}

/// RFC 9110 section 5.5 without obs-text: nothing that could end the line or hide in a log.
pub(super) fn parse_field(text: &str) -> Result<Value, String> {
    match text.chars().find(|c| !(' '..='~').contains(c)) {
        Some(c) => Err(format!("{c:?} cannot stand in a header field: write visible ASCII characters")),
        None => Ok(Value::Text(text.into())),
    }
}

fn parse_url_path(text: &str) -> Result<Value, String> {
    if !text.starts_with('/') {
        return Err(format!("a path begins with `/`: write \"/{text}\""));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{c:?} cannot stand in a path")),
        None => Ok(Value::Text(text.into())),
    }
}

fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    if text == "auto" {
        return Ok(Vec::new());
    }
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = core_range(part.trim())?;
        for core in first..=last {
            cores.push(core);
            if cores.len() > WORKERS_MAX {
                return Err(format!("these are too many: the most is {WORKERS_MAX}"));
            }
        }
    }
    Ok(cores)
}

fn core_range(part: &str) -> Result<(usize, usize), String> {
    let core = |text: &str| match text.trim().parse::<usize>() {
        Ok(core) if core <= CORE_MAX => Ok(core),
        Ok(core) => Err(format!("core {core} is too large: the most is {CORE_MAX}")),
        Err(_) => Err(format!("`{part}` is not a core: write numbers and ranges, for example \"0,2-5\", or \"auto\"")),
    };
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (core(first)?, core(last)?),
        None => (core(part)?, core(part)?),
    };
    if first > last {
        return Err(format!("the range {part} runs backwards: write \"{last}-{first}\""));
    }
    Ok((first, last))
}

pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("the path after `unix:` is empty".into()),
            // sun_path of unix(7) holds 108 bytes with its closing zero.
            path if path.len() > 107 => Err("the path of a Unix socket has at most 107 bytes".into()),
            path if path.contains('\0') => Err("a path cannot hold a zero byte".into()),
            path => Ok(Address::Unix(path.into())),
        };
    }
    if text.starts_with('/') {
        return Err(format!("a Unix socket is written with `unix:` in front: \"unix:{text}\""));
    }
    parse_socket_address(text).map(Address::Tcp)
}

/// An address, or a name with a port.
pub(super) fn parse_server(text: &str) -> Result<Address, String> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return parse_address(text);
    }
    let named = || {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        Some(Address::Name(Name { host: host_name(host)?, port: Some(port) }))
    };
    let advice = |label: String| match (host_name(text), text.rsplit_once(':')) {
        (Some(_), _) => format!("the port is missing: write \"{text}:80\" with the port you mean"),
        (None, Some((host, port))) if host_name(host).is_some() => {
            format!("`{port}` is not the port of a server: write 1 to 65535")
        }
        (None, Some((host, port)))
            if port.parse::<u16>().is_ok()
                && host.contains(|c: char| c.is_ascii_alphabetic())
                && !host.contains(':') =>
        {
            format!("`{host}` is neither an address nor a name")
        }
        _ => label,
    };
    parse_address(text).or_else(|label| named().ok_or_else(|| advice(label)))
}

pub(super) fn parse_service(text: &str) -> Result<Address, String> {
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!("SRV records say the port themselves: write \"{host}\""));
    }
    match host_name(text) {
        Some(host) => Ok(Address::Name(Name { host, port: None })),
        None => Err(format!("`{text}` is not a name of SRV records: write such as \"_http._tcp.app.internal\"")),
    }
}

/// A name in the DNS as RFC 1123 section 2.1 has it, and with `_` as names of services have; in lower case. The last label has
/// a letter, or it would be a mistaken address.
fn host_name(text: &str) -> Option<Box<str>> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let has_letter = name.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()));
    (name.len() <= 253 && has_letter && name.split('.').all(is_label)).then(|| name.into())
}

fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| address_advice(text))
}

fn address_advice(text: &str) -> String {
    let port_ok = |port: &str| port.parse::<u16>().is_ok();
    if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
        return format!("an address has no scheme: write \"{}\"", rest.trim_end_matches('/'));
    }
    if text.starts_with("unix:") {
        return "a Unix socket cannot be used here: write IP:PORT".into();
    }
    if port_ok(text) {
        return format!(
            "the IP address is missing: write \"0.0.0.0:{text}\" for every interface or \"127.0.0.1:{text}\" for this machine only"
        );
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("the port is missing: write \"[{text}]:80\" with the port you mean");
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return format!("the port is missing: write \"{text}:80\" with the port you mean");
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) if port_ok(port) => {
            format!(
                "the IP address is missing: write \"0.0.0.0:{port}\" for every interface or \"127.0.0.1:{port}\" for this machine only"
            )
        }
        Some(("localhost", port)) if port_ok(port) => format!("names are not resolved: write \"127.0.0.1:{port}\""),
        Some((host, port)) if port_ok(port) && !host.contains(':') && host.chars().any(|c| c.is_ascii_alphabetic()) => {
            format!("names are not resolved: write the IP address of `{host}`, for example \"10.0.0.7:{port}\"")
        }
        Some((host, port)) if host.parse::<std::net::IpAddr>().is_ok() => {
            format!("`{port}` is not a port: write 0 to 65535")
        }
        _ => format!("`{text}` is not an address: write IP:PORT or [IPv6]:PORT, for example \"127.0.0.1:8080\""),
    }
}

fn parse_path(text: &str) -> Result<&str, String> {
    match text {
        "" => Err("the path is empty".into()),
        _ if text.contains('\0') => Err("a path cannot hold a zero byte".into()),
        _ => Ok(text),
    }
}

fn parse_output(text: &str) -> Result<Value, String> {
    match text {
        "stdout" | "-" => Ok(Value::Output(LogTarget::Stdout)),
        "off" => Ok(Value::Off),
        "stderr" => {
            Err("the access log goes to \"stdout\", a file, or \"off\"; stderr carries the server's own messages"
                .into())
        }
        _ => parse_path(text).map(|path| Value::Output(LogTarget::File(path.into()))),
    }
}

/// Writes a duration the way it is read.
pub(super) struct DurationText(pub(super) Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fits = |(_, unit): &&(&str, u64)| nanos >= u128::from(*unit) && nanos.is_multiple_of(u128::from(*unit));
        let (unit, nanos_of_unit) = NANOS_OF_UNIT.iter().rev().find(fits).unwrap_or(&("s", 1_000_000_000));
        write!(f, "{}{unit}", nanos / u128::from(*nanos_of_unit))
    }
}

/// Writes a size the way it is read, in steps of 1024 where that is exact.
pub(super) struct SizeText(pub(super) u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0s", 0),
            ("20us", 20_000),
            ("250ms", 250_000_000),
            ("30s", 30_000_000_000),
            ("5 m", 300_000_000_000),
            ("1h", 3_600_000_000_000),
            ("2d", 172_800_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("7B", 7),
            ("4KiB", 4096),
            ("10MB", 10_000_000),
            ("3 kB", 3000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn cores() {
        for (text, cores) in [("auto", &[][..]), ("0", &[0]), ("0,2-5", &[0, 2, 3, 4, 5]), (" 3 , 1 - 2 ", &[3, 1, 2])]
        {
            assert_eq!(parse_cores(text), Ok(cores.to_vec()), "{text}");
        }
    }

    #[test]
    fn outputs() {
        assert_eq!(parse_output("off"), Ok(Value::Off));
        assert_eq!(parse_output("stdout"), Ok(Value::Output(LogTarget::Stdout)));
        assert_eq!(parse_output("a.log"), Ok(Value::Output(LogTarget::File("a.log".into()))));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros in 0u64..1 << 53, bytes in any::<u64>()) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&DurationText(duration).to_string()), Ok(duration));
            prop_assert_eq!(parse_size(&SizeText(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn any_text_is_a_value_or_advice(text in "(?s).{0,30}") {
            for kind in [Kind::Cores, Kind::Address, Kind::Server, Kind::Service, Kind::Output, Kind::UrlPath, Kind::Field, Kind::Rate, Kind::SocketAddressOrOff] {
                if let Err(advice) = kind.parse(&text) {
                    prop_assert!(!advice.is_empty());
                }
            }
        }
    }
}
