//! Control plane: everything one thread does beside the path of requests.
//!
//! | module | does |
//! |---|---|
//! | [`shared`] | what the threads of the process show each other: counters, server states, phase |
//! | [`server_state`] | the part of it about one server: up, down, ejected, and why |
//! | [`admin`] | the admin listener: `/metrics`, `/status`, `/trace`, `/digests`, `/livez`, `/readyz` |
//! | [`ctl`] | the control socket: what `one-server ctl` sees and changes |
//! | [`checks`] | health of upstream servers: active checks, outliers of live traffic |
//! | [`names`] | what names of servers lead to, asked for again and again |
//! | [`haproxy`] | the same and the counters in HAProxy's runtime protocol, for its tools |
//! | [`processes`] | programs that are started, watched and replaced |
//! | [`orders`] | what the operator wants of servers while they run |
//! | [`tiers`] | when an earlier tier of servers is used again |
//!
//! All of it runs on the control thread's tokio runtime. Data workers are read, never waited for.

pub mod admin;
pub mod checks;
pub mod ctl;
mod exposition;
pub mod haproxy;
mod lines;
pub mod names;
pub mod orders;
pub mod processes;
mod prometheus;
mod sampler;
pub mod server_state;
pub mod shared;
mod status;
pub mod tiers;
mod trace_ring;
mod udp_view;
mod usage;

pub use shared::Shared;
