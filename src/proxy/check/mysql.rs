//! The beginning of a MySQL connection: greeting; with a user also login, ping and a proper end, so that the server
//! does not count the check as an interrupted handshake.
//!
//! The password itself is never sent: the connection may be read by others.

use super::{CheckStatus, Step, Verdict, closed, excerpt};
use crate::config::model::MysqlProbe;
use crate::mysql::protocol::ProtocolError;
use crate::mysql::protocol::auth::prover::{self, Secret};
use crate::mysql::protocol::auth::{AuthError, Prover};
use crate::mysql::protocol::capability::BACKEND_BASE;
use crate::mysql::protocol::command::{PING, QUIT, put_bare};
use crate::mysql::protocol::greeting::Greeting;
use crate::mysql::protocol::login::Login;
use crate::mysql::protocol::packet::{HEADER_BYTES, message_bytes, put_packet};
use crate::mysql::protocol::response::ErrPacket;

/// Bytes of one packet; greetings, errors and OKs are far shorter.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// utf8mb4_general_ci, which every server of the last decade knows.
const COLLATION: u16 = 45;

#[derive(Debug)]
pub(super) struct Mysql<'a> {
    probe: &'a MysqlProbe,
    state: State,
    /// Logs on.
    prover: Option<Prover<'a>>,
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
        Mysql { probe, state: State::Greeting, prover: None, taken: 0 }
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
        if matches!(step, Ok(Step::Read)) {
            // The packet was taken; the next one may be here already.
            return self.on_bytes(input);
        }
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
        let secret = Secret::Password(password.0.as_bytes());
        let prover = Prover::new(secret, &greeting.plugin, greeting.scramble, false, None);
        let (plugin, answer) = prover.first_answer();
        let user = user.as_bytes();
        let login = Login {
            capabilities: BACKEND_BASE,
            collation: COLLATION,
            user,
            answer: &answer,
            schema: b"",
            plugin,
            zstd_level: 0,
        };
        let mut out = Vec::new();
        login.encode(&mut out, 1);
        self.prover = Some(prover);
        self.state = State::Login(2);
        Ok(Step::Send(out))
    }

    fn on_login_answer(&mut self, payload: &[u8], sequence_id: u8) -> Result<Step, ProtocolError> {
        let Some(prover) = &mut self.prover else { return Err(ProtocolError::Malformed("answer to a login")) };
        let mut out = Vec::new();
        match prover.on_packet(payload) {
            Ok(prover::Step::End) => {
                put_bare(&mut out, PING);
                self.state = State::Ping;
            }
            Ok(prover::Step::Answer(answer)) => {
                put_packet(&mut out, sequence_id.wrapping_add(1), |packet| packet.extend_from_slice(&answer));
                self.state = State::Login(sequence_id.wrapping_add(2));
            }
            Ok(prover::Step::Wait) => {
                self.state = State::Login(sequence_id.wrapping_add(1));
                return Ok(Step::Read);
            }
            Err(AuthError::Protocol(error)) => return Err(error),
            Err(AuthError::NotSecret(method)) => {
                let plugin = excerpt(method.plugin());
                let text = format!("the server wants the password itself ({plugin}), which a check does not send");
                return Ok(Step::Done(Verdict::invalid(text)));
            }
            Err(error) => return Ok(Step::Done(Verdict::invalid(error.to_string()))),
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
