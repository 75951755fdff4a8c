//! TCP mode at the real binary: bytes both ways and their ends, choice of servers, names of TLS that is passed on, the PROXY
//! protocol towards servers, limits, drain. Peers: plain sockets, curl, nginx, HAProxy, MariaDB.

#[allow(dead_code, reason = "the tests of the splitter use the rest")]
#[path = "support/mariadb.rs"]
mod mariadb;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::nginx::Nginx;
use support::ports::{self, free_address};
use support::stream::{TcpServer, reset_on_close};
use support::tls::{Kind, TlsClient, TlsEnd, client_config, trusted};
use support::*;

/// A listener `db` in TCP mode in front of an upstream `db`, beside a site; `listener` and `upstream` are further keys.
fn site(driver: Driver, servers: &[SocketAddr], listener: &str, upstream: &str) -> Site {
    let tcp = if listener.contains("tcp =") { "" } else { "tcp = \"db\"" };
    Site::new(
        driver,
        &format!(
            "[listener.db]\naddress = \"127.0.0.1:0\"\n{tcp}\n{listener}\n\
             [upstream.db]\nservers = {servers:?}\nhealth = false\n{upstream}\n\
             [site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{}}\n",
            servers = servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        ),
    )
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// The next line.
fn line(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("more of the line") == 1 && byte[0] != b'\n' {
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

fn take(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    stream.read_exact(&mut taken).expect("so many bytes");
    taken
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut taken = Vec::new();
    stream.read_to_end(&mut taken).expect("an end");
    taken
}

#[test]
fn both_sides_speak_first_and_as_they_like() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::echo("hello");
        let server = site(driver, &[upstream.address], "", "").start();
        let mut client = connect(server.address("db"));
        assert_eq!(line(&mut client), "hello");
        for n in 0..200 {
            let text = format!("message {n}, GET / HTTP/1.1\r\n\r\n");
            client.write_all(text.as_bytes()).expect("sent");
            assert_eq!(take(&mut client, text.len()), text.as_bytes(), "{driver:?}");
        }
        assert_eq!(server.metric("one_server_tcp_connections", ""), 1.0);
        assert_eq!(server.metric("one_server_spliced_bytes_total", ""), 0.0, "small messages are copied");
        // The client ends its direction; the other one goes on.
        client.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(rest(&mut client), b"bye", "{driver:?}");
        eventually("it has ended", || server.metric("one_server_tcp_connections", "") == 0.0);
        assert_eq!(server.metric("one_server_upstream_requests_active", "upstream=\"db\""), 0.0);
        assert_eq!(server.metric("one_server_tcp_connection_duration_seconds_count", "listener=\"db\""), 1.0);
    });
}

#[test]
fn a_hundred_megabytes_each_way_arrive_as_they_were_sent() {
    const BYTES: usize = 100 << 20;
    with_both_drivers(|driver| {
        let upstream = TcpServer::echo("hello");
        let server = site(driver, &[upstream.address], "", "").start();
        let mut client = connect(server.address("db"));
        assert_eq!(line(&mut client), "hello");
        let sent = pattern(BYTES);
        let mut writer = client.try_clone().expect("a socket");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).expect("the server takes it");
                writer.shutdown(Shutdown::Write).expect("a socket");
            });
            let (mut chunk, mut at) = (vec![0; 1 << 20], 0);
            while at < BYTES {
                let count = client.read(&mut chunk[..(BYTES - at).min(1 << 20)]).expect("more");
                assert!(count > 0 && chunk[..count] == sent[at..at + count], "{driver:?}: {count} bytes at {at}");
                at += count;
            }
        });
        assert_eq!(rest(&mut client), b"bye");
        let metric = |name: &str, labels: &str| server.metric(name, labels) as usize;
        eventually("all is counted", || metric("one_server_tcp_received_bytes_total", "listener=\"db\"") == BYTES);
        assert_eq!(metric("one_server_tcp_sent_bytes_total", "listener=\"db\""), BYTES + 9);
        assert_eq!(metric("one_server_upstream_tunnel_sent_bytes_total", "upstream=\"db\""), BYTES);
        let spliced = metric("one_server_spliced_bytes_total", "");
        assert!(spliced > BYTES, "{driver:?}: only {spliced} of {} bytes were spliced", 2 * BYTES);
        let (resident, _) = server.resident_mib();
        assert!(resident < 120, "{driver:?}: {resident} MiB");
    });
}

