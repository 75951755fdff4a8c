//! Read or write? A lexer, a classifier over its tokens, and a cache of classes. Pure.

pub mod builtins;
pub mod cache;
pub mod classify;
pub mod lexer;

pub use cache::Cache;
pub use classify::{Access, Class, Kind, Pin, classify, diagnostics, used_schema};
pub use lexer::{Charset, Mode};
