//! Who the client is, and whether it may come in: decided before work is spent on a request.
//!
//! In: addresses, header bytes, passwords, `now`. Out: an address, a verdict, a pace. Everything is pure and bounded, except for
//! [`Hasher`], the one thread that computes slow password hashes so that no data worker ever does. [`PerAddress`] and
//! [`Limiter`] count for all data workers together, because a limit of each would be one times the number of cores.
//!
//! Deliberately absent: any mechanism of login but Basic.

pub mod basic_auth;
mod crypt;
mod flow_limits;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod hasher;
pub mod htpasswd;
mod limiter;
pub mod network_map;
pub mod networks;
mod pace;
mod per_address;
pub mod proxy_protocol;
pub mod rate;
pub mod real_ip;
mod slots;
mod sweep;
mod throttle;
pub mod verified;

pub use basic_auth::{Auth, Credentials};
pub use flow_limits::{FlowLimits, FlowPlace, NoPlace};
pub use hasher::Hasher;
pub use htpasswd::Users;
pub use limiter::{Allowed, Entry, Key, Limiter, Ticket, Turn};
pub use networks::{AddressRules, Networks, Source};
pub use pace::{LeastRate, Pace};
pub use per_address::{PerAddress, Place};
pub use real_ip::Trust;
pub use throttle::{Allowance, Throttle};
pub use verified::{Check, Verdict, Verified};
