//! What the access log is told about one request.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::metrics::ServedBy;

/// One answered request. Borrows everything; `None` is a header field the request did not have.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the answer had left, which is the time nginx logs.
    pub time: SystemTime,
    /// The client's address as text; see [`AddressText`].
    pub remote_addr: &'a [u8],
    /// Method; empty when the head could not be parsed.
    pub method: &'a [u8],
    /// Request target as received, not decoded. For a head that could not be parsed: its first line, or empty.
    pub target: &'a [u8],
    /// `HTTP/1.1` and the like; empty when the head could not be parsed.
    pub protocol: &'a [u8],
    /// Status sent; 0 when the connection was closed without an answer.
    pub status: u16,
    /// Bytes of the response body sent, framing not counted.
    pub body_bytes: u64,
    /// Complete head to last byte sent.
    pub duration: Duration,
    /// Field `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Field `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Field `Host`.
    pub host: Option<&'a [u8]>,
    /// Identifier of the request.
    pub request_id: u64,
    /// What answered.
    pub served_by: ServedBy,
}

/// The text of an IP address without an allocation, to be made once a connection.
#[derive(Clone, Copy, Debug)]
pub struct AddressText {
    text: [u8; 45],
    bytes: u8,
}

impl AddressText {
    /// The address as nginx writes it: an IPv4 address inside an IPv6 one stays `::ffff:192.0.2.1`; `None`, a client
    /// on a Unix socket, is `unix:`.
    pub fn new(address: Option<IpAddr>) -> AddressText {
        let mut text = [0; 45]; // longest: an IPv6 address that ends in dotted IPv4 (INET6_ADDRSTRLEN - 1)
        let mut rest = &mut text[..];
        // Cannot fail: there is room for the longest address. A cut text would do no harm.
        drop(match address {
            Some(address) => write!(rest, "{address}"),
            None => write!(rest, "unix:"),
        });
        let bytes = (45 - rest.len()) as u8;
        AddressText { text, bytes }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.bytes)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_std_does() {
        for text in ["1.2.3.4", "255.255.255.255", "::1", "::ffff:192.0.2.1", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"]
        {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressText::new(Some(address)).as_bytes(), address.to_string().as_bytes());
        }
        assert_eq!(AddressText::new(None).as_bytes(), b"unix:");
    }
}
