//! Control plane: everything one thread does beside the path of requests.
//!
//! | module | does |
//! |---|---|
//! | [`shared`] | what the threads of the process show each other: counters, server states, phase |
//! | [`admin`] | the admin listener: `/metrics`, `/status`, `/trace`, `/livez`, `/readyz` |
//! | [`checks`] | active health checks of upstream servers |
//! | [`tiers`] | when an earlier tier of servers is used again |
//!
//! All of it runs on the control thread's tokio runtime. Data workers are read, never waited for.

pub mod admin;
pub mod checks;
mod exposition;
mod prometheus;
mod sampler;
pub mod shared;
mod status;
pub mod tiers;
mod trace_ring;
mod usage;

pub use shared::Shared;
