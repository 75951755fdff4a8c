//! One downstream connection, from accept to close.
//!
//! ```text
//!          accept                 request bytes                      answered, nothing more to read
//!   ──────────────▶ hot: reading ──────────────▶ hot: answering ──────────────────────────┐
//!                     ▲   ▲    │ silent for a moment                                       │
//!                     │   │    ▼                                                           │
//!                     │   └── cold: waits for readability, owns no buffer                  │
//!                     └────────────────────────────────────────────────────────────────────┘
//!   any state ──▶ closing: our direction ended, what the client still sends is read for a moment (RFC 9112 section 9.6)
//! ```

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use super::answer::{Answer, H1Wire, Wire};
use super::arrival::Arrival;
use super::body::RequestBody;
use super::door::Door;
use super::exchange::{self, After, Client, Request};
use super::hot::Hot;
use super::respond;
use super::run::Open;
use super::secure::{self, Secure};
use super::trail::account;
use super::upload::Upload;
use super::watch::{OnExpiry, Watched};
use super::{h2, preamble, tcp};
use crate::app::ConnectionInfo;
use crate::config::model::ClientCertificates;
use crate::guard::{Place, Source, real_ip};
use crate::http::h1::{BodyKind, FieldName, RequestHead, parse_request};
use crate::http::h2::PREFACE;
use crate::log::AddressText;
use crate::runtime::net::{Buffer, Cancel, Peek, ReadEnd, Stream};
use crate::tls::{Facts, Verify};

/// An idle connection keeps its buffers for this long.
const HOT_IDLE: Duration = Duration::from_millis(800);

/// How long, and how much of, what a client still sends is read before closing (nginx: lingering_timeout 5 s). Who sends a file in
/// one go sees why it was refused instead of a connection that is reset.
pub(super) const LINGER: Duration = Duration::from_secs(5);
pub(super) const LINGER_BYTES_MAX: u64 = 32 << 20;
const LINGER_READ_BYTES: usize = 16 << 10;

/// How long a client may take for the alert that ends a TLS session.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// How long a drain waits for the first request of a connection.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(2);

/// Answers of a pipeline wait for each other up to this size; then they are sent.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one write: each piece that the client takes starts the write time-out anew.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Answers up to this size fit into the buffer of a socket, as a rule, and do not wait for the client.
pub(super) const TAKEN_AT_ONCE_BYTES: usize = 16 * 1024;

/// Least room offered to a read.
const READ_ROOM: usize = 1024;

/// A connection and what it knows of itself. Both watches are dropped before `transport`, as they must be.
pub(super) struct Connection {
    pub(super) watched: Watched,
    /// Deadlines of writes, where they must not disturb those of reads: HTTP/2 does both at once.
    pub(super) writes: std::cell::OnceCell<Watched>,
    pub(super) transport: Transport,
    /// The client's end; of QUIC where it was in the handshake. It may have moved since, which it has yet to prove
    /// whenever a packet says so: rules about addresses count on what was proved.
    pub(super) peer: Option<SocketAddr>,
    /// The client's address as a PROXY header told it.
    pub(super) proxied: std::cell::Cell<Option<Proxied>>,
    /// Tells it from all others of the process.
    pub(super) serial: u64,
    /// What it came through.
    pub(super) door: Rc<Door>,
    pub(super) requests: std::cell::Cell<u32>,
    /// The TLS session, once there is one.
    pub(super) tls: std::cell::OnceCell<Box<Secure>>,
    /// A send is under way.
    pub(super) sending: std::cell::Cell<bool>,
    /// When it was accepted.
    pub(super) opened: Instant,
    /// When the parts of the next request came. Bytes that are none of a request, such as a piece of a TLS record, do not
    /// count.
    pub(super) arrival: Arrival,
    /// Who it comes from has been looked at.
    pub(super) is_let_in: std::cell::Cell<bool>,
    /// Counts it for the client's address, where these are limited.
    pub(super) place: std::cell::OnceCell<Place>,
    /// What applications are told of it, once there was a request for one.
    pub(super) for_apps: std::cell::OnceCell<Arc<ConnectionInfo>>,
    /// Counts it as open.
    pub(super) _open: Open,
}

/// What carries a connection.
pub(super) enum Transport {
    /// A socket of its own.
    Socket(Stream),
    /// QUIC, over the UDP socket that a listener's clients have in common; facts of its TLS session, once there is one.
    Quic(std::cell::OnceCell<Arc<Facts>>),
}

