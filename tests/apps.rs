//! In-process applications that misbehave, are overloaded, or stream: `examples/probe_app` run as a process.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::client::{NoResponse, timed};
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\napp = \"probe\"\n[app.probe]\n\
                    [[site.main.route]]\npath = \"/fixed\"\nrespond = { body = \"fixed\" }\n";

fn app_worker(server: &Server, name: &str) -> f64 {
    server.metric(&format!("one_server_app_worker_{name}"), "")
}

fn app(server: &Server, name: &str) -> f64 {
    server.metric(&format!("one_server_app_{name}"), "")
}

#[test]
fn an_application_sees_the_request_as_it_was() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        let mut client = server.connect();
        let fields = ["X-One: 1", "X-Two: a", "X-Two: b", "Cookie: c=1"];
        let text = client.ask(request("PATCH", "/a%20b/info?q=1&r=%2F", &fields, "")).text();
        let local = client.stream.local_addr().expect("an address");
        for line in [
            "method PATCH".to_owned(),
            "uri /a%20b/info?q=1&r=%2F".into(),
            "version HTTP/1.1".into(),
            format!("client Some({local})"),
            "field host: test".into(),
            "field x-one: 1".into(),
            "field x-two: a".into(),
            "field x-two: b".into(),
            "field cookie: c=1".into(),
        ] {
            assert!(text.lines().any(|known| known == line), "{driver:?} {line}:\n{text}");
        }
        let id = |text: &str| text.lines().find(|line| line.starts_with("id ")).map(str::to_owned);
        assert!(id(&text).is_some_and(|id| id.len() == 19));
        assert_ne!(id(&text), id(&client.ask(get("/info")).text()), "{driver:?}");
        // The state of a service lives on its worker.
        let first = client.ask(get("/count")).text();
        let second = client.ask(get("/count")).text();
        let split =
            |text: &str| text.split_once(" on ").map(|(n, w)| (n.parse::<u64>().expect("a number"), w.to_owned()));
        let ((a, worker_a), (b, worker_b)) = (split(&first).expect("text"), split(&second).expect("text"));
        assert!(worker_a != worker_b || b == a + 1, "{driver:?}: {first}, {second}");
    });
}

#[test]
fn each_application_core_has_a_worker_on_the_driver_of_the_server() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).process("app_cores = \"0,1\"").start();
        let status = server.status();
        let of_role = |role: &str| {
            let workers = status["workers"].as_array().expect("a list").iter();
            let found: Vec<_> = workers.filter(|worker| worker["role"] == role).cloned().collect();
            assert!(!found.is_empty(), "no worker {role}: {status}");
            found
        };
        // Without io_uring in this kernel all of them have the other one.
        let expect = match driver {
            Driver::Epoll => "epoll".into(),
            _ => of_role("data")[0]["driver"].clone(),
        };
        let of_apps = of_role("app");
        let cores: Vec<_> = of_apps.iter().map(|worker| worker["core"].as_u64()).collect();
        assert_eq!(cores, [Some(0), Some(1)], "{driver:?}: {status}");
        assert!(of_apps.iter().all(|worker| worker["driver"] == expect), "{driver:?}, not {expect}: {status}");
    });
}

/// Answers of applications wake data workers all the time: on a ring that defers completions until they are asked for, a part of the
/// connections waited for up to 100 ms then, while others went on.
#[test]
fn data_workers_beside_applications_defer_no_completions() {
    for threads in ["", "threads = 1\n"] {
        let app = format!("[app.probe]\nprogram = \"probe\"\n{threads}");
        let server =
            Site::probe(Driver::Auto, &format!("{app}[site.main]\nroute = [{{ path = \"/\", app = \"probe\" }}]\n"))
                .start();
        let line = server.wait_for_line("a data worker", |line| line.contains("worker role=data index=0"));
        assert!(line.contains("flags=") && !line.contains("DEFER_TASKRUN"), "{threads}: {line}");
    }
}

