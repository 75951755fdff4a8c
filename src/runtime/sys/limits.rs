//! Limits of the process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the hard limit; returns what is in force. Source: getrlimit(2).
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        return before.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}
