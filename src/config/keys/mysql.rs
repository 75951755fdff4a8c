//! Keys of `[mysql.NAME]`.

use std::time::Duration;

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{FlagOf, Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, KIB, MS, WAIT};

/// Servers of a splitter.
const SERVERS: Kind =
    Kind::Form("a list of addresses or of tables such as { address = \"127.0.0.1:3306\", weight = 3 }");

pub(super) const KEYS: &[Key] = &[
    // [mysql.NAME]
    Key::new(Table::Mysql, "listen", Kind::List(&Kind::Address), Required)
        .help("where clients connect: IP:PORT or unix:/path, one or several")
        .known_as(&["proxysql interfaces"]),
    Key::new(Table::Mysql, "socket_mode", Kind::Text, Means("\"660\""))
        .help("permissions of the files of the Unix sockets in `listen`, octal: who may write there may connect, and needs a password all the same; they belong to `user` and `group` of [process]")
        .known_as(&["proxysql mysql-socket", "haproxy bind mode"])
        .when("\"666\" where applications run as users that are in no common group"),
    Key::new(Table::Mysql, "proxy_protocol", Kind::Word(&["off", "required"]), Default("off"))
        .help("`required`: every connection over TCP begins with a header of the PROXY protocol, version 1 or 2, which tells the client's address; those over Unix sockets do not")
        .known_as(&["mysql proxy_protocol_networks", "proxysql mysql-proxy_protocol_networks", "haproxy accept-proxy"])
        .when("`required` behind a balancer that sends it, such as HAProxy with `send-proxy-v2`; name the balancer in trusted_proxies"),
    Key::new(Table::Mysql, "trusted_proxies", Kind::List(&Kind::Network), Default(""))
        .help("addresses from which connections with such a header are taken; others are closed")
        .known_as(&["mysql proxy_protocol_networks", "proxysql mysql-proxy_protocol_networks"])
        .when("always with `proxy_protocol`: who may send a header may claim any address"),
    Key::new(Table::Mysql, "servers", SERVERS, Means("give `primary` and `replicas` instead"))
        .help("servers of which one takes writes; the splitter finds out which, and notices when it becomes another one")
        .known_as(&["proxysql mysql_servers", "proxysql mysql_replication_hostgroups", "maxscale servers"])
        .when("wherever something outside promotes a replica when the primary fails, and for clusters"),
    Key::new(Table::Mysql, "primary", Kind::Address, Means("give `servers` instead"))
        .help("the server that takes writes, always")
        .known_as(&["proxysql writer_hostgroup", "mysql master"]),
    Key::new(Table::Mysql, "replicas", SERVERS, Means("the primary takes them"))
        .help("servers that take reads, besides `primary`")
        .known_as(&["proxysql reader_hostgroup", "mysql slaves"]),
    Key::new(Table::Mysql, "primary_looks", integer(1, 100), Default("2"))
        .help("looks in a row in which one server alone takes writes, before it is the primary; so many without an answer, and it no longer is")
        .known_as(&["proxysql mysql-monitor_read_only_max_timeout_count", "maxscale failcount"])
        .when("up where servers are slow to answer now and then"),
    Key::new(Table::Mysql, "primary_dwell", duration(Duration::ZERO, DAY), Default("3s"))
        .help("shortest time between two changes of the primary")
        .when("up where servers change their minds often"),
    Key::new(Table::Mysql, "primary_wait", duration(Duration::ZERO, Duration::from_secs(3600)), Means("10s with `servers`, 0s with `primary`"))
        .help("how long a statement that needs the primary waits while there is none, before it is refused; 0s: at once")
        .known_as(&["maxscale delayed_retry_timeout"])
        .when("up where a change of the primary takes longer and clients would rather wait than fail"),
    Key::new(Table::Mysql, "held_max", integer(0, 1 << 20), Default("1024"))
        .help("statements that may wait for a primary at once, whole process; more are refused"),
    Key::new(Table::Mysql, "held_bytes_max", Kind::Size { min: 0, max: 1 << 40 }, Default("16MiB"))
        .help("bytes of these statements together"),
    Key::new(Table::Mysql, "user", Kind::Text, Required)
        .help("user name, the same for clients and servers")
        .known_as(&["proxysql username"]),
    Key::new(Table::Mysql, "password", Kind::Text, Means("give `password_file` instead"))
        .help("its password; keep the config file private then"),
    Key::new(Table::Mysql, "password_file", Kind::Path, Means("give `password` instead"))
        .help("file whose first line is the password"),
    Key::new(Table::Mysql, "users", Kind::Form("a list of tables such as { name = \"reports\", password_file = \"/etc/one-server/reports.password\", read_only = true }"), Means("`user` alone"))
        .help("further accounts; each has connections of its own")
        .known_as(&["proxysql mysql_users"]),
    Key::new(Table::Mysql, "authentication", Kind::Word(&["mysql_native_password", "caching_sha2_password", "client_ed25519"]), Default("mysql_native_password"))
        .help("method that clients are asked for; those that begin with mysql_native_password or caching_sha2_password by themselves may")
        .known_as(&["proxysql mysql-default_authentication_plugin", "mysql default_authentication_plugin"])
        .when("`caching_sha2_password` for clients that no longer have the old one, `client_ed25519` for MariaDB's alone"),
    Key::new(Table::Mysql, "compression", Kind::Switch, Default("true"))
        .help("offer compressed packets to clients: zlib and zstd; for those to servers see `server_compression`")
        .known_as(&["proxysql mysql-have_compress", "mysql protocol_compression_algorithms"])
        .when("false where clients ask for it although the network is fast: it costs several times what a query does"),
    Key::new(Table::Mysql, "local_infile", Kind::Switch, Default("false"))
        .help("let the servers ask clients for files (LOAD DATA LOCAL): those are passed on as clients send them")
        .known_as(&["mysql local_infile", "proxysql mysql-enable_load_data_local_infile"])
        .when("where applications import files, and the servers are trusted: a server can ask a client for any file it can read"),
    Key::new(Table::Mysql, "tls", Kind::Form("a table such as { certificates = [{ chain = \"/etc/one-server/db.pem\", key = \"/etc/one-server/db.key\" }] }"), Means("plain text"))
        .help("offer TLS to clients; the keys are those of `tls` of a listener")
        .known_as(&["proxysql mysql-have_ssl", "mysql ssl_cert", "mysql ssl_key"])
        .when("whenever clients come over a network"),
    Key::new(Table::Mysql, "tls_required", Kind::Switch, Default("false"))
        .help("refuse clients that do not use TLS; those on Unix sockets need none")
        .known_as(&["proxysql use_ssl", "mysql require_secure_transport"]),
    Key::new(Table::Mysql, "server_tls", Kind::Form("true, or a table such as { ca = \"/etc/mysql/ca.pem\", server_name = \"db.internal\" }"), Means("plain text"))
        .help("reach the servers over TLS, but for those on Unix sockets; the keys are those of `tls` of an upstream")
        .known_as(&["proxysql mysql_servers.use_ssl", "proxysql mysql-ssl_p2s_ca", "maxscale ssl"])
        .when("whenever the servers are reached over a network"),
    Key::new(Table::Mysql, "server_compression", Kind::Word(&["off", "zlib", "zstd"]), Default("off"))
        .help("compress packets between here and the servers: MariaDB has zlib, MySQL both; a server that does not offer it is spoken to without, and the log says so")
        .known_as(&["proxysql mysql_servers.compression", "mysql protocol_compression_algorithms"])
        .when("for servers behind a slow or metered link; in one's own network it costs several times what a query does"),
    Key::new(Table::Mysql, "server_public_key", Kind::Path, Means("none"))
        .help("PEM file with the servers' RSA key (public_key.pem of MySQL): with it a password is sent in full without TLS, where caching_sha2_password wants that")
        .known_as(&["mysql caching_sha2_password_public_key_path"])
        .when("for MySQL without TLS; not needed with `server_tls`"),
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
    Key::new(Table::Mysql, "pool_min", integer(0, 65_536), Default("0"))
        .help("connections of `user` that each data worker keeps to each server, also while nobody needs them")
        .known_as(&["proxysql mysql-free_connections_pct", "maxscale persistpoolmax"])
        .when("up where the first statements after a pause must not wait for a login to the server"),
    Key::new(Table::Mysql, "server_connections_max", integer(1, 65_536), Means("`pool_max` for each data worker"))
        .help("connections to each server, whole process: data workers lend them to each other")
        .known_as(&["proxysql mysql_servers.max_connections", "maxscale max_routing_connections"])
        .when("to stay below max_connections of the servers"),
    Key::new(Table::Mysql, "pool_queue_max", integer(0, 1 << 20), Default("1024"))
        .help("clients that wait for a connection, whole process; more get error 1040 at once")
        .known_as(&["haproxy maxqueue"])
        .when("down to fail early under overload"),
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
        .known_as(&["maxscale persistmaxtime"])
        .when("down when the servers' wait_timeout is short"),
    Key::new(Table::Mysql, "pool_age_max", Kind::DurationOrOff { min: Duration::from_secs(1), max: Duration::from_secs(365 * 86_400) }, Default("1h"))
        .help("how long a connection is used at most; up to a tenth less, so that not all end at once")
        .known_as(&["proxysql mysql-connection_max_age_ms"])
        .when("down where servers behind one address change, \"off\" where nothing does"),
    Key::new(Table::Mysql, "client_timeout", duration(MS, Duration::from_secs(365 * 86_400)), Default("8h"))
        .help("idle clients are closed after this time, as wait_timeout does")
        .known_as(&["proxysql mysql-wait_timeout"])
        .when("down to get rid of forgotten connections"),
    Key::new(Table::Mysql, "lag_max", duration(Duration::ZERO, DAY), Default("10s"))
        .help("replicas further behind the primary get no reads; the servers tell whole seconds")
        .flag_of(FlagOf::Split, "lag-max")
        .known_as(&["proxysql max_replication_lag", "maxscale max_replication_lag"])
        .when("down where readers of other sessions must see new data soon"),
    Key::new(Table::Mysql, "latency_max", duration(MS, DAY), Means("however long"))
        .help("replicas that take longer than this to answer the monitor, on the average of the last looks, get no reads")
        .known_as(&["proxysql max_latency_ms"])
        .when("for replicas that are far away, or overloaded at times; well above what is usual"),
    Key::new(Table::Mysql, "monitor_interval", duration(Duration::from_millis(50), DAY), Default("1s"))
        .help("time between two looks at the servers' replication state")
        .known_as(&["proxysql mysql-monitor_read_only_interval", "maxscale monitor_interval"])
        .when("up for servers far away"),
    Key::new(Table::Mysql, "causal_reads", Kind::Word(&["session", "off", "node", "strict"]), Default("session"))
        .help("what a read sees at least: `session`: what its session has written; `node`: what was written through this process; `strict`: all that was committed when it came; `off`: whatever a replica has, from one replica this time and another the next")
        .flag_of(FlagOf::Split, "causal-reads")
        .known_as(&["maxscale causal_reads"])
        .when("`node` where one client must see what another one wrote, `strict` where the others do not come through this process, for a question to the primary with each read (those under way at a time share one); `off` only for applications that can bear to miss what they just wrote"),
    Key::new(Table::Mysql, "causal_timeout", duration(MS, Duration::from_secs(3600)), Default("1s"))
        .help("how long a read waits on a replica for what it must see before it goes to the primary")
        .known_as(&["maxscale causal_reads_timeout"])
        .when("down when replicas often lag, so that reads go to the primary sooner"),
    Key::new(Table::Mysql, "balance", Kind::Word(&["least-conn", "least-time", "round-robin", "random-two"]), Default("least-conn"))
        .help("how a session's replica is chosen, by weight: the fewest statements under way, the least answering time times statements, in turn, or the less busy of two drawn by chance; the session stays there for a while, unless `causal_reads` is `off`")
        .known_as(&["maxscale slave_selection_criteria", "mysql-router routing_strategy"])
        .when("`least-time` for replicas of different speed or distance"),
    Key::new(Table::Mysql, "read_only_transactions", Kind::Word(&["replica", "primary"]), Default("replica"))
        .help("where transactions run that are begun READ ONLY (by START TRANSACTION, SET TRANSACTION or SET SESSION TRANSACTION)")
        .known_as(&["mysql-router access_mode"])
        .when("`primary` for applications that set user variables, take locks or call functions of their own in such transactions"),
    Key::new(Table::Mysql, "digests_max", integer(0, 100_000), Default("1000"))
        .help("rows of each data worker's table of statements by normal form, database and account; what comes when it is full is counted as one; 0: no table. A reload that makes it smaller forgets the newest rows")
        .known_as(&["proxysql mysql-query_digests", "mysql performance_schema_digests_size"])
        .when("up when `one-server ctl mysql digests` shows many statements without a row; a row takes about 2 KiB"),
    Key::new(Table::Mysql, "slow_log", Kind::Form("a file, or a table such as { file = \"/var/log/one-server/slow.log\", threshold = \"500ms\" }"), Means("none"))
        .help("log of statements that take long")
        .known_as(&["proxysql mysql-long_query_time", "mysql slow_query_log_file"])
        .when("always, in production"),
    Key::new(Table::Mysql, "hints", Kind::Switch, Default("true"))
        .help("comments may choose the server: `/* one-server: primary */`, `/* one-server: replica */`, and MaxScale's `-- maxscale route to master`")
        .known_as(&["maxscale hintfilter"]),
    Key::new(Table::Mysql, "rules", Kind::Form("a list of tables such as { digest = \"SELECT * FROM audit*\", route = \"primary\" }"), Means("none"))
        .help("what becomes of some statements; the first rule that fits decides")
        .known_as(&["proxysql mysql_query_rules", "maxscale namedserverfilter"])
        .when("for the few statements that the splitter cannot judge by itself, or that must not run"),
    // servers, replicas
    Key::new(Table::MysqlServer, "address", Kind::Address, Required)
        .help("where it listens: IP:PORT or unix:/path")
        .known_as(&["proxysql mysql_servers.hostname"]),
    Key::new(Table::MysqlServer, "weight", integer(0, 256), Default("1"))
        .help("its share of the reads in relation to the others, while it is a replica; 0: none")
        .known_as(&["proxysql mysql_servers.weight"]),
    Key::new(Table::MysqlServer, "compression", Kind::Word(&["off", "zlib", "zstd"]), Means("`server_compression` of the splitter"))
        .help("the same as `server_compression`, for this server alone")
        .known_as(&["proxysql mysql_servers.compression"])
        .when("where one of the servers is far away"),
    // users
    Key::new(Table::MysqlUser, "name", Kind::Text, Required)
        .help("user name, the same for clients and servers")
        .known_as(&["proxysql mysql_users.username"]),
    Key::new(Table::MysqlUser, "password", Kind::Text, Means("give `password_file` instead"))
        .help("its password, or what `mysql.user` has of it for mysql_native_password: `*` and 40 hexadecimal digits, with which clients can log on by that method alone, and to servers that do, too; or what it has for caching_sha2_password: `$A$005$…`, or in hexadecimal digits `0x244124…`; the first client of each data worker has to send its password then, which its driver does over TLS, a Unix socket, or sealed with a key of ours")
        .known_as(&["proxysql mysql_users.password"]),
    Key::new(Table::MysqlUser, "password_file", Kind::Path, Means("give `password` instead"))
        .help("file whose first line is the password, or that hash"),
    Key::new(Table::MysqlUser, "access", Kind::List(&Kind::AddressRule), Means("everyone"))
        .help("addresses from which the user may log on, the first match decides, no match may")
        .known_as(&["proxysql mysql_firewall_whitelist_users"])
        .when("to what the host part of the account on the servers said, which sees our address alone now"),
    Key::new(Table::MysqlUser, "schemas", Kind::List(&Kind::Text), Means("any"))
        .help("databases that the user may select; tables of others, named in full, are for the grants on the servers to forbid")
        .known_as(&["proxysql mysql_users.schema_locked"]),
    Key::new(Table::MysqlUser, "read_only", Kind::Switch, Default("false"))
        .help("refuse every statement that is not known to change nothing")
        .when("for reports and dashboards; a statement with a function of your own is refused, too"),
    Key::new(Table::MysqlUser, "clients_max", integer(1, 1 << 20), Means("as many as the splitter's"))
        .help("connections of the user at once, whole process; more are refused with error 1226")
        .known_as(&["proxysql mysql_users.max_connections", "mysql max_user_connections"]),
    Key::new(Table::MysqlUser, "server_connections_max", integer(1, 65_536), Means("as many as the splitter's"))
        .help("connections to the servers for this user, whole process")
        .known_as(&["mysql max_user_connections"])
        .when("so that one application cannot take them all"),
    // slow_log
    Key::new(Table::MysqlSlowLog, "file", Kind::Output, Required)
        .help("where the lines go: a file that may be an access log's, too"),
    Key::new(Table::MysqlSlowLog, "threshold", duration(Duration::ZERO, DAY), Default("1s"))
        .help("statements that take longer are logged; 0s: all")
        .known_as(&["mysql long_query_time", "proxysql mysql-long_query_time"]),
    Key::new(Table::MysqlSlowLog, "text", Kind::Word(&["full", "digest"]), Default("full"))
        .help("`full`: a line has the statement as the client wrote it, with its literals; `digest`: its normal form alone")
        .known_as(&["proxysql mysql-eventslog_format"])
        .when("`digest` where literals are secrets"),
    Key::new(Table::MysqlSlowLog, "text_max", size(64, 64 * KIB), Default("1KiB"))
        .help("longer statements are cut")
        .known_as(&["proxysql mysql-query_digests_max_query_length"]),
    // rules
    Key::new(Table::MysqlRule, "name", Kind::Text, Means("its place in the list"))
        .help("name in logs and error messages")
        .known_as(&["proxysql comment"]),
    Key::new(Table::MysqlRule, "users", Kind::List(&Kind::Text), Means("all"))
        .help("accounts that it is about")
        .known_as(&["proxysql mysql_query_rules.username"]),
    Key::new(Table::MysqlRule, "schemas", Kind::List(&Kind::Text), Means("any"))
        .help("selected databases that it is about")
        .known_as(&["proxysql mysql_query_rules.schemaname"]),
    Key::new(Table::MysqlRule, "clients", Kind::List(&Kind::Network), Means("all"))
        .help("networks of the clients that it is about; those on Unix sockets are in none")
        .known_as(&["proxysql mysql_query_rules.client_addr"]),
    Key::new(Table::MysqlRule, "digest", Kind::Text, Means("any"))
        .help("normal form of the statements that it is about; `*` stands for any text, upper and lower case are the same")
        .known_as(&["proxysql mysql_query_rules.match_digest"]),
    Key::new(Table::MysqlRule, "digest_regex", Kind::Text, Means("any"))
        .help("the same as a regular expression that matches somewhere in the normal form")
        .known_as(&["proxysql mysql_query_rules.match_pattern"]),
    Key::new(Table::MysqlRule, "route", Kind::Word(&["primary", "replica"]), Means("as without the rule"))
        .help("where they go; `replica`: only what certainly reads, unless `unsafe` says more, and only to one that is fresh enough")
        .known_as(&["proxysql destination_hostgroup"]),
    Key::new(Table::MysqlRule, "unsafe", Kind::Switch, Default("false"))
        .help("with `route = \"replica\"`: reads that call functions of your own, and statements such as SHOW, count as reads, because you know that they are")
        .when("only for functions that change nothing: on a replica nobody would see what they change"),
    Key::new(Table::MysqlRule, "reject", Kind::Text, Means("they run"))
        .help("they are refused with error 1148 and this text")
        .known_as(&["proxysql mysql_query_rules.error_msg"]),
    Key::new(Table::MysqlRule, "rewrite", Kind::Text, Means("they stay as they are"))
        .help("regular expression; what it finds in the statement as it was written is replaced by `rewrite_to`. What is prepared is changed only where it has as many parameters afterwards")
        .known_as(&["proxysql mysql_query_rules.replace_pattern"]),
    Key::new(Table::MysqlRule, "rewrite_to", Kind::Text, Means("see `rewrite`"))
        .help("what replaces that; `${1}` and `${name}` are its captures, `$$` is a dollar sign"),
    Key::new(Table::MysqlRule, "time_limit", duration(MS, DAY), Means("none"))
        .help("a statement that runs for longer is ended with KILL QUERY and error 1969; what it did so far is undone, as far as its tables can")
        .known_as(&["proxysql mysql_query_rules.timeout", "mysql max_execution_time"]),
    Key::new(Table::MysqlRule, "unpinned", Kind::Switch, Default("false"))
        .help("a CALL does not pin its session, because you know that these procedures leave nothing behind in it: no user variable, lock, HANDLER or prepared statement. What they leave all the same is lost to the session, and never seen by another one: the connection is reset. Temporary tables and settings are noticed, and pin")
        .when("for procedures that are called often and use nothing but tables; with `users`, for one application alone"),
];
