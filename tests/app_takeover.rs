//! Another process takes over from one with applications inside it (`examples/probe_app`): what they had begun is finished by the
//! process before, their sockets and streams hear that it drains, and no request is lost. Other traffic: `takeover.rs`;
//! applications that are processes: `processes_takeover.rs`.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use support::client::End;
use support::http3::{ask_with, python};
use support::load::under_load_of;
use support::server::has_ended;
use support::websocket::{Version, begin, last, signal, wait, wait_for, wait_for_head};
use support::*;

/// The application on the workers, the same on threads of its own, and the one of sockets.
const SITE: &str = "[site.main]\nroute = [\n{ path = \"/\", app = \"probe\" },\n{ path = \"/threads/\", app = \"threads\" },\n\
                    { exact = \"/heeds\", app = \"sockets\" },\n{ exact = \"/echo\", app = \"sockets\" },\n\
                    { exact = \"/raw\", app = \"sockets\" },\n{ exact = \"/deaf\", app = \"sockets\" },\n\
                    { exact = \"/open\", app = \"sockets\" },\n]\n\
                    [app.probe]\n[app.threads]\nprogram = \"probe\"\nthreads = 2\n[app.sockets]\n";

fn site(driver: Driver) -> Site {
    let control = "control = \"$DIR/ctl.sock\"\ndrain_timeout = \"15s\"";
    Site::probe(driver, SITE).process(control).secure("http3 = true")
}

/// Posts a number after the other, until `stop`: none is asked twice by a server, so that one that is lost is seen.
fn keep_posting(server: &Server, stop: &AtomicBool, posted: &AtomicUsize) {
    let mut client = server.connect();
    while !stop.load(Ordering::Relaxed) {
        let number = posted.fetch_add(1, Ordering::Relaxed).to_string();
        let answer = client.ask(post("/post/echo", &number));
        assert_eq!((answer.status, answer.text()), (200, number));
        if answer.is_last() {
            client = server.connect();
        }
    }
}

/// Ends it, whatever happens before.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn takeovers_under_load_cost_no_request_of_an_application() {
    with_both_drivers(|driver| {
        let server = site(driver).start();
        let mut pids = vec![server.pid()];
        let (stop, posted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mut upgrade = || {
            let _stop = Stop(&stop);
            for _ in 0..6 {
                let answered = posted.load(Ordering::Relaxed);
                pids.push(server.upgrade());
                eventually("the next one is asked", || posted.load(Ordering::Relaxed) > answered + 20);
            }
        };
        let mut of_threads = None;
        let load = under_load_of(&server, "/size", "0 bytes", || {
            of_threads = Some(under_load_of(&server, "/threads/size", "0 bytes", || {
                std::thread::scope(|scope| {
                    (0..2).for_each(|_| drop(scope.spawn(|| keep_posting(&server, &stop, &posted))));
                    upgrade();
                });
            }));
        });
        load.assert_all_well(300);
        of_threads.expect("it was asked").assert_all_well(300);
        let last = pids.pop().expect("the last one");
        eventually("those before end", || pids.iter().all(|pid| has_ended(*pid)));
        assert_eq!(server.connect().ask(get("/pid")).text(), last.to_string(), "{driver:?}");
        assert_eq!(server.metric("one_server_app_worker_panics_total", ""), 0.0, "{driver:?}");
    });
}

#[test]
fn what_an_application_has_begun_is_finished_by_the_process_before() {
    with_both_drivers(|driver| {
        let server = site(driver).start();
        let before = server.pid();
        let half = |path: &str| {
            let mut client = server.connect();
            client.send(request("POST", path, &["Content-Length: 10"], "")).send("12345");
            client
        };
        let (mut upload, mut of_threads) = (half("/pid"), half("/threads/pid"));
        let mut slow = server.connect();
        slow.send(get("/slow?ms=2500"));
        let mut streamed = server.connect();
        streamed.send(get("/trickle?ms=300"));
        eventually("all are with the application", || server.metric("one_server_app_requests_active", "") == 4.0);
        let after = server.upgrade();
        assert_eq!(server.connect().ask(get("/pid")).text(), after.to_string(), "{driver:?}: it serves");
        assert_eq!(server.connect().ask(get("/threads/pid")).text(), after.to_string(), "{driver:?}: it serves");
        for client in [&mut upload, &mut of_threads] {
            let answer = client.send("67890").response("POST");
            assert_eq!((answer.status, answer.text()), (200, before.to_string()), "{driver:?}");
            // A connection that is idle from now on is answered once more, as any other one.
            let next = client.ask(get("/pid"));
            assert_eq!((next.text(), next.is_last()), (before.to_string(), true), "{driver:?}");
            assert_eq!(client.end(), End::Closed, "{driver:?}");
        }
        assert_eq!(slow.response("GET").text(), "slow", "{driver:?}");
        drop(slow);
        let answer = streamed.response("GET");
        assert_eq!((answer.status, answer.body.len()), (200, 10 * 16 * 1024), "{driver:?}");
        drop(streamed);
        let done = Instant::now();
        eventually("it ends when it has nothing left", || has_ended(before));
        assert!(done.elapsed().as_secs() < 8, "{driver:?}: long before `drain_timeout`: {:?}", done.elapsed());
    });
}

