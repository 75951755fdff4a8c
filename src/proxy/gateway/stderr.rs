//! What a program writes to its standard error while it works on a request: lines for our own log, which nothing in them can
//! leave, and no more of them than a log bears.

use std::fmt::Write;

/// Longest line that is told whole, bytes; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 2048;
/// Lines told for one request.
const LINES_MAX: u64 = 32;

/// The complaints about one request.
#[derive(Debug, Default)]
pub struct Complaints {
    /// A line that has begun.
    line: Vec<u8>,
    /// Lines that have ended.
    lines: u64,
}

impl Complaints {
    /// Takes a run of bytes; every line that ends in it goes to `tell`, but empty ones.
    pub fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.add(&rest[..end]);
            self.end_line(&mut tell);
            rest = &rest[end + 1..];
        }
        self.add(rest);
    }

    /// There is no more: what has begun is a line, and what was left out is told of.
    pub fn end(&mut self, mut tell: impl FnMut(&str)) {
        self.end_line(&mut tell);
        if self.lines > LINES_MAX {
            tell(&format!("{} further lines are left out", self.lines - LINES_MAX));
        }
        self.lines = 0;
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, tell: &mut impl FnMut(&str)) {
        let text = self.line.trim_ascii();
        if !text.is_empty() {
            self.lines += 1;
            if self.lines <= LINES_MAX {
                tell(&escaped(text));
            }
        }
        self.line.clear();
    }
}

/// `bytes` as a text without anything that a terminal obeys.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for letter in String::from_utf8_lossy(bytes).chars() {
        match letter {
            // Also the marks that turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(text, "\\u{{{:x}}}", letter as u32);
            }
            _ if letter.is_control() => {
                let _ = write!(text, "\\x{:02x}", letter as u32);
            }
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[&[u8]]) -> Vec<String> {
        let (mut complaints, mut lines) = (Complaints::default(), Vec::new());
        for piece in pieces {
            complaints.take(piece, |line| lines.push(line.to_owned()));
        }
        complaints.end(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"PHP Warning:  a\r\n\n \nsecond\nthird";
        let expect = ["PHP Warning:  a", "second", "third"];
        assert_eq!(told(&[text]), expect);
        for cut in 0..text.len() {
            assert_eq!(told(&[&text[..cut], &text[cut..]]), expect, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_leaves_its_line_or_reaches_a_terminal() {
        assert_eq!(
            told(&[b"a\x1b[31m\x07\rb\0\xff\xc2\x9b \xe2\x80\xaex"]),
            ["a\\x1b[31m\\x07\\x0db\\x00\u{fffd}\\x9b \\u{202e}x"]
        );
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let long = vec![b'x'; 3 * LINE_BYTES_MAX];
        assert_eq!(told(&[&long, b"\nshort"]).iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX, 5]);
        let lines = told(&[&b"line\n".repeat(LINES_MAX as usize + 7)]);
        assert_eq!(lines.len(), LINES_MAX as usize + 1);
        assert_eq!(lines.last().unwrap(), "7 further lines are left out");
        assert_eq!(told(&[]), [""; 0]);
    }
}
