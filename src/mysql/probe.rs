//! The monitor's own connection to a server: log on, ask, read the answer as a table. Runs on the control thread.

use std::fmt;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::backend::NO_TLS;
use super::protocol::ProtocolError;
use super::protocol::auth::prover::Secret;
use super::protocol::auth::{AuthError, Prover, Step};
use super::protocol::capability::{BACKEND_BASE, SSL};
use super::protocol::command::put_query;
use super::protocol::follow::{Expect, Follower};
use super::protocol::greeting::Greeting;
use super::protocol::lenenc::Fields;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, Header, message_bytes, put_packet};
use super::protocol::response::ErrPacket;
use super::shared::Shared;
use crate::config::model::UpstreamTls;
use crate::runtime::net::{Address, no_address, no_socket};
use crate::tls::Offer;

/// Largest answer to one of our questions.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a server told nothing.
#[derive(Debug)]
pub(super) enum ProbeError {
    /// Connecting, reading or writing failed.
    Io(std::io::Error),
    /// The server broke the protocol.
    Protocol(ProtocolError),
    /// The server refused: error number and message.
    Refused(u16, String),
    /// There is no answer to how the server wants to be logged on to.
    Auth(AuthError),
    /// TLS is wanted, and the server has none.
    NoTls,
    /// It took too long.
    Timeout,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Io(error) => error.fmt(f),
            ProbeError::Protocol(error) => error.fmt(f),
            ProbeError::Refused(code, message) => write!(f, "error {code}: {message}"),
            ProbeError::Auth(error) => error.fmt(f),
            ProbeError::NoTls => f.write_str(NO_TLS),
            ProbeError::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl From<std::io::Error> for ProbeError {
    fn from(error: std::io::Error) -> Self {
        ProbeError::Io(error)
    }
}

impl From<AuthError> for ProbeError {
    fn from(error: AuthError) -> Self {
        ProbeError::Auth(error)
    }
}

impl From<ProtocolError> for ProbeError {
    fn from(error: ProtocolError) -> Self {
        ProbeError::Protocol(error)
    }
}

/// Rows and column names of an answer.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Names of the columns.
    pub(super) columns: Vec<String>,
    /// Rows; `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Table {
    pub(super) fn value(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    pub(super) fn named(&self, row: usize, name: &str) -> Option<&str> {
        self.value(row, self.columns.iter().position(|column| column == name)?)
    }

    /// Reads a complete answer, packet by packet.
    fn decode(mut answer: &[u8]) -> Result<Table, ProtocolError> {
        let mut packets = Vec::new();
        while let Some(header) = Header::decode(answer) {
            let end = HEADER_BYTES + header.payload_bytes;
            packets.push(answer.get(HEADER_BYTES..end).ok_or(ProtocolError::Truncated)?);
            answer = &answer[end..];
        }
        let mut table = Table::default();
        let Some((count, rest)) = packets.split_first() else { return Err(ProtocolError::Truncated) };
        if count.first() == Some(&0) {
            return Ok(table);
        }
        let count = Fields::new(count).int()? as usize;
        let (columns, rows) = rest.split_at_checked(count).ok_or(ProtocolError::Truncated)?;
        for column in columns {
            let mut fields = Fields::new(column);
            for _ in 0..4 {
                fields.string()?; // catalog, schema, table, original table
            }
            table.columns.push(String::from_utf8_lossy(fields.string()?).into_owned());
        }
        for row in &rows[..rows.len().saturating_sub(1)] {
            let (mut fields, mut values) = (Fields::new(row), Vec::with_capacity(count));
            while !fields.is_empty() {
                values.push(fields.text_value()?.map(|value| String::from_utf8_lossy(value).into_owned()));
            }
            table.rows.push(values);
        }
        Ok(table)
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// The monitor's own connection to a server.
pub(super) struct Probe {
    socket: Box<dyn Socket>,
    /// Nobody else can read it.
    is_secret: bool,
    input: Vec<u8>,
}

impl Probe {
    /// Connects and logs on.
    pub(super) async fn open(shared: &Shared, server: usize) -> Result<(Probe, Greeting), ProbeError> {
        let socket: Box<dyn Socket> = match shared.address(server) {
            Address::Tcp(address) => {
                let socket = tokio::net::TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Address::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
            Address::Name(name) => return Err(no_address(name).into()),
            Address::App(seat) => return Err(no_socket(seat).into()),
        };
        let is_secret = matches!(shared.address(server), Address::Unix(_));
        let mut probe = Probe { socket, is_secret, input: Vec::new() };
        let greeting = probe.log_on(shared, server).await?;
        Ok((probe, greeting))
    }

    async fn log_on(&mut self, shared: &Shared, server: usize) -> Result<Greeting, ProbeError> {
        let config = shared.config();
        let payload = self.packet(0).await?;
        not_refused(&payload)?;
        let greeting = Greeting::decode(&payload)?;
        let user = config.user.as_bytes();
        let mut login = Login {
            capabilities: BACKEND_BASE,
            collation: 45,
            user,
            answer: b"",
            schema: b"",
            plugin: b"",
            zstd_level: 0,
        };
        let mut sequence_id = 1;
        if let Some((tls, name)) = config.server_tls.as_ref().zip(config.tls_name(shared.address(server))) {
            login.capabilities |= SSL;
            self.begin_tls(&greeting, &login, tls, &name).await?;
            sequence_id = 2;
        }
        let secret = Secret::Password(config.password.0.as_bytes());
        let key = config.server_public_key.as_ref();
        let mut prover = Prover::new(secret, &greeting.plugin, greeting.scramble, self.is_secret, key);
        let (plugin, answer) = prover.first_answer();
        let mut out = Vec::new();
        Login { plugin, answer: &answer, ..login }.encode(&mut out, sequence_id);
        self.socket.write_all(&out).await?;
        loop {
            sequence_id += 1;
            let payload = self.packet(sequence_id).await?;
            not_refused(&payload)?;
            match prover.on_packet(&payload)? {
                Step::End => return Ok(greeting),
                Step::Wait => {}
                Step::Answer(answer) => {
                    sequence_id += 1;
                    out.clear();
                    put_packet(&mut out, sequence_id, |p| p.extend_from_slice(&answer));
                    self.socket.write_all(&out).await?;
                }
            }
        }
    }

    /// SSLRequest and the handshake.
    async fn begin_tls(
        &mut self,
        greeting: &Greeting,
        login: &Login<'_>,
        tls: &UpstreamTls,
        name: &ServerName<'static>,
    ) -> Result<(), ProbeError> {
        if greeting.capabilities & SSL == 0 {
            return Err(ProbeError::NoTls);
        }
        if !self.input.is_empty() {
            return Err(ProtocolError::Malformed("more than a greeting").into());
        }
        let mut out = Vec::new();
        login.encode_tls_request(&mut out, 1);
        self.socket.write_all(&out).await?;
        let settings = tls.trust.settings(Offer::Nothing).map_err(std::io::Error::other)?;
        let socket = std::mem::replace(&mut self.socket, Box::new(tokio::io::empty()));
        self.socket = Box::new(TlsConnector::from(settings).connect(name.clone(), socket).await?);
        self.is_secret = true;
        Ok(())
    }

    async fn packet(&mut self, sequence_id: u8) -> Result<Vec<u8>, ProbeError> {
        loop {
            if let Some(len) = message_bytes(&self.input, sequence_id, ANSWER_BYTES_MAX)? {
                return Ok(self.input.drain(..len).skip(HEADER_BYTES).collect());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), ProbeError> {
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Runs SQL; an ERR packet is [`ProbeError::Refused`].
    pub(super) async fn query(&mut self, sql: &[u8]) -> Result<Table, ProbeError> {
        self.query_up_to(sql, ANSWER_BYTES_MAX).await
    }

    /// The same for an answer of this length at most.
    pub(super) async fn query_up_to(&mut self, sql: &[u8], bytes_max: usize) -> Result<Table, ProbeError> {
        let mut out = Vec::with_capacity(sql.len() + 8);
        put_query(&mut out, sql, false);
        self.socket.write_all(&out).await?;
        let (mut follower, mut answer) = (Follower::new(Expect::Results, true, 0), Vec::new());
        loop {
            let used = follower.feed(&self.input, &mut answer)?;
            self.input.drain(..used);
            if follower.is_done() {
                break;
            }
            if answer.len() > bytes_max {
                return Err(ProtocolError::TooLarge(bytes_max).into());
            }
            self.fill().await?;
        }
        let outcome = follower.into_outcome();
        if let Some(code) = outcome.error {
            return Err(ProbeError::Refused(code, String::from_utf8_lossy(&outcome.message).into_owned()));
        }
        Ok(Table::decode(&answer)?)
    }
}

fn not_refused(payload: &[u8]) -> Result<(), ProbeError> {
    if payload.first() != Some(&0xFF) {
        return Ok(());
    }
    let error = ErrPacket::decode(payload)?;
    Err(ProbeError::Refused(error.code, String::from_utf8_lossy(error.message).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_decoded() {
        let mut answer = Vec::new();
        put_packet(&mut answer, 1, |p| p.push(2));
        for name in ["a", "b"] {
            put_packet(&mut answer, 2, |p| {
                for field in ["def", "", "", "", name, ""] {
                    super::super::protocol::lenenc::put_bytes(p, field.as_bytes());
                }
            });
        }
        put_packet(&mut answer, 4, |p| p.extend_from_slice(b"\x011\xfb"));
        put_packet(&mut answer, 5, |p| p.extend_from_slice(b"\xfe\0\0\x02\0\0\0"));
        let table = Table::decode(&answer).unwrap();
        assert_eq!((table.named(0, "a"), table.named(0, "b")), (Some("1"), None));
        for cut in 0..answer.len() {
            let _ = Table::decode(&answer[..cut]);
        }
    }
}
