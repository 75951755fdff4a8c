//! What an in-process application knows of its requests and their connections, and when a request is stopped because its
//! client has left, over each version of HTTP: `examples/probe_app` run as a process.

mod support;

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::timed;
use support::http3::{ask_with, python, run as run_http3};
use support::load::under_load_of;
use support::tls::{TlsClient, client_config_with, trusted};
use support::websocket::{Version, begin, signal};
use support::*;

const SITE: &str =
    "[site.main]\n[[site.main.route]]\npath = \"/\"\napp = \"probe\"\n[app.probe]\nresponse_timeout = \"35s\"\n";

/// What `/info` says of `name`.
fn told<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn check(text: &str, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(told(text, name), Some(*value), "{name}:\n{text}");
    }
}

#[test]
fn an_application_knows_client_connection_and_deadline() {
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).start();
        let mut client = server.connect();
        let own = format!("Some({})", client.stream.local_addr().expect("an address"));
        for _ in 0..2 {
            let text = client.ask(get("/info")).text();
            check(
                &text,
                &[
                    ("client", &own),
                    ("connect-info", &own),
                    ("peer", &own),
                    ("local", &format!("Some({})", server.web())),
                    ("https", "false"),
                    ("spoken", "HTTP/1.1"),
                    ("seconds-left", "35"),
                ],
            );
            assert_eq!(told(&text, "tls"), None, "{driver:?}:\n{text}");
        }
        let text = client.ask(request("GET", "/info", &["X-Request-Id: 00000000000000ab"], "")).text();
        check(&text, &[("id", "00000000000000ab"), ("field x-request-id:", "00000000000000ab")]);
    });
}

#[test]
fn proxies_in_front_tell_who_the_client_is() {
    let more = "[listener.behind]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                [listener.told]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n";
    with_both_drivers(|driver| {
        let server = Site::probe(driver, SITE).more(more).start();
        let mut client = Client::connect(server.address("behind"));
        let own = format!("Some({})", client.stream.local_addr().expect("an address"));
        let fields = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https"];
        let text = client.ask(request("GET", "/info", &fields, "")).text();
        let told = [("client", "Some(203.0.113.9:0)"), ("connect-info", "Some(203.0.113.9:0)"), ("https", "true")];
        check(&text, &told);
        check(&text, &[("peer", &own)]);

        let mut client = Client::connect(server.address("told"));
        client.send("PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n");
        let text = client.ask(get("/info")).text();
        let address = "Some(198.51.100.7:4711)";
        check(&text, &[("client", address), ("connect-info", address), ("peer", address)]);
        check(&text, &[("local", "Some(192.0.2.1:443)"), ("https", "false")]);

        // A client without an address has none to be told.
        let mut client = Client::connect(server.address("told"));
        let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8"[..], &[b'x'; 216]].concat();
        client.stream.write_all(&unix).expect("it is taken");
        let text = client.ask(get("/info")).text();
        check(&text, &[("client", "None"), ("connect-info", "None"), ("peer", "None"), ("local", "None")]);
    });
}

#[test]
fn an_application_knows_the_tls_session_over_all_versions() {
    with_both_drivers(|driver| {
        let client = trusted().client("jo");
        let server = Site::probe(driver, SITE)
            .identity("client", &client)
            .secure("http3 = true\ntls.client_certificates = \"optional\"\ntls.client_ca = \"$DIR/ca.pem\"")
            .start();
        let info = "GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut nobody = TlsClient::connect(server.address("secure"));
        let text = nobody.ask(info).text();
        let session = "TLSv1.3 TLS_AES_256_GCM_SHA384 Some(\"localhost\") Some(\"http/1.1\")";
        check(&text, &[("tls", session), ("subject", "None"), ("https", "true"), ("spoken", "HTTP/1.1")]);
        let config = client_config_with(&[], Some(&client));
        let mut jo = TlsClient::connect_with(server.address("secure"), "localhost", config).expect("a handshake");
        for _ in 0..2 {
            let text = jo.ask(info).text();
            check(&text, &[("tls", &session.replace("Some(\"http/1.1\")", "None")), ("subject", "Some(\"CN=jo\")")]);
        }
        if python().is_none() {
            return;
        }
        let ask = json!([ask_with("info", "/info", json!({ "authority": "localhost" }))]);
        let seen = begin(&server, Version::Http2, ask.clone()).end();
        let session = "TLSv1.3 TLS_AES_256_GCM_SHA384 Some(\"localhost\") Some(\"h2\")";
        check(&seen.answer("info").text(), &[("tls", session), ("spoken", "HTTP/2.0"), ("https", "true")]);
        let folder = server.folder();
        let settings = json!({ "certificate": folder.join("client.pem"), "key": folder.join("client.key") });
        let text = run_http3(&server, settings, ask).answer("info").text();
        let session = "TLSv1.3 TLS_AES_256_GCM_SHA384 Some(\"localhost\") Some(\"h3\")";
        check(&text, &[("tls", session), ("spoken", "HTTP/3.0"), ("subject", "Some(\"CN=jo\")")]);
        check(&text, &[("local", &format!("Some({})", server.address("secure")))]);
    });
}

