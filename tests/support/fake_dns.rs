//! A name server that says one thing of every name, and says it when it is told to. Format: RFC 1035 section 4.1, RFC 2782.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const A: u8 = 1;
const SRV: u8 = 33;

/// Every name has the same address, every service is at the same port of `a.test`. It runs until it is dropped.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    is_held: Arc<AtomicBool>,
    questions: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl FakeDns {
    pub(crate) fn start(ip: Ipv4Addr, port: u16) -> FakeDns {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let (is_held, questions, is_over): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (held, counted, over) = (is_held.clone(), questions.clone(), is_over.clone());
        std::thread::spawn(move || {
            let (mut buffer, mut waiting) = ([0; 2048], Vec::new());
            while !over.load(Ordering::SeqCst) {
                if let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    waiting.push((answer(&buffer[..bytes], ip, port), peer));
                }
                let is_held = held.load(Ordering::SeqCst);
                for ((_, answer), peer) in waiting.extract_if(.., |((kind, _), _)| !is_held || *kind != A) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        FakeDns { address, is_held, questions, is_over }
    }

    /// It keeps the addresses of names to itself, or tells them, those asked for before as well.
    pub(crate) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// What is asked for, and the answer, which holds for a second.
fn answer(question: &[u8], ip: Ipv4Addr, port: u16) -> (u8, Vec<u8>) {
    let mut at = 12;
    while question[at] != 0 {
        at += 1 + usize::from(question[at]);
    }
    let (kind, end) = (question[at + 2], at + 5);
    let mut answer = question[..2].to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1]);
    match kind {
        SRV => {
            answer.extend([0, 14, 0, 0, 0, 1]);
            answer.extend(port.to_be_bytes());
            answer.extend(b"\x01a\x04test\0");
        }
        _ => {
            answer.extend([0, 4]);
            answer.extend(ip.octets());
        }
    }
    (kind, answer)
}
