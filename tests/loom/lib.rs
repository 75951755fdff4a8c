//! See `Cargo.toml` beside this file. Runs with `RUSTFLAGS="--cfg loom"` only; without the flag there is nothing here.
#![cfg(loom)]

#[path = "../../src/runtime/mailbox.rs"]
pub mod mailbox;
