//! Active health checks of the real binary: against nginx, openssl, MariaDB and servers that misbehave on demand, and side
//! by side with HAProxy's own checks, whose words for their ends are ours too.

#[allow(dead_code)] // replicas are for the splitter's tests
#[path = "support/mariadb.rs"]
mod mariadb;
mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::nginx::Nginx;
use support::ports::{free_address, free_port};
use support::upstream::Then;
use support::*;

/// A site with the upstream `up`: its servers, and further lines of it.
fn site(servers: &[String], lines: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| if server.starts_with('{') { server.clone() } else { format!("\"{server}\"") })
        .collect();
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n{lines}\n",
        servers.join(", ")
    )
}

/// Keys of a quick check.
const QUICK: &str = "interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2";

fn server_view(server: &Server, at: usize) -> Value {
    server.status()["upstreams"][0]["servers"][at].clone()
}

/// Waits until the last check of a server ended so, and returns how it is told in words.
fn wait_for_result(server: &Server, at: usize, result: &str) -> String {
    let mut text = String::new();
    eventually(&format!("server {at} has {result}"), || {
        let check = server_view(server, at)["check"].clone();
        text = check["text"].as_str().expect("a text").to_owned();
        check["result"] == result
    });
    text
}

/// A server whose answer to checks is this status; everything else it answers with 200.
fn switchable() -> (FakeUpstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let now = status.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        if exchange.request.target == "/health" {
            let status = now.load(Ordering::SeqCst);
            exchange.send(format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n"));
            return Then::Keep;
        }
        exchange.ok("ok")
    });
    (upstream, status)
}

#[test]
fn changes_are_told_with_their_reason_in_log_status_and_metrics() {
    with_both_drivers(|driver| {
        let (a, status) = switchable();
        let (b, _) = switchable();
        let health = format!("health = {{ path = \"/health\", status = [\"2xx\"], {QUICK} }}");
        let server = Site::new(driver, &site(&[a.address.to_string(), b.address.to_string()], &health)).start();
        wait_for_result(&server, 0, "L7OK");
        assert_eq!(server_view(&server, 0)["state"], "up");
        status.store(500, Ordering::SeqCst);
        let down = format!(
            "warn server up/{} is DOWN: check http: status 500 (expected 2xx), 2 of 2 failed; 1 of 2 servers left",
            a.address
        );
        server.wait_for_line("down", |line| line.ends_with(&down));
        let view = server_view(&server, 0);
        assert_eq!((&view["up"], &view["state"]), (&Value::from(false), &Value::from("down")), "{view}");
        assert_eq!(view["reason"], "check http: status 500 (expected 2xx), 2 of 2 failed");
        let check = &view["check"];
        assert_eq!((&check["kind"], &check["result"], &check["code"]), (&"http".into(), &"L7STS".into(), &500.into()));
        assert!(check["duration_us"].as_u64() > Some(0) && check["at_unix_ms"].as_u64() > Some(0), "{check}");
        let labels = format!("server=\"{}\"", a.address);
        assert_eq!(server.metric("one_server_upstream_server_up", &labels), 0.0);
        assert_eq!(server.metric("one_server_upstream_server_usable", &labels), 0.0);
        let result = format!("{labels},result=\"L7STS\",code=\"500\"");
        assert_eq!(server.metric("one_server_upstream_server_check_result_info", &result), 1.0);
        assert_eq!(server.metric("haproxy_server_check_status", &format!("{labels},state=\"L7STS\"")), 1.0);
        let since = view["since_unix_ms"].as_u64();
        status.store(204, Ordering::SeqCst);
        let up = "check http: status 204, 2 of 2 passed; 2 of 2 servers up";
        server.wait_for_line("up", |line| line.contains(" is UP after ") && line.ends_with(up));
        let view = server_view(&server, 0);
        assert!(view["since_unix_ms"].as_u64() > since && view["downs"] == 1, "{view}");
        let events = server.status()["events"].to_string();
        assert!(events.contains(&down["warn ".len()..]), "{events}");
    });
}