#[test]
fn one_that_does_not_read_slows_the_other_down_and_costs_no_memory() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::start(|mut stream| {
            let piece = pattern(1 << 20);
            for _ in 0..200 {
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let server = site(driver, &[upstream.address], "", "").start();
        let (before, _) = server.resident_mib();
        let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(server.address("db"))).collect();
        std::thread::sleep(Duration::from_millis(700));
        let (now, _) = server.resident_mib();
        assert!(now < before + 20, "{driver:?}: {before} MiB, then {now} MiB");
        // Whoever reads gets all of it, while the others still do not.
        let mut client = clients.pop().expect("a client");
        let (piece, mut got) = (pattern(1 << 20), vec![0; 1 << 20]);
        for at in 0..200 {
            client.read_exact(&mut got).expect("the next piece");
            assert!(got == piece, "{driver:?}: piece {at}");
        }
        assert_eq!(rest(&mut client), b"");
        drop((client, clients));
        eventually("all have ended", || server.metric("one_server_tcp_connections", "") == 0.0);
    });
}

#[test]
fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::start(|mut stream| {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the client's end");
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(format!("{} bytes", got.len()).as_bytes()).expect("the client still listens");
        });
        let server = site(driver, &[upstream.address], "", "").start();
        for bytes in [0, 5, 3 << 20] {
            let mut client = connect(server.address("db"));
            client.write_all(&pattern(bytes)).expect("sent");
            client.shutdown(Shutdown::Write).expect("a socket");
            assert_eq!(rest(&mut client), format!("{bytes} bytes").as_bytes(), "{driver:?}");
        }
        // The other way round: the server ends, the client goes on.
        let upstream = TcpServer::start(|mut stream| {
            stream.write_all(b"go").expect("sent");
            stream.shutdown(Shutdown::Write).expect("a socket");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the client's end");
            assert_eq!(got, b"late words");
        });
        let server = site(driver, &[upstream.address], "", "").start();
        let mut client = connect(server.address("db"));
        assert_eq!(rest(&mut client), b"go");
        std::thread::sleep(Duration::from_millis(200));
        client.write_all(b"late words").expect("it is still open");
        drop(client);
        eventually("all is counted", || server.metric("one_server_tcp_received_bytes_total", "") == 10.0);
    });
}

#[test]
fn a_reset_is_passed_on_as_one() {
    with_both_drivers(|driver| {
        let (tell, told) = std::sync::mpsc::sync_channel(8);
        let upstream = TcpServer::start(move |mut stream| {
            let mut word = [0; 6];
            stream.read_exact(&mut word).expect("a word");
            if &word == b"reset!" {
                std::thread::sleep(Duration::from_millis(100));
                return reset_on_close(&stream);
            }
            let _ = stream.write_all(b"listen");
            let _ = tell.send(stream.read(&mut word).map_err(|error| error.kind()));
        });
        let server = site(driver, &[upstream.address], "", "")
            .log("access = \"$DIR/access.log\"\ntcp_format = \"tcplog\"")
            .start();
        let mut client = connect(server.address("db"));
        client.write_all(b"reset!").expect("sent");
        let end = client.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{driver:?}: from the server");
        let first = server.logged(" SD ");
        assert!(first.contains(" db db/127.0.0.1:"), "{first}");
        let mut client = connect(server.address("db"));
        client.write_all(b"listen").expect("sent");
        assert_eq!(take(&mut client, 6), b"listen");
        reset_on_close(&client);
        drop(client);
        let end = told.recv_timeout(PATIENCE).expect("the server hears of it");
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{driver:?}: from the client");
        server.logged(" CD ");
        eventually("both count", || server.metric("one_server_tcp_resets_total", "") == 2.0);
    });
}

