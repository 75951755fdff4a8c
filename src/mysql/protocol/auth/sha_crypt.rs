//! What MySQL keeps of a password for `caching_sha2_password`: `$A$005$`, twenty bytes of salt, and 43 letters of SHA-256 crypt with 5,000
//! rounds. A client proves itself to that by the password alone, so it has to be sent.
//!
//! Source: Drepper, "Unix crypt using SHA-256 and SHA-512" (version 0.6), of which MySQL lets the salt be longer than 16 bytes; MySQL internals
//! manual, `sect_caching_sha2_info`. Crates for it cut the salt off at 16.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256};

use super::same;

/// In front of the number of thousands of rounds, in hexadecimal digits.
const BEGIN: &[u8] = b"$A$";
const SALT_BYTES: usize = 20;
/// Letters of an encoded digest.
const DIGEST_CHARS: usize = 43;
/// A login must end: MySQL itself takes 4,095 thousands.
const THOUSANDS_MAX: u32 = 100;
/// The longest password that servers take; the work grows with the square of it.
const PASSWORD_BYTES_MAX: usize = 256;
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A stored hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    rounds: u32,
    salt: [u8; SALT_BYTES],
    digest: [u8; DIGEST_CHARS],
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored(..)")
    }
}

impl Stored {
    /// As `mysql.user` has it in `authentication_string`, or in hexadecimal digits behind `0x`, as `SHOW CREATE USER` tells it with
    /// `print_identified_with_as_hex` (the salt may be bytes of any kind). `None`: it is none.
    pub fn parse(text: &str) -> Option<Stored> {
        let of_digits = |digits: &str| -> Option<Vec<u8>> {
            let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
            if is_hex { (0..digits.len()).step_by(2).map(byte).collect() } else { None }
        };
        let bytes = match text.strip_prefix("0x") {
            Some(digits) => of_digits(digits)?,
            None => text.as_bytes().to_vec(),
        };
        let rest = bytes.strip_prefix(BEGIN)?;
        let (thousands, rest) = (rest.get(..3)?, rest.get(3..)?.strip_prefix(b"$")?);
        let thousands =
            std::str::from_utf8(thousands).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let thousands = u32::from_str_radix(thousands, 16).ok().filter(|n| (1..=THOUSANDS_MAX).contains(n))?;
        let (salt, digest) = rest.split_at_checked(SALT_BYTES)?;
        let is_digest = digest.iter().all(|letter| LETTERS.contains(letter));
        let (salt, digest) = (salt.try_into().ok()?, digest.try_into().ok().filter(|_| is_digest)?);
        Some(Stored { rounds: thousands * 1000, salt, digest })
    }

    /// Whether it is that of `password`. Takes milliseconds.
    pub fn is_of(&self, password: &[u8]) -> bool {
        password.len() <= PASSWORD_BYTES_MAX && same(&crypt(password, &self.salt, self.rounds), &self.digest)
    }
}

fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Context::new(&SHA256);
    parts.into_iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// As many bytes as there are in `like`, of `block` over and over.
fn filled(block: &Digest, like: &[u8]) -> Vec<u8> {
    block.as_ref().iter().copied().cycle().take(like.len()).collect()
}

/// SHA-256 crypt; the names are those of the text named above, whose steps these are.
fn crypt(password: &[u8], salt: &[u8], rounds: u32) -> [u8; DIGEST_CHARS] {
    let b = sha256([password, salt, password]);
    let block = filled(&b, password);
    let mut a = Context::new(&SHA256);
    [password, salt, &block].into_iter().for_each(|part| a.update(part));
    let mut bits = password.len();
    while bits > 0 {
        a.update(if bits & 1 == 1 { b.as_ref() } else { password });
        bits >>= 1;
    }
    let mut last = a.finish();
    let p = filled(&sha256(std::iter::repeat_n(password, password.len())), password);
    let s = filled(&sha256(std::iter::repeat_n(salt, 16 + usize::from(last.as_ref()[0]))), salt);
    for round in 0..rounds {
        let is_odd = round % 2 == 1;
        let mut c = Context::new(&SHA256);
        c.update(if is_odd { &p } else { last.as_ref() });
        if round % 3 != 0 {
            c.update(&s);
        }
        if round % 7 != 0 {
            c.update(&p);
        }
        c.update(if is_odd { last.as_ref() } else { &p });
        last = c.finish();
    }
    encode(last.as_ref())
}

/// In groups of three bytes, in the order of the algorithm, six bits to a letter, the lowest first.
fn encode(digest: &[u8]) -> [u8; DIGEST_CHARS] {
    let groups = (0..10).map(|n| {
        let mut group = [n, n + 10, n + 20].map(|at: usize| digest[at]);
        // (0,10,20), (21,1,11), (12,22,2), (3,13,23) ...
        group.rotate_right(n % 3);
        group
    });
    let mut out = [0; DIGEST_CHARS];
    let last = [0, digest[31], digest[30]];
    for (letters, group) in out.chunks_mut(4).zip(groups.chain([last])) {
        let [high, middle, low] = group.map(u32::from);
        let value = high << 16 | middle << 8 | low;
        for (n, letter) in letters.iter_mut().enumerate() {
            *letter = LETTERS[(value >> (6 * n) & 63) as usize];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_is_that_of_its_description() {
        // As glibc's crypt(3) tells them.
        for (rounds, salt, password, expect) in [
            (5000, "saltstring", "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (10000, "saltstringsaltst", "Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            (
                1400,
                "anotherlongsalts",
                "a very much longer text to encrypt.  This one even stretches over morethan one line.",
                "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
            ),
        ] {
            let told = crypt(password.as_bytes(), salt.as_bytes(), rounds);
            assert_eq!(std::str::from_utf8(&told), Ok(expect), "{salt}");
        }
    }

    #[test]
    fn what_a_server_has_is_read_in_both_forms() {
        let salt = b"\x01\"$'\\ 0123456789abcd";
        let digest = crypt(b"secret", salt, 5000);
        let whole = [b"$A$005$".as_slice(), salt, &digest].concat();
        let text = String::from_utf8(whole.clone()).expect("plain text");
        let digits: String = whole.iter().map(|byte| format!("{byte:02X}")).collect();
        for form in [text.clone(), format!("0x{digits}"), format!("0x{}", digits.to_lowercase())] {
            let stored = Stored::parse(&form).expect("a hash");
            assert!(stored.is_of(b"secret") && !stored.is_of(b"secre") && !stored.is_of(b""), "{form}");
            assert!(!stored.is_of(&[b'x'; PASSWORD_BYTES_MAX + 1]), "not even looked at");
        }
        for none in [
            "",
            "secret",
            "0xzz",
            "$A$000$01234567890123456789aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "$A$FFF$01234567890123456789aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &text[..text.len() - 1],
            &format!("{text}a"),
            &text.replace("$A$", "$B$"),
        ] {
            assert_eq!(Stored::parse(none), None, "{none}");
        }
    }
}
