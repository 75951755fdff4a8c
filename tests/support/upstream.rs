//! A scriptable upstream server on plain threads: it records what it was asked and answers whatever the test says,
//! right or wrong.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{PATIENCE, eventually};

/// A request as the upstream got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
    /// The body, once it was read to its end.
    pub(crate) body: Vec<u8>,
    pub(crate) body_complete: bool,
    /// What came behind the body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Seen {
    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let matching = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field; panics when it occurs twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} occurs twice: {:?}", self.fields);
        values.first().copied()
    }
}

/// One request on a connection, in the hands of the script.
pub(crate) struct Exchange {
    pub(crate) stream: TcpStream,
    pub(crate) request: Seen,
    buffer: Vec<u8>,
    log: Arc<Log>,
    /// Index of this request in the log.
    index: usize,
}

/// What the script does with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
}

impl Exchange {
    /// Reads the request body to its end; `false` when it breaks off.
    pub(crate) fn read_body(&mut self) -> bool {
        let mut body = Vec::new();
        let complete = self.drain_body(|bytes| body.extend_from_slice(bytes));
        self.request.body = body.clone();
        let trailers = self.request.trailers.clone();
        self.log.update(self.index, |seen| {
            seen.body = body;
            seen.body_complete = complete;
            seen.trailers = trailers;
        });
        complete
    }

    /// Reads the request body and hands its pieces to `take`; `false` when it breaks off.
    pub(crate) fn drain_body(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        if self.request.field("transfer-encoding").is_some() {
            return self.drain_chunks(take);
        }
        let mut left: usize = self.request.field("content-length").map_or(0, |text| text.parse().expect("a length"));
        while left > 0 {
            if self.buffer.is_empty() && !self.fill() {
                return false;
            }
            let n = left.min(self.buffer.len());
            take(&self.buffer[..n]);
            self.buffer.drain(..n);
            left -= n;
        }
        true
    }

    fn drain_chunks(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        loop {
            let Some(line) = self.line() else { return false };
            let size =
                usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("the proxy sent chunk size `{line}`"));
            let mut left = size;
            while left > 0 {
                if self.buffer.is_empty() && !self.fill() {
                    return false;
                }
                let n = left.min(self.buffer.len());
                take(&self.buffer[..n]);
                self.buffer.drain(..n);
                left -= n;
            }
            if size == 0 {
                return self.take_trailers();
            }
            let Some(line) = self.line() else { return false };
            assert!(line.is_empty(), "the proxy sent a bad chunk end: `{line}`");
        }
    }

    fn take_trailers(&mut self) -> bool {
        while let Some(line) = self.line() {
            if line.is_empty() {
                return true;
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("the proxy sent the trailer `{line}`"));
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert!(!name.is_empty() && name.bytes().all(is_token), "the proxy sent the trailer `{line}`");
            self.request.trailers.push((name.to_owned(), value.to_owned()));
        }
        false
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fill(&mut self) -> bool {
        fill(&mut self.stream, &mut self.buffer)
    }

    /// What came behind the request so far.
    pub(crate) fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Sends bytes as they are; `false` when the proxy is gone.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends in pieces with pauses.
    pub(crate) fn dribble(&mut self, bytes: &[u8], piece: usize, pause: Duration) -> bool {
        bytes.chunks(piece).all(|piece| {
            std::thread::sleep(pause);
            self.send(piece)
        })
    }

    /// A whole 200 answer.
    pub(crate) fn ok(&mut self, body: &str) -> Then {
        self.read_body();
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        Then::Keep
    }

    /// Answers with the size of the request body.
    pub(crate) fn ok_with_size(&mut self) -> Then {
        if !self.read_body() {
            return Then::Close;
        }
        let size = self.request.body.len();
        self.ok_text(&format!("{size} bytes"))
    }

    fn ok_text(&mut self, body: &str) -> Then {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        Then::Keep
    }

    /// Breaks the connection.
    pub(crate) fn reset(&mut self) -> Then {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
        Then::Close
    }

    /// Waits until the proxy closes or breaks the connection; `false` when it does not.
    pub(crate) fn wait_for_close(&mut self) -> bool {
        loop {
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => return true,
            }
        }
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 64 * 1024];
    match stream.read(&mut chunk) {
        Ok(n) if n > 0 => {
            buffer.extend_from_slice(&chunk[..n]);
            true
        }
        _ => false,
    }
}

#[derive(Default)]
struct Log {
    requests: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Connections that ended.
    closed: AtomicUsize,
    /// Scripts that run now.
    working: AtomicUsize,
    /// Things no proxy may send.
    offences: Mutex<Vec<String>>,
}

impl Log {
    fn update(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.requests.lock().expect("a lock")[index]);
    }
}

