//! MySQL read/write splitter: writes and whatever is doubtful to the primary, certain reads to fresh replicas.
//!
//! A client speaks to the splitter as to one server, in clear or over TLS, compressed or not. Between statements its session
//! holds no connection to a server unless it has to ([`session`]); the pool of each data worker lends connections
//! that are in the state the session must see ([`pool`], [`backend`]). Results pass through by packet framing
//! ([`protocol::follow`]).
//!
//! ```text
//! client -> serve (login) -> client (commands) -> sql (class) -> session (route) -> statement -> acquire -> pool -> backend
//!                                    steer (rules) -^                causal, replicas -^   ^- quota, upkeep
//!                                     monitor -> look -> topology -> govern -> shared -^
//! ```
//! What a read must see, and on which replica it waits for it, is in `causal`, over the positions of [`gtid`] and the tokens
//! of [`token`]; READ ONLY transactions on replicas are in `read_only`. KILL finds a client by the id that the splitter gave it
//! ([`presence`], `kill`).
//!
//! With what sessions begin, the global values of the primary, and that they keep it, is in `defaults` and `begun`.
//!
//! What triggers and views do that no statement shows is read from the servers ([`survey`]).
//!
//! [`quota`] keeps the connections of all data workers within their limits. `insight` tells of every statement that is over: by
//! normal form, and in the slow log.
//!
//! Which server is the primary is in the config, or found out ([`topology`]); every change has a number, the epoch, and a
//! connection to the primary counts only in its own ([`lead`]). While there is none, statements wait (`hold`).
//!
//! Absent on purpose: MariaDB's bulk operations, the PROXY protocol towards servers, whose connections are lent to one client after
//! the other, and replication commands, which are refused with an error that says so.

pub mod account;
mod acquire;
pub mod backend;
mod begun;
mod causal;
pub mod client;
mod closing;
mod commands;
mod defaults;
mod diagnostics;
mod finish;
mod frontier;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod get_diagnostics;
pub mod govern;
pub mod gtid;
pub mod gtid_check;
pub mod gtid_set;
mod hashed;
mod hold;
mod insight;
mod kill;
pub mod lead;
pub mod lease;
mod login;
mod look;
mod lost;
pub mod monitor;
mod moving;
pub mod node;
pub mod pool;
mod prepared;
pub mod presence;
mod probe;
pub mod protocol;
pub mod quota;
mod read_only;
mod relay;
mod renew;
mod replicas;
pub mod rules;
pub mod serve;
pub mod session;
mod settings;
pub mod shared;
pub mod sql;
pub mod statement;
mod steer;
pub mod survey;
mod time_limit;
pub mod token;
pub mod topology;
pub mod transport;
mod upkeep;
pub mod wire;

pub use serve::Splitter;
pub use shared::Shared;
