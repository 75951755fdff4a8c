//! UDP mode at the real binary: which server a client's datagrams go to and for how long, what ends a flow, who is refused, what a
//! reload and the operator change of it. Peers: servers and clients of ours, dnsmasq and dig, nginx's `stream` for comparison.

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::datagrams::{UdpClient, UdpServer};
use support::dnsmasq::Dnsmasq;
use support::*;

/// A listener `dns` in UDP mode in front of an upstream `dns`; `udp`, `listener` and `upstream` are further keys.
fn site(driver: Driver, servers: &[SocketAddr], udp: &str, upstream: &str) -> Site {
    listening(driver, "127.0.0.1:0", servers, udp, upstream)
}

fn listening(driver: Driver, address: &str, servers: &[SocketAddr], udp: &str, upstream: &str) -> Site {
    let servers = servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    let udp = [r#"upstream = "dns""#, udp].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
    let rest = format!(
        "[listener.dns]\naddress = \"{address}\"\nudp = {{ {} }}\n\
         [upstream.dns]\nservers = {servers:?}\n{upstream}\n\
         [site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = {{}}\n",
        udp.join(", ")
    );
    Site::new(driver, &rest).process("control = \"$DIR/ctl.sock\"")
}

fn flows(server: &Server) -> f64 {
    server.metric("one_server_udp_flows", "listener=\"dns\"")
}

fn refused(server: &Server, reason: &str) -> f64 {
    server.metric("one_server_udp_refused_datagrams_total", &format!("reason=\"{reason}\""))
}

/// Name of the server in an answer.
fn name(answer: &str) -> &str {
    answer.split(':').next().unwrap_or_default()
}

#[test]
fn a_client_stays_with_its_server_and_clients_are_spread() {
    with_both_drivers(|driver| {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = ip.parse().expect("an address");
            let servers = ["one", "two"].map(|name| UdpServer::start_at(name, address));
            let addresses = [servers[0].address, servers[1].address];
            let server = listening(driver, ip, &addresses, "", "balance = \"round-robin\"").start();
            let clients: Vec<UdpClient> = (0..40).map(|_| UdpClient::new(server.address("dns"))).collect();
            let first: Vec<String> = clients.iter().map(|client| client.ask("first")).collect();
            for n in 0..20 {
                for (client, first) in clients.iter().zip(&first) {
                    assert_eq!(client.ask(&format!("{n}")), format!("{}:{n}", name(first)), "{driver:?} {ip}");
                }
            }
            let ones = first.iter().filter(|answer| name(answer) == "one").count();
            // Each worker has turns of its own.
            assert!((18..=22).contains(&ones), "{driver:?} {ip}: {ones} of 40");
            assert_eq!([servers[0].senders(), servers[1].senders()], [ones, 40 - ones], "{driver:?} {ip}");
            let udp = |name: &str| server.metric(&format!("one_server_udp_{name}"), "listener=\"dns\"");
            assert_eq!((udp("flows"), udp("flows_total")), (40.0, 40.0));
            assert_eq!((udp("received_datagrams_total"), udp("sent_datagrams_total")), (840.0, 840.0));
            let of_upstream = |name: &str| server.metric(&format!("one_server_upstream_{name}"), "upstream=\"dns\"");
            assert_eq!((of_upstream("datagrams_sent_total"), of_upstream("datagrams_received_total")), (840.0, 840.0));
            assert_eq!(of_upstream("tunnel_sent_bytes_total"), udp("received_bytes_total"));
            assert_eq!((of_upstream("requests_total"), of_upstream("requests_active")), (40.0, 40.0));
            let told = server.ctl_ok(&["show"]);
            assert!(told.contains("40 flows") && told.contains("40 of 16384 flows, 40 in all"), "{told}");
            let status = server.admin("/status");
            assert!(status.contains("\"flows_total\":40,\"received_datagrams\":840"), "{status}");
        }
    });
}

