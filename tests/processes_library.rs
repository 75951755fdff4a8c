//! one-server as a library: a program with applications inside it (`examples/probe_app`) whose config also has one that is a
//! process. The keeper of processes is that program started a second time, not ours. With our own: `processes.rs`.

mod support;

use rustix::process::Signal;
use support::apps::{
    BY_FD, PEERS, eventually_gone, parent_of, pids, python, shop, signal, socket_folder, text, with_environment,
};
use support::load::under_load_of;
use support::*;

/// `lines` are those of the table of the process, which gets all requests but those below `/inside/`.
fn site(lines: &str) -> Site {
    let lines = lines.replace("$PEERS", PEERS).replace("$PYTHON", python());
    let rest = format!(
        "[app.shop]\ntype = \"process\"\n{lines}\n[app.probe]\n[site.main]\nroute = [\n\
         {{ path = \"/\", app = \"shop\" }},\n{{ path = \"/inside/\", app = \"probe\" }},\n]\n"
    );
    Site::probe(Driver::Auto, &rest).process("control = \"$DIR/ctl.sock\"").process("drain_timeout = \"10s\"")
}

/// Each instance has two children, one of them in a session of its own, and neither it nor they heed SIGTERM.
const CLINGING: &str = "instances = 2\nkill_timeout = \"500ms\"\nbackoff = \"50ms\"\n\
                        environment = { SPAWN = \"1\", STUBBORN = \"1\", EDITION = \"$DIR\" }\n";

#[test]
fn a_program_with_the_server_inside_keeps_processes() {
    let server = site(&format!("{BY_FD}{CLINGING}")).start();
    let mark = server.folder().to_str().expect("a plain path").to_owned();
    let first = pids(&server);
    assert_eq!((first.len(), text(&server, "/edition")), (2, mark.clone()));
    assert_eq!(text(&server, "/inside/pid"), server.pid().to_string());
    let keeper = parent_of(first[0]);
    assert_eq!(parent_of(parent_of(keeper)), server.pid(), "its warden is between us");
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    assert_eq!(program(keeper), program(server.pid()));

    // One that is killed is replaced, and nobody notices.
    let load = under_load_of(&server, "/", "here", || {
        signal(first[0], Signal::KILL);
        eventually("there are two again", || pids(&server).len() == 2 && !pids(&server).contains(&first[0]));
    });
    load.assert_all_well(20);
    assert_eq!(shop(&server)["last_exit"], "signal 9");

    // All that `ctl` and another config may ask for.
    let before = pids(&server);
    server.ctl_ok(&["app", "restart", "shop"]);
    eventually("both are others", || pids(&server).len() == 2 && pids(&server).iter().all(|pid| !before.contains(pid)));
    server.reload_with(&[("instances = 2", "instances = 1")]);
    eventually("there is one", || shop(&server)["instances"].as_array().map(Vec::len) == Some(1));
    assert_eq!(parent_of(pids(&server)[0]), keeper);

    // Nothing stays.
    let mut all = with_environment(&mark);
    assert!(all.len() >= 3 && all.contains(&pids(&server)[0]), "{all:?}");
    all.extend([keeper, parent_of(keeper)]);
    let folder = socket_folder(&server);
    server.signal(Signal::KILL);
    eventually_gone(&all);
    eventually("their folder is gone", || !folder.exists());
    assert_eq!(with_environment(&mark), [0; 0]);
}

#[test]
fn it_is_taken_over_with_all_of_it_and_ends_with_all_of_it() {
    let mut server = site(&format!("{BY_FD}{CLINGING}")).start();
    let mark = server.folder().to_str().expect("a plain path").to_owned();
    let mut before = with_environment(&mark);
    let load = under_load_of(&server, "/", "here", || {
        for _ in 0..3 {
            let pid = server.upgrade();
            eventually_gone(&before);
            assert_eq!(text(&server, "/inside/pid"), pid.to_string());
            assert_eq!(pids(&server).len(), 2);
            before = with_environment(&mark);
        }
    });
    load.assert_all_well(100);
    assert!(server.wait().success(), "the first one");
    server.signal(Signal::TERM);
    eventually_gone(&[before, vec![server.pid()]].concat());
    assert_eq!(with_environment(&mark), [0; 0]);
}
