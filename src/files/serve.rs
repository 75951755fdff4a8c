//! From request to [`Plan`]: which file, which status, which bytes of it.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::FileError;
use super::cache::Cache;
use super::coding::CodingSet;
use super::conditional::{Conditions, Lines, Outcome, evaluate};
use super::entry::{Content, Entry, Version};
use super::head::canned_body;
pub use super::head::write_fields;
use super::listing::{Errand, Listed};
use super::locate::{Located, locate};
use super::parts::{self, Boundary, Piece};
use super::range::ByteRange;
use crate::config::model::{Coding, Files, Substitute};
use crate::http::h1::Method;
use crate::metrics::FileStats;
use crate::runtime::sys::files::OpenFile;
use crate::util::path::{self, Path};

/// What the file tier needs to know of a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, decoded and normalized.
    pub path: Path<'a>,
    /// The query as sent, without `?`; a redirect keeps it, a listing is sorted by it.
    pub query: Option<&'a [u8]>,
    /// Its condition fields.
    pub conditions: Conditions<'a>,
    /// The codings it accepts.
    pub accepts: CodingSet,
    /// Its Accept field; only looked at for listings.
    pub accept: Lines<'a>,
    /// Bodies of which types are changed on their way: such files are sent whole and in their plain form.
    pub substitute: Option<&'a Substitute>,
}

/// A complete answer, ready to be written.
#[derive(Debug)]
pub struct Plan {
    /// Status code.
    pub status: u16,
    /// The fields; see [`write_fields`].
    pub head: HeadPart,
    /// The body. None for HEAD, though the head is the same.
    pub body: PlanBody,
    /// The answer follows from Accept-Encoding, so Vary says so (RFC 9110 section 12.5.5). Set this too where a file
    /// could have been compressed on the way and was not.
    pub varies: bool,
    /// The entity tag is written as a weak one: a 200 would be compressed on the way.
    pub is_weak: bool,
}

/// Where the fields of an answer come from.
#[derive(Debug)]
pub enum HeadPart {
    /// 200: written when the file was opened.
    Whole(Rc<Entry>),
    /// 200, compressed on the way: coding and length.
    Compressed(Rc<Entry>, Coding, u64),
    /// 206.
    Partial(Rc<Entry>, ByteRange),
    /// 206 as multipart/byteranges: boundary and length.
    Parts(Rc<Entry>, Boundary, u64),
    /// 304.
    NotModified(Rc<Entry>),
    /// 416.
    Unsatisfiable(Rc<Entry>),
    /// 200 with a listing.
    Listing(Box<Listed>),
    /// 301 to this target, encoded.
    Redirect(Vec<u8>),
    /// An answer whose fields follow from its status; 204 answers OPTIONS.
    Canned,
}

/// The bytes behind the head.
#[derive(Debug)]
pub enum PlanBody {
    /// None at all.
    None,
    /// From memory.
    Bytes(Bytes),
    /// From a file, by sendfile(2) or in pieces.
    File(FileSlice),
    /// One after the other.
    Parts(Box<[Piece]>),
    /// Not known yet: a directory must be read, which blocks. Run [`Errand::run`] on a helper thread and make the
    /// answer with [`Plan::listed`] from what it returns; this plan itself cannot be written.
    NeedsListing(Box<Errand>),
    /// None: there is no such file, and the named route of this index has the request. This plan cannot be written.
    Route(usize),
}

/// Bytes of an open file.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The open file.
    pub file: Rc<OpenFile>,
    /// First byte to send.
    pub offset: u64,
    /// How many; never 0.
    pub len: u64,
    version: Version,
}

impl FileSlice {
    pub(super) fn new(file: Rc<OpenFile>, range: ByteRange, version: Version) -> FileSlice {
        FileSlice { file, offset: range.start, len: range.len, version }
    }

    /// The file still has the content that the head has told length and entity tag of. To be asked before the last
    /// bytes leave: when it is false, or when the file ends early, the connection must break, so that the client does
    /// not take a mixture of two versions for a whole file. One system call.
    pub fn is_intact(&self) -> bool {
        self.version.is_of(&self.file)
    }
}

impl PlanBody {
    /// Bytes to send.
    pub fn len(&self) -> u64 {
        match self {
            PlanBody::None | PlanBody::NeedsListing(_) | PlanBody::Route(_) => 0,
            PlanBody::Bytes(bytes) => bytes.len() as u64,
            PlanBody::File(slice) => slice.len,
            PlanBody::Parts(pieces) => pieces.iter().map(Piece::len).sum(),
        }
    }

