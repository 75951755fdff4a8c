//! See `src/mysql` of the program.

#[path = "../../../../src/mysql/closing.rs"]
mod closing;
#[path = "../../../../src/mysql/quota.rs"]
mod quota;
