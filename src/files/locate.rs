//! From path to file: prefix, dot files, `try`, `index`, `fallback`, and the route that comes last.
//!
//! | nginx | here |
//! |---|---|
//! | `location /static/ { root /srv; }`: /static/a → /srv/static/a | `path = "/static/"`, `root = "/srv"` |
//! | `location /static/ { alias /srv/; }`: /static/a → /srv/a | the same with `strip_prefix = "/static"` |
//! | `try_files $uri $uri.html $uri/ =404` | `try = ["$path", "$path.html", "$path/", "=404"]` |
//! | `try_files $uri $uri/ @app` | `try = ["$path", "$path/", "@app"]`, or `fallback = "@app"` |
//! | `try_files $uri $uri/ /index.html` | `try = ["$path", "$path/", "/index.html"]`, or `fallback = "/index.html"` |
//!
//! `$path` stands for the path behind `strip_prefix`. As with nginx, an entry that does not end in a slash finds files
//! only, and one that does finds directories only. Two things differ: a directory without index file (and without
//! listing) is no hit, so the next entry has its turn where nginx answers 403; and a path in the last entry is looked for
//! beneath the root like the others, not routed again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::FileError;
use super::cache::{Cache, Found};
use super::entry::Entry;
use crate::config::model::{Candidate, Files, Listing};
use crate::metrics::FileStats;
use crate::util::path::Path;

/// What the path of a request leads to.
#[derive(Debug)]
pub(super) enum Located {
    /// A file.
    Entry(Rc<Entry>),
    /// A directory, but the path lacks its slash.
    Unslashed,
    /// A directory to be listed: its name beneath the root.
    Listing(Vec<u8>),
    /// Nothing; the operator chose this status.
    Status(u16),
    /// Nothing; this route has the request.
    Route(usize),
}

/// Finds what `path` leads to in the folder that `files` describes.
pub(super) fn locate(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    path: Path<'_>,
    now: Instant,
    stats: &FileStats,
) -> Result<Located, FileError> {
    match (look(files, index, cache, path, now, stats), files.last_resort) {
        (Err(FileError::Absent), Some(route)) => Ok(Located::Route(route)),
        (found, _) => found,
    }
}

/// The same without the route that comes last.
fn look(
    files: &Arc<Files>,
    index: usize,
    cache: &mut Cache,
    path: Path<'_>,
    now: Instant,
    stats: &FileStats,
) -> Result<Located, FileError> {
    let name = beneath_root(path.as_bytes(), files.strip_prefix.as_bytes());
    if !files.dotfiles && is_hidden(name) {
        return Err(FileError::Absent);
    }
    cache.enter(index, files, now, stats)?;
    let mut search = Search { files, index, cache, now, stats };
    let found = if !files.candidates.is_empty() {
        search.candidates(name, path.is_directory())
    } else if path.is_directory() {
        search.directory(name, files.fallback.is_some() || files.last_resort.is_some())
    } else {
        search.name(name)
    };
    match files.fallback.as_deref() {
        Some(fallback) if matches!(found, Err(FileError::Absent)) => {
            search.file(fallback.trim_start_matches('/').as_bytes()).map(Located::Entry)
        }
        _ => found,
    }
}

/// A search in one folder, which was entered.
struct Search<'a> {
    files: &'a Files,
    index: usize,
    cache: &'a mut Cache,
    now: Instant,
    stats: &'a FileStats,
}

