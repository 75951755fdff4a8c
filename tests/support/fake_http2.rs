//! A scriptable server of HTTP/2 on plain threads, made of single frames: it does what no library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::PATIENCE;
use super::frames::*;

/// It runs until it is dropped.
pub(crate) struct FakeHttp2 {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

/// One connection of its, in the hands of the script; the settings of both sides have been exchanged.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// From 0.
    pub(crate) number: usize,
}

impl FakeHttp2 {
    /// Starts with these settings; `script` runs for each connection.
    pub(crate) fn start(values: &[(u16, u32)], script: impl Fn(&mut Peer) + Send + Sync + 'static) -> FakeHttp2 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, over, script, values) = (connections.clone(), is_over.clone(), Arc::new(script), values.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (script, values) = (script.clone(), values.clone());
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    stream.set_nodelay(true).expect("a socket");
                    let mut peer = Peer { stream, buffer: Vec::new(), number };
                    peer.send(settings(&values));
                    if peer.take_preface() {
                        script(&mut peer);
                    }
                });
            }
        });
        FakeHttp2 { address, connections, is_over }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeHttp2 {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Peer {
    /// What is sent to somebody who is gone is nobody's business.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn fill(&mut self, bytes: usize) -> bool {
        while self.buffer.len() < bytes {
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&chunk[..count]),
                _ => return false,
            }
        }
        true
    }

    fn take_preface(&mut self) -> bool {
        if !self.fill(PREFACE.len()) {
            return false;
        }
        assert_eq!(&self.buffer[..PREFACE.len()], PREFACE);
        self.buffer.drain(..PREFACE.len());
        true
    }

    /// The next frame of any kind; `None`: the connection has ended.
    pub(crate) fn any(&mut self) -> Option<Frame> {
        if !self.fill(9) {
            return None;
        }
        let bytes = u32::from_be_bytes([0, self.buffer[0], self.buffer[1], self.buffer[2]]) as usize;
        if !self.fill(9 + bytes) {
            return None;
        }
        let frame: Vec<u8> = self.buffer.drain(..9 + bytes).collect();
        let stream_id = u32::from_be_bytes(frame[5..9].try_into().expect("4 bytes"));
        Some(Frame { kind: frame[3], flags: frame[4], stream_id, payload: frame[9..].to_vec() })
    }

    /// The next frame of a stream, or GOAWAY; settings and pings are acknowledged.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            let next = self.any()?;
            match next.kind {
                SETTINGS | PING if !next.has(ACK) => {
                    self.send(frame(next.kind, ACK, 0, &next.payload[..if next.kind == PING { 8 } else { 0 }]))
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(next),
            }
        }
    }

    /// Waits for the head of the next request; returns its stream.
    pub(crate) fn request(&mut self) -> Option<u32> {
        loop {
            let next = self.next()?;
            if next.kind == HEADERS {
                return Some(next.stream_id);
            }
        }
    }

    /// Waits for the reset of a stream; `None`: the connection ended without.
    pub(crate) fn reset_of(&mut self, id: u32) -> Option<u32> {
        loop {
            let next = self.next()?;
            if next.kind == RST_STREAM && next.stream_id == id {
                return Some(next.code());
            }
        }
    }

    /// Ends the connection in both directions.
    pub(crate) fn shut(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// A whole answer.
    pub(crate) fn answer(&mut self, id: u32, body: &str) {
        let head = Block::default().field(":status", "200");
        self.send([headers(id, END_HEADERS, &head), data(id, END_STREAM, body)].concat());
    }

    /// Answers whatever comes.
    pub(crate) fn answer_all(&mut self, body: &str) {
        while let Some(id) = self.request() {
            self.answer(id, body);
        }
    }

    /// Waits until the other side has closed.
    pub(crate) fn wait(&mut self) {
        while self.any().is_some() {}
    }
}
