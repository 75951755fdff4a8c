//! The proxy at the real binary, one server behind it: heads, bodies, streaming both ways, and what a misbehaving
//! server must not do to a client. Source: RFC 9110 (sections 7.6, 9.2.2, 15.2), RFC 9112 (sections 6, 8, 9).

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::client::{NoResponse, timed};
use support::http2::{H2Client, Over, block_on};
use support::tools::values;
use support::upstream::Then;
use support::*;

fn site_with(address: SocketAddr, keys: &str) -> String {
    format!(
        "[site.main]\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n\
         [upstream.up]\nservers = \"{address}\"\nhealth = false\n{keys}\n"
    )
}

fn start(driver: Driver, upstream: &FakeUpstream, keys: &str) -> Server {
    Site::new(driver, &site_with(upstream.address, keys)).http("body_max = 0").start()
}

#[test]
fn hop_by_hop_fields_end_here_and_the_others_pass() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: 2\r\nSet-Cookie: a=1\r\n\
                 Set-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nok",
            );
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let fields = [
            "Connection: keep-alive, X-Hop, HTTP2-Settings, X-Forwarded-For, Host, Authorization",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: deflate",
            "Trailer: X-T",
            "Upgrade: websocket, h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "Authorization: Basic eDp5",
            "Cookie: a=1",
            "Cookie: b=2",
            "X-End: 1",
            "Accept-Encoding: gzip",
        ];
        let response = server.connect().ask(request("POST", "/path%20x?q=%2F", &fields, "body"));
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/path%20x?q=%2F"), "{driver:?}");
        assert_eq!(seen.body, b"body", "{driver:?}");
        for gone in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect"] {
            assert!(seen.values(gone).is_empty(), "{driver:?} {gone}: {:?}", seen.fields);
        }
        assert!(
            seen.values("connection").iter().all(|value| !value.to_lowercase().contains("x-")),
            "{:?}",
            seen.fields
        );
        // Fields that we set, or that are the client's credentials, are not removed on the client's say-so.
        assert_eq!(seen.field("host"), Some("test"), "{driver:?}");
        assert_eq!(seen.field("authorization"), Some("Basic eDp5"), "{driver:?}");
        assert_eq!((seen.field("x-end"), seen.field("accept-encoding")), (Some("1"), Some("gzip")), "{driver:?}");
        assert_eq!(seen.values("cookie").join("; "), "a=1; b=2", "{driver:?}");
        for gone in ["x-hop", "keep-alive", "upgrade"] {
            assert_eq!(response.field(gone), None, "{driver:?}");
        }
        assert_eq!(response.field("x-end"), Some("2"), "{driver:?}");
        let cookies: Vec<&str> = response
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, v)| v.as_str())
            .collect();
        assert_eq!(cookies, ["a=1", "b=2"], "{driver:?}");
        assert!(response.field("date").is_some(), "{driver:?}");
    });
}

#[test]
fn the_server_is_told_who_asks() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok("ok"));
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        client.ask(request("GET", "/", &[], ""));
        let seen = upstream.last();
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"), "{driver:?}");
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"), "{driver:?}");
        assert_eq!(seen.field("x-forwarded-host"), Some("test"), "{driver:?}");
        let port = server.web().port().to_string();
        assert_eq!(seen.field("x-forwarded-port"), Some(port.as_str()), "{driver:?}");
        let id = seen.field("x-request-id").expect("an identifier").to_owned();
        // What an untrusted client claims is at most the left part of the list.
        client.ask(request("GET", "/", &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"], ""));
        let seen = upstream.last();
        let list = seen.values("x-forwarded-for").join(", ");
        assert!(list.ends_with("127.0.0.1"), "{driver:?}: {list}");
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"), "{driver:?}");
        assert_ne!(seen.field("x-request-id"), Some(id.as_str()), "{driver:?}");
    });
}

#[test]
fn bodiless_answers_are_relayed_without_framing() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let answer = match exchange.request.target.as_str() {
                "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                "/204te" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: \"x\"\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "/headchunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/0" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            exchange.send(answer);
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        let mut client = server.connect();
        for (method, path, status) in [
            ("GET", "/204", 204),
            ("GET", "/204te", 204),
            ("GET", "/304", 304),
            ("HEAD", "/head", 200),
            ("HEAD", "/headchunked", 200),
            ("GET", "/0", 200),
        ] {
            let response = client.ask(request(method, path, &[], ""));
            assert_eq!((response.status, response.body.len()), (status, 0), "{driver:?} {path}");
            if path == "/head" {
                assert_eq!(response.field("content-length"), Some("12345"), "{driver:?}");
            }
            // The connection is at a message boundary.
            if response.is_last() {
                client = server.connect();
            }
            assert_eq!(client.ask(get("/")).text(), "ok", "{driver:?} {path}");
        }
    });
}

