//! What tells servers and clients of this hop by option: Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).

use super::request::{RequestContext, Scheme};
use crate::http::h1::{FieldName, RequestHead, Version};

/// Appends Forwarded: what the proxies before us wrote, as far as it is well-formed, and this hop behind it.
///
/// A value that is none is left out, with all before it: an open quote of a client would swallow what we append.
pub(super) fn put_forwarded(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], context: &RequestContext<'_>) {
    out.extend_from_slice(b"Forwarded: ");
    let start = out.len();
    for field in head.fields.iter().filter(|field| field.known == FieldName::Forwarded) {
        let value = field.value.of(bytes);
        if is_forwarded(value) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        } else {
            out.truncate(start);
        }
    }
    out.extend_from_slice(b"for=");
    if memchr::memchr(b':', context.client_ip).is_some() {
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(context.client_ip);
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(context.client_ip);
    }
    if !head.authority.is_empty() {
        // A port makes it no token.
        out.extend_from_slice(b";host=\"");
        put_quoted(out, head.authority.of(bytes));
        out.push(b'"');
    }
    out.extend_from_slice(match context.scheme {
        Scheme::Http => b";proto=http\r\n".as_slice(),
        Scheme::Https => b";proto=https\r\n",
    });
}

/// The inside of a quoted string, RFC 9110 section 5.6.4.
fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// Appends the Via of a message that came by HTTP of `version`.
pub fn put_via(out: &mut Vec<u8>, version: Version, name: &str) {
    out.extend_from_slice(b"Via: ");
    // The name of the protocol may be left out when it is HTTP.
    out.extend_from_slice(match version {
        Version::Http10 => b"1.0 ".as_slice(),
        Version::Http11 => b"1.1 ",
        Version::Http2 => b"2 ",
        Version::Http3 => b"3 ",
    });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 7239 section 4: elements with commas between, of pairs `name=value` with semicolons between, any of which may be
/// missing. Values are tokens, quoted strings, or what stands in the field unquoted (`192.0.2.1:80`, `[2001:db8::1]`).
fn is_forwarded(value: &[u8]) -> bool {
    let mut rest = value;
    loop {
        rest = rest.trim_ascii_start();
        let name = rest.iter().take_while(|byte| is_token(**byte)).count();
        if name > 0 {
            let Some(value) = rest[name..].strip_prefix(b"=") else { return false };
            let Some(behind) = after_value(value) else { return false };
            rest = behind.trim_ascii_start();
        }
        match rest {
            [] => return true,
            [b',' | b';', behind @ ..] => rest = behind,
            _ => return false,
        }
    }
}

fn after_value(text: &[u8]) -> Option<&[u8]> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let length = text.iter().take_while(|byte| is_token(**byte) || b":[]".contains(byte)).count();
        return (length > 0).then(|| &text[length..]);
    };
    let mut at = 0;
    loop {
        match quoted.get(at)? {
            b'"' => return Some(&quoted[at + 1..]),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_formed() {
        let good = [
            "for=192.0.2.1",
            "For=\"[2001:db8::1]:47011\"; proto=https;by=_hidden , for=unknown",
            "for=192.0.2.1:80",
            "for=[2001:db8::1]",
            "for=\"a\\\"b,c;d\"",
            "",
            ",",
            "for=a;;proto=http",
        ];
        let bad =
            ["for=\"", "for", "for=", "for=a b", "for=\"a\\\"", "=a", "for=a\"b\"", "for = a", "\"for\"=a", "for=\\"];
        assert!(
            good.iter().all(|text| is_forwarded(text.as_bytes())),
            "{:?}",
            good.map(|t| is_forwarded(t.as_bytes()))
        );
        assert!(!bad.iter().any(|text| is_forwarded(text.as_bytes())), "{:?}", bad.map(|t| is_forwarded(t.as_bytes())));
    }
}
