//! Every key of the config file and every tuning flag, described once.
//!
//! Parser, defaults, diagnostics, flag help and the printed manual are made from this list. Ranges keep a slip of the
//! keyboard from starting a process that cannot work; defaults are what users of nginx, HAProxy and ProxySQL rely on
//! where they have one, and the `when` line says so where ours differs.

mod admin;
mod app;
mod cgi;
mod health;
mod http;
mod limit;
mod listener;
mod mysql;
mod options;
mod process;
mod resolver;
mod site;
mod upstream;
mod variables;

use std::time::Duration;

pub(super) use app::INI as INI_OF_PHP;

use super::key::{Key, duration};
use super::value::Kind;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A wait in a protocol: long enough to be meant, short enough not to be a wrong unit.
const WAIT: Kind = duration(MS, DAY);

/// What `compress` takes in [http], a site and a route.
const COMPRESS: Kind = Kind::Form("true, false, or a table such as { codings = [\"zstd\", \"gzip\"], min = \"1KiB\" }");
const ACCESS_HELP: &str =
    "addresses that may come in or not, the first match decides, no match may; anyone else gets 403";

const SATISFY: Kind = Kind::Word(&["all", "any"]);
const SATISFY_HELP: &str = "what lets a request in: `all` that is asked for, or `any` of it: then an address that `access` lets in needs no login, and one that it refuses may log in";

const AUTH_REQUEST: Kind = Kind::Form("a path of the site such as \"/auth\", or false");
const AUTH_REQUEST_HELP: &str = "path of the site that is asked first, by a GET with the fields of the request and without its body, X-Original-URI and X-Original-Method beside them: 2xx lets the request in, 401 and 403 refuse it, anything else is 500";
const AUTH_REQUEST_HEADERS_HELP: &str = "fields that the answer to auth_request gives to the request, for upstreams, applications and variables; what a client writes in them itself is taken away, also where nobody is asked";

const AUTH: Kind =
    Kind::Form("a table such as { realm = \"staff\", users_file = \"/etc/one-server/users\" }, or false");

/// All of them, table by table, in the order of the manual.
const PARTS: &[&[Key]] = &[
    process::KEYS,
    http::KEYS,
    listener::KEYS,
    limit::KEYS,
    site::KEYS,
    cgi::KEYS,
    options::KEYS,
    upstream::KEYS,
    health::KEYS,
    resolver::KEYS,
    app::KEYS,
    variables::KEYS,
    mysql::KEYS,
    admin::KEYS,
];

/// Every key, table by table, in the order of the manual.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    PARTS.iter().copied().flatten()
}
