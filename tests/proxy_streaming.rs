//! The proxy at the real binary while bodies stream: memory, cancellation, early answers, reuse of connections, and
//! nginx as the server behind it.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::client::NoResponse;
use support::http2::{H2Client, Over, ask, block_on};
use support::upstream::Then;
use support::*;

fn site_with(address: SocketAddr, keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\n{keys}\n"
    )
}

fn start(driver: Driver, upstream: &FakeUpstream, keys: &str) -> Server {
    Site::new(driver, &site_with(upstream.address, keys)).http("body_max = 0").start()
}

/// A moment longer than the server's clock ticks, for things that must not happen.
const MOMENT: Duration = Duration::from_millis(400);

#[test]
fn a_client_that_leaves_cancels_its_request() {
    with_both_drivers(|driver| {
        let closed = Arc::new(AtomicU64::new(0));
        let count = closed.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if exchange.request.method == "POST" {
                exchange.read_body();
            }
            if exchange.request.target == "/stream" {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            }
            if exchange.wait_for_close() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let mut expected = 0;
        for (text, wait_for) in [
            (get("/slow"), 0),
            (get("/stream"), 1),
            (post("/slow", "small"), 0),
            (post("/slow", &"x".repeat(200_000)), 0),
            ("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 500000\r\n\r\npart".to_owned(), 0),
        ] {
            for reset in [false, true] {
                let before = upstream.seen().len();
                let mut client = server.connect();
                client.send(&text);
                eventually("the request arrives", || upstream.seen().len() > before);
                if wait_for > 0 {
                    while client.buffered().is_empty() {
                        client.fill().expect("the beginning of the answer");
                    }
                }
                match reset {
                    true => client.reset(),
                    false => drop(client),
                }
                expected += 1;
                eventually(&format!("{driver:?} {:.40} {reset}: the server sees the close", text), || {
                    closed.load(Ordering::SeqCst) == expected
                });
            }
        }
        eventually("nothing is under way", || server.metric("one_server_upstream_requests_active", "") == 0.0);
    });
}

#[test]
fn an_early_answer_to_a_large_upload_arrives() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop");
            // As servers do: no reading, some time for the answer to arrive.
            std::thread::sleep(Duration::from_millis(100));
            Then::Close
        });
        let server = start(driver, &upstream, "");
        for _ in 0..5 {
            let mut client = server.connect();
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50000000\r\n\r\n");
            client.stream.set_nonblocking(false).expect("a socket");
            let mut sender = client.stream.try_clone().expect("a socket");
            let writer = std::thread::spawn(move || {
                let begin = Instant::now();
                let piece = [b'x'; 16 * 1024];
                while begin.elapsed() < Duration::from_millis(600) && sender.write_all(&piece).is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let response = client.response("POST");
            assert_eq!((response.status, response.text().as_str()), (403, "stop"), "{driver:?}");
            assert_eq!(client.end(), End::Closed, "{driver:?}");
            writer.join().expect("it ends");
        }
        server.wait_until_no_client();
        assert_eq!(server.connect().ask(get("/")).status, 403, "{driver:?}");
    });
}

