//! In UDP mode nothing is allocated for a datagram of a flow that is there: a whole server runs in this process, of which every
//! allocation on every thread is counted. A test binary of its own, because the count is of the whole process.

#[path = "support/allocations.rs"]
mod allocations;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use allocations::count;

const QUESTIONS: u64 = 5000;

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
