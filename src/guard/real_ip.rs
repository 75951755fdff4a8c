//! The client's address behind proxies that we trust, from what they write into the head of a request.
//!
//! Every proxy appends whom it talked to, so the list grows to the right, and only its right end was written by someone
//! we trust. It is walked from there to the left, as nginx does with `real_ip_recursive on`: while the address at hand
//! is a trusted proxy, the entry left of it is believed; the first address that is none is the client. What cannot be
//! read ends the walk, because nobody vouches for what is left of it. Bytes in, address out.

use std::net::{IpAddr, Ipv6Addr};

use super::networks::Networks;
use crate::http::h1::FieldName;

/// Entries looked at, so that a long list costs no more than a short one.
const STEPS_MAX: usize = 64;

/// The longest entry is an IPv6 address in brackets with a port, and quoted; `unknown` and the like are shorter.
const ENTRY_BYTES_MAX: usize = 64;

/// Whom a listener believes, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    proxies: Networks,
    /// In lower case.
    header: String,
    form: Form,
}

/// How the header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// X-Forwarded-For: addresses with commas between.
    ForwardedFor,
    /// Forwarded, RFC 7239.
    Forwarded,
    /// One address, such as in X-Real-IP.
    Single,
}

/// The scheme the client used, where a proxy tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl Trust {
    /// Believes `header` of requests that come from `proxies`. `X-Forwarded-For` and `Forwarded` are read in their own
    /// form; any other field holds one address.
    pub fn new(proxies: Networks, header: &str) -> Trust {
        let header = header.to_ascii_lowercase();
        let form = match header.as_str() {
            "x-forwarded-for" => Form::ForwardedFor,
            "forwarded" => Form::Forwarded,
            _ => Form::Single,
        };
        Trust { proxies, header, form }
    }

    /// Whether `address` is one of the proxies.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.proxies.contains(address)
    }

    /// Whether a connection from `peer` may begin with a PROXY header, on a listener that requires one. Without `trust`
    /// everyone is taken at his word; a check of the config warns of that.
    pub fn takes_proxy_header(trust: Option<&Trust>, peer: IpAddr) -> bool {
        trust.is_none_or(|trust| trust.is_trusted(peer))
    }

    /// Name of the field that [`Trust::client`] reads, in lower case.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The same as the parser of HTTP/1 names it; [`FieldName::Other`] for a name it does not know.
    pub fn field(&self) -> FieldName {
        FieldName::of(self.header.as_bytes())
    }

    /// The client of a request that came from `peer` (the connection's other end, or the address of its PROXY header).
    /// `values` are all values of [`Trust::header`], in the order of the head.
    pub fn client<'a>(&self, peer: IpAddr, values: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.is_trusted(peer) {
            return peer;
        }
        match self.form {
            Form::ForwardedFor => {
                let entries = values.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
                self.walk(peer, entries, |entry| address(entry, Ports::Numbers))
            }
            Form::Forwarded => self.walk(peer, values.rev().flat_map(Elements), forwarded_for),
            Form::Single => single(values).unwrap_or(peer),
        }
    }

    fn walk<'a>(
        &self,
        peer: IpAddr,
        entries: impl Iterator<Item = &'a [u8]>,
        read: impl Fn(&[u8]) -> Option<IpAddr>,
    ) -> IpAddr {
        let mut client = peer;
        for entry in entries.take(STEPS_MAX) {
            let entry = entry.trim_ascii();
            // Empty elements of a list do not count (RFC 9110 section 5.6.1.2).
            if entry.is_empty() {
                continue;
            }
            let Some(address) = read(entry) else { break };
            client = address;
            if !self.is_trusted(client) {
                break;
            }
        }
        client
    }

    /// The scheme the client used, from all values of X-Forwarded-Proto. `None`: `peer` is not trusted, or the field is
    /// absent or says something else; then the scheme of the connection counts.
    ///
    /// The last word is the one that the proxy next to us wrote.
    pub fn scheme<'a>(&self, peer: IpAddr, values: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<Scheme> {
        if !self.is_trusted(peer) {
            return None;
        }
        let last = values.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')).take(STEPS_MAX);
        let word = last.map(<[u8]>::trim_ascii).find(|word| !word.is_empty())?;
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| word.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
    }
}

/// Two lines, or a list, leave open which one the proxy wrote: then none counts.
fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    address(value.trim_ascii(), Ports::Numbers)
}