/// A server that answers while it reads: both directions stream at the same time.
#[test]
fn an_answer_may_begin_before_the_upload_has_ended() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut answer = exchange.stream.try_clone().expect("a socket");
            let complete = exchange.drain_body(|bytes| {
                let _ = answer.write_all(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat());
            });
            if complete {
                exchange.send("0\r\n\r\n");
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n");
        let body = pattern(2_000_000);
        // Ping-pong first: the second half is sent only when some of the first has come back.
        client.send(&body[..1_000_000]);
        while client.buffered().len() < 500_000 {
            assert!(client.fill().expect("the echo begins") > 0, "{driver:?}");
        }
        client.send(&body[1_000_000..]);
        assert!(client.response("POST").body == body, "{driver:?}");
        // A client that stops sending is not waited for for ever, and its answer is not completed.
        let server =
            Site::new(driver, &site_with(upstream.address, "")).http("body_max = 0\nbody_timeout = \"500ms\"").start();
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n").send(&body[..100_000]);
        let result = client.try_response("POST");
        assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?}: {result:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn large_transfers_take_little_memory() {
    const BYTES: u64 = 200 << 20;
    with_both_drivers(|driver| {
        let sum = Arc::new(Mutex::new(0_u64));
        let total = sum.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if exchange.request.method == "POST" {
                let mut bytes = 0;
                exchange.drain_body(|piece| bytes += piece.len() as u64);
                *total.lock().expect("a lock") = bytes;
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return Then::Keep;
            }
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
            let piece = vec![b'd'; 1 << 20];
            for _ in 0..BYTES >> 20 {
                if !exchange.send(&piece) {
                    break;
                }
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let upload = |chunked: bool| {
            let mut client = server.connect();
            let framing =
                if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {BYTES}") };
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
            let piece = vec![b'u'; 1 << 20];
            for _ in 0..BYTES >> 20 {
                match chunked {
                    true => client.send("100000\r\n").send(&piece).send("\r\n"),
                    false => client.send(&piece),
                };
            }
            if chunked {
                client.send("0\r\n\r\n");
            }
            assert_eq!(client.response("POST").text(), "ok", "{driver:?}");
            assert_eq!(*sum.lock().expect("a lock"), BYTES, "{driver:?}");
        };
        let download = || {
            let mut client = server.connect();
            client.send(request("GET", "/", &["Connection: close"], ""));
            std::io::copy(&mut client.stream, &mut std::io::sink()).expect("a download")
        };
        upload(false);
        upload(true);
        assert!(download() > BYTES, "{driver:?}");
        // Consumers that stop: what waits for them must not pile up here.
        let mut slow: Vec<Client> = (0..10).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut slow, &get("/"));
        std::thread::sleep(Duration::from_millis(500));
        let (now, peak) = server.resident_mib();
        assert!(now < 80 && peak < 80, "{driver:?}: {now} MiB now, {peak} MiB at most");
        let mut piece = vec![0; 1 << 20];
        slow[0].stream.read_exact(&mut piece).expect("it goes on");
    });
}

/// Against a real server, in case the fake one and we share a misunderstanding.
#[test]
fn nginx_behind_us_gets_and_answers_everything() {
    if !has_program("nginx") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    // Asked for and given back: nobody else takes an ephemeral port at once.
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let big = pattern(3_000_000);
    std::fs::create_dir_all(path.join("html")).expect("a folder");
    std::fs::write(path.join("html/big.bin"), &big).expect("a file");
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; client_max_body_size 100m; keepalive_requests 7;\n\
         server {{ listen {address}; root {0}/html;\n\
         location /echo {{ proxy_pass http://{address}/sink; proxy_pass_request_body on; }}\n\
         location /sink {{ return 200 \"$request_method $content_length $http_x_forwarded_for $request_uri\"; }} }} }}",
        path.display()
    );
    std::fs::write(path.join("nginx.conf"), config).expect("a config");
    let mut nginx = Command::new("nginx")
        .arg("-p")
        .arg(path)
        .args(["-e", "stderr", "-c"])
        .arg(path.join("nginx.conf"))
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts");
    let result = std::panic::catch_unwind(|| {
        eventually("nginx listens", || std::net::TcpStream::connect(address).is_ok());
        with_both_drivers(|driver| {
            let server = Site::new(driver, &site_with(address, "")).http("body_max = 0").start();
            let mut client = server.connect();
            // More requests than nginx allows on one connection, so that its closes are met with.
            for n in 0..40 {
                let response = client.ask(get(&format!("/sink?n={n}")));
                assert_eq!(response.text(), format!("GET  127.0.0.1 /sink?n={n}"), "{driver:?}");
                let response = client.ask(request("PUT", "/echo", &[], &"x".repeat(n * 1000)));
                assert_eq!(response.status, 200, "{driver:?}");
            }
            assert!(client.ask(get("/big.bin")).body == big, "{driver:?}");
            let part = client.ask(request("GET", "/big.bin", &["Range: bytes=1000000-1999999"], ""));
            assert!(part.status == 206 && part.body == big[1_000_000..2_000_000], "{driver:?}");
            let head = client.ask(request("HEAD", "/big.bin", &[], ""));
            assert_eq!(head.field("content-length"), Some("3000000"), "{driver:?}");
            assert_eq!(client.ask(get("/none")).status, 404, "{driver:?}");
            let body = "y".repeat(1_000_000);
            client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
            let text = client.response("POST").text();
            assert!(text.starts_with("POST 1000000 "), "{driver:?}: {text}");
        });
    });
    let _ = nginx.kill();
    let _ = nginx.wait();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn requests_reuse_the_servers_connections() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("ok"));
        let keys = "keep_idle_timeout = \"1s\"";
        let server = Site::new(driver, &site_with(upstream.address, keys)).one_worker().start();
        for _ in 0..50 {
            assert_eq!(server.connect().ask(get("/")).text(), "ok");
        }
        assert!(upstream.connections() <= 2, "{driver:?}: {} connections", upstream.connections());
        // And close them before the server does.
        let begin = Instant::now();
        upstream.wait_until_all_closed();
        assert!(
            begin.elapsed() > MOMENT && begin.elapsed() < Duration::from_secs(12),
            "{driver:?}: {:?}",
            begin.elapsed()
        );
    });
}

/// Servers that send head and content one after the other: the two leave together if the content comes at once, and the head
/// alone if it does not.
#[test]
fn a_head_does_not_wait_for_a_content_that_takes_its_time() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let pause = Duration::from_millis(exchange.request.target[1..].parse().expect("a number"));
            for piece in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "he", "llo"] {
                exchange.stream.write_all(piece.as_bytes()).expect("it reads");
                std::thread::sleep(pause);
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        for pause in [0, 3, 8, 900] {
            let mut client = TcpStream::connect(server.web()).expect("a connection");
            client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            write!(client, "GET /{pause} HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("it reads");
            let (begun, mut got, mut chunk) = (Instant::now(), Vec::new(), [0; 4096]);
            let mut more = |got: &mut Vec<u8>| {
                let count = client.read(&mut chunk).expect("an answer");
                assert!(count > 0, "{pause}");
                got.extend_from_slice(&chunk[..count]);
            };
            while !got.windows(4).any(|four| four == b"\r\n\r\n") {
                more(&mut got);
            }
            assert!(begun.elapsed() < Duration::from_millis(800), "{pause}: {:?}", begun.elapsed());
            while !got.ends_with(b"hello") {
                more(&mut got);
            }
        }
    });
}

/// A head is held for its short content. What the server is given from there on is `idle_timeout` from one piece to the next, while
/// the client takes what there is.
#[test]
fn a_client_that_takes_a_short_answer_slowly_does_not_use_up_the_servers_time() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789abcdefghij");
            for piece in ["klmno", "pqrst", "uvwxy", "z...."] {
                std::thread::sleep(Duration::from_millis(600));
                if !exchange.send(piece) {
                    return Then::Close;
                }
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "idle_timeout = \"1s\"");
        let body = block_on(async {
            let mut settings = h2::client::Builder::new();
            settings.initial_window_size(10);
            let client = H2Client::connect_with(&server, Over::Clear, &settings).await;
            let mut exchange = client.begin(ask("GET", "/", &[]), true).await.expect("a stream");
            let (_, mut content) = exchange.head().await.expect("a head");
            // The rest of its window is given late.
            tokio::time::sleep(Duration::from_millis(3000)).await;
            let mut body = Vec::new();
            while let Some(data) = content.data().await {
                let data = data.unwrap_or_else(|error| panic!("{driver:?}: {error}, behind {} bytes", body.len()));
                content.flow_control().release_capacity(data.len()).expect("a window");
                body.extend_from_slice(&data);
            }
            body
        });
        assert_eq!(String::from_utf8_lossy(&body), "0123456789abcdefghijklmnopqrstuvwxyz....", "{driver:?}");
    });
}
