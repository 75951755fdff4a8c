//! A client's connection as commands see it: whole packets in, bytes out.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ServerConfig;

use super::client::{Client, KEPT_BYTES_MAX};
use super::protocol::ProtocolError;
use super::protocol::compressed::Algorithm;
use super::protocol::packet::message_bytes;
use super::serve::LOGIN_PACKET_MAX;
use super::transport::Transport;
use crate::runtime::time::timeout;

/// Largest command of a client, headers included. Servers have `max_allowed_packet`, 16 MiB by default.
const COMMAND_BYTES_MAX: usize = 80 << 20;
/// First size of a client's read buffer, bytes.
const INPUT_BYTES: usize = 2 << 10;

/// A client's connection.
pub struct Wire {
    /// The connection.
    pub stream: Transport,
    input: Vec<u8>,
    /// Bytes of `input` that are used.
    start: usize,
    /// For the next packet during the login.
    pub next_sequence_id: u8,
}

/// What came instead of waiting.
pub(super) enum Next {
    Command(usize),
    Drain,
    Closed,
}

impl Wire {
    /// Nothing read yet.
    pub fn new(stream: Transport) -> Wire {
        Wire { stream, input: Vec::new(), start: 0, next_sequence_id: 0 }
    }

    /// Sends all of `out`.
    pub async fn send(&self, out: Vec<u8>) -> io::Result<()> {
        self.stream.write_all(out).await.0
    }

    /// Sends all of `out` and leaves it empty, with its memory. Errors: `TimedOut` when the client takes nothing for
    /// `limit`.
    pub async fn write(&self, out: &mut Vec<u8>, limit: Duration) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (result, mut buffer) = match timeout(limit, self.stream.write_all(std::mem::take(out))).await {
            Ok(done) => done,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        buffer.clear();
        *out = buffer;
        result
    }

    /// One message of the login, headers included.
    pub async fn login_packet(&mut self, sequence_id: u8) -> io::Result<Vec<u8>> {
        loop {
            match message_bytes(self.available(), sequence_id, LOGIN_PACKET_MAX) {
                Ok(Some(len)) => {
                    self.next_sequence_id = sequence_id.wrapping_add(1);
                    let message = self.available()[..len].to_vec();
                    self.consume(len);
                    return Ok(message);
                }
                Ok(None) => self.fill().await?,
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Lets the client make a TLS session. What it has sent of it already is part of it.
    pub(super) async fn begin_tls(&mut self, settings: &Arc<ServerConfig>) -> io::Result<()> {
        let first = self.take_available();
        self.stream.accept_tls(settings, first).await
    }

    /// Packets are compressed from now on.
    pub(super) fn pack(&mut self, algorithm: Algorithm) {
        let first = self.take_available();
        self.stream.pack(algorithm, first);
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        drop(input.drain(..std::mem::take(&mut self.start)));
        if input.len() == input.capacity() {
            input.reserve_exact(input.len().max(INPUT_BYTES));
        }
        let (result, input) = self.stream.read(input).await;
        self.input = input;
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Waits for a complete command.
    pub(super) async fn next_command(&mut self, client: &Client) -> Result<Next, ProtocolError> {
        loop {
            if let Some(len) = message_bytes(self.available(), 0, COMMAND_BYTES_MAX)? {
                return Ok(Next::Command(len));
            }
            let drains = self.available().is_empty() && !client.session.in_transaction();
            let (splitter, place) = (Rc::clone(&client.splitter), client.place);
            let mut fill = pin!(timeout(splitter.config().client_timeout, self.fill()));
            let end = std::future::poll_fn(|cx| {
                if drains && splitter.is_draining() {
                    return Poll::Ready(None);
                }
                splitter.await_drain(place, cx.waker());
                fill.as_mut().poll(cx).map(Some)
            });
            match end.await {
                Some(Ok(Ok(()))) => {}
                Some(_) => return Ok(Next::Closed),
                None => return Ok(Next::Drain),
            }
        }
    }

    /// Moves the command at the front of the input to `request`; without a copy when nothing else has arrived.
    pub(super) fn take_command(&mut self, len: usize, request: &mut Vec<u8>) {
        request.clear();
        if self.start == 0 && self.input.len() == len {
            if request.capacity() > KEPT_BYTES_MAX {
                *request = Vec::new();
            }
            std::mem::swap(&mut self.input, request);
        } else {
            request.extend_from_slice(&self.available()[..len]);
            self.consume(len);
        }
    }

    /// Received and not used yet.
    fn available(&self) -> &[u8] {
        &self.input[self.start..]
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.input.len() {
            self.start = 0;
            self.input.clear();
            if self.input.capacity() > KEPT_BYTES_MAX {
                self.input = Vec::new();
            }
        }
    }

    fn take_available(&mut self) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        drop(input.drain(..std::mem::take(&mut self.start)));
        input
    }
}
