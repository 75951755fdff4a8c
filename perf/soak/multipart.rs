//! `multipart/byteranges`, RFC 9110 section 14.6 and RFC 2046 section 5.1.1.

/// One part: the range its Content-Range names, first and last byte, and its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) length: u64,
    pub(crate) body: &'a [u8],
}

/// The parts of a body. Errors: not well-formed, in words.
pub(crate) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, String> {
    let boundary = content_type
        .strip_prefix("multipart/byteranges;")
        .and_then(|rest| rest.trim().strip_prefix("boundary="))
        .ok_or_else(|| format!("not multipart/byteranges: {content_type}"))?
        .trim_matches('"');
    let delimiter = format!("--{boundary}");
    let mut rest = body.strip_prefix(b"\r\n").unwrap_or(body);
    rest = rest.strip_prefix(delimiter.as_bytes()).ok_or("does not begin with the boundary")?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return match end {
                b"" | b"\r\n" => Ok(parts),
                _ => Err(format!("{} bytes behind the last boundary", end.len())),
            };
        }
        rest = rest.strip_prefix(b"\r\n").ok_or("no line end behind a boundary")?;
        let head_end = memchr::memmem::find(rest, b"\r\n\r\n").ok_or("no end of a part's head")?;
        let (first, last, length) = content_range(&rest[..head_end])?;
        let body = &rest[head_end + 4..];
        let bytes = (last - first + 1) as usize;
        let (body, after) = body.split_at_checked(bytes).ok_or("a part ends early")?;
        parts.push(Part { first, last, length, body });
        rest = after
            .strip_prefix(b"\r\n")
            .and_then(|after| after.strip_prefix(delimiter.as_bytes()))
            .ok_or("no boundary where a part should end")?;
    }
}

fn content_range(head: &[u8]) -> Result<(u64, u64, u64), String> {
    let head = std::str::from_utf8(head).map_err(|_| "a part's head is not text")?;
    let value = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-range"))
        .map(|(_, value)| value.trim())
        .ok_or_else(|| format!("no Content-Range in {head:?}"))?;
    parse_content_range(value).ok_or_else(|| format!("Content-Range: {value}"))
}

/// `bytes first-last/length`
pub(crate) fn parse_content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length) = (first.parse().ok()?, last.parse().ok()?, length.parse().ok()?);
    (first <= last && last < length).then_some((first, last, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"--x\r\nContent-Type: a/b\r\nContent-Range: bytes 0-2/9\r\n\r\nabc\r\n--x\r\ncontent-range: bytes \
                          5-5/9\r\n\r\nf\r\n--x--\r\n";

    #[test]
    fn parts_are_those_that_were_sent() {
        let parts = parse("multipart/byteranges; boundary=x", BODY).unwrap();
        let expect =
            [Part { first: 0, last: 2, length: 9, body: b"abc" }, Part { first: 5, last: 5, length: 9, body: b"f" }];
        assert_eq!(parts, expect);
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_refused() {
        // Without the line end behind the last boundary it is complete.
        for end in 0..BODY.len() - 2 {
            assert!(parse("multipart/byteranges; boundary=x", &BODY[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn ranges_that_contradict_themselves_are_refused() {
        for value in ["bytes 3-2/9", "bytes 0-9/9", "bytes 0-1/*", "0-1/9", "bytes -1/9"] {
            assert_eq!(parse_content_range(value), None, "{value}");
        }
        assert!(parse("text/plain", BODY).is_err());
    }
}
