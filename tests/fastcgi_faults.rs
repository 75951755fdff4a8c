//! Servers of FastCGI that do not do what they should: what they have not said is never made up, and a request is sent again
//! only where that does no harm.

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use support::client::NoResponse;
use support::fake_fastcgi::{Asked, FakeFastCgi, Said, answer, end, record};
use support::{Driver, Server, Site, eventually, get, post, request, with_both_drivers};

fn start(driver: Driver, servers: &[&FakeFastCgi], upstream: &str) -> Server {
    site(driver, servers, upstream).start()
}

/// The same before it starts.
fn site(driver: Driver, servers: &[&FakeFastCgi], upstream: &str) -> Site {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    let text = format!(
        "[upstream.app]\nservers = [{}]\nprotocol = \"fastcgi\"\n{upstream}\n[site.main]\ndefault = true\n\
         [[site.main.route]]\npath = \"/\"\nproxy = \"app\"\ncgi = {{ split = [] }}\n\
         [[site.main.route]]\npath = \"/inside\"\ninternal = true\nrespond = {{ body = \"inside\" }}\n\
         [[site.main.route]]\npath = \"/there\"\nrespond = {{ body = \"$request_method there $query_string\" }}\n",
        servers.join(", ")
    );
    Site::new(driver, &text).one_worker()
}

fn path(asked: &Asked) -> &str {
    &asked.params["PATH_INFO"]
}

fn good(text: &str) -> Vec<u8> {
    answer(&format!("Content-Type: text/plain\r\n\r\n{text}"))
}

#[test]
fn what_is_no_answer() {
    let fake = FakeFastCgi::start(|asked| {
        let head = "Content-Type: text/plain\r\n\r\n";
        let bytes = match path(asked) {
            "/http" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            "/nothing" => Vec::new(),
            "/end" => end(0),
            "/role" => end(3),
            "/no-head" => answer("no head at all\n\n"),
            "/half-head" => record(6, b"Content-Type: te"),
            "/status" => answer("Status: abc\r\n\r\n"),
            "/folded" => answer("A: b\r\n c: d\r\n\r\n"),
            "/long-head" => answer(&format!("A: {}\r\n\r\n", "x".repeat(40_000))),
            "/other-request" => {
                let mut bytes = good("secret of another");
                bytes[3] = 2;
                bytes
            }
            "/stderr" => [record(7, b"it hurts\n"), record(6, head.as_bytes()), record(7, b"more"), end(0)].concat(),
            // These begin well.
            "/no-end" => record(6, format!("{head}beginning").as_bytes()),
            "/garbage" => [record(6, format!("{head}beginning").as_bytes()), b"garbage!".to_vec()].concat(),
            "/short" => answer("Content-Length: 20\r\n\r\nbeginning"),
            other => good(other),
        };
        Said { bytes, closes: true }
    });
    with_both_drivers(|driver| {
        let server = start(driver, &[&fake], "tries = 1");
        for path in [
            "/http",
            "/nothing",
            "/end",
            "/role",
            "/no-head",
            "/half-head",
            "/status",
            "/folded",
            "/long-head",
            "/other-request",
        ] {
            let answer = server.connect().ask(get(path));
            assert_eq!(answer.status, 502, "{driver:?} {path}: {}", answer.text());
        }
        for path in ["/no-end", "/garbage", "/short"] {
            match server.connect().send(get(path)).try_response("GET") {
                Err(NoResponse::Ended(..)) => {}
                other => panic!("{driver:?} {path}: {other:?}"),
            }
        }
        let answer = server.connect().ask(get("/stderr"));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{driver:?}");
        server.wait_for_line("a complaint", |line| line.contains("stderr: it hurts"));
        server.wait_for_line("another one", |line| line.contains("stderr: more"));
        assert_eq!(server.connect().ask(get("/fine")).text(), "/fine", "{driver:?}");
    });
}

#[test]
fn a_server_without_room() {
    let full = FakeFastCgi::start(|_| Said { bytes: end(2), closes: true });
    let free = FakeFastCgi::start(|asked| Said { bytes: good(&String::from_utf8_lossy(&asked.content)), closes: true });
    with_both_drivers(|driver| {
        let server = start(driver, &[&full, &free], "balance = \"round-robin\"");
        let mut client = server.connect();
        for at in 0..6 {
            let content = at.to_string();
            assert_eq!(client.ask(post("/", &content)).text(), content, "{driver:?}: nothing has been done there");
        }
        let server = start(driver, &[&full], "tries = 1");
        assert_eq!(server.connect().ask(get("/")).status, 503, "{driver:?}");
    });
    assert!(!full.seen().is_empty());
}