    /// There is nothing to send behind the head.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Answers `request` from the folder that `files` describes.
///
/// `index` numbers the files actions of the config, from 0; it only has to be the same for the same folder while one
/// config is in use. A cached small file costs no allocation and no system call, a cached large one a look at its
/// descriptor; any other blocks on the disk, unless the kernel has its names in memory (see [`prepare_cached`]).
/// The caller counts [`FileStats::duration`] and what it sends.
pub fn prepare(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    request: &Request<'_>,
    now: Instant,
    stats: &FileStats,
) -> Plan {
    let reads = matches!(request.method, Method::Get | Method::Head);
    let is_taken = reads || request.method == Method::Options;
    if !is_taken && files.last_resort.is_none() {
        return Plan::canned(405, request.method);
    }
    match locate(files, index, cache, request.path, now, stats) {
        Ok(Located::Route(route)) => Plan::new(404, HeadPart::Canned, PlanBody::Route(route)),
        _ if !is_taken => Plan::canned(405, request.method),
        Ok(Located::Status(status)) => Plan::canned(status, request.method),
        Err(error) => Plan::canned(error.status(), request.method),
        // Preconditions are not looked at: RFC 9110 section 13.2.1.
        Ok(_) if !reads => Plan::new(204, HeadPart::Canned, PlanBody::None),
        Ok(Located::Entry(entry)) => answer(&entry, files, cache, request, stats),
        Ok(Located::Unslashed) => redirect(request),
        Ok(Located::Listing(name)) => {
            let errand = Errand::new(files.clone(), name, request);
            Plan::new(200, HeadPart::Canned, PlanBody::NeedsListing(Box::new(errand)))
        }
    }
}

/// The same as [`prepare`] if that need not wait for the disk; `None` if it would, or if the kernel cannot tell.
///
/// Finding and opening a file are system calls without a form that never waits: io_uring's OPENAT and STATX run them
/// on a helper thread, which costs more than the usual case is worth. In that usual case the names are in the
/// kernel's memory, because a file in use is looked at again and again. Else send a [`super::WarmUp`] to a helper
/// thread; once it has run, [`prepare`] finds everything in memory. Content is never waited for in either way: small
/// files are read only if they are in the page cache, else they are sent like large ones, by a caller that waits
/// without holding up its worker ([`crate::runtime::sys::files::OpenFile::await_resident`]). The exception are file systems that
/// do not know RWF_NOWAIT, where reads of small files are plain reads.
pub fn prepare_cached(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    request: &Request<'_>,
    now: Instant,
    stats: &FileStats,
) -> Option<Plan> {
    cache.without_disk(|cache| prepare(files, index, cache, request, now, stats))
}

fn answer(original: &Rc<Entry>, files: &Files, cache: &mut Cache, request: &Request<'_>, stats: &FileStats) -> Plan {
    let changed = request.substitute.filter(|substitute| changes(substitute, original));
    let entry = match changed {
        Some(_) => original.clone(),
        None => original.representation(request.accepts).clone(),
    };
    // Without validators there is nothing to compare with; a client may still have those of before.
    let conditions = match changed {
        None => Cow::Borrowed(&request.conditions),
        Some(substitute) if !substitute.keeps_validators => Cow::Owned(Conditions::default()),
        Some(_) => Cow::Owned(Conditions { range: None, if_range: None, ..request.conditions.clone() }),
    };
    // Where several ranges of a coded file would have to go, each in a part of its own, nothing says how the parts
    // tell their coding: the whole is sent.
    let ranges_max = if entry.coding.is_some() { files.ranges_max.min(1) } else { files.ranges_max };
    let mut plan = match evaluate(&conditions, &entry.validators, request.method, ranges_max) {
        Outcome::Full => {
            let whole = ByteRange { start: 0, len: entry.len() };
            let body = body_of(&entry, whole, request.method);
            Plan::new(200, HeadPart::Whole(entry), body)
        }
        Outcome::Partial(range) => {
            let body = body_of(&entry, range, request.method);
            Plan::new(206, HeadPart::Partial(entry, range), body)
        }
        Outcome::Parts(ranges) => {
            let boundary = cache.boundary();
            let body = PlanBody::Parts(parts::pieces(&entry, &ranges, &boundary));
            Plan::new(206, HeadPart::Parts(entry, boundary, body.len()), body)
        }
        Outcome::NotModified => {
            stats.not_modified.inc();
            Plan::new(304, HeadPart::NotModified(entry), PlanBody::None)
        }
        Outcome::PreconditionFailed => Plan::canned(412, request.method),
        Outcome::RangeNotSatisfiable => {
            Plan { head: HeadPart::Unsatisfiable(entry), ..Plan::canned(416, request.method) }
        }
    };
    // Also for a file that has no coded form: one may come, and caches must ask again then.
    plan.varies = changed.is_none() && !files.precompressed.is_empty();
    plan
}

/// Whether the body of a file is changed on its way.
pub fn changes(substitute: &Substitute, entry: &Entry) -> bool {
    entry.len() > 0 && substitute.has_type(Some(entry.essence().as_bytes()))
}

/// `range` lies within the file.
fn body_of(entry: &Entry, range: ByteRange, method: Method) -> PlanBody {
    if method == Method::Head || range.len == 0 {
        return PlanBody::None;
    }
    match &entry.content {
        Content::Small(body) => PlanBody::Bytes(body.slice(range.start as usize..range.end() as usize)),
        Content::Large(file) => PlanBody::File(FileSlice::new(file.clone(), range, entry.version())),
    }
}

/// To the same path with a slash. The target has no authority, so that it holds behind any proxy in front of us; it
/// cannot begin with `//` or `/\`, which browsers would take for one.
fn redirect(request: &Request<'_>) -> Plan {
    let mut location = Vec::with_capacity(request.path.as_bytes().len() + 16);
    path::encode(request.path.as_bytes(), &mut location);
    location.push(b'/');
    if let Some(query) = request.query {
        location.push(b'?');
        path::encode_query(query, &mut location);
    }
    Plan { head: HeadPart::Redirect(location), ..Plan::canned(301, request.method) }
}

impl Plan {
    fn new(status: u16, head: HeadPart, body: PlanBody) -> Plan {
        Plan { status, head, body, varies: false, is_weak: false }
    }

