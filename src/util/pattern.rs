//! Regular expressions of the config file: over bytes, in linear time, within a size limit.
//!
//! Bytes and not characters, as nginx takes them: a path need not be UTF-8, and a byte that is none must not slip past
//! a `.` that guards something. Look-around and backreferences do not exist, because they take exponential time.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

/// Longest expression, bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Size of a compiled expression, bytes. Together with the length of a path it bounds the time of a match.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Memory for the states of one expression that are built while matching, bytes.
const STATES_BYTES_MAX: usize = 512 * 1024;

/// Most captures of an expression: what `$1` to `$9` can name.
pub const CAPTURES_MAX: usize = 9;

/// A compiled expression. Equal to another when the text is.
///
/// A clone matches with memory of its own: give each thread one.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles `text`. Errors: what is wrong with it, one line.
    pub fn new(text: &str) -> Result<Pattern, String> {
        Pattern::build(text, false)
    }

    /// As [`Pattern::new`], for names whose case does not count.
    pub fn new_caseless(text: &str) -> Result<Pattern, String> {
        Pattern::build(text, true)
    }

    fn build(text: &str, caseless: bool) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("the expression is empty".into());
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("the expression is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .case_insensitive(caseless)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(STATES_BYTES_MAX)
            .build()
            .map_err(|error| advice(&error))?;
        let captures = regex.captures_len() - 1;
        if captures > CAPTURES_MAX {
            return Err(format!(
                "it has {captures} captures, at most {CAPTURES_MAX} can be named: write `(?:…)` for groups"
            ));
        }
        Ok(Pattern { text: text.into(), regex })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches somewhere in `bytes`.
    #[inline]
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// Memory for [`Pattern::captures`].
    pub fn slots(&self) -> CaptureLocations {
        self.regex.capture_locations()
    }

    /// As [`Pattern::is_match`], with the places of the captures put into `slots`.
    pub fn captures(&self, bytes: &[u8], slots: &mut CaptureLocations) -> bool {
        self.regex.captures_read(slots, bytes).is_some()
    }

    /// `bytes` with everything it matches replaced by `with`, in which `${1}` and `${name}` are captures; `None`: it
    /// matches nothing.
    pub fn replace(&self, bytes: &[u8], with: &str) -> Option<Vec<u8>> {
        match self.regex.replace_all(bytes, with.as_bytes()) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(replaced) => Some(replaced),
        }
    }

    /// The first name in `with` ([`Pattern::replace`]) that is no capture.
    pub fn unknown_capture<'a>(&self, with: &'a str) -> Option<&'a str> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut rest = with;
        while let Some((_, behind)) = rest.split_once('$') {
            rest = behind;
            let name = match behind.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
                Some((name, _)) => name,
                None => &behind[..behind.find(|c| !is_name(c)).unwrap_or(behind.len())],
            };
            if let Some(behind) = behind.strip_prefix('$') {
                rest = behind;
                continue;
            }
            let number = name.parse::<usize>().ok().filter(|number| *number < self.regex.captures_len());
            if !name.is_empty() && number.is_none() && !self.regex.capture_names().flatten().any(|known| known == name)
            {
                return Some(name);
            }
        }
        None
    }

    /// Names of the captures by number, `$1` first.
    pub fn capture_names(&self) -> Vec<Option<String>> {
        self.regex.capture_names().skip(1).map(|name| name.map(str::to_owned)).collect()
    }
}

/// The crate draws a picture over several lines; the last one says what is wrong.
fn advice(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            "the expression is too large: repeat less, or match in several routes".into()
        }
        error => {
            let text = error.to_string();
            let line = text.lines().rev().find_map(|line| line.trim().strip_prefix("error: "));
            line.unwrap_or("this is no regular expression").into()
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_bytes_anywhere_unless_anchored() {
        let check = |text: &str, path: &[u8], expect: bool| {
            assert_eq!(Pattern::new(text).unwrap().is_match(path), expect, "{text}");
        };
        check("\\.php$", b"/a.php", true);
        check("\\.php$", b"/a.PHP", false);
        check("(?i)\\.php$", b"/a.PHP", true);
        check("^/a", b"/b/a", false);
        check("^/admin/.*x$", b"/admin/\xff\xfex", true);
        check("^/ä+$", "/ä".as_bytes(), true);
        assert!(Pattern::new_caseless("^www\\d+\\.").unwrap().is_match(b"WWW7.example"));
    }

    #[test]
    fn captures_have_places_and_names() {
        let pattern = Pattern::new("^/(\\d+)/(?<name>[^/]*)(/.*)?$").unwrap();
        assert_eq!(pattern.capture_names(), [None, Some("name".into()), None]);
        let mut slots = pattern.slots();
        assert!(pattern.captures(b"/12/ab", &mut slots));
        assert_eq!((slots.get(1), slots.get(2), slots.get(3)), (Some((1, 3)), Some((4, 6)), None));
        assert!(!pattern.captures(b"/x", &mut slots));
    }

    #[test]
    fn replacements_name_captures() {
        let pattern = Pattern::new("(\\w+)=(?<value>\\w+)").unwrap();
        let replaced =
            |text: &str, with: &str| pattern.replace(text.as_bytes(), with).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(replaced("a=1, b=2", "${value}=${1}$$").as_deref(), Some("1=a$, 2=b$"));
        assert_eq!(replaced("nothing", "x"), None);
        for (with, unknown) in
            [("$1 $2 $0 ${value} $$3 $", None), ("$1_x", Some("1_x")), ("$3", Some("3")), ("a ${other}", Some("other"))]
        {
            assert_eq!(pattern.unknown_capture(with), unknown, "{with}");
        }
    }

    #[test]
    fn what_is_refused_is_told_in_one_line() {
        let check = |text: &str, expect: &str| {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.contains(expect) && !error.contains('\n'), "{text}: {error}");
        };
        check("", "empty");
        check("(", "unclosed group");
        check("a(?=b)", "look-around");
        check("(a)\\1", "backreferences are not supported");
        check("[ä]", "Unicode not allowed here");
        check("((a{1000}){1000}){1000}", "too large");
        check("(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)", "10 captures");
        check(&"a".repeat(5000), "longer than 4096 bytes");
    }
}
