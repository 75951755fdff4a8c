//! Limits of requests at the real binary: how many one key gets, over all connections, protocols and workers, and what
//! those are told that ask for more.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::timed;
use support::frames::Http2;
use support::http2::{H2Client, ask, block_on, everywhere, pause};
use support::tls::TlsClient;
use support::*;

/// A site whose `/` has the limit `page`; `more` are further lines.
fn limited(limit: &str, more: &str) -> String {
    format!(
        "[limit.page]\n{limit}\n[site.main]\n[[site.main.route]]\npath = \"/\"\nlimits = \"page\"\n\
         respond = {{ body = \"root\" }}\n[[site.main.route]]\npath = \"/free\"\nrespond = {{ body = \"free\" }}\n{more}\n"
    )
}

fn requests(server: &Server, limit: &str, outcome: &str) -> f64 {
    let labels = format!("limit=\"{limit}\",outcome=\"{outcome}\"");
    server.metric("one_server_limit_requests_total", &labels)
}

/// Lines of the log, once there are `n`.
fn log_lines(server: &Server, n: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
    eventually("the log has its lines", || read().lines().count() >= n && read().ends_with('\n'));
    read().lines().map(str::to_owned).collect()
}

const LOG: &str =
    "access = \"$DIR/access.log\"\nformat = \"$status $limit_req_status $limit_conn_status $termination\"\n";

#[test]
fn who_asks_too_much_is_told_when_to_come_again() {
    with_both_drivers(|driver| {
        let site = limited("rate = \"1/m\"\nburst = 2\nexcess = \"reject\"", "");
        let server = Site::new(driver, &site).log(LOG).secure("").start();
        // The limit holds for the client, however it comes.
        let mut first = server.connect();
        assert_eq!(first.ask(get("/")).text(), "root", "{driver:?}");
        let mut second = Http2::connect(server.web());
        assert_eq!(second.get(1, "/").text(), "root", "{driver:?}");
        let mut third = TlsClient::connect(server.address("secure"));
        assert_eq!(third.ask(get("/")).text(), "root", "{driver:?}");
        for n in 0..2 {
            let refused = first.ask(get("/"));
            assert_eq!((refused.status, refused.is_last()), (429, false), "{driver:?}");
            let retry: u64 = refused.field("retry-after").expect("a field").parse().expect("seconds");
            assert!((50..=60).contains(&retry), "{driver:?}: {retry}");
            assert_eq!(refused.field("ratelimit-policy"), Some("\"page\";q=1;w=60"), "{driver:?}");
            assert_eq!(refused.field("ratelimit"), Some(format!("\"page\";r=0;t={retry}").as_str()), "{driver:?}");
            assert_eq!(second.get(3 + 2 * n, "/").status, 429, "{driver:?}");
            assert_eq!(third.ask(get("/")).status, 429, "{driver:?}");
        }
        assert_eq!(first.ask(get("/free")).text(), "free", "{driver:?}: the connection stays");
        assert_eq!(Client::connect_from("127.0.0.2", server.web()).ask(get("/")).text(), "root", "{driver:?}");
        let lines = log_lines(&server, 11);
        let count = |line: &str| lines.iter().filter(|known| *known == line).count();
        assert_eq!(count("200 PASSED - --"), 4, "{driver:?} {lines:?}");
        assert_eq!((count("429 REJECTED - PR"), count("200 - - --")), (6, 1), "{driver:?} {lines:?}");
        assert_eq!((requests(&server, "page", "passed"), requests(&server, "page", "rejected")), (4.0, 6.0));
        let shown = &server.status()["request_limits"][0];
        assert_eq!((shown["name"].as_str(), shown["rejected"].as_u64()), (Some("page"), Some(6)), "{driver:?}");
    });
}

