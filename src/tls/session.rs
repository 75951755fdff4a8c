//! One TLS session, server side, without a socket: ciphertext in, plaintext out, and back.
//!
//! rustls owns the protocol; this module drives its unbuffered connection, so that an idle session has no buffers: bytes
//! live in the caller's, which may be lent to another connection while this one sleeps. RFC 8446, RFC 5246.
//!
//! ```text
//! handshake --established--> traffic --close_notify of the client--> half closed
//!     |                         |                                        |
//!     +---------any error-------+-----------------close------------------+--> ended
//! ```
//!
//! What a client may make us hold is bounded: a record by rustls (16 KiB and its frame), a handshake message by rustls
//! (64 KiB), all that waits for its end by [`INPUT_BYTES_MAX`]. Key updates, empty records and renegotiations are
//! counted by rustls, and too many end the session.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};

use super::error::TlsError;
use super::facts::Facts;
use super::notes::{self, Notes};

/// Ciphertext that may wait for the rest of its message. A caller that has given so much, and got no further, is told
/// [`TlsError::TooLarge`]; so it need never read more than this ahead.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What encryption adds to a record: header 5, explicit nonce 8 (TLS 1.2), content type 1 (TLS 1.3), tag 16.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// A method is shorter than this. Ours to choose: RFC 9110 section 9.1 has no limit.
const METHOD_BYTES_MAX: usize = 16;

/// Fatal alerts in plain text, for a handshake that has not come to keys (RFC 8446 section 6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// What [`Session::receive`] brought beside plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The handshake ended within this call: there are [`Session::facts`] now.
    pub is_established: bool,
    /// The client sends nothing more (close_notify). It may still read.
    pub is_closed: bool,
}

/// One session. Cheap when idle: see the test of that name.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// Records of a handshake message that is not complete after the handshake, which rustls has to see again with every
    /// call; after an empty one as many bytes for ever. Empty but for odd clients: who cuts a key update of 5 bytes in two?
    held: Vec<u8>,
    phase: Phase,
    /// The first bytes were looked at and are no plain HTTP.
    has_begun: bool,
    /// Something was sent: from then on an alert has to be encrypted.
    has_spoken: bool,
    /// The client has sent close_notify.
    is_closed: bool,
    has_failed: bool,
    /// Bytes left in the caller's `input` by the last call.
    left_bytes: usize,
    /// rustls has left more than what no record can be made of yet: it may remember places in whatever is left from now on.
    holds_all: bool,
}

enum Phase {
    Handshake(Box<Notes>),
    Traffic(Arc<Facts>),
    /// Failed, or close_notify was sent; the facts stay for the log line.
    Ended(Option<Arc<Facts>>),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("facts", &self.facts()).finish_non_exhaustive()
    }
}

