//! Which responses are coded, and how: the compiled `compress` of the config. Pure.

use super::fields::{Line, lines};
use super::{Accepted, Coding, choose};
use crate::http::h1::{FieldName, list_elements};

/// What the config compresses when it does not name types, with commas between: what nginx users list, and what later
/// formats for text are called. Nothing that is compressed in itself (woff2, jpeg, zip), and no `text/event-stream`:
/// each of its responses would keep an encoder for hours.
pub const DEFAULT_TYPES: &str = "\
    text/html,text/css,text/plain,text/javascript,text/xml,text/csv,text/markdown,text/vtt,text/calendar,\
    application/javascript,application/x-javascript,application/json,application/ld+json,\
    application/problem+json,application/geo+json,application/manifest+json,application/xml,\
    application/xhtml+xml,application/rss+xml,application/atom+xml,application/wasm,\
    application/vnd.ms-fontobject,image/svg+xml,image/x-icon,image/vnd.microsoft.icon,image/bmp,font/ttf,\
    font/otf";

/// How hard each coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Brotli, 1 to 6.
    pub br: u8,
    /// Zstandard, 1 to 9.
    pub zstd: u8,
    /// Gzip, 1 to 9.
    pub gzip: u8,
}

/// The compiled `compress` of a place in the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is offered, in order of preference. Not empty, no coding twice.
    pub codings: Vec<Coding>,
    /// Media types that are coded.
    pub types: Vec<TypePattern>,
    /// Bytes of the smallest body that is coded. A body of unknown length counts as large.
    pub bytes_min: u64,
    /// Levels by coding.
    pub levels: Levels,
    /// Bytes of the largest file whose coded form is kept.
    pub cache_file_bytes_max: u64,
}

impl Policy {
    /// Whether a response may be coded, for a client that takes a coding. HEAD counts as GET, so that its fields are
    /// the same (RFC 9110 section 9.3.2).
    pub fn applies(&self, response: &Candidate<'_>) -> bool {
        // 1xx, 204 and 304 have no body, 205 an empty one; the ranges of 206 are those of what was not coded.
        let has_whole_body = response.status >= 200 && !matches!(response.status, 204 | 205 | 206 | 304);
        has_whole_body
            && response.length.is_none_or(|bytes| bytes >= self.bytes_min.max(1))
            && !response.is_coded
            && !response.no_transform
            && !response.has_content_range
            && !response.has_digest
            && response.content_type.is_some_and(|value| self.has_type(value))
    }

    /// The coding for a client; `None`: it gets the body as it is, with [`super::vary_only`].
    #[inline]
    pub fn choose(&self, accepted: Accepted) -> Option<Coding> {
        choose(accepted, &self.codings)
    }

    /// The level for `coding`.
    #[inline]
    pub fn level(&self, coding: Coding) -> u8 {
        match coding {
            Coding::Br => self.levels.br,
            Coding::Zstd => self.levels.zstd,
            Coding::Gzip => self.levels.gzip,
        }
    }

    fn has_type(&self, content_type: &[u8]) -> bool {
        self.types.iter().any(|pattern| pattern.is_of(content_type))
    }
}

/// A media type that is coded, or all of a top-level type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern {
    /// Lower case: `text/html`, or `text/` for `text/*`.
    text: Box<str>,
}

impl TypePattern {
    /// Reads `type/subtype` or `type/*`, without parameters. `None`: it is neither.
    pub fn parse(text: &str) -> Option<TypePattern> {
        // RFC 6838 section 4.2.
        let is_name = |name: &str| {
            let mark = |byte: u8| b"!#$&-^_.+".contains(&byte);
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
        };
        let (kind, subtype) = text.split_once('/')?;
        if !is_name(kind) {
            return None;
        }
        let pattern = match subtype {
            "*" => &text[..text.len() - 1],
            _ if is_name(subtype) => text,
            _ => return None,
        };
        Some(TypePattern { text: pattern.to_ascii_lowercase().into() })
    }

    /// Whether the value of a Content-Type field is of this type.
    pub fn is_of(&self, content_type: &[u8]) -> bool {
        self.matches(essence(content_type))
    }

    /// `essence` is a media type without parameters, in any case of letters.
    fn matches(&self, essence: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match text.last() {
            Some(b'/') => essence.len() > text.len() && essence[..text.len()].eq_ignore_ascii_case(text),
            _ => essence.eq_ignore_ascii_case(text),
        }
    }
}

/// A media type without its parameters (RFC 9110 section 8.3.1).
fn essence(content_type: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

/// What decides whether a response may be coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Status code.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// Bytes of the body; `None`: not known.
    pub length: Option<u64>,
    /// It has Content-Encoding already.
    pub is_coded: bool,
    /// Cache-Control has `no-transform` (RFC 9111 section 5.2.2.6, RFC 9110 section 7.7).
    pub no_transform: bool,
    /// It has Content-Range.
    pub has_content_range: bool,
    /// It has a digest of its bytes (RFC 9530; Content-MD5 and Digest of old), which a coding would make wrong.
    pub has_digest: bool,
}