#[test]
fn answers_of_an_application_are_framed_by_the_server() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        let mut client = server.connect();
        let response = client.ask(get("/framing"));
        assert_eq!(response.text(), "framed", "{driver:?}");
        assert_eq!(response.field("x-kept"), Some("yes"));
        assert_eq!(response.field("content-length"), Some("6"), "{driver:?}");
        for gone in ["transfer-encoding", "keep-alive", "upgrade"] {
            assert_eq!(response.field(gone), None, "{driver:?}");
        }
        let cookies = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count();
        assert_eq!(cookies, 2, "{driver:?}");
        let mut client = server.connect();
        let response = client.ask(get("/trailers"));
        assert_eq!((response.text().as_str(), response.field("x-trailer")), ("zzzzz", None), "{driver:?}");
        for (code, body) in [(200, "body"), (404, "body"), (599, "body"), (204, ""), (304, "")] {
            let response = client.ask(get(&format!("/status?code={code}")));
            assert_eq!((response.status, response.text().as_str()), (code, body), "{driver:?}");
        }
        let response = client.ask(request("HEAD", "/status?code=200", &[], ""));
        assert_eq!((response.status, response.field("content-length")), (200, Some("4")), "{driver:?}");
        assert_eq!(client.ask(request("HEAD", "/large?bytes=1000000", &[], "")).status, 200, "{driver:?}");
        assert_eq!(client.ask(get("/fixed")).text(), "fixed", "{driver:?}: at a message boundary");
    });
}

#[test]
fn a_wrong_content_length_never_looks_right() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        for path in ["/short", "/long"] {
            let mut client = server.connect();
            client.send(get(path)).send(get("/fixed"));
            match client.try_response("GET") {
                Err(NoResponse::Ended(..)) => {}
                // Put right: the length that was announced is the one that was sent.
                Ok(response) if response.text() == "zzzzz" => {}
                Ok(response) if response.status >= 500 => {}
                other => panic!("{driver:?} {path}: {other:?}"),
            }
        }
        assert_eq!(server.connect().ask(get("/fixed")).text(), "fixed", "{driver:?}");
    });
}

#[test]
fn a_part_of_what_is_announced_is_no_answer_although_it_comes_at_once() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        let mut client = server.connect();
        for path in ["/short-whole", "/long-whole", "/short-empty"] {
            assert_eq!(client.ask(get(path)).status, 500, "{driver:?} {path}");
        }
        // The length of what a GET would bring.
        let head = client.ask(request("HEAD", "/short-empty", &[], ""));
        assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "{driver:?}");
        assert_eq!(client.ask(get("/fixed")).text(), "fixed", "{driver:?}");
        let told = |line: &String| line.contains("application announces another length than its body has");
        eventually("it is told", || server.lines().iter().filter(|line| told(line)).count() == 3);
    });
}

#[test]
fn a_panic_is_500_and_the_worker_lives() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        let mut client = server.connect();
        // One that runs beside it must not notice.
        let mut beside = server.connect();
        beside.send(get("/slow?ms=300"));
        for path in ["/panic", "/error"] {
            for _ in 0..3 {
                let response = client.ask(get(path));
                assert_eq!(response.status, 500, "{driver:?} {path}");
                assert!(!response.text().contains("asked to"), "{driver:?}: details are for the log");
                assert_eq!(client.ask(get("/size")).text(), "0 bytes", "{driver:?}");
            }
        }
        assert_eq!(beside.response("GET").text(), "slow", "{driver:?}");
        assert_eq!(
            (app_worker(&server, "panics_total"), app_worker(&server, "restarts_total")),
            (3.0, 0.0),
            "{driver:?}"
        );
        for path in ["/panic-body", "/error-body"] {
            let mut client = server.connect();
            let result = client.send(get(path)).try_response("GET");
            assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?} {path}: {result:?}");
            assert_eq!(server.connect().ask(get("/size")).text(), "0 bytes", "{driver:?}");
        }
        assert_eq!(app_worker(&server, "restarts_total"), 0.0, "{driver:?}");
        assert!(server.lines().iter().any(|line| line.contains("asked for an error")), "{driver:?}: the log tells why");
        // A panic is a line as any other, which waits for no reader of the log.
        let is_panic =
            |line: &str| line.contains(" error panic: ") && line.contains("thread=app-") && line.contains(" at=");
        server.wait_for_line("where it was", is_panic);
    });
}

