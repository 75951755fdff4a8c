//! A server of FastCGI that says what a test wants it to say.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) params: HashMap<String, String>,
    pub(crate) content: Vec<u8>,
    /// FCGI_KEEP_CONN.
    pub(crate) keeps: bool,
    /// Number of the request on its connection, from 0.
    pub(crate) number: usize,
}

/// What the server sends, and whether it closes the connection then.
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closes: bool,
}

#[derive(Clone)]
pub(crate) struct FakeFastCgi {
    pub(crate) address: SocketAddr,
    /// On which a whole request has come.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections that are open, and on which something has come.
    pub(crate) open: Arc<AtomicUsize>,
    /// Content that has come, also that of requests that are not whole yet.
    pub(crate) content_bytes: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl FakeFastCgi {
    /// Answers as `script` says. Its threads end with the test.
    pub(crate) fn start(script: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> FakeFastCgi {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let fake = FakeFastCgi {
            address,
            connections: Arc::default(),
            open: Arc::default(),
            content_bytes: Arc::default(),
            seen: Arc::default(),
        };
        let (script, own) = (Arc::new(script), fake.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, own) = (script.clone(), own.clone());
                std::thread::spawn(move || own.serve(stream, &*script));
            }
        });
        fake
    }

    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().expect("a lock").clone()
    }

    fn serve(&self, mut stream: TcpStream, script: &dyn Fn(&Asked) -> Said) {
        // Checks connect and say nothing.
        if !stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
            return;
        }
        let _open = Open::begin(&self.open);
        for number in 0.. {
            let Some(asked) = read_request(&mut stream, number, &self.content_bytes) else { return };
            if number == 0 {
                self.connections.fetch_add(1, SeqCst);
            }
            self.seen.lock().expect("a lock").push(asked.clone());
            let said = script(&asked);
            if stream.write_all(&said.bytes).is_err() || said.closes {
                return;
            }
        }
    }
}

/// Counts a connection for as long as it is served.
struct Open<'a>(&'a AtomicUsize);

impl Open<'_> {
    fn begin(count: &AtomicUsize) -> Open<'_> {
        count.fetch_add(1, SeqCst);
        Open(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn read_request(stream: &mut TcpStream, number: usize, content_bytes: &AtomicUsize) -> Option<Asked> {
    let (mut asked, mut params) = (Asked { number, ..Asked::default() }, Vec::new());
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).ok()?;
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
        stream.read_exact(&mut content).ok()?;
        stream.read_exact(&mut vec![0; usize::from(head[6])]).ok()?;
        assert_eq!((head[0], head[2], head[3]), (1, 0, 1), "version and request id");
        match head[1] {
            1 => asked.keeps = content[2] & 1 == 1,
            4 => params.extend_from_slice(&content),
            5 if content.is_empty() => break,
            5 => {
                content_bytes.fetch_add(content.len(), SeqCst);
                asked.content.extend_from_slice(&content);
            }
            other => panic!("a record of type {other}"),
        }
    }
    let mut rest = &params[..];
    while !rest.is_empty() {
        let (name, value) = (length(&mut rest), length(&mut rest));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        asked.params.insert(text(&rest[..name]), text(&rest[name..name + value]));
        rest = &rest[name + value..];
    }
    Some(asked)
}

fn length(rest: &mut &[u8]) -> usize {
    let (value, count) = match rest[0] {
        short @ 0..=127 => (usize::from(short), 1),
        high => (u32::from_be_bytes([high & 127, rest[1], rest[2], rest[3]]) as usize, 4),
    };
    *rest = &rest[count..];
    value
}

/// A record of a server: 6 is STDOUT, 7 STDERR, 3 END_REQUEST.
pub(crate) fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let padding = (content.len() % 5) as u8;
    let length = (content.len() as u16).to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, length[0], length[1], padding, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(padding), b'#');
    bytes
}

/// END_REQUEST with a status of the protocol: 0 is complete, 2 overloaded.
pub(crate) fn end(status: u8) -> Vec<u8> {
    record(3, &[0, 0, 0, 0, status, 0, 0, 0])
}

/// A whole answer.
pub(crate) fn answer(text: &str) -> Vec<u8> {
    [record(6, text.as_bytes()), record(6, b""), end(0)].concat()
}
