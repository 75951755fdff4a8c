//! HTTP/3 (RFC 9114) and QPACK (RFC 9204) over the streams of a QUIC connection, which the crate `quinn-proto` owns. Pure,
//! without I/O: bytes of streams go in, messages and errors come out.
//!
//! | file | does |
//! |---|---|
//! | `code` | [`ErrorCode`]s, and [`Failure`]: what an error ends |
//! | `varint` | integers of QUIC |
//! | `frame` | heads of frames in a stream of bytes |
//! | `request` | [`RequestReader`]: the frames of a request, in their order |
//! | `control` | [`UniReader`]: the client's control stream and those of QPACK; [`settings_stream`], [`goaway`] |
//! | `huffman`, `static_table`, `qpack` | field sections |
//! | `message` | a field section as a request, and the head of an answer as a field section |
//! | `budget` | [`Budget`]: what a client may make us do for nothing |
//! | `connection_id` | [`Ids`]: connection ids that tell which worker owns a connection |
//! | `fuzz` | the properties that must hold for any input, for tests and `fuzz/` |
//!
//! Why a codec of our own: the crate `h3` gathers whole frames, of unknown kinds too, however long they say they are, and
//! does not look at the order of pseudo-header fields. What is left out makes ours small: server push, and the dynamic table of
//! QPACK, whose capacity we announce as zero (RFC 9204 section 3.2.3).

mod budget;
mod code;
mod connection_id;
mod control;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod huffman;
mod message;
mod qpack;
mod request;
mod static_table;
mod varint;

pub use budget::{Budget, ResetLimits};
pub use code::{ErrorCode, Failure};
pub use connection_id::{Ids, destination};
pub use control::{CriticalStreams, GOAWAY_LAST, UniReader, goaway, settings_stream};
pub use frame::{data_head, headers_head};
pub use message::{HeadError, request_parts, trailers, write_head, write_trailers};
pub use request::{Piece, RequestReader};