/// Where a client is whose connection ends at a proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxied {
    Ip {
        client: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// On the machine of that proxy.
    Unix,
}

/// The connection broke while we were writing: nobody to talk to.
pub(super) struct Broken;

impl Connection {
    /// The socket of HTTP/1 and HTTP/2. Panics for QUIC, whose code has no use for it.
    pub(super) fn stream(&self) -> &Stream {
        match &self.transport {
            Transport::Socket(stream) => stream,
            Transport::Quic(_) => panic!("a connection of QUIC has no socket of its own"),
        }
    }

    /// The worker that its next request begins with.
    pub(super) fn worker(&self) -> Rc<Worker> {
        self.door.worker()
    }

    /// Index of its listener in the config of `worker`.
    pub(super) fn listener(&self, worker: &Worker) -> usize {
        worker.listener_index(&self.door)
    }

    /// It begins nothing new: the worker drains, or the listener is no more.
    pub(super) fn is_draining(&self) -> bool {
        self.door.draining_since(self.opened).is_some()
    }

    /// The client's end of the connection, as a proxy in front may have told with the PROXY protocol.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self.proxied.get() {
            None => self.peer,
            Some(Proxied::Ip { client, .. }) => Some(client),
            Some(Proxied::Unix) => None,
        }
    }

    /// Where the client connected to, as a proxy in front may have told with the PROXY protocol.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        match self.proxied.get() {
            None => match &self.transport {
                Transport::Socket(stream) => stream.local_addr(),
                // The address of a datagram is not kept: that of the listener stands for it, which may be that of no interface.
                Transport::Quic(_) => {
                    let worker = self.worker();
                    let listener = self.listener(&worker);
                    Some(SocketAddr::new(worker.config.listeners[listener].address.ip(), worker.ports[listener]))
                }
            },
            Some(Proxied::Ip { destination, .. }) => Some(destination),
            Some(Proxied::Unix) => None,
        }
    }

    /// What applications are told of it. Made once.
    pub(super) fn for_apps(&self) -> &Arc<ConnectionInfo> {
        self.for_apps.get_or_init(|| {
            let tls = self.with_tls_facts(|facts| facts.cloned());
            Arc::new(ConnectionInfo { peer: self.peer(), local: self.destination(), tls })
        })
    }

    /// Whether the address rules of its listener let it in.
    pub(super) fn is_admitted(&self, worker: &Worker) -> bool {
        is_admitted(worker, self.listener(worker), self.peer())
    }

    /// Counts it for the client's address, if that is limited; `false`: the address has as many as it may, and closing sends
    /// a reset. A proxy that is trusted stands for many clients and has no limit, nor has a Unix socket.
    pub(super) fn takes_place(&self, worker: &Worker) -> bool {
        let Some((clients, peer)) = worker.shared.clients.as_ref().zip(self.peer()) else { return true };
        let trust = worker.config.listeners[self.listener(worker)].trust.as_ref();
        if trust.is_some_and(|trust| trust.is_trusted(peer.ip())) {
            return true;
        }
        match clients.enter(peer.ip()) {
            Some(place) => self.place.set(place).is_ok(),
            None => {
                worker.stats.http.refused.inc();
                worker.stats.http.refused_per_address.inc();
                if let Transport::Socket(stream) = &self.transport {
                    stream.reset_on_close();
                }
                false
            }
        }
    }

    /// Its address as text.
    pub(super) fn peer_text(&self) -> AddressText {
        AddressText::new(self.peer().map(|peer| peer.ip()))
    }

    /// Address of the client that a request came from, and whether it speaks TLS, as far as proxies in front are trusted.
    pub(super) fn client(&self, worker: &Worker, head: &RequestHead, bytes: &[u8]) -> (Option<IpAddr>, bool) {
        let peer = self.peer().map(|peer| peer.ip());
        let trust = worker.config.listeners[self.listener(worker)].trust.as_ref();
        let (Some(trust), Some(peer)) = (trust, peer) else { return (peer, self.is_tls()) };
        fn values<'a>(
            head: &'a RequestHead,
            bytes: &'a [u8],
            known: FieldName,
            name: &'a str,
        ) -> impl DoubleEndedIterator<Item = &'a [u8]> {
            head.fields
                .iter()
                .filter(move |field| {
                    field.known == known
                        && (known != FieldName::Other || field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
                })
                .map(|field| field.value.of(bytes))
        }
        let client = trust.client(peer, values(head, bytes, trust.field(), trust.header()));
        let scheme = trust.scheme(peer, values(head, bytes, FieldName::XForwardedProto, ""));
        (Some(client), scheme.map_or(self.is_tls(), |scheme| scheme == real_ip::Scheme::Https))
    }

    /// Its listener asks clients for certificates.
    pub(super) fn asks_for_certificates(&self, worker: &Worker) -> bool {
        let settings = worker.config.listeners[self.listener(worker)].tls.as_ref();
        settings.is_some_and(|settings| settings.client_certificates != ClientCertificates::Off)
    }

    /// Why a request for `host` is not served on this connection; `None`: it is. Where clients show certificates, what was
    /// verified holds for the name of the handshake alone: 421 for others (RFC 9110 section 15.5.20), as nginx does it. A
    /// certificate that failed gets 400, nginx's 495.
    pub(super) fn refuses_name(&self, worker: &Worker, host: &[u8]) -> Option<u16> {
        let settings = worker.config.listeners[self.listener(worker)].tls.as_ref()?;
        if settings.client_certificates == ClientCertificates::Off {
            return None;
        }
        self.with_tls_facts(|facts| {
            let facts = facts?;
            // None at all: the handshake was one of the config before, which did not ask for it.
            let is_missing = settings.client_certificates == ClientCertificates::Required
                && !matches!(facts.verify, Verify::Success);
            if is_missing || matches!(facts.verify, Verify::Failed(_)) {
                return Some(400);
            }
            let name = facts.server_name.as_deref()?;
            (!name.as_bytes().eq_ignore_ascii_case(host)).then_some(421)
        })
    }

    /// Sends all of `bytes`; gives the buffer back, emptied.
    pub(super) async fn send(&self, worker: &Worker, bytes: Vec<u8>) -> Result<Vec<u8>, Broken> {
        let mut bytes = self.send_pieces(worker, bytes).await?;
        bytes.clear();
        Ok(bytes)
    }

    /// Sends `bytes` without copying them.
    pub(super) async fn send_bytes(&self, worker: &Worker, bytes: bytes::Bytes) -> Result<(), Broken> {
        self.send_pieces(worker, bytes).await.map(drop)
    }

    /// Sends a whole buffer. The client may take as long as it likes as long as it takes something: the write time-out
    /// is for silence.
    async fn send_pieces<B: Buffer>(&self, worker: &Worker, bytes: B) -> Result<B, Broken> {
        self.sending.set(true);
        let sent = match self.tls.get() {
            Some(secure) => secure.send(worker, self, bytes).await,
            None => self.send_raw(worker, bytes).await,
        };
        self.sending.set(false);
        let bytes = sent?;
        worker.stats.http.bytes_out.add(bytes.bytes() as u64);
        Ok(bytes)
    }

    /// Hands a whole buffer to the socket as it is.
    pub(super) async fn send_raw<B: Buffer>(&self, worker: &Worker, mut bytes: B) -> Result<B, Broken> {
        let watched = self.writes.get().unwrap_or(&self.watched);
        let mut sent = 0;
        while sent < bytes.bytes() {
            watched.set(worker.config.http.write_timeout, OnExpiry::BreakAll);
            let (result, returned) = self.stream().write_piece(bytes, sent, PIECE_BYTES_MAX).await;
            watched.clear();
            bytes = returned;
            match result {
                Ok(written) if written > 0 => sent += written,
                _ => {
                    worker.stats.http.timeouts.add(u64::from(watched.expired()));
                    return Err(Broken);
                }
            }
        }
        Ok(bytes)
    }

    /// Bytes that were handed over for sending have not all been taken by the kernel.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.get()
    }

    /// From now on writes have deadlines apart from those of reads.
    pub(super) fn separate_writes(&self, worker: &Worker) {
        self.writes.get_or_init(|| worker.watches.watch(self.stream()));
    }

    /// The client's bytes are encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.get().is_some() || matches!(self.transport, Transport::Quic(_))
    }

    /// The socket, where nothing lies between it and the bytes of the connection; `None`: TLS does.
    pub(super) fn clear_stream(&self) -> Option<&Stream> {
        (!self.is_tls()).then(|| self.stream())
    }

    /// Calls `look` with the facts of the TLS session; `None` without one.
    pub(super) fn with_tls_facts<T>(&self, look: impl FnOnce(Option<&Arc<Facts>>) -> T) -> T {
        match (self.tls.get(), &self.transport) {
            (Some(secure), _) => secure.with_facts(look),
            (None, Transport::Quic(facts)) => look(facts.get()),
            (None, Transport::Socket(_)) => look(None),
        }
    }

    /// Reads what is there into the spare capacity of `buf`; 0: the client sends no more.
    pub(super) async fn read(&self, worker: &Worker, buf: Vec<u8>) -> (std::io::Result<usize>, Vec<u8>) {
        let Some(secure) = self.tls.get() else { return self.stream().read(buf).await };
        let (result, buf) = secure.read(worker, self, buf, None).await;
        let count = result.map(|end| match end {
            ReadEnd::Bytes(count) => count,
            ReadEnd::Cancelled => 0,
        });
        (count, buf)
    }

    /// The same, but `cancel` ends it and gives the buffer back.
    pub(super) async fn read_cancellable(
        &self,
        worker: &Worker,
        buf: Vec<u8>,
        cancel: &Cancel,
    ) -> (std::io::Result<ReadEnd>, Vec<u8>) {
        match self.tls.get() {
            None => self.stream().read_cancellable(buf, cancel).await,
            Some(secure) => secure.read(worker, self, buf, Some(cancel)).await,
        }
    }

    /// Waits until a read would find something, without holding a buffer.
    pub(super) async fn readable(&self) -> std::io::Result<()> {
        match self.tls.get() {
            Some(secure) if secure.is_ready() => Ok(()),
            _ => self.stream().readable().await,
        }
    }

    /// Something of a request has come.
    fn has_bytes(&self) -> bool {
        self.tls.get().is_some_and(|secure| secure.is_ready() || secure.has_partial_record())
            || self.stream().peek() == Peek::Bytes
    }

    /// It drains, and a request that is not there yet is not waited for. The first one of a connection is on its
    /// way as a rule, so that it is, for a while.
    fn is_not_waited_for(&self) -> bool {
        let Some(since) = self.door.draining_since(self.opened) else { return false };
        let of_first = if self.requests.get() == 0 { FIRST_REQUEST_MAX } else { Duration::ZERO };
        since.elapsed() >= of_first.max(self.worker().idle_patience.get())
    }

    /// Ends our direction: the client reads the end of the stream. Takes no longer than `time`, after which the connection
    /// is broken.
    pub(super) async fn end_direction(&self, time: Duration) {
        self.watched.set(time, OnExpiry::BreakAll);
        if let Some(secure) = self.tls.get() {
            secure.close(self).await;
        }
        self.stream().shutdown_write();
    }

    /// Sends what waits in `out`.
    pub(super) async fn flush(&self, worker: &Worker, out: &mut Vec<u8>) -> Result<(), Broken> {
        if out.len() > TAKEN_AT_ONCE_BYTES {
            self.arrival.forget_end();
        }
        if !out.is_empty() {
            *out = self.send(worker, std::mem::take(out)).await?;
        }
        Ok(())
    }
}