#[test]
fn answers_and_datagrams_end_flows_as_they_are_counted() {
    with_both_drivers(|driver| {
        let servers = ["one", "two"].map(UdpServer::start);
        let addresses = [servers[0].address, servers[1].address];
        // One answer each: nothing is open between two questions, and the next one goes elsewhere.
        let server = site(driver, &addresses, "responses = 1", "balance = \"round-robin\"").one_worker();
        let server = server.log("access = \"$DIR/access.log\"\ntcp_format = \"json\"").start();
        let client = UdpClient::new(server.address("dns"));
        let names: Vec<String> = (0..6).map(|_| name(&client.ask("a")).to_owned()).collect();
        assert_eq!(names, ["one", "two", "one", "two", "one", "two"], "{driver:?}");
        eventually("all are over", || flows(&server) == 0.0);
        assert_eq!(server.metric("one_server_udp_flows_total", ""), 6.0);
        let line = server.logged("\"UDP\"");
        for part in [
            "\"protocol\":\"UDP\",\"status\":200,\"listener\":\"dns\",\"upstream\":\"dns\"",
            "\"bytes_received\":1,\"bytes_sent\":5",
            "\"datagrams_received\":1,\"datagrams_sent\":1,\"tries\":1",
            "\"termination\":\"--\"",
        ] {
            assert!(line.contains(part), "{driver:?} {part}: {line}");
        }
        // What comes behind the last answer is of no flow any more.
        client.send("again 3 times");
        assert_eq!(client.take(), b"one:again 3 times");
        // None expected: every datagram is a flow of its own, which is over at once.
        let server = site(driver, &addresses, "responses = 0", "balance = \"round-robin\"").one_worker().start();
        let client = UdpClient::new(server.address("dns"));
        let before = servers[0].datagrams() + servers[1].datagrams();
        (0..10).for_each(|_| client.send("quiet"));
        eventually("all came", || servers[0].datagrams() + servers[1].datagrams() == before + 10);
        assert_eq!((flows(&server), server.metric("one_server_udp_flows_total", "")), (0.0, 10.0), "{driver:?}");
        // Two datagrams a flow, each with an answer that may come late.
        let keys = "responses = 1, requests = 2";
        let server = site(driver, &addresses, keys, "balance = \"round-robin\"").one_worker().start();
        let client = UdpClient::new(server.address("dns"));
        (0..4).for_each(|n| client.send(format!("{n}")));
        let mut answers: Vec<String> = (0..4).map(|_| String::from_utf8(client.take()).expect("text")).collect();
        answers.sort();
        assert_eq!(answers, ["one:0", "one:1", "two:2", "two:3"], "{driver:?}");
        eventually("both are over", || flows(&server) == 0.0);
    });
}

#[test]
fn silence_ends_a_flow_and_answers_that_lack_are_counted() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let log = "access = \"$DIR/access.log\"\ntcp_format = \"$protocol $status $datagrams_received/$datagrams_sent $termination\"";
        let server = site(driver, &[upstream.address], "idle_timeout = \"500ms\"", "").log(log).start();
        let client = UdpClient::new(server.address("dns"));
        for _ in 0..6 {
            assert_eq!(client.ask("still here"), "one:still here");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(upstream.senders(), 1, "{driver:?}: talk keeps it");
        eventually("silence ends it", || flows(&server) == 0.0);
        assert_eq!(server.logged("UDP"), "UDP 200 6/6 cD", "{driver:?}");
        assert_eq!(client.ask("again"), "one:again");
        assert_eq!(upstream.senders(), 2, "{driver:?}: a new one");
        let counts = |server: &Server| {
            ["timeouts", "unanswered"].map(|name| server.metric(&format!("one_server_udp_{name}_total"), ""))
        };
        assert_eq!(counts(&server), [1.0, 0.0]);
        upstream.set_mute(true);
        let server = site(driver, &[upstream.address], "idle_timeout = \"300ms\", responses = 1", "").log(log).start();
        let client = UdpClient::new(server.address("dns"));
        client.send("anybody?");
        eventually("it is given up", || counts(&server) == [1.0, 1.0]);
        assert_eq!(server.logged("UDP"), "UDP 502 1/0 sH", "{driver:?}");
        assert_eq!(server.metric("one_server_upstream_response_errors_total", "upstream=\"dns\""), 1.0);
        // Whoever asks what a server does not answer must not take it from the others.
        upstream.set_mute(false);
        assert_eq!(client.ask("now?"), "one:now?");
        // Descriptors are given back.
        let before = server.descriptors();
        let clients: Vec<UdpClient> = (0..50).map(|_| UdpClient::new(server.address("dns"))).collect();
        clients.iter().for_each(|client| client.send("quiet"));
        eventually("they were there", || server.metric("one_server_udp_flows_total", "") >= 52.0);
        eventually("they are gone", || flows(&server) == 0.0 && server.descriptors() <= before);
    });
}