impl Search<'_> {
    /// A name as the client wrote it, without a slash at its end.
    fn name(&mut self, name: &[u8]) -> Result<Located, FileError> {
        match self.cache.find(self.index, name, self.now, self.stats)? {
            Found::Entry(entry) => Ok(Located::Entry(entry)),
            Found::Directory => Ok(Located::Unslashed),
        }
    }

    /// A regular file.
    fn file(&mut self, name: &[u8]) -> Result<Rc<Entry>, FileError> {
        match self.cache.find(self.index, name, self.now, self.stats)? {
            Found::Entry(entry) => Ok(entry),
            Found::Directory => Err(FileError::Absent),
        }
    }

    /// The index or the listing of a directory. Where there is neither it is forbidden, or absent when something else
    /// may be served instead.
    fn directory(&mut self, name: &[u8], has_alternative: bool) -> Result<Located, FileError> {
        match self.cache.find_index(self.index, name, self.files, self.now, self.stats) {
            Err(FileError::Absent) => {}
            found => return found.map(Located::Entry),
        }
        let lists = self.files.listing != Listing::Off;
        if !lists && has_alternative {
            return Err(FileError::Absent);
        }
        self.cache.look_for_directory(self.index, name)?;
        if lists { Ok(Located::Listing(name.into())) } else { Err(FileError::Forbidden) }
    }

    /// The first entry of `try` that leads to something. `is_directory`: the path of the request ends in a slash.
    fn candidates(&mut self, name: &[u8], is_directory: bool) -> Result<Located, FileError> {
        let mut path = self.cache.take_scratch();
        let mut found = Err(FileError::Absent);
        for candidate in &self.files.candidates {
            found = match candidate {
                Candidate::Status(status) => Ok(Located::Status(*status)),
                Candidate::Path { before, takes_path, after } => {
                    compose(before, name, *takes_path, after, &mut path);
                    let is_own_directory = *takes_path && before.is_empty() && after == "/";
                    match (is_own_directory, is_directory) {
                        (true, true) => self.directory(path.beneath_root(), true),
                        (true, false) => self.unslashed(name),
                        (false, _) => self.candidate(*takes_path, &path),
                    }
                }
            };
            if !matches!(found, Err(FileError::Absent)) {
                break;
            }
        }
        self.cache.give_scratch_back(path);
        found
    }

    /// A directory whose name lacks its slash: the links in an index file would lead elsewhere without it.
    fn unslashed(&mut self, name: &[u8]) -> Result<Located, FileError> {
        match self.name(name)? {
            Located::Unslashed => Ok(Located::Unslashed),
            _ => Err(FileError::Absent),
        }
    }

    /// One entry that became `path` and is not `$path/`, the directory that the client asked for.
    fn candidate(&mut self, takes_path: bool, path: &Composed) -> Result<Located, FileError> {
        let beneath = path.beneath_root();
        if takes_path && !self.files.dotfiles && is_hidden(beneath) {
            return Err(FileError::Absent);
        }
        let found = match beneath {
            _ if path.wants_directory => self.cache.find_index(self.index, beneath, self.files, self.now, self.stats),
            [] | [.., b'/'] => Err(FileError::Absent),
            _ => self.file(beneath),
        };
        found.map(Located::Entry)
    }
}

/// An entry of `try` with the path of the request in its place. Its buffer is kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Composed {
    bytes: Vec<u8>,
    wants_directory: bool,
}

impl Composed {
    fn beneath_root(&self) -> &[u8] {
        self.bytes.strip_prefix(b"/").unwrap_or(&self.bytes)
    }
}

/// Slashes that meet become one. `name` has none at its front.
fn compose(before: &str, name: &[u8], takes_path: bool, after: &str, out: &mut Composed) {
    let bytes = &mut out.bytes;
    bytes.clear();
    bytes.extend_from_slice(before.as_bytes());
    if takes_path {
        push_slash(bytes);
        bytes.extend_from_slice(name);
        match after.strip_prefix('/') {
            Some(after) => {
                push_slash(bytes);
                bytes.extend_from_slice(after.as_bytes());
            }
            None => bytes.extend_from_slice(after.as_bytes()),
        }
    }
    let text = if takes_path { after } else { before };
    out.wants_directory = text.ends_with('/');
}

fn push_slash(bytes: &mut Vec<u8>) {
    if bytes.last() != Some(&b'/') {
        bytes.push(b'/');
    }
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
pub(super) fn is_hidden(name: &[u8]) -> bool {
    memchr::memchr_iter(b'.', name).any(|dot| {
        let starts_segment = dot == 0 || name[dot - 1] == b'/';
        starts_segment && name[dot..].split(|&byte| byte == b'/').next() != Some(b".well-known")
    })
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

    #[test]
    fn the_path_is_put_in_its_place() {
        let check = |before: &str, name: &str, after: &str, expect: &str| {
            let mut out = Composed::default();
            compose(before, name.as_bytes(), true, after, &mut out);
            assert_eq!(String::from_utf8_lossy(out.beneath_root()), expect, "{before} {name} {after}");
            assert_eq!(out.wants_directory, after.ends_with('/'));
        };
        check("", "a", "", "a");
        check("", "a", ".html", "a.html");
        check("", "a", "/", "a/");
        check("", "a/", "/", "a/");
        check("", "", "/", "");
        check("", "", "", "");
        check("", "", ".html", ".html");
        check("", "a/", ".html", "a/.html");
        check("", "a/b", "/index.htm", "a/b/index.htm");
        check("/cache", "a", ".html", "cache/a.html");
        check("/cache/", "a", "", "cache/a");
        check("/cache", "", "/", "cache/");
        let mut out = Composed::default();
        compose("/docs/", b"a", false, "", &mut out);
        assert_eq!((out.beneath_root(), out.wants_directory), (b"docs/".as_slice(), true));
        compose("/index.html", b"a", false, "", &mut out);
        assert_eq!((out.beneath_root(), out.wants_directory), (b"index.html".as_slice(), false));
    }
}