/// Whether the address rules of a listener let this client in, whatever it came over; a refusal is counted.
pub(super) fn is_admitted(worker: &Worker, listener: usize, peer: Option<SocketAddr>) -> bool {
    let source = peer.map_or(Source::Unix, |peer| Source::Ip(peer.ip().to_canonical()));
    let access = worker.config.listeners[listener].access.as_ref();
    let is_admitted = access.is_none_or(|access| access.admits(source));
    if !is_admitted {
        worker.stats.http.refused.inc();
        worker.stats.tcp[listener].refused.inc();
    }
    is_admitted
}

/// What a connection does next.
enum Next {
    /// Wait for bytes without buffers.
    Cold,
    /// Close.
    Close,
    /// Close so that the client does not take what it got for complete.
    Abort,
    /// End our direction, read on for a moment, close.
    Linger,
    /// The client speaks HTTP/2; this is what it has sent so far.
    Http2(Vec<u8>),
}

/// Drives one connection to its end.
///
/// What this future holds is what an idle connection costs: keep it small. An idle connection holds no [`Worker`] either, so
/// that it does not keep an old config alive.
pub(super) async fn drive(connection: Rc<Connection>) {
    let Some(begun) = begin(&connection).await else { return };
    let mut first = match begun {
        Begun::Http1(first) => first,
        Begun::Http2(first) => return Box::pin(h2::drive(connection, first)).await,
    };
    let mut is_cold = !connection.worker().hot.may_wait_hot() && first.is_empty();
    loop {
        let has_bytes = !is_cold || wait_cold(&connection).await;
        // Boxed: a cold connection must not carry the size of a busy one.
        let next = match has_bytes {
            true => Box::pin(serve(&connection, std::mem::take(&mut first))).await,
            false => Next::Close,
        };
        match next {
            Next::Cold => is_cold = true,
            Next::Abort => return connection.stream().reset_on_close(),
            Next::Close if connection.is_tls() => return Box::pin(connection.end_direction(CLOSE_MAX)).await,
            Next::Close => return,
            Next::Linger => return Box::pin(linger(&connection)).await,
            Next::Http2(input) => return Box::pin(h2::drive(connection, input)).await,
        }
    }
}

