//! One target of the access log: buffers of whole lines go in, and whole lines stand in the file, also after the disk
//! was full in the middle of one.
//!
//! A failed write may leave the beginning of a line behind. Its rest is kept, and goes out before anything else does
//! when writing works again; the other lines of the buffer are lost and counted. When the file is closed before that,
//! the beginning is cut off.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::model::LogTarget;
use crate::runtime::sys::outputs::open_append;

/// What became of a buffer.
#[derive(Debug)]
pub(super) enum Progress {
    /// All of it is written.
    Done,
    /// The target takes nothing at the moment; go on later with the same bytes.
    Stalled,
    /// Writing failed; these lines of the buffer are lost.
    Failed { error: io::Error, lines_lost: u64 },
}

/// Writes whole lines.
#[derive(Debug)]
pub(super) struct Output<W> {
    pub(super) target: W,
    /// Rest of the line that the target ends with the beginning of; empty: it ends with a whole line.
    rest: Vec<u8>,
    /// Bytes of that beginning.
    torn_bytes: u64,
}

impl<W: Write> Output<W> {
    pub(super) fn new(target: W) -> Output<W> {
        Output { target, rest: Vec::new(), torn_bytes: 0 }
    }

    /// Writes on from `at` in `lines`, a buffer of whole lines, and moves `at` along.
    pub(super) fn write(&mut self, lines: &[u8], at: &mut usize) -> Progress {
        let mut rest_at = 0;
        let result = push(&mut self.target, &self.rest, &mut rest_at);
        self.torn_bytes += rest_at as u64;
        self.rest.drain(..rest_at);
        if self.rest.is_empty() {
            self.torn_bytes = 0;
        }
        let result = result.and_then(|()| push(&mut self.target, lines, at));
        match result {
            Ok(()) => Progress::Done,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Stalled,
            Err(error) => Progress::Failed { error, lines_lost: self.give_up(lines, *at) },
        }
    }

    /// Gives up what is not written of a buffer, all but the line that was begun; how many lines are lost.
    pub(super) fn give_up(&mut self, lines: &[u8], at: usize) -> u64 {
        let unwritten = &lines[at..];
        let begun = memchr::memrchr(b'\n', &lines[..at]).map_or(at, |end| at - end - 1);
        let kept = if begun > 0 { memchr::memchr(b'\n', unwritten).map_or(unwritten.len(), |end| end + 1) } else { 0 };
        if kept > 0 {
            self.rest.extend_from_slice(&unwritten[..kept]);
            self.torn_bytes = begun as u64;
        }
        count_lines(&unwritten[kept..])
    }
}

impl Output<File> {
    /// Opens a target. A file that ends in the middle of a line, because a process died, is gone on with on a new one.
    ///
    /// Errors: what open(2) or dup(2) reports.
    pub(super) fn open(target: &LogTarget) -> io::Result<Output<File>> {
        use std::os::fd::AsFd;
        let path = match target {
            LogTarget::Stdout => return Ok(Output::new(io::stdout().as_fd().try_clone_to_owned()?.into())),
            LogTarget::File(path) => path,
        };
        let mut output = Output::new(open_append(path)?);
        if ends_in_mid_line(&output.target, path) {
            output.rest.push(b'\n');
        }
        Ok(output)
    }

    /// Whether `path` still leads to what is open.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (self.target.metadata(), std::fs::metadata(path)) {
            (Ok(open), Ok(there)) => identity(open) == identity(there),
            _ => false,
        }
    }

    /// Makes the target end with a whole line, before it is left: ends the one that was begun, or cuts it off. True
    /// when that line is lost.
    pub(super) fn settle(&mut self) -> bool {
        let mut at = 0;
        let ended = push(&mut self.target, &self.rest, &mut at).is_ok();
        let torn_bytes = self.torn_bytes;
        (self.rest, self.torn_bytes) = (Vec::new(), 0);
        if !ended && torn_bytes > 0 {
            cut(&self.target, torn_bytes + at as u64);
        }
        !ended && torn_bytes > 0
    }
}

/// Takes the last `bytes` off a regular file.
fn cut(file: &File, bytes: u64) {
    if let Ok(metadata) = file.metadata()
        && metadata.is_file()
        && let Some(length) = metadata.len().checked_sub(bytes)
        && let Err(error) = file.set_len(length)
    {
        tracing::warn!(%error, "the last line of the access log is incomplete and cannot be cut off");
    }
}

