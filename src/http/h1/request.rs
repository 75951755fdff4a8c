//! Request heads (RFC 9112 sections 3, 6 and 9.3). Nothing two servers could read in two ways gets through.

use super::authority::Authority;
use super::fields::{self, Coding, FieldError, Framing, is_token_byte};
use super::head::{BodyKind, Method, RequestHead, Span, Version};
use super::{Limits, head_window};
use std::fmt;

/// Longest method; the longest registered one (UPDATEREDIRECTREF) has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;
/// `HTTP/1.1\r\n`
const VERSION_BYTES: usize = 10;

/// Why a request is refused. It is the sender's fault each time; answer [`RequestError::status`], then close, since
/// nobody knows where the next request starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The method is not a token, or the line starts with something else (RFC 9110 section 9.1).
    Method,
    /// A method longer than any (RFC 9112 section 3: 501).
    MethodTooLong,
    /// The target has a form its method does not allow, or a byte that no target has (RFC 9112 section 3.2).
    Target,
    /// The target is longer than [`Limits::target_bytes_max`], or the request line than the head may be.
    TargetTooLong,
    /// The request line does not end in SP, HTTP-version, CR LF (RFC 9112 section 2.3); HTTP/0.9 too.
    Version,
    /// A major version other than 1.
    VersionUnknown,
    /// A head longer than [`Limits::head_bytes_max`].
    HeadTooLong,
    /// The field section is wrong.
    Field(FieldError),
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Host, or the authority of the target, is not host and optional port.
    Host,
    /// The authority of the target is not that of Host.
    HostDiffers,
    /// Transfer-Encoding and Content-Length in one request (RFC 9112 section 6.1).
    LengthAndCoding,
    /// Transfer-Encoding with HTTP/1.0 (RFC 9112 section 6.1).
    CodingInHttp10,
    /// Transfer-Encoding is not a list of codings that ends in one `chunked` (RFC 9112 section 6.3).
    Coding,
    /// A transfer coding other than `chunked` (RFC 9112 section 6.1: 501).
    CodingUnknown,
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1: 417).
    Expectation,
}

impl RequestError {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            RequestError::TargetTooLong => 414,
            RequestError::Expectation => 417,
            RequestError::HeadTooLong | RequestError::Field(FieldError::TooMany) => 431,
            RequestError::MethodTooLong | RequestError::CodingUnknown => 501,
            RequestError::VersionUnknown => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::Method => "invalid method",
            RequestError::MethodTooLong => "method too long",
            RequestError::Target => "invalid target",
            RequestError::TargetTooLong => "target too long",
            RequestError::Version => "invalid http version",
            RequestError::VersionUnknown => "unknown http version",
            RequestError::HeadTooLong => "head too long",
            RequestError::Field(error) => return error.fmt(f),
            RequestError::HostMissing => "no host",
            RequestError::HostRepeated => "more than one host",
            RequestError::Host => "invalid host",
            RequestError::HostDiffers => "host differs from target",
            RequestError::LengthAndCoding => "both transfer-encoding and content-length",
            RequestError::CodingInHttp10 => "transfer-encoding in http/1.0",
            RequestError::Coding => "invalid transfer-encoding",
            RequestError::CodingUnknown => "unknown transfer-encoding",
            RequestError::Expectation => "unknown expectation",
        })
    }
}

impl std::error::Error for RequestError {}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> Self {
        RequestError::Field(error)
    }
}

