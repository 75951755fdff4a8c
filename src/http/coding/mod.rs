//! Content codings: br, zstd and gzip (RFC 9110 section 8.4, RFC 7932, RFC 8878, RFC 1952). Pure.
//!
//! | file | does |
//! |---|---|
//! | `negotiate` | Accept-Encoding → [`Accepted`]; which coding it allows, [`choose`] |
//! | `policy` | [`Policy`]: the compiled `compress` of the config; which responses are coded |
//! | `encoder` | [`Encoder`]: bytes in, coded bytes out; [`Encoders`]: those of one worker, within a limit of memory |
//! | `fields` | what a coding changes in the fields of a response |
//! | `fuzz` | what must hold for any field value, for tests and `fuzz/` |
//!
//! The way of a response: [`Accepted::from_head`] reads what the client takes, [`Candidate::of`] reads its fields, [`Policy::applies`] says whether it may be coded,
//! [`Policy::choose`] how, [`Encoders::take`] gives the encoder, [`apply`] changes the fields. A response that could
//! have been coded and was not gets [`vary_only`], a 304 of one gets [`not_modified`]. Not here: framing, which a coding
//! changes too (the length is no longer known), and the decoding of bodies.

mod encoder;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod negotiate;
mod policy;

pub use encoder::{EncodeError, Encoder, Encoders, Lease, compress_all};
pub(super) use fields::weaken_etags;
pub use fields::{apply, not_modified, vary_only};
pub use negotiate::{Accepted, choose};
pub use policy::{Candidate, DEFAULT_TYPES, Levels, Policy, TypePattern};

/// A content coding that we write (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli, RFC 7932.
    Br,
    /// Zstandard, RFC 8878.
    Zstd,
    /// Gzip, RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them, in our order of preference. At the default levels br makes the least of text; zstd makes some seven
    /// percent more of it in a quarter of the time; gzip is what everything knows.
    pub const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    /// Its name in Accept-Encoding and Content-Encoding.
    #[inline]
    pub const fn token(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file ends in that was compressed beforehand.
    #[inline]
    pub const fn extension(self) -> &'static str {
        match self {
            Coding::Br => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    /// The coding of that name, in any case of letters. `x-gzip` is gzip (RFC 9110 section 8.4.1.3).
    #[inline]
    pub fn of_token(token: &[u8]) -> Option<Coding> {
        match token.len() {
            2 if token.eq_ignore_ascii_case(b"br") => Some(Coding::Br),
            4 if token.eq_ignore_ascii_case(b"gzip") => Some(Coding::Gzip),
            4 if token.eq_ignore_ascii_case(b"zstd") => Some(Coding::Zstd),
            6 if token.eq_ignore_ascii_case(b"x-gzip") => Some(Coding::Gzip),
            _ => None,
        }
    }

    /// Its place in lists of one value for each coding.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_codings_in_any_case() {
        for (at, coding) in Coding::ALL.into_iter().enumerate() {
            assert_eq!(coding.index(), at);
            assert_eq!(Coding::of_token(coding.token().as_bytes()), Some(coding));
            assert_eq!(Coding::of_token(coding.token().to_uppercase().as_bytes()), Some(coding));
        }
        assert_eq!(Coding::of_token(b"X-GZip"), Some(Coding::Gzip));
        for other in ["", "b", "brr", "deflate", "identity", "*", "compress", "x-br"] {
            assert_eq!(Coding::of_token(other.as_bytes()), None, "{other}");
        }
    }
}
