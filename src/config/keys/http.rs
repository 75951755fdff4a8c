//! Keys of `[http]`, `[http2]` and `[http3]`.

use std::time::Duration;

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, GIB, KIB, MIB, WAIT};

pub(super) const KEYS: &[Key] = &[
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
    Key::new(Table::Http2, "connection_window", size(64 * KIB, GIB), Means("streams_max times stream_window"))
        .help("the same for all streams of a connection together; with less, uploads that wait for a server or an application hold up those that are served")
        .known_as(&["haproxy tune.h2.fe.rxbuf"])
        .when("down where few uploads wait; it bounds the memory of a connection"),
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
    Key::new(Table::Http3, "connection_window", size(64 * KIB, GIB), Means("streams_max times stream_window"))
        .help("the same for all streams of a connection together; with less, uploads that wait for a server or an application hold up those that are served")
        .when("down where few uploads wait; it bounds the memory of a connection"),
    Key::new(Table::Http3, "send_buffer_max", size(64 * KIB, GIB), Default("1MiB"))
        .help("bytes of answers that a connection keeps until its client has acknowledged them")
        .when("up for fast downloads over long links: rate times round trip; it bounds the memory of a slow reader"),
    Key::new(Table::Http3, "header_list_max", size(4 * KIB, 16 * MIB), Default("64KiB"))
        .help("bytes of a request's decompressed header list; beyond it 431")
        .when("seldom; http.head_max holds as well"),
    Key::new(Table::Http3, "rst_per_second", integer(1, u32::MAX as u64), Default("100"))
        .help("streams that a client resets or stops (RESET_STREAM, STOP_SENDING) in a second, whatever has become of their answer")
        .when("up behind another balancer whose clients give up often"),
    Key::new(Table::Http3, "rst_max", integer(1, u32::MAX as u64), Default("10000"))
        .help("the same in the life of a connection")
        .when("up behind another balancer"),
    Key::new(Table::Http3, "early_rst_max", integer(1, u32::MAX as u64), Default("50"))
        .help("requests that a client gives up before their answer has begun, or that break a rule, in the life of a connection; ten requests answered make up for one")
        .when("up where many requests are given up at once, for example to slow backends"),
    Key::new(Table::Http3, "retry", Kind::Word(&["auto", "always"]), Default("auto"))
        .help("whether a new client must prove its address by one more round trip before a handshake is computed for it: `auto` does so while many handshakes are under way")
        .known_as(&["nginx quic_retry", "haproxy quic-force-retry"])
        .when("`always` under attack from forged addresses"),
];
