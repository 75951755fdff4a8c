//! The Range field: one range of bytes. Pure. Source: RFC 9110 section 14.
//!
//! Several ranges in one request get the whole file (section 14.2 allows to ignore the field): a multipart answer
//! costs much, and the clients that resume downloads or seek in media ask for one. So does a malformed field or an
//! unknown unit.

use super::conditional::Outcome;

/// Bytes of a file; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// What a Range field of `value` selects from a file of `len` bytes.
pub(super) fn select(value: &[u8], len: u64) -> Outcome {
    let Some(spec) = single_spec(value) else { return Outcome::Full };
    let Some(spec) = parse_spec(spec) else { return Outcome::Full };
    let (start, end) = match spec {
        Spec::Suffix(0) => return Outcome::RangeNotSatisfiable,
        Spec::Suffix(_) if len == 0 => return Outcome::Full, // satisfiable, but there is no way to write it
        Spec::Suffix(count) => (len.saturating_sub(count), len),
        Spec::From(first, _) if first >= len => return Outcome::RangeNotSatisfiable,
        Spec::From(first, last) => (first, last.map_or(len, |last| last.saturating_add(1).min(len))),
    };
    Outcome::Partial(ByteRange { start, len: end - start })
}

/// The one range of a `bytes=` set, without white space; empty members are skipped (section 5.6.1.2).
fn single_spec(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    let first = specs.next()?;
    specs.next().is_none().then_some(first)
}

/// Section 14.1.1.
enum Spec {
    /// `first-` or `first-last`.
    From(u64, Option<u64>),
    /// `-count`
    Suffix(u64),
}

fn parse_spec(spec: &[u8]) -> Option<Spec> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return number(last).map(Spec::Suffix);
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Spec::From(first, None));
    }
    let last = number(last)?;
    (first <= last).then_some(Spec::From(first, Some(last)))
}

/// Digits only. A number too large for 64 bits is beyond every file, so it counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: &str, len: u64, expect: Outcome) {
        assert_eq!(select(value.as_bytes(), len), expect, "{value} of {len}");
    }

    fn part(start: u64, len: u64) -> Outcome {
        Outcome::Partial(ByteRange { start, len })
    }

    #[test]
    fn one_range() {
        check("bytes=0-0", 100, part(0, 1));
        check("bytes=0-99", 100, part(0, 100));
        check("bytes=10-19", 100, part(10, 10));
        check("bytes=90-", 100, part(90, 10));
        check("bytes=99-1000", 100, part(99, 1));
        check("bytes=-1", 100, part(99, 1));
        check("bytes=-1000", 100, part(0, 100));
        check("Bytes=0-0", 100, part(0, 1));
        check("bytes= 0-0 ", 100, part(0, 1));
        check("bytes=,0-0,", 100, part(0, 1));
        check("bytes=5-99999999999999999999999", 100, part(5, 95));
        check("bytes=-99999999999999999999999", 100, part(0, 100));
        check("bytes=5-18446744073709551615", 100, part(5, 95));
    }

    #[test]
    fn not_satisfiable() {
        check("bytes=100-", 100, Outcome::RangeNotSatisfiable);
        check("bytes=100-200", 100, Outcome::RangeNotSatisfiable);
        check("bytes=-0", 100, Outcome::RangeNotSatisfiable);
        check("bytes=0-", 0, Outcome::RangeNotSatisfiable);
        check("bytes=99999999999999999999999-", u64::MAX, Outcome::RangeNotSatisfiable);
    }

    #[test]
    fn ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=1",
            "bytes 0-1",
            "lines=0-1",
            "bytes=0-0,2-2",
            "bytes=0-0, -1",
            "bytes=1--2",
            "bytes=0 - 1",
            "=0-1",
        ] {
            check(value, 100, Outcome::Full);
        }
        check("bytes=-5", 0, Outcome::Full);
    }

    proptest! {
        #[test]
        fn a_range_lies_within_the_file(first: u64, last: u64, len: u64, form in 0..3) {
            let value = match form {
                0 => format!("bytes={first}-{last}"),
                1 => format!("bytes={first}-"),
                _ => format!("bytes=-{last}"),
            };
            if let Outcome::Partial(range) = select(value.as_bytes(), len) {
                prop_assert!(range.len > 0);
                prop_assert!(range.start.checked_add(range.len).is_some_and(|end| end <= len));
            }
        }
    }
}
