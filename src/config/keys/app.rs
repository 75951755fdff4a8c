//! Keys of `[app.NAME]`.

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table};
use super::super::value::Kind;
use super::WAIT;

pub(super) const KEYS: &[Key] = &[
    // [app.NAME]
    Key::new(Table::App, "program", Kind::Text, Means("the table's NAME"))
        .help("name under which the program was registered"),
    Key::new(Table::App, "response_timeout", WAIT, Default("60s"))
        .help("from the complete request head to the head of the application's answer; beyond it 504")
        .known_as(&["nginx proxy_read_timeout", "haproxy timeout server", "uwsgi harakiri"])
        .when("up for applications that compute or wait for longer"),
];
