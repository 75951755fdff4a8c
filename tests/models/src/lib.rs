//! The files that hold models (`loom_…`), at the places in the tree of modules that they know each other by.

mod mysql;
mod proxy;
mod runtime;
mod util;
