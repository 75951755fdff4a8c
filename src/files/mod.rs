//! Static files, up to but not including the socket: request in, [`Plan`] out.
//!
//! | file | does |
//! |---|---|
//! | `serve` | request → [`serve::Plan`]: which file, which status, which bytes of it |
//! | `locate` | path → file: prefix, dot files, `try`, `index`, `fallback`; nginx's `root` and `alias` |
//! | `head` | writes the fields of a plan |
//! | `conditional`, `range` | preconditions and ranges of RFC 9110, pure |
//! | `parts` | bodies of several ranges, pure |
//! | `coding` | the codings a client accepts, in its order |
//! | `cache` | per-worker cache of open files, small ones with their content, coded forms with their original |
//! | `load` | reads a file and the coded forms beside it |
//! | `ring`, `absent` | eviction; paths that led nowhere |
//! | `entry` | one file: validators, pre-rendered fields, content or descriptor |
//! | `mime` | media type by extension |
//! | `listing`, `listing_page` | directories: what is shown, and how; read on a helper thread |
//! | `scripts` | whether a script is there that a server behind us is to run |
//! | `warm` | finds a file on a helper thread, where the disk is slow |
//!
//! A request for a cached small file costs no allocation and no system call, also where it has coded forms. Not here:
//! compressing, writing to the socket.

mod absent;
mod cache;
mod coding;
mod conditional;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod head;
mod listing;
mod listing_page;
mod load;
mod locate;
mod mime;
mod parts;
mod range;
mod ring;
mod scripts;
pub mod serve;
mod warm;

pub use self::cache::{Cache, Limits};
pub use self::coding::CodingSet;
pub use self::conditional::{Conditions, LastModified, Lines, Outcome, Validators, evaluate};
pub use self::entry::{Content, Entry};
pub use self::listing::{Errand, Listed};
pub use self::mime::Mime;
pub use self::parts::Piece;
pub use self::range::ByteRange;
pub use self::scripts::{Scripts, Search, Sought};
pub use self::serve::{FileSlice, HeadPart, Plan, PlanBody, Request, changes, prepare, prepare_cached, write_fields};
pub use self::warm::WarmUp;

use rustix::io::Errno;

/// Why a file cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// There is no such file that may be served: missing, not a regular file, outside of the root, name too long.
    Absent,
    /// The process may not read it, or it is a directory without index file.
    Forbidden,
    /// Out of descriptors or memory; later it may work.
    Exhausted,
    /// The file system failed.
    Failed,
}

impl FileError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            FileError::Absent => 404,
            FileError::Forbidden => 403,
            FileError::Exhausted => 503,
            FileError::Failed => 500,
        }
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileError::Absent => "no such file",
            FileError::Forbidden => "permission denied",
            FileError::Exhausted => "out of descriptors or memory",
            FileError::Failed => "the file system failed",
        })
    }
}

impl std::error::Error for FileError {}

impl From<Option<Errno>> for FileError {
    fn from(errno: Option<Errno>) -> Self {
        match errno {
            // XDEV and LOOP: a symbolic link that leads out of the root, or nowhere. NXIO, NODEV: a device or socket
            // that took the place of a file. INVAL: a name the file system cannot hold.
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::XDEV
                | Errno::NAMETOOLONG
                | Errno::NXIO
                | Errno::NODEV
                | Errno::INVAL,
            ) => FileError::Absent,
            Some(Errno::ACCESS | Errno::PERM) => FileError::Forbidden,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => FileError::Exhausted,
            _ => FileError::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
