//! What one data worker counts. It is the only writer; the control thread adds the workers up.

use super::{Counter, Gauge, Histogram, LimitStats, LogStats};
use crate::config::Config;
use crate::http::h2::{Flood, Summary};

/// All counters of one data worker, in the order of the compiled config.
#[derive(Debug)]
pub struct Worker {
    /// Downstream HTTP.
    pub http: HttpStats,
    /// TLS towards clients.
    pub tls: TlsStats,
    /// Downstream HTTP/2.
    pub http2: Http2Stats,
    /// Per limit of requests.
    pub limits: Vec<LimitStats>,
    /// Static files.
    pub files: FileStats,
    /// Connections open now, per listener.
    pub listeners: Vec<Gauge>,
    /// Per upstream, per server.
    pub servers: Vec<Vec<ServerStats>>,
    /// Per upstream.
    pub upstreams: Vec<UpstreamStats>,
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
            http2: Http2Stats::default(),
            limits: config.limits.iter().map(|_| LimitStats::default()).collect(),
            files: FileStats::default(),
            listeners: config.listeners.iter().map(|_| Gauge::default()).collect(),
            servers: config
                .upstreams
                .iter()
                .map(|u| u.servers.iter().map(|_| ServerStats::default()).collect())
                .collect(),
            upstreams: config.upstreams.iter().map(|_| UpstreamStats::default()).collect(),
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
    /// Of these, because their address had too many.
    pub refused_per_address: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections between two requests now.
    pub idle: Gauge,
    /// Connections on which a request head has begun but is not complete now.
    pub reading: Gauge,
    /// Request bodies given up because they came too slowly.
    pub slow_bodies: Counter,
    /// Requests that came to a tarpit.
    pub tarpitted: Counter,
    /// Of these, answered at once because too many were held back.
    pub tarpit_full: Counter,
    /// Held back now.
    pub tarpit: Gauge,
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

/// What HTTP/2 adds to the downstream side of a worker. Its connections and requests count in [`HttpStats`] too.
#[derive(Debug, Default)]
pub struct Http2Stats {
    /// Connections that turned out to speak HTTP/2.
    pub connections: Counter,
    /// Of these, open now.
    pub open: Gauge,
    /// Streams opened.
    pub streams: Counter,
    /// Connections ended because of a flood, by its kind, at [`Flood::index`].
    pub floods: [Counter; Flood::COUNT],
    /// GOAWAY frames sent.
    pub goaways: Counter,
    /// RST_STREAM frames received.
    pub resets_received: Counter,
    /// RST_STREAM frames sent.
    pub resets_sent: Counter,
}

impl Http2Stats {
    /// Counts what a connection did between two summaries of it, the first one being the default. A flood that the guard
    /// found is not in a summary: count it in [`Http2Stats::count_flood`].
    pub fn count_between(&self, before: &Summary, after: &Summary) {
        self.streams.add(after.streams_opened - before.streams_opened);
        self.goaways.add(after.goaways_sent - before.goaways_sent);
        self.resets_received.add(after.resets_received - before.resets_received);
        self.resets_sent.add(after.resets_sent - before.resets_sent);
        if let (None, Some(flood)) = (before.found_by_h2, after.found_by_h2) {
            self.count_flood(flood);
        }
    }

    /// Counts a connection that ends because of a flood.
    pub fn count_flood(&self, flood: Flood) {
        self.floods[flood.index()].inc();
    }
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
    /// Coded forms of whole files that were made.
    pub compressions: Counter,
    /// Bytes sent by sendfile(2).
    pub sendfile_bytes: Counter,
    /// 304 answers.
    pub not_modified: Counter,
    /// Time to answer a file request.
    pub duration: Histogram,
}

/// What concerns an upstream as a whole, as one worker sees it.
#[derive(Debug, Default)]
pub struct UpstreamStats {
    /// Requests that wait for a place now.
    pub queue: Gauge,
    /// Requests refused because too many waited.
    pub queue_full: Counter,
    /// Requests refused because they had waited for too long.
    pub queue_timeouts: Counter,
    /// Clients that left while their request waited.
    pub queue_left: Counter,
    /// How long requests waited, however it ended.
    pub queue_wait: Histogram,
    /// Requests that went where their cookie led.
    pub sticky_kept: Counter,
    /// Cookies that were set.
    pub sticky_set: Counter,
    /// Copies of requests sent here.
    pub mirrored: Counter,
    /// Copies not made: too many, too large.
    pub mirror_skipped: Counter,
    /// Copies that no server took, or did not answer.
    pub mirror_failed: Counter,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_what_is_new_since_the_last_time() {
        let stats = Http2Stats::default();
        let first = Summary { streams_opened: 3, resets_sent: 1, goaways_sent: 1, ..Summary::default() };
        let second = Summary { streams_opened: 5, found_by_h2: Some(Flood::HeaderList), resets_received: 7, ..first };
        stats.count_between(&Summary::default(), &first);
        stats.count_between(&first, &second);
        stats.count_between(&second, &second);
        let seen = [&stats.streams, &stats.resets_sent, &stats.goaways, &stats.resets_received].map(Counter::value);
        assert_eq!(seen, [5, 1, 1, 7]);
        stats.count_flood(Flood::Ping);
        let floods: Vec<u64> = Flood::ALL.iter().map(|kind| stats.floods[kind.index()].value()).collect();
        assert_eq!(
            (floods.iter().sum::<u64>(), floods[Flood::HeaderList.index()], floods[Flood::Ping.index()]),
            (2, 1, 1)
        );
    }
}
