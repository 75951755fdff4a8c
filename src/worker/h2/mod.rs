//! One downstream connection of HTTP/2: the `h2` crate over an in-memory pipe, each stream an exchange of its own.
//!
//! ```text
//!   socket ──read──▶ pipe ──▶ h2 ──▶ stream ──▶ exchange ──▶ action
//!   socket ◀─write── pipe ◀── h2 ◀── stream ◀─── answer ◀──────┘
//! ```
//!
//! Reading, the crate and writing are three parts of one task, polled in the order in which bytes move, until none of them
//! moves any more: a burst of requests that arrives in one read leaves as one write. A stream whose answer is not ready at
//! once becomes a task of its own.

pub(super) mod pipe;
mod stream;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};

use self::pipe::{Pipe, PipeEnd};
pub(super) use self::stream::{Receiver, Stream};
use super::answer::{Answer, StreamWire, Wire};
use super::blocked::Blocked;
use super::connection::Connection;
use super::exchange::{self, After, Client, Request};
use super::hot::Hot;
use super::multiplexed;
use super::trail::account;
use super::upload::Upload;
use super::watch::{OnExpiry, Watched};
use super::{Lasting, Worker};
use crate::config::Config;
use crate::http::h1::Limits;
use crate::http::h2::{ErrorCode, Flood, Guard, PREFACE, goaway_frame, write_request};
use crate::metrics::Http2Stats;
use crate::runtime::net::ReadEnd;

/// `input` begins like a preface. Nothing else does: `PRI` is no method of HTTP/1.
pub(super) fn may_be_preface(input: &[u8]) -> bool {
    input.len() >= 4 && PREFACE.starts_with(&input[..input.len().min(PREFACE.len())])
}

/// An idle connection keeps its buffers for this long.
const HOT_IDLE: Duration = Duration::from_millis(800);

/// Bytes asked for with one read.
const READ_BYTES: usize = 16 * 1024;

/// How long what a client still sends is read before closing.
const LINGER: Duration = Duration::from_secs(2);

/// How long the end of a connection may take once its last stream is done.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// State of one connection that its parts share.
struct Shared {
    pipe: Rc<RefCell<Pipe>>,
    /// Streams that are being answered.
    streams: Cell<u32>,
    /// The time without a stream, and that of the end; apart from the deadlines of reads, which come and go meanwhile.
    idle: Watched,
    /// No further streams: the connection ends when those under way have.
    is_closing: Cell<bool>,
    /// The crate is done with the connection.
    is_served: Cell<bool>,
    /// Counts what the client makes us do.
    guard: RefCell<Guard>,
    /// Enough: the connection ends with GOAWAY.
    flood: Cell<Option<Flood>>,
    /// The client's preface is complete.
    has_greeted: Cell<bool>,
    /// The last stream is done and the connection about to end.
    is_ending: Cell<bool>,
    /// Since when the client owes us the rest of its preface or of a header block.
    owes_since: Cell<Option<Instant>>,
    /// The time in which the client could send no content.
    blocked: Rc<Blocked>,
}

