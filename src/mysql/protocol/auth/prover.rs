//! Our side of a login to a server. Pure: the server's packets go in, answers come out.
//!
//! ```text
//! greeting -> first answer -> switch? -> answer -> more data? -> the password, in clear or sealed -> OK
//! ```
//! The password itself is sent over TLS and Unix sockets alone, or sealed with a key that the config names: a key that the
//! server sends could be anyone's.

use std::fmt;

use super::super::ProtocolError;
use super::native::{self, Scramble, Sha1Hash};
use super::switch::{MORE_DATA, SWITCH, decode_switch, scramble_of};
use super::{Method, SCRAMBLE_BYTES, ed25519, sha2};

/// Packets of a server within one login.
const PACKETS_MAX: u32 = 8;

/// Of a plugin's name that is not known, for messages.
const NAME_BYTES_MAX: usize = 64;

/// What a user is logged on with.
#[derive(Clone, Copy)]
pub enum Secret<'a> {
    /// The password.
    Password(&'a [u8]),
    /// SHA1(password): good for [`Method::Native`].
    Stage1(&'a Sha1Hash),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The server broke the protocol.
    Protocol(ProtocolError),
    /// The server wants a method that is not spoken here.
    Plugin(String),
    /// The server wants the password itself, and the connection can be read by others.
    NotSecret(Method),
    /// The password is not known, just its hash.
    NeedsPassword(Method),
    /// The password is too long for the server's key.
    TooLong,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |method: &Method| String::from_utf8_lossy(method.plugin()).into_owned();
        match self {
            AuthError::Protocol(error) => error.fmt(f),
            AuthError::Plugin(plugin) => write!(
                f,
                "the server wants the authentication plugin `{plugin}`, which is not spoken here: create the account with \
                 caching_sha2_password, ed25519 or mysql_native_password"
            ),
            AuthError::NotSecret(method) => write!(
                f,
                "the server wants the password itself ({}) over a connection that others can read: add `server_tls`, or name \
                 the server's RSA key in `server_public_key`",
                name(method)
            ),
            AuthError::NeedsPassword(method) => write!(
                f,
                "the server wants {}, for which the hash of the password is not enough: write the password itself",
                name(method)
            ),
            AuthError::TooLong => f.write_str("the password is too long for the server's RSA key"),
        }
    }
}

impl std::error::Error for AuthError {}

impl From<ProtocolError> for AuthError {
    fn from(error: ProtocolError) -> Self {
        AuthError::Protocol(error)
    }
}

/// What to do next.
#[derive(PartialEq, Eq)]
pub enum Step {
    /// Send this as the payload of the next packet.
    Answer(Vec<u8>),
    /// Nothing: another packet comes.
    Wait,
    /// This is the end of the login, OK or ERR, and the caller's to read.
    End,
}

/// Without the answer, which may be the password.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Answer(_) => "Answer(..)",
            Step::Wait => "Wait",
            Step::End => "End",
        })
    }
}

/// One login.
pub struct Prover<'a> {
    secret: Secret<'a>,
    /// Nobody else can read the connection.
    is_secret: bool,
    public_key: Option<&'a sha2::PublicKey>,
    method: Method,
    scramble: Scramble,
    /// The password has been sent: a server asks for it once.
    has_told: bool,
    packets: u32,
}

impl fmt::Debug for Prover<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover").field("method", &self.method).finish_non_exhaustive()
    }
}

