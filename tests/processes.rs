//! Applications that are processes of their own: started, watched, replaced and limited by the real binary. The program is a small
//! Python server (`peers/process_app.py`) that misbehaves on demand. Programs as people run them: `processes_real.rs`.

mod support;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::apps::{
    BY_FD, PEERS, eventually_gone, parent_of, pids, python, shop, signal, site, socket_folder, text, with_environment,
};
use support::load::under_load;
use support::ports::free_port;
use support::server::has_ended;
use support::*;

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
        // Whoever starts the server may leave something open to it.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 7</dev/null; exec \"$@\"", "sh"]);
        let server = site(&format!("{lines}{environment}")).start_through(shell);
        assert_eq!(text(&server, "/edition"), "0-{x}");
        let names = text(&server, "/names");
        // Nothing of the environment of tests, but what was told to be there.
        assert!(
            names.split(' ').all(|name| {
                ["EDITION", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "ONE_SERVER_INSTANCE", "PATH", "PORT", "TZ"]
                    .contains(&name)
                    || name.starts_with("LISTEN_")
            }),
            "{names}"
        );
        assert_eq!(names.contains("PORT"), lines == by_port, "{names}");
        let place = text(&server, "/where");
        assert!(place.starts_with("/usr ") && place.contains(" 321 "), "{place}");
        let descriptors = if lines == BY_FD { "[0, 1, 2, 3]" } else { "[0, 1, 2]" };
        assert!(place.ends_with(descriptors), "{place}");
    }
}

/// Whoever looks after processes of its own hears of their ends by SIGCHLD, which the keeper blocks for itself.
#[test]
fn no_signal_is_blocked() {
    let command = "grep ^SigBlk /proc/self/status >&2; exec $PYTHON $PEERS/process_app.py socket {socket}";
    let server = site(&format!("command = [\"sh\", \"-c\", \"{command}\"]")).start();
    server.wait_for_line("all signals are let in", |line| {
        line.contains("SigBlk:") && line.contains("0000000000000000 app=shop")
    });
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
    assert_eq!(process(&server, "failures", ""), 4.0);
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

fn process(server: &Server, name: &str, label: &str) -> f64 {
    server.metric(&format!("one_server_process_{name}"), label)
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
    assert!(process(&server, "replaced_total", "reason=\"requests\"") >= 1.0);
    assert_eq!((process(&server, "failures", ""), process(&server, "instances_wanted", "")), (0.0, 1.0));
    eventually_gone(&first);

    let server = site(&format!("{BY_FD}restart_memory = \"100MiB\"")).start();
    let first = pids(&server);
    assert!(shop(&server)["instances"][0]["memory_bytes"].as_u64() < Some(100 << 20));
    let memory = || process(&server, "memory_bytes", "app=\"shop\"") / f64::from(1 << 20);
    eventually("its memory is known", || (5.0..100.0).contains(&memory()));
    assert_eq!(text(&server, "/leak/80"), "leaked");
    eventually("80 MiB are told, and are not too much", || (80.0..100.0).contains(&memory()));
    assert_eq!(pids(&server), first);
    assert_eq!(text(&server, "/leak/40"), "leaked");
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != first[0]));
    eventually("it was for that", || shop(&server)["replaced"]["memory"].as_u64() == Some(1));
    assert_eq!(process(&server, "replaced_total", "reason=\"memory\""), 1.0);
    eventually_gone(&first);
    eventually("the next one has less", || (5.0..80.0).contains(&memory()));

    let server = site(&format!("{BY_FD}restart_age = \"2s\"")).start();
    let first = pids(&server);
    let load = under_load(&server, || {
        eventually("another one serves", || shop(&server)["replaced"]["age"].as_u64() >= Some(1))
    });
    load.assert_all_well(100);
    eventually_gone(&first);
}

