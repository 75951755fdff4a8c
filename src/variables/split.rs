//! Shares of all texts, chosen by a hash: nginx's `split_clients`, with its hash, so that everyone stays where they were.

/// How much of the hashes a row takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Hundredths of a percent, 1 to 10000.
    Hundredths(u32),
    /// All that the rows before it leave: `*`.
    Rest,
}

/// All of the hashes, in hundredths of a percent.
const WHOLE: u32 = 10_000;

impl Share {
    /// Reads `0.5%`, `20%` or `*`. Errors: what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Share, String> {
        if text == "*" {
            return Ok(Share::Rest);
        }
        let wrong = || format!("`{text}` is no share: write one such as \"20%\" or \"0.5%\", or \"*\" for the rest");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || !digits(whole) || !digits(fraction) || number.ends_with('.') {
            return Err(wrong());
        }
        if fraction.len() > 2 {
            return Err(format!("`{text}` is too fine: shares have two digits behind the dot"));
        }
        let hundredths = format!("{whole}{fraction:0<2}").parse().map_err(|_| wrong())?;
        match hundredths {
            0 => Err("a share of nothing is never chosen: take it away".into()),
            1..=WHOLE => Ok(Share::Hundredths(hundredths)),
            _ => Err(format!("`{text}` is more than 100%")),
        }
    }

    /// Its part of all hashes, in hundredths of a percent; 0 for the rest.
    pub fn hundredths(self) -> u32 {
        match self {
            Share::Hundredths(hundredths) => hundredths,
            Share::Rest => 0,
        }
    }
}

/// Rows by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// By row: the hash at which its share ends; `None`: it takes all that is left.
    ends: Vec<Option<u32>>,
}

impl Split {
    /// Rows with these shares, which are 100% together at most.
    pub fn new(shares: impl Iterator<Item = Share>) -> Split {
        let mut end = 0;
        let row = |share| match share {
            Share::Rest => None,
            Share::Hundredths(hundredths) => {
                // Rounded down row by row, as nginx does it.
                let part = u64::from(hundredths) * u64::from(u32::MAX) / u64::from(WHOLE);
                end = u32::try_from(u64::from(end) + part).unwrap_or(u32::MAX);
                Some(end)
            }
        };
        Split { ends: shares.map(row).collect() }
    }

    /// The row of `text`; `None` when the shares leave it over.
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        let hash = murmur2(text);
        self.ends.iter().position(|end| end.is_none_or(|end| hash < end))
    }
}

/// MurmurHash2 by Austin Appleby, 32 bits, seed 0.
fn murmur2(text: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    // The algorithm takes the length modulo 2^32.
    let mut hash = text.len() as u32;
    let (words, rest) = text.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        word = (word ^ (word >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ word;
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_slips_explained() {
        let check = |text: &str, expect: Result<Share, &str>| {
            let found = Share::parse(text);
            match expect {
                Ok(share) => assert_eq!(found, Ok(share), "{text}"),
                Err(part) => assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{text}: {found:?}"),
            }
        };
        check("*", Ok(Share::Rest));
        check("20%", Ok(Share::Hundredths(2000)));
        check("0.5%", Ok(Share::Hundredths(50)));
        check("0.05%", Ok(Share::Hundredths(5)));
        check("100%", Ok(Share::Hundredths(10_000)));
        check("33.33%", Ok(Share::Hundredths(3333)));
        for wrong in ["", "%", "20", ".5%", "5.%", "-1%", "1e1%", "1000000000000%", "5 %", "a%"] {
            check(wrong, Err("no share"));
        }
        check("0%", Err("never chosen"));
        check("0.00%", Err("never chosen"));
        check("0.005%", Err("too fine"));
        check("100.01%", Err("more than 100%"));
    }

    #[test]
    fn the_hash_is_murmur_2() {
        let check = |text: &str, hash| assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        check("", 0);
        check("a", 0x9268_5f5e);
        check("abc", 0x1357_7c9b);
        check("abcd", 0x2687_3021);
        check("127.0.0.1curl/8.0", 0x7d5d_6655);
    }

    #[test]
    fn rows_get_their_shares() {
        let split = |shares: &[&str]| Split::new(shares.iter().map(|share| Share::parse(share).unwrap()));
        let count = |split: &Split, row| (0..10_000u32).filter(|n| split.find(&n.to_le_bytes()) == row).count();
        let three = split(&["0.5%", "20%", "*"]);
        assert!((20..90).contains(&count(&three, Some(0))));
        assert!((1900..2100).contains(&count(&three, Some(1))));
        assert_eq!(count(&three, None), 0);
        let open = split(&["50%"]);
        assert!((4800..5200).contains(&count(&open, None)));
        assert_eq!(count(&split(&["*", "50%"]), Some(1)), 0);
        assert!(count(&split(&["99.99%", "0.01%"]), None) <= 1);
    }
}
