//! The control socket: `one-server ctl` looks at the running process and changes it.
//!
//! A Unix socket with mode 0600, on which root and the user of the process alone are heard (SO_PEERCRED, unix(7)). One line of
//! JSON is a request ([`Request`]), one line is its answer ([`Answer`]); a connection may ask several times.
//!
//! ```text
//! → {"command":"server","server":"api/10.0.0.7:8080","state":"drain"}
//! ← {"ok":true,"result":{"server":"api/10.0.0.7:8080","state":"drain","was":"ready"}}
//! ```
//! Everything is bounded: the length of a request, connections, their silence. Deliberately absent: a login (the file's
//! owner is one), requests over TCP.

pub mod digests;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod mysql;
mod serve;
pub mod show;

use serde::{Deserialize, Serialize};

use super::orders::{LIMIT_MAX, WEIGHT_MAX};
use super::shared::AdminState;

pub use super::processes::{ProcessView, Wanted};
pub use serve::{Desk, Order, ServerChange, serve};

/// Where the socket is looked for when nobody says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/one-server.sock";

/// Bytes of a request, its line end included.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What runs: a [`show::View`].
    Show {},
    /// The config file is read again: a [`Reloaded`].
    Reload {
        /// The diagnostics of a bad config are for a terminal.
        #[serde(default)]
        color: bool,
    },
    /// What the operator wants of a server: a [`Changed`].
    Server {
        /// `UPSTREAM/ADDRESS`.
        server: String,
        /// The state it is to have.
        state: State,
    },
    /// A share of the traffic for a server: a [`Weighed`].
    ServerWeight {
        /// `UPSTREAM/ADDRESS`.
        server: String,
        /// 0 to 256, or `config`.
        weight: Set,
    },
    /// How many requests a server may have at once: a [`Limited`].
    ServerLimit {
        /// `UPSTREAM/ADDRESS`.
        server: String,
        /// From 1, `none`, or `config`.
        limit: Set,
    },
    /// A server more for an upstream, until it is removed or the process ends: a [`Populated`].
    AddServer {
        /// `UPSTREAM/ADDRESS`.
        server: String,
        /// Share of the traffic, 0 to 256; 1 without it.
        #[serde(default)]
        weight: Option<u32>,
        /// Its tier, 1 to 64; the first one without it.
        #[serde(default)]
        tier: Option<u32>,
        /// It is of the last tier.
        #[serde(default)]
        backup: bool,
        /// How many requests it may have at once; any number without it.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// A server less: it finishes what it has. A [`Populated`].
    RemoveServer {
        /// `UPSTREAM/ADDRESS`.
        server: String,
    },
    /// An upstream goes back to its first tier of servers that has enough: a [`FailedBack`].
    FailBack {
        /// Its name.
        upstream: String,
    },
    /// What was asked of a splitter's servers, by normal form: a [`digests::DigestsView`].
    MysqlDigests {
        /// Its name.
        splitter: String,
        /// What comes first.
        #[serde(default)]
        sort: digests::Sort,
        /// Rows at most; all without it.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Its table begins anew: a [`digests::Forgotten`].
    ResetMysqlDigests {
        /// Its name.
        splitter: String,
    },
    /// The splitters and their servers: [`mysql::Splitters`].
    Mysql {},
    /// What the operator wants of a server of a splitter: [`mysql::Ordered`].
    MysqlServer {
        /// `SPLITTER/ADDRESS`.
        server: String,
        /// What is wanted.
        wanted: mysql::Wanted,
    },
    /// Applications that are processes: a list of [`ProcessView`].
    Apps {},
    /// One of them is told what to do: a [`ProcessView`].
    App {
        /// Its name.
        app: String,
        /// What it is to do.
        want: Wanted,
    },
    /// Another process takes over: an [`Upgraded`].
    Upgrade {},
    /// The process ends: [`Ends`].
    Shutdown {
        /// Requests under way are finished first.
        #[serde(default)]
        drain: bool,
    },
}

/// What a number of a server is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Set {
    /// This.
    To(u32),
    /// What a word stands for.
    Word(Word),
}

/// In place of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// What the config says.
    Config,
    /// No limit.
    None,
}

impl std::str::FromStr for Set {
    type Err = ();