/// An open socket at `path` on a connection of HTTP/1.1.
fn open(server: &Server, path: &str) -> Client {
    let fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY];
    let mut client = server.connect();
    client.send(request("GET", path, &fields, ""));
    assert_eq!(client.response("GET").status, 101, "{path}");
    client
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A message, masked with zeros (RFC 6455 section 5.2).
fn message(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// What an application says that heeds the drain: a close frame with the code 1001.
const CLOSE: &[u8] = b"\x88\x0a\x03\xe9draining";

#[test]
fn open_sockets_hear_of_it_and_are_served_to_their_end() {
    with_both_drivers(|driver| {
        let server = site(driver).start();
        let before = server.pid();
        let (mut heeds, mut talks) = (open(&server, "/heeds"), open(&server, "/echo"));
        let mut echo = |text: &str| {
            talks.send(message(text));
            let back = [&[0x81, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(talks.take(back.len()), back, "{driver:?}");
        };
        echo("before");
        assert!(heeds.buffered().is_empty(), "{driver:?}");
        server.upgrade();
        assert_eq!(heeds.take(CLOSE.len()), CLOSE, "{driver:?}: it is told");
        heeds.send(b"\x88\x82\0\0\0\0\x03\xe9");
        assert_eq!(heeds.end(), End::Closed, "{driver:?}");
        // One that does not heed has the process before to itself, which waits for it.
        echo("behind");
        let mut next = open(&server, "/echo");
        next.send(message("new"));
        assert_eq!(next.take(5), b"\x81\x03new", "{driver:?}");
        let sockets = || server.connect().ask(get("/open")).text();
        assert_eq!(sockets(), "1", "{driver:?}: the process that serves has the new one alone");
        assert!(!has_ended(before), "{driver:?}: it has a socket");
        echo("still");
        talks.send(b"\x88\x82\0\0\0\0\x03\xe8");
        drop(talks.read_to_end());
        eventually("it ends with its last socket", || has_ended(before));
        next.send(message("on"));
        assert_eq!(next.take(4), b"\x81\x02on", "{driver:?}");
    });
}

/// The same where a socket is one stream of a connection, which is told to begin no more.
#[test]
fn sockets_in_streams_hear_of_it_and_are_served_to_their_end() {
    if python().is_none() {
        return;
    }
    let connect = |name: &str, path: &str| {
        let fields = [["sec-websocket-version", "13"]];
        let how =
            json!({ "method": "CONNECT", "protocol": "websocket", "fields": fields, "ends": false, "waits": false });
        ask_with(name, path, how)
    };
    with_both_drivers(|driver| {
        for version in [Version::Http2, Version::Http3] {
            let server = site(driver).start();
            let before = server.pid();
            let upload = json!({ "method": "POST", "content": "12345", "ends": false, "waits": false });
            let steps = json!([
                connect("heeds", "/heeds"),
                wait_for_head("heeds"),
                connect("talks", "/raw"),
                wait_for("talks", 6),
                ask_with("upload", "/pid", upload),
                signal("open"),
                wait_for("heeds", CLOSE.len()),
                last("heeds", ""),
                last("upload", "67890"),
                wait("upload"),
                signal("told"),
                last("talks", "and on"),
                wait("talks"),
            ]);
            let mut client = begin(&server, version, steps);
            client.wait_for("open");
            eventually("the upload is with the application", || {
                server.metric("one_server_app_requests_active", "") == 1.0
            });
            server.upgrade();
            client.go_on();
            client.wait_for("told");
            assert!(!has_ended(before), "{driver:?} {version:?}: it has a socket");
            client.go_on();
            let seen = client.end();
            let content = |name: &str| seen.answer(name).content();
            assert_eq!(content("heeds"), CLOSE, "{driver:?} {version:?}");
            assert_eq!(content("upload"), before.to_string().as_bytes(), "{driver:?} {version:?}");
            assert_eq!(content("talks"), b"hello and onbye", "{driver:?} {version:?}");
            assert!(seen.answer("talks").is_whole(), "{driver:?} {version:?}");
            eventually("it ends with its last socket", || has_ended(before));
        }
    });
}

/// One that never ends by itself has `drain_timeout`, as a download has.
#[test]
fn a_socket_that_does_not_heed_ends_with_the_drain() {
    with_both_drivers(|driver| {
        let control = "control = \"$DIR/ctl.sock\"\ndrain_timeout = \"2s\"";
        let server = Site::probe(driver, SITE).process(control).start();
        let before = server.pid();
        let mut deaf = open(&server, "/deaf");
        server.upgrade();
        let begun = Instant::now();
        eventually("its time is up", || has_ended(before));
        assert!((1..15).contains(&begun.elapsed().as_secs()), "{driver:?}: {:?}", begun.elapsed());
        assert!(deaf.read_to_end().0.is_empty(), "{driver:?}");
        assert_eq!(server.connect().ask(get("/size")).text(), "0 bytes", "{driver:?}");
    });
}
