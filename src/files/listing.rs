//! Listings of directories: which there are, in which form and order. Reading one blocks, so it goes as an [`Errand`]
//! to a helper thread and comes back as [`Listed`]. How it looks is in `listing_page`.
//!
//! Shown is what a request can reach: no names that begin with a dot (unless they are served), no symbolic links that
//! are not followed, no fifos, sockets and devices, no names that cannot stand in a path.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::FileError;
use super::conditional::Lines;
use super::entry::http_date;
use super::listing_page::{write_html, write_json};
use super::serve::Request;
use crate::config::model::{Files, Listing};
use crate::runtime::sys::files::{FileTime, Kind, Root, Stamp};

/// Most entries of a listing; what comes beyond is left out, which the listing says.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Most names looked at for one: in a directory of a million hidden files the search has an end too.
const LOOKS_MAX: usize = 10 * ENTRIES_MAX;

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Json,
}

/// What a listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Time,
    Size,
}

/// The order of a listing; directories come first in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) sort: Sort,
    pub(super) descending: bool,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: Vec<u8>,
    pub(super) is_directory: bool,
    pub(super) mtime: FileTime,
    pub(super) size: u64,
}

/// A directory to be listed. Goes to a helper thread by value.
#[derive(Clone, Debug)]
pub struct Errand {
    files: Arc<Files>,
    /// Beneath the root.
    name: Vec<u8>,
    /// As the client asked for it.
    path: Vec<u8>,
    format: Format,
    order: Order,
}

/// A listing, ready to be sent.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The page.
    pub body: Bytes,
    pub(super) format: Format,
    /// The format follows from Accept.
    pub(super) is_negotiated: bool,
    /// Last change of the directory.
    pub(super) last_modified: Option<[u8; 29]>,
    /// Not all entries are in it.
    pub(super) is_cut: bool,
}

impl Errand {
    pub(super) fn new(files: Arc<Files>, name: Vec<u8>, request: &Request<'_>) -> Errand {
        let format = match files.listing {
            Listing::Json => Format::Json,
            Listing::Auto if prefers_json(&request.accept) => Format::Json,
            _ => Format::Html,
        };
        let order = order_of(request.query.unwrap_or_default());
        Errand { files, name, path: request.path.as_bytes().into(), format, order }
    }

    /// Reads the directory. Blocks for as long as the disk takes.
    ///
    /// Errors: as for a file; the directory may be gone by now.
    pub fn run(&self) -> Result<Listed, FileError> {
        let failed = |error: std::io::Error| FileError::from(Errno::from_io_error(&error));
        let root = Root::open(&self.files.root, self.files.symlinks).map_err(failed)?;
        let (mut lines, mut looks, mut is_cut) = (Vec::new(), 0, false);
        let directory = root
            .read_directory(&self.name, |name, stamp| {
                looks += 1;
                is_cut = lines.len() == ENTRIES_MAX || looks > LOOKS_MAX;
                if !is_cut && self.shows(name, &stamp) {
                    lines.push(Line::new(name, &stamp));
                }
                !is_cut
            })
            .map_err(failed)?;
        lines.sort_by(|one, other| self.order.compare(one, other));
        let page = Page { path: &self.path, has_parent: !self.name.is_empty(), order: self.order, lines, is_cut };
        Ok(Listed {
            body: match self.format {
                Format::Html => write_html(&page).into(),
                Format::Json => write_json(&page).into(),
            },
            format: self.format,
            is_negotiated: self.files.listing == Listing::Auto,
            last_modified: http_date(directory.mtime),
            is_cut,
        })
    }

    fn shows(&self, name: &[u8], stamp: &Stamp) -> bool {
        let is_hidden = !self.files.dotfiles && name.first() == Some(&b'.');
        stamp.kind != Kind::Other && !is_hidden && !name.iter().any(u8::is_ascii_control)
    }
}

/// What a page is written from.
pub(super) struct Page<'a> {
    pub(super) path: &'a [u8],
    /// There is a directory above it that belongs to the same folder.
    pub(super) has_parent: bool,
    pub(super) order: Order,
    pub(super) lines: Vec<Line>,
    pub(super) is_cut: bool,
}

impl Line {
    fn new(name: &[u8], stamp: &Stamp) -> Line {
        Line { name: name.into(), is_directory: stamp.kind == Kind::Directory, mtime: stamp.mtime, size: stamp.size }
    }
}

impl Order {
    fn compare(self, one: &Line, other: &Line) -> Ordering {
        let by_name = || one.name.cmp(&other.name);
        let order = match self.sort {
            Sort::Name => by_name(),
            Sort::Time => one.mtime.cmp(&other.mtime).then_with(by_name),
            // The size of a directory means nothing to the reader.
            Sort::Size if one.is_directory => by_name(),
            Sort::Size => one.size.cmp(&other.size).then_with(by_name),
        };
        let order = if self.descending { order.reverse() } else { order };
        other.is_directory.cmp(&one.is_directory).then(order)
    }
}

