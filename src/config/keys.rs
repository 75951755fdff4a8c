//! Every key of the config file and every tuning flag, described once.
//!
//! Parser, defaults, diagnostics, flag help and the printed manual are made from this list. Ranges keep a slip of the
//! keyboard from starting a process that cannot work; defaults are what users of nginx, HAProxy and ProxySQL rely on
//! where they have one, and the `when` line says so where ours differs.

use std::time::Duration;

use super::key::Absent::{Default, Means, Required};
use super::key::{FlagOf, Key, Table, duration, integer, size};
use super::value::Kind;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A wait in a protocol: long enough to be meant, short enough not to be a wrong unit.
const WAIT: Kind = duration(MS, DAY);

const ACCESS_HELP: &str =
    "addresses that may come in or not, the first match decides, no match may; anyone else gets 403";

const AUTH: Kind =
    Kind::Form("a table such as { realm = \"staff\", users_file = \"/etc/one-server/users\" }, or false");

/// All of them, table by table, in the order of the manual.
pub(super) const KEYS: &[Key] = &[
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
    Key::new(Table::Http, "server_name", Kind::Field, Default("one-server"))
        .help("value of the Server field of answers; empty: no field")
        .known_as(&["nginx server_tokens"])
        .when("empty to tell less"),
    // [listener.NAME]
    Key::new(Table::Listener, "address", Kind::SocketAddress, Required)
        .help("IP address and port; port 0 picks a free one, which the start-up lines tell")
        .known_as(&["nginx listen", "haproxy bind"]),
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
    // [site.NAME]
    Key::new(Table::Site, "hosts", Kind::List(&Kind::Text), Default("*"))
        .help("names it answers for: \"example.org\", \"*.example.org\" (any name below), \"*\" (any)")
        .known_as(&["nginx server_name"]),
    Key::new(Table::Site, "default", Kind::Switch, Default("false"))
        .help("answers for hosts that no site of the listener names")
        .known_as(&["nginx default_server", "haproxy default_backend"]),
    Key::new(Table::Site, "listeners", Kind::List(&Kind::Text), Means("every listener"))
        .help("names of the listeners it is reached through"),
    Key::new(Table::Site, "access", Kind::List(&Kind::AddressRule), Default(""))
        .help(ACCESS_HELP)
        .known_as(&["nginx allow", "nginx deny", "haproxy http-request deny"])
        .when("to keep a site for known networks; end the list with \"deny all\""),
    Key::new(Table::Site, "auth", AUTH, Means("no login"))
        .help("the login it asks for")
        .known_as(&["nginx auth_basic", "haproxy http-request auth"]),
    Key::new(Table::Site, "route", Kind::Form("tables, each written as [[site.NAME.route]]"), Required)
        .help("its routes")
        .known_as(&["nginx location", "haproxy use_backend"]),
    // [[site.NAME.route]]
    Key::new(Table::Route, "path", Kind::UrlPath, Means("give `exact` instead"))
        .help("prefix of the path, byte by byte: \"/api\" also matches \"/apis\", \"/api/\" does not; the longest wins"),
    Key::new(Table::Route, "exact", Kind::UrlPath, Means("give `path` instead"))
        .help("the whole path; wins over every prefix"),
    Key::new(Table::Route, "files", Kind::Form("a folder, or a table such as { root = \"/var/www/html\" }"), Means("another action"))
        .help("serve files of a folder")
        .known_as(&["nginx root", "nginx alias", "nginx try_files"]),
    Key::new(Table::Route, "proxy", Kind::Text, Means("another action"))
        .help("forward to the upstream of this name")
        .known_as(&["nginx proxy_pass", "haproxy default_backend"]),
    Key::new(Table::Route, "app", Kind::Text, Means("another action"))
        .help("call the in-process application of this name"),
    Key::new(Table::Route, "redirect", Kind::Form("a target, or a table such as { to = \"https://example.org$path\" }"), Means("another action"))
        .help("answer with a redirect")
        .known_as(&["nginx rewrite", "haproxy http-request redirect"]),
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
    // files
    Key::new(Table::Files, "root", Kind::Path, Required)
        .help("the folder, absolute or relative to the working directory; nothing outside is ever opened")
        .known_as(&["nginx root", "nginx alias"]),
    Key::new(Table::Files, "strip_prefix", Kind::UrlPath, Means("nothing is cut off"))
        .help("leading part of the path that is cut off before the file is looked for"),
    Key::new(Table::Files, "index", Kind::List(&Kind::Text), Default("index.html"))
        .help("names tried for a path that ends in `/`")
        .known_as(&["nginx index"]),
    Key::new(Table::Files, "fallback", Kind::UrlPath, Means("404"))
        .help("path below the root that is served with 200 when there is no such file (single-page applications)")
        .known_as(&["nginx try_files"]),
    // redirect
    Key::new(Table::Redirect, "to", Kind::Field, Required)
        .help("value of the Location field; $path and $query are replaced by those of the request"),
    Key::new(Table::Redirect, "status", integer(301, 308), Default("308"))
        .help("301, 302, 303, 307 or 308; 307 and 308 keep the method"),
    // respond
    Key::new(Table::Respond, "status", integer(200, 599), Default("200"))
        .help("status code"),
    Key::new(Table::Respond, "content_type", Kind::Field, Default("text/plain; charset=utf-8"))
        .help("value of the Content-Type field")
        .known_as(&["nginx default_type"]),
    Key::new(Table::Respond, "body", Kind::Text, Means("an empty body"))
        .help("the body"),
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
    Key::new(Table::Upstream, "balance", Kind::Word(&["round-robin", "least-conn"]), Default("round-robin"))
        .help("how a server is chosen: in turn by weight, or the fewest requests under way")
        .flag_of(FlagOf::Proxy, "balance")
        .known_as(&["nginx least_conn", "haproxy balance"])
        .when("`least-conn` when requests take very different times"),
    Key::new(Table::Upstream, "health", Kind::Form("true, false, or a table such as { path = \"/healthz\", interval = \"2s\" }"), Means("a TCP connection every 2s"))
        .help("the active check of each server")
        .known_as(&["haproxy option httpchk", "haproxy server check"])
        .when("give a path, so that a server which accepts connections but cannot answer is taken out"),
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
        .known_as(&["nginx proxy_send_timeout", "haproxy timeout tunnel"])
        .when("up for streams with long pauses, such as server-sent events"),
    Key::new(Table::Upstream, "tries", integer(1, 100), Default("3"))
        .help("connections tried for one request, the first included; only requests that may be repeated are")
        .flag_of(FlagOf::Proxy, "tries")
        .known_as(&["nginx proxy_next_upstream_tries", "haproxy retries"])
        .when("1 to switch retries off"),
    Key::new(Table::Upstream, "keep_idle", integer(0, 65_536), Default("32"))
        .help("idle connections kept per data worker and server; 0: none")
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
    Key::new(Table::Server, "weight", integer(1, 256), Default("1"))
        .help("its share of the traffic in relation to the others")
        .known_as(&["nginx weight", "haproxy weight"]),
    Key::new(Table::Server, "backup", Kind::Switch, Default("false"))
        .help("used only while no other server is up")
        .known_as(&["nginx backup", "haproxy backup"]),
    // health
    Key::new(Table::Health, "path", Kind::UrlPath, Means("connecting is enough"))
        .help("GET this path; 200 to 399 is healthy")
        .flag_of(FlagOf::Proxy, "health-path")
        .known_as(&["haproxy option httpchk"])
        .when("always, when the servers have such a path"),
    Key::new(Table::Health, "host", Kind::Field, Means("the server's address"))
        .help("Host field of the check"),
    Key::new(Table::Health, "interval", duration(Duration::from_millis(50), DAY), Default("2s"))
        .help("time between two checks of a server")
        .flag_of(FlagOf::Proxy, "health-interval")
        .known_as(&["haproxy inter"])
        .when("down to notice failures sooner, up for many servers"),
    Key::new(Table::Health, "timeout", WAIT, Default("1s"))
        .help("time for one check")
        .known_as(&["haproxy timeout check"])
        .when("up when a healthy server may answer slowly"),
    Key::new(Table::Health, "rise", integer(1, 1000), Default("2"))
        .help("successes in a row until a server is up again")
        .known_as(&["haproxy rise"])
        .when("up against servers that come and go"),
    Key::new(Table::Health, "fall", integer(1, 1000), Default("3"))
        .help("failures in a row until a server is down")
        .known_as(&["haproxy fall", "nginx max_fails"])
        .when("1 to react to the first failure"),
    // [app.NAME]
    Key::new(Table::App, "program", Kind::Text, Means("the table's NAME"))
        .help("name under which the program was registered"),
    Key::new(Table::App, "response_timeout", WAIT, Default("60s"))
        .help("from the complete request head to the head of the application's answer; beyond it 504")
        .known_as(&["nginx proxy_read_timeout", "haproxy timeout server", "uwsgi harakiri"])
        .when("up for applications that compute or wait for longer"),
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
    Key::new(Table::Log, "format", Kind::Word(&["combined", "json"]), Default("combined"))
        .help("form of its lines: nginx's combined, or one JSON object a line")
        .flag("log-format")
        .known_as(&["nginx log_format", "haproxy option httplog"])
        .when("`json` for log collectors"),
];