#[test]
fn interim_answers_pass_to_those_who_know_them() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
            exchange.ok("done")
        });
        let server = start(driver, &upstream, "");
        let response = server.connect().ask(get("/"));
        assert_eq!(response.text(), "done", "{driver:?}");
        assert!(response.interim.contains(&103), "{driver:?}: {:?}", response.interim);
        let response = server.connect().ask("GET / HTTP/1.0\r\n\r\n");
        assert_eq!((response.text().as_str(), response.interim.len()), ("done", 0), "{driver:?}: 1.0 knows no 1xx");
    });
}

#[test]
fn a_tunnel_nobody_asked_for_is_not_opened() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw bytes");
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "");
        let response = server.connect().ask(get("/"));
        assert_eq!(response.status, 502, "{driver:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn bodies_of_every_framing_arrive_in_every_version() {
    with_both_drivers(|driver| {
        let body = Arc::new(pattern(200_000));
        let content = body.clone();
        let upstream = FakeUpstream::start(move |exchange| {
            let body = content.as_slice();
            match exchange.request.target.as_str() {
                "/length" => {
                    exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                    exchange.send(body);
                }
                "/chunked" | "/both" => {
                    let extra = if exchange.request.target == "/both" { "Content-Length: 3\r\n" } else { "" };
                    exchange.send(format!("HTTP/1.1 200 OK\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"));
                    for piece in body.chunks(9_999) {
                        exchange.send(format!("{:X};ext=1\r\n", piece.len()));
                        exchange.send(piece);
                        exchange.send("\r\n");
                    }
                    exchange.send("0\r\nX-Trailer: 1\r\n\r\n");
                }
                "/bytewise" => {
                    exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let text = b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
                    exchange.dribble(text, 1, Duration::from_millis(1));
                }
                _ => {
                    exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                    exchange.send(body);
                    return Then::Close;
                }
            }
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        for path in ["/length", "/chunked", "/both", "/close", "/bytewise"] {
            for version in ["1.1", "1.0"] {
                let mut client = server.connect();
                let response = client.ask(format!("GET {path} HTTP/{version}\r\nHost: test\r\n\r\n"));
                let expected = if path == "/bytewise" { b"hello!" } else { body.as_slice() };
                assert!(response.body == expected, "{driver:?} {path} {version}: {} bytes", response.body.len());
                assert!(response.field("x-trailer").is_none());
                if version == "1.0" {
                    assert!(response.is_last() && response.field("transfer-encoding").is_none(), "{driver:?} {path}");
                    assert_eq!(client.end(), End::Closed, "{driver:?} {path}");
                }
            }
        }
    });
}

/// RFC 9112 section 8: an incomplete message must not look complete to the client.
#[test]
fn a_truncated_answer_breaks_the_clients_connection() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let target = exchange.request.target.clone();
            let (head, sent) = match target.rsplit('/').next().unwrap_or_default() {
                "length" => ("Content-Length: 100000", "x".repeat(50_000)),
                "chunk" => ("Transfer-Encoding: chunked", format!("1000\r\n{}", "x".repeat(100))),
                "between" => ("Transfer-Encoding: chunked", "5\r\nhello\r\n".to_owned()),
                "last" => ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n".to_owned()),
                _ => ("Transfer-Encoding: chunked", "5\r\nhello\r\nzz\r\n".to_owned()),
            };
            exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{sent}"));
            if target.starts_with("/reset") {
                std::thread::sleep(Duration::from_millis(50));
                return exchange.reset();
            }
            Then::Close
        });
        let server = start(driver, &upstream, "");
        for how in ["/close", "/reset"] {
            for what in ["length", "chunk", "between", "last", "bad"] {
                let mut client = server.connect();
                let result = client.send(get(&format!("{how}/{what}"))).try_response("GET");
                let ended = match &result {
                    Err(NoResponse::Ended(_, bytes)) => !bytes.ends_with(b"0\r\n\r\n"),
                    Ok(response) => response.status == 502,
                    Err(_) => false,
                };
                assert!(ended, "{driver:?} {how}/{what}: {result:?}");
                // A client of HTTP/1.0 can tell only by a reset.
                let mut client = server.connect();
                client.send(format!("GET {how}/{what} HTTP/1.0\r\n\r\n"));
                let (bytes, end) = client.read_to_end();
                let told = end == End::Reset || bytes.starts_with(b"HTTP/1.1 502") || what == "length";
                assert!(told, "{driver:?} {how}/{what}: {end:?} after {} bytes", bytes.len());
            }
        }
        upstream.wait_until_all_closed();
    });
}

#[test]
fn malformed_answers_are_502() {
    let answers: &[&str] = &[
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA",
    ];
    with_both_drivers(|driver| {
        for answer in answers {
            let upstream = FakeUpstream::start(move |exchange| {
                exchange.send(answer);
                Then::Close
            });
            let server = start(driver, &upstream, "tries = 1");
            let mut client = server.connect();
            // What a coding other than chunked means for the length is told by the end of the connection (RFC 9112
            // section 6.3), so that one may also be passed on as it is.
            let response = client.ask(get("/"));
            let allowed = response.status == 502 || (answer.contains("gzip") && response.text() == "ok");
            assert!(allowed, "{driver:?} {answer:?}: {}", response.status);
        }
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\n");
            while exchange.send(format!("X: {}\r\n", "x".repeat(1000))) {}
            Then::Close
        });
        let server = start(driver, &upstream, "tries = 1");
        assert_eq!(server.connect().ask(get("/")).status, 502, "{driver:?}: an endless head");
    });
}

