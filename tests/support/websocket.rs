//! What clients of WebSockets need: the opening, and the steps of a client of HTTP/2 or HTTP/3 (tests/peers).

use base64::Engine;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::Server;
use super::http3::{Running, Seen, begin as begin_http3, begin_http2};

/// Of a client whose connection carries many streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http2,
    Http3,
}

impl Version {
    /// The code with which a stream ends that is given up: CANCEL, H3_REQUEST_CANCELLED.
    pub(crate) fn cancelled(self) -> u64 {
        if self == Version::Http2 { 8 } else { 0x10c }
    }

    pub(crate) fn in_log(self) -> &'static str {
        if self == Version::Http2 { "HTTP/2.0" } else { "HTTP/3.0" }
    }
}

pub(crate) fn begin(server: &Server, version: Version, steps: Value) -> Running {
    match version {
        Version::Http2 => begin_http2(server, steps),
        Version::Http3 => begin_http3(server, json!({}), steps),
    }
}

pub(crate) fn run(server: &Server, version: Version, steps: Value) -> Seen {
    begin(server, version, steps).end()
}

/// The answer to a key (RFC 6455 section 4.2.2).
pub(crate) fn accept_of(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// A step: until the end of an exchange.
pub(crate) fn wait(name: &str) -> Value {
    json!({ "op": "wait", "name": name })
}

/// Until its head is there.
pub(crate) fn wait_for_head(name: &str) -> Value {
    json!({ "op": "wait", "name": name, "head": true })
}

/// Until so many bytes of content are.
pub(crate) fn wait_for(name: &str, length: usize) -> Value {
    json!({ "op": "wait", "name": name, "length": length })
}

/// Sends content.
pub(crate) fn more(name: &str, content: impl Into<Value>) -> Value {
    json!({ "op": "more", "name": name, "content": content.into() })
}

/// Sends content and ends.
pub(crate) fn last(name: &str, content: &str) -> Value {
    json!({ "op": "more", "name": name, "content": content, "ends": true })
}

/// Tells the test that the steps before are done.
pub(crate) fn signal(name: &str) -> Value {
    json!({ "op": "signal", "name": name })
}
