//! What one client may take of the real binary: connections, the time of an upload, requests. Someone who takes more is
//! held off, and, which matters as much, everybody else is not.

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::client::timed;
use support::frames::Http2;
use support::http2::{H2Client, ask, block_on, everywhere, pause};
use support::tls::TlsClient;
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n";

/// Upper bound for what a short time-out may take on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// The server resets the connection without a word.
#[track_caller]
fn assert_refused(address: SocketAddr, source: &str, first: &str) {
    let mut client = Client::connect_from(source, address);
    // Whichever call meets the reset first is told of it, and no other.
    let sent = client.stream.write_all(first.as_bytes());
    let end = client.end();
    assert!(sent.is_err() || end == End::Reset, "{source}: {end:?}");
}

fn refused(server: &Server) -> f64 {
    server.metric("one_server_http_connections_refused_per_address_total", "")
}

fn addresses(server: &Server) -> f64 {
    server.metric("one_server_http_client_addresses", "")
}

#[test]
fn an_address_has_so_many_connections_and_the_others_have_theirs() {
    with_both_drivers(|driver| {
        let limit = "connections_per_address_max = 3";
        let server = Site::new(driver, SITE).http(limit).secure("").start();
        // They count together, whatever they speak and whichever worker has them.
        let mut first = Client::connect_from("127.0.0.1", server.web());
        assert_eq!(first.ask(get("/")).text(), "root", "{driver:?}");
        let mut second = Http2::connect(server.web());
        assert_eq!(second.get(1, "/").text(), "root", "{driver:?}");
        let mut third = TlsClient::connect(server.address("secure"));
        assert_eq!(third.ask(get("/")).text(), "root", "{driver:?}");
        for _ in 0..8 {
            assert_refused(server.web(), "127.0.0.1", &get("/"));
            // Before TLS, and without waiting for anything.
            assert_refused(server.address("secure"), "127.0.0.1", "");
        }
        assert_eq!(refused(&server), 16.0, "{driver:?}");
        assert_eq!(server.metric("one_server_http_connections_refused_total", ""), 16.0, "{driver:?}");
        assert_eq!(server.status()["http"]["refused_per_address"], 16, "{driver:?}");
        let mut others: Vec<Client> = (0..3).map(|_| Client::connect_from("127.0.0.2", server.web())).collect();
        for other in &mut others {
            assert_eq!(other.ask(get("/")).text(), "root", "{driver:?}");
        }
        assert_eq!(server.status()["http"]["client_addresses"], 2, "{driver:?}");
        // A place is free again when its connection is gone.
        drop(second);
        eventually("a place is free", || {
            let mut client = Client::connect_from("127.0.0.1", server.web());
            client.send(get("/")).try_response("GET").is_ok_and(|response| response.status == 200)
        });
        assert_eq!((first.ask(get("/")).text(), third.ask(get("/")).text()), ("root".into(), "root".into()));
        drop((first, third, others));
        server.wait_until_no_client();
        assert_eq!(addresses(&server), 0.0, "{driver:?}");
    });
}

#[test]
fn many_that_come_and_go_leave_no_trace() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).http("connections_per_address_max = 4").start();
        let address = server.web();
        std::thread::scope(|scope| {
            for n in 0..8 {
                // Some ask, some do not, some reset; most of them are too many.
                scope.spawn(move || {
                    for turn in 0..60 {
                        let mut client = Client::connect_from(&format!("127.0.0.{}", 10 + n % 2), address);
                        match turn % 3 {
                            0 => drop(client.send(get("/")).try_response("GET")),
                            1 => client.reset(),
                            _ => {}
                        }
                    }
                });
            }
            scope.spawn(move || {
                for _ in 0..60 {
                    let response = Client::connect_from("127.0.0.2", address).ask(get("/"));
                    assert_eq!(response.text(), "root", "{driver:?}: the honest client");
                }
            });
        });
        server.wait_until_no_client();
        assert_eq!(addresses(&server), 0.0, "{driver:?}");
        for _ in 0..10 {
            assert_eq!(Client::connect_from("127.0.0.10", address).ask(get("/")).text(), "root", "{driver:?}");
        }
    });
}

const BEHIND: &str = r#"
[listener.behind]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
[listener.proxied]
address = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
"#;

