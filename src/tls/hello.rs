//! The first message of a TLS client, read without answering it: which name it asks for and which protocols it offers, so
//! that a connection can be passed on to whom it is meant for.
//!
//! Pure, from the bytes so far; nothing in it is verified and nothing is decrypted. A ClientHello may come in several
//! records, and does where post-quantum keys make it long (RFC 8446 section 5.1). Of an encrypted one (ECH) only the outer
//! name is seen, which is the one meant for us. Sources: RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301 section 3.1.

use std::fmt;

/// Longest ClientHello that is read, in bytes, as in nginx's `preread_buffer_size`. Usual ones have 200 to 2,500.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of a connection that [`read_hello`] looks at: the longest ClientHello, in records of few bytes each. A client
/// has no reason to cut finer.
pub const INPUT_BYTES_MAX: usize = HELLO_BYTES_MAX + HELLO_BYTES_MAX / 16 * RECORD_HEADER_BYTES;

/// Type, version, length (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// Largest record in clear text (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Type and length (RFC 8446 section 4).
const MESSAGE_HEADER_BYTES: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Longest name (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Name that the client asks for, in lower case; `None`: it asks for none.
    pub server_name: Option<Box<str>>,
    /// Protocols that it offers, in its order, separated by commas as nginx's `$ssl_preread_alpn_protocols` has them. Empty:
    /// none.
    pub alpn: Box<[u8]>,
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// The connection begins with something else than a handshake of TLS.
    NotTls,
    /// It begins so, but breaks a rule.
    Malformed,
    /// Longer than [`HELLO_BYTES_MAX`], or cut too finely.
    TooLarge,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelloError::NotTls => f.write_str("it does not begin with TLS"),
            HelloError::Malformed => f.write_str("its ClientHello is malformed"),
            HelloError::TooLarge => write!(f, "its ClientHello is longer than {HELLO_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for HelloError {}

/// Reads the ClientHello at the beginning of a connection.
///
/// `Ok(None)`: it is not complete; never with [`INPUT_BYTES_MAX`] bytes or more. The length that it tells is refused at once
/// when it is too large.
/// Errors: what no more bytes can make a ClientHello.
pub fn read_hello(input: &[u8]) -> Result<Option<Hello>, HelloError> {
    let input = &input[..input.len().min(INPUT_BYTES_MAX)];
    let mut message = Vec::new();
    let mut rest = input;
    loop {
        let Some((record, behind)) = next_record(rest, message.is_empty())? else {
            return if input.len() >= INPUT_BYTES_MAX { Err(HelloError::TooLarge) } else { Ok(None) };
        };
        message.extend_from_slice(record.bytes);
        if let Some(length) = message_length(&message)?
            && let Some(body) = message.get(MESSAGE_HEADER_BYTES..MESSAGE_HEADER_BYTES + length)
        {
            return parse(body).ok_or(HelloError::Malformed).map(Some);
        }
        if !record.is_complete {
            return if input.len() >= INPUT_BYTES_MAX { Err(HelloError::TooLarge) } else { Ok(None) };
        }
        rest = behind;
    }
}

/// What has come of a record.
struct Record<'a> {
    bytes: &'a [u8],
    is_complete: bool,
}

/// The next record and what follows it; `None`: its header is not complete.
fn next_record(input: &[u8], is_first: bool) -> Result<Option<(Record<'_>, &[u8])>, HelloError> {
    // Other protocols are known by the first byte that does not fit.
    let wrong = if is_first { HelloError::NotTls } else { HelloError::Malformed };
    if input.first().is_some_and(|kind| *kind != HANDSHAKE) || input.get(1).is_some_and(|major| *major != 3) {
        return Err(wrong);
    }
    let Some((header, behind)) = input.split_first_chunk::<RECORD_HEADER_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // An empty one would be a way to send for ever (RFC 8446 section 5.1 forbids it).
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(wrong);
    }
    let (bytes, rest) = behind.split_at(behind.len().min(length));
    Ok(Some((Record { bytes, is_complete: bytes.len() == length }, rest)))
}

