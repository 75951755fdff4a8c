//! Servers added and removed while the process runs: in use at once on all workers, nothing lost, and so over reloads.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::{Driver, FakeUpstream, Server, Site, eventually, get, with_both_drivers};

fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.ok(name)
    })
}

fn start(driver: Driver, keys: &str, servers: &[&FakeUpstream]) -> Server {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    let rest = format!(
        "[upstream.api]\nbalance = \"round-robin\"\nservers = [{}]\n{keys}\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"api\"\n",
        servers.join(", ")
    );
    Site::new(driver, &rest).process("control = \"$DIR/ctl.sock\"").start()
}

fn id(server: &FakeUpstream) -> String {
    format!("api/{}", server.address)
}

/// Who answers how many of these requests, each on a connection of its own.
fn spread(server: &Server, requests: usize) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for _ in 0..requests {
        let answer = server.connect().ask(get("/"));
        *all.entry(if answer.status == 200 { answer.text() } else { answer.status.to_string() }).or_insert(0) += 1;
    }
    all
}

fn names(server: &Server) -> Vec<String> {
    spread(server, 24).into_keys().collect()
}

#[test]
fn servers_come_and_go_and_stay_so_over_reloads() {
    with_both_drivers(|driver| {
        let (one, two, three) = (named("one"), named("two"), named("three"));
        let server = start(driver, "health = false", &[&one, &two]);
        assert_eq!(names(&server), ["one", "two"], "{driver:?}");
        let told = server.ctl_ok(&["add", &id(&three), "--weight", "2", "--limit", "7"]);
        assert_eq!(told, format!("{} is added, the upstream has 3 servers\n", id(&three)));
        assert_eq!(names(&server), ["one", "three", "two"], "{driver:?}");
        let shown = server.ctl_ok(&["show"]);
        let line = shown.lines().find(|line| line.contains(&three.address.to_string())).unwrap_or_default();
        assert!(line.contains("weight 2") && line.contains("limit 7") && line.contains("added"), "{shown}");
        let told = server.ctl_ok(&["remove", &id(&one)]);
        assert_eq!(told, format!("{} is removed, the upstream has 2 servers\n", id(&one)));
        assert_eq!(names(&server), ["three", "two"], "{driver:?}");
        assert!(server.ctl_ok(&["show"]).contains(&format!("removed: {}", one.address)));
        server.reload_with(&[("balance = \"round-robin\"", "balance = \"least-conn\"")]);
        assert_eq!(names(&server), ["three", "two"], "{driver:?}: the file still names the first one");
        server.ctl_ok(&["add", &id(&one)]);
        server.ctl_ok(&["remove", &id(&three)]);
        assert_eq!(names(&server), ["one", "two"], "{driver:?}");
        let json: serde_json::Value =
            serde_json::from_str(&server.ctl_ok(&["--json", "add", &id(&three), "--backup"])).unwrap();
        assert_eq!(json["result"]["servers"], 3);
        assert_eq!(names(&server), ["one", "two"], "{driver:?}: a backup waits");
        server.ctl_ok(&["server", &id(&one), "maintenance"]);
        server.ctl_ok(&["server", &id(&two), "maintenance"]);
        assert_eq!(names(&server), ["three"], "{driver:?}");
    });
}

#[test]
fn a_removed_server_finishes_what_it_has() {
    with_both_drivers(|driver| {
        let go = std::sync::Arc::new(AtomicBool::new(false));
        let gate = go.clone();
        let slow = FakeUpstream::start(move |exchange| {
            exchange.read_body();
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            exchange.ok("slow")
        });
        let other = named("other");
        let server = start(driver, "health = false", &[&slow]);
        let mut client = server.connect();
        client.send(get("/"));
        eventually("it is there", || slow.count("/") == 1);
        server.ctl_ok(&["add", &id(&other)]);
        server.ctl_ok(&["remove", &id(&slow)]);
        assert_eq!(names(&server), ["other"], "{driver:?}");
        go.store(true, Ordering::SeqCst);
        assert_eq!(client.response("GET").text(), "slow", "{driver:?}");
    });
}

#[test]
fn what_cannot_be_is_told_and_changes_nothing() {
    let (one, two) = (named("one"), named("two"));
    let server = start(Driver::IoUring, "health = { check_port = 1 }", &[&one]);
    let refused = |arguments: &[&str], expect: &str| {
        let text = server.ctl_fails(arguments);
        assert!(text.contains(expect), "{arguments:?}: {text}");
    };
    refused(&["remove", &id(&one)], "is the last server of upstream `api`: add another one first");
    refused(&["remove", &id(&two)], "has no server");
    refused(&["remove", "web/127.0.0.1:1"], "no upstream is called `web`: there are api");
    refused(&["add", &id(&one)], "has 127.0.0.1");
    refused(&["add", "api/app.internal:80"], "names stand in the config file");
    refused(&["add", "api/127.0.0.1"], "the port is missing");
    refused(&["add", "api/unix:/run/a.sock"], "a Unix socket has no port");
    refused(&["add", "api"], "names no server");
    server.ctl_ok(&["add", &id(&two)]);
    server.ctl_ok(&["remove", &id(&one)]);
    refused(&["add", &id(&one), "--weight", "3"], "is of the config file");
    assert_eq!(server.status()["config"]["generation"], 2, "refusals are no config");
}

/// All the time requests, all the time another set of servers: nobody notices.
#[test]
fn changes_under_load_fail_no_request() {
    with_both_drivers(|driver| {
        let (one, two, three) = (named("one"), named("two"), named("three"));
        let server =
            start(driver, "health = false\nsticky = { cookie = \"s\", secret = \"one of sixteen b\" }", &[&one]);
        let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut client = server.connect();
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.ask(get("/"));
                        assert_eq!(answer.status, 200, "{driver:?}");
                        requests.fetch_add(1, Ordering::Relaxed);
                        if answer.is_last() {
                            client = server.connect();
                        }
                    }
                });
            }
            for _ in 0..10 {
                for (add, remove) in [(&two, &one), (&three, &two), (&one, &three)] {
                    server.ctl_ok(&["add", &id(add)]);
                    server.ctl_ok(&["remove", &id(remove)]);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(requests.load(Ordering::Relaxed) > 300, "{driver:?}");
        assert_eq!(server.status()["config"]["generation"], 60, "{driver:?}");
        assert!([&one, &two, &three].iter().all(|server| server.count("/") > 0), "{driver:?}");
    });
}
