//! A client's login: greeting, TLS if it wants it, its proof, and the answer.
//!
//! A user that is not known is asked for a proof like any other, so that nobody learns which users there are, but for those of whom only
//! a hash is known that needs the password itself ([`super::hashed`]).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::account::Place;
use super::backend::Key;
use super::client::Client;
use super::hashed::Shown;
use super::insight::Watch;
use super::presence::Presence;
use super::protocol::auth::native::scramble_from;
use super::protocol::auth::switch::{put_more, put_switch};
use super::protocol::auth::{Method, Verifier, ed25519, sha2};
use super::protocol::capability::{
    COMPRESS, LOCAL_FILES, OFFERED, QUERY_ATTRIBUTES, SESSION_MASK, SSL, ZSTD_COMPRESSION,
};
use super::protocol::compressed::Algorithm;
use super::protocol::greeting::Greeting;
use super::protocol::login::Login;
use super::protocol::packet::HEADER_BYTES;
use super::protocol::response::{OkPacket, UNREACHABLE};
use super::serve::{LOGIN_TIMEOUT, Splitter};
use super::session::first_status;
use super::statement::sql_state;
use super::wire::Wire;
use crate::guard::proxy_protocol::Header;
use crate::runtime::time::timeout;

/// Why a client is not let in.
pub(super) enum Refusal {
    /// It is told this number, SQLSTATE and text.
    Error(u16, &'static [u8], String),
    /// It is gone, or speaks something else.
    Silent,
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Refusal::Silent
    }
}

