//! Several servers behind the real binary: who gets a request, what happens when one of them fails, and which requests
//! may be sent twice. Source: RFC 9110 section 9.2.2; "active-passive" as HAProxy's `backup`.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::upstream::Then;
use support::*;

/// A server that answers with its name.
fn named(name: &'static str) -> FakeUpstream {
    FakeUpstream::start(move |exchange| exchange.ok(name))
}

fn site(servers: &[String], keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n{keys}\n",
        servers.join(", ")
    )
}

fn plain(address: SocketAddr) -> String {
    format!("\"{address}\"")
}

fn start(driver: Driver, servers: &[&FakeUpstream], keys: &str) -> Server {
    let servers: Vec<String> = servers.iter().map(|server| plain(server.address)).collect();
    Site::new(driver, &site(&servers, keys)).one_worker().start()
}

/// An address where nobody listens.
fn refusing() -> SocketAddr {
    support::ports::free_address()
}

/// How often each text came in `n` answers.
fn shares(client: &mut Client, n: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..n {
        let response = client.ask(get("/"));
        assert_eq!(response.status, 200);
        *shares.entry(response.text()).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_gives_each_its_share_by_weight() {
    with_both_drivers(|driver| {
        let (a, b, c) = (named("a"), named("b"), named("c"));
        const TURNS: &str = "health = false\nbalance = \"round-robin\"";
        let server = start(driver, &[&a, &b, &c], TURNS);
        let mut client = server.connect();
        let got = shares(&mut client, 30);
        assert_eq!((got["a"], got["b"], got["c"]), (10, 10, 10), "{driver:?}");
        let servers = [
            format!("{{ address = {}, weight = 5 }}", plain(a.address)),
            format!("{{ address = {}, weight = 1 }}", plain(b.address)),
        ];
        let server = Site::new(driver, &site(&servers, TURNS)).one_worker().start();
        let mut client = server.connect();
        let got = shares(&mut client, 60);
        assert_eq!((got["a"], got["b"]), (50, 10), "{driver:?}");
        // Smooth: the light one is not served only at the end of a round.
        let texts: Vec<String> = (0..6).map(|_| client.ask(get("/")).text()).collect();
        assert_eq!(texts.iter().filter(|text| *text == "b").count(), 1, "{driver:?}: {texts:?}");
        // Two data workers that count for themselves must not add up to something else.
        let servers = [plain(a.address), plain(b.address)];
        let server = Site::new(driver, &site(&servers, TURNS)).start();
        let mut total = 0;
        for _ in 0..40 {
            total += usize::from(server.connect().ask(get("/")).text() == "a");
        }
        assert!((15..=25).contains(&total), "{driver:?}: {total} of 40");
    });
}

#[test]
fn least_conn_avoids_the_busy_server() {
    with_both_drivers(|driver| {
        let free = Arc::new(AtomicBool::new(false));
        let wait = free.clone();
        let slow = FakeUpstream::start(move |exchange| {
            while exchange.request.target == "/hold" && !wait.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            exchange.ok("any")
        });
        let other = FakeUpstream::start({
            let wait = free.clone();
            move |exchange| {
                while exchange.request.target == "/hold" && !wait.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                exchange.ok("any")
            }
        });
        let server = start(driver, &[&slow, &other], "health = false\nbalance = \"least-conn\"");
        // Three requests that stay: two on one server, one on the other.
        let mut held: Vec<Client> = Vec::new();
        for n in 0..3 {
            let mut client = server.connect();
            client.send(get("/hold"));
            held.push(client);
            eventually("it arrives", || slow.count("/hold") + other.count("/hold") == n + 1);
        }
        let (busier, idler) = if slow.count("/hold") == 2 { (&slow, &other) } else { (&other, &slow) };
        assert_eq!((busier.count("/hold"), idler.count("/hold")), (2, 1), "{driver:?}");
        let mut client = server.connect();
        for _ in 0..10 {
            assert_eq!(client.ask(get("/quick")).status, 200);
        }
        assert_eq!((busier.count("/quick"), idler.count("/quick")), (0, 10), "{driver:?}");
        free.store(true, Ordering::SeqCst);
        for mut client in held {
            assert_eq!(client.response("GET").status, 200, "{driver:?}");
        }
    });
}

#[test]
fn a_server_that_refuses_connections_is_passed_over_by_every_method() {
    with_both_drivers(|driver| {
        let good = named("good");
        let servers = [plain(refusing()), plain(good.address)];
        let server = Site::new(driver, &site(&servers, "health = false")).one_worker().start();
        let mut client = server.connect();
        let large = "x".repeat(200_000);
        for n in 0..5 {
            for (method, body) in
                [("GET", ""), ("POST", "small"), ("POST", large.as_str()), ("PATCH", ""), ("DELETE", "")]
            {
                let response = client.ask(request(method, "/", &[], body));
                assert_eq!(response.text(), "good", "{driver:?} {method} {n}");
            }
        }
        assert!(good.seen().iter().all(|seen| seen.body_complete && matches!(seen.body.len(), 0 | 5 | 200_000)));
        assert!(server.metric("one_server_upstream_connect_errors_total", "") >= 1.0, "{driver:?}");
    });
}

#[test]
fn nobody_there_is_502_or_503_and_quick() {
    with_both_drivers(|driver| {
        let servers = [plain(refusing()), plain(refusing())];
        let server = Site::new(driver, &site(&servers, "health = false")).start();
        let mut client = server.connect();
        for text in [get("/"), post("/", "body")] {
            let (response, took) = client::timed(|| client.ask(text));
            assert!(matches!(response.status, 502 | 503), "{driver:?}: {}", response.status);
            assert!(took < Duration::from_secs(3), "{driver:?}: {took:?}");
        }
        // A connection that is never answered: 504 or 502 at the connect time-out.
        let full = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::listen(&full, 0).expect("a backlog of none");
        let address = full.local_addr().expect("an address");
        let _fillers: Vec<_> =
            (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
        let keys = "health = false\nconnect_timeout = \"300ms\"\ntries = 1";
        let server = Site::new(driver, &site(&[plain(address)], keys)).start();
        let (response, took) = client::timed(|| server.connect().ask(get("/")));
        assert!(matches!(response.status, 502 | 504), "{driver:?}: {}", response.status);
        assert!(took < Duration::from_secs(8), "{driver:?}: {took:?}");
    });
}

/// The server closes an idle connection just as a request is sent on it: nginx's and Node's classic 502.
#[test]
fn a_connection_closed_while_idle_is_retried_only_where_that_is_safe() {
    with_both_drivers(|driver| {
        // The first request of a connection is answered; the second is read and then the connection breaks.
        let on_connection = Arc::new(std::sync::Mutex::new(HashMap::<usize, usize>::new()));
        let upstream = FakeUpstream::start(move |exchange| {
            let number = exchange.request.connection;
            let nth = {
                let mut counts = on_connection.lock().expect("a lock");
                let count = counts.entry(number).or_default();
                *count += 1;
                *count
            };
            exchange.read_body();
            if nth > 1 {
                return if exchange.request.target == "/reset" { exchange.reset() } else { Then::Close };
            }
            exchange.ok("fresh")
        });
        let server = start(driver, &[&upstream], "health = false");
        let mut client = server.connect();
        for path in ["/close", "/reset"] {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
                assert_eq!(client.ask(get("/prime")).text(), "fresh", "{driver:?}");
                let before = upstream.count(path);
                let response = client.ask(request(method, path, &[], ""));
                assert_eq!(response.status, 200, "{driver:?} {method} {path}");
                assert_eq!(
                    upstream.count(path) - before,
                    2,
                    "{driver:?} {method} {path}: once more, on a new connection"
                );
            }
            for (method, body) in [("POST", ""), ("POST", "body"), ("PATCH", "body")] {
                // The connection that is idle now has served one request.
                client.ask(get("/prime"));
                let before = upstream.count(path);
                client.send(request(method, path, &[], body));
                let result = client.try_response(method);
                assert_eq!(upstream.count(path) - before, 1, "{driver:?} {method} {path}: sent twice");
                // 502, or a connection closed without an answer, so that the client decides.
                if let Ok(response) = &result {
                    assert_eq!(response.status, 502, "{driver:?} {method} {path}");
                }
                if result.is_err() || result.is_ok_and(|response| response.is_last()) {
                    client = server.connect();
                }
            }
        }
        assert_eq!(server.metric("one_server_upstream_response_errors_total", ""), 0.0, "{driver:?}: nobody's fault");
    });
}

#[test]
fn a_fresh_connection_that_breaks_is_retried_elsewhere_only_where_that_is_safe() {
    with_both_drivers(|driver| {
        let bad = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.reset()
        });
        let good = named("good");
        let server = start(driver, &[&bad, &good], "health = false");
        let mut statuses = Vec::new();
        for _ in 0..4 {
            assert_eq!(server.connect().ask(get("/get")).text(), "good", "{driver:?}");
            let before = bad.count("/post") + good.count("/post");
            statuses.push(server.connect().ask(post("/post", "body")).status);
            assert_eq!(bad.count("/post") + good.count("/post") - before, 1, "{driver:?}: a POST was repeated");
        }
        assert!(statuses.iter().all(|status| matches!(status, 200 | 502)), "{driver:?}: {statuses:?}");
        // A large PUT cannot be repeated although its method may: its body is gone.
        let before = bad.count("/put") + good.count("/put");
        server.connect().ask(request("PUT", "/put", &[], &"x".repeat(200_000)));
        assert_eq!(bad.count("/put") + good.count("/put") - before, 1, "{driver:?}");
        // Nor is anything repeated once the client has seen a byte of an answer.
        let begun = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            Then::Close
        });
        let server = start(driver, &[&begun, &begun], "health = false");
        let mut client = server.connect();
        client.send(get("/half"));
        assert!(client.try_response("GET").is_err(), "{driver:?}");
        assert_eq!(begun.count("/half"), 1, "{driver:?}");
    });
}