/// What counts is the whole session of an instance, not the process that was started alone.
#[test]
fn one_is_replaced_for_the_memory_of_its_children() {
    let server = site(&format!("{BY_FD}restart_memory = \"100MiB\"")).start();
    let first = pids(&server)[0];
    // Neither of them is too large, nor is the leader: they are together.
    let children: Vec<u32> = (0..2).map(|_| text(&server, "/leak_child/70").parse().expect("a number")).collect();
    let resident_mib = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a field");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    };
    assert!(resident_mib(first) < 60, "{}", resident_mib(first));
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != first));
    eventually("it was for that", || shop(&server)["replaced"]["memory"].as_u64() == Some(1));
    eventually_gone(&[&[first], &children[..]].concat());
}

#[test]
fn one_that_hangs_in_its_only_request_is_replaced() {
    let stubborn = "response_timeout = \"700ms\"\nkill_timeout = \"300ms\"\nenvironment = { STUBBORN = \"1\" }\n";
    let server = site(&format!("{BY_FD}{stubborn}requests_max = 1\nqueue_timeout = \"20s\"")).start();
    let hung = pids(&server);
    let begun = Instant::now();
    let mut client = server.connect();
    client.send(post("/slow/60000", "x"));
    eventually("it is in there", || shop(&server)["instances"][0]["active"] == 1);
    // Who comes meanwhile waits for the next one, and not for this one.
    let mut waits = server.connect();
    waits.send(get("/pid"));
    assert_eq!(client.response("POST").status, 504);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let answer = waits.response("GET");
    assert!(answer.status == 200 && answer.text() != hung[0].to_string(), "{} {}", answer.status, answer.text());
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != hung[0]));
    eventually_gone(&hung);
    eventually("it was for that", || shop(&server)["replaced"]["timeout"].as_u64() == Some(1));
    server.wait_for_line("it is told", |line| line.contains("instance has not answered in time and is replaced"));
    assert_eq!(server.metric("one_server_upstream_response_timeouts_total", "app:shop"), 1.0);
    assert_eq!(text(&server, "/"), "here");

    // Where others are in it, that is not done, unless it is asked for; then they are let out first.
    for (lines, is_replaced) in [("", false), ("restart_on_timeout = true", true)] {
        let server = site(&format!("{BY_FD}response_timeout = \"1500ms\"\nrequests_max = 4\n{lines}")).start();
        let first = pids(&server);
        let (mut hangs, mut other) = (server.connect(), server.connect());
        hangs.send(post("/slow/60000", "x"));
        std::thread::sleep(Duration::from_millis(800));
        other.send(post("/slow/1200", "x"));
        assert_eq!(hangs.response("POST").status, 504);
        assert_eq!(other.response("POST").text(), "slow", "{lines}");
        match is_replaced {
            true => eventually_gone(&first),
            false => {
                std::thread::sleep(Duration::from_millis(500));
                assert_eq!(pids(&server), first);
            }
        }
    }
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
    // What moves a terminal, or looks like another line, is told as what it is; and what is no text as what it is not.
    let evil: String = b"\x1b[31mred\rerror\x07 forged\xff".iter().map(|byte| format!("{byte:02x}")).collect();
    text(&server, &format!("/complain/{evil}"));
    let line = server.wait_for_line("a complaint", |line| line.contains("forged"));
    assert!(line.contains("info \\u{1b}[31mred\\rerror\\u{7} forged\u{fffd} app=shop"), "{line}");
    assert!(line.contains("stream=stderr"), "{line}");
    text(&server, "/flood/500");
    std::thread::sleep(Duration::from_millis(1100));
    text(&server, "/flood/1");
    server
        .wait_for_line("what was dropped", |line| line.contains("too many and are dropped") && line.contains("count="));
    let lines = server.lines();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("too much")).collect();
    assert!((1..=41).contains(&told.len()), "{} lines", told.len());
    assert!(told.iter().all(|line| line.contains("stream=stderr")), "{told:?}");
    assert!(!lines.iter().any(|line| line.contains(char::is_control)), "{lines:?}");
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
    all.extend([keeper, parent_of(keeper)]);
    assert_eq!(parent_of(parent_of(keeper)), server.pid(), "its warden is between us");
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

