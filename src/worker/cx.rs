//! One request at one route: what an action is told, and what the variables of templates are worth.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Worker;
use super::connection::Connection;
use super::exchange::Request;
use super::trail::{Trail, server_of};
use crate::config::model::Options;
use crate::http::fields::Fields;
use crate::http::h1::write_decimal;
use crate::route::Captures;
use crate::tls::Facts;
use crate::util::template::{Encoding, Own, Variable, Variables};

/// A request at the route that was found for it.
#[derive(Clone, Copy)]
pub(super) struct Cx<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) connection: &'a Connection,
    pub(super) request: Request<'a>,
    /// Index into the config's sites; `None` before one is found.
    pub(super) site: Option<usize>,
    pub(super) options: &'a Options,
    /// Decoded; what `captures` point into.
    pub(super) path: &'a [u8],
    pub(super) captures: Captures,
}

/// What is known beside the request once it is being answered.
pub(super) struct AnswerVariables<'a> {
    pub(super) cx: &'a Cx<'a>,
    pub(super) status: u16,
    pub(super) trail: &'a Trail,
}

impl Variables for Cx<'_> {
    fn put(&self, variable: &Variable, out: &mut Vec<u8>) {
        let Request { head, bytes, .. } = self.request;
        match variable {
            Variable::Host => self.put_host(out),
            Variable::Hostname => out.extend_from_slice(self.worker.hostname.as_bytes()),
            Variable::Path => out.extend_from_slice(self.path),
            Variable::Query => out.extend_from_slice(head.query(bytes).unwrap_or_default()),
            Variable::IsArgs if head.query(bytes).is_some_and(|query| !query.is_empty()) => out.push(b'?'),
            Variable::RequestUri => out.extend_from_slice(head.target(bytes)),
            Variable::RequestMethod => out.extend_from_slice(head.method_text.of(bytes)),
            Variable::Scheme => out.extend_from_slice(self.request.scheme().as_bytes()),
            Variable::Https if self.request.is_https => out.extend_from_slice(b"on"),
            Variable::RemoteAddr => out.extend_from_slice(self.request.client_text().as_bytes()),
            Variable::RemotePort => put_number(self.connection.peer().map(|peer| peer.port()), out),
            Variable::RemoteUser => out.extend_from_slice(self.request.user.unwrap_or_default()),
            Variable::ForwardedFor => self.put_forwarded_for(out),
            Variable::ServerName => out.extend_from_slice(self.site_name().as_bytes()),
            Variable::ServerPort => put_number(Some(self.worker.ports[self.connection.listener(self.worker)]), out),
            Variable::ServerAddr => {
                let address = self.worker.config.listeners[self.connection.listener(self.worker)].address;
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{}", address.ip());
            }
            Variable::ServerProtocol => out.extend_from_slice(head.version.text().as_bytes()),
            Variable::RequestId => out.extend_from_slice(&Request::id_text(self.request.id)),
            Variable::TimeIso8601 => {
                let now = jiff::Zoned::now();
                let _ = write!(out, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%:z"));
            }
            Variable::Msec => put_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), out),
            Variable::Field(name) => out.extend_from_slice(self.fields(name).next().unwrap_or_default()),
            Variable::Argument(name) => out.extend_from_slice(self.argument(name).unwrap_or_default()),
            Variable::Cookie(name) => out.extend_from_slice(self.cookie(name).unwrap_or_default()),
            Variable::Capture(number) => out.extend_from_slice(self.captures.get(*number, self.path)),
            _ => self.connection.with_tls_facts(|facts| put_tls(facts.map(Arc::as_ref), variable, out)),
        }
    }

    fn put_own(&self, own: Own, encoding: Encoding, base: &dyn Variables, out: &mut Vec<u8>) {
        match own {
            Own::Lookup(number) => self.worker.lookups.put(number, encoding, base, out),
            Own::Set(number) => {
                if let Some(value) = self.options.variables.value(number) {
                    value.put_value(encoding, base, None, out);
                }
            }
        }
    }
}

