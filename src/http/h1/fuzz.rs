//! Properties that hold for any input, whatever it says. Targets of `fuzz/` call them with coverage feedback; the tests
//! below run them on every `cargo test` with seeded random and mutated input.
//!
//! Each function panics when a property does not hold. The second opinions in here are slow and plain on purpose:
//! they work on whole, split lines, the codec on positions and states.

use super::*;
use crate::http::trailers;

/// Longest input whose beginnings are all tried; that takes time with the square of the length.
const EVERY_BEGINNING_MAX: usize = 1 << 10;
/// A body shorter than this reaches no limit of extensions or trailers but the number of fields.
const BODY_SURELY_FITS: usize = 8 << 10;
const LIMITS: Limits = Limits { head_bytes_max: 2048, target_bytes_max: 256, headers_max: 24 };
/// Of trailers.
const TRAILERS: Limits = Limits { head_bytes_max: BODY_SURELY_FITS, target_bytes_max: 0, headers_max: 64 };

/// A request head: accepted only if a plain reader of lines sees the same; no beginning of it is accepted; written anew
/// from its parts it says the same.
pub fn request_head(input: &[u8]) {
    let mut head = RequestHead::default();
    let found = parse_request(input, &LIMITS, &mut head);
    let parse_part = |end: usize| parse_request(&input[..end], &LIMITS, &mut RequestHead::default()).map_err(|_| ());
    check_beginnings(input, found.map_err(|_| ()), head.head_bytes, parse_part);
    if let Err(error) = found {
        assert!([400, 414, 417, 431, 501, 505].contains(&error.status()) && !error.to_string().is_empty());
    }
    if found == Ok(Some(())) {
        check_lines(input, head.head_bytes, &head.fields);
        check_request_line(input, &head);
        check_request_framing(input, &head);
        check_rewritten_request(input, &head);
    }
}

/// A response head; the first byte of the input chooses the method of its request.
pub fn response_head(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(choice % 4)];
    let mut head = ResponseHead::default();
    let found = parse_response(input, &LIMITS, method, &mut head);
    let parse_part =
        |end: usize| parse_response(&input[..end], &LIMITS, method, &mut ResponseHead::default()).map_err(|_| ());
    check_beginnings(input, found.map_err(|_| ()), head.head_bytes, parse_part);
    if found == Ok(Some(())) {
        check_lines(input, head.head_bytes, &head.fields);
        assert!((100..1000).contains(&head.status));
        let bodiless = method == Method::Head || matches!(head.status, 100..=199 | 204 | 304);
        assert!(!bodiless || head.body == BodyKind::None);
        assert!(head.body != BodyKind::UntilClose || !head.keep_alive);
        check_rewritten_response(input, method, &head);
    }
}

/// A chunked body: the same content and end however it is cut, and as a plain reader of lines finds them. The first two
/// bytes of the input choose the cuts.
pub fn chunked_body(input: &[u8]) {
    let [step, start, input @ ..] = input else { return };
    let whole = decode(input, &[]);
    let cuts: Vec<_> = (usize::from(*start)..input.len()).step_by(usize::from(*step % 16) + 1).collect();
    assert_eq!(decode(input, &cuts), whole);
    if let Ok((content, used, true)) = &whole {
        assert_eq!(plain_chunked(&input[..*used]).as_ref(), Some(content));
        let mut again = Vec::new();
        for chunk in content.chunks(usize::from(*step) + 1) {
            write_chunk_head(&mut again, chunk.len());
            again.extend_from_slice(chunk);
            again.extend_from_slice(CHUNK_END);
        }
        again.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&again, &[]), Ok((content.clone(), again.len(), true)));
    } else if input.len() < BODY_SURELY_FITS && plain_chunked(input).is_some() {
        panic!("a well-formed body was not taken: {whole:?}");
    }
}

