//! Small pure helpers that know nothing about the rest of the program.

pub mod path;
pub mod waiters;