#[test]
fn only_a_clean_connection_is_used_again() {
    let whole = |text: &str| record(6, format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    let fake = FakeFastCgi::start(move |asked| {
        let text = format!("{} {}", asked.number, asked.keeps);
        match path(asked) {
            "/clean" => Said { bytes: good(&text), closes: false },
            "/stray" => Said { bytes: [good(&text), b"x".to_vec()].concat(), closes: false },
            "/surplus" => Said { bytes: answer(&format!("Content-Length: 3\r\n\r\n{text}")), closes: false },
            // All of the content is there, and no END_REQUEST of a request that went well.
            "/late" => Said { bytes: whole(&text), closes: false },
            "/odd-end" => Said { bytes: [whole(&text), end(2)].concat(), closes: false },
            // It takes the second request and hangs up.
            "/hangs-up" if asked.number > 0 => Said { bytes: Vec::new(), closes: true },
            _ => Said { bytes: good(&text), closes: false },
        }
    });
    let server = start(Driver::Auto, &[&fake], "keep_idle = 4\nkeep_idle_timeout = \"10s\"");
    let mut client = server.connect();
    let mut ask = |path: &str| client.ask(get(path)).text();
    assert_eq!(ask("/clean"), "0 true");
    assert_eq!(ask("/clean"), "1 true");
    assert_eq!(ask("/stray"), "2 true");
    assert_eq!(ask("/clean"), "0 true", "the one with a byte too many is closed");
    assert_eq!(ask("/surplus"), "1 t");
    for path in ["/late", "/odd-end"] {
        assert_eq!(ask("/clean"), "0 true");
        assert_eq!(ask(path), "1 true", "{path}");
    }
    assert_eq!(ask("/clean"), "0 true", "not behind one of these");
    assert_eq!(ask("/hangs-up"), "0 true", "on a new connection, without the client noticing");
    assert_eq!(server.connect().ask(post("/hangs-up", "x")).status, 502, "nobody knows whether it was done");
    // By default each has its own.
    let before = fake.connections.load(SeqCst);
    let server = start(Driver::Auto, &[&fake], "");
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.ask(get("/clean")).text(), "0 false");
    }
    assert_eq!(fake.connections.load(SeqCst), before + 3);
}

/// Whoever has all of an answer does not wait for the program to end.
#[test]
fn an_answer_ends_with_its_content() {
    let fake = FakeFastCgi::start(|asked| {
        let bytes = match path(asked) {
            "/late" => record(6, b"Content-Length: 4\r\n\r\nlate"),
            "/nothing" => record(6, b"Status: 204 No Content\r\n\r\n"),
            "/head" => record(6, b"Content-Type: text/plain\r\n\r\n"),
            "/overloaded" => [record(6, b"A: b\r\n\r\nbeginning"), end(2)].concat(),
            "/odd-end" => [record(6, b"Content-Length: 4\r\n\r\ngood"), end(2)].concat(),
            other => good(other),
        };
        Said { bytes, closes: false }
    });
    with_both_drivers(|driver| {
        for upstream in ["", "keep_idle = 4\nkeep_idle_timeout = \"10s\""] {
            let server = start(driver, &[&fake], &format!("{upstream}\ntries = 1\nidle_timeout = \"20s\""));
            let mut client = server.connect();
            let begun = Instant::now();
            for _ in 0..2 {
                assert_eq!(client.ask(get("/late")).text(), "late", "{driver:?}");
                assert_eq!(client.ask(get("/nothing")).status, 204, "{driver:?}");
                client.send(request("HEAD", "/head", &[], ""));
                assert_eq!(client.response("HEAD").status, 200, "{driver:?}");
                assert_eq!(client.ask(get("/odd-end")).text(), "good", "{driver:?}");
            }
            assert_eq!(client.ask(get("/fine")).text(), "/fine", "{driver:?}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{driver:?}: {:?}", begun.elapsed());
            match client.send(get("/overloaded")).try_response("GET") {
                Err(NoResponse::Ended(..)) => {}
                other => panic!("{driver:?}: {other:?}"),
            }
            assert_eq!(server.connect().ask(get("/fine")).text(), "/fine", "{driver:?}");
        }
    });
}

/// A program begins when it has the variables, and takes the end of what comes for the end of the content.
#[test]
fn a_client_that_leaves_within_its_body_runs_nothing() {
    with_both_drivers(|driver| {
        let fake = FakeFastCgi::start(|asked| Said { bytes: good(&asked.content.len().to_string()), closes: true });
        let server = start(driver, &[&fake], "health = false");
        let connects = || server.metric("one_server_upstream_connects_total", "upstream=\"app\"");
        let mut client = server.connect();
        let whole = post("/", &"x".repeat(900_000));
        client.send(&whole[..500_000]);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(connects(), 0.0, "{driver:?}: it would hold a process");
        drop(client);
        server.wait_until_no_client();
        assert_eq!(connects(), 0.0, "{driver:?}");
        assert_eq!(server.connect().ask(&whole).text(), "900000", "{driver:?}");
    });
}

