//! What the access log is told about one request.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::h1::RequestHead;
use crate::metrics::ServedBy;
use crate::util::template::Variables;

/// One answered request. Borrows everything, and costs nothing to fill: what must be searched for (header fields,
/// cookies, arguments) is looked up in `head` and `response_fields` only when the format asks for it.
///
/// [`Entry::default`] is a request of which nothing is known; begin with it and name what there is.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the answer had left, which is the time nginx logs.
    pub time: SystemTime,
    /// The client's address as text ([`AddressText`]), as far as it is trusted: from X-Forwarded-For or the PROXY
    /// protocol where the config says so, else the connection's own.
    pub remote_addr: &'a [u8],
    /// Its port; 0 when there is none.
    pub remote_port: u16,
    /// User name of HTTP authentication.
    pub remote_user: Option<&'a [u8]>,
    /// The connection's own address. Empty: the same as `remote_addr`, port included.
    pub peer_addr: &'a [u8],
    /// Its port; 0 when there is none.
    pub peer_port: u16,
    /// The client's address as the PROXY protocol told it.
    pub proxy_protocol_addr: Option<&'a [u8]>,
    /// Address the client connected to, as text; empty when it is not known.
    pub local_addr: &'a [u8],
    /// Its port; 0 when there is none.
    pub local_port: u16,
    /// Listener, index into the config.
    pub listener: u16,
    /// Site that answered, index into the config; `None` when the request reached none.
    pub site: Option<u16>,
    /// `http` or `https`.
    pub scheme: &'a [u8],
    /// TLS of the client's connection; `None` without.
    pub tls: Option<&'a TlsFacts<'a>>,
    /// Method; empty when the head could not be parsed.
    pub method: &'a [u8],
    /// Request target as received, not decoded. For a head that could not be parsed: its first line, or empty.
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0` and the like; empty when the head could not be parsed.
    pub protocol: &'a [u8],
    /// The parsed head and the bytes it was parsed from.
    pub head: Option<(&'a RequestHead, &'a [u8])>,
    /// Field `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Field `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Field `Host`, or what stands for it (`:authority`).
    pub host: Option<&'a [u8]>,
    /// Status sent; 0 when the connection was closed without an answer.
    pub status: u16,
    /// Fields of the answer as sent, lines `Name: value` that end in CR LF. A status line before them does no harm.
    /// Needed only when [`super::AccessLog::wants_response_fields`].
    pub response_fields: &'a [u8],
    /// Bytes of the response body sent, framing not counted.
    pub body_bytes: u64,
    /// Bytes sent for this request in all: heads, framing, body.
    pub bytes_sent: u64,
    /// Bytes received for this request: head and body.
    pub bytes_received: u64,
    /// Content coding that was applied here; `None`: none.
    pub coding: Option<Coding<'a>>,
    /// Complete head to last byte sent.
    pub duration: Duration,
    /// Parts of the time.
    pub timers: Timers,
    /// Identifier of the request.
    pub request_id: u64,
    /// What answered.
    pub served_by: ServedBy,
    /// Upstream that the route chose, index into the config, also when none of its servers answered.
    pub upstream: Option<u16>,
    /// Status that the server behind us sent.
    pub upstream_status: Option<u16>,
    /// Servers tried, the first included; 0 when the request went to none.
    pub tries: u32,
    /// What limits of rates said, in nginx's words: `PASSED`, `DELAYED`, `REJECTED`; `None`: there were none.
    pub limit_requests: Option<&'a str>,
    /// The same of limits of requests at once.
    pub limit_connections: Option<&'a str>,
    /// Serial number of the connection.
    pub connection: u64,
    /// Requests on this connection so far, this one included.
    pub connection_requests: u32,
    /// The request came before the answer to the one before it had left.
    pub pipelined: bool,
    /// Who ended the exchange, and when.
    pub termination: Termination,
    /// Connections and queues at the end of the request.
    pub counts: Counts,
    /// A connection in TCP mode, or a flow in UDP mode.
    pub stream: Option<StreamFacts<'a>>,
    /// What variables of the config's own are asked of; needed only when [`super::AccessLog::wants_own`].
    pub own: Option<OwnValues<'a>>,
}

/// Values of variables that the config defines.
#[derive(Clone, Copy)]
pub struct OwnValues<'a>(pub &'a dyn Variables);

impl fmt::Debug for OwnValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnValues(..)")
    }
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            time: UNIX_EPOCH,
            remote_addr: b"",
            remote_port: 0,
            remote_user: None,
            peer_addr: b"",
            peer_port: 0,
            proxy_protocol_addr: None,
            local_addr: b"",
            local_port: 0,
            listener: 0,
            site: None,
            scheme: b"http",
            tls: None,
            method: b"",
            target: b"",
            protocol: b"",
            head: None,
            referer: None,
            user_agent: None,
            host: None,
            status: 0,
            response_fields: b"",
            body_bytes: 0,
            bytes_sent: 0,
            bytes_received: 0,
            coding: None,
            duration: Duration::ZERO,
            timers: Timers::default(),
            request_id: 0,
            served_by: ServedBy::Worker,
            upstream: None,
            upstream_status: None,
            tries: 0,
            limit_requests: None,
            limit_connections: None,
            connection: 0,
            connection_requests: 0,
            pipelined: false,
            termination: Termination::NORMAL,
            counts: Counts::default(),
            stream: None,
            own: None,
        }
    }
}

impl<'a> Entry<'a> {
    /// First byte of the request to last byte of the answer, as far as that is known.
    pub(super) fn active(&self) -> Duration {
        self.timers.active.unwrap_or(self.duration)
    }

    /// The certificate that the client has shown and that was verified.
    pub(super) fn client_certificate(&self) -> Option<ClientFacts<'a>> {
        self.tls.and_then(|tls| tls.client)
    }

    /// The connection's own address and port.
    pub(super) fn peer(&self) -> (&'a [u8], u16) {
        match self.peer_addr {
            b"" => (self.remote_addr, self.remote_port),
            peer => (peer, self.peer_port),
        }
    }

    /// Path and query of the target.
    pub(super) fn path_and_query(&self) -> (&'a [u8], Option<&'a [u8]>) {
        match memchr::memchr(b'?', self.target) {
            Some(at) => (&self.target[..at], Some(&self.target[at + 1..])),
            None => (self.target, None),
        }
    }

    /// The request line could be read.
    pub(super) fn is_parsed(&self) -> bool {
        !self.method.is_empty()
    }
}

/// What the log wants to know of a TLS connection, as text that openssl's users know.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsFacts<'a> {
    /// `TLSv1.3`
    pub version: &'a [u8],
    /// `TLS_AES_128_GCM_SHA256`
    pub cipher: &'a [u8],
    /// Name that the client asked for.
    pub server_name: Option<&'a [u8]>,
    /// Protocol agreed on by ALPN.
    pub alpn: Option<&'a [u8]>,
    /// An earlier session was taken up again.
    pub resumed: bool,
    /// What became of the client's certificate: `NONE`, `SUCCESS`, `FAILED:why`.
    pub verify: &'a [u8],
    /// The client's certificate, if it was verified.
    pub client: Option<ClientFacts<'a>>,
}

/// What is known of a connection in TCP mode, or a flow in UDP mode, alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamFacts<'a> {
    /// Name that the client asks for in TLS that is passed on.
    pub server_name: Option<&'a [u8]>,
    /// Protocols that it offers there, separated by commas; empty: none.
    pub alpn: &'a [u8],
    /// Datagrams from the client, and to it; `None`: it is a connection.
    pub datagrams: Option<[u64; 2]>,
}

/// A client's certificate, as nginx shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientFacts<'a> {
    /// Its subject, RFC 2253.
    pub subject: &'a [u8],
    /// Its issuer, likewise.
    pub issuer: &'a [u8],
    /// Its serial number, hexadecimal.
    pub serial: &'a [u8],
    /// Its SHA-1 digest, hexadecimal.
    pub fingerprint: &'a [u8],
}

/// A content coding applied to the body.
#[derive(Clone, Copy, Debug)]
pub struct Coding<'a> {
    /// `gzip`, `br`, `zstd`
    pub name: &'a [u8],
    /// Bytes that went into it; [`Entry::body_bytes`] came out.
    pub bytes_before: u64,
}

/// HAProxy's timers of one request. `None`: that part was not reached, or does not exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timers {
    /// TLS handshake, only with the first request of a connection (`Th`).
    pub handshake: Option<Duration>,
    /// Silence before the first byte of the request (`Ti`).
    pub idle: Option<Duration>,
    /// First byte of the request head to its last (`TR`).
    pub read: Option<Duration>,
    /// Waiting for a place at a server or an application worker (`Tw`).
    pub queue: Option<Duration>,
    /// Connecting to the server (`Tc`); zero on a kept connection.
    pub connect: Option<Duration>,
    /// Request sent to complete response head (`Tr`).
    pub response: Option<Duration>,
    /// First byte of the request to last byte of the answer (`Ta`).
    pub active: Option<Duration>,
}

/// HAProxy's connection counts and queue positions; `None`: not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Connections of the process (`%ac`).
    pub process: Option<u32>,
    /// Connections of the listener (`%fc`).
    pub listener: Option<u32>,
    /// Requests under way at the upstream (`%bc`).
    pub upstream: Option<u32>,
    /// Requests under way at the server (`%sc`).
    pub server: Option<u32>,
    /// Requests that stood before this one in the server's queue (`%sq`).
    pub server_queue: Option<u32>,
    /// The same in the upstream's queue (`%bq`).
    pub upstream_queue: Option<u32>,
}

/// How an exchange ended: HAProxy's termination state.
///
/// Source: HAProxy configuration manual, section 8.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    /// What ended it.
    pub cause: EndedBy,
    /// What was going on.
    pub phase: Phase,
}

/// What ended an exchange before, or other than by, its regular end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// Nothing: the answer was sent whole.
    Nothing,
    /// The client closed or broke the connection.
    Client,
    /// The client's time-out struck: it sent or took nothing.
    ClientTimeout,
    /// The server closed, broke or refused the connection, or sent what is no answer.
    Server,
    /// The server's time-out struck.
    ServerTimeout,
    /// We refused the request: a rule, a limit, a malformed head.
    Proxy,
    /// We answered ourselves: redirect, fixed answer, file.
    Local,
    /// A resource was used up: connections, memory, descriptors.
    Resource,
    /// Our own fault.
    Internal,
    /// The server went down while it answered.
    ServerDown,
    /// The operator ended it.
    Operator,
}

/// How far an exchange had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// To its end.
    Done,
    /// Reading the request.
    Request,
    /// Waiting for a place at a server.
    Queue,
    /// Connecting to the server.
    Connect,
    /// Waiting for the response head.
    Response,
    /// Relaying bodies.
    Data,
    /// The server had sent everything, the client had not taken it all.
    Last,
    /// Held back on purpose.
    Tarpit,
}

impl Termination {
    /// The regular end: `----`.
    pub const NORMAL: Termination = Termination { cause: EndedBy::Nothing, phase: Phase::Done };

    /// `cause` ended it during `phase`.
    pub const fn new(cause: EndedBy, phase: Phase) -> Termination {
        Termination { cause, phase }
    }

    /// The two characters of `%ts`.
    pub const fn code(self) -> [u8; 2] {
        let cause = match self.cause {
            EndedBy::Nothing => b'-',
            EndedBy::Client => b'C',
            EndedBy::ClientTimeout => b'c',
            EndedBy::Server => b'S',
            EndedBy::ServerTimeout => b's',
            EndedBy::Proxy => b'P',
            EndedBy::Local => b'L',
            EndedBy::Resource => b'R',
            EndedBy::Internal => b'I',
            EndedBy::ServerDown => b'D',
            EndedBy::Operator => b'K',
        };
        let phase = match self.phase {
            Phase::Done => b'-',
            Phase::Request => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Response => b'H',
            Phase::Data => b'D',
            Phase::Last => b'L',
            Phase::Tarpit => b'T',
        };
        [cause, phase]
    }
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
