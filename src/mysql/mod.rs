//! MySQL read/write splitter: writes and whatever is doubtful to the primary, certain reads to fresh replicas.
//!
//! A client speaks to the splitter as to one server, in clear or over TLS, compressed or not. Between statements its session
//! holds no connection to a server unless it has to ([`session`]); the pool of each data worker lends connections
//! that are in the state the session must see ([`pool`], [`backend`]). Results pass through by packet framing
//! ([`protocol::follow`]).
//!
//! ```text
//! client -> serve (login) -> client (commands) -> sql (class) -> session (route) -> statement -> pool -> backend
//!                                                                      monitor -> shared -^
//! ```
//! Absent on purpose: compression towards servers, LOAD DATA LOCAL, replication commands, and KILL (its
//! connection ids would be the splitter's): each is refused with an error that says so.

pub mod account;
pub mod backend;
pub mod client;
mod commands;
mod diagnostics;
pub mod gtid;
pub mod lease;
mod login;
pub mod monitor;
pub mod pool;
mod prepared;
pub mod protocol;
mod relay;
pub mod serve;
pub mod session;
pub mod shared;
pub mod sql;
pub mod statement;
pub mod transport;
pub mod wire;

pub use serve::Splitter;
pub use shared::Shared;
