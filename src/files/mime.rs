//! Media type of a file by the extension of its name. Called once when a file is opened; the result is kept with it.

use crate::config::model::MediaTypes;

/// Types that `mime_guess` has differently from what browsers and nginx users expect.
const PREFERRED: &[(&str, &str)] = &[
    ("js", "text/javascript"), // RFC 9239 section 6
    ("mjs", "text/javascript"),
    ("map", "application/json"), // source maps
    ("ts", "video/mp2t"),        // nginx: a piece of an HLS stream
    ("ico", "image/x-icon"),
];

/// Content-Type, without and with its charset parameter kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mime<'a> {
    /// `type/subtype`.
    pub essence: &'a str,
    /// Value of the charset parameter; empty: none.
    pub charset: &'a str,
}

impl<'a> Mime<'a> {
    /// The type of a file called `name` (a path will do).
    pub fn of(name: &[u8], media: &'a MediaTypes) -> Mime<'a> {
        let essence = extension(name).and_then(|extension| by_extension(extension, media));
        let essence = essence.unwrap_or(&media.default_type);
        let has_charset = media.charset_types.iter().any(|pattern| matches(pattern, essence));
        Mime { essence, charset: if has_charset { &media.charset } else { "" } }
    }

    /// Appends the field value.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.essence.as_bytes());
        if !self.charset.is_empty() {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(self.charset.as_bytes());
        }
    }
}

/// What follows the last dot of the last segment; `None` for `.name` and `name`.
fn extension(name: &[u8]) -> Option<&str> {
    let file = memchr::memrchr(b'/', name).map_or(name, |at| &name[at + 1..]);
    let dot = memchr::memrchr(b'.', file).filter(|&at| at > 0)?;
    std::str::from_utf8(&file[dot + 1..]).ok()
}

/// The operator's own types first.
fn by_extension<'a>(extension: &str, media: &'a MediaTypes) -> Option<&'a str> {
    let is = |name: &str| extension.eq_ignore_ascii_case(name);
    let own = media.types.iter().find(|(name, _)| is(name)).map(|(_, mime)| mime.as_str());
    own.or_else(|| PREFERRED.iter().find(|(name, _)| is(name)).map(|(_, mime)| *mime))
        .or_else(|| mime_guess::from_ext(extension).first_raw())
}

/// `pattern` is a type, `type/*` or `*+suffix`. Types are compared without regard to case (RFC 9110 section 8.3.1).
fn matches(pattern: &str, essence: &str) -> bool {
    let (pattern, essence) = (pattern.as_bytes(), essence.as_bytes());
    if let Some(suffix) = pattern.strip_prefix(b"*") {
        let at = essence.len().saturating_sub(suffix.len());
        return essence[at..].eq_ignore_ascii_case(suffix);
    }
    match pattern.strip_suffix(b"*") {
        Some(main) => essence.get(..main.len()).is_some_and(|start| start.eq_ignore_ascii_case(main)),
        None => essence.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> MediaTypes {
        crate::config::Defaults::default().files("/".as_ref()).media
    }

    fn check(name: &str, expect: &str) {
        check_with(&defaults(), name, expect);
    }

    fn check_with(media: &MediaTypes, name: &str, expect: &str) {
        let mut out = Vec::new();
        Mime::of(name.as_bytes(), media).write(&mut out);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expect), "{name}");
    }

    #[test]
    fn table() {
        check("index.html", "text/html; charset=utf-8");
        check("a/b.min.css", "text/css; charset=utf-8");
        check("app.JS", "text/javascript; charset=utf-8");
        check("app.mjs", "text/javascript; charset=utf-8");
        check("data.json", "application/json; charset=utf-8");
        check("site.webmanifest", "application/manifest+json; charset=utf-8");
        check("logo.svg", "image/svg+xml; charset=utf-8");
        check("feed.xml", "text/xml; charset=utf-8");
        check("robots.txt", "text/plain; charset=utf-8");
        check("photo.jpg", "image/jpeg");
        check("font.woff2", "font/woff2");
        check("code.wasm", "application/wasm");
        check("clip.ts", "video/mp2t");
        check("README", "application/octet-stream");
        check("dir.html/README", "application/octet-stream");
        check(".html", "application/octet-stream");
        check("a.unknown-extension", "application/octet-stream");
        check("a.", "application/octet-stream");
    }

    #[test]
    fn the_operators_types_win() {
        let own = |extension: &str, mime: &str| (extension.to_owned(), mime.to_owned());
        let media = MediaTypes {
            types: vec![own("js", "application/javascript"), own("md", "text/markdown"), own("x1", "Text/X-One")],
            default_type: "text/plain".into(),
            charset: "koi8-r".into(),
            ..defaults()
        };
        check_with(&media, "a.md", "text/markdown; charset=koi8-r");
        check_with(&media, "a.MD", "text/markdown; charset=koi8-r");
        check_with(&media, "a.js", "application/javascript; charset=koi8-r");
        check_with(&media, "a.x1", "Text/X-One; charset=koi8-r");
        check_with(&media, "README", "text/plain; charset=koi8-r");
        check_with(&media, "a.png", "image/png");
    }

    #[test]
    fn the_charset_goes_where_it_is_wanted() {
        let media = MediaTypes { charset_types: vec!["text/css".into(), "*+xml".into()], ..defaults() };
        check_with(&media, "a.css", "text/css; charset=utf-8");
        check_with(&media, "a.svg", "image/svg+xml; charset=utf-8");
        check_with(&media, "a.html", "text/html");
        let none = MediaTypes { charset: String::new(), ..defaults() };
        check_with(&none, "a.html", "text/html");
        assert!(matches("text/*", "text/html") && !matches("text/*", "textual/x") && !matches("text/*", "text"));
        assert!(matches("*+xml", "IMAGE/svg+XML") && !matches("*+xml", "+") && !matches("a/b", "a/bc"));
    }
}
