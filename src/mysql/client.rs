//! One client after its login: reads commands, answers those that need no server, hands statements to
//! [`super::statement`].

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ahash::AHashMap;
use rustls::ServerConfig;

use super::account::Place;
use super::backend::{BackendError, Carry, Key};
use super::lease::{Lease, LeaseError};
use super::pool::Wish;
use super::protocol::capability::{DEPRECATE_EOF, MULTI_STATEMENTS, SESSION_MASK};
use super::protocol::command;
use super::protocol::compressed::Algorithm;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX, answer_sequence_id, message_bytes};
use super::protocol::response::{ErrPacket, LOST, OkPacket, UNREACHABLE, put_eof};
use super::protocol::{ProtocolError, execute};
use super::serve::{LOGIN_PACKET_MAX, NO_INSERT_ID, Splitter};
use super::session::Session;
use super::sql::{Class, Kind, Pin, used_schema};
use super::statement::Work;
use super::transport::Transport;
use crate::runtime::time::timeout;

/// Largest command of a client, headers included. Servers have `max_allowed_packet`, 16 MiB by default.
const COMMAND_BYTES_MAX: usize = 80 << 20;
/// First size of a client's read buffer, bytes.
const INPUT_BYTES: usize = 2 << 10;
/// Buffers larger than this are not kept between commands.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// How long a client may take to hear that TLS ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Prepared statements of one client (`max_prepared_stmt_count` has the same purpose in servers).
const STATEMENTS_MAX: usize = 8192;
/// Bytes of their texts together.
const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// The client is gone or must go: close its connection.
#[derive(Debug)]
pub struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End
    }
}

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
enum Next {
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
    async fn next_command(&mut self, client: &Client) -> Result<Next, ProtocolError> {
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
    fn take_command(&mut self, len: usize, request: &mut Vec<u8>) {
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

/// A statement the client has prepared.
pub(super) struct Statement {
    pub(super) sql: Rc<[u8]>,
    pub(super) class: Class,
    pub(super) params: u16,
    /// Parameter types as last sent by the client.
    pub(super) types: Vec<u8>,
    /// Server's id on the connection the session is pinned to, when it was prepared there for this session alone.
    pub(super) direct: Option<u32>,
    /// A piece of a parameter could not be delivered: the next execution must fail.
    pub(super) broken: bool,
}

/// One logged-on client.
pub struct Client {
    pub(super) splitter: Rc<Splitter>,
    place: usize,
    /// Its place among the clients of its account.
    account: Place,
    pub(super) deprecate_eof: bool,
    capabilities: u32,
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) carry: Rc<Carry>,
    /// The connection the session must keep.
    pub(super) held: Option<Lease>,
    /// Server, and tenure of the connection, that ran the last statement.
    pub(super) last: Option<(usize, u64)>,
    /// The same for the statement whose warnings count.
    pub(super) warned: Option<(usize, u64)>,
    /// Replica that answered the last read.
    pub(super) sticky: Option<usize>,
    pub(super) statements: AHashMap<u32, Statement>,
    /// Length of their texts.
    pub(super) statement_bytes: usize,
    next_statement_id: u32,
    /// The command under way, headers included.
    pub(super) request: Vec<u8>,
    /// For the server.
    pub(super) to_server: Vec<u8>,
    /// Sequence id of the server's first packet in answer to it.
    pub(super) sent_sequence_id: u8,
    /// For the client.
    pub(super) out: Vec<u8>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.carry.gone.set(true);
    }
}

impl Client {
    pub(super) fn new(
        splitter: Rc<Splitter>,
        place: usize,
        account: Place,
        capabilities: u32,
        key: Key,
        schema: Option<Vec<u8>>,
    ) -> Client {
        let session = Session::new(schema, splitter.shared.mode(), key.collation, capabilities);
        let carry = Carry { session: splitter.next_id(), insert_id: Cell::new(NO_INSERT_ID), gone: Cell::new(false) };
        Client {
            splitter,
            place,
            account,
            deprecate_eof: capabilities & DEPRECATE_EOF != 0,
            capabilities,
            key,
            session,
            carry: Rc::new(carry),
            held: None,
            last: None,
            warned: None,
            sticky: None,
            statements: AHashMap::new(),
            statement_bytes: 0,
            next_statement_id: 1,
            request: Vec::new(),
            to_server: Vec::new(),
            sent_sequence_id: 1,
            out: Vec::new(),
        }
    }

