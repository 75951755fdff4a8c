//! From request to [`Plan`]: which file, which status, which bytes of it.

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::FileError;
use super::cache::{Cache, Found};
use super::conditional::{Conditions, Outcome, evaluate};
use super::entry::{Content, Entry};
use super::head::canned_body;
use super::range::ByteRange;
use crate::config::model::Files;
use crate::http::h1::Method;
use crate::metrics::FileStats;
use crate::util::path::{self, Path};

/// What the file tier needs to know of a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, decoded and normalized.
    pub path: Path<'a>,
    /// The query as sent, without `?`; a redirect keeps it.
    pub query: Option<&'a [u8]>,
    /// Its condition fields.
    pub conditions: Conditions<'a>,
}

/// A complete answer, ready to be written.
#[derive(Debug)]
pub struct Plan {
    /// Status code.
    pub status: u16,
    /// The fields; see [`super::write_head`].
    pub head: HeadPart,
    /// The body. None for HEAD, though the head is the same.
    pub body: PlanBody,
}

/// Where the fields of an answer come from.
#[derive(Debug)]
pub enum HeadPart {
    /// 200: written when the file was opened.
    Whole(Rc<Entry>),
    /// 206.
    Partial(Rc<Entry>, ByteRange),
    /// 304.
    NotModified(Rc<Entry>),
    /// 416.
    Unsatisfiable(Rc<Entry>),
    /// 301 to this target, encoded.
    Redirect(Vec<u8>),
    /// An answer whose fields follow from its status.
    Canned,
}

/// The bytes behind the head.
#[derive(Debug)]
pub enum PlanBody {
    /// None at all.
    None,
    /// From memory.
    Bytes(Bytes),
    /// From a file, by sendfile(2) or in pieces. When it turns out to be shorter, close the connection.
    File {
        /// The open file.
        file: Rc<File>,
        /// First byte to send.
        offset: u64,
        /// How many; never 0.
        len: u64,
    },
}

impl PlanBody {
    /// Bytes to send.
    pub fn len(&self) -> u64 {
        match self {
            PlanBody::None => 0,
            PlanBody::Bytes(bytes) => bytes.len() as u64,
            PlanBody::File { len, .. } => *len,
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
/// config is in use. A cached file costs no allocation and no system call; any other blocks on the disk.
/// The caller counts [`FileStats::duration`] and what it sends.
pub fn prepare(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    request: &Request<'_>,
    now: Instant,
    stats: &FileStats,
) -> Plan {
    if !matches!(request.method, Method::Get | Method::Head) {
        return Plan::canned(405, request.method);
    }
    match locate(files, index, cache, request.path, now, stats) {
        Ok(Found::Entry(entry)) => answer(entry, request, stats),
        Ok(Found::Directory) => redirect(request),
        Err(error) => Plan::canned(error.status(), request.method),
    }
}

/// Finds the file for `path`. A directory is only returned for a path that lacks its slash.
fn locate(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    path: Path<'_>,
    now: Instant,
    stats: &FileStats,
) -> Result<Found, FileError> {
    let name = beneath_root(path.as_bytes(), files.strip_prefix.as_bytes());
    if is_hidden(name) {
        return Err(FileError::Absent);
    }
    cache.enter(index, files, now, stats)?;
    let found = if path.is_directory() {
        cache.find_index(index, name, files, now, stats)
    } else {
        cache.find(index, name, now, stats)
    };
    let Some(fallback) = files.fallback.as_deref().filter(|_| is_missing(&found)) else { return found };
    match cache.find(index, fallback.trim_start_matches('/').as_bytes(), now, stats) {
        Ok(Found::Directory) => Err(FileError::Absent),
        found => found,
    }
}

fn is_missing(found: &Result<Found, FileError>) -> bool {
    matches!(found, Err(FileError::Absent))
}

/// The part of `path` behind `prefix` and without a leading slash. The prefix is cut off only at a slash: otherwise
/// `/static../secret` would become `../secret`, nginx's classic mistake with `alias`. Where it is not the beginning,
/// nothing is cut off.
fn beneath_root<'a>(path: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let rest = match path.strip_prefix(prefix) {
        Some(rest @ ([] | [b'/', ..])) => rest,
        _ => path,
    };
    rest.strip_prefix(b"/").unwrap_or(rest)
}

/// Names that begin with a dot are configuration, history, passwords. `.well-known` is public by RFC 8615.
fn is_hidden(name: &[u8]) -> bool {
    memchr::memchr_iter(b'.', name).any(|dot| {
        let starts_segment = dot == 0 || name[dot - 1] == b'/';
        starts_segment && name[dot..].split(|&byte| byte == b'/').next() != Some(b".well-known")
    })
}

fn answer(entry: Rc<Entry>, request: &Request<'_>, stats: &FileStats) -> Plan {
    match evaluate(&request.conditions, &entry.validators, request.method) {
        Outcome::Full => {
            let body = body_of(&entry, 0, entry.validators.len, request.method);
            Plan { status: 200, head: HeadPart::Whole(entry), body }
        }
        Outcome::Partial(range) => {
            let body = body_of(&entry, range.start, range.len, request.method);
            Plan { status: 206, head: HeadPart::Partial(entry, range), body }
        }
        Outcome::NotModified => {
            stats.not_modified.inc();
            Plan { status: 304, head: HeadPart::NotModified(entry), body: PlanBody::None }
        }
        Outcome::PreconditionFailed => Plan::canned(412, request.method),
        Outcome::RangeNotSatisfiable => {
            Plan { head: HeadPart::Unsatisfiable(entry), ..Plan::canned(416, request.method) }
        }
    }
}

/// `start` and `len` lie within the file.
fn body_of(entry: &Entry, start: u64, len: u64, method: Method) -> PlanBody {
    if method == Method::Head || len == 0 {
        return PlanBody::None;
    }
    match &entry.content {
        Content::Small(body) => PlanBody::Bytes(body.slice(start as usize..(start + len) as usize)),
        Content::Large(file) => PlanBody::File { file: file.clone(), offset: start, len },
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
    fn canned(status: u16, method: Method) -> Plan {
        let body = if method == Method::Head { PlanBody::None } else { PlanBody::Bytes(canned_body(status)) };
        Plan { status, head: HeadPart::Canned, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_cut_off_at_a_slash_only() {
        let check = |path: &str, prefix: &str, expect: &str| {
            let got = beneath_root(path.as_bytes(), prefix.as_bytes());
            assert_eq!(got, expect.as_bytes(), "{path} without {prefix}");
        };
        check("/a.css", "", "a.css");
        check("/", "", "");
        check("/static/a.css", "/static", "a.css");
        check("/static/a.css", "/static/", "a.css");
        check("/static", "/static", "");
        check("/static", "/static/", "");
        check("/static/", "/static/", "");
        check("/static../secret", "/static", "static../secret");
        check("/statics/a", "/static", "statics/a");
        check("/other/a", "/static", "other/a");
        check("/a", "/", "a");
    }

    #[test]
    fn dot_files_are_hidden() {
        for name in [".git/config", "a/.env", ".", "a/.well-knownx/b", ".well-known/.x", "a/..b"] {
            assert!(is_hidden(name.as_bytes()), "{name}");
        }
        for name in ["", "a.b", "a/b.c/d", ".well-known/acme-challenge/x", "a/.well-known/b", "a..", ".well-known"] {
            assert!(!is_hidden(name.as_bytes()), "{name}");
        }
    }
}
