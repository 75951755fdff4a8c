//! Properties of paths and templates that hold for any input, whatever it says. Targets of `fuzz/` call them with coverage
//! feedback; the tests below run them on every `cargo test`. Each function panics when a property does not hold.

use super::path::{Path, encode, normalize};
use super::template::{Encoding, Scope, Template, Variable, Variables};

/// A path is decoded and resolved as a plain reader does it, segment by segment; what is accepted is normal, and comes back
/// the same when it is encoded and read again.
pub fn path(input: &[u8]) {
    let mut scratch = Vec::new();
    let found = normalize(input, &mut scratch).map(Path::as_bytes);
    let expected = plain_path(input);
    assert_eq!(found.ok(), expected.as_deref());
    let Ok(normal) = found else { return };
    assert_eq!(Path::from_normal(normal).map(Path::as_bytes), Some(normal));
    let mut encoded = Vec::new();
    encode(normal, &mut encoded);
    assert!(encoded.iter().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(normalize(&encoded, &mut Vec::new()).map(|path| path.as_bytes().to_vec()), Ok(normal.to_vec()));
}

fn plain_path(raw: &[u8]) -> Option<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut is_directory = false;
    for raw in raw.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
        let segment = plain_segment(raw)?;
        is_directory = matches!(&segment[..], b"" | b"." | b"..");
        match &segment[..] {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    let mut path: Vec<u8> = segments.iter().flat_map(|segment| [b"/", &segment[..]].concat()).collect();
    if is_directory || path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

fn plain_segment(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut segment = Vec::new();
    while let [first, rest @ ..] = raw {
        let byte = match first {
            b'%' => {
                let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                raw = &rest[2..];
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|&byte| byte != b'/')?
            }
            b'?' | b'#' => return None,
            _ => {
                raw = rest;
                *first
            }
        };
        segment.push(Some(byte).filter(|byte| !byte.is_ascii_control())?);
    }
    Some(segment)
}

/// Every variable is worth the same bytes.
struct Same<'a>(&'a [u8]);

impl Variables for Same<'_> {
    fn put(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// A template compiles or says where it is wrong, and no value breaks out of the text around it. The first line of the input
/// is the template, the rest is what its variables are worth.
pub fn template(input: &[u8]) {
    let mut parts = input.splitn(2, |&byte| byte == b'\n');
    let (text, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    let captures = [None, Some("name".to_owned())];
    let template = match Template::parse(text, Scope { captures: &captures, answer: true, ..Scope::default() }) {
        Ok(template) => template,
        Err(mistakes) => {
            assert!(!mistakes.is_empty() && mistakes.is_sorted_by_key(|mistake| mistake.at.start));
            assert!(mistakes.iter().all(|mistake| text.get(mistake.at.clone()).is_some()));
            return;
        }
    };
    let put = |encoding, value: &[u8]| {
        let mut out = b"before".to_vec();
        template.put(encoding, &Same(value), &mut out);
        assert!(out.starts_with(b"before"), "what stood there stays");
        out.split_off(b"before".len())
    };
    let count = |text: &[u8], is: fn(&u8) -> bool| text.iter().filter(|byte| is(byte)).count();
    let literal = put(Encoding::Text, b"");
    if let Some(constant) = template.constant() {
        assert_eq!(literal, constant.as_bytes());
    }

    let is_line_end: fn(&u8) -> bool = |byte| matches!(byte, b'\r' | b'\n' | 0);
    assert_eq!(count(&put(Encoding::Field, value), is_line_end), count(&literal, is_line_end), "no further line");
    let is_no_url: fn(&u8) -> bool = |byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}#".contains(byte);
    let url = put(Encoding::Url, value);
    assert_eq!(count(&url, is_no_url), count(&literal, is_no_url), "{}", url.escape_ascii());
    assert!(!url.starts_with(b"//") || template.start().starts_with("//"), "no value makes a host");
    let is_markup: fn(&u8) -> bool = |byte| b"<>\"'".contains(byte);
    assert_eq!(count(&put(Encoding::Html, value), is_markup), count(&literal, is_markup), "no further element");
    if !literal.iter().any(|byte| byte.is_ascii_control() || b"\"\\".contains(byte)) {
        let json = [b"\"", &put(Encoding::Json, value)[..], b"\""].concat();
        assert!(serde_json::from_slice::<String>(&json).is_ok(), "{}", json.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn paths() {
        fuzz(
            "path",
            path,
            &["/", "//", ".", "..", "/../", "%2e", "%2F", "%00", "%", "%4", "a", "?", "#", "\\", "\u{e9}", "%c3%a9"],
        );
    }

    #[test]
    fn templates() {
        let pieces = [
            "$",
            "${",
            "}",
            "$$",
            "$host",
            "$path",
            "$query",
            "$1",
            "$name",
            "$http_x_y",
            "$status",
            "\n",
            "\r\n",
            "//",
            "/",
            "https://",
            "\"",
            "<",
            "\\",
            "\0",
            "\u{e9}",
            "#",
            "?",
        ];
        fuzz("url_template", template, &pieces);
    }
}
