//! What the access log counts: per data worker what was recorded or dropped, and what the writer thread wrote.

use super::Counter;

/// Access log of one data worker, which is the only writer.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Lines put into a buffer.
    pub lines: Counter,
    /// Lines dropped because every buffer waited for the writer thread.
    pub dropped: Counter,
}

/// The access log's writer thread, which is the only writer.
#[derive(Debug, Default)]
pub struct LogWriterStats {
    /// Bytes written to the target.
    pub bytes: Counter,
    /// Buffers written.
    pub buffers: Counter,
    /// Buffers that could not be written; their lines are lost.
    pub errors: Counter,
    /// Lines lost with them.
    pub lines_lost: Counter,
    /// Times the file was opened again on request.
    pub reopens: Counter,
}
