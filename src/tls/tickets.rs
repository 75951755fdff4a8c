//! Session tickets whose keys follow from a secret and the time.
//!
//! All workers, the process after a restart and the other nodes of a pair accept each other's tickets without a word
//! between them: they share the secret, and each hour's key is derived from it. Nothing is kept per session, nothing
//! changes after the start, so that nothing is locked.
//!
//! A ticket is `key name (16) | nonce (12) | sealed session | tag (16)`. The key name, 8 bytes that identify the secret
//! and the number of the period since 1970, is authenticated too. Key of a period: HKDF-SHA256 (RFC 5869) over the
//! secret, for AES-256-GCM. A random nonce is safe for 2^32 tickets a period (NIST SP 800-38D section 8.3), which is
//! more than a million a second.
//!
//! The price: who learns the secret can read recorded TLS 1.2 sessions that were given a ticket under it. TLS 1.3
//! sessions stay closed to him, because they agree on fresh keys when they resume. Replace the secret now and then: a new
//! line on top, the old line below for as long as tickets last, then delete it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine;
use rustls::server::ProducesTickets;

use super::certificate::read_file;
use super::error::TlsError;

/// Bytes of one secret, least and most.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;
/// Secrets in one file: the newest, and those whose tickets are still accepted.
const SECRETS_MAX: usize = 16;
/// A larger file is not one of secrets.
pub const FILE_BYTES_MAX: u64 = 16 << 10;
/// A session without a client certificate takes less than 700 bytes, whatever its names.
const TICKET_BYTES_MAX: usize = 4096;

const ID_BYTES: usize = 8;
const NAME_BYTES: usize = ID_BYTES + 8;
/// Keeps these keys apart from any other use of the same secret.
const SALT: &[u8] = b"one-server TLS session tickets 1";

/// Where a ticketer takes the time from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How long keys and tickets last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Time after which another key encrypts.
    pub period: Duration,
    /// Periods before the present one whose tickets are accepted. A ticket lasts for so many periods at least, and one
    /// more at most.
    pub previous: u32,
}

impl Default for Lifetime {
    /// Twelve hours, as rustls's own: a visitor who comes back on the same day resumes. RFC 8446 section 4.6.1 allows
    /// seven days.
    fn default() -> Lifetime {
        Lifetime { period: Duration::from_secs(3600), previous: 12 }
    }
}

/// Secrets that keys are derived from, the newest first. Cheap to clone.
#[derive(Clone)]
pub struct Secrets(Arc<[Secret]>);

struct Secret {
    id: [u8; ID_BYTES],
    key: Prk,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} redacted)", self.0.len())
    }
}

