//! Choosing a server, by the real binary: methods, hashes, tiers and fail-back, slow start, limits with their queue, sticky
//! clients, canaries, copies.
//! What a choice is by itself is tested where it is made (`src/proxy`); here is what clients and servers see of it.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::upstream::Then;
use support::*;

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

fn with(address: SocketAddr, keys: &str) -> String {
    format!("{{ address = \"{address}\", {keys} }}")
}

/// Who answers `text`.
fn who(server: &Server, text: String) -> String {
    let response = server.connect().ask(text);
    assert_eq!(response.status, 200);
    response.text()
}

fn counts(server: &Server, n: usize, text: impl Fn(usize) -> String) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let mut client = server.connect();
    for at in 0..n {
        let response = client.ask(text(at));
        assert_eq!(response.status, 200);
        *counts.entry(response.text()).or_default() += 1;
    }
    counts
}

#[test]
fn every_method_reaches_all_servers_by_weight() {
    with_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let servers = [with(a.address, "weight = 3"), with(b.address, "weight = 1")];
        for method in ["random-two", "round-robin", "least-conn"] {
            let keys = format!("health = false\nbalance = \"{method}\"");
            let server = Site::new(driver, &site(&servers, &keys)).start();
            let got = counts(&server, 200, |_| get("/"));
            assert!((110..=190).contains(&got["a"]), "{driver:?} {method}: {got:?}");
        }
        let server = Site::new(driver, &site(&servers, "health = false\nbalance = \"first\"")).start();
        assert_eq!(counts(&server, 20, |_| get("/"))["a"], 20, "{driver:?}");
        let servers = [with(a.address, "weight = 0"), plain(b.address)];
        let server = Site::new(driver, &site(&servers, "health = false")).start();
        assert_eq!(counts(&server, 20, |_| get("/"))["b"], 20, "{driver:?}");
    });
}

#[test]
fn least_time_prefers_the_quicker_server() {
    with_both_drivers(|driver| {
        let slow = FakeUpstream::start(|exchange| {
            std::thread::sleep(Duration::from_millis(60));
            exchange.ok("slow")
        });
        let quick = named("quick");
        let servers = [plain(slow.address), plain(quick.address)];
        let keys = "health = false\nbalance = \"least-time\"";
        let server = Site::new(driver, &site(&servers, keys)).one_worker().start();
        let got = counts(&server, 60, |_| get("/"));
        assert!(got["quick"] >= 55, "{driver:?}: {got:?}");
    });
}

/// The same key, the same server: in every worker, in another process, and while others come and go.
#[test]
fn hashes_keep_requests_together() {
    with_both_drivers(|driver| {
        let servers: Vec<(FakeUpstream, Arc<AtomicBool>)> = ["a", "b", "c"].map(switchable).into();
        let list: Vec<String> = servers.iter().map(|(server, _)| plain(server.address)).collect();
        let reversed: Vec<String> = list.iter().rev().cloned().collect();
        type Ask = fn(usize) -> String;
        let keys: [(&str, Ask); 5] = [
            ("$request_uri", |n| get(&format!("/page?n={n}"))),
            ("$path", |n| get(&format!("/page/{n}"))),
            ("$http_x_tenant", |n| request("GET", "/", &[&format!("X-Tenant: {n}")], "")),
            ("$cookie_session", |n| request("GET", "/", &[&format!("Cookie: a=1; session={n}")], "")),
            ("$arg_id", |n| get(&format!("/?id={n}&time={:?}", Instant::now()).replace(' ', ""))),
        ];
        for (key, ask) in keys {
            let keys = format!("{HEALTH}\nhash = \"{key}\"");
            let (one, other) = (
                Site::new(driver, &site(&list, &keys)).start(),
                Site::new(driver, &site(&reversed, &keys)).one_worker().start(),
            );
            let homes: Vec<String> = (0..30).map(|n| who(&one, ask(n))).collect();
            for (n, home) in homes.iter().enumerate() {
                assert_eq!((&who(&one, ask(n)), &who(&other, ask(n))), (home, home), "{driver:?} {key} {n}");
            }
            assert!(["a", "b", "c"].iter().all(|name| homes.iter().any(|home| home == name)), "{key}: {homes:?}");
            if key == "$path" {
                servers[1].1.store(false, Ordering::SeqCst);
                eventually("b is out", || ups(&one) == 2.0);
                for (n, home) in homes.iter().enumerate() {
                    let now = who(&one, ask(n));
                    assert!(now == *home || (home == "b" && now != "b"), "{driver:?} {n}: {home} -> {now}");
                }
                servers[1].1.store(true, Ordering::SeqCst);
                eventually("b is back", || ups(&one) == 3.0);
                assert!(homes.iter().enumerate().all(|(n, home)| who(&one, ask(n)) == *home), "{driver:?}");
            }
        }
        // One address, one server; and without a key, the method.
        let server = Site::new(driver, &site(&list, "health = false\nhash = \"$remote_addr\"")).start();
        assert_eq!(counts(&server, 20, |_| get("/")).len(), 1, "{driver:?}");
        let server = Site::new(driver, &site(&list, "health = false\nhash = \"$cookie_none\"")).start();
        assert_eq!(counts(&server, 60, |_| get("/")).len(), 3, "{driver:?}");
    });
}

