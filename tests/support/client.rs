//! A client on a raw socket that takes nothing on trust: every answer is read by the framing rules of RFC 9112 section
//! 6.3, and what is not well-formed fails the test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What came behind the body.
    pub(crate) trailers: Vec<(String, String)>,
    /// Status codes of the 1xx answers before it.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The one value of a field; panics when it occurs twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.fields);
        value
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The connection ends behind this answer (RFC 9112 section 9.3).
    pub(crate) fn is_last(&self) -> bool {
        let token = |wanted: &str| {
            self.fields
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
                .any(|(_, value)| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)))
        };
        token("close") || (self.version == "HTTP/1.0" && !token("keep-alive"))
    }
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// End of stream.
    Closed,
    /// Reset.
    Reset,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// The connection ended before, or within, the answer; so much of it had come.
    Ended(End, Vec<u8>),
    /// Nothing came in time.
    TimedOut(Vec<u8>),
}

impl std::fmt::Debug for NoResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, bytes) = match self {
            NoResponse::Ended(end, bytes) => (format!("{end:?}"), bytes),
            NoResponse::TimedOut(bytes) => ("timed out".into(), bytes),
        };
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        write!(f, "{what} after {} bytes: {shown:?}", bytes.len())
    }
}

/// One connection to the server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Received and not yet taken.
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE).expect("the server takes connections"))
    }

    /// A connection from another address of this machine, such as 127.0.0.9.
    pub(crate) fn connect_from(source: &str, address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let source: std::net::IpAddr = source.parse().expect("an address");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
        socket.connect(&address.into()).expect("the server takes connections");
        Client::over(socket.into())
    }

    /// The same where the server may be gone.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Client> {
        TcpStream::connect_timeout(&address, super::PATIENCE).map(Client::over)
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client { stream, buffer: Vec::new() }
    }

    /// Sends everything; a server that has closed already is not an error here, the answer tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// The first of many, whose answers are taken later.
    pub(crate) fn send_all(clients: &mut [Client], request: &str) {
        for client in clients {
            client.send(request);
        }
    }

    /// Sends byte by byte, each in a segment of its own.
    pub(crate) fn send_bytewise(&mut self, bytes: &[u8]) -> &mut Client {
        for byte in bytes {
            if self.stream.write_all(std::slice::from_ref(byte)).is_err() {
                break;
            }
        }
        self
    }

    /// The next answer; `method` is that of its request.
    ///
    /// Panics when there is none, or when it is malformed.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|problem| panic!("no answer to {method}: {problem:?}"))
    }

    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, NoResponse> {
        loop {
            match parse(&self.buffer, method, false) {
                Some((response, used)) => {
                    self.buffer.drain(..used);
                    return Ok(response);
                }
                None => match self.fill() {
                    Ok(0) => {
                        // Only an answer without a length of its own may end with the connection.
                        return match parse(&self.buffer, method, true) {
                            Some((response, used)) => {
                                self.buffer.drain(..used);
                                Ok(response)
                            }
                            None => Err(NoResponse::Ended(End::Closed, std::mem::take(&mut self.buffer))),
                        };
                    }
                    Ok(_) => {}
                    Err(error) if is_timeout(&error) => {
                        return Err(NoResponse::TimedOut(std::mem::take(&mut self.buffer)));
                    }
                    Err(_) => return Err(NoResponse::Ended(End::Reset, std::mem::take(&mut self.buffer))),
                },
            }
        }
    }

    /// Sends a request and takes its answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        let method =
            String::from_utf8_lossy(request.split(|&byte| byte == b' ').next().unwrap_or_default()).into_owned();
        self.send(request).response(&method)
    }

    /// Reads at least one byte more.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// What has been received and not yet taken.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// The next `len` bytes, whatever they mean.
    ///
    /// Panics when fewer come.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            let count =
                self.fill().unwrap_or_else(|error| panic!("{error} after {} of {len} bytes", self.buffer.len()));
            assert!(count > 0, "the end after {} of {len} bytes", self.buffer.len());
        }
        self.buffer.drain(..len).collect()
    }

    /// Reads everything up to the end of the connection.
    ///
    /// Panics when the connection stays open.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.buffer), End::Closed),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {
                    panic!("the connection stays open; so far: {}", String::from_utf8_lossy(&self.buffer))
                }
                Err(_) => return (std::mem::take(&mut self.buffer), End::Reset),
            }
        }
    }

    /// Reads everything up to the end of the connection, or until nothing has come for a second.
    ///
    /// For connections that the server resets while our window is closed: the reset can miss the window, and then only
    /// our next segment would find out.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        while self.fill().is_ok_and(|n| n > 0) {}
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        std::mem::take(&mut self.buffer)
    }

    /// How the connection ends; panics when anything comes before, or when it stays open.
    pub(crate) fn end(&mut self) -> End {
        let (rest, end) = self.read_to_end();
        assert!(rest.is_empty(), "more than expected: {}", String::from_utf8_lossy(&rest));
        end
    }

    /// Nothing comes and nothing ends for a moment.
    pub(crate) fn assert_silent(&mut self, moment: Duration) {
        assert!(self.buffer.is_empty(), "unexpected: {}", String::from_utf8_lossy(&self.buffer));
        self.stream.set_read_timeout(Some(moment)).expect("a socket");
        let result = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        match result {
            Err(error) if is_timeout(&error) => {}
            other => panic!("not silent: {other:?} {}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Ends our direction.
    pub(crate) fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes by reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// A small receive buffer, so that a client that does not read soon stops the server. Best on a new connection.
    pub(crate) fn with_small_window(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        socket.connect(&address.into()).expect("the server takes connections");
        Client::over(socket.into())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// All answers in `bytes`, which came on one connection that has ended; `methods` are those of the requests, the last
/// one standing for any further.
pub(crate) fn parse_all(mut bytes: &[u8], methods: &[&str]) -> Vec<Response> {
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let method = methods.get(responses.len()).or(methods.last()).copied().unwrap_or("GET");
        let Some((response, used)) = parse(bytes, method, true) else {
            panic!("a truncated answer: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]));
        };
        responses.push(response);
        bytes = &bytes[used..];
    }
    responses
}

/// The first answer in `bytes` and its length. `ended`: nothing will follow.
pub(crate) fn parse(bytes: &[u8], method: &str, ended: bool) -> Option<(Response, usize)> {
    let mut at = 0;
    let mut interim = Vec::new();
    loop {
        let (mut head, used) = parse_head(&bytes[at..])?;
        at += used;
        if (100..200).contains(&head.status) && head.status != 101 {
            interim.push(head.status);
            continue;
        }
        let (body, trailers, used) = parse_body(&head, &bytes[at..], method, ended)?;
        (head.body, head.trailers) = (body, trailers);
        head.interim = interim;
        return Some((head, at + used));
    }
}

fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end - 4]).expect("a head in UTF-8");
    let mut lines = text.split("\r\n");
    let status_line = lines.next().expect("a line");
    let mut parts = status_line.splitn(3, ' ');
    let (version, status) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    assert!(matches!(version, "HTTP/1.1" | "HTTP/1.0") && parts.next().is_some(), "status line `{status_line}`");
    assert_eq!(status.len(), 3, "status line `{status_line}`");
    let fields = lines.map(parse_field).collect();
    let status = status.parse().expect("a status code");
    let (body, trailers, interim) = (Vec::new(), Vec::new(), Vec::new());
    Some((Response { status, version: version.into(), fields, body, trailers, interim }, end))
}

fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a field without a colon: `{line}`"));
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(is_token), "a bad field name: `{line}`");
    assert!(!value.contains(['\r', '\n', '\0']), "a bad field value: `{line}`");
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}

