//! Logs: the access log, from buffers of the data workers through one writer thread, and our own log on stderr.
//!
//! ```text
//! data worker 0: record -> buffer --full or tick--> lane 0 --+
//! data worker 1: record -> buffer --full or tick--> lane 1 --+--> writer thread --> file or stdout
//!                   ^--------- empty buffers, by the same lanes ---------+
//! ```
//!
//! A site may have a file of its own; then each worker has buffers and a lane for each file. Slow logs of splitters (`slow`)
//! go the same way.
//!
//! The form of a line is compiled once, by `template`, and filled in by `format` ([`Entry`] says with what); `escape`
//! sees to it that nothing from outside leaves its place in the line. `output` keeps lines whole when writing fails.
//!
//! A request never waits for a log: when the writer thread is behind and a worker has no buffer left, its lines are
//! dropped and counted. In steady state a line costs no allocation and no system call.
//!
//! Boot calls [`init`] first, then [`Writer::start`], gives each data worker its [`Outbox`], from which the worker makes an
//! [`AccessLog`] for every config, calls [`Writer::open_new`] before a new config and [`Writer::reopen`] on SIGUSR1, and
//! [`Writer::stop`] when the data workers have ended; worker threads call [`never_block`] when they begin.

mod access;
mod entry;
mod escape;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod lookup;
mod names;
mod output;
pub mod own;
mod slow;
mod stamp;
mod template;
mod variable;
mod writer;

pub use access::{AccessLog, NewLanes, Outbox};
pub use entry::{
    AddressText, ClientFacts, Coding, Counts, EndedBy, Entry, OwnValues, Phase, StreamFacts, Termination, Timers,
    TlsFacts,
};
pub use own::{InitError, flush, init, never_block, tell_panics};
pub use slow::{SlowEntry, SlowLog};
pub use template::{Escape, Mistake, Template, Wrong};
pub use writer::{LogError, Writer};
