//! Keys of `[map.NAME]`, `[geo.NAME]` and `[split.NAME]`.

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{Key, Table};
use super::super::value::Kind;

pub(super) const KEYS: &[Key] = &[
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
];
