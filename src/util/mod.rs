//! Small pure helpers that know nothing about the rest of the program.

pub mod captures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gate;
pub mod growing;
pub mod matcher;
pub mod moment;
pub mod names;
pub mod path;
pub mod pattern;
pub mod random;
pub mod seldom;
pub mod template;
pub mod waiters;