/// Parses the request head at the start of `bytes`; one empty line before it is skipped (RFC 9112 section 2.2) and
/// counts as part of it.
///
/// `Ok(None)`: the head is not complete; call again with more behind the same bytes. `Ok(Some(()))`: `head` is filled,
/// its positions count from the start of `bytes`. With `Err` or `None` the content of `head` means nothing. What can
/// no longer become a request is refused before the rest is there.
pub fn parse_request(bytes: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<()>, RequestError> {
    let window = head_window(bytes, limits);
    let is_full = window.len() >= limits.head_bytes_max;
    let Some(line) = request_line(window, limits, head)? else {
        return if is_full { Err(RequestError::TargetTooLong) } else { Ok(None) };
    };
    let Some(end) = fields::scan(window, line.end, limits.headers_max, &mut head.fields)? else {
        return if is_full { Err(RequestError::HeadTooLong) } else { Ok(None) };
    };
    head.head_bytes = end;
    let framing = Framing::of(window, &head.fields)?;
    head.authority = authority(window, line.target, &framing, head.version)?;
    head.body = body(&framing, head.version)?;
    head.keep_alive = framing.keeps_connection(head.version);
    head.upgrade = framing.upgrades(head.version);
    // An expectation of HTTP/1.0 is ignored (RFC 9110 section 10.1.1).
    let expects = head.version == Version::Http11;
    if expects && framing.expect_unknown {
        return Err(RequestError::Expectation);
    }
    head.expect_continue = expects && framing.expect_continue && head.body != BodyKind::None;
    Ok(Some(()))
}

struct Line {
    /// One past its LF.
    end: usize,
    target: Target,
}

/// Form of the target (RFC 9112 section 3.2), and the authority in it.
#[derive(Clone, Copy)]
enum Target {
    /// origin-form or asterisk-form.
    Plain,
    /// absolute-form; the port is the default of its scheme.
    Absolute { authority: Span, port_default: u16 },
    /// authority-form.
    Authority(Span),
}

fn request_line(bytes: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<Line>, RequestError> {
    let Some(start) = skip_empty_line(bytes)? else { return Ok(None) };
    let Some(method_bytes) = method_length(&bytes[start..])? else { return Ok(None) };
    let target_at = start + method_bytes + 1;
    let Some(target_bytes) = target_length(&bytes[target_at..], limits)? else { return Ok(None) };
    let target_end = target_at + target_bytes;
    let Some(version) = version(&bytes[target_end + 1..])? else { return Ok(None) };
    head.method_text = Span::from(start..start + method_bytes);
    head.method = Method::of(&bytes[start..start + method_bytes]);
    head.version = version;
    let (part, target) = target_form(bytes, Span::from(target_at..target_end), head.method)?;
    head.target = part;
    Ok(Some(Line { end: target_end + 1 + VERSION_BYTES, target }))
}

/// Where the request line starts.
fn skip_empty_line(bytes: &[u8]) -> Result<Option<usize>, RequestError> {
    match bytes {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(FieldError::BareCr.into()),
        [b'\n', ..] => Err(FieldError::BareLf.into()),
        _ => Ok(Some(0)),
    }
}

/// Bytes before the first SP.
fn method_length(line: &[u8]) -> Result<Option<usize>, RequestError> {
    let end = line.iter().take(METHOD_BYTES_MAX + 1).position(|&byte| !is_token_byte(byte));
    match end {
        None if line.len() > METHOD_BYTES_MAX => Err(RequestError::MethodTooLong),
        None => Ok(None),
        Some(end) if end == 0 || line[end] != b' ' => Err(RequestError::Method),
        Some(end) => Ok(Some(end)),
    }
}

/// Bytes before the second SP. Bytes from 0x80 on pass, as in nginx: clients send raw UTF-8.
fn target_length(rest: &[u8], limits: &Limits) -> Result<Option<usize>, RequestError> {
    let end = memchr::memchr(b' ', rest);
    let target = &rest[..end.unwrap_or(rest.len())];
    // A target may not be longer than allowed, but its wrong bytes are the better reason.
    let seen = &target[..target.len().min(limits.target_bytes_max)];
    if seen.iter().fold(false, |bad, &byte| bad | (byte <= b' ') | (byte == 0x7f) | (byte == b'#')) {
        return Err(blame_target(seen));
    }
    if target.len() > limits.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    match end {
        Some(0) => Err(RequestError::Target),
        _ => Ok(end),
    }
}

/// A line that ends behind the target is HTTP/0.9.
#[cold]
fn blame_target(target: &[u8]) -> RequestError {
    let wrong = target.iter().find(|&&byte| byte <= b' ' || byte == 0x7f || byte == b'#');
    match wrong {
        Some(b'\r' | b'\n') => RequestError::Version,
        _ => RequestError::Target,
    }
}

/// The HTTP-version at the start of `rest`, and the line end behind it.
fn version(rest: &[u8]) -> Result<Option<Version>, RequestError> {
    match rest.first_chunk() {
        Some(b"HTTP/1.1\r\n") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0\r\n") => Ok(Some(Version::Http10)),
        _ => unusual_version(rest),
    }
}

#[cold]
fn unusual_version(rest: &[u8]) -> Result<Option<Version>, RequestError> {
    let fits = |(index, &byte): (usize, &u8)| match b"HTTP/d.d\r\n"[index] {
        b'd' => byte.is_ascii_digit(),
        wanted => byte == wanted,
    };
    if !rest.iter().take(VERSION_BYTES).enumerate().all(fits) {
        return Err(RequestError::Version);
    }
    match rest {
        [_, _, _, _, _, major, _, minor, _, _, ..] => match (major, minor) {
            (b'1', b'0') => Ok(Some(Version::Http10)),
            (b'1', _) => Ok(Some(Version::Http11)),
            _ => Err(RequestError::VersionUnknown),
        },
        _ => Ok(None),
    }
}

/// Path and query of a target, and its form.
fn target_form(bytes: &[u8], span: Span, method: Method) -> Result<(Span, Target), RequestError> {
    let target = span.of(bytes);
    match target[0] {
        _ if method == Method::Connect => {
            let authority = Authority::parse(target).ok_or(RequestError::Target)?;
            authority.port().ok_or(RequestError::Target)?;
            Ok((Span { start: span.end, end: span.end }, Target::Authority(span)))
        }
        b'/' => Ok((span, Target::Plain)),
        b'*' if target.len() == 1 && method == Method::Options => Ok((span, Target::Plain)),
        _ => absolute_form(bytes, span),
    }
}

#[cold]
fn absolute_form(bytes: &[u8], span: Span) -> Result<(Span, Target), RequestError> {
    let target = span.of(bytes);
    let schemes: [(&[u8], u16); 2] = [(b"http://", 80), (b"https://", 443)];
    let starts = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let (scheme, port_default) = schemes.into_iter().find(|(scheme, _)| starts(scheme)).ok_or(RequestError::Target)?;
    let rest = &target[scheme.len()..];
    let authority_bytes = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    // `http://a?b` would need a path of our own making before the query; no client sends it.
    if rest.get(authority_bytes) == Some(&b'?') {
        return Err(RequestError::Target);
    }
    let start = span.start as usize + scheme.len();
    let authority = Span::from(start..start + authority_bytes);
    Authority::parse(authority.of(bytes)).ok_or(RequestError::Host)?;
    Ok((Span { start: authority.end, end: span.end }, Target::Absolute { authority, port_default }))
}

/// Which authority the request is for (RFC 9112 section 3.2): that of the target, else Host. They may not differ.
fn authority(bytes: &[u8], target: Target, framing: &Framing, version: Version) -> Result<Span, RequestError> {
    if framing.hosts_repeat {
        return Err(RequestError::HostRepeated);
    }
    let host = match framing.host {
        Some(span) => Some((span, Authority::parse(span.of(bytes)).ok_or(RequestError::Host)?)),
        None if version == Version::Http11 => return Err(RequestError::HostMissing),
        None => None,
    };
    match (target, host) {
        (Target::Plain, host) => Ok(host.map(|(span, _)| span).unwrap_or_default()),
        (Target::Absolute { authority, .. } | Target::Authority(authority), None) => Ok(authority),
        (Target::Absolute { authority, port_default }, Some((_, host))) => {
            let named = Authority::parse(authority.of(bytes)).ok_or(RequestError::Host)?;
            if named.same_as(&host, port_default) { Ok(authority) } else { Err(RequestError::HostDiffers) }
        }
        (Target::Authority(authority), Some((_, host))) => {
            let named = Authority::parse(authority.of(bytes)).ok_or(RequestError::Host)?;
            // CONNECT must name a port; clients leave it out of Host when it is the usual one.
            let same_port = host.port().is_none() || host.port() == named.port();
            if named.same_host(&host) && same_port { Ok(authority) } else { Err(RequestError::HostDiffers) }
        }
    }
}

/// RFC 9112 section 6.3, without the choices it leaves.
fn body(framing: &Framing, version: Version) -> Result<BodyKind, RequestError> {
    if framing.coding == Coding::Absent {
        return Ok(match framing.length {
            None | Some(0) => BodyKind::None,
            Some(length) => BodyKind::Length(length),
        });
    }
    if framing.length.is_some() {
        return Err(RequestError::LengthAndCoding);
    }
    if version == Version::Http10 {
        return Err(RequestError::CodingInHttp10);
    }
    match framing.coding {
        Coding::Chunked => Ok(BodyKind::Chunked),
        Coding::Unknown => Err(RequestError::CodingUnknown),
        _ => Err(RequestError::Coding),
    }
}

impl Method {
    /// The method that `text` names; methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }
}

#[cfg(test)]
mod tests;
