//! TLS of one downstream connection: moves bytes between the socket and its session.
//!
//! The session ([`crate::tls::Session`]) owns no buffers; those used here come from the worker's pool and go back as soon as
//! they are empty, so that an idle connection holds none.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use super::Worker;
use super::connection::{Broken, Connection};
use super::respond;
use super::watch::OnExpiry;
use crate::runtime::net::{Buffer, Cancel, ReadEnd};
use crate::runtime::turnstile::Turnstile;
use crate::tls::{Facts, Session, TlsError};
use crate::util::gate::{Gate, Turn};

/// Plaintext that is encrypted before it is sent: a few records, so that a large answer does not double its memory.
const PIECE_BYTES_MAX: usize = 48 * 1024;

/// Ciphertext asked for with the first read of a handshake: more than any usual ClientHello.
const HELLO_BYTES: usize = 2048;

/// What a record needs beyond its content.
const RECORD_OVERHEAD: usize = 64;

/// Lets one handshake compute at a time, and everything else that is ready in between: a burst of new clients costs the
/// others the time of one handshake, not of all.
pub(super) struct HandshakeGate {
    gate: Gate,
    turnstile: Turnstile,
}

impl HandshakeGate {
    /// Must be called on a data worker. Errors: no descriptor is left.
    pub(super) fn new() -> io::Result<HandshakeGate> {
        Ok(HandshakeGate { gate: Gate::default(), turnstile: Turnstile::new()? })
    }

    pub(super) async fn enter(&self) -> Turn<'_> {
        self.gate.enter().await
    }

    /// The computation is done: others have their turn before the next handshake has its own.
    pub(super) async fn leave(&self, turn: Turn<'_>) {
        self.turnstile.pass().await;
        drop(turn);
    }
}

/// An established session on a connection.
pub(super) struct Secure {
    session: RefCell<Session>,
    /// The beginning of a record whose rest has not come.
    incoming: RefCell<Vec<u8>>,
    /// Came with the end of the handshake and has not been taken yet.
    plain: RefCell<Vec<u8>>,
    /// Records of the session's own, for the next send.
    outgoing: RefCell<Vec<u8>>,
    /// The client sends nothing more.
    is_closed: Cell<bool>,
}

/// Makes a session with the client. `None`: there is none, and what could be said to the client has been.
///
/// `first` is what has been read of the connection already.
pub(super) async fn handshake(
    worker: &Worker,
    connection: &Connection,
    config: &Arc<rustls::ServerConfig>,
    first: Vec<u8>,
) -> Option<Secure> {
    let settings = worker.config.listeners[connection.listener(worker)].tls.as_ref()?;
    let stats = &worker.stats.tls;
    connection.watched.set(settings.handshake_timeout, OnExpiry::BreakAll);
    let mut session = Session::new(config).ok()?;
    let (mut input, mut plain, mut out) = (first, Vec::new(), Vec::new());
    // Behind a PROXY header the beginning of the handshake has been read already.
    let mut has_input = !input.is_empty();
    let is_closed = loop {
        if !std::mem::take(&mut has_input) && !read_hello(connection, &mut input).await {
            stats.failed.inc();
            worker.stats.http.timeouts.add(u64::from(connection.watched.expired()));
            return None;
        }
        let turn = worker.handshakes.enter().await;
        let received = session.receive(&mut input, &mut plain, &mut out);
        worker.handshakes.leave(turn).await;
        if !out.is_empty() {
            let (result, returned) = connection.stream().write_all(out).await;
            out = returned;
            out.clear();
            if result.is_err() {
                stats.failed.inc();
                return None;
            }
        }
        match received {
            Ok(received) if received.is_established => break received.is_closed,
            Ok(received) if received.is_closed => return None,
            Ok(_) => {}
            Err(error) => {
                stats.failed.inc();
                tracing::debug!(peer = ?connection.peer, %error, "TLS handshake failed");
                if matches!(error, TlsError::PlainHttp) {
                    refuse_plain_http(worker, connection, &input).await;
                }
                return None;
            }
        }
    };
    connection.watched.clear();
    connection.watched.set_tls();
    connection.arrival.note_handshake(connection.opened.elapsed());
    let facts = session.facts()?;
    stats.handshakes.inc();
    stats.resumed.add(u64::from(facts.is_resumed));
    Some(Secure {
        session: RefCell::new(session),
        incoming: RefCell::new(if input.is_empty() { Vec::new() } else { input }),
        plain: RefCell::new(plain),
        outgoing: RefCell::default(),
        is_closed: Cell::new(is_closed),
    })
}

/// Reads more of a handshake; `false`: nothing more comes.
async fn read_hello(connection: &Connection, input: &mut Vec<u8>) -> bool {
    if input.capacity() - input.len() < HELLO_BYTES {
        input.reserve(HELLO_BYTES);
    }
    let (result, returned) = connection.stream().read(std::mem::take(input)).await;
    *input = returned;
    matches!(result, Ok(count) if count > 0)
}