/// Content, what came behind it, and bytes used.
type Body = (Vec<u8>, Vec<(String, String)>, usize);

fn parse_body(head: &Response, bytes: &[u8], method: &str, ended: bool) -> Option<Body> {
    let length = head.field("content-length").map(|text| text.parse::<usize>().expect("a Content-Length"));
    let coding = head.field("transfer-encoding");
    assert!(length.is_none() || coding.is_none(), "both framings: {:?}", head.fields);
    if matches!(head.status, 100..=199 | 204) {
        assert!(length.is_none() && coding.is_none(), "{} with framing: {:?}", head.status, head.fields);
    }
    if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Some((Vec::new(), Vec::new(), 0));
    }
    if let Some(coding) = coding {
        assert_eq!((coding, head.version.as_str()), ("chunked", "HTTP/1.1"));
        return parse_chunks(bytes);
    }
    match length {
        Some(length) => (bytes.len() >= length).then(|| (bytes[..length].to_vec(), Vec::new(), length)),
        None => {
            assert!(head.is_last(), "a body without a length on a connection that stays: {:?}", head.fields);
            ended.then(|| (bytes.to_vec(), Vec::new(), bytes.len()))
        }
    }
}

fn parse_chunks(bytes: &[u8]) -> Option<Body> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let text = std::str::from_utf8(&bytes[at..at + line]).expect("a chunk size");
        assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "chunk size `{text}`");
        let size = usize::from_str_radix(text, 16).expect("a chunk size");
        at += line + 2;
        if size == 0 {
            break;
        }
        if bytes.len() < at + size + 2 {
            return None;
        }
        body.extend_from_slice(&bytes[at..at + size]);
        assert_eq!(&bytes[at + size..at + size + 2], b"\r\n", "end of a chunk");
        at += size + 2;
    }
    // Trailers end with an empty line.
    let mut trailers = Vec::new();
    loop {
        let line = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        if line == 0 {
            return Some((body, trailers, at + 2));
        }
        trailers.push(parse_field(std::str::from_utf8(&bytes[at..at + line]).expect("a trailer in UTF-8")));
        at += line + 2;
    }
}

/// A GET request.
pub(crate) fn get(path: &str) -> String {
    request("GET", path, &[], "")
}

/// A POST request with a body.
pub(crate) fn post(path: &str, body: &str) -> String {
    request("POST", path, &[], body)
}

/// A request with further field lines (without line ends); a body gets its Content-Length.
pub(crate) fn request(method: &str, path: &str, fields: &[&str], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text + body
}

/// How long `work` took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = work();
    (value, begin.elapsed())
}
