//! A server of UDP that says who it is, and clients for it.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::PATIENCE;

/// Answers each datagram with its name, a colon and what it got: `one:hello`. Beginning with `again N ` it answers N times,
/// with `quiet` not at all. Ends, and closes its port, when dropped.
pub(crate) struct UdpServer {
    pub(crate) address: SocketAddr,
    /// Datagrams by sender.
    seen: Arc<Mutex<HashMap<SocketAddr, u64>>>,
    is_mute: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    pub(crate) fn start(name: &str) -> UdpServer {
        UdpServer::start_at(name, "127.0.0.1:0".parse().expect("an address"))
    }

    pub(crate) fn start_at(name: &str, address: SocketAddr) -> UdpServer {
        let socket = UdpSocket::bind(address).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let (seen, is_mute, ends) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::default(), Arc::default());
        let answered = Arc::default();
        let thread = {
            let (name, seen, ends) = (name.to_owned(), seen.clone(), Arc::clone(&ends));
            let (is_mute, answered) = (Arc::clone(&is_mute), Arc::clone(&answered));
            std::thread::spawn(move || serve(&socket, &name, &seen, &is_mute, &answered, &ends))
        };
        UdpServer { address, seen, is_mute, answered, ends, thread: Some(thread) }
    }

    /// It takes datagrams, and answers none.
    pub(crate) fn set_mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::Relaxed);
    }

    /// How many sockets have sent it something: flows, seen from here.
    pub(crate) fn senders(&self) -> usize {
        self.seen.lock().expect("a lock").len()
    }

    /// Datagrams that it got.
    pub(crate) fn datagrams(&self) -> u64 {
        self.seen.lock().expect("a lock").values().sum()
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

fn serve(
    socket: &UdpSocket,
    name: &str,
    seen: &Mutex<HashMap<SocketAddr, u64>>,
    is_mute: &AtomicBool,
    answered: &AtomicU64,
    ends: &AtomicBool,
) {
    let mut buffer = vec![0; 65_536];
    while !ends.load(Ordering::Relaxed) {
        let Ok((bytes, peer)) = socket.recv_from(&mut buffer) else { continue };
        *seen.lock().expect("a lock").entry(peer).or_default() += 1;
        let got = &buffer[..bytes];
        let text = String::from_utf8_lossy(got);
        let mut words = text.split(' ');
        let count = match words.next() {
            Some("quiet") => 0,
            Some("again") => words.next().and_then(|count| count.parse().ok()).unwrap_or(1),
            _ => 1,
        };
        if is_mute.load(Ordering::Relaxed) {
            continue;
        }
        // The longest datagram has no room for a name.
        let answer = if bytes > 60_000 { got.to_vec() } else { [name.as_bytes(), b":", got].concat() };
        for _ in 0..count {
            if socket.send_to(&answer, peer).is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One socket that talks to one address, and takes answers from there alone.
pub(crate) struct UdpClient {
    pub(crate) socket: UdpSocket,
}

impl UdpClient {
    pub(crate) fn new(to: SocketAddr) -> UdpClient {
        let own: IpAddr = if to.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().expect("an address") };
        UdpClient::from(own, to)
    }

    /// From another address of this machine.
    pub(crate) fn from(own: IpAddr, to: SocketAddr) -> UdpClient {
        let socket = UdpSocket::bind((own, 0)).expect("a port");
        socket.connect(to).expect("a way there");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        UdpClient { socket }
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.socket.send(bytes.as_ref()).expect("sent");
    }

    /// The next answer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let bytes = self.socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(bytes);
        buffer
    }

    /// The answer to `text`.
    pub(crate) fn ask(&self, text: &str) -> String {
        self.send(text);
        String::from_utf8(self.take()).expect("text")
    }

    /// The answer to `text`, if there is one soon.
    pub(crate) fn try_ask(&self, text: &str) -> Option<String> {
        self.send(text);
        self.try_take(Duration::from_millis(300)).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    /// The next answer, if there is one in that time.
    pub(crate) fn try_take(&self, time: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(time)).expect("a socket");
        let mut buffer = vec![0; 65_536];
        let got = self.socket.recv(&mut buffer);
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        match got {
            Ok(bytes) => Some(buffer[..bytes].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}
