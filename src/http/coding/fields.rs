//! What a coding changes in the fields of a response. Pure, and in place.
//!
//! Fields are lines `Name: value\r\n`, as we write them behind a status line and before the empty line. They stand at the
//! end of a buffer that may hold more before them, such as the status line and earlier answers of a pipeline: `start` is
//! where the first line begins.

use super::Coding;
use crate::http::h1::{FieldName, list_elements};

const VARY_LINE: &[u8] = b"Vary: Accept-Encoding\r\n";

/// Makes `out[start..]` the fields of the response in `coding`.
///
/// Adds Content-Encoding and Vary, takes Content-Length and Accept-Ranges away (the caller frames the body anew; ranges
/// would be those of the coded bytes, which need not come out the same twice), and makes a strong ETag weak: it named
/// the bytes before the coding (RFC 9110 section 8.8.3.3). Clients send it back in If-None-Match, where weak tags
/// compare equal to their strong form (section 13.1.2), so that 304 goes on working.
pub fn apply(out: &mut Vec<u8>, start: usize, coding: Coding) {
    edit(out, start, |name, _| match name.len() {
        14 => FieldName::of(name) == FieldName::ContentLength,
        13 => name.eq_ignore_ascii_case(b"accept-ranges"),
        _ => false,
    });
    weaken_etags(out, start);
    add_vary(out, start);
    out.extend_from_slice(b"Content-Encoding: ");
    out.extend_from_slice(coding.token().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Marks `out[start..]` as the fields of a response that other clients get coded, so that a cache keeps them apart
/// (RFC 9110 section 12.5.5).
pub fn vary_only(out: &mut Vec<u8>, start: usize) {
    add_vary(out, start);
}

/// Makes `out[start..]` the fields of a 304 for a client whose 200 would have been coded: they are those of that 200
/// (RFC 9110 section 15.4.5), but tell of no body.
pub fn not_modified(out: &mut Vec<u8>, start: usize) {
    weaken_etags(out, start);
    add_vary(out, start);
}

/// One line of a field section; the value without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The lines of `fields`. One without a colon has no name.
pub(super) fn lines(fields: &[u8]) -> impl Iterator<Item = Line<'_>> {
    fields.split_inclusive(|&byte| byte == b'\n').map(parse_line)
}

fn parse_line(line: &[u8]) -> Line<'_> {
    let colon = memchr::memchr(b':', line).unwrap_or(0);
    Line { name: &line[..colon], value: line[colon..].get(1..).unwrap_or_default().trim_ascii() }
}

/// Takes the lines away for which `drops` holds; the others move up.
fn edit(out: &mut Vec<u8>, start: usize, drops: impl Fn(&[u8], &[u8]) -> bool) {
    let (mut read, mut write) = (start, start);
    while read < out.len() {
        let end = line_end(out, read);
        let Line { name, value } = parse_line(&out[read..end]);
        if !drops(name, value) {
            if write < read {
                out.copy_within(read..end, write);
            }
            write += end - read;
        }
        read = end;
    }
    out.truncate(write);
}

/// One past the line that begins at `at`.
fn line_end(out: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &out[at..]).map_or(out.len(), |newline| at + newline + 1)
}

/// Makes the entity tags in `out[start..]` weak. One that is not in quotes is none (RFC 9110 section 8.8.3): its line goes,
/// as it could not be made weak.
pub(in crate::http) fn weaken_etags(out: &mut Vec<u8>, start: usize) {
    let is_etag = |name: &[u8]| name.len() == 4 && FieldName::of(name) == FieldName::Etag;
    let is_weak = |value: &[u8]| value.starts_with(b"W/\"");
    edit(out, start, |name, value| is_etag(name) && !value.starts_with(b"\"") && !is_weak(value));
    let mut at = start;
    while at < out.len() {
        let end = line_end(out, at);
        let Line { name, value } = parse_line(&out[at..end]);
        if is_etag(name) && !is_weak(value) {
            let quote = at + memchr::memchr(b'"', &out[at..end]).unwrap_or(0);
            insert(out, quote, b"W/");
        }
        at = line_end(out, at);
    }
}

