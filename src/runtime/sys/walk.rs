//! Follows a path step by step, for the rule the kernel does not know: a symbolic link is followed only when its owner
//! also owns what it leads to (nginx's `disable_symlinks if_not_owner`).
//!
//! Every step opens one name without following it, relative to a directory that is open already, so a name that is
//! exchanged meanwhile leads nowhere else. `..` goes back along the directories opened on the way, never above the
//! root; an absolute link leads out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::files::{Lookup, Stamp};

/// Links followed in one path, as the kernel has it (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// What is still to be done.
enum Step {
    /// One component.
    Name(Vec<u8>),
    /// The present place is what a link of this owner leads to.
    Owned(u32),
}

/// Opens `path` beneath `root` with `flags`.
///
/// Errors: `XDEV` for a way out of the root; `LOOP` for too many links; `ACCESS` for a link whose owner is not that of
/// its target; `AGAIN` when names were exchanged meanwhile, or memory does not tell; else what openat(2) reports.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, lookup: Lookup) -> Result<OwnedFd, Errno> {
    let mut walk = Walk { root, lookup, trail: Vec::new(), steps: Vec::new(), links: 0 };
    walk.push(path);
    while let Some(step) = walk.steps.pop() {
        match step {
            Step::Name(name) => walk.go(name)?,
            Step::Owned(owner) if rustix::fs::fstat(walk.here())?.st_uid == owner => {}
            Step::Owned(_) => return Err(Errno::ACCESS),
        }
    }
    let flags = if path.ends_with(b"/") { flags | OFlags::DIRECTORY } else { flags };
    walk.finish(flags)
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    lookup: Lookup,
    /// The places from the root to here, each with its name in the one before.
    trail: Vec<(Vec<u8>, OwnedFd)>,
    /// The next one is the last.
    steps: Vec<Step>,
    links: u32,
}

impl Walk<'_> {
    fn push(&mut self, path: &[u8]) {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        self.steps.extend(names.rev().map(|name| Step::Name(name.into())));
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.trail.last().map_or(self.root, |(_, place)| place.as_fd())
    }

    fn go(&mut self, name: Vec<u8>) -> Result<(), Errno> {
        if name == b".." {
            return self.trail.pop().map(drop).ok_or(Errno::XDEV);
        }
        let place = self.step(&name)?;
        let stat = rustix::fs::fstat(&place)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            self.trail.push((name, place));
            return Ok(());
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&place, c"", Vec::new())?.into_bytes();
        if target.first() == Some(&b'/') {
            return Err(Errno::XDEV);
        }
        self.steps.push(Step::Owned(stat.st_uid));
        self.push(&target);
        Ok(())
    }

    /// Opens one name without following it.
    fn step(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.lookup {
            Lookup::Disk => rustix::fs::openat(self.here(), name, flags, Mode::empty()),
            Lookup::Memory => rustix::fs::openat2(self.here(), name, flags, Mode::empty(), ResolveFlags::CACHED),
        }
    }

    fn finish(mut self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some((name, place)) = self.trail.pop() else {
            return rustix::fs::openat(self.root, c".", flags, Mode::empty());
        };
        let stat = rustix::fs::fstat(&place)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::openat(&place, c".", flags, Mode::empty()),
            _ if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR),
            _ if flags.contains(OFlags::PATH) => Ok(place),
            _ => {
                let file = rustix::fs::openat(self.here(), name.as_slice(), flags, Mode::empty())?;
                if is_same(&stat, &rustix::fs::fstat(&file)?) { Ok(file) } else { Err(Errno::AGAIN) }
            }
        }
    }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    let (one, other) = (Stamp::new(one), Stamp::new(other));
    (one.dev, one.ino) == (other.dev, other.ino)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::runtime::sys::files::read_at;

    struct Tree {
        dir: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Tree {
            let tree = Tree { dir: tempfile::tempdir().expect("temporary folder") };
            std::fs::create_dir_all(tree.path("a/b")).expect("folders");
            std::fs::write(tree.path("a/file"), "inside").expect("write");
            std::fs::write(tree.dir.path().join("secret"), "secret").expect("write");
            for (target, name) in [
                ("a", "folder"),
                ("a/file", "file"),
                ("file", "chain"),
                ("b/../file", "a/dots"),
                ("../../root/a/file", "a/climb"),
                ("..", "up"),
                ("../secret", "out"),
                ("/etc/passwd", "absolute"),
                ("loop", "loop"),
                ("../folder/file", "a/back"),
                ("a/", "slash"),
                ("nowhere", "dangling"),
            ] {
                symlink(target, tree.path(name)).expect("link");
            }
            tree
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join("root").join(name)
        }

        fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
            let root = File::open(self.path("")).expect("root");
            open(root.as_fd(), path.as_bytes(), flags, Lookup::Disk)
        }

        fn check(&self, path: &str, expect: Result<&str, Errno>) {
            let content = self.open(path, OFlags::RDONLY).map(|file| {
                let mut content = Vec::new();
                read_at(&file.into(), 0, 100, &mut content).expect("read");
                String::from_utf8(content).expect("text")
            });
            assert_eq!(content.as_deref().map_err(|errno| *errno), expect, "{path}");
        }
    }

    #[test]
    fn links_beneath_the_root_are_followed() {
        let tree = Tree::new();
        for path in
            ["a/file", "file", "chain", "folder/file", "a/dots", "folder/dots", "a/back", "slash/file", "a/b/../file"]
        {
            tree.check(path, Ok("inside"));
        }
        tree.check("up/root/a/file", Err(Errno::XDEV));
        tree.check("out", Err(Errno::XDEV));
        tree.check("a/climb", Err(Errno::XDEV));
        tree.check("absolute", Err(Errno::XDEV));
        tree.check("../secret", Err(Errno::XDEV));
        tree.check("loop", Err(Errno::LOOP));
        tree.check("dangling", Err(Errno::NOENT));
        tree.check("a/file/", Err(Errno::NOTDIR));
        tree.check("a/file/x", Err(Errno::NOTDIR));
        for path in [".", "a", "folder", "slash", "folder/", "a/b/.."] {
            assert!(tree.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok(), "{path}");
            assert!(tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_link_must_have_the_owner_of_its_target() {
        let tree = Tree::new();
        let give_away = |path: &Path, owner: u32| {
            let owner = Some(rustix::fs::Uid::from_raw(owner));
            rustix::fs::chownat(rustix::fs::CWD, path, owner, None, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
        if !give_away(&tree.path("file"), 12_345) {
            eprintln!("skipped: only root can give files away");
            return;
        }
        tree.check("file", Err(Errno::ACCESS));
        tree.check("chain", Err(Errno::ACCESS));
        tree.check("a/file", Ok("inside"));
        // A chain belongs to one owner from end to end.
        assert!(give_away(&tree.path("chain"), 12_345));
        tree.check("chain", Err(Errno::ACCESS));
        assert!(give_away(&tree.path("a/file"), 12_345));
        tree.check("chain", Ok("inside"));
        // A link to a folder belongs to the folder's owner, whatever lies in it.
        tree.check("folder/file", Ok("inside"));
        assert!(give_away(&tree.path("a"), 12_345));
        tree.check("folder/file", Err(Errno::ACCESS));
    }
}
