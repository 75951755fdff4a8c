//! The life of the process: start-up lines, signals, drain, access log, refused starts, and the fall-back to epoll.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::client::{NoResponse, timed};
use support::upstream::Then;
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
                    [[site.main.route]]\npath = \"/files/\"\nfiles = { root = \"$DIR\", strip_prefix = \"/files\" }\n";

fn with_upstream(upstream: &FakeUpstream) -> String {
    format!(
        "{SITE}[[site.main.route]]\npath = \"/up/\"\nproxy = \"up\"\n[upstream.up]\nservers = \"{}\"\nhealth = false\n",
        upstream.address
    )
}

/// An upstream that answers after so many milliseconds: `/up/500`.
fn slow_upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        let ms = exchange.request.target.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(ms));
        exchange.ok("slow")
    })
}

#[test]
fn the_start_lines_say_what_runs() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).start();
        let lines = server.lines();
        let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        let name = if driver == Driver::IoUring { "driver=io_uring" } else { "driver=epoll" };
        let (version, pid) = (format!("version={}", env!("CARGO_PKG_VERSION")), format!("pid={}", server.pid()));
        assert!(has(&["one-server starts", &version, &pid]), "{lines:?}");
        assert!(has(&["role=data", "index=0", name]) && has(&["role=data", "index=1", name]), "{driver:?}: {lines:?}");
        let (web, admin) = (server.web().to_string(), server.address("admin").to_string());
        assert!(has(&["listening", "name=web", "kind=http", &web]), "{driver:?}: {lines:?}");
        assert!(has(&["listening", "name=admin", "kind=admin", &admin]), "{driver:?}: {lines:?}");
        assert!(has(&["limits", "connections_max=4096"]), "{driver:?}: {lines:?}");
        assert!(lines.last().is_some_and(|line| line.ends_with("info ready")), "{driver:?}: ready comes last");
        let status = server.status();
        assert_eq!(status["phase"], "ready");
        assert_eq!(status["pid"], server.pid());
        let listeners = status["listeners"].as_array().expect("a list");
        assert!(listeners.iter().any(|listener| listener["name"] == "web" && listener["address"] == web.as_str()));
        assert!(server.is_running());
    });
}

#[test]
fn term_and_int_stop_at_once() {
    with_both_drivers(|driver| {
        let upstream = slow_upstream();
        for signal in [Signal::TERM, Signal::INT] {
            let mut server = Site::new(driver, &with_upstream(&upstream)).start();
            let mut idle = server.connect();
            assert_eq!(idle.ask(get("/")).text(), "root");
            let mut busy = server.connect();
            busy.send(get("/up/15000"));
            eventually("it is under way", || upstream.count("/up/15000") > 0);
            server.signal(signal);
            let (status, took) = timed(|| server.wait());
            assert_eq!(status.code(), Some(0), "{driver:?} {signal:?}: {status}");
            assert!(took < Duration::from_secs(5), "{driver:?} {signal:?}: {took:?}");
            assert!(idle.read_to_end().0.is_empty(), "{driver:?}");
            assert!(busy.try_response("GET").is_err(), "{driver:?}");
        }
    });
}

#[test]
fn quit_drains() {
    with_both_drivers(|driver| {
        let upstream = slow_upstream();
        let mut server = Site::new(driver, &with_upstream(&upstream)).file("big", &pattern(5_000_000)).start();
        let web = server.web();
        let mut idle = server.connect();
        assert_eq!(idle.ask(get("/")).text(), "root");
        let mut new = server.connect();
        let mut slow = server.connect();
        slow.send(get("/up/1500"));
        eventually("it is under way", || upstream.count("/up/1500") > 0);
        let mut download = Client::with_small_window(web);
        download.send(get("/files/big"));
        while download.buffered().is_empty() {
            download.fill().expect("the answer begins");
        }
        server.signal(Signal::QUIT);
        server.wait_for_line("draining", |line| line.contains("draining"));
        // No new connections, the idle one is closed without an answer to anything.
        eventually("new connections are refused", || std::net::TcpStream::connect(web).is_err());
        assert_eq!(idle.end(), End::Closed, "{driver:?}");
        // One that was accepted and had not asked yet is answered or closed, never left hanging or reset midway.
        new.send(get("/"));
        if let Ok(response) = new.try_response("GET") {
            assert_eq!(response.status, 200, "{driver:?}");
            // The order may have reached its worker behind the answer: then it closes as any idle one.
            assert_eq!(new.end(), End::Closed, "{driver:?}");
        }
        // What is under way ends as it should, and says that the connection ends with it.
        assert!(download.response("GET").body == pattern(5_000_000), "{driver:?}");
        let response = slow.response("GET");
        assert_eq!(response.text(), "slow", "{driver:?}");
        assert_eq!(slow.end(), End::Closed, "{driver:?}");
        drop(download);
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
        assert!(server.lines().iter().any(|line| line.contains("how=drained")), "{driver:?}: {:?}", server.lines());
    });
}