/// One hot key does not drown its server.
#[test]
fn a_bounded_hash_moves_on() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let servers: Vec<FakeUpstream> = (0..3).map(|_| holding(release.clone())).collect();
        let list: Vec<String> = servers.iter().map(|server| plain(server.address)).collect();
        let keys = "health = false\nhash = { key = \"$path\", load_max = 125 }";
        let server = Site::new(driver, &site(&list, keys)).one_worker().start();
        let clients: Vec<Client> = (0..12)
            .map(|n| {
                let mut client = server.connect();
                client.send(get("/hold"));
                eventually("it arrives", || servers.iter().map(|s| s.count("/hold")).sum::<usize>() == n + 1);
                client
            })
            .collect();
        let most = servers.iter().map(|server| server.count("/hold")).max();
        assert_eq!(most, Some(5), "{driver:?}: 125 % of a third of 12");
        release.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|mut client| assert_eq!(client.response("GET").status, 200));
    });
}

const HEALTH: &str = "health = { path = \"/health\", interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2 }";

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

/// A server that answers requests for /hold only when it is told to.
fn holding(release: Arc<AtomicBool>) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        while exchange.request.target.starts_with("/hold") && !release.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        exchange.ok("held")
    })
}

fn ups(server: &Server) -> f64 {
    server.metric("one_server_upstream_server_up", "")
}

#[test]
fn tiers_take_over_in_order_and_give_back_as_the_policy_says() {
    with_both_drivers(|driver| {
        let first: Vec<(FakeUpstream, Arc<AtomicBool>)> = ["first", "first"].map(switchable).into();
        let (second, second_healthy) = switchable("second");
        let last = named("last");
        let list = [
            plain(first[0].0.address),
            plain(first[1].0.address),
            with(second.address, "tier = 2"),
            with(last.address, "backup = true"),
        ];
        let set = |at: usize, healthy: bool| first[at].1.store(healthy, Ordering::SeqCst);
        let is_used = |server: &Server, name: &str| {
            eventually(&format!("{name} is used"), || (0..4).all(|_| who(server, get("/")) == name));
        };
        for policy in ["at-once", "2s", "manual"] {
            let keys = format!("{HEALTH}\ntier_min = \"100%\"\nfail_back = \"{policy}\"");
            let server = Site::new(driver, &site(&list, &keys)).start();
            eventually("all are up", || ups(&server) == 4.0);
            is_used(&server, "first");
            set(0, false);
            is_used(&server, "second");
            set(0, true);
            eventually("all are up", || ups(&server) == 4.0);
            let back = Instant::now();
            match policy {
                "at-once" => is_used(&server, "first"),
                "manual" => {
                    std::thread::sleep(Duration::from_millis(500));
                    assert_eq!(who(&server, get("/")), "second", "{driver:?}");
                    // The one in use fails itself: no reason to wait any longer.
                    second_healthy.store(false, Ordering::SeqCst);
                    is_used(&server, "first");
                    second_healthy.store(true, Ordering::SeqCst);
                    eventually("all are up", || ups(&server) == 4.0);
                    is_used(&server, "first");
                }
                _ => {
                    let still = who(&server, get("/"));
                    assert!(still == "second" || back.elapsed() > Duration::from_secs(1), "{driver:?}: {still}");
                    is_used(&server, "first");
                    assert!(back.elapsed() >= Duration::from_millis(1500), "{driver:?}: {:?}", back.elapsed());
                    server.wait_for_line("the tier", |line| line.contains("tier of servers in use changed"));
                }
            }
        }
        // Nobody has all it should: the first that has any, down to the last.
        let keys = format!("{HEALTH}\ntier_min = \"100%\"");
        let server = Site::new(driver, &site(&list, &keys)).start();
        eventually("all are up", || ups(&server) == 4.0);
        set(0, false);
        second_healthy.store(false, Ordering::SeqCst);
        is_used(&server, "last");
        set(1, false);
        is_used(&server, "last");
    });
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    with_both_drivers(|driver| {
        let (a, healthy) = switchable("a");
        let b = named("b");
        let list = [plain(a.address), plain(b.address)];
        let keys = format!("{HEALTH}\nbalance = \"round-robin\"\nslow_start = \"3s\"");
        let server = Site::new(driver, &site(&list, &keys)).one_worker().start();
        eventually("both are up", || ups(&server) == 2.0);
        assert_eq!(counts(&server, 20, |_| get("/"))["a"], 10, "{driver:?}: nothing starts slowly at first");
        healthy.store(false, Ordering::SeqCst);
        eventually("it is out", || ups(&server) == 1.0);
        healthy.store(true, Ordering::SeqCst);
        eventually("it is back", || ups(&server) == 2.0);
        let back = Instant::now();
        let early = counts(&server, 40, |_| get("/")).get("a").copied().unwrap_or(0);
        // On a slow machine the first look may be late.
        assert!(early <= 12 || back.elapsed() > Duration::from_secs(1), "{driver:?}: {early}");
        std::thread::sleep(Duration::from_millis(3300).saturating_sub(back.elapsed()));
        assert_eq!(counts(&server, 20, |_| get("/"))["a"], 10, "{driver:?}");
    });
}

/// Requests at once at a server that counts them.
struct Counted {
    upstream: FakeUpstream,
    most: Arc<AtomicUsize>,
}

