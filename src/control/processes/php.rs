//! php-fpm as a program: the words that are added to its command, and the file that it reads.
//!
//! It gets its socket and its config as descriptors, so that it can be another user from the first on: it has no need to be root,
//! nor to be let into the folder of sockets.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::letters::StartNote;
use crate::app::process::php::{SOCKETS_VARIABLE, pool};
use crate::config::model::{Php, ProcessApp};
use crate::runtime::net::Address;
use crate::runtime::sys::processes::{PASSED_FILE, PASSED_SOCKET};

/// Adds what php-fpm must be told to be started with such a file and a socket at `socket`.
pub(super) fn complete(note: &mut StartNote, socket: &str, is_root: bool) {
    // In the foreground, and everything to standard error.
    let words = ["-F".into(), "-O".into(), "-y".into(), format!("/proc/self/fd/{PASSED_FILE}")];
    note.words.extend(words);
    if is_root {
        note.words.push("-R".into());
    }
    note.environment.push((SOCKETS_VARIABLE.into(), format!("{socket}={PASSED_SOCKET}")));
}

/// Writes the config of an instance beside its socket. Errors: for a person.
pub(super) fn config(app: &ProcessApp, address: &Address) -> Result<Option<OwnedFd>, String> {
    let (Some(php), Address::Unix(socket)) = (&app.launch.php, address) else { return Ok(None) };
    let path = socket.with_extension("conf");
    let written = write(&path, socket, &app.name, php);
    written.map(Some).map_err(|error| format!("the config of php-fpm cannot be written: {}: {error}", path.display()))
}

fn write(path: &Path, socket: &Path, name: &str, php: &Php) -> io::Result<OwnedFd> {
    let told = socket.to_str().filter(|text| !text.contains(['\'', ',', '=']) && !text.contains(char::is_control));
    let told = told.ok_or_else(|| io::Error::other("the path of the socket holds what php-fpm does not take"))?;
    std::fs::write(path, pool(name, told, php))?;
    // The folder lets nobody in; who is given the descriptor may open it again.
    std::fs::set_permissions(path, Permissions::from_mode(0o644))?;
    Ok(File::open(path)?.into())
}
