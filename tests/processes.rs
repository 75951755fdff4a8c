//! Applications that are processes of their own: started, watched, replaced and limited by the real binary. The programs are a
//! small Python server (`peers/process_app.py`), gunicorn and Node, as people run them.

mod support;

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::load::under_load;
use support::ports::free_port;
use support::server::has_ended;
use support::*;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// A site whose requests all go to the application `shop`; `lines` are what its table says beside the type.
fn site(lines: &str) -> Site {
    let lines = lines.replace("$PEERS", PEERS).replace("$PYTHON", python());
    let rest =
        format!("[app.shop]\ntype = \"process\"\n{lines}\n[site.main]\nroute = [{{ path = \"/\", app = \"shop\" }}]\n");
    Site::new(Driver::Auto, &rest).process("control = \"$DIR/ctl.sock\"").process("drain_timeout = \"10s\"")
}

/// The one of the system: that of a version manager is a shell script, whose process is another one.
fn python() -> &'static str {
    if std::path::Path::new("/usr/bin/python3").is_file() { "/usr/bin/python3" } else { "python3" }
}

/// The Python server on a socket that it is given.
const BY_FD: &str = "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"fd\"]\nlisten = \"fd\"\n";

fn shop(server: &Server) -> Value {
    server.status()["processes"][0].clone()
}

/// Processes of the application, those that are ready alone.
fn pids(server: &Server) -> Vec<u32> {
    let shop = shop(server);
    let instances = shop["instances"].as_array().cloned().unwrap_or_default();
    let ready = instances.iter().filter(|instance| instance["state"] == "ready");
    let mut pids: Vec<u32> = ready.filter_map(|instance| Some(instance["pid"].as_u64()? as u32)).collect();
    pids.sort_unstable();
    pids
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).expect("a number"), signal).expect("it is there");
}

fn text(server: &Server, path: &str) -> String {
    let answer = server.connect().ask(get(path));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// Processes whose environment or command line names the folder of the test.
fn eventually_gone(pids: &[u32]) {
    eventually("the processes are gone", || pids.iter().all(|pid| has_ended(*pid)));
}

#[test]
fn instances_are_ready_before_the_server_is_and_end_with_it() {
    let mut server = site(&format!("{BY_FD}instances = 2\nenvironment = {{ START_MS = \"700\" }}")).start();
    // No pause: nobody is let in before it can be served.
    assert_eq!(text(&server, "/"), "here");
    let mut seen: Vec<u32> = (0..40).map(|_| text(&server, "/pid").parse().expect("a number")).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), &seen), (2, &pids(&server)), "both serve");
    let shown = server.ctl_ok(&["app", "show"]);
    assert!(shown.starts_with("app shop (ready, 2 of 2 ready)\n"), "{shown}");
    assert!(server.ctl_ok(&["show"]).contains(&shown.lines().next().expect("a line")[..20]));
    assert_eq!(server.metric("one_server_process_instances", "app=\"shop\",state=\"ready\""), 2.0);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(seen.iter().all(|pid| has_ended(*pid)), "none is left when the server has ended");
}

