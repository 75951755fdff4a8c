//! Keys of `[resolver]`.

use std::time::Duration;

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, duration, integer};
use super::super::value::Kind;
use super::{DAY, MS};

pub(super) const KEYS: &[Key] = &[
    Key::new(Table::Resolver, "name_servers", Kind::List(&Kind::SocketAddress), Means("those of /etc/resolv.conf"))
        .help("name servers that are asked, by UDP, and by TCP where an answer does not fit")
        .known_as(&["nginx resolver", "haproxy nameserver", "haproxy resolvers"])
        .when("to a resolver that you run yourself: whoever answers says where requests go"),
    Key::new(Table::Resolver, "addresses", Kind::Word(&["both", "ipv4", "ipv6"]), Default("both"))
        .help("addresses of names that are used")
        .known_as(&["nginx ipv6", "haproxy resolve-prefer"])
        .when("to `ipv4` where servers have IPv6 addresses that cannot be reached from here"),
    Key::new(Table::Resolver, "addresses_max", integer(1, 1024), Default("64"))
        .help("servers of one name; further addresses are not used")
        .known_as(&["haproxy server-template"])
        .when("up for names with more addresses, see the warning in the log"),
    Key::new(Table::Resolver, "timeout", duration(MS, Duration::from_secs(60)), Default("2s"))
        .help("how long an answer of a name server is waited for")
        .known_as(&["nginx resolver_timeout", "haproxy timeout resolve"])
        .when("down when several name servers are at hand"),
    Key::new(Table::Resolver, "tries", integer(1, 10), Default("2"))
        .help("times that the name servers are asked")
        .known_as(&["haproxy resolve_retries"])
        .when("up on networks that lose packets"),
    Key::new(Table::Resolver, "ttl_min", duration(Duration::from_millis(100), Duration::from_secs(3600)), Default("1s"))
        .help("an answer holds for so long at least, whatever it says itself")
        .known_as(&["nginx valid", "haproxy hold valid"])
        .when("up to spare name servers whose answers hold for a moment only"),
    Key::new(Table::Resolver, "ttl_max", duration(Duration::from_millis(100), DAY), Default("1h"))
        .help("and for so long at most; what /etc/hosts says holds for 10 s at most")
        .known_as(&["nginx valid", "haproxy hold valid"])
        .when("down to notice changes sooner than the records allow"),
    Key::new(Table::Resolver, "hold", duration(Duration::ZERO, DAY), Default("30s"))
        .help("how long addresses stay in use once name servers say that there is no such name, or that it has none")
        .known_as(&["haproxy hold obsolete", "haproxy hold nx"])
        .when("up where records are replaced by being taken away first; while no name server answers at all, addresses stay in any case"),
];