    pub(super) fn canned(status: u16, method: Method) -> Plan {
        let body = if method == Method::Head { PlanBody::None } else { PlanBody::Bytes(canned_body(status)) };
        Plan::new(status, HeadPart::Canned, body)
    }

    /// The answer for what [`Errand::run`] brought back. `method` is that of the request.
    pub fn listed(listed: Result<Listed, FileError>, method: Method) -> Plan {
        match listed {
            Err(error) => Plan::canned(error.status(), method),
            Ok(listed) => {
                let body = match method {
                    Method::Head => PlanBody::None,
                    _ => PlanBody::Bytes(listed.body.clone()),
                };
                Plan::new(200, HeadPart::Listing(Box::new(listed)), body)
            }
        }
    }

    /// The file of a 200 in its plain form, which the caller may compress on the way.
    pub fn compressible(&self) -> Option<&Rc<Entry>> {
        match &self.head {
            HeadPart::Whole(entry) if entry.coding.is_none() => Some(entry),
            _ => None,
        }
    }

    /// The file that a 304 tells to be unchanged, in its plain form: the caller would have compressed its 200 on the way.
    pub fn validated(&self) -> Option<&Entry> {
        match &self.head {
            HeadPart::NotModified(entry) if entry.coding.is_none() => Some(entry),
            _ => None,
        }
    }

    /// The file that ranges are sent of, in its plain form: they are not compressed on the way, but its 200 might be.
    pub fn partial(&self) -> Option<&Entry> {
        match &self.head {
            HeadPart::Partial(entry, _) | HeadPart::Parts(entry, ..) if entry.coding.is_none() => Some(entry),
            _ => None,
        }
    }

    /// Puts `body`, the file in `coding`, in the place of the plain file. It has a weak entity tag and no ranges: the
    /// next compression may give other bytes. `self` is one for which [`Plan::compressible`] has an answer; any other
    /// stays as it is.
    pub fn compress(&mut self, coding: Coding, body: Bytes) {
        let Some(entry) = self.compressible().cloned() else { return };
        self.head = HeadPart::Compressed(entry, coding, body.len() as u64);
        if !matches!(self.body, PlanBody::None) {
            self.body = PlanBody::Bytes(body);
        }
        (self.varies, self.is_weak) = (true, true);
    }
}