#[test]
fn a_socket_a_port_and_a_descriptor_are_told() {
    let socket = "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"socket\", \"{socket}\"]\n";
    let port = free_port();
    let by_port =
        format!("command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"port\", \"{{port}}\"]\nfirst_port = {port}\n");
    let environment =
        "environment = { EDITION = \"{instance}-{{x}\", LANG = \"C.UTF-8\" }\ndirectory = \"/usr\"\nopen_files = 321\n";
    for lines in [socket, &by_port, BY_FD] {
        let server = site(&format!("{lines}{environment}")).start();
        assert_eq!(text(&server, "/edition"), "0-{x}");
        let names = text(&server, "/names");
        // Nothing of the environment of tests, but what was told to be there.
        assert!(
            names.split(' ').all(|name| {
                ["EDITION", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PORT", "TZ"].contains(&name)
                    || name.starts_with("LISTEN_")
            }),
            "{names}"
        );
        assert_eq!(names.contains("PORT"), lines == by_port, "{names}");
        let place = text(&server, "/where");
        assert!(place.starts_with("/usr ") && place.contains(" 321 "), "{place}");
        assert!(place.contains("'3'"), "{place}");
    }
}

#[test]
fn one_that_is_killed_under_load_costs_only_the_requests_in_it() {
    let server = site(&format!("{BY_FD}instances = 3\nbackoff = \"50ms\"")).start();
    let load = under_load(&server, || {
        for _ in 0..4 {
            eventually("all three are ready", || pids(&server).len() == 3);
            signal(pids(&server)[0], Signal::KILL);
            std::thread::sleep(Duration::from_millis(300));
        }
        eventually("all three are ready", || pids(&server).len() == 3);
    });
    // What was in it is asked again elsewhere: GET may be.
    load.assert_all_well(300);
    let exits = server.metric("one_server_process_exits_total", "reason=\"signal\"");
    assert!(exits >= 4.0, "{exits}");
    // A POST that was in it may have had an effect, and is not.
    let answer = server.connect().ask(post("/die", "x"));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(shop(&server)["last_exit"], "signal 9");
    server.wait_for_line("the end", |line| {
        line.contains("instance ended by itself") && line.contains("exit=\"signal 9\"")
    });
}

#[test]
fn a_program_that_ends_at_once_fails_is_named_and_comes_back_when_it_is_mended() {
    let failing = "backoff = \"20ms\"\nbackoff_max = \"80ms\"\nfailures_max = 4\nenvironment = { FAIL = \"1\" }\n";
    let server = site(&format!("{BY_FD}{failing}")).start();
    eventually("it has failed", || shop(&server)["state"] == "failed");
    let answer = server.connect().ask(get("/"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    server.wait_for_line("its own words", |line| line.contains("I cannot start") && line.contains("app=shop"));
    server.wait_for_line("the state", |line| {
        line.contains("error application has failed") && line.contains("exit code 3")
    });
    let failures = shop(&server)["failures"].as_u64().expect("a number");
    assert_eq!(failures, 4, "it is not tried any more for a while");
    assert_eq!(server.metric("one_server_process_state", "app=\"shop\",state=\"failed\""), 1.0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shop(&server)["exits"]["error"], 4);
    // Once by hand.
    server.ctl_ok(&["app", "start", "shop"]);
    eventually("it was tried and has failed again", || shop(&server)["exits"]["error"].as_u64() >= Some(8));
    server.reload_with(&[("FAIL = \"1\"", "EDITION = \"good\"")]);
    eventually("it serves", || server.connect().ask(get("/edition")).text() == "good");
}

#[test]
fn a_rolling_replacement_under_load_costs_no_request() {
    let server = site(&format!("{BY_FD}instances = 2\nenvironment = {{ EDITION = \"0\" }}")).start();
    let first = pids(&server);
    let load = under_load(&server, || {
        for round in 0..3 {
            let before = pids(&server);
            match round {
                1 => drop(server.ctl_ok(&["app", "reload", "shop"])),
                _ => drop(
                    server.reload_with(&[(&format!("EDITION = \"{round}\""), &format!("EDITION = \"{}\"", round + 2))]),
                ),
            }
            let is_done = || {
                let (now, all) = (pids(&server), shop(&server)["instances"].as_array().map(Vec::len));
                now.len() == 2 && now.iter().all(|pid| !before.contains(pid)) && all == Some(2)
            };
            eventually("both are others", is_done);
        }
    });
    load.assert_all_well(200);
    assert_eq!(text(&server, "/edition"), "4");
    eventually_gone(&first);
}

#[test]
fn a_slow_request_is_finished_by_the_old_instance() {
    let server = site(BY_FD).start();
    let old = pids(&server);
    let mut client = server.connect();
    client.send(get("/slow/2500"));
    std::thread::sleep(Duration::from_millis(300));
    server.ctl_ok(&["app", "restart", "shop"]);
    eventually("another one serves", || pids(&server).iter().any(|pid| !old.contains(pid)));
    assert_eq!(text(&server, "/pid"), pids(&server)[0].to_string());
    assert!(!has_ended(old[0]), "it has a request");
    assert_eq!(client.response("GET").text(), "slow");
    eventually_gone(&old);
}

#[test]
fn one_is_replaced_for_its_requests_and_for_its_memory() {
    let server = site(&format!("{BY_FD}restart_requests = 200")).start();
    let first = pids(&server);
    let load = under_load(&server, || {
        eventually("another one serves", || pids(&server) != first && !pids(&server).is_empty())
    });
    load.assert_all_well(150);
    eventually("it was for that", || shop(&server)["replaced"]["requests"].as_u64() >= Some(1));
    eventually_gone(&first);

    let server = site(&format!("{BY_FD}restart_memory = \"100MiB\"")).start();
    let first = pids(&server);
    assert!(shop(&server)["instances"][0]["memory_bytes"].as_u64() < Some(100 << 20));
    assert_eq!(text(&server, "/leak/120"), "leaked");
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != first[0]));
    eventually("it was for that", || shop(&server)["replaced"]["memory"].as_u64() == Some(1));
    eventually_gone(&first);

    let server = site(&format!("{BY_FD}restart_age = \"2s\"")).start();
    let first = pids(&server);
    let load = under_load(&server, || {
        eventually("another one serves", || shop(&server)["replaced"]["age"].as_u64() >= Some(1))
    });
    load.assert_all_well(100);
    eventually_gone(&first);
}

#[test]
fn output_is_told_with_the_name_of_the_application_and_has_bounds() {
    let server = site(&format!("{BY_FD}output_line_max = 64\noutput_rate = 20")).start();
    text(&server, "/say/hello_there");
    let line = server.wait_for_line("its words", |line| line.contains("hello_there"));
    assert!(line.contains("app=shop") && line.contains("instance=0") && line.contains("stream=stdout"), "{line}");
    text(&server, &format!("/say/{}", "y".repeat(300)));
    let line = server.wait_for_line("a long line", |line| line.contains("yyyy"));
    assert!(line.contains(&"y".repeat(64)) && !line.contains(&"y".repeat(65)), "{line}");
    text(&server, "/flood/500");
    std::thread::sleep(Duration::from_millis(1100));
    text(&server, "/flood/1");
    server
        .wait_for_line("what was dropped", |line| line.contains("too many and are dropped") && line.contains("count="));
    let told = server.lines().iter().filter(|line| line.contains("too much")).count();
    assert!((1..=41).contains(&told), "{told} lines");
}

#[test]
fn a_program_that_does_not_heed_sigterm_is_killed() {
    let server = site(&format!("{BY_FD}kill_timeout = \"500ms\"\nenvironment = {{ STUBBORN = \"1\" }}")).start();
    let first = pids(&server);
    let begun = Instant::now();
    server.ctl_ok(&["app", "stop", "shop"]);
    eventually_gone(&first);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    server.wait_for_line("it is told", |line| line.contains("instance does not end: SIGKILL"));
    assert_eq!((shop(&server)["state"].clone(), server.connect().ask(get("/")).status), ("stopped".into(), 503));
    server.ctl_ok(&["app", "start", "shop"]);
    eventually("it serves again", || server.connect().ask(get("/")).status == 200);
    assert!(server.ctl_fails(&["app", "stop", "shp"]).contains("there are shop"));
    // The end of the server does not wait for it either.
    let mut server = server;
    let last = pids(&server);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(last.iter().all(|pid| has_ended(*pid)));
}

#[test]
fn sigkill_of_the_server_leaves_no_process_behind() {
    let server = site(&format!(
        "{BY_FD}instances = 2\nkill_timeout = \"1s\"\nenvironment = {{ SPAWN = \"1\", STUBBORN = \"1\" }}"
    ))
    .start();
    let mut all = pids(&server);
    let lines = server.lines();
    let children = lines.iter().filter_map(|line| line.split_once("children ").map(|(_, rest)| rest.to_owned()));
    let children: Vec<u32> = children
        .flat_map(|rest| rest.split(' ').take(2).filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    assert_eq!((all.len(), children.len()), (2, 4), "{lines:?}");
    let keeper = parent_of(all[0]);
    all.extend(children);
    all.push(keeper);
    assert!(all.iter().all(|pid| !has_ended(*pid)));
    let folder = socket_folder(&server);
    assert!(folder.is_dir());
    server.signal(Signal::KILL);
    eventually_gone(&all);
    eventually("their folder is gone", || !folder.exists());
}

#[test]
fn sigkill_of_the_keeper_costs_its_programs_and_nothing_else() {
    let server = site(&format!("{BY_FD}backoff = \"50ms\"")).start();
    let first = pids(&server);
    signal(parent_of(first[0]), Signal::KILL);
    eventually_gone(&first);
    eventually("others serve", || pids(&server).len() == 1 && server.connect().ask(get("/")).status == 200);
    server.wait_for_line("it is told", |line| line.contains("the keeper of programs has ended"));
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("PPid:")).expect("a parent");
    line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a number")
}

fn socket_folder(server: &Server) -> std::path::PathBuf {
    let address = shop(server)["instances"][0]["address"].as_str().expect("an address").to_owned();
    let path = std::path::PathBuf::from(address.strip_prefix("unix:").expect("a socket"));
    path.parent().expect("a folder").to_owned()
}

#[test]
fn reloads_start_change_and_end_applications_without_a_lost_request() {
    let server = site(&format!("{BY_FD}instances = 1")).start();
    let table = format!(
        "[app.other]\ntype = \"process\"\n{}environment = {{ EDITION = \"other\", START_MS = \"500\" }}\n[site.main]\nroute = [{{ path = \"/edition\", app = \"other\" }}, ",
        BY_FD.replace("$PEERS", PEERS).replace("$PYTHON", python())
    );
    let first = pids(&server);
    let load = under_load(&server, || {
        server.reload_with(&[("[site.main]\nroute = [", &table)]);
        assert_eq!(text(&server, "/edition"), "other", "it is ready when the reload is done");
        server.reload_with(&[("instances = 1", "instances = 3")]);
        eventually("there are three", || pids(&server).len() == 3);
        assert!(pids(&server).contains(&first[0]), "nothing but the number has changed");
        server.reload_with(&[("instances = 3", "instances = 1")]);
        eventually("there is one", || shop(&server)["instances"].as_array().map(Vec::len) == Some(1));
        server.reload_with(&[
            ("{ path = \"/edition\", app = \"other\" }, ", ""),
            ("[app.other]\ntype", "[app.another]\ntype"),
        ]);
        eventually("it is gone", || {
            let names: Vec<Value> = server.status()["processes"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|app| app["name"].clone())
                .collect();
            names == ["shop", "another"]
        });
    });
    load.assert_all_well(200);
}

#[test]
fn another_process_takes_over_with_programs_of_its_own() {
    let socket = "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"socket\", \"{socket}\"]\n";
    let port = free_port();
    let by_port =
        format!("command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"port\", \"{{port}}\"]\nfirst_port = {port}\n");
    // Ports are in a row, which others may have parts of.
    for (lines, count) in [(BY_FD, 2), (socket, 2), (&by_port, 1)] {
        let server = site(&format!("{lines}instances = {count}")).start();
        let mut before = pids(&server);
        let load = under_load(&server, || {
            for _ in 0..3 {
                server.upgrade();
                eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
                before = pids(&server);
                assert_eq!(before.len(), count, "{lines}");
            }
        });
        load.assert_all_well(100);
        assert_eq!(text(&server, "/"), "here");
    }
}

#[test]
fn nothing_is_taken_over_by_a_process_whose_programs_do_not_start() {
    let failing = "backoff = \"20ms\"\nbackoff_max = \"80ms\"\n";
    let server = site(&format!("{BY_FD}{failing}environment = {{ EDITION = \"1\" }}")).start();
    let before = (server.pid(), pids(&server));
    let load = under_load(&server, || {
        server.edit(&[("EDITION = \"1\"", "FAIL = \"1\"")]);
        let told = server.ctl_fails(&["upgrade"]);
        assert!(told.contains("application `shop` does not start in the new process"), "{told}");
        assert_eq!((server.pid(), pids(&server)), before);
    });
    load.assert_all_well(50);
    // What does not serve here either keeps nobody from anything.
    server.ctl_ok(&["app", "stop", "shop"]);
    eventually("it has stopped", || shop(&server)["state"] == "stopped" && pids(&server).is_empty());
    server.upgrade();
    eventually("it has failed", || shop(&server)["failures"].as_u64() > Some(0));
}

#[test]
fn a_request_waits_for_the_only_instance_to_come_back() {
    let server = site(&format!("{BY_FD}queue_timeout = \"20s\"\nbackoff = \"300ms\"\nfailures_max = 1000")).start();
    let load = under_load(&server, || {
        for _ in 0..3 {
            eventually("it is there", || pids(&server).len() == 1);
            let first = pids(&server);
            std::thread::sleep(Duration::from_millis(200));
            signal(first[0], Signal::KILL);
            eventually("another one is there", || pids(&server).len() == 1 && pids(&server) != first);
        }
    });
    load.assert_all_well(30);
    // One that is not coming back is not waited for.
    server.ctl_ok(&["app", "stop", "shop"]);
    eventually("it has ended", || shop(&server)["instances"].as_array().is_some_and(Vec::is_empty));
    let begun = Instant::now();
    assert_eq!(server.connect().ask(get("/")).status, 503);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_be_started_is_told() {
    let cases = [
        ("command = [\"/no/such/program\"]\nlisten = \"fd\"", "/no/such/program cannot be run"),
        ("command = [\"no-such-program\"]\nlisten = \"fd\"", "`no-such-program` is in no folder of PATH"),
        ("command = [\"/etc/passwd\"]\nlisten = \"fd\"", "is not executable"),
        (
            "command = \"gunicorn -w 2 app:app\"\nlisten = \"fd\"",
            "no shell takes it apart: write [\"gunicorn\", \"-w\"",
        ),
        ("command = [\"/bin/true\"]", "is not told where to listen"),
        ("command = [\"/bin/true\", \"{port}\"]\nlisten = \"fd\"", "bad placeholder {port}"),
        ("command = [\"/bin/true\"]\nlisten = \"fd\"\nuser = \"no-such-user\"", "no user `no-such-user`"),
        ("command = [\"/bin/true\", \"{socket}\"]\nuser = \"nobody\"", "cannot be reached at its socket"),
        (
            "command = [\"/bin/true\"]\nlisten = \"fd\"\ndirectory = \"/no/such/folder\"",
            "/no/such/folder is not a folder",
        ),
        ("listen = \"fd\"", "add `command`"),
    ];
    for (lines, expected) in cases {
        let site = site(lines);
        let output = Command::new(env!("CARGO_BIN_EXE_one-server"))
            .args(["check", "-c"])
            .arg(site.write_config())
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(expected), "{lines}: {told}");
    }
}

#[test]
fn root_gives_its_programs_other_users_also_when_it_becomes_one_itself() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let id = |user: &str| {
        let output = Command::new("id").args(["-u", user]).output().expect("id");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // The tests' folder must be open to whom the server becomes.
    let nobody = "user = \"nobody\"";
    for (process, lines, expected) in
        [("", "user = \"daemon\"\n", "daemon"), (nobody, "user = \"daemon\"\n", "daemon"), (nobody, "", "nobody")]
    {
        // A copy of the program in a folder that everybody may read.
        let folder = tempfile::Builder::new().prefix("one-server-app").tempdir_in("/tmp").expect("a folder");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("permissions");
        std::fs::copy(format!("{PEERS}/process_app.py"), folder.path().join("app.py")).expect("a copy");
        let command = format!(
            "command = [\"/usr/bin/python3\", \"app.py\", \"fd\"]\nlisten = \"fd\"\ndirectory = \"{}\"\n{lines}",
            folder.path().display()
        );
        let server = site(&command).process(process).start();
        let place = text(&server, "/where");
        assert!(place.contains(&format!(" {} ", id(expected))), "{process} {lines}: {place}, wanted {}", id(expected));
        let first = pids(&server);
        // Root is gone by now, and its keeper is not.
        server.ctl_ok(&["app", "restart", "shop"]);
        eventually("another one serves", || pids(&server).first().is_some_and(|pid| !first.contains(pid)));
        assert!(text(&server, "/where").contains(&format!(" {} ", id(expected))));
    }
}

#[test]
fn gunicorn_is_reloaded_under_load_and_killed_with_all_its_workers() {
    if !has_program("gunicorn") {
        return;
    }
    for listening in ["\"--bind\", \"unix:{socket}\"]", "]\nlisten = \"fd\""] {
        let separator = if listening.starts_with(']') { "" } else { ", " };
        let command = format!(
            "command = [\"gunicorn\", \"--workers\", \"2\", \"--chdir\", \"$PEERS\", \"wsgi_app:application\"{separator}{listening}\nready_path = \"/status?code=204\"\n"
        );
        let server = site(&command).start();
        let first = pids(&server);
        assert_eq!(first.len(), 1);
        let workers = workers_of(first[0]);
        let load = support::load::under_load_of(
            &server,
            "/digest",
            "0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            || {
                server.ctl_ok(&["app", "reload", "shop"]);
                eventually("another one serves", || pids(&server).first().is_some_and(|pid| !first.contains(pid)));
                eventually_gone(&[&first[..], &workers].concat());
            },
        );
        load.assert_all_well(50);
        // Its master alone is killed: the workers must not go on without it.
        let master = pids(&server)[0];
        let workers = workers_of(master);
        signal(master, Signal::KILL);
        eventually_gone(&workers);
        eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != master));
        let all = [pids(&server), workers_of(pids(&server)[0])].concat();
        server.signal(Signal::KILL);
        eventually_gone(&all);
    }
}

