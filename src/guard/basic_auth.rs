//! Login by `Authorization: Basic` (RFC 7617): the field taken apart, and what a site or route asks for.
//!
//! Pure; who verifies passwords, and how often, is the business of [`super::verified`] and [`super::hasher`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::hasher::Hasher;
use super::htpasswd::Users;
use super::verified::{Check, Verified};

/// Longest user name, bytes.
pub const USER_BYTES_MAX: usize = 255;

/// Longest password, bytes; crypt(3) takes no longer ones either. It bounds the time of a hash, too.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// User, colon and password.
const CREDENTIALS_BYTES_MAX: usize = USER_BYTES_MAX + 1 + PASSWORD_BYTES_MAX;

/// The same in Base64.
const ENCODED_BYTES_MAX: usize = CREDENTIALS_BYTES_MAX.div_ceil(3) * 4;

/// User and password, as a request brings them.
#[derive(Clone)]
pub struct Credentials {
    /// The user, the password, and the rest unused. In place, so that reading them allocates nothing.
    bytes: [u8; CREDENTIALS_BYTES_MAX],
    user_bytes: usize,
    password_bytes: usize,
}

impl fmt::Debug for Credentials {
    /// Without either: people type passwords into the field of the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Why a field holds no credentials. The answer is 401 for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsError {
    /// Another scheme than Basic, or none.
    Scheme,
    /// User or password is longer than [`USER_BYTES_MAX`] or [`PASSWORD_BYTES_MAX`].
    TooLong,
    /// Not Base64.
    Encoding,
    /// No colon between user and password.
    NoColon,
    /// A control character (RFC 7617 section 2).
    Control,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialsError::Scheme => "the scheme of the Authorization field is not Basic",
            CredentialsError::TooLong => "the credentials are too long",
            CredentialsError::Encoding => "the credentials are not Base64",
            CredentialsError::NoColon => "the credentials have no colon",
            CredentialsError::Control => "the credentials hold a control character",
        })
    }
}

impl std::error::Error for CredentialsError {}

/// With or without its padding, which some clients leave out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Credentials {
    /// Reads the value of an Authorization field.
    pub fn parse(value: &[u8]) -> Result<Credentials, CredentialsError> {
        let (scheme, rest) = value.split_at_checked(5).ok_or(CredentialsError::Scheme)?;
        // The scheme is the same in any case of letters (RFC 9110 section 11.1).
        if !scheme.eq_ignore_ascii_case(b"basic") || !matches!(rest.first(), None | Some(b' ')) {
            return Err(CredentialsError::Scheme);
        }
        let encoded = rest.trim_ascii();
        if encoded.len() > ENCODED_BYTES_MAX {
            return Err(CredentialsError::TooLong);
        }
        let mut decoded = [0; ENCODED_BYTES_MAX / 4 * 3];
        let length = BASE64.decode_slice(encoded, &mut decoded).map_err(|_| CredentialsError::Encoding)?;
        // The first colon: a name has none, a password may have some (RFC 7617 section 2).
        let colon = memchr::memchr(b':', &decoded[..length]).ok_or(CredentialsError::NoColon)?;
        Credentials::new(&decoded[..colon], &decoded[colon + 1..length])
    }

    /// These ones.
    ///
    /// Errors: as for [`Credentials::parse`].
    pub fn new(user: &[u8], password: &[u8]) -> Result<Credentials, CredentialsError> {
        if user.len() > USER_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(CredentialsError::TooLong);
        }
        if user.iter().chain(password).any(u8::is_ascii_control) {
            return Err(CredentialsError::Control);
        }
        let mut bytes = [0; CREDENTIALS_BYTES_MAX];
        bytes[..user.len()].copy_from_slice(user);
        bytes[user.len()..user.len() + password.len()].copy_from_slice(password);
        Ok(Credentials { bytes, user_bytes: user.len(), password_bytes: password.len() })
    }

    /// The name, as sent: UTF-8 from clients that heed our `charset`. To be escaped before it is logged.
    pub fn user(&self) -> &[u8] {
        &self.bytes[..self.user_bytes]
    }

    /// The password, as sent.
    pub(super) fn password(&self) -> &[u8] {
        &self.bytes[self.user_bytes..self.user_bytes + self.password_bytes]
    }
}

/// What a site or route asks for.
#[derive(Clone)]
pub struct Auth {
    challenge: Bytes,
    users_file: PathBuf,
    users: Arc<Users>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("challenge", &self.challenge)
            .field("users_file", &self.users_file)
            .field("users", &self.users)
            .finish()
    }
}

