//! Keys of `[upstream.NAME]`, its servers and their choice.

use std::time::Duration;

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{FlagOf, Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, MIB, WAIT};

pub(super) const KEYS: &[Key] = &[
    // [upstream.NAME]
    Key::new(Table::Upstream, "servers", Kind::Form("a list of addresses or of tables such as { address = \"127.0.0.1:9000\", weight = 2 }"), Required)
        .help("its servers")
        .known_as(&["nginx server", "haproxy server"]),
    Key::new(Table::Upstream, "balance", Kind::Word(&["random-two", "round-robin", "least-conn", "least-time", "first", "local"]), Default("random-two"))
        .help("how a server is chosen, by weight: the less busy of two drawn by chance, in turn, the fewest requests under way, the least response time times requests, or the first that has room (see requests_max of servers). Of a `program` in [app.NAME] there is `local` as well, which is its default: the application worker beside the data worker that has the request, unless 32 wait in front of that and less than half as many in front of another one, which then gets it; one that has less weight than others, or warms up, leaves as much of its requests to them")
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
        .flag_of(FlagOf::Proxy, "slow-start")
        .known_as(&["nginx slow_start", "haproxy slowstart"])
        .when("for servers that are slow while their caches are empty"),
    Key::new(Table::Upstream, "tier_min", Kind::Form("a number of servers such as 2, or a share such as \"50%\""), Means("1"))
        .help("usable servers that a tier must have, else the next one is used; when none has enough, the first that has any")
        .when("up where a few servers of the first tier cannot bear the traffic alone"),
    Key::new(Table::Upstream, "fail_back", Kind::Form("\"at-once\", \"manual\", or a duration such as \"30s\""), Means("at-once"))
        .help("when an earlier tier is used again: as soon as it has enough servers, after it has had them for some time, or only by `one-server ctl upstream NAME fail-back` and when the tier in use has too few itself")
        .when("a duration against servers that come and go, `manual` for databases and the like that somebody must look at first"),
    Key::new(Table::Upstream, "requests_max", integer(1, 1_000_000), Means("any number"))
        .help("requests under way at all its servers together, in the whole process; more wait in a queue")
        .when("to what a database or another service behind the servers bears"),
    Key::new(Table::Upstream, "queue_max", integer(0, 65_536), Default("1024"))
        .help("requests that may wait for a place, in the whole process; more are answered 503 at once. Of an [app.NAME] with `threads` those that wait for one of them")
        .flag_of(FlagOf::Proxy, "queue-max")
        .known_as(&["nginx queue", "haproxy maxqueue"])
        .when("down to fail early under overload, 0 so that nothing waits"),
    Key::new(Table::Upstream, "queue_timeout", WAIT, Default("5s"))
        .help("how long a request waits for a place before it is answered 503 with Retry-After; of a `program` in [app.NAME] also in front of a worker whose queue is full, where the default is `app_queue_timeout`")
        .flag_of(FlagOf::Proxy, "queue-timeout")
        .known_as(&["haproxy timeout queue"])
        .when("down where clients give up sooner"),
    Key::new(Table::Upstream, "health", Kind::Form("true, false, or a table such as { path = \"/healthz\", interval = \"2s\" }"), Means("a TCP connection every 2s, if routes or `tcp` lead to it; else none"))
        .help("the active check of each server")
        .known_as(&["haproxy option httpchk", "haproxy server check"])
        .when("give a path, so that a server which accepts connections but cannot answer is taken out"),
    Key::new(Table::Upstream, "tls", Kind::Form("true, false, or a table such as { server_name = \"api.internal\" }"), Means("clear text"))
        .help("TLS towards its servers; checks use it too")
        .known_as(&["nginx proxy_pass https", "haproxy server ssl"]),
    Key::new(Table::Upstream, "protocol", Kind::Word(&["http1", "h2", "auto", "fastcgi", "uwsgi", "scgi"]), Default("http1"))
        .help("what its servers speak: HTTP/1.1; `h2` is HTTP/2, in clear text without asking, over TLS by ALPN, which a server must agree to; `auto` takes what the server chooses of both, over TLS alone; `fastcgi` (PHP-FPM), `uwsgi` and `scgi` are told of a request as `cgi` of the route says")
        .known_as(&["nginx grpc_pass", "nginx fastcgi_pass", "nginx uwsgi_pass", "nginx scgi_pass", "nginx proxy_http_version", "haproxy proto h2", "haproxy proto fcgi", "haproxy alpn"])
        .when("`h2` for gRPC, whose calls need it"),
    Key::new(Table::Upstream, "h2_streams_max", integer(1, 10_000), Default("100"))
        .help("requests and WebSockets at once on one connection of HTTP/2; a server may allow fewer")
        .known_as(&["haproxy tune.h2.be.max-concurrent-streams"])
        .when("down to spread requests over more connections, for servers that work on each connection with one core"),
    Key::new(Table::Upstream, "h2_connections_max", integer(1, 1000), Default("8"))
        .help("connections of HTTP/2 of a data worker to one server; another one is made when all are full, and requests wait when there are this many")
        .when("up for servers that allow few requests at once on a connection"),
    Key::new(Table::Upstream, "outliers", Kind::Form("true, false, or a table such as { consecutive = 5, ejection_time = \"30s\" }"), Means("false"))
        .help("ejects servers for what live traffic shows")
        .known_as(&["nginx max_fails", "haproxy observe", "envoy outlier_detection"])
        .when("for servers that pass their checks and fail requests"),
    Key::new(Table::Upstream, "panic", integer(0, 100), Default("0"))
        .help("percent of servers: while fewer are up, and no backup is, all servers get requests, whatever checks and outliers say; 0: never")
        .flag_of(FlagOf::Proxy, "panic")
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
        .help("protocols that a client may leave HTTP for (`Upgrade`; over HTTP/2, with servers too, and HTTP/3 extended CONNECT, for `websocket` alone); an empty list: none. HTTP/2 in clear (h2c) never is one")
        .flag_of(FlagOf::Proxy, "upgrade")
        .known_as(&["nginx proxy_set_header Upgrade"])
        .when("`[]` where the servers have no WebSockets"),
    Key::new(Table::Upstream, "total_timeout", Kind::DurationOrOff { min: Duration::from_millis(1), max: DAY }, Default("off"))
        .help("longest time from the complete head of a request to the last byte of its answer, queue and all tries included; then 504, or the answer breaks off. Not for WebSockets and their like")
        .flag_of(FlagOf::Proxy, "total-timeout")
        .when("to what a client waits at most, where a server that dribbles must not hold a place for long"),
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
        .flag_of(FlagOf::Proxy, "retry-on")
        .known_as(&["nginx proxy_next_upstream", "haproxy retry-on"])
        .when("add `503` and `429` where servers say so when they are busy. `non_idempotent` only where a request that runs twice does no harm"),
    Key::new(Table::Upstream, "retry_budget", Kind::Text, Default("20%"))
        .help("share of the requests of the last 10s that may be sent again, beside 100 in any case; for each data worker. `off`: no limit")
        .flag_of(FlagOf::Proxy, "retry-budget")
        .known_as(&["envoy retry_budget"])
        .when("seldom: without it servers that fail under load get more of it"),
    Key::new(Table::Upstream, "retry_time_max", WAIT, Means("connect_timeout and response_timeout together"))
        .help("no further try begins later than this behind the beginning of a request")
        .flag_of(FlagOf::Proxy, "retry-time-max")
        .known_as(&["nginx proxy_next_upstream_timeout"])
        .when("down where clients give up sooner"),
    Key::new(Table::Upstream, "retry_body_max", size(0, MIB), Default("16KiB"))
        .help("a body up to this size is kept in memory until its answer begins, so that it can be sent again; longer ones are streamed and never repeated")
        .flag_of(FlagOf::Proxy, "retry-body-max")
        .known_as(&["haproxy tune.bufsize"])
        .when("up when uploads must survive the death of a server; it costs as much memory for each request under way"),
    Key::new(Table::Upstream, "keep_idle", integer(0, 65_536), Default("32"))
        .help("idle connections kept per data worker and server; what a worker has too many others may use. 0: none, which is the default of `fastcgi` and all that `uwsgi` and `scgi` can do. Of an application of `php`: no more than `workers` for all data workers, which is the default")
        .flag_of(FlagOf::Proxy, "keep-idle")
        .known_as(&["nginx keepalive", "nginx fastcgi_keep_conn", "haproxy pool-max-conn"])
        .when("up when one worker has more than this many requests under way to one server. For PHP-FPM, of which every connection holds a process, to less than pm.max_children for all workers together"),
    Key::new(Table::Upstream, "keep_idle_timeout", WAIT, Default("4s"))
        .help("how long an idle connection is kept, of HTTP/2 too; must stay below the server's own time")
        .flag_of(FlagOf::Proxy, "keep-idle-timeout")
        .known_as(&["nginx upstream keepalive_timeout", "haproxy pool-purge-delay"])
        .when("up when traffic is thin and the servers keep connections longer. nginx's 60s loses requests to Node.js, which closes after 5s"),
    // server
    Key::new(Table::Server, "address", Kind::Server, Means("`srv`"))
        .help("where it listens: IP:PORT, unix:/path, or NAME:PORT, of which every address is a server (see [resolver])")
        .known_as(&["nginx server", "haproxy server-template"]),
    Key::new(Table::Server, "srv", Kind::Service, Means("`address`"))
        .help("name of SRV records in the DNS, which say the names, ports and weights of servers; records of a later priority are of a later tier")
        .known_as(&["nginx service", "haproxy server-template"]),
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
];
