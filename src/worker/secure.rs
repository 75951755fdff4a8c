//! TLS of one downstream connection: moves bytes between the socket and its session.
//!
//! The session ([`crate::tls::Session`]) owns no buffers; those used here come from the worker's pool and go back as soon as
//! they are empty, so that an idle connection holds none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use super::Worker;
use super::connection::{Broken, Connection};
use super::respond;
use super::watch::OnExpiry;
use crate::runtime::net::{Buffer, Cancel, ReadEnd};
use crate::tls::{Facts, Session, TlsError};
use crate::util::waiters::Waiters;

/// Plaintext that is encrypted before it is sent: a few records, so that a large answer does not double its memory.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Ciphertext asked for with the first read of a handshake: more than any usual ClientHello.
const HELLO_BYTES: usize = 2048;

/// What a record needs beyond its content.
const RECORD_OVERHEAD: usize = 64;

/// Lets one handshake compute at a time, and everything else that is ready in between: a burst of new clients costs the
/// others the time of one handshake, not of all.
#[derive(Default)]
pub(super) struct HandshakeGate {
    is_busy: Cell<bool>,
    waiters: Waiters,
}

/// The turn to compute.
struct Turn<'a>(&'a HandshakeGate);

impl HandshakeGate {
    async fn enter(&self) -> Turn<'_> {
        let take = || (!self.is_busy.replace(true)).then_some(());
        if !self.waiters.is_empty() || take().is_none() {
            self.waiters.wait_for(take).await;
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_busy.set(false);
        self.0.waiters.wake_first();
    }
}

/// Lets every other task that is ready run once.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
    let settings = worker.config.listeners[connection.listener as usize].tls.as_ref()?;
    let stats = &worker.stats.tls;
    connection.watched.set(settings.handshake_timeout, OnExpiry::BreakAll);
    let mut session = Session::new(config).ok()?;
    let (mut input, mut plain, mut out) = (first, Vec::new(), Vec::new());
    // What came behind a PROXY header may be the whole hello: then nothing follows before we have answered it.
    let mut has_unseen = !input.is_empty();
    loop {
        if !std::mem::take(&mut has_unseen) {
            if input.capacity() - input.len() < HELLO_BYTES {
                input.reserve(HELLO_BYTES);
            }
            let (result, returned) = connection.stream.read(input).await;
            input = returned;
            if !matches!(result, Ok(count) if count > 0) {
                stats.failed.inc();
                worker.stats.http.timeouts.add(u64::from(connection.watched.expired()));
                return None;
            }
        }
        let turn = worker.handshakes.enter().await;
        let received = session.receive(&mut input, &mut plain, &mut out);
        yield_once().await;
        drop(turn);
        if !out.is_empty() {
            let (result, returned) = connection.stream.write_all(out).await;
            out = returned;
            out.clear();
            if result.is_err() {
                stats.failed.inc();
                return None;
            }
        }
        match received {
            Ok(received) if received.is_established => break,
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
    }
    connection.watched.clear();
    connection.watched.set_tls();
    let facts = session.facts()?;
    stats.handshakes.inc();
    stats.resumed.add(u64::from(facts.is_resumed));
    Some(Secure {
        session: RefCell::new(session),
        incoming: RefCell::new(if input.is_empty() { Vec::new() } else { input }),
        plain: RefCell::new(plain),
        outgoing: RefCell::default(),
        is_closed: Cell::new(false),
    })
}

/// As nginx with its status 497: the client learns in plain text what is wrong.
async fn refuse_plain_http(worker: &Worker, connection: &Connection, input: &[u8]) {
    let mut out = Vec::new();
    respond::reject(worker, connection, input, &mut out, 400, &TlsError::PlainHttp);
    let (result, _) = connection.stream.write_all(out).await;
    if result.is_ok() {
        super::connection::linger(worker, connection).await;
    }
}

impl Secure {
    /// Calls `look` with the facts of the session.
    pub(super) fn with_facts<T>(&self, look: impl FnOnce(Option<&Facts>) -> T) -> T {
        look(self.session.borrow().facts())
    }

    /// Whether both sides agreed on HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.with_facts(|facts| facts.is_some_and(|facts| facts.alpn == Some("h2")))
    }

    /// Something decrypted waits to be taken.
    pub(super) fn has_plain(&self) -> bool {
        !self.plain.borrow().is_empty()
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
                Some(cancel) => connection.stream.read_cancellable(input, cancel).await,
                None => {
                    let (result, input) = connection.stream.read(input).await;
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
            let _ = connection.stream.write_all(out).await;
        }
    }
}