fn counted(work: Duration) -> Counted {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let upstream = FakeUpstream::start(move |exchange| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(work);
        now.fetch_sub(1, Ordering::SeqCst);
        exchange.ok("done")
    });
    Counted { upstream, most }
}

/// The limit holds for the whole process, whatever worker a request is at; all are answered in the end.
#[test]
fn limits_hold_over_all_workers() {
    with_both_drivers(|driver| {
        let (a, b) = (counted(Duration::from_millis(5)), counted(Duration::from_millis(5)));
        let list = [with(a.upstream.address, "requests_max = 2"), with(b.upstream.address, "requests_max = 3")];
        for keys in
            ["health = false\nqueue_timeout = \"20s\"", "health = false\nqueue_timeout = \"20s\"\nrequests_max = 4"]
        {
            let server = Arc::new(Site::new(driver, &site(&list, keys)).start());
            let clients: Vec<_> = (0..16)
                .map(|_| {
                    let server = server.clone();
                    std::thread::spawn(move || {
                        let mut client = server.connect();
                        (0..20).all(|_| client.ask(get("/")).status == 200)
                    })
                })
                .collect();
            assert!(clients.into_iter().all(|client| client.join().expect("a client")), "{driver:?}");
            let most = [&a, &b].map(|server| server.most.load(Ordering::SeqCst));
            assert!(most[0] <= 2 && most[1] <= 3, "{driver:?}: {most:?}");
            assert_eq!(server.metric("one_server_upstream_queue_requests", ""), 0.0);
            assert!(server.metric("one_server_upstream_queue_wait_duration_seconds_count", "") > 0.0);
            let queue = &server.status()["upstreams"][0]["queue"];
            assert_eq!((queue["waiting"].as_u64(), queue["full"].as_u64()), (Some(0), Some(0)), "{queue}");
        }
    });
}

/// What the log says of a request: how it ended, Tw, the queues, status, Tc.
fn logged(mut server: Server, path: &str) -> impl Fn(&str) -> Vec<String> {
    server.signal(rustix::process::Signal::QUIT);
    server.wait();
    let log = std::fs::read_to_string(server.folder().join(path)).expect("a log");
    move |path| {
        let line = log.lines().find(|line| line.starts_with(&format!("GET {path} ")));
        line.unwrap_or_else(|| panic!("no {path} in {log}")).split('|').skip(1).map(str::to_owned).collect()
    }
}

const LOG: &str = "access = \"$DIR/access.log\"\nformat = \"%r|%ts|%Tw|%sq/%bq|%ST|%Tc\"\nescape = \"none\"\n";

#[test]
fn those_who_wait_are_served_and_those_too_many_told_to_come_again() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let upstream = holding(release.clone());
        let list = [with(upstream.address, "requests_max = 1")];
        let keys = "health = false\nqueue_max = 4\nqueue_timeout = \"60s\"";
        let server = Site::new(driver, &site(&list, keys)).log(LOG).start();
        let waiting = |n: f64| {
            eventually("they wait", || server.metric("one_server_upstream_queue_requests", "") == n);
        };
        let mut held = server.connect();
        held.send(get("/hold"));
        eventually("it arrives", || upstream.count("/hold") == 1);
        let mut queued: Vec<Client> = Vec::new();
        for n in 0..4 {
            let mut client = server.connect();
            client.send(get(&format!("/{n}")));
            queued.push(client);
            waiting(n as f64 + 1.0);
        }
        // One too many.
        let refused = server.connect().ask(get("/full"));
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{driver:?}");
        // One leaves, and makes room for another.
        drop(queued.remove(1));
        waiting(3.0);
        let mut late = server.connect();
        late.send(get("/late"));
        waiting(4.0);
        std::thread::sleep(Duration::from_millis(200));
        release.store(true, Ordering::SeqCst);
        let statuses: Vec<u16> =
            queued.iter_mut().chain([&mut late, &mut held]).map(|c| c.response("GET").status).collect();
        assert_eq!(statuses, [200; 5], "{driver:?}");
        let order: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
        assert!(!order.iter().any(|target| target == "/1" || target == "/full"), "{driver:?}: {order:?}");
        assert_eq!(order.len(), 5, "{driver:?}");
        // In order of arrival; those behind the one that left at the same worker may have moved up.
        assert_eq!(order[..2], ["/hold", "/0"], "{driver:?}");
        let metric = |name: &str| server.metric(&format!("one_server_upstream_queue_{name}_total"), "");
        assert_eq!([metric("full"), metric("timeouts"), metric("left")], [1.0, 0.0, 1.0], "{driver:?}");
        let logged = logged(server, "access.log");
        let (full, first, last) = (logged("/full"), logged("/0"), logged("/3"));
        assert_eq!((full[0].as_str(), full[3].as_str()), ("RQ", "503"), "{full:?}");
        assert_eq!(logged("/1")[0], "CQ");
        assert_eq!((first[2].as_str(), last[2].as_str()), ("0/0", "0/3"), "{first:?} {last:?}");
        // The wait is not counted as connecting.
        let (tw, tc): (i64, i64) = (first[1].parse().expect("ms"), first[4].parse().expect("ms"));
        assert!(tw >= 200 && tc < tw, "{first:?}");
    });
}