impl Session {
    /// A session that waits for its client's first bytes.
    ///
    /// Errors: a config that rustls refuses; none that [`super::build`] makes.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Session, TlsError> {
        Ok(Session {
            connection: UnbufferedServerConnection::new(config.clone())?,
            held: Vec::new(),
            phase: Phase::Handshake(Box::default()),
            has_begun: false,
            has_spoken: false,
            is_closed: false,
            has_failed: false,
            left_bytes: 0,
            holds_all: false,
        })
    }

    /// Takes what the client sent.
    ///
    /// Used bytes are drained from the front of `input`; the rest, part of a message, waits there for more: it must be
    /// there at the next call, with what came since behind it. Decrypted bytes are appended to `plain`, never more than
    /// `input` held; what must be sent (handshake, tickets, alerts) to `out`, also when this fails: send it, then close.
    ///
    /// Errors: those of the downstream in [`TlsError`], after which the session has ended; what `plain` got before is
    /// good. [`TlsError::PlainHttp`] leaves `input` as it is.
    pub fn receive(
        &mut self,
        input: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        if self.has_failed || matches!(self.phase, Phase::Ended(None)) {
            return Err(TlsError::Ended);
        }
        if input.len() < self.left_bytes {
            // rustls remembers places in them, and would look there.
            debug_assert!(false, "the caller lost bytes of `input`");
            return Err(self.fail(TlsError::Ended));
        }
        if self.is_closed {
            // RFC 8446 section 6.1: what comes behind a close_notify is ignored.
            input.clear();
            self.left_bytes = 0;
            return Ok(Received { is_established: false, is_closed: true });
        }
        if !self.has_begun {
            match plain_http(input) {
                Some(true) => return Err(self.fail(TlsError::PlainHttp)),
                Some(false) => self.has_begun = true,
                None => return Ok(Received::default()),
            }
        }
        if !self.held.is_empty() {
            let mut whole = std::mem::take(&mut self.held);
            whole.append(input);
            *input = whole;
        }
        let mut used = 0;
        let behind_records = behind_records(input);
        let result = self.step(input, &mut used, plain, out);
        drop(input.drain(..used));
        self.holds_all |= input.len() != behind_records;
        match result {
            Ok(received) => {
                self.hold_fragments(input);
                self.left_bytes = input.len();
                Ok(received)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Encrypts `plain` and appends its records to `out`.
    ///
    /// Allocates nothing that stays but the growth of `out`. Errors: [`TlsError::NotEstablished`], [`TlsError::Ended`],
    /// [`TlsError::KeysExhausted`]; `out` then got nothing of `plain`.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match self.phase {
            Phase::Handshake(_) => return Err(TlsError::NotEstablished),
            Phase::Ended(_) => return Err(TlsError::Ended),
            Phase::Traffic(_) if plain.is_empty() => return Ok(()),
            Phase::Traffic(_) => {}
        }
        let records = plain.len().div_ceil(RECORD_BYTES_MAX);
        let bytes = plain.len() + records * RECORD_OVERHEAD;
        let result = self.with_traffic(out, |traffic, out| {
            append(out, bytes, |room| match traffic.encrypt(plain, room) {
                Err(EncryptError::InsufficientSize(size)) => Written::Needs(size.required_size),
                Err(EncryptError::EncryptExhausted) => Written::Failed(TlsError::KeysExhausted),
                Ok(written) => Written::Bytes(written),
            })
        });
        if let Err(error) = result {
            // Where keys are used up, rustls wants a close_notify sent.
            send_alert(&mut self.connection, &mut self.held, out)?;
            return Err(self.fail(error));
        }
        Ok(())
    }

    /// Appends a close_notify to `out`, once. Nothing can be encrypted afterwards; the client's bytes are still taken.
    ///
    /// A handshake that has not ended is given up without a word, as closing the socket does.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Traffic(_)) {
            let start = out.len();
            let sent = self.with_traffic(out, |traffic, out| {
                append(out, 2 + RECORD_OVERHEAD, |room| match traffic.queue_close_notify(room) {
                    Err(EncryptError::InsufficientSize(size)) => Written::Needs(size.required_size),
                    Err(EncryptError::EncryptExhausted) => Written::Failed(TlsError::KeysExhausted),
                    Ok(written) => Written::Bytes(written),
                })
            });
            if sent.is_err() {
                out.truncate(start);
            }
        }
        self.end();
    }

    /// Whether the handshake has ended and data may flow.
    pub fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Traffic(_))
    }

    /// Facts about the session, from the end of its handshake on.
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        match &self.phase {
            Phase::Handshake(_) => None,
            Phase::Traffic(facts) => Some(facts),
            Phase::Ended(facts) => facts.as_ref(),
        }
    }

    /// Everything that can be done with `input`. `used` counts what may be drained, also on failure.
    fn step(
        &mut self,
        input: &mut [u8],
        used: &mut usize,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        let Phase::Handshake(notes) = &mut self.phase else {
            let is_closed = process(&mut self.connection, input, used, plain, out)?;
            return self.finish_step(input, *used, is_closed, out);
        };
        let start = out.len();
        let connection = &mut self.connection;
        let result = notes::collect(notes, || process(connection, input, used, plain, out));
        if result.is_err() && notes.is_refused {
            // rustls sends access_denied for a name without certificate; RFC 6066 section 3 has a word for it.
            out.truncate(start);
            out.extend_from_slice(&UNRECOGNIZED_NAME);
            return Err(TlsError::UnknownName);
        }
        if result.is_err() && out.len() == start && !self.has_spoken {
            // rustls has no alert for a few malformed messages. Behind our first flight it would have to be encrypted.
            out.extend_from_slice(&DECODE_ERROR);
        }
        self.has_spoken |= out.len() > start;
        let is_closed = result?;
        let is_established = !self.connection.is_handshaking();
        if is_established {
            let facts = Facts::new(&self.connection, std::mem::take(notes));
            self.phase = Phase::Traffic(Arc::new(facts));
        }
        let received = self.finish_step(input, *used, is_closed, out)?;
        Ok(Received { is_established, ..received })
    }

    fn finish_step(
        &mut self,
        input: &[u8],
        used: usize,
        is_closed: bool,
        out: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        self.is_closed = is_closed;
        if !is_closed && input.len() - used >= INPUT_BYTES_MAX {
            if !self.has_spoken {
                out.extend_from_slice(&DECODE_ERROR);
            }
            return Err(TlsError::TooLarge);
        }
        Ok(Received { is_established: false, is_closed })
    }

    /// Calls `action` with what encrypts, after everything that must leave before.
    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        mut action: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        loop {
            match self.connection.process_tls_records(&mut self.held).state? {
                ConnectionState::WriteTraffic(mut traffic) => return action(&mut traffic, out),
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => {}
                _ => return Err(TlsError::Ended),
            }
        }
    }

    /// Records at the front of `input` that rustls has opened but not used up, see [`Session::held`], with what lies behind
    /// them. Until there was one, a record that is merely not complete stays with the caller.
    fn hold_fragments(&mut self, input: &mut Vec<u8>) {
        if self.holds_all && self.is_established() {
            self.held = std::mem::take(input);
        }
    }

    fn fail(&mut self, error: TlsError) -> TlsError {
        self.end();
        self.has_failed = true;
        error
    }

    fn end(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended(None));
        self.phase = match phase {
            Phase::Handshake(_) => Phase::Ended(None),
            Phase::Traffic(facts) => Phase::Ended(Some(facts)),
            ended => ended,
        };
    }
}

