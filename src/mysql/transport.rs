//! The bytes of one connection, in clear or over TLS, compressed or not, to a client or to a server.
//!
//! TLS begins in the middle of the login (SSLRequest), so a connection starts in clear and is secured later. An idle one holds
//! no buffers. One read and one write may be under way at once.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;

use super::protocol::compressed::{Algorithm, Frames};
use super::protocol::packet::message_bytes;
use crate::runtime::net::{Peek, Stream};
use crate::runtime::time::sleep;
use crate::tls::{Outbound, Session, TlsError};

/// Plaintext that is encrypted before it is sent: a few records.
const PIECE_BYTES_MAX: usize = 48 << 10;
/// Ciphertext asked for at once in a handshake, and beyond the plaintext that is wanted.
const HANDSHAKE_BYTES: usize = 4 << 10;
const RECORD_OVERHEAD: usize = 64;
/// Buffers larger than this are not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// What is compressed before it is sent: the worker has others to serve between.
const PACKED_BYTES_MAX: usize = 64 << 10;

/// See the module.
pub struct Transport {
    stream: Stream,
    secure: Option<Box<Secure>>,
    packed: Option<Box<Packed>>,
}

/// What lies between compressed packets and their user.
struct Packed {
    frames: RefCell<Frames>,
    /// The beginning of a frame, or frames that have not been unpacked yet.
    incoming: RefCell<Vec<u8>>,
    /// Unpacked, not taken yet.
    plain: RefCell<Vec<u8>>,
}

/// A TLS session, and what lies between it and its user.
struct Secure {
    session: RefCell<Side>,
    /// The beginning of a record whose rest has not come.
    incoming: RefCell<Vec<u8>>,
    /// Decrypted, not taken yet.
    plain: RefCell<Vec<u8>>,
    /// Records of the session's own, for the next write.
    outgoing: RefCell<Vec<u8>>,
}

/// On which side of the session we are.
enum Side {
    Server(Session),
    Client(Outbound),
}

/// What a session made of bytes.
#[derive(Default)]
struct Progress {
    is_established: bool,
    is_closed: bool,
}

impl Side {
    fn receive(&mut self, input: &mut Vec<u8>, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Progress, TlsError> {
        match self {
            Side::Server(session) => {
                let received = session.receive(input, plain, out)?;
                Ok(Progress { is_established: session.is_established(), is_closed: received.is_closed })
            }
            Side::Client(session) => {
                let received = session.receive(input, plain, out);
                input.clear();
                received?;
                Ok(Progress { is_established: !session.is_handshaking(), is_closed: session.is_closed() })
            }
        }
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match self {
            Side::Server(session) => session.encrypt(plain, out),
            Side::Client(session) => session.encrypt(plain, out),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Side::Server(session) => session.close(out),
            Side::Client(session) => session.close(out),
        }
    }
}

impl Transport {
    /// In clear.
    pub fn new(stream: Stream) -> Transport {
        Transport { stream, secure: None, packed: None }
    }

    /// Lets a client make a TLS session. `first`: what it has sent of that already.
    ///
    /// Errors: it is none that the settings allow, or the connection broke. Ends when the caller's time is up.
    pub async fn accept_tls(&mut self, settings: &Arc<ServerConfig>, first: Vec<u8>) -> io::Result<()> {
        let session = Session::new(settings).map_err(failed)?;
        self.shake_hands(Side::Server(session), first, Vec::new()).await
    }

    /// Makes a TLS session with the server of this name.
    ///
    /// Errors: its certificate is not good, it does not speak TLS, or the connection broke.
    pub async fn connect_tls(&mut self, settings: &Arc<ClientConfig>, name: &ServerName<'static>) -> io::Result<()> {
        let mut out = Vec::with_capacity(HANDSHAKE_BYTES);
        let session = Outbound::new(settings, name, &mut out).map_err(failed)?;
        self.shake_hands(Side::Client(session), Vec::new(), out).await
    }

