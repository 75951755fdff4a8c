//! What one data worker counts. It is the only writer; the control thread adds the workers up.

use std::sync::Arc;
use std::time::SystemTime;

use super::{
    Counter, DigestBoard, ExchangeStats, Exchanged, Gauge, Histogram, LimitStats, LogStats, Outcomes, UdpStats,
};
use crate::config::model::Splitter;
use crate::config::{Config, Heirs, Succession};
use crate::http::h2::{Flood, Summary};
use crate::mysql::sql::Pin;
use crate::util::growing::Growing;
use crate::util::moment::unix_ms;

/// All counters of one data worker, in the order of one compiled config.
///
/// A reload makes another one, in the order of the new config, that shares the counters of everything that stays
/// ([`Worker::next`]): requests under way count by the indexes of the config they began with, and no counter begins anew.
#[derive(Debug)]
pub struct Worker {
    /// Downstream HTTP.
    pub http: Arc<HttpStats>,
    /// TLS towards clients.
    pub tls: Arc<TlsStats>,
    /// Downstream HTTP/2.
    pub http2: Arc<Http2Stats>,
    /// Downstream HTTP/3.
    pub http3: Arc<Http3Stats>,
    /// Per limit of requests.
    pub limits: Vec<Arc<LimitStats>>,
    /// Static files.
    pub files: Arc<FileStats>,
    /// TCP mode, per listener; of listeners that speak HTTP only what is refused counts.
    pub tcp: Vec<Arc<TcpStats>>,
    /// UDP mode, per listener.
    pub udp: Vec<Arc<UdpStats>>,
    /// Per listener.
    pub listeners: Vec<Arc<ListenerStats>>,
    /// Per site, per route; its requests are those that it answered, or its action did.
    pub routes: Vec<Vec<Arc<ExchangeStats>>>,
    /// Per upstream, per server.
    pub servers: Vec<Vec<Arc<ServerStats>>>,
    /// Per upstream.
    pub upstreams: Vec<Arc<UpstreamStats>>,
    /// Per upstream, what servers have counted that reloads have taken out of it. The last one is the sum of those that
    /// nothing counts on any more; its writer is the control thread.
    gone: Vec<Vec<Arc<ServerStats>>>,
    /// Per application.
    pub apps: Vec<Arc<AppStats>>,
    /// Per splitter.
    pub splitters: Vec<Arc<SplitterStats>>,
    /// Access log.
    pub log: Arc<LogStats>,
    /// Bytes that went from socket to socket by splice(2).
    pub spliced_bytes: Arc<Counter>,
    /// Pipes for splice(2) that hold bytes, as of the last tick.
    pub pipes_used: Arc<Gauge>,
    /// Those that are kept for others.
    pub pipes_free: Arc<Gauge>,
    /// Panics contained in requests.
    pub panics: Arc<Counter>,
}

impl Worker {
    /// Zeroed counters with one entry for each server, application and splitter of `config`.
    pub fn new(config: &Config) -> Worker {
        let servers =
            |upstream: &crate::config::model::Upstream| upstream.servers.iter().map(|_| Arc::default()).collect();
        Worker {
            http: Arc::default(),
            tls: Arc::default(),
            http2: Arc::default(),
            http3: Arc::default(),
            limits: config.limits.iter().map(|_| Arc::default()).collect(),
            files: Arc::default(),
            tcp: config.listeners.iter().map(|_| Arc::default()).collect(),
            udp: config.listeners.iter().map(|_| Arc::default()).collect(),
            spliced_bytes: Arc::default(),
            pipes_used: Arc::default(),
            pipes_free: Arc::default(),
            listeners: config.listeners.iter().map(|_| Arc::default()).collect(),
            routes: config.sites.iter().map(|site| site.routes.iter().map(|_| Arc::default()).collect()).collect(),
            servers: config.upstreams.iter().map(servers).collect(),
            upstreams: config.upstreams.iter().map(|_| Arc::default()).collect(),
            gone: config.upstreams.iter().map(|_| vec![Arc::default()]).collect(),
            apps: config.apps.iter().map(|_| Arc::default()).collect(),
            splitters: config.splitters.iter().map(|splitter| Arc::new(SplitterStats::new(splitter))).collect(),
            log: Arc::default(),
            panics: Arc::default(),
        }
    }