impl Variables for AnswerVariables<'_> {
    fn put(&self, variable: &Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::Status => write_decimal(out, self.status.into()),
            Variable::UpstreamAddr => {
                let (worker, trail) = (self.cx.worker, self.trail);
                let found = trail.server.and_then(|server| server_of(worker, server, trail.upstream));
                if let Some((upstream, server)) = found {
                    let server = &worker.config.upstreams[upstream].servers[server];
                    let _ = write!(out, "{}", server.address);
                }
            }
            Variable::UpstreamStatus => put_number(self.trail.upstream_status, out),
            Variable::UpstreamResponseTime => {
                if let Some(time) = self.trail.response {
                    put_seconds(time, out);
                }
            }
            // Kept for the log; while fields are made, whoever makes them knows them.
            Variable::SentField(name) => {
                out.extend_from_slice(Fields::new(&self.trail.response_fields).find(name).unwrap_or_default());
            }
            Variable::RequestTime => put_seconds(self.cx.request.started.elapsed(), out),
            _ => self.cx.put(variable, out),
        }
    }

    fn put_own(&self, own: Own, encoding: Encoding, base: &dyn Variables, out: &mut Vec<u8>) {
        self.cx.put_own(own, encoding, base, out);
    }
}

fn put_tls(facts: Option<&Facts>, variable: &Variable, out: &mut Vec<u8>) {
    let Some(facts) = facts else { return };
    let client = facts.client.as_deref();
    let text = match variable {
        Variable::SslProtocol => facts.version,
        Variable::SslCipher => facts.cipher,
        Variable::SslServerName => facts.server_name.as_deref().unwrap_or_default(),
        Variable::SslClientSubject => client.map_or("", |client| &client.subject),
        Variable::SslClientIssuer => client.map_or("", |client| &client.issuer),
        Variable::SslClientSerial => client.map_or("", |client| &client.serial),
        Variable::SslClientFingerprint => client.map_or("", |client| &client.fingerprint),
        Variable::SslClientVerify => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{}", facts.verify);
            ""
        }
        _ => "",
    };
    out.extend_from_slice(text.as_bytes());
}

impl Cx<'_> {
    fn site_name(&self) -> &str {
        self.site.map_or("", |site| &self.worker.config.sites[site].name)
    }

    fn put_host(&self, out: &mut Vec<u8>) {
        let host = self.request.head.host(self.request.bytes);
        if host.is_empty() {
            return out.extend_from_slice(self.site_name().as_bytes());
        }
        out.extend(host.iter().map(u8::to_ascii_lowercase));
    }

    fn put_forwarded_for(&self, out: &mut Vec<u8>) {
        for value in self.fields("x-forwarded-for").filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.request.client_text().as_bytes());
    }

    fn fields(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let bytes = self.request.bytes;
        let is_called =
            move |name_sent: &[u8]| name_sent.len() == name.len() && name_sent.eq_ignore_ascii_case(name.as_bytes());
        let fields = self.request.head.fields.iter().filter(move |field| is_called(field.name.of(bytes)));
        fields.map(move |field| field.value.of(bytes))
    }

    fn argument(&self, name: &str) -> Option<&[u8]> {
        let query = self.request.head.query(self.request.bytes)?;
        value_of(query.split(|byte| *byte == b'&'), name)
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.fields("cookie").find_map(|value| value_of(value.split(|b| *b == b';').map(<[u8]>::trim_ascii), name))
    }
}

fn put_number(number: Option<u16>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        write_decimal(out, number.into());
    }
}

/// Seconds with milliseconds behind a dot, as nginx writes times.
fn put_seconds(time: Duration, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}.{:03}", time.as_secs(), time.subsec_millis());
}

/// The value in the first `name=value` among `pairs`.
fn value_of<'a>(mut pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
