//! A server that follows a script: like MySQL 8 where a splitter looks, anybody may log on, and every command is kept.
//!
//! Written from the protocol's documentation (MySQL internals manual), with nothing of the code under test but its
//! packets' encoders.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use one_server::mysql::protocol::greeting::Greeting;
use one_server::mysql::protocol::login::Login;

/// A command that somebody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What the two have agreed on.
    pub(crate) capabilities: u32,
    /// The packet's payload.
    pub(crate) command: Vec<u8>,
}

/// The server.
pub(crate) struct Scripted {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    capabilities: u32,
    greets_after: Duration,
    seen: Mutex<Vec<Seen>>,
    stops: AtomicBool,
}

impl Scripted {
    /// With these capabilities, and what every server has.
    pub(crate) fn start(more: u32, greets_after: Duration) -> Scripted {
        let capabilities = 0x00FF_F7FF & !(1 << 11) | 1 << 24 | more;
        let state =
            Arc::new(State { capabilities, greets_after, seen: Mutex::default(), stops: AtomicBool::new(false) });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stops.load(Ordering::Relaxed) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Scripted { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All commands with this text in them.
    pub(crate) fn seen(&self, text: &[u8]) -> Vec<Seen> {
        let seen = self.state.seen.lock().expect("a lock");
        seen.iter().filter(|seen| has(&seen.command, text)).cloned().collect()
    }

    /// The last command of this kind.
    pub(crate) fn last(&self, code: u8) -> Option<Seen> {
        self.state.seen.lock().expect("a lock").iter().rev().find(|seen| seen.command[0] == code).cloned()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.state.stops.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn is_second(&self, command: &[u8]) -> bool {
        self.seen.lock().expect("a lock").iter().filter(|seen| seen.command == command).count() == 2
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        std::thread::sleep(self.greets_after);
        let mut out = Vec::new();
        let greeting = Greeting {
            version: b"8.4.3".to_vec(),
            connection_id: 7,
            scramble: *b"abcdefghij0123456789",
            capabilities: self.capabilities,
            collation: 255,
            status: 2,
            plugin: b"mysql_native_password".to_vec(),
        };
        greeting.encode(&mut out);
        stream.write_all(&out).ok()?;
        let login = packet(&mut stream)?;
        let capabilities = Login::decode(&login).ok()?.capabilities;
        assert_eq!(capabilities & !self.capabilities & (1 << 27), 0, "attributes were not offered");
        send(&mut stream, 2, &[OK])?;
        loop {
            let command = packet(&mut stream)?;
            self.seen.lock().expect("a lock").push(Seen { capabilities, command: command.clone() });
            match command[0] {
                0x01 => return None,
                0x19 | 0x18 => {} // no answer
                0x03 if has(&command, b"SHOW GLOBAL VARIABLES") => {
                    table(&mut stream, &["Variable_name"], &[&["read_only"], &["log_bin"]])?;
                }
                0x03 if has(&command, b"@@global.read_only") => {
                    table(&mut stream, &["read_only", "log_bin"], &[&["0", "1"]])?;
                }
                0x03 if has(&command, b"SHOW") => send(&mut stream, 1, &[OK])?,
                0x03 if has(&command, b"SELECT") => table(&mut stream, &["c"], &[&["1"]])?,
                0x16 if has(&command, b"refused the second time") && self.is_second(&command) => {
                    send(&mut stream, 1, &[b"\xff\xb5\x05#42000too many"])?; // 1461
                }
                0x16 => prepared(&mut stream, command.iter().filter(|byte| **byte == b'?').count() as u8)?,
                _ => send(&mut stream, 1, &[OK])?,
            }
        }
    }
}

const OK: &[u8] = b"\0\0\0\x02\0\0\0";
const END: &[u8] = b"\xfe\0\0\x02\0\0\0";

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| [&[text.len() as u8][..], text.as_bytes()].concat()).collect()
}

fn column(name: &str) -> Vec<u8> {
    // def, schema, table, table, name, name, 12 bytes: character set, length, type VAR_STRING, flags, decimals, filler.
    let mut out = texts(&["def", "", "", "", name, name]);
    out.extend_from_slice(b"\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0");
    out
}

fn table(stream: &mut TcpStream, names: &[&str], rows: &[&[&str]]) -> Option<()> {
    let mut packets = vec![vec![names.len() as u8]];
    packets.extend(names.iter().map(|name| column(name)));
    packets.extend(rows.iter().map(|row| texts(row)));
    packets.push(END.to_vec());
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    send(stream, 1, &packets)
}

fn prepared(stream: &mut TcpStream, params: u8) -> Option<()> {
    let first = [&[0, 42, 0, 0, 0, 0, 0, params, 0, 0, 0, 0][..]].concat();
    let mut packets = vec![first];
    packets.extend((0..params).map(|_| column("?")));
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    send(stream, 1, &packets)
}

fn send(stream: &mut TcpStream, first: u8, packets: &[&[u8]]) -> Option<()> {
    let mut out = Vec::new();
    for (n, payload) in packets.iter().enumerate() {
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        out.extend_from_slice(&[a, b, c, first.wrapping_add(n as u8)]);
        out.extend_from_slice(payload);
    }
    stream.write_all(&out).ok()
}

fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}
