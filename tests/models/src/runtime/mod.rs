//! See `src/runtime` of the program.

#[path = "../../../../src/runtime/body.rs"]
mod body;
#[path = "../../../../src/runtime/crew.rs"]
mod crew;
#[path = "../../../../src/runtime/mailbox.rs"]
mod mailbox;
#[path = "../../../../src/runtime/sync.rs"]
pub(crate) mod sync;

/// What a gate knows of addresses: that they can be compared.
pub(crate) mod net {
    #[derive(Clone, PartialEq)]
    pub(crate) enum Address {
        Unix(std::path::PathBuf),
    }
}
