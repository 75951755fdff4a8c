//! What `/metrics` says by listener, route and server: requests by class, bytes, time; the same after a reload that changes
//! the order of everything.

mod support;

use support::http2::{H2Client, Over, block_on};
use support::upstream::Then;
use support::{FakeUpstream, Response, Server, Site, eventually, get, post, with_both_drivers};

const NAMES: [&str; 3] = ["responses_total", "received_bytes_total", "sent_bytes_total"];

/// Requests with this class of answer, bytes in, bytes out, and the number of times measured.
fn row(server: &Server, prefix: &str, labels: &str, class: &str) -> (f64, f64, f64, f64) {
    let [responses, received, sent] = NAMES.map(|name| format!("one_server_{prefix}_{name}"));
    let with_class = format!("{labels},code=\"{class}\"");
    let count = format!("one_server_{prefix}_request_duration_seconds_count");
    (
        server.metric(&responses, &with_class),
        server.metric(&received, labels),
        server.metric(&sent, labels),
        server.metric(&count, labels),
    )
}

/// Bytes of an answer on the wire.
fn bytes(answer: &Response, reason: &str) -> usize {
    let line = format!("HTTP/1.1 {} {reason}\r\n", answer.status).len();
    line + answer.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 2 + answer.body.len()
}

#[test]
fn listeners_routes_and_servers_have_their_own_numbers() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange
                .send("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 10\r\n\r\n0123456789");
            Then::Keep
        });
        let api = "[[site.main.route]]\npath = \"/api\"\nproxy = \"u\"\n";
        let here = "[[site.main.route]]\nexact = \"/here\"\nrespond = { status = 404, body = \"no\" }\n";
        let head = format!(
            "[upstream.u]\nservers = [\"{}\"]\nhealth = false\n[site.main]\ndefault = true\n",
            upstream.address
        );
        let rest = format!("{head}{api}{here}[[site.main.route]]\npath = \"/never\"\nrespond = {{}}\n");
        let site = Site::new(driver, &rest).process("control = \"$DIR/ctl.sock\"").secure("");
        let server = site.start();
        let mut client = server.connect();
        let (asked, posted) = (get("/here"), post("/api", "12345"));
        let refused = client.ask(&asked);
        let answers = [client.ask(&posted), client.ask(&posted)];
        let there = format!("upstream=\"u\",server=\"{}\"", upstream.address);
        let (route, exact) = ("site=\"main\",route=\"/api\"", "site=\"main\",route=\"=/here\"");
        eventually("the last one is counted", || row(&server, "listener", "listener=\"web\"", "2xx").0 == 2.0);
        let sent: usize = answers.iter().map(|answer| bytes(answer, "OK")).sum();
        let expect = (2.0, 2.0 * posted.len() as f64, sent as f64, 2.0);
        assert_eq!(row(&server, "route", route, "2xx"), expect, "{driver:?}");
        let (_, received, left, count) = row(&server, "listener", "listener=\"web\"", "4xx");
        let others = bytes(&refused, "Not Found") as f64;
        assert_eq!((received, left, count), (expect.1 + asked.len() as f64, expect.2 + others, 3.0), "{driver:?}");
        assert_eq!(row(&server, "route", exact, "4xx").0, 1.0);
        assert_eq!(row(&server, "upstream", &there, "2xx"), expect, "{driver:?}");
        assert!(!server.admin("/metrics").contains("route=\"/never\""), "no rows for routes without requests");
        assert_eq!(server.metric("one_server_listener_connections_accepted_total", "listener=\"web\""), 1.0);
        block_on(async {
            let client = H2Client::connect(&server, Over::Tls).await;
            client.get("/api").await;
        });
        eventually("it is counted", || row(&server, "listener", "listener=\"secure\"", "2xx").0 == 1.0);
        // Another order, other indexes: the same numbers.
        server.reload_with(&[(
            &format!("{api}{here}"),
            &format!("[[site.main.route]]\npath = \"/new\"\nrespond = {{}}\n{here}{api}"),
        )]);
        assert_eq!(row(&server, "route", route, "2xx").0, 3.0, "{driver:?}");
        assert_eq!(row(&server, "route", exact, "4xx").0, 1.0);
        client.ask(&asked);
        eventually("it goes on", || row(&server, "route", exact, "4xx").0 == 2.0);
    });
}
