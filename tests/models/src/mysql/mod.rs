//! See `src/mysql` of the program.

#[path = "../../../../src/mysql/quota.rs"]
mod quota;
