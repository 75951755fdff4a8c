//! Keys of `[mysql.NAME]`.

use std::time::Duration;

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{FlagOf, Key, Table, duration, integer};
use super::super::value::Kind;
use super::{DAY, MS, WAIT};

pub(super) const KEYS: &[Key] = &[
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
];