    pub(super) fn wish(&self, careful: bool) -> Wish<'_> {
        Wish { key: self.key, state: &self.session.state, session: self.carry.session, careful }
    }

    /// Selects the login's database on some server, so that a wrong name is refused at once.
    pub(super) async fn check_schema(&mut self) -> Result<(), (u16, String)> {
        if self.session.state.schema.is_none() {
            return Ok(());
        }
        let mut trouble = None;
        let server = self.splitter.pick_replica(None, None, 0);
        for server in server.into_iter().chain([0]) {
            let lease = Lease::borrow(&self.splitter, server, self.wish(true), &self.carry).await;
            let result = match lease {
                Ok(mut lease) => {
                    let prepared = self.prepare(&mut lease, false, None).await;
                    if !matches!(prepared, Err(ref error) if !matches!(error, BackendError::Refused(..))) {
                        lease.give_back();
                    }
                    prepared
                }
                Err(LeaseError::Server(error)) => Err(error),
                Err(LeaseError::Full) => return Err((1040, "Too many connections to the servers".into())),
            };
            match result {
                Ok(()) => return Ok(()),
                // A replica may not know a fresh database yet.
                Err(BackendError::Refused(code, message)) if server == 0 => return Err((code, message)),
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        let address = self.splitter.shared.address(0);
        Err((UNREACHABLE, format!("the primary {address} does not let us in: {}", trouble.unwrap_or_default())))
    }

    /// Serves commands until the client leaves.
    pub(super) async fn run(mut self, mut wire: Wire) {
        loop {
            let more = match wire.next_command(&self).await {
                Ok(Next::Command(len)) => {
                    let mut request = std::mem::take(&mut self.request);
                    wire.take_command(len, &mut request);
                    self.request = request;
                    let more = self.command(&mut wire).await;
                    if self.request.capacity() > KEPT_BYTES_MAX {
                        self.request = Vec::new();
                    }
                    more
                }
                Ok(Next::Drain) => self.goodbye(&wire, 0, 1053, "Server shutdown in progress").await,
                Ok(Next::Closed) => Err(End),
                Err(error @ ProtocolError::TooLarge(_)) => self.goodbye(&wire, 1, 1153, &error.to_string()).await,
                Err(error) => self.goodbye(&wire, 1, 1156, &error.to_string()).await,
            };
            if more.is_err() {
                break;
            }
        }
        self.release_held();
        let _ = timeout(GOODBYE_TIMEOUT, wire.stream.say_goodbye()).await;
    }

    async fn goodbye(&mut self, wire: &Wire, sequence_id: u8, code: u16, message: &str) -> Result<(), End> {
        self.out.clear();
        ErrPacket { code, sql_state: b"08S01", message: message.as_bytes() }.encode(&mut self.out, sequence_id);
        let _ = self.flush(wire).await;
        Err(End)
    }

    /// Gives the held connection back; what the session left there is rolled back and dropped first.
    pub(super) fn release_held(&mut self) {
        if let Some(lease) = self.held.take() {
            lease.clean_and_give_back();
        }
    }

    pub(super) async fn flush(&mut self, wire: &Wire) -> Result<(), End> {
        let limit = self.splitter.config().client_timeout;
        wire.write(&mut self.out, limit).await?;
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Sequence id of the first packet in answer to the command under way.
    pub(super) fn reply_sequence_id(&self) -> u8 {
        answer_sequence_id(&self.request)
    }

    pub(super) async fn reply_ok(&mut self, wire: &Wire) -> Result<(), End> {
        self.out.clear();
        OkPacket::plain(self.session.own_status()).encode(&mut self.out, 1, false);
        self.flush(wire).await
    }

    /// Answers with an error of ours.
    pub(super) async fn reply_error(&mut self, wire: &Wire, code: u16, state: &[u8], message: &str) -> Result<(), End> {
        self.splitter.stats().errors.inc();
        self.out.clear();
        let sequence_id = self.reply_sequence_id();
        ErrPacket { code, sql_state: state, message: message.as_bytes() }.encode(&mut self.out, sequence_id);
        self.flush(wire).await
    }

    async fn command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let Some(&code) = self.request.get(HEADER_BYTES) else {
            // Nobody means that, and a few compressed bytes can be millions of it.
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let local = Class { kind: Kind::Local, pin: None, ..Class::UNKNOWN };
        match code {
            command::QUIT => Err(End),
            command::PING => self.reply_ok(wire).await,
            command::QUERY => {
                let class = self.classify();
                self.statement(wire, class, Work::Plain).await
            }
            command::INIT_DB => {
                let class = Class { kind: Kind::Use, pin: None, ..Class::UNKNOWN };
                self.statement(wire, class, Work::Plain).await
            }
            command::STMT_PREPARE => self.prepare_command(wire).await,
            command::STMT_EXECUTE => self.execute_command(wire).await,
            command::STMT_FETCH => self.direct_command(wire).await,
            command::STMT_RESET => self.direct_command(wire).await,
            command::STMT_SEND_LONG_DATA => self.long_data(wire).await,
            command::STMT_CLOSE => self.close_statement().await,
            command::FIELD_LIST | command::STATISTICS => self.statement(wire, local, Work::Plain).await,
            command::RESET_CONNECTION => {
                self.reset();
                self.reply_ok(wire).await
            }
            command::CHANGE_USER => self.change_user(wire).await,
            command::SET_OPTION => self.set_option(wire).await,
            command::PROCESS_KILL => self.refuse_kill(wire).await,
            _ => {
                let message = format!("command 0x{code:02x} is not supported through the splitter");
                self.reply_error(wire, 1047, b"08S01", &message).await
            }
        }
    }

    pub(super) async fn refuse_kill(&mut self, wire: &Wire) -> Result<(), End> {
        let message = "KILL is not supported through the splitter: connection ids seen here are not the server's";
        self.reply_error(wire, 1235, b"42000", message).await
    }

    /// What the account may not do, as an error for the client.
    pub(super) fn forbidden(&self, class: &Class) -> Option<(u16, &'static [u8], String)> {
        let account = self.splitter.accounts.get(self.key.account);
        let name = self.splitter.config().account_name(self.key.account.into());
        if !account.may_run(class) {
            let text = format!(
                "user '{name}' may only read here (read_only in the splitter's config): the statement was not executed"
            );
            return Some((1290, b"HY000", text));
        }
        if account.may_hide_a_choice(class) {
            let text = format!(
                "user '{name}' may select some databases alone (schemas in the splitter's config): a statement that could hide its choice was not executed"
            );
            return Some((1044, b"42000", text));
        }
        // What is executed was looked at when it was prepared.
        let is_execution = self.request.get(HEADER_BYTES) == Some(&command::STMT_EXECUTE);
        if class.kind != Kind::Use || !account.has_schemas() || is_execution {
            return None;
        }
        let body = self.request.get(HEADER_BYTES + 1..).unwrap_or_default();
        let schema = match self.request.get(HEADER_BYTES) {
            Some(&command::INIT_DB) => Some(body),
            _ => used_schema(body, self.session.mode()),
        };
        if schema.is_some_and(|schema| account.may_select(schema)) {
            return None;
        }
        let schema = String::from_utf8_lossy(schema.unwrap_or_default());
        let text = format!("Access denied for user '{name}' to database '{schema}' (schemas in the splitter's config)");
        Some((1044, b"42000", text))
    }

    /// The class of the SQL in the command under way.
    fn classify(&self) -> Class {
        if self.request.len() >= PAYLOAD_BYTES_MAX {
            return Class::UNKNOWN;
        }
        let sql = &self.request[HEADER_BYTES + 1..];
        self.splitter.classes.borrow_mut().classify(sql, self.session.mode())
    }

    async fn prepare_command(&mut self, wire: &Wire) -> Result<(), End> {
        let class = self.classify();
        if class.kind == Kind::Kill {
            return self.refuse_kill(wire).await;
        }
        let too_long =
            self.request.len() >= PAYLOAD_BYTES_MAX || self.statement_bytes + self.request.len() > STATEMENT_BYTES_MAX;
        if too_long || self.statements.len() >= STATEMENTS_MAX {
            let message =
                format!("Can't create more than {STATEMENTS_MAX} statements, none longer than 16 MiB, 64 MiB together");
            return self.reply_error(wire, 1461, b"42000", &message).await;
        }
        let id = self.next_statement_id;
        self.next_statement_id = id.wrapping_add(1).max(1);
        let sql: Rc<[u8]> = self.request[HEADER_BYTES + 1..].into();
        // Preparing changes nothing: only where the statement may run later matters.
        let kind = if class.is_read() { Kind::Read } else { Kind::Local };
        let preparing = Class { kind, pin: None, ..Class::UNKNOWN };
        self.statement(wire, preparing, Work::Prepare { id, sql, class }).await
    }

    async fn execute_command(&mut self, wire: &Wire) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        let Some(statement) = self.statements.get_mut(&id) else {
            let message = format!("Unknown prepared statement handler ({id}) given to EXECUTE");
            return self.reply_error(wire, 1243, b"HY000", &message).await;
        };
        let types = match execute::is_sound(&self.request, statement.params) {
            true => execute::types(&self.request, statement.params),
            false => Err(ProtocolError::Truncated),
        };
        match types {
            Ok(Some(types)) if types != statement.types => statement.types = types.to_vec(),
            Ok(_) => {}
            Err(error) => return self.reply_error(wire, 1835, b"HY000", &error.to_string()).await,
        }
        if std::mem::take(&mut statement.broken) {
            let message = "a parameter sent in pieces was lost with its connection; the statement was not executed";
            return self.reply_error(wire, LOST, b"HY000", message).await;
        }
        let mut class = statement.class;
        if execute::wants_cursor(&self.request) {
            class.pin = class.pin.or(Some(Pin::Statement));
        }
        self.statement(wire, class, Work::Execute { id }).await
    }

    /// COM_STMT_FETCH and COM_STMT_RESET: only for statements that live on the held connection.
    async fn direct_command(&mut self, wire: &Wire) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        let is_reset = self.request.get(HEADER_BYTES) == Some(&command::STMT_RESET);
        let statement = self.statements.get_mut(&id);
        let known = statement.is_some();
        if let Some(direct) = statement.and_then(|statement| statement.direct)
            && self.held.is_some()
        {
            execute::patch_statement_id(&mut self.request, direct);
            let local = Class { kind: Kind::Local, pin: None, ..Class::UNKNOWN };
            return self.statement(wire, local, Work::Plain).await;
        }
        if known && is_reset {
            if let Some(statement) = self.statements.get_mut(&id) {
                statement.broken = false;
            }
            return self.reply_ok(wire).await;
        }
        let message = format!("Unknown prepared statement handler ({id}) given to FETCH or RESET");
        self.reply_error(wire, 1243, b"HY000", &message).await
    }

    /// COM_STMT_CLOSE has no answer.
    async fn close_statement(&mut self) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        let Some(statement) = self.statements.remove(&id) else { return Ok(()) };
        self.statement_bytes -= statement.sql.len();
        if let Some(direct) = statement.direct
            && let Some(lease) = &mut self.held
        {
            let mut out = Vec::with_capacity(16);
            command::put_statement(&mut out, command::STMT_CLOSE, direct);
            if lease.send(out).await.0.is_err() {
                return Err(End);
            }
        }
        Ok(())
    }

