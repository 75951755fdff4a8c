//! Which failures are tried on another server, and how often: what the operator chooses beyond the safe minimum, the
//! budget, the time, the bodies. `proxy_balance.rs` has the safe minimum itself. Sources: RFC 9110 section 9.2.2, nginx's
//! `proxy_next_upstream`.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::upstream::Then;
use support::*;

fn start(driver: Driver, servers: &[SocketAddr], keys: &str) -> Server {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let text = format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nbalance = \"round-robin\"\n\
         servers = [{}]\nhealth = false\n{keys}\n",
        servers.join(", ")
    );
    Site::new(driver, &text).one_worker().http("body_max = 0").start()
}

/// A server that answers with this status.
fn says(status: u16) -> FakeUpstream {
    FakeUpstream::start(move |exchange| {
        exchange.read_body();
        exchange.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\nX-From: {status}\r\n\r\nbusy"));
        Then::Keep
    })
}

fn good() -> FakeUpstream {
    FakeUpstream::start(|exchange| exchange.ok_with_size())
}

#[test]
fn a_status_is_tried_elsewhere_where_that_is_wanted_and_harmless() {
    with_both_drivers(|driver| {
        for (keys, method, expect) in [
            ("", "GET", [200, 503]),
            ("retry_on = [\"error\", \"503\"]", "GET", [200, 200]),
            ("retry_on = [\"429\"]", "GET", [200, 503]),
            ("retry_on = [\"503\"]", "POST", [200, 503]),
            ("retry_on = [\"503\", \"non_idempotent\"]", "POST", [200, 200]),
            ("retry_on = [\"503\"]\ntries = 1", "GET", [200, 503]),
        ] {
            let (busy, ok) = (says(503), good());
            let server = start(driver, &[busy.address, ok.address], keys);
            let mut client = server.connect();
            let mut got: Vec<u16> = (0..2).map(|_| client.ask(request(method, "/", &[], "body")).status).collect();
            got.sort_unstable();
            assert_eq!(got, expect, "{driver:?} {keys} {method}");
        }
    });
}

#[test]
fn the_last_answer_is_passed_on_as_it_is() {
    with_both_drivers(|driver| {
        let (first, second) = (says(503), says(503));
        let server = start(driver, &[first.address, second.address], "retry_on = [\"503\"]");
        let answer = server.connect().ask(get("/"));
        assert_eq!((answer.status, answer.text().as_str()), (503, "busy"), "{driver:?}");
        assert_eq!(answer.field("x-from"), Some("503"));
        assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{driver:?}: each was asked once");
        // Only one: it is asked once, not again and again.
        let alone = says(503);
        let server = start(driver, &[alone.address], "retry_on = [\"503\"]");
        assert_eq!(server.connect().ask(get("/")).status, 503);
        assert_eq!(alone.seen().len(), 1, "{driver:?}");
    });
}

#[test]
fn a_time_out_is_tried_elsewhere_only_if_wanted() {
    with_both_drivers(|driver| {
        for (words, expect) in [("[\"error\"]", [200, 504]), ("[\"timeout\"]", [200, 200])] {
            let silent = FakeUpstream::start(|exchange| {
                exchange.wait_for_close();
                Then::Close
            });
            let ok = good();
            let keys = format!("response_timeout = \"300ms\"\nretry_on = {words}\nretry_time_max = \"5s\"");
            let server = start(driver, &[silent.address, ok.address], &keys);
            let mut client = server.connect();
            let mut got: Vec<u16> = (0..2).map(|_| client.ask(get("/")).status).collect();
            got.sort_unstable();
            assert_eq!(got, expect, "{driver:?} {words}");
        }
    });
}

#[test]
fn nothing_at_all_is_tried_again_where_nothing_is_wanted() {
    with_both_drivers(|driver| {
        let (gone, ok) = (support::ports::free_address(), good());
        let server = start(driver, &[gone, ok.address], "retry_on = []");
        let mut client = server.connect();
        let mut got: Vec<u16> = (0..2).map(|_| client.ask(get("/")).status).collect();
        got.sort_unstable();
        assert_eq!(got, [200, 502], "{driver:?}");
    });
}

#[test]
fn a_body_is_kept_up_to_the_limit() {
    with_both_drivers(|driver| {
        for (limit, size, expect) in
            [("16KiB", 16 << 10, 200), ("16KiB", (16 << 10) + 1, 502), ("64KiB", 60_000, 200), ("0", 1, 502)]
        {
            let breaks = FakeUpstream::start(|exchange| {
                exchange.read_body();
                Then::Close
            });
            let ok = good();
            let keys = format!("retry_body_max = \"{limit}\"");
            let server = start(driver, &[breaks.address, ok.address], &keys);
            let body = "x".repeat(size);
            let statuses: Vec<u16> =
                (0..2).map(|_| server.connect().ask(request("PUT", "/", &[], &body)).status).collect();
            assert!(statuses.contains(&200), "{driver:?} {limit} {size}: {statuses:?}");
            assert_eq!(statuses.contains(&502), expect == 502, "{driver:?} {limit} {size}: {statuses:?}");
        }
    });
}

#[test]
fn the_budget_ends_a_storm_and_says_so() {
    with_both_drivers(|driver| {
        let tries = Arc::new(AtomicUsize::new(0));
        let fails = |tries: &Arc<AtomicUsize>| {
            let tries = tries.clone();
            FakeUpstream::start(move |exchange| {
                tries.fetch_add(1, Ordering::SeqCst);
                exchange.read_body();
                Then::Close
            })
        };
        let servers = [fails(&tries), fails(&tries)];
        let addresses = servers.each_ref().map(|server| server.address);
        let server = start(driver, &addresses, "retry_budget = \"10%\"\ntries = 2");
        let mut client = server.connect();
        const REQUESTS: usize = 400;
        for _ in 0..REQUESTS {
            assert_eq!(client.ask(get("/")).status, 502);
        }
        let again = tries.load(Ordering::SeqCst) - REQUESTS;
        assert!((100..=100 + REQUESTS / 10).contains(&again), "{driver:?}: {again} tried again");
        assert!(server.metric("one_server_upstream_retries_refused_total", "") >= (REQUESTS - again) as f64 * 0.9);
    });
}

#[test]
fn the_time_for_all_tries_is_limited() {
    with_both_drivers(|driver| {
        // Each answers after a while, too late.
        let slow = || {
            FakeUpstream::start(|exchange| {
                exchange.wait_for_close();
                Then::Close
            })
        };
        let servers = [slow(), slow(), slow(), slow()];
        let addresses = servers.each_ref().map(|server| server.address);
        let keys = "response_timeout = \"400ms\"\nretry_on = [\"timeout\"]\nretry_time_max = \"700ms\"\ntries = 4";
        let server = start(driver, &addresses, keys);
        let begun = Instant::now();
        assert_eq!(server.connect().ask(get("/")).status, 504);
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(700) && took < Duration::from_secs(3), "{driver:?} {took:?}");
        let asked: usize = servers.iter().map(|server| server.seen().len()).sum();
        assert_eq!(asked, 2, "{driver:?}: the third would begin too late");
    });
}
