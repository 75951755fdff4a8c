//! One connection to a MySQL server: log on, bring it to the state a session must see, run small statements of our
//! own on it. Belongs to one data worker; the pool lends it to one session at a time.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::presence::{Fate, Thread};
use super::protocol::ProtocolError;
use super::protocol::auth::prover::Secret;
use super::protocol::auth::sha2::PublicKey;
use super::protocol::auth::{AuthError, Prover, Step};
use super::protocol::capability::{
    BACKEND_BASE, CONNECT_WITH_DB, IGNORE_SPACE, INTERACTIVE, MULTI_STATEMENTS, QUERY_ATTRIBUTES, SSL,
};
use super::protocol::command::{self, put_bare, put_init_db, put_query};
use super::protocol::compressed::Algorithm;
use super::protocol::follow::{Expect, Follower, Outcome};
use super::protocol::greeting::Greeting;
use super::protocol::lenenc::Fields;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, message_bytes, put_packet};
use super::protocol::response::ErrPacket;
use super::session::State;
use super::transport::Transport;
use crate::runtime::net::{Address, Peek, Stream};
use crate::runtime::time::{then_await, timeout};

/// First read buffer of a connection, bytes; grows to the second while large results stream.
const READ_BYTES: usize = 16 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// Largest packet before the login is complete.
pub const LOGIN_BYTES_MAX: usize = 64 << 10;
/// Prepared statements kept on one connection; beyond it one is closed for each new one.
const STATEMENTS_MAX: usize = 256;
/// What makes a MariaDB server tell us everything about its session; GTIDs are variables there.
const TRACKERS: &[u8] = b"SET session_track_system_variables='*', session_track_state_change=1, \
session_track_transaction_info='CHARACTERISTICS', session_track_schema=1";
/// The same for MySQL.
const MYSQL_TRACKERS: &[u8] = b"SET session_track_gtids='OWN_GTID', session_track_system_variables='*', \
session_track_state_change=1, session_track_transaction_info='CHARACTERISTICS', session_track_schema=1";

/// What is said of a server without TLS where the config wants it.
pub(super) const NO_TLS: &str =
    "the server offers no TLS: set it up there (ssl_cert, ssl_key), or take `server_tls` out of the config";

/// Why a connection is of no use.
#[derive(Debug)]
pub enum BackendError {
    /// Connecting, reading or writing failed, or the server closed.
    Io(io::Error),
    /// It took too long; what did.
    Timeout(&'static str),
    /// The server broke the protocol.
    Protocol(ProtocolError),
    /// The server refused: error number and message, in the character set of results.
    Refused(u16, Vec<u8>),
    /// There is no answer to how the server wants to be logged on to.
    Auth(AuthError),
    /// TLS is wanted, and the server has none.
    NoTls,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::Io(error) => error.fmt(f),
            BackendError::Timeout(step) => write!(f, "timed out {step}"),
            BackendError::Protocol(error) => error.fmt(f),
            BackendError::Refused(code, message) => {
                write!(f, "refused with error {code}: {}", String::from_utf8_lossy(message))
            }
            BackendError::Auth(error) => error.fmt(f),
            BackendError::NoTls => f.write_str(NO_TLS),
        }
    }
}

impl BackendError {
    /// The server is there, and does not let this account in.
    pub fn is_about_account(&self) -> bool {
        match self {
            // Access denied, by name or by plugin; host not allowed; password expired; account locked; too many of it.
            BackendError::Refused(code, _) => {
                matches!(code, 1045 | 1044 | 1698 | 1130 | 1820 | 1862 | 3118 | 4151 | 1203 | 1226)
            }
            BackendError::Auth(error) => !matches!(error, AuthError::Protocol(_)),
            _ => false,
        }
    }
}

impl std::error::Error for BackendError {}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        BackendError::Io(error)
    }
}

impl From<AuthError> for BackendError {
    fn from(error: AuthError) -> Self {
        BackendError::Auth(error)
    }
}

impl From<ProtocolError> for BackendError {
    fn from(error: ProtocolError) -> Self {
        BackendError::Protocol(error)
    }
}

/// What can only be chosen at login: a client and its connection must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Capability flags that change what the server does, see [`super::protocol::capability::SESSION_MASK`].
    pub capabilities: u32,
    /// Collation of the login packet; a reset goes back to it.
    pub collation: u8,
    /// Account: 0 is the splitter's own user, n its n-th further one.
    pub account: u16,
}

