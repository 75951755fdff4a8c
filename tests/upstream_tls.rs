//! HTTPS towards the servers: who is trusted, what is asked for, and that nothing leaves in clear. The servers are nginx
//! and OpenSSL's; certificates are made by the tests.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::client::NoResponse;
use support::nginx::Nginx;
use support::tls::{Authority, Identity, Kind, trusted};
use support::*;

fn site(address: SocketAddr, tls: &str, keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\ntries = 1\ntls = {tls}\n{keys}\n"
    )
}

/// The files that the sites name: `ca.pem`, `other.pem`, and a certificate of a client.
fn with_files(site: Site) -> Site {
    let client = trusted().client("us");
    site.file("ca.pem", trusted().pem.as_bytes())
        .file("other.pem", Authority::new("other").pem.as_bytes())
        .identity("us", &client)
}

/// nginx with HTTPS for this identity; `more` goes into its server.
fn nginx(identity: &Identity, more: &str) -> Nginx {
    let http = format!(
        "server {{ listen $LISTEN ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate $DIR/server.pem; ssl_certificate_key $DIR/server.key; \
         root $DIR; keepalive_timeout 30s; {more}\n\
         location = /who {{ return 200 '$ssl_server_name|$ssl_protocol|$ssl_client_s_dn|$http_host|$http_x_forwarded_proto'; }} }}"
    );
    let files: [(&str, &[u8]); 4] = [
        ("server.pem", identity.chain.as_bytes()),
        ("server.key", identity.key.as_bytes()),
        ("ca.pem", trusted().pem.as_bytes()),
        ("big.bin", &pattern(5 << 20)),
    ];
    Nginx::start(&http, &files).expect("nginx")
}

#[test]
fn requests_go_to_nginx_over_tls_on_kept_connections() {
    let nginx = nginx(&trusted().server(&["api.internal"], Kind::Ecdsa), "");
    with_both_drivers(|driver| {
        let tls = "{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }";
        let server = with_files(Site::new(driver, &site(nginx.address, tls, "")).one_worker()).start();
        let mut client = server.connect();
        for _ in 0..5 {
            let answer = client.ask(get("/who"));
            assert_eq!(answer.text(), "api.internal|TLSv1.3||test|http", "{driver:?}");
        }
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}: kept");
        let big = client.ask(get("/big.bin"));
        assert!(big.status == 200 && big.body == pattern(5 << 20), "{driver:?}");
        for _ in 0..3 {
            assert_eq!(client.ask(get("/who")).status, 200, "{driver:?}");
        }
    });
}

#[test]
fn who_is_not_trusted_gets_nothing() {
    let good = nginx(&trusted().server(&["api.internal", "127.0.0.1"], Kind::Rsa), "");
    let good = good.address;
    for (tls, status) in [
        ("{ ca = \"$DIR/ca.pem\" }", 200), // its address is in the certificate
        ("{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }", 200),
        ("{ server_name = \"web.internal\", ca = \"$DIR/ca.pem\" }", 502),
        ("{ server_name = \"api.internal\", ca = \"$DIR/other.pem\" }", 502),
        ("true", 502), // the system does not know our authority
        ("{ server_name = \"web.internal\", verify = false }", 200),
        ("false", 400), // in clear to a port of HTTPS
    ] {
        let server = with_files(Site::new(Driver::IoUring, &site(good, tls, ""))).start();
        assert_eq!(server.connect().ask(get("/who")).status, status, "{tls}");
        let errors = server.metric("one_server_upstream_connect_errors_total", "");
        assert_eq!(errors, if status == 502 { 1.0 } else { 0.0 }, "{tls}");
    }
}

#[test]
fn servers_may_ask_who_we_are() {
    let nginx = nginx(
        &trusted().server(&["api.internal"], Kind::Ecdsa),
        "ssl_client_certificate $DIR/ca.pem; ssl_verify_client on;",
    );
    for (identity, status) in [("", 400), (", chain = \"$DIR/us.pem\", key = \"$DIR/us.key\"", 200)] {
        let tls = format!("{{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\"{identity} }}");
        let server = with_files(Site::new(Driver::IoUring, &site(nginx.address, &tls, ""))).start();
        let answer = server.connect().ask(get("/who"));
        assert_eq!(answer.status, status, "{tls}");
        assert_eq!(answer.text().contains("CN=us"), status == 200, "{}", answer.text());
    }
}

/// A TLS server on threads that answers each connection as `script` says.
fn scripted(
    script: impl Fn(&mut StreamOwned<ServerConnection, std::net::TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let identity = trusted().server(&["api.internal"], Kind::Ecdsa);
    let (chain, key): (Vec<CertificateDer>, PrivateKeyDer) = (identity.certificates(), identity.private_key());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let (config, script) = (Arc::new(config), Arc::new(script));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let (config, script) = (config.clone(), script.clone());
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).expect("a session");
                script(&mut StreamOwned::new(connection, stream));
            });
        }
    });
    address
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => head.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn an_end_that_tls_does_not_tell_is_a_truncation() {
    // Without a length the end of the connection ends the body, if it is the server's word.
    let address = scripted(|stream| {
        let Some(head) = read_head(stream) else { return };
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf a body");
        if head.starts_with("GET /told ") {
            stream.conn.send_close_notify();
        }
        let _ = stream.flush();
        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    });
    with_both_drivers(|driver| {
        let tls = "{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }";
        let server = with_files(Site::new(driver, &site(address, tls, ""))).start();
        assert_eq!(server.connect().ask(get("/told")).body, b"half a body", "{driver:?}");
        let mut client = server.connect();
        let cut = client.send(get("/untold")).try_response("GET");
        assert!(matches!(cut, Err(NoResponse::Ended(..))), "{driver:?}: {cut:?}");
        assert_eq!(server.metric("one_server_upstream_response_errors_total", ""), 1.0, "{driver:?}");
    });
}

