//! One file as it is served: what was learned when it was opened, with the response fields already written.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::coding::CodingSet;
use super::conditional::{LastModified, Validators};
use super::mime::Mime;
use super::ring::Place;
use crate::config::model::{Coding, Files};
use crate::runtime::sys::files::{self as sys, FileTime, OpenFile, Stamp};
use crate::util::gate::Gate;

/// How often a small file that changes while it is read is read again.
const READS_MAX: u32 = 3;
/// Read ahead when a large file is opened, bytes: the first burst should not wait for the disk.
const READ_AHEAD_BYTES: u64 = 512 * 1024;
/// Later than this, seconds since 1970, the date has more than four digits for its year.
const DATE_MAX: i64 = 253_402_300_799;
/// What stands in front of the media type in the fields.
const TYPE_NAME: &[u8] = b"Content-Type: ";

/// The bytes of a file, or the way to them.
#[derive(Debug)]
pub enum Content {
    /// All of them.
    Small(Bytes),
    /// An open descriptor; the length is that of the validators.
    Large(Rc<OpenFile>),
}

/// What an entry depends on beside its file.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    /// Decides the media type. For a coded file the name of the original.
    pub(super) name: &'a [u8],
    /// The coding that the file's content is in.
    pub(super) coding: Option<Coding>,
    pub(super) files: &'a Files,
    /// Largest file kept in memory, bytes.
    pub(super) small_max: usize,
    /// The time now, seconds since 1970.
    pub(super) wall_seconds: i64,
}

/// A file that was opened: shared between the cache and the responses under way. Its file and fields never change;
/// only forms of it that were compressed on the way are added.
#[derive(Debug)]
pub struct Entry {
    /// The bytes.
    pub content: Content,
    /// Entity tag, date and length.
    pub validators: Validators,
    /// The coding the bytes are in; `None`: they are the file itself.
    pub coding: Option<Coding>,
    /// Coded forms that lie ready beside the file.
    variants: Box<[Rc<Entry>]>,
    /// Forms that were compressed on the way, by [`Coding::index`].
    compressed: RefCell<[Option<Bytes>; Coding::ALL.len()]>,
    /// Entered by who makes one of them.
    pub making: Gate,
    /// There was no room to keep the last one that was made.
    pub is_unkept: Cell<bool>,
    /// Where the cache holds it; the cache alone reads and writes this.
    pub(super) place: Cell<Option<Place>>,
    stamp: Stamp,
    fields: Box<[u8]>,
    essence_end: usize,
    type_end: usize,
    coding_end: usize,
    validators_end: usize,
}

