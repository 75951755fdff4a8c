//! Properties of ranges and conditions that hold for any input, whatever it says. Targets of `fuzz/` call them with
//! coverage feedback; the tests below run them on every `cargo test`.
//!
//! Each function panics when a property does not hold. The second opinions are slow and plain on purpose: one bit for each
//! byte of a file, an expression for each entity tag.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{Conditions, LastModified, Outcome, Validators, evaluate};
use crate::http::h1::{Limits, Method, RequestHead, parse_request};

const ETAG: &[u8] = b"\"a-1\"";
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const SECONDS: u64 = 784_111_777;
const RANGES_MAX: usize = 8;

fn validators(len: u64, strong: bool) -> Validators {
    let last_modified = Some(LastModified { seconds: SECONDS, text: *DATE, strong });
    Validators { etag: ETAG.into(), last_modified, len }
}

/// A Range value selects the bytes that a plain reader of it selects, each once, in as few parts as can be. The first two
/// bytes of the input are the length of the file and the most ranges allowed.
pub fn ranges(input: &[u8]) {
    let [len, most, value @ ..] = input else { return };
    let ranges_max = usize::from(*most % 70);
    let conditions = Conditions { range: Some(value), ..Conditions::default() };
    let outcome = evaluate(&conditions, &validators(u64::from(*len), true), Method::Get, ranges_max);
    let expected = plain_ranges(value, usize::from(*len), ranges_max);
    match (&outcome, &expected) {
        (Outcome::Full, None) => {}
        (Outcome::RangeNotSatisfiable, Some(selected)) => assert!(!selected.contains(&true)),
        (Outcome::Partial(range), Some(selected)) => check_parts(&[*range], selected),
        (Outcome::Parts(parts), Some(selected)) => {
            assert!(parts.len() > 1);
            check_parts(parts, selected);
        }
        _ => panic!("{outcome:?}, a plain reader finds {expected:?}"),
    }
}

fn check_parts(parts: &[super::ByteRange], selected: &[bool]) {
    let mut found = vec![false; selected.len()];
    for part in parts {
        assert!(part.len > 0 && part.end() <= selected.len() as u64);
        for byte in &mut found[part.start as usize..part.end() as usize] {
            assert!(!std::mem::replace(byte, true), "a byte is sent twice");
        }
    }
    assert_eq!(found, selected);
    let runs = selected.iter().zip(std::iter::once(&false).chain(selected)).filter(|(now, before)| **now && !**before);
    assert_eq!(runs.count(), parts.len(), "parts that touch are one");
}

/// The bytes selected; `None`: the field is ignored.
fn plain_ranges(value: &[u8], len: usize, ranges_max: usize) -> Option<Vec<bool>> {
    static SPEC: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?-u)^(?:([0-9]+)-([0-9]*)|-([0-9]+))$").expect("good"));
    let number = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).expect("digits").trim_start_matches('0');
        if text.is_empty() { 0 } else { text.parse().unwrap_or(u64::MAX) }
    };
    let (unit, set) = value.split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(())?;
    let specs: Vec<&[u8]> = set.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()).collect();
    (!specs.is_empty() && specs.len() <= ranges_max).then_some(())?;
    let mut selected = vec![false; len];
    for spec in specs {
        let parts = SPEC.captures(spec)?;
        let (start, end) = match parts.get(3).map(|digits| number(digits.as_bytes())) {
            // RFC 9110 section 14.1.2 selects the whole empty file, which Content-Range cannot say.
            Some(count) if count > 0 && len == 0 => return None,
            Some(count) => (len - len.min(usize::try_from(count).unwrap_or(usize::MAX)), len),
            None => {
                let (first, last) = (number(&parts[1]), &parts[2]);
                let last = if last.is_empty() { u64::MAX } else { number(last) };
                (last >= first).then_some(())?;
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(len);
                (place(first), place(last.saturating_add(1)))
            }
        };
        selected[start..end].fill(true);
    }
    Some(selected)
}

