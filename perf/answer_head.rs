//! The head of an answer of HTTP/1.1, as far as the load programs look at it.

/// Its bytes, at most.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where the head of a 200 ends, its empty line included; `None`: it is not there yet.
///
/// Errors: it is another answer, or none of HTTP.
pub(crate) fn head_bytes(answer: &[u8]) -> Result<Option<usize>, String> {
    let show = || String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return match answer.len() < HEAD_BYTES_MAX {
            true => Ok(None),
            false => Err(format!("no end of the head in {:?}", show())),
        };
    };
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(Some(head + 4)),
        false => Err(format!("not a 200: {:?}", show())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_those_of_a_200() {
        assert_eq!(head_bytes(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n123"), Ok(Some(25)));
        assert_eq!((head_bytes(b""), head_bytes(b"HTTP/1.1 200 OK\r\n")), (Ok(None), Ok(None)));
        assert!(head_bytes(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err().contains("not a 200"));
        assert!(head_bytes(&[b'x'; HEAD_BYTES_MAX]).unwrap_err().contains("no end"));
    }
}