#[test]
fn bytes_behind_an_answer_never_become_the_next_one() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            let (real, poison) = (["Content-Length: 4\r\n\r\nreal", "Content-Length: 6\r\n\r\npoison"])
                .map(|rest| format!("HTTP/1.1 200 OK\r\n{rest}"))
                .into();
            match exchange.request.target.as_str() {
                "/at-once" => exchange.send(real + &poison),
                _ => {
                    exchange.send(real);
                    std::thread::sleep(Duration::from_millis(5));
                    exchange.send(poison)
                }
            };
            Then::Keep
        });
        let server = start(driver, &upstream, "");
        for n in 0..10 {
            for method in ["GET", "POST"] {
                for path in ["/at-once", "/later"] {
                    let text = server.connect().ask(request(method, path, &[], "")).text();
                    assert_eq!(text, "real", "{driver:?} {method} {path} {n}");
                    if path == "/later" {
                        // It must have arrived: what comes only after the next request has been sent looks like its
                        // answer to anybody.
                        std::thread::sleep(Duration::from_millis(40));
                    }
                }
            }
        }
    });
}

#[test]
fn a_server_that_is_too_slow_gets_504() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            if exchange.request.target == "/half" {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Le");
            }
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "response_timeout = \"400ms\"\ntries = 1");
        for (path, body) in [("/none", String::new()), ("/half", String::new()), ("/large", "x".repeat(100_000))] {
            let text = request(if body.is_empty() { "GET" } else { "POST" }, path, &[], &body);
            let (response, took) = timed(|| server.connect().ask(text));
            assert_eq!(response.status, 504, "{driver:?} {path}");
            assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(8), "{driver:?} {path}: {took:?}");
        }
        upstream.wait_until_all_closed();
    });
}

/// `response_timeout` counts from the last byte of the request.
#[test]
fn a_slow_upload_is_not_the_servers_fault() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| exchange.ok_with_size());
        let server = start(driver, &upstream, "response_timeout = \"300ms\"\ntries = 1");
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n");
        for _ in 0..3 {
            client.send([b'x'; 20_000]);
            std::thread::sleep(Duration::from_millis(700));
        }
        assert_eq!(client.response("POST").text(), "60000 bytes", "{driver:?}");
    });
}

#[test]
fn a_body_that_stops_half_way_breaks_the_connection() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            exchange.wait_for_close();
            Then::Close
        });
        let server = start(driver, &upstream, "idle_timeout = \"400ms\"");
        let mut client = server.connect();
        client.send(get("/"));
        let (result, took) = timed(|| client.try_response("GET"));
        assert!(matches!(result, Err(NoResponse::Ended(..))), "{driver:?}: {result:?}");
        assert!(took < Duration::from_secs(8), "{driver:?}: {took:?}");
        upstream.wait_until_all_closed();
    });
}

#[test]
fn servers_and_clients_are_told_of_the_hop_by_option() {
    with_both_drivers(|driver| {
        let upstream = FakeUpstream::start(|exchange| {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.0 inner\r\n\r\nok");
            Then::Keep
        });
        let rest = format!(
            "[upstream.u]\nservers = [\"{}\"]\nhealth = false\n[site.main]\ndefault = true\nvia = \"edge-1\"\n\
             [[site.main.route]]\npath = \"/\"\nproxy = \"u\"\nforwarded = true\n\
             [[site.main.route]]\npath = \"/plain\"\nproxy = \"u\"\nvia = \"\"\n",
            upstream.address
        );
        let server = Site::new(driver, &rest).secure("").start();
        let fields = ["Forwarded: for=\"open", "Via: 1.1 cdn"];
        let answer = server.connect().ask(request("GET", "/", &fields, ""));
        let seen = upstream.last();
        assert_eq!(seen.values("forwarded"), ["for=127.0.0.1;host=\"test\";proto=http"], "{driver:?}");
        assert_eq!(seen.values("via"), ["1.1 cdn", "1.1 edge-1"]);
        assert_eq!(values(&answer, "via"), ["1.0 inner", "1.1 edge-1"]);
        let answer = server.connect().ask(request("GET", "/plain", &fields, ""));
        assert_eq!(
            (upstream.last().values("forwarded"), upstream.last().values("via")),
            (vec!["for=\"open"], vec!["1.1 cdn"])
        );
        assert_eq!(values(&answer, "via"), ["1.0 inner"]);
        block_on(async {
            let client = H2Client::connect(&server, Over::Tls).await;
            client.get("/").await;
        });
        let seen = upstream.last();
        assert!(seen.field("forwarded").is_some_and(|value| value.ends_with(";proto=https")), "{seen:?}");
        assert_eq!(seen.values("via"), ["2 edge-1"]);
    });
}
