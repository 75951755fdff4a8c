//! A server that does what MySQL 8 does otherwise than MariaDB when somebody logs on; and small clients.
//!
//! Written from the protocol's documentation (MySQL internals manual, `page_caching_sha2_authentication_exchanges`), with
//! nothing of the code under test but its packets' encoders.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use one_server::mysql::protocol::greeting::Greeting;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::support::tls::Identity;

#[path = "mysql8_packed.rs"]
mod packed;
use packed::{Packed, ZSTD};

/// How the server wants to be convinced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The first answer is enough.
    Warm,
    /// It wants the password itself, over TLS.
    InClear,
    /// It wants the password, encrypted with its key.
    Sealed,
    /// `sha256_password`, over TLS.
    Sha256InClear,
    /// The same, encrypted.
    Sha256Sealed,
    /// `mysql_clear_password`.
    ClearPlugin,
    /// It offers TLS, and something is sent behind the greeting.
    Injecting,
}

/// The RSA key of a server.
#[derive(Clone)]
pub(crate) struct RsaKey(PrivateDecryptingKey);

impl RsaKey {
    pub(crate) fn new() -> RsaKey {
        RsaKey(PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key"))
    }

    pub(crate) fn public_pem(&self) -> String {
        let der = self.0.public_key().as_der().expect("its form").as_ref().to_vec();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPrivateDecryptingKey::new(self.0.clone()).expect("a key");
        let mut room = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut room, None).ok().map(|plain| plain.to_vec())
    }
}

/// The server.
pub(crate) struct Mysql8 {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    full: Full,
    user: String,
    password: String,
    key: RsaKey,
    tls: Arc<ServerConfig>,
    /// Number of the next connection.
    threads: AtomicU32,
    logins: AtomicUsize,
    has_seen_password: AtomicBool,
    /// Of compressed packets: bytes, and what they became.
    packed_bytes: AtomicUsize,
    plain_bytes: AtomicUsize,
    complaints: Mutex<Vec<String>>,
    stops: AtomicBool,
    answer: Answer,
    script: Mutex<Option<Script>>,
}

/// What a server says to SQL.
type Script = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// An answer to SQL.
#[allow(dead_code, reason = "not every test has a script")]
pub(crate) enum Reply {
    /// OK, without rows.
    Fine,
    /// OK, with the number of rows that were changed, and status flags.
    Done(u8, u16),
    /// OK to what has set this variable of the session.
    Changed(&'static str, &'static str),
    /// An error: number, SQLSTATE, message.
    Error(u16, &'static str, &'static str),
    /// Names of columns, and texts; `None` is NULL.
    Rows(Vec<&'static str>, Vec<Vec<Option<String>>>),
    /// The same, and the GTID of what was committed meanwhile.
    Committed(Vec<&'static str>, Vec<Vec<Option<String>>>, &'static str),
    /// These payloads, whatever they mean.
    Raw(&'static [&'static [u8]]),
    /// The connection is closed.
    HangUp,
}

/// OK at the end of rows, with a GTID as MySQL's tracker tells it (`page_protocol_basic_ok_packet`).
fn end_with_gtid(gtid: &str) -> Vec<u8> {
    const SESSION_STATE_CHANGED: u8 = 0x40; // of the second byte
    const SESSION_TRACK_GTIDS: u8 = 3;
    let with_length = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    let data = [&[0], &with_length(gtid.as_bytes())[..]].concat();
    let change = [&[SESSION_TRACK_GTIDS], &with_length(&data)[..]].concat();
    [&[0xFE, 0, 0, 2, SESSION_STATE_CHANGED, 0, 0, 0], &with_length(&change)[..]].concat()
}

/// OK with a variable of the session, as the trackers tell it (the same page).
fn ok_with_variable(name: &str, value: &str) -> Vec<u8> {
    const SESSION_STATE_CHANGED: u8 = 0x40; // of the second byte
    let with_length = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    let data = [with_length(name.as_bytes()), with_length(value.as_bytes())].concat();
    let change = [&[0], &with_length(&data)[..]].concat();
    [&[0, 0, 0, 2, SESSION_STATE_CHANGED, 0, 0, 0], &with_length(&change)[..]].concat()
}