    async fn shake_hands(&mut self, mut side: Side, mut input: Vec<u8>, mut out: Vec<u8>) -> io::Result<()> {
        let mut plain = Vec::new();
        let mut has_input = !input.is_empty();
        loop {
            if !out.is_empty() {
                let (result, returned) = self.stream.write_all(std::mem::take(&mut out)).await;
                result?;
                out = returned;
                out.clear();
            }
            if !std::mem::take(&mut has_input) {
                input.reserve(HANDSHAKE_BYTES);
                let (result, returned) = self.stream.read(input).await;
                input = returned;
                if result? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let progress = side.receive(&mut input, &mut plain, &mut out);
            if progress.is_err() && !out.is_empty() {
                // The alert says what we did not like.
                let _ = self.stream.write_all(std::mem::take(&mut out)).await;
            }
            let progress = progress.map_err(failed)?;
            if progress.is_closed {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if progress.is_established {
                break;
            }
        }
        if !out.is_empty() {
            self.stream.write_all(out).await.0?;
        }
        self.secure = Some(Box::new(Secure {
            session: RefCell::new(side),
            incoming: RefCell::new(if input.is_empty() { Vec::new() } else { input }),
            plain: RefCell::new(plain),
            outgoing: RefCell::default(),
        }));
        Ok(())
    }

    /// Sequence id of the next compressed packet that is sent; `None`: packets are not compressed.
    pub fn packed_sequence_id(&self) -> Option<u8> {
        self.packed.as_ref().map(|packed| packed.frames.borrow().sequence_id())
    }

    /// Packets are compressed from now on, in both directions. `first`: what has come of them already.
    pub fn pack(&mut self, algorithm: Algorithm, first: Vec<u8>) {
        let frames = RefCell::new(Frames::new(algorithm));
        self.packed = Some(Box::new(Packed { frames, incoming: RefCell::new(first), plain: RefCell::default() }));
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.secure.is_some()
    }

    /// Whether nobody else can read it: TLS, or a Unix socket.
    pub fn is_secret(&self) -> bool {
        self.is_tls() || self.stream.is_unix()
    }

    /// Reads what is there, at least one byte, into the spare capacity of `buffer` and, over TLS, beyond it.
    ///
    /// Returns the number of bytes added; 0: nothing more comes. Errors: also `UnexpectedEof` where the other side closed
    /// without saying so in TLS, and `InvalidData` where what it sends is no TLS. Panics when `buffer` has no spare capacity.
    pub async fn read(&self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match &self.packed {
            None => self.read_bytes(buffer).await,
            Some(packed) => Box::pin(packed.read(self, buffer)).await,
        }
    }

    /// Whether bytes are not taken as they come.
    pub fn is_wrapped(&self) -> bool {
        self.secure.is_some() || self.packed.is_some()
    }

    /// As [`Transport::read`], and may be dropped while nothing has come. Only where nothing [is
    /// wrapped](Transport::is_wrapped).
    pub async fn read_when_ready(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.stream.read_when_ready(buffer).await
    }

    async fn read_bytes(&self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match &self.secure {
            None => self.stream.read(buffer).await,
            Some(secure) => secure.read(&self.stream, buffer).await,
        }
    }

    /// As [`Transport::write_all`], to a server, where `bytes` are whole commands: compressed packets count from 0 with each.
    pub async fn write_commands(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match &self.packed {
            None => self.write_bytes(bytes).await,
            Some(packed) => Box::pin(packed.write_commands(self, bytes)).await,
        }
    }

    /// Sends all of `bytes` and gives the buffer back. One at a time.
    pub async fn write_all(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(packed) = &self.packed else { return self.write_bytes(bytes).await };
        for piece in bytes.chunks(PACKED_BYTES_MAX) {
            let mut out = Vec::new();
            packed.frames.borrow_mut().send(piece, &mut out);
            if let (Err(error), _) = self.write_bytes(out).await {
                return (Err(error), bytes);
            }
        }
        (Ok(()), bytes)
    }

    async fn write_bytes(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match &self.secure {
            None => self.stream.write_all(bytes).await,
            Some(secure) => (secure.send(&self.stream, &bytes).await, bytes),
        }
    }

    /// Waits until a read would find something, without holding a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        if self.has_bytes() { Ok(()) } else { self.stream.readable().await }
    }

    /// Something has come that nobody has taken yet.
    fn has_bytes(&self) -> bool {
        let of_tls = self.secure.as_ref().is_some_and(|secure| !secure.plain.borrow().is_empty());
        let packed = |packed: &Packed| !packed.plain.borrow().is_empty() || !packed.incoming.borrow().is_empty();
        of_tls || self.packed.as_deref().is_some_and(packed)
    }

    /// What a read would find, as far as that can be told without taking anything out: behind TLS, bytes may be of the session
    /// itself.
    pub fn peek(&self) -> Peek {
        if self.has_bytes() { Peek::Bytes } else { self.stream.peek() }
    }

    /// The other side has closed, as far as that can be told without reading on.
    pub fn has_hung_up(&self) -> bool {
        self.peek() == Peek::Closed || self.stream.breaker().has_hung_up()
    }

    /// Closing throws away what the other side has not received yet.
    pub fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    /// Says that nothing more will come, where TLS has a word for it. Whether it is heard is of no use to us.
    pub async fn say_goodbye(&self) {
        if let Some(secure) = &self.secure {
            let mut out = secure.outgoing.take();
            secure.session.borrow_mut().close(&mut out);
            let _ = self.stream.write_all(out).await;
        }
    }
}

impl Packed {
    async fn write_commands(&self, transport: &Transport, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Each has frames of its own: a server that has taken one looks for the next one at its socket.
            let command = message_bytes(rest, 0, usize::MAX).ok().flatten().unwrap_or(rest.len());
            let (command, behind) = rest.split_at(command);
            rest = behind;
            self.frames.borrow_mut().begin_command();
            for piece in command.chunks(PACKED_BYTES_MAX) {
                let mut out = Vec::new();
                self.frames.borrow_mut().send(piece, &mut out);
                if let (Err(error), _) = transport.write_bytes(out).await {
                    return (Err(error), bytes);
                }
            }
        }
        (Ok(()), bytes)
    }

