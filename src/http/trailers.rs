//! Trailers: fields behind the content of a message (RFC 9110 section 6.5). Pure.
//!
//! They stay what they are from one end to the other, whatever version of HTTP lies between: never merged into the header, which
//! by then has been acted upon (section 6.5.1). [`is_allowed`] is the one list of those that go on; all others are dropped,
//! on every way. Where a version has no place for them (behind content with a length, to a client of HTTP/1.0 or one that
//! did not ask for them) they are dropped as a whole, which section 6.5.1 allows.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::h1::{FieldName, RequestHead, list_elements};

/// Fields that must not come as trailers, in lower case; [`is_allowed`] knows some families beside them.
///
/// RFC 9110 section 6.5.1: those that frame the message, route it, authenticate it, change what the request asks for, control the
/// response, or say how the content is to be read. Who merges trailers nevertheless, as some servers do, must not
/// be told anything by them that our rules for the header would not have let through.
const FORBIDDEN: [&str; 58] = [
    // Framing, and the fields of one hop: RFC 9112 sections 6 and 7, RFC 9110 sections 6.6.2, 7.6.1 and 7.8.
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    // Routing, and what hops before us have said: RFC 9110 sections 7.2 and 7.6, RFC 7239.
    "early-data",
    "forwarded",
    "host",
    "max-forwards",
    "via",
    "x-real-ip",
    "x-request-id",
    // Authentication and state: RFC 9110 section 11, RFC 6265.
    "authentication-info",
    "authorization",
    "cookie",
    "cookie2",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    // Request modifiers: RFC 9110 sections 10.1.1, 12.5, 13.1 and 14.2, RFC 9111 section 5.4, RFC 6454, CGI's httpoxy.
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "proxy",
    "range",
    "referer",
    "user-agent",
    "x-http-method-override",
    // Control of the response: RFC 9110 sections 6.6.1, 10.2, 12.5.5 and 14.3, RFC 9111 section 5, RFC 7838, RFC 6797.
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "date",
    "expires",
    "last-modified",
    "location",
    "refresh",
    "retry-after",
    "server",
    "strict-transport-security",
    "vary",
    "warning",
];

/// Families of the same kinds. Those of `content-` say how content is to be read, but for the digest of RFC 9530, which is
/// made for trailers.
const FORBIDDEN_FAMILIES: [&str; 5] = ["access-control-", "content-", "x-accel-", "x-forwarded-", "x-ssl-client-"];

/// What tells of the bytes of the content, and is wrong once we have coded or changed those: RFC 9530, RFC 9110 section 8.8.3.
const OF_CONTENT: [&str; 4] = ["content-digest", "digest", "etag", "repr-digest"];

/// A field of this name (in lower case) may go on as a trailer.
pub fn is_allowed(name: &str) -> bool {
    // An underscore looks like a dash to applications that read fields as CGI names them.
    let dashed = || name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    let is = |known: &&str| name.len() == known.len() && dashed().eq(known.bytes());
    let is_of = |family: &&str| name.len() > family.len() && dashed().take(family.len()).eq(family.bytes());
    name == "content-digest" || !(FORBIDDEN.iter().any(is) || FORBIDDEN_FAMILIES.iter().any(is_of))
}

/// The client of this request reads trailers (RFC 9110 sections 6.5.1 and 10.1.4).
pub fn are_wanted(head: &RequestHead, bytes: &[u8]) -> bool {
    let mut fields = head.fields.iter().filter(|field| field.known == FieldName::Te);
    fields.any(|field| list_elements(field.value.of(bytes)).any(|coding| coding.eq_ignore_ascii_case(b"trailers")))
}