#[test]
fn a_server_that_is_gone_gives_its_clients_to_others() {
    with_both_drivers(|driver| {
        let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
        let log = "access = \"$DIR/access.log\"\ntcp_format = \"$status $termination\"";
        let server =
            site(driver, &[one.address, two.address], "", "balance = \"round-robin\"").one_worker().log(log).start();
        let clients: Vec<UdpClient> = (0..10).map(|_| UdpClient::new(server.address("dns"))).collect();
        let names: Vec<String> = clients.iter().map(|client| name(&client.ask("a")).to_owned()).collect();
        assert_eq!(names.iter().filter(|name| *name == "one").count(), 5, "{driver:?}");
        drop(one);
        for (client, before) in clients.iter().zip(&names) {
            // What is under way when it dies is lost, as it is behind nginx; what is sent then arrives.
            let mut lost = 0;
            let answer = loop {
                match client.try_ask("b") {
                    Some(answer) => break answer,
                    None => lost += 1,
                }
            };
            assert_eq!(answer, "two:b", "{driver:?}");
            assert!(lost <= usize::from(before == "one"), "{driver:?}: {lost} of a client of {before}");
        }
        assert_eq!(server.metric("one_server_udp_failed_total", ""), 5.0, "{driver:?}");
        assert!(server.logged("502").starts_with("502 SD"), "{driver:?}");
        assert!(server.metric("one_server_upstream_connect_errors_total", "upstream=\"dns\"") >= 5.0);
        // It is told, and not for each of them.
        let told =
            |server: &Server| server.lines().iter().filter(|line| line.contains("server refuses datagrams")).count();
        assert_eq!(told(&server), 1, "{driver:?}: {:?}", server.lines());
        // Nobody is left: dropped, counted, told once.
        drop(two);
        let server = site(driver, &[ports::free_address()], "", "").start();
        let client = UdpClient::new(server.address("dns"));
        for _ in 0..20 {
            client.send("anybody?");
            std::thread::sleep(Duration::from_millis(2));
        }
        eventually("they have failed", || server.metric("one_server_udp_failed_total", "") >= 5.0);
        assert!(told(&server) <= 2, "{driver:?}: one for each worker");
        assert!(server.metric("one_server_udp_flows", "") <= 1.0);
    });
}

#[test]
fn a_server_that_fails_its_check_loses_its_flows() {
    with_both_drivers(|driver| {
        let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
        let health = "health = { kind = \"udp\", send = \"ping\\u0000\", expect = \":ping\", interval = \"100ms\", timeout = \"200ms\", fall = 2 }";
        let upstream = format!("balance = \"round-robin\"\n{health}");
        let server = site(driver, &[one.address, two.address], "", &upstream).one_worker().start();
        let clients: Vec<UdpClient> = (0..4).map(|_| UdpClient::new(server.address("dns"))).collect();
        let names: Vec<String> = clients.iter().map(|client| name(&client.ask("a")).to_owned()).collect();
        assert_eq!(names, ["one", "two", "one", "two"], "{driver:?}");
        one.set_mute(true);
        let up = |server: &Server| server.metric("one_server_upstream_server_up", "upstream=\"dns\"");
        eventually("the check notices", || up(&server) == 1.0);
        eventually("its flows have ended", || server.metric("one_server_udp_server_down_total", "") == 2.0);
        for client in &clients {
            assert_eq!(client.ask("b"), "two:b", "{driver:?}");
        }
        one.set_mute(false);
        eventually("it is back", || up(&server) == 2.0);
        for client in &clients {
            assert_eq!(client.ask("c"), "two:c", "{driver:?}: they stay where they are");
        }
        // All of them down: nobody is asked.
        [&one, &two].iter().for_each(|server| server.set_mute(true));
        eventually("all are down", || up(&server) == 0.0);
        eventually("all flows have ended", || flows(&server) == 0.0);
        clients[0].send("anybody?");
        eventually("it is refused", || refused(&server, "no_server") == 1.0);
        let result = server.metric("one_server_upstream_server_check_result_info", "result=\"L7TOUT\"");
        assert!(result >= 1.0, "{driver:?}");
    });
}