    /// The counters for the config that follows; `succession` tells what of it is there already.
    pub fn next(&self, succession: &Succession, config: &Config) -> Worker {
        let splitter = |(splitter, heir): (&Splitter, &Option<usize>)| match heir {
            Some(heir) => {
                self.splitters[*heir].go_on_with(splitter);
                self.splitters[*heir].clone()
            }
            None => Arc::new(SplitterStats::new(splitter)),
        };
        Worker {
            http: self.http.clone(),
            tls: self.tls.clone(),
            http2: self.http2.clone(),
            http3: self.http3.clone(),
            limits: succession.limits.carry(&self.limits, Arc::default),
            files: self.files.clone(),
            listeners: succession.listeners.carry(&self.listeners, Arc::default),
            routes: succession.carry_routes(&self.routes, Arc::default),
            tcp: succession.listeners.carry(&self.tcp, Arc::default),
            udp: succession.listeners.carry(&self.udp, Arc::default),
            spliced_bytes: self.spliced_bytes.clone(),
            pipes_used: self.pipes_used.clone(),
            pipes_free: self.pipes_free.clone(),
            servers: succession.carry_servers(&self.servers, Arc::default),
            upstreams: succession.upstreams.carry(&self.upstreams, Arc::default),
            gone: self.gone_after(succession),
            // They do not change while the process runs.
            apps: self.apps.clone(),
            splitters: config.splitters.iter().zip(&succession.splitters.0).map(splitter).collect(),
            log: self.log.clone(),
            panics: self.panics.clone(),
        }
    }

    /// All servers that upstream `u` has or had since it is there.
    pub fn servers_ever(&self, u: usize) -> impl Iterator<Item = &ServerStats> {
        self.servers[u].iter().chain(&self.gone[u]).map(|stats| &**stats)
    }

    fn gone_after(&self, succession: &Succession) -> Vec<Vec<Arc<ServerStats>>> {
        let of_upstream = |(heir, servers): (&Option<usize>, &Heirs)| {
            let Some(old) = *heir else { return vec![Arc::default()] };
            let (sum, counting) = self.gone[old].split_last().expect("the sum is there");
            // Nobody else has it: the last request that counted on it is over.
            let (ended, mut gone): (Vec<_>, Vec<_>) =
                counting.iter().cloned().partition(|stats| Arc::strong_count(stats) == 2);
            ended.iter().for_each(|stats| sum.absorb(stats));
            let stays = servers.new_indexes(self.servers[old].len());
            let leaving = self.servers[old].iter().zip(stays).filter(|(_, stays)| stays.is_none());
            gone.extend(leaving.map(|(stats, _)| stats.clone()));
            gone.push(sum.clone());
            gone
        };
        succession.upstreams.0.iter().zip(&succession.servers).map(of_upstream).collect()
    }
}

/// One listener, of any mode.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now.
    pub open: Gauge,
    /// Requests of HTTP.
    pub exchanges: ExchangeStats,
}

/// Downstream HTTP side of a worker.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections handed to a worker that had fewer, which counts them as accepted.
    pub handed_over: Counter,
    /// Connections closed on their way from one worker to another.
    pub lost: Counter,
    /// Connections refused because of a limit.
    pub refused: Counter,
    /// Of these, because their address had too many.
    pub refused_per_address: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections between two requests now.
    pub idle: Gauge,
    /// Connections that have left HTTP for another protocol.
    pub tunnels: Gauge,
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

/// What HTTP/3 adds to the downstream side of a worker. Its connections and requests count in [`HttpStats`] too, and the
/// handshakes in [`TlsStats`].
#[derive(Debug, Default)]
pub struct Http3Stats {
    /// Connections established.
    pub connections: Counter,
    /// Of these, open now.
    pub open: Gauge,
    /// Requests whose head has come.
    pub requests: Counter,
    /// Streams of requests under way that clients reset or stopped.
    pub resets_received: Counter,
    /// GOAWAY frames sent.
    pub goaways: Counter,
    /// Connections ended because their client gave up too many requests.
    pub floods: Counter,
    /// Clients asked to prove their address first.
    pub retries: Counter,
    /// Datagrams passed on to the worker that owns their connection.
    pub forwarded: Counter,
    /// Datagrams dropped because too much was under way.
    pub dropped: Counter,
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
    /// Connections of HTTP/2 that the server had closed to further requests and that were ended under those they had, because
    /// there were too many.
    pub given_up: Counter,
    /// Requests on a connection that was idle in the pool.
    pub reuses: Counter,
    /// Connects that failed or timed out.
    pub connect_errors: Counter,
    /// Requests that failed after connecting.
    pub response_errors: Counter,
    /// Of these, requests that it had not answered in time.
    pub response_timeouts: Counter,
    /// Requests that were tried again elsewhere after this server failed them.
    pub retries: Counter,
    /// Retries that the budget did not allow.
    pub retries_refused: Counter,
    /// Responses by status class, as in [`HttpStats::responses`].
    pub responses: [Counter; 6],
    /// Idle connections in the pool now.
    pub idle: Gauge,
    /// Time to connect.
    pub connect: Histogram,
    /// From the request's first byte sent to the response head.
    pub first_byte: Histogram,
    /// From the complete head of a request to the last byte of its answer, queues and earlier tries included.
    pub total: Histogram,
    /// Bytes of requests that it answered, as [`ExchangeStats::bytes_in`].
    pub bytes_in: Counter,
    /// Bytes of its answers as they went to clients.
    pub bytes_out: Counter,
    /// Datagrams of UDP mode that went to it.
    pub datagrams_up: Counter,
    /// Datagrams that came from it.
    pub datagrams_down: Counter,
    /// Bytes that tunnels (TCP and UDP mode, upgrades) took from clients for it.
    pub tunnel_bytes_up: Counter,
    /// Bytes that they took from it.
    pub tunnel_bytes_down: Counter,
    /// How long connections in TCP mode, and flows in UDP mode, lasted on it.
    pub session: Histogram,
    /// For outlier detection; stays at 0 where there is none.
    pub outcomes: Outcomes,
}