/// As nginx with its status 497: the client learns in plain text what is wrong.
async fn refuse_plain_http(worker: &Worker, connection: &Connection, input: &[u8]) {
    let mut out = Vec::new();
    respond::reject(worker, connection, input, &mut out, 400, &TlsError::PlainHttp);
    let (result, _) = connection.stream().write_all(out).await;
    if result.is_ok() {
        super::connection::linger(connection).await;
    }
}

impl Secure {
    /// Calls `look` with the facts of the session.
    pub(super) fn with_facts<T>(&self, look: impl FnOnce(Option<&Arc<Facts>>) -> T) -> T {
        look(self.session.borrow().facts())
    }

    /// Whether both sides agreed on HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.with_facts(|facts| facts.is_some_and(|facts| facts.alpn == Some("h2")))
    }

    /// A read ends at once: something decrypted waits to be taken, or nothing will come any more.
    pub(super) fn is_ready(&self) -> bool {
        self.is_closed.get() || !self.plain.borrow().is_empty()
    }

    /// A record has begun to come.
    pub(super) fn has_partial_record(&self) -> bool {
        !self.incoming.borrow().is_empty()
    }

    /// See [`Connection::read_cancellable`].
    pub(super) async fn read(
        &self,
        worker: &Worker,
        connection: &Connection,
        mut buf: Vec<u8>,
        cancel: Option<&Cancel>,
    ) -> (io::Result<ReadEnd>, Vec<u8>) {
        let before = buf.len();
        let cancels = cancel.map_or(0, Cancel::count);
        buf.append(&mut self.plain.borrow_mut());
        while buf.len() == before && !self.is_closed.get() {
            let room = (buf.capacity() - buf.len()).max(1024) + RECORD_OVERHEAD;
            let mut input = self.incoming.take();
            if input.capacity() == 0 {
                input = worker.hot.take_buffer(room);
            } else if input.capacity() - input.len() < room {
                input.reserve(room);
            }
            let (result, input) = match cancel {
                Some(cancel) => connection.stream().read_cancellable(input, cancel).await,
                None => {
                    let (result, input) = connection.stream().read(input).await;
                    (result.map(ReadEnd::Bytes), input)
                }
            };
            match result {
                Ok(ReadEnd::Bytes(count)) if count > 0 => {}
                ended => {
                    self.stash(worker, input);
                    return (ended, buf);
                }
            }
            if let Err(error) = self.decrypt(worker, input, &mut buf) {
                tracing::debug!(peer = ?connection.peer, %error, "TLS connection failed");
                return (Err(io::ErrorKind::InvalidData.into()), buf);
            }
            // The read may have been cancelled in the very moment in which it ended by itself.
            if buf.len() == before && cancel.is_some_and(|cancel| cancel.count() != cancels) {
                return (Ok(ReadEnd::Cancelled), buf);
            }
        }
        let count = buf.len() - before;
        (Ok(ReadEnd::Bytes(count)), buf)
    }

    fn decrypt(&self, worker: &Worker, mut input: Vec<u8>, plain: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut outgoing = self.outgoing.borrow_mut();
        let received = self.session.borrow_mut().receive(&mut input, plain, &mut outgoing);
        self.stash(worker, input);
        self.is_closed.set(self.is_closed.get() || received.as_ref().map_or(true, |received| received.is_closed));
        received.map(drop)
    }

    /// Keeps what is left of a record, or gives the buffer back.
    fn stash(&self, worker: &Worker, input: Vec<u8>) {
        if input.is_empty() {
            worker.hot.give_buffer_back(input);
        } else {
            self.incoming.replace(input);
        }
    }

    /// Sends all of `bytes`, encrypted. One send at a time.
    pub(super) async fn send<B: Buffer>(
        &self,
        worker: &Worker,
        connection: &Connection,
        bytes: B,
    ) -> Result<B, Broken> {
        let mut at = 0;
        while at < bytes.as_ref().len() {
            let piece = &bytes.as_ref()[at..];
            let piece = &piece[..piece.len().min(PIECE_BYTES_MAX)];
            let mut cipher = worker.hot.take_buffer(piece.len() + RECORD_OVERHEAD * (1 + piece.len() / (16 << 10)));
            cipher.append(&mut self.outgoing.borrow_mut());
            self.session.borrow_mut().encrypt(piece, &mut cipher).map_err(|_| Broken)?;
            at += piece.len();
            let cipher = connection.send_raw(worker, cipher).await?;
            worker.hot.give_buffer_back(cipher);
        }
        Ok(bytes)
    }

    /// Says that nothing more will come (close_notify), and what else waits to be said.
    pub(super) async fn close(&self, connection: &Connection) {
        let mut out = self.outgoing.take();
        self.session.borrow_mut().close(&mut out);
        if !out.is_empty() {
            // Whether the client still hears it is of no use to us.
            let _ = connection.stream().write_all(out).await;
        }
    }
}
