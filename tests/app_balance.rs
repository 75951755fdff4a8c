//! Applications inside the process as upstreams: their workers are chosen, drained, tried again, ejected, limited and counted as
//! servers behind sockets are. `examples/probe_app`, whose path `count` tells which worker has answered.

mod support;

use std::time::{Duration, Instant};

use support::client::timed;
use support::*;

/// `keys` are those of `[app.probe]`. One data worker and two application workers, unless it is told otherwise.
fn site(driver: Driver, keys: &str) -> Site {
    let text =
        format!("[site.main]\ndefault = true\nroute = [{{ path = \"/\", app = \"probe\" }}]\n[app.probe]\n{keys}\n");
    Site::probe(driver, &text).process("control = \"$DIR/ctl.sock\"")
}

fn two_on_one(driver: Driver, keys: &str) -> Server {
    site(driver, keys).one_worker().process("app_cores = \"0,1\"").start()
}

/// Which worker answers `path`.
fn worker(client: &mut Client, path: &str) -> usize {
    worker_of(&client.ask(get(path)))
}

fn worker_of(answer: &Response) -> usize {
    let text = answer.text();
    let (_, worker) = text.split_once(" on ").unwrap_or_else(|| panic!("{}: {text}", answer.status));
    worker.parse().expect("a number")
}

fn of_worker(server: &Server, worker: usize, name: &str) -> f64 {
    let label = format!("server=\"app:probe/{worker}\"");
    server.metric(&format!("one_server_upstream_{name}"), &label)
}

fn app(server: &Server, name: &str) -> f64 {
    server.metric(&format!("one_server_app_{name}"), "")
}

/// What is known of a worker as a server.
fn seen(server: &Server, worker: usize) -> serde_json::Value {
    let status = server.status();
    let upstreams = status["upstreams"].as_array().expect("a list");
    let upstream = upstreams.iter().find(|upstream| upstream["name"] == "app:probe").expect("the application");
    upstream["servers"][worker].clone()
}

#[test]
fn the_worker_beside_the_data_worker_is_the_default_and_others_can_be_chosen() {
    with_both_drivers(|driver| {
        let server = two_on_one(driver, "");
        let mut client = server.connect();
        let workers: Vec<usize> = (0..10).map(|_| worker(&mut client, "/count")).collect();
        assert_eq!(workers, [0; 10], "{driver:?}");
        let server = two_on_one(driver, "balance = \"round-robin\"");
        let mut client = server.connect();
        let workers: Vec<usize> = (0..10).map(|_| worker(&mut client, "/count")).collect();
        assert!(
            [[0, 1], [1, 0]].iter().any(|turn| workers.chunks(2).all(|pair| pair == turn)),
            "{driver:?}: {workers:?}"
        );
        assert_eq!([0, 1].map(|worker| of_worker(&server, worker, "requests_total")), [5.0; 2], "{driver:?}");
        assert_eq!(
            [0, 1].map(|worker| of_worker(&server, worker, "first_byte_duration_seconds_count")),
            [5.0; 2],
            "{driver:?}"
        );
        assert_eq!((app(&server, "requests_total"), app(&server, "refused_total")), (10.0, 0.0), "{driver:?}");
        let told = server.ctl_ok(&["show"]);
        assert!(told.contains("upstream app:probe (round-robin)") && told.contains("app:probe/1"), "{told}");
    });
}

#[test]
fn the_least_busy_one_is_found() {
    with_both_drivers(|driver| {
        let server = two_on_one(driver, "balance = \"least-conn\"");
        let mut holds = server.connect();
        holds.send(get("/slow?ms=3000"));
        eventually("it runs", || {
            of_worker(&server, 0, "requests_active") + of_worker(&server, 1, "requests_active") == 1.0
        });
        let busy = usize::from(of_worker(&server, 1, "requests_active") == 1.0);
        let mut client = server.connect();
        let workers: Vec<usize> = (0..10).map(|_| worker(&mut client, "/count")).collect();
        assert_eq!(workers, [1 - busy; 10], "{driver:?}");
        assert_eq!(holds.response("GET").text(), "slow", "{driver:?}");
    });
}

/// Holds up this worker, which is in front of the requests of the data worker, or gets them because that one is full.
fn held_up(server: &Server, worker: usize) -> Client {
    let running = || server.metric("one_server_app_worker_running", &format!("worker=\"{worker}\""));
    let mut client = server.connect();
    client.send(get("/block?ms=2800"));
    eventually("it is held up", || running() == 1.0);
    client
}