/// Adds `Accept-Encoding` to the last line of Vary, or a line of its own; nothing where it is named, or `*`.
fn add_vary(out: &mut Vec<u8>, start: usize) {
    let mut at = start;
    let mut last = None;
    while at < out.len() {
        let end = line_end(out, at);
        let Line { name, value } = parse_line(&out[at..end]);
        if name.eq_ignore_ascii_case(b"vary") {
            let names_it = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding");
            if list_elements(value).any(names_it) {
                return;
            }
            // An empty list, or one that ends in a comma, is not worth mending.
            let is_list = value.last().is_some_and(|&byte| byte != b',');
            last = is_list.then(|| at + out[at..end].trim_ascii_end().len()).or(last);
        }
        at = end;
    }
    match last {
        Some(value_end) => insert(out, value_end, b", Accept-Encoding"),
        None => out.extend_from_slice(VARY_LINE),
    }
}

/// Puts `bytes` in front of the byte at `at`.
fn insert(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out[at..].rotate_right(bytes.len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Candidate;
    use super::super::policy::tests::policy;
    use super::*;
    use crate::files::{Conditions, Outcome, Validators, evaluate};
    use crate::http::h1::Method;

    /// Lines are written with `|` between them.
    fn edited(fields: &str, change: impl Fn(&mut Vec<u8>, usize)) -> String {
        let before = "HTTP/1.1 200 OK\r\n";
        let mut out = format!("{before}{}", fields.replace('|', "\r\n")).into_bytes();
        change(&mut out, before.len());
        let text = String::from_utf8(out).expect("text");
        text.strip_prefix(before).expect("what stands before is not touched").replace("\r\n", "|")
    }

    #[track_caller]
    fn check_apply(fields: &str, expect: &str) {
        let expect = format!("{expect}Content-Encoding: br|");
        assert_eq!(edited(fields, |out, start| apply(out, start, Coding::Br)), expect, "{fields}");
    }

    #[track_caller]
    fn check_vary(fields: &str, expect: &str) {
        assert_eq!(edited(fields, vary_only), expect, "{fields}");
        assert_eq!(edited(expect, vary_only), expect, "a second time changes nothing");
    }

    #[test]
    fn a_coded_response_says_so() {
        check_apply(
            "Server: one|Content-Type: text/html|Content-Length: 5000|Last-Modified: x|ETag: \"a-1\"|Accept-Ranges: bytes|",
            "Server: one|Content-Type: text/html|Last-Modified: x|ETag: W/\"a-1\"|Vary: Accept-Encoding|",
        );
        check_apply("", "Vary: Accept-Encoding|");
        check_apply("content-LENGTH: 1|ACCEPT-RANGES: bytes|A: b|Content-Length: 1|", "A: b|Vary: Accept-Encoding|");
        check_apply(
            "X-Content-Length: 1|Content-Lengths: 2|",
            "X-Content-Length: 1|Content-Lengths: 2|Vary: Accept-Encoding|",
        );
        let gzip = edited("A: b|", |out, start| apply(out, start, Coding::Gzip));
        assert_eq!(gzip, "A: b|Vary: Accept-Encoding|Content-Encoding: gzip|");
    }

    /// RFC 9110 sections 8.8.3 and 8.8.3.3.
    #[test]
    fn strong_tags_become_weak() {
        let check = |etag: &str, expect: &str| {
            check_apply(&format!("A: b|{etag}Z: y|"), &format!("A: b|{expect}Z: y|Vary: Accept-Encoding|"));
        };
        check("ETag: \"x\"|", "ETag: W/\"x\"|");
        check("etag:\"x\"|", "etag:W/\"x\"|");
        check("ETAG:  \"\"  |", "ETAG:  W/\"\"  |");
        check("ETag: W/\"x\"|", "ETag: W/\"x\"|");
        check("ETag: \"a\"|ETag: \"b\"|", "ETag: W/\"a\"|ETag: W/\"b\"|");
        // No entity tags: `W/` is case-sensitive.
        check("ETag: x|", "");
        check("ETag: w/\"x\"|", "");
        check("ETag: |", "");
        check("X-ETag: \"x\"|", "X-ETag: \"x\"|");
    }

    /// RFC 9110 section 12.5.5.
    #[test]
    fn vary_is_merged() {
        check_vary("", "Vary: Accept-Encoding|");
        check_vary("A: b|", "A: b|Vary: Accept-Encoding|");
        check_vary("Vary: Origin|A: b|", "Vary: Origin, Accept-Encoding|A: b|");
        check_vary("vary: Origin,Accept |", "vary: Origin,Accept, Accept-Encoding |");
        check_vary("Vary: accept-encoding|", "Vary: accept-encoding|");
        check_vary("Vary: Origin,ACCEPT-ENCODING|", "Vary: Origin,ACCEPT-ENCODING|");
        check_vary("Vary: *|", "Vary: *|");
        check_vary("Vary: Origin, *|", "Vary: Origin, *|");
        check_vary("Vary: Origin|Vary: Accept-Encoding|", "Vary: Origin|Vary: Accept-Encoding|");
        check_vary("Vary: Origin|Vary: Cookie|A: b|", "Vary: Origin|Vary: Cookie, Accept-Encoding|A: b|");
        check_vary("Vary: |", "Vary: |Vary: Accept-Encoding|");
        check_vary("Vary: Origin,|", "Vary: Origin,|Vary: Accept-Encoding|");
        check_vary("Vary: Accept-Encoding2|", "Vary: Accept-Encoding2, Accept-Encoding|");
        check_vary("X-Vary: Accept-Encoding|", "X-Vary: Accept-Encoding|Vary: Accept-Encoding|");
        check_vary("ETag: \"x\"|Content-Length: 1|", "ETag: \"x\"|Content-Length: 1|Vary: Accept-Encoding|");
    }

    /// RFC 9110 section 15.4.5.
    #[test]
    fn a_304_has_the_tag_and_vary_of_its_200() {
        let fields = "Date: d|ETag: \"x\"|Vary: Origin|Content-Length: 5|";
        assert_eq!(
            edited(fields, not_modified),
            "Date: d|ETag: W/\"x\"|Vary: Origin, Accept-Encoding|Content-Length: 5|"
        );
    }

    /// RFC 9110 sections 13.1.1, 13.1.2, 13.1.5 and 8.8.3.2: what a client does with the tag of a coded response.
    #[test]
    fn a_weakened_tag_still_answers_304() {
        let fields = edited("ETag: \"a-1\"|", |out, start| apply(out, start, Coding::Gzip));
        let tag = fields.strip_prefix("ETag: ").and_then(|rest| rest.split('|').next()).expect("a tag").as_bytes();
        let validators = Validators { etag: b"\"a-1\"".as_slice().into(), last_modified: None, len: 100 };
        let outcome = |conditions: Conditions<'_>| evaluate(&conditions, &validators, Method::Get, 64);
        assert_eq!(outcome(Conditions { if_none_match: tag.into(), ..Conditions::default() }), Outcome::NotModified);
        // A range of what was not coded must not be joined to coded bytes.
        let ranged = Conditions { if_range: Some(tag), range: Some(b"bytes=1-2"), ..Conditions::default() };
        assert_eq!(outcome(ranged), Outcome::Full);
    }

    #[test]
    fn a_change_in_a_large_enough_buffer_allocates_nothing() {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"Content-Length: 5\r\nETag: \"x\"\r\nVary: Origin\r\nContent-Type: text/html\r\n");
        let (allocations, ()) = crate::runtime::sys::allocations::count(|| apply(&mut out, 0, Coding::Zstd));
        assert_eq!(allocations, 0);
        assert!(out.ends_with(b"Content-Type: text/html\r\nContent-Encoding: zstd\r\n"));
    }

    fn field() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["Vary", "ETag", "Content-Length", "Accept-Ranges", "Cookie", "etag"]);
        (name, "[ -~]{0,12}").prop_map(|(name, value)| format!("{name}: {value}\r\n"))
    }

    proptest! {
        #[test]
        fn any_bytes_are_edited(mut out in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>()) {
            let start = at.index(out.len() + 1);
            let before = out[..start].to_vec();
            apply(&mut out, start, Coding::Zstd);
            vary_only(&mut out, start);
            not_modified(&mut out, start);
            prop_assert!(out.starts_with(&before));
        }

        /// Whatever the fields: never coded twice, never a strong tag, no length, and Vary said once.
        #[test]
        fn a_coded_response_is_consistent(fields in prop::collection::vec(field(), 0..8)) {
            let mut out = fields.concat().into_bytes();
            apply(&mut out, 0, Coding::Br);
            let candidate = Candidate::of(200, &out);
            prop_assert!(candidate.is_coded && candidate.length.is_none() && !policy().applies(&candidate));
            let varies = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding");
            let vary = lines(&out).filter(|line| line.name.eq_ignore_ascii_case(b"vary"));
            prop_assert!(vary.flat_map(|line| list_elements(line.value)).any(varies));
            for line in lines(&out) {
                prop_assert!(!line.name.eq_ignore_ascii_case(b"etag") || line.value.starts_with(b"W/\""));
            }
            let once = out.clone();
            vary_only(&mut out, 0);
            prop_assert_eq!(out, once);
        }
    }
}
