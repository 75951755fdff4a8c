//! System calls that std does not offer, one topic a file. Thin: no decision about a protocol is taken here.

#[cfg(test)]
pub(crate) mod allocations;
pub mod files;
pub mod handover;
pub mod limits;
pub mod memory;
mod open_file;
pub mod outputs;
pub mod pid_namespace;
pub mod processes;
mod sendfile;
pub mod splice;
pub mod users;
mod walk;