#[test]
fn a_worker_that_fails_answers_502_and_starts_again() {
    // Else what may be repeated would be.
    let once = SITE.replace("[app.probe]", "[app.probe]\ntries = 1");
    with_both_drivers(|driver| {
        let server = Site::probe(driver, &once).one_worker().start();
        assert_eq!(server.connect().ask(get("/count")).text(), "1 on 0", "{driver:?}");
        let mut in_flight: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        Client::send_all(&mut in_flight, &get("/slow?ms=60000"));
        eventually("three run", || app_worker(&server, "running") == 3.0);
        let mut streaming = server.connect();
        streaming.send(get("/trickle?ms=1000"));
        eventually("the stream begins", || streaming.fill().is_ok_and(|n| n > 0));
        assert_eq!(server.connect().ask(get("/fail")).status, 502, "{driver:?}");
        for mut client in in_flight {
            assert_eq!(client.response("GET").status, 502, "{driver:?}");
            assert_eq!(client.ask(get("/fixed")).text(), "fixed", "{driver:?}: the client's connection stays");
        }
        let result = streaming.try_response("GET");
        assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?}: {result:?}");
        let mut client = server.connect();
        assert_eq!(client.ask(get("/count")).text(), "1 on 0", "{driver:?}: a fresh service");
        assert_eq!(app_worker(&server, "restarts_total"), 1.0, "{driver:?}");
        assert_eq!(app(&server, "failed_total"), 4.0, "{driver:?}");
        assert_eq!(app_worker(&server, "lost_wakeups_total"), 0.0, "{driver:?}");
        eventually("nothing runs", || app_worker(&server, "running") == 0.0);
    });
}

#[test]
fn requests_wait_for_the_only_worker_to_start_again() {
    let once = SITE.replace("[app.probe]", "[app.probe]\ntries = 1");
    with_both_drivers(|driver| {
        let server = Site::probe(driver, &once).one_worker().start();
        let is_up = || server.metric("one_server_upstream_server_up", "app:probe") == 1.0;
        // The pause doubles each time.
        for times in 0..10 {
            assert_eq!(server.connect().ask(get("/fail")).status, 502, "{driver:?}: {times}");
        }
        eventually("it is known to be down", || !is_up());
        assert_eq!(server.connect().ask(get("/count")).text(), "1 on 0", "{driver:?}");
        assert!(server.lines().iter().any(|line| line.contains("wait for one that starts")), "{driver:?}");
        eventually("it is up", is_up);
    });
}

#[test]
fn an_overloaded_application_refuses_and_recovers_at_once() {
    with_both_drivers(|driver| {
        let limits = "app_queue = 2\napp_concurrency = 2\napp_queue_timeout = \"300ms\"";
        let server = Site::probe(driver, SITE).one_worker().process(limits).start();
        let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
        let begin = Instant::now();
        Client::send_all(&mut clients, &get("/slow?ms=1500"));
        let mut statuses = Vec::new();
        for client in &mut clients {
            let response = client.response("GET");
            if response.status == 503 {
                assert!(response.field("retry-after").is_some(), "{driver:?}");
            }
            statuses.push(response.status);
        }
        let served = statuses.iter().filter(|status| **status == 200).count();
        // Two run and two wait in the queue; that a mailbox rounds its size up a little is its own affair.
        assert!((4..=6).contains(&served), "{driver:?}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 12 - served, "{driver:?}: {statuses:?}");
        assert_eq!(app(&server, "refused_total"), (12 - served) as f64, "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(12), "{driver:?}");
        for client in &mut clients {
            assert_eq!(client.ask(get("/size")).status, 200, "{driver:?}: it has recovered");
        }
        // Other routes of the site were never in the queue.
        assert_eq!(server.connect().ask(get("/fixed")).text(), "fixed", "{driver:?}");
    });
}

#[test]
fn other_routes_answer_while_an_application_is_full() {
    with_both_drivers(|driver| {
        let limits = "app_queue = 2\napp_concurrency = 1\napp_queue_timeout = \"10s\"";
        let server = Site::probe(driver, SITE).process(limits).start();
        let mut held: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        Client::send_all(&mut held, &get("/slow?ms=60000"));
        for _ in 0..20 {
            let (response, took) = timed(|| server.connect().ask(get("/fixed")));
            assert_eq!(response.text(), "fixed", "{driver:?}");
            assert!(took < Duration::from_secs(3), "{driver:?}: {took:?}");
        }
    });
}

#[test]
fn a_request_whose_client_left_is_not_run() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).one_worker().process("app_concurrency = 1").start();
        let mut first = server.connect();
        first.send(get("/slow?ms=60000"));
        eventually("it runs", || app_worker(&server, "running") == 1.0);
        let before = app_worker(&server, "requests_total");
        for n in 0..6 {
            let mut client = server.connect();
            client.send(get("/count"));
            eventually("it waits", || app(&server, "requests_active") == 2.0);
            match n % 2 {
                0 => drop(client),
                _ => client.reset(),
            }
            eventually("it is given up", || app(&server, "requests_active") == 1.0);
        }
        assert_eq!(app(&server, "cancelled_total"), 6.0, "{driver:?}");
        // The one that runs is stopped in its turn, and then the queue is looked through.
        drop(first);
        assert_eq!(server.connect().ask(get("/size")).status, 200);
        eventually("they are thrown away", || app_worker(&server, "cancelled_total") == 7.0);
        assert_eq!(app_worker(&server, "requests_total") - before, 1.0, "{driver:?}: only the last one ran");
    });
}