/// Clients that ask for `/count`, of which so many wait in front of each worker then, with the one that it runs.
fn waiting(server: &Server, count: usize, under_way: [usize; 2]) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    Client::send_all(&mut clients, &get("/count"));
    let active = || [0, 1].map(|worker| of_worker(server, worker, "requests_active") as usize);
    eventually("they have come", || active().iter().sum::<usize>() == under_way.iter().sum::<usize>());
    assert_eq!(active(), under_way);
    clients
}

#[test]
fn a_full_queue_sends_requests_to_another_worker_at_once() {
    with_both_drivers(|driver| {
        let limits = "app_cores = \"0,1\"\napp_concurrency = 1\napp_queue = 2\napp_queue_timeout = \"60s\"";
        let server = site(driver, "").one_worker().process(limits).start();
        let begun = Instant::now();
        let mut held = held_up(&server, 0);
        let mut clients = waiting(&server, 2, [3, 0]);
        for _ in 0..10 {
            assert_eq!(worker(&mut server.connect(), "/count"), 1, "{driver:?}");
        }
        assert!(begun.elapsed() < Duration::from_millis(2800), "{driver:?}: while it lasted");
        assert_eq!(held.response("GET").text(), "blocked", "{driver:?}");
        clients.iter_mut().for_each(|client| assert_eq!(worker_of(&client.response("GET")), 0, "{driver:?}"));
        assert_eq!(app(&server, "refused_total"), 0.0, "{driver:?}");
    });
}

#[test]
fn many_that_wait_at_one_worker_send_others_to_one_with_less_than_half() {
    with_both_drivers(|driver| {
        let limits = "app_cores = \"0,1\"\napp_concurrency = 1\napp_queue = 1000";
        let server = site(driver, "").one_worker().process(limits).start();
        let begun = Instant::now();
        let mut clients = vec![held_up(&server, 0)];
        clients.extend(waiting(&server, 32, [33, 0]));
        assert_eq!(worker(&mut server.connect(), "/count"), 1, "{driver:?}: 32 wait at the near one");
        clients.push(held_up(&server, 1));
        clients.extend(waiting(&server, 16, [33, 17]));
        clients.extend(waiting(&server, 1, [34, 17]));
        clients.extend(waiting(&server, 1, [34, 18]));
        assert!(begun.elapsed() < Duration::from_millis(2800), "{driver:?}: while it lasted");
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200, "{driver:?}"));
    });
}

#[test]
fn a_key_stays_with_its_worker_whoever_asks() {
    with_both_drivers(|driver| {
        let server = site(driver, "hash = \"$arg_id\"").workers(2).start();
        let of = |id: usize| worker(&mut server.connect(), &format!("/count?id={id}"));
        let first: Vec<usize> = (0..16).map(of).collect();
        for _ in 0..3 {
            assert_eq!((0..16).map(of).collect::<Vec<_>>(), first, "{driver:?}");
        }
        let ones = first.iter().filter(|worker| **worker == 1).count();
        assert!((1..16).contains(&ones), "{driver:?}: {first:?}");
    });
}

#[test]
fn a_cookie_leads_back_to_a_worker() {
    with_both_drivers(|driver| {
        let keys = "balance = \"round-robin\"\nsticky = { cookie = \"srv\", secret = \"one of sixteen b\" }";
        let server = two_on_one(driver, keys);
        let mut client = server.connect();
        for _ in 0..2 {
            let answer = client.ask(get("/count"));
            let (first, cookie) = (worker_of(&answer), answer.field("set-cookie").expect("a cookie").to_owned());
            let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a value"));
            for _ in 0..5 {
                let answer = client.ask(request("GET", "/count", &[&cookie], ""));
                assert_eq!((worker_of(&answer), answer.field("set-cookie")), (first, None), "{driver:?}");
            }
            // The next one without a cookie comes to the other worker.
        }
        assert_eq!([0, 1].map(|worker| of_worker(&server, worker, "requests_total")), [6.0; 2], "{driver:?}");
    });
}

#[test]
fn a_worker_that_is_drained_finishes_what_it_has() {
    with_both_drivers(|driver| {
        let server = two_on_one(driver, "");
        let mut holds = server.connect();
        holds.send(get("/slow?ms=1500"));
        eventually("it runs", || of_worker(&server, 0, "requests_active") == 1.0);
        let id = "app:probe/app:probe/0";
        assert_eq!(server.ctl_ok(&["server", id, "drain"]), format!("{id} is drain, was ready\n"), "{driver:?}");
        let mut client = server.connect();
        let workers: Vec<usize> = (0..5).map(|_| worker(&mut client, "/count")).collect();
        assert_eq!(workers, [1; 5], "{driver:?}");
        assert_eq!(holds.response("GET").text(), "slow", "{driver:?}");
        assert_eq!(of_worker(&server, 0, "requests_total"), 1.0, "{driver:?}");
        server.ctl_ok(&["server", id, "ready"]);
        assert_eq!(worker(&mut client, "/count"), 0, "{driver:?}");
        // Workers are what they are.
        let refused = server.ctl_fails(&["add", "app:probe/127.0.0.1:1"]);
        assert!(refused.contains("the workers of this process that run it"), "{refused}");
    });
}