#[test]
fn tries_are_limited() {
    with_both_drivers(|driver| {
        let servers: Vec<FakeUpstream> = (0..5).map(|_| FakeUpstream::start(|exchange| exchange.reset())).collect();
        let all: Vec<&FakeUpstream> = servers.iter().collect();
        for tries in [1, 3] {
            let server = start(driver, &all, &format!("health = false\ntries = {tries}"));
            let before: usize = servers.iter().map(|server| server.count("/")).sum();
            assert_eq!(server.connect().ask(get("/")).status, 502, "{driver:?}");
            let after: usize = servers.iter().map(|server| server.count("/")).sum();
            assert_eq!(after - before, tries, "{driver:?}");
        }
    });
}

const HEALTH: &str = "balance = \"round-robin\"\nhealth = { path = \"/health\", interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2 }";

/// A server whose health can be switched.
fn switchable(name: &'static str) -> (FakeUpstream, Arc<AtomicBool>) {
    let healthy = Arc::new(AtomicBool::new(true));
    let is_healthy = healthy.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        if exchange.request.target == "/health" && !is_healthy.load(Ordering::SeqCst) {
            exchange.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            return Then::Keep;
        }
        exchange.ok(name)
    });
    (upstream, healthy)
}

fn ups(server: &Server) -> f64 {
    server.metric("one_server_upstream_server_up", "")
}