/// What is complete is complete from its last byte on and not before; what is refused never was complete.
fn check_beginnings(
    input: &[u8],
    whole: Result<Option<()>, ()>,
    head_bytes: usize,
    parse_part: impl Fn(usize) -> Result<Option<()>, ()>,
) {
    if whole == Ok(Some(())) {
        assert!(head_bytes <= input.len().min(LIMITS.head_bytes_max));
        assert_eq!(parse_part(head_bytes), Ok(Some(())), "complete without what follows");
        assert_eq!(parse_part(head_bytes - 1), Ok(None), "incomplete without its last byte");
    }
    for end in 0..input.len().min(EVERY_BEGINNING_MAX) {
        match (parse_part(end), whole) {
            (Ok(None), _) | (Err(()), Err(())) => {}
            (Ok(Some(())), Ok(Some(()))) if end >= head_bytes => {}
            (part, _) => panic!("beginning of {end} bytes gives {part:?}, the whole {whole:?}"),
        }
    }
}

/// Lines end in CR LF and hold no other CR, LF or NUL; there is one for each field, in order, and it says the same.
fn check_lines(input: &[u8], head_bytes: usize, fields: &[Field]) {
    let head = std::str::from_utf8(&input[..head_bytes]).map_or_else(|_| latin(&input[..head_bytes]), str::to_owned);
    let head = head.strip_prefix("\r\n").unwrap_or(&head);
    let lines: Vec<&str> = head.strip_suffix("\r\n\r\n").expect("an empty line").split("\r\n").collect();
    assert_eq!(lines.len(), fields.len() + 1);
    assert!(fields.len() <= LIMITS.headers_max);
    for line in &lines {
        assert!(!line.contains(['\r', '\n', '\0']) && !line.is_empty() && !line.starts_with([' ', '\t']), "{line:?}");
    }
    for (line, field) in lines[1..].iter().zip(fields) {
        let (name, value) = line.split_once(':').expect("a colon");
        let text = |span: Span| {
            let part = span.of(input);
            std::str::from_utf8(part).map_or_else(|_| latin(part), str::to_owned)
        };
        let trim = |text: &str| text.trim_matches([' ', '\t']).to_owned();
        if head.is_ascii() {
            assert_eq!((text(field.name), text(field.value)), (trim(name), trim(value)));
        }
        assert_eq!(field.known, FieldName::of(trim(name).as_bytes()));
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn check_request_line(input: &[u8], head: &RequestHead) {
    let start = head.method_text.start as usize;
    let line = input[start..].split(|&byte| byte == b'\r').next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("three parts in {line:?}") };
    assert_eq!((method, Method::of(method)), (head.method_text.of(input), head.method));
    assert!(version.starts_with(b"HTTP/1.") && version.len() == 8);
    assert!(target.len() <= LIMITS.target_bytes_max && !target.iter().any(|byte| byte.is_ascii_control()));
    assert!(target.ends_with(head.target.of(input)));
    let path = head.path(input);
    let is_asterisk = path == b"*" && head.method == Method::Options;
    assert!(path.first() == Some(&b'/') || is_asterisk, "path {path:?}");
    assert!(!head.authority.of(input).contains(&b'@'));
}

fn check_request_framing(input: &[u8], head: &RequestHead) {
    let values = |known: FieldName| head.fields.iter().filter(move |field| field.known == known);
    let (codings, lengths) = (values(FieldName::TransferEncoding).count(), values(FieldName::ContentLength).count());
    assert!(codings == 0 || (codings == 1 && lengths == 0 && head.version == Version::Http11));
    assert_eq!(codings == 1, head.body == BodyKind::Chunked);
    assert!(values(FieldName::Host).count() <= 1);
    assert!(head.version == Version::Http10 || !head.host(input).is_empty());
    if let BodyKind::Length(length) = head.body {
        assert!(length > 0 && lengths > 0);
        for field in values(FieldName::ContentLength) {
            let mut numbers = std::str::from_utf8(field.value.of(input)).expect("digits").split(',');
            assert!(numbers.all(|number| number.trim().parse() == Ok(length)));
        }
    }
}

/// A proxy writes the head anew: origin-form, the authority in Host, other fields as they are.
fn check_rewritten_request(input: &[u8], head: &RequestHead) {
    if head.method == Method::Connect || head.authority.is_empty() {
        return;
    }
    let mut text = [head.method_text.of(input), b" ", head.target(input), b" HTTP/1.1\r\n"].concat();
    write_field(&mut text, "Host", head.authority.of(input));
    let others = head.fields.iter().filter(|field| field.known != FieldName::Host);
    write_fields(&mut text, input, others);
    let mut again = RequestHead::default();
    let limits = Limits { head_bytes_max: usize::MAX, ..LIMITS };
    match parse_request(&text, &Limits { headers_max: LIMITS.headers_max + 1, ..limits }, &mut again) {
        Ok(Some(())) => {}
        // HTTP/1.0 does not look at expectations.
        Err(RequestError::Expectation) if head.version == Version::Http10 => return,
        wrong => panic!("{wrong:?} for {}", text.escape_ascii()),
    }
    assert_eq!(again.head_bytes, text.len());
    assert_eq!((again.method, again.body), (head.method, head.body));
    assert_eq!(again.target(&text), head.target(input));
    assert_eq!(again.authority.of(&text), head.authority.of(input));
}

fn check_rewritten_response(input: &[u8], method: Method, head: &ResponseHead) {
    let mut text = Vec::new();
    write_status_line(&mut text, head.status);
    write_fields(&mut text, input, head.fields.iter());
    let limits = Limits { head_bytes_max: usize::MAX, ..LIMITS };
    let mut again = ResponseHead::default();
    assert_eq!(parse_response(&text, &limits, method, &mut again), Ok(Some(())));
    assert_eq!((again.status, again.body, again.head_bytes), (head.status, head.body, text.len()));
}

fn write_fields<'a>(text: &mut Vec<u8>, input: &[u8], fields: impl Iterator<Item = &'a Field>) {
    for field in fields {
        let name = std::str::from_utf8(field.name.of(input)).expect("a token is ascii");
        write_field(text, name, field.value.of(input));
    }
    text.extend_from_slice(b"\r\n");
}

