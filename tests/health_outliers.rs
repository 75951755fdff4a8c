//! Servers that pass their checks and fail requests, through the real binary: they are ejected for a while and come back,
//! within the cap; what counts is what the config names.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::ports::free_address;
use support::upstream::Then;
use support::*;

/// How a server answers requests; checks it always answers with 200.
const GOOD: u8 = 0;
const FAILS: u8 = 1;
const RESETS: u8 = 2;
const SILENT: u8 = 3;
const SLOW: u8 = 4;
const CUT_OFF: u8 = 5;

struct Peer {
    upstream: FakeUpstream,
    nature: Arc<AtomicU8>,
}

impl Peer {
    fn start(nature: u8) -> Peer {
        let nature = Arc::new(AtomicU8::new(nature));
        let now = nature.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if exchange.request.target == "/health" {
                return exchange.ok("healthy");
            }
            match now.load(Ordering::SeqCst) {
                FAILS => {
                    exchange.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n");
                    Then::Keep
                }
                RESETS => exchange.reset(),
                SILENT => {
                    exchange.wait_for_close();
                    Then::Close
                }
                CUT_OFF => {
                    exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                    Then::Close
                }
                SLOW => {
                    std::thread::sleep(Duration::from_millis(150));
                    exchange.ok("slow")
                }
                _ => exchange.ok("good"),
            }
        });
        Peer { upstream, nature }
    }

    fn becomes(&self, nature: u8) {
        self.nature.store(nature, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.upstream.count("/page")
    }
}

fn start(driver: Driver, peers: &[&Peer], lines: &str) -> Server {
    let servers: Vec<String> = peers.iter().map(|peer| format!("\"{}\"", peer.upstream.address)).collect();
    let check = "health = { path = \"/health\", interval = \"100ms\", timeout = \"5s\" }";
    Site::new(
        driver,
        &format!(
            "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nbalance = \"round-robin\"\nservers = [{}]\n{check}\n{lines}\n",
            servers.join(", ")
        ),
    )
    .process("control = \"$DIR/ctl.sock\"")
    .start()
}

fn view(server: &Server, at: usize) -> Value {
    server.status()["upstreams"][0]["servers"][at].clone()
}

fn states(server: &Server) -> Vec<String> {
    let servers = server.status()["upstreams"][0]["servers"].clone();
    let servers = servers.as_array().expect("servers");
    servers.iter().map(|server| server["state"].as_str().expect("a state").to_owned()).collect()
}

fn ejected(server: &Server) -> usize {
    states(server).iter().filter(|state| *state == "ejected").count()
}

/// Status of one request, on a connection of its own, so that both workers see some; 0: it broke off.
fn ask(server: &Server) -> u16 {
    let mut client = server.connect();
    client.send(get("/page"));
    client.try_response("GET").map_or(0, |response| response.status)
}

#[test]
fn a_server_that_passes_its_checks_and_fails_requests_is_ejected_and_comes_back() {
    with_both_drivers(|driver| {
        let (bad, good, other) = (Peer::start(FAILS), Peer::start(GOOD), Peer::start(GOOD));
        let lines = "outliers = { consecutive = 3, ejection_time = \"1s\" }";
        let server = start(driver, &[&bad, &good, &other], lines);
        let mut failures = 0;
        eventually("it is ejected", || {
            failures += u32::from(ask(&server) == 500);
            view(&server, 0)["state"] == "ejected"
        });
        assert!((3..60).contains(&failures), "{failures}");
        let line = server.wait_for_line("ejected", |line| line.contains(" is EJECTED for 1s "));
        assert!(line.contains(&format!("warn server up/{} ", bad.upstream.address)), "{line}");
        assert!(line.ends_with("failures in a row; 2 of 3 servers left"), "{line}");
        let seen = view(&server, 0);
        assert_eq!(
            (&seen["up"], &seen["check"]["result"], &seen["ejections"]),
            (&false.into(), &"L7OK".into(), &1.into())
        );
        assert!(seen["reason"].as_str().is_some_and(|reason| reason.ends_with("failures in a row")), "{seen}");
        assert!(seen["ejected_until_unix_ms"].as_u64() > seen["since_unix_ms"].as_u64(), "{seen}");
        let labels = format!("server=\"{}\"", bad.upstream.address);
        assert_eq!(server.metric("one_server_upstream_server_ejections_total", &labels), 1.0);
        let before = bad.requests();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400) {
            assert_eq!(ask(&server), 200);
        }
        assert_eq!(bad.requests(), before, "nothing goes there");
        // It comes back, fails again, and is out for longer.
        server.wait_for_line("back", |line| line.contains(" is UP again after an ejection of 1"));
        eventually("it is ejected again", || {
            ask(&server);
            view(&server, 0)["ejections"] == 2
        });
        server.wait_for_line("longer", |line| line.contains(" is EJECTED for 2s (ejection 2 that counts)"));
        bad.becomes(GOOD);
        eventually("it is back for good", || states(&server) == ["up", "up", "up"]);
        for _ in 0..30 {
            assert_eq!(ask(&server), 200);
        }
        assert_eq!(view(&server, 0)["ejections"], 2);
    });
}

