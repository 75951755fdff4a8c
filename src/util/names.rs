//! Texts and host names with wildcards → number, in nginx's order: the whole text, the longest `*.suffix`, the longest
//! `prefix.*`.
//!
//! Case does not count: what is looked up comes in lower case. One look-up costs a few hashes, however many names there
//! are, and allocates nothing.

use std::collections::HashMap;

use ahash::RandomState;

/// The tables never hold names from clients, so nobody can choose colliding keys: fixed seeds keep it repeatable.
const HASHER: RandomState = RandomState::with_seeds(1, 2, 3, 4);

type Table = HashMap<Box<[u8]>, usize, RandomState>;

/// What stands in a table of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// This text.
    Exact(&'a str),
    /// `.example.org`: what ends so and is longer.
    Suffix(&'a str),
    /// `www.example.`: what begins so and is longer.
    Prefix(&'a str),
}

/// A table of names.
#[derive(Debug)]
pub struct Names {
    exact: Table,
    /// Keys begin with a dot.
    suffixes: Table,
    /// Length of the shortest suffix, 0 when there is none.
    suffix_bytes_min: usize,
    suffix_bytes_max: usize,
    /// Keys end in a dot.
    prefixes: Table,
}

impl Names {
    /// The names with their numbers; of equal ones the first counts.
    pub fn new<'a>(names: impl Iterator<Item = (Name<'a>, usize)>) -> Names {
        let [mut exact, mut suffixes, mut prefixes] = [const { Table::with_hasher(HASHER) }; 3];
        for (name, number) in names {
            let (table, text) = match name {
                Name::Exact(text) => (&mut exact, text),
                Name::Suffix(text) => (&mut suffixes, text),
                Name::Prefix(text) => (&mut prefixes, text),
            };
            table.entry(text.to_ascii_lowercase().into_bytes().into()).or_insert(number);
        }
        let lengths = || suffixes.keys().map(|suffix| suffix.len());
        Names {
            suffix_bytes_min: lengths().min().unwrap_or(0),
            suffix_bytes_max: lengths().max().unwrap_or(0),
            exact,
            suffixes,
            prefixes,
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty()
    }

    /// The numbers of all names, in no order; one may come more than once.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.exact.values().chain(self.suffixes.values()).chain(self.prefixes.values()).copied()
    }

    /// The number of the name that fits `text`, which is in lower case.
    #[inline]
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        self.exact.get(text).copied().or_else(|| self.find_suffix(text)).or_else(|| self.find_prefix(text))
    }

    /// The longest suffix that `text` ends in and is longer than. Suffixes begin with a dot, so there is one candidate
    /// per dot, longest first.
    fn find_suffix(&self, text: &[u8]) -> Option<usize> {
        if self.suffixes.is_empty() || text.is_empty() {
            return None;
        }
        let dots = memchr::memchr_iter(b'.', &text[1..]);
        let tails = dots.map(|before| &text[before + 1..]);
        let possible = tails.filter(|tail| (self.suffix_bytes_min..=self.suffix_bytes_max).contains(&tail.len()));
        possible.into_iter().find_map(|tail| self.suffixes.get(tail).copied())
    }

    /// The longest prefix that `text` begins with and is longer than.
    fn find_prefix(&self, text: &[u8]) -> Option<usize> {
        if self.prefixes.is_empty() {
            return None;
        }
        let dots = memchr::memrchr_iter(b'.', &text[..text.len().saturating_sub(1)]);
        dots.into_iter().find_map(|dot| self.prefixes.get(&text[..=dot]).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_s_order() {
        let names = [
            Name::Exact("A.example.org"),
            Name::Suffix(".example.org"),
            Name::Suffix(".x.example.org"),
            Name::Prefix("www.example."),
            Name::Prefix("www."),
            Name::Exact("a.EXAMPLE.org"),
            Name::Exact(""),
        ];
        let names = Names::new(names.into_iter().zip(0..));
        for (text, expect) in [
            ("a.example.org", Some(0)),
            ("b.example.org", Some(1)),
            ("b.x.example.org", Some(2)),
            ("example.org", None),
            (".example.org", None),
            ("www.example.org", Some(1)),
            ("www.example.com", Some(3)),
            ("www.example.", Some(4)),
            ("www.other", Some(4)),
            ("www.", None),
            ("www", None),
            ("", Some(6)),
        ] {
            assert_eq!(names.find(text.as_bytes()), expect, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let names = Names::new([(Name::Suffix(".a"), 0), (Name::Prefix("a."), 1), (Name::Exact("b"), 2)].into_iter());
            names.find(&text);
        }
    }
}
