//! What a request to an application inside the process allocates on a warm connection: a whole server runs in this process, of which
//! every allocation on every thread is counted. A test binary of its own, because the count is of the whole process.
//!
//! Elsewhere a request on a warm connection allocates nothing. Here it crosses to another thread, and what it is there is what the
//! `http` crate and tower make of it; nothing of that can be used twice:
//!
//! | where | allocations | what |
//! |---|---|---|
//! | data worker | 1 | the try, which is boxed so that requests to servers do not carry its size |
//! | data worker | 2 | the head as it crosses: bytes, and where its fields are |
//! | application worker | 1 | what lets names and values share these bytes |
//! | application worker | 1 | the task; a debug build of tokio has futures as large as this one in a box of their own, which is another one |
//! | application worker | 2 | `HeaderMap`: its table and its entries |
//! | application worker | 3 | `Extensions`: the map, its table, and [`RequestInfo`](one_server::app::RequestInfo) in it |
//! | application worker | 1 | the future of the service, whose type only the application knows |
//! | application worker | 1 | the body of the answer, likewise |
//! | application worker | 1 | the fields of the answer, as they are sent |
//!
//! Beside that an application allocates what it likes; the one here nothing.

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/ports.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ports;

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use allocations::count;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use one_server::app::{App, Body};

const QUESTIONS: u64 = 3000;

/// The sum of the table above.
const OF_A_REQUEST: u64 = if cfg!(debug_assertions) { 14 } else { 13 };

async fn answer(_request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

fn start() -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
    let text = format!(
        "[http]\nkeep_alive_requests_max = 1000000\n[listener.web]\naddress = \"{address}\"\n[app.greeter]\n\
         [site.main]\ndefault = true\nroute = [{{ path = \"/\", app = \"greeter\" }}]\n"
    );
    let app = App::new(|_| tower::service_fn(answer));
    let configured = one_server::Server::new().app("greeter", app).parse("app.toml", &text);
    let configured = configured.unwrap_or_else(|report| panic!("{report}"));
    std::thread::spawn(move || configured.run());
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        if let Ok(client) = TcpStream::connect(address) {
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            return client;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks and reads the answer, which ends in its body.
fn ask(client: &mut TcpStream, request: &[u8]) {
    let (mut answer, mut bytes) = ([0; 1024], 0);
    client.write_all(request).expect("sent");
    while !answer[..bytes].ends_with(b"\r\n\r\nhello") {
        let read = client.read(&mut answer[bytes..]).expect("an answer");
        assert!(read > 0, "{}", answer[..bytes].escape_ascii());
        bytes += read;
    }
}

#[test]
fn what_a_request_to_an_application_allocates() {
    let mut client = connect(start());
    for (what, request, most) in [
        ("GET", &b"GET / HTTP/1.1\r\nHost: test\r\nAccept: */*\r\nUser-Agent: test\r\n\r\n"[..], OF_A_REQUEST),
        // What is kept of the body for another try, and the body as the application gets it.
        ("POST", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nfour", OF_A_REQUEST + 2),
    ] {
        // All that is made once is there behind these.
        (0..500).for_each(|_| ask(&mut client, request));
        let begun = Instant::now();
        let asking = count(|| (0..QUESTIONS).for_each(|_| ask(&mut client, request)));
        let time = begun.elapsed();
        // The clock and the control thread go on: that much in the same time is theirs.
        let resting = count(|| std::thread::sleep(time));
        println!("{what}: {asking} allocations in {time:?} with {QUESTIONS} requests, {resting} without");
        let of_each = asking.saturating_sub(resting) as f64 / QUESTIONS as f64;
        assert!(of_each < most as f64 + 0.2, "{what}: {of_each} allocations for each request");
        assert!(of_each > 1.0, "{what}: {of_each}: they are not seen");
    }
}