#[test]
fn nginx_is_checked_by_status_field_and_body() {
    let Some(nginx) = Nginx::start(
        "server { listen $LISTEN; keepalive_timeout 5s;
            location /good { add_header X-Ready yes; return 200 '{\"state\":\"ready\"}'; }
            location /moved { return 301 /good; }
            location /large { root $DIR; }
         }",
        &[("large/page", &[&b"x".repeat(100_000)[..], b" ready"].concat())],
    ) else {
        return;
    };
    with_both_drivers(|driver| {
        for (keys, result, text) in [
            ("path = \"/good\"", "L7OK", "status 200"),
            ("path = \"/good\", method = \"HEAD\"", "L7OK", "status 200"),
            ("path = \"/good\", expect_header = \"x-ready: yes\"", "L7OK", "status 200"),
            ("path = \"/good\", expect_header = \"X-Ready: ~^n\"", "L7RSP", "status 200, but no field X-Ready: ~^n"),
            ("path = \"/good\", expect_body = \"~^.*ready.*$\"", "L7OK", "status 200, ~^.*ready.*$ in its body"),
            ("path = \"/good\", expect_body = \"asleep\"", "L7RSP", "status 200, but no \"asleep\" in its body"),
            ("path = \"/moved\", status = [\"2xx\"]", "L7STS", "status 301 (expected 2xx)"),
            ("path = \"/moved\", status = [\"200\", \"300-302\"]", "L7OK", "status 301"),
            ("path = \"/none\"", "L7STS", "status 404 (expected 2xx, 3xx)"),
            (
                "path = \"/large/page\", expect_body = \"ready\"",
                "L7RSP",
                "status 200, but no \"ready\" in the first 16384 bytes of its body",
            ),
            (
                "path = \"/large/page\", expect_body = \"ready\", expect_max = \"1MiB\"",
                "L7OK",
                "status 200, \"ready\" in its body",
            ),
        ] {
            let health = format!("health = {{ {keys}, {QUICK} }}");
            let server = Site::new(driver, &site(&[nginx.address.to_string()], &health)).one_worker().start();
            assert_eq!(wait_for_result(&server, 0, result), text, "{keys}");
        }
    });
}

/// nginx closes connections without the header; it takes both kinds of a header that speaks for nobody.
#[test]
fn a_check_can_begin_with_the_proxy_protocol_and_go_to_another_port() {
    let Some(nginx) = Nginx::start(
        "server { listen $LISTEN; location / { return 200 ok; } }
         server { listen unix:$DIR/proxied proxy_protocol; location / { return 200 checked; } }",
        &[],
    ) else {
        return;
    };
    with_both_drivers(|driver| {
        for (version, result) in [("off", "L7STS"), ("v1", "L7OK"), ("v2", "L7OK")] {
            let at = format!(
                "{{ address = \"{}\", check_address = \"unix:{}/proxied\" }}",
                nginx.address,
                nginx.folder().display()
            );
            let health = format!(
                "health = {{ path = \"/\", proxy_protocol = \"{version}\", expect_body = \"checked\", {QUICK} }}"
            );
            let server = Site::new(driver, &site(&[at], &health)).one_worker().start();
            if version == "off" {
                // nginx closes, or answers 400.
                eventually("it is down", || server_view(&server, 0)["state"] == "down");
                continue;
            }
            wait_for_result(&server, 0, result);
            assert_eq!(server.connect().ask(get("/")).text(), "ok");
        }
        // The servers' own port refuses, the other one answers.
        let dead = free_address();
        let health = format!("health = {{ path = \"/\", check_port = {}, {QUICK} }}", nginx.address.port());
        let server = Site::new(driver, &site(&[dead.to_string()], &health)).one_worker().start();
        wait_for_result(&server, 0, "L7OK");
    });
}

/// A child process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, folder: &Path, arguments: &str) {
    let output = Command::new(program).current_dir(folder).args(arguments.split(' ')).output().expect("it runs");
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority and a certificate for `api.internal` that ends in `days`, made by openssl; `NAME.pem` and `NAME.key`.
fn certificates(folder: &Path) {
    let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run("openssl", folder, &format!("{new} -x509 -days 90 -subj /CN=internal -keyout ca.key -out ca.pem"));
    run("openssl", folder, &format!("{new} -x509 -days 90 -subj /CN=other -keyout other.key -out other.pem"));
    std::fs::write(folder.join("ext"), "subjectAltName=DNS:api.internal\nbasicConstraints=CA:FALSE\n")
        .expect("written");
    for (name, days) in [("server", 60), ("ending", 5)] {
        run("openssl", folder, &format!("{new} -subj /CN=api.internal -keyout {name}.key -out {name}.csr"));
        run(
            "openssl",
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile ext -out {name}.pem"
            ),
        );
    }
}