/// `?sort=name|time|size&order=asc|desc`; what is not understood is left at its default.
fn order_of(query: &[u8]) -> Order {
    let mut order = Order { sort: Sort::Name, descending: false };
    for pair in query.split(|&byte| byte == b'&') {
        match pair {
            b"sort=name" => order.sort = Sort::Name,
            b"sort=time" => order.sort = Sort::Time,
            b"sort=size" => order.sort = Sort::Size,
            b"order=asc" => order.descending = false,
            b"order=desc" => order.descending = true,
            _ => {}
        }
    }
    order
}

/// The client would rather have application/json than text/html (RFC 9110 section 12.5.1). In doubt it is a person.
fn prefers_json(accept: &Lines<'_>) -> bool {
    let (mut json, mut html) = (Preference::default(), Preference::default());
    for member in accept.iter().flat_map(|line| line.split(|&byte| byte == b',')) {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let weight = parts.find_map(quality).unwrap_or(1000);
        json.consider(range, b"application/json", b"application/*", weight);
        html.consider(range, b"text/html", b"text/*", weight);
    }
    json.weight > html.weight
}

/// How much a client wants a type: the weight of the most precise range that matches.
#[derive(Default)]
struct Preference {
    precision: u8,
    weight: u16,
}

impl Preference {
    fn consider(&mut self, range: &[u8], exact: &[u8], group: &[u8], weight: u16) {
        let precision = if range.eq_ignore_ascii_case(exact) {
            3
        } else if range.eq_ignore_ascii_case(group) {
            2
        } else if range == b"*/*" {
            1
        } else {
            return;
        };
        if precision > self.precision {
            *self = Preference { precision, weight };
        }
    }
}

/// `q=0.8` as 800 (RFC 9110 section 12.4.2). `None`: another parameter, or malformed.
fn quality(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), fraction @ ..] = parameter else { return None };
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let thousandths = (0..3).fold(0, |n, at| n * 10 + digits.get(at).map_or(0, |digit| u16::from(digit - b'0')));
    Some((u16::from(whole - b'0') * 1000 + thousandths).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_to_those_who_want_it_section_12_5_1() {
        let check = |accept: &str, expect: bool| {
            assert_eq!(prefers_json(&accept.as_bytes().into()), expect, "{accept}");
        };
        check("application/json", true);
        check("Application/JSON", true);
        check("application/*", true);
        check("application/json, text/html;q=0.9", true);
        check("text/*;q=0.3, application/json;q=0.4, */*;q=0.5", true);
        check("*/*;q=0.9, text/html;q=0", true);
        check("application/json;charset=utf-8;q=1.000,text/html;q=0.999", true);
        check("", false);
        check("*/*", false);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false);
        check("application/json, text/html", false);
        check("application/json;q=0", false);
        check("application/json;q=0.5, */*", false);
        check("application/jsonp", false);
        let mut lines = Lines::from(b"text/html;q=0.1".as_slice());
        lines.push(b"application/json;q=0.2");
        assert!(prefers_json(&lines));
        assert!(!prefers_json(&Lines::default()));
    }

    #[test]
    fn weights_section_12_4_2() {
        for (text, expect) in [
            ("q=1", Some(1000)),
            ("Q=0.5", Some(500)),
            ("q=0.05", Some(50)),
            ("q=0.001", Some(1)),
            ("q=0.", Some(0)),
            ("q=1.5", Some(1000)),
            ("q=0.1234", None),
            ("q=2", None),
            ("q=", None),
            ("q=0.x", None),
            ("v=1", None),
        ] {
            assert_eq!(quality(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn the_query_sorts() {
        let check = |query: &str, sort: Sort, descending: bool| {
            assert_eq!(order_of(query.as_bytes()), Order { sort, descending }, "{query}");
        };
        check("", Sort::Name, false);
        check("sort=size", Sort::Size, false);
        check("sort=time&order=desc", Sort::Time, true);
        check("order=desc&x=y&sort=name", Sort::Name, true);
        check("sort=colour&order=up", Sort::Name, false);
    }

    #[test]
    fn directories_come_first_in_any_order() {
        let line = |name: &str, is_directory: bool, seconds: i64, size: u64| Line {
            name: name.into(),
            is_directory,
            mtime: FileTime { seconds, nanoseconds: 0 },
            size,
        };
        let lines = [line("b", false, 3, 10), line("z", true, 1, 4096), line("a", false, 2, 30), line("y", true, 2, 1)];
        let check = |query: &str, expect: &str| {
            let order = order_of(query.as_bytes());
            let mut lines = lines.to_vec();
            lines.sort_by(|one, other| order.compare(one, other));
            let names: Vec<&str> = lines.iter().map(|line| std::str::from_utf8(&line.name).expect("text")).collect();
            assert_eq!(names.join(""), expect, "{query}");
        };
        check("", "yzab");
        check("order=desc", "zyba");
        check("sort=time", "zyab");
        check("sort=time&order=desc", "yzba");
        check("sort=size", "yzba");
        check("sort=size&order=desc", "zyab");
    }
}
