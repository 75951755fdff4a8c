//! From clear text to https: where to, and for which requests not.

use crate::http::h1::{host_of, write_decimal};

/// Requests for these paths are answered in clear text (RFC 8555 section 8.3: a certificate is fetched over port 80).
pub const EXEMPT: &[u8] = b"/.well-known/acme-challenge/";

/// Whether a request for `path`, decoded, is answered in clear text all the same.
pub fn is_exempt(path: &[u8]) -> bool {
    path.starts_with(EXEMPT)
}

/// Appends the value of Location: the same target over https.
///
/// `authority` is the request's host with or without its port, `target` path and query as sent.
pub fn put_location(authority: &[u8], port: u16, target: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"https://");
    out.extend_from_slice(host_of(authority));
    if port != 443 {
        out.push(b':');
        write_decimal(out, port.into());
    }
    if target.first() != Some(&b'/') {
        out.push(b'/');
    }
    let from = out.len();
    out.extend_from_slice(target);
    // What parsed as a request head has none of these; a second line is never written all the same.
    out[from..].iter_mut().filter(|b| b.is_ascii_control() || **b == b' ').for_each(|b| *b = b'_');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_target_over_https() {
        let check = |authority: &str, port, target: &str, expect: &str| {
            let mut out = Vec::new();
            put_location(authority.as_bytes(), port, target.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        };
        check("example.org", 443, "/a%20b?c=//d", "https://example.org/a%20b?c=//d");
        check("example.org:8080", 8443, "/", "https://example.org:8443/");
        check("[::1]:80", 443, "/", "https://[::1]/");
        check("example.org", 443, "*", "https://example.org/*");
        check("example.org", 443, "//evil.test", "https://example.org//evil.test");
        check("example.org", 443, "/a\r\nb", "https://example.org/a__b");
        check("example.org", 443, "@evil.test", "https://example.org/@evil.test");
    }

    #[test]
    fn certificates_can_be_fetched() {
        assert!(is_exempt(b"/.well-known/acme-challenge/token"));
        assert!(!is_exempt(b"/.well-known/acme-challenge") && !is_exempt(b"/"));
    }
}
