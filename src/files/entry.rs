//! One file as it is served: what was learned when it was opened, with the response fields already written.

use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::conditional::{LastModified, Validators};
use super::mime::Mime;
use crate::runtime::sys::files::{self as sys, FileTime, Stamp};

/// How often a small file that changes while it is read is read again.
const READS_MAX: u32 = 3;
/// Read ahead when a large file is opened, bytes: the first burst should not wait for the disk.
const READ_AHEAD_BYTES: u64 = 512 * 1024;
/// Later than this, seconds since 1970, the date has more than four digits for its year.
const DATE_MAX: i64 = 253_402_300_799;

/// The bytes of a file, or the way to them.
#[derive(Debug)]
pub enum Content {
    /// All of them.
    Small(Bytes),
    /// An open descriptor; the length is that of the validators.
    Large(Rc<File>),
}

/// A file that was opened: immutable, shared between the cache and the responses under way.
#[derive(Debug)]
pub struct Entry {
    /// The bytes.
    pub content: Content,
    /// Entity tag, date and length.
    pub validators: Validators,
    /// Media type.
    pub mime: Mime,
    fields: Box<[u8]>,
    type_end: usize,
    validators_end: usize,
}

impl Entry {
    /// Reads `file` if it has at most `small_max` bytes, else keeps it open. Returns the entry and the metadata that
    /// belong to it. `name` decides the media type; `wall_seconds` is the time now, seconds since 1970.
    ///
    /// A file that changes while it is read is read again; one that never holds still is kept open instead, so that
    /// a body is never made of two versions here. So is one that is not in the page cache: whoever sends it can wait
    /// for the disk without holding up the worker, which is not possible here.
    /// Errors: what preadv2(2) and fstat(2) report.
    pub(super) fn read(
        file: File,
        mut stamp: Stamp,
        name: &[u8],
        small_max: usize,
        wall_seconds: i64,
    ) -> io::Result<(Entry, Stamp)> {
        for _ in 0..READS_MAX {
            let Some(len) = usize::try_from(stamp.size).ok().filter(|len| *len <= small_max) else { break };
            let mut body = Vec::new();
            let read = match sys::read_resident(&file, 0, len, &mut body) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                read => read?,
            };
            let after = sys::stamp(&file)?;
            if read == len && after == stamp {
                return Ok((Entry::new(Content::Small(body.into()), &stamp, name, wall_seconds), stamp));
            }
            stamp = after;
        }
        sys::read_ahead(&file, 0, stamp.size.min(READ_AHEAD_BYTES));
        Ok((Entry::new(Content::Large(Rc::new(file)), &stamp, name, wall_seconds), stamp))
    }

    fn new(content: Content, stamp: &Stamp, name: &[u8], wall_seconds: i64) -> Entry {
        let validators = Validators {
            etag: etag(stamp.mtime, stamp.size),
            last_modified: last_modified(stamp.mtime, wall_seconds),
            len: stamp.size,
        };
        let mime = Mime::of(name);
        let mut fields = Vec::with_capacity(256);
        fields.extend_from_slice(b"Content-Type: ");
        mime.write(&mut fields);
        fields.extend_from_slice(b"\r\n");
        let type_end = fields.len();
        if let Some(modified) = &validators.last_modified {
            fields.extend_from_slice(b"Last-Modified: ");
            fields.extend_from_slice(&modified.text);
            fields.extend_from_slice(b"\r\n");
        }
        fields.extend_from_slice(b"ETag: ");
        fields.extend_from_slice(&validators.etag);
        fields.extend_from_slice(b"\r\n");
        let validators_end = fields.len();
        fields.extend_from_slice(b"Accept-Ranges: bytes\r\n");
        Entry { content, validators, mime, fields: fields.into(), type_end, validators_end }
    }

    /// All fields of a 200 but for Server, Date, framing and connection.
    #[inline]
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// The line of Content-Type.
    pub fn type_field(&self) -> &[u8] {
        &self.fields[..self.type_end]
    }

    /// The lines of Last-Modified and ETag.
    pub fn validator_fields(&self) -> &[u8] {
        &self.fields[self.type_end..self.validators_end]
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let content = match &self.content {
            Content::Small(body) => body.len(),
            Content::Large(_) => 0,
        };
        content + self.fields.len() + self.validators.etag.len()
    }
}

