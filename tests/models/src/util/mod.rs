//! See `src/util` of the program.

#[path = "../../../../src/util/growing.rs"]
pub(crate) mod growing;
