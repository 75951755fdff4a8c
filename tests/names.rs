//! Names of servers, answered by a real name server: all addresses of a name are servers, changes in the DNS come into use by
//! themselves, and neither a name that does not resolve nor a dead name server stops anything.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::dnsmasq::Dnsmasq;
use support::fake_dns::FakeDns;
use support::ports::free_port;
use support::{Driver, FakeUpstream, Server, Site, eventually, get, with_both_drivers};

/// A server on this address of the loopback network, whose answers are the address.
fn server_at(ip: &str, port: u16) -> FakeUpstream {
    let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
    let name = ip.to_owned();
    FakeUpstream::start_at(address, move |exchange| {
        exchange.read_body();
        exchange.ok(&name)
    })
}

/// Servers at a port that is free on all of these addresses.
fn servers_at<const N: usize>(ips: [&str; N]) -> (u16, [FakeUpstream; N]) {
    let port = free_port();
    (port, ips.map(|ip| server_at(ip, port)))
}

fn site(driver: Driver, dns: &Dnsmasq, upstream: &str, resolver: &str) -> Server {
    asking(driver, dns.address, upstream, &format!("timeout = \"300ms\"\ntries = 1\n{resolver}"))
}

fn asking(driver: Driver, name_server: SocketAddr, upstream: &str, resolver: &str) -> Server {
    let rest = format!(
        "[resolver]\nname_servers = [\"{name_server}\"]\nttl_min = \"100ms\"\n{resolver}\n\
         [upstream.app]\nbalance = \"round-robin\"\n{upstream}\n\
         [site.main]\ndefault = true\n[[site.main.route]]\npath = \"/\"\nproxy = \"app\"\n\
         [[site.main.route]]\nexact = \"/fixed\"\nrespond = {{ body = \"here\" }}\n"
    );
    Site::new(driver, &rest).process("control = \"$DIR/ctl.sock\"").one_worker().start()
}

/// Who answers, and how often, of `requests`.
fn spread(server: &Server, requests: usize) -> BTreeMap<String, usize> {
    let mut client = server.connect();
    let mut all = BTreeMap::new();
    for _ in 0..requests {
        let answer = client.ask(get("/"));
        let who = if answer.status == 200 { answer.text() } else { answer.status.to_string() };
        *all.entry(who).or_insert(0) += 1;
    }
    all
}

