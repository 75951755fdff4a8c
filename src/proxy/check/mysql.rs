//! The beginning of a MySQL connection: greeting; with a user also login, ping and a proper end, so that the server
//! does not count the check as an interrupted handshake.
//!
//! Speaks `mysql_native_password`; a user without a password may have any plugin.

use super::{CheckStatus, Step, Verdict, closed, excerpt};
use crate::config::model::MysqlProbe;
use crate::mysql::protocol::ProtocolError;
use crate::mysql::protocol::auth::{NATIVE, decode_switch, native_answer};
use crate::mysql::protocol::capability::BACKEND_BASE;
use crate::mysql::protocol::command::{PING, QUIT, put_bare};
use crate::mysql::protocol::greeting::Greeting;
use crate::mysql::protocol::login::Login;
use crate::mysql::protocol::packet::{HEADER_BYTES, message_bytes, put_packet};
use crate::mysql::protocol::response::ErrPacket;

/// Bytes of one packet; greetings, errors and OKs are far shorter.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// utf8mb4_general_ci, which every server of the last decade knows.
const COLLATION: u8 = 45;

#[derive(Debug)]
pub(super) struct Mysql<'a> {
    probe: &'a MysqlProbe,
    state: State,
    /// Bytes of the input that are read.
    taken: usize,
}

/// What is awaited. Greeting → login → (switch →) OK → ping → OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    /// The answer to the login, with this sequence id.
    Login(u8),
    Ping,
    /// The end is said.
    Over,
}

impl<'a> Mysql<'a> {
    pub(super) fn new(probe: &'a MysqlProbe) -> Mysql<'a> {
        Mysql { probe, state: State::Greeting, taken: 0 }
    }

    pub(super) fn on_bytes(&mut self, input: &[u8]) -> Step {
        let sequence_id = match self.state {
            State::Greeting => 0,
            State::Login(sequence_id) => sequence_id,
            State::Ping => 1,
            State::Over => return Step::Done(self.healthy()),
        };
        let rest = &input[self.taken.min(input.len())..];
        let step = match message_bytes(rest, sequence_id, PACKET_BYTES_MAX) {
            Ok(None) => return Step::Read,
            Ok(Some(bytes)) => {
                self.taken += bytes;
                self.on_payload(&rest[HEADER_BYTES..bytes])
            }
            Err(error) => Err(error),
        };
        step.unwrap_or_else(|error| {
            Step::Done(Verdict::invalid(format!("the answer is not MySQL: {error}: {}", excerpt(rest))))
        })
    }

    pub(super) fn on_end(&self, input: &[u8]) -> Verdict {
        match self.state {
            State::Over => self.healthy(),
            _ => closed(&input[self.taken.min(input.len())..]),
        }
    }

    fn on_payload(&mut self, payload: &[u8]) -> Result<Step, ProtocolError> {
        if payload.first() == Some(&0xFF) {
            let error = ErrPacket::decode(payload)?;
            let text = format!("error {}: {}", error.code, excerpt(error.message));
            return Ok(Step::Done(Verdict::with_code(CheckStatus::BadStatus, error.code, text)));
        }
        match self.state {
            State::Greeting => self.on_greeting(&Greeting::decode(payload)?),
            State::Login(sequence_id) => self.on_login_answer(payload, sequence_id),
            State::Ping if payload.first() == Some(&0) => {
                self.state = State::Over;
                let mut out = Vec::new();
                put_bare(&mut out, QUIT);
                Ok(Step::Send(out))
            }
            State::Ping | State::Over => Err(ProtocolError::Malformed("answer to a ping")),
        }
    }

    fn on_greeting(&mut self, greeting: &Greeting) -> Result<Step, ProtocolError> {
        let Some((user, password)) = &self.probe.login else { return Ok(Step::Done(self.healthy())) };
        let answer = native_answer(password.0.as_bytes(), &greeting.scramble);
        let login = Login {
            capabilities: BACKEND_BASE,
            collation: COLLATION,
            user: user.as_bytes(),
            answer: &answer,
            schema: b"",
            plugin: NATIVE,
        };
        let mut out = Vec::new();
        login.encode(&mut out, 1);
        self.state = State::Login(2);
        Ok(Step::Send(out))
    }

    fn on_login_answer(&mut self, payload: &[u8], sequence_id: u8) -> Result<Step, ProtocolError> {
        let mut out = Vec::new();
        match payload.first() {
            Some(0) => {
                put_bare(&mut out, PING);
                self.state = State::Ping;
            }
            Some(0xFE) if sequence_id == 2 => {
                let (plugin, scramble) = decode_switch(payload)?;
                let password = self.probe.login.as_ref().map_or("", |(_, password)| password.0.as_str());
                let answer = match (plugin == NATIVE, password.is_empty()) {
                    (true, _) => native_answer(password.as_bytes(), &scramble),
                    // An empty password is a single zero byte to the plugins that take passwords as they are.
                    (false, true) => vec![0],
                    (false, false) => {
                        let text =
                            format!("the server wants {} for this user, not mysql_native_password", excerpt(plugin));
                        return Ok(Step::Done(Verdict::invalid(text)));
                    }
                };
                put_packet(&mut out, 3, |packet| packet.extend_from_slice(&answer));
                self.state = State::Login(4);
            }
            _ => return Err(ProtocolError::Malformed("answer to a login")),
        }
        Ok(Step::Send(out))
    }

    fn healthy(&self) -> Verdict {
        Verdict::new(
            CheckStatus::Healthy,
            if self.probe.login.is_some() { "logged on, ping answered" } else { "greeted" },
        )
    }
}