impl<'a> Prover<'a> {
    /// A login to the server that has sent `scramble` and named `plugin` in its greeting. `is_secret`: the connection cannot be
    /// read by others; `public_key`: of the server, where it is known.
    pub fn new(
        secret: Secret<'a>,
        plugin: &[u8],
        scramble: Scramble,
        is_secret: bool,
        public_key: Option<&'a sha2::PublicKey>,
    ) -> Prover<'a> {
        // What cannot be begun with is what the server will switch to.
        let method = match Method::of(plugin) {
            Some(Method::CachingSha2) if matches!(secret, Secret::Password(_)) => Method::CachingSha2,
            _ => Method::Native,
        };
        Prover { secret, is_secret, public_key, method, scramble, has_told: false, packets: 0 }
    }

    /// Plugin and answer for the login packet.
    pub fn first_answer(&self) -> (&'static [u8], Vec<u8>) {
        let answer = match (self.method, self.secret) {
            (Method::CachingSha2, Secret::Password(password)) => sha2::answer(password, &self.scramble),
            (_, secret) => native_by(secret, &self.scramble),
        };
        (self.method.plugin(), answer)
    }

    /// Takes the payload of a packet that follows the login packet.
    pub fn on_packet(&mut self, payload: &[u8]) -> Result<Step, AuthError> {
        self.packets += 1;
        if self.packets > PACKETS_MAX {
            return Err(ProtocolError::Malformed("a login without end").into());
        }
        match payload.first() {
            Some(0x00 | 0xFF) => Ok(Step::End),
            Some(&SWITCH) => {
                let (plugin, nonce) = decode_switch(payload)?;
                self.switch(plugin, nonce)
            }
            Some(&MORE_DATA) => self.on_more(&payload[1..]),
            _ => Err(ProtocolError::Malformed("answer to the login").into()),
        }
    }

    fn switch(&mut self, plugin: &[u8], nonce: &[u8]) -> Result<Step, AuthError> {
        let method = Method::of(plugin).ok_or_else(|| AuthError::Plugin(shown(plugin)))?;
        self.method = method;
        if method.nonce_bytes() == SCRAMBLE_BYTES {
            self.scramble = scramble_of(nonce)?;
        }
        let answer = match method {
            Method::Native => native_by(self.secret, &self.scramble),
            Method::CachingSha2 => sha2::answer(self.password()?, &self.scramble),
            Method::Ed25519 if nonce.len() == ed25519::NONCE_BYTES => ed25519::answer(self.password()?, nonce),
            Method::Ed25519 => return Err(ProtocolError::Malformed("nonce").into()),
            Method::Sha256 if self.password()?.is_empty() => vec![0],
            Method::Sha256 | Method::Clear => self.tell()?,
        };
        Ok(Step::Answer(answer))
    }

    fn on_more(&mut self, data: &[u8]) -> Result<Step, AuthError> {
        match (self.method, data) {
            (Method::CachingSha2, [sha2::FAST_SUCCESS]) => Ok(Step::Wait),
            (Method::CachingSha2, [sha2::FULL_AUTHENTICATION]) if !self.has_told => self.tell().map(Step::Answer),
            _ => Err(ProtocolError::Malformed("authentication data").into()),
        }
    }

    fn password(&self) -> Result<&'a [u8], AuthError> {
        match self.secret {
            Secret::Password(password) => Ok(password),
            Secret::Stage1(_) => Err(AuthError::NeedsPassword(self.method)),
        }
    }

    /// The password itself.
    fn tell(&mut self) -> Result<Vec<u8>, AuthError> {
        let password = self.password()?;
        self.has_told = true;
        match self.public_key {
            _ if self.is_secret => Ok(sha2::in_clear(password)),
            Some(key) if self.method != Method::Clear => key.seal(password, &self.scramble).ok_or(AuthError::TooLong),
            _ => Err(AuthError::NotSecret(self.method)),
        }
    }
}

/// A name from outside, for people to read.
fn shown(plugin: &[u8]) -> String {
    plugin[..plugin.len().min(NAME_BYTES_MAX)].escape_ascii().to_string()
}