#[test]
fn a_share_of_failures_is_enough_where_no_row_is_long() {
    with_both_drivers(|driver| {
        // Alternates, so that no worker ever sees two failures in a row … of one kind of client.
        let turn = Arc::new(AtomicU8::new(0));
        let flips = turn.clone();
        let flaky = FakeUpstream::start(move |exchange| {
            if exchange.request.target == "/page" && flips.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                exchange.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
                return Then::Keep;
            }
            exchange.ok("good")
        });
        let flaky = Peer { upstream: flaky, nature: Arc::default() };
        let good = Peer::start(GOOD);
        let lines = "outliers = { failures = \"gateway\", consecutive = 0, error_rate = 30, window = \"2s\", requests_min = 10 }";
        let server = start(driver, &[&flaky, &good], lines);
        eventually("it is ejected", || {
            ask(&server);
            view(&server, 0)["state"] == "ejected"
        });
        let line = server.wait_for_line("ejected", |line| line.contains(" is EJECTED for 30s "));
        assert!(line.ends_with(" requests failed; 1 of 2 servers left"), "{line}");
    });
}

#[test]
fn no_more_than_the_cap_are_ejected_and_never_the_last() {
    with_both_drivers(|driver| {
        let peers = [FAILS, FAILS, FAILS, GOOD].map(Peer::start);
        let all: Vec<&Peer> = peers.iter().collect();
        let server = start(driver, &all, "outliers = { consecutive = 3, max_ejected = 50, ejection_time = \"60s\" }");
        eventually("half are ejected", || {
            ask(&server);
            ejected(&server) == 2
        });
        let spared = "as many are out as `max_ejected` allows, or no other one is up; 2 of 4 servers up";
        eventually("the third one stays", || {
            ask(&server);
            server.lines().iter().any(|line| line.contains(" is an outlier but stays: ") && line.ends_with(spared))
        });
        for _ in 0..20 {
            ask(&server);
        }
        assert_eq!((ejected(&server), states(&server)[3].as_str()), (2, "up"));
        let told = server.lines().iter().filter(|line| line.contains(" is an outlier but stays: ")).count();
        assert_eq!(told, 1, "told once");
        // A lone server is used, whatever it does.
        let server = start(driver, &[&peers[0]], "outliers = { consecutive = 2, max_ejected = 100 }");
        for _ in 0..20 {
            assert_eq!(ask(&server), 500);
        }
        assert_eq!(ejected(&server), 0);
    });
}

/// Ejections count for panic: with one server in four left, all are used again.
#[test]
fn ejections_can_bring_about_panic() {
    with_both_drivers(|driver| {
        let peers = [FAILS, FAILS, FAILS, GOOD].map(Peer::start);
        let all: Vec<&Peer> = peers.iter().collect();
        let lines = "panic = 30\noutliers = { consecutive = 3, max_ejected = 75, ejection_time = \"60s\" }";
        let server = start(driver, &all, lines);
        let panic = "upstream up is in panic: 1 of 4 servers up, below 30 %: all of them get requests";
        eventually("panic", || {
            ask(&server);
            server.lines().iter().any(|line| line.ends_with(panic))
        });
        assert_eq!(ejected(&server), 3);
        let before = peers[0].requests();
        for _ in 0..20 {
            ask(&server);
        }
        assert!(peers[0].requests() > before, "it gets requests again");
    });
}