/// Appends formatted text. Writing to a `Vec` cannot fail.
pub(super) fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let result = out.write_fmt(text);
    debug_assert!(result.is_ok());
}

/// `"mtime-size"` in hexadecimal, as nginx has it, but with the mtime in nanoseconds: two versions written within one
/// second differ. The same file copied with its times has the same tag on every server.
fn etag(mtime: FileTime, size: u64) -> Box<[u8]> {
    let nanoseconds = (mtime.seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(u64::from(mtime.nanoseconds));
    format!("\"{nanoseconds:x}-{size:x}\"").into_bytes().into()
}

/// `None` for a time before 1970 or in the future, which must not be sent (RFC 9110 section 8.8.2.1).
fn last_modified(mtime: FileTime, wall_seconds: i64) -> Option<LastModified> {
    if mtime.seconds > wall_seconds.min(DATE_MAX) {
        return None;
    }
    let seconds = u64::try_from(mtime.seconds).ok()?;
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let text = text.as_bytes().try_into().ok()?;
    Some(LastModified { seconds, text, strong: mtime.seconds < wall_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64, nanoseconds: u32) -> FileTime {
        FileTime { seconds, nanoseconds }
    }

    #[test]
    fn a_nanosecond_or_a_byte_makes_another_tag() {
        assert_eq!(&*etag(time(1, 2), 255), b"\"3b9aca02-ff\"");
        assert_ne!(etag(time(1, 2), 255), etag(time(1, 3), 255));
        assert_ne!(etag(time(1, 2), 255), etag(time(1, 2), 256));
        assert_eq!(&*etag(time(-1, 0), 0), b"\"ffffffffc4653600-0\"");
    }

    #[test]
    fn dates_that_prove_nothing_are_left_out() {
        let modified = last_modified(time(784_111_777, 5), 784_111_779).expect("past");
        assert_eq!(&modified.text, b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(modified.strong);
        assert!(!last_modified(time(784_111_777, 5), 784_111_777).expect("just now").strong);
        assert_eq!(last_modified(time(784_111_778, 0), 784_111_777), None);
        assert_eq!(last_modified(time(-1, 0), 784_111_777), None);
        assert_eq!(last_modified(time(i64::MAX, 0), i64::MAX), None);
    }

    fn read(path: &std::path::Path, stamp: Stamp, small_max: usize) -> (Entry, Stamp) {
        let file = File::open(path).expect("open");
        Entry::read(file, stamp, b"a.txt", small_max, i64::MAX).expect("read")
    }

    fn stamp_of(path: &std::path::Path) -> Stamp {
        sys::stamp(&File::open(path).expect("open")).expect("stamp")
    }

    #[test]
    fn a_file_that_changed_since_it_was_looked_at_is_read_again() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.txt");
        // Longer, shorter, and of the same length.
        for (before, after) in [("one", "longer"), ("longer", "one"), ("one", "two")] {
            std::fs::write(&path, before).expect("write");
            let old = stamp_of(&path);
            std::thread::sleep(Duration::from_millis(20)); // more than a tick of the file system's clock
            std::fs::write(&path, after).expect("write");
            let (entry, stamp) = read(&path, old, 100);
            assert_eq!(stamp, stamp_of(&path));
            assert_eq!(entry.validators.len, after.len() as u64);
            assert!(matches!(&entry.content, Content::Small(body) if body == after.as_bytes()), "{entry:?}");
        }
    }

    #[test]
    fn a_file_that_grew_too_large_meanwhile_is_kept_open() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "small").expect("write");
        let old = stamp_of(&path);
        std::fs::write(&path, "too large").expect("write");
        let (entry, _) = read(&path, old, 6);
        assert_eq!(entry.validators.len, 9);
        assert!(matches!(entry.content, Content::Large(_)));
    }

    #[test]
    fn a_file_that_shrank_meanwhile_is_served_with_its_new_length() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "12345").expect("write");
        let longer = Stamp { size: 9, ..stamp_of(&path) };
        let (entry, stamp) = read(&path, longer, 100);
        assert_eq!((entry.validators.len, stamp.size), (5, 5));
    }
}
