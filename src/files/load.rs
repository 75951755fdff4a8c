//! From disk to entry: a file with the coded forms beside it, and whether all of them still are what was read.

use std::io;
use std::rc::Rc;

use rustix::io::Errno;

use super::entry::{Entry, Making};
use super::ring::{Sibling, Slot};
use crate::runtime::sys::files::{Kind, Lookup, Opened, Root, Stamp};

/// What a path led to, on disk.
pub(super) enum Read {
    File(ReadFile),
    Directory,
    Other,
}

/// A file that was read.
pub(super) struct ReadFile {
    pub(super) entry: Rc<Entry>,
    pub(super) stamp: Stamp,
    /// One for each coding that was looked for.
    pub(super) siblings: Box<[Sibling]>,
}

/// Opens `path` and what belongs to it.
///
/// Errors: those of [`Root::open_file`] and of reading.
pub(super) fn read(root: &Root, path: &[u8], making: &Making<'_>, lookup: Lookup) -> io::Result<Read> {
    Ok(match root.open_file(path, lookup)? {
        Opened::File(file, stamp) => {
            let (entry, stamp) = Entry::read(file, stamp, making)?;
            let (mut variants, mut siblings) = (Vec::new(), Vec::new());
            for &coding in &making.files.precompressed {
                let making = Making { coding: Some(coding), ..*making };
                let (variant, found) = read_sibling(root, &sibling_name(path, &making), &stamp, &making, lookup)?;
                variants.extend(variant.map(Rc::new));
                siblings.push(Sibling { coding, stamp: found });
            }
            Read::File(ReadFile { entry: Rc::new(entry.with_variants(variants)), stamp, siblings: siblings.into() })
        }
        Opened::Directory => Read::Directory,
        Opened::Other => Read::Other,
    })
}

fn sibling_name(path: &[u8], making: &Making<'_>) -> Vec<u8> {
    [path, making.coding.map_or(b"".as_slice(), |coding| coding.extension().as_bytes())].concat()
}

/// Looks for a coded form at `name`: the form, if it can be served, and the metadata of what is there. One that is
/// older than the original by whole seconds was made from another version of it and is not served: nginx does not
/// look, and sends old content after a careless deployment. A build that writes both in one go, or copies the times,
/// is on the safe side either way.
///
/// Errors: only those that say the answer is not known (out of descriptors, would wait).
fn read_sibling(
    root: &Root,
    name: &[u8],
    original: &Stamp,
    making: &Making<'_>,
    lookup: Lookup,
) -> io::Result<(Option<Entry>, Option<Stamp>)> {
    let is_usable = |stamp: &Stamp| stamp.kind == Kind::File && stamp.mtime.seconds >= original.mtime.seconds;
    let stamp = match root.stat(name, lookup) {
        Err(error) if would_wait(&error, lookup) => return Err(error),
        looked => looked.ok(),
    };
    if !stamp.as_ref().is_some_and(is_usable) {
        return Ok((None, stamp));
    }
    match root.open_file(name, lookup) {
        Ok(Opened::File(file, found)) if is_usable(&found) => {
            let (entry, stamp) = Entry::read(file, found, making)?;
            Ok((Some(entry), Some(stamp)))
        }
        Err(error) if would_wait(&error, lookup) || is_out_of_descriptors(&error) => Err(error),
        _ => Ok((None, stamp)),
    }
}

/// Nothing about the file at `path` and its coded forms changed since they were read. `scratch` is room for a name.
///
/// Errors: why the file cannot be looked at.
pub(super) fn is_current(
    slot: &Slot,
    root: &Root,
    path: &[u8],
    scratch: &mut Vec<u8>,
    lookup: Lookup,
) -> io::Result<bool> {
    if root.stat(path, lookup)? != slot.stamp {
        return Ok(false);
    }
    for sibling in &slot.siblings {
        scratch.clear();
        scratch.extend_from_slice(path);
        scratch.extend_from_slice(sibling.coding.extension().as_bytes());
        let stamp = match root.stat(scratch, lookup) {
            Err(error) if would_wait(&error, lookup) => return Err(error),
            looked => looked.ok(),
        };
        if stamp != sibling.stamp {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `error` says that only the disk knows.
pub(super) fn would_wait(error: &io::Error, lookup: Lookup) -> bool {
    lookup == Lookup::Memory && error.kind() == io::ErrorKind::WouldBlock
}

pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