#[test]
fn all_workers_together_grant_what_the_limit_says() {
    with_both_drivers(|driver| {
        let site = limited("rate = \"1/h\"\nburst = 9\nexcess = \"reject\"", "");
        let server = Site::new(driver, &site).start();
        let (address, granted) = (server.web(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let status = Client::connect(address).ask(get("/")).status;
                        granted.fetch_add(usize::from(status == 200), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(granted.into_inner(), 10, "{driver:?}");
    });
}

#[test]
fn within_the_burst_requests_wait_for_their_turn() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, &limited("rate = \"5/s\"\nburst = 4", "")).log(LOG).start();
        let mut clients: Vec<Client> = (0..7).map(|_| server.connect()).collect();
        let begin = Instant::now();
        Client::send_all(&mut clients, &get("/"));
        let mut took: Vec<(u16, Duration)> = std::thread::scope(|scope| {
            let ask = |mut client: Client| scope.spawn(move || (client.response("GET").status, begin.elapsed()));
            let threads: Vec<_> = clients.into_iter().map(ask).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        took.sort();
        let statuses: Vec<u16> = took.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429], "{driver:?}");
        for (n, (_, took)) in took.iter().take(5).enumerate() {
            let turn = Duration::from_millis(200 * n as u64);
            assert!(*took + Duration::from_millis(50) >= turn && *took < turn + PATIENCE, "{driver:?} {n}: {took:?}");
        }
        let delayed = (requests(&server, "page", "delayed"), requests(&server, "page", "passed"));
        assert_eq!(delayed, (4.0, 1.0), "{driver:?}");
        let lines = log_lines(&server, 7);
        assert_eq!(lines.iter().filter(|line| *line == "200 DELAYED - --").count(), 4, "{driver:?} {lines:?}");
        // Answers in front of it in a pipeline do not wait for it.
        let mut client = server.connect();
        client.send(format!("{}{}", get("/free"), get("/")));
        assert_eq!(client.response("GET").text(), "free", "{driver:?}");
        assert!(matches!(client.response("GET").status, 200 | 429), "{driver:?}");
    });
}

#[test]
fn a_client_that_leaves_does_not_wait() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, &limited("rate = \"1/m\"\nburst = 5", "")).start();
        assert_eq!(server.connect().ask(get("/")).status, 200, "{driver:?}");
        for request in [get("/"), post("/", "a body that nobody reads meanwhile")] {
            let mut client = server.connect();
            client.send(&request);
            client.assert_silent(Duration::from_millis(500));
            let ((), took) = timed(|| {
                drop(client);
                server.wait_until_no_client();
            });
            assert!(took < Duration::from_secs(10), "{driver:?}: {took:?}");
        }
        let mut client = Http2::connect(server.web());
        client.send(frames::headers(1, frames::WHOLE, &frames::Block::get("/")));
        client.send(frames::headers(3, frames::WHOLE, &frames::Block::get("/free")));
        assert_eq!(client.answer(3).text(), "free", "{driver:?}: other streams do not wait");
        client.send(frames::rst(1, frames::CANCEL));
        client.assert_alive(5, "/free");
    });
}

fn slow(limit: &str) -> impl Fn(Driver) -> Server {
    let route = "[[site.main.route]]\npath = \"/slow\"\nlimits = \"page\"\napp = \"probe\"\n[app.probe]\n";
    let site = limited(limit, route);
    move |driver| Site::probe(driver, &site).secure("").log(LOG).start()
}

#[test]
fn so_many_requests_of_one_key_are_under_way_at_once() {
    everywhere(slow("requests_max = 2\nstatus = 503"), |server, over| {
        block_on(async {
            let client = H2Client::connect(server, over).await;
            for _ in 0..3 {
                let begin = || client.begin(ask("GET", "/slow?ms=700", &[]), true);
                let mut first = begin().await.expect("open");
                let mut second = begin().await.expect("open");
                pause(Duration::from_millis(200)).await;
                let refused = client.get("/slow?ms=0").await;
                assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{over:?}");
                assert_eq!(refused.field("ratelimit-policy"), Some("\"page\";q=2;qu=\"concurrent-requests\""));
                assert_eq!(refused.field("ratelimit"), Some("\"page\";r=0"));
                let same_address = Client::connect(server.web()).ask(get("/slow?ms=0"));
                assert_eq!(same_address.status, 503, "{over:?}: another connection");
                let other = Client::connect_from("127.0.0.2", server.web()).ask(get("/slow?ms=0"));
                assert_eq!(other.status, 200, "{over:?}");
                let ended = (first.reply().await.expect("an answer"), second.reply().await.expect("an answer"));
                assert_eq!((ended.0.status, ended.1.status), (200, 200), "{over:?}");
            }
            // One that is given up is no longer under way.
            let mut left = client.begin(ask("GET", "/slow?ms=5000", &[]), true).await.expect("open");
            let mut other = client.begin(ask("GET", "/slow?ms=5000", &[]), true).await.expect("open");
            pause(Duration::from_millis(200)).await;
            for exchange in [&mut left, &mut other] {
                exchange.stream.as_mut().expect("a stream").send_reset(h2::Reason::CANCEL);
            }
            let begin = Instant::now();
            while client.get("/slow?ms=0").await.status != 200 {
                assert!(begin.elapsed() < Duration::from_secs(3), "{over:?}: it still counts");
                pause(Duration::from_millis(50)).await;
            }
        });
        let lines = log_lines(server, 1);
        assert!(lines.iter().any(|line| line == "503 - REJECTED PR"), "{lines:?}");
        assert!(lines.iter().any(|line| line == "200 - PASSED --"), "{lines:?}");
    });
}

