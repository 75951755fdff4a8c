//! Finds fields, cookies and arguments by the names that formats use: lower case, `_` for `-`. Pure, no allocation.

use crate::http::h1::RequestHead;

/// Values of the request's fields of this name, in the order sent.
pub(super) fn request_fields<'a>(
    head: Option<(&'a RequestHead, &'a [u8])>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    head.into_iter().flat_map(move |(head, bytes)| {
        let is_wanted = move |field: &&crate::http::h1::Field| is_named(field.name.of(bytes), name);
        head.fields.iter().filter(is_wanted).map(|field| field.value.of(bytes))
    })
}

/// Values of the fields of this name in `block`, lines `Name: value` that end in CR LF.
pub(super) fn block_fields<'a>(block: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    block.split(|byte| *byte == b'\n').filter_map(move |line| {
        let colon = memchr::memchr(b':', line)?;
        is_named(&line[..colon], name).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Value of a cookie (RFC 6265 section 4.2.1); its name is compared as nginx does, without case.
pub(super) fn cookie<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    fields.flat_map(|field| field.split(|byte| *byte == b';')).find_map(|pair| named_value(pair.trim_ascii(), name))
}

/// Value of an argument of the query, as sent; its name is compared without case.
pub(super) fn argument<'a>(query: Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    query?.split(|byte| *byte == b'&').find_map(|pair| named_value(pair, name))
}

/// The value of `name=value`.
fn named_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = memchr::memchr(b'=', pair)?;
    pair[..equals].eq_ignore_ascii_case(name.as_bytes()).then(|| &pair[equals + 1..])
}

/// Whether a format calls the field `name` so.
fn is_named(name: &[u8], wanted: &str) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    name.len() == wanted.len() && name.iter().map(plain).eq(wanted.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::{Limits, parse_request};

    #[test]
    fn finds_what_was_sent_and_nothing_else() {
        let bytes = b"GET /?a=1&B=&aa=2&c HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx_one: 2\r\nX-On: 3\r\n\
                      Cookie: a=1;b=x=y; c\r\nCookie: B=no; d=4\r\n\r\n";
        let mut head = RequestHead::default();
        let limits = Limits { head_bytes_max: 4096, target_bytes_max: 4096, headers_max: 100 };
        parse_request(bytes, &limits, &mut head).unwrap().unwrap();
        let fields = |name: &'static str| request_fields(Some((&head, bytes)), name).collect::<Vec<_>>();
        assert_eq!((fields("x_one"), fields("x_two")), (vec![&b"1"[..], b"2"], vec![]));
        assert_eq!(request_fields(None, "host").count(), 0);
        let cookie = |name| cookie(request_fields(Some((&head, bytes)), "cookie"), name);
        assert_eq!(
            (cookie("a"), cookie("b"), cookie("c"), cookie("d")),
            (Some(&b"1"[..]), Some(&b"x=y"[..]), None, Some(&b"4"[..]))
        );
        let query = head.query(bytes);
        let argument = |name| argument(query, name);
        assert_eq!(
            (argument("a"), argument("b"), argument("c"), argument("aa")),
            (Some(&b"1"[..]), Some(&b""[..]), None, Some(&b"2"[..]))
        );
    }

    #[test]
    fn a_block_is_searched_line_by_line() {
        let block = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie:a\r\nset-cookie: b:c \r\nbroken\r\n";
        let fields = |name: &'static str| block_fields(block, name).collect::<Vec<_>>();
        assert_eq!(fields("set_cookie"), [&b"a"[..], b"b:c"]);
        assert_eq!((fields("content_type"), fields("broken").len()), (vec![&b"text/plain"[..]], 0));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_searched(bytes: Vec<u8>, name in "[a-z_]{0,3}") {
            block_fields(&bytes, &name).count();
            argument(Some(&bytes), &name);
            cookie(std::iter::once(&bytes[..]), &name);
        }
    }
}
