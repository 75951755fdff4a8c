//! Applications that are processes in a PID namespace of their own (`process.private_pids`), which takes root.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, eventually_gone, parent_of, pids, shop, signal, site, text};
use support::php;
use support::server::has_ended;
use support::*;

const PRIVATE: &str = "private_pids = true";

/// Each instance has two children, one of them in a session of its own, and neither it nor they heed SIGTERM.
const CLINGING: &str =
    "kill_timeout = \"500ms\"\nbackoff = \"50ms\"\nenvironment = { SPAWN = \"1\", STUBBORN = \"1\" }\n";

fn may_make_namespaces() -> bool {
    let tried = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("SKIPPED: only root can make PID namespaces");
    }
    may
}

fn namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Those in the namespace of this process, as they are numbered here.
fn all_beside(pid: u32) -> Vec<u32> {
    let own = namespace(pid).expect("it is there");
    let entries = std::fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| namespace(*pid).as_ref() == Some(&own)).collect()
}

/// Instances, their children, and what they start when they are asked: in sessions of their own, without an environment, with a
/// parent that has ended.
#[test]
fn nothing_is_left_when_server_warden_and_keeper_are_killed_at_once() {
    if !may_make_namespaces() {
        return;
    }
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).process(PRIVATE).start();
    let keeper = parent_of(pids(&server)[0]);
    assert_ne!(namespace(keeper), namespace(server.pid()));
    text(&server, "/spawn");
    eventually("all are there", || all_beside(keeper).len() == 1 + 2 * 3 + 3);
    let all = all_beside(keeper);
    let three = [server.pid(), parent_of(keeper), keeper];
    // None of them may do anything about the end of the others.
    three.iter().for_each(|pid| signal(*pid, Signal::STOP));
    three.iter().for_each(|pid| signal(*pid, Signal::KILL));
    eventually_gone(&all);
}

/// PHP's workers would wait for requests for ever.
#[test]
fn no_worker_of_php_is_left_either() {
    if !may_make_namespaces() || php::program().is_none() {
        return;
    }
    let rest = "[app.shop]\ntype = \"php\"\nworkers = 3\n\
                [site.main]\nroute = [{ path = \"/\", app = \"shop\", cgi = \"$DIR/www\" }]\n";
    let site = Site::new(Driver::Auto, rest).process("control = \"$DIR/ctl.sock\"").process(PRIVATE);
    let server = site.file("www/index.php", b"<?php echo getmypid();").start();
    let leader = pids(&server)[0];
    eventually("the workers are there", || all_beside(leader).len() == 1 + 1 + 4);
    let before = text(&server, "/");
    assert!(before.parse::<u32>().is_ok_and(|inside| inside < leader), "{before}");
    server.ctl_ok(&["app", "restart", "shop"]);
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != leader));
    let leader = pids(&server)[0];
    eventually("the old one has ended", || all_beside(leader).len() == 1 + 1 + 4);
    let (all, keeper) = (all_beside(leader), parent_of(leader));
    let three = [server.pid(), parent_of(keeper), keeper];
    three.iter().for_each(|pid| signal(*pid, Signal::STOP));
    three.iter().for_each(|pid| signal(*pid, Signal::KILL));
    eventually_gone(&all);
}

#[test]
fn the_keeper_takes_all_with_it_and_others_are_started() {
    if !may_make_namespaces() {
        return;
    }
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).process(PRIVATE).start();
    let keeper = parent_of(pids(&server)[0]);
    text(&server, "/spawn");
    let all = all_beside(keeper);
    signal(keeper, Signal::KILL);
    eventually_gone(&all);
    eventually("others serve", || pids(&server).len() == 2 && server.connect().ask(get("/")).status == 200);
    let now = namespace(pids(&server)[0]);
    assert!(now != namespace(server.pid()) && now.is_some(), "in a namespace again");
}

/// They are watched, limited and replaced by the numbers that they have outside.
#[test]
fn instances_are_known_by_their_numbers_outside() {
    if !may_make_namespaces() {
        return;
    }
    let lines = "restart_memory = \"200MiB\"\nbackoff = \"50ms\"\nkill_timeout = \"500ms\"\n";
    let server = site(&format!("{BY_FD}{lines}")).process(PRIVATE).start();
    let first = pids(&server)[0];
    let inside: u32 = text(&server, "/pid").parse().expect("a number");
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("it is there");
    assert!(status.lines().any(|line| line == format!("NSpid:\t{first}\t{inside}")), "{inside}: {status}");
    // What a child holds counts.
    let child: u32 = text(&server, "/leak_child/256").parse().expect("a number");
    assert!(child > inside, "it sees its own numbers alone");
    server.wait_for_line("it is replaced for its memory", |line| {
        line.contains("instance ended") && line.contains(&format!("pid={first}")) && line.contains("reason=memory")
    });
    let second = pids(&server)[0];
    assert!(server.ctl_ok(&["app", "show"]).contains(&format!("pid {second} ")));
    eventually("the keeper and the instance are left", || all_beside(second).len() == 2);
    signal(second, Signal::KILL);
    server.wait_for_line("its end is known", |line| {
        line.contains("instance ended by itself")
            && line.contains(&format!("pid={second}"))
            && line.contains("signal 9")
    });
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != second));
    server.upgrade();
    eventually("that of the new process serves", || pids(&server).len() == 1 && text(&server, "/") == "here");
    assert_eq!(shop(&server)["state"], "ready");
    let last = pids(&server)[0];
    let keeper = parent_of(last);
    assert_eq!(parent_of(parent_of(keeper)), server.pid(), "it has a keeper of its own");
    server.signal(Signal::QUIT);
    eventually_gone(&[last, keeper]);
}

