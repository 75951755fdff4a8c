//! Host and port as they appear in Host and in the target of a request (RFC 9110 section 7.2, RFC 3986 section 3.2).

use std::net::Ipv6Addr;

/// Host and port of an authority without userinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    host: &'a [u8],
    /// `None`: no port, or only its colon.
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Takes `text` apart. `None`: no host, userinfo, an address in brackets that is none, a byte that no name has, or
    /// a port above 65535. An address in brackets is IPv6 without zone; IPvFuture has no users.
    pub(super) fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let host_bytes = match text.first()? {
            b'[' => memchr::memchr(b']', text)? + 1,
            _ => memchr::memchr(b':', text).unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_bytes);
        let valid = if host.starts_with(b"[") { is_ipv6(&host[1..host.len() - 1]) } else { is_name(host) };
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        valid.then_some(Authority { host, port })
    }

    /// The port as said.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same place, where no port means `port_default`. Names compare in any case of letters.
    pub(super) fn same_as(&self, other: &Authority<'_>, port_default: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(port_default) == other.port.unwrap_or(port_default)
    }

    /// The same host, whatever the ports.
    pub(super) fn same_host(&self, other: &Authority<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
    }
}

/// `text` is a host and an optional port, without userinfo (RFC 9110 section 7.2).
pub fn is_authority(text: &[u8]) -> bool {
    Authority::parse(text).is_some()
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// reg-name of RFC 3986 section 3.2.2, not empty (RFC 9110 section 4.2.1). An IPv4 address is one, too.
fn is_name(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && (text.iter().all(plain) || is_unusual_name(text))
}

#[cold]
fn is_unusual_name(text: &[u8]) -> bool {
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = match (first, behind) {
            (b'%', [high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => behind,
            (byte, _) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => behind,
            _ => return false,
        };
    }
    true
}

fn port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |port, &digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, Option<u16>)>) {
        let expect = expect.map(|(host, port)| Authority { host: host.as_bytes(), port });
        assert_eq!(Authority::parse(text.as_bytes()), expect, "{text}");
    }

    #[test]
    fn takes_host_and_port_apart() {
        check("a", Some(("a", None)));
        check("Example.COM.", Some(("Example.COM.", None)));
        check("a:", Some(("a", None)));
        check("a:0", Some(("a", Some(0))));
        check("a:00080", Some(("a", Some(80))));
        check("a_b.example:65535", Some(("a_b.example", Some(65535))));
        check("127.0.0.1:8080", Some(("127.0.0.1", Some(8080))));
        check("[::1]", Some(("[::1]", None)));
        check("[2001:db8::7]:443", Some(("[2001:db8::7]", Some(443))));
        check("a%2Db", Some(("a%2Db", None)));
        check("!$&'()*+,;=~", Some(("!$&'()*+,;=~", None)));
    }

    #[test]
    fn refuses_what_is_no_authority() {
        let wrong = [
            "",
            ":",
            ":80",
            "a:65536",
            "a:99999999999",
            "a:8o",
            "a:-1",
            "a:+1",
            "a:80:80",
            "u@a",
            "u:p@a",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%",
            "a%2",
            "a%gg",
            "a\u{e9}",
            "a\0",
            "a\t",
            "a<",
            "a>",
            "\"a\"",
            "{a}",
            "a|b",
            "a^b",
            "a`b",
            "[",
            "[]",
            "]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[::1%25eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "[a]",
            "a[b]",
            "a]",
        ];
        for text in wrong {
            check(text, None);
        }
    }

    #[test]
    fn a_default_port_makes_no_difference() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| Authority::parse(text.as_bytes()).unwrap());
            assert_eq!(one.same_as(&other, 80), other.same_as(&one, 80));
            one.same_as(&other, 80)
        };
        assert!(same("a", "A:80") && same("a:", "a") && same("[::1]", "[::1]:80") && same("a:81", "a:081"));
        assert!(!same("a", "a:81") && !same("a", "b") && !same("a:80", "a:443") && !same("a", "a."));
    }
}
