//! What we send: start line, fields, chunk framing. Appends to the caller's buffer and allocates nothing once that has
//! grown.

/// Behind the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// End of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Chunk size line before `bytes` bytes of data. Never called with 0: that would end the body ([`LAST_CHUNK`]).
pub fn write_chunk_head(out: &mut Vec<u8>, bytes: usize) {
    debug_assert!(bytes > 0, "an empty chunk ends the body");
    let mut text = [0; 2 * size_of::<usize>() + 2];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"\r\n");
    let mut rest = bytes;
    loop {
        at -= 1;
        text[at] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// `HTTP/1.1`, `status` and its registered reason; an unknown status has an empty one.
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status), "a status has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, status.into());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

/// One field line. CR, LF and NUL in `value` would be another line to somebody (response splitting, RFC 9112
/// section 11.1): a space is written in their place.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(!name.is_empty() && name.bytes().all(super::fields::is_token_byte), "field name {name:?}");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_at = out.len();
    out.extend_from_slice(value);
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        debug_assert!(false, "line end or nul in the value of {name}");
        blank_line_ends(&mut out[value_at..]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cold]
fn blank_line_ends(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        *byte = b' ';
    }
}

/// `number` in decimal.
pub fn write_decimal(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    let mut rest = number;
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