/// What a connection speaks, as far as is known before its first request, and what has been read of it.
enum Begun {
    Http1(Vec<u8>),
    Http2(Vec<u8>),
}

/// What comes before the first request: the header of a proxy in front, the handshake of TLS. `None`: there will be none.
async fn begin(connection: &Connection) -> Option<Begun> {
    let worker = connection.worker();
    let listener = connection.listener(&worker);
    // What has been read of the connection before anybody knows what it speaks.
    let mut first = Vec::new();
    if worker.config.listeners[listener].proxy_protocol {
        match Box::pin(preamble::read(&worker, connection)).await {
            Some(rest) if connection.is_admitted(&worker) && connection.takes_place(&worker) => first = rest,
            _ => return None,
        }
        // As HAProxy counts it, whether TLS follows or not.
        connection.arrival.note_handshake(connection.opened.elapsed());
    } else {
        // Where a header was to come when it was accepted, and none is any more, nobody has looked.
        let is_let_in = || connection.is_let_in.get() || connection.is_admitted(&worker);
        let has_place = || connection.is_let_in.get() || connection.takes_place(&worker);
        if !is_let_in() || !has_place() {
            return None;
        }
    }
    if worker.config.listeners[listener].tcp.is_some() {
        Box::pin(tcp::drive(&worker, connection, first)).await;
        return None;
    }
    let Some(config) = worker.tls.borrow()[listener].clone() else { return Some(Begun::Http1(first)) };
    let secure = Box::pin(secure::handshake(&worker, connection, &config, first)).await?;
    let is_http2 = secure.is_http2();
    drop(connection.tls.set(Box::new(secure)));
    Some(if is_http2 { Begun::Http2(Vec::new()) } else { Begun::Http1(Vec::new()) })
}