/// Where a session's last insert id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertId {
    /// Here.
    Known(u64),
    /// On the connection with this id only.
    At(u64),
    /// It was there, and the connection broke.
    Lost,
}

/// The part of a session that its last connection refers to after it was given back.
#[derive(Debug)]
pub struct Carry {
    /// Number of the session, unique in the worker.
    pub session: u64,
    /// Its LAST_INSERT_ID().
    pub insert_id: Cell<InsertId>,
    /// The session has ended.
    pub gone: Cell<bool>,
}

/// A statement prepared on a connection.
#[derive(Debug)]
struct Handle {
    id: u32,
    /// The session state it was prepared under.
    state: Rc<State>,
    /// [`Backend::uses`] when it was last wanted.
    used: Cell<u64>,
}

/// How to reach and log on to a server.
#[derive(Clone)]
pub struct Target<'a> {
    /// Its address.
    pub address: &'a Address,
    /// User name.
    pub user: &'a str,
    /// What proves it.
    pub secret: Secret<'a>,
    /// Settings and the name that the certificate must have; `None`: no TLS.
    pub tls: Option<(&'a Arc<ClientConfig>, ServerName<'static>)>,
    /// How packets are compressed, if the server offers it.
    pub compression: Option<Algorithm>,
    /// The server's RSA key, for passwords that it wants in full without TLS.
    pub public_key: Option<&'a PublicKey>,
    /// Time for connecting and logging on.
    pub timeout: Duration,
}

/// A connection that is logged on.
pub struct Backend {
    /// Number of the connection, unique in the worker.
    pub id: u64,
    /// Index into the splitter's servers.
    pub server: usize,
    /// Chosen at login.
    pub key: Key,
    /// What is set on it, once it is clean.
    pub state: Rc<State>,
    /// It must be reset before it is lent to anyone.
    pub dirty: bool,
    /// A statement ran there that may have set a role, which MariaDB's reset keeps.
    pub may_have_role: bool,
    /// A statement had a time limit for itself; that the session's is there again is told with a later one.
    pub is_limit_owed: bool,
    /// Its LAST_INSERT_ID(); `None`: only the server knows, and the owner if it is still there.
    pub insert_id: Option<u64>,
    /// Session that used it last.
    pub owner: Option<Rc<Carry>>,
    /// Changes with the owner and with every reset: what a statement left behind is there only while it is the same.
    pub tenure: u64,
    /// The owner may ask about its last statement (warnings, found rows).
    pub protected: bool,
    /// Since when it is idle.
    pub since: Instant,
    /// Server facts' generation when it was opened.
    pub generation: u32,
    /// The same of its restarts.
    pub restarts: u32,
    /// The same of its term.
    pub term: u32,
    /// In which way it was reached: changes when the config says otherwise.
    pub reach: u32,
    /// The server is a MariaDB.
    pub is_mariadb: bool,
    /// The server's default collation.
    default_collation: u8,
    /// The server's own id of the connection, for KILL.
    pub thread_id: u32,
    /// When it has been open for long enough.
    pub expires: Option<Instant>,
    /// The server reads attributes in front of each query.
    pub has_attributes: bool,
    /// What has no answer was sent there since the last one that came, so some of it may still lie in the socket.
    pub has_unanswered: bool,
    /// The config wants compressed packets, and the server does not offer them.
    pub lacks_compression: bool,
    /// What KILLs have in store for it.
    pub fate: Rc<Fate>,
    stream: Transport,
    input: Vec<u8>,
    start: usize,
    handles: AHashMap<Rc<[u8]>, Handle>,
    /// Times that one of these was wanted.
    uses: Cell<u64>,
    /// Statements that are no longer wanted there, to be closed with what is sent next.
    closing: Vec<u32>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.keeps_insert_id()
            && let Some(owner) = &self.owner
        {
            owner.insert_id.set(InsertId::Lost);
        }
    }
}

