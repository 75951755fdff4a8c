//! The tarpit of the real binary: it holds up those who are in it, and nobody and nothing else.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::client::timed;
use support::frames::{self, Block, Http2, WHOLE};
use support::tls::TlsClient;
use support::*;

fn site(delay: &str) -> String {
    format!(
        "[site.main]\nerror_pages = {{ 418 = \"/teapot\" }}\n[[site.main.route]]\npath = \"/\"\nrespond = {{ body = \"root\" }}\n\
         [[site.main.route]]\npath = \"/trap\"\ntarpit = {{ delay = \"{delay}\" }}\n\
         [[site.main.route]]\npath = \"/tea\"\ntarpit = {{ delay = \"{delay}\", status = 418 }}\n\
         [[site.main.route]]\npath = \"/teapot\"\nrespond = {{ body = \"short and stout\" }}\n"
    )
}

fn held(server: &Server) -> f64 {
    server.metric("one_server_http_tarpit", "")
}

#[test]
fn an_answer_is_held_back_and_the_others_are_not() {
    with_both_drivers(|driver| {
        let log = "access = \"$DIR/access.log\"\nformat = \"$status $termination\"\n";
        let server = Site::new(driver, &site("1s")).one_worker().log(log).secure("").start();
        let mut first = server.connect();
        let mut second = Http2::connect(server.web());
        let mut third = TlsClient::connect(server.address("secure"));
        let begin = Instant::now();
        // An answer in front of it in a pipeline is not held back, nor is another stream.
        first.send(format!("{}{}{}", get("/"), get("/trap"), get("/")));
        second.send(frames::headers(1, WHOLE, &Block::get("/tea")));
        third.send(post("/trap", "a body"));
        assert_eq!(first.response("GET").text(), "root", "{driver:?}");
        assert_eq!(second.get(3, "/").text(), "root", "{driver:?}");
        eventually("three are held back", || held(&server) == 3.0);
        assert_eq!(server.connect().ask(get("/")).text(), "root", "{driver:?}");
        assert!(begin.elapsed() < Duration::from_millis(900), "{driver:?}: {:?}", begin.elapsed());
        let answer = second.answer(1);
        assert!(begin.elapsed() > Duration::from_millis(950), "{driver:?}: {:?}", begin.elapsed());
        assert_eq!((answer.status, answer.text().as_str()), (418, "short and stout"), "{driver:?}");
        assert_eq!(first.response("GET").status, 429, "{driver:?}");
        assert_eq!(first.response("GET").text(), "root", "{driver:?}: the connection stays");
        assert_eq!(third.response("POST").status, 429, "{driver:?}");
        assert_eq!(third.ask(get("/")).text(), "root", "{driver:?}");
        assert_eq!((held(&server), server.metric("one_server_http_tarpitted_total", "")), (0.0, 3.0), "{driver:?}");
        let log = || std::fs::read_to_string(server.folder().join("access.log")).unwrap_or_default();
        eventually("the log tells", || log().lines().filter(|line| line.ends_with(" PT")).count() == 3);
    });
}

#[test]
fn a_client_that_leaves_is_not_held() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, &site("1h")).start();
        for request in [get("/trap"), post("/trap", "a body that nobody reads meanwhile")] {
            let mut client = server.connect();
            client.send(&request);
            eventually("it is held", || held(&server) == 1.0);
            drop(client);
            server.wait_until_no_client();
            assert_eq!(held(&server), 0.0, "{driver:?}");
        }
        let mut client = Http2::connect(server.web());
        client.send(frames::headers(1, WHOLE, &Block::get("/trap")));
        eventually("it is held", || held(&server) == 1.0);
        client.send(frames::rst(1, frames::CANCEL));
        eventually("it is gone", || held(&server) == 0.0);
        client.assert_alive(3, "/");
    });
}

#[test]
fn beyond_so_many_the_answer_comes_at_once() {
    with_both_drivers(|driver| {
        let server = Site::new(driver, &site("1h")).process("tarpit_max = 3").start();
        let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        Client::send_all(&mut clients, &get("/trap"));
        eventually("three are held back", || held(&server) == 3.0);
        for _ in 0..4 {
            let (answer, took) = timed(|| server.connect().ask(get("/trap")));
            assert_eq!(answer.status, 429, "{driver:?}");
            assert!(took < Duration::from_secs(5), "{driver:?}: {took:?}");
        }
        assert_eq!(server.metric("one_server_http_tarpit_full_total", ""), 4.0, "{driver:?}");
        assert_eq!((held(&server), server.status()["http"]["tarpit"].as_u64()), (3.0, Some(3)), "{driver:?}");
        drop(clients.pop());
        eventually("a place is free", || held(&server) == 2.0);
        let mut next = server.connect();
        next.send(get("/trap"));
        next.assert_silent(Duration::from_millis(300));
    });
}

#[test]
fn a_drain_does_not_wait_for_it() {
    with_both_drivers(|driver| {
        let mut server = Site::new(driver, &site("1h")).process("drain_timeout = \"60s\"").start();
        let mut first = server.connect();
        first.send(get("/trap"));
        let mut second = Http2::connect(server.web());
        second.send(frames::headers(1, WHOLE, &Block::get("/trap")));
        eventually("two are held back", || held(&server) == 2.0);
        let begin = Instant::now();
        server.signal(Signal::QUIT);
        assert_eq!(first.response("GET").status, 429, "{driver:?}");
        assert_eq!(second.answer(1).status, 429, "{driver:?}");
        drop((first, second));
        assert!(server.wait().success(), "{driver:?}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{driver:?}: {:?}", begin.elapsed());
    });
}
