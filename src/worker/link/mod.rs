//! Connections of HTTP/2 to servers, each shared by many requests: the `h2` crate over the same in-memory pipe that
//! serves clients.
//!
//! ```text
//!   request ──stream──▶ h2 ──▶ pipe ──write──▶ server
//!   answer  ◀──stream── h2 ◀── pipe ◀──read─── server
//! ```
//!
//! | part | does |
//! |---|---|
//! | this file | one connection: what its requests and its task both see |
//! | `drive` | its task: bytes between socket and crate, idle time, liveness |
//! | `servers` | the connections of a worker to one server, and the wait for a place on one |
//!
//! A connection is used once the server's settings are here: by then it has proved to speak HTTP/2, and how many requests
//! it takes at once is known. What is not read by a slow client fills the window of its own stream and nobody else's: the
//! window of the connection has room for all of them.

mod drive;
mod servers;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};

use super::Lasting;
use super::forward::ServerConnection;
use super::h2::pipe::{Pipe, PipeEnd};
use super::watch::{OnExpiry, Watched};
use crate::http::h2::Greeting;

pub(super) use servers::{Acquired, Limits, Servers};

/// Content that a server may send on a stream before somebody takes it.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Content of ours that waits on a stream for the server's windows.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A server that says nothing for this long while requests wait is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(10);

/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of a connection may take once its last stream is done.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// One connection to a server.
pub(super) struct Link {
    lasting: Rc<Lasting>,
    server: ServerConnection,
    pipe: Rc<RefCell<Pipe>>,
    /// Begins streams; `None`: no further ones.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Requests under way.
    streams: Cell<u32>,
    /// How many the server takes at once, as last seen.
    streams_allowed: Cell<usize>,
    /// The idle time without streams, with some the silence of the server; then the time of a close.
    timer: Watched,
    /// Since when it can be used.
    ready_since: Cell<Option<Instant>>,
    greeting: Cell<Greeting>,
    ping: Cell<Ping>,
    /// The server must answer a ping before it gets further requests.
    is_suspect: Cell<bool>,
    /// A response has come over it.
    has_answered: Cell<bool>,
    /// A write is under way.
    is_writing: Cell<bool>,
    is_lost: Cell<bool>,
    /// It is to end, with the requests that it has.
    is_given_up: Cell<bool>,
    /// Why it never came to be used.
    failure: RefCell<Option<io::Error>>,
    /// Who waits for it to be usable.
    opener: RefCell<Option<Waker>>,
    servers: Weak<Servers>,
}

/// Whether the server has been asked if it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ping {
    None,
    /// It is to be.
    Wanted,
    /// It has not answered yet.
    Sent,
}

impl Link {
    /// Begins to speak HTTP/2 on `server`, and returns when that has done so too. No time-out of its own; dropped before it
    /// ends, the connection closes.
    ///
    /// Errors: it speaks something else, takes no request, or the connection broke.
    async fn open(lasting: &Rc<Lasting>, servers: &Rc<Servers>, server: ServerConnection) -> io::Result<Rc<Link>> {
        let pipe: Rc<RefCell<Pipe>> = Rc::default();
        let limits = servers.limits();
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES.saturating_mul(limits.streams_max).min(i32::MAX as u32))
            .initial_max_send_streams(limits.streams_max as usize)
            .max_header_list_size(limits.head_bytes_max)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
        let (sender, connection) = builder.handshake(PipeEnd(pipe.clone())).await.map_err(io::Error::other)?;
        let link = Rc::new(Link {
            timer: lasting.watches.watch_alone(),
            lasting: lasting.clone(),
            server,
            pipe,
            sender: RefCell::new(Some(sender)),
            streams: Cell::new(0),
            streams_allowed: Cell::new(limits.streams_max as usize),
            ready_since: Cell::new(None),
            greeting: Cell::new(Greeting::default()),
            ping: Cell::new(Ping::None),
            is_suspect: Cell::new(false),
            has_answered: Cell::new(false),
            is_writing: Cell::new(false),
            is_lost: Cell::new(false),
            is_given_up: Cell::new(false),
            failure: RefCell::new(None),
            opener: RefCell::new(None),
            servers: Rc::downgrade(servers),
        });
        crate::runtime::spawn(drive::drive(link.clone(), connection));
        let opening = Opening(link.clone());
        poll_fn(|cx| opening.poll(cx)).await?;
        Ok(link)
    }

    /// It takes another request now.
    fn has_room(&self) -> bool {
        let Some(servers) = self.servers.upgrade() else { return false };
        let sender = self.sender.borrow();
        let Some(sender) = sender.as_ref().filter(|_| !self.is_suspect.get() && !self.is_lost.get()) else {
            return false;
        };
        (self.streams.get() as usize) < sender.current_max_send_streams().min(servers.limits().streams_max as usize)
    }

    /// It may take others later.
    fn is_open(&self) -> bool {
        !self.is_lost.get() && self.sender.borrow().is_some()
    }

    /// No further requests; it closes behind those under way. Whoever waits for a place on it makes another connection.
    fn close(&self) {
        // Dropped outside of the borrow: the crate wakes the connection's task.
        let Some(sender) = self.sender.take() else { return };
        drop(sender);
        if self.streams.get() == 0 {
            self.timer.set(CLOSE_MAX, OnExpiry::Wake);
        }
        if let Some(servers) = self.servers.upgrade() {
            servers.tell_one();
        }
    }

    /// Ends the connection with the requests that it has.
    fn give_up(&self) {
        self.is_given_up.set(true);
        self.timer.wake();
    }

    /// A request took too long: if the server is not there at all, those to come must not wait as long.
    fn doubt(&self) {
        if self.is_lost.get() || self.is_suspect.replace(true) {
            return;
        }
        if self.ping.get() == Ping::None {
            self.ping.set(Ping::Wanted);
        }
        self.timer.set(PING_TIMEOUT, OnExpiry::Wake);
        self.timer.wake();
    }

    /// Begins the count of a stream.
    fn begin(self: &Rc<Self>) -> Place {
        if self.streams.get() == 0 && self.ping.get() == Ping::None {
            self.timer.set(PING_AFTER, OnExpiry::Wake);
        }
        self.streams.set(self.streams.get() + 1);
        Place { link: self.clone() }
    }
}

