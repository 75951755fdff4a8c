//! How long an answer may be kept, by its media type: what nginx's `expires` does.
//!
//! In: the answer's Content-Type. Out: the lifetime, and the two fields that tell it (RFC 9111 sections 5.2.2.1 and
//! 5.3). Which answers get them, and whether they have such fields already, is for the caller to look at.

use std::time::Duration;

use super::date::HttpDate;
use super::h1::{write_decimal, write_field};

/// Lifetimes by media type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expires {
    /// The more precise ones first, so that the first that fits is the one.
    rules: Vec<(MediaRange, Lifetime)>,
}

/// Media types a rule is about, in lower case; the more precise ones are the smaller ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MediaRange {
    /// `text/css`.
    One(String),
    /// `image/*`, stored as `image/`.
    Group(String),
    /// `*`: all, also answers without a type.
    All,
}

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Nothing is said about it.
    Unsaid,
    /// Ask before each use: `Cache-Control: no-cache`.
    Ask,
    /// This long.
    For(Duration),
}

impl Expires {
    /// Lifetimes by media type, in any order.
    pub fn new(mut rules: Vec<(MediaRange, Lifetime)>) -> Expires {
        rules.sort_by(|(a, _), (b, _)| a.cmp(b));
        Expires { rules }
    }

    /// There are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// One lifetime for all answers, whatever their type.
    pub fn is_for_all(&self) -> bool {
        matches!(self.rules.as_slice(), [(MediaRange::All, _)])
    }

    /// The lifetime of an answer with this Content-Type; parameters behind `;` do not count.
    pub fn lifetime(&self, content_type: Option<&[u8]>) -> Lifetime {
        let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        let fits = |range: &MediaRange| match range {
            MediaRange::One(name) => essence.eq_ignore_ascii_case(name.as_bytes()),
            MediaRange::Group(start) => {
                essence.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
            }
            MediaRange::All => true,
        };
        self.rules.iter().find(|(range, _)| fits(range)).map_or(Lifetime::Unsaid, |(_, lifetime)| *lifetime)
    }
}

impl Lifetime {
    /// Appends Expires and, unless the caller has written one, Cache-Control. `now` is the time of the answer in Unix seconds, and
    /// `date` says such a time in the words of HTTP.
    pub fn write(self, now: u64, date: impl Fn(u64) -> HttpDate, with_cache_control: bool, out: &mut Vec<u8>) {
        let expires = match self {
            Lifetime::Unsaid => return,
            Lifetime::Ask => 1,
            Lifetime::For(time) => now.saturating_add(time.as_secs()),
        };
        write_field(out, "Expires", date(expires).as_bytes());
        match self {
            _ if !with_cache_control => {}
            Lifetime::For(time) => {
                out.extend_from_slice(b"Cache-Control: max-age=");
                write_decimal(out, time.as_secs());
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(b"Cache-Control: no-cache\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Lifetime {
        Lifetime::For(Duration::from_secs(seconds))
    }

    #[test]
    fn the_most_precise_rule_counts() {
        let expires = Expires::new(vec![
            (MediaRange::All, seconds(1)),
            (MediaRange::Group("image/".into()), seconds(2)),
            (MediaRange::One("image/png".into()), Lifetime::Unsaid),
            (MediaRange::One("text/css".into()), seconds(3)),
        ]);
        for (content_type, expect) in [
            (Some("text/css"), seconds(3)),
            (Some("Text/CSS ; charset=utf-8"), seconds(3)),
            (Some("image/webp"), seconds(2)),
            (Some("image/png"), Lifetime::Unsaid),
            (Some("imagex"), seconds(1)),
            (Some(""), seconds(1)),
            (None, seconds(1)),
        ] {
            assert_eq!(expires.lifetime(content_type.map(str::as_bytes)), expect, "{content_type:?}");
        }
        assert_eq!(Expires::default().lifetime(Some(b"text/css")), Lifetime::Unsaid);
    }

    #[test]
    fn both_fields_tell_it() {
        let written = |lifetime: Lifetime, with_cache_control| {
            let mut out = Vec::new();
            lifetime.write(1_000_000_000, HttpDate::from_unix, with_cache_control, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(seconds(3600), true),
            "Expires: Sun, 09 Sep 2001 02:46:40 GMT\r\nCache-Control: max-age=3600\r\n"
        );
        assert_eq!(written(seconds(3600), false), "Expires: Sun, 09 Sep 2001 02:46:40 GMT\r\n");
        assert_eq!(
            written(Lifetime::Ask, true),
            "Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\nCache-Control: no-cache\r\n"
        );
        assert_eq!(written(Lifetime::Unsaid, true), "");
    }
}
