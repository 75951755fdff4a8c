//! Writes values into a line so that nothing from outside can leave its place in it. Pure; allocates only when the
//! buffer grows.
//!
//! Control bytes are escaped in every mode, `none` included: a line feed from a client must not begin a line, an
//! escape sequence must not reach the terminal of who reads the log.
//!
//! Source: nginx, `ngx_http_log_escape`; HAProxy configuration manual, section 8.6 (`#` notation); RFC 8259 section 7.

/// How bytes from outside are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// nginx's default: quote, backslash, control bytes and everything from 0x7f on become `\xHH`.
    Backslash,
    /// HAProxy's for requests: quote, `#`, control bytes and everything from 0x7f on become `#HH`.
    Hash,
    /// The inside of a JSON string. Bytes that are not UTF-8 become U+FFFD, so that every line parses.
    Json,
    /// Only control bytes and what is not UTF-8, as `\xHH`.
    Raw,
}

/// How one value of a format is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) notation: Notation,
    /// Text stands in quotes that the format does not have: `%{+Q}r`.
    pub(super) quoted: bool,
    /// The value stands where JSON wants a value, outside of a string: text gets quotes, a missing value is `null`.
    pub(super) is_json_value: bool,
}

/// One value on its way into a line.
pub(super) struct Pen<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) style: Style,
}

impl Pen<'_> {
    /// A text.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.open();
        self.piece(text);
        self.close();
    }

    /// A text, or nothing.
    pub(super) fn optional(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.text(text),
            None => self.missing(),
        }
    }

    /// A text that is empty when it is missing. In JSON it stays an empty text.
    pub(super) fn part(&mut self, text: &[u8]) {
        match text {
            b"" if self.style.notation != Notation::Json => self.missing(),
            text => self.text(text),
        }
    }

    /// A word of ours that a JSON reader takes as `true` or `false`.
    pub(super) fn switch(&mut self, on: bool) {
        self.out.extend_from_slice(if on { b"true" } else { b"false" });
    }

    /// What stands for a value that does not exist.
    pub(super) fn missing(&mut self) {
        let Style { notation, quoted, is_json_value } = self.style;
        match notation {
            _ if is_json_value => self.out.extend_from_slice(b"null"),
            _ if quoted => self.out.extend_from_slice(b"\"-\""),
            Notation::Backslash | Notation::Hash => self.out.push(b'-'),
            // As in nginx.
            Notation::Json | Notation::Raw => {}
        }
    }

    /// A number, as it is.
    pub(super) fn number(&mut self, number: u64) {
        put_number(self.out, number);
    }

    /// A number, or nothing.
    pub(super) fn optional_number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.missing(),
        }
    }

    /// A port; 0 stands for none.
    pub(super) fn port(&mut self, port: u16) {
        self.optional_number((port != 0).then_some(u64::from(port)));
    }

    /// Three digits. JSON numbers have no leading zeros.
    pub(super) fn three_digits(&mut self, number: u16) {
        match self.style.is_json_value {
            true => self.number(u64::from(number)),
            false => put_three_digits(self.out, number),
        }
    }

    /// Begins a text of several pieces.
    pub(super) fn open(&mut self) {
        if self.style.quoted || self.style.is_json_value {
            self.out.push(b'"');
        }
    }

    /// A piece of the text, escaped.
    pub(super) fn piece(&mut self, text: &[u8]) {
        match self.style.notation {
            Notation::Backslash => put_escaped(self.out, text, b"\\x", is_plain),
            Notation::Hash => put_escaped(self.out, text, b"#", is_plain_hash),
            Notation::Json => put_json(self.out, text),
            Notation::Raw => put_raw(self.out, text),
        }
    }

    /// The same in lower case (ASCII), the digits of escapes too.
    pub(super) fn piece_in_lower_case(&mut self, text: &[u8]) {
        let start = self.out.len();
        self.piece(text);
        self.out[start..].make_ascii_lowercase();
    }

    /// Ends the text.
    pub(super) fn close(&mut self) {
        self.open();
    }
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

fn is_plain_hash(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'#'
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

fn put_escaped(out: &mut Vec<u8>, text: &[u8], prefix: &[u8], is_plain: impl Fn(u8) -> bool) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !is_plain(*byte)) {
        out.extend_from_slice(&rest[..at]);
        put_hex(out, prefix, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn put_hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]]);
}

