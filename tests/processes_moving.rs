//! Applications that are processes while they are replaced and move: what is counted of them, and that every request which may
//! have had an effect has exactly one.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use support::apps::{BY_FD, eventually_gone, pids, shop, signal, site};
use support::load::under_load;
use support::ports::free_port;
use support::*;

/// Series of a metrics page that are there twice.
fn doubled(page: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let series = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    series.map(|(series, _)| series.to_owned()).filter(|series| !seen.insert(series.clone())).collect()
}

/// While what it was finishes what it has elsewhere.
#[test]
fn an_application_that_moves_is_one_in_pages_and_keeps_its_counters() {
    let server = site(&format!("{BY_FD}backoff = \"20ms\"")).start();
    let first = pids(&server);
    signal(first[0], Signal::KILL);
    eventually("another one serves", || pids(&server).first().is_some_and(|pid| *pid != first[0]));
    let old = pids(&server);
    let mut client = server.connect();
    client.send(post("/slow/4000", "x"));
    eventually("it is in there", || shop(&server)["instances"][0]["active"].as_u64() == Some(1));
    let counts = || {
        let page = server.admin("/metrics");
        assert_eq!(doubled(&page), Vec::<String>::new());
        let status = server.status();
        assert_eq!(status["processes"].as_array().map(Vec::len), Some(1), "{}", status["processes"]);
        let signals = server.metric("one_server_process_exits_total", "reason=\"signal\"");
        (signals, server.metric("one_server_process_restarts_total", "app=\"shop\""))
    };
    assert_eq!(counts(), (1.0, 1.0));
    let port = free_port();
    let by_port = format!("\"port\", \"{{port}}\"]\nfirst_port = {port}");
    server.reload_with(&[("\"fd\"]\nlisten = \"fd\"", &by_port)]);
    let states = |state: &str| {
        let shop = shop(&server);
        let instances = shop["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().filter(|instance| instance["state"] == state).count()
    };
    eventually("the old one drains", || states("draining") == 1);
    assert_eq!((states("ready"), &shop(&server)["state"]), (1, &"ready".into()));
    assert_eq!(counts(), (1.0, 1.0), "nothing is forgotten");
    let shown = server.ctl_ok(&["app", "show"]);
    assert_eq!(shown.matches("app shop (").count(), 1, "{shown}");
    // What the operator wants is done to, and told of, what serves.
    let told: serde_json::Value =
        serde_json::from_str(&server.ctl_ok(&["app", "stop", "shop", "--json"])).expect("JSON");
    assert_eq!(told["result"]["state"], "stopped", "{told}");
    server.ctl_ok(&["app", "start", "shop"]);
    eventually("it serves", || pids(&server).len() == 1);
    let before = counts();
    assert_eq!(client.response("POST").text(), "slow");
    eventually_gone(&old);
    eventually("it is alone", || states("draining") + states("stopping") == 0);
    let after = counts();
    assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} {after:?}");
}

/// What was there before finishes what it has, and others are ready in its place when the config is in use.
#[test]
fn one_that_moves_back_before_it_is_gone_costs_no_request() {
    let server = site(&format!("{BY_FD}environment = {{ START_MS = \"1800\" }}")).start();
    let old = pids(&server);
    let mut client = server.connect();
    client.send(post("/slow/9000", "x"));
    eventually("it is in there", || shop(&server)["instances"][0]["active"].as_u64() == Some(1));
    let port = free_port();
    let by_port = format!("\"port\", \"{{port}}\"]\nfirst_port = {port}");
    let load = under_load(&server, || {
        server.reload_with(&[("\"fd\"]\nlisten = \"fd\"", &by_port)]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        server.reload_with(&[(&by_port, "\"fd\"]\nlisten = \"fd\"")]);
        assert!(pids(&server).iter().any(|pid| !old.contains(pid)), "one is ready when the config is in use");
        std::thread::sleep(std::time::Duration::from_millis(2000));
    });
    load.assert_all_well(100);
    assert_eq!(client.response("POST").text(), "slow");
    eventually_gone(&old);
    eventually("the other one is alone", || shop(&server)["instances"].as_array().map(Vec::len) == Some(1));
}

/// What clients know of requests that must be done once.
#[derive(Default)]
struct Tokens {
    next: AtomicU64,
    acknowledged: Mutex<HashSet<u64>>,
    failed: Mutex<Vec<String>>,
}

impl Tokens {
    /// Sends one after the other, each with a number of its own.
    fn keep_sending(&self, server: &Server, stop: &AtomicBool) {
        let mut client = server.connect();
        while !stop.load(Ordering::Relaxed) {
            let token = self.next.fetch_add(1, Ordering::Relaxed);
            match client.send(post(&format!("/ledger/{token}.3"), "content")).try_response("POST") {
                Ok(answer) if answer.status == 200 && answer.text() == token.to_string() => {
                    self.acknowledged.lock().expect("a lock").insert(token);
                    if answer.is_last() {
                        client = server.connect();
                    }
                }
                other => {
                    self.failed.lock().expect("a lock").push(format!("{token}: {other:?}"));
                    client = server.connect();
                }
            }
        }
    }
}

/// Requests that may not be sent again are neither lost nor done twice while instances come and go.
#[test]
fn posts_under_a_rolling_replacement_are_done_once_each() {
    let lines = format!(
        "{BY_FD}instances = 2\nrequests_max = 8\nenvironment = {{ LEDGER = \"$DIR/ledger\", EDITION = \"0\" }}"
    );
    let server = site(&lines).start();
    let (tokens, stop) = (Tokens::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (tokens, stop, server) = (&tokens, &stop, &server);
        for _ in 0..6 {
            scope.spawn(move || tokens.keep_sending(server, stop));
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..4 {
                let before = pids(server);
                match round % 2 {
                    0 => drop(server.ctl_ok(&["app", "restart", "shop"])),
                    _ => drop(server.reload_with(&[(
                        &format!("EDITION = \"{}\"", round / 2),
                        &format!("EDITION = \"{}\"", round / 2 + 1),
                    )])),
                }
                eventually("both are others", || {
                    let now = pids(server);
                    let all = shop(server)["instances"].as_array().map(Vec::len);
                    now.len() == 2 && now.iter().all(|pid| !before.contains(pid)) && all == Some(2)
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = work {
            std::panic::resume_unwind(panic);
        }
    });
    let failed = tokens.failed.into_inner().expect("a lock");
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), &failed[..failed.len().min(3)]);
    let ledger = std::fs::read_to_string(server.folder().join("ledger")).expect("a ledger");
    let mut done: HashMap<u64, u32> = HashMap::new();
    ledger.lines().for_each(|line| *done.entry(line.parse().expect("a number")).or_default() += 1);
    let twice: Vec<_> = done.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let acknowledged = tokens.acknowledged.into_inner().expect("a lock");
    assert!(acknowledged.len() > 500, "{} are no load", acknowledged.len());
    assert_eq!(acknowledged, done.into_keys().collect::<HashSet<u64>>());
}
