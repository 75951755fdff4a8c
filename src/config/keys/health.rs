//! Keys of `health` and `outliers` of an upstream.

use std::time::Duration;

use super::super::health::FailureKinds;
use super::super::key::Absent::{Default, Means};
use super::super::key::{FlagOf, Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, MIB, WAIT};

pub(super) const KEYS: &[Key] = &[
    // health
    Key::new(Table::Health, "kind", Kind::Word(&["http", "tcp", "tls", "mysql", "udp"]), Means("http with a `path`, else tcp"))
        .help("what a check is: a request, a connection (with `send` and `expect` a short exchange of texts), a TLS handshake, a MySQL handshake, or a datagram (`send`) and its answer")
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
    Key::new(Table::Health, "protocol", Kind::Word(&["h2", "auto", "http1"]), Means("as requests go: see `protocol` of the upstream; http1 with a `check_port`"))
        .help("version of HTTP that is asked in")
        .known_as(&["haproxy check-proto", "haproxy check-alpn"]),
    Key::new(Table::Health, "status", Kind::List(&Kind::Text), Default("2xx,3xx"))
        .help("statuses of a healthy answer: \"200\", \"2xx\", \"200-299\"")
        .known_as(&["haproxy http-check expect"]),
    Key::new(Table::Health, "expect_header", Kind::Text, Means("any fields"))
        .help("a field that the answer must have: \"Name\", \"Name: value\" or \"Name: ~expression\""),
    Key::new(Table::Health, "expect_body", Kind::Text, Means("any body"))
        .help("a text that its body must hold, or \"~expression\"; it is looked for in the first `expect_max` bytes"),
    Key::new(Table::Health, "send", Kind::Text, Means("nothing"))
        .help("with kind tcp or tls: a text to send first, such as \"PING\\r\\n\"; with kind udp the datagram, whose bytes may be written as \"\\u0000\" to \"\\u007F\"")
        .known_as(&["haproxy tcp-check send"]),
    Key::new(Table::Health, "expect", Kind::Text, Means("connecting, or any answer to a datagram, is enough"))
        .help("with kind tcp, tls or udp: a text that has to come, such as \"+PONG\", or \"~expression\"; it is looked for in the first `expect_max` bytes")
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
];
