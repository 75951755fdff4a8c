//! HTTP/2 beside the `h2` crate (RFC 9113): what watches a connection's bytes, without I/O.
//!
//! | file | does |
//! |---|---|
//! | `frame` | heads of frames in a stream of bytes; kinds, flags, [`ErrorCode`], [`goaway_frame`] |
//! | `flood` | [`Flood`]: the ways a client wears us down, each with its name in metrics |
//! | `streams` | which streams are open, as far as the guard needs it |
//! | `guard` | [`Guard`]: counts both directions of a connection and says when it is enough |
//! | `fuzz` | the property that must hold for any input, for tests and `fuzz/` |
//!
//! The `h2` crate owns the protocol: it decides what is an error and answers it. The guard only counts, so it may be
//! more lenient than the protocol but never has to understand what it lets through: no HPACK, no flow control.

mod flood;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
mod streams;
#[cfg(test)]
mod tests;

pub use flood::Flood;
pub use frame::{ErrorCode, PREFACE, goaway_frame};
pub use guard::{Guard, Limits, Summary};
