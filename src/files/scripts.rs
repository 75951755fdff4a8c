//! Whether a script is there, for servers that run what a path names: asked of the disk once in a while, by the rules by
//! which files are served. What is in a script is never looked at.
//!
//! The folder is opened anew when what is known of it is too old, because a deployment may have put another one into its
//! place; with it all that is known is forgotten.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use rustix::io::Errno;

use super::FileError;
use super::absent::is_fresh;
use super::locate::is_hidden;
use crate::config::model::Symlinks;
use crate::runtime::sys::files::{Kind, Lookup, Root, Stamp};

/// Names known of one folder to be there, and as many known not to be; with more all of those are forgotten.
const NAMES_MAX: usize = 4096;
/// A name that is not there is not remembered when it is longer, in bytes: such names are a client's inventions.
const ABSENT_BYTES_MAX: usize = 256;
/// A folder that nobody has asked for in so long is closed.
const FOLDER_IDLE: Duration = Duration::from_secs(300);

/// What one data worker knows of scripts.
#[derive(Debug, Default)]
pub struct Scripts {
    folders: HashMap<PathBuf, Folder, RandomState>,
}

#[derive(Debug)]
struct Folder {
    root: Result<Arc<Root>, FileError>,
    opened: Instant,
    present: HashSet<Box<[u8]>, RandomState>,
    /// Apart, so that whoever tries one name after the other does not make us forget those.
    absent: HashSet<Box<[u8]>, RandomState>,
}

/// What is known of a script.
#[derive(Debug)]
pub enum Sought {
    /// Whether it is there.
    Known(bool),
    /// The disk has to be asked, which may take its time.
    Unknown(Search),
}

/// A look at the disk. Goes to a helper thread by value.
#[derive(Clone, Debug)]
pub struct Search {
    root: Arc<Root>,
    name: Box<[u8]>,
}

impl Search {
    /// Whether the script is there. Blocks for as long as the disk takes.
    ///
    /// Errors: what else is wrong there.
    pub fn run(&self) -> Result<bool, FileError> {
        is_script(self.root.look(&self.name, Lookup::Disk))
    }
}

impl Scripts {
    /// Looks for the script at `path`, which begins with a slash and is free of dot segments, below `root`. What is known
    /// counts for `valid`.
    ///
    /// Errors: the folder cannot be opened, or the disk fails.
    pub fn look(&mut self, root: &Path, path: &[u8], valid: Duration, now: Instant) -> Result<Sought, FileError> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        if name.is_empty() || is_hidden(name) {
            return Ok(Sought::Known(false));
        }
        let folder = self.folder(root, valid, now);
        if let Some(is_there) = folder.known(name) {
            return Ok(Sought::Known(is_there));
        }
        let root = folder.root.as_ref().map_err(|error| *error)?;
        match root.look(name, Lookup::Memory) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Sought::Unknown(Search { root: root.clone(), name: name.into() }))
            }
            found => {
                let is_there = is_script(found)?;
                folder.note(name, is_there);
                Ok(Sought::Known(is_there))
            }
        }
    }

    /// Notes what a [`Search`] below `root` has found.
    pub fn note(&mut self, root: &Path, path: &[u8], is_there: bool) {
        if let Some(folder) = self.folders.get_mut(root) {
            folder.note(path.strip_prefix(b"/").unwrap_or(path), is_there);
        }
    }

    fn folder(&mut self, root: &Path, valid: Duration, now: Instant) -> &mut Folder {
        if !self.folders.get(root).is_some_and(|folder| is_fresh(folder.opened, now, valid)) {
            self.folders.retain(|_, folder| is_fresh(folder.opened, now, FOLDER_IDLE));
            self.folders.insert(root.to_owned(), Folder::open(root, now));
        }
        self.folders.get_mut(root).expect("it was put there")
    }
}

impl Folder {
    fn open(path: &Path, now: Instant) -> Folder {
        let root = Root::open(path, Symlinks::Beneath).map(Arc::new).map_err(|error| {
            tracing::error!(root = %path.display(), %error, "the folder of the scripts cannot be opened");
            FileError::from(Errno::from_io_error(&error))
        });
        Folder { root, opened: now, present: HashSet::default(), absent: HashSet::default() }
    }