fn s_server(folder: &Path, name: &str, more: &[&str]) -> (Killed, SocketAddr) {
    let address = free_address();
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["s_server", "-quiet", "-www", "-accept", &address.to_string()]);
    command.args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")]).args(more);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let child = Killed(child);
    eventually("openssl listens", || std::net::TcpStream::connect(address).is_ok());
    (child, address)
}

#[test]
fn tls_is_verified_where_it_should_be_and_certificates_that_end_are_told() {
    if !has_program("openssl") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let ca = |name: &str| format!("ca = \"{}/{name}.pem\"", folder.path().display());
    let (_good, good) = s_server(folder.path(), "server", &[]);
    let (_old, old) = s_server(folder.path(), "ending", &["-tls1_2"]);
    let (silent, _) = switchable();
    with_both_drivers(|driver| {
        let cases = [
            (good, "kind = \"tls\"".to_owned(), "L6OK"),
            (good, format!("kind = \"tls\", {}, server_name = \"api.internal\"", ca("ca")), "L6OK"),
            (good, format!("kind = \"tls\", {}, server_name = \"api.invalid\"", ca("ca")), "L6RSP"),
            (good, format!("kind = \"tls\", {}, server_name = \"api.internal\"", ca("other")), "L6RSP"),
            (good, format!("kind = \"tls\", {}", ca("ca")), "L6RSP"), // the address is not in it
            (good, format!("path = \"/\", tls = true, host = \"api.internal\", {}", ca("ca")), "L7OK"),
            (old, "path = \"/\", tls = true".to_owned(), "L7OK"),
            (silent.address, "kind = \"tls\"".to_owned(), "L6TOUT"),
        ];
        for (address, keys, result) in cases {
            let health = format!("health = {{ {keys}, {QUICK} }}");
            let server = Site::new(driver, &site(&[address.to_string()], &health)).one_worker().start();
            let text = wait_for_result(&server, 0, result);
            let ends = server_view(&server, 0)["check"]["certificate_ends_unix_ms"].as_u64();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
            let days_left = ends.map(|ends| (ends as f64 - now as f64) / 86_400_000.0);
            match address {
                _ if address == good => {
                    assert!(days_left.is_some_and(|days| (59.9..60.1).contains(&days)), "{keys}: {days_left:?} {text}");
                    let expiry = "one_server_upstream_server_certificate_expiry_timestamp_seconds";
                    assert!(server.metric(expiry, "") > now as f64 / 1000.0);
                }
                _ if address == old => {
                    let told = format!("certificate of server up/{old} expires in 4 days");
                    server.wait_for_line("a warning", |line| line.contains("warn ") && line.ends_with(&told));
                }
                _ => assert_eq!(ends, None),
            }
        }
    });
}