#[test]
fn a_reload_in_the_middle_changes_no_flow() {
    with_both_drivers(|driver| {
        let (one, two, three) = (UdpServer::start("one"), UdpServer::start("two"), UdpServer::start("three"));
        let servers = [one.address, two.address];
        let upstream = "balance = \"round-robin\"";
        let server = site(driver, &servers, "idle_timeout = \"60s\"", upstream).start();
        let clients: Vec<UdpClient> = (0..20).map(|_| UdpClient::new(server.address("dns"))).collect();
        let names: Vec<String> = clients.iter().map(|client| name(&client.ask("a")).to_owned()).collect();
        let senders = one.senders() + two.senders();
        for n in 0..20 {
            let keys = [format!("idle_timeout = \"{}s\"", 60 + n), format!("idle_timeout = \"{}s\"", 61 + n)];
            server.reload_with(&[(&keys[0], &keys[1])]);
            for (client, before) in clients.iter().zip(&names) {
                assert_eq!(name(&client.ask("b")), before, "{driver:?}: reload {n}");
            }
        }
        assert_eq!(one.senders() + two.senders(), senders, "{driver:?}: no flow began anew");
        let total = |name: &str| server.metric(&format!("one_server_udp_{name}"), "listener=\"dns\"");
        assert_eq!((total("flows"), total("flows_total"), total("received_datagrams_total")), (20.0, 20.0, 420.0));
        // A server that leaves keeps its flows, and gets no others.
        let (gone, new) = (one.address.to_string(), three.address.to_string());
        server.reload_with(&[(&gone, &new)]);
        let before = one.senders();
        for (client, before) in clients.iter().zip(&names) {
            assert_eq!(name(&client.ask("c")), before, "{driver:?}: it is drained");
        }
        let others: Vec<UdpClient> = (0..10).map(|_| UdpClient::new(server.address("dns"))).collect();
        for client in &others {
            assert_ne!(name(&client.ask("d")), "one", "{driver:?}");
        }
        assert_eq!((one.senders(), three.senders() > 0), (before, true), "{driver:?}");
        // The listener goes: its flows run out. It comes back while they are there: by the same socket, with the same flows.
        let address = server.address("dns");
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        let named = text
            .replace("[listener.dns]\naddress = \"127.0.0.1:0\"", &format!("[listener.dns]\naddress = \"{address}\""));
        assert_ne!(text, named);
        let listener: String =
            named.split("[listener.dns]").nth(1).expect("it").split("[upstream").next().expect("it").into();
        let without = text
            .replace("[listener.dns]\naddress = \"127.0.0.1:0\"", "")
            .replace(listener.lines().find(|line| line.starts_with("udp")).expect("a line"), "");
        std::fs::write(server.config_file(), &without).expect("a config");
        server.ctl_ok(&["reload"]);
        assert_eq!(name(&clients[0].ask("e")), names[0], "{driver:?}: it runs out");
        let new = UdpClient::new(address);
        assert_eq!(new.try_ask("f"), None, "{driver:?}: no new ones");
        std::fs::write(server.config_file(), &named).expect("a config");
        server.ctl_ok(&["reload"]);
        for (client, before) in clients.iter().zip(&names) {
            assert_eq!(name(&client.ask("g")), before, "{driver:?}: it is the same flow");
        }
        assert!(new.try_ask("h").is_some(), "{driver:?}: and new ones come in");
    });
}

/// The kernel chooses a worker by how many sockets there are: one that is closed would lead clients to other workers.
#[test]
fn a_worker_without_flows_keeps_its_socket_for_those_of_others() {
    with_both_drivers(|driver| {
        let servers = ["one", "two"].map(UdpServer::start);
        let addresses = servers.each_ref().map(|server| server.address);
        let address = ports::free_address().to_string();
        let server = listening(driver, &address, &addresses, "idle_timeout = \"60s\"", "health = false").start();
        let with = std::fs::read_to_string(server.config_file()).expect("a config");
        let udp = with.lines().find(|line| line.starts_with("udp =")).expect("a line");
        let without = with.replace(&format!("[listener.dns]\naddress = \"{address}\"\n{udp}\n"), "");
        let reload = |text: &str| {
            std::fs::write(server.config_file(), text).expect("a config");
            server.ctl_ok(&["reload"]);
        };
        for round in 0..6 {
            let client = UdpClient::new(server.address("dns"));
            let first = client.ask("a");
            let senders = servers[0].senders() + servers[1].senders();
            reload(&without);
            std::thread::sleep(Duration::from_millis(250)); // each worker looks around
            assert_eq!(client.ask("a"), first, "{driver:?} {round}");
            reload(&with);
            assert_eq!(client.ask("a"), first, "{driver:?} {round}");
            assert_eq!(servers[0].senders() + servers[1].senders(), senders, "{driver:?} {round}: it is the same flow");
            // The next one is alone again.
            reload(&with.replace("60s", "10ms"));
            eventually("it has ended", || flows(&server) == 0.0);
            reload(&with);
        }
    });
}

