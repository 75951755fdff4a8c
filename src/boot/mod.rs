//! Process life: limits, sockets, threads, signals, drain.
//!
//! ```text
//! limits → cores → sockets bound, logs and keys opened → another user → application workers → data workers → control thread (this one)
//! SIGTERM, SIGINT: stop   SIGQUIT: drain, then stop   SIGUSR1: reopen logs   SIGHUP: reload the config and certificates
//! SIGUSR2: another process takes over
//! ```
//! Everything that can fail for a reason the operator can mend fails here, before the first connection is accepted.

mod app_workers;
mod certificates;
mod control;
mod cores;
mod flow_ports;
mod names;
mod notify;
mod privileges;
mod reload;
mod signals;
mod sockets;
mod source;
mod splitters;
mod start;
mod takeover;
mod workers;

use std::process::ExitCode;

use crate::app::Registry;
use crate::config::Config;

pub use crate::control::processes::run_if_asked as become_keeper_if_asked;
pub use source::Source;
pub use takeover::{is_takeover, tell_failure};

/// Runs the process until it is told to stop; returns its exit code. `source` is where the config came from, to be read
/// again at a reload; without one a reload loads certificates alone.
///
/// 0 after a stop or a drain, 1 when it could not start; the reason is in the log.
pub fn run(config: Config, apps: Registry, source: Option<Source>) -> ExitCode {
    takeover::remember_program();
    match start::run(config, &apps, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            tell_failure(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
