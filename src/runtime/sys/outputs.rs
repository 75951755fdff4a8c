//! Opening and waiting for what a log is written to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Opens `path` for appending, created with mode 0640 when it is not there. Neither this nor a write to it waits for
/// anybody.
///
/// A FIFO is opened in both directions, so that it does not matter whether it has a reader yet, or loses it: what is
/// written waits in the pipe (fifo(7)).
/// Errors: what open(2) reports.
pub fn open_append(path: &Path) -> io::Result<File> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    OpenOptions::new().append(true).read(is_fifo).create(!is_fifo).mode(0o640).custom_flags(flags).open(path)
}

/// Waits until a write to `file` would get on, for at most `limit`. Source: poll(2).
pub fn wait_until_writable(file: &File, limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // Interrupted or refused: the caller tries again anyway.
    let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], limit.as_ref());
}
