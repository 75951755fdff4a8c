//! Ports for servers that must be told theirs, and for addresses at which nobody answers.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};

/// Held until this process ends, so that no other test gets the same port while its server is down.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 at which nobody listens, for this test alone.
///
/// It lies below the ports that the kernel gives to outgoing connections: one of those could be taken by a connection
/// while a server is restarted, or connect to itself, which looks like a server that answers with what it is sent.
pub(crate) fn free_port() -> u16 {
    let folder = std::env::temp_dir().join(format!("one-server-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    for _ in 0..1000 {
        let port = rand::random_range(candidates());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(port.to_string()));
        let file = file.expect("a file for the lock");
        let is_ours = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_ours && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().expect("no test panics here").push(file);
            return port;
        }
    }
    panic!("no free port in {:?}", candidates());
}

/// So many in a row, of which the first is returned. The others are only looked at: others may have them a moment later.
pub(crate) fn free_row(count: u16) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let row = (0..100).map(|_| free_port()).find(|first| (1..count).all(|behind| is_free(first + behind)));
    row.expect("so many free ports in a row")
}

/// The same as an address.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Below the kernel's own range (`net.ipv4.ip_local_port_range`, ip-sysctl).
fn candidates() -> Range<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32768);
    if first > 12_000 { 10_000..first } else { 10_000..32_768 }
}
