//! HTTP/3: QUIC connections over the UDP socket that this worker has of a listener.
//!
//! ```text
//!   socket ──datagrams──▶ endpoint ──▶ link ──▶ stream ──▶ exchange ──▶ action
//!     │                      │ id of another worker            │
//!     │                      └──▶ its mailbox                  │
//!     ◀────────────────── link ◀── stream ◀──── answer ◀───────┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | `settings` | what all connections of the process are made with |
//! | `endpoints` | which sockets there are, as configs come and go |
//! | `endpoint` | datagrams to connections, new connections, packets of others' connections |
//! | `generation` | datagrams for the process before this one, after a takeover |
//! | `link` | one connection: its driver, and what that shares with the streams |
//! | `closing` | when a connection ends: idle time, drain, GOAWAY |
//! | `request` | one request from its first byte to its accounting |
//! | `stream` | the two directions of a request |
//! | `incoming` | what a client sends on a stream, piece by piece |
//!
//! The crate `quinn-proto` owns QUIC and does no I/O: packets, loss, congestion, flow control, migration, address
//! validation. What HTTP/3 adds is in [`crate::http::h3`].

mod closing;
mod endpoint;
mod endpoints;
mod generation;
mod incoming;
mod link;
mod request;
mod settings;
mod stream;

pub(crate) use self::endpoint::Datagram;
pub(super) use self::endpoints::Endpoints;
pub(crate) use self::endpoints::{Left, QuicSocket};
pub(crate) use self::generation::{Passed, find_owner};
pub(crate) use self::settings::{KeySecrets, Keys};
pub(super) use self::stream::{Receiver, Stream};