/// Why a file is not one of ticket secrets. The text says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// Nothing in it.
    Empty,
    /// This line, counted from 1, is neither hex nor Base64.
    BadLine(usize),
    /// A secret has this many bytes.
    Length(usize),
    /// All bytes are the same.
    Constant,
    /// More secrets than a rotation needs.
    TooMany,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADVICE: &str = "make one with `openssl rand -hex 32`";
        match self {
            SecretError::Empty => write!(f, "the file holds no ticket secret: {ADVICE}"),
            SecretError::BadLine(line) => write!(f, "line {line} is neither hex nor Base64: {ADVICE}"),
            SecretError::Length(bytes) => {
                let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
                write!(f, "a ticket secret has {bytes} bytes, but needs {least} to {most}: {ADVICE}")
            }
            SecretError::Constant => write!(f, "a ticket secret is one byte over and over, not random: {ADVICE}"),
            SecretError::TooMany => write!(f, "the file holds more than {SECRETS_MAX} secrets: delete the oldest"),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secrets {
    /// A random secret: tickets are good until the process ends. Panics when the system has no random numbers.
    pub fn random() -> Secrets {
        Secrets::from_seed(&Secrets::random_seed())
    }

    /// What a random secret is made from. Panics when the system has no random numbers.
    pub fn random_seed() -> [u8; 32] {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("random numbers");
        bytes
    }

    /// One secret: tickets are good wherever the same seed is.
    pub fn from_seed(seed: &[u8; 32]) -> Secrets {
        Secrets([Secret::new(seed)].into())
    }

    /// Takes the content of a secret file: either lines of hex or Base64, the newest first, with empty lines and
    /// comments behind `#`; or the raw bytes of one secret, as nginx's `ssl_session_ticket_key` has them.
    ///
    /// Errors: what is wrong, without the secret.
    pub fn parse(file: &[u8]) -> Result<Secrets, SecretError> {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        let secrets = match file.iter().all(is_text) {
            true => parse_lines(file)?,
            false => vec![parse_one(file)?],
        };
        match secrets.len() {
            0 => Err(SecretError::Empty),
            count if count > SECRETS_MAX => Err(SecretError::TooMany),
            _ => Ok(Secrets(secrets.into())),
        }
    }

    /// Reads a secret file. Errors: unreadable, or see [`Secrets::parse`].
    pub fn load(path: &Path) -> Result<Secrets, TlsError> {
        let bytes = read_file(path, FILE_BYTES_MAX).map_err(|error| TlsError::File { file: path.into(), error })?;
        Secrets::parse(&bytes).map_err(|error| TlsError::Tickets { file: path.into(), error })
    }

    /// As [`Secrets::load`]; where there is no file, it is created with a random secret and mode 0600. Two processes
    /// that do so at the same time end up with the same secret.
    ///
    /// Errors: as for [`Secrets::load`], and that the file cannot be created.
    pub fn load_or_create(path: &Path) -> Result<Secrets, TlsError> {
        if let Err(error) = std::fs::metadata(path)
            && error.kind() == io::ErrorKind::NotFound
        {
            create(path).map_err(|error| TlsError::File { file: path.into(), error })?;
        }
        Secrets::load(path)
    }
}

fn parse_lines(file: &[u8]) -> Result<Vec<Secret>, SecretError> {
    let text = std::str::from_utf8(file).unwrap_or_default();
    let mut secrets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let bytes = decode_hex(line).or_else(|| decode_base64(line)).ok_or(SecretError::BadLine(index + 1))?;
            secrets.push(parse_one(&bytes)?);
        }
    }
    Ok(secrets)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn parse_one(bytes: &[u8]) -> Result<Secret, SecretError> {
    match bytes {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|byte| byte == first) => Err(SecretError::Constant),
        _ if !SECRET_BYTES.contains(&bytes.len()) => Err(SecretError::Length(bytes.len())),
        _ => Ok(Secret::new(bytes)),
    }
}

