//! Keys of `[admin]` and `[log]`.

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, integer};
use super::super::value::Kind;

pub(super) const KEYS: &[Key] = &[
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
