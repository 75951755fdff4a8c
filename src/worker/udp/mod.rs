//! UDP mode: datagrams of clients to servers, and answers back.
//!
//! ```text
//!   socket of the listener ──datagram──▶ flow of its client ──▶ socket of the flow ──▶ server
//!           ◀───────────────── answers, from the address that was asked ◀───────────────┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | `endpoints` | which listeners there are, as configs come and go |
//! | `endpoint` | one listener on this worker: datagrams to flows, answers to clients, the ends of flows |
//! | `begin` | a new flow: who may have one, at which server |
//! | `trail` | what a flow leaves behind |
//!
//! Which datagrams belong together, and when a flow is over, is decided in [`crate::proxy::flows`]. Every flow has a socket of
//! its own that is connected to its server: the kernel lets nothing else in, and tells when nobody is there. Answers go to the
//! client of the flow alone, so that nobody can make us answer a third one who has sent nothing.

mod begin;
mod endpoint;
mod endpoints;
mod trail;

pub(super) use self::endpoints::Endpoints;
pub(crate) use self::endpoints::FlowSocket;
