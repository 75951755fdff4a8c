//! HTTP/2 (RFC 9113) beside the crate `h2`, which owns the protocol: frames, HPACK, flow control. Pure, without I/O.
//!
//! | file | does |
//! |---|---|
//! | `message` | a request as the [`RequestHead`](super::h1::RequestHead) that every action reads, and the head of an answer for the crate |
//! | `upstream` | the same for servers: a request of ours for the crate, and the [`ResponseHead`](super::h1::ResponseHead) of an answer |
//! | `greeting` | [`Greeting`]: whether a server speaks HTTP/2 at all |
//! | `frame` | heads of frames in a stream of bytes; kinds, flags, [`ErrorCode`], [`goaway_frame`] |
//! | `flood` | [`Flood`]: the ways a client wears us down, each with its name in metrics |
//! | `streams` | which streams are open, as far as the guard needs it |
//! | `guard` | [`Guard`]: counts both directions of a connection and says when it is enough |
//! | `fuzz` | the property that must hold for any input, for tests and `fuzz/` |
//!
//! The crate decides what is an error and answers it. The guard only counts, so it may be more lenient than the protocol
//! but never has to understand what it lets through: no HPACK, no flow control.

mod flood;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod greeting;
mod guard;
mod message;
mod streams;
#[cfg(test)]
mod tests;
mod upstream;

pub use flood::Flood;
pub use frame::{ErrorCode, PREFACE, goaway_frame};
pub use greeting::{Greeting, NotHttp2};
pub use guard::{Guard, Limits, Summary};
pub use message::{MessageError, response, write_request};
pub use upstream::{AnswerError, NoRequest, read_answer, request, websocket};