/// Worker 0 is held up, with `waiting` behind a request that makes it fail.
fn fails_before(server: &Server, waiting: &[String]) -> Vec<Client> {
    let mut blocks = server.connect();
    blocks.send(get("/block?ms=700"));
    eventually("it is held up", || of_worker(server, 0, "requests_active") == 1.0);
    let mut clients: Vec<Client> = Vec::new();
    for text in [post("/fail", "x")].iter().chain(waiting) {
        let before = of_worker(server, 0, "requests_active");
        let mut client = server.connect();
        client.send(text);
        eventually("it waits", || of_worker(server, 0, "requests_active") > before);
        clients.push(client);
    }
    assert_eq!(blocks.response("GET").text(), "blocked");
    assert_eq!(clients.remove(0).response("POST").status, 502, "it may not be repeated");
    clients
}

#[test]
fn what_a_worker_had_not_begun_goes_to_another_one() {
    with_both_drivers(|driver| {
        let site = site(driver, "").one_worker().process("app_cores = \"0,1\"\napp_concurrency = 1");
        let server = site.start();
        let mut clients = fails_before(&server, &[post("/count", "x"), get("/count")]);
        for (client, method) in clients.iter_mut().zip(["POST", "GET"]) {
            assert_eq!(worker_of(&client.response(method)), 1, "{driver:?} {method}");
        }
        assert_eq!(of_worker(&server, 0, "retries_total"), 2.0, "{driver:?}");
        eventually("it serves again", || worker(&mut server.connect(), "/count") == 0);
        assert_eq!(app(&server, "failed_total"), 1.0, "{driver:?}");
    });
}

#[test]
fn what_waits_at_a_worker_that_fails_does_not_wait_for_what_blocks_there() {
    with_both_drivers(|driver| {
        let server = site(driver, "").one_worker().process("app_cores = \"0,1\"\napp_concurrency = 1").start();
        assert_eq!(worker(&mut server.connect(), "/count"), 0, "{driver:?}");
        assert_eq!(server.connect().ask(get("/detach?ms=8000")).text(), "detached", "{driver:?}");
        let begun = Instant::now();
        let mut clients = fails_before(&server, &[post("/count", "x"), get("/count")]);
        for (client, method) in clients.iter_mut().zip(["POST", "GET"]) {
            assert_eq!(worker_of(&client.response(method)), 1, "{driver:?} {method}");
        }
        // Nor do those that come when it is on its way.
        for _ in 0..30 {
            worker_of(&server.connect().ask(get("/count")));
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", begun.elapsed());
    });
}

#[test]
fn what_it_had_begun_is_repeated_only_where_that_is_safe() {
    with_both_drivers(|driver| {
        let server = two_on_one(driver, "");
        let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        clients[0].send(get("/slow?ms=1000"));
        clients[1].send(post("/slow?ms=1000", "x"));
        eventually("both run", || of_worker(&server, 0, "requests_active") == 2.0);
        assert_eq!(server.connect().ask(post("/fail", "x")).status, 502, "{driver:?}");
        assert_eq!(clients[1].response("POST").status, 502, "{driver:?}");
        assert_eq!(clients[0].response("GET").text(), "slow", "{driver:?}");
        assert_eq!([0, 1].map(|worker| of_worker(&server, worker, "requests_total")), [3.0, 1.0], "{driver:?}");
    });
}

#[test]
fn a_worker_whose_answers_are_errors_is_ejected() {
    with_both_drivers(|driver| {
        let server = two_on_one(driver, "outliers = { consecutive = 3, ejection_time = \"60s\", max_ejected = 50 }");
        let mut client = server.connect();
        for _ in 0..3 {
            assert_eq!(client.ask(get("/status?code=500")).status, 500, "{driver:?}");
        }
        eventually("it is ejected", || worker(&mut client, "/count") == 1);
        assert_eq!(of_worker(&server, 0, "responses_total"), of_worker(&server, 0, "requests_total"), "{driver:?}");
        assert_eq!((of_worker(&server, 0, "server_ejected"), of_worker(&server, 1, "server_ejected")), (1.0, 0.0));
    });
}

#[test]
fn statuses_are_tried_elsewhere_where_that_is_wanted() {
    let server = two_on_one(Driver::Auto, "retry_on = [\"error\", \"503\"]");
    assert_eq!(server.connect().ask(get("/status?code=503")).status, 503);
    assert_eq!([0, 1].map(|worker| of_worker(&server, worker, "requests_total")), [1.0; 2]);
}

#[test]
fn a_place_is_passed_on_between_data_workers_at_once() {
    const CLIENTS: usize = 8;
    const EACH: usize = 12;
    with_both_drivers(|driver| {
        let server = site(driver, "requests_max = 1\nqueue_timeout = \"60s\"").workers(2).start();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    // A connection for each, so that both data workers have some.
                    for _ in 0..EACH {
                        assert_eq!(server.connect().ask(get("/slow?ms=5")).text(), "slow");
                    }
                });
            }
        });
        let took = begun.elapsed();
        let requests =
            |worker: usize| server.metric("one_server_http_responses_total", &format!("worker=\"{worker}\""));
        println!("{driver:?}: {took:?}, by data worker {} and {}", requests(0), requests(1));
        // With a look every 100 ms, each change from one data worker to the other would have cost half of that.
        let most = Duration::from_millis((CLIENTS * EACH) as u64 * 30);
        assert!(took < most, "{driver:?}: {took:?}");
        assert_eq!((app(&server, "requests_total"), app(&server, "refused_total")), ((CLIENTS * EACH) as f64, 0.0));
        let waits = server.metric("one_server_upstream_queue_wait_duration_seconds_count", "upstream=\"app:probe\"");
        assert!(waits > 0.0, "{driver:?}");
    });
}

