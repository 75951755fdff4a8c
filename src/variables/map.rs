//! Text → place in a table, in the order of nginx's `map`.

use std::fmt;

use crate::util::captures::Captures;
use crate::util::matcher::Matcher;
use crate::util::names::{Name, Names};
use crate::util::pattern::Pattern;
use crate::util::template::Template;

/// What a text is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapKey {
    /// The whole text, in lower case: case does not count.
    Exact(String),
    /// `*.example.org`, kept as `.example.org`: what ends so and is longer.
    Suffix(String),
    /// `.example.org`: the same, and `example.org` itself.
    Below(String),
    /// `www.example.*`, kept as `www.example.`: what begins so and is longer.
    Prefix(String),
    /// `~^a` or, without regard to case, `~*^a`.
    Regex(Pattern),
}

/// Why a text cannot be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapKeyError {
    /// The expression behind `~` is none.
    Regex(String),
    /// A `*` somewhere else than at an end, beside a dot.
    Wildcard(String),
}

impl fmt::Display for MapKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapKeyError::Regex(label) => f.write_str(label),
            MapKeyError::Wildcard(text) => write!(
                f,
                "`{text}` is no host name: a `*` stands at the begin or the end, beside a dot, as in \"*.example.org\" or \
                 \"www.example.*\""
            ),
        }
    }
}

impl MapKey {
    /// Reads a key as nginx does: `~` begins an expression, `~*` one without regard to case; a `\` in front of anything
    /// else is taken away. Wildcards are for host names alone.
    pub fn parse(text: &str, hostnames: bool) -> Result<MapKey, MapKeyError> {
        if let Some(expression) = text.strip_prefix('~') {
            let pattern = match expression.strip_prefix('*') {
                Some(expression) => Pattern::new_caseless(expression),
                None => Pattern::new(expression),
            };
            return pattern.map(MapKey::Regex).map_err(MapKeyError::Regex);
        }
        let text = text.strip_prefix('\\').unwrap_or(text).to_ascii_lowercase();
        if !hostnames {
            return Ok(MapKey::Exact(text));
        }
        let key = if let Some(suffix) = text.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) {
            MapKey::Suffix(suffix.into())
        } else if let Some(prefix) = text.strip_suffix('*').filter(|prefix| prefix.ends_with('.')) {
            MapKey::Prefix(prefix.into())
        } else if text.starts_with('.') {
            MapKey::Below(text)
        } else {
            MapKey::Exact(text)
        };
        let (MapKey::Exact(name) | MapKey::Suffix(name) | MapKey::Below(name) | MapKey::Prefix(name)) = &key else {
            return Ok(key);
        };
        if name.contains('*') || name == "." { Err(MapKeyError::Wildcard(name.clone())) } else { Ok(key) }
    }
}

/// The table of one `map`, for one thread.
#[derive(Debug)]
pub(super) struct Map {
    hostnames: bool,
    names: Names,
    /// In order of writing, with their places in the table.
    expressions: Vec<(Matcher, usize)>,
}

impl Map {
    pub(super) fn new(hostnames: bool, values: &[(MapKey, Template)]) -> Map {
        let (mut names, mut expressions) = (Vec::new(), Vec::new());
        for (at, (key, result)) in values.iter().enumerate() {
            match key {
                MapKey::Exact(text) => names.push((Name::Exact(text), at)),
                MapKey::Suffix(suffix) => names.push((Name::Suffix(suffix), at)),
                MapKey::Below(suffix) => {
                    names.extend([(Name::Exact(&suffix[1..]), at), (Name::Suffix(suffix), at)]);
                }
                MapKey::Prefix(prefix) => names.push((Name::Prefix(prefix), at)),
                MapKey::Regex(pattern) => expressions.push((Matcher::new(pattern, result.uses_captures()), at)),
            }
        }
        Map { hostnames, names: Names::new(names.into_iter()), expressions }
    }

    /// The place of the key that fits `text[start..]`, and its captures. `text` comes back as it was.
    pub(super) fn find(&self, text: &mut Vec<u8>, start: usize) -> Option<(usize, Captures)> {
        let end = text.len();
        let has_dot = self.hostnames && text[start..].ends_with(b".");
        let searched = start..end - usize::from(has_dot);
        if !self.names.is_empty() {
            text.extend_from_within(searched.clone());
            text[end..].make_ascii_lowercase();
            let found = self.names.find(&text[end..]);
            text.truncate(end);
            if let Some(at) = found {
                return Some((at, Captures::NONE));
            }
        }
        self.expressions.iter().find_map(|(matcher, at)| Some((*at, matcher.find(&text[searched.clone()])?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_nginx_reads_them() {
        let check = |text: &str, hostnames: bool, expect: Result<MapKey, &str>| {
            assert_eq!(
                MapKey::parse(text, hostnames).map_err(|e| e.to_string()),
                expect.map_err(str::to_owned),
                "{text}"
            );
        };
        let exact = |text: &str| Ok(MapKey::Exact(text.into()));
        check("ABC", false, exact("abc"));
        check("", false, exact(""));
        check("*.example.org", false, exact("*.example.org"));
        check("\\~x", false, exact("~x"));
        check("\\\\x", false, exact("\\x"));
        check("~^a", false, Ok(MapKey::Regex(Pattern::new("^a").unwrap())));
        check("~*^a", false, Ok(MapKey::Regex(Pattern::new_caseless("^a").unwrap())));
        check("~", false, Err("the expression is empty"));
        check("*.Example.org", true, Ok(MapKey::Suffix(".example.org".into())));
        check(".example.org", true, Ok(MapKey::Below(".example.org".into())));
        check("www.example.*", true, Ok(MapKey::Prefix("www.example.".into())));
        let wrong = |text: &str| MapKeyError::Wildcard(text.into()).to_string();
        check("a*.example.org", true, Err(&wrong("a*.example.org")));
        check("*example.org", true, Err(&wrong("*example.org")));
        check("*", true, Err(&wrong("*")));
        check(".", true, Err(&wrong(".")));
    }
}
