//! What the variables of templates are worth for one request.

use std::io::Write;

use super::Worker;
use super::connection::Connection;
use super::exchange::Request;
use crate::http::h1::{RequestHead, Version, write_decimal};
use crate::route::Captures;
use crate::util::template::{Variable, Variables};

/// A request in clear text over HTTP/1, before its answer.
pub(super) struct RequestVariables<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
    pub(super) head: &'a RequestHead,
    /// What `head` was parsed from.
    pub(super) bytes: &'a [u8],
    pub(super) request_id: u64,
    /// Index into the config's sites.
    pub(super) site: usize,
    /// Decoded; what `captures` point into.
    pub(super) path: &'a [u8],
    pub(super) captures: Captures,
}

impl Variables for RequestVariables<'_> {
    fn put(&self, variable: &Variable, out: &mut Vec<u8>) {
        let (head, bytes) = (self.head, self.bytes);
        match variable {
            Variable::Host => self.put_host(out),
            Variable::Path => out.extend_from_slice(self.path),
            Variable::Query => out.extend_from_slice(head.query(bytes).unwrap_or_default()),
            Variable::IsArgs if head.query(bytes).is_some_and(|query| !query.is_empty()) => out.push(b'?'),
            Variable::RequestUri => out.extend_from_slice(head.target(bytes)),
            Variable::RequestMethod => out.extend_from_slice(head.method_text.of(bytes)),
            Variable::Scheme => out.extend_from_slice(b"http"),
            Variable::RemoteAddr => out.extend_from_slice(self.connection.peer_text().as_bytes()),
            Variable::RemotePort => put_number(self.connection.peer.map(|peer| peer.port()), out),
            Variable::ForwardedFor => self.put_forwarded_for(out),
            Variable::ServerName => out.extend_from_slice(self.worker.config.sites[self.site].name.as_bytes()),
            Variable::ServerPort => put_number(Some(self.worker.ports[self.connection.listener as usize]), out),
            Variable::ServerAddr => {
                let address = self.worker.config.listeners[self.connection.listener as usize].address;
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{}", address.ip());
            }
            Variable::ServerProtocol => out.extend_from_slice(match head.version {
                Version::Http10 => b"HTTP/1.0",
                Version::Http11 => b"HTTP/1.1",
            }),
            Variable::RequestId => out.extend_from_slice(&Request::id_text(self.request_id)),
            Variable::Field(name) => out.extend_from_slice(self.fields(name).next().unwrap_or_default()),
            Variable::Argument(name) => out.extend_from_slice(self.argument(name).unwrap_or_default()),
            Variable::Cookie(name) => out.extend_from_slice(self.cookie(name).unwrap_or_default()),
            Variable::Capture(number) => out.extend_from_slice(self.captures.get(*number, self.path)),
            // Not known of a connection in clear text, or not before the answer.
            _ => {}
        }
    }
}

impl RequestVariables<'_> {
    fn put_host(&self, out: &mut Vec<u8>) {
        let host = self.head.host(self.bytes);
        if host.is_empty() {
            return out.extend_from_slice(self.worker.config.sites[self.site].name.as_bytes());
        }
        out.extend(host.iter().map(u8::to_ascii_lowercase));
    }

    fn put_forwarded_for(&self, out: &mut Vec<u8>) {
        for value in self.fields("x-forwarded-for").filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.connection.peer_text().as_bytes());
    }

    fn fields(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_called =
            move |name_sent: &[u8]| name_sent.len() == name.len() && name_sent.eq_ignore_ascii_case(name.as_bytes());
        let fields = self.head.fields.iter().filter(move |field| is_called(field.name.of(self.bytes)));
        fields.map(|field| field.value.of(self.bytes))
    }

    fn argument(&self, name: &str) -> Option<&[u8]> {
        value_of(self.head.query(self.bytes)?.split(|byte| *byte == b'&'), name)
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.fields("cookie").find_map(|value| value_of(value.split(|b| *b == b';').map(<[u8]>::trim_ascii), name))
    }
}

fn put_number(number: Option<u16>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        write_decimal(out, number.into());
    }
}

/// The value in the first `name=value` among `pairs`.
fn value_of<'a>(mut pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
