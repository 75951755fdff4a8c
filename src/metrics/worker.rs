//! What one data worker counts. It is the only writer; the control thread adds the workers up.

use super::{Counter, Gauge, Histogram, LogStats};
use crate::config::Config;

/// All counters of one data worker, in the order of the compiled config.
#[derive(Debug)]
pub struct Worker {
    /// Downstream HTTP.
    pub http: HttpStats,
    /// TLS towards clients.
    pub tls: TlsStats,
    /// Static files.
    pub files: FileStats,
    /// Per upstream, per server.
    pub servers: Vec<Vec<ServerStats>>,
    /// Per application.
    pub apps: Vec<AppStats>,
    /// Per splitter.
    pub splitters: Vec<SplitterStats>,
    /// Access log.
    pub log: LogStats,
    /// Panics contained in requests.
    pub panics: Counter,
}

impl Worker {
    /// Zeroed counters with one entry for each server, application and splitter of `config`.
    pub fn new(config: &Config) -> Worker {
        Worker {
            http: HttpStats::default(),
            tls: TlsStats::default(),
            files: FileStats::default(),
            servers: config
                .upstreams
                .iter()
                .map(|u| u.servers.iter().map(|_| ServerStats::default()).collect())
                .collect(),
            apps: config.apps.iter().map(|_| AppStats::default()).collect(),
            splitters: config.splitters.iter().map(SplitterStats::new).collect(),
            log: LogStats::default(),
            panics: Counter::default(),
        }
    }
}

/// Downstream HTTP side of a worker.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections refused because of a limit.
    pub refused: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections between two requests now.
    pub idle: Gauge,
    /// Connections on which a request head has begun but is not complete now.
    pub reading: Gauge,
    /// Requests answered, by status class: index 1 to 5 for 1xx to 5xx, 0 for closed without an answer.
    pub responses: [Counter; 6],
    /// Bytes read from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Request heads that broke a framing rule.
    pub malformed: Counter,
    /// Connections closed by one of our time-outs.
    pub timeouts: Counter,
    /// From complete head to last byte handed to the kernel.
    pub duration: Histogram,
}

/// TLS of a worker's downstream connections.
#[derive(Debug, Default)]
pub struct TlsStats {
    /// Handshakes that ended well.
    pub handshakes: Counter,
    /// Of these, resumed from a ticket.
    pub resumed: Counter,
    /// Handshakes that failed or took too long.
    pub failed: Counter,
}

/// Static files of a worker.
#[derive(Debug, Default)]
pub struct FileStats {
    /// Answered from memory.
    pub cache_hits: Counter,
    /// Opened on disk.
    pub cache_misses: Counter,
    /// Bytes now in the cache.
    pub cache_bytes: Gauge,
    /// Files now in the cache.
    pub cache_entries: Gauge,
    /// Files that left the cache to make room.
    pub cache_evictions: Counter,
    /// Bytes sent by sendfile(2).
    pub sendfile_bytes: Counter,
    /// 304 answers.
    pub not_modified: Counter,
    /// Time to answer a file request.
    pub duration: Histogram,
}

/// One server of an upstream, as one worker sees it.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Requests sent to it.
    pub requests: Counter,
    /// Requests under way now.
    pub active: Gauge,
    /// New connections.
    pub connects: Counter,
    /// Requests on a connection that was idle in the pool.
    pub reuses: Counter,
    /// Connects that failed or timed out.
    pub connect_errors: Counter,
    /// Requests that failed after connecting.
    pub response_errors: Counter,
    /// Requests that were tried again elsewhere after this server failed them.
    pub retries: Counter,
    /// Responses by status class, as in [`HttpStats::responses`].
    pub responses: [Counter; 6],
    /// Idle connections in the pool now.
    pub idle: Gauge,
    /// Time to connect.
    pub connect: Histogram,
    /// From the request's first byte sent to the response head.
    pub first_byte: Histogram,
}

/// One application, as one data worker sees it.
#[derive(Debug, Default)]
pub struct AppStats {
    /// Requests handed to an application worker.
    pub requests: Counter,
    /// Requests under way now.
    pub active: Gauge,
    /// Refused with 503: every queue stayed full.
    pub refused: Counter,
    /// Abandoned by the client before the answer.
    pub cancelled: Counter,
    /// Answered 502: the worker or the application failed.
    pub failed: Counter,
    /// From hand-over to the response head.
    pub duration: Histogram,
}

/// One splitter, as one data worker sees it.
#[derive(Debug)]
pub struct SplitterStats {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Clients connected now.
    pub clients: Gauge,
    /// Clients refused: wrong password, limits.
    pub refused: Counter,
    /// Statements sent to the primary.
    pub to_primary: Counter,
    /// Statements sent to a replica.
    pub to_replica: Counter,
    /// Statements answered with an error packet of ours.
    pub errors: Counter,
    /// Times a session was tied to one backend connection.
    pub pins: Counter,
    /// Reads that waited for a replica to catch up.
    pub causal_waits: Counter,
    /// Reads that went to the primary because no replica was fresh enough in time.
    pub causal_fallbacks: Counter,
    /// From a statement's last byte to its response's last byte, on the primary.
    pub primary_duration: Histogram,
    /// The same on replicas.
    pub replica_duration: Histogram,
    /// Primary first, then the replicas in order.
    pub backends: Vec<BackendStats>,
}

/// One MySQL server, as one data worker sees it.
#[derive(Debug, Default)]
pub struct BackendStats {
    /// Connections opened.
    pub connects: Counter,
    /// Connections that failed to open.
    pub connect_errors: Counter,
    /// Connections open now.
    pub open: Gauge,
    /// Of these, idle in the pool.
    pub idle: Gauge,
    /// Statements sent.
    pub statements: Counter,
}

impl SplitterStats {
    fn new(splitter: &crate::config::model::Splitter) -> SplitterStats {
        SplitterStats {
            accepted: Counter::default(),
            clients: Gauge::default(),
            refused: Counter::default(),
            to_primary: Counter::default(),
            to_replica: Counter::default(),
            errors: Counter::default(),
            pins: Counter::default(),
            causal_waits: Counter::default(),
            causal_fallbacks: Counter::default(),
            primary_duration: Histogram::default(),
            replica_duration: Histogram::default(),
            backends: (0..=splitter.replicas.len()).map(|_| BackendStats::default()).collect(),
        }
    }
}
