//! Password hashes as they stand in a users file: bcrypt, SHA-crypt, apr1 and `{SHA}`, read and verified.
//!
//! Everything that can be wrong with an entry is found when it is read, so that verifying cannot fail. Verifying takes
//! milliseconds by intention: call it on a thread that may block.

use std::fmt;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{DecodeError, Engine};
use md5::{Digest, Md5};

/// The highest cost `htpasswd -C` takes; each step doubles the time, and this one takes about 10 seconds.
const BCRYPT_COST_MAX: u32 = 17;

/// Rounds of SHA-crypt, from its specification (drepper, SHA-crypt.txt) and, upwards, what takes some seconds.
const SHA_ROUNDS: std::ops::RangeInclusive<usize> = sha_crypt::ROUNDS_MIN..=5_000_000;

/// Bytes of a password that bcrypt looks at, its closing zero included.
const BCRYPT_PASSWORD_BYTES: usize = 72;

/// One stored password. Comparisons take the same time wherever the difference is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Bcrypt { cost: u32, salt: [u8; 16], sum: [u8; 23] },
    Sha256(ShaCrypt<43>),
    Sha512(ShaCrypt<86>),
    Apr1 { salt: Box<[u8]>, sum: [u8; 22] },
    Sha1([u8; 20]),
}

/// `$5$` or `$6$`, whose sum has `N` characters.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ShaCrypt<const N: usize> {
    rounds: usize,
    salt: Box<[u8]>,
    sum: [u8; N],
}

impl fmt::Debug for Hash {
    /// Only its kind: a hash can be guessed at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hash::Bcrypt { .. } => "bcrypt",
            Hash::Sha256(_) => "sha256-crypt",
            Hash::Sha512(_) => "sha512-crypt",
            Hash::Apr1 { .. } => "apr1",
            Hash::Sha1(_) => "{SHA}",
        })
    }
}

/// Why a text is no hash that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashError {
    /// Nothing stands behind the colon.
    Empty,
    /// Not a hash, as far as can be told.
    PlainText,
    /// Thirteen characters as crypt(3) of DES makes them.
    Des,
    /// A hash of a kind that is not accepted.
    Unsupported(&'static str),
    /// A hash of this kind that is damaged.
    Malformed(&'static str),
    /// Verifying it would take too long; this is how far it may go.
    TooCostly(&'static str),
}

impl Hash {
    /// Reads what stands behind the user's name.
    pub(super) fn parse(text: &str) -> Result<Hash, HashError> {
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            let sum = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok());
            return sum.map(Hash::Sha1).ok_or(HashError::Malformed("{SHA}"));
        }
        let Some((kind, rest)) = text.strip_prefix('$').and_then(|text| text.split_once('$')) else {
            return Err(unhashed(text));
        };
        match kind {
            "2y" | "2b" | "2a" => bcrypt(rest),
            "5" => sha_crypt(rest, "SHA-256-crypt").map(Hash::Sha256),
            "6" => sha_crypt(rest, "SHA-512-crypt").map(Hash::Sha512),
            "apr1" => apr1(rest),
            "1" => Err(HashError::Unsupported("MD5-crypt ($1$)")),
            "2x" => Err(HashError::Unsupported("faulty bcrypt ($2x$)")),
            "y" | "gy" => Err(HashError::Unsupported("yescrypt ($y$)")),
            "7" => Err(HashError::Unsupported("scrypt ($7$)")),
            "argon2id" | "argon2i" | "argon2d" => Err(HashError::Unsupported("Argon2")),
            _ => Err(HashError::PlainText),
        }
    }

    /// Whether `password` is the stored one. Slow.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Bcrypt { cost, salt, sum } => {
                let mut bytes = [0; BCRYPT_PASSWORD_BYTES];
                let length = password.len().min(BCRYPT_PASSWORD_BYTES);
                bytes[..length].copy_from_slice(&password[..length]);
                // With the closing zero, which a password of the full length has not.
                let used = (length + 1).min(BCRYPT_PASSWORD_BYTES);
                same(&bcrypt::bcrypt(*cost, *salt, &bytes[..used])[..sum.len()], sum)
            }
            Hash::Sha256(ShaCrypt { rounds, salt, sum }) => sha_crypt::Sha256Params::new(*rounds)
                .and_then(|params| sha_crypt::sha256_crypt_b64(password, salt, &params))
                .is_ok_and(|found| same(found.as_bytes(), sum)),
            Hash::Sha512(ShaCrypt { rounds, salt, sum }) => sha_crypt::Sha512Params::new(*rounds)
                .and_then(|params| sha_crypt::sha512_crypt_b64(password, salt, &params))
                .is_ok_and(|found| same(found.as_bytes(), sum)),
            Hash::Apr1 { salt, sum } => same(&apr1_sum(password, salt), sum),
            Hash::Sha1(sum) => {
                let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                same(found.as_ref(), sum)
            }
        }
    }
}

fn same(found: &[u8], stored: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(found, stored).is_ok()
}