impl ServerStats {
    /// Counts an exchange that it answered.
    pub fn count(&self, exchanged: Exchanged) {
        self.total.record(exchanged.duration);
        self.bytes_in.add(exchanged.bytes_in);
        self.bytes_out.add(exchanged.bytes_out);
    }

    /// Counts what `other` has counted, which counts no more. Gauges are not taken over.
    fn absorb(&self, other: &ServerStats) {
        let pairs = [
            (&self.requests, &other.requests),
            (&self.connects, &other.connects),
            (&self.given_up, &other.given_up),
            (&self.reuses, &other.reuses),
            (&self.connect_errors, &other.connect_errors),
            (&self.response_errors, &other.response_errors),
            (&self.response_timeouts, &other.response_timeouts),
            (&self.retries, &other.retries),
            (&self.retries_refused, &other.retries_refused),
            (&self.bytes_in, &other.bytes_in),
            (&self.bytes_out, &other.bytes_out),
            (&self.datagrams_up, &other.datagrams_up),
            (&self.datagrams_down, &other.datagrams_down),
            (&self.tunnel_bytes_up, &other.tunnel_bytes_up),
            (&self.tunnel_bytes_down, &other.tunnel_bytes_down),
        ];
        pairs.iter().for_each(|(mine, other)| mine.add(other.value()));
        self.responses.iter().zip(&other.responses).for_each(|(mine, other)| mine.add(other.value()));
        self.connect.absorb(&other.connect);
        self.first_byte.absorb(&other.first_byte);
        self.total.absorb(&other.total);
        self.session.absorb(&other.session);
    }
}

/// One listener in TCP mode.
#[derive(Debug, Default)]
pub struct TcpStats {
    /// Connections that came so far as to be passed on, or to be asked where to.
    pub connections: Counter,
    /// Connected to a server now.
    pub open: Gauge,
    /// Closed by a rule: of addresses (in any mode), or because no upstream is there for the name they ask for.
    pub refused: Counter,
    /// Closed because no server could be connected to.
    pub unserved: Counter,
    /// Closed by a time-out.
    pub timeouts: Counter,
    /// Ended by force by one of their sides.
    pub resets: Counter,
    /// Bytes taken from clients.
    pub bytes_up: Counter,
    /// Bytes taken from servers.
    pub bytes_down: Counter,
    /// How long they lasted.
    pub duration: Histogram,
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
    /// Requests that wait for a thread of the application; written by the first data worker for all of them.
    pub queue_depth: Gauge,
    /// Requests that have become a WebSocket, or the like, and are open now.
    pub tunnels: Gauge,
    /// Bytes that these took from clients.
    pub tunnel_bytes_up: Counter,
    /// Bytes that they took from the application.
    pub tunnel_bytes_down: Counter,
}

