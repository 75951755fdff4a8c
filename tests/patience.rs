//! Clients that keep a connection busy without asking for anything: it ends all the same, and in time.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::frames::{self, Block, GOAWAY, Http2, NO_ERROR, PING, WHOLE, headers, ping};
use support::tls::*;
use support::*;

const SITE: &str = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n";
const SHORT: &str = "keep_alive_timeout = \"1s\"\nheader_timeout = \"1s\"\n";

/// A time-out of one second, on a machine that is busy.
const SOON: Duration = Duration::from_secs(6);

#[test]
fn pieces_of_a_tls_record_do_not_keep_a_connection() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).http(SHORT).secure("").start();
        for has_asked in [false, true] {
            let mut client = TlsClient::connect(server.address("secure"));
            if has_asked {
                assert_eq!(client.ask(get("/")).text(), "root");
            }
            // The head of a record of 4096 bytes, then its bytes one by one: nothing of it can be decrypted.
            let socket = &mut client.tls.sock;
            socket.write_all(&[23, 3, 3, 16, 0]).expect("sent");
            let begin = Instant::now();
            while socket.write_all(&[0]).is_ok() {
                assert!(begin.elapsed() < SOON, "{driver:?} asked: {has_asked}: the connection stays");
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(begin.elapsed() > Duration::from_millis(700), "{driver:?}: {:?}", begin.elapsed());
        }
        server.wait_until_no_client();
    });
}

#[test]
fn pings_do_not_keep_an_idle_connection_of_http2() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).http(SHORT).start();
        let mut client = Http2::connect(server.web());
        assert_eq!(client.get(1, "/").text(), "root");
        let begin = Instant::now();
        let end = loop {
            client.send(ping(b"01234567"));
            match client.next_within(Duration::from_millis(200)) {
                Some(frame) if frame.kind == GOAWAY => break frame,
                Some(frame) => assert_eq!(frame.kind, PING, "{driver:?}"),
                None => assert!(!client.is_over(), "{driver:?}: no GOAWAY"),
            }
            assert!(begin.elapsed() < SOON, "{driver:?}: the connection stays");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(end.code(), NO_ERROR, "{driver:?}");
        assert!(begin.elapsed() > Duration::from_millis(700), "{driver:?}: {:?}", begin.elapsed());
        server.wait_until_no_client();
    });
}

#[test]
fn a_client_of_http2_that_does_not_leave_is_left() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, SITE).process("drain_timeout = \"60s\"").start();
        let mut client = Http2::connect(server.web());
        assert_eq!(client.get(1, "/").text(), "root");
        let begin = Instant::now();
        server.signal(Signal::QUIT);
        // It is told to leave, and stays. Nothing is under way on it, so that a drain does not wait for its end.
        assert!(server.wait().success(), "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{driver:?}: {:?}", begin.elapsed());
        drop(client);
    });
}

#[test]
fn a_stream_begun_before_the_last_goaway_is_answered() {
    with_both_drivers(|driver| {
        let site =
            "[app.probe]\nprogram = \"probe\"\n[site.main]\n[[site.main.route]]\npath = \"/\"\napp = \"probe\"\n";
        let mut server = Site::probe(driver, site).start();
        let mut client = Http2::connect(server.web());
        client.send(headers(1, WHOLE, &Block::get("/slow?ms=1000")));
        client.send(ping(b"76543210"));
        while client.next().expect("an answer to the ping").kind != PING {}
        server.signal(Signal::QUIT);
        assert_eq!(client.answer(1).status, 200, "{driver:?}");
        assert!(server.wait().success());
    });
}

#[test]
fn an_error_page_without_content_leaves_the_connection_in_step() {
    with_both_drivers(|driver| {
        let site = "[site.main]\nerror_pages = { 404 = \"/empty\" }\n\
                    [[site.main.route]]\npath = \"/\"\nrespond = { body = \"root\" }\n\
                    [[site.main.route]]\npath = \"/empty\"\nrespond = { status = 204 }\n\
                    [[site.main.route]]\npath = \"/none/\"\nfiles = { root = \"$DIR\", strip_prefix = \"/none\" }\n";
        let server = Site::new(driver, site).start();
        let mut client = server.connect();
        for method in ["GET", "HEAD", "GET"] {
            let answer = client.ask(request(method, "/none/missing", &[], ""));
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{driver:?} {method}");
            assert_eq!(client.ask(get("/")).text(), "root", "{driver:?} {method}");
        }
        let mut client = Http2::connect(server.web());
        let answer = client.get(1, "/none/missing");
        assert_eq!((answer.status, answer.text()), (404, String::new()), "{driver:?}");
        client.send(frames::window_update(0, 1));
        client.assert_alive(3, "/");
    });
}

#[test]
fn an_old_connection_ends_behind_an_answer() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, SITE).http("keep_alive_time = \"1s\"").start();
        let begin = Instant::now();
        let mut client = server.connect();
        loop {
            let answer = client.ask(get("/"));
            assert_eq!(answer.text(), "root", "{driver:?}");
            if answer.is_last() {
                break;
            }
            assert!(begin.elapsed() < SOON, "{driver:?}: the connection stays");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begin.elapsed() > Duration::from_millis(900), "{driver:?}: {:?}", begin.elapsed());
        let begin = Instant::now();
        let mut client = Http2::connect(server.web());
        let mut id = 1;
        loop {
            client.send(headers(id, WHOLE, &Block::get("/")));
            // GOAWAY comes with the answer that is the last.
            match std::iter::from_fn(|| client.next())
                .find(|frame| frame.kind == GOAWAY || frame.has(frames::END_STREAM))
            {
                Some(frame) if frame.kind == GOAWAY => break assert_eq!(frame.code(), NO_ERROR, "{driver:?}"),
                Some(_) => {}
                None => panic!("{driver:?}: no GOAWAY"),
            }
            assert!(begin.elapsed() < SOON, "{driver:?}: the connection stays");
            std::thread::sleep(Duration::from_millis(20));
            id += 2;
        }
    });
}