impl Auth {
    /// `realm` is a text of visible ASCII characters and spaces; browsers show it.
    pub fn new(realm: &str, users_file: &Path, users: Arc<Users>) -> Auth {
        debug_assert!(realm.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        // quoted-string, RFC 9110 section 5.6.4.
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = Bytes::from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        Auth { challenge, users_file: users_file.into(), users }
    }

    /// Value of the WWW-Authenticate field of a 401 (RFC 7617 section 2.1).
    pub fn challenge(&self) -> &Bytes {
        &self.challenge
    }

    /// Where the users come from.
    pub fn users_file(&self) -> &Path {
        &self.users_file
    }

    /// The users.
    pub fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Whether these credentials may come in: at once where this worker knows already, else by a future.
    ///
    /// A request without credentials, or with malformed ones, is to be answered 401 without asking here.
    pub fn check(&self, credentials: &Credentials, verified: &mut Verified, hasher: &Hasher, now: Instant) -> Check {
        verified.ask(&self.users, credentials, hasher, now)
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: &str, expect: Result<(&str, &str), CredentialsError>) {
        let found = Credentials::parse(value.as_bytes());
        let found = found.as_ref().map(|found| (found.user(), found.password())).map_err(|error| *error);
        assert_eq!(found, expect.map(|(user, password)| (user.as_bytes(), password.as_bytes())), "{value}");
    }

    fn basic(text: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn credentials_are_taken_apart() {
        // The examples of RFC 7617 sections 2 and 2.1.
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Ok(("Aladdin", "open sesame")));
        check("Basic dGVzdDoxMjPCow==", Ok(("test", "123£")));
        check("bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ==  ", Ok(("Aladdin", "open sesame")));
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", Ok(("Aladdin", "open sesame")));
        check(&basic(b"a:b:c"), Ok(("a", "b:c")));
        check(&basic(b":b"), Ok(("", "b")));
        check(&basic(b"a:"), Ok(("a", "")));
        check(&basic(b":"), Ok(("", "")));
    }

    #[test]
    fn what_is_no_credentials_is_refused() {
        use CredentialsError::*;
        for value in
            ["", "Basi", "Bearer abc", "Basicx", "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic\tYTpi", "Digest a=b"]
        {
            check(value, Err(Scheme));
        }
        for value in [
            "Basic !",
            "Basic Y",
            "Basic YTpi=",
            "Basic YTpi YTpi",
            "Basic YTp_",
            "Basic a:b",
            "Basic YTpj, Basic YTpj",
        ] {
            check(value, Err(Encoding));
        }
        check("Basic", Err(NoColon));
        check("Basic ", Err(NoColon));
        check(&basic(b"ab"), Err(NoColon));
        for text in [&b"a\0:b"[..], b"a:b\0", b"a:b\n", b"a\x7f:b", b"\ta:b"] {
            check(&basic(text), Err(Control));
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let (user, password) = ("u".repeat(USER_BYTES_MAX), "p".repeat(PASSWORD_BYTES_MAX));
        check(&basic(format!("{user}:{password}").as_bytes()), Ok((&user, &password)));
        check(&basic(format!("{user}u:p").as_bytes()), Err(CredentialsError::TooLong));
        check(&basic(format!("u:{password}p").as_bytes()), Err(CredentialsError::TooLong));
        check(&basic(format!("{user}:{password}pppp").as_bytes()), Err(CredentialsError::TooLong));
        check(&format!("Basic {}", "A".repeat(1 << 20)), Err(CredentialsError::TooLong));
    }

    #[test]
    fn the_challenge_is_a_quoted_string() {
        let challenge = |realm: &str| {
            let auth = Auth::new(realm, Path::new("/users"), Arc::new(Users::parse("").0));
            String::from_utf8(auth.challenge().to_vec()).unwrap()
        };
        assert_eq!(challenge("staff only"), "Basic realm=\"staff only\", charset=\"UTF-8\"");
        assert_eq!(challenge("a\"b\\c"), "Basic realm=\"a\\\"b\\\\c\", charset=\"UTF-8\"");
    }

    #[test]
    fn passwords_are_not_shown() {
        let credentials = Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(..)");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200), scheme in any::<bool>()) {
            let start: &[u8] = if scheme { b"Basic " } else { b"" };
            let _ = Credentials::parse(&[start, &bytes].concat());
            let _ = Credentials::parse(basic(&bytes).as_bytes());
        }

        #[test]
        fn what_a_client_sends_reads_back(user in "[^:\\p{Cc}]{0,20}", password in "[^\\p{Cc}]{0,40}") {
            check(&basic(format!("{user}:{password}").as_bytes()), Ok((&user, &password)));
        }
    }
}