/// Our process may do nothing to them, and its keeper is gone.
#[test]
fn sigkill_of_the_keeper_leaves_nothing_of_other_users_behind() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let lines = "command = [\"$PYTHON\", \"$DIR/app.py\", \"fd\"]\nlisten = \"fd\"\nuser = \"daemon\"\nbackoff = \"50ms\"\n\
                 environment = { SPAWN = \"1\", STUBBORN = \"1\" }";
    let text = std::fs::read(format!("{PEERS}/process_app.py")).expect("it is there");
    let site = site(lines).file("app.py", &text).process("user = \"nobody\"");
    std::fs::set_permissions(site.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    std::os::unix::fs::chown(site.folder(), Some(65_534), Some(65_534)).expect("a change of owner");
    let server = site.start();
    let children = |count: usize| {
        let lines = server.lines().into_iter().filter_map(|line| Some(line.split_once("children ")?.1.to_owned()));
        let pids =
            lines.flat_map(|rest| rest.split(' ').take(2).filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
        let pids: Vec<u32> = pids.collect();
        (pids.len() >= count).then_some(pids)
    };
    eventually("they are there", || children(2).is_some());
    let first = [pids(&server), children(2).expect("a moment ago")].concat();
    let uid_of =
        |pid: u32| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).expect("it runs"));
    assert!(first.iter().all(|pid| uid_of(*pid) == 1) && uid_of(server.pid()) == 65_534, "{first:?}");
    signal(parent_of(first[0]), Signal::KILL);
    eventually_gone(&first);
    server.wait_for_line("it is told", |line| line.contains("the keeper of programs has ended"));
}

/// What listens there would be taken for the instance, and get its requests.
#[test]
fn a_port_that_somebody_else_has_is_no_instance() {
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = somebody.local_addr().expect("an address").port();
    let lines = format!(
        "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"port\", \"{{port}}\"]\nfirst_port = {port}\nbackoff = \"50ms\"\nfailures_max = 1000"
    );
    let server = site(&lines).start();
    server.wait_for_line("it is told", |line| line.contains(&format!("127.0.0.1:{port} cannot be its port")));
    assert!(pids(&server).is_empty());
    drop(somebody);
    eventually("it serves", || pids(&server).len() == 1 && server.connect().ask(get("/")).status == 200);
    let told = server.ctl_fails(&["remove", &format!("app:shop/127.0.0.1:{port}")]);
    assert!(told.contains("instances of an application: see `ctl app`"), "{told}");
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

/// Instances that listen elsewhere are others: those before finish what they have where they are.
#[test]
fn a_reload_to_another_place_to_listen_costs_no_request() {
    let server = site(BY_FD).start();
    let (port, other) = (free_port(), free_port());
    let by_port = |port: u16| format!("\"port\", \"{{port}}\"]\nfirst_port = {port}");
    let places = [
        "\"fd\"]\nlisten = \"fd\"".to_owned(),
        by_port(port),
        by_port(other),
        "\"socket\", \"{socket}\"]".to_owned(),
        "\"fd\"]\nlisten = \"fd\"".to_owned(),
    ];
    let load = under_load(&server, || {
        for change in places.windows(2) {
            eventually("one is there", || pids(&server).len() == 1);
            let before = pids(&server);
            let mut client = server.connect();
            client.send(post("/slow/1500", "x"));
            eventually("it is in there", || shop(&server)["instances"][0]["active"].as_u64() >= Some(1));
            std::thread::sleep(Duration::from_millis(200));
            server.reload_with(&[(&change[0], &change[1])]);
            assert_eq!(client.response("POST").text(), "slow", "{change:?}");
            eventually("another one serves alone", || {
                let now = pids(&server);
                now.len() == 1 && !now.contains(&before[0])
            });
            eventually_gone(&before);
        }
    });
    load.assert_all_well(100);
    let told = server.lines().iter().filter(|line| line.contains("the application listens elsewhere now")).count();
    assert_eq!(told, 3, "from `socket` to `fd` it is the same place");
}

/// Whoever reads our log may stall; what programs write is the log's.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let lines = format!("{BY_FD}output_rate = 1000000\nenvironment = {{ EDITION = \"0\" }}");
    let site = site(&lines);
    let mut command = site.command();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let (mut begun, mut line) = (String::new(), String::new());
    while !line.ends_with("info ready\n") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut log, &mut line).expect("text") > 0, "it has ended:\n{begun}");
        begun.push_str(&line);
    }
    let address = |name: &str| -> std::net::SocketAddr {
        let line = begun.lines().find(|line| line.contains(&format!(" listening name={name} "))).expect("it listens");
        line.rsplit_once("address=").and_then(|(_, address)| address.parse().ok()).expect("an address")
    };
    let ask = |name: &str, path: &str| client::timed(|| Client::connect(address(name)).ask(get(path)));
    // Many times what a pipe and the queue of lines take.
    for _ in 0..20 {
        assert_eq!(ask("web", "/flood/1000").0.text(), "said");
    }
    for _ in 0..5 {
        let (answer, took) = ask("admin", "/status");
        assert!(answer.status == 200 && took < Duration::from_secs(2), "{} {took:?}", answer.status);
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["ctl", "--socket"])
        .arg(site.folder().join("ctl.sock"))
        .args(["app", "restart", "shop"])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("another one serves", || ask("admin", "/status").0.text().contains("\"generation\":1"));
    // Who reads again learns how much is missing.
    let reader = std::thread::spawn(move || std::io::read_to_string(log).expect("text"));
    signal(child.id(), Signal::TERM);
    assert!(child.wait().expect("a child").success());
    let rest = reader.join().expect("a reader");
    let dropped = rest.lines().find(|line| line.contains("log lines dropped because stderr was slow"));
    let count = dropped.and_then(|line| line.rsplit_once("lines=")?.1.parse::<u64>().ok());
    assert!(count >= Some(1000), "{count:?} of 20000");
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

