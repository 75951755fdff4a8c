//! A client's connection as commands see it: whole packets in, bytes out.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;

use super::client::{Client, KEPT_BYTES_MAX};
use super::protocol::ProtocolError;
use super::protocol::compressed::Algorithm;
use super::protocol::packet::message_bytes;
use super::serve::LOGIN_PACKET_MAX;
use super::transport::Transport;
use crate::guard::proxy_protocol::{self, Header};
use crate::runtime::time::unless;

/// Largest command of a client, headers included. Servers have `max_allowed_packet`, 16 MiB by default.
const COMMAND_BYTES_MAX: usize = 80 << 20;
/// First size of a client's read buffer, bytes.
const INPUT_BYTES: usize = 2 << 10;
/// The same while it sends a file.
const FILE_BYTES: usize = 64 << 10;

/// A client keeps its buffers for so long after a command.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Nothing has come for a moment, and nothing has begun.
    Idle,
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

    /// The header of the PROXY protocol that the connection begins with.
    ///
    /// Errors: `InvalidData`: it begins with something else.
    pub(super) async fn proxy_header(&mut self) -> io::Result<Header> {
        loop {
            match proxy_protocol::parse(self.available()) {
                Ok(Some((header, bytes))) => {
                    self.consume(bytes);
                    return Ok(header);
                }
                Ok(None) => self.fill().await?, // it asks for no more than 4 KiB
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
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

    /// The read buffer, with room.
    fn roomy_input(&mut self) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        drop(input.drain(..std::mem::take(&mut self.start)));
        if input.len() == input.capacity() {
            input.reserve_exact(input.len().max(INPUT_BYTES));
        }
        input
    }

    async fn fill(&mut self) -> io::Result<()> {
        let input = self.roomy_input();
        let (result, input) = self.stream.read(input).await;
        self.input = input;
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The same, while nothing has come of the next command, for [`PATIENCE`] at most. Errors: what came instead.
    async fn fill_soon(&mut self, client: &Client, drains: bool) -> Result<io::Result<()>, Next> {
        client.set_alarm(PATIENCE);
        let mut ended = |cx: &mut Context<'_>| client.poll_ended(drains, Next::Idle, cx);
        if self.stream.is_wrapped() {
            // Bytes of a record or a frame that has begun must not be lost.
            if let Err(error) = unless(self.stream.readable(), &mut ended).await? {
                return Ok(Err(error));
            }
            client.set_alarm(client.splitter.config().client_timeout);
            return unless(self.fill(), |cx| client.poll_ended(drains, Next::Closed, cx)).await;
        }
        let mut input = self.roomy_input();
        let came = unless(self.stream.read_when_ready(&mut input), ended).await;
        self.input = input;
        came.map(|came| match came {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            came => came.map(drop),
        })
    }

    /// Waits without a buffer until something comes.
    pub(super) async fn wait_cold(&mut self, client: &Client) -> Next {
        self.input = Vec::new();
        client.set_alarm(client.splitter.config().client_timeout.saturating_sub(PATIENCE));
        let drains = !client.session.in_transaction();
        match unless(self.stream.readable(), |cx| client.poll_ended(drains, Next::Closed, cx)).await {
            Ok(Ok(())) => Next::Idle,
            Ok(Err(_)) => Next::Closed,
            Err(other) => other,
        }
    }

    /// Reads more of a file that the client sends, into a larger buffer than commands need.
    pub(super) async fn fill_file(&mut self) -> io::Result<()> {
        if self.input.capacity() < FILE_BYTES {
            self.input.reserve_exact(FILE_BYTES);
        }
        self.fill().await
    }

    /// The file is through: the next command needs no such buffer.
    pub(super) fn end_file(&mut self) {
        self.input = self.take_available();
        self.input.shrink_to_fit();
    }

    /// Waits for a complete command.
    pub(super) async fn next_command(&mut self, client: &Client) -> Result<Next, ProtocolError> {
        loop {
            if client.presence.is_killed() {
                return Ok(Next::Closed);
            }
            if let Some(len) = message_bytes(self.available(), 0, COMMAND_BYTES_MAX)? {
                return Ok(Next::Command(len));
            }
            let is_between = self.available().is_empty();
            let drains = is_between && !client.session.in_transaction();
            if drains && client.splitter.is_draining() {
                return Ok(Next::Drain);
            }
            let limit = client.splitter.config().client_timeout;
            let filled = match is_between && limit > PATIENCE {
                true => self.fill_soon(client, drains).await,
                false => {
                    client.set_alarm(limit);
                    unless(self.fill(), |cx| client.poll_ended(drains, Next::Closed, cx)).await
                }
            };
            match filled {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(Next::Closed),
                Err(other) => return Ok(other),
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
    pub(super) fn available(&self) -> &[u8] {
        &self.input[self.start..]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
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

impl Client {
    /// Ready with what ends a wait for the next command: a drain, if that matters now; an order to end; `late` when the
    /// alarm has gone off.
    fn poll_ended(&self, drains: bool, late: Next, cx: &mut Context<'_>) -> Poll<Next> {
        if drains && self.splitter.is_draining() {
            return Poll::Ready(Next::Drain);
        }
        if self.presence.poll_killed(cx).is_ready() {
            return Poll::Ready(Next::Closed);
        }
        self.splitter.poll_alarm(self.place, cx).map(|()| late)
    }
}
