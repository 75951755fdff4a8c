//! Config: text → written model with spans → checked, compiled, immutable [`Config`]; diagnostics.

pub mod model;

pub use model::Config;