/// Logs are rotated while a long download holds the drain up.
#[test]
fn usr1_reopens_the_log_while_draining() {
    let upstream = slow_upstream();
    let log = "access = \"$DIR/access.log\"\n";
    let mut server = Site::new(Driver::Auto, &with_upstream(&upstream)).log(log).start();
    let path = server.folder().join("access.log");
    let mut slow = server.connect();
    slow.send(get("/up/1500"));
    eventually("it is under way", || upstream.count("/up/1500") > 0);
    server.signal(Signal::QUIT);
    server.wait_for_line("draining", |line| line.contains("draining"));
    std::fs::rename(&path, server.folder().join("old.log")).expect("moved away");
    server.signal(Signal::USR1);
    eventually("there is a new one", || path.exists());
    assert_eq!(slow.response("GET").text(), "slow");
    assert_eq!(server.wait().code(), Some(0));
    assert!(std::fs::read_to_string(&path).expect("the new one").contains("/up/1500"));
}

/// Requests on kept connections that meet the signal: each that a server got is answered, and none is broken off because
/// its connection looked idle a moment ago.
#[test]
fn a_drain_loses_no_request_that_was_taken() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            std::thread::sleep(Duration::from_millis(600));
            exchange.ok_with_size()
        });
        for round in 0..4 {
            let mut server = Site::new(driver, &with_upstream(&upstream)).start();
            let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
            for client in &mut clients {
                assert_eq!(client.ask(get("/")).text(), "root");
            }
            // Some wait without a buffer by then, some with one.
            std::thread::sleep(Duration::from_millis(if round % 2 == 0 { 50 } else { 1100 }));
            let before = upstream.seen().len();
            for (n, client) in clients.iter_mut().enumerate() {
                if n == 30 {
                    server.signal(Signal::QUIT);
                }
                client.send(if n % 3 == 0 { post("/up/x", "a body") } else { get("/up/x") });
            }
            let mut answered = 0;
            for (n, client) in clients.iter_mut().enumerate() {
                if let Ok(response) = client.try_response("GET") {
                    assert_eq!(response.text(), if n % 3 == 0 { "6 bytes" } else { "0 bytes" }, "{driver:?} {round}");
                    answered += 1;
                }
            }
            let taken = upstream.seen().len() - before;
            assert_eq!(answered, taken, "{driver:?} {round}");
            assert!(taken >= 30, "{driver:?} {round}: {taken}");
            assert_eq!(server.wait().code(), Some(0), "{driver:?}");
        }
    });
}