impl<'a> Candidate<'a> {
    /// Reads the fields of a response: lines `Name: value\r\n`, without the empty line at the end.
    ///
    /// A Content-Length that is no number, or says different things, counts as not known.
    pub fn of(status: u16, fields: &'a [u8]) -> Candidate<'a> {
        let mut candidate = Candidate { status, ..Candidate::default() };
        let mut lengths = Lengths::None;
        for Line { name, value } in lines(fields) {
            match FieldName::of(name) {
                FieldName::ContentType => candidate.content_type = Some(value),
                FieldName::ContentLength => lengths.add(value),
                FieldName::Other => candidate.note_other(name, value),
                _ => {}
            }
        }
        candidate.length = match lengths {
            Lengths::Agree(bytes) => Some(bytes),
            Lengths::None | Lengths::Differ => None,
        };
        candidate
    }

    fn note_other(&mut self, name: &[u8], value: &[u8]) {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            16 if is("content-encoding") => self.is_coded = true,
            13 if is("cache-control") => self.no_transform |= has_no_transform(value),
            13 if is("content-range") => self.has_content_range = true,
            6 if is("digest") => self.has_digest = true,
            11 if is("repr-digest") || is("content-md5") => self.has_digest = true,
            14 if is("content-digest") => self.has_digest = true,
            _ => {}
        }
    }

    /// The body must go on at once after each piece that comes: server-sent events, which pause for long. Call
    /// [`super::Encoder::flush`] behind every write then.
    pub fn flushes_each_piece(&self) -> bool {
        self.content_type.is_some_and(|value| essence(value).eq_ignore_ascii_case(b"text/event-stream"))
    }
}

/// What all the lines of Content-Length say together.
enum Lengths {
    None,
    Agree(u64),
    Differ,
}

impl Lengths {
    fn add(&mut self, value: &[u8]) {
        let digits = value.iter().all(u8::is_ascii_digit);
        let bytes = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        *self = match (&self, bytes) {
            (Lengths::None, Some(bytes)) => Lengths::Agree(bytes),
            (Lengths::Agree(earlier), Some(bytes)) if *earlier == bytes => Lengths::Agree(bytes),
            _ => Lengths::Differ,
        };
    }
}

