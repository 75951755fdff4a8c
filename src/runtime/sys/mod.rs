//! System calls that std does not offer, one topic a file. Thin: no decision about a protocol is taken here.

pub mod files;
pub mod limits;
