//! Properties that hold for any bytes of a server and any words of a client. Targets of `fuzz/` call them with coverage
//! feedback; the tests below run them on every `cargo test`. Each panics when a property does not hold. The readers in here
//! are slow and plain on purpose: they are the second opinion.

use super::*;
use crate::http::h1::{Limits, Method, ResponseHead, parse_response};

const LIMITS: Limits = Limits { head_bytes_max: 2048, target_bytes_max: 256, headers_max: 24 };

/// Records of FastCGI: the same answer however it is cut, and as a reader of whole records finds it. The first two bytes of
/// the input choose the cuts.
pub fn fastcgi_answer(input: &[u8]) {
    let [step, start, input @ ..] = input else { return };
    let whole = read(input, &[]);
    let cuts: Vec<usize> =
        (usize::from(*start).min(input.len())..input.len()).step_by(usize::from(*step % 16) + 1).collect();
    assert_eq!(read(input, &cuts), whole);
    if let Ok(answer) = &whole {
        assert_eq!(plain_answer(input).as_ref(), Some(answer));
    }
}

/// A head of a program: if it is taken, then as one head of HTTP with nothing behind it, from which no field has got lost but
/// those of the connection.
pub fn cgi_head(input: &[u8]) {
    let found = head_end(input, 0, LIMITS.head_bytes_max);
    for cut in 0..input.len().min(200) {
        let first = head_end(&input[..cut], 0, LIMITS.head_bytes_max);
        let second = if first == Ok(None) { head_end(input, cut, LIMITS.head_bytes_max) } else { first };
        assert_eq!(second, found);
    }
    let Ok(Some(end)) = found else { return };
    for redirects in [Redirects::Inside, Redirects::ByClient] {
        let mut out = Vec::new();
        if write_head(&input[..end], redirects, &mut out).is_err() {
            continue;
        }
        assert_eq!(memchr::memmem::find(&out, b"\r\n\r\n"), Some(out.len() - 4), "one head");
        assert!(!out.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r'), "no line of its own");
        let mut head = ResponseHead::default();
        if parse_response(&out, &LIMITS, Method::Get, &mut head) == Ok(Some(())) {
            assert_eq!(head.head_bytes, out.len());
            assert!((200..1000).contains(&head.status));
        }
    }
}

/// The variables of a request are the same in all three protocols, whatever its head says; no field passes for another
/// variable, and none has a name that programs read as something else.
pub fn gateway_request(input: &[u8]) {
    let meta = Meta { method: b"GET", content_bytes: Some(3), ..Meta::default() };
    let [fastcgi, uwsgi, scgi] = [Form::FastCgi, Form::Uwsgi, Form::Scgi].map(|form| {
        let mut vars = Vars::new(form, Vec::new(), 3);
        put_meta(&mut vars, &meta, |_| false);
        put_fields(&mut vars, input, |_| false);
        let mut out = Vec::new();
        let (result, _) = vars.finish(Opening::Kept, &mut out);
        result.is_ok().then(|| {
            let (mut pairs, rest) = decoded(form, &out).expect("what we write can be read");
            assert!(rest.is_empty());
            pairs.sort();
            pairs
        })
    });
    let fastcgi = fastcgi.expect("it fits");
    for (name, _) in &fastcgi {
        assert!(name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_'));
        assert!(*name != b"HTTP_PROXY" && *name != b"HTTP_CONTENT_LENGTH");
    }
    assert!(fastcgi.windows(2).all(|pair| pair[0].0 != pair[1].0), "each is there once");
    if let Some(uwsgi) = uwsgi {
        assert_eq!(uwsgi, fastcgi);
    }
    if let Some(mut scgi) = scgi {
        scgi.retain(|(name, _)| name != b"SCGI");
        assert_eq!(scgi, fastcgi);
    } else {
        assert!(input.contains(&0));
    }
}

/// What an answer says: its content, what the program complains of, and how and where it ends.
type Read = (Vec<u8>, Vec<u8>, Option<(End, usize)>);

/// Content, complaints and the end of `input`, which comes in the pieces between `cuts`.
pub(super) fn read(input: &[u8], cuts: &[usize]) -> Result<Read, RecordError> {
    let mut decoder = Decoder::default();
    let (mut out, mut complaints, mut end) = (Vec::new(), Vec::new(), None);
    let mut begin = 0;
    for &cut in cuts.iter().chain([&input.len()]) {
        let mut at = begin;
        loop {
            let decoded = decoder.decode(&input[at..cut])?;
            match decoded.event {
                None => {
                    assert_eq!(at + decoded.consumed, cut, "all is used");
                    break;
                }
                Some(Event::Stdout(range)) => out.extend_from_slice(&input[at + range.start..at + range.end]),
                Some(Event::Stderr(range)) => {
                    complaints.extend_from_slice(&input[at + range.start..at + range.end]);
                }
                Some(Event::End(told)) => {
                    end = Some((told, at + decoded.consumed));
                    assert!(decoder.is_done());
                }
            }
            at += decoded.consumed;
            if decoder.is_done() && at == cut {
                break;
            }
        }
        begin = cut;
    }
    Ok((out, complaints, end))
}

/// The same of whole records; `None`: it is no answer.
fn plain_answer(input: &[u8]) -> Option<Read> {
    let (mut out, mut complaints, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some([_, kind, _, _, length, length_low, padding, _]) = input.get(at..at + 8) {
        let content_bytes = usize::from(u16::from_be_bytes([*length, *length_low]));
        let content = &input[at + 8..(at + 8 + content_bytes).min(input.len())];
        at += 8 + content_bytes + usize::from(*padding);
        match kind {
            6 => out.extend_from_slice(content),
            7 => complaints.extend_from_slice(content),
            3 if at <= input.len() => {
                let application = u32::from_be_bytes(*content.first_chunk()?);
                let protocol = match content[4] {
                    0 => ProtocolStatus::Complete,
                    1 => ProtocolStatus::CantMultiplex,
                    2 => ProtocolStatus::Overloaded,
                    3 => ProtocolStatus::UnknownRole,
                    other => ProtocolStatus::Other(other),
                };
                return (at == input.len()).then_some((out, complaints, Some((End { application, protocol }, at))));
            }
            _ => {}
        }
        if at > input.len() {
            break;
        }
    }
    Some((out, complaints, None))
}

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The pairs of a request, read by the letter of each specification, and what is behind them.
pub(crate) fn decoded(form: Form, bytes: &[u8]) -> Option<(Pairs, Vec<u8>)> {
    let mut pairs = Vec::new();
    match form {
        Form::FastCgi => {
            let (mut at, mut params) = (0, Vec::new());
            while at < bytes.len() {
                let head = bytes.get(at..at + 8)?;
                let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
                at += 8;
                match head[1] {
                    1 => {}
                    4 if length == 0 => {
                        at += usize::from(head[6]);
                        break;
                    }
                    4 => params.extend_from_slice(bytes.get(at..at + length)?),
                    _ => return None,
                }
                at += length + usize::from(head[6]);
            }
            let mut rest = &params[..];
            while !rest.is_empty() {
                let mut lengths = [0; 2];
                for length in &mut lengths {
                    let (value, count) = match rest {
                        [short @ 0..=127, ..] => (usize::from(*short), 1),
                        [a, b, c, d, ..] => (u32::from_be_bytes([a & 127, *b, *c, *d]) as usize, 4),
                        _ => return None,
                    };
                    *length = value;
                    rest = &rest[count..];
                }
                let (name, behind) = rest.split_at_checked(lengths[0])?;
                let (value, behind) = behind.split_at_checked(lengths[1])?;
                pairs.push((name.to_vec(), value.to_vec()));
                rest = behind;
            }
            Some((pairs, bytes[at..].to_vec()))
        }
        Form::Uwsgi => {
            let [0, low, high, 0, rest @ ..] = bytes else { return None };
            let (mut rest, behind) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
            let mut texts = Vec::new();
            while let [low, high, text @ ..] = rest {
                let (text, more) = text.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
                texts.push(text.to_vec());
                rest = more;
            }
            pairs.extend(texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            rest.is_empty().then(|| (pairs, behind.to_vec()))
        }
        Form::Scgi => {
            let colon = bytes.iter().position(|byte| *byte == b':')?;
            let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
            let (text, behind) = bytes[colon + 1..].split_at_checked(length)?;
            let texts: Vec<&[u8]> = text.strip_suffix(b"\0")?.split(|byte| *byte == 0).collect();
            pairs.extend(texts.chunks(2).map(|pair| (pair[0].to_vec(), pair[1].to_vec())));
            Some((pairs, behind.strip_prefix(b",")?.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn fastcgi_answers() {
        let pieces = [
            "\x01\x06\0\x01\0\x04\x02\0abcd##",
            "\x01\x07\0\x01\0\x02\0\0ab",
            "\x01\x03\0\x01\0\x08\0\0\0\0\0\x01\0\0\0\0",
            "\x01\x06\0\x01\0\0\0\0",
            "\x01\x0b\0\0\0\x01\0\0x",
            "\x01",
            "\0",
        ];
        fuzz("fastcgi_answer", fastcgi_answer, &pieces);
    }

    #[test]
    fn cgi_heads() {
        let pieces = [
            "Status: 404 Not Found\r\n",
            "Location: /x\n",
            "Content-Length: 5\r\n",
            "A: b",
            "\n",
            "\r\n",
            "\r",
            ":",
            " ",
            "Transfer-Encoding: chunked\n",
        ];
        fuzz("cgi_head", cgi_head, &pieces);
    }

    #[test]
    fn gateway_requests() {
        let pieces = [
            "GET / HTTP/1.1\r\n",
            "Proxy: x\r\n",
            "X_Y: a\r\n",
            "X-Y: b\r\n",
            "Cookie: a=b\r\n",
            "cookie: c\r\n",
            ":",
            "\0",
            "Content-Length: 5\r\n",
            "Content-Type: a\r\n",
            "\r\n",
        ];
        fuzz("gateway_request", gateway_request, &pieces);
    }
}