#[test]
fn a_client_that_leaves_stops_its_running_request() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        // More than is taken from an upload that the application does not read, and little enough for the rest to fit
        // into socket buffers: a close that waits in the client's own kernel cannot be seen.
        let large = "x".repeat(180_000);
        let texts = [
            get("/slow?ms=60000"),
            post("/slow?ms=60000", "x"),
            post("/slow?ms=60000", &large),
            get("/trickle?ms=60000"),
        ];
        for text in texts {
            let mut client = server.connect();
            client.send(&text);
            eventually("it runs", || app_worker(&server, "running") == 1.0);
            if text.contains("trickle") {
                std::thread::sleep(Duration::from_millis(300));
            }
            drop(client);
            eventually(&format!("{driver:?} {:.20}: it is stopped", text), || app_worker(&server, "running") == 0.0);
        }
        server.wait_until_no_client();
    });
}

#[test]
fn bodies_stream_both_ways_by_credit() {
    const BYTES: usize = 100 << 20;
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).http("body_max = 0").start();
        let mut client = server.connect();
        client.send(format!("POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: {BYTES}\r\n\r\n"));
        let piece = vec![b'u'; 1 << 20];
        for _ in 0..BYTES >> 20 {
            client.send(&piece);
        }
        assert_eq!(client.response("POST").text(), format!("{BYTES} bytes"), "{driver:?}");
        client.send(request("GET", &format!("/large?bytes={BYTES}"), &["Connection: close"], ""));
        let received = std::io::copy(&mut client.stream, &mut std::io::sink()).expect("a download");
        assert!(received > BYTES as u64, "{driver:?}: {received}");
        // Those who do not read, and an application that does not read, must not make anything pile up.
        let mut slow: Vec<Client> = (0..10).map(|_| Client::with_small_window(server.web())).collect();
        Client::send_all(&mut slow, &get(&format!("/large?bytes={BYTES}")));
        let mut lazy = server.connect();
        lazy.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
        lazy.send(format!("POST /slow?ms=60000 HTTP/1.1\r\nHost: test\r\nContent-Length: {BYTES}\r\n\r\n"));
        let mut taken = 0;
        while taken < BYTES && std::io::Write::write_all(&mut lazy.stream, &piece).is_ok() {
            taken += piece.len();
        }
        assert!(taken < BYTES / 2, "{driver:?}: an upload nobody reads was taken: {taken} bytes");
        let (now, peak) = server.resident_mib();
        assert!(now < 100 && peak < 100, "{driver:?}: {now} MiB now, {peak} MiB at most");
        let mut some = vec![0; 1 << 20];
        slow[0].stream.read_exact(&mut some).expect("it goes on");
    });
}

#[test]
fn an_application_may_answer_before_or_while_it_reads() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).http("body_max = 0").start();
        let body = pattern(1_500_000);
        let mut client = server.connect();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body[..700_000]);
        while client.buffered().len() < 400_000 {
            assert!(client.fill().expect("the echo begins") > 0, "{driver:?}");
        }
        client.send(&body[700_000..]);
        assert!(client.response("POST").body == body, "{driver:?}");
        for size in [10, 100_000, 5_000_000] {
            let mut client = server.connect();
            let mut sender = client.stream.try_clone().expect("a socket");
            let text = post("/early", &"x".repeat(size));
            let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut sender, text.as_bytes())));
            let response = client.response("POST");
            assert_eq!(response.text(), "early", "{driver:?} {size}");
            if response.is_last() {
                let (rest, _) = client.read_to_end();
                assert!(rest.is_empty(), "{driver:?} {size}: {:?}", String::from_utf8_lossy(&rest));
            } else {
                assert_eq!(client.ask(get("/fixed")).text(), "fixed", "{driver:?} {size}");
            }
            drop(client);
            let _ = writer.join();
        }
        assert_eq!(server.metric("one_server_panics_total", ""), 0.0, "{driver:?}");
    });
}