/// One splitter, as one data worker sees it.
#[derive(Debug)]
pub struct SplitterStats {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Clients connected now.
    pub clients: Gauge,
    /// Clients that came in over TLS.
    pub tls_clients: Counter,
    /// Clients whose packets are compressed.
    pub compressed_clients: Counter,
    /// Clients refused: wrong password, limits.
    pub refused: Counter,
    /// Statements sent to the primary.
    pub to_primary: Counter,
    /// Statements sent to a replica.
    pub to_replica: Counter,
    /// Statements answered with an error packet of ours.
    pub errors: Counter,
    /// Times a session was tied to one backend connection, by the reason, at [`Pin::index`].
    pub pins: [Counter; Pin::COUNT],
    /// Sessions that are tied so now, in the same order.
    pub pinned: [Gauge; Pin::COUNT],
    /// For how long the one of these that is tied for longest has been, milliseconds, in the same order; renewed four times a
    /// second.
    pub pinned_oldest_ms: [Gauge; Pin::COUNT],
    /// Reads in front of which a replica was asked to catch up.
    pub causal_waits: Counter,
    /// Of these, those where it did not in time.
    pub causal_timeouts: Counter,
    /// Reads that went to the primary because no replica was known to have what they must see.
    pub causal_fallbacks: Counter,
    /// Questions to the primary for its position.
    pub causal_questions: Counter,
    /// Statements that waited for a primary.
    pub held: Counter,
    /// Statements that could not, because too many did.
    pub held_refused: Counter,
    /// From a statement's last byte to its response's last byte, on the primary.
    pub primary_duration: Histogram,
    /// The same on replicas.
    pub replica_duration: Histogram,
    /// Statements of clients: queries, and executions of what was prepared.
    pub questions: Counter,
    /// Of these, longer than the threshold of the slow log.
    pub slow: Counter,
    /// Statements that servers answered with an error.
    pub server_errors: Counter,
    /// Statements that a rule refused.
    pub rejected: Counter,
    /// Statements whose text a rule changed.
    pub rewritten: Counter,
    /// Statements ended because a rule's time was up.
    pub time_limits: Counter,
    /// Statements that a rule or a comment sent to the primary.
    pub chosen_primary: Counter,
    /// The same, to a replica.
    pub chosen_replica: Counter,
    /// Bytes of commands of clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Clients that have sent nothing for a moment: they hold no buffers.
    pub idle_clients: Gauge,
    /// Statements by their normal form.
    pub digests: DigestBoard,
    /// By server. Those that are gone stay: what they counted is part of all sums.
    pub backends: Growing<BackendStats>,
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
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Clients that wait for a connection now.
    pub waiting: Gauge,
    /// Clients that got none in time, or were too many to wait.
    pub wait_failures: Counter,
    /// Connections closed in favour of another data worker.
    pub yielded: Counter,
    /// How long clients waited that had to.
    pub wait: Histogram,
}

impl SplitterStats {
    /// Has counters for all servers, and a table of statements of the right size. Control thread only.
    fn go_on_with(&self, splitter: &Splitter) {
        let servers = splitter.servers.len();
        (self.backends.len()..servers).for_each(|_| self.backends.push(BackendStats::default()));
        self.digests.resize(splitter.digests_max);
    }

    fn new(splitter: &Splitter) -> SplitterStats {
        SplitterStats {
            accepted: Counter::default(),
            clients: Gauge::default(),
            tls_clients: Counter::default(),
            compressed_clients: Counter::default(),
            refused: Counter::default(),
            to_primary: Counter::default(),
            to_replica: Counter::default(),
            errors: Counter::default(),
            pins: Default::default(),
            pinned: Default::default(),
            pinned_oldest_ms: Default::default(),
            causal_waits: Counter::default(),
            causal_timeouts: Counter::default(),
            causal_fallbacks: Counter::default(),
            causal_questions: Counter::default(),
            held: Counter::default(),
            held_refused: Counter::default(),
            primary_duration: Histogram::default(),
            replica_duration: Histogram::default(),
            questions: Counter::default(),
            slow: Counter::default(),
            server_errors: Counter::default(),
            rejected: Counter::default(),
            rewritten: Counter::default(),
            time_limits: Counter::default(),
            chosen_primary: Counter::default(),
            chosen_replica: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            idle_clients: Gauge::default(),
            digests: DigestBoard::new(splitter.digests_max, unix_ms(SystemTime::now())),
            backends: splitter.servers.iter().map(|_| BackendStats::default()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of an upstream stay counted when its servers come and go, and what is gone does not pile up.
    #[test]
    fn no_count_is_lost_when_servers_go() {
        let config = |servers: &str| {
            let text = format!(
                "[listener.web]\naddress = \"127.0.0.1:0\"\n[upstream.api]\nservers = [{servers}]\n[site.main]\n\
                 default = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n"
            );
            crate::config::parse("test.toml", &text, &[]).unwrap().0
        };
        let (two, one) = (config(r#""127.0.0.1:1", "127.0.0.1:2""#), config(r#""127.0.0.1:2""#));
        let ever = |worker: &Worker| worker.servers_ever(0).map(|server| server.requests.value()).sum::<u64>();
        let mut worker = Worker::new(&two);
        for turn in 1..=10 {
            worker.servers[0][0].requests.add(3);
            worker.servers[0][1].requests.add(1);
            let under_way = worker.servers[0][0].clone();
            worker = worker.next(&Succession::new(&two, &one), &one);
            under_way.requests.inc();
            assert_eq!((ever(&worker), worker.servers[0][0].requests.value()), (5 * turn, turn));
            drop(under_way);
            worker = worker.next(&Succession::new(&one, &two), &two);
            assert_eq!((ever(&worker), worker.servers[0][0].requests.value()), (5 * turn, 0));
            assert_eq!(worker.gone[0].len(), 1, "only the sum is left");
        }
    }

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