fn counts(all: &[(&str, usize)]) -> BTreeMap<String, usize> {
    all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The servers of the first upstream on the status page: address and state.
fn states(server: &Server) -> Vec<(String, String)> {
    let status = server.status();
    let servers = status["upstreams"][0]["servers"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    servers.iter().map(|server| (text(&server["address"]), text(&server["state"]))).collect()
}

#[test]
fn all_addresses_of_a_name_are_servers_and_changes_come_by_themselves() {
    with_both_drivers(|driver| {
        let (port, _servers) = servers_at(["127.1.0.1", "127.1.0.2", "127.1.0.3"]);
        let dns = Dnsmasq::start("127.1.0.1 app.test\n127.1.0.2 app.test\n", &[]);
        let server = site(driver, &dns, &format!("health = false\nservers = [\"app.test:{port}\"]"), "");
        assert_eq!(spread(&server, 10), counts(&[("127.1.0.1", 5), ("127.1.0.2", 5)]), "{driver:?}");
        assert_eq!(server.status()["upstreams"][0]["servers"][0]["name"], format!("app.test:{port}"));
        let requests_of_second =
            server.metric("one_server_upstream_requests_total", &format!("server=\"127.1.0.2:{port}\""));
        dns.set("127.1.0.2 app.test\n127.1.0.3 app.test\n");
        let now = counts(&[("127.1.0.2", 5), ("127.1.0.3", 5)]);
        eventually("the change is in use", || spread(&server, 10) == now);
        let after = server.metric("one_server_upstream_requests_total", &format!("server=\"127.1.0.2:{port}\""));
        assert!(after >= requests_of_second + 5.0, "who stays keeps its counters");
    });
}

#[test]
fn a_connection_and_a_request_under_way_outlive_their_server_in_the_dns() {
    with_both_drivers(|driver| {
        let go_on = std::sync::Arc::new(AtomicBool::new(false));
        let port = free_port();
        let gate = go_on.clone();
        let address = SocketAddr::from(([127, 1, 0, 1], port));
        let _slow = FakeUpstream::start_at(address, move |exchange| {
            exchange.read_body();
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            exchange.ok("the old one")
        });
        let _new = server_at("127.1.0.2", port);
        let dns = Dnsmasq::start("127.1.0.1 app.test\n", &[]);
        let server = site(driver, &dns, &format!("health = false\nservers = [\"app.test:{port}\"]"), "");
        let mut client = server.connect();
        client.send(get("/"));
        dns.set("127.1.0.2 app.test\n");
        eventually("the change is in use", || states(&server)[0].0 == format!("127.1.0.2:{port}"));
        assert_eq!(spread(&server, 1), counts(&[("127.1.0.2", 1)]));
        go_on.store(true, Ordering::SeqCst);
        assert_eq!(client.response("GET").text(), "the old one", "{driver:?}");
        assert_eq!(client.ask(get("/")).text(), "127.1.0.2");
    });
}

#[test]
fn a_name_that_does_not_resolve_is_a_server_that_is_down() {
    with_both_drivers(|driver| {
        let (port, _servers) = servers_at(["127.1.0.1", "127.1.0.9"]);
        let dns = Dnsmasq::start("127.1.0.5 other.test\n", &[]);
        // Even with all of them used in panic, nothing is sent to a name.
        let upstream = format!("panic = 100\nservers = [\"127.1.0.9:{port}\", \"app.test:{port}\"]");
        let server = site(driver, &dns, &upstream, "");
        server.wait_for_line("the warning", |line| {
            line.contains("name does not resolve") && line.contains("NXDOMAIN") && line.contains("app.test")
        });
        assert_eq!(spread(&server, 6), counts(&[("127.1.0.9", 6)]), "{driver:?}");
        let named = format!("app.test:{port}");
        assert_eq!(
            states(&server),
            [(format!("127.1.0.9:{port}"), "up".to_owned()), (named.clone(), "down".to_owned())]
        );
        let reason = server.status()["upstreams"][0]["servers"][1]["reason"].as_str().unwrap().to_owned();
        assert_eq!(reason, "name does not resolve: there is no such name (NXDOMAIN)");
        assert!(server.ctl_ok(&["show"]).contains(&named));
        dns.set("127.1.0.1 app.test\n");
        let now = counts(&[("127.1.0.1", 3), ("127.1.0.9", 3)]);
        eventually("it resolves by now", || spread(&server, 6) == now);
    });
}

#[test]
fn alone_it_is_503_and_everything_else_goes_on() {
    with_both_drivers(|driver| {
        let dns = Dnsmasq::start("", &[]);
        let server = site(driver, &dns, "servers = [\"nobody.test:80\"]", "");
        let mut client = server.connect();
        let answer = client.ask(get("/"));
        assert_eq!(answer.status, 503, "{driver:?}");
        assert_eq!(client.ask(get("/fixed")).text(), "here");
    });
}

#[test]
fn a_dead_name_server_changes_nothing() {
    let (port, _servers) = servers_at(["127.1.0.1", "127.1.0.2"]);
    let mut dns = Dnsmasq::start("127.1.0.1 app.test\n", &[]);
    let server =
        site(Driver::IoUring, &dns, &format!("health = false\nservers = [\"app.test:{port}\"]"), "hold = \"0s\"");
    assert_eq!(spread(&server, 2), counts(&[("127.1.0.1", 2)]));
    dns.stop();
    server.wait_for_line("the warning", |line| line.contains("its servers stay in use"));
    assert_eq!(spread(&server, 2), counts(&[("127.1.0.1", 2)]));
    // Not even a reload loses them, nor does one that brings a name nobody knows of.
    server.reload_with(&[(&format!("\"app.test:{port}\""), &format!("\"app.test:{port}\", \"late.test:{port}\""))]);
    assert_eq!(spread(&server, 4), counts(&[("127.1.0.1", 4)]));
    dns.start_again();
    dns.set("127.1.0.1 app.test\n127.1.0.2 late.test\n");
    eventually("the late one", || spread(&server, 4) == counts(&[("127.1.0.1", 2), ("127.1.0.2", 2)]));
}

/// By an address, and by a service whose name it asks for in a second step.
#[test]
fn what_an_old_name_server_has_still_to_say_does_not_count() {
    let (port, _servers) = servers_at(["127.1.0.1", "127.1.0.2"]);
    for servers in [format!("\"app.test:{port}\""), "{ srv = \"_http._tcp.app.test\" }".to_owned()] {
        let [old, new] = [1, 2].map(|last| FakeDns::start([127, 1, 0, last].into(), port));
        let upstream = format!("health = false\nservers = [{servers}]");
        let server = asking(Driver::Auto, old.address, &upstream, "addresses = \"ipv4\"\ntimeout = \"1s\"\ntries = 5");
        assert_eq!(spread(&server, 1), counts(&[("127.1.0.1", 1)]), "{servers}");
        old.hold(true);
        let asked = old.questions();
        eventually("it is asked again", || old.questions() >= asked + 2);
        server.reload_with(&[(&old.address.to_string(), &new.address.to_string())]);
        let reloaded = Instant::now();
        eventually("the new one is believed", || spread(&server, 1) == counts(&[("127.1.0.2", 1)]));
        assert!(reloaded.elapsed() < Duration::from_secs(3), "{servers}: nobody waits for the old one");
        let asked = old.questions();
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(old.questions(), asked, "{servers}: nobody asks the old one any more");
        old.hold(false);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(spread(&server, 1), counts(&[("127.1.0.2", 1)]), "{servers}");
    }
}

#[test]
fn a_name_that_is_gone_keeps_its_servers_for_the_hold_time() {
    let (port, _servers) = servers_at(["127.1.0.1"]);
    let dns = Dnsmasq::start("127.1.0.1 app.test\n", &[]);
    let upstream = format!("health = false\nservers = [\"app.test:{port}\"]");
    let server = site(Driver::IoUring, &dns, &upstream, "hold = \"2500ms\"");
    dns.set("");
    server.wait_for_line("the warning", |line| line.contains("its servers stay in use") && line.contains("NXDOMAIN"));
    assert_eq!(spread(&server, 2), counts(&[("127.1.0.1", 2)]));
    eventually("they are gone", || spread(&server, 1) == counts(&[("503", 1)]));
    dns.set("127.1.0.1 app.test\n");
    eventually("and back", || spread(&server, 1) == counts(&[("127.1.0.1", 1)]));
}

#[test]
fn srv_records_say_ports_weights_and_tiers() {
    with_both_drivers(|driver| {
        let ports = [free_port(), free_port(), free_port()];
        let _servers = ["127.1.0.1", "127.1.0.2", "127.1.0.3"].iter().zip(ports);
        let _servers: Vec<_> = _servers.map(|(ip, port)| server_at(ip, port)).collect();
        let record = |host: &str, port: u16, priority: u16, weight: u16| {
            format!("--srv-host=_http._tcp.app.test,{host}.test,{port},{priority},{weight}")
        };
        let arguments = [record("a", ports[0], 10, 30), record("b", ports[1], 10, 10), record("c", ports[2], 20, 1)];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let hosts = "127.1.0.1 a.test\n127.1.0.2 b.test\n127.1.0.3 c.test\n";
        let mut dns = Dnsmasq::start(hosts, &arguments);
        let upstream = "health = false\nservers = [{ srv = \"_http._tcp.app.test\" }]";
        let server = site(driver, &dns, upstream, "");
        assert_eq!(spread(&server, 40), counts(&[("127.1.0.1", 30), ("127.1.0.2", 10)]), "{driver:?}");
        assert!(server.ctl_ok(&["show"]).contains(&format!("127.1.0.3:{}", ports[2])), "the last one waits");
        dns.restart_with(&[&record("c", ports[2], 20, 1)]);
        eventually("the last one is the first tier now", || spread(&server, 4) == counts(&[("127.1.0.3", 4)]));
    });
}

#[test]
fn a_certificate_must_be_for_the_name() {
    let certificates = tempfile::tempdir().unwrap();
    let folder = certificates.path();
    // Of a name, and of an address that the name leads to: only the first one may be good.
    let make = |subject: &str, name: &str| {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=test", "-addext", &format!("subjectAltName={subject}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for (subject, status) in [("DNS:app.test", 200), ("IP:127.1.0.1", 502)] {
        make(subject, "server");
        let port = free_port();
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-key", "server.key", "-cert", "server.pem", "-accept"])
            .arg(format!("127.1.0.1:{port}"))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("openssl listens", || std::net::TcpStream::connect(("127.1.0.1", port)).is_ok());
        let dns = Dnsmasq::start("127.1.0.1 app.test\n", &[]);
        let ca = folder.join("server.pem");
        let tls = format!("health = false\ntls = {{ ca = \"{}\" }}\nservers = [\"app.test:{port}\"]", ca.display());
        let server = site(Driver::IoUring, &dns, &tls, "");
        let answer = server.connect().ask(get("/"));
        assert_eq!(answer.status, status, "{subject}: {}", answer.text());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Requests all the time, while the DNS changes all the time: nothing fails.
#[test]
fn changes_under_load_fail_no_request() {
    let (port, _servers) = servers_at(["127.1.0.1", "127.1.0.2", "127.1.0.3"]);
    let hosts = |at: usize| format!("127.1.0.{} app.test\n127.1.0.{} app.test\n", at % 3 + 1, (at + 1) % 3 + 1);
    let dns = Dnsmasq::start(&hosts(0), &[]);
    let upstream = format!(
        "servers = [\"app.test:{port}\"]\nhash = \"$arg_key\"\nsticky = {{ cookie = \"s\", secret = \"one of sixteen b\" }}"
    );
    let server = site(Driver::IoUring, &dns, &upstream, "");
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (stop, requests, server) = (&stop, &requests, &server);
            scope.spawn(move || {
                let mut client = server.connect();
                for at in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = client.ask(get(&format!("/?key={worker}-{at}")));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    requests.fetch_add(1, Ordering::Relaxed);
                    if answer.is_last() {
                        client = server.connect();
                    }
                }
            });
        }
        let generation = || server.status()["config"]["generation"].as_u64().unwrap();
        for at in 1..=6 {
            let before = generation();
            dns.set(&hosts(at));
            eventually("the change is in use", || generation() > before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(requests.load(Ordering::Relaxed) > 500);
    assert!(server.lines().iter().all(|line| !line.contains("connect failed")), "{:?}", server.lines());
}