/// Writes a new file beside `path` and links it there, so that nobody ever reads half a secret, and who comes second
/// finds the first one's.
fn create(path: &Path) -> io::Result<()> {
    let mut random = [0; 32 + 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system has no random numbers"))?;
    let (secret, suffix) = random.split_at(32);
    let name = path.file_name().ok_or_else(|| io::Error::other("it is not the name of a file"))?;
    let mut beside = name.to_owned();
    beside.push(format!(".{}", hex(suffix)));
    let beside = path.with_file_name(beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let linked = write_secret(&mut file, secret).and_then(|()| match std::fs::hard_link(&beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = std::fs::remove_file(&beside);
    linked.and(removed)
}

fn write_secret(file: &mut File, secret: &[u8]) -> io::Result<()> {
    writeln!(
        file,
        "# Secret of TLS session tickets. The first line encrypts, all lines decrypt: to replace it, put a new"
    )?;
    writeln!(file, "# one on top (`openssl rand -hex 32`), reload, and delete the old one a day later.")?;
    writeln!(file, "{}", hex(secret))?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length of what HKDF is asked for.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    fn new(bytes: &[u8]) -> Secret {
        let key = Salt::new(HKDF_SHA256, SALT).extract(bytes);
        let mut id = [0; ID_BYTES];
        // HKDF gives up to 255 times 32 bytes, so that 8 are never refused.
        let derived = key.expand(&[b"id"], Length(ID_BYTES)).and_then(|okm| okm.fill(&mut id));
        derived.expect("a short output");
        Secret { id, key }
    }

    fn period_key(&self, period: u64) -> Option<LessSafeKey> {
        let info = [&b"key"[..], &period.to_be_bytes()];
        let key: UnboundKey = self.key.expand(&info, &AES_256_GCM).ok()?.into();
        Some(LessSafeKey::new(key))
    }
}

/// Seals and opens tickets for rustls. Immutable, so one of them serves every worker.
pub struct Tickets {
    secrets: Secrets,
    lifetime: Lifetime,
    clock: Clock,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("secrets", &self.secrets)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets under these secrets by the clock of the system.
    pub fn new(secrets: Secrets) -> Tickets {
        Tickets::with_clock(secrets, Lifetime::default(), Arc::new(SystemTime::now))
    }

    /// Tickets with another lifetime, by another clock.
    pub fn with_clock(secrets: Secrets, lifetime: Lifetime, clock: Clock) -> Tickets {
        Tickets { secrets, lifetime, clock }
    }

    fn period(&self) -> u64 {
        // A clock before 1970 is wrong; tickets then only last until it is set.
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() / self.lifetime.period.as_secs().max(1)
    }

    /// Whether tickets of `period` are accepted now: the present one, those before it, and the next one, which a node
    /// whose clock is a little ahead may be in.
    fn is_accepted(&self, period: u64) -> bool {
        let now = self.period();
        period <= now.saturating_add(1) && period.saturating_add(self.lifetime.previous.into()) >= now
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let overhead = NAME_BYTES + NONCE_LEN + MAX_TAG_LEN;
        if plain.len() + overhead > TICKET_BYTES_MAX {
            return None;
        }
        let (secret, period) = (self.secrets.0.first()?, self.period());
        let mut ticket = Vec::with_capacity(plain.len() + overhead);
        ticket.extend_from_slice(&secret.id);
        ticket.extend_from_slice(&period.to_be_bytes());
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let (name, sealed) = ticket.split_at_mut(NAME_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let key = secret.period_key(period)?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*name), &mut sealed[NONCE_LEN..]).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (id, period) = name.split_first_chunk::<ID_BYTES>()?;
        let period = u64::from_be_bytes(period.try_into().ok()?);
        if !self.is_accepted(period) {
            return None;
        }
        // The id is no secret: it stands in every ticket.
        let secret = self.secrets.0.iter().find(|secret| secret.id == *id)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain_bytes = secret.period_key(period)?.open_in_place(nonce, Aad::from(name), &mut sealed).ok()?.len();
        sealed.truncate(plain_bytes);
        Some(sealed)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let seconds = self.lifetime.period.as_secs().saturating_mul(self.lifetime.previous.into());
        seconds.try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn secrets(text: &str) -> Secrets {
        Secrets::parse(text.as_bytes()).expect("good")
    }

    /// Tickets whose time is the second in the cell.
    fn at(text: &str, second: &Arc<AtomicU64>) -> Tickets {
        let second = second.clone();
        let clock = move || UNIX_EPOCH + Duration::from_secs(second.load(Ordering::Relaxed));
        Tickets::with_clock(secrets(text), Lifetime::default(), Arc::new(clock))
    }

    #[test]
    fn another_process_with_the_secret_opens_a_ticket() {
        let now = Arc::new(AtomicU64::new(1_000_000_000));
        let ticket = at(SECRET, &now).seal(b"session").expect("sealed");
        assert_eq!(at(SECRET, &now).open(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(at(OTHER, &now).open(&ticket), None);
        assert_ne!(at(SECRET, &now).seal(b"session").expect("sealed"), ticket, "the nonce is random");
        assert!(memchr::memmem::find(&ticket, b"session").is_none());
    }

    #[test]
    fn tickets_last_for_their_lifetime() {
        let now = Arc::new(AtomicU64::new(0));
        let tickets = at(SECRET, &now);
        assert_eq!(tickets.lifetime(), 12 * 3600);
        for (sealed, opened, good) in [
            (3600, 3600, true),
            (3600, 3599, true), // another node's clock is a little ahead
            (7200, 3599, false),
            (3600, 3600 + 12 * 3600, true),
            (7199, 7199 + 12 * 3600, true),
            (3600, 3600 + 13 * 3600, false),
            (7199, 7200 + 12 * 3600, false),
        ] {
            now.store(sealed, Ordering::Relaxed);
            let ticket = tickets.seal(b"x").expect("sealed");
            now.store(opened, Ordering::Relaxed);
            assert_eq!(tickets.open(&ticket).is_some(), good, "{sealed} {opened}");
        }
    }

    #[test]
    fn the_first_secret_seals_and_all_open() {
        let now = Arc::new(AtomicU64::new(1_000_000_000));
        let old = at(SECRET, &now).seal(b"old").expect("sealed");
        let both = at(&format!("{OTHER}\n{SECRET}\n"), &now);
        assert_eq!(both.open(&old).as_deref(), Some(&b"old"[..]));
        let new = both.seal(b"new").expect("sealed");
        assert_eq!(at(SECRET, &now).open(&new), None);
        assert_eq!(at(OTHER, &now).open(&new).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn no_changed_or_cut_ticket_is_opened() {
        let tickets = Tickets::new(secrets(SECRET));
        let ticket = tickets.seal(b"the session").expect("sealed");
        for at in 0..ticket.len() {
            assert_eq!(tickets.open(&ticket[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut changed = ticket.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(tickets.open(&changed), None, "bit {bit} of byte {at}");
            }
        }
        assert!(tickets.seal(&vec![0; TICKET_BYTES_MAX]).is_none());
        assert!(tickets.open(&vec![0; TICKET_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn secret_files_are_text_or_raw_bytes() {
        let id = |file: &[u8]| Secrets::parse(file).map(|secrets| secrets.0[0].id);
        let bytes: Vec<u8> = (0..48).collect();
        let expect = id(&bytes);
        assert!(expect.is_ok());
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        for text in [hex(&bytes), hex(&bytes).to_uppercase(), base64, format!("# why\n\n  {}  # new\r\n", hex(&bytes))]
        {
            assert_eq!(id(text.as_bytes()), expect, "{text}");
        }
        // 80 bytes: what nginx makes AES-256 and HMAC keys of.
        assert!(id(&(100..180).collect::<Vec<u8>>()).is_ok());
        let short = hex(&bytes[..31]);
        for (file, error) in [
            (&b""[..], SecretError::Empty),
            (b"# nothing\n\n", SecretError::Empty),
            (b"not a secret!\n", SecretError::BadLine(1)),
            (format!("{SECRET}\nabc").as_bytes(), SecretError::BadLine(2)),
            (short.as_bytes(), SecretError::Length(31)),
            (&[7; 64], SecretError::Constant),
            (&[0xff, 0, 1], SecretError::Length(3)),
            (&(0..=255).chain(0..=9).collect::<Vec<u8>>(), SecretError::Length(266)),
            (format!("{SECRET}\n").repeat(17).as_bytes(), SecretError::TooMany),
        ] {
            assert_eq!(id(file), Err(error));
        }
    }

    #[test]
    fn a_missing_file_is_created_once_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tickets.key");
        let ids = std::thread::scope(|scope| {
            let create = || Secrets::load_or_create(&path).expect("created").0[0].id;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "who comes second takes the first one's");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
        assert_eq!(Secrets::load(&path).expect("good").0[0].id, ids[0]);
        let nowhere = Secrets::load_or_create(Path::new("/nowhere/tickets.key"));
        assert!(matches!(nowhere, Err(TlsError::File { .. })));
        std::fs::write(&path, "bad").expect("written");
        assert!(matches!(Secrets::load_or_create(&path), Err(TlsError::Tickets { .. })), "never overwritten");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?}", Tickets::new(secrets(SECRET)));
        assert!(shown.contains("Secrets(1 redacted)") && !shown.contains("112233"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(ticket in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Tickets::new(secrets(SECRET)).open(&ticket), None);
        }

        #[test]
        fn what_is_sealed_opens(plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let tickets = Tickets::new(Secrets::random());
            let ticket = tickets.seal(&plain).expect("sealed");
            prop_assert_eq!(tickets.open(&ticket), Some(plain));
        }

        #[test]
        fn any_file_is_secrets_or_a_mistake(file in proptest::collection::vec(any::<u8>(), 0..300), text in "[0-9a-fA-F+/=#\n ]{0,300}") {
            for file in [&file[..], text.as_bytes()] {
                if let Err(error) = Secrets::parse(file) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}
