//! How clients come to a splitter: by Unix sockets, which only some may open, and through balancers, which tell by the PROXY
//! protocol who it is. With a real MariaDB, its client, a driver, and HAProxy.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/mysql_clients.rs"]
#[allow(dead_code, reason = "other tests start servers of their own")]
mod mysql_clients;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::{ChangeUserOpts, Conn};
use mysql_clients::{block_on, code, log_on, one, options};
use support::haproxy::HaProxy;
use support::ports;
use support::*;

/// An account that owns nothing, as on every Debian.
const NOBODY: u32 = 65_534;

/// MariaDB's client over a Unix socket, as `user` where we are root; whether it was let in, and what it was told.
fn ask_over(socket: &Path, user: Option<u32>) -> Result<String, String> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-N", "-B", &format!("-u{USER}"), &format!("-p{PASSWORD}"), "-e", "SELECT 6 * 7"]);
    command.arg("-S").arg(socket);
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    let output = command.output().expect("the client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn only_some_may_open_the_unix_socket() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let server = split::site(driver, &cluster, "").process("control = \"$DIR/ctl.sock\"").start();
        std::fs::set_permissions(server.folder(), PermissionsExt::from_mode(0o755)).expect("others may look in");
        let socket = server.folder().join("db.sock");
        let mode = || std::fs::metadata(&socket).expect("a socket").mode() & 0o777;
        let stranger = rustix::process::geteuid().is_root().then_some(NOBODY);
        let is_shut = || match ask_over(&socket, stranger) {
            Err(error) => assert!(error.contains("(13)"), "EACCES: {error}"),
            Ok(answer) => assert!(stranger.is_none(), "{answer}"),
        };
        assert_eq!((mode(), ask_over(&socket, None)), (0o660, Ok("42".into())));
        is_shut();
        // Who has it open goes on; from the reload on everybody may come.
        let url = format!("mysql://{USER}:{PASSWORD}@localhost/d?socket={}", socket.display());
        block_on(async {
            let options = mysql_async::Opts::from_url(&url).expect("a URL");
            let mut conn = Conn::new(options).await.expect("logged on");
            server.reload_with(&[("monitor_interval", "socket_mode = \"666\"\nmonitor_interval")]);
            assert_eq!(one(&mut conn, "SELECT CAST(1 AS CHAR)").await, "1");
        });
        assert_eq!((mode(), ask_over(&socket, stranger)), (0o666, Ok("42".into())));
        // Another process takes the socket over and has something else to say.
        server.edit(&[("\"666\"", "\"0600\"")]);
        server.upgrade();
        assert_eq!((mode(), ask_over(&socket, None)), (0o600, Ok("42".into())));
        is_shut();
    });
}

/// A port whose connections go on to `to` from the address 127.0.0.`host`.
fn comes_from(host: u8, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0);
            socket.bind(&source.into()).expect("an address of this machine");
            socket.connect(&to.into()).expect("connected");
            let server = TcpStream::from(socket);
            for (mut from, mut to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))]
                .map(|(from, to)| (from.expect("a handle"), to.expect("a handle")))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

/// What comes on a connection that begins with these bytes, until it is closed or there is a greeting.
fn greeting_behind(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    for byte in bytes {
        stream.write_all(&[*byte]).expect("sent");
    }
    let mut greeting = vec![0; 5];
    let _ = stream.read_exact(&mut greeting);
    greeting
}

const USERS: &str =
    "[[mysql.db.users]]\nname = \"reports\"\npassword = \"r3ports\"\naccess = [\"allow 127.0.0.5\", \"deny all\"]\n";

fn proxied(driver: Driver, cluster: &Cluster, trusted: &str) -> Server {
    let keys = format!(
        "proxy_protocol = \"required\"\ntrusted_proxies = [\"{trusted}\"]\n\
         slow_log = {{ file = \"$DIR/slow.log\", threshold = \"0s\" }}\n{USERS}"
    );
    split::site(driver, cluster, &keys).start()
}

