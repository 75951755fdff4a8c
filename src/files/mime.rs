//! Media type of a file by the extension of its name. Called once when a file is opened; the result is kept with it.

/// Types that `mime_guess` has differently from what browsers and nginx users expect.
const PREFERRED: &[(&str, &str)] = &[
    ("js", "text/javascript"), // RFC 9239 section 6
    ("mjs", "text/javascript"),
    ("map", "application/json"), // source maps
    ("ts", "video/mp2t"),        // nginx: a piece of an HLS stream
    ("ico", "image/x-icon"),
];

/// Types outside `text/` that are text and that nginx users list in `charset_types`.
const TEXTUAL: &[&str] =
    &["application/javascript", "application/json", "application/xml", "application/x-javascript", "application/toml"];

/// Content-Type, without and with its charset parameter kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mime {
    /// `type/subtype`.
    pub essence: &'static str,
    /// `charset=utf-8` belongs behind it.
    pub utf8: bool,
}

impl Mime {
    /// The type of a file called `name` (a path will do). No or unknown extension: `application/octet-stream`.
    pub fn of(name: &[u8]) -> Mime {
        let essence = extension(name).and_then(by_extension).unwrap_or("application/octet-stream");
        Mime { essence, utf8: is_text(essence) }
    }

    /// Appends the field value.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.essence.as_bytes());
        if self.utf8 {
            out.extend_from_slice(b"; charset=utf-8");
        }
    }
}

/// What follows the last dot of the last segment; `None` for `.name` and `name`.
fn extension(name: &[u8]) -> Option<&str> {
    let file = memchr::memrchr(b'/', name).map_or(name, |at| &name[at + 1..]);
    let dot = memchr::memrchr(b'.', file).filter(|&at| at > 0)?;
    std::str::from_utf8(&file[dot + 1..]).ok()
}

fn by_extension(extension: &str) -> Option<&'static str> {
    let preferred = PREFERRED.iter().find(|(name, _)| extension.eq_ignore_ascii_case(name)).map(|(_, mime)| *mime);
    preferred.or_else(|| mime_guess::from_ext(extension).first_raw())
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || TEXTUAL.contains(&essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: &str) {
        let mut out = Vec::new();
        Mime::of(name.as_bytes()).write(&mut out);
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
}
