//! Applications that are processes in a PID namespace of their own (`process.private_pids`), which takes root.

mod support;

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use support::apps::{BY_FD, eventually_gone, parent_of, pids, shop, signal, site, text};
use support::php;
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
    assert_eq!(all_beside(second).len(), 2, "the keeper and the instance");
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

/// Root with `user`: the keeper goes on when another process takes over; killed, it is replaced by what the server may still do.
#[test]
fn without_root_programs_go_on_without_a_namespace() {
    if !may_make_namespaces() {
        return;
    }
    let server = site(BY_FD).process(PRIVATE).process("user = \"nobody\"").start();
    let first = pids(&server)[0];
    let keeper = parent_of(first);
    assert_ne!(namespace(first), namespace(server.pid()));
    signal(keeper, Signal::KILL);
    server.wait_for_line("it is told", |line| {
        line.contains("error") && line.contains("`private_pids`") && line.contains("until one-server is restarted")
    });
    eventually("another one serves", || {
        pids(&server).first().is_some_and(|pid| *pid != first && namespace(*pid) == namespace(server.pid()))
            && server.connect().ask(get("/")).status == 200
    });
}

#[test]
fn who_may_not_make_a_namespace_is_told() {
    if !may_make_namespaces() {
        return;
    }
    let site = site(BY_FD).process(PRIVATE);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    let plain = site.command();
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
