//! Leaving HTTP for another protocol (RFC 9110 section 7.8): what a client may ask for, and whether a server's 101 is an
//! answer to that. Pure.
//!
//! Only protocols that the operator names are asked for, WebSocket (RFC 6455) as a rule. `h2c` never is, because a server
//! that took it would speak HTTP/2 behind our back, past every rule for requests ("h2c smuggling").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::http::h1::{BodyKind, FieldName, Method, RequestHead, ResponseHead, list_elements};

/// The protocol that `head` asks for, as the client spelt it, if it is one of `allowed` (lower-case names without a
/// version). `None`: the request is an ordinary one, whatever its Upgrade says (a server may ignore it).
///
/// Only for GET without content: what is behind the head then belongs to the new protocol and nothing else.
pub fn asked<'a>(head: &RequestHead, bytes: &'a [u8], allowed: &[Box<str>]) -> Option<&'a [u8]> {
    if !head.upgrade || head.method != Method::Get || head.body != BodyKind::None {
        return None;
    }
    let fields = head.fields.iter().filter(|field| field.known == FieldName::Upgrade);
    let mut offers = fields.flat_map(|field| list_elements(field.value.of(bytes)));
    offers.find(|offer| {
        let name = memchr::memchr(b'/', offer).map_or(*offer, |slash| &offer[..slash]);
        let is_http2 = name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2");
        !is_http2 && allowed.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    })
}

/// Whether the 101 in `head` switches to the protocol that was `asked` for: a server must not choose another.
pub fn is_agreed(head: &ResponseHead, bytes: &[u8], asked: &[u8]) -> bool {
    let fields = head.fields.iter().filter(|field| field.known == FieldName::Upgrade);
    let mut chosen = fields.flat_map(|field| list_elements(field.value.of(bytes)));
    head.status == 101
        && chosen.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(asked))
        && chosen.next().is_none()
}

/// What a server is asked to prove that it speaks WebSocket (RFC 6455 section 4.1), for a client of HTTP/2 or HTTP/3, which
/// has no key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey([u8; WebSocketKey::BYTES]);

impl WebSocketKey {
    /// 16 bytes in base64.
    const BYTES: usize = 24;

    /// `nonce` must be random.
    pub fn new(nonce: [u8; 16]) -> WebSocketKey {
        let mut text = [0; Self::BYTES];
        STANDARD.encode_slice(nonce, &mut text).expect("16 bytes are 24 in base64");
        WebSocketKey(text)
    }

    /// The value of Sec-WebSocket-Key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the 101 in `head` has the one Sec-WebSocket-Accept that answers it (RFC 6455 section 4.2.2).
    pub fn is_answered_by(&self, head: &ResponseHead, bytes: &[u8]) -> bool {
        const NAME: &[u8] = b"sec-websocket-accept";
        let expected = accept_of(&self.0);
        let fields = head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(NAME));
        let mut values = fields.map(|field| field.value.of(bytes));
        values.next() == Some(expected.as_bytes()) && values.next().is_none()
    }
}

/// The key of a client of HTTP/1.1 that asks for a WebSocket; `None`: there is none, or it is not 16 bytes in base64
/// (RFC 6455 section 4.2.1), so that nobody can answer it.
pub fn client_key<'a>(head: &RequestHead, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let is_key = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-key");
    let mut keys = head.fields.iter().filter(|field| field.known == FieldName::Other && is_key(field.name.of(bytes)));
    let key = keys.next().filter(|_| keys.next().is_none())?.value.of(bytes);
    let is_good = key.len() == WebSocketKey::BYTES && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    is_good.then_some(key)
}