#[test]
fn who_waits_for_too_long_is_told_to_come_again() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let upstream = holding(release.clone());
        let list = [with(upstream.address, "requests_max = 1")];
        let server = Site::new(driver, &site(&list, "health = false\nqueue_timeout = \"700ms\"")).log(LOG).start();
        let mut held = server.connect();
        held.send(get("/hold"));
        eventually("it arrives", || upstream.count("/hold") == 1);
        let (refused, took) = client::timed(|| server.connect().ask(get("/vain")));
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{driver:?}");
        assert!(took >= Duration::from_millis(600), "{driver:?}: {took:?}");
        release.store(true, Ordering::SeqCst);
        assert_eq!(held.response("GET").status, 200);
        assert_eq!(server.metric("one_server_upstream_queue_timeouts_total", ""), 1.0, "{driver:?}");
        let vain = logged(server, "access.log")("/vain");
        assert_eq!((vain[0].as_str(), vain[3].as_str()), ("sQ", "503"), "{vain:?}");
        assert!(vain[1].parse::<u64>().is_ok_and(|ms| ms >= 600), "{vain:?}");
    });
}

/// Requests at workers with much traffic and with little get places in the same order.
#[test]
fn a_worker_with_few_requests_is_not_starved() {
    with_both_drivers(|driver| {
        let one = counted(Duration::from_millis(2));
        let list = [with(one.upstream.address, "requests_max = 1")];
        let server = Arc::new(Site::new(driver, &site(&list, "health = false\nqueue_timeout = \"20s\"")).start());
        let stop = Arc::new(AtomicBool::new(false));
        let load: Vec<_> = (0..10)
            .map(|_| {
                let (server, stop) = (server.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut client = server.connect();
                    while !stop.load(Ordering::SeqCst) {
                        assert_eq!(client.ask(get("/")).status, 200);
                    }
                })
            })
            .collect();
        eventually("they wait", || server.metric("one_server_upstream_queue_requests", "") >= 8.0);
        let mut client = server.connect();
        let mut times: Vec<Duration> = (0..20).map(|_| client::timed(|| client.ask(get("/"))).1).collect();
        times.sort();
        stop.store(true, Ordering::SeqCst);
        load.into_iter().for_each(|client| client.join().expect("a client"));
        // Ten are ahead at most, with 2 ms each; generous, for the machine is busy.
        assert!(times[10] < Duration::from_secs(2), "{driver:?}: {times:?}");
    });
}

/// Name and value of the cookie that an answer sets, and its attributes.
fn set_cookie(response: &Response) -> Option<(String, String)> {
    let (cookie, attributes) = response.field("set-cookie")?.split_once("; ").expect("attributes");
    Some((cookie.to_owned(), attributes.to_owned()))
}

const SECRET: &str = "secret = \"sixteen bytes or more\"";

#[test]
fn sticky_clients_come_back_to_their_server() {
    with_both_drivers(|driver| {
        let servers: Vec<(FakeUpstream, Arc<AtomicBool>)> = ["a", "b", "c"].map(switchable).into();
        let list: Vec<String> = servers.iter().map(|(server, _)| plain(server.address)).collect();
        let keys = format!("{HEALTH}\nsticky = {{ cookie = \"srv\", {SECRET}, path = \"/app\", max_age = \"1h\" }}");
        let server = Site::new(driver, &site(&list, &keys)).start();
        eventually("all are up", || ups(&server) == 3.0);
        let with_cookie =
            |cookie: &str| server.connect().ask(request("GET", "/", &[&format!("Cookie: x=1; {cookie}")], ""));
        let mut cookies = HashMap::new();
        for _ in 0..200 {
            let response = server.connect().ask(get("/"));
            let (cookie, attributes) = set_cookie(&response).expect("a cookie");
            assert_eq!(attributes, "Path=/app; Max-Age=3600; HttpOnly; SameSite=Lax", "{driver:?}");
            assert!(!cookie.contains("127.0.0.1"));
            cookies.insert(response.text(), cookie);
        }
        assert_eq!(cookies.len(), 3, "{driver:?}: {cookies:?}");
        for (name, cookie) in &cookies {
            for _ in 0..6 {
                let response = with_cookie(cookie);
                assert_eq!((&response.text(), set_cookie(&response)), (name, None), "{driver:?}");
            }
        }
        // One that somebody has made leads nowhere, and is replaced.
        for forged in ["srv=a", "srv=", "srv=AAAAAAAAAAAAAAAAAAAAAA", "srv=127.0.0.1"] {
            assert!(set_cookie(&with_cookie(forged)).is_some(), "{driver:?} {forged}");
        }
        // Its server goes: another one, and another cookie, which stays when the first is back.
        servers[0].1.store(false, Ordering::SeqCst);
        eventually("a is out", || ups(&server) == 2.0);
        let response = with_cookie(&cookies["a"]);
        let (moved, _) = set_cookie(&response).expect("another cookie");
        assert_ne!(response.text(), "a", "{driver:?}");
        servers[0].1.store(true, Ordering::SeqCst);
        eventually("a is back", || ups(&server) == 3.0);
        assert_eq!((with_cookie(&moved).text(), with_cookie(&cookies["a"]).text()), (response.text(), "a".into()));
        assert!(server.metric("one_server_upstream_sticky_kept_total", "") >= 20.0);
        // In another process, in another order, one of them draining: the same clients, and no others.
        let list = [plain(servers[2].0.address), with(servers[0].0.address, "weight = 0"), plain(servers[1].0.address)];
        let other = Site::new(driver, &site(&list, &keys)).start();
        let with_cookie = |cookie: &str| other.connect().ask(request("GET", "/", &[&format!("Cookie: {cookie}")], ""));
        for (name, cookie) in &cookies {
            assert_eq!(&with_cookie(cookie).text(), name, "{driver:?}");
        }
        assert!(!counts(&other, 40, |_| get("/")).contains_key("a"), "{driver:?}");
        // Another secret is another world.
        let keys = keys.replace("sixteen", "seventeen");
        let other = Site::new(driver, &site(&list, &keys)).start();
        let response = other.connect().ask(request("GET", "/", &[&format!("Cookie: {}", cookies["b"])], ""));
        assert!(set_cookie(&response).is_some(), "{driver:?}");
    });
}