/// A folder in which everybody may run the program.
struct Open(tempfile::TempDir);

impl Open {
    fn new() -> Open {
        let folder = tempfile::Builder::new().prefix("one-server-app").tempdir_in("/tmp").expect("a folder");
        std::fs::copy(format!("{PEERS}/process_app.py"), folder.path().join("app.py")).expect("a copy");
        lay_open(folder.path());
        Open(folder)
    }

    /// Of an application.
    fn lines(&self) -> String {
        let folder = self.0.path().display();
        let command = "command = [\"/usr/bin/python3\", \"app.py\", \"fd\"]\nlisten = \"fd\"\n";
        format!("{command}directory = \"{folder}\"\n")
    }

    /// Of the binary, which may lie where only root gets at it.
    fn program(&self) -> PathBuf {
        let program = self.0.path().join("program");
        std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &program).expect("a copy");
        lay_open(&program);
        program
    }
}

fn lay_open(path: &Path) {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, open).expect("permissions");
}

/// Root with `user`: the keeper of the first process goes on, whoever the programs are.
#[test]
fn a_process_that_is_root_no_longer_hands_the_keeper_on() {
    if !may_make_namespaces() {
        return;
    }
    for user in ["", "user = \"daemon\"\n"] {
        let open = Open::new();
        let site = site(&format!("{}{user}", open.lines())).process(PRIVATE).process("user = \"nobody\"");
        let site = site.file("run/nothing", b"").program(&open.program());
        lay_open(site.folder());
        let nobody = 65_534;
        std::os::unix::fs::chown(site.folder(), Some(nobody), Some(nobody)).expect("a change of owner");
        let server = site.start();
        let mut before = pids(&server);
        let keeper = parent_of(before[0]);
        assert_ne!(namespace(keeper), namespace(server.pid()));
        for _ in 0..2 {
            server.upgrade();
            eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
            before = pids(&server);
            assert_eq!(before.iter().map(|pid| parent_of(*pid)).collect::<Vec<_>>(), [keeper], "{user}");
            assert_eq!(text(&server, "/"), "here");
        }
        text(&server, "/spawn");
        let all = all_beside(keeper);
        assert!(all.len() > 4, "{all:?}");
        signal(keeper, Signal::KILL);
        eventually_gone(&all);
    }
}

/// Killed, the keeper is replaced by what a server may still do that is root no longer; another process takes it so.
#[test]
fn without_root_programs_go_on_without_a_namespace() {
    if !may_make_namespaces() {
        return;
    }
    let open = Open::new();
    let site = site(&open.lines()).process(PRIVATE).process("user = \"nobody\"");
    let site = site.file("run/nothing", b"").program(&open.program());
    lay_open(site.folder());
    let nobody = 65_534;
    std::os::unix::fs::chown(site.folder(), Some(nobody), Some(nobody)).expect("a change of owner");
    let server = site.start();
    let first = pids(&server)[0];
    assert_ne!(namespace(first), namespace(std::process::id()));
    signal(parent_of(first), Signal::KILL);
    let is_told = |line: &str| line.contains("error programs have no PID namespace of their own (`private_pids`");
    server.wait_for_line("it is told", is_told);
    eventually("another one serves", || {
        pids(&server).first().is_some_and(|pid| *pid != first) && server.connect().ask(get("/")).status == 200
    });
    let second = pids(&server)[0];
    assert_eq!(namespace(second), namespace(std::process::id()));
    server.upgrade();
    eventually("that of the new process serves", || pids(&server).first().is_some_and(|pid| *pid != second));
    assert_eq!(text(&server, "/"), "here");
    assert_eq!(server.lines().iter().filter(|line| is_told(line)).count(), 2, "{:?}", server.lines());
}

/// Mounts outside are shared, as systemd has them, and /proc is restricted as it is in a service.
#[test]
fn programs_see_their_own_processes_and_nothing_of_it_shows_outside() {
    if !may_make_namespaces() {
        return;
    }
    let restrict = "mount -t proc -o hidepid=2 proc /proc && mount --bind /proc/sys /proc/sys && \
                    mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", "sh", "-c", restrict, "sh"]);
    let server = site(BY_FD).process(PRIVATE).start_through(command);
    let seen: Vec<u32> = text(&server, "/processes").split(' ').map(|pid| pid.parse().expect("a number")).collect();
    let own: u32 = text(&server, "/pid").parse().expect("a number");
    assert_eq!(seen, [1, own]);
    let of_proc = |mounts: &str| -> Vec<String> {
        let lines = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/proc")));
        lines.map(str::to_owned).collect()
    };
    let inside = of_proc(&text(&server, "/mounts"));
    let (last, sys) = (&inside[inside.len() - 2], &inside[inside.len() - 1]);
    assert!(last.contains(" / /proc rw,nosuid,nodev,noexec") && last.contains("hidepid="), "{inside:?}");
    assert!(sys.contains(" /sys /proc/sys ro,"), "{inside:?}");
    let outside = std::fs::read_to_string(format!("/proc/{}/mountinfo", server.pid())).expect("it is there");
    let outside = of_proc(&outside);
    assert_eq!(outside.len() + 2, inside.len(), "{outside:?}, {inside:?}");
}

#[test]
fn who_may_not_make_a_namespace_is_told() {
    if !may_make_namespaces() {
        return;
    }
    let site = site(BY_FD).process(PRIVATE);
    let plain = site.command();
    let mut command = Command::new("timeout");
    command.args(["20", "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    command.arg(plain.get_program()).args(plain.get_args()).envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("`private_pids` in [process]")
            && told.contains("CAP_SYS_ADMIN")
            && told.contains("not permitted"),
        "{told}"
    );
}
