//! gRPC through us: calls of every kind come and go as if nobody were between, and an error of our own is one that a client
//! of gRPC reads. Server and client are grpcio's; nginx is asked the same. Source: gRPC's `PROTOCOL-HTTP2.md`.

mod support;

use std::time::Duration;

use support::frames::{self, Block, Http2};
use support::grpc::{self, GrpcServer};
use support::nginx::Nginx;
use support::tls::{Kind, trusted};
use support::*;

fn site(servers: &[std::net::SocketAddr], keys: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        "[site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"up\"\n[upstream.up]\nservers = [{}]\n\
         health = false\nprotocol = \"h2\"\n{keys}\n",
        servers.join(", ")
    )
}

fn start(driver: Driver, servers: &[std::net::SocketAddr], keys: &str) -> Server {
    Site::new(driver, &site(servers, keys))
        .one_worker()
        .http("body_max = 0")
        .process("control = \"$DIR/ctl.sock\"")
        .start()
}

/// A call by hand: the fields that its client would get, and whether they came with nothing behind.
fn by_hand(server: &Server, path: &str) -> frames::Frame {
    let mut client = Http2::connect(server.web());
    let head = Block::post(path).field("content-type", "application/grpc+proto").field("te", "trailers");
    client.send(frames::headers(1, frames::END_HEADERS, &head));
    client.send(frames::data(1, frames::END_STREAM, [0; 5]));
    loop {
        let frame = client.next().expect("an answer");
        if frame.kind == frames::HEADERS {
            return frame;
        }
    }
}

#[test]
fn every_kind_of_call_comes_and_goes_as_if_nobody_were_between() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    let expect = grpc::call(upstream.address, &["all"]);
    assert_eq!(expect.len(), 16, "{expect:?}");
    assert!(
        expect.iter().any(|line| line.starts_with("metadata: (b'echo:m', [('x-echo-head-a', 'one')")),
        "{expect:?}"
    );
    with_both_drivers(|driver| {
        let server = start(driver, &[upstream.address], "");
        assert_eq!(grpc::call(server.web(), &["all"]), expect, "{driver:?}");
        // All calls that ended well or with an error of the server's count as answers.
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}: one connection for all");
    });
}

#[test]
fn nginx_gives_the_same() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    let http = format!(
        "client_max_body_size 0; server {{ listen $LISTEN http2; location / {{ grpc_pass grpc://{}; }} }}",
        upstream.address
    );
    let Some(nginx) = Nginx::start(&http, &[]) else { return };
    let server = start(Driver::Auto, &[upstream.address], "");
    assert_eq!(grpc::call(server.web(), &["all"]), grpc::call(nginx.address, &["all"]));
}

#[test]
fn over_tls_on_both_sides() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    let identity = trusted().server(&["localhost"], Kind::Ecdsa);
    with_both_drivers(|driver| {
        let listener = "[listener.secure]\naddress = \"127.0.0.1:0\"\ntls.certificates = [{ chain = \"$DIR/server.pem\", key = \"$DIR/server.key\" }]\n";
        let secure = |site: String| {
            let site = Site::new(driver, &site).more(listener).one_worker().http("body_max = 0");
            site.file("ca.pem", trusted().pem.as_bytes()).identity("server", &identity).start()
        };
        let behind = secure(site(&[upstream.address], ""));
        let front =
            secure(site(&[behind.address("secure")], "tls = { server_name = \"localhost\", ca = \"$DIR/ca.pem\" }"));
        let ca = front.folder().join("ca.pem");
        let cases = ["unary", "metadata", "bidi", "large_bidi", "late_error", "cancel"];
        let mut arguments = vec![ca.to_str().expect("plain path")];
        arguments.extend(cases);
        let lines = grpc::call(front.address("secure"), &arguments);
        assert_eq!(lines, grpc::call(upstream.address, &cases), "{driver:?}");
    });
}

#[test]
fn a_call_that_is_given_up_ends_at_the_server() {
    let Some(_) = grpc::python() else { return };
    with_both_drivers(|driver| {
        let upstream = GrpcServer::start();
        let server = start(driver, &[upstream.address], "");
        assert_eq!(grpc::call(server.web(), &["cancel"]), ["cancel: (b'begun', 'CANCELLED')"]);
        grpc::told(&upstream, "cancelled", 1);
        // The connection goes on with others.
        assert_eq!(grpc::call(server.web(), &["cancel_upload", "unary"])[1], "unary: b'echo:hello'");
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}");
    });
}

#[test]
fn calls_share_connections_up_to_their_limit() {
    let Some(_) = grpc::python() else { return };
    with_both_drivers(|driver| {
        let upstream = GrpcServer::start();
        let server = start(driver, &[upstream.address], "");
        assert_eq!(grpc::call(server.web(), &["peers", "at_once"]), ["peers: 1", "at_once: {b'slept'}"]);
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}");
        // 30 at once where a connection takes 5: six of them, or three and a wait.
        for (connections, most) in [(8, 6.0), (3, 3.0)] {
            let keys = format!("h2_streams_max = 5\nh2_connections_max = {connections}");
            let server = start(driver, &[upstream.address], &keys);
            assert_eq!(grpc::call(server.web(), &["at_once"]), ["at_once: {b'slept'}"], "{driver:?}");
            assert_eq!(server.metric("one_server_upstream_connects_total", ""), most, "{driver:?}");
        }
    });
}

