//! What a check reads of the machine: the config file, and what that names. It never writes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::FILE_BYTES_MAX;
use super::include::Folder;
use super::model::RunAs;
use super::section::Outside;
use crate::runtime::sys::processes::find_program;
use crate::runtime::sys::users::{Account, AccountError, find_account};

/// A password file larger than this is something else.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// The machine the process runs on.
#[derive(Default)]
pub(super) struct Machine {
    /// The process has read a config before and goes on with it.
    pub(super) is_running: bool,
}

/// Version in the name of a program that is php-fpm. `php-fpm` itself is what the machine's owner has chosen, above all
/// versions; Debian has `php-fpm8.2`, others `php-fpm82`.
fn php_version(name: &str) -> Option<(u32, u32)> {
    let version = name.strip_prefix("php-fpm")?;
    match version.split_once('.') {
        _ if version.is_empty() => Some((u32::MAX, 0)),
        Some((major, minor)) => Some((major.parse().ok()?, minor.parse().ok()?)),
        None => {
            let digits: u32 = version.parse().ok()?;
            Some((digits / 10, digits % 10))
        }
    }
}

impl Outside for Machine {
    fn first_line(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open(path)?.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn text(&self, path: &Path, bytes_max: u64) -> io::Result<String> {
        let mut text = String::new();
        open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
        }
        Ok(text)
    }

    fn is_readable_by_all(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        crate::tls::certificate::read_file(path, bytes_max)
    }

    fn is_excused(&self, error: &io::Error) -> bool {
        self.is_running && error.kind() == io::ErrorKind::PermissionDenied
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode())
    }

    fn account(&self, run_as: &RunAs) -> Result<Account, AccountError> {
        find_account(&run_as.user, run_as.group.as_deref())
    }

    fn find_program(&self, word: &str, folder: &Path, path: Option<&str>) -> Result<PathBuf, String> {
        let folders = path.map(OsString::from).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        find_program(word, folder, &folders)
    }

    fn find_php(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // An ordinary user's PATH does not have these.
        let folders = std::env::split_paths(&path).chain(["/usr/local/sbin".into(), "/usr/sbin".into()]);
        let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let programs = files.filter_map(|file| Some((php_version(file.file_name().to_str()?)?, file.path())));
        programs.max_by_key(|(version, _)| *version).map(|(_, path)| path)
    }

    fn may_read(&self, path: &Path, account: &Account) -> Option<bool> {
        const READ: u32 = 4;
        const SEARCH: u32 = 1;
        if account.uid == 0 {
            return Some(true);
        }
        let path = path.canonicalize().ok()?;
        let may = |path: &Path, right: u32| {
            let metadata = std::fs::metadata(path).ok()?;
            let class = match metadata {
                _ if metadata.uid() == account.uid => 6,
                _ if account.groups.contains(&metadata.gid()) => 3,
                _ => 0,
            };
            Some(metadata.permissions().mode() >> class & right != 0)
        };
        let reached: Option<Vec<bool>> = path.ancestors().skip(1).map(|folder| may(folder, SEARCH)).collect();
        Some(reached?.into_iter().all(|may| may) && may(&path, READ)?)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Folder for Machine {
    fn text(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("it is larger than 8 MiB"));
        }
        Ok(text)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        // A name that is no text cannot be shown in a message, nor be meant by a pattern.
        let name = |entry: io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
        std::fs::read_dir(folder)?.filter_map(|entry| name(entry).transpose()).collect()
    }

    fn real(&self, path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    }
}

/// Opening a named pipe would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_php_is_taken() {
        let mut names = vec!["php-fpm7.4", "php-fpm8.10", "php-fpm8.2", "php-fpm83", "php-fpm"];
        names.sort_by_key(|name| php_version(name));
        assert_eq!(names, ["php-fpm7.4", "php-fpm8.2", "php-fpm83", "php-fpm8.10", "php-fpm"]);
        assert_eq!((php_version("php-fpm-healthcheck"), php_version("php8.2")), (None, None));
    }
}
