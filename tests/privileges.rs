//! `user` of [process] at the real binary, started by root: every thread of it must be that user for good, and what was
//! opened before must serve on. A thread that stays root, or a right that is kept, shows nowhere but in /proc.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::Signal;
use support::tools::{curl, make_certificate};
use support::*;

/// Tests that need root say so when they are skipped.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: only root can become another user");
    }
    is_root
}

fn lay_open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}

/// A free port that only root may bind.
fn low_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1024).find(is_free).expect("a free port")
}

/// Uid, Gid, Groups and the capability sets of every thread, each once.
fn identities(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let wanted = ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];
        let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        let identity =
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ");
        if !identity.is_empty() && !found.contains(&identity) {
            found.push(identity);
        }
    }
    found
}

fn text_of(command: &mut std::process::Command) -> String {
    String::from_utf8_lossy(&command.output().expect("it runs").stdout).trim().to_owned()
}

fn identity_of(user: &str, group: Option<&str>) -> String {
    let id = |flag: &str| text_of(std::process::Command::new("id").args([flag, user]));
    let uid = id("-u");
    let (gid, mut groups) = match group {
        None => (id("-g"), id("-G").split(' ').map(str::to_owned).collect::<Vec<_>>()),
        Some(group) => {
            let line = text_of(std::process::Command::new("getent").args(["group", group]));
            let gid = line.split(':').nth(2).expect("a group").to_owned();
            (gid.clone(), vec![gid])
        }
    };
    groups.sort_by_key(|group| group.parse::<u32>().expect("a number"));
    let none = "0".repeat(16);
    format!(
        "Uid: {uid} {uid} {uid} {uid}; Gid: {gid} {gid} {gid} {gid}; Groups: {}; CapInh: {none}; CapPrm: {none}; CapEff: {none}; CapAmb: {none}",
        groups.join(" ")
    )
}

#[test]
fn every_thread_becomes_the_user_and_serves_on() {
    if !is_root() || !has_program("curl") {
        return;
    }
    with_both_drivers(|driver| {
        let port = low_port() + u16::from(driver == Driver::Epoll) * 100;
        let rest = format!(
            r#"
[listener.low]
address = "127.0.0.1:{port}"
[listener.secure]
address = "127.0.0.1:0"
tls.certificates = [{{ chain = "$DIR/test.pem", key = "$DIR/test.key" }}]
[site.main]
route = [
  {{ path = "/", files = "$DIR/root" }},
  {{ path = "/app/", app = "probe", rewrite = "/echo" }},
]
[app.probe]
"#
        );
        let site = Site::probe(driver, &rest)
            .process("user = \"nobody\"")
            .log("access = \"$DIR/access.log\"\n")
            .file("root/page", b"page")
            .file("root/large", &pattern(300_000))
            .file("root/secret", b"secret");
        make_certificate(site.folder());
        lay_open(site.folder(), 0o755);
        lay_open(&site.folder().join("root/secret"), 0o600);
        lay_open(&site.folder().join("test.key"), 0o600);
        let server = site.start();
        assert_eq!(identities(server.pid()), [identity_of("nobody", None)], "{driver:?}");
        server.wait_for_line("who it is", |line| line.contains("privileges dropped user=nobody"));
        let as_wanted = if driver == Driver::IoUring { "driver=io_uring" } else { "driver=epoll" };
        assert!(server.lines().iter().any(|line| line.contains(as_wanted)), "{driver:?}: {:?}", server.lines());
        // Everything that was opened by root serves on; what is opened now is opened by the user.
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        assert_eq!(client.ask(get("/page")).text(), "page", "{driver:?}");
        assert_eq!(client.ask(get("/large")).body, pattern(300_000), "{driver:?}");
        assert_eq!(client.ask(get("/secret")).status, 403, "{driver:?}");
        assert_eq!(client.ask(post("/app/x", "body")).text(), "body", "{driver:?}");
        assert_eq!(curl("https", server.address("secure"), "/page", &[]).text(), "page", "{driver:?}");
        assert!(server.metric("process_cpu_seconds_total", "") >= 0.0);
        // Neither the log nor the key can be opened again: that is told, with the file and the user, and changes nothing.
        let log = server.folder().join("access.log");
        std::fs::rename(&log, server.folder().join("access.old")).expect("renamed");
        server.signal(Signal::USR1);
        server.wait_for_line("the log is not reopened", |line| {
            line.contains("error access log cannot be opened again")
                && line.contains("user=nobody")
                && line.contains("access.log")
        });
        server.signal(Signal::HUP);
        server.wait_for_line("the key is not read", |line| {
            line.contains("certificates not reloaded") && line.contains("user=nobody") && line.contains("test.key")
        });
        assert_eq!(curl("https", server.address("secure"), "/page?again", &[]).text(), "page", "{driver:?}");
        // Everything else of a new config counts.
        server.edit(&[("rewrite = \"/echo\"", "rewrite = \"/echo\", headers.set = { x-new = \"1\" }")]);
        server.signal(Signal::HUP);
        eventually("the new config is in use", || client.ask(post("/app/x", "body")).field("x-new") == Some("1"));
        let lines = || std::fs::read_to_string(server.folder().join("access.old")).unwrap_or_default();
        eventually("the old log goes on", || lines().contains("/page?again"));
        assert_eq!(identities(server.pid()), [identity_of("nobody", None)], "{driver:?}");
    });
}