impl Reply {
    fn bytes(self) -> Option<Vec<u8>> {
        let text = |out: &mut Vec<u8>, text: &str| {
            assert!(text.len() < 251, "short texts alone");
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        };
        let (columns, rows, end) = match self {
            Reply::Fine => return Reply::Done(0, 2).bytes(),
            Reply::Done(rows, status) => {
                let [low, high] = status.to_le_bytes();
                return Some(frame(1, &[0, rows, 0, low, high, 0, 0]));
            }
            Reply::Changed(name, value) => return Some(frame(1, &ok_with_variable(name, value))),
            Reply::HangUp => return None,
            Reply::Raw(payloads) => {
                return Some((1..).zip(payloads).flat_map(|(n, payload)| frame(n, payload)).collect());
            }
            Reply::Error(code, state, message) => {
                let head = [&b"\xFF"[..], &code.to_le_bytes(), b"#", state.as_bytes()].concat();
                return Some(frame(1, &[&head, message.as_bytes()].concat()));
            }
            Reply::Rows(columns, rows) => (columns, rows, b"\xFE\0\0\x02\0\0\0".to_vec()),
            Reply::Committed(columns, rows, gtid) => (columns, rows, end_with_gtid(gtid)),
        };
        let mut packets = vec![vec![columns.len() as u8]];
        for name in columns {
            let mut column = Vec::new();
            for part in ["def", "", "", "", name, ""] {
                text(&mut column, part);
            }
            column.extend_from_slice(&[0x0c, 45, 0, 0, 1, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
            packets.push(column);
        }
        for row in rows {
            let mut packet = Vec::new();
            for value in row {
                match value {
                    Some(value) => text(&mut packet, &value),
                    None => packet.push(0xFB),
                }
            }
            packets.push(packet);
        }
        packets.push(end);
        Some(
            packets
                .iter()
                .zip((1..=255u8).chain(0..=255).cycle())
                .flat_map(|(packet, sequence_id)| frame(sequence_id, packet))
                .collect(),
        )
    }
}

/// Payloads of the packets that answer a command.
type Answer = Box<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync>;

const SCRAMBLE: &[u8; 20] = b"abcdefghij0123456789";
const SSL: u32 = 1 << 11;
/// All but TLS and zlib.
const CAPABILITIES: u32 = 0x00FF_F7DF | 1 << 24 | ZSTD;

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Mysql8 {
    /// Says OK to every command.
    pub(crate) fn start(full: Full, user: &str, password: &str, key: &RsaKey, identity: Identity) -> Mysql8 {
        Mysql8::start_answering(full, user, password, key, identity, |_| vec![b"\0\0\0\x02\0\0\0".to_vec()])
    }

    /// Answers commands with the payloads that `answer` makes of theirs; none: the connection is closed.
    pub(crate) fn start_answering(
        full: Full,
        user: &str,
        password: &str,
        key: &RsaKey,
        identity: Identity,
        answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Mysql8 {
        let chain: Vec<CertificateDer<'static>> = identity.certificates();
        let private: PrivateKeyDer<'static> = identity.private_key();
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .expect("a certificate");
        let state = Arc::new(State {
            full,
            user: user.into(),
            password: password.into(),
            key: key.clone(),
            tls: Arc::new(tls),
            threads: AtomicU32::new(1),
            logins: AtomicUsize::new(0),
            has_seen_password: AtomicBool::new(false),
            packed_bytes: AtomicUsize::new(0),
            plain_bytes: AtomicUsize::new(0),
            complaints: Mutex::default(),
            stops: AtomicBool::new(false),
            answer: Box::new(answer),
            script: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stops.load(Ordering::Relaxed) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Mysql8 { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers SQL so from now on, each connection by itself: an answer may take its time. Other commands are answered as before.
    #[allow(dead_code, reason = "not every test has a script")]
    pub(crate) fn answer_with(&self, script: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *self.state.script.lock().expect("a lock") = Some(Arc::new(script));
    }

    /// Logins that were right.
    pub(crate) fn logins(&self) -> usize {
        self.state.logins.load(Ordering::Relaxed)
    }

    /// Bytes of compressed packets in both directions, and what was in them.
    #[allow(dead_code, reason = "not every test compresses")]
    pub(crate) fn unpacked(&self) -> (usize, usize) {
        let bytes = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (bytes(&self.state.packed_bytes), bytes(&self.state.plain_bytes))
    }

    /// What clients did that they should not have done.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.state.complaints.lock().expect("a lock").clone()
    }

    /// Somebody has sent the password in clear, without TLS.
    pub(crate) fn has_seen_password(&self) -> bool {
        self.state.has_seen_password.load(Ordering::Relaxed)
    }
}

impl Drop for Mysql8 {
    fn drop(&mut self) {
        self.state.stops.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn complain(&self, what: impl Into<String>) {
        self.complaints.lock().expect("a lock").push(what.into());
    }

    fn serve(&self, mut stream: TcpStream) {
        let plugin = match self.full {
            Full::Sha256InClear | Full::Sha256Sealed => "sha256_password",
            _ => "caching_sha2_password",
        };
        let offers_tls = matches!(self.full, Full::InClear | Full::Sha256InClear | Full::ClearPlugin | Full::Injecting);
        let capabilities = if offers_tls { CAPABILITIES | SSL } else { CAPABILITIES };
        let mut greeting = vec![10];
        greeting.extend_from_slice(b"8.4.3\0");
        greeting.extend_from_slice(&self.threads.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        greeting.extend_from_slice(&SCRAMBLE[..8]);
        greeting.push(0);
        greeting.extend_from_slice(&(capabilities as u16).to_le_bytes());
        greeting.extend_from_slice(&[255, 2, 0]);
        greeting.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
        greeting.push(21);
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(&SCRAMBLE[8..]);
        greeting.push(0);
        greeting.extend_from_slice(plugin.as_bytes());
        greeting.push(0);
        let mut sent = frame(0, &greeting);
        if self.full == Full::Injecting {
            sent.extend_from_slice(&frame(2, b"\0\0\0\x02\0\0\0"));
        }
        if stream.write_all(&sent).is_err() {
            return;
        }
        let Some((sequence_id, first)) = packet(&mut stream) else { return };
        self.look_for_password(&first);
        if first.len() == 32 && u32::from_le_bytes(first[..4].try_into().expect("four")) & SSL != 0 {
            let connection = ServerConnection::new(self.tls.clone()).expect("a session");
            let mut secure = StreamOwned::new(connection, stream);
            let Some((sequence_id, login)) = packet(&mut secure) else { return };
            self.log_on(&mut secure, true, sequence_id, &login);
        } else {
            self.log_on(&mut stream, false, sequence_id, &first);
        }
    }

    fn look_for_password(&self, bytes: &[u8]) {
        let password = self.password.as_bytes();
        let seen = bytes.windows(password.len()).any(|window| window == password);
        self.has_seen_password.fetch_or(seen, Ordering::Relaxed);
    }

    fn log_on(&self, wire: &mut dyn Wire, is_tls: bool, mut sequence_id: u8, login: &[u8]) {
        let mut parts = login[32..].splitn(2, |byte| *byte == 0);
        let user = parts.next().unwrap_or_default();
        if user != self.user.as_bytes() {
            return self.complain(format!("user {:?}", String::from_utf8_lossy(user)));
        }
        let rest = parts.next().unwrap_or_default();
        let (answer, rest) = rest[1..].split_at(usize::from(rest[0]));
        let send =
            |wire: &mut dyn Wire, sequence_id: u8, payload: &[u8]| wire.write_all(&frame(sequence_id, payload)).is_ok();
        let next = |wire: &mut dyn Wire, sequence_id: &mut u8, payload: &[u8]| -> Option<Vec<u8>> {
            *sequence_id = sequence_id.wrapping_add(1);
            send(wire, *sequence_id, payload).then_some(())?;
            let (got, payload) = packet(wire)?;
            *sequence_id = sequence_id.wrapping_add(1);
            if got != *sequence_id {
                self.complain(format!("sequence id {got} for {sequence_id}"));
            }
            if !is_tls {
                self.look_for_password(&payload);
            }
            Some(payload)
        };
        let plain = [self.password.as_bytes(), b"\0"].concat();
        let proven = match self.full {
            Full::Warm | Full::InClear | Full::Sealed | Full::Injecting => {
                if !rest.windows(21).any(|window| window == b"caching_sha2_password") || answer != self.fast_answer() {
                    self.complain("the first answer is wrong");
                }
                match self.full {
                    Full::Warm => {
                        sequence_id = sequence_id.wrapping_add(1);
                        send(wire, sequence_id, b"\x01\x03");
                        true
                    }
                    Full::Sealed => next(wire, &mut sequence_id, b"\x01\x04")
                        .is_some_and(|sealed| self.unseal(&sealed) == Some(plain)),
                    _ => next(wire, &mut sequence_id, b"\x01\x04").is_some_and(|told| told == plain && is_tls),
                }
            }
            Full::Sha256InClear | Full::Sha256Sealed | Full::ClearPlugin => {
                let plugin: &[u8] =
                    if self.full == Full::ClearPlugin { b"mysql_clear_password" } else { b"sha256_password" };
                let mut switch = [b"\xFE", plugin, b"\0"].concat();
                if self.full != Full::ClearPlugin {
                    switch.extend_from_slice(SCRAMBLE);
                    switch.push(0);
                }
                let told = next(wire, &mut sequence_id, &switch);
                match self.full {
                    Full::Sha256Sealed => told.is_some_and(|sealed| self.unseal(&sealed) == Some(plain)),
                    _ => told.is_some_and(|told| told == plain && is_tls),
                }
            }
        };
        if !proven {
            return;
        }
        self.logins.fetch_add(1, Ordering::Relaxed);
        sequence_id = sequence_id.wrapping_add(1);
        send(wire, sequence_id, b"\0\0\0\x02\0\0\0");
        let wants_zstd = u32::from_le_bytes(login[..4].try_into().expect("four")) & ZSTD != 0;
        match wants_zstd {
            true => self.obey(&mut Packed::new(wire, self)),
            false => self.obey(wire),
        }
    }

    /// Answers commands until the client leaves.
    fn obey(&self, wire: &mut dyn Wire) {
        let send =
            |wire: &mut dyn Wire, sequence_id: u8, payload: &[u8]| wire.write_all(&frame(sequence_id, payload)).is_ok();
        while let Some((_, command)) = packet(wire) {
            if command == [1] {
                return;
            }
            let script = self.script.lock().expect("a lock").clone();
            let scripted = match (&script, command.split_first()) {
                (Some(script), Some((3, sql))) => Some(script(&String::from_utf8_lossy(sql))),
                _ => None,
            };
            if let Some(reply) = scripted {
                let Some(bytes) = reply.bytes() else { return };
                if wire.write_all(&bytes).is_err() {
                    return;
                }
                continue;
            }
            let payloads = (self.answer)(&command);
            if payloads.is_empty() {
                return;
            }
            for (sequence_id, payload) in (1..).zip(payloads) {
                if !send(wire, sequence_id, &payload) {
                    return;
                }
            }
        }
    }

    fn fast_answer(&self) -> Vec<u8> {
        let sha = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
        let stage1 = sha(self.password.as_bytes());
        let mask = sha(&[sha(&stage1), SCRAMBLE.to_vec()].concat());
        stage1.iter().zip(mask).map(|(a, b)| a ^ b).collect()
    }

    fn unseal(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let masked = self.key.open(sealed)?;
        Some(masked.iter().zip(SCRAMBLE.iter().cycle()).map(|(a, b)| a ^ b).collect())
    }
}

fn frame(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence_id], payload].concat()
}

fn packet(wire: &mut dyn Wire) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    wire.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    wire.read_exact(&mut payload).ok()?;
    Some((head[3], payload))
}

/// A client in clear that stays connected.
pub(crate) struct Plain {
    runtime: tokio::runtime::Runtime,
    conn: mysql_async::Conn,
}

impl Plain {
    pub(crate) fn connect(address: SocketAddr, user: &str, password: &str) -> Plain {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let conn = runtime.block_on(mysql_async::Conn::new(options(address, user, password))).expect("logged on");
        Plain { runtime, conn }
    }

    pub(crate) fn value(&mut self, sql: &str) -> String {
        use mysql_async::prelude::Queryable;
        self.runtime.block_on(self.conn.query_first::<String, _>(sql)).expect("an answer").expect("a row")
    }
}

fn options(address: SocketAddr, user: &str, password: &str) -> mysql_async::OptsBuilder {
    mysql_async::OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
}

/// COM_CHANGE_USER, again and again, with statements between.
pub(crate) fn change_user_often(address: SocketAddr, user: &str, password: &str) {
    let mut plain = Plain::connect(address, user, password);
    for turn in 0..5 {
        assert_eq!(plain.value(&format!("SELECT {turn}")), turn.to_string());
        let changed = plain.runtime.block_on(plain.conn.change_user(mysql_async::ChangeUserOpts::default()));
        changed.expect("still the same user");
    }
}

/// Statements of all kinds over compressed packets, with mysql_async.
pub(crate) fn compressed_work(address: SocketAddr, user: &str, password: &str) {
    use mysql_async::prelude::Queryable;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = options(address, user, password).compression(mysql_async::Compression::fast());
        let mut conn = mysql_async::Conn::new(options).await.expect("logged on");
        let long = "long text ".repeat(20_000);
        for turn in 0..3u32 {
            let row: (u32, String) =
                conn.exec_first("SELECT ?, ?", (turn, &long)).await.expect("an answer").expect("a row");
            assert!(row == (turn, long.clone()));
            let rows: Vec<u32> = conn.query("SELECT 1 UNION SELECT 2 UNION SELECT 3").await.expect("rows");
            assert_eq!(rows, [1, 2, 3]);
            let error = conn.query_drop("SELECT nowhere").await.expect_err("no such column");
            assert!(error.to_string().contains("nowhere"));
            conn.ping().await.expect("a pong");
            conn.reset().await.expect("reset");
            conn.change_user(mysql_async::ChangeUserOpts::default()).await.expect("the same user");
        }
        conn.disconnect().await.expect("gone");
    });
}

/// What a splitter says it can do.
pub(crate) fn offered(address: SocketAddr) -> u32 {
    greeting(address).capabilities
}

/// What a splitter, or a server, says to who comes.
pub(crate) fn greeting(address: SocketAddr) -> Greeting {
    let mut stream = TcpStream::connect(address).expect("connected");
    let (_, greeting) = packet(&mut stream).expect("a greeting");
    Greeting::decode(&greeting).expect("a greeting")
}

/// What a splitter, or a server, answers to a client that begins with this method, which needs no scramble.
pub(crate) fn first_answer(address: SocketAddr, user: &str, plugin: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connected");
    let (sequence_id, _) = packet(&mut stream).expect("a greeting");
    // PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
    let mut login = (1u32 << 9 | 1 << 15 | 1 << 19).to_le_bytes().to_vec();
    login.extend_from_slice(&[0, 0, 0, 1, 45]);
    login.extend_from_slice(&[0; 23]);
    login.extend_from_slice(user.as_bytes());
    // It asks for the key that seals a password.
    login.extend_from_slice(&[0, 1, 1]);
    login.extend_from_slice(plugin.as_bytes());
    login.push(0);
    let head = [login.len() as u8, 0, 0, sequence_id + 1];
    stream.write_all(&[&head[..], &login].concat()).expect("sent");
    packet(&mut stream).expect("an answer").1
}

/// A client that compresses by zstd.
pub(crate) struct ZstdClient {
    stream: TcpStream,
    received: usize,
}

impl ZstdClient {
    pub(crate) fn connect(address: SocketAddr, user: &str, password: &str) -> ZstdClient {
        use one_server::mysql::protocol::{auth, capability, login::Login};
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(super::support::PATIENCE)).expect("a limit");
        let (_, greeting) = packet(&mut stream).expect("a greeting");
        let greeting = Greeting::decode(&greeting).expect("a greeting");
        assert_ne!(greeting.capabilities & capability::ZSTD_COMPRESSION, 0, "offered");
        let capabilities = capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::DEPRECATE_EOF
            | capability::ZSTD_COMPRESSION;
        let answer = auth::native::native_answer(password.as_bytes(), &greeting.scramble);
        let plugin = auth::Method::Native.plugin();
        let user = user.as_bytes();
        let login = Login { capabilities, collation: 45, user, answer: &answer, schema: b"", plugin, zstd_level: 3 };
        let mut out = Vec::new();
        login.encode(&mut out, 1);
        stream.write_all(&out).expect("sent");
        let (_, ok) = packet(&mut stream).expect("an answer in clear");
        assert_eq!(ok[0], 0, "{ok:?}");
        ZstdClient { stream, received: 0 }
    }

    /// All packets of the answer, up to the OK behind the rows.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<u8> {
        let command = frame(0, &[b"\x03", sql.as_bytes()].concat());
        let content = zstd::bulk::compress(&command, 3).expect("compressed");
        let mut out = (content.len() as u32).to_le_bytes()[..3].to_vec();
        out.push(0);
        out.extend_from_slice(&(command.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&content);
        self.stream.write_all(&out).expect("sent");
        let mut plain = Vec::new();
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head).expect("a frame");
            let bytes = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let unpacked = u32::from_le_bytes([head[4], head[5], head[6], 0]) as usize;
            let mut content = vec![0; bytes];
            self.stream.read_exact(&mut content).expect("all of it");
            self.received += 7 + bytes;
            match unpacked {
                0 => plain.extend_from_slice(&content),
                _ => plain.extend_from_slice(&zstd::bulk::decompress(&content, unpacked).expect("sound")),
            }
            let (mut at, mut last) = (0, 0);
            while let Some(head) = plain.get(at..at + 4) {
                (last, at) = (at, at + 4 + u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize);
            }
            if at == plain.len() && at - last < 20 && plain[last + 4] == 0xFE {
                return plain;
            }
        }
    }

    pub(crate) fn received_bytes(&self) -> usize {
        self.received
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }
}
