//! `one-server ctl`: what an operator sees of a running process and does to it, and who may.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::ports::free_port;
use support::{Driver, FakeUpstream, Server, Site, eventually, get, has_program, with_both_drivers};

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.ok(name)
    })
}

fn balanced(driver: Driver, health: &str, servers: &[&FakeUpstream]) -> Site {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    let rest = format!(
        "[upstream.api]\nhealth = {health}\nservers = [{}]\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n[[site.main.route]]\npath = \"/own\"\nrespond = {{ body = \"own\" }}\n",
        servers.join(", ")
    );
    Site::new(driver, &rest).process(CONTROL)
}

fn id(server: &FakeUpstream) -> String {
    format!("api/{}", server.address)
}

#[test]
fn show_names_everything_that_serves() {
    let (one, two) = (named("one"), named("two"));
    let server = balanced(Driver::Auto, "false", &[&one, &two]).start();
    let mut client = server.connect();
    assert_eq!(client.ask(get("/")).status, 200);
    let text = server.ctl_ok(&["show"]);
    let config = format!("config {}, generation 0, since 20", server.config_file().display());
    let pid = format!("pid {}, ready, up ", server.pid());
    let web = format!("http     {}", server.web());
    let own = format!("  {}  up  weight 1  0 active", one.address);
    for part in [
        &pid,
        &config,
        &web,
        &own,
        "workers\n  data 0  core ",
        "main  *  default  on web  / /own",
        "upstream api (random-two)",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&server.ctl_ok(&["--json", "show"])).expect("JSON");
    assert_eq!(json["ok"], true);
    let view = &json["result"];
    assert_eq!((&view["phase"], &view["config"]["generation"]), (&"ready".into(), &0.into()));
    assert_eq!(view["listeners"][0]["connections"], 1);
    let requests = view["upstreams"][0]["servers"].as_array().expect("a list").iter().map(|s| s["requests"].as_u64());
    assert_eq!(requests.map(Option::unwrap_or_default).sum::<u64>(), 1);
}

#[test]
fn a_drained_server_finishes_what_it_has_and_gets_nothing_new() {
    with_both_drivers(|driver| {
        let go = Arc::new(AtomicBool::new(false));
        let slow = FakeUpstream::start({
            let go = go.clone();
            move |exchange| {
                exchange.read_body();
                while exchange.request.target == "/slow" && !go.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                exchange.ok("slow")
            }
        });
        let other = named("other");
        let server = balanced(driver, "false", &[&slow, &other]).start();
        // Until one of them has come to the slow one.
        let mut waiting = Vec::new();
        while slow.count("/slow") == 0 {
            let mut client = server.connect();
            client.send(get("/slow"));
            eventually("it has come", || slow.count("/slow") + other.count("/slow") > waiting.len());
            waiting.push(client);
        }
        assert_eq!(server.ctl_ok(&["server", &id(&slow), "drain"]), format!("{} is drain, was ready\n", id(&slow)));
        assert_eq!(server.ctl_ok(&["server", &id(&slow), "drain"]), format!("{} is drain already\n", id(&slow)));
        let mut client = server.connect();
        for _ in 0..20 {
            assert_eq!(client.ask(get("/")).text(), "other", "{driver:?}");
        }
        let seen = |server: &Server| {
            let status = server.status();
            let found = status["upstreams"][0]["servers"][0].clone();
            (found["admin"].clone(), found["up"].clone(), found["active"].clone())
        };
        assert_eq!(seen(&server), ("drain".into(), false.into(), 1.into()), "{driver:?}");
        let labels = format!("server=\"{}\",state=\"DRAIN\"", slow.address);
        assert_eq!(server.metric("haproxy_server_status", &labels), 1.0, "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_server_taken_out", &slow.address.to_string()), 1.0, "{driver:?}");
        // It stays out whatever the config says next.
        server.reload_with(&[("body = \"own\"", "body = \"new\"")]);
        assert_eq!(seen(&server), ("drain".into(), false.into(), 1.into()), "{driver:?}");
        assert_eq!((0..6).filter(|_| client.ask(get("/")).text() == "slow").count(), 0, "{driver:?}");
        go.store(true, Ordering::SeqCst);
        for mut client in waiting {
            assert_eq!(client.response("GET").status, 200, "{driver:?}: what it had is finished");
        }
        eventually("nothing is under way", || seen(&server).2 == 0);
        server.ctl_ok(&["server", &id(&slow), "ready"]);
        assert!((0..6).any(|_| client.ask(get("/")).text() == "slow"), "{driver:?}: it is back");
    });
}

