//! Every key of the config file and every tuning flag, described once.
//!
//! Parser, defaults, diagnostics, flag help and the printed manual are made from this list. Ranges keep a slip of the
//! keyboard from starting a process that cannot work; defaults are what users of nginx, HAProxy and ProxySQL rely on
//! where they have one, and the `when` line says so where ours differs.

use std::time::Duration;

use super::health::FailureKinds;
use super::key::Absent::{Default, Means, Required};
use super::key::{FlagOf, Key, Table, duration, integer, size};
use super::value::Kind;
use crate::http::coding::DEFAULT_TYPES;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A wait in a protocol: long enough to be meant, short enough not to be a wrong unit.
const WAIT: Kind = duration(MS, DAY);

/// What `compress` takes in [http], a site and a route.
const COMPRESS: Kind = Kind::Form("true, false, or a table such as { codings = [\"zstd\", \"gzip\"], min = \"1KiB\" }");
const ACCESS_HELP: &str =
    "addresses that may come in or not, the first match decides, no match may; anyone else gets 403";

const SATISFY: Kind = Kind::Word(&["all", "any"]);
const SATISFY_HELP: &str = "what lets a request in: `all` that is asked for, or `any` of it: then an address that `access` lets in needs no login, and one that it refuses may log in";

const AUTH_REQUEST: Kind = Kind::Form("a path of the site such as \"/auth\", or false");
const AUTH_REQUEST_HELP: &str = "path of the site that is asked first, by a GET with the fields of the request and without its body, X-Original-URI and X-Original-Method beside them: 2xx lets the request in, 401 and 403 refuse it, anything else is 500";
const AUTH_REQUEST_HEADERS_HELP: &str = "fields that the answer to auth_request gives to the request, for upstreams, applications and variables; what a client writes in them itself is taken away, also where nobody is asked";

const AUTH: Kind =
    Kind::Form("a table such as { realm = \"staff\", users_file = \"/etc/one-server/users\" }, or false");