/// Conditional fields mean what the table of RFC 9110 section 13.2.2 says. The first byte of the input chooses the method
/// and whether the date is a strong validator; of each line the first byte chooses the field, the rest is its value.
pub fn conditions(input: &[u8]) {
    const NAMES: [&str; 6] =
        ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"];
    let Some((&choice, lines)) = input.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Put][usize::from(choice >> 1) % 3];
    let mut text =
        format!("{} / HTTP/1.1\r\nHost: a\r\n", ["GET", "HEAD", "PUT"][usize::from(choice >> 1) % 3]).into_bytes();
    let mut fields: Vec<(&str, &[u8])> = Vec::new();
    for line in lines.split(|&byte| byte == b'\n').take(12) {
        let Some((&name, value)) = line.split_first() else { continue };
        let name = NAMES[usize::from(name) % NAMES.len()];
        fields.push((name, value.trim_ascii()));
        text.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    let mut head = RequestHead::default();
    if parse_request(&text, &Limits::default(), &mut head) != Ok(Some(())) {
        return;
    }
    let validators = validators(100, choice & 1 != 0);
    let outcome = evaluate(&Conditions::from_head(&head, &text), &validators, method, RANGES_MAX);
    assert_eq!(outcome, plain_conditions(&fields, method, &validators));
}

fn plain_conditions(fields: &[(&str, &[u8])], method: Method, validators: &Validators) -> Outcome {
    let reads = method != Method::Put;
    let values =
        |name: &str| fields.iter().filter(|(found, _)| *found == name).map(|(_, value)| *value).collect::<Vec<_>>();
    let single = |name: &str| match values(name)[..] {
        [value] => Some(value),
        _ => None,
    };
    let is_older = |date: Option<&[u8]>| plain_date(date?).map(|seconds| SECONDS > seconds);
    let matches = |name: &str, weakly: bool| {
        let tags = values(name).into_iter().flat_map(plain_tags).collect::<Vec<_>>();
        tags.iter().any(|(weak, tag)| *tag == b"*" || (*tag == ETAG && (weakly || !weak)))
    };
    let (if_match, if_none_match) = (values("If-Match"), values("If-None-Match"));
    if !if_match.is_empty() {
        if !matches("If-Match", false) {
            return Outcome::PreconditionFailed;
        }
    } else if is_older(single("If-Unmodified-Since")) == Some(true) {
        return Outcome::PreconditionFailed;
    }
    if !if_none_match.is_empty() {
        if matches("If-None-Match", true) {
            return if reads { Outcome::NotModified } else { Outcome::PreconditionFailed };
        }
    } else if reads && is_older(single("If-Modified-Since")) == Some(false) {
        return Outcome::NotModified;
    }
    let if_range = values("If-Range");
    let applies = match if_range[..] {
        [] => true,
        [value] if value == ETAG => true,
        [value] if value.starts_with(b"\"") || value.starts_with(b"W/\"") => false,
        [value] => validators.last_modified.is_some_and(|date| date.strong) && plain_date(value) == Some(SECONDS),
        _ => false,
    };
    match single("Range").filter(|_| applies && method == Method::Get) {
        // What a Range value selects is the business of the property above.
        Some(range) => {
            let conditions = Conditions { range: Some(range), ..Conditions::default() };
            evaluate(&conditions, validators, Method::Get, RANGES_MAX)
        }
        None => Outcome::Full,
    }
}

fn plain_date(value: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

/// The tags of a line, up to the first malformed one: whether each is weak, and the tag with its quotes.
fn plain_tags(mut line: &[u8]) -> Vec<(bool, &[u8])> {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"(?-u)^[, \t]*(W/)?("[^"]*")[ \t]*(?:,|$)"#).expect("good"));
    if line == b"*" {
        return vec![(false, line)];
    }
    let mut tags = Vec::new();
    while let Some(found) = TAG.captures(line) {
        tags.push((found.get(1).is_some(), found.get(2).expect("always there").as_bytes()));
        line = &line[found[0].len()..];
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn range_values() {
        let pieces = [
            "bytes=",
            "BYTES=",
            "-",
            ",",
            "0",
            "9",
            "100",
            "0-",
            "-1",
            "0-0",
            "5-2",
            " ",
            "\t",
            "18446744073709551616",
        ];
        fuzz("ranges", ranges, &pieces);
    }

    #[test]
    fn conditional_fields() {
        let date = std::str::from_utf8(DATE).unwrap();
        let pieces = [
            "\n\0",
            "\n\u{1}",
            "\n\u{2}",
            "\n\u{3}",
            "\n\u{4}",
            "\n\u{5}",
            "\"a-1\"",
            "W/",
            "*",
            ",",
            " ",
            "\"x\"",
            "\"",
            date,
            "bytes=0-9",
        ];
        fuzz("conditional_headers", conditions, &pieces);
    }
}
