//! The Range field: ranges of bytes. Pure. Source: RFC 9110 section 14.
//!
//! Ranges that overlap or touch are joined (section 15.3.7.2), so that no answer is larger than the file and its part
//! heads, however often a client asks for the same bytes (section 14.2; CVE-2011-3192). A field with more ranges than
//! the limit is ignored and the whole file is sent (section 14.2 allows it); so is a malformed one or an unknown unit.

use smallvec::SmallVec;

use super::conditional::Outcome;

/// Bytes of a file; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// Behind the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// What a Range field of `value` selects from a file of `len` bytes, with at most `ranges_max` ranges in it. One range
/// costs no allocation.
pub(super) fn select(value: &[u8], len: u64, ranges_max: usize) -> Outcome {
    match ranges_max {
        0 => Outcome::Full,
        _ => parse(value, len, ranges_max).unwrap_or(Outcome::Full),
    }
}

/// `None`: the field is to be ignored.
fn parse(value: &[u8], len: u64, ranges_max: usize) -> Option<Outcome> {
    let (unit, set) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut ranges: SmallVec<[ByteRange; 2]> = SmallVec::new();
    let mut count = 0;
    // Empty members are skipped: section 5.6.1.2.
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        count += 1;
        if count > ranges_max {
            return None;
        }
        match parse_spec(spec)?.within(len) {
            Within::Bytes(range) => ranges.push(range),
            Within::Nothing => {}
            Within::Unwritable => return None,
        }
    }
    Some(match ranges[..] {
        [] if count == 0 => return None,
        [] => Outcome::RangeNotSatisfiable,
        [range] => Outcome::Partial(range),
        _ => match join(&ranges)[..] {
            [range] => Outcome::Partial(range),
            ref ranges => Outcome::Parts(ranges.into()),
        },
    })
}

/// Joins ranges that overlap or touch. Each result stands where the first of its members was sent (section 15.3.7.2:
/// the order sent is kept where it can be).
fn join(ranges: &[ByteRange]) -> Vec<ByteRange> {
    let mut by_start: Vec<(usize, ByteRange)> = ranges.iter().copied().enumerate().collect();
    by_start.sort_by_key(|(_, range)| range.start);
    let mut joined: Vec<(usize, ByteRange)> = Vec::with_capacity(by_start.len());
    for (place, range) in by_start {
        match joined.last_mut() {
            Some((first_place, last)) if range.start <= last.end() => {
                last.len = last.end().max(range.end()) - last.start;
                *first_place = (*first_place).min(place);
            }
            _ => joined.push((place, range)),
        }
    }
    joined.sort_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, range)| range).collect()
}

/// Section 14.1.1.
enum Spec {
    /// `first-` or `first-last`.
    From(u64, Option<u64>),
    /// `-count`
    Suffix(u64),
}

/// What a spec selects of a file.
enum Within {
    Bytes(ByteRange),
    /// Not satisfiable.
    Nothing,
    /// The end of an empty file: satisfiable, but Content-Range cannot say so.
    Unwritable,
}

