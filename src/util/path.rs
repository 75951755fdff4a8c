//! Request paths: percent-decoded once, without dot segments, without doubled slashes.
//!
//! In: the path of a request target as sent (before `?`). Out: the bytes that routing matches and that the file tier
//! looks for. Deliberately not here: what the path leads to. Sources: RFC 3986 sections 2.1 and 5.2.4, and nginx's
//! `merge_slashes on`. Where RFC 3986 lets `..` at the top fade away, this refuses it: no honest client sends it.

use memchr::{memchr, memrchr};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// A path after [`normalize`]: begins with `/`; no `//`, no `.` or `..` segment, no control byte. Any other byte may
/// occur, so it need not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    bytes: &'a [u8],
}

impl<'a> Path<'a> {
    /// The decoded bytes, the leading `/` included.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Takes bytes that [`normalize`] once gave, for example on another thread; `None` when they cannot be such.
    pub fn from_normal(bytes: &'a [u8]) -> Option<Path<'a>> {
        let segments = bytes.strip_prefix(b"/")?;
        let (parents, last) = memrchr(b'/', segments).map_or((None, segments), |at| (Some(at), &segments[at + 1..]));
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
        let parents_are_names = parents.is_none_or(|end| segments[..end].split(|&byte| byte == b'/').all(is_name));
        let last_is_fine = last.is_empty() || is_name(last);
        let normal = parents_are_names && last_is_fine && !bytes.iter().any(|&byte| is_control(byte));
        normal.then_some(Path { bytes })
    }

    /// The path names a directory: it ends in `/` (or ended in a dot segment).
    #[inline]
    pub fn is_directory(self) -> bool {
        self.bytes.last() == Some(&b'/')
    }
}

/// Why a path was refused. Always the client's fault, always answered 400; a retry does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/` (for example `*` of OPTIONS, or nothing at all).
    NotAbsolute,
    /// `%` without two hexadecimal digits behind it.
    MalformedEscape,
    /// `%2F`: a slash that is not a separator. Servers behind us may read it as one, so it is refused.
    EncodedSlash,
    /// NUL or another control byte, encoded or not; or a bare `?` or `#`, which cannot be in a path.
    ForbiddenByte,
    /// `..` at the top.
    AboveRoot,
}

impl PathError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        400
    }
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathError::NotAbsolute => "path does not begin with a slash",
            PathError::MalformedEscape => "percent sign without two hexadecimal digits",
            PathError::EncodedSlash => "encoded slash in path",
            PathError::ForbiddenByte => "control byte, bare question mark or number sign in path",
            PathError::AboveRoot => "path climbs above the root",
        })
    }
}

impl std::error::Error for PathError {}

/// Decodes `raw`, the path of a request target, and removes dot segments and doubled slashes.
///
/// `scratch` holds the result when it differs from `raw`; its old content is lost. Nothing is allocated once its
/// capacity has reached the longest path. Escapes are decoded once: `%252e` becomes the text `%2e`.
/// Errors: see [`PathError`].
pub fn normalize<'a>(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Path<'a>, PathError> {
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(raw) {
        return Ok(Path { bytes: raw });
    }
    resolve(raw, scratch)?;
    Ok(Path { bytes: scratch })
}

/// Nothing to decode, to merge, to resolve or to refuse. Says no for names that begin with a dot, which are rare
/// enough to take the long way.
fn is_normal(raw: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in raw {
        if !PLAIN[byte as usize] || (previous == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        previous = byte;
    }
    true
}

/// Bytes that stand for themselves in a path.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = !(is_forbidden(byte as u8) || byte == b'%' as usize);
        byte += 1;
    }
    plain
};

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

const fn is_forbidden(byte: u8) -> bool {
    is_control(byte) || byte == b'?' || byte == b'#'
}

/// Writes the normal form of `raw` to `out`: one `/segment` after the other.
fn resolve(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let mut rest = &raw[1..];
    loop {
        let end = memchr(b'/', rest).unwrap_or(rest.len());
        let start = out.len();
        out.push(b'/');
        decode_segment(&rest[..end], out)?;
        let directory = match &out[start + 1..] {
            b"" | b"." => {
                out.truncate(start);
                true
            }
            b".." => {
                out.truncate(start);
                let parent = memrchr(b'/', out).ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
                true
            }
            _ => false,
        };
        if end == rest.len() {
            if directory {
                out.push(b'/');
            }
            return Ok(());
        }
        rest = &rest[end + 1..];
    }
}