#[test]
fn silence_ends_a_connection_and_talk_keeps_it() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::echo("hello");
        let server = site(driver, &[upstream.address], "", "tunnel_timeout = \"600ms\"")
            .log("access = \"$DIR/access.log\"\nformat = \"haproxy\"")
            .start();
        let mut client = connect(server.address("db"));
        assert_eq!(line(&mut client), "hello");
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(250));
            client.write_all(b"x").expect("sent");
            assert_eq!(take(&mut client, 1), b"x", "{driver:?}");
        }
        let begun = Instant::now();
        let _ = client.read_to_end(&mut Vec::new());
        assert!((400..3000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        // `haproxy` for requests stands for `tcplog` here.
        let line = server.logged(" sD ");
        assert!(line.starts_with("127.0.0.1:") && line.contains(" 11 sD "), "{driver:?} {line}");
        assert_eq!(server.metric("one_server_tcp_timeouts_total", "listener=\"db\""), 1.0);
    });
}

#[test]
fn a_half_closed_connection_has_a_time_of_its_own() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::start(|stream| {
            std::thread::sleep(PATIENCE);
            drop(stream);
        });
        let server = site(driver, &[upstream.address], "", "half_closed_timeout = \"400ms\"").start();
        let mut client = connect(server.address("db"));
        client.shutdown(Shutdown::Write).expect("a socket");
        let begun = Instant::now();
        let _ = client.read_to_end(&mut Vec::new());
        assert!((300..3000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
    });
}

#[test]
fn a_server_that_is_down_costs_nobody_a_connection() {
    with_both_drivers(|driver| {
        let (first, second, dead) = (TcpServer::echo("first"), TcpServer::echo("second"), free_address());
        let server = site(driver, &[dead, first.address, second.address], "", "")
            .log("access = \"$DIR/access.log\"\ntcp_format = \"%b/%s rc=%rc %ts $status $tries\"")
            .start();
        let mut names: Vec<String> = (0..12).map(|_| line(&mut connect(server.address("db")))).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["first", "second"], "{driver:?}");
        assert!(server.metric("one_server_upstream_connect_errors_total", "upstream=\"db\"") >= 1.0);
        server.logged("-- 200 2");
        // Nobody left.
        let server = site(driver, &[dead], "", "tries = 2\nconnect_timeout = \"200ms\"")
            .log("access = \"$DIR/access.log\"\ntcp_format = \"%b/%s rc=%rc %ts $status $tries\"")
            .start();
        let mut client = connect(server.address("db"));
        assert_eq!(rest(&mut client), b"", "{driver:?}");
        let told = server.logged("502");
        assert_eq!(told, format!("db/{dead} rc=1 SC 502 2"), "{driver:?}");
        assert_eq!(server.metric("one_server_tcp_unserved_total", ""), 1.0);
    });
}

#[test]
fn connections_are_spread_and_leave_with_the_servers_health() {
    let (first, second) = (TcpServer::echo("first"), TcpServer::echo("second"));
    let server =
        site(Driver::Auto, &[first.address, second.address], "", "balance = \"least-conn\"").one_worker().start();
    let mut held: Vec<TcpStream> = (0..10).map(|_| connect(server.address("db"))).collect();
    let names: Vec<String> = held.iter_mut().map(line).collect();
    assert_eq!(names.iter().filter(|name| *name == "first").count(), 5, "{names:?}");
    assert_eq!(server.metric("one_server_upstream_requests_active", ""), 10.0);
    // A backup only when nobody else is there.
    let (dead, backup) = (free_address(), TcpServer::echo("backup"));
    let text = format!(
        "[listener.db]\naddress = \"127.0.0.1:0\"\ntcp = \"db\"\n[upstream.db]\nservers = [\"{dead}\", {{ address = \"{}\", backup = true }}]\nhealth = {{ interval = \"100ms\" }}\n[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{}}\n",
        backup.address
    );
    let server = Site::new(Driver::Auto, &text).start();
    eventually("the check notices", || server.metric("one_server_upstream_server_up", "") == 1.0);
    assert_eq!(line(&mut connect(server.address("db"))), "backup");
    assert_eq!(server.metric("one_server_upstream_connect_errors_total", ""), 0.0);
}

