//! Conditional requests: which answer the preconditions of a request allow. Pure.
//!
//! In: the condition fields of a request and the validators of the file. Out: [`Outcome`]. Sources: RFC 9110
//! sections 8.8, 13 and 14.

use super::range::{self, ByteRange};
use crate::http::h1::{FieldName, Method, RequestHead};

/// The values of a list field, one for each line of that name; nearly always none or one, which costs no allocation.
#[derive(Clone, Debug, Default)]
pub struct Lines<'a> {
    first: Option<&'a [u8]>,
    more: Vec<&'a [u8]>,
}

impl<'a> Lines<'a> {
    /// Adds the value of one more line.
    pub fn push(&mut self, value: &'a [u8]) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
    }

    /// The field was not sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The values in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.first.iter().chain(&self.more).copied()
    }
}

impl<'a> From<&'a [u8]> for Lines<'a> {
    fn from(value: &'a [u8]) -> Self {
        Lines { first: Some(value), more: Vec::new() }
    }
}

/// The condition fields of a request, as sent. A date or range field sent twice is left out, as if it were invalid.
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a> {
    /// If-Match, RFC 9110 section 13.1.1. Empty: not sent.
    pub if_match: Lines<'a>,
    /// If-None-Match, section 13.1.2. Empty: not sent.
    pub if_none_match: Lines<'a>,
    /// If-Modified-Since, section 13.1.3.
    pub if_modified_since: Option<&'a [u8]>,
    /// If-Unmodified-Since, section 13.1.4.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// If-Range, section 13.1.5.
    pub if_range: Option<&'a [u8]>,
    /// Range, section 14.2.
    pub range: Option<&'a [u8]>,
}

impl<'a> Conditions<'a> {
    /// Collects the condition fields of `head`; `bytes` is what it was parsed from.
    pub fn from_head(head: &RequestHead, bytes: &'a [u8]) -> Conditions<'a> {
        let mut conditions = Conditions::default();
        let mut seen = 0u8;
        for field in &head.fields {
            let (single, bit) = match field.known {
                FieldName::IfMatch => {
                    conditions.if_match.push(field.value.of(bytes));
                    continue;
                }
                FieldName::IfNoneMatch => {
                    conditions.if_none_match.push(field.value.of(bytes));
                    continue;
                }
                FieldName::IfModifiedSince => (&mut conditions.if_modified_since, 1),
                FieldName::IfUnmodifiedSince => (&mut conditions.if_unmodified_since, 2),
                FieldName::IfRange => (&mut conditions.if_range, 4),
                FieldName::Range => (&mut conditions.range, 8),
                _ => continue,
            };
            *single = (seen & bit == 0).then(|| field.value.of(bytes));
            seen |= bit;
        }
        if conditions.if_range.is_none() && seen & 4 != 0 {
            conditions.range = None; // two If-Range: the range may not be honoured without its condition
        }
        conditions
    }
}

/// Last-Modified of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastModified {
    /// Seconds since 1970.
    pub seconds: u64,
    /// The same as IMF-fixdate, which clients send back letter by letter.
    pub text: [u8; 29],
    /// The file was not changed in the second before it was looked at, so the date stands for one content only
    /// (RFC 9110 section 8.8.2.2).
    pub strong: bool,
}

/// What tells one version of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// Strong entity tag with its quotes.
    pub etag: Box<[u8]>,
    /// `None`: the file's time is before 1970 or in the future, so it proves nothing.
    pub last_modified: Option<LastModified>,
    /// Bytes of the file.
    pub len: u64,
}

/// The answer that the preconditions allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with the whole file.
    Full,
    /// 206 with these bytes.
    Partial(ByteRange),
    /// 206 with each of these, two or more that lie apart.
    Parts(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    RangeNotSatisfiable,
}