/// What a client has brought as a proof: method, what it is for, and the answer.
pub(super) struct Answer {
    pub(super) method: Method,
    pub(super) nonce: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Splitter {
    /// Who the client on a connection from `peer` is, by its PROXY header if one has to come; `None`: it came by a Unix socket,
    /// here or there.
    pub(super) async fn client_address(
        &self,
        wire: &mut Wire,
        peer: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, Refusal> {
        let config = self.config();
        let Some(proxy) = peer.filter(|_| config.proxy_protocol) else { return Ok(peer) };
        if !config.trusted_proxies.as_ref().is_none_or(|proxies| proxies.contains(proxy.ip())) {
            tracing::debug!(splitter = %config.name, peer = %proxy, "PROXY header from an address that is not trusted");
            return Err(Refusal::Silent);
        }
        match wire.proxy_header().await {
            Ok(Header::Ip { source, .. }) => Ok(Some(source)),
            Ok(Header::Unix) => Ok(None),
            Ok(Header::Local | Header::Unknown) => Ok(peer),
            Err(error) => {
                tracing::debug!(splitter = %config.name, peer = %proxy, %error, "no PROXY header");
                Err(Refusal::Silent)
            }
        }
    }

    /// Lets a client in, or not.
    pub(super) async fn log_on(
        self: &Rc<Self>,
        wire: &mut Wire,
        peer: Option<SocketAddr>,
        place: usize,
        presence: &Rc<Presence>,
    ) -> Result<Box<Client>, Refusal> {
        let greeting = self.greet(wire, presence.id()).await?;
        let message = self.login_message(wire, greeting.capabilities).await?;
        let login = match Login::decode(&message[HEADER_BYTES..]) {
            Ok(login) => login,
            Err(error) => return Err(Refusal::Error(1043, b"08S01", format!("Bad handshake: {error}"))),
        };
        if self.config().tls_required && !wire.stream.is_secret() {
            let text = "Connections using insecure transport are prohibited while tls_required is set";
            return Err(Refusal::Error(3159, b"HY000", text.into()));
        }
        let asked = Method::of(&greeting.plugin).unwrap_or(Method::Native);
        let begun = match login.plugin {
            b"" => Some(Method::Native),
            plugin => Method::of(plugin),
        };
        // A client that begins with another method has not looked at the greeting's random text, which is not for that.
        let answer = begun.filter(|begun| *begun == asked).map(|method| Answer {
            method,
            nonce: greeting.scramble.to_vec(),
            bytes: login.answer.to_vec(),
        });
        let account = self.authenticate(wire, login.user, begun, answer, peer).await?;
        let account = self.seat(account, login.user)?;
        let schema = self.schema_of(&login);
        self.allow_schema(account.account(), schema.as_deref(), login.user, peer)?;
        let algorithm = Splitter::compression(&login, greeting.capabilities);
        let capabilities = login.capabilities & greeting.capabilities;
        let key = Key {
            capabilities: capabilities & SESSION_MASK,
            collation: login.collation as u8,
            account: account.account(),
        };
        if key.account == 0 {
            self.usual_key.set(key);
        }
        let presence = Rc::clone(presence);
        let mut client =
            Box::new(Client::new(Rc::clone(self), place, Rc::clone(&presence), account, capabilities, key, schema));
        client.watch = Watch::new(peer, client.settings().rules.of_client(key.account, peer.map(|peer| peer.ip())));
        client.check_schema().await.map_err(|(code, message)| Refusal::Error(code, sql_state(code), message))?;
        presence.set_account(key.account);
        let mut out = Vec::with_capacity(16);
        OkPacket::plain(client.session.own_status()).encode(&mut out, wire.next_sequence_id, false);
        wire.send(out).await?;
        if let Some(algorithm) = algorithm {
            wire.pack(algorithm);
            self.stats().compressed_clients.inc();
        }
        Ok(client)
    }

    async fn greet(&self, wire: &mut Wire, connection_id: u32) -> Result<Greeting, Refusal> {
        let Some(identity) = self.identity().await else {
            return Err(Refusal::Error(UNREACHABLE, b"HY000", "no MySQL server behind the splitter answers".into()));
        };
        // The random text of `client_ed25519` is longer than a greeting's: it comes with a switch.
        let method = match self.config().authentication {
            Method::CachingSha2 => Method::CachingSha2,
            _ => Method::Native,
        };
        let greeting = Greeting {
            version: identity.version.clone(),
            connection_id,
            scramble: scramble_from(rand::random()),
            capabilities: self.offered(identity.has_attributes),
            collation: identity.collation,
            status: first_status(self.shared.mode()),
            plugin: method.plugin().to_vec(),
        };
        let mut out = Vec::with_capacity(128);
        greeting.encode(&mut out);
        wire.send(out).await?;
        Ok(greeting)
    }

    fn offered(&self, has_attributes: bool) -> u32 {
        let tls = if self.tls().is_some() { SSL } else { 0 };
        let compression = if self.config().compression { COMPRESS | ZSTD_COMPRESSION } else { 0 };
        let files = if self.config().local_infile { LOCAL_FILES } else { 0 };
        let attributes = if has_attributes { QUERY_ATTRIBUTES } else { 0 };
        OFFERED | tls | compression | files | attributes
    }

    /// How packets are compressed once the client is in, if it wants that.
    fn compression(login: &Login<'_>, offered: u32) -> Option<Algorithm> {
        match login.capabilities & offered {
            flags if flags & COMPRESS != 0 => Some(Algorithm::Zlib),
            flags if flags & ZSTD_COMPRESSION != 0 => Some(Algorithm::Zstd(login.zstd_level)),
            _ => None,
        }
    }

    /// The login packet, behind TLS if the client asks for it.
    async fn login_message(&self, wire: &mut Wire, offered: u32) -> Result<Vec<u8>, Refusal> {
        let message = wire.login_packet(1).await?;
        match self.tls() {
            Some(settings) if offered & SSL != 0 && Login::is_tls_request(&message[HEADER_BYTES..]) => {
                if let Err(error) = wire.begin_tls(&settings).await {
                    tracing::debug!(splitter = %self.config().name, %error, "TLS handshake of a client failed");
                    return Err(Refusal::Silent);
                }
                Ok(wire.login_packet(2).await?)
            }
            _ => Ok(message),
        }
    }

    /// The database a login selects.
    pub(super) fn schema_of(&self, login: &Login<'_>) -> Option<Vec<u8>> {
        let config = self.config();
        let schema = if login.schema.is_empty() { config.database.as_bytes() } else { login.schema };
        (!schema.is_empty()).then(|| schema.to_vec())
    }

    /// Has the client prove that it is `user`: by what it began with, if that can be checked, else by what it is asked for.
    async fn authenticate(
        &self,
        wire: &mut Wire,
        user: &[u8],
        begun: Option<Method>,
        answer: Option<Answer>,
        peer: Option<SocketAddr>,
    ) -> Result<u16, Refusal> {
        let config = self.config();
        let known = config.accounts.find(user).filter(|(_, account)| account.admits(peer));
        let stranger = Verifier::Password(rand::random::<[u8; 16]>().to_vec());
        let verifier = known.map_or(&stranger, |(_, account)| account.verifier());
        let (wanted, is_secret) = (config.authentication, wire.stream.is_secret());
        let is_good = |method: &Method| {
            let is_own_choice = matches!(method, Method::Native | Method::CachingSha2) && wanted != Method::Ed25519;
            (is_own_choice || *method == wanted) && verifier.can_check(*method, is_secret)
        };
        let answer = match answer.filter(|answer| is_good(&answer.method)) {
            Some(answer) => answer,
            None => {
                let any = [wanted, Method::Native, Method::CachingSha2];
                let method = begun.into_iter().chain(any).find(is_good).unwrap_or(Method::Native);
                ask(wire, method).await?
            }
        };
        // For an empty password some clients send a zero byte.
        let is_empty = matches!(&answer.bytes[..], [] | [0]);
        let shown = match (verifier, known) {
            (Verifier::Sha2Hash(stored), Some((_, account))) => {
                self.prove_by_hash(wire, account, stored, &answer).await?
            }
            _ => verifier.check(answer.method, &answer.nonce, &answer.bytes).map(Shown::Fast),
        };
        let Some(((number, account), shown)) = known.zip(shown) else {
            return Err(denied(user, peer, is_empty));
        };
        let (Shown::Fast(proof) | Shown::Whole(proof)) = &shown;
        account.learn(proof);
        if answer.method == Method::CachingSha2 && !is_empty && matches!(shown, Shown::Fast(_)) {
            let mut out = Vec::with_capacity(8);
            put_more(&mut out, wire.next_sequence_id, &[sha2::FAST_SUCCESS]);
            wire.next_sequence_id = wire.next_sequence_id.wrapping_add(1);
            wire.send(out).await?;
        }
        Ok(number)
    }

    /// A place among the clients of an account.
    fn seat(&self, number: u16, user: &[u8]) -> Result<Place, Refusal> {
        let max = self.config().accounts.get(number).clients_max();
        Place::take(&self.shared, number, max).ok_or_else(|| {
            let user = String::from_utf8_lossy(user);
            let text = format!("User '{user}' has exceeded the 'max_user_connections' resource (current value: {max})");
            Refusal::Error(1226, b"42000", text)
        })
    }

    /// Whether an account may have this database selected.
    fn allow_schema(
        &self,
        account: u16,
        schema: Option<&[u8]>,
        user: &[u8],
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        match schema {
            Some(schema) if !self.config().accounts.get(account).may_select(schema) => {
                let (user, schema) = (String::from_utf8_lossy(user), String::from_utf8_lossy(schema));
                let text = format!("Access denied for user '{user}'@'{}' to database '{schema}'", host(peer));
                Err(Refusal::Error(1044, b"42000", text))
            }
            _ => Ok(()),
        }
    }

    /// Logs a client that is connected from `peer` on again (COM_CHANGE_USER); `None`: as who it was. `Err`: number and text for the client, which
    /// is then disconnected, or nothing when it is gone.
    pub(super) async fn change_user(
        &self,
        wire: &mut Wire,
        user: &[u8],
        schema: Option<&[u8]>,
        present: u16,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Place>, Option<(u16, String)>> {
        wire.next_sequence_id = 1;
        let changed = async {
            let account = self.authenticate(wire, user, None, None, peer).await?;
            self.allow_schema(account, schema, user, peer)?;
            // Its place is taken already.
            if account == present { Ok(None) } else { self.seat(account, user).map(Some) }
        };
        match timeout(LOGIN_TIMEOUT, changed).await.unwrap_or(Err(Refusal::Silent)) {
            Ok(place) => Ok(place),
            Err(Refusal::Error(code, _, message)) => Err(Some((code, message))),
            Err(Refusal::Silent) => Err(None),
        }
    }
}

/// AuthSwitchRequest and its answer.
async fn ask(wire: &mut Wire, method: Method) -> Result<Answer, Refusal> {
    let mut nonce = scramble_from(rand::random::<[u8; ed25519::NONCE_BYTES]>()).to_vec();
    nonce.truncate(method.nonce_bytes());
    let mut out = Vec::with_capacity(80);
    put_switch(&mut out, wire.next_sequence_id, method, &nonce);
    wire.next_sequence_id = wire.next_sequence_id.wrapping_add(1);
    wire.send(out).await?;
    let message = wire.login_packet(wire.next_sequence_id).await?;
    Ok(Answer { method, nonce, bytes: message[HEADER_BYTES..].to_vec() })
}

fn denied(user: &[u8], peer: Option<SocketAddr>, is_empty: bool) -> Refusal {
    let user = String::from_utf8_lossy(user);
    let host = host(peer);
    let using = if is_empty { "NO" } else { "YES" };
    let message = format!("Access denied for user '{user}'@'{host}' (using password: {using})");
    Refusal::Error(1045, b"28000", message)
}

/// Where a client is, as servers write it.
fn host(peer: Option<SocketAddr>) -> String {
    peer.map_or("localhost".into(), |peer| peer.ip().to_string())
}
