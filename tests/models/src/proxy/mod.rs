//! See `src/proxy` of the program.

#[path = "../../../../src/proxy/gate/mod.rs"]
mod gate;