/// Those of `trailers` that go on; `None`: there is none.
pub fn sift(mut trailers: HeaderMap) -> Option<HeaderMap> {
    if trailers.keys().any(|name| !is_allowed(name.as_str())) {
        let kept = trailers.iter().filter(|(name, _)| is_allowed(name.as_str()));
        trailers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// Those of `trailers` that hold for content whose bytes we have changed.
pub fn of_changed_content(mut trailers: HeaderMap) -> HeaderMap {
    OF_CONTENT.iter().for_each(|name| drop(trailers.remove(*name)));
    trailers
}

/// The trailers in `lines`, as [`BodyDecoder::trailers`](super::h1::BodyDecoder::trailers) has checked and kept them, that go on.
/// `None`: there is none.
pub fn read(mut lines: &[u8]) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    while let Some(end) = memchr::memmem::find(lines, b"\r\n") {
        let line = &lines[..end];
        lines = &lines[end + 2..];
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let Ok(name) = HeaderName::from_bytes(&line[..colon]) else { continue };
        let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()) else { continue };
        if is_allowed(name.as_str()) {
            // More fields than the type takes cannot come out of a trailer section within the limits.
            let _ = trailers.try_append(name, value);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// Appends the end of a chunked body with `trailers` (RFC 9112 sections 7.1 and 7.1.2).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        super::h1::write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::{BodyDecoder, BodyKind, Limits};
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn the_lists_are_in_lower_case_and_name_each_once() {
        let all = FORBIDDEN.iter().chain(&FORBIDDEN_FAMILIES).chain(&OF_CONTENT);
        assert!(all.clone().all(|name| !name.contains(|letter: char| letter.is_ascii_uppercase() || letter == '_')));
        let mut once: Vec<_> = all.collect();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), FORBIDDEN.len() + FORBIDDEN_FAMILIES.len() + OF_CONTENT.len());
        assert!(OF_CONTENT.iter().all(|name| is_allowed(name)));
    }

    // RFC 9110 section 6.5.1
    #[test]
    fn what_goes_on_and_what_does_not() {
        let allowed = [
            "grpc-status",
            "grpc-message",
            "x-sum",
            "server-timing",  // W3C Server-Timing section 3
            "etag",           // RFC 9110 section 8.8.3
            "content-digest", // RFC 9530 section 2
            "repr-digest",
            "contents",
            "x-forwarded",
            "hosts",
        ];
        assert_eq!(allowed.iter().filter(|name| !is_allowed(name)).count(), 0);
        let forbidden = [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "set-cookie",
            "trailer",
            "te",
            "content-type",
            "content-encoding",
            "content-range",
            "cache-control",
            "if-none-match",
            "x-forwarded-for",
            "x-ssl-client-verify",
            "transfer_encoding",
            "x_forwarded_for",
            "content_length",
            "content_digest",
            "connection",
            "access-control-allow-origin",
        ];
        assert_eq!(forbidden.iter().filter(|name| is_allowed(name)).count(), 0);
    }

    #[test]
    fn lines_become_fields_and_fields_lines() {
        let lines =
            b"X-Sum: 1\r\nHost: evil\r\nX-Sum:  2\t\r\nContent-Length: 5\r\nEmpty:\r\nx-\xe9: no\r\nX-High: \xe9\r\n";
        let trailers = read(lines).unwrap();
        assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (trailers.len(), trailers["empty"].as_bytes(), trailers["x-high"].as_bytes()),
            (4, &b""[..], &b"\xe9"[..])
        );
        let mut out = b">".to_vec();
        write_last_chunk(&mut out, &map(&[("x-sum", "1"), ("x-t", "a b")]));
        assert_eq!(out, b">0\r\nx-sum: 1\r\nx-t: a b\r\n\r\n");
        assert_eq!((read(b""), read(b"Host: a\r\nTE: trailers\r\n")), (None, None));
    }

    #[test]
    fn fields_of_other_versions_are_sifted_too() {
        assert_eq!(sift(map(&[("set-cookie", "a=1"), ("x-sum", "1")])), Some(map(&[("x-sum", "1")])));
        assert_eq!((sift(map(&[("host", "a")])), sift(HeaderMap::new())), (None, None));
        let all = map(&[("etag", "\"a\""), ("content-digest", "x"), ("grpc-status", "0")]);
        assert_eq!(sift(all.clone()), Some(all.clone()));
        assert_eq!(of_changed_content(all), map(&[("grpc-status", "0")]));
    }

    proptest! {
        /// What is written is read again, by the decoder of bodies too, and frames nothing.
        #[test]
        fn any_lines_that_pass_the_decoder_stay_trailers(
            lines in prop::collection::vec("[A-Za-z_-]{1,12}:[ -~\\t\u{80}-\u{ff}]{0,12}\r\n", 0..8),
            next in "[ -~\r\n]{0,20}",
        ) {
            let lines: Vec<u8> = lines.concat().chars().map(|letter| letter as u8).collect();
            let trailers = read(&lines).unwrap_or_default();
            let mut wire = Vec::new();
            write_last_chunk(&mut wire, &trailers);
            let end = wire.len();
            wire.extend_from_slice(next.as_bytes());
            let mut decoder = BodyDecoder::new(BodyKind::Chunked).keep_trailers(&Limits::default());
            let decoded = decoder.decode(&wire).unwrap();
            prop_assert_eq!((decoded.consumed, decoded.done, decoded.data.len()), (end, true, 0));
            prop_assert_eq!(read(decoder.trailers()).unwrap_or_default(), trailers);
        }
    }
}