/// Applies the preconditions in the order of RFC 9110 section 13.2.2. `method` is GET or HEAD; any other is treated
/// by the rules for methods that change something. `ranges_max`: a Range field with more ranges is ignored.
///
/// For a file that can be served only: where the answer without them would be an error or a redirect, preconditions
/// are ignored (section 13.2.1), so a missing file stays 404 whatever If-Match says.
pub fn evaluate(conditions: &Conditions<'_>, validators: &Validators, method: Method, ranges_max: usize) -> Outcome {
    let reads = matches!(method, Method::Get | Method::Head);
    // Steps 1 and 2.
    if !conditions.if_match.is_empty() {
        if !any_tag(&conditions.if_match, |tag| tag.matches_strongly(&validators.etag)) {
            return Outcome::PreconditionFailed;
        }
    } else if let Some(date) = conditions.if_unmodified_since
        && is_modified_since(date, validators) == Some(true)
    {
        return Outcome::PreconditionFailed;
    }
    // Steps 3 and 4.
    if !conditions.if_none_match.is_empty() {
        if any_tag(&conditions.if_none_match, |tag| tag.matches_weakly(&validators.etag)) {
            return if reads { Outcome::NotModified } else { Outcome::PreconditionFailed };
        }
    } else if let Some(date) = conditions.if_modified_since.filter(|_| reads)
        && is_modified_since(date, validators) == Some(false)
    {
        return Outcome::NotModified;
    }
    // Steps 5 and 6.
    match conditions.range {
        Some(range) if method == Method::Get && range_applies(conditions.if_range, validators) => {
            range::select(range, validators.len, ranges_max)
        }
        _ => Outcome::Full,
    }
}

/// `None`: `date` is no valid date or the file has none, so the condition is ignored (sections 13.1.3, 13.1.4).
fn is_modified_since(date: &[u8], validators: &Validators) -> Option<bool> {
    let modified = validators.last_modified.as_ref()?;
    if date == modified.text {
        return Some(false);
    }
    Some(modified.seconds > parse_date(date)?)
}

/// All three formats of RFC 9110 section 5.6.7, as seconds since 1970.
fn parse_date(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Section 13.1.5: a strong match of the tag, or the exact date where the date is a strong validator (8.8.2.2). Ours
/// is one if the file was read in a later second than it was changed in: whatever was served under that date before it
/// had its last change was served within that second, and a client may not send a date no older than the Date it
/// came with.
fn range_applies(if_range: Option<&[u8]>, validators: &Validators) -> bool {
    let Some(value) = if_range else { return true };
    if let Some((tag, rest)) = Tag::parse(value) {
        return rest.is_empty() && tag.matches_strongly(&validators.etag);
    }
    let Some(modified) = validators.last_modified.as_ref().filter(|modified| modified.strong) else { return false };
    value == modified.text || parse_date(value) == Some(modified.seconds)
}

/// One member of an If-Match or If-None-Match list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag<'a> {
    /// `*`
    Any,
    /// An entity tag with its quotes.
    Entity { weak: bool, opaque: &'a [u8] },
}

impl<'a> Tag<'a> {
    /// Reads an entity tag at the start of `text` (section 8.8.3) and returns what follows it.
    fn parse(text: &'a [u8]) -> Option<(Tag<'a>, &'a [u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let inner = text.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inner)? + 2;
        Some((Tag::Entity { weak, opaque: &text[..end] }, &text[end..]))
    }

    /// Section 8.8.3.2. `etag` is strong.
    fn matches_strongly(self, etag: &[u8]) -> bool {
        match self {
            Tag::Any => true,
            Tag::Entity { weak, opaque } => !weak && opaque == etag,
        }
    }

    fn matches_weakly(self, etag: &[u8]) -> bool {
        match self {
            Tag::Any => true,
            Tag::Entity { opaque, .. } => opaque == etag,
        }
    }
}

/// A member for which `matches` holds. What follows a malformed member of a line is not looked at.
fn any_tag(lines: &Lines<'_>, matches: impl Fn(Tag<'_>) -> bool) -> bool {
    lines.iter().any(|line| any_tag_of_line(line, &matches))
}