/// Length of the message's body; `None`: its header is not complete.
fn message_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotTls);
    }
    let Some(header) = message.first_chunk::<MESSAGE_HEADER_BYTES>() else { return Ok(None) };
    match u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize {
        length if length > HELLO_BYTES_MAX => Err(HelloError::TooLarge),
        length => Ok(Some(length)),
    }
}

/// The body of a ClientHello; `None`: it is malformed.
fn parse(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    body.take(2)?; // legacy_version
    body.take(32)?; // random
    body.short_list()?; // legacy_session_id
    body.list()?; // cipher_suites
    body.short_list()?; // legacy_compression_methods
    let mut hello = Hello::default();
    if body.0.is_empty() {
        return Some(hello); // no extensions, before TLS 1.3
    }
    let mut extensions = Reader(body.list()?);
    let (mut has_name, mut has_alpn) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let mut content = Reader(extensions.list()?);
        match kind {
            SERVER_NAME if !std::mem::replace(&mut has_name, true) => hello.server_name = server_name(&mut content)?,
            ALPN if !std::mem::replace(&mut has_alpn, true) => hello.alpn = protocols(&mut content)?,
            SERVER_NAME | ALPN => return None, // twice (RFC 8446 section 4.2)
            _ => {}
        }
    }
    body.0.is_empty().then_some(hello)
}

/// The one host name of the list; others than host names were never defined. The inner `None`: there is none.
fn server_name(content: &mut Reader<'_>) -> Option<Option<Box<str>>> {
    let mut names = Reader(content.list()?);
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.list()?;
        if kind == 0 && found.replace(host_name(name)?).is_some() {
            return None;
        }
    }
    content.0.is_empty().then_some(found)
}

/// A name in ASCII, in lower case and without its final dot.
fn host_name(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let is_good = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(is_plain);
    let name = std::str::from_utf8(name).ok().filter(|_| is_good)?;
    Some(name.to_ascii_lowercase().into())
}

fn protocols(content: &mut Reader<'_>) -> Option<Box<[u8]>> {
    let mut names = Reader(content.list()?);
    let mut found = Vec::new();
    while !names.0.is_empty() {
        let name = names.short_list().filter(|name| !name.is_empty())?;
        if !found.is_empty() {
            found.push(b',');
        }
        found.extend_from_slice(name);
    }
    content.0.is_empty().then_some(found.into())
}

