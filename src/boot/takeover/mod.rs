//! Takeover: another process, mostly a newer program, serves in the place of this one, and no connection is lost.
//!
//! ```text
//!   old                                             new
//!   starts the program with one end of a channel ─▶ reads its command line and config
//!   all sockets that listen, secrets, states ─────▶ takes those that its config names, binds the others, starts its threads
//!                            ◀──────────── ready    (which sockets it has taken)
//!   reads UDP no more
//!   go ───────────────────────────────────────────▶ accepts, from the same sockets
//!                            ◀─────────── serving
//!   accepts no more, finishes what it has, ends     reads the end of the channel
//! ```
//! Both have the same sockets meanwhile: what waits in a queue is accepted by one or the other. Whatever goes wrong before
//! `serving`, the new process is ended and the old one goes on. When the old one dies before `go`, the new one goes on.
//!
//! Messages are JSON, with descriptors beside them ([`crate::runtime::sys::handover`]). Unknown parts are ignored, missing
//! ones have a meaning: the two are of different versions as a rule.
//!
//! | file | does |
//! |---|---|
//! | `program` | which program is started |
//! | `old` | the old process's part |
//! | `new` | the new one's; also sockets from a service manager (LISTEN_FDS) |
//!
//! Deliberately absent: open connections, which nobody moves; counters, which begin at zero.

mod new;
mod old;
mod program;

use serde::{Deserialize, Serialize};

use crate::worker::KeySecrets;

pub(super) use new::{Inherited, Predecessor};
pub use new::{is_takeover, tell_failure};
pub(super) use old::{Estate, HandedOver, Present, Requested, Takeovers, deliver};
pub(super) use program::remember as remember_program;

/// Names the process that has started this one to be taken over by it.
const VARIABLE: &str = "ONE_SERVER_TAKEOVER";

/// One message of either.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Letter {
    word: Word,
    /// What the descriptors beside it are, one for each.
    sockets: Vec<SocketNote>,
    servers: Vec<ServerNote>,
    /// Applications that are processes and do not serve.
    idle: Vec<String>,
    changes: Vec<ChangeNote>,
    secrets: Option<Secrets>,
    /// With `Ready`: numbers of the sockets that were taken, in the order in which they came.
    taken: Vec<usize>,
    /// With `Failed`.
    reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// There is more to come.
    #[default]
    More,
    /// Everything has been offered.
    Offered,
    Ready,
    Failed,
    Go,
    Serving,
}

/// A socket that is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SocketNote {
    kind: Kind,
    /// Of the listener.
    name: String,
    /// As the config writes it.
    asked: String,
    /// As bound.
    address: String,
}

/// Name of a keeper with a PID namespace of its own; others have none.
const PRIVATE_KEEPER: &str = "private";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// TCP or Unix.
    Listener,
    Udp,
    /// Leads to the old process, for datagrams of its connections.
    Forward,
    /// Leads to the keeper of programs, [`SocketNote::address`] is its folder.
    Keeper,
    /// Readable when the warden of that one has ended.
    Warden,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// What is known of a server that is not simply up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ServerNote {
    upstream: String,
    server: String,
    /// [`crate::control::shared::AdminState`].
    admin: String,
    up: bool,
    reason: String,
    /// Set by the operator; `None`: as in the config.
    #[serde(default)]
    weight: Option<u32>,
    /// The same of the limit, which may be set to none.
    #[serde(default)]
    is_limit_set: bool,
    #[serde(default)]
    limit: Option<u32>,
}

/// What the operator has changed of the servers of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct ChangeNote {
    upstream: String,
    added: Vec<AddedNote>,
    /// Addresses, and names as the config writes them.
    removed: Vec<String>,
}

/// A server that the operator has added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct AddedNote {
    address: String,
    weight: u32,
    /// `None`: it is a backup.
    tier: Option<u32>,
    requests_max: Option<u32>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Secrets {
    /// What tickets are sealed with where no file says it.
    tickets: Vec<u8>,
    quic: Option<KeySecrets>,
}
