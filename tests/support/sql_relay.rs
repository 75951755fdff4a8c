//! A relay between the splitter and one of its servers that cuts connections at a chosen moment, or hands bytes on in
//! small pieces.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// When a connection is cut on which a marked statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The statement does not reach the server.
    BeforeStatement,
    /// The server has run the statement; nothing of its answer gets through but these first bytes.
    InAnswer(usize),
}

/// Cuts to be made.
struct Plan {
    marker: Vec<u8>,
    cut: Cut,
    /// How many are left, 1 at least.
    times: usize,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Plan>>,
    connections: Mutex<Vec<TcpStream>>,
    /// Bytes handed on at once; 0: as they come.
    piece_bytes: AtomicUsize,
    ended: AtomicBool,
}

/// See the module. Ends when dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Relays to this port of 127.0.0.1.
    pub(crate) fn to(port: u16) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let held = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if held.ended.load(SeqCst) {
                    return;
                }
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    held.join(client, server);
                }
            }
        });
        Relay { address, shared }
    }

    /// The next statement that contains `marker` loses its connection.
    pub(crate) fn cut(&self, marker: &str, cut: Cut) {
        self.cut_times(marker, cut, 1);
    }

    /// So many statements that contain `marker` lose theirs.
    #[allow(dead_code, reason = "not every test looks at repetitions")]
    pub(crate) fn cut_times(&self, marker: &str, cut: Cut, times: usize) {
        *self.shared.plan.lock().expect("a lock") = Some(Plan { marker: marker.as_bytes().to_vec(), cut, times });
    }

    /// Whether all cuts were made.
    pub(crate) fn has_cut(&self) -> bool {
        self.shared.plan.lock().expect("a lock").is_none()
    }

    /// Cuts all connections that there are.
    pub(crate) fn cut_all(&self) {
        for stream in self.shared.connections.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Hands on so many bytes at once from now on.
    pub(crate) fn chop(&self, piece_bytes: usize) {
        self.shared.piece_bytes.store(piece_bytes, SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.cut_all();
        let _ = TcpStream::connect(self.address); // so that the listener notices
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        self.connections.lock().expect("a lock").extend([copy(&client), copy(&server)]);
        // Bytes of the answer that get through; `usize::MAX`: all.
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let (shared, limit) = (Arc::clone(self), Arc::clone(&left));
        let (from, to) = (copy(&client), copy(&server));
        std::thread::spawn(move || shared.requests(from, to, &limit));
        let shared = Arc::clone(self);
        std::thread::spawn(move || shared.answers(server, client, &left));
    }

    fn requests(&self, mut client: TcpStream, mut server: TcpStream, left: &AtomicUsize) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = client.read(&mut buffer) {
            match self.cut_for(&buffer[..n]) {
                Some(Cut::BeforeStatement) => break,
                Some(Cut::InAnswer(bytes)) => left.store(bytes, SeqCst),
                None => {}
            }
            if self.hand_on(&mut server, &buffer[..n]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    fn answers(&self, mut server: TcpStream, mut client: TcpStream, left: &AtomicUsize) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = server.read(&mut buffer) {
            let limit = left.load(SeqCst);
            let passes = n.min(limit);
            if limit != usize::MAX {
                left.store(limit - passes, SeqCst);
            }
            if self.hand_on(&mut client, &buffer[..passes]).is_err() || limit == passes {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    fn cut_for(&self, bytes: &[u8]) -> Option<Cut> {
        let mut plan = self.plan.lock().expect("a lock");
        let Plan { marker, cut, times } = plan.as_mut()?;
        bytes.windows(marker.len()).any(|part| part == marker).then_some(())?;
        let cut = *cut;
        *times -= 1;
        if *times == 0 {
            *plan = None;
        }
        Some(cut)
    }

    fn hand_on(&self, to: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        let piece_bytes = match self.piece_bytes.load(SeqCst) {
            0 => bytes.len().max(1),
            some => some,
        };
        bytes.chunks(piece_bytes).try_for_each(|piece| to.write_all(piece))
    }
}
