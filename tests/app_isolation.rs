//! Applications inside the process beside each other, mounted by host and path: one that blocks or computes on threads of its own,
//! or that has as many requests as it may, leaves the others, and the files, alone. `examples/probe_app` is all of them.

mod support;

use std::time::{Duration, Instant};

use support::client::timed;
use support::*;

const SITE: &str = "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\napp = \"probe\"\n\
                    [[site.main.route]]\npath = \"/b/\"\napp = \"blocks\"\n\
                    [[site.main.route]]\npath = \"/files/\"\nfiles = \"$DIR/root\"\n\
                    [app.probe]\n[app.blocks]\nprogram = \"probe\"\n";

/// `keys` are those of `[app.blocks]`.
fn site(driver: Driver, keys: &str) -> Site {
    Site::probe(driver, &format!("{SITE}{keys}\n")).file("root/files/page.txt", b"page")
}

fn app(server: &Server, app: &str, name: &str) -> f64 {
    server.metric(&format!("one_server_app_{name}"), &format!("app=\"{app}\""))
}

/// Requests that were sent to a thread of `blocks`, or run on one.
fn on_threads(server: &Server, name: &str) -> f64 {
    server.metric(&format!("one_server_app_worker_{name}"), "app=\"blocks\"")
}

/// Of many requests one after the other, the time within which half of them are answered, and 99 of 100.
fn times(client: &mut Client, path: &str, expected: &str) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..400)
        .map(|_| {
            let (answer, took) = timed(|| client.ask(get(path)));
            assert_eq!(answer.text(), expected, "{path}");
            took
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
fn an_application_that_blocks_does_not_move_the_others() {
    const HELD_MS: u64 = 20_000;
    with_both_drivers(|driver| {
        let keeps = "keep_alive_requests_max = 0";
        let server = site(driver, "threads = 4").one_worker().http(keeps).start();
        let mut client = server.connect();
        let paths = [("/files/page.txt", "page"), ("/size", "0 bytes")];
        let before = paths.map(|(path, text)| times(&mut client, path, text));
        let mut held: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        for (index, client) in held.iter_mut().enumerate() {
            let how = if index % 2 == 0 { "spin" } else { "block" };
            client.send(get(&format!("/b/{how}?ms={HELD_MS}")));
        }
        let begun = Instant::now();
        eventually("all threads are held up", || on_threads(&server, "running") == 4.0);
        for ((path, text), before) in paths.into_iter().zip(before) {
            // Two threads that compute share two cores with the workers, and with whatever else runs on this machine: of
            // several looks the best.
            let (median, p99) = (before.0 * 4 + Duration::from_millis(2), before.1 * 4 + Duration::from_millis(30));
            let looks: Vec<_> = (0..3).map(|_| times(&mut client, path, text)).collect();
            let is_well = looks.iter().any(|now| now.0 < median && now.1 < p99);
            assert!(is_well, "{driver:?} {path}: {before:?} before, {looks:?} beside it");
        }
        assert!(begun.elapsed() < Duration::from_millis(HELD_MS), "{driver:?}: measured while it lasted");
        assert_eq!(on_threads(&server, "running"), 4.0, "{driver:?}");
    });
}

/// What the test above would see if the handlers ran on the application worker.
#[test]
fn without_threads_of_its_own_it_does() {
    for how in ["block", "spin"] {
        let server = site(Driver::Auto, "").one_worker().start();
        let mut held = server.connect();
        held.send(get(&format!("/b/{how}?ms=3000")));
        eventually("it runs", || server.metric("one_server_app_worker_requests_total", "") == 1.0);
        let (answer, took) = timed(|| server.connect().ask(get("/size")));
        assert_eq!(answer.text(), "0 bytes");
        // More than the test above allows anybody.
        assert!(took > Duration::from_millis(700), "{how}: {took:?}");
    }
}

#[test]
fn a_request_waits_for_a_thread_only_while_all_are_busy() {
    with_both_drivers(|driver| {
        let server = site(driver, "threads = 2\nqueue_timeout = \"60s\"").start();
        let mut first = server.connect();
        first.send(get("/b/spin?ms=3000"));
        eventually("it computes", || on_threads(&server, "running") == 1.0);
        let begun = Instant::now();
        let mut client = server.connect();
        let mut threads: Vec<String> = (0..40).map(|_| client.ask(get("/b/count")).text()).collect();
        assert!(begun.elapsed() < Duration::from_millis(2500), "{driver:?}: {:?}", begun.elapsed());
        threads.iter_mut().for_each(|text| *text = text.split_once(" on ").expect("a thread").1.to_owned());
        threads.dedup();
        assert_eq!(threads.len(), 1, "{driver:?}: all ran on the other one: {threads:?}");
        // Both are busy: what comes now waits, and runs as soon as one is free.
        let mut second = server.connect();
        second.send(get("/b/block?ms=60000"));
        eventually("both are busy", || on_threads(&server, "running") == 2.0);
        let mut waits = server.connect();
        waits.send(get("/b/size"));
        eventually("it waits", || app(&server, "blocks", "queue_depth") == 1.0);
        assert_eq!(first.response("GET").text(), "spun", "{driver:?}");
        assert_eq!(waits.response("GET").text(), "0 bytes", "{driver:?}");
        eventually("nobody waits", || app(&server, "blocks", "queue_depth") == 0.0);
        let threads: Vec<_> = server.status()["workers"].as_array().expect("a list").clone();
        let own = threads.iter().filter(|worker| worker["app"] == "blocks" && worker["core"].is_null()).count();
        assert_eq!(own, 2, "{driver:?}: {threads:?}");
    });
}

/// Nice values of the threads whose names begin so (proc_pid_stat(5), field 19).
fn nice_of(server: &Server, name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")).ok());
    let nice = stats.filter_map(|stat| {
        let (start, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        let is_it = start.split_once('(').expect("a name in brackets").1.starts_with(name);
        // The third field comes behind the name.
        is_it.then(|| rest.split(' ').nth(19 - 3).expect("a field").parse().expect("a number"))
    });
    let mut nice: Vec<i32> = nice.collect();
    nice.sort_unstable();
    nice
}

#[test]
fn its_threads_stand_behind_the_workers() {
    let server = site(Driver::Auto, "threads = 2").one_worker().process("app_cores = \"0\"").start();
    // As it was started itself.
    let workers = nice_of(&server, "data-");
    let behind = (workers[0] + 5).min(19);
    assert_eq!((workers.len(), nice_of(&server, "app-")), (1, vec![workers[0], behind, behind]));
}

#[test]
fn its_queue_is_its_own_and_has_an_end() {
    with_both_drivers(|driver| {
        let keys = "threads = 1\nqueue_max = 2\nqueue_timeout = \"60s\"";
        let server = site(driver, keys).one_worker().start();
        let mut runs = server.connect();
        runs.send(get("/b/block?ms=2500"));
        eventually("it runs", || on_threads(&server, "running") == 1.0);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/b/size"));
        eventually("the queue is full", || app(&server, "blocks", "queue_depth") == 2.0);
        // Those who wait are in nobody else's way.
        for _ in 0..20 {
            let (answer, took) = timed(|| server.connect().ask(get("/size")));
            assert_eq!(answer.text(), "0 bytes", "{driver:?}");
            assert!(took < Duration::from_secs(1), "{driver:?}: {took:?}");
        }
        let answers: Vec<Response> = clients.iter_mut().map(|client| client.response("GET")).collect();
        let refused: Vec<&Response> = answers.iter().filter(|answer| answer.status == 503).collect();
        assert_eq!(refused.len(), 6, "{driver:?}");
        assert!(refused.iter().all(|answer| answer.field("retry-after").is_some()), "{driver:?}");
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2, "{driver:?}");
        assert_eq!((app(&server, "blocks", "refused_total"), app(&server, "probe", "refused_total")), (6.0, 0.0));
        assert_eq!(runs.response("GET").text(), "blocked", "{driver:?}");
        assert_eq!(clients[0].ask(get("/b/size")).status, 200, "{driver:?}: it has recovered");
    });
}

#[test]
fn panics_failures_and_clients_that_leave_are_as_on_a_worker() {
    with_both_drivers(|driver| {
        let server = site(driver, "threads = 2\ntries = 1\nresponse_timeout = \"3s\"").one_worker().start();
        let mut client = server.connect();
        for _ in 0..3 {
            assert_eq!(client.ask(get("/b/panic")).status, 500, "{driver:?}");
        }
        assert_eq!((on_threads(&server, "panics_total"), on_threads(&server, "restarts_total")), (3.0, 0.0));
        // One thread fails, and the other one does not notice.
        let mut beside = server.connect();
        beside.send(get("/b/slow?ms=500"));
        eventually("it runs", || on_threads(&server, "running") == 1.0);
        assert_eq!(client.ask(get("/b/fail")).status, 502, "{driver:?}");
        assert_eq!(beside.response("GET").text(), "slow", "{driver:?}");
        eventually("it has started again", || on_threads(&server, "restarts_total") == 1.0);
        for _ in 0..20 {
            assert_eq!(client.ask(get("/b/size")).status, 200, "{driver:?}");
        }
        // Too late, but the thread is only free when the handler is done.
        assert_eq!(client.ask(get("/b/block?ms=4500")).status, 504, "{driver:?}");
        eventually("it is free", || on_threads(&server, "running") == 0.0);
        // Whoever has left is not served.
        let mut held: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        Client::send_all(&mut held, &get("/b/block?ms=800"));
        eventually("both are busy", || on_threads(&server, "running") == 2.0);
        let ran = on_threads(&server, "requests_total");
        let mut leaves = server.connect();
        leaves.send(get("/b/count"));
        eventually("it waits", || app(&server, "blocks", "queue_depth") == 1.0);
        drop(leaves);
        held.iter_mut().for_each(|client| drop(client.response("GET")));
        assert_eq!(client.ask(get("/b/size")).status, 200, "{driver:?}");
        eventually("it was not served", || app(&server, "blocks", "cancelled_total") == 1.0);
        assert_eq!(on_threads(&server, "requests_total") - ran, 1.0, "{driver:?}");
        assert_eq!(app(&server, "probe", "requests_total"), 0.0, "{driver:?}");
    });
}

#[test]
fn bodies_stream_through_threads_of_an_application() {
    const BYTES: usize = 20 << 20;
    with_both_drivers(|driver| {
        let server = site(driver, "threads = 1").http("body_max = 0").start();
        let mut client = server.connect();
        client.send(format!("POST /b/size HTTP/1.1\r\nHost: test\r\nContent-Length: {BYTES}\r\n\r\n"));
        let piece = vec![b'u'; 1 << 20];
        for _ in 0..BYTES >> 20 {
            client.send(&piece);
        }
        assert_eq!(client.response("POST").text(), format!("{BYTES} bytes"), "{driver:?}");
        client.send(request("GET", &format!("/b/large?bytes={BYTES}"), &["Connection: close"], ""));
        let received = std::io::copy(&mut client.stream, &mut std::io::sink()).expect("a download");
        assert!(received > BYTES as u64, "{driver:?}: {received}");
        // A client that is slow to take its answer holds the one thread, until it leaves.
        let mut slow = Client::with_small_window(server.web());
        slow.send(get(&format!("/b/large?bytes={BYTES}")));
        eventually("it is answered", || on_threads(&server, "running") == 1.0);
        let mut waits = server.connect();
        waits.send(get("/b/count"));
        eventually("it waits", || app(&server, "blocks", "queue_depth") == 1.0);
        drop(slow);
        assert!(waits.response("GET").text().starts_with("4 on "), "{driver:?}");
    });
}

#[test]
fn applications_by_host_and_path_have_limits_and_counts_of_their_own() {
    let text = "[site.one]\nhosts = \"one.test\"\n[[site.one.route]]\npath = \"/\"\napp = \"one\"\n\
                [[site.one.route]]\npath = \"/deep/\"\napp = \"two\"\n\
                [site.two]\nhosts = \"two.test\"\n[[site.two.route]]\npath = \"/\"\napp = \"two\"\n\
                [app.one]\nprogram = \"probe\"\nrequests_max = 2\nqueue_timeout = \"200ms\"\n\
                [app.two]\nprogram = \"probe\"\nresponse_timeout = \"400ms\"\n";
    let ask = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    with_both_drivers(|driver| {
        let server = Site::probe(driver, text).process("control = \"$DIR/ctl.sock\"").start();
        let mut client = server.connect();
        // Each has a state of its own, although the program is one.
        assert_eq!(client.ask(ask("one.test", "/info")).status, 200);
        assert!(client.ask(ask("two.test", "/count")).text().starts_with("1 on "), "{driver:?}");
        assert_eq!(client.ask(ask("one.test", "/deep/slow?ms=5000")).status, 504, "{driver:?}: the time of `two`");
        let mut held: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        Client::send_all(&mut held, &ask("one.test", "/slow?ms=1500"));
        eventually("they run", || app(&server, "one", "requests_active") == 2.0);
        let answer = client.ask(ask("one.test", "/size"));
        assert_eq!((answer.status, answer.field("retry-after").is_some()), (503, true), "{driver:?}");
        assert_eq!(client.ask(ask("two.test", "/size")).status, 200, "{driver:?}: it has a limit of its own");
        assert_eq!(client.ask(ask("one.test", "/deep/size")).status, 200, "{driver:?}");
        held.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "slow", "{driver:?}"));
        assert_eq!(client.ask(ask("one.test", "/size")).status, 200, "{driver:?}: there is room again");
        let counts = ["requests_total", "refused_total", "failed_total", "requests_active"];
        assert_eq!(counts.map(|name| app(&server, "one", name)), [5.0, 1.0, 0.0, 0.0], "{driver:?}");
        assert_eq!(counts.map(|name| app(&server, "two", name)), [4.0, 0.0, 1.0, 0.0], "{driver:?}");
        // A limit may change while the process runs; threads may not.
        let told = server.reload_with(&[("requests_max = 2", "requests_max = 1\nthreads = 2")]);
        assert!(told.contains("`threads` in [app.one]"), "{driver:?}: {told}");
        let mut holds = server.connect();
        holds.send(ask("one.test", "/slow?ms=1500"));
        eventually("it runs", || app(&server, "one", "requests_active") == 1.0);
        assert_eq!(server.connect().ask(ask("one.test", "/size")).status, 503, "{driver:?}");
    });
}
