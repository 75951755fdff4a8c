//! In UDP mode nothing is allocated for a datagram of a flow that is there: a whole server runs in this process, of which every
//! allocation on every thread is counted. A test binary of its own, because the count is of the whole process.

#![allow(unsafe_code)] // an allocator that counts; every block states its reason

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Whatever grows or moves comes here too: the other methods of the trait are made of these two.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: both calls go to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises about both are passed on; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

const QUESTIONS: u64 = 5000;

/// Allocations while `work` runs.
fn count(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Answers every datagram with itself.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..bytes], peer);
        }
    });
    address
}

/// A port of UDP that is free now.
fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port")
}

fn start(listener: SocketAddr, server: SocketAddr) {
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n[listener.dns]\naddress = \"{listener}\"\nudp = \"dns\"\n\
         [upstream.dns]\nservers = \"{server}\"\n[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{}}\n"
    );
    let configured = one_server::Server::new().parse("udp.toml", &text);
    let configured = configured.unwrap_or_else(|report| panic!("{report}"));
    std::thread::spawn(move || configured.run());
}

fn ask(client: &UdpSocket) -> bool {
    let mut answer = [0; 64];
    client.send(b"question").is_ok() && client.recv(&mut answer).is_ok_and(|bytes| &answer[..bytes] == b"question")
}

#[test]
fn a_datagram_of_a_flow_allocates_nothing() {
    let listener = free_address();
    start(listener, echo());
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.connect(listener).expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
    let begun = Instant::now();
    while !ask(&client) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    // All that is made once is there behind these.
    (0..200).for_each(|_| assert!(ask(&client)));
    let begun = Instant::now();
    let asking = count(|| (0..QUESTIONS).for_each(|_| assert!(ask(&client))));
    let time = begun.elapsed();
    // The clock and the control thread go on: that much in the same time is theirs.
    let resting = count(|| std::thread::sleep(time));
    println!("{asking} allocations in {time:?} with {QUESTIONS} questions, {resting} without");
    assert!(asking < 2 * resting + QUESTIONS / 20, "{asking} allocations in {time:?}, {resting} without a question");
    // A flow allocates: else nothing would be counted here.
    let begins = count(|| {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.connect(listener).expect("a socket");
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        assert!(ask(&client));
    });
    assert!(begins > 0);
}