/// One stream of many on a connection: nothing but its own request may end with it.
#[test]
fn a_stream_that_is_reset_stops_its_request_alone() {
    if python().is_none() {
        return;
    }
    with_both_drivers(|driver| {
        for version in [Version::Http2, Version::Http3] {
            let server =
                Site::probe(driver, SITE).one_worker().process("app_concurrency = 2").secure("http3 = true").start();
            let worker = |name: &str| server.metric(&format!("one_server_app_worker_{name}"), "");
            let active = || server.metric("one_server_app_requests_active", "");
            let waits = |name: &str, path: &str| ask_with(name, path, json!({ "waits": false }));
            // RFC 9114 section 4.1.1: of a request that is complete, the answer is what is given up.
            let give_up = if version == Version::Http2 { "reset" } else { "stop" };
            let reset = |name: &str| json!({ "op": give_up, "name": name });
            let steps = json!([
                waits("stays", "/slow?ms=3000"),
                waits("runs", "/slow?ms=60000"),
                signal("two"),
                waits("queued", "/count"),
                signal("three"),
                reset("queued"),
                signal("given up"),
                reset("runs"),
                signal("stopped"),
                waits("streams", "/trickle?ms=100"),
                { "op": "wait", "name": "streams", "length": 1 },
                reset("streams"),
                signal("cut"),
                ask_with("after", "/size", json!({})),
                { "op": "wait", "name": "stays" },
            ]);
            let mut client = begin(&server, version, steps);
            let is = |what: &str| format!("{driver:?} {version:?}: {what}");
            client.wait_for("two");
            eventually(&is("both run"), || worker("running") == 2.0);
            client.go_on();
            client.wait_for("three");
            eventually(&is("the third one waits"), || active() == 3.0);
            client.go_on();
            client.wait_for("given up");
            eventually(&is("it does not wait any more"), || active() == 2.0);
            assert_eq!(worker("requests_total"), 2.0, "{driver:?} {version:?}: it has not run");
            client.go_on();
            client.wait_for("stopped");
            eventually(&is("one goes on"), || worker("running") == 1.0 && active() == 1.0);
            client.go_on();
            client.wait_for("cut");
            eventually(&is("the stream ends"), || worker("running") <= 1.0 && worker("requests_total") == 3.0);
            client.go_on();
            let seen: support::http3::Seen = client.end();
            assert_eq!(seen.answer("stays").text(), "slow", "{driver:?} {version:?}");
            assert_eq!(seen.answer("after").text(), "0 bytes", "{driver:?} {version:?}");
            eventually(&is("nothing runs"), || worker("running") == 0.0 && active() == 0.0);
            // Two that ran, one that did not: all three were thrown away by the worker.
            eventually(&is("they are counted"), || worker("cancelled_total") == 3.0);
            assert_eq!(server.metric("one_server_app_cancelled_total", ""), 2.0, "{driver:?} {version:?}");
            assert_eq!(worker("panics_total") + worker("restarts_total"), 0.0);
        }
    });
}