/// Whether a regular file has a last line without an end. False when that cannot be told.
fn ends_in_mid_line(file: &File, path: &Path) -> bool {
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    let last_byte = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte).map(|()| byte[0])
    };
    is_file && last_byte().is_ok_and(|byte: u8| byte != b'\n')
}

/// Writes all of `bytes` from `at` on.
fn push(target: &mut impl Write, bytes: &[u8], at: &mut usize) -> io::Result<()> {
    while *at < bytes.len() {
        match target.write(&bytes[*at..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *at += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, stalls and fails as it is told.
    struct Moody {
        written: Vec<u8>,
        moods: Vec<u8>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.moods.pop() {
                Some(0) => Err(ErrorKind::StorageFull.into()),
                Some(1) => Err(ErrorKind::WouldBlock.into()),
                Some(2) => Err(ErrorKind::Interrupted.into()),
                Some(most) => {
                    let taken = bytes.len().min(usize::from(most));
                    self.written.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
                None => {
                    self.written.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest::proptest! {
        /// Whatever fails and when: the file holds whole lines, in order, and those that are missing were counted.
        #[test]
        fn only_whole_lines_stand_in_the_file(
            buffers in proptest::collection::vec(proptest::collection::vec("[a-z]{0,6}", 1..5), 1..8),
            moods in proptest::collection::vec(0u8..9, 0..60),
        ) {
            let mut number = 0;
            let mut output = Output::new(Moody { written: Vec::new(), moods });
            let mut lost = 0;
            for lines in &buffers {
                let mut bytes = Vec::new();
                for line in lines {
                    bytes.extend_from_slice(format!("{number} {line}\n").as_bytes());
                    number += 1;
                }
                let mut at = 0;
                lost += loop {
                    match output.write(&bytes, &mut at) {
                        Progress::Done => break 0,
                        Progress::Stalled => {}
                        Progress::Failed { lines_lost, .. } => break lines_lost,
                    }
                };
            }
            output.target.moods.clear();
            assert!(matches!(output.write(b"last\n", &mut 0), Progress::Done));
            let all: Vec<String> = buffers.iter().flatten().enumerate().map(|(n, line)| format!("{n} {line}")).collect();
            let text = String::from_utf8(output.target.written).unwrap();
            let lines: Vec<&str> = text.strip_suffix("last\n").unwrap().lines().collect();
            let mut next = 0;
            for line in &lines {
                let at = all[next..].iter().position(|known| known == line);
                next += at.unwrap_or_else(|| panic!("torn or out of order: {line} in {text}")) + 1;
            }
            assert_eq!(lines.len() as u64 + lost, all.len() as u64);
        }
    }

    fn file(path: &Path) -> Output<File> {
        Output::open(&LogTarget::File(path.into())).unwrap()
    }

    /// As if the disk had become full behind `begun` bytes of the line.
    fn tear(output: &mut Output<File>, line: &[u8], begun: usize) {
        output.target.write_all(&line[..begun]).unwrap();
        assert_eq!(output.give_up(line, begun), 0);
    }

    #[test]
    fn a_line_begun_is_ended_before_the_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut output = file(&path);
        assert!(output.is_at(&path) && !output.settle());
        tear(&mut output, b"begun and ended\n", 5);
        assert!(!output.settle());
        assert!(matches!(output.write(b"next\n", &mut 0), Progress::Done));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "begun and ended\nnext\n");
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        assert!(!output.is_at(&path));
        std::fs::write(&path, "").unwrap();
        assert!(!output.is_at(&path));
    }

    #[test]
    fn a_line_that_cannot_be_ended_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "whole\nbeg").unwrap();
        let target = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        cut(&target, 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\n");
        // More than there is: somebody has emptied the file.
        cut(&target, 10);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\n");
    }

    #[test]
    fn what_a_dead_process_left_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (before, after) in [("", "new\n"), ("whole\n", "whole\nnew\n"), ("torn", "torn\nnew\n")] {
            std::fs::write(&path, before).unwrap();
            assert!(matches!(file(&path).write(b"new\n", &mut 0), Progress::Done));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