#[test]
fn tls_may_end_at_the_listener() {
    with_both_drivers(|driver| {
        let (upstream, other) = (TcpServer::echo("plain"), TcpServer::echo("other"));
        let names = format!(
            "tcp = {{ localhost = \"db\", default = \"other\" }}\n\
             tls = {{ certificates = [{{ chain = \"$DIR/own.pem\", key = \"$DIR/own.key\" }}] }}\n\
             [upstream.other]\nservers = \"{}\"\nhealth = false",
            other.address
        );
        let identity = trusted().server(&["localhost", "other.test"], Kind::Ecdsa);
        let server = site(driver, &[upstream.address], &names, "").identity("own", &identity).start();
        let mut client =
            TlsClient::connect_with(server.address("db"), "other.test", client_config(&["x/1"])).expect("TLS");
        assert_eq!(client.take(6), b"other\n", "{driver:?}: by name");
        let mut client = TlsClient::connect(server.address("db"));
        assert_eq!(client.take(6), b"plain\n", "{driver:?}");
        let sent = pattern(3 << 20);
        for piece in sent.chunks(40_000) {
            client.send(piece);
            assert!(client.take(piece.len()) == piece, "{driver:?}");
        }
        client.finish_sending();
        let (rest, end) = client.read_to_end();
        assert_eq!((rest.as_slice(), end), (b"bye".as_slice(), TlsEnd::CloseNotify), "{driver:?}");
        // Clear text is no TLS.
        let mut client = connect(server.address("db"));
        client.write_all(b"SELECT 1\n").expect("sent");
        let _ = client.read_to_end(&mut Vec::new());
        assert_eq!(upstream.taken(), 1);
    });
}

/// nginx that says who it is, over TLS with a certificate for its name.
fn nginx_of(name: &str) -> Option<Nginx> {
    let identity = trusted().server(&[name], Kind::Ecdsa);
    let http = format!(
        "server {{ listen $LISTEN ssl; http2 on; ssl_certificate $DIR/own.pem; ssl_certificate_key $DIR/own.key;\n\
         location / {{ return 200 \"{name}, asked for $ssl_server_name over $server_protocol\"; }} }}"
    );
    // Debian 12's nginx has `http2` in `listen`.
    let http = match nginx_has_http2_directive() {
        true => http,
        false => http.replace("ssl; http2 on;", "ssl http2;"),
    };
    Nginx::start(&http, &[("own.pem", identity.chain.as_bytes()), ("own.key", identity.key.as_bytes())])
}

