//! A connection to a server, in clear or over TLS.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::runtime::net::{Peek, Stream};
use crate::tls::{Outbound, TlsError};
use crate::worker::watch::Watched;
use crate::worker::{Lasting, Worker};

/// Plaintext that is encrypted before it is sent: a few records.
const PIECE_BYTES_MAX: usize = 48 * 1024;

/// Most that a record adds to its content, and some more for what rustls wants to say.
const RECORD_OVERHEAD: usize = 64;

/// A connection to a server. `watched` is dropped before `stream`, as it must be.
pub(crate) struct ServerConnection {
    pub(in crate::worker) watched: Watched,
    stream: Stream,
    secure: Option<Box<Secure>>,
}

/// The TLS session of a connection.
struct Secure {
    session: RefCell<Outbound>,
    /// Has been decrypted and not been taken yet.
    plain: RefCell<Vec<u8>>,
}

impl ServerConnection {
    pub(super) fn new(worker: &Worker, stream: Stream) -> ServerConnection {
        ServerConnection { watched: worker.watches.watch(&stream), stream, secure: None }
    }

    /// Makes a TLS session. Errors: the server's certificate is not good, it does not speak TLS, or the connection broke; it
    /// has got nothing of a request.
    pub(super) async fn secure(
        &mut self,
        worker: &Worker,
        settings: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> io::Result<()> {
        let mut out = worker.hot.take_buffer(1024);
        let mut session = Outbound::new(settings, name, &mut out).map_err(failed)?;
        let mut plain = Vec::new();
        loop {
            if !out.is_empty() {
                let (result, returned) = self.stream.write_all(out).await;
                out = returned;
                out.clear();
                result?;
            }
            if !session.is_handshaking() {
                break;
            }
            let input = worker.hot.take_buffer(worker.config.process.read_buffer_bytes);
            let (result, input) = self.stream.read(input).await;
            if result? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let received = session.receive(&input, &mut plain, &mut out);
            worker.hot.give_buffer_back(input);
            if let Err(error) = received {
                // The alert says to the server what we did not like.
                let _ = self.stream.write_all(out).await;
                return Err(failed(error));
            }
        }
        worker.hot.give_buffer_back(out);
        self.secure = Some(Box::new(Secure { session: RefCell::new(session), plain: RefCell::new(plain) }));
        Ok(())
    }

    /// The server has chosen HTTP/2 in TLS.
    pub(in crate::worker) fn is_http2(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.session.borrow().is_http2())
    }

    /// The connection alone; `None`, and closed: it speaks TLS.
    pub(super) fn into_plain(self) -> Option<Stream> {
        let ServerConnection { watched, stream, secure } = self;
        drop(watched);
        secure.is_none().then_some(stream)
    }

    /// Nothing has come and it is open: another request may go there. Readable means dead: it was closed, or something nobody
    /// asked for came, which must never be taken for the answer to the next request. It also narrows the race with the
    /// server's idle time-out to one packet's time.
    pub(super) fn is_quiet(&self) -> bool {
        self.secure
            .as_ref()
            .is_none_or(|secure| secure.plain.borrow().is_empty() && !secure.session.borrow().is_closed())
            && self.stream.peek() == Peek::Quiet
    }

    /// All that was sent has been read, to the announcement of the next request: see [`crate::proxy::gateway::announce`].
    pub(super) fn is_awaiting(&self) -> bool {
        self.stream.is_all_read()
    }

    /// Sends all of `bytes` and gives the buffer back. One at a time.
    pub(in crate::worker) async fn write_all(&self, worker: &Lasting, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(secure) = &self.secure else { return self.stream.write_all(bytes).await };
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let mut cipher = worker.hot.take_buffer(piece.len() + RECORD_OVERHEAD * (1 + piece.len() / (16 << 10)));
            if let Err(error) = secure.session.borrow_mut().encrypt(piece, &mut cipher) {
                return (Err(failed(error)), bytes);
            }
            let (result, cipher) = self.stream.write_all(cipher).await;
            worker.hot.give_buffer_back(cipher);
            if result.is_err() {
                return (result, bytes);
            }
        }
        (Ok(()), bytes)
    }

    /// Reads what is there into the spare capacity of `buffer`; 0: the server sends no more.
    ///
    /// Errors: also `UnexpectedEof` where the server closed without saying so in TLS, which could have been anyone on the
    /// way, and `InvalidData` where what it sends is no TLS.
    pub(in crate::worker) async fn read(&self, worker: &Lasting, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(secure) = &self.secure else { return self.stream.read(buffer).await };
        let before = buffer.len();
        loop {
            buffer.append(&mut secure.plain.borrow_mut());
            if buffer.len() > before || secure.session.borrow().is_closed() {
                return (Ok(buffer.len() - before), buffer);
            }
            let room = (buffer.capacity() - before).max(1024) + RECORD_OVERHEAD;
            let (result, input) = self.stream.read(worker.hot.take_buffer(room)).await;
            let result = match result {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => secure.receive(&input, &mut buffer),
                Err(error) => Err(error),
            };
            worker.hot.give_buffer_back(input);
            if let Err(error) = result {
                return (Err(error), buffer);
            }
        }
    }

    /// Waits until a read would find something, without holding a buffer.
    pub(in crate::worker) async fn readable(&self) -> io::Result<()> {
        match &self.secure {
            Some(secure) if !secure.plain.borrow().is_empty() || secure.session.borrow().is_closed() => Ok(()),
            _ => self.stream.readable().await,
        }
    }

    /// Ends our direction: the server reads the end of the stream.
    pub(in crate::worker) async fn end_direction(&self) {
        if let Some(secure) = &self.secure {
            let mut out = Vec::new();
            secure.session.borrow_mut().close(&mut out);
            // Whether the server still hears it is of no use to us.
            let _ = self.stream.write_all(out).await;
        }
        self.stream.shutdown_write();
    }

    /// The socket, where nothing lies between it and the bytes of the connection; `None`: TLS does.
    pub(in crate::worker) fn clear_stream(&self) -> Option<&Stream> {
        self.secure.is_none().then_some(&self.stream)
    }

    /// Ends both directions by force: the server gets a reset.
    pub(in crate::worker) fn abort(&self) {
        self.stream.breaker().abort();
    }

    /// Ends both directions at once, so that every operation under way comes back.
    pub(in crate::worker) fn break_all(&self) {
        self.stream.breaker().break_all();
    }
}

impl Secure {
    /// Decrypts `input` into `plain`. What the session wants to say by itself leaves with the next bytes of ours.
    fn receive(&self, input: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        self.session.borrow_mut().receive_quietly(input, plain).map_err(failed)
    }
}

fn failed(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