/// Bytes at the start of `rest` that a reader may take for a control character or the end of a line: ASCII controls,
/// and in UTF-8 the C1 controls (U+0080 to U+009F, among them NEL and CSI) and U+2028, U+2029.
fn control_bytes(rest: &[u8]) -> usize {
    match rest {
        [..0x20 | 0x7f, ..] => 1,
        [0xc2, 0x80..=0x9f, ..] => 2,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

fn put_raw(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = (0..rest.len()).find(|at| control_bytes(&rest[*at..]) > 0) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let (control, behind) = rest.split_at(control_bytes(rest));
            control.iter().for_each(|byte| put_hex(out, b"\\x", *byte));
            rest = behind;
        }
        out.extend_from_slice(rest);
        // Half a character here and half of one in the next value could make a control character.
        chunk.invalid().iter().for_each(|byte| put_hex(out, b"\\x", *byte));
    }
}

fn put_json(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        let special = |rest: &[u8]| matches!(rest, [b'"' | b'\\', ..]) || control_bytes(rest) > 0;
        while let Some(at) = (0..rest.len()).find(|at| special(&rest[*at..])) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let taken = match control_bytes(rest) {
                0 => {
                    out.extend_from_slice(&[b'\\', rest[0]]);
                    1
                }
                length => {
                    put_unicode(out, &rest[..length]);
                    length
                }
            };
            rest = &rest[taken..];
        }
        out.extend_from_slice(rest);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// `\u000a` for one of the characters that [`control_bytes`] finds.
fn put_unicode(out: &mut Vec<u8>, control: &[u8]) {
    let code = match *control {
        [byte] => u16::from(byte),
        [_, second] => u16::from(second), // C2 80 to C2 9F: the last byte is the code
        [_, _, third] => 0x2000 | u16::from(third) & 0x3f,
        _ => 0xfffd,
    };
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX_LOWER[usize::from(code >> shift & 15)]);
    }
}

/// Decimal digits.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The last three digits, with leading zeros.
pub(super) fn put_three_digits(out: &mut Vec<u8>, number: u16) {
    let digit = |divisor: u16| b'0' + (number / divisor % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// 16 hexadecimal digits.
pub(super) fn hex_id(id: u64) -> [u8; 16] {
    std::array::from_fn(|at| HEX_LOWER[(id >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(notation: Notation, text: &[u8]) -> String {
        let mut out = Vec::new();
        Pen { out: &mut out, style: Style { notation, quoted: false, is_json_value: false } }.text(text);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_notation_escapes_what_its_readers_expect() {
        use Notation::*;
        for (notation, text, expected) in [
            (Backslash, "a\"b\\c\x7fé\n#".as_bytes(), r"a\x22b\x5Cc\x7F\xC3\xA9\x0A#"),
            (Hash, "a\"b\\c\x7fé\n#".as_bytes(), r"a#22b\c#7F#C3#A9#0A#23"),
            (Json, "a\"b\\c\x7fé\n#".as_bytes(), r#"a\"b\\c\u007fé\u000a#"#),
            (Raw, "a\"b\\c\x7fé\n#".as_bytes(), r#"a"b\c\x7Fé\x0A#"#),
            // NEL, CSI and the line separators of Unicode are ends of lines, or worse, to some readers.
            (
                Json,
                "\u{85}\u{9b}\u{a0}\u{2027}\u{2028}\u{2029}".as_bytes(),
                "\\u0085\\u009b\u{a0}\u{2027}\\u2028\\u2029",
            ),
            (Raw, "\u{85}\u{a0}\u{2028}".as_bytes(), "\\xC2\\x85\u{a0}\\xE2\\x80\\xA8"),
            (Json, b"a\xff\xc2", "a\u{fffd}\u{fffd}"),
            (Raw, b"a\xc2", "a\\xC2"),
        ] {
            assert_eq!(written(notation, text), expected, "{notation:?} {text:?}");
        }
    }

    #[test]
    fn lower_case_does_not_change_what_is_escaped() {
        let mut out = Vec::new();
        let style = Style { notation: Notation::Json, quoted: true, is_json_value: false };
        let mut pen = Pen { out: &mut out, style };
        pen.open();
        pen.piece_in_lower_case(&[b"AbC".repeat(30), b"\"\n".to_vec()].concat());
        pen.close();
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{}\\\"\\u000a\"", "abc".repeat(30)));
    }

    #[test]
    fn numbers() {
        let text = |write: fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(|out| put_number(out, 0)), "0");
        assert_eq!(text(|out| put_number(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(|out| put_three_digits(out, 7)), "007");
        assert_eq!(hex_id(0xab), *b"00000000000000ab");
    }
}