#[test]
fn nobody_checks_a_server_in_maintenance_and_without_servers_the_answer_is_503() {
    with_both_drivers(|driver| {
        let only = named("only");
        let server = balanced(driver, "{ path = \"/health\", interval = \"50ms\" }", &[&only]).start();
        eventually("it is checked", || only.count("/health") > 1);
        server.ctl_ok(&["server", &id(&only), "maintenance"]);
        assert_eq!(server.connect().ask(get("/")).status, 503, "{driver:?}");
        std::thread::sleep(Duration::from_millis(100));
        let checks = only.count("/health");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(only.count("/health"), checks, "{driver:?}");
        let text = server.ctl_ok(&["show"]);
        assert!(text.contains(&format!("{}  maintenance  L7OK", only.address)), "{driver:?}: {text}");
        server.ctl_ok(&["server", &id(&only), "ready"]);
        assert_eq!(server.connect().ask(get("/")).text(), "only", "{driver:?}");
        eventually("it is checked again", || only.count("/health") > checks);
        let events = server.status()["events"].to_string();
        assert!(events.contains("set to maintenance, was ready"), "{driver:?}: {events}");
    });
}

#[test]
fn wrong_names_are_told_who_is_there() {
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let error = server.ctl_fails(&["server", "apo/127.0.0.1:1", "drain"]);
    assert_eq!(error, "error: no upstream is called `apo`: there are api\n");
    let error = server.ctl_fails(&["server", "api/127.0.0.1:1", "drain"]);
    assert_eq!(error, format!("error: upstream `api` has no server `127.0.0.1:1`: there are {}\n", one.address));
    let error = server.ctl_fails(&["server", "api", "drain"]);
    assert!(error.starts_with("error: `api` names no server: write UPSTREAM/ADDRESS"), "{error}");
    let output = server.ctl(&["server", &id(&one), "dran"]);
    assert_eq!(output.status.code(), Some(2), "wrong flags");
    let output = server.ctl(&["--json", "server", "api", "drain"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!((output.status.code(), &json["ok"]), (Some(1), &false.into()));
}

#[test]
fn the_process_ends_as_it_is_told_and_takes_its_socket_along() {
    with_both_drivers(|driver| {
        let slow = FakeUpstream::start(|exchange| {
            exchange.read_body();
            std::thread::sleep(Duration::from_millis(500));
            exchange.ok("slow")
        });
        let mut server = balanced(driver, "false", &[&slow]).start();
        let mut client = server.connect();
        client.send(get("/"));
        eventually("it has come", || slow.count("/") == 1);
        assert_eq!(server.ctl_ok(&["shutdown", "--drain"]), "the process is draining\n");
        assert_eq!(client.response("GET").text(), "slow", "{driver:?}");
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
        let error = server.ctl_fails(&["show"]);
        assert!(error.contains("there is no such socket: is the process running"), "{driver:?}: {error}");
        let mut server = balanced(driver, "false", &[&slow]).start();
        // A drain that takes too long is cut short; a new config is refused meanwhile.
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost:");
        server.ctl_ok(&["shutdown", "--drain"]);
        server.wait_for_line("it drains", |line| line.contains(" draining: "));
        let error = server.ctl_fails(&["reload"]);
        assert!(error.contains("or the process ends"), "{driver:?}: {error}");
        assert_eq!(server.ctl_ok(&["shutdown"]), "the process is stopping\n");
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
    });
}

#[test]
fn a_socket_of_a_process_that_was_killed_is_replaced_and_one_in_use_is_not() {
    let one = named("one");
    let site = balanced(Driver::Auto, "false", &[&one]);
    let socket = site.folder().join("ctl.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let output = Command::new(env!("CARGO_BIN_EXE_one-server")).args(["ctl", "show", "--socket"]).arg(&socket).output();
    let output = output.expect("it runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody listens there any more"));
    let server = site.start();
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    let second = Site::new(Driver::Auto, "[site.main]\nroute = [{ path = \"/\", respond = {} }]\n")
        .process(&format!("control = \"{}\"", socket.display()));
    let output = second.command().output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot listen on unix:") && error.contains("another process has it"), "{error}");
    assert!(server.ctl_ok(&["show"]).contains("ready"), "the first one is heard still");
}

#[test]
fn others_may_not_use_it() {
    if !rustix::process::geteuid().is_root() || !has_program("setpriv") {
        return;
    }
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let socket = server.folder().join("ctl.sock");
    // The way there is open; the program lies where everybody may run it.
    std::fs::set_permissions(server.folder(), std::fs::Permissions::from_mode(0o755)).expect("a folder");
    let program = server.folder().join("one-server");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &program).expect("a copy");
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "nobody", "--clear-groups"])
            .arg(&program)
            .args(["ctl", "show", "--socket"])
            .arg(&socket);
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(as_nobody().contains("only root and the user of the process may use it"));
    // Even when somebody has opened the file to all.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("a socket");
    assert!(as_nobody().contains("you may not control this process"));
    server.wait_for_line("a word about it", |line| line.contains("may not use the control socket was refused"));
}

