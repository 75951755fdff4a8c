//! Host name → site.

use crate::config::model::{HostPattern, Site};
use crate::util::names::{Name, Names};
use crate::util::pattern::Pattern;

/// Longest host name (RFC 1035 section 2.3.4). A longer one matches no name.
const HOST_BYTES_MAX: usize = 255;
/// Nearly all hosts fit; clearing a small buffer is cheaper.
const HOST_BYTES_USUAL: usize = 48;

/// Host names of a listener's sites; results are positions in the listener's list.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Names,
    /// In order of writing.
    expressions: Vec<(Pattern, usize)>,
    /// There are no names at all.
    is_empty: bool,
    /// For hosts that no name matches; `None` when there are no sites.
    otherwise: Option<usize>,
}

impl Hosts {
    pub(super) fn new<'a>(sites: impl Iterator<Item = &'a Site>) -> Hosts {
        let (mut names, mut expressions) = (Vec::new(), Vec::new());
        let (mut any, mut default, mut first) = (None, None, None);
        for (position, site) in sites.enumerate() {
            first.get_or_insert(position);
            if site.default {
                default.get_or_insert(position);
            }
            for host in &site.hosts {
                match host {
                    HostPattern::Exact(name) => names.push((Name::Exact(without_dot(name)), position)),
                    HostPattern::Suffix(name) => names.push((Name::Suffix(without_dot(name)), position)),
                    HostPattern::Prefix(name) => names.push((Name::Prefix(name), position)),
                    HostPattern::Regex(pattern) => expressions.push((pattern.clone(), position)),
                    HostPattern::Any => drop(any.get_or_insert(position)),
                }
            }
        }
        Hosts {
            otherwise: any.or(default).or(first),
            is_empty: names.is_empty() && expressions.is_empty(),
            names: Names::new(names.into_iter()),
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
        self.names.find(lower).or_else(|| self.find_expression(lower)).or(self.otherwise)
    }

    fn find_expression(&self, host: &[u8]) -> Option<usize> {
        self.expressions.iter().find(|(pattern, _)| pattern.is_match(host)).map(|(_, site)| *site)
    }
}

/// Names are stored as they are looked up: without the final dot.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
