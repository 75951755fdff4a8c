//! MySQL read/write splitter: writes and whatever is doubtful to the primary, certain reads to fresh replicas.
//!
//! A client speaks to the splitter as to one server, in clear or over TLS, compressed or not. Between statements its session
//! holds no connection to a server unless it has to ([`session`]); the pool of each data worker lends connections
//! that are in the state the session must see ([`pool`], [`backend`]). Results pass through by packet framing
//! ([`protocol::follow`]).
//!
//! ```text
//! client -> serve (login) -> client (commands) -> sql (class) -> session (route) -> statement -> acquire -> pool -> backend
//!                                                       monitor -> shared -> causal, replicas -^
//! ```
//! What a read must see, and on which replica it waits for it, is in `causal`, over the positions of [`gtid`] and the tokens
//! of [`token`]; READ ONLY transactions on replicas are in `read_only`.
//!
//! Absent on purpose: compression towards servers, LOAD DATA LOCAL, replication commands, and KILL (its
//! connection ids would be the splitter's): each is refused with an error that says so.

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
pub mod lease;
mod login;
pub mod monitor;
pub mod node;
pub mod pool;
mod prepared;
pub mod protocol;
mod read_only;
mod relay;
mod replicas;
pub mod serve;
pub mod session;
pub mod shared;
pub mod sql;
pub mod statement;
pub mod token;
pub mod transport;
pub mod wire;

pub use serve::Splitter;
pub use shared::Shared;
