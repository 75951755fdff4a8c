//! Whoever looks after applications that are processes is killed: alone, together, and in the middle of a takeover. Nothing of
//! what they have started may be left behind. Further cases: `processes.rs`.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, eventually_gone, parent_of, pids, signal, site, text, with_environment};
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

/// Rounds of the test below; each has a seed of its own.
const ROUNDS: u64 = 10;

/// While instances start, serve, are replaced and end; in the middle of the start of the server as well.
#[test]
fn sigkill_of_the_server_at_any_moment_leaves_no_process_behind() {
    let mut at_work = 0;
    for seed in 0..ROUNDS {
        let mut random = StdRng::seed_from_u64(seed);
        let clinging = CLINGING.replace("SPAWN", "EDITION = \"$DIR\", START_MS = \"100\", SPAWN");
        let site = site(&format!("{BY_FD}instances = 3\nsurge = 2\n{clinging}"));
        let mark = site.folder().to_str().expect("a plain path").to_owned();
        let mut moment =
            |longest_ms: u64| std::thread::sleep(Duration::from_millis(random.random_range(0..longest_ms)));
        let (pid, seen) = if seed % 2 == 0 {
            let mut command = site.command();
            let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            moment(900);
            let seen = with_environment(&mark);
            child.kill().expect("it is there");
            child.wait().expect("a child");
            (child.id(), seen)
        } else {
            let server = site.start();
            let mut seen = helpers(&server);
            server.ctl_ok(&["app", "restart", "shop"]);
            moment(1500);
            // One of them ends by itself at the same time.
            let one = with_environment(&mark).first().copied();
            if let Some(pid) = one.and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            moment(30);
            seen.extend(with_environment(&mark));
            server.signal(Signal::KILL);
            (server.pid(), seen)
        };
        at_work += usize::from(!seen.is_empty());
        eventually(&format!("seed {seed}: those that were seen are gone"), || seen.iter().all(|pid| has_ended(*pid)));
        let keepers = || with_environment(&format!("ONE_SERVER_KEEPER_OF={pid}\0"));
        eventually(&format!("seed {seed}: nobody is left"), || {
            with_environment(&mark).is_empty() && keepers().is_empty()
        });
    }
    assert!(at_work >= 7, "programs ran in {at_work} of {ROUNDS} rounds");
}

/// As by `pkill -9 one-server`, also with `-f`, and `killall -9 one-server`: all that has the name.
#[test]
fn those_who_clean_up_are_not_called_like_what_they_clean_up_behind() {
    let server = site(&format!("{BY_FD}{CLINGING}")).start();
    let all = all_of(&server);
    let keeper = parent_of(pids(&server)[0]);
    let name = |pid: u32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it is there");
    for (pid, is_called) in [(parent_of(keeper), "app-warden"), (keeper, "app-keeper")] {
        assert_eq!(name(pid, "comm").trim(), is_called);
        assert_eq!(name(pid, "cmdline"), format!("app-keeper of {}\0", server.pid()));
    }
    assert_eq!(name(server.pid(), "comm").trim(), "one-server");
    server.signal(Signal::KILL);
    eventually_gone(&all);
}

/// With nobody left who could do it, the kernel ends the programs; what they have started is for whoever killed.
#[test]
fn sigkill_of_server_warden_and_keeper_at_once_ends_the_programs() {
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).start();
    let (programs, all) = (pids(&server), all_of(&server));
    let keeper = parent_of(programs[0]);
    let three = [server.pid(), parent_of(keeper), keeper];
    // None of them may do anything about the end of the others.
    three.iter().for_each(|pid| signal(*pid, Signal::STOP));
    three.iter().for_each(|pid| signal(*pid, Signal::KILL));
    eventually_gone(&programs);
    all.iter().filter(|pid| !has_ended(**pid)).for_each(|pid| signal(*pid, Signal::KILL));
    eventually_gone(&all);
}

/// A cgroup of version 2 of its own; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`, and a word about it: this machine has none that we may make, or a kernel before 5.14.
    fn new() -> Option<Cgroup> {
        let name = format!("one-server-test-{}", std::process::id());
        let bases = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let base = bases.into_iter().find(|base| base.join("cgroup.procs").is_file());
        let cgroup = base.map(|base| Cgroup(base.join(name))).filter(|group| std::fs::create_dir(&group.0).is_ok());
        let cgroup = cgroup.filter(|group| group.0.join("cgroup.kill").is_file());
        if cgroup.is_none() {
            eprintln!("SKIPPED: no cgroup can be made here");
        }
        cgroup
    }

    fn is_populated(&self) -> bool {
        std::fs::read_to_string(self.0.join("cgroup.events")).expect("a file").contains("populated 1")
    }

    fn kill(&self) {
        std::fs::write(self.0.join("cgroup.kill"), "1").expect("it is killed");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        // The kernel takes a moment to let go those that it has killed.
        for _ in 0..500 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What systemd does behind `TimeoutStopSec`, and the kernel to a group that is out of memory (memory.oom.group).
#[test]
fn a_cgroup_that_is_killed_leaves_no_process_behind() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&cgroup.0);
    let server = site(&format!("{BY_FD}instances = 2\n{CLINGING}")).start_through(shell);
    let mut all = all_of(&server);
    all.extend(helpers(&server));
    let keeper = parent_of(pids(&server)[0]);
    all.extend([keeper, parent_of(keeper)]);
    assert!(cgroup.is_populated() && all.iter().all(|pid| !has_ended(*pid)), "{all:?}");
    cgroup.kill();
    eventually_gone(&all);
    eventually("nobody is in it", || !cgroup.is_populated());
}