impl Entry {
    /// Reads `file` if it is small, else keeps it open. Returns the entry and the metadata that belong to it.
    ///
    /// A file that changes while it is read is read again; one that never holds still is kept open instead, so that
    /// a body is never made of two versions here. So is one that is not in the page cache: whoever sends it can wait
    /// for the disk without holding up the worker, which is not possible here.
    /// Errors: what preadv2(2) and fstat(2) report.
    pub(super) fn read(file: File, mut stamp: Stamp, making: &Making<'_>) -> io::Result<(Entry, Stamp)> {
        for _ in 0..READS_MAX {
            let Some(len) = usize::try_from(stamp.size).ok().filter(|len| *len <= making.small_max) else { break };
            let mut body = Vec::new();
            let read = match sys::read_resident(&file, 0, len, &mut body) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                read => read?,
            };
            let after = sys::stamp(&file)?;
            if read == len && after == stamp {
                return Ok((Entry::new(Content::Small(body.into()), &stamp, making), stamp));
            }
            stamp = after;
        }
        sys::read_ahead(&file, 0, stamp.size.min(READ_AHEAD_BYTES));
        Ok((Entry::new(Content::Large(Rc::new(OpenFile::new(file))), &stamp, making), stamp))
    }

    fn new(content: Content, stamp: &Stamp, making: &Making<'_>) -> Entry {
        let validators = Validators {
            etag: etag(stamp.mtime, stamp.size, making.coding),
            last_modified: last_modified(stamp.mtime, making.wall_seconds),
            len: stamp.size,
        };
        let mime = Mime::of(making.name, &making.files.media);
        let mut fields = Vec::with_capacity(256);
        fields.extend_from_slice(TYPE_NAME);
        mime.write(&mut fields);
        fields.extend_from_slice(b"\r\n");
        let type_end = fields.len();
        if let Some(coding) = making.coding {
            push(&mut fields, format_args!("Content-Encoding: {}\r\n", coding.token()));
        }
        let coding_end = fields.len();
        if let Some(modified) = &validators.last_modified {
            fields.extend_from_slice(b"Last-Modified: ");
            fields.extend_from_slice(&modified.text);
            fields.extend_from_slice(b"\r\n");
        }
        fields.extend_from_slice(b"ETag: ");
        fields.extend_from_slice(&validators.etag);
        fields.extend_from_slice(b"\r\n");
        let validators_end = fields.len();
        if making.files.ranges_max > 0 {
            fields.extend_from_slice(b"Accept-Ranges: bytes\r\n");
        }
        Entry {
            content,
            validators,
            coding: making.coding,
            variants: Box::default(),
            compressed: RefCell::default(),
            making: Gate::default(),
            is_unkept: Cell::new(false),
            place: Cell::new(None),
            stamp: *stamp,
            fields: fields.into(),
            essence_end: TYPE_NAME.len() + mime.essence.len(),
            type_end,
            coding_end,
            validators_end,
        }
    }

    /// Adds the coded forms that lie beside the file.
    pub(super) fn with_variants(mut self, variants: Vec<Rc<Entry>>) -> Entry {
        self.variants = variants.into();
        self
    }

    /// The form that the client likes most among those there are: a coded file beside this one, or this one.
    #[inline]
    pub fn representation(self: &Rc<Entry>, accepts: CodingSet) -> &Rc<Entry> {
        if self.variants.is_empty() {
            return self;
        }
        let of = |coding: Coding| self.variants.iter().find(|variant| variant.coding == Some(coding));
        accepts.iter().find_map(of).unwrap_or(self)
    }

    /// Media type without parameters, for example `text/html`.
    pub fn essence(&self) -> &str {
        // It was made from a text, so this never fails.
        std::str::from_utf8(&self.fields[TYPE_NAME.len()..self.essence_end]).unwrap_or_default()
    }

    /// Bytes of the file.
    #[expect(clippy::len_without_is_empty, reason = "an empty file is a file like any other")]
    pub fn len(&self) -> u64 {
        self.validators.len
    }

    /// The form of this file in `coding` that [`super::Cache::keep_compressed`] was given.
    pub fn compressed(&self, coding: Coding) -> Option<Bytes> {
        self.compressed.borrow()[coding.index()].clone()
    }

    pub(super) fn set_compressed(&self, coding: Coding, body: Bytes) {
        self.compressed.borrow_mut()[coding.index()] = Some(body);
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

    /// The line of Content-Encoding; empty for a file that is no coded form.
    pub fn coding_field(&self) -> &[u8] {
        &self.fields[self.type_end..self.coding_end]
    }

    /// The lines of Last-Modified and ETag.
    pub fn validator_fields(&self) -> &[u8] {
        &self.fields[self.coding_end..self.validators_end]
    }

    /// Appends the lines of Last-Modified and ETag, with a weak entity tag: for a form whose bytes may differ from
    /// those of another time or server, such as one compressed on the way (RFC 9110 section 8.8.1).
    pub fn write_weak_validators(&self, out: &mut Vec<u8>) {
        let strong = self.validator_fields();
        let (before, tag) = strong.split_at(strong.len() - self.validators.etag.len() - 2);
        out.extend_from_slice(before);
        out.extend_from_slice(b"W/");
        out.extend_from_slice(tag);
    }

    /// The file and its ready-made forms are still those that the lengths and tags here belong to, as far as they are
    /// open: another program may write into an open file. One system call for each of them.
    pub fn is_intact(&self) -> bool {
        let own = match &self.content {
            Content::Small(_) => true,
            Content::Large(file) => Version::of(&self.stamp).is_of(file),
        };
        own && self.variants.iter().all(|variant| variant.is_intact())
    }

    /// What the open file must be while it is sent.
    pub(super) fn version(&self) -> Version {
        Version::of(&self.stamp)
    }

    /// Descriptors held, those of the ready-made forms included.
    pub(super) fn descriptors(&self) -> usize {
        let own = usize::from(matches!(self.content, Content::Large(_)));
        own + self.variants.iter().map(|variant| variant.descriptors()).sum::<usize>()
    }

    /// Bytes of each ready-made form.
    pub(super) fn variant_sizes(&self) -> impl Iterator<Item = u64> {
        self.variants.iter().map(|variant| variant.validators.len)
    }

    /// Memory of content, bytes; that of the ready-made and compressed forms included.
    pub(super) fn content_bytes(&self) -> usize {
        let own = match &self.content {
            Content::Small(body) => body.len(),
            Content::Large(_) => 0,
        };
        let compressed = self.compressed.borrow().iter().flatten().map(Bytes::len).sum::<usize>();
        own + compressed + self.variants.iter().map(|variant| variant.content_bytes()).sum::<usize>()
    }

    /// Memory of the rest beside the struct, bytes.
    pub(super) fn field_bytes(&self) -> usize {
        let own = self.fields.len() + self.validators.etag.len();
        let of = |variant: &Rc<Entry>| size_of::<Entry>() + variant.field_bytes();
        own + self.variants.iter().map(of).sum::<usize>()
    }
}

