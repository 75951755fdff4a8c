//! Slow logs of MySQL splitters: a JSON object in a line for each statement that took long, through the buffers and the
//! writer thread of the access log.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::access::Outbox;
use super::escape::{Notation, Pen, Style, put_three_digits};
use super::stamp::Stamp;
use crate::config::Config;
use crate::config::model::MysqlSlowLog;

/// What a line tells.
#[derive(Clone, Debug)]
pub struct SlowEntry<'a> {
    /// When the answer was complete.
    pub time: SystemTime,
    /// Name of the splitter.
    pub splitter: &'a str,
    /// Address of the client; `None`: it came by a Unix socket.
    pub client: Option<std::net::SocketAddr>,
    /// Account.
    pub user: &'a str,
    /// Database that was selected.
    pub schema: Option<&'a [u8]>,
    /// Where it ran; `None`: nowhere.
    pub server: Option<String>,
    /// `primary` or `replica`.
    pub route: Option<&'static str>,
    /// The rule that was about it.
    pub rule: Option<&'a str>,
    /// Why its session is tied to one connection, as metrics call it.
    pub pin: Option<&'static str>,
    /// For how long it has been; `None`: it is not.
    pub pin_age: Option<Duration>,
    /// From its last byte to the last byte of its answer.
    pub duration: Duration,
    /// Of that, until a replica had what the session must see.
    pub causal_wait: Duration,
    /// Rows sent to the client.
    pub rows_sent: u64,
    /// Rows changed.
    pub rows_affected: u64,
    /// Warnings it left behind.
    pub warnings: u16,
    /// Error number.
    pub error: Option<u16>,
    /// Hash of its normal form, as `one-server ctl mysql digests` shows it.
    pub digest: &'a str,
    /// Its normal form; `None`: the statement itself is there.
    pub digest_text: Option<&'a [u8]>,
    /// The statement itself.
    pub text: Option<&'a [u8]>,
    /// It was longer.
    pub is_cut: bool,
}

/// The slow log of one splitter on one data worker.
#[derive(Debug)]
pub struct SlowLog {
    /// What the config says of it.
    pub settings: MysqlSlowLog,
    outbox: Rc<Outbox>,
    place: usize,
    stamp: RefCell<Stamp>,
}

impl SlowLog {
    /// The log of the splitter with this index; `None`: it has none, or `outbox` has no way to it.
    pub fn new(config: &Config, splitter: usize, outbox: &Rc<Outbox>) -> Option<SlowLog> {
        let settings = config.splitters[splitter].slow_log.clone()?;
        let place = outbox.place_of(&settings.target)?;
        Some(SlowLog { settings, outbox: outbox.clone(), place, stamp: RefCell::new(Stamp::new()) })
    }

    /// Which target of the worker's it goes to.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Adds a line. Never waits, as [`super::AccessLog::record`].
    pub fn record(&self, entry: &SlowEntry<'_>) {
        self.outbox.record(self.place, |line| {
            let mut stamp = self.stamp.borrow_mut();
            let millis = stamp.set(entry.time, &self.outbox.host().zone).millis;
            put_line(line, &stamp, millis, entry);
        });
    }
}

fn put_line(out: &mut Vec<u8>, stamp: &Stamp, millis: u16, entry: &SlowEntry<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(&stamp.iso);
    out.push(b'.');
    put_three_digits(out, millis);
    out.extend_from_slice(&stamp.iso_offset);
    out.push(b'"');
    let mut line = Members { out };
    line.text("splitter", Some(entry.splitter.as_bytes()));
    line.text("client", entry.client.map(|client| client.to_string()).as_deref().map(str::as_bytes));
    line.text("user", Some(entry.user.as_bytes()));
    line.text("schema", entry.schema);
    line.text("server", entry.server.as_deref().map(str::as_bytes));
    line.text("route", entry.route.map(str::as_bytes));
    line.text("rule", entry.rule.map(str::as_bytes));
    line.text("pin", entry.pin.map(str::as_bytes));
    line.begin("pin_age_ms").optional_number(entry.pin_age.map(|age| age.as_millis() as u64));
    line.number("duration_us", entry.duration.as_micros() as u64);
    line.number("causal_wait_us", entry.causal_wait.as_micros() as u64);
    line.number("rows_sent", entry.rows_sent);
    line.number("rows_affected", entry.rows_affected);
    line.number("warnings", u64::from(entry.warnings));
    line.begin("error").optional_number(entry.error.map(u64::from));
    line.text("digest", Some(entry.digest.as_bytes()));
    if entry.digest_text.is_some() {
        line.text("digest_text", entry.digest_text);
    }
    if entry.text.is_some() {
        line.text("text", entry.text);
    }
    line.begin("cut").switch(entry.is_cut);
    out.extend_from_slice(b"}\n");
}

/// Members of an object behind the first one.
struct Members<'a> {
    out: &'a mut Vec<u8>,
}

impl Members<'_> {
    fn begin(&mut self, name: &str) -> Pen<'_> {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        Pen { out: self.out, style: Style { notation: Notation::Json, quoted: false, is_json_value: true } }
    }

    fn text(&mut self, name: &str, text: Option<&[u8]>) {
        self.begin(name).optional(text);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.begin(name).number(number);
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_stands_in_it() {
        let entry = SlowEntry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            splitter: "shop",
            client: Some("10.0.0.1:5".parse().unwrap()),
            user: "a\"b",
            schema: Some(b"d\n"),
            server: Some("10.0.0.2:3306".into()),
            route: Some("replica"),
            rule: None,
            pin: Some("lock"),
            pin_age: Some(Duration::from_millis(250)),
            duration: Duration::from_micros(1_500),
            causal_wait: Duration::ZERO,
            rows_sent: 3,
            rows_affected: 0,
            warnings: 1,
            error: None,
            digest: "00ff",
            digest_text: None,
            text: Some(b"SELECT '\xff\n'"),
            is_cut: true,
        };
        let (mut line, mut stamp) = (Vec::new(), Stamp::new());
        let millis = stamp.set(entry.time, &TimeZone::UTC).millis;
        put_line(&mut line, &stamp, millis, &entry);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["time"], "2023-11-14T22:13:20.042+00:00");
        assert_eq!(
            (&json["user"], &json["schema"], &json["text"]),
            (&"a\"b".into(), &"d\n".into(), &"SELECT '\u{fffd}\n'".into())
        );
        assert_eq!((&json["duration_us"], &json["rows_sent"], &json["cut"]), (&1500.into(), &3.into(), &true.into()));
        assert_eq!((&json["pin"], &json["pin_age_ms"]), (&"lock".into(), &250.into()));
        assert!(json["rule"].is_null() && json["error"].is_null() && json.get("digest_text").is_none());
    }
}