/// A connection that was just made, one in the middle of its handshake, one of whose record a part has come: their request
/// is on its way.
#[test]
fn a_drain_waits_a_moment_for_requests_on_their_way() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).secure("").one_worker().start();
        let mut fresh = server.connect();
        let secure = server.address("secure");
        let wire = |stream: &mut std::net::TcpStream, session: &mut rustls::ClientConnection| {
            while session.is_handshaking() && session.wants_read() {
                session.write_tls(stream).expect("sent");
                session.read_tls(stream).expect("read");
                session.process_new_packets().expect("a handshake");
            }
        };
        let name = || rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        let session = || rustls::ClientConnection::new(tls::client_config(&["http/1.1"]), name()).expect("a session");
        // The server waits for the end of this handshake.
        let (mut shaking, mut shaking_session) = (std::net::TcpStream::connect(secure).expect("it listens"), session());
        shaking_session.write_tls(&mut shaking).expect("sent");
        shaking_session.read_tls(&mut shaking).expect("read");
        // Of this second request half a record has come.
        let (mut kept, mut kept_session) = (std::net::TcpStream::connect(secure).expect("it listens"), session());
        wire(&mut kept, &mut kept_session);
        let ask = |stream: &mut std::net::TcpStream, session: &mut rustls::ClientConnection| {
            session.writer().write_all(get("/").as_bytes()).expect("taken in");
            let mut record = Vec::new();
            session.write_tls(&mut record).expect("taken out");
            let half = record.len() / 2;
            stream.write_all(&record[..half]).expect("sent");
            record.split_off(half)
        };
        let answer = |stream: &mut std::net::TcpStream, session: &mut rustls::ClientConnection| {
            let mut text = Vec::new();
            let _ = rustls::Stream::new(session, stream).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let rest = ask(&mut kept, &mut kept_session);
        kept.write_all(&rest).expect("sent");
        let mut first = [0; 100];
        assert!(rustls::Stream::new(&mut kept_session, &mut kept).read(&mut first).is_ok_and(|n| n > 0));
        let rest = ask(&mut kept, &mut kept_session);

        std::thread::sleep(Duration::from_millis(100));
        server.signal(Signal::QUIT);
        server.wait_for_line("draining", |line| line.contains("draining"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(fresh.ask(get("/")).is_last(), "{driver:?}");
        kept.write_all(&rest).expect("sent");
        assert!(answer(&mut kept, &mut kept_session).contains("200 OK"), "{driver:?}");
        shaking_session.process_new_packets().expect("a handshake");
        wire(&mut shaking, &mut shaking_session);
        shaking_session.writer().write_all(get("/").as_bytes()).expect("taken in");
        assert!(answer(&mut shaking, &mut shaking_session).contains("200 OK"), "{driver:?}");
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
    });
}

/// The kernel has made their connections; the worker has not seen them yet.
#[test]
fn a_drain_takes_those_that_wait_to_be_accepted() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).one_worker().start();
        server.signal(Signal::STOP);
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/"));
        server.signal(Signal::QUIT);
        server.signal(Signal::CONT);
        for client in &mut clients {
            assert_eq!(client.response("GET").text(), "root", "{driver:?}");
        }
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
    });
}

/// Its mailbox is full of ticks while it stands still: the order to drain must reach it all the same.
#[test]
fn a_worker_that_stands_still_hears_of_the_drain() {
    if !has_program("strace") {
        return;
    }
    let mut server = Site::new(Driver::IoUring, SITE).one_worker().start();
    let is_worker = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == "data-0")
    };
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let worker = tasks.map(|task| task.expect("a task").path()).find(|task| is_worker(task)).expect("a data worker");
    // Its next system call takes three seconds, in which more ticks come than the mailbox holds.
    let mut strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=io_uring_enter:delay_enter=3000000:when=1", "-p"])
        .arg(worker.file_name().expect("a number"))
        .spawn()
        .expect("strace");
    std::thread::sleep(Duration::from_millis(2300));
    server.signal(Signal::QUIT);
    let begin = Instant::now();
    assert_eq!(server.wait().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let _ = strace.wait();
}

#[test]
fn a_drain_has_a_deadline_and_a_second_signal_ends_it() {
    with_both_drivers(|driver| {
        let upstream = slow_upstream();
        for second in [None, Some(Signal::TERM)] {
            let timeout = if second.is_none() { "500ms" } else { "60s" };
            let site = Site::new(driver, &with_upstream(&upstream)).flags(&["--drain-timeout", timeout]);
            let mut server = site.start();
            let before = upstream.count("/up/15000");
            let mut slow = server.connect();
            slow.send(get("/up/15000"));
            eventually("it is under way", || upstream.count("/up/15000") > before);
            let begin = Instant::now();
            server.signal(Signal::QUIT);
            server.wait_for_line("draining", |line| line.contains("draining"));
            if let Some(second) = second {
                server.signal(second);
            }
            assert_eq!(server.wait().code(), Some(0), "{driver:?}");
            assert!(begin.elapsed() < Duration::from_secs(8), "{driver:?} {second:?}: {:?}", begin.elapsed());
            assert!(second.is_some() || begin.elapsed() >= Duration::from_millis(450), "{driver:?}");
            assert!(matches!(slow.try_response("GET"), Err(NoResponse::Ended(..))), "{driver:?}");
        }
    });
}