#[test]
fn places_at_servers_count_calls_and_not_connections() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    with_both_drivers(|driver| {
        let limited = format!("{{ address = \"{}\", requests_max = 3 }}", upstream.address);
        let text = site(&[], "queue_max = 0").replace("servers = []", &format!("servers = [{limited}]"));
        let server = Site::new(driver, &text).start();
        let counted = "counted: [('OK', 3), ('UNAVAILABLE', 27)]";
        assert_eq!(grpc::call(server.web(), &["counted", "counted"]), [counted, counted], "{driver:?}");
    });
}

#[test]
fn errors_of_ours_are_such_of_grpc() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    with_both_drivers(|driver| {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let down = start(driver, &[nobody], "");
        assert_eq!(grpc::call(down.web(), &["unary"]), ["unary: UNAVAILABLE '502 Bad Gateway'"], "{driver:?}");
        let frame = by_hand(&down, "/test.Echo/Unary");
        assert!(frame.has(frames::END_STREAM) && frame.status() == 200, "{frame:?}");
        let rest = site(&[upstream.address], "");
        let rest = rest.replace("path = \"/\"\n", "path = \"/other\"\n");
        let elsewhere = Site::new(driver, &rest).start();
        assert_eq!(grpc::call(elsewhere.web(), &["unary"]), ["unary: UNIMPLEMENTED '404 Not Found'"], "{driver:?}");
        let small = Site::new(driver, &site(&[upstream.address], "")).http("body_max = 1000").start();
        let lines = grpc::call(small.web(), &["large_upload"]);
        assert_eq!(lines, ["large_upload: RESOURCE_EXHAUSTED '413 Payload Too Large'"], "{driver:?}");
    });
}

#[test]
fn a_server_that_is_late_is_a_deadline_exceeded() {
    let Some(_) = grpc::python() else { return };
    with_both_drivers(|driver| {
        let silent = support::fake_http2::FakeHttp2::start(&[], |peer| peer.wait());
        let server = Site::new(driver, &site(&[silent.address], "response_timeout = \"300ms\""))
            .log("access = \"$DIR/access.log\"\nformat = \"%ST %ts\"\n")
            .start();
        let lines = grpc::call(server.web(), &["unary"]);
        assert_eq!(lines, ["unary: DEADLINE_EXCEEDED '504 Gateway Timeout'"], "{driver:?}");
        // Status 200 is what the client got; that the server was late is told all the same.
        let log = server.folder().join("access.log");
        eventually("a line", || std::fs::read_to_string(&log).is_ok_and(|text| text.trim() == "200 sH"));
    });
}

#[test]
fn silence_within_a_call_is_nobodys_fault_for_a_while() {
    let Some(_) = grpc::python() else { return };
    let upstream = GrpcServer::start();
    with_both_drivers(|driver| {
        let strict = "body_max = 0\nbody_timeout = \"500ms\"\nbody_rate_grace = \"500ms\"\nbody_rate_min = 500";
        let run = |keys: &str| {
            let server = Site::new(driver, &site(&[upstream.address], keys)).http(strict).start();
            grpc::call(server.web(), &["quiet", "quiet_upload"])
        };
        let expect = ["quiet: [b'echo:one', b'echo:two']", "quiet_upload: b'2 messages, 6 bytes'"];
        assert_eq!(run("response_timeout = \"1s\""), expect, "{driver:?}");
        let broken = run("idle_timeout = \"1s\"");
        assert!(broken[0].starts_with("quiet: INTERNAL") || broken[0].starts_with("quiet: UNAVAILABLE"), "{broken:?}");
        assert_eq!(broken[1], "quiet_upload: DEADLINE_EXCEEDED '408 Request Timeout'", "{driver:?}");
    });
}

#[test]
fn a_reload_disturbs_no_call_and_keeps_the_connection() {
    let Some(_) = grpc::python() else { return };
    with_both_drivers(|driver| {
        let upstream = GrpcServer::start();
        let server = start(driver, &[upstream.address], "keep_idle_timeout = \"60s\"");
        let before = grpc::call(server.web(), &["peer"]);
        let waiting = grpc::begin(server.web(), &["at_once", "bidi", "peer"]);
        for time in 1..6 {
            std::thread::sleep(Duration::from_millis(50));
            server.reload_with(&[("health = false", &format!("health = false # {time}"))]);
        }
        let lines = waiting.lines();
        assert_eq!(lines[0], "at_once: {b'slept'}", "{driver:?}");
        assert_eq!(lines[2], before[0], "{driver:?}: the same connection");
        assert_eq!(server.metric("one_server_upstream_connects_total", ""), 1.0, "{driver:?}");
    });
}