/// The end of its connection is all by which a server learns of it.
#[test]
fn clients_that_leave_end_the_connections_on_which_their_requests_are() {
    const UPLOAD: usize = 2 << 20;
    let put = format!("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n\r\n");
    let half = put + &"x".repeat(UPLOAD / 2);
    with_both_drivers(|driver| {
        for upstream in ["", "keep_idle = 4\nkeep_idle_timeout = \"10s\""] {
            let fake = FakeFastCgi::start(|_| Said { bytes: Vec::new(), closes: false });
            let keys = format!("{upstream}\nhealth = false\nresponse_timeout = \"60s\"\nidle_timeout = \"60s\"");
            let server = site(driver, &[&fake], &keys).http("body_max = \"4MiB\"").start();
            for resets in [false, true] {
                let (seen, content) = (fake.seen().len(), fake.content_bytes.load(SeqCst));
                let clients = [get("/"), post("/", "x"), half.clone()].map(|asked| {
                    let mut client = server.connect();
                    client.send(&asked);
                    client
                });
                eventually("two have come", || fake.seen().len() == seen + 2);
                // Of a part it gets what fills whole buffers.
                eventually("and a part", || fake.content_bytes.load(SeqCst) >= content + UPLOAD / 4);
                assert_eq!(fake.open.load(SeqCst), 3, "{driver:?}");
                let left = Instant::now();
                for client in clients {
                    if resets {
                        client.reset();
                    } else {
                        drop(client);
                    }
                }
                eventually("their connections have ended", || fake.open.load(SeqCst) == 0);
                let took = left.elapsed();
                assert!(took < Duration::from_secs(2), "{driver:?}, reset: {resets}: {took:?}");
            }
            server.wait_until_no_client();
            let mut seen: Vec<_> = fake.seen().iter().map(|asked| asked.content.len()).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 0, 1, 1], "{driver:?}: none is whole that is not, and none is sent again");
        }
    });
}

#[test]
fn redirects_inside() {
    let fake = FakeFastCgi::start(|asked| {
        let head = match path(asked) {
            "/local" => "Location: /there?a=b\r\n\r\n",
            "/secret" => "Location: /inside\r\n\r\n",
            "/trusted" => "X-Accel-Redirect: /inside\r\n\r\n",
            "/fragment" => "Location: /there#part\r\n\r\n",
            "/outside" => "Location: /../there\r\n\r\n",
            "/malformed" => "Location: /%zz\r\n\r\n",
            "/with-fields" => "Location: /inside\r\nContent-Type: text/plain\r\n\r\n",
            "/elsewhere" => "Location: http://other.test/\n\n",
            _ => "Status: 404 Nothing Here\n\n",
        };
        Said { bytes: answer(head), closes: true }
    });
    let server = start(Driver::Auto, &[&fake], "");
    let mut client = server.connect();
    assert_eq!(client.ask(get("/local")).text(), "GET there a=b");
    assert_eq!(client.ask(post("/local", "content")).text(), "GET there a=b");
    assert_eq!(client.ask(get("/trusted")).text(), "inside");
    assert_eq!(client.ask(get("/secret")).status, 404, "a client could not have asked for it");
    for (path, location) in [
        ("/with-fields", "/inside"),
        ("/elsewhere", "http://other.test/"),
        ("/fragment", "/there#part"),
        ("/outside", "/../there"),
        ("/malformed", "/%zz"),
    ] {
        let answer = client.ask(get(path));
        assert_eq!((answer.status, answer.field("Location")), (302, Some(location)), "{path}");
    }
    assert_eq!(client.ask(get("/none")).status, 404);
}

#[test]
fn silence_ends() {
    let fake = FakeFastCgi::start(|asked| {
        let head = record(6, b"A: b\r\n\r\nbeginning");
        match path(asked) {
            "/begins" => Said { bytes: head, closes: false },
            _ => Said { bytes: Vec::new(), closes: false },
        }
    });
    with_both_drivers(|driver| {
        let server = start(driver, &[&fake], "response_timeout = \"300ms\"\nidle_timeout = \"300ms\"");
        assert_eq!(server.connect().ask(get("/silent")).status, 504, "{driver:?}");
        assert_eq!(server.connect().ask(post("/silent", "x")).status, 504, "{driver:?}");
        match server.connect().send(get("/begins")).try_response("GET") {
            Err(NoResponse::Ended(_, bytes)) => {
                assert!(bytes.windows(9).any(|part| part == b"beginning"), "{driver:?}")
            }
            other => panic!("{driver:?}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
        server.wait_until_no_client();
    });
}