/// The Sec-WebSocket-Accept that answers `key` (RFC 6455 section 4.2.2).
pub fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::{Limits, parse_request, parse_response};

    fn asks(text: &str) -> Option<String> {
        let (mut head, bytes) = (RequestHead::default(), text.replace('\n', "\r\n"));
        let parsed = parse_request(bytes.as_bytes(), &Limits::default(), &mut head);
        assert_eq!(parsed, Ok(Some(())), "{text}");
        let allowed = ["websocket".into(), "irc".into()];
        asked(&head, bytes.as_bytes(), &allowed).map(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    #[test]
    fn only_what_is_allowed_is_asked_for() {
        let head = |fields: &str| format!("GET / HTTP/1.1\nHost: a\n{fields}\n\n");
        for (fields, expect) in [
            ("Connection: Upgrade\nUpgrade: websocket", Some("websocket")),
            ("Connection: keep-alive, upgrade\nUpgrade: WebSocket", Some("WebSocket")),
            ("Connection: upgrade\nUpgrade: h2c, websocket", Some("websocket")),
            ("Connection: upgrade\nUpgrade: h2c\nUpgrade: IRC/6.9", Some("IRC/6.9")),
            ("Connection: upgrade\nUpgrade: h2c", None),
            ("Connection: upgrade\nUpgrade: tls/1.0", None),
            ("Upgrade: websocket", None),
            ("Connection: upgrade", None),
            ("Connection: upgrade\nUpgrade: websocket\nContent-Length: 3", None),
            ("Connection: upgrade\nUpgrade: websocket\nTransfer-Encoding: chunked", None),
        ] {
            assert_eq!(asks(&head(fields)).as_deref(), expect, "{fields}");
        }
        assert_eq!(asks("POST / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: websocket\n\n"), None);
        assert_eq!(asks("GET / HTTP/1.0\nHost: a\nConnection: upgrade\nUpgrade: websocket\n\n"), None);
    }

    #[test]
    fn a_server_may_only_switch_to_what_was_asked_for() {
        let agrees = |fields: &str| {
            let text = format!("HTTP/1.1 101 Switching Protocols\n{fields}\n\n").replace('\n', "\r\n");
            let mut head = ResponseHead::default();
            let parsed = parse_response(text.as_bytes(), &Limits::default(), Method::Get, &mut head);
            assert_eq!(parsed, Ok(Some(())), "{text}");
            is_agreed(&head, text.as_bytes(), b"websocket")
        };
        assert!(agrees("Connection: Upgrade\nUpgrade: WebSocket"));
        for refused in
            ["Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket, h2c", "Upgrade: websocket\nUpgrade: h2c"]
        {
            assert!(!agrees(refused), "{refused}");
        }
    }

    #[test]
    fn a_client_has_one_key() {
        let key = |fields: &str| {
            let text = format!("GET / HTTP/1.1\nHost: a\n{fields}\n").replace('\n', "\r\n");
            let mut head = RequestHead::default();
            assert_eq!(parse_request(text.as_bytes(), &Limits::default(), &mut head), Ok(Some(())), "{text}");
            client_key(&head, text.as_bytes()).map(accept_of)
        };
        let good = "Sec-WebSocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\n";
        assert_eq!(key(good).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for none in ["", "Sec-WebSocket-Key: short\n", "Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ==\n", &good.repeat(2)]
        {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn a_server_proves_that_it_speaks_websocket() {
        // The example of RFC 6455 section 1.3.
        let key = WebSocketKey::new(*b"the sample nonce");
        assert_eq!(key.as_bytes(), b"dGhlIHNhbXBsZSBub25jZQ==");
        let is_answered = |fields: &str| {
            let text = format!("HTTP/1.1 101 Switching Protocols\n{fields}\n\n").replace('\n', "\r\n");
            let mut head = ResponseHead::default();
            let parsed = parse_response(text.as_bytes(), &Limits::default(), Method::Get, &mut head);
            assert_eq!(parsed, Ok(Some(())), "{text}");
            key.is_answered_by(&head, text.as_bytes())
        };
        let good = "sec-websocket-ACCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(is_answered(good));
        for wrong in ["X: y", "Sec-WebSocket-Accept: BBBB", &format!("{good}x"), &format!("{good}\n{good}")] {
            assert!(!is_answered(wrong), "{wrong}");
        }
    }
}