#[test]
fn a_hang_up_does_not_end_it() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).start();
        let mut client = server.connect();
        assert_eq!(client.ask(get("/")).text(), "root");
        server.signal(Signal::HUP);
        server.wait_for_line("a word about SIGHUP", |line| line.contains("SIGHUP"));
        assert_eq!(client.ask(get("/")).text(), "root", "{driver:?}");
        assert!(server.is_running());
    });
}

/// Lines of the access log, once there are `n`.
fn log_lines(path: &Path, n: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("the log has its lines", || read().lines().count() >= n && read().ends_with('\n'));
    let lines: Vec<String> = read().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), n, "{lines:?}");
    lines
}

/// A combined line without its time, which must look like one.
fn without_time(line: &str) -> String {
    let (begin, rest) = line.split_once(" [").unwrap_or_else(|| panic!("no time: {line}"));
    let (time, rest) = rest.split_once("] ").unwrap_or_else(|| panic!("no time: {line}"));
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let month = time.get(3..6).unwrap_or("");
    assert_eq!(shape.replace(month, "Mon").replace('-', "+"), "99/Mon/9999:99:99:99 +9999", "{time}");
    format!("{begin} {rest}")
}

#[test]
fn the_access_log_is_nginxs_combined_to_the_byte() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("twelve bytes"));
        let log = "access = \"$DIR/access.log\"\n";
        let server = Site::new(driver, &with_upstream(&upstream)).log(log).file("f.txt", b"file").one_worker().start();
        let path = server.folder().join("access.log");
        let mut client = server.connect();
        let agent = ["Referer: http://x/\"y\"", "User-Agent: a\\b \u{e9}"];
        client.ask(request("GET", "/files/f.txt?q=1", &agent, ""));
        client.ask(request("HEAD", "/files/f.txt", &[], ""));
        client.ask(get("/files/none"));
        client.ask(request("POST", "/up/x", &["User-Agent: c"], "body"));
        client.ask(request("GET", "/files/f.txt", &["Range: bytes=1-2"], ""));
        client.ask("GET / HTTP/1.0\r\nConnection: close\r\n\r\n");
        let lines: Vec<String> = log_lines(&path, 6).iter().map(|line| without_time(line)).collect();
        let missing = server.connect().ask(get("/files/none")).body.len();
        assert_eq!(
            lines,
            [
                "127.0.0.1 - - \"GET /files/f.txt?q=1 HTTP/1.1\" 200 4 \"http://x/\\x22y\\x22\" \"a\\x5Cb \\xC3\\xA9\"",
                "127.0.0.1 - - \"HEAD /files/f.txt HTTP/1.1\" 200 0 \"-\" \"-\"",
                &format!("127.0.0.1 - - \"GET /files/none HTTP/1.1\" 404 {missing} \"-\" \"-\""),
                "127.0.0.1 - - \"POST /up/x HTTP/1.1\" 200 12 \"-\" \"c\"",
                "127.0.0.1 - - \"GET /files/f.txt HTTP/1.1\" 206 2 \"-\" \"-\"",
                "127.0.0.1 - - \"GET / HTTP/1.0\" 200 4 \"-\" \"-\"",
            ],
            "{driver:?}"
        );
    });
}

#[test]
fn the_access_log_as_json_is_json() {
    with_both_drivers(|driver| {
        let log = "access = \"$DIR/access.log\"\nformat = \"json\"\n";
        let server = Site::new(driver, SITE).log(log).start();
        server.connect().ask(request("GET", "/?q=\"", &["User-Agent: a\"\\\u{1F600}"], ""));
        let lines = log_lines(&server.folder().join("access.log"), 1);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap_or_else(|e| panic!("{e}: {}", lines[0]));
        assert_eq!(line["status"], 200, "{driver:?}: {line}");
        assert!(lines[0].contains("😀") || lines[0].contains("\\u"), "{driver:?}: {line}");
    });
}