/// The wait for the server's settings.
struct Opening(Rc<Link>);

impl Opening {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One that has broken behind its settings is of no use, and nobody would forget it.
        if self.0.is_lost.get() {
            let failure = self.0.failure.take();
            return Poll::Ready(Err(failure.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())));
        }
        if self.0.ready_since.get().is_some() {
            // A farewell in the same breath (GOAWAY): whoever waits would ask for another connection at once, and again.
            let is_of_use =
                if self.0.is_open() { Ok(()) } else { Err(io::Error::other("it takes no request (GOAWAY)")) };
            return Poll::Ready(is_of_use);
        }
        self.0.opener.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if self.0.ready_since.get().is_none() {
            self.0.sender.take();
            self.0.server.break_all();
        }
    }
}

/// A request's place on a connection, for as long as it is under way.
pub(super) struct Place {
    link: Rc<Link>,
}

/// A request that could not be sent: nothing of it has been.
pub(super) struct NotSent;

impl Place {
    /// Sends a request; with `end` it has no content. The connection takes no further ones when that fails.
    pub(super) fn send(
        &self,
        request: http::Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), NotSent> {
        let sent = match &mut *self.link.sender.borrow_mut() {
            // A copy, which goes at once: `sender` itself would keep a stream that the server has no room for yet, and one that is
            // given up would not be reset.
            Some(sender) => sender.clone().send_request(request, end),
            None => return Err(NotSent),
        };
        sent.map_err(|error| {
            tracing::debug!(%error, "HTTP/2 connection to a server takes no further request");
            self.link.close();
            NotSent
        })
    }

    /// The server takes extended CONNECT (RFC 8441 section 3).
    pub(super) fn takes_websockets(&self) -> bool {
        self.link.sender.borrow().as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    /// Others have had answers over the connection: an end of it may be that of an idle connection.
    pub(super) fn is_reused(&self) -> bool {
        self.link.has_answered.get()
    }

    /// The server has answered.
    pub(super) fn note_answer(&self) {
        self.link.has_answered.set(true);
    }

    /// See [`Link::doubt`].
    pub(super) fn doubt(&self) {
        self.link.doubt();
    }
}

/// Sends a run of content as the server's windows allow; `false`: it takes nothing more.
pub(super) async fn send_piece(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut capacity = stream.capacity();
        while capacity == 0 {
            capacity = match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(capacity)) => capacity,
                _ => return false,
            };
        }
        let piece = data.split_to(capacity.min(data.len()));
        if stream.send_data(piece, false).is_err() {
            return false;
        }
    }
    true
}

impl Drop for Place {
    fn drop(&mut self) {
        let link = &self.link;
        link.streams.set(link.streams.get() - 1);
        if link.streams.get() == 0 && !link.is_suspect.get() {
            link.ping.set(Ping::None);
            link.begin_silence();
        }
        if let Some(servers) = link.servers.upgrade() {
            servers.tell_one();
        }
    }
}