/// The sockets are handed over, so that a process that is root no more is followed by one that never was.
#[test]
fn another_process_takes_over_without_the_rights_of_root() {
    if !is_root() {
        return;
    }
    with_both_drivers(|driver| {
        let port = low_port() + 30 + u16::from(driver == Driver::Epoll) * 100;
        let rest = format!(
            "[listener.low]\naddress = \"127.0.0.1:{port}\"\n[site.main]\n\
             route = [{{ path = \"/\", respond = {{ body = \"ok\" }} }}]\n"
        );
        let site = Site::new(driver, &rest)
            .process("user = \"nobody\"\ncontrol = \"$DIR/run/ctl.sock\"\ndrain_timeout = \"1s\"")
            .file("run/nothing", b"");
        lay_open(site.folder(), 0o755);
        // The binary may lie where only root gets at it.
        let copy = site.folder().join("program");
        std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &copy).expect("a copy");
        lay_open(&copy, 0o755);
        let server = site.program(&copy).start();
        let upgrade = || {
            let mut command = std::process::Command::new(&copy);
            let output = command.args(["upgrade", "--json", "--socket"]).arg(server.folder().join("run/ctl.sock"));
            let output = output.output().expect("it runs");
            serde_json::from_slice::<serde_json::Value>(&output.stdout)
                .or_else(|_| serde_json::from_slice(&output.stderr))
                .expect("JSON")
        };
        for _ in 0..2 {
            let old = server.pid();
            let answer = upgrade();
            server.follow(answer["result"]["pid"].as_u64().expect("a number") as u32);
            assert_eq!(identities(server.pid()), [identity_of("nobody", None)], "{driver:?}");
            eventually("the old one ends", || support::server::has_ended(old));
            for _ in 0..20 {
                let mut client = Client::connect(([127, 0, 0, 1], port).into());
                assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?}");
            }
        }
        assert!(!server.lines().iter().any(|line| line.contains("`user` of [process] is ignored")), "{driver:?}");
        // What is new needs root, and this is told.
        let other = format!("[listener.other]\naddress = \"127.0.0.1:{}\"\n[listener.low]", low_port() + 60);
        server.edit(&[("[listener.low]", &other)]);
        let error = upgrade()["error"].as_str().expect("a reason").to_owned();
        assert!(error.contains("ports below 1024 need root"), "{driver:?}: {error}");
        assert_eq!(Client::connect(([127, 0, 0, 1], port).into()).ask(get("/")).text(), "ok", "{driver:?}");
    });
}

#[test]
fn a_group_of_its_own_and_a_drain() {
    if !is_root() {
        return;
    }
    let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"ok\" } }]\n\
         [mysql.db]\nlisten = \"unix:$DIR/db.sock\"\nprimary = \"127.0.0.1:1\"\nuser = \"x\"\npassword = \"y\"\n";
    let mut server = Site::new(Driver::Auto, rest).process("user = \"www-data\"\ngroup = \"daemon\"").start();
    let found = identities(server.pid());
    // Applications of the group reach the socket.
    let socket = std::fs::metadata(server.folder().join("db.sock")).expect("it is there");
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (33, 1, 0o660));
    assert_eq!(found, [identity_of("www-data", Some("daemon"))]);
    assert_eq!(server.connect().ask(get("/")).text(), "ok");
    server.signal(Signal::QUIT);
    assert!(server.wait().success());
}

#[test]
fn what_the_user_cannot_do_is_told_by_the_check() {
    if !is_root() {
        return;
    }
    let rest = r#"
[listener.secure]
address = "127.0.0.1:0"
tls.certificates = [{ chain = "$DIR/test.pem", key = "$DIR/test.key" }]
[site.main]
route = [{ path = "/", respond = {} }]
"#;
    let check = |user: &str, mode: u32| {
        let site = Site::new(Driver::Auto, rest).process(&format!("user = \"{user}\""));
        make_certificate(site.folder());
        lay_open(site.folder(), 0o755);
        lay_open(&site.folder().join("test.pem"), 0o644);
        lay_open(&site.folder().join("test.key"), mode);
        let config = site.write_config();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_one-server"));
        let output = command.args(["check", "-c"]).arg(config).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = check("nobody", 0o600);
    assert!(code == Some(0) && told.contains("user `nobody` may not read") && told.contains("test.key"), "{told}");
    assert!(!told.contains("test.pem may"), "{told}");
    let (code, told) = check("nobody", 0o644);
    assert!(code == Some(0) && !told.contains("may not read"), "{told}");
    let (code, told) = check("no-such-user", 0o600);
    assert!(code == Some(1) && told.contains("this machine has no user `no-such-user`"), "{told}");
}

/// As nginx: a warning, and it runs as who it is.
#[test]
fn nobody_else_becomes_another_user() {
    if !is_root() || !has_program("setpriv") {
        return;
    }
    let rest = "[site.main]\nroute = [{ path = \"/\", respond = { body = \"ok\" } }]\n";
    let site = Site::new(Driver::Auto, rest).process("user = \"www-data\"");
    lay_open(site.folder(), 0o755);
    // The binary may lie where only root gets at it.
    let copy = std::env::temp_dir().join(format!("one-server-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &copy).expect("a copy");
    lay_open(&copy, 0o755);
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sh", "-c"]);
    command.arg(format!("shift; exec {} \"$@\"", copy.display())).arg("sh");
    let server = site.start_through(command);
    std::fs::remove_file(&copy).expect("removed");
    server.wait_for_line("the warning", |line| {
        line.contains("warn `user` of [process] is ignored: only root can become another user user=www-data")
    });
    assert_eq!(server.connect().ask(get("/")).text(), "ok");
    assert_eq!(identities(server.pid()).len(), 1);
}