#[test]
fn mariadb_is_greeted_logged_on_and_left_in_peace() {
    if !mariadb::is_installed() {
        return;
    }
    let mut cluster = mariadb::Cluster::start(0);
    let user = mariadb::USER;
    let password = mariadb::PASSWORD;
    cluster.primary.sql("CREATE USER checker@'%'; SET GLOBAL max_connect_errors = 5");
    let address = format!("127.0.0.1:{}", cluster.primary.port);
    let start = |driver, keys: &str| {
        let health = format!("health = {{ kind = \"mysql\", {keys}, {QUICK} }}");
        Site::new(driver, &site(std::slice::from_ref(&address), &health)).one_worker().start()
    };
    let aborted = |cluster: &mariadb::Cluster| cluster.primary.counter("Aborted_connects");
    with_both_drivers(|driver| {
        for keys in ["user = \"checker\"".to_owned(), format!("user = \"{user}\", password = \"{password}\"")] {
            let before = aborted(&cluster);
            let server = start(driver, &keys);
            assert_eq!(wait_for_result(&server, 0, "L7OK"), "logged on, ping answered");
            // More than the server would bear of handshakes that end early.
            eventually("it is checked often", || server_view(&server, 0)["check"]["checks"].as_u64() > Some(12));
            assert_eq!(server_view(&server, 0)["check"]["failures"], 0);
            assert_eq!(aborted(&cluster), before, "no check counts as an aborted connection");
        }
    });
    with_both_drivers(|driver| {
        let server = start(driver, &format!("user = \"{user}\", password = \"wrong\""));
        let text = wait_for_result(&server, 0, "L7STS");
        assert!(text.starts_with("error 1045: \"Access denied for user "), "{text}");
        assert_eq!(server_view(&server, 0)["check"]["code"], 1045);
        server.wait_for_line("down", |line| line.contains(" is DOWN: check mysql: error 1045: "));
    });
    // A server that hangs, and one that is gone. One after the other: there is only one.
    for driver in [Driver::IoUring, Driver::Epoll] {
        let server = start(driver, "user = \"checker\"");
        wait_for_result(&server, 0, "L7OK");
        cluster.primary.freeze(true);
        assert_eq!(wait_for_result(&server, 0, "L7TOUT"), "no answer within 500ms");
        cluster.primary.freeze(false);
        wait_for_result(&server, 0, "L7OK");
        eventually("it is up again", || server_view(&server, 0)["state"] == "up");
    }
    let server = start(Driver::IoUring, "user = \"checker\"");
    wait_for_result(&server, 0, "L7OK");
    cluster.primary.kill();
    assert_eq!(wait_for_result(&server, 0, "L4CON"), "connection refused");
}

#[test]
fn checks_come_faster_while_a_server_changes_and_slower_while_it_is_down() {
    with_both_drivers(|driver| {
        let (upstream, status) = switchable();
        let health = "health = { path = \"/health\", interval = \"2s\", fast_interval = \"50ms\", down_interval = \"500ms\", \
                      jitter = 0, rise = 4, fall = 4 }";
        let server = Site::new(driver, &site(&[upstream.address.to_string()], health)).one_worker().start();
        wait_for_result(&server, 0, "L7OK");
        let checks = || upstream.count("/health");
        status.store(500, Ordering::SeqCst);
        let begun = Instant::now();
        let before = checks();
        eventually("it is down", || server_view(&server, 0)["state"] == "down");
        // The next check comes within 2 s, three more at 50 ms.
        assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
        assert!((4..=5).contains(&(checks() - before)), "{}", checks() - before);
        let (before, begun) = (checks(), Instant::now());
        std::thread::sleep(Duration::from_millis(1600));
        let (seen, most) = (checks() - before, 1 + begun.elapsed().as_millis() / 500);
        assert!(seen >= 2 && seen as u128 <= most, "{seen} checks while down");
        status.store(200, Ordering::SeqCst);
        let begun = Instant::now();
        eventually("it is up", || server_view(&server, 0)["state"] == "up");
        assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    });
}

/// HAProxy with one backend for each check; asks its statistics socket.
struct Haproxy {
    _child: Killed,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(backends: &[(String, SocketAddr, &str)]) -> Haproxy {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("stats");
        let mut config = format!(
            "global\n stats socket {}\n maxconn 100\ndefaults\n mode http\n timeout connect 500ms\n timeout client 5s\n \
             timeout server 5s\n timeout check 500ms\nlisten l\n bind 127.0.0.1:{}\n",
            socket.display(),
            free_port()
        );
        for (at, (lines, address, options)) in backends.iter().enumerate() {
            config.push_str(&format!("backend b{at}\n{lines} server s {address} check inter 100ms {options}\n"));
        }
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("haproxy").arg("-f").arg(path).stderr(log).stdout(Stdio::null()).spawn();
        let haproxy = Haproxy { _child: Killed(child.expect("it starts")), socket, _folder: folder };
        eventually("haproxy answers", || UnixStream::connect(&haproxy.socket).is_ok());
        haproxy
    }

    /// `check_status` of the server of a backend.
    fn check_status(&self, backend: usize) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the socket");
        stream.write_all(b"show stat\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let names: Vec<&str> = text.lines().next().expect("names").trim_start_matches("# ").split(',').collect();
        let column = names.iter().position(|name| *name == "check_status").expect("a column");
        let row = text.lines().find(|line| line.starts_with(&format!("b{backend},s,"))).expect("a row");
        row.split(',').nth(column).expect("a field").trim_start_matches("* ").to_owned()
    }
}