#[test]
fn a_listener_that_is_gone_frees_its_port_behind_the_last_flow() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let server = site(driver, &[upstream.address], "idle_timeout = \"400ms\"", "").start();
        let (address, client) = (server.address("dns"), UdpClient::new(server.address("dns")));
        assert_eq!(client.ask("a"), "one:a");
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        let line = text.lines().find(|line| line.starts_with("udp =")).expect("a line");
        let without = text.replace(&format!("[listener.dns]\naddress = \"127.0.0.1:0\"\n{line}\n"), "");
        assert_ne!(text, without);
        std::fs::write(server.config_file(), without).expect("a config");
        server.ctl_ok(&["reload"]);
        assert_eq!(client.ask("b"), "one:b", "{driver:?}");
        let begun = Instant::now();
        assert!(UdpSocket::bind(address).is_err(), "{driver:?}: it is still in use");
        eventually("the port is free", || UdpSocket::bind(address).is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(350), "{driver:?}: {:?}", begun.elapsed());
    });
}

#[test]
fn limits_hold_and_are_told_without_a_flood() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let keys = "flows_max = 5, flows_per_address_max = 3, datagram_max = \"100B\", idle_timeout = \"1500ms\"";
        let site = site(driver, &[upstream.address], keys, "");
        let server = site.more("").start();
        let text = std::fs::read_to_string(server.config_file()).expect("a config");
        std::fs::write(
            server.config_file(),
            text.replace("udp = {", "access = [\"deny 127.0.0.8\", \"allow all\"]\nudp = {"),
        )
        .expect("a config");
        server.ctl_ok(&["reload"]);
        let from = |last: u8| UdpClient::from([127, 0, 0, last].into(), server.address("dns"));
        assert_eq!(from(8).try_ask("a"), None, "{driver:?}: denied");
        assert_eq!(refused(&server, "access"), 1.0, "{driver:?}");
        let held: Vec<UdpClient> = (0..3).map(|_| from(9)).collect();
        assert!(held.iter().all(|client| client.ask("a") == "one:a"), "{driver:?}");
        assert_eq!(from(9).try_ask("a"), None, "{driver:?}: one too many of this address");
        assert_eq!(refused(&server, "flows_per_address_max"), 1.0, "{driver:?}");
        let others: Vec<UdpClient> = (0..2).map(|_| from(7)).collect();
        assert!(others.iter().all(|client| client.ask("a") == "one:a"), "{driver:?}");
        // Full: those that are there go on, others are dropped, and the log stays short.
        let many: Vec<UdpClient> = (0..100).map(|n| from(10 + n)).collect();
        many.iter().for_each(|client| client.send("a"));
        eventually("they are refused", || refused(&server, "flows_max") == 100.0);
        assert!(held.iter().chain(&others).all(|client| client.ask("b") == "one:b"), "{driver:?}");
        let told = server.lines().iter().filter(|line| line.contains("new flows are refused")).count();
        assert!((1..=2).contains(&told), "{driver:?}: {told} lines of two workers");
        assert_eq!(flows(&server), 5.0);
        // Too long a datagram, in both directions.
        held[0].send(vec![b'x'; 101]);
        eventually("it is dropped", || refused(&server, "too_long") == 1.0);
        held[0].send(vec![b'x'; 98]);
        eventually("its answer is", || refused(&server, "too_long") == 2.0);
        assert_eq!(held[0].ask(&"x".repeat(96)).len(), 100, "{driver:?}");
        eventually("silence makes room", || flows(&server) == 0.0);
        assert_eq!(from(9).ask("c"), "one:c", "{driver:?}");
    });
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        for (wildcard, asked) in [("0.0.0.0:0", &["127.0.0.1", "127.0.0.5", "127.9.9.9"][..]), ("[::]:0", &["::1"])] {
            let server = listening(driver, wildcard, &[upstream.address], "", "").start();
            let port = server.address("dns").port();
            for ip in asked {
                let ip: IpAddr = ip.parse().expect("an address");
                // A connected socket takes nothing from elsewhere.
                let client = UdpClient::new((ip, port).into());
                assert_eq!(client.ask("a"), "one:a", "{driver:?} {ip}");
            }
            // One socket that asks two addresses of ours has two flows.
            if wildcard.starts_with('0') {
                let before = upstream.senders();
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                for last in [3, 4] {
                    socket.send_to(b"b", SocketAddr::from(([127, 0, 0, last], port))).expect("sent");
                    let (_, from) = socket.recv_from(&mut [0; 9]).expect("an answer");
                    assert_eq!(from, SocketAddr::from(([127, 0, 0, last], port)), "{driver:?}");
                }
                assert_eq!(upstream.senders(), before + 2, "{driver:?}");
            }
        }
    });
}