fn decode(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut decoder = BodyDecoder::new(BodyKind::Chunked).keep_trailers(&TRAILERS);
    let (mut content, mut at) = (Vec::new(), 0);
    for end in cuts.iter().copied().chain([input.len()]) {
        loop {
            let decoded = decoder.decode(&input[at..end])?;
            assert!(decoded.data.start <= decoded.data.end && decoded.data.end <= decoded.consumed);
            content.extend_from_slice(&input[at..end][decoded.data]);
            at += decoded.consumed;
            if decoded.consumed == 0 || decoder.is_done() {
                break;
            }
        }
        if decoder.is_done() {
            break;
        }
    }
    assert!(decoder.is_done() || at == input.len(), "everything is taken until the end");
    assert_eq!(decoder.on_eof().is_ok(), decoder.is_done());
    if decoder.is_done() {
        check_trailers(decoder.trailers());
    }
    Ok((content, at, decoder.is_done()))
}

/// What goes on of trailers is a trailer section again: nothing in it ends the message elsewhere, or is another field.
fn check_trailers(lines: &[u8]) {
    let trailers = trailers::read(lines).unwrap_or_default();
    let mut wire = Vec::new();
    trailers::write_last_chunk(&mut wire, &trailers);
    let mut decoder =
        BodyDecoder::new(BodyKind::Chunked).keep_trailers(&Limits { head_bytes_max: usize::MAX, ..TRAILERS });
    let decoded = decoder.decode(&wire).expect("what we write is well-formed");
    assert_eq!((decoded.consumed, decoded.done), (wire.len(), true));
    assert_eq!(trailers::read(decoder.trailers()).unwrap_or_default(), trailers);
    assert!(trailers.keys().all(|name| trailers::is_allowed(name.as_str())));
}