    fn from_str(text: &str) -> Result<Set, ()> {
        match text {
            "config" => Ok(Set::Word(Word::Config)),
            "none" => Ok(Set::Word(Word::None)),
            number => number.parse().map(Set::To).map_err(drop),
        }
    }
}

impl Set {
    /// A weight; `None`: the config's. Errors: it is none, for a person.
    pub fn of_weight(self) -> Result<Option<u32>, String> {
        match self {
            Set::Word(Word::Config) => Ok(None),
            Set::To(weight) if weight <= WEIGHT_MAX => Ok(Some(weight)),
            Set::To(weight) => Err(format!("{weight} is too much for a weight: write 0 to {WEIGHT_MAX}, or `config`")),
            Set::Word(Word::None) => {
                Err(format!("`none` is no weight: write 0 to {WEIGHT_MAX}, or `config`; 0 takes no new requests"))
            }
        }
    }

    /// A limit, or none; `None`: the config's. Errors: it is neither, for a person.
    pub fn of_limit(self) -> Result<Option<Option<u32>>, String> {
        match self {
            Set::Word(Word::Config) => Ok(None),
            Set::Word(Word::None) => Ok(Some(None)),
            Set::To(limit @ 1..=LIMIT_MAX) => Ok(Some(Some(limit))),
            Set::To(limit) => Err(format!(
                "{limit} is no limit of requests: write 1 to {LIMIT_MAX}, `none` for any number, or `config`"
            )),
        }
    }
}

/// [`AdminState`] as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// See [`AdminState::Ready`].
    Ready,
    /// See [`AdminState::Drain`].
    Drain,
    /// See [`AdminState::Maintenance`].
    Maintenance,
}

impl From<State> for AdminState {
    fn from(state: State) -> AdminState {
        match state {
            State::Ready => AdminState::Ready,
            State::Drain => AdminState::Drain,
            State::Maintenance => AdminState::Maintenance,
        }
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// It was done.
    pub ok: bool,
    /// What the request says comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// Why it was not done, for a person; may have several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Answer {
    fn done(result: impl Serialize) -> Answer {
        match serde_json::to_value(result) {
            Ok(result) => Answer { ok: true, result: Some(result), error: None },
            Err(error) => Answer::refused(format!("the answer cannot be written: {error}")),
        }
    }

    fn refused(error: impl Into<String>) -> Answer {
        Answer { ok: false, result: None, error: Some(error.into()) }
    }
}

/// A reload that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file that was read; `None`: there is none, and certificates alone were loaded.
    pub file: Option<String>,
    /// Configs before this one in this process.
    pub generation: u32,
    /// Listeners that are new.
    pub opened: Vec<String>,
    /// Listeners that accept no more; their connections finish what they have.
    pub closed: Vec<String>,
    /// What of the new config is not applied before a restart.
    pub needs_restart: Vec<String>,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// A reload that was not done: nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For a person.
    pub text: String,
    /// The same for a terminal.
    pub colored: String,
    /// One line for each mistake.
    pub mistakes: Vec<String>,
}

impl Refusal {
    /// One line.
    pub fn plain(line: impl Into<String>) -> Refusal {
        let line = line.into();
        let text = format!("error: {line}\n");
        Refusal { colored: text.clone(), text, mistakes: vec![line] }
    }
}

/// A server whose state was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// `UPSTREAM/ADDRESS`.
    pub server: String,
    /// The state it has now.
    pub state: String,
    /// The state it had.
    pub was: String,
}

/// A server whose weight was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// `UPSTREAM/ADDRESS`.
    pub server: String,
    /// The weight it has now.
    pub weight: u32,
    /// The weight it had.
    pub was: u32,
    /// That of the config.
    pub config: u32,
}

/// A server whose limit was set; `None` is any number of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// `UPSTREAM/ADDRESS`.
    pub server: String,
    /// The limit it has now.
    pub limit: Option<u32>,
    /// The limit it had.
    pub was: Option<u32>,
    /// That of the config.
    pub config: Option<u32>,
}

/// An upstream with a server more or less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Populated {
    /// `UPSTREAM/ADDRESS` of the server.
    pub server: String,
    /// Servers that the upstream has now.
    pub servers: usize,
}

