//! The text of an access log line: nginx's combined format, byte for byte, or a JSON object. Pure; allocates nothing
//! as long as the buffer has room.
//!
//! Source: nginx documentation, `ngx_http_log_module` (format `combined`, escaping `default`); RFC 8259 for JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Entry;
use crate::config::Config;
use crate::config::model::LogFormat;
use crate::metrics::ServedBy;

/// Writes lines for one data worker.
#[derive(Debug)]
pub(super) struct Formatter {
    format: LogFormat,
    zone: TimeZone,
    worker: usize,
    names: Names,
    stamp: Stamp,
}

/// What `served_by` says, as JSON text, at the indexes of the config.
#[derive(Debug)]
struct Names {
    servers: Vec<Vec<Vec<u8>>>,
    apps: Vec<Vec<u8>>,
}

/// The texts of one second, made when a line of that second comes first.
#[derive(Debug)]
struct Stamp {
    /// Seconds of the Unix epoch.
    second: u64,
    /// `29/Jul/2025:13:55:36 +0200`
    local: Vec<u8>,
    /// `2025-07-29T13:55:36`
    iso: Vec<u8>,
    /// `+02:00`
    iso_offset: Vec<u8>,
}

impl Formatter {
    /// For the data worker numbered `worker`; local times are those of `zone`.
    pub(super) fn new(config: &Config, worker: usize, zone: TimeZone) -> Formatter {
        let names = Names::new(config);
        let stamp = Stamp { second: u64::MAX, local: vec![], iso: vec![], iso_offset: vec![] };
        Formatter { format: config.log.format, zone, worker, names, stamp }
    }

    /// At least the bytes [`Formatter::line`] will add.
    pub(super) fn line_bytes_max(&self, entry: &Entry<'_>) -> usize {
        let optional = [entry.referer, entry.user_agent, entry.host];
        let outside = entry.remote_addr.len() + entry.method.len() + entry.target.len() + entry.protocol.len();
        let outside = outside + optional.iter().flatten().map(|field| field.len()).sum::<usize>();
        // Escapes are 4 bytes for combined and 6 for JSON; the fixed part of a JSON line is below 400 bytes.
        match self.format {
            LogFormat::Combined => 128 + 4 * outside,
            LogFormat::Json => 400 + 6 * outside + self.names.served_by(entry.served_by).map_or(0, <[u8]>::len),
        }
    }

    /// Appends the line for `entry`, line feed included.
    pub(super) fn line(&mut self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        let since_epoch = entry.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since_epoch.as_secs() != self.stamp.second {
            self.stamp.renew(entry.time, since_epoch.as_secs(), &self.zone);
        }
        match self.format {
            LogFormat::Combined => self.combined(out, entry),
            LogFormat::Json => self.json(out, entry, since_epoch.subsec_millis()),
        }
    }

    fn combined(&self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        put_escaped(out, entry.remote_addr);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(&self.stamp.local);
        out.extend_from_slice(b"] \"");
        put_request_line(out, entry);
        out.extend_from_slice(b"\" ");
        put_status(out, entry.status);
        out.push(b' ');
        put_number(out, entry.body_bytes);
        for field in [entry.referer, entry.user_agent] {
            out.extend_from_slice(b" \"");
            match field {
                Some(value) => put_escaped(out, value),
                None => out.push(b'-'),
            }
            out.push(b'"');
        }
        out.push(b'\n');
    }

    fn json(&self, out: &mut Vec<u8>, entry: &Entry<'_>, milliseconds: u32) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(&self.stamp.iso);
        out.push(b'.');
        put_three_digits(out, milliseconds as u16);
        out.extend_from_slice(&self.stamp.iso_offset);
        out.push(b'"');
        put_json_field(out, "remote_addr", Some(entry.remote_addr));
        put_json_field(out, "method", Some(entry.method));
        put_json_field(out, "target", Some(entry.target));
        put_json_field(out, "protocol", Some(entry.protocol));
        let duration_us = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX);
        let numbers =
            [("status", u64::from(entry.status)), ("body_bytes", entry.body_bytes), ("duration_us", duration_us)];
        for (name, number) in numbers {
            put_json_name(out, name);
            put_number(out, number);
        }
        put_json_field(out, "referer", entry.referer);
        put_json_field(out, "user_agent", entry.user_agent);
        put_json_field(out, "host", entry.host);
        put_json_name(out, "request_id");
        put_hex_id(out, entry.request_id);
        put_json_name(out, "worker");
        put_number(out, self.worker as u64);
        put_json_name(out, "served_by");
        self.names.put(out, entry.served_by);
        out.extend_from_slice(b"}\n");
    }
}