#[test]
fn a_proxy_in_front_is_not_a_client() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, &format!("{BEHIND}{SITE}")).http("connections_per_address_max = 2").start();
        let open = |listener: &str, first: String| {
            let mut client = Client::connect(server.address(listener));
            assert_eq!(client.send(first).response("GET").text(), "root", "{driver:?} {listener}");
            client
        };
        let trusted: Vec<Client> = (0..5).map(|_| open("behind", get("/"))).collect();
        assert_refused_after(&server, "behind", "127.0.0.5", 2, &get("/"));
        // The address of the PROXY header counts; of IPv6 the network.
        let header = |family: &str, source: &str| format!("PROXY {family} {source} {source} 4660 80\r\n{}", get("/"));
        let held: Vec<Client> = ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.8"]
            .map(|source| open("proxied", header("TCP4", source)))
            .into();
        assert_refused(server.address("proxied"), "127.0.0.1", &header("TCP4", "192.0.2.7"));
        let networks: Vec<Client> = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"]
            .map(|source| open("proxied", header("TCP6", source)))
            .into();
        assert_refused(server.address("proxied"), "127.0.0.1", &header("TCP6", "2001:db8::2"));
        // What the proxy asks for itself is not limited.
        let own: Vec<Client> = (0..4).map(|_| open("proxied", format!("PROXY UNKNOWN\r\n{}", get("/")))).collect();
        drop((trusted, held, networks, own));
        server.wait_until_no_client();
        assert_eq!(addresses(&server), 0.0, "{driver:?}");
    });
}

/// `count` connections from `source` are served, the next is refused.
#[track_caller]
fn assert_refused_after(server: &Server, listener: &str, source: &str, count: usize, first: &str) {
    let address = server.address(listener);
    let mut held: Vec<Client> = (0..count).map(|_| Client::connect_from(source, address)).collect();
    for client in &mut held {
        assert_eq!(client.ask(first).status, 200, "{source}");
    }
    assert_refused(address, source, first);
}

#[test]
fn without_the_limit_nobody_counts() {
    let server = Site::new(Driver::Auto, SITE).start();
    let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.web()).expect("taken")).collect();
    assert!(!server.admin("/metrics").contains("client_addresses"));
    assert_eq!(server.status()["http"]["client_addresses"], serde_json::Value::Null);
    drop(clients);
}

/// Routes that read bodies in all ways there are.
fn uploads(upstream: &FakeUpstream) -> String {
    format!(
        "{SITE}[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n\
         [[site.main.route]]\npath = \"/app/\"\napp = \"probe\"\n[app.probe]\n",
        upstream.address
    )
}

const PACE: &str = "body_rate_min = \"500B\"\nbody_rate_grace = \"1s\"\nbody_max = \"64MiB\"";

fn slow_bodies(server: &Server) -> f64 {
    server.metric("one_server_http_slow_bodies_total", "")
}

/// Head and pieces of an upload of `count` pieces: with its length, or chunked.
fn pieces(path: &str, is_chunked: bool, piece: &str, count: usize) -> (String, String) {
    match is_chunked {
        true => (
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"),
            format!("{:x}\r\n{piece}\r\n", piece.len()),
        ),
        false => {
            let bytes = piece.len() * count;
            (format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n"), piece.to_owned())
        }
    }
}

#[test]
fn a_body_that_dribbles_gets_408_and_a_slow_one_does_not() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = Site::probe(driver, &uploads(&upstream)).http(PACE).start();
        let (address, server) = (server.web(), &server);
        std::thread::scope(|scope| {
            for (path, is_chunked) in [("/up/x", false), ("/up/x", true), ("/app/size", false), ("/app/size", true)] {
                scope.spawn(move || {
                    // One byte every 100 ms: 10 a second.
                    let mut client = Client::connect(address);
                    let (head, piece) = pieces(path, is_chunked, "x", 100_000);
                    client.send(head);
                    let begin = Instant::now();
                    client.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
                    while matches!(client.fill(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {
                        assert!(begin.elapsed() < SOON, "{driver:?} {path}: it may go on");
                        client.send(&piece);
                    }
                    let took = begin.elapsed();
                    client.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    let response = client.response("POST");
                    assert!(response.status == 408 && response.is_last(), "{driver:?} {path}: {}", response.status);
                    assert!(took > Duration::from_millis(900), "{driver:?} {path}: {took:?}");
                    assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
                });
                scope.spawn(move || {
                    // 70 bytes every 100 ms for longer than the grace, a bit above the rate.
                    let mut client = Client::connect(address);
                    let (head, piece) = pieces(path, is_chunked, &"x".repeat(70), 40);
                    client.send(head);
                    for _ in 0..40 {
                        std::thread::sleep(Duration::from_millis(100));
                        client.send(&piece);
                    }
                    if is_chunked {
                        client.send("0\r\n\r\n");
                    }
                    assert_eq!(client.response("POST").text(), "2800 bytes", "{driver:?} {path} {is_chunked}");
                });
            }
        });
        assert_eq!(slow_bodies(server), 4.0, "{driver:?}");
        assert_eq!(server.status()["http"]["slow_bodies"], 4, "{driver:?}");
        server.wait_until_no_client();
    });
}

