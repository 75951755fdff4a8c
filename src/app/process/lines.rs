//! What a process writes, cut into lines, and how many of them are told.

use std::time::{Duration, Instant};

/// Output cut into lines of bounded length, so many a second.
#[derive(Debug)]
pub struct Lines {
    line: Vec<u8>,
    bytes_max: usize,
    per_second: u32,
    /// Told since `second` began.
    told: u32,
    second: Option<Instant>,
    /// Lines that were not told.
    dropped: u64,
    /// The rest of a line that was cut is passed over.
    is_cut: bool,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A line without its end.
    Line(String),
    /// So many lines were too many and are not told.
    Dropped(u64),
}

impl Lines {
    /// Lines of at most `bytes_max`, at most `per_second` of them.
    pub fn new(bytes_max: usize, per_second: u32) -> Lines {
        Lines { line: Vec::new(), bytes_max, per_second, told: 0, second: None, dropped: 0, is_cut: false }
    }

    /// Takes what was written, and gives out what is to be told.
    pub fn push(&mut self, mut bytes: &[u8], now: Instant, mut tell: impl FnMut(Told)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.add(&bytes[..end]);
            self.end_line(now, &mut tell);
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
    }

    /// Nothing more comes.
    pub fn end(&mut self, now: Instant, mut tell: impl FnMut(Told)) {
        if !self.line.is_empty() {
            self.end_line(now, &mut tell);
        }
        self.tell_dropped(&mut tell);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.bytes_max - self.line.len();
        self.is_cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, now: Instant, tell: &mut impl FnMut(Told)) {
        let is_over = self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1));
        if is_over {
            (self.second, self.told) = (Some(now), 0);
            self.tell_dropped(tell);
        }
        let mut text = String::from_utf8_lossy(self.line.strip_suffix(b"\r").unwrap_or(&self.line)).into_owned();
        if std::mem::take(&mut self.is_cut) {
            text.push('…');
        }
        self.line.clear();
        if self.told < self.per_second {
            self.told += 1;
            tell(Told::Line(text));
        } else {
            self.dropped += 1;
        }
    }

    fn tell_dropped(&mut self, tell: &mut impl FnMut(Told)) {
        if self.dropped > 0 {
            tell(Told::Dropped(std::mem::take(&mut self.dropped)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &mut Lines, bytes: &[u8], now: Instant) -> Vec<Told> {
        let mut out = Vec::new();
        lines.push(bytes, now, |told| out.push(told));
        out
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let (text, now) = (b"one\r\n\nthree is too long\nlast", Instant::now());
        for split in 0..text.len() {
            let mut lines = Lines::new(8, 100);
            let mut out = told(&mut lines, &text[..split], now);
            out.extend(told(&mut lines, &text[split..], now));
            lines.end(now, |last| out.push(last));
            let expected = ["one", "", "three is…", "last"].map(|line| Told::Line(line.into()));
            assert_eq!(out, expected, "split at {split}");
        }
    }

    #[test]
    fn too_many_lines_are_counted() {
        let (mut lines, now) = (Lines::new(8, 2), Instant::now());
        assert_eq!(told(&mut lines, b"1\n2\n3\n4\n", now).len(), 2);
        let later = told(&mut lines, b"5\n", now + Duration::from_secs(1));
        assert_eq!(later, [Told::Dropped(2), Told::Line("5".into())]);
    }
}
