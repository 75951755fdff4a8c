//! HTTP/2 (RFC 9113): what our code decides about it. Frames, HPACK and flow control belong to the crate `h2`.
//!
//! | file | does |
//! |---|---|
//! | `message` | a request of HTTP/2 as the [`RequestHead`](super::h1::RequestHead) that every action reads, and the head of an answer for the `h2` crate |

mod message;

pub use message::{MessageError, response, write_request};