#[test]
fn health_checks_take_a_server_out_and_back() {
    with_both_drivers(|driver| {
        let (a, a_healthy) = switchable("a");
        let (b, b_healthy) = switchable("b");
        let server = start(driver, &[&a, &b], HEALTH);
        let mut client = server.connect();
        eventually("both are up", || ups(&server) == 2.0);
        assert_eq!(shares(&mut client, 10)["a"], 5, "{driver:?}");
        a_healthy.store(false, Ordering::SeqCst);
        eventually("one is taken out", || ups(&server) == 1.0);
        assert_eq!(shares(&mut client, 10)["b"], 10, "{driver:?}");
        a_healthy.store(true, Ordering::SeqCst);
        eventually("it is back", || ups(&server) == 2.0);
        assert_eq!(shares(&mut client, 10)["a"], 5, "{driver:?}");
        // None: 503 at once, with advice when to come again; and back again.
        a_healthy.store(false, Ordering::SeqCst);
        b_healthy.store(false, Ordering::SeqCst);
        eventually("all are out", || ups(&server) == 0.0);
        let response = client.ask(get("/"));
        assert_eq!(response.status, 503, "{driver:?}");
        assert!(response.field("retry-after").is_some(), "{driver:?}");
        b_healthy.store(true, Ordering::SeqCst);
        eventually("one is back", || ups(&server) == 1.0);
        assert_eq!(shares(&mut server.connect(), 4)["b"], 4, "{driver:?}");
    });
}