/// Waits for the next request without a buffer; `false`: none came in time.
async fn wait_cold(connection: &Connection) -> bool {
    if !begin_waiting_cold(connection) {
        return false;
    }
    let ready = connection.watched.until_drained(|| connection.is_not_waited_for(), connection.readable()).await;
    connection.worker().stats.http.idle.dec();
    connection.watched.set_idle(false);
    match ready {
        Some(ready) => ready.is_ok() && !connection.watched.expired(),
        None => connection.has_bytes(),
    }
}

/// `false`: it has waited for long enough.
fn begin_waiting_cold(connection: &Connection) -> bool {
    let worker = connection.worker();
    let timeout = match connection.requests.get() {
        0 => worker.config.http.header_timeout,
        _ => worker.config.http.keep_alive_timeout,
    };
    let left = timeout.saturating_sub(connection.arrival.begin_waiting(|| worker.now()).elapsed());
    connection.watched.cool_down();
    if left.is_zero() {
        return false;
    }
    connection.watched.set(left, OnExpiry::BreakReads);
    connection.watched.set_idle(true);
    worker.stats.http.idle.inc();
    true
}

/// Serves requests until the connection is to be closed or falls silent.
async fn serve(connection: &Connection, first: Vec<u8>) -> Next {
    // Not the worker: that of a busy connection changes from request to request.
    let lasting = connection.worker().lasting.clone();
    let mut lease = lasting.hot.take();
    lease.buffers().input.bytes.extend_from_slice(&first);
    serve_with(connection, lease.buffers()).await
}

