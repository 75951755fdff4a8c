//! Properties that hold for any input, whatever it says. Targets of `fuzz/` call them with coverage feedback; the tests
//! below run them on every `cargo test`. Each function panics when a property does not hold; the second opinions are plain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::basic_auth::{Credentials, PASSWORD_BYTES_MAX, USER_BYTES_MAX};
use super::proxy_protocol::{Checksum, Error, Header, V2_BYTES_MAX, encode_v1, encode_v2, parse};
use super::{Networks, Trust, networks::parse_network};

/// A header of the PROXY protocol ends where its last byte is, whatever follows; no beginning of it is one; written anew it
/// reads the same.
pub fn proxy_header(input: &[u8]) {
    match parse(input) {
        Ok(None) => assert!(input.len() < V2_BYTES_MAX, "never waits for more than that"),
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(Some((header, used))) => {
            assert!(used <= input.len().min(V2_BYTES_MAX));
            assert_eq!(parse(&input[..used]), Ok(Some((header, used))));
            for end in 0..used {
                assert_eq!(parse(&input[..end]), Ok(None), "the first {end} bytes of {used}");
            }
            check_rewritten(&header);
        }
    }
}

fn check_rewritten(header: &Header) {
    for checksum in [Checksum::None, Checksum::Crc32c] {
        let mut text = Vec::new();
        encode_v2(header, checksum, &mut text);
        assert_eq!(parse(&text), Ok(Some((*header, text.len()))));
    }
    let mut text = Vec::new();
    encode_v1(header, &mut text);
    let expected = match header {
        Header::Ip { source, destination } => Header::Ip { source: plain(*source), destination: plain(*destination) },
        // Version 1 has one word for whatever it cannot say.
        _ => Header::Unknown,
    };
    assert_eq!(parse(&text), Ok::<_, Error>(Some((expected, text.len()))));
}

/// Version 2 carries neither flow label nor scope.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// Whatever a client writes into the field that tells its address, what a trusted proxy writes behind it counts; nobody else
/// is believed; and a list of addresses is read as a plain reader does it. The first byte of the input chooses the field;
/// its lines are the rest.
pub fn forwarded(input: &[u8]) {
    let Some((&choice, lines)) = input.split_first() else { return };
    let header = ["X-Forwarded-For", "Forwarded", "X-Real-IP"][usize::from(choice % 3)];
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| parse_network(text).expect("a network"));
    let trust = Trust::new(Networks::new(networks), header);
    let (proxy, stranger) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
    let lines: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();

    assert_eq!(trust.client(stranger, lines.iter().copied()), stranger, "who is not trusted tells nothing");
    let found = trust.client(proxy, lines.iter().copied());
    match header {
        "X-Forwarded-For" => assert_eq!(found, plain_forwarded_for(&trust, proxy, &lines)),
        "X-Real-IP" => assert_eq!(found, plain_single(&lines).unwrap_or(proxy)),
        _ => {}
    }
    // The proxy's own word comes last, in a line of its own or behind a comma.
    let words: &[&[u8]] = match header {
        "X-Forwarded-For" => &[b"192.0.2.7"],
        "Forwarded" => &[b"for=192.0.2.7;proto=https", b"by=\"_a\\\",b\";for=\"192.0.2.7:80\""],
        _ => return,
    };
    for word in words {
        assert_eq!(trust.client(proxy, lines.iter().copied().chain([*word])), stranger);
        let joined = [lines.last().copied().unwrap_or_default(), b", ", word].concat();
        let before = lines[..lines.len() - 1].iter().copied();
        assert_eq!(trust.client(proxy, before.chain([&joined[..]])), stranger);
    }
}

fn plain_forwarded_for(trust: &Trust, peer: IpAddr, lines: &[&[u8]]) -> IpAddr {
    let mut entries: Vec<&[u8]> = lines.iter().flat_map(|line| line.split(|&byte| byte == b',')).collect();
    entries.reverse();
    entries.truncate(64);
    let mut client = peer;
    for entry in entries.into_iter().map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
        match plain_address(entry) {
            Some(address) if trust.is_trusted(client) => client = address,
            _ => break,
        }
    }
    client
}