/// `no-transform` as a directive of its own. A list that quotes it, as `private="no-transform"`, is not told apart where
/// the quoted part has commas: that only leaves a response as it is.
fn has_no_transform(value: &[u8]) -> bool {
    list_elements(value).any(|directive| {
        let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default();
        name.trim_ascii_end().eq_ignore_ascii_case(b"no-transform")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::http::coding) fn policy() -> Policy {
        Policy {
            codings: Coding::ALL.to_vec(),
            types: DEFAULT_TYPES.split(',').filter_map(TypePattern::parse).collect(),
            bytes_min: 1024,
            levels: Levels { br: 4, zstd: 3, gzip: 5 },
            cache_file_bytes_max: 1 << 20,
        }
    }

    fn html() -> Candidate<'static> {
        Candidate { status: 200, content_type: Some(b"text/html"), length: Some(5000), ..Candidate::default() }
    }

    #[track_caller]
    fn check(response: Candidate<'_>, expect: bool) {
        assert_eq!(policy().applies(&response), expect, "{response:?}");
    }

    #[test]
    fn bodies_of_text_are_coded() {
        for content_type in
            ["text/html", "TEXT/HTML; charset=utf-8", "application/json;charset=utf-8", "image/svg+xml ; a=b"]
        {
            check(Candidate { content_type: Some(content_type.as_bytes()), ..html() }, true);
        }
        for content_type in [
            "image/png",
            "font/woff2",
            "text/event-stream",
            "text/htmlx",
            "text/htm",
            "text/",
            "application/zip",
            "",
            ";",
        ] {
            check(Candidate { content_type: Some(content_type.as_bytes()), ..html() }, false);
        }
        check(Candidate { content_type: None, ..html() }, false);
    }

    #[test]
    fn small_bodies_are_not_coded() {
        check(Candidate { length: Some(1023), ..html() }, false);
        check(Candidate { length: Some(1024), ..html() }, true);
        check(Candidate { length: None, ..html() }, true);
        let all = Policy { bytes_min: 0, ..policy() };
        assert!(!all.applies(&Candidate { length: Some(0), ..html() }), "an empty body would grow");
        assert!(all.applies(&Candidate { length: Some(1), ..html() }));
    }

    /// RFC 9110 sections 15.2, 15.3.5 to 15.3.7, 15.4.5.
    #[test]
    fn statuses_without_a_whole_body_are_not_coded() {
        for status in [0, 100, 101, 103, 204, 205, 206, 304] {
            check(Candidate { status, ..html() }, false);
        }
        for status in [200, 201, 203, 301, 400, 404, 500, 503] {
            check(Candidate { status, ..html() }, true);
        }
    }

    #[test]
    fn what_must_stay_as_it_is_stays() {
        check(Candidate { is_coded: true, ..html() }, false);
        check(Candidate { no_transform: true, ..html() }, false); // RFC 9110 section 7.7
        check(Candidate { has_content_range: true, ..html() }, false);
        check(Candidate { has_digest: true, ..html() }, false); // RFC 9530
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, essence: &str| {
            TypePattern::parse(pattern).is_some_and(|pattern| pattern.matches(essence.as_bytes()))
        };
        assert!(matches("text/*", "text/x") && matches("Text/*", "TEXT/html") && matches("a/b.c+d", "a/B.C+D"));
        assert!(!matches("text/*", "text/") && !matches("text/*", "textual/x") && !matches("text/x", "text/xy"));
        for wrong in
            ["", "text", "text/", "/html", "*", "*/*", "text/h*", "text/html; a", "text /html", "a/b/c", "a/-b"]
        {
            assert_eq!(TypePattern::parse(wrong), None, "{wrong}");
        }
        assert_eq!(policy().types.len(), DEFAULT_TYPES.split(',').count());
    }

    #[test]
    fn fields_are_read() {
        let fields =
            b"Content-Type: text/css\r\ncontent-length: 12\r\nCACHE-CONTROL: public, max-age=3\r\nEtag: \"x\"\r\n";
        let plain =
            Candidate { status: 200, content_type: Some(b"text/css"), length: Some(12), ..Candidate::default() };
        assert_eq!(Candidate::of(200, fields), plain);
        let is = |fields: &str, told: fn(&Candidate<'_>) -> bool| told(&Candidate::of(200, fields.as_bytes()));
        assert!(is("Content-Encoding: br\r\n", |candidate| candidate.is_coded));
        assert!(is("content-range: bytes 0-1/2\r\n", |candidate| candidate.has_content_range));
        for digest in ["Repr-Digest", "Content-Digest", "Content-MD5", "Digest"] {
            assert!(is(&format!("{digest}: x\r\n"), |candidate| candidate.has_digest), "{digest}");
        }
        for (value, expect) in [
            ("no-transform", true),
            ("private, NO-TRANSFORM ,x", true),
            ("no-transform=1", true),
            ("no-transforms", false),
            ("x-no-transform", false),
            ("private=\"no-transform\"", false),
        ] {
            assert_eq!(
                is(&format!("Cache-Control: {value}\r\n"), |candidate| candidate.no_transform),
                expect,
                "{value}"
            );
        }
        assert!(is("Cache-Control: no-transform\r\nCache-Control: public\r\n", |candidate| candidate.no_transform));
    }

    #[test]
    fn doubtful_lengths_count_as_unknown() {
        let length = |fields: &str| Candidate::of(200, fields.as_bytes()).length;
        assert_eq!(length("Content-Length: 7\r\nContent-Length: 7\r\n"), Some(7));
        for fields in [
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: \r\n",
            "Content-Length: +7\r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            assert_eq!(length(fields), None, "{fields}");
        }
    }

    #[test]
    fn event_streams_are_flushed_piece_by_piece() {
        let flushes = |content_type: &'static str| {
            Candidate { content_type: Some(content_type.as_bytes()), ..html() }.flushes_each_piece()
        };
        assert!(flushes("text/event-stream") && flushes("Text/Event-Stream; charset=utf-8"));
        assert!(!flushes("text/html"));
    }

    #[test]
    fn a_decision_allocates_nothing() {
        let policy = policy();
        let fields = b"Content-Type: application/json\r\nContent-Length: 5000\r\nCache-Control: no-cache, x=y\r\n";
        let (allocations, applies) =
            crate::runtime::sys::allocations::count(|| policy.applies(&Candidate::of(200, fields)));
        assert_eq!((allocations, applies), (0, true));
    }

    proptest! {
        #[test]
        fn any_fields_are_read(fields in prop::collection::vec(any::<u8>(), 0..200), status in any::<u16>()) {
            let candidate = Candidate::of(status, &fields);
            policy().applies(&candidate);
            candidate.flushes_each_piece();
        }

        #[test]
        fn a_pattern_matches_what_it_was_read_from(text in "[a-z][a-z+.-]{0,8}/[a-z][a-z+.-]{0,8}") {
            let pattern = TypePattern::parse(&text).expect("a media type");
            prop_assert!(pattern.matches(text.to_uppercase().as_bytes()));
            let longer = text + "x";
            prop_assert!(!pattern.matches(longer.as_bytes()));
        }
    }
}
