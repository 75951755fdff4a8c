//! Other words in the place of some words of an answer's body: nginx's `sub_filter`. Pure.
//!
//! | file | does |
//! |---|---|
//! | `policy` | [`Policy`]: the compiled `substitute` of the config; which answers are changed |
//! | `machine` | [`Texts`], what is looked for; [`Substitution`]: one body on its way, bytes in, bytes out |
//! | `fields` | what a change of the body changes in the fields of an answer |
//! | `fuzz` | what must hold for any body, for tests and `fuzz/` |
//!
//! The way of an answer: [`Policy::applies`] says whether its body is changed, [`apply`] changes its fields,
//! [`Policy::begin`] gives the machine its body goes through, before any content coding. A 304 gets [`not_modified`]. Not
//! here: framing, which changes too (the length is no longer known), and the decoding of bodies that come coded.

mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod machine;
mod policy;

pub use fields::{apply, not_modified};
pub use machine::{Step, Substitution, Texts};
pub use policy::{PAIRS_MAX, Policy, TEXT_BYTES_MAX};