/// A process that ends when this is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that a table of a config file does, flags do.
#[test]
fn one_command_watches_limits_and_replaces_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, control) = (free_port(), folder.path().join("ctl.sock"));
    let mark = folder.path().to_str().expect("a plain path");
    let child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["app", "--listen", &format!("127.0.0.1:{port}"), "--control"])
        .arg(&control)
        .args(["--fd", "--instances", "2", "--directory", "/usr", "--open-files", "321", "--restart-requests", "300"])
        .args(["--requests-max", "4", "--response-timeout", "2s", "--restart-on-timeout", "--kill-timeout", "500ms"])
        .args(["--ready-path", "/edition", "--backoff", "50ms", "--env", &format!("EDITION={mark}")])
        .args(["--env", "SPAWN=1", "--env", "STUBBORN=1", "--", python(), &format!("{PEERS}/process_app.py"), "fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = child.id();
    // Whatever fails below, nothing of it stays.
    let mut child = Killed(child);
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
        let output = command.arg("ctl").arg("--socket").arg(&control).args(arguments).output().expect("it runs");
        (output.status.success(), output.stdout)
    };
    eventually("it is there", || ctl(&["app", "show"]).0);
    let shown = || serde_json::from_slice::<Value>(&ctl(&["--json", "app", "show"]).1).expect("JSON");
    let app = || shown()["result"][0].clone();
    let pids = || {
        let instances = app()["instances"].as_array().cloned().unwrap_or_default();
        let ready = instances.iter().filter(|instance| instance["state"] == "ready");
        ready.filter_map(|instance| Some(instance["pid"].as_u64()? as u32)).collect::<Vec<u32>>()
    };
    let are_others = |before: &[u32]| {
        eventually("two others serve", || pids().len() == 2 && pids().iter().all(|pid| !before.contains(pid)));
        eventually_gone(before);
    };
    let connect = || Client::connect(([127, 0, 0, 1], port).into());
    let ask = |path: &str| connect().ask(get(path)).text();
    eventually("both are ready", || pids().len() == 2);
    let first = pids();
    let seen: BTreeSet<u32> = (0..40).map(|_| ask("/pid").parse().expect("a number")).collect();
    assert_eq!(seen, first.iter().copied().collect(), "both serve");
    let place = ask("/where");
    assert!(place.starts_with("/usr ") && place.contains(" 321 "), "{place}");

    let (done, _) = ctl(&["app", "restart", "app"]);
    assert!(done);
    are_others(&first);

    // One that is killed comes back.
    let second = pids();
    signal(second[0], Signal::KILL);
    eventually("there are two again", || pids().len() == 2 && !pids().contains(&second[0]));
    assert!(pids().contains(&second[1]), "the other one has nothing to do with it");

    // The limits are those of the flags: of time, and of requests.
    let before = pids();
    let answer = connect().ask(post("/slow/60000", "x"));
    assert_eq!(answer.status, 504);
    eventually("it was replaced", || app()["replaced"]["timeout"] == 1 && pids().len() == 2);
    let hung: Vec<u32> = before.into_iter().filter(|pid| !pids().contains(pid)).collect();
    assert_eq!(hung.len(), 1);
    eventually_gone(&hung);
    let before = pids();
    eventually("both were replaced for their requests", || {
        let mut client = connect();
        (0..50).for_each(|_| assert_eq!(client.ask(get("/edition")).text(), mark));
        pids().iter().all(|pid| !before.contains(pid)) && app()["replaced"]["requests"].as_u64() >= Some(2)
    });
    eventually_gone(&before);

    // Nothing stays: not the instances, nor what they have started, nor whoever watches them.
    eventually("both are ready", || pids().len() == 2);
    let mut all = with_environment(mark);
    let keeper = parent_of(pids()[0]);
    assert!(all.len() >= 6 && pids().iter().all(|pid| all.contains(pid)), "{all:?}");
    all.extend([keeper, parent_of(keeper)]);
    signal(pid, Signal::KILL);
    child.0.wait().expect("a child");
    eventually_gone(&all);
    assert_eq!(with_environment(mark), [0; 0]);
}