#[test]
fn a_worker_that_does_not_move_is_down_until_it_does() {
    let server = two_on_one(Driver::Auto, "");
    let mut blocks = server.connect();
    blocks.send(get("/block?ms=9000"));
    eventually("it is held up", || of_worker(&server, 0, "requests_active") == 1.0);
    let begun = Instant::now();
    eventually("it is down", || of_worker(&server, 0, "server_up") == 0.0);
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}: not at once", begun.elapsed());
    assert!(seen(&server, 0).to_string().contains("has not moved"), "{}", seen(&server, 0));
    let (answer, took) = timed(|| server.connect().ask(get("/count")));
    assert_eq!(worker_of(&answer), 1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(blocks.response("GET").text(), "blocked", "it was never lost");
    eventually("it is up", || of_worker(&server, 0, "server_up") == 1.0);
    assert_eq!(worker(&mut server.connect(), "/count"), 0);
}

#[test]
fn threads_of_an_application_are_one_server() {
    with_both_drivers(|driver| {
        let server = site(driver, "threads = 2\nqueue_max = 1\nqueue_timeout = \"60s\"").workers(2).start();
        let of_threads =
            |name: &str| server.metric(&format!("one_server_upstream_{name}"), "server=\"app:probe/threads\"");
        let mut held: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        Client::send_all(&mut held, &get("/block?ms=1200"));
        eventually("both are busy", || of_threads("requests_active") == 2.0);
        let mut waits = server.connect();
        waits.send(get("/size"));
        let queued = || server.metric("one_server_upstream_queue_requests", "upstream=\"app:probe\"");
        eventually("it waits", || queued() == 1.0);
        let answer = server.connect().ask(get("/size"));
        assert_eq!(
            (answer.status, answer.field("retry-after").is_some()),
            (503, true),
            "{driver:?}: the queue is full"
        );
        assert_eq!(waits.response("GET").text(), "0 bytes", "{driver:?}");
        held.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "blocked", "{driver:?}"));
        assert_eq!(
            (of_threads("requests_total"), of_threads("requests_active"), queued()),
            (3.0, 0.0, 0.0),
            "{driver:?}"
        );
    });
}

#[test]
fn copies_of_requests_go_to_another_upstream() {
    let text = "[site.main]\ndefault = true\nroute = [{ path = \"/\", app = \"probe\", mirror = \"shadow\" }]\n[app.probe]\n\
                [upstream.shadow]\nservers = [\"127.0.0.1:1\"]\nhealth = false\n";
    let server = Site::probe(Driver::Auto, text).start();
    assert_eq!(server.connect().ask(post("/size", "four")).text(), "4 bytes");
    eventually("it was tried", || server.metric("one_server_upstream_mirrored_total", "upstream=\"shadow\"") == 1.0);
}