    fn known(&self, name: &[u8]) -> Option<bool> {
        if self.present.contains(name) {
            return Some(true);
        }
        self.absent.contains(name).then_some(false)
    }

    fn note(&mut self, name: &[u8], is_there: bool) {
        if !is_there && name.len() > ABSENT_BYTES_MAX {
            return;
        }
        let names = if is_there { &mut self.present } else { &mut self.absent };
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(name.into());
    }
}

/// A regular file is one.
fn is_script(found: io::Result<Stamp>) -> Result<bool, FileError> {
    match found {
        Ok(stamp) => Ok(stamp.kind == Kind::File),
        Err(error) => match FileError::from(Errno::from_io_error(&error)) {
            FileError::Absent => Ok(false),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: Duration = Duration::from_secs(1);

    fn is_there(scripts: &mut Scripts, root: &Path, path: &str, now: Instant) -> Result<bool, FileError> {
        match scripts.look(root, path.as_bytes(), VALID, now)? {
            Sought::Known(known) => Ok(known),
            Sought::Unknown(search) => {
                let found = search.run()?;
                scripts.note(root, path.as_bytes(), found);
                Ok(found)
            }
        }
    }

    #[test]
    fn only_files_below_the_root_are_scripts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("dir.php")).unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        for name in ["root/a.php", "outside.php", "root/.git/x.php", "root/.hidden.php"] {
            std::fs::write(folder.path().join(name), "<?php").unwrap();
        }
        std::os::unix::fs::symlink("../outside.php", root.join("out.php")).unwrap();
        std::os::unix::fs::symlink("a.php", root.join("in.php")).unwrap();
        let (mut scripts, now) = (Scripts::default(), Instant::now());
        for (path, expect) in [
            ("/a.php", true),
            ("/in.php", true),
            ("/out.php", false),
            ("/dir.php", false),
            ("/absent.php", false),
            ("/a.php/b.php", false),
            ("/.git/x.php", false),
            ("/.hidden.php", false),
            ("/", false),
            ("", false),
            ("/../outside.php", false),
        ] {
            for _ in 0..2 {
                assert_eq!(is_there(&mut scripts, &root, path, now), Ok(expect), "{path}");
            }
        }
        assert_eq!(is_there(&mut scripts, &folder.path().join("none"), "/a.php", now), Err(FileError::Absent));
    }

    #[test]
    fn what_is_known_grows_old() {
        let folder = tempfile::tempdir().unwrap();
        let (mut scripts, now) = (Scripts::default(), Instant::now());
        let look = |scripts: &mut Scripts, now| is_there(scripts, folder.path(), "/a.php", now).unwrap();
        assert!(!look(&mut scripts, now));
        std::fs::write(folder.path().join("a.php"), "").unwrap();
        assert!(!look(&mut scripts, now + VALID / 2), "still known");
        assert!(look(&mut scripts, now + VALID * 2));
        std::fs::remove_file(folder.path().join("a.php")).unwrap();
        assert!(look(&mut scripts, now + VALID * 2));
        assert!(!look(&mut scripts, now + VALID * 4));
    }

    #[test]
    fn inventions_push_nothing_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.php"), "").unwrap();
        let (mut scripts, now) = (Scripts::default(), Instant::now());
        assert!(is_there(&mut scripts, folder.path(), "/a.php", now).unwrap());
        std::fs::remove_file(folder.path().join("a.php")).unwrap();
        for at in 0..=NAMES_MAX {
            scripts.note(folder.path(), format!("/{at}.php").as_bytes(), false);
        }
        assert!(is_there(&mut scripts, folder.path(), "/a.php", now).unwrap(), "still known");
        let long = format!("/{}.php", "x".repeat(ABSENT_BYTES_MAX));
        scripts.note(folder.path(), long.as_bytes(), false);
        assert_eq!(scripts.folders[folder.path()].known(&long.as_bytes()[1..]), None);
    }
}