#[test]
fn a_check_that_only_connects_sees_a_stopped_server() {
    with_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let server = start(
            driver,
            &[&a, &b],
            "balance = \"round-robin\"\nhealth = { interval = \"100ms\", rise = 1, fall = 2 }",
        );
        eventually("both are up", || ups(&server) == 2.0);
        let address = a.address;
        a.stop();
        eventually("one is down", || ups(&server) == 1.0);
        assert_eq!(shares(&mut server.connect(), 6)["b"], 6, "{driver:?}");
        drop(a);
        let _again = FakeUpstream::start_at(address, |exchange| exchange.ok("again"));
        eventually("it is back", || ups(&server) == 2.0);
        assert_eq!(shares(&mut server.connect(), 6)["again"], 3, "{driver:?}");
    });
}

#[test]
fn a_check_that_hangs_is_a_failed_check() {
    with_both_drivers(|driver| {
        let hang = Arc::new(AtomicBool::new(false));
        let hangs = hang.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            if hangs.load(Ordering::SeqCst) {
                exchange.wait_for_close();
                return Then::Close;
            }
            exchange.ok("ok")
        });
        let keys = "health = { path = \"/health\", interval = \"100ms\", timeout = \"200ms\", rise = 1, fall = 2 }";
        let server = start(driver, &[&upstream], keys);
        eventually("it is up", || ups(&server) == 1.0);
        hang.store(true, Ordering::SeqCst);
        eventually("it is down", || ups(&server) == 0.0);
        hang.store(false, Ordering::SeqCst);
        eventually("it is up again", || ups(&server) == 1.0);
        upstream.wait_until_all_closed_but_idle();
    });
}

#[test]
fn a_backup_serves_only_while_no_other_is_up() {
    with_both_drivers(|driver| {
        let (active, healthy) = switchable("active");
        let backup = named("backup");
        let servers = [plain(active.address), format!("{{ address = {}, backup = true }}", plain(backup.address))];
        let server = Site::new(driver, &site(&servers, HEALTH)).start();
        eventually("both are up", || ups(&server) == 2.0);
        for round in 0..2 {
            for _ in 0..10 {
                assert_eq!(server.connect().ask(get("/")).text(), "active", "{driver:?} {round}");
            }
            healthy.store(false, Ordering::SeqCst);
            eventually("the active one is out", || ups(&server) == 1.0);
            for _ in 0..10 {
                assert_eq!(server.connect().ask(get("/")).text(), "backup", "{driver:?} {round}");
            }
            healthy.store(true, Ordering::SeqCst);
            eventually("the active one is back", || ups(&server) == 2.0);
        }
        assert_eq!(server.connect().ask(get("/")).text(), "active", "{driver:?}");
        // It also takes over at once, before any check has noticed, when the active one refuses connections.
        let servers = [plain(refusing()), format!("{{ address = {}, backup = true }}", plain(backup.address))];
        let server = Site::new(driver, &site(&servers, "health = false")).start();
        for text in [get("/"), post("/", "body")] {
            assert_eq!(server.connect().ask(text).text(), "backup", "{driver:?}");
        }
    });
}

/// Under load, while a server dies and comes back, no client sees it.
#[test]
fn a_dying_server_costs_no_get_request() {
    with_both_drivers(|driver| {
        let (a, healthy) = switchable("a");
        let b = named("b");
        let server = Arc::new(
            Site::new(driver, &site(&[plain(a.address), plain(b.address)], HEALTH))
                .http("keep_alive_requests_max = 0")
                .start(),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (server, stop, answered) = (server.clone(), stop.clone(), answered.clone());
                std::thread::spawn(move || {
                    let mut client = server.connect();
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let response = client.ask(get("/"));
                        if response.status != 200 {
                            failures.push(response.status);
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    failures
                })
            })
            .collect();
        let progress = |n: usize| {
            let target = answered.load(Ordering::SeqCst) + n;
            eventually("requests are answered", || answered.load(Ordering::SeqCst) >= target);
        };
        progress(200);
        healthy.store(false, Ordering::SeqCst);
        eventually("it is out", || ups(&server) == 1.0);
        progress(100);
        healthy.store(true, Ordering::SeqCst);
        eventually("it is back", || ups(&server) == 2.0);
        progress(100);
        a.stop(); // no new connections; those that are open go on
        progress(200);
        stop.store(true, Ordering::SeqCst);
        let failures: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        assert!(failures.is_empty(), "{driver:?}: {failures:?}");
    });
}
