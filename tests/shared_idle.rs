//! Idle connections to servers belong to the process, not to a data worker: more workers must not mean more connections
//! (nginx/nginx#1436, and Cloudflare's stated reason for Pingora).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::upstream::Then;
use support::*;

fn start(driver: Driver, upstream: &FakeUpstream, workers: usize, keys: &str) -> Server {
    let text = format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{}\"\nhealth = false\nkeep_idle_timeout = \"30s\"\n{keys}\n",
        upstream.address
    );
    let site = Site::new(driver, &text);
    site.workers(workers).start()
}

/// How many workers have answered, by their counters.
fn busy_workers(server: &Server) -> usize {
    let text = server.admin("/metrics");
    let lines = text.lines().filter(|line| line.starts_with("one_server_http_connections_accepted_total"));
    lines.filter(|line| !line.ends_with(" 0")).count()
}

/// Requests of many clients, one after the other, each on a connection of its own: the kernel spreads them over the workers.
#[test]
fn one_connection_serves_the_requests_of_all_workers() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("hello"));
        // A worker keeps none for itself alone.
        let server = start(driver, &upstream, 2, "keep_idle = 1");
        for n in 0..60 {
            assert_eq!(server.connect().ask(get("/")).text(), "hello", "{driver:?} {n}");
        }
        assert_eq!(busy_workers(&server), 2, "{driver:?}: both have answered");
        // Each may have had one of its own; without sharing that is all that is allowed, too.
        assert!(upstream.connections() <= 2, "{driver:?}: {} connections", upstream.connections());
    });
}

/// The same load on 1, 2, 4 and 8 workers: bursts of requests that are under way together.
#[test]
fn more_workers_do_not_open_more_connections() {
    with_both_drivers(|driver| {
        let opened = |workers: usize| {
            let gate = Arc::new(AtomicBool::new(true));
            let upstream = FakeUpstream::start({
                let gate = gate.clone();
                move |exchange| {
                    exchange.read_body();
                    while !gate.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    Then::Keep
                }
            });
            let server = start(driver, &upstream, workers, "keep_idle = 100");
            for _ in 0..12 {
                // 40 at once, from clients that are new each time: which worker gets how many is chance.
                gate.store(false, Ordering::SeqCst);
                let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
                let before = upstream.seen().len();
                Client::send_all(&mut clients, &get("/"));
                eventually("all are under way", || upstream.seen().len() == before + 40);
                gate.store(true, Ordering::SeqCst);
                clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200));
            }
            upstream.connections()
        };
        let [one, two, four, eight] = [1, 2, 4, 8].map(opened);
        assert!((40..=42).contains(&one), "{driver:?}: {one}");
        let most = one as f64 * 1.2;
        let is_kept = [two, four, eight].iter().all(|&many| many as f64 <= most);
        assert!(is_kept, "{driver:?}: {one} with one worker, {two} with two, {four} with four, {eight} with eight");
    });
}

#[test]
fn one_that_was_closed_or_is_too_old_is_not_used() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.ok("hello");
            Then::Close
        });
        let server = start(driver, &upstream, 2, "keep_idle = 1");
        for n in 0..30 {
            assert_eq!(server.connect().ask(request("POST", "/", &[], "x")).status, 200, "{driver:?} {n}");
            // Its end must have come here.
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}