/// An upstream that was told to go back. Tiers are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBack {
    /// Its name.
    pub upstream: String,
    /// The tier that is held now.
    pub tier: usize,
    /// The tier that was held.
    pub was: usize,
}

/// Another process has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// It serves from now on.
    pub pid: u32,
    /// Finishes what it has.
    pub was: u32,
}

/// The end of the process has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// `draining` or `stopping`.
    pub phase: String,
}

/// One line of a client. Errors: what is wrong with it, for a person.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_manual_says() {
        let cases = [
            (r#"{"command":"show"}"#, Request::Show {}),
            (r#"{"command":"reload"}"#, Request::Reload { color: false }),
            (r#"{"command":"upgrade"}"#, Request::Upgrade {}),
            (r#"{"command":"mysql"}"#, Request::Mysql {}),
            (
                r#"{"command":"mysql_server","server":"db/10.0.0.7:3306","wanted":"switchover"}"#,
                Request::MysqlServer { server: "db/10.0.0.7:3306".into(), wanted: mysql::Wanted::Switchover },
            ),
            (r#"{"command":"shutdown","drain":true}"#, Request::Shutdown { drain: true }),
            (
                r#"{"command":"server_weight","server":"api/10.0.0.7:80","weight":5}"#,
                Request::ServerWeight { server: "api/10.0.0.7:80".into(), weight: Set::To(5) },
            ),
            (
                r#"{"command":"server_limit","server":"api/10.0.0.7:80","limit":"none"}"#,
                Request::ServerLimit { server: "api/10.0.0.7:80".into(), limit: Set::Word(Word::None) },
            ),
            (
                r#"{"command":"add_server","server":"api/10.0.0.7:80","weight":2}"#,
                Request::AddServer {
                    server: "api/10.0.0.7:80".into(),
                    weight: Some(2),
                    tier: None,
                    backup: false,
                    limit: None,
                },
            ),
            (r#"{"command":"remove_server","server":"api/a"}"#, Request::RemoveServer { server: "api/a".into() }),
            (
                r#"{"command":"mysql_digests","splitter":"db","sort":"errors"}"#,
                Request::MysqlDigests { splitter: "db".into(), sort: digests::Sort::Errors, limit: None },
            ),
            (
                r#"{"command":"reset_mysql_digests","splitter":"db"}"#,
                Request::ResetMysqlDigests { splitter: "db".into() },
            ),
            (r#"{"command":"apps"}"#, Request::Apps {}),
            (
                r#"{"command":"app","app":"shop","want":"restart"}"#,
                Request::App { app: "shop".into(), want: Wanted::Restart },
            ),
            (r#"{"command":"fail_back","upstream":"api"}"#, Request::FailBack { upstream: "api".into() }),
            (
                r#"{"command":"server","server":"api/unix:/run/a.sock","state":"maintenance"}"#,
                Request::Server { server: "api/unix:/run/a.sock".into(), state: State::Maintenance },
            ),
        ];
        for (text, request) in cases {
            assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&request), "{text}");
        }
        for bad in ["", "show", r#"{"command":"stop"}"#, r#"{"command":"reload","colour":true}"#, "{}", "[]"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_weight_and_a_limit_are_numbers_or_words() {
        let [number, zero, large, config, none] =
            ["9", "0", "1000001", "config", "none"].map(|text| text.parse::<Set>());
        let (number, zero, large) = (number.unwrap(), zero.unwrap(), large.unwrap());
        let (config, none) = (config.unwrap(), none.unwrap());
        assert_eq!((number.of_weight(), zero.of_weight(), config.of_weight()), (Ok(Some(9)), Ok(Some(0)), Ok(None)));
        assert_eq!(
            (number.of_limit(), none.of_limit(), config.of_limit()),
            (Ok(Some(Some(9))), Ok(Some(None)), Ok(None))
        );
        let refused = [large.of_weight().is_err(), none.of_weight().is_err(), zero.of_limit().is_err()];
        assert_eq!((refused, large.of_limit().is_err()), ([true; 3], true));
        assert!(["", "-1", "1.5", "Config", "99999999999"].iter().all(|bad| bad.parse::<Set>().is_err()));
    }
}
