//! The field section of a head (RFC 9112 section 5), and the fields in it that frame the message.
//!
//! httparse finds the fields; what it lets through and we do not, a line that ends in a bare LF, is caught here.

use super::head::{Field, FieldName, Span, Version};
use httparse::{EMPTY_HEADER, Header, Status};
use std::fmt;

/// Fields that fit without a second look; a browser sends 10 to 20.
const FIELDS_USUAL: usize = 32;
/// Fields that fit on the stack.
const FIELDS_ON_STACK: usize = 128;
/// Bytes of an unfinished section from which on its fields are left alone until its end is there.
pub(super) const SECTION_LONG: usize = 4 << 10;
/// Larger lengths are refused, so that sums of a few lengths and offsets cannot overflow.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// What is wrong with a field section, in a request or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// More fields than [`super::Limits::headers_max`].
    TooMany,
    /// A field name is empty, is not a token, or has no colon behind it (RFC 9110 section 5.1).
    Name,
    /// White space behind a name; a response may have it before the colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A line starts with white space: obs-fold (RFC 9112 section 5.2).
    Folded,
    /// A control byte in a value (RFC 9110 section 5.5).
    Value,
    /// CR without LF behind it (RFC 9112 section 2.2).
    BareCr,
    /// LF without CR before it (RFC 9112 section 2.2: may be taken as a line end; we do not).
    BareLf,
    /// Content-Length is not a number below 2^63 (RFC 9112 section 6.3).
    ContentLength,
    /// Several Content-Length values that differ (RFC 9112 section 6.3).
    ContentLengthsDiffer,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldError::TooMany => "too many header fields",
            FieldError::Name => "invalid field name",
            FieldError::SpaceBeforeColon => "space before colon",
            FieldError::Folded => "folded field line",
            FieldError::Value => "control byte in field value",
            FieldError::BareCr => "bare cr",
            FieldError::BareLf => "bare lf",
            FieldError::ContentLength => "invalid content-length",
            FieldError::ContentLengthsDiffer => "content-length values differ",
        })
    }
}