#[test]
fn datagrams_of_any_length_arrive_whole_and_in_order() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let server = site(driver, &[upstream.address], "", "").start();
        let client = UdpClient::new(server.address("dns"));
        for bytes in [0, 1, 1199, 1472, 9000, 65_507] {
            let sent = pattern(bytes);
            client.send(&sent);
            let got = client.take();
            let expect = if bytes > 60_000 { sent } else { [&b"one:"[..], &sent].concat() };
            assert!(got == expect, "{driver:?}: {} bytes for {bytes}", got.len());
        }
        // Many at once, which the kernel joins where it can: on the way back it is asked to behind the first ones.
        client.send("again 120 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        let expect = b"one:again 120 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for n in 0..120 {
            assert_eq!(client.take(), expect, "{driver:?}: {n}");
        }
        // Segments of one send are as many datagrams at the server.
        let before = upstream.datagrams();
        if let Some(lengths) = send_in_segments(server.address("dns"), 40 * 500 + 7, 500) {
            assert_eq!(lengths, [vec!["504"; 40], vec!["11"]].concat(), "{driver:?}");
            assert_eq!(upstream.datagrams(), before + 41, "{driver:?}");
        }
        assert_eq!(server.metric("one_server_udp_lost_datagrams_total", ""), 0.0);
    });
}

