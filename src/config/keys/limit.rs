//! Keys of `[limit.NAME]`.

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, integer};
use super::super::value::Kind;

pub(super) const KEYS: &[Key] = &[
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
];