/// What may stand for a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// A number.
    Numbers,
    /// The same, or a name that hides it (RFC 7239 section 6.2).
    Obfuscated,
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; the port is checked and dropped.
fn address(text: &[u8], ports: Ports) -> Option<IpAddr> {
    if text.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        (IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?), port)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        (address, None)
    } else {
        let (address, port) = text.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), Some(port))
    };
    port.is_none_or(|port| is_port(port, ports)).then(|| address.to_canonical())
}

fn is_port(text: &str, ports: Ports) -> bool {
    if let Some(name) = text.strip_prefix('_') {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        return ports == Ports::Obfuscated && !name.is_empty() && name.bytes().all(plain);
    }
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The elements of a Forwarded value, the last one first. Commas in quoted strings do not count.
///
/// Going from the right matters: whatever a client puts in front, an open quote for example, the elements behind it stay
/// those that the proxies wrote.
struct Elements<'a>(&'a [u8]);

impl Elements<'_> {
    /// Where the last element begins.
    fn last_start(&self) -> usize {
        let text = self.0;
        let mut quoted = false;
        for at in (0..text.len()).rev() {
            match text[at] {
                b'"' if !(quoted && is_escaped(text, at)) => quoted = !quoted,
                b',' if !quoted => return at + 1,
                _ => {}
            }
        }
        0
    }
}

/// Whether an odd number of backslashes stands in front: seen from the right, this quote does not end the string.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.last_start();
        let element = &self.0[start..];
        self.0 = &self.0[..start.saturating_sub(1)];
        Some(element)
    }
}

/// The address in the `for` parameter of an element (RFC 7239 section 4). `None`: there is none or more than one, it is
/// hidden, or the element is malformed.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut rest = element;
    let mut found = None;
    while !rest.is_empty() {
        let (name, value, behind) = pair(rest)?;
        if name.eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
        rest = behind;
    }
    let value = found?;
    let Some(quoted) = value.strip_prefix(b"\"") else {
        // Brackets and colons are no token (RFC 9110 section 5.6.2), but `for=192.0.2.1:80` is seen in the field.
        return address(value, Ports::Obfuscated);
    };
    // No address needs an escape, so that a text with one is none.
    address(quoted.strip_suffix(b"\"")?, Ports::Obfuscated)
}

/// The first `name=value` of an element, and what follows its semicolon. A quoted value keeps its quotes.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = memchr::memchr(b'=', text)?;
    let (name, value) = (text[..equals].trim_ascii(), &text[equals + 1..]);
    let end = if value.first() == Some(&b'"') { quoted_end(value)? } else { 0 };
    let semicolon = memchr::memchr(b';', &value[end..]).map(|at| end + at);
    let (value, behind) = match semicolon {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    let value = value.trim_ascii_end();
    // Nothing may follow the closing quote.
    (end == 0 || value.len() == end).then_some((name, value, behind))
}

