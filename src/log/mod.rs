//! Logs: the access log, from buffers of the data workers through one writer thread, and our own log on stderr.
//!
//! ```text
//! data worker 0: record -> buffer --full or tick--> lane 0 --+
//! data worker 1: record -> buffer --full or tick--> lane 1 --+--> writer thread --> file or stdout
//!                   ^--------- empty buffers, by the same lanes ---------+
//! ```
//!
//! A request never waits for a log: when the writer thread is behind and a worker has no buffer left, its lines are
//! dropped and counted. In steady state a line costs no allocation and no system call.
//!
//! Boot calls [`init`] first, then [`Writer::start`], gives each data worker its [`AccessLog`], calls
//! [`Writer::reopen`] on SIGUSR1, and [`Writer::stop`] when the data workers have ended; worker threads call
//! [`never_block`] when they begin.

mod access;
mod entry;
mod format;
pub mod own;
mod writer;

pub use access::AccessLog;
pub use entry::{AddressText, Entry};
pub use own::{InitError, flush, init, never_block};
pub use writer::{LogError, Writer};
