//! Another process takes over: `one-server upgrade` and SIGUSR2 at the real binary. No request fails and no connection is lost
//! in a queue; what was begun before is finished by the process before. What goes wrong: see `takeover_failed.rs`.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::http3::{ask, ask_with, begin, python, run, sha256};
use support::load::{HERE, under_load};
use support::ports::free_port;
use support::server::has_ended;
use support::stream::TcpServer;
use support::tls::{TlsClient, client_config};
use support::upstream::Then;
use support::*;

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

fn site(driver: Driver, rest: &str) -> Site {
    Site::new(driver, rest).process(CONTROL).process("drain_timeout = \"10s\"")
}

#[test]
fn twenty_takeovers_under_load_cost_no_request() {
    with_both_drivers(|driver| {
        let server = site(driver, HERE).start();
        let mut pids = vec![server.pid()];
        let load = under_load(&server, || {
            for _ in 0..20 {
                pids.push(server.upgrade());
            }
        });
        load.assert_all_well(1000);
        assert_eq!(pids.len(), 21, "{driver:?}");
        pids.dedup();
        assert_eq!(pids.len(), 21, "{driver:?}: each is another one");
        let last = pids.pop().expect("the last one");
        eventually("those before end", || pids.iter().all(|pid| has_ended(*pid)));
        assert!(!has_ended(last), "{driver:?}");
        assert_eq!(server.status()["pid"].as_u64().unwrap_or(u64::from(last)), u64::from(last), "{driver:?}");
        assert_eq!(server.connect().ask(get("/")).text(), "here", "{driver:?}");
        eprintln!("{driver:?}: {} answers", load.answers.load(Ordering::Relaxed));
    });
}

/// The pid of the process that has taken over by SIGUSR2.
fn signal_and_follow(server: &Server) -> u32 {
    let line = |server: &Server| {
        let lines = server.lines();
        lines.iter().filter(|line| line.contains(" taken over by another process pid=")).cloned().collect::<Vec<_>>()
    };
    let before = line(server).len();
    server.signal(Signal::USR2);
    eventually("it is taken over", || line(server).len() > before);
    let line = line(server).pop().expect("a line");
    let pid = line.rsplit('=').next().and_then(|pid| pid.trim().parse().ok()).expect("a number");
    server.follow(pid);
    pid
}

#[test]
fn other_numbers_of_workers_leave_no_queue_unserved() {
    with_both_drivers(|driver| {
        let port = free_port();
        let rest = format!(
            "[listener.x]\naddress = \"127.0.0.1:{port}\"\n{HERE}[mysql.db]\nlisten = \"127.0.0.1:0\"\n\
             primary = \"127.0.0.1:1\"\nuser = \"x\"\npassword = \"y\"\n"
        );
        let server = site(driver, &rest).start();
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        let both = text.lines().find(|line| line.starts_with("data_cores")).expect("cores").to_owned();
        let cores = both.split('"').nth(1).expect("cores").to_owned();
        let first = format!("data_cores = \"{}\"", cores.split(',').next().expect("a core"));
        let load = under_load(&server, || {
            let mut now = both.clone();
            for next in [&first, &both, &both, &first, &first, &both] {
                server.edit(&[(&now, next)]);
                signal_and_follow(&server);
                now.clone_from(next);
                // The kernel gives connections to all sockets there are: one that nobody served would be noticed.
                for _ in 0..40 {
                    assert_eq!(Client::connect(([127, 0, 0, 1], port).into()).ask(get("/")).text(), "here");
                }
                // The splitter speaks first.
                for _ in 0..20 {
                    let mut stream = TcpStream::connect(server.address("db")).expect("a connection");
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    assert!(stream.read(&mut [0; 1]).expect("a greeting or an error") == 1, "{driver:?}");
                }
            }
        });
        load.assert_all_well(500);
    });
}