impl Names {
    fn new(config: &Config) -> Names {
        let text = |name: String| {
            let mut out = Vec::new();
            put_json_text(&mut out, name.as_bytes());
            out
        };
        let servers = |upstream: &crate::config::model::Upstream| {
            upstream.servers.iter().map(|server| text(format!("{}/{}", upstream.name, server.address))).collect()
        };
        Names {
            servers: config.upstreams.iter().map(servers).collect(),
            apps: config.apps.iter().map(|app| text(app.name.clone())).collect(),
        }
    }

    /// The prepared part of the text; `None` where there is nothing to prepare, or an index leads nowhere.
    fn served_by(&self, served_by: ServedBy) -> Option<&[u8]> {
        match served_by {
            ServedBy::Worker | ServedBy::Files => None,
            ServedBy::Server { upstream, server } => {
                self.servers.get(usize::from(upstream))?.get(usize::from(server)).map(Vec::as_slice)
            }
            ServedBy::App { app, .. } => self.apps.get(usize::from(app)).map(Vec::as_slice),
        }
    }

    /// `"worker"`, `"files"`, `"upstream:api/10.0.0.7:8080"`, `"app:shop/3"` with the application worker.
    fn put(&self, out: &mut Vec<u8>, served_by: ServedBy) {
        let name = self.served_by(served_by).unwrap_or_default();
        match served_by {
            ServedBy::Worker => out.extend_from_slice(b"\"worker\""),
            ServedBy::Files => out.extend_from_slice(b"\"files\""),
            ServedBy::Server { .. } => {
                out.extend_from_slice(b"\"upstream:");
                out.extend_from_slice(name);
                out.push(b'"');
            }
            ServedBy::App { app_worker, .. } => {
                out.extend_from_slice(b"\"app:");
                out.extend_from_slice(name);
                out.push(b'/');
                put_number(out, u64::from(app_worker));
                out.push(b'"');
            }
        }
    }
}