/// All of them, table by table, in the order of the manual.
pub(super) const KEYS: &[Key] = &[
    // above the first table
    Key::new(Table::Top, "include", Kind::List(&Kind::Text), Means("one file"))
        .help("further files, relative to this one; `*` and `?` stand in the last part of a path: \"sites/*.toml\". Each table stands in one of the files")
        .known_as(&["nginx include", "haproxy -f"]),
    // [process]
    Key::new(Table::Process, "data_cores", Kind::Cores, Default("auto"))
        .help("cores of the data workers, one worker on each")
        .flag("data-cores")
        .known_as(&["nginx worker_processes", "nginx worker_cpu_affinity", "haproxy nbthread", "haproxy cpu-map"])
        .when("to leave cores to other programs; auto takes every core the process may use, or half of them with app_placement = \"separate\""),
    Key::new(Table::Process, "app_cores", Kind::Cores, Default("auto"))
        .help("cores of the application workers, one worker on each")
        .flag("app-cores")
        .when("to give applications cores of their own; auto follows app_placement"),
    Key::new(Table::Process, "app_placement", Kind::Word(&["paired", "separate"]), Default("paired"))
        .help("where application workers run: on the core of each data worker, or on cores of their own")
        .flag("app-placement")
        .when("`separate` for applications that compute for longer than about 100 µs per request, so that they do not hold up connections"),
    Key::new(Table::Process, "driver", Kind::Word(&["auto", "io-uring", "epoll"]), Default("auto"))
        .help("kernel interface; auto takes io_uring where the kernel allows it, else epoll with a warning")
        .flag("driver")
        .known_as(&["nginx use"])
        .when("`io-uring` to refuse to start without it, `epoll` to compare the two"),
    Key::new(Table::Process, "ring_entries", integer(256, 32_768), Default("1024"))
        .help("submission queue entries of each ring")
        .flag("ring-entries")
        .when("up when a worker has thousands of connections active at the same time"),
    Key::new(Table::Process, "read_buffer", size(512, MIB), Default("4KiB"))
        .help("first read buffer of a busy connection; it grows up to http.head_max for a long head")
        .flag("read-buffer")
        .known_as(&["nginx client_header_buffer_size", "haproxy tune.bufsize"])
        .when("up when most requests carry cookies or tokens longer than this"),
    Key::new(Table::Process, "stream_buffer", size(4 * KIB, 4 * MIB), Default("64KiB"))
        .help("size of one piece when a body is streamed")
        .flag("stream-buffer")
        .known_as(&["nginx proxy_buffers", "nginx proxy_buffer_size", "nginx client_body_buffer_size"])
        .when("up for few large transfers on fast networks, down to save memory with many slow ones"),
    Key::new(Table::Process, "app_spin", duration(Duration::ZERO, Duration::from_millis(10)), Default("0us"))
        .help("how long an application worker looks for work before it sleeps; 0us: not at all")
        .flag("app-spin")
        .when("to about 20us when application workers have cores of their own: a sleeping core takes longer to wake than a request takes; on shared cores it only takes time away from the data worker"),
    Key::new(Table::Process, "app_queue", integer(1, 1 << 20), Default("1024"))
        .help("requests that may wait in front of one application worker")
        .known_as(&["haproxy maxqueue"])
        .when("down to fail early instead of late under overload"),
    Key::new(Table::Process, "app_queue_timeout", duration(Duration::ZERO, DAY), Default("1s"))
        .help("how long a request waits for a place in a full queue before it gets 503")
        .known_as(&["haproxy timeout queue"])
        .when("up for applications with short bursts of slow requests"),
    Key::new(Table::Process, "app_concurrency", integer(1, 1 << 20), Default("1024"))
        .help("requests one application worker runs at the same time")
        .when("down when each request holds much memory or a scarce connection"),
    Key::new(Table::Process, "connections_max", integer(16, 16_000_000), Default("65536"))
        .help("client connections of the whole process; more are refused")
        .flag("connections-max")
        .known_as(&["nginx worker_connections", "haproxy maxconn"])
        .when("up on large machines, together with the limit of open files (`ulimit -n`)"),
    Key::new(Table::Process, "tarpit_max", integer(0, 16_000_000), Default("1024"))
        .help("requests of the whole process that `tarpit` holds back at the same time; more are answered at once")
        .when("up on large machines, well below connections_max: each holds a connection"),
    Key::new(Table::Process, "user", Kind::Text, Means("whoever starts it"))
        .help("whom the process becomes, with all its groups, once root has bound the sockets and opened keys and logs; nothing of root's rights is kept")
        .known_as(&["nginx user", "haproxy user", "haproxy uid"])
        .when("whenever root starts it; the user must be able to read the sites, and renewed certificates"),
    Key::new(Table::Process, "group", Kind::Text, Means("the group of the user"))
        .help("its group instead of the user's own one")
        .known_as(&["haproxy group", "haproxy gid"]),
    Key::new(Table::Process, "control", Kind::Path, Means("`one-server ctl` cannot reach the process"))
        .help("Unix socket on which `one-server ctl` looks at the running process and changes it; it gets mode 0600, and only root and the user of the process are heard")
        .flag("control")
        .known_as(&["haproxy stats socket"])
        .when("set it wherever somebody looks after the process, for example /run/one-server.sock"),
    Key::new(Table::Process, "backlog", integer(1, 1 << 20), Default("4096"))
        .help("length of the accept queue of each listening socket, see listen(2); the kernel caps it at net.core.somaxconn")
        .flag("backlog")
        .known_as(&["nginx listen backlog", "haproxy bind backlog"])
        .when("up when connections arrive in bursts and `nstat` shows TcpExtListenOverflows"),
    Key::new(Table::Process, "drain_timeout", duration(Duration::ZERO, DAY), Default("30s"))
        .help("how long a drain (SIGQUIT) waits for requests in flight")
        .flag("drain-timeout")
        .known_as(&["nginx worker_shutdown_timeout", "haproxy hard-stop-after"])
        .when("up for long downloads, down where the service manager waits less"),
    Key::new(Table::Process, "file_cache", size(0, 64 * GIB), Default("64MiB"))
        .help("memory for small files, per data worker; 0: no cache")
        .flag("file-cache")
        .known_as(&["nginx open_file_cache"])
        .when("up when the site's small files together are larger than this"),
    Key::new(Table::Process, "file_cache_file_max", size(0, 64 * MIB), Default("64KiB"))
        .help("largest file kept in memory; larger ones go out by sendfile(2)")
        .when("seldom: the page cache serves larger files well"),
    Key::new(Table::Process, "file_cache_valid", duration(Duration::ZERO, DAY), Default("1s"))
        .help("how long a cached file is served before its metadata is looked at again")
        .flag("file-cache-valid")
        .known_as(&["nginx open_file_cache_valid"])
        .when("up where files only change with a deployment; 0s to look at every request. nginx's 60s leaves stale files up for a minute"),
    // [http]
    Key::new(Table::Http, "header_timeout", WAIT, Default("60s"))
        .help("from the first byte of a request head to its last, in all")
        .flag("header-timeout")
        .known_as(&["nginx client_header_timeout", "haproxy timeout http-request"])
        .when("down to 10s against slow clients that hold connections open"),
    Key::new(Table::Http, "body_timeout", WAIT, Default("60s"))
        .help("longest silence while a request body is read")
        .flag("body-timeout")
        .known_as(&["nginx client_body_timeout", "haproxy timeout client"])
        .when("up for uploads over very bad links"),
    Key::new(Table::Http, "body_rate_min", size(0, GIB), Default("500B"))
        .help("bytes a second that a request body must come with on average, beyond body_rate_grace; else 408. Only the time counts in which we wait for the client, not that in which a server or application takes nothing; 0: any rate")
        .flag("body-rate-min")
        .known_as(&["apache RequestReadTimeout"])
        .when("up against clients that send large bodies byte by byte, 0 for devices that report now and then within one request"),
    Key::new(Table::Http, "body_rate_grace", duration(Duration::ZERO, DAY), Default("20s"))
        .help("time of waiting for a request body that does not count against its rate")
        .flag("body-rate-grace")
        .when("up for clients that need long before they send"),
    Key::new(Table::Http, "write_timeout", WAIT, Default("60s"))
        .help("longest time in which the client takes no byte of an answer")
        .flag("write-timeout")
        .known_as(&["nginx send_timeout"])
        .when("down when slow readers hold too many connections"),
    Key::new(Table::Http, "keep_alive_timeout", WAIT, Default("75s"))
        .help("idle time between two requests of a connection")
        .flag("keep-alive-timeout")
        .known_as(&["nginx keepalive_timeout", "haproxy timeout http-keep-alive"])
        .when("up behind another balancer, above that balancer's own idle time; down to free idle connections"),
    Key::new(Table::Http, "keep_alive_time", WAIT, Default("1h"))
        .help("age from which a connection is closed behind its next answer")
        .known_as(&["nginx keepalive_time"])
        .when("down to spread clients anew after servers were added"),
    Key::new(Table::Http, "keep_alive_requests_max", integer(0, u32::MAX as u64), Default("1000"))
        .help("requests on one connection before it is closed; 0: no limit")
        .known_as(&["nginx keepalive_requests"])
        .when("0 behind a trusted balancer and in benchmarks"),
    Key::new(Table::Http, "head_max", size(KIB, MIB), Default("16KiB"))
        .help("bytes of a request head; beyond it 431, or 414 when the target alone is too long")
        .known_as(&["nginx large_client_header_buffers", "haproxy tune.bufsize"])
        .when("up for applications with very large cookies"),
    Key::new(Table::Http, "headers_max", integer(1, 1024), Default("100"))
        .help("header fields of a request; beyond it 431")
        .known_as(&["nginx max_headers", "haproxy tune.http.maxhdr"])
        .when("seldom"),
    Key::new(Table::Http, "body_max", size(0, 1 << 50), Default("1MiB"))
        .help("bytes of a request body; beyond it 413; 0: no limit")
        .flag("body-max")
        .known_as(&["nginx client_max_body_size"])
        .when("up for uploads"),
    Key::new(Table::Http, "connections_per_address_max", integer(0, 16_000_000), Default("0"))
        .help("connections of one client address, IPv6 ones by their /64, in the whole process; more are reset before TLS; 0: no limit. Proxies named in `trusted_proxies` have none; behind the PROXY protocol the address of its header counts")
        .flag("connections-per-address-max")
        .known_as(&["nginx limit_conn", "haproxy src_conn_cur"])
        .when("to about 100 against clients that take all connections for themselves; an office or a mobile network shares one IPv4 address"),
    Key::new(Table::Http, "server_name", Kind::Field, Default("one-server"))
        .help("value of the Server field of answers; empty: no field")
        .known_as(&["nginx server_tokens"])
        .when("empty to tell less"),
    // [http2]
    Key::new(Table::Http2, "streams_max", integer(1, 4096), Default("100"))
        .help("streams a client may have open at the same time; more are refused")
        .known_as(&["nginx http2_max_concurrent_streams", "haproxy tune.h2.fe.max-concurrent-streams", "haproxy tune.h2.max-concurrent-streams"])
        .when("up behind another balancer that puts many clients on one connection"),
    Key::new(Table::Http2, "stream_window", size(16 * KIB, GIB), Default("64KiB"))
        .help("bytes of a request body that may be under way on one stream")
        .known_as(&["nginx http2_body_preread_size", "haproxy tune.h2.fe.initial-window-size", "haproxy tune.h2.initial-window-size"])
        .when("up for fast uploads over long links: rate times round trip"),
    Key::new(Table::Http2, "connection_window", size(64 * KIB, GIB), Default("1MiB"))
        .help("the same for all streams of a connection together")
        .known_as(&["haproxy tune.h2.fe.rxbuf"])
        .when("with stream_window; it bounds the memory of a connection"),
    Key::new(Table::Http2, "frame_max", size(16 * KIB, 16 * MIB - 1), Default("16KiB"))
        .help("largest payload of a frame")
        .known_as(&["haproxy tune.h2.max-frame-size"])
        .when("seldom: large frames of one stream hold up the others"),
    Key::new(Table::Http2, "header_list_max", size(4 * KIB, 16 * MIB), Default("64KiB"))
        .help("bytes of a request's decompressed header list; beyond it 431, beyond four times as many the connection ends")
        .known_as(&["nginx http2_max_header_size", "nginx http2_max_field_size"])
        .when("seldom; http.head_max holds as well"),
    Key::new(Table::Http2, "header_table", size(0, 64 * KIB), Default("4KiB"))
        .help("memory for the compression of a client's headers, per connection; 0: none")
        .known_as(&["haproxy tune.h2.header-table-size"])
        .when("down to save memory with very many connections"),
    Key::new(Table::Http2, "send_buffer_max", size(16 * KIB, GIB), Default("32KiB"))
        .help("bytes of an answer that may wait for the client's window, per stream")
        .when("seldom: a full buffer stops whoever fills it"),
    Key::new(Table::Http2, "rst_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("RST_STREAM frames of a client in a second")
        .known_as(&["haproxy tune.h2.fe.max-rst-at-once"])
        .when("up behind another balancer whose clients give up often"),
    Key::new(Table::Http2, "rst_max", integer(1, u32::MAX as u64), Default("10000"))
        .help("the same in the life of a connection")
        .when("up behind another balancer"),
    Key::new(Table::Http2, "early_rst_max", integer(1, u32::MAX as u64), Default("50"))
        .help("streams that a client resets before their answer has begun, in the life of a connection; ten streams answered make up for one")
        .when("up where many requests are given up at once, for example to slow backends"),
    Key::new(Table::Http2, "rst_emitted_max", integer(1, u32::MAX as u64), Default("500"))
        .help("streams that we reset because of a client's mistakes, in the life of a connection")
        .when("seldom"),
    Key::new(Table::Http2, "ping_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("PING frames in a second, beyond the DATA frames sent to the client")
        .when("seldom"),
    Key::new(Table::Http2, "settings_per_second", integer(1, u32::MAX as u64), Default("50"))
        .help("SETTINGS frames in a second")
        .when("seldom"),
    Key::new(Table::Http2, "priority_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("PRIORITY and PRIORITY_UPDATE frames in a second, beyond two for each new stream")
        .when("seldom"),
    Key::new(Table::Http2, "empty_data_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("DATA frames without content in a second")
        .when("seldom"),
    Key::new(Table::Http2, "window_update_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("WINDOW_UPDATE frames in a second, of zero or beyond ten for each DATA frame sent and each stream")
        .when("seldom"),
    Key::new(Table::Http2, "tiny_window_update_per_second", integer(1, u32::MAX as u64), Default("1000"))
        .help("WINDOW_UPDATE frames of less than 64 bytes in a second")
        .when("up for streams of very many very small messages to simple clients"),
    Key::new(Table::Http2, "unknown_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("frames of unknown kinds in a second, beyond two for each new stream")
        .when("up for clients with extensions of their own"),
    Key::new(Table::Http2, "continuation_max", integer(1, 4096), Default("20"))
        .help("CONTINUATION frames of one header block")
        .when("up with header_list_max, for clients that cut their headers into small frames"),
    Key::new(Table::Http2, "glitches_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("frames in a second that no correct client sends")
        .known_as(&["haproxy tune.h2.fe.glitches-threshold"])
        .when("down to end the connections of odd clients sooner"),
    // [http3]
    Key::new(Table::Http3, "streams_max", integer(1, 4096), Default("100"))
        .help("requests a client may have open at the same time on one connection")
        .known_as(&["nginx http3_max_concurrent_streams"])
        .when("up behind another balancer that puts many clients on one connection"),
    Key::new(Table::Http3, "stream_window", size(16 * KIB, GIB), Default("64KiB"))
        .help("bytes of a request body that may be under way on one stream")
        .known_as(&["nginx http3_stream_buffer_size"])
        .when("up for fast uploads over long links: rate times round trip"),
    Key::new(Table::Http3, "connection_window", size(64 * KIB, GIB), Default("1MiB"))
        .help("the same for all streams of a connection together")
        .when("with stream_window; it bounds the memory of a connection"),
    Key::new(Table::Http3, "send_buffer_max", size(64 * KIB, GIB), Default("1MiB"))
        .help("bytes of answers that a connection keeps until its client has acknowledged them")
        .when("up for fast downloads over long links: rate times round trip; it bounds the memory of a slow reader"),
    Key::new(Table::Http3, "header_list_max", size(4 * KIB, 16 * MIB), Default("64KiB"))
        .help("bytes of a request's decompressed header list; beyond it 431")
        .when("seldom; http.head_max holds as well"),
    Key::new(Table::Http3, "early_rst_max", integer(1, u32::MAX as u64), Default("50"))
        .help("requests that a client gives up before their answer has begun, or that break a rule, in the life of a connection; ten requests answered make up for one")
        .when("up where many requests are given up at once, for example to slow backends"),
    Key::new(Table::Http3, "retry", Kind::Word(&["auto", "always"]), Default("auto"))
        .help("whether a new client must prove its address by one more round trip before a handshake is computed for it: `auto` does so while many handshakes are under way")
        .known_as(&["nginx quic_retry", "haproxy quic-force-retry"])
        .when("`always` under attack from forged addresses"),
    // [listener.NAME]
    Key::new(Table::Listener, "address", Kind::SocketAddress, Required)
        .help("IP address and port; port 0 picks a free one, which the start-up lines tell")
        .known_as(&["nginx listen", "haproxy bind"]),
    Key::new(Table::Listener, "http2", Kind::Switch, Default("true"))
        .help("speak HTTP/2 with clients that ask for it: over TLS by ALPN, in clear by beginning with it (prior knowledge)")
        .known_as(&["nginx http2", "haproxy bind alpn"])
        .when("false to compare, or for clients whose HTTP/2 is broken"),
    Key::new(Table::Listener, "http3", Kind::Switch, Default("false"))
        .help("speak HTTP/3 over QUIC on the UDP port of the same number, and tell clients of HTTP/1 and HTTP/2 so; needs `tls`")
        .known_as(&["nginx listen quic", "nginx http3", "haproxy bind quic4@"])
        .when("`true` for clients on lossy or changing networks; open the UDP port in the firewall too"),
    Key::new(Table::Listener, "alt_svc", Kind::Field, Means("h3=\":PORT\"; ma=86400 with http3"))
        .help("value of Alt-Svc in answers over HTTP/1 and HTTP/2 of a listener with http3; empty: no such field")
        .known_as(&["nginx add_header Alt-Svc", "haproxy http-response set-header alt-svc"])
        .when("where clients reach the port under another number, or to try HTTP/3 before it is announced"),
    Key::new(Table::Listener, "proxy_protocol", Kind::Word(&["off", "required"]), Default("off"))
        .help("`required`: every connection begins with a header of the PROXY protocol, version 1 or 2, which tells the client's address")
        .known_as(&["nginx listen proxy_protocol", "haproxy accept-proxy"])
        .when("`required` behind a balancer that sends it, such as HAProxy with `send-proxy-v2`; name the balancer in trusted_proxies"),
    Key::new(Table::Listener, "trusted_proxies", Kind::List(&Kind::Network), Default(""))
        .help("proxies in front that are believed when they tell the client's address and scheme")
        .known_as(&["nginx set_real_ip_from"])
        .when("whenever another proxy stands in front; name only proxies that cannot be gone around"),
    Key::new(Table::Listener, "real_ip_header", Kind::Text, Default("X-Forwarded-For"))
        .help("field in which trusted proxies tell the client's address: X-Forwarded-For, Forwarded (RFC 7239), or one that holds a single address, such as X-Real-IP")
        .known_as(&["nginx real_ip_header"])
        .when("to what the proxy in front writes, and does not let through from clients"),
    Key::new(Table::Listener, "tls", Kind::Form("a table such as { certificates = [{ chain = \"/etc/one-server/site.pem\", key = \"/etc/one-server/site.key\" }] }"), Means("plain text"))
        .help("speak TLS")
        .known_as(&["nginx listen ssl", "haproxy bind ssl"]),
    Key::new(Table::Listener, "access", Kind::List(&Kind::AddressRule), Means("everyone"))
        .help("addresses whose connections are taken or not, the first match decides, no match may; others are closed without an answer")
        .known_as(&["nginx stream allow", "nginx stream deny", "haproxy tcp-request"])
        .when("for TCP mode, and for HTTP where not even an error page is due; `access` of a site answers 403"),
    Key::new(Table::Listener, "tcp", Kind::Form("the name of an upstream, or a table such as { \"db.example.org\" = \"pg\", \"*.example.org\" = \"web\", default = \"other\" }"), Means("HTTP"))
        .help("TCP mode: connections are passed on as they are, all of them to one upstream, or by the name that clients ask for with TLS, which is read without ending TLS here; `default` is for other names, for clients without one and for what is not TLS. Without it these are refused. With `tls` the listener ends TLS itself and passes the plain text on")
        .known_as(&["nginx stream", "nginx ssl_preread", "haproxy mode", "haproxy req_ssl_sni"])
        .when("for protocols other than HTTP, and for HTTPS that ends at the servers"),
    // tls
    Key::new(Table::Tls, "certificates", Kind::Form("a list of tables such as { chain = \"/etc/one-server/site.pem\", key = \"/etc/one-server/site.key\" }"), Required)
        .help("certificates with their keys; clients without a name get the first one")
        .known_as(&["nginx ssl_certificate", "haproxy bind crt"]),
    Key::new(Table::Tls, "profile", Kind::Word(&["intermediate", "modern"]), Default("intermediate"))
        .help("versions and ciphers by Mozilla's guidelines 6.0: `intermediate` is TLS 1.2 and 1.3, `modern` TLS 1.3 alone")
        .known_as(&["nginx ssl_protocols", "nginx ssl_ciphers", "nginx ssl_ecdh_curve", "nginx ssl_prefer_server_ciphers", "haproxy ssl-default-bind-ciphers", "haproxy ssl-min-ver"])
        .when("`modern` when no client is older than about 2020"),
    Key::new(Table::Tls, "unknown_names", Kind::Word(&["default", "refuse"]), Default("default"))
        .help("what a client gets that asks for a name without certificate: the first certificate, or an alert; who asks for no name gets the first one")
        .known_as(&["nginx ssl_reject_handshake", "haproxy bind strict-sni"])
        .when("`refuse` so that scanners learn no names they did not know"),
    Key::new(Table::Tls, "client_certificates", Kind::Word(&["off", "optional", "required"]), Default("off"))
        .help("whether clients are asked for a certificate; `required` ends the handshake without a good one")
        .known_as(&["nginx ssl_verify_client", "haproxy bind verify"])
        .when("for machines and staff that are known by certificate; nothing is resumed then"),
    Key::new(Table::Tls, "client_ca", Kind::Path, Means("no client certificates"))
        .help("PEM file with the authorities that issue client certificates")
        .known_as(&["nginx ssl_client_certificate", "nginx ssl_trusted_certificate", "haproxy bind ca-file"]),
    Key::new(Table::Tls, "ticket_keys", Kind::Path, Means("a random secret that ends with the process"))
        .help("file with the secrets of session tickets, the newest in the first line; created when missing")
        .known_as(&["nginx ssl_session_ticket_key", "nginx ssl_session_tickets", "nginx ssl_session_cache", "haproxy bind tls-ticket-keys"])
        .when("to let clients resume after a restart and on other nodes, which need the same file"),
    Key::new(Table::Tls, "handshake_timeout", WAIT, Default("10s"))
        .help("from the first byte of a handshake to its end")
        .known_as(&["haproxy timeout client-hs"])
        .when("up for clients on very bad links. nginx waits for client_header_timeout, 60s"),
    // certificates
    Key::new(Table::Certificate, "chain", Kind::Path, Required)
        .help("PEM file: the server's certificate, then those that issued it (fullchain.pem)")
        .known_as(&["nginx ssl_certificate", "haproxy bind crt"]),
    Key::new(Table::Certificate, "key", Kind::Path, Required)
        .help("PEM file of its private key (PKCS#8, PKCS#1 or SEC1, not encrypted); may be the same file")
        .known_as(&["nginx ssl_certificate_key"]),
    // [limit.NAME]
    Key::new(Table::Limit, "key", Kind::Field, Default("$remote_addr"))
        .help("what is counted, a text with variables such as \"$remote_addr\" or \"$http_x_api_key\"; requests for which it is empty are not limited")
        .known_as(&["nginx limit_req_zone", "nginx limit_conn_zone", "haproxy stick-table"]),
    Key::new(Table::Limit, "rate", Kind::Rate, Means("any rate"))
        .help("requests of one key: \"10/s\", \"600/m\" or \"1000/h\"; they are spread evenly over the time, so that \"600/m\" is one every 100 ms")
        .known_as(&["nginx limit_req", "haproxy http_req_rate"]),
    Key::new(Table::Limit, "burst", integer(0, 1_000_000), Default("0"))
        .help("requests that may come ahead of the rate; more are refused")
        .known_as(&["nginx limit_req burst"])
        .when("to the number of requests that a page makes at once"),
    Key::new(Table::Limit, "excess", Kind::Word(&["delay", "reject"]), Default("delay"))
        .help("requests within the burst wait until the rate allows them, or go on at once; \"reject\" is nginx's `nodelay`: what is beyond the burst is refused either way")
        .known_as(&["nginx limit_req nodelay"])
        .when("`reject` for browsers, whose pages should not become slow within the burst"),
    Key::new(Table::Limit, "requests_max", integer(1, 1_000_000), Means("any number"))
        .help("requests of one key that may be under way at the same time; more are refused")
        .known_as(&["nginx limit_conn", "haproxy sc0_conn_cur"])
        .when("for work that takes long, such as reports and large downloads"),
    Key::new(Table::Limit, "keys_max", integer(64, 16_000_000), Default("65536"))
        .help("keys known at the same time, about 19 bytes each for a rate and as much for requests_max. When there are more, a rate forgets the key that asked least; requests_max refuses new keys, as nginx does")
        .known_as(&["nginx limit_req_zone zone", "nginx limit_conn_zone zone"])
        .when("up when one_server_limit_keys_lost_total grows"),
    Key::new(Table::Limit, "status", integer(400, 599), Default("429"))
        .help("status of refused requests, whose answers say in Retry-After and RateLimit when to come again")
        .known_as(&["nginx limit_req_status", "nginx limit_conn_status"])
        .when("to 503 for clients that know nothing else. nginx answers 503"),
    Key::new(Table::Limit, "dry_run", Kind::Switch, Default("false"))
        .help("refuse and delay nothing, only count what would be")
        .known_as(&["nginx limit_req_dry_run", "nginx limit_conn_dry_run"])
        .when("true while looking for the right numbers, with $limit_req_status in the log"),
    // [site.NAME]
    Key::new(Table::Site, "hosts", Kind::List(&Kind::Text), Default("*"))
        .help("names it answers for: \"example.org\", \"*.example.org\" (any name below), \"www.example.*\", \"~^www\\d+\\.\" (an expression), \"*\" (any); they win in this order, longer ones over shorter ones")
        .known_as(&["nginx server_name"]),
    Key::new(Table::Site, "default", Kind::Switch, Default("false"))
        .help("answers for hosts that no site of the listener names")
        .known_as(&["nginx default_server", "haproxy default_backend"]),
    Key::new(Table::Site, "listeners", Kind::List(&Kind::Text), Means("every listener"))
        .help("names of the listeners it is reached through"),
    Key::new(Table::Site, "access_log", Kind::Output, Means("`access` of [log]"))
        .help("where the access log of this site goes, in the format of [log]: stdout, a file, or off")
        .known_as(&["nginx access_log", "haproxy option dontlog-normal"])
        .when("to a file for a site whose log somebody else reads, off for health checks and the like"),
    Key::new(Table::Site, "access", Kind::List(&Kind::AddressRule), Default(""))
        .help(ACCESS_HELP)
        .known_as(&["nginx allow", "nginx deny", "haproxy http-request deny"])
        .when("to keep a site for known networks; end the list with \"deny all\""),
    Key::new(Table::Site, "auth", AUTH, Means("no login"))
        .help("the login it asks for")
        .known_as(&["nginx auth_basic", "haproxy http-request auth"]),
    Key::new(Table::Site, "satisfy", SATISFY, Means("all"))
        .help(SATISFY_HELP)
        .known_as(&["nginx satisfy"]),
    Key::new(Table::Site, "auth_request", AUTH_REQUEST, Means("nobody is asked"))
        .help(AUTH_REQUEST_HELP)
        .known_as(&["nginx auth_request"])
        .when("where another service knows who may come in; make the route of the path `internal`"),
    Key::new(Table::Site, "auth_request_headers", Kind::List(&Kind::Text), Means("none"))
        .help(AUTH_REQUEST_HEADERS_HELP)
        .known_as(&["nginx auth_request_set"]),
    Key::new(Table::Site, "route", Kind::Form("tables, each written as [[site.NAME.route]]"), Required)
        .help("its routes")
        .known_as(&["nginx location", "haproxy use_backend"]),
    Key::new(Table::Site, "https_only", Kind::Switch, Default("false"))
        .help("requests in clear text are sent to https with 308, but for those of /.well-known/acme-challenge/")
        .known_as(&["haproxy http-request redirect scheme"]),
    Key::new(Table::Site, "https_port", integer(1, 65_535), Default("443"))
        .help("port that https_only sends to"),
    Key::new(Table::Site, "body_max", size(0, 1 << 50), Means("that of [http]"))
        .help("bytes of a request body; beyond it 413; 0: no limit")
        .known_as(&["nginx client_max_body_size"]),
    // [[site.NAME.route]]
    Key::new(Table::Route, "path", Kind::UrlPath, Means("give `exact` instead"))
        .help("prefix of the path, byte by byte: \"/api\" also matches \"/apis\", \"/api/\" does not; the longest wins"),
    Key::new(Table::Route, "exact", Kind::UrlPath, Means("give `path` instead"))
        .help("the whole path; wins over every prefix"),
    Key::new(Table::Route, "regex", Kind::Text, Means("give `path` instead"))
        .help("regular expression somewhere in the path, over its decoded bytes: \"(?i)\\.php$\"; no look-around and no backreferences, so that it takes linear time")
        .known_as(&["nginx location ~"]),
    Key::new(Table::Route, "name", Kind::Text, Means("give `path` instead"))
        .help("name of a route without a path: `@name` in `try`, `fallback` and `error_pages` of the site leads there, with method, target and body as they are")
        .known_as(&["nginx location @"]),
    Key::new(Table::Route, "over_regex", Kind::Switch, Default("false"))
        .help("of a `path`: when it is the longest that matches, no `regex` is tried")
        .known_as(&["nginx location ^~"]),
    Key::new(Table::Route, "methods", Kind::List(&Kind::Text), Means("all"))
        .help("methods it takes; GET stands for HEAD too")
        .known_as(&["nginx limit_except"]),
    Key::new(Table::Route, "when", Kind::List(&Kind::Text), Means("always"))
        .help("conditions that must all hold, else the route is not there for the request: \"$name\" (neither empty nor 0), \"!$name\", \"$name = text\", \"!=\", \"$name ~ regex\", \"~*\" (any case), \"!~\", \"!~*\"; `$remote_user` is not known yet, `variables` are those of the site")
        .known_as(&["nginx if", "haproxy acl", "haproxy if"])
        .when("for routes that depend on a field, a cookie, an argument or a variable of [map.NAME]"),
    Key::new(Table::Route, "internal", Kind::Switch, Default("false"))
        .help("only reached by rewrites, error pages and X-Accel-Redirect; clients get 404")
        .known_as(&["nginx internal"]),
    Key::new(Table::Route, "body_max", size(0, 1 << 50), Means("that of the site"))
        .help("bytes of a request body; beyond it 413; 0: no limit")
        .known_as(&["nginx client_max_body_size"]),
    Key::new(Table::Route, "files", Kind::Form("a folder, or a table such as { root = \"/var/www/html\" }"), Means("another action"))
        .help("serve files of a folder")
        .known_as(&["nginx root", "nginx alias", "nginx try_files"]),
    Key::new(Table::Route, "proxy", Kind::Text, Means("another action"))
        .help("forward to the upstream of this name, or of the name that one variable of [map.NAME], [geo.NAME] or [split.NAME] is: \"$backend\"; all that it may be are looked at when the config is read")
        .known_as(&["nginx proxy_pass", "haproxy default_backend", "haproxy use_backend"])
        .when("a variable for canaries: a [split.NAME] by weight, a [map.NAME] by a cookie or a field"),
    Key::new(Table::Route, "mirror", Kind::Form("the name of an upstream, or a table such as { to = \"shadow\", share = \"10%\" }"), Means("no copies"))
        .help("send copies of its requests to a second upstream, and throw the answers away")
        .known_as(&["nginx mirror", "haproxy spoa-mirror"])
        .when("to try a new version with real traffic"),
    Key::new(Table::Route, "app", Kind::Text, Means("another action"))
        .help("call the in-process application of this name"),
    Key::new(Table::Route, "redirect", Kind::Form("a target, or a table such as { to = \"https://example.org$path\" }"), Means("another action"))
        .help("answer with a redirect")
        .known_as(&["haproxy http-request redirect", "nginx return"]),
    Key::new(Table::Route, "rewrite", Kind::Form("a target, or a table such as { to = \"/new/$1\" }"), Means("another action"))
        .help("route again with another target; beside files, proxy or app: what these see")
        .known_as(&["nginx rewrite", "haproxy http-request set-path"]),
    Key::new(Table::Route, "respond", Kind::Form("a table such as { status = 200, body = \"ok\" }"), Means("another action"))
        .help("answer with a fixed text")
        .known_as(&["nginx return", "haproxy http-request return"]),
    Key::new(Table::Route, "access", Kind::List(&Kind::AddressRule), Means("that of the site"))
        .help(ACCESS_HELP)
        .known_as(&["nginx allow", "nginx deny", "haproxy http-request deny"])
        .when("to open or close a part of a site; [] lifts what the site says"),
    Key::new(Table::Route, "auth", AUTH, Means("that of the site"))
        .help("the login it asks for, in place of the site's")
        .known_as(&["nginx auth_basic", "haproxy http-request auth"]),
    Key::new(Table::Route, "satisfy", SATISFY, Means("that of the site"))
        .help(SATISFY_HELP)
        .known_as(&["nginx satisfy"]),
    Key::new(Table::Route, "auth_request", AUTH_REQUEST, Means("that of the site"))
        .help(AUTH_REQUEST_HELP)
        .known_as(&["nginx auth_request"])
        .when("where another service knows who may come in; make the route of the path `internal`"),
    Key::new(Table::Route, "auth_request_headers", Kind::List(&Kind::Text), Means("those of the site"))
        .help(AUTH_REQUEST_HEADERS_HELP)
        .known_as(&["nginx auth_request_set"]),
    Key::new(Table::Route, "close", Kind::Switch, Default("false"))
        .help("close the connection without an answer")
        .known_as(&["nginx return 444", "haproxy silent-drop"]),
    Key::new(Table::Route, "tarpit", Kind::Form("a table such as { delay = \"10s\", status = 429 }"), Means("another action"))
        .help("hold the answer back, then answer with an error")
        .known_as(&["haproxy http-request tarpit"]),
    // [http], [site.NAME] and [[site.NAME.route]]
    Key::new(Table::Options, "headers", Kind::Form("a table such as { set = { X-Frame-Options = \"DENY\" }, remove = [\"X-Powered-By\"] }"), Means("fields stay as they are"))
        .help("changes to the fields of answers; merged with those of the levels above, field by field")
        .known_as(&["nginx add_header", "nginx proxy_hide_header", "haproxy http-response set-header"]),
    Key::new(Table::Options, "request_headers", Kind::Form("a table such as { set = { X-Client = \"$remote_addr\" } }"), Means("fields stay as they are"))
        .help("changes to the fields of requests to upstreams and applications; merged as `headers` are")
        .known_as(&["nginx proxy_set_header", "haproxy http-request set-header"]),
    Key::new(Table::Options, "cache_control", Kind::Field, Means("that of the level above, else what the answer or `expires` says"))
        .help("value of Cache-Control of answers; empty: the answer's own")
        .known_as(&["nginx add_header Cache-Control"]),
    Key::new(Table::Options, "expires", Kind::Form("a duration, \"off\", \"no-cache\", or a table of these such as { \"text/css\" = \"1h\", \"image/*\" = \"30d\", \"*\" = \"off\" }"), Means("that of the level above, else off"))
        .help("how long answers may be kept, by media type: writes Cache-Control: max-age and Expires")
        .known_as(&["nginx expires"]),
    Key::new(Table::Options, "hsts", Kind::DurationOrOff { min: Duration::ZERO, max: Duration::from_secs(3650 * 86_400) }, Means("that of the level above, else off"))
        .help("how long browsers come by https alone (Strict-Transport-Security); sent over TLS alone; \"0s\" makes them forget")
        .known_as(&["nginx add_header Strict-Transport-Security"])
        .when("to \"730d\" once everything works over https; begin with a day: browsers do not forget before"),
    Key::new(Table::Options, "hsts_subdomains", Kind::Switch, Means("that of the level above, else false"))
        .help("the same for all names below"),
    Key::new(Table::Options, "hsts_preload", Kind::Switch, Means("that of the level above, else false"))
        .help("agree to be put on the lists that browsers come with"),
    Key::new(Table::Options, "error_pages", Kind::Form("a table such as { 404 = \"/404.html\", 5xx = \"/sorry.html\" }"), Means("those of the level above, else a short page of the server's own"))
        .help("pages shown instead of errors; the client gets the status of the error")
        .known_as(&["nginx error_page", "haproxy errorfile"]),
    Key::new(Table::Options, "intercept_errors", Kind::Switch, Means("that of the level above, else false"))
        .help("show error pages for errors of upstreams and applications too")
        .known_as(&["nginx proxy_intercept_errors", "nginx fastcgi_intercept_errors"]),
    Key::new(Table::Options, "variables", Kind::Form("a table such as { theme = \"dark\", who = \"$remote_user\" }"), Means("those of the levels above"))
        .help("variables of one's own, texts under a name that may hold variables; merged with those of the levels above, name by name. They may be used where every request has them: in this level and those below, in [log] and [map.NAME] when [http] has them")
        .known_as(&["nginx set", "haproxy http-request set-var"]),
    Key::new(Table::Options, "log_access", Kind::Form("true, false, or conditions such as \"$status != 200\""), Means("that of the level above, else true"))
        .help("write requests to the access log, all or those for which the conditions hold (as in `when`, and variables of the answer too); where it goes stands in [log]")
        .known_as(&["nginx access_log", "haproxy http-request set-log-level"]),
    Key::new(Table::Options, "x_accel", Kind::Switch, Means("that of the level above, else true"))
        .help("obey X-Accel-Redirect of upstreams and applications, which reaches `internal` routes too")
        .known_as(&["nginx proxy_ignore_headers"]),
    Key::new(Table::Options, "limits", Kind::List(&Kind::Text), Means("those of the level above, else none"))
        .help("names of the [limit.NAME] that requests must keep; [] lifts those of the levels above")
        .known_as(&["nginx limit_req", "nginx limit_conn"]),
    Key::new(Table::Options, "location_rewrite", Kind::Form("true, false, or a table such as { \"http://10.0.0.7:9000/app/\" = \"/\" }"), Means("that of the level above, else false"))
        .help("put URLs in Location and Refresh of upstreams into the client's words: `true` takes the upstream's own address away (and leads back what `rewrite = \"/other/$1\"` of a `path` has changed); a table also replaces the beginnings it names, whose values may hold variables")
        .known_as(&["nginx proxy_redirect"])
        .when("where servers name themselves in their redirects; those that heed Host and X-Forwarded-Proto need none of it. nginx does it by default"),
    Key::new(Table::Options, "cookie_rewrite", Kind::Form("a table such as { paths = { \"/app/\" = \"/\" }, flags = { \"*\" = [\"secure\"] } }, or false"), Means("that of the level above, else false"))
        .help("put domains, paths and flags of cookies of upstreams into the client's words")
        .known_as(&["nginx proxy_cookie_domain", "nginx proxy_cookie_path", "nginx proxy_cookie_flags", "haproxy http-response replace-header"])
        .when("where a server does not know under which name and path clients reach it, or that they come by https"),
    Key::new(Table::Options, "compress", COMPRESS, Means("that of the level above, else false"))
        .help("compress answers for clients that take it, files and proxied ones alike")
        .known_as(&["nginx gzip", "nginx gzip_vary", "nginx gzip_proxied", "nginx brotli", "haproxy compression", "caddy encode"])
        .when("true for most sites, false where answers hold secrets beside what visitors sent. Off by default, as with nginx: it takes processor time, and where an answer holds both a secret and what a visitor sent, its compressed length can give the secret away (BREACH)"),
    Key::new(Table::Options, "substitute", Kind::Form("a table such as { texts = { \"http://internal\" = \"https://$host\" } }, or false"), Means("that of the level above, else false"))
        .help("replace texts in the bodies of answers")
        .known_as(&["nginx sub_filter", "nginx subs_filter"])
        .when("where a server writes addresses that no client reaches, or to put something before `</head>`; it costs time for every byte, so name it at the routes that need it"),
    Key::new(Table::Options, "limit_rate", size(0, TIB), Means("that of the level above, else 0"))
        .help("bytes a second of the content of one answer; 0: any rate. A server or application may say another in X-Accel-Limit-Rate, unless x_accel is false")
        .known_as(&["nginx limit_rate", "haproxy bwlim-out"])
        .when("so that downloads leave room for others: each answer has the rate for itself, so limit their number too. nginx lets the first second's worth go at once, this a tenth of it: add limit_rate_after for more"),
    Key::new(Table::Options, "limit_rate_after", size(0, TIB), Means("that of the level above, else 0"))
        .help("bytes of an answer that leave at any rate before limit_rate counts")
        .known_as(&["nginx limit_rate_after"])
        .when("for media: enough to begin with comes fast, the rest as fast as it plays"),
    // headers, request_headers
    Key::new(Table::Headers, "set", Kind::Form("field names with values, { X-Name = \"value\" }"), Means("nothing is set"))
        .help("fields put in place of those of the same name; a value that turns out empty takes the field away"),
    Key::new(Table::Headers, "add", Kind::Form("field names with a value or a list of values, { Link = [\"<a>\", \"<b>\"] }"), Means("nothing is added"))
        .help("fields written beside those of the same name; an empty value adds none"),
    Key::new(Table::Headers, "remove", Kind::List(&Kind::Text), Default(""))
        .help("names of fields taken away"),
    Key::new(Table::Headers, "always", Kind::Switch, Default("true"))
        .help("for answers of every status; false: only for 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308, as nginx's add_header does without its `always`"),
    // error_pages
    Key::new(Table::ErrorPage, "path", Kind::UrlPathOrName, Required)
        .help("path of the page, asked for with GET, which may hold variables such as $status; or the `@name` of a route, which gets the request as it is"),
    Key::new(Table::ErrorPage, "status", Kind::Form("a number from 200 to 599, \"error\", or \"page\""), Means("\"error\""))
        .help("status the client gets: that of the error, that with which the page is answered (nginx's `=`), or a fixed one"),
    // files
    Key::new(Table::Files, "root", Kind::Path, Required)
        .help("the folder, absolute or relative to the working directory; nothing outside is ever opened")
        .known_as(&["nginx root", "nginx alias"]),
    Key::new(Table::Files, "strip_prefix", Kind::UrlPath, Means("nothing is cut off"))
        .help("leading part of the path that is cut off before the file is looked for: without it a route works like nginx's `root`, with the route's own path like `alias`"),
    Key::new(Table::Files, "index", Kind::List(&Kind::Text), Default("index.html"))
        .help("names tried for a path that ends in `/`")
        .known_as(&["nginx index"]),
    Key::new(Table::Files, "try", Kind::List(&Kind::Text), Means("the path itself"))
        .help("what is looked for, in order: \"$path\", \"$path.html\", \"$path/\" (its index), \"/index.html\"; the last may be a status such as \"=404\" or the \"@name\" of a route")
        .known_as(&["nginx try_files"]),
    Key::new(Table::Files, "fallback", Kind::UrlPathOrName, Means("404"))
        .help("path below the root that is served with 200 when there is no such file (single-page applications); or the `@name` of a route, which then gets the request as it is")
        .known_as(&["nginx try_files"]),
    Key::new(Table::Files, "listing", Kind::Word(&["off", "html", "json", "auto"]), Default("off"))
        .help("answer for a folder without index: 403, a page, a JSON array, or what the client prefers of the two")
        .known_as(&["nginx autoindex", "nginx autoindex_format"])
        .when("for download areas; whoever can reach the route sees every name in the folder that does not begin with a dot"),
    Key::new(Table::Files, "precompressed", Kind::List(&Kind::Word(&["br", "zstd", "gzip"])), Default(""))
        .help("serve `app.js.br`, `app.js.zst` or `app.js.gz` beside `app.js` to clients that accept it; one older than the original is ignored")
        .known_as(&["nginx gzip_static", "nginx brotli_static", "nginx zstd_static"])
        .when("when the build writes such files: better ratios than compressing on the way, at no cost per request"),
    Key::new(Table::Files, "ranges_max", integer(0, 1024), Default("64"))
        .help("byte ranges honoured in one request; one with more gets the whole file; 0: ranges are off")
        .known_as(&["nginx max_ranges"])
        .when("1 to allow resumed downloads but no multipart answers. nginx has no limit"),
    Key::new(Table::Files, "dotfiles", Kind::Switch, Default("false"))
        .help("serve names that begin with a dot; `.well-known` always is")
        .when("seldom: such files hold history, configuration, passwords. nginx serves them"),
    Key::new(Table::Files, "symlinks", Kind::Word(&["beneath", "owner", "never"]), Default("beneath"))
        .help("symbolic links followed: those that stay below the root, those of them whose owner owns the target, or none")
        .known_as(&["nginx disable_symlinks"])
        .when("`owner` or `never` where users who do not trust each other write below one root. nginx follows every link"),
    Key::new(Table::Files, "types", Kind::Form("a table of extensions such as { wasm = \"application/wasm\" }"), Means("the built-in table"))
        .help("media types by extension; they win over the built-in table")
        .known_as(&["nginx types"]),
    Key::new(Table::Files, "default_type", Kind::Field, Default("application/octet-stream"))
        .help("media type of files without a known extension")
        .known_as(&["nginx default_type"]),
    Key::new(Table::Files, "charset", Kind::Field, Default("utf-8"))
        .help("charset parameter of text types; empty: none")
        .known_as(&["nginx charset"]),
    Key::new(Table::Files, "charset_types", Kind::List(&Kind::Text), Default("text/*,*+xml,*+json,application/json,application/xml,application/javascript,application/x-javascript,application/toml"))
        .help("types that get the charset parameter: a type, `type/*` or `*+suffix`")
        .known_as(&["nginx charset_types"]),
    // redirect
    Key::new(Table::Redirect, "to", Kind::Field, Required)
        .help("value of the Location field, absolute or relative; may hold variables, such as $path and $query"),
    Key::new(Table::Redirect, "status", integer(301, 308), Default("308"))
        .help("301, 302, 303, 307 or 308; 307 and 308 keep the method"),
    // rewrite
    Key::new(Table::Rewrite, "to", Kind::Field, Required)
        .help("the new path, and perhaps a query; may hold variables and captures"),
    // respond
    Key::new(Table::Respond, "status", integer(200, 599), Default("200"))
        .help("status code"),
    Key::new(Table::Respond, "content_type", Kind::Field, Default("text/plain; charset=utf-8"))
        .help("value of the Content-Type field")
        .known_as(&["nginx default_type"]),
    Key::new(Table::Respond, "body", Kind::Text, Means("an empty body"))
        .help("the body; may hold variables, which are escaped for HTML, XML and JSON; `$$` is a dollar"),
    // tarpit
    Key::new(Table::Tarpit, "delay", WAIT, Default("10s"))
        .help("how long the answer is held back while the client stays; a drain does not wait for it")
        .known_as(&["haproxy timeout tarpit"]),
    Key::new(Table::Tarpit, "status", integer(400, 599), Default("429"))
        .help("status of the answer")
        .known_as(&["haproxy deny_status"]),
    // mirror
    Key::new(Table::Mirror, "to", Kind::Text, Required)
        .help("name of the upstream that gets the copies"),
    Key::new(Table::Mirror, "share", Kind::Text, Default("100%"))
        .help("share of the requests that is copied, chosen by chance: \"10%\", \"0.5%\"")
        .known_as(&["nginx split_clients"])
        .when("down where the second upstream is smaller"),
    Key::new(Table::Mirror, "requests_max", integer(1, 65_536), Default("64"))
        .help("copies under way at once, in the whole process; more are not made")
        .when("up for a second upstream that is slow but large"),
    // compress
    Key::new(Table::Compress, "codings", Kind::List(&Kind::Word(&["br", "zstd", "gzip"])), Default("br,zstd,gzip"))
        .help("what is offered, in order of preference; a client that weighs them decides first")
        .known_as(&["haproxy compression algo"])
        .when("zstd first to spend a quarter of the processor time on answers a few percent larger"),
    Key::new(Table::Compress, "types", Kind::List(&Kind::Text), Default(DEFAULT_TYPES))
        .help("media types that are compressed: \"text/html\", \"text/*\" (all of a kind)")
        .known_as(&["nginx gzip_types", "nginx brotli_types", "haproxy compression type"])
        .when("to add types of your own. nginx compresses only text/html by default. Each open text/event-stream would keep an encoder of up to 5 MiB"),
    Key::new(Table::Compress, "min", size(0, GIB), Default("1KiB"))
        .help("bytes of the smallest body that is compressed; one of unknown length always is")
        .known_as(&["nginx gzip_min_length", "nginx brotli_min_length", "haproxy compression minsize-res"])
        .when("seldom: a shorter body leaves in one packet either way, so that nothing is won. nginx's 20 bytes makes many of them longer"),
    Key::new(Table::Compress, "br_level", integer(1, 6), Default("4"))
        .help("how hard br tries")
        .known_as(&["nginx brotli_comp_level"])
        .when("up where the network is slower than the processor. Above 6 one piece would hold up a worker and take 8 MiB or more: compress such files beforehand"),
    Key::new(Table::Compress, "zstd_level", integer(1, 9), Default("3"))
        .help("how hard zstd tries")
        .known_as(&["nginx zstd_comp_level"])
        .when("up where the network is slower than the processor"),
    Key::new(Table::Compress, "gzip_level", integer(1, 9), Default("5"))
        .help("how hard gzip tries")
        .known_as(&["nginx gzip_comp_level", "haproxy tune.comp.maxlevel"])
        .when("down to 1 to save processor time. nginx's default is 1"),
    Key::new(Table::Compress, "cache_file_max", size(0, 64 * MIB), Default("1MiB"))
        .help("largest file whose compressed form is kept, within process.file_cache; larger ones are compressed for each answer")
        .when("up for large files of text that are asked for often"),
    // substitute
    Key::new(Table::Substitute, "texts", Kind::Form("texts with what is put in their place, { \"http://internal\" = \"https://$host\" }"), Required)
        .help("up to 64 texts of up to 1 KiB; what is put in their place may hold variables, whose values do not become markup in HTML and XML, or code in JSON and JavaScript. `$$` is a dollar")
        .known_as(&["nginx sub_filter"]),
    Key::new(Table::Substitute, "types", Kind::List(&Kind::Text), Default("text/html"))
        .help("media types of the answers: \"text/html\", \"text/*\" (all of a kind), \"*\" (all, and those that tell none)")
        .known_as(&["nginx sub_filter_types"])
        .when("to add others; text/html must be named again then, which nginx adds by itself"),
    Key::new(Table::Substitute, "once", Kind::Switch, Default("true"))
        .help("replace each text only where it is found first")
        .known_as(&["nginx sub_filter_once"])
        .when("false for addresses, which stand in a page again and again"),
    Key::new(Table::Substitute, "keep_validators", Kind::Switch, Default("false"))
        .help("leave Last-Modified as it is and make ETag a weak one, so that clients ask whether the answer has changed; else both are taken away, and files answer 200 to such questions")
        .known_as(&["nginx sub_filter_last_modified"])
        .when("true where the same is put in for everyone, and seldom changes: a client keeps what it has as long as the file or the server's answer stays what it was"),
    // cookie_rewrite
    Key::new(Table::Cookies, "domains", Kind::Form("domains with what is put in their place, { \"app.internal\" = \"$host\" }"), Means("they stay"))
        .help("whole domains, in either case, with or without a dot in front; \"\" takes the attribute away, so that the cookie belongs to the host alone. Values may hold variables")
        .known_as(&["nginx proxy_cookie_domain"]),
    Key::new(Table::Cookies, "paths", Kind::Form("beginnings of paths with what is put in their place, { \"/app/\" = \"/\" }"), Means("they stay"))
        .help("beginnings of paths; values may hold variables")
        .known_as(&["nginx proxy_cookie_path"]),
    Key::new(Table::Cookies, "flags", Kind::Form("names of cookies with their flags, { sid = [\"secure\", \"httponly\", \"samesite=lax\"] }"), Means("they stay"))
        .help("by name of the cookie, in either case, or \"*\" for any: `secure`, `httponly`, `samesite=strict`, `samesite=lax`, `samesite=none`, and `nosecure`, `nohttponly`, `nosamesite` to take them away")
        .known_as(&["nginx proxy_cookie_flags"])
        .when("to [\"secure\", \"httponly\", \"samesite=lax\"] for sessions of applications that know nothing of https"),
    // auth
    Key::new(Table::Auth, "realm", Kind::Field, Required)
        .help("what the login is for; browsers show it")
        .known_as(&["nginx auth_basic"]),
    Key::new(Table::Auth, "users_file", Kind::Path, Required)
        .help("users and their passwords as `htpasswd -B` writes them: bcrypt, SHA-crypt ($5$, $6$), apr1 or {SHA}")
        .known_as(&["nginx auth_basic_user_file"]),
    // [upstream.NAME]
    Key::new(Table::Upstream, "servers", Kind::Form("a list of addresses or of tables such as { address = \"127.0.0.1:9000\", weight = 2 }"), Required)
        .help("its servers")
        .known_as(&["nginx server", "haproxy server"]),
    Key::new(Table::Upstream, "balance", Kind::Word(&["random-two", "round-robin", "least-conn", "least-time", "first"]), Default("random-two"))
        .help("how a server is chosen, by weight: the less busy of two drawn by chance, in turn, the fewest requests under way, the least response time times requests, or the first that has room (see requests_max of servers)")
        .flag_of(FlagOf::Proxy, "balance")
        .known_as(&["nginx least_conn", "nginx random", "nginx random two", "nginx least_time", "haproxy balance"])
        .when("`round-robin` for an even spread of equal requests, `least-conn` for few servers and requests that take very different times, `least-time` for servers of different speed, `first` to keep later servers free; `random-two` stays good with many data workers and many servers"),
    Key::new(Table::Upstream, "hash", Kind::Form("a text with variables such as \"$remote_addr\" or \"$request_uri\", or a table such as { key = \"$arg_id\", load_max = 125 }"), Means("nothing keeps requests together"))
        .help("requests with the same text go to the same server, in every worker and process, whatever else comes and goes; those for which it is empty go by `balance`")
        .known_as(&["nginx hash", "nginx ip_hash", "haproxy balance source", "haproxy balance uri", "haproxy balance hdr", "haproxy balance url_param", "haproxy balance hash", "haproxy hash-type"])
        .when("for caches (\"$request_uri\"), for state that a server keeps of clients (\"$remote_addr\", \"$cookie_session\")"),
    Key::new(Table::Upstream, "sticky", Kind::Form("a table such as { cookie = \"srv\", secret_file = \"/etc/one-server/sticky.secret\" }"), Means("no cookie"))
        .help("a cookie that leads clients back to the server they had")
        .known_as(&["nginx sticky", "haproxy cookie"])
        .when("for applications that keep their visitors' state in memory"),
    Key::new(Table::Upstream, "slow_start", duration(Duration::ZERO, DAY), Default("0s"))
        .help("time in which the traffic of a server that came up again, and its `requests_max`, grow from almost nothing to all; 0s: at once")
        .known_as(&["nginx slow_start", "haproxy slowstart"])
        .when("for servers that are slow while their caches are empty"),
    Key::new(Table::Upstream, "tier_min", Kind::Form("a number of servers such as 2, or a share such as \"50%\""), Means("1"))
        .help("usable servers that a tier must have, else the next one is used; when none has enough, the first that has any")
        .when("up where a few servers of the first tier cannot bear the traffic alone"),
    Key::new(Table::Upstream, "fail_back", Kind::Form("\"at-once\", \"manual\", or a duration such as \"30s\""), Means("at-once"))
        .help("when an earlier tier is used again: as soon as it has enough servers, after it has had them for some time, or only when the tier in use has too few itself")
        .when("a duration against servers that come and go, `manual` for databases and the like that somebody must look at first"),
    Key::new(Table::Upstream, "requests_max", integer(1, 1_000_000), Means("any number"))
        .help("requests under way at all its servers together, in the whole process; more wait in a queue")
        .when("to what a database or another service behind the servers bears"),
    Key::new(Table::Upstream, "queue_max", integer(0, 65_536), Default("1024"))
        .help("requests that may wait for a place, in the whole process; more are answered 503 at once")
        .known_as(&["nginx queue", "haproxy maxqueue"])
        .when("down to fail early under overload, 0 so that nothing waits"),
    Key::new(Table::Upstream, "queue_timeout", WAIT, Default("5s"))
        .help("how long a request waits for a place before it is answered 503 with Retry-After")
        .known_as(&["haproxy timeout queue"])
        .when("down where clients give up sooner"),
    Key::new(Table::Upstream, "health", Kind::Form("true, false, or a table such as { path = \"/healthz\", interval = \"2s\" }"), Means("a TCP connection every 2s"))
        .help("the active check of each server")
        .known_as(&["haproxy option httpchk", "haproxy server check"])
        .when("give a path, so that a server which accepts connections but cannot answer is taken out"),
    Key::new(Table::Upstream, "tls", Kind::Form("true, false, or a table such as { server_name = \"api.internal\" }"), Means("clear text"))
        .help("TLS towards its servers; checks use it too")
        .known_as(&["nginx proxy_pass https", "haproxy server ssl"]),
    Key::new(Table::Upstream, "outliers", Kind::Form("true, false, or a table such as { consecutive = 5, ejection_time = \"30s\" }"), Means("false"))
        .help("ejects servers for what live traffic shows")
        .known_as(&["nginx max_fails", "haproxy observe", "envoy outlier_detection"])
        .when("for servers that pass their checks and fail requests"),
    Key::new(Table::Upstream, "panic", integer(0, 100), Default("0"))
        .help("percent of servers: while fewer are up, and no backup is, all servers get requests, whatever checks and outliers say; 0: never")
        .known_as(&["envoy healthy_panic_threshold"])
        .when("to about 50 where a wrong check, or the load of those that failed, would take down the rest one by one"),
    Key::new(Table::Upstream, "connect_timeout", WAIT, Default("5s"))
        .help("time for connecting to a server")
        .flag_of(FlagOf::Proxy, "connect-timeout")
        .known_as(&["nginx proxy_connect_timeout", "haproxy timeout connect"])
        .when("seldom. nginx waits 60s, in which no other server is tried"),
    Key::new(Table::Upstream, "response_timeout", WAIT, Default("60s"))
        .help("from the last byte of a request to the complete head of its answer; then 504")
        .flag_of(FlagOf::Proxy, "response-timeout")
        .known_as(&["nginx proxy_read_timeout", "haproxy timeout server"])
        .when("up for slow reports, down to fail early"),
    Key::new(Table::Upstream, "idle_timeout", WAIT, Default("60s"))
        .help("longest silence while a body is relayed")
        .flag_of(FlagOf::Proxy, "idle-timeout")
        .known_as(&["nginx proxy_send_timeout"])
        .when("up for streams with long pauses, such as server-sent events"),
    Key::new(Table::Upstream, "upgrade", Kind::List(&Kind::Text), Default("websocket"))
        .help("protocols that a client may leave HTTP for on its connection (`Upgrade`); an empty list: none. HTTP/2 in clear (h2c) never is one")
        .known_as(&["nginx proxy_set_header Upgrade"])
        .when("`[]` where the servers have no WebSockets"),
    Key::new(Table::Upstream, "tunnel_timeout", WAIT, Default("1h"))
        .help("longest silence in both directions of a connection in TCP mode, or of a WebSocket")
        .flag_of(FlagOf::Proxy, "tunnel-timeout")
        .known_as(&["nginx stream proxy_timeout", "haproxy timeout tunnel"])
        .when("down when clients vanish without a word; applications that ping each other need little"),
    Key::new(Table::Upstream, "half_closed_timeout", WAIT, Default("30s"))
        .help("the same once one side has ended its direction, if it is shorter")
        .flag_of(FlagOf::Proxy, "half-closed-timeout")
        .known_as(&["haproxy timeout client-fin", "haproxy timeout server-fin"])
        .when("up for clients that end their direction and wait for a long answer"),
    Key::new(Table::Upstream, "proxy_protocol", Kind::Word(&["off", "v1", "v2"]), Default("off"))
        .help("header of the PROXY protocol in front of every connection to its servers, which tells the client's address; each request over HTTP then gets a connection of its own")
        .known_as(&["nginx stream proxy_protocol", "haproxy send-proxy", "haproxy send-proxy-v2"])
        .when("for servers that expect it, such as nginx with `listen … proxy_protocol` or HAProxy with `accept-proxy`"),
    Key::new(Table::Upstream, "tries", integer(1, 100), Default("3"))
        .help("connections tried for one request, the first included; only requests that may be repeated are. In TCP mode: servers tried until one can be connected to")
        .flag_of(FlagOf::Proxy, "tries")
        .known_as(&["nginx proxy_next_upstream_tries", "haproxy retries"])
        .when("1 to switch retries off"),
    Key::new(Table::Upstream, "retry_on", Kind::List(&Kind::Text), Default("error"))
        .help("failures behind which a request is sent to another server: `error` (the server could not be reached, or closed before it answered), `timeout` (no answer in `response_timeout`), statuses such as `503`, and `non_idempotent`: also requests that could have had an effect already")
        .known_as(&["nginx proxy_next_upstream", "haproxy retry-on"])
        .when("add `503` and `429` where servers say so when they are busy. `non_idempotent` only where a request that runs twice does no harm"),
    Key::new(Table::Upstream, "retry_budget", Kind::Text, Default("20%"))
        .help("share of the requests of the last 10s that may be sent again, beside 100 in any case; for each data worker. `off`: no limit")
        .known_as(&["envoy retry_budget"])
        .when("seldom: without it servers that fail under load get more of it"),
    Key::new(Table::Upstream, "retry_time_max", WAIT, Means("connect_timeout and response_timeout together"))
        .help("no further try begins later than this behind the beginning of a request")
        .known_as(&["nginx proxy_next_upstream_timeout"]),
    Key::new(Table::Upstream, "retry_body_max", size(0, MIB), Default("16KiB"))
        .help("a body up to this size is kept in memory until its answer begins, so that it can be sent again; longer ones are streamed and never repeated")
        .known_as(&["haproxy tune.bufsize"])
        .when("up when uploads must survive the death of a server; it costs as much memory for each request under way"),
    Key::new(Table::Upstream, "keep_idle", integer(0, 65_536), Default("32"))
        .help("idle connections kept per data worker and server; what a worker has too many others may use. 0: none")
        .flag_of(FlagOf::Proxy, "keep-idle")
        .known_as(&["nginx keepalive", "haproxy pool-max-conn"])
        .when("up when one worker has more than this many requests under way to one server"),
    Key::new(Table::Upstream, "keep_idle_timeout", WAIT, Default("4s"))
        .help("how long an idle connection is kept; must stay below the server's own time")
        .flag_of(FlagOf::Proxy, "keep-idle-timeout")
        .known_as(&["nginx upstream keepalive_timeout", "haproxy pool-purge-delay"])
        .when("up when traffic is thin and the servers keep connections longer. nginx's 60s loses requests to Node.js, which closes after 5s"),
    // server
    Key::new(Table::Server, "address", Kind::Address, Required)
        .help("where it listens: IP:PORT or unix:/path; names are not resolved"),
    Key::new(Table::Server, "weight", integer(0, 256), Default("1"))
        .help("its share of the traffic in relation to the others; 0: only requests that belong to it already (`sticky`)")
        .known_as(&["nginx weight", "haproxy weight"]),
    Key::new(Table::Server, "backup", Kind::Switch, Default("false"))
        .help("it is of a tier behind all others, which is used only while no other server is up")
        .known_as(&["nginx backup", "haproxy backup"]),
    Key::new(Table::Server, "tier", integer(1, 64), Default("1"))
        .help("servers of the lowest tier that has enough of them up are used, the others wait; see tier_min and fail_back"),
    Key::new(Table::Server, "requests_max", integer(1, 1_000_000), Means("any number"))
        .help("requests it gets at the same time, from the whole process; more wait until one ends (see queue_max and queue_timeout)")
        .known_as(&["nginx max_conns", "haproxy maxconn"])
        .when("to what the server works on at once (workers, threads): what it cannot begin waits here, where any server may take it"),
    // hash
    Key::new(Table::Hash, "key", Kind::Text, Required)
        .help("the text, with variables: $remote_addr, $path, $request_uri (with its query), $http_NAME, $cookie_NAME, $arg_NAME, or one of [map.NAME]")
        .known_as(&["nginx hash", "haproxy balance hash"]),
    Key::new(Table::Hash, "load_max", integer(101, 1000), Means("any load"))
        .help("requests of a server in percent of what an even spread by weight would give it; beyond it, keys go to the next server in their order")
        .known_as(&["haproxy hash-balance-factor"])
        .when("125 for caches, so that one hot key does not drown a server; not where state must stay together"),
    // sticky
    Key::new(Table::Sticky, "cookie", Kind::Text, Required)
        .help("name of the cookie; upstreams of one host need different ones")
        .known_as(&["nginx sticky cookie", "haproxy cookie"]),
    Key::new(Table::Sticky, "secret", Kind::Text, Means("give `secret_file` instead"))
        .help("what the values are made with, 16 bytes at least, the same on all nodes; keep the config file private then. A new one leads all clients to new servers")
        .known_as(&["haproxy dynamic-cookie-key"]),
    Key::new(Table::Sticky, "secret_file", Kind::Path, Means("give `secret` instead"))
        .help("file whose first line is the secret"),
    Key::new(Table::Sticky, "secure", Kind::Word(&["auto", "always", "never"]), Default("auto"))
        .help("browsers send the cookie over https alone: when it was given so, always, or never"),
    Key::new(Table::Sticky, "http_only", Kind::Switch, Default("true"))
        .help("scripts of the page do not see the cookie"),
    Key::new(Table::Sticky, "same_site", Kind::Word(&["lax", "strict", "none", "off"]), Default("lax"))
        .help("with which requests from other sites browsers send it; off: the cookie says nothing")
        .when("`none` for pages in frames of other sites, over https"),
    Key::new(Table::Sticky, "domain", Kind::Text, Means("the host of the request"))
        .help("hosts that the cookie is for: this one and those below"),
    Key::new(Table::Sticky, "path", Kind::UrlPath, Default("/"))
        .help("beginning of the paths that the cookie is for"),
    Key::new(Table::Sticky, "max_age", duration(Duration::from_secs(1), Duration::from_secs(3650 * 86_400)), Means("until the browser is closed"))
        .help("how long the cookie is kept")
        .known_as(&["nginx expires", "haproxy maxlife"]),
    // tls of an upstream
    Key::new(Table::UpstreamTls, "server_name", Kind::Text, Means("the server's address"))
        .help("name that the certificate of every server must have, which is also asked for (SNI)")
        .known_as(&["nginx proxy_ssl_name", "nginx proxy_ssl_server_name", "haproxy sni", "haproxy verifyhost"])
        .when("where the servers' certificates are for a name, as they usually are"),
    Key::new(Table::UpstreamTls, "verify", Kind::Switch, Default("true"))
        .help("whether the certificate must come from an authority that is trusted and have the right name")
        .known_as(&["nginx proxy_ssl_verify", "haproxy verify"])
        .when("`false` only for tests: anyone on the way could be the server. nginx's default is off"),
    Key::new(Table::UpstreamTls, "ca", Kind::Path, Means("those of the system"))
        .help("authorities that may issue the certificates, a PEM file")
        .known_as(&["nginx proxy_ssl_trusted_certificate", "haproxy ca-file"]),
    Key::new(Table::UpstreamTls, "chain", Kind::Path, Means("none"))
        .help("certificate that is shown to servers that ask for one, a PEM file; with `key`")
        .known_as(&["nginx proxy_ssl_certificate", "haproxy crt"]),
    Key::new(Table::UpstreamTls, "key", Kind::Path, Means("none"))
        .help("private key of `chain`")
        .known_as(&["nginx proxy_ssl_certificate_key"]),
    Key::new(Table::Server, "check_address", Kind::Address, Means("`address`"))
        .help("where it is checked instead")
        .known_as(&["haproxy addr"]),
    // health
    Key::new(Table::Health, "kind", Kind::Word(&["http", "tcp", "tls", "mysql"]), Means("http with a `path`, else tcp"))
        .help("what a check is: a request, a connection (with `send` and `expect` a short exchange of texts), a TLS handshake, or a MySQL handshake")
        .known_as(&["haproxy option tcp-check", "haproxy option mysql-check"]),
    Key::new(Table::Health, "path", Kind::UrlPath, Means("connecting is enough, or / with kind = \"http\""))
        .help("ask for this path; `status` says what is healthy")
        .flag_of(FlagOf::Proxy, "health-path")
        .known_as(&["haproxy option httpchk"])
        .when("always, when the servers have such a path"),
    Key::new(Table::Health, "method", Kind::Word(&["GET", "HEAD", "OPTIONS"]), Default("GET"))
        .help("method of the request"),
    Key::new(Table::Health, "host", Kind::Field, Means("the server's address"))
        .help("Host field of the check; with TLS also its `server_name`"),
    Key::new(Table::Health, "headers", Kind::Form("field names with their values, { X-Name = \"value\" }"), Means("none"))
        .help("further fields of the request")
        .known_as(&["haproxy http-check send"]),
    Key::new(Table::Health, "status", Kind::List(&Kind::Text), Default("2xx,3xx"))
        .help("statuses of a healthy answer: \"200\", \"2xx\", \"200-299\"")
        .known_as(&["haproxy http-check expect"]),
    Key::new(Table::Health, "expect_header", Kind::Text, Means("any fields"))
        .help("a field that the answer must have: \"Name\", \"Name: value\" or \"Name: ~expression\""),
    Key::new(Table::Health, "expect_body", Kind::Text, Means("any body"))
        .help("a text that its body must hold, or \"~expression\"; it is looked for in the first `expect_max` bytes"),
    Key::new(Table::Health, "send", Kind::Text, Means("nothing"))
        .help("with kind tcp or tls: a text to send first, such as \"PING\\r\\n\"")
        .known_as(&["haproxy tcp-check send"]),
    Key::new(Table::Health, "expect", Kind::Text, Means("connecting is enough"))
        .help("with kind tcp or tls: a text that has to come, such as \"+PONG\", or \"~expression\"; it is looked for in the first `expect_max` bytes")
        .known_as(&["haproxy tcp-check expect"]),
    Key::new(Table::Health, "expect_max", size(1, MIB), Default("16KiB"))
        .help("bytes that are searched for `expect` or `expect_body`"),
    Key::new(Table::Health, "tls", Kind::Switch, Means("as requests go: see `tls` of the upstream"))
        .help("with kind http: over TLS")
        .known_as(&["haproxy check-ssl"]),
    Key::new(Table::Health, "ca", Kind::Path, Means("certificates are not verified"))
        .help("authorities that certificates of servers must come from, a PEM file, read at the start")
        .known_as(&["haproxy ca-file"])
        .when("where somebody else could answer at the server's address"),
    Key::new(Table::Health, "server_name", Kind::Field, Means("`host`, else no name"))
        .help("name to ask for in the TLS handshake, and to verify with `ca`; without a name the address is verified")
        .known_as(&["haproxy check-sni"]),
    Key::new(Table::Health, "user", Kind::Text, Means("the server's greeting is enough"))
        .help("with kind mysql: log on as this user, and ping; a user without any rights will do")
        .when("always: servers count handshakes without a login as errors, and refuse this machine after max_connect_errors of them"),
    Key::new(Table::Health, "password", Kind::Text, Means("empty"))
        .help("its password; keep the config file private then"),
    Key::new(Table::Health, "password_file", Kind::Path, Means("`password`"))
        .help("file whose first line is the password"),
    Key::new(Table::Health, "check_port", integer(1, 65_535), Means("the server's own"))
        .help("another port of the servers to check; `check_address` of a server goes first"),
    Key::new(Table::Health, "proxy_protocol", Kind::Word(&["off", "v1", "v2"]), Means("as connections go: see `proxy_protocol` of the upstream"))
        .help("begin each check with a header of the PROXY protocol (UNKNOWN or LOCAL: the check speaks for itself)")
        .known_as(&["haproxy check-send-proxy"])
        .when("for servers that take no connection without"),
    Key::new(Table::Health, "interval", duration(Duration::from_millis(50), DAY), Default("2s"))
        .help("time from the begin of a check to the begin of the next one of that server")
        .flag_of(FlagOf::Proxy, "health-interval")
        .known_as(&["haproxy inter"])
        .when("down to notice failures sooner, up for many servers"),
    Key::new(Table::Health, "fast_interval", duration(Duration::from_millis(50), DAY), Means("`interval`"))
        .help("the same while a server is on its way up or down")
        .known_as(&["haproxy fastinter"])
        .when("down to about 500ms, so that a first failure is soon confirmed or taken back"),
    Key::new(Table::Health, "down_interval", duration(Duration::from_millis(50), DAY), Means("`interval`"))
        .help("the same while a server is down and no check succeeds")
        .known_as(&["haproxy downinter"])
        .when("up for servers that are down for long"),
    Key::new(Table::Health, "jitter", integer(0, 50), Default("10"))
        .help("percent by which these times vary, so that checks of many servers spread")
        .known_as(&["haproxy spread-checks"])
        .when("up when many balancers check the same servers"),
    Key::new(Table::Health, "timeout", WAIT, Default("1s"))
        .help("time for one check, connecting included")
        .known_as(&["haproxy timeout check"])
        .when("up when a healthy server may answer slowly"),
    Key::new(Table::Health, "rise", integer(1, 1000), Default("2"))
        .help("successes in a row until a server is up again")
        .known_as(&["haproxy rise"])
        .when("up against servers that come and go"),
    Key::new(Table::Health, "fall", integer(1, 1000), Default("3"))
        .help("failures in a row until a server is down")
        .known_as(&["haproxy fall"])
        .when("1 to react to the first failure"),
    // outliers
    Key::new(Table::Outliers, "failures", Kind::List(&Kind::Word(FailureKinds::NAMES)), Default("connect,broken,timeout,5xx"))
        .help("what counts: `connect` (refused or too slow), `broken` (closed or malformed before the answer was whole), `timeout` (no answer in time), `5xx` (such a status), `gateway` (502, 503 and 504 alone)")
        .known_as(&["nginx proxy_next_upstream", "haproxy observe"])
        .when("without 5xx where clients can bring about such answers"),
    Key::new(Table::Outliers, "consecutive", integer(0, 1_000_000), Default("5"))
        .help("failures in a row that eject a server, counted over all data workers; 0: they do not")
        .known_as(&["nginx max_fails", "haproxy error-limit", "envoy consecutive_5xx"])
        .when("up for busy servers, which fail five requests within a millisecond"),
    Key::new(Table::Outliers, "window", duration(Duration::from_millis(500), Duration::from_secs(3600)), Default("10s"))
        .help("time over which `error_rate` and latencies are taken; they are looked at five times in it")
        .known_as(&["envoy interval"])
        .when("up when servers get few requests"),
    Key::new(Table::Outliers, "error_rate", integer(0, 100), Default("50"))
        .help("percent of a server's requests that failed in the window and eject it; 0: they do not")
        .known_as(&["envoy failure_percentage_threshold"])
        .when("down where nearly every request succeeds"),
    Key::new(Table::Outliers, "requests_min", integer(1, 1_000_000_000), Default("20"))
        .help("requests in the window below which `error_rate` and latency say nothing of a server")
        .known_as(&["envoy failure_percentage_request_volume"]),
    Key::new(Table::Outliers, "latency_factor", integer(0, 1000), Default("0"))
        .help("eject a server that is so many times slower than the median of the others; 0: do not")
        .when("to about 5 where all servers do the same work"),
    Key::new(Table::Outliers, "latency_percentile", integer(50, 99), Default("90"))
        .help("which percentile of a server's times to the first byte is compared"),
    Key::new(Table::Outliers, "latency_min", WAIT, Default("20ms"))
        .help("a server below this is never slow"),
    Key::new(Table::Outliers, "ejection_time", duration(Duration::from_millis(50), DAY), Default("30s"))
        .help("how long a server is ejected: this times the number of its ejections")
        .known_as(&["nginx fail_timeout", "envoy base_ejection_time"])
        .when("down where servers recover quickly"),
    Key::new(Table::Outliers, "ejection_max", duration(Duration::from_millis(50), DAY), Means("5m, or `ejection_time` where that is longer"))
        .help("longest ejection")
        .known_as(&["envoy max_ejection_time"]),
    Key::new(Table::Outliers, "max_ejected", integer(0, 100), Default("50"))
        .help("percent of the servers that may be ejected at the same time, at least one (with 0 none), but never the last one that is up")
        .known_as(&["envoy max_ejection_percent"])
        .when("down where the others could not carry the load"),
    // [app.NAME]
    Key::new(Table::App, "program", Kind::Text, Means("the table's NAME"))
        .help("name under which the program was registered"),
    Key::new(Table::App, "response_timeout", WAIT, Default("60s"))
        .help("from the complete request head to the head of the application's answer; beyond it 504")
        .known_as(&["nginx proxy_read_timeout", "haproxy timeout server", "uwsgi harakiri"])
        .when("up for applications that compute or wait for longer"),
    // [map.NAME]
    Key::new(Table::Map, "from", Kind::Text, Required)
        .help("the text that is looked up; holds variables: \"$http_user_agent\"; a path is looked up decoded")
        .known_as(&["nginx map"]),
    Key::new(Table::Map, "values", Kind::Form("a table such as { \"exact text\" = \"result\", \"~^regex\" = \"$1\", \"~*bot\" = \"bot\" }"), Required)
        .help("what the text is compared with, and what the variable is then worth: a text, which may hold variables and, of an expression, its captures; `\\` in front of a text stands for nothing: \"\\\\~x\" is the text ~x")
        .known_as(&["nginx map", "haproxy map", "haproxy map_str", "haproxy map_reg"]),
    Key::new(Table::Map, "default", Kind::Text, Means("an empty text"))
        .help("what it is worth when nothing fits")
        .known_as(&["nginx default"]),
    Key::new(Table::Map, "hostnames", Kind::Switch, Default("false"))
        .help("the text is a host name: \"*.example.org\" is any name below, \".example.org\" that name too, \"www.example.*\" any that begins so; a dot at the end of the name does not count")
        .known_as(&["nginx hostnames", "haproxy map_dom"]),
    // [geo.NAME]
    Key::new(Table::Geo, "from", Kind::Text, Default("$remote_addr"))
        .help("the address that is looked up; what is no address gets `default`")
        .known_as(&["nginx geo"]),
    Key::new(Table::Geo, "values", Kind::Form("a table such as { \"10.0.0.0/8\" = \"lan\", \"2001:db8::/32\" = \"lab\" }"), Required)
        .help("networks, and what the variable is worth for addresses in them; may hold variables")
        .known_as(&["nginx geo", "haproxy map_ip"]),
    Key::new(Table::Geo, "default", Kind::Text, Means("an empty text"))
        .help("what it is worth for other addresses")
        .known_as(&["nginx default"]),
    // [split.NAME]
    Key::new(Table::Split, "from", Kind::Text, Required)
        .help("the text that is hashed: what tells clients apart, \"$remote_addr$http_user_agent\" or \"$cookie_id\"")
        .known_as(&["nginx split_clients"]),
    Key::new(Table::Split, "shares", Kind::List(&Kind::Text), Required)
        .help("shares in order, each with what the variable is worth for it: \"0.5% a\", \"20% b\", \"* c\" (the rest); may hold variables")
        .known_as(&["nginx split_clients", "haproxy rand"]),
    // [mysql.NAME]
    Key::new(Table::Mysql, "listen", Kind::List(&Kind::Address), Required)
        .help("where clients connect: IP:PORT or unix:/path, one or several")
        .known_as(&["proxysql interfaces"]),
    Key::new(Table::Mysql, "primary", Kind::Address, Required)
        .help("the server that takes writes")
        .known_as(&["proxysql writer_hostgroup", "mysql master"]),
    Key::new(Table::Mysql, "replicas", Kind::List(&Kind::Address), Default(""))
        .help("servers that take reads; none: the primary takes them")
        .known_as(&["proxysql reader_hostgroup", "mysql slaves"]),
    Key::new(Table::Mysql, "user", Kind::Text, Required)
        .help("user name, the same for clients and servers")
        .known_as(&["proxysql username"]),
    Key::new(Table::Mysql, "password", Kind::Text, Means("give `password_file` instead"))
        .help("its password; keep the config file private then"),
    Key::new(Table::Mysql, "password_file", Kind::Path, Means("give `password` instead"))
        .help("file whose first line is the password"),
    Key::new(Table::Mysql, "database", Kind::Text, Means("none"))
        .help("database selected for clients that name none"),
    Key::new(Table::Mysql, "clients_max", integer(1, 1 << 20), Default("2048"))
        .help("client connections of the whole process; more are refused")
        .flag_of(FlagOf::Split, "clients-max")
        .known_as(&["proxysql mysql-max_connections"])
        .when("up for many mostly idle clients; they cost little"),
    Key::new(Table::Mysql, "pool_max", integer(1, 65_536), Default("32"))
        .help("connections per data worker and server; times the data workers it must stay below max_connections of the servers")
        .flag_of(FlagOf::Split, "pool-max")
        .known_as(&["proxysql max_connections"])
        .when("up when clients wait for connections and the servers have cores to spare"),
    Key::new(Table::Mysql, "pool_timeout", WAIT, Default("10s"))
        .help("how long a client waits for a connection before it gets an error")
        .flag_of(FlagOf::Split, "pool-timeout")
        .known_as(&["proxysql mysql-connect_timeout_server_max"])
        .when("down to fail early under overload"),
    Key::new(Table::Mysql, "connect_timeout", WAIT, Default("3s"))
        .help("time for connecting and logging on to a server")
        .known_as(&["proxysql mysql-connect_timeout_server"])
        .when("up for servers far away"),
    Key::new(Table::Mysql, "pool_idle_timeout", WAIT, Default("5m"))
        .help("how long an idle connection is kept; must stay below wait_timeout of the servers")
        .known_as(&["proxysql mysql-connection_max_age_ms"])
        .when("down when the servers' wait_timeout is short"),
    Key::new(Table::Mysql, "client_timeout", duration(MS, Duration::from_secs(365 * 86_400)), Default("8h"))
        .help("idle clients are closed after this time, as wait_timeout does")
        .known_as(&["proxysql mysql-wait_timeout"])
        .when("down to get rid of forgotten connections"),
    Key::new(Table::Mysql, "lag_max", duration(Duration::ZERO, DAY), Default("10s"))
        .help("replicas further behind the primary get no reads; the servers tell whole seconds")
        .flag_of(FlagOf::Split, "lag-max")
        .known_as(&["proxysql max_replication_lag", "maxscale max_replication_lag"])
        .when("down where readers of other sessions must see new data soon"),
    Key::new(Table::Mysql, "monitor_interval", duration(Duration::from_millis(50), DAY), Default("1s"))
        .help("time between two looks at the servers' replication state")
        .known_as(&["proxysql mysql-monitor_read_only_interval", "maxscale monitor_interval"])
        .when("up for servers far away"),
    Key::new(Table::Mysql, "causal_reads", Kind::Word(&["session", "off"]), Default("session"))
        .help("`session`: a session sees at least its own writes; `off`: a replica may answer with older data")
        .flag_of(FlagOf::Split, "causal-reads")
        .known_as(&["maxscale causal_reads"])
        .when("`off` only for applications that can bear to miss what they just wrote"),
    Key::new(Table::Mysql, "causal_timeout", duration(MS, Duration::from_secs(3600)), Default("1s"))
        .help("how long a read waits on a replica for the session's own writes before it goes to the primary")
        .known_as(&["maxscale causal_reads_timeout"])
        .when("down when replicas often lag, so that reads go to the primary sooner"),
    // [admin]
    Key::new(Table::Admin, "address", Kind::SocketAddressOrOff, Default("127.0.0.1:9900"))
        .help("address of the admin listener; off: none")
        .flag("admin")
        .flag_default("off; run: as the file says; demo: 127.0.0.1:9900")
        .known_as(&["haproxy stats uri", "nginx stub_status", "proxysql admin_variables"])
        .when("keep it on loopback or a management network: it has no login"),
    Key::new(Table::Admin, "trace", integer(0, 65_536), Default("256"))
        .help("latest requests each data worker keeps for the live page; 0: none")
        .flag("trace")
        .when("up to look further back, 0 to save the work of keeping them"),
    // [log]
    Key::new(Table::Log, "access", Kind::Output, Default("off"))
        .help("where the access log goes: stdout, a file, or off")
        .flag("access-log")
        .known_as(&["nginx access_log", "haproxy log"])
        .when("a file for real traffic; SIGUSR1 reopens it after rotation"),
    Key::new(Table::Log, "format", Kind::Text, Default("combined"))
        .help("form of its lines: combined, common, json, haproxy, or a text with variables ($status, %ST)")
        .flag("log-format")
        .known_as(&["nginx log_format", "haproxy log-format", "haproxy option httplog"])
        .when("`json` for log collectors, `haproxy` for timers and how requests ended; the variables stand below"),
    Key::new(Table::Log, "tcp_format", Kind::Text, Means("what fits `format`: tcplog beside haproxy, json beside json, else basic"))
        .help("form of the lines for connections in TCP mode: basic (that of nginx's manual), tcplog (HAProxy's), json, or a text with variables")
        .known_as(&["haproxy option tcplog"])
        .when("to `tcplog` for timers and how connections ended"),
    Key::new(Table::Log, "escape", Kind::Word(&["default", "json", "none"]), Default("default"))
        .help("how a format of your own writes bytes from outside: \\xHH, as JSON, or as they are; control bytes are always escaped")
        .when("`json` for a format that is a JSON object; a value outside of quotes then becomes a number, a text or null"),
];
