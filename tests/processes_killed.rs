//! Whoever looks after applications that are processes is killed: alone, together, and in the middle of a takeover. Nothing of
//! what they have started may be left behind. Further cases: `processes.rs`.

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, eventually_gone, parent_of, pids, signal, site, text};
use support::server::has_ended;
use support::*;

/// Each instance has two children, one of them in a session of its own, and neither it nor they heed SIGTERM.
const CLINGING: &str =
    "kill_timeout = \"500ms\"\nbackoff = \"50ms\"\nenvironment = { SPAWN = \"1\", STUBBORN = \"1\" }\n";

/// What instances have told of their children.
fn children(server: &Server) -> Vec<u32> {
    let lines = server.lines();
    let told = lines.iter().filter_map(|line| line.split_once("children ").map(|(_, rest)| rest));
    told.flat_map(|rest| rest.split(' ').take(2).filter_map(|pid| pid.parse::<u32>().ok())).collect()
}

/// All that programs are now: instances, and their children.
fn all_of(server: &Server) -> Vec<u32> {
    eventually("they tell of their children", || {
        children(server).iter().filter(|pid| !has_ended(**pid)).count() >= 2 * pids(server).len()
    });
    let alive = children(server).into_iter().filter(|pid| !has_ended(*pid));
    alive.chain(pids(server)).collect()
}

#[test]
fn sigkill_of_the_warden_is_told_and_a_takeover_mends_it() {
    let server = site(&format!("{BY_FD}{CLINGING}")).start();
    let (mut first, old) = (all_of(&server), server.pid());
    let keeper = parent_of(pids(&server)[0]);
    let warden = parent_of(keeper);
    assert_eq!(parent_of(warden), old);
    signal(warden, Signal::KILL);
    server.wait_for_line("it is told", |line| line.contains("error the warden of programs has been killed"));
    assert!(server.admin("/status").contains("the warden of programs has been killed"), "it is an event");
    eventually("it is reaped", || !std::path::Path::new(&format!("/proc/{warden}")).exists());
    assert_eq!(text(&server, "/"), "here");
    server.ctl_ok(&["app", "restart", "shop"]);
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| !first.contains(pid)));
    first.extend(all_of(&server));
    server.upgrade();
    first.push(keeper);
    eventually_gone(&first);
    let guard = parent_of(parent_of(pids(&server)[0]));
    assert_eq!((parent_of(guard), text(&server, "/").as_str()), (server.pid(), "here"), "there is a warden again");
    let mut last = all_of(&server);
    last.push(guard);
    server.signal(Signal::KILL);
    eventually_gone(&last);
}

#[test]
fn sigkill_of_warden_and_keeper_leaves_no_process_behind() {
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).start();
    let first = all_of(&server);
    assert_eq!(first.len(), 6, "{:?}", server.lines());
    let keeper = parent_of(pids(&server)[0]);
    // They are seen once a second.
    std::thread::sleep(Duration::from_millis(2500));
    signal(parent_of(keeper), Signal::KILL);
    signal(keeper, Signal::KILL);
    eventually_gone(&first);
    eventually("others serve", || pids(&server).len() == 2 && server.connect().ask(get("/")).status == 200);
    let guard = parent_of(parent_of(pids(&server)[0]));
    assert_eq!(parent_of(guard), server.pid(), "there is a warden again");
}

/// Helpers that an instance has started now: nobody has looked for them yet. They are in sessions of their own, their parents have
/// ended, or their environment is empty.
fn helpers(server: &Server) -> Vec<u32> {
    let told = text(server, "/spawn");
    let pids: Vec<u32> = told.split(' ').map(|pid| pid.parse().expect("a number")).collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| !has_ended(*pid)), "{told}");
    pids
}

