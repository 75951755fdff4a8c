//! `total_timeout`: no request takes longer than that, whatever a server does with its time; and nothing that was under way for
//! it is left behind.

mod support;

use std::time::Duration;

use support::client::timed;
use support::http2::{H2Client, Over, ask, block_on};
use support::upstream::Then;
use support::{Client, Driver, End, FakeUpstream, Server, Site, eventually, get, with_both_drivers};

const TOTAL: Duration = Duration::from_millis(400);

/// `/slow` never answers, `/dribble` goes on for ever, `/large` has much to say.
fn upstream() -> FakeUpstream {
    FakeUpstream::start(|exchange| {
        exchange.read_body();
        match exchange.request.target.clone().as_str() {
            "/slow" => {
                exchange.wait_for_close();
            }
            "/dribble" => {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while exchange.send("1\r\nx\r\n") {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            "/large" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                while exchange.send([b'x'; 65536]) {}
            }
            _ => return exchange.ok("quick"),
        }
        Then::Close
    })
}

fn start(driver: Driver, upstream: &FakeUpstream) -> Server {
    let rest = format!(
        "[upstream.u]\nservers = [\"{}\"]\nhealth = false\ntotal_timeout = \"400ms\"\nkeep_idle_timeout = \"50ms\"\n\
         [site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"u\"\n",
        upstream.address
    );
    Site::new(driver, &rest).secure("").start()
}

#[test]
fn whatever_a_server_does_with_its_time() {
    with_both_drivers(|driver| {
        let upstream = upstream();
        let server = start(driver, &upstream);
        let mut client = server.connect();
        let (answer, time) = timed(|| client.ask(get("/slow")));
        assert_eq!(answer.status, 504, "{driver:?}");
        assert!(time >= TOTAL && time < 5 * TOTAL, "{driver:?}: {time:?}");
        assert_eq!(client.ask(get("/quick")).text(), "quick", "{driver:?}: the client's connection goes on");
        drop(client);
        let mut client = server.connect();
        client.send(get("/dribble"));
        let ((bytes, end), time) = timed(|| client.read_to_end());
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK") && !bytes.ends_with(b"0\r\n\r\n"), "{driver:?}: never completed");
        assert!(time >= TOTAL && time < 5 * TOTAL, "{driver:?}: {time:?} {end:?}");
        // A client that takes nothing holds it up no longer, either.
        let mut stalled = Client::with_small_window(server.web());
        stalled.send(get("/large"));
        upstream.wait_until_all_closed();
        assert!(matches!(stalled.read_to_end().1, End::Reset | End::Closed), "{driver:?}");
        server.wait_for_line("the warning", |line| line.contains("given up behind total_timeout"));
        drop((client, stalled));
        eventually("no request is left", || server.metric("one_server_upstream_requests_active", "") == 0.0);
        eventually("no connection is left", || server.metric("one_server_http_connections", "") == 0.0);
    });
}

#[test]
fn over_http2_a_stream_is_reset_and_the_others_go_on() {
    with_both_drivers(|driver| {
        let upstream = upstream();
        let server = start(driver, &upstream);
        block_on(async {
            let client = H2Client::connect(&server, Over::Tls).await;
            assert_eq!(client.get("/slow").await.status, 504, "{driver:?}");
            assert!(
                client.try_ask(ask("GET", "/dribble", &[]), b"").await.is_err(),
                "{driver:?}: a stream that is broken off"
            );
            assert_eq!(client.get("/quick").await.text(), "quick", "{driver:?}");
        });
        upstream.wait_until_all_closed();
    });
}