fn nginx_has_http2_directive() -> bool {
    let output = Command::new("nginx").arg("-v").output().expect("nginx runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let minor = text.split("nginx/1.").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 25)
}

/// curl asks for a name at our address, verifying the certificate of whoever answers.
fn curl_to(address: SocketAddr, name: &str, ca: &std::path::Path, more: &[&str]) -> (i32, String) {
    let port = address.port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--resolve", &format!("{name}:{port}:127.0.0.1"), "--cacert"])
        .arg(ca)
        .args(more)
        .arg(format!("https://{name}:{port}/"))
        .output()
        .expect("curl runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn tls_goes_to_whom_it_asks_for_and_ends_there() {
    if !has_program("curl") {
        return;
    }
    let (Some(one), Some(web)) = (nginx_of("db.example.org"), nginx_of("www.example.org")) else { return };
    with_both_drivers(|driver| {
        let other = TcpServer::echo("other");
        let names = format!(
            "tcp = {{ \"db.example.org\" = \"db\", \"*.example.org\" = \"web\", default = \"other\" }}\n\
             [upstream.web]\nservers = \"{}\"\n[upstream.other]\nservers = \"{}\"\nhealth = false\n\
             [listener.strict]\naddress = \"127.0.0.1:0\"\ntcp = {{ \"db.example.org\" = \"db\" }}",
            web.address, other.address
        );
        let server = site(driver, &[one.address], &names, "")
            .http("header_timeout = \"700ms\"")
            .log("access = \"$DIR/access.log\"\ntcp_format = \"json\"")
            .file("ca.pem", trusted().pem.as_bytes())
            .start();
        let (address, ca) = (server.address("db"), server.folder().join("ca.pem"));
        for (name, protocol) in [("db.example.org", "--http1.1"), ("www.example.org", "--http2")] {
            let (code, text) = curl_to(address, name, &ca, &[protocol]);
            let spoken = if protocol == "--http2" { "HTTP/2.0" } else { "HTTP/1.1" };
            assert_eq!((code, text), (0, format!("{name}, asked for {name} over {spoken}")), "{driver:?}");
        }
        let told = server.logged("www.example.org");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(
            (&told["preread_server_name"], &told["preread_alpn"], &told["upstream"], &told["status"]),
            (&"www.example.org".into(), &"h2,http/1.1".into(), &"web".into(), &200.into())
        );
        // What is no TLS, and what has no name, goes to `default`; what was read comes first.
        for first in [&b"SELECT 1\n"[..], b"\x16\x04", b"x"] {
            let mut client = connect(address);
            client.write_all(first).expect("sent");
            assert_eq!(line(&mut client), "other", "{driver:?}");
            assert_eq!(take(&mut client, first.len()), first, "{driver:?}");
        }
        // A hello in small pieces.
        let hello = client_hello("DB.example.org");
        let mut client = connect(address);
        for piece in hello.chunks(11) {
            client.write_all(piece).expect("sent");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(take(&mut client, 1), [22], "{driver:?}: nginx answers with a handshake");
        // Without `default` others are refused: TLS with an alert that says why, the rest is closed.
        let strict = server.address("strict");
        let (code, text) = curl_to(strict, "db.example.org", &ca, &[]);
        assert_eq!(code, 0, "{driver:?} {text}");
        let mut client = connect(strict);
        client.write_all(&client_hello("nobody.example.org")).expect("sent");
        assert_eq!(rest(&mut client), [21, 3, 1, 0, 2, 2, 112], "{driver:?}: unrecognized_name");
        let mut client = connect(strict);
        client.write_all(b"SELECT 1\n").expect("sent");
        let _ = client.read_to_end(&mut Vec::new());
        // One that begins and does not go on is not waited for without end.
        let mut client = connect(strict);
        client.write_all(&hello[..50]).expect("sent");
        let begun = Instant::now();
        assert_eq!(rest(&mut client), b"", "{driver:?}");
        assert!((400..4000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        assert_eq!(server.metric("one_server_tcp_refused_total", "listener=\"strict\""), 2.0);
        assert_eq!(server.metric("one_server_tcp_timeouts_total", "listener=\"strict\""), 1.0);
    });
}

/// The first flight of a client that asks for `name`.
fn client_hello(name: &str) -> Vec<u8> {
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = rustls::ClientConnection::new(client_config(&["h2"]), name).expect("a client");
    let mut out = Vec::new();
    connection.write_tls(&mut out).expect("a hello");
    out
}

#[test]
fn chromium_says_hello() {
    if !has_program("chromium") {
        return;
    }
    let Some(web) = nginx_of("www.example.org") else { return };
    let names = "tcp = { \"www.example.org\" = \"db\" }";
    let server = site(Driver::Auto, &[web.address], names, "").start();
    let (address, folder) = (server.address("db"), tempfile::tempdir().expect("a folder"));
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--timeout=20000"])
        .arg(format!("--host-resolver-rules=MAP www.example.org 127.0.0.1:{}", address.port()))
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(["--dump-dom", "https://www.example.org/"])
        .output()
        .expect("chromium runs");
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(page.contains("www.example.org, asked for www.example.org over HTTP/2.0"), "{page}");
}

/// HAProxy that expects the PROXY protocol and tells over HTTP what it was told.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    fn start() -> Option<Haproxy> {
        if !has_program("haproxy") {
            return None;
        }
        let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address());
        let told = "client=%[src]:%[src_port] to=%[dst]:%[dst_port] name=%[fc_pp_authority]\\n";
        let config = format!(
            "defaults\n  mode http\n  timeout client 30s\n  timeout connect 5s\n  timeout server 30s\n\
             frontend f\n  bind {address} accept-proxy\n\
             \x20 http-request return status 200 content-type text/plain lf-string \"{told}\"\n"
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("a config");
        let mut command = Command::new("haproxy");
        let child = command.args(["-db", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let haproxy = Haproxy { child: child.expect("haproxy starts"), address, _folder: folder };
        eventually("haproxy listens", || TcpStream::connect(address).is_ok());
        Some(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nginx_behind_us() -> Option<Nginx> {
    Nginx::start(
        "server { listen $LISTEN proxy_protocol; location / { return 200 \
         \"client=$proxy_protocol_addr:$proxy_protocol_port to=$proxy_protocol_server_addr:$proxy_protocol_server_port\\n\"; } }",
        &[],
    )
}

#[test]
fn servers_are_told_whose_connection_it_is() {
    let (Some(nginx), Some(haproxy)) = (nginx_behind_us(), Haproxy::start()) else { return };
    with_both_drivers(|driver| {
        for version in ["v1", "v2"] {
            for peer in [nginx.address, haproxy.address] {
                let text = format!(
                    "[listener.db]\naddress = \"127.0.0.1:0\"\ntcp = \"up\"\n\
                     [listener.behind]\naddress = \"127.0.0.1:0\"\ntcp = \"up\"\nproxy_protocol = \"required\"\ntrusted_proxies = \"127.0.0.0/8\"\n\
                     [upstream.up]\nservers = \"{peer}\"\nproxy_protocol = \"{version}\"\nhealth = {{ path = \"/\", interval = \"100ms\" }}\n\
                     [site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n"
                );
                let server = Site::new(driver, &text).start();
                // TCP mode, and requests over HTTP, each with its own client.
                for listener in ["db", "web"] {
                    for source in ["127.0.0.9", "127.0.0.8"] {
                        let mut client = Client::connect_from(source, server.address(listener));
                        let port = client.stream.local_addr().expect("an address").port();
                        for _ in 0..3 {
                            let got = client.ask(get("/")).text();
                            let expect = format!("client={source}:{port} to={}", server.address(listener));
                            assert!(got.starts_with(&expect), "{driver:?} {version} {listener}: {got}");
                        }
                    }
                }
                // What we were told ourselves is told on.
                let mut client = Client::connect(server.address("behind"));
                client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4444 5432\r\n");
                let got = client.ask(get("/")).text();
                assert!(got.starts_with("client=192.0.2.7:4444 to=198.51.100.1:5432"), "{driver:?} {version}: {got}");
                // The checks speak it too.
                let labels = "upstream=\"up\"";
                eventually("a check", || server.metric("one_server_upstream_server_checks_total", labels) >= 3.0);
                assert_eq!(server.metric("one_server_upstream_server_check_failures_total", labels), 0.0, "{version}");
            }
        }
    });
}

#[test]
fn servers_are_told_the_name_that_was_asked_for() {
    let Some(haproxy) = Haproxy::start() else { return };
    let listener = "tcp = { localhost = \"db\" }\n\
                    tls = { certificates = [{ chain = \"$DIR/own.pem\", key = \"$DIR/own.key\" }] }";
    let identity = trusted().server(&["localhost"], Kind::Ecdsa);
    let server = site(Driver::Auto, &[haproxy.address], listener, "proxy_protocol = \"v2\"");
    let server = server.identity("own", &identity).start();
    let mut client = TlsClient::connect(server.address("db"));
    let got = client.ask(get("/")).text();
    assert!(got.starts_with("client=127.0.0.1:") && got.ends_with(" name=localhost\n"), "{got}");
}

#[test]
fn limits_and_rules_of_a_listener_hold() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::echo("hello");
        let server = site(driver, &[upstream.address], "access = [\"deny 127.0.0.8\", \"allow all\"]", "")
            .http("connections_per_address_max = 3")
            .start();
        let from = |source: &str| {
            let mut client = Client::connect_from(source, server.address("db"));
            client.fill().ok().filter(|count| *count > 0).map(|_| client)
        };
        assert!(from("127.0.0.8").is_none(), "{driver:?}: denied");
        let held: Vec<_> = (0..3).map(|_| from("127.0.0.9").expect("within the limit")).collect();
        assert!(from("127.0.0.9").is_none(), "{driver:?}: one too many");
        assert!(from("127.0.0.7").is_some(), "{driver:?}: another address");
        drop(held);
        eventually("there is room again", || from("127.0.0.9").is_some());
        // Behind a proxy it is the address that the header tells.
        let listener = "proxy_protocol = \"required\"\ntrusted_proxies = \"127.0.0.1\"\naccess = [\"allow 192.0.2.0/24\", \"deny all\"]";
        let server = site(driver, &[upstream.address], &format!("{listener}\n"), "").start();
        for (header, is_let_in) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 4444 5432\r\n", true),
            ("PROXY TCP4 198.51.100.7 198.51.100.1 4444 5432\r\n", false),
            ("no header\r\n", false),
        ] {
            let mut client = connect(server.address("db"));
            client.write_all(header.as_bytes()).expect("sent");
            let got = client.read(&mut [0; 6]).unwrap_or(0);
            assert_eq!(got > 0, is_let_in, "{driver:?} {header}");
        }
    });
}

#[test]
fn a_drain_lets_connections_live_until_their_end_or_its_own() {
    with_both_drivers(|driver| {
        let upstream = TcpServer::echo("hello");
        let mut server = site(driver, &[upstream.address], "", "").start();
        let mut client = connect(server.address("db"));
        assert_eq!(line(&mut client), "hello");
        server.signal(Signal::QUIT);
        std::thread::sleep(Duration::from_millis(500));
        assert!(server.is_running(), "{driver:?}");
        assert!(TcpStream::connect(server.address("db")).is_err(), "{driver:?}: no new ones");
        client.write_all(b"still here").expect("sent");
        assert_eq!(take(&mut client, 10), b"still here", "{driver:?}");
        client.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(rest(&mut client), b"bye");
        assert!(server.wait().success(), "{driver:?}");
        // One that stays is broken off when the time is up.
        let mut server = site(driver, &[upstream.address], "", "").process("drain_timeout = \"600ms\"").start();
        let mut client = connect(server.address("db"));
        assert_eq!(line(&mut client), "hello");
        server.signal(Signal::QUIT);
        let begun = Instant::now();
        let _ = client.read_to_end(&mut Vec::new());
        assert!((400..5000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        assert!(server.wait().success(), "{driver:?}");
    });
}

#[test]
fn two_thousand_idle_connections_hold_no_buffers() {
    const CONNECTIONS: usize = 2000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(20_000);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(most), ..limit },
    )
    .expect("more descriptors");
    let held = std::sync::Mutex::new(Vec::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CONNECTIONS + 100 {
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.write_all(b"hello").expect("sent");
                held.lock().expect("a lock").push(stream);
            }
        });
        let server = site(Driver::IoUring, &[address], "", "").start();
        let open = |count: usize| -> Vec<TcpStream> {
            let clients = (0..count).map(|_| {
                let mut client = connect(server.address("db"));
                assert_eq!(take(&mut client, 5), b"hello");
                client
            });
            clients.collect()
        };
        let first = open(100);
        let (before, _) = server.resident_mib();
        let more = open(CONNECTIONS);
        let (after, _) = server.resident_mib();
        let each = (after - before) * 1024 / CONNECTIONS as u64;
        // Buffers of 16 KiB each way would be 62 MiB.
        assert!(each <= 8, "{before} MiB, then {after} MiB: {each} KiB each");
        drop((first, more));
        held.lock().expect("a lock").clear();
        eventually("all have ended", || server.metric("one_server_tcp_connections", "") == 0.0);
    });
}

#[test]
fn mariadb_is_reached_through_it() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = mariadb::Cluster::start(0);
    with_both_drivers(|driver| {
        let server = site(driver, &[SocketAddr::from(([127, 0, 0, 1], cluster.primary.port))], "", "").start();
        let port = server.address("db").port().to_string();
        let sql = "SELECT SUM(LENGTH(REPEAT('x', 1000000))) FROM seq_1_to_20; SELECT REPEAT('y', 5000000)";
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "-h127.0.0.1",
                "-P",
                &port,
                "--user",
                mariadb::USER,
                &format!("--password={}", mariadb::PASSWORD),
                "-N",
                "-D",
                "d",
                "-e",
                sql,
            ])
            .output()
            .expect("the client runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{driver:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(text.starts_with("20000000\n") && text.len() > 5_000_000, "{driver:?}: {} bytes", text.len());
    });
}