fn plain_single(lines: &[&[u8]]) -> Option<IpAddr> {
    let [line] = lines else { return None };
    plain_address(line.trim_ascii())
}

/// An address with or without port, in the forms that are in use.
fn plain_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 64 && !text.contains('%'))?;
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let has_long_port = text.rsplit(':').next().is_some_and(|port| port.len() > 5);
    let bare = text.parse::<IpAddr>().ok().or_else(|| Some(IpAddr::V6(inside?.parse::<Ipv6Addr>().ok()?)));
    let with_port = || text.parse::<SocketAddr>().ok().filter(|_| !has_long_port).map(|address| address.ip());
    bare.or_else(with_port).map(|address| address.to_canonical())
}

/// Credentials are what a plain decoder of Base64 finds, split at the first colon. The first byte of the input chooses
/// whether the rest is the value of the field or what is to be encoded in it.
pub fn authorization(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    if choice % 2 == 0 {
        return check_credentials(rest);
    }
    let mut value = b"Basic ".to_vec();
    value.extend_from_slice(plain_base64(rest).as_bytes());
    check_credentials(&value);
}

fn check_credentials(value: &[u8]) {
    let found = Credentials::parse(value);
    if let Ok(found) = &found {
        assert!(found.user().len() <= USER_BYTES_MAX && found.password().len() <= PASSWORD_BYTES_MAX);
        assert!(!found.user().contains(&b':'));
        assert!(!found.user().iter().chain(found.password()).any(u8::is_ascii_control));
        let text = [found.user(), b":", found.password()].concat();
        let again = Credentials::parse(format!("bAsIc  {}", plain_base64(&text)).as_bytes()).expect("well-formed");
        assert_eq!((again.user(), again.password()), (found.user(), found.password()));
    }
    let encoded =
        value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic ")).map(|_| value[6..].trim_ascii());
    let Some(decoded) = encoded.and_then(plain_decoded) else { return };
    let fits = |user: &[u8], password: &[u8]| {
        let is_text = !user.iter().chain(password).any(u8::is_ascii_control);
        user.len() <= USER_BYTES_MAX && password.len() <= PASSWORD_BYTES_MAX && is_text
    };
    let expected =
        decoded.iter().position(|&byte| byte == b':').map(|colon| (&decoded[..colon], &decoded[colon + 1..]));
    let expected = expected.filter(|(user, password)| fits(user, password));
    assert_eq!(found.as_ref().ok().map(|found| (found.user(), found.password())), expected);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn plain_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// `None`: not Base64, or not padded in full or not at all, which decoders see differently.
fn plain_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().take_while(|&byte| byte != b'=').collect();
    let padding = text.len() - digits.len();
    let is_padded = padding == 0 || (padding <= 2 && text.len().is_multiple_of(4) && text.ends_with(&b"=="[..padding]));
    (is_padded && digits.len() % 4 != 1).then_some(())?;
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        bits = bits << 6 | ALPHABET.iter().position(|&known| known == digit)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn proxy_headers() {
        let pieces = [
            "PROXY ",
            "TCP4 ",
            "TCP6 ",
            "UNKNOWN",
            "192.0.2.1",
            "::1",
            " ",
            "80",
            "\r\n",
            "\r",
            "\n",
            "\0\r\nQUIT\n",
            "!",
            "\u{11}",
            "\0\u{c}",
        ];
        fuzz("proxy_header", proxy_header, &pieces);
    }

    #[test]
    fn addresses_of_clients() {
        let pieces = [
            "10.0.0.2",
            "192.0.2.1",
            "[fd00::1]",
            "[2001:db8::1]:80",
            ":80",
            ",",
            " ",
            "\n",
            "for=",
            "\"",
            "\\",
            ";",
            "unknown",
            "_hidden",
            "%",
            "::ffff:10.0.0.3",
        ];
        fuzz("forwarded", forwarded, &pieces);
    }

    #[test]
    fn credentials() {
        fuzz(
            "authorization",
            authorization,
            &["Basic ", "basic", " ", "=", "==", "YTpi", "YTp", "a:b", ":", "\0", "\t", "\u{e9}", "Bearer "],
        );
    }
}