/// Drives a connection to its end. `input` is what has been read of it, its preface in front.
pub(super) async fn drive(connection: Rc<Connection>, input: Vec<u8>) {
    let worker = connection.worker();
    let lasting = worker.lasting.clone();
    let shared = Rc::new(Shared {
        pipe: Rc::default(),
        streams: Cell::new(0),
        idle: worker.watches.watch_alone(),
        is_closing: Cell::new(false),
        is_served: Cell::new(false),
        guard: RefCell::new(Guard::new(&worker.config.http2.guard)),
        flood: Cell::new(None),
        has_greeted: Cell::new(false),
        owes_since: Cell::new(Some(worker.now())),
        is_ending: Cell::new(false),
        blocked: Rc::default(),
    });
    shared.idle.set(worker.config.http.keep_alive_timeout, OnExpiry::Wake);
    worker.stats.http2.connections.inc();
    let _open = OpenGuard::new(&worker.stats.http2);
    shared.take_inbound(&worker, &input);
    worker.hot.give_buffer_back(input);
    connection.separate_writes(&worker);
    // From here on nobody holds it but for what goes on with it: an idle connection must not keep an old config alive.
    drop(worker);
    let mut reader = pin!(read(&lasting, &connection, &shared));
    let mut server = pin!(serve(connection.clone(), shared.clone()));
    let mut writer = pin!(write(&connection, &shared));
    let (mut is_reading, mut is_serving) = (true, true);
    poll_fn(|cx| {
        loop {
            let before = shared.pipe.borrow().moves();
            if is_reading {
                is_reading = reader.as_mut().poll(cx).is_pending();
            }
            if is_serving && server.as_mut().poll(cx).is_ready() {
                is_serving = false;
                shared.is_served.set(true);
                shared.is_closing.set(true);
                connection.watched.set(CLOSE_MAX, OnExpiry::BreakAll);
            }
            let is_writing = writer.as_mut().poll(cx).is_pending();
            if !is_writing || (!is_serving && !shared.pipe.borrow().has_outbound() && !connection.is_sending()) {
                return Poll::Ready(());
            }
            if shared.pipe.borrow().moves() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    shared.is_closing.set(true);
    shared.is_served.set(true);
    // A read may still be under way. It goes on for a moment, so that closing does not reset the connection under our
    // answers (RFC 9112 section 9.6), and ends with the socket; its buffer must be back before that is closed.
    if shared.pipe.borrow_mut().discard() {
        connection.end_direction(LINGER).await;
    } else {
        connection.stream().breaker().break_all();
    }
    if is_reading {
        reader.await;
    }
}

/// Counts a connection as one of HTTP/2, and as no longer one even if it ends by a panic.
struct OpenGuard(Arc<Http2Stats>);

impl OpenGuard {
    fn new(stats: &Arc<Http2Stats>) -> OpenGuard {
        stats.open.inc();
        OpenGuard(stats.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// Reads from the client into the pipe, for as long as the client sends.
async fn read(lasting: &Lasting, connection: &Connection, shared: &Shared) {
    loop {
        poll_fn(|_| if shared.pipe.borrow().wants_inbound() { Poll::Ready(()) } else { Poll::Pending }).await;
        match read_once(lasting, connection, shared).await {
            Ok(ReadEnd::Bytes(count)) if count > 0 => {}
            Ok(ReadEnd::Cancelled) => {
                shared.pipe.borrow_mut().shrink();
                // Waits without a buffer, and without a worker. The end has a deadline of its own.
                if !shared.is_served.get() {
                    connection.watched.clear();
                }
                if connection.readable().await.is_err() {
                    return shared.pipe.borrow_mut().end_inbound();
                }
            }
            _ => return shared.pipe.borrow_mut().end_inbound(),
        }
    }
}

/// One read, with the buffer that it needs.
async fn read_once(lasting: &Lasting, connection: &Connection, shared: &Shared) -> std::io::Result<ReadEnd> {
    let worker = connection.worker();
    let buffer = lasting.hot.take_buffer(READ_BYTES);
    let cancel = connection.watched.cancel();
    shared.set_read_deadline(&worker, connection);
    let (result, buffer) = connection.read_cancellable(&worker, buffer, &cancel).await;
    match result {
        Ok(ReadEnd::Bytes(count)) if count > 0 => {
            worker.stats.http.bytes_in.add(count as u64);
            shared.take_inbound(&worker, &buffer);
        }
        Ok(ReadEnd::Cancelled) => {}
        _ => {
            let is_late = shared.owes_since.get().is_some() && connection.watched.expired();
            worker.stats.http.timeouts.add(u64::from(is_late));
        }
    }
    lasting.hot.give_buffer_back(buffer);
    result
}

impl Shared {
    /// What the client sent goes on to the crate, unless it is enough.
    fn take_inbound(&self, worker: &Worker, bytes: &[u8]) {
        let mut guard = self.guard.borrow_mut();
        // The connection is at its end already, by our doing or the crate's.
        if self.flood.get().is_some() || self.is_served.get() || guard.summary().found_by_h2.is_some() {
            return self.pipe.borrow_mut().put_inbound(bytes);
        }
        let before = guard.summary();
        let now = worker.now();
        match guard.on_inbound(bytes, now) {
            Ok(after) => {
                worker.stats.http2.count_between(&before, &after);
                self.blocked.note(after.inbound_window_bytes, now);
                // The rest of an upload's frame is the business of whoever reads that upload.
                let is_begun = after.is_inbound_within_frame && self.streams.get() == 0;
                if after.is_header_block_open || is_begun {
                    self.owes_since.set(self.owes_since.get().or(Some(now)));
                } else if self.has_greeted.get() {
                    self.owes_since.set(None);
                }
                self.pipe.borrow_mut().put_inbound(bytes);
            }
            Err(flood) => self.end_by(worker, flood),
        }
    }

    /// Counts what is about to be sent; a connection that ends for a flood gets its GOAWAY behind it. `true`: nothing more
    /// is to be sent then.
    fn note_outbound(&self, worker: &Worker, outbound: &mut Vec<u8>) -> bool {
        let mut guard = self.guard.borrow_mut();
        let (before, now) = (guard.summary(), worker.now());
        match guard.on_outbound(outbound, now) {
            Ok(after) => {
                worker.stats.http2.count_between(&before, &after);
                self.blocked.note(after.inbound_window_bytes, now);
            }
            Err(flood) => self.end_by(worker, flood),
        }
        let summary = guard.summary();
        let is_last = self.flood.get().is_some();
        if is_last && !summary.is_outbound_within_frame {
            outbound.extend_from_slice(&goaway_frame(summary.highest_stream_id, ErrorCode::ENHANCE_YOUR_CALM));
        }
        is_last
    }

    fn end_by(&self, worker: &Worker, flood: Flood) {
        if self.flood.get().is_some() {
            return;
        }
        worker.stats.http2.count_flood(flood);
        tracing::debug!(kind = flood.name(), "HTTP/2 connection ends: its client asks too much of it");
        self.flood.set(Some(flood));
        self.is_closing.set(true);
        self.pipe.borrow_mut().seal();
    }

    /// How long the next read may take. A client that owes us the rest of something gets the time for a request head, all
    /// in all.
    fn set_read_deadline(&self, worker: &Worker, connection: &Connection) {
        match self.owes_since.get() {
            _ if self.is_closing.get() => {}
            Some(since) => {
                let left = worker.config.http.header_timeout.saturating_sub(since.elapsed());
                connection.watched.set(left, OnExpiry::BreakReads);
            }
            None => connection.watched.set(HOT_IDLE, OnExpiry::GiveBackBuffer),
        }
    }

    /// Without a stream for longer than connections are kept.
    fn is_idle_for_too_long(&self) -> bool {
        self.streams.get() == 0 && self.idle.expired()
    }

    /// The client does not end a connection that we have asked it to end, and on which nothing is under way: once.
    fn ends_too_slowly(&self) -> bool {
        if !self.is_closing.get() || self.streams.get() > 0 {
            return false;
        }
        match self.is_ending.get() {
            false => {
                self.is_ending.set(true);
                self.idle.set(CLOSE_MAX, OnExpiry::Wake);
                false
            }
            true => self.idle.expired(),
        }
    }
}

/// Sends what the crate wants to be sent; ends behind the GOAWAY of a flood, or when nothing can be sent.
async fn write(connection: &Connection, shared: &Shared) {
    loop {
        poll_fn(|_| match shared.pipe.borrow().has_outbound() || shared.flood.get().is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        let worker = &connection.worker();
        let buffer = worker.hot.take_buffer(READ_BYTES);
        let mut outbound = shared.pipe.borrow_mut().take_outbound(buffer);
        let is_last = shared.note_outbound(worker, &mut outbound);
        match connection.send(worker, outbound).await {
            Ok(_) if is_last => return,
            Ok(empty) => worker.hot.give_buffer_back(empty),
            Err(_) => return shared.pipe.borrow_mut().break_outbound(),
        }
    }
}

/// Takes requests from the crate and starts their exchanges, until the connection has no more.
async fn serve(connection: Rc<Connection>, shared: Rc<Shared>) {
    let builder = builder(&connection.worker().config);
    let handshake = builder.handshake::<_, Bytes>(PipeEnd(shared.pipe.clone()));
    let mut h2 = match handshake.await {
        Ok(h2) => {
            shared.has_greeted.set(true);
            shared.owes_since.set(None);
            h2
        }
        Err(error) => return tracing::debug!(peer = ?connection.peer, %error, "HTTP/2 did not begin"),
    };
    loop {
        let next = poll_fn(|cx| {
            let is_draining = shared.idle.poll_draining(cx, connection.is_draining());
            if is_draining && !shared.is_closing.replace(true) {
                h2.graceful_shutdown();
            }
            let is_idle = !shared.is_closing.get() && shared.is_idle_for_too_long();
            if is_idle || shared.ends_too_slowly() {
                shared.is_closing.set(true);
                h2.abrupt_shutdown(Reason::NO_ERROR);
            }
            h2.poll_accept(cx)
        })
        .await;
        match next {
            Some(Ok((request, respond))) => {
                let worker = connection.worker();
                if !super::connection::may_keep(&worker, &connection) && !shared.is_closing.replace(true) {
                    h2.graceful_shutdown();
                }
                start(&worker, &connection, &shared, request, respond).await;
            }
            Some(Err(error)) => {
                return tracing::debug!(peer = ?connection.peer, %error, "HTTP/2 connection ended");
            }
            None => return,
        }
    }
}

fn builder(config: &Config) -> h2::server::Builder {
    let settings = &config.http2;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.streams_max)
        .initial_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_frame_size(settings.frame_bytes_max)
        .max_header_list_size(settings.header_list_bytes_max)
        .header_table_size(settings.header_table_bytes)
        .max_send_buffer_size(settings.send_buffer_bytes_max);
    if multiplexed::offers_connect(config) {
        builder.enable_connect_protocol();
    }
    builder
}

/// Starts an exchange; one that is not done at once goes on as a task of its own.
async fn start(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    shared: &Rc<Shared>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let guard = StreamGuard::new(worker, connection, shared);
    let mut exchange: Pin<Box<dyn Future<Output = ()>>> =
        Box::pin(crate::runtime::contain(answer(guard, request, respond)));
    let is_done = poll_fn(|cx: &mut Context<'_>| Poll::Ready(exchange.as_mut().poll(cx).is_ready())).await;
    if !is_done {
        crate::runtime::spawn(exchange);
    }
}

/// Counts a stream as under way.
struct StreamGuard {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    shared: Rc<Shared>,
}

impl StreamGuard {
    fn new(worker: &Rc<Worker>, connection: &Rc<Connection>, shared: &Rc<Shared>) -> StreamGuard {
        shared.streams.set(shared.streams.get() + 1);
        shared.idle.clear();
        shared.is_ending.set(false);
        StreamGuard { worker: worker.clone(), connection: connection.clone(), shared: shared.clone() }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get() - 1);
        if self.shared.streams.get() == 0 {
            self.shared.idle.set(self.worker.config.http.keep_alive_timeout, OnExpiry::Wake);
        }
    }
}

/// Answers the request of one stream.
async fn answer(guard: StreamGuard, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
    let StreamGuard { worker, connection, shared } = &guard;
    let (parts, recv) = request.into_parts();
    let stream = Rc::new(Stream::new(worker, respond));
    let mut lease = worker.hot.take_for_stream();
    let Hot { head, head_bytes, scratch, .. } = lease.buffers();
    let head_bytes_max = worker.limits.head_bytes_max.min(worker.config.http2.header_list_bytes_max as usize);
    let limits = Limits { head_bytes_max, ..worker.limits };
    let converted = write_request(&parts, !recv.is_end_stream(), &limits, head_bytes, head);
    drop(parts);
    // Behind an extended CONNECT nothing comes before it is agreed to.
    let awaits_answer = head.expect_continue || head.upgrade;
    let receiver = Receiver::new(recv, stream.clone(), shared.blocked.clone(), awaits_answer);
    let (mut receiver, sender) = (multiplexed::Receiver::H2(receiver), multiplexed::Stream::H2(stream.clone()));
    let request = Request::new(worker, connection, head, head_bytes);
    let wire = Wire::Stream(StreamWire { stream: &sender, gathered: Vec::new(), is_broken: false });
    let answer = Answer::new(worker, connection, head.method, wire).for_connect(head.upgrade);
    let mut client = Client::new(Upload::Stream(&mut receiver), answer);
    let outcome = match converted {
        Ok(()) => exchange::run(worker, connection, request, &mut client, scratch).await,
        Err(error) => {
            worker.stats.http.malformed.inc();
            tracing::debug!(peer = ?connection.peer, %error, "request refused");
            exchange::refuse_malformed(&mut client, scratch, error.status()).await
        }
    };
    account(worker, connection, request, &client, outcome);
    if outcome.after == After::Abort || client.answer.status() == 0 {
        return stream.reset();
    }
    drop(client);
    drop(lease);
    if let multiplexed::Receiver::H2(receiver) = receiver {
        receiver.linger(worker).await;
    }
}