#[test]
fn each_kind_of_failure_counts_where_it_is_named() {
    with_both_drivers(|driver| {
        let keys = "tries = 1\nresponse_timeout = \"200ms\"";
        for (nature, kind) in [(FAILS, "5xx"), (RESETS, "broken"), (CUT_OFF, "broken"), (SILENT, "timeout")] {
            for counts in [true, false] {
                let (bad, good) = (Peer::start(nature), Peer::start(GOOD));
                let all = ["connect", "broken", "timeout", "5xx"];
                let named: Vec<String> =
                    all.iter().filter(|name| (**name == kind) == counts).map(|name| format!("\"{name}\"")).collect();
                let rules = match (counts, nature) {
                    // Behind its good head only the share shows that the body breaks off.
                    (_, CUT_OFF) => "consecutive = 0, error_rate = 50, window = \"500ms\", requests_min = 4",
                    _ => "consecutive = 3, error_rate = 0",
                };
                let lines = format!("{keys}\noutliers = {{ failures = [{}], {rules} }}", named.join(", "));
                let server = start(driver, &[&bad, &good], &lines);
                if counts {
                    eventually(&format!("it is ejected for {kind}"), || {
                        ask(&server);
                        ejected(&server) == 1
                    });
                    continue;
                }
                for _ in 0..12 {
                    ask(&server);
                }
                std::thread::sleep(Duration::from_millis(300));
                assert_eq!(ejected(&server), 0, "{nature} does not count without {kind}");
            }
        }
    });
}

/// A server that refuses connections is seen by requests long before a slow check would.
#[test]
fn refused_connections_eject_before_a_check_is_due() {
    with_both_drivers(|driver| {
        let good = Peer::start(GOOD);
        let dead = free_address();
        let lines = "outliers = { failures = \"connect\", consecutive = 2 }\nhealth = false";
        let server = Site::new(
            driver,
            &format!(
                "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [\"{dead}\", \"{}\"]\n{lines}\n",
                good.upstream.address
            ),
        )
        .start();
        eventually("it is ejected", || {
            assert_eq!(ask(&server), 200, "the other one answers");
            ejected(&server) == 1
        });
        assert!(view(&server, 0)["check"].is_null());
    });
}

#[test]
fn a_server_far_slower_than_the_others_is_ejected() {
    with_both_drivers(|driver| {
        let peers = [SLOW, GOOD, GOOD, GOOD].map(Peer::start);
        let all: Vec<&Peer> = peers.iter().collect();
        let lines = "outliers = { latency_factor = 4, latency_min = \"50ms\", window = \"4s\", requests_min = 5 }";
        let server = start(driver, &all, lines);
        eventually("it is ejected", || {
            assert_eq!(ask(&server), 200);
            states(&server)[0] == "ejected"
        });
        let line = server.wait_for_line("ejected", |line| line.contains(" is EJECTED for 30s "));
        assert!(line.contains("p90 latency ") && line.contains(", while the median of the others is "), "{line}");
        assert_eq!(ejected(&server), 1);
    });
}

/// Without the key nothing is counted and nobody is ejected.
#[test]
fn outliers_are_off_by_default() {
    with_both_drivers(|driver| {
        let (bad, good) = (Peer::start(FAILS), Peer::start(GOOD));
        let server = start(driver, &[&bad, &good], "");
        let answers: Vec<u16> = (0..40).map(|_| ask(&server)).collect();
        assert_eq!(answers.iter().filter(|status| **status == 500).count(), 20);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(states(&server), ["up", "up"]);
    });
}

#[test]
fn a_reload_with_other_rules_lets_ejected_servers_back() {
    with_both_drivers(|driver| {
        let (bad, good) = (Peer::start(FAILS), Peer::start(GOOD));
        let server = start(driver, &[&bad, &good], "outliers = { consecutive = 3, ejection_time = \"600s\" }");
        eventually("it is ejected", || {
            ask(&server);
            view(&server, 0)["state"] == "ejected"
        });
        bad.becomes(GOOD);
        server.reload_with(&[("consecutive = 3", "consecutive = 4")]);
        eventually("it is back", || states(&server) == ["up", "up"]);
        let before = bad.requests();
        eventually("it gets requests", || ask(&server) == 200 && bad.requests() > before);
        // The same where the rules are gone.
        bad.becomes(FAILS);
        eventually("it is ejected", || {
            ask(&server);
            view(&server, 0)["state"] == "ejected"
        });
        server.reload_with(&[("outliers = { consecutive = 4, ejection_time = \"600s\" }", "")]);
        eventually("it is back", || states(&server) == ["up", "up"]);
    });
}
