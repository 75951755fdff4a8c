//! Per-worker counters and histograms: one writer each, read by the control thread at scrape time.
//!
//! A data worker owns its [`Worker`] and is the only one to write it, with plain loads and stores; nothing here
//! locks or uses a read-modify-write instruction. Absent on purpose: label look-ups on the request path; everything
//! is an index into the compiled config.

mod app_worker;
mod core;
mod digests;
mod exchange;
mod limit;
mod log;
mod outcomes;
pub mod trace;
mod udp;
pub mod worker;

pub use self::app_worker::AppWorkerStats;
pub use self::core::{Counter, Gauge, Histogram, HistogramSnapshot};
pub use self::digests::{DigestBoard, DigestName, DigestRoute, DigestRow, Digests, Executed};
pub use self::exchange::{ExchangeStats, Exchanged};
pub use self::limit::{LimitOutcome, LimitStats};
pub use self::log::{LogStats, LogWriterStats};
pub use self::outcomes::Outcomes;
pub use self::trace::{ServedBy, Trace, TraceEvent};
pub use self::udp::{UdpRefusal, UdpStats};
pub use self::worker::{
    AppStats, BackendStats, FileStats, Http2Stats, Http3Stats, HttpStats, ListenerStats, ServerStats, SplitterStats,
    TcpStats, UpstreamStats, Worker,
};