/// What tells whether the content of an open file was changed. Not its ctime, which moves when a deployment renames
/// another file over its name: the download under way still is of one piece then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    mtime: FileTime,
    size: u64,
}

impl Version {
    fn of(stamp: &Stamp) -> Version {
        Version { mtime: stamp.mtime, size: stamp.size }
    }

    pub(super) fn is_of(&self, file: &File) -> bool {
        sys::stamp(file).is_ok_and(|stamp| Version::of(&stamp) == *self)
    }
}

/// Appends formatted text. Writing to a `Vec` cannot fail.
pub(super) fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let result = out.write_fmt(text);
    debug_assert!(result.is_ok());
}

/// `"mtime-size"` in hexadecimal, as nginx has it, but with the mtime in nanoseconds: two versions written within one
/// second differ. The same file copied with its times has the same tag on every server. A coded form has its coding
/// behind that, because the forms of one file need different tags (RFC 9110 section 8.8.3.3) and may agree in time
/// and size.
fn etag(mtime: FileTime, size: u64, coding: Option<Coding>) -> Box<[u8]> {
    let nanoseconds = (mtime.seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(u64::from(mtime.nanoseconds));
    let tag = match coding {
        None => format!("\"{nanoseconds:x}-{size:x}\""),
        Some(coding) => format!("\"{nanoseconds:x}-{size:x}-{}\"", coding.token()),
    };
    tag.into_bytes().into()
}

/// `None` for a time before 1970 or in the future, which must not be sent (RFC 9110 section 8.8.2.1).
fn last_modified(mtime: FileTime, wall_seconds: i64) -> Option<LastModified> {
    if mtime.seconds > wall_seconds {
        return None;
    }
    let seconds = u64::try_from(mtime.seconds).ok()?;
    Some(LastModified { seconds, text: http_date(mtime)?, strong: mtime.seconds < wall_seconds })
}

/// IMF-fixdate (RFC 9110 section 5.6.7); `None` for a time before 1970 or after the year 9999.
pub(super) fn http_date(time: FileTime) -> Option<[u8; 29]> {
    let seconds = u64::try_from(time.seconds).ok().filter(|_| time.seconds <= DATE_MAX)?;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)).as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64, nanoseconds: u32) -> FileTime {
        FileTime { seconds, nanoseconds }
    }

    #[test]
    fn a_nanosecond_or_a_byte_makes_another_tag() {
        assert_eq!(&*etag(time(1, 2), 255, None), b"\"3b9aca02-ff\"");
        assert_ne!(etag(time(1, 2), 255, None), etag(time(1, 3), 255, None));
        assert_ne!(etag(time(1, 2), 255, None), etag(time(1, 2), 256, None));
        assert_eq!(&*etag(time(-1, 0), 0, None), b"\"ffffffffc4653600-0\"");
        assert_eq!(&*etag(time(1, 2), 255, Some(Coding::Zstd)), b"\"3b9aca02-ff-zstd\"");
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
        let files = crate::config::Defaults::default().files("/".as_ref());
        let making = Making { name: b"a.txt", coding: None, files: &files, small_max, wall_seconds: i64::MAX };
        Entry::read(file, stamp, &making).expect("read")
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
