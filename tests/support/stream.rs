//! Servers for connections that are no HTTP: plain threads, one for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::PATIENCE;

/// A server that does with each connection what it is told; runs until the test ends.
pub(crate) struct TcpServer {
    pub(crate) address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl TcpServer {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> TcpServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (taken, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let count = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        TcpServer { address, taken }
    }

    /// Says `name` and a line feed, then sends back what comes until its end, and `bye`.
    pub(crate) fn echo(name: &'static str) -> TcpServer {
        TcpServer::start(move |mut stream| {
            if stream.write_all(format!("{name}\n").as_bytes()).is_err() {
                return;
            }
            let mut chunk = vec![0; 256 * 1024];
            while let Ok(count) = stream.read(&mut chunk) {
                if count == 0 {
                    let _ = stream.write_all(b"bye");
                    return;
                }
                if stream.write_all(&chunk[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// Connections so far.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Closing will send a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
}
