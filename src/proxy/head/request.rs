//! The request head sent to a server.

use super::{ConnectionOptions, HeadError, hops, is_hop_by_hop_or_framing, put_content_length, put_field};
use crate::http::h1::{BodyKind, Field, FieldName, Method, RequestHead, write_decimal};
use crate::http::trailers;

/// How the client reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

/// What the writer must know beside the client's head.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Address of the downstream connection; [`super::IpText`] makes the text.
    pub client_ip: &'a [u8],
    /// How the client reached us.
    pub scheme: Scheme,
    /// Port the client connected to.
    pub listener_port: u16,
    /// Host field for a request that names none (HTTP/1.0 only); see [`super::super::UpstreamState::host`].
    pub server_host: &'a [u8],
    /// X-Request-Id for a request that has none.
    pub request_id: &'a [u8],
    /// How the body goes to the server; `UntilClose` does not exist in requests and is sent as `Chunked`.
    pub body: BodyKind,
    /// The connection to the server may be used again.
    pub keep_alive: bool,
    /// Protocol that the connection is to leave HTTP for, see [`super::super::upgrade`].
    pub upgrade: Option<&'a [u8]>,
    /// Forwarded is written beside X-Forwarded-For and its like.
    pub forwarded: bool,
    /// What this hop is called in Via; `None`: it adds none.
    pub via: Option<&'a str>,
}

/// Appends the head that asks a server for what `head` asks of us.
///
/// `bytes` is what `head` was parsed from. The version is HTTP/1.1 whatever the client spoke. Host is the client's, as
/// HAProxy does (nginx would write the upstream's name): applications build links from it. Of an absolute-form target
/// the authority becomes Host, a Host field beside it is dropped (RFC 9112 section 3.2.2). X-Forwarded-For is continued,
/// X-Forwarded-Proto, -Host and -Port are replaced. Expect is not forwarded: we answer it.
/// On `Err` nothing was appended.
pub fn write_request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    bytes: &[u8],
    context: &RequestContext<'_>,
) -> Result<(), HeadError> {
    let options = ConnectionOptions::of(&head.fields, bytes)?;
    out.reserve(head.head_bytes + 256);
    put_request_line(out, head, bytes);
    let host = if head.authority.is_empty() { context.server_host } else { head.authority.of(bytes) };
    put_field(out, b"Host", host);
    for field in &head.fields {
        let name = field.name.of(bytes);
        let is_ours = match field.known {
            FieldName::Forwarded => context.forwarded,
            // It tells of what stands behind chunks, and of nothing behind other framing.
            FieldName::Trailer => context.body != BodyKind::Chunked,
            _ => is_ours(field, name, bytes),
        };
        if !is_ours && !options.remove(field, name) {
            put_field(out, name, field.value.of(bytes));
        }
    }
    put_x_forwarded(out, head, bytes, context);
    if context.forwarded {
        hops::put_forwarded(out, head, bytes, context);
    }
    if let Some(name) = context.via {
        hops::put_via(out, head.version, name);
    }
    put_framing(out, head, context.body);
    match context.upgrade {
        Some(protocol) => {
            out.extend_from_slice(b"Connection: upgrade\r\n");
            put_field(out, b"Upgrade", protocol);
        }
        None => put_hop(out, context.keep_alive, trailers::are_wanted(head, bytes)),
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// What is said to the server as our next hop. For a client that reads trailers it is told so (RFC 9110 section 10.1.4).
fn put_hop(out: &mut Vec<u8>, keep_alive: bool, wants_trailers: bool) {
    out.extend_from_slice(match (keep_alive, wants_trailers) {
        (true, false) => b"".as_slice(),
        (true, true) => b"TE: trailers\r\nConnection: TE\r\n",
        (false, true) => b"TE: trailers\r\nConnection: close, TE\r\n",
        (false, false) => b"Connection: close\r\n",
    });
}

fn put_request_line(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8]) {
    out.extend_from_slice(head.method_text.of(bytes));
    out.push(b' ');
    let target = match head.target.of(bytes) {
        // RFC 9112 section 3.2.4: OPTIONS for a whole site arrives without a path and leaves as `*`.
        [] if head.method == Method::Options => b"*",
        _ => head.target(bytes),
    };
    if target.first() == Some(&b'?') {
        out.push(b'/'); // `http://host?query`: an origin-form target begins with a slash
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Fields that are written or left out by our own rules.
fn is_ours(field: &Field, name: &[u8], bytes: &[u8]) -> bool {
    use FieldName::*;
    match field.known {
        Expect | Host | XForwardedFor | XForwardedHost | XForwardedPort | XForwardedProto => true,
        XRequestId => field.value.of(bytes).is_empty(),
        Other => is_alias(name) || names_client_certificate(name),
        known => is_hop_by_hop_or_framing(known),
    }
}

/// True when only we may tell a server who the client of a TLS session is: `X-SSL-Client-Verify` and its like.
pub fn names_client_certificate(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-ssl-client-";
    let same = |byte: &u8, known: &u8| if *byte == b'_' { *known == b'-' } else { byte.to_ascii_lowercase() == *known };
    name.len() >= PREFIX.len() && name.iter().zip(PREFIX).all(|(byte, known)| same(byte, known))
}

/// True when a CGI-like application behind the server would read `name` as a field that we answer for: `_` and `-` look
/// alike to it, so `X_Forwarded_For` would pass for the address we vouch for.
fn is_alias(name: &[u8]) -> bool {
    const EXACT: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"x-request-id"];
    const PREFIX: &[u8] = b"x-forwarded-";
    let same = |name: &[u8], known: &[u8]| {
        let dashed = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() });
        dashed.eq(known.iter().copied())
    };
    memchr::memchr(b'_', name).is_some()
        && (EXACT.iter().any(|known| same(name, known)) || name.get(..PREFIX.len()).is_some_and(|n| same(n, PREFIX)))
}

fn put_x_forwarded(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], context: &RequestContext<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    let earlier = head.fields.iter().filter(|field| field.known == FieldName::XForwardedFor);
    for value in earlier.map(|field| field.value.of(bytes)).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(context.client_ip);
    out.extend_from_slice(match context.scheme {
        Scheme::Http => b"\r\nX-Forwarded-Proto: http\r\n",
        Scheme::Https => b"\r\nX-Forwarded-Proto: https\r\n".as_slice(),
    });
    if !head.authority.is_empty() {
        put_field(out, b"X-Forwarded-Host", head.authority.of(bytes));
    }
    out.extend_from_slice(b"X-Forwarded-Port: ");
    write_decimal(out, u64::from(context.listener_port));
    out.extend_from_slice(b"\r\n");
    if head.field(bytes, FieldName::XRequestId).is_none_or(<[u8]>::is_empty) {
        put_field(out, b"X-Request-Id", context.request_id);
    }
}

fn put_framing(out: &mut Vec<u8>, head: &RequestHead, body: BodyKind) {
    match body {
        BodyKind::Length(body_bytes) => put_content_length(out, body_bytes),
        BodyKind::Chunked | BodyKind::UntilClose => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyKind::None if announces_empty_body(head) => put_content_length(out, 0),
        BodyKind::None => {}
    }
}

/// An empty body is said aloud where one is expected (RFC 9110 section 8.6), or some servers answer 411, and where the
/// client said it.
fn announces_empty_body(head: &RequestHead) -> bool {
    matches!(head.method, Method::Post | Method::Put | Method::Patch)
        || head.fields.iter().any(|field| field.known == FieldName::ContentLength)
}