/// Appends `segment`, decoded. It holds no slash, and none comes out of it.
fn decode_segment(mut segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    loop {
        let end = memchr(b'%', segment).unwrap_or(segment.len());
        let (literal, rest) = segment.split_at(end);
        if literal.iter().any(|&byte| is_forbidden(byte)) {
            return Err(PathError::ForbiddenByte);
        }
        out.extend_from_slice(literal);
        let [_, high, low, rest @ ..] = rest else {
            return if rest.is_empty() { Ok(()) } else { Err(PathError::MalformedEscape) };
        };
        match hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low) {
            None => return Err(PathError::MalformedEscape),
            Some(b'/') => return Err(PathError::EncodedSlash),
            Some(byte) if is_control(byte) => return Err(PathError::ForbiddenByte),
            Some(byte) => out.push(byte),
        }
        segment = rest;
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Bytes that [`encode`] escapes: all that are not `pchar` or `/` (RFC 3986 section 3.3). The backslash is among them,
/// which browsers would take for a slash.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Appends `path` to `out`, percent-encoded so that it can stand in a URI as a path.
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    for piece in percent_encode(path, ESCAPED) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Bytes that are neither visible ASCII nor anything a query may hold; the rest of a query is left as it was sent.
const ESCAPED_IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Appends `query`, which is encoded already, to `out`; only bytes that could not stand in a field are escaped.
pub fn encode_query(query: &[u8], out: &mut Vec<u8>) {
    for piece in percent_encode(query, ESCAPED_IN_QUERY) {
        out.extend_from_slice(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::PathError::*;
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str, expect: Result<&str, PathError>) {
        let mut scratch = Vec::new();
        let got =
            normalize(raw.as_bytes(), &mut scratch).map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
        assert_eq!(got.as_deref().map_err(|e| *e), expect, "{raw:?}");
    }

    #[test]
    fn table() {
        check("/", Ok("/"));
        check("/index.html", Ok("/index.html"));
        check("/a/b/", Ok("/a/b/"));
        check("/a//b///", Ok("/a/b/"));
        check("//", Ok("/"));
        check("//evil.example/x", Ok("/evil.example/x"));
        check("/./a/./b", Ok("/a/b"));
        check("/a/.", Ok("/a/"));
        check("/a/..", Ok("/"));
        check("/a/b/../c", Ok("/a/c"));
        check("/a/b/../../", Ok("/"));
        check("/a//../b", Ok("/b"));
        check("/a%20b/%C3%A9", Ok("/a b/é"));
        check("/%61%2E%62", Ok("/a.b"));
        check("/%252e%252e/", Ok("/%2e%2e/"));
        check("/a/%2e%2E/b", Ok("/b"));
        check("/a/.%2e/b", Ok("/b"));
        check("/%2e/b", Ok("/b"));
        check("/...", Ok("/..."));
        check("/..a/b..", Ok("/..a/b.."));
        check("/.well-known/x", Ok("/.well-known/x"));
        check("/%3f%23%25", Ok("/?#%"));
        check("/a\\..\\b", Ok("/a\\..\\b"));
    }

    #[test]
    fn refused() {
        check("", Err(NotAbsolute));
        check("*", Err(NotAbsolute));
        check("a/b", Err(NotAbsolute));
        check("/..", Err(AboveRoot));
        check("/../etc/passwd", Err(AboveRoot));
        check("/%2e%2e/etc/passwd", Err(AboveRoot));
        check("/a/../../b", Err(AboveRoot));
        check("/a/%2e%2e/%2e%2e/b", Err(AboveRoot));
        check("/.//..", Err(AboveRoot));
        check("/a%2fb", Err(EncodedSlash));
        check("/a%2F..%2Fb", Err(EncodedSlash));
        check("/%", Err(MalformedEscape));
        check("/%4", Err(MalformedEscape));
        check("/%zz", Err(MalformedEscape));
        check("/%+1", Err(MalformedEscape));
        check("/%%41", Err(MalformedEscape));
        check("/a%00.html", Err(ForbiddenByte));
        check("/a\0", Err(ForbiddenByte));
        check("/a%0d%0aSet-Cookie:x", Err(ForbiddenByte));
        check("/a\x7f", Err(ForbiddenByte));
        check("/a?b", Err(ForbiddenByte));
        check("/a#b", Err(ForbiddenByte));
        check("/%41/a#b", Err(ForbiddenByte));
    }

    /// What facts about nginx, browsers and servers behind us make dangerous: each is refused, or means a plain name.
    #[test]
    fn tricks_to_leave_the_root() {
        for (raw, expect) in [
            // nginx: 400 as well.
            ("/../x", Err(AboveRoot)),
            ("/a/../../x", Err(AboveRoot)),
            ("/%2e%2e/x", Err(AboveRoot)),
            ("/.%2e/x", Err(AboveRoot)),
            ("/%2e./x", Err(AboveRoot)),
            ("/a/%2e%2e/%2e%2e/x", Err(AboveRoot)),
            ("/a//..//../x", Err(AboveRoot)),
            ("/%00", Err(ForbiddenByte)),
            ("/a.txt%00.png", Err(ForbiddenByte)),
            ("/%2", Err(MalformedEscape)),
            ("/%u002e%u002e/x", Err(MalformedEscape)),
            ("/%g0", Err(MalformedEscape)),
            // nginx decodes them to separators; servers behind may not. Refused, so that nobody disagrees.
            ("/..%2fx", Err(EncodedSlash)),
            ("/%2e%2e%2fx", Err(EncodedSlash)),
            ("/a%2f..%2f..%2fx", Err(EncodedSlash)),
            ("/%2F", Err(EncodedSlash)),
            // Decoded once: what comes out is a name.
            ("/%252e%252e/x", Ok("/%2e%2e/x")),
            ("/%25%32%65/x", Ok("/%2e/x")),
            ("/..%252fx", Ok("/..%2fx")),
            // No separators here.
            ("/..\\x", Ok("/..\\x")),
            ("/..%5cx", Ok("/..\\x")),
            ("/..;/x", Ok("/..;/x")),
            ("/....//x", Ok("/..../x")),
            ("/. ./x", Ok("/. ./x")),
            // Overlong UTF-8 of a dot is two strange bytes, not a dot.
            ("/%c0%ae%c0%ae/x", Ok("/\u{fffd}\u{fffd}\u{fffd}\u{fffd}/x")),
            // Full-width dots are letters.
            ("/%ef%bc%8e%ef%bc%8e/x", Ok("/\u{ff0e}\u{ff0e}/x")),
            ("/a/./b//c/../d", Ok("/a/b/d")),
            ("///", Ok("/")),
        ] {
            check(raw, expect);
        }
    }

    #[test]
    fn a_normal_path_is_known_as_one() {
        for path in ["/", "/a", "/a/", "/a/b.c/...", "/?#%"] {
            assert!(Path::from_normal(path.as_bytes()).is_some(), "{path}");
        }
        for path in ["", "a", "//", "/a//", "/a//b", "/.", "/..", "/../a", "/a/./b", "/a/..", "/a\0"] {
            assert!(Path::from_normal(path.as_bytes()).is_none(), "{path:?}");
        }
    }

    #[test]
    fn a_normal_path_is_returned_as_it_is() {
        let raw = b"/assets/app-4f1c.js";
        let mut scratch = Vec::new();
        let path = normalize(raw, &mut scratch).expect("plain");
        assert_eq!(path.as_bytes().as_ptr(), raw.as_ptr());
    }

    #[test]
    fn the_trailing_slash_is_kept() {
        for (raw, directory) in [("/a", false), ("/a/", true), ("/a/.", true), ("/a/b/..", true), ("/a/b/../c", false)]
        {
            assert_eq!(normalize(raw.as_bytes(), &mut Vec::new()).map(Path::is_directory), Ok(directory), "{raw}");
        }
    }

    fn assert_normal(path: &[u8]) {
        assert_eq!(path[0], b'/');
        assert!(!path.windows(2).any(|pair| pair == b"//"));
        assert!(!path.iter().any(|&byte| is_control(byte)));
        assert!(!path.split(|&byte| byte == b'/').any(|segment| segment == b"." || segment == b".."));
    }

    /// Text in which the bytes that matter are frequent.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"/".to_vec()),
            Just(b".".to_vec()),
            Just(b"..".to_vec()),
            Just(b"%2e".to_vec()),
            Just(b"%2F".to_vec()),
            Just(b"%25".to_vec()),
            Just(b"%".to_vec()),
            Just(b"%00".to_vec()),
            Just(b"a".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_its_promises(tail in tricky()) {
            let raw = [b"/".as_slice(), &tail].concat();
            let mut scratch = Vec::new();
            if let Ok(path) = normalize(&raw, &mut scratch) {
                assert_normal(path.as_bytes());
                prop_assert_eq!(Path::from_normal(path.as_bytes()), Some(path));
                let mut encoded = Vec::new();
                encode(path.as_bytes(), &mut encoded);
                let mut second = Vec::new();
                let again = normalize(&encoded, &mut second).expect("what we encode is well-formed");
                prop_assert_eq!(again.as_bytes(), path.as_bytes());
            }
        }

        #[test]
        fn the_short_way_and_the_long_way_agree(tail in tricky()) {
            let raw = [b"/".as_slice(), &tail].concat();
            if is_normal(&raw) {
                let mut out = Vec::new();
                prop_assert_eq!(resolve(&raw, &mut out), Ok(()));
                prop_assert_eq!(out, raw);
            }
        }
    }
}