#[test]
fn helpers_in_sessions_of_their_own_end_with_their_instance() {
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).start();
    let mut first = all_of(&server);
    let keeper = parent_of(pids(&server)[0]);
    first.extend(helpers(&server));
    server.ctl_ok(&["app", "restart", "shop"]);
    eventually_gone(&first);
    eventually("others serve", || pids(&server).len() == 2);
    assert_eq!(parent_of(pids(&server)[0]), keeper, "it was not for the end of the keeper");
    // Those of one instance are not those of another one.
    let (alive, [one, other]) = (all_of(&server), <[u32; 2]>::try_from(pids(&server)).expect("two"));
    let helpers: Vec<u32> = (0..8).flat_map(|_| helpers(&server)).collect();
    signal(one, Signal::KILL);
    eventually("another one serves", || pids(&server).len() == 2 && !pids(&server).contains(&one));
    assert!(!has_ended(other) && alive.iter().filter(|pid| !has_ended(**pid)).count() == 3, "{alive:?}");
    let left = helpers.iter().filter(|pid| !has_ended(**pid)).count();
    assert!(left > 0 && left < helpers.len() && left.is_multiple_of(3), "{left} of {}", helpers.len());
}

#[test]
fn sigkill_of_warden_and_keeper_leaves_no_process_behind_that_nobody_has_seen() {
    let server = site(&format!("{BY_FD}{CLINGING}")).start();
    let mut first = all_of(&server);
    let keeper = parent_of(pids(&server)[0]);
    let warden = parent_of(keeper);
    first.extend(helpers(&server));
    signal(warden, Signal::KILL);
    signal(keeper, Signal::KILL);
    eventually_gone(&first);
    eventually("another one serves", || pids(&server).len() == 1 && server.connect().ask(get("/")).status == 200);
}

#[test]
fn sigkill_of_the_old_process_in_the_middle_of_its_drain_leaves_no_process_behind() {
    let server = site(&format!("{BY_FD}{CLINGING}")).start();
    let (mut first, old) = (all_of(&server), server.pid());
    let keeper = parent_of(pids(&server)[0]);
    first.extend([keeper, parent_of(keeper)]);
    let mut client = server.connect();
    client.send(post("/slow/60000", "x"));
    std::thread::sleep(Duration::from_millis(500));
    server.upgrade();
    assert!(first.iter().all(|pid| !has_ended(*pid)) && !has_ended(old), "it has a request yet");
    signal(old, Signal::KILL);
    eventually_gone(&first);
    assert_eq!(text(&server, "/"), "here", "the new one serves on");
    let last = all_of(&server);
    server.signal(Signal::KILL);
    eventually_gone(&last);
}

/// The process that has taken over has another way to the keeper, and starts programs again only when those before are gone.
#[test]
fn an_heir_hears_of_the_end_of_the_keeper_when_its_warden_has_killed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let open = |path: &std::path::Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("a mode");
    };
    let lines = format!(
        "command = [\"$PYTHON\", \"$DIR/app.py\", \"fd\"]\nlisten = \"fd\"\nuser = \"daemon\"\ndirectory = \"/\"\n{CLINGING}"
    );
    let program = std::fs::read(format!("{PEERS}/process_app.py")).expect("it is there");
    let site = site(&lines).file("app.py", &program).file("run/nothing", b"").process("user = \"nobody\"");
    open(site.folder());
    std::os::unix::fs::chown(site.folder(), Some(65_534), Some(65_534)).expect("a change of owner");
    let binary = site.folder().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &binary).expect("a copy");
    open(&binary);
    let server = site.program(&binary).start();
    let before = all_of(&server);
    let keeper = parent_of(pids(&server)[0]);
    server.upgrade();
    eventually_gone(&pids(&server).iter().filter(|pid| before.contains(pid)).copied().collect::<Vec<_>>());
    eventually("its own serve", || pids(&server).first().is_some_and(|pid| !before.contains(pid)));
    assert_eq!(parent_of(pids(&server)[0]), keeper, "it is inherited");
    let all = all_of(&server);
    let warden = parent_of(keeper);
    signal(warden, Signal::STOP);
    signal(keeper, Signal::KILL);
    std::thread::sleep(Duration::from_millis(1500));
    let is_told = |line: &String| line.contains("the keeper of programs has ended");
    let told_early = server.lines().iter().any(is_told);
    signal(warden, Signal::CONT);
    assert!(!told_early, "its warden has not killed yet");
    server.wait_for_line("it is told", |line| line.contains("the keeper of programs has ended"));
    assert!(all.iter().all(|pid| has_ended(*pid)), "they are gone by then");
}
