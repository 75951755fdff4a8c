//! HAProxy's runtime protocol on a Unix socket of its own: what hatop, exporters and scripts for HAProxy ask, in its words.
//!
//! ```text
//! → show stat\n                        ← # pxname,svname,qcur,…\nhttp,FRONTEND,…\n…\n\n
//! → set server api/10.0.0.7:80 state drain; get weight api/10.0.0.7:80\n
//! ← \n1 (initial 1)\n\n
//! → prompt\n                           ← \n>␠                (several lines from now on, a prompt behind each answer)
//! ```
//! Frontends are what the metrics call so (`prometheus`): `http` for all HTTP listeners together, and each splitter.
//! Backends are upstreams; servers have their address as name. A column of HAProxy's that nothing here counts is empty, where
//! HAProxy has it empty for lines it does not apply to. Deliberately absent: what belongs to HAProxy's own parts (maps, ACLs,
//! tables, certificates), and adding servers.
//!
//! | module | does |
//! |---|---|
//! | `line` | bytes to commands in words |
//! | `command` | words to a command, or to what HAProxy says to such |
//! | `info`, `stat`, `servers` | answers of `show …` |
//! | `rates` | rates and highest values, from looks once a second |
//! | `change` | `set …`, `enable …`, `disable …` |
//! | `serve` | the socket |
//!
//! Source: the management guide of HAProxy 2.6, and its answers (`tests/haproxy_socket.rs` compares them).

mod change;
mod columns;
mod command;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod info;
mod line;
mod rates;
mod serve;
mod servers;
mod stat;

use super::Shared;
use super::prometheus::server_names;

pub use serve::serve;

/// Bytes of a line, its end included; HAProxy's default.
pub const LINE_BYTES_MAX: usize = 16_384;

/// Number of the first proxy; HAProxy's own is 1.
const FIRST_ID: usize = 2;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `Name: value`, or CSV.
    Plain,
    /// One value a line, with what kind it is.
    Typed,
    /// All in one line.
    Json,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            // One line each, whatever a config has in it.
            Value::Text(text) => f.write_str(&text.replace(['\n', '\r'], " ")),
        }
    }
}

/// `{"field":…,"tags":…,"value":…}` as HAProxy writes it. `object` goes before it; `tags` are origin, nature and scope.
fn json_field(object: &str, position: usize, name: &str, tags: &str, kind: &str, value: &Value) -> String {
    let letters: Vec<char> = tags.chars().collect();
    let word = |at: usize, words: &[(char, &'static str)]| {
        words.iter().find(|(letter, _)| letters.get(at) == Some(letter)).map_or("Unknown", |(_, word)| word)
    };
    let origin = word(0, &[('M', "Metric"), ('S', "Status"), ('K', "Key"), ('C', "Config"), ('P', "Product")]);
    let natures = [
        ('G', "Gauge"),
        ('L', "Limit"),
        ('M', "Max"),
        ('C', "Counter"),
        ('D', "Duration"),
        ('A', "Age"),
        ('a', "Avg"),
        ('R', "Rate"),
        ('N', "Name"),
        ('O', "Output"),
        ('P', "Position"),
    ];
    let (nature, scope) = (word(1, &natures), word(2, &[('C', "Cluster"), ('S', "Service"), ('P', "Process")]));
    let value = match value {
        Value::Number(number) => serde_json::Value::from(*number),
        text => serde_json::Value::from(text.to_string()),
    };
    let name = serde_json::Value::from(name);
    format!(
        "{{{object}\"field\":{{\"pos\":{position},\"name\":{name}}},\"processNum\":1,\"tags\":{{\"origin\":\"{origin}\",\
         \"nature\":\"{nature}\",\"scope\":\"{scope}\"}},\"value\":{{\"type\":\"{kind}\",\"value\":{value}}}}}"
    )
}

/// A frontend or a backend, as it is numbered here: frontends first, in the order of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    /// All HTTP listeners.
    Http,
    /// Index of a splitter.
    Splitter(usize),
    /// Index of an upstream.
    Upstream(usize),
}

impl Proxy {
    fn all(shared: &Shared) -> impl Iterator<Item = Proxy> {
        let splitters = (0..shared.config.splitters.len()).map(Proxy::Splitter);
        let upstreams = (0..shared.config.upstreams.len()).map(Proxy::Upstream);
        std::iter::once(Proxy::Http).chain(splitters).chain(upstreams)
    }

    fn id(self, shared: &Shared) -> usize {
        FIRST_ID
            + match self {
                Proxy::Http => 0,
                Proxy::Splitter(splitter) => 1 + splitter,
                Proxy::Upstream(upstream) => 1 + shared.config.splitters.len() + upstream,
            }
    }

    fn name(self, shared: &Shared) -> &str {
        match self {
            Proxy::Http => "http",
            Proxy::Splitter(splitter) => &shared.config.splitters[splitter].name,
            Proxy::Upstream(upstream) => &shared.config.upstreams[upstream].name,
        }
    }
}

/// Backend and server of `BACKEND/SERVER`: the upstream's index and the server's. Errors: HAProxy's words.
fn find_server(shared: &Shared, name: &str) -> Result<(usize, usize), &'static str> {
    let (upstream, server) = super::orders::split(name).ok_or("Require 'backend/server'.\n")?;
    let u = shared.config.upstreams.iter().position(|known| known.name == upstream).ok_or("No such backend.\n")?;
    let s = server_names(&shared.config.upstreams[u]).iter().position(|known| known == server);
    Ok((u, s.ok_or("No such server.\n")?))
}