/// A sticky client waits for its own server, while others are served elsewhere; and moves on when that goes.
#[test]
fn a_sticky_client_waits_for_its_server() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let healthy = Arc::new(AtomicBool::new(true));
        let (released, is_healthy) = (release.clone(), healthy.clone());
        let a = FakeUpstream::start(move |exchange| {
            if exchange.request.target == "/health" {
                let status = if is_healthy.load(Ordering::SeqCst) { "200 OK" } else { "503 Busy" };
                exchange.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
                return Then::Keep;
            }
            while exchange.request.target == "/hold" && !released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            exchange.ok("a")
        });
        let b = named("b");
        let list = [with(a.address, "requests_max = 1"), plain(b.address)];
        let keys = format!("{HEALTH}\nqueue_timeout = \"20s\"\nsticky = {{ cookie = \"srv\", {SECRET} }}");
        let server = Site::new(driver, &site(&list, &keys)).start();
        eventually("both are up", || ups(&server) == 2.0);
        let cookie = (0..).find_map(|_| {
            let response = server.connect().ask(get("/"));
            (response.text() == "a").then(|| set_cookie(&response).expect("a cookie").0)
        });
        let cookie = format!("Cookie: {}", cookie.expect("some client gets a"));
        let mut held = server.connect();
        held.send(request("GET", "/hold", &[&cookie], ""));
        eventually("it arrives", || a.count("/hold") == 1);
        let wait = || {
            let mut waiting = server.connect();
            waiting.send(request("GET", "/mine", &[&cookie], ""));
            eventually("it waits", || server.metric("one_server_upstream_queue_requests", "") == 1.0);
            waiting
        };
        let mut waiting = wait();
        assert!((0..6).all(|_| who(&server, get("/")) == "b"), "{driver:?}: the others go on");
        release.store(true, Ordering::SeqCst);
        assert_eq!((held.response("GET").text(), waiting.response("GET").text()), ("a".into(), "a".into()));
        release.store(false, Ordering::SeqCst);
        held.send(request("GET", "/hold", &[&cookie], ""));
        eventually("it arrives", || a.count("/hold") == 2);
        let mut waiting = wait();
        healthy.store(false, Ordering::SeqCst);
        let response = waiting.response("GET");
        assert_eq!((response.text().as_str(), set_cookie(&response).is_some()), ("b", true), "{driver:?}");
        release.store(true, Ordering::SeqCst);
        assert_eq!(held.response("GET").status, 200);
    });
}

#[test]
fn canaries_by_weight_cookie_and_field() {
    with_both_drivers(|driver| {
        let (api, canary) = (named("api"), named("canary"));
        let text = format!(
            "[site.main]\n[[site.main.route]]\npath = \"/weight\"\nproxy = \"$by_weight\"\n\
             [[site.main.route]]\npath = \"/\"\nproxy = \"$by_choice\"\n\
             [split.by_weight]\nfrom = \"$cookie_user\"\nshares = [\"25% canary\", \"* api\"]\n\
             [map.by_choice]\nfrom = \"$cookie_canary/$http_x_canary\"\nvalues = {{ \"~1\" = \"canary\" }}\ndefault = \"api\"\n\
             [upstream.api]\nservers = \"{}\"\nhealth = false\n[upstream.canary]\nservers = \"{}\"\nhealth = false\n",
            api.address, canary.address
        );
        let server = Site::new(driver, &text).start();
        let user = |n: usize| request("GET", "/weight", &[&format!("Cookie: user=u{n}")], "");
        let first: Vec<String> = (0..200).map(|n| who(&server, user(n))).collect();
        let share = first.iter().filter(|name| *name == "canary").count();
        assert!((30..=70).contains(&share), "{driver:?}: {share} of 200");
        assert!(first.iter().enumerate().all(|(n, name)| who(&server, user(n)) == *name), "{driver:?}: they stay");
        for (field, expect) in [("Cookie: canary=1", "canary"), ("X-Canary: 1", "canary"), ("Cookie: canary=0", "api")]
        {
            assert_eq!(who(&server, request("GET", "/", &[field], "")), expect, "{driver:?} {field}");
        }
    });
}