/// Content of a chunked body that is all of `input`; `None` when it is not one, or has more than 64 trailers.
fn plain_chunked(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = take_line(&mut input)?;
        let size = line.split(';').next()?;
        let is_size = (1..=16).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = is_size.then(|| i64::from_str_radix(size, 16).ok())?? as usize;
        if size == 0 {
            break;
        }
        content.extend_from_slice(input.get(..size)?);
        input = input[size..].strip_prefix(b"\r\n")?;
    }
    for count in 0.. {
        let line = take_line(&mut input)?;
        if line.is_empty() {
            break;
        }
        let (name, _) = line.split_once(':')?;
        let is_token = !name.is_empty() && name.bytes().all(fields::is_token_byte);
        (is_token && count < 64).then_some(())?;
    }
    input.is_empty().then_some(content)
}

/// The next line, without its CR LF; `None` when it has a control byte.
fn take_line(input: &mut &[u8]) -> Option<String> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let line = latin(&input[..end]);
    *input = &input[end + 2..];
    let is_text = line.chars().all(|letter| letter == '\t' || (letter >= ' ' && letter != '\u{7f}'));
    is_text.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz_with;

    const REQUESTS: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /a/b?c=d HTTP/1.0\r\nConnection: keep-alive, x\r\nAccept: */*\r\n\r\n",
        "POST http://A:80/x HTTP/1.1\r\nhost: a\r\nContent-Length: 5, 5\r\nExpect: 100-continue\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a.example\r\nX-Empty:\r\nX: \t \r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.9\r\nHost: a_b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: \u{e9}\r\n\r\n",
    ];
    const RESPONSES: &[&str] = &[
        "\0HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "\u{1}HTTP/1.1 204\r\nServer : x\r\nContent-Length: 0\r\n\r\n",
        "\u{2}HTTP/1.0 200 \r\nConnection: keep-alive\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
        "\u{3}HTTP/1.1 502 Bad \u{e9}\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nX:\r\n\r\n",
    ];
    const BODIES: &[&str] = &[
        "\0\u{0}5\r\nhello\r\n0\r\n\r\n",
        "\u{3}\u{1}5;a=b\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0;x\r\nA: b\r\nC:\r\n\r\nGET",
        "\u{1}\u{0}0\r\n\r\n",
        "\0\u{0}1;é=éééééééééééééééééééééééééééééééééééééé\r\na\r\n0\r\n\r\n",
        "\u{7}\u{2}01\r\n\n\r\n2\r\n\r\n\r\n00\r\nTrailer: \u{e9}\r\n\r\n",
    ];
    /// Pieces that mean something to a parser, put in where they do not belong.
    const PIECES: &[&str] = &[
        "\r\n",
        "\r",
        "\n",
        "\0",
        " ",
        "\t",
        ":",
        ",",
        ";",
        "0",
        "5",
        "\r\n\r\n",
        "\r\n ",
        "Host: a\r\n",
        "Host:",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "chunked",
        "HTTP/1.1",
        "http://a/",
        "?",
        "#",
        "@",
        "*",
        "/",
        "[::1]",
        "%41",
        "\u{7f}",
        "\u{e9}",
        "GET ",
        "ffffffffffffffff",
        "0\r\n\r\n",
        "close",
        "100-continue",
    ];

    #[test]
    fn request_heads() {
        fuzz_with("request_head", REQUESTS, request_head, PIECES);
    }

    #[test]
    fn response_heads() {
        fuzz_with("response_head", RESPONSES, response_head, PIECES);
    }

    #[test]
    fn chunked_bodies() {
        fuzz_with("chunked_body", BODIES, chunked_body, PIECES);
    }

    /// The corpus itself is taken, else its changes would only test how things are refused.
    #[test]
    fn the_corpus_is_well_formed() {
        for text in REQUESTS {
            let found = parse_request(text.as_bytes(), &LIMITS, &mut RequestHead::default());
            assert_eq!(found, Ok(Some(())), "{text:?}");
        }
        for text in RESPONSES {
            let found = parse_response(&text.as_bytes()[1..], &LIMITS, Method::Get, &mut ResponseHead::default());
            assert_eq!(found, Ok(Some(())), "{text:?}");
        }
        for text in BODIES {
            assert!(matches!(decode(&text.as_bytes()[2..], &[]), Ok((_, _, true))), "{text:?}");
        }
    }
}