/// Both workers of a master, which start one after the other.
fn workers_of(master: u32) -> Vec<u32> {
    eventually("it has its workers", || children_of(master).len() == 2);
    children_of(master)
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn node_serves_on_a_socket_whose_path_is_its_port() {
    if !has_program("node") {
        return;
    }
    let script = "require('http').createServer((q, a) => a.end('here')).listen(process.env.PORT)";
    let server = site(&format!(
        "command = [\"node\", \"-e\", \"{script}\"]\nenvironment = {{ PORT = \"{{socket}}\" }}\ninstances = 2"
    ))
    .start();
    let first = pids(&server);
    let load = under_load(&server, || {
        server.ctl_ok(&["app", "reload", "shop"]);
        eventually_gone(&first);
    });
    load.assert_all_well(200);
    assert_eq!(pids(&server).len(), 2);
    eprintln!("{} answers", load.answers.load(Ordering::Relaxed));
}

#[test]
fn one_command_serves_a_program() {
    let port = free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["app", "--listen", &format!("127.0.0.1:{port}"), "--instances", "2", "--env", "EDITION=flags", "--"])
        .args([python(), &format!("{PEERS}/process_app.py"), "socket", "{socket}"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    eventually("it listens", || Client::try_connect(([127, 0, 0, 1], port).into()).is_ok());
    let ask = |path: &str| Client::connect(([127, 0, 0, 1], port).into()).ask(get(path)).text();
    eventually("it serves", || ask("/edition") == "flags");
    let pid: u32 = ask("/pid").parse().expect("a number");
    signal(child.id(), Signal::TERM);
    assert!(child.wait().expect("a child").success());
    assert!(has_ended(pid));
}

/// The keeper goes on from one process to the next, with the rights of root that neither of them has.
#[test]
fn another_process_takes_over_with_programs_of_other_users() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let lay_open = |path: &std::path::Path| {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, open).expect("permissions");
    };
    let folder = tempfile::Builder::new().prefix("one-server-app").tempdir_in("/tmp").expect("a folder");
    lay_open(folder.path());
    std::fs::copy(format!("{PEERS}/process_app.py"), folder.path().join("app.py")).expect("a copy");
    // The binary may lie where only root gets at it.
    let program = folder.path().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_one-server"), &program).expect("a copy");
    lay_open(&program);
    let command = format!(
        "command = [\"/usr/bin/python3\", \"app.py\", \"fd\"]\nlisten = \"fd\"\ndirectory = \"{}\"\nuser = \"daemon\"\n",
        folder.path().display()
    );
    let site = site(&command).process("user = \"nobody\"").file("run/nothing", b"");
    lay_open(site.folder());
    let nobody = 65_534;
    std::os::unix::fs::chown(site.folder(), Some(nobody), Some(nobody)).expect("a change of owner");
    let mut server = site.program(&program).start();
    let mut before = pids(&server);
    let keeper = parent_of(before[0]);
    let load = under_load(&server, || {
        for _ in 0..3 {
            server.upgrade();
            eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
            before = pids(&server);
            assert_eq!(before.iter().map(|pid| parent_of(*pid)).collect::<Vec<_>>(), [keeper]);
        }
        server.ctl_ok(&["app", "restart", "shop"]);
        eventually("another one serves", || pids(&server).first().is_some_and(|pid| !before.contains(pid)));
    });
    load.assert_all_well(100);
    assert!(text(&server, "/where").contains(" 1 "), "it is daemon");
    let sockets = socket_folder(&server);
    before = pids(&server);
    server.signal(Signal::KILL);
    before.push(keeper);
    eventually_gone(&before);
    eventually("their folder is gone", || !sockets.exists() && !sockets.parent().expect("a parent").exists());
    server.wait();
}
