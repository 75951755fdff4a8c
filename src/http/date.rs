//! Dates of HTTP (RFC 9110 section 5.6.7). Knows no clock: the caller formats once per tick and keeps the result.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Last second that IMF-fixdate can say: 9999-12-31T23:59:59Z.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A date as IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`: always 29 bytes of ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date of `seconds` since 1970-01-01T00:00:00Z; later than the year 9999 becomes its last second.
    pub fn from_unix(seconds: u64) -> HttpDate {
        use std::io::Write;
        let time = UNIX_EPOCH + Duration::from_secs(seconds.min(SECONDS_MAX));
        let mut text = [0; 29];
        write!(&mut text[..], "{}", httpdate::HttpDate::from(time)).expect("an IMF-fixdate has 29 bytes");
        HttpDate(text)
    }

    /// The 29 bytes.
    pub fn as_array(&self) -> &[u8; 29] {
        &self.0
    }

    /// The same as a slice.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an IMF-fixdate is ASCII")
    }
}

/// Unix seconds of a date in one of the three formats a recipient must take: IMF-fixdate, RFC 850, asctime.
///
/// `None`: not a date, or before 1970. A field with such a value is ignored (RFC 9110 section 13.1.3).
pub fn parse(value: &[u8]) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_the_rfc_does() {
        assert_eq!(HttpDate::from_unix(784_111_777).as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(HttpDate::from_unix(0).as_str(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(HttpDate::from_unix(u64::MAX).as_str(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn parses_all_three_formats() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37", "Sun, 32 Nov 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GMT\xff"), None);
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..146_097u64 {
            let seconds = day * 86_400 + day % 86_400;
            assert_eq!(parse(HttpDate::from_unix(seconds).as_bytes()), Some(seconds));
        }
    }
}
