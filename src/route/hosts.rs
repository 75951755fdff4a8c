//! Host name → site.

use std::collections::HashMap;

use ahash::RandomState;

use crate::config::model::{HostPattern, Site};
use crate::util::pattern::Pattern;

/// Longest host name (RFC 1035 section 2.3.4). A longer one matches no name.
const HOST_BYTES_MAX: usize = 255;
/// Nearly all hosts fit; clearing a small buffer is cheaper.
const HOST_BYTES_USUAL: usize = 48;

/// The tables never hold names from clients, so nobody can choose colliding keys: fixed seeds keep it repeatable.
const HASHER: RandomState = RandomState::with_seeds(1, 2, 3, 4);

type Names = HashMap<Box<[u8]>, usize, RandomState>;

/// Host names of a listener's sites; results are positions in the listener's list.
#[derive(Debug)]
pub(super) struct Hosts {
    exact: Names,
    /// Keys begin with a dot.
    suffixes: Names,
    /// Length of the shortest suffix, 0 when there is none.
    suffix_bytes_min: usize,
    suffix_bytes_max: usize,
    /// Keys end in a dot.
    prefixes: Names,
    /// In order of writing.
    expressions: Vec<(Pattern, usize)>,
    /// There are no names at all.
    is_empty: bool,
    /// For hosts that no name matches; `None` when there are no sites.
    otherwise: Option<usize>,
}

impl Hosts {
    pub(super) fn new<'a>(sites: impl Iterator<Item = &'a Site>) -> Hosts {
        let [mut exact, mut suffixes, mut prefixes] = [const { Names::with_hasher(HASHER) }; 3];
        let mut expressions = Vec::new();
        let (mut any, mut default, mut first) = (None, None, None);
        for (position, site) in sites.enumerate() {
            first.get_or_insert(position);
            if site.default {
                default.get_or_insert(position);
            }
            for host in &site.hosts {
                match host {
                    HostPattern::Exact(name) => drop(exact.entry(key(name)).or_insert(position)),
                    HostPattern::Suffix(name) => drop(suffixes.entry(key(name)).or_insert(position)),
                    HostPattern::Prefix(name) => {
                        prefixes.entry(name.to_ascii_lowercase().into_bytes().into()).or_insert(position);
                    }
                    HostPattern::Regex(pattern) => expressions.push((pattern.clone(), position)),
                    HostPattern::Any => drop(any.get_or_insert(position)),
                }
            }
        }
        let lengths = || suffixes.keys().map(|suffix| suffix.len());
        Hosts {
            suffix_bytes_min: lengths().min().unwrap_or(0),
            suffix_bytes_max: lengths().max().unwrap_or(0),
            otherwise: any.or(default).or(first),
            is_empty: exact.is_empty() && suffixes.is_empty() && prefixes.is_empty() && expressions.is_empty(),
            exact,
            suffixes,
            prefixes,
            expressions,
        }
    }

    /// Position of the site for `host`, which has no port.
    #[inline]
    pub(super) fn find(&self, host: &[u8]) -> Option<usize> {
        if self.is_empty {
            return self.otherwise;
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.len() <= HOST_BYTES_USUAL {
            self.find_name(host, &mut [0; HOST_BYTES_USUAL])
        } else if host.len() <= HOST_BYTES_MAX {
            self.find_name(host, &mut [0; HOST_BYTES_MAX])
        } else {
            self.otherwise
        }
    }

    /// `buffer` is at least as long as `host`.
    #[inline]
    fn find_name(&self, host: &[u8], buffer: &mut [u8]) -> Option<usize> {
        let lower = &mut buffer[..host.len()];
        for (lower, byte) in lower.iter_mut().zip(host) {
            *lower = byte.to_ascii_lowercase();
        }
        let exact = self.exact.get(&*lower).copied();
        exact.or_else(|| self.find_suffix(lower)).or_else(|| self.find_other(lower)).or(self.otherwise)
    }

    /// The longest prefix that `host` begins with and is longer than, else the first expression.
    fn find_other(&self, host: &[u8]) -> Option<usize> {
        if self.prefixes.is_empty() && self.expressions.is_empty() {
            return None;
        }
        let dots = memchr::memrchr_iter(b'.', &host[..host.len().saturating_sub(1)]);
        let prefix = dots.into_iter().find_map(|dot| self.prefixes.get(&host[..=dot]).copied());
        let expression = || self.expressions.iter().find(|(pattern, _)| pattern.is_match(host));
        prefix.or_else(|| expression().map(|(_, site)| *site))
    }

    /// The longest suffix that `host` ends in and is longer than. Suffixes begin with a dot, so there is one candidate
    /// per dot, longest first.
    fn find_suffix(&self, host: &[u8]) -> Option<usize> {
        if self.suffixes.is_empty() || host.is_empty() {
            return None;
        }
        let dots = memchr::memchr_iter(b'.', &host[1..]);
        let tails = dots.map(|before| &host[before + 1..]);
        let possible = tails.filter(|tail| (self.suffix_bytes_min..=self.suffix_bytes_max).contains(&tail.len()));
        possible.into_iter().find_map(|tail| self.suffixes.get(tail).copied())
    }
}

/// Names are stored as they are looked up: lower case, without the final dot.
fn key(name: &str) -> Box<[u8]> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into_bytes().into()
}
