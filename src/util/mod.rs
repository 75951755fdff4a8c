//! Small pure helpers that know nothing about the rest of the program.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gate;
pub mod path;
pub mod pattern;
pub mod template;
pub mod waiters;