impl Stamp {
    fn renew(&mut self, time: SystemTime, second: u64, zone: &TimeZone) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        use std::io::Write;
        self.second = second;
        let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH); // beyond year 9999
        let offset = zone.to_offset(timestamp);
        let t = offset.to_datetime(timestamp);
        let (sign, minutes) = (if offset.seconds() < 0 { '-' } else { '+' }, offset.seconds().unsigned_abs() / 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        let month = MONTHS[usize::from(t.month().unsigned_abs()).clamp(1, 12) - 1];
        let (year, day, hour, minute, second) = (t.year(), t.day(), t.hour(), t.minute(), t.second());
        for text in [&mut self.local, &mut self.iso, &mut self.iso_offset] {
            text.clear();
        }
        // Writing to a Vec cannot fail.
        drop(write!(
            self.local,
            "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}"
        ));
        drop(write!(self.iso, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", t.month()));
        drop(write!(self.iso_offset, "{sign}{hours:02}:{minutes:02}"));
    }
}

/// The parts the request had, with one space between them: for a well-formed request exactly its first line.
fn put_request_line(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut first = true;
    for part in [entry.method, entry.target, entry.protocol] {
        if part.is_empty() {
            continue;
        }
        if !first {
            out.push(b' ');
        }
        first = false;
        put_escaped(out, part);
    }
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

/// nginx's default escaping: quote, backslash, control bytes and everything from 0x7f on become `\xHH`.
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !plain(*byte)) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        out.extend_from_slice(&[b'\\', b'x', HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn put_json_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_json_field(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    put_json_name(out, name);
    match value {
        Some(value) => {
            out.push(b'"');
            put_json_text(out, value);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// The inside of a JSON string. Bytes that are not UTF-8 become U+FFFD, so that every line parses.
fn put_json_text(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, ..0x20 | b'"' | b'\\' | 0x7f)) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                byte => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX_LOWER[usize::from(byte >> 4)], HEX_LOWER[usize::from(byte & 15)]]);
                }
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// nginx writes a status with at least three digits.
fn put_status(out: &mut Vec<u8>, status: u16) {
    if status < 1000 { put_three_digits(out, status) } else { put_number(out, u64::from(status)) }
}

fn put_three_digits(out: &mut Vec<u8>, number: u16) {
    let digit = |divisor: u16| b'0' + (number / divisor % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// 16 hexadecimal digits in quotes.
fn put_hex_id(out: &mut Vec<u8>, id: u64) {
    let mut digits = [b'"'; 18];
    for (digit, shift) in digits[1..17].iter_mut().zip((0..16).rev()) {
        *digit = HEX_LOWER[(id >> (4 * shift)) as usize & 15];
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::shared::tests::config;

    /// 2026-11-22 20:04:59.007 UTC
    pub(in crate::log) fn entry() -> Entry<'static> {
        Entry {
            time: UNIX_EPOCH + Duration::from_millis(1_795_377_899_007),
            remote_addr: b"127.0.0.1",
            method: b"GET",
            target: b"/a",
            protocol: b"HTTP/1.1",
            status: 200,
            body_bytes: 5,
            duration: Duration::from_micros(1234),
            referer: None,
            user_agent: None,
            host: Some(b"x"),
            request_id: 0xab,
            served_by: ServedBy::Files,
        }
    }

    fn line_in(format: LogFormat, zone: TimeZone, entry: &Entry<'_>) -> String {
        let mut config = config();
        config.log.format = format;
        let mut formatter = Formatter::new(&config, 3, zone);
        let mut out = Vec::new();
        formatter.line(&mut out, entry);
        assert!(out.len() <= formatter.line_bytes_max(entry), "{} > {}", out.len(), formatter.line_bytes_max(entry));
        String::from_utf8(out).unwrap()
    }

    fn check(entry: Entry<'_>, expected: &str) {
        assert_eq!(line_in(LogFormat::Combined, TimeZone::UTC, &entry), format!("{expected}\n"));
    }

    /// What nginx 1.22.1 wrote for these requests, byte for byte.
    #[test]
    fn combined_lines_are_those_of_nginx() {
        let entry = entry();
        check(entry, r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /a HTTP/1.1" 200 5 "-" "-""#);
        check(
            Entry { target: b"/a\"b\\c\x7f\xc3\xa9?q=1", status: 400, body_bytes: 157, ..entry },
            r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /a\x22b\x5Cc\x7F\xC3\xA9?q=1 HTTP/1.1" 400 157 "-" "-""#,
        );
        check(
            Entry { target: b"/e", referer: Some(b""), user_agent: Some(b""), ..entry },
            r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /e HTTP/1.1" 200 5 "" """#,
        );
        check(
            Entry { method: b"", target: b"garbage", protocol: b"", status: 400, body_bytes: 157, ..entry },
            r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "garbage" 400 157 "-" "-""#,
        );
        check(
            Entry {
                method: b"HEAD",
                target: b"/h",
                protocol: b"HTTP/1.0",
                body_bytes: 0,
                user_agent: Some(b"t\\"),
                ..entry
            },
            r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "HEAD /h HTTP/1.0" 200 0 "-" "t\x5C""#,
        );
        check(
            Entry { target: b"/e", referer: Some(b"a"), user_agent: Some(b"a\tb\xff~\x7f"), ..entry },
            r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "GET /e HTTP/1.1" 200 5 "a" "a\x09b\xFF~\x7F""#,
        );
    }

    #[test]
    fn a_request_without_anything_and_the_largest_numbers_have_a_line() {
        let entry = Entry { method: b"", target: b"", protocol: b"", status: 0, body_bytes: u64::MAX, ..entry() };
        check(entry, r#"127.0.0.1 - - [22/Nov/2026:20:04:59 +0000] "" 000 18446744073709551615 "-" "-""#);
        let entry = Entry { request_id: u64::MAX, duration: Duration::MAX, remote_addr: &[0xff; 300], ..entry };
        let json = line_in(LogFormat::Json, TimeZone::UTC, &entry);
        assert!(
            json.contains(r#""request_id":"ffffffffffffffff""#)
                && json.contains(r#""duration_us":18446744073709551615"#)
        );
    }

    #[test]
    fn local_time_has_the_offset_of_its_moment() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |seconds| Entry { time: UNIX_EPOCH + Duration::from_secs(seconds), ..entry() };
        for (seconds, expected) in [
            (1_785_326_136, "[29/Jul/2026:13:55:36 +0200]"),
            (1_767_225_599, "[01/Jan/2026:00:59:59 +0100]"),
            (0, "[01/Jan/1970:01:00:00 +0100]"),
        ] {
            let line = line_in(LogFormat::Combined, zone.clone(), &at(seconds));
            assert!(line.contains(expected), "{expected} in {line}");
        }
        let newfoundland = TimeZone::posix("NST3:30").unwrap();
        let line = line_in(LogFormat::Combined, newfoundland.clone(), &at(1_785_326_136));
        assert!(line.contains("[29/Jul/2026:08:25:36 -0330]"), "{line}");
        let json = line_in(LogFormat::Json, newfoundland, &at(1_785_326_136));
        assert!(json.starts_with(r#"{"time":"2026-07-29T08:25:36.000-03:30","#), "{json}");
    }

    #[test]
    fn the_stamp_changes_with_the_second_and_only_then() {
        let mut formatter = Formatter::new(&config(), 0, TimeZone::UTC);
        let mut out = Vec::new();
        for millis in [1_000, 1_999, 2_000, 1_500] {
            formatter.line(&mut out, &Entry { time: UNIX_EPOCH + Duration::from_millis(millis), ..entry() });
        }
        let text = String::from_utf8(out).unwrap();
        let seconds: Vec<&str> = text.lines().map(|line| &line[33..35]).collect();
        assert_eq!(seconds, ["01", "01", "02", "01"]);
    }

    #[test]
    fn json_lines_byte_for_byte() {
        let upstream = ServedBy::Server { upstream: 0, server: 1 };
        let entry = Entry {
            target: b"/\"q\\\n\x7f\xc3\xa9\xff!",
            referer: Some(b""),
            user_agent: Some("größer".as_bytes()),
            served_by: upstream,
            ..entry()
        };
        assert_eq!(
            line_in(LogFormat::Json, TimeZone::UTC, &entry),
            concat!(
                r#"{"time":"2026-11-22T20:04:59.007+00:00","remote_addr":"127.0.0.1","method":"GET","#,
                r#""target":"/\"q\\\u000a\u007fé"#,
                "\u{fffd}",
                r#"!","protocol":"HTTP/1.1","status":200,"body_bytes":5,"duration_us":1234,"referer":"","#,
                r#""user_agent":"größer","host":"x","request_id":"00000000000000ab","worker":3,"#,
                r#""served_by":"upstream:api/unix:/run/b\"2.sock"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn every_kind_of_answerer_gives_json_that_parses() {
        for (served_by, text) in [
            (ServedBy::Worker, "worker"),
            (ServedBy::Files, "files"),
            (ServedBy::App { app: 0, app_worker: 12 }, "app:shop/12"),
            (ServedBy::App { app: 9, app_worker: 1 }, "app:/1"),
            (ServedBy::Server { upstream: 1, server: 0 }, "upstream:plain/[::1]:8080"),
            (ServedBy::Server { upstream: 9, server: 9 }, "upstream:"),
        ] {
            let line = line_in(LogFormat::Json, TimeZone::UTC, &Entry { served_by, host: None, ..entry() });
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&json["served_by"], &json["host"]), (&text.into(), &serde_json::Value::Null));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_one_line_that_fits_and_parses(
            target: Vec<u8>, agent: Option<Vec<u8>>, addr: Vec<u8>, status: u16, id: u64,
        ) {
            let entry = Entry {
                target: &target, user_agent: agent.as_deref(), remote_addr: &addr, status, request_id: id, ..entry()
            };
            let line = line_in(LogFormat::Json, TimeZone::UTC, &entry);
            assert_eq!(line.matches('\n').count(), 1);
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(json["target"], String::from_utf8_lossy(&target).as_ref());
            let line = line_in(LogFormat::Combined, TimeZone::UTC, &entry);
            assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\n'));
            assert_eq!((line.matches('\n').count(), line.matches('"').count()), (1, 6));
        }
    }
}