fn native_by(secret: Secret<'_>, scramble: &Scramble) -> Vec<u8> {
    match secret {
        Secret::Password(password) => native::native_answer(password, scramble),
        Secret::Stage1(stage1) => native::answer_with(stage1, scramble).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCRAMBLE: Scramble = *b"abcdefghijklmnopqrst";
    const OTHER: Scramble = *b"ABCDEFGHIJKLMNOPQRST";

    fn prover(plugin: &str, is_secret: bool) -> Prover<'static> {
        Prover::new(Secret::Password(b"secret"), plugin.as_bytes(), SCRAMBLE, is_secret, None)
    }

    fn switch_to(plugin: &str, nonce: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let method = Method::of(plugin.as_bytes()).expect("a method");
        super::super::switch::put_switch(&mut out, 2, method, nonce);
        out[4..].to_vec()
    }

    #[test]
    fn the_first_answer_is_by_the_greetings_plugin_or_the_oldest() {
        let native = native::native_answer(b"secret", &SCRAMBLE);
        for plugin in ["mysql_native_password", "", "client_ed25519", "sha256_password", "dialog"] {
            assert_eq!(prover(plugin, true).first_answer(), (Method::Native.plugin(), native.clone()), "{plugin}");
        }
        let sha2 = sha2::answer(b"secret", &SCRAMBLE);
        assert_eq!(prover("caching_sha2_password", false).first_answer(), (Method::CachingSha2.plugin(), sha2));
    }

    #[test]
    fn a_switch_is_answered_by_each_method() {
        let nonce = [5; 32];
        let cases: [(&str, &[u8], Vec<u8>); 5] = [
            ("mysql_native_password", &OTHER, native::native_answer(b"secret", &OTHER)),
            ("caching_sha2_password", &OTHER, sha2::answer(b"secret", &OTHER)),
            ("client_ed25519", &nonce, ed25519::answer(b"secret", &nonce)),
            ("sha256_password", &OTHER, b"secret\0".to_vec()),
            ("mysql_clear_password", b"", b"secret\0".to_vec()),
        ];
        for (plugin, nonce, answer) in cases {
            let mut prover = prover("mysql_native_password", true);
            assert_eq!(prover.on_packet(&switch_to(plugin, nonce)), Ok(Step::Answer(answer)), "{plugin}");
            assert_eq!(prover.on_packet(b"\0\0\0\x02\0\0\0"), Ok(Step::End));
        }
    }

    #[test]
    fn a_warm_cache_wants_nothing_more_and_a_cold_one_the_password() {
        let mut warm = prover("caching_sha2_password", false);
        assert_eq!(warm.on_packet(b"\x01\x03"), Ok(Step::Wait));
        assert_eq!(warm.on_packet(b"\x00"), Ok(Step::End));
        let mut cold = prover("caching_sha2_password", true);
        assert_eq!(cold.on_packet(b"\x01\x04"), Ok(Step::Answer(b"secret\0".to_vec())));
        assert!(cold.on_packet(b"\x01\x04").is_err(), "it is told once");
    }

    #[test]
    fn the_password_is_never_told_where_others_can_read_it() {
        let not_secret = |method| Err(AuthError::NotSecret(method));
        assert_eq!(prover("caching_sha2_password", false).on_packet(b"\x01\x04"), not_secret(Method::CachingSha2));
        for method in [Method::Sha256, Method::Clear] {
            let name = std::str::from_utf8(method.plugin()).expect("ASCII");
            let nonce: &[u8] = if method == Method::Clear { b"" } else { &OTHER };
            assert_eq!(prover("", false).on_packet(&switch_to(name, nonce)), not_secret(method));
        }
    }

    #[test]
    fn a_hash_is_good_for_the_oldest_method_alone() {
        let stage1 = native::stage1(b"secret");
        let of_hash = || Prover::new(Secret::Stage1(&stage1), b"caching_sha2_password", SCRAMBLE, true, None);
        assert_eq!(of_hash().first_answer(), (Method::Native.plugin(), native::native_answer(b"secret", &SCRAMBLE)));
        for method in [Method::CachingSha2, Method::Sha256, Method::Ed25519, Method::Clear] {
            let name = std::str::from_utf8(method.plugin()).expect("ASCII");
            let nonce = vec![7; method.nonce_bytes()];
            let refused = Err(AuthError::NeedsPassword(method));
            assert_eq!(of_hash().on_packet(&switch_to(name, &nonce)), refused, "{name}");
        }
    }

    #[test]
    fn what_a_server_calls_a_plugin_is_shown_without_harm() {
        let mut name = b"\xFEdia\nlog".to_vec();
        name.extend_from_slice(&[b'x'; 500]);
        name.push(0);
        let error = prover("", true).on_packet(&name).expect_err("not known").to_string();
        assert!(error.contains(r"`dia\nlogxxx") && error.len() < 300, "{error}");
    }

    #[test]
    fn what_is_no_login_is_refused() {
        for packet in
            [&b""[..], b"\x02", b"\x01", b"\x01\x05", b"\xFEdialog\0x", b"\xFE", b"\xFEmysql_native_password\0short"]
        {
            assert!(prover("mysql_native_password", true).on_packet(packet).is_err(), "{packet:?}");
        }
        let mut prover = prover("mysql_native_password", true);
        let switch = switch_to("mysql_native_password", &OTHER);
        let answers = (0..20).take_while(|_| prover.on_packet(&switch).is_ok()).count();
        assert_eq!(answers, PACKETS_MAX as usize, "no login goes on for ever");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packets: Vec<Vec<u8>>, is_secret: bool) {
            let mut prover = prover("caching_sha2_password", is_secret);
            for packet in packets {
                let _ = prover.on_packet(&packet);
            }
        }
    }
}