/// Runs rustls until it wants more bytes. Returns whether the client has closed its side.
///
/// On failure everything is sent that rustls wants to be sent: the alert.
fn process(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    used: &mut usize,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<bool, TlsError> {
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process_tls_records(&mut input[*used..]);
        let mut end = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => end = Some(Ok(false)),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => end = Some(Ok(true)),
            // Early data, which no config of ours allows.
            Ok(_) => end = Some(Err(TlsError::Ended)),
            Err(error) => end = Some(Err(error.into())),
        }
        *used += discard;
        match end {
            None => {}
            Some(Ok(false)) => return Ok(false),
            Some(Ok(true)) => {
                *used = input.len();
                return Ok(true);
            }
            Some(Err(error)) => {
                send_alert(connection, &mut input[*used..], out)?;
                return Err(error);
            }
        }
    }
}

/// Appends what rustls still wants to be sent after a failure. As long as there is such a thing, rustls does not look at
/// its input, which is given nevertheless: it may hold parts of a message.
fn send_alert(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    while connection.wants_write() {
        match connection.process_tls_records(input).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out)?,
            _ => break,
        }
    }
    Ok(())
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    append(out, 0, |room| match data.encode(room) {
        Ok(written) => Written::Bytes(written),
        Err(EncodeError::InsufficientSize(size)) => Written::Needs(size.required_size),
        Err(EncodeError::AlreadyEncoded) => Written::Bytes(0),
    })
}

enum Written {
    Bytes(usize),
    /// Nothing was written; so many bytes of room are needed.
    Needs(usize),
    Failed(TlsError),
}

/// Appends what `write` writes. It is called with `bytes` of room, and with more when it says so.
fn append(out: &mut Vec<u8>, mut bytes: usize, mut write: impl FnMut(&mut [u8]) -> Written) -> Result<(), TlsError> {
    let start = out.len();
    loop {
        out.resize(start + bytes, 0);
        match write(&mut out[start..]) {
            Written::Bytes(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            // Asked for more than before, so that this ends.
            Written::Needs(more) if more > bytes => bytes = more,
            Written::Needs(_) => {
                out.truncate(start);
                return Err(TlsError::Ended);
            }
            Written::Failed(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
}

/// Bytes behind the whole records (RFC 8446 section 5.1) at the front of `input`.
fn behind_records(input: &[u8]) -> usize {
    let mut rest = input;
    while let [_, _, _, high, low, behind_head @ ..] = rest {
        let Some(next) = behind_head.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { break };
        rest = next;
    }
    rest.len()
}

/// Whether the first bytes of a connection begin a TLS handshake; `None`: too few to tell.
///
/// A handshake record of any version from 3.0 on (RFC 8446 section 5.1). The hello of SSL 2 is none.
pub fn looks_like_tls(first: &[u8]) -> Option<bool> {
    match first {
        [] | [22] => None,
        [22, 3, ..] => Some(true),
        _ => Some(false),
    }
}

/// Whether the first bytes are a plain HTTP request: a method and a space. `None`: too few to tell.
fn plain_http(first: &[u8]) -> Option<bool> {
    let letters = first.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    match first.get(letters) {
        Some(b' ') => Some((1..METHOD_BYTES_MAX).contains(&letters)),
        None if letters < METHOD_BYTES_MAX => None,
        _ => Some(false),
    }
}
