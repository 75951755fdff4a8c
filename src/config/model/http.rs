//! Time-outs and limits of downstream HTTP connections.

use std::sync::Arc;
use std::time::Duration;

use super::options::Options;
use crate::guard::LeastRate;

/// Time-outs and limits of downstream HTTP connections.
#[derive(Clone, Debug)]
pub struct Http {
    /// From the first byte of a request head to its last, absolute.
    pub header_timeout: Duration,
    /// Longest silence while a request body is read.
    pub body_timeout: Duration,
    /// Rate that a request body must come with.
    pub body_rate: LeastRate,
    /// Longest time without the client taking a byte.
    pub write_timeout: Duration,
    /// Idle time between requests.
    pub keep_alive_timeout: Duration,
    /// Age from which a connection is closed behind its next answer.
    pub keep_alive_time: Duration,
    /// Requests on one connection before it is closed; 0: no limit.
    pub keep_alive_requests_max: u32,
    /// Bytes of a request head, request line included; beyond it 431 (414 when the target alone is too long).
    pub head_bytes_max: usize,
    /// Header fields of a request; beyond it 431.
    pub headers_max: usize,
    /// Bytes of a request body; beyond it 413. 0: no limit.
    pub body_bytes_max: u64,
    /// Connections of one client address in the whole process; 0: no limit.
    pub connections_per_address_max: u32,
    /// Value of the `Server` field; empty: no field.
    pub server_name: String,
    /// What sites inherit, and what counts where no site is found.
    pub options: Arc<Options>,
}

/// Windows and limits of downstream HTTP/2 connections. Bytes and counts as SETTINGS of RFC 9113 section 6.5.2 have them.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Streams a client may have open at the same time; the next is refused.
    pub streams_max: u32,
    /// Bytes of a request body that may be under way on one stream, unread by us.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Largest payload of a frame, bytes.
    pub frame_bytes_max: u32,
    /// Bytes of a decompressed header list; beyond it 431.
    pub header_list_bytes_max: u32,
    /// Bytes of the table that the client's compression may use.
    pub header_table_bytes: u32,
    /// Bytes of an answer that may wait for the client's window, per stream.
    pub send_buffer_bytes_max: usize,
    /// What a client may do before the connection ends.
    pub guard: crate::http::h2::Limits,
}

/// Windows and limits of downstream HTTP/3 connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http3 {
    /// Requests a client may have open at the same time on one connection.
    pub streams_max: u32,
    /// Bytes of a request body that may be under way on one stream, unread by us.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Bytes of answers that a connection keeps until they are acknowledged.
    pub send_buffer_bytes_max: u64,
    /// Bytes of a decompressed header list; beyond it 431.
    pub header_list_bytes_max: u32,
    /// Streams that a client may reset, or stop.
    pub resets: crate::http::h3::ResetLimits,
    /// When clients must prove their address first.
    pub retry: QuicRetry,
}

/// When a client of QUIC must prove its address before a handshake (RFC 9000 section 8.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicRetry {
    /// While many handshakes are under way.
    Auto,
    /// Always.
    Always,
}