#[test]
fn copies_go_to_a_second_upstream_and_never_hold_up_the_first() {
    with_both_drivers(|driver| {
        let api = named("api");
        let shadow = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send(format!("HTTP/1.1 500 No\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000)));
            Then::Keep
        });
        let text = |shadow: SocketAddr, mirror: &str, more: &str| {
            format!(
                "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"api\"\nmirror = {mirror}\n\
                 [upstream.api]\nservers = \"{}\"\nhealth = false\n[upstream.shadow]\nservers = \"{shadow}\"\nhealth = false\n{more}",
                api.address
            )
        };
        let server = Site::new(driver, &text(shadow.address, "\"shadow\"", "")).one_worker().start();
        let mut client = server.connect();
        for n in 0..20 {
            assert_eq!(client.ask(get(&format!("/get/{n}"))).text(), "api", "{driver:?}");
            assert_eq!(client.ask(post(&format!("/post/{n}"), "body")).text(), "api", "{driver:?}");
        }
        assert_eq!(client.ask(post("/large", &"x".repeat(100_000))).text(), "api", "{driver:?}");
        eventually("the copies arrive", || shadow.count("/") == 40);
        shadow.wait_until_all_closed_but_idle();
        let copies = shadow.seen();
        assert!(
            copies.iter().filter(|seen| seen.method == "POST").all(|seen| seen.body == b"body" && seen.body_complete)
        );
        assert!(copies.iter().all(|seen| seen.field("x-forwarded-for") == Some("127.0.0.1")));
        eventually("their connections are kept", || {
            server.metric("one_server_upstream_connections_idle", "shadow") >= 0.0
        });
        assert!(shadow.connections() <= 20, "{driver:?}: {} connections", shadow.connections());
        let metric =
            |server: &Server, name: &str| server.metric(&format!("one_server_upstream_{name}_total"), "shadow");
        assert_eq!((metric(&server, "mirrored"), metric(&server, "mirror_skipped")), (40.0, 1.0), "{driver:?}");
        // A share of them.
        let before = shadow.count("/");
        let server = Site::new(driver, &text(shadow.address, "{ to = \"shadow\", share = \"20%\" }", "")).start();
        let mut client = server.connect();
        (0..200).for_each(|_| assert_eq!(client.ask(get("/share")).status, 200));
        std::thread::sleep(Duration::from_millis(300));
        let share = shadow.count("/") - before;
        assert!((15..=70).contains(&share), "{driver:?}: {share} of 200");
        // A second upstream that hangs, one that is not there: nobody notices, and copies stay bounded.
        let hangs = FakeUpstream::start(|exchange| {
            exchange.wait_for_close();
            Then::Close
        });
        let dead = support::ports::free_address();
        for (address, is_dead) in [(hangs.address, false), (dead, true)] {
            let mirror = "{ to = \"shadow\", requests_max = 3 }";
            let server = Site::new(driver, &text(address, mirror, "response_timeout = \"8s\"\n")).start();
            let mut client = server.connect();
            let ((), took) =
                client::timed(|| (0..50).for_each(|_| assert_eq!(client.ask(get("/quick")).text(), "api")));
            assert!(took < Duration::from_secs(7), "{driver:?}: {took:?}");
            if is_dead {
                eventually("they fail", || metric(&server, "mirror_failed") >= 1.0);
            } else {
                assert_eq!((hangs.count("/"), metric(&server, "mirrored")), (3, 3.0), "{driver:?}");
                assert_eq!(metric(&server, "mirror_skipped"), 47.0, "{driver:?}");
                eventually("they are given up", || metric(&server, "mirror_failed") == 3.0);
            }
        }
    });
}

/// HAProxy, given the same weights, gives each server the same number of requests in each round.
#[test]
fn weights_mean_what_they_mean_to_haproxy() {
    if !has_program("haproxy") {
        return;
    }
    let servers: Vec<FakeUpstream> = ["a", "b", "c", "d"].map(named).into();
    let weights = [7, 2, 0, 1];
    let folder = tempfile::tempdir().expect("a folder");
    let port = support::ports::free_port();
    let lines = servers.iter().zip(weights).map(|(s, w)| format!("  server s{w} {} weight {w}\n", s.address));
    let config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         listen web\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{}",
        lines.collect::<String>()
    );
    let path = folder.path().join("haproxy.cfg");
    std::fs::write(&path, config).expect("a config");
    let mut haproxy = std::process::Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let theirs = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("haproxy listens", || std::net::TcpStream::connect(theirs).is_ok());
    let list: Vec<String> =
        servers.iter().zip(weights).map(|(s, w)| with(s.address, &format!("weight = {w}"))).collect();
    let ours = Site::new(Driver::Auto, &site(&list, "health = false\nbalance = \"round-robin\"")).one_worker().start();
    let round = |address: SocketAddr| {
        let mut counts = [0; 4];
        let mut client = Client::connect(address);
        for _ in 0..30 {
            let text = client.ask(get("/")).text();
            counts[usize::from(text.as_bytes()[0] - b'a')] += 1;
        }
        counts
    };
    let got = (round(ours.web()), round(theirs));
    let _ = haproxy.kill();
    let _ = haproxy.wait();
    assert_eq!(got, ([21, 6, 0, 3], [21, 6, 0, 3]));
}