/// Reads the field section that starts at `at` in `bytes` into `fields`; gives the position behind its empty line.
///
/// `Ok(None)`: the empty line is not there yet. `bytes` must not reach beyond what a [`Span`] can say.
pub(super) fn scan(
    bytes: &[u8],
    at: usize,
    headers_max: usize,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, FieldError> {
    // Who sends a long head byte by byte makes us start again for each: look at line ends only.
    if bytes.len() - at > SECTION_LONG && !has_end(&bytes[at..], headers_max)? {
        return Ok(None);
    }
    let mut slots = [EMPTY_HEADER; FIELDS_USUAL];
    match scan_into(bytes, at, &mut slots[..headers_max.min(FIELDS_USUAL)], fields) {
        Err(FieldError::TooMany) if headers_max > FIELDS_USUAL => scan_many(bytes, at, headers_max, fields),
        result => result,
    }
}

/// True when the empty line is there. Errors: `BareLf`, and `TooMany` for lines, whatever is in them.
pub(super) fn has_end(section: &[u8], headers_max: usize) -> Result<bool, FieldError> {
    for (index, at) in memchr::memchr_iter(b'\n', section).enumerate() {
        match &section[..at] {
            b"\r" | [.., b'\r', b'\n', b'\r'] => return Ok(true),
            [.., b'\r'] if index < headers_max => {}
            [.., b'\r'] => return Err(FieldError::TooMany),
            _ => return Err(FieldError::BareLf),
        }
    }
    Ok(false)
}

#[cold]
#[inline(never)]
fn scan_many(
    bytes: &[u8],
    at: usize,
    headers_max: usize,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, FieldError> {
    if headers_max <= FIELDS_ON_STACK {
        return scan_into(bytes, at, &mut [EMPTY_HEADER; FIELDS_ON_STACK][..headers_max], fields);
    }
    // A field takes at least the 4 bytes of "a:\r\n", so the input bounds the list whatever the limit says.
    let mut slots = vec![EMPTY_HEADER; headers_max.min(bytes.len() / 4 + 1)];
    scan_into(bytes, at, &mut slots, fields)
}

fn scan_into<'b>(
    bytes: &'b [u8],
    at: usize,
    slots: &mut [Header<'b>],
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, FieldError> {
    match httparse::parse_headers(&bytes[at..], slots) {
        Ok(Status::Complete((used, headers))) => {
            collect(bytes, at + used, headers, fields)?;
            Ok(Some(at + used))
        }
        Ok(Status::Partial) => has_bare_lf(&bytes[at..]).map_or(Ok(None), Err),
        Err(error) => Err(blame(&bytes[at..], error, false)),
    }
}

/// Turns what httparse found in `bytes` into positions, and refuses lines that ended in a bare LF. `end` is one past
/// the empty line.
pub(super) fn collect(
    bytes: &[u8],
    end: usize,
    headers: &[Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<(), FieldError> {
    fields.clear();
    fields.reserve(headers.len());
    for header in headers {
        let name = span_within(bytes, header.name.as_bytes());
        if !bytes[..name.start as usize].ends_with(b"\r\n") {
            return Err(FieldError::BareLf);
        }
        let value = span_within(bytes, header.value);
        fields.push(Field { known: FieldName::of(header.name.as_bytes()), name, value });
    }
    // The line before the empty one and the empty one itself.
    if bytes[..end].ends_with(b"\r\n\r\n") { Ok(()) } else { Err(FieldError::BareLf) }
}

/// Where `part`, a piece of `bytes`, lies in it.
fn span_within(bytes: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    Span::from(start..start + part.len())
}

/// `Some` when a line of an unfinished field section ends in a bare LF: no more bytes can mend that.
pub(super) fn has_bare_lf(section: &[u8]) -> Option<FieldError> {
    let bare = |at: usize| at == 0 || section[at - 1] != b'\r';
    memchr::memchr_iter(b'\n', section).any(bare).then_some(FieldError::BareLf)
}

/// What the first wrong byte of a field section is, since httparse tells neither place nor cause.
#[cold]
pub(super) fn blame(section: &[u8], error: httparse::Error, spaces_allowed: bool) -> FieldError {
    if error == httparse::Error::TooManyHeaders {
        return FieldError::TooMany;
    }
    let lines = section.split_inclusive(|&byte| byte == b'\n').take_while(|line| *line != b"\r\n");
    let wrong = lines.filter_map(|line| blame_line(line, spaces_allowed)).next();
    wrong.unwrap_or(FieldError::Name)
}

fn blame_line(line: &[u8], spaces_allowed: bool) -> Option<FieldError> {
    let name_bytes = line.iter().position(|&byte| !is_token_byte(byte))?;
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let spaces = line[name_bytes..].iter().take_while(is_space).count();
    match (line.get(name_bytes + spaces), name_bytes, spaces) {
        (_, 0, 1..) => Some(FieldError::Folded),
        (Some(b'\r'), 0, 0) => Some(FieldError::BareCr),
        (Some(b'\n'), _, 0) => Some(FieldError::BareLf),
        (Some(b':'), 1.., 0) => blame_value(&line[name_bytes + 1..]),
        (Some(b':'), 1.., _) if spaces_allowed => blame_value(&line[name_bytes + spaces + 1..]),
        (_, _, 1..) => Some(FieldError::SpaceBeforeColon),
        _ => Some(FieldError::Name),
    }
}

fn blame_value(value: &[u8]) -> Option<FieldError> {
    let at = value.iter().position(|&byte| !is_text_byte(byte))?;
    match &value[at..] {
        b"\r\n" | b"\r" => None,
        [b'\r', ..] => Some(FieldError::BareCr),
        [b'\n', ..] => Some(FieldError::BareLf),
        _ => Some(FieldError::Value),
    }
}

/// What the fields say about framing and connection, gathered in one walk over them.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The only Host; `None` before one is seen.
    pub(super) host: Option<Span>,
    /// More than one Host.
    pub(super) hosts_repeat: bool,
    /// Agreed value of Content-Length.
    pub(super) length: Option<u64>,
    /// What Transfer-Encoding says.
    pub(super) coding: Coding,
    /// Expect lists `100-continue`.
    pub(super) expect_continue: bool,
    /// Expect lists something else.
    pub(super) expect_unknown: bool,
    close: bool,
    keep_alive: bool,
    upgrade_listed: bool,
    upgrade_present: bool,
}

/// Transfer-Encoding, all fields of that name taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    /// No such field.
    #[default]
    Absent,
    /// Exactly `chunked`, once.
    Chunked,
    /// Names a coding we do not have.
    Unknown,
    /// `chunked` more than once, or not a list of tokens.
    Invalid,
}

impl Framing {
    /// Looks at every field once. Errors: Content-Length only; all else is the caller's to judge.
    pub(super) fn of(bytes: &[u8], fields: &[Field]) -> Result<Framing, FieldError> {
        let mut framing = Framing::default();
        for field in fields {
            let value = field.value;
            match field.known {
                FieldName::Host => framing.hosts_repeat |= framing.host.replace(value).is_some(),
                FieldName::ContentLength => framing.add_length(value.of(bytes))?,
                FieldName::TransferEncoding => framing.add_coding(value.of(bytes)),
                FieldName::Connection => framing.add_connection(value.of(bytes)),
                FieldName::Expect => framing.add_expect(value.of(bytes)),
                FieldName::Upgrade => framing.upgrade_present = true,
                _ => {}
            }
        }
        Ok(framing)
    }

    /// RFC 9112 section 9.3: the default of the version unless Connection says otherwise; `close` wins.
    pub(super) fn keeps_connection(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// The message has content, or would have it as the answer to another method.
    pub(super) fn declares_content(&self) -> bool {
        self.coding != Coding::Absent || self.length.is_some_and(|length| length > 0)
    }

    /// RFC 9110 section 7.8: Upgrade counts when Connection lists it, and never with HTTP/1.0.
    pub(super) fn upgrades(&self, version: Version) -> bool {
        version == Version::Http11 && self.upgrade_listed && self.upgrade_present
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), FieldError> {
        for element in value.split(|&byte| byte == b',') {
            let length = decimal(trim(element)).ok_or(FieldError::ContentLength)?;
            if self.length.is_some_and(|earlier| earlier != length) {
                return Err(FieldError::ContentLengthsDiffer);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn add_coding(&mut self, value: &[u8]) {
        for element in value.split(|&byte| byte == b',') {
            let element = trim(element);
            let is_chunked = element.eq_ignore_ascii_case(b"chunked");
            self.coding = match self.coding {
                _ if element.is_empty() || !element.iter().all(|&byte| is_token_byte(byte)) => Coding::Invalid,
                Coding::Absent if is_chunked => Coding::Chunked,
                Coding::Chunked if is_chunked => Coding::Invalid,
                Coding::Invalid => Coding::Invalid,
                _ => Coding::Unknown,
            };
        }
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in list_elements(value) {
            match option.len() {
                5 => self.close |= option.eq_ignore_ascii_case(b"close"),
                7 => self.upgrade_listed |= option.eq_ignore_ascii_case(b"upgrade"),
                10 => self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
    }

    fn add_expect(&mut self, value: &[u8]) {
        for expectation in list_elements(value) {
            let known = expectation.eq_ignore_ascii_case(b"100-continue");
            self.expect_continue |= known;
            self.expect_unknown |= !known;
        }
    }
}

/// Elements of a comma-separated list without surrounding white space; empty ones are left out
/// (RFC 9110 section 5.6.1.2). Knows no quoted strings: for lists of tokens.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// True when the list `value` has `token` as an element, in any case of letters (RFC 9110 section 5.6.1).
pub fn token_list_contains(value: &[u8], token: &str) -> bool {
    list_elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// `text` without optional white space around it: SP and HTAB (RFC 9110 section 5.6.3).
fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at + 1);
    &text[start..end]
}

/// The number that `digits` say; `None` when there are none, anything else is among them, or it is above
/// [`LENGTH_MAX`].
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= LENGTH_MAX).then_some(number)
}

/// A byte of a token: tchar of RFC 9110 section 5.6.2.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// A byte of a field value: no control but HTAB (RFC 9110 section 5.5).
#[inline]
pub(super) fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

static TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let elements = |value: &'static str| -> Vec<_> {
            list_elements(value.as_bytes()).map(|element| std::str::from_utf8(element).unwrap()).collect()
        };
        assert_eq!(elements("a, b\t,,c d ,"), ["a", "b", "c d"]);
        assert_eq!(elements(" "), [""; 0]);
        assert!(token_list_contains(b"gzip, BR", "br") && token_list_contains(b"br", "br"));
        assert!(!token_list_contains(b"brx, xbr, b r", "br") && !token_list_contains(b"", "br"));
    }

    #[test]
    fn the_end_of_a_section_is_its_empty_line() {
        let check = |section: &str, expect| assert_eq!(has_end(section.as_bytes(), 2), expect, "{section:?}");
        check("", Ok(false));
        check("\r\n", Ok(true));
        check("\r\na\n", Ok(true));
        check("a:\r\nb:\r\n\r", Ok(false));
        check("a:\r\nb:\r\n\r\nbody\n", Ok(true));
        check("a:\r\nb:\r\nc:\r\n", Err(FieldError::TooMany));
        for bare in ["\n", "a\n", "a:\r\n\n", "a:\r\nb\n\r\n"] {
            check(bare, Err(FieldError::BareLf));
        }
    }

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let marks = (0..=255).filter(|&byte: &u8| is_token_byte(byte) && !byte.is_ascii_alphanumeric());
        assert_eq!(Vec::from_iter(marks), b"!#$%&'*+-.^_`|~");
        assert!((b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').all(is_token_byte));
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"9223372036854775807"), Some(LENGTH_MAX));
        for wrong in ["", "9223372036854775808", "18446744073709551617", "1 ", "+1", "1a", "\u{661}"] {
            assert_eq!(decimal(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
