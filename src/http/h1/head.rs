//! Message heads as positions in the buffer they were read into: parsing one allocates nothing once the field list
//! has grown to its usual length.
//!
//! Every accessor takes `bytes`, the slice that [`super::parse_request`] or [`super::parse_response`] was given.

use std::ops::Range;

/// A piece of a head: byte positions in the buffer that held it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of the piece.
    #[inline]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// True when the piece has no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Span { start: range.start as u32, end: range.end as u32 }
    }
}

/// Request methods we treat by name; the text of others is in [`RequestHead::method_text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// RFC 9110 section 9.3.1.
    #[default]
    Get,
    /// RFC 9110 section 9.3.2.
    Head,
    /// RFC 9110 section 9.3.3.
    Post,
    /// RFC 9110 section 9.3.4.
    Put,
    /// RFC 9110 section 9.3.5.
    Delete,
    /// RFC 9110 section 9.3.6.
    Connect,
    /// RFC 9110 section 9.3.7.
    Options,
    /// RFC 9110 section 9.3.8.
    Trace,
    /// RFC 5789.
    Patch,
    /// Any other token.
    Other,
}

impl Method {
    /// A repeated request has the effect of one (RFC 9110 section 9.2.2). Unknown methods do not count as idempotent.
    pub fn is_idempotent(self) -> bool {
        use Method::*;
        matches!(self, Get | Head | Put | Delete | Options | Trace)
    }
}

/// Version of the protocol a message came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1 and later minor versions.
    #[default]
    Http11,
    /// HTTP/2; framing is not in its head.
    Http2,
    /// HTTP/3; the same.
    Http3,
}

impl Version {
    /// The text of the protocol as access logs have it.
    pub fn text(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
            Version::Http3 => "HTTP/3.0",
        }
    }
}

impl From<Version> for http::Version {
    fn from(version: Version) -> http::Version {
        match version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
            Version::Http2 => http::Version::HTTP_2,
            Version::Http3 => http::Version::HTTP_3,
        }
    }
}

/// Field names that our code looks at, recognised while parsing so that nobody compares names again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum FieldName {
    Accept,
    AcceptEncoding,
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Etag,
    Expect,
    Forwarded,
    Host,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRequestId,
    /// None of the above.
    Other,
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Which field it is.
    pub known: FieldName,
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
}

/// How the end of a message body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// No body at all.
    #[default]
    None,
    /// This many bytes; never 0 in a parsed request (that is `None`).
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the sender closes; responses only.
    UntilClose,
}

/// A parsed request head.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as sent.
    pub method_text: Span,
    /// Path and query (origin-form); of an absolute-form target only this part, `/` when it has none; `*` for OPTIONS.
    /// An absolute-form target without a path has an empty span here: read it through [`RequestHead::target`].
    pub target: Span,
    /// Host and optional port: from an absolute-form target, else from Host. Empty when HTTP/1.0 names none.
    pub authority: Span,
    /// Protocol version.
    pub version: Version,
    /// Header fields in the order sent.
    pub fields: Vec<Field>,
    /// Where the body ends.
    pub body: BodyKind,
    /// The client wants the connection kept (version and Connection).
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent with HTTP/1.1.
    pub expect_continue: bool,
    /// Connection lists `upgrade` and Upgrade is present; of HTTP/2 and HTTP/3: it was an extended CONNECT, which reads as the
    /// GET that asks for the same over HTTP/1.1.
    pub upgrade: bool,
    /// Bytes from the first of the request line to the end of the empty line.
    pub head_bytes: usize,
}

impl RequestHead {
    /// Path and query as sent; `/` for an absolute-form target without a path.
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.target.is_empty() { b"/" } else { self.target.of(bytes) }
    }

    /// The part of the target before `?`, still percent-encoded.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let target = self.target(bytes);
        memchr::memchr(b'?', target).map_or(target, |at| &target[..at])
    }

    /// The part of the target behind `?`, if there is one.
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let target = self.target(bytes);
        memchr::memchr(b'?', target).map(|at| &target[at + 1..])
    }

    /// Host without port, as sent (upper case possible); brackets of an IPv6 address kept.
    pub fn host<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        host_of(self.authority.of(bytes))
    }

    /// Value of the first field of this name.
    pub fn field<'a>(&self, bytes: &'a [u8], name: FieldName) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.known == name).map(|field| field.value.of(bytes))
    }
}

/// `authority` without its port.
pub fn host_of(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(at) if !authority[at..].contains(&b']') => &authority[..at],
        _ => authority,
    }
}

/// A parsed response head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase; may be empty.
    pub reason: Span,
    /// Protocol version.
    pub version: Version,
    /// Header fields in the order sent.
    pub fields: Vec<Field>,
    /// Where the body ends, the request's method taken into account.
    pub body: BodyKind,
    /// The server keeps the connection (version and Connection).
    pub keep_alive: bool,
    /// Bytes from the first of the status line to the end of the empty line.
    pub head_bytes: usize,
}

impl ResponseHead {
    /// Value of the first field of this name.
    pub fn field<'a>(&self, bytes: &'a [u8], name: FieldName) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.known == name).map(|field| field.value.of(bytes))
    }
}