/// One send that leaves as several datagrams (UDP_SEGMENT), as clients of QUIC send; returns the lengths of the answers.
fn send_in_segments(to: SocketAddr, bytes: usize, each: usize) -> Option<Vec<String>> {
    if !has_program("python3") {
        return None;
    }
    let script = "import socket, sys\n\
                  port, count, each = map(int, sys.argv[1:])\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.settimeout(20)\n\
                  s.setsockopt(17, 103, each)\n\
                  s.connect(('127.0.0.1', port))\n\
                  s.send(b'y' * count)\n\
                  print(' '.join(str(len(s.recv(65536))) for _ in range(-(-count // each))))";
    let arguments = [to.port().to_string(), bytes.to_string(), each.to_string()];
    let output = Command::new("python3").arg("-c").arg(script).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn the_operator_drains_and_takes_out_servers() {
    with_both_drivers(|driver| {
        let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
        let server = site(driver, &[one.address, two.address], "", "balance = \"round-robin\"").one_worker().start();
        let clients: Vec<UdpClient> = (0..6).map(|_| UdpClient::new(server.address("dns"))).collect();
        let names: Vec<String> = clients.iter().map(|client| name(&client.ask("a")).to_owned()).collect();
        let id = format!("dns/{}", one.address);
        server.ctl_ok(&["server", &id, "drain"]);
        std::thread::sleep(Duration::from_millis(300));
        for (client, before) in clients.iter().zip(&names) {
            assert_eq!(name(&client.ask("b")), before, "{driver:?}: flows run out");
        }
        let new: Vec<UdpClient> = (0..6).map(|_| UdpClient::new(server.address("dns"))).collect();
        assert!(new.iter().all(|client| client.ask("c") == "two:c"), "{driver:?}: no new ones");
        server.ctl_ok(&["server", &id, "maintenance"]);
        eventually("its flows have ended", || server.metric("one_server_udp_server_down_total", "") == 3.0);
        assert!(clients.iter().all(|client| client.ask("d") == "two:d"), "{driver:?}");
        server.ctl_ok(&["server", &id, "ready"]);
        let new: Vec<UdpClient> = (0..6).map(|_| UdpClient::new(server.address("dns"))).collect();
        let back = new.iter().filter(|client| client.ask("e") == "one:e").count();
        assert_eq!(back, 3, "{driver:?}");
    });
}

#[test]
fn a_drain_of_the_process_lets_flows_run_out() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let mut server = site(driver, &[upstream.address], "idle_timeout = \"700ms\"", "").start();
        let (client, address) = (UdpClient::new(server.address("dns")), server.address("dns"));
        assert_eq!(client.ask("a"), "one:a");
        server.signal(Signal::QUIT);
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(client.ask("b"), "one:b", "{driver:?}: it goes on");
        assert_eq!(UdpClient::new(address).try_ask("c"), None, "{driver:?}: no new ones");
        assert!(server.is_running());
        assert!(server.wait().success(), "{driver:?}: it ends behind the last flow");
        // One that talks on is ended when the time is up, and a stop does not wait.
        let mut server = site(driver, &[upstream.address], "", "")
            .process("drain_timeout = \"500ms\"")
            .log("access = \"$DIR/access.log\"")
            .start();
        let client = UdpClient::new(server.address("dns"));
        assert_eq!(client.ask("a"), "one:a");
        let begun = Instant::now();
        server.signal(Signal::QUIT);
        assert!(server.wait().success(), "{driver:?}");
        assert!((400..5000).contains(&begun.elapsed().as_millis()), "{driver:?} {:?}", begun.elapsed());
        assert!(server.logged(" UDP 200 5 1 ").starts_with("127.0.0.1 ["), "{driver:?}");
    });
}

#[test]
fn places_at_servers_are_limited_and_given_back() {
    with_both_drivers(|driver| {
        let upstream = UdpServer::start("one");
        let keys = "idle_timeout = \"600ms\"";
        let server = site(driver, &[upstream.address], keys, "requests_max = 3").start();
        let clients: Vec<UdpClient> = (0..3).map(|_| UdpClient::new(server.address("dns"))).collect();
        assert!(clients.iter().all(|client| client.ask("a") == "one:a"), "{driver:?}");
        UdpClient::new(server.address("dns")).send("a");
        eventually("nothing waits", || refused(&server, "no_server") == 1.0);
        eventually("they end", || flows(&server) == 0.0);
        let next: Vec<UdpClient> = (0..3).map(|_| UdpClient::new(server.address("dns"))).collect();
        eventually("there is room again", || next.iter().all(|client| client.try_ask("b").is_some()));
    });
}

#[test]
fn the_same_client_address_finds_the_same_server_by_hash() {
    let servers = ["one", "two", "three"].map(UdpServer::start);
    let addresses = servers.each_ref().map(|server| server.address);
    let server = site(Driver::Auto, &addresses, "", "hash = \"$remote_addr\"").start();
    let mut seen = std::collections::HashSet::new();
    for last in 20..40 {
        let ask = || {
            let client = UdpClient::from([127, 0, 0, last].into(), server.address("dns"));
            name(&client.ask("a")).to_owned()
        };
        let first = ask();
        assert!((0..3).all(|_| ask() == first), "127.0.0.{last}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "and they are spread");
}

#[test]
fn memory_is_bounded_by_the_flows_not_by_the_datagrams() {
    let upstream = UdpServer::start("one");
    let server = site(Driver::Auto, &[upstream.address], "flows_max = 200, idle_timeout = \"10s\"", "").start();
    let address = server.address("dns");
    let (before, _) = server.resident_mib();
    // Each from a source of its own, as somebody does who forges them.
    for n in 0..20_000u32 {
        let source = [127, 1 + (n >> 14) as u8, (n >> 7 & 127) as u8, (1 + (n & 127)) as u8];
        let socket = UdpSocket::bind((IpAddr::from(source), 0)).expect("a port");
        let _ = socket.send_to(b"quiet", address);
    }
    eventually("all were seen", || {
        let dropped = refused(&server, "flows_max");
        dropped + server.metric("one_server_udp_flows_total", "") >= 15_000.0 // the kernel may drop some
    });
    assert!(flows(&server) <= 200.0);
    let (after, _) = server.resident_mib();
    assert!(after <= before + 12, "{before} MiB, then {after} MiB");
}

/// A name server that gives `example.test` an address of its own, and `many.test` many; `None`: dnsmasq or dig is not there.
fn name_server(last: u8) -> Option<Dnsmasq> {
    if !has_program("dnsmasq") || !has_program("dig") {
        return None;
    }
    let mut hosts = format!("192.0.2.{last} example.test\n");
    (1..40).for_each(|n| hosts.push_str(&format!("198.51.100.{n} many.test\n")));
    let server = Dnsmasq::start(&hosts, &[]);
    eventually("dnsmasq answers", || dig(server.address, &["example.test", "+tries=1", "+time=1"]).is_some());
    Some(server)
}

/// What dig prints with `+short`, sorted; `None`: there was no answer.
fn dig(server: SocketAddr, arguments: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), "+short", "+ignore"])
        .args(arguments)
        .output()
        .expect("dig runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines: Vec<String> = text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
    lines.sort();
    (output.status.success() && !lines.is_empty()).then_some(lines)
}

