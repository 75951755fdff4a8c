//! A takeover that comes to nothing, at the real binary under load: whatever happens to the new process before it serves, the
//! old one goes on, says why, and can be taken over later.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::load::{HERE, under_load};
use support::server::has_ended;
use support::*;

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

fn site(driver: Driver, process: &str) -> Site {
    Site::new(driver, HERE).process(CONTROL).process(process)
}

/// Processes that were started to take over.
fn started(server: &Server) -> Vec<u32> {
    let lines = server.lines();
    let pids = lines.iter().filter_map(|line| line.split_once("has been started to take over pid="));
    pids.map(|(_, pid)| pid.trim().parse().expect("a number")).collect()
}

/// Signals the process that is started next as soon as it is there.
fn signal_next(server: &Server, known: usize, after: Duration, signal: Signal) -> u32 {
    eventually("another process is started", || started(server).len() > known);
    std::thread::sleep(after);
    let pid = started(server)[known];
    let _ = kill_process(Pid::from_raw(pid as i32).expect("a number"), signal);
    pid
}

/// Puts another program into the place of the one that was started.
fn replace(server: &Server, program: Option<&str>) {
    let path = server.folder().join("program");
    std::fs::remove_file(&path).expect("it was there");
    match program {
        None => {}
        Some("") => std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_one-server"), &path).expect("a link"),
        Some(script) => {
            std::fs::write(&path, script).expect("a script");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a mode");
        }
    }
}

fn assert_goes_on(server: &Server, pid: u32) {
    assert_eq!(server.pid(), pid);
    assert!(!has_ended(pid));
    assert_eq!(server.connect().ask(get("/")).text(), "here");
    assert!(server.ctl_ok(&["show"]).contains(&format!("pid {pid}, ready")));
}

#[test]
fn bad_configs_and_programs_change_nothing() {
    with_both_drivers(|driver| {
        let server = site(driver, "takeover_timeout = \"2s\"").linked("program").start();
        let pid = server.pid();
        let descriptors = server.descriptors();
        let load = under_load(&server, || {
            server.edit(&[("path = \"/\"", "paht = \"/\"")]);
            let told = server.ctl_fails(&["upgrade"]);
            assert!(told.contains("unknown key `paht`") && told.contains("site.toml:"), "{driver:?}: {told}");
            server.edit(&[("paht = \"/\"", "path = \"/\"")]);
            // A port that somebody has.
            let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let listener = format!("[listener.y]\naddress = \"{}\"\n[site.main]", taken.local_addr().expect("bound"));
            server.edit(&[("[site.main]", &listener)]);
            let told = server.ctl_fails(&["upgrade"]);
            assert!(told.contains("cannot listen on") && told.contains("listener `y`"), "{driver:?}: {told}");
            server.edit(&[(&listener, "[site.main]")]);
            replace(&server, None);
            let told = server.ctl_fails(&["upgrade"]);
            assert!(told.contains("program` cannot be started: No such file"), "{driver:?}: {told}");
            std::fs::write(server.folder().join("program"), "").expect("a file");
            replace(&server, Some("#!/bin/sh\nexit 3\n"));
            let told = server.ctl_fails(&["upgrade"]);
            assert!(
                told.contains("the new process ended before it was ready") && told.contains("exit status: 3"),
                "{driver:?}: {told}"
            );
            replace(&server, Some("#!/bin/sh\nexec sleep 1000\n"));
            let known = started(&server).len();
            let told = server.ctl_fails(&["upgrade"]);
            assert!(told.contains("was not ready in time (`takeover_timeout` in [process])"), "{driver:?}: {told}");
            eventually("it is ended", || has_ended(started(&server)[known]));
            assert_goes_on(&server, pid);
        });
        load.assert_all_well(300);
        eventually("nothing stays open", || server.descriptors() <= descriptors + 2);
        let reasons = server.lines().iter().filter(|line| line.contains("error not taken over")).count();
        assert_eq!(reasons, 5, "{driver:?}");
        // A good one is in time all the same.
        replace(&server, Some(""));
        let next = server.upgrade();
        assert_ne!(next, pid);
        assert_eq!(server.connect().ask(get("/")).text(), "here", "{driver:?}");
    });
}

