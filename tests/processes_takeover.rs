//! Applications that are processes when another process takes over, and when root is gone.

mod support;

use std::process::Command;

use rustix::process::Signal;
use support::apps::{BY_FD, PEERS, eventually_gone, parent_of, pids, shop, signal, site, socket_folder, text};
use support::load::{under_load, under_load_of};
use support::ports::{free_port, free_row};
use support::server::has_ended;
use support::*;

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

/// Each of two applications whose ports lie side by side gets a row that is nobody else's.
#[test]
fn neighbours_keep_their_ports_apart_at_a_takeover() {
    let first = free_row(24);
    let by_port = |port: u16, edition: &str| {
        format!(
            "command = [\"$PYTHON\", \"$PEERS/process_app.py\", \"port\", \"{{port}}\"]\nfirst_port = {port}\nenvironment = {{ EDITION = \"{edition}\" }}\n"
        )
    };
    let other = format!("[app.other]\ntype = \"process\"\n{}", by_port(first + 2, "other"));
    let server = site(&format!("{}{other}", by_port(first, "shop"))).start();
    let mut seen = Vec::new();
    let load = under_load_of(&server, "/edition", "shop", || {
        for round in 0..3 {
            if round > 0 {
                let before = all_pids(&server);
                server.upgrade();
                eventually("those before have ended", || before.iter().all(|pid| has_ended(*pid)));
            }
            let addresses = ready_addresses(&server);
            for (name, address) in &addresses {
                assert_eq!(&Client::connect(*address).ask(get("/edition")).text(), name, "{addresses:?}");
            }
            assert_eq!(addresses.len(), 2, "both serve: {addresses:?}");
            seen.push(addresses);
        }
    });
    load.assert_all_well(50);
    assert!(seen[0] != seen[1] && seen[1] != seen[2], "{seen:?}");
}

fn instances(server: &Server) -> Vec<(String, serde_json::Value)> {
    let apps = server.status()["processes"].as_array().cloned().unwrap_or_default();
    let of_app = |app: serde_json::Value| {
        let name = app["name"].as_str().expect("a name").to_owned();
        let instances = app["instances"].as_array().cloned().unwrap_or_default();
        instances.into_iter().map(move |instance| (name.clone(), instance))
    };
    apps.into_iter().flat_map(of_app).collect()
}

fn all_pids(server: &Server) -> Vec<u32> {
    instances(server).iter().filter_map(|(_, instance)| Some(instance["pid"].as_u64()? as u32)).collect()
}

/// Where they serve, by application.
fn ready_addresses(server: &Server) -> Vec<(String, std::net::SocketAddr)> {
    let ready = instances(server).into_iter().filter(|(_, instance)| instance["state"] == "ready");
    ready.map(|(name, i)| (name, i["address"].as_str().expect("one").parse().expect("an address"))).collect()
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
        if lines.is_empty() {
            // Killed, it is replaced by one that has no more rights than the server.
            let last = pids(&server);
            signal(parent_of(last[0]), Signal::KILL);
            eventually("others serve", || {
                let now = pids(&server);
                now.first().is_some_and(|pid| !last.contains(pid)) && server.connect().ask(get("/")).status == 200
            });
        }
    }
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