impl Backend {
    /// Connects, logs on, switches the session trackers on. `schema`: database to select at login.
    pub async fn open(
        target: Target<'_>,
        id: u64,
        server: usize,
        key: Key,
        schema: Option<&[u8]>,
    ) -> Result<(Backend, Greeting), BackendError> {
        let step = Cell::new("while connecting");
        let opening = async {
            let stream = Stream::connect(target.address).await?;
            step.set("while logging on");
            let mut backend = Backend::fresh(stream, id, server, key, schema);
            let greeting = backend.log_on(&target, schema).await?;
            backend.is_mariadb = greeting.is_mariadb();
            backend.default_collation = greeting.collation;
            backend.thread_id = greeting.connection_id;
            let mut out = Vec::with_capacity(256);
            backend.put_query(&mut out, trackers(backend.is_mariadb));
            backend.run(out).await?;
            Ok((backend, greeting))
        };
        timeout(target.timeout, opening).await.unwrap_or(Err(BackendError::Timeout(step.get())))
    }

    /// Connected, and nothing else yet.
    pub(super) fn fresh(stream: Stream, id: u64, server: usize, key: Key, schema: Option<&[u8]>) -> Backend {
        Backend {
            id,
            server,
            key,
            state: Rc::new(State { schema: schema.map(<[u8]>::to_vec), ..State::default() }),
            dirty: false,
            may_have_role: false,
            is_limit_owed: false,
            insert_id: Some(0),
            owner: None,
            tenure: 0,
            protected: false,
            since: Instant::now(),
            generation: 0,
            restarts: 0,
            term: 0,
            reach: 0,
            is_mariadb: true,
            default_collation: 0,
            thread_id: 0,
            expires: None,
            has_attributes: false,
            has_unanswered: false,
            lacks_compression: false,
            fate: Rc::default(),
            stream: Transport::new(stream),
            input: Vec::new(),
            start: 0,
            handles: AHashMap::new(),
            uses: Cell::new(0),
            closing: Vec::new(),
        }
    }

    async fn log_on(&mut self, target: &Target<'_>, schema: Option<&[u8]>) -> Result<Greeting, BackendError> {
        let payload = self.packet(0).await?;
        if payload.first() == Some(&0xFF) {
            return Err(refused(&payload));
        }
        let greeting = Greeting::decode(&payload)?;
        let mut login = Login {
            capabilities: BACKEND_BASE | self.key.capabilities,
            collation: self.key.collation.into(),
            user: target.user.as_bytes(),
            answer: b"",
            schema: schema.unwrap_or_default(),
            plugin: b"",
            zstd_level: 0,
        };
        if schema.is_some() {
            login.capabilities |= CONNECT_WITH_DB;
        }
        login.capabilities &= !QUERY_ATTRIBUTES | greeting.capabilities;
        self.has_attributes = login.capabilities & QUERY_ATTRIBUTES != 0;
        self.thread_id = greeting.connection_id;
        let compression = target.compression.filter(|wanted| greeting.capabilities & wanted.capability() != 0);
        self.lacks_compression = target.compression.is_some() && compression.is_none();
        if let Some(algorithm) = compression {
            login.capabilities |= algorithm.capability();
            login.zstd_level = algorithm.zstd_level();
        }
        let mut sequence_id = 1;
        if let Some((settings, name)) = &target.tls {
            login.capabilities |= SSL;
            self.begin_tls(&greeting, &login, (settings, name)).await?;
            sequence_id = 2;
        }
        let (is_secret, scramble) = (self.stream.is_secret(), greeting.scramble);
        let mut prover = Prover::new(target.secret, &greeting.plugin, scramble, is_secret, target.public_key);
        let (plugin, answer) = prover.first_answer();
        let mut out = Vec::with_capacity(128);
        Login { plugin, answer: &answer, ..login }.encode(&mut out, sequence_id);
        self.send(out).await.0?;
        self.prove(&mut prover, sequence_id.wrapping_add(1)).await?;
        if let Some(algorithm) = compression {
            let first = self.input.split_off(self.start);
            (self.input, self.start) = (Vec::new(), 0);
            self.stream.pack(algorithm, first);
        }
        Ok(greeting)
    }