fn unhashed(text: &str) -> HashError {
    if text.is_empty() {
        return HashError::Empty;
    }
    if text.starts_with("{SSHA}") {
        return HashError::Unsupported("{SSHA}");
    }
    let des = text.len() == 13 && text.bytes().all(is_crypt_byte);
    if des { HashError::Des } else { HashError::PlainText }
}

/// The alphabet of crypt(3).
fn is_crypt_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

/// `05$` and 53 characters: the salt, then the sum.
fn bcrypt(text: &str) -> Result<Hash, HashError> {
    let malformed = HashError::Malformed("bcrypt");
    let (cost, rest) = text.split_once('$').ok_or(malformed)?;
    let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost: u32 = cost.parse().ok().filter(|cost| digits && (4..=31).contains(cost)).ok_or(malformed)?;
    let (salt, sum) = rest.split_at_checked(22).ok_or(malformed)?;
    let salt = decode_bcrypt(salt).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(malformed)?;
    let sum = decode_bcrypt(sum).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(malformed)?;
    if cost > BCRYPT_COST_MAX {
        return Err(HashError::TooCostly("bcrypt with a cost of up to 17"));
    }
    Ok(Hash::Bcrypt { cost, salt, sum })
}

/// Some programs leave bits set in the last character that no byte uses.
fn decode_bcrypt(text: &str) -> Result<Vec<u8>, DecodeError> {
    const CONFIG: GeneralPurposeConfig = base64::engine::general_purpose::NO_PAD.with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, CONFIG);
    ENGINE.decode(text)
}

/// `[rounds=N$]salt$sum`, where `sum` has `N` characters.
fn sha_crypt<const N: usize>(text: &str, kind: &'static str) -> Result<ShaCrypt<N>, HashError> {
    let malformed = HashError::Malformed(kind);
    let (rounds, text) = match text.strip_prefix("rounds=") {
        None => (sha_crypt::ROUNDS_DEFAULT, text),
        Some(text) => {
            let (rounds, text) = text.split_once('$').ok_or(malformed)?;
            let digits = !rounds.is_empty() && rounds.bytes().all(|byte| byte.is_ascii_digit());
            (if digits { rounds.parse().unwrap_or(usize::MAX) } else { return Err(malformed) }, text)
        }
    };
    let (salt, sum) = text.split_once('$').ok_or(malformed)?;
    let sum: [u8; N] = sum.as_bytes().try_into().map_err(|_| malformed)?;
    // crypt(3) makes salts of at most 16 characters, and cuts longer ones off.
    if salt.len() > 16 || !sum.iter().copied().all(is_crypt_byte) || rounds < *SHA_ROUNDS.start() {
        return Err(malformed);
    }
    if rounds > *SHA_ROUNDS.end() {
        return Err(HashError::TooCostly("SHA-crypt with up to 5000000 rounds"));
    }
    Ok(ShaCrypt { rounds, salt: salt.as_bytes().into(), sum })
}

/// `salt$sum`.
fn apr1(text: &str) -> Result<Hash, HashError> {
    let malformed = HashError::Malformed("apr1");
    let (salt, sum) = text.split_once('$').ok_or(malformed)?;
    let sum: [u8; 22] = sum.as_bytes().try_into().map_err(|_| malformed)?;
    if salt.len() > 8 || !sum.iter().copied().all(is_crypt_byte) {
        return Err(malformed);
    }
    Ok(Hash::Apr1 { salt: salt.as_bytes().into(), sum })
}

/// The MD5 scheme of FreeBSD's crypt(3) with Apache's magic, as apr_md5_encode of the APR makes it: 1000 rounds over
/// changing arrangements of password, salt and the last sum.
fn apr1_sum(password: &[u8], salt: &[u8]) -> [u8; 22] {
    const MAGIC: &[u8] = b"$apr1$";
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(MAGIC).chain_update(salt);
    for piece in password.chunks(16) {
        first.update(&inner[..piece.len()]);
    }
    // One byte for each bit of the length: zero, or the first byte of the password.
    let mut bits = password.len();
    while bits != 0 {
        first.update([if bits & 1 == 1 { 0 } else { password[0] }]);
        bits >>= 1;
    }
    let mut sum = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        next.update(if odd { password } else { &sum[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &sum[..] } else { password });
        sum = next.finalize();
    }
    encode_md5(&sum.into())
}