/// Nobody gives up: the order is that of arrival, over all workers.
#[test]
fn places_are_given_in_order_of_arrival_over_all_workers() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let upstream = holding(release.clone());
        let list = [with(upstream.address, "requests_max = 1")];
        let server = Site::new(driver, &site(&list, "health = false\nqueue_timeout = \"20s\"")).start();
        let mut clients = vec![server.connect()];
        clients[0].send(get("/hold"));
        eventually("it arrives", || upstream.count("/hold") == 1);
        for n in 1..=12 {
            let mut client = server.connect();
            client.send(get(&format!("/{n}")));
            clients.push(client);
            eventually("it waits", || server.metric("one_server_upstream_queue_requests", "") == f64::from(n));
        }
        release.store(true, Ordering::SeqCst);
        assert!(clients.iter_mut().all(|client| client.response("GET").status == 200), "{driver:?}");
        let order: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
        let expect: Vec<String> =
            std::iter::once("/hold".to_owned()).chain((1..=12).map(|n| format!("/{n}"))).collect();
        assert_eq!(order, expect, "{driver:?}");
    });
}

/// A place that opens while nothing ends: a server comes up, and those who wait go there.
#[test]
fn those_who_wait_go_to_a_server_that_comes_up() {
    with_both_drivers(|driver| {
        let release = Arc::new(AtomicBool::new(false));
        let released = release.clone();
        let busy = FakeUpstream::start(move |exchange| {
            while exchange.request.target == "/hold" && !released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            exchange.ok("busy")
        });
        let (other, healthy) = switchable("other");
        healthy.store(false, Ordering::SeqCst);
        let list = [with(busy.address, "requests_max = 1"), with(other.address, "requests_max = 1")];
        let server = Site::new(driver, &site(&list, &format!("{HEALTH}\nqueue_timeout = \"20s\""))).start();
        eventually("one is out", || ups(&server) == 1.0);
        let mut held = server.connect();
        held.send(get("/hold"));
        eventually("it arrives", || busy.count("/hold") == 1);
        let mut waiting = server.connect();
        waiting.send(get("/"));
        eventually("it waits", || server.metric("one_server_upstream_queue_requests", "") == 1.0);
        healthy.store(true, Ordering::SeqCst);
        assert_eq!(waiting.response("GET").text(), "other", "{driver:?}");
        release.store(true, Ordering::SeqCst);
        assert_eq!(held.response("GET").status, 200);
    });
}

const CONTROL: &str = "control = \"$DIR/ctl.sock\"";

/// A server that answers a request for /hold/N when it is told to, by a number from N on.
fn holding_until(released: Arc<AtomicUsize>) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        let number = exchange.request.target.strip_prefix("/hold/").and_then(|number| number.parse().ok());
        while number.is_some_and(|number: usize| released.load(Ordering::SeqCst) < number) {
            std::thread::sleep(Duration::from_millis(2));
        }
        exchange.ok("held")
    })
}

/// A reload changes limits for everyone at once, requests of the config before go on to count, and who waits under it comes
/// before who came later.
#[test]
fn a_reload_changes_limits_and_forgets_nobody_who_waits() {
    with_both_drivers(|driver| {
        let released = Arc::new(AtomicUsize::new(0));
        let upstream = holding_until(released.clone());
        let list = [with(upstream.address, "requests_max = 1")];
        let keys = "health = false\nqueue_timeout = \"30s\"";
        let server = Site::new(driver, &site(&list, keys)).process(CONTROL).start();
        let mut clients = Vec::new();
        let mut ask = |number: usize| {
            let mut client = server.connect();
            client.send(get(&format!("/hold/{number}")));
            clients.push(client);
        };
        let has_come = |number: usize| upstream.count(&format!("/hold/{number}")) == 1;
        let comes = |number: usize| eventually("it gets a place", || has_come(number));
        let wait = |count: f64| {
            eventually("they wait", || server.metric("one_server_upstream_queue_requests", "") == count);
        };
        ask(1);
        comes(1);
        ask(2);
        wait(1.0);
        server.reload_with(&[("requests_max = 1", "requests_max = 2")]);
        comes(2);
        ask(3);
        wait(1.0);
        server.reload_with(&[("requests_max = 2", "requests_max = 1")]);
        ask(4);
        wait(2.0);
        released.store(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(400));
        assert!(!has_come(3) && !has_come(4), "{driver:?}: the second one is all that may be");
        released.store(2, Ordering::SeqCst);
        comes(3);
        std::thread::sleep(Duration::from_millis(400));
        assert!(!has_come(4), "{driver:?}");
        // Another server has taken over before the last one ends: what is left of the old configs goes there.
        let next = holding_until(released.clone());
        server.reload_with(&[(&upstream.address.to_string(), &next.address.to_string())]);
        ask(5);
        eventually("the new server has a place", || next.count("/hold/5") == 1);
        released.store(3, Ordering::SeqCst);
        comes(4);
        released.store(5, Ordering::SeqCst);
        let statuses: Vec<u16> = clients.iter_mut().map(|client| client.response("GET").status).collect();
        assert_eq!(statuses, [200; 5], "{driver:?}");
        wait(0.0);
        // No place is lost, and none is there twice.
        let again = [6, 7].map(|number| {
            let mut client = server.connect();
            client.send(get(&format!("/hold/{number}")));
            if number == 6 {
                eventually("it gets a place", || next.count("/hold/6") == 1);
            }
            client
        });
        wait(1.0);
        assert_eq!(next.count("/hold/7"), 0, "{driver:?}");
        released.store(7, Ordering::SeqCst);
        again.into_iter().for_each(|mut client| assert_eq!(client.response("GET").status, 200, "{driver:?}"));
    });
}