/// An upstream that takes nothing for a while, longer than the grace.
fn late_reader() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        std::thread::sleep(Duration::from_secs(3));
        exchange.ok_with_size()
    })
}

/// More than the kernel's buffers on the way take.
const LARGE: usize = 24 << 20;

#[test]
fn a_client_is_not_blamed_for_a_slow_server() {
    with_both_drivers(|driver| {
        let upstream = late_reader();
        let server = Site::probe(driver, &uploads(&upstream)).http(PACE).start();
        for is_chunked in [false, true] {
            let mut client = server.connect();
            let piece = "x".repeat(1 << 20);
            let (head, piece) = pieces("/up/x", is_chunked, &piece, LARGE >> 20);
            client.send(head);
            let (_, took) = timed(|| (0..LARGE >> 20).for_each(|_| _ = client.send(&piece)));
            assert!(took > Duration::from_secs(2), "{driver:?}: nothing held the client up, {took:?}");
            if is_chunked {
                client.send("0\r\n\r\n");
            }
            assert_eq!(client.response("POST").text(), format!("{LARGE} bytes"), "{driver:?} {is_chunked}");
        }
        assert_eq!(slow_bodies(&server), 0.0, "{driver:?}");
    });
}

fn start_uploads(driver: Driver) -> (FakeUpstream, Server) {
    let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
    let site = Site::probe(driver, &uploads(&upstream)).http(PACE).secure("");
    (upstream, site.start())
}

#[test]
fn streams_of_http2_have_the_same_pace() {
    everywhere(start_uploads, |(_, server), over| {
        block_on(async {
            let client = H2Client::connect(server, over).await;
            for path in ["/up/x", "/app/size"] {
                let mut slow = client.begin(ask("POST", path, &[]), false).await.expect("open");
                let mut honest = client.begin(ask("POST", path, &[]), false).await.expect("open");
                let begin = Instant::now();
                let is_over = async {
                    // Ends when the stream does.
                    while slow.send(Bytes::from_static(b"x"), false).await.is_ok() && begin.elapsed() < SOON {
                        pause(Duration::from_millis(100)).await;
                    }
                    slow.reply().await
                };
                let is_honest = async {
                    for n in 0..40 {
                        pause(Duration::from_millis(100)).await;
                        honest.send(vec![b'x'; 70], n == 39).await.expect("it is read");
                    }
                    honest.reply().await
                };
                let (refused, served) = tokio::join!(is_over, is_honest);
                assert_eq!(refused.expect("an answer").status, 408, "{over:?} {path}");
                assert_eq!(served.expect("an answer").text(), "2800 bytes", "{over:?} {path}");
                assert!(begin.elapsed() < SOON, "{over:?} {path}: {:?}", begin.elapsed());
            }
            assert_eq!(client.get("/").await.text(), "root", "{over:?}: the connection stays");
        });
    });
}

/// A stream that a slow server does not take uses up the window of the connection: the other streams then cannot send.
#[test]
fn a_stream_is_not_blamed_for_the_window_that_another_uses_up() {
    let start = |driver| {
        let upstream = late_reader();
        let windows = "[http2]\nconnection_window = \"64KiB\"\n";
        let site = Site::probe(driver, &format!("{}{windows}", uploads(&upstream))).http(PACE).secure("");
        (upstream, site.start())
    };
    everywhere(start, |(_, server), over| {
        block_on(async {
            let client = H2Client::connect(server, over).await;
            let mut large = client.begin(ask("POST", "/up/x", &[]), false).await.expect("open");
            let mut small = client.begin(ask("POST", "/app/size", &[]), false).await.expect("open");
            let stalls = async {
                for n in 0..LARGE >> 20 {
                    large.send(vec![b'x'; 1 << 20], n == (LARGE >> 20) - 1).await.expect("it is read");
                }
                large.reply().await.expect("an answer").text()
            };
            let is_held_up = async {
                pause(Duration::from_millis(800)).await;
                small.send(vec![b'x'; 100_000], true).await.expect("it is read");
                small.reply().await.expect("an answer").text()
            };
            let (large, small) = tokio::join!(stalls, is_held_up);
            assert_eq!((large, small), (format!("{LARGE} bytes"), "100000 bytes".to_owned()), "{over:?}");
        });
        assert_eq!(slow_bodies(server), 0.0, "{over:?}");
    });
}