#[test]
fn large_uploads_and_early_answers_pass() {
    let address = scripted(|stream| while read_upload(stream) {});
    with_both_drivers(|driver| {
        let tls = "{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }";
        let site = Site::new(driver, &site(address, tls, "")).http("body_max = 0");
        let server = with_files(site).start();
        let mut client = server.connect();
        for size in [10, 100_000, 3 << 20] {
            let body = "x".repeat(size);
            let answer = client.ask(request("POST", "/", &[], &body));
            assert_eq!(answer.text(), size.to_string(), "{driver:?}");
        }
    });
}

/// Reads a request with Content-Length and answers with the number of bytes; `false`: there is none.
fn read_upload(stream: &mut (impl Read + Write)) -> bool {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    let mut need = None;
    loop {
        if let Some(end) = bytes.windows(4).position(|window: &[u8]| window == b"\r\n\r\n").filter(|_| need.is_none()) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            need = Some((end + 4, length.and_then(|text| text.parse::<usize>().ok()).unwrap_or(0)));
        }
        if let Some((head, length)) = need.filter(|(head, length)| bytes.len() >= head + length) {
            assert_eq!(bytes.len(), head + length, "no more than one request");
            let body = length.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            return stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_ok();
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return false,
        }
    }
}

#[test]
fn a_server_that_speaks_no_tls_gets_no_request() {
    let upstream = FakeUpstream::start(|exchange| exchange.ok("in clear"));
    let server = with_files(Site::new(Driver::IoUring, &site(upstream.address, "{ verify = false }", ""))).start();
    assert_eq!(server.connect().ask(get("/")).status, 502);
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_websocket_goes_over_tls_too() {
    let address = scripted(|stream| {
        if read_head(stream).is_some() {
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let _ = stream.write_all(agreed).and_then(|()| stream.flush());
            let mut chunk = [0; 8192];
            while let Ok(count) = stream.read(&mut chunk) {
                if count == 0 || stream.write_all(&chunk[..count]).and_then(|()| stream.flush()).is_err() {
                    break;
                }
            }
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    with_both_drivers(|driver| {
        let tls = "{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\" }";
        let server = with_files(Site::new(driver, &site(address, tls, ""))).start();
        let mut client = server.connect();
        client.send(request("GET", "/", &["Connection: upgrade", "Upgrade: websocket"], ""));
        assert_eq!(client.response("GET").status, 101);
        for text in ["one", "two", &"three".repeat(10_000)] {
            client.send(text);
            assert_eq!(client.take(text.len()), text.as_bytes(), "{driver:?}");
        }
        client.finish_sending();
        assert_eq!(client.read_to_end().0, b"", "{driver:?}");
    });
}

#[test]
fn what_was_opened_in_clear_is_not_used_once_tls_is_wanted() {
    with_both_drivers(|driver| {
        let seen_in_clear = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let upstream = FakeUpstream::start({
            let seen = seen_in_clear.clone();
            move |exchange| {
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(100));
                exchange.ok("in clear")
            }
        });
        let keys = "keep_idle = 100\nkeep_idle_timeout = \"60s\"\nconnect_timeout = \"300ms\"";
        let site = Site::new(driver, &site(upstream.address, "false", keys)).process("control = \"$DIR/ctl.sock\"");
        let server = with_files(site).start();
        // More at once than a worker keeps for itself: the others wait where every worker finds them.
        let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/"));
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200));
        server.reload_with(&[("tls = false", "tls = { verify = false }")]);
        let before = seen_in_clear.load(std::sync::atomic::Ordering::SeqCst);
        for client in clients.iter_mut().take(15) {
            // The server does not speak TLS: nothing can be right about an answer.
            assert_eq!(client.ask(get("/secret")).status, 502, "{driver:?}");
        }
        assert_eq!(seen_in_clear.load(std::sync::atomic::Ordering::SeqCst), before, "{driver:?}");
    });
}

#[test]
fn checks_show_who_we_are_as_requests_do() {
    let nginx = nginx(
        &trusted().server(&["api.internal"], Kind::Ecdsa),
        "ssl_client_certificate $DIR/ca.pem; ssl_verify_client on;",
    );
    for (identity, is_up) in [("", false), (", chain = \"$DIR/us.pem\", key = \"$DIR/us.key\"", true)] {
        let tls = format!("{{ server_name = \"api.internal\", ca = \"$DIR/ca.pem\"{identity} }}");
        let text = site(nginx.address, &tls, "");
        let text = text.replace("health = false", "health = { path = \"/who\", interval = \"50ms\" }");
        let server = with_files(Site::new(Driver::IoUring, &text)).start();
        let checked = || server.status()["upstreams"][0]["servers"][0]["check"]["checks"].as_u64().unwrap_or(0);
        eventually("it is checked", || checked() > 3);
        assert_eq!(server.status()["upstreams"][0]["servers"][0]["up"], is_up, "{tls}");
    }
}