#[test]
fn a_balancer_tells_who_the_client_is() {
    if !mariadb::is_installed() || !has_program("haproxy") {
        return;
    }
    let cluster = Cluster::start(0);
    cluster.primary.sql("CREATE USER reports@'%' IDENTIFIED BY 'r3ports'");
    with_both_drivers(|driver| {
        let server = proxied(driver, &cluster, "127.0.0.1");
        for how in ["send-proxy", "send-proxy-v2"] {
            let balancer = HaProxy::start(&format!(
                "listen db\n  mode tcp\n  bind $LISTEN\n  server s {} {how}\n",
                server.address("db")
            ));
            let Some(balancer) = balancer else { return };
            let (known, other) = (comes_from(5, balancer.address), comes_from(6, balancer.address));
            block_on(async {
                let mut conn = log_on(known, "reports", "r3ports", None).await.expect("it may from there");
                assert_eq!(one(&mut conn, &format!("SELECT 'from {how}'")).await, format!("from {how}"));
                let refused = log_on(other, "reports", "r3ports", None).await.expect_err("not from there");
                assert!(refused.to_string().contains("'reports'@'127.0.0.6'"), "{refused}");
                // Who is somebody else later is where it was.
                for (address, is_let_in) in [(known, true), (other, false)] {
                    let mut conn = log_on(address, USER, PASSWORD, None).await.expect("from anywhere");
                    let user =
                        ChangeUserOpts::new().with_user(Some("reports".into())).with_pass(Some("r3ports".into()));
                    match is_let_in {
                        true => conn.change_user(user).await.expect("it may from there"),
                        false => assert_eq!(code(conn.change_user(user).await), 1045),
                    }
                }
            });
            let mut line = String::new();
            eventually("the line of the slow log", || {
                let log = std::fs::read_to_string(server.folder().join("slow.log")).unwrap_or_default();
                line = log.lines().find(|line| line.contains(&format!("'from {how}'"))).unwrap_or_default().to_owned();
                !line.is_empty()
            });
            assert!(line.contains("\"client\":\"127.0.0.5:"), "{line}");
        }
        assert_eq!(ask_over(&server.folder().join("db.sock"), None), Ok("42".into()), "it has no header");
    });
}

#[test]
fn who_sends_no_header_or_may_send_none_gets_no_greeting() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(0);
    with_both_drivers(|driver| {
        let server = proxied(driver, &cluster, "127.0.0.1");
        let address = server.address("db");
        // None of them logs on.
        let connected = std::cell::Cell::new(0);
        let behind = |bytes: &[u8]| {
            connected.set(connected.get() + 1);
            greeting_behind(address, bytes)
        };
        let greeted = |bytes: &[u8]| behind(bytes)[4] == 10;
        eventually("the servers are known", || greeted(b"PROXY UNKNOWN\r\n"));
        assert!(greeted(b"PROXY TCP4 127.0.0.7 127.0.0.1 1 2\r\n"));
        assert!(greeted(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), "LOCAL of version 2");
        let refused = || server.metric("one_server_splitter_clients_refused_total", "");
        for bytes in
            [&b"\x20\0\0\x01\x85\xa6\xff\x09"[..], b"PROXY TCP4 nowhere 127.0.0.1 1 2\r\n", b"PROXY TCP4 1.2.3.4\n"]
        {
            assert_eq!(behind(bytes), [0; 5], "{bytes:?}");
        }
        eventually("they are counted", || refused() == f64::from(connected.get()));
        let doubtful = proxied(driver, &cluster, "127.0.0.9");
        assert_eq!(greeting_behind(doubtful.address("db"), b"PROXY UNKNOWN\r\n"), [0; 5], "not a balancer of ours");
        block_on(async {
            // A driver is told at once that there is nobody for it.
            let end = Conn::new(options(doubtful.address("db"), USER, PASSWORD, None)).await;
            assert!(end.is_err());
        });
    });
}