#[test]
fn a_new_process_that_is_killed_or_frozen_at_any_moment_costs_nothing() {
    with_both_drivers(|driver| {
        let server = site(driver, "takeover_timeout = \"1s\"").start();
        let load = under_load(&server, || {
            for round in 0..24u64 {
                let (before, known) = (server.pid(), started(&server).len());
                server.signal(Signal::USR2);
                let signal = if round % 6 == 5 { Signal::STOP } else { Signal::KILL };
                // From its first moment to the last before it serves.
                let pid = signal_next(&server, known, Duration::from_millis(round * 2), signal);
                let count = |text: &str| server.lines().iter().filter(|line| line.contains(text)).count();
                let is_settled =
                    || count("error not taken over") + count("info taken over by another process") == known + 1;
                eventually("it is settled", is_settled);
                if count("info taken over by another process") > 0 {
                    // It served already: then it was killed as one that serves, which is another thing.
                    break;
                }
                eventually("it is gone", || has_ended(pid));
                assert_goes_on(&server, before);
            }
            assert!(started(&server).len() >= 3, "{driver:?}: {:?}", started(&server));
        });
        let line = server.lines().into_iter().find(|line| line.contains("info taken over by another process"));
        if line.is_none() {
            load.assert_all_well(100);
            server.upgrade();
            assert_eq!(server.connect().ask(get("/")).text(), "here", "{driver:?}");
        }
    });
}

#[test]
fn one_takeover_at_a_time_and_no_reload_meanwhile() {
    with_both_drivers(|driver| {
        let mut server = site(driver, "takeover_timeout = \"60s\"").linked("program").start();
        replace(&server, Some("#!/bin/sh\nexec sleep 1000\n"));
        server.signal(Signal::USR2);
        eventually("one is under way", || started(&server).len() == 1);
        assert_eq!(server.ctl_fails(&["upgrade"]), "error: a takeover is under way already\n");
        let told = server.ctl_fails(&["reload"]);
        assert!(told.contains("a takeover by another process is under way: try again when it is over"), "{told}");
        server.signal(Signal::HUP);
        server.wait_for_line("the same", |line| line.contains("error SIGHUP: not reloaded: a takeover"));
        server.signal(Signal::USR2);
        server.wait_for_line("the same", |line| line.contains("warn a takeover is under way already"));
        // The end of the process is the end of the other one too.
        let other = started(&server)[0];
        server.signal(Signal::TERM);
        assert!(server.wait().success(), "{driver:?}");
        eventually("it is gone", || has_ended(other));
    });
}

#[test]
fn a_file_that_was_replaced_is_the_one_that_is_started() {
    let site = site(Driver::Auto, "drain_timeout = \"1s\"");
    let copy = site.folder().join("copy");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &copy).expect("a copy");
    let mut server = site.program(&copy).start();
    let first = server.pid();
    // As a package manager does it: the old file is gone, and the kernel calls it deleted.
    let script = format!(
        "#!/bin/sh\ntouch {}\nexec {} \"$@\"\n",
        server.folder().join("seen").display(),
        env!("CARGO_BIN_EXE_one-server")
    );
    let beside = server.folder().join("beside");
    std::fs::write(&beside, script).expect("a script");
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o755)).expect("a mode");
    std::fs::rename(&beside, &copy).expect("replaced");
    let running = std::fs::read_link(format!("/proc/{first}/exe")).expect("a link");
    assert!(running.to_string_lossy().ends_with("copy (deleted)"));
    server.upgrade();
    assert!(server.folder().join("seen").exists());
    assert_eq!(server.connect().ask(get("/")).text(), "here");
    assert!(server.wait().success());
}

#[test]
fn the_demo_is_not_taken_over() {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" demo --no-database --listen 127.0.0.1:0"]);
    let mut server = Site::new(Driver::Auto, HERE).start_through(shell);
    server.signal(Signal::USR2);
    server.wait_for_line("why", |line| {
        line.contains("error not taken over, this process goes on") && line.contains("the demo cannot be taken over")
    });
    assert!(server.is_running());
}

#[test]
fn without_a_control_socket_there_is_a_word_about_it() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_one-server"));
    let output = command.args(["upgrade", "--socket", "/no/such.sock"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("/no/such.sock: there is no such socket"), "{told}");
}