/// A client that leaves in the middle of an upload: the application must not take half a body for a whole one.
#[test]
fn half_an_upload_is_an_error_for_the_application() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        for framing in ["Content-Length: 200000", "Transfer-Encoding: chunked"] {
            let before = app_worker(&server, "requests_total");
            let mut client = server.connect();
            client.send(format!("POST /size HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
            client.send(format!("15f90\r\n{}\r\n", "x".repeat(90_000)));
            eventually("it runs", || app_worker(&server, "requests_total") > before);
            client.finish_sending();
            let (bytes, _) = client.read_to_end();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.starts_with("HTTP/1.1 200"), "{driver:?} {framing}: {text}");
            eventually("it ends", || app_worker(&server, "running") == 0.0);
        }
    });
}

#[test]
fn an_application_that_computes_does_not_stop_the_others_for_ever() {
    with_both_drivers(|driver| {
        // On cores of their own, files and proxies do not feel it at all.
        let site = Site::probe(driver, SITE).one_worker().process("app_placement = \"separate\"\napp_cores = \"1\"");
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            eprintln!("SKIPPED: one core only");
            return;
        }
        let server = site.start();
        let mut spinning = server.connect();
        spinning.send(get("/spin?ms=2000"));
        eventually("it computes", || app_worker(&server, "requests_total") >= 1.0);
        let begin = Instant::now();
        let mut client = server.connect();
        for _ in 0..50 {
            assert_eq!(client.ask(get("/fixed")).text(), "fixed");
        }
        assert!(begin.elapsed() < Duration::from_millis(1500), "{driver:?}: {:?}", begin.elapsed());
        assert_eq!(spinning.response("GET").text(), "spun", "{driver:?}");
    });
}

/// Many clients, every kind of request: each answer is its own, and no wake-up between the cores is lost.
#[test]
fn soak() {
    with_both_drivers(|driver| {
        let server = Arc::new(Site::probe(driver, SITE).http("keep_alive_requests_max = 0\nbody_max = 0").start());
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..8u64)
            .map(|thread| {
                let (server, stop, answered) = (server.clone(), stop.clone(), answered.clone());
                std::thread::spawn(move || {
                    let mut client = server.connect();
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        one_of_many(&server, &mut client, thread, n);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(500));
            // Pauses let the workers fall asleep, which is where wake-ups get lost.
            assert!(!threads.iter().any(|thread| thread.is_finished()), "{driver:?}: a client failed");
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("a client"));
        assert!(answered.load(Ordering::Relaxed) > 300, "{driver:?}: {}", answered.load(Ordering::Relaxed));
        assert_eq!(app_worker(&server, "lost_wakeups_total"), 0.0, "{driver:?}");
        eventually("wake-ups are counted", || app_worker(&server, "wake_ups_total") > 0.0);
        assert!(!server.lines().iter().any(|line| line.contains("lost wake-up")), "{driver:?}");
        assert_eq!(app(&server, "failed_total"), 0.0, "{driver:?}");
        eventually("all is quiet", || app(&server, "requests_active") == 0.0);
        assert_eq!(server.metric("one_server_panics_total", ""), 0.0, "{driver:?}");
    });
}

fn one_of_many(server: &Server, client: &mut Client, thread: u64, n: u64) {
    match n % 7 {
        0 => {
            let text = client.ask(get(&format!("/info?n={thread}.{n}"))).text();
            assert!(text.contains(&format!("uri /info?n={thread}.{n}\n")), "somebody else's answer: {text}");
        }
        1 => {
            let body = format!("{thread}.{n}.").repeat(1 + (n as usize * 37) % 3000);
            let response = client.ask(post("/echo", &body));
            assert_eq!(response.text(), body);
            if response.is_last() {
                *client = server.connect();
            }
        }
        2 => {
            client.send((0..8).map(|k| get(&format!("/info?p={thread}.{n}.{k}"))).collect::<String>());
            for k in 0..8 {
                assert!(client.response("GET").text().contains(&format!("p={thread}.{n}.{k}\n")));
            }
        }
        3 => assert_eq!(client.ask(get("/slow?ms=3")).text(), "slow"),
        4 => assert_eq!(client.ask(get("/large?bytes=100000")).body.len(), 100_000),
        5 => {
            // A client that leaves while its request is somewhere between the cores.
            server.connect().send(get("/slow?ms=20"));
        }
        _ => {
            std::thread::sleep(Duration::from_millis(n % 5));
            assert_eq!(client.ask(get("/size")).text(), "0 bytes");
        }
    }
}
