//! A client of HTTP/2 made of single frames (RFC 9113), for what no library would send. It compresses nothing and forbids
//! the server to use a dynamic table, so that a few lines of HPACK (RFC 7541) are enough.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::client::End;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;
/// A whole request without a body in one frame.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;

/// A frame as bytes; nothing is checked.
pub(crate) fn frame(kind: u8, flags: u8, stream_id: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream_id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn data(id: u32, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, id, payload)
}

pub(crate) fn headers(id: u32, flags: u8, block: &Block) -> Vec<u8> {
    frame(HEADERS, flags, id, &block.0)
}

pub(crate) fn continuation(id: u32, flags: u8, fragment: impl AsRef<[u8]>) -> Vec<u8> {
    frame(CONTINUATION, flags, id, fragment)
}

pub(crate) fn rst(id: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, id, code.to_be_bytes())
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let value = |(key, value): &(u16, u32)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, values.iter().flat_map(value).collect::<Vec<u8>>())
}

pub(crate) fn ping(payload: &[u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, payload)
}

pub(crate) fn window_update(id: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, increment.to_be_bytes())
}

pub(crate) fn priority(id: u32, depends_on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, id, [&depends_on.to_be_bytes()[..], &[15]].concat())
}

pub(crate) fn goaway(id: u32, last_stream_id: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, id, [last_stream_id.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A header block: RFC 7541 section 6, without Huffman coding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block(pub(crate) Vec<u8>);

impl Block {
    /// The four pseudo-header fields of a request.
    pub(crate) fn request(method: &str, path: &str) -> Block {
        Block::default()
            .field(":method", method)
            .field(":scheme", "http")
            .field(":path", path)
            .field(":authority", "test")
    }

    pub(crate) fn get(path: &str) -> Block {
        Block::request("GET", path)
    }

    pub(crate) fn post(path: &str) -> Block {
        Block::request("POST", path)
    }

    /// Literal field that is not put into the table: section 6.2.2.
    pub(crate) fn field(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.0.push(0);
        self.text(name.as_ref());
        self.text(value.as_ref());
        self
    }

    /// Literal field that is put into the table, at index 62: section 6.2.1.
    pub(crate) fn insert(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Block {
        self.0.push(0x40);
        self.text(name.as_ref());
        self.text(value.as_ref());
        self
    }

    /// A field of the table: section 6.1.
    pub(crate) fn indexed(mut self, index: usize) -> Block {
        self.number(0x80, 7, index);
        self
    }

    /// Another size of the table: section 6.3.
    pub(crate) fn table_size(mut self, bytes: usize) -> Block {
        self.number(0x20, 5, bytes);
        self
    }

    fn text(&mut self, text: &[u8]) {
        self.number(0, 7, text.len());
        self.0.extend(text);
    }

    /// Section 5.1: `bits` of the first byte, the rest in groups of seven.
    fn number(&mut self, first: u8, bits: u8, mut number: usize) {
        let full = (1 << bits) - 1;
        if number < full {
            self.0.push(first | number as u8);
            return;
        }
        self.0.push(first | full as u8);
        number -= full;
        while number >= 128 {
            self.0.push(number as u8 | 128);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// A frame of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream_id: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("an error code"))
    }

    /// The status of an answer's first HEADERS.
    pub(crate) fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // Changes of the table's size come first, and we have forbidden the table: RFC 7541 section 4.2.
        while let [first, rest @ ..] = block
            && first & 0xe0 == 0x20
        {
            let long = first & 0x1f == 0x1f;
            let more = rest.iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
            block = &rest[if long { more } else { 0 }..];
        }
        match block {
            [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
            // Name from the table (`:status` stands there from 8 to 14), value as text.
            [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, rest @ ..] => {
                let bytes = &rest[..usize::from(length & 0x7f)];
                let digits =
                    if length & 0x80 == 0 { String::from_utf8_lossy(bytes).into() } else { huffman_digits(bytes) };
                digits.parse().unwrap_or_else(|_| panic!("a status in {digits:?}"))
            }
            other => panic!("the status comes first: {other:x?}"),
        }
    }
}

/// Three digits in the code of RFC 7541 appendix B: five bits for 0 to 2, six for the others.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let mut bits = &bits[..];
    let mut digits = String::new();
    while digits.len() < 3 {
        let take = |n: usize| bits[..n].iter().fold(0, |number, bit| number << 1 | bit);
        let (digit, used) = if take(5) <= 2 { (take(5), 5) } else { (take(6) - 0x19 + 3, 6) };
        digits.push(char::from(b'0' + digit));
        bits = &bits[used..];
    }
    digits
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = names.get(usize::from(self.kind)).copied().unwrap_or("unknown");
        write!(f, "{name} stream={} flags={:x} {} bytes", self.stream_id, self.flags, self.payload.len())?;
        match self.kind {
            RST_STREAM => write!(f, " code={}", self.code()),
            GOAWAY => write!(f, " code={} {:?}", self.code(), String::from_utf8_lossy(&self.payload[8..])),
            _ => Ok(()),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What comes of a stream, or of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The stream was answered, completely.
    Answer(u16),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was given up with this code, and closed.
    Goaway(u32),
    /// The connection ended without a word.
    Ended(End),
    /// Nothing.
    Silence,
}

/// What the client runs over: a socket, or TLS on one.
pub(crate) trait Wire: Read + Write {
    /// Longest wait of a read.
    fn wait_at_most(&self, time: Duration);
}

impl Wire for TcpStream {
    fn wait_at_most(&self, time: Duration) {
        self.set_read_timeout(Some(time)).expect("a socket");
    }
}

impl Wire for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn wait_at_most(&self, time: Duration) {
        self.sock.wait_at_most(time);
    }
}

/// One connection. Panics when the server breaks a rule of framing.
pub(crate) struct Http2<W: Wire = TcpStream> {
    wire: W,
    buffer: Vec<u8>,
    /// The wire takes no more bytes.
    pub(crate) is_broken: bool,
    ended: Option<End>,
    /// Answers so far, by stream, and whether each is complete.
    answers: HashMap<u32, (Answer, bool)>,
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server takes connections");
    stream.set_nodelay(true).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

impl Http2 {
    /// A connection by prior knowledge (RFC 9113 section 3.3), settings exchanged.
    pub(crate) fn connect(address: SocketAddr) -> Http2 {
        Http2::connect_with(address, &[])
    }

    /// The same with further settings.
    pub(crate) fn connect_with(address: SocketAddr, values: &[(u16, u32)]) -> Http2 {
        let mut client = Http2::over(connect(address));
        client.greet(values);
        client
    }

    /// A connection on which nothing has been sent.
    pub(crate) fn raw(address: SocketAddr) -> Http2 {
        Http2::over(connect(address))
    }

    /// A small receive buffer, so that a client that does not read soon stops the server.
    pub(crate) fn with_small_window(address: SocketAddr) -> Http2 {
        Http2::over(super::Client::with_small_window(address).stream)
    }
}

impl<W: Wire> Http2<W> {
    /// A client over a wire that is ready for HTTP/2.
    pub(crate) fn over(wire: W) -> Http2<W> {
        wire.wait_at_most(PATIENCE);
        Http2 { wire, buffer: Vec::new(), is_broken: false, ended: None, answers: HashMap::new() }
    }

    /// Preface and SETTINGS, those of the server, and an acknowledgement in each direction.
    pub(crate) fn greet(&mut self, values: &[(u16, u32)]) {
        let values = [&[(HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0)], values].concat();
        self.send(PREFACE).send(settings(&values));
        let first = self.next().expect("the server's settings");
        assert!(first.kind == SETTINGS && !first.has(ACK), "RFC 9113 section 3.4: {first:?}");
        self.send(frame(SETTINGS, ACK, 0, ""));
        loop {
            let frame = self.next().expect("an acknowledgement");
            match frame.kind {
                SETTINGS if frame.has(ACK) => return,
                WINDOW_UPDATE => {}
                _ => panic!("not now: {frame:?}"),
            }
        }
    }

    /// Sends everything; a server that has closed already is not an error here, the outcome tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let sent = self.wire.write_all(bytes.as_ref()).and_then(|()| self.wire.flush());
        self.is_broken |= sent.is_err();
        self
    }

    /// Sends without a pause what `piece` makes, and takes in what comes meanwhile, until there is nothing more to send or
    /// the server has had enough. Returns how many pieces were sent.
    pub(crate) fn flood(&mut self, mut piece: impl FnMut(u32) -> Option<Vec<u8>>) -> u32 {
        for n in 0.. {
            let Some(bytes) = piece(n).filter(|_| !self.is_over()) else { return n };
            self.send(bytes);
            self.pump();
        }
        unreachable!("the loop has no end of its own")
    }

    /// Whether the server has given the connection up.
    pub(crate) fn is_over(&self) -> bool {
        self.is_broken || self.ended.is_some()
    }

    /// Takes what has come.
    fn pump(&mut self) {
        self.wire.wait_at_most(Duration::from_millis(1));
        while self.fill().is_ok_and(|n| n > 0) {}
        self.wire.wait_at_most(PATIENCE);
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        match self.wire.read(&mut chunk) {
            Ok(0) => self.ended = self.ended.or(Some(End::Closed)),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                return Ok(n);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(error);
            }
            // A server that closes without the alert of TLS is not at fault for HTTP/2.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = self.ended.or(Some(End::Closed)),
            Err(_) => self.ended = self.ended.or(Some(End::Reset)),
        }
        Ok(0)
    }

    /// The next frame; `None` when the connection has ended or nothing comes for [`PATIENCE`].
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE)
    }

    /// The same for another time.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Frame> {
        let begin = Instant::now();
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            let left = patience.saturating_sub(begin.elapsed());
            if left.is_zero() || self.ended.is_some() {
                return None;
            }
            self.wire.wait_at_most(left.max(Duration::from_millis(1)));
            let _ = self.fill();
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(length <= 16 << 10, "larger than we allow: {head:x?} {:?}", String::from_utf8_lossy(&self.buffer));
        let stream_id = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        assert!(stream_id <= i32::MAX as u32, "RFC 9113 section 4.1: the reserved bit is set");
        let frame =
            Frame { kind: head[3], flags: head[4], stream_id, payload: self.buffer.get(9..9 + length)?.to_vec() };
        self.buffer.drain(..9 + length);
        let on_connection = matches!(frame.kind, SETTINGS | PING | GOAWAY);
        let on_stream = matches!(frame.kind, DATA | HEADERS | RST_STREAM | CONTINUATION);
        assert!(frame.kind != PUSH_PROMISE, "we have forbidden it");
        assert!(!on_connection || stream_id == 0, "{frame:?}");
        assert!(!on_stream || stream_id % 2 == 1, "{frame:?}");
        Some(frame)
    }

    /// Waits for the complete answer to a request, and gives the window back for its body. Answers to other requests that
    /// come meanwhile are kept.
    ///
    /// Panics when there is none.
    pub(crate) fn answer(&mut self, id: u32) -> Answer {
        while !self.answers.get(&id).is_some_and(|(_, is_complete)| *is_complete) {
            let Some(frame) = self.next() else { panic!("no answer on stream {id}: {:?}", self.ended) };
            if frame.kind == GOAWAY && frame.code() != NO_ERROR || frame.kind == RST_STREAM && frame.stream_id == id {
                panic!("no answer on stream {id}: {frame:?}");
            }
            self.react(&frame);
            if matches!(frame.kind, HEADERS | DATA) {
                self.keep(frame);
            }
        }
        self.answers.remove(&id).expect("it is complete").0
    }

    /// Puts a frame to its answer.
    fn keep(&mut self, frame: Frame) {
        let known = self.answers.get_mut(&frame.stream_id);
        match (frame.kind, known) {
            (HEADERS, None) if (100..200).contains(&frame.status()) => {}
            (HEADERS, None) => {
                let answer = Answer { status: frame.status(), body: Vec::new() };
                self.answers.insert(frame.stream_id, (answer, frame.has(END_STREAM)));
            }
            (_, Some((_, true))) => panic!("after the end: {frame:?}"),
            (DATA, Some((answer, is_complete))) => {
                answer.body.extend(&frame.payload);
                *is_complete = frame.has(END_STREAM);
            }
            (HEADERS, Some((_, is_complete))) => {
                assert!(frame.has(END_STREAM), "trailers end the stream: {frame:?}");
                *is_complete = true;
            }
            _ => panic!("before HEADERS: {frame:?}"),
        }
    }

    /// Does what a frame asks of an honest client.
    fn react(&mut self, frame: &Frame) {
        match frame.kind {
            PING if !frame.has(ACK) => drop(self.send(self::frame(PING, ACK, 0, &frame.payload))),
            SETTINGS if !frame.has(ACK) => drop(self.send(self::frame(SETTINGS, ACK, 0, ""))),
            DATA if !frame.payload.is_empty() => {
                let length = frame.payload.len() as u32;
                self.send(window_update(0, length));
                if !frame.has(END_STREAM) {
                    self.send(window_update(frame.stream_id, length));
                }
            }
            _ => {}
        }
    }

    /// Asks for a path on stream `id`.
    pub(crate) fn get(&mut self, id: u32, path: &str) -> Answer {
        self.send(headers(id, WHOLE, &Block::get(path)));
        self.answer(id)
    }

    /// What comes of stream `id` and of the connection.
    pub(crate) fn outcome(&mut self, id: u32) -> Outcome {
        self.outcome_within(id, PATIENCE)
    }

    pub(crate) fn outcome_within(&mut self, id: u32, patience: Duration) -> Outcome {
        let begin = Instant::now();
        let mut status = None;
        while let Some(frame) = self.next_within(patience.saturating_sub(begin.elapsed())) {
            match frame.kind {
                GOAWAY if frame.code() != NO_ERROR => {
                    let (rest, _) = self.last_frames();
                    assert!(rest.iter().all(|frame| frame.kind != HEADERS), "nothing new after GOAWAY: {rest:?}");
                    return Outcome::Goaway(frame.code());
                }
                RST_STREAM if frame.stream_id == id => return Outcome::Reset(frame.code()),
                HEADERS if frame.stream_id == id && status.is_none() => status = Some(frame.status()),
                _ => {}
            }
            if let Some(status) = status
                && frame.stream_id == id
                && frame.has(END_STREAM)
                && matches!(frame.kind, HEADERS | DATA)
            {
                return Outcome::Answer(status);
            }
        }
        match self.ended {
            Some(end) => Outcome::Ended(end),
            None => Outcome::Silence,
        }
    }

    /// All frames up to the end of the connection.
    ///
    /// Panics when it stays open.
    pub(crate) fn last_frames(&mut self) -> (Vec<Frame>, End) {
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            frames.push(frame);
        }
        match self.ended {
            Some(end) => (frames, end),
            None => panic!("the connection stays open after {frames:?}"),
        }
    }

    /// The connection is in order: a PING comes back as it was sent, and a request is answered.
    pub(crate) fn assert_alive(&mut self, id: u32, path: &str) {
        let payload = b"a\0 ping!";
        self.send(ping(payload));
        loop {
            let Some(frame) = self.next() else { panic!("the PING is not answered: {:?}", self.ended) };
            assert!(frame.kind != GOAWAY, "{frame:?}");
            if frame.kind == PING && frame.has(ACK) {
                assert_eq!(frame.payload, payload, "RFC 9113 section 6.7");
                break;
            }
            self.react(&frame);
        }
        assert_eq!(self.get(id, path).status, 200);
    }

    /// Bytes that have come and are not a whole frame; for what is answered in HTTP/1.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, End) {
        self.wire.wait_at_most(PATIENCE);
        let begin = Instant::now();
        while self.ended.is_none() {
            assert!(begin.elapsed() < PATIENCE, "the connection stays open");
            let _ = self.fill();
        }
        (std::mem::take(&mut self.buffer), self.ended.unwrap_or(End::Closed))
    }
}