/// A listening fake server; stops when dropped.
pub(crate) struct FakeUpstream {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
}

impl FakeUpstream {
    /// Serves every request by `script`.
    pub(crate) fn start(script: impl Fn(&mut Exchange) -> Then + Send + Sync + 'static) -> FakeUpstream {
        FakeUpstream::start_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// The same at a given address, for a server that comes back.
    pub(crate) fn start_at(
        address: SocketAddr,
        script: impl Fn(&mut Exchange) -> Then + Send + Sync + 'static,
    ) -> FakeUpstream {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(Log::default());
        let stop = Arc::new(AtomicBool::new(false));
        let script: Arc<dyn Fn(&mut Exchange) -> Then + Send + Sync> = Arc::new(script);
        std::thread::spawn({
            let (log, stop) = (log.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (log, script) = (log.clone(), script.clone());
                    std::thread::spawn(move || {
                        serve(stream, &log, &*script);
                        log.closed.fetch_add(1, Ordering::SeqCst);
                    });
                }
            }
        });
        FakeUpstream { address, log, stop }
    }

    /// Every request so far, health checks included.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let offences = self.log.offences.lock().expect("a lock");
        assert!(offences.is_empty(), "the proxy sent what no proxy may send: {offences:?}");
        self.log.requests.lock().expect("a lock").clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    /// Requests whose target begins so.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target.starts_with(target)).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Waits until every connection has ended.
    pub(crate) fn wait_until_all_closed(&self) {
        eventually("every upstream connection ends", || {
            self.log.closed.load(Ordering::SeqCst) == self.log.connections.load(Ordering::SeqCst)
        });
    }

    /// Waits until no request is half read: every body has come to its end or its connection has ended.
    pub(crate) fn wait_until_all_closed_but_idle(&self) {
        eventually("no request is under way", || self.log.working.load(Ordering::SeqCst) == 0);
    }

    /// Takes no further connections: the port refuses from now on.
    pub(crate) fn stop(&self) {
        if !self.stop.swap(true, Ordering::SeqCst) {
            let _ = TcpStream::connect(self.address);
            eventually("the fake upstream stops", || TcpStream::connect(self.address).is_err());
        }
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        if !self.stop.swap(true, Ordering::SeqCst) {
            let _ = TcpStream::connect(self.address);
        }
    }
}

fn serve(mut stream: TcpStream, log: &Arc<Log>, script: &(dyn Fn(&mut Exchange) -> Then + Send + Sync)) {
    let connection = log.connections.fetch_add(1, Ordering::SeqCst);
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break buffer.drain(..end + 4).collect::<Vec<u8>>();
            }
            if !fill(&mut stream, &mut buffer) {
                return;
            }
        };
        let request = match parse(&head, connection) {
            Ok(request) => request,
            Err(offence) => {
                log.offences.lock().expect("a lock").push(offence);
                return;
            }
        };
        let index = {
            let mut requests = log.requests.lock().expect("a lock");
            requests.push(request.clone());
            requests.len() - 1
        };
        let Ok(own) = stream.try_clone() else { return };
        let mut exchange =
            Exchange { stream: own, request, buffer: std::mem::take(&mut buffer), log: log.clone(), index };
        log.working.fetch_add(1, Ordering::SeqCst);
        let then = script(&mut exchange);
        log.working.fetch_sub(1, Ordering::SeqCst);
        buffer = std::mem::take(&mut exchange.buffer);
        if then == Then::Close {
            return;
        }
    }
}

/// Reads a head strictly: a request that two servers could understand differently is an offence.
fn parse(head: &[u8], connection: usize) -> Result<Seen, String> {
    let text = String::from_utf8_lossy(&head[..head.len() - 4]).into_owned();
    let offence = |what: &str| Err(format!("{what}: {text:?}"));
    if text.contains('\0') || text.replace("\r\n", "").contains(['\r', '\n']) {
        return offence("a control byte");
    }
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return offence("a request line");
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || method.is_empty() || !target.starts_with(['/', '*']) {
        return offence("a request line");
    }
    let mut fields = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => return offence("a field line"),
        }
    }
    let seen = Seen {
        connection,
        method: method.into(),
        target: target.into(),
        version: version.into(),
        fields,
        ..Seen::default()
    };
    let (lengths, codings) = (seen.values("content-length"), seen.values("transfer-encoding"));
    if lengths.len() + codings.len() > 1 || seen.values("host").len() != 1 {
        return offence("ambiguous framing or Host");
    }
    if lengths.iter().any(|length| length.parse::<u64>().is_err()) || codings.iter().any(|coding| *coding != "chunked")
    {
        return offence("framing");
    }
    Ok(seen)
}