/// Length of the quoted string at the beginning, quotes included.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::networks::parse_network;

    fn trust(header: &str) -> Trust {
        let proxies = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"].map(|text| parse_network(text).unwrap());
        Trust::new(Networks::new(proxies), header)
    }

    fn client(header: &str, peer: &str, values: &[&str]) -> String {
        let values = values.iter().map(|value| value.as_bytes());
        trust(header).client(peer.parse().unwrap(), values).to_string()
    }

    #[track_caller]
    fn check(header: &str, values: &[&str], expect: &str) {
        assert_eq!(client(header, "10.0.0.1", values), expect, "{header}: {values:?}");
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_proxy_is_the_client() {
        let xff = |values: &[&str], expect: &str| check("X-Forwarded-For", values, expect);
        xff(&[], "10.0.0.1");
        xff(&[""], "10.0.0.1");
        xff(&["203.0.113.7"], "203.0.113.7");
        xff(&["1.1.1.1, 203.0.113.7"], "203.0.113.7");
        xff(&["1.1.1.1, 203.0.113.7, 10.0.0.2, 192.168.3.4"], "203.0.113.7");
        xff(&["1.1.1.1,203.0.113.7,10.0.0.2"], "203.0.113.7");
        // Several lines are one list (RFC 9110 section 5.3).
        xff(&["1.1.1.1", "203.0.113.7", "10.0.0.2"], "203.0.113.7");
        xff(&["203.0.113.7, 10.0.0.3", "10.0.0.2"], "203.0.113.7");
        // All are proxies: the one farthest away.
        xff(&["10.0.0.9, 10.0.0.2"], "10.0.0.9");
        // Empty elements, spaces and tabs (RFC 9110 section 5.6.1).
        xff(&[" , 203.0.113.7 ,\t,", " "], "203.0.113.7");
        // Ports, brackets, IPv6.
        xff(&["203.0.113.7:51234"], "203.0.113.7");
        xff(&["2001:db8::1"], "2001:db8::1");
        xff(&["[2001:db8::1]"], "2001:db8::1");
        xff(&["[2001:db8::1]:443, fd00::7"], "2001:db8::1");
        // An IPv4 address in IPv6 form is the IPv4 address, also of a proxy.
        xff(&["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7");
        xff(&["::ffff:203.0.113.7"], "203.0.113.7");
    }

    #[test]
    fn a_malformed_entry_ends_the_walk() {
        for bad in [
            "unknown",
            "_hidden",
            "203.0.113.7:",
            "203.0.113.7:65536",
            "203.0.113.7:8a",
            "203.0.113.7:+80",
            "203.0.113.7:_x",
            "203.0.113.07",
            "203.0.113",
            "203.0.113.7 203.0.113.8",
            "\"203.0.113.7\"",
            "[203.0.113.7]",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "2001:db8::1]:443",
            "fe80::1%eth0",
            "localhost",
            "203.0.113.7;",
            "203.0.113.7\0",
            "\u{e9}",
        ] {
            check("X-Forwarded-For", &[bad], "10.0.0.1");
            check("X-Forwarded-For", &[&format!("9.9.9.9, {bad}, 10.0.0.2")], "10.0.0.2");
            check("X-Forwarded-For", &[&format!("{bad}, 9.9.9.9")], "9.9.9.9");
        }
        check("X-Forwarded-For", &[&"1".repeat(1 << 20)], "10.0.0.1");
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP"] {
            assert_eq!(client(header, "203.0.113.1", &["9.9.9.9"]), "203.0.113.1");
        }
        assert_eq!(client("Forwarded", "11.0.0.1", &["for=9.9.9.9"]), "11.0.0.1");
        assert_eq!(client("X-Forwarded-For", "::ffff:10.0.0.1", &["9.9.9.9"]), "9.9.9.9");
        assert_eq!(client("X-Forwarded-For", "::ffff:11.0.0.1", &["9.9.9.9"]), "11.0.0.1");
    }

    #[test]
    fn a_long_list_ends_after_a_bounded_number_of_steps() {
        let list = |proxies: usize| format!("9.9.9.9{}", ", 10.0.0.2".repeat(proxies));
        check("X-Forwarded-For", &[&list(STEPS_MAX - 1)], "9.9.9.9");
        check("X-Forwarded-For", &[&list(STEPS_MAX)], "10.0.0.2");
        check("X-Forwarded-For", &[&format!("9.9.9.9{}", ",".repeat(100_000))], "10.0.0.1");
    }

    #[test]
    fn a_single_value_counts_when_it_is_one() {
        check("X-Real-IP", &["203.0.113.7"], "203.0.113.7");
        check("CF-Connecting-IP", &[" 2001:db8::1 "], "2001:db8::1");
        check("X-Real-IP", &["203.0.113.7:80"], "203.0.113.7");
        check("X-Real-IP", &["10.0.0.2"], "10.0.0.2");
        check("X-Real-IP", &["9.9.9.9, 203.0.113.7"], "10.0.0.1");
        check("X-Real-IP", &["9.9.9.9", "203.0.113.7"], "10.0.0.1");
        check("X-Real-IP", &[], "10.0.0.1");
    }

    #[test]
    fn forwarded_of_rfc_7239() {
        let fwd = |values: &[&str], expect: &str| check("Forwarded", values, expect);
        // The examples of section 4, with the addresses of our proxies where a proxy is meant.
        fwd(&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60");
        fwd(&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17");
        fwd(&["for=192.0.2.43, for=10.0.0.17"], "192.0.2.43");
        fwd(&["for=192.0.2.43", "for=10.0.0.17"], "192.0.2.43");
        fwd(&["for=\"_gazonk\""], "10.0.0.1");
        fwd(&["for=unknown, for=10.0.0.2"], "10.0.0.2");
        fwd(&["for=192.0.2.43,for=\"[fd00::17]\";by=x"], "192.0.2.43");
        fwd(&["proto=https;for=192.0.2.43"], "192.0.2.43");
        fwd(&["for=\"192.0.2.43:_port\";by=\"a,b;for=1.1.1.1\""], "192.0.2.43");
        fwd(&["for=192.0.2.43 ; proto=http , "], "192.0.2.43");
        fwd(&["for=\"192.0.2.43:80\""], "192.0.2.43");
        // A comma or an escaped quote inside of a string separates nothing.
        fwd(&["for=9.9.9.9, for=192.0.2.43;x=\"a,\\\"b,\""], "192.0.2.43");
        for bad in [
            "proto=http",
            "for",
            "for=",
            "for=\"\"",
            "for=\"192.0.2.43",
            "for=\"192.0.2.43\"x",
            "for=192.0.2.43;for=192.0.2.44",
            "for=192.0.2.43;x",
            "for=192.0.2.43;x=\"",
            "for=\"192.0.2.4\\3\"",
            "192.0.2.43",
        ] {
            fwd(&[bad], "10.0.0.1");
        }
    }

    #[test]
    fn what_a_client_puts_in_front_does_not_reach_behind_the_proxys_comma() {
        for evil in ["for=\"", "\"", "for=\"9.9.9.9", "a\\", "\\\"", "for=\"a\\", "x=\"y\\\\", "\"\"\"", ";;=,\"="] {
            check("Forwarded", &[&format!("{evil}, for=203.0.113.7")], "203.0.113.7");
            check("Forwarded", &[&format!("{evil}, for=\"[2001:db8::7]:80\";proto=http")], "2001:db8::7");
            check("Forwarded", &[&format!("{evil}, for=203.0.113.7, for=10.0.0.2")], "203.0.113.7");
        }
    }

    #[test]
    fn the_scheme_is_that_of_the_nearest_proxy() {
        let scheme = |peer: &str, values: &[&str]| {
            trust("X-Forwarded-For").scheme(peer.parse().unwrap(), values.iter().map(|value| value.as_bytes()))
        };
        assert_eq!(scheme("10.0.0.1", &["https"]), Some(Scheme::Https));
        assert_eq!(scheme("10.0.0.1", &["HTTP"]), Some(Scheme::Http));
        assert_eq!(scheme("10.0.0.1", &["http, https "]), Some(Scheme::Https));
        assert_eq!(scheme("10.0.0.1", &["https", "http"]), Some(Scheme::Http));
        for values in [&[][..], &[""], &["ws"], &["https, wss"], &["https\0"], &["httpss"]] {
            assert_eq!(scheme("10.0.0.1", values), None, "{values:?}");
        }
        assert_eq!(scheme("203.0.113.1", &["https"]), None);
    }

    #[test]
    fn a_proxy_header_is_taken_from_trusted_peers_if_any_are_named() {
        let takes = |trust: Option<&Trust>, peer: &str| Trust::takes_proxy_header(trust, peer.parse().unwrap());
        let trust = trust("X-Forwarded-For");
        assert!(takes(Some(&trust), "10.0.0.1") && takes(Some(&trust), "::ffff:10.0.0.1"));
        assert!(!takes(Some(&trust), "203.0.113.1") && takes(None, "203.0.113.1"));
    }

    #[test]
    fn the_header_is_known_by_name() {
        assert_eq!(trust("X-FORWARDED-FOR").field(), FieldName::XForwardedFor);
        assert_eq!(trust("Forwarded").field(), FieldName::Forwarded);
        assert_eq!((trust("X-Real-IP").header(), trust("X-Real-IP").field()), ("x-real-ip", FieldName::Other));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
            for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
                trust(header).client([10, 0, 0, 1].into(), values.iter().map(Vec::as_slice));
            }
            trust("forwarded").scheme([10, 0, 0, 1].into(), values.iter().map(Vec::as_slice));
        }

        #[test]
        fn no_text_of_the_kind_panics(text in "([fF]or=|[0-9.:,;=\\[\\]\" \\\\_]){0,40}") {
            for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
                trust(header).client([10, 0, 0, 1].into(), [text.as_bytes()].into_iter());
            }
        }

        /// Whatever stands in front of what the nearest proxy wrote, its word is the one that counts.
        #[test]
        fn nothing_in_front_changes_the_last_entry(evil in "(?s).{0,40}", last in any::<[u8; 4]>()) {
            let last = IpAddr::from(last);
            prop_assume!(!trust("forwarded").is_trusted(last));
            for (header, value) in [
                ("x-forwarded-for", format!("{evil}, {last}")),
                ("forwarded", format!("{evil}, for={last}")),
                ("forwarded", format!("{evil},for=\"{last}:80\";proto=https")),
            ] {
                prop_assert_eq!(trust(header).client([10, 0, 0, 1].into(), [value.as_bytes()].into_iter()), last);
            }
        }
    }
}