/// What is said on the socket, line by line.
#[test]
fn requests_are_lines_and_have_limits() {
    let one = named("one");
    let server = balanced(Driver::Auto, "false", &[&one]).start();
    let mut stream = UnixStream::connect(server.folder().join("ctl.sock")).expect("a socket");
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    let mut ask = |line: &[u8]| {
        stream.write_all(line).expect("sent");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")
    };
    assert_eq!(ask(b"{\"command\":\"show\"}\n")["result"]["phase"], "ready");
    for bad in [&b"hello\n"[..], b"\n", b"{\"command\":\"explode\"}\n", b"\xff\xfe\n", b"{\"command\":\"show\"}x\n"] {
        let answer = ask(bad);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().is_some_and(|error| error.starts_with("not a request: ")), "{answer}");
    }
    assert_eq!(ask(b"{\"command\":\"reload\"}\n")["result"]["generation"], 1, "it goes on behind mistakes");
    let long = ask(&vec![b'x'; 64 * 1024]);
    assert_eq!(long["error"], "a request is one line of at most 65536 bytes");
    // Many that say nothing keep nobody out for long, and nobody out who was there before.
    let silent: Vec<_> =
        (0..10).map(|_| UnixStream::connect(server.folder().join("ctl.sock")).expect("a socket")).collect();
    assert!(server.ctl_ok(&["show"]).contains("ready"));
    drop(silent);
}

#[test]
fn without_a_config_file_a_reload_loads_certificates_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    std::fs::write(folder.path().join("page"), "page").expect("a file");
    let socket = folder.path().join("ctl.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .arg("static")
        .arg(folder.path())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--data-cores", "0", "--control"])
        .arg(&socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let (send, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).all(|line| send.send(line).is_ok()));
    let wait_for = |text: &str| {
        while !told.recv_timeout(Duration::from_secs(20)).expect("a line").contains(text) {}
    };
    wait_for("ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("sent");
    wait_for("started from flags: certificates are loaded again, there is no config file");
    let mut client = support::Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.ask(get("/page")).text(), "page");
    let reload =
        Command::new(env!("CARGO_BIN_EXE_one-server")).args(["ctl", "reload", "--socket"]).arg(&socket).output();
    let told = String::from_utf8(reload.expect("it runs").stdout).expect("text");
    assert_eq!(told, "started from flags: certificates are loaded again, there is no config file\n");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}