/// Takes pieces from the front of a message; `None`: it is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows a length of one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::from(self.take(1)?[0]);
        self.take(bytes)
    }

    /// What follows a length of two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::from(self.number()?);
        self.take(bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn list(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &list(content)].concat()
    }

    fn name(text: &str) -> Vec<u8> {
        extension(SERVER_NAME, &list(&[&[0][..], &list(text.as_bytes())].concat()))
    }

    fn alpn(names: &[&str]) -> Vec<u8> {
        let names: Vec<u8> =
            names.iter().flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat()).collect();
        extension(ALPN, &list(&names))
    }

    /// The handshake message with these extensions.
    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([4, 1, 2, 3, 4]); // session
        body.extend(list(&[0x13, 0x01, 0x0a, 0x0a])); // a suite, and one of GREASE
        body.extend([1, 0]);
        body.extend(list(&extensions.concat()));
        let length = (body.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    /// The message in records of at most so many bytes.
    fn records(message: &[u8], bytes: usize) -> Vec<u8> {
        let record = |piece: &[u8]| [&[HANDSHAKE, 3, 1][..], &list(piece)].concat();
        message.chunks(bytes).flat_map(record).collect()
    }

    /// Complete at its last byte and not before, whatever follows.
    #[track_caller]
    fn check(input: &[u8], expect: &Hello) {
        for end in 0..input.len() {
            assert_eq!(read_hello(&input[..end]), Ok(None), "{end} of {}", input.len());
        }
        assert_eq!(read_hello(input).as_ref(), Ok(&Some(expect.clone())));
        let more = [input, b"\x14\x03\x03\x00\x01\x01"].concat();
        assert_eq!(read_hello(&more).as_ref(), Ok(&Some(expect.clone())));
    }

    fn hello(server_name: Option<&str>, alpn: &str) -> Hello {
        Hello { server_name: server_name.map(Into::into), alpn: alpn.as_bytes().into() }
    }

    #[test]
    fn names_and_protocols_in_any_number_of_records() {
        let grease = extension(0x3a3a, &[]);
        let cases = [
            (vec![], hello(None, "")),
            (vec![name("DB.Example.org")], hello(Some("db.example.org"), "")),
            (vec![grease.clone(), name("a.b."), alpn(&["h2", "http/1.1"])], hello(Some("a.b"), "h2,http/1.1")),
            (vec![extension(0xfe0d, &[0; 300]), alpn(&["postgresql"]), name("x")], hello(Some("x"), "postgresql")),
            (vec![extension(51, &[9; 1220]), name("pq.example")], hello(Some("pq.example"), "")),
        ];
        for (extensions, expect) in cases {
            let message = message(&extensions);
            for bytes in [1, 3, 100, 1400, RECORD_BYTES_MAX] {
                check(&records(&message, bytes), &expect);
            }
        }
    }

    /// What real clients have sent: OpenSSL 3.0, and Chromium with keys against quantum computers, GREASE and ECH.
    #[test]
    fn recorded_hellos() {
        let expect = |file: &str| match file {
            "_chromium" => hello(Some("www.example.org"), "h2,http/1.1"),
            "_nameless" => hello(None, ""),
            "_openssl12" => hello(Some("db.example.org"), ""),
            _ => hello(Some("db.example.org"), "postgresql,h2"),
        };
        for file in ["_chromium", "_nameless", "_openssl12", "_openssl13", "_records"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tls_hello").join(file);
            let input = std::fs::read(path).expect("a seed");
            check(&input, &expect(file));
            let message = input[RECORD_HEADER_BYTES..].to_vec();
            if file != "_records" {
                (1..200).for_each(|bytes| check_end(&records(&message, bytes), &expect(file)));
            } else {
                assert!(input.len() > 300);
            }
            assert_eq!(input.len() > 1500, file == "_chromium", "a large one is among them");
        }
    }

    #[test]
    fn a_hello_without_extensions() {
        let whole = message(&[]);
        let mut message = whole[..whole.len() - 2].to_vec();
        message[3] -= 2;
        check(&records(&message, 50), &hello(None, ""));
    }

    #[test]
    fn what_is_not_tls_is_known_early() {
        let others = [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            b"\0\0\0\x08\x04\xd2\x16",
            b"\x80\x2e\x01",
            b"\x15\x03\x03",
            b"\x16\x02",
        ];
        for bytes in others {
            let first_wrong = (1..=bytes.len()).find(|end| read_hello(&bytes[..*end]).is_err());
            assert!(first_wrong.is_some_and(|end| end <= 2), "{bytes:?}");
            assert_eq!(read_hello(bytes), Err(HelloError::NotTls), "{bytes:?}");
        }
        // A ServerHello, empty and oversized records.
        for bytes in [&b"\x16\x03\x03\x00\x04\x02\0\0\0"[..], b"\x16\x03\x01\0\0", b"\x16\x03\x01\x40\x01"] {
            assert_eq!(read_hello(bytes), Err(HelloError::NotTls));
        }
    }

    #[test]
    fn broken_rules() {
        let malformed = |extensions: &[Vec<u8>]| {
            assert_eq!(read_hello(&records(&message(extensions), 1000)), Err(HelloError::Malformed), "{extensions:?}");
        };
        malformed(&[name("a"), name("b")]);
        malformed(&[alpn(&["a"]), alpn(&["a"])]);
        malformed(&[alpn(&[""])]);
        for bad in ["", ".", "a b", "a\0b", "ä", &"a".repeat(256)] {
            malformed(&[name(bad)]);
        }
        let two = [&[0][..], &list(b"a"), &[0], &list(b"b")].concat();
        malformed(&[extension(SERVER_NAME, &list(&two))]);
        malformed(&[extension(SERVER_NAME, &[list(&[]), vec![0]].concat())]);
        malformed(&[extension(ALPN, &[0, 9, 1, b'a'])]);
        malformed(&[vec![0, 0, 0]]);
        // Another type of record in the middle.
        let mut cut = records(&message(&[name("a")]), 20);
        cut[25] = 23;
        assert_eq!(read_hello(&cut), Err(HelloError::Malformed));
    }

    #[test]
    fn too_large_is_refused_by_its_length_and_by_its_cut() {
        let long = message(&vec![extension(21, &[0; 4000]); 5]);
        assert_eq!(read_hello(&records(&long, 1000)[..9]), Err(HelloError::TooLarge));
        let longest = message(&vec![extension(21, &[0; 4000]); 4]);
        check_end(&records(&longest, 1000), &hello(None, ""));
        let fine = records(&longest, 1);
        assert_eq!(read_hello(&fine[..INPUT_BYTES_MAX - 1]), Ok(None));
        assert_eq!(read_hello(&fine[..INPUT_BYTES_MAX]), Err(HelloError::TooLarge));
    }

    fn check_end(input: &[u8], expect: &Hello) {
        assert_eq!(read_hello(&input[..input.len() - 1]), Ok(None));
        assert_eq!(read_hello(input).as_ref(), Ok(&Some(expect.clone())));
    }

    /// What a client that speaks real TLS sends first.
    pub(in crate::tls) fn first_flight(connect: impl FnOnce(std::net::SocketAddr) -> std::process::Child) -> Vec<u8> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut child = connect(listener.local_addr().expect("an address"));
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a socket");
        let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
        while matches!(read_hello(&input), Ok(None)) {
            match std::io::Read::read(&mut stream, &mut chunk) {
                Ok(count) if count > 0 => input.extend_from_slice(&chunk[..count]),
                end => panic!("{end:?} behind {} bytes", input.len()),
            }
        }
        let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x28"); // handshake_failure
        let _ = child.kill();
        let _ = child.wait();
        input
    }

    #[test]
    fn openssl_and_curl_say_hello() {
        use std::process::{Command, Stdio};
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is installed")
        };
        for more in [&["-tls1_2"][..], &["-tls1_3"], &["-groups", "X25519"]] {
            let seen = first_flight(|address| {
                let address = address.to_string();
                let mut command = Command::new("openssl");
                command.args(["s_client", "-connect", &address, "-servername", "Db.Example.org"]);
                quiet(command.args(["-alpn", "postgresql,h2"]).args(more))
            });
            check(&seen, &hello(Some("db.example.org"), "postgresql,h2"));
        }
        let seen = first_flight(|address| {
            let address = address.to_string();
            quiet(Command::new("openssl").args(["s_client", "-connect", &address, "-noservername"]))
        });
        check(&seen, &hello(None, ""));
        let seen = first_flight(|address| {
            let port = address.port();
            let to = format!("web.example.org:{port}:127.0.0.1");
            quiet(Command::new("curl").args(["-sk", "--resolve", &to, &format!("https://web.example.org:{port}/")]))
        });
        check(&seen, &hello(Some("web.example.org"), "h2,http/1.1"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), prefix in any::<bool>()) {
            let mut input = if prefix { b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03".to_vec() } else { Vec::new() };
            input.extend(bytes);
            let _ = read_hello(&input);
        }

        #[test]
        fn changed_hellos_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 1usize..200) {
            let mut input = records(&message(&[name("db.example.org"), alpn(&["h2"])]), cut);
            let at = at.index(input.len());
            input[at] = byte;
            let _ = read_hello(&input);
        }
    }
}