/// nginx's `stream` with the same servers; `None`: the module is not there.
fn nginx_stream(servers: &[SocketAddr]) -> Option<(Child, SocketAddr, tempfile::TempDir)> {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !has_program("nginx") {
        return None;
    }
    if !std::path::Path::new(module).is_file() {
        eprintln!("SKIPPED: nginx has no module `stream`");
        return None;
    }
    let (folder, address) = (tempfile::tempdir().expect("a folder"), ports::free_address());
    let listed: String = servers.iter().map(|server| format!("server {server};")).collect();
    let config = format!(
        "load_module {module}; daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}\n\
         stream {{ upstream dns {{ {listed} }} server {{ listen {address} udp; proxy_pass dns; proxy_responses 1; proxy_timeout 2s; }} }}",
        dir = folder.path().display()
    );
    std::fs::write(folder.path().join("nginx.conf"), config).expect("a config");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(folder.path().join("nginx.conf"));
    let child = command.stderr(Stdio::null()).spawn().expect("nginx starts");
    eventually("nginx answers", || dig(address, &["example.test", "+tries=1", "+time=1"]).is_some());
    Some((child, address, folder))
}

#[test]
fn dig_asks_dnsmasq_through_it_as_through_nginx() {
    let (Some(first), Some(second)) = (name_server(1), name_server(2)) else { return };
    let addresses = [first.address, second.address];
    let questions: [&[&str]; 5] = [
        &["many.test", "A"],
        &["many.test", "A", "+bufsize=4096"],
        &["-x", "198.51.100.9", "+noedns"],
        &["-x", "198.51.100.7"],
        &["many.test", "A", "+cookie"],
    ];
    let nginx = nginx_stream(&addresses);
    let expect: Option<Vec<_>> =
        nginx.as_ref().map(|(_, address, _)| questions.map(|asked| dig(*address, asked)).to_vec());
    if let Some((mut child, ..)) = nginx {
        let _ = child.kill();
        let _ = child.wait();
    }
    with_both_drivers(|driver| {
        let server =
            site(driver, &addresses, "responses = 1, idle_timeout = \"2s\"", "balance = \"round-robin\"").start();
        let address = server.address("dns");
        let got: Vec<_> = questions.map(|asked| dig(address, asked)).to_vec();
        assert_eq!(got[0].as_ref().map(Vec::len), Some(39), "{driver:?}: {got:?}");
        assert!(expect.as_ref().is_none_or(|expect| *expect == got), "{driver:?}: nginx {expect:?}, here {got:?}");
        let mut names: Vec<String> = (0..8).filter_map(|_| dig(address, &["example.test"])?.pop()).collect();
        assert_eq!(names.len(), 8, "{driver:?}");
        names.sort();
        names.dedup();
        assert_eq!(names, ["192.0.2.1", "192.0.2.2"], "{driver:?}");
        eventually("every question was a flow", || flows(&server) == 0.0);
        assert_eq!(server.metric("one_server_udp_flows_total", ""), 13.0, "{driver:?}");
    });
}
