//! Error codes of HTTP/3 and QPACK, and what an error ends.

use std::fmt;

/// An error code: RFC 9114 section 8.1, RFC 9204 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u64);

#[expect(missing_docs, reason = "each is the code of that name")]
impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0x100);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(0x102);
    pub const STREAM_CREATION_ERROR: ErrorCode = ErrorCode(0x103);
    pub const CLOSED_CRITICAL_STREAM: ErrorCode = ErrorCode(0x104);
    pub const FRAME_UNEXPECTED: ErrorCode = ErrorCode(0x105);
    pub const FRAME_ERROR: ErrorCode = ErrorCode(0x106);
    pub const EXCESSIVE_LOAD: ErrorCode = ErrorCode(0x107);
    pub const ID_ERROR: ErrorCode = ErrorCode(0x108);
    pub const SETTINGS_ERROR: ErrorCode = ErrorCode(0x109);
    pub const MISSING_SETTINGS: ErrorCode = ErrorCode(0x10a);
    pub const REQUEST_REJECTED: ErrorCode = ErrorCode(0x10b);
    pub const REQUEST_CANCELLED: ErrorCode = ErrorCode(0x10c);
    pub const REQUEST_INCOMPLETE: ErrorCode = ErrorCode(0x10d);
    pub const MESSAGE_ERROR: ErrorCode = ErrorCode(0x10e);
    pub const QPACK_DECOMPRESSION_FAILED: ErrorCode = ErrorCode(0x200);
    pub const QPACK_ENCODER_STREAM_ERROR: ErrorCode = ErrorCode(0x201);
    pub const QPACK_DECODER_STREAM_ERROR: ErrorCode = ErrorCode(0x202);
}

/// What the client did wrong, and what that ends. Always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This stream alone.
    Stream(ErrorCode),
    /// The whole connection.
    Connection(ErrorCode),
}

impl Failure {
    /// The code to send.
    pub fn code(self) -> ErrorCode {
        match self {
            Failure::Stream(code) | Failure::Connection(code) => code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if matches!(self, Failure::Stream(_)) { "stream" } else { "connection" };
        write!(f, "{what} error {:#x}", self.code().0)
    }
}

impl std::error::Error for Failure {}
