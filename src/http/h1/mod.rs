//! HTTP/1.1 framing over httparse (RFC 9112): heads, bodies and what we write, without I/O.
//!
//! | file | does |
//! |---|---|
//! | `head` | what a parsed head is: positions in the caller's buffer |
//! | `request`, `response` | [`parse_request`], [`parse_response`]: start line, checks that need the whole head |
//! | `fields` | the field section: httparse, what it lets through, the fields that frame the message |
//! | `authority` | Host and the authority of a target |
//! | `body` | [`BodyDecoder`]: where the body ends; chunked, trailers |
//! | `write` | start lines, fields, chunks, numbers |
//! | `fuzz` | the properties that must hold for any input, for tests and `fuzz/` |
//!
//! Parsers of heads start from the first byte at each call: no state is kept between calls that could disagree with
//! the bytes. A sender of single bytes so makes us look at its head once a byte, which [`Limits::head_bytes_max`]
//! bounds; beyond 4 KiB only at its line ends, which costs less than the read before it (`dripping_head` in
//! `benches/codec.rs`).
//!
//! Leniency towards requests feeds parser differentials (RFC 9112 section 11.2), so there is none: what two servers
//! could read in two ways is refused.

mod authority;
mod body;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod head;
mod names;
mod request;
mod response;
mod write;

pub use authority::is_authority;
pub use body::{BodyDecoder, BodyError, Decoded};
pub use fields::{FieldError, list_elements, token_list_contains};
pub use head::{BodyKind, Field, FieldName, Method, RequestHead, ResponseHead, Span, Version, host_of};
pub use request::{RequestError, parse_request};
pub use response::{ResponseError, parse_response};
pub use write::{
    AnswerContext, CHUNK_END, Downstream, LAST_CHUNK, write_answer_head, write_chunk_head, write_decimal, write_field,
    write_status_line,
};

/// How much of a head is accepted. Beyond it the request is answered 414 or 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head from the first byte (a skipped empty line too) to the end of its empty line.
    pub head_bytes_max: usize,
    /// Bytes of a request's target as sent.
    pub target_bytes_max: usize,
    /// Header fields.
    pub headers_max: usize,
}

impl Default for Limits {
    /// nginx's 32 KiB heads and 8 KiB targets; a few more fields than HAProxy's 101.
    fn default() -> Self {
        Limits { head_bytes_max: 32 << 10, target_bytes_max: 8 << 10, headers_max: 128 }
    }
}

/// The bytes that a head may take, which also keeps every position inside a [`Span`].
fn head_window<'a>(bytes: &'a [u8], limits: &Limits) -> &'a [u8] {
    let bytes_max = limits.head_bytes_max.min(u32::MAX as usize);
    &bytes[..bytes.len().min(bytes_max)]
}
