//! Heads as they leave us: written anew from the parsed head, never passed on raw.
//!
//! Framing (Content-Length, Transfer-Encoding) and connection handling are always ours; fields meant for one hop are
//! left out (RFC 9110 section 7.6.1); everything else is copied in order, name and value byte for byte. So what our
//! parser understood is what the next one reads, and nothing a client writes can move the end of a message.
//!
//! Bodies, trailers ([`crate::http::trailers`]) and sockets are not handled here. The field that announces trailers goes on to
//! servers in front of a chunked body; to clients by whoever knows that they get them. Upgrade goes on only as
//! [`super::upgrade`] allows.
//!
//! In: heads and the bytes they point into, context by reference. Out: bytes appended to a `Vec`, which is all that may
//! allocate.

mod hops;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use smallvec::SmallVec;

pub use self::hops::put_via;
pub use self::request::{RequestContext, Scheme, names_client_certificate, write_request_head};
pub use self::response::{is_forwarded_interim, response_content, write_response_fields};
use crate::http::h1::{Field, FieldName, list_elements, write_decimal};

/// Fields one Connection field may name before the message is refused. Real ones name two or three; without a limit
/// the comparison of all fields with all names is work an attacker buys cheaply.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// Why a head was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Connection names more than [`CONNECTION_OPTIONS_MAX`] fields. The sender's fault: 400 for a request, 502 for a
    /// response; not to be retried.
    ConnectionOptions,
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeadError::ConnectionOptions => write!(f, "Connection names more than {CONNECTION_OPTIONS_MAX} fields"),
        }
    }
}

impl std::error::Error for HeadError {}

/// An IP address as text, made once per connection.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    text: [u8; Self::BYTES_MAX],
    len: u8,
}

impl IpText {
    /// `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`
    const BYTES_MAX: usize = 45;

    /// The text of `ip`; an IPv4 address that came in over an IPv6 socket is written as IPv4.
    pub fn new(ip: IpAddr) -> IpText {
        use std::io::Write;
        let mut text = [0; Self::BYTES_MAX];
        let mut rest = text.as_mut_slice();
        match ip.to_canonical() {
            IpAddr::V4(ip) => return IpText::of_v4(ip.octets()),
            IpAddr::V6(ip) => write!(rest, "{ip}").expect("the longest IP address fits"),
        }
        let len = (Self::BYTES_MAX - rest.len()) as u8;
        IpText { text, len }
    }

    /// By hand: formatting it would be 4 % of what we do for a request.
    fn of_v4(octets: [u8; 4]) -> IpText {
        let mut it = IpText { text: [0; Self::BYTES_MAX], len: 0 };
        let mut put = |byte: u8| {
            it.text[usize::from(it.len)] = byte;
            it.len += 1;
        };
        for (at, octet) in octets.into_iter().enumerate() {
            if at > 0 {
                put(b'.');
            }
            if octet >= 100 {
                put(b'0' + octet / 100);
            }
            if octet >= 10 {
                put(b'0' + octet / 10 % 10);
            }
            put(b'0' + octet % 10);
        }
        it
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len as usize]
    }
}

/// The fields that a message's Connection names, as far as they are not dealt with by name anyway.
struct ConnectionOptions<'a>(SmallVec<[&'a [u8]; CONNECTION_OPTIONS_MAX]>);

impl<'a> ConnectionOptions<'a> {
    fn of(fields: &[Field], bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut options = SmallVec::new();
        for field in fields.iter().filter(|field| field.known == FieldName::Connection) {
            for option in list_elements(field.value.of(bytes)).filter(|option| !is_always_handled(option)) {
                if options.len() == CONNECTION_OPTIONS_MAX {
                    return Err(HeadError::ConnectionOptions);
                }
                options.push(option);
            }
        }
        Ok(ConnectionOptions(options))
    }

    /// True when Connection names `field` and may: a field that is known to be meant for the end of the path is never
    /// removed on the word of a client, who could hide from a server what we or a proxy before us wrote.
    fn remove(&self, field: &Field, name: &[u8]) -> bool {
        !self.0.is_empty()
            && field.known == FieldName::Other
            && self.0.iter().any(|option| option.eq_ignore_ascii_case(name))
            && !is_end_to_end(name)
    }
}

/// Options that name no further field, or one that is removed in any case.
fn is_always_handled(option: &[u8]) -> bool {
    const HANDLED: [&[u8]; 6] = [b"close", b"keep-alive", b"upgrade", b"te", b"transfer-encoding", b"proxy-connection"];
    HANDLED.iter().any(|handled| option.eq_ignore_ascii_case(handled))
}

/// Fields without a [`FieldName`] of their own that Connection cannot remove. Those with one are either removed always
/// or never.
fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"cache-control", b"x-real-ip", b"early-data", b"max-forwards"];
    const PREFIXES: [&[u8]; 2] = [b"x-forwarded-", b"content-"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || PREFIXES.iter().any(|prefix| name.len() > prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix))
}

/// Fields for one hop, and the framing fields that we write ourselves.
fn is_hop_by_hop_or_framing(name: FieldName) -> bool {
    use FieldName::*;
    matches!(
        name,
        Connection
            | ContentLength
            | KeepAlive
            | ProxyAuthenticate
            | ProxyAuthorization
            | ProxyConnection
            | Te
            | Trailer
            | TransferEncoding
            | Upgrade
    )
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn put_content_length(out: &mut Vec<u8>, body_bytes: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write_decimal(out, body_bytes);
    out.extend_from_slice(b"\r\n");
}
