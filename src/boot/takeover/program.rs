//! Which program a takeover starts: the file by which this process was started, whatever lies there now.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How this process was started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// The program's name first.
    pub(super) arguments: Vec<OsString>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Looks at it. Must be called early: the file may be replaced at any time, and then it cannot be told any more which one
/// it was.
pub(in super::super) fn remember() {
    PROGRAM.get_or_init(|| {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let running = std::env::current_exe().unwrap_or_default();
        let name = arguments.first().map_or(OsStr::new(""), OsString::as_os_str);
        let folders = std::env::var_os("PATH").unwrap_or_default();
        Program { path: find(name, &running, std::env::split_paths(&folders)), arguments }
    });
}

pub(super) fn program() -> Option<&'static Program> {
    PROGRAM.get()
}

/// The file called `name`, as a shell finds it, if it is the one that runs: a link stays a link, which may lead to another
/// file by the next time. Else the one that runs, without the word by which the kernel says that it was deleted.
fn find(name: &OsStr, running: &Path, folders: impl Iterator<Item = PathBuf>) -> PathBuf {
    let is_it = |path: &PathBuf| std::fs::canonicalize(path).is_ok_and(|path| path == running);
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let named = match Path::new(name).components().count() {
        0 => None,
        1 if !name.as_encoded_bytes().contains(&b'/') => folders.map(|folder| absolute(folder.join(name))).find(is_it),
        _ => Some(absolute(name.into())).filter(is_it),
    };
    named.unwrap_or_else(|| {
        let text = running.to_string_lossy();
        text.strip_suffix(" (deleted)").map_or_else(|| running.to_owned(), PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_as_it_was_started() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| std::fs::canonicalize(folder.path()).unwrap().join(name);
        std::fs::write(at("v1"), "").unwrap();
        std::os::unix::fs::symlink("v1", at("current")).unwrap();
        let found = |name: &Path, running: &Path| find(name.as_os_str(), running, [at("none"), at("")].into_iter());
        assert_eq!(found(&at("v1"), &at("v1")), at("v1"));
        assert_eq!(found(&at("current"), &at("v1")), at("current"), "the link");
        assert_eq!(found(Path::new("current"), &at("v1")), at("current"), "by PATH");
        assert_eq!(found(Path::new("other"), &at("v1")), at("v1"), "another name was given");
        assert_eq!(found(Path::new(""), &at("v1")), at("v1"));
        assert_eq!(found(&at("gone"), &at("gone (deleted)")), at("gone"));
    }
}