fn any_tag_of_line(mut line: &[u8], matches: impl Fn(Tag<'_>) -> bool) -> bool {
    if line.trim_ascii() == b"*" {
        return matches(Tag::Any);
    }
    loop {
        // Empty members are allowed: section 5.6.1.2.
        while let [b',' | b' ' | b'\t', rest @ ..] = line {
            line = rest;
        }
        let Some((tag, rest)) = Tag::parse(line) else { return false };
        let rest = rest.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) {
            return false;
        }
        if matches(tag) {
            return true;
        }
        line = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::*;
    use super::*;
    use proptest::prelude::*;

    const ETAG: &str = "\"a-1\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        let text = DATE.as_bytes().try_into().expect("29 letters");
        Validators {
            etag: ETAG.as_bytes().into(),
            last_modified: Some(LastModified { seconds: 784_111_777, text, strong: true }),
            len: 100,
        }
    }

    fn conditions<'a>(fields: &[(&str, &'a str)]) -> Conditions<'a> {
        let mut conditions = Conditions::default();
        for (name, value) in fields {
            let value = value.as_bytes();
            match *name {
                "If-Match" => conditions.if_match.push(value),
                "If-None-Match" => conditions.if_none_match.push(value),
                "If-Modified-Since" => conditions.if_modified_since = Some(value),
                "If-Unmodified-Since" => conditions.if_unmodified_since = Some(value),
                "If-Range" => conditions.if_range = Some(value),
                "Range" => conditions.range = Some(value),
                other => panic!("{other}"),
            }
        }
        conditions
    }

    fn check_with(validators: &Validators, method: Method, fields: &[(&str, &str)], expect: Outcome) {
        assert_eq!(evaluate(&conditions(fields), validators, method, 64), expect, "{method:?} {fields:?}");
    }

    fn check(fields: &[(&str, &str)], expect: Outcome) {
        check_with(&validators(), Method::Get, fields, expect);
    }

    fn part(start: u64, len: u64) -> Outcome {
        Partial(ByteRange { start, len })
    }

    #[test]
    fn no_condition_is_the_whole_file() {
        check(&[], Full);
    }

    #[test]
    fn if_match_section_13_1_1() {
        check(&[("If-Match", ETAG)], Full);
        check(&[("If-Match", "*")], Full);
        check(&[("If-Match", "\"x\", \"a-1\"")], Full);
        check(&[("If-Match", "\"x\"")], PreconditionFailed);
        // Strong comparison: a weak tag never matches.
        check(&[("If-Match", "W/\"a-1\"")], PreconditionFailed);
        check(&[("If-Match", "a-1")], PreconditionFailed);
        check(&[("If-Match", "")], PreconditionFailed);
        // One list over several lines, section 5.3.
        check(&[("If-Match", "\"x\""), ("If-Match", ETAG)], Full);
        check(&[("If-Match", "\"x\""), ("If-Match", "*")], Full);
        check(&[("If-Match", "\t * ")], Full);
        // `*` is no member of a list.
        check(&[("If-Match", "\"x\", *")], PreconditionFailed);
        check(&[("If-Match", "*, \"a-1\"")], PreconditionFailed);
        check(&[("If-Match", "\"a-1\"x, \"y\"")], PreconditionFailed);
        // Letter by letter: no case folding, no unquoting (section 8.8.3).
        check(&[("If-Match", "\"A-1\"")], PreconditionFailed);
        check_with(&validators(), Method::Put, &[("If-Match", ETAG)], Full);
        check_with(&validators(), Method::Put, &[("If-Match", "\"x\"")], PreconditionFailed);
    }

    #[test]
    fn if_none_match_section_13_1_2() {
        check(&[("If-None-Match", ETAG)], NotModified);
        check(&[("If-None-Match", "W/\"a-1\"")], NotModified);
        check(&[("If-None-Match", "*")], NotModified);
        check(&[("If-None-Match", "\"x\",\"y,z\" , W/\"a-1\"")], NotModified);
        check(&[("If-None-Match", ",, \"a-1\"")], NotModified);
        check(&[("If-None-Match", "\"x\""), ("If-None-Match", ETAG)], NotModified);
        check(&[("If-None-Match", "\"x\"")], Full);
        check(&[("If-None-Match", "\"x,\"a-1\"")], Full);
        check(&[("If-None-Match", "\"a-1")], Full);
        check(&[("If-None-Match", "w/\"a-1\"")], Full);
        check(&[("If-None-Match", "\"x\""), ("If-None-Match", " * ")], NotModified);
        check(&[("If-None-Match", "")], Full);
        check(&[("If-None-Match", "\"x\", *")], Full);
        check(&[("If-None-Match", "W/ \"a-1\"")], Full);
        check_with(&validators(), Method::Head, &[("If-None-Match", ETAG)], NotModified);
        check_with(&validators(), Method::Put, &[("If-None-Match", "*")], PreconditionFailed);
    }

    #[test]
    fn if_modified_since_section_13_1_3() {
        check(&[("If-Modified-Since", DATE)], NotModified);
        check(&[("If-Modified-Since", LATER)], NotModified);
        check(&[("If-Modified-Since", EARLIER)], Full);
        check(&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified);
        check(&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], NotModified);
        check(&[("If-Modified-Since", "yesterday")], Full);
        check(&[("If-Modified-Since", "")], Full);
        // The two obsolete formats of section 5.6.7 with other dates; a time zone is no part of any.
        check(&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:36 GMT")], Full);
        check(&[("If-Modified-Since", "Sun Nov  6 08:49:36 1994")], Full);
        check(&[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 +0000")], Full);
        check(&[("If-Modified-Since", "Sun, 31 Feb 1994 08:49:37 GMT")], Full);
        check(&[("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], Full);
        check(&[("If-Modified-Since", "784111777")], Full);
        // Ignored beside If-None-Match, and for methods that are not GET or HEAD.
        check(&[("If-None-Match", "\"x\""), ("If-Modified-Since", DATE)], Full);
        check_with(&validators(), Method::Head, &[("If-Modified-Since", DATE)], NotModified);
        check_with(&validators(), Method::Post, &[("If-Modified-Since", DATE)], Full);
        // A file without a usable date.
        let undated = Validators { last_modified: None, ..validators() };
        check_with(&undated, Method::Get, &[("If-Modified-Since", LATER)], Full);
    }

    #[test]
    fn if_unmodified_since_section_13_1_4() {
        check(&[("If-Unmodified-Since", DATE)], Full);
        check(&[("If-Unmodified-Since", LATER)], Full);
        check(&[("If-Unmodified-Since", EARLIER)], PreconditionFailed);
        check(&[("If-Unmodified-Since", "yesterday")], Full);
        check(&[("If-Unmodified-Since", "Sunday, 06-Nov-94 08:49:36 GMT")], PreconditionFailed);
        check(&[("If-Unmodified-Since", "Sun Nov  6 08:49:38 1994")], Full);
        check_with(&validators(), Method::Head, &[("If-Unmodified-Since", EARLIER)], PreconditionFailed);
        check_with(&validators(), Method::Put, &[("If-Unmodified-Since", EARLIER)], PreconditionFailed);
        let undated = Validators { last_modified: None, ..validators() };
        check_with(&undated, Method::Get, &[("If-Unmodified-Since", EARLIER)], Full);
        // Ignored beside If-Match.
        check(&[("If-Match", ETAG), ("If-Unmodified-Since", EARLIER)], Full);
    }

    #[test]
    fn if_range_section_13_1_5() {
        check(&[("Range", "bytes=0-9"), ("If-Range", ETAG)], part(0, 10));
        check(&[("Range", "bytes=0-9"), ("If-Range", DATE)], part(0, 10));
        check(&[("Range", "bytes=0-9"), ("If-Range", "\"x\"")], Full);
        check(&[("Range", "bytes=0-9"), ("If-Range", "W/\"a-1\"")], Full);
        // The exact date, not a later one.
        check(&[("Range", "bytes=0-9"), ("If-Range", LATER)], Full);
        check(&[("Range", "bytes=0-9"), ("If-Range", EARLIER)], Full);
        check(&[("Range", "bytes=0-9"), ("If-Range", "Sunday, 06-Nov-94 08:49:37 GMT")], part(0, 10));
        check(&[("Range", "bytes=0-9"), ("If-Range", "*")], Full);
        // One tag, not a list.
        check(&[("Range", "bytes=0-9"), ("If-Range", "\"a-1\", \"b\"")], Full);
        check(&[("Range", "bytes=0-9"), ("If-Range", "")], Full);
        check(&[("Range", "bytes=200-"), ("If-Range", ETAG)], RangeNotSatisfiable);
        check(&[("Range", "bytes=200-"), ("If-Range", "\"x\"")], Full);
        check(&[("If-Range", ETAG)], Full);
        // A date is no strong validator of a file that was just changed.
        let mut fresh = validators();
        fresh.last_modified.as_mut().expect("dated").strong = false;
        check_with(&fresh, Method::Get, &[("Range", "bytes=0-9"), ("If-Range", DATE)], Full);
    }

    #[test]
    fn range_section_14_2() {
        check(&[("Range", "bytes=0-9")], part(0, 10));
        check(&[("Range", "bytes=100-")], RangeNotSatisfiable);
        let two = Parts(vec![ByteRange { start: 0, len: 1 }, ByteRange { start: 98, len: 2 }]);
        check(&[("Range", "bytes=0-0,-2")], two);
        // Defined for GET only.
        check_with(&validators(), Method::Head, &[("Range", "bytes=0-9")], Full);
    }

    #[test]
    fn precedence_section_13_2_2() {
        check(&[("If-Match", "\"x\""), ("If-None-Match", ETAG)], PreconditionFailed);
        check(&[("If-Match", ETAG), ("If-None-Match", ETAG)], NotModified);
        check(&[("If-Unmodified-Since", EARLIER), ("If-None-Match", ETAG)], PreconditionFailed);
        check(&[("If-None-Match", ETAG), ("Range", "bytes=0-9")], NotModified);
        check(&[("If-Modified-Since", DATE), ("Range", "bytes=900-")], NotModified);
        check(&[("If-None-Match", "\"x\""), ("Range", "bytes=0-9")], part(0, 10));
        check(&[("If-Match", ETAG), ("Range", "bytes=0-9"), ("If-Range", ETAG)], part(0, 10));
        check(&[("If-Match", "\"x\""), ("Range", "bytes=0-9")], PreconditionFailed);
        check(&[("If-Unmodified-Since", EARLIER), ("If-Modified-Since", DATE)], PreconditionFailed);
        check(&[("If-Match", "*"), ("If-None-Match", "*")], NotModified);
    }

    /// The table of section 13.2.2, with each field false, true or absent.
    #[test]
    fn precedence_in_every_combination() {
        let options = |name: &'static str, holds: &'static str, fails: &'static str| {
            [None, Some((name, holds, true)), Some((name, fails, false))]
        };
        for if_match in options("If-Match", ETAG, "\"x\"") {
            for unmodified in options("If-Unmodified-Since", DATE, EARLIER) {
                for none_match in options("If-None-Match", "\"x\"", ETAG) {
                    for modified in options("If-Modified-Since", EARLIER, DATE) {
                        for if_range in options("If-Range", ETAG, "\"x\"") {
                            let all = [if_match, unmodified, none_match, modified, if_range];
                            let mut fields: Vec<(&str, &str)> =
                                all.iter().flatten().map(|(name, value, _)| (*name, *value)).collect();
                            fields.push(("Range", "bytes=0-9"));
                            let holds = |field: Option<(_, _, bool)>| field.map(|(_, _, holds)| holds);
                            let expect = match (holds(if_match), holds(unmodified)) {
                                (Some(false), _) | (None, Some(false)) => PreconditionFailed,
                                _ => match (holds(none_match), holds(modified), holds(if_range)) {
                                    (Some(false), _, _) | (None, Some(false), _) => NotModified,
                                    (_, _, Some(false)) => Full,
                                    _ => part(0, 10),
                                },
                            };
                            check(&fields, expect);
                        }
                    }
                }
            }
        }
    }

    fn from_head(text: &'static str) -> Conditions<'static> {
        let mut head = RequestHead::default();
        let mut start = 0;
        for line in text.lines() {
            let (name, value) = line.split_once(": ").expect("field");
            let known = match name {
                "If-None-Match" => FieldName::IfNoneMatch,
                "If-Modified-Since" => FieldName::IfModifiedSince,
                "If-Range" => FieldName::IfRange,
                "Range" => FieldName::Range,
                _ => FieldName::Other,
            };
            let value_start = start + name.len() + 2;
            head.fields.push(crate::http::h1::Field {
                known,
                name: (start..start + name.len()).into(),
                value: (value_start..value_start + value.len()).into(),
            });
            start += line.len() + 1;
        }
        Conditions::from_head(&head, text.as_bytes())
    }

    #[test]
    fn fields_are_collected_and_repeated_single_ones_left_out() {
        let got = from_head("Range: bytes=0-1\nX: y\nIf-None-Match: \"a\"\nIf-None-Match: \"b\"");
        assert_eq!(got.range, Some(b"bytes=0-1".as_slice()));
        assert_eq!(got.if_none_match.iter().collect::<Vec<_>>(), [b"\"a\"", b"\"b\""]);
        assert_eq!(from_head("Range: bytes=0-1\nRange: bytes=2-3\nRange: bytes=4-5").range, None);
        assert_eq!(from_head("If-Range: \"a\"\nRange: bytes=0-1\nIf-Range: \"b\"").range, None);
    }

    proptest! {
        #[test]
        fn no_field_value_panics(value in proptest::collection::vec(any::<u8>(), 0..40), tail in "[-0-9,= \"*/Wbytes]{0,40}") {
            for text in [value.as_slice(), tail.as_bytes()] {
                let one: Lines<'_> = Lines::from(text);
                let all = Conditions {
                    if_match: Lines::default(),
                    if_none_match: one.clone(),
                    if_modified_since: Some(text),
                    if_unmodified_since: Some(text),
                    if_range: Some(text),
                    range: Some(text),
                };
                evaluate(&all, &validators(), Method::Get, 64);
                evaluate(&Conditions { if_match: one, ..Conditions::default() }, &validators(), Method::Get, 64);
                let dates = Conditions { if_none_match: Lines::default(), if_unmodified_since: None, ..all };
                evaluate(&dates, &validators(), Method::Get, 64);
            }
        }
    }
}
