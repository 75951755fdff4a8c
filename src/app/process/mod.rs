//! Programs that are started and watched: what is decided about them. Pure; [`crate::control::processes`] does what is
//! decided here, and owns the processes, the clock and the sockets.
//!
//! | part | knows |
//! |---|---|
//! | [`fleet`](Fleet) | the instances of one application: when one is started, serves, is drained, is stopped |
//! | [`backoff`](Backoff) | when it may be tried again behind failures |
//! | [`instance`](Instance) | the life of one process |
//! | [`words`] | placeholders of the command |
//! | [`lines`](Lines) | output cut into lines, and how many of them are told |
//! | [`php`] | the config of php-fpm |
//!
//! ```text
//!            ready                 a newer one is ready          no request left, or drain_timeout
//! starting ─────────→ ready ──────────────────────────→ draining ─────────→ stopping ──→ (gone)
//!    │ start_timeout    │ ends by itself                    │                  │ kill_timeout: SIGKILL
//!    └──────────────────┴───────→ a failure? → back-off → starting …           └──→ (gone)
//!                                 failures_max in a row → failed: tried seldom
//! ```

mod backoff;
mod fleet;
mod instance;
mod lines;
pub mod php;
#[cfg(test)]
mod simulation;
pub mod words;

use std::time::Duration;

pub use backoff::Backoff;
pub use fleet::{Action, Ended, Fleet, Standing};
pub use instance::{Exit, Instance, Leaving, State};
pub use lines::{Lines, Told};

/// The variable of programs that tells them apart, and what they start: a number that their process has drawn, and that of the
/// instance, each with a `/` behind it.
pub const MARK: &str = "ONE_SERVER_INSTANCE";

/// How many instances an application has, when one is replaced, and how long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Processes that serve.
    pub instances: usize,
    /// Further ones while some are replaced.
    pub surge: usize,
    /// From the start to being ready.
    pub start_timeout: Duration,
    /// For requests under way, before SIGTERM.
    pub drain_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub kill_timeout: Duration,
    /// Requests after which an instance is replaced; `None`: any number.
    pub requests_max: Option<u64>,
    /// Resident bytes beyond which an instance is replaced; `None`: any number.
    pub memory_bytes_max: Option<u64>,
    /// Age at which an instance is replaced; `None`: any age.
    pub age_max: Option<Duration>,
    /// An instance that lets a request wait too long is replaced.
    pub replaces_hung: bool,
    /// Pause behind the first failure.
    pub backoff: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// An instance that was ready for so long has not failed when it ends.
    pub backoff_reset: Duration,
    /// Failures in a row until the application has failed.
    pub failures_max: u32,
    /// How often one that has failed is tried again.
    pub failed_retry: Duration,
}

impl Rules {
    /// Places for instances: those that serve, and those that may replace them.
    pub fn slots(&self) -> usize {
        self.instances + self.surge
    }
}

#[cfg(test)]
impl Rules {
    /// Those of tests: times in seconds.
    pub(crate) fn plain(instances: usize, surge: usize) -> Rules {
        let s = Duration::from_secs;
        Rules {
            instances,
            surge,
            start_timeout: s(30),
            drain_timeout: s(30),
            kill_timeout: s(10),
            requests_max: None,
            memory_bytes_max: None,
            age_max: None,
            replaces_hung: false,
            backoff: s(1),
            backoff_max: s(8),
            backoff_reset: s(10),
            failures_max: 5,
            failed_retry: s(60),
        }
    }
}
