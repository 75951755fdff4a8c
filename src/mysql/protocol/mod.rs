//! The MySQL client/server protocol, one packet kind a file. Pure: bytes in, values or bytes out; nothing here owns a
//! socket, reads a clock or draws a random number.
//!
//! Every decoder takes bytes from outside and ends in a value or a [`ProtocolError`], never in a panic.
//! Source: MariaDB knowledge base, "MariaDB Protocol"; MySQL internals manual, `page_protocol_*`.

pub mod attributes;
pub mod auth;
pub mod capability;
pub mod command;
pub mod compressed;
pub mod execute;
pub mod follow;
pub mod greeting;
pub mod lenenc;
pub mod local_file;
pub mod login;
pub mod packet;
pub mod response;
pub mod tracker;

use std::fmt;

/// What is wrong with bytes that claim to be a MySQL packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The packet ends before its fields do.
    Truncated,
    /// A field has a value the protocol does not allow here; says which.
    Malformed(&'static str),
    /// The packet is longer than this many bytes.
    TooLarge(usize),
    /// The sequence id is not the next one.
    OutOfOrder,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::Truncated => f.write_str("packet ends too early"),
            ProtocolError::Malformed(what) => write!(f, "malformed packet: {what}"),
            ProtocolError::TooLarge(max) => write!(f, "packet is longer than {max} bytes"),
            ProtocolError::OutOfOrder => f.write_str("packets out of order"),
        }
    }
}

impl std::error::Error for ProtocolError {}