/// The other side of `a_client_that_leaves_stops_its_running_request` in tests/apps.rs: whole connections.
#[test]
fn a_connection_that_ends_stops_all_its_requests() {
    if python().is_none() {
        return;
    }
    with_both_drivers(|driver| {
        for version in [Version::Http2, Version::Http3] {
            let server = Site::probe(driver, SITE).secure("http3 = true").start();
            let running = || server.metric("one_server_app_worker_running", "");
            let ask = |n: usize| ask_with(&n.to_string(), "/slow?ms=60000", json!({ "waits": false }));
            let mut steps: Vec<Value> = (0..5).map(ask).collect();
            steps.push(signal("all"));
            let mut client = begin(&server, version, Value::Array(steps));
            client.wait_for("all");
            eventually("all run", || running() == 5.0);
            client.go_on();
            drop(client.end());
            eventually(&format!("{driver:?} {version:?}: none runs"), || running() == 0.0);
        }
    });
}

/// What a client takes to send its body is not the application's time.
#[test]
fn an_upload_may_take_longer_than_the_application_has_for_its_answer() {
    let text = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }]\n[app.probe]\nresponse_timeout = \"600ms\"\n";
    with_both_drivers(|driver| {
        let server = Site::probe(driver, text).start();
        let mut client = server.connect();
        client.send(request("POST", "/size", &["Content-Length: 100000"], ""));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(400));
            client.send("x".repeat(20_000));
        }
        let answer = client.response("POST");
        assert_eq!((answer.status, answer.text().as_str()), (200, "100000 bytes"), "{driver:?}");
        assert_eq!(client.ask(get("/slow?ms=5000")).status, 504, "{driver:?}: that is");
    });
}

/// Nobody waits for its answer any more: what it would do is not done either.
#[test]
fn a_request_whose_time_is_up_before_its_turn_is_not_run() {
    let text = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }]\n[app.probe]\nresponse_timeout = \"500ms\"\n";
    with_both_drivers(|driver| {
        let server = Site::probe(driver, text).one_worker().process("app_concurrency = 1").start();
        let ledger = || std::fs::read_to_string(server.folder().join("ledger")).unwrap_or_default();
        let worker = |name: &str| server.metric(&format!("one_server_app_worker_{name}"), "");
        let mut blocks = server.connect();
        blocks.send(get("/block?ms=1500"));
        eventually("it runs", || worker("running") == 1.0);
        let (answer, took) = timed(|| server.connect().ask(post("/ledger?id=1", "x")));
        assert_eq!(answer.status, 504, "{driver:?}");
        assert!(took < Duration::from_millis(1300), "{driver:?}: {took:?}, before the other one is done");
        assert_eq!(blocks.response("GET").status, 504, "{driver:?}");
        // Behind it in the queue.
        eventually("the worker is free", || server.connect().ask(post("/ledger?id=2", "x")).status == 200);
        assert_eq!(ledger().lines().filter(|line| *line == "1").count(), 0, "{driver:?}: {}", ledger());
        assert!(ledger().contains('2') && worker("cancelled_total") >= 1.0, "{driver:?}");
    });
}

/// A reload changes what applications may do, and a drain lets them finish: neither costs a request.
#[test]
fn reloads_and_the_drain_cost_no_request_of_an_application() {
    let text = "[site.main]\nroute = [{ path = \"/\", app = \"probe\" }]\n[app.probe]\nrequests_max = 100\n";
    with_both_drivers(|driver| {
        let site = Site::probe(driver, text).process("drain_timeout = \"10s\"");
        let mut server = site.process("control = \"$DIR/ctl.sock\"").start();
        let load = under_load_of(&server, "/size", "0 bytes", || {
            for limit in 100..105 {
                server.reload_with(&[(&format!("requests_max = {limit}"), &format!("requests_max = {}", limit + 1))]);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        load.assert_all_well(100);
        let mut client = server.connect();
        client.send(get("/slow?ms=1500"));
        eventually("it runs", || server.metric("one_server_app_requests_active", "") == 1.0);
        server.signal(Signal::QUIT);
        let answer = client.response("GET");
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow"), "{driver:?}");
        assert!(server.wait().success(), "{driver:?}");
    });
}
