//! MySQL read/write splitter: writes and whatever is doubtful to the primary, certain reads to fresh replicas.
//!
//! A client speaks to the splitter as to one server, in clear or over TLS, compressed or not. Between statements its session
//! holds no connection to a server unless it has to ([`session`]); the pool of each data worker lends connections
//! that are in the state the session must see ([`pool`], [`backend`]). Results pass through by packet framing
//! ([`protocol::follow`]).
//!
//! ```text
//! client -> serve (login) -> client (commands) -> sql (class) -> session (route) -> statement -> acquire -> pool -> backend
//!                                    steer (rules) -^  monitor -> shared -> causal, replicas -^   ^- quota, upkeep
//! ```
//! What a read must see, and on which replica it waits for it, is in `causal`, over the positions of [`gtid`] and the tokens
//! of [`token`]; READ ONLY transactions on replicas are in `read_only`. KILL finds a client by the id that the splitter gave it
//! ([`presence`], `kill`).
//!
//! [`quota`] keeps the connections of all data workers within their limits. `insight` tells of every statement that is over: by
//! normal form, and in the slow log.
//!
//! Absent on purpose: compression towards servers, MariaDB's bulk operations, and replication commands, which are refused
//! with an error that says so.

pub mod account;
mod acquire;
pub mod backend;
mod causal;
pub mod client;
mod commands;
mod diagnostics;
mod frontier;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gtid;
pub mod gtid_check;
pub mod gtid_set;
mod insight;
mod kill;
pub mod lease;
mod login;
pub mod monitor;
pub mod node;
pub mod pool;
mod prepared;
pub mod presence;
pub mod protocol;
pub mod quota;
mod read_only;
mod relay;
mod replicas;
pub mod rules;
pub mod serve;
pub mod session;
pub mod shared;
pub mod sql;
pub mod statement;
mod steer;
mod time_limit;
pub mod token;
pub mod transport;
mod upkeep;
pub mod wire;

pub use serve::Splitter;
pub use shared::Shared;