/// Ends clients also when the test fails, which would wait for them.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Servers come and go while all of them are full: no limit is passed, nobody is refused, and nothing is left behind.
#[test]
fn limits_hold_over_reloads_under_load() {
    with_both_drivers(|driver| {
        let (a, b) = (counted(Duration::from_millis(3)), counted(Duration::from_millis(3)));
        let of_b = format!(", {}", with(b.upstream.address, "requests_max = 1"));
        let list = [with(a.upstream.address, "requests_max = 2") + &of_b];
        let server =
            Site::new(driver, &site(&list, "health = false\nqueue_timeout = \"30s\"")).process(CONTROL).start();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ended = StopOnDrop(&stop);
            let clients: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut client, mut n) = (server.connect(), 0);
                        while !stop.load(Ordering::SeqCst) {
                            let response = client.ask(get("/"));
                            assert_eq!(response.status, 200, "{driver:?}");
                            n += 1;
                            if response.field("connection").is_some() {
                                client = server.connect();
                            }
                        }
                        n
                    })
                })
                .collect();
            for _ in 0..12 {
                server.reload_with(&[(&of_b, "")]);
                server.reload_with(&[("requests_max = 2 }", &format!("requests_max = 2 }}{of_b}"))]);
            }
            drop(ended);
            assert!(clients.into_iter().all(|client| client.join().expect("a client") > 0), "{driver:?}");
        });
        let most = [&a, &b].map(|server| server.most.load(Ordering::SeqCst));
        assert_eq!(most, [2, 1], "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_queue_requests", ""), 0.0, "{driver:?}");
        let active = || server.metric("one_server_upstream_requests_active", "");
        eventually("nothing is under way", || active() <= 0.0);
        let mut client = server.connect();
        (0..20).for_each(|_| assert_eq!(client.ask(get("/")).status, 200, "{driver:?}"));
    });
}

/// As with HAProxy: a server that is drained keeps its clients, one in maintenance does not.
#[test]
fn a_drained_server_keeps_its_sticky_clients() {
    with_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let list = [plain(a.address), plain(b.address)];
        let keys = format!("health = false\nbalance = \"round-robin\"\nsticky = {{ cookie = \"srv\", {SECRET} }}");
        let server = Site::new(driver, &site(&list, &keys)).process(CONTROL).one_worker().start();
        let cookies: HashMap<String, String> = (0..2)
            .map(|_| {
                let response = server.connect().ask(get("/"));
                (response.text(), set_cookie(&response).expect("a cookie").0)
            })
            .collect();
        let with_cookie = || server.connect().ask(request("GET", "/", &[&format!("Cookie: {}", cookies["a"])], ""));
        let id = format!("up/{}", a.address);
        server.ctl_ok(&["server", &id, "drain"]);
        for limit in ["one", "two"] {
            for _ in 0..6 {
                assert_eq!((with_cookie().text().as_str(), set_cookie(&with_cookie())), ("a", None), "{driver:?}");
                assert_eq!(server.connect().ask(get("/")).text(), "b", "{driver:?}");
            }
            // By the next config, too.
            server.reload_with(&[("[site.main]\n", &format!("[limit.{limit}]\nrate = \"9/s\"\n[site.main]\n"))]);
        }
        server.ctl_ok(&["server", &id, "maintenance"]);
        let response = with_cookie();
        assert!(response.text() == "b" && set_cookie(&response).is_some(), "{driver:?}");
        server.ctl_ok(&["server", &id, "ready"]);
        assert_eq!(with_cookie().text(), "a", "{driver:?}");
    });
}

/// A second try waits in the queue as a first one does, but not beyond the time for retries.
#[test]
fn a_retry_waits_for_a_place_within_its_time() {
    with_both_drivers(|driver| {
        let released = Arc::new(AtomicUsize::new(0));
        let busy = holding_until(released.clone());
        let broken = FakeUpstream::start(|exchange| {
            exchange.read_body();
            Then::Close
        });
        let list = [with(broken.address, "requests_max = 5"), with(busy.address, "requests_max = 1")];
        for (time_max, is_answered) in [("30s", true), ("600ms", false)] {
            released.store(0, Ordering::SeqCst);
            let keys = format!(
                "health = false\nbalance = \"first\"\nqueue_timeout = \"20s\"\nretry_time_max = \"{time_max}\"\ntries = 2"
            );
            let before = busy.count("/");
            let server = Site::new(driver, &site(&list, &keys)).one_worker().start();
            let mut held = server.connect();
            held.send(get("/hold/1"));
            eventually("its second try arrives", || busy.count("/") == before + 1);
            let mut waiting = server.connect();
            let begun = Instant::now();
            waiting.send(get("/second"));
            eventually("its second try waits", || server.metric("one_server_upstream_queue_requests", "") == 1.0);
            if is_answered {
                released.store(1, Ordering::SeqCst);
            }
            let status = waiting.response("GET").status;
            assert_eq!(status, if is_answered { 200 } else { 502 }, "{driver:?}");
            if !is_answered {
                let took = begun.elapsed();
                assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(10), "{driver:?}: {took:?}");
            }
            released.store(1, Ordering::SeqCst);
            assert_eq!(held.response("GET").status, 200, "{driver:?}");
        }
    });
}