    /// SSLRequest and the handshake.
    async fn begin_tls(
        &mut self,
        greeting: &Greeting,
        login: &Login<'_>,
        (settings, name): (&Arc<ClientConfig>, &ServerName<'static>),
    ) -> Result<(), BackendError> {
        if greeting.capabilities & SSL == 0 {
            return Err(BackendError::NoTls);
        }
        // Whatever came in clear behind the greeting is not the server's word: anyone could have put it there.
        if !self.available().is_empty() {
            return Err(ProtocolError::Malformed("more than a greeting").into());
        }
        let mut out = Vec::with_capacity(64);
        login.encode_tls_request(&mut out, 1);
        self.send(out).await.0?;
        Ok(self.stream.connect_tls(settings, name).await?)
    }

    /// Answers the server until it lets us in.
    async fn prove(&mut self, prover: &mut Prover<'_>, mut sequence_id: u8) -> Result<(), BackendError> {
        loop {
            let payload = self.packet(sequence_id).await?;
            sequence_id = sequence_id.wrapping_add(1);
            match prover.on_packet(&payload)? {
                Step::End if payload.first() == Some(&0xFF) => return Err(refused(&payload)),
                Step::End => return Ok(()),
                Step::Wait => {}
                Step::Answer(answer) => {
                    let mut out = Vec::with_capacity(answer.len() + HEADER_BYTES);
                    put_packet(&mut out, sequence_id, |p| p.extend_from_slice(&answer));
                    sequence_id = sequence_id.wrapping_add(1);
                    self.send(out).await.0?;
                }
            }
        }
    }

    /// One small packet, for the login.
    async fn packet(&mut self, sequence_id: u8) -> Result<Vec<u8>, BackendError> {
        loop {
            if let Some(len) = message_bytes(self.available(), sequence_id, LOGIN_BYTES_MAX)? {
                let payload = self.available()[HEADER_BYTES..len].to_vec();
                self.consume(len);
                return Ok(payload);
            }
            self.fill().await?;
        }
    }

    /// How its server knows it.
    pub fn thread(&self) -> Thread {
        Thread { server: self.server, id: self.thread_id, restarts: self.restarts }
    }

    /// Bytes received and not used yet.
    pub fn available(&self) -> &[u8] {
        &self.input[self.start..]
    }

    /// Marks bytes as used.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start >= self.input.len() {
            self.input.clear();
            self.start = 0;
            if self.input.capacity() > READ_BYTES_MAX && self.is_packed() {
                self.input = Vec::new(); // a few bytes of the server's can be 16 MiB
            }
        }
    }

    /// Whether packets are compressed.
    pub fn is_packed(&self) -> bool {
        self.stream.packed_sequence_id().is_some()
    }

    /// Reads more bytes, at least one.
    ///
    /// Errors: `UnexpectedEof` when the server has closed.
    pub async fn fill(&mut self) -> io::Result<()> {
        let input = self.roomy_input();
        let read = self.stream.read(input).await;
        self.keep_input(read)
    }

    /// Sends `out`, whole commands for which the socket has room, and reads what is answered, as [`Backend::fill`]; gives the buffer
    /// back. Whether it was sent the answer tells: a server may have answered before it closed.
    pub async fn send_and_fill(&mut self, out: Vec<u8>) -> (Vec<u8>, io::Result<()>) {
        let input = self.roomy_input();
        let (sent, read) = then_await(self.stream.write_commands(out), self.stream.read(input)).await;
        (sent.1, self.keep_input(read))
    }

    /// The read buffer, with room.
    fn roomy_input(&mut self) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        if self.start > 0 {
            input.drain(..self.start);
            self.start = 0;
        }
        if input.capacity() == 0 {
            input.reserve_exact(READ_BYTES);
        } else if input.len() == input.capacity() || input.capacity() < READ_BYTES {
            input.reserve_exact(READ_BYTES_MAX.max(input.len()));
        }
        input
    }

    fn keep_input(&mut self, (result, mut input): (io::Result<usize>, Vec<u8>)) -> io::Result<()> {
        // There is probably more.
        if result.is_ok() && input.len() == input.capacity() && input.capacity() < READ_BYTES_MAX {
            input.reserve_exact(READ_BYTES_MAX);
        }
        self.input = input;
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The server was replaced and does not answer: what was sent to it must not arrive any more, where the network was cut and
    /// comes back. A connection that is closed in the usual way goes on sending for minutes (tcp(7), `tcp_orphan_retries`).
    pub fn forget_what_was_sent(&self) {
        self.stream.reset_on_close();
    }

    /// Whether what is sent goes to the socket as it is, and what comes is an answer to that.
    pub fn sends_plainly(&self) -> bool {
        self.available().is_empty() && !self.stream.is_wrapped() && !self.has_unanswered
    }

    /// Sends all of `bytes`, which are whole commands; gives the buffer back.
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.stream.write_commands(bytes).await
    }

    /// The same for a part of a file that the server has asked for.
    pub async fn send_file(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.stream.write_all(bytes).await
    }

    /// Up to a tenth less than `time`, not the same for each connection, so that not all end at once.
    pub fn spread(&self, time: Duration) -> Duration {
        let fraction = self.id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48; // 16 bits
        time - time.mul_f64(fraction as f64 / f64::from(10 << 16))
    }

    /// Whether it has been open for long enough.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it can be lent: nothing is left over and the server has not closed it.
    pub fn is_quiet(&self) -> bool {
        self.available().is_empty() && self.stream.peek() == Peek::Quiet
    }

    /// Follows one response and throws its bytes away. An ERR packet is an outcome, not an error.
    pub async fn follow(&mut self, mut follower: Follower) -> Result<Outcome, BackendError> {
        if self.is_packed() {
            follower.take_any_sequence_ids();
        }
        let mut discard = Vec::new();
        loop {
            let used = follower.feed(self.available(), &mut discard)?;
            discard.clear();
            self.consume(used);
            if follower.is_done() {
                return Ok(follower.into_outcome());
            }
            self.fill().await?;
        }
    }

    async fn result(&mut self) -> Result<Outcome, BackendError> {
        let follower = Follower::new(Expect::Results, true, 0).keeping_first_row();
        let outcome = self.follow(follower).await?;
        match outcome.error {
            Some(code) => Err(BackendError::Refused(code, outcome.message)),
            None => Ok(outcome),
        }
    }

    /// Appends COM_QUERY with `sql` (below 16 MiB) and no attributes, as this server reads it.
    pub fn put_query(&self, out: &mut Vec<u8>, sql: &[u8]) {
        put_query(out, sql, self.has_attributes);
    }

    /// Runs one command of our own that must succeed; `out` holds its packet.
    async fn run(&mut self, out: Vec<u8>) -> Result<Outcome, BackendError> {
        self.send(out).await.0?;
        self.result().await
    }

    /// Runs a query of our own that must succeed.
    pub async fn query(&mut self, sql: &[u8]) -> Result<Outcome, BackendError> {
        let mut out = Vec::with_capacity(sql.len() + 7);
        self.put_query(&mut out, sql);
        self.run(out).await
    }

    /// Values of the first row of a query of our own; empty when there is no row.
    pub async fn row(&mut self, sql: &[u8]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let outcome = self.query(sql).await?;
        let row = outcome.first_row.unwrap_or_default();
        let (mut fields, mut values) = (Fields::new(&row), Vec::new());
        while !fields.is_empty() {
            values.push(fields.text_value()?.map(<[u8]>::to_vec));
        }
        Ok(values)
    }

    /// Fetches LAST_INSERT_ID() for the session that left it here, if it still cares.
    pub async fn save_insert_id(&mut self) -> Result<(), BackendError> {
        let Some(carry) = self.owner.clone() else { return Ok(()) };
        if carry.gone.get() || carry.insert_id.get() != InsertId::At(self.id) {
            return Ok(());
        }
        let row = self.row(b"SELECT LAST_INSERT_ID()").await?;
        let value = row.first().and_then(Option::as_deref).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
        let value = value.ok_or(ProtocolError::Malformed("LAST_INSERT_ID()"))?;
        // The session may have been reset meanwhile, or have got another one elsewhere.
        if !carry.gone.get() && carry.insert_id.get() == InsertId::At(self.id) {
            carry.insert_id.set(InsertId::Known(value));
        }
        self.insert_id = Some(value);
        Ok(())
    }

    /// Whether its last session may still ask about what it did here.
    pub fn is_protected(&self) -> bool {
        self.protected && self.owner.as_ref().is_some_and(|owner| !owner.gone.get())
    }

    /// Whether it alone knows the last insert id of a session that is still there.
    pub fn keeps_insert_id(&self) -> bool {
        let is_here = |owner: &Rc<Carry>| !owner.gone.get() && owner.insert_id.get() == InsertId::At(self.id);
        self.owner.as_ref().is_some_and(is_here)
    }

    /// Whether nothing has to be sent before a session with this state can use the connection.
    pub fn is_ready_for(&self, state: &Rc<State>) -> bool {
        !self.dirty && (Rc::ptr_eq(&self.state, state) || self.state == *state)
    }

    /// Brings the connection to `state`. `fresh`: reset it in any case; `insert_id`: LAST_INSERT_ID() must be this.
    ///
    /// Errors: `Refused` when the server does not accept the state (an unknown database); the connection stays
    /// usable but dirty.
    pub async fn prepare(
        &mut self,
        state: &Rc<State>,
        fresh: bool,
        insert_id: Option<u64>,
    ) -> Result<(), BackendError> {
        if fresh || !self.is_ready_for(state) {
            // The reset would lose it, also when the connection goes back to the very session that left it here.
            if self.keeps_insert_id() {
                self.save_insert_id().await?;
            }
            self.adapt(state, fresh).await?;
        }
        match insert_id {
            Some(value) => self.set_insert_id(value).await,
            None => Ok(()),
        }
    }

    /// Sends reset, database and variables in one write, then reads the answers.
    async fn adapt(&mut self, state: &Rc<State>, fresh: bool) -> Result<(), BackendError> {
        let same = self.state.has_settings_of(state);
        let reset = fresh || self.dirty || !same;
        let (mut out, mut answers) = (Vec::with_capacity(256), 0);
        if reset {
            put_bare(&mut out, command::RESET_CONNECTION);
            answers += 1;
        }
        // A reset keeps the database, and forgets its character set: routines made then would get the server's.
        if (reset || self.state.schema != state.schema)
            && let Some(schema) = &state.schema
        {
            put_init_db(&mut out, schema);
            answers += 1;
        }
        // The server may know no such collation: then it has left the login's at its own, too.
        let may_be_refused = (reset && self.reset_takes_names()).then_some(answers);
        if may_be_refused.is_some() {
            self.put_query(&mut out, names_of_login(self.key.collation).as_bytes());
            answers += 1;
        }
        if reset {
            let mut set = trackers(self.is_mariadb).to_vec();
            if self.key.capabilities & INTERACTIVE != 0 {
                set.extend_from_slice(b", wait_timeout=@@interactive_timeout"); // as the login does, and the reset does not
            }
            state.put_assignments(&mut set);
            if self.key.capabilities & IGNORE_SPACE != 0 && !state.has_sql_mode() {
                // The login added it, and the reset has taken it away.
                set.extend_from_slice(b", sql_mode=CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'IGNORE_SPACE')");
            }
            self.put_query(&mut out, &set);
            answers += 1;
            self.handles.clear();
            self.closing.clear();
        }
        self.dirty = true; // until every answer is in
        self.send(out).await.0?;
        let mut refused = None;
        for n in 0..answers {
            match self.result().await {
                Ok(_) => {}
                Err(BackendError::Refused(..)) if may_be_refused == Some(n) => {}
                Err(error @ BackendError::Refused(..)) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        if reset && self.may_have_role && self.is_mariadb {
            self.check_role().await?;
        }
        if reset {
            (self.insert_id, self.is_limit_owed) = (Some(0), false);
            // Numbers from the worker's counter never come that far.
            self.tenure = self.tenure.wrapping_add(1 << 40);
        }
        self.state = Rc::clone(state);
        self.dirty = false;
        self.protected = false;
        Ok(())
    }

    /// A reset leaves the character sets and the collation at the server's own instead of the login's. MySQL alone does that
    /// (its manual, "mysql_reset_connection()").
    fn reset_takes_names(&self) -> bool {
        !self.is_mariadb && self.key.collation != self.default_collation
    }

    /// Whoever has the connection next must not have the rights of a role that somebody else has set; one that is an account's by
    /// default cannot be told from that.
    ///
    /// Errors: it has a role, or did not answer: it is to be closed.
    async fn check_role(&mut self) -> Result<(), BackendError> {
        match self.row(b"SELECT CURRENT_ROLE()").await {
            Ok(row) if row.iter().any(Option::is_some) => {
                return Err(BackendError::Io(io::ErrorKind::ConnectionReset.into()));
            }
            // A server that knows none has none.
            Ok(_) | Err(BackendError::Refused(..)) => self.may_have_role = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Brings the connection to a later state of the session that had it last; what its statement left behind stays, but for
    /// the row count. `insert_id`: LAST_INSERT_ID() must be this. Errors: as for [`Backend::prepare`].
    pub async fn catch_up(&mut self, state: &Rc<State>, insert_id: Option<u64>) -> Result<(), BackendError> {
        if self.state != *state {
            self.catch_up_settings(state).await?;
        }
        match insert_id {
            Some(value) => self.set_insert_id(value).await,
            None => Ok(()),
        }
    }

    /// Makes LAST_INSERT_ID() this; the row count is lost by it. Errors: as for [`Backend::prepare`].
    pub async fn set_insert_id(&mut self, value: u64) -> Result<(), BackendError> {
        if self.insert_id != Some(value) {
            self.query(format!("SET last_insert_id={value}").as_bytes()).await?;
            self.insert_id = Some(value);
        }
        Ok(())
    }

    /// Sets these variables, and nothing else; the row count is lost by it. Errors: as for [`Backend::prepare`].
    pub async fn set_variables(&mut self, variables: &State) -> Result<(), BackendError> {
        let mut assignments = Vec::with_capacity(128);
        variables.put_assignments(&mut assignments);
        if let Some(first) = assignments.strip_prefix(b", ") {
            self.query(&[b"SET ", first].concat()).await?;
        }
        Ok(())
    }

    async fn catch_up_settings(&mut self, state: &Rc<State>) -> Result<(), BackendError> {
        let was_dirty = std::mem::replace(&mut self.dirty, true);
        if self.state.schema != state.schema
            && let Some(schema) = &state.schema
        {
            let mut out = Vec::with_capacity(64);
            put_init_db(&mut out, schema);
            self.run(out).await?;
        }
        let mut set = trackers(self.is_mariadb).to_vec();
        state.put_assignments(&mut set);
        self.query(&set).await?;
        (self.state, self.dirty) = (Rc::clone(state), was_dirty);
        Ok(())
    }

    /// Makes it a connection for sessions with `key`, which may differ in multi-statements alone; what the last statement left
    /// behind stays, but for the row count. Errors: as for [`Backend::prepare`]; `Malformed` when more is different.
    pub async fn switch_multi_statements(&mut self, key: Key) -> Result<(), BackendError> {
        let is_on = key.capabilities & MULTI_STATEMENTS != 0;
        let capabilities = self.key.capabilities & !MULTI_STATEMENTS | key.capabilities & MULTI_STATEMENTS;
        if (Key { capabilities, ..self.key }) != key {
            return Err(ProtocolError::Malformed("connections of other logins").into());
        }
        let mut out = Vec::with_capacity(8);
        put_packet(&mut out, 0, |p| p.extend_from_slice(&[command::SET_OPTION, u8::from(!is_on), 0]));
        self.send(out).await.0?;
        let outcome = self.follow(Follower::new(Expect::Single, true, 0)).await?;
        match outcome.error {
            Some(code) => Err(BackendError::Refused(code, outcome.message)),
            None => {
                self.key = key;
                Ok(())
            }
        }
    }

    /// Has the server forget the warnings of earlier statements, and nothing else: preparing a statement that uses a table
    /// counts no rows. Errors: as for [`Backend::prepare_statement`].
    pub async fn forget_warnings(&mut self) -> Result<(), BackendError> {
        let id = self.prepare_statement(b"SELECT 1 FROM (SELECT 1) AS t").await?;
        self.closing.push(id);
        Ok(())
    }

    /// Has the server count no rows, neither changed nor found, as before the first statement of a session. A reset leaves what was
    /// found, and what is asked behind it to bring the connection to a state counts as well. Errors: as for [`Backend::prepare`].
    pub async fn forget_counts(&mut self) -> Result<(), BackendError> {
        let mut out = Vec::with_capacity(64);
        self.put_query(&mut out, b"SELECT 1 FROM DUAL WHERE FALSE");
        self.put_query(&mut out, b"DO 0");
        self.send(out).await.0?;
        let found = self.result().await;
        let changed = self.result().await;
        found.and(changed).map(drop)
    }

    /// Rolls back and drops everything a session left behind, keeping nothing but the database.
    pub async fn clean(&mut self) -> Result<(), BackendError> {
        let state = Rc::new(State { schema: self.state.schema.clone(), ..State::default() });
        self.adapt(&state, true).await
    }

    /// Id of `sql` prepared here under the present state, if it is.
    pub fn handle(&self, sql: &Rc<[u8]>) -> Option<u32> {
        let handle = self.handles.get(sql)?;
        handle.used.set(self.next_use());
        (Rc::ptr_eq(&handle.state, &self.state) || handle.state == self.state).then_some(handle.id)
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    /// Remembers that `sql` was prepared here under the present state. One that it replaces is forgotten, and where there is no more
    /// room the one that was not wanted for the longest: whoever still executes that has it prepared anew.
    pub fn keep_handle(&mut self, sql: &Rc<[u8]>, id: u32) {
        if self.handles.len() >= STATEMENTS_MAX
            && !self.handles.contains_key(sql)
            && let Some(other) =
                self.handles.iter().min_by_key(|(_, handle)| handle.used.get()).map(|(sql, _)| Rc::clone(sql))
        {
            self.closing.extend(self.handles.remove(&other).map(|handle| handle.id));
        }
        let handle = Handle { id, state: Rc::clone(&self.state), used: Cell::new(self.next_use()) };
        self.closing.extend(self.handles.insert(Rc::clone(sql), handle).map(|handle| handle.id));
    }

    /// A statement is no longer wanted there.
    pub fn close_later(&mut self, id: u32) {
        self.closing.push(id);
    }

    /// Appends COM_STMT_CLOSE, which has no answer, for statements that are no longer wanted there. Whoever sends it calls
    /// [`Backend::closes_sent`].
    pub fn put_closes(&self, out: &mut Vec<u8>) {
        for id in &self.closing {
            command::put_statement(out, command::STMT_CLOSE, *id);
        }
    }

    /// Has a statement there forget the parameters that were sent in pieces. Errors: as for [`Backend::prepare`].
    pub async fn reset_statement(&mut self, id: u32) -> Result<(), BackendError> {
        let mut out = Vec::with_capacity(16);
        command::put_statement(&mut out, command::STMT_RESET, id);
        self.send(out).await.0?;
        let outcome = self.follow(Follower::new(Expect::Single, true, 0)).await?;
        outcome.error.map_or(Ok(()), |code| Err(BackendError::Refused(code, outcome.message)))
    }

    /// What [`Backend::put_closes`] has appended is on its way.
    pub fn closes_sent(&mut self) {
        self.closing.clear();
    }

    /// Prepares `sql` and returns the server's id for it. Statements that are no longer wanted there are closed before.
    ///
    /// Errors: `Refused` with the server's own number and message.
    pub async fn prepare_statement(&mut self, sql: &[u8]) -> Result<u32, BackendError> {
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(command::STMT_PREPARE);
        payload.extend_from_slice(sql);
        let mut out = Vec::with_capacity(payload.len() + 8);
        self.put_closes(&mut out);
        super::protocol::packet::put_message(&mut out, &payload);
        self.closes_sent();
        self.send(out).await.0?;
        let outcome = self.follow(Follower::new(Expect::Prepare, true, 0)).await?;
        match (outcome.error, outcome.prepared) {
            (Some(code), _) => Err(BackendError::Refused(code, outcome.message)),
            (None, Some(prepared)) => Ok(prepared.statement_id),
            (None, None) => Err(ProtocolError::Malformed("answer to COM_STMT_PREPARE").into()),
        }
    }
}

/// Sets the character sets and their collation as a login with this one does; numbers say both.
fn names_of_login(collation: u8) -> String {
    format!(
        "SET character_set_client={collation}, character_set_results={collation}, character_set_connection={collation}, \
         collation_connection={collation}"
    )
}

/// What makes a server tell us everything about its session.
pub(super) fn trackers(is_mariadb: bool) -> &'static [u8] {
    if is_mariadb { TRACKERS } else { MYSQL_TRACKERS }
}

fn refused(payload: &[u8]) -> BackendError {
    match ErrPacket::decode(payload) {
        Ok(error) => BackendError::Refused(error.code, error.message.to_vec()),
        Err(error) => BackendError::Protocol(error),
    }
}