#[test]
fn usr1_reopens_the_access_log_and_no_line_is_lost() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).log("access = \"$DIR/access.log\"\n").start();
        let (path, rotated) = (server.folder().join("access.log"), server.folder().join("access.log.1"));
        server.connect().ask(get("/?n=1"));
        log_lines(&path, 1);
        std::fs::rename(&path, &rotated).expect("renamed");
        // Until it is told, it writes on into the file it has open.
        server.connect().ask(get("/?n=2"));
        assert!(log_lines(&rotated, 2)[1].contains("n=2"), "{driver:?}");
        server.signal(Signal::USR1);
        eventually("there is a new file", || path.exists());
        server.connect().ask(get("/?n=3"));
        assert!(log_lines(&path, 1)[0].contains("n=3"), "{driver:?}");
        assert_eq!(log_lines(&rotated, 2).len(), 2);
        // Nothing of what was answered is missing at the end.
        let mut client = server.connect();
        for n in 4..104 {
            client.ask(get(&format!("/?n={n}")));
        }
        server.signal(Signal::TERM);
        server.wait();
        assert_eq!(log_lines(&path, 101).len(), 101, "{driver:?}");
    });
}

fn run(site: &Site) -> Output {
    let child = site.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_port_that_is_taken_is_told_by_name() {
    with_both_drivers(|driver| {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let site = Site::new(driver, &format!("[listener.other]\naddress = \"{address}\"\n{SITE}"));
        let output = run(&site);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{driver:?}: {told}");
        assert!(told.contains("other") && told.contains(&address.to_string()), "{driver:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains(" ready"), "{driver:?}: {told}");
        // Also when another one-server has it, which SO_REUSEPORT would let us share without a word.
        let first = Site::new(driver, SITE).start();
        let site = Site::new(driver, &format!("[listener.other]\naddress = \"{}\"\n{SITE}", first.web()));
        let output = run(&site);
        assert_eq!(output.status.code(), Some(1), "{driver:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(first.connect().ask(get("/")).text(), "root", "{driver:?}");
    });
}

#[test]
fn what_cannot_be_opened_is_told_at_the_start() {
    with_both_drivers(|driver| {
        let site = Site::new(driver, SITE).log("access = \"$DIR/no/such/folder/access.log\"\n");
        let output = run(&site);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{driver:?}: {told}");
        assert!(told.contains("access.log"), "{driver:?}: {told}");
    });
}

/// `check` binds, connects, creates, removes and starts nothing (strace sees every thread).
#[test]
fn a_check_has_no_side_effects() {
    if !has_program("strace") {
        return;
    }
    let upstream = slow_upstream();
    let site = Site::new(Driver::IoUring, &with_upstream(&upstream)).log("access = \"$DIR/access.log\"\n");
    let config = site.write_config();
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(trace.path())
        .arg(env!("CARGO_BIN_EXE_one-server"))
        .args(["check", "-c"])
        .arg(&config)
        .output()
        .expect("strace runs");
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("ptrace") {
        eprintln!("SKIPPED: strace may not trace here");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = std::fs::read_to_string(trace.path()).expect("a trace");
    assert!(calls.contains("execve("), "the trace is empty: {calls}");
    let forbidden = [
        "bind(",
        "listen(",
        "connect(",
        "socket(",
        "sendto(",
        "creat(",
        "unlink",
        "rename",
        "mkdir",
        "rmdir",
        "chown",
        "chmod",
        "io_uring_setup(",
        "clone(",
        "clone3(",
        "fork(",
        "truncate",
        "kill(",
        "setrlimit(",
    ];
    for line in calls.lines() {
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        assert!(!forbidden.iter().any(|name| call.starts_with(name)), "check calls {line}");
        let opens = call.starts_with("open");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag));
        assert!(!(opens && writes), "check opens for writing: {line}");
    }
    assert!(!site.folder().join("access.log").exists());
    assert!(upstream.seen().is_empty());
}

/// Where io_uring is switched off (containers, hardened kernels) the program runs on epoll, and says why.
#[test]
fn refused_io_uring_falls_back_to_epoll_with_a_reason() {
    if !has_program("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("without_io_uring.py");
    let mut file = std::fs::File::create(&script).expect("a file");
    file.write_all(WITHOUT_IO_URING.as_bytes()).expect("written");
    let through = || {
        let mut command = Command::new("python3");
        command.arg(&script);
        command
    };
    let probe = through().args(["/bin/sh", "-c", "exit 7"]).output().expect("python3 runs");
    if probe.status.code() != Some(7) {
        eprintln!("SKIPPED: no seccomp filter here: {}", String::from_utf8_lossy(&probe.stderr));
        return;
    }
    let upstream = slow_upstream();
    // `auto`, which is the default.
    let app = "[[site.main.route]]\npath = \"/app/\"\napp = \"hello\"\n[app.hello]\n";
    let site = Site::new(Driver::Auto, &(with_upstream(&upstream) + app)).file("f.txt", b"file");
    let mut server = site.start_through(through());
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.contains("role=data") && line.contains("driver=epoll")), "{lines:?}");
    let warned = |line: &&String| line.contains(" warn ") && line.contains("io_uring");
    let warning = lines.iter().find(warned).unwrap_or_else(|| panic!("no warning: {lines:?}"));
    assert!(warning.contains("seccomp") || warning.contains("io_uring_disabled"), "what to do: {warning}");
    let mut client = server.connect();
    assert_eq!(client.ask(get("/files/f.txt")).text(), "file");
    assert_eq!(client.ask(get("/up/0")).text(), "slow");
    assert!(client.ask(get("/app/x")).text().starts_with("hello"));
    assert!(server.status()["workers"].to_string().contains("io_uring is refused"), "{}", server.status()["workers"]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    // Who insists is told why not.
    let site = Site::new(Driver::IoUring, SITE);
    let inner = site.command();
    let output = through().arg(inner.get_program()).args(inner.get_args()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("io_uring") && !told.contains("panicked"), "{told}");
}

/// Installs a seccomp filter that answers EPERM to the three io_uring system calls (425 to 427 on every architecture),
/// then becomes the program named by its arguments. Source: seccomp(2), prctl(2).
const WITHOUT_IO_URING: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
LD_NR, JGE, JGT, RET = 0x20, 0x35, 0x25, 0x06
code = [(LD_NR, 0, 0, 0), (JGE, 0, 2, 425), (JGT, 1, 0, 427), (RET, 0, 0, 0x00050001), (RET, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
fprog = Filter(len(code), ctypes.cast(buffer, ctypes.c_void_p))
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog)):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn more_connections_than_allowed_are_refused_and_the_others_served() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).flags(&["--connections-max", "20"]).start();
        let mut held: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        held.iter_mut().for_each(|client| assert_eq!(client.ask(get("/")).text(), "root"));
        for _ in 0..5 {
            let mut refused = server.connect();
            refused.send(get("/"));
            match refused.try_response("GET") {
                Err(NoResponse::Ended(..)) => {}
                Ok(response) => assert_eq!(response.status, 503, "{driver:?}"),
                other => panic!("{driver:?}: {other:?}"),
            }
        }
        held.iter_mut().for_each(|client| assert_eq!(client.ask(get("/")).text(), "root", "{driver:?}"));
        held.truncate(10);
        eventually("there is room again", || {
            let mut client = server.connect();
            client.send(get("/")).try_response("GET").is_ok_and(|response| response.status == 200)
        });
    });
}

/// The upstream dies in every way while it drains: the process ends all the same.
#[test]
fn a_drain_ends_whatever_the_upstream_does() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            std::thread::sleep(Duration::from_millis(800));
            match exchange.request.target.as_str() {
                "/up/reset" => exchange.reset(),
                _ => Then::Close,
            }
        });
        let mut server = Site::new(driver, &with_upstream(&upstream)).start();
        let mut clients: Vec<Client> = ["/up/reset", "/up/close"]
            .iter()
            .map(|path| {
                let mut client = server.connect();
                client.send(post(path, "body"));
                client
            })
            .collect();
        eventually("they are under way", || upstream.seen().len() == 2);
        server.signal(Signal::QUIT);
        clients.iter_mut().for_each(|client| assert_eq!(client.response("POST").status, 502, "{driver:?}"));
        let (status, took) = timed(|| server.wait());
        assert_eq!(status.code(), Some(0), "{driver:?}");
        assert!(took < Duration::from_secs(5), "{driver:?}: {took:?}");
    });
}