#[test]
fn the_key_says_whose_requests_count_together() {
    let site = limited("rate = \"1/h\"\nkey = \"$http_x_key$arg_key\"\nexcess = \"reject\"", "");
    let server = Site::new(Driver::Auto, &site).start();
    let mut client = server.connect();
    let mut status = |path: &str, fields: &[&str]| client.ask(request("GET", path, fields, "")).status;
    for (path, fields, expect) in [
        ("/", &[][..], 200),
        ("/", &[], 200),
        ("/?key=", &["X-Key:"], 200),
        ("/", &["X-Key: a"], 200),
        ("/", &["X-Key: a"], 429),
        ("/?key=a", &[], 429),
        ("/", &["X-Key: b"], 200),
        ("/?key=b", &["X-Key: a"], 200),
        ("/?key=b", &["X-Key: a"], 429),
    ] {
        assert_eq!(status(path, fields), expect, "{path} {fields:?}");
    }
}

#[test]
fn a_refused_request_does_not_use_up_other_limits() {
    let site = "[limit.wide]\nrate = \"1/h\"\nburst = 2\nexcess = \"reject\"\nrequests_max = 9\n\
                [limit.narrow]\nkey = \"$http_x_key\"\nrate = \"1/h\"\nstatus = 403\n\
                [site.main]\nlimits = [\"wide\", \"narrow\"]\nroute = [{ path = \"/\", respond = { body = \"root\" } }]\n";
    let server = Site::new(Driver::Auto, site).start();
    let mut client = server.connect();
    let mut status = |key: &str| client.ask(request("GET", "/", &[&format!("X-Key: {key}")], "")).status;
    let statuses = ["a", "a", "a", "a", "b", "b", "c", "d", "e"].map(&mut status);
    assert_eq!(statuses, [200, 403, 403, 403, 200, 403, 200, 429, 429]);
    assert_eq!((requests(&server, "wide", "passed"), requests(&server, "wide", "rejected")), (3.0, 2.0));
    assert_eq!((requests(&server, "narrow", "passed"), requests(&server, "narrow", "rejected")), (3.0, 4.0));
}

/// It protects a login from being guessed, and is not used up by those who may not come in at all.
#[test]
fn limits_stand_between_address_rules_and_login() {
    let site = "[limit.login]\nrate = \"1/h\"\nburst = 2\nexcess = \"reject\"\n[site.main]\nlimits = \"login\"\n\
                route = [\n\
                { path = \"/\", access = [\"allow 127.0.0.1\", \"deny all\"], auth = { realm = \"staff\", users_file = \"$DIR/users\" }, respond = { body = \"in\" } },\n\
                { path = \"/free\", limits = [], respond = { body = \"free\" } },\n\
                { path = \"/lost\", methods = [\"POST\"], respond = { body = \"posted\" } },\n]\n";
    let server = Site::new(Driver::Auto, site).file("users", b"staff:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n").start();
    let status = |source: &str, path: &str| Client::connect_from(source, server.web()).ask(get(path)).status;
    let denied = [(); 5].map(|()| status("127.0.0.2", "/"));
    assert_eq!(denied, [403; 5]);
    assert_eq!(requests(&server, "login", "passed"), 0.0);
    assert_eq!([(); 5].map(|()| status("127.0.0.1", "/")), [401, 401, 401, 429, 429]);
    assert_eq!(status("127.0.0.1", "/free"), 200);
    // What no route takes is under the limits of its site.
    assert_eq!([(); 4].map(|()| status("127.0.0.3", "/lost")), [405, 405, 405, 429]);
}