/// Another process takes over with the same line.
#[test]
fn one_command_serves_a_program_of_another_user_and_is_taken_over() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start programs as other users");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let (program, control) = (folder.path().join("app.py"), folder.path().join("ctl.sock"));
    std::fs::copy(format!("{PEERS}/process_app.py"), &program).expect("a copy");
    let port = free_port();
    let child = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["app", "--listen", &format!("127.0.0.1:{port}"), "--control"])
        .arg(&control)
        .args(["--fd", "--user", "games", "--group", "daemon", "--directory", "/", "--address-space-max", "1GiB"])
        .args(["--env", &format!("EDITION={}", program.display()), "--", python()])
        .arg(&program)
        .arg("fd")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut child = Killed(child);
    let ctl = |argument: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_one-server"));
        command.arg("ctl").arg("--socket").arg(&control).arg(argument).output().expect("it runs").status.success()
    };
    let ask = |path: &str| Client::connect(([127, 0, 0, 1], port).into()).ask(get(path)).text();
    eventually("it is there", || ctl("show"));
    let id = |what: &str, name: &str| {
        let output = Command::new("getent").args([what, name]).output().expect("getent");
        String::from_utf8_lossy(&output.stdout).split(':').nth(2).expect("a number").to_owned()
    };
    let ids = format!("{} {} ", id("passwd", "games"), id("group", "daemon"));
    let first: u32 = ask("/pid").parse().expect("a number");
    for _ in 0..2 {
        let told = ask("/limits");
        assert!(told.starts_with(&ids) && told.ends_with(&format!(" {0} {0}", 1 << 30)), "{told}");
        assert!(ctl("upgrade"));
    }
    eventually_gone(&[first]);
    assert!(child.0.wait().expect("a child").success(), "it has nothing left");
    assert!(ctl("shutdown"));
    eventually("nobody is left", || with_environment(program.to_str().expect("a plain path")).is_empty());
}