/// The same servers, checked by HAProxy and by us: both use the same word for how it ended.
#[test]
fn every_end_of_a_check_is_called_as_haproxy_calls_it() {
    if !has_program("haproxy") || !has_program("openssl") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let (_tls, tls) = s_server(folder.path(), "server", &[]);
    let good = FakeUpstream::start(|exchange| exchange.ok("ready"));
    let bad = FakeUpstream::start(|exchange| {
        exchange.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        Then::Close
    });
    let silent = FakeUpstream::start(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let garbage = FakeUpstream::start(|exchange| {
        exchange.send("SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n");
        Then::Close
    });
    let closing = FakeUpstream::start(|_| Then::Close);
    let http = " option httpchk\n http-check send meth GET uri /health ver HTTP/1.1 hdr Host x hdr Connection close\n";
    let our_http = "path = \"/health\", host = \"x\"";
    let ca = format!("ca-file {}/other.pem verifyhost api.internal", folder.path().display());
    let our_ca = format!("ca = \"{}/other.pem\", server_name = \"api.internal\"", folder.path().display());
    let body = format!("{http} http-check expect string ready\n");
    let other_body = format!("{http} http-check expect string asleep\n");
    let cases: Vec<(String, SocketAddr, String, String, &str)> = vec![
        (http.into(), good.address, String::new(), our_http.into(), "L7OK"),
        (http.into(), bad.address, String::new(), our_http.into(), "L7STS"),
        (http.into(), silent.address, String::new(), our_http.into(), "L7TOUT"),
        (http.into(), garbage.address, String::new(), our_http.into(), "L7RSP"),
        (http.into(), free_address(), String::new(), our_http.into(), "L4CON"),
        (body, good.address, String::new(), format!("{our_http}, expect_body = \"ready\""), "L7OK"),
        (other_body, good.address, String::new(), format!("{our_http}, expect_body = \"asleep\""), "L7RSP"),
        (String::new(), good.address, String::new(), "kind = \"tcp\"".into(), "L4OK"),
        (
            " option tcp-check\n tcp-check send GET\\ /\\ HTTP/1.1\\r\\nHost:\\ x\\r\\n\\r\\n\n tcp-check expect string ready\n".into(),
            good.address,
            String::new(),
            "send = \"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\", expect = \"ready\"".into(),
            "L7OK",
        ),
        (
            " option tcp-check\n tcp-check send GET\\ /\\ HTTP/1.1\\r\\nHost:\\ x\\r\\n\\r\\n\n tcp-check expect string ready\n".into(),
            closing.address,
            String::new(),
            "send = \"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\", expect = \"ready\"".into(),
            "L7RSP",
        ),
        (String::new(), tls, "check-ssl verify none".into(), "kind = \"tls\"".into(), "L6OK"),
        (
            String::new(),
            tls,
            format!("check-ssl verify required {ca}"),
            format!("kind = \"tls\", {our_ca}"),
            "L6RSP",
        ),
    ];
    let theirs: Vec<_> =
        cases.iter().map(|(lines, address, options, ..)| (lines.clone(), *address, options.as_str())).collect();
    let haproxy = Haproxy::start(&theirs);
    with_both_drivers(|driver| {
        let mut sites = "[site.main]\n".to_owned();
        let mut upstreams = String::new();
        for (at, (_, address, _, keys, _)) in cases.iter().enumerate() {
            sites.push_str(&format!("[[site.main.route]]\npath = \"/{at}\"\nproxy = \"b{at}\"\n"));
            upstreams.push_str(&format!(
                "[upstream.b{at}]\nservers = [\"{address}\"]\nhealth = {{ {keys}, interval = \"100ms\", timeout = \"500ms\" }}\n"
            ));
        }
        let server = Site::new(driver, &format!("{sites}{upstreams}")).one_worker().start();
        for (at, (lines, .., keys, expected)) in cases.iter().enumerate() {
            eventually(&format!("haproxy has {expected} for {lines}"), || haproxy.check_status(at) == *expected);
            let ours = || server.status()["upstreams"][at]["servers"][0]["check"]["result"].clone();
            eventually(&format!("we have {expected} for {keys}"), || ours() == *expected);
        }
    });
}

/// A process out of file descriptors cannot check; that is no reason to take its servers out.
#[test]
fn what_this_machine_lacks_takes_no_server_down() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    with_both_drivers(|driver| {
        let (upstream, _) = switchable();
        let health = format!("health = {{ path = \"/health\", {QUICK} }}");
        let server = Site::new(driver, &site(&[upstream.address.to_string()], &health)).one_worker().start();
        wait_for_result(&server, 0, "L7OK");
        let pid = Pid::from_raw(server.pid() as i32);
        let limit = |current| prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(4096) });
        limit(3).expect("a smaller limit");
        server.wait_for_line("an error", |line| line.contains(" cannot be checked: too many open files"));
        std::thread::sleep(Duration::from_millis(500));
        limit(4096).expect("a larger limit");
        wait_for_result(&server, 0, "L7OK");
        let view = server_view(&server, 0);
        assert_eq!((&view["state"], &view["downs"]), (&"up".into(), &0.into()), "{view}");
        assert_eq!(view["check"]["failures"], 0);
    });
}

