//! What a check reads of the machine besides the config file. It never writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::section::Outside;

/// A password file larger than this is something else.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// The machine the process runs on.
pub(super) struct Machine;

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
}

/// Opening a named pipe would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path)
}