async fn serve_with(connection: &Connection, hot: &mut Hot) -> Next {
    let mut head_begun = false;
    // The first read finds bytes, or may wait for them: see `drive`.
    let mut may_wait = true;
    loop {
        // A request under way goes on with this one whatever happens; the next one asks again.
        let worker = &connection.worker();
        let is_preface = connection.requests.get() == 0
            && worker.config.listeners[connection.listener(worker)].http2
            && h2::may_be_preface(hot.input.unread());
        if is_preface && hot.input.unread().len() >= PREFACE.len() {
            leave_reading(worker, &mut head_begun);
            connection.watched.clear();
            return Next::Http2(hot.input.unread().to_vec());
        }
        if !hot.input.unread().is_empty() && !is_preface {
            match parse_request(hot.input.unread(), &worker.limits, &mut hot.head) {
                Ok(Some(())) => {
                    if std::mem::take(&mut head_begun) {
                        worker.stats.http.reading.dec();
                        connection.watched.clear();
                    }
                    match answer(worker, connection, hot).await {
                        // A client that does not read must not make us gather answers without end.
                        After::Keep if hot.out.len() < GATHERED_BYTES_MAX => continue,
                        After::Keep => match connection.flush(worker, &mut hot.out).await {
                            Ok(()) => continue,
                            Err(Broken) => return Next::Close,
                        },
                        After::Close => return finish(worker, connection, hot, Next::Close).await,
                        After::Linger => return finish(worker, connection, hot, Next::Linger).await,
                        After::Abort => return Next::Abort,
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    worker.stats.http.malformed.inc();
                    respond::reject(worker, connection, hot.input.unread(), &mut hot.out, error.status(), &error);
                    leave_reading(worker, &mut head_begun);
                    return finish(worker, connection, hot, Next::Linger).await;
                }
            }
        }
        if connection.flush(worker, &mut hot.out).await.is_err() {
            leave_reading(worker, &mut head_begun);
            return Next::Close;
        }
        let read = if hot.input.unread().is_empty() {
            if !std::mem::replace(&mut may_wait, false) && !worker.hot.may_wait_hot() {
                return Next::Cold;
            }
            read_first(worker, connection, hot).await
        } else {
            if !std::mem::replace(&mut head_begun, true) {
                worker.stats.http.reading.inc();
                connection.arrival.begin_head(worker.now());
                connection.watched.set(worker.config.http.header_timeout, OnExpiry::BreakReads);
            }
            read_more(worker, connection, hot).await
        };
        match read {
            Read::Bytes => {}
            Read::Cold => return Next::Cold,
            Read::TooSlow => {
                leave_reading(worker, &mut head_begun);
                worker.stats.http.timeouts.inc();
                if connection.requests.get() == 0 && PREFACE.starts_with(hot.input.unread()) {
                    return Next::Close; // an answer of HTTP/1 would mean nothing to a client of HTTP/2
                }
                respond::reject(
                    worker,
                    connection,
                    hot.input.unread(),
                    &mut hot.out,
                    408,
                    &"request head took too long",
                );
                return finish(worker, connection, hot, Next::Close).await;
            }
            Read::End => {
                leave_reading(worker, &mut head_begun);
                return Next::Close;
            }
        }
    }
}

/// Answers the request whose head is in `hot.head`; returns what the connection does next.
async fn answer(worker: &Rc<Worker>, connection: &Connection, hot: &mut Hot) -> After {
    let keep_alive = hot.head.keep_alive && may_keep(worker, connection);
    let Hot { input, out, head, head_bytes, scratch } = hot;
    let (begin, end) = (input.start, input.start + head.head_bytes);
    let mut body = RequestBody::new(head.body, end, head.expect_continue, &worker.limits);
    // Without a body nobody reads into the input until the answer is out, so that the head can stay where it is.
    let mut kept = Vec::new();
    let bytes = if head.body == BodyKind::None && !head.upgrade {
        kept = std::mem::take(&mut input.bytes);
        &kept[begin..end]
    } else {
        head_bytes.clear();
        head_bytes.extend_from_slice(&input.bytes[begin..end]);
        &*head_bytes
    };
    let request = Request::new(worker, connection, head, bytes);
    let wire = Wire::H1(H1Wire { out, version: head.version, keep_alive });
    let answer = Answer::new(worker, connection, head.method, wire);
    let mut client = Client::new(Upload::H1 { body: &mut body, input }, answer);
    let mut outcome = exchange::run(worker, connection, request, &mut client, scratch).await;
    if outcome.after == After::Keep && !client.upload.is_done() {
        // Send the answer first: a client may wait for it before it goes on sending.
        let discarded = client.answer.flush().await.is_ok() && client.upload.discard(worker, connection).await;
        outcome.after = if discarded { After::Keep } else { After::Linger };
    }
    account(worker, connection, request, &client, outcome);
    let (answered, keeps) = (!matches!(client.answer.status(), 0 | 101), client.answer.keeps_connection());
    drop(client);
    if head.body == BodyKind::None && !head.upgrade {
        input.bytes = kept;
    }
    if outcome.after == After::Keep {
        input.start = body.end();
        if !keeps {
            outcome.after = After::Close;
        }
    }
    if outcome.after == After::Close && answered && head.keep_alive {
        // It is we who close: the client's next requests may be under way, and closing on them would reset the
        // connection under the answers to those before (RFC 9112 section 9.6).
        outcome.after = After::Linger;
    }
    outcome.after
}

/// The connection may serve another request behind this one, which it counts.
pub(super) fn may_keep(worker: &Worker, connection: &Connection) -> bool {
    let requests = connection.requests.get().saturating_add(1);
    connection.requests.set(requests);
    let http = &worker.config.http;
    let is_worn = http.keep_alive_requests_max != 0 && requests >= http.keep_alive_requests_max;
    !is_worn && !connection.is_draining() && {
        worker.coarse_now().saturating_duration_since(connection.opened) < http.keep_alive_time
    }
}

fn leave_reading(worker: &Worker, head_begun: &mut bool) {
    if std::mem::take(head_begun) {
        worker.stats.http.reading.dec();
    }
}

async fn finish(worker: &Worker, connection: &Connection, hot: &mut Hot, next: Next) -> Next {
    match connection.flush(worker, &mut hot.out).await {
        Ok(()) => next,
        Err(Broken) => Next::Close,
    }
}

enum Read {
    Bytes,
    /// Silent for a moment: go on without buffers.
    Cold,
    /// The head's deadline passed.
    TooSlow,
    /// The client closed, or the connection broke.
    End,
}

/// Waits for the first byte of a request.
async fn read_first(worker: &Worker, connection: &Connection, hot: &mut Hot) -> Read {
    hot.input.bytes.clear();
    hot.input.start = 0;
    if connection.is_not_waited_for() && !connection.has_bytes() {
        return Read::End;
    }
    hot.input.make_room(READ_ROOM);
    let cancel = connection.watched.cancel();
    connection.arrival.begin_waiting(|| worker.now());
    connection.watched.set_idle(true);
    worker.stats.http.idle.inc();
    connection.watched.set(HOT_IDLE, OnExpiry::GiveBackBuffer);
    let bytes = std::mem::take(&mut hot.input.bytes);
    let (result, bytes) = connection.read_cancellable(worker, bytes, &cancel).await;
    hot.input.bytes = bytes;
    connection.watched.clear();
    connection.watched.set_idle(false);
    worker.stats.http.idle.dec();
    match result {
        Ok(ReadEnd::Bytes(n)) if n > 0 => {
            worker.stats.http.bytes_in.add(n as u64);
            connection.arrival.end_waiting();
            Read::Bytes
        }
        Ok(ReadEnd::Cancelled) => Read::Cold,
        _ => Read::End,
    }
}

/// Waits for more of a head that has begun; its deadline is set already.
async fn read_more(worker: &Worker, connection: &Connection, hot: &mut Hot) -> Read {
    hot.input.make_room(READ_ROOM);
    let (result, bytes) = connection.read(worker, std::mem::take(&mut hot.input.bytes)).await;
    hot.input.bytes = bytes;
    match result {
        Ok(n) if n > 0 => {
            worker.stats.http.bytes_in.add(n as u64);
            Read::Bytes
        }
        _ if connection.watched.expired() => Read::TooSlow,
        _ => Read::End,
    }
}

/// Reads and drops what the client still sends, so that closing does not reset the connection under our answer.
pub(super) async fn linger(connection: &Connection) {
    connection.end_direction(LINGER).await;
    let worker = &connection.worker();
    let mut total = 0;
    // A client that is silent costs no buffer.
    while total < LINGER_BYTES_MAX && connection.readable().await.is_ok() {
        let (result, buffer) = connection.read(worker, worker.hot.take_buffer(LINGER_READ_BYTES)).await;
        worker.hot.give_buffer_back(buffer);
        match result {
            Ok(n) if n > 0 => total += n as u64,
            _ => return,
        }
    }
}
