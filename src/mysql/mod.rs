//! MySQL read/write splitter.
pub mod backend;
pub mod gtid;
pub mod pool;
pub mod protocol;
pub mod session;
pub mod shared;
pub mod sql;