    async fn read(&self, transport: &Transport, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let before = buffer.len();
        loop {
            take(&self.plain, &mut buffer);
            if buffer.len() > before {
                return (Ok(buffer.len() - before), buffer);
            }
            let mut input = self.incoming.take();
            let received = self.frames.borrow_mut().receive(&mut input, &mut self.plain.borrow_mut());
            let was_much = match received {
                Ok(was_much) => was_much,
                Err(error) => return (Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())), buffer),
            };
            if !self.plain.borrow().is_empty() {
                if !input.is_empty() {
                    self.incoming.replace(input);
                }
                if was_much {
                    // Others have their turn between two such.
                    sleep(Duration::from_millis(1)).await;
                }
                continue;
            }
            if input.is_empty() && input.capacity() > KEPT_BYTES_MAX {
                input = Vec::new();
            }
            input.reserve(HANDSHAKE_BYTES.max(buffer.capacity()));
            let (result, input) = transport.read_bytes(input).await;
            match result {
                Ok(count) if count > 0 => drop(self.incoming.replace(input)),
                ended => return (ended, buffer),
            }
        }
    }
}

impl Secure {
    async fn read(&self, stream: &Stream, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let before = buffer.len();
        assert!(before < buffer.capacity(), "read into a full buffer");
        loop {
            take(&self.plain, &mut buffer);
            if buffer.len() > before {
                return (Ok(buffer.len() - before), buffer);
            }
            match self.read_once(stream, buffer.capacity() - before).await {
                Ok(true) => {}
                Ok(false) if self.plain.borrow().is_empty() => return (Ok(0), buffer),
                Ok(false) => {}
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    /// Reads once from the socket into `plain`. `false`: the other side has said that nothing more comes.
    async fn read_once(&self, stream: &Stream, wanted: usize) -> io::Result<bool> {
        let mut input = self.incoming.take();
        input.reserve(wanted + RECORD_OVERHEAD);
        let (result, mut input) = stream.read(input).await;
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut session, mut plain) = (self.session.borrow_mut(), self.plain.borrow_mut());
        let received = session.receive(&mut input, &mut plain, &mut self.outgoing.borrow_mut());
        if !input.is_empty() {
            self.incoming.replace(input);
        }
        received.map(|progress| !progress.is_closed).map_err(failed)
    }

    async fn send(&self, stream: &Stream, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let mut cipher = self.outgoing.take();
            cipher.reserve(piece.len() + RECORD_OVERHEAD * (1 + piece.len() / (16 << 10)));
            self.session.borrow_mut().encrypt(piece, &mut cipher).map_err(failed)?;
            stream.write_all(cipher).await.0?;
        }
        Ok(())
    }
}

/// Moves what is in `plain` behind `buffer`; an idle connection keeps no large memory.
fn take(plain: &RefCell<Vec<u8>>, buffer: &mut Vec<u8>) {
    let mut plain = plain.borrow_mut();
    buffer.append(&mut plain);
    if plain.capacity() > KEPT_BYTES_MAX {
        *plain = Vec::new();
    }
}

fn failed(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