/// Below the share of `panic` all servers are used, whatever their checks say; without it the answer is 503.
#[test]
fn in_panic_requests_go_to_servers_whose_checks_fail() {
    with_both_drivers(|driver| {
        let (a, a_status) = switchable();
        let (b, b_status) = switchable();
        let lines = format!("balance = \"round-robin\"\npanic = 50\nhealth = {{ path = \"/health\", {QUICK} }}");
        let server = Site::new(driver, &site(&[a.address.to_string(), b.address.to_string()], &lines)).start();
        wait_for_result(&server, 0, "L7OK");
        a_status.store(500, Ordering::SeqCst);
        eventually("one is down", || server_view(&server, 0)["state"] == "down");
        let asked = |upstream: &FakeUpstream| upstream.count("/page");
        let ask = |n: usize| (0..n).for_each(|_| assert_eq!(server.connect().ask(get("/page")).status, 200));
        ask(10);
        assert_eq!((asked(&a), asked(&b)), (0, 10), "half of them is enough");
        b_status.store(500, Ordering::SeqCst);
        let panic = "error upstream up is in panic: 0 of 2 servers up, below 50 %: all of them get requests";
        server.wait_for_line("panic", |line| line.ends_with(panic));
        assert_eq!(server.status()["upstreams"][0]["panic"], true);
        assert_eq!(server.metric("one_server_upstream_panic", ""), 1.0);
        assert_eq!(server.metric("one_server_upstream_server_usable", ""), 2.0);
        assert_eq!(server.metric("one_server_upstream_server_up", ""), 0.0);
        ask(10);
        assert!(asked(&a) >= 4, "{}", asked(&a));
        let before = asked(&a);
        b_status.store(200, Ordering::SeqCst);
        server.wait_for_line("no panic", |line| line.ends_with("info upstream up is out of panic: 1 of 2 servers up"));
        ask(10);
        assert_eq!(asked(&a), before);
    });
}

/// What is not healthy at the start is found out by the first check.
#[test]
fn a_slow_starter_gets_no_request_before_it_is_up() {
    with_both_drivers(|driver| {
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let slow = FakeUpstream::start(move |exchange| match is_ready.load(Ordering::SeqCst) {
            true => exchange.ok("slow"),
            false => {
                exchange.send("HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n");
                Then::Keep
            }
        });
        let (other, _) = switchable();
        let lines = format!("balance = \"round-robin\"\nhealth = {{ path = \"/health\", {QUICK} }}");
        let servers = [slow.address.to_string(), other.address.to_string()];
        let server = Site::new(driver, &site(&servers, &lines)).start();
        eventually("it is found out", || server_view(&server, 0)["state"] == "down");
        assert_eq!(server_view(&server, 0)["reason"], "check http: status 503 (expected 2xx, 3xx)");
        let ask = |n: usize| (0..n).for_each(|_| assert_eq!(server.connect().ask(get("/page")).status, 200));
        ask(10);
        ready.store(true, Ordering::SeqCst);
        eventually("it is up", || server_view(&server, 0)["state"] == "up");
        ask(10);
        assert_eq!(slow.count("/page"), 5);
    });
}
