//! Read or write? A lexer, a classifier and a normaliser over its tokens, and a cache of what they found. Pure.

pub mod batch;
pub mod builtins;
pub mod cache;
pub mod class;
pub mod classify;
pub mod digest;
pub mod hidden;
pub mod hint;
mod keywords;
pub mod kill;
pub mod lexer;
mod limited;
pub mod locks;
pub mod own;
mod skeleton;
mod variables;

pub use batch::{Batch, First};
pub use builtins::Flavour;
pub use cache::{Cache, Seen};
pub use class::{Access, Class, Forgets, Kind, Pin, diagnostics};
pub use classify::{classify, used_schema};
pub use hint::Hint;
pub use lexer::{Charset, Mode};
pub use locks::LockStep;
