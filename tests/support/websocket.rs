//! What the opening of a WebSocket needs.

use base64::Engine;
use sha1::{Digest, Sha1};

/// The answer to a key (RFC 6455 section 4.2.2).
pub(crate) fn accept_of(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64::engine::general_purpose::STANDARD.encode(hash)
}