impl Spec {
    /// Section 14.1.2.
    fn within(&self, len: u64) -> Within {
        let (start, end) = match *self {
            Spec::Suffix(0) => return Within::Nothing,
            Spec::Suffix(_) if len == 0 => return Within::Unwritable,
            Spec::Suffix(count) => (len.saturating_sub(count), len),
            Spec::From(first, _) if first >= len => return Within::Nothing,
            Spec::From(first, last) => (first, last.map_or(len, |last| last.saturating_add(1).min(len))),
        };
        Within::Bytes(ByteRange { start, len: end - start })
    }
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
        assert_eq!(select(value.as_bytes(), len, 64), expect, "{value} of {len}");
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
            "bytes=0-0,5-4",
            "bytes=0-0,x",
            "bytes=0-0;2-2",
            "bytes=1--2",
            "bytes=0 - 1",
            "=0-1",
        ] {
            check(value, 100, Outcome::Full);
        }
        check("bytes=-5", 0, Outcome::Full);
        check("bytes=-5,0-", 0, Outcome::Full);
    }

    fn parts(ranges: &[(u64, u64)]) -> Outcome {
        Outcome::Parts(ranges.iter().map(|&(start, len)| ByteRange { start, len }).collect())
    }

    #[test]
    fn several_ranges_section_14_1_2() {
        check("bytes=0-0,2-2", 100, parts(&[(0, 1), (2, 1)]));
        check("bytes=0-0, -1", 100, parts(&[(0, 1), (99, 1)]));
        check("bytes=500-600,601-999", 10_000, part(500, 500));
        check("bytes=500-700,601-999", 10_000, part(500, 500));
        // In the order sent.
        check("bytes=-1,0-0,50-59", 100, parts(&[(99, 1), (0, 1), (50, 10)]));
        // What cannot be satisfied is left out; when nothing is left the answer is 416, section 15.5.17.
        check("bytes=0-0,100-,200-300,-0", 100, part(0, 1));
        check("bytes=0-0,100-,5-5", 100, parts(&[(0, 1), (5, 1)]));
        check("bytes=100-,200-300,-0", 100, Outcome::RangeNotSatisfiable);
        check(" bytes=0-0,2-2", 100, Outcome::Full);
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_joined_section_15_3_7_2() {
        check("bytes=0-9,5-14", 100, part(0, 15));
        check("bytes=5-14,0-9", 100, part(0, 15));
        check("bytes=0-9,10-19", 100, part(0, 20));
        check("bytes=0-9,11-19", 100, parts(&[(0, 10), (11, 9)]));
        check("bytes=0-,0-,0-,0-", 100, part(0, 100));
        check("bytes=80-89,0-9,85-99,5-5", 100, parts(&[(80, 20), (0, 10)]));
        // One that closes the gap between others.
        check("bytes=0-9,20-29,90-,10-19", 100, parts(&[(0, 30), (90, 10)]));
    }

    #[test]
    fn more_ranges_than_allowed_get_the_whole_file() {
        let of = |count: usize| {
            let specs: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * 2)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(matches!(select(of(64).as_bytes(), 10_000, 64), Outcome::Parts(ranges) if ranges.len() == 64));
        assert_eq!(select(of(65).as_bytes(), 10_000, 64), Outcome::Full);
        // Those beyond the end and those that are joined count too: they cost work.
        assert_eq!(select(b"bytes=0-0,900-,900-", 100, 2), Outcome::Full);
        assert_eq!(select(b"bytes=0-,0-,0-", 100, 2), Outcome::Full);
        assert_eq!(select(b"bytes=0-0,2-2", 100, 1), Outcome::Full);
        assert_eq!(select(b"bytes=0-0", 100, 1), part(0, 1));
        assert_eq!(select(b"bytes=0-0", 100, 0), Outcome::Full);
        assert_eq!(select(b"bytes=900-", 100, 0), Outcome::Full);
        // CVE-2011-3192: `0-`, `5-0`, `5-1` …
        let bomb = format!("bytes=0-{}", (0..1300).map(|n| format!(",5-{}", 5 + n)).collect::<String>());
        assert_eq!(select(bomb.as_bytes(), 10_000, 64), Outcome::Full);
    }

    proptest! {
        #[test]
        fn a_range_lies_within_the_file(first: u64, last: u64, len: u64, form in 0..3) {
            let value = match form {
                0 => format!("bytes={first}-{last}"),
                1 => format!("bytes={first}-"),
                _ => format!("bytes=-{last}"),
            };
            if let Outcome::Partial(range) = select(value.as_bytes(), len, 64) {
                prop_assert!(range.len > 0);
                prop_assert!(range.start.checked_add(range.len).is_some_and(|end| end <= len));
            }
        }

        /// Bytes selected are exactly those that some spec names, each once, in ranges that lie apart.
        #[test]
        fn joined_ranges_hold_the_same_bytes(
            specs in proptest::collection::vec((0u64..70, 0u64..70, 0..4), 1..12),
            len in 0u64..64,
        ) {
            let mut wanted = vec![false; len as usize];
            let mut text = Vec::new();
            let mut unwritable = false;
            for (first, last, form) in specs {
                let (first, last) = (first.min(last), first.max(last));
                let (spec, bytes) = match form {
                    0 => (format!("{first}-"), first..len),
                    1 => (format!("-{last}"), len.saturating_sub(last)..len),
                    _ => (format!("{first}-{last}"), first..len.min(last + 1)),
                };
                unwritable |= form == 1 && last > 0 && len == 0;
                bytes.for_each(|at| wanted[at as usize] = true);
                text.push(spec);
            }
            let text = format!("bytes={}", text.join(" ,\t"));
            let ranges = match select(text.as_bytes(), len, 64) {
                Outcome::Full => {
                    prop_assert!(unwritable, "{text} of {len}");
                    return Ok(());
                }
                Outcome::Partial(range) => vec![range],
                Outcome::Parts(ranges) => {
                    prop_assert!(ranges.len() > 1);
                    ranges
                }
                Outcome::RangeNotSatisfiable => Vec::new(),
                other => panic!("{other:?}"),
            };
            let mut got = vec![false; len as usize];
            for range in &ranges {
                prop_assert!(range.len > 0);
                for at in range.start..range.end() {
                    prop_assert!(!std::mem::replace(&mut got[at as usize], true), "{text}: {at} twice");
                }
            }
            for (one, other) in ranges.iter().flat_map(|one| ranges.iter().map(move |other| (one, other))) {
                prop_assert!(one.end() != other.start, "{text}: two ranges touch");
            }
            prop_assert_eq!(got, wanted, "{}", text);
        }

        #[test]
        fn any_text_is_a_range_or_ignored(value in "(bytes=)?[-0-9, \t=;a]{0,60}", len in 0u64..2000) {
            match select(value.as_bytes(), len, 8) {
                Outcome::Parts(ranges) => prop_assert!(
                    (2..=8).contains(&ranges.len()) && ranges.iter().map(|range| range.len).sum::<u64>() <= len
                ),
                Outcome::Partial(range) => prop_assert!(range.len > 0 && range.end() <= len),
                Outcome::Full | Outcome::RangeNotSatisfiable => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