#[test]
fn listeners_come_and_go_with_the_config_and_the_driver_may_change() {
    with_both_drivers(|driver| {
        let (one, two) = (free_port(), free_port());
        let rest = format!("[listener.x]\naddress = \"127.0.0.1:{one}\"\n{HERE}");
        let server = Site::new(driver, &rest).process(CONTROL).process("drain_timeout = \"1s\"").start();
        let is_open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let before = server.pid();
        server.edit(&[(&format!("127.0.0.1:{one}"), &format!("127.0.0.1:{two}"))]);
        let load = under_load(&server, || {
            server.upgrade();
            eventually("the old one is closed", || !is_open(one));
            assert!(is_open(two), "{driver:?}");
            server.wait_for_line("it is told", |line| {
                line.contains("a socket was handed over that the config does not name")
                    && line.contains(&format!("127.0.0.1:{one}"))
            });
        });
        load.assert_all_well(50);
        eventually("the first one ends", || has_ended(before));
        assert_eq!(Client::connect(([127, 0, 0, 1], two).into()).ask(get("/")).text(), "here");
        // It can be bound again by anybody.
        std::net::TcpListener::bind(("127.0.0.1", one)).expect("the port is free");
    });
}

/// Whether sockets block is a property that both processes share: one driver wants it, the other must not have it.
#[test]
fn drivers_may_change() {
    let site = Site::new(Driver::Auto, HERE);
    let folder = site.folder().to_owned();
    let config = |driver: &str| {
        format!(
            "[process]\ncontrol = \"{0}/ctl.sock\"\ndrain_timeout = \"3s\"\ndriver = \"{driver}\"\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n{HERE}",
            folder.display()
        )
    };
    // Flags would win over the file.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$1\" \"$2\" \"$3\""]);
    let server = site.whole(&config("io-uring")).start_through(shell);
    let drivers = || server.status()["workers"][0]["driver"].as_str().expect("a driver").to_owned();
    assert_eq!(drivers(), "io_uring");
    let load = under_load(&server, || {
        for driver in ["epoll", "io-uring", "epoll", "io-uring"] {
            std::fs::write(server.config_file(), config(driver)).expect("a config");
            server.upgrade();
            assert_eq!(drivers(), driver.replace('-', "_"));
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    load.assert_all_well(300);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a number");
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

#[test]
fn downloads_websockets_and_tunnels_go_on_until_the_drain_is_over() {
    let echo = TcpServer::echo("echo");
    let upstream = FakeUpstream::start(|exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: BBBB\r\n\r\n",
        );
        let mut buffer = [0; 64];
        loop {
            match exchange.stream.read(&mut buffer) {
                Ok(count) if count > 0 => exchange.send(&buffer[..count]),
                _ => return Then::Close,
            };
        }
    });
    with_both_drivers(|driver| {
        let rest = format!(
            "[listener.db]\naddress = \"127.0.0.1:0\"\ntcp = \"db\"\n[upstream.db]\nhealth = false\nservers = [\"{}\"]\n\
             [upstream.ws]\nhealth = false\nservers = [\"{}\"]\n[site.main]\nroute = [\n\
             {{ path = \"/\", files = \"$DIR/root\" }},\n\
             {{ path = \"/ws\", proxy = \"ws\" }},\n]\n",
            echo.address, upstream.address
        );
        let size = 20_000_000; // more than sockets hold
        let server = Site::new(driver, &rest)
            .process(CONTROL)
            .process("drain_timeout = \"9s\"")
            .file("root/big", &pattern(size))
            .start();
        let before = server.pid();
        let mut download = server.connect();
        download.send(get("/big"));
        download.fill().expect("its beginning");
        let mut tunnel = TcpStream::connect(server.address("db")).expect("a connection");
        tunnel.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut greeting = [0; 5];
        tunnel.read_exact(&mut greeting).expect("a greeting");
        let mut finished = TcpStream::connect(server.address("db")).expect("a connection");
        finished.set_read_timeout(Some(PATIENCE)).expect("a socket");
        finished.read_exact(&mut greeting).expect("a greeting");
        let mut socket = server.connect();
        socket.send(request(
            "GET",
            "/ws",
            &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"],
            "",
        ));
        assert_eq!(socket.response("GET").status, 101, "{driver:?}");
        server.upgrade();
        let begun = Instant::now();
        let mut echoes = |text: &[u8]| {
            tunnel.write_all(text).expect("taken");
            let mut back = vec![0; text.len()];
            tunnel.read_exact(&mut back).expect("it comes back");
            assert_eq!(back, text, "{driver:?}");
            socket.send(text);
            assert_eq!(socket.take(text.len()), text, "{driver:?}");
        };
        while begun.elapsed() < Duration::from_secs(3) {
            echoes(b"some bytes");
            std::thread::sleep(Duration::from_millis(100));
        }
        finished.write_all(b"last").expect("taken");
        finished.shutdown(Shutdown::Write).expect("a socket");
        let mut rest = Vec::new();
        finished.read_to_end(&mut rest).expect("its end");
        assert_eq!(rest, b"lastbye", "{driver:?}");
        let answer = download.response("GET");
        assert!(answer.body == pattern(size), "{driver:?}: {} bytes", answer.body.len());
        assert!(!has_ended(before), "{driver:?}: tunnels are open");
        // Then its time is up.
        eventually("it ends", || has_ended(before));
        let lasted = begun.elapsed();
        assert!((8..20).contains(&lasted.as_secs()), "{driver:?}: {lasted:?}");
        assert!(matches!(tunnel.read(&mut [0; 1]), Ok(0) | Err(_)), "{driver:?}");
    });
}

/// An idle connection is not closed under a request that is on its way: for a while the next one is answered, and told that
/// it is the last.
#[test]
fn idle_connections_are_answered_once_more() {
    with_both_drivers(|driver| {
        let server = site(driver, HERE).start();
        let before = server.pid();
        let connect = || {
            let mut client = server.connect();
            assert!(!client.ask(get("/")).is_last());
            client
        };
        let (mut soon, mut late, mut never) = (connect(), connect(), connect());
        std::thread::sleep(Duration::from_millis(1500)); // some wait without a buffer by now
        server.upgrade();
        server.wait_for_line("it drains", |line| line.contains(" draining: "));
        std::thread::sleep(Duration::from_millis(300));
        assert!(soon.ask(get("/")).is_last(), "{driver:?}");
        std::thread::sleep(Duration::from_secs(2));
        assert!(late.ask(get("/")).is_last(), "{driver:?}");
        assert_eq!(never.end(), End::Closed, "{driver:?}: after five seconds");
        eventually("it ends long before its time is up", || has_ended(before));
    });
}

#[test]
fn sockets_in_the_file_system_stay_and_keep_their_owner_and_mode() {
    with_both_drivers(|driver| {
        let rest = format!(
            "{HERE}[mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:1\"\nuser = \"x\"\npassword = \"y\"\n"
        );
        let stats = "stats_socket = \"$DIR/stats.sock\"\nstats_socket_mode = \"660\"";
        let mut server =
            Site::new(driver, &rest).process(CONTROL).process(stats).process("drain_timeout = \"1s\"").start();
        let facts = |name: &str| {
            let meta = std::fs::symlink_metadata(server.folder().join(name)).expect("it is there");
            assert!(meta.file_type().is_socket());
            (meta.ino(), meta.uid(), meta.gid(), meta.permissions().mode() & 0o777)
        };
        const NAMES: [&str; 3] = ["db.sock", "ctl.sock", "stats.sock"];
        let before = NAMES.map(facts);
        assert_eq!(before.map(|facts| facts.3), [0o660, 0o600, 0o660]);
        let load = under_load(&server, || {
            for _ in 0..3 {
                let old = server.pid();
                server.upgrade();
                eventually("the old one ends", || has_ended(old));
                assert_eq!(NAMES.map(facts), before, "{driver:?}");
                let mut stats = std::os::unix::net::UnixStream::connect(server.folder().join("stats.sock"))
                    .expect("somebody listens");
                stats.set_read_timeout(Some(PATIENCE)).expect("a socket");
                stats.write_all(b"show info\n").expect("sent");
                let mut told = String::new();
                stats.read_to_string(&mut told).expect("an answer");
                assert!(told.contains(&format!("Pid: {}\n", server.pid())), "{driver:?}: {told}");
                let mut client =
                    std::os::unix::net::UnixStream::connect(server.folder().join("db.sock")).expect("somebody listens");
                client.set_read_timeout(Some(PATIENCE)).expect("a socket");
                assert_eq!(client.read(&mut [0; 1]).expect("it speaks first"), 1, "{driver:?}");
                assert!(server.ctl_ok(&["show"]).contains(&format!("pid {}", server.pid())), "{driver:?}");
            }
        });
        load.assert_all_well(50);
        assert!(server.wait().success(), "{driver:?}: the first one");
        server.signal(Signal::TERM);
        eventually("the last one takes them with it", || !server.folder().join("db.sock").exists());
        eventually("the same", || NAMES.iter().all(|name| !server.folder().join(name).exists()));
    });
}

#[test]
fn what_the_operator_has_set_and_what_checks_have_found_goes_over() {
    with_both_drivers(|driver| {
        let named = |name: &'static str| FakeUpstream::start(move |exchange| exchange.ok(name));
        let (one, two) = (named("one"), named("two"));
        let dead = free_port();
        let rest = format!(
            "[upstream.up]\nhealth = {{ interval = \"60s\", fall = 1 }}\n\
             servers = [\"{}\", \"{}\", \"127.0.0.1:{dead}\"]\n\
             [site.main]\nroute = [{{ path = \"/\", proxy = \"up\" }}]\n",
            one.address, two.address
        );
        let server = site(driver, &rest).start();
        let state = |n: usize, what: &str| server.status()["upstreams"][0]["servers"][n][what].clone();
        eventually("it is known to be down", || state(2, "up") == false);
        server.ctl_ok(&["server", &format!("up/{}", one.address), "maintenance"]);
        let second = format!("up/{}", two.address);
        let set = |what: &str, value: &str| {
            let answer = server.ctl_ok(&["server", &second, what, value, "--json"]);
            serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")["result"]["was"].clone()
        };
        set("weight", "7");
        set("limit", "5");
        server.upgrade();
        assert_eq!((set("weight", "8"), set("limit", "6")), (json!(7), json!(5)), "{driver:?}");
        assert_eq!((state(0, "admin"), state(1, "admin")), (json!("maintenance"), json!("ready")), "{driver:?}");
        assert_eq!(state(2, "up"), false, "{driver:?}");
        for _ in 0..10 {
            assert_eq!(server.connect().ask(get("/")).text(), "two", "{driver:?}");
        }
        assert_eq!(server.metric("one_server_upstream_retries_total", ""), 0.0, "{driver:?}");
    });
}

#[test]
fn sessions_are_resumed_in_the_next_process() {
    with_both_drivers(|driver| {
        let server = site(driver, HERE).secure("").start();
        let config = client_config(&["http/1.1"]);
        let visit = || {
            let client = TlsClient::connect_with(server.address("secure"), "localhost", config.clone());
            assert_eq!(client.expect("a handshake").ask(get("/")).text(), "here");
        };
        visit();
        for _ in 0..2 {
            server.upgrade();
            visit();
            assert_eq!(server.metric("one_server_tls_resumed_total", ""), 1.0, "{driver:?}");
        }
    });
}

#[test]
fn connections_of_http3_go_on_in_the_process_that_has_them() {
    if python().is_none() {
        return;
    }
    with_both_drivers(|driver| {
        let rest = "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n\
                    [[site.main.route]]\npath = \"/slow/\"\nfiles = { root = \"$DIR/root\", strip_prefix = \"/slow\" }\n\
                    limit_rate = \"500KB\"\n";
        let server = site(driver, rest)
            .file("root/page.html", b"page")
            .file("root/big", &pattern(2_000_000))
            .secure("http3 = true")
            .start();
        let steps = json!([
            ask_with("big", "/slow/big", json!({ "waits": false })),
            { "op": "ping" },
            { "op": "signal", "name": "here" },
            { "op": "wait", "name": "big" },
            { "op": "closed", "seconds": 10 },
        ]);
        let first = server.pid();
        let mut old = begin(&server, json!({}), steps.clone());
        old.wait_for("here");
        let second = server.upgrade();
        let mut middle = begin(&server, json!({}), steps);
        middle.wait_for("here");
        // Through two processes.
        server.upgrade();
        old.go_on();
        middle.go_on();
        for _ in 0..6 {
            let seen = run(&server, json!({}), json!([ask("page", "/page.html")]));
            assert_eq!(seen.answer("page").text(), "page", "{driver:?}");
        }
        let forwarded = server.metric("one_server_http3_forwarded_total", "");
        for client in [old, middle] {
            let seen = client.end();
            assert!(seen.answer("big").is_whole(), "{driver:?}");
            assert_eq!(seen.answer("big").sha256(), sha256(&pattern(2_000_000)), "{driver:?}");
            assert_eq!((seen.closed(), seen.goaways().len()), (Some(0x100), 2), "{driver:?}");
        }
        assert!(forwarded > 20.0, "{driver:?}: acknowledgements went through the new process: {forwarded}");
        eventually("they end behind their last connection", || has_ended(first) && has_ended(second));
    });
}

/// Who does not know a connection any more can tell its client so, because it has the keys of the one who did.
#[test]
fn connections_of_http3_whose_process_has_been_killed_are_reset_by_the_next() {
    if python().is_none() {
        return;
    }
    with_both_drivers(|driver| {
        let rest = "[site.main]\n[[site.main.route]]\npath = \"/\"\nfiles = \"$DIR/root\"\n\
                    [[site.main.route]]\npath = \"/slow/\"\nfiles = { root = \"$DIR/root\", strip_prefix = \"/slow\" }\n\
                    limit_rate = \"20KB\"\n";
        let server = site(driver, rest).file("root/big", &pattern(2_000_000)).secure("http3 = true").start();
        let steps = json!([
            ask_with("big", "/slow/big", json!({ "waits": false })),
            { "op": "ping" },
            { "op": "signal", "name": "here" },
            { "op": "unknown" },
        ]);
        let first = server.pid();
        let mut client = begin(&server, json!({}), steps);
        client.wait_for("here");
        server.upgrade();
        kill(first);
        eventually("it is gone", || has_ended(first));
        client.go_on();
        assert_eq!(client.end().0["is_reset"].as_bool(), Some(true), "{driver:?}");
    });
}

/// Datagrams have no connection to be finished: each must be passed on by one process or the other, whatever the number of
/// workers that read them.
#[test]
fn datagrams_of_udp_mode_are_answered_all_the_time() {
    with_both_drivers(|driver| {
        let echo = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = echo.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((count, peer)) = echo.recv_from(&mut bytes) {
                let _ = echo.send_to(&bytes[..count], peer);
            }
        });
        let rest = format!(
            "[listener.dns]\naddress = \"127.0.0.1:0\"\nudp = {{ upstream = \"dns\" }}\n\
             [upstream.dns]\nservers = [\"{address}\"]\nhealth = false\n{HERE}"
        );
        let server = Site::new(driver, &rest).process(CONTROL).process("drain_timeout = \"1s\"").start();
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        let both = text.lines().find(|line| line.starts_with("data_cores")).expect("cores").to_owned();
        let cores = both.split('"').nth(1).expect("cores");
        let first = format!("data_cores = \"{}\"", cores.split(',').next().expect("a core"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (server, stop) = (&server, &stop);
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    scope.spawn(move || {
                        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
                        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
                        socket.connect(server.address("dns")).expect("a socket");
                        let (mut answers, mut bytes) = (0u32, [0; 64]);
                        while !stop.load(Ordering::Relaxed) {
                            let text = format!("{client} {answers}");
                            socket.send(text.as_bytes()).expect("sent");
                            let count = socket.recv(&mut bytes).expect("an answer");
                            assert_eq!(&bytes[..count], text.as_bytes());
                            answers += 1;
                        }
                        answers
                    })
                })
                .collect();
            let mut now = both.clone();
            for next in [&both, &first, &both, &both, &first] {
                server.edit(&[(&now, next)]);
                server.upgrade();
                now.clone_from(next);
                std::thread::sleep(Duration::from_millis(200));
            }
            stop.store(true, Ordering::Relaxed);
            let answers: Vec<u32> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
            assert!(answers.iter().all(|answers| *answers > 100), "{driver:?}: {answers:?}");
        });
    });
}

#[test]
fn servers_that_the_operator_has_added_and_removed_stay_so() {
    with_both_drivers(|driver| {
        let named = |name: &'static str| FakeUpstream::start(move |exchange| exchange.ok(name));
        let (one, two, three) = (named("one"), named("two"), named("three"));
        let rest = format!(
            "[upstream.up]\nhealth = false\nservers = [\"{}\", \"{}\"]\n[site.main]\nroute = [{{ path = \"/\", proxy = \"up\" }}]\n",
            one.address, two.address
        );
        let server = site(driver, &rest).start();
        server.ctl_ok(&["add", &format!("up/{}", three.address), "--weight", "3"]);
        server.ctl_ok(&["remove", &format!("up/{}", one.address)]);
        for _ in 0..2 {
            server.upgrade();
            let mut answers: Vec<String> = (0..30).map(|_| server.connect().ask(get("/")).text()).collect();
            answers.sort_unstable();
            answers.dedup();
            assert_eq!(answers, ["three", "two"], "{driver:?}");
        }
        let shown = server.ctl_ok(&["show"]);
        assert!(shown.contains("weight 3") && shown.contains(&format!("removed: {}", one.address)), "{shown}");
        server.ctl_ok(&["add", &format!("up/{}", one.address)]);
    });
}