/// Six bits a character, the low ones first, over bytes in the order of crypt(3).
fn encode_md5(sum: &[u8; 16]) -> [u8; 22] {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = [0; 22];
    let mut put = |at: usize, count: usize, mut bits: u32| {
        for place in &mut out[at..at + count] {
            *place = ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
    };
    for (index, [high, middle, low]) in ORDER.into_iter().enumerate() {
        put(4 * index, 4, u32::from_be_bytes([0, sum[high], sum[middle], sum[low]]));
    }
    put(20, 2, sum[11].into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, password: &str) {
        let hash = Hash::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(hash.verify(password.as_bytes()), "{text}");
        for wrong in ["", "x", &format!("{password}x"), &format!(" {password}")] {
            assert!(wrong == password || !hash.verify(wrong.as_bytes()), "{text} with {wrong}");
        }
    }

    #[test]
    fn published_vectors() {
        // The tests at the end of SHA-crypt.txt.
        check("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!");
        check(
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        );
        // The tests of crypt_blowfish, wrapper.c.
        check("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U");
        check("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*");
    }

    /// Made by crypt(3) of libxcrypt, by openssl, and by htpasswd.
    #[test]
    fn what_other_programs_write() {
        check("$2y$05$Y5FFKxhD92haPe1UDcrxueprCHWk3AAvg0kLm51cDWlFprVvWjaSC", "Hello world!");
        check(
            "$6$rounds=1000$saltstring$KD1orSaTdlC0ZgkPZxnsYbQ9e9I2MaC4buQe3fPAaJNuKIkZc0sGb46WBN12jfHkJ3lVrfgIDR.inN8mttog20",
            "Hello",
        );
        check("$apr1$abcdefgh$Unf1zc.jsgCbBQDCL104q.", "Hello world!");
        check("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.", "");
        check("$apr1$8sFt66rZ$n/5KNG2Du5Xf88tpMjJcE.", "a password of more than sixteen bytes, odd");
        check("{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=", "Hello world!");
    }

    #[test]
    fn bcrypt_looks_at_72_bytes_of_a_password() {
        let hash = Hash::parse("$2b$05$abcdefghijklmnopqrstuuLkMZtUsVwf9Ptg/wgiNv8ZhtnAHnix.").unwrap();
        let digits = "0123456789".repeat(9);
        let verdicts = [71, 72, 73, 80, 90].map(|bytes| hash.verify(&digits.as_bytes()[..bytes]));
        assert_eq!(verdicts, [false, true, true, true, true]);
    }

    #[test]
    fn what_is_no_hash_is_refused_by_name() {
        let refuse = |text: &str, expect: HashError| assert_eq!(Hash::parse(text), Err(expect), "{text}");
        refuse("", HashError::Empty);
        refuse("secret", HashError::PlainText);
        refuse("$secret", HashError::PlainText);
        refuse("$se$cret", HashError::PlainText);
        refuse("{PLAIN}secret", HashError::PlainText);
        refuse("rqXexS6ZhobKA", HashError::Des);
        refuse("{SSHA}yfT8SRT/WoOuNuA6KbJeF10OznZmb28=", HashError::Unsupported("{SSHA}"));
        refuse("$1$abcdefgh$G//4keteveJp0qb8z2DxG/", HashError::Unsupported("MD5-crypt ($1$)"));
        refuse("$y$j9T$salt$sum", HashError::Unsupported("yescrypt ($y$)"));
        let bcrypt = "Y5FFKxhD92haPe1UDcrxueprCHWk3AAvg0kLm51cDWlFprVvWjaSC";
        let damaged = [
            format!("$2y$5${bcrypt}"),
            format!("$2y$03${bcrypt}"),
            format!("$2y$32${bcrypt}"),
            format!("$2y$+5${bcrypt}"),
            format!("$2y$05${bcrypt}x"),
            format!("$2y$05${}", &bcrypt[1..]),
            format!("$2y$05$!{}", &bcrypt[1..]),
            format!("$2y$05$é{}", &bcrypt[2..]),
            "$2y$05$".into(),
            "$2y$".into(),
        ];
        damaged.iter().for_each(|text| refuse(text, HashError::Malformed("bcrypt")));
        refuse(&format!("$2y$18${bcrypt}"), HashError::TooCostly("bcrypt with a cost of up to 17"));
        let sum = "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        for text in [
            "$5$saltstring$short",
            &format!("$5${sum}"),
            &format!("$5$saltstring${sum}x"),
            &format!("$5$seventeen-letters${sum}"),
            &format!("$5$rounds=999$salt${sum}"),
            &format!("$5$rounds=$salt${sum}"),
            &format!("$5$rounds=+5000$salt${sum}"),
            &format!("$5$rounds=5000${sum}"),
        ] {
            refuse(text, HashError::Malformed("SHA-256-crypt"));
        }
        for rounds in ["5000001", "999999999", "99999999999999999999999"] {
            let text = format!("$5$rounds={rounds}$salt${sum}");
            refuse(&text, HashError::TooCostly("SHA-crypt with up to 5000000 rounds"));
        }
        refuse(&format!("$6$saltstring${sum}"), HashError::Malformed("SHA-512-crypt"));
        for text in [
            "$apr1$abc",
            "$apr1$nineteen9$Unf1zc.jsgCbBQDCL104q.",
            "$apr1$abcdefgh$Unf1zc.jsgCbBQDCL104q",
            "$apr1$a$Unf1zc.jsgCbBQDCL10=q.",
        ] {
            refuse(text, HashError::Malformed("apr1"));
        }
        for text in ["{SHA}", "{SHA}AAAA", "{SHA}00hq6RNueFa8QiEjhep5cJRHWA"] {
            refuse(text, HashError::Malformed("{SHA}"));
        }
    }
}