    /// COM_STMT_SEND_LONG_DATA has no answer: what fails here is told at the next execution.
    async fn long_data(&mut self, wire: &Wire) -> Result<(), End> {
        let id = execute::statement_id(&self.request).unwrap_or(0);
        if !self.statements.contains_key(&id) {
            return Ok(());
        }
        let sent = async {
            let direct = self.own_statement(wire, id).await.ok()?;
            execute::patch_statement_id(&mut self.request, direct);
            let lease = self.held.as_ref()?;
            let (result, buffer) = lease.send(std::mem::take(&mut self.request)).await;
            self.request = buffer;
            result.ok()
        };
        if sent.await.is_none()
            && let Some(statement) = self.statements.get_mut(&id)
        {
            statement.broken = true;
        }
        Ok(())
    }

    /// Back to the state after login; statements are gone, the database stays.
    fn reset(&mut self) {
        self.release_held();
        self.session.reset();
        self.statements.clear();
        self.statement_bytes = 0;
        self.last = None;
        self.warned = None;
        self.carry.insert_id.set(NO_INSERT_ID);
    }

    async fn change_user(&mut self, wire: &mut Wire) -> Result<(), End> {
        let request = std::mem::take(&mut self.request);
        let decoded = Login::decode_change_user(&request[HEADER_BYTES..], self.capabilities, self.key.collation);
        let Ok(login) = decoded else {
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let schema = self.splitter.schema_of(&login);
        // As in servers: nothing of the session is left, whoever comes of it.
        self.reset();
        match self.splitter.change_user(wire, login.user, schema.as_deref(), self.account.account()).await {
            Ok(Some(account)) => self.account = account,
            Ok(None) => {}
            Err(Some((code, message))) => return self.goodbye(wire, wire.next_sequence_id, code, &message).await,
            Err(None) => return Err(End),
        }
        (self.key.collation, self.key.account) = (login.collation, self.account.account());
        let token = self.session.token.clone();
        self.session = Session::new(schema, self.splitter.shared.mode(), login.collation, self.capabilities);
        self.session.token = token;
        let sequence_id = wire.next_sequence_id;
        match self.check_schema().await {
            Ok(()) => {
                self.out.clear();
                OkPacket::plain(self.session.own_status()).encode(&mut self.out, sequence_id, false);
                self.flush(wire).await
            }
            Err((code, message)) => self.goodbye(wire, sequence_id, code, &message).await,
        }
    }

    /// Multi-statements on or off.
    async fn set_option(&mut self, wire: &Wire) -> Result<(), End> {
        let on = match self.request.get(HEADER_BYTES + 1..) {
            Some([0, 0]) => true,
            Some([1, 0]) => false,
            _ => return self.reply_error(wire, 1047, b"08S01", "Unknown option").await,
        };
        let bit = MULTI_STATEMENTS & SESSION_MASK;
        self.key.capabilities = if on { self.key.capabilities | bit } else { self.key.capabilities & !bit };
        if let Some(lease) = &mut self.held {
            // The server keeps it through a reset, so the connection now belongs under the new key.
            lease.key = self.key;
            let local = Class { kind: Kind::Local, pin: None, ..Class::UNKNOWN };
            return self.statement(wire, local, Work::Plain).await;
        }
        self.out.clear();
        let status = self.session.own_status();
        match self.deprecate_eof {
            true => OkPacket::plain(status).encode(&mut self.out, 1, true),
            false => put_eof(&mut self.out, 1, status, 0),
        }
        self.flush(wire).await
    }
}