/// That it listens is not enough where the config says how to ask.
#[test]
fn one_whose_ready_path_answers_503_gets_no_request() {
    let lines = "ready_path = \"/ready\"\nbackoff = \"20ms\"\nqueue_timeout = \"300ms\"\n\
                 environment = { READY = \"$DIR/is_ready\" }";
    let server = site(&format!("{BY_FD}{lines}")).file("is_ready", b"").start();
    let mark = server.folder().join("is_ready");
    let first = pids(&server);
    std::fs::remove_file(&mark).expect("it is there");
    // A replacement that is not ready replaces nothing.
    server.ctl_ok(&["app", "restart", "shop"]);
    let states = || {
        let instances = shop(&server)["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().map(|instance| instance["state"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    eventually("another one runs", || shop(&server)["instances"][1]["pid"].as_u64().is_some());
    for _ in 0..20 {
        assert_eq!(text(&server, "/pid"), first[0].to_string());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(states(), ["ready", "starting"]);
    let second = shop(&server)["instances"][1]["pid"].as_u64().expect("a number") as u32;
    // Where there is no other one, requests wait, and are refused rather than sent there.
    signal(first[0], Signal::KILL);
    eventually("it is gone", || states() == ["starting"]);
    assert_eq!(server.connect().ask(get("/pid")).status, 503);
    std::fs::write(&mark, "").expect("a file");
    eventually("it serves", || pids(&server) == [second]);
    assert_eq!(text(&server, "/pid"), second.to_string());
}

#[test]
fn one_that_is_not_ready_in_time_is_stopped_and_tried_again() {
    let lines = "start_timeout = \"700ms\"\nbackoff = \"20ms\"\nbackoff_max = \"50ms\"\nfailures_max = 3\n\
                 environment = { START_MS = \"60000\" }";
    let begun = Instant::now();
    let server = site(&format!("{BY_FD}{lines}")).start();
    server.wait_for_line("it is told", |line| {
        line.contains("warn instance was not ready within `start_timeout` and was stopped")
            && line.contains("signal 15")
    });
    assert!(begun.elapsed() >= Duration::from_millis(700));
    eventually("it has failed", || shop(&server)["state"] == "failed");
    let shown = shop(&server);
    assert_eq!((&shown["failures"], &shown["replaced"]["start_timeout"]), (&3.into(), &3.into()), "{shown}");
    assert_eq!(server.connect().ask(get("/")).status, 503);
    server.reload_with(&[("START_MS = \"60000\"", "START_MS = \"0\"")]);
    eventually("it serves", || server.connect().ask(get("/")).status == 200);
}

#[test]
fn a_group_and_limits_are_those_of_the_config() {
    let limits = "open_files = 321\nprocesses_max = 12\naddress_space_max = \"1GiB\"\n";
    let is_root = rustix::process::geteuid().is_root();
    let (user, tests) = if is_root { ("user = \"games\"\ngroup = \"daemon\"\n", 4096) } else { ("", 4096) };
    // Processes of this user are all counted together: where it is whoever runs the tests, there are many.
    let limits = if is_root { limits.to_owned() } else { limits.replace("= 12", &format!("= {tests}")) };
    let program = std::fs::read(format!("{PEERS}/process_app.py")).expect("it is there");
    let lines =
        format!("command = [\"$PYTHON\", \"$DIR/app.py\", \"fd\"]\nlisten = \"fd\"\ndirectory = \"/\"\n{user}{limits}");
    let site = site(&lines).file("app.py", &program);
    std::fs::set_permissions(site.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let server = site.start();
    let told = text(&server, "/limits");
    let gib = 1 << 30;
    if !is_root {
        assert!(told.ends_with(&format!(" 321 321 {tests} {tests} {gib} {gib}")), "{told}");
    } else {
        let id = |what: &str, name: &str| {
            let output = Command::new("getent").args([what, name]).output().expect("getent");
            String::from_utf8_lossy(&output.stdout).split(':').nth(2).expect("a number").to_owned()
        };
        let expect = format!("{} {} 321 321 12 12 {gib} {gib}", id("passwd", "games"), id("group", "daemon"));
        assert_eq!(told, expect);
        let started: u32 = text(&server, "/fork/30").parse().expect("a number");
        assert!((1..12).contains(&started), "{started} of 30");
    }
    let first = pids(&server);
    assert_eq!(server.connect().ask(get("/leak/2000")).status, 502, "there is not so much room");
    assert_eq!((text(&server, "/leak/1").as_str(), pids(&server)), ("leaked", first));
}
