//! HTTP/2 towards real servers: nghttpd and nginx, in clear text and over TLS, from clients of every version of HTTP. What goes
//! over HTTP/1.1 goes over HTTP/2 as well: bodies, retries, health, mirrors, idle times, the death of a server under load.

mod support;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::fake_http2::FakeHttp2;
use support::frames::{self, Block, END_HEADERS, END_STREAM, Http2, data, headers};
use support::nginx::Nginx;
use support::ports::free_port;
use support::tls::{Kind, trusted};
use support::*;

/// A running nghttpd; killed when dropped.
struct Nghttpd {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Nghttpd {
    /// `None`, and said so: it is not installed.
    fn start() -> Option<Nghttpd> {
        if !has_program("nghttpd") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("big"), pattern(8 << 20)).expect("a file");
        std::fs::write(folder.path().join("small"), b"small content").expect("a file");
        let port = free_port();
        Some(Nghttpd { child: nghttpd(port, folder.path()), address: ([127, 0, 0, 1], port).into(), folder })
    }

    /// Ends it with no chance to say so.
    fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it ran");
    }

    fn start_again(&mut self) {
        self.child = nghttpd(self.address.port(), self.folder.path());
    }
}

fn nghttpd(port: u16, folder: &std::path::Path) -> Child {
    let mut command = Command::new("nghttpd");
    command.args(["--no-tls", "--echo-upload", "--address=127.0.0.1", "-d"]).arg(folder).arg(port.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nghttpd starts");
    eventually("nghttpd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

impl Drop for Nghttpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn site(servers: &[SocketAddr], keys: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n{keys}\n",
        servers.join(", ")
    )
}

fn start(driver: Driver, servers: &[SocketAddr], keys: &str) -> Server {
    let keys = format!("health = false\nprotocol = \"h2\"\n{keys}");
    Site::new(driver, &site(servers, &keys)).one_worker().http("body_max = 0").start()
}

#[test]
fn clients_of_every_version_get_what_the_server_has() {
    let Some(upstream) = Nghttpd::start() else { return };
    with_both_drivers(|driver| {
        let keys = "health = false\nprotocol = \"h2\"";
        let server = Site::new(driver, &site(&[upstream.address], keys))
            .one_worker()
            .http("body_max = 0")
            .secure("http3 = true")
            .start();
        let mut client = server.connect();
        let small = client.ask(get("/small"));
        assert_eq!((small.text().as_str(), small.field("content-length")), ("small content", Some("13")), "{driver:?}");
        let big = client.ask(get("/big"));
        assert!(big.body == pattern(8 << 20), "{driver:?}");
        let head = client.ask(request("HEAD", "/big", &[], ""));
        assert_eq!((head.status, head.field("content-length")), (200, Some("8388608")), "{driver:?}");
        assert_eq!(client.ask(get("/nothing")).status, 404, "{driver:?}");
        // Echoed, so both directions stream at the same time.
        let body = String::from_utf8(vec![b'u'; 3 << 20]).expect("text");
        assert!(client.ask(post("/", &body)).body == body.as_bytes(), "{driver:?}");
        assert_eq!(client.ask(post("/", "few")).text(), "few", "{driver:?}");
        client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nchun\r\n3\r\nked\r\n0\r\nX-T: 1\r\n\r\n");
        assert_eq!(client.response("POST").text(), "chunked", "{driver:?}");
        let mut client = Http2::connect(server.web());
        assert!(client.get(1, "/big").body == pattern(8 << 20), "{driver:?}");
        if http3::python().is_some() {
            let seen = http3::run(
                &server,
                json!({}),
                json!([
                    { "op": "request", "name": "big", "path": "/big" },
                    { "op": "request", "name": "up", "method": "POST", "path": "/", "content": { "pattern": 3_000_000 } },
                ]),
            );
            assert_eq!((seen.answer("big").status(), seen.answer("big").length()), (200, 8 << 20), "{driver:?}");
            assert_eq!(seen.answer("up").length(), 3_000_000, "{driver:?}");
        }
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}");
    });
}

#[test]
fn a_server_chooses_its_version_over_tls() {
    let identity = trusted().server(&["api.internal"], Kind::Ecdsa);
    let nginx = |http2: &str| {
        let http = format!(
            "server {{ listen $LISTEN ssl {http2}; ssl_certificate $DIR/s.pem; ssl_certificate_key $DIR/s.key;\n\
             location / {{ return 200 '$server_protocol $ssl_server_name'; }} }}"
        );
        Nginx::start(&http, &[("s.pem", identity.chain.as_bytes()), ("s.key", identity.key.as_bytes())])
    };
    let (Some(new), Some(old)) = (nginx("http2"), nginx("")) else { return };
    with_both_drivers(|driver| {
        for (server, protocol, expect) in [
            (&new, "h2", (200, "HTTP/2.0 api.internal")),
            (&new, "auto", (200, "HTTP/2.0 api.internal")),
            (&new, "http1", (200, "HTTP/1.1 api.internal")),
            (&old, "auto", (200, "HTTP/1.1 api.internal")),
            (&old, "h2", (502, "")),
        ] {
            let keys = format!(
                "health = {{ path = \"/\", interval = \"100ms\" }}\nprotocol = \"{protocol}\"\ntries = 1\n\
                 tls = {{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }}"
            );
            let site = Site::new(driver, &site(&[server.address], &keys)).one_worker();
            let server = site.file("ca.pem", trusted().pem.as_bytes()).start();
            let web = server.web();
            let asking: Vec<_> =
                (0..5).map(|_| std::thread::spawn(move || Client::connect(web).ask(get("/")))).collect();
            for asked in asking {
                let answer = asked.join().expect("an answer");
                if expect.0 == 200 {
                    assert_eq!((answer.status, answer.text().as_str()), expect, "{driver:?} {protocol}");
                } else {
                    assert!(answer.status >= 502, "{driver:?} {protocol}: {}", answer.status);
                }
            }
            let is_up = || server.metric("one_server_upstream_server_up", "") == 1.0;
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(is_up(), expect.0 == 200, "{driver:?} {protocol}: checks speak the same");
            if expect.0 != 200 {
                server.wait_for_line("why", |line| line.contains("NoApplicationProtocol"));
            }
        }
    });
}

#[test]
fn checks_ask_over_http2() {
    let Some(upstream) = Nghttpd::start() else { return };
    for (health, expect) in [
        ("{ path = \"/small\", expect_body = \"small content\" }", true),
        ("{ path = \"/big\" }", true),
        ("{ path = \"/nothing\" }", false),
        ("{ path = \"/small\", expect_body = \"other\" }", false),
        ("{ path = \"/small\", protocol = \"http1\" }", false),
        ("true", true),
    ] {
        let health = health.replace(" }", ", interval = \"100ms\", fall = 1 }");
        let keys = format!("protocol = \"h2\"\nhealth = {health}");
        let server = Site::new(Driver::Auto, &site(&[upstream.address], &keys)).start();
        if expect {
            std::thread::sleep(Duration::from_millis(500));
        }
        eventually(&health, || (server.metric("one_server_upstream_server_up", "") == 1.0) == expect);
    }
}

#[test]
fn idle_connections_are_closed() {
    with_both_drivers(|driver| {
        let ended = Arc::new(AtomicUsize::new(0));
        let counted = ended.clone();
        let upstream = FakeHttp2::start(&[], move |peer| {
            while let Some(frame) = peer.next() {
                match frame.kind {
                    frames::HEADERS => peer.answer(frame.stream_id, "yes"),
                    frames::GOAWAY if frame.code() == frames::NO_ERROR => drop(counted.fetch_add(1, Ordering::SeqCst)),
                    _ => {}
                }
            }
            counted.fetch_add(10, Ordering::SeqCst);
        });
        let server = start(driver, &[upstream.address], "keep_idle_timeout = \"1s\"");
        for _ in 0..3 {
            assert_eq!(server.connect().ask(get("/")).text(), "yes", "{driver:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!((upstream.connections(), ended.load(Ordering::SeqCst)), (1, 0), "{driver:?}");
        eventually("a goodbye and the end", || ended.load(Ordering::SeqCst) == 11);
        assert_eq!(server.connect().ask(get("/")).text(), "yes", "{driver:?}");
        assert_eq!(upstream.connections(), 2, "{driver:?}");
    });
}

#[test]
fn the_death_of_a_server_under_load_harms_no_request_that_may_be_repeated() {
    with_both_drivers(|driver| {
        let (Some(mut first), Some(second)) = (Nghttpd::start(), Nghttpd::start()) else { return };
        let keys = "health = false\nprotocol = \"h2\"";
        let server = Site::new(driver, &site(&[first.address, second.address], keys)).start();
        let (web, is_over) = (server.web(), Arc::new(AtomicBool::new(false)));
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let is_over = is_over.clone();
                std::thread::spawn(move || {
                    let (mut client, mut count) = (Client::connect(web), 0);
                    while !is_over.load(Ordering::SeqCst) {
                        let answer = client.ask(get("/small"));
                        assert_eq!((answer.status, answer.text().as_str()), (200, "small content"), "{driver:?}");
                        if answer.is_last() {
                            client = Client::connect(web);
                        }
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(400));
            first.kill();
            std::thread::sleep(Duration::from_millis(400));
            first.start_again();
        }
        is_over.store(true, Ordering::SeqCst);
        let counts: Vec<usize> = asking.into_iter().map(|asking| asking.join().expect("all well")).collect();
        assert!(counts.iter().all(|count| *count > 5), "{driver:?} {counts:?}");
    });
}

#[test]
fn trailers_go_both_ways() {
    with_both_drivers(|driver| {
        // Says behind its answer what came behind the request: the number of frames of trailers.
        let upstream = FakeHttp2::start(&[], |peer| {
            let mut heads = 0;
            while let Some(frame) = peer.next() {
                heads += usize::from(frame.kind == frames::HEADERS);
                if frame.kind == frames::RST_STREAM || !frame.has(END_STREAM) {
                    continue;
                }
                let id = frame.stream_id;
                let head = Block::default().field(":status", "200").field("content-type", "text/plain");
                peer.send([headers(id, END_HEADERS, &head), data(id, 0, "content")].concat());
                let trailers = Block::default().field("grpc-status", "0").field("x-heads", heads.to_string());
                peer.send(headers(id, END_HEADERS | END_STREAM, &trailers));
                heads = 0;
            }
        });
        let server = Site::new(driver, &site(&[upstream.address], "health = false\nprotocol = \"h2\""))
            .one_worker()
            .secure("http3 = true")
            .start();
        let mut client = Http2::connect(server.web());
        for (id, pause) in [(1, 0), (3, 100)] {
            let head = Block::post("/").field("te", "trailers");
            client.send(headers(id, END_HEADERS, &head)).send(data(id, 0, "up"));
            std::thread::sleep(Duration::from_millis(pause));
            client.send(headers(id, END_HEADERS | END_STREAM, &Block::default().field("x-sum", "1")));
            let (mut heads, mut content) = (0, Vec::new());
            loop {
                let frame = client.next().expect("a frame");
                match frame.kind {
                    frames::HEADERS => heads += 1,
                    frames::DATA => content.extend(&frame.payload),
                    _ => continue,
                }
                if frame.has(END_STREAM) {
                    assert_eq!(
                        (frame.kind, heads, content.as_slice()),
                        (frames::HEADERS, 2, &b"content"[..]),
                        "{driver:?}"
                    );
                    break;
                }
            }
        }
        if http3::python().is_some() {
            let seen = http3::run(
                &server,
                json!({}),
                json!([
                    { "op": "request", "name": "a", "path": "/", "method": "POST", "content": "up", "ends": false, "waits": false },
                    { "op": "trailers", "name": "a" },
                    { "op": "wait", "name": "a" },
                ]),
            );
            let trailers = seen.answer("a").trailers();
            assert_eq!(trailers, [["grpc-status", "0"], ["x-heads", "2"]], "{driver:?}");
        }
        // Over HTTP/1.1 they are for those who say that they read them: tests/trailers.rs.
        let answer = server.connect().ask(get("/"));
        assert_eq!((answer.text().as_str(), answer.trailers.len()), ("content", 0), "{driver:?}");
    });
}

#[test]
fn copies_go_to_servers_of_http2_as_well() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let mirror = FakeHttp2::start(&[], move |peer| {
        while let Some(frame) = peer.next() {
            if frame.kind == frames::DATA && frame.payload == b"copied" && frame.has(END_STREAM) {
                counted.fetch_add(1, Ordering::SeqCst);
                peer.answer(frame.stream_id, "thrown away");
            }
        }
    });
    let Some(upstream) = Nghttpd::start() else { return };
    let text = format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\nmirror = \"copy\"\n[upstream.up]\nservers = \"{}\"\n\
         health = false\nprotocol = \"h2\"\n[upstream.copy]\nservers = \"{}\"\nhealth = false\nprotocol = \"h2\"\n",
        upstream.address, mirror.address
    );
    let server = Site::new(Driver::Auto, &text).one_worker().start();
    for _ in 0..5 {
        assert_eq!(server.connect().ask(post("/", "copied")).text(), "copied");
    }
    eventually("copies", || seen.load(Ordering::SeqCst) == 5);
    eventually("all went well", || server.metric("one_server_upstream_responses_total", "upstream=\"copy\"") == 5.0);
    assert_eq!(
        (mirror.connections(), server.metric("one_server_upstream_connects_total", "upstream=\"copy\"")),
        (1, 1.0)
    );
}

#[test]
fn the_log_and_the_metrics_tell_as_of_other_servers() {
    let Some(upstream) = Nghttpd::start() else { return };
    let server = Site::new(Driver::Auto, &site(&[upstream.address], "health = false\nprotocol = \"h2\""))
        .one_worker()
        .log("access = \"$DIR/access.log\"\nformat = \"%b/%s %ST %B $upstream_status %ts\"\n")
        .start();
    let begun = Instant::now();
    for path in ["/small", "/nothing", "/small"] {
        server.connect().ask(get(path));
    }
    let log = server.folder().join("access.log");
    eventually("lines", || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 3));
    let text = std::fs::read_to_string(&log).expect("a log");
    let expect = format!("up/{} 200 ", upstream.address);
    assert!(text.lines().filter(|line| line.starts_with(&expect) && line.ends_with("200 --")).count() == 2, "{text}");
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(server.metric("one_server_upstream_requests_total", ""), 3.0);
    assert_eq!(server.metric("one_server_upstream_reuses_total", ""), 2.0);
}