#[test]
fn an_error_page_stands_for_a_refusal_and_is_no_second_request() {
    let site = "[limit.page]\nrate = \"1/h\"\nburst = 1\nstatus = 503\nexcess = \"reject\"\n[site.main]\nlimits = \"page\"\n\
                error_pages = { 503 = \"/busy\" }\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
                [[site.main.route]]\npath = \"/busy\"\nrespond = { body = \"busy\" }\n\
                [[site.main.route]]\npath = \"/other\"\nrewrite = \"/\"\n";
    let server = Site::new(Driver::Auto, site).start();
    let mut client = server.connect();
    // Two rounds inside are one request.
    assert_eq!(client.ask(get("/other")).text(), "root");
    assert_eq!(client.ask(get("/")).text(), "root");
    let refused = client.ask(get("/"));
    assert_eq!((refused.status, refused.text().as_str()), (503, "busy"));
    assert!(refused.field("retry-after").is_some_and(|seconds| seconds.len() == 4), "{:?}", refused.fields);
    assert_eq!(refused.field("ratelimit-policy"), Some("\"page\";q=1;w=3600"));
}

#[test]
fn a_dry_run_only_counts() {
    let limit = "rate = \"1/h\"\nburst = 1\nrequests_max = 1\ndry_run = true";
    let server = Site::new(Driver::Auto, &limited(limit, "")).log(LOG).start();
    let mut client = server.connect();
    let (statuses, took) = timed(|| [(); 4].map(|()| client.ask(get("/")).status));
    assert_eq!(statuses, [200; 4]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let lines = log_lines(&server, 4);
    let expect = ["PASSED", "DELAYED_DRY_RUN", "REJECTED_DRY_RUN", "REJECTED_DRY_RUN"];
    assert_eq!(lines, expect.map(|word| format!("200 {word} PASSED --")));
    assert_eq!(requests(&server, "page", "rejected_dry_run"), 2.0);
    assert_eq!(requests(&server, "page", "delayed_dry_run"), 1.0);
    assert_eq!(requests(&server, "page", "rejected"), 0.0);
}

/// The limit of a route holds under any other name that leads there; each limit counts a request once.
#[test]
fn a_rewrite_leads_around_no_limit() {
    with_both_drivers(|driver| {
        let site = "[limit.all]\nrate = \"1000/s\"\nburst = 1000\nexcess = \"reject\"\n[limit.login]\nrate = \"1/h\"\nburst = 1\nexcess = \"reject\"\n\
             [site.main]\nlimits = [\"all\"]\n\
             [[site.main.route]]\npath = \"/login\"\nlimits = [\"all\", \"login\"]\nrespond = { body = \"in\" }\n\
             [[site.main.route]]\npath = \"/signin\"\nrewrite = \"/login\"\n";
        let server = Site::new(driver, site).start();
        let ask = || server.connect().ask(get("/signin")).status;
        assert_eq!([ask(), ask(), ask()], [200, 200, 429], "{driver:?}");
        assert_eq!(server.connect().ask(get("/login")).status, 429, "{driver:?}");
        assert_eq!(
            requests(&server, "all", "passed"),
            3.0,
            "{driver:?}: once for each, and not where another refused it"
        );
        assert_eq!(requests(&server, "login", "passed"), 2.0, "{driver:?}");
    });
}

#[test]
fn a_drain_lets_those_through_that_wait_for_their_turn() {
    with_both_drivers(|driver| {
        let site = limited("rate = \"1/m\"\nburst = 10", "");
        let mut server = Site::new(driver, &site).start();
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/"));
        eventually("five wait", || requests(&server, "page", "delayed") == 5.0);
        let begin = Instant::now();
        server.signal(rustix::process::Signal::QUIT);
        for client in &mut clients {
            assert_eq!(client.response("GET").text(), "root", "{driver:?}");
        }
        assert_eq!(server.wait().code(), Some(0), "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(8), "{driver:?}: {:?}", begin.elapsed());
    });
}
