//! What a value must not do to the text around it.

use super::Variable;

/// Where a template's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A field value: control bytes become spaces, so that no value begins another line (RFC 9112 section 11.1).
    Field,
    /// A URL, also in a Location field. Captures are percent-encoded as path; of other values only what cannot stand
    /// in a URL, and, but for the query and `$request_uri`, what would begin a query or a fragment.
    Url,
    /// Text that nobody interprets: values as they are.
    Text,
    /// For comparing: as [`Encoding::Text`], and the path decoded.
    Raw,
    /// HTML: `<`, `>`, `&` and quotes are written as entities.
    Html,
    /// Inside a JSON string.
    Json,
}

impl Encoding {
    /// For a body of this media type: values come from the request, and must not become markup or code.
    pub fn of_body(content_type: &[u8]) -> Encoding {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let is_html = memchr::memmem::find(&essence, b"html").is_some();
        if is_html || essence.ends_with(b"xml") {
            Encoding::Html
        } else if essence.ends_with(b"json") || essence.ends_with(b"javascript") {
            Encoding::Json
        } else {
            Encoding::Text
        }
    }
}

/// Encodes `out[start..]`, the value of `variable`, in place.
pub(super) fn value(encoding: Encoding, variable: &Variable, out: &mut Vec<u8>, start: usize) {
    if *variable == Variable::Path && encoding != Encoding::Raw {
        escape(out, start, |byte| percent(byte, !is_path_byte(byte)));
    }
    match encoding {
        Encoding::Url => url(variable, out, start),
        encoding => outside_of_urls(encoding, out, start),
    }
}

/// Encodes `out[start..]`, written by a person as the value of a variable: in a URL only what cannot stand there.
pub(super) fn text(encoding: Encoding, out: &mut Vec<u8>, start: usize) {
    match encoding {
        Encoding::Url => escape(out, start, |byte| percent(byte, !is_url_byte(byte) && byte != b'#')),
        encoding => outside_of_urls(encoding, out, start),
    }
}

fn outside_of_urls(encoding: Encoding, out: &mut Vec<u8>, start: usize) {
    match encoding {
        Encoding::Field => out[start..].iter_mut().filter(|byte| is_control(**byte)).for_each(|byte| *byte = b' '),
        Encoding::Html => escape(out, start, html),
        Encoding::Json => {
            // A body that says it is JSON is UTF-8 (RFC 8259 section 8.1).
            let is_text = std::str::from_utf8(&out[start..]).is_ok();
            escape(out, start, |byte| json(byte, is_text));
        }
        Encoding::Text | Encoding::Raw | Encoding::Url => {}
    }
}

fn url(variable: &Variable, out: &mut Vec<u8>, start: usize) {
    match variable {
        Variable::Path => {}
        Variable::Capture(_) => escape(out, start, |byte| percent(byte, !is_path_byte(byte))),
        Variable::Query | Variable::IsArgs | Variable::RequestUri => {
            escape(out, start, |byte| percent(byte, !is_url_byte(byte)));
        }
        _ => escape(out, start, |byte| percent(byte, !is_url_byte(byte) || byte == b'?')),
    }
}

/// Leaves one of the slashes that `out[begin..]` begins with.
pub(super) fn single_slash(out: &mut Vec<u8>, begin: usize) {
    let slashes = out[begin..].iter().take_while(|byte| **byte == b'/').count();
    if slashes > 1 {
        out.drain(begin..begin + slashes - 1);
    }
}

/// A tab is none: it may stand in a field value (RFC 9110 section 5.5).
fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// RFC 3986 section 3.3: `pchar` without `%`, and `/`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

/// What may stand in a URL at all, but for the `#` of a fragment.
fn is_url_byte(byte: u8) -> bool {
    is_path_byte(byte) || b"?%[]".contains(&byte)
}

/// What stands for one byte.
#[derive(Clone, Copy)]
struct Escape {
    bytes: [u8; 6],
    len: u8,
}

impl Escape {
    fn new(text: &[u8]) -> Escape {
        let mut bytes = [0; 6];
        bytes[..text.len()].copy_from_slice(text);
        Escape { bytes, len: text.len() as u8 }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn percent(byte: u8, must: bool) -> Option<Escape> {
    must.then(|| Escape::new(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]))
}

fn html(byte: u8) -> Option<Escape> {
    let entity: &[u8] = match byte {
        b'<' => b"&lt;",
        b'>' => b"&gt;",
        b'&' => b"&amp;",
        b'"' => b"&#34;",
        b'\'' => b"&#39;",
        _ => return None,
    };
    Some(Escape::new(entity))
}

/// RFC 8259 section 7; `<` as well, so that the text may stand in a script element. Bytes that are no UTF-8 are taken
/// for the first 256 characters.
fn json(byte: u8, is_text: bool) -> Option<Escape> {
    match byte {
        b'"' | b'\\' => Some(Escape::new(&[b'\\', byte])),
        0..0x20 | 0x7f | b'<' => Some(unicode(byte)),
        0x80.. if !is_text => Some(unicode(byte)),
        _ => None,
    }
}

fn unicode(byte: u8) -> Escape {
    Escape::new(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
}

/// Puts the escapes in place of the bytes they stand for, from the back, so that no second buffer is needed.
fn escape(out: &mut Vec<u8>, start: usize, escape_of: impl Fn(u8) -> Option<Escape>) {
    let more: usize = out[start..].iter().filter_map(|byte| escape_of(*byte)).map(|e| usize::from(e.len) - 1).sum();
    if more == 0 {
        return;
    }
    let mut read = out.len();
    let mut write = read + more;
    out.resize(write, 0);
    while read > start {
        read -= 1;
        let byte = out[read];
        let escape = escape_of(byte).unwrap_or_else(|| Escape::new(&[byte]));
        let len = usize::from(escape.len);
        write -= len;
        out[write..write + len].copy_from_slice(&escape.bytes[..len]);
    }
}
