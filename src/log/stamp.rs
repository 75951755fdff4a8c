//! Dates as text, made once a second.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The texts of one second, made when a line of that second comes first.
#[derive(Debug)]
pub(super) struct Stamp {
    /// Seconds of the Unix epoch.
    second: u64,
    /// `29/Jul/2025:13:55:36 +0200`
    pub(super) local: Vec<u8>,
    /// `29/Jul/2025:11:55:36 +0000`
    pub(super) gmt: Vec<u8>,
    /// `2025-07-29T13:55:36`
    pub(super) iso: Vec<u8>,
    /// `+02:00`
    pub(super) iso_offset: Vec<u8>,
}

/// Parts of a date that are numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) seconds: u64,
    pub(super) millis: u16,
}

impl Stamp {
    pub(super) fn new() -> Stamp {
        Stamp { second: u64::MAX, local: vec![], gmt: vec![], iso: vec![], iso_offset: vec![] }
    }

    /// Makes the texts those of `time`; they stay when they are already.
    pub(super) fn set(&mut self, time: SystemTime, zone: &TimeZone) -> Moment {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = Moment { seconds: since_epoch.as_secs(), millis: since_epoch.subsec_millis() as u16 };
        if moment.seconds != self.second {
            self.renew(time, moment.seconds, zone);
        }
        moment
    }

    fn renew(&mut self, time: SystemTime, second: u64, zone: &TimeZone) {
        self.second = second;
        let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH); // beyond year 9999
        put_clf(&mut self.local, timestamp, zone);
        put_clf(&mut self.gmt, timestamp, &TimeZone::UTC);
        let offset = zone.to_offset(timestamp);
        let t = offset.to_datetime(timestamp);
        let (year, month, day, hour, minute, second) = (t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
        self.iso.clear();
        self.iso_offset.clear();
        // Writing to a Vec cannot fail.
        drop(write!(self.iso, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
        let (sign, hours, minutes) = offset_parts(offset);
        drop(write!(self.iso_offset, "{sign}{hours:02}:{minutes:02}"));
    }

    /// `29/Jul/2025:13:55:36`
    pub(super) fn local_without_zone(&self) -> &[u8] {
        self.local.split(|byte| *byte == b' ').next().unwrap_or_default()
    }
}

/// `29/Jul/2025:13:55:36 +0200`, the date of the Common Log Format.
fn put_clf(out: &mut Vec<u8>, timestamp: Timestamp, zone: &TimeZone) {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let offset = zone.to_offset(timestamp);
    let t = offset.to_datetime(timestamp);
    let (sign, hours, minutes) = offset_parts(offset);
    let month = MONTHS[usize::from(t.month().unsigned_abs()).clamp(1, 12) - 1];
    let (year, day, hour, minute, second) = (t.year(), t.day(), t.hour(), t.minute(), t.second());
    out.clear();
    drop(write!(out, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}"));
}

/// Sign, hours and minutes of an offset from UTC.
fn offset_parts(offset: jiff::tz::Offset) -> (char, u32, u32) {
    let minutes = offset.seconds().unsigned_abs() / 60;
    (if offset.seconds() < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
}
